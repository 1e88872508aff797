//! What is in flight of one inode.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    consistency::{
        attributes::{AttributeChange, Attributes},
        extents::Extents,
        mutation::{Mutation, MutationId, Name},
    },
    time::Timestamp,
};

/// A value and the mutation that set it last.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<T> {
    pub(super) value: T,
    pub(super) by: MutationId,
}

/// A time and the mutations that have changed it. It stays until all of them have landed: those on names in one
/// directory land in any order, and what one of them leaves behind is not the time of another.
#[derive(Clone, Debug)]
pub(super) struct Stamped {
    pub(super) value: Timestamp,
    pub(super) by: BTreeSet<MutationId>,
}

pub(super) fn stamp(slot: &mut Option<Stamped>, value: Timestamp, by: MutationId) {
    let stamped = slot.get_or_insert_with(|| Stamped { value, by: BTreeSet::new() });
    stamped.value = value;
    stamped.by.insert(by);
}

pub(super) fn unstamp(slot: &mut Option<Stamped>, by: MutationId) {
    if let Some(stamped) = slot
        && stamped.by.remove(&by)
        && stamped.by.is_empty()
    {
        *slot = None;
    }
}

/// Sizes in flight. One inode's mutations land in order, so the oldest come off the front.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    /// The last truncation.
    pub(super) set: Option<By<u64>>,
    /// Ends of writes since then in the order in which they were made, each higher than all behind it: the first is
    /// what the size is at least.
    pub(super) at_least: VecDeque<By<u64>>,
}

impl Sizes {
    pub(super) fn set(&mut self, value: u64, by: MutationId) {
        self.at_least.clear();
        self.set = Some(By { value, by });
    }

    pub(super) fn at_least(&mut self, value: u64, by: MutationId) {
        while self.at_least.back().is_some_and(|last| last.value <= value) {
            self.at_least.pop_back();
        }
        self.at_least.push_back(By { value, by });
    }

    pub(super) fn landed(&mut self, id: MutationId) {
        self.set = self.set.filter(|set| set.by != id);
        if let Ok(at) = self.at_least.binary_search_by_key(&id, |end| end.by) {
            self.at_least.remove(at);
        }
    }

    pub(super) fn over(&self, base: u64) -> u64 {
        let base = self.set.map_or(base, |set| set.value);
        self.at_least.front().map_or(base, |end| end.value.max(base))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_none() && self.at_least.is_empty()
    }
}

/// What is in flight for one inode.
#[derive(Clone, Debug, Default)]
pub(super) struct InodeOverlay {
    /// How many mutations have a part in this.
    pub(super) mutations: usize,
    /// The attributes it was made with, until its making has landed.
    pub(super) made: Option<By<Attributes>>,
    pub(super) target: Option<Arc<[u8]>>,
    pub(super) permissions: Option<By<u32>>,
    /// Permission bits that writes since then have taken away.
    pub(super) cleared: Option<By<u32>>,
    /// The last change of data, which takes the file's capabilities away (`capabilities(7)`).
    pub(super) data: Option<By<()>>,
    pub(super) uid: Option<By<u32>>,
    pub(super) gid: Option<By<u32>>,
    pub(super) atime: Option<By<Timestamp>>,
    pub(super) mtime: Option<Stamped>,
    pub(super) ctime: Option<Stamped>,
    pub(super) links: i64,
    pub(super) sizes: Sizes,
    pub(super) content: Extents,
    pub(super) content_bytes: u64,
    pub(super) xattrs: BTreeMap<Name, By<Option<Arc<[u8]>>>>,
}

impl InodeOverlay {
    pub(super) fn touch(&mut self, mutation: &Mutation) {
        stamp(&mut self.ctime, mutation.stamp, mutation.id);
    }

    /// Takes permission bits away, whatever they are below.
    pub(super) fn clear(&mut self, bits: u32, by: MutationId) {
        if bits != 0 {
            let before = self.cleared.map_or(0, |by| by.value);
            self.cleared = Some(By { value: before | bits, by });
        }
    }

    pub(super) fn modify(&mut self, mutation: &Mutation) {
        stamp(&mut self.mtime, mutation.stamp, mutation.id);
        self.touch(mutation);
    }

    pub(super) fn set(&mut self, change: &AttributeChange, mutation: &Mutation) {
        let by = mutation.id;
        if let Some(value) = change.permissions {
            self.permissions = Some(By { value, by });
            self.cleared = None;
        }
        self.uid = change.uid.map(|value| By { value, by }).or(self.uid);
        self.gid = change.gid.map(|value| By { value, by }).or(self.gid);
        self.atime = change.atime.map(|time| By { value: time.at(mutation.stamp), by }).or(self.atime);
        if let Some(time) = change.mtime {
            stamp(&mut self.mtime, time.at(mutation.stamp), by);
        }
        self.touch(mutation);
    }

    pub(super) fn view(&self, base: &Attributes, own_data: bool) -> Attributes {
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
    pub(super) fn blocks(&self, base: &Attributes, size: u64) -> u64 {
        let blocks_of = |bytes: u64| bytes.div_ceil(4096) * 8;
        let kept = self.sizes.set.map_or(base.blocks, |set| base.blocks.min(blocks_of(set.value)));
        (kept + blocks_of(self.content_bytes)).min(blocks_of(size).max(base.blocks))
    }

    pub(super) fn landed(&mut self, id: MutationId) {
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
