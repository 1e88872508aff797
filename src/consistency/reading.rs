//! Reading a file: what of it is in flight or believed, and what has to be fetched.

use std::{ops::Range, sync::Arc};

use super::{
    attributes::{Attributes, Ino},
    core::Core,
    extents::{Patch, Segment},
};
use crate::time::Time;

/// A read, planned at one moment: only the gaps are read from the backing directory later.
#[derive(Debug)]
pub struct ReadPlan {
    /// What can be read: no more than the size in the client's view.
    pub range: Range<u64>,
    /// Bytes in flight, on top.
    pub mine: Patch,
    /// Bytes that are believed.
    pub believed: Vec<Segment>,
    /// The rest of what the backing file has.
    pub gaps: Vec<Range<u64>>,
    /// Own data makes the file at least as long as `range` says, however short the backing file is.
    pub is_extended: bool,
    /// The fetch of the attributes that these bytes go with; none if they are not believed.
    of: Option<u64>,
}

impl Core<'_> {
    /// Plans to read `asked` of a file of which `base` was just answered.
    pub fn plan_read(&self, ino: Ino, base: &Attributes, asked: Range<u64>, now: Time) -> ReadPlan {
        let overlay = self.in_flight.overlay();
        let size = self.view(ino, base).size;
        let range = asked.start..asked.end.min(size).max(asked.start);
        let mine =
            if self.policy.read_your_writes { overlay.content(ino, range.clone()) } else { Patch::default() };
        let is_extended = self.policy.read_your_writes && overlay.has_data(ino);
        let real = range.start..range.end.min(base.size).max(range.start);
        let (believed, gaps) = match overlay.unlanded(ino) {
            Some(_) => (Vec::new(), Vec::new()),
            None => self.belief.bytes(ino, real, now),
        };
        let of = self.belief.fetch_of(ino, now);
        ReadPlan { range, mine, believed, gaps, is_extended, of }
    }

    /// Believes bytes that were read to fill a gap, as long as the attributes are believed with which the read was
    /// planned. Returns what another read has filled of the gap meanwhile, which goes before them.
    pub fn believe_bytes(
        &mut self,
        ino: Ino,
        plan: &ReadPlan,
        offset: u64,
        data: &Arc<[u8]>,
        now: Time,
    ) -> Vec<Segment> {
        plan.of.map_or_else(Vec::new, |of| self.belief.believe_bytes(ino, of, offset, data, now))
    }
}
