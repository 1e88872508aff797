//! What sets kinds of file system apart and no call tells, as measured on Linux 6.18:
//!
//! | | ext4 | xfs | btrfs | tmpfs |
//! |---|---|---|---|---|
//! | links of one file | 65,000 | | 65,535 | |
//! | an extended attribute gets the value it has | stays as it is | changes | changes | changes |
//! | an ACL that is not there is removed | stays as it is | stays as it is | changes | changes |

/// `EXT4_SUPER_MAGIC`, linux/magic.h; ext2 and ext3 have it, too, and the same driver nowadays.
const EXT: u32 = 0xEF53;
/// `XFS_SUPER_MAGIC`.
const XFS: u32 = 0x5846_5342;
/// `BTRFS_SUPER_MAGIC`.
const BTRFS: u32 = 0x9123_683E;

/// What is known of a kind of file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// How many links a file can have.
    pub most_links: Option<u32>,
    /// Giving an extended attribute the value it has leaves the inode as it is, its ctime too.
    pub keeps_same_value: bool,
    /// The same for removing an ACL that is not there.
    pub keeps_absent_acl: bool,
}

impl Traits {
    /// The traits of the kind of file system with this `f_type` (`statfs(2)`). `pathconf(3)` is no help with the links:
    /// for what it does not know it makes a number up.
    pub fn of_kind(magic: u32) -> Traits {
        match magic {
            EXT => Traits { most_links: Some(65_000), keeps_same_value: true, keeps_absent_acl: true },
            XFS => Traits { keeps_absent_acl: true, ..Traits::default() },
            BTRFS => Traits { most_links: Some(65_535), ..Traits::default() },
            _ => Traits::default(),
        }
    }

    /// Whether giving an attribute the value it has, or removing an ACL that is not there, leaves the inode as it is.
    pub fn keeps(&self, is_there: bool) -> bool {
        if is_there { self.keeps_same_value } else { self.keeps_absent_acl }
    }

    /// Whether a file with so many links can have one more.
    pub fn takes_one_more_link(&self, links: u32) -> bool {
        self.most_links.is_none_or(|most| links < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_as_many_links_as_its_kind_of_file_system_allows() {
        let ext = Traits::of_kind(EXT);
        assert!(ext.takes_one_more_link(64_999) && !ext.takes_one_more_link(65_000));
        let unknown = Traits::of_kind(0);
        assert!(unknown.takes_one_more_link(u32::MAX) && unknown == Traits::default());
    }
}
