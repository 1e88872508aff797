//! Writing in whole pages: where a page that a program writes into is believed, it goes out as a whole, the old bytes with
//! the new ones. So two clients that write to different parts of a page undo each other's writes, and a write to the end of a
//! file that others have cut brings back what they cut off.

use std::{ops::Range, sync::Arc};

use super::{
    attributes::{Attributes, Ino},
    core::Core,
    policy::WriteUnit,
};
use crate::time::Time;

/// What a page is.
const PAGE: u64 = 4096;

impl Core<'_> {
    /// What goes out for a write of `data` at `offset` to a file of which `base` is believed: it and what is known of the
    /// pages at its ends.
    pub fn in_units(
        &self,
        ino: Ino,
        base: &Attributes,
        offset: u64,
        data: Arc<[u8]>,
        now: Time,
    ) -> (u64, Arc<[u8]>) {
        if self.policy.write_unit == WriteUnit::Bytes || data.is_empty() {
            return (offset, data);
        }
        let (end, size) = (offset + data.len() as u64, self.view(ino, base).size);
        let first = offset - offset % PAGE;
        let last = end.next_multiple_of(PAGE).min(size.max(end));
        let before = self.known_bytes(ino, base, first..offset, now);
        let after = self.known_bytes(ino, base, end..last, now);
        // A page is known only as a whole. Where both ends are in one, each needs the other.
        let is_one_page = end <= first + PAGE;
        if is_one_page && (before.is_none() || after.is_none()) {
            return (offset, data);
        }
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        (offset - before.len() as u64, [before.as_slice(), &data, after.as_slice()].concat().into())
    }

    /// The bytes of a part of a file, if all of them are in flight or believed.
    fn known_bytes(&self, ino: Ino, base: &Attributes, range: Range<u64>, now: Time) -> Option<Vec<u8>> {
        if range.is_empty() {
            return Some(Vec::new());
        }
        let mine = self.in_flight.overlay().content(ino, range.clone());
        let real = range.start..range.end.min(base.size).max(range.start);
        let (believed, gaps) = self.belief.bytes(ino, real, now);
        let is_mine = |gap: &Range<u64>| mine.covers(gap.clone());
        if !gaps.iter().filter(|gap| !gap.is_empty()).all(is_mine) {
            return None;
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        believed.iter().for_each(|segment| segment.lay_over(&mut bytes, range.start));
        mine.lay_over(&mut bytes, range.start);
        Some(bytes)
    }
}
