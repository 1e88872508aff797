//! Paths that other users may change, opened once and used by descriptor from then on.
//!
//! Whoever owns a directory above a mountpoint can rename it at any moment and put a symlink in its place, and
//! `umount2(2)` follows those. So the directory above is held, what is mounted there is compared with what is to be
//! unmounted, and the last name, which is not followed, is used from there.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

use super::mountinfo::{Entry, MountTable};

/// How often a mount is looked for that has another path each time.
const TRIES: usize = 5;

/// One mount, held: the directory above it, its name there, and its root, which keeps it from being anything else.
#[derive(Debug)]
pub struct Foothold {
    above: OwnedFd,
    name: OsString,
    root: OwnedFd,
}

impl Foothold {
    /// Takes hold of this mount, wherever it is by now.
    ///
    /// # Errors
    /// [`Errno::ENOENT`]: there is no such mount. [`Errno::EBUSY`]: something else is mounted on top of it. Else what the
    /// system said on the way there.
    pub fn on(entry: &Entry) -> io::Result<Foothold> {
        let mut outcome = Err(Errno::ENOENT.into());
        for _ in 0..TRIES {
            let mount_point = find(entry)?;
            outcome = Foothold::at(&mount_point).and_then(|held| match mount_of(held.root.as_fd())? {
                found if found == entry.id => Ok(held),
                _ => Err(Errno::EBUSY.into()),
            });
            // As long as its root is held its numbers are nobody else's.
            if find(entry)? == mount_point {
                break;
            }
        }
        outcome
    }

    /// Whatever is seen at this canonical path.
    ///
    /// # Errors
    /// What the system said.
    pub fn at(path: &Path) -> io::Result<Foothold> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("the root directory has no directory above it"));
        };
        let above = directory(parent)?;
        let root = step(above.as_fd(), name)?;
        Ok(Foothold { above, name: name.to_os_string(), root })
    }

    /// What is seen there: the root of the mount, if there is one.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Lets go of the root, which keeps the mount busy. Only the place is held from now on.
    pub fn let_go(self) -> Place {
        Place { above: self.above, name: self.name }
    }
}

/// A name in a directory that is held.
#[derive(Debug)]
pub struct Place {
    above: OwnedFd,
    name: OsString,
}

impl Place {
    /// A path that leads to the directory above for as long as it is held, in this process and its forks.
    pub fn above(&self) -> PathBuf {
        link_to(self.above.as_fd())
    }

    /// The last name.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// A path that leads there whatever is renamed above. Its last name is not to be followed.
    pub fn path(&self) -> PathBuf {
        self.above().join(&self.name)
    }
}

fn find(entry: &Entry) -> io::Result<PathBuf> {
    let mounts = MountTable::read().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    mounts.still(entry).map(|now| now.mount_point.clone()).ok_or_else(|| Errno::ENOENT.into())
}

/// Opens a directory by its canonical path, step by step: a symlink that was put in the way is not followed.
///
/// # Errors
/// What the system said; [`Errno::ENOTDIR`] at a symlink.
pub fn directory(canonical: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut reached = open("/", flags, Mode::empty())?;
    for component in canonical.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => reached = step(reached.as_fd(), name)?,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }
    Ok(reached)
}

fn step(from: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(from, name, flags, Mode::empty())?)
}

/// A path that leads to what a descriptor holds (`proc_pid_fd(5)`).
pub fn link_to(held: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// The number of the mount that this is in. Nobody who serves the mount is asked for it.
///
/// # Errors
/// What the system said.
pub fn mount_of(held: BorrowedFd<'_>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("the kernel does not tell mounts apart"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_symlink_in_the_way_is_not_followed_and_what_is_held_stays_held() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        for name in ["d", "d/m", "other", "other/m"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        let (held, theirs) = (Foothold::at(&folder.join("d/m")).unwrap(), inode(folder.join("d/m")));
        fs::rename(folder.join("d"), folder.join("away")).unwrap();
        symlink("other", folder.join("d")).unwrap();
        assert_eq!(
            Foothold::at(&folder.join("d/m")).unwrap_err().raw_os_error(),
            Some(Errno::ENOTDIR as i32)
        );
        assert_eq!(inode(link_to(held.root())), theirs);
        assert_eq!(inode(held.let_go().path()), theirs);
    }

    #[test]
    fn the_mount_of_a_directory_is_one_of_the_table() {
        let id = mount_of(directory(Path::new("/proc")).unwrap().as_fd()).unwrap();
        let proc = MountTable::read().unwrap().top_at(Path::new("/proc")).cloned().unwrap();
        assert_eq!((id, proc.fs_type.as_str()), (proc.id, "proc"));
        assert!(Foothold::on(&proc).is_ok());
        let gone = Entry { source: "another".to_string(), ..proc };
        assert_eq!(Foothold::on(&gone).unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32));
    }
}
