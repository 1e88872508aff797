//! The only reader of time and the only one who waits.
#![expect(clippy::disallowed_methods, reason = "this is the one place that clippy.toml speaks of")]

use std::{
    sync::{
        Arc, Condvar, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::time::{Time, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Where a client's time comes from: the machine's monotonic clock, or a hand that moves it.
#[derive(Clone, Debug)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// Stands still until [`Clock::advance`]; clones share one hand.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that is moved by hand and starts at one second.
    pub fn manual() -> Clock {
        Clock::Manual(Arc::new(AtomicU64::new(1_000_000_000)))
    }

    /// `real` or `manual`.
    pub fn name(&self) -> &'static str {
        if self.is_manual() { "manual" } else { "real" }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        match self {
            Clock::Monotonic => Time::from_nanos(nanos_of(ClockId::CLOCK_MONOTONIC)),
            Clock::Manual(nanos) => Time::from_nanos(nanos.load(Ordering::SeqCst)),
        }
    }

    /// Whether it moves only by hand.
    pub fn is_manual(&self) -> bool {
        matches!(self, Clock::Manual(_))
    }

    /// Moves a manual clock; a monotonic one goes its own way and this does nothing to it.
    pub fn advance(&self, span: Duration) {
        if let Clock::Manual(nanos) = self {
            let moved = |now| Some((Time::from_nanos(now) + span).as_nanos());
            let _ = nanos.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        }
    }

    /// The wall clock that file times come from: never behind a time that the kernel has given out already.
    pub(crate) fn wall(&self) -> Timestamp {
        let time = clock_gettime(ClockId::CLOCK_REALTIME).expect("CLOCK_REALTIME exists on Linux");
        Timestamp { seconds: time.tv_sec(), nanos: u32::try_from(time.tv_nsec()).unwrap_or(0) }
    }

    /// Waits on `condition` until it is notified or `until` has come. A manual clock's waiter is woken by whoever
    /// moves the hand.
    pub(crate) fn wait<'a, T>(
        &self,
        condition: &Condvar,
        guard: MutexGuard<'a, T>,
        until: Option<Time>,
    ) -> MutexGuard<'a, T> {
        match (self, until) {
            (Clock::Monotonic, Some(until)) => {
                let span = until.since(self.now());
                condition.wait_timeout(guard, span).unwrap_or_else(PoisonError::into_inner).0
            }
            _ => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Waits on `condition` until it is notified or `span` of real time has passed, whatever the clock.
    pub(crate) fn wait_in_real_time<'a, T>(
        condition: &Condvar,
        guard: MutexGuard<'a, T>,
        span: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        match span {
            Some(span) => condition.wait_timeout(guard, span).unwrap_or_else(PoisonError::into_inner).0,
            None => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Sleeps for `span` of real time, whatever the clock.
    pub(crate) fn pause(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// The end of a wait that is bounded in real time.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Time);

impl Deadline {
    /// The end of a wait that begins now and lasts for `span` at most.
    pub fn after(span: Duration) -> Deadline {
        Deadline(Clock::Monotonic.now() + span)
    }

    /// How much is left until then.
    pub fn left(self) -> Duration {
        self.0.since(Clock::Monotonic.now())
    }
}

fn nanos_of(id: ClockId) -> u64 {
    let time = clock_gettime(id).expect("the monotonic clock exists on Linux");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_its_clones_share_it() {
        let clock = Clock::manual();
        let (before, other) = (clock.now(), clock.clone());
        assert_eq!(clock.now(), before);
        other.advance(Duration::from_millis(7));
        assert_eq!(clock.now(), before + Duration::from_millis(7));
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let first = Clock::Monotonic.now();
        assert!(Clock::Monotonic.now() >= first);
    }
}
