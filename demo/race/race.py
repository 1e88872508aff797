#!/usr/bin/env python3
"""The test of test.sh, in Python: `demo/race/race.py 200` runs it 200 times and prints what came of each."""

import sys
from pathlib import Path

from chaosfs import Clients


def take(shared: Path, worker: str) -> bool:
    """The program: takes a job with mkdir, as on a local disk, where that is safe. Says whether the worker has it."""
    try:
        (shared / "job").mkdir()
    except FileExistsError:
        return False
    (shared / "job" / "owner").write_text(worker)
    return True


def outcome() -> str:
    with Clients(2, clock="manual") as clients:
        given = [worker for host, worker in zip(clients, ["one", "two"]) if take(host, worker)]
        clients.advance(2)
        owner = (clients.backing / "job" / "owner").read_text()
    return f"given to: {' '.join(given)} - in the end it is the job of {owner}"


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    print(outcome())
