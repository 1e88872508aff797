//! What this client sees: the overlay of what is in flight, laid over belief or over what is fetched now.

use std::{
    cell::Cell,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use super::{Client, Lease, Looked, State};
use crate::{
    backing::{NodeId, Stat, sys},
    consistency::{
        Attributes, Ino, Kind, Listing, Origin, Place, Provenance,
        inquiry::{BaseOf, Bound, EntriesOf, Inode, Inquiry, NameOf, Question, Step},
        policy::{HideAs, Policy, Unlinked},
    },
    dice::Purpose,
    error::Error,
    time::{Time, Timestamp},
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

impl From<Error> for Missing {
    fn from(error: Error) -> Missing {
        Missing { error, lease: Duration::ZERO }
    }
}

impl AsRef<Error> for Missing {
    fn as_ref(&self) -> &Error {
        &self.error
    }
}

/// How often a name is looked up anew because its inode is not known any more by the time it was to be held.
const MOST_TRIES: usize = 100;

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
        is_settled: stat.is_settled,
    }
}

impl Client {
    /// Looks up one entry of a listing.
    ///
    /// # Errors
    /// As for a lookup; ENOENT for an entry that has gone since it was listed.
    pub fn lookup_listed(&self, directory: Ino, name: &[u8]) -> Result<Entry, Error> {
        self.entry(&Place::new(directory, name), Hold::No, &mut Provenance::default())
    }

    /// What is at a name in this client's view; the caller owes a `forget` for it.
    pub(super) fn entry(
        &self,
        place: &Place,
        hold: Hold,
        provenance: &mut Provenance,
    ) -> Result<Entry, Error> {
        self.check_name(&place.name)?;
        let looked = self.find(place, hold, provenance)?.ok_or(Error::NotFound)?;
        let attributes = self.attributes_of_looked(&looked, provenance).inspect_err(|error| {
            provenance.name_until = None;
            // The inode may be known by another name. What is believed of this one must not meet the kernel's second try.
            if *error == Error::Stale {
                self.lock().belief.distrust_name(place);
            }
        })?;
        Ok(self.entry_of(looked, attributes, provenance))
    }

    /// The answer about a name whose inode and attributes have been found.
    pub(super) fn entry_of(
        &self,
        looked: Looked<'_>,
        mut attributes: Attributes,
        provenance: &Provenance,
    ) -> Entry {
        let lease = self.lease(provenance, Some(&attributes));
        if !lease.name.is_zero() && attributes.kind == Kind::Directory {
            // A program may go there without anybody asking again, and stay when it is removed.
            let _ = self.table.descriptor(looked.ino());
        }
        self.tell(looked.ino(), &mut attributes);
        Entry { ino: looked.keep(), attributes, lease }
    }

    pub(super) fn attributes_of_looked(
        &self,
        looked: &Looked<'_>,
        provenance: &mut Provenance,
    ) -> Result<Attributes, Error> {
        looked.view.map_or_else(|| self.view(looked.ino(), provenance), Ok)
    }

    /// What stands at a name in this client's view.
    pub(super) fn find(
        &self,
        place: &Place,
        hold: Hold,
        provenance: &mut Provenance,
    ) -> Result<Option<Looked<'_>>, Error> {
        for _ in 0..MOST_TRIES {
            self.ask_directory_of(place, provenance)?;
            // What a fetch finds is held for as long as it may be the answer.
            let fetched = Cell::new(None);
            let fetch = |_: &NameOf| {
                let (looked, attributes) = self.fetch_name(place, hold)?.unzip();
                let known = looked.as_ref().map(Looked::known);
                fetched.set(looked);
                Ok(known.zip(attributes))
            };
            let hold_on = |state: &mut State, bound, _| self.hold_bound(state, place, bound, &fetched);
            let (found, part) = self.inquire(NameOf(place.clone()), fetch, hold_on)?;
            provenance.add_all(&part);
            (provenance.name_until, provenance.attributes_until) = (part.name_until, part.attributes_until);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::Stale)
    }

    /// Counts one lookup of the inode that was found at a name. None where it is not known by its number any more: it is
    /// then not believed any longer that it has this name.
    fn hold_bound<'a>(
        &'a self,
        state: &mut State,
        place: &Place,
        bound: Bound,
        fetched: &Cell<Option<Looked<'a>>>,
    ) -> Option<Option<Looked<'a>>> {
        if !state.sought.is_empty() {
            self.note_found(state, place, bound);
        }
        let held = match bound {
            Bound::Absent => return Some(None),
            Bound::InFlight(ino) => self.look_up(ino).ok(),
            Bound::Found(known, view) => match fetched.take() {
                Some(looked) if looked.known() == known => Some(looked.with_view(view)),
                other => {
                    fetched.set(other);
                    let id = NodeId { ino: known.ino, serial: known.serial };
                    self.note_place(state, known.ino, place);
                    self.table.look_up(id).then(|| Looked { client: self, id, view })
                }
            },
        };
        if held.is_none() {
            state.belief.distrust_name(place);
        }
        held.map(Some)
    }

    /// Asks a question and calls `decide` with the answer.
    ///
    /// `decide` runs under the lock under which the answer was found. So nothing can land in between and leave the overlay
    /// while a base is still from before: what both make together is a state that there was.
    pub(super) fn inquire<Q: Question, T>(
        &self,
        question: Q,
        mut fetch: impl FnMut(&Q) -> Result<Q::Fetched, Error>,
        decide: impl FnOnce(&mut State, Q::Answer, Time) -> T,
    ) -> Result<(T, Provenance), Error> {
        let mut inquiry = Inquiry::new(question);
        let mut fetched = None;
        loop {
            let mut state = self.lock();
            let now = self.now();
            let in_force = self.in_force();
            let explored = fetched.as_ref().filter(|_| in_force.knobs.explore);
            let explored = explored.map(|_| self.explored(&in_force.policy, inquiry.question().about()));
            let mut core = state.core(explored.as_ref().unwrap_or(&in_force.policy));
            let step = match fetched.take() {
                Some(fetched) => core.tell(&mut inquiry, fetched, now),
                None => core.ask(&mut inquiry, now),
            };
            match step {
                Step::Answer(answer) => {
                    return Ok((decide(&mut state, answer, now), *inquiry.provenance()));
                }
                Step::AwaitLanding => self.progress.wait_for_a_step(state),
                Step::Fetch => {
                    drop(state);
                    fetched = Some(fetch(inquiry.question())?);
                }
            }
        }
    }

    /// A policy whose lifetimes are drawn for one thing that has been fetched.
    fn explored(&self, policy: &Policy, (ino, name): (Ino, Option<&[u8]>)) -> Policy {
        let path = match name {
            Some(name) => self.path_of(&Place::new(ino, name)),
            None => self.table.path(ino),
        };
        policy.with_share_of_lifetimes(self.dice.draw(Purpose::Lifetime, "fetch", &path).value)
    }

    /// A node that is known by its number, with one more lookup counted.
    pub(super) fn look_up(&self, ino: Ino) -> Result<Looked<'_>, Error> {
        let id = self.table.id_of(ino).filter(|id| self.table.look_up(*id)).ok_or(Error::Stale)?;
        Ok(Looked { client: self, id, view: None })
    }

    pub(super) fn fetch_name(
        &self,
        place: &Place,
        hold: Hold,
    ) -> Result<Option<(Looked<'_>, Attributes)>, Error> {
        let directory = self.requested(place.directory)?;
        let look = || self.look_at(directory.as_fd(), place, hold);
        match self.with_permission(place.directory, || self.table.retrying(look)) {
            Ok((id, stat)) => Ok(Some((Looked { client: self, id, view: None }, attributes_of(&stat)))),
            Err(Error::NotFound) => Ok(None),
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

    /// The attributes of an inode in this client's view, for the kernel.
    pub(super) fn show(&self, ino: Ino, provenance: &mut Provenance) -> Result<Shown, Error> {
        let mut attributes = self.view(ino, provenance)?;
        let lease = self.lease(provenance, Some(&attributes)).attributes;
        self.tell(ino, &mut attributes);
        Ok(Shown { attributes, lease })
    }

    /// Makes attributes what the storage tells of them.
    #[inline]
    fn tell(&self, ino: Ino, attributes: &mut Attributes) {
        if !self.shows_stored() {
            self.tell_otherwise(ino, attributes);
        }
    }

    fn tell_otherwise(&self, ino: Ino, attributes: &mut Attributes) {
        let in_force = self.in_force();
        let Policy { hide_open_as, link_counts, .. } = in_force.policy;
        let state = self.lock();
        match link_counts.shown(attributes.kind) {
            // The kernel counts for itself what it has removed, and libfuse hides from it what becomes of that.
            _ if hide_open_as == HideAs::Fuse && state.hidden.contains_key(&ino) => attributes.links = 0,
            Some(shown) if !state.has_removed(ino) => attributes.links = shown,
            _ => {}
        }
        drop(state);
        if let Some(permissions) = in_force.knobs.modes.shown(attributes.kind) {
            attributes.permissions = permissions;
        }
    }

    /// The attributes of an inode in this client's view.
    pub(super) fn view(&self, ino: Ino, provenance: &mut Provenance) -> Result<Attributes, Error> {
        let (view, is_touched) = self.on_base(ino, provenance, |state, base, _| {
            let is_touched = state.in_flight.overlay().touches(ino);
            (state.core(&self.in_force().policy).view(ino, base), is_touched)
        })?;
        if is_touched {
            provenance.add(Origin::InFlight);
            provenance.attributes_until = None;
        }
        Ok(view)
    }

    /// Calls `decide` with what lies under the overlay of an inode.
    pub(super) fn on_base<T>(
        &self,
        ino: Ino,
        provenance: &mut Provenance,
        decide: impl FnOnce(&mut State, &Attributes, Time) -> T,
    ) -> Result<T, Error> {
        let fetch = |_: &BaseOf| self.fetch_inode(ino);
        let on_answer = |state: &mut State, base: Option<Attributes>, now| {
            base.map(|base| decide(state, &base, now)).ok_or(Error::Stale)
        };
        let (decided, part) = self.inquire(BaseOf(ino), fetch, on_answer)?;
        provenance.add_all(&part);
        provenance.attributes_until = part.attributes_until;
        decided
    }

    pub(super) fn fetch_inode(&self, ino: Ino) -> Result<Inode, Error> {
        match self.requested(ino).and_then(|descriptor| sys::stat(descriptor.as_fd())) {
            Ok(stat) if stat.links == 0 && self.is_out_of_reach(ino) => {
                Ok(Inode::Gone { ghost: self.ghost(ino) })
            }
            Ok(stat) => Ok(Inode::There(attributes_of(&stat))),
            Err(Error::Stale) => Ok(Inode::Gone { ghost: self.ghost(ino) }),
            Err(error) => Err(error),
        }
    }

    /// Whether the storage lets nobody get at an inode any more that has no name.
    fn is_out_of_reach(&self, ino: Ino) -> bool {
        match self.in_force().policy.unlinked {
            Unlinked::Stays => false,
            Unlinked::Held => !self.files.is_open(ino),
            // What this client has removed itself stays for who has it open here.
            Unlinked::Stale => !(self.files.is_open(ino) && self.lock().has_removed(ino)),
        }
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
    pub(super) fn listing(&self, directory: Ino, provenance: &mut Provenance) -> Result<Arc<Listing>, Error> {
        let fetch = |_: &EntriesOf| match self.fetch_listing(directory) {
            Err(Error::Stale) => Ok(None),
            listing => listing.map(Some),
        };
        let now = self.now();
        let must_ask = self.lock().belief.listing_hangs_on_directory(directory, now);
        if must_ask {
            self.on_base(directory, provenance, |_, _, _| ())?;
        }
        let (listing, part) = self.inquire(EntriesOf::new(directory), fetch, |_, listing, _| listing)?;
        provenance.add_all(&part);
        let listing = listing.ok_or(Error::Stale)?;
        if part.origin() == Origin::Backing && self.in_force().policy.listing_brings_attributes {
            self.ask_about_listed(directory, &listing, provenance);
        }
        Ok(listing)
    }

    fn fetch_listing(&self, directory: Ino) -> Result<Listing, Error> {
        let descriptor = self.requested(directory)?;
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
