//! Listings of a directory, and the positions at which an open directory shows them.

use std::sync::Arc;

use super::attributes::{Ino, Kind};
use crate::hashing::HashMap;

/// The entries of a directory. Compact: a directory of a million entries takes about 30 bytes an entry and its names.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    entries: Vec<(usize, Ino, Kind)>,
}

impl Listing {
    /// Adds an entry at the end.
    pub fn push(&mut self, name: &[u8], ino: Ino, kind: Kind) {
        self.names.extend_from_slice(name);
        self.entries.push((self.names.len(), ino, kind));
    }

    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<(&[u8], Ino, Kind)> {
        let (end, ino, kind) = *self.entries.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].0);
        Some((&self.names[start..end], ino, kind))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes it takes, about.
    pub fn cost(&self) -> u64 {
        /// Of a listing without entries.
        const EMPTY: u64 = 256;
        EMPTY + (self.names.len() + size_of_val(&*self.entries)) as u64
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Ino, Kind)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// What one open directory shows, each name at a position of its own: where `telldir(3)` found it, `seekdir(3)` finds
/// it again.
///
/// However often the directory is listed anew, a name that stays keeps its position, and no position is ever given to
/// another name: that of a name that has gone leads to the next one. New names, and names that come back, go to the
/// end. Names that have gone take up no memory.
#[derive(Clone, Debug)]
pub struct Snapshot {
    listing: Arc<Listing>,
    /// One for each entry, ascending; `None` while they are 0, 1, 2 and so on.
    positions: Option<Arc<[u64]>>,
    /// Greater than every position given out so far.
    end: u64,
}

impl Snapshot {
    /// The first listing of an open directory.
    pub fn new(listing: Arc<Listing>) -> Snapshot {
        let end = listing.len() as u64;
        Snapshot { listing, positions: None, end }
    }

    /// How many bytes it takes, about.
    pub fn cost(&self) -> u64 {
        self.listing.cost() + self.positions.as_ref().map_or(0, |positions| size_of_val(&**positions) as u64)
    }

    /// The same open directory after it has been listed again.
    pub fn refreshed(&self, listing: &Arc<Listing>) -> Snapshot {
        if Arc::ptr_eq(&self.listing, listing) {
            return self.clone();
        }
        let mut new: HashMap<&[u8], (Ino, Kind)> =
            listing.iter().map(|(name, ino, kind)| (name, (ino, kind))).collect();
        let (mut merged, mut positions, mut end) = (Listing::default(), Vec::new(), self.end);
        for (position, (name, ..)) in self.starting_at(0) {
            if let Some((ino, kind)) = new.remove(name) {
                merged.push(name, ino, kind);
                positions.push(position);
            }
        }
        for (name, ..) in listing.iter() {
            if let Some((ino, kind)) = new.remove(name) {
                merged.push(name, ino, kind);
                positions.push(end);
                end += 1;
            }
        }
        Snapshot { listing: Arc::new(merged), positions: Some(positions.into()), end }
    }

    /// The entries at `position` and after it, each with its own position.
    pub fn starting_at(&self, position: u64) -> impl Iterator<Item = (u64, (&[u8], Ino, Kind))> {
        let first = match &self.positions {
            Some(positions) => positions.partition_point(|at| *at < position),
            None => usize::try_from(position).unwrap_or(usize::MAX),
        };
        (first..self.listing.len())
            .filter_map(|index| Some((self.position_of(index), self.listing.get(index)?)))
    }

    fn position_of(&self, index: usize) -> u64 {
        self.positions.as_ref().map_or(index as u64, |positions| positions[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &str) -> Arc<Listing> {
        let mut listing = Listing::default();
        names.split_whitespace().for_each(|name| listing.push(name.as_bytes(), 7, Kind::File));
        Arc::new(listing)
    }

    fn shown(snapshot: &Snapshot, from: u64) -> String {
        let entries = snapshot
            .starting_at(from)
            .map(|(position, (name, ..))| format!("{position}:{}", String::from_utf8_lossy(name)));
        entries.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_listing_gives_back_what_was_put_in() {
        let mut listing = Listing::default();
        assert!(listing.is_empty() && listing.get(0).is_none());
        let entries: [(&[u8], Ino, Kind); 3] =
            [(b"a", 10, Kind::File), (b"", 11, Kind::Fifo), (b"long name", 1, Kind::Directory)];
        entries.iter().for_each(|(name, ino, kind)| listing.push(name, *ino, *kind));
        assert_eq!(listing.iter().collect::<Vec<_>>(), entries);
        assert_eq!((listing.len(), listing.get(3), listing.is_empty()), (3, None, false));
    }

    #[test]
    fn reading_goes_on_where_it_stopped() {
        let snapshot = Snapshot::new(listing("a b c"));
        assert_eq!(shown(&snapshot, 0), "0:a 1:b 2:c");
        assert_eq!(shown(&snapshot, 2), "2:c");
        assert_eq!((shown(&snapshot, 3), shown(&snapshot, u64::MAX)), (String::new(), String::new()));
    }

    #[test]
    fn names_that_stay_keep_their_positions_and_new_ones_go_to_the_end() {
        let snapshot = Snapshot::new(listing("a b c d")).refreshed(&listing("d new c a"));
        assert_eq!(shown(&snapshot, 0), "0:a 2:c 3:d 4:new");
        assert_eq!(shown(&snapshot, 1), "2:c 3:d 4:new", "the position of a name that has gone");
        assert_eq!(shown(&snapshot.refreshed(&listing("new")), 0), "4:new");
    }

    #[test]
    fn a_position_is_never_given_to_another_name() {
        let mut snapshot = Snapshot::new(listing("a b"));
        for names in ["a", "", "b a", "c"] {
            snapshot = snapshot.refreshed(&listing(names));
        }
        assert_eq!(shown(&snapshot, 0), "4:c", "0 and 1, then 2 and 3, were of a and b");
    }

    #[test]
    fn an_entry_is_shown_as_it_was_listed_last() {
        let mut replaced = Listing::default();
        replaced.push(b"a", 8, Kind::Directory);
        let snapshot = Snapshot::new(listing("a")).refreshed(&Arc::new(replaced));
        let entries: Vec<_> = snapshot.starting_at(0).collect();
        assert_eq!(entries, [(0, (&b"a"[..], 8, Kind::Directory))]);
    }

    #[test]
    fn names_that_have_gone_take_up_no_memory() {
        let mut snapshot = Snapshot::new(listing(""));
        for round in 0..1000 {
            snapshot = snapshot.refreshed(&listing(&format!("stays goes-{round}")));
        }
        assert_eq!(shown(&snapshot, 0), "0:stays 1000:goes-999");
        assert_eq!(snapshot.positions.map(|positions| positions.len()), Some(2));
    }
}
