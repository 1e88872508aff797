//! Where an answer came from, and how long it may be repeated.

use crate::time::Time;

/// Where a part of an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was fetched for this answer.
    Backing,
    /// This client's own changes, which have not landed.
    InFlight,
    /// It was fetched then, and believed since.
    Belief(Time),
}

/// Where an answer came from, part by part, and how long it may be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The oldest part: what makes the answer stale, if it is.
    oldest: Option<Origin>,
    /// Until when the name, or its absence, is believed; none if it is not.
    pub name_until: Option<Time>,
    /// The same for the attributes as they are shown.
    pub attributes_until: Option<Time>,
}

impl Provenance {
    /// Takes in where one more part came from.
    pub fn add(&mut self, origin: Origin) {
        let age = |origin: Origin| match origin {
            Origin::Backing => (0, Time::ZERO),
            Origin::InFlight => (1, Time::ZERO),
            // The earlier it was fetched the older it is.
            Origin::Belief(fetched) => (2, fetched),
        };
        let is_older = |before: Origin| {
            let ((rank, fetched), (rank_before, fetched_before)) = (age(origin), age(before));
            rank > rank_before || rank == rank_before && fetched < fetched_before
        };
        if self.oldest.is_none_or(is_older) {
            self.oldest = Some(origin);
        }
    }

    /// Takes in where one more part came from that has parts of its own.
    pub fn add_all(&mut self, part: &Provenance) {
        part.oldest.into_iter().for_each(|origin| self.add(origin));
    }

    /// When the answer will be asked for anew; none if nothing of it is believed.
    pub fn until(&self) -> Option<Time> {
        self.name_until.into_iter().chain(self.attributes_until).min()
    }

    /// Where the oldest part came from.
    pub fn origin(&self) -> Origin {
        self.oldest.unwrap_or(Origin::Backing)
    }
}
