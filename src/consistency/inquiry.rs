//! One question of a program, and the steps to its answer.
//!
//! Fetching takes time and must not hold a lock, and meanwhile time passes, changes are made and changes land. So a
//! question is answered in steps, and [`Core`] decides each of them at one moment, `now`:
//!
//! 1. [`Core::ask`] answers from what is in flight or believed, or says that something has to be fetched.
//! 2. The caller fetches it from the backing directory, holding no lock.
//! 3. [`Core::tell`] takes what was fetched, believes it, lays what is in flight over it, and answers. A fetch that a change
//!    of this client or another fetch has overtaken is thrown away, and the question is asked again.
//!
//! The rules, in the order in which they are tried:
//!
//! | the question is about | the answer comes from |
//! |---|---|
//! | a name made or removed here, or an inode made here, that has not landed | what is in flight, alone |
//! | something believed whose time is not over | belief, with what is in flight laid over it |
//! | an inode whose link count is being changed in the backing directory | nothing yet: whether the change is in what would be fetched could not be told, and link counts are sums |
//! | anything else | a fetch, dated by its start, with what is in flight laid over it |
//! | an inode that the store has lost while a new name of it is in flight | a ghost: programs have been told that it has the name, so it stays until that lands, as a conflict |
//!
//! An inquiry that keeps being overtaken is answered all the same after many rounds; that answer is not believed.

mod entries;

pub use entries::EntriesOf;

use super::{
    attributes::{Attributes, Ino, Kind},
    belief::Known,
    cache::Ticket,
    core::Core,
    mutation::Place,
    overlay::Binding,
    policy::RequestsBy,
    provenance::{Origin, Provenance},
};
use crate::time::Time;

/// How often a question is asked anew. Each round needs a change or a fetch of the same thing by the same client at just
/// that moment, so this bounds a livelock and nothing else.
const MOST_ROUNDS: usize = 1000;

/// What comes next on the way to an answer.
#[derive(Debug)]
pub enum Step<A> {
    /// Here it is.
    Answer(A),
    /// The caller is to fetch what the question is about, and to [`Core::tell`].
    Fetch,
    /// The caller is to ask again when something more has landed.
    AwaitLanding,
}

/// A fetch under way: when it started, and what tells whether it was overtaken.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    ticket: Ticket,
    at: Time,
    changes: u64,
    /// What it brings has to do, even if it was overtaken.
    is_last: bool,
}

/// Something that a program may ask about.
pub trait Question {
    /// What the program is answered.
    type Answer;
    /// What the backing directory says about it.
    type Fetched;

    /// What it is about: an inode, and the name in it if it is about one.
    fn about(&self) -> (Ino, Option<&[u8]>);

    /// The answer from what the client has already.
    fn known(&self, core: &Core<'_>, now: Time, provenance: &mut Provenance) -> Option<Self::Answer>;

    /// Whether a fetch now could not be told from one after a landing that is under way.
    fn is_ambiguous(&self, _core: &Core<'_>) -> bool {
        false
    }

    /// Starts a fetch, and takes along what the answer must be laid under.
    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket;

    /// The answer from what was fetched, or what was fetched if that was overtaken and is not good enough.
    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Self::Fetched,
        now: Time,
        provenance: &mut Provenance,
    ) -> Option<Self::Answer>;
}

/// A question and how far its answer has come.
#[derive(Debug)]
pub struct Inquiry<Q> {
    question: Q,
    started: Option<Started>,
    rounds: usize,
    provenance: Provenance,
}

impl<Q: Question> Inquiry<Q> {
    /// A question that has not been asked yet.
    pub fn new(question: Q) -> Inquiry<Q> {
        Inquiry { question, started: None, rounds: 0, provenance: Provenance::default() }
    }

    /// What is asked.
    pub fn question(&self) -> &Q {
        &self.question
    }

    /// Where the answer came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }
}

impl Core<'_> {
    /// Takes the first step, or the next one after a wait.
    pub fn ask<Q: Question>(&mut self, inquiry: &mut Inquiry<Q>, now: Time) -> Step<Q::Answer> {
        let Inquiry { question, started, rounds, provenance } = inquiry;
        *provenance = Provenance::default();
        if let Some(answer) = question.known(self, now, provenance) {
            return Step::Answer(answer);
        }
        if *rounds < MOST_ROUNDS && question.is_ambiguous(self) {
            *rounds += 1;
            return Step::AwaitLanding;
        }
        let ticket = question.start(self, now);
        *started = Some(Started { ticket, at: now, changes: self.belief.changes(), is_last: false });
        Step::Fetch
    }

    /// Goes on with what was fetched since [`Core::ask`] said so. If it was overtaken, asks again.
    pub fn tell<Q: Question>(
        &mut self,
        inquiry: &mut Inquiry<Q>,
        fetched: Q::Fetched,
        now: Time,
    ) -> Step<Q::Answer> {
        let Some(started) = inquiry.started.take() else { return self.ask(inquiry, now) };
        inquiry.rounds += 1;
        inquiry.provenance.add(Origin::Backing);
        let Inquiry { question, provenance, rounds, .. } = inquiry;
        let started = Started { is_last: *rounds > MOST_ROUNDS, ..started };
        match question.conclude(self, &started, fetched, now, provenance) {
            Some(answer) => Step::Answer(answer),
            None => self.ask(inquiry, now),
        }
    }
}

/// What stands at a name?
#[derive(Debug)]
pub struct NameOf(pub Place);

/// What stands at a name in a client's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing.
    Absent,
    /// An inode that a change in flight has put there.
    InFlight(Ino),
    /// An inode that was found there, with its attributes as far as they came with it and may be shown.
    Found(Known, Option<Attributes>),
}

impl Question for NameOf {
    type Answer = Bound;
    type Fetched = Option<(Known, Attributes)>;

    fn about(&self) -> (Ino, Option<&[u8]>) {
        (self.0.directory, Some(&self.0.name))
    }

    fn known(&self, core: &Core<'_>, now: Time, provenance: &mut Provenance) -> Option<Bound> {
        let NameOf(place) = self;
        let overlay = core.in_flight.overlay();
        if let Some(binding) = overlay.name(place) {
            provenance.add(Origin::InFlight);
            return Some(match binding {
                Binding::Absent => Bound::Absent,
                Binding::Present { ino, .. } => Bound::InFlight(ino),
            });
        }
        if overlay.unlanded(place.directory).is_some() {
            provenance.add(Origin::InFlight);
            return Some(Bound::Absent);
        }
        let believed = core.belief.name(place, now)?;
        provenance.add(Origin::Belief(believed.fetched));
        provenance.name_until = Some(believed.until);
        Some(believed.value.map_or(Bound::Absent, |known| Bound::Found(known, None)))
    }

    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket {
        core.belief.fetch_name(&self.0, now)
    }

    /// Attributes that come with a name are as good as fetched for themselves if nothing at all was changed here
    /// meanwhile.
    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Self::Fetched,
        _now: Time,
        provenance: &mut Provenance,
    ) -> Option<Bound> {
        let NameOf(place) = self;
        let is_undisturbed = core.belief.changes() == started.changes;
        let bound = fetched.map_or(Bound::Absent, |(known, attributes)| {
            let may_show = is_undisturbed && !core.in_flight.is_relinking(known.ino);
            let shown = may_show.then(|| core.take_attributes(known.ino, attributes, started.at, provenance));
            Bound::Found(known, shown.flatten())
        });
        let directory = fetched.filter(|(_, attributes)| attributes.kind == Kind::Directory);
        if let Some((known, _)) = directory.filter(|_| core.policy.requests_by == RequestsBy::Inode) {
            core.belief.found_directory(known.ino, place);
        }
        let known = fetched.map(|(known, _)| known);
        let is_good = core.belief.believe_name(started.ticket, place.clone(), known, core.policy);
        provenance.name_until =
            core.belief.name(place, started.at).filter(|_| is_good).map(|name| name.until);
        (is_good || started.is_last).then_some(bound)
    }
}

/// What lies under the overlay of an inode: its attributes as the backing directory has them, or as it was made here?
#[derive(Debug)]
pub struct BaseOf(pub Ino);

/// What a fetch of an inode's attributes brings.
#[derive(Debug)]
pub enum Inode {
    /// They are these.
    There(Attributes),
    /// The store has lost it. While a new name of it is in flight, this stands in for it.
    Gone {
        /// Something that has no link and is empty, and that programs can remove.
        ghost: Attributes,
    },
}

impl Question for BaseOf {
    /// Its attributes; none if the inode is gone.
    type Answer = Option<Attributes>;
    type Fetched = Inode;

    fn about(&self) -> (Ino, Option<&[u8]>) {
        (self.0, None)
    }

    fn known(&self, core: &Core<'_>, now: Time, provenance: &mut Provenance) -> Option<Self::Answer> {
        if let Some(made) = core.in_flight.overlay().unlanded(self.0) {
            provenance.add(Origin::InFlight);
            return Some(Some(*made));
        }
        let believed = core.belief.attributes(self.0, now)?;
        provenance.add(Origin::Belief(believed.fetched));
        provenance.attributes_until = Some(believed.until);
        Some(Some(believed.value))
    }

    fn is_ambiguous(&self, core: &Core<'_>) -> bool {
        core.in_flight.is_relinking(self.0)
    }

    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket {
        core.belief.fetch_attributes(self.0, now)
    }

    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Inode,
        _now: Time,
        provenance: &mut Provenance,
    ) -> Option<Self::Answer> {
        let attributes = match fetched {
            Inode::There(attributes) => attributes,
            Inode::Gone { ghost } => {
                let is_moving = core.in_flight.is_moving(self.0);
                if !is_moving {
                    core.belief.distrust_inode(self.0);
                }
                return Some(is_moving.then_some(ghost));
            }
        };
        match core.belief.believe_attributes(started.ticket, self.0, attributes, core.policy) {
            Some(taken) => {
                provenance.attributes_until = taken.until;
                Some(Some(taken.shown))
            }
            None => started.is_last.then(|| Some(core.belief.disguised(self.0, attributes))),
        }
    }
}

/// What lies under the overlay of an inode, asked anew whatever is believed of it?
#[derive(Debug)]
pub struct Anew(pub Ino);

impl Question for Anew {
    type Answer = Option<Attributes>;
    type Fetched = Inode;

    fn about(&self) -> (Ino, Option<&[u8]>) {
        (self.0, None)
    }

    fn known(&self, core: &Core<'_>, _now: Time, provenance: &mut Provenance) -> Option<Self::Answer> {
        let made = core.in_flight.overlay().unlanded(self.0)?;
        provenance.add(Origin::InFlight);
        Some(Some(*made))
    }

    fn is_ambiguous(&self, core: &Core<'_>) -> bool {
        BaseOf(self.0).is_ambiguous(core)
    }

    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket {
        BaseOf(self.0).start(core, now)
    }

    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Inode,
        now: Time,
        provenance: &mut Provenance,
    ) -> Option<Self::Answer> {
        BaseOf(self.0).conclude(core, started, fetched, now, provenance)
    }
}

/// May a name be made in a directory? Not in one that this client knows to be gone.
#[derive(Debug)]
pub struct Entering {
    /// The directory.
    pub directory: Ino,
    /// Where programs know it.
    pub place: Place,
}

impl Entering {
    /// Whether the directory has been found missing at its place since its attributes were fetched: then these do not tell
    /// whether it has moved or is gone.
    fn is_in_doubt(&self, core: &Core<'_>, now: Time) -> bool {
        let attributes = core.belief.attributes(self.directory, now);
        let name = core.belief.name(&self.place, now).filter(|name| name.value.is_none());
        attributes.zip(name).is_some_and(|(attributes, name)| attributes.number < name.number)
    }
}

impl Question for Entering {
    /// Whether the directory is there.
    type Answer = bool;
    type Fetched = Inode;

    fn about(&self) -> (Ino, Option<&[u8]>) {
        (self.directory, None)
    }

    fn known(&self, core: &Core<'_>, now: Time, provenance: &mut Provenance) -> Option<bool> {
        if self.is_in_doubt(core, now) {
            return None;
        }
        BaseOf(self.directory).known(core, now, provenance).map(is_linked)
    }

    fn is_ambiguous(&self, core: &Core<'_>) -> bool {
        BaseOf(self.directory).is_ambiguous(core)
    }

    fn start(&mut self, core: &Core<'_>, now: Time) -> Ticket {
        BaseOf(self.directory).start(core, now)
    }

    fn conclude(
        &self,
        core: &mut Core<'_>,
        started: &Started,
        fetched: Inode,
        now: Time,
        provenance: &mut Provenance,
    ) -> Option<bool> {
        BaseOf(self.directory).conclude(core, started, fetched, now, provenance).map(is_linked)
    }
}

/// Whether an inode has a link. The base counts and not the view: where a directory's link count is always 1, removing an
/// entry of it makes the view show less.
fn is_linked(base: Option<Attributes>) -> bool {
    base.is_some_and(|base| base.links > 0)
}

impl Core<'_> {
    /// The attributes to show for those that lie under what is in flight.
    pub fn show(&self, ino: Ino, base: &Attributes, provenance: &mut Provenance) -> Attributes {
        if self.in_flight.overlay().touches(ino) {
            provenance.add(Origin::InFlight);
            provenance.attributes_until = None;
        }
        self.view(ino, base)
    }

    /// Believes attributes that were fetched at `at` along with a name, and returns what to show for them; none if that
    /// was overtaken.
    fn take_attributes(
        &mut self,
        ino: Ino,
        attributes: Attributes,
        at: Time,
        provenance: &mut Provenance,
    ) -> Option<Attributes> {
        let ticket = self.belief.fetch_attributes(ino, at);
        let taken = self.belief.believe_attributes(ticket, ino, attributes, self.policy)?;
        provenance.attributes_until = taken.until;
        Some(self.show(ino, &taken.shown, provenance))
    }

    /// A new inode that was just made in the store, by a call that began at `started`, is what its maker has seen of it.
    pub fn believe_made(
        &mut self,
        place: &Place,
        known: Known,
        attributes: Attributes,
        started: Time,
        provenance: &mut Provenance,
    ) {
        let ticket = self.belief.fetch_name(place, started);
        self.belief.believe_name(ticket, place.clone(), Some(known), self.policy);
        let ticket = self.belief.fetch_attributes(known.ino, started);
        let taken = self.belief.believe_attributes(ticket, known.ino, attributes, self.policy);
        provenance.name_until = self.belief.name(place, started).map(|name| name.until);
        provenance.attributes_until = taken.and_then(|taken| taken.until);
    }
}
