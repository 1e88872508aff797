//! The real directory: system calls and the table of inodes. No policy.

mod inode_table;
pub mod sys;

use std::{os::fd::AsFd, path::Path};

pub use inode_table::{InodeTable, NodeId, ROOT};
pub use sys::{FsFigures, Identity, Stat};

use crate::error::{Error, Refusal};

/// Descriptors left to the files that programs have open, as a part of the limit.
const SHARE_FOR_OPEN_FILES: u64 = 2;

/// The most descriptors kept on inodes that are known but not open: more would only cost kernel memory.
const MOST_DESCRIPTORS: u64 = 8192;

/// Opens a backing directory and the table of its inodes.
///
/// # Errors
/// Says which path cannot be opened and why.
pub fn open(path: &Path) -> Result<InodeTable, Refusal> {
    let refuse = |error: Error| {
        Refusal::new(format!("backing directory `{}` cannot be opened: {error}", path.display()))
    };
    let root = sys::open_root(path).map_err(refuse)?;
    let bound = (sys::descriptor_limit() / SHARE_FOR_OPEN_FILES).min(MOST_DESCRIPTORS);
    InodeTable::new(root, usize::try_from(bound).unwrap_or(usize::MAX)).map_err(refuse)
}

/// The figures of the file system that holds the backing directory.
///
/// # Errors
/// What `fstatvfs(3)` answers.
pub fn figures(table: &InodeTable) -> Result<FsFigures, Error> {
    sys::figures(table.root().as_fd())
}

/// Sets up this process for serving files: as many descriptors as it may have, and large buffers that take only the
/// memory they fill. Call it first in `main`.
pub fn prepare_process() {
    sys::raise_descriptor_limit();
    sys::map_large_allocations();
}
