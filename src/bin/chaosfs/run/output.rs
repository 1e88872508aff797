//! The output of commands that run at the same time: whole lines, each with its client's name in front.

use std::{
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    thread,
};

use super::terminal::Output;

/// A line may be this long, in bytes; a longer one is shown in pieces.
const LONGEST_LINE: u64 = 1 << 20;

/// Which of the two streams.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    Out,
    Err,
}

/// Passes the output of commands on until all of it has ended.
pub struct Outputs {
    ended: PipeReader,
    /// Each thread has a copy; the pipe hangs up when the last one is gone.
    running: Option<PipeWriter>,
}

impl Outputs {
    /// # Errors
    /// What the system said.
    pub fn new() -> io::Result<Outputs> {
        let (ended, running) = io::pipe()?;
        Ok(Outputs { ended, running: Some(running) })
    }

    /// Passes one stream on, in a thread of its own.
    ///
    /// # Errors
    /// What the system said.
    pub fn pass_on(&self, client: &str, from: Output, to: Stream) -> io::Result<()> {
        let running = self.running.as_ref().map(PipeWriter::try_clone).transpose()?;
        let prefix = prefix(client);
        let pass = move || {
            let _running = running;
            // A reader that has gone away takes the stream with it: the command then meets what it would have met
            // without us.
            let _ = match to {
                Stream::Out => pass_lines(&prefix, from, |line| write_whole(&mut io::stdout().lock(), line)),
                Stream::Err => pass_lines(&prefix, from, |line| write_whole(&mut io::stderr().lock(), line)),
            };
        };
        thread::Builder::new().spawn(pass).map(drop)
    }

    /// What hangs up when everything has been passed on. No more can be added.
    pub fn end(&mut self) -> BorrowedFd<'_> {
        self.running = None;
        self.ended.as_fd()
    }
}

/// What stands in front of each line of a client's command.
pub fn prefix(client: &str) -> String {
    format!("{client}: ")
}

fn write_whole(to: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    to.write_all(line)?;
    to.flush()
}

fn pass_lines(prefix: &str, from: impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        if from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        to(&line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gets_the_name_and_the_last_one_an_end() {
        let mut seen = Vec::new();
        let take = |line: &[u8]| {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        pass_lines("A: ", &b"one\n\ntwo"[..], take).unwrap();
        assert_eq!(seen, ["A: one\n", "A: \n", "A: two\n"]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut pieces = 0;
        pass_lines("A: ", io::repeat(b'x').take(3 * LONGEST_LINE), |line| {
            pieces += 1;
            assert!(line.len() as u64 <= LONGEST_LINE + 4);
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces, 3);
    }
}
