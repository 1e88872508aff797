//! Steering a client from outside, whoever serves it: the engine of `chaosfs status`, `set`, `hold` and the like.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;

use super::{
    advance::{Moved, Moving, advance_together},
    attach::plain,
    dialogue::{Dialogue, Heard, PATIENCE, SILENCE},
    mountinfo::{Device, Entry, MountTable},
    protocol::{Answer, Request},
    refusals, socket,
};
use crate::{client::Status, error::Refusal};

/// A running client, reached through its mountpoint.
#[derive(Debug)]
pub struct RemoteClient {
    shown: PathBuf,
    backing: PathBuf,
    entry: Entry,
    dialogue: Dialogue,
    tell: fn(&str),
}

impl RemoteClient {
    /// The client whose view appears at `mountpoint`.
    ///
    /// # Errors
    /// One line: nothing is mounted there, or something else, or somebody else's, or its daemon does not answer.
    pub fn at(mountpoint: &Path) -> Result<RemoteClient, Refusal> {
        RemoteClient::behind(&entry_at(mountpoint)?, mountpoint)
    }

    /// The client behind a mount, by the name by which it was asked for.
    ///
    /// # Errors
    /// It is somebody else's, or its daemon does not answer.
    pub(super) fn behind(entry: &Entry, shown: &Path) -> Result<RemoteClient, Refusal> {
        let refuse = |reason: &str| Refusal::new(format!("{}: {reason}", shown.display()));
        if let Some(owner) = entry.owner.filter(|owner| !may_steer(*owner)) {
            return Err(refuse(&format!("it belongs to user {owner}")));
        }
        let Some(stream) = socket::connect(entry) else {
            let path = shown.display();
            return Err(match refusals::answers_dead(&entry.mount_point) {
                true => {
                    refuse(&format!("its daemon has died; remove the mount with `chaosfs umount {path}`"))
                }
                false => refuse("its control socket is gone; it can only be unmounted"),
            });
        };
        Ok(RemoteClient {
            shown: shown.to_path_buf(),
            backing: backing_of(entry),
            entry: entry.clone(),
            dialogue: Dialogue::new(stream),
            tell: |_| {},
        })
    }

    /// All clients of this user, by mountpoint; with each the reason if it cannot be reached.
    ///
    /// # Errors
    /// Says that the mount table cannot be read.
    pub fn all() -> Result<Vec<Result<RemoteClient, Refusal>>, Refusal> {
        let mounts = MountTable::read()?;
        Ok(mounts
            .chaosfs()
            .filter(is_mine)
            .map(|entry| RemoteClient::behind(entry, &entry.mount_point))
            .collect())
    }

    /// All clients of this user over this backing directory, by mountpoint.
    ///
    /// # Errors
    /// Says that there is no such directory, or no client over it.
    pub fn over(backing: &Path) -> Result<Vec<RemoteClient>, Refusal> {
        let over = Backing::at(backing)?;
        let reached = RemoteClient::all()?.into_iter().flatten();
        over.not_empty(reached.filter(|client| over.is(&client.backing)).collect())
    }

    /// Whether both reach the same client, whatever mountpoint leads there.
    pub fn is_same(&self, other: &RemoteClient) -> bool {
        self.entry.device == other.entry.device
    }

    /// The mountpoint, as it was asked for.
    pub fn mountpoint(&self) -> &Path {
        &self.shown
    }

    /// Has a line told, now and then, of what is waited for where an answer takes long.
    pub fn tell_by(&mut self, tell: fn(&str)) {
        self.tell = tell;
    }

    /// What the client tells about itself. Another user's is not believed where it says who and where it is: that is
    /// taken from the mount table, and the backing directory stays empty.
    ///
    /// # Errors
    /// Its daemon has died.
    pub fn status(&mut self) -> Result<Status, Refusal> {
        let status = self.whole_status()?;
        if is_mine(&&self.entry) {
            return Ok(status);
        }
        let pid = self.dialogue.process().number().unwrap_or(0);
        let mountpoint = self.entry.mount_point.display().to_string();
        Ok(Status { client: self.entry.source.clone(), mountpoint, backing: String::new(), pid, ..status })
    }

    /// Where programs of other hosts see what this client shows: its backing directory.
    ///
    /// # Errors
    /// It belongs to another user, who could name any directory; or its daemon has died.
    pub(super) fn usual_place(&mut self) -> Result<PathBuf, Refusal> {
        match self.entry.owner.filter(|_| !is_mine(&&self.entry)) {
            Some(owner) => Err(self.refuse(&format!(
                "it belongs to user {owner}, whose word for its backing directory is not taken; name a directory with \
                 `--at`"
            ))),
            None => self.whole_status().map(|status| PathBuf::from(status.backing)),
        }
    }

    fn whole_status(&mut self) -> Result<Status, Refusal> {
        let status = self.ask(&Request::Status)?.status;
        status.map(|status| *status).ok_or_else(|| self.refuse("it sent no status"))
    }

    /// Changes knobs, by name, all or none; values as on the command line.
    ///
    /// # Errors
    /// Names the knob that is wrong.
    pub fn set(&mut self, knobs: &[(String, String)]) -> Result<(), Refusal> {
        self.ask(&Request::Set(knobs.iter().cloned().collect())).map(drop)
    }

    /// Stops landing by being due.
    ///
    /// # Errors
    /// Its daemon has died.
    pub fn hold(&mut self) -> Result<(), Refusal> {
        self.ask(&Request::Hold).map(drop)
    }

    /// Lets what is due land again.
    ///
    /// # Errors
    /// Its daemon has died.
    pub fn release(&mut self) -> Result<(), Refusal> {
        self.ask(&Request::Release).map(drop)
    }

    /// Lands everything now; returns how much that was.
    ///
    /// # Errors
    /// Names what could not land.
    pub fn flush(&mut self) -> Result<u64, Refusal> {
        Ok(self.ask(&Request::Flush)?.landed.unwrap_or(0))
    }

    /// Drops all beliefs.
    ///
    /// # Errors
    /// Its daemon has died.
    pub fn expire(&mut self) -> Result<(), Refusal> {
        self.ask(&Request::Expire).map(drop)
    }

    /// Drops what is in flight, as if the host had crashed: how much that was, and what the first thousand were.
    ///
    /// # Errors
    /// Its daemon has died.
    pub fn lose(&mut self) -> Result<(u64, Vec<String>), Refusal> {
        let answer = self.ask(&Request::Lose)?;
        Ok((answer.dropped.unwrap_or(0), answer.paths.unwrap_or_default()))
    }

    /// Moves the clocks of these clients together, from one due time to the next across them, and there each in its
    /// turn, by client id and mountpoint, lands what it has due. Returns how many changes landed by then.
    ///
    /// # Errors
    /// Names a client whose clock is a real one, before any has been moved; or one that has gone meanwhile.
    pub fn advance(clients: &mut [RemoteClient], by: Duration) -> Result<u64, Refusal> {
        advance_together(clients, by)
    }

    fn refuse(&self, reason: &str) -> Refusal {
        Refusal::new(format!("{}: {reason}", self.shown.display()))
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, Refusal> {
        self.dialogue.say(request);
        let mut patience = if request.may_last() { SILENCE } else { PATIENCE };
        let answer = loop {
            match self.dialogue.hear(patience) {
                Heard::Answer(answer) => break *answer,
                Heard::End => return Err(self.refuse("its daemon exited before it answered")),
                Heard::Nonsense => return Err(self.refuse("its daemon does not answer as a client does")),
                Heard::Silence if request.may_last() => self.tell_what_lasts()?,
                Heard::Silence => return Err(self.unanswered()),
            }
            patience = PATIENCE;
        };
        match answer {
            Answer { ok: true, farewell: Some(_), .. } => {
                Err(self.refuse("its daemon exited before it answered"))
            }
            Answer { ok: true, .. } => Ok(answer),
            Answer { error, .. } => {
                Err(self.refuse(&error.unwrap_or_else(|| "it refused and gave no reason".to_string())))
            }
        }
    }

    /// A client that is busy with one request answers another all the same: as long as it does, it is worth waiting for.
    fn tell_what_lasts(&self) -> Result<(), Refusal> {
        let status = socket::connect(&self.entry).and_then(|stream| Dialogue::new(stream).status());
        let status = status.ok_or_else(|| self.unanswered())?;
        let what = self.dialogue.process().describe(Some(&status));
        (self.tell)(&self.refuse(&format!("waiting: {what}")).to_string());
        Ok(())
    }

    fn unanswered(&self) -> Refusal {
        let why = self.dialogue.process().describe(None);
        self.refuse(&format!("its daemon does not answer: {why}"))
    }
}

impl Moving for RemoteClient {
    fn rank(&self) -> (String, PathBuf) {
        (self.entry.source.clone(), self.entry.mount_point.clone())
    }

    fn step(&mut self, by: Duration) -> Result<Moved, Refusal> {
        let answer = self.ask(&Request::Advance(by))?;
        let next_due = answer.next_due_ns.map(Duration::from_nanos);
        Ok(Moved { landed: answer.landed.unwrap_or(0), next_due })
    }
}

/// A chaosfs mount as it is found in the mount table. Its daemon may be dead, silent or somebody else's.
#[derive(Debug)]
pub struct Sighting {
    /// The mountpoint, as it was asked for.
    pub mountpoint: PathBuf,
    /// The client's name.
    pub client: String,
    /// The backing directory; empty where nobody tells, and for another user's client.
    pub backing: PathBuf,
    device: Device,
    reached: Result<RemoteClient, Refusal>,
    dead: bool,
}

impl Sighting {
    fn of(entry: &Entry, shown: &Path) -> Sighting {
        let reached = RemoteClient::behind(entry, shown);
        Sighting {
            mountpoint: shown.to_path_buf(),
            client: entry.source.clone(),
            backing: backing_of(entry),
            device: entry.device,
            dead: reached.is_err() && refusals::answers_dead(&entry.mount_point),
            reached,
        }
    }

    /// The client whose view appears, or appeared, at `mountpoint`.
    ///
    /// # Errors
    /// One line: nothing is mounted there, or something else.
    pub fn at(mountpoint: &Path) -> Result<Sighting, Refusal> {
        entry_at(mountpoint).map(|entry| Sighting::of(&entry, mountpoint))
    }

    /// All clients of this user, by mountpoint.
    ///
    /// # Errors
    /// Says that the mount table cannot be read.
    pub fn all() -> Result<Vec<Sighting>, Refusal> {
        let mounts = MountTable::read()?;
        Ok(mounts.chaosfs().filter(is_mine).map(|entry| Sighting::of(entry, &entry.mount_point)).collect())
    }

    /// All clients of this user over this backing directory, by mountpoint.
    ///
    /// # Errors
    /// Says that there is no such directory, or no client over it.
    pub fn over(backing: &Path) -> Result<Vec<Sighting>, Refusal> {
        let over = Backing::at(backing)?;
        let found = Sighting::all()?.into_iter().filter(|sighting| over.is(&sighting.backing)).collect();
        over.not_empty(found)
    }

    /// Whether nobody serves it any more.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether both are the same client, whatever mountpoint leads there.
    pub fn is_same(&self, other: &Sighting) -> bool {
        self.device == other.device
    }

    /// The running client.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub fn reach(&mut self) -> Result<&mut RemoteClient, Refusal> {
        self.reached.as_mut().map_err(|refusal| refusal.clone())
    }
}

/// A backing directory, whatever path leads there.
struct Backing<'a> {
    shown: &'a Path,
    identity: (u64, u64),
}

impl<'a> Backing<'a> {
    fn at(shown: &'a Path) -> Result<Backing<'a>, Refusal> {
        let refuse = |error| Refusal::new(format!("{}: {}", shown.display(), plain(&error)));
        identity(shown).map(|identity| Backing { shown, identity }).map_err(refuse)
    }

    fn is(&self, path: &Path) -> bool {
        identity(path).is_ok_and(|found| found == self.identity)
    }

    fn not_empty<T>(&self, clients: Vec<T>) -> Result<Vec<T>, Refusal> {
        let nobody =
            || Refusal::new(format!("{}: no chaosfs client is mounted over it", self.shown.display()));
        if clients.is_empty() { Err(nobody()) } else { Ok(clients) }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|facts| (facts.dev(), facts.ino()))
}

/// The chaosfs mount that is seen at this path.
///
/// # Errors
/// One line: nothing is mounted there, or something else.
pub fn entry_at(mountpoint: &Path) -> Result<Entry, Refusal> {
    let refuse = |reason: &str| Refusal::new(format!("{}: {reason}", mountpoint.display()));
    let resolved = refusals::resolve(mountpoint).map_err(|error| refuse(&plain(&error)))?;
    let mounts = MountTable::read()?;
    let entry = mounts.top_at(&resolved).ok_or_else(|| refuse("not mounted"))?;
    if !entry.is_chaosfs() {
        return Err(refuse(&format!("not a chaosfs mount ({})", entry.fs_type)));
    }
    Ok(entry.clone())
}

/// Where the backing directory is, by the word of its own user alone.
fn backing_of(entry: &Entry) -> PathBuf {
    if is_mine(&entry) { socket::backing(entry) } else { PathBuf::new() }
}

pub fn is_mine(entry: &&Entry) -> bool {
    entry.owner.unwrap_or(0) == geteuid().as_raw()
}

fn may_steer(owner: u32) -> bool {
    geteuid().is_root() || geteuid().as_raw() == owner
}
