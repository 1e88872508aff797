//! What programs have open: file and directory handles by number.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::locked;
use crate::{
    backing::flags::{O_ACCMODE, O_RDONLY, O_RDWR, O_WRONLY},
    consistency::{Ino, Listing, Snapshot},
    error::Error,
    hashing::HashMap,
};

/// One open file.
#[derive(Debug)]
pub struct OpenFile {
    pub ino: Ino,
    /// Where it was when it was opened.
    path: Box<[u8]>,
    /// The flags of `open(2)`.
    pub flags: i32,
    /// On the real file; empty until it is needed and the file has landed.
    pub descriptor: OnceLock<Arc<OwnedFd>>,
    /// The last landing error that this open file has reported.
    seen_error: AtomicU64,
    /// The kernel keeps what is read through it, for as long as the attributes do not change.
    is_kept: AtomicBool,
}

impl OpenFile {
    /// A file that has been opened; errors up to `seen_error` are not its own.
    pub fn new(
        ino: Ino,
        path: Vec<u8>,
        flags: i32,
        descriptor: Option<OwnedFd>,
        seen_error: u64,
    ) -> OpenFile {
        let slot = OnceLock::new();
        if let Some(descriptor) = descriptor {
            let _ = slot.set(Arc::new(descriptor));
        }
        OpenFile {
            ino,
            path: path.into(),
            flags,
            descriptor: slot,
            seen_error: AtomicU64::new(seen_error),
            is_kept: AtomicBool::new(false),
        }
    }

    /// The path by which it was opened, which names it in draws and in the log: whatever happens to its names meanwhile,
    /// the same calls draw the same.
    pub fn path(&self) -> Vec<u8> {
        self.path.to_vec()
    }

    /// From now on the kernel keeps what is read.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Whether the kernel keeps what is read.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Whether it may be written through. There is a fourth access mode, which allows neither (`open(2)`).
    pub fn is_writable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Whether it may be read through.
    pub fn is_readable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    /// Takes note of landing error number `latest`; whether it was news.
    pub fn learns_of(&self, latest: u64) -> bool {
        self.seen_error.fetch_max(latest, Ordering::SeqCst) < latest
    }
}

/// One open directory.
#[derive(Debug)]
pub struct OpenDirectory {
    pub ino: Ino,
    snapshot: Mutex<Option<Snapshot>>,
}

impl OpenDirectory {
    /// What this handle shows: listed by `list` when reading starts, and again when it starts again (`rewinddir(3)`).
    pub fn snapshot(
        &self,
        from_start: bool,
        list: impl FnOnce() -> Result<Arc<Listing>, Error>,
    ) -> Result<Snapshot, Error> {
        let kept = if from_start { None } else { locked(&self.snapshot).clone() };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let listing = list()?;
        let mut kept = locked(&self.snapshot);
        let snapshot = match &*kept {
            Some(before) => before.refreshed(&listing),
            None => Snapshot::new(listing),
        };
        Ok(kept.insert(snapshot).clone())
    }

    /// How many bytes of memory it takes, about.
    pub fn cost(&self) -> u64 {
        locked(&self.snapshot).as_ref().map_or(0, Snapshot::cost)
    }
}

#[derive(Debug, Default)]
struct Files {
    by_handle: HashMap<u64, Arc<OpenFile>>,
    by_ino: HashMap<Ino, Vec<u64>>,
}

/// All that is open. Numbers go up and are never given out again.
#[derive(Debug, Default)]
pub struct OpenFiles {
    files: Mutex<Files>,
    directories: Mutex<HashMap<u64, Arc<OpenDirectory>>>,
    last: AtomicU64,
}

impl OpenFiles {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Takes in an open file and returns its handle.
    pub fn add(&self, file: OpenFile) -> u64 {
        let handle = self.next();
        let mut files = locked(&self.files);
        files.by_ino.entry(file.ino).or_default().push(handle);
        files.by_handle.insert(handle, Arc::new(file));
        handle
    }

    /// The open file behind a handle.
    ///
    /// # Errors
    /// EBADF if there is none.
    pub fn get(&self, handle: u64) -> Result<Arc<OpenFile>, Error> {
        locked(&self.files).by_handle.get(&handle).cloned().ok_or(Error::BadHandle)
    }

    /// Closes a file.
    pub fn remove(&self, handle: u64) -> Option<Arc<OpenFile>> {
        let mut files = locked(&self.files);
        let file = files.by_handle.remove(&handle)?;
        if let Some(handles) = files.by_ino.get_mut(&file.ino) {
            handles.retain(|other| *other != handle);
            if handles.is_empty() {
                files.by_ino.remove(&file.ino);
            }
        }
        Some(file)
    }

    /// A file that was open before it landed has landed: here it is. Its name may go at any time now.
    pub fn provide(&self, ino: Ino, descriptor: &Arc<OwnedFd>) {
        let files = locked(&self.files);
        let Some(handles) = files.by_ino.get(&ino) else { return };
        for file in handles.iter().filter_map(|handle| files.by_handle.get(handle)) {
            // One that has opened it meanwhile keeps its own.
            let _ = file.descriptor.set(descriptor.clone());
        }
    }

    /// A descriptor of an inode that is open somewhere; with `writable` one through which it can be written.
    pub fn descriptor(&self, ino: Ino, writable: bool) -> Option<Arc<OwnedFd>> {
        let files = locked(&self.files);
        let open = files.by_ino.get(&ino)?.iter().filter_map(|handle| files.by_handle.get(handle));
        open.filter(|file| !writable || file.is_writable()).find_map(|file| file.descriptor.get().cloned())
    }

    /// Whether a program has it open.
    pub fn is_open(&self, ino: Ino) -> bool {
        locked(&self.files).by_ino.contains_key(&ino)
    }

    /// Whether a program could change an inode's data through an open file.
    pub fn is_open_for_writing(&self, ino: Ino) -> bool {
        let files = locked(&self.files);
        let open =
            files.by_ino.get(&ino).into_iter().flatten().filter_map(|handle| files.by_handle.get(handle));
        open.into_iter().any(|file| file.is_writable())
    }

    /// Takes in an open directory and returns its handle.
    pub fn add_directory(&self, ino: Ino) -> u64 {
        let handle = self.next();
        locked(&self.directories).insert(handle, Arc::new(OpenDirectory { ino, snapshot: Mutex::default() }));
        handle
    }

    /// The open directory behind a handle.
    ///
    /// # Errors
    /// EBADF if there is none.
    pub fn directory(&self, handle: u64) -> Result<Arc<OpenDirectory>, Error> {
        locked(&self.directories).get(&handle).cloned().ok_or(Error::BadHandle)
    }

    /// Closes a directory.
    pub fn remove_directory(&self, handle: u64) -> Option<Arc<OpenDirectory>> {
        locked(&self.directories).remove(&handle)
    }
}
