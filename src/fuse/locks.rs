//! Requests about locks. fuser 0.18 does not tell those of flock(2) from those of fcntl(2).

use fuser::{ReplyEmpty, ReplyLock};

use super::{
    Adapter,
    wire::{errno, reply_empty},
};
use crate::{
    client::{Caller, LockKind, LockWish},
    error::Error,
};

/// Answers what lock is in the way of one.
pub fn get(
    adapter: &Adapter,
    caller: &Caller,
    handle: u64,
    (owner, kind): (u64, i32),
    (start, end): (u64, u64),
    reply: ReplyLock,
) {
    let Ok(kind) = LockKind::of(kind) else { return reply.error(errno(Error::Invalid)) };
    let wish = LockWish { owner, kind, start, end };
    adapter.client.get_lock(caller, handle, wish).serve(move |found| match found {
        Ok(Some(lock)) => reply.locked(lock.start, lock.end, lock.kind.number(), 0),
        Ok(None) => reply.locked(start, end, LockKind::None.number(), 0),
        Err(error) => reply.error(errno(error)),
    });
}

/// Takes or gives up a lock, and waits for it if the program wants to.
pub fn set(
    adapter: &Adapter,
    caller: &Caller,
    handle: u64,
    (owner, kind): (u64, i32),
    (start, end): (u64, u64),
    (waits, reply): (bool, ReplyEmpty),
) {
    let Ok(kind) = LockKind::of(kind) else { return reply.error(errno(Error::Invalid)) };
    let wish = LockWish { owner, kind, start, end };
    let (client, waiting) = (adapter.client.clone(), *caller);
    adapter.client.set_lock(caller, handle, wish).serve(move |had| match had {
        Ok(true) => reply.ok(),
        Ok(false) if waits => {
            client.wait_for_lock(&waiting, handle, wish, Box::new(|done| reply_empty(reply, done)));
        }
        Ok(false) => reply.error(errno(client.lock_conflict())),
        Err(error) => reply.error(errno(error)),
    });
}
