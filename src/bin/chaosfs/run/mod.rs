//! `chaosfs run`.
//!
//! Four kinds of process, forked while each has one thread:
//!
//! | process | what it does |
//! |---|---|
//! | the one that was started | makes what the run needs, passes signals on, leaves with the supervisor's word |
//! | the supervisor | starts the commands, waits for them, ends what they leave running, reports |
//! | the server | serves all clients, lands, unmounts, removes; see [`server`] |
//! | the commands | are executed in the caller's terminal and process group, as a shell would |
//!
//! When one of them is killed the others clean up: without the first the supervisor kills the commands; without the
//! supervisor they are killed by the kernel; without either the server lands and unmounts. Only when the server itself is
//! killed are there dead mounts, which the supervisor takes away, or else the next run.

mod command;
mod family;
mod output;
mod plan;
mod server;
mod signals;
mod supervisor;
mod wire;

use std::{
    ffi::OsString,
    fs,
    io::{self, PipeWriter},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, ensure};
use chaosfs::{
    clock::Clock,
    harness::{Claim, Kept, Scratch, sweep_runs},
};
use fork::{Fork, fork};
use nix::{
    sys::{
        signal::kill,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

use crate::{args::RunArgs, complain, exec::plain};
use plan::ClientPlan;
use signals::{Sender, Signals};

/// One run, as all its processes know it.
pub struct Run {
    clients: Vec<ClientPlan>,
    scratch: Scratch,
    backing: PathBuf,
    command: Vec<OsString>,
    log_dir: Option<PathBuf>,
    at: Option<PathBuf>,
    each: bool,
    keep: bool,
    debug: bool,
    manual_clock: bool,
    /// Held by every process of the run until its end.
    _claim: Option<Claim>,
}

impl Run {
    fn prepare(args: &RunArgs) -> anyhow::Result<Run> {
        sweep_runs();
        let at = args.at.as_deref().map(|at| canonical_directory("--at", at)).transpose()?;
        let log_dir = args.log_dir.as_deref().map(made_directory).transpose()?;
        let claim = args.backing.as_deref().map(Claim::on).transpose()?;
        let mut clients = plan::clients(args);
        let names: Vec<_> = clients.iter().map(|client| client.name.as_str()).collect();
        let scratch = Scratch::make(claim.as_ref().map(Claim::path), &names, args.keep)?;
        for client in &mut clients {
            client.mountpoint = scratch.mountpoint(&client.name);
        }
        let command = plan::placed(&args.command, &clients);
        Ok(Run {
            backing: claim.as_ref().map_or_else(|| scratch.backing(), |claim| claim.path().to_path_buf()),
            clients,
            scratch,
            command,
            log_dir,
            at,
            each: args.each,
            keep: args.keep,
            debug: args.debug,
            manual_clock: matches!(args.knobs.clock, Clock::Manual(..)),
            _claim: claim,
        })
    }

    fn log_of(&self, client: &str) -> PathBuf {
        self.logs().join(format!("{client}.log"))
    }

    fn logs(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| self.scratch.logs())
    }

    /// What stays of the private directory.
    fn kept(&self, logs: bool) -> Kept {
        match (self.keep, logs && self.log_dir.is_none()) {
            (true, _) => Kept::All,
            (false, true) => Kept::Logs,
            (false, false) => Kept::Nothing,
        }
    }
}

fn canonical_directory(role: &str, path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.display();
    let canonical = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("{role} {name} does not exist; create it first with `mkdir -p {name}`")
        }
        _ => anyhow!("{role} {name}: {}", plain(&error)),
    })?;
    ensure!(canonical.is_dir(), "{role} {name} is not a directory; name a directory");
    Ok(canonical)
}

fn made_directory(path: &Path) -> anyhow::Result<PathBuf> {
    let role = "log directory";
    fs::create_dir_all(path).map_err(|error| anyhow!("{role} {}: {}", path.display(), plain(&error)))?;
    canonical_directory(role, path)
}

/// Mounts, runs the command, and leaves with its exit status when everything has landed and is gone.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let signals = Signals::hold_back()?;
    let run = Run::prepare(args)?;
    let (alive, life) = io::pipe().context("cannot make a pipe")?;
    let caller = getpid();
    match fork().context("cannot fork")? {
        Fork::Child => {
            drop(life);
            supervisor::supervise(&run, &signals, caller, alive)
        }
        Fork::Parent(supervisor) => Ok(stand_in(Pid::from_raw(supervisor), &signals, life)),
    }
}

/// Passes on what this process alone is sent, and leaves as the supervisor does, which holds the other end of `_life`.
fn stand_in(supervisor: Pid, signals: &Signals, _life: PipeWriter) -> ExitCode {
    loop {
        match waitpid(supervisor, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                complain(&format!("the process that supervises the run was ended by {signal}"));
                return ExitCode::FAILURE;
            }
            _ => {}
        }
        signals.wait(&[], None);
        while let Some(heard) = signals.next() {
            if let Sender::Process(_) = heard.sender {
                let _ = kill(supervisor, heard.signal);
            }
        }
    }
}
