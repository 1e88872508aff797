//! How a landing ends: it has landed, is put off, or never will land; and how mutations leave what is in flight.

use std::{
    os::fd::AsFd,
    sync::{Arc, MutexGuard, atomic::Ordering},
    time::Duration,
};

use super::{
    Client, State, Version, losses::Loss, store::Manner, view::attributes_of, waits::Over,
    whereabouts::Progressed,
};
use crate::{
    backing::{Stat, sys},
    consistency::{Change, Ino, Kind, Mutation, policy::DatedBy},
    error::Error,
    event::{Event, readable},
    time::Time,
};

/// After how long a landing that failed for a passing reason is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// While leaving: how soon and how often it is tried again before it is given up.
pub(super) const LAST_RETRY: Duration = Duration::from_millis(50);
const LAST_TRIES: u32 = 10;

impl Client {
    /// Carries a mutation out on the backing directory, and takes in how that ends.
    pub(super) fn try_to_land(&self, mutation: &Arc<Mutation>) {
        match self.table.retrying(|| self.carry_out(&mutation.change, mutation.stamp, Manner::Late)) {
            Ok(outcome) if outcome.has_more => self.go_on_with(mutation),
            Ok(outcome) if outcome.is_unreachable => {
                let state = self.lock();
                let fallen = with_what_falls(&state, mutation);
                self.drop_out(state, &fallen, Ok(()));
            }
            Ok(outcome) => {
                if let Change::Make { ino, .. } = &mutation.change
                    && let Some(opened) = outcome.opened.and_then(|opened| self.table.lasting(opened))
                {
                    let opened = Arc::new(opened);
                    self.files.provide(*ino, &opened);
                    self.keep_writer(*ino, &opened);
                }
                self.has_landed(mutation, outcome.stat, outcome.is_theirs);
            }
            Err(error) if error.is_passing() && !is_for_good(&mutation.change, error) => {
                self.put_off(mutation, error)
            }
            Err(error) if error.is_of_this_process() || error == Error::TextBusy => {
                self.put_off(mutation, error)
            }
            Err(error) => self.give_up(mutation, error),
        }
    }

    /// A landing that takes several steps has made one. While leaving there is no time between them.
    fn go_on_with(&self, mutation: &Arc<Mutation>) {
        let span = self.draw_span(self.in_force().policy.copy_time, &mutation.change);
        let mut state = self.lock();
        if state.in_flight.get(mutation.id).is_none() {
            return;
        }
        let then = if state.leaving { Time::ZERO } else { self.now() + span };
        state.in_flight.goes_on(mutation.id, then);
        self.wake_lander(&state);
    }

    /// What a landing has left of an inode that it touched.
    pub(super) fn stat_landed(&self, ino: Ino) -> Option<Stat> {
        if !self.table.has_landed(ino) {
            return None;
        }
        sys::stat(self.table.descriptor(ino).ok()?.as_fd()).ok()
    }

    fn has_landed(&self, mutation: &Arc<Mutation>, subject: Option<Stat>, is_theirs: bool) {
        self.follow(&mutation.change, if is_theirs { Progressed::Dropped } else { Progressed::Landed });
        // The times that the landing left behind are asked for before it leaves the overlay.
        let stat_of = |ino| match subject {
            Some(stat) if ino == mutation.change.subject() => (ino, Some(stat)),
            _ => (ino, self.stat_landed(ino)),
        };
        let stats: Vec<(Ino, Option<Stat>)> = mutation.change.inodes().into_iter().map(stat_of).collect();
        let now = self.now();
        let mut state = self.lock();
        // What was hurried lost its due time with that.
        let due = state.in_flight.due(mutation.id).filter(|due| *due > Time::ZERO);
        let late = due.map_or(Duration::ZERO, |due| now.since(due));
        for (ino, stat) in &stats {
            if let Some(watched) = state.records.watched(*ino) {
                watched.expected = stat.as_ref().map(|stat| Version::of(&attributes_of(stat)));
            }
            let Some(stat) = stat else { continue };
            let landed = attributes_of(stat);
            state.belief.note_size(*ino, landed.size);
            let shown = state.in_flight.overlay().view(*ino, &state.belief.disguised(*ino, landed), false);
            let is_as_landed = is_theirs || self.in_force().policy.dated_by == DatedBy::Store;
            state.belief.disguise(*ino, &landed, if is_as_landed { &landed } else { &shown });
            if stat.links == 0 && landed.kind != Kind::Directory {
                state.records.change(*ino, |record| record.is_nameless = true);
            }
        }
        for place in mutation.change.places() {
            state.records.change(place.directory, |record| record.is_unsynced = true);
        }
        // What is known of its place may go with it.
        let path = self.log.wants_operations().then(|| readable(&self.path_of_change(&mutation.change)));
        // Before it is gone: whoever sees that it has landed counts it, too.
        self.counters.landed.fetch_add(1, Ordering::Relaxed);
        self.settle(state, std::slice::from_ref(mutation), Ok(()));
        if let Some(path) = path {
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            let event = Event::Landed { id: mutation.id, mutation: mutation.change.verb(), path, late_us };
            self.log.record(&self.clock, &event);
        }
    }

    /// Takes mutations out of flight that will never have been, the latest first.
    pub(super) fn drop_out(
        &self,
        state: MutexGuard<'_, State>,
        out: &[Arc<Mutation>],
        result: Result<(), Error>,
    ) {
        out.iter().for_each(|mutation| self.follow(&mutation.change, Progressed::Dropped));
        self.settle(state, out, result);
    }

    /// Takes mutations out of flight, landed or not, in the given order: what was believed about what they touch goes,
    /// whoever waited for them or for room goes on, and nobody keeps their inodes for their sake any more. The one way
    /// out; those that have gone that way already are left alone.
    pub(super) fn settle(
        &self,
        mut state: MutexGuard<'_, State>,
        out: &[Arc<Mutation>],
        result: Result<(), Error>,
    ) {
        let out: Vec<&Arc<Mutation>> =
            out.iter().filter(|mutation| state.in_flight.get(mutation.id).is_some()).collect();
        let knobs = &self.in_force().knobs;
        let mut over = Vec::new();
        let mut closing = Vec::new();
        for mutation in &out {
            state.belief.changed(&mutation.change);
            state.in_flight.landed(mutation.id);
            let subject = mutation.change.subject();
            let has_data = state.in_flight.overlay().has_data(subject);
            state.records.take(subject, |record| {
                record.half_made = None;
                if !has_data {
                    record.watched = None;
                    closing.extend(record.writer.take());
                }
            });
            over.extend(state.waits.landed(mutation.id, result));
        }
        // One only: what it brings counts from when it goes on. The landing threads let in the next.
        over.extend(state.next_for_room(knobs));
        if state.waits.is_empty() {
            self.wake_lander(&state);
        } else {
            self.work.notify_one();
        }
        drop(state);
        drop(closing);
        sys::IN_FLIGHT.fetch_sub(out.len() as u64, Ordering::Relaxed);
        self.released(out.iter().map(|mutation| mutation.change.cost()).sum());
        for mutation in out {
            mutation.change.inodes().into_iter().for_each(|ino| self.unpin(ino));
        }
        over.into_iter().for_each(Over::go_on);
    }

    /// Data for a file that has lost its last name and that nobody has open any more can never be seen: it is not
    /// worth landing, and must not hold room in a full store.
    pub(super) fn drop_unseen_data(&self, ino: Ino) {
        let state = self.lock();
        let count = state.in_flight.count_about(ino);
        // Each of these mutations pins the inode once; whoever else does could still look.
        if count == 0 || !state.records.of(ino).is_nameless || self.table.is_wanted(ino, count as u32) {
            return;
        }
        let waiting: Vec<Arc<Mutation>> = state.in_flight.about(ino).rev().cloned().collect();
        let busy = waiting.iter().any(|mutation| state.in_flight.is_started(mutation.id));
        let named = waiting.iter().any(|mutation| !mutation.change.places().is_empty());
        if !busy && !named {
            // The latest first: none is ever let go while another still needs it.
            self.drop_out(state, &waiting, Ok(()));
        }
    }

    /// A file has just been cut to `size`. Where the store has no room for data that is cut off with that, the data
    /// would hold up the very thing that makes room: it need not land any more. Only if that is all that is in flight
    /// for the file: nothing may overtake what the cut needs.
    pub(super) fn drop_data_cut_off(&self, ino: Ino, size: u64) {
        let state = self.lock();
        // Asked first: a file that is cut again and again may have any number of changes in flight.
        if state.in_flight.about(ino).next().is_none_or(|oldest| state.in_flight.tries(oldest.id) == 0) {
            return;
        }
        let before: Vec<Arc<Mutation>> = state.in_flight.about(ino).rev().skip(1).cloned().collect();
        let is_cut_off = |mutation: &Arc<Mutation>| {
            let idle = !state.in_flight.is_started(mutation.id);
            idle && matches!(mutation.change, Change::Write { offset, .. } if offset >= size)
        };
        if before.iter().all(is_cut_off) {
            self.drop_out(state, &before, Ok(()));
        }
    }

    /// A mutation could not land for a passing reason: it stays and is tried again. While leaving not for long.
    pub(super) fn put_off(&self, mutation: &Arc<Mutation>, error: Error) {
        let now = self.now();
        let mut state = self.lock();
        if state.in_flight.get(mutation.id).is_none() {
            return;
        }
        let retry = if state.leaving { LAST_RETRY } else { RETRY };
        let tries = state.in_flight.postpone(mutation.id, now + retry);
        if state.leaving && tries >= LAST_TRIES {
            drop(state);
            return self.give_up(mutation, error);
        }
        if tries == 1 {
            state.fail(mutation.change.subject(), error);
        }
        let over = state.waits.landed(mutation.id, Err(error));
        drop(state);
        if tries == 1 {
            let (path, error) = (readable(&self.mutation_path(mutation)), error.symbol());
            self.log.record(
                &self.clock,
                &Event::LandingDelayed { mutation: mutation.change.verb(), path, error },
            );
        }
        over.into_iter().for_each(Over::go_on);
    }

    /// A mutation will never land: it is named and dropped, with those that are nothing without it.
    fn give_up(&self, mutation: &Arc<Mutation>, error: Error) {
        let mut state = self.lock();
        let lost = with_what_falls(&state, mutation);
        state.fail(mutation.change.subject(), error);
        let why = error.to_string();
        lost.iter().rev().for_each(|mutation| state.lost.push(self.loss(mutation, &why)));
        self.drop_out(state, &lost, Err(error));
        for mutation in lost.iter().rev() {
            let (path, error) = (readable(&self.mutation_path(mutation)), error.symbol());
            let event = Event::Lost { mutation: mutation.change.verb(), path, error };
            self.log.record(&self.clock, &event);
        }
    }

    pub(super) fn loss(&self, mutation: &Mutation, why: &str) -> Loss {
        Loss::new(&readable(&self.mutation_path(mutation)), &mutation.change, why)
    }

    pub(super) fn mutation_path(&self, mutation: &Mutation) -> Vec<u8> {
        match mutation.change.places().first() {
            Some(place) => self.path_of(place),
            None => self.table.path(mutation.change.subject()),
        }
    }
}

/// A mutation that will not land and those that are nothing without it, the latest first.
fn with_what_falls(state: &State, mutation: &Arc<Mutation>) -> Vec<Arc<Mutation>> {
    let falls_too = |other: &Arc<Mutation>| match &mutation.change {
        // Nothing can be done to an inode that was never made.
        Change::Make { .. } => true,
        // A full store while leaving: each would be tried again as long.
        _ => state.leaving && mutation.change.is_data() && other.change.is_data(),
    };
    let others = state.in_flight.about(mutation.change.subject()).filter(|other| other.id != mutation.id);
    let others = others.filter(|other| !state.in_flight.is_started(other.id) && falls_too(other));
    others.rev().chain([mutation]).cloned().collect()
}

/// Failures that pass elsewhere but not here: an extended attribute that is too large for its file system meets ENOSPC
/// however much room there is (`setxattr(2)`), and must not hold up what comes after it.
fn is_for_good(change: &Change, error: Error) -> bool {
    matches!(change, Change::SetXattr { .. }) && error == Error::NoSpace
}
