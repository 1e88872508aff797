//! Where the control socket of a client is: in a folder that only its user can enter, under a name made of the mount's
//! device number, which anybody finds in the mount table. A link beside it leads to the backing directory, so that
//! nobody has to be asked for that.
//!
//! A device number is free for the next mount the moment its own is gone, while its daemon lives on to land what is
//! left. So whoever comes or goes holds the folder's lock meanwhile, and takes away only what is its own or nobody's.

use std::{
    env,
    fs::{self, File, Metadata},
    io,
    os::fd::AsRawFd,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket as connector},
    unistd::geteuid,
};

use super::{
    dialogue::PATIENCE,
    lock::lock,
    mountinfo::{Device, Entry},
};

/// The name under which a socket is found. Goes when it is dropped, unless another daemon, which got our device number
/// after our unmount, has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    made: Made,
}

/// Which file it is: its inode number alone may be given out again. Nobody changes a socket, so its change time is when
/// it was made.
type Made = (u64, i64, i64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _alone = alone_beside(&self.path);
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| made(&facts) == self.made) {
            remove(&self.path);
        }
    }
}

fn made(facts: &Metadata) -> Made {
    (facts.ino(), facts.ctime(), facts.ctime_nsec())
}

/// Keeps others from coming and going in the folder of a socket until it is dropped.
fn alone_beside(socket: &Path) -> io::Result<File> {
    let folder = File::open(socket.parent().unwrap_or(Path::new(".")))?;
    lock(&folder)?;
    Ok(folder)
}

fn remove(socket: &Path) {
    for file in [socket, &link_beside(socket)] {
        let _ = fs::remove_file(file);
    }
}

fn link_beside(socket: &Path) -> PathBuf {
    socket.with_extension("backing")
}

/// Listens for those who want to talk to the client of `device` over `backing`.
///
/// # Errors
/// What the system said about the last folder tried.
pub fn listen(device: Device, backing: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
    for folder in folders(geteuid().as_raw()) {
        outcome = listen_in(folder, device, backing);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn listen_in(folder: PathBuf, device: Device, backing: &Path) -> io::Result<(UnixListener, SocketFile)> {
    make_private(&folder)?;
    let path = folder.join(socket_name(device));
    let _alone = alone_beside(&path)?;
    // The device number is ours now: whoever left a socket of this name is gone or was unmounted.
    remove(&path);
    let socket = UnixListener::bind(&path)?;
    let made = made(&fs::symlink_metadata(&path)?);
    symlink(backing, link_beside(&path)).inspect_err(|_| remove(&path))?;
    Ok((socket, SocketFile { path, made }))
}

/// Connects to whoever serves this mount; none if nobody can be reached.
pub fn connect(entry: &Entry) -> Option<UnixStream> {
    reach(entry).map(|(stream, _)| stream)
}

/// The same, and where the backing directory is, as its daemon has left it to be read.
pub fn reach(entry: &Entry) -> Option<(UnixStream, PathBuf)> {
    sockets(entry).find_map(|path| {
        let backing = fs::read_link(link_beside(&path)).unwrap_or_default();
        Some((dial(&path).ok()?, backing))
    })
}

/// Where the backing directory of this mount is, also after its daemon has died; empty where nobody tells.
pub fn backing(entry: &Entry) -> PathBuf {
    sockets(entry).find_map(|path| fs::read_link(link_beside(&path)).ok()).unwrap_or_default()
}

/// `connect(2)` that does not wait for ever where a daemon that is stopped has many connections waiting already.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(connector(AddressFamily::Unix, SockType::Stream, flags, None)?);
    stream.set_write_timeout(Some(PATIENCE))?;
    connect_to(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Removes what the daemon of this mount has left behind when it died. One who answers has not left it.
pub fn forget(entry: &Entry) {
    for socket in sockets(entry) {
        let _alone = alone_beside(&socket);
        if dial(&socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            remove(&socket);
        }
    }
}

/// Where the daemon of this mount may listen.
fn sockets(entry: &Entry) -> impl Iterator<Item = PathBuf> {
    let (owner, name) = (entry.owner.unwrap_or(0), socket_name(entry.device));
    let private = move |folder: &PathBuf| check_private(folder, owner).is_ok();
    folders(owner).into_iter().filter(private).map(move |folder| folder.join(&name))
}

/// How many of the folders are the same in every process of a user: the last ones.
const FIXED_FOLDERS: usize = 2;

/// The folders in which a daemon of this user may listen, best first.
fn folders(user: u32) -> Vec<PathBuf> {
    let is_me = user == geteuid().as_raw();
    // A relative one is none (XDG Base Directory Specification), and an empty one is relative.
    let session =
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| is_me && folder.is_absolute());
    let system = if user == 0 { "/run".to_string() } else { format!("/run/user/{user}") };
    let private = session.into_iter().chain([PathBuf::from(system)]);
    let shared = PathBuf::from(format!("/tmp/chaosfs-{user}"));
    private.map(|folder| folder.join("chaosfs")).chain([shared]).collect()
}

/// Where claims of this user are kept. The folder of a session comes last: another process may not know of it.
///
/// # Errors
/// What the system said about the last folder tried.
pub fn folder_for_claims() -> io::Result<PathBuf> {
    let mut candidates = folders(geteuid().as_raw());
    let fixed = candidates.len().min(FIXED_FOLDERS);
    candidates.rotate_right(fixed);
    let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
    for folder in candidates {
        let claims = folder.join("ids");
        outcome = make_private(&folder).and_then(|()| make_private(&claims)).map(|()| claims);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check_private(folder, geteuid().as_raw()),
    }
}

/// `/tmp` belongs to everybody: a folder that somebody else has made or can write to is not believed.
fn check_private(folder: &Path, owner: u32) -> io::Result<()> {
    let facts = fs::symlink_metadata(folder)?;
    let private = facts.is_dir() && facts.uid() == owner && facts.mode() & 0o077 == 0;
    let text = || {
        let folder = folder.display();
        format!(
            "{folder} is not a folder that only user {owner} can enter; set XDG_RUNTIME_DIR to one, or remove it"
        )
    };
    if private { Ok(()) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, text())) }
}

/// What is spoken there is in the name: one who speaks something else is not even tried.
fn socket_name(device: Device) -> String {
    format!("{}-{}.control", device.major, device.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_who_got_the_device_number_after_another_s_unmount_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device { major: 0, minor: 7 };
        let listen = || listen_in(folder.path().join("folder"), device, Path::new("/backing")).unwrap();
        let ((former, theirs), (_latter, ours)) = (listen(), listen());
        drop(former);
        let path = ours.path.clone();
        drop(theirs);
        assert!(UnixStream::connect(&path).is_ok() && fs::read_link(link_beside(&path)).is_ok());
        drop(ours);
        assert!(!path.exists() && fs::symlink_metadata(link_beside(&path)).is_err());
    }

    #[test]
    fn a_folder_that_others_can_enter_or_that_is_a_link_is_refused_by_name() {
        let (folder, user) = (tempfile::tempdir().unwrap(), geteuid().as_raw());
        let (path, link) = (folder.path().join("private"), folder.path().join("link"));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        assert!(check_private(&path, user).is_ok());
        symlink(&path, &link).unwrap();
        assert!(check_private(&link, user).unwrap_err().to_string().starts_with(&link.display().to_string()));
        assert!(check_private(&path, user + 1).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(check_private(&path, user).is_err());
    }
}
