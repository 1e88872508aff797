//! Inodes that nobody uses any more and of which something is known that programs would miss.
//!
//! The kernel forgets names whenever it likes: when memory is short, or on a remount. Nothing that a program sees may hang
//! on that. So an inode that the kernel has forgotten lingers
//!
//! - for the longest lifetime of a belief: what was believed of it is believed for as long as it would have been;
//! - after that for as long as the client lives, if programs have been shown what the store does not say: a number of
//!   ours, or the times of a change from before it landed. Then it holds no descriptor, so that it keeps no removed file and
//!   no mount alive.
//!
//! There are at most as many as fit into half of `max_belief`. Beyond that the oldest go first.

use std::collections::VecDeque;

use super::{Client, known::INODE_COST};
use crate::{consistency::Ino, hashing::HashMap, time::Time};

/// The inodes that linger.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// Those of which something may be believed and until when, as it was when they were put here: about in the order in
    /// which they were left alone. An entry counts only if its number is the current one.
    believed: VecDeque<(Ino, u64, Time)>,
    /// Those that have been shown otherwise than they are.
    disguised: VecDeque<(Ino, u64)>,
    /// The number of the entry of each, and until when something may be believed.
    current: HashMap<Ino, (u64, Time)>,
    last: u64,
}

impl Lingering {
    /// An inode is left alone, perhaps once more; nothing is believed of it after `until`.
    fn add(&mut self, ino: Ino, until: Time) {
        // A disguised one is believed again, too.
        let is_queued = self.current.get(&ino).is_some_and(|(_, until)| *until != Time::NEVER);
        if is_queued && let Some(entry) = self.current.get_mut(&ino) {
            entry.1 = until;
            return;
        }
        self.last += 1;
        self.current.insert(ino, (self.last, until));
        self.believed.push_back((ino, self.last, until));
    }

    /// It lingers on, because programs have been shown what the store does not say.
    fn keep(&mut self, ino: Ino) {
        self.last += 1;
        self.current.insert(ino, (self.last, Time::NEVER));
        self.disguised.push_back((ino, self.last));
    }

    /// It lingers no more.
    pub(super) fn end(&mut self, ino: Ino) {
        self.current.remove(&ino);
    }

    /// Takes out the next of which nothing is believed any more.
    fn next_expired(&mut self, now: Time) -> Option<Ino> {
        while let Some((ino, number, queued_until)) = self.believed.front().copied() {
            if queued_until > now {
                return None;
            }
            self.believed.pop_front();
            match self.current.get(&ino) {
                Some((current, until)) if *current == number && *until > now => {
                    self.believed.push_back((ino, number, *until));
                }
                Some((current, _)) if *current == number => return Some(ino),
                _ => {}
            }
        }
        None
    }

    /// The next to go, if there are more than `most`.
    fn next_surplus(&mut self, most: usize) -> Option<Ino> {
        while self.current.len() > most {
            let believed = || self.believed.front().map(|(ino, number, _)| (*ino, *number));
            let (ino, number) = self.disguised.front().copied().or_else(believed)?;
            self.disguised.pop_front().map(drop).or_else(|| self.believed.pop_front().map(drop));
            if self.current.get(&ino).is_some_and(|(current, _)| *current == number) {
                return Some(ino);
            }
        }
        None
    }

    /// Gives back what it has grown by.
    fn shrink(&mut self) {
        self.believed.shrink_to_fit();
        let current = &self.current;
        self.disguised.retain(|(ino, number)| current.get(ino).is_some_and(|(current, _)| current == number));
        self.disguised.shrink_to_fit();
        self.current.shrink_to_fit();
    }
}

impl Client {
    /// Whether inodes linger: not where nothing is believed and nothing lands late.
    pub(super) fn lets_linger(&self) -> bool {
        let policy = &self.in_force().policy;
        !policy.lifetimes.are_zero() || !policy.delays.are_zero()
    }

    /// An inode has been left alone. For each that begins to linger two others may end, so there are never many whose time
    /// is over.
    pub(super) fn linger(&self, ino: Ino) {
        const ENDED_FOR_EACH: usize = 2;
        let mut state = self.lock();
        if state.records.of(ino).is_nameless {
            drop(state);
            return self.end_lingering(ino);
        }
        let until = self.now() + self.in_force().policy.lifetimes.longest();
        state.lingering.add(ino, until);
        drop(state);
        for _ in 0..ENDED_FOR_EACH {
            self.end_one_that_lingers();
        }
    }

    /// Ends the lingering of all whose time is over.
    pub(super) fn end_expired_lingering(&self) {
        while self.end_one_that_lingers() {}
        self.lock().lingering.shrink();
    }

    /// Ends the lingering of all, whatever would be missed.
    pub fn let_nothing_linger(&self) {
        loop {
            let next = self.lock().lingering.next_surplus(0);
            let Some(ino) = next else { return };
            self.end_lingering(ino);
        }
    }

    /// Whether there was one.
    fn end_one_that_lingers(&self) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let most = self.in_force().knobs.max_belief / 2 / INODE_COST;
        if let Some(ino) = state.lingering.next_surplus(usize::try_from(most).unwrap_or(usize::MAX)) {
            drop(state);
            self.end_lingering(ino);
            return true;
        }
        let Some(ino) = state.lingering.next_expired(now) else { return false };
        let is_disguised = state.belief.is_disguised(ino);
        drop(state);
        if (is_disguised || self.table.has_private_number(ino)) && self.may_rest(ino) {
            self.lock().lingering.keep(ino);
        } else {
            self.end_lingering(ino);
        }
        true
    }

    /// Closes the descriptor of an inode that lingers on. Not of one that has no name any more, nor where the store does not
    /// say when an inode was made: without a descriptor its number may be given to another one, which would be taken for it.
    fn may_rest(&self, ino: Ino) -> bool {
        self.table.identity(ino).is_some_and(|identity| identity.birth != 0) && self.table.rest(ino)
    }

    fn end_lingering(&self, ino: Ino) {
        self.lock().lingering.end(ino);
        self.table.end_lingering(ino).into_iter().for_each(|ino| self.forgotten(ino));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        backing::ROOT,
        client::bench::{Bench, CALLER},
        knobs::Knobs,
    };

    const READ_ONLY: i32 = 0;
    const READ_WRITE: i32 = 2;

    /// Reads a file as `cat` does, after which the kernel forgets it.
    fn read_and_forget(bench: &Bench, name: &str) -> Option<Vec<u8>> {
        let entry = bench.client.lookup(&CALLER, ROOT, name.as_bytes()).now().ok()?;
        let handle = bench.client.open_file(&CALLER, entry.ino, READ_ONLY).now().ok()?;
        let content = bench.client.read(&CALLER, handle, 0, 100).now().ok()?.to_vec();
        bench.client.release(handle);
        bench.client.forget(entry.ino, 1);
        Some(content)
    }

    #[test]
    fn what_is_believed_of_a_file_outlives_its_being_forgotten() {
        let bench = Bench::new(Knobs::default());
        let file = bench.folder.path().join("f");
        fs::write(&file, "old").unwrap();
        assert_eq!(read_and_forget(&bench, "f").as_deref(), Some(&b"old"[..]));
        fs::remove_file(&file).unwrap();
        bench.advance(1_499);
        assert_eq!(read_and_forget(&bench, "f").as_deref(), Some(&b"old"[..]));
        bench.advance(1);
        assert_eq!(read_and_forget(&bench, "f"), None);
    }

    #[test]
    fn a_file_made_here_keeps_its_number_and_its_times_when_it_has_landed_and_is_forgotten() {
        let bench = Bench::new(Knobs::default());
        let made = bench.client.create(&CALLER, ROOT, b"f", 0o100_644, 0, READ_WRITE).now().unwrap();
        bench.client.release(made.1);
        let shown = |entry: crate::client::Entry| (entry.ino, entry.attributes.mtime, entry.attributes.ctime);
        let expected = shown(made.0);
        for _ in 0..3 {
            bench.client.forget(expected.0, 1);
            bench.advance(5_000);
            bench.client.end_expired_lingering();
            assert_eq!(shown(bench.client.lookup(&CALLER, ROOT, b"f").now().unwrap()), expected);
        }
    }

    #[test]
    fn what_would_be_shown_the_same_lingers_for_one_lifetime() {
        let bench = Bench::new(Knobs::default());
        fs::write(bench.folder.path().join("theirs"), "").unwrap();
        let (made, handle) = bench.create("ours", b"text");
        bench.client.release(handle);
        bench.advance(5_000);
        let theirs = bench.client.lookup(&CALLER, ROOT, b"theirs").now().unwrap();
        bench.client.forget(theirs.ino, 1);
        bench.client.forget(made, 1);
        bench.client.end_expired_lingering();
        assert_eq!(bench.client.known_inodes().0, 3);
        bench.advance(1_500);
        bench.client.end_expired_lingering();
        assert_eq!(bench.client.known_inodes().0, 2, "the one made here stays");
        bench.client.let_nothing_linger();
        assert_eq!(bench.client.known_inodes().0, 1);
    }

    #[test]
    fn the_time_of_each_ends_once_and_in_order() {
        let mut lingering = Lingering::default();
        lingering.add(7, Time::from_millis(10));
        lingering.add(8, Time::from_millis(20));
        assert_eq!(lingering.next_expired(Time::from_millis(9)), None);
        assert_eq!(lingering.next_expired(Time::from_millis(10)), Some(7));
        lingering.end(7);
        assert_eq!(lingering.next_expired(Time::from_millis(19)), None);
        // It was used again and is left alone again.
        lingering.add(8, Time::from_millis(40));
        assert_eq!(lingering.next_expired(Time::from_millis(39)), None);
        lingering.add(8, Time::from_millis(60));
        assert_eq!(lingering.next_expired(Time::from_millis(59)), None);
        assert_eq!(lingering.believed.len(), 1);
        assert_eq!(lingering.next_expired(Time::from_millis(60)), Some(8));
        assert_eq!(lingering.next_expired(Time::NEVER), None);
    }

    #[test]
    fn the_oldest_go_first_and_disguises_before_beliefs() {
        let mut lingering = Lingering::default();
        for ino in [7, 8, 9] {
            lingering.add(ino, Time::from_millis(ino));
        }
        assert_eq!(lingering.next_expired(Time::from_millis(7)), Some(7));
        lingering.keep(7);
        assert_eq!(lingering.next_surplus(3), None);
        for gone in [7, 8] {
            assert_eq!(lingering.next_surplus(1), Some(gone));
            lingering.end(gone);
        }
        assert_eq!((lingering.next_surplus(1), lingering.next_expired(Time::NEVER)), (None, Some(9)));
    }
}
