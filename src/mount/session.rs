//! The threads that answer the kernel, and how their end is awaited.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use fuser::SessionACL;

use crate::{client::prepare_thread, clock::Clock, error::Refusal, fuse::Adapter};

/// How many requests are taken up at the same time. The kernel gives the next one to the thread that has waited longest:
/// more threads answer no more requests and share the processor's caches among them. What takes long is handed to
/// others ([`Client::sync`](crate::client::Client::sync)) or parked.
const LOOPS: usize = 2;

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
        // Who may come in was decided by the mount options; the kernel enforces it.
        let session = fuser::Session::from_fd(adapter, kernel, SessionACL::All, config).map_err(failed)?;
        let end = Arc::new(End::default());
        let signal = EndSignal(end.clone());
        let run = move || {
            let _signal = signal;
            prepare_thread();
            session.run()
        };
        thread::Builder::new().name("session".to_string()).spawn(run).map_err(failed)?;
        Ok(Session { end })
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

/// Reaches the end also when the session's thread panics.
struct EndSignal(Arc<End>);

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.0.reach(Phase::Ended);
    }
}
