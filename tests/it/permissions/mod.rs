//! Who may do what, and which permissions are left: a program is told on a client, whatever the knobs, what it is told
//! on a plain directory.

use std::{collections::HashSet, fs, path::Path, process::Command, thread};

use crate::{
    likeness::KNOBS,
    sandbox::{Sandbox, as_root, run},
};

const CHANGES: &str = include_str!("changes.py");
const INHERITANCE: &str = include_str!("inheritance.py");

/// Everything in the folder: mode, owner, capabilities, ACLs.
const LOOK: &str =
    "find . ! -type l -exec stat -c '%n %f %u %g' {} + | sort; getfattr -R -h -m - -e hex . | grep .";

/// Runs a script, and shows what is in the folder then.
#[track_caller]
fn printed(script: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new("python3");
    let said = run(command.args(["-c", script]).args(arguments).current_dir(folder));
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
fn assert_alike(script: &str, arguments: &[&str], knobs: &[&[&str]], more: &[&str]) {
    let plain = Sandbox::new();
    let expected = printed(script, arguments, &plain.path("shared"));
    let left_there = left(&plain.path("shared"));
    let check = |knobs: &[&str]| {
        let sandbox = Sandbox::for_mounting();
        let said = sandbox.mount("a", &[knobs, more].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        let what = format!("{arguments:?}, {knobs:?} {more:?}");
        assert_same(&what, &printed(script, arguments, &sandbox.path("a")), &expected);
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

/// Whether there are other users here. The root of a user namespace mostly knows nobody else.
fn knows_other_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
    map.split_whitespace().nth(2) != Some("1")
}

#[test]
fn a_change_of_a_file_takes_away_what_it_takes_away_on_a_plain_directory() {
    let test = "permissions::a_change_of_a_file_takes_away_what_it_takes_away_on_a_plain_directory";
    if as_root(test) && knows_other_users() {
        assert_alike(CHANGES, &["root,owner,member,stranger"], &KNOBS, &["--allow-other"]);
    }
}

#[test]
fn so_it_does_where_only_the_user_who_mounted_is_let_in() {
    if as_root("permissions::so_it_does_where_only_the_user_who_mounted_is_let_in") && knows_other_users() {
        assert_alike(CHANGES, &["root"], &KNOBS, &[]);
    }
}

#[test]
fn so_it_does_where_the_user_who_mounted_is_an_ordinary_one() {
    const SCRIPT: &str = "plain=$(mktemp -d); cd $plain && python3 $1 self > $1.plain && rm -r $plain
        cd {A} && python3 $1 self > $1.client && diff $1.plain $1.client && wc -l < $1.plain";
    for knobs in KNOBS {
        let sandbox = Sandbox::for_ordinary_users();
        let script = sandbox.path("tmp/changes.py");
        fs::write(&script, CHANGES).unwrap();
        let script = script.to_str().expect("a path in UTF-8");
        let args = [&["run", "--clients", "1"], knobs, &["--", "sh", "-c", SCRIPT, "sh", script]].concat();
        let said = run(&mut sandbox.as_ordinary_user(&args));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{knobs:?}: {}", said.out);
        assert!(said.out.trim().parse().is_ok_and(|lines: u32| lines > 100), "{}", said.out);
    }
}

#[test]
fn what_is_made_inherits_what_it_inherits_on_a_plain_directory() {
    if !as_root("permissions::what_is_made_inherits_what_it_inherits_on_a_plain_directory") {
        return;
    }
    const MIXED: [&[&str]; 2] = [&["--write-delay", "0"], &["--rename-delay", "0"]];
    let all = [&KNOBS[..], &MIXED].concat();
    for seed in ["1", "2"] {
        assert_alike(INHERITANCE, &[seed], &all, &[]);
        if knows_other_users() {
            assert_alike(INHERITANCE, &[seed, "others"], &KNOBS, &["--allow-other"]);
        }
    }
}
