//! The daemon's end of the control socket: answers whoever steers the client, and tells all how it ended.
//!
//! `umount(2)` returns before the daemon has written its last byte. So whoever unmounts connects first and reads until
//! the daemon has spoken: at its end every connection gets one last line, the farewell.
//!
//! Each connection has a thread of its own: one that does not read its answer, or asks for something that takes long,
//! stops nobody else. Where there is no thread to be had it is answered later, and still hears the farewell.

use std::{
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe},
    net::Shutdown,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    mountinfo::Device,
    protocol::{Answer, LONGEST_REQUEST, Request, nanos},
    socket::{self, SocketFile},
};
use crate::{
    client::{Client, Farewell, prepare_thread},
    clock::Clock,
    error::Refusal,
};

/// How long one who was answered may take to read, before the daemon goes on without them.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many may be connected at the same time.
const MOST_CONNECTIONS: usize = 256;

/// A connection's thread reads a line and writes one.
const STACK: usize = 256 << 10;

/// How long to wait when the system has no descriptor or thread for one more connection.
const RESPITE: Duration = Duration::from_millis(50);

/// The daemon's end.
#[derive(Debug)]
pub struct Control {
    file: SocketFile,
    connections: Arc<Connections>,
    /// Closing it ends the thread.
    open: PipeWriter,
    listener: JoinHandle<()>,
}

/// Everybody who is connected, and whom they talk to.
#[derive(Debug)]
struct Connections {
    steered: Steered,
    open: Mutex<Vec<Arc<Connection>>>,
    /// How many requests there were.
    requests: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// Only one line at a time is written.
    writing: Mutex<()>,
    ended: AtomicBool,
    use_made: Mutex<Use>,
}

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing since this request of all.
    Idle(u64),
    /// A request is being answered.
    Busy,
    /// It waits for the farewell.
    Awaits,
}

impl Connection {
    fn new(stream: UnixStream, number: u64) -> Connection {
        let (writing, ended, use_made) = (Mutex::default(), AtomicBool::new(false), Use::Idle(number).into());
        Connection { stream, writing, ended, use_made }
    }

    /// Since when it has been idle, if it is.
    fn idle_since(&self) -> Option<u64> {
        match *locked(&self.use_made) {
            Use::Idle(since) => Some(since),
            Use::Busy | Use::Awaits => None,
        }
    }

    fn say(&self, answer: &Answer) -> io::Result<()> {
        let _writing = locked(&self.writing);
        if self.ended.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        (&self.stream).write_all(answer.line().as_bytes())
    }

    fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends the last line, unless the peer blocks on an earlier one.
    fn say_last(&self, line: &str) {
        self.ended.store(true, Ordering::SeqCst);
        if let Ok(_writing) = self.writing.try_lock() {
            let _ = (&self.stream).write_all(line.as_bytes());
        }
    }
}

/// Connections that have heard the farewell. Their peers take the end of a connection for the end of the daemon: keep this until
/// nothing of the backing directory is held any more, so that it can be unmounted when they go on.
#[derive(Debug, Default)]
pub struct FarewellConnections(Vec<Arc<Connection>>);

impl Drop for FarewellConnections {
    fn drop(&mut self) {
        for connection in &self.0 {
            connection.hang_up();
        }
    }
}

impl Control {
    /// Answers those who want to steer the client of `device` over `backing`, which does not live on for their sake.
    ///
    /// # Errors
    /// What the system said.
    pub fn listen(device: Device, backing: &Path, steered: Steered) -> io::Result<Control> {
        let (listener, file) = socket::listen(device, backing)?;
        listener.set_nonblocking(true)?;
        let (closed, open) = pipe()?;
        let connections = Arc::new(Connections::new(steered));
        let theirs = connections.clone();
        let attend = move || {
            // For the threads of the connections, too: what they are asked for may land.
            prepare_thread();
            theirs.attend(&listener, &closed);
        };
        let listener_thread =
            thread::Builder::new().name("control".to_string()).stack_size(STACK).spawn(attend)?;
        Ok(Control { file, connections, open, listener: listener_thread })
    }

    /// Tells everybody who is connected how it ended.
    pub fn tell(self, farewell: &Farewell) -> FarewellConnections {
        // Unlinked first, so that nobody can connect after the last look at the listening socket.
        drop(self.file);
        drop(self.open);
        let _ = self.listener.join();
        let mut told = std::mem::take(&mut *locked(&self.connections.open));
        // One that did not ask for it, and may not read, holds up nobody who did.
        told.sort_by_key(|connection| connection.idle_since().is_some());
        let line = Answer::farewell(farewell).line();
        told.iter().for_each(|connection| connection.say_last(&line));
        FarewellConnections(told)
    }
}

impl Connections {
    fn new(steered: Steered) -> Connections {
        Connections { steered, open: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// Accepts connections until `closed`, and then those that came before that.
    fn attend(self: &Arc<Connections>, listener: &UnixListener, closed: &PipeReader) {
        let mut unserved = Vec::new();
        loop {
            unserved.retain(|connection| !self.start(connection));
            match listener.accept() {
                Ok((stream, _)) => unserved.extend(self.let_in(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patience = (!unserved.is_empty()).then_some(RESPITE);
                    if !wait_at(listener, closed, patience) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if is_shut(closed) => return,
                Err(_) => Clock::Monotonic.pause(RESPITE),
            }
        }
    }

    /// Takes up a connection, if need be in place of the one that has been idle for longest.
    fn let_in(&self, stream: UnixStream) -> Option<Arc<Connection>> {
        stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).ok()?;
        let connection = Arc::new(Connection::new(stream, self.requests.load(Ordering::SeqCst)));
        let mut connections = locked(&self.open);
        if connections.len() >= MOST_CONNECTIONS {
            let idle = connections.iter().filter_map(|other| Some((other.idle_since()?, other.clone())));
            let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) else {
                drop(connections);
                let text = format!("there are already {MOST_CONNECTIONS} connections; close one first");
                let _ = connection.say(&Answer::refused(&Refusal::new(text)));
                return None;
            };
            connections.retain(|other| !Arc::ptr_eq(other, &longest));
            longest.hang_up();
        }
        connections.push(connection.clone());
        Some(connection)
    }

    /// Starts the thread that serves a connection; whether there is one to be had.
    fn start(self: &Arc<Connections>, connection: &Arc<Connection>) -> bool {
        let (connections, theirs) = (self.clone(), connection.clone());
        let serve = move || {
            connections.serve(&theirs);
            connections.let_out(&theirs);
        };
        thread::Builder::new().name("steering".to_string()).stack_size(STACK).spawn(serve).is_ok()
    }

    fn let_out(&self, connection: &Arc<Connection>) {
        locked(&self.open).retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Answers line by line until the other side has had enough, or does not read, or sends what cannot be a request.
    fn serve(&self, connection: &Connection) {
        let mut lines = BufReader::new(&connection.stream);
        let mut awaits = false;
        loop {
            let mut line = Vec::new();
            let read = (&mut lines).take(LONGEST_REQUEST as u64 + 1).read_until(b'\n', &mut line);
            if read.is_err() || line.is_empty() {
                return;
            }
            *locked(&connection.use_made) = Use::Busy;
            let whole = line.pop_if(|last| *last == b'\n').is_some();
            let answer = match whole {
                true => self.steered.answer(&line),
                false if line.len() > LONGEST_REQUEST => Some(refused(format!(
                    "a request has at most {LONGEST_REQUEST} bytes and ends with a newline"
                ))),
                false => Some(refused("the request is torn: it ends without a newline".to_string())),
            };
            let said = answer.as_ref().map_or(Ok(()), |answer| connection.say(answer));
            if said.is_err() || !whole {
                return;
            }
            let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
            awaits |= answer.is_none();
            *locked(&connection.use_made) = if awaits { Use::Awaits } else { Use::Idle(number) };
        }
    }
}

fn refused(text: String) -> Answer {
    Answer::refused(&Refusal::new(text))
}

/// Waits until somebody connects, or for `patience`; `false` when no more are accepted.
fn wait_at(listener: &UnixListener, closed: &PipeReader, patience: Option<Duration>) -> bool {
    let mut ends = [listener.as_fd(), closed.as_fd()].map(|end| PollFd::new(end, PollFlags::POLLIN));
    let patience =
        patience.map_or(PollTimeout::NONE, |span| PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX));
    let polled = poll(&mut ends, patience);
    let somebody = |index: usize| ends[index].revents().is_some_and(|events| !events.is_empty());
    polled.is_err() || somebody(0) || !somebody(1)
}

fn is_shut(closed: &PipeReader) -> bool {
    let mut end = [PollFd::new(closed.as_fd(), PollFlags::POLLIN)];
    poll(&mut end, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// The client that is steered.
#[derive(Clone)]
pub struct Steered {
    client: Weak<Client>,
    mountpoint: PathBuf,
}

impl std::fmt::Debug for Steered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steered").field("mountpoint", &self.mountpoint).finish_non_exhaustive()
    }
}

impl Steered {
    /// The client whose view appears at `mountpoint`.
    pub fn new(client: &Arc<Client>, mountpoint: PathBuf) -> Steered {
        Steered { client: Arc::downgrade(client), mountpoint }
    }

    /// The answer to one line; none to a request that is answered at the end.
    fn answer(&self, line: &[u8]) -> Option<Answer> {
        let request = match Request::parse(line) {
            Ok(Request::Farewell) => return None,
            Ok(request) => request,
            Err(refusal) => return Some(Answer::refused(&refusal)),
        };
        let Some(client) = self.client.upgrade() else {
            return Some(refused("the client has ended".to_string()));
        };
        let answer = catch_unwind(AssertUnwindSafe(|| self.carry_out(&client, request)));
        let failed = |_| Err(Refusal::new("internal error; the log says more"));
        Some(answer.unwrap_or_else(failed).unwrap_or_else(|refusal| Answer::refused(&refusal)))
    }

    fn carry_out(&self, client: &Client, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status => {
                return Ok(Answer::told(client.status(&self.mountpoint)));
            }
            Request::Set(changes) => {
                let set =
                    client.set(|knobs| changes.iter().try_for_each(|(name, value)| knobs.set(name, value)));
                return Ok(Answer { knobs: Some(set?), ..Answer::done() });
            }
            Request::Hold => client.hold(),
            Request::Release => client.release_held(),
            Request::Flush => {
                return Ok(Answer { landed: Some(client.land_everything()?), ..Answer::done() });
            }
            Request::Expire => {
                client.expire()?;
            }
            Request::Lose => return Ok(Answer::dropped(client.lose())),
            Request::Advance(by) => {
                let advanced = client.advance(by)?;
                let next_due_ns = advanced.next_due.map(nanos);
                return Ok(Answer { landed: Some(advanced.landed), next_due_ns, ..Answer::done() });
            }
            Request::Farewell => {}
        }
        Ok(Answer::done())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::fd::OwnedFd, sync::mpsc};

    #[test]
    fn a_door_through_which_nobody_can_be_let_in_closes_all_the_same() {
        // accept(2) fails on one end of a pair, as it does on a listening socket when no descriptor is left.
        let (end, _other) = UnixStream::pair().unwrap();
        let listener = UnixListener::from(OwnedFd::from(end));
        let (closed, open) = pipe().unwrap();
        let steered = Steered { client: Weak::new(), mountpoint: PathBuf::new() };
        let connections = Arc::new(Connections::new(steered));
        let (gone, left) = mpsc::channel();
        thread::spawn(move || {
            connections.attend(&listener, &closed);
            gone.send(()).expect("the test listens");
        });
        drop(open);
        left.recv_timeout(Duration::from_secs(10)).expect("it closes");
    }
}
