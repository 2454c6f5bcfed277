"""The rules, as plain functions of tasks and now."""

from itertools import count

import pytest

from taskstore.server.messages import Claim, Outcome, Refusal, Request, Task, TaskAdd, TaskUpdate, Update
from taskstore.server.rules import Change, Seen, Wanted, decide, instant, is_available, may_change, wanted

NOW = 1_000_000_000_000
ME, OTHER = 1000, 2000
FREE = Task(1, "map", "one", NOW - 5, OTHER)
MINE = Task(2, "map", "two", NOW + 5, ME)
THEIRS = Task(3, "map", "three", NOW + 5, OTHER)


def outcomes(*batch: Request, claimable: dict[str, list[Task]] | None = None) -> tuple[list[Outcome], Change]:
    tasks = {task.id: task for task in (FREE, MINE, THEIRS)}
    return decide(batch, Seen(NOW, tasks, claimable or {}, count(10)))


def outcome(request: Request, claimable: dict[str, list[Task]] | None = None) -> tuple[Outcome, Change]:
    [one], change = outcomes(request, claimable=claimable)
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
