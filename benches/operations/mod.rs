//! The operations of the core that are measured: by the clock in `core.rs`, by counted instructions in
//! `instructions.rs`. None of them makes a system call, so what is measured is what chaosfs itself adds to a request.
//!
//! Each is measured among few and among many of what could make it dearer: what a client knows, what is in flight, what
//! is in flight for the one file that is asked about.

mod belief;
mod client;
mod in_flight;

use std::{
    collections::{BTreeMap, HashMap},
    hint::black_box,
    ops::Range,
};

use chaosfs::{
    consistency::{Attributes, Change, Ino, Kind, Place},
    time::{Time, Timestamp},
};

/// Does an operation once and leaves everything as it was.
pub type Run = Box<dyn FnMut()>;

/// What is measured.
#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    /// What there may be few and many of.
    pub among: &'static str,
    /// How many of that there are, the fewest first.
    pub sizes: &'static [usize],
    /// Sets everything up among so many.
    pub prepare: fn(usize) -> Run,
}

/// What is measured, the yardstick first.
pub fn all() -> Vec<Operation> {
    let parts = [belief::OPERATIONS, in_flight::OPERATIONS, client::OPERATIONS];
    std::iter::once(YARDSTICK).chain(parts.into_iter().flatten().copied()).collect()
}

/// The standard library alone: a look into a hash table, and one entry of an ordered map that comes and goes. What
/// another compiler or machine does to all operations, it does to this one, too.
const YARDSTICK: Operation =
    Operation { name: "yardstick", among: "entries", sizes: &[1_000], prepare: yardstick };

fn yardstick(size: usize) -> Run {
    let table: HashMap<u64, [u64; 16]> = (0..size as u64).map(|key| (key, [key; 16])).collect();
    let mut ordered: BTreeMap<u64, [u64; 16]> = (0..size as u64).map(|key| (key, [key; 16])).collect();
    let mut keys = Keys::among(size);
    Box::new(move || {
        let key = keys.next();
        black_box(table.get(&key));
        let entry = ordered.remove(&key);
        ordered.insert(key, black_box(entry).unwrap_or_default());
    })
}

/// Numbers below a bound, all over the place and the same ones in each run.
struct Keys {
    state: u64,
    bound: u64,
}

impl Keys {
    fn among(size: usize) -> Keys {
        Keys { state: 1, bound: size.max(1) as u64 }
    }

    fn next(&mut self) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % self.bound
    }
}

const ROOT: Ino = 1;
/// The first of the files that an operation is set up among.
const FIRST: Ino = 1_000;
/// The time at which everything happens. Nothing expires, nothing is due.
const NOW: Time = Time::from_millis(1_000);

fn name(number: u64) -> String {
    format!("file{number:07}")
}

fn place(number: u64) -> Place {
    Place::new(ROOT, name(number).as_bytes())
}

/// Places made beforehand, so that an operation does not have to make one. There are enough of them not to stay in the
/// processor's caches.
struct Places {
    places: Vec<Place>,
    keys: Keys,
}

impl Places {
    const MOST: usize = 1 << 16;

    /// Places of numbers from the range, a multiple of `step` apart.
    fn among(numbers: Range<u64>, step: usize) -> Places {
        let count = (numbers.end - numbers.start) as usize / step;
        let step = step * count.div_ceil(Places::MOST).max(1);
        let places: Vec<Place> = numbers.step_by(step).map(place).collect();
        Places { keys: Keys::among(places.len()), places }
    }

    fn next(&mut self) -> &Place {
        &self.places[self.keys.next() as usize]
    }
}

fn attributes(kind: Kind) -> Attributes {
    Attributes::new(kind, 0o644, (0, 0), 0, 100, Timestamp { seconds: 1_700_000_000, nanos: 1 })
}

fn write(ino: Ino, offset: u64, data: &[u8]) -> Change {
    Change::Write { ino, offset, data: data.into(), clears: 0 }
}
