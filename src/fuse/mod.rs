//! The FUSE side of a client: decode a request, call the client, reply. Nothing here decides what is seen.
//!
//! The kernel keeps nothing for us: entries and attributes time out at once and files are opened for direct I/O, so
//! that every operation comes here, every fault can strike, and time is the model's alone. Unless the client lends its
//! answers (`--kernel-cache`): then the kernel keeps them for as long as the client would repeat them.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | how a request runs, at once or when there is room |
//! | `requests.rs` | each request: decode, call, reply |
//! | `listing.rs` | the entries of a directory |
//! | `wire.rs` | what FUSE says in the client's words, and back |
//! | `handshake.rs` | what the kernel agrees to |
//! | `loops.rs` | the threads that take requests |
//! | `passthrough.rs` | files that the kernel serves itself |

mod handshake;
mod listing;
mod loops;
mod passthrough;
mod requests;
mod wire;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use fuser::{Errno, FileHandle, Generation, ReplyWrite, Request};

use crate::{
    client::{Caller, Client, Offset},
    error::Error,
};
pub use loops::{Loops, Served};
use passthrough::{Opener, Passthrough};
use wire::{errno, reply_written};

/// How long the kernel may keep what nobody asks for: not at all.
const DO_NOT_KEEP: Duration = Duration::ZERO;

/// Node numbers are not given out again while the kernel knows them, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// Serves one client to fuser.
pub struct Adapter {
    client: Arc<Client>,
    passthrough: Arc<Passthrough>,
}

impl Adapter {
    /// An adapter that serves `client`.
    pub fn new(client: Arc<Client>) -> Adapter {
        Adapter { client, passthrough: Arc::default() }
    }

    /// Runs an operation. One that panics answers EIO and leaves the mount alive.
    fn run<T>(
        client: &Arc<Client>,
        operation: impl FnOnce(&Arc<Client>) -> Result<T, Error>,
    ) -> Result<T, Errno> {
        catch_unwind(AssertUnwindSafe(|| operation(client))).unwrap_or(Err(Error::InputOutput)).map_err(errno)
    }

    fn ask<T>(&self, operation: impl FnOnce(&Arc<Client>) -> Result<T, Error>) -> Result<T, Errno> {
        Adapter::run(&self.client, operation)
    }

    /// Starts something that will answer by itself. If it panics it drops its reply unanswered, for which fuser says EIO.
    fn begin(client: &Arc<Client>, operation: impl FnOnce(&Arc<Client>)) {
        let _ = catch_unwind(AssertUnwindSafe(|| operation(client)));
    }

    /// Runs an operation that may put a change in flight. While there is no room it waits, and whoever makes room runs
    /// it.
    fn change<T, R: Send + 'static>(
        &self,
        request: &Request,
        reply: R,
        operation: impl FnOnce(&Arc<Client>) -> Result<T, Error> + Send + 'static,
        answer: impl FnOnce(R, Result<T, Errno>) + Send + 'static,
    ) {
        self.with_room(request, move |client, room| match room {
            Ok(()) => answer(reply, Adapter::run(client, operation)),
            Err(error) => answer(reply, Err(errno(error))),
        });
    }

    /// Starts something that may put a change in flight, when there is room; with EINTR if its program is killed before.
    fn with_room(
        &self,
        request: &Request,
        start: impl FnOnce(&Arc<Client>, Result<(), Error>) + Send + 'static,
    ) {
        if self.client.has_room(0) {
            return Adapter::begin(&self.client, |client| start(client, Ok(())));
        }
        let client = self.client.clone();
        self.client.wait_for_room(0, request.pid(), Box::new(move |room| start(&client, room)));
    }

    fn opener(&self, flags: i32) -> Opener {
        Opener { client: self.client.clone(), passthrough: self.passthrough.clone(), flags }
    }

    fn write(
        client: &Arc<Client>,
        (caller, handle, place, synced): (Caller, FileHandle, Offset, bool),
        data: &[u8],
        reply: ReplyWrite,
    ) {
        if synced {
            let done = move |result: Result<usize, Error>| reply_written(reply, result.map_err(errno));
            return Adapter::begin(client, |client| {
                client.write_synced(&caller, handle.0, place, data, done);
            });
        }
        reply_written(reply, Adapter::run(client, |client| client.write(&caller, handle.0, place, data)));
    }
}
