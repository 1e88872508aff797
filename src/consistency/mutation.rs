//! A change on its way to the backing directory: what it does, what it touches and what it needs.
//!
//! # What must land before what
//!
//! Mutations land each at its own time, but for what they need. A mutation names the things it touches and how:
//!
//! - **change**: after every earlier change and use of the thing;
//! - **use**: after every earlier change; later changes wait for it;
//! - **need**: after every earlier change; nobody waits for it.
//!
//! | thing | changed by | used by | needed by |
//! |---|---|---|---|
//! | a name in a directory | everything that makes, moves or removes that name | | |
//! | an inode | its making, its data, its attributes, its removal as a directory | whatever makes, moves or removes a name in it | whatever links or moves it |
//! | the shape of the tree | a directory that moves to another directory | | |
//!
//! So one inode's data and attributes land in the order in which they were made (another client never sees a state of
//! a file that never was); a file is linked or renamed only with the data it had; a directory goes only when the
//! names inside have gone; and its times and permissions change in order with the names made in it. Two different
//! files, and a flag file beside its data, share nothing and land in any order.

use std::{ops::Range, sync::Arc};

use super::attributes::{AttributeChange, Attributes, Ino, Kind};
use crate::time::Timestamp;

/// A name in a directory: any bytes but `/` and NUL.
pub type Name = Arc<[u8]>;

/// A name and the directory it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub directory: Ino,
    pub name: Name,
}

impl Place {
    /// The place `name` in `directory`.
    pub fn new(directory: Ino, name: &[u8]) -> Place {
        Place { directory, name: name.into() }
    }
}

/// Numbers the mutations of one client in the order in which they were made.
pub type MutationId = u64;

/// What a rename does with a name that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameHow {
    /// Replaces it.
    Replace,
    /// `RENAME_NOREPLACE`: fails.
    NoReplace,
    /// `RENAME_EXCHANGE`: the two swap.
    Exchange,
}

/// One change of the tree, a file's data or an inode's attributes.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new inode with a name. `target` is a symlink's text, empty for everything else.
    Make { place: Place, ino: Ino, attributes: Attributes, target: Arc<[u8]> },
    /// One more name for an inode.
    Link { ino: Ino, kind: Kind, place: Place },
    /// A name that is not a directory goes.
    Unlink { place: Place, ino: Ino },
    /// An empty directory goes.
    RemoveDirectory { place: Place, ino: Ino },
    /// An inode moves from one name to another. `replaced` is what stood at `to` in this client's view; for an
    /// exchange, what goes the other way.
    Rename { from: Place, to: Place, ino: Ino, kind: Kind, replaced: Option<(Ino, Kind)>, how: RenameHow },
    /// Bytes at an offset. `clears_setid`: the writer may not leave setuid or setgid behind (`write(2)`).
    Write { ino: Ino, offset: u64, data: Arc<[u8]>, clears_setid: bool },
    /// `truncate(2)`, to shorter or longer.
    Resize { ino: Ino, size: u64, clears_setid: bool },
    /// `fallocate(2)` with its own mode bits.
    Allocate { ino: Ino, mode: i32, offset: u64, length: u64 },
    /// `chmod`, `chown`, `utimens`.
    SetAttributes { ino: Ino, change: AttributeChange },
    /// An extended attribute gets a value, or goes (`None`).
    SetXattr { ino: Ino, name: Name, value: Option<Arc<[u8]>> },
}

/// `FALLOC_FL_KEEP_SIZE`, `falloc.h`.
pub const KEEP_SIZE: i32 = 0x01;
/// `FALLOC_FL_PUNCH_HOLE`, `falloc.h`.
pub const PUNCH_HOLE: i32 = 0x02;
/// `FALLOC_FL_ZERO_RANGE`, `falloc.h`.
pub const ZERO_RANGE: i32 = 0x10;

/// A thing that mutations have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Name(Place),
    Inode(Ino),
    Tree,
}

/// How a mutation touches a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Change,
    Use,
    Need,
}

/// Which of the two delays a change gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayClass {
    /// Data and new files: the write delay.
    Data,
    /// Names, directories and attributes: the rename delay.
    Names,
}

impl Change {
    /// What it is called in events and draws.
    pub fn verb(&self) -> &'static str {
        match self {
            Change::Make { attributes, .. } => match attributes.kind {
                Kind::File => "create",
                Kind::Directory => "mkdir",
                Kind::Symlink => "symlink",
                _ => "mknod",
            },
            Change::Link { .. } => "link",
            Change::Unlink { .. } => "unlink",
            Change::RemoveDirectory { .. } => "rmdir",
            Change::Rename { .. } => "rename",
            Change::Write { .. } => "write",
            Change::Resize { .. } => "truncate",
            Change::Allocate { .. } => "fallocate",
            Change::SetAttributes { .. } => "setattr",
            Change::SetXattr { value: Some(_), .. } => "setxattr",
            Change::SetXattr { value: None, .. } => "removexattr",
        }
    }

    /// Which delay it gets.
    pub fn delay_class(&self) -> DelayClass {
        match self {
            Change::Make { attributes, .. } if attributes.kind == Kind::File => DelayClass::Data,
            Change::Write { .. } | Change::Resize { .. } | Change::Allocate { .. } => DelayClass::Data,
            _ => DelayClass::Names,
        }
    }

    /// The inode it is about.
    pub fn subject(&self) -> Ino {
        match self {
            Change::Make { ino, .. }
            | Change::Link { ino, .. }
            | Change::Unlink { ino, .. }
            | Change::RemoveDirectory { ino, .. }
            | Change::Rename { ino, .. }
            | Change::Write { ino, .. }
            | Change::Resize { ino, .. }
            | Change::Allocate { ino, .. }
            | Change::SetAttributes { ino, .. }
            | Change::SetXattr { ino, .. } => *ino,
        }
    }

    /// The names it touches, one or two.
    pub fn places(&self) -> Vec<&Place> {
        match self {
            Change::Make { place, .. }
            | Change::Link { place, .. }
            | Change::Unlink { place, .. }
            | Change::RemoveDirectory { place, .. } => vec![place],
            Change::Rename { from, to, .. } => vec![from, to],
            _ => vec![],
        }
    }

    /// Every inode whose attributes it may change: the subject, the directories of its names, what it replaces.
    pub fn inodes(&self) -> Vec<Ino> {
        let mut inodes = vec![self.subject()];
        inodes.extend(self.places().iter().map(|place| place.directory));
        if let Change::Rename { replaced: Some((replaced, _)), .. } = self {
            inodes.push(*replaced);
        }
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    }

    /// The things it touches and how (see the module).
    pub fn touches(&self) -> Vec<(Thing, Access)> {
        let mut things = Vec::with_capacity(4);
        for place in self.places() {
            things.push((Thing::Name(place.clone()), Access::Change));
            things.push((Thing::Inode(place.directory), Access::Use));
        }
        match self {
            Change::Unlink { .. } => {}
            Change::Link { ino, .. } => things.push((Thing::Inode(*ino), Access::Need)),
            Change::Rename { from, to, ino, kind, replaced, how } => {
                things.push((Thing::Inode(*ino), Access::Need));
                match replaced {
                    Some((other, _)) if *how == RenameHow::Exchange => {
                        things.push((Thing::Inode(*other), Access::Need));
                    }
                    // A directory is replaced only when it is empty, as it is removed.
                    Some((other, Kind::Directory)) => things.push((Thing::Inode(*other), Access::Change)),
                    _ => {}
                }
                let moves_a_tree = *kind == Kind::Directory || *how == RenameHow::Exchange;
                if moves_a_tree && from.directory != to.directory {
                    things.push((Thing::Tree, Access::Change));
                }
            }
            _ => things.push((Thing::Inode(self.subject()), Access::Change)),
        }
        things
    }

    /// How many bytes of data it carries.
    pub fn bytes(&self) -> u64 {
        match self {
            Change::Write { data, .. } => data.len() as u64,
            Change::SetXattr { value: Some(value), .. } => value.len() as u64,
            _ => 0,
        }
    }

    /// The part of its file's content that it decides.
    pub fn content_range(&self) -> Option<Range<u64>> {
        match self {
            Change::Write { offset, data, .. } => Some(*offset..*offset + data.len() as u64),
            Change::Resize { size, .. } => Some(*size..u64::MAX),
            Change::Allocate { mode, offset, length, .. } if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 => {
                Some(*offset..*offset + *length)
            }
            _ => None,
        }
    }
}

/// A change that a program has been told is done and that has not landed yet.
#[derive(Clone, Debug)]
pub struct Mutation {
    pub id: MutationId,
    pub change: Change,
    /// The wall clock when it was made: what the program sees as `mtime` and `ctime`.
    pub stamp: Timestamp,
}
