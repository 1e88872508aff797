//! Everything that is checked before a mount is made.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    libc,
    unistd::geteuid,
};

use super::{
    attach::{DEVICE, detach, device_refusal, plain},
    foothold::{directory, link_to},
    mountinfo::{Entry, MountTable},
    socket,
    spare::Spare,
};
use crate::{
    error::Refusal,
    terms::{Terms, Wish},
};

const FUSE_CONFIG: &str = "/etc/fuse.conf";
const LONGEST_CLIENT_ID: usize = 64;

/// How long a mount is asked whether anybody serves it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Two directories that may become a mount, as canonical paths.
#[derive(Debug)]
pub struct Site {
    /// The backing directory.
    pub backing: PathBuf,
    /// The empty directory to mount on.
    pub mountpoint: PathBuf,
    /// The directory at that path when it was examined; this is what is mounted on, whatever the path leads to by then.
    pub held: OwnedFd,
    /// Whether a mount whose daemon had died was taken away first.
    pub cleaned_up: bool,
    /// Keeps a second chaosfs from mounting at the same place at the same moment.
    _turn: Flock<File>,
}

/// Checks everything that could be wrong about a mount.
///
/// # Errors
/// Names the path or flag, what is wrong with it and what would be right.
pub fn examine(backing: &Path, mountpoint: &Path, allow_other: bool, terms: Terms) -> Result<Site, Refusal> {
    refuse_missing_device()?;
    if allow_other {
        refuse_other_users(terms)?;
    }
    let canonical_backing = canonical_directory("backing directory", backing)?;
    let resolved = resolve(mountpoint).map_err(|error| unusable("mountpoint", mountpoint, &error))?;
    let cleaned_up = clear_dead_mounts(&resolved)?;
    refuse_mounted(mountpoint, &resolved)?;
    let canonical_mountpoint = canonical_directory("mountpoint", mountpoint)?;
    let held =
        directory(&canonical_mountpoint).map_err(|error| unusable("mountpoint", mountpoint, &error))?;
    let turn = take_turn(mountpoint, held.as_fd())?;
    // Once more: now that it is our turn nobody else's mount can be on its way.
    refuse_mounted(mountpoint, &canonical_mountpoint)?;
    let mounts = MountTable::read()?;
    refuse_nesting(&mounts, (backing, &canonical_backing), (mountpoint, &canonical_mountpoint))?;
    refuse_contents(mountpoint, held.as_fd())?;
    Ok(Site { backing: canonical_backing, mountpoint: canonical_mountpoint, held, cleaned_up, _turn: turn })
}

/// Checks the name of a client: it becomes part of mount options, of log lines and of a file name.
///
/// # Errors
/// Says which names are right.
pub fn check_client_id(id: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = (1..=LONGEST_CLIENT_ID).contains(&id.len()) && id.chars().all(allowed);
    // The dots alone are directories.
    if is_name && id != "." && id != ".." {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "`{id}` is not a client id; write 1 to {LONGEST_CLIENT_ID} of the characters A-Z a-z 0-9 . _ -"
    )))
}

/// The canonical form of a mount point, also when nobody answers there any more.
///
/// # Errors
/// What the system said.
pub fn resolve(mountpoint: &Path) -> io::Result<PathBuf> {
    match (mountpoint.canonicalize(), mountpoint.parent(), mountpoint.file_name()) {
        (Err(error), Some(parent), Some(name)) if is_dead(&error) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize()?.join(name))
        }
        (resolved, ..) => resolved,
    }
}

/// What a FUSE mount answers when its daemon is gone.
fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// `fusermount3` opens it as the user who asks, so the check is the same for everybody.
fn refuse_missing_device() -> Result<(), Refusal> {
    File::options().read(true).write(true).open(DEVICE).map(drop).map_err(|error| device_refusal(&error))
}

fn refuse_other_users(terms: Terms) -> Result<(), Refusal> {
    let config = fs::read_to_string(FUSE_CONFIG).unwrap_or_default();
    if geteuid().is_root() || config.lines().any(|line| line.trim() == "user_allow_other") {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "{}: ordinary users may not; root can allow it with a line `user_allow_other` in {FUSE_CONFIG}",
        terms.name(Wish::OtherUsers)
    )))
}

/// The canonical form of a directory that plays this role.
///
/// # Errors
/// Names the role and the path and says what is wrong.
pub fn canonical_directory(role: &str, path: &Path) -> Result<PathBuf, Refusal> {
    let canonical = path.canonicalize().map_err(|error| unusable(role, path, &error))?;
    let facts = fs::metadata(&canonical).map_err(|error| unusable(role, path, &error))?;
    match facts.is_dir() {
        true => Ok(canonical),
        false => Err(Refusal::new(format!("{role} {} is not a directory; name a directory", path.display()))),
    }
}

/// What to say about a path that cannot be used in this role.
pub fn unusable(role: &str, path: &Path, error: &io::Error) -> Refusal {
    let path = path.display();
    Refusal::new(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{role} {path} does not exist; create it first with `mkdir -p {path}`")
        }
        io::ErrorKind::NotADirectory => format!("{role} {path} is not a directory; name a directory"),
        _ => format!("{role} {path}: {}", plain(error)),
    })
}

/// Takes away chaosfs mounts whose daemon has died; whatever lives is left alone.
fn clear_dead_mounts(mountpoint: &Path) -> Result<bool, Refusal> {
    let mut cleaned_up = false;
    while let Some(entry) = dead_mount(mountpoint)? {
        let path = mountpoint.display();
        detach(&entry, true, &Spare::none()).map_err(|_| {
            Refusal::new(format!(
                "mountpoint {path} holds a mount whose daemon has died; its owner can remove it with \
                 `chaosfs umount {path}`"
            ))
        })?;
        socket::forget(&entry);
        cleaned_up = true;
    }
    Ok(cleaned_up)
}

fn dead_mount(mountpoint: &Path) -> Result<Option<Entry>, Refusal> {
    let top = MountTable::read()?.top_at(mountpoint).cloned();
    Ok(top.filter(|entry| entry.is_chaosfs() && answers_dead(mountpoint)))
}

/// Whether the mount there has lost its daemon. One that keeps silent has not.
pub fn answers_dead(mountpoint: &Path) -> bool {
    // A daemon that is stopped, or has not begun to serve, does not answer at all: who asks must be able to leave.
    let (answer, answered) = mpsc::channel();
    let mountpoint = mountpoint.to_path_buf();
    let ask = move || answer.send(fs::metadata(mountpoint).is_err_and(|error| is_dead(&error)));
    let Ok(asking) = thread::Builder::new().spawn(ask) else { return false };
    let Ok(is_dead) = answered.recv_timeout(ANSWER_PATIENCE) else { return false };
    let _ = asking.join();
    is_dead
}

fn take_turn(mountpoint: &Path, held: BorrowedFd<'_>) -> Result<Flock<File>, Refusal> {
    let opened = File::open(link_to(held));
    let directory = opened.map_err(|error| unusable("mountpoint", mountpoint, &error))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Refusal::new(format!(
            "mountpoint {}: another mount is being made there right now",
            mountpoint.display()
        ))
    })
}

/// Refuses a mountpoint on which something is mounted.
///
/// # Errors
/// Says what that is, and what would be right.
pub fn refuse_mounted(mountpoint: &Path, canonical: &Path) -> Result<(), Refusal> {
    let mounts = MountTable::read()?;
    let Some(entry) = mounts.top_at(canonical) else { return Ok(()) };
    let path = mountpoint.display();
    Err(Refusal::new(match entry.is_chaosfs() {
        true => format!(
            "mountpoint {path} is already mounted by chaosfs client `{}`; unmount it first with \
             `chaosfs umount {path}`",
            entry.source
        ),
        false => format!(
            "mountpoint {path} is already a mount ({} of type {}); choose an empty directory",
            entry.source, entry.fs_type
        ),
    }))
}

type Named<'a> = (&'a Path, &'a Path);

fn refuse_nesting(mounts: &MountTable, backing: Named, mountpoint: Named) -> Result<(), Refusal> {
    let (backing_name, mountpoint_name) = (backing.0.display(), mountpoint.0.display());
    let (inside, around) =
        (lies_in(mounts, mountpoint.1, backing.1), lies_in(mounts, backing.1, mountpoint.1));
    Err(Refusal::new(match (inside, around) {
        (false, false) => return Ok(()),
        (true, true) => format!(
            "mountpoint {mountpoint_name} is the backing directory {backing_name} itself; choose another"
        ),
        (true, false) => format!(
            "mountpoint {mountpoint_name} lies inside the backing directory {backing_name}; choose one outside"
        ),
        (false, true) => format!(
            "backing directory {backing_name} lies inside the mountpoint {mountpoint_name}; choose an empty mountpoint \
             elsewhere"
        ),
    }))
}

/// Whether `inner` is `outer` or is reached from it: by its path, through a bind mount of either, or of any
/// directory above or below either. Both are canonical.
pub fn lies_in(mounts: &MountTable, inner: &Path, outer: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()));
    let target = identity(outer);
    let by_identity = inner.ancestors().any(|ancestor| target.is_some() && identity(ancestor) == target);
    let by_place = mounts
        .place_of(inner)
        .is_some_and(|place| mounts.places_below(outer).iter().any(|reached| place.is_within(reached)));
    by_identity || by_place
}

fn refuse_contents(mountpoint: &Path, held: BorrowedFd<'_>) -> Result<(), Refusal> {
    let listed = fs::read_dir(link_to(held));
    let mut entries = listed.map_err(|error| unusable("mountpoint", mountpoint, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Refusal::new(format!(
            "mountpoint {} is not empty; choose an empty directory",
            mountpoint.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_plain_words() {
        for id in ["client", "a", "web-1.eu_2", &"x".repeat(64)] {
            assert_eq!(check_client_id(id), Ok(()), "{id}");
        }
        for id in ["", "a,b", "a b", "a/b", "é", ".", "..", &"x".repeat(65)] {
            assert!(check_client_id(id).unwrap_err().0.contains(&format!("`{id}`")), "{id}");
        }
    }
}
