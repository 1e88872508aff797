//! What a running client tells about itself.

use std::{collections::BTreeMap, path::Path, process};

use serde::{Deserialize, Serialize};

use super::{Client, losses::by_path, steer::count};
use crate::knobs::Knobs;

/// How many of the paths of which changes are lost are named.
const MOST_NAMED: usize = 100;

/// A running client at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub client: String,
    /// Where its view appears.
    pub mountpoint: String,
    /// The backing directory.
    pub backing: String,
    /// The process that serves it.
    pub pid: u32,
    /// The version of chaosfs that serves it.
    pub version: String,
    /// The seed of its draws.
    pub seed: u64,
    /// Its knobs.
    pub knobs: Knobs,
    /// `real`, or `manual` for one that is moved by hand.
    pub clock: String,
    /// Whether the kernel keeps answers and is handed files whole.
    #[serde(default)]
    pub kernel_cache: bool,
    /// How long it has lived by its clock, in milliseconds.
    pub uptime_ms: u64,
    /// Whether nothing lands by being due.
    pub held: bool,
    /// How often each operation was asked for.
    pub operations: BTreeMap<String, u64>,
    /// How many faults were injected.
    pub faults: u64,
    /// What has not landed yet.
    pub in_flight: InFlightStatus,
    /// How many mutations have landed late.
    pub landed: u64,
    /// How many conflicts that met.
    pub conflicts: u64,
    /// How many mutations `lose` has dropped.
    pub dropped: u64,
    /// How many mutations could not land and never will.
    pub lost: u64,
    /// The latest hundred paths of those: what the changes were, how many, how much, and why.
    pub lost_latest: Vec<String>,
    /// How many inodes it knows.
    pub known_inodes: u64,
    /// How many descriptors it holds for them.
    pub descriptors: u64,
    /// How many files that are open the kernel reads and writes by itself just now.
    #[serde(default)]
    pub lent: u64,
    /// How many bytes all that it believes takes, about.
    #[serde(default)]
    pub belief_bytes: u64,
    /// How many beliefs went before their time because there was no room for them.
    #[serde(default)]
    pub beliefs_evicted: u64,
}

/// What a client has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightStatus {
    /// How many mutations.
    pub mutations: u64,
    /// How many bytes of data they carry.
    pub bytes: u64,
    /// How many bytes of memory they take, about: what `max_in_flight` limits.
    #[serde(default)]
    pub memory: u64,
    /// How long until the next one is due, in nanoseconds of the client's clock; none while nothing will be.
    pub next_due_ns: Option<u64>,
    /// How many were tried in vain and will be tried again.
    pub delayed: u64,
}

impl Client {
    /// What there is to tell now about this client, whose view appears at `mountpoint`. Takes no long lock.
    pub fn status(&self, mountpoint: &Path) -> Status {
        let now = self.now();
        let (known_inodes, descriptors) = self.known_inodes();
        let state = self.lock();
        let in_flight = InFlightStatus {
            mutations: state.in_flight.len() as u64,
            bytes: state.in_flight.bytes(),
            memory: state.in_flight.cost(),
            next_due_ns: state.in_flight.next_due().map(|due| due.as_nanos().saturating_sub(now.as_nanos())),
            delayed: state.in_flight.delayed() as u64,
        };
        let (held, lent) = (state.in_flight.is_held(), state.belief.lent() as u64);
        let (belief_bytes, beliefs_evicted) = (state.belief.held(), state.belief.evicted());
        let (lost, mut lost_latest) = (state.lost.count(), by_path(&state.lost.after(0)));
        lost_latest.drain(..lost_latest.len().saturating_sub(MOST_NAMED));
        drop(state);
        Status {
            client: self.id.clone(),
            mountpoint: mountpoint.display().to_string(),
            backing: self.backing.display().to_string(),
            pid: process::id(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            seed: self.dice.seed(),
            knobs: self.knobs(),
            clock: self.clock.name().to_string(),
            kernel_cache: self.lends,
            uptime_ms: u64::try_from(now.since(self.opened).as_millis()).unwrap_or(u64::MAX),
            held,
            operations: self.operations.counts(),
            faults: count(&self.counters.faults),
            in_flight,
            landed: count(&self.counters.landed),
            conflicts: count(&self.counters.conflicts),
            dropped: count(&self.counters.dropped),
            lost,
            lost_latest,
            known_inodes: known_inodes as u64,
            descriptors: descriptors as u64,
            lent,
            belief_bytes,
            beliefs_evicted,
        }
    }
}
