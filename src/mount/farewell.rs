//! How `chaosfs umount` hears that everything has landed: `umount(2)` returns before the daemon has written its last
//! byte, so whoever unmounts connects to the daemon's socket first and reads until the daemon has spoken.
//!
//! The daemon accepts nobody until its end. Then it tells all who wait one line per change that could not land and,
//! as the last line, `landed=N lost=M`.

use std::{
    env, fs, io,
    io::{Read, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;

use super::mountinfo::{Device, Entry};
use crate::client::Farewell;

/// How long one who waits may take to read, before the daemon goes on without them.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a process may take to end after its farewell.
const LINGER: Duration = Duration::from_secs(1);

/// The daemon's end.
#[derive(Debug)]
pub struct Herald {
    socket: UnixListener,
    file: SocketFile,
}

/// The name under which a socket is found. Goes when it is dropped, unless another daemon, which got our device number
/// after our unmount, has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| facts.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Herald {
    /// Listens for those who will want to know how the client of `device` ended.
    ///
    /// # Errors
    /// What the system said about the last folder tried.
    pub fn listen(device: Device) -> io::Result<Herald> {
        let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
        for folder in folders(geteuid().as_raw()) {
            outcome = Herald::listen_in(folder, device);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn listen_in(folder: PathBuf, device: Device) -> io::Result<Herald> {
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => check_private(&folder, geteuid().as_raw())?,
        }
        let path = folder.join(socket_name(device));
        // The device number is ours now: whoever left a socket of this name is gone or was unmounted.
        let _ = fs::remove_file(&path);
        let socket = UnixListener::bind(&path)?;
        socket.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(&path)?.ino();
        Ok(Herald { socket, file: SocketFile { path, inode } })
    }

    /// Tells everybody who waits. They take the end of what is returned for the end of the daemon: keep it until
    /// nothing of the backing directory is held any more, so that it can be unmounted when they go on.
    pub fn tell(self, farewell: &Farewell) -> Vec<UnixStream> {
        let text = message(farewell);
        // Out of sight first, so that nobody can connect whom this loop would not see.
        drop(self.file);
        let mut told = Vec::new();
        while let Ok((mut listener, _)) = self.socket.accept() {
            let _ = listener.set_write_timeout(Some(PATIENCE));
            let _ = listener.write_all(text.as_bytes());
            told.push(listener);
        }
        told
    }
}

/// The end of one who waits for a daemon to have landed everything.
#[derive(Debug)]
pub struct Listener(UnixStream);

impl Listener {
    /// Connects to the daemon that serves this mount; none if it cannot be reached.
    pub fn connect(entry: &Entry) -> Option<Listener> {
        sockets(entry).find_map(|path| UnixStream::connect(path).ok()).map(Listener)
    }

    /// Waits for the end of the daemon; none if it died without a farewell. A process that lives on after its farewell
    /// (a library user's) is not waited for long.
    pub fn wait(mut self) -> Option<Farewell> {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = self.0.read(&mut piece) {
            text.extend_from_slice(&piece[..length]);
            if parse(&String::from_utf8_lossy(&text)).is_some() {
                let _ = self.0.set_read_timeout(Some(LINGER));
            }
        }
        parse(&String::from_utf8_lossy(&text))
    }
}

/// Removes what the daemon of this mount has left behind when it died.
pub fn forget(entry: &Entry) {
    for socket in sockets(entry) {
        let _ = fs::remove_file(socket);
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
    let session = env::var_os("XDG_RUNTIME_DIR").filter(|folder| is_me && !folder.is_empty());
    let system = if user == 0 { "/run".to_string() } else { format!("/run/user/{user}") };
    let private = session.map(PathBuf::from).into_iter().chain([PathBuf::from(system)]);
    let shared = PathBuf::from(format!("/tmp/chaosfs-{user}"));
    private.map(|folder| folder.join("chaosfs")).chain([shared]).collect()
}

/// `/tmp` belongs to everybody: a folder that somebody else has made or can write to is not believed.
fn check_private(folder: &Path, owner: u32) -> io::Result<()> {
    let facts = fs::symlink_metadata(folder)?;
    let private = facts.is_dir() && facts.uid() == owner && facts.mode() & 0o077 == 0;
    if private { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
}

fn socket_name(device: Device) -> String {
    format!("{}-{}.sock", device.major, device.minor)
}

fn message(farewell: &Farewell) -> String {
    let lost = farewell.lost.iter().map(|line| line.replace('\n', "\\n") + "\n").collect::<String>();
    format!("{lost}landed={} lost={}\n", farewell.landed, farewell.lost.len())
}

fn parse(text: &str) -> Option<Farewell> {
    let mut lost: Vec<String> = text.lines().map(str::to_string).collect();
    let last = lost.pop()?;
    let (landed, count) = last.strip_prefix("landed=")?.split_once(" lost=")?;
    let complete = text.ends_with('\n') && count.parse() == Ok(lost.len());
    complete.then_some(Farewell { landed: landed.parse().ok()?, lost, ..Farewell::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_survives_the_wire_and_a_torn_one_is_none() {
        let lost = vec!["/a\nb: No space left on device".to_string(), "/c: gone".to_string()];
        let said = message(&Farewell { landed: 7, lost, ..Farewell::default() });
        let heard = parse(&said).unwrap();
        assert_eq!(
            (heard.landed, heard.lost[0].as_str(), heard.lost.len()),
            (7, "/a\\nb: No space left on device", 2)
        );
        for end in 0..said.len() {
            assert_eq!(parse(&said[..end]), None, "{end}");
        }
    }
}
