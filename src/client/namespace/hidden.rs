//! Names that files get which are open here while their own is taken away, on storages whose server knows nothing of open
//! files: the client renames them, and removes them when they are closed. Everybody sees these names.

use crate::{
    client::{Client, Looked, Provenance},
    consistency::{Change, Ino, Kind, Place, RenameHow, policy::HideAs},
    error::Error,
};

impl Client {
    /// Gives a file that is open here another name in its directory, so that its name can be taken away; whether it did.
    ///
    /// # Errors
    /// EBUSY if it is such a name already; whatever renaming answers.
    pub(super) fn hide_if_open(
        &self,
        place: &Place,
        subject: &Looked<'_>,
        provenance: &mut Provenance,
    ) -> Result<bool, Error> {
        let how = self.in_force().policy.hide_open_as;
        let ino = subject.ino();
        if how == HideAs::Nothing
            || Kind::of_mode(self.table.kind(ino)?) != Kind::File
            || !self.files.is_open(ino)
        {
            return Ok(false);
        }
        self.check_not_hidden(place)?;
        let mut state = self.lock();
        if state.hidden.contains_key(&ino) {
            // Another name of it hides it already.
            return Ok(false);
        }
        state.hides += 1;
        let name = match how {
            HideAs::Nfs => format!(".nfs{:016x}{:08x}", self.shown_number(ino), state.hides),
            _ => format!(".fuse_hidden{:08x}{:08x}", self.shown_number(ino), state.hides),
        };
        drop(state);
        let hidden = Place::new(place.directory, name.as_bytes());
        while !self.try_rename(place, &hidden, RenameHow::NoReplace, provenance)? {}
        self.lock().hidden.insert(ino, hidden);
        Ok(true)
    }

    /// Refuses to take away or to move a name that hides an open file, as the NFS client does (fs/nfs/unlink.c) and libfuse does
    /// not.
    ///
    /// # Errors
    /// EBUSY.
    pub(super) fn check_not_hidden(&self, place: &Place) -> Result<(), Error> {
        let is_refused = self.in_force().policy.hide_open_as == HideAs::Nfs
            && self.lock().hidden.values().any(|hidden| hidden == place);
        if is_refused { Err(Error::Busy) } else { Ok(()) }
    }

    /// A file has been closed for the last time, or the client leaves: the name that hid it goes.
    pub(in crate::client) fn remove_hidden(&self, ino: Ino) {
        let Some(place) = self.lock().hidden.remove(&ino) else { return };
        let change = Change::Unlink { place, ino };
        // Somebody else may have removed it: then that is done.
        let _ = self.submit_blindly(change);
    }

    /// All names that hide files go: nobody will close these any more.
    pub fn remove_all_hidden(&self) {
        let hidden: Vec<Ino> = self.lock().hidden.keys().copied().collect();
        hidden.into_iter().for_each(|ino| self.remove_hidden(ino));
    }
}
