"""What a power cut leaves of a store is what was committed: the short form of scripts/powercut."""

from pathlib import Path

import pytest
from trials.powercut import Noted, RecordingDisk, State, problems

from taskstore.testing import SettableClock

STATES = 1_000


@pytest.mark.parametrize("seed", range(4))
def test_what_was_committed_survives_a_power_cut(seed: int) -> None:
    assert list(problems(seed, STATES)) == []


@pytest.mark.parametrize("synchronous", ["normal", "off"])
def test_a_store_that_syncs_too_little_is_caught(synchronous: str) -> None:
    def opener(path: Path, clock: SettableClock, disk: RecordingDisk, states: list[State]) -> Noted:
        storage = Noted(path, clock, disk, states)
        storage._writer.pragma("synchronous", synchronous)
        return storage

    assert any("lost what was committed" in problem for problem in problems(0, STATES, opener=opener))
