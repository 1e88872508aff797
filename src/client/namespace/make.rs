//! Making inodes and giving them names.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use crate::{
    backing::{
        self,
        flags::{O_EXCL, SETGID},
        sys,
    },
    client::{
        Caller, Client, Entry, Looked, Provenance,
        call::{Call, Flushed, Run},
        store::Manner,
        view::{Hold, attributes_of},
    },
    consistency::{
        Attributes, Change, Ino, Kind, Name, Place, Route,
        acl::{ACCESS_ACL, DEFAULT_ACL},
        policy::FlushPoint,
    },
    error::Error,
    operation::Operation,
};

/// Extended attributes that a new inode gets from its directory.
type Inherited = Arc<[(Name, Arc<[u8]>)]>;

/// An inode that has been made, its attributes, and the descriptor of a file that was opened with it.
type Made<'a> = (Looked<'a>, Attributes, Option<OwnedFd>);

/// What a new inode is to be.
struct NewInode {
    kind: Kind,
    mode: u32,
    umask: u32,
    rdev: u64,
    target: Arc<[u8]>,
}

impl NewInode {
    fn of(kind: Kind, mode: u32, umask: u32) -> NewInode {
        NewInode { kind, mode, umask, rdev: 0, target: Arc::default() }
    }
}

impl Client {
    /// Makes a directory.
    ///
    /// # Errors
    /// EEXIST, ENAMETOOLONG, EROFS; whatever the backing directory answers, where it goes through.
    pub fn mkdir(
        self: &Arc<Self>,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Call<'_, impl Run<Entry>> {
        let new = NewInode::of(Kind::Directory, mode, umask);
        self.make(Operation::Mkdir, caller, Place::new(directory, name), new)
    }

    /// Makes a file, fifo, socket or device; `mode` says which.
    ///
    /// # Errors
    /// As for a directory.
    pub fn mknod(
        self: &Arc<Self>,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Call<'_, impl Run<Entry>> {
        let new = NewInode { rdev, ..NewInode::of(Kind::of_mode(mode), mode, umask) };
        self.make(Operation::Mknod, caller, Place::new(directory, name), new)
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// As for a directory.
    pub fn symlink(
        self: &Arc<Self>,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Call<'_, impl Run<Entry>> {
        let new = NewInode { target: target.into(), ..NewInode::of(Kind::Symlink, 0o777, 0) };
        self.make(Operation::Symlink, caller, Place::new(directory, name), new)
    }

    fn make(
        self: &Arc<Self>,
        operation: Operation,
        caller: &Caller,
        place: Place,
        new: NewInode,
    ) -> Call<'_, impl Run<Entry>> {
        self.call_on_name(operation, caller, place, move |client, place, asked, provenance| {
            let (looked, attributes, _) = client.make_inode(asked.caller, place, &new, O_EXCL, provenance)?;
            Ok(client.entry_of(looked, attributes, provenance))
        })
    }

    /// Makes a regular file and opens it; without `O_EXCL` one that is there is opened.
    ///
    /// # Errors
    /// As for a directory, and as for opening a file.
    pub fn create(
        self: &Arc<Self>,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Call<'_, impl Run<(Entry, u64)>> {
        let place = Place::new(directory, name);
        let new = NewInode::of(Kind::File, mode, umask);
        self.call_on_name(Operation::Create, caller, place, move |client, place, asked, provenance| {
            client.create_file(asked.caller, place, &new, flags, provenance)
        })
    }

    fn create_file(
        &self,
        caller: &Caller,
        place: &Place,
        new: &NewInode,
        flags: i32,
        provenance: &mut Provenance,
    ) -> Result<(Entry, u64), Error> {
        match self.make_inode(caller, place, new, flags, provenance) {
            Ok((looked, attributes, opened)) => {
                let handle = self.open_new(looked.ino(), flags, opened);
                Ok((self.entry_of(looked, attributes, provenance), handle))
            }
            Err(error) if error == Error::Exists && flags & O_EXCL == 0 => {
                // Somebody else has made it since the kernel looked.
                self.lock().belief.distrust_name(place);
                let looked = self.find(place, Hold::Yes, provenance)?.ok_or(Error::Stale)?;
                let handle = self.open_known(caller, looked.ino(), flags, provenance)?;
                let attributes = self.view(looked.ino(), provenance)?;
                Ok((self.entry_of(looked, attributes, provenance), handle))
            }
            Err(error) => Err(error),
        }
    }

    fn make_inode(
        &self,
        caller: &Caller,
        place: &Place,
        new: &NewInode,
        flags: i32,
        provenance: &mut Provenance,
    ) -> Result<Made<'_>, Error> {
        self.check_name(&place.name)?;
        let (attributes, inherited) = self.new_attributes(caller, place.directory, new, provenance)?;
        let change = |ino| Change::Make {
            place: place.clone(),
            ino,
            attributes,
            target: new.target.clone(),
            inherited: inherited.clone(),
        };
        match self.route(&change(0)) {
            Route::Through => self.make_through(&change(0), flags, provenance),
            Route::Late(_) => self.make_late(place, change, provenance),
        }
    }

    /// Makes an inode in the backing directory. Not by [`Client::go_through`]: what is made is known from then on, if
    /// nothing else has changed meanwhile.
    fn make_through(
        &self,
        change: &Change,
        flags: i32,
        provenance: &mut Provenance,
    ) -> Result<Made<'_>, Error> {
        let Change::Make { place, attributes, target, .. } = change else { return Err(Error::Invalid) };
        let flags = self.backing_flags(flags);
        let (changes, started) = (self.lock().belief.changes(), self.now());
        let watched = self.watch_directories(change);
        let outcome = self.carry_out_make(place, 0, attributes, target, flags, Manner::Through);
        let made = outcome.and_then(|outcome| {
            let stat = outcome.stat.ok_or(Error::InputOutput)?;
            let id = self.table.intern(&stat, None, place.directory, &place.name);
            Ok((Looked { client: self, id, view: None }, attributes_of(&stat), outcome.opened))
        });
        let mut state = self.lock();
        let is_alone = state.belief.changes() == changes;
        state.belief.changed(change);
        if let (true, Ok((looked, attributes, _))) = (is_alone, &made) {
            let policy = &self.in_force().policy;
            state.core(policy).believe_made(place, looked.known(), *attributes, started, provenance);
        }
        drop(state);
        self.have_changed_in(&watched);
        made
    }

    fn make_late(
        &self,
        place: &Place,
        change: impl Fn(Ino) -> Change,
        provenance: &mut Provenance,
    ) -> Result<Made<'_>, Error> {
        let Change::Make { attributes, inherited, .. } = change(0) else { return Err(Error::Invalid) };
        self.check_writable()?;
        self.check_entering(place.directory, provenance)?;
        self.check_inherited(place.directory, &inherited)?;
        let id = loop {
            let grounds = self.lock().belief.grounds(&[place], &[]);
            if self.find(place, Hold::No, provenance)?.is_some() {
                return Err(Error::Exists);
            }
            let id = self.table.make(attributes.kind.mode_bits(), place.directory, &place.name);
            if self.add_on(&grounds, change(id.ino), attributes.mtime)? {
                break id;
            }
            self.forget(id.ino, 1);
        };
        let looked = Looked { client: self, id, view: None };
        let attributes = self.view(looked.ino(), provenance)?;
        Ok((looked, attributes, None))
    }

    fn new_attributes(
        &self,
        caller: &Caller,
        directory: Ino,
        new: &NewInode,
        provenance: &mut Provenance,
    ) -> Result<(Attributes, Inherited), Error> {
        let (mut permissions, inherited) = self.inheritance(directory, new)?;
        let (mut uid, mut gid) = self.own_ids;
        if self.gives_away {
            (uid, gid) = (caller.uid, caller.gid);
        }
        // Asked for only where it can matter: a file that goes through to its own owner gets all this from the kernel.
        if !self.routes_all_through() || self.gives_away {
            let parent = self.view(directory, provenance)?;
            if parent.permissions & SETGID != 0 {
                gid = parent.gid;
                if new.kind == Kind::Directory {
                    permissions |= SETGID;
                }
            }
        } else if new.kind == Kind::Directory {
            permissions |= self.inherited_setgid(directory)?;
        }
        let stamp = self.clock.wall();
        let size = new.target.len() as u64;
        Ok((Attributes::new(new.kind, permissions, (uid, gid), new.rdev, size, stamp), inherited))
    }

    /// The permission bits of a new inode, and the ACLs that the directory's default ACL leaves to it (`acl(5)`).
    fn inheritance(&self, directory: Ino, new: &NewInode) -> Result<(u32, Inherited), Error> {
        let mode = new.mode & 0o7777;
        if new.kind == Kind::Symlink {
            return Ok((mode, Inherited::default()));
        }
        let Some(default) = self.default_acl(directory)? else {
            return Ok((mode & !new.umask, Inherited::default()));
        };
        let access = default.clone().inherited(mode);
        let permissions = mode & 0o7000 | access.permissions();
        let for_itself = (!access.is_minimal()).then(|| (ACCESS_ACL, access.to_value()));
        let for_others = (new.kind == Kind::Directory).then(|| (DEFAULT_ACL, default.to_value()));
        let inherited = for_itself.into_iter().chain(for_others);
        Ok((permissions, inherited.map(|(name, value)| (name.into(), value.into())).collect()))
    }

    fn inherited_setgid(&self, directory: Ino) -> Result<u32, Error> {
        Ok(sys::stat(self.descriptor(directory)?.as_fd())?.mode & SETGID)
    }

    /// Gives an inode one more name.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EROFS; whatever the backing directory answers, where it goes through.
    pub fn link(
        self: &Arc<Self>,
        caller: &Caller,
        ino: Ino,
        directory: Ino,
        name: &[u8],
    ) -> Call<'_, impl Run<Entry>> {
        let place = Place::new(directory, name);
        let link = self.call_on_name(Operation::Link, caller, place, move |client, place, _, provenance| {
            client.check_name(&place.name)?;
            let kind = Kind::of_mode(client.table.kind(ino)?);
            let change = Change::Link { ino, kind, place: place.clone() };
            let late = |provenance: &mut _| client.link_late(&change, place, provenance);
            client.submit(&change, provenance, |_| client.apply(&change).map(drop), late)?;
            let looked = client.look_up(ino)?;
            let attributes = client.view(ino, provenance)?;
            Ok(client.entry_of(looked, attributes, provenance))
        });
        link.flushes(FlushPoint::Link, Flushed::Inode(ino))
    }

    fn link_late(&self, change: &Change, place: &Place, provenance: &mut Provenance) -> Result<(), Error> {
        self.check_entering(place.directory, provenance)?;
        self.check_same_device(change.subject(), place.directory)?;
        // Others may take the name away by which it could be found.
        self.hold_on_to(change.subject());
        loop {
            let grounds = self.lock().belief.grounds(&[place], &[]);
            if self.find(place, Hold::No, provenance)?.is_some() {
                return Err(Error::Exists);
            }
            self.check_links(change.subject(), provenance)?;
            let stamp = self.clock.wall();
            if self.add_on(&grounds, change.clone(), stamp)? {
                return Ok(());
            }
        }
    }

    /// Refuses one link more than the backing file system allows, those in flight counted.
    fn check_links(&self, ino: Ino, provenance: &mut Provenance) -> Result<(), Error> {
        let links = self.view(ino, provenance)?.links;
        let takes_it = backing::traits(self.ground(ino).as_fd())?.takes_one_more_link(links);
        if takes_it { Ok(()) } else { Err(Error::TooManyLinks) }
    }
}
