//! The private directory of one run: mountpoints, logs and, unless the caller has one, the backing directory.
//!
//! It is `chaosfs-run-XXXXXX` in the temporary directory, open to its owner alone. While the run lives it holds a locked
//! file `running`; the lock dies with the last process of the run, so whoever comes next can tell a directory that was
//! left behind from one in use and from one that was kept, which has no such file. One that was kept on purpose has a file
//! `kept` in its place.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    libc,
    unistd::{geteuid, mkdtemp},
};

use super::{
    attach::{Stuck, detach, plain},
    lock::try_lock,
    mountinfo::{Entry, MountTable},
    refusals, socket,
    spare::Spare,
};
use crate::error::Refusal;

const PREFIX: &str = "chaosfs-run-";
const RUNNING: &str = "running";
const STARTING: &str = "starting";
const KEPT: &str = "kept";
const MOUNTS: &str = "mounts";
const LOGS: &str = "logs";
const BACKING: &str = "backing";
const KEEP: &str = "keep\n";

/// What stays of a run's directory when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// The logs.
    Logs,
    /// Everything but the mountpoints.
    All,
}

/// The private directory of a run. Shared by the processes that are forked from the one that made it; it does not go by
/// itself: see [`Scratch::dispose`].
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _running: File,
}

impl Scratch {
    /// Makes one in the temporary directory (`TMPDIR`, else `/tmp`), with a mountpoint for each of `clients`, and with
    /// a backing directory unless there is one at `backing`. With `keep`, what is not a mountpoint survives also a run
    /// that is killed.
    ///
    /// # Errors
    /// Says what is wrong with the temporary directory.
    pub fn make(backing: Option<&Path>, clients: &[&str], keep: bool) -> Result<Scratch, Refusal> {
        let parent = temporary_directory(backing)?;
        let wrong = |error: io::Error| refusals::unusable("temporary directory", &parent, &error);
        let path = mkdtemp(&parent.join(format!("{PREFIX}XXXXXX"))).map_err(|errno| wrong(errno.into()))?;
        let running = mark(&path, keep).map_err(wrong)?;
        let scratch = Scratch { path, _running: running };
        let made_backing = backing.is_none().then(|| scratch.backing());
        let folders = [scratch.path.join(MOUNTS), scratch.logs()].into_iter().chain(made_backing);
        let mountpoints = clients.iter().map(|client| scratch.mountpoint(client));
        folders.chain(mountpoints).try_for_each(fs::create_dir).map_err(|error| {
            let _ = scratch.dispose(Kept::Nothing);
            wrong(error)
        })?;
        Ok(scratch)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a client is to be mounted.
    pub fn mountpoint(&self, client: &str) -> PathBuf {
        self.path.join(MOUNTS).join(client)
    }

    /// The directory of the logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join(LOGS)
    }

    /// The backing directory that was made for the run.
    pub fn backing(&self) -> PathBuf {
        self.path.join(BACKING)
    }

    /// Takes away what the run's dead clients have left mounted and removes what is not kept.
    ///
    /// # Errors
    /// Names what could not be taken away; nothing that is mounted still is looked into.
    pub fn dispose(&self, kept: Kept) -> Result<(), Refusal> {
        dispose(&self.path, kept)
    }
}

/// Removes what runs that were killed have left behind: their dead mounts and their directories. Leaves everything alone
/// that is another user's, in use, or kept on purpose. Returns the directories it has removed.
pub fn sweep_runs() -> Vec<PathBuf> {
    let mut found = candidates();
    found.retain(|path| sweep(path));
    found
}

/// What became of one directory that an earlier run has left.
#[derive(Debug)]
pub enum Cleaned {
    /// It is gone, with so many bytes of logs.
    Removed(PathBuf, u64),
    /// It was kept on purpose, and stays.
    Kept(PathBuf),
    /// It cannot be removed.
    Failed(Refusal),
}

/// Removes what all earlier runs of this user have left: what [`sweep_runs`] does, and the logs of runs that failed.
pub fn clean_runs() -> Vec<Cleaned> {
    candidates().iter().filter_map(|path| clean(path)).collect()
}

fn clean(path: &Path) -> Option<Cleaned> {
    if !is_private(path) {
        return None;
    }
    let there = |name: &str| path.join(name).symlink_metadata().is_ok();
    let size = size_of_logs(path);
    let outcome = if there(KEPT) {
        return Some(Cleaned::Kept(path.to_path_buf()));
    } else if there(RUNNING) {
        dispose_left_behind(path)?
    } else if there(LOGS) && !there(STARTING) {
        dispose(path, Kept::Nothing)
    } else {
        return None;
    };
    Some(match outcome {
        Ok(()) if there(KEPT) => Cleaned::Kept(path.to_path_buf()),
        Ok(()) => Cleaned::Removed(path.to_path_buf(), size),
        Err(refusal) => Cleaned::Failed(refusal),
    })
}

fn size_of_logs(path: &Path) -> u64 {
    let entries = fs::read_dir(path.join(LOGS)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|facts| facts.len()).sum()
}

/// The directories of runs of this machine, living and dead.
fn candidates() -> Vec<PathBuf> {
    let listed = fs::read_dir(temporary()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mounts = MountTable::read().unwrap_or_default();
    let mounted =
        mounts.chaosfs().filter_map(|entry| run_directory(&entry.mount_point)).map(Path::to_path_buf);
    let mut candidates: Vec<_> = listed.chain(mounted).filter(|path| has_our_name(path)).collect();
    candidates.sort();
    candidates.dedup();
    candidates
}

/// Removes the directory of the run that `mountpoint` belonged to, if that run was killed and has left it behind.
pub fn sweep_run_of(mountpoint: &Path) {
    let mountpoint = refusals::resolve(mountpoint).unwrap_or_default();
    if let Some(path) = run_directory(&mountpoint) {
        sweep(path);
    }
}

/// An empty variable is none.
fn temporary() -> PathBuf {
    Some(env::temp_dir()).filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| "/tmp".into())
}

fn temporary_directory(backing: Option<&Path>) -> Result<PathBuf, Refusal> {
    let role = "temporary directory";
    let parent = refusals::canonical_directory(role, &temporary())?;
    let name = parent.display();
    if name.to_string().contains(':') {
        return Err(Refusal::new(format!(
            "{role} {name} has a colon in its name, and CHAOSFS_MOUNTS is separated by colons; set TMPDIR to another"
        )));
    }
    let mounts = MountTable::read()?;
    match backing.filter(|backing| refusals::lies_in(&mounts, &parent, backing)) {
        None => Ok(parent),
        Some(backing) => Err(Refusal::new(format!(
            "{role} {name} lies inside the backing directory {}; set TMPDIR to a directory outside it",
            backing.display()
        ))),
    }
}

/// Makes the locked file that says that the run lives. It appears under its name only when it is locked.
fn mark(path: &Path, keep: bool) -> io::Result<File> {
    let early = path.join(STARTING);
    let mut running = File::create_new(&early)?;
    try_lock(&running)?;
    running.write_all(if keep { KEEP.as_bytes() } else { b"" })?;
    fs::rename(early, path.join(RUNNING))?;
    Ok(running)
}

fn has_our_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

/// The run's directory above a mountpoint that lies where a run would have made it.
fn run_directory(mountpoint: &Path) -> Option<&Path> {
    let mounts =
        mountpoint.parent().filter(|parent| parent.file_name().is_some_and(|name| name == MOUNTS))?;
    mounts.parent().filter(|path| has_our_name(path))
}

fn sweep(path: &Path) -> bool {
    dispose_left_behind(path).is_some_and(|outcome| outcome.is_ok())
}

/// Disposes of what a run that was killed has left; none if it lives, or is not ours.
fn dispose_left_behind(path: &Path) -> Option<Result<(), Refusal>> {
    let mut running = left_behind(path)?;
    let mut word = String::new();
    let keep = running.read_to_string(&mut word).is_err() || word == KEEP;
    Some(dispose(path, if keep { Kept::All } else { Kept::Nothing }))
}

/// Whether it is a directory of this user that nobody else can enter.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|facts| facts.is_dir() && facts.uid() == geteuid().as_raw() && facts.mode() & 0o077 == 0)
}

/// The mark of a run of this user whose processes are all gone, locked now.
fn left_behind(path: &Path) -> Option<File> {
    let private = is_private(path);
    let options = || File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).to_owned();
    let running = private.then(|| options().open(path.join(RUNNING)).ok())??;
    let ours = running.metadata().is_ok_and(|facts| facts.is_file() && facts.uid() == geteuid().as_raw());
    (ours && try_lock(&running) == Ok(true)).then_some(running)
}

fn dispose(path: &Path, kept: Kept) -> Result<(), Refusal> {
    clear_dead_mounts(path)?;
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Refusal::new(format!("{}: cannot remove it: {}", path.display(), plain(&error))))
        }
        _ => Ok(()),
    };
    let remove = |name: &&str| gone(remove_tree(&path.join(name)));
    match kept {
        // The mark goes last: what an interruption leaves can be swept then.
        Kept::Nothing => {
            [MOUNTS, BACKING, LOGS].iter().try_for_each(remove)?;
            gone(remove_tree(path))
        }
        Kept::Logs => {
            [MOUNTS, BACKING].iter().try_for_each(remove)?;
            gone(fs::remove_file(path.join(RUNNING)))
        }
        Kept::All => {
            remove(&MOUNTS)?;
            gone(fs::rename(path.join(RUNNING), path.join(KEPT)))
        }
    }
}

/// Removes a folder also when a program has left folders in it that their owner may not change.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path);
            fs::remove_dir_all(path)
        }
        outcome => outcome,
    }
}

fn open_folders(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).for_each(|entry| {
        open_folders(&entry.path());
    });
}

/// # Errors
/// Says that something is mounted below that is not ours or not dead.
fn clear_dead_mounts(path: &Path) -> Result<(), Refusal> {
    let user = geteuid().as_raw();
    let is_dead = |entry: &Entry| {
        entry.is_chaosfs() && entry.owner == Some(user) && refusals::answers_dead(&entry.mount_point)
    };
    while let Some(entry) = MountTable::read()?.below(path).find(|entry| is_dead(entry)).cloned() {
        detach(&entry, true, &Spare::none())
            .map_err(|stuck| still_mounted(&entry.mount_point, Some(&stuck)))?;
        socket::forget(&entry);
    }
    match MountTable::read()?.below(path).next() {
        None => Ok(()),
        Some(entry) => Err(still_mounted(&entry.mount_point, None)),
    }
}

fn still_mounted(mountpoint: &Path, why: Option<&Stuck>) -> Refusal {
    let path = mountpoint.display();
    let why = match why {
        Some(Stuck::Refused(reason)) => format!(" ({reason})"),
        Some(Stuck::Busy) | None => String::new(),
    };
    Refusal::new(format!("{path}: still mounted{why}; unmount it with `chaosfs umount {path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mountpoints_where_a_run_makes_them_lead_to_its_directory() {
        let lead = |path: &str| run_directory(Path::new(path)).map(Path::to_path_buf);
        assert_eq!(lead("/tmp/chaosfs-run-x/mounts/A"), Some("/tmp/chaosfs-run-x".into()));
        for other in
            ["/tmp/chaosfs-run-x/A", "/tmp/run/mounts/A", "/tmp/chaosfs-run-x/mounts/A/B", "/mounts/A", "/"]
        {
            assert_eq!(lead(other), None, "{other}");
        }
    }
}
