"""The binary that came with this package, and the processes that it becomes: one for each client."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ._control import Control, Mount, found_again, mount_at
from ._errors import ChaosfsError, from_binary


def binary() -> str:
    """The path of the binary: what the variable ``CHAOSFS`` names, else the one installed with this package."""
    named = os.environ.get("CHAOSFS")
    if named:
        return named
    for folder in _folders():
        candidate = os.path.join(folder, "chaosfs")
        if _is_binary(candidate):
            return candidate
    found = shutil.which("chaosfs")
    if found is None or not _is_binary(found):
        raise ChaosfsError(
            "the binary `chaosfs` is missing, or the package `chaosfs` has put its own command there: uninstall both, "
            "install chaosfs-fuse again, or name the binary in CHAOSFS"
        )
    return found


def _is_binary(path: str) -> bool:
    """Whether it can be executed and is no script: the command of chaosfs 0.3.0 is one, by the same name."""
    if not os.access(path, os.X_OK):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(2) != b"#!"
    except OSError:
        return os.path.isfile(path)


def _folders() -> Iterator[str]:
    yield sysconfig.get_path("scripts")
    yield sysconfig.get_path("scripts", "posix_user")
    # `pip install --target`
    yield str(Path(__file__).parent.parent / "bin")


class Server:
    """The process that serves one client, from the command to mount to the proof that it is gone.

    It ends with the interpreter that started it, however that one ends. A forked child has no say in it.
    """

    def __init__(self, backing: Path, mountpoint: Path, flags: Iterable[str]) -> None:
        """Begins to mount. To be followed by ``serve`` or ``end``."""
        self.mountpoint = mountpoint
        self._owner = os.getpid()
        command = [binary(), "mount", "--background", f"--until-exit={self._owner}", *flags, "--"]
        command += [os.fspath(backing), os.fspath(mountpoint)]
        self._command: subprocess.Popen[bytes] | None = _begun(command)
        self._mount: Mount | None = None
        self._pid = 0
        _running[self] = None

    def serve(self) -> None:
        """Returns when the mount serves. Raises ``ChaosfsError`` if it never will."""
        assert self._command is not None
        complaint = self._command.communicate()[1].decode(errors="replace")
        code, self._command = self._command.returncode, None
        if code != 0:
            raise from_binary(_one_line(complaint) or f"`chaosfs mount` ended with status {code}")
        self._mount = mount_at(self.mountpoint)
        with suppress(ChaosfsError), Control(self.mountpoint, self._mount) as control:
            self._pid = control.pid

    @property
    def serves(self) -> bool:
        """Whether it has been seen to serve."""
        return self._mount is not None

    def end(self) -> None:
        """Unmounts whatever it takes, and returns when all has landed and the process is gone. What could not land is in
        the ``ChaosfsError``."""
        if os.getpid() != self._owner or self not in _running:
            return
        del _running[self]
        if self._command is not None:
            with suppress(ChaosfsError):
                self.serve()
        mount = found_again(self._mount) if self._mount else None
        if mount is None:
            return
        try:
            control = Control(self.mountpoint, mount)
        except ChaosfsError:
            return self._clear() if mount == self._mount else None
        with control:
            # Once a mount is gone, another one may get its device number.
            if self._pid not in (0, control.pid):
                return
            control.send("farewell")
            with suppress(ProcessLookupError):
                os.kill(control.pid or control.status()["pid"], signal.SIGTERM)
            lost: list[str] = []
            while (answer := control.hear()) is not None:
                lost += answer.get("farewell", {}).get("lost", [])
        if lost:
            raise ChaosfsError(f"{self.mountpoint}: could not land: {'; '.join(lost)}")

    def _clear(self) -> None:
        """Takes the mount away that a killed process has left behind."""
        command = [binary(), "umount", "--mount", os.fspath(self.mountpoint)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ChaosfsError(_one_line(done.stderr + done.stdout))


def _begun(command: list[str]) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)
    except OSError as error:
        raise ChaosfsError(f"{command[0]}: {error.strerror}") from error


def _one_line(complaint: str) -> str:
    lines = [line.removeprefix("chaosfs: ") for line in complaint.split("\n") if line.strip()]
    lines = [line for line in lines if not line.startswith("warning: ")]
    return lines[0].removeprefix("error: ") if lines else ""


#: The servers of this process, oldest first.
_running: dict[Server, None] = {}


@atexit.register
def _end_all() -> None:
    for server in reversed(list(_running)):
        try:
            server.end()
        except ChaosfsError as error:
            print(f"chaosfs: {error}", file=sys.stderr)
