//! What `stat(2)` shows of an inode, as plain data.

use crate::time::Timestamp;

/// The number by which a client knows an inode: the FUSE node id and `st_ino` in one.
pub type Ino = u64;

/// What an inode is.
#[expect(missing_docs, reason = "the kinds of inode(7)")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// The kind in a `st_mode`; what is unknown counts as a file.
    pub fn of_mode(mode: u32) -> Kind {
        match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            0o020_000 => Kind::CharDevice,
            0o060_000 => Kind::BlockDevice,
            _ => Kind::File,
        }
    }

    /// The type bits of a `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
            Kind::CharDevice => 0o020_000,
            Kind::BlockDevice => 0o060_000,
        }
    }
}

/// The attributes of one inode.
#[expect(missing_docs, reason = "the fields of stat(2), as far as nothing else is said")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `st_mode & 07777`.
    pub permissions: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub block_size: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// `ctime` was old enough when they were fetched that a change after that shows in it. The store's clock has ticks: within
    /// one, two changes leave the same time.
    pub is_settled: bool,
}

impl Attributes {
    /// The attributes of an inode that is being made now: all three times are `stamp`.
    pub fn new(
        kind: Kind,
        permissions: u32,
        owner: (u32, u32),
        rdev: u64,
        size: u64,
        stamp: Timestamp,
    ) -> Attributes {
        let is_directory = kind == Kind::Directory;
        Attributes {
            kind,
            permissions,
            links: if is_directory { 2 } else { 1 },
            uid: owner.0,
            gid: owner.1,
            rdev,
            size: if is_directory { 4096 } else { size },
            blocks: if is_directory { 8 } else { 0 },
            block_size: 4096,
            atime: stamp,
            mtime: stamp,
            ctime: stamp,
            is_settled: true,
        }
    }
}

/// What a `chmod`, `chown` or `utimens` asks for; `None` leaves as it is.
#[expect(missing_docs, reason = "named for what they change")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<Timestamp>,
    pub mtime: Option<Timestamp>,
}

impl AttributeChange {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == AttributeChange::default()
    }
}
