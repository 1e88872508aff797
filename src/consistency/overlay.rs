//! What this client's programs have been told is done, laid over what the backing directory shows.
//!
//! The overlay is kept up as mutations come and go, so that asking it costs the same however many are in flight. Each
//! thing in it remembers which mutation put it there last; when that one has landed the thing goes, and the backing
//! directory answers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use super::{
    attributes::{Attributes, Ino, Kind},
    extents::{Extents, Segment},
    mutation::{Change, KEEP_SIZE, Mutation, MutationId, Name, PUNCH_HOLE, Place, RenameHow},
};
use crate::time::Timestamp;

/// What stands at a name, as this client's mutations in flight have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Absent,
    Present { ino: Ino, kind: Kind },
}

/// A value and the mutation that set it last.
#[derive(Clone, Copy, Debug)]
struct By<T> {
    value: T,
    by: MutationId,
}

/// Sizes in flight. One inode's mutations land in order, so the oldest come off the front.
#[derive(Clone, Debug, Default)]
struct Sizes {
    /// The last truncation.
    set: Option<By<u64>>,
    /// Ends of writes since then, each higher than all behind it: the first is what the size is at least.
    at_least: VecDeque<By<u64>>,
}

impl Sizes {
    fn set(&mut self, value: u64, by: MutationId) {
        self.at_least.clear();
        self.set = Some(By { value, by });
    }

    fn at_least(&mut self, value: u64, by: MutationId) {
        while self.at_least.back().is_some_and(|last| last.value <= value) {
            self.at_least.pop_back();
        }
        self.at_least.push_back(By { value, by });
    }

    fn landed(&mut self, id: MutationId) {
        self.set = self.set.filter(|set| set.by != id);
        self.at_least.retain(|end| end.by != id);
    }

    fn over(&self, base: u64) -> u64 {
        let base = self.set.map_or(base, |set| set.value);
        self.at_least.front().map_or(base, |end| end.value.max(base))
    }

    fn is_empty(&self) -> bool {
        self.set.is_none() && self.at_least.is_empty()
    }
}

/// What is in flight for one inode.
#[derive(Clone, Debug, Default)]
struct InodeOverlay {
    /// How many mutations have a part in this.
    mutations: usize,
    /// The attributes it was made with, until its making has landed.
    made: Option<By<Attributes>>,
    target: Option<Arc<[u8]>>,
    permissions: Option<By<u32>>,
    /// Somebody wrote who may not leave setuid and setgid behind.
    setid_cleared: Option<By<()>>,
    uid: Option<By<u32>>,
    gid: Option<By<u32>>,
    atime: Option<By<Timestamp>>,
    mtime: Option<By<Timestamp>>,
    ctime: Option<By<Timestamp>>,
    links: i64,
    sizes: Sizes,
    content: Extents,
    content_bytes: u64,
    xattrs: BTreeMap<Name, By<Option<Arc<[u8]>>>>,
}

impl InodeOverlay {
    fn touch(&mut self, mutation: &Mutation) {
        self.ctime = Some(By { value: mutation.stamp, by: mutation.id });
    }

    fn modify(&mut self, mutation: &Mutation) {
        self.mtime = Some(By { value: mutation.stamp, by: mutation.id });
        self.touch(mutation);
    }

    fn view(&self, base: &Attributes, own_data: bool) -> Attributes {
        let base = self.made.as_ref().map_or(base, |made| &made.value);
        let mut view = *base;
        view.permissions = self.permissions.map_or(base.permissions, |by| by.value);
        if self.setid_cleared.is_some() {
            view.permissions = without_setid(view.permissions);
        }
        view.uid = self.uid.map_or(base.uid, |by| by.value);
        view.gid = self.gid.map_or(base.gid, |by| by.value);
        view.atime = self.atime.map_or(base.atime, |by| by.value);
        view.mtime = self.mtime.map_or(base.mtime, |by| by.value);
        view.ctime = self.ctime.map_or(base.ctime, |by| by.value);
        view.links = u32::try_from(i64::from(base.links) + self.links).unwrap_or(0);
        if own_data && !self.sizes.is_empty() {
            view.size = self.sizes.over(base.size);
            view.blocks = self.blocks(base, view.size);
        }
        view
    }

    /// How much the data in flight will occupy, as far as can be said before the store has decided.
    fn blocks(&self, base: &Attributes, size: u64) -> u64 {
        let blocks_of = |bytes: u64| bytes.div_ceil(4096) * 8;
        let kept = self.sizes.set.map_or(base.blocks, |set| base.blocks.min(blocks_of(set.value)));
        (kept + blocks_of(self.content_bytes)).min(blocks_of(size).max(base.blocks))
    }

    fn landed(&mut self, id: MutationId) {
        fn keep<T>(slot: &mut Option<By<T>>, id: MutationId) {
            if slot.as_ref().is_some_and(|by| by.by == id) {
                *slot = None;
            }
        }
        keep(&mut self.made, id);
        keep(&mut self.permissions, id);
        keep(&mut self.setid_cleared, id);
        keep(&mut self.uid, id);
        keep(&mut self.gid, id);
        keep(&mut self.atime, id);
        keep(&mut self.mtime, id);
        keep(&mut self.ctime, id);
        self.sizes.landed(id);
        self.xattrs.retain(|_, by| by.by != id);
    }
}

/// The whole overlay of one client.
#[derive(Debug, Default)]
pub struct Overlay {
    names: HashMap<Ino, BTreeMap<Name, By<Binding>>>,
    inodes: HashMap<Ino, InodeOverlay>,
}

impl Overlay {
    /// What mutations in flight say about a name; `None` if they say nothing.
    pub fn name(&self, place: &Place) -> Option<Binding> {
        self.names.get(&place.directory)?.get(&place.name).map(|by| by.value)
    }

    /// All they say about names in a directory, in order.
    pub fn names_in(&self, directory: Ino) -> impl Iterator<Item = (&Name, Binding)> {
        self.names.get(&directory).into_iter().flatten().map(|(name, by)| (name, by.value))
    }

    /// Whether anything in flight touches this inode.
    pub fn touches(&self, ino: Ino) -> bool {
        self.inodes.contains_key(&ino)
    }

    /// The attributes of an inode that has no backing inode yet.
    pub fn unlanded(&self, ino: Ino) -> Option<&Attributes> {
        self.inodes.get(&ino)?.made.as_ref().map(|made| &made.value)
    }

    /// The text of a symlink that has not landed.
    pub fn target(&self, ino: Ino) -> Option<Arc<[u8]>> {
        let inode = self.inodes.get(&ino)?;
        inode.made.as_ref().and(inode.target.clone())
    }

    /// What a program sees where the backing directory shows `base`. `own_data` lays sizes and blocks over it, too.
    pub fn view(&self, ino: Ino, base: &Attributes, own_data: bool) -> Attributes {
        self.inodes.get(&ino).map_or(*base, |inode| inode.view(base, own_data))
    }

    /// Whether data of this inode is in flight.
    pub fn has_data(&self, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(|inode| !inode.content.is_empty() || !inode.sizes.is_empty())
    }

    /// The content in flight within `range` of a file.
    pub fn content(&self, ino: Ino, range: Range<u64>) -> Vec<Segment> {
        self.inodes.get(&ino).map_or_else(Vec::new, |inode| inode.content.within(range))
    }

    /// What mutations in flight say about an extended attribute: a value, or that it is gone.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Option<Option<Arc<[u8]>>> {
        self.inodes.get(&ino)?.xattrs.get(name).map(|by| by.value.clone())
    }

    /// All they say about the extended attributes of an inode.
    pub fn xattrs(&self, ino: Ino) -> Vec<(Name, bool)> {
        let xattrs = self.inodes.get(&ino).map(|inode| &inode.xattrs);
        xattrs.into_iter().flatten().map(|(name, by)| (name.clone(), by.value.is_some())).collect()
    }

    /// Lays one more mutation on top.
    pub fn add(&mut self, mutation: &Mutation) {
        for ino in mutation.change.inodes() {
            self.inode(ino).mutations += 1;
        }
        self.inode(mutation.change.subject()).content_bytes += occupied_bytes(&mutation.change);
        for place in mutation.change.places() {
            self.inode(place.directory).modify(mutation);
        }
        match &mutation.change {
            Change::Make { place, ino, attributes, target } => {
                let inode = self.inode(*ino);
                inode.made = Some(By { value: *attributes, by: mutation.id });
                inode.target = Some(target.clone());
                self.bind(place, Binding::Present { ino: *ino, kind: attributes.kind }, mutation.id);
            }
            Change::Link { ino, kind, place } => {
                self.inode(*ino).touch(mutation);
                self.bind(place, Binding::Present { ino: *ino, kind: *kind }, mutation.id);
            }
            Change::Unlink { place, ino } | Change::RemoveDirectory { place, ino } => {
                self.inode(*ino).touch(mutation);
                self.bind(place, Binding::Absent, mutation.id);
            }
            Change::Rename { from, to, ino, kind, replaced, how } => {
                self.inode(*ino).touch(mutation);
                let mut left_behind = Binding::Absent;
                if let Some((other, kind)) = *replaced {
                    self.inode(other).touch(mutation);
                    if *how == RenameHow::Exchange {
                        left_behind = Binding::Present { ino: other, kind };
                    }
                }
                self.bind(from, left_behind, mutation.id);
                self.bind(to, Binding::Present { ino: *ino, kind: *kind }, mutation.id);
            }
            Change::Write { ino, offset, data, clears_setid } => {
                let inode = self.inode(*ino);
                inode.content.put(*offset, data.clone(), mutation.id);
                inode.sizes.at_least(*offset + data.len() as u64, mutation.id);
                self.modify_data(*ino, mutation, *clears_setid);
            }
            Change::Resize { ino, size, clears_setid } => {
                let inode = self.inode(*ino);
                inode.content.put_zeros(*size..u64::MAX, mutation.id);
                inode.sizes.set(*size, mutation.id);
                self.modify_data(*ino, mutation, *clears_setid);
            }
            Change::Allocate { ino, mode, offset, length } => self.add_allocation(*ino, *mode, *offset..*offset + *length, mutation),
            Change::SetAttributes { ino, change } => {
                let by = mutation.id;
                let inode = self.inode(*ino);
                if let Some(value) = change.permissions {
                    inode.permissions = Some(By { value, by });
                    inode.setid_cleared = None;
                }
                inode.uid = change.uid.map(|value| By { value, by }).or(inode.uid);
                inode.gid = change.gid.map(|value| By { value, by }).or(inode.gid);
                inode.atime = change.atime.map(|value| By { value, by }).or(inode.atime);
                inode.mtime = change.mtime.map(|value| By { value, by }).or(inode.mtime);
                inode.touch(mutation);
            }
            Change::SetXattr { ino, name, value } => {
                let inode = self.inode(*ino);
                inode.xattrs.insert(name.clone(), By { value: value.clone(), by: mutation.id });
                inode.touch(mutation);
            }
        }
        self.count_links(&mutation.change, 1);
    }

    fn add_allocation(&mut self, ino: Ino, mode: i32, range: Range<u64>, mutation: &Mutation) {
        let inode = self.inode(ino);
        if let Some(range) = mutation.change.content_range() {
            inode.content.put_zeros(range, mutation.id);
        }
        if mode & (KEEP_SIZE | PUNCH_HOLE) == 0 {
            inode.sizes.at_least(range.end, mutation.id);
        }
        inode.modify(mutation);
    }

    fn modify_data(&mut self, ino: Ino, mutation: &Mutation, clears_setid: bool) {
        let inode = self.inode(ino);
        inode.modify(mutation);
        if clears_setid {
            inode.setid_cleared = Some(By { value: (), by: mutation.id });
        }
    }

    fn inode(&mut self, ino: Ino) -> &mut InodeOverlay {
        self.inodes.entry(ino).or_default()
    }

    fn bind(&mut self, place: &Place, value: Binding, by: MutationId) {
        self.names.entry(place.directory).or_default().insert(place.name.clone(), By { value, by });
    }

    /// Adds (`sign` 1) or takes back (`sign` -1) what a change does to link counts.
    fn count_links(&mut self, change: &Change, sign: i64) {
        match change {
            Change::Make { place, attributes, .. } if attributes.kind == Kind::Directory => {
                self.inode(place.directory).links += sign;
            }
            Change::Link { ino, .. } => self.inode(*ino).links += sign,
            Change::Unlink { ino, .. } => self.inode(*ino).links -= sign,
            Change::RemoveDirectory { place, ino } => {
                self.inode(*ino).links -= 2 * sign;
                self.inode(place.directory).links -= sign;
            }
            Change::Rename { from, to, kind, replaced, how, .. } => {
                self.move_directory(*kind, from, to, sign);
                match replaced {
                    Some((_, kind)) if *how == RenameHow::Exchange => self.move_directory(*kind, to, from, sign),
                    Some((other, Kind::Directory)) => {
                        self.inode(*other).links -= 2 * sign;
                        self.inode(to.directory).links -= sign;
                    }
                    Some((other, _)) => self.inode(*other).links -= sign,
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn move_directory(&mut self, kind: Kind, from: &Place, to: &Place, sign: i64) {
        if kind == Kind::Directory {
            self.inode(from.directory).links -= sign;
            self.inode(to.directory).links += sign;
        }
    }

    /// Takes away a mutation that has landed or was dropped.
    pub fn remove(&mut self, mutation: &Mutation) {
        let (change, id) = (&mutation.change, mutation.id);
        self.count_links(change, -1);
        for place in change.places() {
            self.unbind(place, id);
        }
        let subject = self.inode(change.subject());
        subject.content_bytes -= occupied_bytes(change);
        if let Some(range) = change.content_range() {
            subject.content.remove(range, id);
        }
        for ino in change.inodes() {
            let inode = self.inode(ino);
            inode.landed(id);
            inode.mutations -= 1;
            if inode.mutations == 0 {
                self.inodes.remove(&ino);
            }
        }
    }

    fn unbind(&mut self, place: &Place, id: MutationId) {
        let Some(names) = self.names.get_mut(&place.directory) else { return };
        if names.get(&place.name).is_some_and(|by| by.by == id) {
            names.remove(&place.name);
        }
        if names.is_empty() {
            self.names.remove(&place.directory);
        }
    }
}

/// How many bytes a change asks the store to find room for.
fn occupied_bytes(change: &Change) -> u64 {
    match change {
        Change::Write { data, .. } => data.len() as u64,
        Change::Allocate { mode, length, .. } if mode & PUNCH_HOLE == 0 => *length,
        _ => 0,
    }
}

/// Permission bits after a write by somebody who may not keep setuid and setgid: setgid goes only where the group may
/// execute (without that it means something else, `inode(7)`).
pub fn without_setid(permissions: u32) -> u32 {
    let setgid = if permissions & 0o010 != 0 { 0o2000 } else { 0 };
    permissions & !(0o4000 | setgid)
}
