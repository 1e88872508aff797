//! One thing that happened, as one line of stable `key=value` pairs; and the log of them.

use std::{
    fmt::{self, Write as _},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    clock::Clock,
    error::{Error, Refusal},
    operation::Operation,
    time::Time,
};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only wanted when every operation is (`--debug`).
    Debug,
    /// Part of a normal run.
    Info,
    /// Something acknowledged did not come out as a program was told.
    Warn,
    /// Something acknowledged is lost, or the client cannot go on.
    Error,
}

/// One thing that happened on one client.
#[expect(
    missing_docs,
    reason = "the fields are the keys of the line, and each variant says what is special about them"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The client serves. `knobs` is every knob in force as `name=value` pairs; `clock` is `real` or `manual`.
    Start {
        backing: String,
        mountpoint: String,
        seed: u64,
        knobs: String,
        clock: &'static str,
        kernel_cache: bool,
        version: &'static str,
    },
    /// The client has left: what it landed in all and what it could not.
    Stop { landed: u64, conflicts: u64, faults: u64, lost: u64 },
    /// A fault was injected: the `nth` draw (from 0) of this operation on this path.
    Fault { operation: Operation, path: String, nth: u64, error: String },
    /// The store had changed under a mutation in flight. `ours` and `theirs` are the two sides, `outcome` what
    /// was done about it.
    Conflict { mutation: &'static str, path: String, ours: String, theirs: String, outcome: &'static str },
    /// A mutation met a passing failure and stays in flight.
    LandingDelayed { mutation: &'static str, path: String, error: String },
    /// A mutation can never land: what it would have changed is lost.
    Lost { mutation: &'static str, path: String, error: String },
    /// A change was acknowledged and is in flight; it lands when it is `due`.
    Acknowledged { id: u64, mutation: &'static str, path: String, due: Time },
    /// The mutation that was acknowledged with this number landed.
    Landed { id: u64, mutation: &'static str, path: String, late_us: u64 },
    /// An operation was answered. `source` says where from, `age_us` how old that was, and `until` when it will be asked for
    /// anew; none if nothing of it is believed.
    Answered {
        operation: Operation,
        path: String,
        outcome: String,
        source: &'static str,
        age_us: u64,
        until: Option<Time>,
    },
    /// Knobs have been changed while the client runs: those that differ now, as `name=value` pairs.
    Set { knobs: String },
    /// From here on nothing lands by being due.
    Hold,
    /// What is due lands again.
    Release,
    /// All that was in flight was to land at once: what did, and what could not.
    Flush { landed: u64, stuck: u64 },
    /// All beliefs have been dropped.
    Expire,
    /// What was in flight has been dropped, as if the host had crashed: how many mutations, named before this.
    Lose { dropped: u64 },
    /// The clock was moved by hand, and what became due has landed.
    Advance { by_us: u64, landed: u64 },
    /// Something that a person should know and that fits nowhere else.
    Note { text: String },
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Event::Acknowledged { .. } | Event::Landed { .. } => Level::Debug,
            Event::Answered { .. } | Event::Advance { .. } => Level::Debug,
            Event::Start { .. } | Event::Stop { .. } | Event::Fault { .. } | Event::Note { .. } => {
                Level::Info
            }
            Event::Set { .. } | Event::Hold | Event::Release | Event::Flush { .. } | Event::Expire => {
                Level::Info
            }
            Event::Lose { .. } => Level::Warn,
            Event::Conflict { .. } | Event::LandingDelayed { .. } => Level::Warn,
            Event::Lost { .. } => Level::Error,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Start { backing, mountpoint, seed, knobs, clock, kernel_cache, version } => write!(
                f,
                "event=start version={version} backing={} mountpoint={} seed={seed} {knobs} clock={clock} kernel_cache={kernel_cache}",
                Quoted(backing),
                Quoted(mountpoint)
            ),
            Event::Stop { landed, conflicts, faults, lost } => {
                write!(f, "event=stop landed={landed} conflicts={conflicts} faults={faults} lost={lost}")
            }
            Event::Fault { operation, path, nth, error } => {
                write!(f, "event=fault op={operation} path={} nth={nth} error={error}", Quoted(path))
            }
            Event::Conflict { mutation, path, ours, theirs, outcome } => write!(
                f,
                "event=conflict mutation={mutation} path={} ours={} theirs={} outcome={outcome}",
                Quoted(path),
                Quoted(ours),
                Quoted(theirs)
            ),
            Event::LandingDelayed { mutation, path, error } => {
                write!(f, "event=landing-delayed mutation={mutation} path={} error={error}", Quoted(path))
            }
            Event::Lost { mutation, path, error } => {
                write!(f, "event=lost mutation={mutation} path={} error={error}", Quoted(path))
            }
            Event::Acknowledged { id, mutation, path, due } => {
                write!(f, "event=acknowledged mutation={mutation} path={} id={id} due={due}", Quoted(path))
            }
            Event::Landed { id, mutation, path, late_us } => {
                write!(f, "event=landed mutation={mutation} path={} id={id} late_us={late_us}", Quoted(path))
            }
            Event::Answered { operation, path, outcome, source, age_us, until } => {
                let path = Quoted(path);
                write!(
                    f,
                    "event=operation op={operation} path={path} outcome={outcome} source={source} age_us={age_us}"
                )?;
                until.map_or(Ok(()), |until| write!(f, " until={until}"))
            }
            Event::Set { knobs } => write!(f, "event=set {knobs}"),
            Event::Hold => f.write_str("event=hold"),
            Event::Release => f.write_str("event=release"),
            Event::Flush { landed, stuck } => write!(f, "event=flush landed={landed} stuck={stuck}"),
            Event::Expire => f.write_str("event=expire"),
            Event::Lose { dropped } => write!(f, "event=lose dropped={dropped}"),
            Event::Advance { by_us, landed } => write!(f, "event=advance by_us={by_us} landed={landed}"),
            Event::Note { text } => write!(f, "event=note text={}", Quoted(text)),
        }
    }
}

/// A value that is written bare when it is one plain word and quoted with escapes otherwise: always on one line.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "/._-+:@,%#~".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

/// Text for a terminal: what would not be shown as it is, such as an escape sequence or a change of direction, is shown
/// as an escape. Lines stay lines.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_printable(self.0, |c| c == '\n', f)
    }
}

/// The same on one line, whatever it is: a name, a path, what another process says.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_printable(self.0, |_| false, f)
    }
}

fn write_printable(text: &str, is_kept: fn(char) -> bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| {
        if is_kept(c) || !is_unseen(c) { f.write_char(c) } else { write!(f, "{}", c.escape_unicode()) }
    })
}

/// Whether a character is no picture of its own: a control character, or one that hides or turns what is beside it.
pub fn is_unseen(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    c.is_control() || is_format
}

/// Bytes of a name or path as text for an event: UTF-8 as it is, other bytes as `\xNN`.
pub fn readable(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::with_capacity(bytes.len()), |mut text, chunk| {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
        text
    })
}

impl Level {
    /// As a line of the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Where the lines of a log can be read.
#[derive(Clone, Debug)]
enum Place {
    Nowhere,
    /// Wherever this process's `tracing` events go.
    Tracing,
    /// The program that made the log knows.
    Program,
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Nowhere => f.write_str("none"),
            Place::Tracing if tracing::dispatcher::has_been_set() => f.write_str("tracing events"),
            Place::Tracing => f.write_str("none, as there is no tracing subscriber"),
            Place::Program => f.write_str("the program's own"),
            Place::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A number of bytes as people read it: `17 bytes`, `1.5 MiB`.
pub fn readable_size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    let Some(last) = (bytes / 1024).checked_ilog2().map(|bits| (bits as usize / 10).min(UNITS.len() - 1))
    else {
        return if bytes == 1 { "1 byte".to_string() } else { format!("{bytes} bytes") };
    };
    let amount = format!("{:.1}", bytes as f64 / 1024_f64.powi(last as i32 + 1));
    format!("{} {}", amount.trim_end_matches(".0"), UNITS[last])
}

/// One event, when it happened and on which client. As text it is a line of the log without the wall clock's time and the
/// level.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The client's time.
    pub at: Time,
    /// The client's name.
    pub client: &'a str,
    /// What happened.
    pub event: &'a Event,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client={} t={} {}", Quoted(self.client), self.at, self.event)
    }
}

/// Takes what happens, in the order of its times.
pub type Sink = Arc<dyn Fn(&Record<'_>) + Send + Sync>;

/// The log of one client. Clones write to the same place.
#[derive(Clone)]
pub struct EventLog {
    client: Arc<str>,
    operations: bool,
    sink: Sink,
    place: Place,
    /// One line at a time, from the look at the clock on.
    turn: Arc<Mutex<()>>,
}

impl EventLog {
    /// A log of `client` that hands each event to `sink`; with `operations` also those of level debug.
    pub fn new(client: &str, operations: bool, sink: Sink) -> EventLog {
        EventLog { client: client.into(), operations, sink, place: Place::Program, turn: Arc::default() }
    }

    /// A log that is appended to a file; the folders above it are made. Every line is one write of its own and with the
    /// system when the event is over: it survives whatever kills the process.
    ///
    /// # Errors
    /// Names the file and what the system said.
    pub fn to_file(path: &Path, client: &str, operations: bool) -> Result<EventLog, Refusal> {
        let file = open_for_appending(path)?;
        let sink = move |record: &Record<'_>| {
            let level = record.event.level().name();
            let line = format!("time={} level={level} {record}\n", Clock::Monotonic.wall());
            // A full disk takes the log, not the client.
            let _ = (&file).write_all(line.as_bytes());
        };
        let log = EventLog::new(client, operations, Arc::new(sink));
        Ok(EventLog { place: Place::File(path.to_path_buf()), ..log })
    }

    /// A log whose lines become `tracing` events of this process.
    pub fn to_tracing(client: &str, operations: bool) -> EventLog {
        let sink = |record: &Record<'_>| match record.event.level() {
            Level::Debug => tracing::debug!("{record}"),
            Level::Info => tracing::info!("{record}"),
            Level::Warn => tracing::warn!("{record}"),
            Level::Error => tracing::error!("{record}"),
        };
        EventLog { place: Place::Tracing, ..EventLog::new(client, operations, Arc::new(sink)) }
    }

    /// A log that forgets everything.
    pub fn silent() -> EventLog {
        EventLog { place: Place::Nowhere, ..EventLog::new("client", false, Arc::new(|_| {})) }
    }

    /// Where its lines can be read, in words.
    pub(crate) fn place(&self) -> impl fmt::Display {
        &self.place
    }

    /// Whether events of level debug are wanted; ask before the cost of making one.
    pub(crate) fn wants_operations(&self) -> bool {
        self.operations
    }

    /// Writes one event that happens now. Lines are in the order of their times.
    pub(crate) fn record(&self, clock: &Clock, event: &Event) {
        if event.level() > Level::Debug || self.operations {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            (self.sink)(&Record { at: clock.now(), client: &self.client, event });
        }
    }
}

/// Opens a log file and makes the folders above it.
///
/// # Errors
/// Names the file and what the system said.
pub fn open_for_appending(path: &Path) -> Result<File, Refusal> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let file = folder.and_then(|()| File::options().create(true).append(true).open(path));
    file.map_err(|error| {
        let reason = Error::from(error);
        Refusal::new(format!("cannot append to {}: {reason}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_key_value_and_odd_values_are_quoted() {
        let event =
            Event::Fault { operation: Operation::Write, path: "/a b".into(), nth: 3, error: "EIO".into() };
        assert_eq!(event.to_string(), r#"event=fault op=write path="/a b" nth=3 error=EIO"#);
        assert_eq!(readable(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn nothing_that_is_printed_moves_the_cursor_or_begins_a_line() {
        let text = "é 😀\\\"\u{1b}[2K\u{9b}1m\r\u{202e}\u{2028}\n\tb";
        let one_line = r#"é 😀\"\u{1b}[2K\u{9b}1m\u{d}\u{202e}\u{2028}\u{a}\u{9}b"#;
        assert_eq!(OneLine(text).to_string(), one_line);
        assert_eq!(Printable(text).to_string(), one_line.replace("\\u{a}", "\n"));
    }

    #[test]
    fn sizes_are_written_as_people_read_them() {
        let sizes = [0, 1, 1023, 1024, 1536, 2 << 20, 5 << 30, 3 << 40].map(readable_size);
        assert_eq!(
            sizes,
            ["0 bytes", "1 byte", "1023 bytes", "1 KiB", "1.5 KiB", "2 MiB", "5 GiB", "3072 GiB"]
        );
    }

    #[test]
    fn operations_are_written_only_when_wanted() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let sink: Sink = Arc::new(move |record| sink.lock().unwrap().push(record.to_string()));
        let landed = Event::Landed { id: 7, mutation: "write", path: "/f".into(), late_us: 1 };
        let clock = Clock::manual();
        EventLog::new("a", false, sink.clone()).record(&clock, &landed);
        clock.advance(Duration::from_millis(500));
        EventLog::new("a", true, sink).record(&clock, &landed);
        assert_eq!(
            *lines.lock().unwrap(),
            ["client=a t=1.500000 event=landed mutation=write path=/f id=7 late_us=1"]
        );
    }
}
