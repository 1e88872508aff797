//! What a client knows at one moment, behind a few questions.
//!
//! A [`Core`] is a view of belief and of what is in flight under the policy in force, borrowed for one decision. Whatever
//! is decided is decided at the one `now` that is passed in.

use super::{
    attributes::{Attributes, Ino},
    belief::Belief,
    in_flight::InFlight,
    policy::{AppendAt, Policy},
};
/// Belief and what is in flight, for one decision.
pub struct Core<'a> {
    pub(super) belief: &'a mut Belief,
    pub(super) in_flight: &'a InFlight,
    pub(super) policy: &'a Policy,
}

impl<'a> Core<'a> {
    /// What the client knows, under `policy`.
    pub fn new(belief: &'a mut Belief, in_flight: &'a InFlight, policy: &'a Policy) -> Core<'a> {
        Core { belief, in_flight, policy }
    }

    /// Where a write to the end of a file goes of which `base` is believed.
    pub fn end_of(&self, ino: Ino, base: &Attributes) -> u64 {
        let known = match self.policy.append_at {
            AppendAt::End => None,
            AppendAt::KnownEnd => self.belief.last_size(ino),
        };
        let base = Attributes { size: known.unwrap_or(base.size), ..*base };
        self.in_flight.overlay().view(ino, &base, true).size
    }

    /// The attributes to show for those that lie under what is in flight.
    pub fn view(&self, ino: Ino, base: &Attributes) -> Attributes {
        self.in_flight.overlay().view(ino, base, self.policy.read_your_writes)
    }
}
