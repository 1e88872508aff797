//! `--kernel-cache`: what programs see is the same as without, and the kernel asks less.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    process::Command,
    thread,
};

use chaosfs::{RemoteClient, Status};

use crate::sandbox::{Sandbox, eventually, run};

const THROUGH: [&str; 4] = ["--write-delay", "0", "--rename-delay", "0"];
/// Both modes, which have to look the same.
const MODES: [&[&str]; 2] = [&[], &["--kernel-cache"]];

fn mounted(name: &str, sandbox: &Sandbox, more: &[&[&str]]) {
    let said = sandbox.mount(name, &more.concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
}

fn alone(more: &[&[&str]]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    mounted("a", &sandbox, more);
    sandbox
}

fn text(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn status(sandbox: &Sandbox) -> Status {
    RemoteClient::at(&sandbox.path("a")).and_then(|mut client| client.status()).expect("it answers")
}

/// How often the client was asked for any of these.
fn asked(sandbox: &Sandbox, operations: &[&str]) -> u64 {
    let counts = status(sandbox).operations;
    operations.iter().filter_map(|operation| counts.get(*operation)).sum()
}

/// Whether the kernel serves files by itself here, as far as the client has found out by now.
fn passes_through(sandbox: &Sandbox) -> bool {
    !sandbox.log("a").contains("the kernel serves no file by itself")
}

#[test]
fn what_is_believed_stays_although_the_store_changes() {
    for mode in MODES {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", "10m"], mode]);
        let shared = |name: &str| sandbox.path("shared").join(name);
        fs::write(shared("f"), "old").unwrap();
        fs::write(shared("gone"), "still there").unwrap();
        let mut held = File::open(sandbox.path("a/f")).unwrap();
        let seen = || {
            let names = ["f", "new", "gone"].map(|name| sandbox.path("a").join(name));
            (
                names.clone().map(|path| path.exists()),
                text(names[0].clone()),
                fs::metadata(&names[0]).unwrap().len(),
            )
        };
        let before = seen();
        assert_eq!(before, ([true, false, true], Some("old".to_string()), 3), "{mode:?}");
        fs::write(shared("f"), "new and longer").unwrap();
        fs::write(shared("new"), "").unwrap();
        fs::remove_file(shared("gone")).unwrap();
        assert_eq!(seen(), before, "{mode:?}");
        let mut read = String::new();
        held.read_to_string(&mut read).unwrap();
        assert_eq!(read, "old", "{mode:?}");
    }
}

#[test]
fn what_is_believed_ends() {
    for mode in MODES {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", "100"], mode]);
        let shared = |name: &str| sandbox.path("shared").join(name);
        let held = {
            fs::write(shared("f"), "old").unwrap();
            fs::write(shared("gone"), "still there").unwrap();
            File::open(sandbox.path("a/f")).unwrap()
        };
        let bytes = || {
            let mut bytes = [0; 32];
            let length = held.read_at(&mut bytes, 0).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        assert!(!sandbox.path("a/new").exists() && sandbox.path("a/gone").exists());
        assert_eq!(bytes(), "old");
        fs::write(shared("f"), "new and longer").unwrap();
        fs::write(shared("new"), "").unwrap();
        fs::remove_file(shared("gone")).unwrap();
        eventually("the absence ends", || sandbox.path("a/new").exists(), |seen| *seen);
        eventually("the name goes", || sandbox.path("a/gone").exists(), |seen| !*seen);
        eventually("the bytes come", bytes, |seen| seen == "new and longer");
        let names = || fs::read_dir(sandbox.path("a")).unwrap().count();
        eventually("the listing comes", names, |seen| *seen == 2);
    }
}

#[test]
fn with_no_time_to_live_nothing_is_ever_old() {
    for mode in MODES {
        let sandbox = Sandbox::for_mounting();
        let zero: [&[&str]; 3] = [&THROUGH, &["--meta-ttl", "0"], mode];
        ["a", "b"].into_iter().for_each(|name| mounted(name, &sandbox, &zero));
        let path = |view: &str| sandbox.path(view).join("f");
        fs::write(path("a"), "0").unwrap();
        let held = File::open(path("b")).unwrap();
        for round in 1..100 {
            let wanted = "x".repeat(round);
            fs::write(path("a"), &wanted).unwrap();
            assert_eq!(fs::metadata(path("b")).unwrap().len(), round as u64);
            assert_eq!(text(path("b")).as_ref(), Some(&wanted));
            let mut bytes = vec![0; round + 1];
            assert_eq!(held.read_at(&mut bytes, 0).unwrap(), round);
            fs::rename(path("a"), sandbox.path("a/g")).unwrap();
            assert!(!path("b").exists());
            fs::rename(sandbox.path("b/g"), path("b")).unwrap();
        }
    }
}

#[test]
fn the_kernel_asks_once_for_what_is_believed() {
    const LOOKS: u64 = 50;
    const QUESTIONS: [&str; 4] = ["lookup", "getattr", "read", "readlink"];
    let questions = |mode: &[&str]| {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", "10m"], mode]);
        fs::create_dir(sandbox.path("shared/d")).unwrap();
        fs::write(sandbox.path("shared/d/f"), "text").unwrap();
        std::os::unix::fs::symlink("f", sandbox.path("shared/d/l")).unwrap();
        for _ in 0..LOOKS {
            assert_eq!(text(sandbox.path("a/d/f")).as_deref(), Some("text"));
            assert!(!sandbox.path("a/d/absent").exists());
            assert_eq!(fs::read_link(sandbox.path("a/d/l")).unwrap(), PathBuf::from("f"));
        }
        asked(&sandbox, &QUESTIONS)
    };
    let (observed, kept) = (questions(&[]), questions(&["--kernel-cache"]));
    assert!(observed > 5 * LOOKS && kept < LOOKS / 2, "{observed} and {kept}");
}

#[test]
fn a_file_that_cannot_be_old_or_in_flight_is_served_by_the_kernel() {
    let sandbox = alone(&[&THROUGH, &["--meta-ttl", "0", "--kernel-cache"]]);
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).open(sandbox.path("a/f")).unwrap();
    if !passes_through(&sandbox) {
        return;
    }
    let mut again = OpenOptions::new().write(true).open(sandbox.path("a/f")).unwrap();
    for line in 0..100 {
        let writer = if line % 2 == 0 { &mut file } else { &mut again };
        writer.seek(std::io::SeekFrom::End(0)).unwrap();
        writeln!(writer, "line {line:>4}").unwrap();
    }
    assert_eq!(status(&sandbox).lent, 1);
    assert_eq!(fs::metadata(sandbox.path("a/f")).unwrap().len(), 1000);
    assert_eq!(text(sandbox.path("a/f")), text(sandbox.path("shared/f")));
    assert_eq!(asked(&sandbox, &["read", "write"]), 0);
    // What a write takes away is asked for by the first of many.
    let before = asked(&sandbox, &["getxattr"]);
    (0..100).for_each(|_| file.write_all_at(b"L", 0).unwrap());
    assert!(asked(&sandbox, &["getxattr"]) - before < 5);
    drop((file, again));
    eventually("it is given back", || status(&sandbox).lent, |lent| *lent == 0);
}

#[test]
fn what_is_written_by_the_kernel_is_seen_through_every_other_open_file_at_once() {
    for ttl in ["0", "10m"] {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", ttl, "--kernel-cache"]]);
        let path = sandbox.path("a/f");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        for round in 1..50_u64 {
            writer.write_all_at(&[round as u8], round - 1).unwrap();
            let mut byte = [0];
            reader.read_exact_at(&mut byte, round - 1).unwrap();
            assert_eq!(u64::from(byte[0]), round, "time to live {ttl}");
            assert_eq!(
                (reader.metadata().unwrap().len(), fs::metadata(&path).unwrap().len()),
                (round, round)
            );
        }
        // Held back, it goes through all the same: what reads the file reads the store.
        let said = run(&mut sandbox.chaosfs(&["hold", "a"]));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let other = OpenOptions::new().write(true).open(&path).unwrap();
        other.write_all_at(b"!", 0).unwrap();
        let mut byte = [0];
        reader.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"!", "time to live {ttl}");
        drop((writer, reader, other));
        assert_eq!(fs::read(&path).unwrap()[..2], [b'!', 2]);
    }
}

/// Every way to open a file beside every other: the kernel answers EIO where they may not be.
#[test]
fn a_file_can_be_opened_in_every_way_at_the_same_time() {
    const SCRIPT: &str = "import mmap, os, random, sys
random.seed(int(sys.argv[1]))
for round in range(150):
    how = random.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_APPEND])
    f = os.open('f', how | os.O_CREAT)
    if how & os.O_ACCMODE != os.O_WRONLY:
        os.pread(f, 4096, 0) if random.random() < .5 else len(mmap.mmap(f, 4096, prot=mmap.PROT_READ)[:])
    if how == os.O_RDWR: mmap.mmap(f, 4096)[0:4] = b'text'
    if how in (os.O_WRONLY, os.O_RDWR): os.lseek(f, 0, 0)
    if how == os.O_WRONLY: os.ftruncate(f, 8192)
    os.close(f)
";
    for ttl in ["0", "20", "10m"] {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", ttl, "--kernel-cache"]]);
        fs::write(sandbox.path("a/f"), vec![b'x'; 8192]).unwrap();
        let programs: Vec<_> = (0..4)
            .map(|seed: i32| {
                let mut command = Command::new("python3");
                command.args(["-c", SCRIPT, &seed.to_string()]).current_dir(sandbox.path("a"));
                thread::spawn(move || run(&mut command))
            })
            .collect();
        for program in programs {
            let said = program.join().unwrap();
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "time to live {ttl}");
        }
    }
}

#[test]
fn a_number_that_is_used_again_is_another_file() {
    for ttl in ["0", "10m"] {
        let sandbox = alone(&[&THROUGH, &["--meta-ttl", ttl, "--kernel-cache"]]);
        let busy = |name: &str| {
            let (path, moved) = (sandbox.path("a").join(name), sandbox.path("a").join(format!("{name}.new")));
            for round in 0..300 {
                let wanted = format!("{name} {round}");
                fs::write(&moved, &wanted).unwrap();
                fs::rename(&moved, &path).unwrap();
                assert_eq!(text(path.clone()).as_ref(), Some(&wanted), "time to live {ttl}");
                assert_eq!(fs::metadata(&path).unwrap().size(), wanted.len() as u64);
                fs::remove_file(&path).unwrap();
            }
        };
        thread::scope(|scope| {
            let names = ["one", "two", "three"].map(|name| scope.spawn(move || busy(name)));
            names.into_iter().for_each(|name| name.join().unwrap());
        });
    }
}

#[test]
fn what_needs_every_operation_is_refused() {
    let sandbox = Sandbox::for_mounting();
    let refused = [
        (&["--drop-prob", "0.1"][..], "--drop-prob"),
        (&["--debug"], "--debug"),
        (&["--clock", "manual"], "--clock manual"),
        (&["--read-your-writes", "false"], "--read-your-writes false"),
    ];
    for (flags, named) in refused {
        let said = sandbox.mount("a", &[&["--kernel-cache"], flags].concat());
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains(&format!("--kernel-cache cannot be used with {named}")), "{}", said.err);
    }
    mounted("a", &sandbox, &[&["--kernel-cache"]]);
    for (command, named) in
        [(&["set", "a", "drop_prob=0.5"][..], "--drop-prob"), (&["expire", "a"], "--kernel-cache")]
    {
        let said = run(&mut sandbox.chaosfs(command));
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains(named) && said.err.lines().count() == 1, "{}", said.err);
    }
    assert!(status(&sandbox).kernel_cache);
}
