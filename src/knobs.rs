//! Every tunable of a client: its meaning, unit, default and range.

use std::{fmt, time::Duration};

use crate::{
    consistency::{Delays, Lifetimes, Policy},
    error::Refusal,
};

mod json;
mod values;

pub use crate::time::{Delay, Span};
pub use values::{parse_bytes, parse_count, parse_delay, parse_probability, parse_span, parse_switch};

/// The tunables of one client. The defaults are the profile `eventual`: an uncoordinated store, late by about a
/// second in both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// How long attributes, names, absent names and listings are believed after they were fetched. Zero asks the
    /// backing directory every time. Default 1500 ms.
    pub meta_ttl: Duration,
    /// How long data changes and new files take until others see them. Zero writes through. Default 800 ms.
    pub write_delay: Delay,
    /// The same for names, directories and attributes. Default 1200 ms.
    pub rename_delay: Delay,
    /// The probability, 0 to 1, that an operation which can fail does so with EIO before it has any effect.
    /// Default 0.
    pub drop_prob: f64,
    /// Whether this client's own reads and sizes show its writes that have not landed yet. Default true; false
    /// shows the old content until it lands, which no program alone on one host would meet.
    pub read_your_writes: bool,
    /// How many bytes of memory changes in flight may take before whoever makes one waits: their data, and what keeping
    /// them takes (about 0.6 KiB for each, 2 KiB for a new inode). Default 256 MiB.
    pub max_in_flight: u64,
    /// How many mutations may be in flight before whoever makes one waits. Default 1,000,000.
    pub max_mutations: usize,
    /// How many bytes of attributes, names, listings and content may be believed before the oldest are dropped.
    /// Default 64 MiB.
    pub max_belief: u64,
}

impl Default for Knobs {
    fn default() -> Knobs {
        const EVENTUAL: Policy = Policy::eventual();
        Knobs {
            meta_ttl: EVENTUAL.lifetimes.attributes,
            write_delay: EVENTUAL.delays.data,
            rename_delay: EVENTUAL.delays.names,
            drop_prob: 0.0,
            read_your_writes: EVENTUAL.read_your_writes,
            max_in_flight: 256 << 20,
            max_mutations: 1_000_000,
            max_belief: 64 << 20,
        }
    }
}

impl Knobs {
    /// A client that cannot be told from the backing directory: nothing is late, stale or failing.
    pub fn zero() -> Knobs {
        Knobs {
            meta_ttl: Duration::ZERO,
            write_delay: Delay::fixed_millis(0),
            rename_delay: Delay::fixed_millis(0),
            ..Knobs::default()
        }
    }
}

impl Knobs {
    /// The names of all knobs, as [`Knobs::set`] takes them and the log shows them.
    pub const NAMES: [&str; 8] = [
        "meta_ttl",
        "write_delay",
        "rename_delay",
        "drop_prob",
        "read_your_writes",
        "max_in_flight",
        "max_mutations",
        "max_belief",
    ];

    /// What decides what a client with these knobs answers.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            lifetimes: Lifetimes::all(self.meta_ttl),
            delays: Delays { data: self.write_delay, new_files: self.write_delay, names: self.rename_delay },
            read_your_writes: self.read_your_writes,
        }
    }

    /// Gives the knob of this name, with underscores or dashes, the value that `text` writes, as on the command line.
    ///
    /// # Errors
    /// Names the knob and what would be right; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        let named = |refusal: Refusal| Refusal::new(format!("{name}: {refusal}"));
        match name.replace('-', "_").as_str() {
            "meta_ttl" => self.meta_ttl = parse_span(text).map_err(named)?,
            "write_delay" => self.write_delay = parse_delay(text).map_err(named)?,
            "rename_delay" => self.rename_delay = parse_delay(text).map_err(named)?,
            "drop_prob" => self.drop_prob = parse_probability(text).map_err(named)?,
            "read_your_writes" => self.read_your_writes = parse_switch(text).map_err(named)?,
            "max_in_flight" => self.max_in_flight = parse_bytes(text).map_err(named)?,
            "max_mutations" => self.max_mutations = parse_count(text).map_err(named)?,
            "max_belief" => self.max_belief = parse_bytes(text).map_err(named)?,
            _ => {
                let names = Knobs::NAMES.join(", ");
                return Err(Refusal::new(format!("`{name}` is not a knob; there are {names}")));
            }
        }
        Ok(())
    }

    /// Every knob by name with its value, as [`Knobs::set`] takes them.
    pub fn pairs(&self) -> [(&'static str, String); 8] {
        let values = [
            Span(self.meta_ttl).to_string(),
            self.write_delay.to_string(),
            self.rename_delay.to_string(),
            self.drop_prob.to_string(),
            self.read_your_writes.to_string(),
            self.max_in_flight.to_string(),
            self.max_mutations.to_string(),
            self.max_belief.to_string(),
        ];
        let mut names = Knobs::NAMES.into_iter();
        values.map(|value| (names.next().unwrap_or_default(), value))
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// Names the first knob that has no meaning with its value.
    pub fn check(&self) -> Result<(), Refusal> {
        let mut taken = Knobs::default();
        self.pairs().into_iter().try_for_each(|(name, value)| taken.set(name, &value))
    }
}

impl fmt::Display for Knobs {
    /// Every knob in force as `name=value`, separated by blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.pairs().map(|(name, value)| format!("{name}={value}"));
        f.write_str(&pairs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_set_by_name_and_show_what_can_be_set_again() {
        let mut knobs = Knobs::default();
        for (name, value) in [
            ("meta-ttl", "250us"),
            ("write_delay", "1ms..2s"),
            ("rename_delay", "0"),
            ("drop_prob", "0.5"),
            ("read-your-writes", "off"),
            ("max_in_flight", "1MiB"),
            ("max_mutations", "7"),
            ("max-belief", "1KiB"),
        ] {
            assert_eq!(knobs.set(name, value), Ok(()), "{name}");
        }
        let mut again = Knobs::default();
        knobs.pairs().iter().for_each(|(name, value)| again.set(name, value).unwrap());
        assert_eq!(again, knobs);
        assert_eq!((knobs.meta_ttl, knobs.max_mutations), (Duration::from_micros(250), 7));
    }

    #[test]
    fn a_wrong_knob_or_value_is_refused_by_name_and_changes_nothing() {
        let mut knobs = Knobs::default();
        let refusal = knobs.set("write-delay", "soon").unwrap_err().0;
        assert!(refusal.starts_with("write-delay: `soon` is not a span"), "{refusal}");
        let refusal = knobs.set("speed", "1").unwrap_err().0;
        assert!(refusal.starts_with("`speed` is not a knob; there are meta_ttl, write_delay,"), "{refusal}");
        assert!(knobs.set("max_mutations", "0").is_err() && knobs.set("max_in_flight", "0").is_err());
        assert_eq!(knobs, Knobs::default());
    }

    #[test]
    fn knobs_built_by_hand_are_checked_too() {
        assert_eq!(Knobs::zero().check(), Ok(()));
        let backwards = Delay { min: Duration::from_secs(2), max: Duration::from_secs(1) };
        assert_eq!(backwards.at(0.5), backwards.min);
        assert!(
            Knobs { write_delay: backwards, ..Knobs::default() }
                .check()
                .unwrap_err()
                .0
                .contains("write_delay")
        );
        assert!(Knobs { drop_prob: 1.5, ..Knobs::default() }.check().is_err());
        assert!(Knobs { max_in_flight: 0, ..Knobs::default() }.check().is_err());
    }

    #[test]
    fn the_defaults_and_zero_are_policies() {
        assert_eq!(Knobs::default().policy(), Policy::eventual());
        assert_eq!(Knobs::zero().policy(), Policy::zero());
    }

    #[test]
    fn knobs_show_every_value() {
        assert_eq!(
            Knobs::default().to_string(),
            "meta_ttl=1500ms write_delay=800ms rename_delay=1200ms drop_prob=0 read_your_writes=true \
             max_in_flight=268435456 max_mutations=1000000 max_belief=67108864"
        );
    }
}
