//! Making and undoing the kernel's side of a mount: as root with the system calls themselves, otherwise with the
//! help of `fusermount3`, which is setuid root for that.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::{FsFlags, statvfs},
    unistd::{getegid, geteuid},
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{
    foothold::{Foothold, Place, link_to},
    mountinfo::{Entry, FS_TYPE, MountTable},
    spare::Spare,
};
use crate::error::Refusal;

/// Where the kernel's FUSE module is reached.
pub const DEVICE: &str = "/dev/fuse";

const HELPER: &str = "fusermount3";

/// What to mount and how.
pub struct Attachment<'a> {
    /// The directory whose mount flags (nosuid, nodev, noexec) the mount takes over.
    pub backing: &'a Path,
    /// What to mount on.
    pub held: BorrowedFd<'a>,
    /// Its path, for messages.
    pub mountpoint: &'a Path,
    /// What the mount table shows as the source.
    pub client_id: &'a str,
    /// Whether the kernel checks permissions.
    pub permission_checks: bool,
    /// Whether users other than the one who mounts may enter.
    pub allow_other: bool,
}

impl Attachment<'_> {
    /// Mounts and returns the kernel's end of the conversation. The kernel is waiting for the first answer then.
    ///
    /// # Errors
    /// Says what the kernel or `fusermount3` refused and what to do about it.
    pub fn attach(&self) -> Result<OwnedFd, Refusal> {
        if geteuid().is_root() { self.mount_directly() } else { self.ask_helper() }
    }

    fn mount_directly(&self) -> Result<OwnedFd, Refusal> {
        let device =
            File::options().read(true).write(true).open(DEVICE).map_err(|error| device_refusal(&error))?;
        let identity = format!("rootmode=40000,user_id={},group_id={}", geteuid(), getegid());
        let identity = vec![format!("fd={}", device.as_raw_fd()), identity];
        let data = [identity, self.permission_options()].concat().join(",");
        let flags = self.backing_flags().into_iter().map(|(flag, _)| flag).collect();
        let target = link_to(self.held);
        mount(Some(self.client_id), &target, Some(FS_TYPE), flags, Some(data.as_str())).map_err(|errno| {
            match errno {
                Errno::EPERM => not_permitted(self.mountpoint),
                Errno::ENODEV => device_refusal(&errno.into()),
                _ => Refusal::new(format!(
                    "mountpoint {}: cannot mount: {}",
                    self.mountpoint.display(),
                    errno.desc()
                )),
            }
        })?;
        Ok(device.into())
    }

    fn ask_helper(&self) -> Result<OwnedFd, Refusal> {
        let identity = vec![format!("fsname={}", self.client_id), "subtype=chaosfs".to_string()];
        let flags = self.backing_flags().into_iter().map(|(_, name)| name.to_string()).collect();
        let options = [identity, self.permission_options(), flags].concat().join(",");
        let (ours, theirs) = UnixStream::pair().map_err(|error| helper_refusal(&error))?;
        // The helper sends the descriptor through whatever descriptor this variable names: its standard input
        // is the one that a child inherits without further ado.
        let helper = helper()
            .current_dir(link_to(self.held))
            .args(["-o", &options, "--", "."])
            .env("_FUSE_COMMFD", "0")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(|error| helper_refusal(&error))?;
        let received = receive_descriptor(&ours);
        let output = helper.wait_with_output().map_err(|error| helper_refusal(&error))?;
        match received {
            Ok(Some(device)) => Ok(device),
            Ok(None) => Err(self.helper_said(&output)),
            Err(error) => Err(helper_refusal(&error)),
        }
    }

    fn helper_said(&self, output: &Output) -> Refusal {
        let said = words_of(output);
        if said.ends_with("Operation not permitted") {
            return not_permitted(self.mountpoint);
        }
        Refusal::new(format!("mountpoint {}: {HELPER} refused: {said}", self.mountpoint.display()))
    }

    fn permission_options(&self) -> Vec<String> {
        let checked = self.permission_checks;
        let options = [(checked, "default_permissions"), (self.allow_other, "allow_other")];
        options.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name.to_string()).collect()
    }

    fn backing_flags(&self) -> Vec<(MsFlags, &'static str)> {
        let pairs = [
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID, "nosuid"),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV, "nodev"),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC, "noexec"),
        ];
        let backing = statvfs(self.backing).map_or(FsFlags::empty(), |facts| facts.flags());
        pairs
            .into_iter()
            .filter(|(theirs, ..)| backing.contains(*theirs))
            .map(|(_, ours, name)| (ours, name))
            .collect()
    }
}

/// Why a mount could not be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A program has a file or its working directory in it.
    Busy,
    /// Anything else, in words.
    Refused(String),
}

/// Takes this mount away, wherever it is by now, and no other; `lazily` takes it out of sight at once and leaves the rest
/// to the last program that uses it. One that is gone already is no failure. The caller has made sure whose mount it is.
/// Where no process can be started, the place that `spare` holds is used for that.
///
/// # Errors
/// Says that it is busy or who refused.
pub fn detach(entry: &Entry, lazily: bool, spare: &Spare) -> Result<(), Stuck> {
    let held = match Foothold::on(entry) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            return Err(Stuck::Refused("something else is mounted on top of it".to_string()));
        }
        Err(error) => return Err(Stuck::Refused(plain(&error))),
    };
    match geteuid().is_root() {
        true if lazily || may_be_bared(entry) => unmount_itself(&held),
        true => unmount_at(&held.let_go()),
        false => unmount_by_helper(&held.let_go(), lazily, spare),
    }
}

/// Whether somebody else, whose mount it is, can lay bare at any moment what is mounted below it.
fn may_be_bared(entry: &Entry) -> bool {
    let covers_another = || MountTable::read().is_ok_and(|mounts| mounts.covers_another(entry));
    entry.owner != Some(geteuid().as_raw()) && covers_another()
}

/// A mount whose root is held is busy for that alone, so this works lazily only.
fn unmount_itself(held: &Foothold) -> Result<(), Stuck> {
    umount2(&link_to(held.root()), MntFlags::MNT_DETACH).map_err(stuck)
}

fn unmount_at(place: &Place) -> Result<(), Stuck> {
    umount2(&place.path(), MntFlags::UMOUNT_NOFOLLOW).map_err(stuck)
}

fn stuck(errno: Errno) -> Stuck {
    match errno {
        Errno::EBUSY => Stuck::Busy,
        _ => Stuck::Refused(errno.desc().to_string()),
    }
}

/// The helper resolves paths by itself, as the user who asks, and unmounts nothing but FUSE mounts of that user: started
/// in the directory above it finds the mount wherever that is by now.
fn unmount_by_helper(place: &Place, lazily: bool, spare: &Spare) -> Result<(), Stuck> {
    let lazy = lazily.then_some("-z");
    let mut command = helper();
    command.current_dir(place.above()).arg("-u").args(lazy).arg("--").arg(Path::new(".").join(place.name()));
    let output = output_of(command.stdin(Stdio::null()), spare)
        .map_err(|error| Stuck::Refused(helper_refusal(&error).to_string()))?;
    match words_of(&output) {
        _ if output.status.success() => Ok(()),
        said if said.ends_with("busy") => Err(Stuck::Busy),
        said => Err(Stuck::Refused(format!("{HELPER}: {said}"))),
    }
}

fn output_of(command: &mut Command, spare: &Spare) -> io::Result<Output> {
    match command.output() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && spare.give_up() => {
            let output = command.output();
            spare.hold();
            output
        }
        output => output,
    }
}

/// A place in the process table for the helper, where it is needed to unmount.
///
/// # Errors
/// There is none: what would be mounted could not be taken away.
pub fn spare_for_helper() -> Result<Spare, Refusal> {
    if geteuid().is_root() {
        return Ok(Spare::none());
    }
    Spare::held().map_err(|error| Refusal::new(format!("cannot start serving: {}", plain(&error))))
}

/// What to say when `/dev/fuse` cannot be used.
pub fn device_refusal(error: &io::Error) -> Refusal {
    let advice = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => {
            "in a container allow it with `--device /dev/fuse --cap-add SYS_ADMIN`, elsewhere `modprobe fuse` and \
             `apt-get install fuse3`"
        }
        (io::ErrorKind::PermissionDenied, _) => {
            "in a container allow it with `--device /dev/fuse --cap-add SYS_ADMIN`, elsewhere `chmod 666 /dev/fuse`"
        }
        (_, Some(libc::ENODEV | libc::ENXIO)) => "load the kernel module with `modprobe fuse`",
        _ => "chaosfs needs it to mount",
    };
    Refusal::new(format!("{DEVICE}: {}; {advice}", plain(error)))
}

/// What to say when the kernel does not let this process mount.
fn not_permitted(mountpoint: &Path) -> Refusal {
    Refusal::new(format!(
        "mountpoint {}: the kernel does not permit mounting here; in a container allow it with \
         `--device /dev/fuse --cap-add SYS_ADMIN` (and `--security-opt apparmor=unconfined` where AppArmor is on)",
        mountpoint.display()
    ))
}

/// An error's text without the number that Rust appends.
pub fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_string(),
        None => error.to_string(),
    }
}

fn helper() -> Command {
    let mut command = Command::new(HELPER);
    // Its words are read by people and, for "busy", by us.
    command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn words_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    line.trim().trim_start_matches(HELPER).trim_start_matches(": ").to_string()
}

fn helper_refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let advice = "install it with `apt-get install fuse3`";
            Refusal::new(format!("{HELPER} is missing, and only root can mount without it; {advice}"))
        }
        _ => Refusal::new(format!("{HELPER}: {error}")),
    }
}

/// Reads the one descriptor that the helper sends; none if it left without sending.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}
