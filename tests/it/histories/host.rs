//! A client with as much of a kernel around it as it takes to run programs on it: paths are walked name by name,
//! lookups are given back, and what the kernel refuses by itself is refused here.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::AtomicBool,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use chaosfs::{
    Farewell,
    client::{Caller, Client, ClientOptions, Copy, Entry, Missing, Offset, SetAttributes, Shown},
    clock::Clock,
    consistency::{Attributes, Kind, RenameHow},
    error::Error,
    event::EventLog,
    knobs::Knobs,
    terms::Terms,
    time::{Time, Timestamp},
};

use super::{
    machine::Machine,
    plain::{Answer, count, done},
    program::{How, Move, NAMES},
    reference::{Facts, Touched},
    tree::{Mark, Seen, Tree, join, set_on_purpose},
};

const ROOT: u64 = 1;
const UMASK: u32 = 0o022;

fn root_caller() -> Caller {
    Caller { uid: 0, gid: 0, thread: 0 }
}

/// A file that a program has open here.
pub struct HostFile {
    pub handle: u64,
    pub ino: u64,
    flags: i32,
    /// The kernel knows the directories of an open file.
    directories: Vec<u64>,
}

impl HostFile {
    fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    fn is_readable(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_WRONLY
    }
}

/// What the kernel does with what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// It is short of memory and gives each lookup back at once.
    Forgets,
    /// It gives lookups back at the end, and asks anew each time.
    Remembers,
    /// The same, and it does not ask for what it may keep (`--kernel-cache`).
    Keeps,
}

/// All of them.
pub const KERNELS: [Kernel; 3] = [Kernel::Forgets, Kernel::Remembers, Kernel::Keeps];

/// What the kernel keeps of the client's answers, until when: inodes by name, or that there is none, and attributes.
#[derive(Default)]
struct Keeping {
    names: HashMap<(u64, Vec<u8>), (Option<u64>, Time)>,
    attributes: HashMap<u64, (Attributes, Time)>,
}

/// A client and the programs on it.
pub struct Host {
    pub client: Arc<Client>,
    pub lines: Arc<Mutex<Vec<String>>>,
    clock: Clock,
    kernel: Kernel,
    keeping: Mutex<Keeping>,
    /// Lookups that are given back at the end, by a kernel that forgets nothing.
    remembered: Mutex<Vec<u64>>,
    /// Directories that something was moved into: the kernel knows them while it knows what was moved.
    moved_into: Mutex<Vec<u64>>,
}

/// An inode that the kernel knows, with one lookup to give back, and the directories above it.
struct Node<'a> {
    host: &'a Host,
    ino: u64,
    attributes: Attributes,
    /// Whether there is a lookup to give back: not for what was kept.
    is_counted: bool,
    above: Vec<u64>,
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.counted().into_iter().for_each(|ino| self.host.give_back(ino));
        self.above.drain(..).for_each(|ino| self.host.give_back(ino));
    }
}

impl Node<'_> {
    /// Keeps the lookups of this node and of all above it.
    fn keep(mut self) -> Vec<u64> {
        let above = std::mem::take(&mut self.above);
        let all = self.counted().into_iter().chain(above).collect();
        std::mem::forget(self);
        all
    }

    fn counted(&self) -> Option<u64> {
        self.is_counted.then_some(self.ino)
    }

    fn is_directory(&self) -> bool {
        self.attributes.kind == Kind::Directory
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

fn absent(error: Error) -> Result<Option<Node<'static>>, Error> {
    if error == Error::NotFound { Ok(None) } else { Err(error) }
}

impl Machine for Host {
    type File = HostFile;

    fn open(&self, path: &str, how: How) -> Result<HostFile, i32> {
        let flags = how.flags();
        self.retrying(|| {
            let (directory, name, found) = self.place(path)?;
            let Some(found) = found else {
                if flags & libc::O_CREAT == 0 {
                    return Err(Error::NotFound);
                }
                let (entry, handle) = self
                    .client
                    .create(&root_caller(), directory.ino, name, libc::S_IFREG | 0o666, UMASK, flags)
                    .now()?;
                self.renamed(directory.ino, name);
                drop(self.known(directory.ino, name, entry));
                return Ok(HostFile { handle, ino: entry.ino, flags, directories: directory.keep() });
            };
            match found.attributes.kind {
                _ if how == How::CreateNew => return Err(Error::Exists),
                Kind::Directory => return Err(Error::IsDirectory),
                Kind::Fifo => return Err(Error::of(libc::ENXIO)),
                Kind::Symlink => return Err(Error::of(libc::ELOOP)),
                _ => {}
            }
            let handle = self
                .client
                .open_file(&root_caller(), found.ino, flags & !(libc::O_CREAT | libc::O_EXCL))
                .now()?;
            if flags & libc::O_TRUNC != 0 {
                self.changed(&[found.ino]);
            }
            Ok(HostFile { handle, ino: found.ino, flags, directories: directory.keep() })
        })
    }

    fn close(&self, file: HostFile) -> Answer {
        let flushed = self.client.flush(&root_caller(), file.handle).now().map(done).map_err(Error::errno);
        self.client.release(file.handle);
        file.directories.into_iter().for_each(|ino| self.give_back(ino));
        flushed
    }

    fn write(&self, file: &HostFile, offset: u64, data: &[u8]) -> Answer {
        if !file.is_writable() {
            return Err(libc::EBADF);
        }
        let place = if file.flags & libc::O_APPEND != 0 { Offset::End } else { Offset::At(offset) };
        self.changed(&[file.ino]);
        self.client.write(&root_caller(), file.handle, place, data).now().map(count).map_err(Error::errno)
    }

    fn read(&self, file: &HostFile, offset: u64, length: usize) -> Answer {
        if !file.is_readable() {
            return Err(libc::EBADF);
        }
        self.client
            .read(&root_caller(), file.handle, offset, length)
            .now()
            .map(|bytes| bytes.to_vec())
            .map_err(Error::errno)
    }

    fn set_file_length(&self, file: &HostFile, size: u64) -> Answer {
        if !file.is_writable() {
            return Err(libc::EINVAL);
        }
        let asked = SetAttributes { size: Some(size), ..SetAttributes::default() };
        self.set_node_attributes(file.ino, &asked).map(done).map_err(Error::errno)
    }

    fn allocate(&self, file: &HostFile, punch: bool, offset: u64, length: u64) -> Answer {
        if !file.is_writable() {
            return Err(libc::EBADF);
        }
        self.changed(&[file.ino]);
        let mode = if punch { libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE } else { 0 };
        self.client
            .fallocate(&root_caller(), file.handle, mode, offset, length)
            .now()
            .map(done)
            .map_err(Error::errno)
    }

    fn copy(&self, from: (&HostFile, u64), to: (&HostFile, u64), length: usize) -> Answer {
        if !from.0.is_readable() || !to.0.is_writable() || to.0.flags & libc::O_APPEND != 0 {
            return Err(libc::EBADF);
        }
        let size = self.attributes(from.0.ino).map_err(Error::errno)?.size;
        let length = (length as u64).min(size.saturating_sub(from.1));
        if from.0.ino == to.0.ino && to.1 + length > from.1 && to.1 < from.1 + length {
            return Err(libc::EINVAL);
        }
        if length == 0 {
            return Ok(count(0));
        }
        self.changed(&[to.0.ino]);
        let copy =
            Copy { from: from.0.handle, from_offset: from.1, to: to.0.handle, to_offset: to.1, length };
        self.client.copy_range(&root_caller(), copy).now().map(count).map_err(Error::errno)
    }

    /// `fsync(2)`: nothing runs by itself here, so what it hurries is landed at once.
    fn sync(&self, file: &HostFile) -> Answer {
        let answer = self.start_sync(file.handle);
        self.client.land_due();
        answer.recv_timeout(Duration::from_secs(20)).expect("fsync returns").map(done).map_err(Error::errno)
    }

    fn set_length(&self, path: &str, size: u64) -> Answer {
        match self.followed(path).map_err(Error::errno)?.attributes.kind {
            Kind::Directory => Err(libc::EISDIR),
            Kind::File => {
                self.set_attributes(path, SetAttributes { size: Some(size), ..SetAttributes::default() })
            }
            _ => Err(libc::EINVAL),
        }
    }

    fn set_mode(&self, path: &str, mode: u32) -> Answer {
        self.followed(path).map_err(Error::errno)?;
        self.set_attributes(path, SetAttributes { permissions: Some(mode), ..SetAttributes::default() })
    }

    fn set_times(&self, path: &str, seconds: i64) -> Answer {
        let time = Some(Timestamp { seconds, nanos: 5 });
        self.set_attributes(path, SetAttributes { atime: time, mtime: time, ..SetAttributes::default() })
    }

    fn mkdir(&self, path: &str) -> Answer {
        self.make(path, |client, directory, name| {
            client.mkdir(&root_caller(), directory, name, libc::S_IFDIR | 0o777, UMASK).now()
        })
    }

    fn rmdir(&self, path: &str) -> Answer {
        self.retrying(|| {
            let (directory, name, found) = self.place(path)?;
            let found = found.ok_or(Error::NotFound)?;
            if !found.is_directory() {
                return Err(Error::NotDirectory);
            }
            self.removed(
                self.client.rmdir(&root_caller(), directory.ino, name).now(),
                directory.ino,
                name,
                found.ino,
            )
        })
    }

    fn unlink(&self, path: &str) -> Answer {
        self.retrying(|| {
            let (directory, name, found) = self.place(path)?;
            let found = found.ok_or(Error::NotFound)?;
            if found.is_directory() {
                return Err(Error::IsDirectory);
            }
            self.removed(
                self.client.unlink(&root_caller(), directory.ino, name).now(),
                directory.ino,
                name,
                found.ino,
            )
        })
    }

    fn symlink(&self, path: &str, target: &str) -> Answer {
        self.make(path, |client, directory, name| {
            client.symlink(&root_caller(), directory, name, target.as_bytes()).now()
        })
    }

    fn mkfifo(&self, path: &str) -> Answer {
        self.make(path, |client, directory, name| {
            client.mknod(&root_caller(), directory, name, libc::S_IFIFO | 0o666, UMASK, 0).now()
        })
    }

    fn link(&self, from: &str, to: &str) -> Answer {
        self.retrying(|| {
            let source = self.node(from)?;
            let (directory, name, found) = self.place(to)?;
            match found {
                Some(_) => return Err(Error::Exists),
                None if source.is_directory() => return Err(Error::NotPermitted),
                None => {}
            }
            let entry = self.client.link(&root_caller(), source.ino, directory.ino, name).now()?;
            self.renamed(directory.ino, name);
            drop(self.known(directory.ino, name, entry));
            Ok(Vec::new())
        })
    }

    fn rename(&self, from: &str, to: &str, how: Move) -> Answer {
        self.retrying(|| self.try_rename(from, to, how)).map(done)
    }

    /// Size, links and all the bytes of an open file.
    fn file_view(&self, file: &HostFile) -> (u64, u64, Answer) {
        let attributes = self.attributes(file.ino).expect("an open file has attributes");
        (attributes.size, u64::from(attributes.links), self.read(file, 0, attributes.size as usize + 10))
    }

    /// All that there is in this client's view, found through listings and again through lookups.
    fn look(&self) -> Tree {
        let mut tree = Tree::default();
        let root = self.node("").expect("the root is there");
        self.look_at("", &root, &mut tree);
        tree
    }
}

impl Host {
    pub fn new(backing: &Path, id: &str, knobs: Knobs, clock: &Clock, kernel: Kernel) -> Host {
        // Modes are compared: the test process must not have a umask of its own kind.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(UMASK));
        let options = ClientOptions {
            backing: backing.to_path_buf(),
            id: id.to_string(),
            seed: 1,
            knobs,
            allow_other: false,
            kernel_cache: kernel == Kernel::Keeps,
            terms: Terms::default(),
        };
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let log = EventLog::new(
            id,
            true,
            Arc::new(move |record| sink.lock().expect("no panic").push(record.to_string())),
        );
        let client = Client::open(options, clock.clone(), log).expect("a backing directory");
        Host {
            client,
            lines,
            clock: clock.clone(),
            kernel,
            keeping: Mutex::default(),
            remembered: Mutex::default(),
            moved_into: Mutex::default(),
        }
    }

    /// The kernel walks a path once more when it hears that an inode is gone, and takes no name for granted then.
    fn retrying<T>(&self, mut call: impl FnMut() -> Result<T, Error>) -> Result<T, i32> {
        match call() {
            Err(Error::Stale) => {
                self.kept().names.clear();
                call()
            }
            result => result,
        }
        .map_err(Error::errno)
    }

    fn kept(&self) -> MutexGuard<'_, Keeping> {
        self.keeping.lock().expect("no panic")
    }

    /// Until when the kernel keeps what it may keep for `lease`; none if it does not.
    fn until(&self, lease: Duration) -> Option<Time> {
        (self.kernel == Kernel::Keeps && !lease.is_zero()).then(|| self.clock.now() + lease)
    }

    fn keep_name(&self, directory: u64, name: &[u8], ino: Option<u64>, lease: Duration) {
        let key = (directory, name.to_vec());
        match self.until(lease) {
            Some(until) => drop(self.kept().names.insert(key, (ino, until))),
            None => drop(self.kept().names.remove(&key)),
        }
    }

    fn keep_attributes(&self, ino: u64, attributes: Attributes, lease: Duration) {
        match self.until(lease) {
            Some(until) => drop(self.kept().attributes.insert(ino, (attributes, until))),
            None => drop(self.kept().attributes.remove(&ino)),
        }
    }

    /// The kernel has changed these inodes, and will ask for their attributes.
    fn changed(&self, inodes: &[u64]) {
        self.kept().attributes.retain(|ino, _| !inodes.contains(ino));
    }

    /// The kernel has changed what stands at this name, and the directory.
    fn renamed(&self, directory: u64, name: &[u8]) {
        self.keep_name(directory, name, None, Duration::ZERO);
        self.changed(&[directory]);
    }

    fn attributes(&self, ino: u64) -> Result<Attributes, Error> {
        let now = self.clock.now();
        if let Some((attributes, _)) = self.kept().attributes.get(&ino).filter(|(_, until)| now < *until) {
            return Ok(*attributes);
        }
        let Shown { attributes, lease } = self.client.getattr(&root_caller(), ino).now()?;
        self.keep_attributes(ino, attributes, lease);
        Ok(attributes)
    }

    fn lookup(&self, directory: u64, name: &[u8]) -> Result<Node<'_>, Error> {
        let (key, now) = ((directory, name.to_vec()), self.clock.now());
        let kept = self.kept().names.get(&key).filter(|(_, until)| now < *until).map(|(ino, _)| *ino);
        match kept {
            Some(None) => return Err(Error::NotFound),
            Some(Some(ino)) => {
                let attributes = self.attributes(ino)?;
                return Ok(Node { host: self, ino, attributes, is_counted: false, above: Vec::new() });
            }
            None => {}
        }
        match self.client.lookup(&root_caller(), directory, name).now() {
            Ok(entry) => Ok(self.known(directory, name, entry)),
            Err(Missing { error, lease }) => {
                self.keep_name(directory, name, None, lease);
                Err(error)
            }
        }
    }

    fn give_back(&self, ino: u64) {
        match self.kernel {
            _ if ino == ROOT => {}
            Kernel::Forgets => self.client.forget(ino, 1),
            Kernel::Remembers | Kernel::Keeps => self.remembered.lock().expect("no panic").push(ino),
        }
    }

    /// The kernel forgets all that it knows.
    pub fn forget_all(&self) {
        *self.kept() = Keeping::default();
        let [remembered, moved_into] = [&self.remembered, &self.moved_into]
            .map(|known| std::mem::take(&mut *known.lock().expect("no panic")));
        let all = remembered.into_iter().chain(moved_into);
        all.filter(|ino| *ino != ROOT).for_each(|ino| self.client.forget(ino, 1));
    }

    /// Whatever is believed here goes, by the client and by the kernel.
    pub fn expire(&self) {
        self.client.drop_beliefs();
        *self.kept() = Keeping::default();
    }

    /// The logged events of one kind.
    pub fn events(&self, kind: &str) -> Vec<String> {
        let wanted = format!(" event={kind} ");
        self.lines.lock().expect("no panic").iter().filter(|line| line.contains(&wanted)).cloned().collect()
    }

    fn known(&self, directory: u64, name: &[u8], entry: Entry) -> Node<'_> {
        let Entry { ino, attributes, lease } = entry;
        self.keep_name(directory, name, Some(ino), lease.name);
        self.keep_attributes(ino, attributes, lease.attributes);
        Node { host: self, ino, attributes, is_counted: true, above: Vec::new() }
    }

    fn root(&self) -> Node<'_> {
        // Nobody asks for the root's attributes on the way to something else.
        let attributes = Attributes::new(Kind::Directory, 0o755, (0, 0), 0, 0, Timestamp::default());
        Node { host: self, ino: ROOT, attributes, is_counted: true, above: Vec::new() }
    }

    fn node(&self, path: &str) -> Result<Node<'_>, Error> {
        let mut node = self.root();
        if path.is_empty() {
            node.attributes = self.attributes(ROOT)?;
        }
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !node.is_directory() {
                return Err(Error::NotDirectory);
            }
            let next = self.lookup(node.ino, name.as_bytes())?;
            let above = node.keep();
            node = next;
            node.above = above;
        }
        Ok(node)
    }

    /// The directory of a path, its last name, and what stands there.
    fn place<'a>(&'a self, path: &'a str) -> Result<(Node<'a>, &'a [u8], Option<Node<'a>>), Error> {
        let (directory, name) = split(path);
        let directory = if directory.is_empty() { self.root() } else { self.node(directory)? };
        if !directory.is_directory() {
            return Err(Error::NotDirectory);
        }
        let found = match self.lookup(directory.ino, name.as_bytes()) {
            Ok(node) => Some(node),
            Err(error) => absent(error)?,
        };
        Ok((directory, name.as_bytes(), found))
    }

    fn start_sync(&self, handle: u64) -> Receiver<Result<(), Error>> {
        let (sender, receiver) = channel();
        let done = move |result| sender.send(result).expect("somebody waits");
        self.client.fsync(&root_caller(), handle, false).serve(done);
        receiver
    }

    /// The kernel forgets a name that it has removed, or that turned out to be gone.
    fn removed(
        &self,
        result: Result<(), Error>,
        directory: u64,
        name: &[u8],
        ino: u64,
    ) -> Result<Vec<u8>, Error> {
        if !matches!(result, Err(error) if error != Error::NotFound) {
            self.renamed(directory, name);
            self.changed(&[ino]);
        }
        result.map(done)
    }

    fn set_node_attributes(&self, ino: u64, asked: &SetAttributes) -> Result<(), Error> {
        let Shown { attributes, lease } = self.client.setattr(&root_caller(), ino, *asked).now()?;
        self.keep_attributes(ino, attributes, lease);
        Ok(())
    }

    fn set_attributes(&self, path: &str, asked: SetAttributes) -> Answer {
        self.retrying(|| {
            let node = self.node(path)?;
            self.set_node_attributes(node.ino, &asked)
        })
        .map(done)
    }

    /// Symlinks here dangle: following one ends with ENOENT.
    fn followed(&self, path: &str) -> Result<Node<'_>, Error> {
        let node = self.node(path)?;
        if node.attributes.kind == Kind::Symlink { Err(Error::NotFound) } else { Ok(node) }
    }

    fn make(&self, path: &str, make: impl Fn(&Arc<Client>, u64, &[u8]) -> Result<Entry, Error>) -> Answer {
        self.retrying(|| {
            let (directory, name, found) = self.place(path)?;
            if found.is_some() {
                return Err(Error::Exists);
            }
            let entry = make(&self.client, directory.ino, name)?;
            self.renamed(directory.ino, name);
            drop(self.known(directory.ino, name, entry));
            Ok(Vec::new())
        })
    }

    fn try_rename(&self, from: &str, to: &str, how: Move) -> Result<(), Error> {
        let (old_directory, old_name, source) = self.place(from)?;
        let (new_directory, new_name, target) = self.place(to)?;
        let source = source.ok_or(Error::NotFound)?;
        match (how, &target) {
            (Move::NoReplace, Some(_)) => return Err(Error::Exists),
            (Move::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        if is_below(to, from) {
            return Err(Error::Invalid);
        }
        if is_below(from, to) {
            return Err(if how == Move::Exchange { Error::Invalid } else { Error::NotEmpty });
        }
        if let (Some(target), Move::Over) = (&target, how) {
            if target.ino == source.ino {
                return Ok(());
            }
            match (source.is_directory(), target.is_directory()) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                _ => {}
            }
        }
        let how = match how {
            Move::Over => RenameHow::Replace,
            Move::NoReplace => RenameHow::NoReplace,
            Move::Exchange => RenameHow::Exchange,
        };
        let renamed = self
            .client
            .rename(&root_caller(), (old_directory.ino, old_name), (new_directory.ino, new_name), how)
            .now();
        // What is known of the inode at its old name is known of it at its new one (d_move).
        let moved = self.kept().names.get(&(old_directory.ino, old_name.to_vec())).copied();
        for (directory, name) in [(old_directory.ino, old_name), (new_directory.ino, new_name)] {
            self.renamed(directory, name);
        }
        self.changed(&[source.ino]);
        target.iter().for_each(|target| self.changed(&[target.ino]));
        renamed?;
        if let Some(kept) = moved {
            self.kept().names.insert((new_directory.ino, new_name.to_vec()), kept);
        }
        for directory in [old_directory, new_directory] {
            self.moved_into.lock().expect("no panic").extend(directory.keep());
        }
        Ok(())
    }

    fn look_at(&self, path: &str, node: &Node<'_>, tree: &mut Tree) {
        let attributes = &node.attributes;
        let target = (attributes.kind == Kind::Symlink).then(|| {
            String::from_utf8(
                self.client.readlink(&root_caller(), node.ino).now().expect("a symlink has a target"),
            )
            .expect("a target in UTF-8")
        });
        let seen = Seen {
            kind: attributes.kind,
            permissions: attributes.permissions,
            links: attributes.links,
            size: (attributes.kind != Kind::Directory).then_some(attributes.size),
            content: (attributes.kind == Kind::File).then(|| self.content(node)),
            target,
            mtime: set_on_purpose(attributes.mtime.seconds),
        };
        let mark = Mark {
            ino: self.client.shown_number(node.ino),
            mtime: (attributes.mtime.seconds, attributes.mtime.nanos),
            ctime: (attributes.ctime.seconds, attributes.ctime.nanos),
        };
        tree.seen.insert(path.to_string(), seen);
        tree.marks.insert(path.to_string(), mark);
        if node.is_directory() {
            self.look_inside(path, node, tree);
        }
    }

    fn content(&self, node: &Node<'_>) -> Vec<u8> {
        let handle = self
            .client
            .open_file(&root_caller(), node.ino, libc::O_RDONLY)
            .now()
            .expect("a file can be opened");
        let content = self
            .client
            .read(&root_caller(), handle, 0, node.attributes.size as usize + 10)
            .now()
            .expect("a file can be read");
        self.client.release(handle);
        content.to_vec()
    }

    fn look_inside(&self, path: &str, directory: &Node<'_>, tree: &mut Tree) {
        let handle =
            self.client.opendir(&root_caller(), directory.ino).now().expect("a directory can be opened");
        let snapshot =
            self.client.readdir(&root_caller(), handle, 0).now().expect("a directory can be listed");
        self.client.releasedir(handle);
        let mut listed: Vec<&[u8]> = snapshot.starting_at(0).map(|(_, (name, ..))| name).collect();
        listed.sort_unstable();
        let mut found: Vec<&[u8]> = Vec::new();
        for name in NAMES {
            let Ok(node) = self.lookup(directory.ino, name.as_bytes()) else { continue };
            found.push(name.as_bytes());
            let (_, (_, ino, kind)) = snapshot
                .starting_at(0)
                .find(|(_, (other, ..))| *other == name.as_bytes())
                .expect("it is listed");
            // A believed listing may name a number that the kernel has forgotten since.
            let number = if self.kernel == Kernel::Forgets { ino } else { node.ino };
            assert_eq!((ino, kind), (number, node.attributes.kind), "{path}/{name}: listing and lookup");
            self.look_at(&join(path, name), &node, tree);
        }
        assert_eq!(listed, found, "{path}: listing and lookups");
    }

    /// Lands all and leaves.
    pub fn finish(&self) -> Farewell {
        self.client.finish(&AtomicBool::new(false))
    }

    /// The paths of the directories in this client's view, found by lookups.
    pub fn directories(&self) -> Vec<String> {
        let mut paths = vec![String::new()];
        let mut at = 0;
        while let Some(path) = paths.get(at).cloned() {
            let inside = NAMES.iter().map(|name| join(&path, name));
            let found = inside.filter(|path| self.node(path).is_ok_and(|node| node.is_directory()));
            paths.extend(found.collect::<Vec<_>>());
            at += 1;
        }
        paths
    }

    /// Whether both paths lead to one inode: renaming one to the other does nothing.
    pub fn is_same(&self, from: &str, to: &str) -> bool {
        matches!((self.node(from), self.node(to)), (Ok(from), Ok(to)) if from.ino == to.ino)
    }

    /// Whether there is anything at a path, as this client sees it.
    pub fn has(&self, path: &str) -> bool {
        self.node(path).is_ok()
    }

    /// Notes what a path leads to, and what is above it.
    pub fn touch(&self, path: &str, touched: &mut Touched) {
        let Ok((directory, name, found)) = self.place(path) else { return };
        let directory = self.client.shown_number(directory.ino);
        touched.places.insert((directory, String::from_utf8_lossy(name).into_owned()));
        touched.inodes.insert(directory);
        touched.inodes.extend(found.map(|node| node.ino));
    }

    /// What stands at a path, as this client sees it, without its name.
    pub fn touch_inode(&self, path: &str, touched: &mut Touched) {
        if let Ok((_, _, found)) = self.place(path) {
            touched.inodes.extend(found.map(|node| node.ino));
        }
    }

    /// Shows directory after directory of this client's view. What has no number of the backing directory is left out:
    /// it was made here a moment ago.
    pub fn walk(&self, show: &mut impl FnMut(&SeenInside)) {
        if let Ok(root) = self.node("") {
            self.walk_below(&root, show);
        }
    }

    fn walk_below(&self, directory: &Node<'_>, show: &mut impl FnMut(&SeenInside)) {
        let number = self.client.shown_number(directory.ino);
        let Ok(handle) = self.client.opendir(&root_caller(), directory.ino).now() else { return };
        let snapshot = self.client.readdir(&root_caller(), handle, 0).now();
        self.client.releasedir(handle);
        let Ok(snapshot) = snapshot else { return };
        let names = snapshot.starting_at(0).map(|(_, (name, ..))| name);
        let listed = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let mut seen = SeenInside { directory: number, listed, found: Vec::new() };
        let mut below = Vec::new();
        for name in NAMES {
            let Ok(node) = self.lookup(directory.ino, name.as_bytes()) else {
                seen.found.push((name.to_string(), None));
                continue;
            };
            if node.ino >= FIRST_PRIVATE {
                continue;
            }
            seen.found.push((name.to_string(), Some(self.found(&node))));
            below.push(node);
        }
        show(&seen);
        below.iter().filter(|node| node.is_directory()).for_each(|node| self.walk_below(node, show));
    }

    fn found(&self, node: &Node<'_>) -> Found {
        let attributes = &node.attributes;
        let is_file = attributes.kind == Kind::File;
        let facts = Facts {
            kind: attributes.kind,
            permissions: attributes.permissions,
            links: attributes.links,
            size: (attributes.kind != Kind::Directory).then_some(attributes.size),
        };
        Found { ino: node.ino, facts, content: is_file.then(|| self.content(node)) }
    }
}

/// Numbers that a client gives to what it has made itself start here.
const FIRST_PRIVATE: u64 = 1 << 62;

/// What a client shows of one directory.
pub struct SeenInside {
    pub directory: u64,
    pub listed: BTreeSet<String>,
    pub found: Vec<(String, Option<Found>)>,
}

/// What a client shows of one inode.
pub struct Found {
    pub ino: u64,
    pub facts: Facts,
    pub content: Option<Vec<u8>>,
}
