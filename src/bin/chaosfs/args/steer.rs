//! The arguments of the commands that steer running clients.

use std::{path::PathBuf, time::Duration};

use chaosfs::{
    Knobs, Refusal,
    knobs::{Tunable, parse_span},
};
use clap::{Args, Error, error::ErrorKind};

use super::targets::{OverArg, QuietArg, TargetArgs};

/// What `hold`, `release`, `flush`, `expire` and `lose` take.
#[derive(Debug, Args)]
pub struct SteerArgs {
    #[command(flatten)]
    pub targets: TargetArgs,

    #[command(flatten)]
    pub quiet: QuietArg,
}

/// Change knobs of running clients
///
/// Changes all of the given knobs or, if one is wrong, none. Knobs have the names of their flags (`write-delay`, or
/// `write_delay` as in the log) and take the same values. Changes already in flight keep their due time.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs set [OPTIONS] [MOUNTPOINT]... <KNOB=VALUE>...")]
pub struct SetArgs {
    /// Mountpoints of the clients, and the knobs to change; write `./a=b` for a mountpoint with `=` in its name
    #[arg(value_name = "MOUNTPOINT|KNOB=VALUE", required = true)]
    words: Vec<PathBuf>,

    #[command(flatten)]
    over: OverArg,

    #[command(flatten)]
    pub quiet: QuietArg,

    #[arg(skip)]
    pub targets: TargetArgs,

    #[arg(skip)]
    pub changes: Vec<(String, String)>,
}

impl SetArgs {
    /// Sorts the words into clients and changes.
    ///
    /// # Errors
    /// A knob or value that is wrong, no change or no client.
    pub fn sort(&mut self) -> Result<(), Error> {
        let mut mountpoints = Vec::new();
        for word in &self.words {
            match word.to_str().and_then(|word| word.split_once('=')).filter(|(name, _)| !name.contains('/'))
            {
                Some((name, value)) => self.changes.push((name.replace('-', "_"), value.to_string())),
                None => mountpoints.push(word.clone()),
            }
        }
        self.check_changes().and_then(|()| self.find_profile()).map_err(wrong)?;
        self.targets = TargetArgs { mountpoints, over: self.over.clone() };
        self.targets.resolve_some()
    }

    /// The client's working directory is another one.
    fn find_profile(&mut self) -> Result<(), Refusal> {
        for (_, value) in self.changes.iter_mut().filter(|(name, _)| name == "profile") {
            let mut knobs = Knobs::default();
            knobs.set("profile", value)?;
            *value = knobs.profile.as_str().to_string();
        }
        Ok(())
    }

    fn check_changes(&self) -> Result<(), Refusal> {
        for (index, (name, value)) in self.changes.iter().enumerate() {
            Knobs::check_value(name, value)?;
            if self.changes[..index].iter().any(|(other, _)| other == name) {
                return Err(Refusal::new(format!("{name}: given twice; give it once")));
            }
        }
        match self.changes.is_empty() {
            true => {
                Err(Refusal::new("there is nothing to set; write KNOB=VALUE, such as `write-delay=200ms`"))
            }
            false => Ok(()),
        }
    }
}

/// Move the clocks of clients that were mounted with `--clock manual`
///
/// Moves the clocks together, from one due time to the next across all of the clients, and returns when everything that is
/// due by then has landed. Changes that are due at the same time land in the order of their clients' IDs.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs advance [OPTIONS] <DURATION> [MOUNTPOINT]...\n       \
                            chaosfs advance [OPTIONS] [MOUNTPOINT]... <DURATION>")]
pub struct AdvanceArgs {
    /// How far (milliseconds, or with a unit: `1.5s`, `2m`), before or after the mountpoints of the clients; write `./2s`
    /// for a mountpoint of that name
    #[arg(value_name = "DURATION|MOUNTPOINT", required = true, allow_negative_numbers = true)]
    words: Vec<PathBuf>,

    #[command(flatten)]
    over: OverArg,

    #[command(flatten)]
    pub quiet: QuietArg,

    #[arg(skip)]
    pub by: Duration,

    #[arg(skip)]
    pub targets: TargetArgs,
}

impl AdvanceArgs {
    /// Tells the duration, which is the first word or the last, from the clients.
    ///
    /// # Errors
    /// Neither is one, or no client is named.
    pub fn sort(&mut self) -> Result<(), Error> {
        let span = |word: &PathBuf| parse_span(&word.to_string_lossy());
        let mut mountpoints = self.words.clone();
        self.by = match (self.words.first().map(span), self.words.last().map(span)) {
            (Some(Ok(by)), _) => {
                mountpoints.remove(0);
                by
            }
            (_, Some(Ok(by))) => {
                mountpoints.pop();
                by
            }
            (Some(Err(refusal)), _) if self.words.len() == 1 => return Err(wrong(refusal)),
            _ => {
                return Err(wrong(Refusal::new(
                    "the first or the last word has to be a span of time: milliseconds (`800`) or with a unit \
                     (`1.5s`, `2m`)",
                )));
            }
        };
        self.targets = TargetArgs { mountpoints, over: self.over.clone() };
        self.targets.resolve_some()
    }
}

pub fn wrong(refusal: Refusal) -> Error {
    Error::raw(ErrorKind::ValueValidation, format!("{refusal}\n"))
}
