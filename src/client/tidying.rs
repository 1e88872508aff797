//! Giving memory back once the kernel has forgotten many inodes and is quiet again.

use std::{sync::atomic::Ordering, time::Duration};

use super::Client;
use crate::{backing::sys, clock::Clock, time::Time};

/// Fewer forgotten inodes than this are not worth it.
pub(super) const WORTH_TIDYING: u64 = 1024;

/// For how long nothing must have been forgotten.
const QUIET: Duration = Duration::from_millis(200);

/// What whoever tidies up knows of the last time. In real time, whatever the clock: the kernel forgets when it likes.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    tidied: u64,
    seen: u64,
    seen_at: Time,
}

impl Client {
    /// Tidies up if it is time; says in how long to ask again, if there is anything to wait for.
    pub(super) fn tidy(&self, tidying: &mut Tidying) -> Option<Duration> {
        let forgotten = self.counters.forgotten.load(Ordering::Relaxed);
        if forgotten - tidying.tidied < WORTH_TIDYING {
            return None;
        }
        let now = Clock::Monotonic.now();
        if forgotten != tidying.seen {
            (tidying.seen, tidying.seen_at) = (forgotten, now);
        }
        let left = QUIET.saturating_sub(now.since(tidying.seen_at));
        if !left.is_zero() {
            return Some(left);
        }
        tidying.tidied = forgotten;
        self.table.shrink();
        self.lock().belief.shrink(self.now());
        sys::give_memory_back();
        None
    }
}
