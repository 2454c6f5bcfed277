"""The durable server, against the same HTTP front with a constant answer and against the disk."""

import contextlib
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks import load, servers
from benchmarks.report import Figure

SECONDS = 3.0
MILLION = 1_000_000
WAITERS = 1_000


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """All figures of the server."""
    yield from throughput(runs, directory)
    yield adds(runs, directory)
    yield from a_million(runs, directory)
    yield beside_a_listing(runs, directory)
    yield from waiting(runs, directory)


def throughput(runs: int, directory: Path) -> Iterator[Figure]:
    """Claims and deletions, at 64 connections, at eight and at one."""
    targets = {64: 0.5, 8: None}
    values, ratios = {number: list[float]() for number in targets}, {number: list[float]() for number in targets}
    singles, alone = [], []
    with fresh(directory, tasks=500_000 * runs // 3 + 200_000) as (ours, _), servers.constant() as theirs:
        for _ in range(runs):
            for number in targets:
                reference = load.run(theirs, "claim", connections=number, seconds=SECONDS)
                values[number].append(load.run(ours, "cycle", connections=number, seconds=SECONDS).per_second)
                ratios[number].append(values[number][-1] / reference.per_second)
            empty = load.run(theirs, "claim", connections=1, seconds=SECONDS)
            single = load.run(ours, "cycle", connections=1, seconds=SECONDS)
            allowed = 1 / (fsync_s(directory) + 1 / empty.per_second)
            singles.append(single.per_second)
            alone.append(single.per_second / allowed)
    for number, target in targets.items():
        ratio = statistics.median(ratios[number])
        wanted, met = ("", None) if target is None else (f">= {target}", ratio >= target)
        yield Figure(f"claim + delete, {number} connections", statistics.median(values[number]), "requests/s",
                     "the same front, constant answer", ratio, wanted, met)  # fmt: skip
    ratio = statistics.median(alone)
    yield Figure("claim + delete, 1 connection", statistics.median(singles), "requests/s",
                 "one fsync + one empty round trip", ratio, ">= 0.6", ratio >= 0.6)  # fmt: skip


def adds(runs: int, directory: Path) -> Figure:
    """Adds in updates of a hundred."""
    values = []
    for _ in range(runs):
        with fresh(directory) as (url, _):
            values.append(load.run(url, "add", connections=8, seconds=SECONDS).per_second * 100)
    value = statistics.median(values)
    return Figure("adds, 100 in an update, 8 connections", value, "tasks/s", target=">= 100,000", met=value >= 1e5)


def a_million(runs: int, directory: Path) -> Iterator[Figure]:
    """Start and memory with a million tasks."""
    path = directory / "million.db"
    with servers.store(path) as (url, _):
        fill(url, MILLION)
    starts, sizes = [], []
    for _ in range(runs):
        begun = time.perf_counter()
        with servers.store(path) as (url, pid):
            httpx.get(f"{url}/group/{load.GROUP}", params={"limit": 1}).raise_for_status()
            starts.append(time.perf_counter() - begun)
            load.run(url, "claim", connections=16, seconds=SECONDS)
            sizes.append(resident_mb(pid))
    start, size = statistics.median(starts), statistics.median(sizes)
    yield Figure("start to first answer, 1,000,000 tasks", start, "s", target="< 1", met=start < 1)
    yield Figure("resident after claims, 1,000,000 tasks", size, "MB", target="< 150", met=size < 150)


def beside_a_listing(runs: int, directory: Path) -> Figure:
    """Claims while a listing of 100,000 tasks streams."""
    with fresh(directory, tasks=100_000) as (url, _):
        httpx.post(f"{url}/update", json={"clientid": 1, "adds": [{"group": "listed", "data": load.DATA}] * 1})
        ratios, values = [], []
        for _ in range(runs):
            without = load.run(url, "claim", connections=8, seconds=SECONDS)
            with listing(url):
                beside = load.run(url, "claim", connections=8, seconds=SECONDS)
            values.append(beside.p99_ms)
            ratios.append(beside.p99_ms / without.p99_ms)
    ratio = statistics.median(ratios)
    return Figure("p99 of claims beside a listing of 100,000", statistics.median(values), "ms",
                  "without it", ratio, "<= 3", ratio <= 3)  # fmt: skip


def waiting(runs: int, directory: Path) -> Iterator[Figure]:
    """What a thousand claims cost that wait for a task, each on a connection of its own."""
    with fresh(directory) as (url, pid), contextlib.ExitStack() as connections:
        address, before = urlsplit(url), resident_mb(pid)
        claim = load.post("/claim", {"clientid": 1, "group": "nothing", "duration": 10**9, "wait": 3_600 * 10**9})
        for _ in range(WAITERS):
            connection = socket.create_connection((address.hostname or "", address.port or 0))
            connections.enter_context(connection).sendall(claim)
        time.sleep(SECONDS)
        shares = []
        for _ in range(runs):
            begun, used = time.perf_counter(), processor_s(pid)
            time.sleep(SECONDS)
            shares.append((processor_s(pid) - used) / (time.perf_counter() - begun))
        share, size = statistics.median(shares) * 100, resident_mb(pid)
    yield Figure("1,000 claims that wait, idle", share, "% of a core", target="< 1", met=share < 1)
    yield Figure("resident with 1,000 claims that wait", size, "MB", "an idle server", size / before)
    yield Figure("what these claims take of it", size - before, "MB", target="< 50", met=size - before < 50)


@contextmanager
def listing(url: str) -> Iterator[None]:
    """Read the whole group over and over, beside something else."""
    stop = threading.Event()

    def read() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                client.get(f"{url}/group/{load.GROUP}", params={"owned": "true"}).raise_for_status()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join()


@contextmanager
def fresh(directory: Path, tasks: int = 0) -> Iterator[tuple[str, int]]:
    """A server on an empty file, with some tasks in it."""
    with tempfile.TemporaryDirectory(dir=directory) as own, servers.store(Path(own) / "store.db") as (url, pid):
        fill(url, tasks)
        yield url, pid


def fill(url: str, tasks: int, groups: int = 1) -> None:
    """Add tasks, in updates of 5,000, to one group or to many."""
    names = [load.GROUP] if groups == 1 else [f"{load.GROUP}{n}" for n in range(groups)]
    with httpx.Client(timeout=60) as client:
        for first in range(0, tasks, 5_000):
            adds = [
                {"group": names[n % len(names)], "data": load.DATA} for n in range(first, min(first + 5_000, tasks))
            ]
            client.post(f"{url}/update", json={"clientid": 1, "adds": adds}).raise_for_status()


def fsync_s(directory: Path, times: int = 500) -> float:
    """How long it takes to append 8 KiB to a file and to have it on disk; the median, in seconds."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(times):
            begun = time.perf_counter()
            os.write(file.fileno(), bytes(8192))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def processor_s(pid: int) -> float:
    """The processor time that a process has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in MB of a million bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
