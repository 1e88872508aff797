//! Finding data and holes.

use std::{ops::Range, os::fd::AsFd, sync::Arc};

use super::{Call, Caller, Client, OpenFile, Provenance, Run};
use crate::{
    backing::{
        flags::{SEEK_DATA, SEEK_HOLE},
        sys,
    },
    consistency::extents::Layout,
    error::Error,
    operation::Operation,
};

/// `ENXIO`: what `lseek(2)` answers past the last data or hole.
const ENXIO: i32 = 6;

impl Client {
    /// Finds data or a hole (`lseek(2)` with `SEEK_DATA` or `SEEK_HOLE`).
    ///
    /// # Errors
    /// ENXIO past the end, or past the last data; EINVAL for anything else to look for; whatever the backing directory
    /// answers.
    pub fn seek(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        offset: i64,
        whence: i32,
    ) -> Call<'_, impl Run<i64>> {
        self.call_on_file(Operation::Lseek, caller, handle, move |client, file, _, provenance| {
            let wanted = match whence {
                SEEK_DATA => Layout::Data,
                SEEK_HOLE => Layout::Hole,
                _ => return Err(Error::Invalid),
            };
            if !client.lock().in_flight.overlay().has_data(file.ino) && client.table.has_landed(file.ino) {
                return sys::seek(client.real_file(file)?.as_fd(), offset, whence);
            }
            let offset = u64::try_from(offset).map_err(|_| Error::of(ENXIO))?;
            let found = client.seek_view(file, offset, wanted, provenance)?;
            Ok(i64::try_from(found).unwrap_or(i64::MAX))
        })
    }

    fn seek_view(
        &self,
        file: &OpenFile,
        offset: u64,
        wanted: Layout,
        provenance: &mut Provenance,
    ) -> Result<u64, Error> {
        let own_data = self.in_force().policy.read_your_writes;
        let (size, below, parts) = self.on_base(file.ino, provenance, |state, base, _| {
            let overlay = state.in_flight.overlay();
            let size = overlay.view(file.ino, base, own_data).size;
            let below = if overlay.unlanded(file.ino).is_some() { 0 } else { base.size };
            let range = offset..size.max(offset);
            let block = u64::from(base.block_size).max(1);
            let all = vec![(range.clone(), Layout::Below)];
            (size, below, if own_data { overlay.layout(file.ino, range, block) } else { all })
        })?;
        if offset >= size {
            return Err(Error::of(ENXIO));
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
        if wanted == Layout::Hole { Ok(size) } else { Err(Error::of(ENXIO)) }
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
            Err(error) if error != Error::of(ENXIO) => Err(error),
            _ => Ok(past_end),
        }
    }
}
