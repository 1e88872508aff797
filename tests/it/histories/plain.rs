//! The obvious definition: the same operations on a plain directory, by the system calls that programs make.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use chaosfs::consistency::Kind;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, copy_file_range, fallocate, renameat2},
    sys::{
        stat::{Mode, UtimensatFlags, utimensat},
        time::TimeSpec,
    },
    unistd::mkfifo,
};

use super::{
    machine::Machine,
    program::{How, Move},
    tree::{Mark, Seen, Tree, join, set_on_purpose},
};

/// What an operation answers: bytes or a count (as its decimal digits), or an errno.
pub type Answer = Result<Vec<u8>, i32>;

pub fn done<T>(_: T) -> Vec<u8> {
    Vec::new()
}

pub fn count(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A file that a program has open here.
pub struct PlainFile {
    pub file: File,
    append: bool,
}

/// A plain directory and the programs on it.
pub struct Plain {
    root: PathBuf,
}

fn errno(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn number(error: Errno) -> i32 {
    error as i32
}

fn kind_of(metadata: &fs::Metadata) -> Kind {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () => Kind::File,
    }
}

impl Machine for Plain {
    type File = PlainFile;

    fn close(&self, _: PlainFile) -> Answer {
        Ok(Vec::new())
    }

    fn sync(&self, _: &PlainFile) -> Answer {
        Ok(Vec::new())
    }

    /// Opening follows no symlink, and directories and fifos are not opened at all.
    fn open(&self, path: &str, how: How) -> Result<PlainFile, i32> {
        if how != How::CreateNew
            && let Ok(metadata) = fs::symlink_metadata(self.path(path))
        {
            match kind_of(&metadata) {
                Kind::Directory => return Err(libc::EISDIR),
                Kind::Fifo => return Err(libc::ENXIO),
                _ => {}
            }
        }
        let flags = how.flags();
        let access = flags & libc::O_ACCMODE;
        let opened = File::options()
            .read(access != libc::O_WRONLY)
            .write(access != libc::O_RDONLY)
            .mode(0o666)
            .custom_flags((flags & !libc::O_ACCMODE) | libc::O_NOFOLLOW)
            .open(self.path(path));
        Ok(PlainFile { file: opened.map_err(errno)?, append: flags & libc::O_APPEND != 0 })
    }

    fn write(&self, open: &PlainFile, offset: u64, data: &[u8]) -> Answer {
        open.file.write_at(data, offset).map(count).map_err(errno)
    }

    fn read(&self, open: &PlainFile, offset: u64, length: usize) -> Answer {
        let mut buffer = vec![0; length];
        let read = open.file.read_at(&mut buffer, offset).map_err(errno)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    fn set_file_length(&self, open: &PlainFile, size: u64) -> Answer {
        open.file.set_len(size).map(done).map_err(errno)
    }

    fn allocate(&self, open: &PlainFile, punch: bool, offset: u64, length: u64) -> Answer {
        let punching = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let flags = if punch { punching } else { FallocateFlags::empty() };
        fallocate(open.file.as_fd(), flags, offset as i64, length as i64).map(done).map_err(number)
    }

    fn copy(&self, from: (&PlainFile, u64), to: (&PlainFile, u64), length: usize) -> Answer {
        if to.0.append {
            return Err(libc::EBADF);
        }
        let (mut here, mut there) = (from.1 as i64, to.1 as i64);
        copy_file_range(from.0.file.as_fd(), Some(&mut here), to.0.file.as_fd(), Some(&mut there), length)
            .map(count)
            .map_err(number)
    }

    /// To the same size, `truncate(2)` leaves the times alone on some file systems; a client changes them always.
    fn set_length(&self, path: &str, size: u64) -> Answer {
        let path = self.path(path);
        let answer = nix::unistd::truncate(&path, size as i64).map(done).map_err(number);
        if answer.is_ok() {
            let flags = UtimensatFlags::NoFollowSymlink;
            utimensat(AT_FDCWD, &path, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW, flags)
                .expect("the file is there");
        }
        answer
    }

    fn set_mode(&self, path: &str, mode: u32) -> Answer {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).map(done).map_err(errno)
    }

    fn set_times(&self, path: &str, seconds: i64) -> Answer {
        let time = TimeSpec::new(seconds, 5);
        utimensat(AT_FDCWD, &self.path(path), &time, &time, UtimensatFlags::NoFollowSymlink)
            .map(done)
            .map_err(number)
    }

    fn mkdir(&self, path: &str) -> Answer {
        nix::unistd::mkdir(&self.path(path), Mode::from_bits_truncate(0o777)).map(done).map_err(number)
    }

    fn rmdir(&self, path: &str) -> Answer {
        fs::remove_dir(self.path(path)).map(done).map_err(errno)
    }

    fn unlink(&self, path: &str) -> Answer {
        fs::remove_file(self.path(path)).map(done).map_err(errno)
    }

    fn symlink(&self, path: &str, target: &str) -> Answer {
        symlink(target, self.path(path)).map(done).map_err(errno)
    }

    fn mkfifo(&self, path: &str) -> Answer {
        mkfifo(&self.path(path), Mode::from_bits_truncate(0o666)).map(done).map_err(number)
    }

    fn link(&self, from: &str, to: &str) -> Answer {
        fs::hard_link(self.path(from), self.path(to)).map(done).map_err(errno)
    }

    fn rename(&self, from: &str, to: &str, how: Move) -> Answer {
        let flags = match how {
            Move::Over => RenameFlags::empty(),
            Move::NoReplace => RenameFlags::RENAME_NOREPLACE,
            Move::Exchange => RenameFlags::RENAME_EXCHANGE,
        };
        renameat2(AT_FDCWD, &self.path(from), AT_FDCWD, &self.path(to), flags).map(done).map_err(number)
    }

    /// Size, links and all the bytes of an open file.
    fn file_view(&self, open: &PlainFile) -> (u64, u64, Answer) {
        let metadata = open.file.metadata().expect("an open file has attributes");
        (metadata.size(), metadata.nlink(), self.read(open, 0, metadata.size() as usize + 10))
    }

    /// All that there is.
    fn look(&self) -> Tree {
        let mut tree = Tree::default();
        self.look_at("", &mut tree);
        tree
    }
}

impl Plain {
    pub fn new(root: &Path) -> Plain {
        Plain { root: root.to_path_buf() }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn look_at(&self, path: &str, tree: &mut Tree) {
        let full = self.path(path);
        let metadata = fs::symlink_metadata(&full).expect("it was listed");
        let kind = kind_of(&metadata);
        let target =
            (kind == Kind::Symlink).then(|| fs::read_link(&full).expect("a symlink").display().to_string());
        let seen = Seen {
            kind,
            permissions: metadata.permissions().mode() & 0o7777,
            links: metadata.nlink() as u32,
            size: (kind != Kind::Directory).then(|| metadata.size()),
            content: (kind == Kind::File).then(|| fs::read(&full).expect("a file")),
            target,
            mtime: set_on_purpose(metadata.mtime()),
        };
        let mark = Mark {
            ino: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            ctime: (metadata.ctime(), metadata.ctime_nsec() as u32),
        };
        tree.seen.insert(path.to_string(), seen);
        tree.marks.insert(path.to_string(), mark);
        if kind == Kind::Directory {
            for entry in fs::read_dir(&full).expect("a directory") {
                let name =
                    entry.expect("an entry").file_name().into_string().expect("a name from the alphabet");
                self.look_at(&join(path, &name), tree);
            }
        }
    }
}
