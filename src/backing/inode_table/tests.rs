//! What `inode_table.rs` promises.

use super::*;
use std::fs;

fn table() -> (tempfile::TempDir, InodeTable) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = sys::open_root(folder.path()).expect("a root");
    let share = Share::of(100, Box::leak(Box::default()));
    (folder, InodeTable::new(root, share).expect("a table"))
}

fn look_up(table: &InodeTable, directory: Ino, name: &str) -> Ino {
    let at = table.descriptor(directory).expect("a directory");
    let stat = sys::stat_at(at.as_fd(), name.as_bytes()).expect("a name");
    table.intern(&stat, None, directory, name.as_bytes()).ino
}

#[test]
fn a_directory_stays_for_as_long_as_a_node_is_found_in_it() {
    let (folder, table) = table();
    fs::create_dir_all(folder.path().join("d/e")).expect("folders");
    fs::write(folder.path().join("d/e/f"), "").expect("a file");
    let outer = look_up(&table, ROOT, "d");
    let inner = look_up(&table, outer, "e");
    let file = look_up(&table, inner, "f");
    assert_eq!((table.forget(outer, 1, false).gone, table.forget(inner, 1, false).gone), (vec![], vec![]));
    assert_eq!(table.path(file), b"/d/e/f");
    table.descriptor(file).expect("it is found by its name");
    assert_eq!(table.forget(file, 1, false).gone, [file, inner, outer]);
    assert_eq!(table.size().0, 1);
}

#[test]
fn a_directory_that_a_node_has_left_goes_with_the_next_that_is_forgotten() {
    let (folder, table) = table();
    for name in ["d", "e"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("d/f"), "").expect("a file");
    fs::hard_link(folder.path().join("d/f"), folder.path().join("e/g")).expect("a link");
    let (d, e) = (look_up(&table, ROOT, "d"), look_up(&table, ROOT, "e"));
    let file = look_up(&table, d, "f");
    assert_eq!(table.forget(d, 1, false).gone, [] as [Ino; 0]);
    assert_eq!(look_up(&table, e, "g"), file);
    assert_eq!((table.path(file), table.forget(e, 1, false).gone), (b"/e/g".to_vec(), vec![d]));
    assert_eq!(table.forget(file, 2, false).gone, [file, e]);
}

#[test]
fn a_rename_in_flight_keeps_both_directories() {
    let (folder, table) = table();
    for name in ["d", "e"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("d/f"), "").expect("a file");
    let (d, e) = (look_up(&table, ROOT, "d"), look_up(&table, ROOT, "e"));
    let file = look_up(&table, d, "f");
    table.moved(file, e, b"f", false);
    assert_eq!((table.forget(d, 1, false).gone, table.forget(e, 1, false).gone), (vec![], vec![]));
    table.descriptor(file).expect("it is found where it still is");
    table.landed_at(file, e, b"f");
    assert_eq!(table.forget(file, 1, false).gone, [file, e, d]);
    assert_eq!(table.size().0, 1);
}

#[test]
fn a_million_nodes_fit() {
    assert!(size_of::<Node>() <= 120, "{} bytes", size_of::<Node>());
    assert!(size_of::<FileHandle>() <= 24 && size_of::<Reach>() <= 24);
}

#[test]
fn whatever_is_closed_for_being_cold_is_found_again_where_it_is_now() {
    let (folder, table) = table();
    fs::write(folder.path().join("f"), "").expect("a file");
    let file = look_up(&table, ROOT, "f");
    for _ in 0..2 {
        let held = table.descriptor(file).expect("a descriptor");
        let identity = sys::stat(held.as_fd()).expect("what it is").identity;
        table.close_down_to(0, 10);
        assert!(!table.is_likely_held(ROOT, b"f"));
        assert_eq!(table.identity(file), Some(identity));
    }
    if sys::is_root() {
        fs::rename(folder.path().join("f"), folder.path().join("g")).expect("another name");
    }
    table.descriptor(file).expect("it is found by its handle, by others by its name");
}

#[test]
fn among_any_number_that_cannot_be_closed_the_one_that_can_is_found_in_a_few_tries_at_a_time() {
    const GONE: usize = 120;
    let (folder, table) = table();
    let hold = |name: String| {
        fs::write(folder.path().join(&name), "").expect("a file");
        table.descriptor(look_up(&table, ROOT, &name)).expect("a descriptor");
        name
    };
    for number in 0..GONE {
        fs::remove_file(folder.path().join(hold(format!("gone{number}")))).expect("it has no name");
    }
    hold("stays".to_string());
    assert_eq!(table.size().1, GONE + 1);
    (0..GONE).for_each(|_| table.close_coldest());
    assert_eq!((table.size().1, table.is_likely_held(ROOT, b"stays")), (GONE, false));
}

/// Nodes of directories, each in the one before, of which none is held.
fn deep_tree(table: &InodeTable, depth: usize) -> Vec<Ino> {
    let mut chain = vec![ROOT];
    for _ in 0..depth {
        let above = *chain.last().expect("the root");
        let at = table.descriptor(above).expect("a directory");
        sys::make_directory(at.as_fd(), b"d", 0o700).expect("a directory in it");
        chain.push(look_up(table, above, "d"));
    }
    table.close_down_to(0, 4 * depth);
    chain
}

#[test]
fn however_deep_a_tree_is_few_descriptors_reach_all_of_it_and_can_be_closed() {
    const DEPTH: usize = 800;
    let (_folder, mut table) = table();
    (table.share, table.opens_by_handle) = (Share::of(8, Box::leak(Box::default())), false);
    let chain = deep_tree(&table, DEPTH);
    assert_eq!(table.size().1, 0, "all of it can be found by name, and so be closed");
    let landmarks = 2 + DEPTH.ilog2() as usize;
    // As a walk to the end, as `rm -r` goes, and back and forth.
    let order = [DEPTH].into_iter().chain((1..DEPTH).rev()).chain((1..20).flat_map(|n| [n, DEPTH - n]));
    for place in order {
        table.descriptor(chain[place]).expect("it is found");
        assert!(table.size().1 <= 8 + landmarks, "{} at {place}", table.size().1);
    }
}

#[test]
fn what_is_no_directory_is_closed_only_where_it_is_found_in_its_directory() {
    const DEPTH: usize = 40;
    let (_folder, mut table) = table();
    table.opens_by_handle = false;
    let chain = deep_tree(&table, DEPTH);
    let files: Vec<Ino> = chain
        .iter()
        .map(|directory| {
            let at = table.descriptor(*directory).expect("a directory");
            drop(sys::create(at.as_fd(), b"f", 0o101, 0o600).expect("a file"));
            let file = look_up(&table, *directory, "f");
            table.descriptor(file).expect("a descriptor");
            file
        })
        .collect();
    let at = table.descriptor(chain[7]).expect("a directory");
    sys::rename(at.as_fd(), b"f", at.as_fd(), b"g", 0).expect("another name");
    table.close_down_to(0, 8 * DEPTH);
    let held: Vec<Ino> = files.iter().copied().filter(|file| table.held(*file).is_some()).collect();
    assert_eq!(held, [files[7]]);
    assert!(files.iter().all(|file| table.descriptor(*file).is_ok()));
}

#[test]
fn a_guess_is_only_of_what_is_held_and_never_taken_for_what_has_come_in_its_place() {
    let (folder, table) = table();
    fs::write(folder.path().join("f"), "").expect("a file");
    let file = look_up(&table, ROOT, "f");
    assert!(!table.is_likely_held(ROOT, b"f") && !table.is_likely_held(ROOT, b"g"));
    table.descriptor(file).expect("a descriptor");
    assert!(table.is_likely_held(ROOT, b"f") && !table.is_likely_held(file, b"f"));
    let stat = |name: &str| sys::stat_at(table.root().as_fd(), name.as_bytes()).expect("a name");
    assert_eq!(table.intern_held(&stat("f"), ROOT, b"f").map(|id| id.ino), Some(file));
    fs::write(folder.path().join("g"), "").expect("a file");
    fs::rename(folder.path().join("g"), folder.path().join("f")).expect("another file in its place");
    assert_eq!(table.intern_held(&stat("f"), ROOT, b"f"), None);
    assert_eq!(table.forget(file, 2, false).gone, [file]);
    assert!(!table.is_likely_held(ROOT, b"f"));
}
