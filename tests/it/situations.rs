//! What programs meet on mounted clients, told as situations. Nothing here fails for being slow: where time matters it is
//! moved by hand.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write,
    os::fd::AsRawFd,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::signal::Signal,
    unistd::{Whence, lseek},
};

use crate::sandbox::{Foreground, Sandbox, awaited, run};

/// Nothing expires and nothing lands by itself.
const STILL: [&str; 2] = ["--clock", "manual"];
const AT_ONCE: [&str; 6] = ["--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "0"];

/// On a clock that stands still, with these knobs besides.
fn still<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&STILL, more].concat()
}

fn mounted(a: &[&str], b: &[&str]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    for (name, more) in [("a", a), ("b", b)] {
        let said = sandbox.mount(name, more);
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    sandbox
}

fn alone(more: &[&str]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    let said = sandbox.mount("a", more);
    assert_eq!(said.code, Some(0), "{}", said.err);
    sandbox
}

#[track_caller]
fn unmount(sandbox: &Sandbox, name: &str) -> String {
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", name]));
    assert_eq!((said.code, sandbox.mounted(name)), (Some(0), false), "{} {}", said.out, said.err);
    said.out
}

fn text(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Runs a program that has to end well, and returns what it printed.
#[track_caller]
fn output<S: AsRef<OsStr>>(program: &str, args: &[S], folder: &Path) -> String {
    let output =
        Command::new(program).args(args).current_dir(folder).output().expect("the program is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_write_is_seen_by_its_writer_at_once_and_by_others_when_it_is_due() {
    let sandbox = mounted(&still(&["--write-delay", "2s"]), &still(&AT_ONCE));
    fs::write(sandbox.path("a/f"), "new").unwrap();
    let seen = || ["a/f", "shared/f", "b/f"].map(|place| text(sandbox.path(place)).is_some());
    assert_eq!(seen(), [true, false, false]);
    sandbox.advance("1999");
    assert_eq!(seen(), [true, false, false]);
    sandbox.advance("1");
    assert_eq!(seen(), [true, true, true]);
    assert_eq!(text(sandbox.path("b/f")).as_deref(), Some("new"));
}

#[test]
fn a_directory_a_rename_and_a_removal_are_seen_by_others_when_they_are_due() {
    let sandbox = mounted(&still(&["--rename-delay", "2s"]), &still(&AT_ONCE));
    for name in ["old", "gone"] {
        fs::write(sandbox.path("shared").join(name), name).unwrap();
    }
    fs::create_dir(sandbox.path("a/d")).unwrap();
    fs::rename(sandbox.path("a/old"), sandbox.path("a/new")).unwrap();
    fs::remove_file(sandbox.path("a/gone")).unwrap();
    let seen = |view: &str| {
        let is_there = |name: &str| fs::symlink_metadata(sandbox.path(view).join(name)).is_ok();
        ["d", "old", "new", "gone"].into_iter().filter(|name| is_there(name)).collect::<Vec<_>>()
    };
    sandbox.advance("1999");
    assert_eq!(["a", "shared", "b"].map(seen), [vec!["d", "new"], vec!["old", "gone"], vec!["old", "gone"]]);
    sandbox.advance("1");
    assert_eq!(["a", "shared", "b"].map(seen), [["d", "new"]; 3]);
}

#[test]
fn an_absence_is_believed_until_its_time_is_over() {
    let sandbox = alone(&still(&["--meta-ttl", "2s"]));
    assert!(text(sandbox.path("a/f")).is_none());
    fs::write(sandbox.path("shared/f"), "there").unwrap();
    sandbox.advance("1999");
    assert!(text(sandbox.path("a/f")).is_none());
    sandbox.advance("1");
    assert!(text(sandbox.path("a/f")).is_some());
}

#[test]
fn a_name_its_absence_attributes_and_a_listing_each_have_a_lifetime() {
    let lifetimes = ["--attr-ttl", "1s", "--name-ttl", "2s", "--absent-ttl", "3s", "--list-ttl", "4s"];
    let sandbox = alone(&still(&lifetimes));
    let shared = |name: &str| sandbox.path("shared").join(name);
    for (name, content) in [("grows", "1"), ("moves", "here")] {
        fs::write(shared(name), content).unwrap();
    }
    let is_listed = |name: &str| {
        let mut entries = fs::read_dir(sandbox.path("a")).unwrap();
        entries.any(|entry| entry.unwrap().file_name() == name)
    };
    let seen = || {
        let length = fs::metadata(sandbox.path("a/grows")).unwrap().len();
        let [moved, made] = ["a/moves", "a/new"].map(|path| sandbox.path(path).exists());
        (length, moved, made, is_listed("new"))
    };
    assert_eq!(seen(), (1, true, false, false));
    fs::write(shared("grows"), "22").unwrap();
    fs::rename(shared("moves"), shared("moved")).unwrap();
    fs::write(shared("new"), "").unwrap();
    for (advance, expected) in [
        ("999", (1, true, false, false)),
        ("1", (2, true, false, false)),
        ("999", (2, true, false, false)),
        ("1", (2, false, false, false)),
        ("999", (2, false, false, false)),
        ("1", (2, false, true, false)),
        ("999", (2, false, true, false)),
        ("1", (2, false, true, true)),
    ] {
        sandbox.advance(advance);
        assert_eq!(seen(), expected, "{advance} ms later");
    }
}

#[test]
fn new_files_have_a_delay_of_their_own() {
    let early = mounted(&still(&["--write-delay", "2s", "--create-delay", "0"]), &still(&AT_ONCE));
    fs::write(early.path("a/f"), "data").unwrap();
    assert_eq!(text(early.path("b/f")).as_deref(), Some(""), "the name is there, its data is late");
    early.advance("2s");
    assert_eq!(text(early.path("b/f")).as_deref(), Some("data"));

    let late = mounted(&still(&["--write-delay", "1s", "--create-delay", "2s"]), &still(&AT_ONCE));
    fs::write(late.path("a/f"), "data").unwrap();
    fs::write(late.path("b/g"), "").unwrap();
    fs::write(late.path("a/g"), "data").unwrap();
    late.advance("1999");
    let seen = || ["b/f", "b/g"].map(|path| text(late.path(path)));
    assert_eq!(seen(), [None, Some("data".to_string())], "no data lands before its file");
    late.advance("1");
    assert_eq!(seen(), [Some("data".to_string()), Some("data".to_string())]);
}

/// B works in a directory that A removes: what B then makes there goes nowhere, which B knows once it has asked.
#[test]
fn nothing_is_made_in_a_directory_that_this_client_has_found_gone() {
    let sandbox = mounted(&still(&AT_ONCE), &STILL);
    let (gone, file) = (sandbox.path("a/d"), sandbox.path("b/f"));
    fs::create_dir(&gone).unwrap();
    fs::write(sandbox.path("a/f"), "").unwrap();
    let directory = File::open(sandbox.path("b/d")).unwrap();
    let inside = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
    let links = || directory.metadata().unwrap().nlink();
    assert!(links() > 0 && file.exists());
    fs::remove_dir(&gone).unwrap();
    fs::write(inside("unknown"), "").expect("nothing is known yet");
    sandbox.advance("9s");
    assert_eq!(links(), 0);
    let refused = [
        errno(fs::write(inside("x"), "")),
        errno(fs::create_dir(inside("x"))),
        errno(std::os::unix::fs::symlink("target", inside("x"))),
        errno(fs::hard_link(&file, inside("x"))),
        errno(fs::rename(&file, inside("x"))),
    ];
    assert_eq!(refused, [Some(Errno::ENOENT as i32); 5]);
}

#[test]
fn attributes_and_bytes_are_believed_until_their_time_is_over() {
    let sandbox = alone(&still(&["--meta-ttl", "2s"]));
    fs::write(sandbox.path("shared/f"), "old").unwrap();
    assert_eq!(text(sandbox.path("a/f")).as_deref(), Some("old"));
    fs::write(sandbox.path("shared/f"), "new and longer").unwrap();
    let seen = || (text(sandbox.path("a/f")).unwrap(), fs::metadata(sandbox.path("a/f")).unwrap().len());
    sandbox.advance("1999");
    assert_eq!(seen(), ("old".to_string(), 3));
    sandbox.advance("1");
    assert_eq!(seen(), ("new and longer".to_string(), 14));
}

#[test]
fn fsync_publishes_a_file_its_name_and_its_directories_and_nothing_else() {
    let sandbox = alone(&STILL);
    fs::create_dir_all(sandbox.path("a/d/e")).unwrap();
    let mut file = File::create(sandbox.path("a/d/e/draft")).unwrap();
    file.write_all(b"data").unwrap();
    fs::rename(sandbox.path("a/d/e/draft"), sandbox.path("a/d/e/f")).unwrap();
    fs::write(sandbox.path("a/d/other"), "later").unwrap();
    assert!(fs::read_dir(sandbox.path("shared")).unwrap().next().is_none());
    file.sync_all().unwrap();
    assert_eq!(text(sandbox.path("shared/d/e/f")).as_deref(), Some("data"));
    assert!(!sandbox.path("shared/d/e/draft").exists() && !sandbox.path("shared/d/other").exists());
}

#[test]
fn unmounting_lands_all_that_is_in_flight() {
    let sandbox = alone(&STILL);
    fs::create_dir(sandbox.path("a/d")).unwrap();
    for number in 0..50 {
        fs::write(sandbox.path(&format!("a/d/{number}")), number.to_string()).unwrap();
    }
    assert!(!sandbox.path("shared/d").exists());
    let said = unmount(&sandbox, "a");
    assert!(said.starts_with("a: unmounted, "), "{said}");
    for number in 0..50 {
        assert_eq!(text(sandbox.path(&format!("shared/d/{number}"))), Some(number.to_string()));
    }
}

#[test]
fn sigterm_lands_all_that_is_in_flight() {
    let sandbox = Sandbox::for_mounting();
    let client = sandbox.serve("a", &STILL);
    fs::create_dir(sandbox.path("a/d")).unwrap();
    fs::write(sandbox.path("a/d/f"), "kept").unwrap();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, Some(0));
    assert_eq!(text(sandbox.path("shared/d/f")).as_deref(), Some("kept"));
}

#[test]
fn sigkill_loses_what_is_in_flight_and_keeps_what_was_synced() {
    let sandbox = alone(&STILL);
    fs::write(sandbox.path("a/lost"), "lost").unwrap();
    let mut file = File::create(sandbox.path("a/kept")).unwrap();
    file.write_all(b"kept").unwrap();
    file.sync_all().unwrap();
    file.write_all(b" and lost").unwrap();
    drop(file);
    sandbox.kill_daemon("a");
    assert_eq!(text(sandbox.path("shared/kept")).as_deref(), Some("kept"));
    assert!(!sandbox.path("shared/lost").exists());
}

/// Who of two clients wins when both make the same file with `O_EXCL`.
fn winners(knobs: &[&str]) -> usize {
    let sandbox = mounted(knobs, knobs);
    let make =
        |name: &str| OpenOptions::new().write(true).create_new(true).open(sandbox.path(name).join("lock"));
    ["a", "b"].into_iter().filter(|name| make(name).is_ok()).count()
}

#[test]
fn two_clients_can_both_win_o_excl_and_with_zero_knobs_only_one() {
    assert_eq!(winners(&STILL), 2);
    assert_eq!(winners(&AT_ONCE), 1);
}

#[test]
fn a_conflict_is_logged_with_both_sides() {
    let sandbox = mounted(&STILL, &AT_ONCE);
    fs::write(sandbox.path("a/f"), "ours").unwrap();
    fs::write(sandbox.path("b/f"), "theirs").unwrap();
    unmount(&sandbox, "a");
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("ours"));
    let log = sandbox.log("a");
    let line = log.lines().find(|line| line.contains(" event=conflict ")).expect("a conflict in the log");
    assert!(line.contains(" mutation=create path=/f ") && line.ends_with(" outcome=taken-over"), "{line}");
}

#[test]
fn an_open_file_stays_usable_when_it_is_renamed_and_unlinked_in_flight() {
    let sandbox = alone(&still(&["--write-delay", "300", "--rename-delay", "200", "--meta-ttl", "0"]));
    let options = || OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
    let file = options().open(sandbox.path("a/f")).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    fs::rename(sandbox.path("a/f"), sandbox.path("a/g")).unwrap();
    file.write_all_at(b"two", 3).unwrap();
    fs::remove_file(sandbox.path("a/g")).unwrap();
    let content = |file: &File| {
        let mut buffer = vec![0; 20];
        let length = file.read_at(&mut buffer, 0).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(content(&file), "onetwo");
    sandbox.advance("1s");
    file.write_all_at(b"three", 6).unwrap();
    file.sync_all().unwrap();
    assert_eq!((content(&file).as_str(), file.metadata().unwrap().nlink()), ("onetwothree", 0));
    assert!(!sandbox.path("shared/f").exists() && !sandbox.path("shared/g").exists());
}

#[test]
fn a_file_that_another_client_keeps_replacing_is_never_missing() {
    const TIMES: usize = 2_000;
    let sandbox = mounted(&AT_ONCE, &AT_ONCE);
    fs::create_dir_all(sandbox.path("a/d/e")).unwrap();
    let replace = |number: usize| {
        fs::write(sandbox.path("a/d/e/new"), number.to_string()).unwrap();
        fs::rename(sandbox.path("a/d/e/new"), sandbox.path("a/d/e/f")).unwrap();
    };
    replace(0);
    thread::scope(|scope| {
        let replacing = scope.spawn(|| (1..=TIMES).for_each(replace));
        let mut latest = 0;
        while !replacing.is_finished() {
            let attributes = fs::metadata(sandbox.path("b/d/e/f")).expect("it is there");
            assert_ne!(attributes.len(), 0);
            let seen: usize =
                fs::read_to_string(sandbox.path("b/d/e/f")).expect("it is there").parse().unwrap();
            assert!(seen >= latest, "{seen} after {latest}");
            latest = seen;
        }
    });
    assert_eq!(text(sandbox.path("b/d/e/f")), Some(TIMES.to_string()));
}

#[test]
fn a_file_that_was_looked_at_is_the_same_until_it_is_let_go_whoever_removes_it() {
    let sandbox = mounted(&AT_ONCE, &AT_ONCE);
    fs::write(sandbox.path("a/f"), "gone").unwrap();
    let looked_at =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(sandbox.path("b/f")).unwrap();
    fs::write(sandbox.path("a/g"), "another").unwrap();
    fs::rename(sandbox.path("a/g"), sandbox.path("a/f")).unwrap();
    let attributes = looked_at.metadata().unwrap();
    assert_eq!((attributes.len(), attributes.nlink()), (4, 0));
    assert_eq!(fs::metadata(sandbox.path("b/f")).unwrap().len(), 7);
}

#[test]
fn what_is_made_while_nothing_is_due_yet_lands_by_itself_all_the_same() {
    let sandbox = mounted(&["--write-delay", "200", "--rename-delay", "1..400"], &AT_ONCE);
    for number in 0..20 {
        fs::write(sandbox.path(&format!("a/f{number}")), "f").unwrap();
        fs::create_dir(sandbox.path(&format!("a/d{number}"))).unwrap();
    }
    for name in (0..20).flat_map(|number| [format!("f{number}"), format!("d{number}")]) {
        awaited(&name, || sandbox.path(&format!("shared/{name}")).exists().then_some(()));
    }
}

#[test]
fn a_shared_mapping_writes_to_the_file() {
    let sandbox = alone(&["--write-delay", "300"]);
    let script = "import mmap\n\
                  f = open('f', 'w+b'); f.write(b'-' * 5000); f.flush()\n\
                  m = mmap.mmap(f.fileno(), 5000); m[4990:4996] = b'mapped'; m.flush(); m.close(); f.close()\n\
                  print(open('f', 'rb').read()[4990:4996].decode())\n";
    assert_eq!(output("python3", &["-c", script], &sandbox.path("a")), "mapped\n");
    unmount(&sandbox, "a");
    assert_eq!(&fs::read(sandbox.path("shared/f")).unwrap()[4990..4996], b"mapped");
}

#[test]
fn hard_links_are_one_inode_before_and_after_they_land() {
    let sandbox = alone(&STILL);
    fs::write(sandbox.path("a/f"), "one").unwrap();
    fs::hard_link(sandbox.path("a/f"), sandbox.path("a/g")).unwrap();
    let facts = |view: &str, name: &str| {
        let metadata = fs::metadata(sandbox.path(view).join(name)).unwrap();
        (metadata.ino(), metadata.nlink())
    };
    assert_eq!((facts("a", "f"), facts("a", "f").1), (facts("a", "g"), 2));
    OpenOptions::new().append(true).open(sandbox.path("a/g")).unwrap().write_all(b" two").unwrap();
    assert_eq!(text(sandbox.path("a/f")).as_deref(), Some("one two"));
    unmount(&sandbox, "a");
    assert_eq!((facts("shared", "f"), facts("shared", "f").1), (facts("shared", "g"), 2));
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("one two"));
}

#[test]
fn a_rename_can_exchange_and_can_refuse_to_replace() {
    let sandbox = alone(&STILL);
    for name in ["f", "g"] {
        fs::write(sandbox.path("a").join(name), name).unwrap();
    }
    let rename = |from: &str, to: &str, flags| {
        renameat2(AT_FDCWD, &sandbox.path(from), AT_FDCWD, &sandbox.path(to), flags)
    };
    assert_eq!(rename("a/f", "a/g", RenameFlags::RENAME_NOREPLACE), Err(nix::errno::Errno::EEXIST));
    assert_eq!(rename("a/f", "a/g", RenameFlags::RENAME_EXCHANGE), Ok(()));
    let contents = |view: &str| ["f", "g"].map(|name| text(sandbox.path(view).join(name)).unwrap());
    assert_eq!(contents("a"), ["g", "f"]);
    unmount(&sandbox, "a");
    assert_eq!(contents("shared"), ["g", "f"]);
}

#[test]
fn holes_are_kept_and_found() {
    let sandbox = alone(&["--write-delay", "200"]);
    let file = File::create(sandbox.path("a/f")).unwrap();
    file.write_all_at(b"end", 1 << 20).unwrap();
    file.sync_all().unwrap();
    assert_eq!(lseek(&file, 0, Whence::SeekData), Ok(1 << 20));
    assert_eq!(lseek(&file, 0, Whence::SeekHole), Ok(0));
    assert_eq!(
        errno(
            File::open(sandbox.path("a/f"))
                .and_then(|file| { lseek(&file, 2 << 20, Whence::SeekData).map_err(std::io::Error::from) })
        ),
        Some(libc::ENXIO)
    );
    let metadata = fs::metadata(sandbox.path("shared/f")).unwrap();
    assert!(metadata.len() == (1 << 20) + 3 && metadata.blocks() < 100, "{metadata:?}");
}

#[test]
fn extended_attributes_show_at_once_and_land() {
    let sandbox = alone(&STILL);
    let script = "import os\n\
                  open('f', 'w').close(); os.setxattr('f', 'user.k', b'v'); os.setxattr('f', 'user.gone', b'')\n\
                  os.removexattr('f', 'user.gone'); print(os.listxattr('f'), os.getxattr('f', 'user.k'))\n";
    assert_eq!(output("python3", &["-c", script], &sandbox.path("a")), "['user.k'] b'v'\n");
    unmount(&sandbox, "a");
    let script = "import os; print(os.listxattr('f'), os.getxattr('f', 'user.k'))";
    assert_eq!(output("python3", &["-c", script], &sandbox.path("shared")), "['user.k'] b'v'\n");
}

#[test]
fn without_read_your_writes_a_program_sees_the_old_content_until_it_lands() {
    let sandbox = alone(&still(&["--read-your-writes", "false", "--write-delay", "2s", "--meta-ttl", "0"]));
    fs::write(sandbox.path("shared/f"), "old").unwrap();
    OpenOptions::new().write(true).open(sandbox.path("a/f")).unwrap().write_all(b"newer").unwrap();
    sandbox.advance("1999");
    assert_eq!(text(sandbox.path("a/f")).as_deref(), Some("old"));
    sandbox.advance("1");
    assert_eq!(text(sandbox.path("a/f")).as_deref(), Some("newer"));
}

/// A client with so much in flight that the next write waits, which one thread is doing.
fn full() -> (Foreground, Sandbox, thread::JoinHandle<std::io::Result<()>>) {
    let sandbox = Sandbox::for_mounting();
    fs::write(sandbox.path("shared/other"), "text").unwrap();
    let client = sandbox.serve("a", &[&STILL[..], &["--max-in-flight", "72KiB"]].concat());
    let path = sandbox.path("a/f");
    let writer = thread::spawn(move || {
        let mut file = File::create(path)?;
        (0..8).try_for_each(|_| file.write_all(&[b'x'; 32 << 10]))
    });
    // The third write waits: what is before it is seen by its size.
    awaited("a full queue", || {
        fs::metadata(sandbox.path("a/f")).is_ok_and(|metadata| metadata.len() >= 64 << 10).then_some(())
    });
    (client, sandbox, writer)
}

#[test]
fn a_writer_that_waits_for_room_ends_when_the_client_leaves() {
    let (client, sandbox, writer) = full();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, Some(0));
    drop(writer.join().expect("the writer ends"));
    assert!(fs::metadata(sandbox.path("shared/f")).unwrap().len() >= 64 << 10);
}

#[test]
fn who_only_reads_waits_for_no_room() {
    let (client, sandbox, writer) = full();
    let (tell, told) = channel();
    let other = sandbox.path("a/other");
    let reader = thread::spawn(move || {
        let writable = OpenOptions::new().write(true).open(&other).is_ok();
        tell.send((fs::read_to_string(other).unwrap(), writable)).unwrap();
    });
    let read = told.recv_timeout(Duration::from_secs(20));
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, Some(0));
    drop((writer.join(), reader.join()));
    assert_eq!(read, Ok(("text".to_string(), true)));
}

#[test]
fn an_o_sync_write_is_in_the_directory_when_it_returns() {
    let sandbox = alone(&STILL);
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).custom_flags(libc::O_SYNC).open(sandbox.path("a/f")).unwrap();
    file.write_all(b"synced").unwrap();
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("synced"));
}

#[test]
fn a_single_write_can_be_synced() {
    const DELAYS: [&[&str]; 3] = [
        &["--write-delay", "10m", "--rename-delay", "10m"],
        &["--write-delay", "10m", "--rename-delay", "10m", "--kernel-cache"],
        // Here the kernel could serve the file itself, but for its new name.
        &["--write-delay", "0", "--rename-delay", "10m", "--meta-ttl", "0", "--kernel-cache"],
    ];
    const SCRIPT: &str = "import os
for flag in ('RWF_DSYNC', 'RWF_SYNC'):
    f = os.open('f', os.O_CREAT | os.O_RDWR); os.fsync(f)
    os.rename('f', flag); os.pwritev(f, [flag.encode()], 0, getattr(os, flag))
    print(open('../shared/' + flag).read())
";
    for delays in DELAYS {
        let sandbox = alone(delays);
        assert_eq!(
            output("python3", &["-c", SCRIPT], &sandbox.path("a")),
            "RWF_DSYNC\nRWF_SYNC\n",
            "{delays:?}"
        );
    }
}

const GIT: &str = "set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_DATE='2020-01-01T00:00:00Z'
export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
git init -q -b main repo && cd repo
for i in 1 2 3; do mkdir -p d$i; echo text $i > d$i/file; cp d$i/file top$i; git add -A; git commit -qm c$i; done
git mv top1 moved && git rm -q top2 && git commit -qm moved
git branch side HEAD~1 && git gc -q && git fsck --full && cd ..
git clone -q --no-hardlinks repo copy && git -C copy fsck --full && git -C copy log --format=%H --all
git -C copy status --porcelain
";

#[test]
fn a_git_repository_is_made_packed_and_cloned_as_on_a_plain_directory() {
    let sandbox = alone(&[]);
    fs::create_dir(sandbox.path("plain")).unwrap();
    let expected = output("sh", &["-c", GIT], &sandbox.path("plain"));
    assert_eq!(output("sh", &["-c", GIT], &sandbox.path("a")), expected);
    unmount(&sandbox, "a");
    // What holds times or process numbers, and packs that depend on threads, are compared by what they hold.
    let tree = "find . -path '*/.git/*' -prune -o -type f -exec sha256sum {} + | sort -k 2; \
                for r in repo copy; do git -C $r fsck --full; git -C $r rev-list --objects --all | sort; done";
    let trees = ["plain", "shared"].map(|folder| output("sh", &["-c", tree], &sandbox.path(folder)));
    assert_eq!(trees[1], trees[0]);
}

/// Writes over a file that is there, without cutting it first.
fn overwrite(path: PathBuf, content: &str, sync: bool) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(content.as_bytes(), 0).unwrap();
    if sync {
        file.sync_all().unwrap();
    }
}

#[test]
fn an_older_write_does_not_undo_a_later_one_that_an_fsync_has_landed() {
    let sandbox = mounted(&STILL, &STILL);
    fs::write(sandbox.path("shared/f"), "first").unwrap();
    overwrite(sandbox.path("a/f"), "older", false);
    overwrite(sandbox.path("b/f"), "later", true);
    unmount(&sandbox, "a");
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("later"));
}

#[test]
fn a_part_of_a_file_lands_on_top_of_a_later_write_elsewhere_in_it() {
    let sandbox = mounted(&STILL, &STILL);
    fs::write(sandbox.path("shared/f"), "........").unwrap();
    overwrite(sandbox.path("a/f"), "aaaa", false);
    let there = OpenOptions::new().write(true).open(sandbox.path("b/f")).unwrap();
    there.write_all_at(b"bbbb", 4).unwrap();
    there.sync_all().unwrap();
    drop(there);
    unmount(&sandbox, "a");
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("aaaabbbb"));
}

#[test]
fn what_is_written_straight_into_the_backing_directory_is_overwritten_by_what_lands_later() {
    let sandbox = mounted(&STILL, &STILL);
    fs::write(sandbox.path("shared/f"), "first").unwrap();
    overwrite(sandbox.path("a/f"), "older", false);
    fs::write(sandbox.path("shared/f"), "other").unwrap();
    unmount(&sandbox, "a");
    assert_eq!(text(sandbox.path("shared/f")).as_deref(), Some("older"));
}

#[test]
fn bytes_that_were_read_as_attributes_were_fetched_anew_stay_as_long_as_those() {
    const LIFETIME: Duration = Duration::from_secs(1);
    let sandbox = Sandbox::for_mounting();
    fs::write(sandbox.path("shared/file"), "old-old-old").unwrap();
    assert_eq!(sandbox.mount("a", &["--meta-ttl", "1s"]).code, Some(0));
    let file = File::open(sandbox.path("a/file")).unwrap();
    let read = || {
        let mut buffer = [0; 64];
        let length = file.read_at(&mut buffer, 0).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(read(), "old-old-old");
    // A machine that stalls for the whole lifetime proves nothing.
    let within_lifetime = || {
        thread::sleep(LIFETIME);
        fs::write(sandbox.path("shared/file"), "old-old-old").unwrap();
        let start = Instant::now();
        let before = read();
        fs::write(sandbox.path("shared/file"), "NEW-new-new").unwrap();
        let after = read();
        (start.elapsed() < LIFETIME).then_some((before, after))
    };
    let seen = std::iter::repeat_with(within_lifetime).take(5).flatten().next();
    let (before, after) = seen.expect("the machine stalls again and again");
    assert_eq!((before.as_str(), after.as_str()), ("old-old-old", "old-old-old"));
}
