"""Workers that are killed, and whose messages a bad network strikes, hand numbered tasks from one group to the next.

Each worker is a process of its own. Now and then one is killed where it stands, and at times the server too, which
then starts again on the same file. In the end every number has to be in the last group, once; and each task that a
dead worker had in its hands has to be in other hands soon after its lease has ended.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from taskstore import (
    AsyncHTTPClient,
    AsyncWorker,
    Done,
    HTTPClient,
    HTTPError,
    Move,
    NotSentError,
    OutcomeUnknownError,
    Release,
    TaskInfo,
    Worker,
)
from taskstore.server.messages import Outcome, Task, TaskAdd, Update
from trials.connection import Connection, UnexpectedError
from trials.crash import TroubleError
from trials.history import Listing
from trials.proxy import FAULTS, LONG_S, Fault, Proxy, told
from trials.served import TASKSTORE, Server

GROUPS: Final = ("first", "second", "third", "last")
LEASE_NS: Final = 10**9
SLACK_S: Final = 5.0
"""For the server to start again, and for a message to get through."""
WORKERS: Final = 4
WORKER: Final = ("-m", "trials.relay")
UNDER_WAY: Final = 60
"""How many numbers there are at most that are not yet in the last group: few, so that none has to queue for long."""
SERVER_TOO: Final = 5
"""After how many workers the server is killed, too."""
AGAIN_S: Final = 0.1
"""After what time a worker is started again that could not reach the store."""
LOOK_S: Final = 0.05
LOOKS: Final = 40
PATIENCE_S: Final = 60.0
"""How long it may take until all numbers are where they belong."""


@dataclass
class Summary:
    """What has come of it."""

    numbers: int = 0
    workers: int = 0
    """How many were killed."""
    servers: int = 0
    orphans: int = 0
    """How many tasks the dead workers had in their hands."""
    longest_s: float = 0.0
    """How long after the end of its lease the last of those was taken up."""
    bells: int = 0
    """How many tasks the workers have left behind that they had added for themselves."""
    faults: Counter[Fault] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.numbers:,} tasks through {len(GROUPS)} groups, {self.workers} kills of workers, {self.servers} of "
            f"the server; {self.orphans} leases of the dead, taken up at most {self.longest_s:.2f} s after their end; "
            f"{self.bells} bells left behind; "
            f"{told(self.faults)}; {len(self.violations)} violations"
        )


class Relay:
    """Workers, a server, and a bad network between them.

    Args:
        directory: Where the store's file is, and what the processes complain of.
        seed: Decides who is killed, about when.
        faults: To which part of the messages something happens.
        server: What Python runs as the server, in place of the real one.
        worker: What Python runs as a worker.
        slack_s: How long after the end of a lease a task of a dead worker may still be where it was.
    """

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        faults: float = FAULTS,
        server: Sequence[str] = TASKSTORE,
        worker: Sequence[str] = WORKER,
        slack_s: float = SLACK_S,
    ) -> None:
        self._server = Server(directory, server)
        self._worker = worker
        self._slack_s = slack_s
        self._complaints = directory / "workers.log"
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        self._faults = faults
        self._summary = Summary()
        self._proxy = Proxy(0, self._rng, 0)
        self._workers: dict[int, Process] = {}
        self._hired = 0
        self._held: dict[int, int] = {}
        """When the leases end of what dead workers had in their hands, by the ids of that while it is there."""
        self._orphans = set[int]()

    async def run(self, kills: int, tell: Callable[[Summary], None]) -> Summary:
        """Kill so many workers."""
        try:
            await self._run(kills, tell)
        except (TroubleError, UnexpectedError, OSError, EOFError) as error:
            self._summary.violations.append(f"{type(error).__name__}: {error}")
        finally:
            for worker in self._workers.values():
                worker.kill()
        return self._summary

    async def _run(self, kills: int, tell: Callable[[Summary], None]) -> None:
        await self._server.start()
        self._proxy = Proxy(self._server.port, self._rng, self._faults).start()
        self._summary.faults = self._proxy.counts
        for _ in range(WORKERS):
            await self._hire()
        for number in range(1, kills + 1):
            await self._watch(self._rng.uniform(0.2, 1.0))
            await self._kill_worker()
            if number % SERVER_TOO == 0:
                await self._server.kill()
                self._summary.servers += 1
                await self._server.start()
            tell(self._summary)
        await self._finish()
        await self._dismiss()
        await self._proxy.stop()
        await self._server.stop()

    # Workers

    async def _hire(self) -> None:
        self._hired += 1
        client, variables = 1000 + self._hired, os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = (*self._worker, f"http://127.0.0.1:{self._proxy.port}", str(client))
        with self._complaints.open("ab") as file:
            worker = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=file, env=variables)
        self._workers[client] = worker

    async def _kill_worker(self) -> None:
        """Kill one, and note what it had in its hands, or gets by a message that is still under way."""
        client = await self._victim()
        worker = self._workers.pop(client)
        if worker.returncode is not None:
            raise TroubleError(f"a worker ended by itself: {self._complaints.read_text()[-1000:]}")
        worker.kill()
        await worker.wait()
        self._summary.workers += 1
        await self._hire()
        # A claim that it has sent may still come through, so what it holds is known only later.
        until_ns = time.time_ns() + int(LONG_S * 1e9) + LEASE_NS
        await self._note_held(client, until_ns)
        await asyncio.sleep(LONG_S)
        await self._note_held(client, until_ns)

    async def _victim(self) -> int:
        """A worker that has something in its hands; if there is none for a while, any."""
        for _ in range(LOOKS):
            busy = {task.owner for task in await self._tasks() if task.attempts}
            if at_work := sorted(busy.intersection(self._workers)):
                return self._rng.choice(at_work)
            await asyncio.sleep(LOOK_S)
        return self._rng.choice(list(self._workers))

    async def _note_held(self, client: int, until_ns: int) -> None:
        now = time.time_ns()
        for task in await self._tasks():
            if task.owner == client and task.attempts and task.available > now:
                self._held[task.id] = min(task.available, until_ns)
                self._orphans.add(task.id)
        self._summary.orphans = len(self._orphans)

    async def _dismiss(self) -> None:
        """Have the workers end well, which they do once their last messages got through; or had not yet begun."""
        for worker in self._workers.values():
            worker.send_signal(signal.SIGTERM)
        codes = [await worker.wait() for worker in self._workers.values()]
        if not {0, -signal.SIGTERM}.issuperset(codes):
            raise TroubleError(f"workers ended with {codes}: {self._complaints.read_text()[-1000:]}")
        self._workers.clear()
        connection = await Connection.to(self._server.port)
        everything = await connection.ask(Listing(None))
        connection.close()
        # Where the answer to a worker's last claim was lost for longer than it is repeated, its bell stays: a task that
        # wakes that claim, of which nobody knows the id. No promise of the store speaks of that, so it is only counted.
        assert isinstance(everything, list)
        self._summary.bells = sum(task is not None and task.group not in GROUPS for task in everything)

    # Tasks

    async def _watch(self, seconds: float) -> None:
        """Let time pass, see to it that there is work, and look after what dead workers had."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            there = await self._tasks()
            self._look_after({task.id for task in there})
            await self._add(UNDER_WAY - sum(task.group in GROUPS[:-1] for task in there))
            await asyncio.sleep(LOOK_S)

    def _look_after(self, there: set[int]) -> None:
        now = time.time_ns()
        for id, until_ns in list(self._held.items()):
            late_s = (now - until_ns) / 1e9
            if id not in there:
                self._summary.longest_s = max(self._summary.longest_s, late_s)
                del self._held[id]
            elif late_s > self._slack_s:
                self._summary.violations.append(f"task {id} is stuck: its worker is dead, and it still has its lease")
                del self._held[id]

    async def _add(self, number: int) -> None:
        numbers = range(self._summary.numbers, self._summary.numbers + number)
        if numbers:
            adds = [TaskAdd(GROUPS[0], str(each)) for each in numbers]
            connection = await Connection.to(self._server.port)
            answer = await connection.ask(Update(1, adds))
            connection.close()
            assert isinstance(answer, Outcome)
            self._summary.numbers += len(answer.tasks)

    async def _tasks(self, groups: Sequence[str] = GROUPS[:-1]) -> list[Task]:
        """What is in some groups, as the server itself says."""
        connection = await Connection.to(self._server.port)
        answers = [await connection.ask(Listing(group)) for group in groups]
        connection.close()
        return [task for answer in answers if isinstance(answer, list) for task in answer if task]

    async def _finish(self) -> None:
        """Wait until all numbers are in the last group, and see whether they are."""
        limit = time.monotonic() + PATIENCE_S
        while (there := await self._tasks()) and not self._summary.violations:
            self._look_after({task.id for task in there})
            if time.monotonic() > limit:
                self._summary.violations.append(f"these have not arrived: {there}")
            await asyncio.sleep(LOOK_S)
        if self._summary.violations:
            return
        self._look_after(set())
        times = Counter(int(task.data) for task in await self._tasks(GROUPS[-1:]))
        lost = [number for number in range(self._summary.numbers) if number not in times]
        twice = [number for number, count in times.items() if count > 1]
        self._summary.violations += [f"{each} is lost" for each in lost] + [f"{each} is there twice" for each in twice]


# A worker


def pass_on(task: TaskInfo) -> Done | Move | Release:
    """Hand a number on to the next group, mostly at once."""
    chance = random.random()  # noqa: S311 - not for secrets
    if chance < 0.02:
        return Release()
    # The slowest take longer than a lease lasts, which has to be renewed.
    time.sleep(chance * LEASE_NS * 1.5 / 1e9 if chance > 0.98 else chance * 0.01)
    group = GROUPS[GROUPS.index(task.group) + 1]
    return Move(group) if chance < 0.5 else Done(adds=[TaskInfo(group, task.data)])


async def pass_on_async(task: TaskInfo) -> Done | Move | Release:
    """Async twin of `pass_on`."""
    return await asyncio.to_thread(pass_on, task)


async def work_async(url: str, client_id: int) -> None:
    """Be an asynchronous worker."""
    async with AsyncHTTPClient(url, client_id=client_id, transport="fast") as client:
        await AsyncWorker(
            client, GROUPS[:-1], pass_on_async, lease=LEASE_NS, concurrency=4, batch=20, max_attempts=None
        ).run()


def work(url: str, client_id: int) -> None:
    """Be a worker in threads."""
    with HTTPClient(url, client_id=client_id, transport="fast" if client_id % 2 else "httpx") as client:
        Worker(client, GROUPS[:-1], pass_on, lease=LEASE_NS, concurrency=4, batch=20, max_attempts=None).run()


def main() -> None:
    """Be a worker, of one colour or the other."""
    logging.disable(logging.WARNING)  # of which a bad network gives many
    url, client_id = sys.argv[1], int(sys.argv[2])
    while True:
        try:
            return work(url, client_id) if client_id % 3 else asyncio.run(work_async(url, client_id))
        except (NotSentError, OutcomeUnknownError, HTTPError):
            # It could not reach the store in the beginning, which a worker reports, and is started again for.
            time.sleep(AGAIN_S)


if __name__ == "__main__":
    main()
