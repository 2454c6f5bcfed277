"""Whether a call is made once more, when, and what is raised when it is not: decisions, of which none waits or sends.

The laws of this room: it does no I/O, reads no clock and draws no number that was not handed in; both colours of the
client follow the same plan; what may have been carried out is repeated only under the protection of a key that the
server is known to keep; and the error in the end says whether anything may have been changed in any of the attempts.
"""

from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import attrs

from taskstore.errors import HTTPError, NotSentError, OutcomeUnknownError, TaskResponseError, TaskStoreError
from taskstore.wire import Answer, Call

T = TypeVar("T")

REPEATED: Final = frozenset({429, 502, 503, 504})
"""The statuses that another attempt may mend: too many requests, and a server or gateway that is away for now."""
KEY_LASTS_S: Final = 600.0
"""For how long a key protects, in seconds. Servers keep it for 15 minutes; the rest is for requests that were long on
their way, and for clocks that differ."""


_FIRST_WINDOW_S: Final = 0.05
_WIDEST_WINDOW_S: Final = 5.0


def full_jitter_s(attempts: int) -> float:
    """How many seconds to wait after that many attempts: at random, from windows that double."""
    import tenacity  # only when something has gone wrong

    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempts
    return tenacity.wait_random_exponential(multiplier=_FIRST_WINDOW_S, max=_WIDEST_WINDOW_S)(state)


class Send(NamedTuple):
    """What a plan asks for: make this attempt. Its outcome is an answer, or the error that came in its place."""

    call: Call[Any]


class Pause(NamedTuple):
    """What a plan asks for: let this time pass. Its outcome is nothing."""

    seconds: float
    why: TaskStoreError
    """The error that led to it."""


class Tried(NamedTuple):
    """One attempt: when it began and ended, by a monotonic clock in seconds, and what came of it."""

    outcome: Answer | TaskStoreError
    began_s: float
    ended_s: float


Plan: TypeAlias = Generator[Send | Pause, Tried | None, T]
"""All that is done for one call. It is sent the outcome of each of its wishes, and returns the result of the call."""


@attrs.define
class Knowledge:
    """What a client has learned about its server, from one call to the next."""

    keeps_keys: bool | None = None
    """Whether the server knows what an Idempotency-Key is; None as long as it has not been seen."""

    def learn(self, call: Call[Any], answer: Answer) -> None:
        """Take note of what an answer tells."""
        if call.key is not None and answer.status == 200:
            self.keeps_keys = "idempotency-replayed" in answer.headers


@attrs.define
class _Story:
    """What has happened to one call so far."""

    call: Call[Any]
    budget_s: float
    attempts: int = 0
    began_s: float = 0.0
    _failed_s: float | None = None
    _risked_s: float | None = None
    """When the first attempt began that may have been carried out."""

    @property
    def needs_key(self) -> bool:
        """Whether an attempt may have been carried out, so that another one has to be protected by a key."""
        return self._risked_s is not None

    def is_safe(self, knowledge: Knowledge) -> bool:
        """Whether another attempt can certainly do no harm."""
        return not self.needs_key or (self.call.key is not None and knowledge.keeps_keys is True)

    def may_be_safe(self, knowledge: Knowledge) -> bool:
        """Whether another attempt can do no harm, as far as is known."""
        return not self.needs_key or (self.call.key is not None and knowledge.keeps_keys is not False)

    def failed(self, tried: Tried, error: TaskStoreError) -> None:
        """Take note of an attempt that came to nothing."""
        self.began_s = self.began_s if self.attempts else tried.began_s
        self.attempts += 1
        if self._failed_s is None:
            self._failed_s = tried.ended_s
        if error.applied is None and self._risked_s is None:
            self._risked_s = tried.began_s

    def pause_s(self, backoff_s: float, error: TaskStoreError, now_s: float) -> float | None:
        """For how long to wait before the next attempt; None if there must be none."""
        assert self._failed_s is not None
        left_s = self._failed_s + self.budget_s - now_s
        asked_s = _retry_after_s(error)
        pause_s = max(min(backoff_s, left_s), asked_s)
        if left_s <= 0 or asked_s > left_s:
            return None
        if self._risked_s is not None:
            # A lease that the first attempt may have got began no earlier than that attempt, and so may have ended.
            lasts_s = KEY_LASTS_S if self.call.lease_ns is None else min(KEY_LASTS_S, self.call.lease_ns / 1e9)
            if now_s + pause_s >= self._risked_s + lasts_s:
                return None
        return pause_s

    def told(self, error: TaskStoreError, now_s: float) -> TaskStoreError:
        """The error to be raised, which tells the whole story and not only the end of it."""
        if isinstance(error, TaskResponseError):
            # Ids do not come back, so what was refused for a missing one can never have been carried out. A lease that
            # was in the way does end, and an attempt that was given up may be late, and come after that.
            return _unknown(error) if self.needs_key and not _for_good(error) else error
        if self.needs_key and error.applied is False:
            error = _unknown(error)
        if self.attempts > 1:
            told = str(error)
            end = "" if told.endswith((".", "?")) else "."
            error.args = (f"{told}{end} Tried {self.attempts} times in {now_s - self.began_s:.1f} s.",)
        return error


@attrs.frozen
class Circumstances:
    """All that a plan needs beside the call."""

    budget_s: float
    """For how many seconds after its first failure a call may be repeated; 0 means never."""
    knowledge: Knowledge
    """What is known about the server, and is added to."""
    backoff_s: Callable[[int], float]
    """How many seconds to wait after that many attempts."""
    probe: Callable[[], Call[Any]]
    """Makes a call that changes nothing and has a key of its own."""


def planned(call: Call[T], first: Tried, given: Circumstances) -> Plan[T]:
    """What is to be done for a call after its first attempt, step by step, until it has a result or is given up.

    Raises:
        TaskStoreError: The call is refused, or given up.
    """
    story, tried = _Story(call, given.budget_s), first
    while True:
        try:
            return result(call, tried, given.knowledge)
        except TaskStoreError as error:
            story.failed(tried, error)
            if not _may_pass(error):
                final = story.told(error, tried.ended_s)
                if final is error:
                    raise
                raise final from error
            failure = error
        yield from _until_next(story, failure, tried.ended_s, given)
        outcome = yield Send(call)
        assert outcome is not None
        tried = outcome


def _until_next(story: _Story, failure: TaskStoreError, now_s: float, given: Circumstances) -> Plan[None]:
    """What comes between an attempt that failed and the next one; raises if there must not be a next one."""
    latest, pauses = failure, story.attempts
    while True:
        pause_s = None
        if story.may_be_safe(given.knowledge):
            pause_s = story.pause_s(given.backoff_s(pauses), latest, now_s)
        if pause_s is None:
            final = story.told(failure, now_s)
            raise final from (failure.__cause__ if final is failure else failure)
        yield Pause(pause_s, latest)
        if story.is_safe(given.knowledge):
            return
        # Nobody knows yet whether this server keeps keys, and if it does not, a repeat would do it twice. So ask.
        probe = given.probe()
        tried = yield Send(probe)
        assert tried is not None
        now_s, pauses = tried.ended_s, pauses + 1
        latest = _asked(probe, tried, given.knowledge) or latest
        if story.is_safe(given.knowledge):
            return


def _asked(call: Call[Any], tried: Tried, knowledge: Knowledge) -> TaskStoreError | None:
    """Learn from the answer to a probe; if there was none that tells, the error that came in its place."""
    try:
        result(call, tried, knowledge)
    except TaskStoreError as error:
        if _may_pass(error):
            return error
        if knowledge.keeps_keys is None:
            knowledge.keeps_keys = False
    return None


def result(call: Call[T], tried: Tried, knowledge: Knowledge) -> T:
    """What came of one attempt; and what its answer tells about the server is learned.

    Raises:
        TaskStoreError: It came to nothing.
    """
    if isinstance(tried.outcome, TaskStoreError):
        raise tried.outcome
    knowledge.learn(call, tried.outcome)
    return call.result(tried.outcome)


def _may_pass(error: TaskStoreError) -> bool:
    """Whether another attempt might fare better."""
    if isinstance(error, HTTPError):
        return error.status in REPEATED
    return isinstance(error, NotSentError | OutcomeUnknownError)


def _retry_after_s(error: TaskStoreError) -> float:
    if isinstance(error, HTTPError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    return 0.0


def _for_good(refusal: TaskResponseError) -> bool:
    return bool(refusal.changes or refusal.deletes or refusal.depends or refusal.bugs)


def _unknown(error: TaskStoreError) -> TaskStoreError:
    """The end of a call of which an earlier attempt may have been carried out, told as that."""
    if isinstance(error, HTTPError):
        error.applied = None
        return error
    message = f"{error} But an earlier attempt at this call was sent, and the store may have carried it out or not"
    return OutcomeUnknownError(message)
