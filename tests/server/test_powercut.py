"""What a power cut leaves of a store is what was committed: the short form of scripts/powercut."""

import random
from pathlib import Path

import pytest
from trials.powercut import (
    STORE,
    YOUTH,
    Noted,
    Recording,
    RecordingDisk,
    Remains,
    State,
    cuts,
    problem,
    problems,
    recorded,
)

from taskstore.server import sqlite
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


def after_one_while_it_was_made(rng: random.Random) -> Recording:
    """A store that begins with what a power cut has left of its making: a part of it, and the journal to undo that."""
    made = recorded(0)
    while True:
        remains = Remains({})
        for event in made.events[: rng.randrange(YOUTH)]:
            remains.see(event)
        left = remains.left(rng)
        if left.get(STORE) and len(left.get(f"{STORE}-journal", "")) > 4096:
            recording = recorded(0, files=left)
            return recording._replace(events=recording.events[: 3 * YOUTH])


def test_what_was_committed_survives_another_one_while_the_store_was_made() -> None:
    rng = random.Random(0)
    for _ in range(10):
        recording = after_one_while_it_was_made(rng)
        assert [found for cut in cuts(recording, 50, rng) if (found := problem(recording, cut))] == []


def test_a_journal_that_comes_back_would_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingDisk, "noting_directories", lambda self: monkeypatch.context())
    monkeypatch.setattr(sqlite, "_sync_directory", lambda directory: None)
    rng = random.Random(0)
    recordings = (after_one_while_it_was_made(rng) for _ in range(100))
    assert any(problem(recording, cut) for recording in recordings for cut in cuts(recording, 50, rng))
