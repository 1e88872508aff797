//! `chaosfs run --clean`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use chaosfs::{
    event::readable_size,
    harness::{Cleaned, clean_runs},
};

use crate::{complain, exec::OWN_FAILURE};

/// Removes what earlier runs of this user have left, and says what that was.
pub fn clean(quiet: bool) -> ExitCode {
    let cleaned = clean_runs();
    // What is removed is removed, whether or not anybody reads along.
    let say = |line: &str| {
        if !quiet {
            let _ = writeln!(io::stdout(), "{line}");
        }
    };
    let mut well = true;
    for outcome in &cleaned {
        match outcome {
            Cleaned::Removed(path, size) => {
                say(&format!("removed {} ({} of logs)", path.display(), readable_size(*size)))
            }
            Cleaned::Kept(path) => say(&format!("kept, as asked by --keep: {}", path.display())),
            Cleaned::Failed(refusal) => {
                complain(&refusal.to_string());
                well = false;
            }
        }
    }
    if cleaned.is_empty() {
        say("there is nothing to clean up");
    }
    if well { ExitCode::SUCCESS } else { ExitCode::from(OWN_FAILURE) }
}
