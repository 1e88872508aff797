//! Unmounting: whoever serves a client, in whatever state, it lands and says so, or it is said what is in the way.

use std::{collections::BTreeSet, env, fs, process::Command, sync::mpsc, thread, time::Duration};

use chaosfs::{Clients, EventLog, Mount, MountOptions, Unmounted, mount, unmount};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::sandbox::{CHAOSFS, Foreground, Said, Sandbox, as_root, as_root_among_users, eventually, run};

const PATIENCE: Duration = Duration::from_secs(30);

fn two(manual: bool) -> Clients {
    let builder = Clients::builder().clients(2).log(|_| EventLog::silent());
    let builder = if manual { builder.manual_clock() } else { builder };
    builder.mount().expect("two clients")
}

/// What `chaosfs umount` hears of a client that this process serves.
#[track_caller]
fn unmounted(mount: &Mount) -> Unmounted {
    let (path, (heard, outcome)) = (mount.mountpoint().to_path_buf(), mpsc::channel());
    thread::spawn(move || heard.send(unmount(&path)));
    outcome.recv_timeout(PATIENCE).expect("it returns")
}

#[test]
fn one_of_several_clients_of_a_process_lands_and_is_out_on_either_clock() {
    for manual in [false, true] {
        let clients = two(manual);
        fs::write(clients["A"].mountpoint().join("file"), "text").unwrap();
        let Unmounted::Gone(farewell) = unmounted(&clients["A"]) else { panic!("it is gone") };
        assert_eq!((farewell.landed, farewell.lost.len()), (2, 0));
        assert_eq!(fs::read_to_string(clients.backing().join("file")).unwrap(), "text");
        fs::write(clients["B"].mountpoint().join("other"), "goes on").unwrap();
        assert_eq!(clients["A"].land(), farewell, "it has landed once");
        let backing = clients.backing().to_path_buf();
        assert_eq!(clients.unmount(), Ok(()));
        assert!(!backing.exists());
    }
}

/// A script that a run executes, in which `unmount` is `chaosfs umount`.
fn scripted(sandbox: &Sandbox, args: &[&str], script: &str) -> Said {
    let script = format!("unmount() {{ timeout 60 $CHAOSFS umount \"$@\"; }}\n{script}");
    let command = ["--", "sh", "-ec", &script];
    run(sandbox.run_command(&[args, &command].concat()).env("CHAOSFS", CHAOSFS))
}

#[test]
fn a_command_unmounts_the_clients_of_its_run() {
    let script = "echo text > {A}/file; unmount -m {A}; cat $CHAOSFS_BACKING/file
echo more > {B}/other; unmount -m {B}; cat $CHAOSFS_BACKING/other";
    for clock in ["real", "manual"] {
        let sandbox = Sandbox::for_mounting();
        let said = scripted(&sandbox, &["--clock", clock], script);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!((lines[1], lines[3]), ("text", "more"));
        for line in [lines[0], lines[2]] {
            assert!(line.ends_with(": unmounted, 2 landed"), "{line}");
        }
        assert!(sandbox.left_by_runs().is_empty() && sandbox.mounts().is_empty());
    }
}

#[test]
fn each_command_unmounts_its_own_client() {
    let script = "client=$PWD; echo text > file-${client##*/}; cd /; unmount -m \"$client\" > /dev/null
cat $CHAOSFS_BACKING/file-${client##*/}";
    let sandbox = Sandbox::for_mounting();
    let said = scripted(&sandbox, &["--each", "--clock", "manual"], script);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A: text", "B: text"]);
}

/// A process that stands still until this goes.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Stopped {
        kill(pid, Signal::SIGSTOP).expect("it is there");
        let path = format!("/proc/{pid}/stat");
        eventually(
            "a stopped process",
            || fs::read_to_string(&path).expect("its state"),
            |stat| stat.contains(") T "),
        );
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn say(sandbox: &Sandbox, args: &[&str]) -> Said {
    run(&mut sandbox.chaosfs(args))
}

#[test]
fn of_a_daemon_that_is_stopped_it_is_said_and_not_waited_for_longer_than_asked() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--write-delay", "1h"]).code, Some(0));
    fs::write(sandbox.path("a/file"), "text").unwrap();
    let daemon = sandbox.daemon("a");
    let stopped = Stopped::new(daemon);
    let said = say(&sandbox, &["umount", "a", "--timeout", "4s"]);
    let what = format!("process {daemon} does not answer: it is stopped (`kill -CONT {daemon}` resumes it)");
    let lines = format!(
        "chaosfs: a: waiting: {what}\nchaosfs: a: unmounted, but not everything has landed: {what}\n"
    );
    assert_eq!((said.code, said.out, said.err), (Some(1), String::new(), lines));
    drop(stopped);
    let landed = || fs::read_to_string(sandbox.path("shared/file")).unwrap_or_default();
    eventually("what was in flight", landed, |text| text == "text");
}

#[test]
fn of_a_daemon_that_is_stopped_nothing_else_is_waited_for_either() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--clock", "manual"]).code, Some(0));
    let daemon = sandbox.daemon("a");
    let _stopped = Stopped::new(daemon);
    let refusal =
        format!("chaosfs: a: its daemon does not answer: process {daemon} does not answer: it is stopped ");
    for words in [&["flush", "a"][..], &["advance", "1s", "a"], &["hold", "a"], &["status", "a"]] {
        let said = say(&sandbox, words);
        assert!(said.code == Some(1) && said.err.starts_with(&refusal), "{words:?}: {said:?}");
    }
}

/// A client `b` whose store is another client, `a`, that answers nothing: whatever `b` lands hangs.
fn stuck() -> (Sandbox, Stopped) {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--write-delay", "0", "--rename-delay", "0"]).code, Some(0));
    let fixed = ["mount", "a", "b", "--background", "--log-file", "log-b", "--write-delay", "1h"];
    assert_eq!(say(&sandbox, &fixed).code, Some(0));
    fs::write(sandbox.path("b/file"), "text").unwrap();
    let stopped = Stopped::new(sandbox.daemon("a"));
    (sandbox, stopped)
}

#[test]
fn landing_that_takes_long_is_waited_for_and_it_is_said_how_much_is_left() {
    for words in [&["flush", "b"][..], &["umount", "b"]] {
        let (sandbox, stopped) = stuck();
        let waiting = Foreground::start(&mut sandbox.chaosfs(words));
        thread::sleep(Duration::from_secs(3));
        drop(stopped);
        let said = waiting.wait();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.starts_with("chaosfs: b: waiting: process "), "{said:?}");
        assert!(said.err.ends_with(" has 2 changes (4 bytes of data) in flight\n"), "{said:?}");
        assert_eq!(fs::read_to_string(sandbox.path("shared/file")).unwrap(), "text");
        say(&sandbox, &["umount", "--mount-base", "."]);
    }
}

#[test]
fn what_has_not_landed_in_time_is_said() {
    let (sandbox, stopped) = stuck();
    let said = say(&sandbox, &["umount", "b", "--timeout", "10ms"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(
        said.err.starts_with("chaosfs: b: unmounted, but not everything has landed: process "),
        "{said:?}"
    );
    assert!(said.err.ends_with(" has 2 changes (4 bytes of data) in flight\n"), "{said:?}");
    drop(stopped);
    let landed = || fs::read_to_string(sandbox.path("shared/file")).unwrap_or_default();
    eventually("what was in flight", landed, |text| text == "text");
}

#[test]
fn several_are_named_at_once_and_what_is_no_client_among_them_stops_nothing() {
    let sandbox = Sandbox::for_mounting();
    for name in ["a", "b"] {
        assert_eq!(sandbox.mount(name, &[]).code, Some(0));
    }
    let said = say(&sandbox, &["unmount", "a", "shared", "-m", "b"]);
    assert_eq!((said.code, said.err.as_str()), (Some(1), "chaosfs: shared: not mounted\n"));
    let outs: Vec<&str> = said.out.lines().collect();
    assert_eq!(outs, ["a: unmounted, 0 landed", "b: unmounted, 0 landed"]);
}

#[test]
fn all_are_unmounted_at_once() {
    // The root of a user namespace cannot take others' clients out of its sight.
    if !as_root_among_users("umount::all_are_unmounted_at_once") {
        return;
    }
    let sandbox = Sandbox::for_mounting();
    // In a mount namespace where nobody else's clients are.
    let script = "grep -o ' [^ ]* [^ ]* - fuse.chaosfs' /proc/self/mountinfo > others || true
while read -r path _; do umount -l \"$(printf '%b' \"$path\")\"; done < others
for name in a b; do $CHAOSFS mount shared $name --background --client-id $name --log-file log-$name; done
echo text > a/file; $CHAOSFS umount --all; $CHAOSFS umount --all; cat shared/file";
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
    let said = run(command.env("CHAOSFS", CHAOSFS).current_dir(sandbox.path("")));
    let expected =
        "DIR/a: unmounted, 2 landed\nDIR/b: unmounted, 0 landed\nno chaosfs client is mounted\ntext\n";
    assert_eq!((said.code, sandbox.neutral(&said.out), said.err), (Some(0), expected.into(), String::new()));
}

#[test]
fn a_full_store_is_one_line_a_path() {
    if !as_root("umount::a_full_store_is_one_line_a_path") {
        return;
    }
    let sandbox = Sandbox::for_mounting();
    // In a mount namespace of its own, so that nothing is left behind.
    let script =
        "mount -t tmpfs -o size=1m tiny shared; head -c 2m /dev/zero > shared/ballast 2> /dev/null || true
$CHAOSFS mount shared a --background --log-file log --write-delay 1h
dd if=/dev/zero of=a/f bs=4k count=256 status=none; dd if=/dev/zero of=a/g bs=4k count=2 status=none
$CHAOSFS umount a || echo failed; tail -n 1 log";
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
    let said = run(command.env("CHAOSFS", CHAOSFS).current_dir(sandbox.path("")));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    assert!(lines[0].starts_with("chaosfs: a: unmounted, ") && lines[0].ends_with(" could not land:"));
    // Which of the two is given up first is up to two threads.
    let named = BTreeSet::from([lines[1], lines[2]]);
    let full = "No space left on device";
    let expected = [
        format!("  /f: write (256 changes, 1 MiB): {full}"),
        format!("  /g: write (2 changes, 8 KiB): {full}"),
    ];
    assert_eq!(named, expected.iter().map(String::as_str).collect());
    assert!(lines[0].contains(" but 258 changes could not land:"), "{said:?}");
    assert!(said.out.starts_with("failed\n"), "{said:?}");
    assert!(said.out.ends_with(" lost=258\n"), "as in the log: {said:?}");
}

#[test]
fn what_others_have_made_impossible_is_named_and_is_a_failure() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--clock", "manual"]).code, Some(0));
    fs::create_dir(sandbox.path("a/d")).unwrap();
    sandbox.advance("2s");
    fs::write(sandbox.path("a/d/file"), "text").unwrap();
    fs::write(sandbox.path("a/kept"), "text").unwrap();
    fs::remove_dir(sandbox.path("shared/d")).unwrap();
    let said = say(&sandbox, &["umount", "a"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(
        lines[0].starts_with("chaosfs: a: unmounted, ") && lines[0].contains(" 1 conflict, but "),
        "{said:?}"
    );
    assert_eq!(lines[1..], ["  /d/file: create: unseen"]);
}

#[test]
fn a_folder_above_a_mountpoint_may_get_another_name() {
    for ending in ["umount", "SIGTERM", "killed"] {
        let sandbox = Sandbox::for_mounting();
        fs::create_dir_all(sandbox.path("above/m")).unwrap();
        let mount = ["mount", "shared", "above/m", "--background", "--client-id", "x", "--log-file", "log"];
        assert_eq!(say(&sandbox, &mount).code, Some(0));
        fs::write(sandbox.path("above/m/file"), "text").unwrap();
        fs::rename(sandbox.path("above"), sandbox.path("renamed")).unwrap();
        let told = say(&sandbox, &["status", "--json", "renamed/m"]).out;
        let told: chaosfs::Status = serde_json::from_str(&told).unwrap();
        let daemon = Pid::from_raw(told.pid.try_into().unwrap());
        let out = match ending {
            "umount" => "renamed/m: unmounted, 2 landed\n",
            "SIGTERM" => {
                kill(daemon, Signal::SIGTERM).unwrap();
                eventually("the end", || sandbox.mounts(), Vec::is_empty);
                "renamed/m: not mounted\n"
            }
            _ => {
                say(&sandbox, &["flush", "renamed/m"]);
                kill(daemon, Signal::SIGKILL).unwrap();
                let dead = || fs::metadata(sandbox.path("renamed/m")).is_err();
                eventually("a dead mount", dead, |dead| *dead);
                "renamed/m: cleaned up a dead mount\n"
            }
        };
        let said = say(&sandbox, &["umount", "renamed/m"]);
        assert_eq!(said.out + said.err.trim_start_matches("chaosfs: "), out);
        assert!(sandbox.mounts().is_empty());
        assert_eq!(fs::read_to_string(sandbox.path("shared/file")).unwrap(), "text");
    }
}

#[test]
fn so_it_may_above_the_mountpoints_of_a_guard_and_of_a_run() {
    let sandbox = Sandbox::for_mounting();
    fs::create_dir_all(sandbox.path("above/m")).unwrap();
    let mut options = MountOptions::new(sandbox.path("shared"), sandbox.path("above/m"));
    options.log = Some(EventLog::silent());
    let guard = mount(options).unwrap();
    fs::rename(sandbox.path("above"), sandbox.path("renamed")).unwrap();
    drop(guard);
    assert!(sandbox.mounts().is_empty());

    let script =
        "echo text > {A}/file; above=$(dirname {A}); mv $above $above-renamed; cat $above-renamed/A/file";
    let said = scripted(&sandbox, &["--backing", "shared"], script);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "text\n", ""));
    assert!(sandbox.left_by_runs().is_empty() && sandbox.mounts().is_empty());
}

#[test]
fn an_ordinary_user_unmounts_what_nobody_uses_and_not_what_somebody_uses() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = "above=$(dirname {A}); cd {A}; if $CHAOSFS umount {A}; then exit 9; fi; cd /
echo text > {A}/file; mv $above $above-renamed; $CHAOSFS umount $above-renamed/A; cat $CHAOSFS_BACKING/file";
    let mut command = sandbox.as_ordinary_user(&["run", "--clients", "1", "--", "sh", "-ec", script]);
    let said = run(command.env("CHAOSFS", sandbox.binary()));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.ends_with("/mounts-renamed/A: unmounted, 2 landed\ntext\n"), "{said:?}");
    assert!(said.err.ends_with(": busy: a program has a file or its working directory there\n"), "{said:?}");
}
