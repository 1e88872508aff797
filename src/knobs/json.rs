//! Knobs as JSON has them: counts and probabilities as numbers, switches as booleans, and times as texts with their unit,
//! since a bare number would not say it, and a delay may be a range. One that follows another has the name of that other.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Kind, Knob, Knobs, Tunable};

/// A value as JSON has it, and the TOML of a profile, where times may also be whole milliseconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Value {
    Switch(bool),
    Whole(u64),
    Number(f64),
    Text(String),
}

impl Value {
    fn of<K>(knob: &Knob<K>, knobs: &K) -> Value {
        let text = knob.value(knobs);
        let value = match knob.kind {
            Kind::Span | Kind::Delay | Kind::Choice(_) | Kind::Set(_) | Kind::Text => None,
            Kind::Switch => text.parse().ok().map(Value::Switch),
            Kind::Bytes | Kind::Count => text.parse().ok().map(Value::Whole),
            Kind::Probability | Kind::Factor => text.parse().ok().map(Value::Number),
        };
        value.unwrap_or(Value::Text(text))
    }

    /// As [`Knobs::set`] takes it.
    pub(super) fn text(&self) -> String {
        match self {
            Value::Switch(on) => on.to_string(),
            Value::Whole(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        }
    }
}

/// Writes any knobs, for [`Knobs`] and for tests with others.
pub fn write<K: Tunable, S: Serializer>(knobs: &K, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(K::TABLE.iter().map(|knob| (knob.name, Value::of(knob, knobs))))
}

/// Reads any knobs. What it does not know is of another version, and ignored; what is not there has its default.
pub fn read<'de, K: Tunable, D: Deserializer<'de>>(from: D) -> Result<K, D::Error> {
    let mut knobs = K::default();
    for (name, value) in BTreeMap::<String, Value>::deserialize(from)? {
        if let Ok(knob) = K::knob(&name) {
            let wrong = |refusal| serde::de::Error::custom(format!("{name}: {refusal}"));
            knob.assign(&mut knobs, &value.text()).map_err(wrong)?;
        }
    }
    Ok(knobs)
}

impl Serialize for Knobs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        write(self, to)
    }
}

impl<'de> Deserialize<'de> for Knobs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Knobs, D::Error> {
        read(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_read_as_they_are_written_and_texts_of_older_versions_too() {
        let mut knobs =
            Knobs { drop_prob: 0.125, read_your_writes: false, max_mutations: 7, ..Knobs::default() };
        knobs.set("write_delay", "250us..2s").unwrap();
        knobs.set("absent_ttl", "0").unwrap();
        let written = serde_json::to_string(&knobs).unwrap();
        for part in [
            r#"{"profile":"eventual","time_scale":1.0,"options":"","explore":false,"meta_ttl":"1500ms","attr_ttl":"meta_ttl","#,
            r#","absent_ttl":"0ms","list_ttl":"meta_ttl","write_delay":"250us..2000ms","resize_delay":"write_delay","#,
            r#","names_by":"time","#,
            r#","drop_prob":0.125,"read_your_writes":false,"max_in_flight":268435456,"max_mutations":7,"#,
        ] {
            assert!(written.contains(part), "no {part} in {written}");
        }
        assert_eq!(serde_json::from_str::<Knobs>(&written).unwrap(), knobs);
        let older = r#"{"drop_prob":"0.125","read_your_writes":"false","speed":1}"#;
        let expected = Knobs { drop_prob: 0.125, read_your_writes: false, ..Knobs::default() };
        assert_eq!(serde_json::from_str::<Knobs>(older).unwrap(), expected);
    }
}
