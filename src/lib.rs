//! chaosfs lets one machine stand in for many: several FUSE **clients** over one backing directory that disagree the
//! way hosts on shared storage do. What a program writes on one client is seen late on the others, what a client has
//! looked at it believes for a while, and now and then a call fails.
//!
//! In a test, on a clock that is moved by hand, so that nothing sleeps and nothing depends on speed:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{fs, time::Duration};
//!
//! let clients = chaosfs::Clients::builder().clients(2).manual_clock().mount()?;
//! let (a, b) = (clients["A"].mountpoint(), clients["B"].mountpoint());
//!
//! // Two programs that both believe to be the first:
//! fs::create_dir(a.join("lock"))?;
//! fs::create_dir(b.join("lock"))?;
//! clients.advance(Duration::from_secs(2))?;
//! assert_eq!(clients["A"].status().conflicts + clients["B"].status().conflicts, 1);
//! # Ok(())
//! # }
//! ```
//!
//! One client on the real clock:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use chaosfs::{MountOptions, mount};
//! use std::{fs, time::Duration};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (shared, view) = (folder.path().join("shared"), folder.path().join("view"));
//! # fs::create_dir(&shared)?;
//! # fs::create_dir(&view)?;
//! let mut options = MountOptions::new(&shared, &view);
//! options.knobs.meta_ttl = Duration::from_millis(200);
//! let mounted = mount(options)?;
//! fs::write(view.join("file"), "text")?;
//! mounted.flush()?;
//! assert_eq!(fs::read_to_string(shared.join("file"))?, "text");
//! # Ok(())
//! # }
//! ```
//!
//! A guard that is dropped, also in a panic, lands what is in flight and unmounts. A process that serves a mount must
//! not fork without `exec` while it uses the mount itself: the child would have no threads to answer it.
//!
//! # The house
//!
//! | module | what | knows |
//! |---|---|---|
//! | `consistency` | when a client sees what; pure | `time` |
//! | `operation` | every kind of call, once | |
//! | `fault`, `dice` | what goes wrong, and seeded chance; pure | `operation` |
//! | `backing` | the real directory: system calls and the table of inodes, no policy | |
//! | `client` | one client: faults, what is in flight and belief over a backing directory; how it is steered | all of the above |
//! | `fuse` | decode a request, call the client, reply | `client` |
//! | `mount` | the life of a mount, sets of them, and the control socket | `fuse`, `client` |
//! | `harness` | what the command line's `run` and `exec` need besides | `mount` |
//! | `operation`, `knobs`, `event`, `clock`, `time`, `hashing`, `error`, `terms` | the kinds of calls, tunables and profiles, the log, the reader of time, plain time, hash tables, failures, the words of whoever mounts | |
//!
//! # Four walks through it
//!
//! A **write** is decoded in `fuse/requests.rs`, and `client/file_io/write.rs` makes a `Call` of it. The call goes through its
//! life in `client/call.rs`: a verdict, room, the operation itself, and at the end the log and the answer. The operation hands
//! its change to `Client::submit` (`client/changes.rs`), which asks `consistency/route.rs` when it reaches the backing directory. If that is now, it is one system call of `backing/sys.rs`. If
//! it is later, it goes into `consistency/in_flight.rs`, from which `client/lander.rs` takes it when it is due, and
//! `client/store/inodes.rs` carries it out.
//!
//! A **rename** is the same but for two files: `client/namespace/rename.rs` refuses what a plain directory would refuse, in
//! the view of this client, and `client/store/names.rs` carries it out and settles conflicts.
//!
//! A **fault** is the first stage in the life of a call (`client/call.rs`), before it has any effect: the verdict asks
//! `fault.rs`, which draws from `dice.rs`. Nothing else knows of faults.
//!
//! A **knob** is an entry of the table in `knobs.rs`, from which come its flag, its variable and all else. What decides what is seen becomes a
//! field of `consistency/policy.rs`, which the core reads (`consistency/core.rs`): it knows no knobs.
//!
//! A **profile** is a file in `profiles/`: values of knobs with their sources. `knobs/profiles/` reads it, and no code asks which it is. A
//! storage that does what no knob says needs a new knob; one whose rules there are needs a new file and its name in the list.
//!
//! What is documented here is what other programs may use. The modules are there for chaosfs's own command line and
//! tests, and change without notice.

mod backing;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod consistency;
#[doc(hidden)]
pub mod dice;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod event;
#[doc(hidden)]
pub mod fault;
mod fuse;
#[doc(hidden)]
pub mod harness;
#[doc(hidden)]
pub mod hashing;
#[doc(hidden)]
pub mod knobs;
mod mount;
#[doc(hidden)]
pub mod operation;
#[doc(hidden)]
pub mod terms;
#[doc(hidden)]
pub mod time;

pub use backing::prepare_process;
pub use client::{Farewell, InFlightStatus, Status};
pub use clock::Clock;
pub use error::Refusal;
pub use event::{Event, EventLog, Level, Record, Sink};
pub use knobs::{Delay, Knobs};
pub use mount::{
    Clients, ClientsBuilder, Mount, MountOptions, RemoteClient, Unmounted, check_client_id, dual_mount,
    mount, mounts_below, mounts_of_user, unmount, unmount_within,
};

/// What README.md says in Rust.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What `docs/rust.md` says in Rust.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct TestsInRust;
