//! Where the control socket of a client is: in a folder that only its user can enter, under a name made of the mount's
//! device number, which anybody finds in the mount table. A link beside it leads to the backing directory, so that
//! nobody has to be asked for that.
//!
//! A device number is free for the next mount the moment its own is gone, while its daemon lives on to land what is
//! left. So whoever comes or goes holds the folder's lock meanwhile, and takes away only what is its own or nobody's.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, symlink},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt,
            socket as connector, sockopt::PeerCredentials,
        },
        stat::Mode,
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::{
    dialogue::PATIENCE,
    folders::{self, Private},
    foothold::link_to,
    lock::{lock, try_lock},
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
    folders::first(|folder| listen_in(folder, device, backing))
}

fn listen_in(folder: &Path, device: Device, backing: &Path) -> io::Result<(UnixListener, SocketFile)> {
    Private::open(folder, geteuid().as_raw())?;
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
    folders(entry).find_map(|folder| dial(&folder, entry.device).ok())
}

/// Where the backing directory of this mount is, also after its daemon has died; empty where nobody tells.
pub fn backing(entry: &Entry) -> PathBuf {
    let link = link_beside(Path::new(&socket_name(entry.device)));
    folders(entry).find_map(|folder| readlinkat(folder, &link).ok()).map(PathBuf::from).unwrap_or_default()
}

/// Removes what the daemon of this mount has left behind when it died. One who answers has not left it, and where somebody
/// comes or goes just now it is left to the next who comes.
pub fn forget(entry: &Entry) {
    for folder in folders(entry) {
        let Ok(alone) = File::open(folder.path()) else { continue };
        let left = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if try_lock(&alone) == Ok(true) && dial(&folder, entry.device).is_err_and(left) {
            let socket = PathBuf::from(socket_name(entry.device));
            for name in [link_beside(&socket), socket] {
                let _ = unlinkat(&folder, &name, UnlinkatFlags::NoRemoveDir);
            }
        }
    }
}

/// Where the daemon of this mount may listen.
fn folders(entry: &Entry) -> impl Iterator<Item = Private> {
    folders::of_user(entry.owner.unwrap_or(0))
}

/// Connects to the socket in this folder if it belongs to the folder's user, and so does whoever listens there: a symlink,
/// or a socket that was moved there, leads to somebody else. `connect(2)` does not wait for ever where a daemon that is
/// stopped has many connections waiting already.
fn dial(folder: &Private, device: Device) -> io::Result<UnixStream> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, socket_name(device).as_str(), flags, Mode::empty())?;
    let facts = fs::metadata(link_to(file.as_fd()))?;
    if !facts.file_type().is_socket() || facts.uid() != folder.user {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(connector(AddressFamily::Unix, SockType::Stream, flags, None)?);
    stream.set_write_timeout(Some(PATIENCE))?;
    connect_to(stream.as_raw_fd(), &UnixAddr::new(&link_to(file.as_fd()))?)?;
    match getsockopt(&stream, PeerCredentials)?.uid() {
        user if user == folder.user => Ok(stream),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// What is spoken there is in the name: one who speaks something else is not even tried.
fn socket_name(device: Device) -> String {
    format!("{}-{}.control", device.major, device.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn private() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    #[test]
    fn one_who_got_the_device_number_after_another_s_unmount_is_left_alone() {
        let folder = private();
        let device = Device { major: 0, minor: 7 };
        let listen = || listen_in(folder.path(), device, Path::new("/backing")).unwrap();
        let ((former, theirs), (_latter, ours)) = (listen(), listen());
        drop(former);
        let path = ours.path.clone();
        drop(theirs);
        assert!(UnixStream::connect(&path).is_ok() && fs::read_link(link_beside(&path)).is_ok());
        drop(ours);
        assert!(!path.exists() && fs::symlink_metadata(link_beside(&path)).is_err());
    }

    #[test]
    fn a_symlink_to_another_socket_is_not_followed_and_a_file_is_no_socket() {
        let folder = private();
        let [other, ours] = [7, 8].map(|minor| Device { major: 0, minor });
        let _listening = listen_in(folder.path(), other, Path::new("/backing")).unwrap();
        let private = Private::open(folder.path(), geteuid().as_raw()).unwrap();
        assert!(dial(&private, other).is_ok());
        let path = folder.path().join(socket_name(ours));
        assert_eq!(dial(&private, ours).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(socket_name(other), &path).unwrap();
        assert_eq!(dial(&private, ours).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(dial(&private, ours).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
