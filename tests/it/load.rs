//! Mixed load on several clients, as `fsstress` makes it: nothing may go wrong, nothing may be left behind, nothing may
//! grow. Runs for `TEST_LOAD_SECONDS` (default 8).

use std::{
    fs,
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    draws::{Draws, load_seconds},
    sandbox::{Sandbox, run},
};

const CLIENTS: [&str; 3] = ["a", "b", "c"];
const WORKERS_OF_EACH: u64 = 2;
/// The shared tree stays, and has no more names than this: each may be held by a descriptor.
const SHARED_NAMES: usize = (1 + 4 + 16) * (4 + 12);

/// One program: it works in a tree that all clients share, so that they get in each other's way, and in one of its own.
struct Worker {
    client: PathBuf,
    own: String,
    draws: Draws,
}

impl Worker {
    fn path(&mut self) -> PathBuf {
        let tree = if self.draws.below(3) == 0 { "shared" } else { self.own.as_str() };
        let mut path = self.client.join(tree);
        for _ in 0..self.draws.below(3) {
            path.push(format!("d{}", self.draws.below(4)));
        }
        path.join(format!("f{}", self.draws.below(12)))
    }

    /// One operation. What it answers does not matter: names come and go under it.
    fn step(&mut self) -> io::Result<()> {
        let path = self.path();
        let size = self.draws.below(40_000);
        match self.draws.below(18) {
            0..=2 => fs::write(&path, vec![b'w'; size as usize]),
            3 | 4 => OpenOptions::new().append(true).create(true).open(&path)?.write_all(&[b'a'; 700]),
            5 | 6 => fs::read(&path).map(drop),
            7 => OpenOptions::new().write(true).open(&path)?.write_all_at(&[b'o'; 300], size),
            8 => OpenOptions::new().write(true).open(&path)?.set_len(size),
            9 => fs::rename(&path, self.path()),
            10 | 11 => fs::remove_file(&path),
            12 => fs::create_dir_all(path.parent().expect("it has one")),
            13 => fs::remove_dir(path.parent().expect("it has one")),
            14 => fs::hard_link(&path, self.path()),
            15 => symlink("f0", &path),
            16 => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | self.draws.below(0o100) as u32))
            }
            _ => self.look(&path),
        }
    }

    fn look(&mut self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path.parent().expect("it has one"))? {
            let _ = entry?.metadata();
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.seek(SeekFrom::End(-100)).or_else(|_| file.seek(SeekFrom::Start(0)))?;
        file.read_to_end(&mut Vec::new())?;
        if self.draws.below(5) == 0 { file.sync_all() } else { Ok(()) }
    }

    /// Works for a while, and leaves the own tree gone.
    fn work(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            let _ = fs::create_dir(self.client.join(&self.own));
            let _ = fs::create_dir(self.client.join("shared"));
            for _ in 0..200 {
                let _ = self.step();
            }
        }
        let own = self.client.join(&self.own);
        fs::remove_dir_all(&own).unwrap_or_else(|error| panic!("{own:?}, which nobody else uses: {error}"));
    }
}

fn workers(sandbox: &Sandbox) -> Vec<Worker> {
    let of_client = |client: &'static str| {
        (0..WORKERS_OF_EACH).map(move |number| {
            let own = format!("{client}{number}");
            let draws = Draws(0x9e37_79b9_7f4a_7c15 ^ (number << 32) ^ u64::from(client.as_bytes()[0]));
            Worker { client: sandbox.path(client), own, draws }
        })
    };
    CLIENTS.into_iter().flat_map(of_client).collect()
}

/// What a client's process holds: kilobytes of memory, and descriptors.
fn held(sandbox: &Sandbox, client: &str) -> (u64, usize) {
    let process = PathBuf::from(format!("/proc/{}", sandbox.daemon(client)));
    let status = fs::read_to_string(process.join("status")).expect("it lives");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kilobytes = memory.trim().trim_end_matches(" kB").parse().expect("a number");
    (kilobytes, fs::read_dir(process.join("fd")).expect("its descriptors").count())
}

#[test]
fn a_mixed_load_of_several_clients_goes_wrong_nowhere_and_leaves_nothing_behind() {
    let seconds = load_seconds(8);
    let sandbox = Sandbox::for_mounting();
    fs::create_dir(sandbox.path("c")).unwrap();
    for client in CLIENTS {
        assert_eq!(sandbox.mount(client, &["--seed", "5"]).code, Some(0));
    }
    let mut workers = workers(&sandbox);
    let mut load = |span: Duration| {
        thread::scope(|scope| {
            workers.iter_mut().for_each(|worker| drop(scope.spawn(move || worker.work(span))));
        });
        // Longer than any delay and any belief: all has landed.
        thread::sleep(Duration::from_secs(3));
        CLIENTS.map(|client| held(&sandbox, client))
    };
    // A quarter to get warm; what the rest adds to that is a leak.
    let warm = load(Duration::from_secs(seconds) / 4);
    let after = load(Duration::from_secs(seconds) * 3 / 4);
    for (client, (warm, after)) in CLIENTS.into_iter().zip(warm.into_iter().zip(after)) {
        eprintln!("{client}: {} kB and {} descriptors, then {} kB and {}", warm.0, warm.1, after.0, after.1);
        const PLAY_KB: u64 = 12 << 10;
        assert!(after.0 < warm.0 * 3 / 2 + PLAY_KB, "{client}: from {} kB to {} kB", warm.0, after.0);
        assert!(after.1 < warm.1 + SHARED_NAMES, "{client}: from {} descriptors to {}", warm.1, after.1);
    }
    for client in CLIENTS {
        let said = run(&mut sandbox.chaosfs(&["umount", "-m", client]));
        // What others have made impossible meanwhile is named, and is what this load is about.
        assert!(said.code.is_some_and(|code| code <= 1) && !said.err.contains("could not land"), "{said:?}");
        let log = sandbox.log(client);
        let wrong = |line: &&str| line.contains(" level=error ") || line.contains(" event=landing-delayed ");
        assert_eq!(log.lines().find(wrong), None);
        assert!(log.lines().last().is_some_and(|line| line.ends_with(" lost=0")), "{log}");
    }
    let left: Vec<_> =
        fs::read_dir(sandbox.path("shared")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "shared"), "{left:?}");
}
