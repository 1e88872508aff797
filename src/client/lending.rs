//! What the kernel may keep of this client's answers, and which files it may be handed whole (`--kernel-cache`): the
//! facts for the decisions in [`lease`].

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use super::{Client, Provenance, State, open_files::OpenFile};
use crate::{
    backing::flags::O_APPEND,
    clock::Clock,
    consistency::{
        Attributes, DelayClass, Ino, Passage,
        lease::{self, Opening},
    },
    error::Refusal,
    knobs::Knobs,
    terms::{Terms, Wish},
};

/// For how long the kernel may keep an answer about a name. Zero: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The name, or its absence.
    pub name: Duration,
    /// The attributes.
    pub attributes: Duration,
}

impl Lease {
    /// For how long it may keep both, where it can be told only one time.
    pub fn both(&self) -> Duration {
        self.name.min(self.attributes)
    }
}

/// Refuses what cannot be had while the kernel answers by itself: whatever has to see every operation.
///
/// # Errors
/// Names the first such wish.
pub fn check_lending(
    knobs: &Knobs,
    clock: &Clock,
    logs_operations: bool,
    terms: Terms,
) -> Result<(), Refusal> {
    let reasons = [
        (knobs.drop_prob > 0.0, Wish::Faults, "faults cannot strike what the kernel answers"),
        (logs_operations, Wish::OperationLog, "what the kernel answers cannot be logged"),
        (clock.is_manual(), Wish::ManualClock, "the kernel runs on real time"),
        (
            !knobs.policy().is_by_time(),
            Wish::Storage,
            "the kernel would go on showing what such a storage asks for",
        ),
        (!knobs.read_your_writes, Wish::OldOwnContent, "the kernel shows a program what it has written"),
    ];
    match reasons.into_iter().find(|(wanted, ..)| *wanted) {
        Some((_, other, reason)) => Err(Refusal::new(format!(
            "{} cannot be used with {}: {reason}; leave one of them out",
            terms.name(Wish::KernelCache),
            terms.name(other)
        ))),
        None => Ok(()),
    }
}

impl Client {
    /// Whether the kernel may keep anything.
    pub fn lends(&self) -> bool {
        self.lends
    }

    /// Whether the kernel is to leave it to us what a change of a file takes away (`FUSE_HANDLE_KILLPRIV_V2`): it saves
    /// two requests for each write to a file that it keeps or serves. It then checks no more whether a caller may take
    /// anything away, so nobody but this client's own user may be there.
    pub fn takes_privileges_away(&self) -> bool {
        self.lends && !self.allow_other
    }

    /// How long the kernel may keep what an operation has just answered: a name, and the attributes behind it.
    pub(super) fn lease(&self, provenance: &Provenance, attributes: Option<&Attributes>) -> Lease {
        if !self.lends {
            return Lease::default();
        }
        let now = self.now();
        let left = |until: Option<_>| until.map_or(Duration::ZERO, |until| lease::remaining(until, now));
        let attributes_until =
            provenance.attributes_until.filter(|_| attributes.is_some_and(lease::may_be_kept));
        Lease { name: left(provenance.name_until), attributes: left(attributes_until) }
    }

    /// How the bytes of a file that has just been opened reach its programs.
    pub fn passage(&self, handle: u64) -> Passage {
        match self.files.get(handle) {
            Ok(file) if self.lends => self.passage_of(&mut self.lock(), &file),
            _ => Passage::Asked,
        }
    }

    /// The kernel keeps what is read through an open file, as [`Passage::Kept`] says.
    pub fn keep(&self, handle: u64) {
        if let Ok(file) = self.files.get(handle) {
            file.keep();
        }
    }

    /// The descriptor behind an open file that the kernel may be handed.
    pub fn real_descriptor(&self, handle: u64) -> Option<Arc<OwnedFd>> {
        self.files.get(handle).ok()?.descriptor.get().cloned()
    }

    /// Lets the kernel have an open file whole, if it still may since [`Client::passage`] said so: from here on its data
    /// goes through and nothing is believed of it, until [`Client::reclaim`].
    pub fn lend(&self, handle: u64) -> bool {
        let Ok(file) = self.files.get(handle) else { return false };
        let mut state = self.lock();
        let may = self.passage_of(&mut state, &file) == Passage::Whole;
        if may {
            state.belief.lend(file.ino);
        }
        may
    }

    /// Nobody has the file open any more through whom the kernel reads and writes it by itself.
    pub fn reclaim(&self, ino: Ino) {
        self.lock().belief.reclaim(ino);
    }

    fn passage_of(&self, state: &mut State, file: &OpenFile) -> Passage {
        let is_clear = file.descriptor.get().is_some() && !state.in_flight.overlay().touches(file.ino);
        let in_force = self.in_force();
        let core = state.core(&in_force.policy);
        let opening = Opening {
            lends: self.lends,
            goes_through: is_clear && core.applies_at_once(DelayClass::Data),
            all_goes_through: core.routes_all_through(),
            believes: self.believes(),
            is_readable: file.is_readable(),
            appends: file.flags & O_APPEND != 0,
            has_several_writers: self.allow_other && file.is_writable(),
        };
        opening.passage()
    }

    /// Refuses to forget what the kernel goes on believing.
    ///
    /// # Errors
    /// The kernel keeps answers of this client.
    pub(super) fn check_nothing_is_kept(&self) -> Result<(), Refusal> {
        if !self.lends {
            return Ok(());
        }
        Err(Refusal::new(format!(
            "it was mounted with {}, and what the kernel has cached cannot be dropped early; mount it without to \
             expire beliefs",
            self.terms.name(Wish::KernelCache)
        )))
    }
}
