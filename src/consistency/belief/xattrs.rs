//! Extended attributes: they are believed for as long as the attributes are under which they were fetched.

use std::{collections::BTreeMap, sync::Arc};

use super::Belief;
use crate::{
    consistency::{attributes::Ino, mutation::Name},
    hashing::HashMap,
    time::Time,
};

/// Values of one inode and the fetch of the attributes that they go with.
#[derive(Debug, Default)]
struct OfInode {
    of: u64,
    values: BTreeMap<Name, Option<Arc<[u8]>>>,
}

/// Values of all inodes.
#[derive(Debug, Default)]
pub(super) struct Xattrs(HashMap<Ino, OfInode>);

impl Xattrs {
    pub(super) fn forget(&mut self, ino: Ino) {
        self.0.remove(&ino);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn shrink(&mut self) {
        if self.0.len() < self.0.capacity() / 2 {
            self.0.shrink_to_fit();
        }
    }
}

impl Belief {
    /// The value believed of an extended attribute: `Some(None)` is that it is not there.
    pub fn xattr(&self, ino: Ino, name: &[u8], now: Time) -> Option<Option<Arc<[u8]>>> {
        let of = self.attributes.get(&ino, now)?.number;
        let known = self.xattrs.0.get(&ino).filter(|known| known.of == of)?;
        known.values.get(name).cloned()
    }

    /// The fetch of the attributes that a value belongs to which is fetched now; none if it is not to be believed.
    pub fn fetch_xattr(&self, ino: Ino, now: Time) -> Option<u64> {
        self.attributes.get(&ino, now).map(|believed| believed.number)
    }

    /// Believes a value that was fetched while the attributes of the fetch numbered `of` were believed, if they still are.
    pub fn believe_xattr(&mut self, ino: Ino, of: u64, name: &[u8], value: Option<Arc<[u8]>>, now: Time) {
        if self.fetch_xattr(ino, now) != Some(of) {
            return;
        }
        let known = self.xattrs.0.entry(ino).or_default();
        if known.of != of {
            *known = OfInode { of, values: BTreeMap::new() };
        }
        known.values.insert(name.into(), value);
    }
}
