"""What can be done with a claimed task when: each event in each phase, and the arithmetic of deadlines."""

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from taskstore import LeaseLostError, NotSentError, OutcomeUnknownError, TaskInfo, TaskResponseError, UsageError
from taskstore.term import Phase, Term, checked_lease_ns, pause_s, refused, settle_renewal, try_ns, waits

SECOND = 10**9
LEASE = 30 * SECOND
TASK = TaskInfo("g", "data", 1, id=7)
NEW = TaskInfo("g", "data", 1, id=8)
SENT = 1000 * SECOND
DUE = SENT + 10 * SECOND
DEADLINE = SENT + 29_700_000_000
HELD, RENEWING, ENDING, ENDED, LOST = Phase


def term(phase: Phase = HELD) -> Term:
    new = Term(TASK, LEASE, SENT)
    if phase is RENEWING:
        assert new.renew(DUE)
    elif phase in (ENDING, ENDED):
        assert new.end(SENT)
    if phase is ENDED:
        new.ended()
    elif phase is LOST:
        new.lose("because")
    assert new.phase is phase
    return new


EVENTS: dict[str, Callable[[Term], object]] = {
    "renew, too early": lambda term: term.renew(DUE - 1),
    "renew": lambda term: term.renew(DUE),
    "renew, too late": lambda term: term.renew(DEADLINE),
    "renewed": lambda term: term.renewed(NEW),
    "not renewed": lambda term: term.not_renewed(DUE),
    "expire, too early": lambda term: term.expire(DEADLINE - 1),
    "expire": lambda term: term.expire(DEADLINE),
    "lose": lambda term: term.lose("because"),
    "end": lambda term: term.end(DUE),
    "end, too late": lambda term: term.end(DEADLINE),
    "ended": lambda term: term.ended(),
    "not ended": lambda term: term.not_ended(),
}
TABLE: dict[str, tuple[Phase | type[Exception], ...]] = {
    # event:             HELD      RENEWING  ENDING    ENDED     LOST
    "renew, too early": (HELD,     RENEWING, ENDING,   ENDED,    LOST),
    "renew":            (RENEWING, RENEWING, ENDING,   ENDED,    LOST),
    "renew, too late":  (HELD,     RENEWING, ENDING,   ENDED,    LOST),
    "renewed":          (HELD,     HELD,     ENDING,   ENDED,    LOST),
    "not renewed":      (HELD,     HELD,     ENDING,   ENDED,    LOST),
    "expire, too early":(HELD,     RENEWING, ENDING,   ENDED,    LOST),
    "expire":           (LOST,     LOST,     ENDING,   ENDED,    LOST),
    "lose":             (LOST,     LOST,     LOST,     ENDED,    LOST),
    "end":              (ENDING,   RENEWING, UsageError, UsageError, LeaseLostError),
    "end, too late":    (LeaseLostError, LeaseLostError, UsageError, UsageError, LeaseLostError),
    "ended":            (HELD,     RENEWING, ENDED,    ENDED,    LOST),
    "not ended":        (HELD,     RENEWING, HELD,     ENDED,    LOST),
}  # fmt: skip


@pytest.mark.parametrize(("event", "before"), list(itertools.product(TABLE, Phase)), ids=str)
def test_each_event_in_each_phase(event: str, before: Phase) -> None:
    after = TABLE[event][list(Phase).index(before)]
    tried = term(before)
    if isinstance(after, Phase):
        EVENTS[event](tried)
        assert tried.phase is after
    else:
        with pytest.raises(after):
            EVENTS[event](tried)
        assert tried.phase is (LOST if after is LeaseLostError else before)


def test_only_a_renewal_brings_another_task_and_it_counts_from_when_it_was_sent() -> None:
    tried = term()
    assert (tried.due_ns, tried.deadline_ns) == (DUE, DEADLINE)
    change = tried.renew(DUE + 1)
    assert change == TASK.replace(available_in=LEASE)
    tried.renewed(NEW)
    assert (tried.task, tried.sent_ns) == (NEW, DUE + 1)
    assert (tried.due_ns, tried.deadline_ns) == (DUE + 1 + 10 * SECOND, DUE + 1 + 29_700_000_000)
    tried.renewed(TASK)
    assert tried.task == NEW


def test_a_renewal_of_unknown_outcome_is_tried_again_soon_and_does_not_move_the_deadline() -> None:
    tried = term(RENEWING)
    tried.not_renewed(DUE + SECOND)
    assert (tried.due_ns, tried.deadline_ns) == (DUE + SECOND + 2_500_000_000, DEADLINE)
    assert tried.renew(tried.due_ns - 1) is None
    assert tried.renew(tried.due_ns)
    tried.not_renewed(DUE, again_ns=0)
    assert tried.renew(DUE)


def test_a_lost_lease_says_which_and_why() -> None:
    tried = term(LOST)
    with pytest.raises(LeaseLostError, match="task 7 is no longer ours: because") as lost:
        tried.check(SENT)
    assert (lost.value.task_id, lost.value.why, lost.value.applied) == (7, "because", False)
    with pytest.raises(LeaseLostError, match="ran out"):
        term().check(DEADLINE)
    term(ENDING).check(DEADLINE)  # The store decides now.


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (TaskResponseError(deletes=[7]), LOST),
        (TaskResponseError(owned=[7]), LOST),
        (TaskResponseError(depends=[9], deletes=[6]), HELD),
        (NotSentError(), HELD),
        (OutcomeUnknownError(), ENDED),
    ],
    ids=repr,
)
def test_what_a_failed_commit_means(error: TaskResponseError, after: Phase) -> None:
    tried = term(ENDING)
    refused(tried, error)
    assert tried.phase is after


@pytest.mark.parametrize(
    ("error", "after"),
    [(None, HELD), (TaskResponseError(changes=[7]), LOST), (NotSentError(), HELD), (OutcomeUnknownError(), HELD)],
    ids=repr,
)
def test_what_has_come_of_a_renewal(error: TaskResponseError | None, after: Phase) -> None:
    tried = term(RENEWING)
    settle_renewal(tried, NEW, error, DUE)
    assert tried.phase is after
    assert tried.task == (NEW if error is None else TASK)


def test_a_call_is_repeated_until_the_deadline() -> None:
    assert term().retry_ns(DEADLINE - 5 * SECOND) == 5 * SECOND
    assert term().retry_ns(DEADLINE + 5 * SECOND) == 1_000_000
    assert Term(TASK, 3600 * SECOND, 0).retry_ns(0) == 60 * SECOND
    assert (try_ns(30 * SECOND), try_ns(SECOND // 10)) == (5 * SECOND, SECOND // 20)


def test_a_long_wait_is_made_of_claims_that_leave_most_of_the_lease() -> None:
    assert list(waits(30 * SECOND, 0)) == [0]
    assert list(waits(30 * SECOND, timedelta(seconds=5))) == [5 * SECOND]
    assert list(waits(30 * SECOND, timedelta(seconds=20))) == [7_500_000_000, 7_500_000_000, 5 * SECOND]


def test_a_clock_that_is_set_is_looked_at_often() -> None:
    assert pause_s(9 * SECOND, 0, lambda: 0) < 0.1
    assert pause_s(0, SECOND, lambda: 0) == 0


@pytest.mark.parametrize("lease", [0, 30, -SECOND, timedelta(microseconds=999), 30.0], ids=repr)
def test_a_lease_that_cannot_be_kept_is_refused(lease: int) -> None:
    with pytest.raises(UsageError, match="lease"):
        checked_lease_ns(lease)
