//! What external suites found: a program prints on a client, whatever the knobs, what it prints on a plain directory.

use std::{fs, path::Path, process::Command};

use nix::unistd::geteuid;

use crate::sandbox::{Sandbox, as_root, as_root_among_users, run};

/// Every way in which a client serves its programs.
pub const KNOBS: [&[&str]; 5] = [
    &["--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "0"],
    // Nothing lands while the program runs.
    &["--write-delay", "10m", "--rename-delay", "10m"],
    &["--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "0", "--kernel-cache"],
    &["--write-delay", "0", "--rename-delay", "0", "--meta-ttl", "10m", "--kernel-cache"],
    &["--write-delay", "10m", "--rename-delay", "10m", "--meta-ttl", "10m", "--kernel-cache"],
];

#[track_caller]
fn printed(interpreter: &str, script: &str, folder: &Path) -> String {
    let mut command = Command::new(interpreter);
    let said = run(command.args(["-c", script]).current_dir(folder));
    assert_eq!(said.code, Some(0), "{folder:?}: {}", said.err);
    said.out
}

/// Runs the script on a plain directory and on clients, then `look` on what is left in the directories.
#[track_caller]
fn assert_alike(interpreter: &str, script: &str, look: &str) {
    let plain = Sandbox::new();
    let expected = printed(interpreter, script, &plain.path("shared"));
    let left = printed("sh", look, &plain.path("shared"));
    for knobs in KNOBS {
        let sandbox = Sandbox::for_mounting();
        let others = geteuid().is_root().then_some("--allow-other");
        let said = sandbox.mount("a", &[knobs, others.as_slice()].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(printed(interpreter, script, &sandbox.path("a")), expected, "{knobs:?}");
        let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
        assert_eq!(said.code, Some(0), "{}", said.out);
        assert_eq!(printed("sh", look, &sandbox.path("shared")), left, "what has landed, {knobs:?}");
    }
}

const CONTENTS: &str = "for f in $(find . -type f | sort); do echo $f; cksum < $f; done";

#[test]
fn access_control_lists_are_inherited_masked_and_dropped() {
    const SCRIPT: &str = "set -e; umask 027
        show() { for f in $(find . | sort); do [ -L $f ] || getfacl -n $f 2>&1; done; }
        mkdir d; setfacl -d -m u:1234:rwx,g:77:r-x,o::r d; setfacl -m u:1234:rwx d
        echo x > d/f; mkdir -p d/sub/deep; ln -s f d/l; mkfifo d/p; install -m 600 /dev/null d/strict; show
        chmod 640 d/f; chmod 2770 d/sub; setfacl -m u:55:rw d/strict; chmod 604 d/strict; show
        setfacl -b d/f; setfacl -k d/sub; setfacl -k d/f; setfacl -m g::rwx d/p; show
        cp -a d e; mv d/f d/g; cp -p d/strict d/copy; show";
    const LOOK: &str = "for f in $(find . | sort); do [ -L $f ] || getfacl -n $f; done";
    assert_alike("sh", SCRIPT, LOOK);
}

#[test]
fn an_access_control_list_lets_in_whom_it_names_before_it_has_landed() {
    if !as_root_among_users("likeness::an_access_control_list_lets_in_whom_it_names_before_it_has_landed") {
        return;
    }
    const SCRIPT: &str = "chmod 755 ..; chmod 755 .; mkdir d; chmod 700 d; setfacl -m u:1234:rwx d
        setfacl -d -m u:1234:rwx d; echo secret > d/f; chmod 660 d/f
        as() { setpriv --reuid=$1 --regid=$1 --clear-groups sh -c \"$2\" 2>/dev/null && echo yes || echo no; }
        as 1234 'cat d/f; echo more > d/new'; as 1235 'cat d/f'; cat d/new";
    assert_alike("sh", SCRIPT, "cat d/f d/new");
}

#[test]
fn data_and_holes_are_found_where_they_will_be() {
    const SCRIPT: &str = "import os
def show(f):
    size, at, found = os.fstat(f).st_size, 0, []
    while at < size:
        try: start = os.lseek(f, at, os.SEEK_DATA)
        except OSError: break
        at = os.lseek(f, start, os.SEEK_HOLE); found.append((start, at))
    for at in (0, 1, 5000, max(size - 1, 0), size, size + 5):
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            try: found.append(os.lseek(f, at, whence))
            except OSError as error: found.append(-error.errno)
    print(size, found)
f = os.open('f', os.O_RDWR | os.O_CREAT); show(f)
os.pwrite(f, b'x', 1 << 20); show(f)
os.pwrite(f, b'y' * 5000, 100); show(f)
os.ftruncate(f, 3 << 20); show(f)
os.pwrite(f, b'z' * 10000, (2 << 20) + 5); show(f)
os.ftruncate(f, 5001); show(f)
os.ftruncate(f, 1 << 20); show(f)
os.pwrite(f, b'q' * 10, 20000); show(f)
";
    assert_alike("python3", SCRIPT, CONTENTS);
}

#[test]
fn whether_a_write_appends_is_decided_when_it_is_made() {
    const SCRIPT: &str = "import fcntl, os
open('f', 'wb').write(b'0123456789')
for opened, other in ((os.O_APPEND, 0), (0, os.O_APPEND)):
    for access in (os.O_RDWR, os.O_WRONLY):
        f = os.open('f', access | opened)
        for flags in (other, opened):
            fcntl.fcntl(f, fcntl.F_SETFL, flags); os.lseek(f, 1, 0); os.write(f, b'X'); print(open('f').read())
        os.close(f)
f = os.open('f', os.O_RDWR); os.pwritev(f, [b'Y'], 1, os.RWF_APPEND); print(open('f').read())
";
    assert_alike("python3", SCRIPT, CONTENTS);
}

#[test]
fn a_working_directory_that_is_removed_is_an_empty_one() {
    const SCRIPT: &str = "import os
os.makedirs('listed/d'); here = os.getcwd()
def said(call):
    try: return call()
    except OSError as error: return error.errno
def removed(path):
    os.chdir(path); os.rmdir(os.path.join(here, path))
    print(said(os.getcwd), said(os.listdir), said(lambda: os.mkdir('x')), said(lambda: os.stat('.').st_mode > 0))
    os.chdir(here)
os.mkdir('made'); removed('made')
list(os.scandir('listed')); removed('listed/d')
";
    assert_alike("python3", SCRIPT, CONTENTS);
}

#[test]
fn extended_attributes_have_as_much_room_as_the_store_has() {
    const SCRIPT: &str = "import errno, os
open('f', 'w').close()
def said(name, value):
    try: os.setxattr('f', name, value)
    except OSError as error: return errno.errorcode[error.errno]
print(said('user.', b'x'), said('nonsense.x', b'x'), said('user.' + 'n' * 260, b'x'))
kept = [n for n in range(200) if said(f'user.k{n}', b'v' * 200) is None]
print(len(kept) if len(kept) < 200 else 'all', sorted(os.listxattr('f')) == sorted(f'user.k{n}' for n in kept))
";
    assert_alike("python3", SCRIPT, "getfattr -d f | sort");
}

#[test]
fn a_write_takes_capabilities_and_others_setid_bits_away() {
    if !as_root_among_users("likeness::a_write_takes_capabilities_and_others_setid_bits_away") {
        return;
    }
    const SCRIPT: &str = "import os, struct
def show(): print([oct(os.stat(f).st_mode) for f in 'abcd'], os.listxattr('a'))
for f in 'abcd': open(f, 'w').close(); os.chmod(f, 0o6777 if f in 'ab' else 0o2767)
os.setxattr('a', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0)); show()
for f in 'ac': open(f, 'a').write('x')
show()
os.chmod('.', 0o777); os.chmod('..', 0o755)
child = os.fork()
if not child:
    try: os.setgroups([]); os.setgid(1234); os.setuid(1234)
    except OSError: pass
    for f in 'bd': open(f, 'a').write('x')
    os._exit(0)
os.waitpid(child, 0); show()
";
    assert_alike("python3", SCRIPT, "stat -c '%a %s' a b c d; getfattr -m - a");
}

#[test]
fn a_chown_of_nobody_changes_the_inode() {
    const SCRIPT: &str = "import os, time
open('f', 'w').close(); before = os.stat('f').st_ctime_ns; time.sleep(0.02)
os.chown('f', -1, -1); print(os.stat('f').st_ctime_ns > before)
";
    assert_alike("python3", SCRIPT, CONTENTS);
}

#[test]
fn locks_hold_between_programs_and_whoever_waits_for_one_can_be_interrupted_and_killed() {
    // Whoever started the tests may ignore SIGINT, as a shell does for what it runs in the background.
    const SCRIPT: &str = "import fcntl, os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
open('f', 'w').write('x' * 100)
f = open('f', 'r+')
def program(work):
    told, tell = os.pipe(); child = os.fork()
    if not child:
        os.write(tell, b'.')
        try: work(open('f', 'r+')); os._exit(0)
        except KeyboardInterrupt: os._exit(7)
        except BlockingIOError: os._exit(8)
    os.read(told, 1); return child
def ended(child):
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)
for lock in (fcntl.lockf, fcntl.flock):
    lock(f, fcntl.LOCK_EX)
    print(ended(program(lambda g: lock(g, fcntl.LOCK_EX | fcntl.LOCK_NB))))
    waiting = program(lambda g: lock(g, fcntl.LOCK_EX)); time.sleep(0.2)
    f.seek(0); print(os.path.getsize('f'), f.read(3), len(os.listdir('.')))
    os.kill(waiting, signal.SIGKILL); print(ended(waiting))
    waiting = program(lambda g: lock(g, fcntl.LOCK_EX)); time.sleep(0.2)
    os.kill(waiting, signal.SIGINT); print(ended(waiting))
    waiting = program(lambda g: lock(g, fcntl.LOCK_EX)); time.sleep(0.2)
    lock(f, fcntl.LOCK_UN); print(ended(waiting))
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
print(ended(program(lambda g: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10))))
print(ended(program(lambda g: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 9))))
open('f').close()
print(ended(program(lambda g: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 9))))
";
    assert_alike("python3", SCRIPT, CONTENTS);
}

#[test]
fn names_are_any_bytes_and_paths_any_depth() {
    const SCRIPT: &str = "import os
for byte in set(range(1, 256)) - {ord('/')}:
    name = b'_' + bytes([byte]); open(name, 'wb').write(name)
print(sorted(os.listdir(b'.')), all(open(name, 'rb').read() == name for name in os.listdir(b'.')))
name, depth = 'd' * 120, 100
for _ in range(depth): os.mkdir(name); os.chdir(name)
open('deep', 'w').write('here'); print(open('deep').read(), os.stat('..').st_nlink)
for _ in range(depth): os.chdir('..')
print(len(os.listdir('.')))
f = os.open('sparse', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 1 << 40); os.pwrite(f, b'end', (1 << 40) - 3)
print(os.fstat(f).st_size, os.pread(f, 10, (1 << 40) - 5), os.fstat(f).st_blocks < 100)
for offset in (1 << 62, (1 << 63) - 1):
    try: print(os.pwrite(f, b'x', offset))
    except OSError as error: print(error.errno)
os.close(f); os.unlink('sparse')
";
    assert_alike("python3", SCRIPT, "ls -A | wc -l; find . -name deep | wc -c");
}

#[test]
fn positions_in_a_directory_stay_with_the_names() {
    const SCRIPT: &str = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = libc.rewinddir.argtypes = libc.readdir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
os.mkdir('d')
for n in range(500): open(f'd/{n}', 'w').close()
d = libc.opendir(b'd')
def name():
    entry = libc.readdir(d)
    return ctypes.string_at(entry + 19).decode() if entry else None
def rest():
    found = []
    while True:
        position, found_name = libc.telldir(d), name()
        if found_name is None: return found
        found.append((found_name, position))
def at(position):
    # A plain directory may have put a new name in front of an old one.
    libc.seekdir(d, position); found = name()
    while found and found not in dict(listed): found = name()
    return found
def misled(gone=()): return [n for n, position in listed[::7] if n not in gone and at(position) != n]
def again(): libc.rewinddir(d); return rest()
listed = rest(); print(len(listed), misled())
os.unlink('d/7'); at(listed[0][1]); print(misled({'7'}))
first = again(); print(len(first), misled({'7'}))
for n in range(500, 550): open(f'd/{n}', 'w').close()
os.mkdir('d/7'); os.rename('d/8', 'd/new'); os.unlink('d/9'); open('d/9', 'w').close()
at(listed[0][1]); print(misled({'7', '8', '9'}))
later = again(); print(len(later), misled({'7', '8', '9'}), sorted(n for n, _ in later) == sorted(['.', '..'] + os.listdir('d')))
listed = later; print(misled())
for n in range(20): again(); os.rename('d/new', f'd/new-{n}'); os.rename(f'd/new-{n}', 'd/new')
print(misled({'new'}), len(again()))
";
    assert_alike("python3", SCRIPT, "ls d | wc -l");
}

/// A program that prints what moves the times of an inode, and its ACLs.
const TIMES: &str = "import errno, os, struct, time
def acl(user, *entries):
    entries = [(1, user, -1), *entries, (4, 4, -1), (32, 4, -1)]
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in sorted(entries))
ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
full, minimal = acl(6, (2, 7, 1234), (16, 7, -1)), acl(6)
def moved(what, path, act, *args, **more):
    before = os.lstat(path); time.sleep(0.015)
    try: act(*args, **more); said = ''
    except OSError as error: said = errno.errorcode[error.errno]
    after = os.lstat(path)
    print(what, after.st_ctime_ns != before.st_ctime_ns, after.st_mtime_ns != before.st_mtime_ns, said)
def setting(what, path, name, value, flags=0): moved(what, path, os.setxattr, path, name, value, flags, follow_symlinks=False)
open('f', 'w').write('text'); os.mkdir('d'); os.link('f', 'g'); os.symlink('f', 'l'); open('e', 'w').close()
";

#[test]
fn what_changes_nothing_moves_the_times_that_the_store_moves() {
    // Others are not known: an overlay, say, does what the file system below it does.
    const KNOWN: [&str; 4] = ["ext2/ext3", "xfs", "btrfs", "tmpfs"];
    let kind = printed("sh", "stat -f -c %T .", &Sandbox::new().path("shared"));
    if !KNOWN.contains(&kind.trim()) {
        return;
    }
    const SCRIPT: &str = "
for name in ('user.a', 'trusted.a', 'security.a'):
    for path in ('f', 'd', 'l'):
        for value in (b'1', b'1', b'2', b'', b'', b'v' * 2000, b'v' * 2000): setting(f'{name} {len(value)}', path, name, value)
        setting('replace', path, name, b'v' * 2000, os.XATTR_REPLACE)
        setting('create', path, name, b'v' * 2000, os.XATTR_CREATE)
        moved('remove', path, os.removexattr, path, name, follow_symlinks=False)
        moved('again', path, os.removexattr, path, name, follow_symlinks=False)
moved('no acl', 'f', os.removexattr, 'f', ACCESS)
for value in (minimal, minimal, full, full, minimal, minimal): setting('acl', 'f', ACCESS, value)
for value in (minimal, full, full): setting('default', 'd', DEFAULT, value)
moved('remove default', 'd', os.removexattr, 'd', DEFAULT)
moved('again', 'd', os.removexattr, 'd', DEFAULT)
setting('default of a file', 'f', DEFAULT, full); moved('removed', 'f', os.removexattr, 'f', DEFAULT)
";
    assert_alike("python3", &[TIMES, SCRIPT].concat(), "getfattr -d f; getfacl f d");
}

#[test]
fn what_asks_for_what_there_is_moves_the_times_that_the_store_moves() {
    const SCRIPT: &str = "
moved('chmod', 'f', os.chmod, 'f', os.stat('f').st_mode & 0o7777)
moved('chown', 'f', os.chown, 'f', os.getuid(), os.getgid()); moved('chown of nobody', 'f', os.chown, 'f', -1, -1)
for path in ('f', '.'):
    moved('rename to itself', path, os.rename, 'f', 'f'); moved('rename to a link', path, os.rename, 'f', 'g')
moved('link', 'f', os.link, 'f', 'h'); print(os.stat('f').st_nlink)
moved('unlink', 'f', os.unlink, 'h'); print(os.stat('f').st_nlink, sorted(os.listdir()))
f = os.open('f', os.O_RDWR); times = os.stat('f')
moved('truncate', 'f', os.ftruncate, f, 4); moved('nothing', 'f', os.write, f, b''); moved('same', 'f', os.pwrite, f, b't', 0)
moved('times', 'f', os.utime, 'f', ns=(times.st_atime_ns, times.st_mtime_ns))
moved('open', 'e', os.open, 'e', os.O_CREAT | os.O_WRONLY); moved('empty', 'e', os.open, 'e', os.O_TRUNC | os.O_WRONLY)
moved('mkdir', '.', os.mkdir, 'd'); moved('rmdir', '.', os.rmdir, 'd')
";
    assert_alike("python3", &[TIMES, SCRIPT].concat(), CONTENTS);
}

#[test]
fn attributes_of_all_kinds_share_the_room_that_the_store_has() {
    const SCRIPT: &str = "
def users(count): return [(2, 7, 1000 + n) for n in range(count)] + [(16, 7, -1)]
def said(act, *args, **more):
    try: act(*args, **more); return 'done'
    except OSError as error: return errno.errorcode[error.errno]
def kept(path, names, value): return [said(os.setxattr, path, name, value, follow_symlinks=False) for name in names]
names = [f'{kind}.k{n}' for n in range(20) for kind in ('trusted', 'security', 'user')]
print(kept('f', names, b'v' * 200)); print(kept('l', names, b'v' * 200))
for count in (10, 450, 500):
    for path, name in (('e', ACCESS), ('d', DEFAULT)): print(count, said(os.setxattr, path, name, acl(6, *users(count))))
    print(count, said(os.mkdir, f'd/{count}'), said(open, f'd/file-{count}', 'w'))
print(said(os.setxattr, 'd', DEFAULT, acl(7, *users(300))), said(os.mkdir, 'd/both'), said(open, 'd/one', 'w'))
print(said(os.setxattr, 'd', ACCESS, acl(7, *users(300))), said(os.setxattr, 'd', 'user.more', b'v' * 1500))
print(sorted(os.listdir('d')))
";
    assert_alike("python3", &[TIMES, SCRIPT].concat(), "getfattr -d -m - f d | sort; getfacl -R d e | cksum");
}

#[test]
fn attributes_that_the_store_does_not_know_are_refused_before_their_file_has_landed() {
    if !as_root("likeness::attributes_that_the_store_does_not_know_are_refused_before_their_file_has_landed")
    {
        return;
    }
    const SCRIPT: &str = "
import subprocess
here = os.path.realpath('.')
def said(act, *args):
    try: act(*args); return 'done'
    except OSError as error: return errno.errorcode[error.errno]
for path, name in (('f', 'user.a'), ('f', 'trusted.a'), ('f', ACCESS), ('d', ACCESS), ('d', DEFAULT)):
    print(path, name, said(os.setxattr, path, name, full if 'acl' in name else b'1'), said(os.removexattr, path, name))
";
    let knobs = &["--write-delay", "10m", "--rename-delay", "10m"];
    let sandbox = Sandbox::for_mounting();
    let shared = sandbox.path("shared");
    let ramfs = || {
        nix::mount::mount(Some("ramfs"), &shared, Some("ramfs"), nix::mount::MsFlags::empty(), None::<&str>)
    };
    ramfs().expect("a file system without extended attributes");
    let expected = printed("python3", &[TIMES, SCRIPT].concat(), &shared);
    printed("sh", "rm -r *", &shared);
    assert_eq!(sandbox.mount("a", knobs).code, Some(0));
    assert_eq!(printed("python3", &[TIMES, SCRIPT].concat(), &sandbox.path("a")), expected);
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}

#[test]
fn one_link_too_many_is_refused_at_once() {
    // As many as ext4 takes, and one more than that on the client. Where the store takes more, so does the client.
    const SCRIPT: &str = "import os
for n in range(65000 - 3): os.link('f', f'd/{n}')
";
    const LAST: &str = "import errno, os
for n in range(5):
    try: os.link('f', f'more-{n}'); print(os.stat('f').st_nlink)
    except OSError as error: print(errno.errorcode[error.errno])
os.unlink('more-0'); os.link('f', 'again'); print(os.stat('f').st_nlink)
";
    let sandbox = Sandbox::for_mounting();
    let shared = sandbox.path("shared");
    fs::write(shared.join("f"), "").expect("a file");
    fs::create_dir(shared.join("d")).expect("a folder");
    printed("python3", SCRIPT, &shared);
    let expected = printed("python3", LAST, &shared);
    printed("sh", "rm more-* again", &shared);
    let said = sandbox.mount("a", &["--write-delay", "10m", "--rename-delay", "10m"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(printed("python3", LAST, &sandbox.path("a")), expected);
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}
