//! What a client's one lock protects.

use super::{
    lingering::Lingering,
    losses::Losses,
    progress::Alarms,
    records::Records,
    waits::{Over, Waits},
};
use crate::{
    consistency::{Attributes, Belief, Core, InFlight, Ino, Place, Policy},
    error::Error,
    event::Event,
    hashing::{HashMap, HashSet},
    knobs::Knobs,
    time::Timestamp,
};

/// Everything that decides what is seen.
pub(super) struct State {
    pub(super) belief: Belief,
    pub(super) in_flight: InFlight,
    /// Inodes that nobody uses and that are known all the same.
    pub(super) lingering: Lingering,
    pub(super) waits: Waits,
    pub(super) alarms: Alarms,
    /// What is kept of each inode besides.
    pub(super) records: Records,
    /// The number of the latest landing error.
    pub(super) last_error: u64,
    /// What cannot land is given up and named.
    pub(super) leaving: bool,
    /// What could not land and never will.
    pub(super) lost: Losses,
    /// What others have made impossible or invisible, conflict by conflict.
    pub(super) overtaken: Losses,
    pub(super) stopping: bool,
    /// Names whose inode was gone when it was to be opened: the kernel looks them up once more, and opens what it finds.
    pub(super) sought: HashSet<Place>,
    /// The names that hide files that are open here.
    pub(super) hidden: HashMap<Ino, Place>,
    /// How many of them there have been.
    pub(super) hides: u64,
    /// What is to be logged as acknowledged, if that is wanted.
    pub(super) acknowledged: Vec<Event>,
}

/// What tells whether anybody else has changed a file's data: another name or mode changes neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) mtime: Timestamp,
    pub(super) size: u64,
}

impl Version {
    pub(super) fn of(attributes: &Attributes) -> Version {
        Version { mtime: attributes.mtime, size: attributes.size }
    }
}

/// How far the landing of a new inode got before it failed, so that the next try does not meet it as somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HalfMade {
    /// What stands at its name is ours.
    Ours,
    /// It is one with a directory of somebody else's, and that has been logged.
    Merged,
}

/// A file with data in flight: what the store should show of it, and what somebody else did to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// None: a landing has failed half-way, and nobody knows how much of it is there.
    pub(super) expected: Option<Version>,
    /// When the program of another client wrote what it landed here last.
    pub(super) theirs: Option<Timestamp>,
    /// A change of ours to the whole file was older than theirs and has been given up.
    pub(super) superseded: bool,
    /// A change of ours came after theirs and was refused, and so is what belongs to it.
    pub(super) refused: bool,
}

impl Watched {
    pub(super) fn expecting(expected: Version) -> Watched {
        Watched { expected: Some(expected), theirs: None, superseded: false, refused: false }
    }
}

impl State {
    /// The state of a client that has done nothing yet and believes what it sees as its knobs say.
    pub(super) fn new(knobs: &Knobs) -> State {
        State {
            belief: Belief::new(knobs.max_belief),
            in_flight: InFlight::default(),
            lingering: Lingering::default(),
            waits: Waits::default(),
            alarms: Alarms::default(),
            records: Records::default(),
            last_error: 0,
            leaving: false,
            lost: Losses::default(),
            overtaken: Losses::default(),
            stopping: false,
            sought: HashSet::default(),
            hidden: HashMap::default(),
            hides: 0,
            acknowledged: Vec::new(),
        }
    }

    /// Whether one more mutation with this much data may go in flight. A mutation larger than the whole bound goes
    /// alone.
    pub(super) fn has_room(&self, knobs: &Knobs, bytes: usize) -> bool {
        let in_flight = &self.in_flight;
        let fits = in_flight.cost() + bytes as u64 <= knobs.max_in_flight;
        in_flight.is_empty() || (in_flight.len() < knobs.max_mutations && fits)
    }

    /// Ends the wait of whoever has waited longest for room, if there is enough by now.
    pub(super) fn next_for_room(&mut self, knobs: &Knobs) -> Option<Over> {
        let bytes = self.waits.wanted_room()?;
        if self.has_room(knobs, bytes) { self.waits.next_for_room() } else { None }
    }

    /// Whether an inode has lost its last name through this client, or is losing it just now.
    pub(super) fn has_removed(&self, ino: Ino) -> bool {
        self.records.of(ino).is_nameless || self.in_flight.is_relinking(ino)
    }

    /// What the client knows, for one decision.
    pub(super) fn core<'a>(&'a mut self, policy: &'a Policy) -> Core<'a> {
        Core::new(&mut self.belief, &self.in_flight, policy)
    }

    /// Landing has failed for this inode: each open file of it reports that once.
    pub(super) fn fail(&mut self, ino: Ino, error: Error) {
        self.last_error += 1;
        let number = self.last_error;
        self.records.change(ino, |record| record.error = Some((number, error)));
    }
}
