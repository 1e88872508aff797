//! Seeded chance. A draw depends on the seed, the client, what it is for, the operation, the path and how often that
//! operation was drawn on that path, and on nothing else: not on threads, not on other files.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a draw is for. Each purpose has streams of its own, so that a new use of chance never shifts an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Whether an operation fails.
    Fault,
    /// How long a mutation takes to land.
    Delay,
    /// How long something that was fetched is believed.
    Lifetime,
}

/// One draw: a number in `[0, 1)` and which draw of its stream it was, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Evenly spread over `[0, 1)`.
    pub value: f64,
    /// How many draws of the same purpose, operation and path came before.
    pub nth: u64,
}

/// The chance of one client.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    client: String,
    drawn: Mutex<Drawn>,
}

/// So many streams have a count of their own.
const MOST_STREAMS: usize = 1 << 20;

/// So many counts are shared by all others.
const SHARED_COUNTS: usize = 1 << 12;

/// How many draws of each stream there were. That takes memory for each path, so past [`MOST_STREAMS`] new streams share
/// counts: their draws are as random, but the same in every run only if whatever shares their counts comes in the same
/// order, too.
#[derive(Debug, Default)]
struct Drawn {
    counts: HashMap<u64, u64>,
    shared: Vec<u64>,
}

impl Drawn {
    /// Counts one more draw of a stream; returns how many there were before.
    fn count(&mut self, stream: u64, most: usize) -> u64 {
        let is_full = self.counts.len() >= most;
        let count = match self.counts.entry(stream) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => {
                self.shared.resize(SHARED_COUNTS, 0);
                &mut self.shared[stream as usize % SHARED_COUNTS]
            }
            Entry::Vacant(new) => new.insert(0),
        };
        *count += 1;
        *count - 1
    }
}

impl Dice {
    /// The dice of `client` under `seed`.
    pub fn new(seed: u64, client: &str) -> Dice {
        Dice { seed, client: client.to_string(), drawn: Mutex::default() }
    }

    /// A seed nobody chose.
    #[expect(clippy::disallowed_methods, reason = "the one draw without a seed: that of the seed")]
    pub fn random_seed() -> u64 {
        // Short enough to read aloud and to be a float without loss in other languages' JSON.
        rand::rng().next_u64() & 0xffff_ffff
    }

    /// The seed in force.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next draw of this purpose and operation on this path.
    pub fn draw(&self, purpose: Purpose, operation: &str, path: &[u8]) -> Draw {
        let stream = self.stream(purpose, operation, path);
        let nth = self.drawn.lock().unwrap_or_else(PoisonError::into_inner).count(stream, MOST_STREAMS);
        let mut chance = ChaCha8Rng::seed_from_u64(self.seed);
        chance.set_stream(stream);
        // Two 32-bit words make one 64-bit draw.
        chance.set_word_pos(u128::from(nth) * 2);
        Draw { value: chance.random(), nth }
    }

    fn stream(&self, purpose: Purpose, operation: &str, path: &[u8]) -> u64 {
        let purpose: &[u8] = match purpose {
            Purpose::Fault => b"fault",
            Purpose::Delay => b"delay",
            Purpose::Lifetime => b"lifetime",
        };
        fnv1a(&[self.client.as_bytes(), purpose, operation.as_bytes(), path])
    }
}

/// The 64-bit FNV-1a hash of the parts with a separator after each: the same on every machine and in every version,
/// which the standard library's hashers do not promise.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    parts
        .iter()
        .flat_map(|part| part.iter().copied().map(u16::from).chain([0x100]))
        .fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(dice: &Dice, path: &[u8], count: usize) -> Vec<f64> {
        (0..count).map(|_| dice.draw(Purpose::Fault, "read", path).value).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_whatever_else_is_drawn() {
        let (one, two) = (Dice::new(7, "a"), Dice::new(7, "a"));
        let alone = values(&one, b"/f", 5);
        let mut mixed = Vec::new();
        for _ in 0..5 {
            values(&two, b"/other", 3);
            two.draw(Purpose::Delay, "read", b"/f");
            two.draw(Purpose::Fault, "write", b"/f");
            mixed.extend(values(&two, b"/f", 1));
        }
        assert_eq!(alone, mixed);
    }

    #[test]
    fn seed_client_and_path_each_change_the_draws() {
        let base = values(&Dice::new(7, "a"), b"/f", 4);
        assert_ne!(base, values(&Dice::new(8, "a"), b"/f", 4));
        assert_ne!(base, values(&Dice::new(7, "b"), b"/f", 4));
        assert_ne!(base, values(&Dice::new(7, "a"), b"/g", 4));
    }

    #[test]
    fn past_the_most_streams_new_ones_share_counts_and_the_others_keep_theirs() {
        let mut drawn = Drawn::default();
        for stream in 0..10_000 {
            drawn.count(stream, 100);
        }
        assert_eq!((drawn.counts.len(), drawn.shared.len()), (100, SHARED_COUNTS));
        assert_eq!((drawn.count(7, 100), drawn.count(7, 100)), (1, 2));
        let of_new = 9_000;
        assert_eq!(drawn.count(of_new, 100) + 1, drawn.count(of_new, 100));
    }

    #[test]
    fn draws_are_counted_from_zero_and_spread_evenly() {
        let dice = Dice::new(1, "a");
        assert_eq!(dice.draw(Purpose::Fault, "read", b"/f").nth, 0);
        assert_eq!(dice.draw(Purpose::Fault, "read", b"/f").nth, 1);
        let below = values(&dice, b"/spread", 10_000).into_iter().filter(|value| *value < 0.3).count();
        assert!((2_800..3_200).contains(&below), "{below} of 10000 below 0.3");
    }

    #[test]
    fn the_numbers_are_pinned_so_that_old_seeds_keep_their_meaning() {
        let draw = Dice::new(42, "client").draw(Purpose::Fault, "lookup", b"/a");
        assert_eq!(format!("{:.6}", draw.value), PINNED);
    }

    const PINNED: &str = "0.464316";
}
