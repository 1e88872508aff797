//! What one client believes about the backing directory: attributes with the bytes that go with them, names (absent
//! ones too) and listings.

mod bytes;
mod disguise;
mod names;
mod tracks;
mod xattrs;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    attributes::{Attributes, Ino},
    cache::{Believed, Cache, Ticket},
    extents::Extents,
    listing::Listing,
    mutation::{Change, Place},
    policy::{Evidence, Policy},
};
use disguise::Disguise;
use names::Under;
use tracks::Tracks;
use xattrs::Xattrs;

use crate::{
    hashing::{HashMap, HashSet},
    time::Time,
};

/// What keeping an inode's attributes costs, about.
const ATTRIBUTES_COST: u64 = 240;

/// What keeping a name costs besides its bytes, about.
const NAME_COST: u64 = 160;

/// An inode behind a name. `serial` tells a number that was forgotten and given out again from the one believed in.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub ino: Ino,
    pub serial: u64,
}

/// Bytes of a file that were read while the attributes of the fetch numbered `of` were believed.
#[derive(Clone, Debug)]
struct Content {
    of: u64,
    bytes: Extents,
    held: u64,
    serial: u64,
    /// The file has changed since: they stay only for as long as it is open here for writing.
    is_outdated: bool,
}

/// Attributes that are believed from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What to show for them.
    pub shown: Attributes,
    /// They are believed until just before then; none if they are not.
    pub until: Option<Time>,
}

/// What a decision was based on: as long as nothing of it has been changed by this client since, the decision stands.
#[derive(Clone, Debug, Default)]
pub struct Grounds {
    names: Vec<Ticket>,
    listings: Vec<Ticket>,
}

impl Grounds {
    /// These grounds and those.
    pub fn and(mut self, other: Grounds) -> Grounds {
        self.names.extend(other.names);
        self.listings.extend(other.listings);
        self
    }
}

/// All that one client believes.
#[derive(Debug)]
pub struct Belief {
    attributes: Cache<Ino, Attributes>,
    contents: HashMap<Ino, Content>,
    names: Cache<Place, Under<Option<Known>>>,
    listings: Cache<Ino, Under<Arc<Listing>>>,
    tracks: Tracks,
    disguises: HashMap<Ino, Disguise>,
    /// Values of extended attributes, none for one that is not there.
    xattrs: Xattrs,
    /// Files that are open here for writing, whose bytes stay whatever others write.
    written: HashSet<Ino>,
    /// Files that somebody else in this client's name reads and writes without asking: nothing is believed of them.
    lent: HashSet<Ino>,
    /// Contents by number, first read first; some are gone already.
    read_order: VecDeque<(Ino, u64)>,
    last_serial: u64,
    bytes_held: u64,
    changes: u64,
    most: u64,
    evicted: u64,
}

impl Belief {
    /// A client that has seen nothing yet and believes what it will see, as far as all of it takes no more than `most`
    /// bytes.
    pub fn new(most: u64) -> Belief {
        Belief {
            attributes: Cache::new(|_, _| ATTRIBUTES_COST),
            contents: HashMap::default(),
            names: Cache::new(|place: &Place, _| NAME_COST + place.name.len() as u64),
            listings: Cache::new(|_, listing: &Under<Arc<Listing>>| listing.value.cost()),
            tracks: Tracks::default(),
            disguises: HashMap::default(),
            xattrs: Xattrs::default(),
            written: HashSet::default(),
            lent: HashSet::default(),
            read_order: VecDeque::new(),
            last_serial: 0,
            bytes_held: 0,
            changes: 0,
            most,
            evicted: 0,
        }
    }

    /// How many bytes all that is believed takes, about.
    pub fn held(&self) -> u64 {
        self.attributes.held() + self.names.held() + self.listings.held() + self.bytes_held
    }

    /// How many beliefs have gone before their time, because there was no room for them.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// From now on all that is believed takes no more than `most` bytes.
    pub fn set_most(&mut self, most: u64) {
        self.most = most;
        self.make_room();
    }

    /// Drops what was believed first until the rest fits. That depends on what programs have asked for and on nothing
    /// else; to ask again earlier is always right. Content may fill half of the room: past that, the file that was read
    /// first is dropped whole, with its attributes, because a file of which half were old and half new would be no state
    /// that the store ever had.
    fn make_room(&mut self) {
        while self.bytes_held > self.most / 2
            && let Some((oldest, serial)) = self.read_order.pop_front()
        {
            if self.contents.get(&oldest).is_some_and(|content| content.serial == serial) {
                self.drop_file(oldest);
                self.evicted += 1;
            }
        }
        while self.held() > self.most && self.evict_oldest() {
            self.evicted += 1;
            // A fetch that ends now may be older than what went.
            self.changes += 1;
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let (attributes, names, listings) =
            (self.attributes.oldest(), self.names.oldest(), self.listings.oldest());
        let Some(oldest) = [attributes, names, listings].into_iter().flatten().min() else { return false };
        if attributes == Some(oldest) {
            let ino = self.attributes.evict_oldest();
            ino.into_iter().for_each(|ino| self.drop_content(ino));
        } else if names == Some(oldest) {
            self.names.evict_oldest();
        } else {
            self.listings.evict_oldest();
        }
        true
    }

    /// All kinds of beliefs are numbered together, in the order in which they came.
    fn number(&mut self) {
        let last = self.believed();
        self.attributes.number_from(last);
        self.names.number_from(last);
        self.listings.number_from(last);
    }

    /// How many own changes this client has made to anything. While it stays the same no fetch is overtaken.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The attributes believed of an inode.
    pub fn attributes(&self, ino: Ino, now: Time) -> Option<Believed<Attributes>> {
        let believed = self.attributes.get(&ino, now)?;
        Some(Believed { value: self.disguised(ino, believed.value), ..*believed })
    }

    /// The end of a file as it was fetched last, however long ago.
    pub fn last_size(&self, ino: Ino) -> Option<u64> {
        self.tracks.size(ino)
    }

    /// This client has written to the end of a file, which is `size` now.
    pub fn note_size(&mut self, ino: Ino, size: u64) {
        self.tracks.set_size(ino, size);
    }

    /// Starts to ask for an inode's attributes.
    pub fn fetch_attributes(&self, ino: Ino, now: Time) -> Ticket {
        self.attributes.start_fetch(&ino, now)
    }

    /// Believes fetched attributes, or returns `None` if the fetch was overtaken. Bytes that went with the attributes before
    /// are dropped unless the policy takes it as proved that they are the same: attributes that look the same do not prove it
    /// (two writes within one tick of the store's clock).
    pub fn believe_attributes(
        &mut self,
        ticket: Ticket,
        ino: Ino,
        attributes: Attributes,
        policy: &Policy,
    ) -> Option<Taken> {
        self.number();
        let remembers = policy.remembers();
        let judged = remembers.then(|| self.tracks.judge(ino, &attributes, ticket.started(), policy));
        let lifetime = match &judged {
            None => policy.lifetimes.of_attributes(attributes.kind).min,
            // Bytes outlive attributes that are asked for each time, if there is evidence that they are the same.
            Some(judged) if judged.track.lifetime.is_zero() && policy.evidence != Evidence::Nothing => {
                Duration::from_nanos(1)
            }
            Some(judged) => judged.track.lifetime,
        };
        let (is_lent, before) = (self.is_lent(ino), self.attributes.newest());
        let is_overtaken = match is_lent {
            true => self.attributes.is_overtaken(ticket),
            false => !self.attributes.believe(ticket, ino, attributes, lifetime),
        };
        if is_overtaken {
            return None;
        }
        let is_same = judged.as_ref().is_some_and(|judged| judged.is_same);
        if let Some(judged) = judged {
            self.tracks.keep(ino, judged);
        }
        let is_believed = self.attributes.newest() > before;
        self.keep_or_drop_content(ino, is_believed, is_same);
        self.make_room();
        let until = (!is_lent).then(|| ticket.started() + lifetime);
        Some(Taken { shown: self.disguised(ino, attributes), until })
    }

    /// Whether a file is open here for writing on a storage where its bytes stay as they were read as long as it is.
    pub fn is_written_here(&mut self, ino: Ino, is_written: bool) {
        if is_written {
            self.written.insert(ino);
        } else {
            self.written.remove(&ino);
        }
    }

    /// This client has changed a directory in the store, which was `before` and is `after`: if nobody else has changed it
    /// since it was fetched, its other names are still believed.
    pub fn goes_on(&mut self, directory: Ino, before: &Attributes, after: &Attributes) {
        self.tracks.go_on(directory, before, after);
    }

    /// Notes that a decision will be based on these names and listings.
    pub fn grounds(&self, names: &[&Place], listings: &[Ino]) -> Grounds {
        Grounds {
            names: names.iter().map(|place| self.names.start_fetch(place, Time::ZERO)).collect(),
            listings: listings.iter().map(|ino| self.listings.start_fetch(ino, Time::ZERO)).collect(),
        }
    }

    /// From now on `ino` is read and written without asking: what was believed of it goes, and nothing is until
    /// [`Belief::reclaim`].
    pub fn lend(&mut self, ino: Ino) {
        self.drop_file(ino);
        self.lent.insert(ino);
    }

    /// From now on every change of `ino` is heard of again. Fetches under way are overtaken: a change that was not
    /// heard of may have been later.
    pub fn reclaim(&mut self, ino: Ino) {
        self.lent.remove(&ino);
        self.changes += 1;
        self.drop_file(ino);
    }

    /// How many files are read and written without asking.
    pub fn lent(&self) -> usize {
        self.lent.len()
    }

    /// Whether `ino` is read and written without asking.
    pub fn is_lent(&self, ino: Ino) -> bool {
        self.lent.contains(&ino)
    }

    /// Whether a decision on these grounds still stands.
    pub fn stands(&self, grounds: &Grounds) -> bool {
        !grounds.names.iter().any(|ticket| self.names.is_overtaken(*ticket))
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

    /// The landing of `change` starts: a fetch of the link counts that it changes could see them before or after, and
    /// is overtaken.
    pub fn landing(&mut self, change: &Change) {
        self.changes += 1;
        change.relinks().into_iter().for_each(|ino| self.drop_file(ino));
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
        self.tracks.forget(ino);
        self.xattrs.forget(ino);
    }

    /// Sweeps out what has expired and gives back the room that it took.
    pub fn shrink(&mut self, now: Time) {
        self.attributes.shrink(now);
        self.names.shrink(now);
        self.listings.shrink(now);
        self.drop_orphaned_contents(now);
        self.tracks.shrink();
        self.xattrs.shrink();
        if self.disguises.len() < self.disguises.capacity() / 2 {
            self.disguises.shrink_to_fit();
        }
    }

    /// From `now` on nothing is believed for longer than `policy` says, counted from when it was fetched.
    pub fn shorten(&mut self, policy: &Policy, now: Time) {
        let lifetimes = &policy.lifetimes;
        self.attributes.shorten(|attributes| lifetimes.of_attributes(attributes.kind).max, now);
        self.names.shorten(|found| lifetimes.of_name(found.value.is_some()), now);
        self.listings.shorten(|_| lifetimes.listings, now);
        self.drop_orphaned_contents(now);
    }

    /// Content goes with the attributes that it was read under, unless the next ones may show it to be the same.
    fn drop_orphaned_contents(&mut self, now: Time) {
        let (attributes, tracks) = (&self.attributes, &self.tracks);
        self.contents.retain(|ino, _| attributes.get(ino, now).is_some() || tracks.version(*ino) != 0);
        self.bytes_held = self.contents.values().map(|content| content.held).sum();
        if self.contents.is_empty() {
            self.read_order.clear();
        }
        self.contents.shrink_to(self.contents.len() * 2);
        self.read_order.shrink_to(self.contents.len() * 2);
    }

    /// How many values have been believed so far, as a number that grows with each.
    pub fn believed(&self) -> u64 {
        self.attributes.newest().max(self.names.newest()).max(self.listings.newest())
    }

    /// Drops every belief at once.
    pub fn expire(&mut self) {
        self.attributes.invalidate_all();
        self.tracks.clear();
        self.xattrs.clear();
        self.contents.clear();
        self.names.invalidate_all();
        self.listings.invalidate_all();
        self.read_order.clear();
        self.bytes_held = 0;
    }
}

#[cfg(test)]
mod tests;
