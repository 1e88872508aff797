//! `chaosfs profiles`.

use std::{fmt::Write as _, process::ExitCode};

use chaosfs::{
    Refusal,
    knobs::profiles::{self, Profile, Rule},
};
use serde_json::{Value, json};

use crate::{args::ProfilesArgs, voice};

pub fn run(args: &ProfilesArgs) -> anyhow::Result<ExitCode> {
    let text = match (&args.name, &args.other) {
        (None, _) => list(args.json)?,
        (Some(name), None) => one(name, args)?,
        (Some(name), Some(other)) => difference(name, other, args.json)?,
    };
    voice::say_at_length(text.trim_end(), false);
    Ok(ExitCode::SUCCESS)
}

fn list(as_json: bool) -> Result<String, Refusal> {
    let all = profiles::names().map(profiles::load).collect::<Result<Vec<_>, _>>()?;
    if as_json {
        let all: Vec<Value> =
            all.iter().map(|profile| json!({ "name": profile.name, "about": profile.about })).collect();
        return Ok(format!("{:#}", Value::from(all)));
    }
    let width = all.iter().map(|profile| profile.name.len()).max().unwrap_or_default();
    Ok(all.iter().map(|profile| format!("{:width$}  {}\n", profile.name, profile.about)).collect())
}

/// A profile, its rules with those that it has from others, and what all of these do not imitate.
fn whole(name: &str) -> Result<(Profile, Vec<Rule>, Vec<String>), Refusal> {
    let mut line = profiles::line_of(name)?;
    let not_imitated = line.iter().flat_map(|profile| profile.not_imitated.clone()).collect();
    Ok((line.swap_remove(0), profiles::rules_of(name)?, not_imitated))
}

fn one(name: &str, args: &ProfilesArgs) -> Result<String, Refusal> {
    let (profile, rules, not_imitated) = whole(name)?;
    if args.json {
        return Ok(format!("{:#}", as_json(&profile, &rules, &not_imitated)));
    }
    if args.toml {
        return Ok(as_toml(&profile, &rules, &not_imitated));
    }
    let mut text = format!("{}: {}\n", profile.name, profile.about);
    if let Some(other) = &profile.extends {
        let _ = writeln!(text, "Extends {other}.");
    }
    for rule in &rules {
        let _ = write!(text, "\n{} = {}\n  {}.\n", rule.knob.flag(), rule.value, rule.knob.summary());
        let how = if rule.measured { "Measured; " } else { "From: " };
        if let Some(source) = &rule.source {
            let _ = writeln!(text, "  {how}{source}");
        }
    }
    if !not_imitated.is_empty() {
        text += "\nNot imitated:\n";
        not_imitated.iter().for_each(|what| text += &format!("- {what}\n"));
    }
    Ok(text)
}

fn as_json(profile: &Profile, rules: &[Rule], not_imitated: &[String]) -> Value {
    let rule = |rule: &Rule| {
        json!({
            "knob": rule.knob.flag(), "value": rule.value, "meaning": rule.knob.summary(),
            "source": rule.source, "measured": rule.measured,
        })
    };
    json!({
        "name": profile.name, "about": profile.about, "extends": profile.extends,
        "rules": rules.iter().map(rule).collect::<Vec<_>>(), "not_imitated": not_imitated,
    })
}

fn as_toml(profile: &Profile, rules: &[Rule], not_imitated: &[String]) -> String {
    // JSON's strings are strings of TOML, too.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut toml = format!("about = {}\n", quoted(&profile.about));
    if let Some(dialect) = profiles::dialect_of(&profile.name) {
        let _ = writeln!(toml, "options = {}", quoted(&dialect));
    }
    if !not_imitated.is_empty() {
        let items: Vec<_> = not_imitated.iter().map(|what| format!("    {},\n", quoted(what))).collect();
        let _ = writeln!(toml, "not_imitated = [\n{}]", items.concat());
    }
    toml += "\n[rules]\n";
    for rule in rules {
        let source = rule.source.as_deref().map(|source| format!(", source = {}", quoted(source)));
        let measured = if rule.measured { ", measured = true" } else { "" };
        let (flag, value, source) = (rule.knob.flag(), quoted(&rule.value), source.unwrap_or_default());
        let _ = writeln!(toml, "{flag} = {{ is = {value}{source}{measured} }}");
    }
    toml
}

fn difference(name: &str, other: &str, as_json: bool) -> Result<String, Refusal> {
    let (one, two) = (profiles::knobs_of(name, "", 1.0)?, profiles::knobs_of(other, "", 1.0)?);
    let pairs = one.pairs().into_iter().zip(two.pairs());
    let rows: Vec<(String, String, String)> = pairs
        .filter(|((knob, one), (_, two))| *knob != "profile" && one != two)
        .map(|((knob, one), (_, two))| (knob.replace('_', "-"), one, two))
        .collect();
    if as_json {
        let rows: Vec<Value> =
            rows.iter().map(|(knob, one, two)| json!({ "knob": knob, name: one, other: two })).collect();
        return Ok(format!("{:#}", Value::from(rows)));
    }
    if rows.is_empty() {
        return Ok(format!("{name} and {other} do not differ\n"));
    }
    let titles = (String::new(), name.to_string(), other.to_string());
    let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
    let width = |of: fn(&(String, String, String)) -> &String| rows.iter().map(of).map(String::len).max();
    let (first, second) = (width(|row| &row.0).unwrap_or(0), width(|row| &row.1).unwrap_or(0));
    let line = |(knob, one, two): &(String, String, String)| format!("{knob:first$}  {one:second$}  {two}\n");
    Ok(rows.iter().map(line).collect())
}
