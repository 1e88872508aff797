//! Unmounting: whoever serves a client, in whatever state, it lands and says so, or it is said what is in the way.

use std::{fs, sync::mpsc, thread, time::Duration};

use chaosfs::{Clients, EventLog, Mount, Unmounted, unmount};

use crate::sandbox::{CHAOSFS, Said, Sandbox, run};

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
