"""What every test shares: directories to mount, and the proof that nothing is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    directory = tmp_path / "backing"
    directory.mkdir()
    return directory


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mountpoint"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may have set knobs."""
    for name in [name for name in os.environ if name.startswith("CHAOSFS_") or name == "LOG_DIR"]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [line for line in mounts if f" {tmp_path}/" in line] == []
