"""What the READMEs and the pages in docs/ say in Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

PYTHON = Path(__file__).parent.parent
PROJECT = PYTHON.parent
PAGES = [PYTHON / "README.md", PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(PROJECT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))
]


def test_there_are_such_blocks() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, pytester: pytest.Pytester) -> None:
    program = pytester.makepyfile(test_block=block)
    if "def test_" in block:
        pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
    else:
        result = pytester.run(sys.executable, program)
        assert (result.ret, result.outlines, result.errlines) == (0, [], [])
