//! Several clients over one backing directory in one process: what a test suite wants.

use std::{
    fs, io,
    ops::Index,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Mount, MountOptions,
    advance::{Moved, Moving, advance_together},
    failure, in_own_thread, mount,
};
use crate::{
    clock::Clock,
    dice::Dice,
    error::Refusal,
    event::EventLog,
    knobs::{Delay, Knobs},
    terms::Terms,
};

type ChangeKnobs = Box<dyn FnOnce(&mut Knobs) + Send>;
type MakeLog = Box<dyn Fn(&str) -> Result<EventLog, Refusal> + Send>;

/// What a set of clients will be. Made by [`Clients::builder`].
#[derive(Default)]
pub struct ClientsBuilder {
    backing: Option<PathBuf>,
    mountpoints: Option<PathBuf>,
    knobs: Knobs,
    seed: Option<u64>,
    manual: bool,
    allow_other: bool,
    kernel_cache: bool,
    log: Option<MakeLog>,
    clients: Vec<(String, ChangeKnobs)>,
}

impl ClientsBuilder {
    /// The backing directory. Without it a temporary one is made, and removed at the end.
    pub fn backing(mut self, directory: impl Into<PathBuf>) -> Self {
        self.backing = Some(directory.into());
        self
    }

    /// Where the mountpoints are made, each named after its client, and removed at the end. Without it in a temporary
    /// folder.
    pub fn mountpoints_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.mountpoints = Some(folder.into());
        self
    }

    /// The knobs of all clients. Default: [`Knobs::default`].
    pub fn knobs(mut self, knobs: Knobs) -> Self {
        self.knobs = knobs;
        self
    }

    /// The seed of all draws; clients with different names draw differently from it. Default: one is drawn for the whole
    /// set, and logged.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Time stands still until [`Clients::advance`]: nothing expires and nothing lands by itself.
    pub fn manual_clock(mut self) -> Self {
        self.manual = true;
        self
    }

    /// Lets other users in.
    pub fn allow_other(mut self) -> Self {
        self.allow_other = true;
        self
    }

    /// Lets the kernel keep answers; see [`MountOptions::kernel_cache`].
    pub fn kernel_cache(mut self) -> Self {
        self.kernel_cache = true;
        self
    }

    /// The log of each client, by its name. Default: `tracing` events.
    pub fn log(mut self, log: impl Fn(&str) -> EventLog + Send + 'static) -> Self {
        self.log = Some(Box::new(move |name| Ok(log(name))));
        self
    }

    /// The log of each client goes to `<name>.log` in this folder, which is made if need be and stays.
    pub fn log_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.log = Some(Box::new(move |name| {
            let log = EventLog::to_file(&folder.join(format!("{name}.log")), name, false);
            log.map_err(|refusal| Refusal::new(format!("`.log_dir()`: {refusal}")))
        }));
        self
    }

    /// One more client.
    pub fn client(self, name: &str) -> Self {
        self.client_with(name, |_| {})
    }

    /// One more client, with knobs of its own over the common ones.
    pub fn client_with(mut self, name: &str, change: impl FnOnce(&mut Knobs) + Send + 'static) -> Self {
        self.clients.push((name.to_string(), Box::new(change)));
        self
    }

    /// `count` more clients: `A`, `B`, `C`, and so on; after `Z` comes `AA`.
    pub fn clients(mut self, count: usize) -> Self {
        for number in self.clients.len()..self.clients.len() + count {
            self = self.client(&letters(number));
        }
        self
    }

    /// Mounts them all.
    ///
    /// # Errors
    /// One line for whatever is wrong; nothing stays mounted then.
    pub fn mount(self) -> Result<Clients, Refusal> {
        if self.clients.is_empty() {
            return Err(Refusal::new(
                "a set of clients needs at least one; name it with `client` or `clients`",
            ));
        }
        let mut directories = Directories::prepare(self.backing, self.mountpoints)?;
        let mut mounts: Vec<Mount> = Vec::new();
        let seed = self.seed.unwrap_or_else(Dice::random_seed);
        for (id, change) in self.clients {
            if mounts.iter().any(|other| other.client_id() == id) {
                return Err(Refusal::new(format!(
                    "there are two clients named `{id}`; give each a name of its own"
                )));
            }
            super::check_client_id(&id)?;
            let mut knobs = self.knobs.clone();
            change(&mut knobs);
            let mountpoint = directories.make_mountpoint(&id)?;
            let mut options = MountOptions::new(&directories.backing, mountpoint);
            options.log = self.log.as_ref().map(|log| log(&id)).transpose()?;
            options.clock = if self.manual { Clock::manual() } else { Clock::Monotonic };
            options.client_id = Some(id);
            options.knobs = knobs;
            options.seed = Some(seed);
            options.allow_other = self.allow_other;
            options.kernel_cache = self.kernel_cache;
            options.terms = Terms::Builder;
            mounts.push(mount(options)?);
        }
        Ok(Clients { mounts, directories })
    }
}

/// `A` to `Z`, `AA` to `ZZ` and so on.
fn letters(number: usize) -> String {
    let last = char::from(b'A' + (number % 26) as u8);
    match number / 26 {
        0 => last.to_string(),
        before => letters(before - 1) + &last.to_string(),
    }
}

/// Mounted clients over one backing directory. Dropping them, also in a panic, lands what is in flight, unmounts, and
/// removes what was made for them. In a panic they first print the seed, knobs and counts of each, and where its log is, to
/// standard error.
///
/// They are found by name, `clients["A"]`, which panics if there is none of that name; or one by one with
/// [`Clients::iter`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use chaosfs::Clients;
/// use std::{fs, time::Duration};
///
/// let clients = Clients::builder().clients(2).manual_clock().mount()?;
/// let (a, b) = (clients["A"].mountpoint(), clients["B"].mountpoint());
///
/// assert!(!b.join("flag").exists()); // from now on B believes that there is none
/// fs::write(a.join("flag"), "set")?;
/// clients.advance(Duration::from_millis(800))?; // it lands
/// assert!(!b.join("flag").exists()); // B goes on believing
/// clients.advance(Duration::from_millis(700))?;
/// assert!(b.join("flag").exists());
///
/// clients["A"].hold(); // what A does from now on nobody sees
/// fs::write(a.join("lost"), "?")?;
/// assert_eq!(clients["A"].lose().len(), 2); // its making and its data
/// clients.unmount()?;
/// # Ok(())
/// # }
/// ```
pub struct Clients {
    mounts: Vec<Mount>,
    /// Goes after the mounts.
    directories: Directories,
}

impl Clients {
    /// Says what the clients will be.
    pub fn builder() -> ClientsBuilder {
        ClientsBuilder::default()
    }

    /// The backing directory.
    pub fn backing(&self) -> &Path {
        &self.directories.backing
    }

    /// The client of this name.
    pub fn get(&self, name: &str) -> Option<&Mount> {
        self.iter().find(|mount| mount.client_id() == name)
    }

    /// All clients, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter()
    }

    /// Moves the clocks of all clients together: from one due time to the next across them, and there each in its turn,
    /// by name, lands what it has due. Returns how many changes landed by then.
    ///
    /// # Errors
    /// Their clocks are real ones.
    pub fn advance(&self, by: Duration) -> Result<u64, Refusal> {
        in_own_thread(|| advance_together(&mut self.iter().collect::<Vec<_>>(), by))?
    }

    /// Lands everything and unmounts, as dropping them does, and says how it went.
    ///
    /// # Errors
    /// Names what could not land.
    pub fn unmount(self) -> Result<(), Refusal> {
        self.mounts.iter().for_each(Mount::leave);
        let lost: Vec<String> = self.mounts.iter().flat_map(|mount| mount.land().lost).collect();
        if lost.is_empty() {
            Ok(())
        } else {
            Err(Refusal::new(format!("could not land: {}", lost.join("; "))))
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        failure::tell(&self.mounts);
    }
}

impl Index<&str> for Clients {
    type Output = Mount;

    #[track_caller]
    fn index(&self, name: &str) -> &Mount {
        // Not in a closure: that would be the caller that the panic names.
        let Some(mount) = self.get(name) else {
            let names: Vec<&str> = self.iter().map(Mount::client_id).collect();
            panic!("there is no client `{name}`; there are {}", names.join(", "))
        };
        mount
    }
}

impl Moving for &Mount {
    fn rank(&self) -> (String, PathBuf) {
        (self.client_id().to_string(), self.mountpoint().to_path_buf())
    }

    fn step(&mut self, by: Duration) -> Result<Moved, Refusal> {
        let advanced =
            self.served.client.advance(by).map_err(|refusal| self.served.identity.named(&refusal))?;
        Ok(Moved { landed: advanced.landed, next_due: advanced.next_due })
    }
}

/// Mounts a client `writer` and a client `reader` that lags behind it over a temporary directory: time to live, write
/// delay and rename delay are 500, 100 and 100 ms for the one, and 2000, 800 and 500 ms for the other.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clients = chaosfs::dual_mount()?;
/// let (writer, reader) = (&clients["writer"], &clients["reader"]);
/// assert!(!reader.mountpoint().join("file").exists());
/// std::fs::write(writer.mountpoint().join("file"), "text")?;
/// writer.flush()?; // it is in the backing directory
/// assert!(!reader.mountpoint().join("file").exists()); // and yet the reader believes that it is not
/// reader.expire()?;
/// assert!(reader.mountpoint().join("file").exists());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// One line for whatever is wrong with the machine.
pub fn dual_mount() -> Result<Clients, Refusal> {
    let lag = |ttl, write, rename| {
        move |knobs: &mut Knobs| {
            knobs.meta_ttl = Duration::from_millis(ttl);
            knobs.write_delay = Delay::fixed_millis(write);
            knobs.rename_delay = Delay::fixed_millis(rename);
        }
    };
    let builder = Clients::builder().client_with("writer", lag(500, 100, 100));
    builder.client_with("reader", lag(2000, 800, 500)).mount()
}

/// The directories of a set. What was made for it goes with it, and nothing else: a mountpoint only if it is empty,
/// so that nothing is ever removed through a mount that could not be taken away.
struct Directories {
    backing: PathBuf,
    mountpoints: PathBuf,
    made: Vec<PathBuf>,
    /// A backing directory of our own, with all that is in it.
    made_backing: Option<PathBuf>,
}

impl Directories {
    fn prepare(backing: Option<PathBuf>, mountpoints: Option<PathBuf>) -> Result<Directories, Refusal> {
        let wrong = |error: io::Error| Refusal::new(format!("cannot make a temporary folder: {error}"));
        let mut made = Vec::new();
        if backing.is_none() || mountpoints.is_none() {
            made.push(tempfile::Builder::new().prefix("chaosfs-").tempdir().map_err(wrong)?.keep());
        }
        let inside = |name: &str| made.first().map_or_else(PathBuf::new, |folder| folder.join(name));
        let made_backing = if backing.is_none() { Some(inside("backing")) } else { None };
        let mountpoints = mountpoints.unwrap_or_else(|| inside(""));
        let backing = backing.unwrap_or_else(|| inside("backing"));
        let directories = Directories { backing, mountpoints, made, made_backing };
        directories.made_backing.as_ref().map_or(Ok(()), fs::create_dir).map_err(wrong)?;
        Ok(directories)
    }

    fn make_mountpoint(&mut self, id: &str) -> Result<PathBuf, Refusal> {
        let path = self.mountpoints.join(id);
        match fs::create_dir(&path) {
            Ok(()) => self.made.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Refusal::new(format!("mountpoint {}: {error}", path.display()))),
        }
        Ok(path)
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        if let Some(backing) = &self.made_backing {
            let _ = fs::remove_dir_all(backing);
        }
        for folder in self.made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_named_with_letters() {
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letters), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn a_set_of_none_is_refused() {
        assert!(Clients::builder().mount().is_err_and(|refusal| refusal.0.contains("at least one")));
    }
}
