//! Which calls fail under `--drop-prob`, and that the same ones fail again.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    thread,
};

use nix::unistd::geteuid;

use crate::sandbox::{CHAOSFS, Sandbox, run};

fn alone(knobs: &[&str]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    let said = sandbox.mount("a", knobs);
    assert_eq!(said.code, Some(0), "{}", said.err);
    sandbox
}

/// The faults of threads that each write their own file, without times.
fn faults_of_threads() -> Vec<String> {
    let sandbox = alone(&["--drop-prob", "0.2", "--seed", "11", "--write-delay", "50"]);
    let write = |path: &Path| {
        for _ in 0..20 {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let _ = file.and_then(|mut file| file.write_all(b"x"));
        }
    };
    thread::scope(|scope| {
        for number in 0..8 {
            let path = sandbox.path("a").join(format!("f{number}"));
            scope.spawn(move || write(&path));
        }
    });
    let _ = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    let log = sandbox.log("a");
    let faults = log.lines().filter(|line| line.contains(" event=fault ") && line.contains(" path=/f"));
    // A process that another test forks from this one closes its files, too: how many flushes there are depends on that.
    let faults = faults.filter(|line| !line.contains(" op=flush "));
    let mut faults: Vec<String> =
        faults.map(|line| line.split(" event=").nth(1).unwrap().to_string()).collect();
    faults.sort();
    faults
}

#[test]
fn faults_repeat_file_by_file_whatever_the_threads_do() {
    let first = faults_of_threads();
    assert!(first.len() > 20, "{first:?}");
    assert_eq!(faults_of_threads(), first);
}

/// Which of some calls fail, as a program in `run` sees it.
fn told_by(command: &mut Command) -> String {
    let said = run(command);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    said.out
}

#[test]
fn the_same_calls_fail_for_root_an_ordinary_user_and_with_others_allowed() {
    const MKDIRS: &str =
        "for i in $(seq 40); do mkdir {A}/d$i 2> /dev/null && echo $i; test -d {A}/d$i || echo no $i; done";
    let sandbox = Sandbox::for_ordinary_users();
    let args = ["run", "--clients", "1", "--seed", "3", "--drop-prob", "0.2", "--"];
    let command = ["sh", "-c", MKDIRS];
    let expected = told_by(&mut sandbox.chaosfs(&[&args[..], &command].concat()));
    let made = expected.lines().filter(|line| !line.starts_with("no ")).count();
    assert!((10..40).contains(&made), "{expected}");
    assert_eq!(told_by(&mut sandbox.as_ordinary_user(&[&args[..], &command].concat())), expected);

    // Others are let in by root, or where /etc/fuse.conf says so.
    if !geteuid().is_root() {
        return;
    }
    let knobs = ["--seed", "3", "--drop-prob", "0.2", "--allow-other"];
    fs::create_dir(sandbox.path("A")).unwrap();
    let said = sandbox.mount("A", &knobs);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let script = MKDIRS.replace("{A}", sandbox.path("A").to_str().unwrap());
    assert_eq!(told_by(Command::new("sh").args(["-c", &script])), expected);
}

/// How each of forty copies between two files ends, after `first`.
fn copies(first: fn(&Path)) -> String {
    const COPIES: &str = "import os, subprocess, sys
source, target = os.open('from', os.O_RDONLY), os.open('to', os.O_RDWR)
subprocess.run([sys.argv[1], 'set', '.', 'drop_prob=0.3', '-q'], check=True)
for _ in range(40):
    try: print(os.copy_file_range(source, target, 4, 0, 0))
    except OSError as error: print(error.strerror)
";
    let sandbox = Sandbox::for_mounting();
    for name in ["from", "to"] {
        fs::write(sandbox.path("shared").join(name), "four").unwrap();
    }
    let said = sandbox.mount("a", &["--seed", "5", "--clock", "manual", "--write-delay", "0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    first(&sandbox.path("a/to"));
    told_by(Command::new("python3").args(["-c", COPIES, CHAOSFS]).current_dir(sandbox.path("a")))
}

#[test]
fn copies_fail_alike_whatever_else_is_in_flight() {
    let expected = copies(|_| {});
    assert!(expected.contains("Input/output error") && expected.contains('4'), "{expected}");
    let after_a_chmod = copies(|to| fs::set_permissions(to, Permissions::from_mode(0o640)).unwrap());
    assert_eq!(after_a_chmod, expected);
}

#[test]
fn a_call_on_an_open_file_goes_by_the_path_that_it_was_opened_by() {
    let sandbox = Sandbox::for_mounting();
    fs::write(sandbox.path("shared/one"), "text").unwrap();
    fs::hard_link(sandbox.path("shared/one"), sandbox.path("shared/other")).unwrap();
    let said = sandbox.mount("a", &["--debug"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let mut file = OpenOptions::new().append(true).open(sandbox.path("a/one")).unwrap();
    fs::metadata(sandbox.path("a/other")).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    let log = sandbox.log("a");
    let written: Vec<_> = log.lines().filter(|line| line.contains(" op=write ")).collect();
    assert!(written.len() == 1 && written[0].contains(" path=/one "), "{written:?}");
}
