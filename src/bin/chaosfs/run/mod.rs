//! `chaosfs run`.
//!
//! Four kinds of process, forked while each has one thread:
//!
//! | process | what it does |
//! |---|---|
//! | the one that was started | makes what the run needs, passes signals on, leaves with the supervisor's word |
//! | its child, the server | serves all clients, lands, unmounts, removes; see [`server`] |
//! | its child, the supervisor | starts the commands, waits for them, ends what they leave running, reports |
//! | its children, the commands | are executed in the caller's terminal and process group, as a shell would |
//!
//! When one of them is killed the others clean up. Each of the first three is the subreaper of those below it
//! (`PR_SET_CHILD_SUBREAPER`): what the commands have started comes to the next one that lives, which ends it. Without the
//! first the supervisor kills the commands; without the supervisor the server does, lands and unmounts. Only when the
//! server itself is killed are there dead mounts, which the supervisor takes away, or else the next run.

mod again;
mod clean;
mod command;
mod family;
mod output;
mod plan;
mod report;
mod server;
mod signals;
mod supervisor;
mod terminal;
mod wire;

use std::{
    ffi::OsString,
    fs,
    io::{self, PipeReader, PipeWriter},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use chaosfs::{
    clock::Clock,
    harness::{Claim, Kept, Scratch, place, sweep_runs},
};
use fork::{Fork, ensure_waitable_children, fork};
use nix::{
    sys::{
        prctl::set_child_subreaper,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

use crate::{
    args::RunArgs,
    exec::{OWN_FAILURE, plain},
    voice::complain,
};
use family::{Family, Manner};
use plan::ClientPlan;
use signals::Signals;
use wire::{FromCaller, FromServer, ToSupervisor, pass_on};

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
    kernel_cache: bool,
    manual_clock: bool,
    timeout: Option<Duration>,
    quiet: bool,
    /// What named the place of the logs.
    log_named_by: &'static str,
    /// The command line that repeats it.
    again: String,
    /// Held by every process of the run until its end.
    _claim: Option<Claim>,
}

impl Run {
    fn prepare(args: &RunArgs) -> anyhow::Result<Run> {
        sweep_runs();
        let at = args.at.as_deref().map(place).transpose()?;
        let log_dir = args.log_dir.as_deref().map(made_directory).transpose().context(args.log_named_by)?;
        let claim = args.backing.as_deref().map(Claim::on).transpose()?;
        let mut clients = plan::clients(args);
        let again = again::command_line(args, &clients);
        let names: Vec<_> = clients.iter().map(|client| client.name.as_str()).collect();
        let scratch = Scratch::make(claim.as_ref().map(Claim::path), &names, args.keep)?;
        for client in &mut clients {
            client.mountpoint = scratch.mountpoint(&client.name);
        }
        let command = plan::placed(&args.command, &clients);
        let log_named_by = if args.log_dir.is_some() { args.log_named_by } else { "logs" };
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
            kernel_cache: args.knobs.kernel_cache,
            manual_clock: matches!(args.knobs.clock, Clock::Manual(..)),
            timeout: args.timeout,
            quiet: args.quiet,
            log_named_by,
            again,
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

fn made_directory(path: &Path) -> anyhow::Result<PathBuf> {
    let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
    made.map_err(|error| anyhow!("cannot make the directory {}: {}", path.display(), plain(&error)))
}

/// Does what the arguments say.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.clean { Ok(clean::clean(args.quiet)) } else { run_command(args) }
}

/// Mounts, runs the command, and leaves with its exit status when everything has landed and is gone.
fn run_command(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Whoever started us may have ignored the ends of children, which then could not be waited for.
    ensure_waitable_children().context("cannot wait for processes")?;
    let signals = Signals::hold_back()?;
    let run = Run::prepare(args)?;
    inherit_orphans()?;
    let (from_caller, to_supervisor) = io::pipe().context("cannot make a pipe")?;
    match forked(&run)? {
        Fork::Child => {
            drop(to_supervisor);
            serve_and_supervise(&run, &signals, from_caller)
        }
        Fork::Parent(server) => {
            drop(from_caller);
            Ok(stand_in(&run, Pid::from_raw(server), &signals, to_supervisor))
        }
    }
}

/// Forks, or removes what was made for the run: nobody else would.
fn forked(run: &Run) -> anyhow::Result<Fork> {
    let forked = fork().inspect_err(|_| drop(run.scratch.dispose(Kept::Nothing)));
    forked.context("cannot start a process")
}

/// Becomes the parent of whatever loses its own further down.
fn inherit_orphans() -> anyhow::Result<()> {
    set_child_subreaper(true).context("cannot become the parent of what the command leaves behind")
}

/// Becomes the server, with the supervisor as its child.
fn serve_and_supervise(run: &Run, signals: &Signals, from_caller: PipeReader) -> anyhow::Result<ExitCode> {
    inherit_orphans()?;
    let (from_server, to_supervisor) = io::pipe().context("cannot make a pipe")?;
    let (from_supervisor, to_server) = io::pipe().context("cannot make a pipe")?;
    let server = getpid();
    match forked(run)? {
        Fork::Child => {
            drop((from_supervisor, to_supervisor));
            inherit_orphans()?;
            let (caller, said) = (FromCaller::new(from_caller)?, FromServer::new(from_server));
            supervisor::supervise(run, signals, caller, server, said, to_server)
        }
        Fork::Parent(supervisor) => {
            drop((from_caller, from_server, to_server));
            let family = Family::of(Pid::from_raw(supervisor));
            Ok(server::serve(run, signals, family, from_supervisor, ToSupervisor::new(to_supervisor)))
        }
    }
}

/// Passes on what this process alone is sent, and leaves as the server does, which leaves as the supervisor does. When the
/// server has been killed the supervisor comes here, and what the commands have left when both were.
fn stand_in(run: &Run, server: Pid, signals: &Signals, mut to_supervisor: PipeWriter) -> ExitCode {
    let mut server_lives = true;
    let code = loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => break ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(pid, ..)) if pid == server => server_lives = false,
            Ok(WaitStatus::Signaled(_, signal, _)) => break supervisor_ended_by(signal),
            Err(_) => break ExitCode::from(OWN_FAILURE),
            Ok(_) => {
                signals.wait(&[], None);
                std::iter::from_fn(|| signals.next()).for_each(|heard| pass_on(&mut to_supervisor, heard));
            }
        }
    };
    if !server_lives {
        Family::default().end_all(signals, Manner::Hard);
        let _ = run.scratch.dispose(run.kept(true));
    }
    code
}

fn supervisor_ended_by(signal: Signal) -> ExitCode {
    complain(&format!("the process that supervises the run was ended by {signal}"));
    ExitCode::from(OWN_FAILURE)
}
