//! Values as people write them: spans of time, delays, probabilities, sizes, switches.

use std::{fmt, time::Duration};

use super::Delay;
use crate::{
    consistency::{
        Kind as FileKind,
        policy::{Word, Words},
    },
    error::Refusal,
    time::FOREVER,
};

const LONGEST_MILLIS: f64 = FOREVER.as_millis() as f64;

/// Reads a span of time: a bare number is milliseconds, `us`, `ms`, `s`, `m` and `h` say otherwise, and several numbers with
/// units add up (`1s500ms`). `forever` is 100 years.
///
/// # Errors
/// Says what a span looks like. Spans over 100 years are refused.
pub fn parse_span(text: &str) -> Result<Duration, Refusal> {
    if text == "forever" {
        return Ok(FOREVER);
    }
    let millis = number(text).or_else(|| sum_of_parts(text)).filter(|millis| *millis <= LONGEST_MILLIS);
    millis.map(|millis| Duration::from_nanos((millis * 1_000_000.0).round() as u64)).ok_or_else(|| {
        Refusal::new(format!(
            "`{text}` is not a span of time; write milliseconds (`800`) or a unit (`1.5s`, `200ms`, `2m`)"
        ))
    })
}

/// Numbers are written with digits and a point alone: no sign, no exponent, no `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok())?
}

fn sum_of_parts(mut text: &str) -> Option<f64> {
    let mut millis = None;
    while !text.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        let (digits, rest) = text.split_at(text.find(|c| !is_digit(c))?);
        let (unit, rest) = rest.split_at(rest.find(is_digit).unwrap_or(rest.len()));
        *millis.get_or_insert(0.0) += number(digits)? * millis_in(unit)?;
        text = rest;
    }
    millis
}

fn millis_in(unit: &str) -> Option<f64> {
    match unit {
        "us" => Some(0.001),
        "ms" => Some(1.0),
        "s" => Some(1_000.0),
        "m" => Some(60_000.0),
        "h" => Some(3_600_000.0),
        _ => None,
    }
}

/// Reads a delay: a span, or a range of spans such as `500..1200` or `0.5s..2s`.
///
/// # Errors
/// Says what a delay looks like, that the range runs backwards, or that only one of its ends has a unit.
pub fn parse_delay(text: &str) -> Result<Delay, Refusal> {
    let Some((min, max)) = text.split_once("..") else {
        let span = parse_span(text).map_err(|refusal| with_dash(text).unwrap_or(refusal))?;
        return Ok(Delay { min: span, max: span });
    };
    let ends = (parse_span(min)?, parse_span(max)?);
    refuse_one_unit(text, min, max)?;
    let (min, max) = ends;
    if min > max {
        return Err(Refusal::new(format!("`{text}` runs backwards; write the shorter span first")));
    }
    Ok(Delay { min, max })
}

/// `1..2s` could mean either; zero is the same in every unit.
fn refuse_one_unit(text: &str, min: &str, max: &str) -> Result<(), Refusal> {
    let is_bare = |end: &str| number(end).is_some_and(|number| number > 0.0);
    let has_unit = |end: &str| number(end).is_none();
    let (bare, other) = match (is_bare(min), is_bare(max)) {
        (true, false) if has_unit(max) => (min, max),
        (false, true) if has_unit(min) => (max, min),
        _ => return Ok(()),
    };
    let unit = other.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let unit = if unit.contains(|c: char| c.is_ascii_digit()) { "ms" } else { unit };
    Err(Refusal::new(format!("`{text}`: `{bare}` has no unit; give both ends one, such as `{bare}{unit}`")))
}

/// What to say to somebody who writes a range with a dash.
fn with_dash(text: &str) -> Option<Refusal> {
    let dots = text.replacen('-', "..", 1);
    let meant = dots != text && parse_delay(&dots).is_ok();
    meant.then(|| Refusal::new(format!("`{text}` is not a delay; write the range as `{dots}`")))
}

/// Reads a probability between 0 and 1, or a percentage.
///
/// # Errors
/// Says what the range is.
pub fn parse_probability(text: &str) -> Result<f64, Refusal> {
    let value = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    value.filter(|value| (0.0..=1.0).contains(value)).ok_or_else(|| {
        Refusal::new(format!(
            "`{text}` is not a probability; write a number from 0 to 1, or a percentage (`10%`)"
        ))
    })
}

/// Reads a number of bytes: a bare number, or one with a unit. `KiB`, `MiB` and `GiB` (or `K`, `M`, `G`) are powers of 1024,
/// `kB`, `MB` and `GB` powers of 1000.
///
/// # Errors
/// Says what a size looks like. Zero is refused: nothing could ever be in flight.
pub fn parse_bytes(text: &str) -> Result<u64, Refusal> {
    let wrong = || {
        Refusal::new(format!(
            "`{text}` is not a size; write bytes above 0 or a unit (`64MiB`, `1GiB`; `10MB` is 10,000,000 bytes)"
        ))
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bytes_per_unit: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number = number.parse::<u64>().map_err(|_| wrong())?;
    number.checked_mul(bytes_per_unit).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// A number of bytes in the largest unit of which it is a multiple, as [`parse_bytes`] reads it.
pub fn written_bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |shift: u32| bytes > 0 && bytes.is_multiple_of(1 << shift);
    let unit = units.into_iter().find(|(shift, _)| fits(*shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Reads a number of things above zero.
///
/// # Errors
/// Says what a number looks like. Zero is refused: nothing could ever be in flight.
pub fn parse_count(text: &str) -> Result<usize, Refusal> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err(Refusal::new(format!("`{text}` is not a whole number above 0"))),
    }
}

/// Reads `true` or `false`, also `1`, `0`, `yes`, `no`, `on`, `off`.
///
/// # Errors
/// Says which words it takes.
pub fn parse_switch(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Refusal::new(format!("`{text}` is neither `true` nor `false`"))),
    }
}

/// What something is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor(pub f64);

/// Reads a factor above 0.
///
/// # Errors
/// Says what a factor looks like.
pub fn parse_factor(text: &str) -> Result<Factor, Refusal> {
    /// Beyond it spans of seconds become longer than a century, or shorter than a nanosecond.
    const MOST: f64 = 1e6;
    let factor = number(text).filter(|factor| (1.0 / MOST..=MOST).contains(factor));
    factor.map(Factor).ok_or_else(|| {
        Refusal::new(format!(
            "`{text}` is not a factor; write a number from 0.000001 to 1000000, such as `0.1`"
        ))
    })
}

/// Which permissions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// Those that the store has.
    Stored,
    /// Always these.
    #[expect(missing_docs, reason = "of what they are says their name")]
    Fixed { files: u32, directories: u32 },
}

impl Modes {
    /// What is shown of an inode of this kind, if that is not what the store has. Symlinks are none of both.
    pub fn shown(self, kind: FileKind) -> Option<u32> {
        match self {
            Modes::Fixed { directories, .. } if kind == FileKind::Directory => Some(directories),
            Modes::Fixed { files, .. } if kind == FileKind::File => Some(files),
            _ => None,
        }
    }

    /// Reads `stored`, or two numbers.
    ///
    /// # Errors
    /// Says what they look like.
    pub fn parse(text: &str) -> Result<Modes, Refusal> {
        const MOST: u32 = 0o777;
        if text == "stored" {
            return Ok(Modes::Stored);
        }
        let octal = |digits| u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= MOST);
        let both = text.split_once('/').and_then(|(files, directories)| octal(files).zip(octal(directories)));
        both.map(|(files, directories)| Modes::Fixed { files, directories }).ok_or_else(|| {
            Refusal::new(format!(
                "`{text}` is neither `stored` nor octal permissions of files and of directories, such as `644/755`"
            ))
        })
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Modes::Stored => out.write_str("stored"),
            Modes::Fixed { files, directories } => write!(out, "{files:o}/{directories:o}"),
        }
    }
}

/// Reads one of a few words.
///
/// # Errors
/// Says which there are.
pub fn parse_word<W: Word>(text: &str) -> Result<W, Refusal> {
    W::of(text).ok_or_else(|| Refusal::new(format!("`{text}` is none of {}", W::WORDS.join(", "))))
}

/// Reads some of a few words, joined by `+`, or `none`.
///
/// # Errors
/// Says which there are.
pub fn parse_words<W: Word>(text: &str) -> Result<Words<W>, Refusal> {
    if text == "none" {
        return Ok(Words::NONE);
    }
    let wrong = |word| {
        Refusal::new(format!(
            "`{word}` is none of {}; join several by `+`, or write `none`",
            W::WORDS.join(", ")
        ))
    };
    let mut words = text.split('+');
    words.try_fold(Words::NONE, |set, word| Ok(set.with(W::of(word).ok_or_else(|| wrong(word))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bare_numbers_are_milliseconds() {
        for (text, millis) in [
            ("0", 0),
            ("800", 800),
            ("200ms", 200),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1s500ms", 1500),
            ("1h2m3s", 3_723_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_span("250us"), Ok(Duration::from_micros(250)));
    }

    #[test]
    fn wrong_spans_are_refused_and_quoted() {
        for text in ["", "-1", "1x", "ms", "1.2.3", "1e9", "NaN", "inf", " 5", "99999999h", "1s500", "s1"] {
            assert!(parse_span(text).unwrap_err().0.contains(&format!("`{text}`")), "{text}");
        }
    }

    #[test]
    fn delays_may_be_ranges_but_not_backwards() {
        assert_eq!(parse_delay("800"), Ok(Delay::fixed_millis(800)));
        let range = parse_delay("500ms..1.2s").unwrap();
        assert_eq!((range.min.as_millis(), range.max.as_millis()), (500, 1200));
        assert_eq!(range.at(0.5).as_millis(), 850);
        assert_eq!(parse_delay("0..2s").map(|range| range.max), Ok(Duration::from_secs(2)));
        assert!(parse_delay("9..1").unwrap_err().0.contains("backwards"));
        assert!(parse_delay("..1").is_err() && parse_delay("1..").is_err());
    }

    #[test]
    fn a_range_that_can_be_read_two_ways_is_refused_with_the_right_form() {
        for (text, advice) in [
            ("1..2s", "`1..2s`: `1` has no unit; give both ends one, such as `1s`"),
            ("1ms..2", "`1ms..2`: `2` has no unit; give both ends one, such as `2ms`"),
            ("500-1200", "`500-1200` is not a delay; write the range as `500..1200`"),
            ("0.5s-2s", "`0.5s-2s` is not a delay; write the range as `0.5s..2s`"),
        ] {
            assert_eq!(parse_delay(text).unwrap_err().0, advice);
        }
    }

    #[test]
    fn probabilities_sizes_and_switches_are_never_clamped() {
        assert_eq!((parse_probability("0.25"), parse_probability("10%")), (Ok(0.25), Ok(0.1)));
        let wrong = ["1.01", "-0.1", "NaN", "", "101%", "%", "-1%"];
        assert!(wrong.iter().all(|text| parse_probability(text).is_err()));
        assert_eq!((parse_bytes("256MiB"), parse_bytes("10MB")), (Ok(256 << 20), Ok(10_000_000)));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        let written = [256 << 20, 3 << 30, 1 << 10, 1025].map(written_bytes);
        assert_eq!(written, ["256MiB", "3GiB", "1KiB", "1025"]);
        assert!(["0", "1TB", "-1", "99999999999999GiB", ""].iter().all(|text| parse_bytes(text).is_err()));
        assert_eq!((parse_switch("True"), parse_switch("off")), (Ok(true), Ok(false)));
        assert!(parse_switch("maybe").is_err());
    }
}
