//! A client that runs out of descriptors or memory: it gets slower, or says so, and loses nothing.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    process::Command,
    thread,
    time::Duration,
};

use nix::sys::signal::{Signal, kill};

use chaosfs::Status;

use crate::{
    sandbox::{Said, Sandbox, eventually, run},
    strangers::with_theirs,
};

/// The same command under limits of the shell, and killed where it does not end.
pub fn limited(limits: &str, command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["-s", "KILL", "100", "sh", "-c", &format!("{limits} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().expect("a folder"));
    limited
}

#[test]
fn a_deep_tree_lands_and_is_removed_with_few_descriptors_by_who_opens_nothing_by_handle() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = "import os, subprocess, sys
os.chdir(sys.argv[1])
for depth in range(150):
    os.mkdir('d'); os.chdir('d'); open('f', 'w').write('x')
assert subprocess.call([sys.argv[2], 'flush', sys.argv[1]]) == 0
for depth in range(150):
    os.unlink('f'); os.chdir('..'); os.rmdir('d')
assert os.listdir(os.environ['CHAOSFS_BACKING']) == ['d']
";
    let args = ["run", "--clients", "1", "--write-delay", "100ms", "--rename-delay", "60s", "--"];
    let binary = sandbox.binary();
    let args = [&args[..], &["python3", "-c", script, "{A}", binary.to_str().expect("UTF-8")]].concat();
    let said = run(&mut limited("ulimit -n 40", &sandbox.as_ordinary_user(&args)));
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
}

/// What a client says about itself.
fn status(sandbox: &Sandbox, client: &str) -> Status {
    let said = run(&mut sandbox.chaosfs(&["status", "--json", client]));
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {} {}", said.out, said.err))
}

#[test]
fn names_that_are_looked_for_in_vain_for_ever_take_no_more_than_their_room() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--meta-ttl", "1h", "--max-belief", "256KiB"]).code, Some(0));
    let look = |number| assert!(!sandbox.path(&format!("a/absent{number}")).exists());
    (0..4000).for_each(look);
    let status = status(&sandbox, "a");
    assert!(status.beliefs_evicted > 2000 && status.belief_bytes <= 256 << 10, "{status:?}");
    assert_eq!(status.knobs.max_belief, 256 << 10);
    let operations = status.operations["lookup"];
    (3500..4000).for_each(look);
    let again = run(&mut sandbox.chaosfs(&["set", "a", "max_belief=1KiB"]));
    assert_eq!(again.code, Some(0), "{}", again.err);
    let status = self::status(&sandbox, "a");
    assert!(status.belief_bytes <= 1 << 10 && status.operations["lookup"] >= operations, "{status:?}");
}

#[test]
fn small_changes_count_with_what_they_take_and_wait_for_room() {
    let sandbox = Sandbox::for_mounting();
    let flags = ["--clock", "manual", "--max-in-flight", "1MiB"];
    assert_eq!(sandbox.mount("a", &flags).code, Some(0));
    let folder = sandbox.path("a");
    let links = thread::spawn(move || {
        (0..1000).try_for_each(|number| symlink("x".repeat(2000), folder.join(format!("link{number}"))))
    });
    let full = || {
        let in_flight = status(&sandbox, "a").in_flight;
        (in_flight.bytes, in_flight.memory)
    };
    let (bytes, _) = eventually("a full queue", full, |(_, memory)| *memory > 1 << 20);
    thread::sleep(Duration::from_millis(100));
    let (bytes_later, memory) = full();
    assert!(bytes == 0 && bytes_later == 0 && memory < (1 << 20) + (16 << 10), "{memory}");
    assert!(!links.is_finished());
    let moved = || {
        sandbox.advance("1200");
        links.is_finished()
    };
    eventually("the end", moved, |finished| *finished);
    links.join().expect("it does not panic").expect("it makes them all");
    sandbox.advance("1200");
    assert_eq!(fs::read_dir(sandbox.path("shared")).unwrap().count(), 1000);
}

/// How many kilobytes of memory of its own a client's process has.
fn resident(sandbox: &Sandbox, client: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.daemon(client))).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_goes_back_when_what_took_it_has_landed_or_expired() {
    const PIECES: u64 = 16_000;
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--write-delay", "1h", "--meta-ttl", "2s"]).code, Some(0));
    let before = resident(&sandbox, "a");
    let files: Vec<File> =
        (0..10).map(|n| File::create(sandbox.path(&format!("a/f{n}"))).expect("a file")).collect();
    for piece in 0..PIECES {
        let file = &files[piece as usize % files.len()];
        file.write_all_at(&[b'x'; 5000], piece * 8192).expect("it is written");
    }
    drop(files);
    let taken = resident(&sandbox, "a");
    assert!(taken > before + (64 << 10));
    assert_eq!(run(&mut sandbox.chaosfs(&["flush", "a"])).code, Some(0));
    // Not all: what is left between pieces that are in use stays.
    let given_back = |now: &u64| *now < taken - (taken - before) / 3;
    eventually(&format!("what was in flight, after {before}"), || resident(&sandbox, "a"), given_back);
    (0..30_000).for_each(|n| assert!(!sandbox.path(&format!("a/absent{n}")).exists()));
    assert!(status(&sandbox, "a").belief_bytes > 1 << 20);
    eventually("what was believed", || status(&sandbox, "a").belief_bytes, |bytes| *bytes < 1 << 16);
}

#[test]
fn where_no_memory_is_left_changes_are_refused_and_what_was_acknowledged_lands() {
    let sandbox = Sandbox::for_mounting();
    let flags = [
        "mount",
        "shared",
        "a",
        "--background",
        "--client-id",
        "a",
        "--log-dir",
        "logs",
        "--write-delay",
        "1h",
    ];
    let mounted = run(&mut limited("ulimit -v 300000", &sandbox.chaosfs(&flags)));
    assert_eq!(mounted.code, Some(0), "{}", mounted.err);
    let content = vec![b'x'; 128 << 10];
    let write = |number| fs::write(sandbox.path(&format!("a/f{number}")), &content);
    let (refused, error) =
        (0..2000).find_map(|number| write(number).err().map(|error| (number, error))).expect("a limit");
    assert_eq!(error.raw_os_error(), Some(12), "{error}");
    // A client has not much of its own.
    assert!(refused > 100, "{refused}");
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
    for number in 0..refused {
        assert_eq!(fs::read(sandbox.path(&format!("shared/f{number}"))).expect("it has landed"), content);
    }
}

#[test]
fn a_client_that_is_aborted_says_how_much_is_lost() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--clock", "manual"]).code, Some(0));
    for number in 0..12 {
        fs::create_dir(sandbox.path(&format!("a/d{number}"))).expect("a directory");
    }
    let said = |log: &String| log.ends_with("level=error event=aborted in_flight=12\n");
    let daemon = format!("/proc/{}/exe", sandbox.daemon("a"));
    kill(sandbox.daemon("a"), Signal::SIGABRT).expect("it lives");
    eventually("last words", || sandbox.log("a"), said);
    eventually("its end", || fs::read_link(&daemon).is_err(), |ended| *ended);
}

#[test]
fn a_run_whose_server_is_aborted_says_how_much_is_lost() {
    let sandbox = Sandbox::for_mounting();
    let script = "mkdir {A}/d1 {A}/d2 {B}/d3; kill -ABRT $(cut -d ' ' -f 4 /proc/$PPID/stat); sleep 0.1";
    let said = run(&mut sandbox.run_command(&["--clock", "manual", "--", "sh", "-c", script]));
    assert!(said.err.contains("chaosfs: aborted; changes in flight that are lost: 3\n"), "{said:?}");
    assert!(said.err.contains("chaosfs: the process that served the clients died"), "{said:?}");
    assert_eq!((said.code, sandbox.mounts()), (Some(125), vec![]));
}

/// A script that an ordinary user's run executes, in which `alone PID` lets that process start no thread and no process
/// any more.
fn by_ordinary_user(sandbox: &Sandbox, args: &[&str], script: &str) -> Said {
    let script = format!("alone() {{ prlimit --pid $1 --nproc=1:1; }}\n{script}");
    let args = [&["run", "--write-delay", "1h", "--rename-delay", "1h"], args, &["--", "sh", "-ec", &script]]
        .concat();
    let mut command = sandbox.as_ordinary_user(&args);
    run(command.env("CHAOSFS", sandbox.binary()).env("T", sandbox.path("tmp")))
}

#[test]
fn a_run_whose_clients_can_start_no_thread_at_its_end_lands_and_says_what_it_leaves() {
    let sandbox = Sandbox::for_ordinary_users();
    let back = sandbox.path("tmp/back");
    fs::create_dir(&back).unwrap();
    fs::set_permissions(&back, fs::Permissions::from_mode(0o777)).unwrap();
    let script = "echo text > {A}/f; echo more > {B}/g; alone $(cut -d ' ' -f 4 /proc/$PPID/stat)";
    let said = by_ordinary_user(&sandbox, &["--backing", back.to_str().unwrap()], script);
    let landed = ["f", "g"].map(|name| fs::read_to_string(back.join(name)).unwrap_or_default());
    assert_eq!(landed, ["text\n", "more\n"], "{said:?}");
    assert!(said.err.contains("still mounted") || said.err.is_empty(), "{said:?}");
    assert!(!said.err.contains("panicked") && said.code != Some(101), "{said:?}");
}

#[test]
fn a_daemon_that_can_start_no_thread_leaves_on_sigterm() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = "cd $T; mkdir back m
$CHAOSFS mount back m --background --log-file log --write-delay 1h --rename-delay 1h
echo text > m/file; pid=$($CHAOSFS status --json m | grep -o '\"pid\":[0-9]*' | cut -d : -f 2)
alone $pid; kill $pid; i=0
while [ -e /proc/$pid ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done
[ ! -e /proc/$pid ]; cat back/file; grep -c 'event=stop landed=2' log; $CHAOSFS umount m > umounted 2>&1 || :";
    let said = by_ordinary_user(&sandbox, &["--clients", "1"], script);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "text\n1\n"), "{}", said.err);
}

/// In a script of `with_theirs`: a user who has no other process, and a folder of that user's.
const ALONE: &str = r#"
import resource
chaosfs("umount", "theirs/d/m")
NOBODY = USER
open("device/passwd", "w").write(open("/etc/passwd").read() + f"alone:x:{NOBODY}:{NOBODY}::/:/bin/sh\n")
subprocess.check_call(["mount", "--bind", "device/passwd", "/etc/passwd"])
os.mkdir("alone"); os.chown("alone", NOBODY, NOBODY)
"#;

#[test]
fn where_a_users_processes_are_at_their_limit_a_mount_is_taken_away_all_the_same() {
    // The daemon has a limit of what it has itself.
    let script = r#"
def mount_alone():
    os.chdir("alone"); os.mkdir("m"); os.mkdir("back")
    subprocess.check_call([BINARY, "mount", "back", "m", "--background", "--log-file", "log"])
done(as_nobody(mount_alone))
def of_user():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat("/proc/" + pid).st_uid == NOBODY: found.append(pid)
    return found
until(lambda: len(of_user()) == 1)
daemon, = of_user()
threads = len(os.listdir(f"/proc/{daemon}/task"))
done(as_nobody(lambda: resource.prlimit(int(daemon), resource.RLIMIT_NPROC, (threads, threads))))
assert f"Max processes             {threads} " in open(f"/proc/{daemon}/limits").read()
os.kill(int(daemon), signal.SIGTERM)
until(lambda: not os.path.exists(f"/proc/{daemon}/exe"))
print([fields[4] for fields in mounts() if fields[4].endswith("/alone/m")], "cannot" in open("alone/log").read())
subprocess.check_call(["rm", "-rf", f"/tmp/chaosfs-{NOBODY}"])
"#;
    let Some(said) = with_theirs("", &format!("USER = 61234\n{ALONE}{script}")) else { return };
    assert_eq!(said, "[] False\n");
}

#[test]
fn a_client_that_cannot_have_its_threads_is_not_mounted() {
    let script = r#"
os.chdir("alone")
def prepare(): os.mkdir("m"); os.mkdir("back")
done(as_nobody(prepare))
mounted = lambda: [fields[4] for fields in mounts() if fields[4].endswith("/alone/m")]
def mount_with(limit):
    def exec_mount():
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
        os.execv(BINARY, [BINARY, "mount", "back", "m", "--log-file", "log"])
    return as_nobody(exec_mount)
refused = set()
for limit in range(1, 40):
    client = mount_with(limit)
    ended = []
    def is_over():
        ended[:] = [code for pid, code in [os.waitpid(client, os.WNOHANG)] if pid]
        return ended or "signals" in threads()
    def threads():
        # That is the last one which a client starts.
        with contextlib.suppress(OSError):
            tasks = os.listdir(f"/proc/{client}/task")
            return [open(f"/proc/{client}/task/{task}/comm").read().strip() for task in tasks]
        return []
    until(is_over)
    said = open("said").read()
    assert "panicked" not in said, (limit, said)
    if not ended: break
    assert os.waitstatus_to_exitcode(ended[0]) == 1 and said.startswith("chaosfs: ") and not mounted(), (limit, ended, said, mounted())
    refused.add(said)
done(as_nobody(lambda: open("m/file", "w").write("text")))
os.kill(client, signal.SIGTERM); done(client)
print(mounted(), open("back/file").read(), len(refused) > 1)
subprocess.check_call(["rm", "-rf", f"/tmp/chaosfs-{NOBODY}"])
"#;
    let Some(said) = with_theirs("", &format!("USER = 61235\n{ALONE}{script}")) else { return };
    assert_eq!(said, "[] text True\n");
}
