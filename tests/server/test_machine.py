"""The store against a model of a few lines: whatever is asked, by whom and when, it answers what the model allows.

Hypothesis decides what happens. With `--hypothesis-profile thorough` it takes 1,000,000 steps for each storage; `-k`
names one of them.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from model_of_store import NOW, ModelMachine, Request, after, after_all, listed, wishes

from taskstore.server import open_storage
from taskstore.server.engine import Engine
from taskstore.server.messages import (
    Answer,
    Claim,
    Keyed,
    KeyMisused,
    Outcome,
    Replayed,
    Step,
    StepOutcome,
    Task,
    TaskAdd,
    Update,
)
from taskstore.server.sqlite import SqliteStorage
from taskstore.testing import SettableClock

# What is asked

clients = st.integers(1, 3)
names = ["a", "b"]
groups = st.sampled_from(names)
spans = st.sampled_from([0, 0, 1, 2, 5])
timespecs = st.one_of(spans.map(lambda ns: -ns), st.integers(-3, 3).map(lambda ns: NOW + ns))
anything = wishes(*(Update, Update, Claim, Claim, Step), clients=clients, names=names, spans=spans, timespecs=timespecs)


class StoreMachine(ModelMachine):
    """A store, and the model that says what it may do."""

    def __init__(self, where: "Place") -> None:
        super().__init__(SettableClock(NOW))
        self.where = where
        self.runner = asyncio.Runner()
        self.engine = self.opened()
        self.keyed: tuple[Keyed, Answer] | None = None

    def opened(self) -> Engine:
        self.storage = open_storage(self.where.url, clock=self.clock)
        if isinstance(self.storage, SqliteStorage):
            self.storage._random.seed(0)  # What was found has to be found again.
        return Engine(self.storage)

    def teardown(self) -> None:
        self.runner.run(self.engine.close())
        self.runner.close()
        self.where.clear()

    def ask(self, *requests: Request | Keyed) -> list[Answer]:
        """The answers to requests that are under way at the same time."""

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(*map(self.engine.apply, requests))

        answers = self.runner.run(all_at_once())
        self.note(answers)
        return answers

    @initialize(wish=anything)
    def begin(self, wish: Mapping[str, Any]) -> None:
        self.one(wish)

    @rule(wish=anything)
    def one(self, wish: Mapping[str, Any]) -> None:
        request = self.request(wish)
        [answer] = self.ask(request)
        self.tasks = after(self.tasks, self.clock(), request, answer)

    @rule(several=st.lists(anything, min_size=2, max_size=4))
    def many(self, several: Sequence[Mapping[str, Any]]) -> None:
        self.all_at_once([self.request(wish) for wish in several])

    @rule(client=clients, adds=st.lists(st.tuples(groups, timespecs), min_size=1, max_size=2), guess=st.integers(1, 3))
    def one_guesses_the_id_that_another_is_given(
        self, client: int, adds: Sequence[tuple[str, int]], guess: int
    ) -> None:
        new = [TaskAdd(group, self.new_data(), timespec) for group, timespec in adds]
        self.all_at_once([Update(client, new), Update(client, deletes=[self.id(-1) - 1 + guess])])

    @rule(picks=st.tuples(st.integers(0, 7), st.integers(0, 7)))
    def two_each_delete_what_the_other_depends_on(self, picks: tuple[int, int]) -> None:
        tasks = list(self.tasks.values()) or [Task(0, "a", "", NOW, 1)]
        one, other = (tasks[pick % len(tasks)] for pick in picks)
        requests = [
            Update(one.owner, deletes=[one.id], depends=[other.id]),
            Update(other.owner, deletes=[other.id], depends=[one.id]),
        ]
        self.all_at_once(requests)

    def all_at_once(self, requests: Sequence[Request]) -> None:
        answers = self.ask(*requests)
        self.tasks = after_all(self.tasks, self.clock(), list(zip(requests, answers, strict=True)))

    @rule(wish=anything)
    def one_with_a_key(self, wish: Mapping[str, Any]) -> None:
        request = self.request(wish)
        keyed = Keyed(request, f"key{self.made}-{len(self.ids)}-{self.clock()}", b"this")
        [answer] = self.ask(keyed)
        if not isinstance(answer, Replayed):
            before, self.tasks = self.tasks, after(self.tasks, self.clock(), request, answer)
            self.keyed = (keyed, answer) if self.tasks != before else self.keyed

    @rule()
    def the_same_with_the_same_key(self) -> None:
        if not self.keyed:
            return
        request, answer = self.keyed
        assert isinstance(answer, Outcome | StepOutcome)
        assert self.runner.run(self.engine.apply(request)) == Replayed(answer)

    @rule()
    def another_one_with_the_same_key(self) -> None:
        if not self.keyed:
            return
        request = self.keyed[0]
        other = Keyed(Update(request.client, deletes=[1]), request.key, b"other")
        assert self.ask(other) == [KeyMisused()]

    @rule(ns=spans)
    def time_passes(self, ns: int) -> None:
        self.clock.advance(ns)

    @rule()
    def the_server_is_restarted(self) -> None:
        if self.where.lasts:
            self.runner.run(self.engine.close())
            self.engine = self.opened()

    @rule(picks=st.lists(st.integers(-1, 20), min_size=1, max_size=4))
    def tasks_are_read(self, picks: Sequence[int]) -> None:
        ids = [self.id(pick) for pick in picks]
        assert self.runner.run(self.engine.tasks(ids)) == [self.tasks.get(id) for id in ids]

    @rule(group=groups, owned=st.booleans(), limit=st.sampled_from([0, 0, 1, 3]))
    def a_group_is_listed(self, group: str, owned: bool, limit: int) -> None:
        async def pages() -> list[Task]:
            return [task async for page in self.engine.group(group, limit=limit, owned=owned) for task in page]

        expected = listed(self.tasks, group, until=2**63 if owned else self.clock())
        assert self.runner.run(pages()) == (expected[:limit] if limit else expected)

    @rule()
    def groups_are_listed(self) -> None:
        assert self.runner.run(self.engine.groups()) == sorted({task.group for task in self.tasks.values()})

    @rule()
    def all_are_counted(self) -> None:
        _, totals = self.storage.stats("", 0)
        late = [task.attempts > 0 for task in self.tasks.values() if task.available > self.clock()]
        assert totals.available == len(self.tasks) - len(late)
        assert (totals.owned, totals.delayed) == (late.count(True), late.count(False))


# Where the store is


class Place:
    """Where a store can be opened that is empty at first; it is the same one until it is cleared."""

    def __init__(self, url: Callable[[], str], clear: Callable[[str], None], *, lasts: bool = True) -> None:
        self.url = url()
        self.lasts = lasts
        self._clear = clear

    def clear(self) -> None:
        self._clear(self.url)


def in_memory(request: pytest.FixtureRequest) -> Callable[[], Place]:
    return lambda: Place(lambda: ":memory:", lambda url: None, lasts=False)


def on_a_file(request: pytest.FixtureRequest) -> Callable[[], Place]:
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else None
    return lambda: Place(
        lambda: str(Path(tempfile.mkdtemp(dir=parent)) / "store.db"), lambda path: shutil.rmtree(Path(path).parent)
    )


def in_postgres(request: pytest.FixtureRequest) -> Callable[[], Place]:
    database: str = request.getfixturevalue("postgres")

    def clear(url: str) -> None:
        with psycopg.connect(database) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {url.rpartition('=')[2]} CASCADE".encode())

    separator = "&" if "?" in database else "?"
    return lambda: Place(lambda: f"{database}{separator}schema=machine_{uuid4().hex}", clear)


PLACES = {"memory": (in_memory, 40), "sqlite": (on_a_file, 40), "postgres": (in_postgres, 8)}
"""Where a store can be, and how many runs of 50 steps the quick form makes there."""


@pytest.mark.parametrize("kind", PLACES)
def test_the_store_does_what_the_model_says(kind: str, request: pytest.FixtureRequest) -> None:
    places, examples = PLACES[kind]
    quick = settings(max_examples=examples, stateful_step_count=50, deadline=None, derandomize=True, database=None)
    chosen = settings() if settings.get_current_profile_name() == "thorough" else quick
    place = places(request)
    # It calls whatever makes a machine, though its types ask for a class.
    run_state_machine_as_test(lambda: StoreMachine(place()), settings=chosen)  # type: ignore[arg-type]
