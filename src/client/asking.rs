//! Asking the store although something is believed: at open, before a name that hangs on its directory is believed, and about
//! what has been listed.

use super::{Client, State, view::Hold};
use crate::{
    consistency::{
        Ino, Kind, Listing, Place, Provenance,
        inquiry::{Anew, Bound},
        policy::{NamesBy, OpenAsks, OpenGone},
    },
    error::Error,
};

impl Client {
    /// Fetches the attributes of a directory where what is believed of a name in it is valid only if it has not changed.
    pub(super) fn ask_directory_of(&self, place: &Place, provenance: &mut Provenance) -> Result<(), Error> {
        let policy = &self.in_force().policy;
        if policy.names_by == NamesBy::Time && !policy.lookup_asks_directory {
            return Ok(());
        }
        let now = self.now();
        let state = self.lock();
        let has_no_state =
            policy.names_by == NamesBy::Directory && !state.belief.knows_state_of(place.directory);
        let hangs = has_no_state || state.belief.hangs_on_directory(place, now);
        let is_unknown =
            state.belief.name(place, now).is_none() && state.in_flight.overlay().name(place).is_none();
        drop(state);
        if !hangs && is_unknown && policy.lookup_asks_directory {
            return self.ask_anew(place.directory, provenance);
        }
        if hangs { self.on_base(place.directory, provenance, |_, _, _| ()) } else { Ok(()) }
    }

    /// Asks the store about an inode, whatever is believed of it.
    ///
    /// # Errors
    /// ESTALE if it is gone.
    pub(super) fn ask_anew(&self, ino: Ino, provenance: &mut Provenance) -> Result<(), Error> {
        let fetch = |_: &Anew| self.fetch_inode(ino);
        let (base, part) = self.inquire(Anew(ino), fetch, |_, base, _| base)?;
        provenance.add_all(&part);
        base.map(drop).ok_or(Error::Stale)
    }

    /// The same for an inode that is being opened, and whose name `leads` to it. If it is gone, what is believed of the name
    /// goes, too: the kernel looks it up once more.
    pub(super) fn ask_at_open(
        &self,
        ino: Ino,
        must_lead: bool,
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        // What the kernel has just found by looking a second time may be gone again: it is opened all the same, or a file that
        // others keep replacing could not be opened at all.
        if self.lock().records.take(ino, |record| std::mem::take(&mut record.is_found)) {
            return Ok(());
        }
        let (directory, name) = self.table.place(ino)?;
        let place = Place::new(directory, &name);
        let open_gone = self.in_force().policy.open_gone;
        let is_there = match open_gone {
            _ if !must_lead => true,
            OpenGone::Again => self.leads_to(&place, ino)?,
            OpenGone::Error => self.is_as_large(&place, ino, provenance)?,
        };
        let asked = if is_there { self.ask_anew(ino, provenance) } else { Err(Error::Stale) };
        if asked == Err(Error::Stale) && open_gone == OpenGone::Error {
            return Err(Error::InputOutput);
        }
        asked.inspect_err(|error| {
            if *error == Error::Stale {
                let mut state = self.lock();
                state.belief.distrust_name(&place);
                state.sought.insert(place);
            }
        })
    }

    /// Whether a name of a landed inode still leads to it in the store. One with changes in flight is this client's own.
    pub(super) fn leads_to(&self, place: &Place, ino: Ino) -> Result<bool, Error> {
        if !self.table.has_landed(ino) || self.lock().in_flight.overlay().name(place).is_some() {
            return Ok(true);
        }
        let found = self.fetch_name(place, Hold::No)?;
        Ok(found.is_some_and(|(looked, _)| looked.ino() == ino))
    }

    /// Whether a name of a landed inode leads in the store to something as large as this client believes, which is all that a
    /// storage can check that knows paths alone. One with changes in flight is this client's own.
    fn is_as_large(&self, place: &Place, ino: Ino, provenance: &mut Provenance) -> Result<bool, Error> {
        if !self.table.has_landed(ino) || self.lock().in_flight.about(ino).next().is_some() {
            return Ok(true);
        }
        let believed = self.view(ino, provenance)?.size;
        let found = self.fetch_name(place, Hold::No)?;
        Ok(found.is_some_and(|(_, attributes)| attributes.size == believed))
    }

    /// A name that is believed has been looked up: where opening asks by name, it is this one of several that is meant.
    pub(super) fn note_place(&self, state: &State, ino: Ino, place: &Place) {
        let is_asked_for = self.in_force().policy.open_asks == OpenAsks::Name;
        if is_asked_for
            && state.in_flight.about(ino).next().is_none()
            && self.table.kind(ino).is_ok_and(|kind| Kind::of_mode(kind) != Kind::Directory)
        {
            self.table.moved(ino, place.directory, &place.name, true);
        }
    }

    /// A name has been looked up whose inode was gone when it was to be opened: what is there now is to be opened.
    pub(super) fn note_found(&self, state: &mut State, place: &Place, bound: Bound) {
        if state.sought.remove(place)
            && let Bound::Found(known, _) = bound
        {
            state.records.change(known.ino, |record| record.is_found = true);
        }
    }

    /// What is believed of the inodes in a listing is asked for anew, as if it had come with the listing (READDIRPLUS); so is a
    /// name that is believed to lead to another inode than the listing says.
    pub(super) fn ask_about_listed(&self, directory: Ino, listing: &Listing, provenance: &mut Provenance) {
        for (name, ino, _) in listing.iter() {
            let (place, now) = (Place::new(directory, name), self.now());
            let mut state = self.lock();
            let believed = state.belief.name(&place, now).and_then(|believed| believed.value);
            if believed.is_some_and(|known| known.ino != ino) {
                state.belief.distrust_name(&place);
            }
            let is_believed = state.belief.attributes(ino, now).is_some();
            drop(state);
            if is_believed {
                // One that has gone since is missed by whoever asks for it next.
                let _ = self.ask_anew(ino, provenance);
            }
        }
    }
}
