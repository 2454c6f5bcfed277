"""The desk: what is claimed, settled together, renewed, given back and dropped, without a store and without a clock."""

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from taskstore import Done, Move, Outcome, Quarantine, Release, Retry, TaskInfo, TaskResponseError
from taskstore.term import Phase
from taskstore.worker.desk import SETTLED_TOGETHER, Desk, Settlement, Work
from taskstore.worker.outcomes import Policy

SECOND = 10**9
MS = 10**6
LEASE = 30 * SECOND
OUTCOMES: list[Outcome] = [Done(), Retry(0), Release(), Done(depends=[1]), Quarantine("q")]
POLICY = Policy(max_attempts=3, random=lambda: 1.0, when=lambda: "today")


def new(concurrency: int = 1, batch: int = 1000) -> Desk:
    return Desk(concurrency=concurrency, lease_ns=LEASE, batch=batch, policy=POLICY)


def tasks(number: int, first: int = 1, *, data: str = "", attempts: int = 1) -> list[TaskInfo]:
    return [TaskInfo("g", data, 1, id=id, attempts=attempts) for id in range(first, first + number)]


def claim(desk: Desk, claimed: Sequence[TaskInfo], *, limit: int | None = None, now_ns: int = 0) -> None:
    limit = len(claimed) if limit is None else limit
    desk.claim(limit)
    desk.claimed(claimed, limit, sent_ns=now_ns, now_ns=now_ns)


def take(desk: Desk, now_ns: int = 0) -> Work:
    work = desk.take(now_ns)
    assert work is not None
    return work


def settle(desk: Desk, now_ns: int = 0) -> Settlement:
    settlement = desk.settle(now_ns)
    assert settlement is not None
    return settlement


def finished(outcomes: Sequence[Outcome]) -> Desk:
    """A desk with so many tasks whose handlers have ended; their ids count from 1."""
    desk = new(concurrency=max(1, len(outcomes)))
    claim(desk, tasks(len(outcomes)))
    for outcome in outcomes:
        desk.finish(take(desk), outcome, 0)
    return desk


def ids(settlement: Settlement) -> list[int]:
    return [work.task.id for work in settlement.works]


# Claims


def test_without_a_measure_no_more_is_claimed_than_can_be_begun() -> None:
    desk = new(concurrency=3)
    assert desk.room(0) == 3
    desk.claim(2)
    assert desk.room(0) == 1
    desk.claimed(tasks(1), 2, sent_ns=0, now_ns=0)
    assert (desk.room(0), desk.is_dry) == (2, True)
    take(desk)
    assert desk.room(0) == 2
    desk.claim(2)
    desk.not_claimed(2)
    assert (desk.room(0), desk.is_dry) == (2, True)


@pytest.mark.parametrize(
    ("took_ns", "most"), [(1_000, 64), (MS, 64), (10 * MS, 10), (100 * MS, 1), (10 * SECOND, 1)], ids=str
)
def test_quick_tasks_are_claimed_ahead_for_a_tenth_of_a_second_and_slow_ones_are_not(took_ns: int, most: int) -> None:
    desk = new()
    for number in (1, 2, 4, 8, 16, 32):  # Twice as many each time, at most.
        claim(desk, tasks(number))
        for _ in range(number):
            desk.finish(take(desk), Done(), took_ns)
            desk.settled(settle(desk))
    assert desk.room(0) == most


def test_one_slow_task_ends_claiming_ahead_while_it_still_runs() -> None:
    desk = new(concurrency=2)
    for number in (2, 4, 8):
        claim(desk, tasks(number))
        for _ in range(number):
            desk.finish(take(desk), Done(), 1)
            desk.settled(settle(desk))
    assert desk.room(0) > 2
    claim(desk, tasks(1))
    take(desk)
    assert desk.room(50 * MS) > 2
    assert desk.room(101 * MS) == 1


def test_large_tasks_are_not_claimed_ahead_by_the_hundred() -> None:
    desk = new()
    for number in (1, 2, 4, 8, 16, 32):
        claim(desk, tasks(number, data="x" * 500_000))
        for _ in range(number):
            desk.finish(take(desk), Done(), 1)
            desk.settled(settle(desk))
    assert desk.room(0) == 3


def test_a_batch_of_one_claims_nothing_ahead() -> None:
    desk = new(batch=1)
    for _ in range(9):
        claim(desk, tasks(1))
        desk.finish(take(desk), Done(), 1)
        desk.settled(settle(desk))
    assert desk.room(0) == 1


def test_a_task_whose_workers_die_of_it_is_put_aside_without_another_try() -> None:
    desk = new()
    claim(desk, tasks(1, attempts=4))
    assert desk.take(0) is None
    [aside] = settle(desk).change.adds
    assert aside.group == "g/quarantine"
    assert "claimed 3 times, and never heard of again" in aside.data


# Handlers


def test_no_more_handlers_run_than_are_allowed() -> None:
    desk = new(concurrency=2)
    claim(desk, tasks(3))
    first = take(desk)
    take(desk)
    assert desk.take(0) is None
    desk.finish(first, Done(), 0)
    assert take(desk).task.id == 3


def test_what_has_run_out_before_it_began_is_dropped() -> None:
    desk = new()
    claim(desk, tasks(2))
    assert desk.take(LEASE) is None
    assert desk.progress.lost == 2
    assert desk.is_empty


def test_what_a_handler_returns_after_its_lease_is_dropped() -> None:
    desk = new()
    claim(desk, tasks(1))
    work = take(desk)
    assert desk.care(LEASE).lost == [work]
    assert desk.progress.lost == 1
    desk.finish(work, Done(), LEASE)
    assert desk.settle(LEASE) is None
    assert desk.is_empty


def test_what_runs_out_while_it_waits_to_be_settled_is_dropped() -> None:
    desk = finished([Done(), Done()])
    assert desk.settle(LEASE) is None
    assert (desk.progress.lost, desk.progress.done) == (2, 0)


# Settling


def test_outcomes_are_settled_together_and_counted() -> None:
    outcomes: list[Outcome] = [Done([TaskInfo("next")]), Retry(0), Release(), Move("m"), Quarantine("q"), Done()]
    desk = finished(outcomes)
    settlement = settle(desk)
    assert len(settlement.works) == 6
    assert settlement.change.deletes == [1, 4, 5, 6]
    assert [task.id for task in settlement.change.updates] == [2, 3]
    assert [task.group for task in settlement.change.adds] == ["next", "m", "g/quarantine"]
    desk.settled(settlement)
    progress = desk.progress
    assert desk.is_empty
    assert (progress.done, progress.retried, progress.released, progress.moved, progress.quarantined) == (2, 1, 1, 1, 1)
    assert (progress.settled, progress.claimed, (progress + progress).done) == (6, 6, 4)


EXTRAS = [Done(deletes=[99]), Done(updates=[TaskInfo("x", id=99)]), Done(depends=[99])]


@pytest.mark.parametrize("first", EXTRAS, ids=repr)
@pytest.mark.parametrize("second", EXTRAS, ids=repr)
def test_outcomes_that_concern_the_same_task_are_settled_one_after_the_other(first: Done, second: Done) -> None:
    desk = finished([Done(), first, second, Done()])
    both_only_depend = first.depends == second.depends == (99,)
    assert ids(settle(desk)) == ([1, 2, 3, 4] if both_only_depend else [1, 2])
    if not both_only_depend:
        assert ids(settle(desk)) == [3, 4]


def test_an_outcome_that_concerns_the_task_of_another_one_waits_for_it() -> None:
    desk = finished([Done(), Done(depends=[1])])
    assert ids(settle(desk)) == [1]
    desk = finished([Done(depends=[2]), Done()])
    assert ids(settle(desk)) == [1]


def test_no_update_becomes_too_large() -> None:
    desk = finished([Done()] * (SETTLED_TOGETHER + 1))
    assert len(settle(desk).works) == SETTLED_TOGETHER
    desk = finished([Done([TaskInfo("n", "x" * 900_000)])] * 5)
    assert ids(settle(desk)) == [1, 2]
    desk = finished([Done([TaskInfo("n")] * 3_000)] * 2)
    assert ids(settle(desk)) == [1]
    desk = finished([Done([TaskInfo("n", "x" * 900_000)] * 9)])
    assert ids(settle(desk)) == [1]


def test_when_one_is_refused_the_others_are_settled_all_the_same() -> None:
    desk = finished([Done()] * 5)
    desk.refused(settle(desk), TaskResponseError(deletes=[2], owned=[4]))
    rest = []
    while settlement := desk.settle(0):
        rest.append(ids(settlement))
        if ids(settlement) in ([2], [4]):
            desk.refused(settlement, TaskResponseError(deletes=ids(settlement)))
        else:
            desk.settled(settlement)
    assert rest == [[1], [2], [3], [4], [5]]
    assert (desk.progress.done, desk.progress.lost) == (3, 2)
    assert desk.is_empty


def test_when_nobody_is_named_each_is_settled_alone() -> None:
    desk = finished([Done()] * 3)
    desk.refused(settle(desk), TaskResponseError(bugs=["contradiction"]))
    assert [ids(settle(desk)) for _ in range(3)] == [[1], [2], [3]]


def test_an_outcome_that_is_refused_for_another_reason_than_its_task_is_a_failure() -> None:
    desk = finished([Done(depends=[99])])
    desk.refused(settle(desk), TaskResponseError(depends=[99]))
    [again] = settle(desk).change.updates
    assert (again.id, again.timespec) == (1, -SECOND)


def test_a_failure_that_is_refused_is_dropped() -> None:
    desk = finished([Retry()])
    desk.refused(settle(desk), TaskResponseError(bugs=["whatever"]))
    assert desk.settle(0) is None
    assert (desk.progress.lost, desk.is_empty) == (1, True)


def test_what_the_store_cannot_take_is_found_and_put_aside_and_its_reason_left_away_if_that_is_too_much() -> None:
    desk = new(concurrency=2)
    claim(desk, tasks(2, attempts=3))
    desk.finish(take(desk), Done([TaskInfo("n", "too large")]), 0)
    desk.finish(take(desk), Done(), 0)
    desk.unacceptable(settle(desk), "413")
    first = settle(desk)
    assert ids(first) == [1]
    desk.unacceptable(first, "413")
    second = settle(desk)
    assert "does not take its outcome: 413" in second.change.adds[0].data
    desk.unacceptable(second, "413")
    third = settle(desk)
    assert third.change.adds == [TaskInfo("g/quarantine", "")]
    desk.unacceptable(third, "413")
    last = settle(desk)
    assert ids(last) == [2]
    desk.settled(last)
    assert (desk.progress.done, desk.progress.lost, desk.is_empty) == (1, 1, True)


def test_what_did_not_get_through_is_sent_again_in_the_same_order() -> None:
    desk = finished([Done(), Done(), Done()])
    desk.not_settled(settle(desk))
    assert ids(settle(desk)) == [1, 2, 3]


# Leases


def test_all_that_is_in_hand_is_renewed_at_a_third_together() -> None:
    desk = new(concurrency=2)
    claim(desk, tasks(3))
    first, second = take(desk), take(desk)
    desk.finish(first, Done(), 0)
    assert desk.care(0).renewals == []
    care = desk.care(10 * SECOND)
    # The third one has lain there for so long that it is given back instead.
    assert [work for work, _ in care.renewals] == [second, first, desk.finished[1]]
    assert desk.settle(10 * SECOND) is None, "its id is open"
    works = [work for work, _ in care.renewals]
    desk.renewed(works, tasks(3, first=11))
    assert [work.task.id for work in works] == [11, 12, 13]
    settlement = settle(desk, 10 * SECOND)
    assert settlement.change.deletes == [12, 13]
    assert [task.group for task in settlement.change.adds] == ["g"]


def test_a_refused_renewal_is_repeated_at_once_without_those_that_are_lost() -> None:
    desk = new(concurrency=2)
    claim(desk, tasks(2))
    first, second = take(desk), take(desk)
    works = [work for work, _ in desk.care(10 * SECOND).renewals]
    assert desk.renewal_refused(works, TaskResponseError(changes=[1]), 10 * SECOND) == [first]
    assert [work for work, _ in desk.care(10 * SECOND).renewals] == [second]
    assert (first.phase, desk.progress.lost) == (Phase.LOST, 1)
    desk.not_renewed([second], 10 * SECOND)
    assert desk.care(12 * SECOND).renewals == []
    assert len(desk.care(13 * SECOND).renewals) == 1


def test_what_is_being_settled_is_not_renewed() -> None:
    desk = finished([Done()])
    settle(desk)
    assert desk.care(10 * SECOND).renewals == []


def test_what_lies_there_for_too_long_is_given_back_and_next_time_less_is_claimed() -> None:
    desk = new()
    for number in (1, 2, 4):
        claim(desk, tasks(number))
        for _ in range(number):
            desk.finish(take(desk), Done(), 1)
            desk.settled(settle(desk))
    assert desk.room(0) == 8
    claim(desk, tasks(3))
    take(desk)
    assert desk.care(0).next_ns == SECOND // 2
    desk.care(SECOND // 2)
    settlement = settle(desk)
    assert settlement.change.deletes == [2, 3]
    assert settlement.change.adds == [TaskInfo("g"), TaskInfo("g")]
    desk.settled(settlement)
    assert (desk.progress.released, desk.room(0)) == (2, 0)


def test_large_tasks_are_renewed_in_several_updates() -> None:
    desk = new(concurrency=5)
    claim(desk, tasks(5, data="x" * 900_000))
    for _ in range(5):
        take(desk)
    first = desk.care(10 * SECOND)
    assert (len(first.renewals), first.next_ns) == (3, 10 * SECOND)
    assert len(desk.care(10 * SECOND).renewals) == 2


# The end


def test_draining_gives_back_what_is_not_begun_and_claims_nothing_more() -> None:
    desk = new(concurrency=1)
    claim(desk, tasks(3))
    work = take(desk)
    desk.claim(1)
    desk.drain()
    assert desk.room(0) == 0
    desk.claimed(tasks(1, first=9), 1, sent_ns=0, now_ns=0)
    settlement = settle(desk)
    assert (settlement.change.deletes, len(settlement.change.adds)) == ([2, 3, 9], 3)
    desk.settled(settlement)
    desk.finish(work, Done(), 0)
    desk.settled(settle(desk))
    assert desk.is_empty


def test_what_is_abandoned_is_given_back_and_its_result_dropped() -> None:
    desk = new()
    claim(desk, tasks(1))
    work = take(desk)
    desk.drain()
    assert desk.abandon() == [work]
    settlement = settle(desk)
    assert [task.id for task in settlement.change.updates] == [1]
    desk.finish(work, Done(), 0)
    desk.settled(settlement)
    assert (desk.progress.released, desk.progress.done, desk.is_empty) == (1, 0, True)


# All together


class Machine(RuleBasedStateMachine):
    """A desk, and a store that knows ids only: each claimed task ends in exactly one way."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = new(concurrency=2, batch=50)
        self.store: set[int] = set()
        self.last = 0
        self.now = 0
        self.settled = 0
        self.running: list[Work] = []

    def fresh(self, number: int) -> list[TaskInfo]:
        new_tasks = tasks(number, first=self.last + 1)
        self.last += number
        self.store.update(task.id for task in new_tasks)
        return new_tasks

    @rule(by=st.sampled_from([MS, SECOND, 11 * SECOND]))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(share=st.floats(0, 1))
    def claim(self, share: float) -> None:
        if room := self.desk.room(self.now):
            claim(self.desk, self.fresh(round(room * share)), limit=room, now_ns=self.now)

    @rule()
    def take(self) -> None:
        if work := self.desk.take(self.now):
            self.running.append(work)
        assert len(self.running) <= 2

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def finish(self, outcome: Outcome) -> None:
        self.desk.finish(self.running.pop(0), outcome, self.now)

    @precondition(lambda self: self.store)
    @rule(data=st.data())
    def somebody_else_takes_one(self, data: st.DataObject) -> None:
        self.store.discard(data.draw(st.sampled_from(sorted(self.store))))

    @rule()
    def care(self) -> None:
        works = [work for work, _ in self.desk.care(self.now).renewals]
        if gone := [work.task.id for work in works if work.task.id not in self.store]:
            self.desk.renewal_refused(works, TaskResponseError(changes=gone), self.now)
        elif works:
            self.store.difference_update(work.task.id for work in works)
            self.desk.renewed(works, self.fresh(len(works)))

    @rule()
    def settle(self) -> None:
        if (settlement := self.desk.settle(self.now)) is None:
            return
        touched = set(settlement.change.touched)
        if gone := touched - self.store:
            self.desk.refused(settlement, TaskResponseError(deletes=sorted(gone)))
        else:
            self.store -= touched
            self.settled += len(settlement.works)
            self.desk.settled(settlement)

    def teardown(self) -> None:
        self.desk.drain()
        for work in self.running:
            self.desk.finish(work, Done(), self.now)
        while self.desk.finished:
            self.settle()
        progress = self.desk.progress
        assert self.desk.is_empty
        assert progress.settled == self.settled
        assert progress.settled + progress.lost == progress.claimed


TestMachine = Machine.TestCase
