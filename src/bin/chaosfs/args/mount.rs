//! The arguments of `chaosfs mount`.

use std::path::PathBuf;

use chaosfs::{Refusal, check_client_id};
use clap::{ArgMatches, Args, Error, error::ErrorKind};
use rustix::process::Pid;

use super::{KnobArgs, LOG, PROCESS, is_flag};

/// Mount one client over a backing directory
///
/// A TIME is a number of milliseconds or has a unit: `1.5s`, `200ms`, `2m`. A DELAY is a TIME or a range, such as
/// `500..1200` or `0.5s..2s`, from which each change draws its own delay. A SIZE is a number of bytes or has a unit: `64MiB`,
/// `1GiB`. A PROBABILITY is a number from 0 to 1 or a percentage. A flag overrides its variable, and a variable overrides the
/// default. A CHAOSFS_ variable that does not exist is refused.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Directory shared by all clients
    #[arg(value_name = "BACKING")]
    pub backing: PathBuf,

    /// Empty directory where this client's view appears
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    #[command(flatten)]
    pub knobs: KnobArgs,

    /// Name of this client in logs, in the mount table and in what is drawn from the seed; each client over one backing
    /// directory has its own [default: client, or the first free of client-2, client-3, ...]
    #[arg(long, env = "CHAOSFS_CLIENT_ID", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = parse_client_id, allow_hyphen_values = true, help_heading = PROCESS)]
    pub client_id: Option<String>,

    /// Return as soon as the mount serves, and keep running in the background
    #[arg(long, help_heading = PROCESS)]
    pub background: bool,

    /// Do not warn that events are not logged
    #[arg(short, long, help_heading = PROCESS)]
    pub quiet: bool,

    /// Unmount, as on SIGTERM, once this process has ended for whatever reason
    #[arg(long, value_name = "PID", value_parser = parse_pid, allow_hyphen_values = true, help_heading = PROCESS)]
    pub until_exit: Option<Pid>,

    /// Let other users in; the kernel checks permissions, and new files belong to the user who creates them
    #[arg(long, help_heading = PROCESS)]
    pub allow_other: bool,

    /// Append the log to this file [default: standard error]
    #[arg(long, value_name = "FILE", help_heading = LOG)]
    pub log_file: Option<PathBuf>,

    /// Append the log to <client-id>.log in this directory
    #[arg(long, env = "LOG_DIR", hide_env_values = true, value_name = "DIR", help_heading = LOG)]
    pub log_dir: Option<PathBuf>,

    #[arg(skip)]
    pub log_named_by: &'static str,

    /// Log every operation: its outcome, where the answer came from and how old it was
    #[arg(long, help_heading = LOG)]
    pub debug: bool,
}

impl MountArgs {
    /// The file that the log of this client goes to, if it goes to one.
    pub fn log_path(&self, client_id: &str) -> Option<PathBuf> {
        let in_folder = || self.log_dir.as_ref().map(|folder| folder.join(format!("{client_id}.log")));
        self.log_file.clone().or_else(in_folder)
    }
}

/// One of the two flags, before the variable of the other.
pub fn prefer_log_flag(args: &mut MountArgs, given: &ArgMatches) -> Result<(), Error> {
    match (args.log_file.is_some(), is_flag(given, "log_dir")) {
        (true, true) => {
            let text = "--log-file and --log-dir cannot be used together; give one of them\n";
            Err(Error::raw(ErrorKind::ArgumentConflict, text))
        }
        (true, false) => {
            args.log_dir = None;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn parse_pid(text: &str) -> Result<Pid, Refusal> {
    let wrong =
        || Refusal::new(format!("`{text}` is not a process ID; write a number above 0, such as `$$`"));
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw).ok_or_else(wrong)
}

fn parse_client_id(text: &str) -> Result<String, Refusal> {
    check_client_id(text).map(|()| text.to_string())
}
