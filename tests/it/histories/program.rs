//! Programs: what they are made of, and how they are drawn.
//!
//! Operations carry indices that are taken modulo what exists, so every program is valid and shrinks well. `Debug`
//! prints what can be pasted into a test (`use program::{Op::*, ..}`).

use std::{env, fmt, time::Duration};

use chaosfs::knobs::{Delay, Knobs};
use proptest::{
    collection::vec,
    option::of,
    prelude::*,
    sample::select,
    test_runner::{Config, RngSeed},
};

/// Small on purpose: programs are to meet each other's files.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// A name in one of the directories that exist: (directory, name).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At(pub usize, pub usize);

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    ToRead,
    ToWrite,
    ToChange,
    ToAppend,
    Truncate,
    Create,
    CreateNew,
    CreateAppend,
    CreateTruncate,
}

impl How {
    /// The flags of `open(2)`.
    pub fn flags(self) -> i32 {
        use libc::{O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
        match self {
            How::ToRead => O_RDONLY,
            How::ToWrite => O_WRONLY,
            How::ToChange => O_RDWR,
            How::ToAppend => O_RDWR | O_APPEND,
            How::Truncate => O_RDWR | O_TRUNC,
            How::Create => O_RDWR | O_CREAT,
            How::CreateNew => O_RDWR | O_CREAT | O_EXCL,
            How::CreateAppend => O_RDWR | O_CREAT | O_APPEND,
            How::CreateTruncate => O_RDWR | O_CREAT | O_TRUNC,
        }
    }
}

/// How a name is moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    Over,
    NoReplace,
    Exchange,
}

/// One step of a program, or of time. Files are open ones, counted from the first opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Open(At, How),
    Close(usize),
    /// File, offset, length.
    Write(usize, u64, usize),
    Read(usize, u64, usize),
    SetFileLength(usize, u64),
    PunchHole(usize, u64, u64),
    Allocate(usize, u64, u64),
    /// From file and offset, to file and offset, length.
    Copy(usize, u64, usize, u64, usize),
    Sync(usize),
    SetLength(At, u64),
    SetMode(At, u32),
    /// Seconds since 1970: few, to be told from times that nobody set.
    SetTimes(At, i64),
    Mkdir(At),
    Rmdir(At),
    Unlink(At),
    Symlink(At),
    Mkfifo(At),
    Link(At, At),
    Rename(At, At, Move),
    /// Milliseconds.
    Advance(u64),
    /// Whoever is asked looks at the whole tree.
    Look,
}

fn at() -> impl Strategy<Value = At> {
    (0_usize..4, 0..NAMES.len()).prop_map(|(directory, name)| At(directory, name))
}

fn how() -> impl Strategy<Value = How> {
    use How::*;
    select(vec![
        ToRead,
        ToWrite,
        ToChange,
        ToAppend,
        Truncate,
        Create,
        Create,
        CreateNew,
        CreateAppend,
        CreateTruncate,
    ])
}

fn file() -> impl Strategy<Value = usize> {
    0_usize..4
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..12, 1 => select(vec![4090_u64, 4096, 9000])]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1_u64..10, 1 => Just(5000_u64)]
}

fn span() -> impl Strategy<Value = u64> {
    select(vec![1_u64, 300, 400, 500, 800, 1200, 1500, 4000])
}

/// One step on open files.
fn on_files() -> impl Strategy<Value = Op> {
    let bytes = || length().prop_map(|length| length as usize);
    prop_oneof![
        2 => file().prop_map(Op::Close),
        6 => (file(), offset(), bytes()).prop_map(|(file, offset, length)| Op::Write(file, offset, length)),
        2 => (file(), offset(), bytes()).prop_map(|(file, offset, length)| Op::Read(file, offset, length)),
        2 => (file(), offset()).prop_map(|(file, size)| Op::SetFileLength(file, size)),
        1 => (file(), offset(), length()).prop_map(|(file, offset, length)| Op::PunchHole(file, offset, length)),
        1 => (file(), offset(), length()).prop_map(|(file, offset, length)| Op::Allocate(file, offset, length)),
        1 => (file(), offset(), file(), offset(), bytes())
            .prop_map(|(from, at, to, target, length)| Op::Copy(from, at, to, target, length)),
        1 => file().prop_map(Op::Sync),
    ]
}

/// One step on names and attributes.
fn on_names() -> impl Strategy<Value = Op> {
    let how_moved = select(vec![Move::Over, Move::Over, Move::Over, Move::NoReplace, Move::Exchange]);
    prop_oneof![
        6 => (at(), how()).prop_map(|(at, how)| Op::Open(at, how)),
        1 => (at(), offset()).prop_map(|(at, size)| Op::SetLength(at, size)),
        1 => (at(), select(vec![0o600_u32, 0o644, 0o755, 0o4755, 0o2711])).prop_map(|(at, mode)| Op::SetMode(at, mode)),
        1 => (at(), 1_i64..9).prop_map(|(at, seconds)| Op::SetTimes(at, seconds)),
        3 => at().prop_map(Op::Mkdir),
        2 => at().prop_map(Op::Rmdir),
        3 => at().prop_map(Op::Unlink),
        1 => at().prop_map(Op::Symlink),
        1 => at().prop_map(Op::Mkfifo),
        2 => (at(), at()).prop_map(|(from, to)| Op::Link(from, to)),
        5 => (at(), at(), how_moved).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
    ]
}

/// One step of any kind.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![4 => on_files(), 5 => on_names(), 2 => span().prop_map(Op::Advance), 1 => Just(Op::Look)]
}

/// A whole program.
pub fn program(longest: usize) -> impl Strategy<Value = Program> {
    vec(op(), 1..longest).prop_map(Program)
}

/// Milliseconds: `meta_ttl`, the shortest and longest `write_delay` and `rename_delay`, and what does not follow them.
#[derive(Clone, Copy, PartialEq)]
pub struct Times(pub u64, pub (u64, u64), pub (u64, u64), pub Own);

/// Milliseconds: what has a value of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Own {
    pub create: Option<u64>,
    pub attr: Option<u64>,
    pub name: Option<u64>,
    pub absent: Option<u64>,
    pub list: Option<u64>,
}

/// Everything follows `meta_ttl` and `write_delay`.
pub const SAME: Own = Own { create: None, attr: None, name: None, absent: None, list: None };

impl Times {
    pub fn knobs(self) -> Knobs {
        let delay = |(min, max)| Delay { min: Duration::from_millis(min), max: Duration::from_millis(max) };
        let ttl = |millis: Option<u64>| millis.map(Duration::from_millis);
        Knobs {
            meta_ttl: Duration::from_millis(self.0),
            attr_ttl: ttl(self.3.attr),
            name_ttl: ttl(self.3.name),
            absent_ttl: ttl(self.3.absent),
            list_ttl: ttl(self.3.list),
            write_delay: delay(self.1),
            create_delay: self.3.create.map(Delay::fixed_millis),
            rename_delay: delay(self.2),
            ..Knobs::default()
        }
    }
}

fn delay() -> impl Strategy<Value = (u64, u64)> {
    let fixed = select(vec![0_u64, 400, 800, 1200]).prop_map(|millis| (millis, millis));
    prop_oneof![4 => fixed, 1 => Just((100, 1300))]
}

/// Knobs of any kind, without faults.
pub fn times() -> impl Strategy<Value = Times> {
    (select(vec![0_u64, 500, 1500]), delay(), delay(), own())
        .prop_map(|(ttl, write, rename, own)| Times(ttl, write, rename, own))
}

fn own() -> impl Strategy<Value = Own> {
    let millis = || of(select(vec![0_u64, 400, 1200]));
    let apart = (millis(), millis(), millis(), millis(), millis());
    let apart = apart.prop_map(|(create, attr, name, absent, list)| Own { create, attr, name, absent, list });
    prop_oneof![2 => Just(SAME), 1 => apart]
}

/// A program as text to paste into a test.
#[derive(Clone, PartialEq)]
pub struct Program(pub Vec<Op>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Times({}, {:?}, {:?}, {:?})", self.0, self.1, self.2, self.3)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|op| format!("    {op:?},\n")).collect();
        write!(f, "&[\n{}]", lines.concat())
    }
}

/// How many cases a property tries: `few`, always the same ones, or as many new ones as `TEST_CASES` says. A change
/// is judged by what it did, not by chance; the search for what nobody has met yet runs every night. Failures are not
/// stored in files: they become named tests.
pub fn cases(few: u32) -> Config {
    let asked = env::var("TEST_CASES").ok().map(|cases| cases.parse().expect("TEST_CASES is a number"));
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(0x0c4a05f5) };
    let cases = asked.unwrap_or(few);
    Config { cases, failure_persistence: None, max_shrink_iters: 4000, rng_seed, ..Config::default() }
}
