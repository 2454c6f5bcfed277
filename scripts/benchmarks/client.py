"""The client: what it costs over httpx, and what the fast sender saves.

Everything that is compared is measured in turns of a fraction of a second, so that whatever else the machine does falls
on all of it alike. Of a call that is quick, most of the time may pass until an idle processor wakes up, twice; so the
time that the client's own processor spends is told too, and what a bare socket does that only waits for its answer.
"""

import asyncio
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import load, servers
from benchmarks.report import Figure
from benchmarks.server import fresh
from taskstore import AsyncHTTPClient, HTTPClient, TaskInfo

TURN_S: Final = 0.25
TURNS: Final = 4
"""Turns of each kind in a run."""
LEASE: Final = timedelta(minutes=1)
BATCH: Final = 1_000
AT_ONCE: Final = 16
ENTROQ: Final = 0.64
"""What EntroQ's HTTP client adds against a constant answer, as a share of raw httpx: 1,000 where that made 1,560."""
LISTED: Final = 100


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """All figures of the client."""
    yield from calls(runs)
    yield from calls_at_once(runs)
    yield from lists(runs, directory)
    yield from enqueuing(runs, directory)


def calls(runs: int) -> Iterator[Figure]:
    """The same claim by httpx alone, by the client, and by the client with the fast sender; and adds one by one."""
    with (
        servers.constant() as url,
        httpx.Client() as http,
        HTTPClient(url) as default,
        HTTPClient(url, transport="fast") as fast,
        bare_socket(url) as bare,
    ):
        body = {"clientid": 1, "group": load.GROUP, "duration": 60_000_000_000, "depends": []}

        def raw() -> object:
            return http.post(f"{url}/claim", json=body).raise_for_status().json()

        busy: dict[str, list[float]] = {}
        seconds = in_turns(
            runs,
            {
                "raw": raw,
                "bare": bare,
                "default": lambda: default.claim(load.GROUP, LEASE),
                "fast": lambda: fast.claim(load.GROUP, LEASE),
                "add": lambda: fast.update(adds=[TaskInfo(load.GROUP, load.DATA)]),
            },
            busy,
        )
    overhead, speed = ratio(seconds["default"], seconds["raw"]), ratio(seconds["raw"], seconds["fast"])
    yield Figure("claim by the default client", 1e6 * statistics.median(seconds["default"]), "us each",
                 "raw httpx, same call", overhead, "<= 1.10", overhead <= 1.1)  # fmt: skip
    yield Figure("claim by the fast sender", 1 / statistics.median(seconds["fast"]), "calls/s",
                 "raw httpx, same call", speed, ">= 5", speed >= 5)  # fmt: skip
    yield Figure("the same by a bare socket", 1 / statistics.median(seconds["bare"]), "calls/s",
                 "raw httpx, same call", ratio(seconds["raw"], seconds["bare"]))  # fmt: skip
    yield Figure("processor time of such a claim", 1e6 * statistics.median(busy["fast"]), "us each",
                 "raw httpx, same call", ratio(busy["fast"], busy["raw"]), "<= 0.2",
                 ratio(busy["fast"], busy["raw"]) <= 0.2)  # fmt: skip
    speed = ratio(seconds["raw"], seconds["add"]) / ENTROQ
    yield Figure("add by the fast sender", 1 / statistics.median(seconds["add"]), "calls/s",
                 "EntroQ's HTTP client", speed, ">= 3", speed >= 3)  # fmt: skip


def calls_at_once(runs: int) -> Iterator[Figure]:
    """The same claim by many tasks of an event loop, so that none waits for a processor to wake up."""
    with servers.constant() as url, asyncio.Runner() as runner:
        http, default = httpx.AsyncClient(), AsyncHTTPClient(url)
        fast = AsyncHTTPClient(url, transport="fast")
        body = {"clientid": 1, "group": load.GROUP, "duration": 60_000_000_000, "depends": []}

        async def raw() -> object:
            return (await http.post(f"{url}/claim", json=body)).raise_for_status().json()

        async def all_at_once(call: Callable[[], Awaitable[object]]) -> None:
            await asyncio.gather(*(call() for _ in range(AT_ONCE)))

        seconds = in_turns(
            runs,
            {
                "raw": lambda: runner.run(all_at_once(raw)),
                "default": lambda: runner.run(all_at_once(lambda: default.claim(load.GROUP, LEASE))),
                "fast": lambda: runner.run(all_at_once(lambda: fast.claim(load.GROUP, LEASE))),
            },
        )
        for close in (http.aclose, default.aclose, fast.aclose):
            runner.run(close())
    for sender, target in (("default", 1 / 1.1), ("fast", 5)):
        value, speed = AT_ONCE / statistics.median(seconds[sender]), ratio(seconds["raw"], seconds[sender])
        yield Figure(f"async, {AT_ONCE} at once, {sender} sender", value, "calls/s",
                     "raw httpx, same calls", speed, f">= {target:.2g}", speed >= target)  # fmt: skip


def lists(runs: int, directory: Path) -> Iterator[Figure]:
    """Lists of a hundred tasks, which have to be checked one by one."""
    with (
        fresh(directory, tasks=LISTED) as (url, _),
        httpx.Client() as http,
        HTTPClient(url) as default,
        HTTPClient(url, transport="fast") as fast,
    ):

        def raw() -> object:
            return http.get(f"{url}/group/{load.GROUP}").raise_for_status().json()

        seconds = in_turns(
            runs,
            {"raw": raw, "default": lambda: default.group(load.GROUP), "fast": lambda: fast.group(load.GROUP)},
        )
    for sender in ("default", "fast"):
        name = f"list of {LISTED} by the {sender} sender"
        value, times = 1e6 * statistics.median(seconds[sender]), ratio(seconds[sender], seconds["raw"])
        yield Figure(name, value, "us each", "raw httpx and json", times)


def enqueuing(runs: int, directory: Path) -> Iterator[Figure]:
    """What one process gets into a durable store, one by one and by the thousand."""
    thousand = [TaskInfo(load.GROUP, load.DATA) for _ in range(BATCH)]
    with fresh(directory) as (url, _), HTTPClient(url) as default, HTTPClient(url, transport="fast") as fast:
        seconds = in_turns(
            runs,
            {
                "one": lambda: fast.update(adds=thousand[:1]),
                "fast": lambda: fast.update(adds=thousand),
                "default": lambda: default.update(adds=thousand),
            },
        )
    yield Figure("add one by one, fast sender, durable", 1 / statistics.median(seconds["one"]), "calls/s")
    for sender in ("default", "fast"):
        value = BATCH / statistics.median(seconds[sender])
        yield Figure(f"add {BATCH:,} in an update, {sender} sender", value, "tasks/s",
                     target=">= 80,000", met=value >= 80_000)  # fmt: skip


@contextmanager
def bare_socket(url: str) -> Iterator[Callable[[], None]]:
    """A claim that is written once, and an answer of which only the length is looked at: as little as can be."""
    host, port = url.removeprefix("http://").split(":")
    request = load.post("/claim", {"clientid": 1, "group": load.GROUP, "duration": 60_000_000_000, "depends": []})
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call() -> None:
            connection.sendall(request)
            answer = connection.recv(65_536)
            while not answer.endswith(servers.Constant.body):
                answer += connection.recv(65_536)

        yield call


def in_turns(
    runs: int, calls: Mapping[str, Callable[[], Any]], busy: dict[str, list[float]] | None = None
) -> dict[str, list[float]]:
    """How many seconds each call takes, turn by turn; and in `busy` how many of them this process is busy."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(runs * TURNS):
        for name, call in calls.items():
            times, begun, began_work = 0, time.perf_counter(), time.process_time()
            while (took := time.perf_counter() - begun) < TURN_S:
                call()
                times += 1
            seconds[name].append(took / times)
            if busy is not None:
                busy.setdefault(name, []).append((time.process_time() - began_work) / times)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> float:
    """How many times one takes as long as the other, in the median of the turns."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
