//! A profile as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    error::Refusal,
    knobs::{Knob, Knobs, Tunable, json::Value},
};

/// A kind of storage.
#[derive(Debug)]
pub struct Profile {
    /// Its name, or the path of its file.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// The profile that says what this one does not.
    pub extends: Option<String>,
    /// Whose mount options it takes; none if those of the profile that it extends.
    pub options: Option<String>,
    /// What mounts of its storage look like: see [`mounted`](super::mounted).
    pub mounted_as: Vec<String>,
    /// What it says, in the order of the table of knobs.
    pub rules: Vec<Rule>,
    /// What its storage does and chaosfs does not.
    pub not_imitated: Vec<String>,
}

/// One value of a profile.
#[derive(Debug)]
pub struct Rule {
    /// What it is a value of.
    pub knob: &'static Knob<Knobs>,
    /// As it is set.
    pub value: String,
    /// Where it comes from: a source file, a page, a test.
    pub source: Option<String>,
    /// It was seen on the storage itself.
    pub measured: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    about: String,
    extends: Option<String>,
    options: Option<String>,
    #[serde(default)]
    mounted_as: Vec<String>,
    #[serde(default)]
    rules: BTreeMap<String, RuleText>,
    #[serde(default)]
    not_imitated: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a value, or { is = VALUE, source = \"...\", measured = true }")]
enum RuleText {
    Bare(Value),
    Sourced(Sourced),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sourced {
    is: Value,
    source: Option<String>,
    #[serde(default)]
    measured: bool,
}

/// What chooses a profile is no rule of one.
const CHOOSES: [&str; 3] = ["profile", "time_scale", "options"];

impl Profile {
    /// Reads the profile `name` from its text.
    ///
    /// # Errors
    /// One line that says what is wrong, and where.
    pub fn read(name: &str, text: &str) -> Result<Profile, Refusal> {
        let wrong = |what: String| Refusal::new(format!("profile {name}: {what}"));
        let read: Text = toml::from_str(text).map_err(|error| wrong(told(&error, text)))?;
        let rule =
            |(field, rule): (&String, &RuleText)| Rule::of(field, rule).map_err(|refusal| wrong(refusal.0));
        let mut rules = read.rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        let order = |rule: &Rule| Knobs::TABLE.iter().position(|knob| knob.name == rule.knob.name);
        rules.sort_by_key(order);
        if let Some(twice) = rules.windows(2).find(|pair| pair[0].knob.name == pair[1].knob.name) {
            return Err(wrong(format!("{}: given twice; give it once", twice[0].knob.flag())));
        }
        let Text { about, extends, options, mounted_as, not_imitated, .. } = read;
        Ok(Profile { name: name.to_string(), about, extends, options, mounted_as, rules, not_imitated })
    }
}

impl Rule {
    fn of(field: &str, text: &RuleText) -> Result<Rule, Refusal> {
        let knob = Knobs::knob(field)?;
        if CHOOSES.contains(&knob.name) {
            return Err(Refusal::new(format!(
                "`{field}` chooses a profile and is no rule of one; leave it out"
            )));
        }
        let (value, source, measured) = match text {
            RuleText::Bare(value) => (value, None, false),
            RuleText::Sourced(sourced) => (&sourced.is, sourced.source.clone(), sourced.measured),
        };
        let value = value.text();
        let taken = knob.assign(&mut Knobs::default(), &value);
        taken.map_err(|refusal| Refusal::new(format!("{field}: {refusal}")))?;
        Ok(Rule { knob, value, source, measured })
    }
}

/// An error of the parser in one line.
fn told(error: &toml::de::Error, text: &str) -> String {
    let what = error.message().lines().collect::<Vec<_>>().join("; ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return what };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {what}")
}
