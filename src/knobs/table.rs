//! The table of knobs: what one tunable is, and what can be done with all of them by name.
//!
//! [`knobs!`](crate::knobs!) makes a struct and its table from one list. Flags, variables, `set`, status, the start line of
//! the log, the README's table and Python's stubs all read the table, so a new knob is one entry in the list and its use.

use std::time::Duration;

use super::profiles::ProfileName;
use super::refused::Refused;
use super::values::{
    Factor, Modes, parse_bytes, parse_count, parse_delay, parse_factor, parse_probability, parse_span,
    parse_switch, parse_word, parse_words, written_bytes,
};
use crate::{
    consistency::policy::{Word, Words},
    error::Refusal,
    time::{Delay, Span},
};

/// What the value of a knob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A span of time.
    Span,
    /// A span of time, or a range of them from which each change draws its own.
    Delay,
    /// A number from 0 to 1.
    Probability,
    /// True or false.
    Switch,
    /// A number of bytes above 0.
    Bytes,
    /// A number of things above 0.
    Count,
    /// A factor above 0.
    Factor,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, joined by `+`, or `none`.
    Set(&'static [&'static str]),
    /// Any text.
    Text,
}

/// What a knob is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What is seen when.
    Consistency,
    /// What else the storage does.
    Storage,
    /// What fails.
    Faults,
}

/// A type that the value of a knob can have.
pub trait KnobValue: Sized {
    /// What it is.
    const KIND: Kind;

    /// Reads it as people write it.
    ///
    /// # Errors
    /// Says what it looks like.
    fn parse(text: &str) -> Result<Self, Refusal>;

    /// As [`KnobValue::parse`] takes it; none while the knob follows another.
    fn text(&self) -> Option<String>;

    /// The value with which the knob follows another, for those that can.
    fn following() -> Option<Self> {
        None
    }
}

macro_rules! values {
    ($($type:ty: $kind:ident, $parse:expr, $show:expr;)+) => {$(
        impl KnobValue for $type {
            const KIND: Kind = Kind::$kind;

            fn parse(text: &str) -> Result<Self, Refusal> {
                let parse: fn(&str) -> Result<Self, Refusal> = $parse;
                parse(text)
            }

            fn text(&self) -> Option<String> {
                let show: fn(&Self) -> String = $show;
                Some(show(self))
            }
        }
    )+};
}

values! {
    Duration: Span, parse_span, |span| Span(*span).to_string();
    Delay: Delay, parse_delay, ToString::to_string;
    f64: Probability, parse_probability, ToString::to_string;
    Factor: Factor, parse_factor, |factor| factor.0.to_string();
    String: Text, |text: &str| Ok(text.to_string()), Clone::clone;
    ProfileName: Text, ProfileName::parse, |name| name.as_str().to_string();
    Modes: Text, Modes::parse, ToString::to_string;
    Refused: Text, Refused::parse, ToString::to_string;
    bool: Switch, parse_switch, ToString::to_string;
    u64: Bytes, parse_bytes, ToString::to_string;
    usize: Count, parse_count, ToString::to_string;
}

impl<W: Word> KnobValue for W {
    const KIND: Kind = Kind::Choice(W::WORDS);

    fn parse(text: &str) -> Result<Self, Refusal> {
        parse_word(text)
    }

    fn text(&self) -> Option<String> {
        Some(self.word().to_string())
    }
}

impl<W: Word> KnobValue for Words<W> {
    const KIND: Kind = Kind::Set(W::WORDS);

    fn parse(text: &str) -> Result<Self, Refusal> {
        parse_words(text)
    }

    fn text(&self) -> Option<String> {
        let words: Vec<_> = self.iter().map(Word::word).collect();
        Some(if words.is_empty() { "none".to_string() } else { words.join("+") })
    }
}

impl<T: KnobValue> KnobValue for Option<T> {
    const KIND: Kind = T::KIND;

    fn parse(text: &str) -> Result<Self, Refusal> {
        T::parse(text).map(Some)
    }

    fn text(&self) -> Option<String> {
        self.as_ref()?.text()
    }

    fn following() -> Option<Self> {
        Some(None)
    }
}

/// What lets other knobs follow one that has been set; it is given all as they were before.
pub type Then<K> = fn(&mut K, &K) -> Result<(), Refusal>;

/// One tunable of `K`.
#[derive(Debug)]
pub struct Knob<K> {
    /// With underscores, as in the log and the struct; its flag has dashes.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The variable that gives its value where the flag is not there.
    pub variable: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// The knob whose value it has until it is given one of its own.
    pub follows: Option<&'static str>,
    /// Its documentation, as it is written in the list.
    pub documentation: &'static str,
    /// Sets it from a text, and nothing else.
    pub parse: fn(&mut K, &str) -> Result<(), Refusal>,
    /// What else changes when it is set: is given the knobs as they were before.
    pub then: Option<Then<K>>,
    /// Lets it follow; false if it cannot.
    pub follow: fn(&mut K) -> bool,
    /// Its value; none while it follows another.
    pub text: fn(&K) -> Option<String>,
}

impl<K> Knob<K> {
    /// The name of its flag, without the dashes before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its first paragraph, in one line.
    pub fn summary(&self) -> String {
        self.paragraphs().next().unwrap_or_default()
    }

    /// Its other paragraphs.
    pub fn details(&self) -> Vec<String> {
        self.paragraphs().skip(1).collect()
    }

    fn paragraphs(&self) -> impl Iterator<Item = String> {
        let paragraphs = self.documentation.split("\n\n").map(str::trim).filter(|text| !text.is_empty());
        paragraphs
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').into())
    }

    /// Gives it the value that `text` writes, or lets it follow the knob that `text` names. Nothing else changes.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn assign(&self, knobs: &mut K, text: &str) -> Result<(), Refusal> {
        match self.follows {
            Some(leader) if text.replace('-', "_") == leader && (self.follow)(knobs) => Ok(()),
            _ => (self.parse)(knobs, text),
        }
    }

    /// What [`Knob::set`] takes: its value, or the name of the knob that it follows.
    pub fn value(&self, knobs: &K) -> String {
        (self.text)(knobs).unwrap_or_else(|| self.follows.unwrap_or_default().to_string())
    }
}

impl<K: Clone> Knob<K> {
    /// Gives it the value that `text` writes, and lets what hangs on it follow.
    ///
    /// # Errors
    /// Says what would be right; nothing is changed then.
    pub fn set(&self, knobs: &mut K, text: &str) -> Result<(), Refusal> {
        let mut changed = knobs.clone();
        self.assign(&mut changed, text)?;
        if let Some(then) = self.then {
            then(&mut changed, knobs)?;
        }
        *knobs = changed;
        Ok(())
    }
}

impl<K: Default> Knob<K> {
    /// Its default as people write it: the name of the knob that it follows, or a value.
    pub fn usual(&self) -> String {
        let value = self.value(&K::default());
        match (self.kind, value.parse()) {
            (Kind::Bytes, Ok(bytes)) => written_bytes(bytes),
            _ => value,
        }
    }
}

/// A struct of knobs with its table.
pub trait Tunable: Default + Clone + Sized + 'static {
    /// All knobs, in the order in which they are shown.
    const TABLE: &'static [Knob<Self>];

    /// The knob of this name, with underscores or dashes.
    ///
    /// # Errors
    /// Names the knobs that there are.
    fn knob(name: &str) -> Result<&'static Knob<Self>, Refusal> {
        let wanted = name.replace('-', "_");
        Self::TABLE.iter().find(|knob| knob.name == wanted).ok_or_else(|| {
            let names: Vec<_> = Self::TABLE.iter().map(|knob| knob.name).collect();
            Refusal::new(format!("`{name}` is not a knob; there are {}", names.join(", ")))
        })
    }

    /// Gives the knob of this name, with underscores or dashes, the value that `text` writes, as on the command line.
    ///
    /// # Errors
    /// Names the knob and what would be right; nothing is changed then.
    fn set(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        let knob = Self::knob(name)?;
        knob.set(self, text).map_err(|refusal| Refusal::new(format!("{name}: {refusal}")))
    }

    /// Every knob by name with its value, as [`Tunable::set`] takes them.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        Self::TABLE.iter().map(|knob| (knob.name, knob.value(self))).collect()
    }

    /// The knobs whose value is not that of `before`, with their value here.
    fn changed_since(&self, before: &Self) -> Vec<(&'static str, String)> {
        let changed = Self::TABLE.iter().filter(|knob| knob.value(self) != knob.value(before));
        changed.map(|knob| (knob.name, knob.value(self))).collect()
    }

    /// Checks that the knob of this name takes this value, whatever hangs on it.
    ///
    /// # Errors
    /// As for [`Tunable::set`].
    fn check_value(name: &str, text: &str) -> Result<(), Refusal> {
        let assigned = Self::knob(name)?.assign(&mut Self::default(), text);
        assigned.map_err(|refusal| Refusal::new(format!("{name}: {refusal}")))
    }

    /// Every knob that has a value of its own as `name=value`, separated by blanks. Rules of the storage are left out where
    /// they are as in `usual`.
    fn line_beside(&self, usual: &Self) -> String {
        let is_told = |knob: &&Knob<Self>| {
            // What others follow is told wherever it is not at its default.
            let default = Self::default();
            let usual = if knob.then.is_some() { &default } else { usual };
            knob.topic != Topic::Storage || knob.value(self) != knob.value(usual)
        };
        let own = |knob: &Knob<Self>| Some(format!("{}={}", knob.name, (knob.text)(self)?));
        Self::TABLE.iter().filter(is_told).filter_map(own).collect::<Vec<_>>().join(" ")
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// Names the first knob that has no meaning with its value.
    fn check(&self) -> Result<(), Refusal> {
        let mut taken = Self::default();
        let take = |knob: &Knob<Self>| {
            let assigned = knob.assign(&mut taken, &knob.value(self));
            assigned.map_err(|refusal| Refusal::new(format!("{}: {refusal}", knob.name)))
        };
        Self::TABLE.iter().try_for_each(take)
    }
}

/// Makes a struct of knobs, its defaults and its [table](crate::knobs::Tunable) from one list. An entry is
///
/// ```text
/// /// What it does, in one paragraph: the help of its flag, the README and Python show it.
/// ///
/// /// More, for `--help`.
/// pub name: Type = default, Topic, "VARIABLE";
/// ```
///
/// and ends in `follows other;` if its type is an `Option` and it has the value of another while it is `None`, or in
/// `then function;` if setting it changes others.
#[doc(hidden)]
#[macro_export]
macro_rules! knobs {
    (@leader) => { None };
    (@leader $leader:ident) => { Some(stringify!($leader)) };
    (@then) => { None };
    (@then $then:path) => { Some($then) };
    ($(#[$about:meta])* $vis:vis struct $Knobs:ident {$(
        $(#[doc = $doc:literal])+
        pub $name:ident: $type:ty = $default:expr, $topic:ident, $variable:literal $(, follows $leader:ident)?$(, then $then:path)?;
    )+}) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $Knobs {$(
            $(#[doc = $doc])+
            pub $name: $type,
        )+}

        impl Default for $Knobs {
            fn default() -> $Knobs {
                $Knobs { $($name: $default),+ }
            }
        }

        impl $crate::knobs::Tunable for $Knobs {
            const TABLE: &'static [$crate::knobs::Knob<$Knobs>] = &[$(
                $crate::knobs::Knob {
                    name: stringify!($name),
                    kind: <$type as $crate::knobs::KnobValue>::KIND,
                    variable: $variable,
                    topic: $crate::knobs::Topic::$topic,
                    follows: $crate::knobs!(@leader $($leader)?),
                    documentation: concat!($($doc, "\n"),+),
                    parse: |knobs, text| {
                        knobs.$name = $crate::knobs::KnobValue::parse(text)?;
                        Ok(())
                    },
                    then: $crate::knobs!(@then $($then)?),
                    follow: |knobs| $crate::knobs::KnobValue::following().map(|value| knobs.$name = value).is_some(),
                    text: |knobs| $crate::knobs::KnobValue::text(&knobs.$name),
                },
            )+];
        }
    };
}
