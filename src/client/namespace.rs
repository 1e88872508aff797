//! Operations on names and attributes.
//!
//! Each makes a [`Change`] and lets it go through or puts it in flight. Whatever goes through is decided by the store.
//! What goes in flight is refused here and now with the errno that a plain directory would give, as far as this
//! client's view can tell; that check and the acknowledgement stand on the same [`Grounds`], so two requests at once
//! cannot both win.

use std::{os::fd::AsFd, sync::Arc};

use super::{Caller, Client, Entry, Looked, Trace, store::Manner, view::Hold, view::attributes_of};
use crate::{
    backing::sys,
    consistency::{
        AttributeChange, Attributes, Change, Ino, Kind, Listing, Place, RenameHow, belief::Grounds,
    },
    error::Error,
    time::Timestamp,
};

/// `open(2)` flags that a new file's descriptor must not have: making it is done, and appending is decided per write.
const O_EXCL: i32 = 0o200;
const SETGID: u32 = 0o2000;

/// What `setattr` asks for.
#[expect(missing_docs, reason = "named for what they change; none leaves as it is")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Timestamp>,
    pub mtime: Option<Timestamp>,
}

/// What a new inode is to be.
struct NewInode<'a> {
    kind: Kind,
    mode: u32,
    umask: u32,
    rdev: u64,
    target: &'a [u8],
}

impl Client {
    /// Changes attributes and size; answers with the attributes after it.
    ///
    /// # Errors
    /// What the backing directory answers, where the change goes through.
    pub fn setattr(&self, caller: &Caller, ino: Ino, asked: &SetAttributes) -> Result<Attributes, Error> {
        self.operate(
            "setattr",
            || self.table.path(ino),
            |trace| {
                if let Some(size) = asked.size {
                    self.check_size(size)?;
                    let change = Change::Resize { ino, size, clears_setid: caller.uid != 0 };
                    self.change_data(change, trace)?;
                }
                let change = AttributeChange {
                    permissions: asked.permissions,
                    uid: asked.uid,
                    gid: asked.gid,
                    atime: asked.atime,
                    mtime: asked.mtime,
                };
                if !change.is_empty() {
                    self.change_attributes(ino, change)?;
                }
                self.view(ino, trace)
            },
        )
    }

    pub(super) fn change_attributes(&self, ino: Ino, change: AttributeChange) -> Result<(), Error> {
        if let Some(outcome) = self.try_through(&Change::SetAttributes { ino, change }) {
            return outcome.map(drop);
        }
        self.check_writable()?;
        self.put_in_flight(&mut self.lock(), Change::SetAttributes { ino, change }, self.clock.wall())
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// EINVAL if it is none; whatever the backing directory answers.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        self.operate(
            "readlink",
            || self.table.path(ino),
            |_| {
                if let Some(target) = self.lock().in_flight.overlay().target(ino) {
                    return Ok(target.to_vec());
                }
                sys::read_link(self.descriptor(ino)?.as_fd())
            },
        )
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// EEXIST, ENAMETOOLONG, EROFS; whatever the backing directory answers, where it goes through.
    pub fn mkdir(
        &self,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Entry, Error> {
        let new = NewInode { kind: Kind::Directory, mode, umask, rdev: 0, target: b"" };
        self.make("mkdir", caller, Place::new(directory, name), &new)
    }

    /// Makes a file, fifo, socket or device; `mode` says which.
    ///
    /// # Errors
    /// As for a directory.
    pub fn mknod(
        &self,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Entry, Error> {
        let new = NewInode { kind: Kind::of_mode(mode), mode, umask, rdev, target: b"" };
        self.make("mknod", caller, Place::new(directory, name), &new)
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// As for a directory.
    pub fn symlink(
        &self,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Error> {
        let new = NewInode { kind: Kind::Symlink, mode: 0o777, umask: 0, rdev: 0, target };
        self.make("symlink", caller, Place::new(directory, name), &new)
    }

    fn make(
        &self,
        operation: &'static str,
        caller: &Caller,
        place: Place,
        new: &NewInode<'_>,
    ) -> Result<Entry, Error> {
        self.operate(
            operation,
            || self.path_of(&place),
            |trace| {
                let (looked, attributes, _) = self.make_inode(caller, &place, new, O_EXCL, trace)?;
                Ok(Entry { ino: looked.keep(), attributes })
            },
        )
    }

    /// Makes a regular file and opens it; without `O_EXCL` one that is there is opened.
    ///
    /// # Errors
    /// As for a directory, and as for opening a file.
    pub fn create(
        &self,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Entry, u64), Error> {
        let place = Place::new(directory, name);
        let new = NewInode { kind: Kind::File, mode, umask, rdev: 0, target: b"" };
        self.operate(
            "create",
            || self.path_of(&place),
            |trace| match self.make_inode(caller, &place, &new, flags, trace) {
                Ok((looked, attributes, opened)) => {
                    let handle = self.open_new(looked.ino(), flags, opened);
                    Ok((Entry { ino: looked.keep(), attributes }, handle))
                }
                Err(error) if error.is(Error::Exists) && flags & O_EXCL == 0 => {
                    // Somebody else has made it since the kernel looked.
                    self.lock().belief.distrust_name(&place);
                    let looked = self.find(&place, Hold::Yes, trace)?.ok_or(Error::Stale)?;
                    let handle = self.open_known(caller, looked.ino(), flags, trace)?;
                    let attributes = self.view(looked.ino(), trace)?;
                    Ok((Entry { ino: looked.keep(), attributes }, handle))
                }
                Err(error) => Err(error),
            },
        )
    }

    fn make_inode(
        &self,
        caller: &Caller,
        place: &Place,
        new: &NewInode<'_>,
        flags: i32,
        trace: &mut Trace,
    ) -> Result<(Looked<'_>, Attributes, Option<std::os::fd::OwnedFd>), Error> {
        self.check_name(&place.name)?;
        let attributes = self.new_attributes(caller, place.directory, new, trace)?;
        let target: Arc<[u8]> = new.target.into();
        let change = |ino| Change::Make { place: place.clone(), ino, attributes, target: target.clone() };
        if self.goes_through(&self.lock(), &change(0)) {
            let flags = self.backing_flags(flags);
            let outcome = self.carry_out_make(place, 0, &attributes, new.target, flags, Manner::Through);
            self.lock_changed(&change(0));
            let outcome = outcome?;
            let stat = outcome.stat.ok_or(Error::InputOutput)?;
            let id = self.table.intern(&stat, None, place.directory, &place.name);
            let looked = Looked { client: self, id, view: None };
            return Ok((looked, attributes_of(&stat), outcome.opened));
        }
        self.check_writable()?;
        let stamp = attributes.mtime;
        let id = loop {
            let grounds = self.lock().belief.grounds(&[place], &[]);
            if self.find(place, Hold::No, trace)?.is_some() {
                return Err(Error::Exists);
            }
            let id = self.table.make(new.kind.mode_bits(), place.directory, &place.name);
            if self.add_on(&grounds, change(id.ino), stamp)? {
                break id;
            }
            self.forget(id.ino, 1);
        };
        let looked = Looked { client: self, id, view: None };
        let attributes = self.view(looked.ino(), trace)?;
        Ok((looked, attributes, None))
    }

    /// Puts a change in flight if the grounds of the decision for it still stand; `false` if it has to be made anew.
    fn add_on(&self, grounds: &Grounds, change: Change, stamp: Timestamp) -> Result<bool, Error> {
        let mut state = self.lock();
        if !state.belief.stands(grounds) {
            return Ok(false);
        }
        self.put_in_flight(&mut state, change.clone(), stamp)?;
        self.moved(&change, false);
        Ok(true)
    }

    fn new_attributes(
        &self,
        caller: &Caller,
        directory: Ino,
        new: &NewInode<'_>,
        trace: &mut Trace,
    ) -> Result<Attributes, Error> {
        let mut permissions = new.mode & 0o7777;
        if new.umask & permissions != 0 && new.kind != Kind::Symlink {
            permissions &= match self.default_acl_bits(directory)? {
                Some(bits) => bits | 0o7000,
                None => !new.umask,
            };
        }
        let (mut uid, mut gid) = self.own_ids;
        if self.gives_away {
            (uid, gid) = (caller.uid, caller.gid);
        }
        // Asked for only where it can matter: a file that goes through to its own owner gets all this from the kernel.
        let all_through = self.knobs.write_delay.is_zero() && self.knobs.rename_delay.is_zero();
        if !all_through || self.gives_away {
            let parent = self.view(directory, trace)?;
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
        Ok(Attributes::new(new.kind, permissions, (uid, gid), new.rdev, new.target.len() as u64, stamp))
    }

    fn inherited_setgid(&self, directory: Ino) -> Result<u32, Error> {
        Ok(sys::stat(self.descriptor(directory)?.as_fd())?.mode & SETGID)
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// ENOENT, EROFS; whatever the backing directory answers, where it goes through.
    pub fn unlink(&self, directory: Ino, name: &[u8]) -> Result<(), Error> {
        let place = Place::new(directory, name);
        self.operate(
            "unlink",
            || self.path_of(&place),
            |trace| self.remove(&place, trace, |place, ino| Change::Unlink { place, ino }),
        )
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTEMPTY, EROFS; whatever the backing directory answers, where it goes through.
    pub fn rmdir(&self, directory: Ino, name: &[u8]) -> Result<(), Error> {
        let place = Place::new(directory, name);
        self.operate(
            "rmdir",
            || self.path_of(&place),
            |trace| self.remove(&place, trace, |place, ino| Change::RemoveDirectory { place, ino }),
        )
    }

    fn remove(
        &self,
        place: &Place,
        trace: &mut Trace,
        change: impl Fn(Place, Ino) -> Change,
    ) -> Result<(), Error> {
        self.check_name(&place.name)?;
        if self.sees_only_backing()
            && let Some(outcome) = self.try_through(&change(place.clone(), 0))
        {
            return outcome.map(drop);
        }
        loop {
            let name = self.lock().belief.grounds(&[place], &[]);
            let subject = self.find(place, Hold::Yes, trace)?.ok_or(Error::NotFound)?;
            let change = change(place.clone(), subject.ino());
            if let Some(outcome) = self.try_through(&change) {
                outcome?;
                self.note_removal(Some(&subject));
                return Ok(());
            }
            self.check_writable()?;
            let grounds = match change {
                Change::RemoveDirectory { ino, .. } => name.and(self.check_empty(ino, trace)?),
                _ => name,
            };
            let stamp = self.clock.wall();
            if self.add_on(&grounds, change, stamp)? {
                return Ok(());
            }
        }
    }

    /// A name went through: if that was the inode's last one, its data in flight, now or later, concerns nobody else.
    fn note_removal(&self, subject: Option<&Looked<'_>>) {
        if let Some(subject) = subject
            && self.stat_landed(subject.ino()).is_some_and(|stat| stat.links == 0)
        {
            self.lock().nameless.insert(subject.ino());
        }
    }

    /// Whether every question goes to the backing directory: nothing is believed, nothing is in flight or ever will be.
    pub(super) fn sees_only_backing(&self) -> bool {
        let never_late = self.knobs.write_delay.is_zero() && self.knobs.rename_delay.is_zero();
        let state = self.lock();
        never_late && state.belief.is_off() && state.in_flight.is_empty()
    }

    /// Gives an inode one more name.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EROFS; whatever the backing directory answers, where it goes through.
    pub fn link(&self, ino: Ino, directory: Ino, name: &[u8]) -> Result<Entry, Error> {
        let place = Place::new(directory, name);
        self.operate(
            "link",
            || self.path_of(&place),
            |trace| {
                self.check_name(&place.name)?;
                let kind = Kind::of_mode(self.table.kind(ino).ok_or(Error::Stale)?);
                let change = Change::Link { ino, kind, place: place.clone() };
                match self.try_through(&change) {
                    Some(outcome) => drop(outcome?),
                    None => self.link_late(&change, &place, trace)?,
                }
                let id = self.table.id_of(ino).filter(|id| self.table.look_up(*id)).ok_or(Error::Stale)?;
                let looked = Looked { client: self, id, view: None };
                let attributes = self.view(ino, trace)?;
                Ok(Entry { ino: looked.keep(), attributes })
            },
        )
    }

    fn link_late(&self, change: &Change, place: &Place, trace: &mut Trace) -> Result<(), Error> {
        self.check_writable()?;
        self.check_same_device(change.subject(), place.directory)?;
        loop {
            let grounds = self.lock().belief.grounds(&[place], &[]);
            if self.find(place, Hold::No, trace)?.is_some() {
                return Err(Error::Exists);
            }
            let stamp = self.clock.wall();
            if self.add_on(&grounds, change.clone(), stamp)? {
                return Ok(());
            }
        }
    }

    /// Moves an inode from one name to another.
    ///
    /// # Errors
    /// ENOENT, EEXIST, ENOTEMPTY, EROFS; whatever the backing directory answers, where it goes through.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), how: RenameHow) -> Result<(), Error> {
        let (from, to) = (Place::new(from.0, from.1), Place::new(to.0, to.1));
        self.operate(
            "rename",
            || self.path_of(&from),
            |trace| {
                self.check_name(&to.name)?;
                while !self.try_rename(&from, &to, how, trace)? {}
                Ok(())
            },
        )
    }

    /// One try; `false` if what it was based on has changed meanwhile.
    fn try_rename(&self, from: &Place, to: &Place, how: RenameHow, trace: &mut Trace) -> Result<bool, Error> {
        let change = |(ino, kind), replaced| {
            let (from, to) = (from.clone(), to.clone());
            Change::Rename { from, to, ino, kind, replaced, how }
        };
        if self.sees_only_backing()
            && let Some(outcome) = self.try_through(&change((0, Kind::File), None))
        {
            outcome?;
            self.note_moves(from, to);
            return Ok(true);
        }
        let names = self.lock().belief.grounds(&[from, to], &[]);
        let source = self.find(from, Hold::Yes, trace)?.ok_or(Error::NotFound)?;
        let target = self.find(to, Hold::Yes, trace)?;
        let with_kind = |looked: &Looked<'_>| {
            (looked.ino(), Kind::of_mode(self.table.kind(looked.ino()).unwrap_or_default()))
        };
        let (moving, replaced) = (with_kind(&source), target.as_ref().map(with_kind));
        let change = change(moving, replaced);
        if let Some(outcome) = self.try_through(&change) {
            outcome?;
            self.moved(&change, true);
            if how != RenameHow::Exchange {
                self.note_removal(target.as_ref());
            }
            return Ok(true);
        }
        self.check_writable()?;
        self.check_same_device(from.directory, to.directory)?;
        if replaced.is_some_and(|(ino, _)| ino == moving.0) {
            // Two names of one inode: rename(2) leaves both.
            return Ok(true);
        }
        let grounds = names.and(self.check_target(moving.1, replaced, how, trace)?);
        let stamp = self.clock.wall();
        self.add_on(&grounds, change, stamp)
    }

    /// Refuses what `rename(2)` refuses because of what stands at the target; says on what grounds it did not.
    fn check_target(
        &self,
        moving: Kind,
        target: Option<(Ino, Kind)>,
        how: RenameHow,
        trace: &mut Trace,
    ) -> Result<Grounds, Error> {
        match (how, target) {
            (RenameHow::NoReplace, Some(_)) => Err(Error::Exists),
            (RenameHow::Exchange, None) => Err(Error::NotFound),
            (RenameHow::Exchange, Some(_)) | (_, None) => Ok(Grounds::default()),
            (_, Some((_, Kind::Directory))) if moving != Kind::Directory => Err(Error::IsDirectory),
            (_, Some((directory, Kind::Directory))) => self.check_empty(directory, trace),
            (_, Some(_)) if moving == Kind::Directory => Err(Error::NotDirectory),
            _ => Ok(Grounds::default()),
        }
    }

    /// Refuses names across file systems below the backing directory, as `rename(2)` and `link(2)` do.
    fn check_same_device(&self, one: Ino, other: Ino) -> Result<(), Error> {
        if self.device_of(one) == self.device_of(other) { Ok(()) } else { Err(Error::CrossDevice) }
    }

    /// The file system that holds an inode, or will: that of the first directory above it that has landed.
    fn device_of(&self, ino: Ino) -> Option<u64> {
        let above = std::iter::once(ino).chain(self.ancestors(ino));
        above.into_iter().find_map(|ino| self.table.identity(ino)).map(|identity| identity.device)
    }

    fn check_empty(&self, directory: Ino, trace: &mut Trace) -> Result<Grounds, Error> {
        let grounds = self.lock().belief.grounds(&[], &[directory]);
        if self.listing(directory, trace)?.is_empty() { Ok(grounds) } else { Err(Error::NotEmpty) }
    }

    /// A rename went through without anybody asking which inodes it moved: whoever is known at either name now is
    /// known there from now on.
    fn note_moves(&self, from: &Place, to: &Place) {
        for place in [to, from] {
            let at_place =
                self.descriptor(place.directory).and_then(|at| sys::stat_at(at.as_fd(), &place.name));
            if let Ok(stat) = at_place
                && let Some(ino) = self.table.number(&stat.identity)
            {
                self.table.moved(ino, place.directory, &place.name, true);
            }
        }
    }

    fn moved(&self, change: &Change, landed: bool) {
        let Change::Rename { from, to, ino, replaced, how, .. } = change else { return };
        self.table.moved(*ino, to.directory, &to.name, landed);
        if let (Some((other, _)), RenameHow::Exchange) = (replaced, how) {
            self.table.moved(*other, from.directory, &from.name, landed);
        }
    }

    /// Whether the caller may do what `mask` (`R_OK`, `W_OK`, `X_OK`) says. Asked only where the kernel does not check
    /// permissions itself, which is where all callers are root: root may do everything but execute what nobody may.
    ///
    /// # Errors
    /// EACCES.
    pub fn access(&self, ino: Ino, mask: i32) -> Result<(), Error> {
        const X_OK: i32 = 1;
        self.operate(
            "access",
            || self.table.path(ino),
            |trace| {
                let attributes = self.view(ino, trace)?;
                let executable = attributes.kind == Kind::Directory || attributes.permissions & 0o111 != 0;
                if mask & X_OK != 0 && !executable { Err(Error::AccessDenied) } else { Ok(()) }
            },
        )
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// An injected fault.
    pub fn opendir(&self, ino: Ino) -> Result<u64, Error> {
        self.operate(
            "opendir",
            || self.table.path(ino),
            |_| {
                self.pin(ino);
                Ok(self.files.add_directory(ino))
            },
        )
    }

    /// The entries that a directory handle shows, without `.` and `..`: one snapshot, taken when reading starts at
    /// offset 0, and taken anew when it starts there again.
    ///
    /// # Errors
    /// EBADF; whatever the backing directory answers.
    pub fn readdir(&self, handle: u64, offset: u64) -> Result<Arc<Listing>, Error> {
        let open = self.files.directory(handle)?;
        self.operate(
            "readdir",
            || self.table.path(open.ino),
            |trace| open.snapshot(offset == 0, || self.listing(open.ino, trace)),
        )
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        if let Some(open) = self.files.remove_directory(handle) {
            self.unpin(open.ino);
        }
    }

    /// The number that a directory's `..` shows.
    pub fn parent_number(&self, ino: Ino) -> Ino {
        self.shown_number(self.table.parent(ino))
    }
}
