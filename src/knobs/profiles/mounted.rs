//! The profile that fits a real mount, by its line in `/proc/self/mountinfo`.
//!
//! A profile says in `mounted_as` what mounts of its storage look like: the type of the file system, then any of `from:TEXT`
//! (the source contains TEXT) and `OPTION` or `OPTION=VALUE` (the super options have it). The pattern that says most counts.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use super::{load, meaning_of, names};
use crate::error::Refusal;

/// A mount of other storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub at: String,
    /// The type of its file system.
    pub kind: String,
    /// What is mounted there.
    pub source: String,
    /// Its own options, those of the mount and those of the file system.
    pub options: String,
}

/// What to imitate of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// The profile.
    pub profile: &'static str,
    /// The options that the profile takes.
    pub options: String,
    /// Options that it does not know.
    pub unknown: Vec<String>,
}

impl Mounted {
    /// The mount that holds `path`.
    ///
    /// # Errors
    /// The path is not there, or the mounts cannot be read.
    pub fn holding(path: &Path) -> Result<Mounted, Refusal> {
        let wrong = |error: std::io::Error| Refusal::new(format!("{}: {error}", path.display()));
        let real = fs::canonicalize(path).map_err(wrong)?;
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(wrong)?;
        let holds = |mounted: &Mounted| real.starts_with(Path::new(&mounted.at));
        // Of several at one place the last is on top.
        let found = table.lines().filter_map(Mounted::of_line).filter(holds);
        let longest = found.max_by_key(|mounted| Path::new(&mounted.at).as_os_str().as_bytes().len());
        longest.ok_or_else(|| Refusal::new(format!("{}: no mount holds it", path.display())))
    }

    /// Reads a line of `/proc/self/mountinfo`, or one of `/proc/mounts` or fstab(5).
    pub fn of_line(line: &str) -> Option<Mounted> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let text = |word: &str| unescaped(word);
        if let Some(dash) = words.iter().position(|word| *word == "-").filter(|dash| *dash >= 6) {
            let (kind, source) = (words.get(dash + 1)?, words.get(dash + 2)?);
            let of_file_system = words.get(dash + 3).copied().unwrap_or_default();
            let options = format!("{},{of_file_system}", words[5]);
            return Some(Mounted { at: text(words[4]), kind: text(kind), source: text(source), options });
        }
        let [source, at, kind, options, ..] = words.as_slice() else { return None };
        Some(Mounted {
            at: text(at),
            kind: text(kind),
            source: text(source),
            options: (*options).to_string(),
        })
    }

    /// The profile that fits, and the options that it takes.
    ///
    /// # Errors
    /// Says what was seen and which profiles there are.
    pub fn likeness(&self) -> Result<Likeness, Refusal> {
        let mut best: Option<(usize, &'static str)> = None;
        for name in names() {
            for pattern in load(name)?.mounted_as {
                let length = pattern.split_whitespace().count();
                if self.is_like(&pattern) && best.is_none_or(|(longest, _)| length > longest) {
                    best = Some((length, name));
                }
            }
        }
        let Some((_, profile)) = best else {
            return Err(Refusal::new(format!(
                "{} is a mount of type {} from {}, which no profile imitates; there are {}",
                self.at,
                self.kind,
                self.source,
                names().collect::<Vec<_>>().join(", ")
            )));
        };
        let (mut options, mut unknown) = (Vec::new(), Vec::new());
        for option in self.options.split(',').filter(|option| !option.is_empty()) {
            match meaning_of(profile, option) {
                Ok(meaning) if meaning.settings.is_empty() => {}
                Ok(_) => options.push(option),
                Err(_) => unknown.push(option.to_string()),
            }
        }
        options.dedup();
        Ok(Likeness { profile, options: options.join(","), unknown })
    }

    fn is_like(&self, pattern: &str) -> bool {
        let mut words = pattern.split_whitespace();
        let options: Vec<&str> = self.options.split(',').collect();
        words.next() == Some(&self.kind)
            && words.all(|word| match word.strip_prefix("from:") {
                Some(part) => self.source.contains(part),
                None => options.contains(&word),
            })
    }
}

/// Blanks are written as `\040` there.
fn unescaped(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_string(), |text, (escape, meant)| text.replace(escape, meant))
}
