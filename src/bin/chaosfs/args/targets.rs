//! The clients that a command is for: by mountpoint, by backing directory, and inside `chaosfs run` by name.

use std::{
    env,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Args, Error, error::ErrorKind};

use super::MOUNTS;

/// The clients that a command is for.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// Mountpoints of the clients. Inside `chaosfs run`, the names of clients work, too, and the default is all clients of
    /// the run
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoints: Vec<PathBuf>,

    #[command(flatten)]
    pub over: OverArg,
}

/// The clients over one directory.
#[derive(Clone, Debug, Default, Args)]
pub struct OverArg {
    /// All of your clients over this backing directory
    #[arg(long, value_name = "DIR")]
    pub backing: Option<PathBuf>,
}

impl TargetArgs {
    /// Inside `chaosfs run` a client's name becomes its mountpoint, and nothing named means all clients of the run that
    /// are mounted. A name wins over a path of the same name, which can be written `./A`.
    pub fn resolve(&mut self) {
        let Some(run) = SurroundingRun::find() else { return };
        for mountpoint in &mut self.mountpoints {
            run.place(mountpoint);
        }
        if self.is_empty() {
            self.mountpoints = run.still_mounted();
        }
    }

    /// The same for a command that is not for everybody.
    ///
    /// # Errors
    /// No client is named.
    pub fn resolve_some(&mut self) -> Result<(), Error> {
        self.resolve();
        match self.is_empty() {
            true => Err(Error::raw(
                ErrorKind::MissingRequiredArgument,
                "no client is named; write its mountpoint, or `--backing DIR`\n",
            )),
            false => Ok(()),
        }
    }

    /// Whether no client is named.
    pub fn is_empty(&self) -> bool {
        self.mountpoints.is_empty() && self.over.backing.is_none()
    }
}

/// The run whose command this process belongs to.
pub struct SurroundingRun {
    mountpoints: Vec<PathBuf>,
}

impl SurroundingRun {
    /// What the variables say that `run` sets.
    pub fn find() -> Option<SurroundingRun> {
        let mountpoints: Vec<_> =
            env::split_paths(&env::var_os(MOUNTS)?).filter(|path| !path.as_os_str().is_empty()).collect();
        (!mountpoints.is_empty()).then_some(SurroundingRun { mountpoints })
    }

    /// Those that the command has not unmounted; all of them if it has unmounted all.
    fn still_mounted(self) -> Vec<PathBuf> {
        let mounted = chaosfs::mounts_of_user().unwrap_or_default();
        let left: Vec<_> = self.mountpoints.iter().filter(|path| mounted.contains(path)).cloned().collect();
        if left.is_empty() { self.mountpoints } else { left }
    }

    /// Replaces the name of a client by its mountpoint; anything else stays. A client is mounted on a directory of its own
    /// name.
    pub fn place(&self, word: &mut PathBuf) {
        let is_named = |path: &&PathBuf| path.file_name() == Some(word.as_os_str());
        if let Some(mountpoint) = self.mountpoints.iter().find(is_named).filter(|_| !has_slash(word)) {
            *word = mountpoint.clone();
        }
    }
}

fn has_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&b'/')
}

/// How much a command says.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct QuietArg {
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}
