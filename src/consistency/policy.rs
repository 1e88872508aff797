//! What the core is told about the storage it imitates: plain data.

use std::time::Duration;

use super::mutation::DelayClass;
use crate::time::Delay;

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

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        self.attributes.max(self.names).max(self.absences).max(self.listings)
    }

    /// Whether nothing is ever believed: every question goes to the backing directory.
    pub fn are_zero(&self) -> bool {
        *self == Lifetimes::all(Duration::ZERO)
    }
}

/// How long changes take to land, counted from when they are acknowledged. Zero applies them before their call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Data and sizes.
    pub data: Delay,
    /// The making of files.
    pub new_files: Delay,
    /// Names, directories, everything else that is made, and attributes.
    pub names: Delay,
}

impl Delays {
    /// The same for everything.
    pub const fn all(delay: Delay) -> Delays {
        Delays { data: delay, new_files: delay, names: delay }
    }

    /// The delay of one class of changes.
    pub fn of(&self, class: DelayClass) -> Delay {
        match class {
            DelayClass::Data => self.data,
            DelayClass::NewFile => self.new_files,
            DelayClass::Names => self.names,
        }
    }

    /// Whether every change is applied before its call returns.
    pub fn are_zero(&self) -> bool {
        self.data.is_zero() && self.new_files.is_zero() && self.names.is_zero()
    }
}

/// What decides what a client answers and when its changes land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long what was fetched is believed.
    pub lifetimes: Lifetimes,
    /// How long changes take to land.
    pub delays: Delays,
    /// Whether this client's own reads and sizes show its data that has not landed yet.
    pub read_your_writes: bool,
}

impl Policy {
    /// An uncoordinated store that is late by about a second in both directions: what a client does unless it is told
    /// otherwise.
    pub const fn eventual() -> Policy {
        let data = Delay::fixed_millis(800);
        Policy {
            lifetimes: Lifetimes::all(Duration::from_millis(1500)),
            delays: Delays { data, new_files: data, names: Delay::fixed_millis(1200) },
            read_your_writes: true,
        }
    }

    /// The backing directory itself: nothing is late and nothing is believed.
    pub const fn zero() -> Policy {
        Policy {
            lifetimes: Lifetimes::all(Duration::ZERO),
            delays: Delays::all(Delay::fixed_millis(0)),
            read_your_writes: true,
        }
    }
}
