"""What it takes to find out why a test failed, and to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ._arguments import StrPath
from ._control import Control
from ._errors import ChaosfsError


def report(mountpoints: Iterable[StrPath]) -> Iterator[str]:
    """The seed of these clients, and the knobs and counts of each."""
    told = [_report_of(mountpoint) for mountpoint in mountpoints]
    seeds = dict.fromkeys(seed for seed, _ in told if seed is not None)
    yield from (f"seed {seed}: repeat it with CHAOSFS_SEED={seed}" for seed in seeds)
    yield from (line for _, line in told)


def _report_of(mountpoint: StrPath) -> tuple[int | None, str]:
    try:
        with Control(mountpoint) as control:
            status = control.status()
    except ChaosfsError as error:
        return None, str(error)
    knobs = " ".join(f"{name}={value}" for name, value in status["knobs"].items())
    counts = f"faults={status['faults']} conflicts={status['conflicts']} lost={status['lost']}"
    in_flight = status["in_flight"]["mutations"]
    return status["seed"], f"{status['client']}: clock={status['clock']} {knobs} in_flight={in_flight} {counts}"
