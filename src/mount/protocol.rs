//! What is said on a control socket: one JSON object a line, one answer for each request. `docs/control.md` tells it to
//! other languages.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    client::{Farewell, Status},
    error::Refusal,
    event::OneLine,
    knobs::{Knobs, parse_span},
};

/// The longest request that is read.
pub const LONGEST_REQUEST: usize = 64 << 10;

/// The longest answer, its end included: nobody needs to read more.
pub const LONGEST_ANSWER: usize = 4 << 20;

/// How much of it lists of names may take. What else is in an answer is a few paths and numbers.
const ROOM_FOR_NAMES: usize = 3 << 20;

/// How many changes an answer names at most; the log names all.
const MOST_NAMED: usize = 1000;

/// What a client can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Tell about itself.
    Status,
    /// Change these knobs.
    Set(BTreeMap<String, String>),
    /// Land nothing by its being due.
    Hold,
    /// Land what is due again.
    Release,
    /// Land everything now.
    Flush,
    /// Drop all beliefs.
    Expire,
    /// Drop what is in flight.
    Lose,
    /// Move the clock.
    Advance(Duration),
    /// Say how it all ended, when it has.
    Farewell,
}

const VERBS: &str = "status, set, hold, release, flush, expire, lose, advance, farewell";

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// Says in one line what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Request, Refusal> {
        let wrong = |error| Refusal::new(format!("a request is one JSON object on one line: {error}"));
        let mut object: Map<String, Value> = serde_json::from_slice(line).map_err(wrong)?;
        let verb = match object.remove("do") {
            Some(Value::String(verb)) => verb,
            _ => return Err(Refusal::new(format!("`do` must be one of {VERBS}"))),
        };
        let request = match verb.as_str() {
            "status" => Request::Status,
            "set" => Request::Set(knobs_of(object.remove("knobs"))?),
            "hold" => Request::Hold,
            "release" => Request::Release,
            "flush" => Request::Flush,
            "expire" => Request::Expire,
            "lose" => Request::Lose,
            "advance" => Request::Advance(span_of(object.remove("by"), object.remove("by_ns"))?),
            "farewell" => Request::Farewell,
            _ => return Err(Refusal::new(format!("`{verb}` is not a request; there are {VERBS}"))),
        };
        match object.keys().next() {
            Some(key) => Err(Refusal::new(format!("`{verb}` takes no `{key}`"))),
            None => Ok(request),
        }
    }

    /// Whether the answer may take long although nothing is wrong: it comes when changes have landed.
    pub fn may_last(&self) -> bool {
        matches!(
            self,
            Request::Hold | Request::Release | Request::Flush | Request::Lose | Request::Advance(_)
        )
    }

    /// The line that asks for it, without its end.
    pub fn line(&self) -> String {
        let verb = |verb: &str| json!({ "do": verb });
        let line = match self {
            Request::Status => verb("status"),
            Request::Set(knobs) => json!({ "do": "set", "knobs": knobs }),
            Request::Hold => verb("hold"),
            Request::Release => verb("release"),
            Request::Flush => verb("flush"),
            Request::Expire => verb("expire"),
            Request::Lose => verb("lose"),
            Request::Advance(by) => json!({ "do": "advance", "by_ns": nanos(*by) }),
            Request::Farewell => verb("farewell"),
        };
        line.to_string()
    }
}

fn knobs_of(given: Option<Value>) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(Value::Object(knobs)) = given else {
        return Err(Refusal::new(r#"`set` takes knobs: {"do":"set","knobs":{"write_delay":"200ms"}}"#));
    };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        _ => Err(Refusal::new(format!("{name}: the value of a knob is a string, a number, true or false"))),
    };
    knobs.into_iter().map(text).collect()
}

fn span_of(by: Option<Value>, by_ns: Option<Value>) -> Result<Duration, Refusal> {
    let wrong =
        || Refusal::new("`advance` takes `by`, such as \"1.5s\" or a number of ms, or a whole `by_ns`");
    match (by, by_ns) {
        (Some(Value::String(text)), None) => parse_span(&text),
        (Some(number @ Value::Number(_)), None) => parse_span(&number.to_string()),
        (None, Some(Value::Number(nanos))) => nanos.as_u64().map(Duration::from_nanos).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// Nanoseconds as a number that JSON carries; more than there can be is as many as there can be.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What a client answers, as far as the request asks for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the client tells about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// The knobs in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knobs: Option<Knobs>,
    /// How many mutations landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<u64>,
    /// After an advance: how long until the next mutation is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_ns: Option<u64>,
    /// How many mutations were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// The first thousand of them: path and operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// The client has ended, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<LastWords>,
}

/// How a client ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// How many mutations landed late in all.
    pub landed: u64,
    /// How many conflicts that met.
    pub conflicts: u64,
    /// How many faults were injected.
    pub faults: u64,
    /// What could not land, one line a path.
    pub lost: Vec<String>,
    /// How many changes that is.
    #[serde(default)]
    pub lost_changes: u64,
    /// What others have made impossible or invisible, one line a path.
    #[serde(default)]
    pub overtaken: Vec<String>,
}

impl Answer {
    /// It is done.
    pub fn done() -> Answer {
        Answer { ok: true, ..Answer::default() }
    }

    /// It is not.
    pub fn refused(refusal: &Refusal) -> Answer {
        let text = OneLine(&refusal.to_string()).to_string();
        let error = match length_of(&text) <= ROOM_FOR_NAMES {
            true => text,
            // No character takes more than six bytes.
            false => {
                text.chars().take(ROOM_FOR_NAMES / 6).chain("... and more, in the log".chars()).collect()
            }
        };
        Answer { error: Some(error), ..Answer::default() }
    }

    /// What the client tells about itself.
    pub fn told(mut status: Status) -> Answer {
        let mut room = ROOM_FOR_NAMES;
        let latest = status.lost_latest.iter().rev();
        let fitting = latest.take_while(|line| take_room(&mut room, line)).count();
        status.lost_latest.drain(..status.lost_latest.len() - fitting);
        Answer { status: Some(Box::new(status)), ..Answer::done() }
    }

    /// These were dropped.
    pub fn dropped(mut paths: Vec<String>) -> Answer {
        let dropped = Some(paths.len() as u64);
        let mut room = ROOM_FOR_NAMES;
        paths.truncate(MOST_NAMED);
        paths.truncate(paths.iter().take_while(|path| take_room(&mut room, path)).count());
        Answer { dropped, paths: Some(paths), ..Answer::done() }
    }

    /// The client has ended.
    pub fn farewell(farewell: &Farewell) -> Answer {
        let Farewell { landed, conflicts, faults, lost, lost_changes, overtaken } = farewell.clone();
        let mut room = ROOM_FOR_NAMES;
        let [lost, overtaken] = [lost, overtaken].map(|lines| cut_short(lines, &mut room));
        let words = LastWords { landed, conflicts, faults, lost, lost_changes, overtaken };
        Answer { farewell: Some(words), ..Answer::done() }
    }

    /// The line that says it, with its end.
    pub fn line(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_else(|error| {
            json!({ "ok": false, "error": format!("no answer can be written: {error}") }).to_string()
        });
        text + "\n"
    }
}

/// Whether a text fits into the room that is left, which it takes then.
fn take_room(room: &mut usize, text: &str) -> bool {
    let left = room.checked_sub(length_of(text));
    *room = left.unwrap_or(0);
    left.is_some()
}

/// As many lines as there is room for; the last one says how many are missing.
fn cut_short(mut lines: Vec<String>, room: &mut usize) -> Vec<String> {
    let fitting = lines.iter().take_while(|line| take_room(room, line)).count();
    let more = lines.len() - fitting;
    lines.truncate(fitting);
    lines.extend((more > 0).then(|| format!("and {more} more, in the log")));
    lines
}

/// How long a text is as JSON, with the comma behind it.
fn length_of(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len() + 1)
}

impl From<LastWords> for Farewell {
    fn from(words: LastWords) -> Farewell {
        let LastWords { landed, conflicts, faults, lost, lost_changes, overtaken } = words;
        Farewell { landed, conflicts, faults, lost, lost_changes, overtaken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.as_bytes()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn every_request_is_read_as_it_is_written() {
        let knobs = [("write_delay".to_string(), "200ms".to_string())].into();
        for request in [
            Request::Status,
            Request::Set(knobs),
            Request::Hold,
            Request::Release,
            Request::Flush,
            Request::Expire,
            Request::Lose,
            Request::Advance(Duration::from_nanos(1_500_000_001)),
            Request::Farewell,
        ] {
            assert_eq!(parse(&request.line()), Ok(request));
        }
    }

    #[test]
    fn spans_and_knobs_are_written_as_people_write_them() {
        assert_eq!(
            parse(r#"{"do":"advance","by":"1.5s"}"#),
            Ok(Request::Advance(Duration::from_millis(1500)))
        );
        assert_eq!(parse(r#"{"do":"advance","by":20}"#), Ok(Request::Advance(Duration::from_millis(20))));
        let Ok(Request::Set(knobs)) =
            parse(r#"{"do":"set","knobs":{"meta_ttl":5,"read_your_writes":false}}"#)
        else {
            panic!("it is a request")
        };
        assert_eq!(knobs.into_values().collect::<Vec<_>>(), ["5", "false"]);
    }

    #[test]
    fn a_wrong_request_is_refused_in_one_line() {
        for (line, reason) in [
            ("", "a request is one JSON object on one line: "),
            ("nonsense", "a request is one JSON object on one line: "),
            ("[1]", "a request is one JSON object on one line: "),
            (r#"{"do":"status""#, "a request is one JSON object on one line: "),
            (r#"{"do":"status"} {"do":"hold"}"#, "a request is one JSON object on one line: "),
            ("{}", "`do` must be one of "),
            (r#"{"do":7}"#, "`do` must be one of "),
            (r#"{"do":"fly"}"#, "`fly` is not a request; there are "),
            (r#"{"do":"hold","now":true}"#, "`hold` takes no `now`"),
            (r#"{"do":"set"}"#, "`set` takes knobs"),
            (r#"{"do":"set","knobs":{"meta_ttl":[]}}"#, "meta_ttl: the value of a knob is a string"),
            (r#"{"do":"advance"}"#, "`advance` takes `by`"),
            (r#"{"do":"advance","by":"soon"}"#, "`soon` is not a span of time"),
            (r#"{"do":"advance","by":"1s","by_ns":1}"#, "`advance` takes `by`"),
            (r#"{"do":"advance","by_ns":-1}"#, "`advance` takes `by`"),
        ] {
            let refusal = parse(line).unwrap_err();
            assert!(refusal.starts_with(reason) && !refusal.contains('\n'), "{line}: {refusal}");
        }
        assert!(Request::parse(b"{\"do\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_answer_is_one_line_and_a_torn_one_is_none() {
        let lost = vec!["/a\nb: No space left on device".to_string()];
        let line =
            Answer::farewell(&Farewell { landed: 7, lost: lost.clone(), ..Farewell::default() }).line();
        assert_eq!(line.matches('\n').count(), 1);
        let heard: Answer = serde_json::from_str(&line).unwrap();
        assert_eq!(Farewell::from(heard.farewell.unwrap()).lost, lost);
        for end in 0..line.len() - 1 {
            assert!(serde_json::from_str::<Answer>(&line[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn no_answer_is_longer_than_anybody_reads() {
        // Every character of it takes six.
        let lines = vec!["\u{1b}".repeat(300_000); 20];
        let all = lines.concat();
        let farewell = Farewell { lost: lines.clone(), overtaken: lines.clone(), ..Farewell::default() };
        let answers =
            [Answer::dropped(lines), Answer::farewell(&farewell), Answer::refused(&Refusal::new(all))];
        for answer in &answers {
            assert!(answer.line().len() <= LONGEST_ANSWER, "{}", answer.line().len());
        }
        let words = answers[1].farewell.clone().unwrap();
        assert_eq!((words.lost.len(), words.overtaken.len()), (2, 1));
        assert_eq!(
            (words.lost[1].as_str(), words.overtaken[0].as_str()),
            ("and 19 more, in the log", "and 20 more, in the log")
        );
        assert!(answers[2].error.as_ref().unwrap().ends_with("... and more, in the log"));
    }

    #[test]
    fn of_very_many_dropped_changes_some_are_named() {
        let answer = Answer::dropped(vec![String::new(); 5000]);
        assert_eq!((answer.dropped, answer.paths.unwrap().len()), (Some(5000), MOST_NAMED));
    }
}
