//! The threads that answer the kernel, and how their end is awaited.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use fuser::SessionACL;

use super::spare::Spare;
use crate::{
    client::prepare_thread,
    clock::{Clock, Deadline},
    error::Refusal,
    fuse::{Adapter, Loops, Served},
};

/// How many requests are taken up at the same time. The kernel gives the next one to the thread that has waited longest:
/// more threads answer no more requests and share the processor's caches among them. What takes long is handed to
/// others ([`Client::sync`](crate::client::Client::sync)) or parked. What hangs in the backing directory all the same
/// keeps its thread, and others take its place.
const LOOPS: usize = 2;

/// How many threads take up requests at most. When a call of each hangs, all others wait until one of these ends.
const MOST_LOOPS: usize = 64;

/// How long every thread is in one request before others are started: longer than almost all calls take.
const HANGS: Duration = Duration::from_millis(20);

/// For how many looks without a request nobody looks any more until there is one.
const QUIET_LOOKS: u32 = 50;

/// How long fuser may take to start its loops, and how often is looked.
const START_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_micros(200);

/// A running session.
#[derive(Debug)]
pub struct Session {
    end: Arc<End>,
}

impl Session {
    /// Answers the kernel's first request and starts the threads that answer all others.
    ///
    /// # Errors
    /// Says what went wrong in the first exchange.
    pub fn start(adapter: Adapter, kernel: OwnedFd) -> Result<Session, Refusal> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(LOOPS);
        let failed = |error: io::Error| Refusal::new(format!("cannot start serving: {error}"));
        let (adapter, loops) = (Arc::new(adapter), Arc::new(Loops::new(LOOPS)));
        let watched = Watched {
            adapter: adapter.clone(),
            loops: loops.clone(),
            kernel: kernel.try_clone().map_err(failed)?,
        };
        // Who may come in was decided by the mount options; the kernel enforces it.
        let served = Served::new(&adapter, &loops);
        let session = fuser::Session::from_fd(served, kernel, SessionACL::All, config).map_err(failed)?;
        thread::Builder::new().name("watcher".to_string()).spawn(move || watched.watch()).map_err(failed)?;
        let end = Arc::new(End::default());
        let signal = EndSignal { end: end.clone(), loops };
        // Its loops are threads that are started out of sight: there must be places for them.
        let places: Vec<Spare> =
            (0..LOOPS).map(|_| Spare::held()).collect::<io::Result<_>>().map_err(failed)?;
        let (tell, told) = mpsc::channel();
        let run = move || {
            let _signal = signal;
            prepare_thread();
            drop(places);
            if let Err(error) = session.run() {
                let _ = tell.send(error);
            }
        };
        let before = threads_that_answer();
        thread::Builder::new().name("session".to_string()).spawn(run).map_err(failed)?;
        let session = Session { end };
        session.wait_for_loops(&before);
        // A place that was kept may have been taken by another process.
        if session.has_ended() {
            return Err(failed(told.recv().unwrap_or_else(|_| io::ErrorKind::NotConnected.into())));
        }
        Ok(session)
    }

    /// Blocks until all loops run or the session has ended. The threads that are started next must not take the places of
    /// its loops.
    fn wait_for_loops(&self, before: &HashSet<OsString>) {
        let deadline = Deadline::after(START_WITHIN);
        while !self.ends_within(LOOK) && !deadline.left().is_zero() {
            if threads_that_answer().difference(before).count() >= LOOPS {
                return;
            }
        }
    }

    /// Blocks until the session has ended or is abandoned.
    pub fn wait(&self) {
        let mut phase = self.end.lock();
        while *phase == Phase::Serving {
            phase = Clock::Monotonic.wait(&self.end.changed, phase, None);
        }
    }

    /// Blocks until the session has ended, for at most `span`; whether it has.
    pub fn ends_within(&self, span: Duration) -> bool {
        let until = Clock::Monotonic.now() + span;
        let mut phase = self.end.lock();
        while *phase != Phase::Ended && Clock::Monotonic.now() < until {
            phase = Clock::Monotonic.wait(&self.end.changed, phase, Some(until));
        }
        *phase == Phase::Ended
    }

    /// Whether the kernel has ended it: the mount is gone or dead then, and its device number may be another's.
    pub fn has_ended(&self) -> bool {
        *self.end.lock() == Phase::Ended
    }

    /// Lets everyone in [`Session::wait`] go on although the kernel may hold the session for as long as a file is
    /// open.
    pub fn abandon(&self) {
        self.end.reach(Phase::Abandoned);
    }
}

/// The loops of fuser in this process: it names its threads.
fn threads_that_answer() -> HashSet<OsString> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_loop = |thread: &fs::DirEntry| {
        fs::read(thread.path().join("comm")).is_ok_and(|name| name.starts_with(b"fuser-"))
    };
    threads.filter(is_loop).map(|thread| thread.file_name()).collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Serving,
    Abandoned,
    Ended,
}

#[derive(Debug, Default)]
struct End {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, phase: Phase) {
        let mut current = self.lock();
        *current = phase.max(*current);
        self.changed.notify_all();
    }
}

/// Reaches the end also when the session's thread panics or cannot be started.
struct EndSignal {
    end: Arc<End>,
    loops: Arc<Loops>,
}

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.loops.end();
        self.end.reach(Phase::Ended);
    }
}

/// A session that somebody looks after.
struct Watched {
    adapter: Arc<Adapter>,
    loops: Arc<Loops>,
    kernel: OwnedFd,
}

impl Watched {
    /// Starts as many threads again whenever a call of each hangs, until the session ends.
    fn watch(self) {
        prepare_thread();
        let (mut last, mut quiet) = (Vec::new(), 0);
        loop {
            let (over, changed) = self.loops.over();
            if *over {
                return;
            }
            if self.loops.rests() {
                drop(Clock::wait_in_real_time(changed, over, None));
                continue;
            }
            if *Clock::wait_in_real_time(changed, over, Some(HANGS)) {
                return;
            }
            let seen = self.loops.look(&mut last);
            let free = seen.running.saturating_sub(seen.stuck);
            self.loops.let_go(free.saturating_sub(LOOPS));
            if free == 0 {
                let more = seen.running.min(MOST_LOOPS.saturating_sub(seen.running));
                // Without descriptors or threads it is tried again with the next look.
                let _ = (0..more).try_for_each(|_| self.add_one());
            }
            quiet = if seen.busy { 0 } else { quiet + 1 };
            if quiet >= QUIET_LOOKS {
                self.loops.rest(&mut last);
                quiet = 0;
            }
        }
    }

    fn add_one(&self) -> io::Result<()> {
        let session = Served::one_more(&self.adapter, &self.loops, self.kernel.as_fd())?;
        let loops = self.loops.clone();
        loops.added();
        let run = {
            let loops = loops.clone();
            move || {
                prepare_thread();
                // Ends with an error when it is not needed any more.
                let _ = session.run();
                loops.ended();
            }
        };
        let started = thread::Builder::new().name("session-more".to_string()).spawn(run).map(drop);
        started.inspect_err(|_| loops.ended())
    }
}
