//! Compares chaosfs with the plain directory, with bindfs and with the chaosfs 0.3.0 of PyPI, workload by workload:
//!
//! ```sh
//! cargo bench --bench compare -- --rounds 5
//! ```
//!
//! It builds chaosfs, mounts everything over one directory, runs every workload on every mount, writes `docs/speed.md` and
//! `docs/speed.svg`, and takes everything away again, also on Ctrl-C. As root; it needs `bindfs`, `libfuse2`, `git`,
//! `python3-venv` and the network (for PyPI).
//!
//! | file | what |
//! |---|---|
//! | `mounts.rs` | what is compared, and how each is started and stopped |
//! | `floor.rs` | what nothing on the same crate can be faster than |
//! | `ground.rs` | what all of it stands on: the directories, and what workloads read |
//! | `workloads.rs` | what is done and timed |
//! | `results.rs` | what came out: medians of ratios |
//! | `tables.rs`, `picture.rs` | how it is shown |
//!
//! # What makes it fair
//!
//! - Each round runs a workload on all mounts before the next one, in an order that is rotated.
//! - What a workload works on is made in the backing directory, so the view is cold and the backing directory warm.
//! - Daemons and workloads share one processor: where the scheduler puts the two decides more than their code.
//! - What is in flight lands between two workloads, untimed. What a delay saves a program is the program's gain.
//! - Nothing is deleted before the end: ext4 does not reuse an inode for a while and scans past it.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod floor;
mod ground;
mod mounts;
mod picture;
mod results;
mod tables;
mod workloads;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nix::unistd::geteuid;

use ground::Ground;
use mounts::{Kind, Mount};
use results::Results;
use workloads::{Site, WORKLOADS, Workload};

/// Compare chaosfs with other file systems and write docs/speed.md and docs/speed.svg
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench compare --")]
struct Arguments {
    /// How often each workload is run on each mount
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Factor on counts and sizes, 0.01 to 1; less than 1 is a trial
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only workloads whose names start with one of these
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD,...")]
    only: Vec<String>,
    /// Only these mounts
    #[arg(long, value_delimiter = ',', value_name = "MOUNT,...")]
    mounts: Vec<Kind>,
    /// Where the backing directory is made; a file system that is not tmpfs
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    directory: PathBuf,
    /// Where the two files are written
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/doc"), value_name = "DIR")]
    output: PathBuf,
    /// Serve the floor there, for a comparison that has started this
    #[arg(long, hide = true, value_name = "MOUNTPOINT")]
    serve_floor: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // A plain `cargo bench` comes by here, too.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        println!("compare takes long, and root: cargo bench --bench compare -- --rounds 5");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let outcome = match &arguments.serve_floor {
        Some(mountpoint) => floor::serve(mountpoint),
        None => compare(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "only root may drop the kernel's caches between two workloads: run it as root"
    );
    ensure!((0.01..=1.0).contains(&arguments.scale), "--scale {}: 0.01 to 1", arguments.scale);
    ensure!(arguments.output.is_dir(), "--output {}: no such directory", arguments.output.display());
    let workloads = chosen_workloads(&arguments.only)?;
    let kinds = mounts::chosen(&arguments.mounts)?;
    let circumstances = tables::Circumstances::new(arguments.rounds, arguments.scale, &arguments.directory)?;
    let ground = Ground::prepare(&arguments.directory, arguments.scale, kinds.contains(&Kind::Seed))?;
    let mounts = kinds.iter().map(|kind| Mount::start(*kind, &ground)).collect::<Result<Vec<_>>>()?;

    let mut results = Results::default();
    for round in 0..arguments.rounds {
        for workload in &workloads {
            run(workload, round, &mounts, &ground, &mut results)?;
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }

    let text = tables::page(&circumstances, &results);
    print!("{text}");
    let write = |name: &str, text: &str| {
        let path = arguments.output.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write("speed.md", &text)?;
    write("speed.svg", &picture::draw(&results))
}

fn chosen_workloads(only: &[String]) -> Result<Vec<&'static Workload>> {
    let is_meant = |workload: &&Workload| only.iter().any(|start| workload.name.starts_with(start.as_str()));
    let chosen: Vec<_> = WORKLOADS.iter().filter(|workload| only.is_empty() || is_meant(workload)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        bail!("--only {}: there are {}", only.join(","), names.join(", "));
    }
    Ok(chosen)
}

/// The seed takes ten minutes for a round.
const SEED_ROUNDS: u32 = 2;

/// One workload on all mounts, once. One that fails on a mount is told and left out there from then on.
fn run(
    workload: &Workload,
    round: u32,
    mounts: &[Mount],
    ground: &Ground,
    results: &mut Results,
) -> Result<()> {
    ground.drop_dentries()?;
    // Programs and what they read are warm for everybody.
    let warm = Mount::start(Kind::Native, ground)?;
    let site = Site::new(ground, &warm, &format!("{}-{round}-warm", workload.name))?;
    (workload.run)(&site).with_context(|| format!("{} fails on the plain directory", workload.name))?;
    let first = round as usize % mounts.len();
    for mount in mounts[first..].iter().chain(&mounts[..first]) {
        let has_nothing_to_say = mount.kind == Kind::Floor && !workload.is_on_names;
        let has_said_enough = mount.kind == Kind::Seed && round >= SEED_ROUNDS;
        if has_nothing_to_say || has_said_enough || results.has_failed(workload.name, mount.kind) {
            continue;
        }
        let site = Site::new(ground, mount, &format!("{}-{round}-{}", workload.name, mount.kind.name()))?;
        let outcome = (workload.run)(&site);
        ground.check_not_stopped()?;
        site.settle()?;
        match outcome {
            Ok(Some(seconds)) => results.add(workload.name, mount.kind, round, seconds),
            Ok(None) => {}
            Err(error) => {
                eprintln!("{} fails on {}: {error:#}", workload.name, mount.kind.name());
                results.fail(workload.name, mount.kind);
            }
        }
    }
    Ok(())
}
