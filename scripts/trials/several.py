"""Several servers over one PostgreSQL, while some of it is killed; and the judgement of all that clients were told.

Each client talks to one of the servers. In the middle of each round something is struck down: one of the servers, or
the database, whose standby then takes its place. Whoever can goes on, and in the end all calls of all rounds have to
be what the store promises.
"""

import argparse
import asyncio
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import postgresql
import psycopg
from postgresql import Postgres

from trials import scratch
from trials.connection import Connection, UnexpectedError, port_of
from trials.history import Call, Change, Listing, Request, Silence
from trials.judge import violations
from trials.load import Load

SERVERS: Final = 2
CLIENTS: Final = range(1001, 1007)
CONNECTIONS: Final = 12
TICK_NS: Final = 10**6
WAIT_NS: Final = 20 * 10**6
KEYED: Final = 0.5
"""The part of the changes that have an idempotency key, and are sent again, by way of any server, until answered."""
PAUSE_S: Final = 0.05
"""How long a client waits after it was not answered."""


class Server:
    """`taskstore serve`, which the database knows by a name of its own."""

    def __init__(self, number: int, store: str, log: Path) -> None:
        self.name = ""
        self.port = 0
        self._number = number
        self._store = store
        self._log = log
        self._lives = 0
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, or start it again."""
        self._lives += 1
        self.name = f"server {self._number} life {self._lives}"
        store = f"{self._store}&application_name={self.name.replace(' ', '%20')}"
        command = ("-m", "taskstore", "serve", "--port", "0", "--store", store)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=log)
        assert self._process.stdout
        said = await self._process.stdout.readline()
        if (port := port_of(said)) is None:
            raise RuntimeError(f"the server did not start: {self._log.read_text()}")
        self.port = port

    async def kill(self) -> None:
        """End it where it stands."""
        assert self._process
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """End it well; its exit code."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.terminate()
        return await self._process.wait()


class Stage(Protocol):
    """What a trial is about: where the store is, and what is struck down."""

    store: str

    async def strike(self, servers: list[Server], rng: random.Random, /) -> None:
        """Strike, and see to it that things go on."""
        ...


class ServerDies:
    """One of the servers is killed, and started again."""

    def __init__(self, postgres: Postgres) -> None:
        self.store = f"{postgres.url}&schema=several"

    async def strike(self, servers: list[Server], rng: random.Random) -> None:
        """Kill one server."""
        server = rng.choice(servers)
        await server.kill()
        # What it had sent may still be carried out, until the database has noticed.
        with psycopg.connect(self.store.split("&schema")[0], autocommit=True) as session:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            while session.execute(query, [server.name]).fetchone() != (0,):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await server.start()


class DatabaseFails:
    """The primary is killed as in a crash, and its synchronous standby takes its place."""

    SETTINGS: Final = {"synchronous_standby_names": "*", "hot_standby": "on"}

    def __init__(self, directory: Path) -> None:
        programs = postgresql.programs(directory)
        self._directories = [directory / "a", directory / "b"]
        for each in self._directories:
            each.mkdir()
        self._programs = programs
        self.primary = Postgres(self._directories[0], programs)
        self.standby = Postgres(self._directories[1], programs)
        hosts = ",".join(map(str, self._directories))
        self.store = f"postgresql://postgres@/postgres?host={hosts}&schema=several&connect_timeout=2"

    def start(self) -> None:
        """Start both."""
        self.primary.make()
        self.primary.start()
        self.standby.make_standby_of(self.primary, "standby")
        self.primary.stop()
        self.primary.start(**self.SETTINGS)
        self.standby.start(**self.SETTINGS)

    async def strike(self, _servers: list[Server], _rng: random.Random) -> None:
        """Fail over, and make what was the primary the new standby."""
        await asyncio.to_thread(self._fail_over)

    def _fail_over(self) -> None:
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.standby.clear()
        # Until it is there, no commit is answered.
        self.standby.make_standby_of(self.primary, "standby")
        self.standby.start(**self.SETTINGS)

    def stop(self) -> None:
        """Stop both."""
        self.standby.stop()
        self.primary.stop()


class Trial:
    """Clients that work through several servers on one store.

    Args:
        stage: What is struck down.
        log: Where the servers' standard error goes.
        seed: Decides what is asked, and what is struck down about when.
    """

    def __init__(self, stage: Stage, log: Path, seed: int) -> None:
        self.history: list[Call] = []
        self._stage = stage
        self._servers = [Server(number, stage.store, log) for number in range(SERVERS)]
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        self._load = Load(
            self._rng, clients=CLIENTS, now=time.time_ns, tick=TICK_NS, groups=6, size=60, wait_ns=WAIT_NS
        )
        self._unanswered: dict[int, tuple[Call, str]] = {}
        self._started_ns = time.monotonic_ns()
        self.complaints: list[str] = []

    async def run(self, rounds: int, operations: int, tell: Callable[[str], None]) -> list[str]:
        """Go through so many rounds with about so many operations each; what promises were broken."""
        for server in self._servers:
            await server.start()
        for number in range(rounds):
            await self._round(operations, self._stage.strike)
            tell(f"{number + 1} rounds, {len(self.history):,} operations")
        await self._round(operations)
        await self._look("the end")
        for server in self._servers:
            if code := await server.stop():
                self.complaints.append(f"after SIGTERM a server ended with {code}")
        return [*self.complaints, *map(str, violations(self.history))]

    async def _round(
        self, operations: int, strike: Callable[[list[Server], random.Random], Awaitable[None]] | None = None
    ) -> None:
        """Have all clients work, strike in the middle, and go on until things work as before."""
        await self._look("the start")
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._client(number, stop))
            await self._until(len(self.history) + self._rng.randint(1, operations))
            if strike:
                await strike(self._servers, self._rng)
            await self._until(len(self.history) + operations)
            stop.set()
        self._settle()

    async def _until(self, operations: int) -> None:
        while len(self.history) < operations:  # noqa: ASYNC110 - there are many who make it grow
            await asyncio.sleep(0.005)

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        """Work by way of one server, and after it failed by way of any."""
        server = self._servers[number % SERVERS]
        while not stop.is_set():
            with suppress(OSError, EOFError):
                connection = await Connection.to(server.port)
                try:
                    while not stop.is_set():
                        await self._act(connection, number)
                finally:
                    connection.close()
            await asyncio.sleep(PAUSE_S)
            server = self._rng.choice(self._servers)

    async def _act(self, connection: Connection, number: int) -> None:
        if lost := self._unanswered.get(number):
            await self._ask(connection, *lost)
            del self._unanswered[number]
            return
        client = CLIENTS[number % len(CLIENTS)]
        call = self._new_call(f"{client}/{number}", self._load.request(client))
        if isinstance(call.request, Change) and self._rng.random() < KEYED:
            key = f"{len(self.history):016}"
            self._unanswered[number] = call, key
            await self._ask(connection, call, key)
            del self._unanswered[number]
        else:
            await self._ask(connection, call)

    async def _ask(self, connection: Connection, call: Call, key: str | None = None) -> None:
        try:
            call.answer = await connection.ask(call.request, key)
        except UnexpectedError as error:
            if "503" not in str(error):
                self.complaints.append(f"{call.request} got {error}")
        if call.answer is Silence.UNKNOWN:
            raise EOFError
        call.returned = self._now_us()
        self._load.learn(call)

    async def _look(self, name: str) -> None:
        """Read everything, while nobody works."""
        connection = await Connection.to(self._servers[0].port)
        await self._ask(connection, self._new_call(name, Listing(None)))
        connection.close()

    def _settle(self) -> None:
        """What was not answered, and will not be asked again, can have no effect from now on."""
        now, asked_again = self._now_us(), [call for call, _ in self._unanswered.values()]
        for call in reversed(self.history):
            if call.request == Listing(None):
                break
            if call.returned is None and call not in asked_again:
                call.returned = now

    def _new_call(self, name: str, request: Request) -> Call:
        self.history.append(Call(name, request, self._now_us()))
        return self.history[-1]

    def _now_us(self) -> int:
        return (time.monotonic_ns() - self._started_ns) // 1000


def servers_die(rounds: int, operations: int, seed: int, tell: Callable[[str], None] = lambda _: None) -> list[str]:
    """Kill servers; what promises were broken."""
    with scratch() as directory, postgresql.running() as postgres:
        trial = Trial(ServerDies(postgres), Path(directory) / "log", seed)
        return asyncio.run(trial.run(rounds, operations, tell))


def database_fails(rounds: int, operations: int, seed: int, tell: Callable[[str], None] = lambda _: None) -> list[str]:
    """Kill the database; what promises were broken."""
    with postgresql.directory() as directory:
        stage = DatabaseFails(directory)
        stage.start()
        try:
            return asyncio.run(Trial(stage, directory / "servers.log", seed).run(rounds, operations, tell))
        finally:
            stage.stop()


def main() -> int:
    """What scripts/failover does, in the environment that it has made ready."""
    parser = argparse.ArgumentParser()
    for name in ("rounds", "operations", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--servers", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    run = servers_die if options.servers else database_fails
    found = run(options.rounds, options.operations, options.seed, lambda text: print(text, flush=True))
    print(f"{len(found)} violations", *found[:10], sep="\n\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
