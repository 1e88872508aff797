//! Extended attributes, POSIX ACLs among them.

use std::{collections::BTreeSet, os::fd::AsFd};

use super::Client;
use crate::{
    backing::sys,
    consistency::{AttributeChange, Change, Ino},
    error::Error,
};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// `XATTR_CREATE`, `setxattr(2)`.
const CREATE: i32 = 1;
/// `XATTR_REPLACE`, `setxattr(2)`.
const REPLACE: i32 = 2;

impl Client {
    /// Gives an extended attribute a value, with the flags of `setxattr(2)`.
    ///
    /// # Errors
    /// EEXIST, ENODATA by the flags; EOPNOTSUPP for an unknown kind of name; whatever the backing directory answers,
    /// where it goes through.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32) -> Result<(), Error> {
        self.operate(
            "setxattr",
            || self.table.path(ino),
            |trace| {
                let change = Change::SetXattr { ino, name: name.into(), value: Some(value.into()) };
                if self.goes_through(&self.lock(), &change) {
                    let result = sys::set_xattr(self.descriptor(ino)?.as_fd(), name, value, flags);
                    self.forget_beliefs(&change);
                    return result;
                }
                self.check_writable()?;
                check_kind(name)?;
                let exists = self.xattr(ino, name).map(|_| true).or_else(absent_is_false)?;
                match (flags & CREATE != 0, flags & REPLACE != 0) {
                    (true, _) if exists => return Err(Error::Exists),
                    (_, true) if !exists => return Err(Error::NoData),
                    _ => {}
                }
                self.check_value_fits(name, value)?;
                self.put_in_flight(&mut self.lock(), change, self.clock.wall())?;
                // An access ACL decides the permission bits, too (`acl(5)`).
                let bits = if name == ACCESS_ACL { permissions_of_acl(value) } else { None };
                match bits {
                    Some(bits) => {
                        let kept = self.view(ino, trace)?.permissions & 0o7000;
                        let permissions = Some(kept | bits);
                        self.change_attributes(
                            ino,
                            AttributeChange { permissions, ..AttributeChange::default() },
                        )
                    }
                    None => Ok(()),
                }
            },
        )
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA; whatever the backing directory answers.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        self.operate("getxattr", || self.table.path(ino), |_| self.xattr(ino, name))
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        {
            let state = self.lock();
            match state.in_flight.overlay().xattr(ino, name) {
                Some(Some(value)) => return Ok(value.to_vec()),
                Some(None) => return Err(Error::NoData),
                None if state.in_flight.overlay().unlanded(ino).is_some() => return Err(Error::NoData),
                None => {}
            }
        }
        sys::get_xattr(self.descriptor(ino)?.as_fd(), name)
    }

    /// The names of all extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    /// Whatever the backing directory answers.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        self.operate(
            "listxattr",
            || self.table.path(ino),
            |_| {
                let (overlay, unlanded) = {
                    let state = self.lock();
                    (state.in_flight.overlay().xattrs(ino), state.in_flight.overlay().unlanded(ino).is_some())
                };
                let base =
                    if unlanded { Vec::new() } else { sys::list_xattrs(self.descriptor(ino)?.as_fd())? };
                if overlay.is_empty() {
                    return Ok(base);
                }
                let mut names: BTreeSet<Vec<u8>> = base
                    .split(|byte| *byte == 0)
                    .filter(|name| !name.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect();
                for (name, present) in overlay {
                    if present {
                        names.insert(name.to_vec());
                    } else {
                        names.remove(&*name);
                    }
                }
                Ok(names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect())
            },
        )
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA; whatever the backing directory answers, where it goes through.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), Error> {
        self.operate(
            "removexattr",
            || self.table.path(ino),
            |_| {
                let change = Change::SetXattr { ino, name: name.into(), value: None };
                if self.goes_through(&self.lock(), &change) {
                    let result = sys::remove_xattr(self.descriptor(ino)?.as_fd(), name);
                    self.forget_beliefs(&change);
                    return result;
                }
                self.check_writable()?;
                check_kind(name)?;
                self.xattr(ino, name)?;
                self.put_in_flight(&mut self.lock(), change, self.clock.wall())
            },
        )
    }

    /// Refuses at once a value that the backing file system has no room for in any file, found out on one without a
    /// name.
    fn check_value_fits(&self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        const UNDOUBTED: usize = 1024;
        if value.len() <= UNDOUBTED {
            return Ok(());
        }
        let Ok(nameless) = sys::create_nameless(self.table.root().as_fd()) else { return Ok(()) };
        sys::set_xattr(nameless.as_fd(), name, value, 0)
    }

    /// The permission bits that a directory's default ACL leaves to new inodes; `None` without one, where the umask
    /// decides (`acl(5)`).
    pub(super) fn default_acl_bits(&self, directory: Ino) -> Result<Option<u32>, Error> {
        match self.xattr(directory, DEFAULT_ACL) {
            Ok(value) => Ok(permissions_of_acl(&value)),
            Err(error) if error.is(Error::NotSupported) || error.is(Error::NoData) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn absent_is_false(error: Error) -> Result<bool, Error> {
    if error.is(Error::NoData) { Ok(false) } else { Err(error) }
}

/// Refuses names that no Linux file system takes (`xattr(7)`).
fn check_kind(name: &[u8]) -> Result<(), Error> {
    const KINDS: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    let known = KINDS.iter().any(|kind| name.starts_with(kind)) || name == ACCESS_ACL || name == DEFAULT_ACL;
    if known { Ok(()) } else { Err(Error::NotSupported) }
}

/// The permission bits that an ACL stands for: its owner, its mask (without one, its group), its others. Layout:
/// a version of four bytes, then entries of tag, permissions and id (linux/posix_acl_xattr.h).
fn permissions_of_acl(value: &[u8]) -> Option<u32> {
    const USER_OBJ: u16 = 0x01;
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    let entries: Vec<(u16, u32)> = value
        .get(4..)?
        .chunks_exact(8)
        .map(|entry| {
            (u16::from_le_bytes([entry[0], entry[1]]), u32::from(u16::from_le_bytes([entry[2], entry[3]])))
        })
        .collect();
    let of = |tag| entries.iter().find(|(found, _)| *found == tag).map(|(_, bits)| bits & 0o7);
    Some(of(USER_OBJ)? << 6 | of(MASK).or_else(|| of(GROUP_OBJ))? << 3 | of(OTHER)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(tag, bits)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes()[..], &u32::MAX.to_le_bytes()[..]].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(entries).collect()
    }

    #[test]
    fn an_acl_with_a_mask_shows_the_mask_as_the_groups_permissions() {
        let value = acl(&[(1, 6), (2, 4), (4, 0), (0x10, 5), (0x20, 1)]);
        assert_eq!(permissions_of_acl(&value), Some(0o651));
    }

    #[test]
    fn an_acl_without_a_mask_shows_its_group_and_a_torn_one_nothing() {
        assert_eq!(permissions_of_acl(&acl(&[(1, 7), (4, 5), (0x20, 0)])), Some(0o750));
        assert_eq!(permissions_of_acl(&[2, 0]), None);
    }

    #[test]
    fn unknown_kinds_of_names_are_refused() {
        assert!(check_kind(b"user.a").is_ok() && check_kind(ACCESS_ACL).is_ok());
        assert_eq!(check_kind(b"bogus.x"), Err(Error::NotSupported));
    }
}
