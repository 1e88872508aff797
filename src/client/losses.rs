//! Changes that programs were told are done and that are not in the backing directory, told one line a path.

use crate::{
    consistency::Change,
    event::{Quoted, readable_size},
    hashing::HashMap,
};

/// One such change.
#[derive(Clone, Debug)]
pub struct Loss {
    path: String,
    verb: &'static str,
    bytes: u64,
    why: String,
}

impl Loss {
    /// `path` is readable.
    pub fn new(path: &str, change: &Change, why: &str) -> Loss {
        Loss { bytes: change.bytes(), ..Loss::of_name(path, change.verb(), why) }
    }

    /// One that carries no data.
    pub fn of_name(path: &str, verb: &'static str, why: &str) -> Loss {
        Loss { path: Quoted(path).to_string(), verb, bytes: 0, why: why.to_string() }
    }
}

/// One line for each path, in the order in which the paths first occur: what the changes were, how many and how much,
/// and why they are not there.
pub fn by_path(losses: &[Loss]) -> Vec<String> {
    let mut paths: Vec<OfPath> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::default();
    for loss in losses {
        let place = *places.entry(&loss.path).or_insert_with(|| {
            paths.push(OfPath { path: &loss.path, ..OfPath::default() });
            paths.len() - 1
        });
        paths[place].add(loss);
    }
    paths.iter().map(OfPath::line).collect()
}

#[derive(Default)]
struct OfPath<'a> {
    path: &'a str,
    verbs: Vec<&'a str>,
    reasons: Vec<&'a str>,
    changes: u64,
    bytes: u64,
}

impl<'a> OfPath<'a> {
    fn add(&mut self, loss: &'a Loss) {
        let note = |known: &mut Vec<&'a str>, new: &'a str| {
            if !known.contains(&new) {
                known.push(new);
            }
        };
        note(&mut self.verbs, loss.verb);
        note(&mut self.reasons, &loss.why);
        self.changes += 1;
        self.bytes += loss.bytes;
    }

    fn line(&self) -> String {
        let count = (self.changes > 1).then(|| format!("{} changes", self.changes));
        let amount = (self.bytes > 0).then(|| readable_size(self.bytes));
        let extent: Vec<String> = count.into_iter().chain(amount).collect();
        let extent = if extent.is_empty() { String::new() } else { format!(" ({})", extent.join(", ")) };
        format!("{}: {}{extent}: {}", self.path, self.verbs.join(", "), self.reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(length: usize) -> Change {
        Change::Write { ino: 1, offset: 0, data: vec![0; length].into(), clears: 0 }
    }

    #[test]
    fn however_many_changes_of_a_path_are_lost_they_are_one_line() {
        let mut losses = vec![Loss::of_name("/d/f", "create", "no room")];
        losses.extend((0..300).map(|_| Loss::new("/d/f", &write(1024), "no room")));
        losses.push(Loss::new("/a b", &write(5), "given up"));
        losses.push(Loss::of_name("/d/f", "rename", "given up"));
        losses.push(Loss::of_name("/d", "mkdir", "no room"));
        assert_eq!(
            by_path(&losses),
            [
                "/d/f: create, write, rename (302 changes, 300 KiB): no room, given up",
                "\"/a b\": write (5 bytes): given up",
                "/d: mkdir: no room",
            ]
        );
    }
}
