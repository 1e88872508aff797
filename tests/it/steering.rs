//! Steering mounted clients: by the command line, over the control socket, and through the library.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use chaosfs::{Clients, Clock, Delay, EventLog, Knobs, RemoteClient, Status, mounts_below};
use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;

use crate::sandbox::{Said, Sandbox, awaited, eventually, run};

const MANUAL: [&str; 2] = ["--clock", "manual"];

fn mounted(more: &[&str]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", more).code, Some(0));
    sandbox
}

fn two(a: &[&str], b: &[&str]) -> Sandbox {
    let sandbox = mounted(&[&MANUAL, a].concat());
    assert_eq!(sandbox.mount("b", &[&MANUAL, b].concat()).code, Some(0));
    sandbox
}

fn say(sandbox: &Sandbox, args: &[&str]) -> Said {
    run(&mut sandbox.chaosfs(args))
}

#[track_caller]
fn done(sandbox: &Sandbox, args: &[&str]) -> String {
    let said = say(sandbox, args);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{args:?}");
    said.out
}

fn status(sandbox: &Sandbox, name: &str) -> Status {
    RemoteClient::at(&sandbox.path(name))
        .and_then(|mut client| client.status())
        .expect("it tells about itself")
}

fn socket(sandbox: &Sandbox, name: &str) -> UnixStream {
    sandbox.connect(name)
}

fn ask(stream: &UnixStream, line: &[u8]) -> Value {
    let mut stream = stream;
    stream.write_all(line).expect("it is heard");
    answer(stream)
}

fn answer(stream: &UnixStream) -> Value {
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).expect("an answer");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn status_tells_what_a_client_does_and_has_in_flight() {
    let sandbox =
        mounted(&[&MANUAL[..], &["--seed", "7", "--drop-prob", "0", "--rename-delay", "1ms..2s"]].concat());
    fs::write(sandbox.path("a/f"), "text").unwrap();
    done(&sandbox, &["advance", "300", "a"]);
    let status = status(&sandbox, "a");
    assert_eq!((status.client.as_str(), status.seed, status.clock.as_str()), ("a", 7, "manual"));
    assert_eq!((status.uptime_ms, status.held), (300, false));
    assert_eq!(Path::new(&status.backing), sandbox.path("shared"));
    assert_eq!(status.knobs.rename_delay.to_string(), "1ms..2000ms");
    assert_eq!((status.in_flight.mutations, status.in_flight.bytes), (2, 4));
    assert_eq!(status.in_flight.next_due_ns, Some(500_000_000));
    assert_eq!(status.operations["write"], 1);

    let json: Value = serde_json::from_str(&done(&sandbox, &["status", "--json", "a"])).unwrap();
    assert_eq!(json["in_flight"]["bytes"], 4);
    let knobs = serde_json::json!({
        "meta_ttl": "1500ms", "attr_ttl": "meta_ttl", "name_ttl": "meta_ttl", "absent_ttl": "meta_ttl",
        "list_ttl": "meta_ttl", "write_delay": "800ms", "create_delay": "write_delay", "rename_delay": "1ms..2000ms", "drop_prob": 0.0,
        "read_your_writes": true, "max_in_flight": 268_435_456, "max_mutations": 1_000_000, "max_belief": 67_108_864
    });
    let told = json["knobs"].as_object().expect("an object");
    let wanted = knobs.as_object().expect("an object").iter();
    wanted.for_each(|(name, value)| assert_eq!(&told[name], value, "{name}"));
    assert_eq!((&told["profile"], &told["names_by"]), (&"eventual".into(), &"time".into()));
    let text = done(&sandbox, &["status", "-v", "--backing", "shared"]);
    assert_eq!(text, done(&sandbox, &["status", sandbox.path("a").to_str().unwrap()]));
    assert!(text.starts_with(&format!("a at {}\n", sandbox.path("a").display())), "{text}");
    let memory = status.in_flight.memory;
    let in_flight = format!("2 changes, 4 bytes of data, {memory} of memory, next due in 0.500 s");
    assert!(memory > 1000 && text.contains(&format!("\n  in flight   {in_flight}\n")), "{text}");
    // Others of this user may be mounted, and dead.
    let all = say(&sandbox, &["status", "--verbose"]).out;
    assert!(all.contains(&text), "{all}");
}

#[test]
fn several_clients_are_a_table_and_a_list_with_the_dead_among_them() {
    let sandbox = two(&["--write-delay", "500"], &[]);
    fs::write(sandbox.path("a/f"), "text").unwrap();
    sandbox.kill_daemon("b");
    let [a, b] = ["a", "b"].map(|name| sandbox.path(name).display().to_string());
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(String::from).collect()
    };
    let rows = |text: &str| text.lines().map(cells).collect::<Vec<Vec<String>>>();
    let dead = format!("dead; remove the mount with `chaosfs umount {b}`");

    let said = say(&sandbox, &["status", "--backing", "shared"]);
    let titles = ["CLIENT", "MOUNTPOINT", "IN FLIGHT", "NEXT DUE", "LANDED", "CONFLICTS", "FAULTS", "LOST"];
    let expected: [&[&str]; 3] = [&titles, &["a", &a, "2", "0.500 s", "0", "0", "0", "0"], &["b", &b, &dead]];
    assert_eq!(
        (rows(&said.out), said.code, said.err.as_str()),
        (
            expected.map(<[_]>::to_vec).map(|row| row.into_iter().map(String::from).collect()).to_vec(),
            Some(1),
            ""
        )
    );
    // Others of this user may be mounted.
    assert!(rows(&say(&sandbox, &["status"]).out).contains(&["b", &b, &dead].map(String::from).to_vec()));

    let shared = sandbox.path("shared").display().to_string();
    let listed = rows(&done(&sandbox, &["list"]));
    assert!(listed.contains(&["a", &a, &shared].map(String::from).to_vec()), "{listed:?}");
    assert!(listed.contains(&["b", &b, &shared, &dead].map(String::from).to_vec()), "{listed:?}");
    assert_eq!(done(&sandbox, &["list", "--quiet", "--backing", "shared"]), format!("{a}\n{b}\n"));

    let said = say(&sandbox, &["status", "--json", "a", "b"]);
    let objects: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((said.code, objects.len(), &objects[0]["dead"]), (Some(1), 2, &Value::from(false)));
    assert_eq!((&objects[1]["client"], &objects[1]["dead"]), (&Value::from("b"), &Value::from(true)));
    assert_eq!(objects[1]["backing"], shared.as_str());
    assert!(objects[1]["error"].as_str().unwrap().starts_with("b: its daemon has died; "), "{}", objects[1]);
}

#[test]
fn watching_shows_it_again_and_again_until_nobody_reads() {
    let sandbox = mounted(&MANUAL);
    let mut command = sandbox.chaosfs(&["status", "--watch", "--json", "a"]);
    let mut watching = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let object: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(object["client"], "a");
    }
    drop(lines);
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

#[test]
fn quiet_commands_do_their_work_and_say_nothing() {
    let sandbox = mounted(&MANUAL);
    fs::write(sandbox.path("a/f"), "text").unwrap();
    for args in [
        &["hold", "a", "-q"] as &[_],
        &["release", "-q", "a"],
        &["set", "--quiet", "a", "meta-ttl=0"],
        &["advance", "1s", "a", "--quiet"],
    ] {
        assert_eq!(done(&sandbox, args), "", "{args:?}");
    }
    assert!(sandbox.path("shared/f").exists());
    let said = say(&sandbox, &["mount", "shared", "b", "--background", "--quiet"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(done(&sandbox, &["umount", "--quiet", "b"]), "");
    let said = say(&sandbox, &["umount", "-q", "a", "b"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), "", "chaosfs: b: not mounted\n"));
}

#[test]
fn knobs_are_set_all_or_none_and_by_either_spelling() {
    let sandbox = mounted(&[]);
    let said = say(&sandbox, &["set", "a", "write-delay=200ms", "meta_ttl=0"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a: write_delay=200ms meta_ttl=0\n"));
    let knobs = status(&sandbox, "a").knobs;
    assert_eq!((knobs.write_delay, knobs.meta_ttl), (Delay::fixed_millis(200), Duration::ZERO));
    assert!(sandbox.log("a").contains(" event=set meta_ttl=0ms write_delay=200ms\n"));
    let answer = ask(
        &socket(&sandbox, "a"),
        b"{\"do\":\"set\",\"knobs\":{\"meta_ttl\":\"9\",\"write_delay\":\"soon\"}}\n",
    );
    assert!(answer["error"].as_str().unwrap().starts_with("write_delay: `soon` is not a span"), "{answer}");
    assert_eq!(status(&sandbox, "a").knobs, knobs);
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_one_line() {
    let sandbox = Sandbox::new();
    for (args, reason) in [
        (
            &["set", "a", "speed=1"] as &[&str],
            "error: `speed` is not a knob; there are profile, time_scale, ",
        ),
        (&["set", "a", "meta_ttl=soon"], "error: meta_ttl: `soon` is not a span of time"),
        (&["set", "a", "meta_ttl=1", "meta-ttl=2"], "error: meta_ttl: given twice; give it once"),
        (&["set", "a"], "error: there is nothing to set"),
        (&["advance", "a", "b"], "error: the first or the last word has to be a span of time"),
        (&["advance", "-5", "a"], "error: the first or the last word has to be a span of time"),
        (&["advance", "soon"], "error: `soon` is not a span of time; write milliseconds"),
        (&["status", "--watch", "--nonsense"], "error: unexpected argument '--nonsense'"),
        (&["set", "meta_ttl=1"], "error: no client is named"),
        (&["advance", "1s"], "error: no client is named; write its mountpoint, or `--backing DIR`"),
        (&["hold"], "error: no client is named; write its mountpoint, or `--backing DIR`"),
        (
            &["mount", "shared", "a", "--clock", "sundial"],
            "error: invalid value 'sundial' for '--clock <CLOCK>'",
        ),
    ] {
        let said = say(&sandbox, args);
        assert!(said.err.starts_with(reason), "{args:?}: {}", said.err);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}");
    }
}

#[test]
fn what_cannot_be_steered_is_refused_in_one_line() {
    let sandbox = mounted(&[]);
    assert_eq!(sandbox.mount("b", &[]).code, Some(0));
    sandbox.kill_daemon("b");
    for (args, reason) in [
        (&["hold", "none"] as &[&str], "none: No such file or directory"),
        (&["hold", "shared"], "shared: not mounted"),
        (&["hold", "/proc"], "/proc: not a chaosfs mount (proc)"),
        (&["status", "b"], "b: its daemon has died; remove the mount with `chaosfs umount b`"),
        (&["flush", "--backing", "b/x"], "b/x: Transport endpoint is not connected"),
        (&["expire", "--backing", "/proc"], "/proc: no chaosfs client is mounted over it"),
        (&["advance", "1s", "a"], "a: it runs on real time; mount it with --clock manual to move its clock"),
    ] {
        let said = say(&sandbox, args);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(said.err, format!("chaosfs: {reason}\n"), "{args:?}");
    }
    let said = say(&sandbox, &["hold", "b", "a"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), "a: held\n"), "{}", said.err);
}

#[test]
fn another_users_client_is_left_alone() {
    if !geteuid().is_root() {
        eprintln!("only root can act as somebody else: nothing was tested");
        return;
    }
    let sandbox = mounted(&[]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", crate::sandbox::CHAOSFS, "hold"]);
    // The folder of the test lies where nobody else can look: by the way the kernel knows it.
    command.arg(sandbox.path("a"));
    fs::set_permissions(sandbox.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = run(&mut command);
    assert_eq!(said.code, Some(1), "{}", said.out);
    let lines = said.err.lines().count();
    assert!(
        lines == 1 && (said.err.contains("belongs to user 0") || said.err.contains("ermission")),
        "{}",
        said.err
    );
    assert!(!status(&sandbox, "a").held);
}

#[test]
fn what_is_held_does_not_land_until_it_is_released() {
    let sandbox = mounted(&[&MANUAL[..], &["--write-delay", "100"]].concat());
    fs::write(sandbox.path("a/f"), "text").unwrap();
    assert_eq!(done(&sandbox, &["hold", "a"]), "a: held\n");
    assert_eq!(done(&sandbox, &["advance", "1h", "a"]), "0 landed\n");
    assert!(!sandbox.path("shared/f").exists());
    assert_eq!(done(&sandbox, &["release", "a"]), "a: released\n");
    assert_eq!(fs::read_to_string(sandbox.path("shared/f")).unwrap(), "text");
}

#[test]
fn what_is_held_lands_for_fsync_flush_and_unmount() {
    let sandbox = mounted(&["--write-delay", "0", "--rename-delay", "0"]);
    done(&sandbox, &["hold", "a"]);
    let there = |name: &str| sandbox.path("shared").join(name).exists();
    let mut file = File::create(sandbox.path("a/synced")).unwrap();
    file.write_all(b"text").unwrap();
    assert!(!there("synced"), "what would go through is held, too");
    file.sync_all().unwrap();
    assert!(there("synced"));
    drop(file);
    fs::write(sandbox.path("a/flushed"), "text").unwrap();
    assert!(!there("flushed"));
    assert_eq!(done(&sandbox, &["flush", "a"]), "a: 2 landed\n");
    assert!(there("flushed"));
    fs::write(sandbox.path("a/left"), "text").unwrap();
    assert!(!there("left"));
    assert!(done(&sandbox, &["umount", "-m", "a"]).starts_with("a: unmounted, "));
    assert!(there("left"));
}

#[test]
fn beliefs_are_dropped_at_once() {
    let sandbox = mounted(&["--meta-ttl", "1h"]);
    assert!(!sandbox.path("a/f").exists());
    fs::write(sandbox.path("shared/f"), "").unwrap();
    assert!(!sandbox.path("a/f").exists());
    done(&sandbox, &["expire", "a"]);
    assert!(sandbox.path("a/f").exists());
}

/// In a process of its own: one that another test forks from this one closes its files, too, and hears their errors.
const LOSE: &str = "
import os, subprocess, sys
def errno(call, *args):
    try: call(*args)
    except OSError as error: return error.errno
old, new = os.open('a/old', os.O_RDWR), os.open('a/new', os.O_CREAT | os.O_RDWR)
os.pwrite(old, b'ne', 0), os.pwrite(old, b'w', 2)
os.mkdir('a/d')
print(subprocess.run([sys.argv[1], 'lose', 'a'], stdout=subprocess.PIPE, text=True).stdout, end='')
print(errno(os.fsync, old), errno(os.fsync, old), os.pread(old, 9, 0).decode())
print(errno(os.pwrite, new, b'x', 0), errno(os.pwrite, new, b'x', 0), os.listdir('a'))
";

#[test]
fn what_is_lost_is_named_and_its_open_files_say_so() {
    let sandbox = mounted(&[&MANUAL[..], &["--meta-ttl", "0"]].concat());
    fs::write(sandbox.path("shared/old"), "old").unwrap();
    let mut program = Command::new("python3");
    let said = run(program.args(["-c", LOSE, crate::sandbox::CHAOSFS]).current_dir(sandbox.path("")));
    let lost = "a: 4 lost\n  /new: create\n  /old: write (2 times)\n  /d: mkdir\n";
    let answers = format!("{} None old\n{} {} ['old']\n", libc::EIO, libc::ESTALE, libc::ESTALE);
    assert_eq!((said.out, said.err.as_str()), (format!("{lost}{answers}"), ""));
    fs::create_dir(sandbox.path("a/d")).unwrap();
    done(&sandbox, &["umount", "-m", "a"]);
    assert!(sandbox.path("shared/d").exists() && !sandbox.path("shared/new").exists());
    assert_eq!(sandbox.log("a").matches("event=lost").count(), 4);
}

#[test]
fn clients_in_several_processes_land_in_due_order_across_them() {
    let sandbox = two(&["--write-delay", "300"], &["--write-delay", "200"]);
    fs::write(sandbox.path("shared/f"), "first").unwrap();
    let overwrite = |name: &str, text: &str| {
        OpenOptions::new()
            .write(true)
            .open(sandbox.path(name))
            .unwrap()
            .write_all_at(text.as_bytes(), 0)
            .unwrap();
    };
    overwrite("b/f", "of b.");
    overwrite("a/f", "of a.");
    assert_eq!(done(&sandbox, &["advance", "--backing", "shared", "200"]), "1 landed\n");
    assert_eq!(fs::read_to_string(sandbox.path("shared/f")).unwrap(), "of b.");
    assert_eq!(done(&sandbox, &["advance", "b", "a", "1s", "--backing", "shared"]), "1 landed\n");
    assert_eq!(fs::read_to_string(sandbox.path("shared/f")).unwrap(), "of a.");
    assert_eq!((status(&sandbox, "a").uptime_ms, status(&sandbox, "b").uptime_ms), (1200, 1200));
}

/// Two clients make the same file, due at the same time: whose content is there in the end.
#[test]
fn at_the_same_time_clients_land_in_the_order_of_their_ids() {
    for first in ["a", "b"] {
        let sandbox = two(&[], &[]);
        let second = if first == "a" { "b" } else { "a" };
        for name in [first, second] {
            fs::create_dir(sandbox.path(name).join("lock")).unwrap();
        }
        done(&sandbox, &["advance", "1200", "b", "a"]);
        let conflicts = ["a", "b"].map(|name| status(&sandbox, name).conflicts);
        assert_eq!(conflicts, [0, 1], "{first} made it first");
    }
}

#[test]
fn a_writer_that_waits_for_room_goes_on_when_the_clock_is_moved() {
    let sandbox = mounted(&[&MANUAL[..], &["--max-in-flight", "64KiB"]].concat());
    let path = sandbox.path("a/f");
    let writer = thread::spawn(move || {
        let mut file = File::create(path)?;
        (0..3).try_for_each(|_| file.write_all(&[b'x'; 48 << 10]))
    });
    let waits = || {
        status(&sandbox, "a").in_flight.bytes == 48 << 10 && status(&sandbox, "a").operations["write"] == 2
    };
    eventually("a full queue", waits, |waits| *waits);
    // Each step makes room for one more.
    let moved = || {
        done(&sandbox, &["advance", "800", "a"]);
        writer.is_finished()
    };
    eventually("the end of the writer", moved, |finished| *finished);
    writer.join().expect("it does not panic").expect("it writes");
    done(&sandbox, &["advance", "800", "a"]);
    assert_eq!(fs::metadata(sandbox.path("shared/f")).unwrap().len(), 3 * (48 << 10));
}

#[test]
fn a_killed_writer_leaves_the_queue_although_time_stands_still() {
    let sandbox = mounted(&[&MANUAL[..], &["--max-in-flight", "64KiB"]].concat());
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "bs=48k", "count=3", "status=none"]);
    let mut writer =
        command.arg(format!("of={}", sandbox.path("a/f").display())).spawn().expect("dd is there");
    eventually("a full queue", || status(&sandbox, "a").in_flight.bytes, |bytes| *bytes == 48 << 10);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(done(&sandbox, &["umount", "-m", "a"]).starts_with("a: unmounted, "));
}

#[test]
fn fsync_and_sigterm_land_although_time_stands_still() {
    let sandbox = Sandbox::for_mounting();
    let client = sandbox.serve("a", &MANUAL);
    let mut file = File::create(sandbox.path("a/synced")).unwrap();
    file.write_all(b"text").unwrap();
    file.sync_all().unwrap();
    assert!(sandbox.path("shared/synced").exists());
    drop(file);
    fs::write(sandbox.path("a/left"), "text").unwrap();
    assert!(!sandbox.path("shared/left").exists());
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, Some(0));
    assert!(sandbox.path("shared/left").exists());
}

#[test]
fn a_wrong_torn_or_huge_request_gets_an_error_line_and_harms_nothing() {
    let sandbox = mounted(&[]);
    let stream = socket(&sandbox, "a");
    for line in ["\n", "nonsense\n", "{}\n", "{\"do\":\"fly\"}\n", "{\"do\":\"status\",\"x\":1}\n", "\u{0}\n"]
    {
        let answer = ask(&stream, line.as_bytes());
        assert_eq!((&answer["ok"], answer["error"].is_string()), (&Value::Bool(false), true), "{line:?}");
    }
    assert_eq!(ask(&stream, b"{\"do\":\"status\"}\n")["ok"], true, "the connection lives on");
    let torn = socket(&sandbox, "a");
    (&torn).write_all(b"{\"do\":\"sta").unwrap();
    torn.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(answer(&torn)["error"].as_str().unwrap().contains("torn"));
    let huge = socket(&sandbox, "a");
    // It may be hung up on while it still writes.
    let _ = (&huge).write_all(&vec![b' '; 70_000]);
    assert!(answer(&huge)["error"].as_str().unwrap().contains("at most 65536 bytes"));
    assert_eq!((&huge).read(&mut [0; 10]).unwrap_or(0), 0, "and it is hung up on");
    assert_eq!(status(&sandbox, "a").client, "a");
}

#[test]
fn readers_that_do_not_read_and_many_connections_stop_nobody() {
    let sandbox = mounted(&[]);
    let stuck: Vec<UnixStream> = (0..20).map(|_| socket(&sandbox, "a")).collect();
    for stream in &stuck {
        stream.set_nonblocking(true).unwrap();
        while (&mut &*stream).write(b"{\"do\":\"status\"}\n").is_ok() {}
    }
    let idle: Vec<UnixStream> = (0..100).map(|_| socket(&sandbox, "a")).collect();
    assert_eq!(status(&sandbox, "a").client, "a");
    fs::write(sandbox.path("a/f"), "text").unwrap();
    assert_eq!(done(&sandbox, &["flush", "a"]), "a: 2 landed\n");
    assert!(done(&sandbox, &["umount", "-m", "a"]).starts_with("a: unmounted, "));
    assert!(answer(&idle[0])["farewell"]["landed"].is_number());
}

#[test]
fn whoever_asks_for_it_hears_the_farewell() {
    let sandbox = mounted(&[]);
    let stream = socket(&sandbox, "a");
    (&stream).write_all(b"{\"do\":\"farewell\"}\n").unwrap();
    fs::write(sandbox.path("a/f"), "text").unwrap();
    done(&sandbox, &["umount", "-m", "a"]);
    let said = answer(&stream);
    assert_eq!((&said["ok"], &said["farewell"]["landed"]), (&Value::Bool(true), &Value::from(2)));
}

#[test]
fn idle_connections_make_way_for_whoever_asks_and_for_the_farewell() {
    let sandbox = mounted(&[]);
    let idle: Vec<_> = (0..256).map(|_| socket(&sandbox, "a")).collect();
    for _ in 0..20 {
        done(&sandbox, &["status", "a"]);
    }
    fs::write(sandbox.path("a/f"), "text").unwrap();
    let said = say(&sandbox, &["umount", "-m", "a"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "a: unmounted, 2 landed\n"), "{}", said.err);
    drop(idle);
}

#[test]
fn a_connection_that_waits_for_the_farewell_makes_way_for_nobody() {
    let sandbox = mounted(&[]);
    // Each waits before the next one comes: other tests ask all clients of this user, and would take an idle one's place.
    let waits = |stream: UnixStream| {
        assert!(!ask(&stream, b"{\"do\":\"farewell\"}\n{\"do\":\"status\"}\n")["status"].is_null());
        stream
    };
    let waiting: Vec<_> = (0..256).map(|_| waits(socket(&sandbox, "a"))).collect();
    let said = say(&sandbox, &["status", "a"]);
    let refusal = "chaosfs: a: there are already 256 connections; close one first\n";
    assert_eq!((said.code, said.err.as_str()), (Some(1), refusal));
    say(&sandbox, &["umount", "-m", "a"]);
    assert!(waiting.iter().all(|stream| !answer(stream)["farewell"].is_null()));
}

#[test]
fn a_client_that_does_not_answer_is_not_left_out_and_holds_up_nobody_else() {
    let sandbox = mounted(&[]);
    let silent = sandbox.serve("b", &[]);
    awaited("a client that can be steered", || RemoteClient::at(&sandbox.path("b")).ok());
    silent.signal(Signal::SIGSTOP);
    let over = || RemoteClient::over(&sandbox.path("shared")).expect("both");
    assert_eq!(over().len(), 2);
    fs::create_dir(sandbox.path("other")).unwrap();
    assert!(RemoteClient::over(&sandbox.path("other")).is_err());
    silent.signal(Signal::SIGCONT);
    assert!(over().iter_mut().all(|client| client.hold().is_ok()));
}

#[test]
fn nothing_is_ever_put_into_the_working_directory() {
    let sandbox = Sandbox::for_mounting();
    let mut command = sandbox.chaosfs(&["mount", "shared", "a", "--background", "--log-dir", "logs"]);
    assert_eq!(run(command.env("XDG_RUNTIME_DIR", ".")).code, Some(0));
    assert!(!sandbox.path("chaosfs").exists());
    assert_eq!(done(&sandbox, &["flush", "a"]), "a: 0 landed\n");
}

fn silent() -> chaosfs::ClientsBuilder {
    Clients::builder().log(|_| EventLog::silent())
}

#[test]
fn a_set_of_clients_cleans_up_after_itself_also_in_a_panic() {
    let left = thread::spawn(|| {
        let clients = silent().clients(3).manual_clock().mount().expect("three clients");
        fs::write(clients["B"].mountpoint().join("f"), "text").unwrap();
        let paths = (clients.backing().to_path_buf(), clients["B"].mountpoint().to_path_buf());
        std::panic::panic_any(paths);
    });
    let paths = left.join().expect_err("it panics");
    let (backing, mountpoint) = *paths.downcast::<(PathBuf, PathBuf)>().expect("with the paths");
    assert!(!backing.exists() && !mountpoint.exists() && !mountpoint.parent().unwrap().exists());
}

#[test]
fn a_set_over_a_directory_of_mine_leaves_that_alone_and_lands_in_it() {
    let sandbox = Sandbox::new();
    let builder = silent().backing(sandbox.path("shared")).mountpoints_in(sandbox.path(""));
    let slow = |knobs: &mut Knobs| knobs.meta_ttl = Duration::from_secs(60);
    let clients = builder.client("a").client_with("new", slow).manual_clock().mount().expect("two clients");
    assert_eq!(clients["new"].status().knobs.meta_ttl, Duration::from_secs(60));
    assert_eq!(mounts_below(&sandbox.path("")).unwrap().len(), 2);
    fs::write(clients["a"].mountpoint().join("f"), "text").unwrap();
    clients.unmount().expect("all lands");
    assert_eq!(fs::read_to_string(sandbox.path("shared/f")).unwrap(), "text");
    assert!(sandbox.path("a").exists() && !sandbox.path("new").exists(), "what was there stays");
}

#[test]
fn a_set_refuses_what_makes_no_sense_and_leaves_nothing_mounted() {
    let sandbox = Sandbox::new();
    let refusal = |builder: chaosfs::ClientsBuilder| builder.mount().err().expect("a refusal").to_string();
    let here = || silent().backing(sandbox.path("shared")).mountpoints_in(sandbox.path(""));
    assert!(refusal(here()).contains("needs at least one"));
    assert!(refusal(here().client("a").client("a")).contains("two clients named `a`"));
    assert!(refusal(here().client("a").client("../x")).contains("is not a client id"));
    assert!(refusal(here().client_with("a", |knobs| knobs.drop_prob = 7.0)).contains("drop_prob"));
    assert!(refusal(silent().backing("/no/such").client("a")).contains("does not exist"));
    assert!(mounts_below(&sandbox.path("")).unwrap().is_empty());
}

#[test]
fn a_set_is_steered_in_the_process_and_from_outside_alike() {
    let clients = silent().clients(2).manual_clock().mount().expect("two clients");
    let (a, b) = (&clients["A"], &clients["B"]);
    assert_eq!(clients.advance(Duration::from_secs(1)), Ok(0));
    a.set(|knobs| knobs.write_delay = chaosfs::Delay::fixed_millis(5)).expect("a knob");
    assert!(b.set(|knobs| knobs.max_in_flight = 0).is_err());
    fs::write(a.mountpoint().join("f"), "text").unwrap();
    let mut outside = RemoteClient::over(clients.backing()).expect("both");
    assert_eq!((outside.len(), RemoteClient::advance(&mut outside, Duration::from_millis(5))), (2, Ok(2)));
    assert_eq!(fs::read_to_string(b.mountpoint().join("f")).unwrap(), "text");
    outside[0].hold().unwrap();
    assert!(a.status().held || b.status().held);
}

#[test]
fn ten_due_times_are_crossed_at_once() {
    let clients = silent().clients(2).manual_clock().mount().expect("two clients");
    for number in 0..10 {
        fs::create_dir(clients["A"].mountpoint().join(number.to_string())).unwrap();
        clients.advance(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(clients.advance(Duration::from_secs(5)), Ok(10));
    assert_eq!(fs::read_dir(clients["B"].mountpoint()).unwrap().count(), 10);
    assert!(Clock::manual().is_manual());
}

#[test]
fn nothing_is_being_landed_any_more_when_hold_returns() {
    // Files large enough that their landing takes a while.
    let sandbox = mounted(&["--write-delay", "1ms", "--rename-delay", "1ms"]);
    let mut client = RemoteClient::at(&sandbox.path("a")).unwrap();
    for round in 0..20 {
        let name = format!("f{round}");
        fs::write(sandbox.path("a").join(&name), vec![b'x'; 3 << 20]).unwrap();
        client.hold().unwrap();
        let there = || fs::metadata(sandbox.path("shared").join(&name)).map_or(0, |facts| facts.len());
        let seen = there();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(there(), seen, "in round {round}");
        client.release().unwrap();
    }
}

#[test]
fn a_guard_refuses_to_expire_what_the_kernel_keeps_as_the_command_does() {
    let sandbox = Sandbox::for_mounting();
    let options = chaosfs::MountOptions {
        kernel_cache: true,
        ..chaosfs::MountOptions::new(sandbox.path("shared"), sandbox.path("a"))
    };
    let mount = chaosfs::mount(options).unwrap();
    let refusal = mount.expire().unwrap_err().to_string();
    assert_eq!(
        say(&sandbox, &["expire", sandbox.path("a").to_str().unwrap()]).err,
        format!("chaosfs: {refusal}\n")
    );
}

#[test]
fn the_log_of_operations_has_paths_and_its_lines_are_in_order() {
    let sandbox = mounted(&["--debug", "--write-delay", "0..3ms", "--rename-delay", "0..3ms"]);
    thread::scope(|scope| {
        for worker in 0..4 {
            let folder = sandbox.path("a");
            scope.spawn(move || {
                for number in 0..40 {
                    let (path, moved) = (
                        folder.join(format!("{worker}-{number}")),
                        folder.join(format!("m{worker}-{number}")),
                    );
                    fs::write(&path, "text").unwrap();
                    fs::rename(&path, &moved).unwrap();
                    fs::remove_file(&moved).unwrap();
                }
            });
        }
    });
    done(&sandbox, &["flush", "a"]);
    let log = sandbox.log("a");
    let landed = |verb: &str| {
        log.lines()
            .filter(|line| line.contains(&format!(" event=landed mutation={verb} path=")))
            .collect::<Vec<_>>()
    };
    let (moved, removed) = (landed("rename"), landed("unlink"));
    assert_eq!((moved.len(), removed.len()), (160, 160));
    assert!(moved.iter().chain(&removed).all(|line| line.contains(" path=/m")), "{moved:?} {removed:?}");
    let times: Vec<f64> = log
        .lines()
        .map(|line| line.split(" t=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted());
}
