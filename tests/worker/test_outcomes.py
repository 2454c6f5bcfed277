"""What a handler may return, and what each outcome means for the store."""

import json
from collections.abc import Callable

import pytest

from taskstore import Done, Move, Outcome, Quarantine, Release, Retry, TaskInfo, UsageError
from taskstore.worker.outcomes import Change, Policy, brought_back, change_of, given_back, outcome_of, requeue

SECOND = 10**9
POLICY = Policy(max_attempts=3, random=lambda: 1.0, when=lambda: "today")


def claimed(attempts: int = 1, data: str = "data") -> TaskInfo:
    return TaskInfo("g", data, 1, id=7, attempts=attempts)


FOLLOWING = TaskInfo("next", "1")
OTHER = TaskInfo("other", "", 1, id=9)
AS_NEW = Change(adds=[TaskInfo("g", "data")], deletes=[7])


@pytest.mark.parametrize(
    ("outcome", "attempts", "change"),
    [
        (Done(), 1, Change(deletes=[7])),
        (
            Done([FOLLOWING], updates=[OTHER], deletes=[8], depends=[OTHER, 10]),
            1,
            Change([FOLLOWING], [OTHER], [7, 8], [9, 10]),
        ),
        (Retry(5 * SECOND), 1, Change(updates=[claimed().replace(available_in=5 * SECOND)])),
        (Retry(-1, "new"), 1, Change(updates=[claimed().replace(data="new", available_in=0)])),
        (Retry(), 1, Change(updates=[claimed().replace(available_in=SECOND)])),
        (Retry(), 2, Change(updates=[claimed(2).replace(available_in=2 * SECOND)])),
        (Retry(), 3, Change(adds=[TaskInfo("g", "data", -4 * SECOND)], deletes=[7])),
        (Retry(0, "new"), 4, Change(adds=[TaskInfo("g", "new")], deletes=[7])),
        (Release(), 2, Change(updates=[claimed(2).replace(available_in=0)])),
        (Release(), 3, AS_NEW),
        (Move("elsewhere"), 2, Change(adds=[TaskInfo("elsewhere", "data")], deletes=[7])),
        (Move("elsewhere", ""), 2, Change(adds=[TaskInfo("elsewhere", "")], deletes=[7])),
    ],
    ids=repr,
)
def test_what_an_outcome_means(outcome: Outcome, attempts: int, change: Change) -> None:
    assert change_of(claimed(attempts), outcome, POLICY) == change


def test_a_first_claim_without_a_begin_does_not_count_as_an_attempt() -> None:
    assert given_back(claimed(1), POLICY) == AS_NEW
    assert given_back(claimed(2), POLICY) == Change(updates=[claimed(2).replace(available_in=0)])
    assert given_back(claimed(3), POLICY) == AS_NEW


def test_quarantine_keeps_all_that_a_person_needs_to_know_and_gives_it_back() -> None:
    task = claimed(3, 'a "task" \u00e9\n')
    change = change_of(task, Quarantine("why \ud800"), POLICY)
    assert change.deletes == [7]
    [aside] = change.adds
    assert aside.group == "g/quarantine"
    assert json.loads(aside.data) == {
        "group": "g",
        "data": task.data,
        "attempts": 3,
        "reason": "why ?",
        "when": "today",
    }
    assert brought_back(aside, "other") == TaskInfo("g", task.data)


@pytest.mark.parametrize(
    "data", ["", "plain", "{}", "[1]", "7", '{"group": 7, "data": ""}', '{"group": "", "data": ""}']
)
def test_what_does_not_say_where_it_came_from_comes_back_as_it_is(data: str) -> None:
    assert brought_back(TaskInfo("g/quarantine", data), "g") == TaskInfo("g", data)


def test_requeueing_is_one_update() -> None:
    tasks = [TaskInfo("g/quarantine", "a", 1, id=1), TaskInfo("g/quarantine", "b", 1, id=2)]
    assert requeue(tasks, "g") == Change(adds=[TaskInfo("g", "a"), TaskInfo("g", "b")], deletes=[1, 2])


@pytest.mark.parametrize(
    ("attempts", "bound"), [(0, 1), (1, 1), (2, 2), (3, 4), (10, 512), (11, 600), (1000, 600), (2**31 - 1, 600)]
)
def test_pauses_grow_up_to_a_bound_and_are_random(attempts: int, bound: int) -> None:
    assert POLICY.pause_ns(attempts) == bound * SECOND
    assert Policy(random=lambda: 0.25, when=str).pause_ns(attempts) == bound * SECOND // 4


@pytest.mark.parametrize(
    ("most", "attempts", "is_last", "is_beyond"),
    [(3, 2, False, False), (3, 3, True, False), (3, 4, True, True), (None, 999, False, False), (1, 0, False, False)],
)
def test_failures_end_in_quarantine(most: int | None, attempts: int, is_last: bool, is_beyond: bool) -> None:
    policy = Policy(max_attempts=most, random=lambda: 1.0, when=str)
    task = claimed(attempts)
    assert (policy.is_last(task), policy.is_beyond_last(task)) == (is_last, is_beyond)
    assert policy.failed(task, "why") == (Quarantine("why") if is_last else Retry())


def test_what_a_handler_returns() -> None:
    assert outcome_of(None) == Done()
    assert outcome_of(Release()) == Release()
    for wrong in (True, 7, "done", [Done()], Done, TaskInfo("g")):
        with pytest.raises(TypeError, match="a handler returns None or one of Done, Retry"):
            outcome_of(wrong)


def test_an_outcome_that_makes_no_sense_cannot_be_made() -> None:
    wrong: list[tuple[Callable[..., object], dict[str, object]]] = [
        (Done, {"adds": ["x"]}),
        (Done, {"updates": [7]}),
        (Done, {"deletes": ["x"]}),
        (Move, {"group": ""}),
        (Move, {"group": "g", "data": b"x"}),
        (Retry, {"after": 1.5}),
        (Retry, {"data": 7}),
    ]
    for outcome, options in wrong:
        with pytest.raises(UsageError):
            outcome(**options)
