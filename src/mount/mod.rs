//! The life of a mount: from the checks before it, through serving, to the proof that it is gone.
//!
//! fuser's own mounting is not used: its teardown can unmount what somebody else has mounted on the same path in the
//! meantime. Here a mount is known by its device number for as long as its session lasts, and nothing else is
//! unmounted.

mod advance;
mod attach;
mod claims;
mod clients;
mod control;
mod dialogue;
mod failure;
mod folders;
mod foothold;
mod identity;
mod listener;
mod lock;
mod mountinfo;
mod namespace;
mod protocol;
mod refusals;
mod remote;
mod scratch;
mod served;
mod session;
mod socket;
mod spare;
mod unmount;

use std::{
    os::fd::AsFd,
    panic::resume_unwind,
    path::{Path, PathBuf},
    slice,
    sync::{Arc, atomic::AtomicBool},
    thread::{self, JoinHandle},
    time::Duration,
};

pub use claims::ClientName;
pub use clients::{Clients, ClientsBuilder, dual_mount};
pub use lock::Claim;
pub use namespace::{place, stand_at};
pub use refusals::check_client_id;
pub use remote::{RemoteClient, Sighting};
pub use scratch::{Cleaned, Kept, Scratch, clean_runs, sweep_run_of, sweep_runs};
pub use unmount::{Unmounted, mounts_below, mounts_of_user, unmount, unmount_within};

use crate::{
    client::{Client, ClientOptions, Farewell, Status, check_lending, check_threads, prepare_thread},
    clock::Clock,
    dice::Dice,
    error::Refusal,
    event::{Event, EventLog},
    fuse::Adapter,
    knobs::{Knobs, profiles},
    terms::Terms,
};
use attach::{Attachment, spare_for_helper};
use identity::MountIdentity;
use served::Served;
use session::Session;

/// What [`mount()`] mounts. [`MountOptions::new`] has the defaults.
#[derive(Clone)]
pub struct MountOptions {
    /// The backing directory. Its path need not be canonical.
    pub backing: PathBuf,
    /// The empty directory on which the client's view appears.
    pub mountpoint: PathBuf,
    /// The name in logs, in the mount table and in the draws; no two clients over one backing directory have the same.
    /// Default: `client`, or the first that is free of `client-2`, `client-3` and so on.
    pub client_id: Option<String>,
    /// The seed of every draw. Default: drawn, and logged.
    pub seed: Option<u64>,
    /// The tunables. Default: [`Knobs::default`].
    pub knobs: Knobs,
    /// Whether other users may come in; new files then belong to their callers. Default: no.
    pub allow_other: bool,
    /// Whether the kernel may keep answers for as long as the client would repeat them, and be handed files whole. Faster,
    /// and not every operation is seen: no `drop_prob`, no log of operations, no manual clock, and
    /// `read_your_writes` stays true. Default: no.
    pub kernel_cache: bool,
    /// Where its time comes from. Default: `CLOCK_MONOTONIC`.
    pub clock: Clock,
    /// Where events go. Default: `tracing`, without single operations.
    pub log: Option<EventLog>,
    /// The names by which refusals call these options.
    #[doc(hidden)]
    pub terms: Terms,
}

impl MountOptions {
    /// A client with the default name and knobs.
    pub fn new(backing: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> MountOptions {
        MountOptions {
            backing: backing.into(),
            mountpoint: mountpoint.into(),
            client_id: None,
            seed: None,
            knobs: Knobs::default(),
            allow_other: false,
            kernel_cache: false,
            clock: Clock::Monotonic,
            log: None,
            terms: Terms::Options,
        }
    }
}

/// Checks everything, mounts, and serves in threads of its own. When it returns the kernel has had its first answer
/// and every operation on the mountpoint will get one.
///
/// # Errors
/// One clear line for whatever is wrong with the directories, the client id, a knob or the machine.
pub fn mount(options: MountOptions) -> Result<Mount, Refusal> {
    mount_as(options, None)
}

/// The same for a client whose name has been claimed before, over this backing directory and for this mountpoint.
///
/// # Errors
/// As for [`mount()`].
pub fn mount_named(options: MountOptions, name: ClientName) -> Result<Mount, Refusal> {
    mount_as(options, Some(name))
}

fn mount_as(options: MountOptions, name: Option<ClientName>) -> Result<Mount, Refusal> {
    let MountOptions { client_id, seed, knobs, allow_other, kernel_cache, clock, log, terms, .. } = options;
    client_id.as_deref().map_or(Ok(()), check_client_id)?;
    knobs.check()?;
    let site = refusals::examine(&options.backing, &options.mountpoint, allow_other, terms)?;
    // Paths are no longer relative to a working directory that may go with this.
    check_threads()?;
    let claim = || ClientName::claim(&site.backing, client_id.as_deref(), &site.mountpoint);
    let name = name.map_or_else(claim, Ok)?;
    let (id, notice) = (name.id().to_string(), name.notice().map(str::to_string));
    let log = log.unwrap_or_else(|| EventLog::to_tracing(&id, false));
    if kernel_cache {
        check_lending(&knobs, &clock, log.wants_operations(), terms)?;
    }
    let seed = seed.unwrap_or_else(Dice::random_seed);
    let backing = site.backing.clone();
    let options = ClientOptions { backing, id, seed, knobs, allow_other, kernel_cache, terms };
    let client = Client::open(options.clone(), clock.clone(), log.clone())?;
    // What mounts needs a place, too: where there are not two nothing is mounted.
    let spare = spare_for_helper()?;
    let kernel = Attachment {
        backing: &site.backing,
        held: site.held.as_fd(),
        mountpoint: &site.mountpoint,
        client_id: &options.id,
        permission_checks: client.needs_permission_checks(),
        allow_other: options.allow_other,
    }
    .attach()?;
    let identity = MountIdentity::taken(&site, spare)?;
    let started = client.start().map_err(|error| Refusal::new(format!("cannot start serving: {error}")));
    let session = started.and_then(|()| Session::start(Adapter::new(client.clone()), kernel));
    let session = session.inspect_err(|_| {
        identity.give_up();
        client.finish(&AtomicBool::new(true));
    })?;
    let served = Served::new(client, identity, session, clock, log, name);
    let mut mount = Mount { id: options.id.clone(), served, seen_out: None, told_of: AtomicBool::new(false) };
    let seen_out = mount.served.see_out();
    mount.seen_out = Some(seen_out.map_err(|error| Refusal::new(format!("cannot start serving: {error}")))?);
    mount.announce(&options, site.cleaned_up, notice);
    Ok(mount)
}

/// A mounted client. Dropping it, also in a panic, leaves: what is mounted is unmounted and what is in flight lands. When
/// somebody else unmounts it, `chaosfs umount` say, it lands by itself.
///
/// In a panic it first prints its seed, knobs and counts, and where its log is, to standard error.
pub struct Mount {
    id: String,
    served: Arc<Served>,
    seen_out: Option<JoinHandle<()>>,
    /// Whether it was in the block that a panic prints.
    told_of: AtomicBool,
}

impl Mount {
    /// The name of the client.
    pub fn client_id(&self) -> &str {
        &self.id
    }

    /// The canonical path of the mountpoint.
    pub fn mountpoint(&self) -> &Path {
        &self.served.identity.mountpoint
    }

    /// What the client tells about itself: knobs, seed, time, what it has done, and what it has in flight.
    pub fn status(&self) -> Status {
        self.served.client.status(&self.served.identity.mountpoint)
    }

    /// Changes knobs while it runs, all that `change` sets or none; returns those in force from here on. What is in
    /// flight keeps its due time; beliefs older than a shorter time to live are dropped.
    ///
    /// # Errors
    /// Names a knob whose value has no meaning.
    pub fn set(&self, change: impl FnOnce(&mut Knobs)) -> Result<Knobs, Refusal> {
        let change = |knobs: &mut Knobs| {
            change(knobs);
            Ok(())
        };
        self.served.client.set(change)
    }

    /// From now on nothing lands by being due, and what would be written through goes in flight. What is landing just now has
    /// landed when this returns. What `fsync(2)` asks
    /// for, [`Mount::flush`] and leaving land all the same.
    pub fn hold(&self) {
        self.served.client.hold();
    }

    /// What is due lands again, and at once what has become due meanwhile; on a manual clock it has when this returns.
    pub fn release(&self) {
        started(in_own_thread(|| self.served.client.release_held()));
    }

    /// Lands now what is in flight now, also what is held; returns how much that was.
    ///
    /// # Errors
    /// Names what could not land: it stays in flight and is tried again, or is lost.
    pub fn flush(&self) -> Result<u64, Refusal> {
        self.served.client.land_everything().map_err(|refusal| self.served.identity.named(&refusal))
    }

    /// Drops all beliefs: every question is asked anew.
    ///
    /// # Errors
    /// Refused where the kernel caches ([`MountOptions::kernel_cache`]): it would go on believing.
    pub fn expire(&self) -> Result<(), Refusal> {
        self.served.client.expire().map_err(|refusal| self.served.identity.named(&refusal))
    }

    /// Drops what is in flight, as if the host had crashed, and names it: path and operation. Who has a file open of
    /// which data is lost hears EIO once; a file that was lost as a whole answers ESTALE.
    pub fn lose(&self) -> Vec<String> {
        started(in_own_thread(|| self.served.client.lose()))
    }

    /// Moves its clock, and only its own: that of several together is moved by [`Clients::advance`]. Returns how many
    /// changes landed by then.
    ///
    /// # Errors
    /// The clock is a real one.
    pub fn advance(&self, by: Duration) -> Result<u64, Refusal> {
        let advanced = in_own_thread(|| self.served.client.advance(by))?;
        advanced.map(|advanced| advanced.landed).map_err(|refusal| self.served.identity.named(&refusal))
    }

    /// Blocks until the kernel has ended the session, whoever unmounted it, or [`Mount::leave`] is done.
    pub fn wait(&self) {
        self.served.session.wait();
    }

    /// Unmounts, unless a program uses the mount; and waits for the session to end. Nothing is landed early: that is
    /// [`Mount::land`].
    ///
    /// # Errors
    /// Says that the mount is busy, or who refused; it goes on serving then.
    pub fn unmount(&self) -> Result<(), Refusal> {
        self.served.unmount()
    }

    /// Unmounts whatever it takes: when a program uses the mount, it is taken out of sight and the program's next
    /// operation fails once this process is gone. From now on nothing new is delayed.
    pub fn leave(&self) {
        self.served.leave();
    }

    /// Ends every wait: [`Mount::land`] returns with what has not landed by now.
    pub fn give_up(&self) {
        self.served.give_up();
    }

    /// Lands everything that is in flight, once the mount is gone; tells whoever waits in [`unmount()`] how it ended.
    /// What could not land is in the result. A second call returns the same.
    pub fn land(&self) -> Farewell {
        self.served.land()
    }

    fn announce(&self, options: &ClientOptions, cleaned_up: bool, notice: Option<String>) {
        if cleaned_up {
            self.served.note("cleaned up a mount whose daemon had died".to_string());
        }
        let start = Event::Start {
            backing: options.backing.display().to_string(),
            mountpoint: self.served.identity.mountpoint.display().to_string(),
            seed: options.seed,
            knobs: options.knobs.to_string(),
            clock: self.served.clock.name(),
            kernel_cache: options.kernel_cache,
            version: env!("CARGO_PKG_VERSION"),
        };
        self.served.log.record(&self.served.clock, &start);
        let Knobs { profile, options: mount_options, .. } = &options.knobs;
        let ignored =
            profiles::meaning_of(profile.as_str(), mount_options).unwrap_or_default().without_effect;
        if !ignored.is_empty() {
            self.served.note(format!("options that change nothing that is imitated: {}", ignored.join(",")));
        }
        if let Some(notice) = notice {
            self.served.note(notice);
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        failure::tell(slice::from_ref(self));
        if !self.served.has_landed() {
            self.leave();
        }
        self.land();
        // Nothing of the backing directory is held any more when this returns.
        if let Some(seen_out) = self.seen_out.take() {
            let _ = seen_out.join();
        }
    }
}

/// Calls what may land something where the umask and the working directory of the calling program do not matter.
///
/// # Errors
/// The system has no thread left; nothing was called then.
fn in_own_thread<T: Send>(call: impl FnOnce() -> T + Send) -> Result<T, Refusal> {
    let prepared = || {
        prepare_thread();
        call()
    };
    thread::scope(|scope| {
        let started = thread::Builder::new().spawn_scoped(scope, prepared);
        let started = started.map_err(|error| Refusal::new(format!("cannot start a thread: {error}")))?;
        Ok(started.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// For what has no way to fail: a program that cannot have a thread cannot steer, and what is in flight stays there.
#[track_caller]
fn started<T>(outcome: Result<T, Refusal>) -> T {
    outcome.unwrap_or_else(|refusal| panic!("{refusal}"))
}
