//! Who may do what, and which permissions are left: a program is told on a client, whatever the knobs, what it is told
//! on a plain directory.

use std::{collections::HashSet, fs, path::Path, process::Command, thread};

use nix::unistd::geteuid;

use crate::{
    likeness::KNOBS,
    sandbox::{Sandbox, as_root_among_users, run},
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

#[test]
fn a_change_of_a_file_takes_away_what_it_takes_away_on_a_plain_directory() {
    let test = "permissions::a_change_of_a_file_takes_away_what_it_takes_away_on_a_plain_directory";
    if as_root_among_users(test) {
        assert_alike(CHANGES, &["root,owner,member,stranger"], &KNOBS, &["--allow-other"]);
    }
}

#[test]
fn so_it_does_where_only_the_user_who_mounted_is_let_in() {
    if as_root_among_users("permissions::so_it_does_where_only_the_user_who_mounted_is_let_in") {
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

/// Files with capabilities that belong to an ordinary user, who may change them all the same.
#[test]
fn an_ordinary_users_client_changes_files_with_capabilities() {
    const PREPARE: &str = "import os, struct
for folder in ('shared', 'plain'):
    os.makedirs(folder, exist_ok=True); os.chown(folder, 65534, 65534)
    for name in 'abcd':
        path = f'{folder}/{name}'; open(path, 'w').write('text'); os.chown(path, 65534, 65534); os.chmod(path, 0o4755)
        os.setxattr(path, 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))
";
    const CHANGE: &str = "import os, sys
os.chdir(sys.argv[1])
with open('a', 'r+') as f: f.write('T')
with open('b', 'r+') as f: os.posix_fallocate(f.fileno(), 0, 9)
os.truncate('c', 2)
os.chown('d', -1, -1)
print([(oct(os.stat(name).st_mode), os.stat(name).st_size, os.listxattr(name)) for name in 'abcd'])
";
    if !geteuid().is_root() {
        return;
    }
    for knobs in KNOBS {
        let sandbox = Sandbox::for_ordinary_users();
        let said = run(Command::new("python3").args(["-c", PREPARE]).current_dir(sandbox.path("")));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        let [shared, plain] = ["shared", "plain"].map(|name| sandbox.path(name).display().to_string());
        let script = sandbox.path("tmp/change.py");
        fs::write(&script, CHANGE).unwrap();
        let both = format!("python3 {0} {plain}; python3 {0} {{A}}", script.display());
        let client = ["run", "--clients", "1", "--backing", &shared];
        let said =
            run(&mut sandbox.as_ordinary_user(&[&client[..], knobs, &["--", "sh", "-c", &both]].concat()));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{knobs:?}: {}", said.out);
        let lines: Vec<_> = said.out.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1], "{knobs:?}: {}", said.out);
    }
}

#[test]
fn what_is_made_inherits_what_it_inherits_on_a_plain_directory() {
    if !as_root_among_users("permissions::what_is_made_inherits_what_it_inherits_on_a_plain_directory") {
        return;
    }
    const MIXED: [&[&str]; 2] = [&["--write-delay", "0"], &["--rename-delay", "0"]];
    let all = [&KNOBS[..], &MIXED].concat();
    for seed in ["1", "2"] {
        assert_alike(INHERITANCE, &[seed], &all, &[]);
        assert_alike(INHERITANCE, &[seed, "others"], &KNOBS, &["--allow-other"]);
    }
}
