"""The desk of a worker: the tasks that it has in hand, and what is to be done about them next.

The laws of this room: nothing here does I/O, reads a clock, waits, or knows threads and coroutines. The two colours of
the worker bring the time, carry out what they are told, and come back with what has come of it.

A task lies on the desk `unstarted`, then is `running`, then `finished`, which means that its outcome is to be settled.
Results are settled in batches, each in one update; a batch means the same as if its outcomes had been settled one by
one, so outcomes that concern the same tasks never share one. When the store refuses a batch, those that it names are
settled alone, and the others once more together: no good work fails because of a neighbour.

More is claimed ahead than can be started at once only where the tasks are quick: no more than is done in a moment, as
measured, which is also far less than a lease. What lies unstarted for longer all the same is given back.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import attrs

from taskstore.errors import TaskResponseError
from taskstore.model import TaskInfo
from taskstore.term import AGAIN_AFTER, WAIT_AT_MOST, Phase, Term, is_culprit
from taskstore.worker.outcomes import (
    DONE,
    Change,
    Done,
    Move,
    Outcome,
    Policy,
    Quarantine,
    Release,
    Retry,
    change_of,
    given_back,
)

AHEAD_NS: Final = 100_000_000
"""Tasks are claimed ahead for a tenth of a second of work, or a quarter of the lease if that is less."""
STALE_NS: Final = 500_000_000
"""What lies unstarted for half a second, or a third of the lease if that is less, is given back."""
SETTLED_TOGETHER: Final = 1_000
"""The most outcomes that share an update; the contract allows 10,000 elements."""
MADE_TOGETHER: Final = 5_000
"""The most tasks that an update of several outcomes adds and changes."""
SENT_TOGETHER: Final = 2_000_000
"""The most characters of data in such an update, and in the answer to a claim ahead; the store takes 16 MiB."""


@attrs.define(eq=False)
class Work(Term):
    """A task in hand."""

    claimed_ns: int = 0
    """When it came to lie here."""
    has_begun: bool = False
    """Whether its handler was called."""
    started_ns: int = 0
    """When that was."""
    outcome: Outcome = DONE
    """What is to happen to it, once it is finished."""
    is_alone: bool = False
    """Whether it is settled by itself, since a batch with it was refused."""

    def change(self, policy: Policy) -> Change:
        """What its outcome means for the store."""
        if isinstance(self.outcome, Release) and not self.has_begun:
            return given_back(self.task, policy)
        return change_of(self.task, self.outcome, policy)

    @property
    def ids(self) -> set[int]:
        """The ids that its outcome names."""
        named = {self.task.id}
        if isinstance(self.outcome, Done):
            named.update(self.outcome.deletes, self.outcome.depends, (task.id for task in self.outcome.updates))
        return named


@attrs.frozen
class Settlement:
    """Outcomes that are to be settled in one update."""

    works: list[Work]
    change: Change


@attrs.frozen
class Care:
    """What the leases need now."""

    lost: list[Work]
    """These have just been lost: whoever works on them should be told."""
    renewals: list[tuple[Work, TaskInfo]]
    """These are to be renewed now, by these changes."""
    next_ns: int
    """When to look again."""


@attrs.frozen
class Progress:
    """How far a worker is."""

    claimed: int = 0
    """Tasks claimed."""
    done: int = 0
    """Tasks that are done."""
    retried: int = 0
    """Tasks to be tried again, after a failure or because the handler said so."""
    released: int = 0
    """Tasks given back."""
    moved: int = 0
    """Tasks moved to another group."""
    quarantined: int = 0
    """Tasks put aside, for a person to look at."""
    lost: int = 0
    """Tasks whose lease was lost; what their handlers returned was dropped."""
    running: int = 0
    """Tasks that handlers work on now."""
    unstarted: int = 0
    """Tasks claimed ahead."""

    @property
    def settled(self) -> int:
        """Tasks of which the store knows what has become of them."""
        return self.done + self.retried + self.released + self.moved + self.quarantined

    def __add__(self, other: "Progress") -> "Progress":
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Progress(*(one + two for one, two in pairs))


_COUNTS: Final = {Done: "done", Retry: "retried", Release: "released", Move: "moved", Quarantine: "quarantined"}


class Desk:
    """What a worker has in hand.

    Args:
        concurrency: How many handlers can run at a time.
        lease_ns: How long a claim and a renewal last.
        batch: The most tasks to have in hand; 1 claims nothing ahead.
        policy: How failures are dealt with.
    """

    def __init__(self, *, concurrency: int, lease_ns: int, batch: int, policy: Policy) -> None:
        self.policy: Final = policy
        self.lease_ns: Final = lease_ns
        self.unstarted: Final[deque[Work]] = deque()
        self.running: Final[dict[Work, None]] = {}
        self.finished: Final[deque[Work]] = deque()
        self.settling: int = 0
        """How many outcomes are on their way to the store."""
        self.claiming: int = 0
        """How many tasks are being asked for."""
        self.is_dry: bool = True
        """Whether the last claim found less than it asked for, so that the next one should wait."""
        self.is_draining: bool = False
        """Whether nothing new is begun."""
        self._concurrency = concurrency
        self._batch = batch
        self._ahead_ns = min(AHEAD_NS, lease_ns // WAIT_AT_MOST)
        self._stale_ns = min(STALE_NS, lease_ns // 3)
        self._reach = concurrency
        self._mean_ns = 0
        self._largest = 0
        self._counts = dict.fromkeys([*_COUNTS.values(), "claimed", "lost"], 0)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(**self._counts, running=len(self.running), unstarted=len(self.unstarted))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in hand, and nothing on its way here or to the store."""
        return not (self.unstarted or self.running or self.finished or self.settling or self.claiming)

    # Claims

    def room(self, now_ns: int) -> int:
        """How many tasks to claim."""
        if self.is_draining:
            return 0
        return max(0, self._wanted(now_ns) - len(self.unstarted) - len(self.running) - self.claiming)

    def _wanted(self, now_ns: int) -> int:
        oldest = next(iter(self.running), None)
        if (
            self._batch <= self._concurrency
            or not self._mean_ns
            or (oldest and now_ns - oldest.started_ns > self._ahead_ns)
        ):
            return self._concurrency
        quick = self._concurrency * self._ahead_ns // self._mean_ns
        fits = SENT_TOGETHER // (self._largest + 1)
        return max(self._concurrency, min(quick, fits, self._reach, self._batch))

    def claim(self, limit: int) -> None:
        """So many tasks are being asked for; then `claimed` has to follow, or `not_claimed`."""
        self.claiming += limit

    def not_claimed(self, limit: int) -> None:
        """The claim failed."""
        self.claiming -= limit
        self.is_dry = True

    def claimed(self, tasks: Sequence[TaskInfo], limit: int, *, sent_ns: int, now_ns: int) -> None:
        """The claim of at most `limit` tasks that was sent at `sent_ns` has brought these."""
        self.claiming -= limit
        self.is_dry = len(tasks) < limit
        if not self.is_dry:
            self._reach = min(2 * self._reach, max(self._batch, self._concurrency))
        self._counts["claimed"] += len(tasks)
        for task in tasks:
            work = Work(task, self.lease_ns, sent_ns, claimed_ns=now_ns)
            self._largest = max(self._largest - self._largest // 64, len(task.data))
            if self.policy.is_beyond_last(task):
                self._finish(work, Quarantine(f"claimed {task.attempts - 1} times, and never heard of again"))
            elif self.is_draining:
                self._finish(work, Release())
            else:
                self.unstarted.append(work)

    # Handlers

    def take(self, now_ns: int) -> Work | None:
        """The next task to be worked on, if there is one and a handler is free for it."""
        while self.unstarted and len(self.running) < self._concurrency:
            work = self.unstarted.popleft()
            if work.expire(now_ns) or not work.is_ours:
                self._counts["lost"] += 1
                continue
            work.has_begun, work.started_ns = True, now_ns
            self.running[work] = None
            return work
        return None

    def finish(self, work: Work, outcome: Outcome, now_ns: int) -> None:
        """The handler has ended. What it returned is dropped if the task is not ours any more."""
        if work not in self.running:
            return  # It was abandoned.
        del self.running[work]
        self._measure(now_ns - work.started_ns)
        if work.is_ours:
            self._finish(work, outcome)

    def _finish(self, work: Work, outcome: Outcome) -> None:
        work.outcome = outcome
        self.finished.append(work)

    def _measure(self, took_ns: int) -> None:
        # Quick to believe that tasks take long, slow to believe that they do not.
        difference = took_ns - self._mean_ns if self._mean_ns else 4 * took_ns
        self._mean_ns = max(1, self._mean_ns + (difference // 4 if difference > 0 else difference // 32))

    # Settling

    def settle(self, now_ns: int) -> Settlement | None:
        """Outcomes to be settled now; then `settled`, or one of the others, has to follow."""
        works: list[Work] = []
        change, waiting = Change(), []
        consumed: set[int] = set()
        size = 0
        while self.finished and len(works) < SETTLED_TOGETHER:
            work = self.finished.popleft()
            if work.expire(now_ns) or work.phase is Phase.LOST:
                self._counts["lost"] += 1
                continue
            part = work.change(self.policy)
            size += sum(len(task.data) for task in chain(part.adds, part.updates))
            if work.phase is not Phase.HELD or (works and not _fits(part, change, consumed, size, work.is_alone)):
                waiting.append(work)
                if work.phase is Phase.HELD:
                    break
                continue
            work.end(now_ns)
            works.append(work)
            change.extend(part)
            consumed.update(part.touched)
            if work.is_alone:
                break
        self.finished.extendleft(reversed(waiting))
        self.settling += len(works)
        return Settlement(works, change) if works else None

    def settled(self, settlement: Settlement) -> None:
        """The store has taken them."""
        self.settling -= len(settlement.works)
        for work in settlement.works:
            work.ended()
            self._counts[_COUNTS[type(work.outcome)]] += 1

    def not_settled(self, settlement: Settlement) -> None:
        """They could not be sent, or nobody knows; then they are sent again, and the ids tell whether they were new."""
        self.settling -= len(settlement.works)
        for work in settlement.works:
            work.not_ended()
        self.finished.extendleft(reversed(settlement.works))

    def refused(self, settlement: Settlement, error: TaskResponseError) -> None:
        """The store has refused them, and named who is to blame."""
        self.not_settled(settlement)
        if len(settlement.works) == 1:
            self._refused_alone(settlement.works[0], error)
            return
        named = {*error.changes, *error.deletes, *error.depends, *error.owned}
        culprits = [work for work in settlement.works if not named.isdisjoint(work.ids)]
        for work in culprits or settlement.works:
            work.is_alone = True

    def _refused_alone(self, work: Work, error: TaskResponseError) -> None:
        if is_culprit(work.task, error) or not isinstance(work.outcome, Done):
            work.lose("the store refused its outcome, for somebody else has the task")
        else:
            work.outcome = self.policy.failed(work.task, f"the store refused its outcome: {error}")

    def unacceptable(self, settlement: Settlement, reason: str) -> None:
        """The request of these outcomes is one that the store does not take, however often it is sent."""
        self.not_settled(settlement)
        if len(settlement.works) > 1:
            for work in settlement.works:
                work.is_alone = True
            return
        [work] = settlement.works
        if isinstance(work.outcome, Quarantine):
            # Without the reason around it the data is as long as it was, so that there is room for it.
            work.outcome = Move(work.task.group + self.policy.suffix)
        elif work.outcome in (Retry(), Release(), Move(work.task.group + self.policy.suffix)):
            work.lose(f"the store does not take its outcome: {reason}")
        else:
            work.outcome = self.policy.failed(work.task, f"the store does not take its outcome: {reason}")

    # Leases

    def care(self, now_ns: int) -> Care:
        """What the leases need; then, for its renewals, `renewed` or one of the others has to follow."""
        self._give_back_stale(now_ns)
        lost: list[Work] = []
        renewals: list[tuple[Work, TaskInfo]] = []
        next_ns = now_ns + min(self.lease_ns // AGAIN_AFTER, self._stale_ns)
        room = SENT_TOGETHER
        for work in self._in_hand():
            if work.expire(now_ns):
                lost.append(work)
            elif room > 0 and (renewal := work.renew(now_ns)):
                renewals.append((work, renewal))
                room -= len(renewal.data) + SENT_TOGETHER // SETTLED_TOGETHER
            elif work.phase is Phase.HELD:
                next_ns = min(next_ns, work.due_ns, work.deadline_ns)
        if self.unstarted:
            next_ns = min(next_ns, self.unstarted[0].claimed_ns + self._stale_ns)
        self._drop(lost)
        return Care(lost, renewals, next_ns)

    def _in_hand(self) -> Iterator[Work]:
        return chain(self.unstarted, self.running, self.finished)

    def _give_back_stale(self, now_ns: int) -> None:
        while self.unstarted and self.unstarted[0].claimed_ns + self._stale_ns <= now_ns:
            self._reach = self._concurrency
            self._finish(self.unstarted.popleft(), Release())

    def _drop(self, lost: Iterable[Work]) -> None:
        for work in lost:
            if work in self.running:
                self._counts["lost"] += 1  # The others are counted when it is their turn.

    def renewed(self, works: Sequence[Work], tasks: Sequence[TaskInfo]) -> None:
        """The store has renewed them."""
        for work, task in zip(works, tasks, strict=True):
            work.renewed(task)

    def not_renewed(self, works: Iterable[Work], now_ns: int) -> None:
        """The renewal could not be sent, or nobody knows."""
        for work in works:
            work.not_renewed(now_ns)

    def renewal_refused(self, works: Sequence[Work], error: TaskResponseError, now_ns: int) -> list[Work]:
        """The store has refused a renewal; returns the tasks that are lost. The others are to be renewed at once."""
        lost = [work for work in works if is_culprit(work.task, error)]
        for work in lost:
            work.lose("the store refused its renewal, for somebody else has the task")
        for work in works:
            work.not_renewed(now_ns, again_ns=0 if lost else None)
        self._drop(lost)
        return lost

    # The end

    def drain(self) -> None:
        """Begin nothing new, and give back what is not begun."""
        self.is_draining = True
        while self.unstarted:
            self._finish(self.unstarted.popleft(), Release())

    def abandon(self) -> list[Work]:
        """Give back also what is running, whose handlers are to be told: what they return will be dropped."""
        abandoned = list(self.running)
        for work in abandoned:
            del self.running[work]
            if work.is_ours:
                self._finish(work, Release())
        return abandoned


def _fits(part: Change, change: Change, consumed: set[int], size: int, is_alone: bool) -> bool:
    """Whether an outcome may share an update with those that are in it already."""
    if is_alone or size > SENT_TOGETHER:
        return False
    if len(change.adds) + len(change.updates) + len(part.adds) + len(part.updates) > MADE_TOGETHER:
        return False
    touched = part.touched
    return consumed.isdisjoint(touched) and consumed.isdisjoint(part.depends) and not set(change.depends) & set(touched)
