//! What other programs may use of the library: every public item that is documented, read from the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::cli::assert_snapshot;

/// The names that `lib.rs` gives out.
fn exported(lib: &str) -> BTreeSet<String> {
    let uses = lib.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let names = uses.flat_map(|path| {
        let group = path.split_once('{').map(|(_, group)| group.trim_end_matches('}'));
        let single = path.rsplit("::").next().unwrap_or(path);
        group.unwrap_or(single).split(',').map(|name| name.trim().to_string()).collect::<Vec<_>>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the sources are there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A declaration up to its body, in one line.
fn head(text: &str) -> String {
    let ends = [text.find(";\n"), text.find('{')];
    let end = ends.into_iter().flatten().min().unwrap_or(text.len());
    let head = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    head.replace("( ", "(").replace(", )", ")").replace(" = self", "self")
}

/// The name that a declaration is of.
fn name_of(head: &str) -> &str {
    let word = |text: &'static str| head.split_once(text).map(|(_, rest)| rest);
    let rest =
        [" fn ", " struct ", " enum ", " trait ", " type "].into_iter().find_map(word).unwrap_or_default();
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

/// The list of knobs as the struct that it becomes.
fn without_macro(text: &str) -> String {
    let Some((before, rest)) = text.split_once("crate::knobs! {\n") else { return text.to_string() };
    let (list, after) = rest.split_once("\n}\n").unwrap_or((rest, ""));
    let field = |line: &str| match line.split_once(" = ") {
        Some((field, _)) => format!("{field},\n"),
        None => format!("{line}\n"),
    };
    let list: String = list.lines().map(|line| field(line.strip_prefix("    ").unwrap_or(line))).collect();
    format!("{before}{list}{after}")
}

/// The public items and members in one source that belong to an exported name.
fn surface_of(text: &str, exported: &BTreeSet<String>, surface: &mut BTreeSet<String>) {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let text = &without_macro(text);
    let mut owner: Option<String> = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let rest = &text[offset..];
        offset += line.len();
        if !line.starts_with([' ', '}', '\n', '/', '#']) {
            let implemented = line.strip_prefix("impl ").filter(|line| !line.contains(" for "));
            let declared = line.starts_with("pub ").then(|| name_of(&format!(" {}", head(rest))).to_string());
            owner = implemented.map(|line| line.split([' ', '<']).next().unwrap_or_default().to_string());
            if let Some(name) = declared.filter(|name| exported.contains(name)) {
                surface.insert(head(rest));
                owner = Some(name);
            }
        }
        if let (Some(owner), true) = (&owner, line.starts_with("    pub "))
            && exported.contains(owner)
        {
            let member = line.trim().strip_suffix(',').map_or_else(|| head(rest), str::to_string);
            surface.insert(format!("{owner}: {member}"));
        }
    }
}

#[test]
fn the_public_surface_is_as_it_was_reviewed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exported = exported(&fs::read_to_string(root.join("lib.rs")).expect("a source"));
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut surface = BTreeSet::new();
    for file in files.iter().filter(|file| !file.starts_with(root.join("bin"))) {
        // The table of inodes and the consistency core have no part in it, whatever their names.
        let inner = ["consistency", "backing/inode_table.rs", "backing/sys.rs"];
        if !inner.iter().any(|inner| file.starts_with(root.join(inner))) {
            surface_of(&fs::read_to_string(file).expect("a source"), &exported, &mut surface);
        }
    }
    assert!(
        exported.iter().all(|name| surface.iter().any(|item| item.contains(name.as_str()))),
        "{exported:?}"
    );
    let lines: Vec<String> = surface.into_iter().map(|item| item + "\n").collect();
    assert_snapshot("surface.txt", &lines.concat());
}
