//! Random histories of questions: two clients make changes, land them and ask, each in steps, on a clock that moves
//! between any two steps, also by a nanosecond. Every answer is held against the past of the store.
//!
//! An answer is right if the store showed it, with the client's own changes laid over it, at some moment that is
//!
//! - no longer ago than the lifetime of what was asked, or since the question was asked if it was fetched for it;
//! - not before an own change of the same thing, made or landed;
//! - not before the moment that the client was shown of the same thing the last time.
//!
//! And while the attributes of a file are believed, bytes that were read come back as they were.
//!
//! The model is flat: files in one directory, and what is compared of them is a name, a size, a modification time, a link
//! count and bytes. What a fetch brings is what the store holds at that step.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::store::{ROOT, Store};
use crate::{
    consistency::{
        attributes::{Attributes, Ino, Kind},
        belief::{Belief, Known},
        core::Core,
        extents::Segment,
        in_flight::InFlight,
        inquiry::{BaseOf, Bound, EntriesOf, Inode, Inquiry, NameOf, Question, Step},
        listing::Listing,
        mutation::{Change, MutationId, Name, Place, RenameHow},
        policy::{Lifetime, Lifetimes, Policy},
        provenance::Origin,
        reading::ReadPlan,
    },
    time::{Time, Timestamp},
};

const NAMES: [&[u8]; 2] = [b"a", b"b"];

/// All different, so that a wrong one shows.
const POLICY: Policy = Policy {
    lifetimes: Lifetimes {
        files: Lifetime::fixed(Duration::from_nanos(9)),
        directories: Lifetime::fixed(Duration::from_nanos(9)),
        names: Duration::from_nanos(7),
        absences: Duration::from_nanos(5),
        listings: Duration::from_nanos(6),
    },
    ..Policy::eventual()
};

/// More than everything believed here takes, and less.
const ROOMS: [u64; 2] = [1 << 20, 1 << 10];

#[derive(Clone, Debug)]
enum Op {
    Make {
        name: usize,
    },
    Unlink {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Write {
        file: usize,
        start: u64,
        length: u64,
    },
    Resize {
        file: usize,
        size: u64,
    },
    /// Hands out a change that is due.
    Start,
    /// Carries out one that was handed out.
    Apply {
        which: usize,
    },
    /// It has landed.
    Finish {
        which: usize,
    },
    AskName {
        name: usize,
    },
    AskFile {
        file: usize,
    },
    AskEntries,
    Read {
        file: usize,
        start: u64,
        length: u64,
    },
    /// Takes the next step of an inquiry, which may end it.
    Go {
        which: usize,
    },
    Expire,
    /// Nobody uses a file any more, and what was believed of it goes.
    Forget {
        file: usize,
    },
}

#[derive(Clone, Debug)]
struct Move {
    client: usize,
    /// How much time passes first.
    nanos: u64,
    /// How long what is made takes to be due.
    delay: u64,
    op: Op,
}

fn moves() -> impl Strategy<Value = Move> {
    let any = || 0..8_usize;
    let op = prop_oneof![
        4 => any().prop_map(|name| Op::Make { name }),
        2 => any().prop_map(|name| Op::Unlink { name }),
        2 => (any(), any()).prop_map(|(from, to)| Op::Rename { from, to }),
        4 => (any(), 0..6_u64, 1..5_u64).prop_map(|(file, start, length)| Op::Write { file, start, length }),
        2 => (any(), 0..8_u64).prop_map(|(file, size)| Op::Resize { file, size }),
        8 => Just(Op::Start),
        8 => any().prop_map(|which| Op::Apply { which }),
        8 => any().prop_map(|which| Op::Finish { which }),
        6 => any().prop_map(|name| Op::AskName { name }),
        6 => any().prop_map(|file| Op::AskFile { file }),
        4 => Just(Op::AskEntries),
        10 => (any(), 0..6_u64, 1..8_u64).prop_map(|(file, start, length)| Op::Read { file, start, length }),
        24 => any().prop_map(|which| Op::Go { which }),
        1 => Just(Op::Expire),
        2 => any().prop_map(|file| Op::Forget { file }),
    ];
    let nanos = prop_oneof![5 => Just(0_u64), 3 => Just(1_u64), 1 => 2..8_u64];
    (0..2_usize, nanos, 0..4_u64, op).prop_map(|(client, nanos, delay, op)| Move { client, nanos, delay, op })
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Name(Name),
    File(Ino),
    Bytes(Ino),
    Entries,
}

/// What a file shows.
#[derive(Clone, Debug, Default, PartialEq)]
struct File {
    data: Vec<u8>,
    mtime: Timestamp,
    links: u32,
}

struct Promise {
    id: MutationId,
    change: Change,
    stamp: Timestamp,
    started: bool,
    /// The first moment of the store that shows it.
    applied: Option<usize>,
}

/// An inquiry between two of its steps.
struct Running<Q: Question> {
    inquiry: Inquiry<Q>,
    /// The moment of the store at which it was asked last.
    asked: usize,
    is_fetching: bool,
    fetched: Option<Q::Fetched>,
}

/// A read that is planned, while its gaps are read.
struct Gaps {
    ino: Ino,
    plan: ReadPlan,
    /// When it was planned, and which attributes were believed then.
    planned: Time,
    number: Option<u64>,
    changes: u64,
    read: Vec<(u64, Arc<[u8]>)>,
}

enum Pending {
    Name(Running<NameOf>),
    File(Ino, Running<BaseOf>),
    Read(Ino, Range<u64>, Running<BaseOf>),
    Entries(Running<EntriesOf>, u64),
    Gaps(Gaps),
}

struct Client {
    belief: Belief,
    in_flight: InFlight,
    promises: Vec<Promise>,
    pending: Vec<Pending>,
    /// The earliest moment of the store that it may still be shown of a thing.
    floors: BTreeMap<Thing, usize>,
    /// Bytes shown while the attributes of one fetch were believed.
    shown: BTreeMap<(Ino, u64, u64), u8>,
}

struct World {
    /// Every moment of the store: since when, and what.
    past: Vec<(Time, Store)>,
    clients: Vec<Client>,
    now: Time,
    made: u64,
}

impl Thing {
    fn lifetime(&self, is_absent: bool) -> Duration {
        match self {
            Thing::Name(_) => POLICY.lifetimes.of_name(!is_absent),
            Thing::File(_) | Thing::Bytes(_) => POLICY.lifetimes.files.max,
            Thing::Entries => POLICY.lifetimes.listings,
        }
    }
}

fn things(change: &Change) -> Vec<Thing> {
    let names: Vec<Thing> = change.places().iter().map(|place| Thing::Name(place.name.clone())).collect();
    let entries = if names.is_empty() { None } else { Some(Thing::Entries) };
    let inodes = change.inodes().into_iter().filter(|ino| *ino != ROOT);
    let files = inodes.flat_map(|ino| [Thing::File(ino), Thing::Bytes(ino)]);
    names.into_iter().chain(entries).chain(files).collect()
}

/// Whether two changes have anything to do with each other but the directory.
fn conflict(one: &Change, other: &Change) -> bool {
    let others = things(other);
    things(one).iter().any(|thing| *thing != Thing::Entries && others.contains(thing))
}

fn place(name: usize) -> Place {
    Place::new(ROOT, NAMES[name % NAMES.len()])
}

fn pick<T>(from: &[T], index: usize) -> Option<&T> {
    from.get(index % from.len().max(1))
}

impl Client {
    fn new(room: u64) -> Client {
        Client {
            belief: Belief::new(room),
            in_flight: InFlight::default(),
            promises: Vec::new(),
            pending: Vec::new(),
            floors: BTreeMap::new(),
            shown: BTreeMap::new(),
        }
    }

    fn core(&mut self) -> Core<'_> {
        Core::new(&mut self.belief, &self.in_flight, &POLICY)
    }

    fn raise(&mut self, things: Vec<Thing>, moment: usize) {
        for thing in things {
            let floor = self.floors.entry(thing).or_default();
            *floor = moment.max(*floor);
        }
    }

    /// Own changes that a moment of the store does not show.
    fn own(&self, moment: usize) -> impl Iterator<Item = &Promise> {
        self.promises.iter().filter(move |promise| promise.applied.is_none_or(|applied| applied > moment))
    }

    fn name_at(&self, past: &[(Time, Store)], moment: usize, place: &Place) -> Option<Ino> {
        self.own(moment).fold(past[moment].1.at(place), |bound, promise| match &promise.change {
            Change::Make { place: made, ino, .. } if made == place => Some(*ino),
            Change::Unlink { place: gone, .. } if gone == place => None,
            Change::Rename { from, .. } if from == place => None,
            Change::Rename { to, ino, .. } if to == place => Some(*ino),
            _ => bound,
        })
    }

    fn names_at(&self, past: &[(Time, Store)], moment: usize) -> BTreeMap<Name, Ino> {
        let all = (0..NAMES.len()).map(place);
        all.filter_map(|place| Some((place.name.clone(), self.name_at(past, moment, &place)?))).collect()
    }

    fn file_at(&self, past: &[(Time, Store)], moment: usize, ino: Ino) -> Option<File> {
        let store = &past[moment].1;
        let stored = store.nodes.get(&ino).map(|node| File {
            data: node.data.clone(),
            mtime: node.mtime,
            links: store.links(ino),
        });
        self.own(moment).fold(stored, |file, promise| {
            let Promise { change, stamp, .. } = promise;
            if let Change::Make { ino: made, .. } = change
                && *made == ino
            {
                return Some(File { data: Vec::new(), mtime: *stamp, links: 1 });
            }
            let mut file = file?;
            match change {
                Change::Unlink { ino: gone, .. } if *gone == ino => file.links -= 1,
                Change::Rename { replaced: Some((gone, _)), .. } if *gone == ino => file.links -= 1,
                Change::Write { ino: written, offset, data, .. } if *written == ino => {
                    let range = *offset as usize..*offset as usize + data.len();
                    file.data.resize(range.end.max(file.data.len()), 0);
                    file.data[range].copy_from_slice(data);
                    file.mtime = *stamp;
                }
                Change::Resize { ino: cut, size, .. } if *cut == ino => {
                    file.data.resize(*size as usize, 0);
                    file.mtime = *stamp;
                }
                _ => {}
            }
            Some(file)
        })
    }
}

impl World {
    fn new(room: u64) -> World {
        World {
            past: vec![(Time::ZERO, Store::new())],
            clients: vec![Client::new(room), Client::new(room)],
            now: Time::from_nanos(1_000),
            made: 0,
        }
    }

    fn last(&self) -> usize {
        self.past.len() - 1
    }

    fn make_move(&mut self, Move { client, nanos, delay, op }: &Move) {
        self.now = self.now + Duration::from_nanos(*nanos);
        let client = *client;
        match op {
            Op::Start => self.start(client),
            Op::Apply { which } => self.apply(client, *which),
            Op::Finish { which } => self.finish(client, *which),
            Op::AskName { name } => self.begin(client, Pending::Name(Running::new(NameOf(place(*name))))),
            Op::AskEntries => {
                let changes = self.clients[client].belief.changes();
                self.begin(client, Pending::Entries(Running::new(EntriesOf::new(ROOT)), changes));
            }
            Op::AskFile { file } => {
                if let Some(ino) = self.file(client, *file) {
                    self.begin(client, Pending::File(ino, Running::new(BaseOf(ino))));
                }
            }
            Op::Read { file, start, length } => {
                if let Some(ino) = self.file(client, *file) {
                    let running = Running::new(BaseOf(ino));
                    self.begin(client, Pending::Read(ino, *start..start + length, running));
                }
            }
            Op::Go { which } => {
                let pending = &mut self.clients[client].pending;
                if !pending.is_empty() {
                    let next = pending.remove(which % pending.len());
                    self.begin(client, next);
                }
            }
            Op::Expire => self.clients[client].belief.expire(),
            Op::Forget { file } => {
                let forgotten = self.file(client, *file);
                forgotten.into_iter().for_each(|ino| self.clients[client].belief.forget(ino));
            }
            _ => self.change(client, *delay, op),
        }
    }

    fn file(&self, client: usize, index: usize) -> Option<Ino> {
        let names = self.clients[client].names_at(&self.past, self.last());
        pick(&names.into_values().collect::<Vec<_>>(), index).copied()
    }

    fn change(&mut self, client: usize, delay: u64, op: &Op) {
        self.made += 1;
        let stamp = Timestamp { seconds: self.made as i64, nanos: 0 };
        let Some(change) = self.change_of(client, op, stamp) else { return };
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != client);
        let mut promises = others.flat_map(|(_, other)| &other.promises);
        if promises.any(|promise| conflict(&promise.change, &change)) {
            return;
        }
        let (due, last) = (self.now + Duration::from_nanos(delay), self.last());
        let client = &mut self.clients[client];
        client.belief.changed(&change);
        client.raise(things(&change), last);
        let id = client.in_flight.add(change.clone(), stamp, due);
        client.promises.push(Promise { id, change, stamp, started: false, applied: None });
    }

    fn change_of(&self, client: usize, op: &Op, stamp: Timestamp) -> Option<Change> {
        let at = |name: usize| self.clients[client].name_at(&self.past, self.last(), &place(name));
        Some(match op {
            Op::Make { name } if at(*name).is_none() => Change::Make {
                place: place(*name),
                ino: 100 + self.made,
                attributes: Attributes::new(Kind::File, 0o640, (1, 1), 0, 0, stamp),
                target: [].into(),
                inherited: [].into(),
            },
            Op::Unlink { name } => Change::Unlink { place: place(*name), ino: at(*name)? },
            Op::Rename { from, to } if place(*from) != place(*to) => Change::Rename {
                from: place(*from),
                to: place(*to),
                ino: at(*from)?,
                kind: Kind::File,
                replaced: at(*to).map(|ino| (ino, Kind::File)),
                how: RenameHow::Replace,
            },
            Op::Write { file, start, length } => Change::Write {
                ino: self.file(client, *file)?,
                offset: *start,
                data: (0..*length).map(|at| (self.made * 31 + at) as u8 | 1).collect(),
                clears: 0,
            },
            Op::Resize { file, size } => {
                Change::Resize { ino: self.file(client, *file)?, size: *size, clears: 0 }
            }
            _ => return None,
        })
    }

    fn start(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(mutation) = client.in_flight.start_due(self.now) else { return };
        client.belief.landing(&mutation.change);
        let promise = client.promises.iter_mut().find(|promise| promise.id == mutation.id);
        promise.expect("it was promised").started = true;
    }

    fn apply(&mut self, client: usize, which: usize) {
        let moment = self.past.len();
        let promises = self.clients[client].promises.iter_mut();
        let mut started: Vec<_> =
            promises.filter(|promise| promise.started && promise.applied.is_none()).collect();
        if started.is_empty() {
            return;
        }
        let promise = started.remove(which % started.len());
        let mut store = self.past[moment - 1].1.clone();
        store.apply(&promise.change, promise.stamp);
        promise.applied = Some(moment);
        self.past.push((self.now, store));
    }

    fn finish(&mut self, client: usize, which: usize) {
        let client = &mut self.clients[client];
        let applied: Vec<usize> =
            (0..client.promises.len()).filter(|index| client.promises[*index].applied.is_some()).collect();
        let Some(&index) = pick(&applied, which) else { return };
        let promise = client.promises.remove(index);
        client.belief.changed(&promise.change);
        client.in_flight.landed(promise.id);
        client.raise(things(&promise.change), promise.applied.unwrap_or_default());
    }

    /// Takes one step of an inquiry; it stays pending unless that was the last.
    fn begin(&mut self, client: usize, pending: Pending) {
        let (now, last) = (self.now, self.last());
        let store = self.past[last].1.clone();
        let mut core = self.clients[client].core();
        let left = match pending {
            Pending::Name(mut running) => {
                let fetch = |NameOf(place): &NameOf| {
                    store.at(place).map(|ino| (Known { ino, serial: 1 }, store.attributes(ino)))
                };
                match running.step(&mut core, now, last, fetch) {
                    Some(bound) => return self.named(client, &running, bound),
                    None => Pending::Name(running),
                }
            }
            Pending::File(ino, mut running) => match running.step(&mut core, now, last, inode_in(&store)) {
                Some(base) => {
                    let shown = core.view(ino, &base.expect("inodes stay"));
                    return self.looked(client, ino, running.since(), &shown);
                }
                None => Pending::File(ino, running),
            },
            Pending::Read(ino, range, mut running) => {
                match running.step(&mut core, now, last, inode_in(&store)) {
                    Some(base) => {
                        let plan = core.plan_read(ino, &base.expect("inodes stay"), range, now);
                        let belief = &self.clients[client].belief;
                        let number = belief.attributes(ino, now).map(|believed| believed.number);
                        let changes = belief.changes();
                        Pending::Gaps(Gaps { ino, plan, planned: now, number, changes, read: Vec::new() })
                    }
                    None => Pending::Read(ino, range, running),
                }
            }
            Pending::Entries(mut running, changes) => {
                let fetch = |_: &EntriesOf| {
                    let mut listing = Listing::default();
                    store.entries().iter().for_each(|(at, ino)| listing.push(&at.name, *ino, Kind::File));
                    Some(listing)
                };
                match running.step(&mut core, now, last, fetch) {
                    Some(listing) => {
                        let listing = listing.expect("the directory stays");
                        return self.listed(client, running.since(), changes, &listing);
                    }
                    None => Pending::Entries(running, changes),
                }
            }
            Pending::Gaps(mut gaps) => match gaps.plan.gaps.get(gaps.read.len()).cloned() {
                Some(gap) => {
                    gaps.read.push((gap.start, bytes_in(&store, gaps.ino, gap)));
                    Pending::Gaps(gaps)
                }
                None => return self.read(client, gaps),
            },
        };
        self.clients[client].pending.push(left);
    }

    /// The moments of the store that may be shown of a thing now: those of its lifetime, or those since it was asked for.
    fn check(&mut self, client: usize, thing: &Thing, earliest: usize, is_shown: impl Fn(usize) -> bool) {
        let floor = self.clients[client].floors.get(thing).copied().unwrap_or_default();
        let earliest = earliest.max(floor);
        self.check_since(client, thing, earliest, is_shown);
    }

    fn check_since(
        &mut self,
        client: usize,
        thing: &Thing,
        earliest: usize,
        is_shown: impl Fn(usize) -> bool,
    ) {
        let found = (earliest..=self.last()).find(|moment| is_shown(*moment));
        let Some(found) = found else {
            panic!("{thing:?} was never so since moment {earliest} of {}", self.last());
        };
        self.clients[client].raise(vec![thing.clone()], found);
    }

    /// The first moment that a belief of this age may be from.
    fn within(&self, lifetime: Duration, at: Time) -> usize {
        let age = |until: Time| at.since(until);
        let is_over =
            |moment: usize| self.past.get(moment + 1).is_some_and(|(until, _)| age(*until) >= lifetime);
        (0..self.past.len()).find(|moment| !is_over(*moment)).unwrap_or(self.last())
    }

    fn earliest(&self, thing: &Thing, is_absent: bool, since: Option<usize>) -> usize {
        since.unwrap_or_else(|| self.within(thing.lifetime(is_absent), self.now))
    }

    fn named(&mut self, client: usize, running: &Running<NameOf>, bound: Bound) {
        let NameOf(place) = running.inquiry.question();
        let (ino, shown) = match bound {
            Bound::Absent => (None, None),
            Bound::InFlight(ino) => (Some(ino), None),
            Bound::Found(known, shown) => (Some(known.ino), shown),
        };
        let thing = Thing::Name(place.name.clone());
        let earliest = self.earliest(&thing, ino.is_none(), running.since());
        let names: Vec<_> =
            (0..self.past.len()).map(|at| self.clients[client].name_at(&self.past, at, place)).collect();
        self.check(client, &thing, earliest, |moment| names[moment] == ino);
        if let (Some(ino), Some(shown)) = (ino, shown) {
            self.looked(client, ino, running.since(), &shown);
        }
    }

    fn looked(&mut self, client: usize, ino: Ino, since: Option<usize>, shown: &Attributes) {
        let thing = Thing::File(ino);
        let earliest = self.earliest(&thing, false, since);
        let files: Vec<_> =
            (0..self.past.len()).map(|at| self.clients[client].file_at(&self.past, at, ino)).collect();
        let is_shown = |file: &File| {
            (file.data.len() as u64, file.mtime, file.links) == (shown.size, shown.mtime, shown.links)
        };
        self.check(client, &thing, earliest, |moment| files[moment].as_ref().is_some_and(is_shown));
    }

    fn listed(&mut self, client: usize, since: Option<usize>, changes: u64, listing: &Listing) {
        if since.is_some() && self.clients[client].belief.changes() != changes {
            // Own changes while the directory was listed may be in the listing or not.
            return;
        }
        let shown: BTreeMap<Name, Ino> = listing.iter().map(|(name, ino, _)| (name.into(), ino)).collect();
        assert_eq!(shown.len(), listing.len(), "a name is listed twice");
        let earliest = self.earliest(&Thing::Entries, false, since);
        let all: Vec<_> =
            (0..self.past.len()).map(|at| self.clients[client].names_at(&self.past, at)).collect();
        let is_shown = |moment: usize| all[moment] == shown;
        match since {
            // Of two listings at once either may have seen more, whichever ends first.
            Some(_) => self.check_since(client, &Thing::Entries, earliest, is_shown),
            None => self.check(client, &Thing::Entries, earliest, is_shown),
        }
    }

    /// All gaps are read: believes them and puts the answer together.
    fn read(&mut self, client: usize, gaps: Gaps) {
        let Gaps { ino, plan, planned, number, changes, read } = gaps;
        let now = self.now;
        let length = (plan.range.end - plan.range.start) as usize;
        let mut bytes = vec![0; length];
        let lay = |segments: &[Segment], bytes: &mut [u8]| {
            segments.iter().for_each(|segment| segment.lay_over(bytes, plan.range.start));
        };
        lay(&plan.believed, &mut bytes);
        let is_alone = self.clients[client].belief.changes() == changes;
        for (start, data) in &read {
            let at = (start - plan.range.start) as usize;
            bytes[at..at + data.len()].copy_from_slice(data);
            let before = self.clients[client].core().believe_bytes(ino, &plan, *start, data, now);
            lay(&before, &mut bytes);
        }
        plan.mine.lay_over(&mut bytes, plan.range.start);
        if !is_alone {
            return;
        }
        let earliest = self.within(POLICY.lifetimes.files.max, planned);
        let floor = self.clients[client].floors.get(&Thing::Bytes(ino)).copied().unwrap_or_default();
        let moments = earliest.max(floor)..=self.last();
        let files: Vec<File> =
            moments.filter_map(|at| self.clients[client].file_at(&self.past, at, ino)).collect();
        for (position, byte) in plan.range.clone().zip(&bytes) {
            let there = |file: &File| file.data.get(position as usize).copied().unwrap_or_default();
            assert!(
                files.iter().any(|file| there(file) == *byte),
                "byte {position} of {ino} was never {byte}"
            );
            if let Some(number) = number {
                let shown = self.clients[client].shown.entry((ino, number, position)).or_insert(*byte);
                assert_eq!(shown, byte, "byte {position} of {ino} while the same attributes are believed");
            }
        }
    }
}

impl<Q: Question> Running<Q> {
    fn new(question: Q) -> Running<Q> {
        Running { inquiry: Inquiry::new(question), asked: 0, is_fetching: false, fetched: None }
    }

    /// Since which moment what was fetched is from, if it was fetched. One whose fetch was overtaken may be answered from what
    /// is believed by then.
    fn since(&self) -> Option<usize> {
        let is_believed = matches!(self.inquiry.provenance().origin(), Origin::Belief(_));
        (self.is_fetching && !is_believed).then_some(self.asked)
    }

    fn step(
        &mut self,
        core: &mut Core<'_>,
        now: Time,
        moment: usize,
        fetch: impl FnOnce(&Q) -> Q::Fetched,
    ) -> Option<Q::Answer> {
        if self.is_fetching && self.fetched.is_none() {
            self.fetched = Some(fetch(self.inquiry.question()));
            return None;
        }
        let step = match self.fetched.take() {
            Some(fetched) => core.tell(&mut self.inquiry, fetched, now),
            None => core.ask(&mut self.inquiry, now),
        };
        match step {
            Step::Answer(answer) => return Some(answer),
            Step::Fetch => (self.asked, self.is_fetching) = (moment, true),
            Step::AwaitLanding => self.is_fetching = false,
        }
        None
    }
}

fn inode_in(store: &Store) -> impl Fn(&BaseOf) -> Inode {
    |BaseOf(ino)| match store.nodes.contains_key(ino) {
        true => Inode::There(store.attributes(*ino)),
        false => Inode::Gone { ghost: Attributes::new(Kind::File, 0, (0, 0), 0, 0, Timestamp::default()) },
    }
}

fn bytes_in(store: &Store, ino: Ino, range: Range<u64>) -> Arc<[u8]> {
    let data = &store.nodes[&ino].data;
    let end = (range.end as usize).min(data.len());
    data[(range.start as usize).min(end)..end].into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_was_true_within_its_lifetime(moves in vec(moves(), 1..160), room in 0..ROOMS.len()) {
        let mut world = World::new(ROOMS[room]);
        moves.iter().for_each(|step| world.make_move(step));
    }
}
