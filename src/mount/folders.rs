//! The folders in which daemons listen: only their user can enter them, and only such a folder is believed.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
    unistd::{geteuid, mkdtemp},
};

use super::foothold::link_to;

/// Where everybody may make folders, and nobody may take another user's away.
const SHARED: &str = "/tmp";

/// A folder of this user that nobody else can enter, held: what is put in its place later is something else.
#[derive(Debug)]
pub struct Private {
    folder: OwnedFd,
    /// Whose it is.
    pub user: u32,
}

impl Private {
    /// Opens it if it is one.
    ///
    /// # Errors
    /// Says what it should be, or what the system said.
    pub fn open(path: &Path, user: u32) -> io::Result<Private> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let refuse = |why: &str| {
            let path = path.display();
            io::Error::new(io::ErrorKind::PermissionDenied, format!("{path} is not {why}"))
        };
        let folder =
            open(path, flags, Mode::empty()).map_err(io::Error::from).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::NotADirectory => refuse("a folder"),
                    _ => error,
                }
            })?;
        let facts = fs::metadata(link_to(folder.as_fd()))?;
        match facts.uid() == user && facts.mode() & 0o077 == 0 {
            true => Ok(Private { folder, user }),
            false => Err(refuse(&format!("a folder that only user {user} can enter"))),
        }
    }

    /// A path that leads there for as long as it is held.
    pub fn path(&self) -> PathBuf {
        link_to(self.as_fd())
    }
}

impl AsFd for Private {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// The first folder in which a daemon of the user who asks can do this. The last resort has a name that nobody can have
/// taken before.
///
/// # Errors
/// What went wrong in the last one.
pub fn first<T>(act: impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
    let user = geteuid().as_raw();
    // What the environment names may lie with somebody else, who could take a folder of ours away.
    let is_ours = |above: &PathBuf| fs::metadata(above).is_ok_and(|facts| facts.uid() == user);
    let own = session().filter(is_ours).into_iter().chain([system(user)]);
    first_of(own.map(|above| above.join("chaosfs")), Path::new(SHARED), user, act)
}

/// A folder of the same name in the first of those folders that every process of the user finds; what the environment
/// names comes last, since it is not the same for all. It is made if need be, and only the user can enter it.
///
/// # Errors
/// What went wrong in the last one.
pub fn known_to_all(name: &str) -> io::Result<PathBuf> {
    let user = geteuid().as_raw();
    let mut make = |folder: &Path| {
        let inner = folder.join(name);
        Private::open(folder, user)?;
        let _ = DirBuilder::new().mode(0o700).create(&inner);
        Private::open(&inner, user).map(|_| inner)
    };
    let found = first_of([system(user).join("chaosfs")].into_iter(), Path::new(SHARED), user, &mut make);
    found.or_else(|error| match session().map(|above| above.join("chaosfs")) {
        Some(folder) => in_folder(&folder, &mut make),
        None => Err(error),
    })
}

fn first_of<T>(
    own: impl Iterator<Item = PathBuf>,
    shared: &Path,
    user: u32,
    mut act: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<T> {
    for folder in own.chain([named(user, shared)]) {
        if let Ok(done) = in_folder(&folder, &mut act) {
            return Ok(done);
        }
    }
    let spare = spares(user, shared).into_iter().find(|folder| Private::open(folder, user).is_ok());
    let make = || mkdtemp(&shared.join(spare_prefix(user) + "XXXXXX")).map_err(io::Error::from);
    act(&spare.map_or_else(make, Ok)?)
}

fn in_folder<T>(folder: &Path, act: &mut impl FnMut(&Path) -> io::Result<T>) -> io::Result<T> {
    let _ = DirBuilder::new().mode(0o700).create(folder);
    act(folder)
}

/// The folders in which a daemon of this user may listen, best first.
pub fn of_user(user: u32) -> impl Iterator<Item = Private> {
    let own = session().filter(|_| user == geteuid().as_raw()).into_iter().chain([system(user)]);
    let own = own.map(|above| above.join("chaosfs"));
    own.filter_map(move |path| Private::open(&path, user).ok()).chain(in_shared(user, Path::new(SHARED)))
}

fn in_shared(user: u32, shared: &Path) -> impl Iterator<Item = Private> {
    let shared = shared.to_path_buf();
    let spare = {
        let shared = shared.clone();
        std::iter::once_with(move || spares(user, &shared)).flatten()
    };
    [named(user, &shared)].into_iter().chain(spare).filter_map(move |path| Private::open(&path, user).ok())
}

/// The folder of the user's session. A relative one is none (XDG Base Directory Specification), and an empty one is
/// relative.
fn session() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// The folder that the system keeps for the user.
fn system(user: u32) -> PathBuf {
    PathBuf::from(if user == 0 { "/run".to_string() } else { format!("/run/user/{user}") })
}

/// A name that anybody could have taken.
fn named(user: u32, shared: &Path) -> PathBuf {
    shared.join(format!("chaosfs-{user}"))
}

/// Folders whose names were made up when that one was taken.
fn spares(user: u32, shared: &Path) -> Vec<PathBuf> {
    let prefix = spare_prefix(user);
    let entries = fs::read_dir(shared).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
    let mut found: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn spare_prefix(user: u32) -> String {
    format!("chaosfs-{user}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        iter,
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[test]
    fn a_folder_that_others_can_enter_or_that_is_a_link_is_refused_by_name() {
        let (folder, user) = (tempfile::tempdir().unwrap(), geteuid().as_raw());
        let (path, link) = (folder.path().join("private"), folder.path().join("link"));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        assert!(Private::open(&path, user).is_ok());
        symlink(&path, &link).unwrap();
        let refusal = Private::open(&link, user).unwrap_err().to_string();
        assert_eq!(refusal, format!("{} is not a folder", link.display()));
        assert!(Private::open(&path, user + 1).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(Private::open(&path, user).is_err());
    }

    #[test]
    fn where_somebody_has_taken_the_name_another_one_is_made_and_found_by_all() {
        let (shared, user) = (tempfile::tempdir().unwrap(), geteuid().as_raw());
        let shared = shared.path();
        let first = || {
            first_of(iter::empty(), shared, user, |path| {
                Private::open(path, user).map(|_| path.to_path_buf())
            })
        };
        let found = || in_shared(user, shared).map(|private| fs::read_link(private.path()).unwrap());
        let taken = named(user, shared);
        assert_eq!(first().unwrap(), taken);
        assert_eq!(found().next().as_ref(), Some(&taken));
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).unwrap();
        let spare = first().unwrap();
        assert!(spare.starts_with(shared) && spare != taken, "{spare:?}");
        assert_eq!((first().unwrap(), found().collect::<Vec<_>>()), (spare.clone(), vec![spare]));
    }
}
