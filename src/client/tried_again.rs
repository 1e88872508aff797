//! What a program and others see when a system call fails and the program tries again what it was refused: the same as if
//! nothing had failed. Nothing is lost, nobody meets a conflict with oneself, and nothing is left open.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, symlink},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, mpsc::channel},
    time::Duration,
};

use super::{
    Client, Copy, Offset, RenameHow, SetAttributes, Timestamp,
    backing::{
        ROOT,
        failing::{MOST_ERRORS, Plan, Span},
        sys,
    },
    bench::{Bench, CALLER, READ_WRITE},
};
use crate::{consistency::Ino, error::Error, knobs::Knobs};

const EXCLUSIVE: i32 = 0o200;
const FILE: u32 = 0o100_666;
const DIRECTORY: u32 = 0o040_777;
const FIFO: u32 = 0o010_666;
const UMASK: u32 = 0o022;
const XATTR: &[u8] = b"user.kept";

/// More often nothing fails in one call.
const MOST_TRIES: usize = 12;

/// By path, what stands there.
type Tree = BTreeMap<String, String>;

/// A client, a program on it, and somebody else who works in its backing directory.
struct Scene {
    bench: Bench,
    /// Lookups to give back.
    known: Vec<Ino>,
}

/// What came of a history.
#[derive(Debug, PartialEq)]
struct End {
    store: Tree,
    seen: Tree,
    conflicts: Vec<String>,
}

impl Scene {
    fn client(&self) -> &Arc<Client> {
        &self.bench.client
    }

    fn store(&self, path: &str) -> PathBuf {
        self.bench.folder.path().join(path)
    }

    /// Does it again while it is refused for what the plan says, and takes `done` for done from the second time on.
    fn done_already<T>(
        &mut self,
        what: &str,
        done: Option<Error>,
        mut call: impl FnMut(&mut Scene) -> Result<T, Error>,
    ) -> Option<T> {
        for attempt in 0..MOST_TRIES {
            match call(self) {
                Ok(value) => return Some(value),
                Err(error) if attempt > 0 && done.is_some_and(|done| error == done) => return None,
                Err(error) => assert!(
                    Plan::so_far().is_some_and(|(_, planned)| planned == error),
                    "{what} answers {}",
                    error.symbol()
                ),
            }
        }
        panic!("{what} is refused for ever");
    }

    fn again<T>(&mut self, what: &str, call: impl FnMut(&mut Scene) -> Result<T, Error>) -> T {
        self.done_already(what, None, call).expect("it is not done before")
    }

    fn lookup(&mut self, directory: Ino, name: &str) -> Ino {
        let entry = self.again(&format!("lookup of {name}"), |scene| {
            scene.client().lookup(&CALLER, directory, name.as_bytes()).now().map_err(|missing| missing.error)
        });
        self.known.push(entry.ino);
        entry.ino
    }

    fn node(&mut self, path: &str) -> Ino {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT, |at, name| self.lookup(at, name))
    }

    fn place<'a>(&mut self, path: &'a str) -> (Ino, &'a [u8]) {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(directory), name.as_bytes())
    }

    fn make(&mut self, path: &str, call: impl Fn(&Arc<Client>, Ino, &[u8]) -> Result<Ino, Error>) -> Ino {
        let (directory, name) = self.place(path);
        let made = self.done_already(&format!("making {path}"), Some(Error::Exists), |scene| {
            call(scene.client(), directory, name)
        });
        match made {
            Some(ino) => {
                self.known.push(ino);
                ino
            }
            None => self.node(path),
        }
    }

    fn mkdir(&mut self, path: &str) -> Ino {
        self.make(path, |client, directory, name| {
            client.mkdir(&CALLER, directory, name, DIRECTORY, UMASK).now().map(|entry| entry.ino)
        })
    }

    fn create(&mut self, path: &str) -> u64 {
        let (directory, name) = self.place(path);
        let made = self.done_already(&format!("creating {path}"), Some(Error::Exists), |scene| {
            scene.client().create(&CALLER, directory, name, FILE, UMASK, READ_WRITE | EXCLUSIVE).now()
        });
        match made {
            Some((entry, handle)) => {
                self.known.push(entry.ino);
                handle
            }
            None => self.open(path),
        }
    }

    fn open(&mut self, path: &str) -> u64 {
        let ino = self.node(path);
        self.again(&format!("opening {path}"), |scene| {
            scene.client().open_file(&CALLER, ino, READ_WRITE).now()
        })
    }

    fn write(&mut self, handle: u64, offset: u64, data: &[u8]) {
        let written = self
            .again("write", |scene| scene.client().write(&CALLER, handle, Offset::At(offset), data).now());
        assert_eq!(written, data.len());
    }

    fn read(&mut self, handle: u64, length: usize) -> Vec<u8> {
        self.again("read", |scene| {
            scene.client().read(&CALLER, handle, 0, length).now().map(|bytes| bytes.to_vec())
        })
    }

    fn close(&mut self, handle: u64) {
        self.again("close", |scene| scene.client().flush(&CALLER, handle).now());
        self.client().release(handle);
    }

    fn sync(&mut self, handle: u64) {
        self.again("fsync", |scene| {
            let (sender, answer) = channel();
            let done = move |result| sender.send(result).expect("somebody waits");
            scene.client().fsync(&CALLER, handle, false).serve(done);
            scene.client().land_due();
            answer.recv_timeout(Duration::from_secs(20)).expect("fsync returns")
        });
    }

    fn set(&mut self, path: &str, asked: SetAttributes) {
        let ino = self.node(path);
        self.again(&format!("setattr of {path}"), |scene| scene.client().setattr(&CALLER, ino, asked).now());
    }

    fn remove(&mut self, path: &str, call: impl Fn(&Arc<Client>, Ino, &[u8]) -> Result<(), Error>) {
        let (directory, name) = self.place(path);
        self.node(path);
        self.done_already(&format!("removing {path}"), Some(Error::NotFound), |scene| {
            call(scene.client(), directory, name)
        });
    }

    fn unlink(&mut self, path: &str) {
        self.remove(path, |client, directory, name| client.unlink(&CALLER, directory, name).now());
    }

    fn rename(&mut self, from: &str, to: &str, how: RenameHow) {
        let (source, target) = (self.place(from), self.place(to));
        self.node(from);
        self.done_already(&format!("renaming {from}"), Some(Error::NotFound), |scene| {
            scene.client().rename(&CALLER, source, target, how).now()
        });
    }

    /// What is due lands, and what was put off, however often.
    fn settle(&mut self) {
        // All that is not used is found by its name or its handle from now on.
        self.client().table.close_all();
        for _ in 0..MOST_TRIES {
            self.client().advance(Duration::from_secs(2)).expect("a clock that is moved by hand");
            if self.client().in_flight().0 == 0 {
                return;
            }
        }
        panic!("{:?} stays in flight: {:#?}", self.client().in_flight(), self.bench.lines);
    }

    /// The words of all events of one kind that begin with one of these.
    fn log(&self, event: &str, keys: &[&str]) -> Vec<String> {
        let wanted = format!("event={event} ");
        let lines = self.bench.lines.lock().expect("no panic");
        let of_event = lines.iter().filter_map(|line| Some(line.split_once(&wanted)?.1));
        let is_wanted = |word: &&str| keys.iter().any(|key| word.starts_with(key));
        let words = |line: &str| line.split(' ').filter(is_wanted).collect::<Vec<_>>().join(" ");
        let mut all: Vec<String> = of_event.map(words).collect();
        all.sort_unstable();
        all
    }

    /// A varied history: every kind of change, at once and late, alone and with somebody else's changes in between.
    fn play(&mut self) -> (Tree, Vec<String>) {
        self.make_things();
        self.settle();
        self.change_things();
        self.meet_others();
        self.settle();
        self.leave_some_for_the_end();
        self.end()
    }

    fn make_things(&mut self) {
        self.mkdir("d");
        self.mkdir("d/e");
        let file = self.create("d/f");
        self.write(file, 0, b"some bytes");
        self.write(file, 5, b"more bytes than before");
        self.make("d/link", |client, directory, name| {
            client.symlink(&CALLER, directory, name, b"f").now().map(|entry| entry.ino)
        });
        self.make("d/fifo", |client, directory, name| {
            client.mknod(&CALLER, directory, name, FIFO, UMASK, 0).now().map(|entry| entry.ino)
        });
        self.sync(file);
        self.close(file);
        for name in ["one", "two", "three"] {
            let file = self.create(&format!("d/e/{name}"));
            self.write(file, 0, name.as_bytes());
            self.close(file);
        }
    }

    fn change_things(&mut self) {
        let file = self.open("d/f");
        assert_eq!(self.read(file, 100), b"some more bytes than before");
        self.write(file, 100, b"far out");
        self.again("fallocate", |scene| scene.client().fallocate(&CALLER, file, 0, 0, 5000).now());
        let other = self.open("d/e/one");
        let copy = Copy { from: file, from_offset: 0, to: other, to_offset: 3, length: 4 };
        self.again("copy", |scene| scene.client().copy_range(&CALLER, copy).now());
        self.again("seek", |scene| scene.client().seek(&CALLER, file, 0, 4).now());
        self.close(other);
        let ino = self.node("d/f");
        let times = Some(Timestamp { seconds: 1_000, nanos: 5 });
        self.set("d/f", SetAttributes { size: Some(300), ..SetAttributes::default() });
        self.set("d/f", SetAttributes { permissions: Some(0o640), ..SetAttributes::default() });
        self.set("d/e", SetAttributes { permissions: Some(0o2700), ..SetAttributes::default() });
        self.again("setxattr", |scene| scene.client().setxattr(&CALLER, ino, XATTR, b"value", 0).now());
        assert_eq!(
            self.again("getxattr", |scene| scene.client().getxattr(&CALLER, ino, XATTR).now()),
            b"value"
        );
        self.again("listxattr", |scene| scene.client().listxattr(&CALLER, ino).now());
        self.rename("d/e/one", "d/renamed", RenameHow::Replace);
        self.rename("d/e/two", "d/e/three", RenameHow::Replace);
        let linked = self.node("d/renamed");
        let (directory, name) = self.place("d/second");
        let made = self.done_already("link", Some(Error::Exists), |scene| {
            scene.client().link(&CALLER, linked, directory, name).now()
        });
        self.known.extend(made.map(|entry| entry.ino));
        self.unlink("d/fifo");
        self.mkdir("gone");
        self.remove("gone", |client, directory, name| client.rmdir(&CALLER, directory, name).now());
        self.set("d/f", SetAttributes { mtime: times, atime: times, ..SetAttributes::default() });
        self.again("statfs", |scene| scene.client().figures(&CALLER).now());
        self.close(file);
        self.look();
        self.rename("d/e", "moved", RenameHow::Replace);
    }

    /// What others do while ours is in flight.
    fn meet_others(&mut self) {
        self.settle();
        let scratch = self.create("taken");
        self.write(scratch, 0, b"ours");
        self.close(scratch);
        self.mkdir("merged");
        let inside = self.create("merged/ours");
        self.close(inside);
        self.unlink("moved/three");
        let file = self.open("d/f");
        self.write(file, 0, b"ours again");
        self.close(file);
        self.rename("d/renamed", "onto", RenameHow::Replace);
        if self.client().in_flight().0 > 0 {
            fs::write(self.store("taken"), "theirs").expect("they can");
            fs::create_dir(self.store("merged")).expect("they can");
            fs::remove_file(self.store("moved/three")).expect("they can");
            fs::write(self.store("onto"), "theirs").expect("they can");
            let theirs = OpenOptions::new().write(true).open(self.store("d/f")).expect("they can");
            theirs.write_all_at(b"theirs", 290).expect("they can");
            symlink("away", self.store("theirs")).expect("they can");
        }
        self.settle();
    }

    fn leave_some_for_the_end(&mut self) {
        self.mkdir("last");
        let file = self.create("last/file");
        self.write(file, 0, &[b'x'; 10_000]);
        let ino = self.node("last/file");
        self.again("setxattr", |scene| scene.client().setxattr(&CALLER, ino, XATTR, b"late", 0).now());
        self.close(file);
        self.rename("d/link", "last/link", RenameHow::Replace);
        self.unlink("d/second");
    }

    /// What the client shows.
    fn look(&mut self) -> Tree {
        let mut tree = Tree::new();
        self.look_inside("", ROOT, &mut tree);
        tree
    }

    fn look_inside(&mut self, path: &str, directory: Ino, tree: &mut Tree) {
        let handle = self.again("opendir", |scene| scene.client().opendir(&CALLER, directory).now());
        let snapshot = self.again("readdir", |scene| scene.client().readdir(&CALLER, handle, 0).now());
        self.client().releasedir(handle);
        let names: Vec<Vec<u8>> = snapshot
            .starting_at(0)
            .map(|(_, (name, ..))| name.to_vec())
            .filter(|name| !name.starts_with(b"."))
            .collect();
        for name in names {
            let name = String::from_utf8(name).expect("these names");
            let path = format!("{path}/{name}");
            let ino = self.lookup(directory, &name);
            let shown = self.again("getattr", |scene| scene.client().getattr(&CALLER, ino).now()).attributes;
            let mode = shown.kind.mode_bits() | shown.permissions;
            let content = match mode & 0o170_000 {
                0o040_000 => {
                    self.look_inside(&path, ino, tree);
                    Vec::new()
                }
                0o100_000 => {
                    let handle = self.again("open", |scene| scene.client().open_file(&CALLER, ino, 0).now());
                    let content = self.read(handle, 1 << 20);
                    self.close(handle);
                    content
                }
                0o120_000 => self.again("readlink", |scene| scene.client().readlink(&CALLER, ino).now()),
                _ => Vec::new(),
            };
            tree.insert(path, described(mode, &content));
        }
    }

    /// Leaves, gives everything back and looks once more: what the client shows, and the conflicts that there were.
    fn end(&mut self) -> (Tree, Vec<String>) {
        let farewell = self.client().finish(&AtomicBool::new(false));
        assert!(farewell.lost.is_empty() && farewell.lost_changes == 0, "{farewell:?}");
        self.client().expire().expect("nothing is kept");
        let seen = self.look();
        assert_eq!(self.client().in_flight(), (0, 0));
        let planned = Plan::so_far().map(|(_, error)| error.symbol());
        let delayed = self.log("landing-delayed", &["error="]);
        let is_odd = |word: &&String| planned.as_ref().is_none_or(|error| **word != format!("error={error}"));
        assert_eq!(delayed.iter().find(is_odd), None, "why a landing was put off");
        let known = std::mem::take(&mut self.known);
        known.into_iter().filter(|ino| *ino != ROOT).for_each(|ino| self.client().forget(ino, 1));
        self.client().let_nothing_linger();
        assert_eq!(self.client().known_inodes(), (1, 0), "inodes that are known, and descriptors");
        let state = self.client().lock();
        assert!(state.records.inodes().iter().all(|ino| *ino == ROOT), "{:#?}", state.records);
        drop(state);
        assert_eq!(self.open_descriptors(), 1, "the root's");
        (seen, self.log("conflict", &["mutation=", "path=", "outcome="]))
    }

    fn open_descriptors(&self) -> usize {
        let open = fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
        let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|target| target.starts_with(self.bench.folder.path())).count()
    }
}

fn described(mode: u32, content: &[u8]) -> String {
    let start = &content[..content.len().min(40)];
    format!(
        "{mode:o} {} {} {:x}",
        content.len(),
        start.escape_ascii(),
        content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte))
    )
}

fn look_below(folder: &Path, path: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).expect("it is there").flatten() {
        let path = format!("{path}/{}", entry.file_name().display());
        let facts = entry.path().symlink_metadata().expect("it is there");
        let content = if facts.is_file() {
            fs::read(entry.path()).expect("a file")
        } else if facts.is_symlink() {
            fs::read_link(entry.path()).expect("a link").into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        if facts.is_dir() {
            look_below(&entry.path(), &path, tree);
        }
        let value = facts.is_file().then(|| File::open(entry.path()).expect("a file"));
        let value = value.and_then(|file| sys::get_xattr(file.as_fd(), XATTR).ok()).unwrap_or_default();
        let all = [&content[..], b" ", &value].concat();
        tree.insert(path, described(facts.mode(), &all));
    }
}

/// How a history is played.
struct Way {
    knobs: Knobs,
    allow_other: bool,
}

impl Way {
    fn late() -> Way {
        Way { knobs: Knobs::default(), allow_other: false }
    }

    /// Plays it while the `nth` call fails once, and what has become of that.
    fn play(&self, nth: u64, round: usize) -> (Result<End, String>, Plan) {
        let mut scene = Scene { bench: Bench::of(self.knobs.clone(), self.allow_other), known: Vec::new() };
        Plan::fail(nth, Span::Once, round);
        let played = catch_unwind(AssertUnwindSafe(|| scene.play()));
        let text = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other.downcast_ref::<&str>().copied().unwrap_or_default().to_string(),
        };
        let plan = Plan::fail(0, Span::Once, 0);
        let end = played.map(|(seen, conflicts)| {
            let mut store = Tree::new();
            look_below(scene.bench.folder.path(), "", &mut store);
            End { store, seen, conflicts }
        });
        (end.map_err(text), plan)
    }

    /// Plays the history once for each call of it, which fails in one way, or in every way where `TEST_CASES` is set.
    fn play_while_each_call_fails(&self) {
        let (expected, plan) = self.play(0, 0);
        let expected = expected.expect("nothing fails");
        assert!(plan.calls() > 200, "{plan:?}");
        let rounds = if std::env::var_os("TEST_CASES").is_some() { MOST_ERRORS } else { 1 };
        let mut wrong = Vec::new();
        for (nth, round) in (1..=plan.calls()).flat_map(|nth| (0..rounds).map(move |round| (nth, round))) {
            let (played, plan) = self.play(nth, nth as usize + round);
            let found = match played {
                Ok(end) if end == expected => continue,
                // Also said of an attribute that is too large for its file system: it is lost, and named.
                Err(_) if plan.failed() == Some(("setxattr", Error::NoSpace)) => continue,
                Ok(end) => difference(&expected, &end),
                Err(text) => text,
            };
            wrong.push(format!("{nth}, {:?}: {found}", plan.failed()));
        }
        assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    }
}

fn difference(expected: &End, end: &End) -> String {
    let of = |expected: &Tree, tree: &Tree| {
        let mut paths: BTreeSet<&String> = expected.keys().chain(tree.keys()).collect();
        paths.retain(|path| expected.get(*path) != tree.get(*path));
        paths
            .iter()
            .map(|path| format!("{path} {:?} not {:?}", tree.get(*path), expected.get(*path)))
            .collect::<Vec<_>>()
    };
    let conflicts = if end.conflicts == expected.conflicts { &Vec::new() } else { &end.conflicts };
    format!(
        "store {:?}, seen {:?}, conflicts {conflicts:?}",
        of(&expected.store, &end.store),
        of(&expected.seen, &end.seen)
    )
}

#[test]
fn a_client_that_is_late_lands_all_and_meets_no_conflict_with_itself() {
    Way::late().play_while_each_call_fails();
}

#[test]
fn so_does_one_that_finds_inodes_by_their_names() {
    Plan::forbid_handles();
    Way::late().play_while_each_call_fails();
}

#[test]
fn so_does_one_that_gives_files_away() {
    Way { allow_other: true, ..Way::late() }.play_while_each_call_fails();
}

#[test]
fn so_does_one_that_is_never_late() {
    Way { knobs: Knobs::zero(), ..Way::late() }.play_while_each_call_fails();
}
