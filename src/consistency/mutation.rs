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
//! | an inode | its making, its data, its attributes, its removal as a directory | whatever makes, moves or removes a name in it; its own move to another directory, if it is one | whatever links or moves it |
//! | how many names an inode has | whatever takes one away | whatever adds one | |
//! | the shape of the tree | a directory that moves to another directory | | |
//!
//! So one inode's data and attributes land in the order in which they were made (another client never sees a state of
//! a file that never was); a file is linked or renamed only with the data it had; a file that gets a new name before
//! it loses its old one has a name throughout; a directory goes only when the names inside have gone; and its times
//! and permissions change in order with the names made in it and with its own move (`rename(2)` asks for permission to
//! write to a directory that gets another parent). Two different files, and a flag file beside its data, share nothing
//! and land in any order.

use std::{ops::Range, sync::Arc};

use super::attributes::{AttributeChange, Attributes, Ino, Kind};
use crate::time::Timestamp;

/// A name in a directory: any bytes but `/` and NUL.
pub type Name = Arc<[u8]>;

/// A name and the directory it is in.
#[expect(missing_docs, reason = "the two parts of what it is")]
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
#[expect(missing_docs, reason = "each variant says what is special about its fields")]
#[derive(Clone, Debug)]
pub enum Change {
    /// A new inode with a name. `target` is a symlink's text, empty for everything else; `inherited` are the extended
    /// attributes that the store will give it by itself.
    Make {
        place: Place,
        ino: Ino,
        attributes: Attributes,
        target: Arc<[u8]>,
        inherited: Arc<[(Name, Arc<[u8]>)]>,
    },
    /// One more name for an inode.
    Link { ino: Ino, kind: Kind, place: Place },
    /// Removes a non-directory name.
    Unlink { place: Place, ino: Ino },
    /// Removes an empty directory.
    RemoveDirectory { place: Place, ino: Ino },
    /// An inode moves from one name to another. `replaced` is what stood at `to` in this client's view; for an
    /// exchange, what goes the other way.
    Rename { from: Place, to: Place, ino: Ino, kind: Kind, replaced: Option<(Ino, Kind)>, how: RenameHow },
    /// Bytes at an offset. `clears` are the permission bits that this writer takes away with it (`write(2)`): setuid and
    /// setgid, see [`setid_lost`].
    Write { ino: Ino, offset: u64, data: Arc<[u8]>, clears: u32 },
    /// `truncate(2)`, to shorter or longer.
    Resize { ino: Ino, size: u64, clears: u32 },
    /// `fallocate(2)` with its own mode bits.
    Allocate { ino: Ino, mode: i32, offset: u64, length: u64, clears: u32 },
    /// `chmod`, `chown`, `utimens`. It is made only while the inode belongs to `owner`, if that says whose it was when the
    /// caller was allowed to.
    SetAttributes { ino: Ino, change: AttributeChange, owner: Option<u32> },
    /// An extended attribute gets a value, or goes (`None`). `owner` as above.
    SetXattr { ino: Ino, name: Name, value: Option<Arc<[u8]>>, owner: Option<u32> },
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
    /// A name in a directory, whatever stands there.
    Name(Place),
    /// An inode's data and attributes.
    Inode(Ino),
    /// How many names an inode that is not a directory has.
    Links(Ino),
    /// The shape of the tree.
    Tree,
}

/// How a mutation touches a thing.
#[expect(missing_docs, reason = "explained in the module")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Change,
    Use,
    Need,
}

/// Which delay a change gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayClass {
    /// Data.
    Data,
    /// The size of a file, or what is allocated to it.
    Size,
    /// The making of a file.
    NewFile,
    /// Names, directories, everything else that is made, and attributes.
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
            Change::Make { attributes, .. } if attributes.kind == Kind::File => DelayClass::NewFile,
            Change::Write { .. } => DelayClass::Data,
            Change::Resize { .. } | Change::Allocate { .. } => DelayClass::Size,
            _ => DelayClass::Names,
        }
    }

    /// Whose the inode has to be for it to be made, if that matters.
    pub fn owner(&self) -> Option<u32> {
        match self {
            Change::SetAttributes { owner, .. } | Change::SetXattr { owner, .. } => *owner,
            _ => None,
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

    /// The inodes it is about: one, or the two that an exchange swaps.
    pub fn subjects(&self) -> Vec<Ino> {
        match self {
            Change::Rename { ino, replaced: Some((other, _)), how: RenameHow::Exchange, .. } => {
                vec![*ino, *other]
            }
            _ => vec![self.subject()],
        }
    }

    /// Whether it changes a file's data.
    pub fn is_data(&self) -> bool {
        matches!(self, Change::Write { .. } | Change::Resize { .. } | Change::Allocate { .. })
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
            Change::Unlink { ino, .. } => things.push((Thing::Links(*ino), Access::Change)),
            Change::Link { ino, .. } => {
                things.extend([(Thing::Inode(*ino), Access::Need), (Thing::Links(*ino), Access::Use)]);
            }
            Change::Rename { from, to, ino, kind, replaced, how } => {
                let leaves = from.directory != to.directory;
                let moved = |ino: Ino, kind: Kind| {
                    let access = if leaves && kind == Kind::Directory { Access::Use } else { Access::Need };
                    (Thing::Inode(ino), access)
                };
                things.push(moved(*ino, *kind));
                match *replaced {
                    Some((other, kind)) if *how == RenameHow::Exchange => things.push(moved(other, kind)),
                    // A directory is replaced only when it is empty, as it is removed.
                    Some((other, Kind::Directory)) => things.push((Thing::Inode(other), Access::Change)),
                    Some((other, _)) => things.push((Thing::Links(other), Access::Change)),
                    None => {}
                }
                if leaves && (*kind == Kind::Directory || *how == RenameHow::Exchange) {
                    things.push((Thing::Tree, Access::Change));
                }
            }
            _ => things.push((Thing::Inode(self.subject()), Access::Change)),
        }
        things
    }

    /// The inodes whose link counts it changes. A count is a sum, so unlike all else it cannot be laid over a base that
    /// has the change already: nobody may look at these while it lands.
    pub fn relinks(&self) -> Vec<Ino> {
        match self {
            Change::Make { place, attributes, .. } if attributes.kind == Kind::Directory => {
                vec![place.directory]
            }
            Change::Link { ino, .. } | Change::Unlink { ino, .. } => vec![*ino],
            Change::RemoveDirectory { place, ino } => vec![*ino, place.directory],
            Change::Rename { from, to, replaced, .. } => {
                let mut inodes = vec![from.directory, to.directory];
                inodes.extend(replaced.map(|(ino, _)| ino));
                inodes
            }
            _ => vec![],
        }
    }

    /// How many bytes of data it carries.
    pub fn bytes(&self) -> u64 {
        match self {
            Change::Write { data, .. } => data.len() as u64,
            Change::SetXattr { value: Some(value), .. } => value.len() as u64,
            _ => 0,
        }
    }

    /// How many bytes of memory it takes while it is in flight, about: what it carries, and what keeping, ordering and
    /// showing it takes, with the inode that it makes.
    pub fn cost(&self) -> u64 {
        /// A change with nothing in it.
        const BARE: u64 = 640;
        /// Each of its names, as far as it does not depend on how long it is.
        const NAME: u64 = 320;
        /// What an inode that is made takes besides.
        const INODE: u64 = 800;
        let names: u64 = self.places().iter().map(|place| NAME + 3 * place.name.len() as u64).sum();
        let carried = match self {
            Change::Make { target, inherited, .. } => {
                let of_pair = |(name, value): &(Name, Arc<[u8]>)| (name.len() + value.len()) as u64 + NAME;
                INODE + 3 * target.len() as u64 / 2 + inherited.iter().map(of_pair).sum::<u64>()
            }
            Change::SetXattr { name, value, .. } => {
                NAME + 2 * (name.len() + value.as_ref().map_or(0, |value| value.len())) as u64
            }
            _ => self.bytes(),
        };
        BARE + names + carried
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

/// The permission bits that a file loses when somebody who is not root changes its data: setuid; and setgid, unless it
/// does not mean "runs as the group" (no execution by the group) and the caller is in the group
/// (`setattr_should_drop_suidgid` in fs/attr.c).
pub fn setid_lost(permissions: u32, is_in_group: bool) -> u32 {
    let keeps_setgid = permissions & 0o010 == 0 && is_in_group;
    permissions & if keeps_setgid { 0o4000 } else { 0o6000 }
}

/// A change that a program has been told is done and that has not landed yet.
#[expect(missing_docs, reason = "as far as nothing else is said")]
#[derive(Clone, Debug)]
pub struct Mutation {
    pub id: MutationId,
    pub change: Change,
    /// The wall clock when it was made: what the program sees as `mtime` and `ctime`.
    pub stamp: Timestamp,
}

#[cfg(test)]
mod tests;
