//! What this client's programs have been told is done, laid over what the backing directory shows.
//!
//! The overlay is kept up as mutations come and go, so that asking it costs the same however many are in flight. Each
//! thing in it remembers which mutation put it there last; when that one has landed the thing goes, and the backing
//! directory answers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use super::{
    attributes::{Attributes, Ino, Kind},
    extents::{Extents, Layout, Patch},
    mutation::{Change, KEEP_SIZE, Mutation, MutationId, Name, PUNCH_HOLE, Place, RenameHow},
};
use crate::{hashing::HashMap, time::Timestamp};

/// What stands at a name, as this client's mutations in flight have it.
#[expect(missing_docs, reason = "the variants say it")]
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

/// A time and the mutations that have changed it. It stays until all of them have landed: those on names in one
/// directory land in any order, and what one of them leaves behind is not the time of another.
#[derive(Clone, Debug)]
struct Stamped {
    value: Timestamp,
    by: BTreeSet<MutationId>,
}

fn stamp(slot: &mut Option<Stamped>, value: Timestamp, by: MutationId) {
    let stamped = slot.get_or_insert_with(|| Stamped { value, by: BTreeSet::new() });
    stamped.value = value;
    stamped.by.insert(by);
}

fn unstamp(slot: &mut Option<Stamped>, by: MutationId) {
    if let Some(stamped) = slot
        && stamped.by.remove(&by)
        && stamped.by.is_empty()
    {
        *slot = None;
    }
}

/// Sizes in flight. One inode's mutations land in order, so the oldest come off the front.
#[derive(Clone, Debug, Default)]
struct Sizes {
    /// The last truncation.
    set: Option<By<u64>>,
    /// Ends of writes since then in the order in which they were made, each higher than all behind it: the first is
    /// what the size is at least.
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
        if let Ok(at) = self.at_least.binary_search_by_key(&id, |end| end.by) {
            self.at_least.remove(at);
        }
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
    /// Permission bits that writes since then have taken away.
    cleared: Option<By<u32>>,
    /// The last change of data, which takes the file's capabilities away (`capabilities(7)`).
    data: Option<By<()>>,
    uid: Option<By<u32>>,
    gid: Option<By<u32>>,
    atime: Option<By<Timestamp>>,
    mtime: Option<Stamped>,
    ctime: Option<Stamped>,
    links: i64,
    sizes: Sizes,
    content: Extents,
    content_bytes: u64,
    xattrs: BTreeMap<Name, By<Option<Arc<[u8]>>>>,
}

impl InodeOverlay {
    fn touch(&mut self, mutation: &Mutation) {
        stamp(&mut self.ctime, mutation.stamp, mutation.id);
    }

    /// Takes permission bits away, whatever they are below.
    fn clear(&mut self, bits: u32, by: MutationId) {
        if bits != 0 {
            let before = self.cleared.map_or(0, |by| by.value);
            self.cleared = Some(By { value: before | bits, by });
        }
    }

    fn modify(&mut self, mutation: &Mutation) {
        stamp(&mut self.mtime, mutation.stamp, mutation.id);
        self.touch(mutation);
    }

    fn view(&self, base: &Attributes, own_data: bool) -> Attributes {
        let base = self.made.as_ref().map_or(base, |made| &made.value);
        let mut view = *base;
        view.permissions = self.permissions.map_or(base.permissions, |by| by.value);
        view.permissions &= !self.cleared.map_or(0, |by| by.value);
        view.uid = self.uid.map_or(base.uid, |by| by.value);
        view.gid = self.gid.map_or(base.gid, |by| by.value);
        view.atime = self.atime.map_or(base.atime, |by| by.value);
        view.mtime = self.mtime.as_ref().map_or(base.mtime, |stamped| stamped.value);
        view.ctime = self.ctime.as_ref().map_or(base.ctime, |stamped| stamped.value);
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
        keep(&mut self.cleared, id);
        keep(&mut self.data, id);
        keep(&mut self.uid, id);
        keep(&mut self.gid, id);
        keep(&mut self.atime, id);
        unstamp(&mut self.mtime, id);
        unstamp(&mut self.ctime, id);
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
            Change::Make { place, ino, attributes, target, inherited } => {
                let by = mutation.id;
                let inode = self.inode(*ino);
                inode.made = Some(By { value: *attributes, by });
                inode.target = Some(target.clone());
                let inherited = inherited.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
                inode.xattrs.extend(inherited.map(|(name, value)| (name, By { value, by })));
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
            Change::SetAttributes { ino, change, .. } => {
                let by = mutation.id;
                let inode = self.inode(*ino);
                if let Some(value) = change.permissions {
                    inode.permissions = Some(By { value, by });
                    inode.cleared = None;
                }
                inode.uid = change.uid.map(|value| By { value, by }).or(inode.uid);
                inode.gid = change.gid.map(|value| By { value, by }).or(inode.gid);
                inode.atime =
                    change.atime.map(|time| By { value: time.at(mutation.stamp), by }).or(inode.atime);
                if let Some(time) = change.mtime {
                    stamp(&mut inode.mtime, time.at(mutation.stamp), by);
                }
                inode.touch(mutation);
            }
            Change::SetXattr { ino, name, value, .. } => {
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
mod tests {
    use super::*;
    use crate::consistency::attributes::AttributeChange;

    const ROOT: Ino = 1;
    const DIRECTORY: Ino = 2;
    const FILE: Ino = 10;
    const OTHER: Ino = 11;

    /// An overlay and the mutations in it.
    #[derive(Default)]
    struct Laid {
        overlay: Overlay,
        mutations: Vec<Mutation>,
    }

    impl Laid {
        /// Adds the next change: the first has the number 1 and the stamp of second 1.
        fn add(&mut self, change: Change) -> &mut Laid {
            let id = self.mutations.len() as MutationId + 1;
            let mutation = Mutation { id, change, stamp: second(id as i64) };
            self.overlay.add(&mutation);
            self.mutations.push(mutation);
            self
        }

        fn land(&mut self, id: usize) -> &mut Laid {
            self.overlay.remove(&self.mutations[id - 1]);
            self
        }

        fn view(&self, ino: Ino, base: Attributes) -> Attributes {
            self.overlay.view(ino, &base, true)
        }

        fn size(&self, base: u64) -> u64 {
            self.view(FILE, file(base)).size
        }

        fn permissions(&self, base: u32) -> u32 {
            self.view(FILE, Attributes { permissions: base, ..file(0) }).permissions
        }

        fn names(&self, directory: Ino) -> Vec<(String, Binding)> {
            let names = self.overlay.names_in(directory);
            names.map(|(name, binding)| (String::from_utf8_lossy(name).into_owned(), binding)).collect()
        }

        fn content(&self, base: &str) -> String {
            let mut buffer = base.as_bytes().to_vec();
            buffer.resize(self.size(base.len() as u64) as usize, 0);
            self.overlay.content(FILE, 0..buffer.len() as u64).lay_over(&mut buffer, 0);
            String::from_utf8(buffer).unwrap().replace('\0', ".")
        }
    }

    fn laid(changes: impl IntoIterator<Item = Change>) -> Laid {
        let mut laid = Laid::default();
        for change in changes {
            laid.add(change);
        }
        laid
    }

    fn second(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn attributes(kind: Kind, size: u64) -> Attributes {
        Attributes::new(kind, 0o755, (0, 0), 0, size, second(0))
    }

    fn file(size: u64) -> Attributes {
        attributes(Kind::File, size)
    }

    fn at(name: &str) -> Place {
        Place::new(ROOT, name.as_bytes())
    }

    fn inside(name: &str) -> Place {
        Place::new(DIRECTORY, name.as_bytes())
    }

    fn present(ino: Ino, kind: Kind) -> Binding {
        Binding::Present { ino, kind }
    }

    fn make(place: Place, ino: Ino, kind: Kind) -> Change {
        let (attributes, target) = (attributes(kind, 0), b"text"[..].into());
        Change::Make { place, ino, attributes, target, inherited: [].into() }
    }

    fn write(offset: u64, text: &str) -> Change {
        Change::Write { ino: FILE, offset, data: text.as_bytes().into(), clears: 0 }
    }

    fn resize(size: u64) -> Change {
        Change::Resize { ino: FILE, size, clears: 0 }
    }

    fn allocate(mode: i32, offset: u64, length: u64) -> Change {
        Change::Allocate { ino: FILE, mode, offset, length, clears: 0 }
    }

    fn chmod(permissions: u32) -> Change {
        let change = AttributeChange { permissions: Some(permissions), ..AttributeChange::default() };
        Change::SetAttributes { ino: FILE, change, owner: None }
    }

    fn set_xattr(name: &str, value: Option<&str>) -> Change {
        let value = value.map(|value| value.as_bytes().into());
        Change::SetXattr { ino: FILE, name: name.as_bytes().into(), value, owner: None }
    }

    fn rename(from: Place, to: Place, kind: Kind, replaced: Option<Ino>, how: RenameHow) -> Change {
        Change::Rename { from, to, ino: FILE, kind, replaced: replaced.map(|ino| (ino, kind)), how }
    }

    #[test]
    fn a_new_file_is_there_until_its_making_has_landed() {
        let mut laid = laid([make(at("a"), FILE, Kind::File)]);
        assert_eq!(laid.overlay.name(&at("a")), Some(present(FILE, Kind::File)));
        assert_eq!(laid.overlay.name(&at("b")), None);
        assert_eq!(laid.overlay.unlanded(FILE), Some(&file(0)));
        assert!(laid.overlay.touches(FILE) && laid.overlay.touches(ROOT) && !laid.overlay.touches(OTHER));
        laid.land(1);
        assert_eq!(laid.overlay.unlanded(FILE), None);
        assert!(laid.overlay.is_empty());
    }

    #[test]
    fn a_new_symlink_has_its_text_until_it_has_landed() {
        let mut laid = laid([make(at("a"), FILE, Kind::Symlink), chmod(0o777)]);
        assert_eq!(laid.overlay.target(FILE).as_deref(), Some(&b"text"[..]));
        assert_eq!(laid.land(1).overlay.target(FILE), None, "the store answers");
    }

    #[test]
    fn the_last_change_of_a_name_counts_until_it_has_landed() {
        let unlink = Change::Unlink { place: at("a"), ino: FILE };
        let mut laid = laid([make(at("a"), FILE, Kind::File), unlink, make(at("a"), OTHER, Kind::Fifo)]);
        let last = [("a".to_owned(), present(OTHER, Kind::Fifo))];
        assert_eq!(laid.names(ROOT), last);
        assert_eq!(laid.land(1).land(2).names(ROOT), last);
        assert_eq!(laid.land(3).names(ROOT), []);
    }

    #[test]
    fn a_removed_name_is_absent() {
        let mut laid = laid([Change::RemoveDirectory { place: at("d"), ino: DIRECTORY }]);
        assert_eq!(laid.overlay.name(&at("d")), Some(Binding::Absent));
        assert_eq!(laid.land(1).overlay.name(&at("d")), None);
    }

    #[test]
    fn a_rename_over_a_file_takes_a_link_from_it() {
        let laid = laid([rename(at("a"), inside("b"), Kind::File, Some(OTHER), RenameHow::Replace)]);
        assert_eq!(laid.names(ROOT), [("a".to_owned(), Binding::Absent)]);
        assert_eq!(laid.names(DIRECTORY), [("b".to_owned(), present(FILE, Kind::File))]);
        assert_eq!((laid.view(OTHER, file(0)).links, laid.view(FILE, file(0)).links), (0, 1));
        let touched = [ROOT, DIRECTORY].map(|ino| laid.view(ino, attributes(Kind::Directory, 0)));
        assert_eq!(touched.map(|view| (view.links, view.mtime, view.ctime)), [(2, second(1), second(1)); 2]);
        assert_eq!(laid.view(OTHER, file(0)).ctime, second(1), "losing a name is a change");
    }

    #[test]
    fn an_exchange_leaves_the_other_behind() {
        let laid = laid([rename(at("a"), inside("b"), Kind::File, Some(OTHER), RenameHow::Exchange)]);
        assert_eq!(laid.names(ROOT), [("a".to_owned(), present(OTHER, Kind::File))]);
        assert_eq!(laid.names(DIRECTORY), [("b".to_owned(), present(FILE, Kind::File))]);
        assert_eq!(laid.view(OTHER, file(0)).links, 1);
    }

    #[test]
    fn files_count_their_names_as_links() {
        let link = Change::Link { ino: FILE, kind: Kind::File, place: at("b") };
        let unlink = |name| Change::Unlink { place: at(name), ino: FILE };
        let mut laid = laid([link, unlink("a")]);
        assert_eq!(laid.view(FILE, file(0)).links, 1);
        assert_eq!(laid.land(1).view(FILE, Attributes { links: 2, ..file(0) }).links, 1);
        assert_eq!(laid.add(unlink("b")).view(FILE, Attributes { links: 2, ..file(0) }).links, 0);
    }

    #[test]
    fn directories_count_the_directories_in_them_as_links() {
        let links = |laid: &Laid, ino, links| {
            laid.view(ino, Attributes { links, ..attributes(Kind::Directory, 0) }).links
        };
        let made = laid([make(inside("d"), 5, Kind::Directory), make(inside("f"), FILE, Kind::File)]);
        assert_eq!((links(&made, DIRECTORY, 2), links(&made, 5, 2)), (3, 2));
        let removed = laid([Change::RemoveDirectory { place: inside("d"), ino: 5 }]);
        assert_eq!((links(&removed, DIRECTORY, 3), links(&removed, 5, 2)), (2, 0));
        let moved = laid([rename(inside("d"), at("d"), Kind::Directory, None, RenameHow::Replace)]);
        assert_eq!((links(&moved, DIRECTORY, 3), links(&moved, ROOT, 3)), (2, 4));
        let over = laid([rename(inside("d"), at("e"), Kind::Directory, Some(5), RenameHow::Replace)]);
        assert_eq!([DIRECTORY, ROOT, 5].map(|ino| links(&over, ino, 3)), [2, 3, 1]);
        let swapped = laid([rename(inside("d"), at("e"), Kind::Directory, Some(5), RenameHow::Exchange)]);
        assert_eq!([DIRECTORY, ROOT, 5].map(|ino| links(&swapped, ino, 3)), [3, 3, 3]);
    }

    #[test]
    fn a_write_past_the_end_makes_a_file_longer_and_no_write_makes_it_shorter() {
        let mut laid = laid([write(3, "xy")]);
        assert_eq!([0, 4, 5, 6].map(|base| laid.size(base)), [5, 5, 5, 6]);
        assert_eq!(laid.land(1).size(0), 0);
    }

    #[test]
    fn sizes_follow_the_last_truncation_and_the_writes_after_it() {
        let mut laid = laid([write(0, "0123456789"), resize(3), write(6, "x"), write(4, "y")]);
        assert_eq!(laid.size(20), 7);
        assert_eq!(laid.land(1).size(20), 7);
        assert_eq!(laid.land(2).size(3), 7);
        assert_eq!(laid.land(3).size(7), 7);
        assert_eq!(laid.size(0), 5, "of the last write");
        assert_eq!(laid.land(4).size(7), 7);
        assert!(laid.overlay.is_empty());
    }

    #[test]
    fn an_allocation_makes_a_file_longer_unless_it_keeps_the_size() {
        assert_eq!(laid([allocate(0, 4, 6)]).size(0), 10);
        assert_eq!(laid([allocate(KEEP_SIZE, 4, 6)]).size(0), 0);
        assert_eq!(laid([allocate(PUNCH_HOLE | KEEP_SIZE, 4, 6)]).size(0), 0);
    }

    #[test]
    fn content_is_what_was_written_last() {
        let mut laid = laid([write(1, "bbbb"), write(2, "cc")]);
        assert_eq!(laid.content("aaaaaaa"), "abccbaa");
        assert_eq!(laid.land(1).content("abbbbaa"), "abccbaa");
        assert_eq!(laid.land(2).content("abccbaa"), "abccbaa");
        assert!(!laid.overlay.has_data(FILE));
    }

    #[test]
    fn what_a_truncation_cut_off_does_not_come_back() {
        let mut laid = laid([resize(2), resize(6), write(7, "z")]);
        assert_eq!(laid.content("aaaa"), "aa.....z");
        assert_eq!(laid.land(1).content("aa"), "aa.....z");
        assert_eq!(laid.land(2).content("aa...."), "aa.....z");
    }

    #[test]
    fn a_hole_reads_as_zeros_and_an_allocation_as_what_was_there() {
        assert_eq!(laid([allocate(PUNCH_HOLE | KEEP_SIZE, 1, 2)]).content("aaaa"), "a..a");
        assert_eq!(laid([allocate(0, 1, 2)]).content("aaaa"), "aaaa");
    }

    #[test]
    fn a_size_alone_and_a_hole_alone_are_data_and_attributes_are_not() {
        let has_data = |change| laid([change]).overlay.has_data(FILE);
        assert!(has_data(allocate(0, 4, 6)) && has_data(allocate(PUNCH_HOLE | KEEP_SIZE, 4, 6)));
        assert!(!has_data(chmod(0o600)) && !has_data(make(at("a"), FILE, Kind::File)));
    }

    #[test]
    fn without_own_data_sizes_and_blocks_are_those_of_the_store() {
        let laid = laid([write(0, "0123456789"), chmod(0o600)]);
        let view = laid.overlay.view(FILE, &file(3), false);
        assert_eq!((view.size, view.blocks, view.permissions), (3, 0, 0o600));
        assert!(laid.overlay.has_data(FILE));
    }

    #[test]
    fn data_in_flight_occupies_blocks_but_no_more_than_the_file_has_room_for() {
        let blocks = |changes: &[Change], base: Attributes| laid(changes.to_vec()).view(FILE, base).blocks;
        assert_eq!(blocks(&[write(0, "x")], file(0)), 8);
        assert_eq!(blocks(&[write(0, "x"), write(0, "x")], file(0)), 8);
        assert_eq!(blocks(&[write(1 << 20, "x")], file(0)), 8, "the rest is a hole");
        assert_eq!(blocks(&[allocate(0, 0, 8_193)], file(0)), 24);
        assert_eq!(blocks(&[resize(1)], Attributes { blocks: 80, ..file(40_000) }), 8);
        assert_eq!(blocks(&[chmod(0)], Attributes { blocks: 80, ..file(40_000) }), 80);
    }

    #[test]
    fn a_write_takes_capabilities_away_until_they_are_given_again() {
        let give = || set_xattr("security.capability", Some("all"));
        let mut laid = laid([give()]);
        let capability = |laid: &Laid| laid.overlay.xattr(FILE, b"security.capability");
        assert_eq!(capability(&laid), Some(Some(b"all"[..].into())));
        laid.add(write(0, "x"));
        assert_eq!(
            (capability(&laid), laid.overlay.xattrs(FILE)),
            (Some(None), vec![(b"security.capability"[..].into(), false)])
        );
        laid.add(give());
        assert_eq!(capability(&laid), Some(Some(b"all"[..].into())));
        assert_eq!(capability(laid.land(1).land(2).land(3)), None);
    }

    #[test]
    fn a_write_by_another_clears_setuid_and_setgid_until_they_are_set_again() {
        let clearing = Change::Write { ino: FILE, offset: 0, data: b"x"[..].into(), clears: 0o6000 };
        let mut laid = laid([write(0, "x")]);
        assert_eq!(laid.permissions(0o6755), 0o6755);
        assert_eq!(laid.add(clearing).permissions(0o6755), 0o755);
        assert_eq!(laid.add(chmod(0o4711)).permissions(0o6755), 0o4711);
        let allocating = Change::Allocate { ino: FILE, mode: 0, offset: 0, length: 1, clears: 0o6000 };
        assert_eq!(laid.add(allocating).permissions(0o6755), 0o711);
        assert_eq!(laid.land(1).land(2).land(3).permissions(0o4711), 0o711);
        assert_eq!(laid.land(4).permissions(0o4711), 0o4711);
    }

    #[test]
    fn attributes_that_are_set_hide_those_below_one_by_one() {
        let owner = AttributeChange { uid: Some(7), gid: Some(8), ..AttributeChange::default() };
        let times = AttributeChange {
            atime: Some(second(70)),
            mtime: Some(second(80)),
            ..AttributeChange::default()
        };
        let set = |change| Change::SetAttributes { ino: FILE, change, owner: None };
        let mut laid = laid([set(owner), set(times)]);
        let view = laid.view(FILE, file(0));
        assert_eq!((view.permissions, view.uid, view.gid), (0o755, 7, 8));
        assert_eq!((view.atime, view.mtime, view.ctime), (second(70), second(80), second(2)));
        let view = laid.land(1).view(FILE, file(0));
        assert_eq!((view.uid, view.gid, view.mtime), (0, 0, second(80)));
        assert_eq!(laid.land(2).view(FILE, file(0)), file(0));
    }

    #[test]
    fn data_changes_both_times_and_names_only_one() {
        let times = |change| {
            let view = laid([change]).view(FILE, file(0));
            (view.atime, view.mtime, view.ctime)
        };
        let (before, now) = (second(0), second(1));
        for change in [write(0, "x"), resize(0), allocate(KEEP_SIZE, 0, 1)] {
            assert_eq!(times(change.clone()), (before, now, now), "{change:?}");
        }
        let link = Change::Link { ino: FILE, kind: Kind::File, place: at("b") };
        let unlink = Change::Unlink { place: at("a"), ino: FILE };
        let moved = rename(at("a"), at("b"), Kind::File, None, RenameHow::Replace);
        for change in [chmod(0o600), set_xattr("user.a", None), link, unlink, moved] {
            assert_eq!(times(change.clone()), (before, before, now), "{change:?}");
        }
    }

    #[test]
    fn extended_attributes_are_set_and_go() {
        let mut laid =
            laid([set_xattr("user.a", Some("1")), set_xattr("user.b", Some("2")), set_xattr("user.a", None)]);
        assert_eq!(laid.overlay.xattr(FILE, b"user.a"), Some(None));
        assert_eq!(laid.overlay.xattr(FILE, b"user.b"), Some(Some(b"2"[..].into())));
        assert_eq!(laid.overlay.xattr(FILE, b"user.c"), None);
        assert_eq!(laid.overlay.xattrs(FILE), [(b"user.a"[..].into(), false), (b"user.b"[..].into(), true)]);
        assert_eq!(laid.land(1).overlay.xattr(FILE, b"user.a"), Some(None));
        assert_eq!(laid.land(2).land(3).overlay.xattrs(FILE), []);
        assert!(laid.overlay.is_empty());
    }
}
