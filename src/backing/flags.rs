//! The kernel's flags by their names, for whoever decides about them.

pub use libc::{
    O_ACCMODE, O_APPEND, O_DIRECT, O_EXCL, O_NOATIME, O_NOCTTY, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY,
    SEEK_DATA, SEEK_HOLE, XATTR_CREATE, XATTR_REPLACE,
};
pub use libc::{RENAME_EXCHANGE, RENAME_NOREPLACE};

/// The set-group-ID bit of a mode.
pub const SETGID: u32 = libc::S_ISGID;
/// The set-user-ID and the set-group-ID bit of a mode.
pub const SETID: u32 = libc::S_ISUID | libc::S_ISGID;
