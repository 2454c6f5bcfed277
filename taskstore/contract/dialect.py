"""The kit's own translation of the contract: what to ask as requests, and answers as values, in both dialects.

The laws of this room: it shares nothing with the client's translation nor with the server's, for if two sides
translated with the same code, a wrong translation would agree with itself. It is strict with answers: what does not
have the shape that the contract gives it is `Broken`, and says so with the place.
"""

from base64 import b64decode
from collections.abc import Mapping
from json import dumps
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from taskstore.contract.connection import Answer, Request
from taskstore.contract.rule import Absent, Broken

Content: TypeAlias = Mapping[str, Any]
"""The JSON of a request, with the contract's names."""

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_INT32: Final = range(-(2**31), 2**31)
_INT64: Final = range(-(2**63), 2**63)


class Task(NamedTuple):
    """A task as a server showed it."""

    id: int
    group: str
    data: str
    available: int
    """The instant from which it is available, in nanoseconds since the epoch."""
    owner: int
    attempts: int | None = None
    """How often it was claimed; None where the server does not say."""


class Refusal(NamedTuple):
    """Why an update or a claim was refused."""

    changes: list[int]
    deletes: list[int]
    depends: list[int]
    owned: list[int]
    bugs: list[Any]


class Outcome(NamedTuple):
    """What an update or a claim came to: new tasks, or a refusal."""

    tasks: list[Task]
    error: Refusal | None


class StepOutcome(NamedTuple):
    """What a step came to: the new tasks of its update and the claimed ones, or a refusal."""

    updated: list[Task]
    tasks: list[Task]
    error: Refusal | None


class Dialect:
    """JSON in, JSON out: the contract's own form."""

    name = "json"

    def post(self, operation: str, content: Content) -> Request:
        """The request that asks for an update or a claim."""
        return Request("POST", f"/{operation}", dumps(content).encode(), (("Content-Type", JSON),))

    def content(self, answer: Answer) -> Any:
        """The JSON of an answer, with the contract's names."""
        if answer.status != 200:
            raise Broken(f"the answer's status is {answer.status} where the contract has 200: {answer.text[:300]}")
        if answer.media != JSON:
            raise Broken(f"the answer's Content-Type is {answer.header('content-type')!r}, not {JSON}")
        try:
            return answer.json
        except ValueError as error:
            raise Broken(str(error)) from None

    def read(self, answer: Answer) -> Any:
        """As `content`, for an answer to a GET."""
        return self.content(answer)


class GoDialect(Dialect):
    """What the published Go server speaks: a form that holds JSON, capital keys, `at` and base64 in what is read."""

    name = "go"

    def post(self, operation: str, content: Content) -> Request:
        """The request that asks for an update or a claim."""
        body = urlencode({operation: dumps(content)}).encode()
        return Request("POST", f"/{operation}", body, (("Content-Type", FORM),))

    def content(self, answer: Answer) -> Any:
        """The JSON of an answer, with the contract's names."""
        content = _lower(super().content(answer))
        if isinstance(content, dict) and content.get("tasks", 0) is None:
            content["tasks"] = []
        return content

    def read(self, answer: Answer) -> Any:
        """As `content`, for an answer to a GET.

        Raises:
            Absent: the server does not understand its own address, as the published one does not.
        """
        if answer.status in (301, 307, 400, 404):  # `/group` is redirected with 301 by older Go, 307 by newer.
            raise Absent(f"this server cannot answer such a read (status {answer.status})")
        content = self.content(answer)
        for task in content if isinstance(content, list) else [content]:
            if isinstance(task, dict) and "at" in task:
                task["duration"] = task.pop("at")
                task["data"] = b64decode(task["data"] or "").decode()
        return content


DIALECTS: Final[Mapping[str, Dialect]] = {dialect.name: dialect for dialect in (Dialect(), GoDialect())}


def group_path(name: str, *, limit: int | None = None, owned: str | None = None) -> str:
    """The address of a group."""
    query = {key: value for key, value in (("limit", limit), ("owned", owned)) if value is not None}
    return f"/group/{encoded(name)}" + (f"?{urlencode(query)}" if query else "")


def encoded(name: str) -> str:
    """A text for a path; its dots too, lest somebody on the way resolves them away."""
    return quote(name, safe="").replace(".", "%2E")


def task_of(value: Any, place: str = "the task") -> Task:
    """A task that a server showed.

    Raises:
        Broken: it does not have the contract's shape.
    """
    if not isinstance(value, dict):
        raise Broken(f"{place} is {_shown(value)} instead of an object")
    available = _integer(value, "duration", place, _INT64)
    if available < 1:
        raise Broken(f"duration in {place} is {available}, and an instant is at least 1")
    return Task(
        _integer(value, "id", place, range(1, 2**63)),
        _text(value, "group", place),
        _text(value, "data", place),
        available,
        _integer(value, "ownerid", place, _INT32),
        _integer(value, "attempts", place, range(2**31)) if "attempts" in value else None,
    )


def tasks_of(value: Any, *, or_null: bool = False) -> list[Any]:
    """The tasks of a list, and None for each null where that is allowed.

    Raises:
        Broken: it does not have the contract's shape.
    """
    if not isinstance(value, list):
        raise Broken(f"the answer is {_shown(value)} instead of a list of tasks")
    return [
        None if or_null and each is None else task_of(each, f"task {n} of the list") for n, each in enumerate(value)
    ]


def outcome_of(value: Any) -> Outcome:
    """What an update or a claim came to.

    Raises:
        Broken: it does not have the contract's shape.
    """
    if not isinstance(value, dict):
        raise Broken(f"the answer is {_shown(value)} instead of an object")
    for field in ("tasks", "error"):
        if field not in value:
            raise Broken(f"the answer has no field {field}")
    tasks, error = tasks_of(value["tasks"]), value["error"]
    if error is None:
        return Outcome(tasks, None)
    if not isinstance(error, dict):
        raise Broken(f"error is {_shown(error)} instead of an object or null")
    if tasks:
        raise Broken("the answer has both tasks and an error")
    changes, deletes, depends, owned = (_ids(error, field) for field in ("changes", "deletes", "depends", "owned"))
    if not isinstance(error.get("bugs"), list):
        raise Broken(f"bugs is {_shown(error.get('bugs'))} instead of a list")
    return Outcome([], Refusal(changes, deletes, depends, owned, error["bugs"]))


def step_outcome_of(value: Any) -> StepOutcome:
    """What a step came to.

    Raises:
        Broken: it does not have the contract's shape.
    """
    tasks, error = outcome_of(value)
    if "updated" not in value:
        raise Broken("the answer has no field updated")
    updated = tasks_of(value["updated"])
    if error and updated:
        raise Broken("the answer has both new tasks and an error")
    return StepOutcome(updated, tasks, error)


def _ids(error: dict[str, Any], field: str) -> list[int]:
    ids = error.get(field)
    if not isinstance(ids, list) or not all(_is_integer(id) and id in _INT64 for id in ids):
        raise Broken(f"{field} in error is {_shown(ids)} instead of a list of ids")
    return ids


def _integer(value: dict[str, Any], field: str, place: str, allowed: range) -> int:
    found: Any = value.get(field)
    if not _is_integer(found) or found not in allowed:
        what = "is missing" if field not in value else f"is {_shown(found)}, no integer that the contract allows"
        raise Broken(f"{field} in {place} {what}")
    return int(found)


def _text(value: dict[str, Any], field: str, place: str) -> str:
    found = value.get(field)
    if not isinstance(found, str):
        what = "is missing" if field not in value else f"is {_shown(found)} instead of a text"
        raise Broken(f"{field} in {place} {what}")
    return found


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"{value!r:.100}"


def _lower(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.lower(): _lower(each) for key, each in value.items()}
    return [_lower(each) for each in value] if isinstance(value, list) else value
