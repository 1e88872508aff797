//! Conflicts: what the store has instead of what was expected, as events.

use std::sync::atomic::Ordering;

use crate::{
    backing::{Identity, Stat},
    client::{Client, Version, view::attributes_of},
    consistency::{Attributes, Change, Ino, Kind, Place},
    event::{Event, readable},
};

impl Client {
    pub(super) fn notice_foreign_data(&self, ino: Ino, change: &Change, theirs: &Stat) {
        let (expected, nameless) = {
            let state = self.lock();
            // Its last name may be going by the other landing thread just now.
            let nameless = state.nameless.contains(&ino) || state.in_flight.is_relinking(ino);
            (state.expected.get(&ino).copied(), nameless)
        };
        let ours = match change.content_range() {
            Some(range) if range.end == u64::MAX => format!("size {}", range.start),
            Some(range) => format!("bytes {}..{}", range.start, range.end),
            None => change.verb().to_string(),
        };
        let changed = expected.is_some_and(|expected| expected != Version::of(&attributes_of(theirs)));
        let outcome = match (theirs.links, changed) {
            (0, _) if !nameless => "unseen",
            (1.., true) => "ours-on-top",
            _ => return,
        };
        let path = readable(&self.table.path(ino));
        self.note_conflict(change.verb(), path, ours, describe(theirs), outcome);
    }

    pub(super) fn conflict(
        &self,
        mutation: &'static str,
        place: &Place,
        ours: &Attributes,
        theirs: &Stat,
        outcome: &'static str,
    ) {
        let ours = format!("{:?}", ours.kind).to_lowercase();
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, describe(theirs), outcome);
    }

    pub(super) fn conflict_over(
        &self,
        mutation: &'static str,
        place: &Place,
        ours: Option<Identity>,
        theirs: &Stat,
        outcome: &'static str,
    ) {
        let ours = ours.map_or_else(|| "nothing".to_string(), |identity| format!("ino {}", identity.ino));
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, describe(theirs), outcome);
    }

    pub(super) fn conflict_with_nothing(&self, mutation: &'static str, place: &Place, outcome: &'static str) {
        let (ours, theirs) = (mutation.to_string(), "nothing".to_string());
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, theirs, outcome);
    }

    pub(super) fn note_conflict(
        &self,
        mutation: &'static str,
        path: String,
        ours: String,
        theirs: String,
        outcome: &'static str,
    ) {
        self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        let event = Event::Conflict { mutation, path, ours, theirs, outcome };
        self.log.record(self.now(), &event);
    }
}

fn describe(stat: &Stat) -> String {
    let kind = format!("{:?}", Kind::of_mode(stat.mode)).to_lowercase();
    format!("{kind} ino {} size {} mtime {}.{:09}", stat.identity.ino, stat.size, stat.mtime.0, stat.mtime.1)
}
