//! What goes through at once, what goes in flight, and who waits for room.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Client, State, store, store::Manner, waits::Done};
use crate::{
    backing::sys,
    consistency::{Change, DelayClass},
    dice::Purpose,
    error::Error,
    time::{Delay, Timestamp},
};

impl Client {
    /// Whether one more mutation with this much data may go in flight now. A mutation larger than the whole bound goes
    /// alone.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.lock().has_room(&self.in_force().knobs, bytes)
    }

    /// Calls `done` when there may be room for so many bytes, or with EINTR when the waiting thread has been killed.
    pub fn wait_for_room(&self, bytes: usize, thread: u32, done: Done) {
        let mut state = self.lock();
        state.waits.for_room(bytes, thread, done);
        drop(state);
        self.work.notify_all();
    }

    /// A copy of what a program that waits for room will write.
    ///
    /// # Errors
    /// ENOMEM if this process may not have the memory.
    pub fn copy_to_wait(data: &[u8]) -> Result<Vec<u8>, Error> {
        sys::expect_memory(data.len())?;
        Ok(data.to_vec())
    }

    pub(super) fn delay_of(&self, class: DelayClass) -> Delay {
        self.in_force().policy.delays.of(class)
    }

    /// Whether a change is applied before its call returns: its delay is zero, landing is not held, and nothing that
    /// it needs is in flight.
    pub(super) fn goes_through(&self, state: &State, change: &Change) -> bool {
        let class = change.delay_class();
        // Whoever reads a file that is lent reads the store.
        let is_lent = class == DelayClass::Data && state.belief.is_lent(change.subject());
        (is_lent || self.is_at_once(state, class)) && !state.in_flight.blocks(change)
    }

    /// Whether changes of this class are applied before their call returns, unless something in flight is in the way.
    pub(super) fn is_at_once(&self, state: &State, class: DelayClass) -> bool {
        state.write_through || self.delay_of(class).is_zero() && !state.in_flight.is_held()
    }

    /// Whether every change goes through: no delay, no hold, and nothing in flight that could be in the way.
    pub(super) fn all_goes_through(&self, state: &State) -> bool {
        let in_flight = &state.in_flight;
        self.in_force().policy.delays.are_zero() && in_flight.is_empty() && !in_flight.is_held()
    }

    /// Carries a change out at once if it goes through; `None` if it has to go in flight.
    pub(super) fn try_through(&self, change: &Change) -> Option<Result<store::Outcome, Error>> {
        if !self.goes_through(&self.lock(), change) {
            return None;
        }
        let outcome = self.carry_out(change, Timestamp::NOW, Manner::Through);
        self.forget_beliefs(change);
        Some(outcome)
    }

    /// What was believed about all that a change touches is dropped.
    pub(super) fn forget_beliefs(&self, change: &Change) {
        let mut state = self.lock();
        state.belief.changed(change);
        if !state.watched.is_empty() {
            for ino in change.inodes() {
                state.watched.remove(&ino);
            }
        }
    }

    /// Puts a change in flight: from here on this client's programs see it.
    ///
    /// # Errors
    /// EIO when it is too late: the client has left, and nobody would land it. ESTALE when an inode that the change is
    /// about was lost before it landed ([`Client::lose`]).
    pub(super) fn put_in_flight(
        &self,
        state: &mut State,
        change: Change,
        stamp: Timestamp,
    ) -> Result<(), Error> {
        if state.stopping {
            return Err(Error::InputOutput);
        }
        let made = if let Change::Make { ino, .. } = &change { Some(*ino) } else { None };
        let is_there = |ino| {
            made == Some(ino)
                || state.in_flight.overlay().unlanded(ino).is_some()
                || self.table.has_landed(ino)
        };
        if !change.inodes().into_iter().all(is_there) {
            return Err(Error::Stale);
        }
        let delay = self.delay_of(change.delay_class());
        let span = if state.write_through || delay.is_zero() {
            Duration::ZERO
        } else if delay.min == delay.max {
            delay.min
        } else {
            let path = self.table.path(change.subject());
            delay.at(self.dice.draw(Purpose::Delay, change.verb(), &path).value)
        };
        for ino in change.inodes() {
            self.table.pin(ino);
        }
        state.belief.changed(&change);
        sys::IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
        state.in_flight.add(change, stamp, self.now() + span);
        self.wake_lander(state);
        Ok(())
    }
}
