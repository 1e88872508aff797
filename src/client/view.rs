//! What this client sees: the overlay of what is in flight, laid over belief or over what is fetched now.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use super::{Client, Lease, Looked, MOST_ROUNDS, Source, State, Trace};
use crate::{
    backing::{NodeId, Stat, sys},
    consistency::{Attributes, Binding, Ino, Kind, Known, Listing, Name, Place},
    error::Error,
    hashing::HashSet,
    time::Timestamp,
};

/// An inode and its attributes: what a lookup answers. The caller owes one `forget`.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub ino: Ino,
    pub attributes: Attributes,
    pub lease: Lease,
}

/// The attributes of an inode, and how long the kernel may keep them.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub attributes: Attributes,
    pub lease: Duration,
}

/// Why a lookup finds nothing, and how long the kernel may keep that.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub error: Error,
    pub lease: Duration,
}

/// Whether a lookup gets hold of the real inode, or leaves that to who needs it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Yes,
    No,
}

pub(super) fn attributes_of(stat: &Stat) -> Attributes {
    let time = |(seconds, nanos)| Timestamp { seconds, nanos };
    Attributes {
        kind: Kind::of_mode(stat.mode),
        permissions: stat.mode & 0o7777,
        links: stat.links,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        size: stat.size,
        blocks: stat.blocks,
        block_size: stat.block_size,
        atime: time(stat.atime),
        mtime: time(stat.mtime),
        ctime: time(stat.ctime),
    }
}

impl Client {
    /// Looks a name up for the kernel, which owes a `forget` for it.
    ///
    /// # Errors
    /// ENOENT if the name is absent in this client's view; ENAMETOOLONG; whatever the backing directory answers.
    pub fn lookup(&self, directory: Ino, name: &[u8]) -> Result<Entry, Missing> {
        let place = Place::new(directory, name);
        let mut lease = Duration::ZERO;
        let found = self.operate(
            "lookup",
            || self.path_of(&place),
            |trace| {
                let found = self.entry(&place, Hold::Yes, trace);
                if found.is_err() {
                    lease = self.lease(trace, None).name;
                }
                found
            },
        );
        found.map_err(|error| Missing { error, lease })
    }

    /// The same for one entry of a listing.
    ///
    /// # Errors
    /// As for a lookup; ENOENT for an entry that has gone since it was listed.
    pub fn lookup_listed(&self, directory: Ino, name: &[u8]) -> Result<Entry, Error> {
        self.entry(&Place::new(directory, name), Hold::No, &mut Trace::new())
    }

    fn entry(&self, place: &Place, hold: Hold, trace: &mut Trace) -> Result<Entry, Error> {
        self.check_name(&place.name)?;
        let looked = self.find(place, hold, trace)?.ok_or(Error::NotFound)?;
        let attributes = self.attributes_of_looked(&looked, trace).inspect_err(|error| {
            trace.name_since = None;
            // The inode may be known by another name. What is believed of this one must not meet the kernel's second try.
            if error.is(Error::Stale) {
                self.lock().belief.distrust_name(place);
            }
        })?;
        Ok(self.entry_of(looked, attributes, trace))
    }

    /// The answer about a name whose inode and attributes have been found.
    pub(super) fn entry_of(&self, looked: Looked<'_>, attributes: Attributes, trace: &Trace) -> Entry {
        let lease = self.lease(trace, Some(&attributes));
        if !lease.name.is_zero() && attributes.kind == Kind::Directory {
            // A program may go there without anybody asking again, and stay when it is removed.
            let _ = self.table.descriptor(looked.ino());
        }
        Entry { ino: looked.keep(), attributes, lease }
    }

    pub(super) fn attributes_of_looked(
        &self,
        looked: &Looked<'_>,
        trace: &mut Trace,
    ) -> Result<Attributes, Error> {
        looked.view.map_or_else(|| self.view(looked.ino(), trace), Ok)
    }

    /// What stands at a name in this client's view.
    pub(super) fn find(
        &self,
        place: &Place,
        hold: Hold,
        trace: &mut Trace,
    ) -> Result<Option<Looked<'_>>, Error> {
        for round in 0.. {
            (trace.name_since, trace.attributes_since) = (None, None);
            let (ticket, changes, started) = {
                let state = self.lock();
                match state.in_flight.overlay().name(place) {
                    Some(Binding::Absent) => {
                        trace.source = Source::InFlight;
                        return Ok(None);
                    }
                    Some(Binding::Present { ino, .. }) => {
                        if let Some(looked) = self.look_up(ino) {
                            trace.source = Source::InFlight;
                            return Ok(Some(looked));
                        }
                    }
                    None => {}
                }
                if state.in_flight.overlay().unlanded(place.directory).is_some() {
                    trace.source = Source::InFlight;
                    return Ok(None);
                }
                let now = self.now();
                if let Some(believed) = state.belief.name(place, now) {
                    let Some(known) = believed.value else {
                        trace.believes_name(believed.fetched);
                        return Ok(None);
                    };
                    let id = NodeId { ino: known.ino, serial: known.serial };
                    if self.table.look_up(id) {
                        trace.believes_name(believed.fetched);
                        return Ok(Some(Looked { client: self, id, view: None }));
                    }
                }
                (state.belief.fetch_name(place, now), state.belief.changes(), now)
            };
            trace.source = Source::Backing;
            let (mut found, fetched) = self.fetch_name(place, hold)?.unzip();
            let known = found.as_ref().map(|looked| Known { ino: looked.id.ino, serial: looked.id.serial });
            let mut state = self.lock();
            if let (Some(looked), Some(fetched)) = (&mut found, fetched)
                && state.belief.changes() == changes
                && !state.in_flight.is_relinking(looked.ino())
            {
                let ticket = state.belief.fetch_attributes(looked.ino(), started);
                let base = state.belief.believe_attributes(ticket, looked.ino(), fetched);
                looked.view = base.map(|base| self.lay_over(&state, looked.ino(), &base));
                let is_shown_as_believed = looked.view.is_some()
                    && !state.belief.is_lent(looked.ino())
                    && !state.in_flight.overlay().touches(looked.ino());
                trace.attributes_since = is_shown_as_believed.then_some(started);
            }
            let believed = state.belief.believe_name(ticket, place.clone(), known);
            trace.name_since = believed.then_some(started);
            drop(state);
            if believed || round >= MOST_ROUNDS {
                return Ok(found);
            }
        }
        unreachable!("the rounds are bounded")
    }

    /// A node that is known by its number, with one more lookup counted.
    pub(super) fn look_up(&self, ino: Ino) -> Option<Looked<'_>> {
        let id = self.table.id_of(ino).filter(|id| self.table.look_up(*id))?;
        Some(Looked { client: self, id, view: None })
    }

    fn fetch_name(&self, place: &Place, hold: Hold) -> Result<Option<(Looked<'_>, Attributes)>, Error> {
        let directory = self.descriptor(place.directory)?;
        let look = || self.look_at(directory.as_fd(), place, hold);
        match self.with_permission(place.directory, || self.table.retrying(look)) {
            Ok((id, stat)) => Ok(Some((Looked { client: self, id, view: None }, attributes_of(&stat)))),
            Err(error) if error.is(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A name that leads where it led before, as those of directories mostly do, is asked for its attributes only.
    fn look_at(&self, at: BorrowedFd<'_>, place: &Place, hold: Hold) -> Result<(NodeId, Stat), Error> {
        let Place { directory, name } = place;
        if hold == Hold::No {
            let stat = sys::stat_at(at, name)?;
            return Ok((self.table.intern(&stat, None, *directory, name), stat));
        }
        if self.table.is_likely_held(*directory, name) {
            let stat = sys::stat_at(at, name)?;
            if let Some(id) = self.table.intern_held(&stat, *directory, name) {
                return Ok((id, stat));
            }
        }
        let descriptor = sys::open_path(at, name)?;
        let stat = sys::stat(descriptor.as_fd())?;
        Ok((self.table.intern(&stat, Some(descriptor), *directory, name), stat))
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// ESTALE if it is gone; whatever the backing directory answers.
    pub fn getattr(&self, ino: Ino) -> Result<Shown, Error> {
        self.operate("getattr", || self.table.path(ino), |trace| self.show(ino, trace))
    }

    /// The attributes of an inode in this client's view, for the kernel.
    pub(super) fn show(&self, ino: Ino, trace: &mut Trace) -> Result<Shown, Error> {
        let attributes = self.view(ino, trace)?;
        Ok(Shown { attributes, lease: self.lease(trace, Some(&attributes)).attributes })
    }

    /// The attributes of an inode in this client's view.
    pub(super) fn view(&self, ino: Ino, trace: &mut Trace) -> Result<Attributes, Error> {
        let (view, touched) = self.on_base(ino, trace, |state, base| {
            (self.lay_over(state, ino, base), state.in_flight.overlay().touches(ino))
        })?;
        if touched {
            trace.source = Source::InFlight;
            trace.attributes_since = None;
        }
        Ok(view)
    }

    fn lay_over(&self, state: &State, ino: Ino, base: &Attributes) -> Attributes {
        state.in_flight.overlay().view(ino, base, self.in_force().knobs.read_your_writes)
    }

    /// Calls `decide` with what lies under the overlay of an inode: the attributes believed, or fetched now.
    ///
    /// `decide` runs under the lock under which the base was found good. So nothing can land in between and leave the
    /// overlay while the base is still from before: what both make together is a state that there was.
    pub(super) fn on_base<T>(
        &self,
        ino: Ino,
        trace: &mut Trace,
        decide: impl FnOnce(&mut State, &Attributes) -> T,
    ) -> Result<T, Error> {
        for round in 0.. {
            trace.attributes_since = None;
            let (ticket, started) = {
                let mut state = self.lock();
                if let Some(made) = state.in_flight.overlay().unlanded(ino).copied() {
                    trace.source = Source::InFlight;
                    return Ok(decide(&mut state, &made));
                }
                let now = self.now();
                if let Some(believed) = state.belief.attributes(ino, now) {
                    trace.believes_attributes(believed.fetched);
                    return Ok(decide(&mut state, &believed.value));
                }
                if state.in_flight.is_relinking(ino) && round < MOST_ROUNDS {
                    self.progress.wait_for_a_step(state);
                    continue;
                }
                (state.belief.fetch_attributes(ino, now), now)
            };
            trace.source = Source::Backing;
            let fetched = self.descriptor(ino).and_then(|descriptor| sys::stat(descriptor.as_fd()));
            let mut state = self.lock();
            let fetched = match fetched {
                Err(error) if error.is(Error::Stale) && state.in_flight.is_moving(ino) => {
                    return Ok(decide(&mut state, &self.ghost(ino)));
                }
                fetched => attributes_of(&fetched?),
            };
            match state.belief.believe_attributes(ticket, ino, fetched) {
                Some(shown) => {
                    trace.attributes_since = (!state.belief.is_lent(ino)).then_some(started);
                    return Ok(decide(&mut state, &shown));
                }
                None if round >= MOST_ROUNDS => {
                    let shown = state.belief.disguised(ino, fetched);
                    return Ok(decide(&mut state, &shown));
                }
                None => {}
            }
        }
        unreachable!("the rounds are bounded")
    }

    /// What is shown of an inode that the store has lost while a new name of it is in flight. Programs have been told
    /// that it has the name, so it stays until that lands, which will be a conflict: something that has no link and is
    /// empty, and that they can remove.
    fn ghost(&self, ino: Ino) -> Attributes {
        const OWNER_ONLY: u32 = 0o700;
        let kind = Kind::of_mode(self.table.kind(ino).unwrap_or_default());
        let made = Attributes::new(kind, OWNER_ONLY, self.own_ids, 0, 0, Timestamp::default());
        Attributes { links: 0, ..made }
    }

    /// The entries of a directory in this client's view, without `.` and `..`.
    ///
    /// Listing a large directory takes long enough for names to land meanwhile, behind where the listing has got to.
    /// The overlay is therefore taken first: what lands under way is still in it.
    pub(super) fn listing(&self, directory: Ino, trace: &mut Trace) -> Result<Arc<Listing>, Error> {
        let (overlay, ticket) = {
            let state = self.lock();
            let overlay = names_in_flight(&state, directory);
            if state.in_flight.overlay().unlanded(directory).is_some() {
                trace.source = Source::InFlight;
                return Ok(lay_names_over(Arc::default(), &overlay));
            }
            let now = self.now();
            if let Some(believed) = state.belief.listing(directory, now) {
                trace.source = Source::Belief(believed.fetched);
                return Ok(lay_names_over(believed.value, &overlay));
            }
            (overlay, state.belief.fetch_listing(directory, now))
        };
        trace.source = Source::Backing;
        let base = match self.fetch_listing(directory) {
            Err(error) if error.is(Error::Stale) && self.lock().in_flight.is_moving(directory) => {
                return Ok(lay_names_over(Arc::default(), &overlay));
            }
            base => Arc::new(base?),
        };
        self.lock().belief.believe_listing(ticket, directory, base.clone());
        Ok(lay_names_over(base, &overlay))
    }

    fn fetch_listing(&self, directory: Ino) -> Result<Listing, Error> {
        let descriptor = self.descriptor(directory)?;
        let device = self.table.identity(directory).ok_or(Error::Stale)?.device;
        /// So many entries take memory that is worth asking for.
        const MANY: usize = 4096;
        let list = || {
            let mut listing = Listing::default();
            sys::for_each_entry(descriptor.as_fd(), |entry| {
                let ino = self.table.shown_number(device, entry.ino);
                listing.push(&entry.name, ino, Kind::of_mode(entry.kind));
                // It doubles where it is full.
                if listing.len().is_power_of_two() && listing.len() >= MANY {
                    return sys::expect_memory(4 * listing.cost() as usize);
                }
                Ok(())
            })?;
            Ok(listing)
        };
        self.with_permission(directory, || self.table.retrying(list))
    }
}

fn names_in_flight(state: &State, directory: Ino) -> BTreeMap<Name, Binding> {
    state.in_flight.overlay().names_in(directory).map(|(name, binding)| (name.clone(), binding)).collect()
}

fn lay_names_over(base: Arc<Listing>, overlay: &BTreeMap<Name, Binding>) -> Arc<Listing> {
    if overlay.is_empty() {
        return base;
    }
    let mut merged = Listing::default();
    let mut listed = HashSet::default();
    for (name, ino, kind) in base.iter() {
        match overlay.get(name) {
            None => merged.push(name, ino, kind),
            Some(Binding::Absent) => {}
            Some(Binding::Present { ino, kind }) => {
                listed.insert(name);
                merged.push(name, *ino, *kind);
            }
        }
    }
    for (name, binding) in overlay {
        if let (Binding::Present { ino, kind }, false) = (binding, listed.contains(&**name)) {
            merged.push(name, *ino, *kind);
        }
    }
    Arc::new(merged)
}
