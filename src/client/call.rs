//! The life of a call, from the request to the answer:
//!
//! 1. **verdict**: the fault injector lets it pass or fails it, before it has any effect;
//! 2. **room**: one that can add a change waits while too much is in flight;
//! 3. **run**: the operation itself, which answers from the client's view or makes a change;
//! 4. **end**: one that promises safety waits until what it changed has landed and is synced, one that makes several steps in
//!    the store until it has made them;
//! 5. **answer**: it is logged and answered.
//!
//! A call that waits holds no thread: what is left of its life is kept in [`Waits`](super::waits::Waits) and goes on when its
//! wait is over. A call that panics answers EIO and leaves the client alive.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use super::{Caller, Client, open_files::OpenFile, sync::Sync, view::Hold};
use crate::{
    backing::sys,
    consistency::{
        Ino, Origin, Place, Provenance,
        policy::{FlushPoint, RenameBy},
    },
    error::Error,
    event::{Event, readable},
    fault::Verdict,
    operation::Operation,
    time::Time,
};

/// What a call is about, for faults, delays and the log.
#[derive(Clone, Debug)]
pub enum Subject {
    /// An inode, by whichever name it was found.
    Inode(Ino),
    /// A name, whatever there is of it.
    Name(Place),
    /// An open file, by the name under which it was opened; or why there is none.
    File(Result<Arc<OpenFile>, Error>),
    /// The file system as a whole.
    Everything,
}

impl Subject {
    fn path(&self, client: &Client) -> Vec<u8> {
        match self {
            Subject::Inode(ino) => client.table.path(*ino),
            Subject::Name(place) => client.path_of(place),
            Subject::File(Ok(file)) => file.path(),
            Subject::File(Err(_)) | Subject::Everything => b"/".to_vec(),
        }
    }

    fn ino(&self) -> Option<Ino> {
        match self {
            Subject::Inode(ino) => Some(*ino),
            Subject::File(file) => file.as_ref().ok().map(|file| file.ino),
            Subject::Name(_) | Subject::Everything => None,
        }
    }
}

/// What a running operation is told of its call.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The program behind it.
    pub caller: &'a Caller,
    /// The bytes that came with it.
    pub data: &'a [u8],
}

/// The operation that a call runs.
pub trait Run<T, E = Error>:
    FnOnce(&Arc<Client>, Asked<'_>, &mut Provenance) -> Result<T, E> + Send + 'static
{
}

impl<T, E, F> Run<T, E> for F where
    F: FnOnce(&Arc<Client>, Asked<'_>, &mut Provenance) -> Result<T, E> + Send + 'static
{
}

/// What a call can fail with: an error, perhaps with more about it.
pub trait Failure: From<Error> + AsRef<Error> + Send + 'static {}

impl<E: From<Error> + AsRef<Error> + Send + 'static> Failure for E {}

/// One call of a program, ready to be served.
#[must_use = "a call does nothing until it is served"]
pub struct Call<'a, R> {
    client: &'a Arc<Client>,
    data: &'a [u8],
    can_add: bool,
    work: Work<R>,
}

/// Of what a call makes data land before it runs.
#[derive(Clone, Debug)]
pub enum Flushed {
    /// An inode.
    Inode(Ino),
    /// An inode, and all else that is in flight of it.
    Whole(Ino),
    /// What stands at a name.
    Name(Place),
}

/// What a call waits for once it has run.
#[derive(Clone, Copy)]
enum End {
    /// What it was about is safe.
    Synced(Sync),
    /// The rename of what it was about has landed.
    Renamed,
}

/// What a call takes along while it waits.
struct Work<R> {
    about: About,
    flushed: Option<Flushed>,
    end: Option<End>,
    run: R,
}

struct About {
    operation: Operation,
    subject: Subject,
    caller: Caller,
    can_be_the_kernels: bool,
}

impl<'a, R> Call<'a, R> {
    /// A call of this operation for `caller`. What it runs is told of it.
    pub(super) fn new<T, E>(
        client: &'a Arc<Client>,
        operation: Operation,
        caller: &Caller,
        subject: Subject,
        run: R,
    ) -> Call<'a, R>
    where
        R: FnOnce(&Arc<Client>, Asked<'_>, &mut Provenance) -> Result<T, E> + Send + 'static,
    {
        let can_be_the_kernels = !operation.is_only_programs();
        let about = About { operation, subject, caller: *caller, can_be_the_kernels };
        Call {
            client,
            data: &[],
            can_add: operation.can_change(),
            work: Work { about, flushed: None, end: None, run },
        }
    }

    /// With bytes, which count towards the room that it needs.
    pub(super) fn with_data(self, data: &'a [u8]) -> Self {
        Call { data, ..self }
    }

    /// One that adds nothing to what is in flight, unlike others of its operation.
    pub(super) fn adds_nothing_if(mut self, adds_nothing: bool) -> Self {
        self.can_add &= !adds_nothing;
        self
    }

    /// One that the kernel may make by itself, unlike others of its operation: no fault is drawn for it.
    pub(super) fn can_be_the_kernels_if(mut self, can_be: bool) -> Self {
        self.work.about.can_be_the_kernels |= can_be;
        self
    }

    /// One that makes data in flight land before it runs, if the storage does so at this point.
    pub(super) fn flushes(mut self, point: FlushPoint, what: Flushed) -> Self {
        // What has not landed can carry no lock that others meet.
        if point == FlushPoint::Lock || self.client.in_force().policy.flush_on.has(point) {
            self.work.flushed = Some(what);
        }
        self
    }

    /// One that is over only when its inode has landed and is synced, as by `fsync(2)` or, with `data_only`, `fdatasync(2)`,
    /// if the storage does that.
    pub(super) fn until_synced(mut self, data_only: bool) -> Self {
        if !self.client.in_force().policy.fsync_lands {
            return self;
        }
        let About { subject, caller, .. } = &self.work.about;
        self.work.end = subject.ino().map(|ino| End::Synced(Sync { ino, data_only, thread: caller.thread }));
        self
    }

    /// One that is over only when a rename of its name that is made in several steps has made them all.
    pub(super) fn until_renamed(mut self) -> Self {
        if self.client.in_force().policy.rename_by == RenameBy::Copy {
            self.work.end = Some(End::Renamed);
        }
        self
    }
}

impl<R> Call<'_, R> {
    /// Leads the call through its life; `answer` gets what comes of it, here or wherever its last wait ends. If that panics
    /// it drops its reply unanswered, for which fuser says EIO.
    pub fn serve<T, E>(self, answer: impl FnOnce(Result<T, E>) + Send + 'static)
    where
        R: Run<T, E>,
        T: Send + 'static,
        E: Failure,
    {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let about = &self.work.about;
            self.client.operations.count(about.operation);
            match about.verdict(self.client) {
                Ok(()) => self.find_room(answer),
                Err(error) => about.fail(self.client, error, answer),
            }
        }));
    }

    /// The same for a test, which waits for the answer in its own thread.
    ///
    /// # Errors
    /// What the call answers.
    pub fn now<T, E>(self) -> Result<T, E>
    where
        R: Run<T, E>,
        T: Send + 'static,
        E: Failure,
    {
        let (sender, answer) = mpsc::sync_channel(1);
        let client = self.client.clone();
        self.serve(move |result| {
            let _ = sender.send(result);
        });
        if let Ok(result) = answer.try_recv() {
            return result;
        }
        // Where a test is the only thread, what the call has hurried lands here.
        client.land_until(|_| Time::ZERO);
        answer.recv().unwrap_or_else(|_| Err(Error::InputOutput.into()))
    }

    fn find_room<T, E>(self, answer: impl FnOnce(Result<T, E>) + Send + 'static)
    where
        R: Run<T, E>,
        T: Send + 'static,
        E: Failure,
    {
        let Call { client, data, can_add, work } = self;
        if !can_add || client.has_room(data.len()) {
            return work.run(client, data, answer);
        }
        let data = match sys::expect_memory(data.len()) {
            Ok(()) => data.to_vec(),
            Err(error) => return work.about.fail(client, error, answer),
        };
        let (later, wanted, thread) = (client.clone(), data.len(), work.about.caller.thread);
        let go_on = move |room: Result<(), Error>| match room {
            Ok(()) => work.run(&later, &data, answer),
            Err(error) => work.about.fail(&later, error, answer),
        };
        client.wait_for_room(wanted, thread, Box::new(go_on));
    }
}

impl<R> Work<R> {
    /// Lets data land where the call does that first, and runs it. What cannot land is for those to hear whose file it is.
    fn run<T, E>(
        mut self,
        client: &Arc<Client>,
        data: &[u8],
        answer: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        R: Run<T, E>,
        T: Send + 'static,
        E: Failure,
    {
        let flushed = self.flushed.take().and_then(|what| client.with_data_in_flight(&what));
        let Some(ino) = flushed else { return self.run_now(client, data, answer) };
        let (later, data, thread) = (client.clone(), data.to_vec(), self.about.caller.thread);
        let go_on = move |landed: Result<(), Error>| match landed {
            Err(error @ Error::Interrupted) => self.about.fail(&later, error, answer),
            _ => self.run_now(&later, &data, answer),
        };
        client.land_about(ino, thread, Box::new(go_on));
    }

    fn run_now<T, E>(
        self,
        client: &Arc<Client>,
        data: &[u8],
        answer: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        R: Run<T, E>,
        T: Send + 'static,
        E: Failure,
    {
        let Work { about, end, run, .. } = self;
        let mut provenance = Provenance::default();
        let asked = Asked { caller: &about.caller, data };
        let ran = catch_unwind(AssertUnwindSafe(|| run(client, asked, &mut provenance)));
        match (end, ran.unwrap_or_else(|_| Err(Error::InputOutput.into()))) {
            (Some(end), Ok(value)) => about.wait(client, end, (provenance, value), answer),
            (_, result) => about.over(client, &provenance, result, answer),
        }
    }
}

impl About {
    fn verdict(&self, client: &Client) -> Result<(), Error> {
        if self.can_be_the_kernels {
            return Ok(());
        }
        let in_force = client.in_force();
        if let Some(error) = in_force.knobs.refuses.error(self.operation) {
            return Err(error);
        }
        let injector = &in_force.injector;
        if !injector.is_armed() {
            return Ok(());
        }
        let (operation, path) = (self.operation, self.subject.path(client));
        match injector.judge(&client.dice, operation, &path) {
            Verdict::Pass => Ok(()),
            Verdict::Fail { error, nth } => {
                client.counters.faults.fetch_add(1, Ordering::Relaxed);
                let event = Event::Fault { operation, path: readable(&path), nth, error: error.symbol() };
                client.log.record(&client.clock, &event);
                Err(error)
            }
        }
    }

    fn wait<T, E>(
        self,
        client: &Arc<Client>,
        end: End,
        (provenance, value): (Provenance, T),
        answer: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: Failure,
    {
        let (later, thread) = (client.clone(), self.caller.thread);
        let name = if let Subject::Name(place) = &self.subject { Some(place.clone()) } else { None };
        let done = move |synced: Result<(), Error>| {
            if let (Err(_), Subject::File(Ok(file))) = (synced, &self.subject) {
                // It has just reported the latest landing error.
                let _ = later.report_late_error(file);
            }
            self.over(&later, &provenance, synced.map(|()| value).map_err(E::from), answer);
        };
        match (end, name) {
            (End::Synced(sync), _) => client.publish(sync, Box::new(done)),
            (End::Renamed, Some(from)) => client.await_rename(&from, thread, Box::new(done)),
            (End::Renamed, None) => done(Ok(())),
        }
    }

    fn fail<T, E: Failure>(&self, client: &Client, error: Error, answer: impl FnOnce(Result<T, E>)) {
        self.over(client, &Provenance::default(), Err(error.into()), answer);
    }

    fn over<T, E: Failure>(
        &self,
        client: &Client,
        provenance: &Provenance,
        result: Result<T, E>,
        answer: impl FnOnce(Result<T, E>),
    ) {
        if client.log.wants_operations() {
            let error = result.as_ref().err().map(AsRef::as_ref);
            client.log_answer(self, error, provenance);
        }
        answer(result);
    }
}

impl Client {
    /// The inode that is meant, if data of it is in flight.
    fn with_data_in_flight(&self, what: &Flushed) -> Option<Ino> {
        let ino = match what {
            Flushed::Inode(ino) => *ino,
            Flushed::Whole(ino) => return self.lock().in_flight.about(*ino).next().map(|_| *ino),
            Flushed::Name(place) => self.find(place, Hold::No, &mut Provenance::default()).ok()??.ino(),
        };
        let state = self.lock();
        let overlay = state.in_flight.overlay();
        (overlay.has_data(ino) || overlay.unlanded(ino).is_some()).then_some(ino)
    }

    /// A call about a name, which what it runs is given.
    pub(super) fn call_on_name<'a, T, E>(
        self: &'a Arc<Self>,
        operation: Operation,
        caller: &Caller,
        place: Place,
        run: impl FnOnce(&Arc<Client>, &Place, Asked<'_>, &mut Provenance) -> Result<T, E> + Send + 'static,
    ) -> Call<'a, impl Run<T, E>> {
        let subject = Subject::Name(place.clone());
        Call::new(self, operation, caller, subject, move |client, asked, provenance| {
            run(client, &place, asked, provenance)
        })
    }

    /// A call about an open file, which what it runs is given. EBADF if there is none of this handle.
    pub(super) fn call_on_file<'a, T>(
        self: &'a Arc<Self>,
        operation: Operation,
        caller: &Caller,
        handle: u64,
        run: impl FnOnce(&Arc<Client>, &OpenFile, Asked<'_>, &mut Provenance) -> Result<T, Error> + Send + 'static,
    ) -> Call<'a, impl Run<T>> {
        let file = self.files.get(handle);
        Call::new(self, operation, caller, Subject::File(file.clone()), move |client, asked, provenance| {
            run(client, &*file?, asked, provenance)
        })
    }

    fn log_answer(&self, about: &About, error: Option<&Error>, provenance: &Provenance) {
        self.log_acknowledged();
        let now = self.now();
        let (source, age) = match provenance.origin() {
            Origin::Backing => ("backing", Duration::ZERO),
            Origin::InFlight => ("in-flight", Duration::ZERO),
            Origin::Belief(fetched) => ("belief", now.since(fetched)),
        };
        let event = Event::Answered {
            operation: about.operation,
            path: readable(&about.subject.path(self)),
            outcome: error.map_or_else(|| "ok".to_string(), |error| error.symbol()),
            source,
            age_us: u64::try_from(age.as_micros()).unwrap_or(u64::MAX),
            until: provenance.until(),
        };
        self.log.record(&self.clock, &event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backing::ROOT,
        client::bench::{Bench, CALLER},
        knobs::Knobs,
    };

    fn call<T: Send + 'static>(bench: &Bench, run: impl Run<T>) -> Result<T, Error> {
        Call::new(&bench.client, Operation::Statfs, &CALLER, Subject::Everything, run).now()
    }

    #[test]
    fn a_call_that_panics_answers_eio_and_is_logged_and_the_next_one_is_served() {
        let bench = Bench::new(Knobs::default());
        assert_eq!(call::<()>(&bench, |_, _, _| panic!("on purpose")), Err(Error::InputOutput));
        assert_eq!(bench.logged("event=operation op=statfs path=/ outcome=EIO"), 1);
        assert_eq!(call(&bench, |_, _, _| Ok(7)), Ok(7));
    }

    #[test]
    fn a_fault_strikes_before_the_operation_runs_but_not_what_the_kernel_may_ask_by_itself() {
        let bench = Bench::new(Knobs { drop_prob: 1.0, ..Knobs::default() });
        assert_eq!(call::<()>(&bench, |_, _, _| panic!("it must not run")), Err(Error::InputOutput));
        assert_eq!((bench.logged("event=fault"), bench.logged("event=operation")), (1, 1));
        let (operation, subject) = (Operation::Statfs, Subject::Everything);
        let asked = Call::new(&bench.client, operation, &CALLER, subject, |_, _, _| Ok::<_, Error>(()));
        assert_eq!(asked.can_be_the_kernels_if(true).now(), Ok(()));
    }

    #[test]
    fn what_is_acknowledged_is_logged_with_its_due_time_and_its_number_when_it_lands() {
        let bench = Bench::new(Knobs::default());
        bench.create("f", b"data");
        bench.advance(800);
        for line in [
            "event=acknowledged mutation=create path=/f id=1 due=1.800000",
            "event=acknowledged mutation=write path=/f id=2 due=1.800000",
            "event=landed mutation=create path=/f id=1 late_us=0",
            "event=landed mutation=write path=/f id=2 late_us=0",
        ] {
            assert_eq!(bench.logged(line), 1, "{line} in {:#?}", bench.lines.lock());
        }
    }

    #[test]
    fn an_answer_is_logged_with_the_time_until_which_it_is_believed() {
        let bench = Bench::new(Knobs::default());
        let missing = || bench.client.lookup(&CALLER, ROOT, b"f").now().map(drop);
        assert!(missing().is_err());
        bench.advance(500);
        assert!(missing().is_err());
        let line = "op=lookup path=/f outcome=ENOENT source=belief age_us=500000 until=2.500000";
        assert_eq!(bench.logged(line), 1, "{:#?}", bench.lines.lock());
    }
}
