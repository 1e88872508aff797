//! Values that are believed until they expire, and fetches that may be overtaken.
//!
//! A fetch takes time. If the client itself changes the object meanwhile, what the fetch brings is older than what the
//! client knows, and believing it would take its own programs back in time. So a fetch starts with a [`Ticket`], and
//! [`Cache::believe`] refuses a ticket that an [`Cache::invalidate`] of the same key has overtaken. It also
//! refuses one while which another fetch of the same key was believed: nobody knows which of the two saw more, and a
//! program may have been shown the other's answer already.
//!
//! A value counts as fetched when its fetch *started* (the Linux NFS client dates its attributes the same way,
//! fs/nfs/inode.c), and carries its own end: what was fetched then and for how long it is believed are fixed when it is
//! believed, so that no answer is ever older than its lifetime.

use std::{
    hash::{BuildHasher, Hash},
    time::Duration,
};

use indexmap::{IndexMap, map};

use crate::{hashing::Hasher, time::Time};

/// A fetch under way. The epoch belongs to a group of keys: a ticket may be refused although its own key was not
/// touched (once in `GROUPS` times), which costs a second fetch and never truth.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    group: usize,
    epoch: u32,
    /// How many fetches had been believed when this one started.
    after: u64,
    started: Time,
    /// What else it hangs on, as a number that means something to whoever started it.
    pub under: u64,
}

impl Ticket {
    /// When the fetch started.
    pub fn started(&self) -> Time {
        self.started
    }
}

const GROUPS: usize = 1024;

/// On each insert this many entries are checked in turn, and dropped if they have expired: a cache of a million entries is
/// never swept all at once.
const LOOKED_AT: usize = 4;

/// A value that is believed.
#[derive(Clone, Copy, Debug)]
pub struct Believed<V> {
    /// What was fetched.
    pub value: V,
    /// When its fetch started.
    pub fetched: Time,
    /// It is believed until just before then.
    pub until: Time,
    /// The number of its fetch, in the order in which they were believed: no two beliefs of one cache have the same.
    pub number: u64,
}

#[derive(Debug)]
struct Entry<V> {
    believed: Believed<V>,
    /// The entries believed before and after it, by their indices.
    older: u32,
    newer: u32,
}

/// No entry.
const NONE: u32 = u32::MAX;

/// Values by key, each believed until its own end. What has expired goes a little at a time as other values come, so
/// that it never makes up more than a part of the cache.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: IndexMap<K, Entry<V>, Hasher>,
    /// The entries believed first and last.
    oldest: u32,
    newest: u32,
    /// How many bytes an entry takes.
    cost: fn(&K, &V) -> u64,
    /// How many all entries take.
    held: u64,
    /// Where among the entries sweeping goes on.
    sweep_cursor: usize,
    epochs: Box<[u32]>,
    /// For each group the number of the latest fetch that was believed and has gone by itself.
    gone: Box<[u64]>,
    /// The number of the fetch believed last.
    count: u64,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// A cache that believes nothing yet. `cost` says how many bytes an entry takes.
    pub fn new(cost: fn(&K, &V) -> u64) -> Cache<K, V> {
        Cache {
            entries: IndexMap::default(),
            oldest: NONE,
            newest: NONE,
            cost,
            held: 0,
            sweep_cursor: 0,
            epochs: vec![0; GROUPS].into(),
            gone: vec![0; GROUPS].into(),
            count: 0,
        }
    }

    /// How many bytes all that is believed takes, with what has expired and has not been swept out yet.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The number of the fetch that was believed first.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.get_index(self.oldest as usize).map(|(_, entry)| entry.believed.number)
    }

    /// The number of the fetch that was believed last.
    pub fn newest(&self) -> u64 {
        self.count
    }

    /// The next fetch that is believed gets a number above `number`: several caches can share one order.
    pub fn number_from(&mut self, number: u64) {
        self.count = self.count.max(number);
    }

    /// Forgets what was believed first.
    pub fn evict_oldest(&mut self) -> Option<K> {
        self.let_go(self.oldest as usize)
    }

    /// Takes out an entry that goes by itself. A program may have been shown it already, and nothing older may be shown
    /// after it: fetches of the same key that started before it was believed are overtaken.
    fn let_go(&mut self, index: usize) -> Option<K> {
        let (key, entry) = self.entries.get_index(index)?;
        let gone = &mut self.gone[group_of(key)];
        *gone = entry.believed.number.max(*gone);
        self.take(index).map(|(key, _)| key)
    }

    /// From `now` on nothing is believed for longer than `lifetime` says, counted from when it was fetched. What is over by
    /// that is forgotten.
    pub fn shorten(&mut self, lifetime: impl Fn(&V) -> Duration, now: Time) {
        for entry in self.entries.values_mut() {
            let Believed { value, fetched, until, .. } = &mut entry.believed;
            *until = (*until).min(*fetched + lifetime(value));
        }
        self.drop_expired(now);
    }

    /// What is believed of `key` at `now`: from the moment it was fetched until just before its end.
    pub fn get(&self, key: &K, now: Time) -> Option<&Believed<V>> {
        self.entries.get(key).map(|entry| &entry.believed).filter(|believed| now < believed.until)
    }

    /// The number of the fetch of `key` that was believed last, whether or not its time is over.
    pub fn number_of(&self, key: &K) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.believed.number)
    }

    /// Starts a fetch of `key`.
    pub fn start_fetch(&self, key: &K, now: Time) -> Ticket {
        let group = group_of(key);
        Ticket { group, epoch: self.epochs[group], after: self.count, started: now, under: 0 }
    }

    /// Whether the client has changed the object since the fetch started, or has believed and forgotten another one.
    pub fn is_overtaken(&self, ticket: Ticket) -> bool {
        self.epochs[ticket.group] != ticket.epoch || self.gone[ticket.group] > ticket.after
    }

    /// Ends a fetch: believes `value` for `lifetime`, or refuses it (`false`) because the client changed the object, or
    /// believed another fetch of it, meanwhile. With a lifetime of zero it is as good and yet never believed.
    pub fn believe(&mut self, ticket: Ticket, key: K, value: V, lifetime: Duration) -> bool {
        let is_newer = |entry: &Entry<V>| {
            entry.believed.number > ticket.after || entry.believed.fetched > ticket.started
        };
        if self.is_overtaken(ticket) {
            return false;
        }
        if lifetime.is_zero() {
            return true;
        }
        let number = self.count + 1;
        let cost = (self.cost)(&key, &value);
        let (fetched, until) = (ticket.started, ticket.started + lifetime);
        let entry = Entry { believed: Believed { value, fetched, until, number }, older: NONE, newer: NONE };
        let index = match self.entries.entry(key) {
            map::Entry::Occupied(believed) if is_newer(believed.get()) => return false,
            map::Entry::Occupied(mut believed) => {
                let index = believed.index();
                let links = (believed.get().older, believed.get().newer);
                self.held -= (self.cost)(believed.key(), &believed.get().believed.value);
                believed.insert(entry);
                self.join(links.0, links.1);
                index
            }
            map::Entry::Vacant(place) => {
                let index = place.index();
                place.insert(entry);
                index
            }
        };
        self.held += cost;
        self.put_last(index as u32);
        self.count = number;
        self.sweep(ticket.started);
        true
    }

    /// Forgets what is believed of `key` and overtakes its fetches.
    pub fn invalidate(&mut self, key: &K) -> Option<V> {
        let group = group_of(key);
        self.epochs[group] = self.epochs[group].wrapping_add(1);
        let index = self.entries.get_index_of(key)?;
        self.take(index).map(|(_, value)| value)
    }

    /// Sweeps out what has expired and gives back what the cache has grown by, if most of it is empty.
    pub fn shrink(&mut self, now: Time) {
        self.drop_expired(now);
        if self.entries.len() < self.entries.capacity() / 2 {
            self.entries.shrink_to_fit();
        }
    }

    /// Forgets everything and overtakes every fetch.
    pub fn invalidate_all(&mut self) {
        self.entries.clear();
        (self.oldest, self.newest, self.held) = (NONE, NONE, 0);
        self.epochs.iter_mut().for_each(|epoch| *epoch = epoch.wrapping_add(1));
    }

    fn sweep(&mut self, now: Time) {
        for _ in 0..LOOKED_AT.min(self.entries.len()) {
            self.sweep_cursor = if self.sweep_cursor < self.entries.len() { self.sweep_cursor } else { 0 };
            if now < self.entries[self.sweep_cursor].believed.until {
                self.sweep_cursor += 1;
            } else {
                self.let_go(self.sweep_cursor);
            }
        }
    }

    fn drop_expired(&mut self, now: Time) {
        let mut index = 0;
        while let Some((_, entry)) = self.entries.get_index(index) {
            if now < entry.believed.until {
                index += 1;
            } else {
                self.let_go(index);
            }
        }
    }

    /// Takes an entry out. The last one moves to its index.
    fn take(&mut self, index: usize) -> Option<(K, V)> {
        let (key, entry) = self.entries.swap_remove_index(index)?;
        self.held -= (self.cost)(&key, &entry.believed.value);
        let (index, moved_from) = (index as u32, self.entries.len() as u32);
        // The removed entry's neighbours may be the one that has moved; so it is unlinked by its former index first.
        let mut unlinked = (entry.older, entry.newer);
        if index != moved_from {
            let moved = &self.entries[index as usize];
            let (older, newer) = (moved.older, moved.newer);
            let moved_to = |link: u32| if link == moved_from { index } else { link };
            unlinked = (moved_to(unlinked.0), moved_to(unlinked.1));
            if older != index {
                self.set_newer(older, index);
            }
            if newer != index {
                self.set_older(newer, index);
            }
        }
        self.join(unlinked.0, unlinked.1);
        Some((key, entry.believed.value))
    }

    /// Lets two entries, or the ends, follow one another.
    fn join(&mut self, older: u32, newer: u32) {
        self.set_newer(older, newer);
        self.set_older(newer, older);
    }

    fn put_last(&mut self, index: u32) {
        let before = self.newest;
        self.join(before, index);
        self.join(index, NONE);
    }

    fn set_newer(&mut self, of: u32, newer: u32) {
        match self.entries.get_index_mut(of as usize) {
            Some((_, entry)) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn set_older(&mut self, of: u32, older: u32) {
        match self.entries.get_index_mut(of as usize) {
            Some((_, entry)) => entry.older = older,
            None => self.newest = older,
        }
    }
}

fn group_of<K: Hash>(key: &K) -> usize {
    Hasher::default().hash_one(key) as usize % GROUPS
}

#[cfg(test)]
mod tests;
