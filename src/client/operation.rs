//! How one operation goes: judged by the fault injector before it has any effect, run, and logged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Client, sync::Sync};
use crate::{
    consistency::{Origin, Provenance},
    error::Error,
    event::{Event, readable},
    fault::Verdict,
    operation::Operation,
};

/// How often each operation was asked for.
#[derive(Debug, Default)]
pub(super) struct OperationCounts([AtomicU64; Operation::ALL.len()]);

impl OperationCounts {
    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The operations that were asked for and how often.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let named = Operation::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        named.map(|(operation, count)| (operation.to_string(), count)).collect()
    }
}

impl Client {
    /// Runs one operation: lets the injector judge it before it has any effect, and logs it if operations are logged.
    pub(super) fn operate<T>(
        &self,
        operation: Operation,
        path: impl Fn() -> Vec<u8>,
        run: impl FnOnce(&mut Provenance) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let verdict = self.judge(operation, &path);
        self.answer(operation, path, |provenance| verdict.and_then(|()| run(provenance)))
    }

    /// The same for one that is not judged, because the kernel may have asked by itself.
    pub(super) fn answer<T>(
        &self,
        operation: Operation,
        path: impl Fn() -> Vec<u8>,
        run: impl FnOnce(&mut Provenance) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.operations.count(operation);
        let mut provenance = Provenance::default();
        let result = run(&mut provenance);
        if self.log.wants_operations() {
            self.log_operation(operation, &path(), result.as_ref().err(), provenance.origin());
        }
        result
    }

    /// The same for one that is over, and logged, only when an inode, its name and its directories are in the backing
    /// directory and synced there. Calls `done` then, or with what went wrong.
    pub(super) fn operate_to_disk<T: Send + 'static>(
        self: &Arc<Self>,
        operation: Operation,
        path: impl Fn() -> Vec<u8>,
        sync: Sync,
        run: impl FnOnce(&mut Provenance) -> Result<T, Error>,
        done: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) {
        self.operations.count(operation);
        let mut provenance = Provenance::default();
        let result = self.judge(operation, &path).and_then(|()| run(&mut provenance));
        let client = self.clone();
        let path = if self.log.wants_operations() { Some(path()) } else { None };
        let end = move |result: Result<T, Error>| {
            if let Some(path) = path {
                client.log_operation(operation, &path, result.as_ref().err(), provenance.origin());
            }
            done(result);
        };
        match result {
            Ok(value) => self.publish(sync, Box::new(move |synced| end(synced.map(|()| value)))),
            Err(error) => end(Err(error)),
        }
    }

    /// Writes down something that a person should know.
    pub fn note(&self, text: String) {
        self.log.record(&self.clock, &Event::Note { text });
    }

    pub(super) fn judge(&self, operation: Operation, path: impl Fn() -> Vec<u8>) -> Result<(), Error> {
        let injector = &self.in_force().injector;
        if !injector.is_armed() || !operation.is_only_programs() {
            return Ok(());
        }
        let path = path();
        match injector.judge(&self.dice, operation, &path) {
            Verdict::Pass => Ok(()),
            Verdict::Fail { error, nth } => {
                self.counters.faults.fetch_add(1, Ordering::Relaxed);
                let event = Event::Fault { operation, path: readable(&path), nth, error: error.symbol() };
                self.log.record(&self.clock, &event);
                Err(error)
            }
        }
    }

    pub(super) fn log_operation(
        &self,
        operation: Operation,
        path: &[u8],
        error: Option<&Error>,
        origin: Origin,
    ) {
        let now = self.now();
        let (source, age) = match origin {
            Origin::Backing => ("backing", Duration::ZERO),
            Origin::InFlight => ("in-flight", Duration::ZERO),
            Origin::Belief(fetched) => ("belief", now.since(fetched)),
        };
        let outcome = error.map_or_else(|| "ok".to_string(), |error| error.symbol());
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let event = Event::Operation { operation, path: readable(path), outcome, source, age_us };
        self.log.record(&self.clock, &event);
    }
}
