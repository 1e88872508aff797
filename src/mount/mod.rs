//! The life of a mount: from the checks before it, through serving, to the proof that it is gone.
//!
//! fuser's own mounting is not used: its teardown can unmount what somebody else has mounted on the same path in the
//! meantime. Here a mount is known by its device number for as long as its session lasts, and nothing else is
//! unmounted.

mod attach;
mod farewell;
mod mountinfo;
mod refusals;
mod session;
mod unmount;

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use refusals::check_client_id;
pub use unmount::{Unmounted, mounts_below, unmount};

use crate::{
    client::{Client, ClientOptions, Farewell},
    clock::Clock,
    error::Refusal,
    event::{Event, EventLog},
    fuse::Adapter,
};
use attach::{Attachment, Stuck, detach};
use farewell::Herald;
use mountinfo::{Device, MountTable};
use session::Session;

/// How long an unmounted session may take to end before landing starts without it.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);

/// What [`mount()`] mounts.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The client to serve. The path of its backing directory need not be canonical.
    pub client: ClientOptions,
    /// The empty directory on which the client's view appears.
    pub mountpoint: PathBuf,
}

/// Checks everything, mounts, and serves in threads of its own. When it returns the kernel has had its first answer
/// and every operation on the mountpoint will get one.
///
/// # Errors
/// One clear line for whatever is wrong with the directories, the client id or the machine.
pub fn mount(options: MountOptions, clock: Clock, log: EventLog) -> Result<Mount, Refusal> {
    let MountOptions { client: options, mountpoint } = options;
    check_client_id(&options.id)?;
    let site = refusals::examine(&options.backing, &mountpoint, options.allow_other)?;
    let options = ClientOptions { backing: site.backing.clone(), ..options };
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
    let mount = Mount::new(client, seat, session, clock, log);
    mount.announce(&options, site.cleaned_up);
    Ok(mount)
}

/// A mounted client. Dropping it leaves: what is mounted is unmounted and what is in flight lands.
pub struct Mount {
    client: Arc<Client>,
    seat: Seat,
    session: Session,
    give_up: AtomicBool,
    vacating: Mutex<()>,
    farewell: OnceLock<Farewell>,
    herald: Mutex<Option<Herald>>,
    clock: Clock,
    log: EventLog,
    /// Those who have been told the farewell and wait for the end. Last, because fields are dropped in order.
    told: Mutex<Vec<UnixStream>>,
}

impl Mount {
    fn new(client: Arc<Client>, seat: Seat, session: Session, clock: Clock, log: EventLog) -> Mount {
        let herald = Herald::listen(seat.device);
        let herald = herald.inspect_err(|error| {
            let text =
                format!("`chaosfs umount` will not hear when everything has landed: no socket: {error}");
            log.record(clock.now(), &Event::Note { text });
        });
        Mount {
            client,
            seat,
            session,
            give_up: AtomicBool::new(false),
            vacating: Mutex::default(),
            farewell: OnceLock::new(),
            herald: Mutex::new(herald.ok()),
            clock,
            log,
            told: Mutex::default(),
        }
    }

    /// The canonical path of the mountpoint.
    pub fn mountpoint(&self) -> &Path {
        &self.seat.mountpoint
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
        let herald = self.herald.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(herald) = herald {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = herald.tell(&farewell);
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

    fn refusal(&self, stuck: &Stuck) -> Refusal {
        let reason = match stuck {
            Stuck::Busy => "busy: a program has a file or its working directory there",
            Stuck::Refused(reason) => reason,
        };
        Refusal::new(format!("mountpoint {}: cannot unmount: {reason}", self.mountpoint.display()))
    }
}
