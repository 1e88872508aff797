//! Whether extended attributes fit into one inode, found out on a file without a name.

use std::os::fd::{AsFd, BorrowedFd};

use crate::{
    backing::sys,
    consistency::acl::{ACCESS_ACL, Acl, DEFAULT_ACL},
    error::Error,
};

/// What every file system that has extended attributes at all has room for: ext4 with blocks of 1 KiB has the least.
const UNDOUBTED: usize = 768;
/// What an attribute takes besides its name and value.
const PER_ATTRIBUTE: usize = 24;

/// A default ACL's place in the trial.
const STAND_IN: &[u8] = b"user.\x01\x01\x01\x01";

/// Gives `attributes` to a new file in `directory`, and says why that fails. Where no such file can be made nobody
/// knows.
pub(super) fn run<D: AsFd>(
    directory: impl FnOnce() -> D,
    attributes: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
) -> Result<(), Error> {
    let sizes =
        attributes.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len() + PER_ATTRIBUTE);
    if sizes.sum::<usize>() <= UNDOUBTED {
        return Ok(());
    }
    let Ok(file) = sys::create_nameless(directory().as_fd()) else { return Ok(()) };
    // What it has inherited itself is not part of the trial.
    let _ = sys::remove_xattr(file.as_fd(), ACCESS_ACL);
    let (defaults, others): (Vec<_>, Vec<_>) = attributes
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .partition(|(name, _)| *name == DEFAULT_ACL);
    for (_, acl) in defaults {
        stand_in_for_default(file.as_fd(), acl)?;
    }
    for (name, value) in others {
        match sys::set_xattr(file.as_fd(), name, value, 0) {
            // The system gives attributes that this process may not give.
            Err(error) if error == Error::NotPermitted || error == Error::AccessDenied => {}
            result => result?,
        }
    }
    Ok(())
}

/// A file has no default ACL. Whether it is one that a directory can have shows where a file's own ACL goes; how much
/// room it takes beside the others, an attribute of the same size.
fn stand_in_for_default(file: BorrowedFd<'_>, acl: &[u8]) -> Result<(), Error> {
    sys::set_xattr(file, ACCESS_ACL, acl, 0)?;
    sys::remove_xattr(file, ACCESS_ACL)?;
    let stored = Acl::parse(acl).map_or(acl.len(), |acl| acl.stored_size());
    let name_takes = STAND_IN.len() - b"user.".len();
    sys::set_xattr(file, STAND_IN, &vec![0; stored.saturating_sub(name_takes)], 0)
}
