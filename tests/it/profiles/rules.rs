//! Single rules of profiles, on mounted clients.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    time::Duration,
};

use chaosfs::{Clients, Knobs};
use nix::errno::Errno;

pub(super) fn clients(profile: &str) -> Clients {
    let knobs = Knobs::of_profile(profile).expect("a profile");
    Clients::builder().knobs(knobs).manual_clock().clients(2).mount().expect("two clients")
}

pub(super) fn at(clients: &Clients, path: &str) -> PathBuf {
    let (client, name) = path.split_once('/').expect("a client and a name");
    clients[client].mountpoint().join(name)
}

pub(super) fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
}

pub(super) fn advance(clients: &Clients, seconds: u64) {
    clients.advance(Duration::from_secs(seconds)).expect("their clocks are moved by hand");
}

#[test]
fn an_absent_name_lives_by_its_directory_and_a_listing_ends_that() {
    let clients = clients("nfs4");
    let exists = || at(&clients, "B/flag").exists();
    assert!(!exists());
    std::thread::sleep(Duration::from_millis(30));
    fs::write(at(&clients, "A/flag"), "").expect("a file");
    advance(&clients, 29);
    assert!(!exists());
    let listed = fs::read_dir(at(&clients, "B/")).expect("a listing").count();
    assert_eq!((listed, exists()), (1, true), "a listing asks, and tells of the name");
    fs::remove_file(at(&clients, "A/flag")).expect("it goes");
    assert!(exists(), "it is believed that it is there");
    assert_eq!(errno(File::open(at(&clients, "B/flag"))), Some(Errno::ENOENT), "but opening asks");
}

#[test]
fn an_own_change_in_a_directory_tells_of_others_changes_there() {
    let clients = clients("nfs4");
    assert!(!at(&clients, "B/flag").exists());
    std::thread::sleep(Duration::from_millis(30));
    fs::write(at(&clients, "A/flag"), "").expect("a file");
    assert!(!at(&clients, "B/flag").exists());
    fs::write(at(&clients, "B/mine"), "").expect("a file");
    assert!(at(&clients, "B/flag").exists());
}

#[test]
fn data_is_published_by_close_stat_and_fsync_and_after_thirty_seconds() {
    let clients = clients("nfs3");
    let seen = |name: &str| fs::read_to_string(at(&clients, &format!("B/{name}"))).expect("it is there");
    let dirty = |name: &str| {
        let mut file = File::create(at(&clients, &format!("A/{name}"))).expect("a file");
        file.write_all(b"text").expect("it is taken");
        assert_eq!(seen(name), "", "the name is there, its data is not");
        file
    };
    drop(dirty("close"));
    let stat = dirty("stat");
    stat.metadata().expect("attributes");
    let synced = dirty("fsync");
    synced.sync_all().expect("it is synced");
    let _aged = dirty("age");
    let published = ["close", "stat", "fsync", "age"].map(seen);
    assert_eq!(published, ["text", "text", "text", ""]);
    advance(&clients, 30);
    assert_eq!(seen("age"), "text");
}

#[test]
fn an_open_file_that_is_removed_gets_a_hidden_name_until_it_is_closed() {
    let clients = clients("nfs3");
    fs::create_dir(at(&clients, "A/d")).expect("a directory");
    fs::write(at(&clients, "A/d/f"), "text").expect("a file");
    let mut held = File::open(at(&clients, "A/d/f")).expect("it opens");
    fs::remove_file(at(&clients, "A/d/f")).expect("it goes");
    let listed = || {
        let entries = fs::read_dir(at(&clients, "B/d")).expect("a listing");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect::<Vec<_>>()
    };
    let names = listed();
    assert!(names.len() == 1 && names[0].starts_with(".nfs") && names[0].len() == 28, "{names:?}");
    let hidden = at(&clients, "A/d").join(&names[0]);
    assert_eq!(errno(fs::remove_file(&hidden)), Some(Errno::EBUSY));
    assert_eq!(errno(fs::remove_dir(at(&clients, "A/d"))), Some(Errno::ENOTEMPTY));
    let mut text = String::new();
    held.read_to_string(&mut text).expect("it can be read");
    assert_eq!((text.as_str(), held.metadata().expect("attributes").nlink()), ("text", 1));
    drop(held);
    eventually_empty(&listed);
    fs::remove_dir(at(&clients, "A/d")).expect("nothing is in it any more");
}

/// The kernel closes a file for good some time after its last user has.
fn eventually_empty(listed: &dyn Fn() -> Vec<String>) {
    crate::sandbox::eventually("the hidden name goes", listed, Vec::is_empty);
}

#[test]
fn a_file_that_another_client_removes_is_stale_on_nfs3_and_stays_on_nfs4() {
    for (profile, expected) in [("nfs3", Some(Errno::ESTALE)), ("nfs4", None)] {
        let clients = clients(profile);
        fs::write(at(&clients, "A/f"), "text").expect("a file");
        let held = File::open(at(&clients, "B/f")).expect("it opens");
        fs::remove_file(at(&clients, "A/f")).expect("it goes");
        advance(&clients, 3);
        assert_eq!(errno(held.metadata()), expected, "{profile}");
        assert_eq!(errno(held.read_at(&mut [0], 0)), expected, "{profile}");
    }
}

#[test]
fn two_who_write_into_one_page_undo_each_other() {
    let clients = clients("nfs4");
    fs::write(at(&clients, "A/f"), "....").expect("a file");
    std::thread::sleep(Duration::from_millis(30));
    let open = |path: &str| {
        let mut file = File::options().read(true).write(true).open(at(&clients, path)).expect("it opens");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it can be read");
        file.rewind().expect("it can");
        file
    };
    let (a, b) = (open("A/f"), open("B/f"));
    a.write_all_at(b"AA", 0).expect("it is taken");
    b.write_all_at(b"BB", 2).expect("it is taken");
    drop(a);
    drop(b);
    assert_eq!(fs::read_to_string(at(&clients, "A/f")).expect("a file"), "..BB");
}

#[test]
fn two_who_append_lose_a_line() {
    let clients = clients("nfs4");
    fs::write(at(&clients, "A/log"), "start\n").expect("a file");
    let open = |path: &str| File::options().append(true).open(at(&clients, path)).expect("it opens");
    let (mut a, mut b) = (open("A/log"), open("B/log"));
    a.write_all(b"from A\n").expect("it is taken");
    drop(a);
    b.write_all(b"from B\n").expect("it is taken");
    drop(b);
    assert_eq!(fs::read_to_string(at(&clients, "A/log")).expect("a file"), "start\nfrom B\n");
}

#[test]
fn what_is_open_for_writing_here_ignores_what_others_write() {
    let clients = clients("nfs3");
    fs::write(at(&clients, "A/f"), "v1").expect("a file");
    let mut held = File::options().read(true).write(true).open(at(&clients, "B/f")).expect("it opens");
    let mut text = String::new();
    held.read_to_string(&mut text).expect("it can be read");
    fs::write(at(&clients, "A/f"), "v2").expect("it can be written");
    advance(&clients, 100);
    let reread = || fs::read_to_string(at(&clients, "B/f")).expect("a file");
    assert_eq!(reread(), "v1", "also for who opens it now");
    drop(held);
    crate::sandbox::eventually("the new content", reread, |text| text == "v2");
}

#[test]
fn what_the_storage_does_not_have_is_refused() {
    let clients = clients("gcsfuse");
    fs::write(at(&clients, "A/f"), "text").expect("a file");
    assert!(errno(fs::hard_link(at(&clients, "A/f"), at(&clients, "A/g"))).is_some());
    let clients = self::clients("nfs4");
    fs::write(at(&clients, "A/f"), "text").expect("a file");
    let (from, to) = (at(&clients, "A/f"), at(&clients, "A/g"));
    let flags = nix::fcntl::RenameFlags::RENAME_NOREPLACE;
    let here = nix::fcntl::AT_FDCWD;
    assert_eq!(nix::fcntl::renameat2(here, &from, here, &to, flags), Err(Errno::EINVAL));
}

#[test]
fn an_object_appears_as_a_whole_when_it_is_closed() {
    let clients = clients("gcsfuse");
    let mut file = File::create(at(&clients, "A/object")).expect("a file");
    file.write_all(b"all of it").expect("it is taken");
    advance(&clients, 3600);
    assert!(!at(&clients, "B/object").exists());
    drop(file);
    assert!(!at(&clients, "B/object").exists(), "it is believed for 5 s that there is none");
    advance(&clients, 5);
    assert_eq!(fs::read_to_string(at(&clients, "B/object")).expect("it is there"), "all of it");
}

#[test]
fn exploring_draws_each_lifetime_from_the_seed_and_never_beyond_its_bound() {
    let ages = |seed| {
        let mut knobs = Knobs::of_profile("nfs4").expect("a profile");
        knobs.set("explore", "true").expect("it is right");
        let builder = Clients::builder().knobs(knobs).seed(seed).manual_clock();
        let clients = builder.clients(2).mount().expect("two clients");
        let ages = (0..12).map(|number| {
            let name = format!("f{number}");
            fs::write(at(&clients, &format!("A/{name}")), "1").expect("a file");
            let size = || fs::metadata(at(&clients, &format!("B/{name}"))).expect("it is there").size();
            assert_eq!(size(), 1);
            std::thread::sleep(Duration::from_millis(2));
            fs::write(at(&clients, &format!("A/{name}")), "12").expect("it can be written");
            (0..60).find(|_| {
                let is_new = size() == 2;
                clients.advance(Duration::from_millis(100)).expect("their clocks are moved by hand");
                is_new
            })
        });
        ages.map(|age| age.expect("no longer than 3 s of a file's lifetime")).collect::<Vec<_>>()
    };
    let first = ages(1);
    assert!(first.iter().all(|age| *age <= 30), "{first:?}");
    assert!(first.iter().max() > first.iter().min(), "they differ: {first:?}");
    assert_eq!(ages(1), first, "the same seed, the same ages");
    assert_ne!(ages(2), first);
}

#[test]
fn the_second_of_two_writers_of_an_object_is_told_at_close() {
    let clients = clients("gcsfuse");
    fs::write(at(&clients, "A/object"), "v0").expect("a file");
    let open = |path: &str| {
        let mut file = File::options().write(true).truncate(true).open(at(&clients, path)).expect("it opens");
        file.write_all(path.as_bytes()).expect("it is taken");
        file
    };
    let (a, b) = (open("A/object"), open("B/object"));
    let close = |file: File| nix::unistd::close(std::os::fd::OwnedFd::from(file));
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(close(a), Ok(()), "the first");
    assert_eq!(close(b), Err(Errno::ESTALE), "the second");
    assert_eq!(fs::read_to_string(clients.backing().join("object")).expect("a file"), "A/object");
}

#[test]
fn objects_are_written_from_start_to_end() {
    let clients = clients("goofys");
    let mut file = File::create(at(&clients, "A/object")).expect("a file");
    file.write_all(b"one").and_then(|()| file.write_all(b"two")).expect("in sequence");
    assert_eq!(errno(file.write_at(b"x", 1)), Some(Errno::EINVAL));
}

#[test]
fn nothing_of_a_file_leaves_before_it_is_closed_where_delays_count_from_that() {
    let clients = clients("rclone");
    let mut file = File::create(at(&clients, "A/f")).expect("a file");
    file.write_all(b"text").expect("it is taken");
    file.sync_all().expect("it says so");
    advance(&clients, 60);
    assert!(!at(&clients, "B/f").exists() && clients.backing().read_dir().expect("a listing").count() == 0);
    drop(file);
    let landed = || {
        advance(&clients, 6);
        fs::read_to_string(clients.backing().join("f")).unwrap_or_default()
    };
    crate::sandbox::eventually("it is uploaded", landed, |text| text == "text");
}

#[test]
fn a_file_that_is_larger_than_what_may_be_in_flight_can_be_written_all_the_same() {
    let mut knobs = Knobs::of_profile("s3fs").expect("a profile");
    knobs.set("max-in-flight", "1MiB").expect("it is right");
    let clients = Clients::builder().knobs(knobs).manual_clock().clients(1).mount().expect("a client");
    let large = vec![7; 5 << 20];
    fs::write(at(&clients, "A/large"), &large).expect("it is taken");
    assert!(fs::read(clients.backing().join("large")).expect("a file") == large);
}
