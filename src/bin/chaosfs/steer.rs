//! `chaosfs set`, `hold`, `release`, `flush`, `expire`, `lose` and `advance`.

use std::{fmt::Write as _, process::ExitCode};

use chaosfs::{Refusal, RemoteClient, event::OneLine};

use crate::{
    args::{AdvanceArgs, QuietArg, SetArgs, SteerArgs, TargetArgs},
    voice::{complain, say, say_at_length},
};

/// Those that could be reached; the others have been complained about.
struct Reached {
    clients: Vec<RemoteClient>,
    all_well: bool,
}

impl Reached {
    /// Each of them once.
    fn new(found: impl IntoIterator<Item = Result<RemoteClient, Refusal>>) -> Reached {
        let mut reached = Reached { clients: Vec::new(), all_well: true };
        for client in found {
            let mut client = ok_or_report(client, &mut reached.all_well);
            if let Some(client) = &mut client {
                client.tell_by(complain);
            }
            let is_new = |client: &RemoteClient| !reached.clients.iter().any(|other| other.is_same(client));
            let client = client.filter(is_new);
            reached.clients.extend(client);
        }
        reached
    }

    fn named(targets: &TargetArgs) -> Result<Reached, Refusal> {
        let over = targets.over.backing.as_deref().map(RemoteClient::over).transpose()?;
        let named = targets.mountpoints.iter().map(|path| RemoteClient::at(path));
        Ok(Reached::new(named.chain(over.into_iter().flatten().map(Ok))))
    }

    /// Has each do something and says what came of it.
    fn each(
        mut self,
        quiet: QuietArg,
        mut act: impl FnMut(&mut RemoteClient) -> Result<String, Refusal>,
    ) -> ExitCode {
        for client in &mut self.clients {
            if let Some(said) = ok_or_report(act(client), &mut self.all_well) {
                say_at_length(&said, quiet.quiet);
            }
        }
        self.code()
    }

    fn code(&self) -> ExitCode {
        if self.all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn ok_or_report<T>(outcome: Result<T, Refusal>, all_well: &mut bool) -> Option<T> {
    outcome
        .inspect_err(|refusal| {
            complain(&refusal.to_string());
            *all_well = false;
        })
        .ok()
}

/// Changes knobs.
pub fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let pairs = args.changes.iter().map(|(name, value)| format!("{name}={value}"));
    let written = pairs.collect::<Vec<_>>().join(" ");
    Ok(Reached::named(&args.targets)?.each(args.quiet, |client| {
        client.set(&args.changes)?;
        Ok(outcome(client, &written))
    }))
}

/// Stops landing by being due.
pub fn hold(args: &SteerArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(&args.targets)?
        .each(args.quiet, |client| client.hold().map(|()| outcome(client, "held"))))
}

/// Lets what is due land again.
pub fn release(args: &SteerArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(&args.targets)?
        .each(args.quiet, |client| client.release().map(|()| outcome(client, "released"))))
}

/// Lands everything now.
pub fn flush(args: &SteerArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(&args.targets)?.each(args.quiet, |client| {
        let landed = client.flush()?;
        Ok(outcome(client, &format!("{landed} landed")))
    }))
}

/// Drops all beliefs.
pub fn expire(args: &SteerArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(&args.targets)?
        .each(args.quiet, |client| client.expire().map(|()| outcome(client, "expired"))))
}

/// Drops what is in flight and names it.
pub fn lose(args: &SteerArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(&args.targets)?.each(args.quiet, |client| {
        let (dropped, named) = client.lose()?;
        let mut said = outcome(client, &format!("{dropped} lost"));
        for same in named.chunk_by(|one, next| one == next) {
            let times = if same.len() > 1 { format!(" ({} times)", same.len()) } else { String::new() };
            let _ = write!(said, "\n  {}{times}", OneLine(&same[0]));
        }
        if dropped > named.len() as u64 {
            let _ = write!(said, "\n  and {} more, in the log", dropped - named.len() as u64);
        }
        Ok(said)
    }))
}

/// Moves clocks together; none if one of them cannot be moved.
pub fn advance(args: &AdvanceArgs) -> anyhow::Result<ExitCode> {
    let mut reached = Reached::named(&args.targets)?;
    if reached.all_well {
        let landed = RemoteClient::advance(&mut reached.clients, args.by)?;
        say(&format!("{landed} landed"), args.quiet.quiet);
    }
    Ok(reached.code())
}

fn outcome(client: &RemoteClient, what: &str) -> String {
    format!("{}: {what}", OneLine(&client.mountpoint().display().to_string()))
}
