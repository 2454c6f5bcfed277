"""Errors: they say what to do next, hold data, survive pickling, and show no credential."""

import copy
import pickle

import pytest

import taskstore
from taskstore import (
    AnswerError,
    HTTPError,
    LeaseLostError,
    NotSentError,
    OutcomeUnknownError,
    StoreError,
    TaskResponseError,
    TaskStoreError,
    UsageError,
)

REFUSED = TaskResponseError(changes=[1, 2], deletes=[3], depends=[4], owned=[5], bugs=["id 6 is in both"])
EACH = [
    TaskStoreError("what happened"),
    UsageError("what happened"),
    NotSentError("what happened"),
    REFUSED,
    LeaseLostError(17, "its lease ran out"),
    HTTPError(404, request="GET http://127.0.0.1/x", detail="no such address"),
    HTTPError(503),
    OutcomeUnknownError("what happened"),
    AnswerError("what happened"),
    StoreError("what happened"),
]


def test_every_public_error_is_looked_at_here() -> None:
    public = {getattr(taskstore, name) for name in taskstore.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)} == set(map(type, EACH))


@pytest.mark.parametrize("error", EACH, ids=repr)
def test_an_error_is_one_of_ours_and_survives_pickle_and_copy(error: TaskStoreError) -> None:
    error.add_note("seen by worker 3")
    error.applied = False
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in [*copies, copy.deepcopy(error), copy.copy(error)]:
        assert isinstance(other, TaskStoreError)
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.args == error.args


def test_a_wrong_call_is_a_value_error_too() -> None:
    assert issubclass(UsageError, ValueError)


def test_a_refusal_names_every_culprit_and_what_it_means() -> None:
    assert str(REFUSED) == (
        "nothing was changed: cannot change missing task 1, 2 (somebody has changed or deleted it since); "
        "cannot delete missing task 3 (somebody has changed or deleted it since); "
        "depends on missing task 4 (somebody has changed or deleted it since); "
        "not the owner of task 5 (another client's lease on it still runs); contradictory request: id 6 is in both"
    )


def test_a_refusal_holds_the_ids() -> None:
    assert (REFUSED.changes, REFUSED.deletes, REFUSED.depends, REFUSED.owned) == ((1, 2), (3,), (4,), (5,))
    assert REFUSED.bugs == ("id 6 is in both",)
    assert REFUSED.has_dependency_errors()
    assert REFUSED.has_bugs()
    assert REFUSED.has_errors()


@pytest.mark.parametrize("kind", ["changes", "deletes", "depends", "owned"])
def test_each_kind_of_culprit_is_a_dependency_error(kind: str) -> None:
    error = TaskResponseError(**{kind: [7]})  # type: ignore[arg-type] # a keyword that is computed
    assert error.has_dependency_errors()
    assert error.has_errors()
    assert not error.has_bugs()


def test_a_bug_alone_is_no_dependency_error() -> None:
    error = TaskResponseError(bugs=["twice"])
    assert error.has_bugs()
    assert error.has_errors()
    assert not error.has_dependency_errors()


@pytest.mark.parametrize(("status", "applied"), [(202, None), (302, False), (404, False), (499, False), (500, None)])
def test_a_status_tells_whether_anything_can_have_changed(status: int, applied: bool | None) -> None:
    error = HTTPError(status, request="POST http://127.0.0.1/update", detail="so it is")
    assert error.applied is applied
    assert str(error) == f"status {status}: POST http://127.0.0.1/update: so it is"


def test_what_is_known_of_the_outcome_is_in_the_error() -> None:
    assert [error.applied for error in (UsageError(), NotSentError(), REFUSED)] == [False, False, False]
    assert [error.applied for error in (OutcomeUnknownError(), AnswerError(), HTTPError(520))] == [None, None, None]
