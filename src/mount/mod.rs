//! The life of a mount: from the checks before it, through serving, to the proof that it is gone.
//!
//! fuser's own mounting is not used: its teardown can unmount what somebody else has mounted on the same path in the
//! meantime. Here a mount is known by its device number for as long as its session lasts, and nothing else is
//! unmounted.

mod advance;
mod attach;
mod clients;
mod control;
mod lock;
mod mountinfo;
mod namespace;
mod protocol;
mod refusals;
mod remote;
mod scratch;
mod session;
mod socket;
mod unmount;

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

pub use clients::{Clients, ClientsBuilder, dual_mount};
pub use lock::Claim;
pub use namespace::{place, stand_at};
pub use refusals::check_client_id;
pub use remote::RemoteClient;
pub use scratch::{Kept, Scratch, sweep_run_of, sweep_runs};
pub use unmount::{Unmounted, mounts_below, unmount};

use crate::{
    client::{Client, ClientOptions, Farewell, Status, check_lending, prepare_thread},
    clock::Clock,
    dice::Dice,
    error::Refusal,
    event::{Event, EventLog},
    fuse::Adapter,
    knobs::Knobs,
};
use attach::{Attachment, Stuck, detach};
use control::{Control, Steered, Told};
use mountinfo::{Device, MountTable};
use session::Session;

/// How long an unmounted session may take to end before landing starts without it.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);

/// What [`mount()`] mounts. [`MountOptions::new`] has the defaults.
#[derive(Clone)]
pub struct MountOptions {
    /// The backing directory. Its path need not be canonical.
    pub backing: PathBuf,
    /// The empty directory on which the client's view appears.
    pub mountpoint: PathBuf,
    /// The name in logs, in the mount table and in the draws. Default `client`.
    pub client_id: String,
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
}

impl MountOptions {
    /// A client named `client` with the default knobs.
    pub fn new(backing: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> MountOptions {
        MountOptions {
            backing: backing.into(),
            mountpoint: mountpoint.into(),
            client_id: "client".to_string(),
            seed: None,
            knobs: Knobs::default(),
            allow_other: false,
            kernel_cache: false,
            clock: Clock::Monotonic,
            log: None,
        }
    }
}

/// Checks everything, mounts, and serves in threads of its own. When it returns the kernel has had its first answer
/// and every operation on the mountpoint will get one.
///
/// # Errors
/// One clear line for whatever is wrong with the directories, the client id, a knob or the machine.
pub fn mount(options: MountOptions) -> Result<Mount, Refusal> {
    let MountOptions { client_id: id, seed, knobs, allow_other, kernel_cache, clock, log, .. } = options;
    check_client_id(&id)?;
    knobs.check()?;
    let site = refusals::examine(&options.backing, &options.mountpoint, allow_other)?;
    let log = log.unwrap_or_else(|| EventLog::to_tracing(&id, false));
    if kernel_cache {
        check_lending(&knobs, &clock, log.wants_operations())?;
    }
    let seed = seed.unwrap_or_else(Dice::random_seed);
    let options = ClientOptions { backing: site.backing.clone(), id, seed, knobs, allow_other, kernel_cache };
    let client = Client::open(options.clone(), clock.clone(), log.clone())?;
    let kernel = Attachment {
        backing: &site.backing,
        mountpoint: &site.mountpoint,
        client_id: &options.id,
        permission_checks: client.needs_permission_checks(),
        allow_other: options.allow_other,
    }
    .attach()?;
    let seat = Seat::taken(&site.mountpoint)?;
    client.start();
    let session = Session::start(Adapter::new(client.clone()), kernel).inspect_err(|_| seat.give_up())?;
    let mount = Mount::new(&options.id, client, seat, session, clock, log);
    mount.announce(&options, site.cleaned_up);
    Ok(mount)
}

/// A mounted client. Dropping it, also in a panic, leaves: what is mounted is unmounted and what is in flight lands.
pub struct Mount {
    id: String,
    client: Arc<Client>,
    seat: Seat,
    session: Session,
    give_up: AtomicBool,
    vacating: Mutex<()>,
    farewell: OnceLock<Farewell>,
    control: Mutex<Option<Control>>,
    clock: Clock,
    log: EventLog,
    /// Those who have been told the farewell and wait for the end. Last, because fields are dropped in order.
    told: Mutex<Told>,
}

impl Mount {
    fn new(
        id: &str,
        client: Arc<Client>,
        seat: Seat,
        session: Session,
        clock: Clock,
        log: EventLog,
    ) -> Mount {
        let steered = Steered::new(&client, seat.mountpoint.clone());
        let control = Control::listen(seat.device, client.backing(), steered);
        let control = control.inspect_err(|error| {
            let text = format!(
                "this client cannot be steered, and `chaosfs umount` will not hear when everything has landed: no \
                 socket: {error}"
            );
            log.record(clock.now(), &Event::Note { text });
        });
        Mount {
            id: id.to_string(),
            client,
            seat,
            session,
            give_up: AtomicBool::new(false),
            vacating: Mutex::default(),
            farewell: OnceLock::new(),
            control: Mutex::new(control.ok()),
            clock,
            log,
            told: Mutex::default(),
        }
    }

    /// The name of the client.
    pub fn client_id(&self) -> &str {
        &self.id
    }

    /// The canonical path of the mountpoint.
    pub fn mountpoint(&self) -> &Path {
        &self.seat.mountpoint
    }

    /// What the client tells about itself: knobs, seed, time, what it has done, and what it has in flight.
    pub fn status(&self) -> Status {
        self.client.status(&self.seat.mountpoint)
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
        self.client.set(change)
    }

    /// From now on nothing lands by being due, and what would be written through goes in flight. What `fsync(2)` asks
    /// for, [`Mount::flush`] and leaving land all the same.
    pub fn hold(&self) {
        self.client.hold();
    }

    /// What is due lands again, and at once what has become due meanwhile; on a manual clock it has when this returns.
    pub fn release(&self) {
        in_own_thread(|| self.client.release_held());
    }

    /// Lands now what is in flight now, also what is held; returns how much that was.
    ///
    /// # Errors
    /// Names what could not land: it stays in flight and is tried again, or is lost.
    pub fn flush(&self) -> Result<u64, Refusal> {
        self.client.land_everything().map_err(|refusal| self.seat.named(&refusal))
    }

    /// Drops all beliefs: every question is asked anew. What the kernel keeps ([`MountOptions::kernel_cache`]) it keeps
    /// until its time is over.
    pub fn expire(&self) {
        self.client.expire();
    }

    /// Drops what is in flight, as if the host had crashed, and names it: path and operation. Who has a file open of
    /// which data is lost hears EIO once; a file that was lost as a whole answers ESTALE.
    pub fn lose(&self) -> Vec<String> {
        in_own_thread(|| self.client.lose())
    }

    /// Moves its clock, and only its own: that of several together is moved by [`Clients::advance`]. Returns how many
    /// changes landed by then.
    ///
    /// # Errors
    /// The clock is a real one.
    pub fn advance(&self, by: Duration) -> Result<u64, Refusal> {
        let advanced = in_own_thread(|| self.client.advance(by));
        advanced.map(|advanced| advanced.landed).map_err(|refusal| self.seat.named(&refusal))
    }

    /// Blocks until the kernel has ended the session, whoever unmounted it, or [`Mount::leave`] is done.
    pub fn wait(&self) {
        self.session.wait();
    }

    /// Unmounts, unless a program uses the mount; and waits for the session to end. Nothing is landed early: that is
    /// [`Mount::land`].
    ///
    /// # Errors
    /// Says that the mount is busy, or who refused; it goes on serving then.
    pub fn unmount(&self) -> Result<(), Refusal> {
        self.vacate(false).map_err(|stuck| self.seat.refusal(&stuck))?;
        match self.session.ends_within(SESSION_PATIENCE) {
            true => Ok(()),
            false => Err(self
                .seat
                .refusal(&Stuck::Refused("its session goes on: it is mounted elsewhere too".into()))),
        }
    }

    /// Unmounts whatever it takes: when a program uses the mount, it is taken out of sight and the program's next
    /// operation fails once this process is gone. From now on nothing new is delayed.
    pub fn leave(&self) {
        self.client.write_through();
        let vacated = match self.vacate(false) {
            Err(Stuck::Busy) => self.vacate(true),
            Ok(()) => {
                self.session.ends_within(SESSION_PATIENCE);
                Ok(())
            }
            stuck => stuck,
        };
        if let Err(stuck) = vacated {
            self.note(self.seat.refusal(&stuck).to_string());
        }
        self.session.abandon();
    }

    fn vacate(&self, lazily: bool) -> Result<(), Stuck> {
        let _one_at_a_time = self.vacating.lock().unwrap_or_else(PoisonError::into_inner);
        if self.session.has_ended() { Ok(()) } else { self.seat.vacate(lazily) }
    }

    /// Ends every wait: [`Mount::land`] returns with what has not landed by now.
    pub fn give_up(&self) {
        self.give_up.store(true, Ordering::SeqCst);
        self.session.abandon();
    }

    /// Lands everything that is in flight, once the mount is gone; tells whoever waits in [`unmount()`] how it ended.
    /// What could not land is in the result. A second call returns the same.
    pub fn land(&self) -> Farewell {
        self.farewell.get_or_init(|| self.end()).clone()
    }

    fn end(&self) -> Farewell {
        let farewell = self.client.finish(&self.give_up);
        // Whoever gives up in a hurry may be faster than the one who takes the mount away.
        if let Err(stuck) = self.vacate(true) {
            self.note(self.seat.refusal(&stuck).to_string());
        }
        let Farewell { landed, conflicts, faults, ref lost } = farewell;
        let stop = Event::Stop { landed, conflicts, faults, lost: lost.len() as u64 };
        self.log.record(self.clock.now(), &stop);
        self.seat.clear();
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(control) = control {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = control.tell(&farewell);
        }
        farewell
    }

    fn announce(&self, options: &ClientOptions, cleaned_up: bool) {
        if cleaned_up {
            self.note("cleaned up a mount whose daemon had died".to_string());
        }
        let start = Event::Start {
            backing: options.backing.display().to_string(),
            mountpoint: self.seat.mountpoint.display().to_string(),
            seed: options.seed,
            knobs: options.knobs.to_string(),
            clock: self.clock.name(),
            kernel_cache: options.kernel_cache,
            version: env!("CARGO_PKG_VERSION"),
        };
        self.log.record(self.clock.now(), &start);
    }

    fn note(&self, text: String) {
        self.log.record(self.clock.now(), &Event::Note { text });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.farewell.get().is_none() {
            self.leave();
        }
        self.land();
    }
}

/// Calls what may land something where the umask and the working directory of the calling program do not matter.
fn in_own_thread<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    let prepared = || {
        prepare_thread();
        call()
    };
    let joined = thread::scope(|scope| scope.spawn(prepared).join());
    joined.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Where a mount sits and how it is told from any other mount on the same path, as long as its session lasts.
#[derive(Debug)]
struct Seat {
    mountpoint: PathBuf,
    device: Device,
}

impl Seat {
    /// The seat of the mount that was made at `mountpoint` just now. Asks nobody but the mount table: whoever
    /// touched the mountpoint itself would wait for a session that has not begun.
    fn taken(mountpoint: &Path) -> Result<Seat, Refusal> {
        let mounts = MountTable::read()?;
        let entry = mounts.top_at(mountpoint).filter(|entry| entry.is_chaosfs());
        let entry = entry.ok_or_else(|| {
            Refusal::new(format!(
                "mountpoint {}: the new mount is not in the mount table",
                mountpoint.display()
            ))
        })?;
        Ok(Seat { mountpoint: mountpoint.to_path_buf(), device: entry.device })
    }

    /// Takes the mount away and proves in the mount table that it is gone. Fine if it was gone before.
    fn vacate(&self, lazily: bool) -> Result<(), Stuck> {
        let mounts = self.mounts()?;
        if mounts.find(self.device, &self.mountpoint).is_none() {
            return Ok(());
        }
        if mounts.top_at(&self.mountpoint).is_none_or(|top| top.device != self.device) {
            return Err(Stuck::Refused("something else is mounted on top of it".to_string()));
        }
        detach(&self.mountpoint, lazily)?;
        match self.mounts()?.find(self.device, &self.mountpoint) {
            None => Ok(()),
            Some(_) => Err(Stuck::Refused("the mount table still shows it".to_string())),
        }
    }

    /// Takes away what a session leaves behind that the kernel has aborted: a mount that nobody serves. One that
    /// answers is somebody else's, who got our device number after us.
    fn clear(&self) {
        let here = self.mounts().is_ok_and(|mounts| mounts.find(self.device, &self.mountpoint).is_some());
        if here && refusals::answers_dead(&self.mountpoint) {
            let _ = self.vacate(true);
        }
    }

    fn mounts(&self) -> Result<MountTable, Stuck> {
        MountTable::read().map_err(|refusal| Stuck::Refused(refusal.to_string()))
    }

    /// Takes the mount away after a failed start; there is nobody left to tell.
    fn give_up(&self) {
        let _ = self.vacate(true);
    }

    fn named(&self, refusal: &Refusal) -> Refusal {
        Refusal::new(format!("{}: {refusal}", self.mountpoint.display()))
    }

    fn refusal(&self, stuck: &Stuck) -> Refusal {
        let reason = match stuck {
            Stuck::Busy => "busy: a program has a file or its working directory there",
            Stuck::Refused(reason) => reason,
        };
        Refusal::new(format!("mountpoint {}: cannot unmount: {reason}", self.mountpoint.display()))
    }
}
