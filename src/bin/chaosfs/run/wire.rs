//! How the processes of a run talk: the supervisor hears from the server whether the clients serve and how they ended,
//! from the process that was started which signals it was sent, and from each command why it could not be executed. All
//! over pipes, whose end says that the other side is gone.

use std::{
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::Signal,
    unistd::Pid,
};

use super::signals::{Heard, Sender};
use crate::exec::ExecFailure;

const READY: &str = "ready";
const DONE: &str = "done";
const LOST: &str = "lost ";
const OVERTAKEN: &str = "overtaken ";
const LEFT: &str = "left ";
const COUNTS: &str = "counts ";
const KEEP: u8 = b'k';
const REMOVE: u8 = b'r';

/// How the server's clients ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Whether the server came to its end at all.
    pub complete: bool,
    /// What each client met, in their order.
    pub counts: Vec<Counts>,
    /// What could not land, with the name of the client in front.
    pub lost: Vec<String>,
    /// What others have made impossible or invisible, with the name of the client in front.
    pub overtaken: Vec<String>,
    /// What could not be unmounted or removed.
    pub left: Vec<String>,
}

/// What one client met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub client: String,
    pub conflicts: u64,
    pub faults: u64,
    pub lost: u64,
}

impl Counts {
    fn line(&self) -> String {
        let Counts { client, conflicts, faults, lost } = self;
        format!("{COUNTS}{client} {conflicts} {faults} {lost}")
    }

    fn parse(line: &str) -> Option<Counts> {
        let mut words = line.strip_prefix(COUNTS)?.split(' ');
        let client = words.next()?.to_string();
        let mut number = || words.next()?.parse().ok();
        Some(Counts { client, conflicts: number()?, faults: number()?, lost: number()? })
    }
}

/// The server's end of the pipe.
pub struct ToSupervisor(PipeWriter);

impl ToSupervisor {
    pub fn new(pipe: PipeWriter) -> ToSupervisor {
        ToSupervisor(pipe)
    }

    /// Says that every client serves.
    pub fn ready(&mut self) {
        self.line(READY);
    }

    /// Says why they do not.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.line(&format!("{error:#}"));
    }

    /// Says how they ended.
    pub fn ended(&mut self, ending: &Ending) {
        ending.counts.iter().for_each(|counts| self.line(&counts.line()));
        ending.lost.iter().for_each(|line| self.line(&format!("{LOST}{line}")));
        ending.overtaken.iter().for_each(|line| self.line(&format!("{OVERTAKEN}{line}")));
        ending.left.iter().for_each(|line| self.line(&format!("{LEFT}{line}")));
        self.line(DONE);
    }

    /// A supervisor that is gone hears nothing; that is no reason to end differently.
    fn line(&mut self, text: &str) {
        let _ = self.0.write_all(format!("{}\n", text.replace('\n', "\\n")).as_bytes());
    }
}

/// The supervisor's end of the pipe.
pub struct FromServer(BufReader<PipeReader>);

impl FromServer {
    pub fn new(pipe: PipeReader) -> FromServer {
        FromServer(BufReader::new(pipe))
    }

    /// Waits until every client serves. What the server has said when they do not; nothing if it died.
    pub fn ready(&mut self) -> Result<(), String> {
        let mut line = String::new();
        let _ = self.0.read_line(&mut line);
        match line.trim_end_matches('\n') {
            READY => Ok(()),
            reason => Err(reason.to_string()),
        }
    }

    /// Becomes readable with the server's last word, or when it is gone.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Waits for the server's last word.
    pub fn ending(&mut self) -> Ending {
        let mut ending = Ending::default();
        for line in self.0.by_ref().lines().map_while(Result::ok) {
            if let Some(lost) = line.strip_prefix(LOST) {
                ending.lost.push(lost.to_string());
            } else if let Some(overtaken) = line.strip_prefix(OVERTAKEN) {
                ending.overtaken.push(overtaken.to_string());
            } else if let Some(left) = line.strip_prefix(LEFT) {
                ending.left.push(left.to_string());
            } else if let Some(counts) = Counts::parse(&line) {
                ending.counts.push(counts);
            } else {
                ending.complete |= line == DONE;
            }
        }
        ending
    }
}

/// Lets the server end: the logs are to be kept, or not.
pub fn finish(mut server: PipeWriter, keep_logs: bool) {
    let _ = server.write_all(&[if keep_logs { KEEP } else { REMOVE }]);
}

/// Whether the supervisor wants the logs to be kept, once it has let the server end; none when it is gone.
pub fn wants_logs(mut supervisor: PipeReader) -> Option<bool> {
    let mut word = [REMOVE];
    supervisor.read_exact(&mut word).is_ok().then_some(word[0] == KEEP)
}

/// A signal on its way: its number and the process that has sent it.
const SIGNAL_LENGTH: usize = 8;

/// Passes a signal on to the supervisor, unless it came from the terminal: the whole foreground has it then.
pub fn pass_on(supervisor: &mut PipeWriter, heard: Heard) {
    if let Sender::Process(pid) = heard.sender {
        let halves = [heard.signal as i32, pid.as_raw()].map(i32::to_ne_bytes);
        let _ = supervisor.write_all(halves.as_flattened());
    }
}

/// The supervisor's end of the pipe over which the process that was started passes signals on.
pub struct FromCaller(PipeReader);

impl FromCaller {
    /// # Errors
    /// What the system said.
    pub fn new(pipe: PipeReader) -> io::Result<FromCaller> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(FromCaller(pipe))
    }

    /// Becomes readable with the next signal, or when the process is gone.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The signals that have been passed on since the last look; none when the process is gone.
    pub fn signals(&mut self) -> Option<Vec<Heard>> {
        let mut heard = Vec::new();
        let mut word = [0; SIGNAL_LENGTH];
        loop {
            // Words are written whole.
            match self.0.read(&mut word) {
                Ok(SIGNAL_LENGTH) => heard.extend(signal_in(word)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(heard),
                _ => return None,
            }
        }
    }
}

fn signal_in(word: [u8; SIGNAL_LENGTH]) -> Option<Heard> {
    let (halves, _) = word.as_chunks();
    let signal = Signal::try_from(i32::from_ne_bytes(halves[0])).ok()?;
    Some(Heard { signal, sender: Sender::Process(Pid::from_raw(i32::from_ne_bytes(halves[1]))) })
}

/// Says why a command could not be executed.
pub fn tell_failure(mut pipe: PipeWriter, failure: &ExecFailure) {
    let _ = write!(pipe, "{} {}", failure.code, failure.text);
}

/// Waits until a command is executed, or hears why it is not.
pub fn hear_failure(mut pipe: PipeReader) -> Option<ExecFailure> {
    let mut text = String::new();
    pipe.read_to_string(&mut text).ok()?;
    let (code, text) = text.split_once(' ')?;
    Some(ExecFailure { code: code.parse().ok()?, text: text.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisor_hears_what_the_server_says() {
        let (ours, theirs) = io::pipe().unwrap();
        let mut server = ToSupervisor::new(theirs);
        let counts = vec![Counts { client: "A".into(), conflicts: 1, faults: 2, lost: 3 }];
        let (lost, overtaken) = (vec!["A: /x\\ny".into()], vec!["B: /z".into()]);
        let left = vec!["/m/A: busy".into()];
        let said = Ending { complete: true, counts, lost, overtaken, left };
        server.ready();
        server.ended(&Ending { lost: vec!["A: /x\ny".into()], ..said.clone() });
        drop(server);
        let mut supervisor = FromServer::new(ours);
        supervisor.ready().unwrap();
        assert_eq!(supervisor.ending(), said);
    }

    #[test]
    fn a_server_that_dies_is_told_from_one_that_refuses_and_one_that_ends() {
        let (ours, theirs) = io::pipe().unwrap();
        drop(theirs);
        assert_eq!(FromServer::new(ours).ready(), Err(String::new()));
        let (ours, theirs) = io::pipe().unwrap();
        ToSupervisor::new(theirs).failed(&anyhow::anyhow!("no room"));
        assert_eq!(FromServer::new(ours).ready(), Err("no room".to_string()));
        let (ours, theirs) = io::pipe().unwrap();
        ToSupervisor::new(theirs).ready();
        assert!(!FromServer::new(ours).ending().complete);
    }

    #[test]
    fn signals_are_passed_on_unless_the_terminal_has_sent_them() {
        let (ours, mut theirs) = io::pipe().unwrap();
        let mut caller = FromCaller::new(ours).unwrap();
        assert_eq!(caller.signals(), Some(Vec::new()));
        let heard =
            [1, 2].map(|pid| Heard { signal: Signal::SIGTERM, sender: Sender::Process(Pid::from_raw(pid)) });
        pass_on(&mut theirs, heard[0]);
        pass_on(&mut theirs, Heard { signal: Signal::SIGINT, sender: Sender::Kernel });
        pass_on(&mut theirs, heard[1]);
        assert_eq!(caller.signals(), Some(heard.to_vec()));
        drop(theirs);
        assert_eq!(caller.signals(), None);
    }

    #[test]
    fn logs_are_kept_only_when_somebody_said_so() {
        for word in [Some(true), Some(false), None] {
            let (ours, theirs) = io::pipe().unwrap();
            match word {
                Some(keep) => finish(theirs, keep),
                None => drop(theirs),
            }
            assert_eq!(wants_logs(ours), word);
        }
    }
}
