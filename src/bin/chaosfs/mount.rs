//! `chaosfs mount`.

use std::{env, fs::File, process::ExitCode, sync::Arc};

use anyhow::Context;
use chaosfs::{
    EventLog, Farewell, Mount, MountOptions,
    event::open_for_appending,
    harness::{ClientName, mount_named},
    terms::Terms,
};

use crate::{
    args::MountArgs,
    daemon::{self, Endings, Patron, Report, Side},
    logging,
    voice::complain,
};

/// Mounts and serves until the mount is gone. With `--background` the caller's process returns when it serves.
pub fn run(args: Box<MountArgs>) -> anyhow::Result<ExitCode> {
    chaosfs::prepare_process();
    // Before the log is opened, which is named after it.
    let name = ClientName::claim(&args.backing, args.client_id.as_deref(), &args.mountpoint)?;
    let notice = name.notice().map(str::to_string).filter(|_| !args.quiet);
    let log = args
        .log_path(name.id())
        .map(|path| open_for_appending(&path))
        .transpose()
        .context(args.log_named_by)?;
    if !args.background {
        let mount = start(&args, log, name)?;
        notice.as_deref().iter().for_each(|notice| complain(notice));
        return Ok(serve(&mount));
    }
    match daemon::detach(&[&args.backing, &args.mountpoint])? {
        Side::Parent(code) => {
            // The daemon has it.
            std::mem::forget(name);
            notice.as_deref().iter().for_each(|notice| complain(notice));
            if log.is_none() && !args.quiet {
                complain("warning: events are not logged; give --log-file or --log-dir with --background");
            }
            Ok(code)
        }
        Side::Daemon(report) => start_in_background(&args, log, name, report),
    }
}

fn start_in_background(
    args: &MountArgs,
    log: Option<File>,
    name: ClientName,
    report: Report,
) -> anyhow::Result<ExitCode> {
    let started = start(args, log, name).and_then(|mount| {
        env::set_current_dir("/").context("cannot leave the working directory")?;
        Ok(mount)
    });
    match started {
        Ok(mount) => {
            report.ready();
            Ok(serve(&mount))
        }
        Err(error) => {
            report.failed(&error);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn start(args: &MountArgs, log: Option<File>, name: ClientName) -> anyhow::Result<Arc<Mount>> {
    let endings = Endings::hold_back()?;
    let patron = args.until_exit.map(Patron::find).transpose()?;
    logging::start(log, args.debug)?;
    let options = MountOptions {
        backing: args.backing.clone(),
        mountpoint: args.mountpoint.clone(),
        client_id: Some(name.id().to_string()),
        seed: args.knobs.seed,
        knobs: args.knobs.knobs(),
        allow_other: args.allow_other,
        kernel_cache: args.knobs.kernel_cache,
        clock: args.knobs.clock.clone(),
        log: Some(EventLog::to_tracing(name.id(), args.debug)),
        terms: Terms::Flags,
    };
    let mount = mount_named(options, name)?;
    let mount = Arc::new(mount);
    let ready = endings.end(&mount).and_then(|()| patron.map_or(Ok(()), Patron::outlive_no_longer));
    // A thread that was started may hold the mount still, and nobody waits for that one.
    ready.inspect_err(|_| {
        mount.leave();
        mount.land();
    })?;
    Ok(mount)
}

fn serve(mount: &Mount) -> ExitCode {
    mount.wait();
    name_lost(&mount.land())
}

fn name_lost(farewell: &Farewell) -> ExitCode {
    for line in &farewell.lost {
        complain(&format!("could not land: {line}"));
    }
    for line in &farewell.overtaken {
        complain(&format!("not in the backing directory, because of others' changes: {line}"));
    }
    if farewell.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
