//! A process that sees a client where other hosts see it: a mount namespace of its own in which the client stands at a
//! path of the caller's choice.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

use super::{mountinfo::MountTable, refusals};
use crate::error::Refusal;

/// The switches that keep ordinary users from namespaces of their own, and the value that keeps them.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
];

/// Moves this process into a mount namespace of its own in which the client that is mounted at `mountpoint` stands at
/// `at`; what is mounted there otherwise, and what lies below, is hidden from this process and its children alone. A
/// working directory at or below `at` is entered again, on the client. The process must have one thread.
///
/// Root needs nothing else. Other users get a user namespace too, in which they are who they were; programs that gain
/// privileges when they are executed (`sudo`) do not gain them there.
///
/// # Errors
/// Names the path that is not a client or not a directory, or says what forbids namespaces on this machine.
pub fn stand_at(mountpoint: &Path, at: &Path) -> Result<(), Refusal> {
    let client = living_client(mountpoint)?;
    let place = place(at)?;
    let here = env::current_dir().ok();
    enter_namespace()?;
    let none: Option<&str> = None;
    // Unmounts from outside still arrive; nothing made here leaves.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(forbidden)?;
    mount(Some(&client), &place, none, MsFlags::MS_BIND, none).map_err(forbidden)?;
    match here.filter(|here| here.starts_with(&place)) {
        Some(here) => env::set_current_dir(&here).map_err(|error| {
            Refusal::new(format!(
                "working directory {} cannot be entered on the client: {}",
                here.display(),
                super::attach::plain(&error)
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

/// The canonical mountpoint of a client that answers.
fn living_client(mountpoint: &Path) -> Result<PathBuf, Refusal> {
    let name = mountpoint.display();
    let resolved = refusals::resolve(mountpoint)
        .map_err(|error| refusals::unusable("mountpoint", mountpoint, &error))?;
    if !MountTable::read()?.top_at(&resolved).is_some_and(|entry| entry.is_chaosfs()) {
        return Err(Refusal::new(format!("{name}: not mounted")));
    }
    if refusals::answers_dead(&resolved) {
        return Err(Refusal::new(format!(
            "{name}: its daemon has died; remove the mount with `chaosfs umount {name}`"
        )));
    }
    Ok(resolved)
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
