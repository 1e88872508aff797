//! Random histories of one or two clients over one store, checked after every step against the obvious definition:
//! a client sees the store with all that it was told is done, and has not landed, done to it in order.

mod inquiries;
mod store;
mod world;

use std::ops::Range;

use proptest::{collection::vec, prelude::*, sample::select};

use crate::consistency::{
    attributes::{AttributeChange, Kind},
    mutation::{KEEP_SIZE, PUNCH_HOLE, RenameHow, ZERO_RANGE},
};
use crate::time::Timestamp;
use world::World;

/// What a program or the lander does. Numbers are indices, taken modulo what exists.
#[derive(Clone, Debug)]
enum Op {
    Make { kind: Kind, directory: usize, name: usize },
    Link { file: usize, directory: usize, name: usize },
    Remove { entry: usize },
    Rename { entry: usize, directory: usize, name: usize, how: RenameHow },
    Write { file: usize, range: Range<u64>, clears: u32 },
    Resize { file: usize, size: u64, clears: u32 },
    Allocate { file: usize, range: Range<u64>, mode: i32, clears: u32 },
    SetAttributes { inode: usize, change: AttributeChange },
    SetXattr { inode: usize, name: usize, value: Option<u8> },
    Advance { millis: u64 },
    Start,
    Finish { started: usize },
    Postpone { started: usize, millis: u64 },
    Fsync { inode: usize },
    HurryEverything,
    Hold { held: bool },
    Lose,
}

/// One step of a history: what is made in it lands after `delay` milliseconds.
#[derive(Clone, Debug)]
struct Step {
    client: usize,
    delay: u64,
    op: Op,
}

/// Long enough that something is under way most of the time, short enough that many are due at once.
const DELAYS: Range<u64> = 0..6;

fn index() -> Range<usize> {
    0..12
}

fn kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::File, Kind::File, Kind::Directory, Kind::Directory, Kind::Symlink, Kind::Fifo])
}

fn how() -> impl Strategy<Value = RenameHow> {
    select(vec![RenameHow::Replace, RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange])
}

fn bytes() -> impl Strategy<Value = Range<u64>> {
    (0..24_u64, 1..9_u64).prop_map(|(start, length)| start..start + length)
}

fn attribute_change() -> impl Strategy<Value = AttributeChange> {
    let permissions = select(vec![0o644, 0o755, 0o4755, 0o2755, 0o2644, 0o6777]);
    let time = || {
        proptest::option::of((0..3_i64).prop_map(|seconds| Timestamp { seconds: 7_000 + seconds, nanos: 9 }))
    };
    let owner = || proptest::option::of(0..3_u32);
    (proptest::option::of(permissions), owner(), owner(), time(), time()).prop_map(
        |(permissions, uid, gid, atime, mtime)| AttributeChange { permissions, uid, gid, atime, mtime },
    )
}

fn name_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (kind(), index(), index()).prop_map(|(kind, directory, name)| Op::Make { kind, directory, name }),
        2 => (index(), index(), index()).prop_map(|(file, directory, name)| Op::Link { file, directory, name }),
        2 => index().prop_map(|entry| Op::Remove { entry }),
        3 => (index(), index(), index(), how())
            .prop_map(|(entry, directory, name, how)| Op::Rename { entry, directory, name, how }),
    ]
}

fn clears() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 0o4000, 0o6000])
}

fn inode_op() -> impl Strategy<Value = Op> {
    let modes = vec![0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE];
    prop_oneof![
        4 => (index(), bytes(), clears())
            .prop_map(|(file, range, clears)| Op::Write { file, range, clears }),
        2 => (index(), 0..32_u64, clears())
            .prop_map(|(file, size, clears)| Op::Resize { file, size, clears }),
        1 => (index(), bytes(), select(modes), clears())
            .prop_map(|(file, range, mode, clears)| Op::Allocate { file, range, mode, clears }),
        2 => (index(), attribute_change()).prop_map(|(inode, change)| Op::SetAttributes { inode, change }),
        1 => (index(), index(), any::<Option<u8>>())
            .prop_map(|(inode, name, value)| Op::SetXattr { inode, name, value }),
    ]
}

fn timer_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..4_u64).prop_map(|millis| Op::Advance { millis }),
        6 => Just(Op::Start),
        5 => index().prop_map(|started| Op::Finish { started }),
        1 => (index(), DELAYS).prop_map(|(started, millis)| Op::Postpone { started, millis }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        20 => name_op(),
        20 => inode_op(),
        30 => timer_op(),
        1 => index().prop_map(|inode| Op::Fsync { inode }),
        1 => any::<bool>().prop_map(|held| Op::Hold { held }),
        1 => Just(Op::Lose),
    ];
    (0..2_usize, DELAYS, op).prop_map(|(client, delay, op)| Step { client, delay, op })
}

fn run(clients: usize, steps: &[Step]) {
    let mut world = World::new(clients);
    for Step { client, delay, op } in steps {
        world.perform(client % clients, *delay, op);
        world.check();
    }
    world.land_everything();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_alone_sees_its_own_future(steps in vec(step(), 1..60)) {
        run(1, &steps);
    }

    #[test]
    fn two_clients_that_do_not_conflict_agree_in_the_end(steps in vec(step(), 1..60)) {
        run(2, &steps);
    }

    #[test]
    fn a_client_that_leaves_in_a_hurry_lands_all(
        before in vec(step(), 1..30),
        after in vec(step(), 1..10),
    ) {
        let leave = Step { client: 0, delay: 0, op: Op::HurryEverything };
        run(1, &[before, vec![leave], after].concat());
    }
}
