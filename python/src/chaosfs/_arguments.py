"""What the arguments of this package may be. Each check takes the name and the value, and raises one line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Union

from ._errors import WrongType, WrongValue

#: Seconds, or a text with its unit: ``"500ms"``, ``"1.5s"``, ``"2m"``.
Span = Union[float, str]

StrPath = Union[str, "os.PathLike[str]"]

_SECONDS_IN = {"us": 0.000_001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(us|ms|s|m|h)")
_LONGEST = 100 * 365.25 * 86_400
_SPAN = "give seconds (0.5) or a text with its unit ('500ms')"


def nanoseconds(name: str, value: object) -> int:
    """A span of time."""
    if isinstance(value, bool) or not isinstance(value, (str, Real)):
        raise WrongType(f"{name}: {value!r} is not a span of time; {_SPAN}")
    seconds = _seconds_of(name, value) if isinstance(value, str) else float(value)
    if not 0 <= seconds <= _LONGEST:
        raise WrongValue(f"{name}: {value!r} is not a span of time of 0 to 100 years; {_SPAN}")
    return round(seconds * 1_000_000_000)


def _seconds_of(name: str, text: str) -> float:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise WrongValue(f"{name}: {text!r} is not a span of time; {_SPAN}")
    return sum(float(number) * _SECONDS_IN[unit] for number, unit in parts)


def span(name: str, value: object) -> str:
    """A span of time, as the command line takes it."""
    millis, rest = divmod(nanoseconds(name, value), 1_000_000)
    return f"{millis}.{rest:06}".rstrip("0").rstrip(".") + "ms"


def delay(name: str, value: object) -> str:
    """A span of time or a range: a pair of spans, or a text such as ``"500ms..1.2s"``."""
    ends: object = value
    if isinstance(value, str) and ".." in value:
        ends = value.split("..", 1)
    if isinstance(ends, str) or not isinstance(ends, Sequence):
        return span(name, ends)
    if len(ends) != 2:
        raise WrongValue(f"{name}: {value!r} is not a range; give the shortest and the longest, (0.5, 1.2)")
    if nanoseconds(name, ends[0]) > nanoseconds(name, ends[1]):
        raise WrongValue(f"{name}: {value!r} runs backwards; give the shortest first")
    return "..".join(span(name, end) for end in ends)


def probability(name: str, value: object) -> str:
    """A number from 0 to 1."""
    wrong = f"{name}: {value!r} is not a probability; give a number from 0 to 1"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise WrongType(wrong)
    if not 0 <= float(value) <= 1:
        raise WrongValue(wrong)
    return repr(float(value))


def factor(name: str, value: object) -> str:
    """A number above 0, from a millionth to a million."""
    wrong = f"{name}: {value!r} is not a factor; give a number from 0.000001 to 1000000"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise WrongType(wrong)
    if not 1e-6 <= float(value) <= 1e6:
        raise WrongValue(wrong)
    return f"{float(value):f}"


def switch(name: str, value: object) -> str:
    """``True`` or ``False``."""
    if not isinstance(value, bool):
        raise WrongType(f"{name}: {value!r} is neither True nor False")
    return str(value).lower()


def whole(name: str, value: object, least: int = 1) -> str:
    """A whole number."""
    wrong = f"{name}: {value!r} is not a whole number from {least} to 2**64 - 1"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise WrongType(wrong)
    if not least <= value.__index__() < 2**64:
        raise WrongValue(wrong)
    return str(value.__index__())


def or_that_of(leader: str, check: Callable[[str, object], str]) -> Callable[[str, object], str]:
    """What ``check`` takes, or the name of the knob whose value it is then to have."""
    return lambda name, value: leader if value == leader else check(name, value)


def seed(name: str, value: object) -> str:
    """A seed."""
    return whole(name, value, 0)


def clock(name: str, value: object) -> str:
    """``"real"`` or ``"manual"``."""
    if value not in ("real", "manual"):
        raise WrongValue(f"{name}: {value!r} is not a clock; give 'real' or 'manual'")
    return str(value)


def text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise WrongType(f"{name}: {value!r} is not a text")
    return value


def path(name: str, value: object) -> str:
    """A path."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(found, str):
        raise WrongType(f"{name}: {value!r} is not a path; give a str or a pathlib.Path")
    return found
