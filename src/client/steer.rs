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
        if self.lends() {
            check_lending(&knobs, &self.clock, self.log.wants_operations(), self.terms)?;
        }
        state.belief.shorten(&knobs.policy().lifetimes, now);
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
mod tests {
    use super::*;
    use crate::{
        backing::ROOT,
        client::{
            ClientOptions, Offset,
            bench::{Bench, CALLER, READ_WRITE},
            sync::Sync,
        },
        clock::Clock,
        consistency::RenameHow,
        event::EventLog,
        knobs::Delay,
        terms::Terms,
    };
    use std::{fs, sync::mpsc::channel};

    #[test]
    fn a_clock_moved_by_hand_lands_what_is_due_by_then_and_nothing_else() {
        let bench = Bench::new(Knobs::default());
        bench.create("f", b"text");
        bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
        assert_eq!((bench.advance(799), bench.landed("f")), (0, false));
        let moved = bench.client.advance(Duration::from_millis(1)).unwrap();
        assert_eq!((moved.landed, moved.next_due), (2, Some(Duration::from_millis(400))));
        assert!(bench.landed("f") && !bench.landed("d"));
        assert_eq!((bench.advance(10_000), bench.landed("d")), (1, true));
    }

    #[test]
    fn each_lands_at_its_own_due_time_although_the_hand_moves_far() {
        let bench = Bench::new(Knobs::default());
        for number in 0..10 {
            bench.create(&number.to_string(), b"x");
            bench.advance(10);
        }
        assert_eq!(bench.advance(5_000), 20);
        let lines = bench.lines.lock().unwrap();
        let mut landings = lines.iter().filter(|line| line.contains("event=landed"));
        assert!(landings.all(|line| line.ends_with("late_us=0")), "{lines:?}");
    }

    #[test]
    fn a_new_delay_counts_for_what_comes_and_not_for_what_is_in_flight() {
        let bench = Bench::new(Knobs::default());
        bench.create("early", b"");
        bench.client.set(|knobs| knobs.set("write_delay", "5s")).unwrap();
        bench.create("late", b"");
        bench.advance(800);
        assert!(bench.landed("early") && !bench.landed("late"));
        bench.advance(4_199);
        assert!(!bench.landed("late"));
        bench.advance(1);
        assert!(bench.landed("late"));
        assert_eq!(bench.logged("event=set write_delay=5000ms"), 1);
    }

    #[test]
    fn of_several_changes_one_wrong_one_refuses_all() {
        let bench = Bench::new(Knobs::default());
        let refused = bench.client.set(|knobs| {
            knobs.set("meta_ttl", "1")?;
            knobs.set("write_delay", "soon")
        });
        assert!(refused.is_err());
        let meaningless = bench.client.set(|knobs| {
            knobs.drop_prob = 2.0;
            Ok(())
        });
        assert!(meaningless.unwrap_err().0.starts_with("drop_prob: "));
        assert_eq!(bench.client.knobs(), Knobs::default());
    }

    #[test]
    fn a_shorter_time_to_live_ends_beliefs_that_are_older() {
        let bench = Bench::new(Knobs::default());
        assert!(!bench.seen("f"));
        fs::write(bench.folder.path().join("f"), "").unwrap();
        bench.advance(300);
        bench.client.set(|knobs| knobs.set("meta_ttl", "301")).unwrap();
        assert!(!bench.seen("f"), "it is believed for one more millisecond");
        bench.advance(1);
        assert!(bench.seen("f"));
    }

    #[test]
    fn while_held_nothing_lands_but_what_is_asked_for_and_nothing_goes_through() {
        let bench = Bench::new(Knobs { rename_delay: Delay::fixed_millis(100), ..Knobs::zero() });
        bench.client.hold();
        let (ino, _) = bench.create("through", b"text");
        bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
        assert_eq!((bench.advance(5_000), bench.landed("through"), bench.landed("d")), (0, false, false));
        assert!(bench.seen("through") && bench.client.status(bench.folder.path()).held);
        let (says, synced) = channel();
        bench.client.publish(
            Sync { ino, data_only: false, thread: 0 },
            Box::new(move |result| says.send(result).unwrap()),
        );
        bench.client.land_due();
        assert_eq!((synced.recv(), bench.landed("through"), bench.landed("d")), (Ok(Ok(())), true, false));
        bench.client.release_held();
        assert!(bench.landed("d"), "it has become due meanwhile");
        bench.create("again", b"");
        assert!(bench.landed("again"));
    }

    #[test]
    fn a_flush_lands_also_what_is_held_and_names_what_cannot_land() {
        let bench = Bench::new(Knobs::default());
        bench.client.hold();
        bench.create("f", b"text");
        assert_eq!(bench.client.land_everything(), Ok(2));
        assert!(bench.landed("f") && bench.client.status(bench.folder.path()).held);
        // Only the store knows that these are no capabilities.
        let (made, _) = bench.create("g", b"text");
        bench.client.setxattr(&CALLER, made, b"security.capability", b"none", 0).now().unwrap();
        let refusal = bench.client.land_everything().unwrap_err().0;
        assert!(refusal.starts_with("1 change could not land: /g: setxattr (4 bytes): "), "{refusal}");
        assert_eq!(bench.client.in_flight(), (0, 0));
        // A directory with entries stays: that is a conflict, and nothing of ours is left to land.
        bench.create("h", b"text");
        fs::create_dir_all(bench.folder.path().join("h/x")).unwrap();
        assert_eq!(bench.client.land_everything(), Ok(0));
        assert_eq!(bench.client.in_flight(), (0, 0));
    }

    #[test]
    fn what_could_not_land_is_named_once_however_many_changes_it_was() {
        let stuck = ["/f", "/g", "/f"].map(|path| Loss::of_name(path, "write", "full"));
        let refusal = could_not_land(&stuck).0;
        assert_eq!(refusal, "3 changes could not land: /f: write (2 changes): full; /g: write: full");
    }

    #[test]
    fn what_is_lost_is_named_and_never_was() {
        let bench = Bench::new(Knobs::default());
        fs::write(bench.folder.path().join("old"), "old").unwrap();
        let known = bench.client.lookup(&CALLER, ROOT, b"old").now().unwrap().ino;
        let (_, new) = bench.create("new", b"text");
        bench.client.rename(&CALLER, (ROOT, b"old"), (ROOT, b"moved"), RenameHow::Replace).now().unwrap();
        bench.client.rename(&CALLER, (ROOT, b"moved"), (ROOT, b"twice"), RenameHow::Replace).now().unwrap();
        let named = ["/new: create", "/new: write", "/old: rename", "/moved: rename"];
        assert_eq!(bench.client.lose(), named);
        assert!(bench.client.lock().in_flight.is_pristine());
        assert!(!bench.seen("new") && !bench.seen("twice") && bench.seen("old"));
        assert_eq!(bench.client.write(&CALLER, new, Offset::At(0), b"more").now(), Err(Error::Stale));
        assert_eq!(bench.client.read(&CALLER, new, 0, 4).now().unwrap_err(), Error::Stale);
        assert_eq!(bench.client.lookup(&CALLER, ROOT, b"old").now().unwrap().ino, known);
        assert_eq!(bench.client.table.path(known), b"/old");
        assert_eq!(
            (bench.advance(5_000), bench.logged("event=lost"), bench.logged("event=lose dropped=4")),
            (0, 4, 1)
        );
        assert_eq!(bench.client.status(bench.folder.path()).dropped, 4);
    }

    #[test]
    fn lost_data_of_a_file_that_is_there_is_reported_once() {
        let bench = Bench::new(Knobs::default());
        let (_, handle) = bench.create("f", b"old");
        bench.advance(800);
        bench.client.write(&CALLER, handle, Offset::At(0), b"new").now().unwrap();
        assert_eq!(bench.client.lose(), ["/f: write"]);
        assert_eq!(bench.client.fsync(&CALLER, handle, false).now(), Err(Error::InputOutput));
        assert_eq!(*bench.client.read(&CALLER, handle, 0, 9).now().unwrap(), *b"old");
        bench.client.write(&CALLER, handle, Offset::At(0), b"newer").now().unwrap();
        bench.advance(800);
        assert_eq!(fs::read(bench.folder.path().join("f")).unwrap(), b"newer");
    }

    #[test]
    fn of_those_who_wait_for_room_no_more_get_in_at_once_than_there_is_room_for() {
        let bench = Bench::new(Knobs { max_in_flight: 10, ..Knobs::default() });
        let [handle, other] = [b"f", b"o"].map(|name| {
            let made = bench.client.create(&CALLER, ROOT, name, 0o100_644, 0, READ_WRITE).now();
            bench.advance(800);
            made.unwrap().1
        });
        bench.client.write(&CALLER, handle, Offset::At(0), b"x").now().unwrap();
        for _ in 0..3 {
            let write = bench.client.write(&CALLER, other, Offset::At(0), b"12345678");
            write.serve(|written| assert_eq!(written, Ok(8)));
        }
        bench.client.lose();
        assert_eq!(bench.client.in_flight(), (1, 8));
    }

    #[test]
    fn nothing_can_be_made_in_a_directory_that_was_lost() {
        let bench = Bench::new(Knobs::default());
        let made = bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
        bench.client.lose();
        assert_eq!(bench.client.mkdir(&CALLER, made.ino, b"e", 0o40_755, 0).now().unwrap_err(), Error::Stale);
        let change = crate::client::SetAttributes { permissions: Some(0o700), ..Default::default() };
        assert_eq!(bench.client.setattr(&CALLER, made.ino, change).now().unwrap_err(), Error::Stale);
        assert!(bench.client.lock().in_flight.is_pristine());
    }

    #[test]
    fn a_real_clock_is_not_moved_and_the_reason_is_in_the_words_of_whoever_mounted() {
        let folder = tempfile::tempdir().unwrap();
        for (terms, words) in [
            (Terms::Flags, "mount it with --clock manual to"),
            (Terms::Builder, "mount it with `.manual_clock()` to"),
            (Terms::Options, "mount it with `clock: Clock::manual()` to"),
        ] {
            let options = ClientOptions {
                backing: folder.path().to_path_buf(),
                id: "a".to_string(),
                seed: 0,
                knobs: Knobs::zero(),
                allow_other: false,
                kernel_cache: false,
                terms,
            };
            let client = Client::open(options, Clock::Monotonic, EventLog::silent()).unwrap();
            let refusal = client.advance(Duration::ZERO).unwrap_err().0;
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
