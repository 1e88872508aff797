//! The obvious model of a store: inodes as plain maps, changed at once. What a real store would refuse is a panic.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use crate::{
    consistency::{
        attributes::{AttributeChange, Attributes, Ino, Kind},
        mutation::{Change, KEEP_SIZE, Name, PUNCH_HOLE, Place, RenameHow, ZERO_RANGE},
    },
    time::Timestamp,
};

/// The directory that is always there.
pub const ROOT: Ino = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub made: Attributes,
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// The stamp of the change that set `mtime`.
    pub mtime_set: Timestamp,
    pub data: Vec<u8>,
    pub target: Arc<[u8]>,
    pub entries: BTreeMap<Name, Ino>,
    pub xattrs: BTreeMap<Name, Arc<[u8]>>,
}

impl Node {
    fn new(made: Attributes, target: Arc<[u8]>) -> Node {
        Node {
            made,
            permissions: made.permissions,
            uid: made.uid,
            gid: made.gid,
            atime: made.atime,
            mtime: made.mtime,
            ctime: made.ctime,
            mtime_set: made.mtime,
            data: Vec::new(),
            target,
            entries: BTreeMap::new(),
            xattrs: BTreeMap::new(),
        }
    }

    fn touch(&mut self, stamp: Timestamp) {
        self.ctime = self.ctime.max(stamp);
    }

    /// The change made last decides, whichever lands last.
    fn modify(&mut self, stamp: Timestamp) {
        if stamp > self.mtime_set {
            (self.mtime, self.mtime_set) = (stamp, stamp);
        }
        self.touch(stamp);
    }

    fn modify_data(&mut self, stamp: Timestamp, clears: u32) {
        assert!(stamp > self.mtime_set, "data of one inode out of order");
        self.modify(stamp);
        self.permissions &= !clears;
    }

    fn fill(&mut self, range: Range<usize>, byte: u8) {
        let end = range.end.min(self.data.len());
        self.data[range.start.min(end)..end].fill(byte);
    }

    fn reach(&mut self, size: usize) {
        let size = size.max(self.data.len());
        self.data.resize(size, 0);
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Inodes without a name stay: somebody may have them open.
    pub nodes: BTreeMap<Ino, Node>,
}

impl Store {
    pub fn new() -> Store {
        let root = Attributes::new(Kind::Directory, 0o755, (0, 0), 0, 0, Timestamp::default());
        Store { nodes: BTreeMap::from([(ROOT, Node::new(root, [].into()))]) }
    }

    /// Every name there is.
    pub fn entries(&self) -> Vec<(Place, Ino)> {
        let in_directory = |(directory, node): (&Ino, &Node)| {
            let directory = *directory;
            let entries = node.entries.clone().into_iter();
            entries.map(move |(name, ino)| (Place { directory, name }, ino)).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(in_directory).collect()
    }

    pub fn kind(&self, ino: Ino) -> Kind {
        self.nodes[&ino].made.kind
    }

    pub fn at(&self, place: &Place) -> Option<Ino> {
        self.nodes[&place.directory].entries.get(&place.name).copied()
    }

    pub fn links(&self, ino: Ino) -> u32 {
        let names = self.entries().iter().filter(|(_, named)| *named == ino).count() as u32;
        if self.kind(ino) != Kind::Directory {
            return names;
        }
        let inside = self.nodes[&ino].entries.values();
        let directories = inside.filter(|ino| self.kind(**ino) == Kind::Directory).count() as u32;
        if names > 0 || ino == ROOT { 2 + directories } else { 0 }
    }

    pub fn attributes(&self, ino: Ino) -> Attributes {
        let node = &self.nodes[&ino];
        let size = if node.made.kind == Kind::File { node.data.len() as u64 } else { node.made.size };
        Attributes {
            permissions: node.permissions,
            links: self.links(ino),
            uid: node.uid,
            gid: node.gid,
            size,
            atime: node.atime,
            mtime: node.mtime,
            ctime: node.ctime,
            ..node.made
        }
    }

    /// Whether `directory` is `ino` or lies within it.
    pub fn is_within(&self, directory: Ino, ino: Ino) -> bool {
        let parent =
            |ino: Ino| self.entries().iter().find(|(_, named)| *named == ino).map(|(at, _)| at.directory);
        std::iter::successors(Some(directory), |directory| parent(*directory))
            .any(|directory| directory == ino)
    }

    pub fn apply(&mut self, change: &Change, stamp: Timestamp) {
        match change {
            Change::Make { place, ino, attributes, target, .. } => {
                let node = Node::new(*attributes, target.clone());
                assert!(self.nodes.insert(*ino, node).is_none(), "made twice");
                self.bind(place, *ino, stamp);
            }
            Change::Link { ino, place, .. } => {
                assert!(self.links(*ino) > 0, "link to a file that has gone");
                self.bind(place, *ino, stamp);
            }
            Change::Unlink { place, ino } => self.unbind(place, *ino, stamp),
            Change::RemoveDirectory { place, ino } => self.remove_directory(place, *ino, stamp),
            Change::Rename { from, to, ino, replaced, how, .. } => {
                self.rename((from, *ino), (to, replaced.map(|(other, _)| other)), *how, stamp);
            }
            Change::SetAttributes { ino, change, .. } => self.set_attributes(*ino, change, stamp),
            Change::SetXattr { ino, name, value, .. } => self.set_xattr(*ino, name, value, stamp),
            _ => self.apply_data(change, stamp),
        }
    }

    fn node(&mut self, ino: Ino) -> &mut Node {
        self.nodes.get_mut(&ino).expect("an inode that has been made")
    }

    fn bind(&mut self, place: &Place, ino: Ino, stamp: Timestamp) {
        assert!(self.links(place.directory) > 0, "a name in a removed directory");
        let directory = self.node(place.directory);
        assert!(directory.entries.insert(place.name.clone(), ino).is_none(), "name exists");
        directory.modify(stamp);
        self.node(ino).touch(stamp);
    }

    fn unbind(&mut self, place: &Place, ino: Ino, stamp: Timestamp) {
        let directory = self.node(place.directory);
        assert_eq!(directory.entries.remove(&place.name), Some(ino), "another stands there");
        directory.modify(stamp);
        self.node(ino).touch(stamp);
    }

    fn remove_directory(&mut self, place: &Place, ino: Ino, stamp: Timestamp) {
        assert!(self.nodes[&ino].entries.is_empty(), "directory not empty");
        self.unbind(place, ino, stamp);
    }

    fn rename(&mut self, from: (&Place, Ino), to: (&Place, Option<Ino>), how: RenameHow, stamp: Timestamp) {
        assert!(!self.is_within(to.0.directory, from.1), "directory moved into itself");
        if let (RenameHow::Exchange, Some(other)) = (how, to.1) {
            assert!(!self.is_within(from.0.directory, other), "directory moved into itself");
        }
        self.unbind(from.0, from.1, stamp);
        match to.1 {
            Some(other) if how == RenameHow::Exchange => {
                self.unbind(to.0, other, stamp);
                self.bind(from.0, other, stamp);
            }
            Some(other) => self.remove_directory(to.0, other, stamp),
            None => {}
        }
        self.bind(to.0, from.1, stamp);
    }

    fn set_attributes(&mut self, ino: Ino, change: &AttributeChange, stamp: Timestamp) {
        let node = self.node(ino);
        assert!(stamp > node.mtime_set, "attributes of one inode out of order");
        node.permissions = change.permissions.unwrap_or(node.permissions);
        node.uid = change.uid.unwrap_or(node.uid);
        node.gid = change.gid.unwrap_or(node.gid);
        node.atime = change.atime.unwrap_or(node.atime);
        if let Some(mtime) = change.mtime {
            (node.mtime, node.mtime_set) = (mtime, stamp);
        }
        node.touch(stamp);
    }

    fn set_xattr(&mut self, ino: Ino, name: &Name, value: &Option<Arc<[u8]>>, stamp: Timestamp) {
        let node = self.node(ino);
        node.touch(stamp);
        match value {
            Some(value) => drop(node.xattrs.insert(name.clone(), value.clone())),
            None => assert!(node.xattrs.remove(name).is_some(), "no such attribute"),
        }
    }

    fn apply_data(&mut self, change: &Change, stamp: Timestamp) {
        let node = self.node(change.subject());
        match change {
            Change::Write { offset, data, clears, .. } => {
                let range = *offset as usize..*offset as usize + data.len();
                node.reach(range.end);
                node.data[range].copy_from_slice(data);
                node.modify_data(stamp, *clears);
            }
            Change::Resize { size, clears, .. } => {
                node.data.resize(*size as usize, 0);
                node.modify_data(stamp, *clears);
            }
            Change::Allocate { mode, offset, length, clears, .. } => {
                let range = *offset as usize..(*offset + *length) as usize;
                if mode & KEEP_SIZE == 0 {
                    node.reach(range.end);
                }
                if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
                    node.fill(range, 0);
                }
                node.modify_data(stamp, *clears);
            }
            _ => unreachable!("all other changes are applied elsewhere"),
        }
    }
}
