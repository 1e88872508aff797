//! The client side of a connection to a control socket. Nothing here waits longer than it is told to.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::protocol::{Answer, Request};
use crate::{client::Status, event::readable_size};

/// How long a daemon may take to accept a connection, to take a request, and to tell about itself: it holds no lock long,
/// so one that takes longer is stopped or hangs.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a wait lasts before a person is told what for.
pub const SILENCE: Duration = Duration::from_secs(2);

/// One connection.
#[derive(Debug)]
pub struct Dialogue {
    answers: BufReader<UnixStream>,
    /// What has come of the next line.
    line: Vec<u8>,
}

/// What came of listening.
#[derive(Debug)]
pub enum Heard {
    /// A line that makes sense.
    Answer(Box<Answer>),
    /// Nothing yet.
    Silence,
    /// The other side has hung up, or what it says makes no sense.
    End,
}

impl Dialogue {
    pub fn new(stream: UnixStream) -> Dialogue {
        let _ = stream.set_write_timeout(Some(PATIENCE));
        Dialogue { answers: BufReader::new(stream), line: Vec::new() }
    }

    /// Sends a request. A daemon that turns a connection away takes none, and yet says why: whether it was taken shows in
    /// what is heard.
    pub fn say(&mut self, request: &Request) {
        let _ = self.answers.get_mut().write_all((request.line() + "\n").as_bytes());
    }

    /// The next line, if it comes in time.
    pub fn hear(&mut self, patience: Duration) -> Heard {
        // No time at all would mean for ever.
        let _ = self.answers.get_ref().set_read_timeout(Some(patience.max(Duration::from_millis(1))));
        match self.answers.read_until(b'\n', &mut self.line) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Silence,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Heard::Silence,
            _ => {
                let answer = serde_json::from_slice(&std::mem::take(&mut self.line));
                answer.map_or(Heard::End, |answer| Heard::Answer(Box::new(answer)))
            }
        }
    }

    /// What the client tells about itself.
    pub fn status(&mut self) -> Option<Status> {
        self.say(&Request::Status);
        match self.hear(PATIENCE) {
            Heard::Answer(answer) => answer.status.map(|status| *status),
            Heard::Silence | Heard::End => None,
        }
    }

    /// The process at the other end, for a person, and why it may not answer.
    pub fn process(&self) -> Process {
        let credentials = getsockopt(self.answers.get_ref(), PeerCredentials);
        Process(credentials.ok().map(|credentials| credentials.pid()).filter(|pid| *pid > 0))
    }
}

/// A process that serves a client; without a number if it cannot be seen from here.
#[derive(Clone, Copy, Debug)]
pub struct Process(Option<i32>);

impl Process {
    /// What there is to wait for: what the client has told about itself, if it has.
    pub fn describe(self, told: Option<&Status>) -> String {
        let name = self.0.map_or("its process".to_string(), |pid| format!("process {pid}"));
        match (told.map(|status| &status.in_flight), self.0.filter(|pid| is_stopped(*pid))) {
            (Some(in_flight), _) if in_flight.mutations > 0 => {
                let noun = if in_flight.mutations == 1 { "change" } else { "changes" };
                let (count, size) = (in_flight.mutations, readable_size(in_flight.bytes));
                format!("{name} has {count} {noun} ({size} of data) in flight")
            }
            (Some(_), _) => {
                format!(
                    "{name} has nothing in flight but is still in use, perhaps in another mount namespace"
                )
            }
            (None, Some(pid)) => {
                format!("{name} does not answer: it is stopped (`kill -CONT {pid}` resumes it)")
            }
            (None, None) => format!("{name} does not answer"),
        }
    }
}

/// Whether a signal or a debugger has stopped it (`proc_pid_stat(5)`).
fn is_stopped(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}
