//! Everything that needs the built binary or a mount.
#![allow(clippy::disallowed_methods, reason = "tests of real mounts wait for real time")]

mod architecture;
mod cli;
mod draws;
mod endings;
mod exec;
mod faults;
mod fuzz;
mod hangs;
mod histories;
mod ids;
mod kernel_cache;
mod knobs;
mod layers;
mod library;
mod likeness;
mod load;
mod mount;
mod pages;
mod panics;
mod permissions;
mod profiles;
mod promises;
mod races;
mod run;
mod sandbox;
mod shortage;
mod situations;
mod steering;
mod strangers;
mod surface;
mod trouble;
mod umount;
mod untyped;
mod users;
mod voice;
