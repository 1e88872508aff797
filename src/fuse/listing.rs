//! The entries of a directory, as the kernel asks for them: with attributes or without.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use fuser::{FileHandle, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::{
    Adapter, DO_NOT_KEEP, GENERATION,
    wire::{Listed, file_attr, file_type, listed},
};
use crate::{
    client::{Attributes, Kind, Timestamp},
    error::Error,
};

impl Adapter {
    /// Answers a READDIR from `offset` on.
    pub(super) fn list(&self, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let snapshot = match self.ask(|client| client.readdir(handle.0, offset)) {
            Ok(snapshot) => snapshot,
            Err(error) => return reply.error(error),
        };
        for (at, entry) in listed(&snapshot, offset) {
            let full = match entry {
                Listed::Dot => {
                    reply.add(INodeNo(self.client.shown_number(ino.0)), at, FileType::Directory, ".")
                }
                Listed::DotDot => {
                    reply.add(INodeNo(self.client.parent_number(ino.0)), at, FileType::Directory, "..")
                }
                Listed::Name(name, number, kind) => {
                    reply.add(INodeNo(number), at, file_type(kind), OsStr::from_bytes(name))
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    /// Answers a READDIRPLUS from `offset` on.
    pub(super) fn list_with_attributes(
        &self,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let snapshot = match self.ask(|client| client.readdir(handle.0, offset)) {
            Ok(snapshot) => snapshot,
            Err(error) => return reply.error(error),
        };
        let directory = Attributes::new(Kind::Directory, 0o755, (0, 0), 0, 0, Timestamp::default());
        let mut is_empty = true;
        for (at, entry) in listed(&snapshot, offset) {
            // The kernel takes only the number and the type of `.` and `..` (fuse_direntplus_link).
            let full = match entry {
                Listed::Dot => {
                    let number = self.client.shown_number(ino.0);
                    reply.add(ino, at, ".", &DO_NOT_KEEP, &file_attr(number, &directory), GENERATION)
                }
                Listed::DotDot => {
                    let number = self.client.parent_number(ino.0);
                    reply.add(ino, at, "..", &DO_NOT_KEEP, &file_attr(number, &directory), GENERATION)
                }
                Listed::Name(name, ..) => {
                    let found = match self.ask(|client| client.lookup_listed(ino.0, name)) {
                        Ok(found) => found,
                        // What has gone since the snapshot was taken has no attributes any more.
                        Err(error) if error.code() == Error::NotFound.errno() => continue,
                        // The first of an answer carries the error, any other ends the answer before it.
                        Err(error) if is_empty => return reply.error(error),
                        Err(_) => break,
                    };
                    let (attr, lease) = (file_attr(found.ino, &found.attributes), found.lease.both());
                    let full =
                        reply.add(INodeNo(found.ino), at, OsStr::from_bytes(name), &lease, &attr, GENERATION);
                    if full {
                        self.client.forget(found.ino, 1);
                    }
                    full
                }
            };
            is_empty = false;
            if full {
                break;
            }
        }
        reply.ok();
    }
}
