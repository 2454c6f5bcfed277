"""What a handler returns: what should happen to its task, as a value; and what that means for the store.

The laws of this room: pure functions of values; no I/O and no clock. Each outcome becomes one update that is done with
the task or not done at all.

A group cannot be changed by an update, so what moves a task to another group deletes it and adds a new one, whose
attempts are counted anew.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from taskstore.errors import UsageError
from taskstore.model import Duration, TaskInfo, TaskRef, checked_group, checked_id, checked_text, duration_ns

LONGEST_REASON: Final = 10_000
"""How many characters of a reason are kept."""


def _infos(tasks: Iterable[TaskInfo]) -> tuple[TaskInfo, ...]:
    listed = tuple(tasks)
    for task in listed:
        if not isinstance(task, TaskInfo):
            raise UsageError(f"an outcome adds or updates TaskInfo, not {task!r:.100}")
    return listed


def _ids(tasks: Iterable[TaskRef]) -> tuple[int, ...]:
    return tuple(task.id if isinstance(task, TaskInfo) else checked_id(task) for task in tasks)


def _maybe_ns(duration: Duration | None) -> int | None:
    return None if duration is None else max(0, duration_ns(duration, "after"))


def _maybe_text(data: str | None) -> str | None:
    return None if data is None else checked_text(data, "data")


def _reason(reason: str) -> str:
    # An error may quote half a character, and should be told all the same.
    return str(reason).encode(errors="replace").decode()[:LONGEST_REASON]


@attrs.frozen
class Done:
    """The task is done: it is deleted, and all of this happens in the same update."""

    adds: tuple[TaskInfo, ...] = attrs.field(default=(), converter=_infos)
    """Tasks to add: what follows from it."""
    updates: tuple[TaskInfo, ...] = attrs.field(default=(), converter=_infos)
    """Other tasks as they shall be from now on."""
    deletes: tuple[int, ...] = attrs.field(default=(), converter=_ids)
    """Other tasks, or ids, to delete."""
    depends: tuple[int, ...] = attrs.field(default=(), converter=_ids)
    """Tasks, or ids, that have to exist. Where one does not, the work has failed, like by an exception."""


@attrs.frozen
class Retry:
    """Not now: the task is to be tried again. However often that is, it never leads to quarantine."""

    after: int | None = attrs.field(default=None, converter=_maybe_ns)
    """In which time, a `timedelta` or integer nanoseconds; None for one that grows with the attempts."""
    data: str | None = attrs.field(default=None, converter=_maybe_text)
    """New data of the task; None leaves it as it is."""


@attrs.frozen
class Release:
    """Somebody else may have the task, now."""


@attrs.frozen
class Move:
    """The task belongs into another group."""

    group: str = attrs.field(converter=checked_group)
    data: str | None = attrs.field(default=None, converter=_maybe_text)
    """New data of the task; None leaves it as it is."""


@attrs.frozen
class Quarantine:
    """Nothing can be done with the task before a person has looked at it: it is put aside, with the reason."""

    reason: str = attrs.field(default="", converter=_reason)


Outcome: TypeAlias = Done | Retry | Release | Move | Quarantine
OUTCOMES: Final = (Done, Retry, Release, Move, Quarantine)
DONE: Final = Done()


def outcome_of(returned: object) -> Outcome:
    """What a handler has returned, as an outcome.

    Raises:
        TypeError: it is none.
    """
    if returned is None:
        return DONE
    if isinstance(returned, OUTCOMES):
        return returned
    names = ", ".join(each.__name__ for each in OUTCOMES)
    raise TypeError(f"a handler returns None or one of {names}, not {returned!r:.100}")


@attrs.frozen
class Policy:
    """How failures are dealt with."""

    max_attempts: int | None = 10
    """How often a task is tried before an exception puts it aside; None for any number."""
    backoff_ns: int = 1_000_000_000
    """The longest pause after the first failure; it doubles with each attempt."""
    backoff_most_ns: int = 600_000_000_000
    """The longest pause of all."""
    suffix: str = "/quarantine"
    """The group for quarantined tasks is that of the task, and this."""
    random: Callable[[], float] = attrs.field(kw_only=True)
    """A random number from 0 to 1."""
    when: Callable[[], str] = attrs.field(kw_only=True)
    """Now, as text for a person."""

    def pause_ns(self, attempts: int) -> int:
        """For how long to wait after so many attempts: anything up to a bound that grows, so that no crowd forms."""
        bound = min(self.backoff_ns << min(max(attempts - 1, 0), 60), self.backoff_most_ns)
        return round(bound * self.random())

    def is_last(self, task: TaskInfo) -> bool:
        """Whether this is the last attempt."""
        return self.max_attempts is not None and task.attempts >= self.max_attempts

    def is_beyond_last(self, task: TaskInfo) -> bool:
        """Whether even the last attempt was never heard of again: whoever works on this task may die of it."""
        return self.max_attempts is not None and task.attempts > self.max_attempts

    def failed(self, task: TaskInfo, reason: str) -> Outcome:
        """What becomes of a task whose handler failed."""
        return Quarantine(reason) if self.is_last(task) else Retry()


@attrs.frozen
class Change:
    """What an update is to do."""

    adds: list[TaskInfo] = attrs.field(factory=list)
    updates: list[TaskInfo] = attrs.field(factory=list)
    deletes: list[int] = attrs.field(factory=list)
    depends: list[int] = attrs.field(factory=list)

    def extend(self, other: "Change") -> None:
        """Do also what the other one does."""
        self.adds.extend(other.adds)
        self.updates.extend(other.updates)
        self.deletes.extend(other.deletes)
        self.depends.extend(other.depends)

    @property
    def touched(self) -> list[int]:
        """The ids that it consumes."""
        return [*self.deletes, *(task.id for task in self.updates)]


def change_of(task: TaskInfo, outcome: Outcome, policy: Policy) -> Change:
    """What an outcome means for the store."""
    if isinstance(outcome, Done):
        deletes = [task.id, *outcome.deletes]
        return Change(list(outcome.adds), list(outcome.updates), deletes, list(outcome.depends))
    if isinstance(outcome, Retry):
        after_ns = policy.pause_ns(task.attempts) if outcome.after is None else outcome.after
        return _again(task, after_ns, outcome.data, policy)
    if isinstance(outcome, Release):
        return _again(task, 0, None, policy)
    if isinstance(outcome, Move):
        return _replaced(task, TaskInfo(outcome.group, _or(outcome.data, task.data)))
    return _replaced(task, quarantined(task, outcome.reason, policy))


def given_back(task: TaskInfo, policy: Policy) -> Change:
    """What gives a task back that nobody has begun to work on. A first attempt that was none does not count."""
    if task.attempts <= 1:
        return _replaced(task, TaskInfo(task.group, task.data))
    return _again(task, 0, None, policy)


def _again(task: TaskInfo, after_ns: int, data: str | None, policy: Policy) -> Change:
    if policy.is_last(task):
        # That it is wanted once more is no failure. As a new task it has all its attempts before it.
        return _replaced(task, TaskInfo(task.group, _or(data, task.data), -after_ns))
    return Change(updates=[task.replace(data=data, available_in=after_ns)])


def _replaced(task: TaskInfo, new: TaskInfo) -> Change:
    return Change(adds=[new], deletes=[task.id])


def _or(data: str | None, default: str) -> str:
    return default if data is None else data


# What stands in quarantine


def quarantined(task: TaskInfo, reason: str, policy: Policy) -> TaskInfo:
    """A task as it is put aside, with all that a person needs to know."""
    said = {"group": task.group, "data": task.data, "attempts": task.attempts, "reason": reason, "when": policy.when()}
    return TaskInfo(task.group + policy.suffix, json.dumps(said, ensure_ascii=False, separators=(",", ":")))


def brought_back(task: TaskInfo, group: str) -> TaskInfo:
    """What a task in quarantine was before, with all its attempts before it again.

    One that does not say what it was goes to `group` as it is: its data left no room for more.
    """
    try:
        said: Any = json.loads(task.data)
        return TaskInfo(said["group"], said["data"])
    except (ValueError, TypeError, KeyError):
        return TaskInfo(group, task.data)


def requeue(tasks: Sequence[TaskInfo], group: str) -> Change:
    """What brings tasks back from quarantine."""
    return Change(adds=[brought_back(task, group) for task in tasks], deletes=[task.id for task in tasks])
