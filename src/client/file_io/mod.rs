//! Operations on open files.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | opening, closing, and what they report |
//! | `read.rs` | reading in this client's view |
//! | `write.rs` | changes of data: writing, cutting, allocating, copying |
//! | `seek.rs` | finding data and holes |

mod read;
mod seek;
mod write;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

pub use read::Bytes;
pub use write::{Copy, Offset};

use crate::{
    backing::flags::O_TRUNC,
    client::{
        Caller, Client, Provenance, State, Version, Watched,
        call::{Call, Flushed, Run, Subject},
        open_files::OpenFile,
    },
    consistency::{
        Change, Ino, Route,
        policy::{FlushPoint, OpenAsks},
    },
    error::Error,
    operation::Operation,
};

impl Client {
    /// Opens a file.
    ///
    /// # Errors
    /// ESTALE if the inode is gone (the kernel then looks the name up again); whatever the backing directory answers.
    pub fn open_file(self: &Arc<Self>, caller: &Caller, ino: Ino, flags: i32) -> Call<'_, impl Run<u64>> {
        let open = Call::new(
            self,
            Operation::Open,
            caller,
            Subject::Inode(ino),
            move |client, asked, provenance| client.open_known(asked.caller, ino, flags, provenance),
        );
        let open = open.adds_nothing_if(flags & O_TRUNC == 0);
        if flags & O_TRUNC == 0 { open } else { open.flushes(FlushPoint::SetAttributes, Flushed::Inode(ino)) }
    }

    pub(super) fn open_known(
        &self,
        caller: &Caller,
        ino: Ino,
        flags: i32,
        provenance: &mut Provenance,
    ) -> Result<u64, Error> {
        match self.in_force().policy.open_asks {
            OpenAsks::Nothing => {}
            asks => {
                self.ask_at_open(ino, asks == OpenAsks::Name, provenance)?;
                self.check_opening(caller, ino, provenance)?;
            }
        }
        let landed = self.table.has_landed(ino);
        let open = |flags| if landed { self.open_real(ino, flags).map(Some) } else { Ok(None) };
        if flags & O_TRUNC == 0 {
            let descriptor = open(self.backing_flags(flags))?;
            return Ok(self.open_new(ino, flags, descriptor));
        }
        let truncation = Change::Resize { ino, size: 0, clears: self.setid_lost(caller, ino, provenance)? };
        if landed && self.route(&truncation) == Route::Through {
            return self.go_through(&truncation, || self.open_cut(caller, ino, flags));
        }
        let descriptor = open(self.backing_flags(flags))?;
        self.change_data(&truncation, provenance)?;
        Ok(self.open_new(ino, flags, descriptor))
    }

    /// Refuses a caller who may not open a file any more. The kernel has let it by attributes that were believed, and these have
    /// just been asked for anew. What an ACL grants is left to the kernel.
    fn check_opening(&self, caller: &Caller, ino: Ino, provenance: &mut Provenance) -> Result<(), Error> {
        const OTHERS_MAY_SOMETHING: u32 = 0o077;
        const OWNER_MAY_OPEN: u32 = 0o600;
        if caller.uid == 0 || !self.needs_permission_checks() {
            return Ok(());
        }
        let attributes = self.view(ino, provenance)?;
        let bits = if attributes.uid == caller.uid { OWNER_MAY_OPEN } else { OTHERS_MAY_SOMETHING };
        if attributes.permissions & bits == 0 { Err(Error::AccessDenied) } else { Ok(()) }
    }

    fn open_cut(&self, caller: &Caller, ino: Ino, flags: i32) -> Result<u64, Error> {
        let opened = self.open_real(ino, self.backing_flags(flags) | O_TRUNC)?;
        self.take_setid(caller, opened.as_fd())?;
        Ok(self.open_new(ino, flags, Some(opened)))
    }

    pub(super) fn open_new(&self, ino: Ino, flags: i32, descriptor: Option<OwnedFd>) -> u64 {
        self.pin(ino);
        let descriptor = descriptor.and_then(|descriptor| self.table.lasting(descriptor));
        let seen = self.lock().records.of(ino).error.map_or(0, |(number, _)| number);
        let path = self.table.path(ino);
        let handle = self.files.add(OpenFile::new(ino, path, flags, descriptor, seen));
        self.note_writers(ino);
        self.count_delays_anew(ino);
        handle
    }

    /// A file has been opened or closed: whether this client ignores what others write to it may be another matter now.
    fn note_writers(&self, ino: Ino) {
        let is_written = self.in_force().policy.writer_ignores && self.files.is_open_for_writing(ino);
        self.lock().belief.is_written_here(ino, is_written);
    }

    /// What `close(2)` of any descriptor on an open file reports.
    ///
    /// # Errors
    /// The error of an earlier landing, once.
    pub fn flush(self: &Arc<Self>, caller: &Caller, handle: u64) -> Call<'_, impl Run<()>> {
        let flush = self.call_on_file(Operation::Flush, caller, handle, move |client, file, _, _| {
            client.report_late_error(file)
        });
        match self.files.get(handle) {
            Ok(file) if file.is_writable() => flush.flushes(FlushPoint::Close, Flushed::Inode(file.ino)),
            _ => flush,
        }
    }

    /// Puts an open file, its name and its directories where they survive a crash: it is over when they are in the backing
    /// directory and synced there.
    ///
    /// # Errors
    /// EBADF; the error of an earlier landing, once; whatever the backing directory answers.
    pub fn fsync(self: &Arc<Self>, caller: &Caller, handle: u64, data_only: bool) -> Call<'_, impl Run<()>> {
        let fsync = self.call_on_file(Operation::Fsync, caller, handle, |client, file, _, _| {
            client.report_late_error(file)
        });
        fsync.until_synced(data_only)
    }

    /// Closes an open file for good.
    pub fn release(&self, handle: u64) {
        let Some(file) = self.files.remove(handle) else { return };
        if let Some(descriptor) = file.descriptor.get().filter(|_| file.is_writable()) {
            self.keep_writer(file.ino, descriptor);
        }
        self.note_writers(file.ino);
        self.count_delays_anew(file.ino);
        if !self.files.is_open(file.ino) {
            self.remove_hidden(file.ino);
        }
        self.unpin(file.ino);
    }
}
