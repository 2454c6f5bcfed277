"""A server that is killed, again and again, keeps its promises: the short form of scripts/crash."""

import asyncio
from pathlib import Path

import pytest
from trials.crash import Trial


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_server_keeps_its_promises(seed: int, tmp_path: Path) -> None:
    summary = asyncio.run(Trial(tmp_path, seed).run(5, 1_500, lambda summary: None))
    assert summary.violations == []
    assert summary.kills == 5
    assert summary.operations >= 1_500
    assert summary.acknowledged > summary.operations / 2
