//! What FUSE and fuser say, in the client's words and back.

use std::{
    ops::Deref,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    Errno, FileAttr, FileType, INodeNo, RenameFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyWrite, ReplyXattr, Request, TimeOrNow,
};

use super::{DO_NOT_KEEP, GENERATION};
use crate::{
    backing::flags::O_SYNC,
    client::{Attributes, Caller, Entry, Ino, Kind, Missing, RenameHow, Shown, Snapshot, Timestamp},
    error::Error,
};

pub(super) fn errno(error: Error) -> Errno {
    Errno::from_i32(error.errno())
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), thread: request.pid() }
}

/// What the flags of a renameat2(2) ask for; none if that is not to be had.
pub fn rename_how(flags: RenameFlags) -> Option<RenameHow> {
    match flags.bits() {
        0 => Some(RenameHow::Replace),
        1 => Some(RenameHow::NoReplace),
        2 => Some(RenameHow::Exchange),
        _ => None,
    }
}

/// Whether a write with these flags is to be published before it returns.
pub(super) fn is_synced(flags: i32) -> bool {
    flags & O_SYNC != 0
}

pub(super) fn file_attr(shown: Ino, attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(shown),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: attributes.permissions as u16,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        // FUSE carries the kernel's 32-bit encoding, which is the low half of glibc's for all numbers Linux has.
        rdev: attributes.rdev as u32,
        blksize: attributes.block_size,
        flags: 0,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole =
        if time.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// The inverse of how fuser 0.18 decodes a time: before 1970 it counts the nanoseconds the wrong way
/// (`system_time_from_time` in its src/time.rs), which is undone here.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() },
        Err(error) => {
            let before = error.duration();
            Timestamp { seconds: -(before.as_secs() as i64), nanos: before.subsec_nanos() }
        }
    }
}

pub(super) fn asked_time(time: Option<TimeOrNow>) -> Option<Timestamp> {
    time.map(|time| match time {
        TimeOrNow::Now => Timestamp::NOW,
        TimeOrNow::SpecificTime(time) => timestamp(time),
    })
}

pub(super) fn reply_entry(reply: ReplyEntry, result: Result<Entry, Error>) {
    match result {
        Ok(Entry { ino, attributes, lease }) => {
            let attr = file_attr(ino, &attributes);
            reply.entry_with_ttls(&lease.attributes, &lease.name, &attr, GENERATION);
        }
        Err(error) => reply.error(errno(error)),
    }
}

/// The same for a lookup: an absence that may be kept is an entry without a number (fuse_lookup_name in
/// fs/fuse/dir.c).
pub(super) fn reply_lookup(reply: ReplyEntry, result: Result<Entry, Missing>) {
    match result {
        Err(Missing { error: Error::NotFound, lease }) if !lease.is_zero() => {
            let nothing = Attributes::new(Kind::File, 0, (0, 0), 0, 0, Timestamp::default());
            reply.entry_with_ttls(&DO_NOT_KEEP, &lease, &file_attr(0, &nothing), GENERATION);
        }
        result => reply_entry(reply, result.map_err(|missing| missing.error)),
    }
}

pub(super) fn reply_attr(reply: ReplyAttr, shown: Ino, result: Result<Shown, Error>) {
    match result {
        Ok(Shown { attributes, lease }) => reply.attr(&lease, &file_attr(shown, &attributes)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn reply_empty(reply: ReplyEmpty, result: Result<(), Error>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn reply_written(reply: ReplyWrite, result: Result<usize, Error>) {
    match result {
        Ok(count) => reply.written(count as u32),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn reply_data(reply: ReplyData, result: Result<impl Deref<Target = [u8]>, Error>) {
    match result {
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(errno(error)),
    }
}

/// An attribute's value, its size if `room` is 0, or ERANGE (`getxattr(2)`).
pub(super) fn reply_xattr(reply: ReplyXattr, room: u32, result: Result<Vec<u8>, Error>) {
    match result {
        Ok(data) if room == 0 => reply.size(data.len() as u32),
        Ok(data) if data.len() > room as usize => reply.error(errno(Error::OutOfRange)),
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(errno(error)),
    }
}

/// An entry of a directory.
pub(super) enum Listed<'a> {
    Dot,
    DotDot,
    Name(&'a [u8], Ino, Kind),
}

/// The entries from a readdir offset on, each with the offset behind it: `.`, `..`, then those of the snapshot.
pub(super) fn listed(snapshot: &Snapshot, offset: u64) -> impl Iterator<Item = (u64, Listed<'_>)> {
    const FIRST_NAME: u64 = 2;
    let dots = [(1, Listed::Dot), (FIRST_NAME, Listed::DotDot)];
    let names = snapshot.starting_at(offset.saturating_sub(FIRST_NAME));
    dots.into_iter().filter(move |(behind, _)| *behind > offset).chain(
        names.map(|(position, (name, ino, kind))| (position + FIRST_NAME + 1, Listed::Name(name, ino, kind))),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::Listing;

    #[test]
    fn times_before_1970_survive_the_way_through_fuser() {
        // fuser decodes -2 s + 0.8 s as 2.8 s before the epoch.
        let decoded = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(timestamp(decoded), Timestamp { seconds: -2, nanos: 800_000_000 });
        let shown = system_time(Timestamp { seconds: -2, nanos: 800_000_000 });
        assert_eq!(shown, UNIX_EPOCH - Duration::new(1, 200_000_000));
    }

    #[test]
    fn a_directory_is_listed_with_dot_and_dotdot_first_and_offsets_follow_the_positions() {
        let listing = |names: &[&[u8]]| {
            let mut listing = Listing::default();
            names.iter().for_each(|name| listing.push(name, 7, Kind::File));
            Arc::new(listing)
        };
        let shown = |snapshot: &Snapshot, offset| {
            let name = |entry: Listed<'_>| match entry {
                Listed::Dot => ".".to_string(),
                Listed::DotDot => "..".to_string(),
                Listed::Name(name, ..) => String::from_utf8_lossy(name).into_owned(),
            };
            listed(snapshot, offset).map(|(behind, entry)| (behind, name(entry))).collect::<Vec<_>>()
        };
        let entry = |behind, name: &str| (behind, name.to_string());
        let first = Snapshot::new(listing(&[b"a", b"b"]));
        assert_eq!(shown(&first, 0), [entry(1, "."), entry(2, ".."), entry(3, "a"), entry(4, "b")]);
        assert_eq!(shown(&first, 1), [entry(2, ".."), entry(3, "a"), entry(4, "b")]);
        assert_eq!(shown(&first, 4), []);
        let later = first.refreshed(&listing(&[b"b", b"c"]));
        assert_eq!(shown(&later, 2), [entry(4, "b"), entry(5, "c")]);
        assert_eq!(shown(&later, 4), [entry(5, "c")]);
    }
}
