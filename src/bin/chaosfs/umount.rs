//! `chaosfs umount`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use chaosfs::{
    Unmounted, event::OneLine, harness::sweep_run_of, mounts_below, mounts_of_user, unmount_within,
};

use crate::{
    args::{QuietArg, UmountArgs},
    voice::{complain, complain_at_length, say, say_at_length},
};

/// Unmounts all targets, one after the other, and says what happened to each: on standard error where it is no success.
pub fn run(args: &UmountArgs) -> anyhow::Result<ExitCode> {
    let mut all_well = true;
    for target in targets(args)? {
        let name = target.display();
        let mut tell = |what: &str| {
            if !args.quiet.quiet {
                complain(&format!("{name}: waiting: {what}"));
            }
        };
        let outcome = unmount_within(&target, args.timeout, &mut tell);
        report(&target, &outcome, args.quiet);
        all_well &= outcome.is_success();
        sweep_run_of(&target);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is named, as it is named, and then what is found, which may be the same under another name.
fn targets(args: &UmountArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut targets: Vec<PathBuf> = args.mountpoints.iter().chain(&args.mounts).cloned().collect();
    let mut found = args
        .mount_base
        .as_deref()
        .map(|folder| targets_below(folder, args.quiet))
        .transpose()?
        .unwrap_or_default();
    if args.all {
        let mine = mounts_of_user()?;
        if mine.is_empty() {
            say("no chaosfs client is mounted", args.quiet.quiet);
        }
        found.extend(mine);
    }
    let named: Vec<PathBuf> = targets.iter().filter_map(|target| target.canonicalize().ok()).collect();
    for target in found {
        if !named.contains(&target) && !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

fn targets_below(folder: &Path, quiet: QuietArg) -> anyhow::Result<Vec<PathBuf>> {
    let targets = mounts_below(folder).context("--mount-base")?;
    if targets.is_empty() {
        say(&format!("{}: no chaosfs mount directly below", folder.display()), quiet.quiet);
    }
    Ok(targets)
}

fn report(target: &Path, outcome: &Unmounted, quiet: QuietArg) {
    let lines = format!("{}: {outcome}", OneLine(&target.display().to_string()));
    if outcome.is_success() { say_at_length(&lines, quiet.quiet) } else { complain_at_length(&lines) }
}
