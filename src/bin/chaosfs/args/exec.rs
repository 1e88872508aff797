//! The arguments of `chaosfs exec`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

/// Run a command that sees a client at another path
///
/// COMMAND runs in a mount namespace of its own in which the client that is mounted at MOUNTPOINT stands at PATH, as
/// shared storage stands at the same path on every host. Nobody else sees it there. Works for ordinary users where they
/// may have user namespaces. Becomes COMMAND: its exit status, signals and terminal are its own.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Mountpoint of the client
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Directory at which COMMAND sees the client [default: its backing directory]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
