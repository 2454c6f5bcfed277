"""The public names as a user's type checker sees them. Never run: mypy and pyright read it."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_type

import httpx

import taskstore
from taskstore import (
    ID,
    AnswerError,
    AsyncHTTPClient,
    AsyncLease,
    AsyncWorker,
    Counters,
    Done,
    Duration,
    GroupStats,
    HTTPClient,
    HTTPError,
    Instant,
    Lease,
    Move,
    NotSentError,
    Outcome,
    OutcomeUnknownError,
    Progress,
    Retry,
    Stats,
    Step,
    StoreError,
    TaskInfo,
    TaskResponseError,
    TaskStoreError,
    Totals,
    UsageError,
    Worker,
)

assert_type(ID(), int)
assert_type(taskstore.__version__, str)

lease: Duration = timedelta(seconds=30)
lease = 30_000_000_000
instant: Instant = datetime.now(UTC)
instant = 1_795_488_673_716_052_434


def tasks() -> None:
    task = TaskInfo("map")
    task = TaskInfo("map", "hello", timedelta(minutes=1), 17, 5)
    task = TaskInfo(group="map", data="hello", timespec=datetime.now(UTC), id=17, owner_id=5)
    assert_type(task.group, str)
    assert_type(task.data, str)
    assert_type(task.timespec, int)
    assert_type(task.id, int)
    assert_type(task.owner_id, int)
    assert_type(task.available_at, datetime)
    assert_type(task.replace(data="x", available_in=lease), TaskInfo)
    assert_type(task.replace(available_at=instant), TaskInfo)
    assert_type({task: 1}, dict[TaskInfo, int])


def blocking() -> None:
    with HTTPClient() as store:
        assert_type(store, HTTPClient)
        assert_type(store.client_id, int)
        assert_type(store.claim("map", lease), TaskInfo | None)
        task = store.claim("map", timedelta(seconds=30), depends=[TaskInfo("token"), 9], timeout=None)
        assert_type(store.group("map"), list[TaskInfo])
        assert_type(store.group("map", 10, owned=True, timeout=timedelta(seconds=5)), list[TaskInfo])
        assert_type(store.groups(timeout=5_000_000_000), list[str])
        assert_type(store.task(17), TaskInfo | None)
        assert_type(store.tasks(17, 18, timeout=...), list[TaskInfo | None])
        assert_type(store.update(), list[TaskInfo])
        if task is not None:
            assert_type(
                store.update([TaskInfo("reduce")], [task.replace(data="x")], deletes=(task,), depends={9}),
                list[TaskInfo],
            )
        assert_type(store.claim(["map", "reduce"], lease, wait=timedelta(minutes=1), retry=None), TaskInfo | None)
        assert_type(store.claim_batch("map", lease, 10, wait=lease), list[TaskInfo])
        step = store.step([TaskInfo("map")], deletes=[17], group=("map",), duration=lease, limit=2, claim_depends=[9])
        assert_type(step.claimed + step.updated, tuple[TaskInfo, ...])
        stats = store.stats("ma", 10, timeout=None, retry=timedelta(seconds=5))
        assert_type(stats.groups, tuple[GroupStats, ...])
        assert_type(stats.totals, Totals)
        assert_type(stats.counters, Counters)
        assert_type(stats.groups[0].oldest_age, timedelta)
        assert_type(store.close(), None)


async def awaited() -> None:
    async with AsyncHTTPClient() as store:
        assert_type(store, AsyncHTTPClient)
        assert_type(store.client_id, int)
        assert_type(await store.claim("map", lease, depends=(9,)), TaskInfo | None)
        assert_type(await store.group("map", limit=10, owned=True), list[TaskInfo])
        assert_type(await store.groups(), list[str])
        assert_type(await store.task(17), TaskInfo | None)
        assert_type(await store.tasks(17, TaskInfo("map")), list[TaskInfo | None])
        assert_type(await store.update(adds=[TaskInfo("map")]), list[TaskInfo])
        assert_type(await store.claim_batch(["map"], lease, 10), list[TaskInfo])
        assert_type(await store.step(group="map", duration=lease), Step)
        assert_type(await store.stats(), Stats)
        assert_type(await store.aclose(), None)


def options() -> None:
    HTTPClient("http://127.0.0.1:8048", client_id=5, timeout=None, headers={"X-Team": "blue"}, auth="token")
    HTTPClient(timeout=timedelta(seconds=5), auth=("user", "password"), http_client=httpx.Client())
    HTTPClient(transport="fast", retry=None)
    HTTPClient(timeout=5_000_000_000, auth=httpx.BasicAuth("user", "password"))
    AsyncHTTPClient(auth=lambda request: request, http_client=httpx.AsyncClient())
    HTTPClient(dialect="go")
    AsyncHTTPClient(dialect="json")


def errors(error: TaskStoreError) -> None:
    assert_type(error.applied, bool | None)
    match error:
        case TaskResponseError():
            for ids in (error.changes, error.deletes, error.depends, error.owned):
                ids_are: Sequence[int] = ids
                print(ids_are)
            assert_type(error.bugs, tuple[str, ...])
            assert_type(error.has_dependency_errors(), bool)
            assert_type(error.has_bugs(), bool)
            assert_type(error.has_errors(), bool)
        case HTTPError():
            assert_type(error.status, int)
            assert_type(error.detail, str)
            assert_type(error.request, str)
        case UsageError() | NotSentError() | OutcomeUnknownError() | AnswerError() | StoreError():
            assert_type(error.applied, bool | None)


def leases(store: HTTPClient) -> None:
    with store.lease(["map", "reduce"], timedelta(seconds=30), wait=timedelta(minutes=1)) as held:
        assert_type(held, Lease | None)
        if held is not None:
            assert_type(held.task, TaskInfo)
            assert_type(held.commit(adds=[TaskInfo("next")], deletes=[17]), list[TaskInfo])


async def async_leases(store: AsyncHTTPClient) -> None:
    async with store.lease("map", timedelta(seconds=30)) as held:
        assert_type(held, AsyncLease | None)
        if held is not None:
            assert_type(await held.commit(), list[TaskInfo])


def resize(task: TaskInfo) -> Done | Retry | None:
    return Retry(timedelta(seconds=1)) if task.data else Done([TaskInfo("next")], deletes=[task, 17])


async def resize_async(task: TaskInfo) -> Outcome:
    return Move("elsewhere", task.data)


def workers(store: HTTPClient) -> None:
    worker = Worker(store, ["a", "b"], resize, concurrency=4, lease=timedelta(seconds=30), progress=print)
    assert_type(worker.run(until_empty=True), Progress)
    assert_type(worker.progress.done, int)
    Worker(functools.partial(HTTPClient, "http://127.0.0.1:8048"), "a", resize, processes=2).stop()


async def async_workers(store: AsyncHTTPClient) -> None:
    assert_type(await AsyncWorker(store, "a", resize_async, concurrency=100).run(), Progress)


def mistakes(store: HTTPClient, other: AsyncHTTPClient) -> None:
    """Each ignore is needed, or the checkers complain: so what is wrong is found by them."""
    store.claim("map", 30.0)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    store.claim("map")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    store.update(adds=["map"])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    store.update(deletes=17)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    HTTPClient(http_client=httpx.AsyncClient())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    HTTPClient(dialect="rust")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    HTTPClient(timeout=1.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Worker(store, "map", lambda: None, lease=30.0)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    TaskInfo("map", id="17")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    print(taskstore.NoSuchName)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    TaskInfo("map").data = "x"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
