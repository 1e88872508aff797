//! The command line of chaosfs. Everything it does is in the library; here words become options and outcomes become
//! words and exit codes: 0 for done, 1 for failed, 2 for a wrong command line or variable. `run` and `exec` exit as their
//! command does, and with 125 where they fail themselves.

mod args;
mod daemon;
mod exec;
mod logging;
mod mount;
mod pages;
mod profiles;
mod run;
mod status;
mod steer;
mod umount;
mod voice;

use std::process::ExitCode;

use args::Command;
use voice::complain;

fn main() -> ExitCode {
    let command = args::parse();
    let failure = match command {
        Command::Run(_) | Command::Exec(_) => exec::OWN_FAILURE,
        _ => 1,
    };
    let outcome = match command {
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) => status::status(&args),
        Command::List(args) => status::list(&args),
        Command::Set(args) => steer::set(&args),
        Command::Hold(args) => steer::hold(&args),
        Command::Release(args) => steer::release(&args),
        Command::Flush(args) => steer::flush(&args),
        Command::Expire(args) => steer::expire(&args),
        Command::Lose(args) => steer::lose(&args),
        Command::Advance(args) => steer::advance(&args),
        Command::Run(args) => run::run(&args),
        Command::Exec(args) => exec::run(args),
        Command::Profiles(args) => profiles::run(&args),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man => pages::man(),
    };
    outcome.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::from(failure)
    })
}
