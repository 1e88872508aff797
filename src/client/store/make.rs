//! Making inodes: whose they are from the first moment on, and what happens where their name is taken.
//!
//! Root's client that others use makes everything as root and gives it to its caller. Until it is given away nobody but
//! root gets in, and set-user-ID and set-group-ID come last: there is no moment at which a file is root's and has the mode
//! that somebody else chose. What another user made is never given away: it makes way, or stays.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Manner, Outcome, inodes::wall, is_directory, names::stays};
use crate::{
    backing::flags::O_RDWR,
    backing::{Stat, sys},
    client::{Client, Version, Watched, state::HalfMade, view::attributes_of},
    consistency::{Attributes, Ino, Kind, Place},
    error::Error,
};

/// What only its owner reads and writes.
const PRIVATE: u32 = 0o600;
/// What only root gets into, and hardly anything else in a store has: what was made a moment ago is known by it.
const CLOSED: u32 = 0;
const PERMISSIONS: u32 = 0o7777;
const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;

/// What stands at the name of a new inode once it was to be made.
enum Made {
    /// Ours; a regular file comes open. `anew` if this call has made it.
    Ours { opened: Option<OwnedFd>, anew: bool },
    /// Somebody else's directory, times and all: the two are one.
    Merged,
    /// Something else of somebody else's, which stays.
    Theirs,
}

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
        let directory = self.reached(place.directory, manner)?;
        let at = directory.as_fd();
        let make = || self.make_anew(at, place, attributes, target, flags);
        let made = match self.table.retrying(make) {
            Err(error) if error == Error::Exists && manner == Manner::Late => {
                self.settle_for_existing(place, ino, attributes, target, at)?
            }
            result => result?,
        };
        let (opened, anew, is_theirs) = match made {
            Made::Ours { opened, anew } => (opened, anew, false),
            Made::Merged => (None, false, true),
            Made::Theirs => return Ok(Outcome::unreachable()),
        };
        let done = self.finish_making(at, place, (ino, attributes), (opened, anew, is_theirs), manner);
        if done.is_err() && manner == Manner::Late {
            let half = if is_theirs { HalfMade::Merged } else { HalfMade::Ours };
            self.lock().records.change(ino, |record| record.half_made = Some(half));
        }
        done
    }

    /// What comes after the name is there. It may fail and be tried again.
    fn finish_making(
        &self,
        at: BorrowedFd<'_>,
        place: &Place,
        (ino, attributes): (Ino, &Attributes),
        (opened, anew, is_theirs): (Option<OwnedFd>, bool, bool),
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let by_name = opened.is_none() && (manner == Manner::Late || self.gives_away);
        let found = if by_name { Some(sys::open_path(at, &place.name)?) } else { None };
        let reached = opened.as_ref().or(found.as_ref()).map(AsFd::as_fd);
        let mut stat = match reached {
            Some(fd) => sys::stat(fd)?,
            None => sys::stat_at(at, &place.name)?,
        };
        let is_other = Kind::of_mode(stat.mode) != attributes.kind;
        if is_other || (found.is_some() && anew && !self.was_just_made(attributes, &stat)) {
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
            let watched = Watched::expecting(Version::of(&attributes_of(&stat)));
            self.lock().records.change(ino, |record| record.watched = Some(watched));
        }
        Ok(Outcome { stat: Some(stat), opened, is_theirs, ..Outcome::default() })
    }

    fn make_anew(
        &self,
        at: BorrowedFd<'_>,
        place: &Place,
        attributes: &Attributes,
        target: &[u8],
        flags: i32,
    ) -> Result<Made, Error> {
        let (name, permissions) = (&place.name, self.first_permissions(attributes));
        let opened = match attributes.kind {
            Kind::File => Some(sys::create(at, name, flags, permissions)?),
            kind => {
                match kind {
                    Kind::Directory => sys::make_directory(at, name, permissions)?,
                    Kind::Symlink => sys::make_symlink(target, at, name)?,
                    kind => sys::make_node(at, name, kind.mode_bits() | permissions, attributes.rdev)?,
                }
                None
            }
        };
        Ok(Made::Ours { opened, anew: true })
    }

    /// Whether a new inode begins as root's and is somebody else's, or set-user-ID, only then.
    fn begins_closed(&self, attributes: &Attributes) -> bool {
        let is_own = (attributes.uid, attributes.gid) == self.own_ids;
        self.gives_away && (!is_own || attributes.permissions & SET_IDS != 0)
    }

    fn first_permissions(&self, attributes: &Attributes) -> u32 {
        match attributes.kind {
            _ if !self.begins_closed(attributes) => attributes.permissions,
            Kind::File => PRIVATE,
            _ => CLOSED,
        }
    }

    /// Whether what was found by name is what this call has made there: somebody else may have moved another thing of
    /// root's there meanwhile, which must not be given away.
    fn was_just_made(&self, attributes: &Attributes, stat: &Stat) -> bool {
        let first = self.first_permissions(attributes);
        let is_closed = attributes.kind == Kind::Symlink || stat.mode & PERMISSIONS & !SET_IDS == first;
        !self.begins_closed(attributes) || (stat.uid == self.own_ids.0 && is_closed)
    }

    /// The name of a new inode is taken: a file is taken over, a directory merged, anything else makes way. What neither
    /// this process nor the new inode's owner may remove stays, and nobody can see ours.
    fn settle_for_existing(
        &self,
        place: &Place,
        ino: Ino,
        attributes: &Attributes,
        target: &[u8],
        at: BorrowedFd<'_>,
    ) -> Result<Made, Error> {
        let theirs = sys::stat_at(at, &place.name)?;
        // An earlier try got this far.
        let half = self.lock().records.of(ino).half_made;
        let ours = self.table.identity(ino) == Some(theirs.identity)
            || half == Some(HalfMade::Ours) && self.was_just_made(attributes, &theirs);
        let kinds = (attributes.kind, Kind::of_mode(theirs.mode));
        let (verb, outcome) =
            if kinds == (Kind::File, Kind::File) { ("create", "taken-over") } else { ("make", "replaced") };
        let replace = || match self.make_way(at, place, (verb, outcome), attributes, &theirs)? {
            true => self.make_anew(at, place, attributes, target, O_RDWR),
            false => Ok(Made::Theirs),
        };
        match kinds {
            (kind, found) if ours && kind == found && kind != Kind::File => {
                Ok(Made::Ours { opened: None, anew: false })
            }
            (Kind::Directory, Kind::Directory) => {
                if half.is_none() {
                    self.conflict("mkdir", place, attributes, &theirs, "merged");
                }
                Ok(Made::Merged)
            }
            _ if !ours && self.is_kept_from(at, &theirs, Some(attributes.uid))? => {
                self.conflict(verb, place, attributes, &theirs, "kept-theirs");
                Ok(Made::Theirs)
            }
            (Kind::File, Kind::File) if ours || self.is_taken_over(attributes, &theirs) => {
                let opened = match take_over(at, place, &theirs) {
                    Err(error) if !ours && error == Error::NotPermitted => {
                        self.conflict(verb, place, attributes, &theirs, "kept-theirs");
                        return Ok(Made::Theirs);
                    }
                    // Nobody can write to a program while it runs.
                    Err(Error::TextBusy) => return replace(),
                    opened => opened?,
                };
                if !ours {
                    self.conflict(verb, place, attributes, &theirs, outcome);
                }
                Ok(Made::Ours { opened: Some(opened), anew: false })
            }
            _ => replace(),
        }
    }

    /// Whether a file of that name becomes ours as it is, whoever has it open. Another user's makes way instead: it may
    /// have other names, and what was written to it is not the new owner's.
    fn is_taken_over(&self, attributes: &Attributes, theirs: &Stat) -> bool {
        !self.is_root() || theirs.uid == attributes.uid
    }

    /// Whether a directory with the sticky bit keeps `theirs` from a user (`unlink(2)`): the kernel asks that of a
    /// program by what this client believes, and root may do everything. Nobody knows of `None` what it may do.
    pub(super) fn is_kept_from(
        &self,
        at: BorrowedFd<'_>,
        theirs: &Stat,
        user: Option<u32>,
    ) -> Result<bool, Error> {
        const ROOT_USER: u32 = 0;
        if !self.gives_away || user.is_some_and(|user| user == ROOT_USER || user == theirs.uid) {
            return Ok(false);
        }
        let directory = sys::stat(at)?;
        Ok(directory.mode & STICKY != 0 && user != Some(directory.uid))
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
        reached: Option<BorrowedFd<'_>>,
        attributes: &Attributes,
        stat: Stat,
    ) -> Result<Stat, Error> {
        let owned = !self.gives_away || (stat.uid == attributes.uid && stat.gid == attributes.gid);
        let as_asked =
            stat.mode & PERMISSIONS == attributes.permissions || Kind::of_mode(stat.mode) == Kind::Symlink;
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

    /// Removes what stands where something new of ours must go: last writer wins. A directory with entries stays, and
    /// what this process may not remove; whether the way is free.
    pub(super) fn make_way(
        &self,
        at: BorrowedFd<'_>,
        place: &Place,
        (verb, outcome): (&'static str, &'static str),
        ours: &Attributes,
        theirs: &Stat,
    ) -> Result<bool, Error> {
        let removed = if is_directory(theirs) {
            sys::remove_directory(at, &place.name)
        } else {
            sys::unlink(at, &place.name)
        };
        match removed {
            Err(error) if !stays(error) => Err(error),
            result => {
                let outcome = if result.is_ok() { outcome } else { "kept-theirs" };
                self.conflict(verb, place, ours, theirs, outcome);
                Ok(result.is_ok())
            }
        }
    }
}

/// Empties a file and opens it; nobody but its owner and root can open it from then on.
fn take_over(at: BorrowedFd<'_>, place: &Place, theirs: &Stat) -> Result<OwnedFd, Error> {
    let node = sys::open_path(at, &place.name)?;
    if sys::stat(node.as_fd())?.identity != theirs.identity {
        return Err(Error::NotFound);
    }
    // Whoever may not write it may still be its owner.
    sys::set_permissions(node.as_fd(), PRIVATE)?;
    let opened = sys::reopen(node.as_fd(), O_RDWR)?;
    sys::resize(opened.as_fd(), 0)?;
    Ok(opened)
}
