//! How many descriptors one client may keep: they are a resource of the process, and a process may serve many clients.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::sys;

/// Descriptors left to the files that programs have open, as a part of the limit.
const PART_FOR_OPEN_FILES: u64 = 2;

/// The most descriptors that one client keeps on inodes that are known but not open: more would only cost kernel memory.
const MOST_DESCRIPTORS: usize = 8192;

/// The fewest that a client works with.
const FEWEST_DESCRIPTORS: usize = 8;

static CLIENTS_OF_PROCESS: AtomicUsize = AtomicUsize::new(0);

/// An equal part of a number of descriptors: smaller with every client that comes, larger with every one that goes.
#[derive(Debug)]
pub struct Share {
    all: usize,
    sharers: &'static AtomicUsize,
}

impl Share {
    /// One client's share of the descriptors of this process.
    pub fn of_process() -> Share {
        let all = sys::descriptor_limit() / PART_FOR_OPEN_FILES;
        Share::of(usize::try_from(all).unwrap_or(usize::MAX), &CLIENTS_OF_PROCESS)
    }

    /// A share of `all` descriptors with whoever else counts itself in `sharers`.
    pub fn of(all: usize, sharers: &'static AtomicUsize) -> Share {
        sharers.fetch_add(1, Ordering::Relaxed);
        Share { all, sharers }
    }

    /// How many descriptors that is now.
    pub fn size(&self) -> usize {
        (self.all / self.sharers.load(Ordering::Relaxed).max(1)).clamp(FEWEST_DESCRIPTORS, MOST_DESCRIPTORS)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_shrinks_with_those_who_come_and_grows_with_those_who_go() {
        static SHARERS: AtomicUsize = AtomicUsize::new(0);
        let first = Share::of(1000, &SHARERS);
        assert_eq!(first.size(), 1000);
        let second = Share::of(1000, &SHARERS);
        assert_eq!((first.size(), second.size()), (500, 500));
        drop(first);
        assert_eq!(second.size(), 1000);
        assert_eq!(Share::of(3, &SHARERS).size(), FEWEST_DESCRIPTORS);
    }
}
