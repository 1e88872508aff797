//! The entries of a directory, as the kernel asks for them: with attributes or without.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use fuser::{FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::{
    DO_NOT_KEEP, GENERATION,
    wire::{Listed, errno, file_attr, file_type, listed},
};
use crate::{
    client::{Attributes, Client, Kind, Snapshot, Timestamp},
    error::Error,
};

/// Answers a READDIR of a directory from an offset on.
pub(super) fn list(
    client: &Client,
    (ino, offset): (INodeNo, u64),
    listing: Result<Snapshot, Error>,
    mut reply: ReplyDirectory,
) {
    let snapshot = match listing {
        Ok(snapshot) => snapshot,
        Err(error) => return reply.error(errno(error)),
    };
    for (at, entry) in listed(&snapshot, offset) {
        let full = match entry {
            Listed::Dot => reply.add(INodeNo(client.shown_number(ino.0)), at, FileType::Directory, "."),
            Listed::DotDot => reply.add(INodeNo(client.parent_number(ino.0)), at, FileType::Directory, ".."),
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

/// Answers a READDIRPLUS of a directory from an offset on.
pub(super) fn list_with_attributes(
    client: &Client,
    (ino, offset): (INodeNo, u64),
    listing: Result<Snapshot, Error>,
    mut reply: ReplyDirectoryPlus,
) {
    let snapshot = match listing {
        Ok(snapshot) => snapshot,
        Err(error) => return reply.error(errno(error)),
    };
    let directory = Attributes::new(Kind::Directory, 0o755, (0, 0), 0, 0, Timestamp::default());
    let mut is_empty = true;
    for (at, entry) in listed(&snapshot, offset) {
        // The kernel takes only the number and the type of `.` and `..` (fuse_direntplus_link).
        let full = match entry {
            Listed::Dot => {
                let number = client.shown_number(ino.0);
                reply.add(ino, at, ".", &DO_NOT_KEEP, &file_attr(number, &directory), GENERATION)
            }
            Listed::DotDot => {
                let number = client.parent_number(ino.0);
                reply.add(ino, at, "..", &DO_NOT_KEEP, &file_attr(number, &directory), GENERATION)
            }
            Listed::Name(name, ..) => {
                let found = match client.lookup_listed(ino.0, name) {
                    Ok(found) => found,
                    // What has gone since the snapshot was taken has no attributes any more.
                    Err(Error::NotFound) => continue,
                    // The first of an answer carries the error, any other ends the answer before it.
                    Err(error) if is_empty => return reply.error(errno(error)),
                    Err(_) => break,
                };
                let (attr, lease) = (file_attr(found.ino, &found.attributes), found.lease.both());
                let full =
                    reply.add(INodeNo(found.ino), at, OsStr::from_bytes(name), &lease, &attr, GENERATION);
                if full {
                    client.forget(found.ino, 1);
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
