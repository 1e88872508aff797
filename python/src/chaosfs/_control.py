"""The control socket of a client, found by its mountpoint. What is spoken there: docs/control.md in the repository."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional, TypedDict, cast

from ._arguments import StrPath
from ._errors import ChaosfsError, from_binary

#: How long a client may take to accept a connection, to take a request, and to answer one, in seconds.
PATIENCE = 5.0

#: The longest answer, its newline included.
LONGEST_ANSWER = 4 << 20

#: What is answered only when changes have landed, which may take long although nothing is wrong.
_LASTING = ("release", "flush", "lose", "advance")


class InFlight(TypedDict):
    """The changes of a client that have not landed yet."""

    mutations: int
    #: How many bytes of data they carry.
    bytes: int
    #: How many bytes of memory they take, about: what ``max_in_flight`` limits.
    memory: int
    #: How long until the next is due; ``None`` if nothing is in flight.
    next_due_ns: Optional[int]
    #: How many were tried in vain.
    delayed: int


class Status(TypedDict):
    """What a client tells about itself."""

    client: str
    mountpoint: str
    #: Empty for another user's client, whose word for it is not taken.
    backing: str
    pid: int
    version: str
    seed: int
    #: All in force, by name.
    knobs: dict[str, Any]
    clock: str
    #: Whether the kernel keeps answers and serves files itself.
    kernel_cache: bool
    #: By that clock.
    uptime_ms: int
    held: bool
    operations: dict[str, int]
    faults: int
    in_flight: InFlight
    landed: int
    conflicts: int
    #: How many changes ``lose`` has dropped.
    dropped: int
    #: How many changes could not land and never will.
    lost: int
    #: The last hundred of those.
    lost_latest: list[str]
    known_inodes: int
    descriptors: int
    #: How many files that are open the kernel serves itself.
    lent: int
    #: How many bytes all that the client believes takes, about.
    belief_bytes: int
    #: How many beliefs went before their time, for ``max_belief``.
    beliefs_evicted: int


class Mount(NamedTuple):
    """A line of the mount table."""

    device: str
    path: str
    client_id: str
    owner: int


def mount_at(path: str | os.PathLike[str]) -> Mount | None:
    """The client that is mounted on this very path; none if nothing is, or something else. The client itself is asked
    nothing, so that whoever steers it changes neither what it believes nor its draws."""
    absolute = os.path.abspath(path)
    folder, name = os.path.split(absolute)
    return _mount_at(absolute) or _mount_at(os.path.join(os.path.realpath(folder), name))


def found_again(mount: Mount) -> Mount | None:
    """The same client, wherever it is mounted by now; or another one of the same name and user that has got its device
    number meanwhile."""
    same = [other for other, fs_type in _mounts() if fs_type == _FS_TYPE and other._replace(path=mount.path) == mount]
    return mount if mount in same else next(iter(same), None)


_FS_TYPE = "fuse.chaosfs"


def _mount_at(wanted: str) -> Mount | None:
    found = None
    for mount, fs_type in _mounts():
        if mount.path == wanted:
            # The last line of a path is what is seen there.
            found = mount if fs_type == _FS_TYPE else None
    return found


def _mounts() -> Iterator[tuple[Mount, str]]:
    # Only the newline ends a line there: str.splitlines() would also do so at what others may call their folders.
    for line in Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape").split("\n"):
        before, _, after = line.partition(" - ")
        fields, (fs_type, source, options) = before.split(" "), [*after.split(" ", 2), "", ""][:3]
        if len(fields) > 4:
            owner = re.search(r"\buser_id=(\d+)", options)
            yield Mount(fields[2], _unescaped(fields[4]), _unescaped(source), int(owner[1]) if owner else 0), fs_type


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _folders(user: int) -> Iterator[Path]:
    """Where a daemon of this user may listen, best first."""
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and user == os.geteuid():
        yield Path(session, "chaosfs")
    yield Path("/run/chaosfs" if user == 0 else f"/run/user/{user}/chaosfs")
    yield Path(f"/tmp/chaosfs-{user}")
    # Names that were made up where somebody else had taken that one.
    yield from sorted(Path("/tmp").glob(f"chaosfs-{user}.*"))


def _connect(mount: Mount) -> socket.socket | None:
    for folder in _folders(mount.owner):
        with suppress(OSError), ExitStack() as opened:
            return _dial(folder, f"{mount.device.replace(':', '-')}.control", mount.owner, opened)
    return None


def _dial(folder: Path, name: str, user: int, opened: ExitStack) -> socket.socket:
    """Connects to a socket in a folder that only this user can enter, if whoever listens there is the user, too. Both are
    opened once and not followed: a symlink, or a socket that was moved there, leads to somebody else."""
    inside = _held(folder, os.O_DIRECTORY, None, opened)
    facts = os.fstat(inside)
    if facts.st_uid != user or facts.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder that only user {user} can enter")
    end = _held(name, 0, inside, opened)
    facts = os.fstat(end)
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != user:
        raise PermissionError(f"{folder / name} is not a socket of user {user}")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(f"/proc/self/fd/{end}")
        if _peer(connection)[1] != user:
            raise PermissionError(f"{folder / name} is not served by user {user}")
    except BaseException:
        connection.close()
        raise
    return connection


def _held(path: StrPath, flags: int, inside: int | None, opened: ExitStack) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=inside)
    opened.callback(os.close, descriptor)
    return descriptor


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end (``unix(7)``)."""
    credentials = struct.Struct("3i")
    pid, uid, _ = credentials.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
    return pid, uid


_NO_ANSWER = "its daemon does not answer as a client does"


class Control:
    """A connection to the client at a mountpoint. Raises ``ChaosfsError`` where there is none that answers."""

    def __init__(self, mountpoint: str | os.PathLike[str], mount: Mount | None = None) -> None:
        self.mountpoint = os.fspath(mountpoint)
        found = mount or mount_at(mountpoint)
        if found is None:
            raise self._error("no chaosfs client is mounted here")
        self.mount = found
        connection = _connect(found)
        if connection is None:
            raise self._error("its daemon does not answer; it has died, or is somebody else's")
        self._connection = connection
        self._heard = bytearray()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Sends one request and returns the answer to it."""
        self.send(do, **arguments)
        answer = self.hear(lasting=do in _LASTING)
        if answer is None or "farewell" in answer:
            raise self._error("its daemon exited before it answered")
        if not answer["ok"]:
            raise from_binary(f"{self.mountpoint}: {answer.get('error')}")
        return answer

    def send(self, do: str, **arguments: object) -> None:
        """Sends one request."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")

    def hear(self, *, lasting: bool = True) -> dict[str, Any] | None:
        """The next answer; none when the other side has hung up. One that may take long is waited for as long as the
        client answers somebody else."""
        while True:
            try:
                line = self._line(time.monotonic() + PATIENCE)
            except socket.timeout:
                if lasting and self._is_awake():
                    continue
                raise self._error("its daemon does not answer") from None
            return self._read(line) if line else None

    def _line(self, end: float) -> bytes:
        """The next line, if all of it comes in time; an empty one when the other side has hung up."""
        while b"\n" not in self._heard:
            if len(self._heard) > LONGEST_ANSWER:
                raise self._error(_NO_ANSWER)
            try:
                self._connection.settimeout(max(end - time.monotonic(), 0.001))
                more = self._connection.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            self._heard += more
            if b"\n" not in more and time.monotonic() > end:
                raise socket.timeout
        line, _, self._heard = self._heard.partition(b"\n")
        return bytes(line)

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise self._error(_NO_ANSWER)
        return cast("dict[str, Any]", answer)

    def _is_awake(self) -> bool:
        with suppress(ChaosfsError, OSError), Control(self.mountpoint, self.mount) as other:
            other.send("status")
            return other.hear(lasting=False) is not None
        return False

    @property
    def pid(self) -> int:
        """The process that listens; 0 if it cannot be seen from here."""
        return _peer(self._connection)[0]

    def status(self) -> Status:
        """What the client tells about itself. Another user's is not believed where it says who and where it is: that is
        taken from the mount table, and the backing directory stays empty."""
        status = self.ask("status").get("status")
        if not isinstance(status, dict):
            raise self._error(_NO_ANSWER)
        if self.mount.owner != os.geteuid():
            here = {"client": self.mount.client_id, "mountpoint": self.mount.path, "backing": "", "pid": self.pid}
            status = {**status, **here}
        return cast(Status, status)

    def _error(self, reason: str) -> ChaosfsError:
        return ChaosfsError(f"{self.mountpoint}: {reason}")


def advance_together(mountpoints: list[str], by_ns: int) -> int:
    """Moves the clocks of these clients together, from one due time to the next across them; how many changes landed."""
    controls: list[Control] = []
    try:
        for mountpoint in dict.fromkeys(mountpoints):
            controls.append(Control(mountpoint))
        controls.sort(key=lambda control: (control.mount.client_id, control.mountpoint))
        landed, next_due = _step(controls, 0)
        while by_ns > 0:
            # Whoever has something due now could not land it; the next step tries again.
            step = min(next_due or by_ns, by_ns)
            by_ns -= step
            more, next_due = _step(controls, step)
            landed += more
        return landed
    finally:
        for control in controls:
            control.__exit__()


def _step(controls: list[Control], by_ns: int) -> tuple[int, int | None]:
    answers = [control.ask("advance", by_ns=by_ns) for control in controls]
    dues = [answer["next_due_ns"] for answer in answers if answer.get("next_due_ns") is not None]
    return sum(answer["landed"] for answer in answers), min(dues, default=None)
