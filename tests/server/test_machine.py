"""The store against a model of a few lines: whatever is asked, by whom and when, it answers what the model allows.

Hypothesis decides what happens. With `--hypothesis-profile thorough` it takes 1,000,000 steps for each storage; `-k`
names one of them.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from taskstore.server import open_storage
from taskstore.server.engine import Engine
from taskstore.server.messages import (
    Answer,
    Claim,
    Keyed,
    KeyMisused,
    Outcome,
    Refusal,
    Replayed,
    Step,
    StepOutcome,
    Task,
    TaskAdd,
    TaskUpdate,
    Update,
)
from taskstore.server.sqlite import SqliteStorage
from taskstore.testing import SettableClock

NOW = 1_800_000_000 * 10**9
Request = Update | Claim | Step
Tasks = Mapping[int, Task]


# The model: the tasks there are, and what each request may make of them


def after(tasks: Tasks, now: int, request: Request, answer: Answer) -> Tasks:
    """The tasks that there are after a request that got this answer.

    Raises:
        AssertionError: it must not have got this answer.
    """
    update = request.update if isinstance(request, Step) else request if isinstance(request, Update) else None
    claim = request.claim if isinstance(request, Step) else request if isinstance(request, Claim) else None
    assert isinstance(answer, StepOutcome if isinstance(request, Step) else Outcome)
    if culprits := refused(tasks, now, update, claim):
        error = answer.error or Refusal()
        assert answer == type(answer)(error=error)
        assert culprits == {
            "depends": set(error.depends),
            "changes": set(error.changes),
            "deletes": set(error.deletes),
            "owned": set(error.owned),
            "bugs": bool(error.bugs),
        }
        return tasks
    assert answer.error is None
    updated = answer.updated if isinstance(answer, StepOutcome) else answer.tasks if update else []
    tasks = updated_by(update, tasks, now, updated) if update else tasks
    return claimed_by(claim, tasks, now, answer.tasks) if claim else tasks


def refused(tasks: Tasks, now: int, update: Update | None, claim: Claim | None) -> dict[str, Any]:
    """The culprits, by their kinds; nothing if there are none."""
    changes = [change.id for change in (update and update.updates) or ()]
    deletes = set((update and update.deletes) or ())
    touched = {*changes, *deletes}
    depends = {id for id in (update and update.depends) or () if id not in tasks}
    depends |= {id for id in (claim and claim.depends) or () if id not in tasks or id in touched}
    found = {
        "depends": depends,
        "changes": set(changes) - tasks.keys(),
        "deletes": deletes - tasks.keys(),
        "owned": {
            id
            for id in touched & tasks.keys()
            if update and tasks[id].owner != update.client and tasks[id].available > now
        },
        "bugs": len(set(changes)) < len(changes) or bool(deletes & set(changes)),
    }
    return found if any(found.values()) else {}


def updated_by(update: Update, tasks: Tasks, now: int, made: Sequence[Task]) -> Tasks:
    expected = [Task(0, add.group, add.data, at(add.timespec, now), update.client) for add in update.adds or ()]
    for change in update.updates or ():
        old = tasks[change.id]
        expected.append(Task(0, old.group, change.data, at(change.timespec, now), update.client, attempts=old.attempts))
    assert [without_id(task) for task in made] == expected
    gone = {*(change.id for change in update.updates or ()), *(update.deletes or ())}
    return {id: task for id, task in tasks.items() if id not in gone} | {task.id: task for task in made}


def claimed_by(claim: Claim, tasks: Tasks, now: int, made: Sequence[Task]) -> Tasks:
    left = dict(tasks)
    free = {task.data: task for task in tasks.values() if task.group in claim.names and task.available <= now}
    assert len(made) == min(claim.limit, len(free))
    for task in made:
        old = left.pop(free.pop(task.data).id)
        leased = Task(0, old.group, old.data, now + claim.duration, claim.client, attempts=old.attempts + 1)
        assert without_id(task) == leased
    return left | {task.id: task for task in made}


def at(timespec: int, now: int) -> int:
    return timespec if timespec > 0 else now - timespec


def without_id(task: Task) -> Task:
    return Task(0, task.group, task.data, task.available, task.owner, attempts=task.attempts)


def after_all(tasks: Tasks, now: int, asked: Sequence[tuple[Request, Answer]]) -> Tasks:
    """The tasks after requests that were under way at the same time: they came in some order."""
    for order in permutations(asked):
        try:
            left = tasks
            for request, answer in order:
                left = after(left, now, request, answer)
        except (AssertionError, KeyError):
            continue
        return left
    raise AssertionError(f"there is no order in which {asked} can have come, given {tasks}")


# What is asked

clients = st.integers(1, 3)
groups = st.sampled_from(["a", "b"])
spans = st.sampled_from([0, 0, 1, 2, 5])
# Which task: the n-th last of the ids that were given out; beyond them the next one, which may be about to be.
picks = st.lists(st.integers(-1, 7), max_size=2)
timespecs = st.one_of(spans.map(lambda ns: -ns), st.integers(-3, 3).map(lambda ns: NOW + ns))
wishes = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([Update, Update, Claim, Claim, Step]),
        "client": clients,
        "adds": st.lists(st.tuples(groups, timespecs), max_size=2),
        "updates": st.one_of(st.just([]), st.lists(st.tuples(st.integers(-1, 7), timespecs), max_size=2)),
        "deletes": picks,
        "depends": st.one_of(st.just([]), picks),
        "names": st.one_of(groups.map(lambda name: [name]), st.just(["a", "b"])),
        "duration": spans,
        "limit": st.sampled_from([1, 1, 2, 40]),
        "claim_depends": st.one_of(st.just([]), st.just([]), picks),
    }
)


class StoreMachine(RuleBasedStateMachine):
    """A store, and the model that says what it may do.

    No rule has a precondition: a database chooses at random what is claimed, and when Hypothesis repeats a run it wants
    to have the same choice of rules.
    """

    def __init__(self, where: "Place") -> None:
        super().__init__()
        self.where = where
        self.clock = SettableClock(NOW)
        self.runner = asyncio.Runner()
        self.engine = self.opened()
        self.tasks: Tasks = {}
        self.ids: list[int] = []
        self.made = 0
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

    def request(self, wish: Mapping[str, Any]) -> Request:
        """The request that somebody has in mind, with ids in place of what they stand for."""
        adds = [TaskAdd(group, self.new_data(), timespec) for group, timespec in wish["adds"]]
        updates = [TaskUpdate(self.id(pick), self.new_data(), timespec) for pick, timespec in wish["updates"]]
        deletes, depends, claim_depends = (
            [self.id(pick) for pick in wish[name]] for name in ("deletes", "depends", "claim_depends")
        )
        update = Update(wish["client"], adds, updates, deletes, depends)
        claim = Claim(
            wish["client"],
            duration=wish["duration"],
            depends=claim_depends,
            groups=wish["names"],
            limit=wish["limit"],
        )
        requests: dict[type, Request] = {Update: update, Claim: claim, Step: Step(update, claim)}
        return requests[wish["kind"]]

    def new_data(self) -> str:
        """Data of its own for each task, by which the model knows it again when it was claimed."""
        self.made += 1
        return f"d{self.made}"

    def id(self, pick: int) -> int:
        if pick < 0 or not self.ids:
            return (self.ids or [0])[-1] + 1
        return self.ids[-1 - pick % len(self.ids)]

    def ask(self, *requests: Request | Keyed) -> list[Answer]:
        """The answers to requests that are under way at the same time."""

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(*map(self.engine.apply, requests))

        answers = self.runner.run(all_at_once())
        given = [task.id for answer in answers for task in made_by(answer)]
        assert len(set(given)) == len(given)
        assert not self.ids or not given or min(given) > self.ids[-1]
        self.ids += sorted(given)
        return answers

    @initialize(wish=wishes)
    def begin(self, wish: Mapping[str, Any]) -> None:
        self.one(wish)

    @rule(wish=wishes)
    def one(self, wish: Mapping[str, Any]) -> None:
        request = self.request(wish)
        [answer] = self.ask(request)
        self.tasks = after(self.tasks, self.clock(), request, answer)

    @rule(several=st.lists(wishes, min_size=2, max_size=4))
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

    @rule(wish=wishes)
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

    @rule(pick=st.integers(0, 20), offset=st.sampled_from([-1, 0, 1]))
    def it_is_just_about_the_instant_of_a_task(self, pick: int, offset: int) -> None:
        instants = sorted(task.available for task in self.tasks.values()) or [NOW]
        self.clock.set(max(self.clock(), instants[pick % len(instants)] + offset))

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
        async def listed() -> list[Task]:
            pages = self.engine.group(group, limit=limit, owned=owned)
            return [task async for page in pages for task in page]

        until = self.clock() if not owned else 2**63
        expected = sorted(self.in_group(group, until), key=lambda task: (task.available, task.id))
        assert self.runner.run(listed()) == (expected[:limit] if limit else expected)

    @rule()
    def groups_are_listed(self) -> None:
        assert self.runner.run(self.engine.groups()) == sorted({task.group for task in self.tasks.values()})

    @rule()
    def all_are_counted(self) -> None:
        _, totals = self.storage.stats("", 0)
        late = [task.attempts > 0 for task in self.tasks.values() if task.available > self.clock()]
        assert totals.available == len(self.tasks) - len(late)
        assert (totals.owned, totals.delayed) == (late.count(True), late.count(False))

    def in_group(self, group: str, until: int) -> Iterable[Task]:
        return (task for task in self.tasks.values() if task.group == group and task.available <= until)


def made_by(answer: Answer) -> list[Task]:
    made = answer.tasks if isinstance(answer, Outcome | StepOutcome) else []
    return made + (answer.updated if isinstance(answer, StepOutcome) else [])


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
    run_state_machine_as_test(lambda: StoreMachine(place()), settings=chosen)  # type: ignore[arg-type]
