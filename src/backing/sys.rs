//! One safe wrapper per system call; the only file with `unsafe` code.
//!
//! Every wrapper returns the errno of its call as [`Error::System`], untouched; its manual page says what that may
//! be. Inodes are addressed by descriptor, mostly `O_PATH` ones, never by a path that could be swapped meanwhile. What
//! has no call for `O_PATH` descriptors goes through `/proc/self/fd` (`proc_pid_fd(5)`): that link leads to the inode
//! itself and cannot be redirected. Every wrapper first asks whether a test wants it to fail ([`may_fail`]).
#![allow(unsafe_code)]

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::{
    fcntl::{AtFlags, OFlag},
    sys::{
        stat::{Mode, SFlag},
        statvfs::{FsFlags, fstatvfs},
        time::TimeSpec,
    },
    time::{ClockId, clock_gettime},
    unistd::{Gid, Uid, UnlinkatFlags},
};

use super::failing::may_fail;
use crate::error::Error;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// A wall clock time as `(seconds, nanoseconds)`.
pub type WallTime = (i64, u32);

/// What `statx(2)` says of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub identity: Identity,
    /// Type and permission bits.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blocks: u64,
    pub block_size: u32,
    pub atime: WallTime,
    pub mtime: WallTime,
    pub ctime: WallTime,
    /// `ctime` lies so far back that a change from now on gives another one.
    pub is_settled: bool,
}

/// What makes an inode that inode: the number alone may be given to a new file once the old one is gone. `birth` is in
/// nanoseconds since 1970, only to be compared; file systems without birth times leave it at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub ino: u64,
    pub birth: u64,
}

/// The figures of `statvfs(3)`.
#[derive(Clone, Copy, Debug)]
pub struct FsFigures {
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u32,
    pub fragment_size: u32,
    pub name_max: u32,
    pub read_only: bool,
}

/// One entry as `getdents64(2)` gives it; `kind` is the type bits of a mode.
#[derive(Clone, Debug)]
pub struct RawEntry {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: u32,
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Error {
        Error::of(errno as i32)
    }
}

fn last_error() -> Error {
    Error::from(io::Error::last_os_error())
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn check_length(result: libc::ssize_t) -> Result<usize> {
    usize::try_from(result).map_err(|_| last_error())
}

fn c_name(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::Invalid)
}

/// The link in `/proc/self/fd` that leads to the inode behind `fd`.
fn proc_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// `/proc/self/fd`, opened once: walking there takes longer than most calls. A process forked since has another one.
fn own_descriptors() -> Option<BorrowedFd<'static>> {
    static FOLDER: OnceLock<(u32, OwnedFd)> = OnceLock::new();
    let this_process = std::process::id();
    if FOLDER.get().is_none() {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(c"/proc/self/fd", flags, Mode::empty());
        let _ = opened.map(|folder| FOLDER.set((this_process, folder)));
    }
    FOLDER.get().filter(|(process, _)| *process == this_process).map(|(_, folder)| folder.as_fd())
}

/// The same link as a directory and a path in it, for calls that take both.
fn proc_link(fd: BorrowedFd<'_>) -> (BorrowedFd<'static>, CString) {
    match own_descriptors() {
        Some(folder) => (folder, CString::new(fd.as_raw_fd().to_string()).unwrap_or_default()),
        None => (nix::fcntl::AT_FDCWD, proc_path(fd)),
    }
}

/// `open(2)` of a directory for good; its path is followed like any other.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    may_fail("openat")?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    match nix::fcntl::open(path, flags, Mode::empty()) {
        // A directory that may be searched but not listed can still be served.
        Err(nix::errno::Errno::EACCES) => {
            Ok(nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
        }
        result => Ok(result?),
    }
}

/// `openat(2)` with `O_PATH | O_NOFOLLOW`: a handle on whatever stands at `name`, a symlink included.
pub fn open_path(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    may_fail("openat")?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(directory, OsStr::from_bytes(name), flags, Mode::empty())?)
}

/// One more `O_PATH` handle on the inode behind `fd`, whatever its name is by now.
pub fn node_of(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    may_fail("openat")?;
    let flags = OFlag::from_bits_retain(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_PATH) {
        return Ok(fd.try_clone_to_owned()?);
    }
    let (folder, link) = proc_link(fd);
    Ok(nix::fcntl::openat(folder, link.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// `openat(2)` with `O_CREAT | O_EXCL`: makes a regular file and opens it.
pub fn create(directory: BorrowedFd<'_>, name: &[u8], flags: i32, permissions: u32) -> Result<OwnedFd> {
    may_fail("openat(O_CREAT)")?;
    let flags = flags | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let flags = OFlag::from_bits_retain(flags);
    let mode = Mode::from_bits_truncate(permissions);
    Ok(nix::fcntl::openat(directory, OsStr::from_bytes(name), flags, mode)?)
}

/// `open(2)` with `O_TMPFILE`: a file without a name in that directory's file system, gone when it is closed.
pub fn create_nameless(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    may_fail("openat(O_CREAT)")?;
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(directory, c".", flags, Mode::from_bits_truncate(0o600))?)
}

/// Opens the inode behind `fd` anew with `flags`. Never waits for the other end of a fifo.
pub fn reopen(fd: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd> {
    may_fail("openat")?;
    let flags = OFlag::from_bits_retain((flags & !libc::O_NOFOLLOW) | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let (folder, link) = proc_link(fd);
    Ok(nix::fcntl::openat(folder, link.as_c_str(), flags, Mode::empty())?)
}

/// `statx(2)` of the inode behind `fd`.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat> {
    statx(fd, c"", libc::AT_EMPTY_PATH)
}

/// `statx(2)` of `name` in a directory; a symlink is not followed.
pub fn stat_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    // Short names need no memory of their own.
    nix::NixPath::with_nix_path(name, |name| statx(directory, name, 0))?
}

/// The device of a file system that gives an inode another `ctime` with each change after somebody has asked for it, however
/// short that was ago (multigrain timestamps, since Linux 6.13); 0 for none.
static DATES_EVERY_CHANGE: AtomicU64 = AtomicU64::new(0);

/// Finds out, on a file without a name, whether the file system of a directory dates every change.
pub fn learn_whether_every_change_is_dated(directory: BorrowedFd<'_>) {
    const ROUNDS: usize = 3;
    let Ok(nameless) = create_nameless(directory) else { return };
    let ctime = || stat(nameless.as_fd()).map(|stat| stat.ctime);
    let is_dated = |_| matches!((ctime(), write_at(nameless.as_fd(), b"x", 0), ctime()), (Ok(before), Ok(_), Ok(after)) if before != after);
    if (0..ROUNDS).all(is_dated)
        && let Ok(found) = stat(nameless.as_fd())
    {
        DATES_EVERY_CHANGE.store(found.identity.device, Ordering::Relaxed);
    }
}

/// Longer than the ticks in which file systems count time: those of the kernel are 1 to 10 ms (`current_time`, fs/inode.c).
const LONGEST_TICK: i64 = 20_000_000;

/// The time that a file would get if it were changed now, on a file system of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "held against a time that the store gave, never against one of the core"
)]
fn coarse_wall_time() -> WallTime {
    // Where it cannot be told, no time counts as long ago.
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap_or(TimeSpec::new(0, 0));
    (now.tv_sec(), u32::try_from(now.tv_nsec()).unwrap_or(0))
}

fn statx(fd: BorrowedFd<'_>, path: &std::ffi::CStr, flags: i32) -> Result<Stat> {
    may_fail("statx")?;
    let asked = coarse_wall_time();
    let mut buffer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: the path is NUL-terminated and the buffer is a statx, both alive during the call.
    check(unsafe {
        libc::statx(
            fd.as_raw_fd(),
            path.as_ptr(),
            flags | libc::AT_SYMLINK_NOFOLLOW,
            mask,
            buffer.as_mut_ptr(),
        )
    })?;
    // SAFETY: all zeros is a valid statx, and the call has filled it.
    let raw = unsafe { buffer.assume_init() };
    let device = libc::makedev(raw.stx_dev_major, raw.stx_dev_minor);
    let age = asked.0.saturating_sub(raw.stx_ctime.tv_sec).saturating_mul(1_000_000_000);
    let age = age.saturating_add(i64::from(asked.1) - i64::from(raw.stx_ctime.tv_nsec));
    let time = |time: libc::statx_timestamp| (time.tv_sec, time.tv_nsec);
    let born = if raw.stx_mask & libc::STATX_BTIME != 0 { time(raw.stx_btime) } else { (0, 0) };
    Ok(Stat {
        identity: Identity {
            device,
            ino: raw.stx_ino,
            birth: born.0.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(born.1)),
        },
        mode: u32::from(raw.stx_mode),
        links: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: libc::makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        block_size: raw.stx_blksize,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        is_settled: age > LONGEST_TICK || device == DATES_EVERY_CHANGE.load(Ordering::Relaxed),
    })
}

/// `fstatvfs(3)`.
pub fn figures(fd: BorrowedFd<'_>) -> Result<FsFigures> {
    may_fail("fstatvfs")?;
    let raw = fstatvfs(fd)?;
    Ok(FsFigures {
        blocks: raw.blocks(),
        blocks_free: raw.blocks_free(),
        blocks_available: raw.blocks_available(),
        files: raw.files(),
        files_free: raw.files_free(),
        block_size: u32::try_from(raw.block_size()).unwrap_or(4096),
        fragment_size: u32::try_from(raw.fragment_size()).unwrap_or(4096),
        name_max: u32::try_from(raw.name_max()).unwrap_or(255),
        read_only: raw.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// The kind of file system that holds the inode behind `fd`: `f_type` of `fstatfs(2)`.
pub fn kind_of_file_system(fd: BorrowedFd<'_>) -> Result<u32> {
    may_fail("fstatfs")?;
    // The width differs between C libraries; the kernel's numbers have 32 bits.
    Ok(nix::sys::statfs::fstatfs(fd)?.filesystem_type().0 as u32)
}

/// Goes through the entries of a directory but `.` and `..`, as `readdir(3)` gives them, until `visit` fails. Where that does not tell the
/// type (`DT_UNKNOWN`), the inode is asked for it.
pub fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(RawEntry) -> Result<()>,
) -> Result<()> {
    let fd = reopen(directory, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut open = nix::dir::Dir::from_fd(fd)?;
    may_fail("getdents64")?;
    for entry in open.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            Some(told) => type_bits(told),
            None => match stat_at(directory, name) {
                Ok(stat) => stat.mode & libc::S_IFMT,
                Err(Error::NotFound) => continue,
                Err(error) => return Err(error),
            },
        };
        visit(RawEntry { name: name.to_vec(), ino: entry.ino(), kind })?;
    }
    Ok(())
}

fn type_bits(told: nix::dir::Type) -> u32 {
    use nix::dir::Type;
    match told {
        Type::Fifo => libc::S_IFIFO,
        Type::CharacterDevice => libc::S_IFCHR,
        Type::Directory => libc::S_IFDIR,
        Type::BlockDevice => libc::S_IFBLK,
        Type::File => libc::S_IFREG,
        Type::Symlink => libc::S_IFLNK,
        Type::Socket => libc::S_IFSOCK,
    }
}

/// `mkdirat(2)`.
pub fn make_directory(directory: BorrowedFd<'_>, name: &[u8], permissions: u32) -> Result<()> {
    may_fail("mkdirat")?;
    Ok(nix::sys::stat::mkdirat(directory, OsStr::from_bytes(name), Mode::from_bits_truncate(permissions))?)
}

/// `mknodat(2)`; `mode` has type and permission bits.
pub fn make_node(directory: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u64) -> Result<()> {
    may_fail("mknodat")?;
    let (kind, permissions) = (SFlag::from_bits_truncate(mode), Mode::from_bits_truncate(mode));
    Ok(nix::sys::stat::mknodat(directory, OsStr::from_bytes(name), kind, permissions, rdev)?)
}

/// `symlinkat(2)`.
pub fn make_symlink(target: &[u8], directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    may_fail("symlinkat")?;
    Ok(nix::unistd::symlinkat(OsStr::from_bytes(target), directory, OsStr::from_bytes(name))?)
}

/// `readlinkat(2)` of the symlink behind `fd`.
pub fn read_link(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    may_fail("readlinkat")?;
    Ok(nix::fcntl::readlinkat(fd, c"")?.into_vec())
}

/// `linkat(2)`: one more name for the inode behind `fd`.
pub fn link(fd: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    may_fail("linkat")?;
    let (folder, link) = proc_link(fd);
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(nix::unistd::linkat(folder, link.as_c_str(), directory, OsStr::from_bytes(name), flags)?)
}

/// `unlinkat(2)` of a name that is not a directory.
pub fn unlink(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    may_fail("unlinkat")?;
    Ok(nix::unistd::unlinkat(directory, OsStr::from_bytes(name), UnlinkatFlags::NoRemoveDir)?)
}

/// `unlinkat(2)` of an empty directory.
pub fn remove_directory(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    may_fail("unlinkat")?;
    Ok(nix::unistd::unlinkat(directory, OsStr::from_bytes(name), UnlinkatFlags::RemoveDir)?)
}

/// `renameat2(2)` with its own flag bits.
pub fn rename(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    flags: u32,
) -> Result<()> {
    may_fail("renameat2")?;
    let (name, new_name) = (c_name(name)?, c_name(new_name)?);
    // By number: not every C library that this links with has a function for it.
    // SAFETY: both names are NUL-terminated and alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            new_name.as_ptr(),
            flags,
        )
    };
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

/// `fchmodat(2)` of the inode behind `fd`.
pub fn set_permissions(fd: BorrowedFd<'_>, permissions: u32) -> Result<()> {
    may_fail("fchmodat")?;
    let (folder, link) = proc_link(fd);
    // SAFETY: the path is NUL-terminated and alive during the call.
    check(unsafe { libc::fchmodat(folder.as_raw_fd(), link.as_ptr(), permissions, 0) }).map(drop)
}

/// `fchownat(2)` of the inode behind `fd`; `None` leaves as it is.
pub fn set_owner(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    may_fail("fchownat")?;
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
    Ok(nix::unistd::fchownat(fd, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)?)
}

/// `utimensat(2)` of the inode behind `fd`; `None` leaves as it is.
pub fn set_times(fd: BorrowedFd<'_>, atime: Option<WallTime>, mtime: Option<WallTime>) -> Result<()> {
    may_fail("utimensat")?;
    let spec = |time: Option<WallTime>| match time {
        Some((seconds, nanos)) => libc::timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) },
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
    };
    let times = [spec(atime), spec(mtime)];
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path is NUL-terminated and `times` has two elements, both alive during the call.
    check(unsafe { libc::utimensat(fd.as_raw_fd(), c"".as_ptr(), times.as_ptr(), flags) }).map(drop)
}

/// `pread(2)` until `buffer` is full or the file ends; returns how much there was.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    may_fail("pread")?;
    read_on(buffer.len(), |done| {
        Ok(nix::sys::uio::pread(fd, &mut buffer[done..], signed(offset + done as u64)?)?)
    })
}

/// The same into a new buffer, for bytes that will be shared.
pub fn read_shared(fd: BorrowedFd<'_>, length: usize, offset: u64) -> Result<Arc<[u8]>> {
    may_fail("pread")?;
    expect_memory(length)?;
    let mut buffer = Arc::<[u8]>::new_uninit_slice(length);
    let room = Arc::get_mut(&mut buffer).expect("nobody else has it yet");
    let read = read_on(length, |done| {
        let (rest, at) = (&mut room[done..], signed(offset + done as u64)?);
        // SAFETY: the call writes into `rest`, which is alive meanwhile, and not past its end.
        check_length(unsafe { libc::pread(fd.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), at) })
    })?;
    // SAFETY: so many bytes from the start on have been read.
    let bytes = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), read) };
    if read < length {
        return Ok(bytes.into());
    }
    // SAFETY: all of them have been read.
    Ok(unsafe { buffer.assume_init() })
}

/// Calls `read` with how much has been read until that is `length` or the file ends.
fn read_on(length: usize, mut read: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < length {
        match read(done) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Error::Interrupted) => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// `pwrite(2)`; returns how much was written.
pub fn write_at(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<usize> {
    may_fail("pwrite")?;
    Ok(nix::sys::uio::pwrite(fd, data, signed(offset)?)?)
}

/// `pwritev2(2)` with `RWF_APPEND`: writes at the end of the file, wherever that is when the kernel gets there.
pub fn append(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize> {
    may_fail("pwrite")?;
    let piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the one iovec covers `data`, which outlives the call and is only read.
    check_length(unsafe { libc::pwritev2(fd.as_raw_fd(), &piece, 1, 0, libc::RWF_APPEND) })
}

fn signed(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| Error::Invalid)
}

/// `ftruncate(2)`.
pub fn resize(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    may_fail("ftruncate")?;
    Ok(nix::unistd::ftruncate(fd, signed(size)?)?)
}

/// `fallocate(2)` with its own mode bits.
pub fn allocate(fd: BorrowedFd<'_>, mode: i32, offset: u64, length: u64) -> Result<()> {
    may_fail("fallocate")?;
    let mode = nix::fcntl::FallocateFlags::from_bits_retain(mode);
    Ok(nix::fcntl::fallocate(fd, mode, signed(offset)?, signed(length)?)?)
}

/// `copy_file_range(2)`; returns how much was copied.
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
    length: u64,
) -> Result<usize> {
    may_fail("copy_file_range")?;
    let (mut from_offset, mut to_offset) = (signed(from_offset)?, signed(to_offset)?);
    let length = usize::try_from(length).map_err(|_| Error::Invalid)?;
    Ok(nix::fcntl::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length)?)
}

/// `lseek(2)` with `SEEK_DATA` or `SEEK_HOLE`, given as its number.
pub fn seek(fd: BorrowedFd<'_>, offset: i64, whence: i32) -> Result<i64> {
    may_fail("lseek")?;
    // SAFETY: no memory is involved.
    let at = unsafe { libc::lseek(fd.as_raw_fd(), offset, whence) };
    if at < 0 { Err(last_error()) } else { Ok(at) }
}

/// `fdatasync(2)` or `fsync(2)`.
pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<()> {
    may_fail("fsync")?;
    Ok(if data_only { nix::unistd::fdatasync(fd) } else { nix::unistd::fsync(fd) }?)
}

/// `setxattr(2)` of the inode behind `fd`, with its own flag bits.
pub fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
    may_fail("setxattr")?;
    let (path, name) = (proc_path(fd), c_name(name)?);
    // SAFETY: both strings are NUL-terminated and the value has the given length; all live during the call.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) })
        .map(drop)
}

/// `getxattr(2)` of the inode behind `fd`: at once if that is open, for a file is asked for `security.capability` each
/// time it is written to.
pub fn get_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    may_fail("getxattr")?;
    let name = c_name(name)?;
    // SAFETY: as above; the buffer has the given length.
    let value = read_growing(|buffer| unsafe {
        libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    });
    if !matches!(&value, Err(error) if *error == Error::BadHandle) {
        return value;
    }
    let path = proc_path(fd);
    // SAFETY: as above.
    read_growing(|buffer| unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })
}

/// `listxattr(2)` of the inode behind `fd`: names, each with a NUL behind it.
pub fn list_xattrs(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    may_fail("listxattr")?;
    let path = proc_path(fd);
    // SAFETY: as above.
    read_growing(|buffer| unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// `removexattr(2)` of the inode behind `fd`.
pub fn remove_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    may_fail("removexattr")?;
    let (path, name) = (proc_path(fd), c_name(name)?);
    // SAFETY: both strings are NUL-terminated and alive during the call.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

fn read_growing(mut call: impl FnMut(&mut [u8]) -> libc::ssize_t) -> Result<Vec<u8>> {
    // XATTR_SIZE_MAX and XATTR_LIST_MAX are both 64 KiB (linux/limits.h): the second try is always large enough.
    for size in [256, 65536] {
        let mut buffer = vec![0; size];
        match check_length(call(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error == Error::OutOfRange && size == 256 => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::OutOfRange)
}

/// A file handle of `name_to_handle_at(2)`: finds an inode again without a descriptor and whatever its name. Its kind,
/// then its bytes. There may be a million of them: those of most file systems are short and need no memory of their own.
#[derive(Clone, Debug)]
pub enum FileHandle {
    /// So many of these bytes.
    Short { length: u8, bytes: [u8; SHORT_HANDLE] },
    /// All of these.
    Long(Box<[u8]>),
}

/// What takes no more room than a long one does.
const SHORT_HANDLE: usize = 22;

impl FileHandle {
    fn of(all: &[u8]) -> FileHandle {
        let mut bytes = [0; SHORT_HANDLE];
        match (bytes.get_mut(..all.len()), u8::try_from(all.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(all);
                FileHandle::Short { length, bytes }
            }
            _ => FileHandle::Long(all.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            FileHandle::Short { length, bytes } => &bytes[..usize::from(*length)],
            FileHandle::Long(bytes) => bytes,
        }
    }
}

/// The kernel's `struct file_handle` with room for the longest handle (`MAX_HANDLE_SZ`).
#[repr(C)]
struct RawHandle {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; 128],
}

/// `name_to_handle_at(2)` of the inode behind `fd`.
pub fn file_handle(fd: BorrowedFd<'_>) -> Result<FileHandle> {
    may_fail("name_to_handle_at")?;
    let mut raw = RawHandle { length: 128, kind: 0, bytes: [0; 128] };
    let mut mount = 0;
    // SAFETY: `raw` has the layout of file_handle and as much room as it says.
    check(unsafe {
        libc::name_to_handle_at(
            fd.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast(),
            &mut mount,
            libc::AT_EMPTY_PATH,
        )
    })?;
    Ok(FileHandle::of(&[&raw.kind.to_ne_bytes(), &raw.bytes[..raw.length as usize]].concat()))
}

/// `open_by_handle_at(2)` with `O_PATH`. Needs `CAP_DAC_READ_SEARCH` (EPERM without) and a real descriptor on the same
/// file system.
pub fn open_handle(on: BorrowedFd<'_>, handle: &FileHandle) -> Result<OwnedFd> {
    may_fail("open_by_handle_at")?;
    let (kind, bytes) = handle.bytes().split_first_chunk().ok_or(Error::Stale)?;
    let mut raw =
        RawHandle { length: bytes.len() as libc::c_uint, kind: i32::from_ne_bytes(*kind), bytes: [0; 128] };
    raw.bytes[..bytes.len()].copy_from_slice(bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: `raw` has the layout of file_handle and its length is that of the handle.
    let fd = check(unsafe { libc::open_by_handle_at(on.as_raw_fd(), (&raw mut raw).cast(), flags) })?;
    // SAFETY: the call has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `dup3(2)`: whoever uses `place` reaches from now on what `descriptor` leads to.
pub fn take_place_of(place: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: both are open, and what `place` led to before is closed by nobody else.
    check(unsafe { libc::dup3(descriptor.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Whether a thread has been killed and only waits to die: SIGKILL stands in `SigPnd` of its status (`proc(5)`), where
/// the kernel puts it for every fatal signal. A thread that is gone counts, too; one that cannot be seen does not.
pub fn is_dying(thread: u32) -> bool {
    const SIGKILL_BIT: u64 = 1 << 8;
    if thread == 0 {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => status
            .lines()
            .find_map(|line| line.strip_prefix("SigPnd:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & SIGKILL_BIT != 0),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether a signal waits for a thread that would end its system call: one that it neither blocks nor ignores (`proc(5)`).
/// A thread that is gone counts, too; one that cannot be seen does not.
pub fn is_interrupted(thread: u32) -> bool {
    if thread == 0 {
        return false;
    }
    let status = match std::fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => status,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn") != 0
}

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// To lock the same for themselves, shared (`F_RDLCK`).
    Shared,
    /// Nothing (`F_WRLCK`).
    Exclusive,
    /// Everything: there is none (`F_UNLCK`).
    None,
}

/// The last byte that a file can have.
pub const LAST_BYTE: u64 = i64::MAX as u64;

impl LockKind {
    /// The one of this number (`fcntl(2)`).
    ///
    /// # Errors
    /// EINVAL if there is none.
    pub fn of(number: i32) -> Result<LockKind> {
        match number {
            libc::F_RDLCK => Ok(LockKind::Shared),
            libc::F_WRLCK => Ok(LockKind::Exclusive),
            libc::F_UNLCK => Ok(LockKind::None),
            _ => Err(Error::Invalid),
        }
    }

    /// Its number.
    pub fn number(self) -> i32 {
        match self {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
            LockKind::None => libc::F_UNLCK,
        }
    }
}

fn lock_of(kind: LockKind, start: u64, end: u64) -> libc::flock {
    let offset = |byte: u64| i64::try_from(byte).unwrap_or(i64::MAX);
    libc::flock {
        l_type: kind.number() as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: offset(start),
        // A length of 0 reaches to the end, wherever that will be.
        l_len: if end >= LAST_BYTE { 0 } else { offset(end - start) + 1 },
        l_pid: 0,
    }
}

/// Takes, changes or gives up a lock of the open file description behind `fd`, from byte `start` to byte `end`
/// (`F_OFD_SETLK`); false if somebody else has one that is in the way.
pub fn try_lock(fd: BorrowedFd<'_>, kind: LockKind, start: u64, end: u64) -> Result<bool> {
    if start > end {
        return Err(Error::Invalid);
    }
    match nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock_of(kind, start, end))) {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The lock of another description that is in the way of one (`F_OFD_GETLK`): its kind, first and last byte.
pub fn lock_in_the_way(
    fd: BorrowedFd<'_>,
    kind: LockKind,
    start: u64,
    end: u64,
) -> Result<Option<(LockKind, u64, u64)>> {
    if start > end {
        return Err(Error::Invalid);
    }
    let mut lock = lock_of(kind, start, end);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut lock))?;
    let start = u64::try_from(lock.l_start).unwrap_or(0);
    let end = match u64::try_from(lock.l_len) {
        Ok(length @ 1..) => start + length - 1,
        _ => LAST_BYTE,
    };
    let kind = LockKind::of(i32::from(lock.l_type))?;
    Ok((kind != LockKind::None).then_some((kind, start, end)))
}

/// A file in memory that nobody else has.
pub fn make_private_file() -> Result<OwnedFd> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    Ok(nix::sys::memfd::memfd_create(c"locks", flags)?)
}

/// Whether a thread has a supplementary group (`Groups` of its status, `proc(5)`); one that cannot be seen has none.
pub fn has_group(thread: u32, group: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let mut groups =
        status.lines().filter_map(|line| line.strip_prefix("Groups:")).flat_map(str::split_whitespace);
    groups.any(|found| found.parse() == Ok(group))
}

/// Whether a thread has `CAP_SYS_ADMIN` (`CapEff` of its status, `proc(5)`) in the user namespace of this process: what
/// another namespace gives it counts nothing here. One that cannot be seen has not.
pub fn is_administrator(thread: u32) -> bool {
    const SYS_ADMIN_BIT: u64 = 1 << 21;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    capabilities.is_some_and(|mask| mask & SYS_ADMIN_BIT != 0)
        && namespace(&thread.to_string()).is_some_and(|theirs| namespace("self") == Some(theirs))
}

/// How many descriptors this process may have.
pub fn descriptor_limit() -> u64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Raises the limit of descriptors to what the system allows this process.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Failing leaves the limit as it is, which works with fewer open files.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Whether umask and working directory of the whole process may be changed.
static OWNS_PROCESS: AtomicBool = AtomicBool::new(false);

/// From now on umask and working directory of the whole process may be changed where a thread cannot have its own.
pub fn own_process() {
    OWNS_PROCESS.store(true, Ordering::Relaxed);
}

/// `unshare(2)` with `CLONE_FS`, then `umask(2)` to nothing and `chdir(2)` to the root, for this thread and those it will
/// start: every mode is worked out before it is asked for, and nobody's directory is kept busy. Where a sandbox forbids
/// the first, the others would hold for the whole process: they are left alone unless it is [ours](own_process).
///
/// # Errors
/// The sandbox forbids it, and nothing was changed.
pub fn take_own_umask() -> Result<()> {
    let alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS);
    if let (Err(errno), false) = (alone, OWNS_PROCESS.load(Ordering::Relaxed)) {
        return Err(Error::of(errno as i32));
    }
    nix::sys::stat::umask(Mode::empty());
    let _ = nix::unistd::chdir("/");
    Ok(())
}

/// Whether this process is root, and so may give files away and pass by permissions.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a call with the rights of a user and a group instead of root's, in this thread: the kernel then checks them at the
/// moment of the call (`setfsuid(2)`, `setfsgid(2)`).
pub fn with_rights_of<T>(uid: u32, gid: u32, call: impl FnOnce() -> Result<T>) -> Result<T> {
    struct Back(Uid, Gid);
    impl Drop for Back {
        fn drop(&mut self) {
            nix::unistd::setfsgid(self.1);
            nix::unistd::setfsuid(self.0);
        }
    }
    // The group first: to change it takes a right that goes with the user.
    let group = nix::unistd::setfsgid(Gid::from_raw(gid));
    let _back = Back(nix::unistd::setfsuid(Uid::from_raw(uid)), group);
    call()
}

/// The user and group that this process's files belong to.
pub fn own_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Refuses to start what may need memory where this process may not have much more of it. What is to be kept back is
/// left to what has no way to fail: to land what is in flight, and to say what cannot land.
///
/// # Errors
/// ENOMEM if the limit of this process (`RLIMIT_AS`, `RLIMIT_DATA`, or no overcommitting) leaves no room for `bytes` and a
/// few MiB more. Where only the machine or a control group sets a limit nobody can be asked: the kernel kills.
pub fn expect_memory(bytes: usize) -> Result<()> {
    const KEPT_BACK: usize = 8 << 20;
    if !is_memory_limited() {
        return Ok(());
    }
    // Larger than what the allocator has in stock: the system is asked. Nothing of it is ever touched.
    let mut probe = Vec::<u8>::new();
    probe.try_reserve_exact(bytes.saturating_add(KEPT_BACK)).map_err(|_| Error::of(libc::ENOMEM))
}

fn is_memory_limited() -> bool {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    static NEVER_OVERCOMMITS: OnceLock<bool> = OnceLock::new();
    let is_limited = |resource| getrlimit(resource).is_ok_and(|(soft, _)| soft != RLIM_INFINITY);
    is_limited(Resource::RLIMIT_AS)
        || is_limited(Resource::RLIMIT_DATA)
        || *NEVER_OVERCOMMITS.get_or_init(|| {
            std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.first() == Some(&b'2'))
        })
}

/// How many mutations this process has in flight, for its last words.
pub static IN_FLIGHT: AtomicU64 = AtomicU64::new(0);

/// Where the last words go, and how they begin.
static LAST_WORDS: OnceLock<(OwnedFd, Box<[u8]>)> = OnceLock::new();

/// If this process is aborted, as for want of memory, one line goes to `log` first: `line`, and how many mutations were
/// in flight and are lost. All that it takes is at hand from now on. What ends with `SIGKILL` says nothing.
pub fn leave_last_words(log: OwnedFd, line: &str) {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    if LAST_WORDS.set((log, line.as_bytes().into())).is_ok() {
        let action =
            SigAction::new(SigHandler::Handler(say_last_words), SaFlags::SA_RESETHAND, SigSet::empty());
        // SAFETY: the handler only reads what never changes and writes with write(2).
        let _ = unsafe { sigaction(Signal::SIGABRT, &action) };
    }
}

extern "C" fn say_last_words(_signal: libc::c_int) {
    let Some((log, line)) = LAST_WORDS.get() else { return };
    // "N\n", from the end.
    let mut number = [b'\n'; 21];
    let (mut left, mut start) = (IN_FLIGHT.load(Ordering::Relaxed), number.len() - 1);
    while start > 0 && (left > 0 || start == number.len() - 1) {
        start -= 1;
        number[start] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    for part in [&**line, &number[start..]] {
        // SAFETY: the bytes are alive, and write(2) may be called in a signal handler.
        unsafe { libc::write(log.as_raw_fd(), part.as_ptr().cast(), part.len()) };
    }
    // Whoever has sent the signal, this is the end: the handler is reset by now.
    // SAFETY: raise(3) may be called in a signal handler.
    unsafe { libc::raise(libc::SIGABRT) };
}

/// Gives memory that was freed back to the system (`malloc_trim(3)`).
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only touches what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets large buffers come fresh from the kernel (`mallopt(3)`): fuser's 16 MiB request buffers then take only the
/// pages that requests really fill. The buffers of single reads and writes, 1 MiB at most, are used again instead:
/// getting their pages anew takes longer than filling them.
pub fn map_large_allocations() {
    const LARGE: i32 = 4 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets numbers; called before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        if is_memory_limited() {
            // Each thread that has a heap of its own reserves 64 MiB for it, most of which it never uses.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_to_be_shared_ends_where_the_file_does() {
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, b"abcdef").expect("some bytes");
        for (length, offset, read) in [(3, 0, "abc"), (6, 0, "abcdef"), (9, 4, "ef"), (4, 6, ""), (0, 0, "")]
        {
            let shared = read_shared(file.as_fd(), length, offset).expect("it can be read");
            assert_eq!(*shared, *read.as_bytes(), "{length} from {offset}");
        }
    }
}
