//! A client from the moment it serves to the proof that it is gone, and who sees it out.
//!
//! A client whose mount is taken away from outside (`chaosfs umount`, `umount(8)`, an aborted connection) is seen out by
//! a thread of its own: it lands and says farewell whatever else its process does. When the process itself takes the
//! mount away it says when to land, so that several clients can all be unmounted before the first of them lands.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    attach::Stuck,
    claims::ClientName,
    control::{Control, FarewellConnections, Steered},
    identity::MountIdentity,
    session::Session,
};
use crate::{
    client::{Client, Farewell},
    clock::Clock,
    error::Refusal,
    event::{Event, EventLog},
};

/// How long an unmounted session may take to end before landing starts without it.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);

/// A client that serves, or has served.
pub struct Served {
    pub client: Arc<Client>,
    pub identity: MountIdentity,
    pub session: Session,
    pub clock: Clock,
    pub log: EventLog,
    give_up: AtomicBool,
    /// Whether this process has taken the mount away itself. One at a time tries.
    left: Mutex<bool>,
    farewell: OnceLock<Farewell>,
    /// Free for another client once this one has landed.
    name: Mutex<Option<ClientName>>,
    control: Mutex<Option<Control>>,
    /// Connections that have been told the farewell and wait for the end. Last, because fields are dropped in order.
    told: Mutex<FarewellConnections>,
}

impl Served {
    pub fn new(
        client: Arc<Client>,
        identity: MountIdentity,
        session: Session,
        clock: Clock,
        log: EventLog,
        name: ClientName,
    ) -> Arc<Served> {
        let steered = Steered::new(&client, identity.mountpoint.clone());
        let control = Control::listen(identity.device(), client.backing(), steered);
        let control = control.inspect_err(|error| {
            let text = format!(
                "this client cannot be steered, and `chaosfs umount` will not hear when everything has landed: no \
                 socket: {error}"
            );
            log.record(&clock, &Event::Note { text });
        });
        Arc::new(Served {
            client,
            identity,
            session,
            clock,
            log,
            give_up: AtomicBool::new(false),
            left: Mutex::default(),
            farewell: OnceLock::new(),
            name: Mutex::new(Some(name)),
            control: Mutex::new(control.ok()),
            told: Mutex::default(),
        })
    }

    /// Starts the thread that sees the client out when its mount is taken away from outside. It ends with the session,
    /// or when the process leaves.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn see_out(self: &Arc<Served>) -> io::Result<JoinHandle<()>> {
        let served = self.clone();
        let see_out = move || {
            served.session.wait();
            let left = *served.left();
            if !left {
                served.land();
            }
        };
        thread::Builder::new().name("farewell".to_string()).spawn(see_out)
    }

    fn left(&self) -> MutexGuard<'_, bool> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As for [`Mount::unmount`](super::Mount::unmount).
    pub fn unmount(&self) -> Result<(), Refusal> {
        // Held until it is clear who has ended the session.
        let mut left = self.left();
        let was_there = self.vacate(false).map_err(|stuck| self.identity.refusal(&stuck))?;
        if !self.session.ends_within(SESSION_PATIENCE) {
            let stuck = Stuck::Refused("its session goes on: it is mounted elsewhere too".into());
            return Err(self.identity.refusal(&stuck));
        }
        *left |= was_there;
        Ok(())
    }

    /// As for [`Mount::leave`](super::Mount::leave).
    pub fn leave(&self) {
        self.client.delay_nothing();
        let mut left = self.left();
        let vacated = match self.vacate(false) {
            Err(Stuck::Busy) => self.vacate(true),
            Ok(was_there) => {
                self.session.ends_within(SESSION_PATIENCE);
                Ok(was_there)
            }
            stuck => stuck,
        };
        *left = true;
        drop(left);
        if let Err(stuck) = vacated {
            self.note(self.identity.refusal(&stuck).to_string());
        }
        self.session.abandon();
    }

    /// Takes the mount away; whether it was there still.
    fn vacate(&self, lazily: bool) -> Result<bool, Stuck> {
        if self.session.has_ended() { Ok(false) } else { self.identity.vacate(lazily) }
    }

    /// Ends every wait: [`Served::land`] returns with what has not landed by now.
    pub fn give_up(&self) {
        self.give_up.store(true, Ordering::SeqCst);
        self.session.abandon();
    }

    /// Whether it has landed.
    pub fn has_landed(&self) -> bool {
        self.farewell.get().is_some()
    }

    /// As for [`Mount::land`](super::Mount::land).
    pub fn land(&self) -> Farewell {
        self.farewell.get_or_init(|| self.end()).clone()
    }

    fn end(&self) -> Farewell {
        self.client.remove_all_hidden();
        let farewell = self.client.finish(&self.give_up);
        // Whoever gives up in a hurry may be faster than the one who takes the mount away.
        let vacated = {
            let mut left = self.left();
            *left = true;
            self.vacate(true)
        };
        if let Err(stuck) = vacated {
            self.note(self.identity.refusal(&stuck).to_string());
        }
        self.session.abandon();
        let Farewell { landed, conflicts, faults, lost_changes: lost, .. } = farewell;
        let stop = Event::Stop { landed, conflicts, faults, lost };
        self.log.record(&self.clock, &stop);
        self.identity.clear();
        drop(self.name.lock().unwrap_or_else(PoisonError::into_inner).take());
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(control) = control {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = control.tell(&farewell);
        }
        farewell
    }

    pub fn note(&self, text: String) {
        self.log.record(&self.clock, &Event::Note { text });
    }
}
