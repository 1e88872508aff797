//! What is done and timed. Each workload answers with seconds, for one of what it does or for all: only ratios of them
//! are shown.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::{
    ground::{CROWD, Ground, LARGE, succeed},
    mounts::{CHAOSFS, Kind, Mount},
};

/// Does it once.
type Run = fn(&Site) -> Result<Option<f64>>;

/// Something programs do.
pub struct Workload {
    pub name: &'static str,
    /// In the words of a table.
    pub title: &'static str,
    /// `None` where there is nothing to do.
    pub run: Run,
    /// The floor can answer it.
    pub is_on_names: bool,
}

/// All of them, in the order of the tables.
pub const WORKLOADS: &[Workload] = &[
    on_names("stat", "`stat`, files not seen before", stat),
    on_names("known", "`fstat` of an open file", known),
    on_names("missing", "`stat` of missing names", missing),
    on_names("open", "open and close", open),
    on_names("read-small", "read 1 KiB files", read_small),
    on_names("create", "create", create),
    on_names("rename", "rename", rename),
    on_names("unlink", "unlink", unlink),
    on_names("mkdir", "mkdir", mkdir),
    workload("list-5k", "`ls -l`, 5,000 entries", list),
    workload("list-100k", "`ls -l`, 100,000 entries", list_crowd),
    workload("sequential-read", "sequential read", sequential_read),
    workload("sequential-write", "sequential write", sequential_write),
    workload("random-read-1", "random 4 KiB reads, 1 job", |site| random(site, 1, false)),
    workload("random-read-4", "random 4 KiB reads, 4 jobs", |site| random(site, 4, false)),
    workload("random-write-1", "random 4 KiB writes, 1 job", |site| random(site, 1, true)),
    workload("random-write-4", "random 4 KiB writes, 4 jobs", |site| random(site, 4, true)),
    workload("append", "small appends", |site| append(site, 5_000, false)),
    workload("append-fsync", "small appends with `fsync`", |site| append(site, 200, true)),
    workload("cp", "`cp -r`", copy_tree),
    workload("tar", "`tar x`", unpack),
    workload("rm", "`rm -r`", remove_tree),
    workload("find", "`find -size`", find),
    workload("git-clone", "`git clone`", git_clone),
    workload("git-status", "`git status`", git_status),
    workload("venv", "`python -m venv`", venv),
    workload("ready", "from start to serving", ready),
];

const fn workload(name: &'static str, title: &'static str, run: Run) -> Workload {
    Workload { name, title, run, is_on_names: false }
}

const fn on_names(name: &'static str, title: &'static str, run: Run) -> Workload {
    Workload { is_on_names: true, ..workload(name, title, run) }
}

/// How long one workload may take on one mount, in seconds.
const PATIENCE: u64 = 120;

/// Where one workload is run once on one mount: a directory of its own.
pub struct Site<'a> {
    ground: &'a Ground,
    mount: &'a Mount,
    /// The directory as the backing directory has it.
    back: PathBuf,
    /// The same, seen through the mount.
    view: PathBuf,
}

impl Site<'_> {
    /// Makes the directory.
    ///
    /// # Errors
    /// What the backing directory answers.
    pub fn new<'a>(ground: &'a Ground, mount: &'a Mount, name: &str) -> Result<Site<'a>> {
        let (back, view) = (ground.backing.join(name), mount.view.join(name));
        fs::create_dir(&back)?;
        Ok(Site { ground, mount, back, view })
    }

    /// Waits until nothing of a workload is left to be done.
    ///
    /// # Errors
    /// What `chaosfs flush` says.
    pub fn settle(&self) -> Result<()> {
        if self.mount.kind.is_ours() {
            succeed(Command::new(CHAOSFS).arg("flush").arg(&self.mount.view))?;
        }
        Ok(())
    }

    /// Does something for each of these and answers with the time that one took.
    fn each<T>(&self, items: &[T], mut act: impl FnMut(&T) -> io::Result<()>) -> Result<Option<f64>> {
        let started = Instant::now();
        for (index, item) in items.iter().enumerate() {
            act(item)?;
            if index % 64 == 63 {
                self.check_time(started)?;
            }
        }
        Ok(Some(started.elapsed().as_secs_f64() / items.len() as f64))
    }

    fn check_time(&self, started: Instant) -> Result<()> {
        self.ground.check_not_stopped()?;
        ensure!(started.elapsed().as_secs() < PATIENCE, "it takes more than {PATIENCE} seconds");
        Ok(())
    }

    /// The time that a program takes.
    fn program(&self, command: &mut Command) -> Result<Option<f64>> {
        let mut limited = Command::new("timeout");
        limited
            .args(["--foreground", &PATIENCE.to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let started = Instant::now();
        succeed(&mut limited)?;
        Ok(Some(started.elapsed().as_secs_f64()))
    }

    /// So many files of this size in the backing directory; where they are in the view.
    fn fill(&self, count: usize, size: usize) -> Result<Vec<PathBuf>> {
        let content = vec![b'x'; size];
        paths(&self.back, count).iter().try_for_each(|path| fs::write(path, &content))?;
        Ok(paths(&self.view, count))
    }

    fn thousands(&self, size: usize) -> Result<Vec<PathBuf>> {
        self.fill(self.ground.scaled(5_000), size)
    }

    fn fresh_paths(&self) -> Vec<PathBuf> {
        paths(&self.view, self.ground.scaled(5_000))
    }

    /// A large file, warm in the backing directory and unknown to the mount; and its size.
    fn large(&self) -> Result<(PathBuf, usize)> {
        let size = self.ground.large()?;
        read_all(&self.ground.backing.join(LARGE), &mut vec![0; 1 << 20])?;
        let path = self.mount.view.join(LARGE);
        if self.mount.kind != Kind::Native {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        Ok((path, size))
    }
}

fn paths(folder: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| folder.join(format!("file{number:06}"))).collect()
}

fn read_all(path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    while file.read(buffer)? > 0 {}
    Ok(())
}

fn stat(site: &Site) -> Result<Option<f64>> {
    site.each(&site.thousands(0)?, |path| fs::symlink_metadata(path).map(drop))
}

fn known(site: &Site) -> Result<Option<f64>> {
    let path = site.fill(1, 0)?.remove(0);
    let file = File::open(path)?;
    site.each(&vec![(); site.ground.scaled(20_000)], |()| file.metadata().map(drop))
}

fn missing(site: &Site) -> Result<Option<f64>> {
    site.thousands(0)?;
    let names: Vec<_> = site.fresh_paths().iter().map(|path| path.with_extension("missing")).collect();
    site.each(&names, |path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("a missing name is there")),
    })
}

fn open(site: &Site) -> Result<Option<f64>> {
    site.each(&site.thousands(0)?, |path| File::open(path).map(drop))
}

fn read_small(site: &Site) -> Result<Option<f64>> {
    let mut buffer = vec![0; 65_536];
    site.each(&site.thousands(1024)?, |path| read_all(path, &mut buffer))
}

fn create(site: &Site) -> Result<Option<f64>> {
    site.each(&site.fresh_paths(), |path| File::create_new(path).map(drop))
}

fn rename(site: &Site) -> Result<Option<f64>> {
    let names: Vec<_> =
        site.thousands(0)?.into_iter().map(|from| (from.with_extension("new"), from)).collect();
    site.each(&names, |(to, from)| fs::rename(from, to))
}

fn unlink(site: &Site) -> Result<Option<f64>> {
    site.each(&site.thousands(0)?, |path| fs::remove_file(path))
}

fn mkdir(site: &Site) -> Result<Option<f64>> {
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    site.each(&site.fresh_paths(), |path| builder.create(path))
}

fn list(site: &Site) -> Result<Option<f64>> {
    let count = site.thousands(0)?.len();
    list_long(site, &site.view, count)
}

fn list_crowd(site: &Site) -> Result<Option<f64>> {
    let count = site.ground.crowd()?;
    list_long(site, &site.ground.backing.join(CROWD), count)?;
    list_long(site, &site.mount.view.join(CROWD), count)
}

/// Lists a directory with the attributes of every entry.
fn list_long(site: &Site, folder: &Path, count: usize) -> Result<Option<f64>> {
    let started = Instant::now();
    let mut seen = 0;
    for entry in fs::read_dir(folder)? {
        entry?.metadata()?;
        seen += 1;
        if seen % 64 == 0 {
            site.check_time(started)?;
        }
    }
    ensure!(seen == count, "{seen} entries where there are {count}");
    Ok(Some(started.elapsed().as_secs_f64()))
}

fn sequential_read(site: &Site) -> Result<Option<f64>> {
    let (path, _) = site.large()?;
    let mut buffer = vec![0; 1 << 20];
    site.each(&[path], |path| read_all(path, &mut buffer))
}

fn sequential_write(site: &Site) -> Result<Option<f64>> {
    let block = vec![7; 1 << 20];
    let blocks = vec![(); site.ground.scaled(256)];
    let path = site.view.join("file");
    let started = Instant::now();
    let mut file = File::create_new(&path)?;
    site.each(&blocks, |()| file.write_all(&block))?;
    drop(file);
    let taken = started.elapsed().as_secs_f64();
    // So much at once is not left for the end.
    site.settle()?;
    fs::remove_file(site.back.join("file"))?;
    Ok(Some(taken))
}

/// Reads or writes at random places for half a second, with so many jobs at once.
fn random(site: &Site, jobs: u64, writes: bool) -> Result<Option<f64>> {
    let (path, size) = site.large()?;
    let span = Duration::from_secs_f64(0.5 * site.ground.scale.max(0.2));
    let started = Instant::now();
    let done = thread::scope(|scope| {
        let job = |seed| {
            let path = &path;
            scope.spawn(move || random_job(path, size, seed, writes, started + span))
        };
        let jobs: Vec<_> = (1..=jobs).map(job).collect();
        jobs.into_iter()
            .map(|job| job.join().map_err(|_| io::Error::other("a job panicked"))?)
            .sum::<io::Result<u64>>()
    });
    Ok(Some(started.elapsed().as_secs_f64() / done? as f64))
}

fn random_job(path: &Path, size: usize, seed: u64, writes: bool, end: Instant) -> io::Result<u64> {
    const BLOCK: u64 = 4096;
    let file = OpenOptions::new().read(!writes).write(writes).open(path)?;
    let mut buffer = vec![7; BLOCK as usize];
    let (mut state, mut done) = (seed, 0);
    while Instant::now() < end {
        for _ in 0..16 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offset = (state >> 33) % (size as u64 / BLOCK) * BLOCK;
            if writes {
                file.write_all_at(&buffer, offset)?;
            } else {
                file.read_exact_at(&mut buffer, offset)?;
            }
            done += 1;
        }
    }
    Ok(done)
}

fn append(site: &Site, count: usize, synced: bool) -> Result<Option<f64>> {
    let mut file = OpenOptions::new().create(true).append(true).open(site.view.join("log"))?;
    site.each(&vec![(); site.ground.scaled(count)], |()| {
        file.write_all(&[b'x'; 100])?;
        if synced { file.sync_all() } else { Ok(()) }
    })
}

fn copy_tree(site: &Site) -> Result<Option<f64>> {
    site.program(Command::new("cp").arg("-r").arg(site.ground.tree()).arg(site.view.join("tree")))
}

fn unpack(site: &Site) -> Result<Option<f64>> {
    site.program(Command::new("tar").arg("-xf").arg(site.ground.archive()).arg("-C").arg(&site.view))
}

/// A copy of the tree in the backing directory; where it is in the view.
fn planted(site: &Site) -> Result<PathBuf> {
    succeed(Command::new("cp").arg("-r").arg(site.ground.tree()).arg(site.back.join("tree")))?;
    Ok(site.view.join("tree"))
}

fn remove_tree(site: &Site) -> Result<Option<f64>> {
    let tree = planted(site)?;
    site.program(Command::new("rm").arg("-r").arg(tree))
}

fn find(site: &Site) -> Result<Option<f64>> {
    let tree = planted(site)?;
    site.program(Command::new("find").arg(tree).args(["-type", "f", "-size", "+1k"]))
}

fn clone_into(site: &Site, folder: &Path) -> Command {
    let mut git = site.ground.git();
    git.args(["clone", "-q", "--local", "--no-hardlinks"]).arg(site.ground.repository()).arg(folder);
    git
}

fn git_clone(site: &Site) -> Result<Option<f64>> {
    site.program(&mut clone_into(site, &site.view.join("clone")))
}

fn git_status(site: &Site) -> Result<Option<f64>> {
    succeed(&mut clone_into(site, &site.back.join("clone")))?;
    site.program(site.ground.git().arg("-C").arg(site.view.join("clone")).args(["status", "--porcelain"]))
}

fn venv(site: &Site) -> Result<Option<f64>> {
    site.program(Command::new("python3").args(["-m", "venv"]).arg(site.view.join("venv")))
}

/// One more mount of the kind comes and goes.
fn ready(site: &Site) -> Result<Option<f64>> {
    if site.mount.kind == Kind::Native {
        return Ok(None);
    }
    let started = Instant::now();
    let mount = Mount::start(site.mount.kind, site.ground)?;
    let taken = started.elapsed().as_secs_f64();
    drop(mount);
    Ok(Some(taken))
}
