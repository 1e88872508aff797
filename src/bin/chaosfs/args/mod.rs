//! The commands, their flags and their variables: one file per command.

mod exec;
mod knobs;
mod mount;
mod profiles;
mod run;
mod status;
mod steer;
mod targets;
mod umount;
mod variables;

use std::{env, process};

use clap::{
    ArgMatches, CommandFactory, Error, FromArgMatches, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};
use clap_complete::Shell;

use crate::exec::OWN_FAILURE;

pub use exec::ExecArgs;
pub use knobs::{KnobArgs, set_knob};
pub use mount::MountArgs;
pub use profiles::ProfilesArgs;
pub use run::{ClientArg, RunArgs, variable_of};
pub use status::{ListArgs, StatusArgs};
pub use steer::{AdvanceArgs, SetArgs, SteerArgs};
pub use targets::{QuietArg, TargetArgs};
pub use umount::UmountArgs;
pub use variables::{BACKING, CLIENT, MOUNTS, variable_of_flag};

const CLIENTS: &str = "Clients";
const CONSISTENCY: &str = "Consistency";
const STORAGE: &str = "Rules of the storage";
const FAULTS: &str = "Faults";
const LOG: &str = "Log";
const PROCESS: &str = "Process";

/// Make one machine stand in for many hosts on shared storage, with late writes, stale metadata and failures
///
/// Each client is a FUSE mount of the same backing directory. Run your own program on two of them and watch it meet what
/// hosts on shared storage meet: changes that other hosts see late, metadata that is out of date, operations that fail.
///
/// A client's change is visible to that client at once. It is "in flight" until it "lands": until it is applied to the
/// backing directory, where the other clients find it the next time they look.
#[derive(Debug, Parser)]
#[command(name = "chaosfs", version, after_help = EXAMPLE, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  mkdir shared a b
  chaosfs mount shared a --client-id a --background --log-dir logs
  chaosfs mount shared b --client-id b --background --log-dir logs
  echo hello > a/file; ls b; sleep 3; ls b
  chaosfs umount a b";

#[derive(Debug, Subcommand)]
pub enum Command {
    Mount(Box<MountArgs>),
    #[command(visible_alias = "unmount")]
    Umount(UmountArgs),
    Status(StatusArgs),
    List(ListArgs),
    Set(SetArgs),
    /// Stop applying due changes until `release`
    ///
    /// fsync, `flush` and unmounting still land changes. Even with delays of 0, changes stay in flight meanwhile.
    Hold(SteerArgs),
    /// Apply due changes again, starting with those that became due since `hold`
    Release(SteerArgs),
    /// Apply everything in flight now, due or not, held or not
    ///
    /// Returns when everything has landed. If something cannot land, names it and fails.
    Flush(SteerArgs),
    /// Drop everything clients believe, so that they ask the backing directory again
    Expire(SteerArgs),
    /// Drop everything in flight, as if the host had crashed, and name it
    ///
    /// Programs keep running. An open file that lost data reports EIO once; a file that was lost as a whole answers ESTALE.
    Lose(SteerArgs),
    Advance(AdvanceArgs),
    Run(Box<RunArgs>),
    Exec(ExecArgs),
    Profiles(ProfilesArgs),
    /// Print a completion script
    Completions {
        /// The shell to print it for
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// Reads the command line and the variables; prints help or what is wrong and exits if that is all there is to do.
pub fn parse() -> Command {
    read().unwrap_or_else(|error| {
        let _ = error.print();
        process::exit(if error.use_stderr() { usage_code() } else { 0 })
    })
}

/// Where the exit status is otherwise that of a command which is run, a mistake in our own arguments must not look like it.
fn usage_code() -> i32 {
    let runs_another = env::args_os().nth(1).is_some_and(|command| command == "run" || command == "exec");
    if runs_another { OWN_FAILURE.into() } else { 2 }
}

fn read() -> Result<Command, Error> {
    let matches = Cli::command().try_get_matches().map_err(|error| match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8 => {
            let command = env::args_os().nth(1);
            command.and_then(|command| variables::wrong_variable(&command.to_string_lossy())).unwrap_or(error)
        }
        _ => error,
    })?;
    let Some((name, given)) = matches.subcommand() else { unreachable!("clap requires a subcommand") };
    variables::wrong_variable(name).map_or(Ok(()), Err)?;
    let mut command = Cli::from_arg_matches(&matches)?.command;
    match &mut command {
        Command::Mount(args) => {
            mount::prefer_log_flag(args, given)?;
            args.log_named_by = log_named_by(given);
            args.knobs.take_likeness(given)?;
            args.knobs.check()?;
            knobs::refuse_to_lend(&args.knobs, &args.knobs.knobs(), args.debug)?;
        }
        Command::Status(args) => {
            args.named = !args.targets.mountpoints.is_empty();
            args.targets.resolve();
        }
        Command::List(args) => args.targets.resolve(),
        Command::Set(args) => args.sort()?,
        Command::Advance(args) => args.sort()?,
        Command::Hold(args)
        | Command::Release(args)
        | Command::Flush(args)
        | Command::Expire(args)
        | Command::Lose(args) => args.targets.resolve_some()?,
        Command::Exec(args) => args.resolve(),
        Command::Run(args) if args.clean => run::refuse_beside_clean(given)?,
        Command::Run(args) => {
            args.knobs.take_likeness(given)?;
            args.knobs.check()?;
            run::check_combinations(args)?;
            args.log_named_by = log_named_by(given);
        }
        Command::Umount(args) => {
            args.resolve();
            if args.name_clients() && !is_flag(given, "mount_base") {
                args.mount_base = None;
            }
        }
        _ => {}
    }
    Ok(command)
}

/// By which name a place for the log was given: an error about it is about that flag or variable.
fn log_named_by(given: &ArgMatches) -> &'static str {
    if given.try_contains_id("log_file").unwrap_or(false) {
        "--log-file"
    } else if is_flag(given, "log_dir") {
        "--log-dir"
    } else {
        "LOG_DIR"
    }
}

fn is_flag(given: &ArgMatches, id: &str) -> bool {
    given.value_source(id) == Some(ValueSource::CommandLine)
}
