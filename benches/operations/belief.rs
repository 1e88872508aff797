//! Belief among many known files: an answer, an answer fetched anew, and an own change that makes it wrong.

use std::{hint::black_box, sync::Arc, time::Duration};

use chaosfs::consistency::{Belief, Change, Kind, Known, Place, Policy, cache::Cache};

use super::{FIRST, Keys, NOW, Operation, Places, Run, attributes, place, write};

pub const OPERATIONS: &[Operation] = &[
    known("cache: value believed", cached),
    known("belief: attributes", attributes_believed),
    known("belief: attributes fetched anew", attributes_fetched),
    known("belief: name", name_believed),
    known("belief: absent name fetched anew", absence_fetched),
    known("belief: own write", own_write),
    Operation {
        name: "belief: 1 KiB of bytes",
        among: "pieces of the file",
        sizes: &[1, 10_000],
        prepare: bytes_believed,
    },
];

const fn known(name: &'static str, prepare: fn(usize) -> Run) -> Operation {
    Operation { name, among: "known", sizes: &[1_000, 1_000_000], prepare }
}

const TTL: Duration = Duration::from_millis(1_500);
const POLICY: Policy = Policy::eventual();

fn cached(size: usize) -> Run {
    let mut cache = Cache::new(|_, _| 0);
    for key in 0..size as u64 {
        cache.believe(cache.start_fetch(&key, NOW), key, key, TTL);
    }
    let mut keys = Keys::among(size);
    Box::new(move || {
        black_box(cache.get(&keys.next(), NOW));
    })
}

/// A client that knows the attributes of so many files.
fn acquainted(size: usize) -> Belief {
    let mut belief = Belief::new(u64::MAX);
    for number in 0..size as u64 {
        believe_attributes(&mut belief, number);
    }
    belief
}

fn believe_attributes(belief: &mut Belief, number: u64) {
    let ticket = belief.fetch_attributes(FIRST + number, NOW);
    black_box(belief.believe_attributes(ticket, FIRST + number, attributes(Kind::File), &POLICY));
}

fn attributes_believed(size: usize) -> Run {
    let belief = acquainted(size);
    let mut keys = Keys::among(size);
    Box::new(move || {
        black_box(belief.attributes(FIRST + keys.next(), NOW));
    })
}

fn attributes_fetched(size: usize) -> Run {
    let mut belief = acquainted(size);
    let mut keys = Keys::among(size);
    Box::new(move || believe_attributes(&mut belief, keys.next()))
}

fn name_believed(size: usize) -> Run {
    let mut belief = Belief::new(u64::MAX);
    for number in 0..size as u64 {
        let (place, ino) = (place(number), FIRST + number);
        belief.believe_name(belief.fetch_name(&place, NOW), place, Some(Known { ino, serial: 1 }), &POLICY);
    }
    let mut places = Places::among(0..size as u64, 1);
    Box::new(move || {
        black_box(belief.name(places.next(), NOW));
    })
}

fn absence_fetched(size: usize) -> Run {
    let mut belief = Belief::new(u64::MAX);
    for number in 0..size as u64 {
        believe_absence(&mut belief, place(number));
    }
    let mut places = Places::among(0..size as u64, 1);
    Box::new(move || believe_absence(&mut belief, places.next().clone()))
}

fn believe_absence(belief: &mut Belief, place: Place) {
    belief.believe_name(belief.fetch_name(&place, NOW), place, None, &POLICY);
}

fn own_write(size: usize) -> Run {
    let mut belief = acquainted(size);
    let mut keys = Keys::among(size);
    let mut change = write(FIRST, 0, b"data");
    Box::new(move || {
        let number = keys.next();
        if let Change::Write { ino, .. } = &mut change {
            *ino = FIRST + number;
        }
        belief.changed(&change);
        believe_attributes(&mut belief, number);
    })
}

fn bytes_believed(pieces: usize) -> Run {
    const PIECE: u64 = 1024;
    let mut belief = acquainted(1);
    let data: Arc<[u8]> = vec![7; PIECE as usize].into();
    let of = belief.attributes(FIRST, NOW).expect("they are believed").number;
    for piece in 0..pieces as u64 {
        belief.believe_bytes(FIRST, of, piece * PIECE, &data, NOW);
    }
    let mut keys = Keys::among(pieces);
    Box::new(move || {
        let start = keys.next() * PIECE;
        black_box(belief.bytes(FIRST, start..start + PIECE, NOW));
    })
}
