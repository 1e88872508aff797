//! The variables that commands read: what is in them, and which there are.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{Arg, Command, CommandFactory, Error, builder::Resettable, error::ErrorKind};

use super::Cli;

const PREFIX: &str = "CHAOSFS_";

/// What `run` sets for its command, besides one variable for each client.
pub const BACKING: &str = "CHAOSFS_BACKING";
/// The mountpoints of the clients of a run, separated by colons.
pub const MOUNTS: &str = "CHAOSFS_MOUNTS";
/// With `--each`, the client whose turn it is.
pub const CLIENT: &str = "CHAOSFS_CLIENT";
/// Followed by the name of a client: its mountpoint.
pub const MOUNT: &str = "CHAOSFS_MOUNT_";

/// How alike two names are of which one is taken for a slip of the other, from 0 to 1.
const ALIKE: f64 = 0.8;

/// What is wrong with the variables of this command: one that it reads holds no value that it takes, or one that looks
/// like ours is none.
pub fn wrong_variable(command: &str) -> Option<Error> {
    let cli = Cli::command();
    let command = cli.find_subcommand(command)?;
    let wrong = |text: String| Error::raw(ErrorKind::ValueValidation, text + "\n");
    wrong_value(command).or_else(|| unknown_variable(command)).map(wrong)
}

/// The variable from which `run` reads the value of this flag where the flag is not given.
pub fn variable_of_flag(flag: &str) -> Option<String> {
    let cli = Cli::command();
    let mut arguments = cli.find_subcommand("run")?.get_arguments();
    let name = arguments.find(|argument| argument.get_long() == Some(flag))?.get_env()?;
    Some(name.to_str()?.to_string())
}

/// Checks every variable that the command knows, also one that a flag goes before: clap alone would blame the flag
/// for a wrong variable, and would not look at a variable that it does not need.
fn wrong_value(command: &Command) -> Option<String> {
    command.get_arguments().find_map(|argument| {
        let name = argument.get_env()?;
        let reason = why_wrong(argument, &env::var_os(name)?)?;
        Some(format!("{}: {reason}", name.to_string_lossy()))
    })
}

/// Lets clap judge the value as if it stood on the command line.
fn why_wrong(argument: &Arg, value: &OsStr) -> Option<String> {
    let argument = argument.clone().env(Resettable::Reset).index(1).required(true);
    let positional = argument.short(Resettable::Reset).long(Resettable::Reset);
    let judge = Command::new("chaosfs").no_binary_name(true).arg(positional);
    let error = judge.try_get_matches_from([OsString::from("--"), value.to_os_string()]).err()?;
    let source = std::error::Error::source(&error).map(ToString::to_string);
    Some(source.unwrap_or_else(|| "it is empty or not text; set it to a value or unset it".to_string()))
}

/// A variable that was mistyped would be ignored in silence. Only commands that read knobs from variables are strict.
fn unknown_variable(command: &Command) -> Option<String> {
    let read = command.get_arguments().filter_map(Arg::get_env).filter_map(OsStr::to_str);
    let known: Vec<&str> = read.filter(|name| name.starts_with(PREFIX)).collect();
    let strict = !known.is_empty();
    let is_ours = |name: &str| known.contains(&name) || is_told_by_run(name) || is_read_elsewhere(name);
    let mut unknown: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| strict && name.starts_with(PREFIX) && !is_ours(name))
        .collect();
    unknown.sort_unstable();
    let name = unknown.first()?;
    Some(match nearest(name, &known) {
        Some(meant) => format!("{name}: there is no such variable; did you mean {meant}?"),
        None => format!("{name}: there is no such variable; unset it, or write one of {}", known.join(", ")),
    })
}

fn is_told_by_run(name: &str) -> bool {
    [BACKING, MOUNTS, CLIENT].contains(&name) || name.starts_with(MOUNT)
}

/// By another command of ours.
fn is_read_elsewhere(name: &str) -> bool {
    let cli = Cli::command();
    cli.get_subcommands().flat_map(Command::get_arguments).filter_map(Arg::get_env).any(|other| other == name)
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let own = |name: &str| name.trim_start_matches(PREFIX).trim_end_matches("_MS").to_string();
    let alike = |other: &str| strsim::jaro_winkler(&own(name), &own(other));
    let best = known.iter().copied().max_by(|one, other| alike(one).total_cmp(&alike(other)));
    best.filter(|best| alike(best) >= ALIKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_something_else_is_not() {
        let known =
            ["CHAOSFS_META_TTL_MS", "CHAOSFS_WRITE_DELAY_MS", "CHAOSFS_RENAME_DELAY_MS", "CHAOSFS_SEED"];
        for (name, meant) in [
            ("CHAOSFS_WRITE_DELAY", Some("CHAOSFS_WRITE_DELAY_MS")),
            ("CHAOSFS_META_TTL", Some("CHAOSFS_META_TTL_MS")),
            ("CHAOSFS_RENAM_DELAY_MS", Some("CHAOSFS_RENAME_DELAY_MS")),
            ("CHAOSFS_SEDE", Some("CHAOSFS_SEED")),
            ("CHAOSFS_HOME", None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
    }
}
