"""Moving a store: nothing changes on the way, nothing that is there is touched, and an interruption is no harm."""

import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from taskstore.errors import StoreError
from taskstore.server import open_storage
from taskstore.server.copy import copy
from taskstore.server.database import Database
from taskstore.server.messages import Task
from taskstore.server.rules import Change, Wanted
from taskstore.server.storage import PAGE

NOW = 1_800_000_000 * 10**9
TASKS = 3 * PAGE


@pytest.fixture(params=["sqlite to sqlite", "sqlite to postgres", "postgres to sqlite"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Where a store is, and where it is to be."""
    kinds = request.param.split(" to ")
    source, target = (
        str(tmp_path / f"{number}.db") if kind == "sqlite" else request.getfixturevalue("postgres_url")
        for number, kind in enumerate(kinds)
    )
    return source, target


def fill(store: str, number: int = TASKS) -> list[Task]:
    """Make tasks of all kinds, the newest of which is gone again."""
    with closing(open_storage(store)) as storage:
        transaction = storage.begin(Wanted(frozenset(), {}, number + 1))
        tasks = [
            Task(id, f"g\x00{id % 3}", f"☃{id}" * (id % 5), NOW - id * 10**6, -id, id % 4)
            for id in islice(transaction.seen.fresh, number + 1)
        ]
        transaction.write(Change((), tasks))
        transaction.commit()
        transaction = storage.begin(Wanted(frozenset([tasks[-1].id]), {}, 0))
        transaction.write(Change([tasks[-1].id], ()))
        transaction.commit()
    return tasks[:-1]


def content(store: str) -> list[Task]:
    with closing(open_storage(store)) as storage:
        pages = [page for name in storage.groups() for page in storage.group(name, limit=0, owned=True)]
    return sorted((task for page in pages for task in page), key=lambda task: task.id)


def next_id(store: str) -> int:
    with closing(open_storage(store)) as storage:
        transaction = storage.begin(Wanted(frozenset(), {}, 1))
        transaction.rollback()
        return next(transaction.seen.fresh)


def test_a_copy_has_the_same_tasks_and_new_ids_are_larger_than_any_that_was_given_out(places: tuple[str, str]) -> None:
    source, target = places
    tasks = fill(source)
    assert copy(source, target) == TASKS
    assert content(target) == content(source) == tasks
    assert next_id(target) > tasks[-1].id + 1


def test_a_copy_that_was_interrupted_goes_on_and_one_that_is_complete_does_nothing(places: tuple[str, str]) -> None:
    source, target = places
    tasks = fill(source)
    told: list[int] = []

    def interrupt(copied: int) -> None:
        told.append(copied)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            copy(source, target, interrupt)
    assert 0 < len(content(target)) < TASKS
    assert copy(source, target, told.append) == TASKS
    assert told[2:] == sorted(set(told[2:]))
    assert told[-1] == TASKS
    assert copy(source, target) == TASKS
    assert content(target) == tasks


def test_an_empty_store_is_copied_for_its_ids(places: tuple[str, str]) -> None:
    source, target = places
    fill(source, 0)
    assert copy(source, target) == 0
    assert next_id(target) > 1


@pytest.mark.parametrize("id", [1, 10**9])
def test_a_target_with_tasks_of_its_own_is_left_alone(places: tuple[str, str], id: int) -> None:
    source, target = places
    fill(source)
    with closing(open_storage(target)) as storage:
        transaction = storage.begin(Wanted(frozenset(), {}, 0))
        transaction.write(Change((), [foreign := Task(id, "g", "of its own", NOW, 1)]))
        transaction.commit()
    with pytest.raises(StoreError, match=f"tasks of its own, {id} for one"):
        copy(source, target)
    assert content(target) == [foreign]


def test_a_store_that_is_in_use_is_not_copied_and_not_copied_to(places: tuple[str, str]) -> None:
    source, target = places
    fill(source)
    for store in places:
        with closing(open_storage(store)), pytest.raises(StoreError, match=r"another server has|servers use it"):
            copy(source, target)
    assert content(target) == []


def test_a_store_that_never_was_is_not_copied(places: tuple[str, str], tmp_path: Path) -> None:
    source, target = places
    with pytest.raises(StoreError, match=r"there is no .*nowhere"):
        copy(str(tmp_path / "nowhere"), target)
    open_storage(source).close()
    with pytest.raises(StoreError, match="there has never been a task"):
        copy(source, target)


def test_a_difference_in_the_end_is_told(tmp_path: Path, postgres_url: str) -> None:
    source = str(tmp_path / "store.db")
    fill(source)

    def meddle(copied: int) -> None:
        if copied == TASKS:
            with Database(postgres_url).connected() as session:
                session.execute("DELETE FROM task WHERE id = 7")

    with pytest.raises(StoreError, match=r"768 tasks, and .* 767"):
        copy(source, postgres_url, meddle)


def test_the_command_copies_and_tells(tmp_path: Path, postgres_url: str) -> None:
    source = str(tmp_path / "store.db")
    fill(source)
    command = [sys.executable, "-m", "taskstore", "copy"]
    done = subprocess.run([*command, source, postgres_url], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all 768 tasks are in both places now\n", "")
    done = subprocess.run([*command, f"{source}.not", postgres_url], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no" in done.stderr
