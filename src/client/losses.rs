//! Changes that programs were told are done and that are not in the backing directory, told one line a path.

use std::collections::VecDeque;

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

/// How many losses a client names at its end. What came before them is in the log, as all of them are.
const MOST_NAMED: usize = 50_000;

/// The losses of a client's life: how many, and the latest of them.
#[derive(Debug, Default)]
pub struct Losses {
    latest: VecDeque<Loss>,
    count: u64,
}

impl Losses {
    /// Takes note of one more.
    pub fn push(&mut self, loss: Loss) {
        if self.latest.len() == MOST_NAMED {
            self.latest.pop_front();
        }
        self.latest.push_back(loss);
        self.count += 1;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that came after the first `count`, as far as they are kept.
    pub fn after(&self, count: u64) -> Vec<Loss> {
        let new = usize::try_from(self.count.saturating_sub(count)).unwrap_or(usize::MAX);
        self.latest.iter().skip(self.latest.len().saturating_sub(new)).cloned().collect()
    }

    /// One line for each path of those that are kept and of `more`, and one for all others.
    pub fn lines(&self, more: impl IntoIterator<Item = Loss>) -> Vec<String> {
        let mut losses = self.after(0);
        losses.extend(more);
        let mut lines = by_path(&losses);
        let unnamed = self.count - self.latest.len() as u64;
        if unnamed > 0 {
            lines.push(format!("{unnamed} earlier changes: each is in the log"));
        }
        lines
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
    fn the_latest_losses_are_kept_and_all_are_counted() {
        let mut losses = Losses::default();
        let lost = |number: usize| Loss::of_name(&format!("/{number}"), "mkdir", "no room");
        assert!(losses.lines([]).is_empty());
        (0..MOST_NAMED + 3).for_each(|number| losses.push(lost(number)));
        assert_eq!(losses.count(), MOST_NAMED as u64 + 3);
        let lines = losses.lines([lost(7)]);
        assert_eq!((lines.len(), &*lines[0]), (MOST_NAMED + 1, "/3: mkdir: no room"));
        assert_eq!(lines[MOST_NAMED], "3 earlier changes: each is in the log");
        let named = |losses: Vec<Loss>| by_path(&losses);
        assert_eq!(
            named(losses.after(MOST_NAMED as u64 + 2)),
            [format!("/{}: mkdir: no room", MOST_NAMED + 2)]
        );
        assert_eq!(losses.after(1).len(), MOST_NAMED);
        assert!(losses.after(losses.count()).is_empty());
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
