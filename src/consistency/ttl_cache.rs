//! Values that are believed until they expire, and fetches that may be overtaken.
//!
//! A fetch takes time. If the client itself changes the object meanwhile, what the fetch brings is older than what the
//! client knows, and believing it would take its own programs back in time. So a fetch starts with a [`Ticket`], and
//! [`TtlCache::believe`] refuses a ticket that an [`TtlCache::invalidate`] of the same key has overtaken. It also
//! refuses one while which another fetch of the same key was believed: nobody knows which of the two saw more, and a
//! program may have been shown the other's answer already.
//!
//! A value counts as fetched when its fetch *started* (the Linux NFS client dates its attributes the same way,
//! fs/nfs/inode.c), so that no answer is ever older than the time to live.

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
}

const GROUPS: usize = 1024;

/// For each value that comes to be believed so many of those believed already are looked at, in turn, and dropped if
/// they have expired: a cache of a million never stops to be swept.
const LOOKED_AT: usize = 4;

/// A value and since when it is believed.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug)]
pub struct Believed<V> {
    pub value: V,
    pub fetched: Time,
}

#[derive(Debug)]
struct Entry<V> {
    believed: Believed<V>,
    /// The number of its fetch, in the order in which they were believed.
    number: u64,
}

/// Values by key, each believed for the time to live. What has expired goes a little at a time as other values come, so
/// that it never makes up more than a part of the cache.
#[derive(Debug)]
pub struct TtlCache<K, V> {
    ttl: Duration,
    entries: IndexMap<K, Entry<V>, Hasher>,
    /// Where among the entries sweeping goes on.
    broom: usize,
    epochs: Box<[u32]>,
    /// How many fetches have been believed.
    count: u64,
}

impl<K: Hash + Eq, V> TtlCache<K, V> {
    /// A cache that believes nothing yet. With `ttl` zero it never will.
    pub fn new(ttl: Duration) -> TtlCache<K, V> {
        TtlCache { ttl, entries: IndexMap::default(), broom: 0, epochs: vec![0; GROUPS].into(), count: 0 }
    }

    /// Whether anything is ever believed.
    pub fn is_off(&self) -> bool {
        self.ttl.is_zero()
    }

    /// From `now` on values are believed for `ttl`, those that are believed already too, counted from when each was
    /// fetched. What is over, by the former time to live or by this one, is forgotten.
    pub fn set_ttl(&mut self, ttl: Duration, now: Time) {
        let shorter = self.ttl.min(ttl);
        self.entries.retain(|_, entry| now < entry.believed.fetched + shorter);
        self.ttl = ttl;
    }

    /// What is believed of `key` at `now`: from the moment it was fetched until just before the time to live is over.
    pub fn get(&self, key: &K, now: Time) -> Option<&Believed<V>> {
        self.entries
            .get(key)
            .map(|entry| &entry.believed)
            .filter(|believed| now < believed.fetched + self.ttl)
    }

    /// Starts a fetch of `key`.
    pub fn start_fetch(&self, key: &K, now: Time) -> Ticket {
        let group = group_of(key);
        Ticket { group, epoch: self.epochs[group], after: self.count, started: now }
    }

    /// Whether the client has changed the object since the fetch started.
    pub fn is_overtaken(&self, ticket: Ticket) -> bool {
        self.epochs[ticket.group] != ticket.epoch
    }

    /// Ends a fetch: believes `value`, or refuses it (`false`) because the client changed the object, or believed
    /// another fetch of it, meanwhile.
    pub fn believe(&mut self, ticket: Ticket, key: K, value: V) -> bool {
        let is_newer =
            |entry: &Entry<V>| entry.number > ticket.after || entry.believed.fetched > ticket.started;
        if self.is_overtaken(ticket) {
            return false;
        }
        if self.is_off() {
            return true;
        }
        let number = self.count + 1;
        let entry = Entry { believed: Believed { value, fetched: ticket.started }, number };
        match self.entries.entry(key) {
            map::Entry::Occupied(believed) if is_newer(believed.get()) => return false,
            map::Entry::Occupied(mut believed) => drop(believed.insert(entry)),
            map::Entry::Vacant(place) => drop(place.insert(entry)),
        }
        self.count = number;
        self.sweep(ticket.started);
        true
    }

    /// Forgets what is believed of `key` and overtakes its fetches.
    pub fn invalidate(&mut self, key: &K) -> Option<V> {
        let group = group_of(key);
        self.epochs[group] = self.epochs[group].wrapping_add(1);
        self.entries.swap_remove(key).map(|entry| entry.believed.value)
    }

    /// Sweeps out what has expired and gives back what the cache has grown by, if most of it is empty.
    pub fn shrink(&mut self, now: Time) {
        let ttl = self.ttl;
        self.entries.retain(|_, entry| now < entry.believed.fetched + ttl);
        if self.entries.len() < self.entries.capacity() / 2 {
            self.entries.shrink_to_fit();
        }
    }

    /// Forgets everything and overtakes every fetch.
    pub fn invalidate_all(&mut self) {
        self.entries.clear();
        self.epochs.iter_mut().for_each(|epoch| *epoch = epoch.wrapping_add(1));
    }

    fn sweep(&mut self, now: Time) {
        for _ in 0..LOOKED_AT.min(self.entries.len()) {
            self.broom = if self.broom < self.entries.len() { self.broom } else { 0 };
            if now < self.entries[self.broom].believed.fetched + self.ttl {
                self.broom += 1;
            } else {
                self.entries.swap_remove_index(self.broom);
            }
        }
    }
}

fn group_of<K: Hash>(key: &K) -> usize {
    Hasher::default().hash_one(key) as usize % GROUPS
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
    fn a_shorter_time_to_live_ends_beliefs_and_a_longer_one_prolongs_those_that_are_left() {
        let mut cache = fetched_at(1_000);
        cache.set_ttl(Duration::from_millis(500), Time::from_millis(1_400));
        assert!(cache.get(&1, Time::from_millis(1_499)).is_some());
        assert!(cache.get(&1, Time::from_millis(1_500)).is_none());
        cache.set_ttl(Duration::from_secs(60), Time::from_millis(1_499));
        assert!(cache.get(&1, Time::from_millis(60_999)).is_some());
        cache.set_ttl(Duration::ZERO, Time::from_millis(1_500));
        cache.set_ttl(TTL, Time::from_millis(1_500));
        assert!(
            cache.get(&1, Time::from_millis(1_500)).is_none(),
            "what has been dropped does not come back"
        );
    }

    #[test]
    fn what_is_over_does_not_come_back_with_a_longer_time_to_live() {
        let mut cache = fetched_at(1_000);
        cache.set_ttl(Duration::from_secs(60), Time::from_millis(2_500));
        assert!(cache.get(&1, Time::from_millis(2_500)).is_none());
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
    fn of_two_fetches_at_once_the_first_to_end_is_believed() {
        let mut cache = TtlCache::new(TTL);
        let early = cache.start_fetch(&1, Time::from_millis(1));
        let late = cache.start_fetch(&1, Time::from_millis(2));
        assert!(cache.believe(late, 1, "new"));
        assert!(!cache.believe(early, 1, "old"), "the answer shown meanwhile may be newer");
        assert_eq!(cache.get(&1, Time::from_millis(3)).unwrap().value, "new");
        let again = cache.start_fetch(&1, Time::from_millis(3));
        assert!(cache.believe(again, 1, "newest"));
    }

    #[test]
    fn what_was_asked_for_earlier_is_refused_though_its_ticket_was_drawn_late() {
        let mut cache = fetched_at(1_000);
        let ticket = cache.start_fetch(&1, Time::from_millis(999));
        assert!(!cache.believe(ticket, 1, "older"));
        let ticket = cache.start_fetch(&1, Time::from_millis(1_000));
        assert!(cache.believe(ticket, 1, "new"));
    }

    #[test]
    fn fetches_of_other_keys_do_not_overtake() {
        let mut cache = TtlCache::new(TTL);
        let one = cache.start_fetch(&1, Time::ZERO);
        for key in 2..10_000 {
            let other = cache.start_fetch(&key, Time::ZERO);
            assert!(cache.believe(other, key, ()));
        }
        assert!(cache.believe(one, 1, ()));
    }

    #[test]
    fn with_no_time_to_live_no_fetch_overtakes_another() {
        let mut cache = TtlCache::new(Duration::ZERO);
        let one = cache.start_fetch(&1, Time::ZERO);
        let other = cache.start_fetch(&1, Time::ZERO);
        assert!(cache.believe(other, 1, ()) && cache.believe(one, 1, ()));
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
    fn an_expired_value_goes_with_the_next_fetch_however_few_there_are() {
        let mut cache = fetched_at(0);
        let ticket = cache.start_fetch(&2, Time::from_millis(1_499));
        assert!(cache.believe(ticket, 2, "young") && cache.entries.contains_key(&1));
        let ticket = cache.start_fetch(&3, Time::from_millis(1_500));
        assert!(cache.believe(ticket, 3, "younger") && !cache.entries.contains_key(&1));
        assert!(cache.entries.contains_key(&2));
    }

    #[test]
    fn expired_values_do_not_pile_up() {
        const ALIVE: usize = 150;
        let mut cache = TtlCache::new(TTL);
        for key in 0..100_000_u64 {
            let ticket = cache.start_fetch(&key, Time::from_millis(key * 10));
            cache.believe(ticket, key, ());
            assert!(cache.entries.len() <= 2 * ALIVE, "{} entries", cache.entries.len());
        }
    }

    #[test]
    fn however_much_has_expired_a_new_value_waits_for_a_little_of_it_only() {
        const MANY: u64 = 10_000;
        let mut cache = TtlCache::new(TTL);
        for key in 0..MANY {
            let ticket = cache.start_fetch(&key, Time::ZERO);
            cache.believe(ticket, key, ());
        }
        let late = Time::from_millis(2_000);
        let mut before = cache.entries.len();
        for key in MANY..2 * MANY {
            let ticket = cache.start_fetch(&key, late);
            cache.believe(ticket, key, ());
            assert!(
                before + 1 - cache.entries.len() <= LOOKED_AT,
                "of {before} {} left",
                cache.entries.len()
            );
            before = cache.entries.len();
        }
        assert_eq!(cache.entries.len() as u64, MANY, "what has expired is gone by then");
    }
}
