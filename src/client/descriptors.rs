//! Which descriptor reaches an inode, reads a file or writes one.
//!
//! | wanted | is | where that fails |
//! |---|---|---|
//! | an inode | the node's `O_PATH` descriptor if it is held, else that of an open file, else opened by name or handle | |
//! | to read or write an open file | its own descriptor, opened with it | not landed then: opened, or given to it on landing |
//! | to land data | one kept since the file was made or closed, else an open file's, else opened now | EACCES: the owner lets himself in |
//!
//! The kernel checks permissions by this client's view, the store by its own state. Where a change of permissions of
//! ours is still in flight the store may say EACCES to what the view allows: then that change lands early, as for an
//! `fsync(2)`. Root never meets this.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{Client, open_files::OpenFile, store::Manner};
use crate::{
    backing::flags::{O_ACCMODE, O_NOATIME, O_NOCTTY, O_SYNC, O_WRONLY},
    backing::{ROOT, sys},
    consistency::{Ino, Kind, MutationId, Place, policy::RequestsBy},
    error::Error,
};

/// The most descriptors kept for landing data of files that could be opened again as well.
const MOST_WRITERS: usize = 64;

const OWNER_MAY_WRITE: u32 = 0o200;
pub(super) const OWNER_READS_AND_WRITES: u32 = 0o600;

impl Client {
    /// A descriptor on the real inode. One that is lost is not believed in any longer.
    pub(super) fn descriptor(&self, ino: Ino) -> Result<Arc<OwnedFd>, Error> {
        if let Some(descriptor) = self.table.held(ino).or_else(|| self.files.descriptor(ino, false)) {
            return Ok(descriptor);
        }
        self.table.descriptor(ino).inspect_err(|error| {
            if *error == Error::Stale {
                self.distrust(ino);
            }
        })
    }

    /// What is meant by a request about an inode: it, or whatever stands now where this client knows it to be.
    pub(super) fn requested(&self, ino: Ino) -> Result<Arc<OwnedFd>, Error> {
        let is_by_path = match self.in_force().policy.requests_by {
            RequestsBy::Inode => false,
            RequestsBy::Handle => !self.files.is_open(ino),
            RequestsBy::Path => true,
        };
        match if is_by_path { self.at_its_path(ino)? } else { None } {
            Some(found) => Ok(found),
            None => self.descriptor(ino),
        }
    }

    /// What is changed: what a request means, or, where a change lands late, the inode itself.
    pub(super) fn reached(&self, ino: Ino, manner: Manner) -> Result<Arc<OwnedFd>, Error> {
        if manner == Manner::Through { self.requested(ino) } else { self.descriptor(ino) }
    }

    /// What stands in the store at the path of an inode. None if the store cannot know that path: some of it is still in flight,
    /// or the inode has lost it here.
    fn at_its_path(&self, ino: Ino) -> Result<Option<Arc<OwnedFd>>, Error> {
        if !self.table.has_landed(ino) || self.lock().has_removed(ino) {
            return Ok(None);
        }
        let mut names = Vec::new();
        for at in std::iter::once(ino).chain(self.ancestors(ino)).take_while(|at| *at != ROOT) {
            let (directory, name) = self.table.place(at)?;
            if self.lock().in_flight.overlay().name(&Place::new(directory, &name)).is_some() {
                return Ok(None);
            }
            names.push(name);
        }
        let mut at = self.table.root().clone();
        for name in names.iter().rev() {
            at = Arc::new(self.table.retrying(|| sys::open_path(at.as_fd(), name))?);
        }
        let is_of_its_kind =
            Kind::of_mode(sys::stat(at.as_fd())?.mode) == Kind::of_mode(self.table.kind(ino)?);
        if is_of_its_kind { Ok(Some(at)) } else { Err(Error::Stale) }
    }

    /// A descriptor on the file system that holds an inode, or will: on the inode itself, or on the first directory above
    /// it that has landed.
    pub(super) fn ground(&self, ino: Ino) -> Arc<OwnedFd> {
        let landed =
            std::iter::once(ino).chain(self.ancestors(ino)).filter(|ino| self.table.has_landed(*ino));
        let found = landed.filter_map(|ino| self.descriptor(ino).ok()).next();
        found.unwrap_or_else(|| self.table.root().clone())
    }

    /// An inode could not be found any more: what leads to it is not believed any longer, so that the kernel's second
    /// try finds what is there now.
    fn distrust(&self, ino: Ino) {
        let place = self.table.place(ino);
        let mut state = self.lock();
        state.belief.distrust_inode(ino);
        if let Ok((directory, name)) = place {
            state.belief.distrust_name(&Place::new(directory, &name));
        }
    }

    /// Calls `attempt`; where the store denies it because a change of ours to `ino` has not landed, lets that land
    /// first and tries again.
    pub(super) fn with_permission<T>(
        &self,
        ino: Ino,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        const TRIES: usize = 1000;
        let first = attempt();
        if !matches!(&first, Err(error) if *error == Error::AccessDenied) {
            return first;
        }
        for _ in 0..TRIES {
            let mut state = self.lock();
            let ids: Vec<MutationId> = state.in_flight.about(ino).map(|mutation| mutation.id).collect();
            if ids.is_empty() {
                break;
            }
            state.in_flight.hurry(ids);
            self.work.notify_all();
            self.progress.wait_for_a_step(state);
        }
        attempt()
    }

    /// Opens the real file behind an inode.
    pub(super) fn open_real(&self, ino: Ino, flags: i32) -> Result<OwnedFd, Error> {
        // Whatever else stands there now is opened by the kernel itself, once it has looked the name up again.
        if Kind::of_mode(self.table.kind(ino)?) != Kind::File {
            return Err(Error::Stale);
        }
        let node = self.requested(ino)?;
        self.with_permission(ino, || self.table.open_lasting(|| sys::reopen(node.as_fd(), flags)))
    }

    /// The flags with which the real file is opened: no making and no truncating, which are changes of their own; no
    /// `O_APPEND`, because the place is decided here; no `O_DIRECT`, whose alignment rules are the backing file
    /// system's and not the program's.
    pub(super) fn backing_flags(&self, flags: i32) -> i32 {
        let sync = if self.in_force().policy.delays.data.is_zero() { flags & O_SYNC } else { 0 };
        (flags & (O_ACCMODE | O_NOATIME)) | O_NOCTTY | sync
    }

    /// The real file behind an open one, opened now if the file has landed since.
    pub(super) fn real_file(&self, file: &OpenFile) -> Result<Arc<OwnedFd>, Error> {
        if let Some(descriptor) = file.descriptor.get() {
            return Ok(descriptor.clone());
        }
        let opened = Arc::new(self.open_real(file.ino, self.backing_flags(file.flags))?);
        Ok(file.descriptor.get_or_init(|| opened).clone())
    }

    /// A descriptor through which a file's data can be changed.
    pub(super) fn writer(&self, ino: Ino, manner: Manner) -> Result<Arc<OwnedFd>, Error> {
        if let Some(kept) = self.lock().records.of(ino).writer.clone() {
            return Ok(kept);
        }
        if let Some(opened) = self.files.descriptor(ino, true) {
            return Ok(opened);
        }
        let node = self.descriptor(ino)?;
        let opened = match self.table.retrying(|| sys::reopen(node.as_fd(), O_WRONLY)) {
            Err(error @ Error::AccessDenied) => self.reopen_as_owner(node.as_fd(), error),
            result => result.map(Arc::new),
        }?;
        if manner == Manner::Late {
            self.keep_writer(ino, &opened);
        }
        Ok(opened)
    }

    /// A file may have been made read-only since it was opened: `open(2)` checks, `write(2)` does not. Its owner can
    /// still get in, by changing the mode for a moment.
    fn reopen_as_owner(&self, node: BorrowedFd<'_>, error: Error) -> Result<Arc<OwnedFd>, Error> {
        let stat = sys::stat(node)?;
        if stat.uid != self.own_ids.0 {
            return Err(error);
        }
        let permissions = stat.mode & 0o7777;
        sys::set_permissions(node, permissions | OWNER_READS_AND_WRITES)?;
        let opened = sys::reopen(node, O_WRONLY);
        sys::set_permissions(node, permissions)?;
        opened.map(Arc::new)
    }

    /// Keeps a descriptor for as long as more data of its file is in flight: any number of those that could not be had
    /// again, a few of the others.
    pub(super) fn keep_writer(&self, ino: Ino, descriptor: &Arc<OwnedFd>) {
        if self.table.is_reserved(descriptor.as_fd()) || !self.lock().in_flight.overlay().has_data(ino) {
            return;
        }
        let replaceable = self.is_root()
            || sys::stat(descriptor.as_fd()).is_ok_and(|stat| stat.mode & OWNER_MAY_WRITE != 0);
        let mut state = self.lock();
        let wanted = state.in_flight.overlay().has_data(ino);
        if wanted && (!replaceable || state.records.writers() < MOST_WRITERS) {
            let former = state.records.change(ino, |record| record.writer.replace(descriptor.clone()));
            drop(state);
            drop(former);
        }
    }
}
