//! Everything that needs the built binary or a mount.

mod cli;
mod mount;
mod sandbox;
