"""What a test has in its hands: clients, by themselves or as a set."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import _arguments as arguments
from ._arguments import Span, StrPath
from ._control import Control, Status, advance_together, mount_at
from ._errors import ChaosfsError, NoSuchClient, WrongType, WrongValue
from ._knobs import Clock, Delay, Knobs, texts
from ._process import Server
from ._report import report

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")

#: The name of a client that was given none. The binary gives another one to a second client over the same directory.
UNNAMED = "client"


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

    def advance(self, by: Span) -> int:
        """Moves its clock, and only its own; returns how many changes landed."""
        return advance(by, self)

    def _ask(self, do: str, **arguments: object) -> dict[str, Any]:
        with Control(self) as control:
            return control.ask(do, **arguments)


def advance(by: Span, *clients: StrPath) -> int:
    """Moves the clocks of these clients together, event by event in due order across them; returns how many changes
    landed, when everything has that is due by then.

    Raises ``ChaosfsError`` if one of them has a real clock, before any has been moved.
    """
    span = arguments.nanoseconds("advance", by)
    if not clients:
        raise WrongValue("advance: name the clients whose clocks are to be moved")
    return advance_together([arguments.path("advance", client) for client in clients], span)


@contextmanager
def mount(
    backing_dir: StrPath,
    mount_point: StrPath,
    client_id: str = UNNAMED,
    meta_ttl: Span = 1.5,
    write_delay: Delay = 0.8,
    rename_delay: Delay = 1.2,
    drop_prob: float = 0.0,
    seed: int | None = None,
    *,
    profile: str | None = None,
    options: str | None = None,
    time_scale: float | None = None,
    explore: bool | None = None,
    attr_ttl: Span | None = None,
    name_ttl: Span | None = None,
    absent_ttl: Span | None = None,
    list_ttl: Span | None = None,
    create_delay: Delay | None = None,
    read_your_writes: bool | None = None,
    max_in_flight: int | None = None,
    max_mutations: int | None = None,
    max_belief: int | None = None,
    clock: Clock | None = None,
    kernel_cache: bool | None = None,
    log_dir: StrPath | None = None,
    debug: bool = False,
    allow_other: bool = False,
) -> Iterator[Client]:
    """Mounts a client over ``backing_dir`` on the empty directory ``mount_point`` for the length of the block.

    Times are seconds, or texts with a unit (``"500ms"``). ``None`` takes the variable of ``chaosfs mount``
    (``CHAOSFS_SEED``, ``CHAOSFS_CLOCK``, ...), else its default. At the end, also by an exception, what is in flight
    lands; what could not is in the ``ChaosfsError``. With a ``profile``, the times that are left at their defaults come from
    that.
    """
    times = {"meta_ttl": meta_ttl, "write_delay": write_delay, "rename_delay": rename_delay}
    if profile is not None:
        usual = {"meta_ttl": 1.5, "write_delay": 0.8, "rename_delay": 1.2}
        times = {name: value for name, value in times.items() if value != usual[name]}
    knobs = {
        **times,
        "profile": profile,
        "options": options,
        "time_scale": time_scale,
        "explore": explore,
        "attr_ttl": attr_ttl,
        "name_ttl": name_ttl,
        "absent_ttl": absent_ttl,
        "list_ttl": list_ttl,
        "create_delay": create_delay,
        "drop_prob": drop_prob,
        "read_your_writes": read_your_writes,
        "max_in_flight": max_in_flight,
        "max_mutations": max_mutations,
        "max_belief": max_belief,
    }
    settings = _settings(seed, clock, kernel_cache, log_dir, debug, allow_other)
    flags = _flags({"client_id": arguments.text("client_id", client_id), **settings, **texts(knobs)})
    mountpoint = _path("mount_point", mount_point)
    server = Server(_path("backing_dir", backing_dir), mountpoint, flags)
    with _ending([server], settings.get("log_dir") or os.environ.get("LOG_DIR")):
        server.serve()
        yield Client(mountpoint)


@contextmanager
def dual_mount(
    base_path: StrPath,
    writer_id: str = "writer",
    reader_id: str = "reader",
    writer_meta_ttl: Span = 0.5,
    writer_rename_delay: Delay = 0.1,
    reader_meta_ttl: Span = 2.0,
    reader_rename_delay: Delay = 0.5,
    *,
    writer_write_delay: Delay = 0.1,
    reader_write_delay: Delay = 0.8,
    seed: int | None = None,
    clock: Clock | None = None,
    kernel_cache: bool | None = None,
    log_dir: StrPath | None = None,
    debug: bool = False,
    allow_other: bool = False,
) -> Iterator[tuple[Client, Client]]:
    """Mounts a writer that is hardly late and a reader that believes for long, over one backing directory.

    ``base_path`` gets the directories ``backing``, ``writer`` and ``reader``. Everything else is as with ``mount``.
    """
    base = _path("base_path", base_path)
    common = _common_seed(None if seed is None else arguments.seed("seed", seed))
    for name in ("backing", "writer", "reader"):
        _made(base / name)

    def one(name: str, client_id: str, ttl: Span, write: Delay, rename: Delay) -> AbstractContextManager[Client]:
        return mount(
            base / "backing",
            base / name,
            client_id,
            ttl,
            write,
            rename,
            seed=None if common is None else int(common),
            clock=clock,
            kernel_cache=kernel_cache,
            log_dir=log_dir,
            debug=debug,
            allow_other=allow_other,
        )

    writer = one("writer", writer_id, writer_meta_ttl, writer_write_delay, writer_rename_delay)
    reader = one("reader", reader_id, reader_meta_ttl, reader_write_delay, reader_rename_delay)
    with writer as writing, reader as reading:
        yield writing, reading


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
        kernel_cache: bool | None = None,
        log_dir: StrPath | None = None,
        debug: bool = False,
        allow_other: bool = False,
        **knobs: Unpack[Knobs],
    ) -> None:
        self._knobs = _knobs_by_name(clients, knobs)
        self._settings = _settings(seed, clock, kernel_cache, log_dir, debug, allow_other)
        self._backing = None if backing is None else _path("backing", backing)
        self._base = None if base is None else _path("base", base)
        self._clients: dict[str, Client] = {}
        self._life = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as life:
            base = life.enter_context(_temporary()) if self._base is None else self._base
            self.backing = self._backing or _made(base / "backing")
            self.logs = Path(self._settings.get("log_dir") or os.environ.get("LOG_DIR") or base / "logs").resolve()
            settings = {**self._settings, "log_dir": str(self.logs)}
            if (seed := _common_seed(settings.get("seed"))) is not None:
                settings["seed"] = seed
            servers: list[Server] = []
            life.enter_context(_ending(servers, None if self.logs.parent == base and self._base is None else self.logs))
            for name, knobs in self._knobs.items():
                mountpoint = _made(base / "clients" / name)
                flags = _flags({"client_id": name, **settings, **knobs})
                servers.append(Server(self.backing, mountpoint, flags))
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
        return iter(self._mounted().values())

    def __len__(self) -> int:
        return len(self._knobs)

    def __getitem__(self, name: str) -> Client:
        """The client of this name."""
        if name not in self._knobs:
            raise NoSuchClient(f"there is no client {name!r}; there are {', '.join(self._knobs)}")
        return self._mounted()[name]

    @property
    def names(self) -> list[str]:
        """The names of the clients, in their order."""
        return list(self._knobs)

    def status(self) -> dict[str, Status]:
        """What each client tells about itself, by name."""
        return self._each(Client.status)

    def set(self, **knobs: Unpack[Knobs]) -> None:
        """Changes knobs of every client. What is in flight keeps its due time."""
        changes = texts(cast("Mapping[str, object]", knobs))
        self._each(lambda client: client._ask("set", knobs=changes))

    def hold(self) -> None:
        """From now on nothing lands by being due; see ``Client.hold``."""
        self._each(Client.hold)

    def release(self) -> None:
        """What is due lands again, and at once what has become due meanwhile: of one client after the other."""
        self._each(Client.release)

    def flush(self) -> int:
        """Lands everything now, of one client after the other; returns how many changes. What cannot land is in the
        error, after all have been asked."""
        return sum(self._each(Client.flush).values())

    def expire(self) -> None:
        """Drops everything that the clients believe: every question is asked anew."""
        self._each(Client.expire)

    def lose(self) -> dict[str, list[str]]:
        """Drops what is in flight, as if all hosts had crashed, and names it by client; see ``Client.lose``."""
        return self._each(Client.lose)

    def advance(self, by: Span) -> int:
        """Moves all clocks together; see ``advance``."""
        return advance(by, *self)

    def report(self) -> list[str]:
        """What it takes to find out why a test failed, and to repeat it, in lines: the seed, the knobs and counts of each
        client, and where the logs are."""
        return [*report(self._mounted().values()), f"logs: {self.logs}"]

    def _each(self, call: Callable[[Client], T]) -> dict[str, T]:
        """Asks every client, also when one of them refuses."""
        answers: dict[str, T] = {}
        refusals: list[ChaosfsError] = []
        for name, client in self._mounted().items():
            try:
                answers[name] = call(client)
            except ChaosfsError as refusal:
                refusals.append(refusal)
        if len(refusals) == 1:
            raise refusals[0]
        if refusals:
            raise ChaosfsError("; ".join(map(str, refusals)))
        return answers

    def _mounted(self) -> dict[str, Client]:
        if not self._clients:
            raise ChaosfsError("these clients are not mounted; use them in a `with` block")
        return self._clients


def _knobs_by_name(
    clients: int | Iterable[str] | Mapping[str, Knobs], common: Knobs
) -> dict[str, dict[str, str]]:
    own: Mapping[str, Knobs] = clients if isinstance(clients, Mapping) else {}
    names = _names(clients)
    for name in names:
        if names.count(name) > 1:
            raise WrongValue(f"there are two clients named {name!r}; give each a name of its own")
        if name in ("", ".", "..") or "/" in name:
            raise WrongValue(f"a client cannot be named {name!r}; its mountpoint is to have that name")
        if not isinstance(own.get(name, {}), Mapping):
            raise WrongType(f"clients: {own[name]!r} are not the knobs of {name!r}; give a dict, {{'meta_ttl': 0.5}}")
    return {name: texts(cast("Mapping[str, object]", {**common, **own.get(name, {})})) for name in names}


def _names(clients: object) -> list[str]:
    if isinstance(clients, str):
        return [clients]
    if hasattr(clients, "__index__") and not isinstance(clients, bool):
        clients = map(_letters, range(int(arguments.whole("clients", clients, 0))))
    if not isinstance(clients, Iterable):
        raise WrongType(f"clients: {clients!r} is neither how many there are nor their names")
    names = list(clients)
    if not names:
        raise WrongValue("clients: a set needs at least one; give how many, or their names")
    return [arguments.text("clients", name) for name in names]


def _letters(number: int) -> str:
    """A to Z, AA to ZZ and so on."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _settings(
    seed: int | None,
    clock: Clock | None,
    kernel_cache: bool | None,
    log_dir: StrPath | None,
    debug: bool,
    allow_other: bool,
) -> dict[str, str]:
    """What can be told to a client besides its knobs, as the command line takes it, by the names that it has here."""
    checks: dict[str, tuple[Callable[[str, object], str], object]] = {
        "seed": (arguments.seed, seed),
        "clock": (arguments.clock, clock),
        "kernel_cache": (arguments.switch, kernel_cache),
        "log_dir": (arguments.path, log_dir),
        "debug": (arguments.switch, debug),
        "allow_other": (arguments.switch, allow_other),
    }
    return {name: check(name, value) for name, (check, value) in checks.items() if value is not None}


def _common_seed(given: str | None) -> str | None:
    """One for several clients, so that one number repeats a test; each draws differently from it all the same. ``None``
    where the variable has it."""
    drawn = None if "CHAOSFS_SEED" in os.environ else str(secrets.randbits(32))
    return drawn if given is None else given


def _flags(settings: Mapping[str, str]) -> list[str]:
    return [flag for name, value in settings.items() for flag in _flag(name, value)]


def _flag(name: str, value: str) -> list[str]:
    if name in ("debug", "allow_other"):
        return [f"--{name.replace('_', '-')}"] if value == "true" else []
    if (name, value) == ("client_id", UNNAMED) and "CHAOSFS_CLIENT_ID" not in os.environ:
        return []
    return [f"--{name.replace('_', '-')}={value}"]


def _path(name: str, value: object) -> Path:
    return Path(arguments.path(name, value)).resolve()


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
def _ending(servers: list[Server], logs: StrPath | None) -> Iterator[None]:
    """Ends these servers after the block, in their order; what went wrong in the block goes before what goes wrong then.

    An exception that comes out of the block is given notes that tell what repeats it, and where the logs are that stay."""
    try:
        yield
    except BaseException as error:
        if sys.version_info >= (3, 11) and isinstance(error, Exception):
            notes = list(report(server.mountpoint for server in servers if server.serves))
            notes += [f"logs: {logs}"] if notes and logs else []
            for note in notes:
                error.add_note(note)
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
