//! What this client's programs have been told is done, laid over what the backing directory shows.
//!
//! The overlay is kept up as mutations come and go, so that asking it costs the same however many are in flight. Each
//! thing in it remembers which mutation put it there last; when that one has landed the thing goes, and the backing
//! directory answers.

mod inode;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    attributes::{Attributes, Ino, Kind},
    extents::{Layout, Patch},
    mutation::{Change, KEEP_SIZE, Mutation, MutationId, Name, PUNCH_HOLE, Place, RenameHow},
};
use crate::hashing::HashMap;
use inode::{By, InodeOverlay};

/// What stands at a name, as this client's mutations in flight have it.
#[expect(missing_docs, reason = "the variants say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Absent,
    Present { ino: Ino, kind: Kind },
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

    /// A copy of the content in flight within `range` of a file.
    pub fn content(&self, ino: Ino, range: Range<u64>) -> Patch {
        self.inodes.get(&ino).map_or_else(Patch::default, |inode| inode.content.copy_of(range))
    }

    /// Where in `range` of a file data and holes in flight are, in blocks of `block` bytes.
    pub fn layout(&self, ino: Ino, range: Range<u64>, block: u64) -> Vec<(Range<u64>, Layout)> {
        match self.inodes.get(&ino) {
            Some(inode) => inode.content.layout(range, block),
            None => vec![(range, Layout::Below)],
        }
    }

    /// What mutations in flight say about an extended attribute: a value, or that it is gone.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Option<Option<Arc<[u8]>>> {
        let inode = self.inodes.get(&ino)?;
        let said = inode.xattrs.get(name);
        match inode.data {
            Some(data) if name == CAPABILITY && said.is_none_or(|said| said.by < data.by) => Some(None),
            _ => said.map(|by| by.value.clone()),
        }
    }

    /// All they say about the extended attributes of an inode: whether it has them.
    pub fn xattrs(&self, ino: Ino) -> Vec<(Name, bool)> {
        let Some(inode) = self.inodes.get(&ino) else { return Vec::new() };
        let said = inode.xattrs.keys().cloned();
        let names = said.chain(
            (inode.data.is_some() && !inode.xattrs.contains_key(CAPABILITY)).then(|| CAPABILITY.into()),
        );
        names
            .map(|name| (name.clone(), self.xattr(ino, &name).is_some_and(|value| value.is_some())))
            .collect()
    }

    /// Gives back the room in its tables that is for more than `room` entries.
    pub fn shrink_to(&mut self, room: usize) {
        self.names.shrink_to(room);
        self.inodes.shrink_to(room);
    }

    /// Whether nothing is left of any mutation.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.inodes.is_empty()
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
            Change::Make { .. } | Change::Link { .. } | Change::Rename { .. } => self.add_names(mutation),
            Change::Unlink { place, ino } | Change::RemoveDirectory { place, ino } => {
                self.inode(*ino).touch(mutation);
                self.bind(place, Binding::Absent, mutation.id);
            }
            Change::Write { .. } | Change::Resize { .. } | Change::Allocate { .. } => self.add_data(mutation),
            Change::SetAttributes { ino, change, .. } => self.inode(*ino).set(change, mutation),
            Change::SetXattr { ino, name, value, .. } => {
                let inode = self.inode(*ino);
                inode.xattrs.insert(name.clone(), By { value: value.clone(), by: mutation.id });
                inode.touch(mutation);
            }
        }
        self.count_links(&mutation.change, 1);
    }

    /// Lays a change on top that gives an inode a name.
    fn add_names(&mut self, mutation: &Mutation) {
        let by = mutation.id;
        match &mutation.change {
            Change::Make { place, ino, attributes, target, inherited } => {
                let inode = self.inode(*ino);
                inode.made = Some(By { value: *attributes, by });
                inode.target = Some(target.clone());
                let inherited = inherited.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
                inode.xattrs.extend(inherited.map(|(name, value)| (name, By { value, by })));
                self.bind(place, Binding::Present { ino: *ino, kind: attributes.kind }, by);
            }
            Change::Link { ino, kind, place } => {
                self.inode(*ino).touch(mutation);
                self.bind(place, Binding::Present { ino: *ino, kind: *kind }, by);
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
                self.bind(from, left_behind, by);
                self.bind(to, Binding::Present { ino: *ino, kind: *kind }, by);
            }
            _ => {}
        }
    }

    /// Lays a change of a file's data on top.
    fn add_data(&mut self, mutation: &Mutation) {
        match &mutation.change {
            Change::Write { ino, offset, data, clears } => {
                let inode = self.inode(*ino);
                inode.content.put(*offset, data.clone(), mutation.id);
                inode.sizes.at_least(*offset + data.len() as u64, mutation.id);
                self.modify_data(*ino, mutation, *clears);
            }
            Change::Resize { ino, size, clears } => {
                let inode = self.inode(*ino);
                inode.content.put_zeros(*size..u64::MAX, mutation.id);
                inode.sizes.set(*size, mutation.id);
                self.modify_data(*ino, mutation, *clears);
            }
            Change::Allocate { ino, mode, offset, length, clears } => {
                self.add_allocation(*ino, *mode, *offset..*offset + *length, mutation);
                self.inode(*ino).clear(*clears, mutation.id);
            }
            _ => {}
        }
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

    fn modify_data(&mut self, ino: Ino, mutation: &Mutation, clears: u32) {
        let inode = self.inode(ino);
        inode.modify(mutation);
        inode.data = Some(By { value: (), by: mutation.id });
        inode.clear(clears, mutation.id);
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
                    Some((_, kind)) if *how == RenameHow::Exchange => {
                        self.move_directory(*kind, to, from, sign)
                    }
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

/// The extended attribute that holds a file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// How many bytes a change asks the store to find room for.
fn occupied_bytes(change: &Change) -> u64 {
    match change {
        Change::Write { data, .. } => data.len() as u64,
        Change::Allocate { mode, length, .. } if mode & PUNCH_HOLE == 0 => *length,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
