//! What programs can ask of a directory, however it is reached, and programs that ask it in two places at once.

use super::{
    plain::{Answer, Plain, PlainFile},
    program::{At, How, Move, NAMES, Op},
    tree::{Tree, join},
};

/// The system calls of a program.
pub trait Machine {
    type File;

    fn open(&self, path: &str, how: How) -> Result<Self::File, i32>;
    fn close(&self, file: Self::File) -> Answer;
    fn write(&self, file: &Self::File, offset: u64, data: &[u8]) -> Answer;
    fn read(&self, file: &Self::File, offset: u64, length: usize) -> Answer;
    fn set_file_length(&self, file: &Self::File, size: u64) -> Answer;
    fn allocate(&self, file: &Self::File, punch: bool, offset: u64, length: u64) -> Answer;
    fn copy(&self, from: (&Self::File, u64), to: (&Self::File, u64), length: usize) -> Answer;
    fn sync(&self, file: &Self::File) -> Answer;
    fn set_length(&self, path: &str, size: u64) -> Answer;
    fn set_mode(&self, path: &str, mode: u32) -> Answer;
    fn set_times(&self, path: &str, seconds: i64) -> Answer;
    fn mkdir(&self, path: &str) -> Answer;
    fn rmdir(&self, path: &str) -> Answer;
    fn unlink(&self, path: &str) -> Answer;
    fn symlink(&self, path: &str, target: &str) -> Answer;
    fn mkfifo(&self, path: &str) -> Answer;
    fn link(&self, from: &str, to: &str) -> Answer;
    fn rename(&self, from: &str, to: &str, how: Move) -> Answer;
    /// Size, links and all the bytes of an open file.
    fn file_view(&self, file: &Self::File) -> (u64, u64, Answer);
    /// All that there is.
    fn look(&self) -> Tree;
}

fn content(step: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| b'A' + ((step * 7 + at) % 50) as u8).collect()
}

/// Where one step happens.
pub struct Step<'a> {
    pub number: usize,
    pub directories: &'a [String],
}

impl Step<'_> {
    pub fn path(&self, at: At) -> String {
        join(&self.directories[at.0 % self.directories.len()], NAMES[at.1 % NAMES.len()])
    }

    /// Runs one operation; `None` if there is nothing that it could work on.
    pub fn run<M: Machine>(&self, machine: &M, files: &mut Vec<M::File>, op: &Op) -> Option<Answer> {
        let pick = |file: usize| file.checked_rem(files.len());
        Some(match *op {
            Op::Open(at, how) => machine.open(&self.path(at), how).map(|file| {
                files.push(file);
                Vec::new()
            }),
            Op::Close(file) => {
                let file = files.remove(pick(file)?);
                machine.close(file)
            }
            Op::Write(file, offset, length) => {
                machine.write(&files[pick(file)?], offset, &content(self.number, length))
            }
            Op::Read(file, offset, length) => machine.read(&files[pick(file)?], offset, length),
            Op::SetFileLength(file, size) => machine.set_file_length(&files[pick(file)?], size),
            Op::PunchHole(file, offset, length) => {
                machine.allocate(&files[pick(file)?], true, offset, length)
            }
            Op::Allocate(file, offset, length) => {
                machine.allocate(&files[pick(file)?], false, offset, length)
            }
            Op::Copy(from, source, to, target, length) => {
                machine.copy((&files[pick(from)?], source), (&files[pick(to)?], target), length)
            }
            Op::Sync(file) => machine.sync(&files[pick(file)?]),
            Op::SetLength(at, size) => machine.set_length(&self.path(at), size),
            Op::SetMode(at, mode) => machine.set_mode(&self.path(at), mode),
            Op::SetTimes(at, seconds) => machine.set_times(&self.path(at), seconds),
            Op::Mkdir(at) => machine.mkdir(&self.path(at)),
            Op::Rmdir(at) => machine.rmdir(&self.path(at)),
            Op::Unlink(at) => machine.unlink(&self.path(at)),
            Op::Symlink(at) => machine.symlink(&self.path(at), &format!("nowhere-{}", self.number)),
            Op::Mkfifo(at) => machine.mkfifo(&self.path(at)),
            Op::Link(from, to) => machine.link(&self.path(from), &self.path(to)),
            Op::Rename(from, to, how) => machine.rename(&self.path(from), &self.path(to), how),
            Op::Advance(_) | Op::Look => return None,
        })
    }
}

/// A program that runs on a machine and, call by call, on a plain directory.
pub struct Twin<M: Machine> {
    pub machine: M,
    files: Vec<(M::File, PlainFile)>,
}

impl<M: Machine> Twin<M> {
    pub fn new(machine: M) -> Twin<M> {
        Twin { machine, files: Vec::new() }
    }

    /// Runs one step in both places and compares the answers. Whether it may have changed something.
    pub fn step(&mut self, number: usize, plain: &Plain, directories: &[String], op: &Op) -> bool {
        let step = Step { number, directories };
        let (mut ours, mut theirs): (Vec<_>, Vec<_>) = self.files.drain(..).unzip();
        let answer = step.run(&self.machine, &mut ours, op);
        let expected = step.run(plain, &mut theirs, op);
        assert_eq!(answer, expected, "step {number} {op:?}: the answer here, and on a plain directory");
        self.files.extend(ours.into_iter().zip(theirs));
        matches!(answer, Some(Ok(_))) && !matches!(op, Op::Read(..) | Op::Sync(_))
    }

    /// Compares what is seen through open files.
    pub fn compare_files(&self, number: usize, plain: &Plain) {
        for (ours, theirs) in &self.files {
            let (seen, expected) = (self.machine.file_view(ours), plain.file_view(theirs));
            assert_eq!(seen, expected, "after step {number}: an open file, and one of a plain directory");
        }
    }

    pub fn close_all(&mut self) {
        self.files.drain(..).for_each(|(file, _)| drop(self.machine.close(file)));
    }
}
