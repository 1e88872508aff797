//! The nodes behind the lock of the table: found, placed, counted and taken out.

use std::hash::BuildHasher;

use super::{Guesses, Inner, Ino, Node, NodeId, Place, ROOT, Reach, TYPE_BITS};
use crate::{
    backing::sys::{Identity, Result, Stat},
    error::Error,
    hashing::Hasher,
};

impl Guesses {
    /// Enough for the directories that are in use at the same time.
    pub(super) const MOST: usize = 1024;

    pub(super) fn get(&self, directory: Ino, name: &[u8]) -> Option<Ino> {
        let hash = Hasher::default().hash_one((directory, name));
        let (guessed, ino) = self.0[hash as usize % Guesses::MOST];
        (guessed == hash).then_some(ino)
    }

    pub(super) fn set(&mut self, directory: Ino, name: &[u8], ino: Ino) {
        let hash = Hasher::default().hash_one((directory, name));
        self.0[hash as usize % Guesses::MOST] = (hash, ino);
    }
}

impl Place {
    pub(super) fn is(&self, directory: Ino, name: &[u8]) -> bool {
        self.directory == directory && *self.name == *name
    }
}

impl Node {
    /// Where it is in the backing directory.
    pub(super) fn in_backing(&self) -> &Place {
        self.backing_place.as_deref().unwrap_or(&self.place)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.reach, Reach::Descriptor(_))
    }

    /// Whether neither the kernel nor this process uses it.
    pub(super) fn is_left_alone(&self) -> bool {
        self.lookups == 0 && self.pins == 0
    }

    pub(super) fn is_unused(&self) -> bool {
        self.is_left_alone() && self.children == 0 && !self.lingers
    }
}

pub(super) fn number_of(identity: &Identity) -> (u64, u64) {
    (identity.device, identity.ino)
}

impl Inner {
    pub(super) fn find(&self, identity: &Identity) -> Option<Ino> {
        let is_it = |ino: &Ino| self.nodes.get(ino).is_some_and(|node| node.identity == Some(*identity));
        let private = || self.by_number.get(&number_of(identity)).copied();
        Some(identity.ino).filter(is_it).or_else(|| private().filter(is_it))
    }

    /// The node behind a number, the one place where a number is found to lead nowhere.
    pub(super) fn known(&self, ino: Ino) -> Result<&Node> {
        self.nodes.get(&ino).map(Box::as_ref).ok_or(Error::Stale)
    }

    /// The real inode behind a number, the one place where it is found to have none (yet).
    pub(super) fn landed(&self, ino: Ino) -> Result<Identity> {
        self.known(ino)?.identity.ok_or(Error::Stale)
    }

    pub(super) fn node(&mut self, ino: Ino) -> &mut Node {
        self.nodes.get_mut(&ino).expect("callers have just found or made this node")
    }

    /// A lookup has found a node at this place.
    pub(super) fn found_at(&mut self, ino: Ino, directory: Ino, name: &[u8]) -> NodeId {
        self.guesses.set(directory, name, ino);
        let node = self.node(ino);
        node.lookups += 1;
        node.warm = true;
        let (serial, is_settled) = (node.serial, node.backing_place.is_none());
        if is_settled {
            self.move_to(ino, directory, name);
        }
        NodeId { ino, serial }
    }

    /// Lets programs find a node somewhere else.
    pub(super) fn move_to(&mut self, ino: Ino, directory: Ino, name: &[u8]) {
        let Some(node) = self.nodes.get_mut(&ino).filter(|node| !node.place.is(directory, name)) else {
            return;
        };
        let left = std::mem::replace(&mut node.place, Place { directory, name: name.into() });
        self.has_child(directory);
        self.lost_child(left.directory);
    }

    /// Lets the backing directory have a node somewhere else than programs do, or in the same place again.
    pub(super) fn set_backing_place(&mut self, ino: Ino, place: Option<Place>) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        let entered = place.as_ref().map(|place| place.directory);
        let left = std::mem::replace(&mut node.backing_place, place.map(Box::new));
        entered.into_iter().for_each(|directory| self.has_child(directory));
        left.into_iter().for_each(|place| self.lost_child(place.directory));
    }

    pub(super) fn landed_at(&mut self, ino: Ino, directory: Ino, name: &[u8]) {
        let Some(node) = self.nodes.get(&ino) else { return };
        let caught_up = node.place.is(directory, name);
        self.set_backing_place(ino, (!caught_up).then(|| Place { directory, name: name.into() }));
    }

    pub(super) fn has_child(&mut self, directory: Ino) {
        if let Some(node) = self.nodes.get_mut(&directory) {
            node.children += 1;
        }
    }

    pub(super) fn lost_child(&mut self, directory: Ino) {
        let Some(node) = self.nodes.get_mut(&directory) else { return };
        node.children = node.children.saturating_sub(1);
        if node.is_unused() {
            self.abandoned.push(directory);
        }
    }

    pub(super) fn private_number(&mut self) -> Ino {
        while self.nodes.contains_key(&self.next_private) {
            self.next_private += 1;
        }
        self.next_private += 1;
        self.next_private - 1
    }

    /// Makes a node for a real inode, under its own number where that is free.
    pub(super) fn add(&mut self, device: u64, stat: &Stat, directory: Ino, name: &[u8]) -> Ino {
        let own = stat.identity.ino;
        let free = stat.identity.device == device && own > ROOT && !self.nodes.contains_key(&own);
        let ino = if free { own } else { self.private_number() };
        self.insert(ino, Some(stat.identity), stat.mode & TYPE_BITS, directory, name);
        let number = number_of(&stat.identity);
        if free {
            self.by_number.remove(&number);
        } else {
            self.by_number.insert(number, ino);
        }
        ino
    }

    pub(super) fn insert(
        &mut self,
        ino: Ino,
        identity: Option<Identity>,
        kind: u32,
        directory: Ino,
        name: &[u8],
    ) {
        self.last_serial += 1;
        let node = Box::new(Node {
            serial: self.last_serial,
            identity,
            kind,
            lookups: 0,
            pins: 0,
            lingers: false,
            children: 0,
            place: Place { directory, name: name.into() },
            backing_place: None,
            reach: Reach::Place,
            warm: true,
        });
        self.nodes.insert(ino, node);
        self.has_child(directory);
    }

    /// Takes out a node, and whatever else nobody needs any more.
    pub(super) fn take_unused(&mut self, ino: Ino) -> Vec<(Ino, Box<Node>)> {
        let mut gone = Vec::new();
        let mut next = Some(ino);
        while let Some(ino) = next {
            if self.nodes.get(&ino).is_some_and(|node| node.is_unused())
                && let Some(node) = self.take(ino)
            {
                gone.push((ino, node));
            }
            next = self.abandoned.pop();
        }
        gone
    }

    pub(super) fn take(&mut self, ino: Ino) -> Option<Box<Node>> {
        let node = self.nodes.remove(&ino)?;
        self.lost_child(node.place.directory);
        if let Some(place) = &node.backing_place {
            self.lost_child(place.directory);
        }
        if node.is_held() {
            self.descriptors -= 1;
        }
        if let Some(number) = node.identity.as_ref().map(number_of)
            && self.by_number.get(&number) == Some(&ino)
        {
            self.by_number.remove(&number);
        }
        if self.opened.len() > 2 * self.descriptors + 1024 {
            let nodes = &self.nodes;
            self.opened.retain(|(ino, serial)| nodes.get(ino).is_some_and(|node| node.serial == *serial));
        }
        Some(node)
    }
}
