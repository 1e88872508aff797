//! The layers of `src/client/`, and how long a file may be: read from the sources.
//!
//! The modules of a client are parts of one type, so their imports do not tell who leans on whom. The calls do: a method
//! of [`Client`](chaosfs::client::Client) may call those of its own layer and of the layers below.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{Source, first_word, sources};

/// From the bottom to the top: the modules of each layer, and what it knows.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "the state and its lock",
        &["mod", "state", "records", "waits", "progress", "losses", "open_files", "lending", "journal"],
    ),
    ("where inodes are", &["whereabouts"]),
    ("descriptors on the backing directory", &["descriptors"]),
    ("carrying changes out there", &["store"]),
    ("landing, and who keeps inodes for how long", &["lander", "endings", "known", "lingering", "tidying"]),
    ("when a change gets there", &["changes", "sync"]),
    ("what is seen", &["view", "asking", "setid"]),
    ("the life of a call", &["call"]),
    ("operations", &["file_io", "namespace", "xattr", "locks"]),
    ("people", &["steer", "status"]),
];

/// No file is longer, its unit tests aside.
const LONGEST: usize = 450;

/// But for these.
const LONGER: &[(&str, &str)] = &[
    ("backing/sys.rs", "every system call, and all `unsafe`, is in one file that can be reviewed as one"),
    ("consistency/histories/inquiries.rs", "one model and the histories that it judges"),
    ("consistency/histories/world.rs", "one model"),
    ("client/tried_again.rs", "one story, step by step"),
];

/// Unit tests with a file of their own aside.
fn product() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| !source.path.ends_with("/tests.rs"))
}

/// The code of each module of a client.
fn modules() -> BTreeMap<String, String> {
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for source in product() {
        let Some(inner) = source.path.strip_prefix("client/") else { continue };
        let module = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if ["bench", "failures", "tried_again"].contains(&module) {
            continue;
        }
        *modules.entry(module.to_string()).or_default() += &source.code;
    }
    modules
}

/// The methods of a client that a module defines.
fn methods(code: &str) -> BTreeSet<&str> {
    let blocks =
        code.split("\nimpl Client {\n").skip(1).map(|rest| rest.split("\n}\n").next().unwrap_or_default());
    blocks.flat_map(|block| block.split(" fn ").skip(1)).map(first_word).collect()
}

/// The methods that a module calls on a client.
fn calls(code: &str) -> BTreeSet<&str> {
    let code = &code;
    let receivers = ["self", "client", "later"];
    let on = |receiver: &str| {
        let dots = code.match_indices(receiver).map(|(at, found)| &code[at + found.len()..]);
        let methods = dots.filter_map(|rest| rest.trim_start().strip_prefix('.'));
        let methods =
            methods.filter(|rest| rest[first_word(rest).len()..].starts_with(['(', ':'])).map(first_word);
        methods.collect::<Vec<_>>()
    };
    receivers.into_iter().flat_map(on).collect()
}

fn layer_of(module: &str) -> usize {
    let layer = LAYERS.iter().position(|(_, modules)| modules.contains(&module));
    layer.unwrap_or_else(|| panic!("client/{module} is in no layer: say in {} where it belongs", file!()))
}

#[test]
fn a_client_calls_only_downwards() {
    let modules = modules();
    let mut home: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (module, code) in &modules {
        methods(code).into_iter().for_each(|method| home.entry(method).or_default().push(module));
    }
    assert!(home.len() > 150, "the methods are found: {}", home.len());
    let mut upwards = Vec::new();
    for (module, code) in &modules {
        for call in calls(code) {
            // A name that several modules give tells nothing, nor does one that this module gives itself.
            if code.contains(&format!(" fn {call}(")) {
                continue;
            }
            let [callee] = home.get(call).map_or(&[] as &[&str], Vec::as_slice) else { continue };
            if layer_of(callee) > layer_of(module) {
                upwards.push(format!("{module} calls {call} of {callee}"));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
    let named: BTreeSet<&str> = LAYERS.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    assert!(named.iter().all(|module| modules.contains_key(*module)), "the layers name what there is not");
}

#[test]
fn no_file_is_long_without_a_reason() {
    let long: Vec<String> = product()
        .filter(|source| !LONGER.iter().any(|(path, _)| source.path == *path))
        .map(|source| (source.code.lines().count(), source.path))
        .filter(|(length, _)| *length > LONGEST)
        .map(|(length, path)| format!("{path}: {length} lines"))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:#?}");
}

#[test]
fn functions_are_short() {
    const LONGEST: usize = 60;
    let mut long = Vec::new();
    let mut lengths = Vec::new();
    for source in product() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let head = line.trim_start();
            let is_function = head.starts_with("fn ") || head.starts_with("pub") && head.contains(" fn ");
            let end = format!("{}}}", &line[..line.len() - head.len()]);
            let Some(length) = lines[start..].iter().position(|line| *line == end).filter(|_| is_function)
            else {
                continue;
            };
            lengths.push(length + 1);
            if length + 1 > LONGEST {
                long.push(format!("{} at line {}: {} lines", source.path, start + 1, length + 1));
            }
        }
    }
    lengths.sort_unstable();
    assert!(lengths[lengths.len() * 9 / 10] <= 20, "nine in ten have at most 20 lines");
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:#?}");
}
