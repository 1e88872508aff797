"""Clients of one directory that disagree as hosts on shared storage do, for tests.

``mount`` and ``dual_mount`` mount on directories of yours, ``Clients`` makes everything itself. What they give is paths
(``Client``) that can also be steered: ``hold``, ``flush``, ``expire`` and the like, and ``advance`` where time is moved
by hand. Times are seconds, or texts with a unit (``"500ms"``). Each client is served by a process of its own, which lands
what is in flight and unmounts when the ``with`` block ends, and when the interpreter does, however that ends.
"""

from importlib.metadata import PackageNotFoundError, version

from ._arguments import Span
from ._clients import Client, Clients, advance, dual_mount, mount
from ._control import InFlight, Status
from ._errors import ChaosfsError
from ._knobs import Clock, Delay, Knobs

try:
    __version__ = version("chaosfs-fuse")
except PackageNotFoundError:
    # Run from its sources.
    __version__ = "unknown"

__all__ = [
    "ChaosfsError",
    "Client",
    "Clients",
    "Clock",
    "Delay",
    "InFlight",
    "Knobs",
    "Span",
    "Status",
    "__version__",
    "advance",
    "dual_mount",
    "mount",
]
