"""What clients asked a store and what they were told: the record that the judge reads.

The law of this room: every task that a load makes has data of its own, so whoever meets it later can tell who made it.
A claim keeps the data, so all ids under which a task was ever leased are known to be one task.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple, TypeAlias

from taskstore.server.messages import Claim, Outcome, Refusal, Step, StepOutcome, Task, Update

SHOWN = 8
"""How many elements of a list an explanation shows."""


class Read(NamedTuple):
    """Asks for single tasks; the answer has one entry for each id, None where there is no such task."""

    ids: tuple[int, ...]


class Listing(NamedTuple):
    """Asks for all tasks of a group, whatever their time; of all groups, if it is None."""

    group: str | None


class Silence(Enum):
    """What stands in place of an answer."""

    UNKNOWN = "nobody knows whether it was carried out"
    NOTHING = "turned away, so it changed nothing"


Change: TypeAlias = Update | Claim | Step
Request: TypeAlias = Change | Read | Listing
Answer: TypeAlias = Outcome | StepOutcome | Sequence[Task | None] | Silence


@dataclass(slots=True)
class Call:
    """One request of one client; the instants are on one clock, of any unit, that all clients share."""

    client: str
    request: Request
    invoked: int
    returned: int | None = None
    """From when on it can have no more effect; None if it may have one at any time."""
    answer: Answer = Silence.UNKNOWN

    @property
    def update(self) -> Update | None:
        """What it was to add, change, delete and depend on."""
        if isinstance(self.request, Step):
            return self.request.update
        return self.request if isinstance(self.request, Update) else None

    @property
    def claim(self) -> Claim | None:
        """What it was to lease."""
        if isinstance(self.request, Step):
            return self.request.claim
        return self.request if isinstance(self.request, Claim) else None

    @property
    def updated(self) -> Sequence[Task]:
        """The tasks that it was told it added and changed."""
        if isinstance(self.answer, StepOutcome):
            return self.answer.updated
        return self.answer.tasks if isinstance(self.answer, Outcome) and self.claim is None else ()

    @property
    def claimed(self) -> Sequence[Task]:
        """The tasks that it was told it leased."""
        if isinstance(self.answer, Outcome | StepOutcome) and self.claim is not None:
            return self.answer.tasks
        return ()

    @property
    def made(self) -> Sequence[Task]:
        """The tasks that it was told it made, in the order in which it did."""
        return [*self.updated, *self.claimed]

    @property
    def error(self) -> Refusal | None:
        """Why it was refused, if it was."""
        return self.answer.error if isinstance(self.answer, Outcome | StepOutcome) else None

    @property
    def was_applied(self) -> bool:
        """Whether it was told that it was carried out."""
        return isinstance(self.answer, Outcome | StepOutcome) and self.answer.error is None

    @property
    def is_unknown(self) -> bool:
        """Whether it may have changed something without its client's knowledge."""
        return self.answer is Silence.UNKNOWN and isinstance(self.request, Change)

    @property
    def consumed(self) -> Sequence[int]:
        """The ids that it names to be changed or deleted, each once; what a claim takes is not named."""
        if (update := self.update) is None:
            return ()
        changed = [change.id for change in update.updates or ()]
        return list(dict.fromkeys([*changed, *(update.deletes or ())]))

    @property
    def depends(self) -> Sequence[int]:
        """The ids that it depends on."""
        parts = (part.depends or () for part in (self.update, self.claim) if part)
        return [id for depends in parts for id in depends]

    @property
    def tags(self) -> Iterator[str]:
        """The data of the tasks that it makes if it is carried out, except where it only leases one."""
        if update := self.update:
            for change in (*(update.adds or ()), *(update.updates or ())):
                yield change.data


class Promise(StrEnum):
    """What the store promises of any history."""

    ONCE = "each id is made once and consumed once"
    SAME = "what is under an id never changes"
    NOWHERE = "nothing comes from nowhere"
    TRACE = "a refused request leaves no trace"
    LOST = "nothing acknowledged is lost"
    HALF = "nothing is half applied"
    OWNED = "nothing is owned twice"
    OWNERSHIP = "ownership is respected"
    REFUSED = "refusals are justified"
    FOUND = "a claim finds what is available"
    FITS = "an answer fits its request"
    GROW = "ids grow"
    CLOCK = "time never goes back"
    KEY = "a key stands for one request, which is carried out once"
    ORDER = "there is one order of all calls"


class Violation(NamedTuple):
    """A promise that was broken, and the calls that show it, by their number in the history."""

    promise: Promise
    what: str
    calls: dict[int, Call]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.promise}: {self.what}", *(told(n, call) for n, call in self.calls.items())])


def told(number: int, call: Call) -> str:
    """One line on a call."""
    until = "..." if call.returned is None else call.returned
    return f"#{number} {call.client}, {call.invoked} to {until}: {_asked(call.request)} -> {_answered(call.answer)}"


def _asked(request: Request) -> str:
    if isinstance(request, Read):
        return f"read {_few(request.ids)}"
    if isinstance(request, Listing):
        return "list everything" if request.group is None else f"list {request.group}"
    if isinstance(request, Step):
        return ", then ".join(_asked(part) for part in (request.update, request.claim) if part)
    depends = [f"depends {_few(request.depends)}"] if request.depends else []
    if isinstance(request, Claim):
        what = f"claim {request.limit} of {' '.join(request.names)} as {request.client} for {request.duration}"
        return ", ".join([what, *depends])
    parts = {
        "adds": [f"{add.data} to {add.group} at {add.timespec}" for add in request.adds or ()],
        "updates": [f"{change.id} to {change.data} at {change.timespec}" for change in request.updates or ()],
        "deletes": request.deletes or (),
    }
    return ", ".join(
        [f"update as {request.client}", *(f"{name} {_few(items)}" for name, items in parts.items() if items), *depends]
    )


def _answered(answer: Answer) -> str:
    if isinstance(answer, Silence):
        return answer.value
    if not isinstance(answer, Outcome | StepOutcome):
        return _few([task and _shown(task) for task in answer]) or "nothing"
    if answer.error is None:
        updated = answer.updated if isinstance(answer, StepOutcome) else []
        return _few([_shown(task) for task in (*updated, *answer.tasks)]) or "done"
    names = ("changes", "deletes", "depends", "owned", "bugs")
    culprits = {name: getattr(answer.error, name) for name in names}
    return "refused: " + ", ".join(f"{name} {_few(ids)}" for name, ids in culprits.items() if ids)


def _shown(task: Task) -> str:
    return f"{task.id} ({task.data} in {task.group}, owner {task.owner}, available {task.available})"


def _few(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return " ".join(map(str, items[:SHOWN])) + more
