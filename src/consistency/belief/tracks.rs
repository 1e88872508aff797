//! What is remembered of an inode for longer than its attributes are believed: how it was, to see at the next fetch whether
//! it has changed.
//!
//! Three things hang on that. Where lifetimes adapt, a fetch that finds no change doubles the next one (fs/nfs/inode.c,
//! `nfs_update_inode`). Bytes that were read go on being believed. And names and listings that are valid for as long as their
//! directory is unchanged carry the [version](Tracks::version) of it under which they were fetched.

use std::time::Duration;

use crate::{
    consistency::{
        attributes::{Attributes, Ino},
        mutation::{Name, Place},
        policy::{Evidence, Policy},
    },
    hashing::HashMap,
    time::{Time, Timestamp},
};

/// What shows in an inode's attributes that it has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    mtime: Timestamp,
    ctime: Timestamp,
    size: u64,
}

impl Seen {
    fn of(attributes: &Attributes) -> Seen {
        let Attributes { mtime, ctime, size, .. } = *attributes;
        Seen { mtime, ctime, size }
    }
}

/// How an inode was when it was fetched last.
#[derive(Clone, Debug)]
pub(super) struct Track {
    seen: Seen,
    /// How long this client takes it to be.
    size: u64,
    /// Any change since would show.
    is_settled: bool,
    /// For how long it is believed.
    pub(super) lifetime: Duration,
    /// When it was fetched.
    since: Time,
    /// Where it, a directory, was found last.
    place: Option<(Ino, Name)>,
    /// Since when it has been unchanged, as a number that no two states of any inodes share.
    version: u64,
}

/// What a fetch says about an inode.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) track: Track,
    /// It is as it was.
    pub(super) is_same: bool,
}

/// How inodes were when they were fetched last.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    of: HashMap<Ino, Track>,
    versions: u64,
}

impl Tracks {
    /// The number of an inode's state; 0, which is none, if it is not known.
    pub(super) fn version(&self, ino: Ino) -> u64 {
        self.of.get(&ino).map_or(0, |track| track.version)
    }

    /// What attributes that were fetched at `started` say.
    pub(super) fn judge(&self, ino: Ino, attributes: &Attributes, started: Time, policy: &Policy) -> Judged {
        let lifetime = policy.lifetimes.of_attributes(attributes.kind);
        let new = Track {
            seen: Seen::of(attributes),
            size: attributes.size,
            is_settled: attributes.is_settled,
            lifetime: lifetime.min,
            since: started,
            place: self.of.get(&ino).and_then(|before| before.place.clone()),
            version: self.versions + 1,
        };
        let Some(before) = self.of.get(&ino).filter(|before| before.seen == new.seen) else {
            return Judged { track: new, is_same: false };
        };
        let is_over = started >= before.since + before.lifetime;
        let doubled = if is_over { before.lifetime.saturating_mul(2) } else { before.lifetime };
        let is_same = match policy.evidence {
            Evidence::Nothing => false,
            Evidence::Times => true,
            Evidence::Counter => before.is_settled,
        };
        let version = if is_same { before.version } else { new.version };
        let lifetime = doubled.clamp(lifetime.min, lifetime.max);
        Judged { track: Track { lifetime, version, ..new }, is_same }
    }

    /// Remembers what was judged.
    pub(super) fn keep(&mut self, ino: Ino, judged: Judged) {
        self.versions += 1;
        self.of.insert(ino, judged.track);
    }

    /// A directory has been found at a name; where it was before, if that was another. It has only one.
    pub(super) fn found(&mut self, ino: Ino, at: &Place) -> Option<Place> {
        let place = &mut self.of.get_mut(&ino)?.place;
        let before = place.replace((at.directory, at.name.clone()))?;
        let before = Place::new(before.0, &before.1);
        (before != *at).then_some(before)
    }

    /// This client itself has changed a directory, which was `before` and is `after`. If nobody else has changed it since it
    /// was fetched, what is believed of its other names stays.
    pub(super) fn go_on(&mut self, ino: Ino, before: &Attributes, after: &Attributes) {
        self.versions += 1;
        let Some(track) = self.of.get_mut(&ino) else { return };
        if track.seen != Seen::of(before) || !track.is_settled {
            track.version = self.versions;
        }
        (track.seen, track.is_settled) = (Seen::of(after), after.is_settled);
    }

    /// The size that an inode had when it was fetched last, or was given here since.
    pub(super) fn size(&self, ino: Ino) -> Option<u64> {
        self.of.get(&ino).map(|track| track.size)
    }

    pub(super) fn set_size(&mut self, ino: Ino, size: u64) {
        if let Some(track) = self.of.get_mut(&ino) {
            track.size = size;
        }
    }

    pub(super) fn forget(&mut self, ino: Ino) {
        self.of.remove(&ino);
    }

    pub(super) fn clear(&mut self) {
        self.of.clear();
    }

    pub(super) fn shrink(&mut self) {
        if self.of.len() < self.of.capacity() / 2 {
            self.of.shrink_to_fit();
        }
    }
}
