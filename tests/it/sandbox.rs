//! A folder to mount in, and the binary run in it as people run it.

use std::{
    env, fs,
    fs::File,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigHandler, Signal, kill, signal},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

/// The binary under test.
pub const CHAOSFS: &str = env!("CARGO_BIN_EXE_chaosfs");
const PATIENCE: Duration = Duration::from_secs(30);
const ENOTCONN: i32 = 107;

/// A command with no variables but those a test sets.
pub fn chaosfs(args: &[&str]) -> Command {
    let mut command = Command::new(CHAOSFS);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).args(args).stdin(Stdio::null());
    command
}

/// What a finished command said and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).expect("chaosfs speaks UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn run(command: &mut Command) -> Said {
    said(command.output().expect("the binary starts"))
}

/// Whether this is root, who may mount what a test is about. Anybody else has the test run by themselves as the root of
/// a user namespace, and is done with that.
pub fn as_root(test: &str) -> bool {
    if geteuid().is_root() {
        return true;
    }
    let this = env::current_exe().expect("a test binary");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]).arg(this).args(["--exact", test, "--nocapture"]);
    let said = said(command.output().expect("unshare(1) is installed"));
    let why = "as an ordinary user this test needs user namespaces";
    assert!(said.code == Some(0) && said.out.contains(" 1 passed"), "{why}: {} {}", said.out, said.err);
    false
}

/// The same, for tests that also become other users. The root of a user namespace mostly knows nobody else: there is
/// nothing to test there.
pub fn as_root_among_users(test: &str) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
    as_root(test) && map.split_whitespace().nth(2) != Some("1")
}

/// Looks until there is something.
#[track_caller]
pub fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what} is not seen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: last seen {seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with a backing directory `shared` and mountpoints `a` and `b`. Takes every mount below it away at the end.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["shared", "a", "b"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Sandbox { folder }
    }

    /// The same, for tests that mount: they fail where that is impossible.
    pub fn for_mounting() -> Sandbox {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        assert!(device.is_ok(), "this test needs /dev/fuse: {device:?}");
        let helper = Command::new("fusermount3").arg("--version").output();
        assert!(helper.is_ok(), "this test needs fusermount3 (apt-get install fuse3): {helper:?}");
        Sandbox::new()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder is there").join(name)
    }

    /// A command in this folder.
    pub fn chaosfs(&self, args: &[&str]) -> Command {
        let mut command = chaosfs(args);
        command.current_dir(self.folder.path());
        command
    }

    pub fn mount(&self, name: &str, more: &[&str]) -> Said {
        let fixed = ["mount", "shared", name, "--background", "--client-id", name, "--log-dir", "logs"];
        run(&mut self.chaosfs(&[&fixed, more].concat()))
    }

    /// Moves the clocks of all clients that are mounted on ones that stand still.
    #[track_caller]
    pub fn advance(&self, by: &str) {
        let said = run(&mut self.chaosfs(&["advance", by, "--backing", "shared"]));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    }

    pub fn mounted(&self, name: &str) -> bool {
        let path = self.path(name);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        mounts.lines().any(|line| line.split(' ').nth(4).map(Path::new) == Some(&path))
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path("logs").join(format!("{name}.log"))).expect("a log")
    }

    /// The daemon behind a mount, found as people find it.
    pub fn daemon(&self, name: &str) -> Pid {
        let wanted = format!("mount\0shared\0{name}\0");
        let here = self.path("");
        let is_ours = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
            String::from_utf8_lossy(&arguments).contains(&wanted)
                && targets.any(|target| target.starts_with(&here))
        };
        let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Pid::from_raw(pids.find(is_ours).expect("a daemon with these arguments"))
    }

    pub fn kill_daemon(&self, name: &str) {
        kill(self.daemon(name), Signal::SIGKILL).expect("the daemon is there");
        let dead = |seen: &Option<i32>| *seen == Some(ENOTCONN);
        eventually(
            "a dead mount",
            || fs::metadata(self.path(name)).err().and_then(|e| e.raw_os_error()),
            dead,
        );
    }

    /// Lets the kernel give up a client's connection, which only root can ask for.
    pub fn abort_connection(&self, name: &str) {
        let path = self.path(name);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let ours = mounts.lines().find(|line| line.split(' ').nth(4).map(Path::new) == Some(&path));
        let device = ours.and_then(|line| line.split(' ').nth(2)).expect("it is mounted");
        let minor = device.split(':').nth(1).expect("a device number");
        let connections = Path::new("/sys/fs/fuse/connections");
        if !connections.join(minor).exists() {
            let mounted = Command::new("mount").args(["-t", "fusectl", "none"]).arg(connections).status();
            assert!(mounted.expect("mount(8) is installed").success(), "fusectl can be mounted");
        }
        fs::write(connections.join(minor).join("abort"), "1").expect("root may abort a connection");
    }

    pub fn serve(&self, name: &str, more: &[&str]) -> Foreground {
        let mut command = self.chaosfs(&[&["mount", "shared", name], more].concat());
        let client = Foreground::start(&mut command);
        eventually("a mount", || self.mounted(name), |mounted| *mounted);
        // It stands before it is served; whoever asks it waits for that.
        let _ = fs::metadata(self.path(name));
        client
    }

    /// Connects to the control socket behind a mount, found as `docs/control.md` says.
    pub fn connect(&self, name: &str) -> UnixStream {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = self.path(name);
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(4).map(Path::new) == Some(&path))
            .expect("a mount");
        let file = line.split(' ').nth(2).unwrap().replace(':', "-") + ".control";
        let user = geteuid().as_raw();
        let system = if user == 0 { "/run".to_string() } else { format!("/run/user/{user}") };
        let folders = [format!("{system}/chaosfs"), format!("/tmp/chaosfs-{user}")];
        let socket = folders.iter().map(|folder| Path::new(folder).join(&file)).find(|path| path.exists());
        let socket = socket.expect("a socket");
        assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        UnixStream::connect(socket).expect("somebody listens")
    }

    /// `chaosfs run` with its temporary directories in this folder, below `tmp`.
    pub fn run_command(&self, args: &[&str]) -> Command {
        fs::create_dir_all(self.path("tmp")).expect("a folder");
        let mut command = self.chaosfs(&[&["run"], args].concat());
        command.env("TMPDIR", self.path("tmp"));
        command
    }

    /// The same, for tests in which an ordinary user mounts.
    pub fn for_ordinary_users() -> Sandbox {
        let sandbox = Sandbox::for_mounting();
        fs::copy(CHAOSFS, sandbox.binary()).expect("a copy that everybody may execute");
        for (name, mode) in [("", 0o755), ("tmp", 0o777), ("device", 0o755)] {
            fs::create_dir_all(sandbox.path(name)).expect("a folder");
            fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(mode)).expect("own folders");
        }
        sandbox
    }

    /// The binary where ordinary users reach it.
    pub fn binary(&self) -> PathBuf {
        self.path("chaosfs")
    }

    /// A command as an ordinary user: this one, or nobody when this one is root. Some machines keep `/dev/fuse` for root,
    /// so nobody gets a device of its own, which only that command sees.
    pub fn as_ordinary_user(&self, args: &[&str]) -> Command {
        // On a tmpfs: a device in the test's folder does not open where /tmp is mounted `nodev`.
        const AS_NOBODY: &str = "mount -t tmpfs tmpfs \"$1\" && mknod -m 666 \"$1/fuse\" c 10 229 && \
             mount --bind \"$1/fuse\" /dev/fuse && shift && \
             exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "sh", "-c", AS_NOBODY, "sh"])
                .arg(self.path("device"))
                .arg(self.binary());
            command
        } else {
            Command::new(self.binary())
        };
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", self.path("tmp")).current_dir("/").stdin(Stdio::null()).args(args);
        command
    }

    /// What runs have left in their temporary directory.
    pub fn left_by_runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("tmp")).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// What is mounted below this folder.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let here = self.path("");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(&here)).collect()
    }

    /// The text with the folder's own path out of it.
    pub fn neutral(&self, text: &str) -> String {
        text.replace(self.path("").to_str().expect("a path in UTF-8"), "DIR/")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let base = self.folder.path().as_os_str();
        let _ = chaosfs(&["umount", "--mount-base"]).arg(base).output();
        for path in self.mounts() {
            let (tool, flag) = if geteuid().is_root() { ("umount", "-l") } else { ("fusermount3", "-uz") };
            let _ = Command::new(tool).arg(flag).arg(path).output();
        }
    }
}

/// A client or a run in the foreground; killed if a test forgets it.
pub struct Foreground(Option<Child>);

impl Foreground {
    /// Resets the signals that whoever started the tests may ignore (a background shell, nohup): that they are
    /// ignored is inherited, and a shell that a test starts could not trap them.
    #[expect(
        unsafe_code,
        reason = "only pre_exec resets a signal without a tool: not every env(1) has --default-signal"
    )]
    pub fn start(command: &mut Command) -> Foreground {
        let reset_signals = || {
            for inherited in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
                // SAFETY: the default is no function that could be unsafe to call.
                unsafe { signal(inherited, SigHandler::SigDfl) }?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec nothing but signal(2) is called, which is async-signal-safe.
        let command = unsafe { command.pre_exec(reset_signals) };
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Foreground(Some(piped.spawn().expect("the binary starts")))
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0.as_ref().expect("still running").id().try_into().expect("a pid"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("still running");
    }

    pub fn wait(mut self) -> Said {
        said(self.0.take().expect("still running").wait_with_output().expect("an exit code"))
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
