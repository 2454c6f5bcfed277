"""Workers, in both colours, over a real server: what a handler returns happens once, whatever goes wrong around it."""

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from taskstore import (
    AsyncHTTPClient,
    AsyncWorker,
    Done,
    HTTPClient,
    HTTPError,
    LeaseLostError,
    Move,
    NotSentError,
    Observer,
    Outcome,
    Progress,
    Quarantine,
    Release,
    Retry,
    TaskInfo,
    TaskResponseError,
    UsageError,
    Worker,
)
from taskstore.testing import LiveServer

LEASE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)
PATIENCE_S = 20.0


class Kit:
    """A store, and workers of one colour that are run in the same way."""

    def __init__(self, server: LiveServer, client: HTTPClient, is_async: bool) -> None:
        self.server, self.client, self.is_async = server, client, is_async
        self.worker: Any = None
        self.steps: list[dict[str, Any]] = []
        self.interfere: Callable[[dict[str, Any]], None] = lambda step: None
        """Called with the arguments of each step; may raise."""

    def add(self, *data: str, group: str = "g") -> list[TaskInfo]:
        return self.client.update(adds=[TaskInfo(group, each) for each in data])

    def data(self, group: str) -> list[str]:
        return sorted(task.data for task in self.client.group(group, owned=True))

    def run(
        self, handler: Callable[..., Any], group: str | Sequence[str] = "g", *, until_empty: bool = True, **options: Any
    ) -> Progress:
        """Run a worker until the groups are empty, or until it is stopped."""
        if self.is_async:
            return asyncio.run(self._run(handler, group, until_empty, options))
        with HTTPClient(self.server.url, client_id=1001, retry=None) as client:
            self._watch(client)
            self.worker = Worker(client, group, handler, **options)
            progress = self.worker.run(until_empty=until_empty)
            assert isinstance(progress, Progress)
            return progress

    async def _run(self, handler: Callable[..., Any], group: Any, until_empty: bool, options: Any) -> Progress:
        async with AsyncHTTPClient(self.server.url, client_id=1001, retry=None) as client:
            self._watch(client)
            self.worker = AsyncWorker(client, group, asynchronous(handler), **options)
            async with asyncio.timeout(PATIENCE_S):
                progress = await self.worker.run(until_empty=until_empty)
            assert isinstance(progress, Progress)
            return progress

    def _watch(self, client: Any) -> None:
        original = client.step

        def step(**arguments: Any) -> Any:
            self.steps.append(arguments)
            self.interfere(arguments)
            return original(**arguments)

        async def async_step(**arguments: Any) -> Any:
            self.steps.append(arguments)
            self.interfere(arguments)
            return await original(**arguments)

        client.step = async_step if self.is_async else step

    @contextmanager
    def running(self, handler: Callable[..., Any], **options: Any) -> Iterator[list[Progress]]:
        """A worker in the background, which is stopped in the end; the list gets what `run` returns."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(self.run(handler, until_empty=False, **options))
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: self.worker)
        try:
            yield results
        finally:
            self.worker.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def asynchronous(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function that does the same, in a thread; itself if it is one."""
    if inspect.iscoroutinefunction(handler):
        return handler
    if len(inspect.signature(handler).parameters) == 2:

        async def with_lease(task: TaskInfo, lease: Any) -> Any:
            return await asyncio.to_thread(handler, task, lease)

        return with_lease

    async def without(task: TaskInfo) -> Any:
        return await asyncio.to_thread(handler, task)

    return without


def until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.002)


@pytest.fixture(params=["blocking", "async"])
def kit(request: pytest.FixtureRequest, server: LiveServer) -> Iterator[Kit]:
    with HTTPClient(server.url) as client:
        yield Kit(server, client, request.param == "async")


# What a handler returns


def test_each_task_is_done_once_and_what_follows_from_it_is_added(kit: Kit) -> None:
    numbers = [str(number) for number in range(300)]
    kit.add(*numbers)
    progress = kit.run(lambda task: Done(adds=[TaskInfo("next", task.data)]), concurrency=3)
    assert kit.data("next") == sorted(numbers)
    assert kit.client.groups() == ["next"]
    assert (progress.done, progress.claimed, progress.running, progress.unstarted) == (300, 300, 0, 0)


def test_outcomes(kit: Kit) -> None:
    [other] = kit.add("", group="other")
    outcomes: dict[str, list[Outcome | None]] = {
        "nothing": [None],
        "retry": [Retry(0, data="retry"), Done()],
        "release": [Release(), None],
        "move": [Move("moved")],
        "move as": [Move("moved", "as something else")],
        "aside": [Quarantine("look at me")],
        "extras": [Done(deletes=[other])],
        "twice": [Done(depends=[999_999]), Done(adds=[TaskInfo("after failure")])],
    }
    kit.add(*outcomes)
    ticking = Ticking(kit.server)
    progress = kit.run(lambda task: outcomes[task.data].pop(0), backoff=(SECOND, SECOND), observers=[ticking])
    assert kit.client.groups() == ["after failure", "g/quarantine", "moved"]
    assert kit.data("moved") == ["as something else", "move"]
    [aside] = map(json.loads, kit.data("g/quarantine"))
    assert (aside["group"], aside["data"], aside["attempts"], aside["reason"]) == ("g", "aside", 1, "look at me")
    assert (progress.done, progress.retried, progress.released) == (5, 2, 1)
    assert (progress.moved, progress.quarantined, progress.lost) == (2, 1, 0)


class Ticking(Observer):
    """Lets the store's time pass whenever something is settled."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def settled(self, task: TaskInfo, outcome: Outcome) -> None:
        self.server.clock.advance(SECOND)


def test_an_exception_is_tried_again_and_in_the_end_put_aside(kit: Kit) -> None:
    attempts: list[int] = []

    def handler(task: TaskInfo) -> None:
        attempts.append(task.attempts)
        raise ValueError(f"no {task.data}")

    kit.add("way")
    progress = kit.run(handler, max_attempts=3, backoff=(SECOND, SECOND), observers=[Ticking(kit.server)])
    assert attempts == [1, 2, 3]
    [aside] = map(json.loads, kit.data("g/quarantine"))
    assert (aside["data"], aside["attempts"], aside["reason"]) == ("way", 3, "ValueError: no way")
    assert (progress.retried, progress.quarantined) == (2, 1)


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), TaskResponseError(depends=[1]), "wrong"], ids=repr
)
def test_whatever_a_handler_does_is_a_failure_of_the_task_and_not_of_the_worker(kit: Kit, error: Any) -> None:
    def handler(task: TaskInfo) -> Any:
        if task.data == "bad":
            if isinstance(error, BaseException):
                raise error
            return error
        return None

    if kit.is_async and isinstance(error, KeyboardInterrupt | SystemExit):
        pytest.skip("asyncio hands these on to whoever runs the loop")
    kit.add("bad", *["good"] * 5)
    progress = kit.run(handler, max_attempts=1)
    assert (progress.done, progress.quarantined) == (5, 1)


def test_a_task_that_kills_its_workers_is_put_aside(kit: Kit) -> None:
    kit.add("deadly")
    for _ in range(2):
        assert kit.client.claim("g", LEASE)
        kit.server.clock.advance(LEASE)
    called: list[TaskInfo] = []
    assert kit.run(called.append, max_attempts=2).quarantined == 1
    assert called == []


# Many at a time


def test_quick_tasks_are_settled_by_the_hundred_and_claimed_in_the_same_step(kit: Kit) -> None:
    for _ in range(4):
        kit.client.update(adds=[TaskInfo("g")] * 500)

    async def no_op(task: TaskInfo) -> None:
        pass

    kit.run(no_op if kit.is_async else lambda task: None, concurrency=20 if kit.is_async else 1)
    both = [step for step in kit.steps if step.get("deletes") and step.get("limit")]
    assert len(kit.steps) < 200
    assert max(len(step["deletes"]) for step in both) >= 50


def test_one_by_one(kit: Kit) -> None:
    kit.client.update(adds=[TaskInfo("g")] * 50)
    assert kit.run(lambda task: None, batch=1).done == 50
    assert {len(step["deletes"]) for step in kit.steps if step.get("deletes")} == {1}


def test_one_lost_lease_does_not_fail_its_neighbours(kit: Kit) -> None:
    kit.client.update(adds=[TaskInfo("g", str(number)) for number in range(200)])
    stolen: set[str] = set()

    def steal(step: dict[str, Any]) -> None:
        deletes = step.get("deletes") or []
        if len(deletes) > 20 and len(stolen) < 3:
            with HTTPClient(kit.server.url, client_id=1001) as thief:
                task = thief.task(deletes[7])
                assert task
                thief.update(deletes=[task])
                stolen.add(task.data)

    kit.interfere = steal
    options: dict[str, Any] = {"concurrency": 64} if kit.is_async else {}
    progress = kit.run(lambda task: Done(adds=[TaskInfo("next", task.data)]), **options)
    assert 1 <= len(stolen) <= 3
    assert set(kit.data("next")) == {str(number) for number in range(200)} - stolen
    assert len(kit.data("next")) == 200 - len(stolen)
    assert (progress.done, progress.lost) == (200 - len(stolen), len(stolen))


def test_several_groups(kit: Kit) -> None:
    kit.add("1", "2", group="a")
    kit.add("3", group="b")
    kit.add("4", group="c")
    seen: list[str] = []
    kit.run(lambda task: seen.append(task.data), ["a", "b"])
    assert sorted(seen) == ["1", "2", "3"]
    assert kit.client.groups() == ["c"]


def test_what_the_store_does_not_take_is_put_aside_and_the_rest_is_done(kit: Kit) -> None:
    kit.add("big", "small", "small")

    def handler(task: TaskInfo) -> Done:
        return Done(adds=[TaskInfo("next", "x" * (1_100_000 if task.data == "big" else 1))])

    progress = kit.run(handler, max_attempts=1, concurrency=3)
    assert (progress.done, progress.quarantined) == (2, 1)
    [aside] = map(json.loads, kit.data("g/quarantine"))
    assert "does not take its outcome" in aside["reason"]


def test_data_that_leaves_no_room_for_a_reason_is_put_aside_without(kit: Kit) -> None:
    largest = '"' * 1_048_576
    kit.add(largest)
    kit.run(lambda task: Quarantine("why"), max_attempts=1)
    assert kit.data("g/quarantine") == [largest]


# Leases


def wait_for_change(kit: Kit, before: list[TaskInfo]) -> None:
    until(lambda: kit.client.group("g", owned=True) != before)


def test_a_handler_that_takes_longer_than_its_lease_is_renewed_as_long_as_it_runs(kit: Kit) -> None:
    kit.add("long")

    def handler(task: TaskInfo, lease: Any) -> Done:
        for _ in range(12):
            before = kit.client.group("g", owned=True)
            kit.server.clock.advance(timedelta(seconds=10))
            wait_for_change(kit, before)
            lease.check()
        return Done(adds=[TaskInfo("next")])

    progress = kit.run(handler, lease=LEASE, clock=kit.server.clock)
    assert (progress.done, progress.lost) == (1, 0)
    assert kit.client.groups() == ["next"]


def test_a_handler_that_outlives_its_lease_is_told_and_its_result_is_dropped(kit: Kit) -> None:
    kit.add("work")
    told: list[BaseException] = []

    def handler(task: TaskInfo, lease: Any) -> Done:
        if task.attempts == 1:
            kit.server.clock.advance(LEASE)
            until(lease.lost.is_set)
            try:
                lease.check()
            except LeaseLostError as error:
                told.append(error)
        return Done(adds=[TaskInfo("next", str(task.attempts))])

    class Watching(Observer):
        lost_tasks: list[TaskInfo] = []  # noqa: RUF012 - for this test only

        def lost(self, task: TaskInfo) -> None:
            self.lost_tasks.append(task)

    watching = Watching()
    # One handler only: with a second one free, a claim that waited would have been sent before the clock was moved, and
    # what it brought would have run out, too.
    progress = kit.run(handler, lease=LEASE, clock=kit.server.clock, concurrency=1, observers=[watching])
    assert kit.data("next") == ["2"]
    assert (progress.done, progress.lost) == (1, 1)
    assert [task.attempts for task in watching.lost_tasks] == [1]
    assert len(told) == 1


def test_a_task_that_was_taken_meanwhile_is_lost_at_the_next_renewal(kit: Kit) -> None:
    kit.add("work")

    def handler(task: TaskInfo, lease: Any) -> Done:
        if task.attempts == 1:
            with HTTPClient(kit.server.url, client_id=1001) as thief:
                thief.update(updates=[task.replace(available_in=0)])
            kit.server.clock.advance(timedelta(seconds=10))
            until(lease.lost.is_set)
        return Done(adds=[TaskInfo("next", str(task.attempts))])

    progress = kit.run(handler, lease=LEASE, clock=kit.server.clock, concurrency=2)
    assert len(kit.data("next")) == progress.done == 1
    assert kit.data("next") != ["1"]
    assert progress.lost >= 1


def test_two_hours_of_lease_time_in_seconds(kit: Kit) -> None:
    lease = timedelta(minutes=5)
    kit.client.update(adds=[TaskInfo("g", str(number)) for number in range(4)])
    ends = kit.server.clock() + 2 * 3600 * 10**9
    kit.server.clock.advance(0)
    stop = threading.Event()

    def held() -> set[int]:
        return {task.id for task in kit.client.group("g", owned=True)}

    def tick() -> None:
        limit = time.monotonic() + 2 * PATIENCE_S
        try:
            while kit.server.clock() < ends:
                before = held()
                kit.server.clock.advance(lease / 3)
                while before & held():  # A clock that does not wait for them makes slow renewals come too late.
                    assert time.monotonic() < limit, "not all is renewed"
        finally:
            stop.set()

    def handler(task: TaskInfo) -> Done:
        stop.wait(60)
        return Done(adds=[TaskInfo("next", task.data)])

    ticking = threading.Thread(target=tick)

    class Starting(Observer):
        number = 0

        def started(self, task: TaskInfo) -> None:
            self.number += 1
            if self.number == 4:
                ticking.start()

    progress = kit.run(handler, lease=lease, clock=kit.server.clock, concurrency=4, observers=[Starting()])
    ticking.join()
    assert (progress.done, progress.lost) == (4, 0)
    assert len(kit.data("next")) == 4


# The store, when it is away


def test_a_worker_goes_on_when_the_store_is_there_again(kit: Kit) -> None:
    kit.add(*"abcdef")
    failures = iter([None, None, NotSentError("no"), HTTPError(503), HTTPError(500), NotSentError("no")])

    def fail(step: dict[str, Any]) -> None:
        if error := next(failures, None):
            raise error

    kit.interfere = fail
    progress = kit.run(lambda task: Done(adds=[TaskInfo("next", task.data)]))
    assert kit.data("next") == list("abcdef")
    assert progress.done == 6


@pytest.mark.parametrize("status", [401, 404])
def test_a_store_that_does_not_want_this_worker_ends_it(kit: Kit, status: int) -> None:
    kit.add("a")
    kit.interfere = raising(HTTPError(status))
    with pytest.raises(HTTPError):
        kit.run(lambda task: None)


def raising(error: BaseException) -> Callable[[Any], None]:
    def fail(step: dict[str, Any]) -> None:
        raise error

    return fail


def test_a_store_that_is_not_there_in_the_beginning_is_told_at_once(kit: Kit) -> None:
    kit.interfere = raising(NotSentError("no"))
    with pytest.raises(NotSentError):
        kit.run(lambda task: None)


def test_a_fault_of_ours_ends_the_worker_and_is_not_hidden(kit: Kit) -> None:
    kit.interfere = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        kit.run(lambda task: None, until_empty=False)


# The end


def test_an_idle_worker_stops_at_once_and_leaves_nothing_behind(kit: Kit) -> None:
    with kit.running(lambda task: None) as results:
        until(lambda: any(step.get("wait") for step in kit.steps))
        time.sleep(0.05)
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert results == [Progress()]
    assert kit.client.groups() == []


def test_draining_finishes_what_runs_and_gives_back_what_does_not(kit: Kit) -> None:
    kit.client.update(adds=[TaskInfo("g", "quick")] * 64)
    go_on, is_waiting = threading.Event(), threading.Event()

    def handler(task: TaskInfo) -> Done:
        if kit.client.groups() and len(kit.data("next")) >= 30:
            is_waiting.set()
            go_on.wait(PATIENCE_S)
        return Done(adds=[TaskInfo("next")])

    with kit.running(handler, concurrency=2) as results:
        is_waiting.wait(PATIENCE_S)
        kit.worker.stop()
        time.sleep(0.05)
        assert results == []
        go_on.set()
    [progress] = results
    left = kit.client.group("g")
    assert len(left) == 64 - progress.done == 64 - len(kit.data("next"))
    assert {task.attempts for task in left} == {0}, "nobody has begun with these"


def test_a_handler_that_does_not_end_is_not_waited_for_longer_than_is_allowed(kit: Kit) -> None:
    kit.add("endless")
    started, end = threading.Event(), threading.Event()

    def handler(task: TaskInfo, lease: Any) -> Done:
        started.set()
        lease.lost.wait(PATIENCE_S) if not kit.is_async else None
        end.wait(PATIENCE_S)
        return Done(adds=[TaskInfo("next")])

    with kit.running(handler, grace=timedelta(seconds=0.1)) as results:
        started.wait(PATIENCE_S)
        kit.worker.stop()
        until(lambda: kit.client.group("g"))
        end.set()
    [progress] = results
    assert (progress.released, progress.done) == (1, 0)
    assert [task.attempts for task in kit.client.group("g")] == [1]


def test_a_worker_that_was_stopped_before_it_began_does_nothing(kit: Kit) -> None:
    kit.add("a")
    if kit.is_async:

        async def run() -> Progress:
            async with AsyncHTTPClient(kit.server.url) as client:
                worker = AsyncWorker(client, "g", asynchronous(lambda task: None))
                worker.stop()
                return await worker.run()

        progress = asyncio.run(run())
    else:
        worker = Worker(kit.client, "g", lambda task: None)
        worker.stop()
        progress = worker.run()
    assert progress.done == 0
    assert len(kit.client.group("g")) == 1


def test_until_empty_waits_for_delayed_tasks_and_for_those_of_others(kit: Kit) -> None:
    kit.client.update(adds=[TaskInfo("g", "later", timedelta(seconds=10)), TaskInfo("g", "now")])
    held = kit.client.claim("g", LEASE)
    assert held
    looks = 0

    def tick(step: dict[str, Any]) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            kit.server.clock.advance(timedelta(seconds=10))
        if looks == 4:
            kit.server.clock.advance(LEASE)

    kit.interfere = tick
    assert kit.run(lambda task: Done(adds=[TaskInfo("next", task.data)])).done == 2
    assert kit.data("next") == ["later", "now"]
    assert kit.run(lambda task: None).done == 0


def test_once_a_task_that_it_depends_on_is_gone_the_worker_stops(kit: Kit) -> None:
    [permission] = kit.add("", group="run")
    kit.add(*"abc")

    def handler(task: TaskInfo) -> Done:
        if task.data == "c":
            return Done(deletes=[permission], adds=[TaskInfo("next", task.data)])
        return Done(adds=[TaskInfo("next", task.data)])

    progress = kit.run(handler, until_empty=False, depends=[permission], batch=1)
    assert "c" in kit.data("next")
    assert len(kit.data("next")) == progress.done
    assert kit.run(handler, until_empty=False, depends=[permission]).done == 0


# What one is told


class Recorder(Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def claimed(self, tasks: Sequence[TaskInfo]) -> None:
        self.told += ["claimed"] * len(tasks)

    def started(self, task: TaskInfo) -> None:
        self.told.append("started")
        raise ZeroDivisionError

    def finished(self, task: TaskInfo, outcome: Outcome, took_ns: int, error: BaseException | None) -> None:
        assert took_ns >= 0
        self.told.append(f"finished {type(outcome).__name__} {error!r}")

    def settled(self, task: TaskInfo, outcome: Outcome) -> None:
        self.told.append(f"settled {type(outcome).__name__}")

    def failed(self, error: BaseException) -> None:
        self.told.append(f"failed {type(error).__name__}")


def test_observers_are_told_and_disturb_nothing(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    def handler(task: TaskInfo) -> None:
        if task.data == "bad":
            raise ValueError("bad")

    kit.add("good", "bad")
    recorder = Recorder()
    progresses: list[Progress] = []
    progress = kit.run(handler, max_attempts=1, observers=[recorder], progress=progresses.append)
    assert sorted(recorder.told) == sorted(
        [
            *["claimed", "started"] * 2,
            *["finished Done None", "settled Done"],
            *["finished Quarantine ValueError('bad')", "settled Quarantine"],
        ]
    )
    assert progresses[-1] == progress
    assert "of group 'g' is put aside: ValueError: bad" in caplog.text


def test_a_bar(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    kit.add(*"abc")
    kit.run(lambda task: None, progress=True)
    shown = capsys.readouterr()
    assert "3 done" in shown.err
    assert shown.out == ""


# What cannot be


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"group": []}, "empty list"),
        ({"group": ""}, "must not be empty"),
        ({"group": ["g", "g/quarantine"]}, "its own quarantine"),
        ({"quarantine": ""}, "its own quarantine"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": 1.5}, "concurrency=1.5"),
        ({"batch": 10_001}, "batch=10001"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"lease": 30}, "lease=30"),
        ({"backoff": (SECOND, timedelta(0))}, "backoff"),
        ({"handler": "resize"}, "function of a task"),
        ({"handler": lambda: None}, "takes a task"),
        ({"handler": lambda a, b, c: None}, "takes a task"),
        ({"processes": 2}, "functools.partial"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with HTTPClient("http://127.0.0.1:1") as client, pytest.raises(UsageError, match=complaint):
        Worker(client, **{"group": "g", "handler": lambda task: None, **options})


def test_both_workers_take_the_same_and_have_the_same() -> None:
    blocking = inspect.signature(Worker).parameters
    asynchronous = inspect.signature(AsyncWorker).parameters
    assert {name: each.default for name, each in blocking.items() if name != "processes"} == {
        name: each.default for name, each in asynchronous.items()
    }
    assert [name for name in vars(Worker) if name[0] != "_"] == [name for name in vars(AsyncWorker) if name[0] != "_"]
    assert inspect.signature(Worker.run) == inspect.signature(AsyncWorker.run)
