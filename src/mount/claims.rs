//! Which client ids are in use over which backing directory. Two clients of one id over one directory would share a log
//! and every draw.
//!
//! A claim is a locked file in the private folder of its user, named after the backing directory's device and inode, so
//! that every path there means the same, and after the id. The lock dies with the process, however it ends. Other users'
//! clients are like those of other hosts: they have logs of their own, and no claim of theirs could be believed.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use super::{attach::plain, folders, lock::try_lock, mountinfo::MountTable, refusals};
use crate::{
    clock::{Clock, Deadline},
    error::Refusal,
};

/// The id of a client that is given none; the next ones over the same directory have a number behind it.
const DEFAULT_ID: &str = "client";

/// How long is waited for a client that has been unmounted and has not landed everything, or is not mounted yet.
const PATIENCE: Duration = Duration::from_secs(2);

const LOOK: Duration = Duration::from_millis(10);

/// The id of a client, which no other client of this user has over the same backing directory until this is dropped.
#[derive(Debug)]
pub struct ClientName {
    id: String,
    notice: Option<String>,
    /// None where no claim can be kept.
    _claim: Option<Claimed>,
}

impl ClientName {
    /// Claims an id over a backing directory for a client that is to be mounted at `mountpoint`: the one that is wanted,
    /// or else the first that is free of `client`, `client-2` and so on.
    ///
    /// # Errors
    /// The id that is wanted is in use there, or the backing directory is none.
    pub fn claim(backing: &Path, wanted: Option<&str>, mountpoint: &Path) -> Result<ClientName, Refusal> {
        wanted.map_or(Ok(()), refusals::check_client_id)?;
        let canonical = refusals::canonical_directory("backing directory", backing)?;
        let register = Register::open(&canonical, mountpoint);
        let register = match register {
            Ok(register) => register,
            Err(error) => return Ok(ClientName::unclaimed(wanted, &error)),
        };
        let deadline = Deadline::after(PATIENCE);
        let taken = match wanted {
            Some(id) => register.enter(id, deadline).map(|entered| match entered {
                Ok(claim) => Ok((id.to_string(), claim)),
                Err(holder) => Err(holder.refusal(id, backing)),
            }),
            None => register.enter_first(deadline).map(Ok),
        };
        match taken {
            Err(error) => Ok(ClientName::unclaimed(wanted, &error)),
            Ok(Ok((id, claim))) => {
                let other = wanted.is_none() && id != DEFAULT_ID;
                let notice = || {
                    let backing = backing.display();
                    format!(
                        "client id `{DEFAULT_ID}` is in use over {backing} already: this client is `{id}`"
                    )
                };
                Ok(ClientName { notice: other.then(notice), id, _claim: Some(claim) })
            }
            Ok(Err(refusal)) => {
                // What is wrong with the mountpoint goes first: there the client is that has the id.
                if let Ok(resolved) = refusals::resolve(mountpoint) {
                    refusals::refuse_mounted(mountpoint, &resolved)?;
                }
                Err(refusal)
            }
        }
    }

    fn unclaimed(wanted: Option<&str>, error: &io::Error) -> ClientName {
        let notice = format!(
            "another client may have the same id over this directory: no claim can be kept: {}",
            plain(error)
        );
        ClientName { id: wanted.unwrap_or(DEFAULT_ID).to_string(), notice: Some(notice), _claim: None }
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What a person should know about it, if anything.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }
}

/// The ids that are in use over one backing directory.
struct Register<'a> {
    folder: PathBuf,
    directory: String,
    mountpoint: &'a Path,
}

impl Register<'_> {
    fn open<'a>(backing: &Path, mountpoint: &'a Path) -> io::Result<Register<'a>> {
        let folder = folders::known_to_all("ids")?;
        let facts = fs::metadata(backing)?;
        forget_the_dead(&folder);
        Ok(Register { folder, directory: format!("{}-{}", facts.dev(), facts.ino()), mountpoint })
    }

    /// The first id that is free.
    fn enter_first(&self, deadline: Deadline) -> io::Result<(String, Claimed)> {
        let mut number = 1_u64;
        loop {
            let id = if number == 1 { DEFAULT_ID.to_string() } else { format!("{DEFAULT_ID}-{number}") };
            if let Ok(claim) = self.enter(&id, deadline)? {
                return Ok((id, claim));
            }
            number += 1;
        }
    }

    /// Takes an id, or says whose it is. One whose client is not mounted just now may be free in a moment.
    fn enter(&self, id: &str, deadline: Deadline) -> io::Result<Result<Claimed, Holder>> {
        let path = self.folder.join(format!("{}-{id}", self.directory));
        loop {
            if let Some(mut claim) = Claimed::take(&path, true)? {
                claim.note(self.mountpoint)?;
                return Ok(Ok(claim));
            }
            let holder = Holder::read(&path);
            if holder.is_mounted(id) || deadline.left().is_zero() {
                return Ok(Err(holder));
            }
            Clock::Monotonic.pause(LOOK);
        }
    }
}

/// Files whose process has died without removing them are nobody's.
fn forget_the_dead(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.for_each(|entry| drop(Claimed::take(&entry.path(), false)));
}

/// A locked file, which goes when this is dropped.
#[derive(Debug)]
struct Claimed {
    path: PathBuf,
    file: File,
}

impl Claimed {
    /// Takes the file unless somebody has it.
    fn take(path: &Path, create: bool) -> io::Result<Option<Claimed>> {
        loop {
            let file = File::options().read(true).write(true).create(create).mode(0o600).open(path)?;
            if !try_lock(&file)? {
                return Ok(None);
            }
            let claim = Claimed { path: path.to_path_buf(), file };
            // Its last owner may have removed it meanwhile.
            if claim.is_there() {
                return Ok(Some(claim));
            }
        }
    }

    /// Whether it is still the file of its name.
    fn is_there(&self) -> bool {
        let identity = |facts: fs::Metadata| (facts.dev(), facts.ino());
        let ours = self.file.metadata().map(identity).ok();
        ours.is_some() && fs::symlink_metadata(&self.path).map(identity).ok() == ours
    }

    /// Notes for others whose it is.
    fn note(&mut self, mountpoint: &Path) -> io::Result<()> {
        let mountpoint = refusals::resolve(mountpoint).unwrap_or_else(|_| mountpoint.to_path_buf());
        let text = [process::id().to_string().as_bytes(), b" ", mountpoint.as_os_str().as_bytes()].concat();
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // A forked process may have removed its own before, and the name may be another's.
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whose an id is, as far as is known.
#[derive(Debug, Default)]
struct Holder {
    process: String,
    mountpoint: PathBuf,
}

impl Holder {
    fn read(path: &Path) -> Holder {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|mut file| file.read_to_end(&mut text));
        let Some(end) = text.iter().position(|byte| *byte == b' ').filter(|_| read.is_ok()) else {
            return Holder::default();
        };
        let mountpoint = std::ffi::OsString::from_vec(text.split_off(end + 1)).into();
        Holder { process: String::from_utf8_lossy(&text[..end]).into_owned(), mountpoint }
    }

    fn is_mounted(&self, id: &str) -> bool {
        let mounts = MountTable::read().unwrap_or_default();
        mounts.chaosfs().any(|entry| entry.mount_point == self.mountpoint && entry.source == id)
    }

    fn refusal(&self, id: &str, backing: &Path) -> Refusal {
        let holder = match self.process.as_str() {
            "" => String::new(),
            process if self.is_mounted(id) => {
                format!(" by the client at {} (process {process})", self.mountpoint.display())
            }
            process => format!(" by process {process}, which has not landed everything yet"),
        };
        let backing = backing.display();
        Refusal::new(format!("client id `{id}` is in use over {backing} already{holder}; choose another id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_s_own_until_it_is_dropped_and_a_dead_one_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-2-a");
        fs::write(&path, "1 /gone").unwrap();
        let claim = Claimed::take(&path, true).unwrap().expect("its process is dead");
        assert!(Claimed::take(&path, true).unwrap().is_none());
        drop(claim);
        assert!(!path.exists() && Claimed::take(&path, true).unwrap().is_some());
        fs::write(&path, "1 /gone").unwrap();
        forget_the_dead(folder.path());
        assert!(!path.exists());
    }
}
