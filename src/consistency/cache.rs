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

    /// Starts a fetch of `key`.
    pub fn start_fetch(&self, key: &K, now: Time) -> Ticket {
        let group = group_of(key);
        Ticket { group, epoch: self.epochs[group], after: self.count, started: now }
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
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(1500);

    /// Each takes as much as its key says.
    fn cost<V>(key: &u64, _: &V) -> u64 {
        *key
    }

    /// All keys, first believed first, as the links say from either end.
    fn in_order<V>(cache: &Cache<u64, V>) -> Vec<u64> {
        let walk = |from: u32, next: fn(&Entry<V>) -> u32| {
            let start = cache.entries.get_index(from as usize);
            let all =
                std::iter::successors(start, |(_, entry)| cache.entries.get_index(next(entry) as usize));
            all.map(|(key, _)| *key).collect::<Vec<_>>()
        };
        let (forth, mut back) =
            (walk(cache.oldest, |entry| entry.newer), walk(cache.newest, |entry| entry.older));
        back.reverse();
        assert_eq!(forth, back);
        assert_eq!(forth.len(), cache.entries.len());
        assert_eq!(cache.held(), forth.iter().sum::<u64>());
        forth
    }

    fn fetched_at(millis: u64) -> Cache<u64, &'static str> {
        let mut cache = Cache::new(cost);
        let ticket = cache.start_fetch(&1, Time::from_millis(millis));
        assert!(cache.believe(ticket, 1, "old", TTL));
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
    fn with_a_lifetime_of_zero_nothing_is_believed() {
        let mut cache = Cache::new(cost);
        let ticket = cache.start_fetch(&1, Time::ZERO);
        assert!(cache.believe(ticket, 1, (), Duration::ZERO));
        assert!(cache.get(&1, Time::ZERO).is_none());
    }

    #[test]
    fn each_value_has_an_end_of_its_own() {
        let mut cache = Cache::new(cost);
        for key in 1..=3_u64 {
            let ticket = cache.start_fetch(&key, Time::from_millis(100));
            assert!(cache.believe(ticket, key, (), Duration::from_millis(key)));
        }
        for key in 1..=3 {
            assert_eq!(
                cache.get(&key, Time::from_millis(100)).map(|believed| believed.until),
                Some(Time::from_millis(100 + key))
            );
            assert!(cache.get(&key, Time::from_millis(100 + key)).is_none());
        }
    }

    #[test]
    fn a_shorter_lifetime_ends_beliefs_and_a_longer_one_changes_nothing() {
        let mut cache = fetched_at(1_000);
        cache.shorten(|_| Duration::from_millis(500), Time::from_millis(1_400));
        assert!(cache.get(&1, Time::from_millis(1_499)).is_some());
        assert!(cache.get(&1, Time::from_millis(1_500)).is_none());
        cache.shorten(|_| Duration::from_secs(60), Time::from_millis(1_499));
        assert!(cache.get(&1, Time::from_millis(1_499)).is_some());
        assert!(cache.get(&1, Time::from_millis(1_500)).is_none());
        cache.shorten(|value| if *value == "old" { Duration::ZERO } else { TTL }, Time::from_millis(1_400));
        assert!(in_order(&cache).is_empty());
    }

    #[test]
    fn a_fetch_overtaken_by_an_own_change_is_refused() {
        let mut cache = fetched_at(0);
        let ticket = cache.start_fetch(&1, Time::from_millis(2_000));
        assert_eq!(cache.invalidate(&1), Some("old"));
        assert!(!cache.believe(ticket, 1, "overtaken", TTL));
        assert!(cache.get(&1, Time::from_millis(2_000)).is_none());
    }

    #[test]
    fn of_two_fetches_at_once_the_first_to_end_is_believed() {
        let mut cache = Cache::new(cost);
        let early = cache.start_fetch(&1, Time::from_millis(1));
        let late = cache.start_fetch(&1, Time::from_millis(2));
        assert!(cache.believe(late, 1, "new", TTL));
        assert!(!cache.believe(early, 1, "old", TTL), "the answer shown meanwhile may be newer");
        assert_eq!(cache.get(&1, Time::from_millis(3)).unwrap().value, "new");
        let again = cache.start_fetch(&1, Time::from_millis(3));
        assert!(cache.believe(again, 1, "newest", TTL));
    }

    #[test]
    fn what_was_asked_for_earlier_is_refused_though_its_ticket_was_drawn_late() {
        let mut cache = fetched_at(1_000);
        let ticket = cache.start_fetch(&1, Time::from_millis(999));
        assert!(!cache.believe(ticket, 1, "older", TTL));
        let ticket = cache.start_fetch(&1, Time::from_millis(1_000));
        assert!(cache.believe(ticket, 1, "new", TTL));
    }

    #[test]
    fn fetches_of_other_keys_do_not_overtake() {
        let mut cache = Cache::new(cost);
        let one = cache.start_fetch(&1, Time::ZERO);
        for key in 2..10_000 {
            let other = cache.start_fetch(&key, Time::ZERO);
            assert!(cache.believe(other, key, (), TTL));
        }
        assert!(cache.believe(one, 1, (), TTL));
    }

    #[test]
    fn with_a_lifetime_of_zero_no_fetch_overtakes_another() {
        let mut cache = Cache::new(cost);
        let one = cache.start_fetch(&1, Time::ZERO);
        let other = cache.start_fetch(&1, Time::ZERO);
        let lifetime = Duration::ZERO;
        assert!(cache.believe(other, 1, (), lifetime) && cache.believe(one, 1, (), lifetime));
    }

    #[test]
    fn a_fetch_that_starts_after_the_change_is_believed() {
        let mut cache = fetched_at(0);
        cache.invalidate(&1);
        let ticket = cache.start_fetch(&1, Time::from_millis(1));
        assert!(cache.believe(ticket, 1, "new", TTL));
    }

    #[test]
    fn age_counts_from_the_start_of_the_fetch() {
        let mut cache = Cache::new(cost);
        let ticket = cache.start_fetch(&1, Time::from_millis(100));
        cache.believe(ticket, 1, (), TTL);
        assert_eq!(cache.get(&1, Time::from_millis(200)).unwrap().fetched, Time::from_millis(100));
    }

    #[test]
    fn an_expired_value_goes_with_the_next_fetch_however_few_there_are() {
        let mut cache = fetched_at(0);
        let ticket = cache.start_fetch(&2, Time::from_millis(1_499));
        assert!(cache.believe(ticket, 2, "young", TTL) && cache.entries.contains_key(&1));
        let ticket = cache.start_fetch(&3, Time::from_millis(1_500));
        assert!(cache.believe(ticket, 3, "younger", TTL) && !cache.entries.contains_key(&1));
        assert!(cache.entries.contains_key(&2));
    }

    #[test]
    fn expired_values_do_not_pile_up() {
        const ALIVE: usize = 150;
        let mut cache = Cache::new(cost);
        for key in 0..100_000_u64 {
            let ticket = cache.start_fetch(&key, Time::from_millis(key * 10));
            cache.believe(ticket, key, (), TTL);
            assert!(cache.entries.len() <= 2 * ALIVE, "{} entries", cache.entries.len());
        }
    }

    #[test]
    fn however_much_has_expired_a_new_value_waits_for_a_little_of_it_only() {
        const MANY: u64 = 10_000;
        let mut cache = Cache::new(cost);
        for key in 0..MANY {
            let ticket = cache.start_fetch(&key, Time::ZERO);
            cache.believe(ticket, key, (), TTL);
        }
        let late = Time::from_millis(2_000);
        let mut before = cache.entries.len();
        for key in MANY..2 * MANY {
            let ticket = cache.start_fetch(&key, late);
            cache.believe(ticket, key, (), TTL);
            assert!(
                before + 1 - cache.entries.len() <= LOOKED_AT,
                "of {before} {} left",
                cache.entries.len()
            );
            before = cache.entries.len();
        }
        assert_eq!(cache.entries.len() as u64, MANY, "what has expired is gone by then");
    }

    #[test]
    fn whatever_comes_and_goes_the_order_in_which_values_were_believed_is_kept() {
        let mut cache = Cache::new(cost);
        let mut model: Vec<u64> = Vec::new();
        let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..4_000 {
            // xorshift64
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            let key = draw % 40;
            match draw >> 60 {
                0..=9 => {
                    let ticket = cache.start_fetch(&key, Time::ZERO);
                    assert!(cache.believe(ticket, key, step, TTL));
                    model.retain(|other| *other != key);
                    model.push(key);
                }
                10..=12 => {
                    cache.invalidate(&key);
                    model.retain(|other| *other != key);
                }
                _ => {
                    let oldest = (!model.is_empty()).then(|| model.remove(0));
                    assert_eq!(cache.evict_oldest(), oldest);
                }
            }
            assert_eq!(in_order(&cache), model);
        }
        cache.shrink(Time::ZERO + TTL);
        assert!(in_order(&cache).is_empty());
    }

    #[test]
    fn a_fetch_that_outlasts_the_lifetime_of_another_one_is_refused_although_that_has_gone() {
        let mut cache = Cache::new(cost);
        let early = cache.start_fetch(&1, Time::ZERO);
        let late = cache.start_fetch(&1, Time::from_millis(1));
        assert!(cache.believe(early, 1, "new", TTL));
        cache.shrink(Time::ZERO + TTL);
        assert!(cache.get(&1, Time::from_millis(1)).is_none());
        assert!(!cache.believe(late, 1, "old", TTL), "the answer shown meanwhile may be newer");
        let again = cache.start_fetch(&1, Time::ZERO + TTL);
        assert!(cache.believe(again, 1, "newest", TTL));
    }

    #[test]
    fn a_fetch_of_what_was_evicted_meanwhile_is_refused() {
        let mut cache = Cache::new(cost);
        let early = cache.start_fetch(&1, Time::ZERO);
        let late = cache.start_fetch(&1, Time::ZERO);
        assert!(cache.believe(late, 1, "new", TTL));
        assert_eq!(cache.evict_oldest(), Some(1));
        assert!(!cache.believe(early, 1, "old", TTL), "the answer shown meanwhile may be newer");
    }
}
