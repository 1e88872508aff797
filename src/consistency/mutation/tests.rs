//! What `mutation.rs` promises.

use super::*;

const DIRECTORY: Ino = 2;
const OTHER_DIRECTORY: Ino = 3;
const SUBJECT: Ino = 10;
const REPLACED: Ino = 11;

fn place(name: &str) -> Place {
    Place::new(DIRECTORY, name.as_bytes())
}

fn elsewhere(name: &str) -> Place {
    Place::new(OTHER_DIRECTORY, name.as_bytes())
}

fn rename(to: Place, kind: Kind, replaced: Option<Kind>, how: RenameHow) -> Change {
    let replaced = replaced.map(|kind| (REPLACED, kind));
    Change::Rename { from: place("a"), to, ino: SUBJECT, kind, replaced, how }
}

fn make(kind: Kind) -> Change {
    let attributes = Attributes::new(kind, 0o644, (0, 0), 0, 0, Timestamp::default());
    Change::Make { place: place("a"), ino: SUBJECT, attributes, target: [].into(), inherited: [].into() }
}

fn write(offset: u64, text: &str) -> Change {
    Change::Write { ino: SUBJECT, offset, data: text.as_bytes().into(), clears: 0 }
}

fn set_xattr(value: Option<&str>) -> Change {
    let value = value.map(|value| value.as_bytes().into());
    Change::SetXattr { ino: SUBJECT, name: b"user.a"[..].into(), value, owner: None }
}

fn allocate(mode: i32) -> Change {
    Change::Allocate { ino: SUBJECT, mode, offset: 4, length: 6, clears: 0 }
}

/// What a change touches besides its names and their directories.
fn besides_names(change: &Change) -> Vec<(Thing, Access)> {
    let mut touches = change.touches();
    for place in change.places() {
        for thing in
            [(Thing::Name(place.clone()), Access::Change), (Thing::Inode(place.directory), Access::Use)]
        {
            let at = touches.iter().position(|touch| *touch == thing).expect("every name and its directory");
            touches.remove(at);
        }
    }
    touches
}

#[test]
fn what_makes_or_changes_an_inode_changes_it() {
    let resize = Change::Resize { ino: SUBJECT, size: 1, clears: 0 };
    let chmod = Change::SetAttributes { ino: SUBJECT, change: AttributeChange::default(), owner: None };
    let remove = Change::RemoveDirectory { place: place("a"), ino: SUBJECT };
    let changes = [make(Kind::File), write(0, "x"), resize, allocate(0), chmod, set_xattr(None), remove];
    for change in changes {
        assert_eq!(besides_names(&change), [(Thing::Inode(SUBJECT), Access::Change)], "{change:?}");
    }
}

#[test]
fn a_link_needs_its_file_and_adds_a_name_that_an_unlink_takes_away() {
    let link = Change::Link { ino: SUBJECT, kind: Kind::File, place: place("b") };
    let needs = [(Thing::Inode(SUBJECT), Access::Need), (Thing::Links(SUBJECT), Access::Use)];
    assert_eq!(besides_names(&link), needs);
    let unlink = Change::Unlink { place: place("a"), ino: SUBJECT };
    assert_eq!(besides_names(&unlink), [(Thing::Links(SUBJECT), Access::Change)]);
}

#[test]
fn a_file_that_moves_needs_what_it_is_and_takes_a_name_from_what_it_replaces() {
    let need = || (Thing::Inode(SUBJECT), Access::Need);
    for to in [place("b"), elsewhere("b")] {
        let free = rename(to.clone(), Kind::File, None, RenameHow::NoReplace);
        assert_eq!(besides_names(&free), [need()]);
        let over = rename(to, Kind::File, Some(Kind::File), RenameHow::Replace);
        assert_eq!(besides_names(&over), [need(), (Thing::Links(REPLACED), Access::Change)]);
    }
}

#[test]
fn a_directory_that_is_replaced_is_changed_as_if_removed() {
    let over = rename(place("b"), Kind::Directory, Some(Kind::Directory), RenameHow::Replace);
    let expected = [(Thing::Inode(SUBJECT), Access::Need), (Thing::Inode(REPLACED), Access::Change)];
    assert_eq!(besides_names(&over), expected);
}

#[test]
fn a_directory_that_moves_to_another_changes_the_tree_and_uses_itself() {
    let stays = rename(place("b"), Kind::Directory, None, RenameHow::Replace);
    assert_eq!(besides_names(&stays), [(Thing::Inode(SUBJECT), Access::Need)]);
    let moves = rename(elsewhere("b"), Kind::Directory, None, RenameHow::Replace);
    let expected = [(Thing::Inode(SUBJECT), Access::Use), (Thing::Tree, Access::Change)];
    assert_eq!(besides_names(&moves), expected);
}

#[test]
fn an_exchange_needs_both_and_takes_no_name_away() {
    let files = rename(place("b"), Kind::File, Some(Kind::File), RenameHow::Exchange);
    let expected = [(Thing::Inode(SUBJECT), Access::Need), (Thing::Inode(REPLACED), Access::Need)];
    assert_eq!(besides_names(&files), expected);
    let mixed = rename(elsewhere("b"), Kind::File, Some(Kind::Directory), RenameHow::Exchange);
    let expected = [
        (Thing::Inode(SUBJECT), Access::Need),
        (Thing::Inode(REPLACED), Access::Use),
        (Thing::Tree, Access::Change),
    ];
    assert_eq!(besides_names(&mixed), expected);
}

#[test]
fn setgid_that_does_not_run_anything_is_lost_only_to_strangers() {
    let lost = |is_in_group| [0o6755, 0o6745, 0o2700, 0o1777].map(|bits| setid_lost(bits, is_in_group));
    assert_eq!(lost(true), [0o6000, 0o4000, 0, 0]);
    assert_eq!(lost(false), [0o6000, 0o6000, 0o2000, 0]);
}

#[test]
fn only_an_exchange_is_about_two_inodes() {
    let exchange = rename(place("b"), Kind::File, Some(Kind::File), RenameHow::Exchange);
    assert_eq!(exchange.subjects(), [SUBJECT, REPLACED]);
    let over = rename(place("b"), Kind::File, Some(Kind::File), RenameHow::Replace);
    assert_eq!(over.subjects(), [SUBJECT]);
    assert_eq!(over.inodes(), [DIRECTORY, SUBJECT, REPLACED]);
    assert_eq!(write(0, "x").subjects(), [SUBJECT]);
}

#[test]
fn data_sizes_and_new_files_have_delays_of_their_own() {
    assert_eq!(make(Kind::File).delay_class(), DelayClass::NewFile);
    let resize = Change::Resize { ino: SUBJECT, size: 1, clears: 0 };
    assert_eq!(write(0, "x").delay_class(), DelayClass::Data);
    for change in [resize, allocate(0)] {
        assert_eq!(change.delay_class(), DelayClass::Size, "{}", change.verb());
    }
    let unlink = Change::Unlink { place: place("a"), ino: SUBJECT };
    for change in [make(Kind::Directory), make(Kind::Fifo), unlink, set_xattr(Some("x"))] {
        assert_eq!(change.delay_class(), DelayClass::Names, "{}", change.verb());
    }
}

#[test]
fn verbs_are_those_of_the_system_calls() {
    let verbs = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Socket].map(|kind| make(kind).verb());
    assert_eq!(verbs, ["create", "mkdir", "symlink", "mknod"]);
    assert_eq!([set_xattr(Some("x")).verb(), set_xattr(None).verb()], ["setxattr", "removexattr"]);
}

#[test]
fn only_data_and_values_count_as_bytes() {
    let bytes = [write(7, "four"), set_xattr(Some("xy")), set_xattr(None), allocate(0)].map(|c| c.bytes());
    assert_eq!(bytes, [4, 2, 0, 0]);
}

#[test]
fn an_allocation_decides_content_only_where_it_makes_zeros() {
    assert_eq!(write(7, "four").content_range(), Some(7..11));
    let resize = Change::Resize { ino: SUBJECT, size: 5, clears: 0 };
    assert_eq!(resize.content_range(), Some(5..u64::MAX));
    assert_eq!(allocate(PUNCH_HOLE | KEEP_SIZE).content_range(), Some(4..10));
    assert_eq!(allocate(ZERO_RANGE).content_range(), Some(4..10));
    assert_eq!(allocate(0).content_range(), None);
    assert_eq!(allocate(KEEP_SIZE).content_range(), None);
}

#[test]
fn a_change_costs_what_it_carries_and_something_for_itself() {
    let rename_to = |name: &str| rename(place(name), Kind::File, None, RenameHow::Replace).cost();
    assert_eq!(rename_to(&"n".repeat(200)) - rename_to(""), 3 * 200);
    assert_eq!(write(0, &"x".repeat(5000)).cost() - write(0, "").cost(), 5000);
    let symlink = |length: usize| Change::Make {
        place: place("a"),
        ino: SUBJECT,
        attributes: Attributes::new(Kind::Symlink, 0o777, (0, 0), 0, 0, Timestamp::default()),
        target: vec![b'x'; length].into(),
        inherited: [].into(),
    };
    assert!(symlink(4000).cost() - symlink(0).cost() >= 4000);
    let cheapest = [set_xattr(None), allocate(0), make(Kind::File)].iter().map(Change::cost).min();
    assert!(cheapest.is_some_and(|cost| cost >= 512));
}
