//! The flags that tune a client, the same for `mount` and `run`.

use std::time::Duration;

use chaosfs::{
    Clock, Delay, Knobs, Refusal,
    client::check_lending,
    knobs::{parse_bytes, parse_count, parse_delay, parse_probability, parse_span, parse_switch},
    terms::Terms,
};
use clap::{ArgAction, Args, Error, error::ErrorKind};

use super::{CONSISTENCY, FAULTS};

/// What tunes a client and its chance, the same for every command that mounts.
#[derive(Clone, Debug, Args)]
pub struct KnobArgs {
    /// Believe fetched attributes, names, missing names and listings for this long; 0 asks every time
    #[arg(
        long,
        env = "CHAOSFS_META_TTL_MS",
        hide_env_values = true,
        value_name = "TIME",
        default_value = "1500"
    )]
    #[arg(value_parser = parse_span, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub meta_ttl: Duration,

    /// Apply data and new files to the backing directory after this long; 0 applies them at once
    #[arg(
        long,
        env = "CHAOSFS_WRITE_DELAY_MS",
        hide_env_values = true,
        value_name = "DELAY",
        default_value = "800"
    )]
    #[arg(value_parser = parse_delay, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub write_delay: Delay,

    /// Apply changes of names, directories and attributes after this long; 0 applies them at once
    #[arg(
        long,
        env = "CHAOSFS_RENAME_DELAY_MS",
        hide_env_values = true,
        value_name = "DELAY",
        default_value = "1200"
    )]
    #[arg(value_parser = parse_delay, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub rename_delay: Delay,

    /// Show this client its own changes before they land (true or false)
    #[arg(
        long,
        env = "CHAOSFS_READ_YOUR_WRITES",
        hide_env_values = true,
        value_name = "BOOL",
        default_value = "true"
    )]
    #[arg(value_parser = parse_switch, action = ArgAction::Set, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub read_your_writes: bool,

    /// Block whatever changes something while what is in flight takes more memory (bytes, or with KiB, MiB, GiB)
    ///
    /// Data, names and symlinks count with their bytes, each change with about 0.6 KiB and each new inode with 2 KiB.
    #[arg(
        long,
        env = "CHAOSFS_MAX_IN_FLIGHT",
        hide_env_values = true,
        value_name = "SIZE",
        default_value = "256MiB"
    )]
    #[arg(value_parser = parse_bytes, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub max_in_flight: u64,

    /// Block whatever changes something while this many changes are in flight
    ///
    /// A limit on their number, whatever memory they take.
    #[arg(
        long,
        env = "CHAOSFS_MAX_MUTATIONS",
        hide_env_values = true,
        value_name = "N",
        default_value = "1000000"
    )]
    #[arg(value_parser = parse_count, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub max_mutations: usize,

    /// Forget the oldest beliefs when all of them take more memory than this (bytes, or with KiB, MiB, GiB)
    ///
    /// Beliefs are attributes, names, missing names, listings and the content of files that were read. A forgotten one is
    /// fetched again when it is needed, as if it had expired.
    #[arg(
        long,
        env = "CHAOSFS_MAX_BELIEF",
        hide_env_values = true,
        value_name = "SIZE",
        default_value = "64MiB"
    )]
    #[arg(value_parser = parse_bytes, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub max_belief: u64,

    /// Fail each operation with EIO with this probability (0 to 1, or a percentage)
    #[arg(
        long,
        env = "CHAOSFS_DROP_PROB",
        hide_env_values = true,
        value_name = "PROBABILITY",
        default_value = "0"
    )]
    #[arg(value_parser = parse_probability, allow_hyphen_values = true, help_heading = FAULTS)]
    pub drop_prob: f64,

    /// Repeat the faults and delays of an earlier run with this seed [default: random, and logged]
    #[arg(long, env = "CHAOSFS_SEED", hide_env_values = true, value_name = "NUMBER")]
    #[arg(value_parser = parse_seed, allow_hyphen_values = true, help_heading = FAULTS)]
    pub seed: Option<u64>,

    /// Use real time (`real`), or let time stand still until `chaosfs advance` moves it (`manual`)
    #[arg(long, env = "CHAOSFS_CLOCK", hide_env_values = true, value_name = "CLOCK", default_value = "real")]
    #[arg(value_parser = parse_clock, allow_hyphen_values = true, help_heading = CONSISTENCY)]
    pub clock: Clock,

    /// Let the kernel cache answers for as long as they are believed, and serve files itself where it can
    ///
    /// Programs see the same, faster, but not every operation reaches chaosfs, so this cannot be combined with --drop-prob,
    /// --debug, --clock manual or --read-your-writes false.
    #[arg(long, env = "CHAOSFS_KERNEL_CACHE", hide_env_values = true, value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_switch)]
    #[arg(action = ArgAction::Set, help_heading = CONSISTENCY)]
    pub kernel_cache: bool,
}

impl KnobArgs {
    /// The tunables of the client.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            meta_ttl: self.meta_ttl,
            write_delay: self.write_delay,
            rename_delay: self.rename_delay,
            drop_prob: self.drop_prob,
            read_your_writes: self.read_your_writes,
            max_in_flight: self.max_in_flight,
            max_mutations: self.max_mutations,
            max_belief: self.max_belief,
        }
    }
}

/// What cannot be had while the kernel keeps answers.
pub fn refuse_to_lend(args: &KnobArgs, knobs: &Knobs, debug: bool) -> Result<(), Error> {
    if !args.kernel_cache {
        return Ok(());
    }
    let refused = |refusal| Error::raw(ErrorKind::ArgumentConflict, format!("{refusal}\n"));
    check_lending(knobs, &args.clock, debug, Terms::Flags).map_err(refused)
}

/// Sets the seed or a knob, by the name of its flag.
///
/// # Errors
/// Says which names there are, or names the knob and says what is wrong with the value.
pub fn set_knob(knobs: &mut Knobs, seed: &mut Option<u64>, name: &str, value: &str) -> Result<(), Refusal> {
    if name != "seed" {
        return knobs.set(name, value);
    }
    *seed = Some(parse_seed(value).map_err(|refusal| Refusal::new(format!("seed: {refusal}")))?);
    Ok(())
}

fn parse_seed(text: &str) -> Result<u64, Refusal> {
    let wrong =
        |_| Refusal::new(format!("`{text}` is not a seed; write a whole number from 0 to {}", u64::MAX));
    text.parse().map_err(wrong)
}

fn parse_clock(text: &str) -> Result<Clock, Refusal> {
    match text {
        "real" => Ok(Clock::Monotonic),
        "manual" => Ok(Clock::manual()),
        _ => Err(Refusal::new(format!("`{text}` is not a clock; write `real` or `manual`"))),
    }
}
