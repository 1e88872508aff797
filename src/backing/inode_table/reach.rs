//! How real inodes are reached: by a descriptor that is held, by file handle, or by name from the nearest directory
//! above that is held.
//!
//! Descriptors may run short, and closing one needs others: before one is closed, its inode must be found where it is
//! known. So no step here needs more than three descriptors at a time, however deep the tree is, and a few are reserved
//! for such steps ([`crate::backing::share::Share::is_reserved`]): nothing that lasts is kept in those.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{Inner, Ino, InodeTable, NodeId, Place, Reach, TYPE_BITS};
use crate::{
    backing::sys::{self, FileHandle, Identity, Result},
    error::Error,
};

/// `S_IFDIR`.
const DIRECTORY: u32 = 0o040_000;

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The inode is wanted.
    Use,
    /// A descriptor is about to be closed. Nothing else is closed for that: it would never end.
    Closing,
}

/// A node whose real inode has to be opened.
struct Away {
    ino: Ino,
    identity: Identity,
    place: Place,
    handle: Option<FileHandle>,
}

impl InodeTable {
    /// The descriptor on the real inode, if it is held.
    pub fn held(&self, ino: Ino) -> Option<Arc<OwnedFd>> {
        let mut inner = self.lock();
        let node = inner.nodes.get_mut(&ino)?;
        node.warm = true;
        if let Reach::Descriptor(descriptor) = &node.reach { Some(descriptor.clone()) } else { None }
    }

    /// The same, opened again if it is not.
    ///
    /// # Errors
    /// ESTALE if the inode is not to be found any more, or never was (it has not landed).
    pub fn descriptor(&self, ino: Ino) -> Result<Arc<OwnedFd>> {
        match self.held(ino) {
            Some(held) => Ok(held),
            None => self.walk(ino, Purpose::Use),
        }
    }

    /// Opens a node from the nearest node above that is held or can be opened by its handle, one name at a time.
    fn walk(&self, ino: Ino, purpose: Purpose) -> Result<Arc<OwnedFd>> {
        // A loop can appear for a moment while two directories move; no way is longer than there are nodes.
        let longest = self.size().0;
        let mut way = Vec::new();
        let mut next = ino;
        let mut at = loop {
            let away = match self.whereabouts(next)? {
                Ok(descriptor) => break descriptor,
                Err(away) => away,
            };
            if let Some(opened) = self.open_by_handle(&away, purpose)? {
                break self.hold(away.ino, opened, purpose);
            }
            next = away.place.directory;
            way.push(away);
            if way.len() > longest {
                return Err(Error::Stale);
            }
        };
        while let Some(away) = way.pop() {
            let opened = self.open_by_name(at.as_fd(), &away, purpose)?;
            at = if is_kept(way.len(), purpose) {
                self.hold(away.ino, opened, purpose)
            } else {
                Arc::new(opened)
            };
        }
        Ok(at)
    }

    /// The descriptor of a node, or what is needed to open it.
    fn whereabouts(&self, ino: Ino) -> Result<std::result::Result<Arc<OwnedFd>, Away>> {
        let mut inner = self.lock();
        inner.known(ino)?;
        let node = inner.node(ino);
        node.warm = true;
        let handle = match &node.reach {
            Reach::Descriptor(descriptor) => return Ok(Ok(descriptor.clone())),
            Reach::Handle(handle) => Some(handle.clone()),
            Reach::Place => None,
        };
        let place = node.in_backing().clone();
        Ok(Err(Away { ino, identity: inner.landed(ino)?, place, handle }))
    }

    fn open_by_handle(&self, away: &Away, purpose: Purpose) -> Result<Option<OwnedFd>> {
        let handle = away.handle.as_ref().filter(|_| away.identity.device == self.device);
        let Some(handle) = handle else { return Ok(None) };
        match self.open(purpose, || sys::open_handle(self.root.as_fd(), handle)) {
            Ok(opened) => Ok(is_behind(opened.as_fd(), &away.identity)?.then_some(opened)),
            Err(error) if is_for_now(error) => Err(error),
            // It is gone, or there is no opening by handle: then by its name.
            Err(_) => Ok(None),
        }
    }

    fn open_by_name(&self, directory: BorrowedFd<'_>, away: &Away, purpose: Purpose) -> Result<OwnedFd> {
        match self.open(purpose, || sys::open_path(directory, &away.place.name)) {
            Ok(opened) if is_behind(opened.as_fd(), &away.identity)? => Ok(opened),
            Err(error) if error != Error::NotFound => Err(error),
            _ => Err(Error::Stale),
        }
    }

    fn open(&self, purpose: Purpose, mut open: impl FnMut() -> Result<OwnedFd>) -> Result<OwnedFd> {
        if purpose == Purpose::Use { self.retrying(open) } else { open() }
    }

    /// Leaves a descriptor with its node, and passes it on.
    fn hold(&self, ino: Ino, opened: OwnedFd, purpose: Purpose) -> Arc<OwnedFd> {
        let opened = Arc::new(opened);
        if self.share.is_reserved(opened.as_fd()) {
            return opened;
        }
        let surplus = self.lock().hold(ino, opened.clone());
        drop(surplus);
        if purpose == Purpose::Use {
            self.close_coldest();
        }
        opened
    }

    /// Opens what a program will keep open.
    ///
    /// # Errors
    /// EMFILE if only reserved descriptors are left; whatever `open` answers.
    pub fn open_lasting(&self, open: impl FnMut() -> Result<OwnedFd>) -> Result<OwnedFd> {
        self.lasting(self.retrying(open)?).ok_or(Error::TooManyOpen)
    }

    /// Whether a descriptor is one of those that nothing that lasts may have.
    pub fn is_reserved(&self, descriptor: BorrowedFd<'_>) -> bool {
        self.share.is_reserved(descriptor)
    }

    /// A descriptor that may be kept for as long as anybody likes: this one, or another one instead of one that is
    /// reserved. None if there is none.
    pub fn lasting(&self, opened: OwnedFd) -> Option<OwnedFd> {
        if !self.share.is_reserved(opened.as_fd()) {
            return Some(opened);
        }
        self.make_room();
        opened.try_clone().ok().filter(|again| !self.share.is_reserved(again.as_fd()))
    }

    /// Tries again after closing cold descriptors if this process has run out of them.
    pub fn retrying<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        match call() {
            Err(Error::TooManyOpen) => {
                self.make_room();
                call()
            }
            result => result,
        }
    }

    /// Closes half of what is held.
    fn make_room(&self) {
        let held = self.size().1;
        self.close_down_to(held / 2, 2 * held);
    }

    /// Keeps to the bound. A few at a time: there may be any number that cannot be closed, and one that is opened must
    /// not look at all of them.
    pub(super) fn close_coldest(&self) {
        const TRIES: usize = 4;
        self.close_down_to(self.share.size(), TRIES);
    }

    /// Closes descriptors until there are `target`, in so many tries at most.
    pub(super) fn close_down_to(&self, target: usize, tries: usize) {
        for _ in 0..tries {
            let coldest = {
                let mut inner = self.lock();
                if inner.descriptors > target { inner.coldest() } else { None }
            };
            let Some((id, descriptor)) = coldest else { break };
            let handle = if self.opens_by_handle { sys::file_handle(descriptor.as_fd()).ok() } else { None };
            // One that could not be found again, having lost its name or got another, keeps its descriptor.
            let findable = self.is_findable(id.ino, descriptor.as_fd(), handle.as_ref());
            let closing = if findable {
                self.lock().let_go(id, handle)
            } else {
                self.lock().queue_again(id);
                None
            };
            drop(closing);
        }
    }

    /// Closes a node's descriptor if it can be found again without; `false` if its inode has no name any more.
    pub fn rest(&self, ino: Ino) -> bool {
        let Some((id, descriptor)) = self.id_of(ino).zip(self.held(ino)) else { return true };
        if sys::stat(descriptor.as_fd()).is_ok_and(|stat| stat.links == 0) {
            return false;
        }
        let handle = if self.opens_by_handle { sys::file_handle(descriptor.as_fd()).ok() } else { None };
        if self.is_findable(ino, descriptor.as_fd(), handle.as_ref()) {
            let closing = self.lock().let_go(id, handle);
            drop(closing);
        }
        true
    }

    fn is_findable(&self, ino: Ino, descriptor: BorrowedFd<'_>, handle: Option<&FileHandle>) -> bool {
        let Ok(stat) = sys::stat(descriptor) else { return false };
        let by_handle = handle.is_some() && stat.identity.device == self.device;
        stat.links > 0 && (by_handle || self.is_in_its_place(ino, descriptor, &stat).unwrap_or(false))
    }

    /// Whether an inode is where the table has it. A directory tells by itself which directory it is in.
    fn is_in_its_place(&self, ino: Ino, descriptor: BorrowedFd<'_>, stat: &sys::Stat) -> Result<bool> {
        let (place, parent) = {
            let inner = self.lock();
            let place = inner.known(ino)?.in_backing().clone();
            let parent = inner.landed(place.directory)?;
            (place, parent)
        };
        if stat.mode & TYPE_BITS == DIRECTORY
            && let Ok(above) = sys::stat_at(descriptor, b"..")
        {
            let found = sys::stat_at(descriptor, &[b"../", &*place.name].concat());
            return Ok(above.identity == parent && found?.identity == stat.identity);
        }
        let directory = self.walk(place.directory, Purpose::Closing)?;
        Ok(sys::stat_at(directory.as_fd(), &place.name)?.identity == stat.identity)
    }
}

/// Whether a node so many steps before the end of a walk keeps its descriptor. The end does, and landmarks on the way,
/// the closer to the end the more: whoever goes on to walk from the directories above, one after the other, as `rm -r`
/// does, starts from one of them. So a tree of depth `n` is left in about `n` steps, and a single walk keeps `log n`.
fn is_kept(steps_left: usize, purpose: Purpose) -> bool {
    steps_left == 0 || (purpose == Purpose::Use && steps_left.is_power_of_two())
}

fn is_behind(descriptor: BorrowedFd<'_>, identity: &Identity) -> Result<bool> {
    Ok(sys::stat(descriptor)?.identity == *identity)
}

/// Whether a failure says nothing about the inode: there are no descriptors, there is no memory, or the device fails.
fn is_for_now(error: Error) -> bool {
    error.is_passing() || error.is_of_this_process()
}

impl Inner {
    /// Gives a node its descriptor; returns the one too many, to be closed outside the lock.
    pub(super) fn hold(&mut self, ino: Ino, descriptor: Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        let Some(node) = self.nodes.get_mut(&ino) else { return Some(descriptor) };
        if let Reach::Descriptor(surplus) = std::mem::replace(&mut node.reach, Reach::Descriptor(descriptor))
        {
            return Some(surplus);
        }
        self.opened.push_back((ino, node.serial));
        self.descriptors += 1;
        None
    }

    /// The descriptor to close next: the oldest that was not used since it was last passed over.
    fn coldest(&mut self) -> Option<(NodeId, Arc<OwnedFd>)> {
        for _ in 0..2 * self.opened.len() + 1 {
            let (ino, serial) = self.opened.pop_front()?;
            let Some(node) = self.nodes.get_mut(&ino).filter(|node| node.serial == serial) else { continue };
            let Reach::Descriptor(descriptor) = &node.reach else { continue };
            let descriptor = descriptor.clone();
            if node.warm {
                node.warm = false;
                self.opened.push_back((ino, serial));
                continue;
            }
            return Some((NodeId { ino, serial }, descriptor));
        }
        None
    }

    fn let_go(&mut self, id: NodeId, handle: Option<FileHandle>) -> Option<Arc<OwnedFd>> {
        let node = self.nodes.get_mut(&id.ino).filter(|node| node.serial == id.serial && node.is_held())?;
        let reach = handle.map_or(Reach::Place, Reach::Handle);
        let Reach::Descriptor(descriptor) = std::mem::replace(&mut node.reach, reach) else { return None };
        self.descriptors -= 1;
        Some(descriptor)
    }

    fn queue_again(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id.ino).filter(|node| node.serial == id.serial) {
            node.warm = true;
            self.opened.push_back((id.ino, id.serial));
        }
    }
}
