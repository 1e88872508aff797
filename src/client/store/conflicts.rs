//! Conflicts: what the store has instead of what was expected, as events.

use std::sync::atomic::Ordering;

use crate::{
    backing::{Identity, Stat},
    client::{Client, Version, losses::Loss, view::attributes_of},
    consistency::{Attributes, Change, Ino, Kind, Place},
    event::{Event, readable},
    time::Timestamp,
};

/// When somebody else's change of a file was made, seen from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theirs {
    /// Before ours, or nobody knows, or there is none.
    Earlier,
    /// After ours, which is given up.
    Later,
}

impl Client {
    /// Looks whether somebody else has changed a file under data that is about to land, and who wrote last.
    ///
    /// A landing stamps the file with the time at which its program wrote, so where both sides wrote through clients it
    /// is known which write is the later one, although an `fsync` may have landed it first. A change of the whole file
    /// that is older than theirs is given up, and so is what belongs to it. A part of a file lands on top in any case:
    /// whether theirs was in the same place nobody knows. What was written straight into the backing directory has no
    /// time but that of its arrival, and ours arrives later.
    pub(super) fn notice_foreign_data(
        &self,
        ino: Ino,
        change: &Change,
        found: &Stat,
        stamp: Timestamp,
    ) -> Theirs {
        let now = attributes_of(found);
        let (watched, changed, nameless) = {
            let mut state = self.lock();
            let nameless = state.has_removed(ino);
            let Some(watched) = state.records.watched(ino) else { return Theirs::Earlier };
            let changed = watched.expected.is_some_and(|expected| expected != Version::of(&now));
            if changed && is_stamped(&now) {
                watched.theirs = watched.theirs.max(Some(now.mtime));
            }
            let is_older = watched.theirs.is_some_and(|theirs| stamp < theirs);
            watched.superseded = is_older && (watched.superseded || is_whole(change, now.size));
            (*watched, changed, nameless)
        };
        let (outcome, theirs) = match (found.links, changed) {
            (0, _) if !nameless => ("unseen", Theirs::Earlier),
            (1.., _) if watched.superseded => ("kept-theirs", Theirs::Later),
            (1.., true) => ("ours-on-top", Theirs::Earlier),
            _ => return Theirs::Earlier,
        };
        let ours = match change.content_range() {
            Some(range) if range.end == u64::MAX => format!("size {}", range.start),
            Some(range) => format!("bytes {}..{}", range.start, range.end),
            None => change.verb().to_string(),
        };
        let path = readable(&self.table.path(ino));
        self.note_conflict(change.verb(), path, ours, describe(found), outcome);
        theirs
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

    /// Over an inode itself.
    pub(super) fn conflict_on_inode(&self, change: &Change, theirs: String, outcome: &'static str) {
        let (path, ours) = (readable(&self.table.path(change.subject())), change.verb().to_string());
        self.note_conflict(change.verb(), path, ours, theirs, outcome);
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
        if leaves_nothing(mutation, outcome) {
            self.lock().overtaken.push(Loss::of_name(&path, mutation, outcome));
        }
        let event = Event::Conflict { mutation, path, ours, theirs, outcome };
        self.log.record(&self.clock, &event);
    }
}

pub(super) fn describe(stat: &Stat) -> String {
    let kind = format!("{:?}", Kind::of_mode(stat.mode)).to_lowercase();
    format!("{kind} ino {} size {} mtime {}.{:09}", stat.identity.ino, stat.size, stat.mtime.0, stat.mtime.1)
}

/// Whether a name that was acknowledged is not in the backing directory although nobody has removed it: it was never made,
/// or never moved there. Everything else could have happened on a plain directory, too: content and attributes of a file
/// that somebody removes afterwards, or an earlier removal or content where theirs is later.
fn leaves_nothing(mutation: &str, outcome: &str) -> bool {
    const NEW_NAMES: [&str; 6] = ["make", "create", "mkdir", "symlink", "mknod", "link"];
    outcome == "dropped" || (matches!(outcome, "unseen" | "kept-theirs") && NEW_NAMES.contains(&mutation))
}

/// Whether a client's landing has set these times: `mtime` is when a program wrote, `ctime` when it landed. A write
/// straight into the backing directory sets both to the same, and a time set by hand may lie in the future; the
/// kernel's clock for files runs a tick behind the one that landings are stamped with.
fn is_stamped(attributes: &Attributes) -> bool {
    const TICK_NANOS: i128 = 20_000_000;
    let nanos = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    attributes.mtime != attributes.ctime && nanos(attributes.mtime) <= nanos(attributes.ctime) + TICK_NANOS
}

/// Whether a change leaves nothing of a file that has `size` bytes now.
fn is_whole(change: &Change, size: u64) -> bool {
    match change {
        Change::Resize { size: left, .. } => *left == 0,
        Change::Write { offset, data, .. } => *offset == 0 && data.len() as u64 >= size,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mtime: (i64, u32), ctime: (i64, u32)) -> Attributes {
        let time = |(seconds, nanos)| Timestamp { seconds, nanos };
        let made = Attributes::new(Kind::File, 0o644, (0, 0), 0, 0, time(mtime));
        Attributes { ctime: time(ctime), ..made }
    }

    #[test]
    fn a_landing_is_told_from_a_write_into_the_backing_directory_and_from_a_time_set_by_hand() {
        assert!(is_stamped(&times((5, 0), (5, 800_000_000))), "landed after its delay");
        assert!(is_stamped(&times((5, 3_000_000), (5, 0))), "landed at once, the kernel a tick behind");
        assert!(!is_stamped(&times((5, 7), (5, 7))), "written there");
        assert!(!is_stamped(&times((9, 0), (5, 0))), "set to the future");
    }

    #[test]
    fn a_new_name_that_is_given_up_leaves_nothing_and_an_earlier_removal_is_just_over() {
        assert!(leaves_nothing("rename", "dropped") && leaves_nothing("create", "unseen"));
        assert!(!leaves_nothing("write", "unseen") && !leaves_nothing("setattr", "unseen"));
        assert!(leaves_nothing("make", "kept-theirs") && !leaves_nothing("mkdir", "merged"));
        assert!(!leaves_nothing("rmdir", "kept-theirs") && !leaves_nothing("write", "kept-theirs"));
    }

    #[test]
    fn a_whole_file_is_all_that_it_has_now() {
        let write =
            |offset, length| Change::Write { ino: 1, offset, data: vec![0; length].into(), clears: 0 };
        assert!(is_whole(&write(0, 5), 5) && is_whole(&write(0, 6), 5));
        assert!(!is_whole(&write(0, 4), 5) && !is_whole(&write(1, 5), 5));
        let cut = |size| Change::Resize { ino: 1, size, clears: 0 };
        assert!(is_whole(&cut(0), 5) && !is_whole(&cut(1), 5));
    }
}
