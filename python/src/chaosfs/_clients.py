"""What a test has in its hands: clients, by themselves or as a set."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union, cast

from ._control import ChaosfsError, Control, Status, advance_together, mount_at
from ._knobs import Clock, Delay, Knobs, texts
from ._process import Server

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

StrPath = Union[str, "os.PathLike[str]"]


class Client(PosixPath):
    """The mountpoint of a client: a path like any other, which can be steered.

    It remembers nothing but its path: ``Client(os.environ["CHAOSFS_MOUNT_A"])`` steers a client that ``chaosfs run`` or
    ``chaosfs mount`` has mounted. Every method raises ``ChaosfsError`` where no client is mounted or it refuses.
    """

    def status(self) -> Status:
        """Knobs, seed and time; what it has done, what it has in flight, and what could not land."""
        with Control(self) as control:
            return control.status()

    def set(self, **knobs: Unpack[Knobs]) -> None:
        """Changes knobs, all or none. What is in flight keeps its due time."""
        self._ask("set", knobs=texts(cast("Mapping[str, object]", knobs)))

    def hold(self) -> None:
        """From now on nothing lands by being due. What fsync asks for, ``flush`` and unmounting land all the same."""
        self._ask("hold")

    def release(self) -> None:
        """What is due lands again, and at once what has become due meanwhile."""
        self._ask("release")

    def flush(self) -> int:
        """Lands everything now, also what is held; returns how many changes. What cannot land is in the error."""
        return cast(int, self._ask("flush")["landed"])

    def expire(self) -> None:
        """Drops everything that it believes: every question is asked anew."""
        self._ask("expire")

    def lose(self) -> list[str]:
        """Drops what is in flight, as if the host had crashed, and names the first thousand changes of it."""
        return cast("list[str]", self._ask("lose")["paths"])

    def advance(self, seconds: float) -> int:
        """Moves its clock, and only its own; returns how many changes landed."""
        return advance(seconds, self)

    def _ask(self, do: str, **arguments: object) -> dict[str, Any]:
        with Control(self) as control:
            return control.ask(do, **arguments)


def advance(seconds: float, *clients: StrPath) -> int:
    """Moves the clocks of these clients together, event by event in due order across them; returns how many changes
    landed, when everything has that is due by then.

    Raises ``ChaosfsError`` if one of them has a real clock, before any has been moved.
    """
    if not clients:
        raise ValueError("advance: name the clients whose clocks are to be moved")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"advance: {seconds!r} is not a span of time; give seconds, 0 or more")
    return advance_together([os.fspath(client) for client in clients], round(seconds * 1_000_000_000))


@contextmanager
def mount(
    backing_dir: StrPath,
    mount_point: StrPath,
    client_id: str = "client",
    meta_ttl: float = 1.5,
    write_delay: Delay = 0.8,
    rename_delay: Delay = 1.2,
    drop_prob: float = 0.0,
    seed: int | None = None,
    *,
    read_your_writes: bool | None = None,
    max_in_flight: int | None = None,
    clock: Clock | None = None,
    log_dir: StrPath | None = None,
) -> Iterator[Client]:
    """Mounts a client over ``backing_dir`` on the empty directory ``mount_point`` for the length of the block.

    Times are seconds. ``None`` takes the variable of ``chaosfs mount`` (``CHAOSFS_SEED``, ``CHAOSFS_CLOCK``, ...), else its
    default. At the end, also by an exception, what is in flight lands; what could not is in the ``ChaosfsError``.
    """
    knobs = {
        "meta_ttl": meta_ttl,
        "write_delay": write_delay,
        "rename_delay": rename_delay,
        "drop_prob": drop_prob,
        "read_your_writes": read_your_writes,
        "max_in_flight": max_in_flight,
    }
    flags = _flags(client_id, seed, clock, log_dir, knobs)
    mountpoint = Path(mount_point).resolve()
    server = Server(Path(backing_dir).resolve(), mountpoint, flags)
    with _ending([server]):
        server.serve()
        yield Client(mountpoint)


@contextmanager
def dual_mount(
    base_path: StrPath,
    writer_id: str = "writer",
    reader_id: str = "reader",
    writer_meta_ttl: float = 0.5,
    writer_rename_delay: Delay = 0.1,
    reader_meta_ttl: float = 2.0,
    reader_rename_delay: Delay = 0.5,
    *,
    writer_write_delay: Delay = 0.1,
    reader_write_delay: Delay = 0.8,
    seed: int | None = None,
    clock: Clock | None = None,
) -> Iterator[tuple[Client, Client]]:
    """Mounts a writer that is hardly late and a reader that believes for long, over one backing directory.

    ``base_path`` gets the directories ``backing``, ``writer`` and ``reader``. Everything else is as with ``mount``.
    """
    base = Path(base_path).resolve()
    for name in ("backing", "writer", "reader"):
        (base / name).mkdir(parents=True, exist_ok=True)
    with ExitStack() as mounts:
        yield (
            mounts.enter_context(
                mount(
                    base / "backing",
                    base / "writer",
                    writer_id,
                    writer_meta_ttl,
                    writer_write_delay,
                    writer_rename_delay,
                    seed=seed,
                    clock=clock,
                )
            ),
            mounts.enter_context(
                mount(
                    base / "backing",
                    base / "reader",
                    reader_id,
                    reader_meta_ttl,
                    reader_write_delay,
                    reader_rename_delay,
                    seed=seed,
                    clock=clock,
                )
            ),
        )


class Clients:
    """Clients over one backing directory, mounted for the length of a ``with`` block::

        with Clients(2, clock="manual") as (a, b):
            (a / "file").write_text("hello")
            advance(0.8, a, b)

    ``clients`` is how many there are, named A, B, C and so on; or their names; or for each name the knobs that it has for
    itself, over the common ones: ``Clients({"writer": {}, "reader": {"meta_ttl": 5.0}}, write_delay=0.5)``.

    Without ``backing`` and ``base`` everything is in a temporary folder, which is removed at the end. ``base`` is a folder
    in which the mountpoints, the logs and, without ``backing``, the backing directory are made, and stay.
    """

    #: The backing directory, while they are mounted.
    backing: Path
    #: Where the logs are, while they are mounted.
    logs: Path

    def __init__(
        self,
        clients: int | Iterable[str] | Mapping[str, Knobs] = 2,
        *,
        backing: StrPath | None = None,
        base: StrPath | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
        log_dir: StrPath | None = None,
        **knobs: Unpack[Knobs],
    ) -> None:
        self._knobs = _knobs_by_name(clients, knobs)
        self._backing, self._base = backing, base
        self._seed, self._clock, self._log_dir = seed, clock, log_dir
        self._clients: dict[str, Client] = {}
        self._life = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as life:
            base = life.enter_context(_temporary()) if self._base is None else Path(self._base).resolve()
            self.backing = _made(base / "backing") if self._backing is None else Path(self._backing).resolve()
            self.logs = Path(self._log_dir or os.environ.get("LOG_DIR") or base / "logs").resolve()
            # The same for all, so that one number repeats a test; each client draws differently from it all the same.
            drawn = None if "CHAOSFS_SEED" in os.environ else secrets.randbits(32)
            seed = drawn if self._seed is None else self._seed
            servers: list[Server] = []
            life.enter_context(_ending(servers))
            for name, knobs in self._knobs.items():
                mountpoint = _made(base / "clients" / name)
                servers.append(Server(self.backing, mountpoint, _flags(name, seed, self._clock, self.logs, knobs)))
            for server in servers:
                server.serve()
            self._clients = {server.mountpoint.name: Client(server.mountpoint) for server in servers}
            self._life = life.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Client]:
        """The clients, in their order."""
        return iter(self._clients.values())

    def __len__(self) -> int:
        return len(self._knobs)

    def __getitem__(self, name: str) -> Client:
        """The client of this name."""
        return self._clients[name]

    @property
    def names(self) -> list[str]:
        """The names of the clients, in their order."""
        return list(self._knobs)

    def advance(self, seconds: float) -> int:
        """Moves all clocks together; see ``advance``."""
        return advance(seconds, *self)


def _knobs_by_name(
    clients: int | Iterable[str] | Mapping[str, Knobs], common: Knobs
) -> dict[str, Mapping[str, object]]:
    if isinstance(clients, int):
        clients = [_letters(number) for number in range(clients)]
    elif isinstance(clients, str):
        clients = [clients]
    own: Mapping[str, Knobs] = clients if isinstance(clients, Mapping) else {}
    names = list(clients)
    if not names:
        raise ValueError("a set of clients needs at least one; give how many, or their names")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"there are two clients named {name!r}; give each a name of its own")
        if name in ("", ".", "..") or "/" in name:
            raise ValueError(f"a client cannot be named {name!r}; its mountpoint is to have that name")
    knobs = {name: cast("Mapping[str, object]", {**common, **own.get(name, {})}) for name in names}
    for each in knobs.values():
        texts(each)
    return knobs


def _letters(number: int) -> str:
    """A to Z, AA to ZZ and so on."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _flags(
    client_id: str,
    seed: int | None,
    clock: Clock | None,
    log_dir: StrPath | None,
    knobs: Mapping[str, object],
) -> list[str]:
    given = {"client-id": client_id, "seed": seed, "clock": clock, "log-dir": log_dir, **texts(knobs)}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def _temporary() -> Iterator[Path]:
    base, owner = Path(tempfile.mkdtemp(prefix="chaosfs-")).resolve(), os.getpid()
    try:
        yield base
    finally:
        # What is still mounted, or is a parent's, is not to be emptied.
        mounted = any(mount_at(path) for path in base.glob("clients/*"))
        if os.getpid() == owner and not mounted:
            shutil.rmtree(base)


@contextmanager
def _ending(servers: list[Server]) -> Iterator[None]:
    """Ends these servers after the block, in their order; what went wrong in the block goes before what goes wrong then."""
    try:
        yield
    except BaseException:
        for complaint in _end(servers):
            print(f"chaosfs: {complaint}", file=sys.stderr)
        raise
    complaints = _end(servers)
    if complaints:
        raise ChaosfsError("; ".join(complaints))


def _end(servers: list[Server]) -> list[str]:
    complaints = []
    for server in servers:
        try:
            server.end()
        except ChaosfsError as error:
            complaints.append(str(error))
    return complaints
