"""Decides. Every rule of the store stands here, once, as a function of tasks and now.

The laws of this room: no I/O, no clock, no chance; what was read comes in, what is to be written goes out. A request
that is refused leaves no trace.

A *batch* is what arrived while the store was busy: its requests were all under way at the same time, so they may be
put in any order, as long as it is one order. Claims go first, while all that was found available still is; then
updates; then steps, whose claims may find what the updates have made; and in the end once more the claims that have
waited, if they have found nothing, so that a task and the claim that waits for it share a transaction.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from taskstore.model import INT32
from taskstore.server.messages import (
    Answer,
    Claim,
    Keyed,
    KeyMisused,
    Outcome,
    Record,
    Refusal,
    Replayed,
    Request,
    Step,
    StepOutcome,
    Task,
    TaskAdd,
    TaskUpdate,
    Update,
)

MAX_ATTEMPTS: Final = INT32[-1]
ALLOWED: Final = Refusal()
"""Why an update that is allowed is refused."""
NOTHING: Final = Outcome()
"""The answer to a claim that found nothing."""
_TURN: Final[Mapping[type, int]] = {Claim: 0, Update: 1, Step: 2}
"""In which order the requests of a batch have their turn."""


class Wanted(msgspec.Struct, frozen=True):
    """What has to be known before a batch can be decided."""

    ids: frozenset[int]
    """Ids that the batch names, for whatever purpose."""
    claims: Mapping[str, int]
    """For each group, how many of its tasks can be claimed at most."""
    fresh: int
    """How many new ids the batch can need at most."""
    keys: frozenset[tuple[int, str]] = frozenset()
    """Client ids and keys under which a record may exist."""


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
    records: Mapping[tuple[int, str], Record] = {}
    """Those of the records that exist and are not too old."""


class Change(msgspec.Struct, frozen=True):
    """What is to be written, together, for a batch."""

    gone: Collection[int]
    """Ids that no longer exist; among them may be new ones, which nobody has seen in the storage."""
    made: Collection[Task]
    """Tasks that now exist."""
    records: Collection[Record] = ()
    """What keyed requests did; a record takes the place of one with the same client and key."""

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
    """The task that a change makes of `task`: only the group stays, and the number of attempts."""
    return Task(id, task.group, update.data, instant(update.timespec, now), client, task.attempts)


def leased(task: Task, claim: Claim, id: int, now: int) -> Task:
    """The task that a claim makes of `task`: it belongs to the claimer until the lease runs out."""
    return Task(id, task.group, task.data, now + claim.duration, claim.client, min(task.attempts + 1, MAX_ATTEMPTS))


def missing(ids: Sequence[int] | None, tasks: Mapping[int, Task]) -> list[int]:
    """Those of `ids` that do not exist, each once, in the order asked."""
    return [id for id in dict.fromkeys(ids) if id not in tasks] if ids else []


def contradictions(update: Update) -> list[str]:
    """What in an update contradicts itself, in words."""
    times = Counter(change.id for change in update.updates or ())
    deletes = set(update.deletes or ())
    return [f"id {id} is in updates more than once" for id, n in times.items() if n > 1] + [
        f"id {id} is both in updates and in deletes" for id in times if id in deletes
    ]


def refusal(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
    """Why `update` is forbidden, all culprits named; an empty refusal is none."""
    changes = [change.id for change in update.updates] if update.updates else []
    touched = changes + update.deletes if update.deletes else changes
    gone = missing(changes, tasks), missing(update.deletes, tasks), missing(update.depends, tasks)
    owned = [id for id in touched if id in tasks and not may_change(tasks[id], update.client, now)]
    bugs = contradictions(update) if changes else []
    return Refusal(*gone, list(dict.fromkeys(owned)), bugs) if owned or bugs or any(gone) else ALLOWED


def wanted(batch: Sequence[Request]) -> Wanted:
    """What has to be read to decide `batch`."""
    need = _Need()
    for request in batch:
        need.of(request)
    for group in need.late:
        # What was found available may be gone when the claim of a step has its turn.
        need.claims[group] += need.touched
    return Wanted(frozenset(need.ids), need.claims, need.fresh, frozenset(need.keys))


class _Need:
    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.claims: dict[str, int] = {}
        self.fresh = 0
        self.keys: set[tuple[int, str]] = set()
        self.touched = 0
        self.late: set[str] = set()

    def of(self, request: Request) -> None:
        if type(request) is Claim:
            self.of_claim(request)
        elif type(request) is Update:
            self.of_update(request)
        elif type(request) is Keyed:
            self.keys.add((request.client, request.key))
            self.of(request.request)
        else:
            self.of_update(request.update)
            if request.claim:
                self.of_claim(request.claim)
                self.late.update(request.claim.names)

    def of_claim(self, claim: Claim) -> None:
        if claim.depends:
            self.ids.update(claim.depends)
        self.fresh += claim.limit
        for group in claim.names:
            self.claims[group] = self.claims.get(group, 0) + claim.limit

    def of_update(self, update: Update) -> None:
        if update.adds:
            self.fresh += len(update.adds)
        if update.updates:
            self.fresh += len(update.updates)
            self.touched += len(update.updates)
            self.ids.update([change.id for change in update.updates])
        if update.deletes:
            self.touched += len(update.deletes)
            self.ids.update(update.deletes)
        if update.depends:
            self.ids.update(update.depends)


def made_by(update: Update, tasks: Mapping[int, Task], ids: Iterator[int], now: int) -> list[Task]:
    """The tasks that `update` makes, adds first; `tasks` has those that it changes."""
    made = [added(add, next(ids), update.client, now) for add in update.adds] if update.adds else []
    if update.updates:
        made += [changed(tasks[each.id], each, next(ids), update.client, now) for each in update.updates]
    return made


def record(keyed: Keyed, answer: Outcome | StepOutcome, tasks: Mapping[int, Task], now: int) -> Record | None:
    """What is to be kept of a keyed request that was carried out; nothing if it changed nothing.

    What changed nothing may as well be done again. `tasks` is what there was before.
    """
    if keyed.amends:
        return msgspec.structs.replace(keyed.amends, claimed=answer.tasks) if answer.tasks else None
    update, claimed, made = _update_of(keyed.request), answer.tasks, []
    if type(answer) is StepOutcome:
        made = answer.updated
    elif update:
        claimed, made = [], answer.tasks
    if answer.error or not (claimed or made or (update and update.deletes)):
        return None
    before = [msgspec.structs.replace(tasks[change.id], data="") for change in (update and update.updates) or ()]
    ids = [task.id for task in made]
    return Record(keyed.client, keyed.key, keyed.fingerprint, now, ids, before, claimed)


def replayed(keyed: Keyed, record: Record) -> Replayed | KeyMisused:
    """The answer that a keyed request has got before."""
    if keyed.fingerprint != record.fingerprint:
        return KeyMisused()
    update = _update_of(keyed.request)
    before = {task.id: task for task in record.changed}
    made = made_by(update, before, iter(record.ids), record.now) if update else []
    if type(keyed.request) is Step:
        return Replayed(StepOutcome(record.claimed, made))
    return Replayed(Outcome(made if update else record.claimed))


def _update_of(request: Update | Claim | Step) -> Update | None:
    if type(request) is Step:
        return request.update
    return request if type(request) is Update else None


def decide(batch: Sequence[Request], seen: Seen, waited: Collection[int] = ()) -> tuple[list[Answer], Change]:
    """The answer to each request, in the order of the batch, and what they change together.

    `waited` are the positions of claims that have waited.
    """
    plain = [request.request if type(request) is Keyed else request for request in batch]
    book = _Book(seen, _tried_late(plain, waited))
    answers: list[Answer] = [NOTHING] * len(batch)
    turns = [_TURN[type(request)] for request in plain]
    for position in sorted(range(len(batch)), key=turns.__getitem__):
        answers[position] = book.answer(batch[position])
    for position in waited:
        if answers[position] == NOTHING:
            answers[position] = book.answer(batch[position])
    return answers, book.change()


def _tried_late(batch: Sequence[Update | Claim | Step], waited: Collection[int]) -> set[str]:
    """The groups from which is claimed after the updates of the batch."""
    claims = [step.claim for step in batch if type(step) is Step] + [batch[position] for position in waited]
    return {name for claim in claims if type(claim) is Claim for name in claim.names}


class _Book:
    """The tasks that a batch concerns, as they stand after the requests decided so far."""

    def __init__(self, seen: Seen, late: Collection[str]) -> None:
        self.now = seen.now
        self.tasks = dict(seen.tasks)
        self.claimable = {group: list(tasks) for group, tasks in seen.claimable.items()}
        self.fresh = seen.fresh
        self.records = dict(seen.records)
        self.gone: dict[int, None] = {}
        self.made: dict[int, Task] = {}
        self.made_available: dict[str, list[Task]] = {group: [] for group in late}
        self.new_records: dict[tuple[int, str], Record] = {}

    def change(self) -> Change:
        """What is to be written."""
        return Change(self.gone, self.made.values(), self.new_records.values())

    def answer(self, request: Request) -> Answer:
        """Decide one request, and note what it changes."""
        return self.keyed(request) if type(request) is Keyed else self.outcome(request)

    def outcome(self, request: Update | Claim | Step) -> Outcome | StepOutcome:
        if type(request) is Claim:
            return self.claim(request)
        return self.update(request) if type(request) is Update else self.step(request)

    def claim(self, claim: Claim) -> Outcome:
        if gone := missing(claim.depends, self.tasks):
            return Outcome(error=Refusal(depends=gone))
        return Outcome(self.leases(claim))

    def leases(self, claim: Claim) -> list[Task]:
        taken: list[Task] = []
        for name in claim.names:
            for source in (self.claimable.get(name), self.made_available.get(name)):
                while source and len(taken) < claim.limit:
                    task = source.pop()
                    if task.id not in self.gone:
                        self.consume(task.id)
                        taken.append(task)
        made = [self.make(leased(task, claim, next(self.fresh), self.now)) for task in taken]
        if claim.duration == 0:
            # A lease of no time at all leaves a task to the next one who claims, though not to this one.
            for task in made:
                self.claimable.setdefault(task.group, []).insert(0, task)
        return made

    def update(self, update: Update) -> Outcome:
        if error := refusal(update, self.tasks, self.now):
            return Outcome(error=error)
        made = made_by(update, self.tasks, self.fresh, self.now)
        if update.updates:
            for change in update.updates:
                self.consume(change.id)
        if update.deletes:
            for id in update.deletes:
                self.consume(id)
        for task in made:
            self.make(task)
        return Outcome(made)

    def step(self, step: Step) -> StepOutcome:
        error = refusal(step.update, self.tasks, self.now)
        if step.claim and step.claim.depends:
            error = self.with_missing(error, step.claim.depends, step.update)
        if error:
            return StepOutcome(error=error)
        updated = self.update(step.update).tasks
        return StepOutcome(self.leases(step.claim) if step.claim else [], updated)

    def with_missing(self, error: Refusal, depends: Iterable[int], update: Update) -> Refusal:
        # The claim comes after the update, and so cannot depend on what the update consumes.
        consumed = {change.id for change in update.updates or ()}.union(update.deletes or ())
        gone = [id for id in depends if id not in self.tasks or id in consumed]
        return msgspec.structs.replace(error, depends=list(dict.fromkeys([*error.depends, *gone])))

    def keyed(self, keyed: Keyed) -> Answer:
        name = keyed.client, keyed.key
        if (known := self.records.get(name)) and not keyed.amends:
            return replayed(keyed, known)
        before = {task.id: task for task in self.changing(keyed.request)}
        answer = self.outcome(keyed.request)
        if new := record(keyed, answer, before, self.now):
            self.records[name] = self.new_records[name] = new
        return answer

    def changing(self, request: Update | Claim | Step) -> list[Task]:
        update = _update_of(request)
        changes = (update.updates if update else None) or ()
        return [self.tasks[change.id] for change in changes if change.id in self.tasks]

    def make(self, task: Task) -> Task:
        self.tasks[task.id] = self.made[task.id] = task
        if self.made_available and is_available(task, self.now) and task.group in self.made_available:
            self.made_available[task.group].append(task)
        return task

    def consume(self, id: int) -> None:
        # What came and went within the batch is gone, too: its id was given out, and only so does the storage know.
        self.tasks.pop(id, None)
        self.made.pop(id, None)
        self.gone[id] = None
