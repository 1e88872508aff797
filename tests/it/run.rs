//! `chaosfs run`: what the command finds, how the run ends, what is refused, and that nothing stays behind whoever is
//! killed.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    pty::openpty,
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, geteuid},
};

use crate::sandbox::{CHAOSFS, Foreground, Said, Sandbox, as_root, eventually, run};

const SLOW: [&str; 6] = ["--meta-ttl", "1h", "--write-delay", "1h", "--rename-delay", "1h"];

/// Runs a shell script on clients.
#[track_caller]
fn script(sandbox: &Sandbox, args: &[&str], text: &str) -> Said {
    run(&mut sandbox.run_command(&[args, &["--", "sh", "-c", text]].concat()))
}

#[track_caller]
fn assert_nothing_left(sandbox: &Sandbox) {
    assert_eq!(sandbox.mounts(), [] as [PathBuf; 0]);
    assert_eq!(sandbox.left_by_runs(), [] as [PathBuf; 0]);
}

#[test]
fn a_command_finds_its_clients_and_they_disagree() {
    let sandbox = Sandbox::for_mounting();
    let text = "echo $CHAOSFS_BACKING $CHAOSFS_MOUNTS; \
                test $CHAOSFS_MOUNTS = $CHAOSFS_MOUNT_A:$CHAOSFS_MOUNT_B && test $1 = $CHAOSFS_MOUNT_B/x{ || exit 9; \
                ls {B}; echo hello > {A}/file; cat {A}/file; ls {B}; ls $CHAOSFS_BACKING; umask; ulimit -Sn";
    let limits = run(Command::new("sh").args(["-c", "umask; ulimit -Sn"])).out;
    let args = [&SLOW as &[&str], &["--", "sh", "-c", text, "sh", "{B}/x{"]].concat();
    let said = run(&mut sandbox.run_command(&args));
    let (first, rest) = said.out.split_once('\n').unwrap();
    let backing = first.split(' ').next().unwrap();
    let folder = Path::new(backing).parent().unwrap();
    let mounts = ["A", "B"].map(|name| folder.join("mounts").join(name).display().to_string()).join(":");
    assert_eq!(first, format!("{} {mounts}", folder.join("backing").display()));
    assert_eq!((rest, said.err.as_str(), said.code), (format!("hello\n{limits}").as_str(), "", Some(0)));
    assert_nothing_left(&sandbox);
}

#[test]
fn everything_has_landed_in_a_backing_directory_of_ones_own() {
    let sandbox = Sandbox::for_mounting();
    let args = [&SLOW as &[&str], &["--client", "left", "--client", "right", "--backing", "shared"]].concat();
    let text = "echo left > $CHAOSFS_MOUNT_LEFT/l; echo right > $CHAOSFS_MOUNT_RIGHT/r; ls $CHAOSFS_BACKING";
    let said = script(&sandbox, &args, text);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""));
    let landed = ["l", "r"].map(|name| fs::read_to_string(sandbox.path("shared").join(name)).unwrap());
    assert_eq!(landed, ["left\n", "right\n"]);
    assert_eq!(fs::read_dir(sandbox.path("shared")).unwrap().count(), 2);
    assert_nothing_left(&sandbox);
}

#[test]
fn the_exit_status_is_the_commands_own() {
    let sandbox = Sandbox::for_mounting();
    for (text, code, line) in [
        ("exit 0", 0, None),
        ("exit 3", 3, Some("chaosfs: `sh` failed with exit status 3")),
        ("kill -9 $$", 137, Some("chaosfs: `sh` was ended by SIGKILL")),
        ("kill -TERM $$", 143, Some("chaosfs: `sh` was ended by SIGTERM")),
    ] {
        let said = script(&sandbox, &[], text);
        assert_eq!((said.code, said.err.lines().next()), (Some(code), line), "{text}");
        assert_eq!(sandbox.mounts(), [] as [PathBuf; 0], "{text}");
    }
    for (command, code, reason) in [
        ("no-such-command", 127, "no-such-command: command not found"),
        ("./shared", 126, "./shared: cannot be executed: Permission denied"),
    ] {
        for each in [&[] as &[&str], &["--each"]] {
            let command = sandbox.path("").join(command).display().to_string();
            let name = command.clone();
            let reason = reason.rsplit_once(": ").map(|(_, why)| why).unwrap();
            let said = run(&mut sandbox.run_command(&[each, &["--", &command]].concat()));
            let how = if code == 126 { "cannot be executed: " } else { "" };
            assert_eq!((said.code, said.err), (Some(code), format!("chaosfs: {name}: {how}{reason}\n")));
        }
    }
}

#[test]
fn a_failure_says_how_to_see_it_again_and_keeps_the_logs_alone() {
    let sandbox = Sandbox::for_mounting();
    let said =
        script(&sandbox, &["--seed", "7", "--client", "a", "--client", "b:meta_ttl=5,seed=8"], "exit 1");
    let lines: Vec<_> = said.err.lines().collect();
    let knobs = "write_delay=800ms rename_delay=1200ms";
    assert!(
        lines[2]
            .starts_with(&format!("chaosfs: client a had seed=7 profile=eventual meta_ttl=1500ms {knobs}")),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with(&format!("chaosfs: client b had seed=8 profile=eventual meta_ttl=5ms {knobs}")),
        "{lines:?}"
    );
    let logs = lines[5].strip_prefix("chaosfs: logs: ").unwrap();
    let (logs, size) = logs.split_once(" (").unwrap();
    assert!(size.ends_with("; `chaosfs run --clean` removes them)"), "{size}");
    let logs = Path::new(logs);
    assert_eq!((lines[1], lines.len()), ("chaosfs: conflicts: 0, faults: 0, lost: 0", 6));
    for (name, facts) in
        [("a", " seed=7 profile=eventual meta_ttl=1500ms "), ("b", " seed=8 profile=eventual meta_ttl=5ms ")]
    {
        let log = fs::read_to_string(logs.join(format!("{name}.log"))).unwrap();
        assert!(log.starts_with("time=2") && log.contains(facts) && log.contains(" event=stop "), "{log}");
    }
    assert_eq!(sandbox.left_by_runs(), [logs.parent().unwrap()]);
    assert_eq!(fs::read_dir(logs.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(script(&sandbox, &[], "exit 0").code, Some(0));
    assert!(logs.join("a.log").exists(), "the next run leaves what was kept");
}

#[test]
fn one_seed_and_one_set_of_knobs_are_said_once() {
    let sandbox = Sandbox::for_mounting();
    let said = script(&sandbox, &["--seed", "7", "--clients", "3", "--log-dir", "own"], "exit 1");
    let lines: Vec<_> = said.err.lines().collect();
    assert!(
        lines[2].starts_with("chaosfs: every client had seed=7 profile=eventual meta_ttl=1500ms "),
        "{lines:?}"
    );
    let logs = format!("chaosfs: logs: {} (", sandbox.path("own").display());
    assert!(lines[4].starts_with(&logs) && lines.len() == 5, "{lines:?}");
    assert_eq!(fs::read_dir(sandbox.path("own")).unwrap().count(), 3);
    assert_nothing_left(&sandbox);
}

#[test]
fn a_failure_counts_what_happened_and_gives_the_line_that_repeats_it() {
    let sandbox = Sandbox::for_mounting();
    let text = "mkdir {A}/lock; mkdir {B}/lock; ls '{A}' ; exit 3";
    let mut args =
        vec!["--client", "A", "--client", "B:rename-delay=1m", "--drop-prob", "0", "--meta-ttl", "1h"];
    args.extend(["--timeout", "1m"]);
    let mut command = sandbox.run_command(&[&args[..], &["--", "sh", "-c", text]].concat());
    let said = run(command.env("CHAOSFS_WRITE_DELAY_MS", "7..9"));
    let line = |said: &Said, start: &str| {
        let start = format!("chaosfs: {start}: ");
        said.err
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_else(|| panic!("{}", said.err))
            .to_string()
    };
    assert_eq!((said.code, line(&said, "conflicts").as_str()), (Some(3), "1 (B 1), faults: 0, lost: 0"));
    let again = line(&said, "repeat with");
    let knobs = "--meta-ttl 3600000ms --write-delay 7ms..9ms --client A --client 'B:rename-delay=1m' --timeout 60000ms";
    assert!(again.contains(" run --seed ") && again.contains(knobs), "{again}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &again]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let repeated = run(shell.env("TMPDIR", sandbox.path("tmp")));
    let described = |said: &Said| {
        said.err.lines().filter(|line| line.contains(" had ")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!((repeated.code, described(&repeated)), (Some(3), described(&said)));
    assert_eq!(line(&repeated, "repeat with"), again);
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    for trap in ["", "trap 'echo one more; exit 0' TERM; ", "trap '' TERM; "] {
        let sandbox = Sandbox::for_mounting();
        let text = format!("{trap}echo hello > {{A}}/file; sleep 60 & wait; wait; while :; do :; done");
        let said =
            script(&sandbox, &["--timeout", "300ms", "--log-dir", "logs", "--backing", "shared"], &text);
        let first = said.err.lines().next().unwrap_or_default();
        assert_eq!(
            (said.code, first),
            (Some(124), "chaosfs: `sh` took longer than 300ms and was ended"),
            "{trap}"
        );
        assert_eq!(said.out.is_empty(), !trap.contains("more"));
        assert_landed(&sandbox);
        assert_nothing_left(&sandbox);
    }
    let sandbox = Sandbox::for_mounting();
    assert_eq!(script(&sandbox, &["--timeout", "1h"], "exit 5").code, Some(5));
    let said = script(&sandbox, &["--timeout", "30"], "exit 5");
    assert!(said.code == Some(125) && said.err.contains("`30` has no unit; write `30s` for seconds"));
}

#[test]
fn commands_on_each_client_have_a_terminal_where_the_run_has_one() {
    let sandbox = Sandbox::for_mounting();
    let size = nix::pty::Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let text = "test -t 1 && ! test -t 2 && stty size <&1; printf 'a\\nb'; echo plain >&2";
    let mut command = sandbox.run_command(&["--each", "--clients", "1", "--", "sh", "-c", text]);
    let mut running = command.stdout(terminal.slave).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // It holds the other end, without which reading comes to no end.
    drop(command);
    let mut seen = Vec::new();
    let mut from = fs::File::from(terminal.master);
    // What a terminal says at its end is EIO.
    let _ = std::io::Read::read_to_end(&mut from, &mut seen);
    assert!(running.wait().unwrap().success());
    assert_eq!(String::from_utf8(seen).unwrap(), "A: 40 97\r\nA: a\r\nA: b\r\n");
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut running.stderr.take().unwrap(), &mut errors).unwrap();
    assert_eq!(errors, "A: plain\n");
    assert_nothing_left(&sandbox);
}

#[test]
fn what_earlier_runs_have_left_is_cleaned_up_on_request() {
    let sandbox = Sandbox::for_mounting();
    let clean = || run(sandbox.run_command(&["--clean"]).env("LOG_DIR", "elsewhere"));
    assert_eq!(script(&sandbox, &[], "exit 1").code, Some(1));
    let logs = sandbox.left_by_runs();
    let kept = script(&sandbox, &["--keep"], "exit 0").err;
    let kept = kept.strip_prefix("chaosfs: kept: ").unwrap().trim_end();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    let living = sandbox.left_by_runs().len();
    let said = clean();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    // Other tests' dead mounts are found in the mount table, too.
    let here = sandbox.path("").display().to_string();
    let mut lines: Vec<_> = said.out.lines().filter(|line| line.contains(&here)).collect();
    lines.sort_unstable();
    assert_eq!((lines[0], lines.len()), (&*format!("kept, as asked by --keep: {kept}"), 2));
    assert!(lines[1].starts_with(&format!("removed {} (", logs[0].display())), "{lines:?}");
    assert_eq!((sandbox.left_by_runs().len(), sandbox.mounts().len()), (living - 1, 2));
    waiting.run.signal(Signal::SIGTERM);
    assert_eq!(waiting.run.wait().code, Some(7));
    let mountpoint = kill_all(&sandbox);
    fs::create_dir(sandbox.path("tmp/chaosfs-run-other")).unwrap();
    assert_eq!(clean().code, Some(0));
    // Another test's run may have been faster, and be at it still.
    eventually("no dead mount", || mountpoint.exists() || !sandbox.mounts().is_empty(), |left| !left);
    eventually("what is kept, and what is no run's", || sandbox.left_by_runs().len(), |left| *left == 2);
    assert!(Path::new(kept).join("backing").exists());
    for more in [&["--", "true"] as &[_], &["--seed", "1"]] {
        let said = run(&mut sandbox.run_command(&[&["--clean"], more].concat()));
        let reason = "error: --clean runs nothing; leave COMMAND and the other flags out\n";
        assert_eq!((said.code, said.err.as_str()), (Some(125), reason));
    }
}

#[test]
fn a_quiet_run_says_nothing_of_its_own() {
    let sandbox = Sandbox::for_mounting();
    let said = script(&sandbox, &["-q"], "echo mine >&2; sleep 60 & exit 4");
    assert_eq!((said.code, said.err.as_str()), (Some(4), "mine\n"));
    assert_nothing_left(&sandbox);
}

#[test]
fn what_is_kept_on_purpose_stays() {
    let sandbox = Sandbox::for_mounting();
    let said = script(&sandbox, &["--keep"], "echo hello > {A}/file");
    let kept = Path::new(said.err.strip_prefix("chaosfs: kept: ").unwrap().trim_end()).to_path_buf();
    assert_eq!((said.code, sandbox.left_by_runs()), (Some(0), vec![kept.clone()]));
    assert_eq!(fs::read_to_string(kept.join("backing/file")).unwrap(), "hello\n");
    assert!(kept.join("logs/B.log").exists() && !kept.join("mounts").exists());
    assert_eq!(script(&sandbox, &[], "exit 0").code, Some(0));
    assert!(kept.join("backing/file").exists());
}

#[test]
fn a_wrong_command_line_is_refused_by_what_is_wrong() {
    let sandbox = Sandbox::for_mounting();
    for (args, reason) in [
        (&["--clients", "0"] as &[&str], "'0' for '--clients <N>': 0 is not in 1..=1000"),
        (&["--clients", "2", "--client", "a"], "'--clients <N>' cannot be used with '--client"),
        (&["--client", "a", "--client", "a"], "error: --client a: given twice; name it once"),
        (
            &["--client", "a-b", "--client", "A.b"],
            "error: --client A.b: its variable CHAOSFS_MOUNT_A_B is also that of client a-b; choose another name",
        ),
        (&["--client", "a/b"], "`a/b` is not a client id; write"),
        (&["--client", ""], "`` is not a client id; write"),
        (&["--client", "a:speed=1"], "client a: `speed` is not a knob; there are profile, time_scale, "),
        (&["--client", "a:meta-ttl"], "client a: `meta-ttl` is not a knob and its value; write KNOB=VALUE"),
        (&["--client", "a:"], "client a: `` is not a knob and its value; write KNOB=VALUE"),
        (&["--client", "a:meta-ttl=soon"], "client a: meta-ttl: `soon` is not a span of time; write"),
        (&["--client", "a:seed=1,seed=2"], "client a: seed: given twice; give it once"),
        (&["--client", "a:meta-ttl=1,meta_ttl=2"], "client a: meta-ttl: given twice; give it once"),
        (
            &["--at", "/mnt"],
            "error: --at: COMMAND can see only one client there; give --each, or mount one client",
        ),
        (&["--drop-prob", "2"], "`2` is not a probability"),
    ] {
        let said = script(&sandbox, args, "exit 0");
        let first = said.err.lines().next().unwrap_or_default();
        assert!(said.code == Some(125) && first.contains(reason), "{args:?}: {first}");
    }
    let said = run(sandbox.run_command(&["--", "true"]).env("CHAOSFS_META_TTL_MS", "soon"));
    assert!(
        said.code == Some(125) && said.err.starts_with("error: CHAOSFS_META_TTL_MS: `soon`"),
        "{}",
        said.err
    );
    assert_nothing_left(&sandbox);
}

#[test]
fn directories_that_cannot_be_used_are_refused_in_one_line() {
    let sandbox = Sandbox::for_mounting();
    fs::create_dir(sandbox.path("with:colon")).unwrap();
    let (shared, colon) = (sandbox.path("shared"), sandbox.path("with:colon"));
    let colon_reason = format!(
        "temporary directory {} has a colon in its name, and CHAOSFS_MOUNTS is separated by colons; set TMPDIR to another",
        colon.display()
    );
    let inside_reason = format!(
        "temporary directory {0} lies inside the backing directory {0}; set TMPDIR to a directory outside it",
        shared.display()
    );
    for (args, temporary, reason) in [
        (
            &["--backing", "none"] as &[&str],
            "tmp",
            "backing directory none does not exist; create it first with `mkdir -p \
                                                    none`",
        ),
        (
            &["--each", "--at", "none"],
            "tmp",
            "--at none does not exist; create it first with `mkdir -p none`",
        ),
        (&["--each", "--at", "/"], "tmp", "--at /: a client cannot appear at /; name a directory below it"),
        (&[], "none", "temporary directory none does not exist; create it first with `mkdir -p none`"),
        (&[], "with:colon", colon_reason.as_str()),
        (&["--backing", "shared"], "shared", inside_reason.as_str()),
    ] {
        let mut command = sandbox.run_command(&[args, &["--", "true"]].concat());
        let said = run(command.env("TMPDIR", temporary));
        assert_eq!((said.code, said.err), (Some(125), format!("chaosfs: {reason}\n")));
    }
    assert_eq!(fs::read_dir(shared).unwrap().count(), 0);
    assert_nothing_left(&sandbox);
}

#[test]
fn each_client_runs_the_command_at_the_same_time_and_lines_stay_whole() {
    let sandbox = Sandbox::for_mounting();
    // Each waits for all others: one after the other it would not end.
    let text = "echo $CHAOSFS_CLIENT > $CHAOSFS_BACKING/../here-$CHAOSFS_CLIENT; \
                until [ $(ls $CHAOSFS_BACKING/.. | grep -c here-) = 3 ]; do sleep 0.01; done; \
                test $PWD = $CHAOSFS_BACKING/../mounts/$CHAOSFS_CLIENT || cd .; pwd; i=0; \
                while [ $i -lt 300 ]; do echo out-$i-$CHAOSFS_CLIENT-0123456789012345678901234567890123456789; \
                echo err-$i-$CHAOSFS_CLIENT >&2; i=$((i+1)); done; printf unfinished; \
                case $CHAOSFS_CLIENT in A) exit 0;; B) sleep 0.1; exit 5;; C) exit 6;; esac";
    let said = script(&sandbox, &["--each", "--clients", "3"], text);
    assert_eq!(said.code, Some(5), "the first that failed, by the order of the clients");
    let errors: Vec<_> = said.err.lines().filter(|line| line.starts_with("chaosfs: ")).collect();
    assert_eq!(
        errors[..2],
        ["chaosfs: B: `sh` failed with exit status 5", "chaosfs: C: `sh` failed with exit status 6"]
    );
    for name in ["A", "B", "C"] {
        let prefix = format!("{name}: ");
        let out: Vec<_> = said.out.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert!(out[0].ends_with(&format!("/mounts/{name}")), "{}", out[0]);
        for (index, line) in out[1..301].iter().enumerate() {
            assert_eq!(*line, format!("out-{index}-{name}-0123456789012345678901234567890123456789"));
        }
        assert_eq!(out[301..], ["unfinished"]);
        let errors = said.err.lines().filter_map(|line| line.strip_prefix(&prefix));
        let expected: Vec<_> = (0..300).map(|index| format!("err-{index}-{name}")).collect();
        assert_eq!(errors.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn each_client_may_stand_at_the_same_path() {
    let sandbox = Sandbox::for_mounting();
    let data = sandbox.path("data");
    fs::create_dir(&data).unwrap();
    let args = [&SLOW as &[&str], &["--each", "--at", "data", "--backing", "shared"]].concat();
    let text = "pwd; echo $CHAOSFS_CLIENT > $PWD/$CHAOSFS_CLIENT; ls";
    let said = script(&sandbox, &args, text);
    let mut lines: Vec<_> = said.out.lines().collect();
    lines.sort_unstable();
    let [a, b] = ["A", "B"].map(|name| format!("{name}: {}", data.display()));
    assert_eq!((lines, said.code), (vec![a.as_str(), "A: A", b.as_str(), "B: B"], Some(0)), "{}", said.err);
    assert_eq!(fs::read_dir(data).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(sandbox.path("shared/B")).unwrap(), "B\n");

    let said = script(&sandbox, &["--clients", "1", "--at", "data"], "echo x > data/x; ls {A}");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "x\n", ""));
    assert_nothing_left(&sandbox);
}

#[test]
fn time_stands_still_until_the_command_moves_it() {
    let sandbox = Sandbox::for_mounting();
    let text = "ls {B}; mkdir {A}/x; advance() { \"$0\" advance $1 --backing $CHAOSFS_BACKING > /dev/null; }; \
                advance 1199; ls $CHAOSFS_BACKING; advance 1; ls $CHAOSFS_BACKING; ls {B}; advance 300; ls {B}";
    let args = ["--clock", "manual", "--", "sh", "-c", text, CHAOSFS];
    let said = run(&mut sandbox.run_command(&args));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "x\nx\n", ""));
    assert_nothing_left(&sandbox);
}

#[test]
fn the_command_steers_its_clients_by_name() {
    let sandbox = Sandbox::for_mounting();
    let text = "set -e; mkdir {A}/x; \"$0\" hold A; \"$0\" advance 2s; test ! -e $CHAOSFS_BACKING/x; \
                \"$0\" release A B -q; test -e $CHAOSFS_BACKING/x; mkdir {B}/y; \"$0\" flush; \
                \"$0\" set A write-delay=0; \"$0\" set meta-ttl=0 -q; \"$0\" list -q; \"$0\" exec B ls $CHAOSFS_BACKING; \
                mkdir A; \"$0\" hold ./A || echo a path; \"$0\" hold elsewhere || true; \"$0\" status | wc -l";
    let args = ["--clock", "manual", "--client", "A", "--client", "B", "sh", "-c", text, CHAOSFS];
    let said = run(&mut sandbox.run_command(&args));
    let mounts =
        ["A", "B"].map(|name| said.out.lines().find(|line| line.ends_with(&format!("/mounts/{name}"))));
    let [a, b] = mounts.map(Option::unwrap);
    assert_eq!(
        said.out,
        format!(
            "{a}: held\n0 landed\n{a}: 0 landed\n{b}: 1 landed\n{a}: write_delay=0\n{a}\n{b}\nx\ny\na path\n3\n"
        )
    );
    let errors = "chaosfs: ./A: not mounted\nchaosfs: elsewhere: No such file or directory\n";
    assert_eq!((said.code, said.err.as_str()), (Some(0), errors));
    assert_nothing_left(&sandbox);
}

#[test]
fn the_command_unmounts_its_clients_by_name() {
    let sandbox = Sandbox::for_mounting();
    let text = "set -e; mkdir {A}/x {B}/y; \"$0\" umount A > /dev/null; ls $CHAOSFS_BACKING; \"$0\" list -q | wc -l; \
                \"$0\" umount --mount B -q; ls $CHAOSFS_BACKING; ls -A {A} {B} | wc -c";
    let args = ["--clock", "manual", "--", "sh", "-c", text, CHAOSFS];
    let said = run(&mut sandbox.run_command(&args));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(said.out.starts_with("x\n1\nx\ny\n"), "{}", said.out);
    assert_nothing_left(&sandbox);
}

#[test]
fn a_command_needs_no_dashes_in_front_and_keeps_its_own() {
    let sandbox = Sandbox::for_mounting();
    let said = run(&mut sandbox.run_command(&["--clients", "1", "echo", "-n", "--seed", "--", "7"]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "--seed -- 7", ""));
}

#[test]
fn sixty_four_clients_are_served_by_one_process() {
    let sandbox = Sandbox::for_mounting();
    let text = "echo $CHAOSFS_MOUNTS | tr : '\\n' | while read mount; do echo x > $mount/$(basename $mount); done; \
                cat /proc/$PPID/task/$PPID/children; echo; ls $CHAOSFS_MOUNT_BL";
    let args = [&SLOW as &[&str], &["--clients", "64", "--backing", "shared"]].concat();
    let said = script(&sandbox, &args, text);
    let (children, seen) = said.out.split_once('\n').unwrap();
    assert_eq!((said.code, children.split_whitespace().count(), seen), (Some(0), 1, "BL\n"), "{}", said.err);
    assert_eq!(fs::read_dir(sandbox.path("shared")).unwrap().count(), 64);
    assert_nothing_left(&sandbox);
}

#[test]
fn injected_failures_do_not_keep_a_command_from_its_directory() {
    let sandbox = Sandbox::for_mounting();
    let said = script(&sandbox, &["--each", "--drop-prob", "0.7", "--seed", "1"], "exit 0");
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn an_ordinary_user_needs_no_more_than_fuse() {
    let sandbox = Sandbox::for_ordinary_users();
    let script = "pwd; id -u; id -g; echo x > $CHAOSFS_CLIENT; ls -n | tail -n 1 | cut -d ' ' -f 3";
    let args =
        [&["run"], &SLOW as &[&str], &["--each", "--client", "a", "--at", "/mnt", "--", "sh", "-c", script]];
    let said = run(&mut sandbox.as_ordinary_user(&args.concat()));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let user = if geteuid().is_root() { "65534".to_string() } else { geteuid().to_string() };
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("a: /mnt", &*format!("a: {user}"), &*format!("a: {user}")));
    let said = run(&mut sandbox.as_ordinary_user(&["run", "--", "sh", "-c", "sleep 60 & exit 4"]));
    assert!(
        said.code == Some(4)
            && said.err.starts_with("chaosfs: ended what the command had left running: sleep (")
    );
    // Its mounts are out of sight where it had a mount namespace of its own, but a mountpoint cannot be removed.
    let kept = sandbox.left_by_runs();
    assert_eq!(kept.len(), 1, "the failed one keeps its folder: {kept:?}");
    let inside: Vec<_> = fs::read_dir(&kept[0]).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((inside, sandbox.mounts()), (vec!["logs".into()], vec![]));
}

/// A run whose command has written its pids and waits.
struct Waiting {
    run: Foreground,
    supervisor: Pid,
    server: Pid,
    /// The command, a child that it waits for, and a daemon.
    commands: Vec<Pid>,
}

fn read_pids(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().expect("a pid"))).collect()
}

fn children(pid: Pid) -> Vec<Pid> {
    read_pids(Path::new(&format!("/proc/{pid}/task/{pid}/children")))
}

fn is_gone(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(pid, None) == Err(Errno::ESRCH) || state.contains(") Z ")
}

#[track_caller]
fn assert_gone(pids: &[Pid]) {
    eventually("the end of all", || pids.iter().filter(|pid| !is_gone(**pid)).count(), |left| *left == 0);
}

impl Waiting {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Waiting {
        let text = "echo hello > $CHAOSFS_MOUNT_A/file; sleep 60 & a=$!; \
                    b=$(setsid sh -c 'sleep 60 > /dev/null & echo $!'); cd $CHAOSFS_MOUNT_A; \
                    trap 'echo one more; kill $a; exit 7' TERM INT HUP USR1; \
                    echo $$ $a $b > $OLDPWD/early; mv $OLDPWD/early $OLDPWD/pids; wait $a";
        let args = [&SLOW as &[&str], &["--backing", "shared"], args, &["--", "sh", "-c", text]].concat();
        let pids = sandbox.path("pids");
        let _ = fs::remove_file(&pids);
        let run = Foreground::start(&mut sandbox.run_command(&args));
        eventually("the command", || pids.exists(), |there| *there);
        let commands = read_pids(&pids);
        let server = children(run.pid())[0];
        let supervisor = children(server)[0];
        Waiting { run, supervisor, server, commands }
    }

    fn all(&self) -> Vec<Pid> {
        [&[self.run.pid(), self.supervisor, self.server], &*self.commands].concat()
    }
}

#[track_caller]
fn assert_landed(sandbox: &Sandbox) {
    let landed = || fs::read_to_string(sandbox.path("shared/file")).unwrap_or_default();
    eventually("the landing", landed, |text| text == "hello\n");
}

#[test]
fn signals_reach_the_command_once_and_everything_is_cleaned_up() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let sandbox = Sandbox::for_mounting();
        let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
        waiting.run.signal(signal);
        let all = waiting.all();
        let said = waiting.run.wait();
        assert_eq!((said.code, said.out.as_str()), (Some(7), "one more\n"), "{signal}: {}", said.err);
        assert!(said.err.contains("ended what the command had left running: sleep ("), "{}", said.err);
        assert_gone(&all);
        assert_landed(&sandbox);
        assert_nothing_left(&sandbox);
    }
}

/// Counts the signals that arrive, until some time after the first one, and leaves with 10 and their number. A shell would
/// take two that follow each other quickly for one.
const COUNT: &str = "
import os, signal, time
arrived, wakeup = os.pipe()
os.set_blocking(wakeup, False)
signal.set_wakeup_fd(wakeup)
for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, lambda *_: None)
open('counting', 'w').close()
count = len(os.read(arrived, 1))
time.sleep(0.3)
os.close(signal.set_wakeup_fd(-1))
os._exit(10 + count + len(os.read(arrived, 9)))
";

#[test]
fn a_signal_to_the_run_reaches_the_command_once() {
    let sandbox = Sandbox::for_mounting();
    let run =
        Foreground::start(&mut sandbox.run_command(&["--log-dir", "logs", "--", "python3", "-c", COUNT]));
    eventually("the trap", || sandbox.path("counting").exists(), |there| *there);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().code, Some(11));
}

#[test]
fn a_signal_to_the_process_group_reaches_the_command_once() {
    for _ in 0..5 {
        let sandbox = Sandbox::for_mounting();
        let mut command = sandbox.run_command(&["--log-dir", "logs", "--", "python3", "-c", COUNT]);
        let run = Foreground::start(command.process_group(0));
        eventually("the trap", || sandbox.path("counting").exists(), |there| *there);
        killpg(run.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(run.wait().code, Some(11));
    }
}

/// A run that is started by a shell which has done something first.
fn after(sandbox: &Sandbox, first: &str, args: &[&str]) -> Command {
    let inner = sandbox.run_command(args);
    let mut outer = Command::new("bash");
    outer.args(["-c", &format!("{first}; exec \"$@\""), "bash"]).arg(CHAOSFS).args(inner.get_args());
    outer
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.path(""));
    outer
}

#[test]
fn it_does_not_matter_that_the_caller_ignores_the_ends_of_children() {
    let sandbox = Sandbox::for_mounting();
    let args = ["--log-dir", "logs", "--", "sh", "-c", "exit 4"];
    let run = Foreground::start(&mut after(&sandbox, "trap '' CHLD", &args));
    let pid = run.pid();
    eventually("the end", || is_gone(pid), |gone| *gone);
    assert_eq!(run.wait().code, Some(4));
    assert_nothing_left(&sandbox);
}

#[test]
fn a_signal_that_the_caller_ignores_is_no_reason_to_give_up() {
    let sandbox = Sandbox::for_mounting();
    // Output that nobody reads keeps the run from its end, in which it is sent the signal.
    let text = "echo hello > file; head -c 100000 /dev/zero; : > $CHAOSFS_BACKING/../ended";
    let args =
        [&SLOW as &[&str], &["--backing", "shared", "--each", "--client", "a", "--", "sh", "-c", text]];
    let args = args.concat();
    let run = Foreground::start(&mut after(&sandbox, "trap '' HUP", &args));
    eventually("the end of the command", || sandbox.path("ended").exists(), |ended| *ended);
    let mut sent = 0;
    let send = || {
        run.signal(Signal::SIGHUP);
        sent += 1;
        sent
    };
    eventually("signals", send, |sent| *sent == 30);
    let said = run.wait();
    assert_eq!((said.code, said.out.len(), said.err.as_str()), (Some(0), "a: \n".len() + 100_000, ""));
    assert!(sandbox.path("shared/file").exists());
    assert_nothing_left(&sandbox);
}

#[test]
fn a_temporary_directory_may_have_any_name_but_one_with_a_colon() {
    let sandbox = Sandbox::for_mounting();
    for name in ["blank tab\tand\nend", "é", "{A}"] {
        let folder = sandbox.path(name);
        fs::create_dir(&folder).unwrap();
        let mut command =
            sandbox.run_command(&["--", "sh", "-c", "echo x > \"$1/x\"; ls \"$1\"", "sh", "{A}"]);
        let said = run(command.env("TMPDIR", &folder));
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "x\n", ""));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    let said = run(sandbox.run_command(&["--", "true"]).env("TMPDIR", ""));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "an empty variable is none");
    assert_nothing_left(&sandbox);
}

#[test]
fn ctrl_c_on_the_terminal_reaches_the_command_once() {
    let sandbox = Sandbox::for_mounting();
    let terminal = openpty(None, None).unwrap();
    let inner = sandbox.run_command(&["--log-dir", "logs", "--", "python3", "-c", COUNT]);
    let mut outer = Command::new("setsid");
    outer.args(["--ctty", "--wait"]).arg(CHAOSFS).args(inner.get_args());
    outer
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.path(""));
    let run = Foreground::start(outer.stdin(terminal.slave));
    eventually("the trap", || sandbox.path("counting").exists(), |there| *there);
    fs::File::from(terminal.master).write_all(b"\x03").unwrap();
    assert_eq!(run.wait().code, Some(11));
    assert_nothing_left(&sandbox);
}

#[test]
fn a_command_that_is_killed_is_no_reason_to_leave_anything() {
    let sandbox = Sandbox::for_mounting();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    kill(waiting.commands[0], Signal::SIGKILL).unwrap();
    let all = waiting.all();
    assert_eq!(waiting.run.wait().code, Some(137));
    assert_gone(&all);
    assert_landed(&sandbox);
    assert_nothing_left(&sandbox);
}

#[test]
fn a_run_whose_parent_is_killed_goes_on_to_its_end() {
    let sandbox = Sandbox::for_mounting();
    let text = "echo $$ > early; mv early began; until [ -e go ]; do sleep 0.01; done; echo hello > $CHAOSFS_MOUNT_A/file";
    let inner = sandbox.run_command(&["--backing", "shared", "--", "sh", "-c", text]);
    let mut outer = Command::new("sh");
    outer.args(["-c", "\"$@\"; exit 1", "sh"]).arg(CHAOSFS).args(inner.get_args());
    outer
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.path(""));
    let outer = Foreground::start(&mut outer);
    eventually("the command", || sandbox.path("began").exists(), |there| *there);
    let run = children(outer.pid())[0];
    drop(outer);
    fs::write(sandbox.path("go"), "").unwrap();
    assert_gone(&[run]);
    assert_landed(&sandbox);
    assert_nothing_left(&sandbox);
}

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    type Victims = fn(&Waiting) -> Vec<Pid>;
    let victims: [Victims; 4] = [
        |waiting| vec![waiting.run.pid()],
        |waiting| vec![waiting.supervisor],
        |waiting| vec![waiting.run.pid(), waiting.supervisor],
        // As `kill -9` of the process group does.
        |waiting| vec![waiting.run.pid(), waiting.supervisor, waiting.commands[0], waiting.commands[1]],
    ];
    for victims in victims {
        let sandbox = Sandbox::for_mounting();
        let waiting = Waiting::start(&sandbox, &[]);
        victims(&waiting).iter().for_each(|victim| kill(*victim, Signal::SIGKILL).unwrap());
        let all = waiting.all();
        let code = waiting.run.wait().code;
        assert!(code.is_none_or(|code| code == 125), "{code:?}");
        assert_gone(&all);
        assert_landed(&sandbox);
        eventually(
            "nothing left",
            || (sandbox.mounts(), sandbox.left_by_runs()),
            |(a, b)| a.is_empty() && b.is_empty(),
        );
    }
}

#[test]
fn a_run_of_which_only_the_first_process_lives_leaves_nothing() {
    let sandbox = Sandbox::for_mounting();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    for victim in [waiting.server, waiting.supervisor] {
        kill(victim, Signal::SIGSTOP).unwrap();
    }
    for victim in [waiting.server, waiting.supervisor] {
        kill(victim, Signal::SIGKILL).unwrap();
    }
    let all = waiting.all();
    assert_eq!(waiting.run.wait().code, Some(125));
    assert_gone(&all);
    assert_nothing_left(&sandbox);
}

#[test]
fn clients_that_die_under_the_command_end_it() {
    let sandbox = Sandbox::for_mounting();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    kill(waiting.server, Signal::SIGKILL).unwrap();
    let all = waiting.all();
    let said = waiting.run.wait();
    assert_eq!(said.code, Some(125), "not the command's own, which lost its clients: {}", said.err);
    assert!(
        said.err.contains("chaosfs: the process that served the clients died; what was in flight is lost\n")
    );
    assert_gone(&all);
    assert_nothing_left(&sandbox);
}

/// Kills every process of a run at once; its dead mounts and its directory stay.
fn kill_all(sandbox: &Sandbox) -> PathBuf {
    let waiting = Waiting::start(sandbox, &[]);
    let mountpoint = fs::read_link(format!("/proc/{}/cwd", waiting.commands[0])).unwrap();
    let all = waiting.all();
    for pid in &all {
        kill(*pid, Signal::SIGSTOP).unwrap();
    }
    for pid in all.iter().rev() {
        kill(*pid, Signal::SIGKILL).unwrap();
    }
    assert_eq!(waiting.run.wait().code, None);
    assert_gone(&all);
    mountpoint
}

#[test]
fn the_next_run_cleans_up_what_a_killed_one_has_left() {
    let sandbox = Sandbox::for_mounting();
    let mountpoint = kill_all(&sandbox);
    fs::create_dir(sandbox.path("tmp/chaosfs-run-other")).unwrap();
    assert_eq!(script(&sandbox, &[], "exit 0").code, Some(0));
    assert!(!mountpoint.exists() && sandbox.mounts().is_empty());
    assert_eq!(
        sandbox.left_by_runs(),
        [sandbox.path("tmp/chaosfs-run-other")],
        "what is no run's is left alone"
    );
}

#[test]
fn umount_cleans_up_what_a_killed_run_has_left() {
    let sandbox = Sandbox::for_mounting();
    let mountpoint = kill_all(&sandbox);
    run(sandbox.chaosfs(&["umount", "-m"]).arg(&mountpoint));
    // Another test's run may have been faster, and be at it still.
    let left = || (sandbox.mounts(), sandbox.left_by_runs());
    eventually("nothing left", left, |(mounts, folders)| mounts.is_empty() && folders.is_empty());
}

#[test]
fn a_living_run_is_not_cleaned_up() {
    let sandbox = Sandbox::for_mounting();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    assert_eq!(script(&sandbox, &[], "exit 0").code, Some(0));
    assert_eq!((sandbox.mounts().len(), sandbox.left_by_runs().len()), (2, 1));
    waiting.run.signal(Signal::SIGTERM);
    assert_eq!(waiting.run.wait().code, Some(7));
    assert_nothing_left(&sandbox);
}

#[test]
fn a_backing_directory_belongs_to_one_run_and_to_any_mount() {
    let sandbox = Sandbox::for_mounting();
    let waiting = Waiting::start(&sandbox, &["--log-dir", "logs"]);
    let said = script(&sandbox, &["--backing", "shared"], "exit 0");
    let reason = "is in use by another `chaosfs run`; wait for it to end or choose another";
    assert_eq!((said.code, said.err), (Some(125), format!("chaosfs: backing directory shared {reason}\n")));
    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    waiting.run.signal(Signal::SIGTERM);
    assert_eq!(waiting.run.wait().code, Some(7));
    assert_eq!(script(&sandbox, &["--backing", "shared"], "exit 0").code, Some(0));
    kill_all(&sandbox);
    assert_eq!(
        script(&sandbox, &["--backing", "shared"], "exit 0").code,
        Some(0),
        "the lock dies with its run"
    );
}

#[test]
fn what_cannot_land_is_named_and_is_a_failure() {
    if !as_root("run::what_cannot_land_is_named_and_is_a_failure") {
        return;
    }
    let sandbox = Sandbox::for_mounting();
    // In a mount namespace of its own, so that nothing is left behind.
    let text = "mount -t tmpfs -o size=1m tiny shared && exec \"$@\"";
    let inner = sandbox.run_command(&[
        "--backing",
        "shared",
        "--client",
        "a:write-delay=1",
        "--",
        "sh",
        "-c",
        "head -c 3000000 /dev/zero > {a}/big; echo written > written",
    ]);
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "sh", "-c", text, "sh"]).arg(CHAOSFS).args(inner.get_args());
    outer
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.path(""));
    let run = Foreground::start(&mut outer);
    eventually("the command", || sandbox.path("written").exists(), |there| *there);
    let pid = run.pid();
    // It tries again and again; a signal while it does gives up.
    eventually("the end", || kill(pid, Signal::SIGTERM).is_err() || is_gone(pid), |gone| *gone);
    let said = run.wait();
    assert!(said.code.is_some_and(|code| code == 125 || code > 128), "{said:?}");
    assert!(said.err.contains("chaosfs: could not land: a: /big: "), "{}", said.err);
    assert_eq!(sandbox.left_by_runs().len(), 1, "the logs are kept");
}
