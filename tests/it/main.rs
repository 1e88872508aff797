//! Everything that needs the built binary or a mount.
#![allow(clippy::disallowed_methods, reason = "tests of real mounts wait for real time")]

mod cli;
mod mount;
mod readme;
mod sandbox;
