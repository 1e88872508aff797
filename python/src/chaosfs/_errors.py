"""What this package raises: always a ``ChaosfsError`` with one line."""

from __future__ import annotations

import re
import unicodedata


def printable(text: str) -> str:
    """Text on one line of a terminal, where names that anybody has chosen move no cursor: what is no picture of its own
    is shown as an escape."""
    unseen = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in unseen else c for c in text)


class ChaosfsError(RuntimeError):
    """What ``chaosfs`` or a client refused or could not do, or a wrong argument, in one line."""

    def __str__(self) -> str:
        # A KeyError shows the repr of its text.
        return printable(" ".join(map(str, self.args)))


class WrongValue(ChaosfsError, ValueError):
    """An argument whose value has no meaning."""


class WrongType(ChaosfsError, TypeError):
    """An argument of a kind that has no meaning, or an argument that does not exist."""


class NoSuchClient(ChaosfsError, KeyError):
    """A name that no client of the set has."""


#: The flags that this package gives to the binary, as the binary's refusals name them.
_FLAG = re.compile(
    r"(?<![\w/-])--(meta-ttl|write-delay|rename-delay|drop-prob|read-your-writes|max-in-flight|max-mutations|client-id"
    r"|seed|clock|kernel-cache|log-dir|debug|allow-other)\b(?: (manual|false)\b)?"
)


def from_binary(line: str) -> ChaosfsError:
    """The error for a refusal of the binary, in the names of this package: the binary was given flags."""
    return ChaosfsError(_FLAG.sub(_argument, line))


def _argument(flag: re.Match[str]) -> str:
    values = {"manual": "='manual'", "false": "=False"}
    return flag[1].replace("-", "_") + values.get(flag[2], "")
