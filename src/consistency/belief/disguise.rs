//! The times that programs are shown for their own changes, where landing left others in the store.

use super::Belief;
use crate::{
    consistency::attributes::{Attributes, Ino},
    time::Timestamp,
};

/// The times that a landing left in the backing directory, and the ones the program has been shown for the same
/// change. As long as the backing directory shows `landed`, nobody else has changed the inode, and the program goes
/// on seeing the times it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disguise {
    landed: Times,
    shown: Times,
}

/// `mtime` and `ctime` in nanoseconds since 1970: a million of them are kept for a million known files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    mtime: i64,
    ctime: i64,
}

impl Times {
    /// None for what no clock shows: before 1677, after 2262.
    fn of(attributes: &Attributes) -> Option<Times> {
        Some(Times { mtime: attributes.mtime.as_nanos()?, ctime: attributes.ctime.as_nanos()? })
    }
}

impl Belief {
    /// The `mtime` that the backing directory shows where programs are shown `shown`.
    pub fn undisguised_mtime(&self, ino: Ino, shown: &Attributes) -> Timestamp {
        // mtime is compared on its own: another name gives an inode another `ctime` and leaves its `mtime`.
        let worn = |disguise: &&Disguise| shown.mtime.as_nanos() == Some(disguise.shown.mtime);
        let landed = self.disguises.get(&ino).filter(worn).map(|disguise| disguise.landed.mtime);
        landed.map_or(shown.mtime, Timestamp::from_nanos)
    }

    /// What to show for attributes that the backing directory shows.
    pub fn disguised(&self, ino: Ino, mut attributes: Attributes) -> Attributes {
        if let Some(disguise) = self.disguises.get(&ino) {
            // Each by itself: a change of attributes gives an inode another `ctime` and leaves its `mtime`.
            if attributes.mtime.as_nanos() == Some(disguise.landed.mtime) {
                attributes.mtime = Timestamp::from_nanos(disguise.shown.mtime);
            }
            if attributes.ctime.as_nanos() == Some(disguise.landed.ctime) {
                attributes.ctime = Timestamp::from_nanos(disguise.shown.ctime);
            }
        }
        attributes
    }

    /// A landing left an inode with the times of `landed`; its programs go on seeing those of `shown`. Of two landings
    /// at once the one that came later to the store counts.
    pub fn disguise(&mut self, ino: Ino, landed: &Attributes, shown: &Attributes) {
        let (landed, shown) = (Times::of(landed), Times::of(shown));
        let newer = |disguise: &Disguise| landed.is_some_and(|landed| disguise.landed.ctime > landed.ctime);
        if self.disguises.get(&ino).is_some_and(newer) {
            return;
        }
        match (landed, shown) {
            (Some(landed), Some(shown)) if landed != shown => {
                self.disguises.insert(ino, Disguise { landed, shown });
            }
            _ => drop(self.disguises.remove(&ino)),
        }
    }

    /// Whether programs have been shown other times of an inode than the store shows.
    pub fn is_disguised(&self, ino: Ino) -> bool {
        self.disguises.contains_key(&ino)
    }
}
