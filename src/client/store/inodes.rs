//! Changes of inodes: data, attributes, extended attributes.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Manner, Outcome, conflicts::Theirs, is_directory};
use crate::{
    backing::{flags::SETID, sys},
    client::{Client, Version, view::attributes_of},
    consistency::{
        AttributeChange, Change, Ino,
        acl::{ACCESS_ACL, DEFAULT_ACL},
        policy::{DatedBy, Policy, SecondWriter, Unlinked},
    },
    error::Error,
    time::Timestamp,
};

const CAPABILITIES: &[u8] = b"security.capability";

impl Client {
    /// Whether a file, as it was found, is not as it was when data for it was put in flight.
    fn is_changed_by_others(&self, ino: Ino, found: &sys::Stat) -> bool {
        let mut state = self.lock();
        let Some(watched) = state.records.watched(ino) else { return false };
        let now = Version::of(&attributes_of(found));
        watched.refused |= watched.expected.is_some_and(|expected| expected != now);
        watched.refused
    }

    pub(super) fn carry_out_data(
        &self,
        ino: Ino,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let descriptor = self.writer(ino, manner)?;
        let fd = descriptor.as_fd();
        if manner == Manner::Through {
            change_data(fd, change)?;
            return Ok(Outcome::default());
        }
        let before = sys::stat(fd)?;
        let Policy { unlinked, dated_by, second_writer, .. } = self.in_force().policy;
        if second_writer == SecondWriter::Stale && self.is_changed_by_others(ino, &before) {
            return Err(Error::Stale);
        }
        if before.links == 0 && unlinked == Unlinked::Stale && !self.lock().has_removed(ino) {
            return Err(Error::Stale);
        }
        if self.notice_foreign_data(ino, change, &before, stamp) == Theirs::Later
            && dated_by == DatedBy::Writer
        {
            return Ok(Outcome { stat: Some(before), is_theirs: true, ..Outcome::default() });
        }
        let changed = change_data(fd, change);
        if changed.is_ok() && dated_by == DatedBy::Writer {
            // Only the owner may; for anybody else it stays the time of landing.
            let _ = sys::set_times(fd, None, Some(wall(stamp)));
        }
        let left = sys::stat(fd);
        if changed.is_err() || left.is_err() {
            // A part of it may be in the store: the next try must not take that for somebody else's.
            if let Some(watched) = self.lock().records.watched(ino) {
                watched.expected = left.ok().map(|stat| Version::of(&attributes_of(&stat)));
            }
        }
        changed?;
        Ok(Outcome { stat: Some(left?), ..Outcome::default() })
    }
}

pub(super) fn change_xattr(
    fd: BorrowedFd<'_>,
    name: &[u8],
    value: Option<&[u8]>,
    owner: Option<u32>,
) -> Result<(), Error> {
    match value {
        Some(value) => set_xattr(fd, name, value, 0, owner),
        None => match remove_xattr(fd, name, owner) {
            Err(Error::NoData) => Ok(()),
            result => result,
        },
    }
}

/// Runs a change of an inode that only its owner may make, for a caller who was allowed to when it belonged to `owner`:
/// if it still does, and with that owner's rights and no others, so that the kernel forbids what has changed since. `group`
/// is the group that the inode gets with the change.
///
/// # Errors
/// EPERM if it belongs to somebody else by now.
fn as_owner<T>(
    fd: BorrowedFd<'_>,
    owner: Option<u32>,
    group: Option<u32>,
    change: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Some(owner) = owner else { return change() };
    let found = sys::stat(fd)?;
    if found.uid != owner {
        return Err(Error::NotPermitted);
    }
    sys::with_rights_of(owner, group.unwrap_or(found.gid), change)
}

/// Runs a change that whoever may write to an inode may make, for a caller who was allowed to when it belonged to `owner`.
///
/// # Errors
/// EPERM if it belongs to somebody else by now.
fn as_writer<T>(
    fd: BorrowedFd<'_>,
    owner: Option<u32>,
    change: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    match owner {
        Some(owner) if sys::stat(fd)?.uid != owner => Err(Error::NotPermitted),
        _ => change(),
    }
}

/// Sets an extended attribute for a caller who was allowed to when the inode belonged to `owner`.
pub(in crate::client) fn set_xattr(
    fd: BorrowedFd<'_>,
    name: &[u8],
    value: &[u8],
    flags: i32,
    owner: Option<u32>,
) -> Result<(), Error> {
    let set = || sys::set_xattr(fd, name, value, flags);
    if is_acl(name) { as_owner(fd, owner, None, set) } else { as_writer(fd, owner, set) }
}

fn is_acl(name: &[u8]) -> bool {
    name == ACCESS_ACL || name == DEFAULT_ACL
}

/// Removes an extended attribute. Capabilities an ordinary user may not remove, but the kernel asks that user's client
/// to before a change of the file that takes them away, and a chown(2) of nobody is such a change.
pub(in crate::client) fn remove_xattr(
    fd: BorrowedFd<'_>,
    name: &[u8],
    owner: Option<u32>,
) -> Result<(), Error> {
    let remove = || sys::remove_xattr(fd, name);
    let removed = match is_acl(name) {
        true => as_owner(fd, owner, None, remove),
        false => as_writer(fd, owner, remove),
    };
    match removed {
        Err(error) if error == Error::NotPermitted && name == CAPABILITIES => sys::set_owner(fd, None, None),
        result => result,
    }
}

pub(super) fn wall(time: Timestamp) -> sys::WallTime {
    (time.seconds, time.nanos)
}

fn change_data(fd: BorrowedFd<'_>, change: &Change) -> Result<(), Error> {
    let clears = match change {
        Change::Write { offset, data, clears, .. } => {
            write_all(fd, data, *offset)?;
            *clears
        }
        Change::Resize { size, clears, .. } => {
            sys::resize(fd, *size)?;
            *clears
        }
        Change::Allocate { mode, offset, length, clears, .. } => {
            sys::allocate(fd, *mode, *offset, *length)?;
            *clears
        }
        _ => 0,
    };
    clear_permissions(fd, clears)
}

fn write_all(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < data.len() {
        match sys::write_at(fd, &data[done..], offset + done as u64) {
            Ok(0) => return Err(Error::InputOutput),
            Ok(count) => done += count,
            Err(Error::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes permission bits away: what `write(2)` by an ordinary user does to a set-user-ID file, done by a process that is
/// exempt from it.
pub(in crate::client) fn clear_permissions(fd: BorrowedFd<'_>, clears: u32) -> Result<(), Error> {
    if clears == 0 {
        return Ok(());
    }
    let permissions = sys::stat(fd)?.mode & 0o7777;
    if permissions & clears == 0 { Ok(()) } else { sys::set_permissions(fd, permissions & !clears) }
}

/// Changes nothing but the time of change. Anybody may do that by a chown(2) that names neither owner nor group, but it
/// takes the set-id bits of a file away; where there are some, the mode is set to what it is.
fn touch(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let stat = sys::stat(fd)?;
    if stat.mode & SETID == 0 || is_directory(&stat) {
        sys::set_owner(fd, None, None)
    } else {
        sys::set_permissions(fd, stat.mode & 0o7777)
    }
}

pub(super) fn set_attributes(
    fd: BorrowedFd<'_>,
    change: &AttributeChange,
    owner: Option<u32>,
    stamp: Timestamp,
) -> Result<(), Error> {
    as_owner(fd, owner, change.gid, || set_attributes_now(fd, change, stamp))
}

fn set_attributes_now(fd: BorrowedFd<'_>, change: &AttributeChange, stamp: Timestamp) -> Result<(), Error> {
    if change.is_empty() {
        touch(fd)?;
    }
    // Owner first: changing it takes setuid and setgid away, which a mode asked for in the same call may want back.
    if change.uid.is_some() || change.gid.is_some() {
        sys::set_owner(fd, change.uid, change.gid)?;
    }
    if let Some(permissions) = change.permissions {
        sys::set_permissions(fd, permissions)?;
    }
    let (atime, mtime) = (change.atime, change.mtime);
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    let resolved = |time: Option<Timestamp>| time.map(|time| wall(time.at(stamp)));
    match sys::set_times(fd, resolved(atime), resolved(mtime)) {
        // Whoever may write may say "now"; any other time takes the owner (utimensat(2)).
        Err(Error::NotPermitted) => sys::set_times(fd, atime.map(wall), mtime.map(wall)),
        result => result,
    }
}
