//! Clients, their store and the time: performs the steps of a history and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Op,
    store::{ROOT, Store},
};
use crate::{
    consistency::{
        attributes::{Attributes, Ino, Kind},
        in_flight::InFlight,
        mutation::{Change, MutationId, Name, Place, RenameHow},
        overlay::{Binding, Overlay},
    },
    time::{Time, Timestamp},
};

const NAMES: [&[u8]; 3] = [b"a", b"b", b"c"];

/// The obvious model of one mutation in flight.
#[derive(Clone, Debug)]
struct Promise {
    id: MutationId,
    change: Change,
    stamp: Timestamp,
    due: Time,
    started: bool,
}

#[derive(Debug, Default)]
struct Client {
    in_flight: InFlight,
    promises: Vec<Promise>,
    hurries: bool,
}

pub struct World {
    store: Store,
    /// A plain directory: every change at once.
    plain: Store,
    clients: Vec<Client>,
    now: Time,
    made: u64,
}

/// What the comparison leaves out.
#[derive(Clone, Copy, Default)]
struct Except {
    /// A landing that is in the store and still in the overlay counts twice.
    links: bool,
    /// Two clients make names in one directory: whose time it shows depends on who asks.
    directory_times: bool,
}

impl World {
    pub fn new(clients: usize) -> World {
        let clients = (0..clients).map(|_| Client::default()).collect();
        World { store: Store::new(), plain: Store::new(), clients, now: Time::from_millis(1_000), made: 0 }
    }

    pub fn perform(&mut self, client: usize, delay: u64, op: &Op) {
        match op {
            Op::Advance { millis } => self.now = self.now + Duration::from_millis(*millis),
            Op::Start => drop(self.start(client)),
            Op::Finish { started } => drop(self.finish(client, *started)),
            Op::Postpone { started, millis } => self.postpone(client, *started, *millis),
            Op::Fsync { inode } => self.fsync(client, *inode),
            Op::HurryEverything => self.hurry_everything(client),
            Op::Hold { held } => self.clients[client].in_flight.hold(*held),
            Op::Lose => self.lose(client),
            _ => self.make(client, delay, op),
        }
    }

    /// What a client sees: the store, with its own promises kept in order.
    fn view(&self, client: usize) -> Store {
        let mut view = self.store.clone();
        self.clients[client].promises.iter().for_each(|promise| view.apply(&promise.change, promise.stamp));
        view
    }

    fn make(&mut self, client: usize, delay: u64, op: &Op) {
        self.made += 1;
        let stamp = Timestamp { seconds: self.made as i64, nanos: 0 };
        let Some(change) = change_of(op, &self.view(client), 100 + self.made, stamp) else { return };
        let mut others = self.clients.iter().enumerate().filter(|(other, _)| *other != client);
        if others.any(|(_, other)| other.promises.iter().any(|promise| conflict(&promise.change, &change))) {
            return;
        }
        self.plain.apply(&change, stamp);
        let Client { in_flight, promises, hurries } = &mut self.clients[client];
        let blocked = promises.iter().any(|promise| conflict(&promise.change, &change));
        assert!(blocked || !in_flight.blocks(&change), "{change:?} waits for nothing it has to do with");
        let due = self.now + Duration::from_millis(delay);
        let id = in_flight.add(change.clone(), stamp, due);
        let due = if *hurries { Time::ZERO } else { due };
        promises.push(Promise { id, change, stamp, due, started: false });
    }

    fn start(&mut self, client: usize) -> Option<MutationId> {
        let Client { in_flight, promises, .. } = &mut self.clients[client];
        let next = in_flight.next_due();
        let mutation = in_flight.start_due(self.now);
        assert_eq!(mutation.is_some(), next.is_some_and(|next| next <= self.now));
        let id = mutation?.id;
        let promise = promises.iter_mut().find(|promise| promise.id == id).expect("lands once");
        assert!(!promise.started, "handed out twice");
        assert!(promise.due <= self.now, "handed out early");
        assert!(!in_flight.is_held() || promise.due == Time::ZERO, "handed out although held");
        promise.started = true;
        Some(id)
    }

    fn started(&self, client: usize, index: usize) -> Option<Promise> {
        let started: Vec<_> =
            self.clients[client].promises.iter().filter(|promise| promise.started).collect();
        pick(&started, index).map(|promise| (*promise).clone())
    }

    fn finish(&mut self, client: usize, index: usize) -> Option<()> {
        let promise = self.started(client, index)?;
        let seen_before = self.view(client);
        self.store.apply(&promise.change, promise.stamp);
        self.compare(client, &seen_before, Except { links: true, ..self.exceptions() });
        let Client { in_flight, promises, .. } = &mut self.clients[client];
        in_flight.landed(promise.id);
        promises.retain(|other| other.id != promise.id);
        Some(())
    }

    fn postpone(&mut self, client: usize, index: usize, millis: u64) {
        let Some(promise) = self.started(client, index) else { return };
        let again = self.now + Duration::from_millis(millis);
        let Client { in_flight, promises, .. } = &mut self.clients[client];
        in_flight.postpone(promise.id, again);
        let promise = promises.iter_mut().find(|other| other.id == promise.id).expect("started");
        (promise.started, promise.due) = (false, again);
    }

    fn fsync(&mut self, client: usize, inode: usize) {
        let inodes: Vec<Ino> = self.view(client).nodes.into_keys().collect();
        let Some(&ino) = pick(&inodes, inode) else { return };
        let Client { in_flight, promises, .. } = &mut self.clients[client];
        let about: Vec<MutationId> = in_flight.about(ino).map(|mutation| mutation.id).collect();
        let hurried = in_flight.hurry(about);
        let all = promises.iter_mut().filter(|promise| hurried.contains(&promise.id));
        all.for_each(|promise| promise.due = Time::ZERO);
        while self.start(client).is_some() {}
        while self.finish(client, 0).is_some() {
            while self.start(client).is_some() {}
        }
        let left = |promise: &&Promise| hurried.contains(&promise.id) || about_inode(&promise.change, ino);
        assert!(
            !self.clients[client].promises.iter().any(|promise| left(&promise)),
            "fsync left something behind"
        );
    }

    fn hurry_everything(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.in_flight.hurry_everything();
        client.hurries = true;
        client.promises.iter_mut().for_each(|promise| promise.due = Time::ZERO);
    }

    /// What is being landed lands, the rest never will have been.
    fn lose(&mut self, client: usize) {
        while self.finish(client, 0).is_some() {}
        let Client { in_flight, promises, .. } = &mut self.clients[client];
        promises.drain(..).rev().for_each(|promise| in_flight.landed(promise.id));
        assert!(in_flight.is_pristine());
        self.plain = self.store.clone();
        let left = self.clients.iter().flat_map(|client| &client.promises);
        left.for_each(|promise| self.plain.apply(&promise.change, promise.stamp));
    }

    /// All clients go quiet: in the end the store is what a plain directory would be, and nothing is left over.
    pub fn land_everything(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].in_flight.hold(false);
            while !self.clients[client].promises.is_empty() {
                self.now = self.now.max(self.clients[client].in_flight.next_due().unwrap_or(self.now));
                while self.start(client).is_some() {}
                assert!(self.finish(client, usize::MAX).is_some(), "stuck");
                self.check();
            }
            assert!(self.clients[client].in_flight.is_pristine());
        }
        assert_eq!(self.store, self.plain);
    }

    pub fn check(&self) {
        for client in 0..self.clients.len() {
            self.compare(client, &self.view(client), self.exceptions());
            self.check_in_flight(&self.clients[client]);
        }
    }

    fn exceptions(&self) -> Except {
        Except { links: false, directory_times: self.clients.len() > 1 }
    }

    fn check_in_flight(&self, Client { in_flight, promises, .. }: &Client) {
        let ids: Vec<MutationId> = in_flight.all().map(|(mutation, _)| mutation.id).collect();
        assert_eq!(ids, promises.iter().map(|promise| promise.id).collect::<Vec<_>>());
        assert_eq!(in_flight.bytes(), promises.iter().map(|promise| promise.change.bytes()).sum::<u64>());
        for (index, promise) in promises.iter().enumerate() {
            assert_eq!(in_flight.due(promise.id), Some(promise.due));
            assert_eq!(in_flight.is_started(promise.id), promise.started);
            let before = &promises[..index];
            let blocked = before.iter().any(|other| conflict(&other.change, &promise.change));
            let held = in_flight.is_held() && promise.due > Time::ZERO;
            if !blocked && !promise.started && !held {
                let next = in_flight.next_due();
                assert!(next.is_some_and(|next| next <= promise.due), "{promise:?} waits for nothing");
            }
        }
    }

    /// The overlay laid over the store must show what `view` shows.
    fn compare(&self, client: usize, view: &Store, except: Except) {
        let client = &self.clients[client];
        for &ino in view.nodes.keys() {
            let seen = Seen { overlay: client.in_flight.overlay(), store: &self.store, ino };
            seen.compare_names(view);
            seen.compare_attributes(view, except);
            seen.compare_data(view);
            seen.compare_xattrs(view);
            let touched =
                client.promises.iter().any(|promise| footprint(&promise.change).all().contains(&ino));
            assert_eq!(seen.overlay.touches(ino), touched);
        }
    }
}

/// One inode as the overlay laid over the store shows it.
struct Seen<'a> {
    overlay: &'a Overlay,
    store: &'a Store,
    ino: Ino,
}

impl Seen<'_> {
    fn entries(&self) -> BTreeMap<Name, Ino> {
        let mut entries =
            self.store.nodes.get(&self.ino).map_or_else(BTreeMap::new, |node| node.entries.clone());
        for (name, binding) in self.overlay.names_in(self.ino) {
            match binding {
                Binding::Present { ino, .. } => drop(entries.insert(name.clone(), ino)),
                Binding::Absent => drop(entries.remove(name)),
            }
        }
        entries
    }

    fn lookup(&self, place: &Place) -> Option<Ino> {
        match self.overlay.name(place) {
            Some(Binding::Present { ino, .. }) => Some(ino),
            Some(Binding::Absent) => None,
            None => self.store.nodes.get(&self.ino)?.entries.get(&place.name).copied(),
        }
    }

    fn compare_names(&self, view: &Store) {
        assert_eq!(self.entries(), view.nodes[&self.ino].entries, "names in {}", self.ino);
        for name in NAMES {
            let place = Place::new(self.ino, name);
            assert_eq!(self.lookup(&place), view.at(&place), "{place:?}");
            if let Some(Binding::Present { ino, kind }) = self.overlay.name(&place) {
                assert_eq!(kind, view.kind(ino), "{place:?}");
            }
        }
    }

    fn base(&self) -> Attributes {
        let landed = self.store.nodes.contains_key(&self.ino).then(|| self.store.attributes(self.ino));
        landed.unwrap_or_else(|| *self.overlay.unlanded(self.ino).expect("landed or not"))
    }

    fn compare_attributes(&self, view: &Store, except: Except) {
        let base = self.base();
        let mut seen = self.overlay.view(self.ino, &base, true);
        let mut expected = view.attributes(self.ino);
        for attributes in [&mut seen, &mut expected] {
            attributes.blocks = 0;
            if except.links {
                attributes.links = 0;
            }
            if except.directory_times && attributes.kind == Kind::Directory {
                (attributes.mtime, attributes.ctime) = Default::default();
            }
        }
        assert_eq!(seen, expected, "attributes of {}", self.ino);
        let without_data = self.overlay.view(self.ino, &base, false);
        assert_eq!((without_data.size, without_data.blocks), (base.size, base.blocks), "not its own data");
    }

    fn compare_data(&self, view: &Store) {
        let expected = &view.nodes[&self.ino];
        let mut content = self.store.nodes.get(&self.ino).map_or_else(Vec::new, |node| node.data.clone());
        content.resize(expected.data.len(), 0);
        self.overlay.content(self.ino, 0..content.len() as u64).lay_over(&mut content, 0);
        assert_eq!(content, expected.data, "content of {}", self.ino);
        if let Some(target) = self.overlay.target(self.ino) {
            assert_eq!(target, expected.target, "target of {}", self.ino);
        }
    }

    fn compare_xattrs(&self, view: &Store) {
        let base = self.store.nodes.get(&self.ino).map_or_else(BTreeMap::new, |node| node.xattrs.clone());
        let mut names: BTreeSet<Name> = base.keys().cloned().collect();
        for (name, present) in self.overlay.xattrs(self.ino) {
            if present {
                names.insert(name)
            } else {
                names.remove(&name)
            };
        }
        let value =
            |name: &Name| self.overlay.xattr(self.ino, name).unwrap_or_else(|| base.get(name).cloned());
        let seen: BTreeMap<Name, Option<Arc<[u8]>>> =
            names.iter().map(|name| (name.clone(), value(name))).collect();
        let expected = view.nodes[&self.ino].xattrs.iter();
        let expected = expected.map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        assert_eq!(seen, expected, "xattrs of {}", self.ino);
    }
}

fn pick<T>(from: &[T], index: usize) -> Option<&T> {
    from.get(index % from.len().max(1))
}

/// What a change has to do with, said without `Change::touches`.
struct Footprint {
    places: Vec<Place>,
    inodes: Vec<Ino>,
    parents: Vec<Ino>,
    moves_a_tree: bool,
}

impl Footprint {
    fn all(&self) -> Vec<Ino> {
        [&self.inodes[..], &self.parents[..]].concat()
    }
}

fn footprint(change: &Change) -> Footprint {
    let (places, mut inodes) = match change {
        Change::Make { place, ino, .. }
        | Change::Link { place, ino, .. }
        | Change::Unlink { place, ino }
        | Change::RemoveDirectory { place, ino } => (vec![place.clone()], vec![*ino]),
        Change::Rename { from, to, ino, .. } => (vec![from.clone(), to.clone()], vec![*ino]),
        Change::Write { ino, .. }
        | Change::Resize { ino, .. }
        | Change::Allocate { ino, .. }
        | Change::SetAttributes { ino, .. }
        | Change::SetXattr { ino, .. } => (vec![], vec![*ino]),
    };
    let mut moves_a_tree = false;
    if let Change::Rename { from, to, kind, replaced, how, .. } = change {
        inodes.extend(replaced.map(|(other, _)| other));
        moves_a_tree = from.directory != to.directory;
        moves_a_tree &= *kind == Kind::Directory || *how == RenameHow::Exchange;
    }
    let parents = places.iter().map(|place| place.directory).collect();
    Footprint { places, inodes, parents, moves_a_tree }
}

/// Whether two changes have anything to do with each other but names made in the same directory.
fn conflict(one: &Change, other: &Change) -> bool {
    let (one, other) = (footprint(one), footprint(other));
    one.places.iter().any(|place| other.places.contains(place))
        || one.inodes.iter().any(|ino| other.all().contains(ino))
        || one.parents.iter().any(|ino| other.inodes.contains(ino))
        || (one.moves_a_tree && other.moves_a_tree)
}

/// Whether `fsync` of the inode waits for the change: its data, its attributes and the names it has.
fn about_inode(change: &Change, ino: Ino) -> bool {
    match change {
        Change::Rename { ino: moved, replaced, how, .. } => {
            let other = replaced.filter(|_| *how == RenameHow::Exchange).map(|(other, _)| other);
            *moved == ino || other == Some(ino)
        }
        _ => footprint(change).inodes.contains(&ino),
    }
}

/// The change an operation asks for, if it can be done in this view.
fn change_of(op: &Op, view: &Store, new: Ino, stamp: Timestamp) -> Option<Change> {
    match op {
        Op::Make { kind, directory, name } => {
            let place = free_place(view, *directory, *name)?;
            let target: Arc<[u8]> = if *kind == Kind::Symlink { b"target"[..].into() } else { [].into() };
            let attributes = Attributes::new(*kind, 0o640, (1, 1), 0, target.len() as u64, stamp);
            Some(Change::Make { place, ino: new, attributes, target, inherited: [].into() })
        }
        Op::Link { file, directory, name } => {
            let entries = view.entries();
            let files: Vec<Ino> = entries.iter().map(|(_, ino)| *ino).collect();
            let ino = *pick(&files, *file).filter(|ino| view.kind(**ino) != Kind::Directory)?;
            let place = free_place(view, *directory, *name)?;
            Some(Change::Link { ino, kind: view.kind(ino), place })
        }
        Op::Remove { entry } => remove(view, *entry),
        Op::Rename { entry, directory, name, how } => {
            rename(view, *entry, place(view, *directory, *name)?, *how)
        }
        _ => inode_change_of(op, view, stamp),
    }
}

fn inode_change_of(op: &Op, view: &Store, stamp: Timestamp) -> Option<Change> {
    let inodes: Vec<Ino> = view.nodes.keys().copied().collect();
    let files: Vec<Ino> = inodes.iter().copied().filter(|ino| view.kind(*ino) == Kind::File).collect();
    Some(match op {
        Op::Write { file, range, clears } => Change::Write {
            ino: *pick(&files, *file)?,
            offset: range.start,
            data: range.clone().map(|at| (stamp.seconds as u64 * 31 + at) as u8 | 1).collect(),
            clears: *clears,
        },
        Op::Resize { file, size, clears } => {
            Change::Resize { ino: *pick(&files, *file)?, size: *size, clears: *clears }
        }
        Op::Allocate { file, range, mode, clears } => Change::Allocate {
            ino: *pick(&files, *file)?,
            mode: *mode,
            offset: range.start,
            length: range.end - range.start,
            clears: *clears,
        },
        Op::SetAttributes { inode, change } => {
            Change::SetAttributes { ino: *pick(&inodes, *inode)?, change: *change, owner: None }
        }
        Op::SetXattr { inode, name, value } => {
            let (ino, name) = (*pick(&inodes, *inode)?, *pick(&NAMES, *name)?);
            if value.is_none() && !view.nodes[&ino].xattrs.contains_key(name) {
                return None;
            }
            Change::SetXattr { ino, name: name.into(), value: value.map(|byte| [byte].into()), owner: None }
        }
        _ => return None,
    })
}

fn place(view: &Store, directory: usize, name: usize) -> Option<Place> {
    let is_directory = |ino: &Ino| view.kind(*ino) == Kind::Directory && view.links(*ino) > 0;
    let directories: Vec<Ino> = view.nodes.keys().copied().filter(is_directory).collect();
    Some(Place::new(*pick(&directories, directory)?, pick(&NAMES, name)?))
}

fn free_place(view: &Store, directory: usize, name: usize) -> Option<Place> {
    place(view, directory, name).filter(|place| view.at(place).is_none())
}

fn is_full(view: &Store, ino: Ino) -> bool {
    !view.nodes[&ino].entries.is_empty()
}

fn remove(view: &Store, entry: usize) -> Option<Change> {
    let (place, ino) = pick(&view.entries(), entry)?.clone();
    match view.kind(ino) {
        Kind::Directory if is_full(view, ino) => None,
        Kind::Directory => Some(Change::RemoveDirectory { place, ino }),
        _ => Some(Change::Unlink { place, ino }),
    }
}

/// `rename(2)` and `renameat2(2)`, with what they refuse.
fn rename(view: &Store, entry: usize, to: Place, how: RenameHow) -> Option<Change> {
    let (from, ino) = pick(&view.entries(), entry)?.clone();
    let (kind, other) = (view.kind(ino), view.at(&to));
    if other == Some(ino) || view.is_within(to.directory, ino) {
        return None;
    }
    match (how, other) {
        (RenameHow::NoReplace, Some(_)) | (RenameHow::Exchange, None) => return None,
        (RenameHow::Exchange, Some(other)) if view.is_within(from.directory, other) => return None,
        (RenameHow::Replace, Some(other)) => {
            let directories = [kind, view.kind(other)].map(|kind| kind == Kind::Directory);
            if directories[0] != directories[1] || is_full(view, other) {
                return None;
            }
        }
        _ => {}
    }
    Some(Change::Rename { from, to, ino, kind, replaced: other.map(|other| (other, view.kind(other))), how })
}

#[test]
fn the_root_is_there_before_anything_is_made() {
    let world = World::new(1);
    world.check();
    assert_eq!(world.view(0).links(ROOT), 2);
}
