//! Requests that one client answers by itself, as they come from the kernel: faults, tables, locks and all, but for the
//! kernel. The files are made here and never land, so that no answer needs the backing directory.

use std::{hint::black_box, sync::Arc};

use chaosfs::{
    Clock, EventLog, Knobs,
    client::{Caller, Client, ClientOptions, Ino, Offset},
    terms::Terms,
};
use tempfile::TempDir;

use super::{Keys, Operation, ROOT, Run, name};

pub const OPERATIONS: &[Operation] = &[
    Operation { name: "client: nothing asked", among: "files", sizes: &[1_000], prepare: null },
    files("client: getattr", getattr),
    files("client: lookup and forget", lookup),
    files("client: absent name", absent),
    Operation {
        name: "client: 4 KiB read",
        among: "writes in flight",
        sizes: &[1, 1_000, 10_000],
        prepare: read,
    },
];

const fn files(name: &'static str, prepare: fn(usize) -> Run) -> Operation {
    Operation { name, among: "files", sizes: &[1_000, 100_000], prepare }
}

const CALLER: Caller = Caller { uid: 0, gid: 0, thread: 0 };
const REGULAR: u32 = 0o100_644;
/// `O_CREAT | O_EXCL | O_RDWR`.
const NEW: i32 = 0o302;

/// A client over an empty folder whose clock stands still.
struct Bench {
    client: Arc<Client>,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = ClientOptions {
            backing: folder.path().to_path_buf(),
            id: "bench".to_string(),
            seed: 7,
            knobs: Knobs { max_mutations: usize::MAX, ..Knobs::default() },
            allow_other: false,
            kernel_cache: false,
            terms: Terms::default(),
        };
        let client = Client::open(options, Clock::manual(), EventLog::silent()).expect("a client");
        Bench { client, _folder: folder }
    }

    fn with_files(size: usize) -> (Bench, Vec<Ino>) {
        let bench = Bench::new();
        let inodes = (0..size as u64).map(|number| bench.make(number)).collect();
        (bench, inodes)
    }

    fn make(&self, number: u64) -> Ino {
        let made = self.client.mknod(&CALLER, ROOT, name(number).as_bytes(), REGULAR, 0, 0).now();
        made.expect("it goes in flight").ino
    }
}

/// What a request costs that asks for nothing.
fn null(size: usize) -> Run {
    let (bench, inodes) = Bench::with_files(size);
    let mut keys = Keys::among(size);
    Box::new(move || {
        black_box(bench.client.parent_number(inodes[keys.next() as usize]));
    })
}

fn getattr(size: usize) -> Run {
    let (bench, inodes) = Bench::with_files(size);
    let mut keys = Keys::among(size);
    Box::new(move || {
        let getattr = bench.client.getattr(&CALLER, inodes[keys.next() as usize]);
        getattr.serve(|shown| {
            black_box(shown.expect("it is known"));
        });
    })
}

fn lookup(size: usize) -> Run {
    let (bench, _) = Bench::with_files(size);
    let mut keys = Keys::among(size);
    Box::new(move || {
        let client = bench.client.clone();
        let lookup = bench.client.lookup(&CALLER, ROOT, name(keys.next()).as_bytes());
        lookup.serve(move |found| client.forget(found.expect("it is there").ino, 1));
    })
}

fn absent(size: usize) -> Run {
    let (bench, _) = Bench::with_files(size);
    // One look at each, so that their absence is believed.
    let gone: Vec<String> = (0..64).map(|key| name(size as u64 + key)).collect();
    let mut keys = Keys::among(gone.len());
    let ask = move |key: u64| {
        let lookup = bench.client.lookup(&CALLER, ROOT, gone[key as usize].as_bytes());
        lookup.serve(|found| assert!(found.is_err()));
    };
    (0..64).for_each(&ask);
    Box::new(move || ask(keys.next()))
}

fn read(size: usize) -> Run {
    const PIECE: u64 = 100;
    let bench = Bench::new();
    let (_, handle) =
        bench.client.create(&CALLER, ROOT, b"file", REGULAR, 0, NEW).now().expect("it goes in flight");
    for piece in 0..size as u64 {
        let written =
            bench.client.write(&CALLER, handle, Offset::At(piece * PIECE), &[7; PIECE as usize]).now();
        written.expect("it goes in flight");
    }
    let mut keys = Keys::among(size.saturating_sub(40));
    Box::new(move || {
        let read = bench.client.read(&CALLER, handle, keys.next() * PIECE, 4096);
        read.serve(|bytes| drop(black_box(bytes.expect("they are there"))));
    })
}
