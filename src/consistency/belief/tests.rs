//! What `belief.rs` promises.

use std::time::Duration;

use super::{bytes::PIECE_COST, *};
use crate::{
    consistency::{
        Kind, Lifetimes, RenameHow,
        policy::{Evidence, Lifetime, NamesBy},
    },
    time::{FOREVER, Timestamp},
};

const POLICY: Policy = Policy::eventual();
const MOST: u64 = 64 << 20;
const ROOT: Ino = 1;
const FILE: Ino = 10;
const OTHER: Ino = 11;

fn millis(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn nothing_is_believed_of_a_file_that_is_lent() {
    let mut belief = Belief::new(MOST);
    let made = |size| Attributes::new(Kind::File, 0o644, (0, 0), 0, size, second(1));
    let believe = |belief: &mut Belief, size, at| {
        let ticket = belief.fetch_attributes(FILE, millis(at));
        belief.believe_attributes(ticket, FILE, made(size), &POLICY).map(|taken| taken.shown.size)
    };
    assert_eq!(believe(&mut belief, 1, 0), Some(1));
    belief.lend(FILE);
    assert!(belief.attributes(FILE, millis(1)).is_none());
    assert_eq!(believe(&mut belief, 2, 1), Some(2), "what is fetched is shown");
    assert!(belief.attributes(FILE, millis(2)).is_none());
    let before = belief.fetch_attributes(FILE, millis(2));
    belief.reclaim(FILE);
    assert_eq!(
        belief.believe_attributes(before, FILE, made(2), &POLICY),
        None,
        "it may have been written since"
    );
    assert_eq!(believe(&mut belief, 3, 3), Some(3));
    assert_eq!(belief.attributes(FILE, millis(4)).map(|believed| believed.value.size), Some(3));
}

fn second(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn file(mtime: i64, ctime: i64) -> Attributes {
    let made = Attributes::new(Kind::File, 0o644, (0, 0), 0, 8, second(0));
    Attributes { mtime: second(mtime), ctime: second(ctime), ..made }
}

fn times(attributes: Attributes) -> (i64, i64) {
    (attributes.mtime.seconds, attributes.ctime.seconds)
}

fn at(name: &str) -> Place {
    Place::new(ROOT, name.as_bytes())
}

fn write(ino: Ino) -> Change {
    Change::Write { ino, offset: 0, data: b"x"[..].into(), clears: 0 }
}

fn believe(belief: &mut Belief, ino: Ino, now: Time) {
    let ticket = belief.fetch_attributes(ino, now);
    assert!(belief.believe_attributes(ticket, ino, file(5, 5), &POLICY).is_some());
}

/// The number of the fetch of the attributes that are believed.
fn number(belief: &Belief, ino: Ino, now: Time) -> Option<u64> {
    belief.attributes(ino, now).map(|believed| believed.number)
}

fn keep(belief: &mut Belief, ino: Ino, offset: u64, bytes: &Arc<[u8]>, now: Time) {
    if let Some(of) = number(belief, ino, now) {
        belief.believe_bytes(ino, of, offset, bytes, now);
    }
}

fn believe_text(belief: &mut Belief, ino: Ino, asked: Time, offset: u64, text: &str) {
    keep(belief, ino, offset, &text.as_bytes().into(), asked);
}

fn believing(inodes: &[Ino]) -> Belief {
    let mut belief = Belief::new(MOST);
    inodes.iter().for_each(|ino| believe(&mut belief, *ino, millis(1_000)));
    belief
}

/// Eight bytes as they are believed, dots where they have to be asked for.
fn text(belief: &Belief, ino: Ino, now: Time) -> String {
    let mut buffer = [b'.'; 8];
    let (segments, gaps) = belief.bytes(ino, 0..8, now);
    segments.iter().for_each(|segment| segment.lay_over(&mut buffer, 0));
    let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    assert_eq!(missing, buffer.iter().filter(|byte| **byte == b'.').count() as u64);
    String::from_utf8(buffer.to_vec()).unwrap()
}

#[test]
fn all_is_believed_until_just_before_its_time_is_over() {
    let mut belief = believing(&[FILE]);
    let fetched = millis(1_000);
    believe_text(&mut belief, FILE, millis(2_000), 0, "abcdefgh");
    let ticket = belief.fetch_name(&at("a"), fetched);
    assert!(belief.believe_name(ticket, at("a"), None, &POLICY));
    let ticket = belief.fetch_listing(ROOT, fetched);
    assert!(belief.believe_listing(ticket, ROOT, Arc::default(), &POLICY));
    let end = millis(2_500).as_nanos();
    for (nanos, believed) in [(end - 1, true), (end, false), (end + 1, false)] {
        let now = Time::from_nanos(nanos);
        assert_eq!(belief.attributes(FILE, now).is_some(), believed);
        assert_eq!(belief.name(&at("a"), now).is_some_and(|name| name.value.is_none()), believed);
        assert_eq!(belief.listing(ROOT, now).is_some(), believed);
        assert_eq!(text(&belief, FILE, now), if believed { "abcdefgh" } else { "........" });
    }
}

#[test]
fn with_lifetimes_of_zero_answers_are_shown_and_not_believed() {
    let mut belief = Belief::new(MOST);
    let now = millis(1);
    let ticket = belief.fetch_attributes(FILE, now);
    assert!(belief.believe_attributes(ticket, FILE, file(5, 5), &Policy::zero()).is_some());
    assert!(belief.attributes(FILE, now).is_none());
    belief.believe_bytes(FILE, 0, 0, &b"ab"[..].into(), now);
    assert_eq!(text(&belief, FILE, now), "........");
}

#[test]
fn a_number_given_out_again_is_told_from_the_one_believed_in() {
    let mut belief = Belief::new(MOST);
    let known = |serial| Some(Known { ino: FILE, serial });
    let ticket = belief.fetch_name(&at("a"), millis(0));
    belief.believe_name(ticket, at("a"), known(1), &POLICY);
    let believed = belief.name(&at("a"), millis(1)).unwrap().value;
    assert_eq!(believed, known(1));
    assert_ne!(believed, known(2));
}

#[test]
fn bytes_that_were_read_first_stay_while_the_attributes_do() {
    let mut belief = believing(&[FILE]);
    believe_text(&mut belief, FILE, millis(1_100), 2, "old");
    believe_text(&mut belief, FILE, millis(1_200), 0, "newnewne");
    assert_eq!(text(&belief, FILE, millis(1_300)), "neoldwne");
    assert_eq!(text(&belief, OTHER, millis(1_300)), "........");
}

#[test]
fn bytes_go_when_the_attributes_are_fetched_again_though_they_look_the_same() {
    let mut belief = believing(&[FILE, OTHER]);
    believe_text(&mut belief, FILE, millis(1_100), 0, "old");
    believe_text(&mut belief, OTHER, millis(1_100), 0, "other");
    believe(&mut belief, FILE, millis(1_200));
    assert_eq!(text(&belief, FILE, millis(1_200)), "........");
    assert_eq!(text(&belief, OTHER, millis(1_200)), "other...");
}

#[test]
fn bytes_that_were_asked_for_under_earlier_attributes_are_not_kept() {
    let mut belief = believing(&[FILE]);
    let before = number(&belief, FILE, millis(1_000)).unwrap();
    belief.changed(&write(FILE));
    // Fetched anew, at the very same time: on a manual clock any number of fetches are.
    believe(&mut belief, FILE, millis(1_000));
    belief.believe_bytes(FILE, before, 0, &b"old"[..].into(), millis(1_000));
    assert_eq!(text(&belief, FILE, millis(1_100)), "........");
    believe_text(&mut belief, FILE, millis(1_000), 0, "new");
    assert_eq!(text(&belief, FILE, millis(1_100)), "new.....");
}

#[test]
fn bytes_that_come_when_the_attributes_have_expired_are_not_kept() {
    let mut belief = believing(&[FILE]);
    let of = number(&belief, FILE, millis(2_499)).unwrap();
    belief.believe_bytes(FILE, of, 0, &b"late"[..].into(), millis(2_500));
    assert!(belief.contents.is_empty());
}

#[test]
fn a_refused_fetch_takes_no_bytes_away() {
    let mut belief = believing(&[]);
    let early = belief.fetch_attributes(FILE, millis(999));
    believe(&mut belief, FILE, millis(1_000));
    believe_text(&mut belief, FILE, millis(1_100), 0, "kept");
    assert_eq!(belief.believe_attributes(early, FILE, file(4, 4), &POLICY), None);
    assert_eq!(text(&belief, FILE, millis(1_200)), "kept....");
}

#[test]
fn past_the_bound_the_file_read_first_goes_whole() {
    let inodes: Vec<Ino> = (0..3).collect();
    let mut belief = believing(&inodes);
    let now = millis(1_100);
    let mebibytes = |count: usize| -> Arc<[u8]> { vec![b'x'; count << 20].into() };
    keep(&mut belief, 0, 0, &mebibytes(1), now);
    keep(&mut belief, 1, 0, &mebibytes(30), now);
    assert!(belief.attributes(0, now).is_some());
    keep(&mut belief, 0, 1 << 20, &b"more"[..].into(), now);
    keep(&mut belief, 2, 0, &mebibytes(1), now);
    let kept: Vec<bool> = inodes.iter().map(|ino| belief.attributes(*ino, now).is_some()).collect();
    assert_eq!(kept, [false, true, true], "attributes and all");
    assert_eq!(inodes.iter().map(|ino| belief.bytes(*ino, 0..8, now).0.len()).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(belief.bytes_held, (31 << 20) + 2 * PIECE_COST);
}

#[test]
fn what_fills_the_bound_to_the_last_byte_is_kept() {
    let mut belief = believing(&[FILE]);
    let now = millis(1_100);
    let length = MOST / 2 - 2 * PIECE_COST - 1;
    keep(&mut belief, FILE, 0, &vec![b'x'; length as usize].into(), now);
    believe_text(&mut belief, FILE, now, length, "y");
    assert_eq!(belief.bytes_held, MOST / 2);
    believe_text(&mut belief, FILE, now, length + 1, "z");
    assert_eq!((belief.bytes_held, belief.attributes(FILE, now).is_some()), (0, false));
}

#[test]
fn a_file_that_goes_and_comes_again_counts_as_read_last() {
    let mut belief = believing(&[1, 2]);
    let now = millis(1_100);
    let half: Arc<[u8]> = vec![b'x'; 12 << 20].into();
    keep(&mut belief, 1, 0, &half, now);
    keep(&mut belief, 2, 0, &half, now);
    believe(&mut belief, 1, millis(1_050));
    keep(&mut belief, 1, 0, &half, now);
    believe(&mut belief, 3, millis(1_050));
    keep(&mut belief, 3, 0, &half, now);
    assert_eq!([1, 2, 3].map(|ino| belief.contents.contains_key(&ino)), [true, false, true]);
}

#[test]
fn more_than_the_bound_at_once_and_nothing_at_all_are_not_kept() {
    let mut belief = believing(&[FILE]);
    let now = millis(1_100);
    keep(&mut belief, FILE, 0, &vec![0; MOST as usize / 2 + 1].into(), now);
    keep(&mut belief, FILE, 0, &[].into(), now);
    assert!(belief.contents.is_empty() && belief.attributes(FILE, now).is_some());
}

#[test]
fn very_many_tiny_files_are_bounded_too() {
    let mut belief = Belief::new(MOST);
    for ino in 0..200_000 {
        believe(&mut belief, ino, millis(1_000));
        believe_text(&mut belief, ino, millis(1_000), 0, "x");
    }
    assert_eq!(belief.contents.len() as u64, MOST / 2 / (PIECE_COST + 1));
    assert_eq!(belief.bytes_held, belief.contents.values().map(|content| content.held).sum::<u64>());
}

#[test]
fn files_read_again_and_again_leave_no_trail() {
    let mut belief = Belief::new(MOST);
    for round in 0..10_000 {
        believe(&mut belief, FILE, millis(round));
        believe_text(&mut belief, FILE, millis(round), 0, "x");
    }
    assert_eq!((belief.contents.len(), belief.bytes_held), (1, 1 + PIECE_COST));
    assert!(belief.read_order.len() <= 1_026, "{}", belief.read_order.len());
}

#[test]
fn an_own_change_drops_all_that_it_touches_and_overtakes_fetches() {
    let mut belief = believing(&[FILE, OTHER, ROOT, 2, 12]);
    let now = millis(1_100);
    for place in [at("a"), at("b"), at("c")] {
        let ticket = belief.fetch_name(&place, now);
        belief.believe_name(ticket, place, None, &POLICY);
    }
    let ticket = belief.fetch_listing(ROOT, now);
    belief.believe_listing(ticket, ROOT, Arc::default(), &POLICY);
    believe_text(&mut belief, FILE, now, 0, "x");
    let (attributes, name) = (belief.fetch_attributes(FILE, now), belief.fetch_name(&at("a"), now));
    let listing = belief.fetch_listing(ROOT, now);
    let replaced = Some((OTHER, Kind::File));
    let how = RenameHow::Replace;
    belief.changed(&Change::Rename {
        from: at("a"),
        to: at("b"),
        ino: FILE,
        kind: Kind::File,
        replaced,
        how,
    });
    let kept = [FILE, OTHER, ROOT, 2, 12].map(|ino| belief.attributes(ino, now).is_some());
    assert_eq!(kept, [false, false, false, true, true]);
    assert_eq!(["a", "b", "c"].map(|name| belief.name(&at(name), now).is_some()), [false, false, true]);
    assert!(belief.listing(ROOT, now).is_none() && belief.contents.is_empty());
    assert_eq!(belief.believe_attributes(attributes, FILE, file(5, 5), &POLICY), None);
    assert!(
        !belief.believe_name(name, at("a"), None, &POLICY)
            && !belief.believe_listing(listing, ROOT, Arc::default(), &POLICY)
    );
    assert_eq!(belief.changes(), 1);
}

#[test]
fn data_drops_neither_names_nor_listings() {
    let mut belief = believing(&[FILE]);
    let now = millis(1_100);
    let ticket = belief.fetch_listing(ROOT, now);
    belief.believe_listing(ticket, ROOT, Arc::default(), &POLICY);
    belief.changed(&write(FILE));
    assert!(belief.listing(ROOT, now).is_some() && belief.attributes(FILE, now).is_none());
}

#[test]
fn times_of_a_landing_look_as_the_program_knows_them_until_somebody_else_changes_the_file() {
    let mut belief = Belief::new(MOST);
    belief.disguise(FILE, &file(8, 9), &file(1, 2));
    assert_eq!(times(belief.disguised(FILE, file(8, 9))), (1, 2));
    assert_eq!(times(belief.disguised(FILE, file(7, 9))), (7, 2), "utimens elsewhere, ctime within a tick");
    assert_eq!(times(belief.disguised(FILE, file(1, 10))), (1, 10), "another changed its attributes");
    assert_eq!(times(belief.disguised(OTHER, file(8, 9))), (8, 9));
}

#[test]
fn a_disguise_shows_in_fetched_and_in_believed_attributes_and_outlives_them() {
    let mut belief = Belief::new(MOST);
    belief.disguise(FILE, &file(5, 5), &file(1, 2));
    let ticket = belief.fetch_attributes(FILE, millis(0));
    assert_eq!(
        belief.believe_attributes(ticket, FILE, file(5, 5), &POLICY).map(|taken| times(taken.shown)),
        Some((1, 2))
    );
    assert_eq!(belief.attributes(FILE, millis(1)).map(|believed| times(believed.value)), Some((1, 2)));
    belief.expire();
    assert_eq!(times(belief.disguised(FILE, file(5, 5))), (1, 2));
    belief.forget(FILE);
    assert_eq!(times(belief.disguised(FILE, file(5, 5))), (5, 5));
}

#[test]
fn a_disguise_that_hides_nothing_is_none() {
    let mut belief = Belief::new(MOST);
    belief.disguise(FILE, &file(5, 5), &file(1, 2));
    belief.disguise(FILE, &file(6, 6), &file(6, 6));
    assert!(belief.disguises.is_empty());
}

#[test]
fn what_turned_out_wrong_is_asked_for_again() {
    let mut belief = believing(&[FILE, ROOT]);
    let now = millis(1_100);
    let list = |belief: &mut Belief| {
        let ticket = belief.fetch_listing(ROOT, now);
        belief.believe_listing(ticket, ROOT, Arc::default(), &POLICY)
    };
    let ticket = belief.fetch_name(&at("a"), now);
    assert!(belief.believe_name(ticket, at("a"), None, &POLICY) && list(&mut belief));
    belief.distrust_name(&at("a"));
    assert!(belief.name(&at("a"), now).is_none() && belief.listing(ROOT, now).is_none());
    assert!(list(&mut belief));
    belief.distrust_inode(ROOT);
    assert!(belief.attributes(ROOT, now).is_none() && belief.listing(ROOT, now).is_none());
    assert!(belief.attributes(FILE, now).is_some());
}

#[test]
fn when_all_expires_nothing_is_left_and_every_fetch_is_overtaken() {
    let mut belief = believing(&[FILE]);
    believe_text(&mut belief, FILE, millis(1_100), 0, "x");
    let ticket = belief.fetch_attributes(OTHER, millis(1_100));
    belief.expire();
    assert!(belief.attributes(FILE, millis(1_100)).is_none());
    assert_eq!((belief.contents.len(), belief.bytes_held, belief.read_order.len()), (0, 0, 0));
    assert_eq!(belief.believe_attributes(ticket, OTHER, file(5, 5), &POLICY), None);
}

#[test]
fn what_was_believed_first_goes_where_there_is_no_more_room_whatever_its_kind() {
    let now = millis(1_000);
    let listing = |count: u64| {
        let mut listing = Listing::default();
        (0..count).for_each(|ino| listing.push(b"name", ino, Kind::File));
        Arc::new(listing)
    };
    let most = 2 * NAME_COST + 8 + 2 * ATTRIBUTES_COST + listing(0).cost();
    let mut belief = Belief::new(most);
    let believe_name = |belief: &mut Belief, name: &str| {
        let ticket = belief.fetch_name(&at(name), now);
        assert!(belief.believe_name(ticket, at(name), None, &POLICY));
    };
    let list = |belief: &mut Belief, directory: Ino, count: u64| {
        let ticket = belief.fetch_listing(directory, now);
        belief.believe_listing(ticket, directory, listing(count), &POLICY);
    };
    // Which of the five is still believed, in the order in which they came.
    let left = |belief: &Belief| {
        let names = ["here", "gone"].map(|name| belief.name(&at(name), now).is_some());
        let inodes = [FILE, OTHER].map(|ino| belief.attributes(ino, now).is_some());
        [names[0], inodes[0], belief.listing(ROOT, now).is_some(), names[1], inodes[1]]
    };
    believe_name(&mut belief, "here");
    believe(&mut belief, FILE, now);
    list(&mut belief, ROOT, 0);
    believe_name(&mut belief, "gone");
    believe(&mut belief, OTHER, now);
    assert_eq!((left(&belief), belief.held(), belief.evicted()), ([true; 5], most, 0));
    let changes = belief.changes();
    for count in 1..=5 {
        belief.set_most(belief.held() - 1);
        let expected = [1, 2, 3, 4, 5].map(|place| place > count);
        assert_eq!((left(&belief), belief.evicted()), (expected, count));
    }
    assert_eq!((belief.held(), belief.changes() - changes), (0, 5));
    list(&mut belief, ROOT, 1000);
    assert_eq!((belief.held(), belief.evicted()), (0, 6), "what would push out everything else");
}

#[test]
fn attributes_that_go_for_want_of_room_take_their_bytes_with_them() {
    let mut belief = believing(&[FILE]);
    let now = millis(1_000);
    believe_text(&mut belief, FILE, now, 0, "abcdefgh");
    believe(&mut belief, OTHER, now);
    assert_eq!(text(&belief, FILE, now), "abcdefgh");
    belief.set_most(ATTRIBUTES_COST + PIECE_COST + 8);
    assert!(belief.attributes(FILE, now).is_none() && belief.attributes(OTHER, now).is_some());
    assert_eq!((text(&belief, FILE, now), belief.held()), ("........".to_string(), ATTRIBUTES_COST));
}

#[test]
fn any_number_of_absent_names_takes_no_more_room_than_there_is() {
    const NAMES: u64 = 20_000;
    let mut belief = Belief::new(1 << 20);
    for number in 0..NAMES {
        let place = at(&format!("name{number}"));
        let ticket = belief.fetch_name(&place, Time::ZERO);
        assert!(belief.believe_name(ticket, place, None, &POLICY));
        assert!(belief.held() <= 1 << 20);
    }
    let left = NAMES - belief.evicted();
    assert!((5_000..7_000).contains(&left), "{left}");
    let is_left = |number: u64| belief.name(&at(&format!("name{number}")), Time::ZERO).is_some();
    assert!((0..NAMES).all(|number| is_left(number) == (number >= NAMES - left)));
}

/// Believed as Linux believes what an NFS server says, with small numbers: 3 to 12 s, directories 30 to 60 s.
fn nfs(evidence: Evidence) -> Policy {
    let seconds = |min, max| Lifetime { min: Duration::from_secs(min), max: Duration::from_secs(max) };
    let lifetimes =
        Lifetimes { files: seconds(3, 12), directories: seconds(30, 60), ..Lifetimes::all(FOREVER) };
    Policy { lifetimes, evidence, names_by: NamesBy::Directory, ..Policy::zero() }
}

/// Attributes that were fetched `at` that second; for how many seconds they are believed.
fn fetched(belief: &mut Belief, ino: Ino, attributes: Attributes, at: u64, policy: &Policy) -> u64 {
    let ticket = belief.fetch_attributes(ino, millis(1000 * at));
    let taken = belief.believe_attributes(ticket, ino, attributes, policy).expect("nothing overtakes it");
    taken.until.expect("it is believed").since(millis(1000 * at)).as_secs()
}

#[test]
fn a_lifetime_doubles_when_it_is_over_and_nothing_has_changed_and_starts_anew_at_a_change() {
    let (mut belief, policy) = (Belief::new(MOST), nfs(Evidence::Counter));
    let mut fetch = |changed, at| fetched(&mut belief, FILE, file(changed, changed), at, &policy);
    assert_eq!([fetch(1, 0), fetch(1, 3), fetch(1, 9)], [3, 6, 12]);
    assert_eq!(fetch(1, 21), 12, "no longer than the longest");
    assert_eq!([fetch(2, 40), fetch(2, 43)], [3, 6], "a change");
    assert_eq!(
        [fetch(2, 44), fetch(2, 45), fetch(2, 50), fetch(2, 56)],
        [6, 6, 6, 12],
        "opens keep it from doubling"
    );
}

#[test]
fn bytes_stay_if_the_evidence_says_that_they_are_the_same() {
    let unsettled = Attributes { is_settled: false, ..file(1, 1) };
    for (evidence, first, second, stay) in [
        (Evidence::Nothing, file(1, 1), file(1, 1), false),
        (Evidence::Times, file(1, 1), file(1, 1), true),
        (Evidence::Times, unsettled, file(1, 1), true),
        (Evidence::Counter, file(1, 1), file(1, 1), true),
        (Evidence::Counter, unsettled, file(1, 1), false),
        (Evidence::Times, file(1, 1), file(1, 2), false),
    ] {
        let (mut belief, policy) = (Belief::new(MOST), nfs(evidence));
        fetched(&mut belief, FILE, first, 0, &policy);
        let of = belief.attributes(FILE, millis(0)).expect("it is believed").number;
        belief.believe_bytes(FILE, of, 0, &Arc::from(&b"abc"[..]), millis(0));
        belief.shrink(millis(3000));
        fetched(&mut belief, FILE, second, 3, &policy);
        let gaps = belief.bytes(FILE, 0..3, millis(3000)).1;
        assert_eq!(gaps.is_empty(), stay, "{evidence:?}");
    }
}

#[test]
fn names_are_believed_until_their_directory_has_been_fetched_and_has_changed() {
    let (mut belief, policy) = (Belief::new(MOST), nfs(Evidence::Counter));
    let directory = |changed| Attributes { kind: Kind::Directory, ..file(changed, changed) };
    let absent = |belief: &mut Belief, at_millis| {
        let ticket = belief.fetch_name(&at("a"), millis(at_millis));
        belief.believe_name(ticket, at("a"), None, &policy)
    };
    let is_believed = |belief: &Belief, now| belief.name(&at("a"), millis(now)).map(|name| name.until);
    fetched(&mut belief, ROOT, directory(1), 0, &policy);
    assert!(absent(&mut belief, 20_000));
    assert_eq!(is_believed(&belief, 29_999), Some(millis(30_000)), "the time of the directory counts");
    assert_eq!(is_believed(&belief, 30_000), None);
    assert!(belief.hangs_on_directory(&at("a"), millis(30_000)));
    fetched(&mut belief, ROOT, directory(1), 30, &policy);
    assert_eq!(is_believed(&belief, 80_000), Some(millis(90_000)), "it is as it was");
    fetched(&mut belief, ROOT, directory(2), 90, &policy);
    assert_eq!(is_believed(&belief, 90_000), None, "it has changed");
    assert!(!belief.hangs_on_directory(&at("a"), millis(130_000)), "the directory says no more about it");

    assert!(absent(&mut belief, 91_000));
    belief.goes_on(ROOT, &directory(2), &directory(3));
    assert!(is_believed(&belief, 92_000).is_some(), "only this client has changed it");
    belief.goes_on(ROOT, &directory(4), &directory(5));
    assert_eq!(is_believed(&belief, 92_000), None, "somebody else has, too");
}

#[test]
fn a_name_that_is_fetched_while_its_directory_is_found_changed_is_not_believed() {
    let (mut belief, policy) = (Belief::new(MOST), nfs(Evidence::Counter));
    let directory = |changed| Attributes { kind: Kind::Directory, ..file(changed, changed) };
    let unknown = belief.fetch_name(&at("a"), millis(0));
    fetched(&mut belief, ROOT, directory(1), 0, &policy);
    belief.believe_name(unknown, at("a"), None, &policy);
    assert_eq!(
        belief.name(&at("a"), millis(1)).map(|name| name.until),
        None,
        "the directory was not known then"
    );
    let ticket = belief.fetch_name(&at("a"), millis(1));
    fetched(&mut belief, ROOT, directory(2), 1, &policy);
    belief.believe_name(ticket, at("a"), None, &policy);
    assert_eq!(belief.name(&at("a"), millis(1)).map(|name| name.until), None);
}
