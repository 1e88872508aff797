//! Extended attributes, POSIX ACLs among them.

mod trial;

use std::{os::fd::AsFd, sync::Arc};

use crate::{
    backing::{
        self, Traits,
        flags::{SETGID, XATTR_CREATE, XATTR_REPLACE},
        sys,
    },
    client::{
        Caller, Client, Provenance,
        call::{Asked, Call, Run, Subject},
        store,
    },
    consistency::{
        AttributeChange, Change, Ino, Kind, Name,
        acl::{ACCESS_ACL, Acl, DEFAULT_ACL},
    },
    error::Error,
    operation::Operation,
};

const CAPABILITIES: &[u8] = b"security.capability";

/// Attributes that any owner of a file may give it.
const USER: &[u8] = b"user.";
/// Attributes for administrators alone.
const TRUSTED: &[u8] = b"trusted.";
/// Attributes of the kernel's security modules, capabilities among them.
const SECURITY: &[u8] = b"security.";

impl Client {
    /// Gives an extended attribute a value, with the flags of `setxattr(2)`.
    ///
    /// # Errors
    /// EEXIST, ENODATA by the flags; EOPNOTSUPP for an unknown kind of name; EACCES for a default ACL of anything but a
    /// directory; EINVAL for a torn ACL; whatever the backing directory answers, where it goes through.
    pub fn setxattr<'a>(
        self: &'a Arc<Self>,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &'a [u8],
        flags: i32,
    ) -> Call<'a, impl Run<()>> {
        let (name, subject) = (name.to_vec(), Subject::Inode(ino));
        let set = Call::new(self, Operation::Setxattr, caller, subject, move |client, asked, provenance| {
            let Asked { caller, data: value } = asked;
            match name.as_slice() {
                ACCESS_ACL => client.set_access_acl(caller, ino, value, provenance),
                DEFAULT_ACL => client.set_default_acl(caller, ino, value, provenance),
                name => client.set_plain(caller, ino, name, value, flags, provenance),
            }
        });
        set.with_data(value)
    }

    fn set_plain(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: i32,
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        let owner = self.owner_to_ask(caller, ino, provenance)?;
        let change = Change::SetXattr { ino, name: name.into(), value: Some(value.into()), owner };
        let through = |_: &mut _| store::set_xattr(self.requested(ino)?.as_fd(), name, value, flags, owner);
        let late = |_: &mut _| {
            let before = self.value_before(ino, name)?;
            match (flags & XATTR_CREATE != 0, flags & XATTR_REPLACE != 0) {
                (true, _) if before.is_some() => return Err(Error::Exists),
                (_, true) if before.is_none() => return Err(Error::NoData),
                _ => {}
            }
            if before.as_deref() == Some(value) && self.traits(ino)?.keeps_same_value {
                return Ok(());
            }
            self.check_fits(ino, name, value)?;
            self.put_in_flight(&mut self.lock(), change.clone(), self.clock.wall())
        };
        self.submit(&change, provenance, through, late)
    }

    fn set_default_acl(
        &self,
        caller: &Caller,
        ino: Ino,
        value: &[u8],
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        if !self.is_directory(ino) {
            return Err(Error::AccessDenied);
        }
        Acl::parse(value).ok_or(Error::Invalid)?;
        self.set_plain(caller, ino, DEFAULT_ACL, value, 0, provenance)
    }

    /// An access ACL decides the permission bits, too (`acl(5)`). One that says no more than they can is not kept. The
    /// setgid bit goes where `chmod(2)` would take it from this caller (`posix_acl_update_mode` in fs/posix_acl.c).
    fn set_access_acl(
        &self,
        caller: &Caller,
        ino: Ino,
        value: &[u8],
        provenance: &mut Provenance,
    ) -> Result<(), Error> {
        let acl = Acl::parse(value).ok_or(Error::Invalid)?;
        let before = self.view(ino, provenance)?;
        let loses_setgid = before.permissions & SETGID != 0 && !caller.is_in_group(before.gid);
        let kept = before.permissions & if loses_setgid { 0o5000 } else { 0o7000 };
        let permissions =
            AttributeChange { permissions: Some(kept | acl.permissions()), ..AttributeChange::default() };
        let owner = self.owner_to_ask(caller, ino, provenance)?;
        let value = (!acl.is_minimal()).then(|| acl.to_value());
        let change =
            Change::SetXattr { ino, name: ACCESS_ACL.into(), value: value.as_deref().map(Into::into), owner };
        let through = |_: &mut _| {
            store::set_xattr(self.requested(ino)?.as_fd(), ACCESS_ACL, &acl.to_value(), 0, owner)?;
            if loses_setgid { self.change_attributes(ino, permissions, owner) } else { Ok(()) }
        };
        let late = |_: &mut _| {
            let stays = self.value_before(ino, ACCESS_ACL)? == value
                && permissions.permissions == Some(before.permissions);
            if stays && self.traits(ino)?.keeps(value.is_some()) {
                return Ok(());
            }
            if let Some(value) = &value {
                self.check_fits(ino, ACCESS_ACL, value)?;
            }
            let mut state = self.lock();
            let stamp = self.clock.wall();
            self.put_in_flight(&mut state, change.clone(), stamp)?;
            self.put_in_flight(&mut state, Change::SetAttributes { ino, change: permissions, owner }, stamp)
        };
        self.submit(&change, provenance, through, late)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA; whatever the backing directory answers.
    pub fn getxattr(self: &Arc<Self>, caller: &Caller, ino: Ino, name: &[u8]) -> Call<'_, impl Run<Vec<u8>>> {
        let (can_be_the_kernels, name) = (is_asked_by_kernel(name), name.to_vec());
        let get = Call::new(self, Operation::Getxattr, caller, Subject::Inode(ino), move |client, _, _| {
            client.xattr(ino, &name)
        });
        get.can_be_the_kernels_if(can_be_the_kernels)
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        let value = self.kept_xattr(ino, name)?;
        // Whatever of the two was changed last: an ACL shows the permission bits of its inode.
        if name == ACCESS_ACL
            && self.lock().in_flight.overlay().touches(ino)
            && let Some(acl) = Acl::parse(&value)
        {
            let permissions = self.view(ino, &mut Provenance::default())?.permissions;
            return Ok(acl.with_permissions(permissions).to_value());
        }
        Ok(value)
    }

    fn kept_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        let believes = self.in_force().policy.believes_xattrs;
        let of = {
            let state = self.lock();
            match state.in_flight.overlay().xattr(ino, name) {
                Some(Some(value)) => return Ok(value.to_vec()),
                Some(None) => return Err(Error::NoData),
                None if state.in_flight.overlay().unlanded(ino).is_some() => {
                    check_kind(name)?;
                    return Err(Error::NoData);
                }
                None => {}
            }
            let now = self.now();
            if believes && let Some(value) = state.belief.xattr(ino, name, now) {
                return value.map(|value| value.to_vec()).ok_or(Error::NoData);
            }
            state.belief.fetch_xattr(ino, now).filter(|_| believes)
        };
        let fetched = sys::get_xattr(self.requested(ino)?.as_fd(), name);
        let value = match &fetched {
            Ok(value) => Some(value.as_slice().into()),
            Err(error) if *error == Error::NoData => None,
            Err(_) => return fetched,
        };
        if let Some(of) = of {
            let now = self.now();
            self.lock().belief.believe_xattr(ino, of, name, value, now);
        }
        fetched
    }

    /// The names of all extended attributes that this caller may know of, each with a NUL behind it: `trusted.*` is for
    /// whoever has `CAP_SYS_ADMIN` (`xattr(7)`). Values are the kernel's to guard, names are not.
    ///
    /// # Errors
    /// Whatever the backing directory answers.
    pub fn listxattr(self: &Arc<Self>, caller: &Caller, ino: Ino) -> Call<'_, impl Run<Vec<u8>>> {
        Call::new(self, Operation::Listxattr, caller, Subject::Inode(ino), move |client, asked, _| {
            let mut names = client.xattr_names(ino)?;
            let hidden = |name: &Vec<u8>| name.starts_with(TRUSTED);
            if names.iter().any(hidden) && !asked.caller.administers() {
                names.retain(|name| !hidden(name));
            }
            Ok(names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect())
        })
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Error> {
        let (overlay, unlanded) = {
            let state = self.lock();
            (state.in_flight.overlay().xattrs(ino), state.in_flight.overlay().unlanded(ino).is_some())
        };
        let base = if unlanded { Vec::new() } else { sys::list_xattrs(self.requested(ino)?.as_fd())? };
        let base = base.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<Vec<u8>> = base.map(<[u8]>::to_vec).collect();
        for (name, is_there) in overlay {
            match names.iter().position(|known| **known == *name) {
                Some(at) if !is_there => drop(names.remove(at)),
                None if is_there => names.push(name.to_vec()),
                _ => {}
            }
        }
        Ok(names)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA; whatever the backing directory answers, where it goes through.
    pub fn removexattr(self: &Arc<Self>, caller: &Caller, ino: Ino, name: &[u8]) -> Call<'_, impl Run<()>> {
        let (name, subject) = (name.to_vec(), Subject::Inode(ino));
        Call::new(self, Operation::Removexattr, caller, subject, move |client, asked, provenance| {
            let owner = match name.as_slice() {
                // The kernel asks by itself to remove them, for whoever writes.
                CAPABILITIES => None,
                _ => client.owner_to_ask(asked.caller, ino, provenance)?,
            };
            let change = Change::SetXattr { ino, name: name.as_slice().into(), value: None, owner };
            let through = |_: &mut _| store::remove_xattr(client.requested(ino)?.as_fd(), &name, owner);
            let late = |_: &mut _| client.remove_xattr_late(&change, ino, &name);
            client.submit(&change, provenance, through, late)
        })
    }

    fn remove_xattr_late(&self, change: &Change, ino: Ino, name: &[u8]) -> Result<(), Error> {
        if self.value_before(ino, name)?.is_none() {
            if ![ACCESS_ACL, DEFAULT_ACL].contains(&name) {
                return Err(Error::NoData);
            }
            if name == DEFAULT_ACL && !self.is_directory(ino) || self.traits(ino)?.keeps_absent_acl {
                return Ok(());
            }
        }
        self.put_in_flight(&mut self.lock(), change.clone(), self.clock.wall())
    }

    /// The value that a change of an extended attribute will find.
    ///
    /// # Errors
    /// EOPNOTSUPP if the backing file system has no attributes of this kind, also for an inode that has not landed.
    fn value_before(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_kind(name)?;
        if self.lock().in_flight.overlay().unlanded(ino).is_some() {
            sys::get_xattr(self.ground(ino).as_fd(), name).map(drop).or_else(absent_is_nothing)?;
        }
        match self.xattr(ino, name) {
            Ok(value) => Ok(Some(value)),
            Err(error) => absent_is_nothing(error).map(|()| None),
        }
    }

    fn traits(&self, ino: Ino) -> Result<Traits, Error> {
        backing::traits(self.ground(ino).as_fd())
    }

    fn is_directory(&self, ino: Ino) -> bool {
        self.table.kind(ino).is_ok_and(|kind| Kind::of_mode(kind) == Kind::Directory)
    }

    /// Refuses at once a value that the backing file system has no room for beside the others of its inode.
    fn check_fits(&self, ino: Ino, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut all = Vec::new();
        for other in self.xattr_names(ino)?.into_iter().filter(|other| other != name) {
            match self.xattr(ino, &other) {
                Ok(value) => all.push((other, value)),
                Err(error) => absent_is_nothing(error)?,
            }
        }
        all.push((name.to_vec(), value.to_vec()));
        trial::run(|| self.ground(self.table.parent(ino)), &all)
    }

    /// The same for all that a new inode inherits.
    pub(super) fn check_inherited(
        &self,
        directory: Ino,
        inherited: &[(Name, Arc<[u8]>)],
    ) -> Result<(), Error> {
        trial::run(|| self.ground(directory), inherited)
    }

    /// A directory's default ACL, which new inodes inherit; `None` without one, where the umask decides (`acl(5)`).
    pub(super) fn default_acl(&self, directory: Ino) -> Result<Option<Acl>, Error> {
        match self.xattr(directory, DEFAULT_ACL) {
            Ok(value) => Ok(Acl::parse(&value)),
            Err(error) if error == Error::NotSupported || error == Error::NoData => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether the kernel asks for an attribute by itself too, before it writes to a file or as it checks permissions.
fn is_asked_by_kernel(name: &[u8]) -> bool {
    name.starts_with(SECURITY) || name == ACCESS_ACL || name == DEFAULT_ACL
}

fn absent_is_nothing(error: Error) -> Result<(), Error> {
    if error == Error::NoData { Ok(()) } else { Err(error) }
}

/// Refuses names that no Linux file system takes (`xattr(7)`): of another kind, or a kind alone.
fn check_kind(name: &[u8]) -> Result<(), Error> {
    const KINDS: [&[u8]; 3] = [USER, TRUSTED, SECURITY];
    if KINDS.contains(&name) {
        return Err(Error::Invalid);
    }
    let known = KINDS.iter().any(|kind| name.starts_with(kind)) || name == ACCESS_ACL || name == DEFAULT_ACL;
    if known { Ok(()) } else { Err(Error::NotSupported) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_of_names_are_refused() {
        assert!(check_kind(b"user.a").is_ok() && check_kind(ACCESS_ACL).is_ok());
        assert_eq!(check_kind(b"bogus.x"), Err(Error::NotSupported));
        assert_eq!(check_kind(b"user."), Err(Error::Invalid));
    }
}
