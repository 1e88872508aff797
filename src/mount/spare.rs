//! Room in the process table for what leaving needs.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

/// A thread that does nothing but hold a place in the process table: where a user's processes are at their limit, it makes
/// way for the helper that unmounts.
#[derive(Debug)]
pub struct Spare(Mutex<Option<Holder>>);

#[derive(Debug)]
struct Holder {
    /// Dropping it ends the thread.
    _stay: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Spare {
    /// Holds a place if there is one.
    pub fn held() -> Spare {
        let spare = Spare::none();
        spare.hold();
        spare
    }

    /// Holds none.
    pub fn none() -> Spare {
        Spare(Mutex::new(None))
    }

    /// Holds it again, after it was given up.
    pub fn hold(&self) {
        let (stay, ended) = mpsc::channel::<()>();
        let wait = move || {
            let _ = ended.recv();
        };
        let holder = thread::Builder::new().name("spare".to_string()).stack_size(STACK).spawn(wait);
        let mut held = self.lock();
        if held.is_none() {
            *held = holder.ok().map(|thread| Holder { _stay: stay, thread });
        }
    }

    /// Gives the place up; whether there was one.
    pub fn give_up(&self) -> bool {
        let Some(Holder { _stay: stay, thread }) = self.lock().take() else { return false };
        drop(stay);
        let _ = thread.join();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As small as one can be.
const STACK: usize = 16 << 10;
