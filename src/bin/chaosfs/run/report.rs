//! What a run says about its end, and its exit status.

use std::fs;

use chaosfs::event::readable_size;

use super::{
    Run,
    family::{Ended, Leftovers},
    supervisor::Outcome,
    wire::{Counts, Ending},
};
use crate::{exec::OWN_FAILURE, voice::complain};

/// The exit status for a command that took too long, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// How a run ended.
pub struct Report<'a> {
    pub run: &'a Run,
    pub outcome: Outcome,
    /// How each command ended, with its client's name where there are several.
    pub ends: &'a [(Option<String>, Ended)],
    pub ending: &'a Ending,
}

impl Report<'_> {
    /// The exit status: the command's own, unless it had none or would not say so.
    pub fn code(&self) -> u8 {
        match self.outcome {
            Outcome::NotExecuted(code) => code,
            Outcome::Orphaned | Outcome::Unserved => OWN_FAILURE,
            Outcome::TimedOut(_) => TIMED_OUT,
            Outcome::Ended | Outcome::Stopped(_) => match self.failure() {
                Some(end) => end.code(),
                None if self.is_well() => 0,
                None => OWN_FAILURE,
            },
        }
    }

    /// Whether everything has landed and is gone.
    fn is_well(&self) -> bool {
        self.ending.complete && self.ending.lost.is_empty() && self.ending.left.is_empty()
    }

    fn failure(&self) -> Option<Ended> {
        self.ends.iter().map(|(_, end)| *end).find(|end| end.code() != 0)
    }

    /// Tells a person what is no command's own affair, and on a failure everything that is needed to know why and to see it
    /// again.
    pub fn tell(&self, leftovers: &Leftovers) {
        self.ending.lost.iter().for_each(|line| complain(&format!("could not land: {line}")));
        self.ending.overtaken.iter().for_each(|line| {
            complain(&format!("not in the backing directory, because of others' changes: {line}"));
        });
        self.ending.left.iter().for_each(|line| complain(line));
        if !self.ending.complete {
            complain("the process that served the clients died; what was in flight is lost");
        } else if self.outcome == Outcome::Unserved {
            complain("the process that served the clients was ended by a signal");
        }
        if self.run.quiet || matches!(self.outcome, Outcome::NotExecuted(_) | Outcome::Orphaned) {
            return;
        }
        if self.outcome == Outcome::Ended {
            tell_leftovers(leftovers);
        }
        if self.code() != 0 {
            self.explain();
        }
        if self.run.keep {
            complain(&format!("kept: {}", self.run.scratch.path().display()));
        }
    }

    fn explain(&self) {
        let command =
            self.run.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        if let Outcome::TimedOut(span) = self.outcome {
            complain(&format!("`{command}` took longer than {span:?} and was ended"));
        } else {
            for (client, end) in self.ends.iter().filter(|(_, end)| end.code() != 0) {
                let prefix = client.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                complain(&match end {
                    Ended::With(code) => format!("{prefix}`{command}` failed with exit status {code}"),
                    Ended::BySignal(signal) => format!("{prefix}`{command}` was ended by {signal}"),
                });
            }
        }
        if self.ending.complete {
            complain(&summary(&self.ending.counts));
        }
        self.describe_clients();
        complain(&format!("repeat with: {}", self.run.again));
        self.locate_logs();
    }

    fn describe_clients(&self) {
        let clients = &self.run.clients;
        let described =
            clients.iter().map(|client| (&client.name, format!("seed={} {}", client.seed, client.knobs)));
        let described: Vec<_> = described.collect();
        match described.split_first() {
            Some(((_, first), others)) if others.iter().all(|(_, other)| other == first) => {
                complain(&format!("every client had {first}"));
            }
            _ => described.iter().for_each(|(name, text)| complain(&format!("client {name} had {text}"))),
        }
    }

    fn locate_logs(&self) {
        let path = self.run.logs();
        let length = |client: &str| fs::metadata(self.run.log_of(client)).map_or(0, |facts| facts.len());
        let size = self.run.clients.iter().map(|client| length(&client.name)).sum();
        let kept = self.run.log_dir.is_none() && !self.run.keep;
        let advice = if kept { "; `chaosfs run --clean` removes them" } else { "" };
        complain(&format!("logs: {} ({}{advice})", path.display(), readable_size(size)));
    }
}

/// How often what happened, and to whom.
fn summary(all: &[Counts]) -> String {
    let count = |name: &str, of: fn(&Counts) -> u64| {
        let those = all.iter().filter(|counts| of(counts) > 0);
        let each: Vec<_> = those.map(|counts| format!("{} {}", counts.client, of(counts))).collect();
        let whose = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
        format!("{name}: {}{whose}", all.iter().map(of).sum::<u64>())
    };
    let parts = [
        count("conflicts", |counts| counts.conflicts),
        count("faults", |counts| counts.faults),
        count("lost", |counts| counts.lost),
    ];
    parts.join(", ")
}

fn tell_leftovers(leftovers: &Leftovers) {
    if !leftovers.ended.is_empty() {
        complain(&format!("ended what the command had left running: {}", leftovers.ended.join(", ")));
    }
    if leftovers.survivors {
        complain("some processes that the command left running could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_those_whom_it_concerns() {
        let counts =
            |client: &str, conflicts, faults| Counts { client: client.into(), conflicts, faults, lost: 0 };
        let all = [counts("A", 1, 0), counts("B", 2, 0), counts("C", 0, 0)];
        assert_eq!(summary(&all), "conflicts: 3 (A 1, B 2), faults: 0, lost: 0");
    }
}
