//! Who waits for what: requests whose answer is held back until mutations have landed or there is room for more.
//!
//! Nobody waits in a thread: what a waiter would do next is kept here and done by whoever ends the wait. So any number
//! of waiters leaves the others' requests alone.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{consistency::MutationId, error::Error};

/// What a waiter does when its wait is over, well or not.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A wait that is over: call it outside all locks.
pub struct Over {
    done: Done,
    result: Result<(), Error>,
}

impl Over {
    /// Goes on with what waited. Its panic is its own: whoever ends the wait goes on, too.
    pub fn go_on(self) {
        let _ = catch_unwind(AssertUnwindSafe(|| (self.done)(self.result)));
    }
}

struct Waiter {
    /// What has to land first; empty for those who wait for room.
    missing: BTreeSet<MutationId>,
    /// How much room those need.
    bytes: usize,
    /// The waiting program's thread: its death ends the wait.
    thread: u32,
    done: Done,
}

/// A program that waits for a lock of somebody else.
pub struct LockWaiter {
    /// The waiting program's thread: a signal to it ends the wait.
    pub thread: u32,
    /// Tries to take the lock; none if it is still not to be had.
    pub attempt: Box<dyn FnMut() -> Option<Result<(), Error>> + Send>,
    /// What is done when the wait is over.
    pub done: Done,
}

/// Who waits for locks. Others give them up without telling, so they are tried again and again.
#[derive(Default)]
pub struct LockWaits(Mutex<LockQueue>);

#[derive(Default)]
struct LockQueue {
    waiters: Vec<LockWaiter>,
    /// Somebody tries for them.
    is_tried: bool,
    is_closed: bool,
}

impl LockWaits {
    /// Takes in one more; whether somebody is to be set to [`LockWaits::try_all`], because nobody does yet.
    pub fn add(&self, waiter: LockWaiter) -> bool {
        let mut queue = self.queue();
        if queue.is_closed {
            drop(queue);
            Over { done: waiter.done, result: Err(Error::Interrupted) }.go_on();
            return false;
        }
        queue.waiters.push(waiter);
        !std::mem::replace(&mut queue.is_tried, true)
    }

    /// Tries once for each, in the order in which they came, and ends the waits that are over. False if nobody waits any
    /// more.
    pub fn try_all(&self, is_interrupted: impl Fn(u32) -> bool) -> bool {
        let mut waiters = std::mem::take(&mut self.queue().waiters);
        let mut over = Vec::new();
        for mut waiter in std::mem::take(&mut waiters) {
            let result = match (waiter.attempt)() {
                None if is_interrupted(waiter.thread) => Some(Err(Error::Interrupted)),
                result => result,
            };
            match result {
                Some(result) => over.push(Over { done: waiter.done, result }),
                None => waiters.push(waiter),
            }
        }
        over.into_iter().for_each(Over::go_on);
        let mut queue = self.queue();
        waiters.append(&mut queue.waiters);
        queue.waiters = waiters;
        if queue.is_closed {
            let ended = std::mem::take(&mut queue.waiters);
            drop(queue);
            turn_away(ended);
            return false;
        }
        queue.is_tried = !queue.waiters.is_empty();
        queue.is_tried
    }

    /// Nobody gets a lock any more.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        let ended = std::mem::take(&mut queue.waiters);
        drop(queue);
        turn_away(ended);
    }

    fn queue(&self) -> MutexGuard<'_, LockQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turn_away(waiters: Vec<LockWaiter>) {
    let over = |waiter: LockWaiter| Over { done: waiter.done, result: Err(Error::Interrupted) };
    waiters.into_iter().map(over).for_each(Over::go_on);
}

/// All waits of one client.
#[derive(Default)]
pub struct Waits {
    landings: Vec<Waiter>,
    room: VecDeque<Waiter>,
    /// Somebody has come since the last look.
    newcomers: bool,
}

impl Waits {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.landings.is_empty() && self.room.is_empty()
    }

    /// Whether something waits, or has since this was asked last: where waits are short and many, the next one has mostly
    /// begun when it is time to check.
    pub fn needs_check(&mut self) -> bool {
        std::mem::take(&mut self.newcomers) || !self.is_empty()
    }

    /// The threads that wait.
    pub fn threads(&self) -> Vec<u32> {
        self.landings.iter().chain(&self.room).map(|waiter| waiter.thread).collect()
    }

    /// Waits until all of `missing` have landed.
    pub fn for_landing(&mut self, missing: BTreeSet<MutationId>, thread: u32, done: Done) {
        self.newcomers = true;
        self.landings.push(Waiter { missing, bytes: 0, thread, done });
    }

    /// Waits until there is room for so many bytes.
    pub fn for_room(&mut self, bytes: usize, thread: u32, done: Done) {
        self.newcomers = true;
        self.room.push_back(Waiter { missing: BTreeSet::new(), bytes, thread, done });
    }

    /// How many bytes whoever has waited longest for room needs.
    pub fn wanted_room(&self) -> Option<usize> {
        self.room.front().map(|waiter| waiter.bytes)
    }

    /// A mutation has landed; with an error, it could not, and its waiters are told so.
    pub fn landed(&mut self, id: MutationId, result: Result<(), Error>) -> Vec<Over> {
        let concerned = |waiter: &mut Waiter| {
            waiter.missing.remove(&id) && (result.is_err() || waiter.missing.is_empty())
        };
        let over = self.landings.extract_if(.., concerned);
        over.map(|waiter| Over { done: waiter.done, result }).collect()
    }

    /// There is room: whoever has waited longest tries again.
    pub fn next_for_room(&mut self) -> Option<Over> {
        self.room.pop_front().map(|waiter| Over { done: waiter.done, result: Ok(()) })
    }

    /// Nobody gets in any more: what still waits for room was never acknowledged.
    pub fn close_room(&mut self) -> Vec<Over> {
        let turned_away = |waiter: Waiter| Over { done: waiter.done, result: Err(Error::Interrupted) };
        self.room.drain(..).map(turned_away).collect()
    }

    /// Ends the waits of programs that have been killed.
    pub fn give_up_on(&mut self, is_dying: impl Fn(u32) -> bool) -> Vec<Over> {
        let given_up = |waiter: Waiter| Over { done: waiter.done, result: Err(Error::Interrupted) };
        let mut over: Vec<Over> =
            self.landings.extract_if(.., |waiter| is_dying(waiter.thread)).map(given_up).collect();
        let (dying, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.room).into_iter().partition(|waiter| is_dying(waiter.thread));
        self.room = waiting;
        over.extend(dying.into_iter().map(given_up));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Results = Arc<Mutex<Vec<Result<(), Error>>>>;

    fn note(results: &Results) -> Done {
        let results = results.clone();
        Box::new(move |result| results.lock().unwrap().push(result))
    }

    #[test]
    fn a_waiter_goes_on_when_the_last_of_its_mutations_has_landed() {
        let (mut waits, results) = (Waits::default(), Results::default());
        waits.for_landing([1, 2].into(), 0, note(&results));
        assert!(waits.landed(1, Ok(())).is_empty() && waits.landed(7, Ok(())).is_empty());
        waits.landed(2, Ok(())).into_iter().for_each(Over::go_on);
        assert_eq!(*results.lock().unwrap(), [Ok(())]);
        assert!(waits.is_empty());
    }

    #[test]
    fn a_look_is_wanted_while_somebody_waits_and_once_after_a_short_wait() {
        let (mut waits, results) = (Waits::default(), Results::default());
        assert!(!waits.needs_check());
        waits.for_landing([1].into(), 0, note(&results));
        assert!(waits.needs_check() && waits.needs_check());
        drop(waits.landed(1, Ok(())));
        assert!(!waits.needs_check());
        waits.for_room(0, 0, note(&results));
        drop(waits.next_for_room());
        assert!(waits.needs_check() && !waits.needs_check());
    }

    #[test]
    fn one_failed_landing_ends_the_wait_with_its_error() {
        let (mut waits, results) = (Waits::default(), Results::default());
        waits.for_landing([1, 2].into(), 0, note(&results));
        waits.landed(1, Err(Error::NoSpace)).into_iter().for_each(Over::go_on);
        assert_eq!(*results.lock().unwrap(), [Err(Error::NoSpace)]);
    }

    #[test]
    fn a_lock_is_tried_for_until_it_is_had_or_its_program_is_interrupted() {
        let (waits, results) = (LockWaits::default(), Results::default());
        let waiter = |thread, tries: u32| {
            let mut left = tries;
            let attempt = move || {
                left = left.saturating_sub(1);
                (left == 0).then_some(Ok(()))
            };
            LockWaiter { thread, attempt: Box::new(attempt), done: note(&results) }
        };
        assert!(waits.add(waiter(1, 2)), "somebody has to begin");
        assert!(!waits.add(waiter(2, 9)) && !waits.add(waiter(3, 9)));
        assert!(waits.try_all(|_| false) && results.lock().unwrap().is_empty());
        assert!(waits.try_all(|thread| thread == 2));
        assert_eq!(*results.lock().unwrap(), [Ok(()), Err(Error::Interrupted)]);
        waits.close();
        assert_eq!(results.lock().unwrap().len(), 3);
        assert!(!waits.try_all(|_| false) && !waits.add(waiter(4, 1)));
        assert_eq!(results.lock().unwrap()[3], Err(Error::Interrupted));
    }

    #[test]
    fn only_the_killed_are_given_up_on() {
        let (mut waits, results) = (Waits::default(), Results::default());
        waits.for_room(0, 5, note(&results));
        waits.for_room(9, 6, note(&results));
        waits.for_landing([1].into(), 5, note(&results));
        waits.give_up_on(|thread| thread == 5).into_iter().for_each(Over::go_on);
        assert_eq!(*results.lock().unwrap(), [Err(Error::Interrupted), Err(Error::Interrupted)]);
        assert_eq!(waits.wanted_room(), Some(9));
        assert!(waits.next_for_room().is_some() && waits.is_empty());
    }
}
