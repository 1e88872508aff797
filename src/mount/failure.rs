//! What a failing test prints about its clients: what it takes to find the cause and to repeat the run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    thread,
};

use super::Mount;
use crate::event::Printable;

/// If this thread is panicking, prints one block about these clients to standard error; call it before they leave. No
/// client appears in a second block.
pub fn tell(mounts: &[Mount]) {
    if !thread::panicking() {
        return;
    }
    let lines: Vec<String> =
        mounts.iter().filter(|mount| !mount.told_of.swap(true, Ordering::SeqCst)).map(line).collect();
    if lines.is_empty() {
        return;
    }
    let head =
        "chaosfs: clients at the time of the panic; the same seed and knobs repeat their faults and delays:";
    // `eprintln`, because a test runner captures what that prints and shows it with the test. It panics where standard
    // error cannot be written, and a panic that leaves a destructor would abort the process with everything mounted.
    let print = || eprintln!("{head}\n{}", Printable(&lines.join("\n")));
    let _ = catch_unwind(AssertUnwindSafe(print));
}

fn line(mount: &Mount) -> String {
    let status = mount.status();
    format!(
        "  {}: seed={} clock={} {} in_flight={} conflicts={} faults={} lost={} log: {}",
        status.client,
        status.seed,
        status.clock,
        mount.served.client.knobs(),
        status.in_flight.mutations,
        status.conflicts,
        status.faults,
        status.lost,
        mount.served.log.place()
    )
}
