//! Reading in this client's view.

use std::{
    ops::{Deref, Range},
    os::fd::AsFd,
    sync::{Arc, Mutex},
};

use super::{Call, Caller, Client, OpenFile, Provenance, Run};
use crate::{
    backing::{flags::O_DIRECT, sys},
    client::locked,
    consistency::{
        policy::{ReadsAsk, Unlinked},
        reading::ReadPlan,
    },
    error::Error,
    operation::Operation,
};

/// How many buffers this process keeps for the next reads, and how large ones: to clear a new one for each read takes
/// longer than a small read.
const MOST_SPARE: usize = 4;
const LARGEST_SPARE: usize = 1 << 20;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes that were read.
#[derive(Debug)]
pub enum Bytes {
    /// Into a buffer that is used again.
    Copied(Copied),
    /// And are believed.
    Shared(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Copied(copied) => &copied.buffer[..copied.length],
            Bytes::Shared(bytes) => bytes,
        }
    }
}

/// The first `length` bytes of a buffer that goes back to the spare ones.
#[derive(Debug)]
pub struct Copied {
    buffer: Vec<u8>,
    length: usize,
}

impl Copied {
    /// Room for `length` bytes, with anything in it.
    fn room(length: usize) -> Result<Copied, Error> {
        let mut buffer = locked(&SPARE).pop().unwrap_or_default();
        if buffer.len() < length {
            sys::expect_memory(length)?;
            buffer.resize(length, 0);
        }
        Ok(Copied { buffer, length })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut spare = locked(&SPARE);
        if self.buffer.len() <= LARGEST_SPARE && spare.len() < MOST_SPARE {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Client {
    /// Reads up to `size` bytes at `offset`; fewer where the file ends in this client's view.
    ///
    /// # Errors
    /// EBADF; whatever the backing directory answers.
    pub fn read(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        offset: u64,
        size: usize,
    ) -> Call<'_, impl Run<Bytes>> {
        self.call_on_file(Operation::Read, caller, handle, move |client, file, _, provenance| {
            client.read_from(file, offset, size, provenance)
        })
    }

    pub(super) fn read_from(
        &self,
        file: &OpenFile,
        offset: u64,
        size: usize,
        provenance: &mut Provenance,
    ) -> Result<Bytes, Error> {
        if !file.is_readable() {
            return Err(Error::BadHandle);
        }
        let asks = match self.in_force().policy.reads_ask {
            ReadsAsk::None => false,
            ReadsAsk::Direct => file.flags & O_DIRECT != 0,
            ReadsAsk::All => true,
        };
        if asks && self.believes() {
            self.ask_anew(file.ino, provenance)?;
        }
        if self.shows_backing_bytes(file) {
            return self.read_backing(file, offset, size);
        }
        match self.read_view(file, offset, size, provenance) {
            // Its path leads nowhere any more, and its handle is still good.
            Err(Error::NotFound) => self.read_backing(file, offset, size),
            read => read,
        }
    }

    fn read_backing(&self, file: &OpenFile, offset: u64, size: usize) -> Result<Bytes, Error> {
        let mut bytes = Copied::room(size)?;
        let room = &mut bytes.buffer[..size];
        bytes.length = sys::read_at(self.real_file(file)?.as_fd(), room, offset)?;
        Ok(Bytes::Copied(bytes))
    }

    /// Whether a file's bytes are simply those of the backing directory: none are believed, or it is the kernel that
    /// believes them.
    pub(super) fn shows_backing_bytes(&self, file: &OpenFile) -> bool {
        let state = self.lock();
        let is_bound = self.in_force().policy.unlinked != Unlinked::Stays;
        (!self.believes() && !is_bound || file.is_kept()) && !state.in_flight.overlay().touches(file.ino)
    }

    fn read_view(
        &self,
        file: &OpenFile,
        offset: u64,
        size: usize,
        provenance: &mut Provenance,
    ) -> Result<Bytes, Error> {
        let asked = offset..offset.saturating_add(size as u64);
        let plan = self.on_base(file.ino, provenance, |state, base, now| {
            state.core(&self.in_force().policy).plan_read(file.ino, base, asked, now)
        })?;
        let length = (plan.range.end - plan.range.start) as usize;
        if !plan.is_extended && plan.gaps.as_slice() == std::slice::from_ref(&plan.range) {
            return Ok(Bytes::Shared(self.read_gap(file, &plan, plan.range.clone())?));
        }
        let mut bytes = Copied::room(length)?;
        let buffer = &mut bytes.buffer[..length];
        buffer.fill(0);
        plan.believed.iter().for_each(|segment| segment.lay_over(buffer, offset));
        let mut end = length;
        for gap in plan.gaps.iter().filter(|gap| !gap.is_empty()) {
            let (from, to) = ((gap.start - offset) as usize, (gap.end - offset) as usize);
            let read = self.read_gap(file, &plan, gap.clone())?;
            buffer[from..from + read.len()].copy_from_slice(&read);
            if read.len() < to - from && !plan.is_extended {
                // Somebody has made the file shorter: there is nothing where the believed size says there is.
                end = end.min(from + read.len());
            }
        }
        plan.mine.lay_over(&mut buffer[..end], offset);
        bytes.length = end;
        Ok(Bytes::Copied(bytes))
    }

    /// Reads what nobody has read yet, as far as it goes, and believes it.
    fn read_gap(&self, file: &OpenFile, plan: &ReadPlan, gap: Range<u64>) -> Result<Arc<[u8]>, Error> {
        let length = (gap.end - gap.start) as usize;
        let bytes = sys::read_shared(self.real_file(file)?.as_fd(), length, gap.start)?;
        let mut state = self.lock();
        let now = self.now();
        let before =
            state.core(&self.in_force().policy).believe_bytes(file.ino, plan, gap.start, &bytes, now);
        drop(state);
        if before.is_empty() {
            return Ok(bytes);
        }
        let mut shown = bytes.to_vec();
        before.iter().for_each(|segment| segment.lay_over(&mut shown, gap.start));
        Ok(shown.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shows_as_much_as_was_read_whatever_it_held_before() {
        let room = |length| Bytes::Copied(Copied::room(length).expect("memory"));
        let mut before = Copied::room(LARGEST_SPARE).expect("memory");
        before.buffer.fill(b'x');
        drop(before);
        for length in [0, 3, LARGEST_SPARE, LARGEST_SPARE + 1] {
            assert_eq!(room(length).len(), length);
        }
        drop((0..2 * MOST_SPARE).map(|_| room(LARGEST_SPARE)).collect::<Vec<_>>());
        let spare = locked(&SPARE);
        assert!(spare.len() <= MOST_SPARE && spare.iter().all(|buffer| buffer.len() <= LARGEST_SPARE));
    }
}
