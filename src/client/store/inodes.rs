//! Changes of inodes: data, attributes, extended attributes.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Manner, Outcome, conflicts::Theirs, is_directory};
use crate::{
    backing::sys,
    client::{Client, Version, view::attributes_of},
    consistency::{AttributeChange, Change, Ino},
    error::Error,
    time::Timestamp,
};

const SETID: u32 = 0o6000;
const CAPABILITIES: &[u8] = b"security.capability";

impl Client {
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
        if self.notice_foreign_data(ino, change, &before, stamp) == Theirs::Later {
            return Ok(Outcome { stat: Some(before), is_theirs: true, ..Outcome::default() });
        }
        let changed = change_data(fd, change);
        if changed.is_ok() {
            // Only the owner may; for anybody else it stays the time of landing.
            let _ = sys::set_times(fd, None, Some(wall(stamp)));
        }
        let stat = sys::stat(fd)?;
        if changed.is_err() {
            // A part of it may be in the store: the next try must not take that for somebody else's.
            if let Some(watched) = self.lock().watched.get_mut(&ino) {
                watched.expected = Version::of(&attributes_of(&stat));
            }
        }
        changed?;
        Ok(Outcome { stat: Some(stat), ..Outcome::default() })
    }

    pub(super) fn carry_out_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Outcome, Error> {
        let descriptor = self.descriptor(ino)?;
        match value {
            Some(value) => sys::set_xattr(descriptor.as_fd(), name, value, 0)?,
            None => match remove_xattr(descriptor.as_fd(), name) {
                Err(error) if error.is(Error::NoData) => {}
                result => result?,
            },
        }
        Ok(Outcome::default())
    }
}

/// Removes an extended attribute. Capabilities an ordinary user may not remove, but the kernel asks that user's client
/// to before a change of the file that takes them away, and a chown(2) of nobody is such a change.
pub(in crate::client) fn remove_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    match sys::remove_xattr(fd, name) {
        Err(error) if error.is(Error::NotPermitted) && name == CAPABILITIES => sys::set_owner(fd, None, None),
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
            Err(error) if error.is(Error::Interrupted) => {}
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
    stamp: Timestamp,
) -> Result<Outcome, Error> {
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
        return Ok(Outcome::default());
    }
    let resolved = |time: Option<Timestamp>| time.map(|time| wall(time.at(stamp)));
    match sys::set_times(fd, resolved(atime), resolved(mtime)) {
        // Whoever may write may say "now"; any other time takes the owner (utimensat(2)).
        Err(error) if error.is(Error::NotPermitted) => sys::set_times(fd, atime.map(wall), mtime.map(wall))?,
        result => result?,
    }
    Ok(Outcome::default())
}
