//! A store in trouble: full, out of inodes, read-only, over quota. Programs hear of it as the manual pages say, what
//! waits lands once it can, and nothing else on the client stops.
//!
//! Who keeps files open is a program of its own: this process starts others, which for a moment hold what it has open,
//! and the close of theirs would hear what is said once.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    thread,
};

use nix::sys::signal::Signal;

use crate::sandbox::{Sandbox, as_root, awaited, run};

const AT_ONCE: [&str; 6] = ["--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "0"];
const SOON: [&str; 6] = ["--write-delay", "100", "--rename-delay", "100", "--meta-ttl", "0"];

/// A backing directory that is a small file system of its own.
struct Small(Sandbox);

impl Small {
    fn new(options: &str) -> Small {
        let sandbox = Sandbox::for_mounting();
        let small = Small(sandbox);
        small.system("mount", &["-t", "tmpfs", "-o", options, "small"], &["shared"]);
        small
    }

    #[track_caller]
    fn system(&self, program: &str, args: &[&str], paths: &[&str]) {
        let mut command = Command::new(program);
        let status = command.args(args).args(paths.iter().map(|name| self.0.path(name))).status();
        assert!(status.expect("it is installed").success(), "{program} {args:?} {paths:?}");
    }

    #[track_caller]
    fn mount(&self, knobs: &[&str]) {
        let said = self.0.mount("a", knobs);
        assert_eq!(said.code, Some(0), "{}", said.err);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(&mut self.0.chaosfs(&["umount", "-m", "a"]));
        let _ = Command::new("umount").arg("-l").arg(self.path("shared")).output();
    }
}

/// What every program here begins with: `said(call, ...)` is the name of the error that a call ends with.
const PRELUDE: &str = "import errno, os, time
def said(call, *args):
    try: call(*args)
    except OSError as error: return errno.errorcode[error.errno]
def add(name='a/f'): return os.open(name, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
def until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
def logged(text): until(lambda: text in open('logs/a.log').read())
def size(name): return os.path.getsize(name) if os.path.exists(name) else -1
BLOCK = b'x' * (500 << 10)
";

/// Runs a program in the folder with the backing directory and the client, and returns what it printed.
#[track_caller]
fn program(small: &Small, script: &str) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("{PRELUDE}{script}")]).current_dir(small.path(""));
    let said = run(&mut command);
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out
}

#[test]
fn without_delay_a_full_store_is_reported_by_the_call_itself() {
    if !as_root("trouble::without_delay_a_full_store_is_reported_by_the_call_itself") {
        return;
    }
    let small = Small::new("size=1m,nr_inodes=8");
    small.mount(&AT_ONCE);
    let script = "f = add(); written = 0
while True:
    try: written += os.write(f, BLOCK)
    except OSError as error: print(errno.errorcode[error.errno]); break
print(written >= 900000, said(os.fsync, f), said(os.close, f))
os.unlink('a/f'); f = add()
until(lambda: said(os.write, f, BLOCK) is None)
print(next(filter(None, (said(add, f'a/{number}') for number in range(10)))))
";
    assert_eq!(program(&small, script), "ENOSPC\nTrue None None\nENOSPC\n");
}

#[test]
fn with_delay_a_full_store_is_reported_once_to_each_open_file_and_stops_nothing_else() {
    if !as_root("trouble::with_delay_a_full_store_is_reported_once_to_each_open_file_and_stops_nothing_else")
    {
        return;
    }
    let small = Small::new("size=1m");
    fs::write(small.path("shared/ballast"), vec![0; 800 << 10]).unwrap();
    small.mount(&SOON);
    // Each open file hears of it by whatever it does first, and only then. What needs no room goes on meanwhile.
    let script = "f = [add() for _ in range(4)]
os.write(f[0], BLOCK)
logged('event=landing-delayed mutation=write path=/f error=ENOSPC')
print(said(os.write, f[0], b'y'), said(os.write, f[0], b'y'))
print(said(os.close, f[1]), said(os.fsync, f[2]), said(os.close, f[2]))
os.mkdir('a/d'); os.rename('a/d', 'a/e')
until(lambda: os.path.isdir('shared/e'))
os.unlink('shared/ballast')
until(lambda: size('shared/f') == len(BLOCK) + 1)
print(said(os.close, f[0]), said(os.close, f[3]), said(os.close, add()))
";
    assert_eq!(program(&small, script), "ENOSPC None\nENOSPC ENOSPC None\nNone ENOSPC None\n");
}

#[test]
fn an_fsync_and_a_synced_write_are_logged_with_how_they_end() {
    if !as_root("trouble::an_fsync_and_a_synced_write_are_logged_with_how_they_end") {
        return;
    }
    let small = Small::new("size=1m");
    fs::write(small.path("shared/ballast"), vec![0; 800 << 10]).unwrap();
    small.mount(&["--write-delay", "10m", "--rename-delay", "10m", "--debug"]);
    let script = "f = add(); os.write(f, BLOCK)
print(said(os.fsync, f), said(os.fsync, f))
s = os.open('a/s', os.O_CREAT | os.O_WRONLY | os.O_SYNC)
print(said(os.write, s, BLOCK))
os.unlink('shared/ballast')
print(said(os.fsync, f))
";
    assert_eq!(program(&small, script), "ENOSPC ENOSPC\nENOSPC\nNone\n");
    let log = small.0.log("a");
    let of = |call: &str| {
        let ends = log.lines().filter_map(|line| line.split_once(call)?.1.split(' ').next());
        ends.collect::<Vec<_>>()
    };
    assert_eq!(of(" op=fsync path=/f outcome="), ["ENOSPC", "ENOSPC", "ok"], "{log}");
    assert_eq!(of(" op=write path=/s outcome="), ["ENOSPC"], "{log}");
}

#[test]
fn with_delay_new_files_wait_for_inodes() {
    if !as_root("trouble::with_delay_new_files_wait_for_inodes") {
        return;
    }
    let small = Small::new("size=1m,nr_inodes=4");
    small.mount(&SOON);
    for number in 0..5 {
        fs::write(small.path(&format!("a/{number}")), number.to_string()).expect("it is acknowledged");
    }
    awaited("the trouble in the log", || {
        small.0.log("a").contains("event=landing-delayed mutation=create").then_some(())
    });
    for number in 0..5 {
        let seen = fs::read_to_string(small.path(&format!("a/{number}"))).unwrap();
        assert_eq!(seen, number.to_string(), "whether it has landed or not");
    }
    small.system("mount", &["--options-mode", "ignore", "-o", "remount,nr_inodes=100"], &["shared"]);
    awaited("all five", || (fs::read_dir(small.path("shared")).unwrap().count() == 5).then_some(()));
}

#[test]
fn a_store_that_turns_read_only_refuses_what_is_new_and_keeps_what_waits() {
    if !as_root("trouble::a_store_that_turns_read_only_refuses_what_is_new_and_keeps_what_waits") {
        return;
    }
    let small = Small::new("size=1m");
    small.mount(&["--write-delay", "500", "--rename-delay", "500"]);
    let script = "f = add(); os.write(f, b'waits')
open('ready', 'w').close(); until(lambda: os.path.exists('read-only'))
print(said(os.mkdir, 'a/d'), said(os.write, add(), b'x'), said(os.fsync, f), open('a/f').read())
os.unlink('ready'); until(lambda: not os.path.exists('read-only'))
until(lambda: size('shared/f') == 5)
print(said(os.fsync, f), said(os.mkdir, 'a/d'))
";
    thread::scope(|scope| {
        let printed = scope.spawn(|| program(&small, script));
        awaited("a file in flight", || small.path("ready").exists().then_some(()));
        small.system("mount", &["--options-mode", "ignore", "-o", "remount,ro"], &["shared"]);
        fs::write(small.path("read-only"), "").unwrap();
        awaited("what a program meets", || (!small.path("ready").exists()).then_some(()));
        small.system("mount", &["--options-mode", "ignore", "-o", "remount,rw"], &["shared"]);
        fs::remove_file(small.path("read-only")).unwrap();
        assert_eq!(printed.join().expect("it ends"), "EROFS EROFS EROFS waits\nNone None\n");
    });
}

#[test]
fn what_cannot_land_in_the_end_is_named_path_by_path_and_the_exit_status_says_so() {
    if !as_root("trouble::what_cannot_land_in_the_end_is_named_path_by_path_and_the_exit_status_says_so") {
        return;
    }
    for signals in [1, 2] {
        let small = Small::new("size=1m");
        let client = small.0.serve("a", &["--write-delay", "30s", "--rename-delay", "30s"]);
        fs::create_dir(small.path("a/d")).unwrap();
        fs::write(small.path("a/d/big"), vec![b'x'; 2 << 20]).unwrap();
        fs::write(small.path("a/d/new\nline"), vec![b'x'; 2 << 20]).unwrap();
        client.signal(Signal::SIGTERM);
        if signals == 2 {
            // The first takes the mount away; the second ends the landing.
            awaited("an unmounted client", || (!small.0.mounted("a")).then_some(()));
            // It is made when its directory has landed, which is then not given up with it.
            awaited("a file in the directory", || small.path("shared/d/big").exists().then_some(()));
            client.signal(Signal::SIGTERM);
        }
        let said = client.wait();
        assert_eq!(said.code, Some(1), "{}", said.err);
        let lines: Vec<&str> =
            said.err.lines().filter(|line| line.starts_with("chaosfs: could not land: ")).collect();
        assert_eq!(lines.len(), 2, "{}", said.err);
        assert!(lines.iter().any(|line| line.contains(" /d/big: ")), "{}", said.err);
        assert!(lines.iter().any(|line| line.contains(r#" "/d/new\nline": "#)), "{}", said.err);
    }
}

/// A btrfs of its own with a quota of a megabyte on a subvolume, which becomes the backing directory.
struct Quota {
    small: Small,
}

impl Quota {
    fn new() -> Quota {
        let small = Small(Sandbox::for_mounting());
        fs::create_dir(small.path("disk")).unwrap();
        File::create(small.path("image")).unwrap().set_len(256 << 20).unwrap();
        small.system("mkfs.btrfs", &["-q"], &["image"]);
        small.system("mount", &["-o", "loop"], &["image", "disk"]);
        small.system("btrfs", &["-q", "quota", "enable"], &["disk"]);
        small.system("btrfs", &["-q", "subvolume", "create"], &["disk/limited"]);
        small.system("btrfs", &["-q", "qgroup", "limit", "2M"], &["disk/limited"]);
        small.system("mount", &["--bind"], &["disk/limited", "shared"]);
        Quota { small }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = run(&mut self.small.0.chaosfs(&["umount", "-m", "a"]));
        for name in ["shared", "disk"] {
            let _ = Command::new("umount").arg("-l").arg(self.small.path(name)).output();
        }
    }
}

#[test]
#[ignore = "needs a loop device and btrfs-progs"]
fn a_quota_is_reported_like_a_full_store() {
    let write = "f = add(); print(next(filter(None, (said(os.write, f, BLOCK) for _ in range(10))), None))
";
    let quota = Quota::new();
    quota.small.mount(&AT_ONCE);
    assert_eq!(program(&quota.small, write), "EDQUOT\n");
    drop(quota);

    let quota = Quota::new();
    quota.small.mount(&["--write-delay", "2s"]);
    let script = format!("{write}print(said(os.fsync, f))\n");
    assert_eq!(program(&quota.small, &script), "None\nEDQUOT\n");
    quota.small.system("btrfs", &["-q", "qgroup", "limit", "none"], &["disk/limited"]);
    awaited("the file", || {
        fs::metadata(quota.small.path("shared/f")).is_ok_and(|facts| facts.len() == 5_120_000).then_some(())
    });
}
