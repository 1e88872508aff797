//! A client that runs out of descriptors or memory: it gets slower, or says so, and loses nothing.

use std::{fs, os::unix::fs::symlink, process::Command, thread, time::Duration};

use chaosfs::Status;

use crate::sandbox::{Sandbox, eventually, run};

/// The same command under limits of the shell, and killed where it does not end.
fn limited(limits: &str, command: &Command) -> Command {
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
