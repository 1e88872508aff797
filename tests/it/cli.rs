//! The command line: what it says, what it refuses and how, its exit codes, and the life of a mount.

use std::{env, fs, fs::File, path::Path, process::Command};

use nix::{sys::signal::Signal, unistd::geteuid};

use crate::sandbox::{CHAOSFS, Sandbox, chaosfs, run};

/// Compares with a stored file; `CHAOSFS_BLESS=1` stores what is seen now.
#[track_caller]
pub fn assert_snapshot(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots").join(name);
    if env::var_os("CHAOSFS_BLESS").is_some() {
        fs::write(&path, seen).expect("a snapshot can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(seen, expected, "{name} changed; if that is right, run the test with CHAOSFS_BLESS=1");
}

#[test]
fn help_reads_as_it_was_reviewed() {
    for (name, args) in [
        ("help.txt", &["--help"] as &[_]),
        ("mount-help.txt", &["mount", "--help"]),
        ("umount-help.txt", &["umount", "--help"]),
        ("status-help.txt", &["status", "--help"]),
        ("list-help.txt", &["list", "--help"]),
        ("set-help.txt", &["set", "--help"]),
        ("hold-help.txt", &["hold", "--help"]),
        ("lose-help.txt", &["lose", "--help"]),
        ("advance-help.txt", &["advance", "--help"]),
        ("run-help.txt", &["run", "--help"]),
        ("exec-help.txt", &["exec", "--help"]),
    ] {
        let said = run(&mut chaosfs(args));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        assert_snapshot(name, &said.out);
        let other_way = run(&mut chaosfs(&[&["help"], &args[..args.len() - 1]].concat()));
        assert_eq!((other_way.code, other_way.out), (Some(0), said.out));
    }
}

#[test]
fn usage_mistakes_exit_with_2() {
    for args in [
        &[] as &[&str],
        &["nonsense"],
        &["mount"],
        &["mount", "a"],
        &["umount"],
        &["mount", "a", "b", "--x"],
        &["help", "nonsense"],
    ] {
        let said = run(&mut chaosfs(args));
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}");
    }
    // Not to be taken for the exit status of a command.
    for args in [&["run"] as &[&str], &["run", "--nonsense", "true"], &["exec", "a"], &["exec", "--", "true"]]
    {
        let said = run(&mut chaosfs(args));
        assert_eq!((said.code, said.out.as_str()), (Some(125), ""), "{args:?}");
    }
    let version = run(&mut chaosfs(&["--version"]));
    assert_eq!((version.code, version.out), (Some(0), format!("chaosfs {}\n", env!("CARGO_PKG_VERSION"))));
}

const WRONG_SPAN: &str =
    "is not a span of time; write milliseconds (`800`) or a unit (`1.5s`, `200ms`, `2m`)";

#[test]
fn a_wrong_variable_is_refused_by_its_name_in_one_line() {
    for (name, value, reason) in [
        ("CHAOSFS_META_TTL_MS", "soon", format!("`soon` {WRONG_SPAN}")),
        ("CHAOSFS_META_TTL_MS", "", format!("`` {WRONG_SPAN}")),
        ("CHAOSFS_WRITE_DELAY_MS", "-5", format!("`-5` {WRONG_SPAN}")),
        ("CHAOSFS_RENAME_DELAY_MS", "9..1", "`9..1` runs backwards; write the shorter span first".into()),
        (
            "CHAOSFS_DROP_PROB",
            "1.5",
            "`1.5` is not a probability; write a number from 0 to 1, or a percentage (`10%`)".into(),
        ),
        ("CHAOSFS_SEED", "x", format!("`x` is not a seed; write a whole number from 0 to {}", u64::MAX)),
        (
            "CHAOSFS_CLIENT_ID",
            "a,b",
            "`a,b` is not a client id; write 1 to 64 of the characters A-Z a-z 0-9 . _ -".into(),
        ),
        ("CHAOSFS_READ_YOUR_WRITES", "maybe", "`maybe` is neither `true` nor `false`".into()),
        (
            "CHAOSFS_MAX_IN_FLIGHT",
            "0",
            "`0` is not a size; write bytes above 0 or a unit (`64MiB`, `1GiB`; `10MB` is 10,000,000 bytes)"
                .into(),
        ),
        ("CHAOSFS_MAX_MUTATIONS", "0", "`0` is not a whole number above 0".into()),
        ("LOG_DIR", "", "it is empty or not text; set it to a value or unset it".into()),
    ] {
        let said = run(chaosfs(&["mount", "shared", "a"]).env(name, value));
        assert_eq!((said.code, said.err), (Some(2), format!("error: {name}: {reason}\n")));
    }
    let said = run(chaosfs(&["umount"]).env("MOUNT_BASE", ""));
    assert_eq!((said.code, said.err.starts_with("error: MOUNT_BASE: ")), (Some(2), true));
}

#[test]
fn a_wrong_variable_is_refused_even_where_a_flag_goes_before_it() {
    let said = run(chaosfs(&["mount", "shared", "a", "--meta-ttl", "0"]).env("CHAOSFS_META_TTL_MS", "soon"));
    assert_eq!(said.err, format!("error: CHAOSFS_META_TTL_MS: `soon` {WRONG_SPAN}\n"));
}

#[test]
fn a_variable_that_there_is_not_is_refused_with_the_one_that_was_meant() {
    let meant = "CHAOSFS_WRITE_DELAY: there is no such variable; did you mean CHAOSFS_WRITE_DELAY_MS?";
    let said = run(chaosfs(&["mount", "shared", "a"]).env("CHAOSFS_WRITE_DELAY", "5"));
    assert_eq!((said.code, said.err), (Some(2), format!("error: {meant}\n")));
    let said = run(chaosfs(&["mount", "shared", "a"]).env("CHAOSFS_HOME", "/"));
    let reason =
        "error: CHAOSFS_HOME: there is no such variable; unset it, or write one of CHAOSFS_PROFILE, ";
    assert!(said.code == Some(2) && said.err.starts_with(reason), "{}", said.err);
    // A command that reads none of them does not mind, and what `run` sets is known.
    assert_eq!(run(chaosfs(&["umount", "-m", "none"]).env("CHAOSFS_HOME", "/")).code, Some(1));
    let mut command = chaosfs(&["mount", "none", "none"]);
    for name in ["CHAOSFS", "CHAOSFS_BACKING", "CHAOSFS_MOUNTS", "CHAOSFS_MOUNT_A", "CHAOSFS_CLIENT"] {
        command.env(name, "x");
    }
    assert_eq!(run(&mut command).code, Some(1));
}

#[test]
fn a_log_that_cannot_be_written_is_blamed_on_what_named_it() {
    let sandbox = Sandbox::for_mounting();
    fs::write(sandbox.path("file"), "").unwrap();
    let mount = |args: &[&str], variable: &str| {
        let mut command = sandbox.chaosfs(&[&["mount", "shared", "a"], args].concat());
        run(command.envs((!variable.is_empty()).then_some(("LOG_DIR", variable))))
    };
    for (args, variable, reason) in [
        (&[] as &[&str], "file", "LOG_DIR: cannot append to file/client.log: "),
        (&["--log-dir", "file"], "file/x", "--log-dir: cannot append to file/client.log: "),
        (&["--log-file", "shared"], "file", "--log-file: cannot append to shared: "),
    ] {
        let said = mount(args, variable);
        assert!(said.err.starts_with(&format!("chaosfs: {reason}")) && said.code == Some(1), "{}", said.err);
    }
    let said = run(sandbox.run_command(&["--", "true"]).env("LOG_DIR", "file/x"));
    assert!(said.err.starts_with("chaosfs: LOG_DIR: cannot make the directory file/x: "), "{}", said.err);
}

#[test]
fn a_wrong_flag_is_refused_by_its_name() {
    for (flag, value) in [
        ("--meta-ttl", "-5"),
        ("--meta-ttl", ""),
        ("--write-delay", "1..2..3"),
        ("--rename-delay", "--debug"),
        ("--drop-prob", "NaN"),
        ("--seed", "-1"),
        ("--client-id", "../x"),
        ("--read-your-writes", "2"),
        ("--max-in-flight", "1TB"),
        ("--max-mutations", "-1"),
        ("--write-delay", "1..2s"),
        ("--write-delay", "500-1200"),
    ] {
        let said = run(&mut chaosfs(&["mount", "shared", "a", flag, value]));
        let first = said.err.lines().next().unwrap_or_default();
        assert!(first.contains(&format!("'{flag} <")) && first.contains(value), "{first}");
        assert_eq!(said.code, Some(2), "{first}");
    }
}

#[test]
fn two_places_for_the_log_are_refused_but_a_flag_goes_before_the_variable() {
    let both = ["mount", "shared", "a", "--log-file", "x", "--log-dir", "y"];
    let said = run(&mut chaosfs(&both));
    let reason = "error: --log-file and --log-dir cannot be used together; give one of them\n";
    assert_eq!((said.code, said.err.as_str()), (Some(2), reason));

    let sandbox = Sandbox::for_mounting();
    let mut command =
        sandbox.chaosfs(&["mount", "shared", "a", "--background", "--log-file", "deep/er/own.log"]);
    let said = run(command.env("LOG_DIR", "elsewhere"));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(sandbox.path("deep/er/own.log").exists() && !sandbox.path("elsewhere").exists());
}

#[test]
fn completions_and_the_manual_page_know_every_flag() {
    let scripts = ["bash", "zsh", "fish", "elvish", "powershell"]
        .map(|shell| run(&mut chaosfs(&["completions", shell])));
    let page = run(&mut chaosfs(&["man"]));
    for flag in ["meta-ttl", "write-delay", "max-in-flight", "log-dir", "allow-other", "mount-base"] {
        assert!(scripts.iter().all(|script| script.code == Some(0) && script.out.contains(flag)), "{flag}");
        assert!(page.out.contains(&flag.replace('-', "\\-")), "{flag}");
    }
    assert!(page.out.contains(".SH \"CHAOSFS MOUNT\"") && page.out.contains("CHAOSFS_WRITE_DELAY_MS"));
    assert_eq!(run(&mut chaosfs(&["completions", "tcsh"])).code, Some(2));
}

#[test]
fn every_refusal_is_one_line_that_says_what_would_be_right() {
    let sandbox = Sandbox::for_mounting();
    fs::write(sandbox.path("file"), "").unwrap();
    fs::create_dir_all(sandbox.path("shared/sub")).unwrap();
    fs::create_dir_all(sandbox.path("full/x")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("shared/sub"), sandbox.path("link")).unwrap();
    for (backing, mountpoint, reason) in [
        ("none", "a", "backing directory none does not exist; create it first with `mkdir -p none`"),
        ("file", "a", "backing directory file is not a directory; name a directory"),
        ("shared", "none", "mountpoint none does not exist; create it first with `mkdir -p none`"),
        ("shared", "file", "mountpoint file is not a directory; name a directory"),
        ("shared", "full", "mountpoint full is not empty; choose an empty directory"),
        (
            "shared",
            "/proc",
            "mountpoint /proc is already a mount (proc of type proc); choose an empty directory",
        ),
        ("shared", "shared", "mountpoint shared is the backing directory shared itself; choose another"),
        (
            "shared",
            "shared/sub",
            "mountpoint shared/sub lies inside the backing directory shared; choose one outside",
        ),
        ("shared", "link", "mountpoint link lies inside the backing directory shared; choose one outside"),
        (
            "shared",
            ".",
            "backing directory shared lies inside the mountpoint .; choose an empty mountpoint elsewhere",
        ),
    ] {
        for background in [&[] as &[&str], &["--background", "--log-file", "log"]] {
            let said = run(&mut sandbox.chaosfs(&[&["mount", backing, mountpoint], background].concat()));
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{backing} {mountpoint}");
            assert_eq!(said.err, format!("chaosfs: {reason}\n"));
        }
    }
}

#[test]
fn bind_mounts_do_not_hide_that_one_lies_inside_the_other() {
    let sandbox = Sandbox::for_mounting();
    fs::create_dir_all(sandbox.path("shared/sub/deep")).unwrap();
    for (bound, backing, mountpoint) in [
        ("shared", "shared", "a/sub/deep"),
        ("shared/sub", "shared", "a/deep"),
        ("shared/sub", "a", "shared/sub/deep"),
        (".", "shared", "a/shared/sub/deep"),
    ] {
        // In a mount namespace of its own, so that nothing is left behind.
        let mut command = Command::new("unshare");
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.args(["--mount"]).args((!geteuid().is_root()).then_some("--map-root-user"));
        let script = format!("mount --bind {bound} a && exec {CHAOSFS} mount {backing} {mountpoint}");
        let said = run(command.args(["sh", "-c", &script]).current_dir(sandbox.path("")));
        let reason = format!(
            "mountpoint {mountpoint} lies inside the backing directory {backing}; choose one outside"
        );
        assert_eq!((said.code, said.err), (Some(1), format!("chaosfs: {reason}\n")), "{bound}");
    }
}

#[test]
fn a_mountpoint_in_use_is_refused_by_the_client_that_uses_it() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    let said = sandbox.mount("a", &[]);
    let advice = "unmount it first with `chaosfs umount a`";
    let reason = format!("mountpoint a is already mounted by chaosfs client `a`; {advice}");
    assert_eq!((said.code, said.err), (Some(1), format!("chaosfs: {reason}\n")));
}

#[test]
fn background_returns_when_the_mount_serves_and_umount_when_all_has_landed() {
    let sandbox = Sandbox::for_mounting();
    let said = sandbox.mount("a", &["--seed", "7", "--write-delay", "500..1200"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""));
    assert!(sandbox.mounted("a") && fs::metadata(sandbox.path("a")).unwrap().is_dir());

    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(said.out.starts_with("a: unmounted, ") && said.out.ends_with(" landed\n"), "{}", said.out);
    assert!(!sandbox.mounted("a"));

    let log = sandbox.neutral(&sandbox.log("a"));
    let knobs = "profile=eventual meta_ttl=1500ms write_delay=500ms..1200ms rename_delay=1200ms drop_prob=0 read_your_writes=true \
                 max_in_flight=268435456";
    let start = format!("event=start version=0.1.0 backing=DIR/shared mountpoint=DIR/a seed=7 {knobs}");
    assert!(log.lines().next().unwrap().contains(&start), "{log}");
    assert!(log.lines().last().unwrap().contains(" event=stop landed="), "{log}");
    assert!(
        log.lines().all(|line| line.starts_with("time=2") && line.contains(" level=info client=a t=")),
        "{log}"
    );
}

#[test]
fn background_without_a_log_warns() {
    let sandbox = Sandbox::for_mounting();
    let said = run(&mut sandbox.chaosfs(&["mount", "shared", "a", "--background"]));
    let warning = "chaosfs: warning: events are not logged; give --log-file or --log-dir with --background\n";
    assert_eq!((said.code, said.err.as_str()), (Some(0), warning));
    // It is no news where nothing is mounted.
    let said = run(&mut sandbox.chaosfs(&["mount", "shared", "a", "--background"]));
    assert_eq!((said.code, said.err.lines().count()), (Some(1), 1), "{}", said.err);
}

#[test]
fn a_flag_goes_before_its_variable_and_a_variable_before_the_default() {
    let sandbox = Sandbox::for_mounting();
    let mut command = sandbox.chaosfs(&["mount", "shared", "a", "--background", "--meta-ttl", "1s"]);
    command.env("CHAOSFS_META_TTL_MS", "5").env("CHAOSFS_WRITE_DELAY_MS", "6").env("LOG_DIR", "logs");
    assert_eq!(run(&mut command).code, Some(0));
    let log = sandbox.log("client");
    assert!(log.contains(" meta_ttl=1000ms write_delay=6ms rename_delay=1200ms "), "{log}");
}

#[test]
fn a_seed_is_drawn_and_logged_when_none_is_given() {
    let sandbox = Sandbox::for_mounting();
    let seeds = ["a", "b"].map(|name| {
        assert_eq!(sandbox.mount(name, &[]).code, Some(0));
        let log = sandbox.log(name);
        let seed = log.split(" seed=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
        seed.parse::<u64>().unwrap()
    });
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn signals_end_a_client_in_the_foreground_with_0() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let sandbox = Sandbox::for_mounting();
        let client = sandbox.serve("a", &[]);
        client.signal(signal);
        let said = client.wait();
        assert_eq!((said.code, sandbox.mounted("a")), (Some(0), false), "{signal}: {}", said.err);
        assert!(said.err.contains("event=start") && said.err.contains("event=stop"), "{}", said.err);
    }
}

#[test]
fn an_unmount_from_outside_ends_the_client_with_0() {
    let sandbox = Sandbox::for_mounting();
    let client = sandbox.serve("a", &[]);
    let (tool, flags) =
        if geteuid().is_root() { ("umount", &[] as &[&str]) } else { ("fusermount3", &["-u"] as &[_]) };
    assert!(Command::new(tool).args(flags).arg(sandbox.path("a")).status().unwrap().success());
    let said = client.wait();
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_busy_mount_is_kept_by_umount_and_left_by_a_signal() {
    let sandbox = Sandbox::for_mounting();
    let client = sandbox.serve("a", &[]);
    let user = File::open(sandbox.path("a")).unwrap();
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    let busy = "chaosfs: a: busy: a program has a file or its working directory there\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), "", busy));
    assert!(sandbox.mounted("a"));
    client.signal(Signal::SIGTERM);
    assert_eq!((client.wait().code, sandbox.mounted("a")), (Some(0), false));
    drop(user);
}

#[test]
fn a_dead_mount_is_cleaned_up_by_umount_and_by_the_next_mount() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    sandbox.kill_daemon("a");
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a: cleaned up a dead mount\n"));

    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    sandbox.kill_daemon("a");
    assert_eq!(sandbox.mount("a", &[]).code, Some(0));
    assert!(fs::read_dir(sandbox.path("a")).is_ok());
    assert!(sandbox.log("a").contains("cleaned up a mount whose daemon had died"));
}

#[test]
fn umount_says_what_it_did_not_unmount() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("b", &[]).code, Some(0));
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a", "-m", "/proc", "-m", "none", "-m", "b"]));
    let lines = ["a: not mounted", "/proc: not a chaosfs mount (proc)", "none: not mounted"];
    assert_eq!(said.err, lines.map(|line| format!("chaosfs: {line}\n")).concat());
    assert_eq!(said.out, "b: unmounted, 0 landed\n");
    assert_eq!(said.code, Some(1));
}

#[test]
fn mount_base_takes_every_client_directly_below() {
    let sandbox = Sandbox::for_mounting();
    for name in ["a", "b"] {
        assert_eq!(sandbox.mount(name, &[]).code, Some(0));
    }
    let parent = sandbox.path("").parent().unwrap().to_path_buf();
    let said = run(sandbox.chaosfs(&["umount", "-m", "a"]).env("MOUNT_BASE", &parent));
    assert_eq!((said.code, said.out.lines().count(), sandbox.mounted("b")), (Some(0), 1, true));

    let said = run(sandbox.chaosfs(&["umount"]).env("MOUNT_BASE", sandbox.path("")));
    assert_eq!((said.code, said.out.lines().count(), sandbox.mounted("b")), (Some(0), 1, false), "{said:?}");

    let said = run(&mut sandbox.chaosfs(&["umount", "--mount-base", "."]));
    assert_eq!((said.code, said.out.as_str()), (Some(0), ".: no chaosfs mount directly below\n"));
    let said = run(&mut sandbox.chaosfs(&["umount", "--mount-base", "none"]));
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(1), "chaosfs: --mount-base: none: No such file or directory\n")
    );
}
