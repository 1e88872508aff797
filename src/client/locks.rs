//! Locks that clients share: those of fcntl(2) and, where the kernel sends them here, of flock(2).
//!
//! They are open-file-description locks on the backing files, so that clients in other processes, containers and on other
//! hosts meet them as they would meet those of a server, and a client that is killed loses its own. Each owner has a
//! description of its own. A program that waits for one is parked: somebody tries for it again and again, until it gets the
//! lock, is interrupted, or the client leaves.

use std::{
    collections::hash_map::Entry,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Caller, Client,
    call::{Call, Flushed, Run},
    locked,
    open_files::OpenFile,
    waits::{Done, LockWaiter},
};
use crate::{
    backing::{
        flags::{O_RDONLY, O_RDWR},
        sys::{self, LockKind},
    },
    consistency::{
        Ino,
        policy::{FlushPoint, LockConflict, Locks},
    },
    error::Error,
    hashing::HashMap,
    operation::Operation,
};

/// How often somebody looks whether a lock can be had that a program waits for.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A lock as a program wants it. `start` and `end` are the first and last byte.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockWish {
    pub owner: u64,
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
}

/// Whose locks are on which file.
type Owners = HashMap<(Ino, u64), Owner>;

/// Locks of one owner on one file.
#[derive(Debug)]
struct Owner {
    descriptor: Arc<OwnedFd>,
    /// Some of them are on a part of the file.
    is_partial: bool,
}

/// The locks that programs have through this client, and the files that carry them where they are this client's alone.
#[derive(Debug, Default)]
pub(super) struct SharedLocks(Mutex<Owners>, Mutex<HashMap<Ino, OwnedFd>>);

impl Client {
    /// Which locks are shared through the backing directory.
    pub fn shared_locks(&self) -> Locks {
        self.in_force().knobs.locks
    }

    /// Takes or gives up a lock; whether it was to be had.
    ///
    /// # Errors
    /// EBADF where the storage wants a file that is open for what is locked; whatever the backing file system answers.
    pub fn set_lock(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        wish: LockWish,
    ) -> Call<'_, impl Run<bool>> {
        let set = self.call_on_file(Operation::Setlk, caller, handle, move |client, file, _, _| {
            client.try_lock(file, &wish)
        });
        match self.files.get(handle) {
            Ok(file) => set.flushes(FlushPoint::Lock, Flushed::Whole(file.ino)),
            Err(_) => set,
        }
    }

    /// The lock of somebody else that is in the way of one, if any.
    ///
    /// # Errors
    /// Whatever the backing file system answers.
    pub fn get_lock(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        wish: LockWish,
    ) -> Call<'_, impl Run<Option<LockWish>>> {
        self.call_on_file(Operation::Getlk, caller, handle, move |client, file, _, _| {
            let descriptor = client.lock_descriptor(file, wish.owner)?;
            let found = sys::lock_in_the_way(descriptor.as_fd(), wish.kind, wish.start, wish.end)?;
            Ok(found.map(|(kind, start, end)| LockWish { kind, start, end, ..wish }))
        })
    }

    /// The error of a lock that somebody else has.
    pub fn lock_conflict(&self) -> Error {
        match self.in_force().policy.lock_conflict {
            LockConflict::Again => Error::of(EAGAIN),
            LockConflict::Access => Error::AccessDenied,
        }
    }

    /// Calls `done` when a lock that was not to be had has been taken, or with EINTR if its program is interrupted first.
    pub fn wait_for_lock(self: &Arc<Self>, caller: &Caller, handle: u64, wish: LockWish, done: Done) {
        let client = self.clone();
        let attempt = move || match client.files.get(handle).and_then(|file| client.try_lock(&file, &wish)) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        let waiter = LockWaiter { thread: caller.thread, attempt: Box::new(attempt), done };
        if !self.lock_waits.add(waiter) {
            return;
        }
        let client = self.clone();
        let started = std::thread::Builder::new().name("locks".into()).spawn(move || {
            while client.lock_waits.try_all(sys::is_interrupted) {
                client.clock.pause(TRY_AGAIN);
            }
        });
        if started.is_err() {
            self.lock_waits.close();
        }
    }

    fn try_lock(&self, file: &OpenFile, wish: &LockWish) -> Result<bool, Error> {
        let policy = &self.in_force().policy;
        let may = match wish.kind {
            LockKind::Shared => file.is_readable(),
            LockKind::Exclusive => file.is_writable(),
            LockKind::None => true,
        };
        if policy.locks_need_access && !may {
            return Err(Error::BadHandle);
        }
        if wish.kind == LockKind::None {
            return self.unlock(file.ino, wish).map(|()| true);
        }
        let descriptor = self.lock_descriptor(file, wish.owner)?;
        if !sys::try_lock(descriptor.as_fd(), wish.kind, wish.start, wish.end)? {
            return Ok(false);
        }
        if let Some(owner) = locked(&self.locks.0).get_mut(&(file.ino, wish.owner)) {
            owner.is_partial |= !wish.is_whole();
        }
        if policy.locks_refresh {
            self.lock().belief.distrust_inode(file.ino);
        }
        Ok(true)
    }

    /// The description that carries the locks of an owner. It is open for writing where it may be: only so can it carry
    /// exclusive ones.
    fn lock_descriptor(&self, file: &OpenFile, owner: u64) -> Result<Arc<OwnedFd>, Error> {
        let key = (file.ino, owner);
        if let Some(owner) = locked(&self.locks.0).get(&key) {
            return Ok(owner.descriptor.clone());
        }
        let opened = match self.open_real(file.ino, O_RDWR) {
            _ if self.shared_locks() == Locks::Local => self.private_lock_file(file.ino),
            Err(Error::AccessDenied | Error::ReadOnly) => self.open_real(file.ino, O_RDONLY),
            result => result,
        };
        let new = Owner { descriptor: Arc::new(opened?), is_partial: false };
        Ok(locked(&self.locks.0).entry(key).or_insert(new).descriptor.clone())
    }

    /// A file of this client alone that carries the locks of one inode.
    fn private_lock_file(&self, ino: Ino) -> Result<OwnedFd, Error> {
        let mut private = locked(&self.locks.1);
        let file = match private.entry(ino) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(sys::make_private_file()?),
        };
        sys::reopen(file.as_fd(), O_RDWR)
    }

    fn unlock(&self, ino: Ino, wish: &LockWish) -> Result<(), Error> {
        if wish.is_whole() {
            self.release_locks(ino, wish.owner);
            return Ok(());
        }
        let descriptor = locked(&self.locks.0).get(&(ino, wish.owner)).map(|owner| owner.descriptor.clone());
        match descriptor {
            Some(descriptor) => {
                sys::try_lock(descriptor.as_fd(), LockKind::None, wish.start, wish.end).map(drop)
            }
            None => Ok(()),
        }
    }

    /// An owner has closed a file: its locks go.
    pub fn release_locks(&self, ino: Ino, owner: u64) {
        let mut locks = locked(&self.locks.0);
        let closed = locks.remove(&(ino, owner));
        let is_last = closed.is_some() && !locks.keys().any(|(of, _)| *of == ino);
        drop(locks);
        if is_last {
            locked(&self.locks.1).remove(&ino);
        }
    }

    /// The same for the owner of an open file that is known by its handle.
    pub fn release_locks_of(&self, handle: u64, owner: u64) {
        if let Ok(file) = self.files.get(handle) {
            self.release_locks(file.ino, owner);
        }
    }

    /// Whether a program has a part of a file locked here.
    pub(super) fn has_part_locked(&self, ino: Ino) -> bool {
        let locks = locked(&self.locks.0);
        !locks.is_empty() && locks.iter().any(|((of, _), owner)| *of == ino && owner.is_partial)
    }
}

const EAGAIN: i32 = 11;

impl LockWish {
    /// Whether it is on the whole file.
    fn is_whole(&self) -> bool {
        self.start == 0 && self.end >= sys::LAST_BYTE
    }
}
