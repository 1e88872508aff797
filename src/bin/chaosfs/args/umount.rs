//! The arguments of `chaosfs umount`.

use std::{path::PathBuf, time::Duration};

use chaosfs::knobs::parse_span;
use clap::Args;

use super::{QuietArg, targets::SurroundingRun};

/// Land everything that clients have in flight, and unmount them
///
/// Returns when everything has landed and the mounts are gone. Prints what happened to each client; fails if one was not
/// mounted, was busy or could not land everything. Also removes mounts whose daemon has died.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("targets").required(true).multiple(true))]
pub struct UmountArgs {
    /// Mountpoints of the clients. Inside `chaosfs run`, the names of clients work, too
    #[arg(value_name = "MOUNTPOINT", group = "targets")]
    pub mountpoints: Vec<PathBuf>,

    /// Unmount the client at this mountpoint, too (repeatable)
    #[arg(short, long = "mount", value_name = "PATH", group = "targets")]
    pub mounts: Vec<PathBuf>,

    /// Unmount every client directly below this directory; the variable is used only if nothing else is named
    #[arg(long, env = "MOUNT_BASE", hide_env_values = true, value_name = "DIR", group = "targets")]
    pub mount_base: Option<PathBuf>,

    /// Unmount every client of yours
    #[arg(long, group = "targets")]
    pub all: bool,

    /// Wait at most this long for each to land; then say what is left, which goes on landing
    #[arg(long, value_name = "TIME", value_parser = parse_span, default_value = "60s", allow_hyphen_values = true)]
    pub timeout: Duration,

    #[command(flatten)]
    pub quiet: QuietArg,
}

impl UmountArgs {
    /// Inside `chaosfs run` a client's name becomes its mountpoint.
    pub fn resolve(&mut self) {
        if let Some(run) = SurroundingRun::find() {
            self.mountpoints.iter_mut().chain(&mut self.mounts).for_each(|word| run.place(word));
        }
    }

    /// Whether clients are named in another way than by the directory above them.
    pub fn name_clients(&self) -> bool {
        self.all || !self.mountpoints.is_empty() || !self.mounts.is_empty()
    }
}
