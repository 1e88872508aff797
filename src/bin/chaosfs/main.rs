//! The command line of chaosfs. Everything it does is in the library; here words become options and outcomes become
//! words and exit codes: 0 for done, 1 for failed, 2 for a wrong command line or variable; `run` and `exec` leave with their
//! command's.

mod args;
mod daemon;
mod exec;
mod logging;
mod mount;
mod pages;
mod run;
mod steer;
mod umount;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use args::Command;

fn main() -> ExitCode {
    let outcome = match args::parse() {
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) => steer::status(&args),
        Command::Set(args) => steer::set(&args),
        Command::Hold(targets) => steer::hold(&targets),
        Command::Release(targets) => steer::release(&targets),
        Command::Flush(targets) => steer::flush(&targets),
        Command::Expire(targets) => steer::expire(&targets),
        Command::Lose(targets) => steer::lose(&targets),
        Command::Advance(args) => steer::advance(&args),
        Command::Run(args) => run::run(&args),
        Command::Exec(args) => exec::run(args),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man => pages::man(),
    };
    outcome.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Says one line to a person; if nobody listens any more, that is no reason to fail.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "chaosfs: {line}");
}
