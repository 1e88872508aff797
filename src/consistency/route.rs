//! When a change reaches the backing directory.
//!
//! A change goes *through*, which means that it is applied before its call returns and the store decides how it ends; or
//! it goes *late*: the call returns, and the change lands after its delay. It goes through if all of this is true:
//!
//! - nothing delays it: its class has no delay and landing is not held, or the client is leaving and delays nothing new,
//!   or it is data of a file that is lent, which other programs of this client read in the store;
//! - it is one step in the store, which a rename is not where that copies;
//! - nothing in flight is in its way ([`mutation`](super::mutation) says what must land before what).
//!
//! What goes late may find at the end of its call that the reason is gone. It then lands at once.

use super::{
    core::Core,
    mutation::{Change, DelayClass},
    policy::RenameBy,
};
use crate::time::Delay;

/// When a change reaches the backing directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Before its call returns.
    Through,
    /// So long after its call has returned, or when what it needs has landed.
    Late(Delay),
}

impl Core<'_> {
    /// When this change reaches the backing directory.
    pub fn route(&self, change: &Change) -> Route {
        let class = change.delay_class();
        let is_data = matches!(class, DelayClass::Data | DelayClass::Size);
        let is_lent = is_data && self.belief.is_lent(change.subject());
        let is_at_once = is_lent || self.applies_at_once(class);
        let copies = matches!(change, Change::Rename { how, .. } if self.policy.copies(*how));
        if is_at_once && !copies && !self.in_flight.blocks(change) {
            Route::Through
        } else {
            Route::Late(self.delay(class))
        }
    }

    /// Whether nothing delays the changes of this class. Something in flight may still be in the way of one.
    pub fn applies_at_once(&self, class: DelayClass) -> bool {
        self.delay(class).is_zero() && (self.in_flight.delays_nothing() || !self.in_flight.is_held())
    }

    /// Whether every change goes through.
    pub fn routes_all_through(&self) -> bool {
        let is_one_step = self.policy.rename_by != RenameBy::Copy;
        is_one_step && self.policy.delays.are_zero() && self.in_flight.is_empty() && !self.in_flight.is_held()
    }

    /// Whether every question and every change goes to the backing directory.
    pub fn is_transparent(&self) -> bool {
        self.policy.lifetimes.are_zero() && self.policy.is_by_time() && self.routes_all_through()
    }

    fn delay(&self, class: DelayClass) -> Delay {
        if self.in_flight.delays_nothing() { Delay::ZERO } else { self.policy.delays.of(class) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        consistency::{Belief, InFlight, Kind, Lifetimes, Place, Policy, policy::Delays},
        time::{Time, Timestamp},
    };

    const FILE: u64 = 7;
    const OTHER: u64 = 8;

    fn resize(ino: u64) -> Change {
        Change::Resize { ino, size: 0, clears: 0 }
    }

    fn unlink() -> Change {
        Change::Unlink { place: Place::new(1, b"name"), ino: FILE }
    }

    fn link() -> Change {
        Change::Link { ino: FILE, kind: Kind::File, place: Place::new(1, b"other") }
    }

    /// Data and sizes are late by 800 ms, names are not late.
    fn data_late() -> Policy {
        let data = Delay::fixed_millis(800);
        Policy { delays: Delays { data, sizes: data, ..Policy::zero().delays }, ..Policy::zero() }
    }

    fn late(millis: u64) -> Route {
        Route::Late(Delay::fixed_millis(millis))
    }

    struct Client {
        belief: Belief,
        in_flight: InFlight,
        policy: Policy,
    }

    impl Client {
        fn under(policy: Policy) -> Client {
            Client { belief: Belief::new(1 << 20), in_flight: InFlight::default(), policy }
        }

        fn core(&mut self) -> Core<'_> {
            Core::new(&mut self.belief, &self.in_flight, &self.policy)
        }

        fn route(&mut self, change: &Change) -> Route {
            self.core().route(change)
        }

        fn routes_all_through(&mut self) -> bool {
            self.core().routes_all_through()
        }

        fn put_in_flight(&mut self, change: Change) {
            self.in_flight.add(change, Timestamp::default(), Time::NEVER);
        }
    }

    #[test]
    fn each_class_has_its_delay() {
        let mut client = Client::under(Policy::eventual());
        assert_eq!((client.route(&resize(FILE)), client.route(&unlink())), (late(800), late(1200)));
        let mut client = Client::under(data_late());
        assert_eq!((client.route(&resize(FILE)), client.route(&unlink())), (late(800), Route::Through));
        assert!(!client.routes_all_through() && !client.core().is_transparent());
    }

    #[test]
    fn nothing_overtakes_what_it_needs_in_flight() {
        let mut client = Client::under(data_late());
        client.put_in_flight(resize(FILE));
        assert_eq!((client.route(&link()), client.route(&unlink())), (late(0), Route::Through));
        client.policy = Policy::zero();
        assert_eq!((client.route(&resize(FILE)), client.route(&resize(OTHER))), (late(0), Route::Through));
        assert!(!client.routes_all_through());
    }

    #[test]
    fn what_is_held_goes_late_even_without_a_delay() {
        let mut client = Client::under(Policy::zero());
        assert!(client.core().is_transparent());
        client.in_flight.hold(true);
        assert_eq!(client.route(&unlink()), late(0));
        assert!(!client.routes_all_through() && !client.core().applies_at_once(DelayClass::Names));
    }

    #[test]
    fn a_client_that_leaves_delays_nothing_new_even_while_held() {
        let mut client = Client::under(Policy::eventual());
        client.in_flight.hold(true);
        client.put_in_flight(resize(FILE));
        client.in_flight.delay_nothing();
        assert_eq!((client.route(&resize(OTHER)), client.route(&unlink())), (Route::Through, Route::Through));
        assert_eq!(client.route(&resize(FILE)), late(0), "it stays behind what is in flight");
    }

    #[test]
    fn data_of_a_lent_file_goes_through_but_not_its_names() {
        let mut client = Client::under(Policy::eventual());
        client.belief.lend(FILE);
        assert_eq!((client.route(&resize(FILE)), client.route(&unlink())), (Route::Through, late(1200)));
        assert_eq!(client.route(&resize(OTHER)), late(800));
    }

    #[test]
    fn a_client_that_believes_is_not_transparent() {
        let lifetimes =
            Lifetimes { listings: std::time::Duration::from_nanos(1), ..Policy::zero().lifetimes };
        let mut client = Client::under(Policy { lifetimes, ..Policy::zero() });
        assert!(client.routes_all_through() && !client.core().is_transparent());
    }
}
