//! Rules that are one of a few words, and sets of such words.

use std::marker::PhantomData;

/// One of a few things, each of which has a word.
pub trait Word: Copy + PartialEq + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Their words, in the same order.
    const WORDS: &'static [&'static str];

    /// The one that a word means.
    fn of(word: &str) -> Option<Self> {
        let index = Self::WORDS.iter().position(|known| *known == word)?;
        Self::ALL.get(index).copied()
    }

    /// Its word.
    fn word(self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// Which of them it is.
    fn index(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or_default()
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<W> {
    bits: u32,
    of: PhantomData<W>,
}

impl<W> Words<W> {
    /// None of them.
    pub const NONE: Words<W> = Words { bits: 0, of: PhantomData };
}

impl<W: Word> Words<W> {
    /// All of them.
    pub const fn all() -> Words<W> {
        Words { bits: (1 << W::ALL.len()) - 1, of: PhantomData }
    }

    /// Whether it is among them.
    pub fn has(&self, word: W) -> bool {
        self.bits & 1 << word.index() != 0
    }

    /// These and one more.
    pub fn with(self, word: W) -> Words<W> {
        Words { bits: self.bits | 1 << word.index(), ..self }
    }

    /// Those that are in it, in their order.
    pub fn iter(&self) -> impl Iterator<Item = W> {
        W::ALL.iter().copied().filter(|word| self.has(*word))
    }
}

/// Makes an enum whose variants have words.
macro_rules! words {
    ($(#[$about:meta])* pub enum $Name:ident {$(
        $(#[$doc:meta])+
        $Variant:ident = $word:literal,
    )+}) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {$(
            $(#[$doc])+
            $Variant,
        )+}

        impl $crate::consistency::policy::Word for $Name {
            const ALL: &'static [$Name] = &[$($Name::$Variant),+];
            const WORDS: &'static [&'static str] = &[$($word),+];
        }
    };
}
