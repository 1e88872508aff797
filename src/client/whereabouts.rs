//! Where inodes are, for this client's programs and in the backing directory: it follows a change as it is made, lands or is
//! dropped.

use super::Client;
use crate::{
    backing::{ROOT, Stat},
    consistency::{Change, Ino, Place, RenameHow},
};

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progressed {
    /// It is in flight: this client's programs see it, the backing directory has not got it yet.
    Acknowledged,
    /// It has landed.
    Landed,
    /// It was made in the backing directory before its call returned.
    Through,
    /// It was dropped, and never was.
    Dropped,
}

impl Client {
    /// Takes in how far a change has come. Only a rename takes an inode elsewhere.
    pub(super) fn follow(&self, change: &Change, progressed: Progressed) {
        let Change::Rename { from, to, ino, replaced, how, .. } = change else { return };
        let swapped = replaced.filter(|_| *how == RenameHow::Exchange);
        let moves = [Some((*ino, from, to)), swapped.map(|(other, _)| (other, to, from))];
        for (ino, from, to) in moves.into_iter().flatten() {
            match progressed {
                Progressed::Acknowledged => self.table.moved(ino, to.directory, &to.name, false),
                Progressed::Landed => self.table.landed_at(ino, to.directory, &to.name),
                Progressed::Through => self.table.moved(ino, to.directory, &to.name, true),
                Progressed::Dropped => self.table.moved(ino, from.directory, &from.name, true),
            }
        }
    }

    /// Where what is changed is then, or was: of a move where it goes.
    pub(super) fn path_of_change(&self, change: &Change) -> Vec<u8> {
        match change.places().last() {
            Some(place) => self.path_of(place),
            None => self.table.path(change.subject()),
        }
    }

    /// The directories above an inode, as programs know them, up to the root.
    pub(super) fn ancestors(&self, ino: Ino) -> Vec<Ino> {
        let mut ancestors = vec![self.table.parent(ino)];
        // A loop can appear for a moment while two directories move; no real path is this deep.
        while let Some(&last) = ancestors.last()
            && last != ROOT
            && ancestors.len() < 4096
        {
            ancestors.push(self.table.parent(last));
        }
        ancestors
    }

    /// A rename went through without anybody asking which inode it moved here: if this one is known, it is known here from
    /// now on.
    pub(super) fn follow_unseen(&self, place: &Place, found: &Stat) {
        if let Some(ino) = self.table.number(&found.identity) {
            self.table.moved(ino, place.directory, &place.name, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::bench::{Bench, CALLER},
        knobs::Knobs,
    };

    /// A client that has exchanged `/d/one` and `/e/two` in flight, and their inodes.
    fn exchanged() -> (Bench, [u64; 2]) {
        let bench = Bench::new(Knobs::default());
        let inodes = [("d", "one"), ("e", "two")].map(|(directory, name)| {
            std::fs::create_dir(bench.folder.path().join(directory)).expect("a directory");
            std::fs::write(bench.folder.path().join(directory).join(name), name).expect("a file");
            let above = bench.client.lookup(&CALLER, ROOT, directory.as_bytes()).now().expect("it is there");
            let file = bench.client.lookup(&CALLER, above.ino, name.as_bytes()).now().expect("it is there");
            (above.ino, file.ino)
        });
        let [(d, one), (e, two)] = inodes;
        let exchange = bench.client.rename(&CALLER, (d, b"one"), (e, b"two"), RenameHow::Exchange);
        assert_eq!(exchange.now(), Ok(()));
        assert_eq!(paths(&bench, [one, two]), ["/e/two", "/d/one"]);
        (bench, [one, two])
    }

    fn paths(bench: &Bench, inodes: [u64; 2]) -> [String; 2] {
        inodes.map(|ino| String::from_utf8(bench.client.table.path(ino)).expect("plain names"))
    }

    #[test]
    fn both_inodes_of_an_exchange_are_where_it_brought_them_when_it_has_landed() {
        let (bench, inodes) = exchanged();
        bench.advance(1200);
        assert_eq!(paths(&bench, inodes), ["/e/two", "/d/one"]);
        assert_eq!(std::fs::read(bench.folder.path().join("d/one")).expect("it is there"), b"two");
    }

    #[test]
    fn both_inodes_of_an_exchange_are_where_they_were_when_it_is_lost() {
        let (bench, inodes) = exchanged();
        assert_eq!(bench.client.lose(), ["/d/one: rename"]);
        assert_eq!(paths(&bench, inodes), ["/d/one", "/e/two"]);
    }

    #[test]
    fn both_inodes_of_an_exchange_are_where_they_were_when_others_have_made_it_impossible() {
        let (bench, inodes) = exchanged();
        std::fs::remove_file(bench.folder.path().join("d/one")).expect("it is there");
        bench.advance(1200);
        assert_eq!(bench.logged("event=conflict mutation=rename path=/d/one"), 1);
        assert_eq!(paths(&bench, inodes), ["/d/one", "/e/two"]);
    }
}
