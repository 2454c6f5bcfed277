"""For tests of programs that use a store: a live server, and a clock that the test sets.

    from taskstore import HTTPClient
    from taskstore.testing import live_server

    def test_leases_run_out():
        with live_server() as server, HTTPClient(server.url) as client:
            client.update(adds=[TaskInfo("map")])
            client.claim("map", timedelta(seconds=30))
            server.clock.advance(timedelta(seconds=30))
            assert client.claim("map", timedelta(seconds=30))

With pytest, `pytest_plugins = ["taskstore.testing"]` in conftest.py gives the fixture `taskstore_server`. Needs
`pip install 'taskstore[server]'`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from taskstore.model import Duration, Instant, duration_ns, instant_ns

try:
    from taskstore.server.run import RunningServer, bound, open_storage
except ModuleNotFoundError as error:
    message = f"taskstore.testing needs the server: pip install 'taskstore[server]' ({error})"
    raise ModuleNotFoundError(message, name=error.name) from error


class SettableClock:
    """A clock that stands still until it is told otherwise.

    Args:
        now: Where it stands at first; by default the system's present.
    """

    def __init__(self, now: Instant | None = None) -> None:
        self._now = time.time_ns() if now is None else instant_ns(now, "now")
        self.on_change: Callable[[], object] = lambda: None

    def __call__(self) -> int:
        """Now, in nanoseconds since the epoch."""
        return self._now

    def advance(self, by: Duration) -> None:
        """Move the clock forward, or back by a negative duration."""
        self._now += duration_ns(by, "by")
        self.on_change()

    def set(self, now: Instant) -> None:
        """Set the clock."""
        self._now = instant_ns(now, "now")
        self.on_change()


class LiveServer:
    """A server that answers at `url`, at the time that `clock` says."""

    def __init__(self, running: RunningServer, clock: SettableClock) -> None:
        self.url: Final = running.url
        self.clock: Final = clock
        self._running = running

    @property
    def waiting(self) -> int:
        """How many claims wait in the server for something to claim."""
        return self._running.waiting()


@contextmanager
def live_server(
    store: str = ":memory:", *, clock: SettableClock | None = None, token: str | None = None
) -> Iterator[LiveServer]:
    """A server in a thread of this process, on a free port of the loopback address.

    Args:
        store: Where the tasks are, as for `taskstore serve`.
        clock: The store's clock; by default one that stands at the present.
        token: What requests have to carry, if anything.

    Raises:
        StoreError: the store cannot be used.
    """
    clock = clock or SettableClock()
    running = RunningServer(open_storage(store, clock=clock), bound("127.0.0.1", 0), token=token)
    started = threading.Event()
    running.on_start = started.set
    thread = threading.Thread(target=running.run, name="taskstore server")
    thread.start()
    try:
        if not started.wait(30):
            raise RuntimeError("the server did not start within 30 s")
        clock.on_change = running.look_again
        yield LiveServer(running, clock)
    finally:
        clock.on_change = lambda: None
        running.stop()
        thread.join()


with suppress(ImportError):  # The context manager serves other test runners as well.
    import pytest

    @pytest.fixture
    def taskstore_server() -> Iterator[LiveServer]:
        """A live server with an empty store in memory, and a clock that the test sets."""
        with live_server() as server:
            yield server
