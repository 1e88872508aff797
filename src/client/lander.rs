//! Landing what is due: the threads that do it, how it can end, and leaving.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Client, State, Version, locked, losses::Loss, prepare_thread, store::Manner, tidying::Tidying,
    view::attributes_of, waits::Over, whereabouts::Progressed,
};
use crate::{
    backing::{Stat, sys},
    clock::{Clock, Deadline},
    consistency::{Change, Ino, Kind, Mutation},
    error::Error,
    event::{Event, readable},
    time::Time,
};

/// Threads that land. Two, so that one slow landing does not hold up all others.
const LANDERS: usize = 2;

/// With a clock that is moved by hand they land only what is hurried; one does that in the same order every time.
const MANUAL_LANDERS: usize = 1;

/// How many more land while landings hang. Beyond that the rest waits until one of them ends.
const MOST_STAND_INS: usize = 16;

/// For how long nothing has landed, although something is due, when one more begins to land.
const HANGS: Duration = Duration::from_millis(250);

/// While leaving: for how long nothing has landed when the rest is given up. No single change takes so long.
const HOPELESS: Duration = Duration::from_secs(60);

/// After how long a landing that failed for a passing reason is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// While leaving: how soon and how often it is tried again before it is given up.
const LAST_RETRY: Duration = Duration::from_millis(50);
const LAST_TRIES: u32 = 10;

/// How often waits are checked for programs that have been killed.
const CHECK_WAITERS: Duration = Duration::from_millis(50);

/// What a client did in its life, and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Mutations that landed late.
    pub landed: u64,
    /// Conflicts met while landing.
    pub conflicts: u64,
    /// Faults injected.
    pub faults: u64,
    /// What was acknowledged and could not land, one line a path: what it was, how many changes and how much data, why.
    pub lost: Vec<String>,
    /// How many changes that is.
    pub lost_changes: u64,
    /// What was acknowledged and is not in the backing directory either, because of what others did there meanwhile, one
    /// line a path: conflicts that ended as `dropped` or `unseen`, or as `kept-theirs` for a new name.
    pub overtaken: Vec<String>,
}

impl Client {
    /// Starts the landing threads. Call it after the last fork.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut landers = locked(&self.landers);
        let landers_wanted = if self.clock.is_manual() { MANUAL_LANDERS } else { LANDERS };
        for number in 0..landers_wanted {
            let client = self.clone();
            let thread = std::thread::Builder::new().name(format!("lander-{number}"));
            let mut tidying = (number == 0).then(Tidying::default);
            let land = move || client.land_for_life(number, tidying.as_mut());
            landers.push(thread.spawn(land)?);
        }
        drop(landers);
        if !self.clock.is_manual() {
            let (client, thread) = (self.clone(), std::thread::Builder::new().name("stand-ins".to_string()));
            let look = thread.spawn(move || client.look_after_landings())?;
            locked(&self.landers).push(look);
        }
        Ok(())
    }

    /// Lets others land when the landing threads hang in the backing directory, each in one landing: a change waits for
    /// those that it needs and for no other. On a clock that is moved by hand everything lands in one order, so there it
    /// does wait.
    fn look_after_landings(self: &Arc<Self>) {
        let mut last = None;
        loop {
            let state = self.lock();
            if state.stopping {
                return;
            }
            let state = Clock::wait_in_real_time(&self.stopped, state, Some(HANGS));
            let is_overdue = state.in_flight.next_due().is_some_and(|due| due + HANGS <= self.now());
            drop(state);
            let landings = self.counters.landings.load(Ordering::Relaxed);
            if is_overdue && last == Some(landings) {
                self.stand_in();
            }
            last = is_overdue.then_some(landings);
        }
    }

    fn stand_in(self: &Arc<Self>) {
        let mut landers = locked(&self.landers);
        landers.retain(|lander| !lander.is_finished());
        if landers.len() >= LANDERS + 1 + MOST_STAND_INS {
            return;
        }
        let client = self.clone();
        let land = move || {
            prepare_thread();
            client.land_until(Client::now);
        };
        // Without a thread it is tried again with the next look.
        landers.extend(std::thread::Builder::new().name("stand-in".to_string()).spawn(land));
    }

    /// One of the threads tidies up, too.
    fn land_for_life(&self, number: usize, mut tidying: Option<&mut Tidying>) {
        prepare_thread();
        loop {
            let until_tidy = tidying.as_mut().and_then(|tidying| self.tidy(tidying));
            // Time on a clock that is moved by hand is up to whoever moves it: here only what is hurried lands.
            let is_manual = self.clock.is_manual();
            self.land_until(if is_manual { |_: &Client| Time::ZERO } else { Client::now });
            let mut state = self.lock();
            if state.stopping {
                return;
            }
            let now = if is_manual { Time::ZERO } else { self.now() };
            let due = state.in_flight.next_due();
            if due.is_some_and(|due| due <= now) {
                continue;
            }
            let until_due = due.filter(|_| !is_manual).map(|due| due.since(now));
            let waiters = state.waits.needs_check().then_some(CHECK_WAITERS);
            let retries = (is_manual && state.leaving && due.is_some()).then_some(LAST_RETRY);
            let span = until_due.into_iter().chain(waiters).chain(retries).chain(until_tidy).min();
            let alarm = if is_manual { due } else { span.map(|span| now + span) };
            state.alarms.set(number, alarm);
            state = Clock::wait_in_real_time(&self.work, state, span);
            state.alarms.off(number);
            if is_manual && state.leaving {
                // Nobody moves the hand any more: what was put off is tried again.
                state.in_flight.hurry_all();
            }
            drop(state);
            self.look_after_waiters();
        }
    }

    /// Lands everything that is due now. The landing threads call it; a test that moves the clock by hand may, too.
    pub fn land_due(&self) {
        self.land_until(Client::now);
    }

    pub(super) fn land_until(&self, time: fn(&Client) -> Time) {
        loop {
            let mut state = self.lock();
            let Some(mutation) = state.in_flight.start_due(time(self)) else {
                drop(state);
                return self.progress.rest();
            };
            state.belief.landing(&mutation.change);
            self.wake_lander(&state);
            drop(state);
            self.land(&mutation);
        }
    }

    /// Wakes a landing thread if none would be there in time for what is due next.
    pub(super) fn wake_lander(&self, state: &State) {
        self.wake_lander_for(state, state.in_flight.next_due());
    }

    fn wake_lander_for(&self, state: &State, due: Option<Time>) {
        if state.alarms.are_late_for(due) {
            self.work.notify_one();
        }
    }

    /// A program waits for what another thread lands, and may be killed meanwhile: a landing thread checks now and then.
    pub(super) fn schedule_waiter_check(&self, state: &State) {
        self.wake_lander_for(state, Some(self.now() + CHECK_WAITERS));
    }

    fn look_after_waiters(&self) {
        let waiting = self.lock().waits.threads();
        if waiting.is_empty() {
            return;
        }
        let dying: Vec<u32> = waiting.into_iter().filter(|thread| sys::is_dying(*thread)).collect();
        let over = self.lock().waits.give_up_on(|thread| dying.contains(&thread));
        over.into_iter().for_each(Over::go_on);
        loop {
            let next = self.lock().next_for_room(&self.in_force().knobs);
            let Some(over) = next else { return };
            over.go_on();
        }
    }

    fn land(&self, mutation: &Arc<Mutation>) {
        // A panic must not take the thread that lands everything else with it.
        let landed = catch_unwind(AssertUnwindSafe(|| self.try_to_land(mutation)));
        let _ =
            landed.or_else(|_| catch_unwind(AssertUnwindSafe(|| self.put_off(mutation, Error::InputOutput))));
        self.counters.landings.fetch_add(1, Ordering::Relaxed);
        self.progress.step();
    }

    fn try_to_land(&self, mutation: &Arc<Mutation>) {
        match self.table.retrying(|| self.carry_out(&mutation.change, mutation.stamp, Manner::Late)) {
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
            Err(error) if error.is_of_this_process() || error.is(Error::TextBusy) => {
                self.put_off(mutation, error)
            }
            Err(error) => self.give_up(mutation, error),
        }
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
            let shown = state.in_flight.overlay().view(*ino, &state.belief.disguised(*ino, landed), false);
            state.belief.disguise(*ino, &landed, if is_theirs { &landed } else { &shown });
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

    /// Where what is changed is then, or was: of a move where it goes.
    pub(super) fn path_of_change(&self, change: &Change) -> Vec<u8> {
        match change.places().last() {
            Some(place) => self.path_of(place),
            None => self.table.path(change.subject()),
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
            state.records.change(subject, |record| {
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
    fn put_off(&self, mutation: &Arc<Mutation>, error: Error) {
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

    /// Lands everything now and returns when that is done, when `give_up` becomes true, or when what is left hangs. The
    /// landing threads end.
    pub fn finish(&self, give_up: &AtomicBool) -> Farewell {
        const LOOK: Duration = Duration::from_millis(20);
        let mut state = self.lock();
        state.leaving = true;
        state.in_flight.hurry_everything();
        let turned_away = state.waits.close_room();
        drop(state);
        turned_away.into_iter().for_each(Over::go_on);
        let mut state = self.lock();
        self.work.notify_all();
        let has_threads = !locked(&self.landers).is_empty();
        let landings = || self.counters.landings.load(Ordering::Relaxed);
        let (mut last, mut deadline) = (landings(), Deadline::after(HOPELESS));
        while !state.in_flight.is_empty() && !give_up.load(Ordering::SeqCst) && !deadline.left().is_zero() {
            if has_threads {
                state = self.progress.wait_for_rest(state, LOOK);
                if landings() != last {
                    (last, deadline) = (landings(), Deadline::after(HOPELESS));
                }
            } else {
                drop(state);
                self.land_due();
                self.clock.advance(LAST_RETRY);
                state = self.lock();
            }
        }
        state.stopping = true;
        // One that hangs in the store is left behind.
        let all_rest = state.in_flight.is_empty();
        drop(state);
        self.stop_landers(all_rest);
        let state = self.lock();
        let unlanded: Vec<Arc<Mutation>> =
            state.in_flight.all().map(|(mutation, _)| mutation.clone()).collect();
        let lost = state.lost.lines(unlanded.iter().map(|mutation| self.loss(mutation, "given up")));
        let (lost_changes, overtaken) =
            (state.lost.count() + unlanded.len() as u64, state.overtaken.lines([]));
        drop(state);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Farewell {
            landed: count(&self.counters.landed),
            conflicts: count(&self.counters.conflicts),
            faults: count(&self.counters.faults),
            lost_changes,
            lost,
            overtaken,
        }
    }

    fn stop_landers(&self, all_rest: bool) {
        self.work.notify_all();
        self.stopped.notify_all();
        let landers = std::mem::take(&mut *locked(&self.landers));
        if all_rest {
            landers.into_iter().for_each(|lander| drop(lander.join()));
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
    matches!(change, Change::SetXattr { .. }) && error.is(Error::NoSpace)
}
