//! When a client sees what. Pure: no input or output, clock, lock, thread or chance; time is a number that is passed
//! in.
//!
//! A client answers from three layers. What its own programs have been told is done and has not landed yet is **in
//! flight** ([`InFlight`], the client's own future). What it fetched and still trusts is its **belief** ([`Belief`],
//! its past). Under both lies the **backing directory** (the present), which this module never touches.
//!
//! # What is seen
//!
//! 1. A question is answered by the [`Overlay`] of what is in flight where that says everything (a name made or
//!    removed here), else from belief while it is fresh, else by a fetch ([`inquiry`]).
//! 2. An answer about attributes, listings or bytes is always the overlay laid over a base from belief or fetch. The
//!    same mutation may be in both, when it lands meanwhile; laying it over twice changes nothing but link counts,
//!    which are sums.
//! 3. A fetch that was overtaken by an own change, made or landed, or by another fetch of the same, is thrown away and
//!    asked again ([`Cache`](cache::Cache)).
//! 4. A mutation shows to its own client from the moment it is acknowledged. It shows to others when it lands: when
//!    it is due and all that it needs has landed ([`mutation`]).
//! 5. An own change drops what was believed about all that it touches, when it is made and when it lands.
//!
//! # What storage does besides
//!
//! All that is a matter of time is a [`Policy`] of lifetimes and delays. What else a storage does is a rule of it, each of which
//! one place asks:
//!
//! | rule | where |
//! |---|---|
//! | lifetimes that double, evidence that a file is as it was, names that are valid while their directory is | [`belief`]: what it remembers of an inode outlives what it believes of it |
//! | opens, listings and reads that ask whatever is believed | [`inquiry::Anew`], on which the client decides |
//! | data that lands at flush points | the client hurries it before the call runs |
//! | sizes, new files, names that land at once while data is late | [`route`] |
//! | pages that go out whole, the end that an append goes to | [`paging`], [`Core::end_of`] |
//!
//! A name that hangs on its directory keeps the third law: it is served for as long as the directory's attributes are, and those
//! are as old as their own lifetime at most; when they are fetched anew, a change since the name was fetched shows, or is suspected
//! where the store's clock has not ticked since.
//!
//! # Why the laws hold
//!
//! *Nothing before it was made, nothing before it is due:* only [`InFlight::start_due`] hands out work, and not
//! before its time. *A belief lives at most its time to live:* it is dated by the start of its fetch. *Never back in
//! time:* a fetch cannot be older than a belief it replaces, because fetches that own changes or other fetches
//! overtook are refused; an overlay goes only when its mutation is in the base; and the mutations of one inode land
//! in order. *Never nowhere:* [`InFlight::landed`] comes after the system call.

pub mod acl;
pub mod attributes;
pub mod belief;
pub mod cache;
pub mod core;
pub mod extents;
#[cfg(test)]
mod histories;
pub mod in_flight;
pub mod inquiry;
pub mod lease;
pub mod listing;
pub mod mutation;
pub mod overlay;
pub mod paging;
pub mod policy;
pub mod provenance;
pub mod reading;
pub mod route;

pub use attributes::{AttributeChange, Attributes, Ino, Kind};
pub use belief::{Belief, Known};
pub use core::Core;
pub use in_flight::InFlight;
pub use lease::Passage;
pub use listing::{Listing, Snapshot};
pub use mutation::{Change, DelayClass, Mutation, MutationId, Name, Place, RenameHow};
pub use overlay::{Binding, Overlay};
pub use policy::{Delays, Lifetimes, Policy};
pub use provenance::{Origin, Provenance};
pub use route::Route;
