"""Two servers over one PostgreSQL at 32 connections, beside other queues on the same database if installed."""

import asyncio
import statistics
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from benchmarks import load, peers, servers
from benchmarks.report import Figure

SECONDS: Final = 5.0
CONNECTIONS: Final = 32
TASKS: Final = 30_000
CYCLES: Final[dict[str, Callable[[str, int], Coroutine[Any, Any, float]]]] = {
    "procrastinate": peers.procrastinate_cycles,
    "entroq": peers.entroq_cycles,
}


def measure(runs: int, directory: Path) -> Iterator[Figure]:  # noqa: ARG001 - it has a place of its own
    """Claims and deletions a second."""
    import postgresql

    names = [name for name in CYCLES if name in peers.PEERS and peers.PEERS[name].is_here]
    ours, theirs = [], {name: list[float]() for name in names}
    with postgresql.running() as database:
        for run in range(runs):
            ours.append(cycles(f"{database.url}&schema=bench{run}"))
            for name in names:
                theirs[name].append(asyncio.run(CYCLES[name](emptied(database.url, f"{name}{run}"), CONNECTIONS)))
    value = statistics.median(ours)
    what = f"claim + delete, 2 servers, {CONNECTIONS} connections"
    for name in CYCLES:
        if name in theirs:
            other = statistics.median(theirs[name])
            reference = f"{name}, {CONNECTIONS} at once: {other:,.0f}"
            yield Figure(what, value, "cycles/s", reference, value / other, ">= 3", value >= 3 * other)
        else:
            yield Figure(what, value, "cycles/s", f"{name} (not installed)")


def cycles(store: str) -> float:
    """What two servers do over one empty store."""
    with servers.store(store) as (one, _), servers.store(store) as (two, _), ThreadPoolExecutor() as pool:
        adds = [{"group": load.GROUP, "data": load.DATA}] * 5_000
        for _ in range(TASKS // len(adds)):
            httpx.post(f"{one}/update", json={"clientid": 1, "adds": adds}, timeout=60).raise_for_status()
        share = CONNECTIONS // 2
        loads = [pool.submit(load.run, url, "cycle", connections=share, seconds=SECONDS) for url in (one, two)]
        return sum(each.result().per_second for each in loads) / 2  # A cycle is two requests.


def emptied(url: str, name: str) -> str:
    """The URL of a new database on the same server."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
