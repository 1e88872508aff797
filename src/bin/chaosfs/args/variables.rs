//! The variables that commands read.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{Arg, CommandFactory, Error, builder::Resettable, error::ErrorKind};

use super::Cli;

/// Checks every variable that the command knows, also one that a flag goes before: clap alone would blame the flag
/// for a wrong variable, and would not look at a variable that it does not need.
pub fn wrong_variable(command: &str) -> Option<Error> {
    let cli = Cli::command();
    let arguments = cli.find_subcommand(command)?.get_arguments();
    let wrong = |argument: &Arg| {
        let name = argument.get_env()?;
        let reason = why_wrong(argument, &env::var_os(name)?)?;
        Some(Error::raw(ErrorKind::ValueValidation, format!("{}: {reason}\n", name.to_string_lossy())))
    };
    arguments.into_iter().find_map(wrong)
}

/// Lets clap judge the value as if it stood on the command line.
fn why_wrong(argument: &Arg, value: &OsStr) -> Option<String> {
    let argument = argument.clone().env(Resettable::Reset).index(1).required(true);
    let positional = argument.short(Resettable::Reset).long(Resettable::Reset);
    let judge = clap::Command::new("chaosfs").no_binary_name(true).arg(positional);
    let error = judge.try_get_matches_from([OsString::from("--"), value.to_os_string()]).err()?;
    let source = std::error::Error::source(&error).map(ToString::to_string);
    Some(source.unwrap_or_else(|| "it is empty or not text; set it to a value or unset it".to_string()))
}
