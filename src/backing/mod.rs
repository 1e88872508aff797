//! The real directory: system calls and the table of inodes. No policy.

pub mod failing;
pub mod flags;
mod inode_table;
mod share;
pub mod sys;
mod traits;

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

pub use inode_table::{Dropped, InodeTable, NodeId, ROOT};
pub use sys::{FsFigures, Identity, Stat};
pub use traits::Traits;

use crate::error::{Error, Refusal};
use share::Share;

/// Opens a backing directory and the table of its inodes.
///
/// # Errors
/// Says which path cannot be opened and why.
pub fn open(path: &Path) -> Result<InodeTable, Refusal> {
    let refuse = |error: Error| {
        Refusal::new(format!("backing directory `{}` cannot be opened: {error}", path.display()))
    };
    let root = sys::open_root(path).map_err(refuse)?;
    sys::learn_whether_every_change_is_dated(root.as_fd());
    InodeTable::new(root, Share::of_process()).map_err(refuse)
}

/// The figures of the file system that holds the backing directory.
///
/// # Errors
/// What `fstatvfs(3)` answers.
pub fn figures(table: &InodeTable) -> Result<FsFigures, Error> {
    sys::figures(table.root().as_fd())
}

/// What is known of the kind of file system that holds an inode.
///
/// # Errors
/// What `fstatfs(2)` answers.
pub fn traits(fd: BorrowedFd<'_>) -> Result<Traits, Error> {
    Ok(Traits::of_kind(sys::kind_of_file_system(fd)?))
}

/// Sets up this process for serving files: as many descriptors as it may have, and large buffers that take only the
/// memory they fill. Where a sandbox keeps threads from having a umask and a working directory of their own, those of the
/// whole process will be changed. Call it before a thread is started, and not in a process that executes other programs.
pub fn prepare_process() {
    sys::own_process();
    sys::raise_descriptor_limit();
    sys::map_large_allocations();
}
