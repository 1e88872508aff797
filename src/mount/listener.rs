//! Waiting for a client that has been unmounted to say how it ended.

use std::time::Duration;

use super::{
    dialogue::{Dialogue, Heard, SILENCE},
    mountinfo::Entry,
    protocol::Request,
    socket,
};
use crate::{
    client::{Farewell, Status},
    clock::Deadline,
};

/// How long a process may take to end after its farewell.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client that lands may take to tell how much is left.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked what is waited for, once that has been told.
const LOOK: Duration = Duration::from_secs(10);

/// A connection over which a client will say farewell.
#[derive(Debug)]
pub struct Listener {
    dialogue: Dialogue,
    told: Option<Status>,
}

/// How the wait ended.
#[derive(Debug)]
pub enum End {
    /// With the client's own words.
    Farewell(Farewell),
    /// Its process is gone without a word.
    Unheard,
    /// It was over before the client had said anything: what is left, and with whom.
    Unfinished(String),
}

impl Listener {
    /// Connects to the daemon that serves this mount; none if it cannot be reached.
    pub fn connect(entry: &Entry) -> Option<Listener> {
        let mut dialogue = Dialogue::new(socket::connect(entry)?);
        // To be connected is enough. This is sent only so that a trace shows why we did.
        dialogue.say(&Request::Farewell);
        Some(Listener { dialogue, told: None })
    }

    /// Waits for the end of the client, for at most `limit`, and tells what it waits for when that takes long. A process
    /// that lives on after the farewell (a library user's) is not waited for long.
    pub fn wait(mut self, limit: Duration, tell: &mut dyn FnMut(&str)) -> End {
        let (end, mut last, mut patience) = (Deadline::after(limit), String::new(), SILENCE);
        loop {
            if let Some(end) = self.listen(patience.min(end.left()), |_| false).or_else(|| self.ask()) {
                return end;
            }
            let left = self.dialogue.process().describe(self.told.as_ref());
            if end.left().is_zero() {
                return End::Unfinished(left);
            }
            if left != last {
                tell(&left);
            }
            (last, patience) = (left, LOOK);
        }
    }

    /// Asks how much is left to land.
    fn ask(&mut self) -> Option<End> {
        self.told = None;
        self.dialogue.say(&Request::Status);
        self.listen(STATUS_PATIENCE, |told| told.is_some())
    }

    /// Listens for the farewell for this long; no longer than until what has been told is enough. None if it does not
    /// come.
    fn listen(&mut self, patience: Duration, is_enough: fn(&Option<Status>) -> bool) -> Option<End> {
        let end = Deadline::after(patience);
        loop {
            match self.dialogue.hear(end.left()) {
                Heard::Answer(answer) => match answer.farewell {
                    Some(farewell) => {
                        self.dialogue.hear(LINGER);
                        return Some(End::Farewell(farewell.into()));
                    }
                    None => self.told = answer.status.map(|status| *status),
                },
                Heard::Silence => return None,
                Heard::End | Heard::Nonsense => return Some(End::Unheard),
            }
            if is_enough(&self.told) || end.left().is_zero() {
                return None;
            }
        }
    }
}
