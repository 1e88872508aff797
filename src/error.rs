//! Every failure of an operation and its errno, in one table; and [`Refusal`], the one line a person gets when
//! chaosfs cannot do what was asked.

use std::{fmt, io};

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $number:literal $symbol:literal;)*) => {
        /// A failure of one file system operation.
        ///
        /// A failure that the backing directory reported keeps its errno, so that a program sees exactly what the
        /// backing file system said.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Error {
            $($(#[$doc])* $name,)*
            /// An errno without a name here. Made by [`Error::of`] alone, so that equal errors are equal.
            System(i32),
        }

        impl Error {
            /// The failure with this errno.
            pub const fn of(errno: i32) -> Error {
                match errno {
                    $($number => Error::$name,)*
                    _ => Error::System(errno),
                }
            }

            /// The errno that the calling program sees (Linux numbers, `errno(3)`).
            pub fn errno(self) -> i32 {
                match self {
                    $(Error::$name => $number,)*
                    Error::System(errno) => errno,
                }
            }
        }

        const SYMBOLS: &[(i32, &str)] = &[$(($number, $symbol),)*];
    };
}

failures! {
    /// The operation is not permitted on this kind of object.
    NotPermitted = 1 "EPERM";
    /// The name does not exist in this client's view.
    NotFound = 2 "ENOENT";
    /// The waiting program was killed.
    Interrupted = 4 "EINTR";
    /// An input or output error; also what an injected fault looks like.
    InputOutput = 5 "EIO";
    /// The file handle is not one of ours, or belongs to another inode.
    BadHandle = 9 "EBADF";
    /// The caller may not do that.
    AccessDenied = 13 "EACCES";
    /// Busy: a mount point, or a name in use by the system.
    Busy = 16 "EBUSY";
    /// The name exists already in this client's view.
    Exists = 17 "EEXIST";
    /// A hard link or rename between different file systems.
    CrossDevice = 18 "EXDEV";
    /// A directory was needed and something else was found.
    NotDirectory = 20 "ENOTDIR";
    /// A directory was found where something else was needed.
    IsDirectory = 21 "EISDIR";
    /// Wrong arguments.
    Invalid = 22 "EINVAL";
    /// No descriptor is left in this process.
    TooManyOpen = 24 "EMFILE";
    /// A program that runs cannot be written to.
    TextBusy = 26 "ETXTBSY";
    /// The file would pass the largest size that the backing file system can hold.
    TooBig = 27 "EFBIG";
    /// The backing file system is full.
    NoSpace = 28 "ENOSPC";
    /// The backing directory is mounted read-only.
    ReadOnly = 30 "EROFS";
    /// The file has as many links as the backing file system allows.
    TooManyLinks = 31 "EMLINK";
    /// Too long a name or value for the room given.
    OutOfRange = 34 "ERANGE";
    /// The name is longer than the backing file system takes.
    NameTooLong = 36 "ENAMETOOLONG";
    /// The store grants no locks.
    NoLocks = 37 "ENOLCK";
    /// The operation is unknown here.
    NotImplemented = 38 "ENOSYS";
    /// The directory has entries in this client's view.
    NotEmpty = 39 "ENOTEMPTY";
    /// A symlink was found where it is not followed.
    Loop = 40 "ELOOP";
    /// No such extended attribute.
    NoData = 61 "ENODATA";
    /// The operation is not supported.
    NotSupported = 95 "EOPNOTSUPP";
    /// The inode behind a number is gone; the kernel looks the name up again (once) when it hears this.
    Stale = 116 "ESTALE";
    /// The quota is used up.
    QuotaExceeded = 122 "EDQUOT";
}

impl AsRef<Error> for Error {
    fn as_ref(&self) -> &Error {
        self
    }
}

impl Error {
    /// Whether time may heal it: a landing that met it is retried (`design`: ENOSPC, EDQUOT, EIO, EROFS).
    pub fn is_passing(self) -> bool {
        const PASSING: [Error; 4] =
            [Error::NoSpace, Error::QuotaExceeded, Error::InputOutput, Error::ReadOnly];
        PASSING.contains(&self)
    }

    /// Whether it is this process's own and passes: no descriptors, no memory, interrupted.
    pub fn is_of_this_process(self) -> bool {
        const ENFILE: i32 = 23;
        const ENOMEM: i32 = 12;
        [Error::TooManyOpen, Error::Interrupted, Error::of(ENFILE), Error::of(ENOMEM)].contains(&self)
    }

    /// The failure whose errno has this symbol.
    pub fn of_symbol(symbol: &str) -> Option<Error> {
        let found = SYMBOLS.iter().find(|(_, known)| *known == symbol);
        found.map(|(errno, _)| Error::of(*errno))
    }

    /// The errno's symbol, such as `ENOENT`; numbers outside the table are written as `errno-N`.
    pub fn symbol(self) -> String {
        let errno = self.errno();
        match SYMBOLS.iter().find(|(number, _)| *number == errno) {
            Some((_, symbol)) => (*symbol).to_string(),
            None => format!("errno-{errno}"),
        }
    }
}

impl fmt::Display for Error {
    /// What the C library says of the errno, without its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.errno()).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    /// Keeps the errno; what has none is EIO.
    fn from(error: io::Error) -> Error {
        error.raw_os_error().map_or(Error::InputOutput, Error::of)
    }
}

/// Why chaosfs does not do what a person asked: one clear line that names the flag, variable or path, what was
/// wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl Refusal {
    /// A refusal that says `text`.
    pub fn new(text: impl Into<String>) -> Refusal {
        Refusal(text.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_errno_passes_through_untouched() {
        let error = Error::from(io::Error::from_raw_os_error(41));
        assert_eq!(error.errno(), 41);
        assert_eq!(error.symbol(), "errno-41");
        assert_eq!(Error::of(28).to_string(), "No space left on device");
        assert_eq!(Error::from(io::Error::from_raw_os_error(2)), Error::NotFound);
    }

    #[test]
    fn passing_failures_are_the_four_of_the_contract() {
        assert!(Error::of(28).is_passing() && Error::QuotaExceeded.is_passing());
        assert!(Error::of(5).is_passing() && Error::ReadOnly.is_passing());
        assert!(!Error::AccessDenied.is_passing() && !Error::TooBig.is_passing());
    }
}
