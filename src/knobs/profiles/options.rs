//! Mount options as people have them in fstab(5), turned into knobs. What each does is data: `profiles/options/*.toml`.
//!
//! | entry | its value |
//! |---|---|
//! | `seconds = [KNOB, ...]` | seconds, which these knobs get |
//! | `span = [KNOB, ...]` | a span of time with its unit, which these knobs get |
//! | `sets = { KNOB = VALUE }` | none: it is there or not |
//! | `words = { WORD = { KNOB = VALUE } }` | one of these words |
//! | `profiles = { WORD = PROFILE }` | a word that only profiles have that are this one or extend it |

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    error::Refusal,
    knobs::{json::Value, parse_span},
    time::Span,
};

macro_rules! dialects {
    ($($name:literal),+ $(,)?) => {
        const DIALECTS: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../profiles/options/", $name, ".toml")))),+
        ];
    };
}

dialects!["nfs", "cifs", "sshfs", "rclone", "s3fs", "gcsfuse"];

/// What every file system takes.
const GENERAL: &str = include_str!("../../../profiles/options/general.toml");

/// Mount options of one kind of storage.
#[derive(Deserialize)]
struct Dialect {
    without_effect: WithoutEffect,
    #[serde(flatten)]
    options: BTreeMap<String, Effect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithoutEffect {
    /// A `*` at the end stands for any rest.
    names: Vec<String>,
}

type Values = BTreeMap<String, Value>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Effect {
    seconds: Vec<String>,
    span: Vec<String>,
    sets: Option<Values>,
    words: BTreeMap<String, Values>,
    profiles: BTreeMap<String, String>,
}

/// What a line of options comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Knobs and their values, in the order in which they are to be set.
    pub settings: Vec<(String, String)>,
    /// Options that change nothing that is imitated.
    pub without_effect: Vec<String>,
}

/// Reads options for a profile, given as its line: itself and those that it extends, by name. `dialect` is that of its
/// storage.
///
/// # Errors
/// Names the first option that is not known there, whose value is wrong, or that contradicts the profile or another.
pub fn meaning(text: &str, dialect: Option<&str>, line: &[&str]) -> Result<Meaning, Refusal> {
    let name = line.first().copied().unwrap_or_default();
    let known = DIALECTS.iter().find(|(known, _)| Some(*known) == dialect);
    let Some((_, rules)) = known else {
        return Err(Refusal::new(format!(
            "the profile {name} takes no mount options; choose that of the storage that does, or set knobs one by one"
        )));
    };
    let (dialect, general): (Dialect, Dialect) = (read(rules)?, read(GENERAL)?);
    let mut meaning = Meaning::default();
    let mut given: Vec<(&str, Option<&str>)> = Vec::new();
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        match given.iter().find(|(other, _)| *other == key) {
            Some((_, other)) if *other != value => {
                return Err(Refusal::new(format!(
                    "`{key}` is given twice with different values; give it once"
                )));
            }
            Some(_) => continue,
            None => given.push((key, value)),
        }
        match dialect.effect(key) {
            Some(effect) => meaning.settings.extend(effect.settings(key, value, line)?),
            None if dialect.ignores(key) || general.ignores(key) => {
                meaning.without_effect.push(option.to_string())
            }
            None => {
                return Err(Refusal::new(format!(
                    "`{key}` is no mount option of {name} that chaosfs knows; leave it out"
                )));
            }
        }
    }
    refuse_contradictions(&given)?;
    Ok(meaning)
}

/// Of these pairs one says the contrary of the other.
const CONTRARY: &[(&str, &str)] = &[
    ("cto", "nocto"),
    ("lock", "nolock"),
    ("sync", "async"),
    ("ac", "noac"),
    ("alignwrite", "noalignwrite"),
    ("brl", "nobrl"),
];

fn refuse_contradictions(given: &[(&str, Option<&str>)]) -> Result<(), Refusal> {
    let has = |key: &str| given.iter().any(|(other, _)| *other == key);
    match CONTRARY.iter().find(|(one, other)| has(one) && has(other)) {
        Some((one, other)) => {
            Err(Refusal::new(format!("`{one}` and `{other}` contradict each other; leave one out")))
        }
        None => Ok(()),
    }
}

fn read(text: &str) -> Result<Dialect, Refusal> {
    toml::from_str(text).map_err(|error| Refusal::new(error.message().to_string()))
}

impl Dialect {
    /// Flags of command lines have dashes where mount options have underscores.
    fn effect(&self, key: &str) -> Option<&Effect> {
        let same = |known: &str| known == key || known.replace('-', "_") == key.replace('-', "_");
        self.options.iter().find(|(known, _)| same(known)).map(|(_, effect)| effect)
    }

    fn ignores(&self, key: &str) -> bool {
        let key = key.replace('-', "_");
        self.without_effect
            .names
            .iter()
            .map(|known| known.replace('-', "_"))
            .any(|known| known.strip_suffix('*').map_or(known == key, |start| key.starts_with(start)))
    }
}

impl Effect {
    fn settings(
        &self,
        key: &str,
        value: Option<&str>,
        line: &[&str],
    ) -> Result<Vec<(String, String)>, Refusal> {
        let set = |values: &Values| values.iter().map(|(knob, value)| (knob.clone(), value.text())).collect();
        if let Some(values) = &self.sets {
            return match value {
                None => Ok(set(values)),
                Some(_) => Err(Refusal::new(format!("`{key}` takes no value; write it alone"))),
            };
        }
        let value = value.ok_or_else(|| Refusal::new(format!("`{key}` needs a value; write `{key}=...`")))?;
        let to_all = |knobs: &[String], value: String| {
            knobs.iter().map(|knob| (knob.clone(), value.clone())).collect::<Vec<_>>()
        };
        if !self.seconds.is_empty() {
            let seconds: u64 = value.parse().map_err(|_| {
                Refusal::new(format!(
                    "{key}: `{value}` is not a whole number of seconds; write such as `{key}=30`"
                ))
            })?;
            return Ok(to_all(&self.seconds, format!("{seconds}s")));
        }
        if !self.span.is_empty() {
            let span = parse_span(value).map_err(|refusal| Refusal::new(format!("{key}: {refusal}")))?;
            return Ok(to_all(&self.span, Span(span).to_string()));
        }
        self.refuse_other_profiles(key, value, line)?;
        match self.words.get(value) {
            Some(values) => Ok(set(values)),
            None if self.profiles.contains_key(value) => Ok(Vec::new()),
            None => {
                let words = self.words.keys().chain(self.profiles.keys()).map(String::as_str);
                let words: std::collections::BTreeSet<&str> = words.collect();
                let words = words.into_iter().collect::<Vec<_>>().join(", ");
                Err(Refusal::new(format!("{key}: `{value}` is not imitated; there are {words}")))
            }
        }
    }

    /// `vers=3` contradicts a profile of NFSv4.
    fn refuse_other_profiles(&self, key: &str, value: &str, line: &[&str]) -> Result<(), Refusal> {
        let Some(wanted) = self.profiles.get(value) else { return Ok(()) };
        let is_one_of_them = |name: &&&str| self.profiles.values().any(|profile| profile == **name);
        match line.iter().find(is_one_of_them) {
            Some(kind) if kind == wanted => Ok(()),
            _ => Err(Refusal::new(format!(
                "`{key}={value}` contradicts the profile {}; it goes with {wanted}",
                line.first().copied().unwrap_or_default()
            ))),
        }
    }
}
