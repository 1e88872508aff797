//! What tests that draw and last have in common.

use std::env;

/// Drawn without a crate: the same numbers in every run, which is all that is asked of them.
pub struct Draws(pub u64);

impl Draws {
    /// The next number below `bound` (xorshift64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of these.
    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

/// How long a test that lasts goes on: `TEST_LOAD_SECONDS`.
pub fn load_seconds(otherwise: u64) -> u64 {
    env::var("TEST_LOAD_SECONDS").map_or(otherwise, |text| text.parse().expect("a number of seconds"))
}
