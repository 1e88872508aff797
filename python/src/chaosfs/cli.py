"""``chaosfs.cli.main``, as chaosfs 0.3.0 had it: the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from ._process import binary


def main(argv: Iterable[str] | None = None) -> None:
    """Runs the command with these arguments, or those of this process, and returns when it has ended; raises
    ``SystemExit`` with its status where that is not 0."""
    arguments = sys.argv[1:] if argv is None else argv
    status = subprocess.run([binary(), *arguments], check=False).returncode
    if status != 0:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
