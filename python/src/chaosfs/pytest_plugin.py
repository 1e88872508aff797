"""The pytest plugin: the fixture ``chaosfs_clients`` and the marker ``chaosfs``."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

# Not from the package itself, whose `__init__` the package `chaosfs` overwrites where it is installed as well.
from ._clients import Clients

_CLIENTS = pytest.StashKey[Clients]()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line(
        "markers",
        "chaosfs(clients=2, clock=None, seed=None, debug=False, **knobs): what the fixture `chaosfs_clients` mounts; takes the "
        "arguments of chaosfs.Clients, such as clients=3, clock='manual', write_delay=0.5",
    )


@pytest.fixture
def chaosfs_clients(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clients]:
    """Clients over one backing directory, mounted for one test: two, or what the marker ``chaosfs`` says."""
    settings: dict[str, Any] = {"base": tmp_path_factory.mktemp("chaosfs")}
    # The marker that is nearest to the test goes before those of its class and module.
    for marker in reversed(list(request.node.iter_markers("chaosfs"))):
        if marker.args:
            settings["clients"], *rest = marker.args
            if rest:
                raise pytest.UsageError("the marker chaosfs takes one argument without a name, the clients")
        settings.update(marker.kwargs)
    with Clients(**settings) as clients:
        request.node.stash[_CLIENTS] = clients
        yield clients


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    """Tells with a failure what repeats it, while the clients are still mounted."""
    report: pytest.TestReport = (yield).get_result()
    clients = item.stash.get(_CLIENTS, None)
    if clients is not None and report.when == "call" and report.failed:
        report.sections.append(("chaosfs", "\n".join(clients.report())))
