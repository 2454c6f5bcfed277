"""The rules, as plain functions of tasks and now."""

from itertools import count
from typing import Any

import pytest

from taskstore.server.messages import (
    Claim,
    Keyed,
    KeyMisused,
    Outcome,
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
from taskstore.server.rules import Change, Seen, Wanted, decide, instant, is_available, may_change, wanted

NOW = 1_000_000_000_000
ME, OTHER = 1000, 2000
FREE = Task(1, "map", "one", NOW - 5, OTHER)
MINE = Task(2, "map", "two", NOW + 5, ME)
THEIRS = Task(3, "map", "three", NOW + 5, OTHER)


def outcomes(*batch: Request, claimable: dict[str, list[Task]] | None = None) -> tuple[list[Any], Change]:
    tasks = {task.id: task for task in (FREE, MINE, THEIRS)}
    return decide(batch, Seen(NOW, tasks, claimable or {}, count(10)))


def outcome(request: Request, claimable: dict[str, list[Task]] | None = None) -> tuple[Outcome, Change]:
    [one], change = outcomes(request, claimable=claimable)
    assert isinstance(one, Outcome)
    return one, change


@pytest.mark.parametrize(("available", "expected"), [(NOW - 1, True), (NOW, True), (NOW + 1, False)])
def test_a_task_is_available_from_its_instant_on(available: int, expected: bool) -> None:
    assert is_available(Task(1, "g", "", available, ME), NOW) is expected


@pytest.mark.parametrize(
    ("owner", "available", "expected"),
    [(ME, NOW + 1, True), (OTHER, NOW + 1, False), (OTHER, NOW, True), (ME, NOW, True)],
)
def test_the_owner_may_change_a_task_always_and_others_once_it_is_available(
    owner: int, available: int, expected: bool
) -> None:
    assert may_change(Task(1, "g", "", available, owner), ME, NOW) is expected


@pytest.mark.parametrize(("timespec", "expected"), [(7, 7), (0, NOW), (-60, NOW + 60)])
def test_a_timespec_is_an_instant_or_a_delay(timespec: int, expected: int) -> None:
    assert instant(timespec, NOW) == expected


def test_an_add_belongs_to_the_adder_and_is_available_now() -> None:
    done, change = outcome(Update(ME, adds=[TaskAdd("new", "x")]))
    assert done.tasks == [Task(10, "new", "x", NOW, ME)]
    assert (list(change.gone), list(change.made)) == ([], done.tasks)


def test_a_change_keeps_the_group_and_resets_what_it_does_not_name() -> None:
    done, change = outcome(Update(ME, updates=[TaskUpdate(2)]))
    assert done.tasks == [Task(10, "map", "", NOW, ME)]
    assert list(change.gone) == [2]


def test_new_tasks_come_back_adds_first_in_the_order_asked_with_growing_ids() -> None:
    done, _ = outcome(Update(ME, adds=[TaskAdd("a"), TaskAdd("b")], updates=[TaskUpdate(2, "x"), TaskUpdate(1, "y")]))
    assert [(task.id, task.group, task.data) for task in done.tasks] == [
        (10, "a", ""),
        (11, "b", ""),
        (12, "map", "x"),
        (13, "map", "y"),
    ]


def test_a_refusal_names_every_culprit_and_changes_nothing() -> None:
    done, change = outcome(
        Update(
            ME,
            adds=[TaskAdd("new")],
            updates=[TaskUpdate(91), TaskUpdate(3)],
            deletes=[92, 3, 2, 93, 92],
            depends=[1, 94, 94],
        )
    )
    assert done == Outcome(
        [],
        Refusal(
            changes=[91], deletes=[92, 93], depends=[94], owned=[3], bugs=["id 3 is both in updates and in deletes"]
        ),
    )
    assert not change


def test_a_repeated_id_in_deletes_counts_once() -> None:
    done, change = outcome(Update(ME, deletes=[2, 2]))
    assert done == Outcome()
    assert list(change.gone) == [2]


def test_the_same_id_in_two_updates_is_a_bug() -> None:
    done, change = outcome(Update(ME, updates=[TaskUpdate(2, "x"), TaskUpdate(2, "y")]))
    assert done.error == Refusal(bugs=["id 2 is in updates more than once"])
    assert not change


def test_a_dependency_asks_for_existence_not_for_ownership() -> None:
    done, _ = outcome(Update(ME, depends=[3]))
    assert done == Outcome()


def test_a_claim_takes_an_available_task_under_a_new_id() -> None:
    done, change = outcome(Claim(ME, "map", 30), {"map": [FREE]})
    assert done.tasks == [Task(10, "map", "one", NOW + 30, ME, attempts=1)]
    assert (list(change.gone), list(change.made)) == ([1], done.tasks)


def test_a_claim_of_nothing_is_no_error() -> None:
    done, change = outcome(Claim(ME, "map", 30))
    assert done == Outcome()
    assert not change


def test_a_claim_with_a_missing_dependency_is_refused_even_where_there_is_nothing_to_claim() -> None:
    done, _ = outcome(Claim(ME, "none", 30, depends=[1, 94]))
    assert done.error == Refusal(depends=[94])


def test_two_claims_of_a_batch_never_get_the_same_task() -> None:
    (first, second, third), change = outcomes(
        *[Claim(ME, "map", 30)] * 3, claimable={"map": [FREE, Task(4, "map", "", NOW, ME)]}
    )
    assert sorted([first.tasks[0].data, second.tasks[0].data]) == ["", "one"]
    assert third == Outcome()
    assert sorted(change.gone) == [1, 4]


def test_what_one_request_of_a_batch_consumes_the_others_miss() -> None:
    (first, second, third), change = outcomes(Update(ME, deletes=[2]), Update(ME, deletes=[2]), Update(ME, depends=[2]))
    assert first == Outcome()
    assert second.error == Refusal(deletes=[2])
    assert third.error == Refusal(depends=[2])
    assert list(change.gone) == [2]


def test_a_claim_gets_a_task_once_even_where_its_lease_lasts_no_time() -> None:
    twice = Claim(ME, "map", 0, limit=2)
    (claim, _), _ = outcomes(twice, Step(Update(ME), Claim(ME, "map", 5)), claimable={"map": [FREE]})
    assert [task.id for task in claim.tasks] == [10]


def test_a_lease_that_lasts_no_time_leaves_the_task_to_the_next_claim_of_the_batch() -> None:
    at_once, later = Claim(ME, "map", 0), Claim(ME, "map", 30)
    answers, change = outcomes(at_once, at_once, later, claimable={"map": [FREE]})
    assert [task.id for answer in answers for task in answer.tasks] == [10, 11, 12]
    assert [task.id for task in change.made] == [12]


def test_an_update_misses_a_task_that_a_claim_of_the_same_batch_took() -> None:
    (update, claim), _ = outcomes(Update(OTHER, deletes=[1]), Claim(ME, "map", 30), claimable={"map": [FREE]})
    assert claim.tasks[0].data == "one"
    assert update.error == Refusal(deletes=[1])


def test_a_task_made_and_consumed_within_a_batch_is_only_known_to_be_gone() -> None:
    (_, second), change = outcomes(Update(ME, adds=[TaskAdd("new")]), Update(ME, deletes=[10]))
    assert second == Outcome()
    assert (list(change.gone), list(change.made)) == ([10], [])


def test_a_refused_request_of_a_batch_fails_alone() -> None:
    (bad, good), change = outcomes(Update(ME, adds=[TaskAdd("x")], deletes=[99]), Update(ME, adds=[TaskAdd("y")]))
    assert bad.error == Refusal(deletes=[99])
    assert [task.group for task in change.made] == [task.group for task in good.tasks] == ["y"]


def test_wanted_names_all_that_a_batch_can_touch() -> None:
    assert wanted(
        [
            Update(ME, [TaskAdd("a")] * 3, [TaskUpdate(1)], [2], [3]),
            Claim(ME, "map", 1, depends=[4]),
            Claim(ME, "map", 1),
            Update(ME),
        ]
    ) == Wanted(frozenset({1, 2, 3, 4}), {"map": 2}, 6)


# Steps, batches, keys: the additions to the original protocol.

KEY = "0123456789abcdef"


def step(update: Update, **claim: object) -> Step:
    # Each keyword has a type of its own, which a dictionary cannot tell.
    return Step(update, Claim(update.client, duration=30, **claim) if claim else None)  # type: ignore[arg-type]


def test_a_claim_takes_as_many_as_its_limit() -> None:
    tasks = [Task(id, "map", str(id), NOW, OTHER) for id in (4, 5, 6)]
    done, change = outcome(Claim(ME, "map", 30, limit=2), {"map": tasks})
    assert len(done.tasks) == 2
    assert sorted(change.gone) == sorted(int(task.data) for task in done.tasks)
    done, _ = outcome(Claim(ME, "map", 30, limit=9), {"map": tasks})
    assert len(done.tasks) == 3


def test_a_claim_of_several_groups_tries_them_in_the_order_given() -> None:
    claim = Claim(ME, duration=30, groups=["none", "map", "more"], limit=2)
    done, _ = outcome(
        claim, {"map": [FREE], "more": [Task(4, "more", "", NOW, OTHER), Task(5, "more", "", NOW, OTHER)]}
    )
    assert [task.group for task in done.tasks] == ["map", "more"]


def test_attempts_count_claims_and_outlive_updates() -> None:
    often = Task(4, "map", "", NOW, ME, attempts=7)
    claimed, _ = outcome(Claim(ME, "map", 30), {"map": [often]})
    assert claimed.tasks[0].attempts == 8
    [changed], _ = decide([Update(ME, updates=[TaskUpdate(4)])], Seen(NOW, {4: often}, {}, count(10)))
    assert isinstance(changed, Outcome)
    assert changed.tasks[0].attempts == 7


def test_a_step_updates_and_then_claims() -> None:
    [done], change = outcomes(step(Update(ME, [TaskAdd("out")], deletes=[2]), group="map"), claimable={"map": [FREE]})
    assert isinstance(done, StepOutcome)
    assert [task.group for task in done.updated] == ["out"]
    assert [task.data for task in done.tasks] == ["one"]
    assert sorted(change.gone) == [1, 2]


def test_the_claim_of_a_step_finds_what_its_update_has_made() -> None:
    [done], change = outcomes(
        step(Update(ME, [TaskAdd("next", "x"), TaskAdd("next", "later", -5)]), group="next", limit=5)
    )
    assert isinstance(done, StepOutcome)
    assert [(task.data, task.attempts) for task in done.tasks] == [("x", 1)]
    assert sorted(task.data for task in change.made) == ["later", "x"]


def test_the_claim_of_a_step_does_not_find_what_the_batch_has_consumed() -> None:
    batch: list[Request] = [Update(ME, deletes=[1]), step(Update(ME), group="map")]
    assert wanted(batch).claims == {"map": 2}
    (_, done), _ = outcomes(*batch, claimable={"map": [FREE]})
    assert done == StepOutcome()


@pytest.mark.parametrize(
    ("update", "depends", "error"),
    [
        (Update(ME, deletes=[99]), None, Refusal(deletes=[99])),
        (Update(ME, deletes=[2]), [98, 2], Refusal(depends=[98, 2])),
        (Update(ME, deletes=[3], depends=[98]), [98, 97], Refusal(depends=[98, 97], owned=[3])),
    ],
)
def test_a_step_does_all_or_nothing(update: Update, depends: list[int] | None, error: Refusal) -> None:
    [done], change = outcomes(step(update, group="map", depends=depends), claimable={"map": [FREE]})
    assert done == StepOutcome(error=error)
    assert not change


def keyed(request: Update | Claim | Step, fingerprint: bytes = b"f") -> Keyed:
    return Keyed(request, KEY, fingerprint)


REQUESTS: list[Update | Claim | Step] = [
    Update(ME, [TaskAdd("new", "x"), TaskAdd("late", "y", -5)], [TaskUpdate(2, "changed", -9)], [1]),
    Update(ME, deletes=[1]),
    Claim(ME, "map", 30),
    step(Update(ME, [TaskAdd("new", "x")], [TaskUpdate(2, "changed")]), group="map"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=["update", "delete", "claim", "step"])
def test_a_keyed_request_is_answered_once_more_with_the_same_answer(request_: Update | Claim | Step) -> None:
    tasks = {task.id: task for task in (FREE, MINE)}
    [first], change = decide([keyed(request_)], Seen(NOW, dict(tasks), {"map": [FREE]}, count(10)))
    [record] = change.records
    known = {(ME, KEY): record}
    [again], nothing = decide([keyed(request_)], Seen(NOW + 77, {}, {"map": []}, count(50), known))
    assert isinstance(first, Outcome | StepOutcome)
    assert again == Replayed(first)
    assert not nothing


def test_a_key_of_another_request_is_misused() -> None:
    _, change = outcomes(keyed(Update(ME, deletes=[1])))
    [record] = change.records
    [done], nothing = decide([keyed(Update(ME, deletes=[2]), b"g")], Seen(NOW, {}, {}, count(9), {(ME, KEY): record}))
    assert done == KeyMisused()
    assert not nothing


def test_the_same_keyed_request_twice_in_a_batch_has_one_effect() -> None:
    add = keyed(Update(ME, [TaskAdd("new")]))
    (first, second), change = outcomes(add, add)
    assert second == Replayed(first)
    assert len(change.made) == len(change.records) == 1


@pytest.mark.parametrize(
    "request_",
    [Update(ME, deletes=[99]), Update(ME), Claim(ME, "none", 5)],
    ids=["refused", "empty", "nothing to claim"],
)
def test_what_changes_nothing_is_not_recorded(request_: Update | Claim) -> None:
    _, change = outcomes(keyed(request_))
    assert not change
    assert not change.records


def test_a_claim_that_has_waited_is_tried_again_after_the_updates_of_its_batch() -> None:
    add, claim, early = Update(ME, [TaskAdd("map")]), Claim(ME, "map", 5), Claim(OTHER, "map", 5)
    answers, change = decide([claim, early, add], Seen(NOW, {}, {"map": []}, count(10)), waited=[0])
    waited, at_once, added = answers
    assert isinstance(added, Outcome)
    assert isinstance(waited, Outcome)
    assert at_once == Outcome()
    assert [task.id for task in added.tasks] == [10]
    assert [task.id for task in waited.tasks] == [11]
    assert [task.id for task in change.made] == [11]


def test_a_claim_that_has_waited_and_finds_something_at_first_takes_nothing_more() -> None:
    claim = Claim(ME, "map", 5)
    answers, change = decide(
        [claim, Update(ME, [TaskAdd("map")])], Seen(NOW, {}, {"map": [FREE]}, count(10)), waited=[0]
    )
    assert isinstance(answers[0], Outcome)
    assert len(answers[0].tasks) == 1
    assert len(change.made) == 2
