//! The process that starts the commands and sees to it that nothing of the run outlives it.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use chaosfs::harness::Kept;
use fork::{Fork, fork};
use nix::{
    sys::{prctl::set_child_subreaper, wait::waitpid},
    unistd::Pid,
};

use super::{
    Run,
    command::{self, Started},
    family::{Ended, Family, Leftovers, Manner},
    output::Outputs,
    server,
    signals::{Heard, Sender, Signals},
    wire::{Ending, FromServer, finish},
};
use crate::{complain, exec::ExecFailure};

/// How long output is waited for that a process holds which cannot be ended.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// How the wait for the commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All of them have ended.
    Ended,
    /// None was started: a signal came first.
    Stopped(Ended),
    /// One could not be executed.
    NotExecuted(u8),
    /// The clients are gone under them.
    Unserved,
    /// The process that was started is gone.
    Orphaned,
}

/// Runs everything and returns the exit status of the run. `alive` hangs up when `caller` is gone.
pub fn supervise(run: &Run, signals: &Signals, caller: Pid, alive: PipeReader) -> anyhow::Result<ExitCode> {
    set_child_subreaper(true).context("cannot become the parent of what the command leaves behind")?;
    let (from_server, to_supervisor) = io::pipe().context("cannot make a pipe")?;
    let (from_supervisor, to_server) = io::pipe().context("cannot make a pipe")?;
    let pid = match fork().context("cannot fork")? {
        Fork::Child => {
            drop((to_server, from_server, alive));
            return Ok(server::serve(run, signals, from_supervisor, to_supervisor));
        }
        Fork::Parent(pid) => Pid::from_raw(pid),
    };
    drop((from_supervisor, to_supervisor));
    let said = FromServer::new(from_server);
    Supervisor { run, signals, caller, alive, family: Family::new(pid), server: pid, said }
        .supervise(to_server)
}

struct Supervisor<'a> {
    run: &'a Run,
    signals: &'a Signals,
    caller: Pid,
    alive: PipeReader,
    family: Family,
    server: Pid,
    said: FromServer,
}

impl Supervisor<'_> {
    fn supervise(mut self, to_server: PipeWriter) -> anyhow::Result<ExitCode> {
        if let Err(error) = self.said.ready() {
            let _ = waitpid(self.server, None);
            let _ = self.run.scratch.dispose(Kept::Nothing);
            return Err(error);
        }
        let mut outputs = Outputs::new().context("cannot make a pipe")?;
        let outcome = self.run_commands(&outputs);
        let outcome = outcome.unwrap_or_else(|error| {
            complain(&format!("{error:#}"));
            Outcome::NotExecuted(1)
        });
        let manner = match outcome {
            Outcome::Orphaned => Manner::Hard,
            Outcome::Ended => Manner::Patient,
            _ => Manner::Firm,
        };
        let leftovers = self.family.end_all(self.signals, manner);
        self.drain(&mut outputs, leftovers.survivors);
        let ends = self.ends(outcome);
        let failed = outcome == Outcome::Unserved || ends.iter().any(|(_, end)| end.code() != 0);
        // Nobody would be told where they are.
        let untold = matches!(outcome, Outcome::NotExecuted(_) | Outcome::Orphaned);
        let ending = self.finish(to_server, failed && !untold);
        if matches!(outcome, Outcome::Ended) {
            tell_leftovers(&leftovers);
        }
        Ok(self.report(outcome, &ends, &ending))
    }

    fn run_commands(&mut self, outputs: &Outputs) -> anyhow::Result<Outcome> {
        while let Some(heard) = self.signals.next() {
            if heard.is_an_end() && self.concerns_us(heard) {
                return Ok(Outcome::Stopped(Ended::BySignal(heard.signal)));
            }
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
        loop {
            if self.family.reap() {
                return Outcome::Ended;
            }
            let hung_up = self.signals.wait(&[self.alive.as_fd(), self.said.as_fd()], None);
            while let Some(heard) = self.signals.next() {
                if heard.sender == Sender::Process(self.caller) {
                    self.family.pass_on(heard.signal);
                }
            }
            match hung_up.as_slice() {
                [true, _] => return Outcome::Orphaned,
                [_, true] => return Outcome::Unserved,
                _ => {}
            }
        }
    }

    /// From the terminal, or passed on by the process that was started. What somebody sent to the whole process group
    /// comes from there as well.
    fn concerns_us(&self, heard: Heard) -> bool {
        heard.sender == Sender::Kernel || heard.sender == Sender::Process(self.caller)
    }

    fn ends_now(&self) -> bool {
        std::iter::from_fn(|| self.signals.next()).any(|heard| heard.is_an_end() && self.concerns_us(heard))
    }

    /// Waits until all output has been passed on, however slowly somebody reads it.
    fn drain(&self, outputs: &mut Outputs, survivors: bool) {
        let end = outputs.end();
        let patience = survivors.then_some(OUTPUT_PATIENCE);
        while self.signals.wait(&[end, self.alive.as_fd()], patience) == [false, false] {
            if survivors || self.ends_now() {
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
                let ends = self.family.ends().into_iter().map(|end| end.unwrap_or(Ended::With(1)));
                names.zip(ends).collect()
            }
        }
    }

    /// Has the server land, unmount and remove everything. A signal while that lasts gives up what has not landed.
    fn finish(&mut self, to_server: PipeWriter, keep_logs: bool) -> Ending {
        finish(to_server, keep_logs);
        while self.signals.wait(&[self.said.as_fd()], None) != [true] {
            if self.ends_now() {
                self.family.hurry_server();
            }
        }
        let ending = self.said.ending();
        let _ = waitpid(self.server, None);
        if ending.complete {
            return ending;
        }
        let kept = self.run.kept(true);
        let left = self.run.scratch.dispose(kept).err().map(|refusal| refusal.to_string());
        Ending { left: left.into_iter().collect(), ..ending }
    }

    fn report(&self, outcome: Outcome, ends: &[(Option<String>, Ended)], ending: &Ending) -> ExitCode {
        let failed = ends.iter().find(|(_, end)| end.code() != 0).map(|(_, end)| *end);
        ending.lost.iter().for_each(|line| complain(&format!("could not land: {line}")));
        ending.left.iter().for_each(|line| complain(line));
        if !ending.complete {
            complain("the process that served the clients died; what was in flight is lost");
        } else if outcome == Outcome::Unserved {
            complain("the process that served the clients was ended by a signal");
        }
        let well = ending.complete && ending.lost.is_empty() && ending.left.is_empty();
        match outcome {
            Outcome::NotExecuted(code) => return ExitCode::from(code),
            Outcome::Orphaned => return ExitCode::FAILURE,
            Outcome::Ended | Outcome::Stopped(_) | Outcome::Unserved => {}
        }
        if failed.is_some() || !well || outcome == Outcome::Unserved {
            self.explain(ends);
        } else if self.run.keep {
            complain(&format!("kept: {}", self.run.scratch.path().display()));
        }
        let code = failed.map_or(0, Ended::code);
        ExitCode::from(if code == 0 && (!well || outcome == Outcome::Unserved) { 1 } else { code })
    }

    /// Everything that somebody needs who wants to know why, or to see it again.
    fn explain(&self, ends: &[(Option<String>, Ended)]) {
        let command =
            self.run.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        for (client, end) in ends.iter().filter(|(_, end)| end.code() != 0) {
            let prefix = client.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            complain(&match end {
                Ended::With(code) => format!("{prefix}`{command}` failed with exit status {code}"),
                Ended::BySignal(signal) => format!("{prefix}`{command}` was ended by {signal}"),
            });
        }
        let described = self
            .run
            .clients
            .iter()
            .map(|client| (&client.name, format!("seed={} {}", client.seed, client.knobs)));
        let described: Vec<_> = described.collect();
        match described.split_first() {
            Some(((_, first), others)) if others.iter().all(|(_, other)| other == first) => {
                complain(&format!("every client had {first}"));
            }
            _ => described.iter().for_each(|(name, text)| complain(&format!("client {name} had {text}"))),
        }
        complain(&format!("logs: {}", self.run.logs().display()));
        if self.run.keep {
            complain(&format!("kept: {}", self.run.scratch.path().display()));
        }
    }
}

fn tell_leftovers(leftovers: &Leftovers) {
    if !leftovers.ended.is_empty() {
        complain(&format!("ended what the command had left running: {}", leftovers.ended.join(", ")));
    }
    if leftovers.survivors {
        complain("some of what the command had left running could not be ended");
    }
}
