//! Where the output of a command that is passed on goes: into a pseudo-terminal where ours is a terminal, so that the command
//! behaves as it does there (colours, line by line), and into a pipe elsewhere.

use std::{
    fs::File,
    io::{self, Read, pipe},
    os::fd::{AsFd, OwnedFd},
};

use nix::errno::Errno;
use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{OptionalActions, OutputModes, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};

/// The end from which we read what the command writes.
pub struct Output(File);

impl Read for Output {
    /// A pseudo-terminal of which nobody holds the other end any more says EIO.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
            outcome => outcome,
        }
    }
}

/// Two ends for a command whose output goes to `ours` in the end, where each line has `indent` characters in front.
///
/// # Errors
/// What the system said.
pub fn like(ours: impl AsFd, indent: usize) -> io::Result<(Output, OwnedFd)> {
    if isatty(&ours) {
        return pseudo_terminal(ours, indent);
    }
    let (reader, writer) = pipe()?;
    Ok((Output(OwnedFd::from(reader).into()), writer.into()))
}

fn pseudo_terminal(ours: impl AsFd, indent: usize) -> io::Result<(Output, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let theirs = ioctl_tiocgptpeer(&master, flags)?;
    // Bytes come through as they are: our own terminal makes of a newline what it makes of one.
    let mut modes = tcgetattr(&theirs)?;
    modes.output_modes.remove(OutputModes::OPOST);
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    if let Ok(mut size) = tcgetwinsize(&ours) {
        size.ws_col = size.ws_col.saturating_sub(u16::try_from(indent).unwrap_or(u16::MAX));
        tcsetwinsize(&theirs, size)?;
    }
    Ok((Output(master.into()), theirs))
}
