//! However a client ends, what is in flight lands or is named, and what was synced is there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::geteuid};

use crate::sandbox::{Foreground, Sandbox, run};

const LATE: [&str; 4] = ["--write-delay", "30s", "--rename-delay", "30s"];

/// Ways to end a client that serves `a`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Signal(Signal),
    ChaosfsUmount,
    SystemUmount,
    /// The kernel gives the connection up, as `fusectl` lets root do.
    Abort,
}

impl Ending {
    fn all() -> Vec<Ending> {
        let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].map(Ending::Signal);
        let mut endings = signals.to_vec();
        endings.extend([Ending::ChaosfsUmount, Ending::SystemUmount]);
        if geteuid().is_root() {
            endings.push(Ending::Abort);
        }
        endings
    }

    fn end(self, sandbox: &Sandbox, client: &Foreground) {
        match self {
            Ending::Signal(signal) => client.signal(signal),
            Ending::ChaosfsUmount => {
                let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
                assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
            }
            Ending::SystemUmount => {
                let mut umount = match geteuid().is_root() {
                    true => Command::new("umount"),
                    false => Command::new("fusermount3"),
                };
                umount.args((!geteuid().is_root()).then_some("-u")).arg(sandbox.path("a"));
                assert!(umount.status().expect("it is installed").success());
            }
            Ending::Abort => sandbox.abort_connection("a"),
        }
    }
}

/// Makes folders of files of `size` bytes, `files` in all.
fn fill(folder: &Path, files: usize, size: usize) {
    let content = vec![b'x'; size];
    for number in 0..files {
        let below = folder.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir(&below).unwrap();
        }
        fs::write(below.join(number.to_string()), &content).unwrap();
    }
}

fn check_filled(folder: &Path, files: usize, size: usize) {
    for number in 0..files {
        let path = folder.join((number / 100).to_string()).join(number.to_string());
        assert_eq!(fs::metadata(&path).map(|facts| facts.len() as usize).ok(), Some(size), "{path:?}");
    }
}

fn every_ending_lands(files: usize, size: usize) {
    for ending in Ending::all() {
        let sandbox = Sandbox::for_mounting();
        let client = sandbox.serve("a", &LATE);
        fill(&sandbox.path("a"), files, size);
        assert!(fs::read_dir(sandbox.path("shared")).unwrap().next().is_none());
        let start = Instant::now();
        ending.end(&sandbox, &client);
        let said = client.wait();
        assert_eq!((said.code, sandbox.mounted("a")), (Some(0), false), "{ending:?}: {}", said.err);
        eprintln!("{ending:?}: {files} files of {size} bytes landed in {:?}", start.elapsed());
        check_filled(&sandbox.path("shared"), files, size);
    }
}

#[test]
fn every_ending_lands_all_that_is_in_flight() {
    every_ending_lands(150, 100);
}

#[test]
#[ignore = "takes long: ten thousand files and 256 MiB, once for each ending"]
fn every_ending_lands_ten_thousand_files_and_256_mib() {
    every_ending_lands(10_000, (256 << 20) / 10_000);
}

/// Writes files on a client until that is over, and notes those that `fsync` has returned for.
struct Writer<'a> {
    folder: &'a Path,
    synced: Mutex<Vec<usize>>,
    over: AtomicBool,
}

/// A write never crosses a page, so that the store itself takes it whole or not at all.
const PIECE: usize = 1024;
const PIECES: usize = 3;

fn piece(number: usize, part: usize) -> Vec<u8> {
    format!("{number}/{part};").bytes().cycle().take(PIECE).collect()
}

impl Writer<'_> {
    fn write_until_over(&self, thread: usize) {
        let numbers = (0..).map(|count| count * 2 + thread);
        for number in numbers.take_while(|_| !self.over.load(Ordering::SeqCst)) {
            // The client is killed meanwhile: whatever fails is not noted.
            if self.write_one(number).is_ok() && number % 3 == 0 {
                self.synced.lock().unwrap().push(number);
            }
        }
    }

    fn write_one(&self, number: usize) -> io::Result<()> {
        let folder = self.folder.join((number % 7).to_string());
        if let Err(error) = fs::create_dir(&folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let draft = folder.join(format!("{number}.draft"));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        (0..PIECES).try_for_each(|part| file.write_all(&piece(number, part)))?;
        fs::rename(&draft, folder.join(number.to_string()))?;
        if number.is_multiple_of(3) { file.sync_all() } else { Ok(()) }
    }
}

/// What a killed client has left: synced files are whole, everything else consists of whole changes.
fn check_left(shared: &Path, synced: &[usize]) {
    for number in synced {
        let path = shared.join((number % 7).to_string()).join(number.to_string());
        let whole: Vec<u8> = (0..PIECES).flat_map(|part| piece(*number, part)).collect();
        assert_eq!(fs::read(&path).ok().as_deref(), Some(&*whole), "{path:?} was synced");
    }
    for folder in fs::read_dir(shared).unwrap() {
        for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let number: usize = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let content = fs::read(&path).unwrap();
            let torn = content.len() % PIECE;
            let expected = (0..content.len() / PIECE).flat_map(|part| piece(number, part));
            assert!(torn == 0 && expected.eq(content), "{path:?} is torn");
        }
    }
}

#[test]
fn a_client_killed_at_any_moment_keeps_what_was_synced_and_tears_nothing() {
    const MOMENTS: u64 = 20;
    let mut synced_in_all = 0;
    for moment in 0..MOMENTS {
        let sandbox = Sandbox::for_mounting();
        let said =
            sandbox.mount("a", &["--write-delay", "20..80", "--rename-delay", "20..80", "--seed", "3"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let folder = sandbox.path("a");
        let writer = Writer { folder: &folder, synced: Mutex::default(), over: AtomicBool::new(false) };
        thread::scope(|scope| {
            for thread in 0..2 {
                let writer = &writer;
                scope.spawn(move || writer.write_until_over(thread));
            }
            // Spread over the first fifth of a second, in no order.
            thread::sleep(Duration::from_millis(10 + moment * 7919 % 200));
            sandbox.kill_daemon("a");
            writer.over.store(true, Ordering::SeqCst);
        });
        let synced = writer.synced.into_inner().unwrap();
        check_left(&sandbox.path("shared"), &synced);
        synced_in_all += synced.len();
    }
    assert!(synced_in_all > 0, "nothing was synced in any of {MOMENTS} runs: nothing was tested");
}

#[test]
fn a_synced_file_survives_with_its_name_and_directories_and_another_client_goes_on_from_there() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &LATE).code, Some(0));
    fs::create_dir_all(sandbox.path("a/d/e")).unwrap();
    let mut file = File::create(sandbox.path("a/d/e/f")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_all().unwrap();
    sandbox.kill_daemon("a");
    assert_eq!(sandbox.mount("a", &[]).code, Some(0), "the dead mount is cleaned up");
    assert_eq!(fs::read_to_string(sandbox.path("a/d/e/f")).unwrap(), "synced");
}
