//! Knobs as JSON has them: counts and probabilities as numbers, switches as booleans, and times as texts with their unit,
//! since a bare number would not say it, and a delay may be a range.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Knobs, Span};

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Switch(bool),
    Whole(u64),
    Number(f64),
    Text(String),
}

impl Value {
    /// As [`Knobs::set`] takes it.
    fn text(&self) -> String {
        match self {
            Value::Switch(on) => on.to_string(),
            Value::Whole(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        }
    }
}

impl Serialize for Knobs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let values = [
            Value::Text(Span(self.meta_ttl).to_string()),
            Value::Text(self.write_delay.to_string()),
            Value::Text(self.rename_delay.to_string()),
            Value::Number(self.drop_prob),
            Value::Switch(self.read_your_writes),
            Value::Whole(self.max_in_flight),
            Value::Whole(self.max_mutations as u64),
            Value::Whole(self.max_belief),
        ];
        to.collect_map(Knobs::NAMES.into_iter().zip(values))
    }
}

impl<'de> Deserialize<'de> for Knobs {
    /// What it does not know is of another version, and ignored; what is not there has its default.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Knobs, D::Error> {
        let mut knobs = Knobs::default();
        for (name, value) in BTreeMap::<String, Value>::deserialize(from)? {
            if Knobs::NAMES.contains(&name.as_str()) {
                knobs.set(&name, &value.text()).map_err(serde::de::Error::custom)?;
            }
        }
        Ok(knobs)
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
        let written = serde_json::to_string(&knobs).unwrap();
        assert_eq!(
            written,
            r#"{"meta_ttl":"1500ms","write_delay":"250us..2000ms","rename_delay":"1200ms","drop_prob":0.125,"read_your_writes":false,"max_in_flight":268435456,"max_mutations":7,"max_belief":67108864}"#
        );
        assert_eq!(serde_json::from_str::<Knobs>(&written).unwrap(), knobs);
        let older = r#"{"drop_prob":"0.125","read_your_writes":"false","speed":1}"#;
        let expected = Knobs { drop_prob: 0.125, read_your_writes: false, ..Knobs::default() };
        assert_eq!(serde_json::from_str::<Knobs>(older).unwrap(), expected);
    }
}
