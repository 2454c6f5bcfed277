"""The conformance suite of storages: each test runs once for every storage there is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskstore.errors import StoreError
from taskstore.server import open_storage
from taskstore.server.messages import GroupStats, Record, Task, Totals
from taskstore.server.rules import Change, Seen, Wanted
from taskstore.server.storage import KEEP_NS, PAGE, WINDOW, Storage
from taskstore.testing import SettableClock

NOW = 1_800_000_000 * 10**9
EVERY_TEXT = ["plain", "später ☃", "\x00nul\x00", "new\nline", "😀", "'; DROP TABLE task; --", "\x7f\u0085\ufeff", " "]

Open = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the storage under test; every further call closes it and opens it again."""
    opened: list[Storage] = []
    store = {"memory": ":memory:", "sqlite": str(tmp_path / "store.db")}.get(request.param)
    store = store or request.getfixturevalue("postgres_url")

    def open_again() -> Storage:
        if opened:
            if request.param == "memory":
                pytest.skip("what is in memory does not outlive its storage")
            opened.pop().close()
        opened.append(open_storage(store, clock=SettableClock(NOW)))
        return opened[0]

    yield open_again
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(reopen: Open) -> Storage:
    return reopen()


def reopened(storage: Storage, reopen: Open) -> Iterator[Storage]:
    """The storage as it is, and then once more after a restart."""
    yield storage
    yield reopen()


def seen(storage: Storage, *ids: int, claims: dict[str, int] | None = None) -> Seen:
    transaction = storage.begin(Wanted(frozenset(ids), claims or {}, 0))
    transaction.rollback()
    return transaction.seen


def write(storage: Storage, *made: tuple[str, str, int], gone: tuple[int, ...] = ()) -> list[Task]:
    """Make tasks of (group, data, available) and consume ids; the new tasks."""
    transaction = storage.begin(Wanted(frozenset(gone), {}, len(made)))
    tasks = [Task(next(transaction.seen.fresh), group, data, available, 7) for group, data, available in made]
    transaction.write(Change(gone, tasks))
    transaction.commit()
    return tasks


def listed(storage: Storage, group: str, *, limit: int = 0, owned: bool = True) -> list[Task]:
    return [task for page in storage.group(group, limit=limit, owned=owned) for task in page]


def test_an_empty_storage_has_nothing(storage: Storage) -> None:
    assert storage.groups() == []
    assert listed(storage, "g") == []
    assert storage.tasks([1, 2]) == {}
    assert seen(storage, 1, claims={"g": 1}).claimable == {"g": []}


def test_what_is_committed_is_read_back_unchanged(reopen: Open) -> None:
    storage = reopen()
    tasks = write(storage, *[(text, text, 2**63 - 1 - n) for n, text in enumerate(EVERY_TEXT)])
    for again in reopened(storage, reopen):
        assert again.tasks([task.id for task in tasks]) == {task.id: task for task in tasks}
        assert [listed(again, text) for text in EVERY_TEXT] == [[task] for task in tasks]
        assert again.groups() == sorted(EVERY_TEXT)
        assert seen(again, *[task.id for task in tasks]).tasks == {task.id: task for task in tasks}


def test_what_is_rolled_back_leaves_no_trace(storage: Storage) -> None:
    [kept] = write(storage, ("g", "kept", NOW))
    transaction = storage.begin(Wanted(frozenset([kept.id]), {}, 1))
    transaction.write(Change([kept.id], [Task(next(transaction.seen.fresh), "g", "never", NOW, 7)]))
    transaction.rollback()
    assert listed(storage, "g") == [kept]


def test_a_consumed_id_is_gone_for_ever(reopen: Open) -> None:
    storage = reopen()
    [task] = write(storage, ("g", "", NOW))
    write(storage, gone=(task.id,))
    for again in reopened(storage, reopen):
        assert again.tasks([task.id]) == {}
        assert listed(again, "g") == []
        assert again.groups() == []
        assert seen(again, task.id, claims={"g": 1}).claimable == {"g": []}


def test_ids_grow_across_commits_and_restarts_even_when_the_newest_task_is_gone(reopen: Open) -> None:
    storage = reopen()
    ids = [task.id for task in write(storage, ("g", "", NOW), ("g", "", NOW))]
    write(storage, gone=(ids[-1],))
    storage = reopen()
    ids += [task.id for task in write(storage, ("g", "", NOW))]
    assert ids == sorted(set(ids))


def test_the_instant_of_a_transaction_is_the_clocks(storage: Storage) -> None:
    assert seen(storage).now == NOW


@pytest.mark.parametrize(("available", "expected"), [(NOW - 1, 1), (NOW, 1), (NOW + 1, 0)])
def test_a_task_can_be_claimed_from_its_instant_on(storage: Storage, available: int, expected: int) -> None:
    write(storage, ("g", "", available))
    assert len(seen(storage, claims={"g": 1}).claimable["g"]) == expected


def test_claims_get_as_many_distinct_tasks_as_there_are(storage: Storage) -> None:
    tasks = write(storage, *[("g", str(n), NOW - n) for n in range(5)], ("other", "", NOW))
    assert len({task.id for task in seen(storage, claims={"g": 3}).claimable["g"]}) == 3
    found = seen(storage, claims={"g": 100, "other": 1, "none": 1}).claimable
    assert sorted(found["g"], key=lambda task: task.id) == tasks[:5]
    assert found["other"] == tasks[5:]
    assert found["none"] == []


def test_a_claim_chooses_at_random_among_those_available_for_longest(storage: Storage) -> None:
    tasks = write(storage, *[("g", str(n), NOW - 1000 + n) for n in range(3 * WINDOW)])
    chosen = {seen(storage, claims={"g": 1}).claimable["g"][0].id for _ in range(400)}
    assert chosen <= {task.id for task in tasks[:WINDOW]}
    assert len(chosen) > WINDOW // 2


def test_a_listing_is_ordered_by_instant_and_id(storage: Storage) -> None:
    a, b, c, d = write(storage, ("g", "a", NOW + 5), ("g", "b", NOW - 5), ("g", "c", NOW), ("g", "d", NOW))
    assert listed(storage, "g") == [b, c, d, a]
    assert listed(storage, "g", owned=False) == [b, c, d]
    assert listed(storage, "g", limit=2) == [b, c]
    assert listed(storage, "g", limit=9) == [b, c, d, a]


def test_a_listing_of_many_pages_is_of_one_instant(storage: Storage) -> None:
    tasks = write(storage, *[("g", str(n), NOW) for n in range(2 * PAGE + 1)])
    pages = storage.group("g", limit=0, owned=True)
    first = next(pages)
    write(storage, ("g", "late", NOW), gone=(tasks[-1].id, tasks[0].id))
    assert [*first, *[task for page in pages for task in page]] == tasks
    assert len(first) == PAGE


def test_a_listing_that_is_not_read_to_its_end_holds_up_nothing(storage: Storage) -> None:
    write(storage, *[("g", str(n), NOW) for n in range(2 * PAGE)])
    pages = storage.group("g", limit=0, owned=True)
    next(pages)
    pages.close()
    write(storage, ("g", "", NOW))
    assert len(listed(storage, "g")) == 2 * PAGE + 1


def test_groups_are_sorted_by_code_point_each_once(storage: Storage) -> None:
    names = ["b", "a", "B", "é", "z", "😀", "\uffff", "aa", "a\x00"]
    write(storage, *[(name, "", NOW) for name in names * 2])
    assert storage.groups() == sorted(names)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(StoreError, match="redis"):
        open_storage("redis://localhost")


# What the additions to the protocol ask of a storage.


def test_attempts_are_kept(reopen: Open) -> None:
    storage = reopen()
    transaction = storage.begin(Wanted(frozenset(), {}, 1))
    task = Task(next(transaction.seen.fresh), "g", "", NOW, 7, attempts=2**31 - 1)
    transaction.write(Change([], [task]))
    transaction.commit()
    for again in reopened(storage, reopen):
        assert again.tasks([task.id]) == {task.id: task}
        assert listed(again, "g") == [task]
        assert seen(again, claims={"g": 1}).claimable == {"g": [task]}


def recorded(storage: Storage, *records: Record) -> None:
    transaction = storage.begin(Wanted(frozenset(), {}, 0))
    transaction.write(Change([], [], records))
    transaction.commit()


def known(storage: Storage, *names: tuple[int, str]) -> dict[tuple[int, str], Record]:
    transaction = storage.begin(Wanted(frozenset(), {}, 0, frozenset(names)))
    transaction.rollback()
    return dict(transaction.seen.records)


def test_records_are_kept_by_client_and_key(reopen: Open) -> None:
    storage = reopen()
    task = Task(5, "später\x00", "data ☃", NOW, -7, 3)
    record = Record(-7, "k" * 64, b"\x00\xff" * 8, NOW, [1, 2**62], [task], [task, task])
    other = Record(8, "k" * 64, b"", NOW, [], [], [])
    recorded(storage, record, other)
    for again in reopened(storage, reopen):
        names = [(-7, "k" * 64), (8, "k" * 64), (9, "k" * 64), (8, "other")]
        assert known(again, *names) == {names[0]: record, names[1]: other}


def test_a_record_takes_the_place_of_the_one_before(storage: Storage) -> None:
    first, second = (Record(7, "key", b"f", NOW, [n], [], []) for n in (1, 2))
    recorded(storage, first)
    recorded(storage, second)
    assert known(storage, (7, "key")) == {(7, "key"): second}


def test_a_record_is_forgotten_when_its_time_is_up(storage: Storage) -> None:
    kept, forgotten = (Record(7, str(age), b"", NOW - age, [], [], []) for age in (KEEP_NS - 1, KEEP_NS))
    recorded(storage, kept, forgotten)
    assert known(storage, (7, kept.key), (7, forgotten.key)) == {(7, kept.key): kept}


def test_soonest_tells_in_how_long_the_first_task_of_a_group_is_available(storage: Storage) -> None:
    write(storage, ("past", "", NOW - 5), ("past", "", NOW + 5), ("future", "", NOW + 9), ("future", "", NOW + 7))
    assert storage.soonest(["past", "future", "none"]) == {"past": -5, "future": 7}
    assert storage.soonest([]) == {}


def claimed(storage: Storage, *tasks: tuple[str, int]) -> None:
    transaction = storage.begin(Wanted(frozenset(), {}, len(tasks)))
    made = [Task(next(transaction.seen.fresh), group, "", available, 7, attempts=1) for group, available in tasks]
    transaction.write(Change([], made))
    transaction.commit()


def test_stats_count_available_owned_and_delayed_tasks(storage: Storage) -> None:
    write(storage, ("a", "", NOW - 5), ("a", "", NOW), ("a", "", NOW + 5), ("ab", "", NOW + 5), ("b", "", NOW))
    claimed(storage, ("a", NOW + 5), ("a", NOW - 9), ("c", NOW + 1))
    totals = Totals(groups=4, available=4, owned=2, delayed=2)
    a, ab = GroupStats("a", 3, 1, 1, oldest_age=9), GroupStats("ab", 0, 0, 1, 0)
    b, c = GroupStats("b", 1, 0, 0, 0), GroupStats("c", 0, 1, 0, 0)
    assert storage.stats("", 0) == ([a, ab, b, c], totals)
    assert storage.stats("a", 0) == ([a, ab], totals)
    assert storage.stats("a", 1) == ([a], totals)
    assert storage.stats("ab", 5) == ([ab], totals)
    assert storage.stats("x", 0) == ([], totals)


def test_stats_of_an_empty_storage(storage: Storage) -> None:
    assert storage.stats("", 0) == ([], Totals(0, 0, 0, 0))
