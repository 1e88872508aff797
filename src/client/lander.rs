//! Landing what is due: the threads that do it, `fsync`, and leaving.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Client, State,
    store::Manner,
    view::attributes_of,
    waits::{Done, Over},
};
use crate::{
    backing::{Stat, sys},
    consistency::{Change, Ino, Kind, Mutation, MutationId},
    error::Error,
    event::{Event, readable},
    time::Time,
};

/// Threads that land. Two, so that one slow landing does not hold up all others.
const LANDERS: usize = 2;

/// After how long a landing that failed for a passing reason is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// While leaving: how soon and how often it is tried again before it is given up.
const LAST_RETRY: Duration = Duration::from_millis(50);
const LAST_TRIES: u32 = 10;

/// How often waits are checked for programs that have been killed.
const LOOK_AFTER_WAITERS: Duration = Duration::from_millis(50);

/// How many slow calls at most run in the threads that serve requests; more get threads of their own.
const SLOW_CALLS_INLINE: usize = 1;

static SLOW_CALLS: AtomicUsize = AtomicUsize::new(0);

/// What a client did in its life, and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Mutations that landed late.
    pub landed: u64,
    /// Conflicts met while landing.
    pub conflicts: u64,
    /// Faults injected.
    pub faults: u64,
    /// What was acknowledged and could not land, one line each: path, what it was, why.
    pub lost: Vec<String>,
}

impl Client {
    /// Starts the landing threads. Call it after the last fork.
    pub fn start(self: &Arc<Self>) {
        let mut landers = self.landers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for number in 0..LANDERS {
            let client = self.clone();
            let thread = std::thread::Builder::new().name(format!("lander-{number}"));
            landers.push(thread.spawn(move || client.land_for_life()).expect("a thread can be started"));
        }
    }

    fn land_for_life(&self) {
        loop {
            self.land_due();
            let state = self.lock();
            if state.stopping {
                return;
            }
            let now = self.now();
            let due = state.in_flight.next_due();
            if due.is_some_and(|due| due <= now) {
                continue;
            }
            let waiters = (!state.waits.is_empty()).then(|| now + LOOK_AFTER_WAITERS);
            let until = due.into_iter().chain(waiters).min();
            drop(self.clock.wait(&self.work, state, until));
            self.look_after_waiters();
        }
    }

    /// Lands everything that is due now. The landing threads call it; a test that moves the clock by hand may, too.
    pub fn land_due(&self) {
        loop {
            let mut state = self.lock();
            let Some(mutation) = state.in_flight.start_due(self.now()) else { return };
            state.belief.landing(&mutation.change);
            drop(state);
            self.land(&mutation);
        }
    }

    fn look_after_waiters(&self) {
        let mut state = self.lock();
        if state.waits.is_empty() {
            return;
        }
        let mut over = state.waits.give_up_on(sys::is_dying);
        drop(state);
        if self.has_room(0) {
            over.extend(self.lock().waits.next_for_room());
        }
        over.into_iter().for_each(Over::go_on);
    }

    fn land(&self, mutation: &Arc<Mutation>) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.carry_out(&mutation.change, mutation.stamp, Manner::Late)
        }))
        .unwrap_or(Err(Error::InputOutput));
        let over = match result {
            Ok(mut outcome) => {
                if let (Some(opened), Change::Make { ino, .. }) = (outcome.opened, &mutation.change) {
                    outcome.stat = self.finish_new_file(*ino, opened, mutation).or(outcome.stat);
                }
                self.has_landed(mutation, outcome.stat)
            }
            Err(error) => self.has_not_landed(mutation, error),
        };
        over.into_iter().for_each(Over::go_on);
        self.progress.notify_all();
    }

    fn finish_new_file(&self, ino: Ino, opened: OwnedFd, mutation: &Mutation) -> Option<Stat> {
        let time = (mutation.stamp.seconds, mutation.stamp.nanos);
        // Failing leaves the time of landing, which is what another host's clock might have said.
        let _ = sys::set_times(opened.as_fd(), Some(time), Some(time));
        let stat = sys::stat(opened.as_fd()).ok();
        let opened = Arc::new(opened);
        self.files.provide(ino, &opened);
        self.keep_writer(ino, &opened);
        stat
    }

    /// What a landing has left of an inode that it touched.
    fn stat_landed(&self, ino: Ino) -> Option<Stat> {
        if !self.table.has_landed(ino) {
            return None;
        }
        sys::stat(self.table.descriptor(ino).ok()?.as_fd()).ok()
    }

    fn has_landed(&self, mutation: &Mutation, subject: Option<Stat>) -> Vec<Over> {
        // The times that the landing left behind are asked for before it leaves the overlay.
        let stat_of = |ino| match subject {
            Some(stat) if ino == mutation.change.subject() => Some((ino, stat)),
            _ => Some((ino, self.stat_landed(ino)?)),
        };
        let stats: Vec<(Ino, Stat)> = mutation.change.inodes().into_iter().filter_map(stat_of).collect();
        let now = self.now();
        let mut state = self.lock();
        let late = state.in_flight.due(mutation.id).map_or(Duration::ZERO, |due| now.since(due));
        for (ino, stat) in &stats {
            let landed = attributes_of(stat);
            let shown = state.in_flight.overlay().view(*ino, &state.belief.disguised(*ino, landed), false);
            state.belief.disguise(*ino, &landed, &shown);
            if state.expected.contains_key(ino) {
                state.expected.insert(*ino, landed.ctime);
            }
            if stat.links == 0 && landed.kind != Kind::Directory {
                state.removed_here.insert(*ino);
            }
        }
        let over = self.leave(&mut state, mutation, Ok(()));
        drop(state);
        self.counters.landed.fetch_add(1, Ordering::Relaxed);
        if self.log.wants_operations() {
            let path = readable(&self.table.path(mutation.change.subject()));
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            self.log.record(now, &Event::Landed { mutation: mutation.change.verb(), path, late_us });
        }
        self.unpin_all(mutation);
        over
    }

    /// Takes a mutation out of flight, landed or given up.
    fn leave(&self, state: &mut State, mutation: &Mutation, result: Result<(), Error>) -> Vec<Over> {
        state.belief.changed(&mutation.change);
        state.in_flight.landed(mutation.id);
        let subject = mutation.change.subject();
        if !state.in_flight.overlay().has_data(subject) {
            state.writers.remove(&subject);
            state.expected.remove(&subject);
        }
        let mut over = state.waits.landed(mutation.id, result);
        if state.in_flight.bytes() < self.knobs.max_in_flight
            && state.in_flight.len() < self.knobs.max_mutations
        {
            over.extend(state.waits.next_for_room());
        }
        self.work.notify_one();
        over
    }

    fn unpin_all(&self, mutation: &Mutation) {
        mutation.change.inodes().into_iter().for_each(|ino| self.unpin(ino));
    }

    /// Data for a file whose last name is gone and which nobody has open any more can never be seen: it is not worth
    /// landing, and must not hold room in a full store. Returns how many mutations were let go; each still has its pin.
    pub(super) fn cancel_unseen(&self, state: &mut State, ino: Ino) -> (usize, Vec<Over>) {
        let waiting: Vec<Arc<Mutation>> = state.in_flight.about(ino).cloned().collect();
        let busy = waiting.iter().any(|mutation| state.in_flight.is_started(mutation.id));
        let named = waiting.iter().any(|mutation| !mutation.change.places().is_empty());
        if busy || named || self.table.is_wanted(ino, waiting.len() as u32) {
            return (0, Vec::new());
        }
        // The latest first: none is ever let go while another still needs it.
        let over = waiting.iter().rev().flat_map(|mutation| self.leave(state, mutation, Ok(()))).collect();
        (waiting.len(), over)
    }

    fn has_not_landed(&self, mutation: &Mutation, error: Error) -> Vec<Over> {
        let now = self.now();
        let mut state = self.lock();
        let (retry, most) = if state.leaving { (LAST_RETRY, LAST_TRIES) } else { (RETRY, u32::MAX) };
        let passing = error.is_passing() || is_of_this_process(error);
        let tries = if passing { state.in_flight.postpone(mutation.id, now + retry) } else { u32::MAX };
        let subject = mutation.change.subject();
        let mut over = Vec::new();
        if tries == 1 || !passing {
            state.last_error += 1;
            let number = state.last_error;
            state.errors.insert(subject, (number, error));
        }
        if passing && tries < most {
            over.extend(state.waits.landed(mutation.id, Err(error)));
            drop(state);
            if tries == 1 {
                let path = readable(&self.mutation_path(mutation));
                let error = error.symbol();
                let event = Event::LandingDelayed { mutation: mutation.change.verb(), path, error };
                self.log.record(now, &event);
            }
            return over;
        }
        self.give_up(state, mutation, error)
    }

    /// A mutation will never land: it is named and dropped. While leaving, so are the others of its inode, which need
    /// it.
    fn give_up(
        &self,
        mut state: std::sync::MutexGuard<'_, State>,
        mutation: &Mutation,
        error: Error,
    ) -> Vec<Over> {
        let mut dropped: Vec<Arc<Mutation>> = vec![Arc::new(mutation.clone())];
        if state.leaving {
            let others = state.in_flight.about(mutation.change.subject()).cloned();
            dropped.extend(others.filter(|other| other.id != mutation.id));
        }
        let mut over = Vec::new();
        for mutation in &dropped {
            over.extend(self.leave(&mut state, mutation, Err(error)));
            let path = readable(&self.mutation_path(mutation));
            state.lost.push(format!("{path}: {} could not land: {error}", mutation.change.verb()));
        }
        drop(state);
        for mutation in &dropped {
            let path = readable(&self.mutation_path(mutation));
            let event = Event::Lost { mutation: mutation.change.verb(), path, error: error.symbol() };
            self.log.record(self.now(), &event);
            self.unpin_all(mutation);
        }
        over
    }

    fn mutation_path(&self, mutation: &Mutation) -> Vec<u8> {
        match mutation.change.places().first() {
            Some(place) => self.path_of(place),
            None => self.table.path(mutation.change.subject()),
        }
    }

    /// Calls `done` when the inode, its name and its directories are in the backing directory and synced there, or
    /// with what went wrong. A directory is synced as one; `data_only` is `fdatasync(2)`.
    pub fn sync(self: &Arc<Self>, ino: Ino, data_only: bool, thread: u32, done: Done) {
        match self.operate("fsync", || self.table.path(ino), |_| Ok(())) {
            Ok(()) => self.publish(ino, data_only, thread, done),
            Err(error) => done(Err(error)),
        }
    }

    /// The same as a part of another operation: a write with `O_SYNC`.
    pub fn publish(self: &Arc<Self>, ino: Ino, data_only: bool, thread: u32, done: Done) {
        let mut state = self.lock();
        let wanted = self.what_publishes(&state, ino);
        let missing = state.in_flight.hurry(wanted);
        let client = self.clone();
        if missing.is_empty() {
            drop(state);
            return client.sync_landed(ino, BTreeSet::new(), data_only, done);
        }
        let directories = directories_of(&state, &missing);
        let then: Done = Box::new(move |result| match result {
            Ok(()) => client.sync_landed(ino, directories, data_only, done),
            Err(error) => done(Err(error)),
        });
        state.waits.for_landing(missing, thread, then);
        drop(state);
        self.work.notify_all();
    }

    /// The mutations that put an inode, its name and its directories where programs have been told they are.
    fn what_publishes(&self, state: &State, ino: Ino) -> Vec<MutationId> {
        let mut wanted: Vec<MutationId> = state.in_flight.about(ino).map(|mutation| mutation.id).collect();
        wanted.extend(state.in_flight.inside(ino));
        let mut at = self.table.parent(ino);
        for _ in 0..4096 {
            let names = state.in_flight.about(at).filter(|mutation| !mutation.change.places().is_empty());
            wanted.extend(names.map(|mutation| mutation.id));
            if at == crate::backing::ROOT {
                break;
            }
            at = self.table.parent(at);
        }
        wanted
    }

    fn sync_landed(self: Arc<Self>, ino: Ino, directories: BTreeSet<Ino>, data_only: bool, done: Done) {
        let slow = move || done(self.sync_now(ino, &directories, data_only));
        run_slow_call(Box::new(slow));
    }

    fn sync_now(&self, ino: Ino, directories: &BTreeSet<Ino>, data_only: bool) -> Result<(), Error> {
        let open_read_only = |ino| -> Result<_, Error> { sys::reopen(self.descriptor(ino)?.as_fd(), 0) };
        let opened = match open_read_only(ino) {
            Err(error) if error.is(Error::AccessDenied) => self.writer(ino, Manner::Through)?,
            result => Arc::new(result?),
        };
        sys::sync(opened.as_fd(), data_only)?;
        for directory in directories {
            match open_read_only(*directory) {
                Ok(opened) => sys::sync(opened.as_fd(), false)?,
                // What was hurried may have removed one.
                Err(error) if error.is(Error::Stale) || error.is(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lands everything now and returns when that is done, or when `give_up` becomes true. The landing threads end.
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
        let has_threads = !self.landers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty();
        while !state.in_flight.is_empty() && !give_up.load(Ordering::SeqCst) {
            if has_threads {
                let (next, _) = self
                    .progress
                    .wait_timeout(state, LOOK)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                state = next;
            } else {
                drop(state);
                self.land_due();
                self.clock.advance(LAST_RETRY);
                state = self.lock();
            }
        }
        state.stopping = true;
        let unlanded: Vec<Arc<Mutation>> =
            state.in_flight.all().map(|(mutation, _)| mutation.clone()).collect();
        let mut lost = state.lost.clone();
        drop(state);
        lost.extend(unlanded.iter().map(|mutation| {
            format!("{}: {} has not landed", readable(&self.mutation_path(mutation)), mutation.change.verb())
        }));
        self.stop_landers(give_up);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Farewell {
            landed: count(&self.counters.landed),
            conflicts: count(&self.counters.conflicts),
            faults: count(&self.counters.faults),
            lost,
        }
    }

    fn stop_landers(&self, give_up: &AtomicBool) {
        self.work.notify_all();
        let mut landers = self.landers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for lander in landers.drain(..) {
            // One that hangs in the store is left behind by somebody who gives up.
            if !give_up.load(Ordering::SeqCst) {
                let _ = lander.join();
            }
        }
    }

    /// When the next mutation is due, for whoever moves the clock by hand.
    pub fn next_due(&self) -> Option<Time> {
        self.lock().in_flight.next_due()
    }

    /// Drops every belief at once.
    pub fn expire(&self) {
        self.lock().belief.expire();
    }
}

fn directories_of(state: &State, ids: &BTreeSet<MutationId>) -> BTreeSet<Ino> {
    let mutations = ids.iter().filter_map(|id| state.in_flight.get(*id));
    mutations.flat_map(|mutation| mutation.change.places().into_iter().map(|place| place.directory)).collect()
}

/// Failures that are this process's own and pass: no descriptors, no memory, interrupted.
fn is_of_this_process(error: Error) -> bool {
    const ENFILE: i32 = 23;
    const ENOMEM: i32 = 12;
    [Error::TooManyOpen, Error::Interrupted, Error::System(ENFILE), Error::System(ENOMEM)]
        .iter()
        .any(|own| error.is(*own))
}

/// Runs a call that may take long here while few do, else in a thread of its own: slow calls never take all the threads
/// that serve requests.
fn run_slow_call(call: Box<dyn FnOnce() + Send>) {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            SLOW_CALLS.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let running = SLOW_CALLS.fetch_add(1, Ordering::SeqCst);
    let guard = Running;
    let counted = move || {
        let _guard = guard;
        call();
    };
    if running < SLOW_CALLS_INLINE {
        counted();
    } else {
        std::thread::spawn(counted);
    }
}
