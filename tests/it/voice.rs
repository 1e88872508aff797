//! What reaches a terminal: names that anybody has chosen move no cursor and look like no line of ours.

use std::fs;

use crate::sandbox::{Said, Sandbox, run};

/// A title, a cleared line, a line of ours, a change of direction.
const FORGED: &str = "x\u{1b}]0;title\u{7}\u{1b}[2K\nchaosfs: a: 0 lost\r\u{9b}1m\u{202e}";

#[track_caller]
fn is_seen_as_it_is(said: &Said) {
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("title"), "{all:?}");
    assert!(!all.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'), "{all:?}");
    assert!(!all.lines().any(|line| line.starts_with("chaosfs: a: 0 lost")), "{all:?}");
}

#[test]
fn names_that_programs_and_users_have_chosen_stay_on_their_line() {
    let sandbox = Sandbox::for_mounting();
    let said = sandbox.mount("a", &[]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    run(&mut sandbox.chaosfs(&["hold", "a"]));
    fs::write(sandbox.path("a").join(FORGED), "x").expect("a file");
    is_seen_as_it_is(&run(&mut sandbox.chaosfs(&["lose", "a"])));
    let log = sandbox.log("a");
    is_seen_as_it_is(&Said { code: None, out: log, err: String::new() });

    fs::create_dir(sandbox.path(FORGED)).expect("a folder");
    let mut mount = sandbox.chaosfs(&["mount", "shared", FORGED, "--background", "--client-id", "b"]);
    assert_eq!(run(mount.args(["--log-dir", "logs"])).code, Some(0));
    for args in [
        &["list"][..],
        &["status"],
        &["status", "-v"],
        &["status", "--json"],
        &["hold", FORGED],
        &["umount", "-m", FORGED],
        &["umount", "-m", FORGED],
    ] {
        is_seen_as_it_is(&run(&mut sandbox.chaosfs(args)));
    }
}

#[test]
fn what_a_run_ends_is_named_on_one_line() {
    let sandbox = Sandbox::for_mounting();
    let renames_itself = "import os, ctypes, time
if os.fork() == 0:
    os.setsid(); ctypes.CDLL(None).prctl(15, b'\\x1b[2Ktitle\\n', 0, 0, 0); time.sleep(60)
time.sleep(.5)";
    is_seen_as_it_is(&run(&mut sandbox.run_command(&["--", "python3", "-c", renames_itself])));
}
