//! The process that starts the commands and sees to it that nothing of the run outlives it.

use std::{io::PipeWriter, iter, os::fd::BorrowedFd, process::ExitCode, time::Duration};

use anyhow::Context;
use chaosfs::{Clock, harness::Kept};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid},
};

use super::{
    Run,
    command::{self, Started},
    family::{Ended, Family, LOOK, Manner},
    output::Outputs,
    report::Report,
    signals::{Heard, Sender, Signals},
    wire::{Ending, FromCaller, FromServer, finish},
};
use crate::{
    exec::{ExecFailure, OWN_FAILURE},
    voice::complain,
};

/// What asks this process to end.
const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// How long output is waited for that a process holds which cannot be ended.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// How the wait for the commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of them have ended.
    Ended,
    /// None was started: a signal came first.
    Stopped(Ended),
    /// One could not be executed.
    NotExecuted(u8),
    /// They took too long.
    TimedOut(Duration),
    /// The clients are gone under them.
    Unserved,
    /// The process that was started is gone.
    Orphaned,
}

/// Runs everything and returns the exit status of the run. `caller` is the process that was started, `server` the parent
/// of this one, `said` what it says and `to_server` what it waits for.
pub fn supervise(
    run: &Run,
    signals: &Signals,
    caller: FromCaller,
    server: Pid,
    said: FromServer,
    to_server: PipeWriter,
) -> anyhow::Result<ExitCode> {
    let (family, direct) = (Family::default(), Vec::new());
    Supervisor { run, signals, caller: Some(caller), direct, family, server, said }.supervise(to_server)
}

struct Supervisor<'a> {
    run: &'a Run,
    signals: &'a Signals,
    /// None when it is gone.
    caller: Option<FromCaller>,
    /// What other processes have sent to this one. What the caller passes on besides was sent to the process group, and
    /// the commands have it.
    direct: Vec<Heard>,
    family: Family,
    server: Pid,
    said: FromServer,
}

/// The signals that have arrived: what the commands are to have from us, and what the terminal has sent to all.
#[derive(Default)]
struct News {
    passed_on: Vec<Signal>,
    from_terminal: Vec<Signal>,
}

impl News {
    fn end(&self) -> Option<Signal> {
        self.passed_on.iter().chain(&self.from_terminal).copied().find(|signal| ENDS.contains(signal))
    }
}

impl Supervisor<'_> {
    fn supervise(mut self, to_server: PipeWriter) -> anyhow::Result<ExitCode> {
        if let Err(reason) = self.said.ready() {
            anyhow::ensure!(reason.is_empty(), "{reason}");
            self.clean_up_for_server(Kept::Nothing);
            anyhow::bail!("the process that serves the clients died before they were mounted");
        }
        let mut outputs = Outputs::new().context("cannot make a pipe")?;
        let outcome = self.run_commands(&outputs);
        let outcome = outcome.unwrap_or_else(|error| {
            complain(&format!("{error:#}"));
            Outcome::NotExecuted(OWN_FAILURE)
        });
        let manner = match outcome {
            Outcome::Orphaned => Manner::Hard,
            Outcome::Ended => Manner::Patient,
            _ => Manner::Firm,
        };
        let leftovers = self.family.end_all(self.signals, manner);
        self.drain(&mut outputs, leftovers.survivors);
        let ends = self.ends(outcome);
        let cut_short = matches!(outcome, Outcome::Unserved | Outcome::TimedOut(_));
        let failed = cut_short || ends.iter().any(|(_, end)| end.code() != 0);
        // Nobody would be told where they are.
        let untold = self.run.quiet || matches!(outcome, Outcome::NotExecuted(_) | Outcome::Orphaned);
        let ending = self.finish(to_server, failed && !untold);
        let report = Report { run: self.run, outcome, ends: &ends, ending: &ending };
        report.tell(&leftovers);
        Ok(ExitCode::from(report.code()))
    }

    fn run_commands(&mut self, outputs: &Outputs) -> anyhow::Result<Outcome> {
        if let Some(signal) = self.news().end() {
            return Ok(Outcome::Stopped(Ended::BySignal(signal)));
        }
        let count = if self.run.each { self.run.clients.len() } else { 1 };
        let mut started = Vec::with_capacity(count);
        for client in &self.run.clients[..count] {
            let command = command::start(self.run, client, self.signals)?;
            self.family.add(command.pid);
            started.push(command);
        }
        for (command, client) in started.iter_mut().zip(&self.run.clients) {
            command.pass_output(client, outputs).context("cannot pass output on")?;
        }
        let failures: Vec<_> = started.into_iter().filter_map(Started::failure).collect();
        match failures.first() {
            None => Ok(self.watch()),
            Some(ExecFailure { code, text }) => {
                complain(text);
                Ok(Outcome::NotExecuted(*code))
            }
        }
    }

    fn watch(&mut self) -> Outcome {
        let limit = self.run.timeout.map(|span| (Clock::Monotonic.now() + span, span));
        loop {
            if self.family.reap() {
                return Outcome::Ended;
            }
            let left = limit.map(|(until, _)| until.since(Clock::Monotonic.now()));
            if let Some((_, span)) = limit.filter(|_| left == Some(Duration::ZERO)) {
                return Outcome::TimedOut(span);
            }
            // poll(2) counts whole milliseconds: rounded down, the last one would be spent in a busy loop.
            let unserved = self.wait(self.said.as_fd(), left.map(|span| span + Duration::from_millis(1)));
            self.news().passed_on.iter().for_each(|signal| self.family.pass_on(*signal));
            if self.caller.is_none() {
                return Outcome::Orphaned;
            }
            if unserved {
                return Outcome::Unserved;
            }
        }
    }

    /// Waits for news, or for `other` to be readable or hung up; whether that is.
    fn wait(&self, other: BorrowedFd<'_>, patience: Option<Duration>) -> bool {
        let caller = self.caller.as_ref().map(FromCaller::as_fd);
        let all: Vec<_> = iter::once(other).chain(caller).collect();
        self.signals.wait(&all, patience)[0]
    }

    fn news(&mut self) -> News {
        let mut news = News::default();
        while let Some(heard) = self.signals.next() {
            match heard.sender {
                Sender::Kernel => news.from_terminal.push(heard.signal),
                Sender::Process(_) if self.direct.contains(&heard) => {}
                Sender::Process(_) => self.direct.push(heard),
            }
        }
        let passed_on = self.caller.as_mut().map(FromCaller::signals);
        if let Some(None) = passed_on {
            self.caller = None;
        }
        for heard in passed_on.flatten().into_iter().flatten() {
            match self.direct.iter().position(|other| *other == heard) {
                Some(index) => drop(self.direct.remove(index)),
                None => news.passed_on.push(heard.signal),
            }
        }
        news
    }

    /// Waits until all output has been passed on, however slowly somebody reads it.
    fn drain(&mut self, outputs: &mut Outputs, survivors: bool) {
        let end = outputs.end();
        let patience = survivors.then_some(OUTPUT_PATIENCE);
        // What came before was for the commands.
        self.news();
        while !self.wait(end, patience) {
            if self.news().end().is_some() || survivors || self.caller.is_none() {
                return;
            }
        }
    }

    /// How each command ended, with its client's name where there are several.
    fn ends(&self, outcome: Outcome) -> Vec<(Option<String>, Ended)> {
        let stopped = match outcome {
            Outcome::Stopped(end) => Some(end),
            Outcome::NotExecuted(code) => Some(Ended::With(code)),
            _ => None,
        };
        match stopped {
            Some(end) => vec![(None, end)],
            None => {
                let names = self.run.clients.iter().map(|client| self.run.each.then(|| client.name.clone()));
                let ends = self.family.ends().into_iter().map(|end| end.unwrap_or(Ended::With(OWN_FAILURE)));
                names.zip(ends).collect()
            }
        }
    }

    /// Has the server land, unmount and remove everything. A signal while that lasts gives up what has not landed.
    fn finish(&mut self, to_server: PipeWriter, keep_logs: bool) -> Ending {
        finish(to_server, keep_logs);
        while !self.wait(self.said.as_fd(), None) {
            if self.news().end().is_some() {
                let _ = kill(self.server, Signal::SIGTERM);
            }
        }
        let ending = self.said.ending();
        if ending.complete {
            return ending;
        }
        let left = self.clean_up_for_server(self.run.kept(true));
        Ending { left: left.into_iter().collect(), ..ending }
    }

    /// Does what the server would have done, which has died; it is gone when another process has taken us on. What could
    /// not be done.
    fn clean_up_for_server(&self, kept: Kept) -> Option<String> {
        while getppid() == self.server {
            self.signals.wait(&[], Some(LOOK));
            while self.signals.next().is_some() {}
        }
        self.run.scratch.dispose(kept).err().map(|refusal| refusal.to_string())
    }
}
