//! The question about the entries of a directory.

use std::{collections::BTreeMap, sync::Arc};

use super::{Question, Started};
use crate::{
    consistency::{
        attributes::Ino,
        cache::Ticket,
        core::Core,
        listing::Listing,
        mutation::Name,
        overlay::Binding,
        provenance::{Origin, Provenance},
    },
    hashing::HashSet,
    time::Time,
};

/// Which entries does a directory have?
#[derive(Debug)]
pub struct EntriesOf {
    directory: Ino,
    /// Listing a large directory takes long enough for names to land meanwhile, behind the point that the listing has
    /// reached. So what is in flight is taken when the fetch starts: what lands under way is still in it.
    in_flight: BTreeMap<Name, Binding>,
}

impl EntriesOf {
    /// The question about a directory.
    pub fn new(directory: Ino) -> EntriesOf {
        EntriesOf { directory, in_flight: BTreeMap::new() }
    }

    fn names_in_flight(&self, core: &Core<'_>) -> BTreeMap<Name, Binding> {
        let names = core.in_flight.overlay().names_in(self.directory);
        names.map(|(name, binding)| (name.clone(), binding)).collect()
    }
}

impl Question for EntriesOf {
    /// Its entries without `.` and `..`; none if the directory is gone.
    type Answer = Option<Arc<Listing>>;
    /// The same, as the backing directory has them.
    type Fetched = Option<Listing>;

    fn about(&self) -> (Ino, Option<&[u8]>) {
        (self.directory, None)
    }

    fn known(&self, core: &Core<'_>, now: Time, provenance: &mut Provenance) -> Option<Self::Answer> {
        if core.in_flight.overlay().unlanded(self.directory).is_some() {
            provenance.add(Origin::InFlight);
            return Some(Some(lay_over(Arc::default(), &self.names_in_flight(core))));
        }
        let believed = core.belief.listing(self.directory, now)?;
        provenance.add(Origin::Belief(believed.fetched));
        Some(Some(lay_over(believed.value, &self.names_in_flight(core))))
    }

    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket {
        self.in_flight = self.names_in_flight(core);
        core.belief.fetch_listing(self.directory, now)
    }

    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Option<Listing>,
        now: Time,
        _provenance: &mut Provenance,
    ) -> Option<Self::Answer> {
        let Some(listing) = fetched.map(Arc::new) else {
            let is_moving = core.in_flight.is_moving(self.directory);
            return Some(is_moving.then(|| lay_over(Arc::default(), &self.in_flight)));
        };
        let is_good =
            core.belief.believe_listing(started.ticket, self.directory, listing.clone(), core.policy);
        if !is_good && core.belief.listing(self.directory, now).is_some() {
            // Another fetch ended first and may have seen more: that one is the answer.
            return None;
        }
        // One that an own change has overtaken is as good as one from before that change, with what was in flight then.
        // Listing the directory again might never end while a program fills it.
        Some(Some(lay_over(listing, &self.in_flight)))
    }
}

fn lay_over(base: Arc<Listing>, in_flight: &BTreeMap<Name, Binding>) -> Arc<Listing> {
    if in_flight.is_empty() {
        return base;
    }
    let mut merged = Listing::default();
    let mut listed = HashSet::default();
    for (name, ino, kind) in base.iter() {
        match in_flight.get(name) {
            None => merged.push(name, ino, kind),
            Some(Binding::Absent) => {}
            Some(Binding::Present { ino, kind }) => {
                listed.insert(name);
                merged.push(name, *ino, *kind);
            }
        }
    }
    for (name, binding) in in_flight {
        if let (Binding::Present { ino, kind }, false) = (binding, listed.contains(&**name)) {
            merged.push(name, *ino, *kind);
        }
    }
    Arc::new(merged)
}
