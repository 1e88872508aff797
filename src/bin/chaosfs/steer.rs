//! `chaosfs status`, `set`, `hold`, `release`, `flush`, `expire`, `lose` and `advance`.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use chaosfs::{Refusal, RemoteClient, Status};

use crate::{
    args::{AdvanceArgs, SetArgs, StatusArgs, TargetArgs},
    complain,
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
            let client = done_or_complained(client, &mut reached.all_well);
            let is_new = |client: &RemoteClient| !reached.clients.iter().any(|other| other.is_same(client));
            let client = client.filter(is_new);
            reached.clients.extend(client);
        }
        reached
    }

    fn named(targets: &TargetArgs) -> Result<Reached, Refusal> {
        let over = targets.backing.as_deref().map(RemoteClient::over).transpose()?;
        let named = targets.mountpoints.iter().map(|path| RemoteClient::at(path));
        Ok(Reached::new(named.chain(over.into_iter().flatten().map(Ok))))
    }

    /// Lets each do something and says what came of it.
    fn each(mut self, mut act: impl FnMut(&mut RemoteClient) -> Result<String, Refusal>) -> ExitCode {
        for client in &mut self.clients {
            if let Some(said) = done_or_complained(act(client), &mut self.all_well) {
                say(&said);
            }
        }
        self.code()
    }

    fn code(&self) -> ExitCode {
        if self.all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn done_or_complained<T>(outcome: Result<T, Refusal>, all_well: &mut bool) -> Option<T> {
    outcome
        .inspect_err(|refusal| {
            complain(&refusal.to_string());
            *all_well = false;
        })
        .ok()
}

/// Tells about the clients named, or about all.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let reached = if args.mountpoints.is_empty() && args.backing.is_none() {
        Reached::new(RemoteClient::all()?)
    } else {
        let (mountpoints, backing) = (args.mountpoints.clone(), args.backing.clone());
        Reached::named(&TargetArgs { mountpoints, backing })?
    };
    if reached.clients.is_empty() && reached.all_well && !args.json {
        say("no chaosfs client is mounted");
    }
    let mut first = true;
    Ok(reached.each(|client| {
        let status = client.status()?;
        if args.json {
            return serde_json::to_string(&status).map_err(|error| Refusal::new(error.to_string()));
        }
        let gap = if std::mem::take(&mut first) { "" } else { "\n" };
        Ok(format!("{gap}{}", readable(&status)))
    }))
}

/// Changes knobs.
pub fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let (targets, changes) = args.read()?;
    let written = changes.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    Ok(Reached::named(&targets)?.each(|client| {
        client.set(&changes)?;
        Ok(outcome(client, &written))
    }))
}

/// Stops landing by being due.
pub fn hold(targets: &TargetArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(targets)?.each(|client| client.hold().map(|()| outcome(client, "held"))))
}

/// Lets what is due land again.
pub fn release(targets: &TargetArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(targets)?.each(|client| client.release().map(|()| outcome(client, "released"))))
}

/// Lands everything now.
pub fn flush(targets: &TargetArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(targets)?.each(|client| {
        let landed = client.flush()?;
        Ok(outcome(client, &format!("{landed} landed")))
    }))
}

/// Drops all beliefs.
pub fn expire(targets: &TargetArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(targets)?.each(|client| client.expire().map(|()| outcome(client, "expired"))))
}

/// Drops what is in flight and names it.
pub fn lose(targets: &TargetArgs) -> anyhow::Result<ExitCode> {
    Ok(Reached::named(targets)?.each(|client| {
        let (dropped, named) = client.lose()?;
        let mut said = outcome(client, &format!("{dropped} lost"));
        for same in named.chunk_by(|one, next| one == next) {
            let times = if same.len() > 1 { format!(" ({} times)", same.len()) } else { String::new() };
            let _ = write!(said, "\n  {}{times}", same[0]);
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
        say(&format!("{landed} landed"));
    }
    Ok(reached.code())
}

fn outcome(client: &RemoteClient, what: &str) -> String {
    format!("{}: {what}", client.mountpoint().display())
}

/// What was done is done, whether or not anybody still reads along.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn readable(status: &Status) -> String {
    let knobs: Vec<String> = status.knobs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let operations: Vec<String> =
        status.operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let kept = match status.lent {
        _ if !status.kernel_cache => "nothing".to_string(),
        0 => "answers".to_string(),
        files => format!("answers, and serves {files} open files itself"),
    };
    let lines = [
        ("backing", status.backing.clone()),
        ("process", format!("{}, chaosfs {}", status.pid, status.version)),
        (
            "time",
            format!("{} clock, up {} s", status.clock, seconds(Duration::from_millis(status.uptime_ms))),
        ),
        ("seed", status.seed.to_string()),
        ("knobs", knobs.join(" ")),
        ("kernel", format!("keeps {kept}")),
        ("operations", if operations.is_empty() { "none".to_string() } else { operations.join(", ") }),
        ("in flight", in_flight(status)),
        ("landed", format!("{}, {} conflicts", status.landed, status.conflicts)),
        ("faults", status.faults.to_string()),
        ("lost", format!("{}, and {} dropped by `lose`", status.lost, status.dropped)),
        ("inodes", format!("{} known, {} descriptors", status.known_inodes, status.descriptors)),
    ];
    let mut text = format!("{} at {}", status.client, status.mountpoint);
    for (name, value) in lines {
        let _ = write!(text, "\n  {name:<11} {value}");
    }
    for lost in &status.lost_latest {
        let _ = write!(text, "\n              {lost}");
    }
    text
}

fn in_flight(status: &Status) -> String {
    let in_flight = &status.in_flight;
    let next = match in_flight.next_due_ns {
        _ if status.held => "held".to_string(),
        Some(nanos) => format!("next due in {} s", seconds(Duration::from_nanos(nanos))),
        None => "nothing due".to_string(),
    };
    let delayed =
        if in_flight.delayed > 0 { format!(", {} delayed", in_flight.delayed) } else { String::new() };
    format!("{} changes, {} bytes, {next}{delayed}", in_flight.mutations, in_flight.bytes)
}

fn seconds(span: Duration) -> String {
    format!("{:.3}", span.as_secs_f64())
}
