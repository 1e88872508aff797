//! The mutations of one client that are under way: when each is due, and what it must wait for.
//!
//! Three methods carry the contract, and the thread outside is ten lines: [`InFlight::next_due`] says when to come
//! back, [`InFlight::start_due`] hands out one mutation that may land now (coming early is harmless), and
//! [`InFlight::landed`] or [`InFlight::postpone`] says how it went. A mutation leaves this layer only after it has
//! landed, so it is never nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    attributes::Ino,
    mutation::{Access, Change, Mutation, MutationId, Thing},
    overlay::Overlay,
};
use crate::{
    hashing::HashMap,
    time::{Time, Timestamp},
};

/// Room in tables for so many entries is not given back: it costs little and will be wanted again.
const KEPT_ROOM: usize = 256;

#[derive(Debug)]
struct Entry {
    mutation: Arc<Mutation>,
    due: Time,
    /// Mutations that must land first; some have.
    needs: Vec<MutationId>,
    /// How many of them have not.
    unmet: usize,
    /// Mutations that have this one among their needs.
    needed_by: Vec<MutationId>,
    /// How often its landing was tried and put off.
    tries: u32,
}

/// The unlanded mutations that touch a thing.
#[derive(Debug, Default)]
struct Trace {
    last_change: Option<MutationId>,
    uses: BTreeSet<MutationId>,
}

/// All mutations in flight of one client.
#[derive(Debug, Default)]
pub struct InFlight {
    entries: BTreeMap<MutationId, Entry>,
    traces: HashMap<Thing, Trace>,
    /// Mutations that wait for nothing but their time.
    ready: BTreeSet<(Time, MutationId)>,
    /// Mutations that are being landed.
    started: BTreeSet<MutationId>,
    by_subject: HashMap<Ino, BTreeSet<MutationId>>,
    overlay: Overlay,
    bytes: u64,
    cost: u64,
    last_id: MutationId,
    /// None is due later. It is no more than a bound, so that nobody searches for what is late where nothing is.
    latest: Time,
    /// How many were tried in vain.
    delayed: usize,
    hurry: bool,
    held: bool,
    /// Nothing new is delayed.
    delays_nothing: bool,
    frozen: bool,
}

impl InFlight {
    /// Whether everything has landed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many mutations are in flight.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes of data they carry.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes of memory they take, about.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// What they make of the backing directory.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Whether a change that would be made now must wait for something in flight.
    pub fn blocks(&self, change: &Change) -> bool {
        let is_touched = |(thing, access): (Thing, Access)| {
            let held_up = |trace: &Trace| trace.last_change.is_some() || access == Access::Change;
            self.traces.get(&thing).is_some_and(held_up)
        };
        !self.entries.is_empty() && change.touches().into_iter().any(is_touched)
    }

    /// Adds a change that lands at `due`, or when what it needs has landed, whichever is later.
    pub fn add(&mut self, change: Change, stamp: Timestamp, due: Time) -> MutationId {
        self.last_id += 1;
        let id = self.last_id;
        let touches = change.touches();
        let needs = self.needs_of(&touches);
        for need in &needs {
            self.entry(*need).needed_by.push(id);
        }
        self.leave_traces(id, touches);
        let due = if self.hurry { Time::ZERO } else { due };
        self.latest = if self.entries.is_empty() { due } else { self.latest.max(due) };
        if needs.is_empty() {
            self.ready.insert((due, id));
        }
        self.bytes += change.bytes();
        self.cost += change.cost();
        for subject in change.subjects() {
            self.by_subject.entry(subject).or_default().insert(id);
        }
        let mutation = Arc::new(Mutation { id, change, stamp });
        self.overlay.add(&mutation);
        let entry = Entry { mutation, due, unmet: needs.len(), needs, needed_by: Vec::new(), tries: 0 };
        self.entries.insert(id, entry);
        id
    }

    fn needs_of(&self, touches: &[(Thing, Access)]) -> Vec<MutationId> {
        let mut needs = Vec::new();
        for (thing, access) in touches {
            if let Some(trace) = self.traces.get(thing) {
                needs.extend(trace.last_change);
                if *access == Access::Change {
                    needs.extend(&trace.uses);
                }
            }
        }
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    fn leave_traces(&mut self, id: MutationId, touches: Vec<(Thing, Access)>) {
        for (thing, access) in touches {
            match access {
                Access::Change => {
                    self.traces.insert(thing, Trace { last_change: Some(id), uses: BTreeSet::new() });
                }
                Access::Use => {
                    self.traces.entry(thing).or_default().uses.insert(id);
                }
                Access::Need => {}
            }
        }
    }

    /// When [`InFlight::start_due`] will next have something; `None` while everything left waits for what has been
    /// started, or is held.
    pub fn next_due(&self) -> Option<Time> {
        self.first_ready(Time::NEVER).map(|(due, _)| due)
    }

    fn first_ready(&self, now: Time) -> Option<(Time, MutationId)> {
        // What is hurried is due at the beginning of time.
        let by = if self.held { Time::ZERO } else { now };
        self.ready.first().filter(|(due, _)| *due <= by && !self.frozen).copied()
    }

    /// Hands out the mutation that has been due longest and needs nothing that is still in flight. At [`Time::ZERO`]
    /// only what is hurried is due.
    pub fn start_due(&mut self, now: Time) -> Option<Arc<Mutation>> {
        let (due, id) = self.first_ready(now)?;
        self.ready.remove(&(due, id));
        self.started.insert(id);
        Some(self.entries[&id].mutation.clone())
    }

    /// Whether a change of this inode's link count is being landed.
    pub fn is_relinking(&self, ino: Ino) -> bool {
        self.started.iter().any(|id| self.entries[id].mutation.change.relinks().contains(&ino))
    }

    /// A mutation that is in flight.
    pub fn get(&self, id: MutationId) -> Option<&Arc<Mutation>> {
        self.entries.get(&id).map(|entry| &entry.mutation)
    }

    /// When a mutation was due to land.
    pub fn due(&self, id: MutationId) -> Option<Time> {
        self.entries.get(&id).map(|entry| entry.due)
    }

    /// A started mutation has landed, or was dropped for good: it leaves, and what waited for it may go.
    pub fn landed(&mut self, id: MutationId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.delayed -= usize::from(entry.tries > 0);
        self.started.remove(&id);
        self.ready.remove(&(entry.due, id));
        self.erase_traces(&entry.mutation);
        for waiting in entry.needed_by {
            let Some(next) = self.entries.get_mut(&waiting) else { continue };
            next.unmet -= 1;
            if next.unmet == 0 {
                self.ready.insert((next.due, waiting));
            }
        }
        self.bytes -= entry.mutation.change.bytes();
        self.cost -= entry.mutation.change.cost();
        self.overlay.remove(&entry.mutation);
        if self.entries.is_empty() {
            self.shrink();
        }
    }

    /// Gives back the room that a burst has taken.
    fn shrink(&mut self) {
        self.traces.shrink_to(KEPT_ROOM);
        self.by_subject.shrink_to(KEPT_ROOM);
        self.overlay.shrink_to(KEPT_ROOM);
    }

    fn erase_traces(&mut self, mutation: &Mutation) {
        let id = mutation.id;
        for (thing, _) in mutation.change.touches() {
            let Some(trace) = self.traces.get_mut(&thing) else { continue };
            trace.last_change = trace.last_change.filter(|last| *last != id);
            trace.uses.remove(&id);
            if trace.last_change.is_none() && trace.uses.is_empty() {
                self.traces.remove(&thing);
            }
        }
        for subject in mutation.change.subjects() {
            let Some(ids) = self.by_subject.get_mut(&subject) else { continue };
            ids.remove(&id);
            if ids.is_empty() {
                self.by_subject.remove(&subject);
            }
        }
    }

    /// A started mutation could not land for a passing reason: it stays and is due again at `again`. Returns how
    /// often it has been tried.
    pub fn postpone(&mut self, id: MutationId, again: Time) -> u32 {
        self.goes_on(id, again);
        let entry = self.entry(id);
        entry.tries += 1;
        let tries = entry.tries;
        self.delayed += usize::from(tries == 1);
        tries
    }

    /// Makes these mutations and all that they need due at once, and returns them all: what an `fsync` waits for.
    pub fn hurry(&mut self, ids: impl IntoIterator<Item = MutationId>) -> BTreeSet<MutationId> {
        let mut all = BTreeSet::new();
        let mut open: Vec<MutationId> = ids.into_iter().collect();
        while let Some(id) = open.pop() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if !all.insert(id) {
                continue;
            }
            open.extend(&entry.needs);
            if self.ready.remove(&(entry.due, id)) {
                self.ready.insert((Time::ZERO, id));
            }
            entry.due = Time::ZERO;
        }
        all
    }

    /// A started mutation has made a step, and makes the next one at `then`.
    pub fn goes_on(&mut self, id: MutationId, then: Time) {
        self.started.remove(&id);
        self.latest = self.latest.max(then);
        self.entry(id).due = then;
        self.ready.insert((then, id));
    }

    /// Gives a mutation another time, if it has not been hurried or started.
    pub fn put_at(&mut self, id: MutationId, due: Time) {
        self.latest = self.latest.max(due);
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.due > Time::ZERO) else { return };
        if self.ready.remove(&(entry.due, id)) {
            self.ready.insert((due, id));
            entry.due = due;
        } else if !self.started.contains(&id) {
            entry.due = due;
        }
    }

    /// The oldest mutations that are due after `time`, so many as take `cost` together.
    pub fn oldest_after(&self, time: Time, cost: u64) -> Vec<MutationId> {
        if self.latest <= time {
            return Vec::new();
        }
        let mut taken = 0;
        let late = self.entries.values().filter(|entry| entry.due > time);
        let late = late.take_while(|entry| {
            let is_wanted = taken < cost;
            taken += entry.mutation.change.cost();
            is_wanted
        });
        late.map(|entry| entry.mutation.id).collect()
    }

    /// Makes everything due at once, and whatever is added from now on. Nothing is held any more.
    pub fn hurry_everything(&mut self) {
        self.hurry = true;
        self.held = false;
        self.hurry_all();
    }

    /// Makes everything that is in flight now due at once; returns the last of it.
    pub fn hurry_all(&mut self) -> MutationId {
        let ids: Vec<MutationId> = self.entries.keys().copied().collect();
        self.hurry(ids);
        self.last_id
    }

    /// Whether, of the mutations up to `last`, one is being landed or hurried and free to land: whoever hurried them
    /// has still something to wait for.
    pub fn is_hurrying(&self, last: MutationId) -> bool {
        let next = self.ready.first().filter(|(due, _)| *due == Time::ZERO && !self.frozen).map(|(_, id)| id);
        next.into_iter().chain(self.started.first()).any(|id| *id <= last)
    }

    /// From now on nothing lands by being due, only what is hurried; or, with `false`, everything lands when it is due
    /// again, at once what has become due meanwhile.
    pub fn hold(&mut self, held: bool) {
        self.held = held && !self.hurry;
    }

    /// From now on nothing new is delayed. What is in flight lands when it is due.
    pub fn delay_nothing(&mut self) {
        self.delays_nothing = true;
    }

    /// Whether nothing new is delayed.
    pub fn delays_nothing(&self) -> bool {
        self.delays_nothing
    }

    /// Whether nothing lands by being due.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// From now on nothing at all is handed out, or again.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Whether a mutation is being landed.
    pub fn is_landing(&self) -> bool {
        !self.started.is_empty()
    }

    /// How many mutations were tried in vain and are still in flight.
    pub fn delayed(&self) -> usize {
        self.delayed
    }

    /// How many mutations in flight are about this inode.
    pub fn count_about(&self, ino: Ino) -> usize {
        self.by_subject.get(&ino).map_or(0, BTreeSet::len)
    }

    /// Whether a new name of this inode is in flight.
    pub fn is_moving(&self, ino: Ino) -> bool {
        self.about(ino).any(|mutation| matches!(mutation.change, Change::Rename { .. } | Change::Link { .. }))
    }

    /// How often the landing of a mutation was tried in vain.
    pub fn tries(&self, id: MutationId) -> u32 {
        self.entries.get(&id).map_or(0, |entry| entry.tries)
    }

    /// The mutations in flight that are about this inode, oldest first: what is to land for its `fsync`, with all that
    /// they need ([`InFlight::hurry`]).
    pub fn about(&self, ino: Ino) -> impl DoubleEndedIterator<Item = &Arc<Mutation>> {
        self.by_subject.get(&ino).into_iter().flatten().map(|id| &self.entries[id].mutation)
    }

    /// The mutations in flight that make, move or remove names in a directory, as far as no later change of the
    /// directory itself needs them all.
    pub fn inside(&self, directory: Ino) -> impl Iterator<Item = MutationId> {
        let trace = self.traces.get(&Thing::Inode(directory));
        trace.into_iter().flat_map(|trace| trace.uses.iter().copied().chain(trace.last_change))
    }

    /// All mutations in flight, oldest first, with how often the landing of each was tried in vain.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<Mutation>, u32)> {
        self.entries.values().map(|entry| (&entry.mutation, entry.tries))
    }

    /// Whether it is being landed just now.
    pub fn is_started(&self, id: MutationId) -> bool {
        self.started.contains(&id)
    }

    /// Whether nothing is left of any mutation.
    #[cfg(test)]
    pub fn is_pristine(&self) -> bool {
        let InFlight { entries, traces, ready, started, by_subject, overlay, bytes, cost, delayed, .. } =
            self;
        let queues_empty = entries.is_empty() && ready.is_empty() && started.is_empty();
        let traces_empty = traces.is_empty() && by_subject.is_empty() && overlay.is_empty();
        queues_empty && traces_empty && (*bytes, *cost, *delayed) == (0, 0, 0)
    }

    fn entry(&mut self, id: MutationId) -> &mut Entry {
        self.entries.get_mut(&id).expect("an id stays known until its mutation has landed")
    }
}

#[cfg(test)]
mod tests;
