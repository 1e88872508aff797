//! Starting a command of a run.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, PipeReader},
    os::fd::OwnedFd,
    process,
};

use anyhow::Context;
use chaosfs::harness::stand_at;
use fork::{Fork, fork};
use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid},
};

use super::{
    Run,
    output::{self, Outputs, Stream},
    plan::{self, ClientPlan},
    signals::Signals,
    terminal::{self, Output},
    wire::{hear_failure, tell_failure},
};
use crate::{
    args::CLIENT,
    exec::{ExecFailure, OWN_FAILURE, become_command, plain},
};

/// How often an injected failure may keep a command from its working directory.
const MOST_TRIES: usize = 1000;

/// A command that was started; whether it could be executed is still to be heard.
pub struct Started {
    pub pid: Pid,
    failure: PipeReader,
    outputs: Option<[Output; 2]>,
}

impl Started {
    /// Waits until it is executed, or hears why it is not.
    pub fn failure(self) -> Option<ExecFailure> {
        hear_failure(self.failure)
    }

    /// Has its output passed on with the client's name in front. To be called when nothing more is to be forked.
    ///
    /// # Errors
    /// What the system said.
    pub fn pass_output(&mut self, client: &ClientPlan, outputs: &Outputs) -> io::Result<()> {
        let Some([out, err]) = self.outputs.take() else { return Ok(()) };
        outputs.pass_on(&client.name, out, Stream::Out)?;
        outputs.pass_on(&client.name, err, Stream::Err)
    }
}

/// Starts the command of this client; with `--each` in its directory, and with its output to be passed on.
///
/// # Errors
/// What the system said.
pub fn start(run: &Run, client: &ClientPlan, signals: &Signals) -> anyhow::Result<Started> {
    let (failure, tell) = io::pipe().context("cannot make a pipe")?;
    let outputs = run.each.then(|| outputs_of(client)).transpose().context("cannot pass output on")?;
    let (readers, writers) = outputs.unzip();
    let supervisor = getpid();
    match fork().context("cannot fork")? {
        Fork::Parent(pid) => Ok(Started { pid: Pid::from_raw(pid), failure, outputs: readers }),
        Fork::Child => {
            let prepared = prepare(run, client, writers, supervisor);
            let failure =
                prepared.and_then(|variables| signals.let_through().map(|()| variables)).map_or_else(
                    |error| ExecFailure {
                        code: OWN_FAILURE,
                        text: format!("client {}: {error:#}", client.name),
                    },
                    |variables| become_command(&run.command, &variables),
                );
            tell_failure(tell, &failure);
            process::exit(failure.code.into())
        }
    }
}

/// What we read from and what the command writes to: standard output and standard error.
fn outputs_of(client: &ClientPlan) -> io::Result<([Output; 2], [OwnedFd; 2])> {
    let indent = output::prefix(&client.name).len();
    let (out, err) = (terminal::like(io::stdout(), indent)?, terminal::like(io::stderr(), indent)?);
    Ok(([out.0, err.0], [out.1, err.1]))
}

/// In the process that becomes the command. Returns its variables.
fn prepare(
    run: &Run,
    client: &ClientPlan,
    outputs: Option<[OwnedFd; 2]>,
    supervisor: Pid,
) -> anyhow::Result<Vec<(String, OsString)>> {
    let mut variables = plan::variables(&run.backing, &run.clients);
    if let Some(at) = &run.at {
        stand_at(&client.mountpoint, Some(at))?;
    }
    set_pdeathsig(Signal::SIGKILL).context("cannot tie the command to the run")?;
    if getppid() != supervisor {
        process::exit(OWN_FAILURE.into());
    }
    if let Some([out, err]) = outputs {
        let null = File::open("/dev/null").context("/dev/null")?;
        dup2_stdin(&null)
            .and_then(|()| dup2_stdout(&out))
            .and_then(|()| dup2_stderr(&err))
            .context("output")?;
        enter(run, client)?;
        variables.push((CLIENT.to_string(), client.name.clone().into()));
    }
    Ok(variables)
}

/// Makes the client the working directory. A failure that was injected there is not the command's.
fn enter(run: &Run, client: &ClientPlan) -> anyhow::Result<()> {
    let here = run.at.as_ref().unwrap_or(&client.mountpoint);
    let mut tries = 0;
    while let Err(error) = env::set_current_dir(here) {
        tries += 1;
        let injected = client.knobs.drop_prob > 0.0 && tries < MOST_TRIES;
        anyhow::ensure!(injected, "cannot enter {}: {}", here.display(), plain(&error));
    }
    Ok(())
}
