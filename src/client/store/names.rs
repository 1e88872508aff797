//! Changes of names: making, linking, removing, moving.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Manner, Outcome, READ_WRITE, inodes::wall, is_directory};
use crate::{
    backing::{Stat, sys},
    client::{Client, Version, Watched, descriptors::OWNER_READS_AND_WRITES, view::attributes_of},
    consistency::{Attributes, Change, Ino, Kind, Place, RenameHow},
    error::Error,
};

impl Client {
    /// Makes a new inode. A regular file comes back open with `flags`.
    pub(in crate::client) fn carry_out_make(
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
        let (opened, is_theirs) =
            match self.table.retrying(|| make(at, &place.name, attributes, target, flags)) {
                Err(error) if error.is(Error::Exists) && manner == Manner::Late => {
                    self.settle_for_existing(place, ino, attributes, target, at)?
                }
                result => (result?, false),
            };
        let found = if opened.is_none() && manner == Manner::Late {
            Some(sys::open_path(at, &place.name)?)
        } else {
            None
        };
        let reached = opened.as_ref().or(found.as_ref()).map(AsFd::as_fd);
        let mut stat = match reached {
            Some(fd) => sys::stat(fd)?,
            None => sys::stat_at(at, &place.name)?,
        };
        if Kind::of_mode(stat.mode) != attributes.kind {
            // Swapped since it was made: what stands there now is not ours.
            return Err(Error::NotFound);
        }
        if manner == Manner::Late {
            let node = reached.filter(|_| self.is_needed_after(ino, &stat));
            let held = node.and_then(|fd| sys::node_of(fd).ok());
            self.table.bind(ino, &stat, held, place.directory, &place.name);
        }
        if !is_theirs {
            stat = self.give_to_owner(at, place, reached, attributes, stat)?;
        }
        if let (Some(fd), false, Manner::Late) = (reached, is_theirs, manner) {
            // Failing leaves the time of landing, which is what another host's clock might have said.
            let _ = sys::set_times(fd, Some(wall(attributes.atime)), Some(wall(attributes.mtime)));
            stat = sys::stat(fd)?;
        }
        if manner == Manner::Late && attributes.kind == Kind::File {
            self.lock().watched.insert(ino, Watched::expecting(Version::of(&attributes_of(&stat))));
        }
        Ok(Outcome { stat: Some(stat), opened, is_theirs, is_nowhere: false })
    }

    /// The name of a new inode is taken: a file is taken over, a directory merged, anything else makes way. Whether
    /// what stands there then is somebody else's, times and all.
    pub(super) fn settle_for_existing(
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
                if sys::stat(node.as_fd())?.identity != theirs.identity {
                    return Err(Error::NotFound);
                }
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
    pub(super) fn is_needed_after(&self, ino: Ino, stat: &Stat) -> bool {
        is_directory(stat) || self.lock().in_flight.about(ino).nth(1).is_some()
    }

    /// Lets the new inode have the owner and mode that programs have been shown, where this process may do that.
    pub(super) fn give_to_owner(
        &self,
        directory: BorrowedFd<'_>,
        place: &Place,
        reached: Option<BorrowedFd<'_>>,
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
        let fd = match reached {
            Some(fd) => fd,
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
    pub(super) fn make_way(
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

    pub(super) fn carry_out_link(&self, ino: Ino, place: &Place, manner: Manner) -> Result<Outcome, Error> {
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

    pub(super) fn carry_out_unlink(&self, place: &Place, ino: Ino, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        self.hold_on_to(ino);
        if manner == Manner::Late {
            let ours = self.table.identity(ino);
            match sys::stat_at(at, &place.name) {
                Err(error) if error.is(Error::NotFound) => {
                    self.conflict_with_nothing("unlink", place, "stays-gone");
                    return Ok(Outcome::theirs());
                }
                Ok(theirs) if is_directory(&theirs) => {
                    self.conflict_over("unlink", place, ours, &theirs, "kept-theirs");
                    return Ok(Outcome::theirs());
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
    pub(in crate::client) fn hold_on_to(&self, ino: Ino) {
        if self.table.has_landed(ino) {
            let _ = self.table.descriptor(ino);
        }
    }

    pub(super) fn carry_out_rmdir(&self, place: &Place, ino: Ino, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.descriptor(place.directory)?;
        let at = directory.as_fd();
        if manner == Manner::Late {
            let ours = self.table.identity(ino);
            match sys::stat_at(at, &place.name) {
                Ok(theirs) if Some(theirs.identity) != ours => {
                    let outcome = if is_directory(&theirs) { "removed" } else { "kept-theirs" };
                    self.conflict_over("rmdir", place, ours, &theirs, outcome);
                    if !is_directory(&theirs) {
                        return Ok(Outcome::theirs());
                    }
                }
                Err(error) if error.is(Error::NotFound) => {
                    self.conflict_with_nothing("rmdir", place, "stays-gone");
                    return Ok(Outcome::theirs());
                }
                _ => {}
            }
        }
        match sys::remove_directory(at, &place.name) {
            Err(error) if manner == Manner::Late && is_one_of(error, &[Error::NotEmpty, Error::Exists]) => {
                let theirs = sys::stat_at(at, &place.name)?;
                self.conflict_over("rmdir", place, None, &theirs, "kept-theirs");
                return Ok(Outcome::theirs());
            }
            result => result?,
        }
        Ok(Outcome::default())
    }

    pub(super) fn carry_out_rename(
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
                    return Ok(Outcome::theirs());
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
            return Ok(Outcome::theirs());
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

    /// Whether somebody else has removed a directory in which this change is to make, move or remove a name, or the last
    /// name of what is to get one more.
    pub(super) fn has_lost_its_ground(&self, change: &Change) -> bool {
        let linked = if let Change::Link { ino, .. } = change { Some(*ino) } else { None };
        let directories = change.places().into_iter().map(|place| place.directory);
        directories.chain(linked).any(|ino| match self.descriptor(ino) {
            Ok(node) => sys::stat(node.as_fd()).is_ok_and(|stat| stat.links == 0),
            Err(error) => error.is(Error::Stale) && self.table.has_landed(ino),
        })
    }

    /// A change of a name where there is no ground for it any more: nobody could see it.
    pub(super) fn settle_for_nowhere(&self, change: &Change) -> Outcome {
        let outcome = match change {
            Change::Unlink { .. } | Change::RemoveDirectory { .. } => "stays-gone",
            Change::Rename { ino, from, .. } => {
                self.stays_at(*ino, from);
                "dropped"
            }
            Change::Link { .. } => "dropped",
            _ => "unseen",
        };
        if let Some(place) = change.places().first() {
            self.conflict_with_nothing(change.verb(), place, outcome);
        }
        Outcome { is_nowhere: true, ..Outcome::theirs() }
    }

    /// A rename was dropped: the inode, if it is still there, is where it was.
    pub(in crate::client) fn stays_at(&self, ino: Ino, place: &Place) {
        self.table.moved(ino, place.directory, &place.name, true);
    }

    /// Looks at what a late rename will meet at its target, and says with which flags it goes ahead.
    pub(super) fn settle_target(
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
}

fn is_one_of(error: Error, errors: &[Error]) -> bool {
    errors.iter().any(|other| error.is(*other))
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
