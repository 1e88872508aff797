//! Clients that behave like real storage.

mod command_line;
mod locks;
mod nfstest;
mod objects;
mod paths;
mod rules;
