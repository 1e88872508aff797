//! The loops that answer the kernel, and whether they get on.
//!
//! A request is answered in the loop that has read it, system calls on the backing directory and all: to hand it over
//! would take longer than most requests do. A call that hangs there keeps its loop. So each loop says when it begins and
//! ends a request, in a number of its own that nobody else writes, and a watcher looks at these numbers now and then:
//! when every loop has been in one request for a whole look, as many again begin. Those end when they are not needed
//! any more.

use std::{
    cell::OnceCell,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    panic::resume_unwind,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use fuser::{
    AccessFlags, BsdFileFlags, Config, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    SessionACL, TimeOrNow, WriteFlags,
};

use super::Adapter;
use crate::backing::sys;

/// What a loop has begun and ended so far: odd while it is in a request.
type Pulse = Arc<AtomicU64>;

/// All loops of one mount.
pub struct Loops {
    pulses: Mutex<Vec<Pulse>>,
    /// How many there are, also those that have had no request yet.
    running: AtomicUsize,
    /// How many of those that were added may end.
    surplus: AtomicUsize,
    /// Nobody looks until a request begins.
    unwatched: AtomicBool,
    over: Mutex<bool>,
    changed: Condvar,
}

/// What a look at all loops has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How many loops there are.
    pub running: usize,
    /// How many have been in the same request since the last look.
    pub stuck: usize,
    /// Whether any has been in a request since.
    pub busy: bool,
}

impl Loops {
    /// So many that run for as long as the mount does.
    pub fn new(running: usize) -> Loops {
        Loops {
            pulses: Mutex::default(),
            running: AtomicUsize::new(running),
            surplus: AtomicUsize::new(0),
            unwatched: AtomicBool::new(false),
            over: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Looks at all loops; `last` is what was seen of each the last time.
    pub fn look(&self, last: &mut Vec<(Pulse, u64)>) -> Seen {
        let now: Vec<(Pulse, u64)> =
            locked(&self.pulses).iter().map(|pulse| (pulse.clone(), pulse.load(Ordering::SeqCst))).collect();
        let is_same = |(pulse, count): &&(Pulse, u64)| {
            last.iter().any(|(other, before)| Arc::ptr_eq(pulse, other) && count == before)
        };
        let same = now.iter().filter(is_same);
        let stuck = same.clone().filter(|(_, count)| count % 2 == 1).count();
        let busy = same.count() < now.len() || stuck > 0;
        *last = now;
        Seen { running: self.running.load(Ordering::SeqCst), stuck, busy }
    }

    /// So many that were added are not needed any more.
    pub fn let_go(&self, surplus: usize) {
        self.surplus.store(surplus, Ordering::Relaxed);
    }

    /// One more runs, or one less.
    pub fn added(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    /// One less runs.
    pub fn ended(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Nobody looks any more until a request begins, or unless one just has.
    pub fn rest(&self, last: &mut Vec<(Pulse, u64)>) {
        self.unwatched.store(true, Ordering::SeqCst);
        if self.look(last).busy {
            self.unwatched.store(false, Ordering::SeqCst);
        }
    }

    /// Whether nobody looks.
    pub fn rests(&self) -> bool {
        self.unwatched.load(Ordering::SeqCst)
    }

    /// The mount has ended.
    pub fn end(&self) {
        *locked(&self.over) = true;
        self.changed.notify_all();
    }

    /// What a watcher waits with, and for: whether the mount has ended.
    pub fn over(&self) -> (MutexGuard<'_, bool>, &Condvar) {
        (locked(&self.over), &self.changed)
    }

    fn take_one_of_the_surplus(&self) -> bool {
        let less = |count: usize| count.checked_sub(1);
        self.surplus.load(Ordering::Relaxed) > 0
            && self.surplus.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loop's pulse, for as long as its thread lives.
struct Seat {
    pulse: Pulse,
    loops: Arc<Loops>,
}

impl Seat {
    fn taken(loops: &Arc<Loops>) -> Seat {
        let pulse = Pulse::default();
        locked(&loops.pulses).push(pulse.clone());
        Seat { pulse, loops: loops.clone() }
    }

    fn beat(&self) {
        // Nobody else writes it.
        self.pulse.store(self.pulse.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.loops.pulses).retain(|pulse| !Arc::ptr_eq(pulse, &self.pulse));
    }
}

thread_local! {
    static SEAT: OnceCell<Seat> = const { OnceCell::new() };
}

/// What fuser calls in each loop of a session.
pub struct Served {
    adapter: Arc<Adapter>,
    loops: Arc<Loops>,
    /// Added to those that run for as long as the mount does.
    is_extra: bool,
}

impl Served {
    /// The session that the kernel greets.
    pub fn new(adapter: &Arc<Adapter>, loops: &Arc<Loops>) -> Served {
        Served { adapter: adapter.clone(), loops: loops.clone(), is_extra: false }
    }

    /// One more loop for a session that runs.
    ///
    /// fuser's session begins with the kernel's first request, which the kernel makes once. So this one is greeted by
    /// hand over a pair of sockets, and then the kernel's descriptor takes the place of its socket.
    ///
    /// # Errors
    /// No descriptor or no memory is left.
    pub fn one_more(
        adapter: &Arc<Adapter>,
        loops: &Arc<Loops>,
        kernel: BorrowedFd<'_>,
    ) -> io::Result<fuser::Session<Served>> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.send(&greeting())?;
        let served = Served { adapter: adapter.clone(), loops: loops.clone(), is_extra: true };
        let mut config = Config::default();
        config.n_threads = Some(1);
        let session = fuser::Session::from_fd(served, OwnedFd::from(theirs), SessionACL::All, config)?;
        sys::take_place_of(session.as_fd(), kernel)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(session)
    }

    fn during(&self, call: impl FnOnce(&Adapter)) {
        SEAT.with(|seat| {
            let seat = seat.get_or_init(|| Seat::taken(&self.loops));
            seat.beat();
            if self.loops.rests() && self.loops.unwatched.swap(false, Ordering::SeqCst) {
                drop(locked(&self.loops.over));
                self.loops.changed.notify_all();
            }
            call(&self.adapter);
            seat.beat();
        });
        if self.is_extra && self.loops.take_one_of_the_surplus() {
            // The one way out of a loop of fuser's. The request has been answered; nothing is printed.
            resume_unwind(Box::new("not needed any more"));
        }
    }
}

/// The kernel's first request: `fuse_in_header`, `fuse_init_in` (linux/fuse.h).
fn greeting() -> Vec<u8> {
    const LENGTH: u32 = 104;
    const FUSE_INIT: u32 = 26;
    const VERSION: [u32; 2] = [7, 31];
    let mut words = [0_u32; LENGTH as usize / 4];
    (words[0], words[1]) = (LENGTH, FUSE_INIT);
    words[10..12].copy_from_slice(&VERSION);
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

macro_rules! handed_on {
    ($($call:ident($($name:ident: $type:ty),*);)*) => {
        $(fn $call(&self, request: &Request, $($name: $type),*) {
            self.during(|adapter| adapter.$call(request, $($name),*));
        })*
    };
}

impl Filesystem for Served {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if self.is_extra { Ok(()) } else { self.adapter.greet(request, config) }
    }

    handed_on! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(ino: INodeNo, count: u64);
        getattr(ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr);
        setattr(
            ino: INodeNo,
            mode: Option<u32>,
            uid: Option<u32>,
            gid: Option<u32>,
            size: Option<u64>,
            atime: Option<TimeOrNow>,
            mtime: Option<TimeOrNow>,
            ctime: Option<SystemTime>,
            handle: Option<FileHandle>,
            crtime: Option<SystemTime>,
            chgtime: Option<SystemTime>,
            bkuptime: Option<SystemTime>,
            flags: Option<BsdFileFlags>,
            reply: ReplyAttr
        );
        readlink(ino: INodeNo, reply: ReplyData);
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        rename(
            parent: INodeNo,
            name: &OsStr,
            new_parent: INodeNo,
            new_name: &OsStr,
            flags: RenameFlags,
            reply: ReplyEmpty
        );
        link(ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        open(ino: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        create(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate);
        read(
            ino: INodeNo,
            handle: FileHandle,
            offset: u64,
            size: u32,
            flags: OpenFlags,
            owner: Option<LockOwner>,
            reply: ReplyData
        );
        write(
            ino: INodeNo,
            handle: FileHandle,
            offset: u64,
            data: &[u8],
            write_flags: WriteFlags,
            flags: OpenFlags,
            owner: Option<LockOwner>,
            reply: ReplyWrite
        );
        flush(ino: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        release(
            ino: INodeNo,
            handle: FileHandle,
            flags: OpenFlags,
            owner: Option<LockOwner>,
            flush: bool,
            reply: ReplyEmpty
        );
        fsync(ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty);
        opendir(ino: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        readdir(ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory);
        readdirplus(ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
        releasedir(ino: INodeNo, handle: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
        fsyncdir(ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty);
        statfs(ino: INodeNo, reply: ReplyStatfs);
        setxattr(ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32, reply: ReplyEmpty);
        getxattr(ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(ino: INodeNo, size: u32, reply: ReplyXattr);
        removexattr(ino: INodeNo, name: &OsStr, reply: ReplyEmpty);
        access(ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        fallocate(ino: INodeNo, handle: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty);
        getlk(
            ino: INodeNo,
            handle: FileHandle,
            owner: LockOwner,
            start: u64,
            end: u64,
            kind: i32,
            pid: u32,
            reply: ReplyLock
        );
        setlk(
            ino: INodeNo,
            handle: FileHandle,
            owner: LockOwner,
            start: u64,
            end: u64,
            kind: i32,
            pid: u32,
            sleep: bool,
            reply: ReplyEmpty
        );
        lseek(ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
        copy_file_range(
            ino_in: INodeNo,
            from: FileHandle,
            from_offset: u64,
            ino_out: INodeNo,
            to: FileHandle,
            to_offset: u64,
            length: u64,
            flags: CopyFileRangeFlags,
            reply: ReplyWrite
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_when_two_looks_see_it_in_one_request() {
        let loops = Arc::new(Loops::new(2));
        let (seat, mut last) = (Seat::taken(&loops), Vec::new());
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 0, busy: true });
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 0, busy: false });
        seat.beat();
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 0, busy: true });
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 1, busy: true });
        seat.beat();
        seat.beat();
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 0, busy: true });
        drop(seat);
        assert_eq!(loops.look(&mut last), Seen { running: 2, stuck: 0, busy: false });
    }

    #[test]
    fn as_many_end_as_are_not_needed() {
        let loops = Loops::new(2);
        assert!(!loops.take_one_of_the_surplus());
        loops.let_go(1);
        assert!(loops.take_one_of_the_surplus() && !loops.take_one_of_the_surplus());
    }
}
