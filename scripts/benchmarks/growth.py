"""Whether a claim costs the same in a large store as in a small one, and whether an emptied store recovers."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import DATA
from benchmarks.report import Figure
from taskstore.server.messages import Claim, Keyed, Outcome, TaskAdd, Update
from taskstore.server.rules import decide, wanted
from taskstore.server.sqlite import SqliteStorage
from taskstore.transport import new_key

LARGE = 1_000_000
SMALL = 1_000
GROUPS = 100_000
CLAIMS = 3_000
RECORDS = 500_000
"""What nearly ten minutes at 900 updates a second leave behind: records are kept for 15."""
TOGETHER = 32


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
    yield recorded(runs, small)
    for storage in (small, grouped):
        storage.close()


def recorded(runs: int, storage: SqliteStorage) -> Figure:
    """What an update under a key costs, some in a transaction, beside the records of many others."""
    before = statistics.median(keep_us(storage) for _ in range(runs))
    for _ in range(RECORDS // 1_000):
        keep(storage, 1_000)
    value = statistics.median(keep_us(storage) for _ in range(runs))
    ratio = value / before
    return Figure(f"update under a key, {TOGETHER} together, {RECORDS:,} kept", value, "us",
                  "hardly any kept", ratio, "<= 1.3", ratio <= 1.3)  # fmt: skip


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


def apply(storage: SqliteStorage, *requests: Claim | Update | Keyed) -> None:
    """Some requests in a transaction of their own."""
    transaction = storage.begin(wanted(requests))
    outcomes, change = decide(requests, transaction.seen)
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        assert outcome.error is None
    transaction.write(change)
    transaction.commit()


def keep(storage: SqliteStorage, number: int) -> None:
    """Add so many tasks in one transaction, each by a client of its own, under a key as the client makes them."""
    apply(storage, *(Keyed(Update(n + 1, [TaskAdd("kept", DATA)]), new_key(), bytes(16)) for n in range(number)))


def keep_us(storage: SqliteStorage) -> float:
    """The median time, in microseconds, of an update under a key, of some that share a transaction and its commit."""
    took = []
    for _ in range(CLAIMS // TOGETHER):
        begun = time.perf_counter()
        keep(storage, TOGETHER)
        took.append((time.perf_counter() - begun) / TOGETHER)
    return statistics.median(took) * 1e6


def claim_us(storage: SqliteStorage, tasks: int, groups: int) -> float:
    """The median time, in microseconds, of a claim and its commit; the leases are over at once."""
    took = []
    for n in range(min(CLAIMS, tasks)):
        begun = time.perf_counter()
        apply(storage, Claim(1, f"g{n * 7919 % groups}", 0))
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e6
