//! chaosfs lets one machine stand in for many: several FUSE **clients** over one backing directory that disagree the
//! way hosts on shared storage do. What a program writes on one client is seen late on the others, what a client has
//! looked at it believes for a while, and now and then a call fails.
//!
//! ```no_run
//! use chaosfs::{ClientOptions, Knobs, MountOptions, clock::Clock, event::EventLog, mount};
//!
//! let client = ClientOptions {
//!     backing: "/srv/shared".into(),
//!     id: "a".into(),
//!     seed: 42,
//!     knobs: Knobs::default(),
//!     allow_other: false,
//! };
//! let options = MountOptions { client, mountpoint: "/mnt/a".into() };
//! let mounted = mount(options, Clock::Monotonic, EventLog::to_tracing("a", false))?;
//! mounted.wait();
//! # Ok::<(), chaosfs::Refusal>(())
//! ```
//!
//! # The house
//!
//! | module | what | knows |
//! |---|---|---|
//! | [`consistency`] | when a client sees what; pure | [`time`] |
//! | [`fault`], [`dice`] | what goes wrong, and seeded chance; pure | |
//! | `backing` | the real directory: system calls and the table of inodes, no policy | |
//! | [`client`] | one client: faults, what is in flight and belief over a backing directory | all of the above |
//! | `fuse` | decode a request, call the client, reply | [`client`] |
//! | `mount` | the life of a mount | `fuse`, [`client`] |
//! | [`knobs`], [`event`], [`clock`], [`time`], [`error`] | tunables, the log, the reader of time, plain time, failures | |

mod backing;
pub mod client;
pub mod clock;
pub mod consistency;
pub mod dice;
pub mod error;
pub mod event;
pub mod fault;
mod fuse;
pub mod knobs;
mod mount;
pub mod time;

pub use backing::prepare_process;
pub use client::{ClientOptions, Farewell};
pub use error::Refusal;
pub use knobs::Knobs;
pub use mount::{Mount, MountOptions, Unmounted, check_client_id, mount, mounts_below, unmount};
