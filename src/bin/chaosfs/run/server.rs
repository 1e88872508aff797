//! The process that serves every client of a run. It depends on nobody: it has a session of its own, so that no terminal
//! stops it, and when the supervisor, its child, is gone it ends the commands, lands, unmounts and removes everything all
//! the same.

use std::{
    fs::File,
    io::PipeReader,
    os::fd::AsFd,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use chaosfs::{EventLog, Farewell, Mount, MountOptions, clock::Clock, harness::Kept, mount, terms::Terms};
use nix::{
    poll::poll,
    sys::signal::{SigSet, Signal},
    unistd::{dup2_stdin, dup2_stdout, setsid},
};

use super::{
    Run,
    family::{Ended, Family, Manner},
    signals::Signals,
    supervisor_ended_by,
    wire::{Counts, Ending, ToSupervisor, wants_logs},
};
use crate::{exec::OWN_FAILURE, voice::leave_last_words};

/// How long a mount may stay in use after the last command has ended, and how often, in milliseconds, is looked.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK: u8 = 10;

/// Serves until the supervisor lets go or is gone, or until SIGTERM; a SIGTERM after that gives up what has not landed.
/// Leaves as the supervisor does, which is the one child of `family`.
pub fn serve(
    run: &Run,
    signals: &Signals,
    mut family: Family,
    supervisor: PipeReader,
    mut to_supervisor: ToSupervisor,
) -> ExitCode {
    leave_last_words("chaosfs: aborted; changes in flight that are lost: ");
    let served = stand_alone().and_then(|()| mount_all(run));
    match served.and_then(|mounts| give_up_on_signal(&mounts).map(|hurry| (mounts, hurry))) {
        Ok((mounts, hurry)) => {
            to_supervisor.ready();
            let ending = serve_mounts(run, signals, &mut family, supervisor, mounts, hurry);
            to_supervisor.ended(&ending);
        }
        Err(error) => {
            let _ = run.scratch.dispose(Kept::Nothing);
            to_supervisor.failed(&error);
        }
    }
    drop(to_supervisor);
    family.wait(signals);
    let ends = family.ends();
    match ends.as_slice() {
        [Some(Ended::BySignal(signal))] => {
            family.end_all(signals, Manner::Hard);
            supervisor_ended_by(*signal)
        }
        ends => ExitCode::from(ends.iter().flatten().map(|end| end.code()).next().unwrap_or(OWN_FAILURE)),
    }
}

fn serve_mounts(
    run: &Run,
    signals: &Signals,
    family: &mut Family,
    supervisor: PipeReader,
    mounts: Vec<Arc<Mount>>,
    hurry: Sender<()>,
) -> Ending {
    let ended_by_signal = !wait_for_the_end(signals, &supervisor);
    let _ = hurry.send(());
    let keep_logs = ended_by_signal
        || wants_logs(supervisor).unwrap_or_else(|| {
            family.end_all(signals, Manner::Hard);
            false
        });
    let mut ending = leave(run, &mounts);
    drop(mounts);
    let kept = run.kept(keep_logs || !ending.lost.is_empty());
    ending.left.extend(run.scratch.dispose(kept).err().map(|refusal| refusal.to_string()));
    ending
}

/// Leaves the terminal and the working directory, and keeps nothing of the caller's but standard error.
fn stand_alone() -> anyhow::Result<()> {
    setsid().context("cannot leave the session")?;
    std::env::set_current_dir("/").context("cannot leave the working directory")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).context("cannot leave the terminal")?;
    // A write past the file size limit then fails with EFBIG and the clients live.
    SigSet::from_iter([Signal::SIGXFSZ]).thread_block().context("cannot block signals")?;
    chaosfs::prepare_process();
    Ok(())
}

fn mount_all(run: &Run) -> anyhow::Result<Vec<Arc<Mount>>> {
    let mut mounts = Vec::with_capacity(run.clients.len());
    for client in &run.clients {
        let log = EventLog::to_file(&run.log_of(&client.name), &client.name, run.debug)
            .context(run.log_named_by)?;
        let options = MountOptions {
            client_id: Some(client.name.clone()),
            seed: Some(client.seed),
            knobs: client.knobs.clone(),
            kernel_cache: run.kernel_cache,
            // Each client has a hand of its own; `advance` moves them together.
            clock: if run.manual_clock { Clock::manual() } else { Clock::Monotonic },
            log: Some(log),
            terms: Terms::Flags,
            ..MountOptions::new(&run.backing, &client.mountpoint)
        };
        mounts.push(Arc::new(mount(options).with_context(|| format!("client {}", client.name))?));
    }
    Ok(mounts)
}

/// Whether it was the supervisor who let go, rather than a signal.
fn wait_for_the_end(signals: &Signals, supervisor: &PipeReader) -> bool {
    loop {
        if signals.wait(&[supervisor.as_fd()], None) == [true] {
            return true;
        }
        while let Some(heard) = signals.next() {
            if heard.signal == Signal::SIGTERM {
                return false;
            }
        }
    }
}

/// Once told so, a SIGTERM gives up what has not landed. The thread for that is started now: at the end there may be none to
/// be had.
fn give_up_on_signal(mounts: &[Arc<Mount>]) -> anyhow::Result<Sender<()>> {
    let (hurry, told) = mpsc::channel();
    let mounts = mounts.to_vec();
    let give_up = move || {
        if told.recv().is_ok() && SigSet::from_iter([Signal::SIGTERM]).wait().is_ok() {
            mounts.iter().for_each(|mount| mount.give_up());
        }
    };
    thread::Builder::new().name("hurry".to_string()).spawn(give_up).context("cannot start a thread")?;
    Ok(hurry)
}

/// Unmounts every client before anything is landed early, so that nothing new comes in; then lands them in their order.
fn leave(run: &Run, mounts: &[Arc<Mount>]) -> Ending {
    thread::scope(|scope| {
        for mount in mounts {
            // At the same time where there are threads to be had, else one after the other.
            if thread::Builder::new().spawn_scoped(scope, || vacate(mount)).is_err() {
                vacate(mount);
            }
        }
    });
    let mut ending = Ending { complete: true, ..Ending::default() };
    for (client, mount) in run.clients.iter().zip(mounts) {
        let Farewell { conflicts, faults, lost, lost_changes, overtaken, .. } = mount.land();
        ending.counts.push(Counts { client: client.name.clone(), conflicts, faults, lost: lost_changes });
        let named = |line| format!("{}: {line}", client.name);
        ending.lost.extend(lost.into_iter().map(named));
        ending.overtaken.extend(overtaken.into_iter().map(named));
    }
    ending
}

/// Unmounts one client, lazily where it stays in use.
fn vacate(mount: &Mount) {
    let until = Clock::Monotonic.now() + PATIENCE;
    while mount.unmount().is_err() {
        if Clock::Monotonic.now() >= until {
            return mount.leave();
        }
        let _ = poll(&mut [], LOOK);
    }
}
