//! The commands, their flags and their variables: one file per command.

mod exec;
mod knobs;
mod mount;
mod run;
mod steer;
mod umount;
mod variables;

use std::env;

use clap::{
    ArgMatches, CommandFactory, Error, FromArgMatches, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};
use clap_complete::Shell;

pub use exec::ExecArgs;
pub use knobs::{KnobArgs, set_knob};
pub use mount::MountArgs;
pub use run::{ClientArg, RunArgs, variable_of};
pub use steer::{AdvanceArgs, SetArgs, StatusArgs, TargetArgs};
pub use umount::UmountArgs;
pub use variables::{BACKING, CLIENT, MOUNTS};

const CLIENTS: &str = "Clients";
const CONSISTENCY: &str = "Consistency";
const FAULTS: &str = "Faults";
const LOG: &str = "Log";
const PROCESS: &str = "Process";

/// Make one machine stand in for many: mount clients over one directory that see it late, stale and failing
///
/// Each client is a FUSE mount of the same backing directory. Run your own program on two of them and watch it meet
/// what hosts on shared storage meet: writes that others see late, metadata that is old, operations that fail.
#[derive(Debug, Parser)]
#[command(name = "chaosfs", version, after_help = EXAMPLE, disable_help_subcommand = true, max_term_width = 100)]
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
  chaosfs umount -m a -m b";

#[derive(Debug, Subcommand)]
pub enum Command {
    Mount(Box<MountArgs>),
    Umount(UmountArgs),
    Status(StatusArgs),
    Set(SetArgs),
    /// Land nothing by its being due, until `release`
    ///
    /// What fsync asks for, `flush` and unmounting land all the same. What would be written through goes in flight
    /// meanwhile.
    Hold(TargetArgs),
    /// Land what is due again, at once what has become due since `hold`
    Release(TargetArgs),
    /// Land now everything that is in flight now, also what is held
    ///
    /// Returns when it has landed; fails and names what could not.
    Flush(TargetArgs),
    /// Drop everything that clients believe, so that they ask anew
    Expire(TargetArgs),
    /// Drop everything that is in flight, as if the host had crashed, and name it
    ///
    /// Programs live on. Who has a file open of which data is lost hears EIO once; a file that was lost as a whole
    /// answers ESTALE.
    Lose(TargetArgs),
    Advance(AdvanceArgs),
    Run(Box<RunArgs>),
    Exec(ExecArgs),
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
    read().unwrap_or_else(|error| error.exit())
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
            knobs::refuse_to_lend(&args.knobs, &args.knobs.knobs(), args.debug)?;
        }
        Command::Set(args) => {
            args.read().map_err(|refusal| Error::raw(ErrorKind::ValueValidation, format!("{refusal}\n")))?;
        }
        Command::Run(args) => {
            run::refuse_confusion(args)?;
            args.log_named_by = log_named_by(given);
        }
        Command::Umount(args) if !args.mounts.is_empty() && !is_flag(given, "mount_base") => {
            args.mount_base = None;
        }
        _ => {}
    }
    Ok(command)
}

/// By which name a place for the log was given: an error about it is about that flag or variable.
fn log_named_by(given: &ArgMatches) -> &'static str {
    let is_given = |id| given.try_contains_id(id).unwrap_or(false);
    match () {
        () if is_given("log_file") => "--log-file",
        () if is_flag(given, "log_dir") => "--log-dir",
        () => "LOG_DIR",
    }
}

fn is_flag(given: &ArgMatches, id: &str) -> bool {
    given.value_source(id) == Some(ValueSource::CommandLine)
}
