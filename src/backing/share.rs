//! How many descriptors one client may keep: they are a resource of the process, and a process may serve many clients.

use std::{
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::sys;

/// Descriptors left to the files that programs have open, as a part of the limit.
const PART_FOR_OPEN_FILES: u64 = 2;

/// What a process needs besides: the log, the connection to the kernel, the control socket, those that wait in `poll(2)`.
const HOUSEKEEPING: u64 = 16;

/// The most descriptors that nothing that lasts may have: enough for one step in each of the few threads that work on the
/// backing directory, and for a connection or two to the control socket.
const MOST_RESERVED: u64 = 16;

/// The part of the limit that is reserved where it is low.
const PART_RESERVED: u64 = 4;

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
    /// The limit of this process when it was last asked for.
    limit: AtomicU64,
}

impl Share {
    /// One client's share of the descriptors of this process.
    pub fn of_process() -> Share {
        let limit = sys::descriptor_limit();
        let all = limit.saturating_sub(reserved(limit) + HOUSEKEEPING) / PART_FOR_OPEN_FILES;
        Share::of(usize::try_from(all).unwrap_or(usize::MAX), &CLIENTS_OF_PROCESS)
    }

    /// A share of `all` descriptors with whoever else counts itself in `sharers`.
    pub fn of(all: usize, sharers: &'static AtomicUsize) -> Share {
        sharers.fetch_add(1, Ordering::Relaxed);
        Share { all, sharers, limit: AtomicU64::new(sys::descriptor_limit()) }
    }

    /// Whether a descriptor is one of those that are always free for the next step. The system gives out the lowest
    /// number that is free, so the highest are given out only when nothing else is left.
    pub fn is_reserved(&self, descriptor: BorrowedFd<'_>) -> bool {
        let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
        let is_high = |limit: u64| number >= limit - reserved(limit);
        is_high(self.limit.load(Ordering::Relaxed)) && {
            // It may have been raised since.
            let limit = sys::descriptor_limit();
            self.limit.store(limit, Ordering::Relaxed);
            is_high(limit)
        }
    }

    /// How many descriptors that is now.
    pub fn size(&self) -> usize {
        (self.all / self.sharers.load(Ordering::Relaxed).max(1)).clamp(FEWEST_DESCRIPTORS, MOST_DESCRIPTORS)
    }
}

/// How many of `limit` descriptors are reserved.
fn reserved(limit: u64) -> u64 {
    (limit / PART_RESERVED).min(MOST_RESERVED)
}

impl Drop for Share {
    fn drop(&mut self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_highest_descriptors_are_reserved() {
        let share = Share::of(1000, Box::leak(Box::default()));
        let lowest = std::io::stdin();
        assert!(!share.is_reserved(lowest.as_fd()));
        assert_eq!([32, 64, 1 << 20].map(reserved), [8, 16, 16]);
    }

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
