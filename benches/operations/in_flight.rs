//! What is in flight: questions that nothing in flight has to do with, changes that come and go among many others, and
//! one file with many small writes.

use std::{collections::VecDeque, hint::black_box, ops::Range, sync::Arc};

use chaosfs::{
    consistency::{
        Change, InFlight, Kind,
        extents::{Extents, Patch},
    },
    time::{Time, Timestamp},
};

use super::{FIRST, Keys, NOW, Operation, Places, Run, attributes, place, write};

pub const OPERATIONS: &[Operation] = &[
    among("in flight: attributes of another file", other_attributes),
    among("in flight: another name", other_name),
    among("in flight: whether a change must wait", blocked),
    among("in flight: attributes of a written file", own_attributes),
    among("in flight: name made here", own_name),
    among("in flight: write of another file, landed", write_and_land),
    among("in flight: create beside the others, landed", create_and_land),
    among("in flight: write of another file, fsync", write_and_hurry),
    among("in flight: next due", next_due),
    written("extents: small piece replaced", replace_piece),
    written("extents: 4 KiB read", read_extents),
    written("one file: 4 KiB read", read_written),
    written("one file: append, first one landed", append_and_land),
    written("one file: backwards, first one landed", prepend_and_land),
];

const fn among(name: &'static str, prepare: fn(usize) -> Run) -> Operation {
    Operation { name, among: "in flight", sizes: &[0, 1_000, 100_000], prepare }
}

const fn written(name: &'static str, prepare: fn(usize) -> Run) -> Operation {
    Operation { name, among: "writes in flight", sizes: &[1, 1_000, 10_000], prepare }
}

/// When everything that the operations are set up among lands: not yet.
const LATER: Time = Time::from_millis(1_000_000);
const STAMP: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 2 };
const PIECE: u64 = 100;

fn create(number: u64) -> Change {
    let attributes = attributes(Kind::File);
    Change::Make {
        place: place(number),
        ino: FIRST + number,
        attributes,
        target: [].into(),
        inherited: [].into(),
    }
}

/// So many mutations in flight in one directory: half of them make a file, half write to it.
fn crowded(size: usize) -> InFlight {
    let mut in_flight = InFlight::default();
    for number in 0..size as u64 {
        let change =
            if number.is_multiple_of(2) { create(number) } else { write(FIRST + number - 1, 0, &[7; 100]) };
        in_flight.add(change, STAMP, LATER);
    }
    in_flight
}

/// Lands whatever is due now.
fn land(in_flight: &mut InFlight) {
    while let Some(mutation) = in_flight.start_due(NOW) {
        in_flight.landed(mutation.id);
    }
}

/// An inode and a name that nothing in flight has to do with.
fn other(size: usize, key: u64) -> u64 {
    size as u64 + 1 + key
}

fn other_attributes(size: usize) -> Run {
    let (in_flight, base) = (crowded(size), attributes(Kind::File));
    let mut keys = Keys::among(1_000);
    Box::new(move || {
        let ino = FIRST + other(size, keys.next());
        black_box(in_flight.overlay().view(ino, &base, true));
        black_box(in_flight.overlay().touches(ino));
    })
}

fn other_name(size: usize) -> Run {
    let in_flight = crowded(size);
    let mut places = Places::among(other(size, 0)..other(size, 1_000), 1);
    Box::new(move || {
        black_box(in_flight.overlay().name(places.next()));
    })
}

fn blocked(size: usize) -> Run {
    let in_flight = crowded(size);
    let changes: Vec<Change> = (0..64).map(|key| write(FIRST + other(size, key), 0, b"data")).collect();
    let mut keys = Keys::among(changes.len());
    Box::new(move || {
        black_box(in_flight.blocks(&changes[keys.next() as usize]));
    })
}

fn own_attributes(size: usize) -> Run {
    let size = size.max(2);
    let (in_flight, base) = (crowded(size), attributes(Kind::File));
    let mut keys = Keys::among(size / 2);
    Box::new(move || {
        black_box(in_flight.overlay().view(FIRST + 2 * keys.next(), &base, true));
    })
}

fn own_name(size: usize) -> Run {
    let size = size.max(2);
    let in_flight = crowded(size);
    let mut places = Places::among(0..size as u64, 2);
    Box::new(move || {
        black_box(in_flight.overlay().name(places.next()));
    })
}

fn come_and_go(size: usize, change: impl Fn(u64) -> Change + 'static) -> Run {
    let mut in_flight = crowded(size);
    let mut keys = Keys::among(1_000);
    Box::new(move || {
        in_flight.add(change(other(size, keys.next())), STAMP, NOW);
        land(&mut in_flight);
    })
}

fn write_and_land(size: usize) -> Run {
    come_and_go(size, |number| write(FIRST + number, 0, &[7; 100]))
}

fn create_and_land(size: usize) -> Run {
    come_and_go(size, create)
}

fn write_and_hurry(size: usize) -> Run {
    let mut in_flight = crowded(size);
    let mut keys = Keys::among(1_000);
    Box::new(move || {
        let ino = FIRST + other(size, keys.next());
        in_flight.add(write(ino, 0, &[7; 100]), STAMP, LATER);
        let ids: Vec<_> = in_flight.about(ino).map(|mutation| mutation.id).collect();
        black_box(in_flight.hurry(ids));
        land(&mut in_flight);
    })
}

fn next_due(size: usize) -> Run {
    let in_flight = crowded(size);
    Box::new(move || {
        black_box(in_flight.next_due());
    })
}

/// One file's content in so many small pieces.
fn pieces(size: usize) -> Extents {
    let mut extents = Extents::default();
    for piece in 0..size as u64 {
        extents.put(piece * PIECE, [7; PIECE as usize].into(), piece);
    }
    extents
}

fn replace_piece(size: usize) -> Run {
    let mut extents = pieces(size);
    let data: Arc<[u8]> = [8; PIECE as usize].into();
    let mut keys = Keys::among(size);
    Box::new(move || {
        let piece = keys.next();
        let range = piece * PIECE..(piece + 1) * PIECE;
        extents.remove(range.clone(), piece);
        extents.put(range.start, data.clone(), piece);
    })
}

fn read_extents(size: usize) -> Run {
    let extents = pieces(size);
    read(size, move |range| extents.copy_of(range))
}

/// Reads 4 KiB from somewhere in a file of so many small pieces.
fn read(size: usize, content: impl Fn(Range<u64>) -> Patch + 'static) -> Run {
    let mut buffer = vec![0; 4096];
    let mut keys = Keys::among(size.saturating_sub(40));
    Box::new(move || {
        let start = keys.next() * PIECE;
        content(start..start + 4096).lay_over(&mut buffer, start);
        black_box(&buffer);
    })
}

/// One file with so many small writes in flight, one after the other in the file, the first one made first.
fn one_file(size: usize) -> InFlight {
    let mut in_flight = InFlight::default();
    for piece in 0..size as u64 {
        in_flight.add(write(FIRST, piece * PIECE, &[7; PIECE as usize]), STAMP, LATER);
    }
    in_flight
}

fn read_written(size: usize) -> Run {
    let in_flight = one_file(size);
    let base = attributes(Kind::File);
    read(size, move |range| {
        black_box(in_flight.overlay().view(FIRST, &base, true));
        in_flight.overlay().content(FIRST, range)
    })
}

/// One more write of a file that has so many in flight already, and the landing of the first of them.
fn shift(size: usize, offset_of: impl Fn(u64) -> u64 + 'static) -> Run {
    let mut in_flight = InFlight::default();
    let mut queue: VecDeque<u64> = VecDeque::new();
    let mut count = 0;
    let mut one_more = move |in_flight: &mut InFlight, queue: &mut VecDeque<u64>| {
        queue.push_back(in_flight.add(write(FIRST, offset_of(count), &[7; PIECE as usize]), STAMP, LATER));
        count += 1;
    };
    (0..size).for_each(|_| one_more(&mut in_flight, &mut queue));
    Box::new(move || {
        one_more(&mut in_flight, &mut queue);
        in_flight.hurry(queue.pop_front());
        land(&mut in_flight);
    })
}

fn append_and_land(size: usize) -> Run {
    shift(size, |count| count * PIECE)
}

fn prepend_and_land(size: usize) -> Run {
    shift(size, |count| (1 << 40) - count * PIECE)
}
