"""The engine: what shares a transaction, who fails with whom, and what happens when the disk does."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskstore.server import open_storage
from taskstore.server.engine import MAX_BATCH, QUICK_S, Engine
from taskstore.server.messages import Claim, Outcome, TaskAdd, Update
from taskstore.server.rules import Wanted
from taskstore.server.sqlite import MEMORY, SqliteStorage
from taskstore.server.storage import CommitError, Transaction
from taskstore.testing import SettableClock

ME = 1000


class Watched(SqliteStorage):
    """A storage that counts its commits, holds them up at will, and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.commits = 0
        self.committed_in = 0
        """In which thread the last one was."""
        self.now_s = 0.0
        """A clock that moves at commits only."""
        self.takes_s = 0.0
        """By that much."""
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None

    def commit(self) -> None:
        assert self.go.wait(30)
        if self.failure:
            self.rollback()
            raise self.failure
        self.commits += 1
        self.committed_in = threading.get_ident()
        self.now_s += self.takes_s
        super().commit()


@pytest.fixture
def storage(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "store.db")


def run(storage: SqliteStorage, body: Callable[[Engine], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        engine = Engine(storage, **options)
        try:
            await body(engine)
        finally:
            await engine.close()

    asyncio.run(main())


async def parked(engine: Engine, number: int) -> None:
    """Wait until so many claims wait for something to claim; they are on their way."""
    for _ in range(100):
        if engine.parked < number:
            await asyncio.sleep(0)
    assert engine.parked == number


def outcome(answer: object) -> Outcome:
    assert isinstance(answer, Outcome)
    return answer


def add(data: str = "") -> Update:
    return Update(ME, [TaskAdd("g", data)])


def test_requests_that_arrive_while_a_batch_commits_share_the_next_commit(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        storage.go.clear()
        first = asyncio.create_task(engine.apply(add()))
        await asyncio.sleep(0)
        others = [asyncio.create_task(engine.apply(add())) for _ in range(50)]
        await asyncio.sleep(0)
        storage.go.set()
        await asyncio.gather(first, *others)
        assert storage.commits == 2

    run(storage, body)


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize(("before", "at_once", "commits"), [(1, 1, 2), (1, 2, 1), (2, 1, 1)])
def test_where_there_are_several_they_take_along_what_has_arrived_by_now(
    before: int, at_once: int, commits: int, parallel: int
) -> None:
    """And whoever is alone does not wait for company."""
    storage = Watched(Path(MEMORY))  # where any number of batches may be under way, for each is done in one go
    storage.parallel = parallel

    async def body(engine: Engine) -> None:
        async def read_a_little_later() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await engine.apply(add())

        await asyncio.gather(*[engine.apply(add()) for _ in range(before)])
        so_far = storage.commits
        await asyncio.gather(*[engine.apply(add()) for _ in range(at_once)], read_a_little_later())
        assert storage.commits == so_far + commits

    run(storage, body)


def test_no_batch_grows_beyond_its_bound(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        await asyncio.gather(*[engine.apply(add()) for _ in range(2 * MAX_BATCH + 1)])
        assert storage.commits == 3

    run(storage, body)


def test_what_changes_nothing_costs_no_commit(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        assert await engine.apply(Claim(ME, "none", 1)) == Outcome()
        assert outcome(await engine.apply(Update(ME, deletes=[5]))).error is not None
        assert storage.commits == 0

    run(storage, body)


def test_a_request_that_meets_a_fault_of_ours_fails_alone(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = SqliteStorage.begin

    def faulty(self: SqliteStorage, wanted: Wanted) -> Transaction:
        if 666 in wanted.ids:
            raise ZeroDivisionError("planted")
        return begin(self, wanted)

    monkeypatch.setattr(SqliteStorage, "begin", faulty)

    async def body(engine: Engine) -> None:
        good, bad, other = await asyncio.gather(
            engine.apply(add("a")), engine.apply(Update(ME, deletes=[666])), engine.apply(add("b")),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(bad, ZeroDivisionError)
        assert [task.data for task in (*outcome(good).tasks, *outcome(other).tasks)] == ["a", "b"]

    run(storage, body)


def test_an_id_that_came_and_went_within_a_batch_is_not_given_out_again(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        made, deleted = await asyncio.gather(engine.apply(add("short-lived")), engine.apply(Update(ME, deletes=[1])))
        assert (outcome(made).tasks[0].id, deleted) == (1, Outcome())
        assert outcome(await engine.apply(add("next"))).tasks[0].id == 2

    run(storage, body)
    again = open_storage(storage.path)
    assert next(again.begin(Wanted(frozenset(), {}, 1)).seen.fresh) == 3
    again.close()


def test_a_client_that_went_away_leaves_its_neighbours_alone(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        storage.go.clear()
        gone, stays = (asyncio.create_task(engine.apply(add(data))) for data in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        storage.go.set()
        assert outcome(await stays).tasks[0].data == "stays"

    run(storage, body)


def test_a_full_disk_is_reported_and_over_when_there_is_room_again(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        storage.failure = CommitError("disk full", applied=False)
        with pytest.raises(CommitError, match="disk full"):
            await engine.apply(add("lost"))
        storage.failure = None
        done = outcome(await engine.apply(add("kept")))
        assert await engine.tasks([done.tasks[0].id]) == done.tasks
        assert [task.data async for page in engine.group("g", limit=0, owned=True) for task in page] == ["kept"]

    run(storage, body)


def test_after_a_commit_of_unknown_outcome_nothing_more_is_promised(storage: Watched) -> None:
    stops: list[None] = []

    async def body(engine: Engine) -> None:
        storage.failure = CommitError("sync failed", applied=None)
        results = await asyncio.gather(*[engine.apply(add()) for _ in range(3)], return_exceptions=True)
        storage.failure = None
        assert [type(result) for result in results] == [CommitError] * 3
        with pytest.raises(CommitError, match="sync failed"):
            await engine.apply(add())
        assert stops == [None]

    run(storage, body, on_failure=lambda: stops.append(None))


def test_it_says_for_how_long_a_commit_has_been_under_way(storage: Watched) -> None:
    async def body(engine: Engine) -> None:
        assert engine.waiting_s == 0
        storage.go.clear()
        hangs = asyncio.create_task(engine.apply(add()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first = engine.waiting_s
        assert 0 < first < engine.waiting_s
        storage.go.set()
        await hangs
        assert engine.waiting_s == 0

    run(storage, body)


def test_the_loop_is_left_free_by_commits_that_take_their_time(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskstore.server.engine.time", SimpleNamespace(monotonic=lambda: storage.now_s))

    async def body(engine: Engine) -> None:
        async def is_loop_free(commit_s: float) -> bool:
            storage.takes_s = commit_s
            await engine.apply(add())
            return storage.committed_in != threading.get_ident()

        quick, slow = QUICK_S / 10, QUICK_S * 10
        assert await is_loop_free(quick), "nobody knows yet how quick the disk is"
        assert [await is_loop_free(quick) for _ in range(100)][-1] is False
        await is_loop_free(slow)
        assert await is_loop_free(quick), "it has just been slow"
        assert [await is_loop_free(quick) for _ in range(100)][-1] is False

    run(storage, body)


def test_closing_finishes_what_is_under_way(storage: Watched) -> None:
    async def main() -> Outcome:
        engine = Engine(storage)
        under_way = asyncio.create_task(engine.apply(add("last")))
        await asyncio.sleep(0)
        await engine.close()
        return outcome(await under_way)

    [task] = asyncio.run(main()).tasks
    again = open_storage(storage.path)
    assert again.tasks([task.id]) == {task.id: task}
    again.close()


def test_clients_that_hang_up_in_the_moment_of_the_end_do_not_disturb_it(storage: Watched) -> None:
    async def main(engine: Engine) -> None:
        claims = [asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9))) for _ in range(3)]
        await parked(engine, len(claims))
        claims[0].cancel()
        engine.drain()
        answers = await asyncio.gather(*claims, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [Outcome(), Outcome()]

    run(storage, main)


def test_a_claim_whose_time_is_up_takes_nothing_though_there_is_news_in_the_same_moment() -> None:
    clock = SettableClock()
    storage = SqliteStorage(":memory:", clock=clock)

    async def main(engine: Engine) -> None:
        await engine.apply(Update(ME, [TaskAdd("g", "later", -1)]))
        waits = asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9)))
        await parked(engine, 1)
        clock.advance(1)
        engine.drain()
        engine.look_again()
        assert await waits == Outcome()
        await asyncio.sleep(0)
        claimed = outcome(await asyncio.wait_for(engine.apply(Claim(ME, "g", 10**9)), 30)).tasks
        assert [(task.data, task.attempts) for task in claimed] == [("later", 1)]

    run(storage, main)


def test_a_task_and_the_claim_that_waits_for_it_share_a_commit(storage: Watched) -> None:
    async def main(engine: Engine) -> None:
        claims = [asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9))) for _ in range(3)]
        await parked(engine, len(claims))
        before = storage.commits
        added = outcome(await engine.apply(Update(ME, [TaskAdd("g"), TaskAdd("g"), TaskAdd("other")])))
        claimed = [outcome(await claim).tasks[0] for claim in claims[:2]]
        assert storage.commits == before + 1
        assert len(added.tasks) == 3
        assert {task.attempts for task in claimed} == {1}
        assert min(task.id for task in claimed) > max(task.id for task in added.tasks)
        assert engine.parked == 1
        assert await engine.tasks([task.id for task in added.tasks[:2]]) == [None, None]

    run(storage, main)


def test_whoever_has_waited_for_a_task_is_answered_before_the_one_who_adds_it(storage: Watched) -> None:
    async def main(engine: Engine) -> None:
        answered: list[str] = []
        claim = asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9)))
        claim.add_done_callback(lambda _: answered.append("claim"))
        await parked(engine, 1)
        update = asyncio.create_task(engine.apply(add()))
        update.add_done_callback(lambda _: answered.append("add"))
        await asyncio.gather(claim, update)
        assert answered == ["claim", "add"]

    run(storage, main)


def test_a_claim_waits_on_when_the_update_that_it_shares_a_transaction_with_is_refused(storage: Watched) -> None:
    async def main(engine: Engine) -> None:
        claim = asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9)))
        await parked(engine, 1)
        assert outcome(await engine.apply(Update(ME, [TaskAdd("g")], deletes=[99]))).error
        assert engine.parked == 1
        await engine.apply(Update(ME, [TaskAdd("g", "here")]))
        assert [task.data for task in outcome(await claim).tasks] == ["here"]

    run(storage, main)


def test_not_all_that_wait_are_called_into_one_batch(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(engine: Engine) -> None:
        claims = [asyncio.create_task(engine.apply(Claim(ME, "g", 10**9, wait=3600 * 10**9))) for _ in range(7)]
        await parked(engine, len(claims))
        before = storage.commits
        monkeypatch.setattr("taskstore.server.engine.MAX_BATCH", 3)
        await engine.apply(Update(ME, [TaskAdd("g")] * 7))
        assert [len(outcome(await claim).tasks) for claim in claims] == [1] * 7
        assert storage.commits > before + 1

    run(storage, main)
