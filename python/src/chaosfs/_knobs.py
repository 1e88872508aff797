"""The knobs of a client, in the units of Python: seconds, numbers, booleans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypedDict, Union

from . import _arguments as arguments
from ._arguments import Span
from ._errors import WrongType

#: A span of time; or the shortest and the longest of a range from which each change draws its own, as a pair or as a text
#: (``"500ms..1.2s"``).
Delay = Union[Span, tuple[Span, Span]]

#: Whether time is the machine's or stands still until it is moved with ``advance``.
Clock = Literal["real", "manual"]


class Knobs(TypedDict, total=False):
    """What can be tuned. What is left out has the value of its variable (``CHAOSFS_META_TTL_MS`` and so on), or else the
    default of ``chaosfs mount``."""

    #: How long attributes, names, absences and listings are believed; 0 asks every time.
    meta_ttl: Span
    #: How long data and new files take until others see them; 0 writes through.
    write_delay: Delay
    #: The same for names, directories and attributes.
    rename_delay: Delay
    #: The probability, 0 to 1, that an operation fails with EIO.
    drop_prob: float
    #: Whether a client sees its own changes before they have landed.
    read_your_writes: bool
    #: How many bytes of memory may be in flight before whoever changes something waits.
    max_in_flight: int
    #: How many changes may be in flight before programs that make one wait.
    max_mutations: int
    #: How many bytes may be believed before the oldest beliefs are forgotten.
    max_belief: int


#: What each may be, and how it is written on the command line and on the control socket.
_TEXTS: dict[str, Callable[[str, object], str]] = {
    "meta_ttl": arguments.span,
    "write_delay": arguments.delay,
    "rename_delay": arguments.delay,
    "drop_prob": arguments.probability,
    "read_your_writes": arguments.switch,
    "max_in_flight": arguments.whole,
    "max_mutations": arguments.whole,
    "max_belief": arguments.whole,
}


def texts(knobs: Mapping[str, object]) -> dict[str, str]:
    """The knobs that are not ``None``, as the command line and the control socket take them."""
    unknown = sorted(str(name) for name in knobs.keys() - _TEXTS.keys())
    if unknown:
        raise WrongType(f"{unknown[0]!r} is not a knob; there are {', '.join(_TEXTS)}")
    return {name: _TEXTS[name](name, value) for name, value in knobs.items() if value is not None}
