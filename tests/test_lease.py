"""Work under a lease, in both colours: what is renewed, committed, given back, and what happens when it is lost."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest

from taskstore import (
    AsyncHTTPClient,
    HTTPClient,
    LeaseLostError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    TaskResponseError,
    UsageError,
)
from taskstore import lease as leases
from taskstore.testing import LiveServer

T = TypeVar("T")

LEASE = timedelta(seconds=30)
TEN = timedelta(seconds=10)
PATIENCE_S = 20.0


class Store:
    """A client whose updates go wrong as a test wants; `updates` has what was asked for."""

    def __init__(self, client: HTTPClient) -> None:
        self.client = client
        self.updates: list[tuple[Any, ...]] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def claim(self, *args: Any, **options: Any) -> TaskInfo | None:
        return self.client.claim(*args, **options)

    def update(self, adds: Any = (), updates: Any = (), deletes: Any = (), depends: Any = (), **_: Any) -> Any:
        before, after = self.before, self.after
        before()
        tasks = self.client.update(adds, updates, deletes, depends)
        self.updates.append((list(adds), list(updates), list(deletes)))
        after()
        return tasks


class AsyncStore:
    """The same for an async lease."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def claim(self, *args: Any, **options: Any) -> TaskInfo | None:
        return await asyncio.to_thread(self.store.claim, *args, **options)

    async def update(self, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(self.store.update, *args, **options)


class Kit:
    """Leases of one colour, used in the same way."""

    def __init__(self, server: LiveServer, client: HTTPClient, is_async: bool) -> None:
        self.server, self.client, self.is_async = server, client, is_async
        self.store = Store(client)

    @asynccontextmanager
    async def lease(self, group: str = "g", duration: timedelta = LEASE, **options: Any) -> AsyncIterator[Any]:
        options = {"clock": self.server.clock} | options
        if self.is_async:
            async with leases.async_lease(AsyncStore(self.store), group, duration, **options) as lease:
                yield lease
            return
        manager = leases.lease(self.store, group, duration, **options)
        entered = await asyncio.to_thread(manager.__enter__)
        try:
            yield entered
        except BaseException:
            if not await asyncio.to_thread(manager.__exit__, *sys.exc_info()):
                raise
        else:
            await asyncio.to_thread(manager.__exit__, None, None, None)

    async def commit(self, lease: Any, **changes: Any) -> Any:
        return await (lease.commit(**changes) if self.is_async else asyncio.to_thread(lease.commit, **changes))

    async def renewal(self, lease: Any, after: timedelta = TEN) -> TaskInfo:
        """The task after the next renewal, for which it is time."""
        before = lease.task.id
        self.server.clock.advance(after)
        await until(lambda: lease.task.id != before)
        return self.client.tasks(lease.task)[0] or TaskInfo("gone")

    def steal(self, task: TaskInfo) -> TaskInfo:
        """Somebody else takes the task after its lease."""
        self.server.clock.advance(LEASE)
        with HTTPClient(self.server.url, client_id=1) as thief:
            stolen = thief.claim(task.group, LEASE)
        assert stolen is not None
        return stolen


async def until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "waited in vain"
        await asyncio.sleep(0.001)


@pytest.fixture(params=["blocking", "async"])
def kit(request: pytest.FixtureRequest, server: LiveServer) -> Iterator[Kit]:
    with HTTPClient(server.url) as client:
        client.update(adds=[TaskInfo("g", "work")])
        yield Kit(server, client, request.param == "async")


def run(body: Awaitable[T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await body

    return asyncio.run(bounded())


def test_a_commit_deletes_the_task_with_all_the_rest_in_one_update(kit: Kit) -> None:
    [other, old] = kit.client.update(adds=[TaskInfo("other"), TaskInfo("old")])

    async def body() -> None:
        async with kit.lease() as lease:
            assert lease.task.data == "work"
            [added, updated] = await kit.commit(
                lease, adds=[TaskInfo("next", "1")], updates=[other.replace(data="new")], deletes=[old], depends=[other]
            )
            assert (added.data, updated.data) == ("1", "new")
            with pytest.raises(UsageError, match="already"):
                await kit.commit(lease)

    run(body())
    assert kit.client.groups() == ["next", "other"]
    assert len(kit.store.updates) == 1


def test_nothing_to_claim_is_none(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease("empty") as lease:
            assert lease is None
        async with kit.lease("empty", wait=timedelta(milliseconds=20)) as lease:
            assert lease is None

    run(body())


def test_a_lease_waits_for_a_task(kit: Kit) -> None:
    async def body() -> None:
        asyncio.get_running_loop().call_later(0.1, lambda: threading.Thread(target=add).start())
        async with kit.lease("later", wait=timedelta(seconds=10)) as lease:
            assert lease.task.data == "here"

    def add() -> None:
        kit.client.update(adds=[TaskInfo("later", "here")])

    run(body())


@pytest.mark.parametrize("error", [None, ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_a_block_that_ends_without_a_commit_gives_the_task_back_and_an_exception_passes(
    kit: Kit, error: BaseException | None
) -> None:
    async def body() -> BaseException | None:
        try:
            async with kit.lease():
                if error:
                    raise error
        except (ValueError, KeyboardInterrupt) as passed:
            return passed
        return None

    assert run(body()) is error
    [task] = kit.client.group("g")
    assert (task.data, task.attempts) == ("work", 1)


def test_it_is_renewed_at_a_third_under_ever_new_ids_and_the_newest_one_is_committed(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease() as lease:
            first = lease.task
            for _ in range(4):
                task = await kit.renewal(lease)
                assert task.timespec == kit.server.clock() + 30 * 10**9
            lease.check()
            assert kit.client.task(first) is None
            await kit.commit(lease)

    run(body())
    assert kit.client.groups() == []


def test_two_hours_in_seconds(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease(duration=timedelta(minutes=6)) as lease:
            for _ in range(60):
                await kit.renewal(lease, after=timedelta(minutes=2))
            await kit.commit(lease, adds=[TaskInfo("done")])

    run(body())
    assert kit.client.groups() == ["done"]


def test_a_commit_awaits_the_renewal_that_is_on_its_way(kit: Kit) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        kit.store.after = lambda: None
        under_way.set()
        go_on.wait(PATIENCE_S)

    async def body() -> None:
        async with kit.lease() as lease:
            kit.store.after = slow
            kit.server.clock.advance(TEN)
            await asyncio.to_thread(under_way.wait, PATIENCE_S)
            commit = asyncio.create_task(kit.commit(lease))
            await asyncio.sleep(0.05)
            assert not commit.done()
            assert kit.client.group("g", owned=True) != []
            go_on.set()
            await commit

    run(body())
    assert kit.client.groups() == []
    assert [bool(deletes) for _, _, deletes in kit.store.updates] == [False, True]


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_renewal_that_nobody_answered_is_sent_again(kit: Kit, is_applied: bool) -> None:
    def lose_reply() -> None:
        kit.store.before = kit.store.after = lambda: None
        raise OutcomeUnknownError("lost")

    async def body() -> str:
        async with kit.lease() as lease:
            first = lease.task
            setattr(kit.store, "after" if is_applied else "before", lose_reply)
            kit.server.clock.advance(TEN)
            await until(lambda: kit.store.updates or not is_applied)
            await asyncio.sleep(0.05)
            kit.server.clock.advance(timedelta(seconds=3))
            await until(lambda: lease.lost.is_set() or lease.task.id != first.id)
            if lease.lost.is_set():
                return "lost"
            await kit.commit(lease)
            return "committed"

    # Where the lost renewal was carried out and no key protects it, its id is unknown: then nothing is committed.
    if is_applied and kit.is_async:
        with pytest.raises(LeaseLostError):
            run(body())
    else:
        assert run(body()) == ("lost" if is_applied else "committed")


class Losing(httpx.HTTPTransport):
    """Carries requests to the store, and loses the first answers to updates once it is told to."""

    to_lose = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path == "/update" and self.to_lose:
            self.to_lose -= 1
            response.close()
            raise httpx.ReadError("lost")
        return response


def test_replies_that_are_lost_on_the_way_are_made_good_by_keys(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease() as lease:
            transport.to_lose = 3
            await kit.renewal(lease)
            assert transport.to_lose == 0
            transport.to_lose = 2
            await kit.commit(lease, adds=[TaskInfo("next")])

    with Losing() as transport, httpx.Client(transport=transport) as http:
        kit.store.client = HTTPClient(kit.server.url, http_client=http)
        run(body())
    assert transport.to_lose == 0
    assert kit.client.groups() == ["next"]


async def lost_lease(kit: Kit, lease: Any) -> None:
    """Wait for the loss as work of this colour does."""
    if kit.is_async:
        await asyncio.sleep(PATIENCE_S)  # Cancelled as soon as it is lost.
    await asyncio.to_thread(lease.lost.wait, PATIENCE_S)
    with pytest.raises(LeaseLostError):
        lease.check()
    await kit.commit(lease, adds=[TaskInfo("next")])


def test_whoever_is_late_is_told_and_commits_nothing(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease() as lease:
            kit.store.before = lambda: time.sleep(0.05)  # So that the theft comes before the renewal.
            kit.steal(lease.task)
            await lost_lease(kit, lease)

    with pytest.raises(LeaseLostError):
        run(body())
    assert kit.client.groups() == ["g"]
    assert [task.owner_id for task in kit.client.group("g", owned=True)] == [1]


def test_without_the_store_a_lease_ends_by_its_own_clock(kit: Kit) -> None:
    def cut_off() -> None:
        raise NotSentError("no way")

    async def body() -> None:
        async with kit.lease() as lease:
            kit.store.before = cut_off
            for _ in range(3):
                kit.server.clock.advance(TEN)
                await asyncio.sleep(0.02)
            await lost_lease(kit, lease)

    with pytest.raises(LeaseLostError, match="ran out"):
        run(body())
    assert kit.store.updates == []


def test_a_refused_commit_is_a_lost_lease_if_the_task_is_to_blame_and_otherwise_not(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease() as lease:
            with pytest.raises(TaskResponseError) as refused:
                await kit.commit(lease, depends=[999])
            assert refused.value.depends == (999,)
            lease.check()
            await kit.renewal(lease)
            kit.client.update(deletes=[lease.task])
            with pytest.raises(LeaseLostError) as lost:
                await kit.commit(lease)
            assert isinstance(lost.value.__cause__, TaskResponseError)
            assert lease.lost.is_set()

    run(body())


def test_a_commit_of_unknown_outcome_is_not_followed_by_anything(kit: Kit) -> None:
    def lose_reply() -> None:
        raise OutcomeUnknownError("lost")

    async def body() -> None:
        async with kit.lease() as lease:
            kit.store.after = lose_reply
            await kit.commit(lease)

    with pytest.raises(OutcomeUnknownError):
        run(body())
    assert len(kit.store.updates) == 1


def test_a_clock_that_goes_back_does_no_harm(kit: Kit) -> None:
    async def body() -> None:
        async with kit.lease() as lease:
            kit.server.clock.advance(timedelta(hours=-1))
            await asyncio.sleep(0.03)
            lease.check()
            kit.server.clock.advance(timedelta(hours=1))
            await kit.renewal(lease)
            await kit.commit(lease)

    run(body())
    assert kit.client.groups() == []


def test_leases_of_a_client(server: LiveServer) -> None:
    async def body() -> None:
        async with AsyncHTTPClient(server.url) as client:
            await client.update(adds=[TaskInfo("g", "async")])
            async with client.lease(["f", "g"], LEASE) as lease:
                assert lease
                await lease.commit(adds=[TaskInfo("done", lease.task.data)])

    run(body())
    with HTTPClient(server.url) as client:
        client.update(adds=[TaskInfo("g", "blocking")])
        with client.lease("g", LEASE) as lease:
            assert lease
            lease.commit(adds=[TaskInfo("done", lease.task.data)])
        assert sorted(task.data for task in client.group("done")) == ["async", "blocking"]
        with pytest.raises(UsageError, match="lease"), client.lease("g", 30):
            pass


def test_a_cancelled_block_gives_the_task_back_and_is_cancelled(server: LiveServer) -> None:
    async def body() -> None:
        async with AsyncHTTPClient(server.url) as client:
            await client.update(adds=[TaskInfo("g")])
            entered = asyncio.Event()

            async def work() -> None:
                async with client.lease("g", LEASE):
                    entered.set()
                    await asyncio.sleep(PATIENCE_S)

            task = asyncio.create_task(work())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(await client.group("g")) == 1

    run(body())


def test_the_loss_of_a_lease_is_no_cancellation_to_whoever_is_outside(kit: Kit) -> None:
    async def work() -> None:
        async with kit.lease() as lease:
            kit.client.update(deletes=[lease.task])
            kit.server.clock.advance(TEN)
            if kit.is_async:
                await asyncio.sleep(PATIENCE_S)
            await asyncio.to_thread(lease.lost.wait, PATIENCE_S)
            lease.check()

    async def body() -> int:
        with pytest.raises(LeaseLostError):
            await work()
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task.cancelling() if task else -1

    assert run(body()) == 0
