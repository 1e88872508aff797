//! POSIX access control lists, as extended attributes carry them (`acl(5)`): what they say of permission bits, and what
//! new inodes inherit.
//!
//! The owner's entry, the mask (without one, the group's entry) and the others' entry of an access ACL *are* the
//! permission bits of its inode. So an ACL is always shown with the bits that its inode is shown with, whichever of the
//! two was changed last.

/// The extended attribute that holds an inode's own ACL.
pub const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The one that holds what is made in a directory gets.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `POSIX_ACL_XATTR_VERSION`, linux/posix_acl_xattr.h, which has the layout, too.
const VERSION: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    bits: u16,
    id: u32,
}

/// One access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<AclEntry>,
}

impl Acl {
    /// The ACL in the value of an extended attribute; `None` if the value is torn, of another version, or lacks the
    /// entries that every ACL has.
    pub fn parse(value: &[u8]) -> Option<Acl> {
        let (version, entries) = value.split_first_chunk()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return None;
        }
        let entry = |bytes: &[u8]| AclEntry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            bits: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        let acl = Acl { entries: entries.chunks_exact(8).map(entry).collect() };
        let has = |tag| acl.entries.iter().any(|entry| entry.tag == tag);
        (has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER)).then_some(acl)
    }

    /// The value of an extended attribute that holds this ACL.
    pub fn to_value(&self) -> Vec<u8> {
        let entry = |entry: &AclEntry| {
            [&entry.tag.to_le_bytes()[..], &entry.bits.to_le_bytes(), &entry.id.to_le_bytes()].concat()
        };
        VERSION.to_le_bytes().into_iter().chain(self.entries.iter().flat_map(entry)).collect()
    }

    /// How many bytes the file systems need for it that have little room for attributes: entries without an id are
    /// stored without one (ext4_acl_to_disk in fs/ext4/acl.c, f2fs alike).
    pub fn stored_size(&self) -> usize {
        let size = |entry: &AclEntry| if [USER, GROUP].contains(&entry.tag) { 8 } else { 4 };
        size_of::<u32>() + self.entries.iter().map(size).sum::<usize>()
    }

    /// The nine permission bits that it stands for.
    pub fn permissions(&self) -> u32 {
        let bits = |tag| self.entries.iter().find(|entry| entry.tag == tag).map_or(0, |entry| entry.bits & 7);
        u32::from(bits(USER_OBJ) << 6 | bits(self.group_class()) << 3 | bits(OTHER))
    }

    /// Whether it says no more than permission bits do. File systems keep no access ACL then.
    pub fn is_minimal(&self) -> bool {
        !self.entries.iter().any(|entry| [USER, GROUP, MASK].contains(&entry.tag))
    }

    /// The access ACL of an inode that is given other permission bits.
    pub fn with_permissions(mut self, permissions: u32) -> Acl {
        let group_class = self.group_class();
        for entry in &mut self.entries {
            let shift = match entry.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == group_class => 3,
                _ => continue,
            };
            entry.bits = (permissions >> shift & 7) as u16;
        }
        self
    }

    /// The access ACL of an inode that is made with `mode` in a directory whose default ACL this is. The umask has no
    /// say in it.
    pub fn inherited(self, mode: u32) -> Acl {
        let permissions = self.permissions() & mode;
        self.with_permissions(permissions)
    }

    /// The entry that the group's permission bits show.
    fn group_class(&self) -> u16 {
        if self.entries.iter().any(|entry| entry.tag == MASK) { MASK } else { GROUP_OBJ }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Acl {
        let entries = entries.iter().map(|&(tag, bits)| AclEntry { tag, bits, id: u32::MAX });
        Acl { entries: entries.collect() }
    }

    #[test]
    fn with_a_mask_the_groups_bits_are_the_mask() {
        let masked = acl(&[(USER_OBJ, 6), (USER, 4), (GROUP_OBJ, 0), (MASK, 5), (OTHER, 1)]);
        assert_eq!((masked.permissions(), masked.is_minimal()), (0o651, false));
        let changed = masked.with_permissions(0o4710);
        assert_eq!(changed, acl(&[(USER_OBJ, 7), (USER, 4), (GROUP_OBJ, 0), (MASK, 1), (OTHER, 0)]));
    }

    #[test]
    fn without_a_mask_they_are_the_groups_entry() {
        let minimal = acl(&[(USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 0)]);
        assert_eq!((minimal.permissions(), minimal.is_minimal()), (0o750, true));
        assert_eq!(minimal.with_permissions(0o604).permissions(), 0o604);
    }

    #[test]
    fn only_entries_for_somebody_by_number_are_stored_with_it() {
        let masked = acl(&[(USER_OBJ, 6), (USER, 4), (GROUP_OBJ, 0), (GROUP, 4), (MASK, 5), (OTHER, 1)]);
        assert_eq!(masked.stored_size(), 4 + 4 * 4 + 2 * 8);
    }

    #[test]
    fn what_is_inherited_is_what_both_the_mode_and_the_acl_allow() {
        let default = acl(&[(USER_OBJ, 7), (USER, 6), (GROUP_OBJ, 7), (MASK, 6), (OTHER, 5)]);
        let inherited = default.inherited(0o100_653);
        assert_eq!(inherited, acl(&[(USER_OBJ, 6), (USER, 6), (GROUP_OBJ, 7), (MASK, 4), (OTHER, 1)]));
    }

    #[test]
    fn a_value_survives_both_ways_and_a_torn_one_is_none() {
        let masked = acl(&[(USER_OBJ, 6), (USER, 4), (GROUP_OBJ, 0), (MASK, 5), (OTHER, 1)]);
        let value = masked.to_value();
        assert_eq!((value.len(), Acl::parse(&value)), (4 + 5 * 8, Some(masked)));
        for end in 0..value.len() {
            assert_eq!(Acl::parse(&value[..end]), None, "{end}");
        }
        assert_eq!(Acl::parse(&[&[1], &value[1..]].concat()), None, "another version");
    }
}
