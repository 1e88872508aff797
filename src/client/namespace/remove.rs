//! Removing names.

use std::{os::fd::AsFd, sync::Arc};

use crate::{
    backing::sys,
    client::{
        Caller, Client, Looked, Provenance,
        call::{Call, Run},
        view::Hold,
    },
    consistency::{Change, Ino, Place},
    error::Error,
    operation::Operation,
};

impl Client {
    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// ENOENT, EROFS; whatever the backing directory answers, where it goes through.
    pub fn unlink(self: &Arc<Self>, caller: &Caller, directory: Ino, name: &[u8]) -> Call<'_, impl Run<()>> {
        let place = Place::new(directory, name);
        self.call_on_name(Operation::Unlink, caller, place, move |client, place, _, provenance| {
            client.remove(place, provenance, |place, ino| Change::Unlink { place, ino })
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTEMPTY, EROFS; whatever the backing directory answers, where it goes through.
    pub fn rmdir(self: &Arc<Self>, caller: &Caller, directory: Ino, name: &[u8]) -> Call<'_, impl Run<()>> {
        let place = Place::new(directory, name);
        self.call_on_name(Operation::Rmdir, caller, place, move |client, place, _, provenance| {
            client.remove(place, provenance, |place, ino| Change::RemoveDirectory { place, ino })
        })
    }

    fn remove(
        &self,
        place: &Place,
        provenance: &mut Provenance,
        change: impl Fn(Place, Ino) -> Change,
    ) -> Result<(), Error> {
        self.check_name(&place.name)?;
        if self.is_transparent() {
            // Nobody needs to know which inode it is.
            let change = change(place.clone(), 0);
            return self.go_through(&change, || self.apply(&change)).map(drop);
        }
        while !self.try_remove(place, provenance, &change)? {}
        Ok(())
    }

    /// One try; `false` if what it was based on has changed meanwhile.
    fn try_remove(
        &self,
        place: &Place,
        provenance: &mut Provenance,
        change: impl Fn(Place, Ino) -> Change,
    ) -> Result<bool, Error> {
        let name = self.lock().belief.grounds(&[place], &[]);
        let subject = self.find(place, Hold::Yes, provenance)?.ok_or(Error::NotFound)?;
        self.check_not_hidden(place)?;
        if self.hide_if_open(place, &subject, provenance)? {
            return Ok(true);
        }
        let change = change(place.clone(), subject.ino());
        let through = |_: &mut _| {
            self.apply(&change)?;
            self.note_removal(Some(&subject));
            Ok(true)
        };
        let late = |provenance: &mut _| {
            let grounds = match change {
                Change::RemoveDirectory { ino, .. } => name.and(self.check_empty(ino, provenance)?),
                _ => name,
            };
            self.add_on(&grounds, change.clone(), self.clock.wall())
        };
        self.submit(&change, provenance, through, late)
    }

    /// A name went through: if that was the inode's last one, its data in flight, now or later, concerns nobody else.
    pub(super) fn note_removal(&self, subject: Option<&Looked<'_>>) {
        if let Some(subject) = subject
            && self.table.has_landed(subject.ino())
            && let Ok(descriptor) = self.descriptor(subject.ino())
            && sys::stat(descriptor.as_fd()).is_ok_and(|stat| stat.links == 0)
        {
            self.lock().records.change(subject.ino(), |record| record.is_nameless = true);
        }
    }
}
