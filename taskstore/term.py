"""How long a claimed task is ours, and what can be done with it when.

The laws of this room: a `Term` does no I/O, reads no clock, and knows neither threads nor coroutines; the time comes in
as an argument; an event that makes no sense now changes nothing.

A lease is counted from the moment at which the claim, or the renewal that succeeded last, was sent, on a clock of this
machine that nobody can set: so it ends here no later than in the store, however long the answer took. Nothing is safe
because of that clock, though. Whoever is late holds an id that is gone, and the store refuses it; the clock is there so
that work stops early that would be refused.
"""

import enum
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import attrs

from taskstore.errors import LeaseLostError, TaskResponseError, TaskStoreError, UsageError
from taskstore.model import Duration, TaskInfo, duration_ns

Clock: TypeAlias = Callable[[], int]
"""Reads a time in integer nanoseconds, from wherever it counts; only differences matter."""

RENEW_AT: Final = 3
"""A lease is renewed when one part in three of it has passed, so that two more tries fit in what is left."""
WAIT_AT_MOST: Final = 4
"""A claim waits for at most one part in four of its lease, which is counted from when the claim was sent."""
TRY_FOR: Final = 6
"""A call that a lease depends on waits for its answer for one part in six of the lease, and then is repeated."""
SHORTEST_TRY_NS: Final = 50_000_000
"""But no less than 50 ms, however short the lease."""
LONGEST_RETRY_NS: Final = 60_000_000_000
"""No call is repeated for longer than a minute."""
AGAIN_AFTER: Final = 12
"""A renewal of unknown outcome is repeated after one part in twelve of the lease."""
DRIFT: Final = 100
"""One part in a hundred of a lease is left unused, for the store's clock may be a little faster than ours."""
LOOK_S: Final = 0.005
"""How often a clock that was given to us is looked at: it does not tell when somebody sets it."""

_log: Final = logging.getLogger("taskstore.lease")


def monotonic_ns() -> int:
    """A time that nobody sets, and that counts while the machine sleeps too, where the system can tell (Linux)."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


class Phase(enum.Enum):
    """What is going on with a lease."""

    HELD = "held"
    RENEWING = "renewing"
    """A renewal is on its way, so the id of the task is open."""
    ENDING = "ending"
    """A commit or a release is on its way."""
    ENDED = "ended"
    LOST = "lost"


@attrs.define(eq=False)
class Term:
    """How long a task is ours, and what can be done with it now. An event that makes no sense now changes nothing."""

    task: TaskInfo
    """The newest state of the task."""
    lease_ns: int
    """How long each claim and each renewal makes it last."""
    sent_ns: int
    """When the claim, or the renewal that succeeded last, was sent."""
    phase: Phase = Phase.HELD
    why: str = ""
    """Why it was lost."""
    _renewal_sent_ns: int = 0
    _not_before_ns: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether there is something to renew or to end, now or once the renewal that is on its way has ended."""
        return self.phase is Phase.HELD or self.phase is Phase.RENEWING

    @property
    def deadline_ns(self) -> int:
        """From when on nothing must be done with the task any more."""
        return self.sent_ns + self.lease_ns - self.lease_ns // DRIFT

    @property
    def due_ns(self) -> int:
        """From when on the lease should be renewed."""
        return max(self.sent_ns + self.lease_ns // RENEW_AT, self._not_before_ns)

    def expire(self, now_ns: int) -> bool:
        """Whether the lease has just run out."""
        if not self.is_ours or now_ns < self.deadline_ns:
            return False
        self.lose("its lease ran out before it could be renewed")
        return True

    def lose(self, why: str) -> None:
        """Somebody else has the task, or will have it."""
        if self.phase is not Phase.ENDED:
            self.phase, self.why = Phase.LOST, why

    def error(self) -> LeaseLostError:
        """What to raise for a lease that is lost."""
        return LeaseLostError(self.task.id, self.why)

    def check(self, now_ns: int) -> None:
        """See whether the task is still ours.

        Raises:
            LeaseLostError: it is not.
        """
        self.expire(now_ns)
        if self.phase is Phase.LOST:
            raise self.error()

    def renew(self, now_ns: int) -> TaskInfo | None:
        """The change that renews the lease, if it is time for that; then `renewed` or one of the others has to follow.

        Its timespec counts from the store's now, as every duration does.
        """
        if self.phase is not Phase.HELD or not self.due_ns <= now_ns < self.deadline_ns:
            return None
        self.phase, self._renewal_sent_ns = Phase.RENEWING, now_ns
        return self.task.replace(available_in=self.lease_ns)

    def renewed(self, task: TaskInfo) -> None:
        """The renewal succeeded, and this is the task now."""
        if self.phase is Phase.RENEWING:
            self.phase, self.task, self.sent_ns = Phase.HELD, task, self._renewal_sent_ns

    def not_renewed(self, now_ns: int, *, again_ns: int | None = None) -> None:
        """It did not, or nobody knows: then the next one tells. It is tried in `again_ns`, by default a part of it."""
        if self.phase is Phase.RENEWING:
            self.phase = Phase.HELD
            self._not_before_ns = now_ns + (self.lease_ns // AGAIN_AFTER if again_ns is None else again_ns)

    def end(self, now_ns: int) -> bool:
        """Begin to commit or to release the task; False while a renewal is on its way, which comes first.

        Raises:
            LeaseLostError: it is no longer ours.
            UsageError: it was committed or released before.
        """
        self.check(now_ns)
        if self.phase in (Phase.ENDING, Phase.ENDED):
            raise UsageError(f"task {self.task.id} was committed or released already")
        if self.phase is Phase.RENEWING:
            return False
        self.phase = Phase.ENDING
        return True

    def ended(self) -> None:
        """The commit or the release is done, or nobody knows."""
        if self.phase is Phase.ENDING:
            self.phase = Phase.ENDED

    def not_ended(self) -> None:
        """Nothing has changed, and the task is still ours."""
        if self.phase is Phase.ENDING:
            self.phase = Phase.HELD

    def retry_ns(self, now_ns: int) -> int:
        """For how long a call about the task may be repeated: until the deadline, and no longer than is usual."""
        return min(max(self.deadline_ns - now_ns, 1_000_000), LONGEST_RETRY_NS)


def try_ns(lease_ns: int) -> int:
    """For how long to wait for the answer to a call that a lease depends on, before it is repeated."""
    return max(lease_ns // TRY_FOR, SHORTEST_TRY_NS)


def is_culprit(task: TaskInfo, refusal: TaskResponseError) -> bool:
    """Whether an update was refused because this task, which it was to change or delete, is not ours any more."""
    return task.id in refusal.deletes or task.id in refusal.changes or task.id in refusal.owned


def pause_s(until_ns: int, now_ns: int, clock: Clock) -> float:
    """For how many seconds to wait now in order to be there at an instant of the clock."""
    seconds = max(until_ns - now_ns, 0) / 1e9
    return seconds if clock is monotonic_ns else min(seconds, LOOK_S)


def checked_lease_ns(duration: Duration) -> int:
    """A length of a lease that can be renewed, in nanoseconds.

    Raises:
        UsageError: it is too short, or no duration.
    """
    lease_ns = duration_ns(duration, "lease")
    if lease_ns < 1_000_000:
        raise UsageError(
            f"lease={duration!r} is {lease_ns} ns: it has to last a millisecond at least; say timedelta(...)"
        )
    return lease_ns


def waits(lease_ns: int, wait: Duration) -> Iterator[int]:
    """For how many nanoseconds each of several claims has to wait, so that all of them wait for `wait`."""
    left_ns, most_ns = duration_ns(wait, "wait"), lease_ns // WAIT_AT_MOST
    yield min(left_ns, most_ns)
    while (left_ns := left_ns - most_ns) > 0:
        yield min(left_ns, most_ns)


def refused(term: Term, error: TaskStoreError) -> None:
    """What a commit that failed means for the lease."""
    if isinstance(error, TaskResponseError) and is_culprit(term.task, error):
        term.lose("the store refused its commit, for somebody else has the task")
    elif error.applied is False:
        term.not_ended()
    else:
        term.ended()


def settle_renewal(term: Term, task: TaskInfo, error: TaskStoreError | None, now_ns: int) -> None:
    """What has come of a renewal: the task, or an error."""
    if error is None:
        term.renewed(task)
    elif isinstance(error, TaskResponseError):
        term.lose("the store refused its renewal, for somebody else has the task")
    else:
        _log.warning("task %d was not renewed, and will be again: %s", term.task.id, error)
        term.not_renewed(now_ns)
