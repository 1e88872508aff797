//! What goes through at once, what goes in flight, and who waits for room.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Client, State, records::Fate, store, store::Manner, view::attributes_of, waits::Done,
    whereabouts::Progressed,
};
use crate::{
    backing::sys,
    consistency::{
        Attributes, Change, DelayClass, Ino, Provenance, Route,
        policy::{Attempt, DelaysFrom, NamesBy},
    },
    error::Error,
    event::{Event, readable},
    time::{FOREVER, Time, Timestamp},
};

/// The directories of a change that is going through, as they were before it.
pub(super) struct WatchedDirectories {
    started: Time,
    before: Vec<(Ino, Attributes)>,
}

impl Client {
    /// Whether one more mutation with this much data may go in flight now. A mutation larger than the whole bound goes
    /// alone.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.lock().has_room(&self.in_force().knobs, bytes)
    }

    /// Calls `done` when there may be room for so many bytes, or with EINTR when the waiting thread has been killed. What would
    /// let it wait for long lands early, the oldest first, as the dirty pages of a real client do where memory is short.
    pub(super) fn wait_for_room(&self, bytes: usize, thread: u32, done: Done) {
        const LONG: Duration = Duration::from_secs(10);
        /// Which part of what is in flight makes room at a time.
        const PART: u64 = 8;
        let mut state = self.lock();
        state.waits.for_room(bytes, thread, done);
        if !state.in_flight.is_held() {
            let wanted = (state.in_flight.cost() / PART).max(bytes as u64);
            let early = state.in_flight.oldest_after(self.now() + LONG, wanted);
            state.in_flight.hurry(early);
        }
        drop(state);
        self.work.notify_all();
    }

    /// When this change reaches the backing directory, as far as can be said now.
    pub(super) fn route(&self, change: &Change) -> Route {
        self.lock().core(&self.in_force().policy).route(change)
    }

    /// The one road of whatever changes something: `through` makes the change in the backing directory if it goes through,
    /// and `late` puts it in flight if it does not.
    ///
    /// # Errors
    /// What either answers; EROFS and ENOMEM for what would have to go late and could never land.
    pub(super) fn submit<T>(
        &self,
        change: &Change,
        provenance: &mut Provenance,
        through: impl FnOnce(&mut Provenance) -> Result<T, Error>,
        late: impl FnOnce(&mut Provenance) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.route(change) {
            Route::Through => self.go_through(change, || through(provenance)),
            Route::Late(_) => {
                self.check_writable()?;
                late(provenance)
            }
        }
    }

    /// The same for a change that is refused by nothing else and stands on no view of this client.
    pub(super) fn submit_blindly(&self, change: Change) -> Result<(), Error> {
        let late = |_: &mut _| self.put_in_flight(&mut self.lock(), change.clone(), self.clock.wall());
        self.submit(&change, &mut Provenance::default(), |_| self.apply(&change).map(drop), late)
    }

    /// Runs what makes `change` in the backing directory, and drops what was believed of all that it touches: also if it
    /// fails, because it may have changed something before it did.
    pub(super) fn go_through<T>(
        &self,
        change: &Change,
        run: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let watched = self.watch_directories(change);
        let outcome = run();
        if outcome.is_ok() || self.in_force().policy.failure_heals.has(Attempt::of(change)) {
            self.forget_beliefs(change);
        }
        self.have_changed_in(&watched);
        outcome
    }

    /// How the directories of a change are before it, where that tells whether names in them are still valid after it.
    pub(super) fn watch_directories(&self, change: &Change) -> WatchedDirectories {
        let started = self.now();
        if self.in_force().policy.names_by != NamesBy::Directory {
            return WatchedDirectories { started, before: Vec::new() };
        }
        let mut directories: Vec<Ino> = change.places().into_iter().map(|place| place.directory).collect();
        directories.dedup();
        let stat = |directory| Some((directory, attributes_of(&self.stat_landed(directory)?)));
        WatchedDirectories { started, before: directories.into_iter().filter_map(stat).collect() }
    }

    /// A change in directories went through: what they are like now is what they were made by it, as far as nobody else has
    /// changed them.
    pub(super) fn have_changed_in(&self, watched: &WatchedDirectories) {
        for (directory, before) in &watched.before {
            let Some(after) = self.stat_landed(*directory).map(|stat| attributes_of(&stat)) else { continue };
            let mut state = self.lock();
            state.belief.goes_on(*directory, before, &after);
            let ticket = state.belief.fetch_attributes(*directory, watched.started);
            state.belief.believe_attributes(ticket, *directory, after, &self.in_force().policy);
        }
    }

    /// Makes a change in the backing directory, where the store decides.
    pub(super) fn apply(&self, change: &Change) -> Result<store::Outcome, Error> {
        self.carry_out(change, Timestamp::NOW, Manner::Through)
    }

    /// What was believed about all that a change touches is dropped.
    fn forget_beliefs(&self, change: &Change) {
        let mut state = self.lock();
        state.belief.changed(change);
        change.inodes().into_iter().for_each(|ino| state.records.take(ino, |record| record.watched = None));
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
        let is_there = |ino| made == Some(ino) || self.fate(state, ino) != Fate::Stale;
        if !change.inodes().into_iter().all(is_there) {
            return Err(Error::Stale);
        }
        let span = self.span_of(state, &change);
        for ino in change.inodes() {
            self.table.pin(ino);
        }
        state.belief.changed(&change);
        sys::IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
        let (due, mutation) = (self.now() + span, change.verb());
        let path = self.log.wants_operations().then(|| self.path_of_change(&change));
        self.follow(&change, Progressed::Acknowledged);
        let id = state.in_flight.add(change, stamp, due);
        let acknowledged = |path: Vec<u8>| Event::Acknowledged { id, mutation, path: readable(&path), due };
        state.acknowledged.extend(path.map(acknowledged));
        self.wake_lander(state);
        Ok(())
    }

    /// How long from now a change takes to land. Nothing of a file leaves while it is open for writing, where delays count from its
    /// close.
    fn span_of(&self, state: &mut State, change: &Change) -> Duration {
        let policy = &self.in_force().policy;
        let waits_for_close = policy.delays_from == DelaysFrom::Close
            && is_of_content(change)
            && self.files.is_open_for_writing(change.subject());
        match state.core(policy).route(change) {
            _ if waits_for_close => FOREVER,
            Route::Late(delay) => self.draw_span(delay, change),
            Route::Through => Duration::ZERO,
        }
    }

    /// A file has been opened or closed: what is in flight of it waits for its last writer, or for its delay from now on.
    pub(super) fn count_delays_anew(&self, ino: Ino) {
        if self.in_force().policy.delays_from == DelaysFrom::Change {
            return;
        }
        let mut state = self.lock();
        let content = state.in_flight.about(ino).filter(|mutation| is_of_content(&mutation.change));
        for mutation in content.cloned().collect::<Vec<_>>() {
            let span = self.span_of(&mut state, &mutation.change);
            state.in_flight.put_at(mutation.id, self.now() + span);
        }
        self.wake_lander(&state);
    }
}

/// Whether a change makes a file or its content what it is.
fn is_of_content(change: &Change) -> bool {
    change.is_data() || change.delay_class() == DelayClass::NewFile
}
