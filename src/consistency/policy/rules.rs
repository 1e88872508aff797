//! The rules of storage that are one of a few words, or some of them.

use crate::consistency::{Change, Kind};

words! {
    /// What tells that an inode is still as it was when it was fetched before.
    pub enum Evidence {
        /// Nothing: bytes are read anew with each refetch.
        Nothing = "nothing",
        /// Its times and size. Two changes within one tick of the store's clock look like one.
        Times = "times",
        /// A counter of its changes.
        Counter = "counter",
    }
}

words! {
    /// What ends the belief in a name or a listing, besides its own time.
    pub enum NamesBy {
        /// Nothing.
        Time = "time",
        /// A change of its directory, whose attributes are fetched again when their time is over. Names and listings carry
        /// the state of the directory under which they were fetched.
        Directory = "directory",
    }
}

words! {
    /// Whether opening a file asks the store about it, and drops what was read of it if it has changed.
    pub enum OpenAsks {
        /// What is believed is good enough.
        Nothing = "nothing",
        /// About the inode that the name is believed to lead to (close-to-open of NFSv3 and NFSv4.1).
        Inode = "inode",
        /// Also whether the name still leads there.
        Name = "name",
    }
}

words! {
    /// What becomes of a file that has lost its last name to another client.
    pub enum Unlinked {
        /// Who has it goes on with it.
        Stays = "stays",
        /// The same, but nobody else gets at it by a name that is believed.
        Held = "held",
        /// Nobody gets at it: ESTALE.
        Stale = "stale",
    }
}

words! {
    /// What an open by name answers if that does not lead any more to what it is believed to lead to.
    pub enum OpenGone {
        /// The name is looked up once more, and what is there now is opened.
        Again = "again",
        /// What is there now is opened if it is as large as is believed, else EIO, for as long as the name is believed.
        Error = "EIO",
    }
}

words! {
    /// What requests to the store say of the inode that they are about.
    pub enum RequestsBy {
        /// Which it is, wherever it is now (a file handle).
        Inode = "inode",
        /// The path at which this client knows it, whatever stands there now; of an open file, which it is.
        Handle = "handle",
        /// The path, also of an open file.
        Path = "path",
    }
}

words! {
    /// What a rename is in the store.
    pub enum RenameBy {
        /// One step.
        Move = "move",
        /// One step for files and for empty directories; other directories cannot be renamed: EMFILE (gcsfuse, fs/fs.go, on buckets
        /// that know no directories).
        FileMove = "file-move",
        /// Copying everything to the new name and then removing it at the old one, of a directory one after the other.
        Copy = "copy",
    }
}

words! {
    /// What a client tries to change.
    pub enum Attempt {
        /// A name and a new inode.
        Make = "make",
        /// One more name.
        Link = "link",
        /// A name less, of a file or a directory.
        Remove = "remove",
        /// Another name.
        Rename = "rename",
        /// Attributes and extended attributes.
        Attributes = "setattr",
        /// Bytes and sizes.
        Data = "data",
    }
}

impl Attempt {
    /// What a change is.
    pub fn of(change: &Change) -> Attempt {
        match change {
            Change::Make { .. } => Attempt::Make,
            Change::Link { .. } => Attempt::Link,
            Change::Unlink { .. } | Change::RemoveDirectory { .. } => Attempt::Remove,
            Change::Rename { .. } => Attempt::Rename,
            Change::SetAttributes { .. } | Change::SetXattr { .. } => Attempt::Attributes,
            Change::Write { .. } | Change::Resize { .. } | Change::Allocate { .. } => Attempt::Data,
        }
    }
}

words! {
    /// What is shown as the number of an inode's names.
    pub enum LinkCounts {
        /// Their number.
        Counted = "counted",
        /// One, whatever it is.
        One = "one",
        /// One of a file, two of a directory.
        OneOrTwo = "one-or-two",
    }
}

impl LinkCounts {
    /// What is shown of an inode of this kind, if they are not counted.
    pub fn shown(self, kind: Kind) -> Option<u32> {
        match self {
            LinkCounts::Counted => None,
            LinkCounts::OneOrTwo if kind == Kind::Directory => Some(2),
            LinkCounts::One | LinkCounts::OneOrTwo => Some(1),
        }
    }
}

words! {
    /// In what data is written.
    pub enum WriteUnit {
        /// The bytes that a program wrote.
        Bytes = "bytes",
        /// Whole pages, where the rest of the page is believed (fs/nfs/write.c, `nfs_can_extend_write`).
        Pages = "pages",
    }
}

words! {
    /// What a file that is open here is renamed to when its name is taken away here.
    pub enum HideAs {
        /// It needs no name.
        Nothing = "nothing",
        /// `.nfs` and 24 hexadecimal digits (fs/nfs/unlink.c).
        Nfs = "nfs",
        /// `.fuse_hidden` and 16 (libfuse, lib/fuse.c).
        Fuse = "fuse",
    }
}

words! {
    /// Which moment data that lands late is dated with, and decides who of several wrote last.
    pub enum DatedBy {
        /// That at which its program wrote it. A whole file that was written later by others stays.
        Writer = "writer",
        /// That at which it lands, on top of whatever is there.
        Store = "store",
    }
}

words! {
    /// Which locks clients share through the store.
    pub enum Locks {
        /// None: each client keeps its own.
        Client = "client",
        /// None, and locking is a request to this client all the same, so that it can flush and refresh. Locks of fcntl(2) and
        /// flock(2) exclude each other.
        Local = "local",
        /// Those of fcntl(2). Those of flock(2) stay with each client.
        Fcntl = "fcntl",
        /// Both, which exclude each other.
        Shared = "shared",
    }
}

words! {
    /// What is answered if somebody else has a lock.
    pub enum LockConflict {
        /// EAGAIN.
        Again = "EAGAIN",
        /// EACCES.
        Access = "EACCES",
    }
}

words! {
    /// When listing a directory asks the store whether it has changed, whatever is believed of it.
    pub enum ListingAsks {
        /// Never.
        Never = "never",
        /// When it is opened.
        Open = "open",
        /// When it is opened, and whenever it is read from the start.
        Rewind = "rewind",
    }
}

words! {
    /// What becomes of data that lands on a file which others have changed since this client last saw it.
    pub enum SecondWriter {
        /// It lands on top.
        Wins = "wins",
        /// It is refused: the next close, fsync or write says ESTALE, and the data is lost.
        Stale = "stale",
    }
}

words! {
    /// From when the delays of data, of sizes and of new files count.
    pub enum DelaysFrom {
        /// From each change.
        Change = "change",
        /// From when the last who has the file open for writing closes it.
        Close = "close",
    }
}

words! {
    /// Where in a file programs may write.
    pub enum WritesAt {
        /// Anywhere.
        Anywhere = "anywhere",
        /// At its end; EINVAL elsewhere.
        End = "end",
    }
}

words! {
    /// Which reads of a file ask the store whether it has changed.
    pub enum ReadsAsk {
        /// None but the first after its attributes are over.
        None = "none",
        /// Those around caches (`O_DIRECT`).
        Direct = "direct",
        /// All.
        All = "all",
    }
}

words! {
    /// What renameat2(2) can be asked for.
    pub enum RenameFlag {
        /// `RENAME_NOREPLACE`.
        NoReplace = "noreplace",
        /// `RENAME_EXCHANGE`.
        Exchange = "exchange",
    }
}

words! {
    /// Where a write to the end of a file goes (`O_APPEND`).
    pub enum AppendAt {
        /// To where the file ends in the store, or in this client's view while its data lands late.
        End = "end",
        /// To where it ended when its size was fetched last, however long ago (fs/nfs/file.c, `nfs_file_write`).
        KnownEnd = "known-end",
    }
}

words! {
    /// What makes data of a file land that is in flight, besides its time and fsync(2).
    pub enum FlushPoint {
        /// Closing a descriptor through which it may be written.
        Close = "close",
        /// Asking here for its attributes.
        Stat = "stat",
        /// Changing its attributes or size.
        SetAttributes = "setattr",
        /// Giving it one more name.
        Link = "link",
        /// Renaming it within its directory.
        Rename = "rename",
        /// Taking a shared lock on it, or giving one up.
        Lock = "lock",
    }
}
