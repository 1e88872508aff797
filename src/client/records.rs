//! What a client keeps of an inode, beside what it believes of it and what of it is in flight; and what has become of it.

use std::{os::fd::OwnedFd, sync::Arc};

use super::{
    Client, State,
    open_files::OpenFile,
    state::{HalfMade, Watched},
};
use crate::{consistency::Ino, error::Error, hashing::HashMap};

/// What has become of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was made here and is in flight.
    Unlanded,
    /// It is in the backing directory, as far as this client has been told.
    Present,
    /// The same, but it has lost its last name through this client, or is losing it just now.
    Removed,
    /// Nothing leads to it any more: it was lost before it landed, or is not known.
    Stale,
}

/// What is kept of one inode.
#[derive(Debug, Default)]
pub(super) struct InodeRecord {
    /// The latest landing error: its number, and what it was.
    pub(super) error: Option<(u64, Error)>,
    /// What is known of others' changes, while data of it is in flight.
    pub(super) watched: Option<Watched>,
    /// It has lost its last name through this client.
    pub(super) is_nameless: bool,
    /// Its landing has failed after something of it was in the store already.
    pub(super) half_made: Option<HalfMade>,
    /// Names have landed in it, a directory, since it was last synced.
    pub(super) is_unsynced: bool,
    /// It has just been found by a name whose former inode was gone when it was to be opened.
    pub(super) is_found: bool,
    /// A descriptor for landing data, kept while more of it is in flight.
    pub(super) writer: Option<Arc<OwnedFd>>,
}

static NOTHING: InodeRecord = InodeRecord {
    error: None,
    watched: None,
    is_nameless: false,
    half_made: None,
    is_unsynced: false,
    is_found: false,
    writer: None,
};

impl InodeRecord {
    fn is_empty(&self) -> bool {
        let InodeRecord { error, watched, is_nameless, half_made, is_unsynced, is_found, writer } = self;
        let keeps = error.is_some() || watched.is_some() || half_made.is_some() || writer.is_some();
        !keeps && !is_nameless && !is_unsynced && !is_found
    }
}

/// The records of all inodes of which something is kept.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_inode: HashMap<Ino, InodeRecord>,
    unsynced: usize,
    writers: usize,
}

impl Records {
    /// What is kept of an inode.
    pub(super) fn of(&self, ino: Ino) -> &InodeRecord {
        self.by_inode.get(&ino).unwrap_or(&NOTHING)
    }

    /// Changes what is kept of an inode.
    pub(super) fn change<T>(&mut self, ino: Ino, change: impl FnOnce(&mut InodeRecord) -> T) -> T {
        let record = self.by_inode.entry(ino).or_default();
        let before = (record.is_unsynced, record.writer.is_some());
        let changed = change(record);
        let after = (record.is_unsynced, record.writer.is_some());
        if record.is_empty() {
            self.by_inode.remove(&ino);
        }
        self.unsynced = self.unsynced + usize::from(after.0) - usize::from(before.0);
        self.writers = self.writers + usize::from(after.1) - usize::from(before.1);
        changed
    }

    /// Changes what is known of others' changes to a file, if it is watched.
    pub(super) fn watched(&mut self, ino: Ino) -> Option<&mut Watched> {
        self.by_inode.get_mut(&ino)?.watched.as_mut()
    }

    /// Takes something away from what is kept of an inode, if anything is. A descriptor is to be dropped outside all locks.
    pub(super) fn take<T: Default>(&mut self, ino: Ino, take: impl FnOnce(&mut InodeRecord) -> T) -> T {
        if self.by_inode.contains_key(&ino) { self.change(ino, take) } else { T::default() }
    }

    /// Whether there is any directory to sync.
    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced > 0
    }

    /// How many descriptors are kept.
    pub(super) fn writers(&self) -> usize {
        self.writers
    }

    /// The inodes of which something is kept.
    #[cfg(test)]
    pub(super) fn inodes(&self) -> Vec<Ino> {
        self.by_inode.keys().copied().collect()
    }
}

impl Client {
    /// Reports a failed landing of this file's data once to each open file (`close(2)`, `fsync(2)`).
    pub(super) fn report_late_error(&self, file: &OpenFile) -> Result<(), Error> {
        let latest = self.lock().records.of(file.ino).error;
        match latest {
            Some((number, error)) if file.learns_of(number) => Err(error),
            _ => Ok(()),
        }
    }

    /// What has become of an inode.
    pub(super) fn fate(&self, state: &State, ino: Ino) -> Fate {
        if state.in_flight.overlay().unlanded(ino).is_some() {
            Fate::Unlanded
        } else if !self.table.has_landed(ino) {
            Fate::Stale
        } else if state.has_removed(ino) {
            Fate::Removed
        } else {
            Fate::Present
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_there_while_it_holds_anything_and_what_it_holds_is_counted() {
        let mut records = Records::default();
        records.change(3, |record| record.is_unsynced = true);
        records.change(3, |record| record.is_nameless = true);
        assert!(records.has_unsynced() && records.of(3).is_nameless && !records.of(4).is_nameless);
        records.change(3, |record| record.is_unsynced = false);
        assert_eq!((records.has_unsynced(), records.inodes()), (false, vec![3]));
        let descriptor = std::fs::File::open("/").expect("the root").into();
        records.change(4, |record| record.writer = Some(Arc::new(descriptor)));
        assert_eq!(records.writers(), 1);
        let mut forget = || records.take(4, std::mem::take);
        assert!(forget().writer.is_some() && forget().writer.is_none());
        records.change(3, |record| record.is_nameless = false);
        assert_eq!((records.writers(), records.inodes()), (0, vec![]));
    }
}
