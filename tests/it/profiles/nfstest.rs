//! The assertions of nfstest_cache (NFStest by Jorge Mora, `test/nfstest_cache`): what a local client L sees, and when, of what
//! a remote client R does. Ten of them: how long attributes and data of a file, and of a directory, are believed, by
//! `acregmin`, `acregmax`, `acdirmin`, `acdirmax` and `actimeo`.
//!
//! A held directory and one that is opened anew are apart: close-to-open lets the latter be current at any time.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use chaosfs::{Clients, Knobs};
use nix::{dir::Dir, fcntl::OFlag, sys::stat::Mode};

const MIN: u64 = 10;
const MAX: u64 = 20;
/// So long before a time is over nothing has changed.
const JUST_BEFORE: u64 = 2;

/// Which time counts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Span {
    Min,
    Max,
    Fixed,
}

const SPANS: [Span; 3] = [Span::Min, Span::Max, Span::Fixed];

struct Pair {
    clients: Clients,
}

impl Pair {
    fn new(profile: &str, span: Span) -> Pair {
        let mut knobs = Knobs::of_profile(profile).expect("a profile");
        let options = match span {
            Span::Fixed => format!("actimeo={MIN}"),
            _ => format!("acregmin={MIN},acregmax={MAX},acdirmin={MIN},acdirmax={MAX}"),
        };
        knobs.set("options", &options).expect("options");
        let builder = Clients::builder().knobs(knobs).manual_clock();
        Pair { clients: builder.client("L").client("R").mount().expect("two clients") }
    }

    fn local(&self, name: &str) -> PathBuf {
        self.clients["L"].mountpoint().join(name)
    }

    fn remote(&self, name: &str) -> PathBuf {
        self.clients["R"].mountpoint().join(name)
    }

    fn sleep(&self, seconds: u64) {
        self.clients.advance(Duration::from_secs(seconds)).expect("their clocks are moved by hand");
    }

    /// Lets the clock of the backing file system tick: NFSv3 tells changes by their times.
    fn tick(&self) {
        std::thread::sleep(Duration::from_millis(30));
    }

    /// Looks until the time of what is looked at is as long as it gets, and returns how long that is.
    fn stretch(&self, span: Span, look: impl Fn()) -> u64 {
        if span != Span::Max {
            return MIN;
        }
        for sleep in [MIN, MAX] {
            self.sleep(sleep);
            look();
        }
        MAX
    }

    /// What `look` shows is old until `time` after the remote change, and new then.
    fn assert_seen_after<T: PartialEq + std::fmt::Debug>(&self, time: u64, look: impl Fn() -> T, what: &str) {
        let old = look();
        self.sleep(time - JUST_BEFORE);
        assert_eq!(look(), old, "{what}: still old {JUST_BEFORE} s before {time} s are over");
        self.sleep(JUST_BEFORE);
        assert_ne!(look(), old, "{what}: new after {time} s");
    }
}

fn append(path: &Path) {
    let mut file = File::options().append(true).open(path).expect("it can be opened");
    file.write_all(b"abcde").expect("it can be written");
}

fn file(profile: &str, span: Span, reads_data: bool) {
    let pair = Pair::new(profile, span);
    let what = format!("{profile} {span:?} {}", if reads_data { "data" } else { "attributes" });
    fs::write(pair.local("f"), "ABCDE").expect("a file");
    let held = File::open(pair.local("f")).expect("it can be opened");
    let look = || {
        let mut bytes = [0; 32];
        let read = if reads_data { held.read_at(&mut bytes, 0).expect("it can be read") } else { 0 };
        let size = if reads_data { 0 } else { fs::metadata(pair.local("f")).expect("it is there").size() };
        (String::from_utf8_lossy(&bytes[..read]).into_owned(), size)
    };
    assert_eq!(look(), if reads_data { ("ABCDE".into(), 0) } else { (String::new(), 5) }, "{what}");
    let time = pair.stretch(span, || drop(look()));
    pair.tick();
    append(&pair.remote("f"));
    assert_eq!(look(), if reads_data { ("ABCDE".into(), 0) } else { (String::new(), 5) }, "{what}: at once");
    pair.assert_seen_after(time, look, &what);
    assert_eq!(look(), if reads_data { ("ABCDEabcde".into(), 0) } else { (String::new(), 10) }, "{what}");
    if span == Span::Max {
        pair.tick();
        append(&pair.remote("f"));
        pair.assert_seen_after(MIN, look, &format!("{what}: after a change the shortest time counts again"));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    Attributes,
    HeldListing,
    NewListing,
}

fn names(directory: &mut Dir) -> Vec<String> {
    let entries =
        directory.iter().map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn directory(profile: &str, span: Span, look_at: Look, is_seen_at_once: bool) {
    let pair = Pair::new(profile, span);
    let what = format!("{profile} {span:?} {look_at:?}");
    fs::create_dir_all(pair.local("d/x")).expect("directories");
    let path = pair.local("d");
    let held = Dir::open(&path, OFlag::O_RDONLY, Mode::empty()).expect("it can be opened");
    let held = std::cell::RefCell::new(held);
    let look = || match look_at {
        Look::Attributes => {
            let found = fs::metadata(&path).expect("it is there");
            (found.mtime(), found.mtime_nsec(), Vec::new())
        }
        Look::HeldListing => (0, 0, names(&mut held.borrow_mut())),
        Look::NewListing => {
            (0, 0, names(&mut Dir::open(&path, OFlag::O_RDONLY, Mode::empty()).expect("it opens")))
        }
    };
    let before = look();
    let time = pair.stretch(span, || drop(fs::metadata(&path)));
    pair.tick();
    fs::create_dir(pair.remote("d/y")).expect("a directory");
    assert_eq!(look() != before, is_seen_at_once, "{what}: at once");
    if is_seen_at_once {
        return;
    }
    pair.assert_seen_after(time, look, &what);
    if span == Span::Max {
        pair.tick();
        fs::create_dir(pair.remote("d/z")).expect("a directory");
        pair.assert_seen_after(MIN, look, &format!("{what}: after a change the shortest time counts again"));
    }
}

#[test]
fn attributes_of_a_file_are_as_old_as_nfs_lets_them_be() {
    for (profile, span) in ["nfs3", "nfs4"].iter().flat_map(|profile| SPANS.map(|span| (profile, span))) {
        file(profile, span, false);
    }
}

#[test]
fn data_of_a_held_file_is_as_old_as_nfs_lets_it_be() {
    for (profile, span) in ["nfs3", "nfs4"].iter().flat_map(|profile| SPANS.map(|span| (profile, span))) {
        file(profile, span, true);
    }
}

#[test]
fn attributes_of_a_directory_are_as_old_as_nfs_lets_them_be() {
    for (profile, span) in ["nfs3", "nfs4"].iter().flat_map(|profile| SPANS.map(|span| (profile, span))) {
        directory(profile, span, Look::Attributes, false);
    }
}

#[test]
fn a_held_directory_is_old_on_nfs3_and_read_again_on_nfs4() {
    for span in SPANS {
        directory("nfs3", span, Look::HeldListing, false);
        directory("nfs4", span, Look::HeldListing, true);
    }
}

#[test]
fn a_directory_that_is_opened_anew_is_current() {
    for (profile, span) in ["nfs3", "nfs4"].iter().flat_map(|profile| SPANS.map(|span| (profile, span))) {
        directory(profile, span, Look::NewListing, true);
    }
}
