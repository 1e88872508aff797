//! One client: faults, what is in flight and belief over a backing directory.
//!
//! A method calls those of its own layer and of the layers below it, from the bottom to the top:
//!
//! | layer | file | what |
//! |---|---|---|
//! | the state | `mod.rs`, `state.rs` | the client, and what its one lock protects |
//! | | `records.rs` | what is kept of an inode besides, and what has become of it |
//! | | `open_files.rs`, `waits.rs`, `progress.rs` | what is open; who waits for what; which threads sleep |
//! | | `losses.rs` | what is acknowledged and not in the backing directory, path by path |
//! | | `lending.rs` | what the kernel may keep, and which files it may be handed whole |
//! | the store | `whereabouts.rs` | where inodes are, as changes are made, land or are dropped |
//! | | `descriptors.rs` | which descriptor reaches an inode, reads or writes a file |
//! | | `store/` | carrying a change out on the backing directory, and what happens when the store has changed |
//! | landing | `lander.rs` | the threads that land what is due, and leaving |
//! | | `endings.rs` | how a landing ends, and how mutations leave what is in flight |
//! | | `known.rs`, `lingering.rs`, `tidying.rs` | which inodes are in use, which are known all the same, and giving memory back |
//! | changing | `changes.rs`, `sync.rs` | what goes through and what goes in flight; landing early |
//! | seeing | `view.rs`, `asking.rs`, `setid.rs` | names, attributes, listings; which set-id bits a change takes away |
//! | calling | `call.rs` | the life of a call: verdict, room, run, sync, answer |
//! | | `namespace/`, `file_io/`, `xattr/` | the operations |
//! | steering | `steer.rs`, `status.rs` | what a person or a test does to a running client, and what it tells about itself |
//! | tests | `bench.rs`, `failures.rs`, `tried_again.rs` | a client for unit tests; what becomes of everything when a system call fails |
//!
//! All state that decides what is seen is behind one lock, which is never held over a system call, a wait or a reply.
//! The locks of the inode table and of the open files are innermost: nothing else is locked while they are held.

mod asking;
#[cfg(test)]
mod bench;
mod call;
mod changes;
mod descriptors;
mod endings;
#[cfg(test)]
mod failures;
mod file_io;
mod journal;
mod known;
mod lander;
mod lending;
mod lingering;
mod locks;
mod losses;
mod namespace;
mod open_files;
mod progress;
mod records;
mod setid;
mod state;
mod status;
mod steer;
mod store;
mod sync;
mod tidying;
#[cfg(test)]
mod tried_again;
mod view;
mod waits;
mod whereabouts;
mod xattr;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
};

pub use call::{Call, Run};
pub use file_io::{Bytes, Copy, Offset};
pub use lander::Farewell;
pub use lending::{Lease, check_lending};
pub use locks::LockWish;
pub use namespace::SetAttributes;
pub use status::{InFlightStatus, Status};
pub use steer::Advanced;
pub use view::{Entry, Missing, Shown};

/// Sets up a thread in which operations will run: the process's umask and working directory are somebody else's. Whether
/// that works is [checked](check_threads) before a client serves.
pub fn prepare_thread() {
    let _ = backing::sys::take_own_umask();
}

/// Whether threads of this process can be prepared.
///
/// # Errors
/// Says what forbids it and what would be right.
pub fn check_threads() -> Result<(), Refusal> {
    let tried = std::thread::Builder::new().spawn(backing::sys::take_own_umask);
    let tried = tried.map_err(|error| Refusal::new(format!("cannot start a thread: {error}")))?.join();
    tried.unwrap_or(Err(Error::InputOutput)).map_err(|error| {
        Refusal::new(format!(
            "a sandbox forbids unshare(CLONE_FS) ({error}), without which a client served by this program would change the \
             umask and the working directory of all of it; allow unshare(2), or mount with the command `chaosfs mount`"
        ))
    })
}

/// Leaves something to be said should this process be aborted.
pub use crate::backing::sys::leave_last_words;

/// What operations are asked with and answer with.
pub use crate::{
    backing::sys::LockKind,
    consistency::{Attributes, Ino, Kind, Listing, Passage, RenameHow, Snapshot, policy::Locks},
    time::Timestamp,
};

use crate::{
    backing::{self, InodeTable, ROOT},
    clock::Clock,
    consistency::{
        Place, Policy, Provenance,
        policy::{HideAs, LinkCounts},
    },
    dice::Dice,
    error::{Error, Refusal},
    event::EventLog,
    fault::Injector,
    knobs::{Knobs, Modes},
    operation::Operation,
    terms::Terms,
    time::Time,
};
use call::Subject;
use journal::OperationCounts;
use known::Looked;
use open_files::OpenFiles;
use progress::Progress;
use state::{State, Version, Watched};

/// Where a client comes from and how it behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The backing directory.
    pub backing: PathBuf,
    /// Its name in logs and draws.
    pub id: String,
    /// The seed of every draw.
    pub seed: u64,
    /// Its tunables.
    pub knobs: Knobs,
    /// Whether other users may come in; new files then belong to their callers.
    pub allow_other: bool,
    /// Whether the kernel may keep what this client would answer anyway.
    pub kernel_cache: bool,
    /// How these options were given.
    pub terms: Terms,
}

/// The program behind a request.
#[expect(missing_docs, reason = "as far as nothing else is said")]
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Its thread, 0 if it cannot be seen from here.
    pub thread: u32,
}

impl Caller {
    /// Whether the caller may keep the setgid bit of a file of this group: root may always.
    fn is_in_group(&self, group: u32) -> bool {
        self.uid == 0 || self.gid == group || backing::sys::has_group(self.thread, group)
    }

    /// Whether the caller is an administrator to the kernel (`CAP_SYS_ADMIN`); the root of a container may not be.
    fn administers(&self) -> bool {
        backing::sys::is_administrator(self.thread)
    }
}

#[derive(Debug, Default)]
struct Counters {
    /// Tries to land something that have ended, well or not.
    landings: AtomicU64,
    landed: AtomicU64,
    conflicts: AtomicU64,
    faults: AtomicU64,
    dropped: AtomicU64,
    /// Bytes of memory that have become free, about.
    released: AtomicU64,
}

/// The tunables in force and what follows from them, replaced as a whole.
#[derive(Debug)]
struct InForce {
    knobs: Knobs,
    policy: Policy,
    injector: Injector,
    /// Attributes are shown as the store has them.
    shows_stored: bool,
}

impl InForce {
    fn new(knobs: Knobs) -> InForce {
        let policy = knobs.policy();
        let shows_stored = knobs.modes == Modes::Stored
            && policy.link_counts == LinkCounts::Counted
            && policy.hide_open_as != HideAs::Fuse;
        InForce { injector: Injector::new(knobs.drop_prob), policy, knobs, shows_stored }
    }
}

/// One client. Operations take numbers and names and return values; nothing here knows about FUSE.
pub struct Client {
    table: InodeTable,
    state: Mutex<State>,
    /// Landing threads wait here.
    work: Condvar,
    /// Whoever looks after the landing threads waits here for their end.
    stopped: Condvar,
    /// Whoever waits for the end of landing waits here.
    progress: Progress,
    files: OpenFiles,
    locks: locks::SharedLocks,
    lock_waits: waits::LockWaits,
    id: String,
    backing: PathBuf,
    /// Replaced only under the lock of the state.
    in_force: RwLock<Arc<InForce>>,
    dice: Dice,
    clock: Clock,
    opened: Time,
    log: EventLog,
    counters: Counters,
    operations: OperationCounts,
    /// One at a time moves the clock.
    hand: Mutex<()>,
    landers: Mutex<Vec<std::thread::JoinHandle<()>>>,
    name_max: usize,
    allow_other: bool,
    /// The kernel may keep answers.
    lends: bool,
    terms: Terms,
    /// This process may give files away: they belong to their callers.
    gives_away: bool,
    own_ids: (u32, u32),
}

impl Client {
    /// Opens the backing directory. No thread runs yet: see [`Client::start`].
    ///
    /// # Errors
    /// Says why the directory cannot be opened.
    pub fn open(options: ClientOptions, clock: Clock, log: EventLog) -> Result<Arc<Client>, Refusal> {
        let table = backing::open(&options.backing)?;
        let name_max = backing::figures(&table).map_or(255, |figures| figures.name_max as usize);
        Ok(Arc::new(Client {
            table,
            state: Mutex::new(State::new(&options.knobs)),
            work: Condvar::new(),
            stopped: Condvar::new(),
            progress: Progress::default(),
            files: OpenFiles::default(),
            locks: locks::SharedLocks::default(),
            lock_waits: waits::LockWaits::default(),
            dice: Dice::new(options.seed, &options.id),
            id: options.id,
            backing: options.backing,
            in_force: RwLock::new(Arc::new(InForce::new(options.knobs))),
            opened: clock.now(),
            clock,
            log,
            counters: Counters::default(),
            operations: OperationCounts::default(),
            hand: Mutex::default(),
            landers: Mutex::default(),
            name_max,
            allow_other: options.allow_other,
            lends: options.kernel_cache,
            terms: options.terms,
            gives_away: options.allow_other && backing::sys::is_root(),
            own_ids: backing::sys::own_ids(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one operation must not take the others down: state changes are made of calls that do not panic
        // half-way.
        locked(&self.state)
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// Asked for each answer with attributes in it, so nothing is cloned.
    fn shows_stored(&self) -> bool {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).shows_stored
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tunables in force.
    pub fn knobs(&self) -> Knobs {
        self.in_force().knobs.clone()
    }

    /// The backing directory.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// The number shown as `st_ino`: the protocol fixes the root's node number, not what programs see.
    pub fn shown_number(&self, ino: Ino) -> Ino {
        if ino == ROOT { self.table.identity(ROOT).map_or(ROOT, |identity| identity.ino) } else { ino }
    }

    /// How many inodes are known, and how many descriptors they hold.
    pub fn known_inodes(&self) -> (usize, usize) {
        self.table.size()
    }

    /// How many mutations are in flight, and how many bytes they carry.
    pub fn in_flight(&self) -> (usize, u64) {
        let state = self.lock();
        (state.in_flight.len(), state.in_flight.bytes())
    }

    /// From now on nothing new is delayed.
    pub fn delay_nothing(&self) {
        self.lock().in_flight.delay_nothing();
    }

    fn path_of(&self, place: &Place) -> Vec<u8> {
        let mut path = self.table.path(place.directory);
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(&place.name);
        path
    }

    /// Whether the kernel has to check permissions, because callers may be somebody else than this process or this
    /// process may not do everything itself. It costs one more request for each path.
    pub fn needs_permission_checks(&self) -> bool {
        self.allow_other || !self.is_root()
    }

    /// Whether this process may look at every inode, whatever its permissions.
    pub fn may_look_everywhere(&self) -> bool {
        self.is_root()
    }

    /// Whether answers are believed for some time.
    pub fn believes(&self) -> bool {
        !self.in_force().policy.lifetimes.are_zero()
    }

    fn is_root(&self) -> bool {
        self.own_ids.0 == 0
    }

    /// Whether closing a file can report anything: a late error, or an injected one.
    pub fn close_can_fail(&self) -> bool {
        let in_force = self.in_force();
        in_force.knobs.locks != Locks::Client
            || !in_force.policy.delays.are_zero()
            || in_force.injector.is_armed()
            || self.lock().in_flight.is_held()
    }

    /// Refuses names that the backing file system cannot take, and whatever would lead out of a directory: the kernel
    /// resolves `.` and `..` itself and never asks for them.
    fn check_name(&self, name: &[u8]) -> Result<(), Error> {
        match name {
            b"" | b"." | b".." => Err(Error::Invalid),
            _ if name.contains(&b'/') => Err(Error::Invalid),
            _ if name.len() > self.name_max => Err(Error::NameTooLong),
            _ => Ok(()),
        }
    }

    /// Refuses at once what the backing directory would refuse for being read-only, and what there may be no memory
    /// for: a change that is about to go in flight.
    fn check_writable(&self) -> Result<(), Error> {
        backing::sys::expect_memory(0)?;
        if backing::figures(&self.table)?.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The figures of the backing file system.
    ///
    /// # Errors
    /// What `fstatvfs(3)` answers.
    pub fn figures(self: &Arc<Self>, caller: &Caller) -> Call<'_, impl Run<backing::FsFigures>> {
        Call::new(self, Operation::Statfs, caller, Subject::Everything, |client, _, _| {
            backing::figures(&client.table)
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_symlink_leads_out_of_the_backing_directory() {
        let (bench, outside) = (bench::Bench::new(Knobs::default()), tempfile::tempdir().expect("a folder"));
        let (client, shared) = (&bench.client, bench.folder.path());
        let ino = client.mkdir(&bench::CALLER, ROOT, b"d", 0o755, 0).now().expect("a directory").ino;
        bench.advance(2_000);
        let make = |name: &[u8]| client.mkdir(&bench::CALLER, ino, name, 0o755, 0).now().map(drop);
        make(b"late").expect("it goes in flight");
        // Others put a link to somewhere else in its place.
        std::fs::rename(shared.join("d"), shared.join("moved")).expect("they can");
        std::os::unix::fs::symlink(outside.path(), shared.join("d")).expect("they can");
        client.table.close_all();
        bench.advance(2_000);
        client
            .set(|knobs| {
                *knobs = Knobs { locks: knobs.locks, ..Knobs::zero() };
                Ok(())
            })
            .expect("they are right");
        let _ = make(b"through");
        let is_empty = |path: &Path| std::fs::read_dir(path).expect("a folder").next().is_none();
        assert!(is_empty(outside.path()));
        assert!(shared.join("moved/late").is_dir());
    }

    #[test]
    fn no_name_leads_out_of_the_backing_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = bench::options(folder.path(), Knobs::zero());
        let client = Client::open(options, Clock::manual(), EventLog::silent()).expect("a client");
        let caller = bench::CALLER;
        for name in [&b""[..], b".", b"..", b"../x", b"a/b"] {
            assert_eq!(client.lookup(&caller, ROOT, name).now().unwrap_err().error, Error::Invalid);
            assert_eq!(client.mkdir(&caller, ROOT, name, 0o755, 0).now().unwrap_err(), Error::Invalid);
            assert_eq!(client.unlink(&caller, ROOT, name).now().unwrap_err(), Error::Invalid);
        }
    }
}
