//! Clients that behave like real storage.

mod command_line;
mod locks;
mod nfstest;
mod paths;
mod rules;
