"""A disk that fails, at every moment of a short load, makes nobody believe what is not so."""

from collections import Counter
from contextlib import suppress

import pytest
from trials.faults import FAULTS, Fault, moments, problems

from taskstore.server import sqlite
from taskstore.server.engine import Engine
from taskstore.server.storage import CommitError

SEED = 1
# A connection that was left open, and is closed when it is collected, can tell its faults to nobody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    return moments(SEED)


def test_the_load_does_all_that_can_fail(seen: Counter[str]) -> None:
    assert {fault.kind for fault in FAULTS} <= set(seen)
    assert seen["write"] > 100
    assert seen["sync"] > 20


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.error.__name__}-{fault.for_good}")
def test_nobody_is_told_a_lie_whenever_the_disk_fails(fault: Fault, seen: Counter[str]) -> None:
    found = {at: list(problems(SEED, fault, at)) for at in range(1, seen[fault.kind] + 1)}
    assert {at: told for at, told in found.items() if told} == {}


def any_problem(seen: Counter[str], kind: str) -> bool:
    faults = [fault for fault in FAULTS if fault.kind == kind]
    return any(list(problems(SEED, fault, at)) for fault in faults for at in range(1, seen[kind] + 1))


def test_a_store_that_calls_a_failed_commit_a_success_is_caught(
    seen: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = sqlite._Transaction.commit

    def commit(self: sqlite._Transaction) -> None:
        with suppress(CommitError):
            honest(self)

    monkeypatch.setattr(sqlite._Transaction, "commit", commit)
    assert any_problem(seen, "write")


def test_a_store_that_goes_on_after_a_failed_sync_is_caught(
    seen: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "_failed", property(lambda self: None, lambda self, failed: None), raising=False)
    assert any_problem(seen, "sync")
