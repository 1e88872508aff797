//! Pieces of one file's content by offset, the latest on top.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Some bytes of a file: a part of a shared buffer, or zeros.
#[derive(Clone, Debug)]
enum Content {
    Bytes { buffer: Arc<[u8]>, skip: usize },
    Zeros,
}

impl Content {
    /// The same content from `by` bytes further on.
    fn advanced(&self, by: u64) -> Content {
        match self {
            Content::Bytes { buffer, skip } => {
                Content::Bytes { buffer: buffer.clone(), skip: skip + by as usize }
            }
            Content::Zeros => Content::Zeros,
        }
    }
}

#[derive(Clone, Debug)]
struct Piece {
    end: u64,
    content: Content,
    owner: u64,
}

/// Pieces that do not overlap. Each belongs to an owner (a mutation, say), who can be removed with all that is still
/// his.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    pieces: BTreeMap<u64, Piece>,
}

/// A run of content that covers part of a range that was asked for.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it lies in the file.
    pub range: Range<u64>,
    content: Content,
}

impl Segment {
    /// Lays this content over `buffer`, which holds the file from `offset` on. What lies outside is left out.
    pub fn lay_over(&self, buffer: &mut [u8], offset: u64) {
        let end = self.range.end.min(offset + buffer.len() as u64);
        let start = self.range.start.max(offset);
        if start >= end {
            return;
        }
        let target = &mut buffer[(start - offset) as usize..(end - offset) as usize];
        match &self.content {
            Content::Zeros => target.fill(0),
            Content::Bytes { buffer, skip } => {
                let from = skip + (start - self.range.start) as usize;
                target.copy_from_slice(&buffer[from..from + target.len()]);
            }
        }
    }
}

/// A copy of what covers parts of a range that was asked for. What lies side by side is one run, however many pieces it
/// came in: thousands of small ones cost no more to lay over than to copy once.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    bytes: Vec<u8>,
    /// Where each run begins in the file, and where it ends in `bytes`.
    runs: Vec<(u64, usize)>,
}

impl Patch {
    fn add(&mut self, range: Range<u64>, content: &Content, skip: u64) {
        let length = (range.end - range.start) as usize;
        match content {
            Content::Zeros => self.bytes.resize(self.bytes.len() + length, 0),
            Content::Bytes { buffer, skip: before } => {
                let from = before + skip as usize;
                self.bytes.extend_from_slice(&buffer[from..from + length]);
            }
        }
        let end = self.bytes.len();
        let start = self.runs.len().checked_sub(2).map_or(0, |before| self.runs[before].1);
        match self.runs.last_mut() {
            Some((at, last)) if *at + (*last - start) as u64 == range.start => *last = end,
            _ => self.runs.push((range.start, end)),
        }
    }

    /// Whether it covers all of `range`.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut from = 0;
        self.runs.iter().any(|(at, end)| {
            let length = (end - std::mem::replace(&mut from, *end)) as u64;
            *at <= range.start && range.end <= at + length
        })
    }

    /// Lays this content over `buffer`, which holds the file from `offset` on, no later than the range that was asked
    /// for. What lies past its end is left out.
    pub fn lay_over(&self, buffer: &mut [u8], offset: u64) {
        let mut from = 0;
        for (at, end) in &self.runs {
            let to = buffer.len().min((at - offset) as usize);
            let length = (end - from).min(buffer.len() - to);
            buffer[to..to + length].copy_from_slice(&self.bytes[from..from + length]);
            from = *end;
        }
    }
}

/// What a part of a file is to `lseek(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Data.
    Data,
    /// A hole.
    Hole,
    /// Whatever lies below.
    Below,
}

impl Extents {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts `data` at `offset`, over what was there.
    pub fn put(&mut self, offset: u64, data: Arc<[u8]>, owner: u64) {
        let end = offset + data.len() as u64;
        self.insert(offset..end, Content::Bytes { buffer: data, skip: 0 }, owner);
    }

    /// Puts zeros over `range`.
    pub fn put_zeros(&mut self, range: Range<u64>, owner: u64) {
        self.insert(range, Content::Zeros, owner);
    }

    fn insert(&mut self, range: Range<u64>, content: Content, owner: u64) {
        if range.is_empty() {
            return;
        }
        self.clear(range.clone());
        self.pieces.insert(range.start, Piece { end: range.end, content, owner });
    }

    /// Cuts `range` out of all pieces.
    fn clear(&mut self, range: Range<u64>) {
        self.split_at(range.start);
        self.split_at(range.end);
        let inside: Vec<u64> = self.pieces.range(range).map(|(start, _)| *start).collect();
        inside.iter().for_each(|start| drop(self.pieces.remove(start)));
    }

    fn split_at(&mut self, at: u64) {
        let Some((&start, piece)) = self.pieces.range_mut(..at).next_back() else { return };
        if piece.end > at {
            let rest =
                Piece { end: piece.end, content: piece.content.advanced(at - start), owner: piece.owner };
            piece.end = at;
            self.pieces.insert(at, rest);
        }
    }

    /// Removes what is left of `owner`'s pieces within `range`.
    pub fn remove(&mut self, range: Range<u64>, owner: u64) {
        let first = self.pieces.range(..range.start).next_back().map_or(range.start, |(start, _)| *start);
        let his: Vec<u64> = self
            .pieces
            .range(first..range.end)
            .filter(|(_, piece)| piece.owner == owner)
            .map(|(start, _)| *start)
            .collect();
        his.iter().for_each(|start| drop(self.pieces.remove(start)));
    }

    /// The content within `range`, in order. Buffers are shared, not copied.
    pub fn within(&self, range: Range<u64>) -> Vec<Segment> {
        self.parts(range)
            .map(|(range, content, skip)| Segment { range, content: content.advanced(skip) })
            .collect()
    }

    /// A copy of the content within `range`.
    pub fn copy_of(&self, range: Range<u64>) -> Patch {
        let mut patch = Patch::default();
        self.parts(range).for_each(|(range, content, skip)| patch.add(range, content, skip));
        patch
    }

    /// The pieces within `range`, in order: the part of it that each covers, and how far into its content that begins.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &Content, u64)> {
        let before = self.pieces.range(..range.start).next_back();
        let inside = self.pieces.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(inside)
            .filter(move |(_, piece)| piece.end > range.start)
            .map(move |(&start, piece)| {
                let from = start.max(range.start);
                (from..piece.end.min(range.end), &piece.content, from - start)
            })
            .filter(|(part, ..)| !part.is_empty())
    }

    /// Where data and holes are within `range`, in order, for a store that keeps whole blocks: one byte makes its block
    /// data, and only a whole block of zeros makes a hole.
    pub fn layout(&self, range: Range<u64>, block: u64) -> Vec<(Range<u64>, Layout)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let floor = |at: u64| at - at % block;
        // From the first block on, because the piece that decides over it may begin before the range.
        for Segment { range: piece, content } in self.within(floor(range.start)..range.end) {
            let (start, end, layout) = match content {
                Content::Bytes { .. } => {
                    (floor(piece.start), piece.end.next_multiple_of(block), Layout::Data)
                }
                Content::Zeros => {
                    let end = if piece.end == range.end { piece.end } else { floor(piece.end) };
                    (piece.start.next_multiple_of(block), end, Layout::Hole)
                }
            };
            let (start, end) = (start.max(at), end.min(range.end));
            if start >= end {
                continue;
            }
            if start > at {
                parts.push((at..start, Layout::Below));
            }
            parts.push((start..end, layout));
            at = end;
        }
        if at < range.end {
            parts.push((at..range.end, Layout::Below));
        }
        parts
    }

    /// The parts of `range` that nothing covers, in order.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for segment in self.within(range.clone()) {
            if segment.range.start > at {
                gaps.push(at..segment.range.start);
            }
            at = segment.range.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn over(extents: &Extents, base: &str) -> String {
        let mut buffer = base.as_bytes().to_vec();
        for segment in extents.within(0..buffer.len() as u64) {
            segment.lay_over(&mut buffer, 0);
        }
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn later_content_covers_earlier() {
        let mut extents = Extents::default();
        extents.put(1, bytes("bbbb"), 1);
        extents.put(2, bytes("cc"), 2);
        assert_eq!(over(&extents, "aaaaaaa"), "abccbaa");
    }

    #[test]
    fn an_owner_leaves_with_what_is_still_his() {
        let mut extents = Extents::default();
        extents.put(1, bytes("bbbb"), 1);
        extents.put(2, bytes("cc"), 2);
        extents.remove(1..5, 1);
        assert_eq!(over(&extents, "aaaaaaa"), "aaccaaa");
        extents.remove(2..4, 2);
        assert!(extents.is_empty());
    }

    #[test]
    fn gaps_are_what_nothing_covers() {
        let mut extents = Extents::default();
        extents.put(2, bytes("xx"), 1);
        extents.put_zeros(6..8, 2);
        assert_eq!(extents.gaps(0..10), [0..2, 4..6, 8..10]);
        assert_eq!(extents.gaps(2..4), []);
    }

    #[test]
    fn thousands_of_appends_are_read_as_one_run() {
        let mut extents = Extents::default();
        (0..10_000).for_each(|number| extents.put(100 * number, vec![b'x'; 100].into(), number));
        let patch = extents.copy_of(50..500_000);
        assert_eq!((patch.runs.len(), patch.bytes.len()), (1, 499_950));
    }

    #[test]
    fn a_byte_makes_its_block_data_and_only_a_whole_block_of_zeros_makes_a_hole() {
        use Layout::*;
        let mut extents = Extents::default();
        extents.put(9, bytes("x"), 1);
        extents.put_zeros(14..26, 2);
        assert_eq!(
            extents.layout(0..40, 4),
            [(0..8, Below), (8..12, Data), (12..16, Below), (16..24, Hole), (24..40, Below)]
        );
        assert_eq!(extents.layout(10..18, 4), [(10..12, Data), (12..16, Below), (16..18, Hole)]);
        extents.put_zeros(30..u64::MAX, 3);
        assert_eq!(extents.layout(25..38, 4), [(25..32, Below), (32..38, Hole)]);
    }

    #[test]
    fn zeros_may_reach_to_the_end_of_all_files() {
        let mut extents = Extents::default();
        extents.put_zeros(3..u64::MAX, 1);
        extents.put(5, bytes("z"), 2);
        let mut buffer = b"aaaaaaaa".to_vec();
        extents.within(0..8).iter().for_each(|segment| segment.lay_over(&mut buffer, 0));
        assert_eq!(buffer, b"aaa\0\0z\0\0");
    }

    proptest! {
        /// The obvious model: an array of (owner, byte) cells.
        #[test]
        fn agrees_with_an_array_of_cells(
            steps in proptest::collection::vec((0_u64..40, 1_usize..12, any::<bool>(), any::<bool>()), 1..30)
        ) {
            let (mut extents, mut cells) = (Extents::default(), vec![None; 64]);
            let mut ranges = Vec::new();
            for (number, (offset, length, zeros, remove)) in steps.into_iter().enumerate() {
                let owner = number as u64;
                let range = offset..offset + length as u64;
                if remove && !ranges.is_empty() {
                    let (whose, range): (u64, Range<u64>) = ranges.remove(number % ranges.len());
                    extents.remove(range, whose);
                    cells.iter_mut().filter(|cell| matches!(cell, Some((o, _)) if *o == whose)).for_each(|c| *c = None);
                    continue;
                }
                let byte = if zeros { 0 } else { number as u8 + 1 };
                if zeros { extents.put_zeros(range.clone(), owner) } else {
                    extents.put(offset, vec![byte; length].into(), owner)
                }
                ranges.push((owner, range.clone()));
                range.for_each(|at| cells[at as usize] = Some((owner, byte)));
            }
            let mut buffer = vec![0xff; 64];
            extents.within(0..64).iter().for_each(|segment| segment.lay_over(&mut buffer, 0));
            let mut patched = vec![0xff; 50];
            extents.copy_of(5..55).lay_over(&mut patched, 5);
            prop_assert_eq!(&patched, &buffer[5..55]);
            let expected: Vec<u8> = cells.iter().map(|cell| cell.map_or(0xff, |(_, byte)| byte)).collect();
            prop_assert_eq!(buffer, expected);
            let uncovered: u64 = extents.gaps(0..64).iter().map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(uncovered as usize, cells.iter().filter(|cell| cell.is_none()).count());
        }
    }
}
