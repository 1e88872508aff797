//! Steering a running client: what a person or a test does to it from outside.
//!
//! | verb | what it does |
//! |---|---|
//! | `set` | changes knobs, all or none; what is in flight keeps its due time |
//! | `hold`, `release` | stops and resumes landing by being due; what `fsync(2)` asks for, a flush and leaving land all the same, and what would be written through goes in flight meanwhile |
//! | `land_everything` | lands now what is in flight now |
//! | `expire` | drops all beliefs |
//! | `lose` | drops what is in flight, as if the host had crashed |
//! | `advance` | moves a manual clock from one due time to the next |
//!
//! Nothing here waits longer than the client lives.

use std::{
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Client, InForce, State, check_lending, locked,
    losses::{Loss, by_path},
};
use crate::{
    consistency::policy::Word,
    consistency::{Mutation, MutationId},
    error::{Error, Refusal},
    event::{Event, readable},
    knobs::{Knobs, Tunable},
    terms::Wish,
    time::Time,
};

/// How often whoever waits looks again although nobody has said that anything happened.
const LOOK: Duration = Duration::from_millis(20);

/// What moving the clock has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// How many mutations landed.
    pub landed: u64,
    /// How long, on the client's own clock, until the next one is due; none while nothing will be.
    pub next_due: Option<Duration>,
}

impl Client {
    /// Changes knobs, all that `change` says or none. Mutations in flight keep their due times; beliefs older than a
    /// shorter time to live are dropped. Returns the knobs in force from here on.
    ///
    /// # Errors
    /// What `change` refused, or which knob has no meaning with its value.
    pub fn set(&self, change: impl FnOnce(&mut Knobs) -> Result<(), Refusal>) -> Result<Knobs, Refusal> {
        let now = self.now();
        let mut state = self.lock();
        let before = self.knobs();
        let mut knobs = before.clone();
        change(&mut knobs)?;
        knobs.check()?;
        if knobs.locks != before.locks {
            return Err(Refusal::new(format!(
                "locks: they are agreed on with the kernel when a client is mounted and cannot become `{}` while it runs",
                Word::word(knobs.locks)
            )));
        }
        if self.lends() {
            check_lending(&knobs, &self.clock, self.log.wants_operations(), self.terms)?;
        }
        state.belief.shorten(&knobs.policy(), now);
        state.belief.set_most(knobs.max_belief);
        let in_force = Arc::new(InForce::new(knobs.clone()));
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
        drop(state);
        let changed = knobs.changed_since(&before).into_iter();
        let changed: Vec<String> = changed.map(|(name, value)| format!("{name}={value}")).collect();
        if !changed.is_empty() {
            self.log.record(&self.clock, &Event::Set { knobs: changed.join(" ") });
        }
        self.end_expired_lingering();
        // There may be room now for those who wait: the landing threads let them in.
        self.work.notify_all();
        Ok(knobs)
    }

    /// From now on nothing lands by being due; what is landing has landed when this returns.
    pub fn hold(&self) {
        let mut state = self.lock();
        state.in_flight.hold(true);
        drop(self.rested(state));
        self.log.record(&self.clock, &Event::Hold);
    }

    /// What is due lands again; on a manual clock it has when this returns.
    pub fn release_held(&self) {
        self.lock().in_flight.hold(false);
        self.log.record(&self.clock, &Event::Release);
        self.work.notify_all();
        if self.clock.is_manual() {
            let _hand = locked(&self.hand);
            self.land_all_due();
        }
    }

    /// Lands now what is in flight now, also what is held, and returns how much that was.
    ///
    /// # Errors
    /// Names what could not land: it stays in flight and is tried again, or is lost.
    pub fn land_everything(&self) -> Result<u64, Refusal> {
        let landed_before = count(&self.counters.landed);
        let mut state = self.lock();
        let lost_before = state.lost.count();
        let last = state.in_flight.hurry_all();
        drop(state);
        self.work.notify_all();
        if locked(&self.landers).is_empty() {
            self.land_due();
        }
        let mut state = self.lock();
        while state.in_flight.is_hurrying(last) && !state.stopping {
            state = self.progress.wait_for_rest(state, LOOK);
        }
        let mut stuck = state.lost.after(lost_before);
        stuck.extend(self.unlanded(&state, last));
        drop(state);
        let landed = count(&self.counters.landed) - landed_before;
        self.log.record(&self.clock, &Event::Flush { landed, stuck: stuck.len() as u64 });
        if stuck.is_empty() { Ok(landed) } else { Err(could_not_land(&stuck)) }
    }

    fn unlanded(&self, state: &State, last: MutationId) -> Vec<Loss> {
        let left = state.in_flight.all().map(|(mutation, _)| mutation);
        let left = left.take_while(|mutation| mutation.id <= last);
        left.map(|mutation| {
            let error = state.records.of(mutation.change.subject()).error;
            let reason =
                error.map_or("waiting for another change".to_string(), |(_, error)| error.to_string());
            self.loss(mutation, &reason)
        })
        .collect()
    }

    fn named(&self, mutation: &Mutation) -> String {
        format!("{}: {}", readable(&self.mutation_path(mutation)), mutation.change.verb())
    }

    /// Drops every belief at once.
    ///
    /// # Errors
    /// The kernel keeps answers of this client, and would go on believing them.
    pub fn expire(&self) -> Result<(), Refusal> {
        self.check_nothing_is_kept()?;
        self.drop_beliefs();
        Ok(())
    }

    /// The same, whatever the kernel keeps.
    pub fn drop_beliefs(&self) {
        self.lock().belief.expire();
        self.log.record(&self.clock, &Event::Expire);
    }

    /// Drops all that is in flight, as if the host had crashed, and names it, oldest first: path and operation. What is
    /// being landed just now lands first.
    ///
    /// Programs live on here, unlike after a crash. Who has a file open that is in the store, and lost data or
    /// attributes of it, hears EIO once; a file or directory that was never made answers ESTALE. Whoever waits for what
    /// is lost hears EIO.
    pub fn lose(&self) -> Vec<String> {
        let mut state = self.rested(self.lock());
        let all = state.in_flight.all().map(|(mutation, _)| mutation);
        let mut dropped: Vec<Arc<Mutation>> =
            all.filter(|mutation| !state.in_flight.is_started(mutation.id)).cloned().collect();
        let named: Vec<String> = dropped.iter().map(|mutation| self.named(mutation)).collect();
        let events: Vec<Event> = dropped.iter().map(|mutation| self.loss_of(mutation)).collect();
        // The latest first: none is ever let go while another still needs it.
        dropped.reverse();
        for mutation in &dropped {
            state.fail(mutation.change.subject(), self.loss_error(mutation));
        }
        self.drop_out(state, &dropped, Err(Error::InputOutput));
        self.counters.dropped.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        events.iter().for_each(|event| self.log.record(&self.clock, event));
        self.log.record(&self.clock, &Event::Lose { dropped: dropped.len() as u64 });
        named
    }

    /// Waits until nothing is being landed. Nothing begins to land meanwhile.
    fn rested<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.in_flight.is_landing() && !state.stopping {
            state.in_flight.freeze(true);
            state = self.progress.wait_for_rest(state, LOOK);
        }
        state.in_flight.freeze(false);
        state
    }

    fn loss_error(&self, mutation: &Mutation) -> Error {
        if self.table.has_landed(mutation.change.subject()) { Error::InputOutput } else { Error::Stale }
    }

    fn loss_of(&self, mutation: &Mutation) -> Event {
        let (path, error) = (readable(&self.mutation_path(mutation)), self.loss_error(mutation).symbol());
        Event::Lost { mutation: mutation.change.verb(), path, error }
    }

    /// Moves a manual clock by `by`, from one due time to the next, and returns when everything due by then has
    /// landed. `Duration::ZERO` lands what is due already.
    ///
    /// # Errors
    /// The clock is a real one.
    pub fn advance(&self, by: Duration) -> Result<Advanced, Refusal> {
        if !self.clock.is_manual() {
            return Err(Refusal::new(format!(
                "it runs on real time; mount it with {} to move its clock",
                self.terms.name(Wish::ManualClock)
            )));
        }
        let _hand = locked(&self.hand);
        let landed_before = count(&self.counters.landed);
        let until = self.now() + by;
        loop {
            self.land_all_due();
            let now = self.now();
            if now >= until || self.lock().stopping {
                break;
            }
            let next = self.next_due().filter(|due| now < *due && *due < until);
            self.clock.advance(next.unwrap_or(until).since(now));
        }
        let landed = count(&self.counters.landed) - landed_before;
        let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.log.record(&self.clock, &Event::Advance { by_us, landed });
        let next_due = self.next_due().map(|due| due.since(self.now()));
        Ok(Advanced { landed, next_due })
    }

    /// Lands what is due now and waits for what the landing threads have in hand: what needs that is due, too.
    fn land_all_due(&self) {
        loop {
            self.land_due();
            let now = self.now();
            let state = self.lock();
            let is_due = state.in_flight.next_due().is_some_and(|due| due <= now);
            if !(state.in_flight.is_landing() || is_due) || state.stopping {
                return;
            }
            drop(self.progress.wait_for_rest(state, LOOK));
        }
    }

    /// When the next mutation is due.
    pub fn next_due(&self) -> Option<Time> {
        self.lock().in_flight.next_due()
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn could_not_land(stuck: &[Loss]) -> Refusal {
    const MOST_NAMED: usize = 10;
    let noun = if stuck.len() == 1 { "change" } else { "changes" };
    let lines = by_path(stuck);
    let more = lines.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let named = lines[..lines.len().min(MOST_NAMED)].join("; ");
    Refusal::new(format!("{} {noun} could not land: {named}{more}", stuck.len()))
}

#[cfg(test)]
mod tests;
