//! Locks that clients share.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, fcntl},
    sys::signal::{Signal, kill},
};

use crate::sandbox::{Foreground, Sandbox, awaited, eventually};

fn pair(more: &[&str]) -> Sandbox {
    let sandbox = Sandbox::for_mounting();
    for name in ["a", "b"] {
        let said = sandbox.mount(name, more);
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    sandbox
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("it opens")
}

fn try_flock(path: &Path) -> Result<Flock<File>, Errno> {
    Flock::lock(open(path), FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)
}

fn try_fcntl(file: &File, kind: i32, start: i64, length: i64) -> Result<(), Errno> {
    let lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLK(&lock)).map(drop)
}

#[test]
fn a_lock_excludes_other_clients_until_it_is_given_up_or_closed() {
    let sandbox = pair(&["--profile", "nfs3"]);
    let (a, b) = (sandbox.path("a/f"), sandbox.path("b/f"));
    let held = try_flock(&a).expect("nobody has it");
    assert_eq!(try_flock(&b).err(), Some(Errno::EAGAIN));
    assert_eq!(try_fcntl(&open(&b), libc::F_WRLCK, 0, 0), Err(Errno::EAGAIN), "they are of one kind");
    drop(held);
    let (of_a, of_b) = (open(&a), open(&b));
    assert_eq!(try_fcntl(&of_a, libc::F_WRLCK, 0, 100), Ok(()));
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 100, 100), Ok(()), "another part");
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 50, 10), Err(Errno::EAGAIN));
    assert_eq!(try_fcntl(&of_a, libc::F_UNLCK, 0, 100), Ok(()));
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 50, 10), Ok(()));
    drop(of_b);
    assert_eq!(try_fcntl(&of_a, libc::F_WRLCK, 0, 0), Ok(()), "closing has given all up");
}

#[test]
fn zero_knob_clients_share_the_locks_of_fcntl_and_others_share_none() {
    let sandbox = pair(&["--profile", "posix"]);
    let (of_a, of_b) = (open(&sandbox.path("a/f")), open(&sandbox.path("b/f")));
    assert_eq!(try_fcntl(&of_a, libc::F_WRLCK, 0, 0), Ok(()));
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 0, 0), Err(Errno::EAGAIN));
    assert_eq!(try_fcntl(&open(&sandbox.path("shared/f")), libc::F_WRLCK, 0, 0), Err(Errno::EAGAIN));
    let sandbox = pair(&[]);
    let (of_a, of_b) = (open(&sandbox.path("a/f")), open(&sandbox.path("b/f")));
    assert_eq!(try_fcntl(&of_a, libc::F_WRLCK, 0, 0), Ok(()));
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 0, 0), Ok(()), "each client keeps its own");
}

#[test]
fn storage_without_locks_or_with_rules_for_them_answers_as_it_does() {
    let sandbox = pair(&["--profile", "nfs-enolck"]);
    assert_eq!(try_flock(&sandbox.path("a/f")).err(), Some(Errno::ENOLCK));
    let sandbox = pair(&["--profile", "nfs4"]);
    fs::write(sandbox.path("a/f"), "text").expect("a file");
    let read_only = File::open(sandbox.path("a/f")).expect("it opens");
    let refused = Flock::lock(read_only, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error);
    assert_eq!(refused.err(), Some(Errno::EBADF));
    let sandbox = pair(&["--profile", "smb"]);
    let _held = try_flock(&sandbox.path("a/f")).expect("nobody has it");
    assert_eq!(try_flock(&sandbox.path("b/f")).err(), Some(Errno::EACCES));
}

#[test]
fn taking_a_lock_shows_what_was_written_under_it() {
    use std::os::unix::fs::FileExt;
    let sandbox = pair(&["--profile", "nfs4"]);
    let of_a = open(&sandbox.path("a/f"));
    of_a.write_all_at(b"1", 0).expect("it can be written");
    of_a.sync_all().expect("it is published");
    let of_b = open(&sandbox.path("b/f"));
    let read = || {
        let mut byte = [0];
        of_b.read_at(&mut byte, 0).expect("it can be read");
        byte[0]
    };
    assert_eq!(read(), b'1');
    assert_eq!(try_fcntl(&of_a, libc::F_WRLCK, 0, 0), Ok(()));
    of_a.write_all_at(b"2", 0).expect("it can be written");
    assert_eq!(read(), b'1');
    assert_eq!(try_fcntl(&of_a, libc::F_UNLCK, 0, 0), Ok(()));
    assert_eq!(read(), b'1', "it is in the store, but nobody has asked");
    assert_eq!(try_fcntl(&of_b, libc::F_WRLCK, 0, 0), Ok(()));
    assert_eq!(read(), b'2');
}

#[test]
fn a_hundred_who_wait_for_a_lock_leave_others_alone_and_get_it_one_after_the_other() {
    const WAITERS: usize = 100;
    let sandbox = pair(&["--profile", "nfs3"]);
    let (a, b) = (sandbox.path("a/f"), sandbox.path("b/f"));
    let held = try_flock(&a).expect("nobody has it");
    let (inside, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..WAITERS {
            scope.spawn(|| {
                let lock = Flock::lock(open(&b), FlockArg::LockExclusive).map_err(|(_, error)| error);
                let lock = lock.expect("it is had in the end");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "nobody else is inside");
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(lock);
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        awaited("all wait", || {
            let waiting = fs::read_dir("/proc/self/task").expect("threads").count();
            (waiting > WAITERS).then_some(())
        });
        fs::write(sandbox.path("b/other"), "text").expect("others are served");
        assert_eq!(fs::read_to_string(sandbox.path("b/other")).expect("others are served"), "text");
        assert_eq!(done.load(Ordering::SeqCst), 0);
        drop(held);
    });
    assert_eq!(done.load(Ordering::SeqCst), WAITERS);
}

#[test]
fn who_waits_for_a_lock_can_be_interrupted_and_killed_and_stops_no_unmount() {
    let sandbox = pair(&["--profile", "nfs4"]);
    let _held = try_flock(&sandbox.path("a/f")).expect("nobody has it");
    let waits = |number: usize| {
        let mut command = Command::new("flock");
        command.arg(sandbox.path("b/f")).arg("true");
        let waiting = Foreground::start(&mut command);
        let status = format!("/proc/{}/syscall", waiting.pid());
        let lock_call = format!("{} ", libc::SYS_flock);
        awaited(&format!("waiter {number}"), || {
            fs::read_to_string(&status).ok().filter(|call| call.starts_with(&lock_call))
        });
        waiting
    };
    for (number, signal) in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL].into_iter().enumerate() {
        let waiting = waits(number);
        waiting.signal(signal);
        assert_eq!(waiting.wait().code, None, "{signal} has ended it");
    }
    let waiting = waits(9);
    kill(sandbox.daemon("b"), Signal::SIGTERM).expect("it runs");
    assert_ne!(waiting.wait().code, Some(0), "the client has left without it");
}

#[test]
fn a_client_that_is_killed_gives_up_its_locks() {
    let sandbox = pair(&["--profile", "nfs3"]);
    let held = try_flock(&sandbox.path("a/f")).expect("nobody has it");
    assert!(try_flock(&sandbox.path("b/f")).is_err());
    sandbox.kill_daemon("a");
    let _ = eventually("the lock", || try_flock(&sandbox.path("b/f")).map(drop), Result::is_ok);
    // It cannot be given up through a client that is gone.
    std::mem::forget(held);
}
