//! Who may import whom, and what stays at the edge: read from the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each module of the library and the modules it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // A mount that was given no seed draws one.
    ("mount", &["fuse", "client", "event", "knobs", "clock", "dice", "error", "terms"]),
    ("harness", &["mount"]),
    ("fuse", &["client", "backing", "error"]),
    (
        "client",
        &[
            "consistency",
            "fault",
            "dice",
            "backing",
            "event",
            "knobs",
            "clock",
            "time",
            "hashing",
            "error",
            "operation",
            "terms",
        ],
    ),
    ("consistency", &["time", "hashing"]),
    // A rule says with which error an operation fails.
    ("fault", &["dice", "error", "operation"]),
    ("backing", &["hashing", "error"]),
    ("event", &["clock", "time", "error", "operation"]),
    ("knobs", &["consistency", "operation", "time", "error"]),
    ("dice", &["time"]),
    ("clock", &["time"]),
    ("time", &[]),
    ("hashing", &[]),
    ("error", &[]),
    ("operation", &[]),
    ("terms", &[]),
];

/// Where each crate with a say in how the outside is reached may be named: files, or folders ending in `/`.
const STAYS_IN: &[(&[&str], &[&str])] = &[
    (&["fuser"], &["fuse/", "mount/"]),
    (&["libc", "nix"], &["backing/sys.rs", "backing/flags.rs", "clock.rs", "mount/", "bin/"]),
    (&["rustix"], &["mount/attach.rs", "mount/lock.rs", "bin/"]),
    // What a client tells about itself is what the control socket says.
    (
        &["serde"],
        &[
            "knobs/json.rs",
            "knobs/profiles/text.rs",
            "knobs/profiles/options.rs",
            "client/status.rs",
            "mount/protocol.rs",
        ],
    ),
    (
        &["serde_json"],
        &["mount/dialogue.rs", "mount/protocol.rs", "bin/chaosfs/status.rs", "bin/chaosfs/profiles.rs"],
    ),
    (
        &["tempfile"],
        &[
            "mount/clients.rs",
            "client/bench.rs",
            "client/steer/tests.rs",
            "backing/inode_table/tests.rs",
            "knobs/profiles/tests.rs",
        ],
    ),
    (&["rand", "rand_chacha", "rand_core"], &["dice.rs"]),
    (FOR_THE_COMMAND, &["bin/"]),
];

/// What only the command line needs: behind the feature `cli`, so that a test that mounts clients builds without it.
const FOR_THE_COMMAND: &[&str] = &[
    "clap",
    "clap_complete",
    "clap_mangen",
    "shlex",
    "strsim",
    "anyhow",
    "daemonize",
    "fork",
    "tracing_subscriber",
    "tracing_appender",
];

/// What the pure middle must not name.
const IMPURE: &[&str] = &[
    "fs",
    "io",
    "net",
    "process",
    "env",
    "thread",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "Barrier",
    "atomic",
    "mpsc",
    "println",
    "eprintln",
    "tracing",
];

pub struct Source {
    /// Below `src/`.
    pub path: String,
    /// Without comments and unit tests.
    pub code: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn lies_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || place.ends_with('/') && self.path.starts_with(place))
    }

    fn words(&self) -> BTreeSet<&str> {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
    }

    /// Whether a crate is named: `nix::`, `use nix;`.
    fn names_crate(&self, name: &str) -> bool {
        self.code.match_indices(name).any(|(at, _)| {
            let before = self.code[..at].chars().next_back().unwrap_or(' ');
            let after = &self.code[at + name.len()..];
            let path =
                after.starts_with("::") || (after.starts_with(';') && self.code[..at].ends_with("use "));
            path && !before.is_alphanumeric() && before != '_' && before != ':'
        })
    }

    /// The modules behind every `crate::` path, those in braces too.
    fn imports(&self) -> BTreeSet<&str> {
        let paths = self.code.match_indices("crate::").map(|(at, found)| &self.code[at + found.len()..]);
        paths.flat_map(|rest| rest.strip_prefix('{').map_or_else(|| vec![first_word(rest)], heads)).collect()
    }
}

pub fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first word of each item of a `use` group whose opening brace has been read.
fn heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(first_word(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|word| !word.is_empty());
    found
}

fn code_of(text: &str) -> String {
    // One that has a file of its own is no end of this one.
    let is_here = |at: usize| text[at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let end = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(|at| is_here(*at));
    let text = &text[..end.unwrap_or(text.len())];
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_string() + "\n";
    text.lines().map(without_comment).collect()
}

fn read_below(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the sources are there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_below(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it is below").to_str().expect("UTF-8").to_string();
            let code = code_of(&fs::read_to_string(&path).expect("a source"));
            sources.push(Source { path: name, code });
        }
    }
}

pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read_below(&root, &root, &mut sources);
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

#[track_caller]
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.lies_in(&["lib.rs", "bin/"])) {
        let module = source.module();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            broken.push(format!(
                "src/{}: module `{module}` is not in the table of who may import whom",
                source.path
            ));
            continue;
        };
        let wrong =
            source.imports().into_iter().filter(|import| *import != module && !allowed.contains(import));
        broken
            .extend(wrong.map(|import| format!("src/{}: `{module}` may not import `{import}`", source.path)));
    }
    assert_none(&broken);
}

#[test]
fn no_module_reaches_the_others_by_super() {
    let climbs = |source: &Source| {
        let is_top = !source.path.contains('/') || source.path.ends_with("/mod.rs");
        source.code.contains(if is_top { "super::" } else { "super::super::" })
    };
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !source.lies_in(&["bin/"]) && climbs(source))
        .map(|source| format!("src/{}: `super::` leads out of its module; write `crate::`", source.path))
        .collect();
    assert_none(&broken);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| source.words().contains("unsafe") && source.path != "backing/sys.rs")
        .map(|source| format!("src/{}: `unsafe` belongs in src/backing/sys.rs", source.path))
        .collect();
    assert_none(&broken);
}

/// Who writes to standard output or standard error by itself, and why it may.
const SPEAKS: &[&str] = &[
    // Makes everything printable.
    "bin/chaosfs/voice.rs",
    // What the commands of a run write, as they write it.
    "bin/chaosfs/run/output.rs",
    "bin/chaosfs/run/command.rs",
    // The log, whose values are quoted, and generated pages.
    "bin/chaosfs/logging.rs",
    "bin/chaosfs/pages.rs",
    // A test's own block about its clients, made printable.
    "mount/failure.rs",
];

#[test]
fn nothing_is_printed_but_by_who_makes_it_printable() {
    const PRINTS: [&str; 6] = ["println!", "eprintln!", "print!", "eprint!", "stdout().", "stderr()."];
    let asks_only = |code: &str| code.replace("stdout().is_terminal()", "").replace("use_stderr()", "");
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !source.lies_in(SPEAKS))
        .flat_map(|source| {
            let code = asks_only(&source.code);
            let written = |print: &&&str| code.contains(**print) || code.contains("(io::std");
            let found = PRINTS.iter().find(written);
            found.map(|print| format!("src/{}: `{print}` belongs in bin/chaosfs/voice.rs", source.path))
        })
        .collect();
    assert_none(&broken);
    let voiced =
        sources().into_iter().filter(|source| source.lies_in(&["bin/chaosfs/voice.rs", "mount/failure.rs"]));
    assert!(voiced.map(|source| source.code).all(|code| code.contains("Printable(")));
}

#[test]
fn each_crate_of_the_edge_stays_in_its_files() {
    let sources = sources();
    let mut broken = Vec::new();
    for (crates, places) in STAYS_IN {
        for name in *crates {
            let strangers =
                sources.iter().filter(|source| source.names_crate(name) && !source.lies_in(places));
            broken
                .extend(strangers.map(|source| format!("src/{}: `{name}` stays in {places:?}", source.path)));
        }
    }
    assert_none(&broken);
}

/// The crates that are built with the library, by their names in code.
fn dependencies(more: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]).args(more);
    let tree = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo is there");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).expect("cargo speaks UTF-8");
    lines.lines().filter_map(|line| Some(line.split(' ').next()?.replace('-', "_"))).collect()
}

#[test]
fn the_library_alone_builds_without_what_only_the_command_needs() {
    let of_the_command = |more: &[&str]| {
        let mut all = dependencies(more);
        all.retain(|name| FOR_THE_COMMAND.contains(&name.as_str()));
        all
    };
    assert!(of_the_command(&[]).contains("clap"));
    assert_eq!(of_the_command(&["--no-default-features"]), BTreeSet::new());
}

#[test]
fn the_consistency_core_is_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "consistency") {
        let words = source.words();
        let found = IMPURE.iter().filter(|word| words.contains(*word));
        broken.extend(found.map(|word| format!("src/{}: `{word}` in the pure middle", source.path)));
    }
    assert_none(&broken);
}

#[test]
fn the_reader_of_sources_sees_groups_comments_and_tests() {
    let text = "use crate::{\n    a::{b, c::d},\n    e,\n};\n// crate::no\nlet x = crate::f::g();\n\
                #[cfg(test)]\nmod elsewhere;\nuse crate::h;\n\
                #[cfg(test)]\nmod tests {\nuse crate::hidden;\n}\nuse nixie::x;\n";
    let source = Source { path: "m.rs".to_string(), code: code_of(text) };
    assert_eq!(source.imports().into_iter().collect::<Vec<_>>(), ["a", "e", "f", "h"]);
    assert_eq!(source.module(), "m");
    let source =
        Source { path: "m.rs".to_string(), code: "use nix::a;\nuse nixie::b; my_libc::c".to_string() };
    assert!(source.names_crate("nix") && !source.names_crate("libc"));
}
