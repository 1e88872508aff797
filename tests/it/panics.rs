//! A client whose operations and landings panic: the call gets EIO, everything else goes on, nothing is lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chaosfs::{Delay, EventLog, Knobs, Mount, MountOptions, Record, mount};
use tempfile::TempDir;

/// A client in this process whose log panics for lines that `explodes` says.
fn mounted(knobs: Knobs, explodes: impl Fn(&str) -> bool + Send + Sync + 'static) -> (TempDir, Mount) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["shared", "view"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let sink = move |record: &Record<'_>| {
        let line = record.to_string();
        assert!(!explodes(&line), "as the test wants: {line}");
    };
    let mut options = MountOptions::new(folder.path().join("shared"), folder.path().join("view"));
    options.client_id = Some("library".to_string());
    options.knobs = knobs;
    options.log = Some(EventLog::new("library", true, Arc::new(sink)));
    let mount = mount(options).expect("a mount");
    (folder, mount)
}

fn is_eio<T>(result: io::Result<T>) -> bool {
    result.err().and_then(|error| error.raw_os_error()) == Some(libc::EIO)
}

fn late() -> Knobs {
    let delay = Delay::fixed_millis(50);
    Knobs { write_delay: delay, rename_delay: delay, ..Knobs::default() }
}

#[test]
fn an_operation_that_panics_answers_eio_and_the_client_lives_on() {
    for knobs in [Knobs::zero(), late()] {
        let is_asked_for = |line: &str| line.contains(" event=operation ") && line.contains(" path=/panic");
        let (folder, mount) = mounted(knobs, is_asked_for);
        let view = folder.path().join("view");
        let panicking = view.join("panic");
        fs::write(folder.path().join("shared/panic"), "there").unwrap();
        let calls: [&dyn Fn(&Path) -> bool; 6] = [
            &|path| is_eio(fs::metadata(path)),
            &|path| is_eio(File::open(path)),
            &|path| is_eio(fs::create_dir(path)),
            &|path| is_eio(fs::remove_file(path)),
            &|path| is_eio(fs::rename(path, view.join("other"))),
            &|path| is_eio(fs::set_permissions(path, fs::Permissions::from_mode(0o600))),
        ];
        // More often than there are threads that serve.
        for _ in 0..5 {
            assert!(calls.iter().all(|call| call(&panicking)));
        }
        fs::write(view.join("fine"), "alive").expect("others go on");
        assert_eq!(fs::read_to_string(view.join("fine")).unwrap(), "alive");
        assert_eq!(fs::read_dir(&view).unwrap().count(), 2);
        mount.leave();
        assert_eq!(mount.land().lost, Vec::<String>::new());
        assert_eq!(fs::read_to_string(folder.path().join("shared/fine")).unwrap(), "alive");
    }
}

#[test]
fn an_fsync_that_panics_answers_eio_however_often() {
    let (folder, mount) = mounted(late(), |line| line.contains(" op=fsync path=/f "));
    let mut file = File::create(folder.path().join("view/f")).unwrap();
    for _ in 0..9 {
        file.write_all(b"x").unwrap();
        assert!(is_eio(file.sync_all()));
    }
    let mut options = OpenOptions::new();
    let synced =
        options.write(true).create(true).custom_flags(libc::O_SYNC).open(folder.path().join("view/g"));
    synced.unwrap().write_all(b"synced").expect("a write that is published is no fsync(2)");
    drop(file);
    mount.leave();
    assert_eq!(mount.land().lost, Vec::<String>::new());
    assert_eq!(fs::read(folder.path().join("shared/f")).unwrap(), b"xxxxxxxxx");
}

#[test]
fn a_landing_that_panics_is_tried_again() {
    let panics = Arc::new(AtomicUsize::new(0));
    let count = panics.clone();
    let a_few_times =
        move |line: &str| line.contains(" event=conflict ") && count.fetch_add(1, Ordering::SeqCst) < 3;
    let (folder, mount) = mounted(late(), a_few_times);
    for number in 0..3 {
        fs::write(folder.path().join(format!("view/{number}")), "ours").unwrap();
        let _ = fs::write(folder.path().join(format!("shared/{number}")), "theirs");
    }
    mount.leave();
    assert_eq!(mount.land().lost, Vec::<String>::new());
    for number in 0..3 {
        assert_eq!(fs::read_to_string(folder.path().join(format!("shared/{number}"))).unwrap(), "ours");
    }
}
