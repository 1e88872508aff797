//! What makes a process a daemon: leaving the terminal while the parent waits to hear how that went, and signals.

use std::{
    env,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context, anyhow, bail};
use chaosfs::Mount;
use daemonize::{Daemonize, Outcome};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal, kill},
    unistd::getpid,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::exec::plain;

const READY: &str = "ready\n";

/// Which of the two processes this is after the fork.
pub enum Side {
    /// The one that was started; its part is over with this exit code.
    Parent(ExitCode),
    /// The one in the background; the parent waits for its word.
    Daemon(Report),
}

/// The daemon's way to tell its parent how it went.
pub struct Report(PipeWriter);

impl Report {
    /// Lets the parent return: the mount serves.
    pub fn ready(mut self) {
        let _ = self.0.write_all(READY.as_bytes());
    }

    /// Lets the parent fail, for this reason.
    pub fn failed(mut self, error: &anyhow::Error) {
        let _ = write!(self.0, "{error:#}");
    }
}

/// Goes on in the background. To be called while there is only one thread. The working directory stays, so that
/// relative ones among `paths` keep their meaning until the mount is made.
///
/// # Errors
/// In the parent, the reason that the daemon gave.
pub fn detach(paths: &[&Path]) -> anyhow::Result<Side> {
    let (ours, theirs) = pipe().context("--background")?;
    let directory = working_directory(paths)?;
    match Daemonize::new().working_directory(directory).umask(0).execute() {
        Outcome::Parent(forked) => {
            forked.context("--background")?;
            drop(theirs);
            await_word(ours).map(Side::Parent)
        }
        Outcome::Child(Ok(_)) => Ok(Side::Daemon(Report(theirs))),
        Outcome::Child(Err(error)) => {
            Report(theirs).failed(&anyhow::Error::new(error).context("--background"));
            process::exit(1)
        }
    }
}

/// Whoever has become another user (`su`) may stand where that user may not enter.
fn working_directory(paths: &[&Path]) -> anyhow::Result<PathBuf> {
    let here = env::current_dir().and_then(|here| env::set_current_dir(&here).map(|()| here));
    match here {
        Err(_) if paths.iter().all(|path| path.is_absolute()) => Ok(PathBuf::from("/")),
        here => here.context("--background: the working directory cannot be entered; give absolute paths"),
    }
}

fn await_word(mut daemon: PipeReader) -> anyhow::Result<ExitCode> {
    let mut word = String::new();
    daemon.read_to_string(&mut word).context("--background")?;
    match word.as_str() {
        READY => Ok(ExitCode::SUCCESS),
        "" => bail!("the daemon died before it could mount"),
        reason => bail!("{reason}"),
    }
}

/// The signals that end a mount, held back from every thread that is started later and waited for by one.
pub struct Endings(SigSet);

impl Endings {
    /// Holds them back, and `SIGXFSZ` for good: a write past the file size limit then fails with EFBIG and the
    /// daemon lives. To be called before any thread is started.
    ///
    /// # Errors
    /// What the system said.
    pub fn hold_back() -> anyhow::Result<Endings> {
        let endings = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let mut blocked = endings;
        blocked.add(Signal::SIGXFSZ);
        blocked.thread_block().context("cannot block signals")?;
        Ok(Endings(endings))
    }

    /// From now on the first of them leaves the mount and the second gives up what has not landed. The threads for both
    /// are started now: then there may be none to be had.
    ///
    /// # Errors
    /// There is none to be had now.
    pub fn end(self, mount: &Arc<Mount>) -> anyhow::Result<()> {
        let (first, leave) = mpsc::channel();
        let (leaving, mount) = (mount.clone(), mount.clone());
        start("leaving", move || {
            if leave.recv().is_ok() {
                leaving.leave();
            }
        })?;
        start("signals", move || {
            if self.0.wait().is_ok() {
                let _ = first.send(());
            }
            while self.0.wait().is_ok() {
                mount.give_up();
            }
        })
    }
}

/// The process for which a mount is there.
pub struct Patron(OwnedFd);

impl Patron {
    /// The process of this number.
    ///
    /// # Errors
    /// There is none, or the system cannot tell when one ends (Linux before 5.3).
    pub fn find(pid: Pid) -> anyhow::Result<Patron> {
        let found = pidfd_open(pid, PidfdFlags::empty());
        found.map(Patron).map_err(|errno| {
            anyhow!(
                "--until-exit {}: cannot watch that process: {}",
                pid.as_raw_nonzero(),
                plain(&errno.into())
            )
        })
    }

    /// Once it has ended, so does this process, as on SIGTERM.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn outlive_no_longer(self) -> anyhow::Result<()> {
        start("patron", move || {
            let mut end = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            while poll(&mut end, PollTimeout::NONE) == Err(Errno::EINTR) {}
            let _ = kill(getpid(), Signal::SIGTERM);
        })
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(run).map(drop).context("cannot start a thread")
}
