//! The FUSE side of a client: decode a request, call the client, reply. Nothing here decides what is seen.
//!
//! The kernel keeps nothing for us: entries and attributes time out at once and files are opened for direct I/O, so
//! that every operation comes here, every fault can strike, and time is the model's alone. Unless the client lends its
//! answers (`--kernel-cache`): then the kernel keeps them for as long as the client would repeat them.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the adapter |
//! | `requests.rs` | each request: decode, call, reply |
//! | `listing.rs` | the entries of a directory |
//! | `locks.rs` | locks |
//! | `wire.rs` | what FUSE says in the client's words, and back |
//! | `handshake.rs` | what the kernel agrees to |
//! | `loops.rs` | the threads that take requests |
//! | `passthrough.rs` | files that the kernel serves itself |

mod handshake;
mod listing;
mod locks;
mod loops;
mod passthrough;
mod requests;
mod wire;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use fuser::Generation;

use crate::client::Client;
pub use loops::{Loops, Served};
use passthrough::{Opener, Passthrough};

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

    fn opener(&self, flags: i32) -> Opener {
        Opener { client: self.client.clone(), passthrough: self.passthrough.clone(), flags }
    }
}

/// Does what has no answer that could fail; a panic in it leaves the mount alive.
fn quietly(run: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(run));
}
