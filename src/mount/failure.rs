//! What a test that fails says about its clients: all that somebody needs who wants to know why, or to see it again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    thread,
};

use super::Mount;

/// If this thread is panicking, writes one block about these clients to standard error, before they leave. A client is
/// in no more than one block.
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
    // Not written to the stream itself: so the test runner shows it with the test that it belongs to. A second panic
    // here would end the process and leave the mounts.
    let print = || eprintln!("{head}\n{}", lines.join("\n"));
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
