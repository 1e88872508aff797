//! How one operation goes: judged by the fault injector before it has any effect, run, and logged.

use std::{sync::atomic::Ordering, time::Duration};

use super::Client;
use crate::{
    error::Error,
    event::{Event, readable},
    fault::Verdict,
    time::Time,
};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Backing,
    InFlight,
    /// Fetched then.
    Belief(Time),
}

/// What is noted about an operation while it goes on.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) source: Source,
}

impl Client {
    /// Runs one operation: lets the injector judge it before it has any effect, and logs it if operations are logged.
    pub(super) fn operate<T>(
        &self,
        operation: &'static str,
        path: impl Fn() -> Vec<u8>,
        run: impl FnOnce(&mut Trace) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut trace = Trace { source: Source::Backing };
        let result = self.judge(operation, &path).and_then(|()| run(&mut trace));
        if self.log.wants_operations() {
            self.log_operation(operation, &path(), result.as_ref().err(), trace.source);
        }
        result
    }

    pub(super) fn judge(&self, operation: &'static str, path: impl Fn() -> Vec<u8>) -> Result<(), Error> {
        if !self.injector.is_armed() {
            return Ok(());
        }
        let path = path();
        match self.injector.judge(&self.dice, operation, &path) {
            Verdict::Pass => Ok(()),
            Verdict::Fail { error, nth } => {
                self.counters.faults.fetch_add(1, Ordering::Relaxed);
                let event = Event::Fault { operation, path: readable(&path), nth, error: error.symbol() };
                self.log.record(self.now(), &event);
                Err(error)
            }
        }
    }

    pub(super) fn log_operation(
        &self,
        operation: &'static str,
        path: &[u8],
        error: Option<&Error>,
        source: Source,
    ) {
        let now = self.now();
        let (source, age) = match source {
            Source::Backing => ("backing", Duration::ZERO),
            Source::InFlight => ("in-flight", Duration::ZERO),
            Source::Belief(fetched) => ("belief", now.since(fetched)),
        };
        let outcome = error.map_or_else(|| "ok".to_string(), |error| error.symbol());
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let event = Event::Operation { operation, path: readable(path), outcome, source, age_us };
        self.log.record(now, &event);
    }
}
