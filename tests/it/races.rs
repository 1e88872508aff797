//! Two clients that change the same names as fast as they can, in all ways there are: whatever each meets in the store,
//! it is a conflict between the two, and nothing is lost.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use chaosfs::{Delay, EventLog, Knobs, Mount, MountOptions, Record, mount};
use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::stat::Mode,
    unistd::mkfifo,
};

type Lines = Arc<Mutex<Vec<String>>>;

/// Changes land within milliseconds, each at its own time, and others' are seen soon.
fn knobs() -> Knobs {
    let delay = Delay { min: Duration::ZERO, max: Duration::from_millis(3) };
    Knobs { write_delay: delay, rename_delay: delay, meta_ttl: Duration::from_millis(2), ..Knobs::default() }
}

fn client(folder: &Path, id: &str, lines: &Lines) -> Mount {
    fs::create_dir(folder.join(id)).expect("a mountpoint");
    let mut options = MountOptions::new(folder.join("shared"), folder.join(id));
    options.client_id = Some(id.to_string());
    options.knobs = knobs();
    let lines = lines.clone();
    let sink = move |record: &Record<'_>| lines.lock().expect("no panic").push(record.to_string());
    options.log = Some(EventLog::new(id, false, Arc::new(sink)));
    mount(options).expect("a mount")
}

/// One change of one of two names, or of a name in them. What is refused is refused.
fn change(root: &Path, number: u64) {
    const NAMES: [&str; 4] = ["x", "y", "x/y", "y/x"];
    let name = |shift: u32| root.join(NAMES[(number >> shift) as usize % NAMES.len()]);
    let (path, other) = (name(8), name(16));
    let renamed = |flags| {
        let _ = renameat2(AT_FDCWD, &path, AT_FDCWD, &other, flags);
    };
    match number % 14 {
        0 | 1 => {
            let file = writable().create(true).truncate(true).open(&path);
            let _ = file.and_then(|mut file| file.write_all(b"some bytes"));
        }
        2 | 3 => drop(fs::create_dir(&path)),
        4 => drop(symlink("x", &path)),
        5 => drop(mkfifo(&path, Mode::from_bits_truncate(0o644))),
        6 | 7 => drop(fs::remove_file(&path)),
        8 => drop(fs::remove_dir(&path)),
        9 => renamed(RenameFlags::empty()),
        10 => renamed(RenameFlags::RENAME_NOREPLACE),
        11 => renamed(RenameFlags::RENAME_EXCHANGE),
        12 => drop(fs::hard_link(&path, &other)),
        _ => drop(writable().open(&path).map(|file| more_of(file, number))),
    }
}

/// Nobody reads from the fifos here: no open waits for that.
fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    options
}

fn more_of(mut file: File, number: u64) {
    let _ = file.write_all(b"more");
    let _ = file.set_permissions(fs::Permissions::from_mode(0o600 | (number >> 24) as u32 & 0o77));
    let _ = file.set_len(number % 9);
}

#[test]
fn whatever_two_clients_do_to_two_names_at_once_is_a_conflict_and_nothing_is_lost() {
    const SPAN: Duration = Duration::from_secs(4);
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("shared")).expect("a folder");
    let lines = Lines::default();
    let mounts = ["a", "b"].map(|id| client(folder.path(), id, &lines));
    let until = Instant::now() + SPAN;
    thread::scope(|scope| {
        for worker in 0..6_u8 {
            let root = mounts[usize::from(worker % 2)].mountpoint();
            scope.spawn(move || {
                let mut draws = u64::from(worker);
                while Instant::now() < until {
                    draws =
                        draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    change(root, draws >> 20);
                }
            });
        }
    });
    for mount in &mounts {
        mount.leave();
        assert_eq!(mount.land().lost, Vec::<String>::new());
    }
    let lines = lines.lock().expect("no panic");
    let of = |event: &str| lines.iter().filter(|line| line.contains(event)).count();
    assert!(of(" event=conflict ") > 0, "the two have met");
    assert_eq!(of(" event=lost "), 0);
}
