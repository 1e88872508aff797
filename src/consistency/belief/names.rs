//! Names, absent ones too, and listings. They are believed for a time of their own and, where the policy says so, for as long
//! as their directory is believed to be as it was.

use std::sync::Arc;

use super::{Belief, Known};
use crate::{
    consistency::{
        attributes::Ino,
        cache::{Believed, Ticket},
        listing::Listing,
        mutation::Place,
        policy::{NamesBy, Policy},
    },
    time::Time,
};

/// What was fetched of a name or a directory's entries, and the state of the directory under which it is valid; none if only
/// time ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Under<T> {
    pub(super) value: T,
    version: Option<u64>,
}

impl Belief {
    /// What is believed of a name: `Some(None)` is a believed absence.
    pub fn name(&self, place: &Place, now: Time) -> Option<Believed<Option<Known>>> {
        let believed = self.names.get(place, now)?;
        let until = self.end_under(place.directory, believed, now)?;
        let Believed { value, fetched, number, .. } = *believed;
        Some(Believed { value: value.value, fetched, until, number })
    }

    /// Starts to ask for a name.
    pub fn fetch_name(&self, place: &Place, now: Time) -> Ticket {
        self.under(self.names.start_fetch(place, now), place.directory)
    }

    /// Believes what a name was found to be; `false` if the fetch was overtaken.
    pub fn believe_name(
        &mut self,
        ticket: Ticket,
        place: Place,
        found: Option<Known>,
        policy: &Policy,
    ) -> bool {
        self.number();
        let lifetime = policy.lifetimes.of_name(found.is_some());
        let found = Under { value: found, version: version_under(ticket, policy) };
        let believed = self.names.believe(ticket, place, found, lifetime);
        self.make_room();
        believed
    }

    /// A directory has been found at a name: what is believed of it at another one goes, as the client of a storage does that
    /// tells inodes apart.
    pub fn found_directory(&mut self, ino: Ino, at: &Place) {
        if let Some(former) = self.tracks.found(ino, at) {
            self.distrust_name(&former);
        }
    }

    /// The listing believed of a directory.
    pub fn listing(&self, directory: Ino, now: Time) -> Option<Believed<Arc<Listing>>> {
        let believed = self.listings.get(&directory, now)?;
        let until = self.end_under(directory, believed, now)?;
        let Believed { value, fetched, number, .. } = believed;
        Some(Believed { value: value.value.clone(), fetched: *fetched, until, number: *number })
    }

    /// Starts to list a directory.
    pub fn fetch_listing(&self, directory: Ino, now: Time) -> Ticket {
        self.under(self.listings.start_fetch(&directory, now), directory)
    }

    /// Believes a listing; `false` if the fetch was overtaken.
    pub fn believe_listing(
        &mut self,
        ticket: Ticket,
        directory: Ino,
        listing: Arc<Listing>,
        policy: &Policy,
    ) -> bool {
        if listing.cost() > self.most {
            self.evicted += 1;
            return !self.listings.is_overtaken(ticket);
        }
        self.number();
        let listing = Under { value: listing, version: version_under(ticket, policy) };
        let believed = self.listings.believe(ticket, directory, listing, policy.lifetimes.listings);
        self.make_room();
        believed
    }

    /// The end of what is valid for as long as it has time and its directory is believed to be as it was.
    fn end_under<T>(&self, directory: Ino, believed: &Believed<Under<T>>, now: Time) -> Option<Time> {
        let Some(version) = believed.value.version else { return Some(believed.until) };
        let of_directory = self.attributes.get(&directory, now)?.until;
        (version == self.tracks.version(directory)).then(|| believed.until.min(of_directory))
    }

    /// The directory has to be fetched before anything can be said of a name that was believed: it is valid if the directory
    /// has not changed.
    pub fn hangs_on_directory(&self, place: &Place, now: Time) -> bool {
        let version = self.names.get(place, now).and_then(|believed| believed.value.version);
        self.is_over_under(version, place.directory, now)
    }

    /// The same for its listing.
    pub fn listing_hangs_on_directory(&self, directory: Ino, now: Time) -> bool {
        let version = self.listings.get(&directory, now).and_then(|believed| believed.value.version);
        self.is_over_under(version, directory, now)
    }

    /// Whether it is known in which state a directory is, so that names can be valid for as long as it stays in that.
    pub fn knows_state_of(&self, directory: Ino) -> bool {
        self.tracks.version(directory) != 0
    }

    fn is_over_under(&self, version: Option<u64>, directory: Ino, now: Time) -> bool {
        let may_stand = version.is_some_and(|version| version == self.tracks.version(directory));
        may_stand && self.attributes.get(&directory, now).is_none()
    }

    /// The state of a directory that what is fetched now is to be valid under.
    fn under(&self, mut ticket: Ticket, directory: Ino) -> Ticket {
        ticket.under = self.tracks.version(directory);
        ticket
    }
}

fn version_under(ticket: Ticket, policy: &Policy) -> Option<u64> {
    (policy.names_by == NamesBy::Directory).then_some(ticket.under)
}
