# Every change of a file by every kind of caller: what it answers, and which set-id bits and capabilities it leaves.
# Arguments: which callers, or "self" for whoever runs it, with files of its own and no capabilities.
import ctypes, errno, itertools, mmap, os, struct, sys

OWNER, GROUP = 1001, 77
CALLERS = {"root": (0, []), "owner": (OWNER, []), "member": (1002, [GROUP]), "stranger": (1003, [])}
FILES = ((0o6777, ""), (0o2767, ""), (0o6766, ""), (0o4777, "capable"), (0o6777, "with ACL"), (0o2777, "directory"))
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
NAMED = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry) for entry in ((1, 7, -1), (2, 7, 1234), (4, 7, -1), (16, 7, -1), (32, 7, -1)))
RWF_DSYNC, RWF_APPEND, KEEP_SIZE, PUNCH_HOLE = 2, 16, 1, 2
libc = ctypes.CDLL(None, use_errno=True)

def opened(flags, change):
    def call(path):
        fd = os.open(path, flags)
        try: change(fd)
        finally: os.close(fd)
    return call

def allocate(mode):
    def change(fd):
        if libc.fallocate(fd, mode, ctypes.c_long(1), ctypes.c_long(3)):
            raise OSError(ctypes.get_errno(), "fallocate")
    return opened(os.O_RDWR, change)

def map_and_write(fd):
    with mmap.mmap(fd, 8) as mapped:
        mapped[1:2] = b"m"
        mapped.flush()

CHANGES = {
    "write": opened(os.O_WRONLY, lambda fd: os.write(fd, b"w")),
    "write and read": opened(os.O_RDWR, lambda fd: (os.pread(fd, 9, 0), os.pwrite(fd, b"w", 3), os.pread(fd, 9, 0))),
    "append": opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"a")),
    "synced write": opened(os.O_RDWR, lambda fd: os.pwritev(fd, [b"s"], 0, RWF_DSYNC)),
    "appending write": opened(os.O_RDWR, lambda fd: os.pwritev(fd, [b"s"], 0, RWF_APPEND)),
    "empty write": opened(os.O_RDWR, lambda fd: os.write(fd, b"")),
    "open to write": opened(os.O_RDWR, lambda fd: None),
    "mapping": opened(os.O_RDWR, map_and_write),
    "cut by open": opened(os.O_RDWR | os.O_TRUNC, lambda fd: None),
    "cut": lambda path: os.truncate(path, 3),
    "cut open file": opened(os.O_RDWR, lambda fd: os.ftruncate(fd, 3)),
    "grow": lambda path: os.truncate(path, 30),
    "same size": lambda path: os.truncate(path, 8),
    "allocate": allocate(0),
    "allocate in it": allocate(KEEP_SIZE),
    "punch": allocate(KEEP_SIZE | PUNCH_HOLE),
    "copy": opened(os.O_RDWR, lambda fd: os.copy_file_range(SOURCE, fd, 3, 0, 0)),
    "chown of nobody": lambda path: os.chown(path, -1, -1),
    "chown of nobody while open": lambda path: (OPEN.append(os.open(path, os.O_RDONLY)), os.chown(path, -1, -1)),
    "chown to the same": lambda path: os.chown(path, OWNER, GROUP),
    "chown to the same owner": lambda path: os.chown(path, OWNER, -1),
    "chgrp to own group": lambda path: os.chown(path, -1, os.getegid()),
    "chown to root": lambda path: os.chown(path, 0, -1),
    "chmod": lambda path: os.chmod(path, 0o6755),
    "chmod to the same": lambda path: os.chmod(path, os.stat(path).st_mode & 0o7777),
    "touch": lambda path: os.utime(path),
    "set times": lambda path: os.utime(path, (5, 5)),
    "set attribute": lambda path: os.setxattr(path, "user.k", b"v"),
    "set ACL": lambda path: os.setxattr(path, "system.posix_acl_access", NAMED),
    "link": lambda path: os.link(path, path + ".link"),
}

def mode_alone(path):
    "What statx(2) says that is asked for nothing but the mode."
    buffer = ctypes.create_string_buffer(256)
    assert libc.statx(-100, path.encode(), 0, 2, buffer) == 0
    return struct.unpack_from("<H", buffer, 28)[0] & 0o7777

def become(user, groups):
    os.setresuid(0, 0, 0)
    os.setgroups(groups); os.setresgid(user, user, 0); os.setresuid(user, user, 0)

def outcome(call, path):
    try: call(path)
    except OSError as error: return errno.errorcode[error.errno]
    return "ok"

os.umask(0)
OPEN = []
allowed = sys.argv[1].split(",")
if len(allowed) > 1: os.chmod("..", 0o755)
os.mkdir("d", 0o777)
open("source", "w").write("source")
SOURCE = os.open("source", os.O_RDONLY)
cases = itertools.product(CHANGES, FILES, allowed)
for number, (change, (mode, kind), caller) in enumerate(cases):
    if kind == "capable" and caller == "self": continue
    # Mapped pages reach the store as a write, which takes capabilities away, and set-id bits if it is an ordinary user's.
    if change == "mapping" and (kind == "capable" or caller == "self"): continue
    path = f"d/{number}"
    if kind == "directory": os.mkdir(path)
    else: open(path, "w").write("01234567")
    if caller != "self": os.chown(path, OWNER, GROUP)
    if kind == "with ACL": os.setxattr(path, "system.posix_acl_access", NAMED)
    os.chmod(path, mode)
    if kind == "capable": os.setxattr(path, "security.capability", CAPABILITY)
    mode_alone(path)
    if caller != "self": become(*CALLERS[caller])
    said = outcome(CHANGES[change], path)
    if caller != "self": become(0, [])
    while OPEN: os.close(OPEN.pop())
    seen, now = mode_alone(path), os.stat(path)
    names = [name for name in sorted(os.listxattr(path)) if name != "user.k"]
    print(f"{change}, {mode:o} {kind}, {caller}:", said, f"{seen:o}",
          *([] if now.st_mode & 0o7777 == seen else [f"and {now.st_mode:o}"]),
          now.st_uid, now.st_gid, os.path.isfile(path) and now.st_size, *names)
