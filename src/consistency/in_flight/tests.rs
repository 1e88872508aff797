//! What `in_flight.rs` promises.

use super::*;
use crate::consistency::{
    attributes::{AttributeChange, Attributes, Kind},
    mutation::{Place, RenameHow},
};

const ROOT: Ino = 1;
const DIRECTORY: Ino = 2;
const FILE: Ino = 10;
const OTHER: Ino = 11;

fn at(name: &str) -> Place {
    Place::new(ROOT, name.as_bytes())
}

fn inside(name: &str) -> Place {
    Place::new(DIRECTORY, name.as_bytes())
}

fn make(place: Place, ino: Ino, kind: Kind) -> Change {
    let attributes = Attributes::new(kind, 0o755, (0, 0), 0, 0, Timestamp::default());
    Change::Make { place, ino, attributes, target: [].into(), inherited: [].into() }
}

fn write(ino: Ino) -> Change {
    Change::Write { ino, offset: 0, data: b"data"[..].into(), clears: 0 }
}

fn chmod(ino: Ino) -> Change {
    let change = AttributeChange { permissions: Some(0o555), ..AttributeChange::default() };
    Change::SetAttributes { ino, change, owner: None }
}

fn link(place: Place) -> Change {
    Change::Link { ino: FILE, kind: Kind::File, place }
}

fn unlink(place: Place) -> Change {
    Change::Unlink { place, ino: FILE }
}

fn rename(from: Place, to: Place, ino: Ino, kind: Kind) -> Change {
    Change::Rename { from, to, ino, kind, replaced: None, how: RenameHow::Replace }
}

fn exchange(from: Place, to: Place) -> Change {
    let replaced = Some((OTHER, Kind::File));
    Change::Rename { from, to, ino: FILE, kind: Kind::File, replaced, how: RenameHow::Exchange }
}

fn over(from: Place, to: Place, replaced: (Ino, Kind)) -> Change {
    let kind = replaced.1;
    Change::Rename { from, to, ino: 20, kind, replaced: Some(replaced), how: RenameHow::Replace }
}

fn in_flight(changes: impl IntoIterator<Item = (Change, u64)>) -> InFlight {
    let mut in_flight = InFlight::default();
    for (change, millis) in changes {
        in_flight.add(change, Timestamp::default(), Time::from_millis(millis));
    }
    in_flight
}

fn start(in_flight: &mut InFlight, now: Time) -> Option<MutationId> {
    in_flight.start_due(now).map(|mutation| mutation.id)
}

/// The order in which all lands when each lands at once.
fn landing_order(mut in_flight: InFlight) -> Vec<MutationId> {
    let mut order = Vec::new();
    while let Some(id) = start(&mut in_flight, Time::NEVER) {
        in_flight.landed(id);
        order.push(id);
    }
    assert!(in_flight.is_pristine());
    order
}

/// The second is due first, and yet waits.
#[track_caller]
fn assert_waits(first: Change, second: Change) {
    assert_eq!(landing_order(in_flight([(first, 9), (second, 1)])), [1, 2]);
}

/// The second is due first, and lands first.
#[track_caller]
fn assert_overtakes(first: Change, second: Change) {
    assert_eq!(landing_order(in_flight([(first, 9), (second, 1)])), [2, 1]);
}

#[test]
fn nothing_is_handed_out_before_it_is_due() {
    let mut in_flight = in_flight([(write(FILE), 800)]);
    let due = Time::from_millis(800);
    assert_eq!(in_flight.next_due(), Some(due));
    assert_eq!(start(&mut in_flight, Time::from_nanos(due.as_nanos() - 1)), None);
    assert_eq!(in_flight.next_due(), Some(due), "coming early is harmless");
    assert_eq!(start(&mut in_flight, due), Some(1));
    assert_eq!((start(&mut in_flight, due), in_flight.next_due()), (None, None), "it is handed out once");
    assert!(in_flight.is_started(1) && !in_flight.is_empty(), "it stays until it has landed");
    in_flight.landed(1);
    assert!(in_flight.is_pristine());
}

#[test]
fn coming_late_is_harmless_too() {
    let mut in_flight = in_flight([(write(FILE), 800)]);
    let late = Time::from_nanos(Time::from_millis(800).as_nanos() + 1);
    assert_eq!(start(&mut in_flight, late), Some(1));
}

#[test]
fn unrelated_mutations_land_each_when_it_is_due() {
    let changes = [(write(31), 30), (write(32), 10), (make(at("flag"), 12, Kind::File), 20), (write(33), 10)];
    assert_eq!(landing_order(in_flight(changes)), [2, 4, 3, 1]);
}

#[test]
fn a_blocked_mutation_becomes_ready_when_what_it_needs_lands() {
    let mut in_flight = in_flight([(make(at("f"), FILE, Kind::File), 5), (write(FILE), 2)]);
    assert_eq!(in_flight.next_due(), Some(Time::from_millis(5)));
    assert_eq!(start(&mut in_flight, Time::from_millis(5)), Some(1));
    assert_eq!((start(&mut in_flight, Time::NEVER), in_flight.next_due()), (None, None));
    in_flight.landed(1);
    assert_eq!(in_flight.next_due(), Some(Time::from_millis(2)), "its own time counts, and is past");
    assert_eq!(start(&mut in_flight, Time::from_millis(5)), Some(2));
}

#[test]
fn what_needs_two_waits_for_both() {
    let changes = [make(at("d"), DIRECTORY, Kind::Directory), make(at("f"), FILE, Kind::File)];
    let moves = rename(at("f"), inside("f"), FILE, Kind::File);
    let mut in_flight = in_flight(changes.into_iter().chain([moves]).map(|change| (change, 0)));
    assert_eq!([1, 2].map(|_| start(&mut in_flight, Time::ZERO)), [Some(1), Some(2)]);
    in_flight.landed(2);
    assert_eq!(start(&mut in_flight, Time::NEVER), None);
    in_flight.landed(1);
    assert_eq!(start(&mut in_flight, Time::NEVER), Some(3));
}

#[test]
fn one_name_changes_in_order() {
    assert_waits(unlink(at("a")), make(at("a"), OTHER, Kind::File));
    assert_waits(rename(at("a"), at("b"), FILE, Kind::File), make(at("a"), OTHER, Kind::File));
    assert_waits(make(at("b"), OTHER, Kind::File), over(at("a"), at("b"), (OTHER, Kind::File)));
    assert_overtakes(make(at("a"), FILE, Kind::File), make(at("b"), OTHER, Kind::File));
}

#[test]
fn one_inode_changes_in_order_and_moves_with_what_it_had() {
    assert_waits(write(FILE), chmod(FILE));
    assert_waits(write(FILE), link(at("b")));
    assert_waits(write(FILE), rename(at("a"), at("b"), FILE, Kind::File));
    assert_waits(write(OTHER), exchange(at("a"), at("b")));
    assert_overtakes(write(FILE), write(OTHER));
    assert_overtakes(rename(at("a"), at("b"), FILE, Kind::File), write(FILE));
    assert_overtakes(write(FILE), unlink(at("a")));
}

#[test]
fn a_file_gets_its_new_name_before_it_loses_the_old_one() {
    assert_waits(link(at("b")), unlink(at("a")));
    assert_waits(link(at("b")), over(at("c"), at("a"), (FILE, Kind::File)));
    assert_waits(unlink(at("a")), link(at("c")));
    assert_overtakes(link(at("b")), link(at("c")));
    assert_overtakes(link(at("b")), write(FILE));
}

#[test]
fn a_directory_is_there_for_the_names_in_it() {
    let remove = Change::RemoveDirectory { place: at("d"), ino: DIRECTORY };
    assert_waits(make(at("d"), DIRECTORY, Kind::Directory), make(inside("f"), FILE, Kind::File));
    assert_waits(unlink(inside("f")), remove);
    assert_waits(unlink(inside("f")), over(at("e"), at("d"), (DIRECTORY, Kind::Directory)));
    assert_waits(make(inside("f"), FILE, Kind::File), chmod(DIRECTORY));
    assert_waits(chmod(DIRECTORY), unlink(inside("f")));
    assert_overtakes(rename(at("d"), at("e"), DIRECTORY, Kind::Directory), unlink(inside("f")));
}

#[test]
fn directories_move_in_order_and_with_the_permissions_they_had() {
    let away = |ino, name| rename(at(name), Place::new(30, name.as_bytes()), ino, Kind::Directory);
    assert_waits(away(4, "x"), away(5, "y"));
    assert_waits(away(4, "x"), chmod(4));
    assert_overtakes(rename(at("x"), at("z"), 4, Kind::Directory), away(5, "y"));
    assert_overtakes(rename(at("x"), at("z"), 4, Kind::Directory), chmod(4));
}

#[test]
fn a_change_waits_for_every_use_and_later_uses_for_it() {
    let names = [("a", 10, 9), ("b", 11, 8), ("c", 12, 7)];
    let names = names.map(|(name, ino, due)| (make(inside(name), ino, Kind::Fifo), due));
    let then = [(chmod(DIRECTORY), 1), (make(inside("d"), 20, Kind::Fifo), 0)];
    assert_eq!(landing_order(in_flight(names.into_iter().chain(then))), [3, 2, 1, 4, 5]);
}

#[test]
fn what_would_wait_is_known_before_it_is_added() {
    let mut in_flight = in_flight([(make(at("a"), FILE, Kind::File), 0)]);
    assert!(in_flight.blocks(&write(FILE)) && in_flight.blocks(&unlink(at("a"))));
    assert!(!in_flight.blocks(&write(OTHER)) && !in_flight.blocks(&unlink(at("b"))));
    start(&mut in_flight, Time::ZERO);
    assert!(in_flight.blocks(&write(FILE)), "it has started, not landed");
    in_flight.landed(1);
    assert!(!in_flight.blocks(&write(FILE)));
}

#[test]
fn what_could_not_land_is_due_again_and_others_go_on_waiting_for_it() {
    let mut in_flight = in_flight([(write(FILE), 5), (chmod(FILE), 5), (write(OTHER), 6)]);
    assert_eq!(start(&mut in_flight, Time::from_millis(5)), Some(1));
    assert_eq!(in_flight.postpone(1, Time::from_millis(50)), 1);
    assert!(!in_flight.is_started(1));
    assert_eq!(in_flight.due(1), Some(Time::from_millis(50)));
    assert_eq!(start(&mut in_flight, Time::from_millis(49)), Some(3));
    assert_eq!(start(&mut in_flight, Time::from_millis(49)), None);
    assert_eq!(start(&mut in_flight, Time::from_millis(50)), Some(1));
    assert_eq!(in_flight.postpone(1, Time::from_millis(60)), 2);
    assert_eq!(
        in_flight.all().map(|(mutation, tries)| (mutation.id, tries)).collect::<Vec<_>>(),
        [(1, 2), (2, 0), (3, 0)]
    );
    assert_eq!(start(&mut in_flight, Time::from_millis(60)), Some(1));
    in_flight.landed(1);
    assert_eq!(start(&mut in_flight, Time::from_millis(60)), Some(2));
}

#[test]
fn an_fsync_hurries_what_it_needs_and_only_that() {
    let mut in_flight = in_flight([
        (make(at("d"), DIRECTORY, Kind::Directory), 900),
        (make(inside("f"), FILE, Kind::File), 800),
        (write(FILE), 800),
        (make(inside("g"), OTHER, Kind::File), 800),
        (chmod(FILE), 900),
    ]);
    let about: Vec<_> = in_flight.about(FILE).map(|mutation| mutation.id).collect();
    assert_eq!(about, [2, 3, 5]);
    let hurried = in_flight.hurry([3]);
    assert_eq!(hurried.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    for id in [1, 2, 3] {
        assert_eq!(start(&mut in_flight, Time::ZERO), Some(id));
        in_flight.landed(id);
    }
    assert_eq!(start(&mut in_flight, Time::ZERO), None);
    assert_eq!(in_flight.next_due(), Some(Time::from_millis(800)), "the rest keeps its time");
}

#[test]
fn an_fsync_asks_again_for_what_was_postponed_and_waits_for_what_has_started() {
    let mut in_flight = in_flight([(write(FILE), 1), (chmod(FILE), 1)]);
    start(&mut in_flight, Time::from_millis(1));
    assert_eq!(in_flight.hurry([2]).len(), 2);
    assert_eq!(start(&mut in_flight, Time::from_millis(1)), None, "it is not handed out twice");
    in_flight.postpone(1, Time::from_millis(90));
    assert_eq!(start(&mut in_flight, Time::from_millis(89)), None);
    in_flight.hurry([2]);
    assert_eq!(start(&mut in_flight, Time::ZERO), Some(1));
    in_flight.landed(1);
    assert_eq!(start(&mut in_flight, Time::ZERO), Some(2));
    assert!(in_flight.hurry([1]).is_empty(), "it has landed");
}

#[test]
fn an_exchange_is_about_both_that_it_swaps() {
    let mut in_flight = in_flight([(exchange(at("a"), at("b")), 5)]);
    assert_eq!([FILE, OTHER, ROOT].map(|ino| in_flight.about(ino).count()), [1, 1, 0]);
    start(&mut in_flight, Time::NEVER);
    in_flight.landed(1);
    assert!(in_flight.is_pristine());
}

#[test]
fn an_inode_moves_while_a_new_name_of_it_is_in_flight() {
    let mut in_flight = in_flight([(write(OTHER), 5), (link(at("b")), 5), (exchange(at("a"), at("c")), 5)]);
    assert!(in_flight.is_moving(FILE) && in_flight.is_moving(OTHER) && !in_flight.is_moving(ROOT));
    while let Some(id) = start(&mut in_flight, Time::NEVER) {
        in_flight.landed(id);
    }
    assert!(!in_flight.is_moving(FILE) && !in_flight.is_moving(OTHER));
}

#[test]
fn on_unmount_all_is_due_at_once_and_what_comes_later_too() {
    let mut in_flight = in_flight([(write(FILE), 800), (chmod(FILE), 900)]);
    in_flight.hurry_everything();
    let id = in_flight.add(write(OTHER), Timestamp::default(), Time::from_millis(1_000));
    assert_eq!([1, 2, id].map(|id| in_flight.due(id)), [Some(Time::ZERO); 3]);
    assert_eq!(landing_order(in_flight), [1, 2, 3]);
}

#[test]
fn what_is_held_lands_only_when_it_is_hurried_or_let_go() {
    let mut in_flight = in_flight([(write(FILE), 5), (chmod(FILE), 5), (write(OTHER), 6)]);
    in_flight.hold(true);
    assert_eq!((in_flight.next_due(), start(&mut in_flight, Time::NEVER)), (None, None));
    in_flight.hurry([1]);
    assert_eq!(in_flight.next_due(), Some(Time::ZERO));
    assert_eq!(start(&mut in_flight, Time::from_millis(9)), Some(1));
    in_flight.landed(1);
    assert_eq!(start(&mut in_flight, Time::NEVER), None, "it is free to land now, and held");
    in_flight.hold(false);
    assert_eq!(in_flight.next_due(), Some(Time::from_millis(5)));
    assert_eq!(landing_order(in_flight), [2, 3]);
}

#[test]
fn whoever_hurries_all_does_not_wait_for_what_others_hurry_later() {
    let mut in_flight = in_flight([(write(FILE), 5)]);
    let last = in_flight.hurry_all();
    start(&mut in_flight, Time::ZERO);
    in_flight.postpone(1, Time::from_millis(500));
    in_flight.add(write(OTHER), Timestamp::default(), Time::from_millis(9));
    in_flight.hurry([2]);
    assert!(!in_flight.is_hurrying(last));
    start(&mut in_flight, Time::ZERO);
    assert!(!in_flight.is_hurrying(last));
}

#[test]
fn leaving_lets_go_of_what_is_held_for_good() {
    let mut in_flight = in_flight([(write(FILE), 800)]);
    in_flight.hold(true);
    in_flight.hurry_everything();
    in_flight.hold(true);
    assert!(!in_flight.is_held());
    assert_eq!(landing_order(in_flight), [1]);
}

#[test]
fn at_the_beginning_of_time_only_what_is_hurried_is_due() {
    let mut in_flight = in_flight([(write(FILE), 5), (write(OTHER), 5)]);
    assert_eq!(start(&mut in_flight, Time::ZERO), None);
    in_flight.hurry([2]);
    assert_eq!([(); 2].map(|()| start(&mut in_flight, Time::ZERO)), [Some(2), None]);
}

#[test]
fn whoever_hurries_all_waits_until_it_has_landed_or_is_stuck() {
    let mut in_flight = in_flight([(write(FILE), 5), (chmod(FILE), 5)]);
    assert!(!in_flight.is_hurrying(2));
    let last = in_flight.hurry_all();
    in_flight.add(write(OTHER), Timestamp::default(), Time::from_millis(9));
    assert!(in_flight.is_hurrying(last));
    start(&mut in_flight, Time::ZERO);
    assert!(in_flight.is_hurrying(last), "it is being landed");
    in_flight.postpone(1, Time::from_millis(50));
    assert_eq!((in_flight.is_hurrying(last), in_flight.delayed()), (false, 1), "what needs it is stuck, too");
    in_flight.hurry_all();
    for id in [1, 2] {
        assert!(in_flight.is_hurrying(last));
        assert_eq!(start(&mut in_flight, Time::ZERO), Some(id));
        in_flight.landed(id);
    }
    assert_eq!((in_flight.is_hurrying(last), in_flight.delayed()), (false, 0), "a later one does not count");
}

#[test]
fn while_frozen_nothing_is_handed_out() {
    let mut in_flight = in_flight([(write(FILE), 5)]);
    in_flight.hurry_all();
    in_flight.freeze(true);
    assert_eq!((start(&mut in_flight, Time::NEVER), in_flight.next_due()), (None, None));
    in_flight.freeze(false);
    assert_eq!(landing_order(in_flight), [1]);
}

#[test]
fn what_is_dropped_unstarted_the_latest_first_leaves_nothing_behind() {
    let mut in_flight = in_flight([(write(FILE), 5), (write(FILE), 4), (chmod(FILE), 3), (write(OTHER), 9)]);
    for id in [3, 2, 1] {
        in_flight.landed(id);
    }
    assert_eq!(in_flight.next_due(), Some(Time::from_millis(9)));
    assert_eq!(landing_order(in_flight), [4]);
}

#[test]
fn bytes_are_counted_until_they_have_landed() {
    let mut in_flight = in_flight([(write(FILE), 0), (write(OTHER), 0), (chmod(FILE), 0)]);
    assert_eq!((in_flight.len(), in_flight.bytes()), (3, 8));
    assert_eq!(in_flight.cost(), 2 * write(FILE).cost() + chmod(FILE).cost());
    start(&mut in_flight, Time::ZERO);
    assert_eq!(in_flight.bytes(), 8);
    in_flight.landed(1);
    in_flight.landed(1);
    assert_eq!((in_flight.len(), in_flight.bytes()), (2, 4));
}

#[test]
fn what_is_late_is_found_the_oldest_first_also_when_it_got_its_time_later() {
    let mut in_flight = in_flight([(write(FILE), 5), (write(OTHER), 90), (chmod(DIRECTORY), 90)]);
    let after = |in_flight: &InFlight, millis, cost| in_flight.oldest_after(Time::from_millis(millis), cost);
    assert!(after(&in_flight, 90, 1).is_empty());
    assert_eq!(after(&in_flight, 10, 1), [2]);
    assert_eq!(after(&in_flight, 10, u64::MAX), [2, 3]);
    in_flight.put_at(1, Time::from_millis(200));
    assert_eq!(after(&in_flight, 100, u64::MAX), [1]);
    in_flight.hurry([1, 2, 3]);
    assert!(after(&in_flight, 0, u64::MAX).is_empty());
}
