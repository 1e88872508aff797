#!/usr/bin/env bash
# Nine things that go wrong on one kind of storage and on no other, each with its control: the same program where it does
# not. Takes about half a minute.
. "$(dirname "$0")/lib.sh"

# on PROFILE [FLAG...]: mounts two clients, a and b, that behave like it.
on() {
    local profile=$1
    shift
    mount_client a --profile "$profile" "$@"
    mount_client b --profile "$profile" "$@"
}

off() {
    umount_clients >/dev/null
    rm -rf "$work/shared"
}

in_view() { # VIEW COMMAND...
    local view=$1
    shift
    (cd "$work/$view" && "$@")
}

# Builds on host b, lets host a change the source, builds again: prints what the program says then.
rebuilt() {
    printf 'program: source\n\tcp source program\n' >"$work/a/Makefile"
    echo old >"$work/a/source"
    in_view b make -s program >/dev/null
    sleep 1.1 # make sees whole ticks of the clock
    in_view b ls -l >/dev/null
    echo new >"$work/a/source"
    in_view b make -s program >/dev/null
    cat "$work/b/program"
}

echo "A build that trusts stat: host a changes a source, host b runs make."
on nfs4
got=$(rebuilt)
off
check "on nfs4 make sees the old time and builds nothing" test "$got" = old
on posix
got=$(rebuilt)
off
check "on posix it builds" test "$got" = new

# Both hosts try to make the lock, b having looked before a made it: prints how many think they have it.
winners() {
    python3 - "$work/a/lock" "$work/b/lock" <<'PYTHON'
import os, sys
def take(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return 1
    except FileExistsError:
        return 0
assert not any(map(os.path.exists, sys.argv[1:]))
print(sum(map(take, sys.argv[1:])))
PYTHON
}

echo "A lock file made with O_EXCL on two hosts."
for setting in nfs4:1 eventual:2 gcsfuse:2; do
    on "${setting%:*}"
    got=$(winners)
    off
    check "on ${setting%:*} it has ${setting#*:} owner(s)" test "$got" = "${setting#*:}"
done

# A lock by hard link, as mail programs have it: prints the number of links that each host finds on its own file.
linked() {
    local host
    for host in a b; do
        echo "$host" >"$work/$host/mine.$host"
        ln "$work/$host/mine.$host" "$work/$host/lock" 2>/dev/null || true
        stat -c %h "$work/$host/mine.$host"
    done | tr '\n' ' '
}

echo "A lock made with link(2): who finds two links on its own file has it."
on nfs4
got=$(linked)
off
check "on nfs4 one host has it" test "$got" = "2 1 "
on eventual
test ! -e "$work/b/lock"
got=$(linked)
off
check "on eventual both do" test "$got" = "2 2 "

# Two hosts log into one file, each by a handler that stays open: prints how many of their 40 lines are there in the end.
logged() {
    python3 - "$work/a/log" "$work/b/log" <<'PYTHON'
import logging, sys
loggers = []
for number, path in enumerate(sys.argv[1:]):
    logger = logging.getLogger(str(number))
    logger.addHandler(logging.FileHandler(path))
    loggers.append(logger)
for line in range(20):
    for logger in loggers:
        logger.warning("line %d", line)
logging.shutdown()
PYTHON
    wc -l <"$work/shared/log"
}

echo "Two hosts log into one file with Python's logging."
on nfs4
got=$(logged)
off
check "on nfs4 lines are lost ($got of 40 are there)" test "$got" -lt 40
on posix
got=$(logged)
off
check "on posix none is" test "$got" = 40

# Removes a tree of which a file is open: prints why it cannot.
removed() {
    python3 - "$work/a/tree" <<'PYTHON'
import os, shutil, sys
tree = sys.argv[1]
os.mkdir(tree)
held = open(os.path.join(tree, "file"), "w")
try:
    shutil.rmtree(tree)
    print("removed")
except OSError as error:
    print(os.strerror(error.errno))
PYTHON
}

echo "shutil.rmtree of a tree with an open file."
on nfs3
got=$(removed)
off
check "on nfs3 it fails: $got" test "$got" = "Directory not empty" -o "$got" = "Device or resource busy"
on posix
got=$(removed)
off
check "on posix it does not" test "$got" = removed

# SQLite needs locks: prints what it says where they are refused.
stored() {
    python3 - "$work/a/base" <<'PYTHON'
import sqlite3, sys
try:
    base = sqlite3.connect(sys.argv[1], timeout=1)
    base.execute("create table t (x)")
    base.execute("insert into t values (1)")
    base.commit()
    print("stored")
except sqlite3.Error as error:
    print(error)
PYTHON
}

echo "SQLite where the server grants no locks."
on nfs-enolck
got=$(stored)
off
check "on nfs-enolck it fails: $got" test "$got" != stored
on nfs3
got=$(stored)
off
check "on nfs3 it does not" test "$got" = stored

# SQLite with a write-ahead log: two programs insert 20 rows each, in turn, and each is told that they are safe. Prints how many
# there are.
rows() { # VIEW VIEW
    python3 - "$work/$1/base" "$work/$2/base" <<'PYTHON'
import sqlite3, sys
one, other = (sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:])
one.execute('pragma journal_mode=wal').fetchone()
one.execute('create table rows (host text)')
other.execute('select * from rows').fetchall()
for _ in range(20):
    one.execute("insert into rows values ('one')")
    other.execute("insert into rows values ('other')")
one.close(), other.close()
print(sqlite3.connect(sys.argv[1]).execute('select count(*) from rows').fetchone()[0])
PYTHON
}

echo "SQLite with a write-ahead log, whose index is shared memory: two programs insert 20 rows each."
on nfs4
got=$(rows a b)
off
check "on two hosts of nfs4 acknowledged rows are lost, without an error: $got of 40 are there" test "$got" -lt 40
on nfs4
got=$(rows a a)
off
check "on one host they are all there" test "$got" = 40

# A file that does not fit, written by two programs. A limit on the backing file system needs root: a file system of 1 MiB.
quota() {
    mkdir -p "$work/shared"
    mount -t tmpfs -o size=1m small "$work/shared"
    on "$1"
    head -c 2M /dev/zero >"$work/big"
    cp "$work/big" "$work/a/copied" 2>/dev/null && copied=well || copied=failed
    rm -f "$work/a/copied"
    # bash takes what write(2) says, and hears nothing of close(2).
    (echo "$(tr '\0' x <"$work/big")" >"$work/a/echoed") 2>/dev/null && echoed=well || echoed=failed
    umount_clients >/dev/null 2>&1 || true
    umount "$work/shared"
}

if (($(id -u) == 0)) && mount -t tmpfs trial "$work" 2>/dev/null; then
    umount "$work"
    echo "A store that is full, which NFS says at close."
    quota nfs3
    check "on nfs3 cp reports it" test "$copied" = failed
    check "on nfs3 echo swallows it" test "$echoed" = well
    quota posix
    check "on posix both report it" test "$copied" = failed -a "$echoed" = failed
else
    echo "(A store that is full: this needs root and a file system to fill.)"
fi

finish
