"""One worker process with a handler that does nothing, over the durable server, beside other queues if installed."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks import peers
from benchmarks.load import GROUP
from benchmarks.report import Figure
from benchmarks.server import fresh
from taskstore import Done, HTTPClient, TaskInfo, TaskStoreError, Worker

TASKS: Final = 200_000
ENTROQ: Final = 367
"""Cycles a second with a follow-up task of EntroQ, on PostgreSQL, when that was measured."""
LEASE: Final = timedelta(seconds=60)


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """All figures of the worker."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[peers.Rates]] = {name: [] for name, peer in peers.PEERS.items() if peer.is_here}
    for run in range(runs):
        for name, value in round_of_ours(directory).items():
            ours.setdefault(name, []).append(value)
        for name, rates in theirs.items():
            own = directory / f"{name}{run}"
            own.mkdir()
            rates.append(peers.PEERS[name].measure(own))
    yield from figures({name: statistics.median(values) for name, values in ours.items()}, theirs)


def figures(ours: dict[str, float], theirs: dict[str, list[peers.Rates]]) -> Iterator[Figure]:
    """The report."""

    def median(name: str, of: Callable[[peers.Rates], float | None]) -> float | None:
        values = [value for value in map(of, theirs.get(name, [])) if value is not None]
        return statistics.median(values) if values else None

    batched = median("pgqueuer", lambda rates: rates.batched)
    yield against("worker, no-op handler", ours["batched"], batched, "pgqueuer, batches of 100", at_least=1.2)
    value = ours["batched"]
    yield Figure("worker, no-op handler", value, "tasks/s", target=">= 20,000", met=value >= 20_000)
    value = ours["one by one"]
    yield Figure("worker, one by one", value, "tasks/s", "a loop of steps", value / ours["loop"], ">= 1,500",
                 value >= 1_500)  # fmt: skip
    value = ours["follow-up"]
    yield Figure("worker, one follow-up task each", value, "tasks/s", "EntroQ's 367", value / ENTROQ, ">= 10",
                 value >= 10 * ENTROQ)  # fmt: skip
    for name in theirs:
        one = median(name, lambda rates: rates.one_by_one)
        yield against("worker, no-op handler", ours["batched"], one, f"{name}, one by one")
    for name, of in (("p50", lambda rates: rates.p50_ms), ("p99", lambda rates: rates.p99_ms)):
        yield dispatch(name, ours[name], median("beanstalkd", of))


def against(what: str, value: float, other: float | None, reference: str, at_least: float | None = None) -> Figure:
    """A rate beside that of somebody else."""
    if not other:
        return Figure(what, value, "tasks/s", f"{reference} (not installed)")
    ratio = value / other
    met = None if at_least is None else ratio >= at_least
    return Figure(what, value, "tasks/s", reference, ratio, "" if at_least is None else f">= {at_least}", met)


def dispatch(name: str, value: float, other: float | None) -> Figure:
    """How long a task takes to a worker that waits."""
    what = f"add to receipt by a waiting worker, {name}"
    if not other:
        return Figure(what, value, "ms", "beanstalkd (not installed)")
    return Figure(what, value, "ms", "beanstalkd with fsync", value / other, "<= 1", value <= other)


def round_of_ours(directory: Path) -> dict[str, float]:
    """Everything of ours once."""
    with fresh(directory, tasks=TASKS) as (url, _), connected(url) as client:
        batched = worked(client, lambda _: None)
        one_by_one = worked(client, lambda _: None, batch=1)
        loop = looped(client)
    with fresh(directory, tasks=TASKS) as (url, _), connected(url) as client:
        follow_up = worked(client, lambda task: Done(adds=[TaskInfo("next", task.data)]))
    with fresh(directory) as (url, _), connected(url) as client:
        p50, p99 = dispatched(client, url)
    return {
        "batched": batched,
        "one by one": one_by_one,
        "loop": loop,
        "follow-up": follow_up,
        "p50": p50,
        "p99": p99,
    }


def connected(url: str) -> HTTPClient:
    """A client with the fast sender, if it is installed."""
    try:
        return HTTPClient(url, transport="fast")
    except TaskStoreError as error:
        print(f"without the fast sender: {error}", file=sys.stderr)
        return HTTPClient(url)


def worked(client: HTTPClient, handler: Callable[[TaskInfo], Done | None], **options: Any) -> float:
    """Tasks a second, over some seconds or until there is none."""
    ends_s = time.perf_counter() + peers.SECONDS

    def timed(task: TaskInfo) -> Done | None:
        if time.perf_counter() > ends_s:
            worker.stop()
        return handler(task)

    worker = Worker(client, GROUP, timed, lease=LEASE, **options)
    begun = time.perf_counter()
    progress = worker.run(until_empty=True)
    return progress.done / (time.perf_counter() - begun)


def looped(client: HTTPClient) -> float:
    """The least that one by one can take: a loop that deletes a task and claims the next one in a step."""
    held = list(client.claim_batch(GROUP, LEASE, 1))

    def cycle() -> int:
        held[:] = client.step(deletes=held, group=GROUP, duration=LEASE).claimed
        return len(held)

    return peers.rate(cycle)


def dispatched(client: HTTPClient, url: str) -> tuple[float, float]:
    """From an add by another process to its receipt by a worker that waits: p50 and p99 in milliseconds."""
    latencies: list[int] = []

    def receive(task: TaskInfo) -> None:
        latencies.append(time.monotonic_ns() - int(task.data))
        if len(latencies) == peers.LATENCIES:
            worker.stop()

    worker = Worker(client, GROUP, receive, lease=LEASE)
    with peers.adding(adder, url):
        worker.run()
    return peers.percentiles(latencies)


def adder(url: str) -> Callable[[str], object]:
    """What adds a task to our store."""
    client = connected(url)
    return lambda data: client.update(adds=[TaskInfo(GROUP, data, 0)])
