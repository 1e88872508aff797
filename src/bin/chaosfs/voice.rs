//! What this command says to people: the only place that writes to standard output and standard error, but for what the
//! commands of a run write themselves.
//!
//! Names that programs have chosen, and whatever a client of another user answers, may hold anything: nothing of it moves
//! the cursor, changes a title or looks like a line of ours.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use chaosfs::event::{OneLine, Printable, is_unseen};

/// Says what went wrong, in one line; if nobody listens any more, that is no reason to fail.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "chaosfs: {}", OneLine(line));
}

/// The same in several lines, each of which the caller has put together of [`OneLine`]s.
pub fn complain_at_length(lines: &str) {
    let _ = writeln!(io::stderr(), "chaosfs: {}", Printable(lines));
}

/// If this process is aborted, as for want of memory, says this and how many changes were in flight: that takes no memory.
pub fn leave_last_words(line: &str) {
    if let Ok(screen) = io::stderr().as_fd().try_clone_to_owned() {
        chaosfs::client::leave_last_words(screen, line);
    }
}

/// Says what was done, in one line: it is done, whether or not anybody still reads along.
pub fn say(line: &str, quiet: bool) {
    if !quiet {
        let _ = writeln!(io::stdout(), "{}", OneLine(line));
    }
}

/// The same in several lines, each of which the caller has put together of [`OneLine`]s.
pub fn say_at_length(lines: &str, quiet: bool) {
    if !quiet {
        let _ = writeln!(io::stdout(), "{}", Printable(lines));
    }
}

/// Shows a table or a block of such lines after a blank line or a cleared screen; whether anybody still reads along.
pub fn show(before: &str, lines: &str) -> bool {
    write!(io::stdout(), "{before}{}", Printable(lines)).and_then(|()| io::stdout().flush()).is_ok()
}

/// Shows JSON, one value a line; whether anybody still reads along.
pub fn show_json(before: &str, values: &[String]) -> bool {
    let text: String = values.iter().map(|value| seen(value) + "\n").collect();
    write!(io::stdout(), "{before}{text}").and_then(|()| io::stdout().flush()).is_ok()
}

/// JSON with `\u` escapes for what a terminal might not show as it is.
fn seen(json: &str) -> String {
    let mut halves = [0; 2];
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unseen(c) {
            c.encode_utf16(&mut halves).iter().for_each(|half| text.push_str(&format!("\\u{half:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn json_stays_the_same_value() {
        let value = Value::String("é\u{9b}\u{e0001}\u{2028}\x7f\x1b\n".to_string());
        let text = seen(&value.to_string());
        assert!(!text.chars().any(is_unseen), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
