//! Odd requests on the control socket, and odd names on two clients that are steered meanwhile. Run for
//! `TEST_LOAD_SECONDS` (default 3).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use chaosfs::{RemoteClient, event::readable};
use serde_json::Value;

use crate::{
    draws::{Draws, load_seconds},
    sandbox::{Sandbox, run},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What changes into odd requests: no `farewell`, which is answered when the client has ended.
const REQUESTS: [&str; 13] = [
    r#"{"do":"status"}"#,
    r#"{"do":"set","knobs":{"write_delay":"200ms","meta_ttl":0}}"#,
    r#"{"do":"set","knobs":{"drop_prob":1e400,"max_mutations":-1,"read_your_writes":"maybe"}}"#,
    r#"{"do":"hold"}"#,
    r#"{"do":"release"}"#,
    r#"{"do":"flush"}"#,
    r#"{"do":"expire","extra":[{}]}"#,
    r#"{"do":"lose"}"#,
    r#"{"do":"advance","by":"1.5s"}"#,
    r#"{"do":"advance","by_ns":18446744073709551615}"#,
    r#"{"do":["status"],"do":null}"#,
    r#"{"do":"sta\u001btus\r\n"}"#,
    r#"[[[[[[[[{"do":"\u0000\ud800"}]]]]]]]]"#,
];

/// Bytes that mean something in JSON, to a terminal or to a reader of lines.
const ODD_BYTES: [u8; 16] =
    [0, b'\n', b'\r', b'"', b'\\', b'{', b'}', b'[', b']', b':', b',', b'0', b'-', 0x1b, 0xc3, 0xff];

fn odd_request(draws: &mut Draws) -> Vec<u8> {
    let mut request = draws.of(&REQUESTS).as_bytes().to_vec();
    for _ in 0..draws.below(4) {
        let at = draws.below(request.len() as u64 + 1) as usize;
        match draws.below(5) {
            0 => request.insert(at, draws.of(&ODD_BYTES)),
            1 => request.truncate(at),
            2 => request.extend_from_within(..at),
            3 => drop(request.drain(at / 2..at)),
            _ => request.splice(at..at, b"[{".repeat(draws.below(2000) as usize)).for_each(drop),
        }
    }
    if draws.below(50) == 0 {
        request.resize(60_000 + draws.below(10_000) as usize, b' ');
    }
    if draws.below(8) != 0 {
        request.push(b'\n');
    }
    request
}

/// Says all of it on one connection, and returns the answers.
fn converse(mut stream: UnixStream, said: &[u8]) -> Vec<Value> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The daemon may have hung up on what is too long.
    let _ = stream.write_all(said);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    for line in BufReader::new(stream).split(b'\n') {
        match line {
            Ok(line) => {
                answers.push(serde_json::from_slice(&line).expect("an answer is one JSON object a line"))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(said)),
        }
    }
    answers
}

fn check_answer(answer: &Value, said: &[u8]) {
    let context = || format!("{answer} to {:?}", String::from_utf8_lossy(said));
    match answer["ok"].as_bool() {
        Some(true) => assert_eq!(answer["error"], Value::Null, "{}", context()),
        Some(false) => {
            let error = answer["error"].as_str().unwrap_or_else(|| panic!("{}", context()));
            assert!(!error.is_empty() && !error.contains(char::is_control), "{}", context());
        }
        None => panic!("{}", context()),
    }
}

#[test]
fn odd_requests_get_one_answer_each_and_harm_nobody() {
    let sandbox = Sandbox::for_mounting();
    assert_eq!(sandbox.mount("a", &["--clock", "manual"]).code, Some(0));
    let end = Instant::now() + Duration::from_secs(load_seconds(3));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let mut draws = Draws(0x5eed_0000 + thread);
                while Instant::now() < end {
                    let said: Vec<u8> = (0..=draws.below(6)).flat_map(|_| odd_request(&mut draws)).collect();
                    let answers = converse(sandbox.connect("a"), &said);
                    let lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
                    let empty = said.split(|byte| *byte == b'\n').count() - lines;
                    assert!(
                        (said.is_empty() || !answers.is_empty()) && answers.len() <= lines + empty,
                        "{answers:?} to {said:?}"
                    );
                    answers.iter().for_each(|answer| check_answer(answer, &said));
                }
            });
        }
    });
    // It still works, and so does what it is for.
    let knobs = ["set", "a", "write_delay=0", "rename_delay=0", "drop_prob=0", "meta_ttl=0"];
    assert_eq!(run(&mut sandbox.chaosfs(&["release", "a"])).code, Some(0));
    assert_eq!(run(&mut sandbox.chaosfs(&knobs)).code, Some(0));
    fs::write(sandbox.path("a/file"), "text").unwrap();
    assert_eq!(fs::read_to_string(sandbox.path("shared/file")).unwrap(), "text");
    assert_eq!(run(&mut sandbox.chaosfs(&["umount", "a"])).code, Some(0));
    assert!(!sandbox.log("a").contains("panicked"));
}

/// Names that somebody who prints, splits or quotes them may get wrong.
fn odd_names() -> Vec<Vec<u8>> {
    let long = "n".repeat(255);
    let names: [&[u8]; 16] = [
        b"plain",
        b"two\nlines",
        b"\x1b[31mred",
        b"\xff\xfe",
        b" ",
        b"-rf",
        b"...",
        b"..x",
        b"a\tb",
        b"\\x41",
        b"\"quoted\": ",
        "\u{2028}\u{202e}".as_bytes(),
        b"$(id)`id`%s",
        b"a: write",
        long.as_bytes(),
        b"*?[",
    ];
    names.map(<[u8]>::to_vec).to_vec()
}

/// Every odd name in a directory of every odd name.
fn odd_paths() -> Vec<PathBuf> {
    let names = odd_names();
    let below = |first: &Vec<u8>| Path::new("folder ").join(OsStr::from_bytes(first));
    names
        .iter()
        .flat_map(|first| names.iter().map(move |name| below(first).join(OsStr::from_bytes(name))))
        .collect()
}

/// One program with a tree of its own on one client, and what that holds after every call that was a success.
struct Owner {
    tree: PathBuf,
    draws: Draws,
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// From where to where, since everything was last in the backing directory.
    moves: Vec<(PathBuf, PathBuf)>,
}

impl Owner {
    fn new(tree: PathBuf, seed: u64) -> Owner {
        let paths = odd_paths();
        for path in &paths {
            fs::create_dir_all(tree.join(path.parent().unwrap())).unwrap();
        }
        Owner { tree, draws: Draws(seed), paths, files: BTreeMap::new(), moves: Vec::new() }
    }

    /// One call, which nobody else can get in the way of.
    fn step(&mut self) {
        let (path, other) = (self.draws.of(&self.paths), self.draws.of(&self.paths));
        let (at, to) = (self.tree.join(&path), self.tree.join(&other));
        let data = vec![b'a' + self.draws.below(26) as u8; self.draws.below(5000) as usize];
        let is_there = self.files.contains_key(&path);
        match self.draws.below(6) {
            0 | 1 => {
                fs::write(&at, &data).unwrap_or_else(|error| panic!("{at:?}: {error}"));
                self.files.insert(path, data);
            }
            2 => {
                let mut file = OpenOptions::new().append(true).create(true).open(&at).unwrap();
                file.write_all(&data).unwrap();
                self.files.entry(path).or_default().extend_from_slice(&data);
            }
            3 if is_there && path != other => {
                fs::rename(&at, &to).unwrap_or_else(|error| panic!("{at:?} -> {to:?}: {error}"));
                let content = self.files.remove(&path).unwrap();
                self.files.insert(other.clone(), content);
                self.moves.push((path, other));
            }
            4 => {
                assert_eq!(fs::remove_file(&at).is_ok(), is_there, "{at:?}");
                self.files.remove(&path);
            }
            _ => {
                let mut content = Vec::new();
                let read = fs::File::open(&at).and_then(|mut file| file.read_to_end(&mut content));
                assert_eq!(
                    (read.is_ok(), &content),
                    (is_there, self.files.get(&path).unwrap_or(&Vec::new())),
                    "{at:?}"
                );
            }
        }
    }

    /// The paths below `root` that do not hold what this program was told they do.
    fn wrong_in(&self, root: &Path) -> BTreeSet<PathBuf> {
        let is_wrong = |path: &&PathBuf| fs::read(root.join(path)).ok().as_ref() != self.files.get(*path);
        self.paths.iter().filter(is_wrong).cloned().collect()
    }

    /// Everything that was moved to or from one of these paths, directly or not.
    fn related(&self, path: &Path) -> BTreeSet<PathBuf> {
        let mut related = BTreeSet::from([path.to_path_buf()]);
        loop {
            let size = related.len();
            for (from, to) in &self.moves {
                if related.contains(from) || related.contains(to) {
                    related.extend([from.clone(), to.clone()]);
                }
            }
            if related.len() == size {
                return related;
            }
        }
    }

    /// Goes on from what is there.
    fn resume_from(&mut self, root: &Path) {
        self.moves.clear();
        let there = |path: &PathBuf| Some((path.clone(), fs::read(root.join(path)).ok()?));
        self.files = self.paths.iter().filter_map(there).collect();
    }
}

/// Steers both clients in ways that no program may notice in its own tree.
fn steer(sandbox: &Sandbox, seed: u64, is_over: &AtomicBool) {
    let mut draws = Draws(seed);
    while !is_over.load(Ordering::SeqCst) {
        let mut client = RemoteClient::at(&sandbox.path(draws.of(&["a", "b"]))).expect("it is mounted");
        let done = match draws.below(6) {
            0 => client.hold(),
            1 => client.release(),
            2 => client.flush().map(drop),
            3 => client.expire(),
            4 => {
                let delay = format!("0ms..{}ms", draws.below(60));
                client.set(&[("write_delay".into(), delay.clone()), ("rename_delay".into(), delay)])
            }
            _ => client.set(&[("meta_ttl".into(), format!("{}ms", draws.below(300)))]),
        };
        done.unwrap_or_else(|refusal| panic!("{refusal}"));
        thread::sleep(Duration::from_millis(draws.below(20)));
    }
}

fn work(sandbox: &Sandbox, owners: &mut [Owner], span: Duration, seed: u64) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let steering = scope.spawn(|| steer(sandbox, seed, &is_over));
        let end = Instant::now() + span;
        let working = owners.iter_mut().map(|owner| {
            scope.spawn(move || {
                while Instant::now() < end {
                    owner.step();
                }
            })
        });
        let working: Vec<_> = working.collect();
        let outcomes: Vec<_> = working.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        steering.join().expect("steering works");
        outcomes.into_iter().for_each(|outcome| outcome.expect("a program goes on"));
    });
}

fn each_client(sandbox: &Sandbox, act: impl Fn(&mut RemoteClient)) {
    for name in ["a", "b"] {
        act(&mut RemoteClient::at(&sandbox.path(name)).expect("it is mounted"));
    }
}

#[test]
fn odd_names_keep_what_their_program_was_told_while_clients_are_steered() {
    let sandbox = Sandbox::for_mounting();
    for client in ["a", "b"] {
        assert_eq!(sandbox.mount(client, &["--seed", "5"]).code, Some(0));
    }
    let trees = [("a", "one"), ("a", "other"), ("b", "three")];
    let mut owners: Vec<Owner> = (trees.iter().zip(1..))
        .map(|((client, tree), seed)| Owner::new(sandbox.path(client).join(tree), 0x0dd0_0000 + seed))
        .collect();
    let store = |tree: &str| sandbox.path("shared").join(tree);
    let rounds = load_seconds(3).max(2);
    for round in 0..rounds {
        work(&sandbox, &mut owners, Duration::from_millis(700), 77 + round);
        each_client(&sandbox, |client| {
            client.release().and_then(|()| client.flush()).map(drop).expect("it lands")
        });
        each_client(&sandbox, |client| client.expire().expect("it asks anew"));
        for (owner, (_, tree)) in owners.iter().zip(trees) {
            for seen in ["shared", "a", "b"] {
                let wrong = owner.wrong_in(&sandbox.path(seen).join(tree));
                assert_eq!(wrong, BTreeSet::new(), "{tree} in {seen} in round {round}");
            }
        }
        owners.iter_mut().for_each(|owner| owner.moves.clear());

        // What is lost is named, and nothing else is lost.
        each_client(&sandbox, |client| client.hold().expect("it holds"));
        owners.iter_mut().for_each(|owner| (0..40).for_each(|_| owner.step()));
        let mut named = Vec::new();
        for name in ["a", "b"] {
            named.extend(
                RemoteClient::at(&sandbox.path(name))
                    .and_then(|mut client| client.lose())
                    .expect("it loses")
                    .1,
            );
        }
        for (owner, (_, tree)) in owners.iter_mut().zip(trees) {
            for wrong in owner.wrong_in(&store(tree)) {
                let is_named = owner.related(&wrong).iter().any(|path| {
                    let path = readable(Path::new("/").join(tree).join(path).as_os_str().as_bytes());
                    named.iter().any(|line| line.starts_with(&format!("{path}: ")))
                });
                assert!(is_named, "{tree}/{wrong:?} is not among {named:#?}");
            }
            owner.resume_from(&store(tree));
        }
        each_client(&sandbox, |client| client.release().and_then(|()| client.expire()).expect("it goes on"));
    }
    for client in ["a", "b"] {
        let said = run(&mut sandbox.chaosfs(&["umount", client]));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    }
}
