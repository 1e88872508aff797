//! A process that sees a client where other hosts see it: a mount namespace of its own in which the client stands at a
//! path of the caller's choice.

use std::{
    env, fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

use super::{
    attach::plain,
    foothold::{directory, link_to, mount_of},
    mountinfo::{Entry, MountTable},
    refusals,
    remote::{RemoteClient, entry_at},
};
use crate::error::Refusal;

/// The switches that keep ordinary users from namespaces of their own, and the value that keeps them.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
];

/// Moves this process into a mount namespace of its own in which the client that is mounted at `mountpoint` stands at
/// `at`, or else at its backing directory; what is mounted there otherwise, and what lies below, is hidden from this process and its children alone. A
/// working directory at or below `at` is entered again, on the client. The process must have one thread.
///
/// Root needs nothing else. Other users get a user namespace too, in which they are who they were; programs that gain
/// privileges when they are executed (`sudo`) do not gain them there.
///
/// # Errors
/// Names the path that is not a client or not a directory, or says what forbids namespaces on this machine.
pub fn stand_at(mountpoint: &Path, at: Option<&Path>) -> Result<(), Refusal> {
    let client = living_client(mountpoint)?;
    let usual = || RemoteClient::behind(&client, mountpoint)?.usual_place();
    let place = place(&at.map_or_else(usual, |at| Ok(at.to_path_buf()))?)?;
    let here = env::current_dir().ok();
    enter_namespace()?;
    let none: Option<&str> = None;
    // Unmounts from outside still arrive; nothing made here leaves.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(forbidden)?;
    // Opened once, here, where mounts stay as they are, and used as they were opened.
    let moved = |path: &Path, error: &io::Error| {
        Refusal::new(format!("{} has changed meanwhile: {}", path.display(), plain(error)))
    };
    let root = root_of(&client).map_err(|error| moved(mountpoint, &error))?;
    let target = directory(&place).map_err(|error| moved(&place, &error))?;
    let [root, target] = [&root, &target].map(|held| link_to(held.as_fd()));
    mount(Some(&root), &target, none, MsFlags::MS_BIND, none).map_err(forbidden)?;
    match here.filter(|here| here.starts_with(&place)) {
        Some(here) => env::set_current_dir(&here).map_err(|error| {
            Refusal::new(format!(
                "working directory {} cannot be entered on the client: {}",
                here.display(),
                plain(&error)
            ))
        }),
        None => Ok(()),
    }
}

/// The canonical form of the directory that a client can be seen at.
///
/// # Errors
/// Says that it is no directory, or the root: paths begin there, below whatever is mounted on it.
pub fn place(at: &Path) -> Result<PathBuf, Refusal> {
    let place = refusals::canonical_directory("--at", at)?;
    match place.parent() {
        Some(_) => Ok(place),
        None => Err(Refusal::new(format!(
            "--at {}: a client cannot appear at /; name a directory below it",
            at.display()
        ))),
    }
}

/// The client that is mounted at this path, if it answers.
fn living_client(mountpoint: &Path) -> Result<Entry, Refusal> {
    let entry = entry_at(mountpoint)?;
    let name = mountpoint.display();
    match refusals::answers_dead(&entry.mount_point) {
        true => Err(Refusal::new(format!(
            "{name}: its daemon has died; remove the mount with `chaosfs umount {name}`"
        ))),
        false => Ok(entry),
    }
}

/// The root of this client in the namespace of this process, where its mount has another number than elsewhere.
fn root_of(client: &Entry) -> io::Result<OwnedFd> {
    let root = directory(&client.mount_point)?;
    let mount = mount_of(root.as_fd())?;
    let mounts = MountTable::read().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    match mounts.showing(mount, client) {
        Some(_) => Ok(root),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn enter_namespace() -> Result<(), Refusal> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(forbidden)?;
    let tell = |name: &str, text: String| {
        fs::write(format!("/proc/self/{name}"), text)
            .map_err(|error| forbidden(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))
    };
    tell("setgroups", "deny".to_string())?;
    tell("uid_map", format!("{user} {user} 1"))?;
    tell("gid_map", format!("{group} {group} 1"))
}

fn forbidden(errno: Errno) -> Refusal {
    let reads = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let shut: Vec<_> = SWITCHES
        .iter()
        .filter(|(name, closed, _)| reads(name).trim() == *closed)
        .map(|(name, _, open)| format!("`sysctl {}={open}`", name.replace('/', ".")))
        .collect();
    let text = match shut.as_slice() {
        [] => format!(
            "{}; in a container allow it with `--cap-add SYS_ADMIN` (and `--security-opt apparmor=unconfined` where \
             AppArmor is on)",
            errno.desc()
        ),
        switches => format!("root can allow it with {}; or do this as root", switches.join(" and ")),
    };
    Refusal::new(format!("cannot make a mount namespace here: {text}"))
}
