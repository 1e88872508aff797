//! The arguments of `chaosfs status` and `chaosfs list`.

use clap::Args;

use super::targets::TargetArgs;

/// Show what clients are doing
///
/// Prints a table of all of your clients, or of those over one backing directory. With a MOUNTPOINT or --verbose, prints
/// everything about each client instead: knobs, seed and time; what it has done, has in flight and could not land. A client
/// whose daemon has died is shown as dead, with the command that removes its mount. Fails if a client is dead or does not
/// answer.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub targets: TargetArgs,

    /// Show everything about each client
    #[arg(short, long)]
    pub verbose: bool,

    /// Print one JSON object per line, one line for each client
    ///
    /// Every object has `client`, `mountpoint` and `dead` (true if its daemon has died). A client that answers also has
    /// `backing`, `pid`, `version`, `seed`, `knobs`, `clock`, `kernel_cache`, `uptime_ms`, `held`, `operations`, `faults`,
    /// `in_flight`, `landed`, `conflicts`, `dropped`, `lost`, `lost_latest`, `known_inodes`, `descriptors`, `lent`,
    /// `belief_bytes` and `beliefs_evicted`, as docs/control.md explains. One that does not answer has `error`, one line of text, and `backing` or null. Counts
    /// and times are numbers, switches are booleans. More keys may be added.
    #[arg(long)]
    pub json: bool,

    /// Repeat every second until Ctrl-C
    ///
    /// On a terminal, each output replaces the previous one; elsewhere they follow each other.
    #[arg(long)]
    pub watch: bool,

    /// Whether clients were named, rather than found.
    #[arg(skip)]
    pub named: bool,
}

/// List clients, one per line
///
/// Prints the client ID, the mountpoint and the backing directory of each client. A client whose daemon has died is
/// listed as dead, with the command that removes its mount.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub targets: TargetArgs,

    /// Print only the mountpoints
    #[arg(short, long)]
    pub quiet: bool,
}
