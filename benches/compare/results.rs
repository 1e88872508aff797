//! What came out: seconds by workload, mount and round, and the medians of their ratios.

use std::collections::{BTreeMap, BTreeSet};

use crate::mounts::Kind;

/// See the module.
#[derive(Debug, Default)]
pub struct Results {
    seconds: BTreeMap<(&'static str, Kind), BTreeMap<u32, f64>>,
    failed: BTreeSet<(&'static str, Kind)>,
}

impl Results {
    pub fn add(&mut self, workload: &'static str, kind: Kind, round: u32, seconds: f64) {
        self.seconds.entry((workload, kind)).or_default().insert(round, seconds);
    }

    /// The workload is of no use on this kind.
    pub fn fail(&mut self, workload: &'static str, kind: Kind) {
        self.failed.insert((workload, kind));
        self.seconds.remove(&(workload, kind));
    }

    pub fn has_failed(&self, workload: &'static str, kind: Kind) -> bool {
        self.failed.contains(&(workload, kind))
    }

    /// Whether anything was measured on this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.seconds.keys().any(|(_, measured)| *measured == kind)
    }

    /// How many times as fast `ours` is as `theirs`: the median over the rounds.
    pub fn ratio(&self, workload: &'static str, ours: Kind, theirs: Kind) -> Option<f64> {
        let (ours, theirs) = (self.seconds.get(&(workload, ours))?, self.seconds.get(&(workload, theirs))?);
        let ratios = ours.iter().filter_map(|(round, seconds)| Some(theirs.get(round)? / seconds));
        median(ratios.collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some((values[middle] + values[values.len() / 2]) / 2.0)
}
