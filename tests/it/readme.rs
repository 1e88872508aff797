//! What README.md says: its commands run and print what it says they print, and it leaves no flag and no event out.
//!
//! A block marked `sh run` is run by bash in an empty folder; a block marked `text output` right after it is what it
//! prints.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command, process::Stdio};

use crate::sandbox::CHAOSFS;

/// How long a block may take, in seconds.
const PATIENCE: &str = "60";

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block: what its fence says, its text, and the line it starts on.
#[derive(Debug)]
struct Block {
    mark: String,
    text: String,
    line: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(mark), None) => {
                open = Some(Block { mark: mark.to_string(), text: String::new(), line: index + 1 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is never closed: {open:?}");
    blocks
}

/// Runs a block in a folder of its own and returns what is wrong with it.
fn complaint(block: &Block, expected: Option<&Block>) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path().canonicalize().expect("the folder is there");
    let mut path = Path::new(CHAOSFS).parent().expect("the binary lies in a folder").as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "bash", "-euo", "pipefail", "-c", &block.text]);
    command.env_clear().env("PATH", path).current_dir(&here).stdin(Stdio::null());
    let output = command.output().expect("bash and timeout are there");

    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let left: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|mountpoint| Path::new(mountpoint).starts_with(&here))
        .collect();
    for mountpoint in &left {
        let _ = Command::new(CHAOSFS).args(["umount", "-m", mountpoint]).output();
    }
    let wrong = if !output.status.success() {
        format!("it failed with {}", output.status)
    } else if !err.is_empty() {
        "it wrote to standard error".to_string()
    } else if !left.is_empty() {
        format!("it leaves mounts behind: {left:?}")
    } else if expected.is_some_and(|expected| expected.text != out) {
        format!("it prints something else than is written under it:\n{}", expected?.text)
    } else {
        return None;
    };
    Some(format!(
        "README.md line {}: {wrong}\n--- block\n{}--- out\n{out}--- err\n{err}",
        block.line, block.text
    ))
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let text = read("README.md");
    let blocks = blocks(&text);
    let is_output = |block: &&Block| block.mark == "text output";
    let runs: Vec<_> = blocks.iter().enumerate().filter(|(_, block)| block.mark == "sh run").collect();
    assert!(runs.len() >= 3, "README.md has lost its runnable blocks: {blocks:?}");
    let complaints: Vec<_> = runs
        .iter()
        .filter_map(|(index, block)| complaint(block, blocks.get(index + 1).filter(is_output)))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_two_commands_of_the_readme_start_with_what_is_there() {
    let text = read("README.md");
    let first_words: Vec<_> =
        blocks(&text).into_iter().filter(|block| block.text.starts_with("./setup ")).collect();
    assert_eq!(first_words.len(), 2, "{first_words:?}");
    for name in ["setup", "demo/timeline.sh", "demo/run-all", ".ci/run"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let mode = fs::metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}")).permissions().mode();
        assert!(mode & 0o111 != 0, "{name} is not executable");
    }
}

#[test]
fn the_readme_knows_every_flag_variable_and_event() {
    let (text, events) = (read("README.md"), read("src/event.rs"));
    let help =
        ["mount", "run"].map(|command| read(&format!("tests/it/snapshots/{command}-help.txt"))).concat();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags = flags.filter_map(|line| line.split([' ', '[']).next()).map(|flag| format!("| `--{flag}` |"));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(']').next());
    let variables = variables.map(|variable| format!("| `{variable}` |"));
    let events = events.split("\"event=").skip(1).filter_map(|rest| rest.split([' ', '"']).next());
    let events = events.map(|event| format!(" event={event} "));
    // An event without data ends its line.
    let text = text.replace('\n', " \n");
    let missing: Vec<_> =
        flags.chain(variables).chain(events).filter(|wanted| !text.contains(wanted)).collect();
    assert!(missing.is_empty(), "README.md says nothing about {missing:?}");
}
