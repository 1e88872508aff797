//! Inode numbers and the real inodes behind them.
//!
//! A node lives as long as the kernel knows its number (lookups, `forget`), this process needs it (pins: open files,
//! mutations in flight), it is the directory in which another node is found, or it lingers: something is still known of it
//! that programs would miss. Its real inode is held by an `O_PATH` descriptor, as an NFS client holds a file handle:
//! another client's rename moves nothing under this one. Descriptors are bounded: past the bound the coldest are
//! closed, and opened again on demand by file handle or by name, checking that it is still the same inode.

mod nodes;
mod reach;

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    share::Share,
    sys::{self, FileHandle, Identity, Result, Stat},
};
use crate::hashing::HashMap;
use nodes::number_of;

/// The number by which the kernel and programs know an inode.
pub type Ino = u64;

/// The root's number, fixed by the FUSE protocol.
pub const ROOT: Ino = 1;

/// Numbers for inodes without a free backing number start here, far above what file systems use.
const FIRST_PRIVATE: Ino = 1 << 62;

/// A name in a directory.
#[derive(Clone, Debug)]
struct Place {
    directory: Ino,
    name: Box<[u8]>,
}

/// How the real inode is found.
#[derive(Debug)]
enum Reach {
    /// Where it is.
    Place,
    /// It is held.
    Descriptor(Arc<OwnedFd>),
    /// By what it had when its descriptor was closed, then where it is.
    Handle(FileHandle),
}

#[derive(Debug)]
struct Node {
    serial: u64,
    /// The real inode; `None` until it has landed.
    identity: Option<Identity>,
    /// The type bits of its mode.
    kind: u32,
    lookups: u64,
    pins: u32,
    /// Neither the kernel nor this process uses it, and it stays all the same.
    lingers: bool,
    /// How many nodes are found by a name in this one.
    children: u32,
    /// Where this client's programs know it.
    place: Place,
    /// Where it is in the backing directory, if that is elsewhere because a rename is in flight.
    backing_place: Option<Box<Place>>,
    reach: Reach,
    /// Used since the last look for cold ones.
    warm: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Boxed, because a hash table may be half empty and there may be a million nodes.
    nodes: HashMap<Ino, Box<Node>>,
    /// Real inodes by (device, number), the newest with that number, where the node has a number of its own.
    by_number: HashMap<(u64, u64), Ino>,
    /// Nodes with a descriptor, the one opened first in front; some have lost it again.
    opened: VecDeque<(Ino, u64)>,
    descriptors: usize,
    /// What was found last at names that fall on the same guess.
    guesses: Guesses,
    /// Directories that may have lost their last use when a node was moved out of them.
    abandoned: Vec<Ino>,
    next_private: Ino,
    last_serial: u64,
}

/// Which node was found at a name lately, by the whole hash of the name: most names that fall on another's guess are
/// told from it without a look at the node. A guess may be wrong or missing, and is no more than a reason to look there
/// first.
#[derive(Debug)]
struct Guesses(Box<[(u64, Ino)]>);

impl Default for Guesses {
    fn default() -> Guesses {
        Guesses(vec![(0, 0); Guesses::MOST].into())
    }
}

/// What has become of a node when a reference to it was dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The nodes that are gone: it, and directories that were only kept for it.
    pub gone: Vec<Ino>,
    /// Nobody uses it any more, and it stays, from now on or once more.
    pub begins_to_linger: bool,
}

/// A node as others may know it: a number that was forgotten and given out again has another serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId {
    pub ino: Ino,
    pub serial: u64,
}

/// All nodes of one client. Its lock is never held over a system call.
#[derive(Debug)]
pub struct InodeTable {
    inner: Mutex<Inner>,
    root: Arc<OwnedFd>,
    device: u64,
    share: Share,
    /// Whether this process may open inodes by their file handles.
    opens_by_handle: bool,
}

impl InodeTable {
    /// A table with the root only, which keeps at most its share of descriptors open.
    ///
    /// # Errors
    /// What `statx(2)` of the root answers.
    pub fn new(root: OwnedFd, share: Share) -> Result<InodeTable> {
        let root = Arc::new(root);
        let stat = sys::stat(root.as_fd())?;
        let mut inner = Inner { next_private: FIRST_PRIVATE, ..Inner::default() };
        inner.nodes.insert(
            ROOT,
            Box::new(Node {
                serial: 0,
                identity: Some(stat.identity),
                kind: stat.mode & TYPE_BITS,
                lookups: 1,
                pins: 1,
                lingers: false,
                children: 0,
                place: Place { directory: ROOT, name: Box::default() },
                backing_place: None,
                reach: Reach::Descriptor(root.clone()),
                warm: true,
            }),
        );
        inner.by_number.insert(number_of(&stat.identity), ROOT);
        Ok(InodeTable {
            inner: Mutex::new(inner),
            root,
            device: stat.identity.device,
            share,
            opens_by_handle: sys::is_root(),
        })
    }

    /// The root's own descriptor.
    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more lookup by the kernel of a node that `id` names, unless it is gone.
    pub fn look_up(&self, id: NodeId) -> bool {
        match self.lock().nodes.get_mut(&id.ino) {
            Some(node) if node.serial == id.serial => {
                node.lookups += 1;
                true
            }
            _ => false,
        }
    }

    /// The node behind a number that is in use.
    pub fn id_of(&self, ino: Ino) -> Option<NodeId> {
        self.lock().nodes.get(&ino).map(|node| NodeId { ino, serial: node.serial })
    }

    /// The type bits of a node's mode.
    ///
    /// # Errors
    /// ESTALE if nothing is known under this number.
    pub fn kind(&self, ino: Ino) -> Result<u32> {
        self.lock().known(ino).map(|node| node.kind)
    }

    /// The node of an inode found at `name`, made if it is new, with one more lookup. `descriptor` becomes its handle
    /// if it has none.
    pub fn intern(&self, stat: &Stat, descriptor: Option<OwnedFd>, directory: Ino, name: &[u8]) -> NodeId {
        let descriptor = descriptor.and_then(|descriptor| self.lasting(descriptor));
        let surplus;
        let id;
        {
            let mut inner = self.lock();
            let known = inner.find(&stat.identity);
            let ino = known.unwrap_or_else(|| inner.add(self.device, stat, directory, name));
            id = inner.found_at(ino, directory, name);
            let is_held = inner.node(ino).is_held();
            surplus = match descriptor {
                Some(descriptor) if !is_held => inner.hold(ino, Arc::new(descriptor)),
                other => other.map(Arc::new),
            };
        }
        drop(surplus);
        self.close_coldest();
        id
    }

    /// Whether what stands at `name` is probably a node that is held by a descriptor.
    pub fn is_likely_held(&self, directory: Ino, name: &[u8]) -> bool {
        let inner = self.lock();
        let guessed = inner.guesses.get(directory, name).and_then(|ino| inner.nodes.get(&ino));
        guessed.is_some_and(|node| node.is_held() && node.place.is(directory, name))
    }

    /// The node of an inode found at `name`, if it is held by a descriptor, with one more lookup.
    pub fn intern_held(&self, stat: &Stat, directory: Ino, name: &[u8]) -> Option<NodeId> {
        let mut inner = self.lock();
        let ino = inner.find(&stat.identity)?;
        inner.node(ino).is_held().then(|| inner.found_at(ino, directory, name))
    }

    /// A node for an inode that has no backing inode yet, with one lookup. Its number is private and stays.
    pub fn make(&self, kind: u32, directory: Ino, name: &[u8]) -> NodeId {
        let mut inner = self.lock();
        let ino = inner.private_number();
        inner.insert(ino, None, kind, directory, name);
        let node = inner.node(ino);
        node.lookups = 1;
        NodeId { ino, serial: node.serial }
    }

    /// A made node has landed at this place: `stat` is its real inode. If that inode has a number here already (another
    /// client's file was taken over), both numbers lead to it.
    pub fn bind(&self, ino: Ino, stat: &Stat, descriptor: Option<OwnedFd>, directory: Ino, name: &[u8]) {
        let descriptor = descriptor.and_then(|descriptor| self.lasting(descriptor));
        let surplus = {
            let mut inner = self.lock();
            let Some(node) = inner.nodes.get_mut(&ino) else { return };
            node.identity = Some(stat.identity);
            inner.landed_at(ino, directory, name);
            if inner.find(&stat.identity).is_none() {
                inner.by_number.insert(number_of(&stat.identity), ino);
            }
            descriptor.and_then(|descriptor| inner.hold(ino, Arc::new(descriptor)))
        };
        drop(surplus);
        self.close_coldest();
    }

    /// The kernel takes back `count` lookups. With `lingers` a node that nobody uses any more stays, until
    /// [`InodeTable::end_lingering`].
    pub fn forget(&self, ino: Ino, count: u64, lingers: bool) -> Dropped {
        self.drop_reference(ino, lingers, |node| node.lookups = node.lookups.saturating_sub(count))
    }

    /// Keeps a node whatever the kernel forgets, until [`InodeTable::unpin`].
    pub fn pin(&self, ino: Ino) {
        if let Some(node) = self.lock().nodes.get_mut(&ino) {
            node.pins += 1;
        }
    }

    /// Takes one pin back, as a `forget` takes lookups.
    pub fn unpin(&self, ino: Ino, lingers: bool) -> Dropped {
        self.drop_reference(ino, lingers, |node| node.pins = node.pins.saturating_sub(1))
    }

    /// A node lingers no more. Returns the nodes that are gone with that.
    pub fn end_lingering(&self, ino: Ino) -> Vec<Ino> {
        self.drop_reference(ino, false, |node| node.lingers = false).gone
    }

    fn drop_reference(&self, ino: Ino, lingers: bool, drop_it: impl FnOnce(&mut Node)) -> Dropped {
        let mut inner = self.lock();
        let Some(node) = inner.nodes.get_mut(&ino) else { return Dropped::default() };
        let was_used = !node.is_left_alone();
        drop_it(node);
        let begins_to_linger = lingers && was_used && node.is_left_alone() && node.identity.is_some();
        node.lingers |= begins_to_linger;
        let gone = inner.take_unused(ino);
        // Their descriptors are closed outside the lock.
        drop(inner);
        Dropped { gone: gone.iter().map(|(ino, _)| *ino).collect(), begins_to_linger }
    }

    /// Whether programs would see another number if the node were made anew: it has one of ours.
    pub fn has_private_number(&self, ino: Ino) -> bool {
        self.lock().nodes.get(&ino).and_then(|node| node.identity).is_some_and(|identity| identity.ino != ino)
    }

    /// Gives back what the table has grown by, if most of it is empty.
    pub fn shrink(&self) {
        let mut inner = self.lock();
        if inner.nodes.len() < inner.nodes.capacity() / 2 {
            inner.nodes.shrink_to_fit();
            inner.by_number.shrink_to_fit();
            inner.opened.shrink_to_fit();
        }
    }

    /// Whether anybody could still ask for the node: the kernel, or more than `pins` users here.
    pub fn is_wanted(&self, ino: Ino, pins: u32) -> bool {
        self.lock().nodes.get(&ino).is_some_and(|node| node.lookups > 0 || node.pins > pins)
    }

    /// This client's programs know the node at another place now. With `landed` the backing directory does, too.
    pub fn moved(&self, ino: Ino, directory: Ino, name: &[u8], landed: bool) {
        let mut inner = self.lock();
        let Some(node) = inner.nodes.get(&ino) else { return };
        if landed {
            inner.set_backing_place(ino, None);
        } else if node.identity.is_some() && node.backing_place.is_none() {
            let place = node.place.clone();
            inner.set_backing_place(ino, Some(place));
        }
        inner.move_to(ino, directory, name);
    }

    /// A rename of the node has landed at this place.
    pub fn landed_at(&self, ino: Ino, directory: Ino, name: &[u8]) {
        self.lock().landed_at(ino, directory, name);
    }

    /// The name by which programs know the node, and the directory it is in.
    ///
    /// # Errors
    /// ESTALE if nothing is known under this number.
    pub fn place(&self, ino: Ino) -> Result<(Ino, Box<[u8]>)> {
        self.lock().known(ino).map(|node| (node.place.directory, node.place.name.clone()))
    }

    /// Whether the node has a real inode.
    pub fn has_landed(&self, ino: Ino) -> bool {
        self.lock().nodes.get(&ino).is_some_and(|node| node.identity.is_some())
    }

    /// The number under which a real inode is known.
    pub fn number(&self, identity: &Identity) -> Option<Ino> {
        self.lock().find(identity)
    }

    /// The real inode behind a node; none while it has not landed.
    pub fn identity(&self, ino: Ino) -> Option<Identity> {
        self.lock().landed(ino).ok()
    }

    /// The directory in which programs know the node.
    pub fn parent(&self, ino: Ino) -> Ino {
        self.lock().nodes.get(&ino).map_or(ROOT, |node| node.place.directory)
    }

    /// The path by which programs know the node, from the root (`/`). It is a name for people, draws and logs; nothing
    /// is ever opened by it.
    pub fn path(&self, ino: Ino) -> Vec<u8> {
        let inner = self.lock();
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        // A loop can appear for a moment while two directories move; no real path is this deep.
        while at != ROOT && names.len() < 4096 {
            let Some(node) = inner.nodes.get(&at) else { break };
            names.push(&node.place.name);
            at = node.place.directory;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// The number under which an entry of a listing is or would be known.
    pub fn shown_number(&self, device: u64, ino: u64) -> Ino {
        self.lock().by_number.get(&(device, ino)).copied().unwrap_or(ino)
    }

    /// Closes every descriptor that can be opened again.
    #[cfg(test)]
    pub fn close_all(&self) {
        let held = self.size().1;
        self.close_down_to(0, 2 * held);
    }

    /// How many nodes there are, and how many hold a descriptor.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.nodes.len(), inner.descriptors)
    }
}

/// `S_IFMT`: the type bits of a mode.
const TYPE_BITS: u32 = 0o170_000;

#[cfg(test)]
mod tests;
