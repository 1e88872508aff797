//! Bytes that were read: they are believed for as long as the attributes that they go with.

use std::{ops::Range, sync::Arc};

use super::{Belief, Content};
use crate::{
    consistency::{
        attributes::Ino,
        extents::{Extents, Segment},
    },
    time::Time,
};

/// What keeping a piece of content costs besides its bytes, so that a million tiny files are bounded, too.
pub(super) const PIECE_COST: u64 = 256;

impl Belief {
    /// The bytes believed within `range` of a file, and the gaps that have to be asked for.
    pub fn bytes(&self, ino: Ino, range: Range<u64>, now: Time) -> (Vec<Segment>, Vec<Range<u64>>) {
        let of = self.fetch_of(ino, now);
        match self.contents.get(&ino).filter(|content| Some(content.of) == of) {
            Some(content) => (content.bytes.within(range.clone()), content.bytes.gaps(range)),
            None => (Vec::new(), vec![range]),
        }
    }

    /// Keeps bytes that were asked for to fill a gap while the attributes of the fetch numbered `of` were believed, if
    /// they still are. Returns what another read has filled of the gap meanwhile: a program may have been shown that
    /// already, so it stays, and goes before what was read now.
    pub fn believe_bytes(
        &mut self,
        ino: Ino,
        of: u64,
        offset: u64,
        data: &Arc<[u8]>,
        now: Time,
    ) -> Vec<Segment> {
        let length = data.len() as u64;
        let believed = self.fetch_of(ino, now);
        if length == 0 || length > self.most / 2 || believed != Some(of) {
            return Vec::new();
        }
        if self.contents.get(&ino).is_none_or(|content| content.of != of) {
            self.start_content(ino, of);
        }
        let Some(content) = self.contents.get_mut(&ino) else { return Vec::new() };
        let before = content.bytes.within(offset..offset + length);
        for gap in content.bytes.gaps(offset..offset + length) {
            let part = (gap.start - offset) as usize..(gap.end - offset) as usize;
            let part = if part.len() == data.len() { data.clone() } else { data[part].into() };
            let cost = part.len() as u64 + PIECE_COST;
            content.held += cost;
            self.bytes_held += cost;
            content.bytes.put(gap.start, part, 0);
        }
        self.make_room();
        before
    }

    /// The number of the fetch of the attributes that bytes go with. Where there is evidence of changes, it counts even when its
    /// time is over: whoever reads has been answered the attributes, anew if need be.
    pub fn fetch_of(&self, ino: Ino, now: Time) -> Option<u64> {
        match self.tracks.version(ino) {
            0 => self.attributes.get(&ino, now).map(|believed| believed.number),
            _ => self.attributes.number_of(&ino),
        }
    }

    /// Attributes have been fetched: bytes go on being believed with them if they are the same, or if the file is open here for
    /// writing on a storage where others' changes are ignored then.
    pub(super) fn keep_or_drop_content(&mut self, ino: Ino, is_believed: bool, is_same: bool) {
        let is_written = !self.written.is_empty() && self.written.contains(&ino);
        let of = self.attributes.newest();
        match self.contents.get_mut(&ino) {
            Some(content) if is_believed && (is_written || is_same && !content.is_outdated) => {
                content.of = of;
                content.is_outdated |= !is_same;
            }
            Some(_) => self.drop_content(ino),
            None => {}
        }
    }

    fn start_content(&mut self, ino: Ino, of: u64) {
        self.drop_content(ino);
        self.last_serial += 1;
        let serial = self.last_serial;
        self.contents
            .insert(ino, Content { of, bytes: Extents::default(), held: 0, serial, is_outdated: false });
        self.read_order.push_back((ino, serial));
        if self.read_order.len() > 2 * self.contents.len() + 1024 {
            let contents = &self.contents;
            self.read_order
                .retain(|(ino, serial)| contents.get(ino).is_some_and(|content| content.serial == *serial));
        }
    }

    pub(super) fn drop_content(&mut self, ino: Ino) {
        if let Some(content) = self.contents.remove(&ino) {
            self.bytes_held -= content.held;
        }
    }

    pub(super) fn drop_file(&mut self, ino: Ino) {
        self.drop_content(ino);
        self.attributes.invalidate(&ino);
    }
}
