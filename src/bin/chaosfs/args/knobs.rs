//! The flags that tune a client, the same for `mount` and `run`. Those of the [table](chaosfs::knobs) come from it.

use std::{
    io,
    path::{Path, PathBuf},
};

use chaosfs::{
    Clock, Knobs, Refusal,
    client::check_lending,
    knobs::{
        Kind, Knob, Topic, Tunable, parse_switch,
        profiles::mounted::{Likeness, Mounted},
    },
    terms::Terms,
};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind, parser::ValueSource,
};

use crate::voice::complain;

use super::{CONSISTENCY, FAULTS, STORAGE};

/// What tunes a client and its chance, the same for every command that mounts.
#[derive(Clone, Debug, Args)]
pub struct KnobArgs {
    #[command(flatten)]
    table: TableArgs<Knobs>,

    /// Behave like the storage that is mounted at PATH: take the profile and the options that fit
    ///
    /// `-` reads a line of /proc/self/mountinfo, /proc/mounts or fstab from standard input. Says what it takes.
    #[arg(long, value_name = "PATH", help_heading = CONSISTENCY)]
    pub like_mount: Option<PathBuf>,

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
        self.table.0.clone()
    }

    /// Takes the profile and the options of the mount that is to be imitated.
    pub fn take_likeness(&mut self, given: &ArgMatches) -> Result<(), Error> {
        let Some(path) = &self.like_mount else { return Ok(()) };
        if let Some(other) = ["profile", "options"].into_iter().find(|id| super::is_flag(given, id)) {
            let text = format!("--like-mount chooses what --{other} says; leave one of them out\n");
            return Err(Error::raw(ErrorKind::ArgumentConflict, text));
        }
        let likeness = likeness_of(path).map_err(|refusal| Refusal::new(format!("--like-mount {refusal}")));
        let likeness = likeness.map_err(super::steer::wrong)?;
        let knobs = &mut self.table.0;
        let taken =
            knobs.set("profile", likeness.profile).and_then(|()| knobs.set("options", &likeness.options));
        taken.map_err(super::steer::wrong)?;
        let options = match likeness.options.as_str() {
            "" => String::new(),
            options => format!(" -o {options}"),
        };
        let unknown = match likeness.unknown.join(",") {
            unknown if unknown.is_empty() => unknown,
            unknown => format!(", and not {unknown}, which it does not know"),
        };
        complain(&format!("--like-mount takes --profile {}{options}{unknown}", likeness.profile));
        Ok(())
    }

    /// What is wrong about several of them together.
    pub fn check(&self) -> Result<(), Error> {
        self.table.0.check().map_err(super::steer::wrong)
    }
}

fn likeness_of(path: &Path) -> Result<Likeness, Refusal> {
    if path != Path::new("-") {
        return Mounted::holding(path)?.likeness();
    }
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(|error| Refusal::new(format!("-: standard input: {error}")))?;
    let mounted = Mounted::of_line(&line).ok_or_else(|| {
        Refusal::new("-: standard input holds no line of /proc/self/mountinfo, /proc/mounts or fstab")
    });
    mounted?.likeness()
}

/// One flag for each knob of a table, and what they set.
#[derive(Clone, Debug)]
struct TableArgs<K>(K);

impl<K: Tunable + Send + Sync> Args for TableArgs<K> {
    fn augment_args(command: Command) -> Command {
        K::TABLE.iter().fold(command, |command, knob| command.arg(flag(knob)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<K: Tunable> FromArgMatches for TableArgs<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = TableArgs(K::default());
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    /// Takes what is given, in the order of the table. A default is not: a knob before it may have given it another value.
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let is_given = |knob: &&Knob<K>| {
            matches.value_source(knob.name).is_some_and(|source| source != ValueSource::DefaultValue)
        };
        K::TABLE.iter().filter(is_given).try_for_each(|knob| match matches.get_one::<String>(knob.name) {
            Some(text) => {
                let named = |refusal| Refusal::new(format!("--{}: {refusal}", knob.flag()));
                knob.set(&mut self.0, text).map_err(named).map_err(super::steer::wrong)
            }
            None => Ok(()),
        })
    }
}

fn flag<K: Tunable + Send + Sync>(knob: &'static Knob<K>) -> Arg {
    let checked = |text: &str| {
        // Which options there are is up to the profile, which another flag may choose.
        let check = if knob.name == "options" { Knob::assign } else { Knob::set };
        check(knob, &mut K::default(), text).map(|()| text.to_string())
    };
    let flag = match knob.name {
        "options" => Arg::new(knob.name).short('o'),
        name => Arg::new(name),
    };
    let flag = flag
        .long(knob.flag())
        .env(knob.variable)
        .hide_env_values(true)
        .value_name(placeholder(knob.kind))
        .value_parser(checked)
        .allow_hyphen_values(true)
        .help_heading(match knob.topic {
            Topic::Consistency => CONSISTENCY,
            Topic::Storage => STORAGE,
            Topic::Faults => FAULTS,
        });
    // One that is off can be switched on by its name alone.
    let flag = match knob.kind {
        Kind::Switch if knob.usual() == "false" => {
            flag.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        _ => flag,
    };
    let mut summary = knob.summary();
    let flag = match knob.follows {
        Some(leader) => {
            summary += &format!(" [default: that of --{}]", leader.replace('_', "-"));
            flag
        }
        None if knob.usual().is_empty() => flag,
        None => flag.default_value(knob.usual()),
    };
    summary += &match knob.kind {
        Kind::Choice(words) => format!(": {}", words.join(" or ")),
        Kind::Set(words) => format!(": {}, joined by `+`, or none", words.join(", ")),
        _ => String::new(),
    };
    let details: Vec<_> = knob.details().into_iter().map(|text| format!("\n\n{text}.")).collect();
    match details.is_empty() {
        true => flag.help(summary),
        false => flag.long_help(format!("{summary}{}", details.concat())).help(summary),
    }
}

fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Span => "TIME",
        Kind::Delay => "DELAY",
        Kind::Probability => "PROBABILITY",
        Kind::Switch => "BOOL",
        Kind::Bytes => "SIZE",
        Kind::Count => "N",
        Kind::Factor => "FACTOR",
        Kind::Choice(_) => "WORD",
        Kind::Set(_) => "WORDS",
        Kind::Text => "NAME",
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

/// Checks that there is such a knob, or the seed, and that it takes this value.
///
/// # Errors
/// As for [`set_knob`].
pub fn check_knob(name: &str, value: &str) -> Result<(), Refusal> {
    match name {
        "seed" => set_knob(&mut Knobs::default(), &mut None, name, value),
        _ => Knobs::check_value(name, value),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    chaosfs::knobs! {
        /// A table that is not ours.
        pub struct Others {
            /// How fast it goes.
            ///
            /// Faster is not always better.
            pub speed: u64 = 1 << 20, Faults, "OTHERS_SPEED";

            /// How fast it goes down.
            pub descent: Option<u64> = None, Consistency, "OTHERS_DESCENT", follows speed;
        }
    }

    fn read(words: &[&str]) -> Result<Others, Error> {
        let command = TableArgs::<Others>::augment_args(Command::new("others").no_binary_name(true));
        TableArgs::from_arg_matches(&command.try_get_matches_from(words)?).map(|args| args.0)
    }

    #[test]
    fn each_entry_of_a_table_is_a_flag() {
        assert_eq!(read(&[]).unwrap(), Others::default());
        assert_eq!(read(&["--speed", "2KiB"]).unwrap(), Others { speed: 2048, ..Others::default() });
        assert_eq!(read(&["--descent", "7"]).unwrap(), Others { descent: Some(7), ..Others::default() });
        assert_eq!(read(&["--descent", "speed"]).unwrap(), Others::default());
        let refusal = read(&["--speed", "fast"]).unwrap_err().to_string();
        assert!(refusal.contains("'--speed <SIZE>': `fast` is not a size"), "{refusal}");
    }

    #[test]
    fn the_help_shows_each_entry_with_its_variable_and_default() {
        let mut command = TableArgs::<Others>::augment_args(Command::new("others"));
        let help = command.render_long_help().to_string();
        for part in [
            "How fast it goes\n",
            "Faster is not always better.",
            "[env: OTHERS_SPEED]",
            "[default: 1MiB]",
            "--descent <SIZE>",
            "How fast it goes down [default: that of --speed]",
            "Faults:",
        ] {
            assert!(help.contains(part), "no `{part}` in {help}");
        }
    }
}
