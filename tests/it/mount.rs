//! The life of a mount that a program makes through the library.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use chaosfs::{EventLog, Knobs, Mount, MountOptions, Unmounted, mount, mounts_below, unmount};
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::sandbox::{CHAOSFS, awaited};

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["shared", "view"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Place(folder)
    }

    fn view(&self) -> std::path::PathBuf {
        self.0.path().join("view")
    }

    fn mount(&self) -> Mount {
        let mut options = MountOptions::new(self.0.path().join("shared"), self.view());
        options.knobs = Knobs::zero();
        options.log = Some(EventLog::silent());
        mount(options).expect("a mount")
    }

    fn is_mounted(&self) -> bool {
        !mounts_below(self.0.path()).expect("a mount table").is_empty()
    }
}

fn open(path: &Path) -> File {
    File::open(path).expect("it opens")
}

#[test]
fn a_busy_mount_goes_on_serving_until_it_is_free() {
    let place = Place::new();
    let mount = place.mount();
    let user = open(mount.mountpoint());
    let refusal = mount.unmount().unwrap_err().to_string();
    assert!(
        refusal.ends_with("cannot unmount: busy: a program has a file or its working directory there"),
        "{refusal}"
    );
    assert!(place.is_mounted());
    drop(user);
    // A process that another test starts has it open for a moment.
    awaited("the end of its use", || mount.unmount().ok());
    assert!(!place.is_mounted());
    assert_eq!(mount.land().lost, Vec::<String>::new());
}

#[test]
fn dropping_a_mount_leaves_even_when_it_is_busy() {
    let place = Place::new();
    let mount = place.mount();
    let user = open(mount.mountpoint());
    drop(mount);
    assert!(!place.is_mounted());
    drop(user);
}

#[test]
fn leaving_ends_the_wait_and_nothing_of_somebody_else_is_unmounted() {
    let place = Place::new();
    let first = Arc::new(place.mount());
    let waiter = thread::spawn({
        let first = first.clone();
        move || first.wait()
    });
    first.leave();
    waiter.join().expect("the wait ends");
    let second = place.mount();
    first.land();
    drop(first);
    assert!(place.is_mounted());
    drop(second);
}

#[test]
fn a_client_that_was_unmounted_from_outside_leaves_the_next_mount_alone() {
    let place = Place::new();
    let first = place.mount();
    thread::scope(|scope| {
        let outside = scope.spawn(|| unmount(&place.view()));
        first.wait();
        // The kernel gives the same device number to the next mount.
        let second = place.mount();
        first.leave();
        first.land();
        assert!(place.is_mounted());
        drop(second);
        assert!(outside.join().expect("an outcome").is_success());
    });
}

#[test]
fn whoever_unmounts_from_outside_hears_the_farewell() {
    let place = Place::new();
    let mount = place.mount();
    let outcome = thread::scope(|scope| {
        let outside = scope.spawn(|| unmount(&place.view()));
        mount.wait();
        let farewell = mount.land();
        (outside.join().expect("an outcome"), farewell)
    });
    let Unmounted::Gone(heard) = outcome.0 else { panic!("{:?}", outcome.0) };
    assert_eq!((heard.landed, heard.lost), (outcome.1.landed, outcome.1.lost));
    assert_eq!(unmount(&place.view()), Unmounted::NotMounted);
}

/// Becomes a program for which `unshare(2)` is forbidden, as by a container's seccomp filter.
const WITHOUT_UNSHARE: &str = "import ctypes, os, struct, sys
number = {'x86_64': 272, 'aarch64': 97}[os.uname().machine]
LOAD_NUMBER, JUMP_IF_EQUAL, ANSWER = (0x20, 0, 0, 0), (0x15, 0, 1, number), 0x06
code = [LOAD_NUMBER, JUMP_IF_EQUAL, (ANSWER, 0, 0, 0x00050001), (ANSWER, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
call = ctypes.CDLL(None, use_errno=True).prctl
assert call(38, 1, 0, 0, 0) == 0 and call(22, 2, filter, 0, 0) == 0
os.umask(0o027); os.execv(sys.argv[1], sys.argv[1:])";

const IN_SANDBOX: &str = "TEST_IN_SANDBOX";

#[test]
fn where_threads_have_no_umask_of_their_own_nobody_loses_theirs() {
    let test = "mount::where_threads_have_no_umask_of_their_own_nobody_loses_theirs";
    let place = Place::new();
    if env::var_os(IN_SANDBOX).is_some() {
        return check_sandboxed(&place);
    }
    let sandboxed = |program: &Path, args: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-c", WITHOUT_UNSHARE]).arg(program).args(args).stdin(Stdio::null());
        command.env_remove("CHAOSFS_BLESS").current_dir(place.0.path());
        command
    };
    let this = env::current_exe().expect("a test binary");
    let output = sandboxed(&this, &["--exact", test, "--nocapture"]).env(IN_SANDBOX, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");

    // The filter takes from an ordinary user what fusermount3 is set-user-ID for.
    if !geteuid().is_root() {
        return;
    }
    // The command is a process of its own, which may change what it likes.
    let args = ["mount", "shared", "view", "--background", "--log-file", "log"];
    assert!(sandboxed(Path::new(CHAOSFS), &args).status().unwrap().success());
    let make = ["-ec", "umask 0; mkdir view/directory; : > view/file"];
    assert!(Command::new("sh").args(make).current_dir(place.0.path()).status().unwrap().success());
    assert!(unmount(&place.view()).is_success());
    let mode = |name: &str| place.0.path().join("shared").join(name).metadata().unwrap().permissions().mode();
    assert_eq!((mode("file") & 0o777, mode("directory") & 0o777), (0o666, 0o777));
}

fn check_sandboxed(place: &Place) {
    let before = env::current_dir().unwrap();
    let options = MountOptions::new(place.0.path().join("shared"), place.view());
    let refusal = mount(options).err().expect("it is refused").to_string();
    assert!(
        refusal.starts_with("a sandbox forbids unshare(CLONE_FS) (Operation not permitted), "),
        "{refusal}"
    );
    fs::create_dir(place.0.path().join("made")).unwrap();
    let mode = place.0.path().join("made").metadata().unwrap().permissions().mode();
    assert_eq!((env::current_dir().unwrap(), mode & 0o777), (before, 0o750));
    assert!(!place.is_mounted());
}
