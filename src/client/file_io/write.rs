//! Changes of data: writing, cutting, allocating, copying.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use super::{Caller, Client, OpenFile, Provenance, State, Version, Watched};
use crate::{
    backing::{flags::O_SYNC, sys},
    client::call::{Call, Run, Subject},
    consistency::{
        Attributes, Change, Ino, Route,
        mutation::{KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE},
        policy::{AppendAt, Policy, Unlinked, WriteUnit, WritesAt},
    },
    error::Error,
    operation::Operation,
    time::Timestamp,
};

/// Sizes up to this are taken for granted; beyond, the backing file system is asked whether it can hold them.
const UNDOUBTED_SIZE: u64 = 1 << 40;

/// The most that one `copy_file_range(2)` copies through this process; the program is told how much it was.
const MOST_COPIED: u64 = 4 << 20;

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
pub enum Offset {
    /// Where it says.
    At(u64),
    /// To the end of the file, wherever that is then (`O_APPEND`).
    End,
}

/// The two ends of a `copy_file_range(2)`.
#[expect(missing_docs, reason = "the arguments of copy_file_range(2), with handles for descriptors")]
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub from: u64,
    pub from_offset: u64,
    pub to: u64,
    pub to_offset: u64,
    pub length: u64,
}

impl Client {
    /// Writes at `place`; returns how much.
    ///
    /// # Errors
    /// EBADF; the error of an earlier landing, once; whatever the backing directory answers, where it goes through.
    pub fn write<'a>(
        self: &'a Arc<Self>,
        caller: &Caller,
        handle: u64,
        place: Offset,
        data: &'a [u8],
    ) -> Call<'a, impl Run<usize>> {
        let write =
            self.call_on_file(Operation::Write, caller, handle, move |client, file, asked, provenance| {
                client.write_to(file, asked.caller, place, asked.data, provenance)
            });
        write.with_data(data)
    }

    /// The same for a write that is over when it has been synced (`O_SYNC`, `O_DSYNC`, `RWF_SYNC`, `RWF_DSYNC`).
    ///
    /// # Errors
    /// As for any write, and as for `fsync(2)`.
    pub fn write_synced<'a>(
        self: &'a Arc<Self>,
        caller: &Caller,
        handle: u64,
        place: Offset,
        data: &'a [u8],
    ) -> Call<'a, impl Run<usize>> {
        self.write(caller, handle, place, data).until_synced(false)
    }

    fn write_to(
        &self,
        file: &OpenFile,
        caller: &Caller,
        place: Offset,
        data: &[u8],
        provenance: &mut Provenance,
    ) -> Result<usize, Error> {
        if !file.is_writable() {
            return Err(Error::BadHandle);
        }
        self.report_late_error(file)?;
        if data.is_empty() {
            return Ok(0);
        }
        if self.in_force().policy.writes_at == WritesAt::End
            && let Offset::At(offset) = place
            && offset != self.view(file.ino, provenance)?.size
        {
            return Err(Error::Invalid);
        }
        // What it needs does not depend on the bytes: ask with none, to copy them only if they go in flight.
        let shape = Change::Write { ino: file.ino, offset: 0, data: Arc::default(), clears: 0 };
        let through = |_: &mut _| self.write_through_to(file, caller, place, data);
        let late = |provenance: &mut _| self.write_late(file, caller, place, data, provenance);
        self.submit(&shape, provenance, through, late)
    }

    fn write_through_to(
        &self,
        file: &OpenFile,
        caller: &Caller,
        place: Offset,
        data: &[u8],
    ) -> Result<usize, Error> {
        let descriptor = self.real_file(file)?;
        let Policy { write_unit, unlinked, append_at, .. } = self.in_force().policy;
        if unlinked == Unlinked::Stale
            && sys::stat(descriptor.as_fd())?.links == 0
            && !self.lock().has_removed(file.ino)
        {
            return Err(Error::Stale);
        }
        let written = match place {
            Offset::At(offset) if write_unit == WriteUnit::Pages && !self.is_exact(file) => {
                self.write_pages(file, descriptor.as_fd(), offset, data)?
            }
            Offset::End if append_at == AppendAt::KnownEnd => {
                let end = match self.lock().belief.last_size(file.ino) {
                    Some(size) => size,
                    None => sys::stat(descriptor.as_fd())?.size,
                };
                let written = sys::write_at(descriptor.as_fd(), data, end)?;
                self.lock().belief.note_size(file.ino, end + written as u64);
                written
            }
            Offset::End => sys::append(descriptor.as_fd(), data)?,
            Offset::At(offset) => sys::write_at(descriptor.as_fd(), data, offset)?,
        };
        self.take_setid(caller, descriptor.as_fd())?;
        Ok(written)
    }

    /// Whether writes go out as they are, whatever the storage's unit: where each is synced, or others may have locked the rest of
    /// a page (fs/nfs/write.c, `nfs_can_extend_write`).
    fn is_exact(&self, file: &OpenFile) -> bool {
        file.flags & O_SYNC != 0 || self.has_part_locked(file.ino)
    }

    /// Writes the whole of the pages that are believed, at once; returns how much of it was asked for.
    fn write_pages(
        &self,
        file: &OpenFile,
        descriptor: BorrowedFd<'_>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Error> {
        let (start, whole) = self.on_base(file.ino, &mut Provenance::default(), |state, base, now| {
            let policy = &self.in_force().policy;
            state.core(policy).in_units(file.ino, base, offset, Arc::from(data), now)
        })?;
        let before = usize::try_from(offset - start).unwrap_or(0);
        Ok(sys::write_at(descriptor, &whole, start)?.saturating_sub(before).min(data.len()))
    }

    fn write_late(
        &self,
        file: &OpenFile,
        caller: &Caller,
        place: Offset,
        data: &[u8],
        provenance: &mut Provenance,
    ) -> Result<usize, Error> {
        let start = match place {
            Offset::At(offset) => offset,
            Offset::End => self.view(file.ino, provenance)?.size,
        };
        self.check_size(start.saturating_add(data.len() as u64))?;
        let (length, data) = (data.len(), Arc::from(data));
        let stamp = self.clock.wall();
        let clears = self.setid_lost(caller, file.ino, provenance)?;
        let ino = file.ino;
        let is_exact = self.is_exact(file);
        self.add_on_base(ino, provenance, |state, base| {
            let policy = &self.in_force().policy;
            // The end of the file is where this client's programs see it: two appenders here never overwrite each
            // other, two on different clients may.
            let offset = match place {
                Offset::End => state.core(policy).end_of(ino, base),
                Offset::At(offset) => offset,
            };
            let (offset, data) = match is_exact {
                true => (offset, data),
                false => state.core(policy).in_units(ino, base, offset, data, self.now()),
            };
            (Change::Write { ino, offset, data, clears }, stamp)
        })?;
        Ok(length)
    }

    /// Puts a change of a file's data in flight. It is made for what lies under the overlay, which is remembered, to see
    /// on landing whether somebody else was there.
    fn add_on_base(
        &self,
        ino: Ino,
        provenance: &mut Provenance,
        change: impl FnOnce(&mut State, &Attributes) -> (Change, Timestamp),
    ) -> Result<(), Error> {
        self.on_base(ino, provenance, |state, base, _| {
            let (change, stamp) = change(state, base);
            self.watch_version(state, ino, base);
            self.put_in_flight(state, change, stamp)
        })?
    }

    fn watch_version(&self, state: &mut State, ino: Ino, base: &Attributes) {
        if state.in_flight.overlay().unlanded(ino).is_none() {
            let version = Version { mtime: state.belief.undisguised_mtime(ino, base), size: base.size };
            state
                .records
                .change(ino, |record| record.watched.get_or_insert(Watched::expecting(version)).to_owned());
        }
    }

    /// Lets a change of data that needs no open file go through or puts it in flight.
    pub(in crate::client) fn change_data(
        &self,
        change: &Change,
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        let late = |provenance: &mut _| self.change_data_late(change, provenance);
        self.submit(change, provenance, |_| self.apply(change).map(drop), late)
    }

    fn change_data_late(&self, change: &Change, provenance: &mut Provenance) -> Result<(), Error> {
        let (ino, stamp) = (change.subject(), self.clock.wall());
        self.add_on_base(ino, provenance, |_, _| (change.clone(), stamp))?;
        if let Change::Resize { size, .. } = change {
            self.drop_data_cut_off(ino, *size);
        }
        Ok(())
    }

    /// Refuses at once a size that the backing file system cannot hold, found out on a file without a name.
    pub(in crate::client) fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= UNDOUBTED_SIZE {
            return Ok(());
        }
        let Ok(nameless) = sys::create_nameless(self.table.root().as_fd()) else { return Ok(()) };
        match sys::resize(nameless.as_fd(), size) {
            Err(error) if error == Error::TooBig || error == Error::Invalid => Err(error),
            _ => Ok(()),
        }
    }

    /// Allocates, punches or zeroes a part of a file (`fallocate(2)`).
    ///
    /// # Errors
    /// EOPNOTSUPP for other modes; ENOSPC if the backing file system has less room than asked for; whatever it
    /// answers, where it goes through.
    pub fn fallocate(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Call<'_, impl Run<()>> {
        self.call_on_file(Operation::Fallocate, caller, handle, move |client, file, asked, provenance| {
            client.report_late_error(file)?;
            if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
                return Err(Error::NotSupported);
            }
            let clears = client.setid_lost(asked.caller, file.ino, provenance)?;
            let change = Change::Allocate { ino: file.ino, mode, offset, length, clears };
            let late = |provenance: &mut _| {
                client.check_size(offset.saturating_add(length))?;
                if mode & PUNCH_HOLE == 0 {
                    client.check_free_space(length)?;
                }
                client.change_data_late(&change, provenance)
            };
            client.submit(&change, provenance, |_| client.apply(&change).map(drop), late)
        })
    }

    fn check_free_space(&self, length: u64) -> Result<(), Error> {
        let figures = crate::backing::figures(&self.table)?;
        let available = figures.blocks_available.saturating_mul(u64::from(figures.fragment_size));
        if length > available { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Copies between two open files; returns how much. Where the target was opened with `O_SYNC` or `O_DSYNC` it is over
    /// when that has been synced.
    ///
    /// # Errors
    /// As for reading and writing.
    pub fn copy_range(self: &Arc<Self>, caller: &Caller, copy: Copy) -> Call<'_, impl Run<usize>> {
        let (from, to) = (self.files.get(copy.from), self.files.get(copy.to));
        let is_synced = to.as_ref().is_ok_and(|to| to.flags & O_SYNC != 0);
        let subject = Subject::File(to.clone());
        let run =
            Call::new(self, Operation::CopyFileRange, caller, subject, move |client, asked, provenance| {
                client.copy_between(asked.caller, (&*from?, &*to?), &copy, provenance)
            });
        if is_synced { run.until_synced(false) } else { run }
    }

    /// The backing file system copies where both files are simply its own, else this process does.
    fn copy_between(
        &self,
        caller: &Caller,
        (from, to): (&OpenFile, &OpenFile),
        copy: &Copy,
        provenance: &mut Provenance,
    ) -> Result<usize, Error> {
        let shape = Change::Write { ino: to.ino, offset: copy.to_offset, data: Arc::default(), clears: 0 };
        if self.shows_backing_bytes(from) && self.route(&shape) == Route::Through {
            return self.go_through(&shape, || self.copy_in_store(caller, (from, to), copy));
        }
        let size = usize::try_from(copy.length.min(MOST_COPIED)).unwrap_or(0);
        let data = self.read_from(from, copy.from_offset, size, provenance)?;
        self.write_to(to, caller, Offset::At(copy.to_offset), &data, provenance)
    }

    fn copy_in_store(
        &self,
        caller: &Caller,
        (from, to): (&OpenFile, &OpenFile),
        copy: &Copy,
    ) -> Result<usize, Error> {
        let (source, target) = (self.real_file(from)?, self.real_file(to)?);
        let (source, offsets) = (source.as_fd(), (copy.from_offset, copy.to_offset));
        let copied = sys::copy_range(source, offsets.0, target.as_fd(), offsets.1, copy.length)?;
        self.take_setid(caller, target.as_fd())?;
        Ok(copied)
    }
}
