//! Changes of names: linking, removing, moving.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Manner, Outcome, copying::Ends, is_directory};
use crate::{
    backing::{
        Identity, Stat,
        flags::{RENAME_EXCHANGE, RENAME_NOREPLACE},
        sys,
    },
    client::{Client, view::attributes_of},
    consistency::{Change, Ino, Place, RenameHow},
    error::Error,
};

const RMDIR: &str = "rmdir";

impl Client {
    pub(super) fn carry_out_link(&self, ino: Ino, place: &Place, manner: Manner) -> Result<Outcome, Error> {
        let directory = self.reached(place.directory, manner)?;
        let at = directory.as_fd();
        let subject = self.reached(ino, manner)?;
        match sys::link(subject.as_fd(), at, &place.name) {
            Err(error) if error == Error::Exists && manner == Manner::Late => {
                let (ours, theirs) = (sys::stat(subject.as_fd())?, sys::stat_at(at, &place.name)?);
                if theirs.identity != ours.identity {
                    let shown = attributes_of(&ours);
                    if self.is_kept_from(at, &theirs, None)? {
                        self.conflict("link", place, &shown, &theirs, "kept-theirs");
                        return Ok(Outcome::theirs());
                    }
                    if !self.make_way(at, place, ("make", "replaced"), &shown, &theirs)? {
                        return Ok(Outcome::theirs());
                    }
                    sys::link(subject.as_fd(), at, &place.name)?;
                }
            }
            result => result?,
        }
        Ok(Outcome::default())
    }

    /// Takes a name away: of a directory with `verb` rmdir, of anything else with unlink.
    pub(super) fn carry_out_removal(
        &self,
        verb: &'static str,
        place: &Place,
        ino: Ino,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let directory = self.reached(place.directory, manner)?;
        let at = directory.as_fd();
        let takes_directories = verb == RMDIR;
        let remove = || match takes_directories {
            true => sys::remove_directory(at, &place.name),
            false => sys::unlink(at, &place.name),
        };
        if !takes_directories {
            self.hold_on_to(ino);
        }
        if manner == Manner::Through {
            remove()?;
            return Ok(Outcome::default());
        }
        let ours = self.table.identity(ino);
        let theirs = match sys::stat_at(at, &place.name) {
            Err(Error::NotFound) => {
                self.conflict_with_nothing(verb, place, "stays-gone");
                return Ok(Outcome::theirs());
            }
            result => result?,
        };
        let is_foreign = Some(theirs.identity) != ours;
        let is_kept = is_directory(&theirs) != takes_directories
            || is_foreign && self.is_kept_from(at, &theirs, self.owner_of(ino)?)?;
        match if is_kept { Err(Error::Exists) } else { remove() } {
            Ok(()) if is_foreign => self.conflict_over(verb, place, ours, &theirs, "removed"),
            Ok(()) => {}
            Err(error) if has_entries(error) || is_foreign && stays(error) => {
                self.conflict_over(verb, place, ours, &theirs, "kept-theirs");
                return Ok(Outcome::theirs());
            }
            Err(error) => return Err(error),
        }
        Ok(Outcome::default())
    }

    /// An inode that is about to lose a name could not be found by it any more, while programs may still have it open.
    pub(in crate::client) fn hold_on_to(&self, ino: Ino) {
        if self.table.has_landed(ino) {
            let _ = self.table.descriptor(ino);
        }
    }

    pub(super) fn carry_out_rename(
        &self,
        (from, ino): (&Place, Ino),
        (to, replaced): (&Place, Option<Ino>),
        how: RenameHow,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let (source, target) = (self.reached(from.directory, manner)?, self.reached(to.directory, manner)?);
        let (source, target) = (source.as_fd(), target.as_fd());
        let flags = match how {
            RenameHow::Replace => 0,
            RenameHow::NoReplace => RENAME_NOREPLACE,
            RenameHow::Exchange => RENAME_EXCHANGE,
        };
        if manner == Manner::Through {
            sys::rename(source, &from.name, target, &to.name, flags)?;
            return Ok(Outcome::default());
        }
        let ends = Ends { source: (source, from), target: (target, to) };
        let copies = self.in_force().policy.copies(how);
        if copies && self.has_begun_to_copy(&ends, ino)? {
            return Ok(Outcome { has_more: self.copy_on(&ends, ino)?, ..Outcome::default() });
        }
        if let Some(replaced) = replaced {
            self.hold_on_to(replaced);
        }
        let met = match self.meet((source, from, ino), (target, to, replaced)) {
            Err(Error::NotFound) => {
                self.conflict_with_nothing("rename", from, "dropped");
                return Ok(Outcome::theirs());
            }
            result => result?,
        };
        // The last writer replaces what it did not expect, too; what has gone cannot be swapped.
        let flags = match (&met.at_target, how) {
            (Some(_), RenameHow::NoReplace) if met.foreign_target => 0,
            (None, RenameHow::Exchange) if replaced.is_some() => 0,
            _ => flags,
        };
        let ours = self.table.identity(ino);
        let renamed = match met.is_kept {
            true => Err(Error::NotPermitted),
            false => sys::rename(source, &from.name, target, &to.name, flags),
        };
        if let Err(error) = renamed {
            return self.drop_rename((from, to), (target, &met), ours, error);
        }
        if met.foreign_source {
            self.conflict_over("rename", from, ours, &met.at_source, "renamed-theirs");
        }
        match (&met.at_target, replaced) {
            (Some(theirs), _) if met.foreign_target => {
                let expected = replaced.and_then(|ino| self.table.identity(ino));
                self.conflict_over("rename", to, expected, theirs, "replaced");
            }
            (None, Some(_)) => self.conflict_with_nothing("rename", to, "renamed"),
            _ => {}
        }
        Ok(Outcome { has_more: copies && self.leave_behind(&ends)?, ..Outcome::default() })
    }

    /// A late rename failed: if it is for what others have done, it is a conflict, and dropped.
    fn drop_rename(
        &self,
        (from, to): (&Place, &Place),
        (target, met): (BorrowedFd<'_>, &Met),
        ours: Option<Identity>,
        error: Error,
    ) -> Result<Outcome, Error> {
        let is_foreign = met.foreign_source || met.foreign_target;
        let in_the_way = sys::stat_at(target, &to.name).ok().filter(|_| is_in_the_way(error));
        let kept = met.at_target.or(Some(met.at_source)).filter(|_| is_foreign && stays(error));
        // Somebody else has moved a directory between the two, or put one there: it would come into itself. This client's
        // kernel has made sure that it would not in its own view.
        let into_itself = error == Error::Invalid && from.directory != to.directory;
        match in_the_way.or(kept) {
            Some(theirs) => self.conflict_over("rename", to, ours, &theirs, "dropped"),
            None if into_itself => self.conflict_with_nothing("rename", to, "dropped"),
            None => return Err(error),
        }
        Ok(Outcome::theirs())
    }

    /// Looks at what a late rename will meet at both ends. ENOENT: there is no source.
    fn meet(
        &self,
        (source, from, ino): (BorrowedFd<'_>, &Place, Ino),
        (target, to, replaced): (BorrowedFd<'_>, &Place, Option<Ino>),
    ) -> Result<Met, Error> {
        let at_source = sys::stat_at(source, &from.name)?;
        let at_target = match sys::stat_at(target, &to.name) {
            Err(Error::NotFound) => None,
            found => Some(found?),
        };
        let foreign_source = Some(at_source.identity) != self.table.identity(ino);
        let expected = replaced.and_then(|ino| self.table.identity(ino));
        let foreign_target = at_target.is_some_and(|theirs| Some(theirs.identity) != expected);
        let mut is_kept = foreign_source && self.is_kept_from(source, &at_source, self.owner_of(ino)?)?;
        if let Some(theirs) = at_target.filter(|_| foreign_target) {
            let owner = replaced.map_or(Ok(None), |ino| self.owner_of(ino))?;
            is_kept |= self.is_kept_from(target, &theirs, owner)?;
        }
        Ok(Met { at_source, foreign_source, at_target, foreign_target, is_kept })
    }

    /// Who owns an inode that this client knows, if it is still there; for clients that give files away.
    fn owner_of(&self, ino: Ino) -> Result<Option<u32>, Error> {
        if !self.gives_away {
            return Ok(None);
        }
        match self.descriptor(ino).and_then(|node| sys::stat(node.as_fd())) {
            Err(Error::Stale) => Ok(None),
            found => Ok(Some(found?.uid)),
        }
    }

    /// Whether somebody else has removed a directory in which this change is to make, move or remove a name, or the last
    /// name of what is to get one more.
    pub(super) fn parent_removed(&self, change: &Change) -> bool {
        let linked = if let Change::Link { ino, .. } = change { Some(*ino) } else { None };
        let directories = change.places().into_iter().map(|place| place.directory);
        directories.chain(linked).any(|ino| match self.descriptor(ino) {
            Ok(node) => sys::stat(node.as_fd()).is_ok_and(|stat| stat.links == 0),
            // One that has never landed never will: what needs it comes after it.
            Err(error) => error == Error::Stale,
        })
    }

    /// A change of a name where there is no ground for it any more: nobody could see it.
    pub(super) fn drop_unreachable(&self, change: &Change) -> Outcome {
        let outcome = match change {
            Change::Unlink { .. } | Change::RemoveDirectory { .. } => "stays-gone",
            Change::Rename { .. } | Change::Link { .. } => "dropped",
            _ => "unseen",
        };
        if let Some(place) = change.places().first() {
            self.conflict_with_nothing(change.verb(), place, outcome);
        }
        Outcome { is_unreachable: true, ..Outcome::theirs() }
    }

    /// Others have been faster each time that the store was looked at.
    pub(super) fn settle_for_overtaken(&self, change: &Change) -> Outcome {
        let outcome = match change {
            Change::Make { .. } => "unseen",
            Change::Rename { .. } | Change::Link { .. } => "dropped",
            _ => "kept-theirs",
        };
        if let Some(place) = change.places().first() {
            self.conflict_with_nothing(change.verb(), place, outcome);
        }
        Outcome { is_unreachable: matches!(change, Change::Make { .. }), ..Outcome::theirs() }
    }
}

/// What a late rename meets: what stands at both ends, whether that is another inode than this client knows there, and
/// whether a sticky directory keeps any of it.
struct Met {
    at_source: Stat,
    foreign_source: bool,
    at_target: Option<Stat>,
    foreign_target: bool,
    is_kept: bool,
}

fn has_entries(error: Error) -> bool {
    [Error::NotEmpty, Error::Exists].contains(&error)
}

/// Why another's inode cannot be removed or moved: it has entries, is immutable, is another user's in a directory with
/// the sticky bit, or something is mounted on it.
pub(super) fn stays(error: Error) -> bool {
    has_entries(error) || [Error::NotPermitted, Error::Busy].contains(&error)
}

/// Why a rename meets at its target what it cannot replace.
fn is_in_the_way(error: Error) -> bool {
    has_entries(error) || [Error::IsDirectory, Error::NotDirectory, Error::Invalid].contains(&error)
}
