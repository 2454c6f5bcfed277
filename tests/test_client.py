"""Every method, in both colours, against a live server whose clock the test sets: what an application may rely on."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Colour
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskstore import (
    ID,
    AsyncHTTPClient,
    GroupStats,
    HTTPClient,
    HTTPError,
    Step,
    TaskInfo,
    TaskResponseError,
    UsageError,
)
from taskstore.model import instant_ns
from taskstore.testing import LiveServer, live_server

LEASE = timedelta(seconds=30)
NANOSECOND = 1


@pytest.fixture
def store(colour: Colour, server: LiveServer) -> HTTPClient:
    return colour.client(server.url)


@pytest.fixture
def rival(colour: Colour, server: LiveServer) -> HTTPClient:
    """Somebody else at the same store."""
    return colour.client(server.url, client_id=78)


def add(store: HTTPClient, group: str = "map", data: str = "", timespec: Any = 0) -> TaskInfo:
    return store.update(adds=[TaskInfo(group, data, timespec)])[0]


def claimed(task: TaskInfo | None) -> TaskInfo:
    assert task is not None
    return task


class TestAdding:
    def test_an_added_task_comes_back_with_an_id_an_instant_and_an_owner(
        self, store: HTTPClient, server: LiveServer
    ) -> None:
        task = add(store, "map", "hello")
        assert (task.group, task.data, task.owner_id) == ("map", "hello", ID())
        assert task.id > 0
        assert task.timespec == server.clock()
        assert abs(task.available_at - datetime.now(UTC)) < timedelta(minutes=10)

    def test_several_come_back_in_the_order_asked(self, store: HTTPClient) -> None:
        tasks = store.update(adds=(TaskInfo("map", str(number)) for number in range(100)))
        assert [task.data for task in tasks] == [str(number) for number in range(100)]
        assert [task.id for task in tasks] == sorted({task.id for task in tasks})

    def test_a_delay_counts_from_the_servers_now(self, store: HTTPClient, server: LiveServer) -> None:
        assert add(store, timespec=timedelta(minutes=1)).timespec == server.clock() + 60_000_000_000

    def test_an_instant_is_kept(self, store: HTTPClient) -> None:
        instant = datetime(2100, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
        assert add(store, timespec=instant).available_at == instant

    @pytest.mark.parametrize("timespec", [1, 2**53 + 1, 2**63 - 1])
    def test_no_instant_loses_a_nanosecond(self, store: HTTPClient, timespec: int) -> None:
        task = add(store, timespec=timespec)
        assert task.timespec == timespec
        assert store.task(task.id) == task

    def test_the_owner_and_id_of_an_add_do_not_matter(self, store: HTTPClient) -> None:
        added = store.update(adds=[TaskInfo("map", id=99, owner_id=78)])[0]
        assert (added.id, added.owner_id) != (99, 78)

    def test_nothing_to_do_is_done(self, store: HTTPClient) -> None:
        assert store.update() == []


class TestReading:
    def test_a_task_is_found_by_its_id(self, store: HTTPClient) -> None:
        task = add(store, "map", "hello")
        assert store.task(task.id) == store.task(task) == task

    @pytest.mark.parametrize("id", [-(2**63), -1, 0, 99, 2**63 - 1])
    def test_there_may_be_nothing(self, store: HTTPClient, id: int) -> None:
        assert store.task(id) is None
        assert store.tasks(id, id) == [None, None]

    def test_several_tasks_are_found_in_the_order_asked(self, store: HTTPClient) -> None:
        first, second = store.update(adds=[TaskInfo("map"), TaskInfo("reduce")])
        assert store.tasks(second.id, 99, first, second) == [second, None, first, second]
        assert store.tasks() == []

    def test_thousands_of_tasks_are_found(self, store: HTTPClient) -> None:
        tasks = store.update(adds=[TaskInfo("map", str(number)) for number in range(3_000)])
        assert store.tasks(*reversed(tasks)) == tasks[::-1]

    def test_a_group_lists_what_is_available(self, store: HTTPClient, server: LiveServer) -> None:
        now, later = add(store), add(store, timespec=timedelta(minutes=1))
        assert store.group("map") == [now]
        assert store.group("map", owned=True) == [now, later]
        server.clock.advance(timedelta(minutes=1))
        assert store.group("map") == [now, later]

    def test_a_group_may_be_limited(self, store: HTTPClient) -> None:
        tasks = store.update(adds=[TaskInfo("map") for _ in range(5)])
        assert store.group("map", 2) == tasks[:2]
        assert store.group("map", limit=0) == store.group("map", limit=2**31 - 1) == tasks

    def test_a_group_without_tasks_is_empty(self, store: HTTPClient) -> None:
        assert store.group("nobody has heard of it") == []

    def test_groups_are_those_that_have_tasks(self, store: HTTPClient) -> None:
        assert store.groups() == []
        task = add(store, "map", timespec=timedelta(days=1))
        add(store, "reduce")
        assert store.groups() == ["map", "reduce"]
        store.update(deletes=[task])
        assert store.groups() == ["reduce"]


class TestClaiming:
    def test_a_claim_is_a_lease(self, store: HTTPClient, server: LiveServer) -> None:
        task = add(store, "map", "hello")
        mine = claimed(store.claim("map", LEASE))
        assert mine.id > task.id
        assert (mine.group, mine.data, mine.owner_id) == ("map", "hello", ID())
        assert mine.timespec == server.clock() + 30_000_000_000
        assert store.task(task.id) is None

    def test_nothing_to_claim_is_none(self, store: HTTPClient) -> None:
        assert store.claim("map", LEASE) is None
        add(store, timespec=timedelta(minutes=1))
        assert store.claim("map", LEASE) is None

    def test_a_leased_task_is_nobody_elses(self, store: HTTPClient, rival: HTTPClient, server: LiveServer) -> None:
        add(store)
        mine = claimed(store.claim("map", LEASE))
        server.clock.advance(instant_ns(mine.timespec) - server.clock() - NANOSECOND)
        assert rival.claim("map", LEASE) is None
        with pytest.raises(TaskResponseError) as caught:
            rival.update(deletes=[mine])
        assert caught.value.owned == (mine.id,)

    def test_a_lease_runs_out_at_its_very_instant(
        self, store: HTTPClient, rival: HTTPClient, server: LiveServer
    ) -> None:
        add(store)
        mine = claimed(store.claim("map", LEASE))
        server.clock.advance(instant_ns(mine.timespec) - server.clock())
        theirs = claimed(rival.claim("map", LEASE))
        assert theirs.owner_id == 78
        with pytest.raises(TaskResponseError) as caught:
            store.update(adds=[TaskInfo("done")], deletes=[mine])
        assert caught.value.deletes == (mine.id,)
        assert store.groups() == ["map"]

    @pytest.mark.parametrize("duration", [0, 1, timedelta(days=36_500)])
    def test_a_lease_may_have_any_length(self, store: HTTPClient, server: LiveServer, duration: Any) -> None:
        add(store)
        mine = claimed(store.claim("map", duration))
        lease_ns = duration // timedelta(microseconds=1) * 1000 if isinstance(duration, timedelta) else duration
        assert mine.timespec == server.clock() + lease_ns

    def test_a_claim_that_depends_on_a_missing_task_fails_even_if_there_is_none(self, store: HTTPClient) -> None:
        with pytest.raises(TaskResponseError) as caught:
            store.claim("map", LEASE, depends=[98, 99])
        assert caught.value.depends == (98, 99)

    def test_a_claim_that_depends_on_a_task_gets_one(self, store: HTTPClient) -> None:
        token, task = add(store, "token"), add(store)
        assert claimed(store.claim("map", LEASE, depends=[token])).id > task.id

    def test_each_task_is_claimed_once(self, server: LiveServer) -> None:
        with HTTPClient(server.url) as store, ThreadPoolExecutor(8) as threads:
            store.update(adds=[TaskInfo("map", str(number)) for number in range(100)])
            mine = list(threads.map(lambda _: store.claim("map", LEASE), range(120)))
        assert sorted(int(task.data) for task in mine if task) == list(range(100))
        assert mine.count(None) == 20


class TestChanging:
    def test_a_task_is_changed_and_has_a_new_id(self, store: HTTPClient, server: LiveServer) -> None:
        task = add(store, "map", "hello")
        (changed,) = store.update(updates=[task.replace(data="goodbye", available_in=timedelta(minutes=1))])
        assert changed.id > task.id
        assert (changed.group, changed.data) == ("map", "goodbye")
        assert changed.timespec == server.clock() + 60_000_000_000
        assert store.tasks(task, changed) == [None, changed]

    def test_a_lease_is_renewed(self, store: HTTPClient, rival: HTTPClient, server: LiveServer) -> None:
        add(store)
        mine = claimed(store.claim("map", LEASE))
        server.clock.advance(timedelta(seconds=20))
        (mine,) = store.update(updates=[mine.replace(available_in=LEASE)])
        server.clock.advance(timedelta(seconds=20))
        assert rival.claim("map", LEASE) is None
        assert store.update(deletes=[mine]) == []

    def test_a_task_is_given_back(self, store: HTTPClient, rival: HTTPClient) -> None:
        add(store, data="hello")
        mine = claimed(store.claim("map", LEASE))
        store.update(updates=[mine.replace(available_in=timedelta(0))])
        assert claimed(rival.claim("map", LEASE)).data == "hello"

    def test_what_is_not_named_stays(self, store: HTTPClient) -> None:
        add(store, data="hello")
        mine = claimed(store.claim("map", LEASE))
        (changed,) = store.update(updates=[mine.replace()])
        assert (changed.data, changed.timespec) == (mine.data, mine.timespec)

    def test_all_of_it_happens(self, store: HTTPClient) -> None:
        one, two, three = store.update(adds=[TaskInfo("map", "1"), TaskInfo("map", "2"), TaskInfo("token")])
        added, changed = store.update([TaskInfo("reduce", "3")], [two.replace(data="4")], [one, one.id], [three])
        assert (added.data, changed.data) == ("3", "4")
        assert store.tasks(one, two, three) == [None, None, three]

    def test_or_nothing_and_every_culprit_is_named(self, store: HTTPClient, rival: HTTPClient) -> None:
        kept, gone, held = store.update(adds=[TaskInfo("map"), TaskInfo("map"), TaskInfo("held")])
        held = claimed(rival.claim("held", LEASE))
        store.update(deletes=[gone])
        with pytest.raises(TaskResponseError) as caught:
            store.update([TaskInfo("new")], [gone.replace(data="x"), held.replace(data="x")], [kept, 98], [99, kept])
        error = caught.value
        assert (error.changes, error.deletes, error.depends, error.owned) == ((gone.id,), (98,), (99,), (held.id,))
        assert error.has_dependency_errors()
        assert not error.has_bugs()
        assert error.applied is False
        assert store.groups() == ["held", "map"]
        assert store.task(kept) == kept

    def test_a_contradiction_is_a_bug(self, store: HTTPClient) -> None:
        task = add(store)
        with pytest.raises(TaskResponseError, match="contradictory request") as caught:
            store.update(updates=[task], deletes=[task])
        assert caught.value.has_bugs()
        assert store.task(task) == task


class TestBatches:
    def test_several_are_claimed_in_one_step(self, store: HTTPClient, rival: HTTPClient) -> None:
        store.update(adds=[TaskInfo("map", str(number)) for number in range(5)])
        mine = store.claim_batch("map", LEASE, 3)
        assert len({task.data for task in mine}) == 3
        assert all(task.owner_id == ID() for task in mine)
        assert len(rival.claim_batch("map", LEASE, 10_000)) == 2
        assert rival.claim_batch("map", LEASE, 10_000) == []

    def test_one_of_several_groups_has_something(self, store: HTTPClient) -> None:
        add(store, "reduce", "hello")
        assert claimed(store.claim(["map", "reduce", "done"], LEASE)).data == "hello"
        assert store.claim(("map", "reduce"), LEASE) is None

    def test_it_may_depend_on_others(self, store: HTTPClient) -> None:
        with pytest.raises(TaskResponseError) as caught:
            store.claim_batch(["map", "reduce"], LEASE, 3, depends=[99])
        assert caught.value.depends == (99,)

    def test_claims_are_counted(self, store: HTTPClient, server: LiveServer) -> None:
        assert add(store).attempts == 0
        for attempts in (1, 2, 3):
            mine = claimed(store.claim("map", LEASE))
            assert mine.attempts == attempts
            (mine,) = store.update(updates=[mine.replace(data=str(attempts))])
            assert store.task(mine) == mine
            assert mine.attempts == attempts
            server.clock.advance(LEASE)


class TestWaits:
    def test_a_claim_waits_until_there_is_something(self, colour: Colour, server: LiveServer) -> None:
        store, other = colour.client(server.url), HTTPClient(server.url)

        def bring() -> None:
            while not server.waiting:
                threading.Event().wait(0.001)
            add(other, data="hello")

        with other, ThreadPoolExecutor(1) as thread:
            bringing = thread.submit(bring)
            assert claimed(store.claim("map", LEASE, wait=timedelta(minutes=1))).data == "hello"
            bringing.result()

    def test_or_until_the_time_is_up(self, store: HTTPClient) -> None:
        assert store.claim("map", LEASE, wait=timedelta(milliseconds=20)) is None
        assert store.claim_batch("map", LEASE, 2, wait=20_000_000) == []
        assert store.step(group="map", duration=LEASE, wait=20_000_000).claimed == ()


class TestSteps:
    def test_what_is_done_is_finished_and_the_next_is_claimed(self, store: HTTPClient, server: LiveServer) -> None:
        add(store, data="1")
        mine = claimed(store.claim("map", LEASE))
        store.update(adds=[TaskInfo("map", "2"), TaskInfo("map", "3")])
        step = store.step([TaskInfo("reduce", "one")], deletes=[mine], group="map", duration=LEASE, limit=2)
        assert {task.data for task in step.claimed} == {"2", "3"}
        assert {task.timespec for task in step.claimed} == {server.clock() + 30_000_000_000}
        assert [task.data for task in step.updated] == ["one"]
        assert store.group("reduce") == list(step.updated)
        assert store.task(mine) is None

    def test_the_claim_sees_what_the_update_has_made(self, store: HTTPClient) -> None:
        step = store.step([TaskInfo("map", "1")], group="map", duration=LEASE)
        assert [task.data for task in step.claimed] == ["1"]
        assert step.claimed[0].id > step.updated[0].id

    def test_where_either_is_refused_neither_happens(self, store: HTTPClient) -> None:
        task = add(store, "map")
        with pytest.raises(TaskResponseError) as caught:
            store.step([TaskInfo("reduce")], deletes=[98], group="map", duration=LEASE, claim_depends=[99])
        assert (caught.value.deletes, caught.value.depends) == ((98,), (99,))
        assert caught.value.applied is False
        assert store.group("map") == [task]
        assert store.groups() == ["map"]

    def test_it_may_be_an_update_alone_or_a_claim_alone_or_nothing(self, store: HTTPClient) -> None:
        (added,) = store.step([TaskInfo("map")]).updated
        assert store.step() == Step()
        (mine,) = store.step(group=["map", "reduce"], duration=LEASE).claimed
        assert mine.id > added.id


class TestStats:
    def test_tasks_are_counted_group_by_group(self, store: HTTPClient, server: LiveServer) -> None:
        store.update(adds=[TaskInfo("map"), TaskInfo("map"), TaskInfo("map", timespec=LEASE), TaskInfo("reduce")])
        store.claim("map", LEASE)
        server.clock.advance(timedelta(seconds=1.5))
        stats = store.stats()
        assert stats.groups == (GroupStats("map", 1, 1, 1, 1_500_000_000), GroupStats("reduce", 1, 0, 0, 1_500_000_000))
        assert (stats.counters.adds, stats.counters.claims) == (4, 1)
        assert store.stats("re").groups == stats.groups[1:]
        assert store.stats(limit=1).groups == stats.groups[:1]

    def test_of_nothing_there_is_nothing(self, store: HTTPClient) -> None:
        stats = store.stats()
        assert (stats.groups, stats.totals.groups, stats.totals.available) == ((), 0, 0)


class TestOddities:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_name_and_any_data_come_back_as_they_were(self, shared: HTTPClient, data: st.DataObject) -> None:
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
        name = data.draw(text.filter(bool) | st.text("./%?#&\n\\ ", min_size=1, max_size=4), label="group")
        task = add(shared, name, data.draw(text, label="data"))
        assert shared.task(task) == task
        assert shared.group(name) == [task]
        assert shared.groups() == [name]
        mine = claimed(shared.claim(name, LEASE))
        assert (mine.group, mine.data) == (name, task.data)
        shared.update(deletes=[mine])

    @pytest.mark.parametrize("name", [".", "..", "...", "a/b", "a/../b", "/", "%2F", "%2e", "?", "#", "\n", "🦊", "\0"])
    def test_groups_with_odd_names_are_kept_apart(self, store: HTTPClient, name: str) -> None:
        task, _ = store.update(adds=[TaskInfo(name, "mine"), TaskInfo("other", "not mine")])
        assert store.group(name, owned=True) == [task]
        assert store.groups() == sorted([name, "other"])

    def test_what_the_server_does_not_take_says_why(self, store: HTTPClient) -> None:
        with pytest.raises(HTTPError, match=r"status 422: POST .*512") as caught:
            add(store, "x" * 513)
        assert caught.value.applied is False
        assert add(store, "x" * 512).group == "x" * 512

    def test_a_missing_address_says_so(self, colour: Colour, server: LiveServer) -> None:
        with pytest.raises(HTTPError, match="status 404") as caught:
            colour.client(server.url + "/prefix").groups()
        assert caught.value.request == f"GET {server.url}/prefix/groups"

    def test_a_server_that_asks_for_a_token_gets_it(self, colour: Colour) -> None:
        with live_server(token="s3cr3t") as server:
            with pytest.raises(HTTPError, match="status 401"):
                colour.client(server.url).groups()
            assert colour.client(server.url, auth="s3cr3t").groups() == []

    def test_a_client_may_have_another_id(self, rival: HTTPClient) -> None:
        assert rival.client_id == 78
        assert add(rival).owner_id == 78
        assert "client_id=78" in repr(rival)

    @pytest.mark.parametrize("client_id", [-(2**31), 2**31 - 1, 0])
    def test_an_id_has_32_bits(self, colour: Colour, server: LiveServer, client_id: int) -> None:
        assert add(colour.client(server.url, client_id=client_id)).owner_id == client_id

    @pytest.mark.parametrize("client_id", [2**31, "78", 78.0, True])
    def test_what_is_no_client_id_is_refused(self, colour: Colour, client_id: Any) -> None:
        with pytest.raises(UsageError, match="client id"):
            colour.client(client_id=client_id)

    def test_a_client_is_shown_with_its_address(self, colour: Colour) -> None:
        kind = "AsyncHTTPClient" if colour.is_async else "HTTPClient"
        assert repr(colour.client("http://127.0.0.1:1")) == f"{kind}('http://127.0.0.1:1', client_id={ID()})"

    @pytest.fixture
    def shared(self, store: HTTPClient) -> Iterator[HTTPClient]:
        """One store for all examples of a test; each leaves it empty."""
        yield store
        assert store.groups() == []


class TestTwins:
    def test_both_have_the_same_methods_with_the_same_signatures(self) -> None:
        assert signatures(HTTPClient) == signatures(AsyncHTTPClient)

    def test_one_says_what_the_other_does(self) -> None:
        for name in signatures(HTTPClient):
            if name in {"client_id", "__init__", "lease"}:
                continue
            twin = "aclose" if name == "close" else name
            assert inspect.getdoc(getattr(AsyncHTTPClient, twin)) == f"Async twin of `HTTPClient.{name}`."
            assert inspect.iscoroutinefunction(getattr(AsyncHTTPClient, twin))
            assert not inspect.iscoroutinefunction(getattr(HTTPClient, name))

    def test_a_cancelled_call_leaves_the_client_usable(self, server: LiveServer) -> None:
        async def cancel() -> list[str]:
            async with AsyncHTTPClient(server.url) as store:
                calls = [asyncio.create_task(store.groups()) for _ in range(20)]
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                return await store.groups()

        assert asyncio.run(cancel()) == []


def signatures(kind: type) -> dict[str, object]:
    """What a class offers, and how it is called; `aclose` goes by the name of its twin."""
    return {
        "close" if name == "aclose" else name: signature(member)
        for name, member in vars(kind).items()
        if name == "__init__" or not name.startswith("_")
    }


def signature(member: property | Callable[..., object]) -> object:
    if isinstance(member, property):
        return "property"
    shape = inspect.signature(member)
    # Of an injected client the type differs, and only there.
    parameters = [p.replace(annotation=None) if p.name == "http_client" else p for p in shape.parameters.values()]
    return parameters, str(shape.return_annotation).replace("Async", "")
