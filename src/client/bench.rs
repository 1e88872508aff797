//! A client for unit tests: no threads, and a clock that is moved by hand, so that everything happens in the thread of the
//! test.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Caller, Client, ClientOptions, Offset};
use crate::{backing::ROOT, clock::Clock, consistency::Ino, event::EventLog, knobs::Knobs, terms::Terms};

pub const CALLER: Caller = Caller { uid: 0, gid: 0, thread: 0 };
pub use crate::backing::flags::O_RDWR as READ_WRITE;

/// A client without threads on a clock that is moved by hand, and what it logs.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub client: Arc<Client>,
    pub lines: Arc<Mutex<Vec<String>>>,
}

/// A client of the process's own user over this directory.
pub fn options(backing: &Path, knobs: Knobs) -> ClientOptions {
    ClientOptions {
        backing: backing.to_path_buf(),
        id: "a".to_string(),
        seed: 0,
        knobs,
        allow_other: false,
        kernel_cache: false,
        terms: Terms::default(),
    }
}

impl Bench {
    pub fn new(knobs: Knobs) -> Bench {
        Bench::of(knobs, false)
    }

    /// One that gives files away, if this is root's and others may come in.
    pub fn of(knobs: Knobs, allow_other: bool) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let options = ClientOptions { allow_other, ..options(folder.path(), knobs) };
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let log =
            EventLog::new("a", true, Arc::new(move |record| sink.lock().unwrap().push(record.to_string())));
        let client = Client::open(options, Clock::manual(), log).expect("a client");
        Bench { folder, client, lines }
    }

    pub fn create(&self, name: &str, data: &[u8]) -> (Ino, u64) {
        let made = self.client.create(&CALLER, ROOT, name.as_bytes(), 0o100_644, 0, READ_WRITE).now();
        let (entry, handle) = made.expect("it is made");
        self.client.write(&CALLER, handle, Offset::At(0), data).now().expect("it is written");
        (entry.ino, handle)
    }

    pub fn landed(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    pub fn seen(&self, name: &str) -> bool {
        self.client.lookup(&CALLER, ROOT, name.as_bytes()).now().is_ok()
    }

    pub fn advance(&self, millis: u64) -> u64 {
        self.client.advance(Duration::from_millis(millis)).expect("a clock that is moved by hand").landed
    }

    pub fn logged(&self, event: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(event)).count()
    }
}
