//! The set-user-ID and set-group-ID bits that a file loses when it is changed.
//!
//! A change of a file's data takes its set-id bits away unless root makes it; a change of its owner or group takes them
//! away even then (`setattr_should_drop_suidgid` in fs/attr.c). On a plain directory the kernel sees to that. Here the
//! store sees only this process, which may be exempt, so the client does it for each caller.
//!
//! Before most calls the kernel sends a SETATTR of its own, with the mode that it thinks is left (`fuse_setattr` in
//! fs/fuse/dir.c). It is not to be relied on: it keeps set-group-ID where the group may not execute, whoever calls.
//! Where nothing else is left to say, that SETATTR is empty, and so it is when the kernel removes capabilities, and for
//! a chown(2) that names neither owner nor group:
//!
//! | call | requests |
//! |---|---|
//! | write | WRITE |
//! | fallocate, copy_file_range, write to a file that the kernel keeps | SETATTR of the mode or of nothing if something is to go, then the change |
//! | truncate | SETATTR of the size, and of the mode if something is to go |
//! | chown | SETATTR of owner and group, and of the mode if something is to go |
//! | chown of nobody | the same, or SETATTR of nothing |
//!
//! With `FUSE_HANDLE_KILLPRIV_V2` none of them has a mode.

use std::os::fd::BorrowedFd;

use super::{Caller, Client, Provenance, SetAttributes, store::clear_permissions};
use crate::{
    backing::flags::SETID,
    backing::sys,
    consistency::{Attributes, Ino, Kind, mutation::setid_lost},
    error::Error,
    knobs::Modes,
};

impl Client {
    /// The permission bits that a file loses when this caller changes its data, in this client's view.
    pub(super) fn setid_lost(
        &self,
        caller: &Caller,
        ino: Ino,
        provenance: &mut Provenance,
    ) -> Result<u32, Error> {
        if caller.uid == 0 {
            return Ok(0);
        }
        let Attributes { permissions, gid, .. } = self.view(ino, provenance)?;
        Ok(lost_to(caller, permissions, gid))
    }

    /// The same for a file that the caller has just changed directly, of which the store has seen only this process.
    pub(super) fn take_setid(&self, caller: &Caller, fd: BorrowedFd<'_>) -> Result<(), Error> {
        if caller.uid == 0 || !self.is_root() {
            return Ok(());
        }
        let stat = sys::stat(fd)?;
        clear_permissions(fd, lost_to(caller, stat.mode & 0o7777, stat.gid))
    }

    /// The permissions that a SETATTR is to set, if any.
    ///
    /// # Errors
    /// EPERM for a chown(2) of nobody by somebody who may not take away what that takes away.
    pub(super) fn permissions_asked(
        &self,
        caller: &Caller,
        ino: Ino,
        asked: &SetAttributes,
        provenance: &mut Provenance,
    ) -> Result<Option<u32>, Error> {
        if self.in_force().knobs.modes != Modes::Stored {
            return Ok(None);
        }
        if asked.size.is_some() {
            // Cutting a file takes its bits away itself.
            return Ok(None);
        }
        let is_chown = asked.uid.is_some() || asked.gid.is_some();
        if !is_chown && !asked.is_empty() {
            return Ok(asked.permissions);
        }
        let Attributes { kind, permissions, uid, gid, .. } = self.view(ino, provenance)?;
        let lost = if kind == Kind::Directory { 0 } else { lost_to(caller, permissions, gid) };
        let left = asked.permissions.unwrap_or(permissions) & !lost;
        match lost {
            0 => Ok(asked.permissions),
            _ if is_chown => Ok(Some(left)),
            // The change that follows takes away what is to go.
            _ if self.files.is_open_for_writing(ino) => Ok(None),
            _ if caller.uid == 0 || caller.uid == uid => Ok(Some(left)),
            _ => Err(Error::NotPermitted),
        }
    }
}

fn lost_to(caller: &Caller, permissions: u32, gid: u32) -> u32 {
    // Whether the caller is in the group is read from /proc.
    if permissions & SETID == 0 { 0 } else { setid_lost(permissions, caller.is_in_group(gid)) }
}
