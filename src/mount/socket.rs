//! Where the control socket of a client is: in a folder that only its user can enter, under a name made of the mount's
//! device number, which anybody finds in the mount table. A link beside it leads to the backing directory, so that
//! nobody has to be asked for that.

use std::{
    env, fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::mountinfo::{Device, Entry};

/// The name under which a socket is found. Goes when it is dropped, unless another daemon, which got our device number
/// after our unmount, has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| facts.ino() == self.inode) {
            remove(&self.path);
        }
    }
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
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => check_private(&folder, geteuid().as_raw())?,
    }
    let path = folder.join(socket_name(device));
    // The device number is ours now: whoever left a socket of this name is gone or was unmounted.
    remove(&path);
    let socket = UnixListener::bind(&path)?;
    let inode = fs::symlink_metadata(&path)?.ino();
    let file = SocketFile { path, inode };
    symlink(backing, link_beside(&file.path))?;
    Ok((socket, file))
}

/// Connects to whoever serves this mount; none if nobody can be reached.
pub fn connect(entry: &Entry) -> Option<UnixStream> {
    reach(entry).map(|(stream, _)| stream)
}

/// The same, and where the backing directory is, as its daemon has left it to be read.
pub fn reach(entry: &Entry) -> Option<(UnixStream, PathBuf)> {
    sockets(entry).find_map(|path| {
        let backing = fs::read_link(link_beside(&path)).unwrap_or_default();
        Some((UnixStream::connect(path).ok()?, backing))
    })
}

/// Removes what the daemon of this mount has left behind when it died.
pub fn forget(entry: &Entry) {
    for socket in sockets(entry) {
        remove(&socket);
    }
}

/// Where the daemon of this mount may listen.
fn sockets(entry: &Entry) -> impl Iterator<Item = PathBuf> {
    let (owner, name) = (entry.owner.unwrap_or(0), socket_name(entry.device));
    let private = move |folder: &PathBuf| check_private(folder, owner).is_ok();
    folders(owner).into_iter().filter(private).map(move |folder| folder.join(&name))
}

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
