//! The page of tables.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context, Result};
use nix::sys::utsname::uname;

use crate::{mounts::Kind, results::Results, workloads::WORKLOADS};

/// What a reader has to know to judge the figures.
#[derive(Debug)]
pub struct Circumstances {
    rounds: u32,
    scale: f64,
    processors: usize,
    kernel: String,
    machine: String,
    date: String,
}

impl Circumstances {
    /// Asks this machine; `directory` is where the comparison takes place.
    ///
    /// # Errors
    /// What the machine answers.
    pub fn new(rounds: u32, scale: f64, directory: &Path) -> Result<Circumstances> {
        let system = uname()?;
        let kernel = system.release().to_string_lossy();
        let is_virtual = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
        let kind = if is_virtual { "virtual machine" } else { "machine" };
        let file_system = said(Command::new("findmnt").args(["-n", "-o", "FSTYPE", "-T"]).arg(directory))?;
        Ok(Circumstances {
            rounds,
            scale,
            processors: thread::available_parallelism()?.get(),
            // What distributions append says nothing to others.
            kernel: kernel.split(['-', '+']).next().unwrap_or_default().to_string(),
            machine: format!("{} {kind}, {file_system}", system.machine().to_string_lossy()),
            date: said(Command::new("date").arg("+%Y-%m-%d"))?,
        })
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

const INTRODUCTION: &str = "\
<!-- Written by `cargo bench --bench compare`; not by hand. -->
# Speed

How many times as fast as each of the others `chaosfs` is: above 1 it is faster, below 1 slower. Less than 15 % either way
is noise. Each figure is the median of the ratios of all rounds; in a round every file system does the same work right after
the other. What a workload works on is warm in the backing directory and unknown to the mount. Daemons and workloads share
one processor.

- **native**: the backing directory itself.
- **bindfs**: a plain passthrough, as it comes: the kernel caches names, attributes and pages.
- **bindfs0**: bindfs with `-o attr_timeout=0,entry_timeout=0,negative_timeout=0`.
- **seed**: the `chaosfs` 0.3.0 of PyPI, a Python program, without its delays, in the first two rounds.
- **floor**: a FUSE file system on the same crate that keeps nothing and answers every request at once without looking
  anywhere. What it takes is the kernel's: where every request is observed nothing can be faster.

![Bars of the ratios below](speed.svg)

";

/// The whole page.
pub fn page(circumstances: &Circumstances, results: &Results) -> String {
    let Circumstances { rounds, scale, processors, kernel, machine, date } = circumstances;
    let mut page = INTRODUCTION.to_string();
    page += &format!(
        "{date}: {rounds} {}, Linux {kernel}, {processors} processors, {machine}.",
        if *rounds == 1 { "round" } else { "rounds" }
    );
    if *scale < 1.0 || *rounds < 5 {
        page += &format!(" **A trial** at {scale} of the full counts and sizes: not to be relied on.");
    }
    page += "\n";
    for (ours, heading) in SECTIONS {
        if results.has(*ours) {
            page += &format!("\n## {heading}\n\n{}", table(results, *ours));
        }
    }
    page
}

const SECTIONS: &[(Kind, &str)] = &[
    (Kind::Zero, "Every request observed, all knobs zero"),
    (Kind::Default, "Every request observed, default knobs"),
    (Kind::Cached, "`--kernel-cache`, no delays, default time to live"),
    (Kind::CachedZero, "`--kernel-cache`, all knobs zero"),
    (Kind::Bindfs, "For comparison: bindfs against the others"),
];

fn table(results: &Results, ours: Kind) -> String {
    let others = [Kind::Native, Kind::Bindfs, Kind::Bindfs0, Kind::Seed, Kind::Floor];
    let others: Vec<Kind> = others.into_iter().filter(|kind| *kind != ours && results.has(*kind)).collect();
    let names: String = others.iter().map(|kind| format!(" {} |", kind.name())).collect();
    let mut table = format!("| workload |{names}\n|---|{}\n", "---:|".repeat(others.len()));
    for workload in WORKLOADS {
        let ratios: Vec<_> = others.iter().map(|kind| results.ratio(workload.name, ours, *kind)).collect();
        if ratios.iter().any(Option::is_some) {
            let cells: String = ratios.into_iter().map(|ratio| format!(" {} |", cell(ratio))).collect();
            table += &format!("| {} |{cells}\n", workload.title);
        }
    }
    table
}

fn cell(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_string(), figure)
}

/// A ratio with as many digits as it has meaning.
pub fn figure(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}
