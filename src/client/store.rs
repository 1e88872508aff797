//! Carrying a change out on the backing directory.
//!
//! A change that goes *through* is one system call whose errno the program gets. A change that lands *late* may find
//! that the store has changed under it. Then the last writer wins, and every conflict is an event with both sides:
//!
//! | our change | the store has meanwhile | outcome |
//! |---|---|---|
//! | a new file | a file of that name | taken over, its content replaced |
//! | a new directory | a directory of that name | merged |
//! | a new name | something else of that name | replaced, but a directory with entries stays (`kept-theirs`) |
//! | unlink, rmdir | no such name | stays gone |
//! | unlink, rmdir | another inode under that name | removed all the same |
//! | rmdir | entries in the directory | stays |
//! | rename | no such source | dropped |
//! | rename | another inode at source or target | ours wins, but a directory in the way stays |
//! | data, attributes | other data or attributes | ours on top |
//! | data | the file removed by somebody | written where nobody sees it |

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use super::{Client, Version, view::attributes_of};
use crate::{
    backing::{Identity, Stat, sys},
    consistency::{AttributeChange, Attributes, Change, Ino, Kind, Place, RenameHow, overlay::without_setid},
    error::Error,
    event::{Event, readable},
    time::Timestamp,
};

/// How a change is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Before its call returns: the store decides.
    Through,
    /// After the program has been told that it is done: the last writer wins.
    Late,
}

/// What carrying a change out has brought about.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The real inode of something made, taken over or written, as the change has left it.
    pub(super) stat: Option<Stat>,
    /// A new file, open as asked.
    pub(super) opened: Option<OwnedFd>,
    /// Somebody else had made it, and its times are theirs.
    pub(super) is_theirs: bool,
}

/// `open(2)` flags for a new file that nobody has asked to have open: readable and writable.
const READ_WRITE: i32 = 0o2;
const OWNER_READS_AND_WRITES: u32 = 0o600;

fn wall(time: Timestamp) -> sys::WallTime {
    (time.seconds, time.nanos)
}

fn is_directory(stat: &Stat) -> bool {
    Kind::of_mode(stat.mode) == Kind::Directory
}

fn is_one_of(error: Error, errors: &[Error]) -> bool {
    errors.iter().any(|other| error.is(*other))
}

fn describe(stat: &Stat) -> String {
    let kind = format!("{:?}", Kind::of_mode(stat.mode)).to_lowercase();
    format!("{kind} ino {} size {} mtime {}.{:09}", stat.identity.ino, stat.size, stat.mtime.0, stat.mtime.1)
}

impl Client {
    /// Carries `change` out. `stamp` is the time that programs have seen for it.
    pub(super) fn carry_out(
        &self,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        match change {
            Change::Make { place, ino, attributes, target } => {
                self.carry_out_make(place, *ino, attributes, target, READ_WRITE, manner)
            }
            Change::Link { ino, place, .. } => self.carry_out_link(*ino, place, manner),
            Change::Unlink { place, ino } => self.carry_out_unlink(place, *ino, manner),
            Change::RemoveDirectory { place, ino } => self.carry_out_rmdir(place, *ino, manner),
            Change::Rename { from, to, ino, replaced, how, .. } => {
                let replaced = replaced.map(|(ino, _)| ino);
                self.carry_out_rename((from, *ino), (to, replaced), *how, manner)
            }
            _ => self.carry_out_on_inode(change, stamp, manner),
        }
    }

    /// A change of an inode itself. If the store has lost the inode meanwhile, nobody could see the change.
    fn carry_out_on_inode(
        &self,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let ino = change.subject();
        let outcome = match change {
            Change::SetAttributes { change, .. } => {
                self.descriptor(ino).and_then(|node| set_attributes(node.as_fd(), change, stamp))
            }
            Change::SetXattr { name, value, .. } => self.carry_out_xattr(ino, name, value.as_deref()),
            _ => self.carry_out_data(ino, change, stamp, manner),
        };
        match outcome {
            Err(error) if error.is(Error::Stale) && manner == Manner::Late && self.table.has_landed(ino) => {
                let path = readable(&self.table.path(ino));
                self.note_conflict(
                    change.verb(),
                    path,
                    change.verb().to_string(),
                    "nothing".into(),
                    "unseen",
                );
                Ok(Outcome::default())
            }
            outcome => outcome,
        }
    }

    /// Makes a new inode. A regular file comes back open with `flags`.
    pub(super) fn carry_out_make(
        &self,
        place: &Place,
        ino: Ino,
        attributes: &Attributes,
        target: &[u8],
        flags: i32,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        let (opened, is_theirs) = match make(at, &place.name, attributes, target, flags) {
            Err(error) if error.is(Error::Exists) && manner == Manner::Late => {
                self.settle_for_existing(place, ino, attributes, target, at)?
            }
            result => (result?, false),
        };
        let mut stat = match &opened {
            Some(opened) => sys::stat(opened.as_fd())?,
            None => sys::stat_at(at, &place.name)?,
        };
        if manner == Manner::Late {
            let held =
                if self.is_needed_after(ino, &stat) { sys::open_path(at, &place.name).ok() } else { None };
            self.table.bind(ino, &stat, held, place.directory, &place.name);
        }
        if !is_theirs {
            stat = self.give_to_owner(at, place, opened.as_ref(), attributes, stat)?;
        }
        if manner == Manner::Late && attributes.kind == Kind::File {
            self.lock().expected.insert(ino, Version::of(&attributes_of(&stat)));
        }
        Ok(Outcome { stat: Some(stat), opened, is_theirs })
    }

    /// The name of a new inode is taken: a file is taken over, a directory merged, anything else makes way. Whether
    /// what stands there then is somebody else's, times and all.
    fn settle_for_existing(
        &self,
        place: &Place,
        ino: Ino,
        attributes: &Attributes,
        target: &[u8],
        at: BorrowedFd<'_>,
    ) -> Result<(Option<OwnedFd>, bool), Error> {
        let theirs = sys::stat_at(at, &place.name)?;
        // An earlier try got this far.
        let ours = self.table.identity(ino) == Some(theirs.identity);
        match (attributes.kind, Kind::of_mode(theirs.mode)) {
            (Kind::File, Kind::File) => {
                let node = sys::open_path(at, &place.name)?;
                // Whoever may not write it may still be its owner.
                sys::set_permissions(node.as_fd(), attributes.permissions | OWNER_READS_AND_WRITES)?;
                let opened = sys::reopen(node.as_fd(), READ_WRITE)?;
                sys::resize(opened.as_fd(), 0)?;
                if !ours {
                    self.conflict("create", place, attributes, &theirs, "taken-over");
                }
                Ok((Some(opened), false))
            }
            (Kind::Directory, Kind::Directory) => {
                if !ours {
                    self.conflict("mkdir", place, attributes, &theirs, "merged");
                }
                Ok((None, !ours))
            }
            _ => {
                self.make_way(at, place, attributes, &theirs)?;
                Ok((make(at, &place.name, attributes, target, READ_WRITE)?, false))
            }
        }
    }

    /// Whether more will land in or on a new inode, which another client's rename must not make impossible to find. A
    /// new file is mostly left alone.
    fn is_needed_after(&self, ino: Ino, stat: &Stat) -> bool {
        is_directory(stat) || self.lock().in_flight.about(ino).nth(1).is_some()
    }

    /// Lets the new inode have the owner and mode that programs have been shown, where this process may do that.
    fn give_to_owner(
        &self,
        directory: BorrowedFd<'_>,
        place: &Place,
        opened: Option<&OwnedFd>,
        attributes: &Attributes,
        stat: Stat,
    ) -> Result<Stat, Error> {
        let owned = !self.gives_away || (stat.uid == attributes.uid && stat.gid == attributes.gid);
        let as_asked =
            stat.mode & 0o7777 == attributes.permissions || Kind::of_mode(stat.mode) == Kind::Symlink;
        if owned && as_asked {
            return Ok(stat);
        }
        let found;
        let fd = match opened {
            Some(opened) => opened.as_fd(),
            None => {
                found = sys::open_path(directory, &place.name)?;
                if sys::stat(found.as_fd())?.identity != stat.identity {
                    // Swapped meanwhile: what stands there now is not ours to give away.
                    return Ok(stat);
                }
                found.as_fd()
            }
        };
        if !owned {
            sys::set_owner(fd, Some(attributes.uid), Some(attributes.gid))?;
        }
        if Kind::of_mode(stat.mode) != Kind::Symlink {
            sys::set_permissions(fd, attributes.permissions)?;
        }
        sys::stat(fd)
    }

    /// Removes what stands where something new of ours must go: last writer wins. A directory with entries stays.
    fn make_way(
        &self,
        at: BorrowedFd<'_>,
        place: &Place,
        ours: &Attributes,
        theirs: &Stat,
    ) -> Result<(), Error> {
        let removed = if is_directory(theirs) {
            sys::remove_directory(at, &place.name)
        } else {
            sys::unlink(at, &place.name)
        };
        let outcome = if removed.is_ok() { "replaced" } else { "kept-theirs" };
        self.conflict("make", place, ours, theirs, outcome);
        removed
    }

    fn carry_out_link(&self, ino: Ino, place: &Place, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        let subject = self.descriptor(ino)?;
        match sys::link(subject.as_fd(), at, &place.name) {
            Err(error) if error.is(Error::Exists) && manner == Manner::Late => {
                let (ours, theirs) = (sys::stat(subject.as_fd())?, sys::stat_at(at, &place.name)?);
                if theirs.identity != ours.identity {
                    self.make_way(at, place, &attributes_of(&ours), &theirs)?;
                    sys::link(subject.as_fd(), at, &place.name)?;
                }
            }
            result => result?,
        }
        Ok(Outcome::default())
    }

    fn carry_out_unlink(&self, place: &Place, ino: Ino, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        self.hold_on_to(ino);
        if manner == Manner::Late {
            let ours = self.table.identity(ino);
            match sys::stat_at(at, &place.name) {
                Err(error) if error.is(Error::NotFound) => {
                    self.conflict_with_nothing("unlink", place, "stays-gone");
                    return Ok(Outcome::default());
                }
                Ok(theirs) if is_directory(&theirs) => {
                    self.conflict_over("unlink", place, ours, &theirs, "kept-theirs");
                    return Ok(Outcome::default());
                }
                Ok(theirs) if Some(theirs.identity) != ours => {
                    self.conflict_over("unlink", place, ours, &theirs, "removed");
                }
                _ => {}
            }
        }
        sys::unlink(at, &place.name)?;
        Ok(Outcome::default())
    }

    /// An inode that is about to lose a name could not be found by it any more, while programs may still have it open.
    fn hold_on_to(&self, ino: Ino) {
        if self.table.has_landed(ino) {
            let _ = self.table.descriptor(ino);
        }
    }

    fn carry_out_rmdir(&self, place: &Place, ino: Ino, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        if manner == Manner::Late {
            let ours = self.table.identity(ino);
            match sys::stat_at(at, &place.name) {
                Ok(theirs) if Some(theirs.identity) != ours => {
                    let outcome = if is_directory(&theirs) { "removed" } else { "kept-theirs" };
                    self.conflict_over("rmdir", place, ours, &theirs, outcome);
                    if !is_directory(&theirs) {
                        return Ok(Outcome::default());
                    }
                }
                Err(error) if error.is(Error::NotFound) => {
                    self.conflict_with_nothing("rmdir", place, "stays-gone");
                    return Ok(Outcome::default());
                }
                _ => {}
            }
        }
        match sys::remove_directory(at, &place.name) {
            Err(error) if manner == Manner::Late && is_one_of(error, &[Error::NotEmpty, Error::Exists]) => {
                let theirs = sys::stat_at(at, &place.name)?;
                self.conflict_over("rmdir", place, None, &theirs, "kept-theirs");
            }
            result => result?,
        }
        Ok(Outcome::default())
    }

    fn carry_out_rename(
        &self,
        (from, ino): (&Place, Ino),
        (to, replaced): (&Place, Option<Ino>),
        how: RenameHow,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        const NOREPLACE: u32 = 1;
        const EXCHANGE: u32 = 2;
        let (source, target) = (self.descriptor(from.directory)?, self.descriptor(to.directory)?);
        let (source, target) = (source.as_fd(), target.as_fd());
        let mut flags = match how {
            RenameHow::Replace => 0,
            RenameHow::NoReplace => NOREPLACE,
            RenameHow::Exchange => EXCHANGE,
        };
        if manner == Manner::Late {
            if let Some(replaced) = replaced {
                self.hold_on_to(replaced);
            }
            let there = match sys::stat_at(source, &from.name) {
                Err(error) if error.is(Error::NotFound) => {
                    self.conflict_with_nothing("rename", from, "dropped");
                    self.stays_at(ino, from);
                    return Ok(Outcome::default());
                }
                result => result?,
            };
            let ours = self.table.identity(ino);
            if ours != Some(there.identity) {
                self.conflict_over("rename", from, ours, &there, "renamed-theirs");
            }
            flags = self.settle_target(target, to, (how, flags), replaced);
        }
        let renamed = sys::rename(source, &from.name, target, &to.name, flags);
        const IN_THE_WAY: [Error; 5] =
            [Error::NotEmpty, Error::Exists, Error::IsDirectory, Error::NotDirectory, Error::Invalid];
        if let (Err(error), Manner::Late) = (&renamed, manner)
            && is_one_of(*error, &IN_THE_WAY)
            && let Ok(theirs) = sys::stat_at(target, &to.name)
        {
            self.conflict_over("rename", to, self.table.identity(ino), &theirs, "dropped");
            self.stays_at(ino, from);
            return Ok(Outcome::default());
        }
        renamed?;
        if manner == Manner::Late {
            self.table.landed_at(ino, to.directory, &to.name);
            if let (Some(other), RenameHow::Exchange) = (replaced, how) {
                self.table.landed_at(other, from.directory, &from.name);
            }
        }
        Ok(Outcome::default())
    }

    /// A rename was dropped: the inode, if it is still there, is where it was.
    fn stays_at(&self, ino: Ino, place: &Place) {
        self.table.moved(ino, place.directory, &place.name, true);
    }

    /// Looks at what a late rename will meet at its target, and says with which flags it goes ahead.
    fn settle_target(
        &self,
        target: BorrowedFd<'_>,
        to: &Place,
        (how, flags): (RenameHow, u32),
        replaced: Option<Ino>,
    ) -> u32 {
        let expected = replaced.and_then(|ino| self.table.identity(ino));
        match sys::stat_at(target, &to.name) {
            Ok(theirs) if Some(theirs.identity) != expected => {
                self.conflict_over("rename", to, expected, &theirs, "replaced");
                if how == RenameHow::Exchange { flags } else { 0 }
            }
            Err(error) if error.is(Error::NotFound) && replaced.is_some() => {
                self.conflict_with_nothing("rename", to, "renamed");
                0
            }
            _ => flags,
        }
    }

    fn carry_out_data(
        &self,
        ino: Ino,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let descriptor = self.writer(ino, manner)?;
        let fd = descriptor.as_fd();
        if manner == Manner::Through {
            change_data(fd, change)?;
            return Ok(Outcome::default());
        }
        self.notice_foreign_data(ino, change, &sys::stat(fd)?);
        let changed = change_data(fd, change);
        if changed.is_ok() {
            // Only the owner may; for anybody else it stays the time of landing.
            let _ = sys::set_times(fd, None, Some(wall(stamp)));
        }
        let stat = sys::stat(fd)?;
        if changed.is_err() {
            // A part of it may be in the store: the next try must not take that for somebody else's.
            self.lock().expected.insert(ino, Version::of(&attributes_of(&stat)));
        }
        changed?;
        Ok(Outcome { stat: Some(stat), ..Outcome::default() })
    }

    fn notice_foreign_data(&self, ino: Ino, change: &Change, theirs: &Stat) {
        let (expected, nameless) = {
            let state = self.lock();
            // Its last name may be going by the other landing thread just now.
            let nameless = state.nameless.contains(&ino) || state.in_flight.is_relinking(ino);
            (state.expected.get(&ino).copied(), nameless)
        };
        let ours = match change.content_range() {
            Some(range) if range.end == u64::MAX => format!("size {}", range.start),
            Some(range) => format!("bytes {}..{}", range.start, range.end),
            None => change.verb().to_string(),
        };
        let changed = expected.is_some_and(|expected| expected != Version::of(&attributes_of(theirs)));
        let outcome = match (theirs.links, changed) {
            (0, _) if !nameless => "unseen",
            (1.., true) => "ours-on-top",
            _ => return,
        };
        let path = readable(&self.table.path(ino));
        self.note_conflict(change.verb(), path, ours, describe(theirs), outcome);
    }

    fn carry_out_xattr(&self, ino: Ino, name: &[u8], value: Option<&[u8]>) -> Result<Outcome, Error> {
        let descriptor = self.descriptor(ino)?;
        match value {
            Some(value) => sys::set_xattr(descriptor.as_fd(), name, value, 0)?,
            None => match sys::remove_xattr(descriptor.as_fd(), name) {
                Err(error) if error.is(Error::NoData) => {}
                result => result?,
            },
        }
        Ok(Outcome::default())
    }

    fn conflict(
        &self,
        mutation: &'static str,
        place: &Place,
        ours: &Attributes,
        theirs: &Stat,
        outcome: &'static str,
    ) {
        let ours = format!("{:?}", ours.kind).to_lowercase();
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, describe(theirs), outcome);
    }

    fn conflict_over(
        &self,
        mutation: &'static str,
        place: &Place,
        ours: Option<Identity>,
        theirs: &Stat,
        outcome: &'static str,
    ) {
        let ours = ours.map_or_else(|| "nothing".to_string(), |identity| format!("ino {}", identity.ino));
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, describe(theirs), outcome);
    }

    fn conflict_with_nothing(&self, mutation: &'static str, place: &Place, outcome: &'static str) {
        let (ours, theirs) = (mutation.to_string(), "nothing".to_string());
        self.note_conflict(mutation, readable(&self.path_of(place)), ours, theirs, outcome);
    }

    fn note_conflict(
        &self,
        mutation: &'static str,
        path: String,
        ours: String,
        theirs: String,
        outcome: &'static str,
    ) {
        self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        let event = Event::Conflict { mutation, path, ours, theirs, outcome };
        self.log.record(self.now(), &event);
    }
}

fn make(
    at: BorrowedFd<'_>,
    name: &[u8],
    attributes: &Attributes,
    target: &[u8],
    flags: i32,
) -> Result<Option<OwnedFd>, Error> {
    let permissions = attributes.permissions;
    match attributes.kind {
        Kind::File => return sys::create(at, name, flags, permissions).map(Some),
        Kind::Directory => sys::make_directory(at, name, permissions)?,
        Kind::Symlink => sys::make_symlink(target, at, name)?,
        kind => sys::make_node(at, name, kind.mode_bits() | permissions, attributes.rdev)?,
    }
    Ok(None)
}

fn change_data(fd: BorrowedFd<'_>, change: &Change) -> Result<(), Error> {
    let clears_setid = match change {
        Change::Write { offset, data, clears_setid, .. } => {
            write_all(fd, data, *offset)?;
            *clears_setid
        }
        Change::Resize { size, clears_setid, .. } => {
            sys::resize(fd, *size)?;
            *clears_setid
        }
        Change::Allocate { mode, offset, length, .. } => {
            sys::allocate(fd, *mode, *offset, *length)?;
            false
        }
        _ => false,
    };
    if clears_setid { clear_setid(fd) } else { Ok(()) }
}

fn write_all(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < data.len() {
        match sys::write_at(fd, &data[done..], offset + done as u64) {
            Ok(0) => return Err(Error::InputOutput),
            Ok(count) => done += count,
            Err(error) if error.is(Error::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What `write(2)` by an ordinary user does to a set-user-ID file, done by a process that is exempt from it.
pub(super) fn clear_setid(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let permissions = sys::stat(fd)?.mode & 0o7777;
    let cleared = without_setid(permissions);
    if cleared == permissions { Ok(()) } else { sys::set_permissions(fd, cleared) }
}

fn set_attributes(fd: BorrowedFd<'_>, change: &AttributeChange, stamp: Timestamp) -> Result<Outcome, Error> {
    // Owner first: changing it takes setuid and setgid away, which a mode asked for in the same call may want back.
    if change.uid.is_some() || change.gid.is_some() {
        sys::set_owner(fd, change.uid, change.gid)?;
    }
    if let Some(permissions) = change.permissions {
        sys::set_permissions(fd, permissions)?;
    }
    let (atime, mtime) = (change.atime, change.mtime);
    if atime.is_none() && mtime.is_none() {
        return Ok(Outcome::default());
    }
    let resolved = |time: Option<Timestamp>| time.map(|time| wall(time.at(stamp)));
    match sys::set_times(fd, resolved(atime), resolved(mtime)) {
        // Whoever may write may say "now"; any other time takes the owner (utimensat(2)).
        Err(error) if error.is(Error::NotPermitted) => sys::set_times(fd, atime.map(wall), mtime.map(wall))?,
        result => result?,
    }
    Ok(Outcome::default())
}
