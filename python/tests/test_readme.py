"""What the two READMEs say in Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
BLOCKS = [
    pytest.param(block, id=f"{readme.parent.name or 'main'}-{number}")
    for readme in (HERE / "README.md", HERE.parent / "README.md")
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.M | re.S))
]


def test_there_are_such_blocks() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_a_readme_runs(block: str, pytester: pytest.Pytester) -> None:
    program = pytester.makepyfile(test_block=block)
    if "def test_" in block:
        pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
    else:
        result = pytester.run(sys.executable, program)
        assert (result.ret, result.outlines, result.errlines) == (0, [], [])
