//! The arguments of `chaosfs run`.

use std::{ffi::OsString, path::PathBuf};

use chaosfs::{Knobs, Refusal, check_client_id};
use clap::{Args, Error, error::ErrorKind, value_parser};

use super::{
    CLIENTS, KnobArgs, LOG, PROCESS,
    knobs::{refuse_to_lend, set_knob},
    variables::MOUNT,
};

/// Run a command on clients that are mounted for it alone
///
/// Makes a backing directory and mounts clients over it, served by one process; runs COMMAND, lands everything, unmounts
/// and removes what it made. Leaves with COMMAND's exit status, or 128 and the number of the signal that ended it; with 1
/// where something could not land. On failure the logs are kept.
///
/// COMMAND finds the directories in CHAOSFS_BACKING, CHAOSFS_MOUNTS (separated by colons) and one CHAOSFS_MOUNT_<NAME>
/// for each client, and `{NAME}` in its arguments becomes that client's mountpoint. What it leaves running is ended.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs run [OPTIONS] [--] <COMMAND>...")]
pub struct RunArgs {
    /// Mount this many clients, named A, B, C and so on [default: 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1000), allow_hyphen_values = true)]
    #[arg(help_heading = CLIENTS, conflicts_with = "named")]
    pub clients: Option<u16>,

    /// Mount a client of this name (repeatable), with knobs of its own by the names of their flags
    #[arg(long = "client", value_name = "NAME[:KNOB=VALUE,...]", value_parser = parse_client, help_heading = CLIENTS)]
    pub named: Vec<ClientArg>,

    /// Take this backing directory instead of making one; it is not removed
    #[arg(long, value_name = "DIR", help_heading = CLIENTS)]
    pub backing: Option<PathBuf>,

    /// Run COMMAND once on each client at the same time, with the client as working directory
    #[arg(long, help_heading = PROCESS)]
    pub each: bool,

    /// Show each COMMAND its client at this directory, the same for all; needs --each or one client
    #[arg(long, value_name = "PATH", help_heading = PROCESS)]
    pub at: Option<PathBuf>,

    /// Keep the backing directory and the logs, and say where they are
    #[arg(long, help_heading = PROCESS)]
    pub keep: bool,

    #[command(flatten)]
    pub knobs: KnobArgs,

    /// Append the logs to <name>.log in this directory [default: a temporary one, kept on failure]
    #[arg(long, env = "LOG_DIR", hide_env_values = true, value_name = "DIR", help_heading = LOG)]
    pub log_dir: Option<PathBuf>,

    #[arg(skip)]
    pub log_named_by: &'static str,

    /// Log every operation: its outcome, where its answer came from and how old that was
    #[arg(long, help_heading = LOG)]
    pub debug: bool,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
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
    pub fn knobs(&self, mut knobs: Knobs) -> Knobs {
        for (knob, value) in &self.settings {
            set_knob(&mut knobs, &mut None, knob, value).expect("it was checked when it was read");
        }
        knobs
    }
}

/// What is wrong about several arguments of `run` together.
pub fn refuse_confusion(args: &RunArgs) -> Result<(), Error> {
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
                refuse_to_lend(&args.knobs, &client.knobs(args.knobs.knobs()), args.debug)
            })
        }
    }
}

/// The variable in which COMMAND finds the mountpoint of a client.
pub fn variable_of(client: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{MOUNT}{}", client.chars().map(plain).collect::<String>())
}

fn parse_client(text: &str) -> Result<ClientArg, Refusal> {
    let (name, settings) =
        text.split_once(':').map_or((text, None), |(name, settings)| (name, Some(settings)));
    check_client_id(name)?;
    let setting = |text: &str| {
        let (knob, value) = text.split_once('=').ok_or_else(|| {
            Refusal::new(format!("client {name}: `{text}` is not a knob and its value; write KNOB=VALUE"))
        })?;
        let set = set_knob(&mut Knobs::default(), &mut None, knob, value);
        set.map_err(|refusal| Refusal::new(format!("client {name}: {refusal}")))?;
        Ok((knob.replace('_', "-"), value.to_string()))
    };
    let settings: Vec<_> =
        settings.into_iter().flat_map(|text| text.split(',')).map(setting).collect::<Result<_, _>>()?;
    match settings
        .iter()
        .enumerate()
        .find(|(index, (knob, _))| settings[..*index].iter().any(|other| other.0 == *knob))
    {
        Some((_, (knob, _))) => {
            Err(Refusal::new(format!("client {name}: {knob}: given twice; give it once")))
        }
        None => Ok(ClientArg { name: name.to_string(), settings }),
    }
}
