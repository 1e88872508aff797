//! Kinds of storage by name: for each the knobs that make a client behave like it, and where each value comes from.
//!
//! A profile is a TOML file. Those of `profiles/` are in the binary; anybody can write another:
//!
//! ```toml
//! about = "The NFS server in the cellar"
//! extends = "nfs4" # without it, what is not said is as in `posix`
//!
//! [rules]
//! dir-attr-ttl = { is = "5s", source = "acdirmin=5 in its fstab" }
//! write-delay = "10s" # a rule may do without a source
//! ```

pub mod mounted;
mod options;
mod text;

use std::{fs, path::Path};

pub use options::Meaning;
pub use text::{Profile, Rule};

use crate::{
    error::Refusal,
    knobs::{Factor, Kind, Knob, Knobs, Tunable, parse_delay, parse_span},
    time::{Delay, FOREVER, Span},
};

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        /// The profiles that are in the binary: their names and texts.
        const BUILT_IN: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../profiles/", $name, ".toml")))),+
        ];
    };
}

built_in![
    "posix",
    "eventual",
    "nfs3",
    "nfs4",
    "nfs4-delegation",
    "nfs-noac",
    "nfs-actimeo0",
    "nfs-lookupcache-pos",
    "nfs-lookupcache-none",
    "nfs-nocto",
    "nfs-ro-long",
    "nfs-nolock",
    "nfs-enolck",
    "nfs-soft",
    "efs",
    "azure-files-nfs",
    "smb",
    "glusterfs",
    "juicefs",
    "juicefs-writeback",
    "seaweedfs",
    "gcsfuse",
    "mountpoint-s3",
    "mountpoint-s3-cache",
    "s3fs",
    "goofys",
    "rclone",
    "blobfuse2",
    "sshfs",
    "hdfs-nfs",
    "docker-cached",
    "docker-delegated",
    "sync-folder",
];

/// The name of a profile that there is, or the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileName(String);

impl Default for ProfileName {
    fn default() -> ProfileName {
        ProfileName::of("eventual")
    }
}

impl ProfileName {
    pub(super) fn of(name: &str) -> ProfileName {
        ProfileName(name.to_string())
    }

    /// Takes a name as it is written: whether there is such a profile shows when it is used.
    pub(super) fn parse(name: &str) -> Result<ProfileName, Refusal> {
        Ok(ProfileName::of(name))
    }

    /// The same profile for a process with another working directory.
    ///
    /// # Errors
    /// As for [`line_of`].
    pub fn found(&self) -> Result<ProfileName, Refusal> {
        line_of(&self.0).map(|line| ProfileName::of(&line[0].name))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The names of the profiles that are in the binary.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The profile of this name, or in the file at this path, which is its name then.
///
/// # Errors
/// Says which profiles there are; or what is wrong with the file, and where in it.
pub fn load(name: &str) -> Result<Profile, Refusal> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Profile::read(name, text);
    }
    if !is_path(name) {
        let known: Vec<_> = names().collect();
        return Err(Refusal::new(format!(
            "`{name}` is not a profile; there are {}; one of your own is a path, such as `./mine.toml`",
            known.join(", ")
        )));
    }
    let refused = |error| Refusal::new(format!("profile {name}: {error}"));
    let path = std::path::absolute(name).map_err(refused)?;
    let text = fs::read_to_string(&path).map_err(refused)?;
    Profile::read(&path.to_string_lossy(), &text)
}

/// The profile that one extends, by its name or by its path from the folder of that one.
fn base_of(profile: &Profile) -> Option<String> {
    let base = profile.extends.clone()?;
    let folder = Path::new(&profile.name).parent().filter(|_| is_path(&base) && is_path(&profile.name));
    Some(folder.map_or_else(|| base.clone(), |folder| folder.join(&base).to_string_lossy().into_owned()))
}

fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

/// The profile of this name and those that it extends, itself first.
///
/// # Errors
/// As for [`load`]; names the profiles that extend each other in a circle.
pub fn line_of(name: &str) -> Result<Vec<Profile>, Refusal> {
    let mut line: Vec<Profile> = Vec::new();
    let mut next = Some(name.to_string());
    while let Some(name) = next {
        let profile = load(&name).map_err(|refusal| match line.last() {
            Some(before) => Refusal::new(format!("profile {}: extends {refusal}", before.name)),
            None => refusal,
        })?;
        if let Some(start) = line.iter().position(|other| other.name == profile.name) {
            let names = line[start..].iter().chain([&profile]).map(|profile| profile.name.as_str());
            let circle: Vec<_> = names.collect();
            let first = circle[0];
            return Err(Refusal::new(format!(
                "profile {first}: it extends itself ({})",
                circle.join(" -> ")
            )));
        }
        next = base_of(&profile);
        line.push(profile);
    }
    Ok(line)
}

/// The rules of a profile with those it has from others: for each knob the one that counts.
///
/// # Errors
/// As for [`line_of`].
pub fn rules_of(name: &str) -> Result<Vec<Rule>, Refusal> {
    let mut rules: Vec<Rule> = Vec::new();
    for rule in line_of(name)?.into_iter().flat_map(|profile| profile.rules) {
        if rules.iter().all(|other| other.knob.name != rule.knob.name) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// The knobs that a profile stands for, with the mount options `options`, and with all its spans multiplied by `scale`.
///
/// # Errors
/// As for [`line_of`]; names the option that is wrong.
pub fn knobs_of(name: &str, options: &str, scale: f64) -> Result<Knobs, Refusal> {
    let (profile, options) = (ProfileName::of(name), options.to_string());
    let mut knobs = Knobs { profile, time_scale: Factor(scale), options, ..Knobs::zero() };
    for rule in rules_of(name)? {
        rule.knob.assign(&mut knobs, &scaled(rule.knob, &rule.value, scale))?;
    }
    let meaning = meaning_of(name, &knobs.options)?;
    for (field, value) in meaning.settings {
        let knob = Knobs::knob(&field)?;
        let assigned = knob.assign(&mut knobs, &scaled(knob, &value, scale));
        assigned.map_err(|refusal| Refusal::new(format!("{field}: {refusal}")))?;
    }
    Ok(knobs)
}

/// Whose mount options a profile takes; none if it takes none, or cannot be read.
pub fn dialect_of(name: &str) -> Option<String> {
    line_of(name).ok()?.into_iter().find_map(|profile| profile.options)
}

/// What mount options come to under a profile.
///
/// # Errors
/// As for [`line_of`]; names the option that is wrong.
pub fn meaning_of(name: &str, options: &str) -> Result<Meaning, Refusal> {
    if options.is_empty() {
        return Ok(Meaning::default());
    }
    let line = line_of(name)?;
    let dialect = line.iter().find_map(|profile| profile.options.as_deref());
    let names: Vec<&str> = line.iter().map(|profile| profile.name.as_str()).collect();
    options::meaning(options, dialect, &names)
}

fn scaled(knob: &Knob<Knobs>, value: &str, scale: f64) -> String {
    let span = |span: std::time::Duration| match span {
        FOREVER => FOREVER,
        _ => span.mul_f64(scale).min(FOREVER),
    };
    match knob.kind {
        Kind::Span => parse_span(value).map(|time| Span(span(time)).to_string()),
        Kind::Delay => {
            parse_delay(value).map(|Delay { min, max }| Delay { min: span(min), max: span(max) }.to_string())
        }
        _ => Ok(value.to_string()),
    }
    // The name of the knob that it follows.
    .unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests;
