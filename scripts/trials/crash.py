"""Kills a real server, again and again, while clients work on it, and judges all that they were told.

The server is a process of its own on a file of its own, and is killed where it stands: under load, between two
answers, while it starts. It is started on the same file again, everything is read back, and the work goes on. What was
on its way when the server died may have been carried out or not; everything else has to be as it was answered.
"""

import argparse
import asyncio
import pickle
import random
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import apsw

from trials.clients import NUMBER, Clients
from trials.connection import Connection, UnexpectedError, port_of
from trials.history import Call
from trials.judge import violations

KILLED_AT_START: Final = 0.15
"""The part of the servers that are killed before they answer, or just when they do."""
START_SECONDS: Final = 30.0
"""How long a server may take until it answers."""
LOOK_SECONDS: Final = 0.002
"""How often it is looked whether enough was done."""
SHOWN: Final = 10
"""How many violations are told."""


class TroubleError(Exception):
    """A server did what it should not, so the trial cannot go on."""


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


class Server:
    """A server in a process of its own."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = 0

    @classmethod
    async def start(cls, store: str, log: Path) -> Self:
        """Start one; it does not answer yet."""
        command = ("-m", "taskstore", "serve", "--port", "0", "--store", store)
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=file)
        return cls(process, log)

    async def ready(self) -> Self:
        """Wait until it answers."""
        assert self._process.stdout
        said = b""
        with suppress(TimeoutError):
            said = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        self.port = port_of(said) or 0
        if not self.port:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            raise TroubleError(f"a server did not start: {said!r} {self._log.read_text()[-1000:]}")
        return self

    async def kill(self) -> None:
        """Kill it where it stands."""
        if self._process.returncode is not None:
            code, said = self._process.returncode, self._log.read_text()[-1000:]
            raise TroubleError(f"a server ended by itself, with {code}: {said}")
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Have it finish what is under way, and end."""
        self._process.terminate()
        if code := await self._process.wait():
            raise TroubleError(f"after SIGTERM a server ended with {code}: {self._log.read_text()[-1000:]}")


class Trial:
    """A store that clients work on, and whose server is killed.

    Args:
        directory: Where its file is, and the server's log.
        seed: Decides what is asked, and about when a server is killed.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        self._clients = Clients(self._rng)
        self._store = str(directory / "store.db")
        self._kills = 0

    async def run(self, kills: int, operations: int, tell: Callable[[Summary], None]) -> Summary:
        """Kill so many servers, and have them carry out at least so many operations in all."""
        trouble: list[str] = []
        try:
            await self._run(kills, operations, tell)
        except (TroubleError, UnexpectedError, OSError, EOFError) as error:
            trouble.append(f"{type(error).__name__}: {error}")
        return self.summary([*trouble, *self._clients.complaints, *map(str, violations(self._clients.history))])

    @property
    def history(self) -> list[Call]:
        """What was asked and told so far."""
        return self._clients.history

    def summary(self, found: list[str] | None = None) -> Summary:
        """What it has come to."""
        operations, refused, unknown = self._clients.operations, self._clients.refused, self._clients.unknown
        return Summary(self._kills, operations, operations - refused - unknown, refused, unknown, found or [])

    async def _run(self, kills: int, operations: int, tell: Callable[[Summary], None]) -> None:
        while self._kills < kills and not self._clients.complaints:
            if self._rng.random() < KILLED_AT_START:
                server = await self._start()
                await asyncio.sleep(self._rng.random() * 0.5)
                await server.kill()
            else:
                await self._kill_under_load(self._share(operations, kills))
            self._kills += 1
            tell(self.summary())
        await self._end(operations)

    def _share(self, operations: int, kills: int) -> int:
        """By how many operations the next server is to be killed: at random, and in the end there were enough."""
        left = max(0, operations - self._clients.operations)
        return self._clients.operations + 1 + int(2 * self._rng.random() * left / (kills - self._kills))

    async def _start(self) -> Server:
        return await Server.start(self._store, self._directory / "server.log")

    async def _kill_under_load(self, until: int) -> None:
        server = await (await self._start()).ready()
        work = await self._work_on(server)
        await self._done(until, work)
        await asyncio.sleep(self._rng.random() * 0.003)
        await server.kill()
        await work
        self._clients.settle()

    async def _work_on(self, server: Server) -> "asyncio.Future[list[None]]":
        """Read everything back, then have the clients work."""
        connections = [await Connection.to(server.port) for _ in range(NUMBER)]
        await self._clients.look(connections[0], "the start")
        return asyncio.gather(*(self._clients.work(each, number) for number, each in enumerate(connections)))

    async def _done(self, until: int, work: "asyncio.Future[list[None]]") -> None:
        """Wait until there were so many operations, or nobody works any more."""
        while self._clients.operations < until and not (self._clients.is_over or work.done()):  # noqa: ASYNC110 - a number
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, operations: int) -> None:
        """Once more without a kill: whether it ends well, and whether the file is sound."""
        server = await (await self._start()).ready()
        work = await self._work_on(server)
        await self._done(operations, work)
        self._clients.is_over = True
        await work
        connection = await Connection.to(server.port)
        await self._clients.look(connection, "the end")
        connection.close()
        await server.stop()
        with apsw.Connection(self._store) as file:
            if (found := file.pragma("integrity_check")) != "ok":
                raise TroubleError(f"the file is damaged: {found}")


def main() -> int:
    """What scripts/crash does, in the environment that it has made ready."""
    parser = argparse.ArgumentParser()
    for name in ("kills", "operations", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="taskstore-crash-"))
    trial = Trial(directory, options.seed)
    summary = asyncio.run(trial.run(options.kills, options.operations, _tell))
    print(summary, *summary.violations[:SHOWN], sep="\n\n")
    if summary.violations:
        (directory / "violations").write_text("\n\n".join([f"seed {options.seed}", *summary.violations]))
        # To be judged again: trials.judge.violations(pickle.loads(...)).
        (directory / "history.pickle").write_bytes(pickle.dumps(trial.history))
        print(f"\nall violations, the history, the store and the server's log are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _tell(summary: Summary) -> None:
    if sys.stdout.isatty():
        print(f"{summary}", end="\r", flush=True)
    elif summary.kills % 50 == 0:
        print(summary, flush=True)


if __name__ == "__main__":
    sys.exit(main())
