//! What one client believes about the backing directory: attributes with the bytes that go with them, names (absent
//! ones too) and listings.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use super::{
    attributes::{Attributes, Ino},
    cache::{Believed, Cache, Ticket},
    extents::{Extents, Segment},
    listing::Listing,
    mutation::{Change, Place},
    policy::Lifetimes,
};
use crate::{
    hashing::{HashMap, HashSet},
    time::{Time, Timestamp},
};

/// What keeping a piece of content costs besides its bytes, so that a million tiny files are bounded, too.
const PIECE_COST: u64 = 256;

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
}

/// The times that a landing left in the backing directory, and the ones the program has been shown for the same
/// change. As long as the backing directory shows `landed`, nobody else has changed the inode, and the program goes
/// on seeing the times it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disguise {
    landed: Times,
    shown: Times,
}

/// `mtime` and `ctime` in nanoseconds since 1970: a million of them are kept for a million known files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    mtime: i64,
    ctime: i64,
}

impl Times {
    /// None for what no clock shows: before 1677, after 2262.
    fn of(attributes: &Attributes) -> Option<Times> {
        Some(Times { mtime: attributes.mtime.as_nanos()?, ctime: attributes.ctime.as_nanos()? })
    }
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
    names: Cache<Place, Option<Known>>,
    listings: Cache<Ino, Arc<Listing>>,
    disguises: HashMap<Ino, Disguise>,
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
            listings: Cache::new(|_, listing: &Arc<Listing>| listing.cost()),
            disguises: HashMap::default(),
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

    /// Starts to ask for an inode's attributes.
    pub fn fetch_attributes(&self, ino: Ino, now: Time) -> Ticket {
        self.attributes.start_fetch(&ino, now)
    }

    /// Believes fetched attributes and returns what to show for them, or `None` if the fetch was overtaken. Bytes
    /// that went with the attributes before are dropped: attributes that look the same do not prove the same bytes
    /// (two writes within one tick of the store's clock).
    pub fn believe_attributes(
        &mut self,
        ticket: Ticket,
        ino: Ino,
        attributes: Attributes,
        lifetime: Duration,
    ) -> Option<Attributes> {
        self.number();
        let is_overtaken = if self.is_lent(ino) {
            self.attributes.is_overtaken(ticket)
        } else {
            !self.attributes.believe(ticket, ino, attributes, lifetime)
        };
        if is_overtaken {
            return None;
        }
        self.drop_content(ino);
        self.make_room();
        Some(self.disguised(ino, attributes))
    }

    /// The `mtime` that the backing directory shows where programs are shown `shown`.
    pub fn undisguised_mtime(&self, ino: Ino, shown: &Attributes) -> Timestamp {
        // mtime is compared on its own: another name gives an inode another `ctime` and leaves its `mtime`.
        let worn = |disguise: &&Disguise| shown.mtime.as_nanos() == Some(disguise.shown.mtime);
        let landed = self.disguises.get(&ino).filter(worn).map(|disguise| disguise.landed.mtime);
        landed.map_or(shown.mtime, Timestamp::from_nanos)
    }

    /// What to show for attributes that the backing directory shows.
    pub fn disguised(&self, ino: Ino, mut attributes: Attributes) -> Attributes {
        if let Some(disguise) = self.disguises.get(&ino) {
            // Each by itself: a change of attributes gives an inode another `ctime` and leaves its `mtime`.
            if attributes.mtime.as_nanos() == Some(disguise.landed.mtime) {
                attributes.mtime = Timestamp::from_nanos(disguise.shown.mtime);
            }
            if attributes.ctime.as_nanos() == Some(disguise.landed.ctime) {
                attributes.ctime = Timestamp::from_nanos(disguise.shown.ctime);
            }
        }
        attributes
    }

    /// A landing left an inode with the times of `landed`; its programs go on seeing those of `shown`. Of two landings
    /// at once the one that came later to the store counts.
    pub fn disguise(&mut self, ino: Ino, landed: &Attributes, shown: &Attributes) {
        let (landed, shown) = (Times::of(landed), Times::of(shown));
        let newer = |disguise: &Disguise| landed.is_some_and(|landed| disguise.landed.ctime > landed.ctime);
        if self.disguises.get(&ino).is_some_and(newer) {
            return;
        }
        match (landed, shown) {
            (Some(landed), Some(shown)) if landed != shown => {
                self.disguises.insert(ino, Disguise { landed, shown });
            }
            _ => drop(self.disguises.remove(&ino)),
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
    pub fn believe_name(
        &mut self,
        ticket: Ticket,
        place: Place,
        found: Option<Known>,
        lifetime: Duration,
    ) -> bool {
        self.number();
        let believed = self.names.believe(ticket, place, found, lifetime);
        self.make_room();
        believed
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
    pub fn believe_listing(
        &mut self,
        ticket: Ticket,
        directory: Ino,
        listing: Arc<Listing>,
        lifetime: Duration,
    ) -> bool {
        if listing.cost() > self.most {
            self.evicted += 1;
            return !self.listings.is_overtaken(ticket);
        }
        self.number();
        let believed = self.listings.believe(ticket, directory, listing, lifetime);
        self.make_room();
        believed
    }

    /// The bytes believed within `range` of a file, and the gaps that have to be asked for.
    pub fn bytes(&self, ino: Ino, range: Range<u64>, now: Time) -> (Vec<Segment>, Vec<Range<u64>>) {
        let of = self.attributes.get(&ino, now).map(|believed| believed.number);
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
        let believed = self.attributes.get(&ino, now).map(|believed| believed.number);
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

    fn start_content(&mut self, ino: Ino, of: u64) {
        self.drop_content(ino);
        self.last_serial += 1;
        let serial = self.last_serial;
        self.contents.insert(ino, Content { of, bytes: Extents::default(), held: 0, serial });
        self.read_order.push_back((ino, serial));
        if self.read_order.len() > 2 * self.contents.len() + 1024 {
            let contents = &self.contents;
            self.read_order
                .retain(|(ino, serial)| contents.get(ino).is_some_and(|content| content.serial == *serial));
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

    /// Whether programs have been shown other times of an inode than the store shows.
    pub fn is_disguised(&self, ino: Ino) -> bool {
        self.disguises.contains_key(&ino)
    }

    /// Nobody knows the number any more: what was believed of it goes.
    pub fn forget(&mut self, ino: Ino) {
        self.distrust_inode(ino);
        self.disguises.remove(&ino);
    }

    /// Sweeps out what has expired and gives back the room that it took.
    pub fn shrink(&mut self, now: Time) {
        self.attributes.shrink(now);
        self.names.shrink(now);
        self.listings.shrink(now);
        self.drop_orphaned_contents(now);
        if self.disguises.len() < self.disguises.capacity() / 2 {
            self.disguises.shrink_to_fit();
        }
    }

    /// From `now` on nothing is believed for longer than `lifetimes` say, counted from when it was fetched.
    pub fn shorten(&mut self, lifetimes: &Lifetimes, now: Time) {
        self.attributes.shorten(|_| lifetimes.attributes, now);
        self.names.shorten(|found| lifetimes.of_name(found.is_some()), now);
        self.listings.shorten(|_| lifetimes.listings, now);
        self.drop_orphaned_contents(now);
    }

    /// Content goes with the attributes that it was read under.
    fn drop_orphaned_contents(&mut self, now: Time) {
        let attributes = &self.attributes;
        self.contents.retain(|ino, _| attributes.get(ino, now).is_some());
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
        self.contents.clear();
        self.names.invalidate_all();
        self.listings.invalidate_all();
        self.read_order.clear();
        self.bytes_held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consistency::{Kind, RenameHow};

    const TTL: Duration = Duration::from_millis(1_500);
    const MOST: u64 = 64 << 20;
    const ROOT: Ino = 1;
    const FILE: Ino = 10;
    const OTHER: Ino = 11;

    fn millis(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn nothing_is_believed_of_a_file_that_is_lent() {
        let mut belief = Belief::new(MOST);
        let made = |size| Attributes::new(Kind::File, 0o644, (0, 0), 0, size, second(1));
        let believe = |belief: &mut Belief, size, at| {
            let ticket = belief.fetch_attributes(FILE, millis(at));
            belief.believe_attributes(ticket, FILE, made(size), TTL).map(|shown| shown.size)
        };
        assert_eq!(believe(&mut belief, 1, 0), Some(1));
        belief.lend(FILE);
        assert!(belief.attributes(FILE, millis(1)).is_none());
        assert_eq!(believe(&mut belief, 2, 1), Some(2), "what is fetched is shown");
        assert!(belief.attributes(FILE, millis(2)).is_none());
        let before = belief.fetch_attributes(FILE, millis(2));
        belief.reclaim(FILE);
        assert_eq!(
            belief.believe_attributes(before, FILE, made(2), TTL),
            None,
            "it may have been written since"
        );
        assert_eq!(believe(&mut belief, 3, 3), Some(3));
        assert_eq!(belief.attributes(FILE, millis(4)).map(|believed| believed.value.size), Some(3));
    }

    fn second(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn file(mtime: i64, ctime: i64) -> Attributes {
        let made = Attributes::new(Kind::File, 0o644, (0, 0), 0, 8, second(0));
        Attributes { mtime: second(mtime), ctime: second(ctime), ..made }
    }

    fn times(attributes: Attributes) -> (i64, i64) {
        (attributes.mtime.seconds, attributes.ctime.seconds)
    }

    fn at(name: &str) -> Place {
        Place::new(ROOT, name.as_bytes())
    }

    fn write(ino: Ino) -> Change {
        Change::Write { ino, offset: 0, data: b"x"[..].into(), clears: 0 }
    }

    fn believe(belief: &mut Belief, ino: Ino, now: Time) {
        let ticket = belief.fetch_attributes(ino, now);
        assert!(belief.believe_attributes(ticket, ino, file(5, 5), TTL).is_some());
    }

    /// The number of the fetch of the attributes that are believed.
    fn number(belief: &Belief, ino: Ino, now: Time) -> Option<u64> {
        belief.attributes(ino, now).map(|believed| believed.number)
    }

    fn keep(belief: &mut Belief, ino: Ino, offset: u64, bytes: &Arc<[u8]>, now: Time) {
        if let Some(of) = number(belief, ino, now) {
            belief.believe_bytes(ino, of, offset, bytes, now);
        }
    }

    fn believe_text(belief: &mut Belief, ino: Ino, asked: Time, offset: u64, text: &str) {
        keep(belief, ino, offset, &text.as_bytes().into(), asked);
    }

    fn believing(inodes: &[Ino]) -> Belief {
        let mut belief = Belief::new(MOST);
        inodes.iter().for_each(|ino| believe(&mut belief, *ino, millis(1_000)));
        belief
    }

    /// Eight bytes as they are believed, dots where they have to be asked for.
    fn text(belief: &Belief, ino: Ino, now: Time) -> String {
        let mut buffer = [b'.'; 8];
        let (segments, gaps) = belief.bytes(ino, 0..8, now);
        segments.iter().for_each(|segment| segment.lay_over(&mut buffer, 0));
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        assert_eq!(missing, buffer.iter().filter(|byte| **byte == b'.').count() as u64);
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    #[test]
    fn all_is_believed_until_just_before_its_time_is_over() {
        let mut belief = believing(&[FILE]);
        let fetched = millis(1_000);
        believe_text(&mut belief, FILE, millis(2_000), 0, "abcdefgh");
        let ticket = belief.fetch_name(&at("a"), fetched);
        assert!(belief.believe_name(ticket, at("a"), None, TTL));
        let ticket = belief.fetch_listing(ROOT, fetched);
        assert!(belief.believe_listing(ticket, ROOT, Arc::default(), TTL));
        let end = millis(2_500).as_nanos();
        for (nanos, believed) in [(end - 1, true), (end, false), (end + 1, false)] {
            let now = Time::from_nanos(nanos);
            assert_eq!(belief.attributes(FILE, now).is_some(), believed);
            assert_eq!(belief.name(&at("a"), now).is_some_and(|name| name.value.is_none()), believed);
            assert_eq!(belief.listing(ROOT, now).is_some(), believed);
            assert_eq!(text(&belief, FILE, now), if believed { "abcdefgh" } else { "........" });
        }
    }

    #[test]
    fn with_lifetimes_of_zero_answers_are_shown_and_not_believed() {
        let mut belief = Belief::new(MOST);
        let now = millis(1);
        let ticket = belief.fetch_attributes(FILE, now);
        assert!(belief.believe_attributes(ticket, FILE, file(5, 5), Duration::ZERO).is_some());
        assert!(belief.attributes(FILE, now).is_none());
        belief.believe_bytes(FILE, 0, 0, &b"ab"[..].into(), now);
        assert_eq!(text(&belief, FILE, now), "........");
    }

    #[test]
    fn a_number_given_out_again_is_told_from_the_one_believed_in() {
        let mut belief = Belief::new(MOST);
        let known = |serial| Some(Known { ino: FILE, serial });
        let ticket = belief.fetch_name(&at("a"), millis(0));
        belief.believe_name(ticket, at("a"), known(1), TTL);
        let believed = belief.name(&at("a"), millis(1)).unwrap().value;
        assert_eq!(believed, known(1));
        assert_ne!(believed, known(2));
    }

    #[test]
    fn bytes_that_were_read_first_stay_while_the_attributes_do() {
        let mut belief = believing(&[FILE]);
        believe_text(&mut belief, FILE, millis(1_100), 2, "old");
        believe_text(&mut belief, FILE, millis(1_200), 0, "newnewne");
        assert_eq!(text(&belief, FILE, millis(1_300)), "neoldwne");
        assert_eq!(text(&belief, OTHER, millis(1_300)), "........");
    }

    #[test]
    fn bytes_go_when_the_attributes_are_fetched_again_though_they_look_the_same() {
        let mut belief = believing(&[FILE, OTHER]);
        believe_text(&mut belief, FILE, millis(1_100), 0, "old");
        believe_text(&mut belief, OTHER, millis(1_100), 0, "other");
        believe(&mut belief, FILE, millis(1_200));
        assert_eq!(text(&belief, FILE, millis(1_200)), "........");
        assert_eq!(text(&belief, OTHER, millis(1_200)), "other...");
    }

    #[test]
    fn bytes_that_were_asked_for_under_earlier_attributes_are_not_kept() {
        let mut belief = believing(&[FILE]);
        let before = number(&belief, FILE, millis(1_000)).unwrap();
        belief.changed(&write(FILE));
        // Fetched anew, at the very same time: on a manual clock any number of fetches are.
        believe(&mut belief, FILE, millis(1_000));
        belief.believe_bytes(FILE, before, 0, &b"old"[..].into(), millis(1_000));
        assert_eq!(text(&belief, FILE, millis(1_100)), "........");
        believe_text(&mut belief, FILE, millis(1_000), 0, "new");
        assert_eq!(text(&belief, FILE, millis(1_100)), "new.....");
    }

    #[test]
    fn bytes_that_come_when_the_attributes_have_expired_are_not_kept() {
        let mut belief = believing(&[FILE]);
        let of = number(&belief, FILE, millis(2_499)).unwrap();
        belief.believe_bytes(FILE, of, 0, &b"late"[..].into(), millis(2_500));
        assert!(belief.contents.is_empty());
    }

    #[test]
    fn a_refused_fetch_takes_no_bytes_away() {
        let mut belief = believing(&[]);
        let early = belief.fetch_attributes(FILE, millis(999));
        believe(&mut belief, FILE, millis(1_000));
        believe_text(&mut belief, FILE, millis(1_100), 0, "kept");
        assert_eq!(belief.believe_attributes(early, FILE, file(4, 4), TTL), None);
        assert_eq!(text(&belief, FILE, millis(1_200)), "kept....");
    }

    #[test]
    fn past_the_bound_the_file_read_first_goes_whole() {
        let inodes: Vec<Ino> = (0..3).collect();
        let mut belief = believing(&inodes);
        let now = millis(1_100);
        let mebibytes = |count: usize| -> Arc<[u8]> { vec![b'x'; count << 20].into() };
        keep(&mut belief, 0, 0, &mebibytes(1), now);
        keep(&mut belief, 1, 0, &mebibytes(30), now);
        assert!(belief.attributes(0, now).is_some());
        keep(&mut belief, 0, 1 << 20, &b"more"[..].into(), now);
        keep(&mut belief, 2, 0, &mebibytes(1), now);
        let kept: Vec<bool> = inodes.iter().map(|ino| belief.attributes(*ino, now).is_some()).collect();
        assert_eq!(kept, [false, true, true], "attributes and all");
        assert_eq!(
            inodes.iter().map(|ino| belief.bytes(*ino, 0..8, now).0.len()).collect::<Vec<_>>(),
            [0, 1, 1]
        );
        assert_eq!(belief.bytes_held, (31 << 20) + 2 * PIECE_COST);
    }

    #[test]
    fn what_fills_the_bound_to_the_last_byte_is_kept() {
        let mut belief = believing(&[FILE]);
        let now = millis(1_100);
        let length = MOST / 2 - 2 * PIECE_COST - 1;
        keep(&mut belief, FILE, 0, &vec![b'x'; length as usize].into(), now);
        believe_text(&mut belief, FILE, now, length, "y");
        assert_eq!(belief.bytes_held, MOST / 2);
        believe_text(&mut belief, FILE, now, length + 1, "z");
        assert_eq!((belief.bytes_held, belief.attributes(FILE, now).is_some()), (0, false));
    }

    #[test]
    fn a_file_that_goes_and_comes_again_counts_as_read_last() {
        let mut belief = believing(&[1, 2]);
        let now = millis(1_100);
        let half: Arc<[u8]> = vec![b'x'; 12 << 20].into();
        keep(&mut belief, 1, 0, &half, now);
        keep(&mut belief, 2, 0, &half, now);
        believe(&mut belief, 1, millis(1_050));
        keep(&mut belief, 1, 0, &half, now);
        believe(&mut belief, 3, millis(1_050));
        keep(&mut belief, 3, 0, &half, now);
        assert_eq!([1, 2, 3].map(|ino| belief.contents.contains_key(&ino)), [true, false, true]);
    }

    #[test]
    fn more_than_the_bound_at_once_and_nothing_at_all_are_not_kept() {
        let mut belief = believing(&[FILE]);
        let now = millis(1_100);
        keep(&mut belief, FILE, 0, &vec![0; MOST as usize / 2 + 1].into(), now);
        keep(&mut belief, FILE, 0, &[].into(), now);
        assert!(belief.contents.is_empty() && belief.attributes(FILE, now).is_some());
    }

    #[test]
    fn very_many_tiny_files_are_bounded_too() {
        let mut belief = Belief::new(MOST);
        for ino in 0..200_000 {
            believe(&mut belief, ino, millis(1_000));
            believe_text(&mut belief, ino, millis(1_000), 0, "x");
        }
        assert_eq!(belief.contents.len() as u64, MOST / 2 / (PIECE_COST + 1));
        assert_eq!(belief.bytes_held, belief.contents.values().map(|content| content.held).sum::<u64>());
    }

    #[test]
    fn files_read_again_and_again_leave_no_trail() {
        let mut belief = Belief::new(MOST);
        for round in 0..10_000 {
            believe(&mut belief, FILE, millis(round));
            believe_text(&mut belief, FILE, millis(round), 0, "x");
        }
        assert_eq!((belief.contents.len(), belief.bytes_held), (1, 1 + PIECE_COST));
        assert!(belief.read_order.len() <= 1_026, "{}", belief.read_order.len());
    }

    #[test]
    fn an_own_change_drops_all_that_it_touches_and_overtakes_fetches() {
        let mut belief = believing(&[FILE, OTHER, ROOT, 2, 12]);
        let now = millis(1_100);
        for place in [at("a"), at("b"), at("c")] {
            let ticket = belief.fetch_name(&place, now);
            belief.believe_name(ticket, place, None, TTL);
        }
        let ticket = belief.fetch_listing(ROOT, now);
        belief.believe_listing(ticket, ROOT, Arc::default(), TTL);
        believe_text(&mut belief, FILE, now, 0, "x");
        let (attributes, name) = (belief.fetch_attributes(FILE, now), belief.fetch_name(&at("a"), now));
        let listing = belief.fetch_listing(ROOT, now);
        let replaced = Some((OTHER, Kind::File));
        let how = RenameHow::Replace;
        belief.changed(&Change::Rename {
            from: at("a"),
            to: at("b"),
            ino: FILE,
            kind: Kind::File,
            replaced,
            how,
        });
        let kept = [FILE, OTHER, ROOT, 2, 12].map(|ino| belief.attributes(ino, now).is_some());
        assert_eq!(kept, [false, false, false, true, true]);
        assert_eq!(["a", "b", "c"].map(|name| belief.name(&at(name), now).is_some()), [false, false, true]);
        assert!(belief.listing(ROOT, now).is_none() && belief.contents.is_empty());
        assert_eq!(belief.believe_attributes(attributes, FILE, file(5, 5), TTL), None);
        assert!(
            !belief.believe_name(name, at("a"), None, TTL)
                && !belief.believe_listing(listing, ROOT, Arc::default(), TTL)
        );
        assert_eq!(belief.changes(), 1);
    }

    #[test]
    fn data_drops_neither_names_nor_listings() {
        let mut belief = believing(&[FILE]);
        let now = millis(1_100);
        let ticket = belief.fetch_listing(ROOT, now);
        belief.believe_listing(ticket, ROOT, Arc::default(), TTL);
        belief.changed(&write(FILE));
        assert!(belief.listing(ROOT, now).is_some() && belief.attributes(FILE, now).is_none());
    }

    #[test]
    fn times_of_a_landing_look_as_the_program_knows_them_until_somebody_else_changes_the_file() {
        let mut belief = Belief::new(MOST);
        belief.disguise(FILE, &file(8, 9), &file(1, 2));
        assert_eq!(times(belief.disguised(FILE, file(8, 9))), (1, 2));
        assert_eq!(
            times(belief.disguised(FILE, file(7, 9))),
            (7, 2),
            "utimens elsewhere, ctime within a tick"
        );
        assert_eq!(times(belief.disguised(FILE, file(1, 10))), (1, 10), "another changed its attributes");
        assert_eq!(times(belief.disguised(OTHER, file(8, 9))), (8, 9));
    }

    #[test]
    fn a_disguise_shows_in_fetched_and_in_believed_attributes_and_outlives_them() {
        let mut belief = Belief::new(MOST);
        belief.disguise(FILE, &file(5, 5), &file(1, 2));
        let ticket = belief.fetch_attributes(FILE, millis(0));
        assert_eq!(belief.believe_attributes(ticket, FILE, file(5, 5), TTL).map(times), Some((1, 2)));
        assert_eq!(belief.attributes(FILE, millis(1)).map(|believed| times(believed.value)), Some((1, 2)));
        belief.expire();
        assert_eq!(times(belief.disguised(FILE, file(5, 5))), (1, 2));
        belief.forget(FILE);
        assert_eq!(times(belief.disguised(FILE, file(5, 5))), (5, 5));
    }

    #[test]
    fn a_disguise_that_hides_nothing_is_none() {
        let mut belief = Belief::new(MOST);
        belief.disguise(FILE, &file(5, 5), &file(1, 2));
        belief.disguise(FILE, &file(6, 6), &file(6, 6));
        assert!(belief.disguises.is_empty());
    }

    #[test]
    fn what_turned_out_wrong_is_asked_for_again() {
        let mut belief = believing(&[FILE, ROOT]);
        let now = millis(1_100);
        let list = |belief: &mut Belief| {
            let ticket = belief.fetch_listing(ROOT, now);
            belief.believe_listing(ticket, ROOT, Arc::default(), TTL)
        };
        let ticket = belief.fetch_name(&at("a"), now);
        assert!(belief.believe_name(ticket, at("a"), None, TTL) && list(&mut belief));
        belief.distrust_name(&at("a"));
        assert!(belief.name(&at("a"), now).is_none() && belief.listing(ROOT, now).is_none());
        assert!(list(&mut belief));
        belief.distrust_inode(ROOT);
        assert!(belief.attributes(ROOT, now).is_none() && belief.listing(ROOT, now).is_none());
        assert!(belief.attributes(FILE, now).is_some());
    }

    #[test]
    fn when_all_expires_nothing_is_left_and_every_fetch_is_overtaken() {
        let mut belief = believing(&[FILE]);
        believe_text(&mut belief, FILE, millis(1_100), 0, "x");
        let ticket = belief.fetch_attributes(OTHER, millis(1_100));
        belief.expire();
        assert!(belief.attributes(FILE, millis(1_100)).is_none());
        assert_eq!((belief.contents.len(), belief.bytes_held, belief.read_order.len()), (0, 0, 0));
        assert_eq!(belief.believe_attributes(ticket, OTHER, file(5, 5), TTL), None);
    }

    #[test]
    fn what_was_believed_first_goes_where_there_is_no_more_room_whatever_its_kind() {
        let now = millis(1_000);
        let listing = |count: u64| {
            let mut listing = Listing::default();
            (0..count).for_each(|ino| listing.push(b"name", ino, Kind::File));
            Arc::new(listing)
        };
        let most = 2 * NAME_COST + 8 + 2 * ATTRIBUTES_COST + listing(0).cost();
        let mut belief = Belief::new(most);
        let believe_name = |belief: &mut Belief, name: &str| {
            let ticket = belief.fetch_name(&at(name), now);
            assert!(belief.believe_name(ticket, at(name), None, TTL));
        };
        let list = |belief: &mut Belief, directory: Ino, count: u64| {
            let ticket = belief.fetch_listing(directory, now);
            belief.believe_listing(ticket, directory, listing(count), TTL);
        };
        // Which of the five is still believed, in the order in which they came.
        let left = |belief: &Belief| {
            let names = ["here", "gone"].map(|name| belief.name(&at(name), now).is_some());
            let inodes = [FILE, OTHER].map(|ino| belief.attributes(ino, now).is_some());
            [names[0], inodes[0], belief.listing(ROOT, now).is_some(), names[1], inodes[1]]
        };
        believe_name(&mut belief, "here");
        believe(&mut belief, FILE, now);
        list(&mut belief, ROOT, 0);
        believe_name(&mut belief, "gone");
        believe(&mut belief, OTHER, now);
        assert_eq!((left(&belief), belief.held(), belief.evicted()), ([true; 5], most, 0));
        let changes = belief.changes();
        for count in 1..=5 {
            belief.set_most(belief.held() - 1);
            let expected = [1, 2, 3, 4, 5].map(|place| place > count);
            assert_eq!((left(&belief), belief.evicted()), (expected, count));
        }
        assert_eq!((belief.held(), belief.changes() - changes), (0, 5));
        list(&mut belief, ROOT, 1000);
        assert_eq!((belief.held(), belief.evicted()), (0, 6), "what would push out everything else");
    }

    #[test]
    fn attributes_that_go_for_want_of_room_take_their_bytes_with_them() {
        let mut belief = believing(&[FILE]);
        let now = millis(1_000);
        believe_text(&mut belief, FILE, now, 0, "abcdefgh");
        believe(&mut belief, OTHER, now);
        assert_eq!(text(&belief, FILE, now), "abcdefgh");
        belief.set_most(ATTRIBUTES_COST + PIECE_COST + 8);
        assert!(belief.attributes(FILE, now).is_none() && belief.attributes(OTHER, now).is_some());
        assert_eq!((text(&belief, FILE, now), belief.held()), ("........".to_string(), ATTRIBUTES_COST));
    }

    #[test]
    fn any_number_of_absent_names_takes_no_more_room_than_there_is() {
        const NAMES: u64 = 20_000;
        let mut belief = Belief::new(1 << 20);
        for number in 0..NAMES {
            let place = at(&format!("name{number}"));
            let ticket = belief.fetch_name(&place, Time::ZERO);
            assert!(belief.believe_name(ticket, place, None, TTL));
            assert!(belief.held() <= 1 << 20);
        }
        let left = NAMES - belief.evicted();
        assert!((5_000..7_000).contains(&left), "{left}");
        let is_left = |number: u64| belief.name(&at(&format!("name{number}")), Time::ZERO).is_some();
        assert!((0..NAMES).all(|number| is_left(number) == (number >= NAMES - left)));
    }
}
