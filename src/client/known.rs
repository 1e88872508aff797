//! Which inodes somebody still knows: the kernel by lookups, this process by pins.

use super::Client;
use crate::{
    backing::NodeId,
    consistency::{Attributes, Ino, Known},
};

/// What knowing an inode takes, about.
const INODE_COST: u64 = 512;

impl Client {
    /// The kernel gives back lookups of a number.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.let_loose(ino, self.table.forget(ino, count));
    }

    /// Keeps an inode for somebody in this process.
    pub(super) fn pin(&self, ino: Ino) {
        self.table.pin(ino);
    }

    pub(super) fn unpin(&self, ino: Ino) {
        self.let_loose(ino, self.table.unpin(ino));
    }

    /// One who knew `ino` does not any more, and `gone` are unknown with that.
    fn let_loose(&self, ino: Ino, gone: Vec<Ino>) {
        if !gone.contains(&ino) {
            self.drop_unseen_data(ino);
        }
        gone.into_iter().for_each(|ino| self.forgotten(ino));
    }

    fn forgotten(&self, ino: Ino) {
        let mut state = self.lock();
        state.belief.forget(ino);
        state.errors.remove(&ino);
        state.watched.remove(&ino);
        state.nameless.remove(&ino);
        state.unsynced.remove(&ino);
        let closing = state.writers.remove(&ino);
        drop(state);
        drop(closing);
        self.released(INODE_COST);
    }
}

/// A node with one lookup counted, so that it cannot vanish; gives the lookup back unless it is handed to the kernel.
pub(super) struct Looked<'a> {
    pub(super) client: &'a Client,
    pub(super) id: NodeId,
    /// Attributes that came with the lookup, as this client sees them.
    pub(super) view: Option<Attributes>,
}

impl Looked<'_> {
    pub(super) fn ino(&self) -> Ino {
        self.id.ino
    }

    pub(super) fn with_view(mut self, view: Option<Attributes>) -> Self {
        self.view = view;
        self
    }

    pub(super) fn known(&self) -> Known {
        Known { ino: self.id.ino, serial: self.id.serial }
    }

    /// Hands the lookup to the kernel, which will `forget` it.
    pub(super) fn keep(self) -> Ino {
        let ino = self.id.ino;
        std::mem::forget(self);
        ino
    }
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        self.client.forget(self.id.ino, 1);
    }
}
