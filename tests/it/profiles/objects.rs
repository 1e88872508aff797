//! Renames on stores of objects, on mounted clients.

use std::{fs, io, path::PathBuf, thread, time::Duration};

use chaosfs::{Clients, Knobs};
use nix::errno::Errno;

use super::rules::{at, clients, errno};
use crate::sandbox::eventually;

/// What is in a directory, in its order.
fn names(directory: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn copying() -> Clients {
    let mut knobs = Knobs::of_profile("s3fs").expect("a profile");
    knobs.set("copy-time", "100ms").expect("it is right");
    Clients::builder().knobs(knobs).manual_clock().clients(1).mount().expect("a client")
}

/// Renames in a thread of its own. A test that fails unmounts, which ends the call.
fn rename(from: PathBuf, to: PathBuf) -> thread::JoinHandle<io::Result<()>> {
    thread::spawn(move || fs::rename(from, to))
}

#[test]
fn a_file_that_is_renamed_has_both_names_for_as_long_as_copying_takes() {
    let clients = copying();
    fs::write(at(&clients, "A/old"), "text").expect("a file");
    let renamed = rename(at(&clients, "A/old"), at(&clients, "A/new"));
    eventually("both are there", || names(clients.backing().into()), |names| names == &["new", "old"]);
    assert_eq!(fs::read_to_string(clients.backing().join("new")).expect("a file"), "text");
    assert!(!renamed.is_finished(), "the call has not returned");
    clients.advance(Duration::from_millis(100)).expect("their clocks are moved by hand");
    renamed.join().expect("it ends").expect("it is renamed");
    assert_eq!(names(clients.backing().into()), ["new"]);
}

#[test]
fn a_directory_that_is_renamed_goes_piece_by_piece() {
    let clients = copying();
    let (old, new) = (clients.backing().join("old"), clients.backing().join("new"));
    fs::create_dir(at(&clients, "A/old")).expect("a directory");
    for name in ["a", "b", "c"] {
        fs::write(at(&clients, "A/old").join(name), name).expect("a file");
    }
    let renamed = rename(at(&clients, "A/old"), at(&clients, "A/new"));
    eventually("it has begun", || new.exists(), |has_begun| *has_begun);
    for gone in 0..3 {
        let expected = |(old, new): &(usize, usize)| *old == 3 - gone && *new == gone;
        eventually("so many are copied", || (names(old.clone()).len(), names(new.clone()).len()), expected);
        assert!(!renamed.is_finished(), "the call has not returned");
        clients.advance(Duration::from_millis(100)).expect("their clocks are moved by hand");
    }
    renamed.join().expect("it ends").expect("it is renamed");
    assert_eq!((old.exists(), names(new)), (false, vec!["a".to_string(), "b".into(), "c".into()]));
    assert_eq!(fs::read_to_string(at(&clients, "A/new/b")).expect("a file"), "b");
}

#[test]
fn a_client_that_leaves_finishes_what_it_has_half_copied() {
    let backing = tempfile::tempdir().expect("a folder");
    let mut knobs = Knobs::of_profile("s3fs").expect("a profile");
    knobs.set("copy-time", "1h").expect("it is right");
    let clients =
        Clients::builder().knobs(knobs).backing(backing.path()).clients(1).mount().expect("a client");
    let (old, new) = (at(&clients, "A/old"), at(&clients, "A/new"));
    fs::create_dir(&old).expect("a directory");
    for name in ["a", "b", "c"] {
        fs::write(old.join(name), name).expect("a file");
    }
    // Its answer may be lost with the mount.
    let renamed = rename(old, new);
    eventually("it has begun", || backing.path().join("new").exists(), |has_begun| *has_begun);
    clients.unmount().expect("nothing is lost");
    let _ = renamed.join().expect("it ends");
    assert_eq!(
        (names(backing.path().into()), names(backing.path().join("new")).len()),
        (vec!["new".into()], 3)
    );
}

#[test]
fn a_directory_with_something_in_it_cannot_be_renamed_where_only_files_move() {
    let clients = clients("gcsfuse");
    let (old, new) = (at(&clients, "A/old"), at(&clients, "A/new"));
    fs::create_dir(&old).expect("a directory");
    fs::rename(&old, &new).expect("it is empty");
    fs::write(new.join("f"), "text").expect("a file");
    assert_eq!(errno(fs::rename(&new, &old)), Some(Errno::EMFILE));
    fs::rename(new.join("f"), new.join("g")).expect("a file moves");
}
