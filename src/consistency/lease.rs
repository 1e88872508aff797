//! What the kernel may keep of a client's answers, and for how long, where it may keep anything (`--kernel-cache`).
//!
//! The kernel may keep what the client would answer anyway, for exactly as long: a belief's remaining lifetime is its
//! lease. What is in flight is no belief and is not lent: it changes when it lands, and nobody would tell the kernel.
//! The belief here stays the authority: a lease that has run out is a question to it.
//!
//! Bytes reach programs in one of three ways ([`Passage`]), settled when a file is opened:
//!
//! | passage | when | bytes |
//! |---|---|---|
//! | `Whole` | nothing is or will be in flight, and no reader could be shown old bytes | the kernel reads and writes the real file by itself |
//! | `Kept` | no data of the file is or will be in flight, and bytes are believed | kept while the attributes are unchanged |
//! | `Asked` | otherwise | every read and write comes here |
//!
//! While a file is lent whole the client does not hear of its changes. Nothing is believed of it then
//! ([`Belief::lend`](super::Belief::lend)), and other changes of its data go through.

use std::time::Duration;

use super::attributes::{Attributes, Kind};
use crate::time::Time;

/// By how much a lease ends before its belief does: the kernel counts timeouts in ticks (fs/fuse/dir.c,
/// `fuse_time_to_jiffies`), and was seen to honour them up to 8 ms too long.
const SLACK: Duration = Duration::from_millis(8);

const SETID: u32 = 0o6000;

/// How long the kernel may keep what is believed until then.
pub fn remaining(until: Time, now: Time) -> Duration {
    until.since(now).saturating_sub(SLACK)
}

/// Whether the kernel may keep attributes at all: not set-id bits of a file. A write takes them away, and the kernel does
/// not hear of it.
pub fn may_be_kept(attributes: &Attributes) -> bool {
    attributes.kind == Kind::Directory || attributes.permissions & SETID == 0
}

/// How the bytes of an open file reach programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Every read and write is a request.
    Asked,
    /// The kernel keeps pages for as long as the attributes that it sees stay the same.
    Kept,
    /// The kernel reads and writes the real file without asking.
    Whole,
}

/// A file as it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The kernel may keep something.
    pub lends: bool,
    /// Data goes through: there is no delay, landing is not held and nothing of the file is in flight.
    pub goes_through: bool,
    /// So does everything else: a write that is to be synced has no name to wait for.
    pub all_goes_through: bool,
    /// Bytes are believed for some time.
    pub believes: bool,
    /// It can be read through this open file.
    pub is_readable: bool,
    /// Writes go to the end, which the kernel knows only as well as it knows the size. And only until fcntl(2) says
    /// otherwise, of which it takes no notice for a file that it serves by itself (`fuse_passthrough_open`).
    pub appends: bool,
    /// It can be written through, by several users: which permissions a write takes away depends on the writer. A kernel
    /// that writes by itself finds that out by two requests for each write.
    pub has_several_writers: bool,
}

impl Opening {
    /// How its bytes will reach programs, unless the kernel cannot do without being asked.
    pub fn passage(&self) -> Passage {
        let could_read_old_bytes = self.believes && self.is_readable;
        if !self.lends || !self.goes_through || self.appends || self.has_several_writers {
            Passage::Asked
        } else if self.all_goes_through && !could_read_old_bytes {
            Passage::Whole
        } else if self.believes {
            Passage::Kept
        } else {
            Passage::Asked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const READER: Opening = Opening {
        lends: true,
        goes_through: true,
        all_goes_through: true,
        believes: true,
        is_readable: true,
        appends: false,
        has_several_writers: false,
    };

    #[test]
    fn a_lease_ends_before_its_belief() {
        let until = Time::from_millis(2_500);
        assert_eq!(remaining(until, Time::from_millis(1_000)), Duration::from_millis(1_492));
        assert_eq!(remaining(until, Time::from_millis(2_491)), Duration::from_millis(1));
        for late in [2_492, 2_500, 9_000] {
            assert_eq!(remaining(until, Time::from_millis(late)), Duration::ZERO);
        }
    }

    #[test]
    fn attributes_with_a_set_id_bit_that_a_write_could_take_away_are_not_kept() {
        let with = |kind, permissions| Attributes::new(kind, permissions, (1, 1), 0, 0, Timestamp::default());
        assert!(may_be_kept(&with(Kind::File, 0o1755)));
        assert!(!may_be_kept(&with(Kind::File, 0o4755)) && !may_be_kept(&with(Kind::File, 0o2755)));
        assert!(may_be_kept(&with(Kind::Directory, 0o2755)), "nobody writes to a directory");
    }

    #[test]
    fn whoever_could_be_shown_old_bytes_has_them_kept_and_nobody_else() {
        assert_eq!(READER.passage(), Passage::Kept);
        assert_eq!(Opening { believes: false, ..READER }.passage(), Passage::Whole);
        assert_eq!(Opening { is_readable: false, ..READER }.passage(), Passage::Whole);
    }

    #[test]
    fn what_could_be_in_flight_is_asked_for() {
        for believes in [false, true] {
            assert_eq!(Opening { goes_through: false, believes, ..READER }.passage(), Passage::Asked);
            assert_eq!(Opening { lends: false, believes, ..READER }.passage(), Passage::Asked);
        }
    }

    #[test]
    fn a_write_that_somebody_has_to_see_is_asked_for() {
        for believes in [false, true] {
            let shared = Opening { believes, has_several_writers: true, ..READER };
            assert_eq!(shared.passage(), Passage::Asked);
        }
        let appender = Opening { appends: true, ..READER };
        assert_eq!(appender.passage(), Passage::Asked);
        assert_eq!(Opening { is_readable: false, ..appender }.passage(), Passage::Asked);
        // A synced write may have to land a name.
        let names_late = Opening { believes: false, all_goes_through: false, ..READER };
        assert_eq!(names_late.passage(), Passage::Asked);
    }
}
