//! What `cache.rs` promises.

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
        let all = std::iter::successors(start, |(_, entry)| cache.entries.get_index(next(entry) as usize));
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
        assert!(before + 1 - cache.entries.len() <= LOOKED_AT, "of {before} {} left", cache.entries.len());
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
