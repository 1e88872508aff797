//! What a comparison stands on: one directory of everything, and in it the backing directory, the mountpoints and what
//! workloads read.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

/// A file in the backing directory by which a mount shows that it serves.
pub const PROBE: &str = "probe";
/// A large file.
pub const LARGE: &str = "large";
/// A directory of very many files.
pub const CROWD: &str = "crowd";

const MEBIBYTE: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Ground {
    pub backing: PathBuf,
    /// Where daemons and workloads run.
    pub processor: usize,
    pub scale: f64,
    views: Cell<u32>,
    stopped: Arc<AtomicBool>,
    folder: TempDir,
}

impl Ground {
    /// Makes everything below `directory`. From now on this process keeps to one processor, and Ctrl-C ends it only
    /// where [`Ground::check_not_stopped`] is asked.
    ///
    /// # Errors
    /// Whatever cannot be made.
    pub fn prepare(directory: &Path, scale: f64, with_seed: bool) -> Result<Ground> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, stopped.clone())?;
        }
        let folder = tempfile::Builder::new().prefix("chaosfs-compare-").tempdir_in(directory)?;
        // Some daemons do not follow a symlink in their arguments.
        let backing = folder.path().canonicalize()?.join("backing");
        let processor = 1.min(thread::available_parallelism()?.get() - 1);
        let ground = Ground { backing, processor, scale, views: Cell::new(0), stopped, folder };
        fs::create_dir_all(&ground.backing)?;
        fs::write(ground.backing.join(PROBE), "")?;
        ground.make_tree()?;
        ground.make_repository()?;
        if with_seed {
            ground.install_seed()?;
        }
        let mut processors = CpuSet::new();
        processors.set(processor)?;
        sched_setaffinity(Pid::from_raw(0), &processors)?;
        Ok(ground)
    }

    /// How many of what there are `full` of in a run that counts.
    pub fn scaled(&self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(20)
    }

    /// A tree of small files, as sources are.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// The same, packed.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("tree.tar")
    }

    /// The same, under version control.
    pub fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// The program of chaosfs 0.3.0.
    pub fn seed(&self) -> PathBuf {
        self.folder.path().join("seed/bin/chaosfs")
    }

    /// A file of some size in the backing directory, made once.
    ///
    /// # Errors
    /// What the backing directory answers.
    pub fn large(&self) -> Result<usize> {
        let size = self.scaled(256) * MEBIBYTE;
        let path = self.backing.join(LARGE);
        if !path.exists() {
            fs::write(path, vec![7; size])?;
        }
        Ok(size)
    }

    /// A directory of many files in the backing directory, made once.
    ///
    /// # Errors
    /// What the backing directory answers.
    pub fn crowd(&self) -> Result<usize> {
        let (size, path) = (self.scaled(100_000), self.backing.join(CROWD));
        if !path.exists() {
            fs::create_dir(&path)?;
            (0..size).try_for_each(|number| fs::write(path.join(format!("f{number:06}")), ""))?;
        }
        Ok(size)
    }

    /// A mountpoint that nobody has.
    ///
    /// # Errors
    /// What making a directory answers.
    pub fn new_view(&self) -> Result<PathBuf> {
        self.views.set(self.views.get() + 1);
        let view = self.backing.with_file_name(format!("view{}", self.views.get()));
        fs::create_dir(&view)?;
        Ok(view)
    }

    /// Makes the kernel forget names and inodes, so that no mount carries old ones around.
    ///
    /// # Errors
    /// If this is not root.
    pub fn drop_dentries(&self) -> Result<()> {
        fs::write("/proc/sys/vm/drop_caches", "2").context("/proc/sys/vm/drop_caches")?;
        // Daemons hear of it, and need a moment for it.
        thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    /// # Errors
    /// After Ctrl-C.
    pub fn check_not_stopped(&self) -> Result<()> {
        ensure!(!self.stopped.load(Ordering::Relaxed), "stopped by a signal; nothing was written");
        Ok(())
    }

    fn make_tree(&self) -> Result<()> {
        for folder in 0..30 {
            let folder = self.tree().join(format!("folder{folder:02}/inner"));
            fs::create_dir_all(&folder)?;
            for number in 0..20 {
                let line = format!("line of file {number} in {}\n", folder.display());
                let place = if number % 2 == 0 { folder.clone() } else { folder.join("..") };
                fs::write(place.join(format!("file{number:02}.txt")), line.repeat(2 + number * number / 2))?;
            }
        }
        let mut tar = Command::new("tar");
        succeed(tar.arg("-cf").arg(self.archive()).arg("-C").arg(self.tree()).arg("."))
    }

    fn make_repository(&self) -> Result<()> {
        succeed(Command::new("cp").arg("-r").arg(self.tree()).arg(self.repository()))?;
        let git = |arguments: &[&str]| succeed(self.git().arg("-C").arg(self.repository()).args(arguments));
        git(&["init", "-q"])?;
        git(&["add", "-A"])?;
        git(&["-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "commit", "-qm", "all"])
    }

    /// git without what this machine's people have configured.
    pub fn git(&self) -> Command {
        let mut git = Command::new("git");
        git.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")]);
        git
    }

    fn install_seed(&self) -> Result<()> {
        let folder = self.folder.path().join("seed");
        let with = "it is left out with --mounts native,bindfs,bindfs0,zero,default,cached,cached-zero";
        let why = || {
            format!(
                "chaosfs 0.3.0 of PyPI cannot be installed (apt-get install python3-venv libfuse2); {with}"
            )
        };
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder)).with_context(why)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        succeed(pip.args(["install", "--quiet", "--disable-pip-version-check", "chaosfs==0.3.0"]))
            .with_context(why)
    }
}

/// Runs a command that says nothing unless it fails.
///
/// # Errors
/// What it said then.
pub fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("`{name}` cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {}", output.status, said.trim());
    Ok(())
}
