//! What the core is told about the storage it imitates: plain data.

use std::time::Duration;

/// How long what was fetched is believed, counted from the start of its fetch. Zero asks every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Attributes, and the bytes that were read while they are believed.
    pub attributes: Duration,
    /// Names.
    pub names: Duration,
    /// That there is nothing of a name.
    pub absences: Duration,
    /// Listings.
    pub listings: Duration,
}

impl Lifetimes {
    /// The same for everything.
    pub const fn all(lifetime: Duration) -> Lifetimes {
        Lifetimes { attributes: lifetime, names: lifetime, absences: lifetime, listings: lifetime }
    }

    /// How long it is believed that a name is present, or that it is not.
    pub fn of_name(&self, is_present: bool) -> Duration {
        if is_present { self.names } else { self.absences }
    }

    /// Whether nothing is ever believed: every question goes to the backing directory.
    pub fn are_zero(&self) -> bool {
        *self == Lifetimes::all(Duration::ZERO)
    }
}

/// What decides what a client answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long what was fetched is believed.
    pub lifetimes: Lifetimes,
    /// Whether this client's own reads and sizes show its data that has not landed yet.
    pub read_your_writes: bool,
}
