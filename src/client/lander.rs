//! Landing what is due: the threads that do it, and leaving.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Client, State, endings::LAST_RETRY, locked, prepare_thread, tidying::Tidying, waits::Over};
use crate::{
    backing::sys,
    clock::{Clock, Deadline},
    consistency::{Change, Mutation},
    dice::Purpose,
    error::Error,
    time::{Delay, Time},
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

    /// How long a change takes to land, or one step of it.
    pub(super) fn draw_span(&self, delay: Delay, change: &Change) -> Duration {
        let explores = self.in_force().knobs.explore;
        let delay = if explores { Delay { min: Duration::ZERO, ..delay } } else { delay };
        if delay.min == delay.max {
            return delay.min;
        }
        let path = self.table.path(change.subject());
        delay.at(self.dice.draw(Purpose::Delay, change.verb(), &path).value)
    }

    /// Lands everything now and returns when that is done, when `give_up` becomes true, or when what is left hangs. The
    /// landing threads end.
    pub fn finish(&self, give_up: &AtomicBool) -> Farewell {
        const LOOK: Duration = Duration::from_millis(20);
        self.lock_waits.close();
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
