//! What root's commands do with another user's mount, whatever that user's processes say and however they change paths
//! meanwhile. These tests need a second user, so they are root's.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use nix::unistd::geteuid;

use crate::sandbox::{Sandbox, run};

/// Root's side: `chaosfs(...)` in the sandbox. The user's side: `as_nobody(call)` calls in a process of `nobody`'s, which
/// ends when the function returns; `theirs` is a mount of that user's, `fake(answer)` listens in place of its daemon.
const PRELUDE: &str = r#"
import contextlib, json, os, signal, socket, stat, subprocess, sys, time
BINARY, FOLDER, NOBODY = sys.argv[1], os.path.realpath("."), 65534

def chaosfs(*words, **more):
    return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60, **more)

def until(condition):
    for _ in range(3000):
        if condition(): return
        time.sleep(0.01)
    sys.exit("it is never so")

def as_nobody(call, *arguments):
    child = os.fork()
    if child:
        return child
    try:
        os.setgroups([]); os.setgid(NOBODY); os.setuid(NOBODY); os.umask(0o022)
        os.environ.pop("XDG_RUNTIME_DIR", None)
        call(*arguments)
    finally:
        os._exit(0)

def done(child):
    os.waitpid(child, 0)

def mounts():
    return [line.split() for line in open("/proc/self/mountinfo")]

def mount_theirs(*more):
    subprocess.check_call([BINARY, "mount", "back", "d/m", "--client-id", "theirs", "--background", "--log-file",
                           "log", *more])

def control():
    device = [fields[2] for fields in mounts() if fields[4] == FOLDER + "/theirs/d/m"][0].replace(":", "-")
    return f"/tmp/chaosfs-{NOBODY}/{device}.control"

def listen(path, backlog=20):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)
    return listener

def answer(listener, status):
    while True:
        with contextlib.suppress(OSError):
            connection = listener.accept()[0]
            for line in connection.makefile():
                told = {"ok": True, "status": status} if "status" in line else {"ok": True}
                connection.sendall(json.dumps(told).encode() + b"\n")

STATUS = {"client": "root's", "mountpoint": "/root", "backing": FOLDER + "/tools", "pid": 1, "version": "9", "seed": 1,
    "knobs": {}, "clock": "real", "uptime_ms": 1, "held": False, "operations": {}, "faults": 0, "in_flight":
    {"mutations": 0, "bytes": 0, "next_due_ns": None, "delayed": 0}, "landed": 0, "conflicts": 0, "dropped": 0,
    "lost": 0, "lost_latest": [], "known_inodes": 1, "descriptors": 1, "lent": 0}

os.mkdir("theirs"); os.chown("theirs", NOBODY, NOBODY)
def begin(*more):
    os.chdir("theirs"); os.makedirs("d/m"); os.mkdir("back"); mount_theirs(*more)
"#;

/// Runs a script of root's in a mount namespace of its own with a `/dev/fuse` and a `user_allow_other` for everybody; what
/// it prints. It begins with a mount `theirs/d/m` of another user's.
pub fn with_theirs(more: &str, script: &str) -> Option<String> {
    // On a tmpfs: a device in the test's folder does not open where /tmp is mounted `nodev`.
    const IN_NAMESPACE: &str = "mount -t tmpfs tmpfs device && mknod -m 666 device/fuse c 10 229 && \
         mount --bind device/fuse /dev/fuse && echo user_allow_other > device/fuse.conf && \
         mount --bind device/fuse.conf /etc/fuse.conf && exec python3 script.py \"$1\"";
    if !geteuid().is_root() {
        return None;
    }
    let sandbox = Sandbox::for_ordinary_users();
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).expect("own folder");
    fs::write(sandbox.path("script.py"), format!("{PRELUDE}\ndone(as_nobody(begin{more}))\n{script}"))
        .unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", IN_NAMESPACE, "sh"]);
    let said = run(command.arg(sandbox.binary()).current_dir(sandbox.path("")).env_remove("XDG_RUNTIME_DIR"));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
    Some(sandbox.neutral(&said.out))
}

#[test]
fn unmounting_takes_no_other_mount_than_the_one_that_was_named() {
    // While root waits to be connected, a folder above the mountpoint becomes a symlink to other folders.
    let script = r#"
os.makedirs("other/m")
subprocess.check_call(["mount", "-t", "tmpfs", "other", "other/m"])
path = control()
def swap():
    os.rename(path, path + ".real")
    listener, waiting = listen(path, 0), []
    for _ in range(3):
        waiting.append(socket.socket(socket.AF_UNIX)); waiting[-1].setblocking(False)
        if waiting[-1].connect_ex(path): break
    open("theirs/ready", "w").close()
    until(lambda: os.path.exists("theirs/waits"))
    os.rename("theirs/d", "theirs/away"); os.symlink(FOLDER + "/other", "theirs/d")
    for _ in range(20):
        listener.accept()[0].close(); time.sleep(0.05)
user = as_nobody(swap)
until(lambda: os.path.exists("theirs/ready"))
root = subprocess.Popen([BINARY, "umount", "-m", "theirs/d/m"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
sockets = lambda: [fd for fd in os.listdir(f"/proc/{root.pid}/fd") if "socket" in os.readlink(f"/proc/{root.pid}/fd/{fd}")]
until(sockets); time.sleep(0.2); os.close(os.open("theirs/waits", os.O_CREAT, 0o644))
root.wait(); os.kill(user, signal.SIGKILL); done(user)
print(sorted(fields[4] for fields in mounts() if "/other" in fields[4] or "/theirs" in fields[4]))
"#;
    let Some(said) = with_theirs("", script) else { return };
    assert_eq!(said, "['DIR/other/m']\n");
}

#[test]
fn a_mount_that_lies_on_another_one_is_taken_alone() {
    // chaosfs itself does not mount there; the helper does, on a directory of the user's own.
    let script = r#"
os.makedirs("theirs/e"); subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=777", "below", "theirs/e"])
os.chown("theirs/e", NOBODY, NOBODY)
def cover():
    ours, helpers = socket.socketpair()
    subprocess.check_call(["fusermount3", "-o", "fsname=cover,subtype=chaosfs", "--", "theirs/e"], stdin=helpers,
                          env={**os.environ, "_FUSE_COMMFD": "0"})
    while True: time.sleep(1)
user = as_nobody(cover)
sources = lambda: [fields[-2] for fields in mounts() if fields[4].endswith("/theirs/e")]
until(lambda: sources() == ["below", "cover"])
chaosfs("umount", "-m", "theirs/e"); print(sources())
os.kill(user, signal.SIGKILL); done(user)
chaosfs("umount", "theirs/d/m")
"#;
    let Some(said) = with_theirs("", script) else { return };
    assert_eq!(said, "['below']\n");
}

#[test]
fn nobodys_word_is_taken_for_who_and_where_another_users_client_is() {
    let script = r#"
os.mkdir("tools"); open("tools/tool", "w").write("echo genuine")
done(as_nobody(lambda: open("theirs/d/m/tool", "w").write("echo theirs")))
path = control()
os.rename(path, path + ".real")
user = as_nobody(lambda: answer(listen(path), STATUS))
until(lambda: os.path.exists(path))
said = chaosfs("exec", "theirs/d/m", "--", "sh", FOLDER + "/tools/tool")
print(said.returncode, said.stdout + said.stderr.strip())
print(chaosfs("exec", "theirs/d/m", "--at", "tools", "--", "sh", "tools/tool").stdout.strip())
told = json.loads(chaosfs("status", "--json", "theirs/d/m").stdout)
print(told["client"], told["mountpoint"], told["backing"], told["pid"] == user)
print("unknown" in chaosfs("status", "theirs/d/m").stdout)
os.kill(user, signal.SIGKILL); done(user); os.rename(path + ".real", path)
"#;
    let Some(said) = with_theirs(", '--allow-other'", script) else { return };
    let refusal = "125 chaosfs: theirs/d/m: it belongs to user 65534, whose word for its backing directory is not taken; \
                   name a directory with `--at`";
    assert_eq!(said, format!("{refusal}\ntheirs\ntheirs DIR/theirs/d/m None True\nTrue\n"));
}

#[test]
fn a_socket_of_somebody_else_is_not_spoken_to() {
    let script = r#"
os.mkdir("b2"); os.mkdir("ours")
print(chaosfs("mount", "b2", "ours", "--client-id", "ours", "--background", "--log-file", "log-ours").stderr, end="")
device = [fields[2] for fields in mounts() if fields[4] == FOLDER + "/ours"][0].replace(":", "-")
ours = [p for p in (f"/run/chaosfs/{device}.control", f"/tmp/chaosfs-0/{device}.control") if os.path.exists(p)][0]
chaosfs("hold", "ours"); open("ours/file", "w").write("precious")
path = control()
os.rename(path, path + ".real")
def refused():
    os.lchown(path, NOBODY, NOBODY)
    said = chaosfs("lose", "theirs/d/m"); print(said.returncode, said.stdout + said.stderr.strip())
    os.unlink(path)
os.symlink(ours, path); refused()
listener = listen(path); refused()
print(chaosfs("flush", "ours").stdout.strip(), open("b2/file").read())
os.rename(path + ".real", path)
print(chaosfs("umount", "ours", "theirs/d/m").stdout, end="")
"#;
    let Some(said) = with_theirs("", script) else { return };
    let refused = "1 chaosfs: theirs/d/m: its control socket is gone; it can only be unmounted\n";
    let rest = "ours: 2 landed precious\nours: unmounted, 2 landed\ntheirs/d/m: unmounted, 0 landed\n";
    assert_eq!(said, format!("{refused}{refused}{rest}"));
}
