//! Renames as stores of objects make them: what is renamed appears at its new name, and goes at its old one later. In between
//! both are there. A directory goes piece by piece, and what is directly in it is a piece.
//!
//! Whoever has an inode open goes on with it, so it is the real one that moves, at once. What is still to be seen at its old name
//! is left behind there: one more name of a file; a new directory, with the pieces that have not gone yet.

use std::os::fd::{AsFd, BorrowedFd};

use crate::{
    backing::{flags::RENAME_NOREPLACE, sys},
    client::Client,
    consistency::{Ino, Kind, Place},
    error::Error,
};

/// The two ends of a rename, each in its directory.
pub(super) struct Ends<'a> {
    pub(super) source: (BorrowedFd<'a>, &'a Place),
    pub(super) target: (BorrowedFd<'a>, &'a Place),
}

impl Client {
    /// Whether a rename that copies has begun already.
    pub(super) fn has_begun_to_copy(&self, ends: &Ends<'_>, ino: Ino) -> Result<bool, Error> {
        let (target, to) = ends.target;
        match sys::stat_at(target, &to.name) {
            Err(Error::NotFound) => Ok(false),
            found => Ok(Some(found?.identity) == self.table.identity(ino)),
        }
    }

    /// What is renamed has just moved: leaves behind what is still to be seen at its old name. Whether that is anything.
    pub(super) fn leave_behind(&self, ends: &Ends<'_>) -> Result<bool, Error> {
        let ((source, from), (target, to)) = (ends.source, ends.target);
        let moved = sys::open_path(target, &to.name)?;
        let attributes = sys::stat(moved.as_fd())?;
        if Kind::of_mode(attributes.mode) != Kind::Directory {
            // Where it cannot have two names the rename is over.
            return Ok(sys::link(moved.as_fd(), source, &from.name).is_ok());
        }
        let pieces = pieces_of(moved.as_fd())?;
        if pieces.is_empty() || sys::make_directory(source, &from.name, attributes.mode & 0o7777).is_err() {
            return Ok(false);
        }
        let left = sys::open_path(source, &from.name)?;
        if self.is_root() {
            sys::set_owner(left.as_fd(), Some(attributes.uid), Some(attributes.gid))?;
        }
        sys::set_permissions(left.as_fd(), attributes.mode & 0o7777)?;
        for piece in pieces {
            move_piece(moved.as_fd(), left.as_fd(), &piece)?;
        }
        Ok(true)
    }

    /// The next piece goes. Whether there are more.
    pub(super) fn copy_on(&self, ends: &Ends<'_>, ino: Ino) -> Result<bool, Error> {
        let ((source, from), (target, to)) = (ends.source, ends.target);
        let left = match sys::open_path(source, &from.name) {
            // Somebody else has taken it away.
            Err(Error::NotFound) => return Ok(false),
            left => left?,
        };
        let attributes = sys::stat(left.as_fd())?;
        if Kind::of_mode(attributes.mode) != Kind::Directory {
            let is_ours = Some(attributes.identity) == self.table.identity(ino);
            return if is_ours { sys::unlink(source, &from.name).map(|()| false) } else { Ok(false) };
        }
        let moved = sys::open_path(target, &to.name)?;
        let pieces = pieces_of(left.as_fd())?;
        let Some(piece) = pieces.first() else { return Ok(false) };
        match move_piece(left.as_fd(), moved.as_fd(), piece) {
            // Somebody else has made one of this name there: what is left stays where it is.
            Err(Error::Exists) => return Ok(false),
            moved => moved?,
        }
        if pieces.len() > 1 {
            return Ok(true);
        }
        match sys::remove_directory(source, &from.name) {
            // A piece has been added meanwhile.
            Err(Error::NotEmpty) => Ok(true),
            removed => removed.map(|()| false),
        }
    }
}

/// The names in a directory, in their order.
fn pieces_of(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut names = Vec::new();
    sys::for_each_entry(directory, |entry| {
        names.push(entry.name.to_vec());
        Ok(())
    })?;
    names.sort_unstable();
    Ok(names)
}

fn move_piece(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    match sys::rename(from, name, to, name, RENAME_NOREPLACE) {
        // Somebody else has taken it away.
        Err(Error::NotFound) => Ok(()),
        moved => moved,
    }
}
