//! What the core is told about the storage it imitates: plain data. There is one mechanism; every kind of storage is a value
//! of [`Policy`].

#[macro_use]
mod words;
mod rules;

use std::time::Duration;

pub use rules::{
    AppendAt, Attempt, DatedBy, DelaysFrom, Evidence, FlushPoint, HideAs, LinkCounts, ListingAsks,
    LockConflict, Locks, NamesBy, OpenAsks, OpenGone, ReadsAsk, RenameBy, RenameFlag, RequestsBy,
    SecondWriter, Unlinked, WriteUnit, WritesAt,
};
pub use words::{Word, Words};

use super::{
    attributes::Kind,
    mutation::{DelayClass, RenameHow},
};
use crate::time::Delay;

/// How long attributes are believed: `min` after a change was seen, and doubled up to `max` each time a refetch finds none
/// (fs/nfs/inode.c, `nfs_update_inode`). The two are the same where it does not adapt.
#[expect(missing_docs, reason = "explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub min: Duration,
    pub max: Duration,
}

impl Lifetime {
    /// Always the same.
    pub const fn fixed(span: Duration) -> Lifetime {
        Lifetime { min: span, max: span }
    }

    /// Whether it depends on what was fetched before.
    pub fn adapts(&self) -> bool {
        self.min < self.max
    }
}

/// How long what was fetched is believed, counted from the start of its fetch. Zero asks every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Attributes of all but directories, and the bytes that were read while they are believed.
    pub files: Lifetime,
    /// Attributes of directories.
    pub directories: Lifetime,
    /// Names.
    pub names: Duration,
    /// That there is nothing of a name.
    pub absences: Duration,
    /// Listings.
    pub listings: Duration,
}

impl Lifetimes {
    /// The same for everything.
    pub const fn all(lifetime: Duration) -> Lifetimes {
        let fixed = Lifetime::fixed(lifetime);
        Lifetimes {
            files: fixed,
            directories: fixed,
            names: lifetime,
            absences: lifetime,
            listings: lifetime,
        }
    }

    /// How long attributes of an inode of this kind are believed.
    pub fn of_attributes(&self, kind: Kind) -> Lifetime {
        if kind == Kind::Directory { self.directories } else { self.files }
    }

    /// How long it is believed that a name is present, or that it is not.
    pub fn of_name(&self, is_present: bool) -> Duration {
        if is_present { self.names } else { self.absences }
    }

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        let attributes = self.files.max.max(self.directories.max);
        attributes.max(self.names).max(self.absences).max(self.listings)
    }

    /// Whether nothing is ever believed: every question goes to the backing directory.
    pub fn are_zero(&self) -> bool {
        *self == Lifetimes::all(Duration::ZERO)
    }
}

/// How long changes take to land, counted from when they are acknowledged. Zero applies them before their call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Data.
    pub data: Delay,
    /// Sizes: cutting, extending and allocating.
    pub sizes: Delay,
    /// The making of files.
    pub new_files: Delay,
    /// Names, directories, everything else that is made, and attributes.
    pub names: Delay,
}

impl Delays {
    /// The same for everything.
    pub const fn all(delay: Delay) -> Delays {
        Delays { data: delay, sizes: delay, new_files: delay, names: delay }
    }

    /// The delay of one class of changes.
    pub fn of(&self, class: DelayClass) -> Delay {
        match class {
            DelayClass::Data => self.data,
            DelayClass::Size => self.sizes,
            DelayClass::NewFile => self.new_files,
            DelayClass::Names => self.names,
        }
    }

    /// Whether every change is applied before its call returns.
    pub fn are_zero(&self) -> bool {
        self.data.is_zero() && self.sizes.is_zero() && self.new_files.is_zero() && self.names.is_zero()
    }
}

/// What decides what a client answers and when its changes land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long what was fetched is believed.
    pub lifetimes: Lifetimes,
    /// What ends the belief in a name.
    pub names_by: NamesBy,
    /// What tells that an inode has not changed.
    pub evidence: Evidence,
    /// Whether opening a file asks the store.
    pub open_asks: OpenAsks,
    /// What an open answers if its name leads elsewhere by now.
    pub open_gone: OpenGone,
    /// When listing a directory asks the store whether it has changed.
    pub listing_asks: ListingAsks,
    /// Whether reading a symlink asks the store whether its name still leads to it.
    pub symlinks_ask: bool,
    /// Whether a directory that is held open is listed again when it is read from its start.
    pub rewind_lists: bool,
    /// What requests say of the inode that they are about.
    pub requests_by: RequestsBy,
    /// Which changes, if they fail, end the belief in what they were about.
    pub failure_heals: Words<Attempt>,
    /// What is shown as the number of an inode's names.
    pub link_counts: LinkCounts,
    /// What becomes of a file without a name.
    pub unlinked: Unlinked,
    /// How long changes take to land.
    pub delays: Delays,
    /// What a rename is.
    pub rename_by: RenameBy,
    /// How long each thing that it copies takes.
    pub copy_time: Delay,
    /// From when delays count.
    pub delays_from: DelaysFrom,
    /// Whether fsync(2) waits until what it is about has landed.
    pub fsync_lands: bool,
    /// What makes data land earlier.
    pub flush_on: Words<FlushPoint>,
    /// Whether looking up a name tells of changes in its directory.
    pub lookup_asks_directory: bool,
    /// Whether listing a directory in the store brings the attributes of what is in it.
    pub listing_brings_attributes: bool,
    /// Whether extended attributes are believed, for as long as the other attributes are.
    pub believes_xattrs: bool,
    /// Which reads ask the store whether the file has changed, whatever is believed of it.
    pub reads_ask: ReadsAsk,
    /// Whether a file that is open here for writing keeps the bytes that were read, whatever others write.
    pub writer_ignores: bool,
    /// Where a write to the end of a file goes.
    pub append_at: AppendAt,
    /// Which moment late data is dated with.
    pub dated_by: DatedBy,
    /// What becomes of data on which others were first.
    pub second_writer: SecondWriter,
    /// Where programs may write.
    pub writes_at: WritesAt,
    /// In what data is written.
    pub write_unit: WriteUnit,
    /// What becomes of an open file whose name is taken away here.
    pub hide_open_as: HideAs,
    /// Whether a shared lock wants a file that is open for reading, an exclusive one a file that is open for writing.
    pub locks_need_access: bool,
    /// Whether taking a shared lock drops what is believed of the file.
    pub locks_refresh: bool,
    /// What is answered if somebody else has a shared lock.
    pub lock_conflict: LockConflict,
    /// Whether this client's own reads and sizes show its data that has not landed yet.
    pub read_your_writes: bool,
}

impl Policy {
    /// An uncoordinated store that is late by about a second in both directions: what a client does unless it is told
    /// otherwise.
    pub const fn eventual() -> Policy {
        let data = Delay::fixed_millis(800);
        Policy {
            lifetimes: Lifetimes::all(Duration::from_millis(1500)),
            delays: Delays { data, sizes: data, new_files: data, names: Delay::fixed_millis(1200) },
            ..Policy::zero()
        }
    }

    /// The same with lifetimes of which this share, from 0 to 1, is left.
    pub fn with_share_of_lifetimes(&self, share: f64) -> Policy {
        let of = |span: Duration| span.mul_f64(share);
        let both = |lifetime: Lifetime| Lifetime { min: of(lifetime.min), max: of(lifetime.max) };
        let Lifetimes { files, directories, names, absences, listings } = self.lifetimes;
        let lifetimes = Lifetimes {
            files: both(files),
            directories: both(directories),
            names: of(names),
            absences: of(absences),
            listings: of(listings),
        };
        Policy { lifetimes, ..*self }
    }

    /// Whether such a rename copies.
    pub fn copies(&self, how: RenameHow) -> bool {
        self.rename_by == RenameBy::Copy && how == RenameHow::Replace
    }

    /// Whether it matters later how an inode was when it was fetched.
    pub fn remembers(&self) -> bool {
        let adapts = self.lifetimes.files.adapts() || self.lifetimes.directories.adapts();
        let has_evidence = self.evidence != Evidence::Nothing || self.names_by == NamesBy::Directory;
        adapts || has_evidence || self.append_at == AppendAt::KnownEnd
    }

    /// Whether time alone ends beliefs and makes changes land.
    pub fn is_by_time(&self) -> bool {
        let plain = Policy { lifetimes: self.lifetimes, delays: self.delays, ..Policy::zero() };
        let adapts = self.lifetimes.files.adapts() || self.lifetimes.directories.adapts();
        let Policy { locks_need_access, lock_conflict, read_your_writes, .. } = *self;
        !adapts && *self == Policy { locks_need_access, lock_conflict, read_your_writes, ..plain }
    }

    /// The backing directory itself: nothing is late and nothing is believed.
    pub const fn zero() -> Policy {
        Policy {
            lifetimes: Lifetimes::all(Duration::ZERO),
            names_by: NamesBy::Time,
            evidence: Evidence::Nothing,
            open_asks: OpenAsks::Nothing,
            open_gone: OpenGone::Again,
            listing_asks: ListingAsks::Never,
            symlinks_ask: false,
            rewind_lists: true,
            requests_by: RequestsBy::Inode,
            failure_heals: Words::all(),
            link_counts: LinkCounts::Counted,
            unlinked: Unlinked::Stays,
            rename_by: RenameBy::Move,
            copy_time: Delay::ZERO,
            delays_from: DelaysFrom::Change,
            fsync_lands: true,
            flush_on: Words::NONE,
            lookup_asks_directory: false,
            listing_brings_attributes: false,
            believes_xattrs: false,
            reads_ask: ReadsAsk::None,
            writer_ignores: false,
            append_at: AppendAt::End,
            dated_by: DatedBy::Writer,
            second_writer: SecondWriter::Wins,
            writes_at: WritesAt::Anywhere,
            write_unit: WriteUnit::Bytes,
            hide_open_as: HideAs::Nothing,
            locks_need_access: false,
            locks_refresh: false,
            lock_conflict: LockConflict::Again,
            delays: Delays::all(Delay::fixed_millis(0)),
            read_your_writes: true,
        }
    }
}
