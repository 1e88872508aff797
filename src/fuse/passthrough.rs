//! Files that the kernel reads and writes by itself (FUSE passthrough, Linux 6.9 and newer, root only).
//!
//! The kernel's rules (fs/fuse/iomode.c): while one open file of an inode passes through, all of them have to, with the
//! same backing id; one of them may still have its reads and writes asked for, as direct I/O. While one is open in any
//! other way, none may pass through, for it could be mapped. Whatever breaks a rule fails with EIO. An open file leaves
//! its inode in the kernel before its RELEASE comes here, so whoever is counted here may be gone there, and never the
//! other way round.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use fuser::{BackingId, FopenFlags};

use crate::{
    backing::flags::O_ACCMODE,
    client::{Client, Ino, Passage},
};

/// How an open file is answered: its flags and, where it passes through, what it passes to.
pub type Opened = (FopenFlags, Option<Arc<BackingId>>);

/// Whoever is opening a file, and what for.
pub struct Opener {
    pub client: Arc<Client>,
    pub passthrough: Arc<Passthrough>,
    pub flags: i32,
}

impl Opener {
    /// Settles how a file that has just been opened reaches its program. `register` shows the kernel a real file.
    pub fn settle(
        &self,
        ino: Ino,
        handle: u64,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Opened {
        // Without a flush a reader's close saves a request; a writer's flush brings its mapped pages, too.
        let silent_close = self.flags & O_ACCMODE == 0 && !self.client.close_can_fail();
        let no_flush = if silent_close { FopenFlags::FOPEN_NOFLUSH } else { FopenFlags::empty() };
        if !self.client.lends() {
            return (FopenFlags::FOPEN_DIRECT_IO | no_flush, None);
        }
        let (flags, backing) = self.passthrough.open(&self.client, (ino, handle), register);
        (flags | no_flush, backing)
    }
}

/// The open files of one inode.
struct Opens {
    /// What they all pass through to; none if none does.
    backing: Option<Arc<BackingId>>,
    count: usize,
}

/// Which inodes are open, and how.
#[derive(Default)]
pub struct Passthrough {
    usable: AtomicBool,
    /// Outside the lock of the client's state; never held over a system call.
    files: Mutex<HashMap<Ino, Opens>>,
}

impl Passthrough {
    /// The kernel has agreed to it.
    pub fn enable(&self) {
        self.usable.store(true, Ordering::Relaxed);
    }

    fn open(
        &self,
        client: &Client,
        (ino, handle): (Ino, u64),
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Opened {
        let passage = client.passage(handle);
        let ready = if passage == Passage::Whole { self.registered(client, handle, register) } else { None };
        let surplus;
        let opened = {
            let mut files = self.lock();
            let opens = files.entry(ino).or_insert_with(|| {
                let backing = ready.clone().filter(|_| client.lend(handle));
                Opens { backing, count: 0 }
            });
            opens.count += 1;
            surplus = ready;
            (flags_of(passage, opens.backing.is_some()), opens.backing.clone())
        };
        drop(surplus);
        if opened.0 == FopenFlags::FOPEN_KEEP_CACHE {
            client.keep(handle);
        }
        opened
    }

    /// Counts a file that is closed.
    pub fn release(&self, client: &Client, ino: Ino) {
        let mut files = self.lock();
        let Some(opens) = files.get_mut(&ino) else { return };
        opens.count -= 1;
        if opens.count > 0 {
            return;
        }
        let last = files.remove(&ino);
        if last.as_ref().is_some_and(|opens| opens.backing.is_some()) {
            client.reclaim(ino);
        }
        drop(files);
        drop(last);
    }

    /// Shows the kernel the real file. Where it will not have it (a stacked file system, say) it asks from now on.
    fn registered(
        &self,
        client: &Client,
        handle: u64,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        if !self.usable.load(Ordering::Relaxed) {
            return None;
        }
        let real = client.real_descriptor(handle)?;
        match register(real.as_fd()) {
            Ok(backing) => Some(Arc::new(backing)),
            Err(error) => {
                if let Some(reason) = never(&error)
                    && self.usable.swap(false, Ordering::Relaxed)
                {
                    client.note(format!("the kernel serves no file by itself: {reason}"));
                }
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ino, Opens>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the kernel will never serve a file here, if that is what its refusal means (`fuse_backing_open` in
/// fs/fuse/backing.c).
fn never(error: &io::Error) -> Option<&'static str> {
    const EPERM: i32 = 1;
    const EINVAL: i32 = 22;
    const ENOTTY: i32 = 25;
    const ELOOP: i32 = 40;
    match error.raw_os_error() {
        Some(EPERM) => Some("only root of the whole machine may let it"),
        Some(ELOOP) => Some("the backing directory is on a stacked file system, such as overlayfs"),
        Some(EINVAL | ENOTTY) => Some("it does not know how"),
        _ => None,
    }
}

fn flags_of(passage: Passage, passes_through: bool) -> FopenFlags {
    match (passage, passes_through) {
        // A close brings nothing: no page of it is here.
        (Passage::Whole, true) => FopenFlags::FOPEN_NOFLUSH,
        (Passage::Kept, false) => FopenFlags::FOPEN_KEEP_CACHE,
        _ => FopenFlags::FOPEN_DIRECT_IO,
    }
}
