"""Clients of one live server, in both colours and over both senders, and how they say what the model has in mind."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from model_of_store import NOW, Request, parts

from taskstore import AsyncHTTPClient, HTTPClient, TaskInfo, TaskResponseError
from taskstore.server.messages import Answer, Outcome, Refusal, Step, StepOutcome, Task, Update
from taskstore.testing import LiveServer

PATIENCE_S: Final = 30
"""For how long to wait for what has to happen at once."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Complaints(logging.Handler):
    """What the event loops of clients and server have to say, such as of a task that died and that nobody awaits."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


class Crowd:
    """Clients of one server, each in a colour and over a sender of its own, whose calls can be under way together."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.clients: dict[int, HTTPClient | AsyncHTTPClient] = {
            1: HTTPClient(server.url, client_id=1),
            2: AsyncHTTPClient(server.url, client_id=2),
            3: HTTPClient(server.url, client_id=3, transport="fast"),
            4: AsyncHTTPClient(server.url, client_id=4, transport="fast"),
        }
        self.complaints = Complaints()
        logging.getLogger("asyncio").addHandler(self.complaints)
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._loop.run_forever, name="async clients")
        self._loop_thread.start()
        self._threads = ThreadPoolExecutor(8, "blocking clients")

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> "Future[Any]":
        """Call a function, or a coroutine function, beside whatever else goes on."""
        if inspect.iscoroutinefunction(function):
            return asyncio.run_coroutine_threadsafe(function(*args, **options), self._loop)
        return self._threads.submit(function, *args, **options)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a function, or a coroutine function, returns or raises."""
        if inspect.iscoroutinefunction(function):
            return self.start(function, *args, **options).result(PATIENCE_S)
        return function(*args, **options)

    def ask(self, client: int, method: str, *args: Any, **options: Any) -> Any:
        """What the method of a client returns or raises."""
        return self.call(getattr(self.clients[client], method), *args, **options)

    def clear(self) -> int:
        """Delete all tasks, set the clock to the beginning, and tell the last id that was given out."""
        self.server.clock.set(NOW + 10**18)
        for name in self.ask(3, "groups"):
            self.ask(3, "update", deletes=self.ask(3, "group", name, owned=True))
        [last] = self.ask(3, "update", adds=[TaskInfo("a")])
        self.ask(3, "update", deletes=[last])
        self.server.clock.set(NOW)
        self.complaints.heard.clear()
        storage: Any = self.server._running._storage
        storage._random.seed(0)  # What was found has to be found again.
        return int(last.id)

    def close(self) -> None:
        for client in self.clients.values():
            self.call(client.aclose if isinstance(client, AsyncHTTPClient) else client.close)
        self._threads.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()
        self._loop.close()
        logging.getLogger("asyncio").removeHandler(self.complaints)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    for _ in range(PATIENCE_S * 5_000):
        if condition():
            return
        threading.Event().wait(0.0002)
    raise AssertionError("it did not happen")


# From requests of the model to calls of a client, and from what these bring to answers of the model


@attrs.frozen
class Style:
    """How the arguments of a call are written, where there is a choice."""

    rich: bool
    """Times as `timedelta` and `datetime` where they say it exactly, tasks in place of ids, and iterators for lists."""

    def duration(self, ns: int) -> int | timedelta:
        return timedelta(microseconds=ns // 1_000) if self.rich and ns % 1_000 == 0 else ns

    def timespec(self, ns: int) -> Any:
        if not self.rich or ns % 1_000:
            return ns
        return _EPOCH + timedelta(microseconds=ns // 1_000) if ns > 0 else timedelta(microseconds=-ns // 1_000)

    def refs(self, ids: Iterable[int] | None) -> Any:
        return (TaskInfo("whatever", id=id) for id in ids or ()) if self.rich else list(ids or ())

    def changes(self, update: Update) -> dict[str, Any]:
        """The arguments that say what an update changes. What must not matter is wrong, as the group of a change."""
        adds = [
            TaskInfo(add.group, add.data, self.timespec(add.timespec), id=7, owner_id=7) for add in update.adds or ()
        ]
        updates = [TaskInfo("b", each.data, self.timespec(each.timespec), each.id) for each in update.updates or ()]
        return {
            "adds": iter(adds) if self.rich else adds,
            "updates": iter(updates) if self.rich else updates,
            "deletes": self.refs(update.deletes),
            "depends": self.refs(update.depends),
        }

    def call(self, request: Request) -> tuple[int, str, dict[str, Any]]:
        """Who calls which method, and with what."""
        update, claim = parts(request)
        options: dict[str, Any] = {}
        if claim:
            names = list(claim.names)
            options = {"group": names[0] if len(names) == 1 else names, "duration": self.duration(claim.duration)}
            options |= {"limit": claim.limit, "wait": self.duration(claim.wait)}
            options["depends" if update is None else "claim_depends"] = self.refs(claim.depends)
        if update:
            return update.client, "step" if isinstance(request, Step) else "update", options | self.changes(update)
        assert claim
        if claim.limit > 1 or self.rich:
            return claim.client, "claim_batch", options
        del options["limit"]
        return claim.client, "claim", options


def answer_to(request: Request, call: Callable[[], Any]) -> Answer:
    """What has come of a request, in the model's words."""
    try:
        result = call()
    except TaskResponseError as error:
        return StepOutcome(error=refusal(error)) if isinstance(request, Step) else Outcome(error=refusal(error))
    if isinstance(request, Step):
        return StepOutcome(tasks(result.claimed), tasks(result.updated))
    if result is None or isinstance(result, TaskInfo):
        return Outcome(tasks([result] if result else []))
    return Outcome(tasks(result))


def tasks(infos: Iterable[TaskInfo]) -> list[Task]:
    """Tasks of a client, as the model has them."""
    return [Task(each.id, each.group, each.data, each.timespec, each.owner_id, each.attempts) for each in infos]


def refusal(error: TaskResponseError) -> Refusal:
    """An error of a client, as the model has it."""
    assert error.applied is False
    culprits = (error.changes, error.deletes, error.depends, error.owned)
    assert all(len(set(ids)) == len(ids) for ids in culprits), f"an id is named twice: {error}"
    changes, deletes, depends, owned = map(list, culprits)
    return Refusal(changes, deletes, depends, owned, list(error.bugs))
