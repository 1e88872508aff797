//! What `steer.rs` promises.

use super::*;
use crate::{
    backing::ROOT,
    client::{
        ClientOptions, Offset,
        bench::{Bench, CALLER, READ_WRITE, options},
        sync::Sync,
    },
    clock::Clock,
    consistency::RenameHow,
    event::EventLog,
    knobs::Delay,
    terms::Terms,
};
use std::{fs, sync::mpsc::channel};

#[test]
fn a_clock_moved_by_hand_lands_what_is_due_by_then_and_nothing_else() {
    let bench = Bench::new(Knobs::default());
    bench.create("f", b"text");
    bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
    assert_eq!((bench.advance(799), bench.landed("f")), (0, false));
    let moved = bench.client.advance(Duration::from_millis(1)).unwrap();
    assert_eq!((moved.landed, moved.next_due), (2, Some(Duration::from_millis(400))));
    assert!(bench.landed("f") && !bench.landed("d"));
    assert_eq!((bench.advance(10_000), bench.landed("d")), (1, true));
}

#[test]
fn each_lands_at_its_own_due_time_although_the_hand_moves_far() {
    let bench = Bench::new(Knobs::default());
    for number in 0..10 {
        bench.create(&number.to_string(), b"x");
        bench.advance(10);
    }
    assert_eq!(bench.advance(5_000), 20);
    let lines = bench.lines.lock().unwrap();
    let mut landings = lines.iter().filter(|line| line.contains("event=landed"));
    assert!(landings.all(|line| line.ends_with("late_us=0")), "{lines:?}");
}

#[test]
fn a_new_delay_counts_for_what_comes_and_not_for_what_is_in_flight() {
    let bench = Bench::new(Knobs::default());
    bench.create("early", b"");
    bench.client.set(|knobs| knobs.set("write_delay", "5s")).unwrap();
    bench.create("late", b"");
    bench.advance(800);
    assert!(bench.landed("early") && !bench.landed("late"));
    bench.advance(4_199);
    assert!(!bench.landed("late"));
    bench.advance(1);
    assert!(bench.landed("late"));
    assert_eq!(bench.logged("event=set write_delay=5000ms"), 1);
}

#[test]
fn of_several_changes_one_wrong_one_refuses_all() {
    let bench = Bench::new(Knobs::default());
    let refused = bench.client.set(|knobs| {
        knobs.set("meta_ttl", "1")?;
        knobs.set("write_delay", "soon")
    });
    assert!(refused.is_err());
    let meaningless = bench.client.set(|knobs| {
        knobs.drop_prob = 2.0;
        Ok(())
    });
    assert!(meaningless.unwrap_err().0.starts_with("drop_prob: "));
    assert_eq!(bench.client.knobs(), Knobs::default());
}

#[test]
fn a_shorter_time_to_live_ends_beliefs_that_are_older() {
    let bench = Bench::new(Knobs::default());
    assert!(!bench.seen("f"));
    fs::write(bench.folder.path().join("f"), "").unwrap();
    bench.advance(300);
    bench.client.set(|knobs| knobs.set("meta_ttl", "301")).unwrap();
    assert!(!bench.seen("f"), "it is believed for one more millisecond");
    bench.advance(1);
    assert!(bench.seen("f"));
}

#[test]
fn while_held_nothing_lands_but_what_is_asked_for_and_nothing_goes_through() {
    let bench = Bench::new(Knobs { rename_delay: Delay::fixed_millis(100), ..Knobs::zero() });
    bench.client.hold();
    let (ino, _) = bench.create("through", b"text");
    bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
    assert_eq!((bench.advance(5_000), bench.landed("through"), bench.landed("d")), (0, false, false));
    assert!(bench.seen("through") && bench.client.status(bench.folder.path()).held);
    let (says, synced) = channel();
    bench.client.publish(
        Sync { ino, data_only: false, thread: 0 },
        Box::new(move |result| says.send(result).unwrap()),
    );
    bench.client.land_due();
    assert_eq!((synced.recv(), bench.landed("through"), bench.landed("d")), (Ok(Ok(())), true, false));
    bench.client.release_held();
    assert!(bench.landed("d"), "it has become due meanwhile");
    bench.create("again", b"");
    assert!(bench.landed("again"));
}

#[test]
fn a_flush_lands_also_what_is_held_and_names_what_cannot_land() {
    let bench = Bench::new(Knobs::default());
    bench.client.hold();
    bench.create("f", b"text");
    assert_eq!(bench.client.land_everything(), Ok(2));
    assert!(bench.landed("f") && bench.client.status(bench.folder.path()).held);
    // Only the store knows that these are no capabilities.
    let (made, _) = bench.create("g", b"text");
    bench.client.setxattr(&CALLER, made, b"security.capability", b"none", 0).now().unwrap();
    let refusal = bench.client.land_everything().unwrap_err().0;
    assert!(refusal.starts_with("1 change could not land: /g: setxattr (4 bytes): "), "{refusal}");
    assert_eq!(bench.client.in_flight(), (0, 0));
    // A directory with entries stays: that is a conflict, and nothing of ours is left to land.
    bench.create("h", b"text");
    fs::create_dir_all(bench.folder.path().join("h/x")).unwrap();
    assert_eq!(bench.client.land_everything(), Ok(0));
    assert_eq!(bench.client.in_flight(), (0, 0));
}

#[test]
fn what_could_not_land_is_named_once_however_many_changes_it_was() {
    let stuck = ["/f", "/g", "/f"].map(|path| Loss::of_name(path, "write", "full"));
    let refusal = could_not_land(&stuck).0;
    assert_eq!(refusal, "3 changes could not land: /f: write (2 changes): full; /g: write: full");
}

#[test]
fn what_is_lost_is_named_and_never_was() {
    let bench = Bench::new(Knobs::default());
    fs::write(bench.folder.path().join("old"), "old").unwrap();
    let known = bench.client.lookup(&CALLER, ROOT, b"old").now().unwrap().ino;
    let (_, new) = bench.create("new", b"text");
    bench.client.rename(&CALLER, (ROOT, b"old"), (ROOT, b"moved"), RenameHow::Replace).now().unwrap();
    bench.client.rename(&CALLER, (ROOT, b"moved"), (ROOT, b"twice"), RenameHow::Replace).now().unwrap();
    let named = ["/new: create", "/new: write", "/old: rename", "/moved: rename"];
    assert_eq!(bench.client.lose(), named);
    assert!(bench.client.lock().in_flight.is_pristine());
    assert!(!bench.seen("new") && !bench.seen("twice") && bench.seen("old"));
    assert_eq!(bench.client.write(&CALLER, new, Offset::At(0), b"more").now(), Err(Error::Stale));
    assert_eq!(bench.client.read(&CALLER, new, 0, 4).now().unwrap_err(), Error::Stale);
    assert_eq!(bench.client.lookup(&CALLER, ROOT, b"old").now().unwrap().ino, known);
    assert_eq!(bench.client.table.path(known), b"/old");
    assert_eq!(
        (bench.advance(5_000), bench.logged("event=lost"), bench.logged("event=lose dropped=4")),
        (0, 4, 1)
    );
    assert_eq!(bench.client.status(bench.folder.path()).dropped, 4);
}

#[test]
fn lost_data_of_a_file_that_is_there_is_reported_once() {
    let bench = Bench::new(Knobs::default());
    let (_, handle) = bench.create("f", b"old");
    bench.advance(800);
    bench.client.write(&CALLER, handle, Offset::At(0), b"new").now().unwrap();
    assert_eq!(bench.client.lose(), ["/f: write"]);
    assert_eq!(bench.client.fsync(&CALLER, handle, false).now(), Err(Error::InputOutput));
    assert_eq!(*bench.client.read(&CALLER, handle, 0, 9).now().unwrap(), *b"old");
    bench.client.write(&CALLER, handle, Offset::At(0), b"newer").now().unwrap();
    bench.advance(800);
    assert_eq!(fs::read(bench.folder.path().join("f")).unwrap(), b"newer");
}

#[test]
fn of_those_who_wait_for_room_no_more_get_in_at_once_than_there_is_room_for() {
    let bench = Bench::new(Knobs { max_in_flight: 10, ..Knobs::default() });
    let [handle, other] = [b"f", b"o"].map(|name| {
        let made = bench.client.create(&CALLER, ROOT, name, 0o100_644, 0, READ_WRITE).now();
        bench.advance(800);
        made.unwrap().1
    });
    bench.client.write(&CALLER, handle, Offset::At(0), b"x").now().unwrap();
    for _ in 0..3 {
        let write = bench.client.write(&CALLER, other, Offset::At(0), b"12345678");
        write.serve(|written| assert_eq!(written, Ok(8)));
    }
    bench.client.lose();
    assert_eq!(bench.client.in_flight(), (1, 8));
}

#[test]
fn nothing_can_be_made_in_a_directory_that_was_lost() {
    let bench = Bench::new(Knobs::default());
    let made = bench.client.mkdir(&CALLER, ROOT, b"d", 0o40_755, 0).now().unwrap();
    bench.client.lose();
    assert_eq!(bench.client.mkdir(&CALLER, made.ino, b"e", 0o40_755, 0).now().unwrap_err(), Error::Stale);
    let change = crate::client::SetAttributes { permissions: Some(0o700), ..Default::default() };
    assert_eq!(bench.client.setattr(&CALLER, made.ino, change).now().unwrap_err(), Error::Stale);
    assert!(bench.client.lock().in_flight.is_pristine());
}

#[test]
fn a_real_clock_is_not_moved_and_the_reason_is_in_the_words_of_whoever_mounted() {
    let folder = tempfile::tempdir().unwrap();
    for (terms, words) in [
        (Terms::Flags, "mount it with --clock manual to"),
        (Terms::Builder, "mount it with `.manual_clock()` to"),
        (Terms::Options, "mount it with `clock: Clock::manual()` to"),
    ] {
        let options = ClientOptions { terms, ..options(folder.path(), Knobs::zero()) };
        let client = Client::open(options, Clock::Monotonic, EventLog::silent()).unwrap();
        let refusal = client.advance(Duration::ZERO).unwrap_err().0;
        assert!(refusal.contains(words), "{refusal}");
    }
}
