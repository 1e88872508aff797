//! The floor: a file system on the same crate that keeps nothing and looks nowhere. It answers the requests of the
//! workloads on names at once, with what they want to hear, and asks for them as often as chaosfs does when nothing is
//! kept. What it takes is the kernel's and the crate's; chaosfs cannot be faster.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Result;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};

/// As many as chaosfs has.
const THREADS: usize = 2;

/// What files are read to hold.
const CONTENT: [u8; 1024] = [b'x'; 1024];

/// Bits of a number that say what is behind it: a directory, and one in which nothing is until it is made.
const DIRECTORY: u64 = 1 << 62;
const EMPTY: u64 = 1 << 61;
/// The root's number.
const ROOT: u64 = 1;

/// Serves a mount until it is taken away.
///
/// # Errors
/// What mounting answers.
pub fn serve(mountpoint: &Path) -> Result<()> {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    Ok(fuser::mount(Floor, mountpoint, &config)?)
}

struct Floor;

fn is_directory(ino: u64) -> bool {
    ino == ROOT || ino & DIRECTORY != 0
}

/// The number of a file at a name.
fn number(parent: u64, name: &[u8]) -> u64 {
    let hash = name.iter().fold(parent, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    (hash & (EMPTY - 1)) | 2
}

/// What stands at a name, as the workloads need it: directories in the root, files in them.
fn found(parent: u64, name: &[u8]) -> Option<u64> {
    let number = number(parent, name);
    let is_missing = [&b".missing"[..], b".new"].into_iter().any(|end| name.ends_with(end));
    match parent {
        ROOT if [&b"create"[..], b"mkdir"].into_iter().any(|start| name.starts_with(start)) => {
            Some(number | DIRECTORY | EMPTY)
        }
        ROOT => Some(number | DIRECTORY),
        _ => (parent & EMPTY == 0 && !is_missing).then_some(number),
    }
}

fn attributes(ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: CONTENT.len() as u64,
        blocks: 8,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_directory(ino) { FileType::Directory } else { FileType::RegularFile },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

const HOW: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

impl Filesystem for Floor {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match found(parent.0, name.as_bytes()) {
            Some(ino) => reply.entry(&Duration::ZERO, &attributes(ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attributes(ino.0));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), HOW);
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        _size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(CONTENT.get(offset as usize..).unwrap_or_default());
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = attributes(number(parent.0, name.as_bytes()));
        reply.created(&Duration::ZERO, &made, Generation(0), FileHandle(0), HOW);
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = attributes(number(parent.0, name.as_bytes()) | DIRECTORY);
        reply.entry(&Duration::ZERO, &made, Generation(0));
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.ok();
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
