//! What one client believes about the backing directory: attributes with the bytes that go with them, names (absent
//! ones too) and listings.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use super::{
    attributes::{Attributes, Ino, Kind},
    extents::{Extents, Segment},
    mutation::{Change, Place},
    ttl_cache::{Believed, Ticket, TtlCache},
};
use crate::time::{Time, Timestamp};

/// How many bytes of file content a client keeps at most. Past it the file read first is dropped whole, attributes
/// and all: a file of which half were old and half new would be no state that the store ever had.
const MOST_BYTES: u64 = 32 << 20;

/// An inode behind a name. `serial` tells a number that was forgotten and given out again from the one believed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub ino: Ino,
    pub serial: u64,
}

/// One snapshot of a directory. Compact: a directory of a million entries takes about 30 bytes an entry and its names.
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

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Ino, Kind)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Bytes of a file that were read while the attributes fetched at `of` were believed.
#[derive(Clone, Debug)]
struct Content {
    of: Time,
    bytes: Extents,
    held: u64,
    serial: u64,
}

/// The times that a landing left in the backing directory, and the ones the program has been shown for the same
/// change. As long as the backing directory shows `landed`, nobody else has changed the inode, and the program goes
/// on seeing the times it knows.
#[derive(Clone, Copy, Debug)]
struct Disguise {
    landed: (Timestamp, Timestamp),
    shown: (Timestamp, Timestamp),
}

/// What a decision was based on: as long as nothing of it has been changed by this client since, the decision stands.
#[derive(Clone, Debug, Default)]
pub struct Grounds {
    attributes: Vec<Ticket>,
    names: Vec<Ticket>,
    listings: Vec<Ticket>,
}

/// All that one client believes.
#[derive(Debug)]
pub struct Belief {
    attributes: TtlCache<Ino, Attributes>,
    contents: HashMap<Ino, Content>,
    names: TtlCache<Place, Option<Known>>,
    listings: TtlCache<Ino, Arc<Listing>>,
    disguises: HashMap<Ino, Disguise>,
    /// Contents by number, first read first; some are gone already.
    read_order: VecDeque<(Ino, u64)>,
    last_serial: u64,
    bytes_held: u64,
    changes: u64,
}

impl Belief {
    /// A client that has seen nothing yet and believes what it will see for `ttl`.
    pub fn new(ttl: Duration) -> Belief {
        Belief {
            attributes: TtlCache::new(ttl),
            contents: HashMap::new(),
            names: TtlCache::new(ttl),
            listings: TtlCache::new(ttl),
            disguises: HashMap::new(),
            read_order: VecDeque::new(),
            last_serial: 0,
            bytes_held: 0,
            changes: 0,
        }
    }

    /// Whether nothing is ever believed: every question goes to the backing directory.
    pub fn is_off(&self) -> bool {
        self.attributes.is_off()
    }

    /// How many own changes this client has made to anything. While it stays the same no fetch is overtaken.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The attributes believed of an inode.
    pub fn attributes(&self, ino: Ino, now: Time) -> Option<Believed<Attributes>> {
        let believed = self.attributes.get(&ino, now)?;
        Some(Believed { value: self.disguised(ino, believed.value), fetched: believed.fetched })
    }

    /// Starts to ask for an inode's attributes.
    pub fn fetch_attributes(&self, ino: Ino, now: Time) -> Ticket {
        self.attributes.start_fetch(&ino, now)
    }

    /// Believes fetched attributes and returns what to show for them, or `None` if the fetch was overtaken. Bytes
    /// that went with the attributes before are dropped: attributes that look the same do not prove the same bytes
    /// (two writes within one tick of the store's clock).
    pub fn believe_attributes(&mut self, ticket: Ticket, ino: Ino, attributes: Attributes) -> Option<Attributes> {
        self.drop_content(ino);
        self.attributes.believe(ticket, ino, attributes).then(|| self.disguised(ino, attributes))
    }

    /// The `ctime` that the backing directory shows where programs are shown `shown`.
    pub fn undisguised_ctime(&self, ino: Ino, shown: Timestamp) -> Timestamp {
        let disguise = self.disguises.get(&ino).filter(|disguise| disguise.shown.1 == shown);
        disguise.map_or(shown, |disguise| disguise.landed.1)
    }

    /// What to show for attributes that the backing directory shows.
    pub fn disguised(&self, ino: Ino, mut attributes: Attributes) -> Attributes {
        if let Some(disguise) = self.disguises.get(&ino)
            && disguise.landed.1 == attributes.ctime
        {
            attributes.ctime = disguise.shown.1;
            if disguise.landed.0 == attributes.mtime {
                attributes.mtime = disguise.shown.0;
            }
        }
        attributes
    }

    /// A landing left an inode with the times of `landed`; its programs go on seeing those of `shown`.
    pub fn disguise(&mut self, ino: Ino, landed: &Attributes, shown: &Attributes) {
        let disguise = Disguise { landed: (landed.mtime, landed.ctime), shown: (shown.mtime, shown.ctime) };
        if disguise.landed == disguise.shown {
            self.disguises.remove(&ino);
        } else {
            self.disguises.insert(ino, disguise);
        }
    }

    /// What is believed of a name: `Some(None)` is a believed absence.
    pub fn name(&self, place: &Place, now: Time) -> Option<Believed<Option<Known>>> {
        self.names.get(place, now).copied()
    }

    /// Starts to ask for a name.
    pub fn fetch_name(&self, place: &Place, now: Time) -> Ticket {
        self.names.start_fetch(place, now)
    }

    /// Believes what a name was found to be; `false` if the fetch was overtaken.
    pub fn believe_name(&mut self, ticket: Ticket, place: Place, found: Option<Known>) -> bool {
        self.names.believe(ticket, place, found)
    }

    /// The listing believed of a directory.
    pub fn listing(&self, directory: Ino, now: Time) -> Option<Believed<Arc<Listing>>> {
        self.listings.get(&directory, now).cloned()
    }

    /// Starts to list a directory.
    pub fn fetch_listing(&self, directory: Ino, now: Time) -> Ticket {
        self.listings.start_fetch(&directory, now)
    }

    /// Believes a listing; `false` if the fetch was overtaken.
    pub fn believe_listing(&mut self, ticket: Ticket, directory: Ino, listing: Arc<Listing>) -> bool {
        self.listings.believe(ticket, directory, listing)
    }

    /// The bytes believed within `range` of a file, and the gaps that have to be asked for.
    pub fn bytes(&self, ino: Ino, range: Range<u64>, now: Time) -> (Vec<Segment>, Vec<Range<u64>>) {
        let fetched = self.attributes.get(&ino, now).map(|believed| believed.fetched);
        match self.contents.get(&ino).filter(|content| Some(content.of) == fetched) {
            Some(content) => (content.bytes.within(range.clone()), content.bytes.gaps(range)),
            None => (Vec::new(), vec![range]),
        }
    }

    /// Keeps bytes that were asked for at `asked` to fill a gap, if the attributes believed then still are.
    pub fn believe_bytes(&mut self, ino: Ino, asked: Time, offset: u64, data: &Arc<[u8]>, now: Time) {
        let length = data.len() as u64;
        let Some(of) = self.attributes.get(&ino, now).map(|believed| believed.fetched) else { return };
        if length == 0 || length > MOST_BYTES || of > asked {
            return;
        }
        if self.contents.get(&ino).is_none_or(|content| content.of != of) {
            self.start_content(ino, of);
        }
        let Some(content) = self.contents.get_mut(&ino) else { return };
        // Somebody may have filled a part of the gap meanwhile: what was read first stays.
        for gap in content.bytes.gaps(offset..offset + length) {
            let part = (gap.start - offset) as usize..(gap.end - offset) as usize;
            let part = if part.len() == data.len() { data.clone() } else { data[part].into() };
            content.held += part.len() as u64;
            self.bytes_held += part.len() as u64;
            content.bytes.put(gap.start, part, 0);
        }
        self.make_room();
    }

    fn start_content(&mut self, ino: Ino, of: Time) {
        self.drop_content(ino);
        self.last_serial += 1;
        let serial = self.last_serial;
        self.contents.insert(ino, Content { of, bytes: Extents::default(), held: 0, serial });
        self.read_order.push_back((ino, serial));
        if self.read_order.len() > 2 * self.contents.len() + 1024 {
            let contents = &self.contents;
            self.read_order.retain(|(ino, serial)| contents.get(ino).is_some_and(|content| content.serial == *serial));
        }
    }

    fn make_room(&mut self) {
        while self.bytes_held > MOST_BYTES
            && let Some((oldest, serial)) = self.read_order.pop_front()
        {
            if self.contents.get(&oldest).is_some_and(|content| content.serial == serial) {
                self.drop_file(oldest);
            }
        }
    }

    fn drop_content(&mut self, ino: Ino) {
        if let Some(content) = self.contents.remove(&ino) {
            self.bytes_held -= content.held;
        }
    }

    fn drop_file(&mut self, ino: Ino) {
        self.drop_content(ino);
        self.attributes.invalidate(&ino);
    }

    /// Notes that a decision will be based on these.
    pub fn grounds(&self, attributes: &[Ino], names: &[&Place], listings: &[Ino]) -> Grounds {
        Grounds {
            attributes: attributes.iter().map(|ino| self.attributes.start_fetch(ino, Time::ZERO)).collect(),
            names: names.iter().map(|place| self.names.start_fetch(place, Time::ZERO)).collect(),
            listings: listings.iter().map(|ino| self.listings.start_fetch(ino, Time::ZERO)).collect(),
        }
    }

    /// Whether a decision on these grounds still stands.
    pub fn stands(&self, grounds: &Grounds) -> bool {
        !grounds.attributes.iter().any(|ticket| self.attributes.is_overtaken(*ticket))
            && !grounds.names.iter().any(|ticket| self.names.is_overtaken(*ticket))
            && !grounds.listings.iter().any(|ticket| self.listings.is_overtaken(*ticket))
    }

    /// This client has made or landed `change`: what it believed about all that the change touches is dropped, and
    /// fetches under way are overtaken.
    pub fn changed(&mut self, change: &Change) {
        self.changes += 1;
        for ino in change.inodes() {
            self.drop_file(ino);
        }
        for place in change.places() {
            self.names.invalidate(place);
            self.listings.invalidate(&place.directory);
        }
    }

    /// A name turned out to be other than believed.
    pub fn distrust_name(&mut self, place: &Place) {
        self.names.invalidate(place);
        self.listings.invalidate(&place.directory);
    }

    /// An inode turned out to be other than believed.
    pub fn distrust_inode(&mut self, ino: Ino) {
        self.drop_file(ino);
        self.listings.invalidate(&ino);
    }

    /// Nobody knows the number any more: what was believed of it goes.
    pub fn forget(&mut self, ino: Ino) {
        self.distrust_inode(ino);
        self.disguises.remove(&ino);
    }

    /// Drops every belief at once.
    pub fn expire(&mut self) {
        self.attributes.invalidate_all();
        self.contents.clear();
        self.names.invalidate_all();
        self.listings.invalidate_all();
        self.read_order.clear();
        self.bytes_held = 0;
    }
}
