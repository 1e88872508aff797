//! The arguments of `chaosfs exec`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::targets::SurroundingRun;

/// Run a command that sees a client at another path
///
/// COMMAND runs in a mount namespace of its own in which the client mounted at MOUNTPOINT appears at PATH, just as shared
/// storage has the same path on every host. No other process sees it there. Ordinary users need user namespaces for this.
///
/// The process becomes COMMAND, with its exit status, signals and terminal. Exits with 127 if COMMAND is not found, 126 if
/// it cannot be executed, and 125 for any other failure of its own, wrong usage included.
#[derive(Debug, Args)]
#[command(override_usage = "chaosfs exec [OPTIONS] <MOUNTPOINT> [--] <COMMAND>...")]
pub struct ExecArgs {
    /// Mountpoint of the client, or inside `chaosfs run` its name
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Directory where COMMAND sees the client; required for another user's [default: its backing directory]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl ExecArgs {
    /// Inside `chaosfs run` a client's name becomes its mountpoint.
    pub fn resolve(&mut self) {
        if let Some(run) = SurroundingRun::find() {
            run.place(&mut self.mountpoint);
        }
    }
}
