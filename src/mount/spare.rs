//! Room in the process table for what is needed later.

use std::{
    fs, io,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::unistd::gettid;

use crate::clock::{Clock, Deadline};

/// A thread that does nothing but hold a place in the process table: where a user's processes are at their limit, it makes
/// way for a thread or a process that is needed then.
#[derive(Debug)]
pub struct Spare(Mutex<Option<Holder>>);

#[derive(Debug)]
struct Holder {
    /// Dropping it ends the thread.
    _stay: mpsc::Sender<()>,
    number: i32,
    thread: JoinHandle<()>,
}

impl Spare {
    /// Holds a place.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn held() -> io::Result<Spare> {
        Ok(Spare(Mutex::new(Some(Holder::start()?))))
    }

    /// Holds none.
    pub fn none() -> Spare {
        Spare(Mutex::new(None))
    }

    /// Holds a place again, after it was given up; if there is one.
    pub fn hold(&self) {
        let holder = Holder::start().ok();
        let mut held = self.lock();
        if held.is_none() {
            *held = holder;
        }
    }

    /// Gives the place up; whether there was one. It is free when this returns.
    pub fn give_up(&self) -> bool {
        let Some(Holder { _stay: stay, number, thread }) = self.lock().take() else { return false };
        drop(stay);
        let _ = thread.join();
        // A thread that can be joined is in the table for a moment still.
        let end = Deadline::after(GONE_WITHIN);
        while fs::exists(format!("/proc/self/task/{number}")).unwrap_or(false) && !end.left().is_zero() {
            Clock::Monotonic.pause(LOOK);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Holder {
    fn start() -> io::Result<Holder> {
        let ((stay, ended), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
        let wait = move || {
            let _ = tell.send(gettid().as_raw());
            let _ = ended.recv();
        };
        let thread = thread::Builder::new().name("spare".to_string()).stack_size(STACK).spawn(wait)?;
        let number = told.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(Holder { _stay: stay, number, thread })
    }
}

/// As small as one can be.
const STACK: usize = 16 << 10;

/// How long the end of a thread may take, and how often is looked.
const GONE_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_micros(100);
