//! Moving names.

use std::{os::fd::AsFd, sync::Arc};

use crate::{
    backing::sys,
    client::{
        Caller, Client, Looked, Provenance,
        call::{Call, Flushed, Run},
        view::Hold,
        whereabouts::Progressed,
    },
    consistency::{
        Change, Ino, Kind, Place, RenameHow,
        belief::Grounds,
        policy::{FlushPoint, RenameBy, RenameFlag},
    },
    error::Error,
    operation::Operation,
};

impl Client {
    /// Moves an inode from one name to another.
    ///
    /// # Errors
    /// ENOENT, EEXIST, ENOTEMPTY, EROFS; whatever the backing directory answers, where it goes through.
    pub fn rename(
        self: &Arc<Self>,
        caller: &Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        how: RenameHow,
    ) -> Call<'_, impl Run<()>> {
        let (from, to) = (Place::new(from.0, from.1), Place::new(to.0, to.1));
        let (moved, stays_there) = (from.clone(), from.directory == to.directory);
        let rename = self
            .call_on_name(Operation::Rename, caller, from, move |client, from, _, provenance| {
                client.check_name(&to.name)?;
                if flag_of(how).is_some_and(|flag| !client.in_force().knobs.rename_flags.has(flag)) {
                    return Err(Error::Invalid);
                }
                client.check_not_hidden(from)?;
                client.check_not_hidden(&to)?;
                while !client.try_rename(from, &to, how, provenance)? {}
                Ok(())
            })
            .until_renamed();
        if stays_there { rename.flushes(FlushPoint::Rename, Flushed::Name(moved)) } else { rename }
    }

    /// One try; `false` if what it was based on has changed meanwhile.
    pub(in crate::client) fn try_rename(
        &self,
        from: &Place,
        to: &Place,
        how: RenameHow,
        provenance: &mut Provenance,
    ) -> Result<bool, Error> {
        let change = |(ino, kind), replaced| {
            let (from, to) = (from.clone(), to.clone());
            Change::Rename { from, to, ino, kind, replaced, how }
        };
        if self.is_transparent() {
            let change = change((0, Kind::File), None);
            return self.go_through(&change, || self.rename_unseen(&change, how)).map(|()| true);
        }
        let names = self.lock().belief.grounds(&[from, to], &[]);
        let source = self.find(from, Hold::Yes, provenance)?.ok_or(Error::NotFound)?;
        let target = self.find(to, Hold::Yes, provenance)?;
        if let Some(other) =
            target.as_ref().filter(|other| how == RenameHow::Replace && other.ino() != source.ino())
            && self.hide_if_open(to, other, provenance)?
        {
            return Ok(false);
        }
        self.check_may_move(source.ino(), provenance)?;
        let with_kind = |looked: &Looked<'_>| {
            (looked.ino(), Kind::of_mode(self.table.kind(looked.ino()).unwrap_or_default()))
        };
        let (moving, replaced) = (with_kind(&source), target.as_ref().map(with_kind));
        let change = change(moving, replaced);
        let through = |_: &mut _| {
            self.apply(&change)?;
            self.follow(&change, Progressed::Through);
            if how != RenameHow::Exchange {
                self.note_removal(target.as_ref());
            }
            Ok(true)
        };
        let late = |provenance: &mut _| self.rename_late(&change, names, provenance);
        self.submit(&change, provenance, through, late)
    }

    /// Refuses to move a directory with anything in it where the store would have to copy all that.
    fn check_may_move(&self, ino: Ino, provenance: &mut Provenance) -> Result<(), Error> {
        let moves_files_only = self.in_force().policy.rename_by == RenameBy::FileMove;
        if !moves_files_only || Kind::of_mode(self.table.kind(ino)?) != Kind::Directory {
            return Ok(());
        }
        match self.check_empty(ino, provenance) {
            Err(Error::NotEmpty) => Err(Error::TooManyOpen),
            checked => checked.map(drop),
        }
    }

    /// Moves whatever stands there.
    fn rename_unseen(&self, change: &Change, how: RenameHow) -> Result<(), Error> {
        self.apply(change)?;
        let moved = change.places().into_iter().skip(usize::from(how != RenameHow::Exchange));
        for place in moved {
            let at_place =
                self.descriptor(place.directory).and_then(|at| sys::stat_at(at.as_fd(), &place.name));
            at_place.iter().for_each(|found| self.follow_unseen(place, found));
        }
        Ok(())
    }

    fn rename_late(
        &self,
        change: &Change,
        names: Grounds,
        provenance: &mut Provenance,
    ) -> Result<bool, Error> {
        let Change::Rename { from, to, ino, kind, replaced, how } = change else { return Ok(true) };
        self.check_entering(to.directory, provenance)?;
        self.check_same_device(from.directory, to.directory)?;
        if replaced.is_some_and(|(other, _)| other == *ino) {
            // Two names of one inode: rename(2) leaves both.
            return Ok(true);
        }
        // Others may take the names away by which they could be found.
        self.hold_on_to(*ino);
        replaced.iter().for_each(|(other, _)| self.hold_on_to(*other));
        let grounds = names.and(self.check_target(*kind, *replaced, *how, provenance)?);
        self.add_on(&grounds, change.clone(), self.clock.wall())
    }

    /// Refuses what `rename(2)` refuses because of what stands at the target; says on what grounds it did not.
    fn check_target(
        &self,
        moving: Kind,
        target: Option<(Ino, Kind)>,
        how: RenameHow,
        provenance: &mut Provenance,
    ) -> Result<Grounds, Error> {
        match (how, target) {
            (RenameHow::NoReplace, Some(_)) => Err(Error::Exists),
            (RenameHow::Exchange, None) => Err(Error::NotFound),
            (RenameHow::Exchange, Some(_)) | (_, None) => Ok(Grounds::default()),
            (_, Some((_, Kind::Directory))) if moving != Kind::Directory => Err(Error::IsDirectory),
            (_, Some((directory, Kind::Directory))) => self.check_empty(directory, provenance),
            (_, Some(_)) if moving == Kind::Directory => Err(Error::NotDirectory),
            _ => Ok(Grounds::default()),
        }
    }
}

fn flag_of(how: RenameHow) -> Option<RenameFlag> {
    match how {
        RenameHow::Replace => None,
        RenameHow::NoReplace => Some(RenameFlag::NoReplace),
        RenameHow::Exchange => Some(RenameFlag::Exchange),
    }
}
