//! What can be seen of a tree, whoever looks.

use std::collections::BTreeMap;

use chaosfs::consistency::Kind;

/// All that is seen at one path. What no two file systems agree on is left out: sizes of directories, times that
/// nobody set.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub kind: Kind,
    pub permissions: u32,
    pub links: u32,
    /// Of anything but a directory.
    pub size: Option<u64>,
    pub content: Option<Vec<u8>>,
    pub target: Option<String>,
    /// A modification time that a program set.
    pub mtime: Option<i64>,
}

/// What identifies an inode and tells that it was touched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub ino: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
}

/// A tree by path; the root is the empty path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    pub seen: BTreeMap<String, Seen>,
    pub marks: BTreeMap<String, Mark>,
}

/// Times up to this many seconds were set by a program.
const SET_ON_PURPOSE: i64 = 1_000_000;

pub fn set_on_purpose(seconds: i64) -> Option<i64> {
    (seconds < SET_ON_PURPOSE).then_some(seconds)
}

pub fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_string() } else { format!("{directory}/{name}") }
}

impl Tree {
    /// The paths of all directories, the root first.
    pub fn directories(&self) -> Vec<String> {
        let directories = self.seen.iter().filter(|(_, seen)| seen.kind == Kind::Directory);
        directories.map(|(path, _)| path.clone()).collect()
    }
}

/// Fails with the paths at which two trees differ.
#[track_caller]
pub fn assert_same(whose: &str, seen: &Tree, expected: &Tree) {
    if seen.seen == expected.seen {
        return;
    }
    let paths: std::collections::BTreeSet<&String> = seen.seen.keys().chain(expected.seen.keys()).collect();
    let differ = paths.into_iter().filter(|path| seen.seen.get(*path) != expected.seen.get(*path));
    let lines: Vec<String> = differ
        .map(|path| {
            format!(
                "/{path}\n    seen     {:?}\n    expected {:?}",
                seen.seen.get(path),
                expected.seen.get(path)
            )
        })
        .collect();
    panic!("{whose} does not show what a plain directory shows:\n{}", lines.join("\n"));
}
