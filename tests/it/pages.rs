//! What README.md and the pages in `docs/` say: their commands run and print what they say they print, their links lead
//! somewhere, and they leave no flag and no event out.
//!
//! A block marked `sh run` is run by bash in an empty folder; a block marked `text output` right after it is what it
//! must print.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::sandbox::CHAOSFS;

/// How long a block may take, in seconds.
const PATIENCE: &str = "60";

fn in_project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    let path = in_project(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of README.md and all pages in `docs/`.
fn pages() -> Vec<String> {
    let names = fs::read_dir(in_project("docs")).expect("there is a folder docs");
    let names = names.map(|entry| entry.expect("a name").file_name().into_string().expect("a plain name"));
    let mut pages: Vec<_> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    pages.sort();
    pages.insert(0, "README.md".to_string());
    pages
}

fn all_pages() -> String {
    pages().iter().map(|page| read(page)).collect()
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
fn complaint(page: &str, block: &Block, expected: Option<&Block>) -> Option<String> {
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
        "{page} line {}: {wrong}\n--- block\n{}--- out\n{out}--- err\n{err}",
        block.line, block.text
    ))
}

#[test]
fn the_commands_of_all_pages_do_what_they_say() {
    let mut complaints = Vec::new();
    let mut runs = 0;
    for page in pages() {
        let blocks = blocks(&read(&page));
        for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.mark == "sh run") {
            let output = blocks.get(index + 1).filter(|block| block.mark == "text output");
            complaints.extend(complaint(&page, block, output));
            runs += 1;
        }
    }
    assert!(runs >= 9, "the pages have lost their runnable blocks: {runs} are left");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The rest are read here by their fences; blocks in Rust are documentation tests, blocks in Python are tests of the
/// package, and blocks for containers are run by `.ci/containers`.
#[test]
fn every_block_is_marked_for_what_it_is() {
    const MARKS: [&str; 12] = [
        "sh run",
        "sh containers",
        "yaml containers",
        "dockerfile containers",
        "text output",
        "sh",
        "text",
        "rust",
        "toml",
        "python",
        "yaml",
        "json",
    ];
    for page in pages() {
        for block in blocks(&read(&page)) {
            let (mark, line) = (block.mark.as_str(), block.line);
            assert!(MARKS.contains(&mark), "{page} line {line}: a block is marked `{mark}`");
        }
    }
    let tested = read("src/lib.rs");
    for page in pages().iter().filter(|page| read(page).contains("\n```rust\n")) {
        let included = format!("include_str!(\"../{page}\")");
        assert!(tested.contains(&included), "src/lib.rs does not test what {page} says in Rust");
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                in_project(&page)
            } else {
                in_project(&page).with_file_name("").join(path)
            };
            let has_anchor = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                anchor.is_empty() || headings.any(|heading| anchor_of(heading) == anchor)
            };
            if !target.exists() || !has_anchor() {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// The anchor that web pages give a heading.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_readme_can_be_read_in_five_minutes_and_leads_to_every_page() {
    let text = read("README.md");
    assert!(text.lines().count() <= 210, "README.md has {} lines", text.lines().count());
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| page != "README.md" && !text.contains(&format!("({page})")))
        .collect();
    assert!(missing.is_empty(), "README.md does not lead to {missing:?}");
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
fn the_pages_know_every_flag_variable_and_event() {
    let (text, events) = (all_pages(), read("src/event.rs"));
    let help =
        ["mount", "run"].map(|command| read(&format!("tests/it/snapshots/{command}-help.txt"))).concat();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    // A line that is broken within `[default: that of --meta-ttl]` begins like a flag.
    let flags = flags.filter_map(|line| line.split([' ', '[']).next()).filter(|flag| !flag.ends_with(']'));
    let flags = flags.map(|flag| format!("| `--{flag}` |"));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(']').next());
    let variables = variables.map(|variable| format!("| `{variable}` |"));
    let events = events.split("\"event=").skip(1).filter_map(|rest| rest.split([' ', '"']).next());
    let events = events.map(|event| format!(" event={event} "));
    // An event without data ends its line.
    let text = text.replace('\n', " \n");
    let missing: Vec<_> =
        flags.chain(variables).chain(events).filter(|wanted| !text.contains(wanted)).collect();
    assert!(missing.is_empty(), "the pages say nothing about {missing:?}");
}
