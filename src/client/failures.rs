//! What becomes of everything when a system call fails: one history is run again and again, each time with another call
//! failing once. Whatever a program was told is done is then in the backing directory, or it is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{atomic::AtomicBool, mpsc::channel},
    time::Duration,
};

use super::{
    Copy, Farewell, Offset, SetAttributes,
    bench::{Bench, CALLER, READ_WRITE},
};
use crate::{
    backing::{
        ROOT,
        failing::{MOST_ERRORS, Plan, Span},
    },
    consistency::{Ino, RenameHow},
    error::Error,
    knobs::Knobs,
};

const TRUNCATING: i32 = READ_WRITE | 0o1000;

/// Two names of one file.
const LINKED: [&str; 2] = ["d/f", "d/linked"];

/// What stands at a path as programs know it: a file with this content, or no file.
type Known = Option<Vec<u8>>;

/// What programs were told, and what they can not know because a call failed.
#[derive(Default)]
struct Told {
    paths: BTreeMap<String, Known>,
    doubtful: BTreeSet<String>,
    /// From where to where.
    moves: Vec<(String, String)>,
}

impl Told {
    /// A call is over that leaves these paths so if it succeeds.
    fn note(&mut self, is_done: bool, outcome: &[(&str, Known)]) {
        for (path, known) in outcome {
            if is_done {
                self.paths.insert((*path).to_string(), known.clone());
            } else {
                self.doubtful.insert((*path).to_string());
            }
        }
    }

    fn content(&self, path: &str) -> Vec<u8> {
        self.paths.get(path).cloned().flatten().unwrap_or_default()
    }
}

/// One program on a client.
struct Program {
    bench: Bench,
    told: Told,
    /// What open files have reported.
    reported: BTreeSet<String>,
}

impl Program {
    fn new(knobs: &Knobs) -> Program {
        let bench = Bench::new(knobs.clone());
        Program { bench, told: Told::default(), reported: BTreeSet::new() }
    }

    /// Walks a path as the kernel does, and leaves its lookups with it.
    fn find(&self, path: &str) -> Result<Ino, Error> {
        let mut ino = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            ino = self
                .bench
                .client
                .lookup(&CALLER, ino, name.as_bytes())
                .now()
                .map_err(|missing| missing.error)?
                .ino;
        }
        Ok(ino)
    }

    fn place<'a>(&self, path: &'a str) -> Result<(Ino, &'a [u8]), Error> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(above)?, name.as_bytes()))
    }

    fn make_directory(&mut self, path: &str) {
        let made = self
            .place(path)
            .and_then(|(at, name)| self.bench.client.mkdir(&CALLER, at, name, 0o40_755, 0).now());
        self.told.note(made.is_ok(), &[(path, Some(Vec::new()))]);
    }

    fn remove_directory(&mut self, path: &str) {
        let removed =
            self.place(path).and_then(|(at, name)| self.bench.client.rmdir(&CALLER, at, name).now());
        self.told.note(removed.is_ok(), &[(path, None)]);
    }

    fn unlink(&mut self, path: &str) {
        let removed =
            self.place(path).and_then(|(at, name)| self.bench.client.unlink(&CALLER, at, name).now());
        self.told.note(removed.is_ok(), &[(path, None)]);
    }

    fn symlink(&mut self, path: &str) {
        let made = self
            .place(path)
            .and_then(|(at, name)| self.bench.client.symlink(&CALLER, at, name, b"target").now());
        self.told.note(made.is_ok(), &[(path, Some(b"target".to_vec()))]);
    }

    fn link(&mut self, from: &str, to: &str) {
        let content = self.told.content(from);
        let linked = self.find(from).and_then(|ino| {
            let (at, name) = self.place(to)?;
            self.bench.client.link(&CALLER, ino, at, name).now()
        });
        self.told.note(linked.is_ok(), &[(to, Some(content))]);
    }

    /// Moves a file.
    fn rename(&mut self, from: &str, to: &str) {
        let content = self.told.content(from);
        let doubtful = self.told.doubtful.contains(from);
        let moved = self.place(from).and_then(|from| {
            self.bench.client.rename(&CALLER, from, self.place(to)?, RenameHow::Replace).now()
        });
        self.told.note(moved.is_ok() && !doubtful, &[(from, None), (to, Some(content))]);
        self.told.moves.push((from.to_string(), to.to_string()));
    }

    /// Opens a file, writes to it and closes it; every name of it has the new content then.
    fn write(&mut self, path: &str, how: Write, data: &[u8]) {
        let names = self.names_of(path);
        let opened = match how {
            Write::New => self.place(path).and_then(|(at, name)| {
                self.bench.client.create(&CALLER, at, name, 0o100_644, 0, READ_WRITE).now().map(|made| made.1)
            }),
            Write::Append => {
                self.find(path).and_then(|ino| self.bench.client.open_file(&CALLER, ino, READ_WRITE).now())
            }
            Write::Whole => {
                self.find(path).and_then(|ino| self.bench.client.open_file(&CALLER, ino, TRUNCATING).now())
            }
        };
        let written = opened.and_then(|handle| {
            let written = self.bench.client.write(&CALLER, handle, Offset::End, data).now();
            let closed = self.close(path, handle);
            written.and_then(|length| closed.map(|()| length))
        });
        let mut content = if how == Write::Append { self.told.content(path) } else { Vec::new() };
        content.extend_from_slice(data);
        for name in names {
            self.told.note(written == Ok(data.len()), &[(&name, Some(content.clone()))]);
        }
    }

    /// The names that this history gives to the file at a path.
    fn names_of(&self, path: &str) -> Vec<String> {
        if LINKED.contains(&path) && self.told.paths.contains_key(LINKED[1]) {
            return LINKED.map(String::from).to_vec();
        }
        vec![path.to_string()]
    }

    fn close(&mut self, path: &str, handle: u64) -> Result<(), Error> {
        let closed = self.bench.client.flush(&CALLER, handle).now();
        self.bench.client.release(handle);
        if closed.is_err() {
            self.reported.insert(path.to_string());
        }
        closed
    }

    fn with_file<T>(
        &mut self,
        path: &str,
        run: impl FnOnce(&Bench, u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ino = self.find(path)?;
        let handle = self.bench.client.open_file(&CALLER, ino, READ_WRITE).now()?;
        let result = run(&self.bench, handle);
        self.close(path, handle).and(result)
    }

    fn read(&mut self, path: &str) {
        let content = self.told.content(path);
        let read = self
            .with_file(path, |bench, handle| Ok(bench.client.read(&CALLER, handle, 0, 100).now()?.to_vec()));
        if let Ok(read) = read
            && !self.told.doubtful.contains(path)
        {
            assert_eq!(read, content, "{path}");
        }
    }

    fn copy(&mut self, from: &str, to: &str) {
        let content = self.told.content(from);
        let copied = self.find(from).and_then(|ino| {
            let from = self.bench.client.open_file(&CALLER, ino, READ_WRITE).now()?;
            let length = content.len() as u64;
            let copied = self.with_file(to, |bench, to| {
                let copy = Copy { from, from_offset: 0, to, to_offset: 0, length };
                bench.client.copy_range(&CALLER, copy).now()
            });
            self.bench.client.release(from);
            copied
        });
        self.told.note(copied == Ok(content.len()), &[(to, Some(content))]);
    }

    fn allocate(&mut self, path: &str) {
        let mut content = self.told.content(path);
        content.resize(64, 0);
        let allocated =
            self.with_file(path, |bench, handle| bench.client.fallocate(&CALLER, handle, 0, 0, 64).now());
        self.told.note(allocated.is_ok(), &[(path, Some(content))]);
    }

    fn sync(&mut self, path: &str) {
        let (hears, heard) = channel();
        let synced = self.with_file(path, |bench, handle| {
            bench.client.fsync(&CALLER, handle, false).serve(move |result| hears.send(result).unwrap());
            bench.client.land_due();
            // It may run in a thread of its own while others are slow, also those of other tests.
            heard.recv_timeout(Duration::from_secs(20)).expect("fsync returns")
        });
        if synced.is_ok() && !self.told.doubtful.contains(path) {
            assert_eq!(content_of(&self.bench.folder.path().join(path)), Some(self.told.content(path)));
        }
    }

    fn set(&mut self, path: &str) {
        let _ = self.find(path).and_then(|ino| {
            let client = &self.bench.client;
            client.setxattr(&CALLER, ino, b"user.key", b"value", 0).now()?;
            let wanted = SetAttributes { permissions: Some(0o600), ..SetAttributes::default() };
            client.setattr(&CALLER, ino, wanted).now()
        });
    }

    fn list(&mut self, path: &str) {
        let _ = self.find(path).and_then(|ino| {
            let handle = self.bench.client.opendir(&CALLER, ino).now()?;
            let listed = self.bench.client.readdir(&CALLER, handle, 0).now();
            self.bench.client.releasedir(handle);
            listed
        });
    }

    fn advance(&mut self, millis: u64) {
        self.bench.client.advance(Duration::from_millis(millis)).expect("a clock that is moved by hand");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    New,
    Append,
    Whole,
}

fn content_of(path: &Path) -> Known {
    let kind = path.symlink_metadata().ok()?.file_type();
    if kind.is_symlink() {
        return Some(fs::read_link(path).ok()?.into_os_string().into_encoded_bytes());
    }
    if kind.is_dir() { Some(Vec::new()) } else { fs::read(path).ok() }
}

/// Something of everything that changes a tree, some of it landed before the next step and some not.
fn live(program: &mut Program) {
    program.make_directory("d");
    program.write("d/f", Write::New, b"first");
    program.write("moving", Write::New, b"moved");
    program.advance(500);
    program.set("d/f");
    program.rename("moving", "d/moved");
    program.link("d/f", "d/linked");
    program.symlink("d/symlink");
    program.advance(400);
    program.write("d/f", Write::Append, b" second");
    program.read("d/f");
    program.advance(2_000);
    program.list("d");
    program.write("d/f", Write::Whole, b"third");
    program.make_directory("d/short");
    program.remove_directory("d/short");
    program.write("brief", Write::New, b"soon gone");
    program.unlink("brief");
    program.sync("d/f");
    program.write("copy", Write::New, b"");
    program.advance(2_000);
    program.copy("d/f", "copy");
    program.allocate("d/moved");
    program.unlink("d/linked");
    program.rename("copy", "d/copy");
    program.read("d/copy");
    program.advance(100);
}

/// Lives through the history while the `nth` call fails, and checks what is left. Returns what has failed, and how many
/// calls there were.
fn live_through(knobs: &Knobs, nth: u64, span: Span, round: usize) -> Plan {
    let mut program = Program::new(knobs);
    Plan::fail(nth, span, round);
    live(&mut program);
    let farewell = program.bench.client.finish(&AtomicBool::new(false));
    let plan = Plan::fail(0, Span::Once, 0);
    let context = format!("call {nth} failed {span:?}: {:?}", plan.failed());
    if plan.failed().is_none() {
        assert_eq!(program.told.doubtful, BTreeSet::new(), "{context}");
    }
    // What fails once is tried again, but for an attribute that may be too large for its file system.
    if span == Span::Once && plan.failed().is_none_or(|(call, _)| call != "setxattr") {
        assert_eq!(farewell.lost, Vec::<String>::new(), "{context}");
    }
    check(&program, &farewell, &context);
    plan
}

fn check(program: &Program, farewell: &Farewell, context: &str) {
    let named = |path: &str| {
        let lines = farewell.lost.iter().chain(&farewell.overtaken);
        let mut paths = lines.filter_map(|line| line.strip_prefix('/')?.split(": ").next());
        paths.any(|lost| path == lost || path.strip_prefix(lost).is_some_and(|rest| rest.starts_with('/')))
    };
    // A move that is lost is named by where it came from, and data of a file by one of its names.
    let moved_from = |path: &str| program.told.moves.iter().find(|(_, to)| to == path).map(|(from, _)| from);
    for (path, known) in &program.told.paths {
        let is_linked = LINKED.contains(&path.as_str()) && LINKED.into_iter().any(named);
        let is_named = named(path) || is_linked || moved_from(path).is_some_and(|from| named(from));
        if program.told.doubtful.contains(path) || program.reported.contains(path) || is_named {
            continue;
        }
        let there = content_of(&program.bench.folder.path().join(path));
        assert_eq!(&there, known, "{path} after {context}; {farewell:?}\n{:#?}", program.bench.lines);
    }
    let (inodes, _) = program.bench.client.known_inodes();
    assert!(inodes < 100, "{context}: {inodes} inodes");
}

fn histories(knobs: &Knobs) {
    let calls = live_through(knobs, 0, Span::Once, 0).calls();
    assert!(calls > 50, "{calls}");
    let rounds = if std::env::var_os("TEST_CASES").is_some() { MOST_ERRORS } else { 1 };
    let mut failed = BTreeSet::new();
    for nth in 1..=calls {
        for (round, span) in (0..rounds).flat_map(|round| [(round, Span::Once), (round, Span::ForGood)]) {
            let plan = live_through(knobs, nth, span, nth as usize + round);
            failed.extend(plan.failed().map(|(call, _)| call));
        }
    }
    for call in ["openat", "openat(O_CREAT)", "pwrite", "linkat", "renameat2", "unlinkat", "statx"] {
        assert!(failed.contains(call), "{call}: {failed:?}");
    }
}

#[test]
fn nothing_late_is_lost_unnamed_whichever_call_fails() {
    histories(&Knobs::default());
}

#[test]
fn nothing_that_goes_through_is_lost_unnamed_whichever_call_fails() {
    histories(&Knobs::zero());
}
