//! Reading in this client's view.

use std::{os::fd::AsFd, sync::Arc};

use super::{Client, OpenFile, Trace};
use crate::{backing::sys, consistency::extents::Patch, error::Error};

impl Client {
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
                if self.shows_backing_bytes(&file) {
                    let mut buffer = vec![0; size];
                    let length = sys::read_at(self.real_file(&file)?.as_fd(), &mut buffer, offset)?;
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                self.read_view(&file, offset, size, trace)
            },
        )
    }

    /// Whether a file's bytes are simply those of the backing directory: none are believed, or it is the kernel that
    /// believes them.
    pub(super) fn shows_backing_bytes(&self, file: &OpenFile) -> bool {
        let state = self.lock();
        (state.belief.is_off() || file.is_kept()) && !state.in_flight.overlay().touches(file.ino)
    }

    fn read_view(
        &self,
        file: &OpenFile,
        offset: u64,
        size: usize,
        trace: &mut Trace,
    ) -> Result<Vec<u8>, Error> {
        let own_data = self.in_force().knobs.read_your_writes;
        let asked = self.now();
        // Size, bytes in flight, bytes believed and gaps are taken at one moment; only the gaps are read later.
        let (length, mine, believed, gaps, extends) = self.on_base(file.ino, trace, |state, base| {
            let overlay = state.in_flight.overlay();
            let end = overlay.view(file.ino, base, own_data).size.min(offset.saturating_add(size as u64));
            let range = offset..end.max(offset);
            let mine = if own_data { overlay.content(file.ino, range.clone()) } else { Patch::default() };
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
        mine.lay_over(&mut buffer, offset);
        Ok(buffer)
    }
}
