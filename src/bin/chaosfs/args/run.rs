//! The arguments of `chaosfs run`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use chaosfs::{
    Knobs, Refusal, check_client_id,
    knobs::{Tunable, parse_span},
};
use clap::{ArgMatches, Args, Error, Id, error::ErrorKind, value_parser};

use super::{
    CLIENTS, KnobArgs, LOG, PROCESS, is_flag,
    knobs::{check_knob, refuse_to_lend, set_knob},
    variables::MOUNT,
};

/// Run a command on clients that are mounted just for it
///
/// Makes a backing directory, mounts clients over it, runs COMMAND, lands everything, unmounts, and removes what it made.
///
/// COMMAND finds the directories in the variables CHAOSFS_BACKING, CHAOSFS_MOUNTS (separated by colons) and, for each
/// client, CHAOSFS_MOUNT_<NAME>; `{NAME}` in its arguments becomes that client's mountpoint. `chaosfs advance`, `hold`,
/// `flush` and so on take the clients' names there. Processes that COMMAND leaves behind are ended.
///
/// Exits with COMMAND's exit status, or 128 plus the number of the signal that ended it; 124 if a --timeout ended it; 127 if
/// COMMAND is not found, 126 if it cannot be executed; 125 for any other failure of its own: wrong usage, clients that
/// died, or changes that could not land. On failure it reports what happened, with a command line that repeats the run,
/// and keeps the logs.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs run [OPTIONS] [--] <COMMAND>...\n       chaosfs run --clean")]
pub struct RunArgs {
    /// Mount this many clients, named A, B, C and so on [default: 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1000), allow_hyphen_values = true)]
    #[arg(help_heading = CLIENTS, conflicts_with = "named")]
    pub clients: Option<u16>,

    /// Mount a client of this name, with knobs of its own, such as `a:meta-ttl=5s,seed=7` (repeatable)
    #[arg(long = "client", value_name = "NAME[:KNOB=VALUE,...]", value_parser = parse_client, help_heading = CLIENTS)]
    pub named: Vec<ClientArg>,

    /// Use this backing directory instead of a temporary one, and leave it in place
    #[arg(long, value_name = "DIR", help_heading = CLIENTS)]
    pub backing: Option<PathBuf>,

    /// Run COMMAND once on each client, all at the same time, with the client as working directory and no input
    #[arg(long, help_heading = PROCESS)]
    pub each: bool,

    /// Show each COMMAND its client at this path, the same for all; needs --each or a single client
    #[arg(long, value_name = "PATH", help_heading = PROCESS)]
    pub at: Option<PathBuf>,

    /// End COMMAND after this TIME (with a unit: `90s`, `5m`): SIGTERM, one second later SIGKILL; exit with 124
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, allow_hyphen_values = true, help_heading = PROCESS)]
    pub timeout: Option<Duration>,

    /// Keep the backing directory and the logs, and say where they are
    #[arg(long, help_heading = PROCESS)]
    pub keep: bool,

    /// Print no report on a failure, and keep no logs but those in --log-dir
    #[arg(short, long, help_heading = PROCESS)]
    pub quiet: bool,

    /// Run nothing; remove what earlier runs of yours have left: kept logs, dead mounts, temporary directories
    ///
    /// Leaves runs that are going on alone, and what --keep has kept.
    #[arg(long, help_heading = PROCESS)]
    pub clean: bool,

    #[command(flatten)]
    pub knobs: KnobArgs,

    /// Append the logs to <name>.log in this directory [default: a temporary one, kept on failure]
    #[arg(long, env = "LOG_DIR", hide_env_values = true, value_name = "DIR", help_heading = LOG)]
    pub log_dir: Option<PathBuf>,

    #[arg(skip)]
    pub log_named_by: &'static str,

    /// Log every operation: its outcome, where the answer came from and how old it was
    #[arg(long, help_heading = LOG)]
    pub debug: bool,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "clean", value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// One client of a run: its name and the knobs that it has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientArg {
    pub name: String,
    pub settings: Vec<(String, String)>,
}

impl ClientArg {
    /// The knobs that it has for itself over the common ones.
    ///
    /// # Errors
    /// Names the client and the knob that does not go with the others.
    pub fn knobs(&self, mut knobs: Knobs) -> Result<Knobs, Refusal> {
        let named = |refusal: Refusal| Refusal::new(format!("client {}: {refusal}", self.name));
        for (knob, value) in &self.settings {
            set_knob(&mut knobs, &mut None, knob, value).map_err(named)?;
        }
        knobs.check().map_err(named)?;
        Ok(knobs)
    }
}

/// clap's own `exclusive` would take a variable for a flag.
pub fn refuse_beside_clean(given: &ArgMatches) -> Result<(), Error> {
    let is_other = |id: &&str| !matches!(*id, "clean" | "quiet") && is_flag(given, id);
    match given.ids().map(Id::as_str).find(is_other) {
        Some(_) => {
            let text = "--clean runs nothing; leave COMMAND and the other flags out\n";
            Err(Error::raw(ErrorKind::ArgumentConflict, text))
        }
        None => Ok(()),
    }
}

/// What is wrong about several arguments of `run` together.
pub fn check_combinations(args: &RunArgs) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::raw(ErrorKind::ArgumentConflict, text + "\n"));
    let names: Vec<_> =
        args.named.iter().map(|client| (client.name.as_str(), variable_of(&client.name))).collect();
    for (index, (name, variable)) in names.iter().enumerate() {
        match names[..index].iter().find(|(_, other)| other == variable) {
            Some((other, _)) if other == name => {
                return wrong(format!("--client {name}: given twice; name it once"));
            }
            Some((other, _)) => {
                return wrong(format!(
                    "--client {name}: its variable {variable} is also that of client {other}; choose another name"
                ));
            }
            None => {}
        }
    }
    let one = args.named.len() == 1 || args.clients == Some(1);
    match args.at {
        Some(_) if !args.each && !one => {
            wrong("--at: COMMAND can see only one client there; give --each, or mount one client".to_string())
        }
        _ => {
            let clients: &[ClientArg] =
                if args.named.is_empty() { &[ClientArg::default()] } else { &args.named };
            clients.iter().try_for_each(|client| {
                let knobs = client.knobs(args.knobs.knobs()).map_err(super::steer::wrong)?;
                refuse_to_lend(&args.knobs, &knobs, args.debug)
            })
        }
    }
}

/// The variable in which COMMAND finds the mountpoint of a client.
pub fn variable_of(client: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{MOUNT}{}", client.chars().map(plain).collect::<String>())
}

/// Elsewhere a bare number is milliseconds, but `timeout 30` of the shell is seconds.
fn parse_timeout(text: &str) -> Result<Duration, Refusal> {
    let span = parse_span(text)?;
    if span.is_zero() {
        return Err(Refusal::new(format!(
            "`{text}` leaves no time; write a time limit above 0, such as `90s`"
        )));
    }
    if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(Refusal::new(format!("`{text}` has no unit; write `{text}s` for seconds")));
    }
    Ok(span)
}

fn parse_client(text: &str) -> Result<ClientArg, Refusal> {
    let (name, settings) =
        text.split_once(':').map_or((text, None), |(name, settings)| (name, Some(settings)));
    check_client_id(name)?;
    let setting = |text: &str| {
        let (knob, value) = text.split_once('=').ok_or_else(|| {
            Refusal::new(format!("client {name}: `{text}` is not a knob and its value; write KNOB=VALUE"))
        })?;
        let set = check_knob(knob, value);
        set.map_err(|refusal| Refusal::new(format!("client {name}: {refusal}")))?;
        Ok((knob.replace('_', "-"), value.to_string()))
    };
    let mut settings: Vec<_> =
        settings.into_iter().flat_map(|text| text.split(',')).map(setting).collect::<Result<_, _>>()?;
    match settings
        .iter()
        .enumerate()
        .find(|(index, (knob, _))| settings[..*index].iter().any(|other| other.0 == *knob))
    {
        Some((_, (knob, _))) => {
            Err(Refusal::new(format!("client {name}: {knob}: given twice; give it once")))
        }
        None => {
            // What chooses a profile comes first, as on the command line.
            settings.sort_by_key(|(knob, _)| Knobs::TABLE.iter().position(|known| known.flag() == *knob));
            Ok(ClientArg { name: name.to_string(), settings })
        }
    }
}
