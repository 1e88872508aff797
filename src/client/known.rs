//! Which inodes are in use: by the kernel, which counts lookups, and by this process, which pins them.

use super::Client;
use crate::{
    backing::{Dropped, NodeId},
    consistency::{Attributes, Ino, Known},
};

/// What knowing an inode takes, about.
pub(super) const INODE_COST: u64 = 512;

impl Client {
    /// The kernel gives back lookups of a number.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.after_drop(ino, self.table.forget(ino, count, self.lets_linger()));
    }

    /// Keeps an inode for somebody in this process.
    pub(super) fn pin(&self, ino: Ino) {
        self.table.pin(ino);
    }

    pub(super) fn unpin(&self, ino: Ino) {
        self.after_drop(ino, self.table.unpin(ino, self.lets_linger()));
    }

    /// A reference to `ino` was dropped, with this effect.
    fn after_drop(&self, ino: Ino, effect: Dropped) {
        if effect.begins_to_linger {
            self.linger(ino);
        } else if !effect.gone.contains(&ino) {
            self.drop_unseen_data(ino);
        }
        effect.gone.into_iter().for_each(|ino| self.forgotten(ino));
    }

    /// The number is free: nothing that is known of the inode is of use any more.
    pub(super) fn forgotten(&self, ino: Ino) {
        let mut state = self.lock();
        state.lingering.end(ino);
        state.belief.forget(ino);
        let record = state.records.take(ino, std::mem::take);
        drop(state);
        drop(record);
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
