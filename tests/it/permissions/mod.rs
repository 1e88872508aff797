//! Who may do what, and which permissions are left: a program is told on a client, whatever the knobs, what it is told
//! on a plain directory.

use std::{collections::HashSet, path::Path, process::Command, thread};

use crate::{
    likeness::KNOBS,
    sandbox::{Sandbox, as_root, run},
};

const INHERITANCE: &str = include_str!("inheritance.py");

/// Everything in the folder: mode, owner, capabilities, ACLs.
const LOOK: &str =
    "find . ! -type l -exec stat -c '%n %f %u %g' {} + | sort; getfattr -R -h -m - -e hex . | grep .";

/// Runs a script, and shows what is in the folder then.
#[track_caller]
fn printed(script: &str, argument: &str, folder: &Path) -> String {
    let mut command = Command::new("python3");
    let said = run(command.args(["-c", script, argument]).current_dir(folder));
    assert_eq!(said.code, Some(0), "{folder:?}: {}", said.err);
    said.out
}

#[track_caller]
fn left(folder: &Path) -> String {
    let said = run(Command::new("sh").args(["-c", LOOK]).current_dir(folder));
    said.out
}

/// Fails with the lines that differ.
#[track_caller]
fn assert_same(what: &str, seen: &str, expected: &str) {
    let known: HashSet<&str> = expected.lines().collect();
    let strange: Vec<&str> = seen.lines().filter(|line| !known.contains(line)).collect();
    assert!(strange.is_empty(), "{what}: not as on a plain directory:\n{}", strange.join("\n"));
    assert_eq!(seen.lines().count(), expected.lines().count(), "{what}");
}

/// Runs a script on a plain directory, and with each of the knobs on a client of its own.
fn assert_alike(script: &str, argument: &str, knobs: &[&[&str]], more: &[&str]) {
    let plain = Sandbox::new();
    let expected = printed(script, argument, &plain.path("shared"));
    let left_there = left(&plain.path("shared"));
    let check = |knobs: &[&str]| {
        let sandbox = Sandbox::for_mounting();
        let said = sandbox.mount("a", &[knobs, more].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        let what = format!("{argument}, {knobs:?} {more:?}");
        assert_same(&what, &printed(script, argument, &sandbox.path("a")), &expected);
        let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
        assert_eq!(said.code, Some(0), "{}", said.out);
        assert_same(&format!("{what}, what has landed"), &left(&sandbox.path("shared")), &left_there);
    };
    thread::scope(|scope| {
        let checks: Vec<_> = knobs.iter().map(|knobs| scope.spawn(|| check(knobs))).collect();
        checks
            .into_iter()
            .for_each(|check| check.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    });
}

#[test]
fn what_is_made_inherits_what_it_inherits_on_a_plain_directory() {
    if !as_root("permissions::what_is_made_inherits_what_it_inherits_on_a_plain_directory") {
        return;
    }
    const MIXED: [&[&str]; 2] = [&["--write-delay", "0"], &["--rename-delay", "0"]];
    let all = [&KNOBS[..], &MIXED].concat();
    for seed in ["1", "2"] {
        assert_alike(INHERITANCE, seed, &all, &[]);
        assert_alike(INHERITANCE, seed, &KNOBS[..2], &["--allow-other"]);
    }
}
