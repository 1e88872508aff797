//! Giving memory back once much of it has become free and it is quiet again: after many inodes were forgotten, much has
//! landed, a large listing was read or many beliefs have expired.

use std::{sync::atomic::Ordering, time::Duration};

use super::Client;
use crate::{backing::sys, clock::Clock, time::Time};

/// Less memory than this is not worth it.
const WORTH_TIDYING: u64 = 512 << 10;

/// For how long nothing more must have become free.
const QUIET: Duration = Duration::from_millis(200);

/// How often beliefs are looked at, while nobody adds to them, for what has expired.
const LOOK_AT_BELIEFS: Duration = Duration::from_secs(3);

/// What the thread that tidies up knows of the last time. In real time, whatever the clock: the kernel forgets when it
/// likes.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    tidied: u64,
    seen: u64,
    seen_at: Time,
    believed: u64,
    believed_at: Time,
}

impl Client {
    /// So many bytes of memory have become free.
    pub(super) fn released(&self, bytes: u64) {
        let before = self.counters.released.fetch_add(bytes, Ordering::Relaxed);
        if before / WORTH_TIDYING != (before + bytes) / WORTH_TIDYING {
            self.work.notify_all();
        }
    }

    /// Tidies up if it is time; says in how long to ask again, if there is anything to wait for.
    pub(super) fn tidy(&self, tidying: &mut Tidying) -> Option<Duration> {
        let now = Clock::Monotonic.now();
        let until_beliefs = self.drop_expired_beliefs(tidying, now);
        let released = self.counters.released.load(Ordering::Relaxed);
        if released - tidying.tidied < WORTH_TIDYING {
            return until_beliefs;
        }
        if released != tidying.seen {
            (tidying.seen, tidying.seen_at) = (released, now);
        }
        let left = QUIET.saturating_sub(now.since(tidying.seen_at));
        if !left.is_zero() {
            return Some(left);
        }
        tidying.tidied = released;
        self.table.shrink();
        self.lock().belief.shrink(self.now());
        sys::give_memory_back();
        until_beliefs
    }

    /// What has expired goes as other beliefs come. Where none come it goes here.
    fn drop_expired_beliefs(&self, tidying: &mut Tidying, now: Time) -> Option<Duration> {
        let state = self.lock();
        if !self.believes() {
            return None;
        }
        let believed = state.belief.believed();
        if believed != tidying.believed {
            (tidying.believed, tidying.believed_at) = (believed, now);
        }
        let left = LOOK_AT_BELIEFS.saturating_sub(now.since(tidying.believed_at));
        if !left.is_zero() {
            return Some(left);
        }
        tidying.believed_at = now;
        drop(state);
        self.end_expired_lingering();
        let mut state = self.lock();
        let before = state.belief.held();
        if before >= WORTH_TIDYING {
            state.belief.shrink(self.now());
        }
        let dropped = before - state.belief.held();
        drop(state);
        self.counters.released.fetch_add(dropped, Ordering::Relaxed);
        Some(LOOK_AT_BELIEFS)
    }
}
