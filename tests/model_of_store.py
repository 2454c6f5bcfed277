"""The store as a model of a few lines, and what machines ask of it: of the engine on each storage, and through clients.

The model holds the tasks that there are. It says of a request and its answer whether the store may answer so, and
which tasks there are then; what is claimed is left to the store, which chooses at random.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from taskstore.server.messages import (
    Answer,
    Claim,
    Outcome,
    Refusal,
    Step,
    StepOutcome,
    Task,
    TaskAdd,
    TaskUpdate,
    Update,
)
from taskstore.testing import SettableClock

NOW = 1_800_000_000 * 10**9
Request: TypeAlias = Update | Claim | Step
Tasks: TypeAlias = Mapping[int, Task]


# The model: the tasks there are, and what each request may make of them


def after(tasks: Tasks, now: int, request: Request, answer: Answer) -> Tasks:
    """The tasks that there are after a request that got this answer.

    Raises:
        AssertionError: it must not have got this answer.
    """
    update, claim = parts(request)
    assert isinstance(answer, StepOutcome if isinstance(request, Step) else Outcome)
    if culprits := refused(tasks, now, update, claim):
        error = answer.error or Refusal()
        assert answer == type(answer)(error=error), f"a refused request brought something: {answer}"
        named = {
            "depends": set(error.depends),
            "changes": set(error.changes),
            "deletes": set(error.deletes),
            "owned": set(error.owned),
            "bugs": bool(error.bugs),
        }
        assert named == culprits, f"{named} is named in place of {culprits}"
        return tasks
    assert answer.error is None, f"refused for no reason: {answer.error}"
    updated = answer.updated if isinstance(answer, StepOutcome) else answer.tasks if update else []
    claimed = answer.tasks if isinstance(answer, StepOutcome) or claim else []
    tasks = updated_by(update, tasks, now, updated) if update else tasks
    return claimed_by(claim, tasks, now, claimed)


def parts(request: Request) -> tuple[Update | None, Claim | None]:
    """What a request changes, and what it claims."""
    if isinstance(request, Step):
        return request.update, request.claim
    return (request, None) if isinstance(request, Update) else (None, request)


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
    """The tasks after an update that is not refused, and that made these."""
    expected = made_by(update, tasks, now)
    assert [without_id(task) for task in made] == expected, f"{made} was made in place of {expected}"
    gone = {*(change.id for change in update.updates or ()), *(update.deletes or ())}
    return {id: task for id, task in tasks.items() if id not in gone} | {task.id: task for task in made}


def made_by(update: Update, tasks: Tasks, now: int) -> list[Task]:
    """The tasks that an update makes, but for their ids."""
    made = [Task(0, add.group, add.data, at(add.timespec, now), update.client) for add in update.adds or ()]
    for change in update.updates or ():
        old = tasks[change.id]
        made.append(Task(0, old.group, change.data, at(change.timespec, now), update.client, attempts=old.attempts))
    return made


def claimed_by(claim: Claim | None, tasks: Tasks, now: int, made: Sequence[Task]) -> Tasks:
    """The tasks after a claim that is not refused, and that made these; or after none at all."""
    free = {task.data: task for task in free_for(claim, tasks, now)} if claim else {}
    number = min(claim.limit, len(free)) if claim else 0
    assert len(made) == number, f"{made} was claimed, and not {number} of {free}"
    left = dict(tasks)
    for task in made:
        assert claim
        assert task.data in free, f"{task} was claimed of {free}"
        old = left.pop(free.pop(task.data).id)
        leased = Task(0, old.group, old.data, now + claim.duration, claim.client, attempts=old.attempts + 1)
        assert without_id(task) == leased, f"{task} was made of {old} in place of {leased}"
    return left | {task.id: task for task in made}


def free_for(claim: Claim, tasks: Tasks, now: int) -> list[Task]:
    """The tasks that a claim may choose from. Each has data of its own, by which it is known again."""
    return [task for task in tasks.values() if task.group in claim.names and task.available <= now]


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


def listed(tasks: Tasks, group: str, until: int) -> list[Task]:
    """The tasks of a group that are available at an instant, in the order in which they became so."""
    found = (task for task in tasks.values() if task.group == group and task.available <= until)
    return sorted(found, key=lambda task: (task.available, task.id))


# What is asked

# Which task: the n-th last of the ids that were given out; beyond them the next one, which may be about to be.
picks = st.lists(st.integers(-1, 7), max_size=2)


def wishes(
    *kinds: type[Request],
    clients: st.SearchStrategy[int],
    names: Sequence[str],
    spans: st.SearchStrategy[int],
    timespecs: st.SearchStrategy[int],
    most: int = 2,
) -> st.SearchStrategy[dict[str, Any]]:
    """What somebody may have in mind: a request of one of these kinds, in which picks stand for ids.

    It has at most so many adds.
    """
    groups = st.sampled_from(names)
    who = {"kind": st.sampled_from(kinds), "client": clients}
    changes = {
        "adds": st.lists(st.tuples(groups, timespecs), max_size=most),
        "updates": st.one_of(st.just([]), st.lists(st.tuples(st.integers(-1, 7), timespecs), max_size=2)),
        "deletes": picks,
        "depends": st.one_of(st.just([]), picks),
    }
    claims = {
        "names": st.one_of(groups.map(lambda name: [name]), st.just(list(names))),
        "duration": spans,
        "limit": st.sampled_from([1, 1, 2, 40]),
        "claim_depends": st.one_of(st.just([]), st.just([]), picks),
    }
    return st.fixed_dictionaries(
        {**who, **(changes if {*kinds} != {Claim} else {}), **(claims if {*kinds} != {Update} else {})}
    )


class ModelMachine(RuleBasedStateMachine):
    """The model, and requests that are made of wishes; who carries them out is for others to say.

    No rule has a precondition: a database chooses at random what is claimed, and when Hypothesis repeats a run it wants
    to have the same choice of rules.
    """

    def __init__(self, clock: SettableClock) -> None:
        super().__init__()
        self.clock = clock
        self.tasks: Tasks = {}
        self.ids: list[int] = []
        self.made = 0

    def request(self, wish: Mapping[str, Any]) -> Request:
        """The request that somebody has in mind, with ids in place of what they stand for."""
        update = self.update(wish) if wish["kind"] is not Claim else None
        claim = self.claim(wish) if wish["kind"] is not Update else None
        if update and claim:
            return Step(update, claim)
        request = update or claim
        assert request
        return request

    def update(self, wish: Mapping[str, Any]) -> Update:
        adds = [TaskAdd(group, self.new_data(), self.timespec(drawn)) for group, drawn in wish["adds"]]
        updates = [TaskUpdate(self.id(pick), self.new_data(), self.timespec(drawn)) for pick, drawn in wish["updates"]]
        deletes, depends = ([self.id(pick) for pick in wish[name]] for name in ("deletes", "depends"))
        return Update(wish["client"], adds, updates, deletes, depends)

    def claim(self, wish: Mapping[str, Any]) -> Claim:
        depends = [self.id(pick) for pick in wish["claim_depends"]]
        return Claim(
            wish["client"], duration=wish["duration"], depends=depends, groups=wish["names"], limit=wish["limit"]
        )

    def timespec(self, drawn: int) -> int:
        """The timespec that is meant by what was drawn."""
        return drawn

    def new_data(self) -> str:
        """Data of its own for each task, by which the model knows it again when it was claimed."""
        self.made += 1
        return f"d{self.made}"

    def id(self, pick: int) -> int:
        if pick < 0 or not self.ids:
            return (self.ids or [0])[-1] + 1
        return self.ids[-1 - pick % len(self.ids)]

    def note(self, answers: Iterable[Answer]) -> None:
        """Take down the ids that were given out for requests under way at the same time: new ones, and larger ones."""
        given = [task.id for answer in answers for task in new_tasks(answer)]
        assert len(set(given)) == len(given), f"an id was given twice: {given}"
        assert not self.ids or not given or min(given) > self.ids[-1], f"{given} is not beyond {self.ids[-1:]}"
        self.ids += sorted(given)

    def it_is_just_about(self, instants: Iterable[int], pick: int, offset: int) -> None:
        """Time goes on to one of these instants, give or take a nanosecond, unless that has passed."""
        ordered = sorted(instants) or [self.clock()]
        self.clock.set(max(self.clock(), ordered[pick % len(ordered)] + offset))

    @rule(pick=st.integers(0, 20), offset=st.sampled_from([-1, 0, 1]))
    def it_is_just_about_the_instant_of_a_task(self, pick: int, offset: int) -> None:
        self.it_is_just_about((task.available for task in self.tasks.values()), pick, offset)


def new_tasks(answer: Answer) -> list[Task]:
    """The tasks that an answer tells of, all of which are new."""
    made = answer.tasks if isinstance(answer, Outcome | StepOutcome) else []
    return made + (answer.updated if isinstance(answer, StepOutcome) else [])
