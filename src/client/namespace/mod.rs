//! Operations on names and attributes.
//!
//! Each makes a [`Change`] and lets it go through or puts it in flight. Whatever goes through is decided by the store.
//! What goes in flight is refused here and now with the errno that a plain directory would give, as far as this
//! client's view can tell; that check and the acknowledgement stand on the same [`Grounds`], so two requests at once
//! cannot both win.

mod hidden;
mod make;
mod remove;
mod rename;

use std::{os::fd::AsFd, sync::Arc};

use crate::{
    backing::sys,
    client::{
        Caller, Client, Entry, Missing, Provenance, Shown,
        call::{Asked, Call, Flushed, Run, Subject},
        view::Hold,
    },
    consistency::{
        AttributeChange, Change, Ino, Kind, Place, Snapshot,
        belief::Grounds,
        inquiry::Entering,
        policy::{FlushPoint, ListingAsks},
    },
    error::Error,
    operation::Operation,
    time::Timestamp,
};

/// What `setattr` asks for.
#[expect(missing_docs, reason = "named for what they change; none leaves as it is")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Timestamp>,
    pub mtime: Option<Timestamp>,
}

impl SetAttributes {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == SetAttributes::default()
    }
}

impl Client {
    /// Looks a name up for the kernel, which owes a `forget` for it.
    ///
    /// # Errors
    /// ENOENT if the name is absent in this client's view; ENAMETOOLONG; whatever the backing directory answers.
    pub fn lookup(
        self: &Arc<Self>,
        caller: &Caller,
        directory: Ino,
        name: &[u8],
    ) -> Call<'_, impl Run<Entry, Missing>> {
        let place = Place::new(directory, name);
        self.call_on_name(Operation::Lookup, caller, place, move |client, place, _, provenance| {
            let found = client.entry(place, Hold::Yes, provenance);
            found.map_err(|error| Missing { error, lease: client.lease(provenance, None).name })
        })
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// ESTALE if it is gone; whatever the backing directory answers.
    pub fn getattr(self: &Arc<Self>, caller: &Caller, ino: Ino) -> Call<'_, impl Run<Shown>> {
        let ask =
            Call::new(self, Operation::Getattr, caller, Subject::Inode(ino), move |client, _, provenance| {
                client.show(ino, provenance)
            });
        ask.flushes(FlushPoint::Stat, Flushed::Inode(ino))
    }

    /// Changes attributes and size; answers with the attributes after it.
    ///
    /// # Errors
    /// What the backing directory answers, where the change goes through.
    pub fn setattr(
        self: &Arc<Self>,
        caller: &Caller,
        ino: Ino,
        wanted: SetAttributes,
    ) -> Call<'_, impl Run<Shown>> {
        let run = move |client: &Arc<Client>, asked: Asked<'_>, provenance: &mut Provenance| {
            client.set_attributes(asked.caller, ino, &wanted, provenance)?;
            client.show(ino, provenance)
        };
        let set = Call::new(self, Operation::Setattr, caller, Subject::Inode(ino), run);
        set.flushes(FlushPoint::SetAttributes, Flushed::Inode(ino))
    }

    fn set_attributes(
        &self,
        caller: &Caller,
        ino: Ino,
        wanted: &SetAttributes,
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        if let Some(size) = wanted.size {
            self.check_size(size)?;
            let clears = self.setid_lost(caller, ino, provenance)?;
            self.change_data(&Change::Resize { ino, size, clears }, provenance)?;
        }
        let change = AttributeChange {
            permissions: self.permissions_asked(caller, ino, wanted, provenance)?,
            uid: wanted.uid,
            gid: wanted.gid,
            atime: wanted.atime,
            mtime: wanted.mtime,
        };
        // chown(-1, -1) asks for nothing and still updates ctime.
        if change.is_empty() && wanted.size.is_some() {
            return Ok(());
        }
        let owner = self.owner_to_ask(caller, ino, provenance)?;
        self.change_attributes(ino, change, owner)
    }

    pub(in crate::client) fn change_attributes(
        &self,
        ino: Ino,
        change: AttributeChange,
        owner: Option<u32>,
    ) -> Result<(), Error> {
        self.submit_blindly(Change::SetAttributes { ino, change, owner })
    }

    /// Whose an inode has to be for a change of it to be made for this caller. The kernel has let the caller, by what this
    /// client has shown it; where this process may more than its callers, the store is to be asked whether that is true.
    pub(in crate::client) fn owner_to_ask(
        &self,
        caller: &Caller,
        ino: Ino,
        provenance: &mut Provenance,
    ) -> Result<Option<u32>, Error> {
        if !self.gives_away || caller.uid == 0 {
            return Ok(None);
        }
        Ok(Some(self.view(ino, provenance)?.uid))
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// EINVAL if it is none; whatever the backing directory answers.
    pub fn readlink(self: &Arc<Self>, caller: &Caller, ino: Ino) -> Call<'_, impl Run<Vec<u8>>> {
        Call::new(self, Operation::Readlink, caller, Subject::Inode(ino), move |client, _, provenance| {
            if let Some(target) = client.lock().in_flight.overlay().target(ino) {
                return Ok(target.to_vec());
            }
            if client.in_force().policy.symlinks_ask {
                client.ask_at_open(ino, true, provenance)?;
            }
            sys::read_link(client.descriptor(ino)?.as_fd())
        })
    }

    /// Puts a change in flight if the grounds of the decision for it still stand; `false` if it has to be made anew.
    fn add_on(&self, grounds: &Grounds, change: Change, stamp: Timestamp) -> Result<bool, Error> {
        let mut state = self.lock();
        if !state.belief.stands(grounds) {
            return Ok(false);
        }
        self.put_in_flight(&mut state, change, stamp)?;
        Ok(true)
    }

    /// Whether every question and every change goes to the backing directory.
    pub(in crate::client) fn is_transparent(&self) -> bool {
        self.lock().core(&self.in_force().policy).is_transparent()
    }

    /// Whether every change goes through.
    fn routes_all_through(&self) -> bool {
        self.lock().core(&self.in_force().policy).routes_all_through()
    }

    /// Refuses to make a name in a directory that this client knows to be gone, as a plain directory does.
    fn check_entering(&self, directory: Ino, provenance: &mut Provenance) -> Result<(), Error> {
        let (parent, name) = self.table.place(directory)?;
        let question = Entering { directory, place: Place::new(parent, &name) };
        let fetch = |_: &Entering| self.fetch_inode(directory);
        let (is_there, part) = self.inquire(question, fetch, |_, is_there, _| is_there)?;
        provenance.add_all(&part);
        if is_there { Ok(()) } else { Err(Error::NotFound) }
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

    fn check_empty(&self, directory: Ino, provenance: &mut Provenance) -> Result<Grounds, Error> {
        let grounds = self.lock().belief.grounds(&[], &[directory]);
        if self.listing(directory, provenance)?.is_empty() { Ok(grounds) } else { Err(Error::NotEmpty) }
    }

    /// Whether the caller may do what `mask` (`R_OK`, `W_OK`, `X_OK`) says. Asked only where the kernel does not check
    /// permissions itself, which is where all callers are root: root may do everything but execute what nobody may.
    ///
    /// # Errors
    /// EACCES.
    pub fn access(self: &Arc<Self>, caller: &Caller, ino: Ino, mask: i32) -> Call<'_, impl Run<()>> {
        const X_OK: i32 = 1;
        Call::new(self, Operation::Access, caller, Subject::Inode(ino), move |client, _, provenance| {
            let attributes = client.view(ino, provenance)?;
            let executable = attributes.kind == Kind::Directory || attributes.permissions & 0o111 != 0;
            if mask & X_OK != 0 && !executable { Err(Error::AccessDenied) } else { Ok(()) }
        })
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// An injected fault; ESTALE if it is gone, where the storage asks.
    pub fn opendir(self: &Arc<Self>, caller: &Caller, ino: Ino) -> Call<'_, impl Run<u64>> {
        Call::new(self, Operation::Opendir, caller, Subject::Inode(ino), move |client, _, provenance| {
            if client.in_force().policy.listing_asks != ListingAsks::Never {
                client.ask_at_open(ino, false, provenance)?;
            }
            client.pin(ino);
            Ok(client.files.add_directory(ino))
        })
    }

    /// What a directory handle shows, without `.` and `..`: the directory is listed when reading starts at offset 0, and
    /// again when it starts there again. Every other offset leads where it led before.
    ///
    /// # Errors
    /// EBADF; whatever the backing directory answers.
    pub fn readdir(
        self: &Arc<Self>,
        caller: &Caller,
        handle: u64,
        offset: u64,
    ) -> Call<'_, impl Run<Snapshot>> {
        let open = self.files.directory(handle);
        let subject = open.as_ref().map_or(Subject::Everything, |open| Subject::Inode(open.ino));
        Call::new(self, Operation::Readdir, caller, subject, move |client, _, provenance| {
            let open = open?;
            if offset == 0 && client.in_force().policy.listing_asks == ListingAsks::Rewind {
                client.ask_anew(open.ino, provenance)?;
            }
            let is_anew = offset == 0 && client.in_force().policy.rewind_lists;
            open.snapshot(is_anew, || client.listing(open.ino, provenance))
        })
    }

    /// Puts a directory, its name and those above it where they survive a crash: it is over when they are in the backing
    /// directory and synced there.
    ///
    /// # Errors
    /// Whatever the backing directory answers.
    pub fn fsync_directory(
        self: &Arc<Self>,
        caller: &Caller,
        ino: Ino,
        data_only: bool,
    ) -> Call<'_, impl Run<()>> {
        let fsync = Call::new(self, Operation::Fsync, caller, Subject::Inode(ino), |_, _, _| Ok(()));
        fsync.until_synced(data_only)
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        if let Some(open) = self.files.remove_directory(handle) {
            self.unpin(open.ino);
            self.released(open.cost());
        }
    }

    /// The number that a directory's `..` shows.
    pub fn parent_number(&self, ino: Ino) -> Ino {
        self.shown_number(self.table.parent(ino))
    }
}
