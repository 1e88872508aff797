//! Storages that know inodes by their paths, or tell little about them, on mounted clients.

use std::{
    fs::{self, File, FileType, Permissions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use nix::errno::Errno;

use super::rules::{advance, at, clients, errno};

fn mode(path: &Path) -> (u32, u64) {
    let attributes = fs::metadata(path).expect("attributes");
    (attributes.mode() & 0o7777, attributes.nlink())
}

#[test]
fn what_fails_at_a_path_leaves_the_belief_in_it() {
    let clients = clients("sshfs");
    let (here, there) = (at(&clients, "B/f"), at(&clients, "A/f"));
    fs::write(&there, "text").expect("a file");
    assert!(here.exists());
    fs::remove_file(&there).expect("it goes");
    let read_only = Permissions::from_mode(0o400);
    assert_eq!(errno(fs::set_permissions(&here, read_only)), Some(Errno::ENOENT));
    assert_eq!(errno(fs::remove_file(&here)), Some(Errno::ENOENT));
    assert!(here.exists(), "it is still believed");
    advance(&clients, 21);
    assert!(!here.exists());
}

#[test]
fn a_held_file_is_read_by_its_handle_and_asked_about_by_its_path() {
    let clients = clients("sshfs");
    fs::write(at(&clients, "A/f"), "text").expect("a file");
    let held = File::open(at(&clients, "B/f")).expect("it opens");
    fs::remove_file(at(&clients, "A/f")).expect("it goes");
    advance(&clients, 21);
    assert_eq!(errno(held.metadata()), Some(Errno::ENOENT));
    let mut text = [0; 4];
    held.read_exact_at(&mut text, 0).expect("the handle is good");
    assert_eq!(&text, b"text");
}

#[test]
fn a_directory_at_a_path_may_be_another_one() {
    let clients = clients("sshfs");
    fs::create_dir(at(&clients, "A/d")).expect("a directory");
    let inside = File::open(at(&clients, "B/d")).expect("it opens");
    fs::rename(at(&clients, "A/d"), at(&clients, "A/old")).expect("it moves");
    let made = || {
        let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
        nix::fcntl::openat(&inside, "new", flags, nix::sys::stat::Mode::S_IRWXU).map(drop)
    };
    assert_eq!(made(), Err(Errno::ENOENT));
    fs::create_dir(at(&clients, "A/d")).expect("another directory");
    assert_eq!(made(), Ok(()));
    assert!(at(&clients, "A/d/new").exists());
    assert!(at(&clients, "B/old").exists(), "both names are believed");
}

#[test]
fn opening_what_is_gone_fails_for_as_long_as_it_is_believed() {
    let clients = clients("rclone");
    fs::write(at(&clients, "A/f"), "text").expect("a file");
    // The kernel closes a file for good some time after its last user has.
    let landed = || {
        advance(&clients, 6);
        clients.backing().join("f").exists()
    };
    crate::sandbox::eventually("it is uploaded", landed, |has_landed| *has_landed);
    assert_eq!(fs::read_to_string(at(&clients, "B/f")).expect("it is there"), "text");
    fs::remove_file(at(&clients, "A/f")).expect("it goes");
    advance(&clients, 100);
    assert_eq!(errno(File::open(at(&clients, "B/f"))), Some(Errno::EIO));
    advance(&clients, 201);
    assert_eq!(errno(File::open(at(&clients, "B/f"))), Some(Errno::ENOENT));
}

#[test]
fn permissions_and_link_counts_are_shown_as_the_storage_does() {
    let clients = clients("smb");
    let (file, directory) = (at(&clients, "A/f"), at(&clients, "A/d"));
    fs::write(&file, "").expect("a file");
    fs::create_dir(&directory).expect("a directory");
    fs::create_dir(directory.join("in it")).expect("another one");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is taken, and changes nothing");
    fs::hard_link(&file, at(&clients, "A/g")).expect("a link");
    assert_eq!((mode(&file), mode(&directory)), ((0o755, 1), (0o755, 2)));
}

#[test]
fn a_symlink_that_is_replaced_is_read_anew() {
    let clients = clients("glusterfs");
    let (here, there) = (at(&clients, "B/link"), at(&clients, "A/link"));
    symlink("one", &there).expect("a symlink");
    assert_eq!(fs::read_link(&here).expect("it is one"), Path::new("one"));
    symlink("two", at(&clients, "A/new")).expect("a symlink");
    fs::rename(at(&clients, "A/new"), &there).expect("it is replaced");
    assert_eq!(fs::read_link(&here).expect("it is one"), Path::new("two"));
}

#[test]
fn a_listing_tells_what_a_name_leads_to_now() {
    let clients = clients("glusterfs");
    let types = || -> Vec<FileType> {
        let entries = fs::read_dir(at(&clients, "B/")).expect("a listing");
        entries.map(|entry| entry.and_then(|entry| entry.file_type()).expect("a type")).collect()
    };
    fs::write(at(&clients, "A/x"), "").expect("a file");
    assert!(at(&clients, "B/x").is_file() && types()[0].is_file());
    fs::remove_file(at(&clients, "A/x")).expect("it goes");
    fs::create_dir(at(&clients, "A/x")).expect("a directory");
    assert!(types()[0].is_dir());
}

#[test]
fn a_held_directory_shows_what_it_showed_first() {
    for (profile, expected) in [("smb", 1), ("glusterfs", 2)] {
        let clients = clients(profile);
        fs::write(at(&clients, "A/one"), "").expect("a file");
        let directory = at(&clients, "B/");
        let no_mode = nix::sys::stat::Mode::empty();
        let mut held =
            nix::dir::Dir::open(&directory, nix::fcntl::OFlag::O_RDONLY, no_mode).expect("it opens");
        // With `.` and `..`.
        let mut count = || held.iter().count() - 2;
        assert_eq!(count(), 1);
        fs::write(at(&clients, "A/two"), "").expect("a file");
        assert_eq!((profile, count()), (profile, expected));
        assert_eq!(fs::read_dir(&directory).expect("a listing").count(), 2, "{profile}");
    }
}
