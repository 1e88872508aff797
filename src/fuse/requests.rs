//! What each request of the kernel asks of the client, and how it is answered.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use fuser::{
    AccessFlags, CopyFileRangeFlags, FileHandle, FopenFlags, INodeNo, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{
    Adapter, GENERATION,
    listing::{list, list_with_attributes},
    locks, quietly,
    wire::{
        asked_time, caller, errno, file_attr, is_synced, rename_how, reply_attr, reply_data, reply_empty,
        reply_entry, reply_lookup, reply_written, reply_xattr,
    },
};
use crate::{
    backing::flags::O_APPEND,
    client::{Copy, Entry, Offset, SetAttributes},
    error::Error,
};

impl fuser::Filesystem for Adapter {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let lookup = self.client.lookup(&caller(request), parent.0, name.as_bytes());
        lookup.serve(|found| reply_lookup(reply, found));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        quietly(|| self.client.forget(ino.0, count));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let shown = self.client.shown_number(ino.0);
        self.client.getattr(&caller(request), ino.0).serve(move |result| reply_attr(reply, shown, result));
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
        let (atime, mtime) = (asked_time(atime), asked_time(mtime));
        let permissions = mode.map(|mode| mode & 0o7777);
        let wanted = SetAttributes { permissions, uid, gid, size, atime, mtime };
        let shown = self.client.shown_number(ino.0);
        let setattr = self.client.setattr(&caller(request), ino.0, wanted);
        setattr.serve(move |result| reply_attr(reply, shown, result));
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.client.readlink(&caller(request), ino.0).serve(|target| reply_data(reply, target));
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
        let name = name.as_bytes();
        let mknod = self.client.mknod(&caller(request), parent.0, name, mode, umask, rdev.into());
        mknod.serve(|made| reply_entry(reply, made));
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
        let mkdir = self.client.mkdir(&caller(request), parent.0, name.as_bytes(), mode, umask);
        mkdir.serve(|made| reply_entry(reply, made));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let unlink = self.client.unlink(&caller(request), parent.0, name.as_bytes());
        unlink.serve(|done| reply_empty(reply, done));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let rmdir = self.client.rmdir(&caller(request), parent.0, name.as_bytes());
        rmdir.serve(|done| reply_empty(reply, done));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
        let symlink = self.client.symlink(&caller(request), parent.0, name, target);
        symlink.serve(|made| reply_entry(reply, made));
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
        let Some(how) = rename_how(flags) else { return reply.error(errno(Error::Invalid)) };
        let (from, to) = ((parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()));
        self.client.rename(&caller(request), from, to, how).serve(|done| reply_empty(reply, done));
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let link = self.client.link(&caller(request), ino.0, parent.0, name.as_bytes());
        link.serve(|made| reply_entry(reply, made));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opener = self.opener(flags.0);
        self.client.open_file(&caller(request), ino.0, flags.0).serve(move |opened| {
            let handle = match opened {
                Ok(handle) => handle,
                Err(error) => return reply.error(errno(error)),
            };
            match opener.settle(ino.0, handle, |file| reply.open_backing(file)) {
                (flags, None) => reply.opened(FileHandle(handle), flags),
                (flags, Some(to)) => reply.opened_passthrough(FileHandle(handle), flags, &to),
            }
        });
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
        let opener = self.opener(flags);
        let create = self.client.create(&caller(request), parent.0, name.as_bytes(), mode, umask, flags);
        create.serve(move |made| {
            let (Entry { ino, attributes, lease }, handle) = match made {
                Ok(made) => made,
                Err(error) => return reply.error(errno(error)),
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
        });
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.client.read(&caller(request), handle.0, offset, size as usize);
        read.serve(|bytes| reply_data(reply, bytes));
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
        // Pages that a shared mapping has changed go where they belong, whoever's file brings them. The flags are those
        // of this write: fcntl(2) may have changed O_APPEND since the file was opened, and pwritev2(2) may ask for
        // RWF_SYNC or RWF_DSYNC.
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let place = if flags.0 & O_APPEND != 0 && !from_cache { Offset::End } else { Offset::At(offset) };
        let (caller, answer) = (caller(request), |written| reply_written(reply, written));
        if !from_cache && is_synced(flags.0) {
            self.client.write_synced(&caller, handle.0, place, data).serve(answer);
        } else {
            self.client.write(&caller, handle.0, place, data).serve(answer);
        }
    }

    fn flush(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let client = self.client.clone();
        self.client.flush(&caller(request), handle.0).serve(move |done| {
            client.release_locks_of(handle.0, lock_owner.0);
            reply_empty(reply, done);
        });
    }

    fn getlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        locks::get(self, &caller(request), handle.0, (lock_owner.0, kind), (start, end), reply);
    }

    fn setlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        locks::set(self, &caller(request), handle.0, (lock_owner.0, kind), (start, end), (sleep, reply));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        quietly(|| {
            if let Some(owner) = lock_owner {
                self.client.release_locks_of(handle.0, owner.0);
            }
            self.client.release(handle.0);
            self.passthrough.release(&self.client, ino.0);
        });
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let fsync = self.client.fsync(&caller(request), handle.0, data_only);
        fsync.serve(|done| reply_empty(reply, done));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.client.opendir(&caller(request), ino.0).serve(|opened| match opened {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let client = self.client.clone();
        let readdir = self.client.readdir(&caller(request), handle.0, offset);
        readdir.serve(move |listing| list(&client, (ino, offset), listing, reply));
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let client = self.client.clone();
        let readdir = self.client.readdir(&caller(request), handle.0, offset);
        readdir.serve(move |listing| list_with_attributes(&client, (ino, offset), listing, reply));
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        quietly(|| self.client.releasedir(handle.0));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let fsync = self.client.fsync_directory(&caller(request), ino.0, data_only);
        fsync.serve(|done| reply_empty(reply, done));
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.client.figures(&caller(request)).serve(|figures| match figures {
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
            Err(error) => reply.error(errno(error)),
        });
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
        let set = self.client.setxattr(&caller(request), ino.0, name.as_bytes(), value, flags);
        set.serve(|done| reply_empty(reply, done));
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let get = self.client.getxattr(&caller(request), ino.0, name.as_bytes());
        get.serve(move |value| reply_xattr(reply, size, value));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let list = self.client.listxattr(&caller(request), ino.0);
        list.serve(move |names| reply_xattr(reply, size, names));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = self.client.removexattr(&caller(request), ino.0, name.as_bytes());
        remove.serve(|done| reply_empty(reply, done));
    }

    fn access(&self, request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let access = self.client.access(&caller(request), ino.0, mask.bits());
        access.serve(|done| reply_empty(reply, done));
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
        let allocate = self.client.fallocate(&caller(request), handle.0, mode, offset, length);
        allocate.serve(|done| reply_empty(reply, done));
    }

    fn lseek(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.client.seek(&caller(request), handle.0, offset, whence).serve(|found| match found {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        });
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
        let copy = Copy { from: from.0, from_offset, to: to.0, to_offset, length };
        self.client.copy_range(&caller(request), copy).serve(|copied| reply_written(reply, copied));
    }
}
