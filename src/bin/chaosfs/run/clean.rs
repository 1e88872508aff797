//! `chaosfs run --clean`.

use std::process::ExitCode;

use chaosfs::{
    event::readable_size,
    harness::{Cleaned, clean_runs},
};

use crate::{
    exec::OWN_FAILURE,
    voice::{complain, say},
};

/// Removes what earlier runs of this user have left, and says what that was.
pub fn clean(quiet: bool) -> ExitCode {
    let cleaned = clean_runs();
    let say = |line: &str| say(line, quiet);
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
