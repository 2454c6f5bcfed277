"""The judge of histories, on histories of a few calls: each promise, broken and kept, and what is unknown, either way.

That it also sees what happens in a store, and not only what is written down here, is shown by server/test_planted.py.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from trials.history import Answer, Call, Listing, Promise, Read, Request, Silence
from trials.judge import violations
from trials.order import Order

from taskstore.server.messages import Claim, Outcome, Refusal, Step, StepOutcome, Task, TaskAdd, TaskUpdate, Update

NOW = 1000
A, B = 1, 2


class Story:
    """A history that is told call by call, each of which returns before the next one is invoked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def told(self, request: Request, answer: Answer, *, during: tuple[int, int | None] | None = None) -> Call:
        """A call and its answer; `during` puts it elsewhere than behind all others."""
        begin, end = during or (10 * len(self.calls), 10 * len(self.calls) + 5)
        self.calls.append(Call(f"client {len(self.calls)}", request, begin, end, answer))
        return self.calls[-1]

    def add(self, id: int, data: str = "x", *, owner: int = A, now: int = NOW, delay: int = 0) -> Task:
        task = Task(id, "g", data, now + delay, owner)
        self.told(Update(owner, [TaskAdd("g", data, -delay)]), Outcome([task]))
        return task

    def claim(self, task: Task, id: int, *, owner: int = A, now: int = NOW, duration: int = 50) -> Task:
        leased = Task(id, task.group, task.data, now + duration, owner, task.attempts + 1)
        self.told(Claim(owner, "g", duration), Outcome([leased]))
        return leased

    def delete(self, task: Task, *, owner: int = A, **options: Any) -> Call:
        return self.told(Update(owner, deletes=[task.id]), Outcome(), **options)

    def refuse(self, request: Update | Claim, **culprits: Any) -> Call:
        return self.told(request, Outcome(error=Refusal(**culprits)))

    def broken(self, final: Sequence[Task] | None = None) -> set[Promise]:
        return {violation.promise for violation in violations(self.calls, final)}


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_history_that_keeps_every_promise(story: Story) -> None:
    x = story.add(1, "x", delay=5)
    story.refuse(Claim(A, "g", 50, depends=[7]), depends=[7])
    story.told(Claim(A, "g", 50), Outcome())
    x = story.claim(x, 2, now=NOW + 5)
    story.refuse(Update(B, deletes=[2, 1]), owned=[2], deletes=[1])
    y = Task(3, "g", "y", NOW + 9, A, attempts=1)
    z = Task(4, "g", "z", NOW + 6, A)
    story.told(Update(A, [], [TaskUpdate(2, "y", -3)], [], [2]), Outcome([y]))
    story.told(Update(A, [TaskAdd("g", "z")]), Outcome([z]))
    story.told(Read((3, 2, 4)), [y, None, z])
    story.told(Listing("g"), [z, y])
    assert violations(story.calls, [y, z]) == []


# Each id is made once and consumed once


def test_an_id_that_is_made_twice(story: Story) -> None:
    story.add(1, "x")
    story.add(1, "y")
    assert Promise.ONCE in story.broken()


def test_a_task_that_is_consumed_twice(story: Story) -> None:
    x = story.add(1)
    story.delete(x)
    story.delete(x)
    assert Promise.ONCE in story.broken([])


def test_a_task_that_was_leased_and_is_deleted_under_its_old_id(story: Story) -> None:
    x = story.add(1)
    leased = story.claim(x, 2)
    story.delete(x)
    assert Promise.ONCE in story.broken([leased])


def test_a_request_that_was_carried_out_twice(story: Story) -> None:
    story.add(1, "x")
    assert Promise.NOWHERE in story.broken([Task(1, "g", "x", NOW, A), Task(2, "g", "x", NOW, A)])


def test_what_is_under_an_id_never_changes(story: Story) -> None:
    x = story.add(1, "x")
    story.add(2, "y")
    assert story.broken([x, Task(2, "g", "y", NOW + 1, A)]) == {Promise.SAME}


# Nothing is lost, and nothing comes from nowhere


def test_a_task_that_was_acknowledged_and_is_gone(story: Story) -> None:
    story.add(1)
    assert story.broken([]) == {Promise.LOST}


def test_a_task_that_was_deleted_and_is_there(story: Story) -> None:
    x = story.add(1)
    story.delete(x)
    assert story.broken([x]) == {Promise.ORDER}


def test_a_task_that_nobody_has_added(story: Story) -> None:
    assert Promise.NOWHERE in story.broken([Task(1, "g", "x", NOW, A)])


def test_a_deletion_of_what_never_was(story: Story) -> None:
    story.told(Update(A, deletes=[7]), Outcome())
    assert story.broken() == {Promise.NOWHERE}


def test_a_dependency_on_what_never_was(story: Story) -> None:
    story.told(Claim(A, "g", 1, depends=[7]), Outcome())
    assert story.broken() == {Promise.NOWHERE}


@pytest.mark.parametrize("answer", [Outcome(error=Refusal(depends=[7])), Silence.NOTHING])
def test_a_trace_of_a_request_that_changed_nothing(story: Story, answer: Answer) -> None:
    story.told(Update(A, [TaskAdd("g", "x")], depends=[7]), answer)
    assert Promise.TRACE in story.broken([Task(1, "g", "x", NOW, A)])


# What is unknown may have been carried out or not, and if it was, all of it


def unknown_addition(story: Story) -> None:
    story.told(Update(A, [TaskAdd("g", "x"), TaskAdd("g", "y")]), Silence.UNKNOWN)


X, Y = Task(2, "g", "x", NOW, A), Task(3, "g", "y", NOW, A)


@pytest.mark.parametrize(("final", "broken"), [([], set()), ([X, Y], set()), ([X], {Promise.HALF})])
def test_additions_without_an_answer(story: Story, final: list[Task], broken: set[Promise]) -> None:
    unknown_addition(story)
    assert story.broken(final) == broken


@pytest.mark.parametrize(
    ("final", "broken"),
    [
        ([Task(1, "g", "old", NOW, A)], set()),
        ([X], set()),
        ([], {Promise.HALF}),
        ([Task(1, "g", "old", NOW, A), X], {Promise.ORDER}),
    ],
)
def test_a_replacement_without_an_answer(story: Story, final: list[Task], broken: set[Promise]) -> None:
    old = story.add(1, "old")
    story.told(Update(A, [TaskAdd("g", "x")], deletes=[old.id]), Silence.UNKNOWN)
    assert story.broken(final) == broken


def test_what_was_not_carried_out_by_its_end_is_not_carried_out_later(story: Story) -> None:
    unknown_addition(story)
    story.told(Listing(None), [])
    assert Promise.NOWHERE in story.broken([X, Y])
    story.calls[0].returned = None
    assert story.broken([X, Y]) == set()


def test_a_claim_without_an_answer(story: Story) -> None:
    x = story.add(1)
    story.told(Claim(B, "g", 50), Silence.UNKNOWN)
    assert story.broken([x]) == set()
    assert story.broken([Task(2, "g", "x", NOW + 50, B, 1)]) == set()
    assert Promise.NOWHERE in story.broken([Task(2, "g", "x", NOW + 50, A, 1)])


def test_a_guess_may_consume_what_nobody_has_seen(story: Story) -> None:
    story.add(1)
    story.told(Claim(B, "g", 0), Silence.UNKNOWN, during=(10, 100))
    story.told(Update(A, deletes=[2]), Outcome(), during=(20, 90))
    assert story.broken([]) == set()
    del story.calls[1]
    assert Promise.LOST in story.broken([])


class TestOneOfTwoClaimsWithoutAnAnswer:
    """Where either may have leased a task, nothing follows for the one that was asked first, nor for the other."""

    LEASED = Task(3, "g", "x", NOW + 50, B, 1)

    @pytest.fixture
    def story(self, story: Story) -> Story:
        story.add(1, "x")
        return story

    def test_that_was_one_half_of_a_step(self, story: Story) -> None:
        y = story.add(2, "y")
        story.told(Step(Update(B, deletes=[2]), Claim(B, "g", 0)), Silence.UNKNOWN, during=(100, 200))
        assert Promise.ORDER in story.broken([y, self.LEASED])
        story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(110, 200))
        assert story.broken([y, self.LEASED]) == set()

    def test_that_depended_on_what_was_gone(self, story: Story) -> None:
        story.delete(story.add(2, "y"))
        story.told(Claim(B, "g", 50, [2]), Silence.UNKNOWN, during=(100, 200))
        assert Promise.ORDER in story.broken([self.LEASED])
        story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(110, 200))
        assert story.broken([self.LEASED]) == set()

    def test_that_may_have_leased_another_task_as_well(self, story: Story) -> None:
        story.told(Update(A, [TaskAdd("h", "y")]), Outcome([Task(2, "h", "y", NOW, A)]))
        story.told(Claim(B, groups=["g", "h"], duration=50), Silence.UNKNOWN, during=(100, 200))
        other = Task(4, "h", "y", NOW + 50, B, 1)
        assert Promise.NOWHERE in story.broken([self.LEASED, other])
        story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(110, 200))
        assert story.broken([self.LEASED, other]) == set()

    def test_that_may_have_leased_it_from_the_other(self, story: Story) -> None:
        story.told(Claim(B, "g", 0, limit=2), Silence.UNKNOWN, during=(100, 200))
        story.told(Listing("g"), [Task(2, "g", "x", NOW, B, 1)], during=(120, 130))
        again = Task(3, "g", "x", NOW + 50, B, 2)
        assert Promise.NOWHERE in story.broken([again])
        story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(110, 200))
        assert story.broken([again]) == set()

    @pytest.mark.parametrize(("in_g", "in_h", "broken"), [(2, 1, False), (1, 2, False), (3, 0, True), (2, 2, True)])
    def test_that_leased_more_than_they_asked_for(self, story: Story, in_g: int, in_h: int, broken: bool) -> None:
        """One asks for a task of either group, and one for a task of each."""
        groups = ["g"] * in_g + ["h"] * in_h
        added = [Task(10 + n, group, str(n), NOW, A) for n, group in enumerate(groups)]
        story.told(Update(A, [TaskAdd(task.group, task.data) for task in added]), Outcome(added))
        for at, names in enumerate((["g", "h"], ["g"], ["h"])):
            story.told(Claim(B, groups=names, duration=50), Silence.UNKNOWN, during=(100 + at, 200))
        leased = [Task(task.id + 10, task.group, task.data, NOW + 50, B, 1) for task in added]
        found = story.broken([*leased, Task(1, "g", "x", NOW, A)])
        assert found == ({Promise.NOWHERE} if broken else set())

    def test_that_has_ended_when_the_task_is_missed(self, story: Story) -> None:
        for at in (100, 110):
            story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(at, 200))
        assert story.broken([]) == {Promise.LOST}

    def test_that_took_it_before_it_was_available(self, story: Story) -> None:
        """Which is seen by what the clock said later."""
        story.claim(Task(1, "g", "x", NOW, A), 2, duration=5000)
        for at in (100, 110):
            story.told(Claim(B, "g", 50), Silence.UNKNOWN, during=(at, 200))
        y = Task(4, "g", "y", NOW + 1000, A)
        story.told(Update(A, [TaskAdd("g", "y")]), Outcome([y]), during=(300, 310))
        assert story.broken([Task(3, "g", "x", NOW + 50, B, 2), y]) == {Promise.OWNED}


# Leases and ownership, to the nanosecond


@pytest.mark.parametrize(("now", "broken"), [(NOW + 49, {Promise.OWNED}), (NOW + 50, set())])
def test_a_second_lease(story: Story, now: int, broken: set[Promise]) -> None:
    first = story.claim(story.add(1), 2, duration=50)
    assert story.broken([story.claim(first, 3, owner=B, now=now)]) == broken


@pytest.mark.parametrize(("now", "broken"), [(NOW + 49, {Promise.OWNERSHIP}), (NOW + 50, set())])
def test_a_change_by_another(story: Story, now: int, broken: set[Promise]) -> None:
    leased = story.claim(story.add(1), 2, duration=50)
    story.delete(leased, owner=B)
    assert story.broken([story.add(3, "later", now=now)]) == broken


@pytest.mark.parametrize(("now", "broken"), [(NOW + 49, set()), (NOW + 50, {Promise.REFUSED})])
def test_a_refusal_because_of_a_lease(story: Story, now: int, broken: set[Promise]) -> None:
    leased = story.claim(story.add(1), 2, duration=50)
    other = story.add(3, "other", now=now)
    story.refuse(Update(B, deletes=[leased.id]), owned=[leased.id])
    assert story.broken([leased, other]) == broken


@pytest.mark.parametrize(("delay", "broken"), [(10, {Promise.FOUND}), (11, set())])
def test_a_claim_that_finds_nothing(story: Story, delay: int, broken: set[Promise]) -> None:
    x = story.add(1, "x", delay=delay)
    later = story.add(2, "y", now=NOW + 10, delay=99)
    story.told(Claim(A, "g", 50), Outcome())
    assert story.broken([x, later]) == broken


def test_a_claim_of_several_that_gets_fewer(story: Story) -> None:
    x, y = story.add(1, "x"), story.add(2, "y")
    leased = Task(3, "g", "x", NOW + 5, A, 1)
    story.told(Claim(A, "g", 5, limit=2), Outcome([leased]))
    assert x.data == leased.data
    assert story.broken([y, leased]) == {Promise.FOUND}


def test_an_attempt_that_is_not_counted(story: Story) -> None:
    x = story.add(1)
    story.told(Claim(A, "g", 5), Outcome([Task(2, "g", "x", NOW + 5, A, 2)]))
    assert Promise.FITS in story.broken()
    assert x.attempts == 0


def test_time_that_goes_back(story: Story) -> None:
    tasks = [story.add(1, "x", now=NOW), story.add(2, "y", now=NOW - 1)]
    assert story.broken(tasks) == {Promise.CLOCK}


# Refusals


@pytest.mark.parametrize(
    ("culprits", "broken"),
    [
        ({"deletes": [8, 9]}, set()),
        ({"deletes": [8]}, {Promise.NOWHERE}),
        ({"deletes": [8, 9, 1]}, {Promise.LOST}),
        ({"deletes": [8, 9], "depends": [8]}, {Promise.REFUSED}),
        ({"deletes": [8, 9], "bugs": ["?"]}, {Promise.REFUSED}),
    ],
)
def test_a_refusal_names_every_culprit_and_no_other(
    story: Story, culprits: dict[str, Any], broken: set[Promise]
) -> None:
    x = story.add(1)
    story.refuse(Update(A, deletes=[x.id, 8, 9]), **culprits)
    assert story.broken([x] if Promise.LOST not in broken else None) == broken


def test_a_contradiction_that_is_carried_out(story: Story) -> None:
    x = story.add(1)
    made = [Task(2, "g", "y", NOW, A), Task(3, "g", "z", NOW, A)]
    story.told(Update(A, updates=[TaskUpdate(x.id, "y"), TaskUpdate(x.id, "z")]), Outcome(made))
    assert story.broken(made) == {Promise.FITS}


# Answers and ids


@pytest.mark.parametrize(
    "wrong",
    [
        Task(1, "other", "x", NOW, A),
        Task(1, "g", "x", NOW, B),
        Task(1, "g", "x", NOW, A, 1),
        Task(1, "g", "x", NOW + 7, A),
    ],
    ids=["group", "owner", "attempts", "instant"],
)
def test_an_answer_that_does_not_fit(story: Story, wrong: Task) -> None:
    story.told(Update(A, [TaskAdd("g", "x", NOW + 9 if wrong.available > NOW else 0)]), Outcome([wrong]))
    assert story.broken([wrong]) == {Promise.FITS}


def test_ids_that_do_not_grow(story: Story) -> None:
    assert story.broken([story.add(2, "x"), story.add(1, "y")]) == {Promise.GROW}


def test_ids_of_overlapping_calls_need_not_grow(story: Story) -> None:
    tasks = [story.add(2, "x"), story.add(1, "y")]
    story.calls[0].returned = 15
    assert story.broken(tasks) == set()


def test_a_step_does_both_or_nothing(story: Story) -> None:
    x, y = story.add(1, "x"), story.add(2, "y")
    leased, z = Task(4, "g", "y", NOW + 5, A, 1), Task(3, "g", "z", NOW, A)
    step = Step(Update(A, [TaskAdd("g", "z")], deletes=[x.id]), Claim(A, "g", 5))
    story.told(step, StepOutcome([leased], [z]))
    assert y.id == 2
    assert story.broken([z, leased]) == set()
    assert Promise.ORDER in story.broken([x, z, leased])


# One order of all calls


def test_a_read_that_is_older_than_what_was_answered(story: Story) -> None:
    x = story.add(1)
    story.told(Read((1,)), [x])
    story.delete(x)
    story.told(Read((1,)), [x])
    assert story.broken([]) == {Promise.ORDER}


def test_two_that_each_deleted_what_the_other_depended_on(story: Story) -> None:
    x, y = story.add(1, "x"), story.add(2, "y")
    story.told(Update(A, deletes=[x.id], depends=[y.id]), Outcome(), during=(100, 200))
    story.told(Update(A, deletes=[y.id], depends=[x.id]), Outcome(), during=(100, 200))
    assert story.broken([]) == {Promise.ORDER}


def test_overlapping_calls_may_have_come_in_any_one_order(story: Story) -> None:
    x = story.add(1)
    story.delete(x, during=(100, 200))
    story.told(Read((1,)), [x], during=(110, 120))
    assert story.broken([]) == set()
    story.told(Read((1,)), [None], during=(130, 140))
    story.told(Read((1,)), [x], during=(150, 160))
    assert story.broken([]) == {Promise.ORDER}


def test_an_explanation_names_the_calls_and_why_they_contradict_each_other(story: Story) -> None:
    x = story.add(1)
    story.delete(x)
    story.told(Read((1,)), [x])
    [violation] = violations(story.calls)
    assert str(violation).splitlines() == [
        "there is one order of all calls: #1 returned before #2; #2 found 1, which was consumed by #1",
        "    #1 client 1, 10 to 15: update as 1, deletes 1 -> done",
        "    #2 client 2, 20 to 25: read 1 -> 1 (x in g, owner 1, available 1000)",
    ]


def test_a_load_that_uses_the_same_data_twice_is_no_use(story: Story) -> None:
    story.add(1, "x")
    story.add(2, "x")
    with pytest.raises(ValueError, match="data of its own"):
        story.broken()


# The order itself


def arrows(order: Order) -> list[tuple[int, int]]:
    return [(step.before, step.after) for step in order.circle()]


def test_no_circle_is_found_where_there_is_none() -> None:
    order = Order([(0, 10), (5, 15), (20, 30), (21, None)])
    order.add(1, 0, "")
    order.add(3, 2, "")
    assert arrows(order) == []


def test_the_shortest_circle_is_found_through_real_time_and_what_was_said() -> None:
    order = Order([(0, 1), (2, 3), (4, 5), (6, 7), (100, 101)])
    order.add(2, 0, "reads")
    order.add(3, 0, "reads")
    order.add(3, 4, "reads")
    circle = order.circle()
    assert len(circle) == 2
    assert circle[0].before == 0
    assert {step.why for step in circle} == {"reads", ""}


def test_calls_that_touch_overlap() -> None:
    order = Order([(0, 5), (5, 9)])
    order.add(1, 0, "reads")
    assert arrows(order) == []
