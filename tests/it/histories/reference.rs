//! What several clients may answer: a second definition that knows causes and what was in the store when, and nothing
//! of how a client works.
//!
//! The store is looked at, from outside, whenever anything can have changed it. So its whole past is known, and an
//! answer is allowed if it is what the store showed at some moment within the time to live, and not earlier than what
//! the same client has been shown of the same object before. Every change of the store needs a cause: an operation that
//! a client acknowledged and that is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use chaosfs::{consistency::Kind, knobs::Knobs, time::Time};

/// A name in a directory, by inode number.
pub type Place = (u64, String);

/// What is known of an inode.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub kind: Kind,
    pub permissions: u32,
    pub links: u32,
    /// Of anything but a directory.
    pub size: Option<u64>,
}

/// The store between two changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub names: BTreeMap<Place, u64>,
    pub facts: BTreeMap<u64, Facts>,
    pub contents: BTreeMap<u64, Vec<u8>>,
}

impl State {
    fn names_in(&self, directory: u64) -> BTreeSet<String> {
        self.names.keys().filter(|place| place.0 == directory).map(|place| place.1.clone()).collect()
    }
}

/// What an operation touches, and whether it counts as data.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    pub places: BTreeSet<Place>,
    pub inodes: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Cause {
    client: usize,
    made: Time,
    /// Before that no other client may see anything of it.
    due: Time,
    touched: Touched,
}

/// Something that a client can be asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Name(Place),
    Listing(u64),
    Facts(u64),
    Content(u64),
}

/// The store's past, the causes, and what each client has been shown.
pub struct Reference {
    root: PathBuf,
    /// When each state began.
    past: Vec<(Time, State)>,
    /// Every inode that there ever was, held so that it can be looked at when its last name is gone.
    held: BTreeMap<u64, File>,
    causes: Vec<Cause>,
    /// The earliest state of each object that a client may still be shown.
    floors: BTreeMap<(usize, Object), usize>,
    knobs: Vec<Knobs>,
}

fn kind_of(metadata: &fs::Metadata) -> Kind {
    match metadata.mode() & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFIFO => Kind::Fifo,
        _ => Kind::File,
    }
}

impl Reference {
    pub fn new(root: &Path, knobs: Vec<Knobs>, now: Time) -> Reference {
        let mut reference = Reference {
            root: root.to_path_buf(),
            past: Vec::new(),
            held: BTreeMap::new(),
            causes: Vec::new(),
            floors: BTreeMap::new(),
            knobs,
        };
        let state = reference.observe();
        reference.past.push((now, state));
        reference
    }

    /// How long an answer about an object is believed; about a name, whether there is one or not.
    fn lifetime(&self, client: usize, object: &Object) -> Duration {
        let Knobs { meta_ttl, attr_ttl, name_ttl, absent_ttl, list_ttl, .. } = &self.knobs[client];
        let own = |ttl: &Option<Duration>| ttl.unwrap_or(*meta_ttl);
        match object {
            Object::Name(_) => own(name_ttl).max(own(absent_ttl)),
            Object::Listing(_) => own(list_ttl),
            Object::Facts(_) | Object::Content(_) => own(attr_ttl),
        }
    }

    /// The time after which everything that a client has been told is done has landed.
    fn longest_delay(&self, client: usize) -> Duration {
        let Knobs { write_delay, create_delay, rename_delay, .. } = &self.knobs[client];
        write_delay.max.max(rename_delay.max).max(create_delay.unwrap_or(*write_delay).max)
    }

    fn observe(&mut self) -> State {
        let mut state = State::default();
        let root = self.root.clone();
        self.observe_below(&root, &mut state);
        for (ino, held) in &self.held {
            let metadata = held.metadata().expect("a held inode can be looked at");
            let kind = kind_of(&metadata);
            let size = (kind != Kind::Directory).then(|| metadata.size());
            let permissions = metadata.permissions().mode() & 0o7777;
            state.facts.insert(*ino, Facts { kind, permissions, links: metadata.nlink() as u32, size });
            if kind == Kind::File {
                let content =
                    fs::read(format!("/proc/self/fd/{}", held.as_raw_fd())).expect("a held file can be read");
                state.contents.insert(*ino, content);
            }
        }
        state
    }

    fn observe_below(&mut self, path: &Path, state: &mut State) {
        let held = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(path)
            .expect("listed");
        let metadata = held.metadata().expect("it is open");
        let ino = metadata.ino();
        self.held.entry(ino).or_insert(held);
        if !metadata.is_dir() {
            return;
        }
        for entry in fs::read_dir(path).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name from the alphabet");
            state.names.insert((ino, name), std::os::unix::fs::DirEntryExt::ino(&entry));
            self.observe_below(&entry.path(), state);
        }
    }

    /// A client acknowledged an operation at `now`. With `at_once` it may be seen from now on (`fsync`).
    pub fn acknowledge(&mut self, client: usize, now: Time, is_data: bool, touched: Touched) {
        let knobs = &self.knobs[client];
        let data = knobs.create_delay.unwrap_or(knobs.write_delay).min.min(knobs.write_delay.min);
        let delay = if is_data { data } else { knobs.rename_delay.min };
        // What a client touches it has dropped its beliefs about: nothing older than now is shown to it any more.
        let current = self.past.len() - 1;
        let names =
            touched.places.iter().flat_map(|place| [Object::Name(place.clone()), Object::Listing(place.0)]);
        let inodes = touched.inodes.iter().flat_map(|ino| [Object::Facts(*ino), Object::Content(*ino)]);
        for object in names.chain(inodes) {
            let floor = self.floors.entry((client, object)).or_default();
            *floor = current.max(*floor);
        }
        self.causes.push(Cause { client, made: now, due: now + delay, touched });
    }

    /// `fsync` on a client: all that it has in flight may land early.
    pub fn hurry(&mut self, client: usize, now: Time) {
        for cause in self.causes.iter_mut().filter(|cause| cause.client == client) {
            cause.due = cause.due.min(now);
        }
    }

    /// Looks at the store. Whatever has changed has a cause that is due (law 3).
    pub fn look_at_store(&mut self, now: Time) {
        let state = self.observe();
        let last = &self.past.last().expect("there is a first state").1;
        if state == *last {
            return;
        }
        let due: Vec<&Touched> =
            self.causes.iter().filter(|cause| cause.due <= now).map(|cause| &cause.touched).collect();
        let places: BTreeSet<&Place> = last.names.keys().chain(state.names.keys()).collect();
        for place in places.into_iter().filter(|place| last.names.get(*place) != state.names.get(*place)) {
            // In a directory that its maker knows by a number of its own, the name alone has to do.
            let caused = due.iter().any(|touched| {
                touched.places.iter().any(|(directory, name)| {
                    *name == place.1 && (*directory == place.0 || !last.facts.contains_key(directory))
                })
            });
            assert!(
                caused,
                "at {now} the name {place:?} changed in the store, and nothing that is due touches it"
            );
        }
        for (ino, facts) in &state.facts {
            let changed = last.facts.get(ino).is_some_and(|before| before != facts)
                || last.contents.get(ino).is_some_and(|before| Some(before) != state.contents.get(ino));
            let caused = || {
                due.iter().any(|touched| {
                    touched.inodes.iter().any(|touched| touched == ino || !last.facts.contains_key(touched))
                        || touched.places.iter().any(|place| {
                            last.names.get(place) == Some(ino) || state.names.get(place) == Some(ino)
                        })
                })
            };
            assert!(
                !changed || caused(),
                "at {now} inode {ino} changed in the store, and nothing due touches it"
            );
        }
        self.past.push((now, state));
    }

    /// Whether all that a client was told is done must be in the store by now.
    pub fn must_be_quiet(&self, client: usize, now: Time) -> bool {
        let longest = self.longest_delay(client);
        self.causes.iter().filter(|cause| cause.client == client).all(|cause| cause.made + longest <= now)
    }

    fn maybe_in_flight(&self, client: usize, now: Time) -> impl Iterator<Item = &Touched> {
        let longest = self.longest_delay(client);
        let own =
            self.causes.iter().filter(move |cause| cause.client == client && cause.made + longest >= now);
        own.map(|cause| &cause.touched)
    }

    /// Checks an answer: the store must have given it within the time to live (law 4), and not before what the client
    /// has been shown already (law 5).
    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        (client, now): (usize, Time),
        object: Object,
        answer: &T,
        of: impl Fn(&State) -> T,
    ) {
        let floor = self.floors.get(&(client, object.clone())).copied().unwrap_or(0);
        let ttl = self.lifetime(client, &object);
        let alive = |index: &usize| {
            let end = self.past.get(index + 1).map_or(Time::NEVER, |(start, _)| *start);
            end + ttl > now
        };
        let allowed: Vec<usize> = (floor..self.past.len()).filter(alive).collect();
        let Some(found) = allowed.iter().find(|index| of(&self.past[**index].1) == *answer) else {
            let past: Vec<String> = (0..self.past.len())
                .map(|index| {
                    let mark = if allowed.contains(&index) { "allowed" } else { "too old" };
                    format!("  from {} {mark}: {:?}", self.past[index].0, of(&self.past[index].1))
                })
                .collect();
            panic!(
                "client {client} at {now} {object:?}: answer {answer:?}; the store had\n{}",
                past.join("\n")
            );
        };
        self.floors.insert((client, object), *found);
    }

    /// A client found this at a name.
    #[track_caller]
    pub fn check_name(&mut self, client: usize, now: Time, place: &Place, found: Option<u64>) {
        if !self.maybe_in_flight(client, now).any(|touched| touched.places.contains(place)) {
            self.check((client, now), Object::Name(place.clone()), &found, |state| {
                state.names.get(place).copied()
            });
        }
    }

    /// A client was given this listing.
    #[track_caller]
    pub fn check_listing(&mut self, client: usize, now: Time, directory: u64, names: &BTreeSet<String>) {
        let own = |touched: &Touched| touched.places.iter().any(|place| place.0 == directory);
        if !self.maybe_in_flight(client, now).any(own) {
            self.check((client, now), Object::Listing(directory), names, |state| state.names_in(directory));
        }
    }

    /// A client was shown these attributes.
    #[track_caller]
    pub fn check_facts(&mut self, client: usize, now: Time, ino: u64, facts: &Facts) {
        if !self.maybe_in_flight(client, now).any(|touched| touched.inodes.contains(&ino)) {
            self.check((client, now), Object::Facts(ino), &Some(facts.clone()), |state| {
                state.facts.get(&ino).cloned()
            });
        }
    }

    /// A client read this of a file that it believed to be `size` bytes long. The bytes may be younger than the size.
    #[track_caller]
    pub fn check_content(&mut self, client: usize, now: Time, ino: u64, size: u64, content: &[u8]) {
        if !self.maybe_in_flight(client, now).any(|touched| touched.inodes.contains(&ino)) {
            self.check((client, now), Object::Content(ino), &Some(content.to_vec()), |state| {
                let bytes = state.contents.get(&ino)?;
                Some(bytes[..bytes.len().min(size as usize)].to_vec())
            });
        }
    }
}
