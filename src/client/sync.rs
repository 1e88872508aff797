//! Landing early what a program wants to be safe, and syncing it.

use std::{
    cell::Cell,
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Client, State, locked, records::InodeRecord, store::Manner, waits::Done};
use crate::{
    backing::sys,
    consistency::{Change, Ino, MutationId, Place},
    error::Error,
    time::Time,
};

/// How many slow calls at most run in the threads that serve requests; more get threads of their own.
const SLOW_CALLS_INLINE: usize = 1;

static SLOW_CALLS: AtomicUsize = AtomicUsize::new(0);

/// What is to be synced, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sync {
    /// A file, or a directory as one.
    pub(super) ino: Ino,
    /// As `fdatasync(2)`.
    pub(super) data_only: bool,
    /// The program's thread, whose death ends the wait.
    pub(super) thread: u32,
}

impl Client {
    /// Calls `done` when an inode, its name and its directories are in the backing directory and synced there.
    pub(super) fn publish(self: &Arc<Self>, sync: Sync, done: Done) {
        let Sync { ino, data_only, thread } = sync;
        let mut state = self.lock();
        let wanted = self.what_publishes(&state, ino);
        let missing = state.in_flight.hurry(wanted);
        let client = self.clone();
        if missing.is_empty() {
            drop(state);
            return client.sync_landed(ino, data_only, done);
        }
        let then: Done = Box::new(move |result| match result {
            Ok(()) => client.sync_landed(ino, data_only, done),
            Err(error) => done(Err(error)),
        });
        state.waits.for_landing(missing, thread, then);
        self.land_hurried(state);
    }

    /// Calls `done` when the changes of an inode itself that are in flight now are in the backing directory, or one of them
    /// could not land.
    pub(super) fn land_about(self: &Arc<Self>, ino: Ino, thread: u32, done: Done) {
        let mut state = self.lock();
        let wanted: Vec<MutationId> = state.in_flight.about(ino).map(|mutation| mutation.id).collect();
        let missing = state.in_flight.hurry(wanted);
        if missing.is_empty() {
            drop(state);
            return done(Ok(()));
        }
        state.waits.for_landing(missing, thread, done);
        self.land_hurried(state);
    }

    /// Calls `done` when the renames of this name that are in flight have landed, in their own time; what is due lands now.
    pub(super) fn await_rename(self: &Arc<Self>, from: &Place, thread: u32, done: Done) {
        let mut state = self.lock();
        let is_meant =
            |change: &Change| matches!(change, Change::Rename { from: there, .. } if there == from);
        let ids = state.in_flight.all().filter(|(mutation, _)| is_meant(&mutation.change));
        let missing: BTreeSet<MutationId> = ids.map(|(mutation, _)| mutation.id).collect();
        if missing.is_empty() {
            drop(state);
            return done(Ok(()));
        }
        let now = self.now();
        let due = missing.iter().copied().filter(|id| state.in_flight.due(*id).is_some_and(|due| due <= now));
        let due: Vec<MutationId> = due.collect();
        state.in_flight.hurry(due);
        state.waits.for_landing(missing, thread, done);
        self.land_hurried(state);
    }

    /// Lands what is hurried, here and now: to wake a landing thread takes longer than most landings. Only on a clock
    /// that is moved by hand, where everything lands in one order, it is left to the one landing thread.
    fn land_hurried(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        if self.clock.is_manual() {
            return self.work.notify_all();
        }
        self.schedule_waiter_check(&state);
        drop(state);
        let client = self.clone();
        run_slow_call(Box::new(move || client.land_until(|_| Time::ZERO)));
    }

    /// The mutations that put an inode, its name and its directories where programs have been told they are.
    fn what_publishes(&self, state: &State, ino: Ino) -> Vec<MutationId> {
        let mut wanted: Vec<MutationId> = state.in_flight.about(ino).map(|mutation| mutation.id).collect();
        wanted.extend(state.in_flight.inside(ino));
        for ancestor in self.ancestors(ino) {
            let names =
                state.in_flight.about(ancestor).filter(|mutation| !mutation.change.places().is_empty());
            wanted.extend(names.map(|mutation| mutation.id));
        }
        wanted
    }

    fn sync_landed(self: Arc<Self>, ino: Ino, data_only: bool, done: Done) {
        let slow = move || done(self.sync_now(ino, data_only));
        run_slow_call(Box::new(slow));
    }

    /// Syncs an inode, and those directories above it in which names have landed since they were last synced: the
    /// program could not know that they had not been there when it synced.
    fn sync_now(&self, ino: Ino, data_only: bool) -> Result<(), Error> {
        let opened = match self.files.descriptor(ino, false) {
            Some(opened) => opened,
            None => match self.open_to_sync(ino) {
                Err(Error::AccessDenied) => self.writer(ino, Manner::Through)?,
                result => Arc::new(result?),
            },
        };
        sys::sync(opened.as_fd(), data_only)?;
        for directory in self.unsynced_above(ino) {
            let take = |record: &mut InodeRecord| std::mem::take(&mut record.is_unsynced);
            if !self.lock().records.take(directory, take) {
                continue;
            }
            let synced = match self.open_to_sync(directory) {
                // It has been removed meanwhile.
                Err(error) if error == Error::Stale || error == Error::NotFound => Ok(()),
                result => result.and_then(|opened| sys::sync(opened.as_fd(), false)),
            };
            if let Err(error) = synced {
                self.lock().records.change(directory, |record| record.is_unsynced = true);
                return Err(error);
            }
        }
        Ok(())
    }

    fn unsynced_above(&self, ino: Ino) -> Vec<Ino> {
        if !self.lock().records.has_unsynced() {
            return Vec::new();
        }
        let ancestors = self.ancestors(ino);
        let state = self.lock();
        ancestors.into_iter().filter(|directory| state.records.of(*directory).is_unsynced).collect()
    }

    fn open_to_sync(&self, ino: Ino) -> Result<OwnedFd, Error> {
        sys::reopen(self.descriptor(ino)?.as_fd(), 0)
    }
}

thread_local! {
    static IN_SLOW_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call that may take long here while few do, else in a thread of its own: slow calls never take all the threads
/// that serve requests. One that is made in the course of another is a part of it.
fn run_slow_call(call: Box<dyn FnOnce() + Send>) {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            IN_SLOW_CALL.set(false);
            SLOW_CALLS.fetch_sub(1, Ordering::SeqCst);
        }
    }
    if IN_SLOW_CALL.get() {
        return call();
    }
    let running = SLOW_CALLS.fetch_add(1, Ordering::SeqCst);
    let guard = Running;
    let counted = move || {
        let _guard = guard;
        IN_SLOW_CALL.set(true);
        call();
    };
    if running < SLOW_CALLS_INLINE {
        return counted();
    }
    // Handed over by a slot, so that a thread that cannot be started leaves the call here.
    let slot = Arc::new(Mutex::new(Some(counted)));
    let take = |slot: &Mutex<Option<_>>| locked(slot).take();
    let theirs = slot.clone();
    let started = std::thread::Builder::new().spawn(move || {
        if let Some(call) = take(&theirs) {
            call();
        }
    });
    if started.is_err()
        && let Some(call) = take(&slot)
    {
        call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_a_slow_call_calls_is_a_part_of_it_also_after_a_panic() {
        let here = || std::thread::current().id();
        let (made, calls) = mpsc::channel();
        let panics = || run_slow_call(Box::new(|| panic!("on purpose")));
        let _ = std::panic::catch_unwind(panics);
        assert!(!IN_SLOW_CALL.get());
        run_slow_call(Box::new(move || {
            let outer = here();
            run_slow_call(Box::new(move || made.send(here() == outer).expect("the test listens")));
        }));
        assert!(calls.recv().expect("a call"));
    }

    #[test]
    fn every_slow_call_is_made_once_however_many_there_are() {
        const CALLS: usize = 200;
        let (made, calls) = mpsc::channel();
        std::thread::scope(|scope| {
            for number in 0..CALLS {
                let made = made.clone();
                scope.spawn(move || {
                    run_slow_call(Box::new(move || made.send(number).expect("the test listens")))
                });
            }
        });
        drop(made);
        let mut numbers: Vec<usize> = calls.iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..CALLS).collect::<Vec<_>>());
    }
}
