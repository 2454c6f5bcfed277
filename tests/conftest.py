"""What tests of several rooms share: a server, a client in either colour, and a forked child."""

import asyncio
import functools
import inspect
import json
import os
import pickle
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self, TypeVar, cast

import httpx
import pytest
from hypothesis import settings

from taskstore import AsyncHTTPClient, HTTPClient
from taskstore.testing import LiveServer, live_server

T = TypeVar("T")

settings.register_profile("thorough", max_examples=20_000, stateful_step_count=50, deadline=None)


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server of one's own, with a clock that the test sets."""
    with live_server() as server:
        yield server


class Blocking:
    """An async client, called as if it were the blocking one."""

    def __init__(self, colour: "Colour", client: AsyncHTTPClient) -> None:
        self.colour, self.client = colour, client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, {"close": "aclose"}.get(name, name))
        if not inspect.iscoroutinefunction(value):
            return value
        return functools.partial(self.colour.wait, value)

    def __enter__(self) -> Self:
        self.colour.wait(self.client.__aenter__)
        return self

    def __exit__(self, *error: object) -> None:
        self.colour.wait(self.client.__aexit__, *error)

    def __repr__(self) -> str:
        return repr(self.client)


class Colour:
    """Makes clients of one colour, which a test calls in the same way, and closes them in the end."""

    def __init__(self, is_async: bool, transport: str = "httpx") -> None:
        self.is_async = is_async
        self.transport = transport
        self.options: dict[str, Any] = {"transport": transport}
        self.runner = asyncio.Runner()
        self.clients: list[HTTPClient] = []
        self.injected: list[httpx.Client | httpx.AsyncClient] = []

    def client(self, base_url: str | None = None, **options: Any) -> HTTPClient:
        """An `HTTPClient`, or something that looks like one and is an `AsyncHTTPClient`; with our own options too."""
        options = self.options | options
        client = (
            Blocking(self, AsyncHTTPClient(base_url, **options)) if self.is_async else HTTPClient(base_url, **options)
        )
        self.clients.append(cast(HTTPClient, client))
        return self.clients[-1]

    def httpx(self, **options: Any) -> Any:
        """A client of httpx in this colour, to be injected."""
        self.injected.append(httpx.AsyncClient(**options) if self.is_async else httpx.Client(**options))
        return self.injected[-1]

    def wait(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The result of a coroutine function, on the loop of this colour."""

        async def call() -> Any:
            return await function(*args, **options)

        return self.runner.run(call())

    def errors(self, client: HTTPClient, calls: Sequence[Callable[[Any], Any]]) -> list[BaseException | None]:
        """What calls of a client raise that are made at once."""
        if isinstance(client, Blocking):
            return list(self.wait(_raised, [call(client.client) for call in calls]))
        with ThreadPoolExecutor(len(calls)) as pool:
            return [call.exception() for call in [pool.submit(call, client) for call in calls]]

    def sender(self, client: HTTPClient) -> Any:
        """What sends the calls of a client."""
        return (client.client if isinstance(client, Blocking) else client)._sender

    def in_child(self) -> None:
        """To be called first in a forked child: the loop is the parent's, and its selector is shared with it."""
        self.runner = asyncio.Runner()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for http in self.injected:
            if isinstance(http, httpx.AsyncClient):
                self.wait(http.aclose)
            else:
                http.close()
        self.runner.close()


async def _raised(calls: Sequence[Awaitable[Any]]) -> list[BaseException | None]:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return [outcome if isinstance(outcome, BaseException) else None for outcome in outcomes]


@contextmanager
def coloured(name: str) -> Iterator[Colour]:
    if "fast" in name:
        pytest.importorskip("taskstore.fast", reason="needs taskstore[fast]", exc_type=ImportError)
    colour = Colour("async" in name, "fast" if "fast" in name else "httpx")
    yield colour
    colour.close()


@pytest.fixture(params=["blocking", "async", "fast blocking", "fast async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Each test that asks for it runs once per colour and sender."""
    with coloured(request.param) as colour:
        yield colour


@pytest.fixture(params=["blocking", "async"])
def httpx_colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Each test that asks for it runs once per colour, for what only httpx can do."""
    with coloured(request.param) as colour:
        yield colour


class Time:
    """A clock for the pauses of a client, of which none takes any time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.pauses: list[float] = []

    def rule(self, colour: Colour, client: HTTPClient) -> HTTPClient:
        """Have this client live by it; it waits one second after its first attempt, then two, and so on."""
        sender = colour.sender(client)
        sender._now_s = lambda: self.now_s
        sender._backoff_s = float
        sender._sleep = self._asleep if colour.is_async else self._sleep
        return client

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    async def _asleep(self, seconds: float) -> None:
        self._sleep(seconds)


@pytest.fixture
def time() -> Time:
    return Time()


def in_a_fork(function: Callable[[], T]) -> T:
    """What `function` returns or raises in a forked child."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                outcome: tuple[bool, Any] = True, function()
            except Exception as error:  # noqa: BLE001 - it is raised in the parent
                outcome = False, error
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(outcome, pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        succeeded, result = pickle.load(pipe)
    os.waitpid(child, 0)
    if not succeeded:
        raise result
    return cast(T, result)


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> bool:
    """Whether the tests of the kit try all rules on each broken server, and print the matrix of them."""
    return _prints_matrix(request.config)


def _prints_matrix(config: pytest.Config) -> bool:
    return any("contract" in argument for argument in config.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After the tests of the kit, which broken server was caught by which rule."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    rows = [json.loads(str(value)) for report in reports for name, value in report.user_properties if name == "fault"]
    if not rows:
        return
    if not _prints_matrix(config):
        terminalreporter.write_line(f"{len(rows)} broken servers; pytest tests/contract shows which rule caught which")
        return
    columns = list(dict.fromkeys(rule for row in rows for rule in row["meant"]))
    terminalreporter.section("broken servers against the rules that are meant to catch them")
    for row in rows:
        marks = "".join("#" if rule in row["meant"] else "+" if rule in row["broken"] else "." for rule in columns)
        missed = [rule for rule in row["meant"] if rule not in row["broken"]]
        terminalreporter.write_line(f"{row['name']:<48} {marks}{f' MISSED by {missed}' if missed else ''}")
    terminalreporter.write_line("# the rule that is meant to, + another rule that caught it too; the columns are:")
    for first in range(0, len(columns), 3):
        names = [f"{number + 1:>3} {columns[number]:<44}" for number in range(first, min(first + 3, len(columns)))]
        terminalreporter.write_line("".join(names).rstrip())
