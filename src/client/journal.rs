//! What a client writes down: how often it was asked for what, notes, and what it has acknowledged.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::Client;
use crate::{event::Event, operation::Operation};

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
    /// Writes down something that a person should know.
    pub fn note(&self, text: String) {
        self.log.record(&self.clock, &Event::Note { text });
    }

    /// Logs what has been acknowledged since the last time. Not as it is: nothing is written under the state's lock.
    pub(super) fn log_acknowledged(&self) {
        let acknowledged = std::mem::take(&mut self.lock().acknowledged);
        acknowledged.iter().for_each(|event| self.log.record(&self.clock, event));
    }
}
