//! Every kind of call that programs make, once.

use std::fmt;

/// One kind of call.
#[expect(missing_docs, reason = "named for the system calls and FUSE requests that they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Lookup,
    Getattr,
    Read,
    Write,
    Open,
    Create,
    Flush,
    Readdir,
    Opendir,
    Unlink,
    Rename,
    Setattr,
    Mkdir,
    Rmdir,
    Fsync,
    Link,
    Symlink,
    Readlink,
    Mknod,
    Access,
    Statfs,
    Getxattr,
    Listxattr,
    Setxattr,
    Removexattr,
    Fallocate,
    Lseek,
    CopyFileRange,
    Getlk,
    Setlk,
}

impl Operation {
    /// All of them, each at the index that it has as a number.
    pub const ALL: [Operation; 30] = [
        Operation::Lookup,
        Operation::Getattr,
        Operation::Read,
        Operation::Write,
        Operation::Open,
        Operation::Create,
        Operation::Flush,
        Operation::Readdir,
        Operation::Opendir,
        Operation::Unlink,
        Operation::Rename,
        Operation::Setattr,
        Operation::Mkdir,
        Operation::Rmdir,
        Operation::Fsync,
        Operation::Link,
        Operation::Symlink,
        Operation::Readlink,
        Operation::Mknod,
        Operation::Access,
        Operation::Statfs,
        Operation::Getxattr,
        Operation::Listxattr,
        Operation::Setxattr,
        Operation::Removexattr,
        Operation::Fallocate,
        Operation::Lseek,
        Operation::CopyFileRange,
        Operation::Getlk,
        Operation::Setlk,
    ];

    /// Its name in the log, in draws and in counts.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Lookup => "lookup",
            Operation::Getattr => "getattr",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Open => "open",
            Operation::Create => "create",
            Operation::Flush => "flush",
            Operation::Readdir => "readdir",
            Operation::Opendir => "opendir",
            Operation::Unlink => "unlink",
            Operation::Rename => "rename",
            Operation::Setattr => "setattr",
            Operation::Mkdir => "mkdir",
            Operation::Rmdir => "rmdir",
            Operation::Fsync => "fsync",
            Operation::Link => "link",
            Operation::Symlink => "symlink",
            Operation::Readlink => "readlink",
            Operation::Mknod => "mknod",
            Operation::Access => "access",
            Operation::Statfs => "statfs",
            Operation::Getxattr => "getxattr",
            Operation::Listxattr => "listxattr",
            Operation::Setxattr => "setxattr",
            Operation::Removexattr => "removexattr",
            Operation::Fallocate => "fallocate",
            Operation::Lseek => "lseek",
            Operation::CopyFileRange => "copy_file_range",
            Operation::Getlk => "getlk",
            Operation::Setlk => "setlk",
        }
    }

    /// Whether such a call can change something.
    pub fn can_change(self) -> bool {
        matches!(
            self,
            Operation::Write
                | Operation::Open
                | Operation::Create
                | Operation::Unlink
                | Operation::Rename
                | Operation::Setattr
                | Operation::Mkdir
                | Operation::Rmdir
                | Operation::Link
                | Operation::Symlink
                | Operation::Mknod
                | Operation::Setxattr
                | Operation::Removexattr
                | Operation::Fallocate
                | Operation::CopyFileRange
        )
    }

    /// Whether programs alone make such calls. The kernel makes the others by itself as well, or instead: GETATTR for
    /// its permission checks and before it reads, ACCESS only where it checks no permissions. How many there are, and
    /// when, then depends on who runs the program and on what the kernel remembers, so nothing is drawn for them.
    pub fn is_only_programs(self) -> bool {
        !matches!(self, Operation::Getattr | Operation::Access)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_operations_are_listed_in_the_order_of_their_numbers() {
        assert!(Operation::ALL.iter().enumerate().all(|(index, operation)| *operation as usize == index));
        assert_eq!(Operation::ALL.len(), Operation::Setlk as usize + 1);
    }
}
