//! What is compared, and how each is started and stopped.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::ground::{Ground, PROBE};

pub const CHAOSFS: &str = env!("CARGO_BIN_EXE_chaosfs");

/// What is compared. The last four are chaosfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// The directory itself
    Native,
    /// bindfs as it comes
    Bindfs,
    /// bindfs with all timeouts of the kernel at 0
    Bindfs0,
    /// The chaosfs 0.3.0 of PyPI without its delays
    Seed,
    /// What answers at once without looking anywhere
    Floor,
    /// All knobs zero
    Zero,
    /// All knobs at their defaults
    Default,
    /// With --kernel-cache, no delays, the default time to live
    Cached,
    /// With --kernel-cache and all knobs zero
    CachedZero,
}

const NO_DELAYS: [&str; 4] = ["--write-delay", "0", "--rename-delay", "0"];
const NO_TTL: [&str; 2] = ["--meta-ttl", "0"];

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    pub fn is_ours(self) -> bool {
        self >= Kind::Zero
    }

    fn needs_kernel_cache(self) -> bool {
        self >= Kind::Cached
    }

    /// The flags of one of ours.
    fn flags(self) -> Vec<&'static str> {
        let cached = self.needs_kernel_cache().then_some("--kernel-cache");
        let no_delays = (self != Kind::Default).then_some(NO_DELAYS);
        let no_ttl = matches!(self, Kind::Zero | Kind::CachedZero).then_some(NO_TTL);
        cached
            .into_iter()
            .chain(no_delays.into_iter().flatten())
            .chain(no_ttl.into_iter().flatten())
            .collect()
    }

    /// What serves `view` in the foreground.
    fn command(self, ground: &Ground, view: &Path) -> Result<Command> {
        let program = match self {
            Kind::Floor => env::current_exe()?,
            Kind::Bindfs | Kind::Bindfs0 => PathBuf::from("bindfs"),
            Kind::Seed => ground.seed(),
            _ => PathBuf::from(CHAOSFS),
        };
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &ground.processor.to_string()]).arg(program);
        match self {
            Kind::Bindfs => command.arg("-f"),
            Kind::Bindfs0 => command.args(["-f", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0"]),
            Kind::Seed => command.arg("mount"),
            Kind::Floor => command.arg("--serve-floor"),
            _ => command.arg("mount").args(self.flags()),
        };
        if self == Kind::Seed {
            let knobs = ["CHAOSFS_WRITE_DELAY_MS", "CHAOSFS_RENAME_DELAY_MS", "CHAOSFS_META_TTL_MS"];
            command.envs(knobs.map(|knob| (knob, "0")));
        }
        if self != Kind::Floor {
            command.arg(&ground.backing);
        }
        command.arg(view);
        Ok(command)
    }
}

/// The kinds that were asked for, or all; without those for which this chaosfs is too old.
///
/// # Errors
/// Names the Debian package of what is missing.
pub fn chosen(asked: &[Kind]) -> Result<Vec<Kind>> {
    let mut kinds = if asked.is_empty() { Kind::value_variants().to_vec() } else { asked.to_vec() };
    kinds.sort_unstable();
    kinds.dedup();
    let help = Command::new(CHAOSFS).args(["mount", "--help"]).output().context(CHAOSFS)?;
    if !String::from_utf8_lossy(&help.stdout).contains("--kernel-cache") {
        println!("this chaosfs has no --kernel-cache: cached and cached-zero are left out");
        kinds.retain(|kind| !kind.needs_kernel_cache());
    }
    if kinds.iter().any(|kind| matches!(kind, Kind::Bindfs | Kind::Bindfs0)) {
        let there = Command::new("bindfs").arg("--version").output().is_ok();
        ensure!(there, "bindfs is missing: apt-get install bindfs, or leave it out with --mounts");
    }
    ensure!(!kinds.is_empty(), "--mounts: nothing is left to compare");
    Ok(kinds)
}

/// A view of the backing directory, unmounted when it is dropped.
#[derive(Debug)]
pub struct Mount {
    pub kind: Kind,
    pub view: PathBuf,
    daemon: Option<Child>,
}

/// How long a daemon may take to serve, and to leave.
const PATIENCE: Duration = Duration::from_secs(30);

impl Mount {
    /// Mounts and waits until it answers.
    ///
    /// # Errors
    /// What the daemon said, if it does not come up.
    pub fn start(kind: Kind, ground: &Ground) -> Result<Mount> {
        if kind == Kind::Native {
            return Ok(Mount { kind, view: ground.backing.clone(), daemon: None });
        }
        let view = ground.new_view()?;
        let said = view.with_extension("log");
        let mut command = kind.command(ground, &view)?;
        // In a process group of its own Ctrl-C does not reach it before its mount is taken away.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?).process_group(0);
        let daemon = command.spawn().context("taskset")?;
        let mut mount = Mount { kind, view, daemon: Some(daemon) };
        let started = Instant::now();
        while fs::symlink_metadata(mount.view.join(PROBE)).is_err() {
            let ended = mount.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            ensure!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "{} does not come up: {}",
                kind.name(),
                fs::read_to_string(&said).unwrap_or_default().trim()
            );
            // The daemon needs the processor.
            thread::sleep(Duration::from_micros(100));
        }
        Ok(mount)
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == self.view)
    }

    fn stop(&mut self) -> io::Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
        let started = Instant::now();
        while daemon.try_wait()?.is_none() && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        if self.is_mounted() {
            umount2(&self.view, MntFlags::MNT_DETACH)?;
        }
        if daemon.try_wait()?.is_none() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{} is left behind at {}: {error}", self.kind.name(), self.view.display());
        }
    }
}
