//! Carrying a change out on the backing directory.
//!
//! A change that goes *through* is one system call whose errno the program gets. A change that lands *late* may find
//! that the store has changed under it. Then the last writer wins, and every conflict is an event with both sides:
//!
//! | our change | the store has meanwhile | outcome |
//! |---|---|---|
//! | a new file | a file of that name | taken over, its content replaced; another user's makes way |
//! | a new name | what its owner may not remove: another user's in a sticky directory, immutable | given up, with what was done to the new inode (`kept-theirs`) |
//! | a new directory | a directory of that name | merged |
//! | a new name | something else of that name | replaced, but a directory with entries stays (`kept-theirs`) |
//! | a new name | its directory removed | nobody could see it: given up, with what was done to the new inode |
//! | unlink, rmdir | no such name | stays gone |
//! | unlink, rmdir | another inode under that name | removed all the same, unless the owner of ours may not |
//! | rmdir | entries in the directory | stays |
//! | rename, link | no such source | dropped |
//! | rename | another inode at source or target | ours wins, but a directory in the way stays |
//! | data, attributes | other data or attributes | ours on top |
//! | data of the whole file | later data of another client, landed early by an fsync | given up (`kept-theirs`) |
//! | attributes, by an ordinary user | another owner | given up (`kept-theirs`) |
//! | data, attributes | the file removed by somebody | changed where nobody sees it |

mod conflicts;
mod copying;
mod inodes;
mod make;
mod names;

use std::os::fd::{AsFd, OwnedFd};

use crate::{
    backing::flags::O_RDWR,
    backing::{Stat, sys},
    client::Client,
    consistency::{
        Change, Kind,
        policy::{Policy, SecondWriter, Unlinked},
    },
    error::Error,
    time::Timestamp,
};
use conflicts::describe;
use inodes::{change_xattr, set_attributes};
pub(in crate::client) use inodes::{clear_permissions, remove_xattr, set_xattr};

/// How often the store is looked at anew for one change that others overtake.
const MOST_LOOKS: usize = 32;

/// How a change is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Manner {
    /// Before its call returns: the store decides.
    Through,
    /// After the program has been told that it is done: the last writer wins.
    Late,
}

/// What carrying a change out has brought about.
#[derive(Debug, Default)]
pub(in crate::client) struct Outcome {
    /// The real inode of something made, taken over or written, as the change has left it.
    pub(in crate::client) stat: Option<Stat>,
    /// A new file, open as asked.
    pub(in crate::client) opened: Option<OwnedFd>,
    /// The store stays as somebody else has left it, and its times are theirs.
    pub(in crate::client) is_theirs: bool,
    /// This was one step, and there are more.
    pub(in crate::client) has_more: bool,
    /// There is no place any more where the change could be seen.
    pub(in crate::client) is_unreachable: bool,
}

impl Outcome {
    /// Nothing was changed: theirs stays.
    fn theirs() -> Outcome {
        Outcome { is_theirs: true, ..Outcome::default() }
    }

    /// Theirs stays, and with that there is no place for ours.
    fn unreachable() -> Outcome {
        Outcome { is_unreachable: true, ..Outcome::theirs() }
    }
}

impl Client {
    /// Carries `change` out. `stamp` is the time that programs have seen for it.
    pub(in crate::client) fn carry_out(
        &self,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let mut looks = 1;
        loop {
            match self.try_to_carry_out(change, stamp, manner) {
                Err(error) if manner == Manner::Late && is_absence(error) && self.parent_removed(change) => {
                    return Ok(self.drop_unreachable(change));
                }
                Err(error) if manner == Manner::Late && is_overtaken(error) => {
                    looks += 1;
                    if looks > MOST_LOOKS {
                        return if change.places().is_empty() {
                            Err(error)
                        } else {
                            Ok(self.settle_for_overtaken(change))
                        };
                    }
                }
                result => return result,
            }
        }
    }

    fn try_to_carry_out(&self, change: &Change, stamp: Timestamp, manner: Manner) -> Result<Outcome, Error> {
        match change {
            Change::Make { place, ino, attributes, target, .. } => {
                self.carry_out_make(place, *ino, attributes, target, O_RDWR, manner)
            }
            Change::Link { ino, place, .. } => self.carry_out_link(*ino, place, manner),
            Change::Unlink { place, ino } | Change::RemoveDirectory { place, ino } => {
                self.carry_out_removal(change.verb(), place, *ino, manner)
            }
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
            Change::SetAttributes { .. } | Change::SetXattr { .. } => {
                self.carry_out_attributes(change, stamp, manner)
            }
            _ => self.carry_out_data(ino, change, stamp, manner),
        };
        match outcome {
            Err(error) if error == Error::Stale && manner == Manner::Late && self.table.has_landed(ino) => {
                self.conflict_on_inode(change, "nothing".to_string(), "unseen");
                let Policy { unlinked, second_writer, .. } = self.in_force().policy;
                if unlinked == Unlinked::Stale || second_writer == SecondWriter::Stale {
                    self.lock().fail(ino, error);
                }
                Ok(Outcome::default())
            }
            outcome => outcome,
        }
    }

    fn carry_out_attributes(
        &self,
        change: &Change,
        stamp: Timestamp,
        manner: Manner,
    ) -> Result<Outcome, Error> {
        let node = self.reached(change.subject(), manner)?;
        let changed = match change {
            Change::SetAttributes { change, owner, .. } => {
                set_attributes(node.as_fd(), change, *owner, stamp)
            }
            Change::SetXattr { name, value, owner, .. } => {
                change_xattr(node.as_fd(), name, value.as_deref(), *owner)
            }
            _ => Ok(()),
        };
        if manner == Manner::Through {
            return changed.map(|()| Outcome::default());
        }
        self.settle_attributes(change, changed, sys::stat(node.as_fd())?)
    }

    /// What is left of an inode whose attributes were to change late: as somebody else has made it, if it is theirs by now.
    fn settle_attributes(
        &self,
        change: &Change,
        changed: Result<(), Error>,
        found: Stat,
    ) -> Result<Outcome, Error> {
        let was_given_away = change.owner().is_some_and(|owner| owner != found.uid);
        if was_given_away && matches!(changed, Err(error) if error == Error::NotPermitted) {
            let theirs = format!("{} uid {}", describe(&found), found.uid);
            self.conflict_on_inode(change, theirs, "kept-theirs");
            return Ok(Outcome { stat: Some(found), ..Outcome::theirs() });
        }
        changed?;
        if found.links == 0 && !self.lock().has_removed(change.subject()) {
            self.conflict_on_inode(change, describe(&found), "unseen");
        }
        Ok(Outcome { stat: Some(found), ..Outcome::default() })
    }
}

fn is_absence(error: Error) -> bool {
    error == Error::NotFound || error == Error::Stale
}

/// Whether somebody else may have been between looking at a name and changing it, which are two calls.
fn is_overtaken(error: Error) -> bool {
    let names = [Error::NotFound, Error::Exists, Error::NotDirectory, Error::IsDirectory];
    names.contains(&error) || [Error::NotEmpty, Error::Loop].contains(&error)
}

fn is_directory(stat: &Stat) -> bool {
    Kind::of_mode(stat.mode) == Kind::Directory
}
