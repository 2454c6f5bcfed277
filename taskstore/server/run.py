"""Puts a server together and runs it, in the foreground until a signal ends it, or beside other code.

The law of this room: the address is announced only once requests are answered at it.
"""

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from types import FrameType
from typing import Any, Final

import uvicorn

from taskstore.errors import StoreError
from taskstore.server.clock import Clock
from taskstore.server.connection import Protocol
from taskstore.server.engine import Engine
from taskstore.server.http import App
from taskstore.server.processes import run_together
from taskstore.server.sqlite import SqliteStorage
from taskstore.server.storage import Storage

DRAIN_SECONDS: Final = 30
"""How long requests under way may take after the signal to stop."""
TICK_SECONDS: Final = 1.0
"""How often the server looks at the time, for the Date that it tells."""
IDLE_SECONDS: Final = 75
"""How long a connection may be idle. Longer than clients keep theirs, so that none is closed as it is used again."""
BACKLOG: Final = 2048
"""How many connections may wait to be accepted."""
UNCOLLECTED: Final = 10_000
"""How many new objects there are before it is looked for cycles among them that nobody refers to."""


def open_storage(store: str, *, clock: Clock | None = None, alone: bool = False) -> Storage:
    """The storage that `store` names: a file for SQLite, `:memory:`, or the URL of a PostgreSQL database.

    Args:
        store: Where the tasks are.
        clock: For tests: what time it is.
        alone: Whether to keep others from using it, where it can have several users.

    Raises:
        StoreError: it cannot be used; the message says why and what to do.
    """
    kind, separator, _ = store.partition("://")
    if not separator:
        return SqliteStorage(store, clock=clock)
    if kind not in ("postgresql", "postgres"):
        raise StoreError(f"{kind}:// is no kind of store; give the path of a file, :memory:, or postgresql://...")
    try:
        from taskstore.server.postgres import PostgresStorage
    except ImportError as error:
        raise StoreError(f"PostgreSQL needs an extra: pip install 'taskstore[postgres]' ({error})") from error
    return PostgresStorage(store, clock=clock, alone=alone)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8048,
    store: str = "taskstore.db",
    token: str | None = None,
    access_log: bool = False,
    workers: int = 1,
) -> int:
    """Run a server until SIGTERM or Ctrl-C, finish what is in flight, and return the exit code.

    The first line on standard output is `serving http://HOST:PORT`, once requests are answered there.

    Args:
        host: The address to listen at. Any other than a loopback address needs a token.
        port: The port; 0 takes a free one.
        store: The file that holds the tasks, made if it is missing; `:memory:`; or `postgresql://...`.
        token: What requests have to carry as `Authorization: Bearer TOKEN`; None for no check.
        access_log: Whether to write a line of JSON for each request to standard error.
        workers: How many processes answer at this address. More than one needs PostgreSQL, which several may use.

    Returns:
        0 after a signal; 1 if the storage failed while it ran.

    Raises:
        StoreError: the server cannot start; the message says why and what to do.
    """
    if token is None and not _is_loopback(host):
        raise StoreError(
            f"{host} can be reached from other machines, and whoever reaches a server can change its tasks: "
            "set TASKSTORE_TOKEN to a secret that clients have to send, or listen at 127.0.0.1"
        )
    if workers > 1 and "://" not in store:
        raise StoreError("only one process may use a file; several need a store in PostgreSQL (postgresql://...)")
    if access_log:
        logging.basicConfig(stream=sys.stderr, format="%(message)s")
        logging.getLogger("taskstore.access").setLevel(logging.INFO)
    _allow_many_files()
    with bound(host, port) as listener:
        url = url_of(listener)

        def say() -> None:
            print(f"serving {url}", flush=True)

        def run(on_start: Callable[[], None]) -> int:
            running = RunningServer(open_storage(store), listener, token=token, access_log=access_log)
            running.on_start = on_start
            collect_seldom()
            return running.run(signals=True)

        if workers == 1:
            return run(say)
        open_storage(store).close()  # What is wrong with it is told once, and before there are several.
        return run_together(workers, run, say)


def _allow_many_files() -> None:
    """Let this process have as many connections as it may: usual is a soft limit of 1,024, and each takes a file."""
    with suppress(ImportError, ValueError, OSError):  # There is none on Windows, and macOS has one of its own.
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_seldom() -> None:
    """Let this process look for cycles of objects seldom, and never among those that there are already.

    What a request makes is freed by its reference counts. With Python's own setting it was looked at several times
    while it was under way, which took 6 % of the processor time of a claim.
    """
    gc.freeze()
    gc.set_threshold(UNCOLLECTED)


def url_of(listener: socket.socket) -> str:
    """The address of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address and not yet listening.

    Raises:
        StoreError: the address cannot be had.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        hint = "; is another server running there? --port 0 takes a free port" if port else ""
        raise StoreError(f"cannot listen at {host} port {port}: {error.strerror or error}{hint}") from error
    return listener


def front(app: Any) -> uvicorn.Config:
    """How the HTTP server runs an ASGI application, ours or one to compare it with."""
    return uvicorn.Config(
        app,
        http=Protocol,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


class RunningServer:
    """A server over a storage and a bound socket, which it closes when it is done."""

    def __init__(
        self, storage: Storage, listener: socket.socket, *, token: str | None = None, access_log: bool = False
    ) -> None:
        self.url: Final = url_of(listener)
        self.on_start: Callable[[], None] = lambda: None
        self.look_again: Callable[[], object] = lambda: None
        """Lets waiting claims look at a clock that was set; for tests, from any thread."""
        self.waiting: Callable[[], int] = lambda: 0
        """Tells how many claims wait; for tests, from any thread."""
        self._storage = storage
        self._listener = listener
        self._token = token
        self._access_log = access_log
        self._uvicorn: _Uvicorn | None = None
        self._failed = False

    def run(self, *, signals: bool = False) -> int:
        """Answer requests until `stop` is called or, with `signals`, SIGTERM or Ctrl-C comes; 1 after a failure."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve(signals))
        return int(self._failed)

    async def _serve(self, signals: bool) -> None:
        engine = Engine(self._storage, on_failure=self._fail)
        loop = asyncio.get_running_loop()
        self.look_again = lambda: loop.call_soon_threadsafe(engine.look_again)
        self.waiting = lambda: engine.parked
        try:
            config = front(App(engine, token=self._token, access_log=self._access_log))
            self._uvicorn = _Uvicorn(config, self.on_start, engine.drain, signals)
            await self._uvicorn.serve(sockets=[self._listener])
        finally:
            await engine.close()

    def _fail(self) -> None:
        self._failed = True
        print("taskstore: the storage failed, and what it holds is unknown; stopping", file=sys.stderr)
        self.stop()

    def stop(self) -> None:
        """Finish what is under way and end `run`; may be called from any thread."""
        if self._uvicorn:
            self._uvicorn.stop()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, except that it says when it starts and stops, and that a signal ends it with a clean exit.

    It stops at once, too: uvicorn looks ten times a second whether it should, and ten times a second whether it may.
    """

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], on_stop: Callable[[], None], signals: bool
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop; may be called from any thread, and from the handler of a signal."""
        self.should_exit = True
        with suppress(RuntimeError):  # The loop is closed, and so nothing is left to be stopped.
            self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        pauses = chain([0.0, 0.0, 0.001, 0.002, 0.005, 0.01, 0.02], repeat(0.05))
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    if self.force_exit:
                        break
                    await asyncio.sleep(next(pauses))
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal once more after the shutdown and so die of it.
        before = {}
        if self._signals:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):  # There is none for Windows.
        import uvloop

        return uvloop.new_event_loop
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
