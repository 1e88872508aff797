//! Signals as events: held back from the process and read one by one, together with whatever else it waits for.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::Context;
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};

/// What a shell's command may be sent, and the news of children; but for what the caller ignores, as `nohup` does, and
/// as a shell does for what it runs in the background.
const HELD_BACK: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The terminal: every process of the foreground has it too.
    Kernel,
    /// A process, to this one alone as far as can be told.
    Process(Pid),
}

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub signal: Signal,
    pub sender: Sender,
}

/// The signals of this process, and of each process forked from it, which reads its own.
pub struct Signals {
    arrived: SignalFd,
    mask_before: SigSet,
}

impl Signals {
    /// Holds them back from now on.
    ///
    /// # Errors
    /// What the system said.
    pub fn hold_back() -> anyhow::Result<Signals> {
        let ignored = ignored().context("cannot tell which signals are ignored")?;
        let is_heard = |signal: &Signal| ignored & (1 << (*signal as i32 - 1)) == 0;
        let held_back = SigSet::from_iter(HELD_BACK.into_iter().filter(is_heard));
        let mask_before =
            held_back.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("cannot block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let arrived = SignalFd::with_flags(&held_back, flags).context("cannot receive signals")?;
        Ok(Signals { arrived, mask_before })
    }

    /// Lets them through again, as it was before: for the command.
    ///
    /// # Errors
    /// What the system said.
    pub fn let_through(&self) -> anyhow::Result<()> {
        self.mask_before.thread_set_mask().context("cannot unblock signals")
    }

    /// Waits for a signal, for one of `others` to be readable or hung up, or for `patience` to pass. Which of the
    /// others are.
    pub fn wait(&self, others: &[BorrowedFd<'_>], patience: Option<Duration>) -> Vec<bool> {
        let all = [self.arrived.as_fd()].into_iter().chain(others.iter().copied());
        let mut watched: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let patience = patience
            .map_or(PollTimeout::NONE, |span| PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX));
        while poll(&mut watched, patience) == Err(Errno::EINTR) {}
        watched.iter().skip(1).map(|fd| fd.any().unwrap_or(false)).collect()
    }

    /// The next signal that has arrived; the news of children are no more than a reason to look.
    pub fn next(&self) -> Option<Heard> {
        while let Ok(Some(news)) = self.arrived.read_signal() {
            let number = i32::try_from(news.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(signal) => return Some(Heard { signal, sender: sender_of(news.ssi_code, news.ssi_pid) }),
            }
        }
        None
    }
}

/// The signals that this process ignores, one bit each (`proc_pid_status(5)`).
fn ignored() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).context("no SigIgn")?;
    Ok(u64::from_str_radix(mask.trim(), 16)?)
}

fn sender_of(code: i32, pid: u32) -> Sender {
    match code {
        libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL => {
            Sender::Process(Pid::from_raw(i32::try_from(pid).unwrap_or_default()))
        }
        _ => Sender::Kernel,
    }
}
