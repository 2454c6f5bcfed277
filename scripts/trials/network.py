"""Clients and workers whose messages a bad network loses, delays, cuts and doubles, and the judgement of it.

There are two parts, each before a real server on a file, which is killed now and then. In the first one clients do all
that they can do, through `proxy`, and every call is judged. In the second one workers are killed as well; see `relay`.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from taskstore.server.messages import Claim
from trials import relay
from trials.callers import IDS, TICK_NS, Async, Blocking, Book
from trials.connection import Connection, UnexpectedError
from trials.crash import TroubleError
from trials.history import Call, Listing
from trials.judge import violations
from trials.proxy import FAULTS, Fault, Proxy, told
from trials.served import TASKSTORE, Server

THREADS: Final = 5
"""How many threads call over each sender."""
TASKS: Final = 3
"""How many asynchronous tasks do."""
ROUND: Final = 1_000
"""After how many calls all is read, and what is unknown comes to an end."""
TOLD_S: Final = 10.0
"""How often it is told how far it is."""
SHOWN: Final = 10
"""How many violations are told."""


@dataclass
class Summary:
    """What the first part has come to."""

    calls: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    kills: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.calls:,} calls ({self.acknowledged:,} acknowledged, {self.refused:,} refused, {self.unknown:,} "
            f"unknown), {self.kills} kills of the server; {told(self.faults)}; {len(self.violations)} violations"
        )


class Trial:
    """A store that clients work on through a bad network.

    Args:
        directory: Where its file is, and the server's log.
        seed: Decides what is asked, and about what happens to it.
        faults: To which part of the messages something happens.
        server: What Python runs as the server, in place of the real one.
    """

    def __init__(
        self, directory: Path, seed: int, *, faults: float = FAULTS, server: Sequence[str] = TASKSTORE
    ) -> None:
        self._server = Server(directory, server)
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        self._book = Book(self._rng)
        self._faults = faults
        self._kills = 0
        self._proxy = Proxy(0, self._rng, 0)

    async def run(self, calls: int, kills: int, tell: Callable[[Summary], None]) -> Summary:
        """Make so many calls, and kill the server so many times meanwhile."""
        trouble: list[str] = []
        try:
            await self._run(calls, kills, tell)
        except (TroubleError, UnexpectedError, OSError, EOFError) as error:
            trouble.append(f"{type(error).__name__}: {error}")
        found = await asyncio.to_thread(violations, self._book.history)
        return self.summary([*trouble, *self._book.complaints, *map(str, found)])

    def summary(self, found: list[str] | None = None) -> Summary:
        """What it has come to."""
        told, faults = self._book.outcomes, self._proxy.counts
        return Summary(told.total(), told["done"], told["refused"], told["unknown"], self._kills, faults, found or [])

    async def _run(self, calls: int, kills: int, tell: Callable[[Summary], None]) -> None:
        await self._server.start()
        self._proxy = Proxy(self._server.port, self._rng, self._faults).start()
        url = f"http://127.0.0.1:{self._proxy.port}"
        blocking = [Blocking(self._book, url, "httpx"), Blocking(self._book, url, "fast")]
        in_loop = [Async(self._book, url, "httpx"), Async(self._book, url, "fast")]
        with ThreadPoolExecutor(THREADS * len(blocking)) as pool:
            try:
                await self._rounds(calls, kills, lambda: self._work(pool, blocking, in_loop), tell)
            finally:
                self._book.allow(0)  # so that no thread goes on after a failure
        for each in blocking:
            each.close()
        for caller in in_loop:
            await caller.close()
        await self._proxy.stop()
        await self._take_all()
        await self._server.stop()

    async def _rounds(
        self, calls: int, kills: int, work: Callable[[], "asyncio.Future[list[None]]"], tell: Callable[[Summary], None]
    ) -> None:
        """Have so many calls made, and stop now and then to read everything."""
        rounds = max(1, calls // ROUND)
        fatal = Counter(self._rng.choices(range(rounds), k=kills))
        for number in range(rounds):
            self._book.allow(calls // rounds)
            working = work()
            for _ in range(fatal[number]):
                await self._kill(calls // rounds // fatal[number])
            await working
            await self._look()
            tell(self.summary())
            if self._book.complaints:
                break

    def _work(
        self, pool: ThreadPoolExecutor, blocking: list[Blocking], in_loop: list[Async]
    ) -> "asyncio.Future[list[None]]":
        """Have everybody make calls until there is nothing more to do."""
        loop = asyncio.get_running_loop()
        return asyncio.gather(
            *(loop.run_in_executor(pool, each.work, number) for each in blocking for number in range(THREADS)),
            *(each.work(number) for each in in_loop for number in range(TASKS)),
        )

    async def _kill(self, calls: int) -> None:
        """Kill the server somewhere among so many calls, and start it again."""
        until = len(self._book.history) + self._rng.randrange(calls)
        while len(self._book.history) < until and not self._book.is_over:  # noqa: ASYNC110 - there are many who make it grow
            await asyncio.sleep(0.002)
        await self._server.kill()
        self._kills += 1
        await self._server.start()

    async def _look(self) -> None:
        """Read everything, once nothing is under way any more."""
        await self._proxy.drained()
        self._book.settle(self._proxy.fates())
        await self._ask(Listing(None))

    async def _take_all(self) -> None:
        """Nothing is stuck: once all leases have ended, everything there is can be claimed."""
        await asyncio.sleep(20 * TICK_NS / 1e9)
        groups = [f"g{number}" for number in range(6)]
        there = await self._ask(Listing(None))
        taken = await self._ask(Claim(IDS[0], duration=TICK_NS, groups=groups, limit=10_000))
        if len(taken.claimed) != len(there.answer if isinstance(there.answer, list) else ()):
            self._book.complaints.append(f"of {there.answer} only {taken.claimed} could be claimed in the end")

    async def _ask(self, request: Claim | Listing) -> Call:
        """Ask the server itself."""
        connection = await Connection.to(self._server.port)
        call = self._book.begin("on the spot", request)
        self._book.end(call, await connection.ask(request))
        connection.close()
        return call


def main() -> int:
    """What scripts/network does, in the environment that it has made ready."""
    parser = argparse.ArgumentParser()
    for name in ("calls", "kills", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    logging.getLogger("taskstore").setLevel(logging.ERROR)  # That a server is away for a while is no news here.
    directory = Path(tempfile.mkdtemp(prefix="taskstore-network-"))
    found = 0
    for name, summary in _parts(directory, options.calls, options.kills, options.seed):
        print(f"{name}: {summary}", *summary.violations[:SHOWN], sep="\n\n", end="\n\n", flush=True)
        (directory / name / "violations").write_text("\n\n".join(summary.violations))
        found += len(summary.violations)
    if found:
        print(f"all violations, the stores, and what the processes said are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _parts(directory: Path, calls: int, kills: int, seed: int) -> Iterator[tuple[str, Summary | relay.Summary]]:
    """Both parts, each in a directory of its own."""
    for name in ("clients", "workers"):
        (directory / name).mkdir()
    trial = Trial(directory / "clients", seed)
    yield "clients", asyncio.run(trial.run(calls, kills // relay.SERVER_TOO, _Teller()))
    yield "workers", asyncio.run(relay.Relay(directory / "workers", seed).run(kills, _Teller()))


class _Teller:
    """Tells how far it is, from time to time."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def __call__(self, summary: Summary | relay.Summary) -> None:
        if time.monotonic() > self._last_s + TOLD_S:
            self._last_s = time.monotonic()
            print(summary, flush=True)


if __name__ == "__main__":
    sys.exit(main())
