//! `chaosfs exec`, and how a command is executed: in the place of this process.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use chaosfs::harness::stand_at;

use crate::{args::ExecArgs, voice::complain};

/// The exit status for a failure of `run` and `exec` themselves, as of env(1) and timeout(1): what else they exit with is
/// their command's.
pub const OWN_FAILURE: u8 = 125;

/// Becomes the command; returns only if that failed.
pub fn run(args: ExecArgs) -> anyhow::Result<ExitCode> {
    stand_at(&args.mountpoint, args.at.as_deref())?;
    let failure = become_command(&args.command, &[]);
    complain(&failure.text);
    Ok(ExitCode::from(failure.code))
}

/// Why a command could not be executed, and the exit status by which shells say so: 127 for one that is not found, 126
/// for one that cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFailure {
    pub code: u8,
    pub text: String,
}

/// Executes a command with these variables besides the own ones. Returns only if that failed.
pub fn become_command(command: &[OsString], variables: &[(String, OsString)]) -> ExecFailure {
    let Some((program, arguments)) = command.split_first() else { unreachable!("clap requires a command") };
    let variables = variables.iter().map(|(name, value)| (name, value));
    let error = Command::new(program).args(arguments).envs(variables).exec();
    let name = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => ExecFailure { code: 127, text: format!("{name}: command not found") },
        _ => ExecFailure { code: 126, text: format!("{name}: cannot be executed: {}", plain(&error)) },
    }
}

/// An error's text without the number that Rust appends.
pub fn plain(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |errno| nix::errno::Errno::from_raw(errno).desc().to_string())
}
