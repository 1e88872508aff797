//! Every tunable of a client: its meaning, unit, default and range.

use std::{fmt, time::Duration};

use crate::{
    consistency::{
        Delays, Lifetimes, Policy,
        policy::{
            AppendAt, Attempt, DatedBy, DelaysFrom, Evidence, FlushPoint, HideAs, Lifetime, LinkCounts,
            ListingAsks, LockConflict, Locks, NamesBy, OpenAsks, OpenGone, ReadsAsk, RenameBy, RenameFlag,
            RequestsBy, SecondWriter, Unlinked, Words, WriteUnit, WritesAt,
        },
    },
    error::Refusal,
};

mod json;
pub mod profiles;
mod refused;
mod table;
mod values;

pub use crate::time::{Delay, Span};
pub use json::{read, write};
pub use profiles::ProfileName;
pub use refused::Refused;
pub use table::{Kind, Knob, KnobValue, Topic, Tunable};
pub use values::{
    Factor, Modes, parse_bytes, parse_count, parse_delay, parse_probability, parse_span, parse_switch,
};

const EVENTUAL: Policy = Policy::eventual();

crate::knobs! {
    /// The tunables of one client. The defaults are the profile `eventual`: an uncoordinated store, late by about a
    /// second in both directions.
    pub struct Knobs {
        /// The kind of storage to behave like: the name of a profile, or the path of a TOML file.
        ///
        /// It gives every other knob its value; those that are set besides outrank it. `chaosfs profiles` lists what there
        /// is.
        pub profile: ProfileName = ProfileName::default(), Consistency, "CHAOSFS_PROFILE", then take_profile;

        /// By what to multiply every span of time that comes from the profile.
        ///
        /// With 0.01, what NFS believes for 30 seconds is believed for 300 milliseconds.
        pub time_scale: Factor = Factor(1.0), Storage, "CHAOSFS_TIME_SCALE", then take_profile;

        /// Mount options of the profile's storage, as fstab(5) has them, such as `acregmin=1,lookupcache=pos,nocto`.
        ///
        /// Those that change nothing which chaosfs imitates are listed once in the log.
        pub options: String = String::new(), Storage, "CHAOSFS_OPTIONS", then take_profile;

        /// Whether each lifetime and delay is drawn anew, evenly from 0 to what the other knobs say.
        ///
        /// A real client may be out of date for any time up to its bound, and a program has to survive each. The draws depend on
        /// the seed, the path and how often that path was drawn for.
        pub explore: bool = false, Storage, "CHAOSFS_EXPLORE";

        /// How long fetched attributes, names, absent names and listings are believed; 0 asks every time.
        pub meta_ttl: Duration = EVENTUAL.lifetimes.names, Consistency, "CHAOSFS_META_TTL_MS";

        /// How long attributes are believed, and the bytes that were read with them.
        pub attr_ttl: Option<Duration> = None, Consistency, "CHAOSFS_ATTR_TTL_MS", follows meta_ttl;

        /// How long attributes are believed at most: each refetch that finds no change doubles the time until then.
        pub attr_ttl_max: Option<Duration> = None, Consistency, "CHAOSFS_ATTR_TTL_MAX_MS", follows attr_ttl;

        /// How long the attributes of directories are believed.
        pub dir_attr_ttl: Option<Duration> = None, Consistency, "CHAOSFS_DIR_ATTR_TTL_MS", follows attr_ttl;

        /// How long the attributes of directories are believed at most, where no change is found.
        pub dir_attr_ttl_max: Option<Duration> = None, Consistency, "CHAOSFS_DIR_ATTR_TTL_MAX_MS", follows dir_attr_ttl;

        /// How long it is believed that a name leads to a file.
        pub name_ttl: Option<Duration> = None, Consistency, "CHAOSFS_NAME_TTL_MS", follows meta_ttl;

        /// How long it is believed that there is nothing of a name.
        pub absent_ttl: Option<Duration> = None, Consistency, "CHAOSFS_ABSENT_TTL_MS", follows meta_ttl;

        /// How long a listing of a directory is believed.
        pub list_ttl: Option<Duration> = None, Consistency, "CHAOSFS_LIST_TTL_MS", follows meta_ttl;

        /// How long data and new files take to land in the backing directory; 0 writes through.
        pub write_delay: Delay = EVENTUAL.delays.data, Consistency, "CHAOSFS_WRITE_DELAY_MS";

        /// How long changes of a file's size by truncation or allocation take to land.
        pub resize_delay: Option<Delay> = None, Consistency, "CHAOSFS_RESIZE_DELAY_MS", follows write_delay;

        /// How long new files take to land; 0 makes them at once, while their data is late.
        pub create_delay: Option<Delay> = None, Consistency, "CHAOSFS_CREATE_DELAY_MS", follows write_delay;

        /// How long changes of names, directories and attributes take to land; 0 applies them at once.
        pub rename_delay: Delay = EVENTUAL.delays.names, Consistency, "CHAOSFS_RENAME_DELAY_MS";

        /// What ends the belief in a name or listing besides its time: nothing, or a change of its directory.
        ///
        /// With `directory`, names and listings are asked for again when the attributes of their directory have been fetched
        /// and show a change.
        pub names_by: NamesBy = EVENTUAL.names_by, Storage, "CHAOSFS_NAMES_BY";

        /// What tells that a file is as it was when it was fetched before, so that bytes that were read are still believed.
        pub change_evidence: Evidence = EVENTUAL.evidence, Storage, "CHAOSFS_CHANGE_EVIDENCE";

        /// Whether opening a file asks the store about it, and drops what was read of it if it has changed.
        ///
        /// With `inode` it asks about the inode that the name is believed to lead to, with `name` also whether it still does.
        pub open_asks: OpenAsks = EVENTUAL.open_asks, Storage, "CHAOSFS_OPEN_ASKS";

        /// What an open that asks answers if its name leads elsewhere by now: what is there now is opened (`again`), or EIO.
        ///
        /// With `EIO` it does so for as long as the name is believed, and what is there now is not as large as is believed.
        pub open_gone: OpenGone = EVENTUAL.open_gone, Storage, "CHAOSFS_OPEN_GONE";

        /// When listing a directory asks the store whether it has changed.
        ///
        /// With `rewind`, also one that is held open asks whenever it is read from the start.
        pub listing_asks: ListingAsks = EVENTUAL.listing_asks, Storage, "CHAOSFS_LISTING_ASKS";

        /// Whether reading a symlink asks the store whether its name still leads to it.
        pub symlinks_ask: bool = EVENTUAL.symlinks_ask, Storage, "CHAOSFS_SYMLINKS_ASK";

        /// Whether a directory that is held open is listed again when it is read from its start, or shows what it showed first.
        pub rewind_lists: bool = EVENTUAL.rewind_lists, Storage, "CHAOSFS_REWIND_LISTS";

        /// What requests say of what they are about: which inode it is, or at which path this client knows it.
        ///
        /// With `path`, whatever stands at the path now is meant, and ENOENT if there is nothing; with `handle`, an open file is
        /// still meant itself.
        pub requests_by: RequestsBy = EVENTUAL.requests_by, Storage, "CHAOSFS_REQUESTS_BY";

        /// Which changes end the belief in what they were about if they fail.
        pub failure_heals: Words<Attempt> = EVENTUAL.failure_heals, Storage, "CHAOSFS_FAILURE_HEALS";

        /// Which permissions are shown: those that are `stored`, or always these, of files and of directories: `644/755`.
        ///
        /// With fixed ones chmod(2) succeeds and changes nothing.
        pub modes: Modes = Modes::Stored, Storage, "CHAOSFS_MODES";

        /// What stat(2) shows as the number of names: how many there are, or always one (of a directory two: `one-or-two`).
        pub link_counts: LinkCounts = EVENTUAL.link_counts, Storage, "CHAOSFS_LINK_COUNTS";

        /// What becomes of a file whose last name another client has taken away.
        ///
        /// It `stays`, or only those who hold it open get at it (`held`), or nobody does: ESTALE (`stale`).
        pub unlinked: Unlinked = EVENTUAL.unlinked, Storage, "CHAOSFS_UNLINKED";

        /// What a rename is in the store: a `move`, which of `file-move` no directory with anything in it can be, or a `copy`.
        ///
        /// With `copy`, the new name appears first, the old one goes `copy-time` later, and a directory goes piece by piece. Only
        /// then does the call return. With `file-move`, renaming such a directory fails with EMFILE.
        pub rename_by: RenameBy = EVENTUAL.rename_by, Storage, "CHAOSFS_RENAME_BY";

        /// How long a rename that copies takes for each thing that it copies.
        pub copy_time: Delay = EVENTUAL.copy_time, Storage, "CHAOSFS_COPY_TIME";

        /// From when the delays of data, sizes and new files count: each change, or the last close of its file for writing.
        ///
        /// With `close`, nothing of a file lands while it is open for writing.
        pub delays_from: DelaysFrom = EVENTUAL.delays_from, Storage, "CHAOSFS_DELAYS_FROM";

        /// Whether fsync(2) makes what it is about land. Else it returns at once, and nothing is safe.
        pub fsync_lands: bool = EVENTUAL.fsync_lands, Storage, "CHAOSFS_FSYNC_LANDS";

        /// What makes data land before its time, besides fsync(2).
        pub flush_on: Words<FlushPoint> = EVENTUAL.flush_on, Storage, "CHAOSFS_FLUSH_ON";

        /// Whether looking a name up tells of changes in its directory.
        pub lookup_asks_directory: bool = EVENTUAL.lookup_asks_directory, Storage, "CHAOSFS_LOOKUP_ASKS_DIRECTORY";

        /// Whether listing a directory in the store brings the attributes of what is in it, so that older ones go.
        pub listing_brings_attributes: bool = EVENTUAL.listing_brings_attributes, Storage, "CHAOSFS_LISTING_BRINGS_ATTRIBUTES";

        /// Whether extended attributes are believed, for as long as the other attributes of their file are.
        pub believes_xattrs: bool = EVENTUAL.believes_xattrs, Storage, "CHAOSFS_BELIEVES_XATTRS";

        /// Which reads ask the store whether the file has changed, whatever is believed of it.
        ///
        /// With `direct`, those through a file that was opened with `O_DIRECT`.
        pub reads_ask: ReadsAsk = EVENTUAL.reads_ask, Storage, "CHAOSFS_READS_ASK";

        /// Whether what others write to a file is not seen by a client that has it open for writing.
        pub writer_ignores: bool = EVENTUAL.writer_ignores, Storage, "CHAOSFS_WRITER_IGNORES";

        /// Where a write to the end of a file goes (`O_APPEND`): to its end, or to where that was when the size was fetched last.
        pub append_at: AppendAt = EVENTUAL.append_at, Storage, "CHAOSFS_APPEND_AT";

        /// Which moment late data is dated with: that of its writer, or that at which the store gets it.
        ///
        /// With `writer`, a whole file that others have written later stays; with `store`, what lands last is on top.
        pub dated_by: DatedBy = EVENTUAL.dated_by, Storage, "CHAOSFS_DATED_BY";

        /// What becomes of late data on a file that others have changed meanwhile.
        ///
        /// It `wins`, or it is lost and the next close, fsync or write says ESTALE (`stale`).
        pub second_writer: SecondWriter = EVENTUAL.second_writer, Storage, "CHAOSFS_SECOND_WRITER";

        /// Where in a file programs may write; elsewhere EINVAL.
        pub writes_at: WritesAt = EVENTUAL.writes_at, Storage, "CHAOSFS_WRITES_AT";

        /// In what data is written: the bytes that a program wrote, or the pages in which they are.
        ///
        /// With `pages`, a page that has been read goes out whole, with the old bytes around the new ones.
        pub write_unit: WriteUnit = EVENTUAL.write_unit, Storage, "CHAOSFS_WRITE_UNIT";

        /// What a file is renamed to that is open here when its name is removed or replaced: nothing, or a hidden name.
        ///
        /// With `nfs` it is `.nfs` and a number, with `fuse` `.fuse_hidden` and a number. It goes when the file is closed.
        pub hide_open_as: HideAs = EVENTUAL.hide_open_as, Storage, "CHAOSFS_HIDE_OPEN_AS";

        /// Which locks clients share: none (`client`; `local` flushes and refreshes), those of fcntl(2), or those of flock(2), too.
        ///
        /// With `shared`, locks of fcntl(2) and flock(2) exclude each other, as on NFS. It cannot be changed while the client
        /// runs.
        pub locks: Locks = Locks::Client, Storage, "CHAOSFS_LOCKS";

        /// Whether locking shared needs a file open for reading, locking exclusively one open for writing; else EBADF.
        pub locks_need_access: bool = EVENTUAL.locks_need_access, Storage, "CHAOSFS_LOCKS_NEED_ACCESS";

        /// Whether taking a shared lock drops what is believed of the file.
        pub locks_refresh: bool = EVENTUAL.locks_refresh, Storage, "CHAOSFS_LOCKS_REFRESH";

        /// What is answered if somebody else has a shared lock.
        pub lock_conflict: LockConflict = EVENTUAL.lock_conflict, Storage, "CHAOSFS_LOCK_CONFLICT";

        /// Which flags renameat2(2) takes; the others answer EINVAL.
        pub rename_flags: Words<RenameFlag> = Words::all(), Storage, "CHAOSFS_RENAME_FLAGS";

        /// Calls that the storage does not have, and the errno that each answers: `link=EPERM+setxattr=EOPNOTSUPP`.
        pub refuses: Refused = Refused::default(), Storage, "CHAOSFS_REFUSES";

        /// The probability that an operation which can fail does so with EIO, before it has any effect.
        pub drop_prob: f64 = 0.0, Faults, "CHAOSFS_DROP_PROB";

        /// Whether a client sees its own changes before they land.
        ///
        /// With `false` even the client that wrote sees the old content and size until the new has landed, which no program
        /// alone on one host would meet.
        pub read_your_writes: bool = EVENTUAL.read_your_writes, Consistency, "CHAOSFS_READ_YOUR_WRITES";

        /// How much memory changes in flight may take before programs that make one wait.
        ///
        /// Data, names and symlinks count with their bytes, each change with about 0.6 KiB and each new inode with 2 KiB. Where
        /// programs would wait for more than ten seconds, the oldest changes land early, as dirty pages do under pressure.
        pub max_in_flight: u64 = 256 << 20, Consistency, "CHAOSFS_MAX_IN_FLIGHT";

        /// How many changes may be in flight before programs that make one wait.
        ///
        /// It limits their number, whatever memory they take.
        pub max_mutations: usize = 1_000_000, Consistency, "CHAOSFS_MAX_MUTATIONS";

        /// How much memory beliefs may take before the oldest are forgotten.
        ///
        /// Beliefs are attributes, names, absent names, listings and the content of files that were read. A forgotten one is
        /// fetched again when it is needed, as if it had expired.
        pub max_belief: u64 = 64 << 20, Consistency, "CHAOSFS_MAX_BELIEF";
    }
}

/// Another profile, or another scale of its time: what has the profile's value gets the new one.
fn take_profile(knobs: &mut Knobs, before: &Knobs) -> Result<(), Refusal> {
    knobs.profile = knobs.profile.found()?;
    let (old, new) = (before.of_its_profile()?, knobs.of_its_profile()?);
    for knob in Knobs::TABLE.iter().filter(|knob| knob.then.is_none()) {
        if knob.value(before) == knob.value(&old) {
            knob.assign(knobs, &knob.value(&new))?;
        }
    }
    Ok(())
}

impl Knobs {
    /// A client that cannot be told from the backing directory: nothing is late, stale or failing. The profile `posix`.
    pub fn zero() -> Knobs {
        let zero = Delay::fixed_millis(0);
        let profile = ProfileName::of("posix");
        Knobs {
            profile,
            meta_ttl: Duration::ZERO,
            write_delay: zero,
            rename_delay: zero,
            locks: Locks::Fcntl,
            ..Knobs::default()
        }
    }

    /// A client that behaves like the storage of this profile: a name, or the path of a TOML file.
    ///
    /// # Errors
    /// Says which profiles there are, or what is wrong with the file.
    pub fn of_profile(name: &str) -> Result<Knobs, Refusal> {
        let mut knobs = Knobs::default();
        Tunable::set(&mut knobs, "profile", name)?;
        Ok(knobs)
    }

    /// What the profile alone would be.
    fn of_its_profile(&self) -> Result<Knobs, Refusal> {
        profiles::knobs_of(self.profile.as_str(), &self.options, self.time_scale.0)
    }

    /// What is to be set on the defaults, in this order, to have these knobs: the profile, and what is not as in it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let (usual, of_profile) = (Knobs::default(), self.of_its_profile().unwrap_or_default());
        let differs = |knob: &&Knob<Knobs>| match knob.then {
            Some(_) => knob.value(self) != knob.value(&usual),
            None => knob.value(self) != knob.value(&of_profile),
        };
        Knobs::TABLE.iter().filter(differs).map(|knob| (knob.name, knob.value(self))).collect()
    }

    /// What decides what a client with these knobs answers.
    pub(crate) fn policy(&self) -> Policy {
        let lifetime = |own: Option<Duration>| own.unwrap_or(self.meta_ttl);
        let files = lifetime(self.attr_ttl);
        let directories = self.dir_attr_ttl.unwrap_or(files);
        Policy {
            lifetimes: Lifetimes {
                files: Lifetime { min: files, max: self.attr_ttl_max.unwrap_or(files) },
                directories: Lifetime { min: directories, max: self.dir_attr_ttl_max.unwrap_or(directories) },
                names: lifetime(self.name_ttl),
                absences: lifetime(self.absent_ttl),
                listings: lifetime(self.list_ttl),
            },
            names_by: self.names_by,
            evidence: self.change_evidence,
            open_asks: self.open_asks,
            open_gone: self.open_gone,
            listing_asks: self.listing_asks,
            symlinks_ask: self.symlinks_ask,
            rewind_lists: self.rewind_lists,
            requests_by: self.requests_by,
            failure_heals: self.failure_heals,
            link_counts: self.link_counts,
            unlinked: self.unlinked,
            rename_by: self.rename_by,
            copy_time: self.copy_time,
            delays_from: self.delays_from,
            fsync_lands: self.fsync_lands,
            flush_on: self.flush_on,
            lookup_asks_directory: self.lookup_asks_directory,
            listing_brings_attributes: self.listing_brings_attributes,
            believes_xattrs: self.believes_xattrs,
            reads_ask: self.reads_ask,
            writer_ignores: self.writer_ignores,
            append_at: self.append_at,
            dated_by: self.dated_by,
            second_writer: self.second_writer,
            writes_at: self.writes_at,
            write_unit: self.write_unit,
            hide_open_as: self.hide_open_as,
            locks_need_access: self.locks_need_access,
            locks_refresh: self.locks_refresh,
            lock_conflict: self.lock_conflict,
            delays: Delays {
                data: self.write_delay,
                sizes: self.resize_delay.unwrap_or(self.write_delay),
                new_files: self.create_delay.unwrap_or(self.write_delay),
                names: self.rename_delay,
            },
            read_your_writes: self.read_your_writes,
        }
    }

    /// Gives the knob of this name, with underscores or dashes, the value that `text` writes, as on the command line.
    ///
    /// # Errors
    /// Names the knob and what would be right; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        Tunable::set(self, name, text)
    }

    /// Every knob by name with its value, as [`Knobs::set`] takes them: the value of one that follows another is the name of
    /// that other.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        Tunable::pairs(self)
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// Names the first knob that has no meaning with its value, or with that of another.
    pub fn check(&self) -> Result<(), Refusal> {
        Tunable::check(self)?;
        let Lifetimes { files, directories, .. } = self.policy().lifetimes;
        refuse_backwards("attr_ttl_max", "attr_ttl", files)?;
        refuse_backwards("dir_attr_ttl_max", "dir_attr_ttl", directories)
    }
}

fn refuse_backwards(longest: &str, shortest: &str, lifetime: Lifetime) -> Result<(), Refusal> {
    let Lifetime { min, max } = lifetime;
    if min <= max {
        return Ok(());
    }
    let (min, max) = (Span(min), Span(max));
    Err(Refusal::new(format!(
        "{longest}: {max} is less than {shortest}, which is {min}; give it at least that"
    )))
}

impl fmt::Display for Knobs {
    /// The profile, and every knob that has a value of its own as `name=value`, separated by blanks; rules of the storage only
    /// where they are not as in the profile.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without its file, a profile tells nothing about what was overridden.
        f.write_str(&self.line_beside(&self.of_its_profile().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_set_by_name_and_show_what_can_be_set_again() {
        let mut knobs = Knobs::default();
        for (name, value) in [
            ("meta-ttl", "250us"),
            ("attr_ttl", "3s"),
            ("absent-ttl", "0"),
            ("list_ttl", "meta-ttl"),
            ("write_delay", "1ms..2s"),
            ("create-delay", "5"),
            ("rename_delay", "0"),
            ("drop_prob", "0.5"),
            ("read-your-writes", "off"),
            ("max_in_flight", "1MiB"),
            ("max_mutations", "7"),
            ("max-belief", "1KiB"),
        ] {
            assert_eq!(knobs.set(name, value), Ok(()), "{name}");
        }
        let mut again = Knobs::default();
        knobs.pairs().iter().for_each(|(name, value)| again.set(name, value).unwrap());
        assert_eq!(again, knobs);
        assert_eq!((knobs.meta_ttl, knobs.max_mutations), (Duration::from_micros(250), 7));
        assert_eq!((knobs.attr_ttl, knobs.list_ttl), (Some(Duration::from_secs(3)), None));
    }

    #[test]
    fn a_wrong_knob_or_value_is_refused_by_name_and_changes_nothing() {
        let mut knobs = Knobs::default();
        let refusal = knobs.set("write-delay", "soon").unwrap_err().0;
        assert!(refusal.starts_with("write-delay: `soon` is not a span"), "{refusal}");
        let refusal = knobs.set("speed", "1").unwrap_err().0;
        assert!(refusal.starts_with("`speed` is not a knob; there are profile, time_scale,"), "{refusal}");
        assert!(knobs.set("max_mutations", "0").is_err() && knobs.set("max_in_flight", "0").is_err());
        assert_eq!(knobs, Knobs::default());
    }

    #[test]
    fn knobs_built_by_hand_are_checked_too() {
        assert_eq!(Knobs::zero().check(), Ok(()));
        let backwards = Delay { min: Duration::from_secs(2), max: Duration::from_secs(1) };
        assert_eq!(backwards.at(0.5), backwards.min);
        assert!(
            Knobs { write_delay: backwards, ..Knobs::default() }
                .check()
                .unwrap_err()
                .0
                .contains("write_delay")
        );
        assert!(Knobs { drop_prob: 1.5, ..Knobs::default() }.check().is_err());
        assert!(Knobs { max_in_flight: 0, ..Knobs::default() }.check().is_err());
    }

    #[test]
    fn the_defaults_and_zero_are_policies() {
        assert_eq!(Knobs::default().policy(), Policy::eventual());
        assert_eq!(Knobs::zero().policy(), Policy::zero());
    }

    #[test]
    fn a_knob_follows_another_until_it_has_a_value_of_its_own() {
        let mut knobs = Knobs { meta_ttl: Duration::from_secs(9), ..Knobs::zero() };
        assert_eq!(knobs.policy().lifetimes, Lifetimes::all(Duration::from_secs(9)));
        knobs.set("absent_ttl", "0").unwrap();
        knobs.set("create_delay", "1s").unwrap();
        let policy = knobs.policy();
        assert_eq!((policy.lifetimes.absences, policy.lifetimes.names), (Duration::ZERO, knobs.meta_ttl));
        assert_eq!((policy.delays.new_files, policy.delays.data), (Delay::fixed_millis(1000), Delay::ZERO));
        assert!(knobs.to_string().starts_with(
            "profile=posix meta_ttl=9000ms absent_ttl=0ms write_delay=0ms create_delay=1000ms "
        ));
        knobs.set("absent-ttl", "meta-ttl").unwrap();
        assert_eq!(knobs.absent_ttl, None);
        let refusal = knobs.set("absent_ttl", "write_delay").unwrap_err().0;
        assert_eq!(
            refusal,
            "absent_ttl: `write_delay` is not a span of time; write milliseconds (`800`) or a unit (`1.5s`, `200ms`, `2m`)"
        );
        assert!(
            knobs.set("meta_ttl", "meta_ttl").is_err(),
            "only what follows another can be given its name"
        );
    }

    #[test]
    fn knobs_show_every_value() {
        assert_eq!(
            Knobs::default().to_string(),
            "profile=eventual meta_ttl=1500ms write_delay=800ms rename_delay=1200ms drop_prob=0 read_your_writes=true \
             max_in_flight=268435456 max_mutations=1000000 max_belief=67108864"
        );
    }
}
