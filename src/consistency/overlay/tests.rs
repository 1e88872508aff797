//! What `overlay.rs` promises.

use super::*;
use crate::{consistency::attributes::AttributeChange, time::Timestamp};

const ROOT: Ino = 1;
const DIRECTORY: Ino = 2;
const FILE: Ino = 10;
const OTHER: Ino = 11;

/// An overlay and the mutations in it.
#[derive(Default)]
struct Laid {
    overlay: Overlay,
    mutations: Vec<Mutation>,
}

impl Laid {
    /// Adds the next change: the first has the number 1 and the stamp of second 1.
    fn add(&mut self, change: Change) -> &mut Laid {
        let id = self.mutations.len() as MutationId + 1;
        let mutation = Mutation { id, change, stamp: second(id as i64) };
        self.overlay.add(&mutation);
        self.mutations.push(mutation);
        self
    }

    fn land(&mut self, id: usize) -> &mut Laid {
        self.overlay.remove(&self.mutations[id - 1]);
        self
    }

    fn view(&self, ino: Ino, base: Attributes) -> Attributes {
        self.overlay.view(ino, &base, true)
    }

    fn size(&self, base: u64) -> u64 {
        self.view(FILE, file(base)).size
    }

    fn permissions(&self, base: u32) -> u32 {
        self.view(FILE, Attributes { permissions: base, ..file(0) }).permissions
    }

    fn names(&self, directory: Ino) -> Vec<(String, Binding)> {
        let names = self.overlay.names_in(directory);
        names.map(|(name, binding)| (String::from_utf8_lossy(name).into_owned(), binding)).collect()
    }

    fn content(&self, base: &str) -> String {
        let mut buffer = base.as_bytes().to_vec();
        buffer.resize(self.size(base.len() as u64) as usize, 0);
        self.overlay.content(FILE, 0..buffer.len() as u64).lay_over(&mut buffer, 0);
        String::from_utf8(buffer).unwrap().replace('\0', ".")
    }
}

fn laid(changes: impl IntoIterator<Item = Change>) -> Laid {
    let mut laid = Laid::default();
    for change in changes {
        laid.add(change);
    }
    laid
}

fn second(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn attributes(kind: Kind, size: u64) -> Attributes {
    Attributes::new(kind, 0o755, (0, 0), 0, size, second(0))
}

fn file(size: u64) -> Attributes {
    attributes(Kind::File, size)
}

fn at(name: &str) -> Place {
    Place::new(ROOT, name.as_bytes())
}

fn inside(name: &str) -> Place {
    Place::new(DIRECTORY, name.as_bytes())
}

fn present(ino: Ino, kind: Kind) -> Binding {
    Binding::Present { ino, kind }
}

fn make(place: Place, ino: Ino, kind: Kind) -> Change {
    let (attributes, target) = (attributes(kind, 0), b"text"[..].into());
    Change::Make { place, ino, attributes, target, inherited: [].into() }
}

fn write(offset: u64, text: &str) -> Change {
    Change::Write { ino: FILE, offset, data: text.as_bytes().into(), clears: 0 }
}

fn resize(size: u64) -> Change {
    Change::Resize { ino: FILE, size, clears: 0 }
}

fn allocate(mode: i32, offset: u64, length: u64) -> Change {
    Change::Allocate { ino: FILE, mode, offset, length, clears: 0 }
}

fn chmod(permissions: u32) -> Change {
    let change = AttributeChange { permissions: Some(permissions), ..AttributeChange::default() };
    Change::SetAttributes { ino: FILE, change, owner: None }
}

fn set_xattr(name: &str, value: Option<&str>) -> Change {
    let value = value.map(|value| value.as_bytes().into());
    Change::SetXattr { ino: FILE, name: name.as_bytes().into(), value, owner: None }
}

fn rename(from: Place, to: Place, kind: Kind, replaced: Option<Ino>, how: RenameHow) -> Change {
    Change::Rename { from, to, ino: FILE, kind, replaced: replaced.map(|ino| (ino, kind)), how }
}

#[test]
fn a_new_file_is_there_until_its_making_has_landed() {
    let mut laid = laid([make(at("a"), FILE, Kind::File)]);
    assert_eq!(laid.overlay.name(&at("a")), Some(present(FILE, Kind::File)));
    assert_eq!(laid.overlay.name(&at("b")), None);
    assert_eq!(laid.overlay.unlanded(FILE), Some(&file(0)));
    assert!(laid.overlay.touches(FILE) && laid.overlay.touches(ROOT) && !laid.overlay.touches(OTHER));
    laid.land(1);
    assert_eq!(laid.overlay.unlanded(FILE), None);
    assert!(laid.overlay.is_empty());
}

#[test]
fn a_new_symlink_has_its_text_until_it_has_landed() {
    let mut laid = laid([make(at("a"), FILE, Kind::Symlink), chmod(0o777)]);
    assert_eq!(laid.overlay.target(FILE).as_deref(), Some(&b"text"[..]));
    assert_eq!(laid.land(1).overlay.target(FILE), None, "the store answers");
}

#[test]
fn the_last_change_of_a_name_counts_until_it_has_landed() {
    let unlink = Change::Unlink { place: at("a"), ino: FILE };
    let mut laid = laid([make(at("a"), FILE, Kind::File), unlink, make(at("a"), OTHER, Kind::Fifo)]);
    let last = [("a".to_owned(), present(OTHER, Kind::Fifo))];
    assert_eq!(laid.names(ROOT), last);
    assert_eq!(laid.land(1).land(2).names(ROOT), last);
    assert_eq!(laid.land(3).names(ROOT), []);
}

#[test]
fn a_removed_name_is_absent() {
    let mut laid = laid([Change::RemoveDirectory { place: at("d"), ino: DIRECTORY }]);
    assert_eq!(laid.overlay.name(&at("d")), Some(Binding::Absent));
    assert_eq!(laid.land(1).overlay.name(&at("d")), None);
}

#[test]
fn a_rename_over_a_file_takes_a_link_from_it() {
    let laid = laid([rename(at("a"), inside("b"), Kind::File, Some(OTHER), RenameHow::Replace)]);
    assert_eq!(laid.names(ROOT), [("a".to_owned(), Binding::Absent)]);
    assert_eq!(laid.names(DIRECTORY), [("b".to_owned(), present(FILE, Kind::File))]);
    assert_eq!((laid.view(OTHER, file(0)).links, laid.view(FILE, file(0)).links), (0, 1));
    let touched = [ROOT, DIRECTORY].map(|ino| laid.view(ino, attributes(Kind::Directory, 0)));
    assert_eq!(touched.map(|view| (view.links, view.mtime, view.ctime)), [(2, second(1), second(1)); 2]);
    assert_eq!(laid.view(OTHER, file(0)).ctime, second(1), "losing a name is a change");
}

#[test]
fn an_exchange_leaves_the_other_behind() {
    let laid = laid([rename(at("a"), inside("b"), Kind::File, Some(OTHER), RenameHow::Exchange)]);
    assert_eq!(laid.names(ROOT), [("a".to_owned(), present(OTHER, Kind::File))]);
    assert_eq!(laid.names(DIRECTORY), [("b".to_owned(), present(FILE, Kind::File))]);
    assert_eq!(laid.view(OTHER, file(0)).links, 1);
}

#[test]
fn files_count_their_names_as_links() {
    let link = Change::Link { ino: FILE, kind: Kind::File, place: at("b") };
    let unlink = |name| Change::Unlink { place: at(name), ino: FILE };
    let mut laid = laid([link, unlink("a")]);
    assert_eq!(laid.view(FILE, file(0)).links, 1);
    assert_eq!(laid.land(1).view(FILE, Attributes { links: 2, ..file(0) }).links, 1);
    assert_eq!(laid.add(unlink("b")).view(FILE, Attributes { links: 2, ..file(0) }).links, 0);
}

#[test]
fn directories_count_the_directories_in_them_as_links() {
    let links = |laid: &Laid, ino, links| {
        laid.view(ino, Attributes { links, ..attributes(Kind::Directory, 0) }).links
    };
    let made = laid([make(inside("d"), 5, Kind::Directory), make(inside("f"), FILE, Kind::File)]);
    assert_eq!((links(&made, DIRECTORY, 2), links(&made, 5, 2)), (3, 2));
    let removed = laid([Change::RemoveDirectory { place: inside("d"), ino: 5 }]);
    assert_eq!((links(&removed, DIRECTORY, 3), links(&removed, 5, 2)), (2, 0));
    let moved = laid([rename(inside("d"), at("d"), Kind::Directory, None, RenameHow::Replace)]);
    assert_eq!((links(&moved, DIRECTORY, 3), links(&moved, ROOT, 3)), (2, 4));
    let over = laid([rename(inside("d"), at("e"), Kind::Directory, Some(5), RenameHow::Replace)]);
    assert_eq!([DIRECTORY, ROOT, 5].map(|ino| links(&over, ino, 3)), [2, 3, 1]);
    let swapped = laid([rename(inside("d"), at("e"), Kind::Directory, Some(5), RenameHow::Exchange)]);
    assert_eq!([DIRECTORY, ROOT, 5].map(|ino| links(&swapped, ino, 3)), [3, 3, 3]);
}

#[test]
fn a_write_past_the_end_makes_a_file_longer_and_no_write_makes_it_shorter() {
    let mut laid = laid([write(3, "xy")]);
    assert_eq!([0, 4, 5, 6].map(|base| laid.size(base)), [5, 5, 5, 6]);
    assert_eq!(laid.land(1).size(0), 0);
}

#[test]
fn sizes_follow_the_last_truncation_and_the_writes_after_it() {
    let mut laid = laid([write(0, "0123456789"), resize(3), write(6, "x"), write(4, "y")]);
    assert_eq!(laid.size(20), 7);
    assert_eq!(laid.land(1).size(20), 7);
    assert_eq!(laid.land(2).size(3), 7);
    assert_eq!(laid.land(3).size(7), 7);
    assert_eq!(laid.size(0), 5, "of the last write");
    assert_eq!(laid.land(4).size(7), 7);
    assert!(laid.overlay.is_empty());
}

#[test]
fn an_allocation_makes_a_file_longer_unless_it_keeps_the_size() {
    assert_eq!(laid([allocate(0, 4, 6)]).size(0), 10);
    assert_eq!(laid([allocate(KEEP_SIZE, 4, 6)]).size(0), 0);
    assert_eq!(laid([allocate(PUNCH_HOLE | KEEP_SIZE, 4, 6)]).size(0), 0);
}

#[test]
fn content_is_what_was_written_last() {
    let mut laid = laid([write(1, "bbbb"), write(2, "cc")]);
    assert_eq!(laid.content("aaaaaaa"), "abccbaa");
    assert_eq!(laid.land(1).content("abbbbaa"), "abccbaa");
    assert_eq!(laid.land(2).content("abccbaa"), "abccbaa");
    assert!(!laid.overlay.has_data(FILE));
}

#[test]
fn what_a_truncation_cut_off_does_not_come_back() {
    let mut laid = laid([resize(2), resize(6), write(7, "z")]);
    assert_eq!(laid.content("aaaa"), "aa.....z");
    assert_eq!(laid.land(1).content("aa"), "aa.....z");
    assert_eq!(laid.land(2).content("aa...."), "aa.....z");
}

#[test]
fn a_hole_reads_as_zeros_and_an_allocation_as_what_was_there() {
    assert_eq!(laid([allocate(PUNCH_HOLE | KEEP_SIZE, 1, 2)]).content("aaaa"), "a..a");
    assert_eq!(laid([allocate(0, 1, 2)]).content("aaaa"), "aaaa");
}

#[test]
fn a_size_alone_and_a_hole_alone_are_data_and_attributes_are_not() {
    let has_data = |change| laid([change]).overlay.has_data(FILE);
    assert!(has_data(allocate(0, 4, 6)) && has_data(allocate(PUNCH_HOLE | KEEP_SIZE, 4, 6)));
    assert!(!has_data(chmod(0o600)) && !has_data(make(at("a"), FILE, Kind::File)));
}

#[test]
fn without_own_data_sizes_and_blocks_are_those_of_the_store() {
    let laid = laid([write(0, "0123456789"), chmod(0o600)]);
    let view = laid.overlay.view(FILE, &file(3), false);
    assert_eq!((view.size, view.blocks, view.permissions), (3, 0, 0o600));
    assert!(laid.overlay.has_data(FILE));
}

#[test]
fn data_in_flight_occupies_blocks_but_no_more_than_the_file_has_room_for() {
    let blocks = |changes: &[Change], base: Attributes| laid(changes.to_vec()).view(FILE, base).blocks;
    assert_eq!(blocks(&[write(0, "x")], file(0)), 8);
    assert_eq!(blocks(&[write(0, "x"), write(0, "x")], file(0)), 8);
    assert_eq!(blocks(&[write(1 << 20, "x")], file(0)), 8, "the rest is a hole");
    assert_eq!(blocks(&[allocate(0, 0, 8_193)], file(0)), 24);
    assert_eq!(blocks(&[resize(1)], Attributes { blocks: 80, ..file(40_000) }), 8);
    assert_eq!(blocks(&[chmod(0)], Attributes { blocks: 80, ..file(40_000) }), 80);
}

#[test]
fn a_write_takes_capabilities_away_until_they_are_given_again() {
    let give = || set_xattr("security.capability", Some("all"));
    let mut laid = laid([give()]);
    let capability = |laid: &Laid| laid.overlay.xattr(FILE, b"security.capability");
    assert_eq!(capability(&laid), Some(Some(b"all"[..].into())));
    laid.add(write(0, "x"));
    assert_eq!(
        (capability(&laid), laid.overlay.xattrs(FILE)),
        (Some(None), vec![(b"security.capability"[..].into(), false)])
    );
    laid.add(give());
    assert_eq!(capability(&laid), Some(Some(b"all"[..].into())));
    assert_eq!(capability(laid.land(1).land(2).land(3)), None);
}

#[test]
fn a_write_by_another_clears_setuid_and_setgid_until_they_are_set_again() {
    let clearing = Change::Write { ino: FILE, offset: 0, data: b"x"[..].into(), clears: 0o6000 };
    let mut laid = laid([write(0, "x")]);
    assert_eq!(laid.permissions(0o6755), 0o6755);
    assert_eq!(laid.add(clearing).permissions(0o6755), 0o755);
    assert_eq!(laid.add(chmod(0o4711)).permissions(0o6755), 0o4711);
    let allocating = Change::Allocate { ino: FILE, mode: 0, offset: 0, length: 1, clears: 0o6000 };
    assert_eq!(laid.add(allocating).permissions(0o6755), 0o711);
    assert_eq!(laid.land(1).land(2).land(3).permissions(0o4711), 0o711);
    assert_eq!(laid.land(4).permissions(0o4711), 0o4711);
}

#[test]
fn attributes_that_are_set_hide_those_below_one_by_one() {
    let owner = AttributeChange { uid: Some(7), gid: Some(8), ..AttributeChange::default() };
    let times =
        AttributeChange { atime: Some(second(70)), mtime: Some(second(80)), ..AttributeChange::default() };
    let set = |change| Change::SetAttributes { ino: FILE, change, owner: None };
    let mut laid = laid([set(owner), set(times)]);
    let view = laid.view(FILE, file(0));
    assert_eq!((view.permissions, view.uid, view.gid), (0o755, 7, 8));
    assert_eq!((view.atime, view.mtime, view.ctime), (second(70), second(80), second(2)));
    let view = laid.land(1).view(FILE, file(0));
    assert_eq!((view.uid, view.gid, view.mtime), (0, 0, second(80)));
    assert_eq!(laid.land(2).view(FILE, file(0)), file(0));
}

#[test]
fn data_changes_both_times_and_names_only_one() {
    let times = |change| {
        let view = laid([change]).view(FILE, file(0));
        (view.atime, view.mtime, view.ctime)
    };
    let (before, now) = (second(0), second(1));
    for change in [write(0, "x"), resize(0), allocate(KEEP_SIZE, 0, 1)] {
        assert_eq!(times(change.clone()), (before, now, now), "{change:?}");
    }
    let link = Change::Link { ino: FILE, kind: Kind::File, place: at("b") };
    let unlink = Change::Unlink { place: at("a"), ino: FILE };
    let moved = rename(at("a"), at("b"), Kind::File, None, RenameHow::Replace);
    for change in [chmod(0o600), set_xattr("user.a", None), link, unlink, moved] {
        assert_eq!(times(change.clone()), (before, before, now), "{change:?}");
    }
}

#[test]
fn extended_attributes_are_set_and_go() {
    let mut laid =
        laid([set_xattr("user.a", Some("1")), set_xattr("user.b", Some("2")), set_xattr("user.a", None)]);
    assert_eq!(laid.overlay.xattr(FILE, b"user.a"), Some(None));
    assert_eq!(laid.overlay.xattr(FILE, b"user.b"), Some(Some(b"2"[..].into())));
    assert_eq!(laid.overlay.xattr(FILE, b"user.c"), None);
    assert_eq!(laid.overlay.xattrs(FILE), [(b"user.a"[..].into(), false), (b"user.b"[..].into(), true)]);
    assert_eq!(laid.land(1).overlay.xattr(FILE, b"user.a"), Some(None));
    assert_eq!(laid.land(2).land(3).overlay.xattrs(FILE), []);
    assert!(laid.overlay.is_empty());
}
