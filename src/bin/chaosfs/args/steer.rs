//! The arguments of the commands that steer running clients.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use chaosfs::{Knobs, Refusal, knobs::parse_span};
use clap::Args;

/// The clients that a command is for.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("clients").required(true).multiple(true))]
pub struct TargetArgs {
    /// Mountpoints of the clients
    #[arg(value_name = "MOUNTPOINT", group = "clients")]
    pub mountpoints: Vec<PathBuf>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR", group = "clients")]
    pub backing: Option<PathBuf>,
}

/// Tell what clients are doing
///
/// Knobs, seed and time; what they have done, what they have in flight and what could not land.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Mountpoints of the clients [default: every client of yours]
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoints: Vec<PathBuf>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR")]
    pub backing: Option<PathBuf>,

    /// Print one JSON object a line for each client
    #[arg(long)]
    pub json: bool,
}

/// Change knobs of running clients
///
/// All that is given or nothing. Knobs are named as in the log (`write_delay`; `write-delay` works too) and take the
/// values of the command line. What is in flight keeps its due time.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs set [MOUNTPOINT]... [--backing <DIR>] <KNOB=VALUE>...")]
pub struct SetArgs {
    /// Mountpoints of the clients, and what to change; write `./a=b` for a mountpoint with `=`
    #[arg(value_name = "MOUNTPOINT|KNOB=VALUE", required = true)]
    words: Vec<OsString>,

    /// Every client of yours over this backing directory
    #[arg(long, value_name = "DIR")]
    backing: Option<PathBuf>,
}

impl SetArgs {
    /// The clients and the changes.
    ///
    /// # Errors
    /// A knob or value that is wrong, no change or no client.
    pub fn read(&self) -> Result<(TargetArgs, Vec<(String, String)>), Refusal> {
        let (mut mountpoints, mut changes) = (Vec::new(), Vec::new());
        let mut checked = Knobs::default();
        for word in &self.words {
            match word.to_str().and_then(|word| word.split_once('=')).filter(|(name, _)| !name.contains('/'))
            {
                Some((name, value)) => {
                    checked.set(name, value)?;
                    let name = name.replace('-', "_");
                    if changes.iter().any(|(other, _)| *other == name) {
                        return Err(Refusal::new(format!("{name}: given twice; give it once")));
                    }
                    changes.push((name, value.to_string()));
                }
                None => mountpoints.push(PathBuf::from(word)),
            }
        }
        if changes.is_empty() {
            return Err(Refusal::new(
                "there is nothing to set; write KNOB=VALUE, such as `write_delay=200ms`",
            ));
        }
        if mountpoints.is_empty() && self.backing.is_none() {
            return Err(Refusal::new("no client is named; write its mountpoint, or `--backing DIR`"));
        }
        Ok((TargetArgs { mountpoints, backing: self.backing.clone() }, changes))
    }
}

/// Move the clocks of clients that were mounted with `--clock manual`
///
/// Moves them together, from one due time to the next across them, and returns when everything due by then has landed.
/// At the same time clients land in the order of their ids.
#[derive(Debug, Args)]
pub struct AdvanceArgs {
    /// How far: milliseconds, or with a unit (`1.5s`, `2m`)
    #[arg(value_name = "DURATION", value_parser = parse_span, allow_hyphen_values = true)]
    pub by: Duration,

    #[command(flatten)]
    pub targets: TargetArgs,
}
