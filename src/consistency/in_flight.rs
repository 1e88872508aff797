//! The mutations of one client that are under way: when each is due, and what it must wait for.
//!
//! Three methods carry the contract, and the thread outside is ten lines: [`InFlight::next_due`] says when to come
//! back, [`InFlight::start_due`] hands out one mutation that may land now (coming early is harmless), and
//! [`InFlight::landed`] or [`InFlight::postpone`] says how it went. A mutation leaves this layer only after it has
//! landed, so it is never nowhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    attributes::Ino,
    mutation::{Access, Change, Mutation, MutationId, Thing},
    overlay::Overlay,
};
use crate::time::{Time, Timestamp};

#[derive(Debug)]
struct Entry {
    mutation: Arc<Mutation>,
    due: Time,
    /// Mutations that must land first.
    needs: Vec<MutationId>,
    /// Mutations that have this one among their needs.
    needed_by: Vec<MutationId>,
    started: bool,
    /// How often its landing was tried and put off.
    tries: u32,
}

/// Who touched a thing, as far as it has not landed.
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
    by_subject: HashMap<Ino, BTreeSet<MutationId>>,
    overlay: Overlay,
    bytes: u64,
    last_id: MutationId,
    hurry: bool,
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

    /// What they make of the backing directory.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Whether a change that would be made now must wait for something in flight.
    pub fn blocks(&self, change: &Change) -> bool {
        !self.entries.is_empty() && !self.needs_of(&change.touches()).is_empty()
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
        if needs.is_empty() {
            self.ready.insert((due, id));
        }
        self.bytes += change.bytes();
        self.by_subject.entry(change.subject()).or_default().insert(id);
        let mutation = Arc::new(Mutation { id, change, stamp });
        self.overlay.add(&mutation);
        let entry = Entry { mutation, due, needs, needed_by: Vec::new(), started: false, tries: 0 };
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
    /// started.
    pub fn next_due(&self) -> Option<Time> {
        self.ready.first().map(|(due, _)| *due)
    }

    /// Hands out the mutation that has been due longest and needs nothing that is still in flight.
    pub fn start_due(&mut self, now: Time) -> Option<Arc<Mutation>> {
        let (due, id) = *self.ready.first().filter(|(due, _)| *due <= now)?;
        self.ready.remove(&(due, id));
        let entry = self.entry(id);
        entry.started = true;
        Some(entry.mutation.clone())
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
        self.ready.remove(&(entry.due, id));
        self.erase_traces(&entry.mutation);
        for waiting in entry.needed_by {
            let Some(next) = self.entries.get_mut(&waiting) else { continue };
            next.needs.retain(|need| *need != id);
            if next.needs.is_empty() {
                self.ready.insert((next.due, waiting));
            }
        }
        self.bytes -= entry.mutation.change.bytes();
        self.overlay.remove(&entry.mutation);
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
        let subject = mutation.change.subject();
        if let Some(ids) = self.by_subject.get_mut(&subject) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_subject.remove(&subject);
            }
        }
    }

    /// A started mutation could not land for a passing reason: it stays and is due again at `again`. Returns how
    /// often it has been tried.
    pub fn postpone(&mut self, id: MutationId, again: Time) -> u32 {
        let entry = self.entry(id);
        entry.started = false;
        entry.tries += 1;
        entry.due = again;
        let tries = entry.tries;
        self.ready.insert((again, id));
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
            if !entry.started && self.ready.remove(&(entry.due, id)) {
                self.ready.insert((Time::ZERO, id));
            }
            entry.due = Time::ZERO;
        }
        all
    }

    /// Makes everything due at once, and whatever is added from now on.
    pub fn hurry_everything(&mut self) {
        self.hurry = true;
        let ids: Vec<MutationId> = self.entries.keys().copied().collect();
        self.hurry(ids);
    }

    /// The mutations in flight that are about this inode, oldest first.
    pub fn about(&self, ino: Ino) -> impl Iterator<Item = &Arc<Mutation>> {
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
        self.entries.get(&id).is_some_and(|entry| entry.started)
    }

    fn entry(&mut self, id: MutationId) -> &mut Entry {
        self.entries.get_mut(&id).expect("an id stays known until its mutation has landed")
    }
}
