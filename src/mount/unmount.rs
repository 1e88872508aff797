//! Unmounting a chaosfs mount from outside, whoever serves it: the engine of `chaosfs umount`.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;

use super::{
    attach::{Stuck, detach, plain},
    listener::{End, Listener},
    mountinfo::{Entry, MountTable},
    refusals,
    remote::is_mine,
    socket,
    spare::Spare,
};
use crate::{client::Farewell, error::Refusal, event::OneLine};

/// How long is waited for a client that has been unmounted.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(60);

/// What became of one mount that was to be unmounted. Shown as a person reads it after the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone and its client has said how it ended.
    Gone(Farewell),
    /// It is gone; nobody had served it any more.
    CleanedUp,
    /// It is gone from here; its client goes on at the other mount point named.
    ServesOn(PathBuf),
    /// It is gone, but its client did not say whether everything landed.
    Unheard,
    /// It is gone, but its client has not said in time that everything has landed: what is left, and with whom.
    Unfinished(String),
    /// Nothing is mounted there.
    NotMounted,
    /// Something else is mounted there: a file system of this type. It was left alone.
    NotOurs(String),
    /// A program uses it. It is mounted still.
    Busy,
    /// It is mounted still, for this reason.
    Failed(String),
}

impl Unmounted {
    /// Whether the mount is gone and everything acknowledged is in the backing directory, as far as is known.
    pub fn is_success(&self) -> bool {
        match self {
            Unmounted::Gone(farewell) => farewell.lost.is_empty() && farewell.overtaken.is_empty(),
            Unmounted::CleanedUp | Unmounted::ServesOn(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Unmounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmounted::Gone(farewell) => f.write_str(&told(farewell)),
            Unmounted::CleanedUp => f.write_str("cleaned up a dead mount"),
            Unmounted::ServesOn(other) => {
                write!(f, "unmounted here; its client is still mounted at {}", other.display())
            }
            Unmounted::Unheard => f.write_str(
                "unmounted, but its daemon did not say whether everything landed; look in its log",
            ),
            Unmounted::Unfinished(left) => write!(f, "unmounted, but not everything has landed: {left}"),
            Unmounted::NotMounted => f.write_str("not mounted"),
            Unmounted::NotOurs(fs_type) => write!(f, "not a chaosfs mount ({fs_type})"),
            Unmounted::Busy => f.write_str("busy: a program has a file or its working directory there"),
            Unmounted::Failed(reason) => write!(f, "cannot unmount: {reason}"),
        }
    }
}

/// One line, and one more for each path of which something acknowledged is not in the backing directory.
fn told(farewell: &Farewell) -> String {
    let Farewell { landed, conflicts, lost, lost_changes, overtaken, .. } = farewell;
    let mut text = format!("unmounted, {landed} landed");
    if *conflicts > 0 {
        text += &format!(", {}", counted(*conflicts, "conflict"));
    }
    if !lost.is_empty() {
        text += &format!(", but {} could not land:\n  {}", counted(*lost_changes, "change"), in_lines(lost));
    }
    if !overtaken.is_empty() {
        let before = if lost.is_empty() { ", but" } else { "\nand" };
        let paths = in_lines(overtaken);
        text +=
            &format!("{before} because of others' changes this is not in the backing directory:\n  {paths}");
    }
    text
}

/// Paths one below the other, each on one line whatever it is.
fn in_lines(paths: &[String]) -> String {
    let lines: Vec<String> = paths.iter().map(|path| OneLine(path).to_string()).collect();
    lines.join("\n  ")
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Unmounts the chaosfs mount at `path` and waits until its client has landed everything, for a minute at most. Of several
/// mounts on top of each other it takes the topmost. Mounts that are not chaosfs are left alone.
pub fn unmount(path: &Path) -> Unmounted {
    unmount_within(path, UNMOUNT_PATIENCE, &mut |_| {})
}

/// The same, waiting for at most `limit`. What it waits for is told in a line as soon as that takes long, and again when
/// it is something else.
pub fn unmount_within(path: &Path, limit: Duration, tell: &mut dyn FnMut(&str)) -> Unmounted {
    let Ok(mountpoint) = refusals::resolve(path) else { return Unmounted::NotMounted };
    let mounts = match MountTable::read() {
        Ok(mounts) => mounts,
        Err(refusal) => return Unmounted::Failed(refusal.to_string()),
    };
    match mounts.top_at(&mountpoint) {
        None => Unmounted::NotMounted,
        Some(entry) if !entry.is_chaosfs() => Unmounted::NotOurs(entry.fs_type.clone()),
        Some(Entry { owner: Some(owner), .. }) if !may_unmount(*owner) => {
            Unmounted::Failed(format!("it belongs to user {owner}"))
        }
        Some(entry) => unmount_entry(entry, mounts.elsewhere(entry), limit, tell),
    }
}

/// The mount points of all chaosfs mounts directly below `folder`, once for each mount.
///
/// # Errors
/// Says that the folder or the mount table cannot be read.
pub fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let wrong = |error| Refusal::new(format!("{}: {}", folder.display(), plain(&error)));
    let canonical = folder.canonicalize().map_err(wrong)?;
    let mounts = MountTable::read()?;
    Ok(mounts.chaosfs_below(&canonical).map(|entry| entry.mount_point.clone()).collect())
}

/// The mount points of all chaosfs mounts that this user has made, once for each mount.
///
/// # Errors
/// Says that the mount table cannot be read.
pub fn mounts_of_user() -> Result<Vec<PathBuf>, Refusal> {
    let mounts = MountTable::read()?;
    let mine = mounts.chaosfs().filter(is_mine);
    Ok(mine.map(|entry| entry.mount_point.clone()).collect())
}

fn may_unmount(owner: u32) -> bool {
    geteuid().is_root() || geteuid().as_raw() == owner
}

/// `elsewhere` was looked up while the mount was there: afterwards its device number may be another's at any moment.
fn unmount_entry(
    entry: &Entry,
    elsewhere: Option<&Path>,
    limit: Duration,
    tell: &mut dyn FnMut(&str),
) -> Unmounted {
    let listener = Listener::connect(entry);
    let dead = listener.is_none() && refusals::answers_dead(&entry.mount_point);
    // Nothing in a dead mount can be used any more, so whoever still stands in it need not hold it up.
    match detach(entry, dead, &Spare::none()) {
        Err(Stuck::Busy) => return Unmounted::Busy,
        Err(Stuck::Refused(reason)) => return Unmounted::Failed(reason),
        Ok(()) => {}
    }
    if MountTable::read().is_ok_and(|mounts| mounts.still_at(entry)) {
        return Unmounted::Failed("the mount table still shows it".to_string());
    }
    match (elsewhere, listener) {
        (Some(other), _) => Unmounted::ServesOn(other.to_path_buf()),
        (None, Some(listener)) => match listener.wait(limit, tell) {
            End::Farewell(farewell) => Unmounted::Gone(farewell),
            End::Unheard => Unmounted::Unheard,
            End::Unfinished(left) => Unmounted::Unfinished(left),
        },
        (None, None) if dead => {
            socket::forget(entry);
            Unmounted::CleanedUp
        }
        (None, None) => Unmounted::Unheard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_backing_directory_is_named_and_is_no_success() {
        let lost = vec![
            "/a: write (3 changes): No space left on device".to_string(),
            "/b: mkdir: given up".to_string(),
        ];
        let lost = Farewell { landed: 9, lost, lost_changes: 4, ..Farewell::default() };
        let overtaken =
            Farewell { conflicts: 2, overtaken: vec!["/c: rename: dropped".into()], ..lost.clone() };
        let conflicts = Farewell { landed: 9, conflicts: 1, ..Farewell::default() };
        let told = [lost, overtaken, conflicts].map(|farewell| {
            let outcome = Unmounted::Gone(farewell);
            (outcome.is_success(), outcome.to_string())
        });
        let named = "but 4 changes could not land:\n  /a: write (3 changes): No space left on device\n  /b: mkdir: given up";
        let expected = [
            (false, format!("unmounted, 9 landed, {named}")),
            (
                false,
                format!(
                    "unmounted, 9 landed, 2 conflicts, {named}\nand because of others' changes this is not in the backing directory:\n  /c: rename: dropped"
                ),
            ),
            (true, "unmounted, 9 landed, 1 conflict".to_string()),
        ];
        assert_eq!(told, expected);
    }
}
