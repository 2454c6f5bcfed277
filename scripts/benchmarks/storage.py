"""The storage in batches, without HTTP, against the same statements sent straight to SQLite.

What the rules and the translation to and from tasks cost is the difference.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import apsw

from benchmarks.load import DATA
from benchmarks.report import Figure
from taskstore.server.messages import Answer, Claim, Outcome, Request, TaskAdd, Update
from taskstore.server.rules import decide, wanted
from taskstore.server.sqlite import SqliteStorage

BATCH = 100
BATCHES = 200


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Adds, claims and deletions in batches of a hundred, each batch durable."""
    ours: dict[str, list[float]] = {}
    raw: dict[str, list[float]] = {}
    for run in range(runs):
        for name, seconds in through_the_rules(directory / f"ours{run}.db").items():
            ours.setdefault(name, []).append(seconds)
        for name, seconds in straight_to_sqlite(directory / f"raw{run}.db").items():
            raw.setdefault(name, []).append(seconds)
    for name, took in ours.items():
        ratio = statistics.median(a / b for a, b in zip(took, raw[name], strict=True))
        microseconds = statistics.median(took) / BATCH / BATCHES * 1e6
        yield Figure(f"{name}, in batches of {BATCH}", microseconds, "us each", "raw SQLite, same statements", ratio)


def timed(work: Callable[[], object]) -> float:
    """How many seconds it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def through_the_rules(path: Path) -> dict[str, float]:
    """Seconds for all batches of each kind, through rules and storage."""
    storage = SqliteStorage(str(path))
    claimed: list[int] = []

    def apply(batch: Sequence[Request]) -> list[Answer]:
        transaction = storage.begin(wanted(batch))
        outcomes, change = decide(batch, transaction.seen)
        transaction.write(change)
        transaction.commit()
        return outcomes

    def add() -> None:
        for _ in range(BATCHES):
            apply([Update(1, [TaskAdd("g", DATA)])] * BATCH)

    def claim() -> None:
        for _ in range(BATCHES):
            answers = apply([Claim(1, "g", 10**12)] * BATCH)
            claimed.extend(answer.tasks[0].id for answer in answers if isinstance(answer, Outcome))

    def delete() -> None:
        for first in range(0, len(claimed), BATCH):
            apply([Update(1, deletes=[id]) for id in claimed[first : first + BATCH]])

    seconds = {work.__name__: timed(work) for work in (add, claim, delete)}
    storage.close()
    return seconds


def straight_to_sqlite(path: Path) -> dict[str, float]:
    """The same with the least that SQLite has to be told for it."""
    SqliteStorage(str(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "full")
    cursor = connection.cursor()
    ids = count(1)
    insert = "INSERT INTO task (id, name, data, available, owner) VALUES (?, ?, ?, ?, ?)"

    def add() -> None:
        for _ in range(BATCHES):
            with connection:
                cursor.executemany(insert, [(next(ids), "g", DATA, 1, 1) for _ in range(BATCH)])

    def claim() -> None:
        for _ in range(BATCHES):
            with connection:
                rows = cursor.execute(
                    "SELECT id, name, data FROM task WHERE name = 'g' AND available <= 5 ORDER BY available LIMIT ?",
                    (BATCH,),
                ).fetchall()
                cursor.executemany("DELETE FROM task WHERE id = ?", [row[:1] for row in rows])
                cursor.executemany(insert, [(next(ids), name, data, 10**18, 1) for _, name, data in rows])

    def delete() -> None:
        for first in range(BATCH * BATCHES + 1, 2 * BATCH * BATCHES, BATCH):
            with connection:
                cursor.executemany("DELETE FROM task WHERE id = ?", [(id,) for id in range(first, first + BATCH)])

    seconds = {work.__name__: timed(work) for work in (add, claim, delete)}
    connection.close()
    return seconds
