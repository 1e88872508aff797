//! Operations on open files.

use std::{
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{Caller, Client, State, Trace, Version, Watched, open_files::OpenFile, store::clear_permissions};
use crate::{
    backing::sys,
    consistency::{
        Attributes, Change, Ino,
        extents::Layout,
        mutation::{KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, setid_lost},
    },
    error::Error,
};

const SETID: u32 = 0o6000;
const O_TRUNC: i32 = 0o1000;
/// `O_SYNC`, which has the bit of `O_DSYNC` in it.
pub(super) const O_SYNC: i32 = 0o4_010_000;
/// `ENXIO`: what `lseek(2)` answers past the last data or hole.
const ENXIO: i32 = 6;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

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
    /// Opens a file.
    ///
    /// # Errors
    /// ESTALE if the inode is gone (the kernel then looks the name up again); whatever the backing directory answers.
    pub fn open_file(&self, caller: &Caller, ino: Ino, flags: i32) -> Result<u64, Error> {
        self.operate("open", || self.table.path(ino), |trace| self.open_known(caller, ino, flags, trace))
    }

    pub(super) fn open_known(
        &self,
        caller: &Caller,
        ino: Ino,
        flags: i32,
        trace: &mut Trace,
    ) -> Result<u64, Error> {
        let landed = self.table.has_landed(ino);
        let open = |flags| if landed { self.open_real(ino, flags).map(Some) } else { Ok(None) };
        if flags & O_TRUNC == 0 {
            let descriptor = open(self.backing_flags(flags))?;
            return Ok(self.open_new(ino, flags, descriptor));
        }
        let truncation = Change::Resize { ino, size: 0, clears: self.setid_lost(caller, ino, trace)? };
        if landed && self.goes_through(&self.lock(), &truncation) {
            let opened = self.open_real(ino, self.backing_flags(flags) | O_TRUNC);
            self.forget_beliefs(&truncation);
            let opened = opened?;
            self.take_setid(caller, opened.as_fd())?;
            return Ok(self.open_new(ino, flags, Some(opened)));
        }
        let descriptor = open(self.backing_flags(flags))?;
        self.change_data(truncation, trace)?;
        Ok(self.open_new(ino, flags, descriptor))
    }

    /// The permission bits that a file loses when this caller writes to it, in this client's view.
    pub(super) fn setid_lost(&self, caller: &Caller, ino: Ino, trace: &mut Trace) -> Result<u32, Error> {
        if caller.uid == 0 {
            return Ok(0);
        }
        let Attributes { permissions, gid, .. } = self.view(ino, trace)?;
        Ok(if permissions & SETID == 0 { 0 } else { setid_lost(permissions, caller.is_in_group(gid)) })
    }

    /// The same for a file that the caller has just written to directly, of which the store has seen only this process.
    fn take_setid(&self, caller: &Caller, fd: BorrowedFd<'_>) -> Result<(), Error> {
        if caller.uid == 0 || !self.is_root() {
            return Ok(());
        }
        let stat = sys::stat(fd)?;
        if stat.mode & SETID == 0 {
            return Ok(());
        }
        clear_permissions(fd, setid_lost(stat.mode & 0o7777, caller.is_in_group(stat.gid)))
    }

    pub(super) fn open_new(&self, ino: Ino, flags: i32, descriptor: Option<OwnedFd>) -> u64 {
        self.pin(ino);
        let seen = self.lock().errors.get(&ino).map_or(0, |(number, _)| *number);
        self.files.add(OpenFile::new(ino, flags, descriptor, seen))
    }

    /// Reports a failed landing of this file's data once to each open file (`close(2)`, `fsync(2)`).
    fn report_late_error(&self, file: &OpenFile) -> Result<(), Error> {
        let latest = self.lock().errors.get(&file.ino).copied();
        match latest {
            Some((number, error)) if file.learns_of(number) => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads up to `size` bytes at `offset`; fewer where the file ends in this client's view.
    ///
    /// # Errors
    /// EBADF; whatever the backing directory answers.
    pub fn read(&self, handle: u64, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        let file = self.files.get(handle)?;
        self.operate(
            "read",
            || self.table.path(file.ino),
            |trace| {
                if !file.is_readable() {
                    return Err(Error::BadHandle);
                }
                if self.shows_backing_bytes(file.ino) {
                    let mut buffer = vec![0; size];
                    let length = sys::read_at(self.real_file(&file)?.as_fd(), &mut buffer, offset)?;
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                self.read_view(&file, offset, size, trace)
            },
        )
    }

    /// Whether a file's bytes are simply those of the backing directory.
    fn shows_backing_bytes(&self, ino: Ino) -> bool {
        let state = self.lock();
        state.belief.is_off() && !state.in_flight.overlay().touches(ino)
    }

    fn read_view(
        &self,
        file: &OpenFile,
        offset: u64,
        size: usize,
        trace: &mut Trace,
    ) -> Result<Vec<u8>, Error> {
        let own_data = self.knobs.read_your_writes;
        let asked = self.now();
        // Size, bytes in flight, bytes believed and gaps are taken at one moment; only the gaps are read later.
        let (length, mine, believed, gaps, extends) = self.on_base(file.ino, trace, |state, base| {
            let overlay = state.in_flight.overlay();
            let end = overlay.view(file.ino, base, own_data).size.min(offset.saturating_add(size as u64));
            let range = offset..end.max(offset);
            let mine = if own_data { overlay.content(file.ino, range.clone()) } else { Vec::new() };
            let real = range.start..range.end.min(base.size).max(range.start);
            let (believed, gaps) = if overlay.unlanded(file.ino).is_some() {
                (Vec::new(), Vec::new())
            } else {
                state.belief.bytes(file.ino, real, asked)
            };
            let extends = own_data && overlay.has_data(file.ino);
            ((range.end - range.start) as usize, mine, believed, gaps, extends)
        })?;
        let mut buffer = vec![0; length];
        believed.iter().for_each(|segment| segment.lay_over(&mut buffer, offset));
        let mut end = length;
        for gap in gaps.into_iter().filter(|gap| !gap.is_empty()) {
            let (from, to) = ((gap.start - offset) as usize, (gap.end - offset) as usize);
            let read = sys::read_at(self.real_file(file)?.as_fd(), &mut buffer[from..to], gap.start)?;
            let bytes: Arc<[u8]> = buffer[from..from + read].into();
            let now = self.now();
            self.lock().belief.believe_bytes(file.ino, asked, gap.start, &bytes, now);
            if read < to - from && !extends {
                // Somebody has made the file shorter: there is nothing where the believed size says there is.
                end = end.min(from + read);
            }
        }
        buffer.truncate(end);
        mine.iter().for_each(|segment| segment.lay_over(&mut buffer, offset));
        Ok(buffer)
    }

    /// Writes at `place`; returns how much.
    ///
    /// # Errors
    /// EBADF; the error of an earlier landing, once; whatever the backing directory answers, where it goes through.
    pub fn write(&self, caller: &Caller, handle: u64, place: Offset, data: &[u8]) -> Result<usize, Error> {
        let file = self.files.get(handle)?;
        self.operate(
            "write",
            || self.table.path(file.ino),
            |trace| {
                if !file.is_writable() {
                    return Err(Error::BadHandle);
                }
                self.report_late_error(&file)?;
                if data.is_empty() {
                    return Ok(0);
                }
                // What it needs does not depend on the bytes: ask with none, to copy them only if they go in flight.
                let shape = Change::Write { ino: file.ino, offset: 0, data: Arc::default(), clears: 0 };
                if self.goes_through(&self.lock(), &shape) {
                    let written = self.write_through_to(&file, caller, place, data);
                    self.forget_beliefs(&shape);
                    return written;
                }
                self.check_writable()?;
                let start = match place {
                    Offset::At(offset) => offset,
                    Offset::End => self.view(file.ino, trace)?.size,
                };
                self.check_size(start.saturating_add(data.len() as u64))?;
                self.write_late(&file, caller, place, data.into(), trace)?;
                Ok(data.len())
            },
        )
    }

    fn write_through_to(
        &self,
        file: &OpenFile,
        caller: &Caller,
        place: Offset,
        data: &[u8],
    ) -> Result<usize, Error> {
        let descriptor = self.real_file(file)?;
        let written = match place {
            Offset::End => sys::append(descriptor.as_fd(), data)?,
            Offset::At(offset) => sys::write_at(descriptor.as_fd(), data, offset)?,
        };
        self.take_setid(caller, descriptor.as_fd())?;
        Ok(written)
    }

    fn write_late(
        &self,
        file: &OpenFile,
        caller: &Caller,
        place: Offset,
        data: Arc<[u8]>,
        trace: &mut Trace,
    ) -> Result<(), Error> {
        let stamp = self.clock.wall();
        let clears = self.setid_lost(caller, file.ino, trace)?;
        self.on_base(file.ino, trace, |state, base| {
            // The end of the file is where this client's programs see it: two appenders here never overwrite each
            // other, two on different clients may.
            let offset = match place {
                Offset::End => state.in_flight.overlay().view(file.ino, base, true).size,
                Offset::At(offset) => offset,
            };
            let change = Change::Write { ino: file.ino, offset, data, clears };
            self.expect(state, file.ino, base);
            self.put_in_flight(state, change, stamp)
        })?
    }

    /// Remembers what the store looks like under data that goes in flight, to see on landing whether somebody else was
    /// there.
    fn expect(&self, state: &mut State, ino: Ino, base: &Attributes) {
        if state.in_flight.overlay().unlanded(ino).is_none() {
            let version = Version { mtime: state.belief.undisguised_mtime(ino, base), size: base.size };
            state.watched.entry(ino).or_insert(Watched::expecting(version));
        }
    }

    /// Lets a change of data go through or puts it in flight.
    pub(super) fn change_data(&self, change: Change, trace: &mut Trace) -> Result<(), Error> {
        if let Some(outcome) = self.try_through(&change) {
            return outcome.map(drop);
        }
        self.check_writable()?;
        let (ino, stamp) = (change.subject(), self.clock.wall());
        let cut = if let Change::Resize { size, .. } = change { Some(size) } else { None };
        self.on_base(ino, trace, |state, base| {
            self.expect(state, ino, base);
            self.put_in_flight(state, change, stamp)
        })??;
        if let Some(size) = cut {
            self.drop_data_cut_off(ino, size);
        }
        Ok(())
    }

    /// Refuses at once a size that the backing file system cannot hold, found out on a file without a name.
    pub(super) fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= UNDOUBTED_SIZE {
            return Ok(());
        }
        let Ok(nameless) = sys::create_nameless(self.table.root().as_fd()) else { return Ok(()) };
        match sys::resize(nameless.as_fd(), size) {
            Err(error) if error.is(Error::TooBig) || error.is(Error::Invalid) => Err(error),
            _ => Ok(()),
        }
    }

    /// Allocates, punches or zeroes a part of a file (`fallocate(2)`).
    ///
    /// # Errors
    /// EOPNOTSUPP for other modes; ENOSPC if the backing file system has less room than asked for; whatever it
    /// answers, where it goes through.
    pub fn fallocate(&self, handle: u64, mode: i32, offset: u64, length: u64) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        self.operate(
            "fallocate",
            || self.table.path(file.ino),
            |trace| {
                self.report_late_error(&file)?;
                if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
                    return Err(Error::NotSupported);
                }
                let change = Change::Allocate { ino: file.ino, mode, offset, length };
                if !self.goes_through(&self.lock(), &change) {
                    self.check_size(offset.saturating_add(length))?;
                    if mode & PUNCH_HOLE == 0 {
                        self.check_free_space(length)?;
                    }
                }
                self.change_data(change, trace)
            },
        )
    }

    fn check_free_space(&self, length: u64) -> Result<(), Error> {
        let figures = crate::backing::figures(&self.table)?;
        let available = figures.blocks_available.saturating_mul(u64::from(figures.fragment_size));
        if length > available { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Copies between two open files; returns how much.
    ///
    /// # Errors
    /// As for reading and writing.
    pub fn copy_range(&self, caller: &Caller, copy: &Copy) -> Result<usize, Error> {
        let (from, to) = (self.files.get(copy.from)?, self.files.get(copy.to)?);
        let shape = Change::Write { ino: to.ino, offset: copy.to_offset, data: Arc::default(), clears: 0 };
        if self.shows_backing_bytes(from.ino) && self.goes_through(&self.lock(), &shape) {
            return self.operate(
                "copy_file_range",
                || self.table.path(to.ino),
                |_| {
                    let (source, target) = (self.real_file(&from)?, self.real_file(&to)?);
                    let copied = sys::copy_range(
                        source.as_fd(),
                        copy.from_offset,
                        target.as_fd(),
                        copy.to_offset,
                        copy.length,
                    );
                    self.forget_beliefs(&shape);
                    copied
                },
            );
        }
        let size = usize::try_from(copy.length.min(MOST_COPIED)).unwrap_or(0);
        let data = self.read(copy.from, copy.from_offset, size)?;
        self.write(caller, copy.to, Offset::At(copy.to_offset), &data)
    }

    /// Finds data or a hole (`lseek(2)` with `SEEK_DATA` or `SEEK_HOLE`).
    ///
    /// # Errors
    /// ENXIO past the end, or past the last data; EINVAL for anything else to look for; whatever the backing directory
    /// answers.
    pub fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64, Error> {
        let file = self.files.get(handle)?;
        self.operate(
            "lseek",
            || self.table.path(file.ino),
            |trace| {
                let wanted = match whence {
                    SEEK_DATA => Layout::Data,
                    SEEK_HOLE => Layout::Hole,
                    _ => return Err(Error::Invalid),
                };
                if !self.lock().in_flight.overlay().has_data(file.ino) && self.table.has_landed(file.ino) {
                    return sys::seek(self.real_file(&file)?.as_fd(), offset, whence);
                }
                let offset = u64::try_from(offset).map_err(|_| Error::System(ENXIO))?;
                let found = self.seek_view(&file, offset, wanted, trace)?;
                Ok(i64::try_from(found).unwrap_or(i64::MAX))
            },
        )
    }

    fn seek_view(
        &self,
        file: &OpenFile,
        offset: u64,
        wanted: Layout,
        trace: &mut Trace,
    ) -> Result<u64, Error> {
        let own_data = self.knobs.read_your_writes;
        let (size, below, parts) = self.on_base(file.ino, trace, |state, base| {
            let overlay = state.in_flight.overlay();
            let size = overlay.view(file.ino, base, own_data).size;
            let below = if overlay.unlanded(file.ino).is_some() { 0 } else { base.size };
            let range = offset..size.max(offset);
            let block = u64::from(base.block_size).max(1);
            let all = vec![(range.clone(), Layout::Below)];
            (size, below, if own_data { overlay.layout(file.ino, range, block) } else { all })
        })?;
        if offset >= size {
            return Err(Error::System(ENXIO));
        }
        for (range, layout) in parts {
            let found = match layout {
                Layout::Below => self.seek_below(file, range, below, wanted)?,
                layout => (layout == wanted).then_some(range.start),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        // Every file ends in a hole.
        if wanted == Layout::Hole { Ok(size) } else { Err(Error::System(ENXIO)) }
    }

    /// Where in `range` the real file, of which `size` bytes count, has what is looked for. Past its end is a hole.
    fn seek_below(
        &self,
        file: &OpenFile,
        range: Range<u64>,
        size: u64,
        wanted: Layout,
    ) -> Result<Option<u64>, Error> {
        let end = range.end.min(size);
        let past_end = (wanted == Layout::Hole && size < range.end).then_some(size.max(range.start));
        if range.start >= end {
            return Ok(past_end);
        }
        let whence = if wanted == Layout::Data { SEEK_DATA } else { SEEK_HOLE };
        let start = i64::try_from(range.start).map_err(|_| Error::Invalid)?;
        match sys::seek(self.real_file(file)?.as_fd(), start, whence) {
            Ok(found) if found.unsigned_abs() < end => Ok(Some(found.unsigned_abs())),
            Err(error) if !error.is(Error::System(ENXIO)) => Err(error),
            _ => Ok(past_end),
        }
    }

    /// What `close(2)` of any descriptor on an open file reports.
    ///
    /// # Errors
    /// The error of an earlier landing, once.
    pub fn flush(&self, handle: u64) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        self.operate("flush", || self.table.path(file.ino), |_| self.report_late_error(&file))
    }

    /// Whether a write through a handle is to be published before it returns (`O_SYNC`, `O_DSYNC`).
    pub fn writes_synced(&self, handle: u64) -> bool {
        self.files.get(handle).is_ok_and(|file| file.flags & O_SYNC != 0)
    }

    /// Closes an open file for good.
    pub fn release(&self, handle: u64) {
        let Some(file) = self.files.remove(handle) else { return };
        if let Some(descriptor) = file.descriptor.get().filter(|_| file.is_writable()) {
            self.keep_writer(file.ino, descriptor);
        }
        self.unpin(file.ino);
    }

    /// The inode behind a file handle, after reporting the error of an earlier landing: what `fsync(2)` starts with.
    ///
    /// # Errors
    /// EBADF; the error of an earlier landing, once.
    pub fn start_sync(&self, handle: u64) -> Result<Ino, Error> {
        let file = self.files.get(handle)?;
        self.report_late_error(&file)?;
        Ok(file.ino)
    }

    /// Takes note that `fsync(2)` has just reported the latest landing error of an open file.
    pub fn has_reported(&self, handle: u64) {
        if let Ok(file) = self.files.get(handle) {
            let _ = self.report_late_error(&file);
        }
    }
}
