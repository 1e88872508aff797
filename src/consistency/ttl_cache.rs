//! Values that are believed until they expire, and fetches that may be overtaken.
//!
//! A fetch takes time. If the client itself changes the object meanwhile, what the fetch brings is older than what the
//! client knows, and believing it would take its own programs back in time. So a fetch starts with a [`Ticket`], and
//! [`TtlCache::believe`] refuses a ticket that an [`TtlCache::invalidate`] of the same key has overtaken.
//!
//! A value counts as fetched when its fetch *started* (the Linux NFS client dates its attributes the same way,
//! fs/nfs/inode.c), so that no answer is ever older than the time to live.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    time::Duration,
};

use crate::time::Time;

/// A fetch under way. The epoch belongs to a group of keys: a ticket may be refused although its own key was not
/// touched (once in [`GROUPS`] times), which costs a second fetch and never truth.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    group: usize,
    epoch: u32,
    started: Time,
}

const GROUPS: usize = 1024;

/// Fewer entries than this are never swept.
const SWEEP_FLOOR: usize = 1024;

/// A value and since when it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Believed<V> {
    pub value: V,
    pub fetched: Time,
}

/// Values by key, each believed for the time to live. Expired values are swept out as the cache grows, so it holds
/// at most about twice what is alive.
#[derive(Debug)]
pub struct TtlCache<K, V> {
    ttl: Duration,
    entries: HashMap<K, Believed<V>>,
    epochs: Box<[u32]>,
    sweep_at: usize,
}

impl<K: Hash + Eq, V> TtlCache<K, V> {
    /// A cache that believes nothing yet. With `ttl` zero it never will.
    pub fn new(ttl: Duration) -> TtlCache<K, V> {
        TtlCache { ttl, entries: HashMap::new(), epochs: vec![0; GROUPS].into(), sweep_at: SWEEP_FLOOR }
    }

    /// Whether anything is ever believed.
    pub fn is_off(&self) -> bool {
        self.ttl.is_zero()
    }

    /// What is believed of `key` at `now`: from the moment it was fetched until just before the time to live is over.
    pub fn get(&self, key: &K, now: Time) -> Option<&Believed<V>> {
        self.entries.get(key).filter(|believed| now < believed.fetched + self.ttl)
    }

    /// The same, to add to the value while it is believed.
    pub fn get_mut(&mut self, key: &K, now: Time) -> Option<&mut V> {
        let ttl = self.ttl;
        self.entries.get_mut(key).filter(|believed| now < believed.fetched + ttl).map(|believed| &mut believed.value)
    }

    /// Starts a fetch of `key`.
    pub fn start_fetch(&self, key: &K, now: Time) -> Ticket {
        let group = group_of(key);
        Ticket { group, epoch: self.epochs[group], started: now }
    }

    /// Whether the client has changed the object since the fetch started.
    pub fn is_overtaken(&self, ticket: Ticket) -> bool {
        self.epochs[ticket.group] != ticket.epoch
    }

    /// Ends a fetch: believes `value`, or refuses it (`false`) because the client changed the object meanwhile.
    pub fn believe(&mut self, ticket: Ticket, key: K, value: V) -> bool {
        if self.is_overtaken(ticket) {
            return false;
        }
        if !self.is_off() {
            self.sweep(ticket.started);
            self.entries.insert(key, Believed { value, fetched: ticket.started });
        }
        true
    }

    /// Forgets what is believed of `key` and overtakes its fetches.
    pub fn invalidate(&mut self, key: &K) -> Option<V> {
        let group = group_of(key);
        self.epochs[group] = self.epochs[group].wrapping_add(1);
        self.entries.remove(key).map(|believed| believed.value)
    }

    /// Forgets everything and overtakes every fetch.
    pub fn invalidate_all(&mut self) {
        self.entries.clear();
        self.epochs.iter_mut().for_each(|epoch| *epoch = epoch.wrapping_add(1));
    }

    fn sweep(&mut self, now: Time) {
        if self.entries.len() >= self.sweep_at {
            let ttl = self.ttl;
            self.entries.retain(|_, believed| now < believed.fetched + ttl);
            self.sweep_at = (self.entries.len() * 2).max(SWEEP_FLOOR);
        }
    }
}

fn group_of<K: Hash>(key: &K) -> usize {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key) as usize % GROUPS
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(1500);

    fn fetched_at(millis: u64) -> TtlCache<u64, &'static str> {
        let mut cache = TtlCache::new(TTL);
        let ticket = cache.start_fetch(&1, Time::from_millis(millis));
        assert!(cache.believe(ticket, 1, "old"));
        cache
    }

    #[test]
    fn a_value_is_believed_until_just_before_its_time_is_over() {
        let cache = fetched_at(1_000);
        let end = Time::from_millis(2_500).as_nanos();
        assert!(cache.get(&1, Time::from_nanos(end - 1)).is_some());
        assert!(cache.get(&1, Time::from_nanos(end)).is_none());
        assert!(cache.get(&1, Time::from_nanos(end + 1)).is_none());
    }

    #[test]
    fn with_no_time_to_live_nothing_is_believed() {
        let mut cache = TtlCache::new(Duration::ZERO);
        let ticket = cache.start_fetch(&1, Time::ZERO);
        assert!(cache.believe(ticket, 1, ()));
        assert!(cache.get(&1, Time::ZERO).is_none());
    }

    #[test]
    fn a_fetch_overtaken_by_an_own_change_is_refused() {
        let mut cache = fetched_at(0);
        let ticket = cache.start_fetch(&1, Time::from_millis(2_000));
        assert_eq!(cache.invalidate(&1), Some("old"));
        assert!(!cache.believe(ticket, 1, "overtaken"));
        assert!(cache.get(&1, Time::from_millis(2_000)).is_none());
    }

    #[test]
    fn a_fetch_that_starts_after_the_change_is_believed() {
        let mut cache = fetched_at(0);
        cache.invalidate(&1);
        let ticket = cache.start_fetch(&1, Time::from_millis(1));
        assert!(cache.believe(ticket, 1, "new"));
    }

    #[test]
    fn age_counts_from_the_start_of_the_fetch() {
        let mut cache = TtlCache::new(TTL);
        let ticket = cache.start_fetch(&1, Time::from_millis(100));
        cache.believe(ticket, 1, ());
        assert_eq!(cache.get(&1, Time::from_millis(200)).unwrap().fetched, Time::from_millis(100));
    }

    #[test]
    fn expired_values_do_not_pile_up() {
        let mut cache = TtlCache::new(TTL);
        for key in 0..100_000_u64 {
            let ticket = cache.start_fetch(&key, Time::from_millis(key * 10));
            cache.believe(ticket, key, ());
        }
        assert!(cache.entries.len() <= 2 * SWEEP_FLOOR, "{} entries", cache.entries.len());
    }
}
