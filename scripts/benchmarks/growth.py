"""Whether a claim costs the same in a large store as in a small one, and whether an emptied store recovers."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import DATA
from benchmarks.report import Figure
from taskstore.server.messages import Claim, Outcome, TaskAdd, Update
from taskstore.server.rules import decide, wanted
from taskstore.server.sqlite import SqliteStorage

LARGE = 1_000_000
SMALL = 1_000
GROUPS = 100_000
CLAIMS = 3_000


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """A claim alone in its transaction, in memory-sized and in large stores."""
    small = filled(directory / "small.db", SMALL, 1)
    large = filled(directory / "large.db", LARGE, 1)
    grouped = filled(directory / "grouped.db", LARGE, GROUPS)
    references, values, ratios, grouped_ratios = [], [], [], []
    for _ in range(runs):
        references.append(claim_us(small, SMALL, 1))
        values.append(claim_us(large, LARGE, 1))
        ratios.append(values[-1] / references[-1])
        grouped_ratios.append(claim_us(grouped, LARGE, GROUPS) / references[-1])
    ratio, grouped_ratio, value = (statistics.median(each) for each in (ratios, grouped_ratios, values))
    yield Figure(f"claim, {LARGE:,} tasks in one group", value, "us", f"{SMALL:,} tasks", ratio, "<= 1.3", ratio <= 1.3)
    yield Figure(f"claim, {LARGE:,} tasks in {GROUPS:,} groups", value, "us", f"{SMALL:,} tasks in one group",
                 grouped_ratio, "<= 2", grouped_ratio <= 2)  # fmt: skip
    yield from emptied(large, directory / "large.db", statistics.median(references))
    for storage in (small, grouped):
        storage.close()


def emptied(storage: SqliteStorage, path: Path, reference: float) -> Iterator[Figure]:
    """The size of the file, and the cost of a claim, once nearly all tasks are gone."""
    before = path.stat().st_size
    while ids := [task.id for page in storage.group("g0", limit=5_000, owned=True) for task in page]:
        apply(storage, Update(1, deletes=ids))
    add(storage, SMALL, 1)
    ratio = claim_us(storage, SMALL, 1) / reference
    yield Figure("claim, once a million tasks are gone", ratio * reference, "us", "a new store", ratio, "<= 1.3",
                 ratio <= 1.3)  # fmt: skip
    storage.close()
    after = path.stat().st_size
    yield Figure("file, once a million tasks are gone", after / 1e6, "MB", "with them", after / before, "<= 0.1",
                 after / before <= 0.1)  # fmt: skip


def filled(path: Path, tasks: int, groups: int) -> SqliteStorage:
    """A storage that holds so many tasks in so many groups."""
    storage = SqliteStorage(str(path))
    add(storage, tasks, groups)
    return storage


def add(storage: SqliteStorage, tasks: int, groups: int) -> None:
    """Add tasks, in turn to each group."""
    for first in range(0, tasks, 10_000):
        last = min(first + 10_000, tasks)
        apply(storage, Update(1, [TaskAdd(f"g{n % groups}", DATA) for n in range(first, last)]))


def apply(storage: SqliteStorage, request: Claim | Update) -> None:
    """One request in a transaction of its own."""
    transaction = storage.begin(wanted([request]))
    outcomes, change = decide([request], transaction.seen)
    assert isinstance(outcomes[0], Outcome)
    assert outcomes[0].error is None
    transaction.write(change)
    transaction.commit()


def claim_us(storage: SqliteStorage, tasks: int, groups: int) -> float:
    """The median time, in microseconds, of a claim and its commit; the leases are over at once."""
    took = []
    for n in range(min(CLAIMS, tasks)):
        begun = time.perf_counter()
        apply(storage, Claim(1, f"g{n * 7919 % groups}", 0))
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e6
