//! Locks on files and directories that die with the last process that has inherited them.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{attach::plain, refusals::canonical_directory};
use crate::error::Refusal;

/// Takes the lock as soon as nobody else has it.
///
/// # Errors
/// As for [`try_lock`].
pub fn lock(file: &File) -> Result<(), Errno> {
    flock(file, FlockOperation::LockExclusive)
}

/// Takes the lock unless somebody has it; whether it was taken. A forked process shares it, a program that is executed
/// does not.
///
/// # Errors
/// What the system said: some network file systems lock no directories.
pub fn try_lock(file: &File) -> Result<bool, Errno> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A backing directory that is kept for one run: an advisory lock on the directory itself, so that nothing of it shows.
/// Ends with the last process that holds it.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _directory: File,
}

impl Claim {
    /// Claims a backing directory.
    ///
    /// # Errors
    /// Says that it is no directory, is claimed by another run, or lies on a file system that cannot lock it.
    pub fn on(backing: &Path) -> Result<Claim, Refusal> {
        let path = canonical_directory("backing directory", backing)?;
        let name = backing.display();
        let directory = File::open(&path).map_err(|error| {
            Refusal::new(format!("backing directory {name}: cannot open it: {}", plain(&error)))
        })?;
        match try_lock(&directory) {
            Ok(true) => Ok(Claim { path, _directory: directory }),
            Ok(false) => Err(Refusal::new(format!(
                "backing directory {name} is in use by another `chaosfs run`; wait for it to end or choose another"
            ))),
            Err(errno) => Err(Refusal::new(format!(
                "backing directory {name}: its file system has no locks ({errno}) to keep other runs out; choose one on a local disk"
            ))),
        }
    }

    /// The canonical path of the backing directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
