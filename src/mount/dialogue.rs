//! The client side of a connection to a control socket. Nothing here waits longer than it is told to.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::protocol::{Answer, LONGEST_ANSWER, Request};
use crate::{client::Status, clock::Deadline, event::readable_size};

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
    /// The other side has hung up.
    End,
    /// What it says is no answer, or longer than any.
    Nonsense,
}

/// What came of reading once.
enum Read {
    Part,
    Whole,
    TooLong,
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

    /// The next line, if all of it comes in time, however it comes.
    pub fn hear(&mut self, patience: Duration) -> Heard {
        let end = Deadline::after(patience);
        loop {
            // No time at all would mean for ever.
            let left = end.left().max(Duration::from_millis(1));
            let _ = self.answers.get_ref().set_read_timeout(Some(left));
            match self.read() {
                Ok(Read::Whole) => {
                    let answer = serde_json::from_slice(&std::mem::take(&mut self.line));
                    return answer.map_or(Heard::Nonsense, |answer| Heard::Answer(Box::new(answer)));
                }
                Ok(Read::End) if self.line.is_empty() => return Heard::End,
                Ok(Read::End | Read::TooLong) => return Heard::Nonsense,
                Ok(Read::Part) if !end.left().is_zero() => {}
                Ok(Read::Part) => return Heard::Silence,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Silence,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Heard::Silence,
                Err(_) => return Heard::End,
            }
        }
    }

    /// Reads once.
    fn read(&mut self) -> io::Result<Read> {
        let come = self.answers.fill_buf()?;
        let end = come.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(come.len(), |end| end + 1);
        self.line.extend_from_slice(&come[..taken]);
        self.answers.consume(taken);
        Ok(match end {
            _ if taken == 0 => Read::End,
            _ if self.line.len() > LONGEST_ANSWER => Read::TooLong,
            Some(_) => Read::Whole,
            None => Read::Part,
        })
    }

    /// What the client tells about itself.
    pub fn status(&mut self) -> Option<Status> {
        self.say(&Request::Status);
        match self.hear(PATIENCE) {
            Heard::Answer(answer) => answer.status.map(|status| *status),
            Heard::Silence | Heard::End | Heard::Nonsense => None,
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
    /// Its number, if it can be seen from here.
    pub fn number(self) -> Option<u32> {
        self.0.and_then(|pid| u32::try_from(pid).ok())
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::thread;

    /// What is heard of one who says this again and again, with a pause between.
    fn heard(piece: &'static [u8], pause: Duration) -> (Heard, Dialogue) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut dialogue = Dialogue::new(ours);
        thread::spawn(move || {
            while theirs.write_all(piece).is_ok() {
                Clock::Monotonic.pause(pause);
            }
        });
        (dialogue.hear(Duration::from_millis(500)), dialogue)
    }

    #[test]
    fn a_line_without_end_is_read_no_further_than_an_answer_can_reach() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || while theirs.write_all(&[b'x'; 1 << 16]).is_ok() {});
        let mut dialogue = Dialogue::new(ours);
        assert!(matches!(dialogue.hear(Duration::from_secs(60)), Heard::Nonsense));
        assert!(dialogue.line.capacity() <= 4 * LONGEST_ANSWER);
    }

    #[test]
    fn however_a_line_comes_it_is_not_waited_for_any_longer() {
        let (heard, dialogue) = heard(b"x", Duration::from_millis(5));
        assert!(matches!(heard, Heard::Silence));
        assert!(dialogue.line.len() < 200, "{}", dialogue.line.len());
    }

    #[test]
    fn nonsense_is_told_from_an_answer_and_from_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut dialogue = Dialogue::new(ours);
        theirs.write_all(b"{\"ok\":true}\nnonsense\n{\"ok\":").unwrap();
        drop(theirs);
        let mut hear = || dialogue.hear(Duration::from_secs(60));
        assert!(matches!(hear(), Heard::Answer(answer) if answer.ok));
        assert!(matches!((hear(), hear()), (Heard::Nonsense, Heard::Nonsense)));
    }
}
