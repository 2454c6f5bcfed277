"""Decides. Every rule of the store stands here, once, as a function of tasks and now.

The laws of this room: no I/O, no clock, no chance; what was read comes in, what is to be written goes out. A request
that is refused leaves no trace.

A *batch* is what arrived while the store was busy: its requests were all under way at the same time, so they may be
put in any order, as long as it is one order. Claims go first, for they need nothing that the others in the batch make.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from taskstore.server.messages import Claim, Outcome, Refusal, Request, Task, TaskAdd, TaskUpdate, Update


class Wanted(msgspec.Struct, frozen=True):
    """What has to be known before a batch can be decided."""

    ids: frozenset[int]
    """Ids that the batch names, for whatever purpose."""
    claims: Mapping[str, int]
    """For each group, how many claims of it there are."""
    fresh: int
    """How many new ids the batch can need at most."""


class Seen(msgspec.Struct, frozen=True):
    """What the storage answers to `Wanted`. None of it can change until the transaction ends."""

    now: int
    """The instant of the batch, in nanoseconds since the epoch."""
    tasks: Mapping[int, Task]
    """Those of the ids that exist, whatever their time and owner."""
    claimable: Mapping[str, Sequence[Task]]
    """For each group, tasks that are available at `now`, chosen at random, as many as are claimed if there are."""
    fresh: Iterator[int]
    """New ids, each larger than every id given out before."""


class Change(msgspec.Struct, frozen=True):
    """What is to be written, together, for a batch."""

    gone: Collection[int]
    """Ids that no longer exist; among them may be new ones, which nobody has seen in the storage."""
    made: Collection[Task]
    """Tasks that now exist."""

    def __bool__(self) -> bool:
        return bool(self.gone or self.made)


def is_available(task: Task, now: int) -> bool:
    """A task is available from its instant on, that instant included."""
    return task.available <= now


def may_change(task: Task, client: int, now: int) -> bool:
    """The owner may change a task at any time, everybody else once it is available."""
    return task.owner == client or is_available(task, now)


def instant(timespec: int, now: int) -> int:
    """A positive timespec is an instant; any other counts backwards from now, so a negative one is a delay."""
    return timespec if timespec > 0 else now - timespec


def added(add: TaskAdd, id: int, client: int, now: int) -> Task:
    """The task that an add makes: it belongs to the adder."""
    return Task(id, add.group, add.data, instant(add.timespec, now), client)


def changed(task: Task, update: TaskUpdate, id: int, client: int, now: int) -> Task:
    """The task that a change makes of `task`: only the group stays."""
    return Task(id, task.group, update.data, instant(update.timespec, now), client)


def leased(task: Task, claim: Claim, id: int, now: int) -> Task:
    """The task that a claim makes of `task`: it belongs to the claimer until the lease runs out."""
    return Task(id, task.group, task.data, now + claim.duration, claim.client)


def missing(ids: Iterable[int], tasks: Mapping[int, Task]) -> list[int]:
    """Those of `ids` that do not exist, each once, in the order asked."""
    return [id for id in dict.fromkeys(ids) if id not in tasks]


def contradictions(update: Update) -> list[str]:
    """What in an update contradicts itself, in words."""
    times = Counter(change.id for change in update.updates or ())
    deletes = set(update.deletes or ())
    return [f"id {id} is in updates more than once" for id, n in times.items() if n > 1] + [
        f"id {id} is both in updates and in deletes" for id in times if id in deletes
    ]


def refusal(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
    """Why `update` is forbidden, all culprits named; an empty refusal is none."""
    changes = [change.id for change in update.updates or ()]
    touched = dict.fromkeys([*changes, *(update.deletes or ())])
    return Refusal(
        changes=missing(changes, tasks),
        deletes=missing(update.deletes or (), tasks),
        depends=missing(update.depends or (), tasks),
        owned=[id for id in touched if id in tasks and not may_change(tasks[id], update.client, now)],
        bugs=contradictions(update) if changes else [],
    )


def wanted(batch: Sequence[Request]) -> Wanted:
    """What has to be read to decide `batch`."""
    ids: set[int] = set()
    claims: dict[str, int] = {}
    fresh = 0
    for request in batch:
        if request.depends:
            ids.update(request.depends)
        if isinstance(request, Claim):
            claims[request.group] = claims.get(request.group, 0) + 1
            fresh += 1
            continue
        if request.adds:
            fresh += len(request.adds)
        if request.updates:
            fresh += len(request.updates)
            ids.update(change.id for change in request.updates)
        if request.deletes:
            ids.update(request.deletes)
    return Wanted(frozenset(ids), claims, fresh)


def decide(batch: Sequence[Request], seen: Seen) -> tuple[list[Outcome], Change]:
    """The outcome of each request, in the order of the batch, and what they change together."""
    book = _Book(seen)
    outcomes: dict[int, Outcome] = {}
    for position, request in enumerate(batch):
        if isinstance(request, Claim):
            outcomes[position] = book.claim(request)
    for position, request in enumerate(batch):
        if isinstance(request, Update):
            outcomes[position] = book.update(request)
    return [outcomes[position] for position in range(len(batch))], Change(book.gone, book.made.values())


class _Book:
    """The tasks that a batch concerns, as they stand after the requests decided so far."""

    def __init__(self, seen: Seen) -> None:
        self.now = seen.now
        self.tasks = dict(seen.tasks)
        self.claimable = {group: list(tasks) for group, tasks in seen.claimable.items()}
        self.fresh = seen.fresh
        self.gone: list[int] = []
        self.made: dict[int, Task] = {}

    def claim(self, claim: Claim) -> Outcome:
        if claim.depends and (gone := missing(claim.depends, self.tasks)):
            return Outcome(error=Refusal(depends=gone))
        available = self.claimable.get(claim.group)
        if not available:
            return Outcome()
        task = available.pop()
        self.tasks.pop(task.id, None)
        self.gone.append(task.id)
        return Outcome([self._make(leased(task, claim, next(self.fresh), self.now))])

    def update(self, update: Update) -> Outcome:
        if error := refusal(update, self.tasks, self.now):
            return Outcome(error=error)
        client, now = update.client, self.now
        tasks = [self._make(added(add, next(self.fresh), client, now)) for add in update.adds or ()]
        for change in update.updates or ():
            task = self._consume(change.id)
            tasks.append(self._make(changed(task, change, next(self.fresh), client, now)))
        for id in dict.fromkeys(update.deletes or ()):
            self._consume(id)
        return Outcome(tasks)

    def _make(self, task: Task) -> Task:
        self.tasks[task.id] = self.made[task.id] = task
        return task

    def _consume(self, id: int) -> Task:
        task = self.tasks.pop(id)
        # What came and went within the batch is gone, too: its id was given out, and only so does the storage know.
        self.made.pop(id, None)
        self.gone.append(id)
        return task
