//! The arguments of `chaosfs umount`.

use std::path::PathBuf;

use clap::Args;

/// Land everything that clients have in flight and unmount them
///
/// Returns when all has landed and the mounts are gone. Prints what happened to each; fails if one of them was not
/// mounted, was busy or could not land everything. Also cleans up mounts whose daemon has died.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("targets").required(true).multiple(true))]
pub struct UmountArgs {
    /// Unmount the client at this mountpoint (repeatable)
    #[arg(short, long = "mount", value_name = "PATH", group = "targets")]
    pub mounts: Vec<PathBuf>,

    /// Unmount every client directly below this directory; the variable counts only without --mount
    #[arg(long, env = "MOUNT_BASE", hide_env_values = true, value_name = "DIR", group = "targets")]
    pub mount_base: Option<PathBuf>,
}
