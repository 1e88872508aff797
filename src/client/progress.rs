//! Who sleeps until something lands or is to land, and who is worth waking for it: waking costs as much as a landing.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{clock::Clock, time::Time};

/// Poll interval of whoever waits for the next step.
const LOOK: Duration = Duration::from_millis(1);

/// Those who wait for landing to get somewhere, with the lock of the state given up meanwhile.
#[derive(Debug, Default)]
pub(super) struct Progress {
    made: Condvar,
    /// How many wait for any step whatever.
    for_a_step: AtomicUsize,
}

impl Progress {
    /// Waits until one mutation more has landed, or could not.
    pub(super) fn wait_for_a_step<T>(&self, state: MutexGuard<'_, T>) {
        self.for_a_step.fetch_add(1, Ordering::SeqCst);
        drop(Clock::wait_in_real_time(&self.made, state, Some(LOOK)));
        self.for_a_step.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until a landing thread has no more to land, or `span` has passed.
    pub(super) fn wait_for_rest<'a, T>(&self, state: MutexGuard<'a, T>, span: Duration) -> MutexGuard<'a, T> {
        Clock::wait_in_real_time(&self.made, state, Some(span))
    }

    /// A mutation has landed, or could not.
    pub(super) fn step(&self) {
        if self.for_a_step.load(Ordering::SeqCst) > 0 {
            self.made.notify_all();
        }
    }

    /// A landing thread has no more to land for now.
    pub(super) fn rest(&self) {
        self.made.notify_all();
    }
}

/// When each of the landing threads that sleep will wake by itself, by their numbers. On a clock that is moved by hand:
/// what it knows to be due.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeMap<usize, Time>);

impl Alarms {
    /// A thread goes to sleep, for good if nobody wakes it and it has no alarm.
    pub(super) fn set(&mut self, thread: usize, alarm: Option<Time>) {
        self.0.insert(thread, alarm.unwrap_or(Time::NEVER));
    }

    /// A thread is awake.
    pub(super) fn off(&mut self, thread: usize) {
        self.0.remove(&thread);
    }

    /// Whether threads sleep, and none of them would be awake for what is due next.
    pub(super) fn are_late_for(&self, due: Option<Time>) -> bool {
        let first = self.0.values().min();
        due.zip(first).is_some_and(|(due, alarm)| due < *alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_is_woken_only_for_what_is_due_before_any_wakes_by_itself() {
        let (early, late) = (Some(Time::from_millis(5)), Some(Time::from_millis(6)));
        let mut alarms = Alarms::default();
        assert!(!alarms.are_late_for(early), "nobody sleeps");
        alarms.set(0, None);
        assert!(alarms.are_late_for(early) && !alarms.are_late_for(None));
        alarms.set(1, early);
        assert!(!alarms.are_late_for(early) && !alarms.are_late_for(late));
        alarms.off(1);
        assert!(alarms.are_late_for(late), "the one that is awake may be busy for long");
        alarms.set(0, late);
        assert!(alarms.are_late_for(early));
    }
}
