//! What each request of the kernel asks of the client, and how it is answered.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use fuser::{
    AccessFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{
    Adapter, DO_NOT_KEEP, GENERATION,
    wire::{
        asked_time, caller, errno, file_attr, is_synced, reply_attr, reply_data, reply_empty, reply_entry,
        reply_lookup, reply_written, reply_xattr,
    },
};
use crate::{
    client::{Client, Copy, Entry, Missing, Offset, RenameHow, SetAttributes, Sync},
    error::Error,
};

const O_APPEND: i32 = 0o2000;
const O_TRUNC: i32 = 0o1000;

impl fuser::Filesystem for Adapter {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = catch_unwind(AssertUnwindSafe(|| self.client.lookup(parent.0, name.as_bytes())));
        let failed = Missing { error: Error::InputOutput, lease: DO_NOT_KEEP };
        reply_lookup(reply, found.unwrap_or(Err(failed)));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        let _ = self.ask(|client| {
            client.forget(ino.0, count);
            Ok(())
        });
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply_attr(reply, self.client.shown_number(ino.0), self.ask(|client| client.getattr(ino.0)));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let caller = caller(request);
        let (atime, mtime) = (asked_time(atime), asked_time(mtime));
        let asked =
            SetAttributes { permissions: mode.map(|mode| mode & 0o7777), uid, gid, size, atime, mtime };
        let shown = self.client.shown_number(ino.0);
        self.change(
            request,
            reply,
            move |client| client.setattr(&caller, ino.0, &asked),
            move |reply, result| reply_attr(reply, shown, result),
        );
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        reply_data(reply, self.ask(|client| client.readlink(ino.0)));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (caller, name) = (caller(request), name.to_owned());
        let make = move |client: &Arc<Client>| {
            client.mknod(&caller, parent.0, name.as_bytes(), mode, umask, rdev.into())
        };
        self.change(request, reply, make, reply_entry);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, name) = (caller(request), name.to_owned());
        let make = move |client: &Arc<Client>| client.mkdir(&caller, parent.0, name.as_bytes(), mode, umask);
        self.change(request, reply, make, reply_entry);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.change(request, reply, move |client| client.unlink(parent.0, name.as_bytes()), reply_empty);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.change(request, reply, move |client| client.rmdir(parent.0, name.as_bytes()), reply_empty);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (caller, name, target) = (caller(request), name.to_owned(), target.as_os_str().to_owned());
        let make =
            move |client: &Arc<Client>| client.symlink(&caller, parent.0, name.as_bytes(), target.as_bytes());
        self.change(request, reply, make, reply_entry);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags.bits() {
            0 => RenameHow::Replace,
            1 => RenameHow::NoReplace,
            2 => RenameHow::Exchange,
            _ => return reply.error(errno(Error::Invalid)),
        };
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let rename = move |client: &Arc<Client>| {
            client.rename((parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()), how)
        };
        self.change(request, reply, rename, reply_empty);
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.change(request, reply, move |client| client.link(ino.0, parent.0, name.as_bytes()), reply_entry);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, opener) = (caller(request), self.opener(flags.0));
        let open = move |client: &Arc<Client>| client.open_file(&caller, ino.0, flags.0);
        let answer = move |reply: ReplyOpen, result: Result<u64, Errno>| {
            let handle = match result {
                Ok(handle) => handle,
                Err(error) => return reply.error(error),
            };
            match opener.settle(ino.0, handle, |file| reply.open_backing(file)) {
                (flags, None) => reply.opened(FileHandle(handle), flags),
                (flags, Some(to)) => reply.opened_passthrough(FileHandle(handle), flags, &to),
            }
        };
        // Only what cuts the file can add a change.
        if flags.0 & O_TRUNC == 0 {
            return answer(reply, self.ask(open));
        }
        self.change(request, reply, open, answer);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, name) = (caller(request), name.to_owned());
        let opener = self.opener(flags);
        self.change(
            request,
            reply,
            move |client| client.create(&caller, parent.0, name.as_bytes(), mode, umask, flags),
            move |reply, result| {
                let (Entry { ino, attributes, lease }, handle) = match result {
                    Ok(made) => made,
                    Err(error) => return reply.error(error),
                };
                let (attr, lease) = (file_attr(ino, &attributes), lease.both());
                let opened = opener.settle(ino, handle, |file| reply.open_backing(file));
                let handle = FileHandle(handle);
                match opened {
                    (flags, None) => reply.created(&lease, &attr, GENERATION, handle, flags),
                    (flags, Some(to)) => {
                        reply.created_passthrough(&lease, &attr, GENERATION, handle, flags, &to);
                    }
                }
            },
        );
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply_data(reply, self.ask(|client| client.read(handle.0, offset, size as usize)));
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let caller = caller(request);
        // Pages that a shared mapping has changed go where they belong, whoever's file brings them. The flags are those
        // of this write: fcntl(2) may have changed O_APPEND since the file was opened, and pwritev2(2) may ask for
        // RWF_SYNC or RWF_DSYNC.
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let place = if flags.0 & O_APPEND != 0 && !from_cache { Offset::End } else { Offset::At(offset) };
        let write = (caller, handle, place, !from_cache && is_synced(flags.0));
        if self.client.has_room(data.len()) {
            return Adapter::write(&self.client, write, data, reply);
        }
        let data = match Client::copy_to_wait(data) {
            Ok(copied) => copied,
            Err(error) => return reply.error(errno(error)),
        };
        let (client, wanted) = (self.client.clone(), data.len());
        let retry = move |room: Result<(), Error>| match room {
            Ok(()) => Adapter::write(&client, write, &data, reply),
            Err(error) => reply.error(errno(error)),
        };
        self.client.wait_for_room(wanted, request.pid(), Box::new(retry));
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply_empty(reply, self.ask(|client| client.flush(handle.0)));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.ask(|client| {
            client.release(handle.0);
            self.passthrough.release(client, ino.0);
            Ok(())
        });
        reply_empty(reply, released);
    }

    fn fsync(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let done = move |result: Result<(), Error>| reply_empty(reply, result.map_err(errno));
        Adapter::begin(&self.client, |client| {
            client.fsync(handle.0, data_only, request.pid(), Box::new(done));
        });
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.ask(|client| client.opendir(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.list(ino, handle, offset, reply);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list_with_attributes(ino, handle, offset, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let released = self.ask(|client| {
            client.releasedir(handle.0);
            Ok(())
        });
        reply_empty(reply, released);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let done = move |result: Result<(), Error>| reply_empty(reply, result.map_err(errno));
        let sync = Sync { ino: ino.0, data_only, thread: request.pid() };
        Adapter::begin(&self.client, |client| client.fsync_directory(sync, Box::new(done)));
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.ask(|client| client.figures()) {
            Ok(figures) => reply.statfs(
                figures.blocks,
                figures.blocks_free,
                figures.blocks_available,
                figures.files,
                figures.files_free,
                figures.block_size,
                figures.name_max,
                figures.fragment_size,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (caller, name, value) = (caller(request), name.to_owned(), value.to_vec());
        let set = move |client: &Arc<Client>| client.setxattr(&caller, ino.0, name.as_bytes(), &value, flags);
        self.change(request, reply, set, reply_empty);
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        reply_xattr(reply, size, self.ask(|client| client.getxattr(ino.0, name.as_bytes())));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let caller = caller(request);
        reply_xattr(reply, size, self.ask(|client| client.listxattr(&caller, ino.0)));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, name) = (caller(request), name.to_owned());
        let remove = move |client: &Arc<Client>| client.removexattr(&caller, ino.0, name.as_bytes());
        self.change(request, reply, remove, reply_empty);
    }

    fn access(&self, _request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        reply_empty(reply, self.ask(|client| client.access(ino.0, mask.bits())));
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let caller = caller(request);
        let allocate = move |client: &Arc<Client>| client.fallocate(&caller, handle.0, mode, offset, length);
        self.change(request, reply, allocate, reply_empty);
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.ask(|client| client.seek(handle.0, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _ino_in: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _ino_out: INodeNo,
        to: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let caller = caller(request);
        let copy = Copy { from: from.0, from_offset, to: to.0, to_offset, length };
        self.with_room(request, move |client, room| match room {
            Ok(()) => client.copy_range(&caller, &copy, |copied| reply_written(reply, copied.map_err(errno))),
            Err(error) => reply.error(errno(error)),
        });
    }
}
