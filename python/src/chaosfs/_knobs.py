"""The knobs of a client, in the units of Python: seconds, numbers, booleans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict, Union

#: Seconds, or the shortest and the longest of a range from which each change draws its own.
Delay = Union[float, tuple[float, float]]

#: Whether time is the machine's or stands still until it is moved with ``advance``.
Clock = Literal["real", "manual"]


class Knobs(TypedDict, total=False):
    """What can be tuned. What is left out has the value of its variable (``CHAOSFS_META_TTL_MS`` and so on), or else the
    default of ``chaosfs mount``."""

    #: How long attributes, names, absences and listings are believed, in seconds; 0 asks every time.
    meta_ttl: float
    #: How long data and new files take until others see them, in seconds; 0 writes through.
    write_delay: Delay
    #: The same for names, directories and attributes.
    rename_delay: Delay
    #: The probability, 0 to 1, that an operation fails with EIO.
    drop_prob: float
    #: Whether a client sees its own changes before they have landed.
    read_your_writes: bool
    #: How many bytes may be in flight before writers wait.
    max_in_flight: int


def texts(knobs: Mapping[str, object]) -> dict[str, str]:
    """The knobs that are not ``None``, as the command line and the control socket take them.

    Raises ``TypeError`` for what is no knob.
    """
    unknown = sorted(knobs.keys() - Knobs.__annotations__.keys())
    if unknown:
        raise TypeError(f"{unknown[0]!r} is not a knob; there are {', '.join(Knobs.__annotations__)}")
    return {name: _text(name, value) for name, value in knobs.items() if value is not None}


def _text(name: str, value: object) -> str:
    if name in ("write_delay", "rename_delay") and isinstance(value, tuple):
        return "..".join(span(end) for end in value)
    if name in ("meta_ttl", "write_delay", "rename_delay"):
        return span(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def span(seconds: object) -> str:
    """A span of time as the command line takes it. What is no number stays as it is, to be refused there by name."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return repr(seconds)
    millis = f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")
    return f"{millis}ms"
