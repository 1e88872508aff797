# What is made with any mode, under any umask, in a directory with any default ACL. Arguments: a seed, and whether other users make some of it.
import itertools, os, random, socket, stat, struct, sys

draw, others = random.Random(int(sys.argv[1])), sys.argv[2:] == ["others"]
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
MODES = (0o600, 0o640, 0o644, 0o666, 0o700, 0o711, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0)
UMASKS = (0, 0o002, 0o022, 0o027, 0o077, 0o133, 0o777)

def drawn_acl():
    "None, or a default ACL: without named entries, or with some and a mask."
    if draw.random() < .2: return None
    bits = lambda: draw.choice((0, 0, 1, 2, 4, 5, 6, 7, 7))
    entries = [(USER_OBJ, bits(), -1)]
    named = draw.random() < .5
    if named: entries.append((USER, bits(), 1234))
    entries.append((GROUP_OBJ, bits(), -1))
    if named and draw.random() < .5: entries.append((GROUP, bits(), 77))
    if named or draw.random() < .3: entries.append((MASK, bits(), -1))
    entries.append((OTHER, bits(), -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)

def become(user, groups):
    os.setresuid(0, 0, 0)
    os.setgroups(groups); os.setresgid(user, user, 0); os.setresuid(user, user, 0)

def make_file(path, mode): os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))
def open_or_make(path, mode): os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, mode))
def make_node(path, mode): os.mknod(path, mode | stat.S_IFREG)
def make_nameless(path, mode): os.symlink("target", path)
def make_socket(path, mode): socket.socket(socket.AF_UNIX).bind(path)
KINDS = (make_file, open_or_make, make_node, os.mkdir, os.mkfifo, make_socket, make_nameless)

def show(path):
    found = os.lstat(path)
    acls = {name: os.getxattr(path, name, follow_symlinks=False).hex()
            for name in sorted(os.listxattr(path, follow_symlinks=False)) if name.startswith("system.posix_acl")}
    return f"{found.st_mode:o} {found.st_uid} {found.st_gid} {acls or ''}"

if others: os.chmod("..", 0o755); os.chmod(".", 0o755)
for number in range(60):
    directory, acl = f"d{number}", drawn_acl()
    os.umask(0)
    os.mkdir(directory, 0o777)
    if draw.random() < .2: os.chown(directory, -1, 77); os.chmod(directory, 0o2777)
    if acl: os.setxattr(directory, "system.posix_acl_default", acl)
    for inside in range(6):
        mode, umask, make, path = draw.choice(MODES), draw.choice(UMASKS), draw.choice(KINDS), f"{directory}/{inside}"
        os.umask(umask)
        if others: become(*draw.choice(((0, []), (1001, []), (1002, [77]))))
        make(path, mode)
        if others: become(0, [])
        print(f"{make.__name__} {mode:o} umask {umask:o} acl {acl and acl.hex()}:", show(path))
    os.umask(0o022)
