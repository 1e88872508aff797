//! The processes below one process of a run: its children, and whatever they have started and left behind, which comes to
//! it because it is a subreaper.

use std::{fs, time::Duration};

use chaosfs::clock::Clock;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

use super::signals::Signals;

/// How often is looked whether everybody is gone; the end of a child is noticed at once, of a grandchild only so.
pub const LOOK: Duration = Duration::from_millis(20);

/// How long what the commands have left behind may take to end by itself, and then when asked to.
const GRACE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a killed process may take to go before it is left behind: it hangs in the kernel then, or is another user's.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    With(u8),
    BySignal(Signal),
}

impl Ended {
    /// The exit status by which a shell would say so.
    pub fn code(self) -> u8 {
        match self {
            Ended::With(code) => code,
            Ended::BySignal(signal) => 128 + signal as u8,
        }
    }
}

/// How much time is given to what is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It may end by itself, is asked to, and is killed in the end.
    Patient,
    /// It is asked to end, and killed in the end.
    Firm,
    /// It is killed.
    Hard,
}

/// What had to be ended, and what is there still.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    pub ended: Vec<String>,
    pub survivors: bool,
}

/// The processes below this one.
#[derive(Default)]
pub struct Family {
    children: Vec<(Pid, Option<Ended>)>,
}

impl Family {
    pub fn of(child: Pid) -> Family {
        Family { children: vec![(child, None)] }
    }

    pub fn add(&mut self, child: Pid) {
        self.children.push((child, None));
    }

    /// How each child ended, in their order; none for one that runs.
    pub fn ends(&self) -> Vec<Option<Ended>> {
        self.children.iter().map(|(_, ended)| *ended).collect()
    }

    /// Takes note of everybody who has ended; whether all children have.
    pub fn reap(&mut self) -> bool {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            let (pid, ended) = match status {
                WaitStatus::Exited(pid, code) => (pid, Ended::With(u8::try_from(code).unwrap_or(u8::MAX))),
                WaitStatus::Signaled(pid, signal, _) => (pid, Ended::BySignal(signal)),
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            if let Some((_, end)) = self.children.iter_mut().find(|(child, _)| *child == pid) {
                *end = Some(ended);
            }
        }
        self.children.iter().all(|(_, ended)| ended.is_some())
    }

    /// Waits until all children have ended.
    pub fn wait(&mut self, signals: &Signals) {
        while !self.reap() {
            signals.wait(&[], None);
            while signals.next().is_some() {}
        }
    }

    /// Passes a signal on to every child that runs.
    pub fn pass_on(&self, signal: Signal) {
        for (pid, _) in self.children.iter().filter(|(_, ended)| ended.is_none()) {
            let _ = kill(*pid, signal);
        }
    }

    /// Ends the children and everything that they have started, wherever in the tree of processes it is now.
    pub fn end_all(&mut self, signals: &Signals, manner: Manner) -> Leftovers {
        let steps =
            [(None, GRACE), (Some(Signal::SIGTERM), PATIENCE), (Some(Signal::SIGKILL), LAST_PATIENCE)];
        let skipped = match manner {
            Manner::Patient => 0,
            Manner::Firm => 1,
            Manner::Hard => 2,
        };
        let mut leftovers = Leftovers::default();
        for (signal, span) in steps.into_iter().skip(skipped) {
            if signal == Some(Signal::SIGTERM) {
                leftovers.ended = descendants().iter().map(Process::to_string).collect();
            }
            leftovers.survivors = !self.all_gone_within(signals, signal, span);
            if !leftovers.survivors {
                break;
            }
        }
        // Those that have ended since the last look.
        self.reap();
        leftovers
    }

    fn all_gone_within(&mut self, signals: &Signals, signal: Option<Signal>, span: Duration) -> bool {
        let until = Clock::Monotonic.now() + span;
        let mut asked = false;
        loop {
            self.reap();
            let others = descendants();
            if others.is_empty() {
                return true;
            }
            if Clock::Monotonic.now() >= until {
                return false;
            }
            // Whoever is killed may have started others meanwhile.
            if let Some(signal) = signal.filter(|signal| !asked || *signal == Signal::SIGKILL) {
                others.iter().for_each(|process| process.end_by(signal));
                asked = true;
            }
            signals.wait(&[], Some(LOOK));
            while signals.next().is_some() {}
        }
    }
}

/// Every process below this one.
fn descendants() -> Vec<Process> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = pids.filter_map(Process::read).collect();
    let mut found: Vec<Pid> = vec![getpid()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = all.iter().filter(|process| process.parent == parent);
        found.extend(children.map(|process| process.pid));
    }
    all.into_iter().filter(|process| process.alive && found[1..].contains(&process.pid)).collect()
}

/// A process as `/proc/<pid>/stat` tells it (`proc_pid_stat(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    name: String,
    parent: Pid,
    /// Neither dead nor waiting to be reaped.
    alive: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Process::parse(&String::from_utf8_lossy(&text))
    }

    /// The name is in brackets and may hold anything, brackets too.
    fn parse(text: &str) -> Option<Process> {
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        let pid = Pid::from_raw(pid.parse().ok()?);
        let parent = Pid::from_raw(parent.parse().ok()?);
        Some(Process { pid, name: name.to_string(), parent, alive: !matches!(state, "Z" | "X") })
    }

    /// One that stands still cannot follow a signal before it goes on.
    fn end_by(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
        let _ = kill(self.pid, Signal::SIGCONT);
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_calls_itself() {
        let process = Process::parse("42 (a) Z 1 (b) S 7 42 42 0 -1").unwrap();
        let expected = Process {
            pid: Pid::from_raw(42),
            name: "a) Z 1 (b".into(),
            parent: Pid::from_raw(7),
            alive: true,
        };
        assert_eq!(process, expected);
        assert!(!Process::parse("42 (x) Z 7 42").unwrap().alive);
        assert_eq!(Process::parse("garbage"), None);
    }

    #[test]
    fn ends_are_told_as_a_shell_tells_them() {
        assert_eq!((Ended::With(3).code(), Ended::BySignal(Signal::SIGKILL).code()), (3, 137));
    }
}
