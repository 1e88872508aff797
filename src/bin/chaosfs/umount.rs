//! `chaosfs umount`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use chaosfs::{Unmounted, harness::sweep_run_of, mounts_below, unmount};

use crate::args::UmountArgs;

/// Unmounts all targets, one after the other, and says what happened to each.
pub fn run(args: &UmountArgs) -> anyhow::Result<ExitCode> {
    let below = args.mount_base.as_deref().map(targets_below).transpose()?.unwrap_or_default();
    let mut all_well = true;
    for target in args.mounts.iter().chain(&below) {
        let outcome = unmount(target);
        all_well &= outcome.is_success();
        report(target, &outcome);
        sweep_run_of(target);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn targets_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let targets = mounts_below(folder).context("--mount-base")?;
    if targets.is_empty() {
        say(&format!("{}: no chaosfs mount directly below", folder.display()));
    }
    Ok(targets)
}

fn report(target: &Path, outcome: &Unmounted) {
    say(&format!("{}: {outcome}", target.display()));
}

/// What is unmounted is unmounted, whether or not anybody still reads along.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
