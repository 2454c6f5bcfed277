"""Kills a real server, again and again, while clients work on it, and judges all that they were told.

The server is a process of its own on a file of its own, and is killed where it stands: under load, between two
answers, while it starts. It is started on the same file again, everything is read back, and the work goes on. What was
on its way when the server died may have been carried out or not; everything else has to be as it was answered.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw

from trials.connection import Connection, UnexpectedError, port_of
from trials.history import Call, Change, Listing, Request, Silence
from trials.judge import violations
from trials.load import Load

CLIENTS: Final = range(1001, 1007)
CONNECTIONS: Final = 12
"""More than clients, so that some act under the same id at the same time."""
TICK_NS: Final = 10**6
KILLED_AT_START: Final = 0.15
"""The part of the servers that are killed before they answer, or just when they do."""
SHOWN: Final = 10
"""How many violations are told."""
START_SECONDS: Final = 30.0
"""How long a server may take until it answers."""
WAIT_NS: Final = 20 * TICK_NS
KEYED: Final = 0.5
"""The part of the changes that have an idempotency key, and are asked again if the server dies before it answers."""
REPEATED: Final = 0.1
"""The part of those that are asked again although they were answered."""
BAD_INPUT: Final = 0.02
"""The part of the requests that do not keep the contract."""
BAD: Final = (
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}],"deletes":["x"]}'),
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"},{"group":""}]}'),
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}]'),
    ("POST", "/update", b'{"clientid":9999999999,"adds":[{"group":"g0","data":"bad"}]}'),
    ("POST", "/claim", b'{"clientid":1001,"group":"g0","duration":-1}'),
    ("POST", "/claim", b'{"clientid":1001,"group":"g0"}'),
    ("PUT", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}]}'),
    ("GET", "/task/x", b""),
    ("GET", "/tasks/1,,2", b""),
)
"""Requests to be turned away. If one left something behind, the judge would see it, for nobody has added `bad`."""


@dataclass
class Summary:
    """What a trial has come to."""

    kills: int
    operations: int
    acknowledged: int
    refused: int
    unknown: int
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.operations:,} operations ({self.acknowledged:,} acknowledged, "
            f"{self.refused:,} refused, {self.unknown:,} unknown), {len(self.violations)} violations"
        )


class Trial:
    """A store that clients work on, and whose server is killed.

    Args:
        directory: Where the files are.
        seed: Decides what is asked, and about when the server is killed.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.history: list[Call] = []
        self._store = directory / "store.db"
        self._log = directory / "server.log"
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        size = self._rng.choice((20, 120))
        self._load = Load(
            self._rng, clients=CLIENTS, now=time.time_ns, tick=TICK_NS, groups=6, size=size, wait_ns=WAIT_NS
        )
        self._complaints: list[str] = []
        self._unanswered: dict[int, tuple[Call, str]] = {}
        self._kills = 0
        self._bad = 0
        self._started_ns = time.monotonic_ns()

    async def run(self, kills: int, operations: int, tell: Callable[[Summary], None]) -> Summary:
        """Kill so many servers, and have them carry out at least so many operations in all."""
        while self._kills < kills and not self._complaints:
            if self._rng.random() < KILLED_AT_START:
                await self._kill_at_start()
            else:
                left = max(0, operations - self._operations)
                await self._kill_under_load(1 + int(2 * self._rng.random() * left / (kills - self._kills)))
            tell(self.summary())
        if not self._complaints:
            await self._end(max(1, operations - self._operations))
        return self.summary([*self._complaints, *map(str, violations(self.history))])

    def summary(self, found: list[str] | None = None) -> Summary:
        """What it has come to."""
        unknown = sum(call.answer is Silence.UNKNOWN for call in self.history)
        refused = sum(call.error is not None for call in self.history) + self._bad
        operations = self._operations
        return Summary(self._kills, operations, operations - unknown - refused, refused, unknown, found or [])

    async def _kill_at_start(self) -> None:
        server = await self._start()
        await asyncio.sleep(self._rng.random() * 0.5)
        await self._kill(server)

    async def _kill_under_load(self, operations: int) -> None:
        server = await self._start()
        if port := await self._port(server):
            done = asyncio.Event()
            work = asyncio.create_task(self._work(port, operations, done))
            work.add_done_callback(lambda _: done.set())
            await done.wait()
            await asyncio.sleep(self._rng.random() * 0.003)
            await self._kill(server)
            with suppress(OSError, EOFError):
                await work
            self._settle()

    async def _end(self, operations: int) -> None:
        """Once more without a kill: what is there in the end, whether it ends well, and whether the file is sound."""
        server = await self._start()
        if port := await self._port(server):
            await self._work(port, operations, asyncio.Event(), kills=False)
            connection = await Connection.to(port)
            await self._ask(connection, self._new_call("the end", Listing(None)))
            connection.close()
            server.terminate()
            if code := await server.wait():
                self._complain(f"after SIGTERM the server ended with {code}")
            with apsw.Connection(str(self._store)) as file:
                if (found := file.pragma("integrity_check")) != "ok":
                    self._complain(f"the file is damaged: {found}")

    async def _work(self, port: int, operations: int, done: asyncio.Event, *, kills: bool = True) -> None:
        """Read everything back, then have clients work until the server dies; tell when enough is done."""
        connections = [await Connection.to(port) for _ in range(CONNECTIONS)]
        await self._ask(connections[0], self._new_call("the start", Listing(None)))
        until = self._operations + operations

        async def client(number: int) -> None:
            with suppress(OSError, EOFError):
                if lost := self._unanswered.pop(number, None):
                    await self._ask(connections[number], *lost)
                while kills or not done.is_set():
                    await self._act(connections[number], number)
                    if self._operations >= until:
                        done.set()
            connections[number].close()

        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(client(number))

    async def _act(self, connection: Connection, number: int) -> None:
        """Do what the client of a connection does next."""
        client = CLIENTS[number % len(CLIENTS)]
        if self._rng.random() < BAD_INPUT:
            await self._ask_badly(connection)
            return
        call = self._new_call(f"{client}/{number}", self._load.request(client))
        try:
            if isinstance(call.request, Change) and self._rng.random() < KEYED:
                await self._ask_with_key(connection, number, call, f"{len(self.history):016}")
            else:
                await self._ask(connection, call)
        except UnexpectedError as error:
            self._complain(f"{call.request} got {error}")

    async def _ask_with_key(self, connection: Connection, number: int, call: Call, key: str) -> None:
        """Ask what will be asked again if it gets no answer, by the same client, and now and then even if it does."""
        self._unanswered[number] = call, key
        await self._ask(connection, call, key)
        del self._unanswered[number]
        if self._rng.random() < REPEATED and call.was_applied and (call.made or call.consumed):
            again = await connection.ask(call.request, key)
            if again not in (call.answer, Silence.UNKNOWN):
                self._complain(f"asked again, {call} got {again}")

    async def _ask_badly(self, connection: Connection) -> None:
        request = self._rng.choice(BAD)
        status, body = await connection.send(*request)
        self._bad += 1
        if not 400 <= status < 500:
            self._complain(f"{request} got status {status}: {body!r}")

    def _new_call(self, name: str, request: Request) -> Call:
        self.history.append(Call(name, request, self._now_us()))
        return self.history[-1]

    async def _ask(self, connection: Connection, call: Call, key: str | None = None) -> None:
        call.answer = await connection.ask(call.request, key)
        if call.answer is Silence.UNKNOWN:
            raise EOFError  # The server has said that it does not know, and is about to end.
        call.returned = self._now_us()
        self._load.learn(call)

    def _settle(self) -> None:
        """The server is dead: what it has not answered, and will not be asked again, can have no effect from now on."""
        now, asked_again = self._now_us(), [call for call, _ in self._unanswered.values()]
        for call in reversed(self.history):
            if call.returned is None and call not in asked_again:
                call.returned = now
            if call.request == Listing(None):
                break

    async def _start(self) -> Process:
        command = ("-m", "taskstore", "serve", "--port", "0", "--store", str(self._store))
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=log)

    async def _port(self, server: Process) -> int | None:
        assert server.stdout
        said = b""
        with suppress(TimeoutError):
            said = await asyncio.wait_for(server.stdout.readline(), START_SECONDS)
        if (port := port_of(said)) is None:
            self._complain(f"the server did not start: {said!r} {self._log.read_text()[-1000:]}")
            await self._kill(server)
        return port

    async def _kill(self, server: Process) -> None:
        if server.returncode is not None:
            self._complain(f"the server ended by itself, with {server.returncode}: {self._log.read_text()[-1000:]}")
        with suppress(ProcessLookupError):
            server.kill()
        await server.wait()
        self._kills += 1

    @property
    def _operations(self) -> int:
        return len(self.history) + self._bad

    def _complain(self, what: str) -> None:
        self._complaints.append(what)

    def _now_us(self) -> int:
        return (time.monotonic_ns() - self._started_ns) // 1000


def main() -> int:
    """What scripts/crash does, in the environment that it has made ready."""
    parser = argparse.ArgumentParser()
    for name in ("kills", "operations", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="taskstore-crash-"))
    summary = asyncio.run(Trial(directory, options.seed).run(options.kills, options.operations, _tell))
    print(f"\r{summary}", *summary.violations[:SHOWN], sep="\n\n" if summary.violations else "")
    if summary.violations:
        print(f"\nthe store and the server's log are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _tell(summary: Summary) -> None:
    if sys.stdout.isatty():
        print(f"\r{summary}", end="", flush=True)
    elif summary.kills % 50 == 0:
        print(summary, flush=True)


if __name__ == "__main__":
    sys.exit(main())
