"""Between values and the wire: each operation as a call that can be sent, each answer as a value or an error.

The laws of this room: nothing here does I/O, waits, or knows what sends a call, so that both colours of the client use
the same calls. Requests are built and answers are read by the generated client, so that after a change of openapi.yaml
the type checker shows what has to follow here. But the generated client believes whatever a server says, and nothing
here does: an answer fits the contract in every type, or it is an `AnswerError`.
"""

import html
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar

import attrs
from taskstore_api.api.store.claim import _get_kwargs as claim_request
from taskstore_api.api.store.group import _get_kwargs as group_request
from taskstore_api.api.store.groups import _get_kwargs as groups_request
from taskstore_api.api.store.stats import _get_kwargs as stats_request
from taskstore_api.api.store.step import _get_kwargs as step_request
from taskstore_api.api.store.task import _get_kwargs as task_request
from taskstore_api.api.store.tasks import _get_kwargs as tasks_request
from taskstore_api.api.store.update import _get_kwargs as update_request
from taskstore_api.models import (
    ClaimRequest,
    Owned,
    Problem,
    StepClaim,
    StepRequest,
    StepResponse,
    StepUpdate,
    Task,
    TaskAdd,
    TaskResponse,
    TaskUpdate,
    UpdateRequest,
)
from taskstore_api.models import Counters as RawCounters
from taskstore_api.models import GroupStats as RawGroupStats
from taskstore_api.models import TaskResponseError as Refusal
from taskstore_api.models import Totals as RawTotals
from taskstore_api.types import UNSET, Unset

from taskstore.errors import AnswerError, HTTPError, TaskResponseError, TaskStoreError, UsageError
from taskstore.model import (
    Counters,
    Duration,
    GroupRef,
    GroupStats,
    Stats,
    Step,
    TaskInfo,
    TaskRef,
    Totals,
    checked_count,
    checked_group,
    checked_id,
    checked_text,
    duration_ns,
)

_quick: Any = None
with suppress(ImportError):  # it is quicker than json, and no more than that
    import msgspec

    _quick = msgspec.json

T = TypeVar("T")
E = TypeVar("E", bound=TaskStoreError)

_LIMITS: Final = range(2**31)
_BATCHES: Final = range(1, 10_001)
_LONGEST_WAIT_NS: Final = 3_600 * 10**9
"""An hour; the contract allows no more."""
_IDS_LENGTH: Final = 7_000
"""How many characters of ids one call of `tasks` asks for. The contract allows 16,000, but many a proxy takes no more
than 8 KiB for the first line of a request."""
_SHOWN: Final = 300
"""How many characters of an answer an error shows."""
_OF_THE_GO_SERVER: Final = (
    (re.compile(rb"no (data|parameters) provided for task"), "is spoken to with HTTPClient(url, dialect='go')"),
    (re.compile(rb"invalid (tasks?|group) request, expected /"), "answers neither task nor tasks nor group, ever"),
)
"""How those refusals of the original Go server begin that no other arguments would mend, and what to know then."""
_NOT_TEXT: Final = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^>]*>", re.DOTALL | re.IGNORECASE)


@attrs.define(eq=False)
class Answer:
    """What came back for a call: a complete HTTP response."""

    request: str
    """Method and address of the call, without credentials, as errors show them."""
    status: int
    """The HTTP status."""
    headers: Mapping[str, str]
    """The headers, by names in lower case."""
    body: bytes
    """The whole body, decompressed."""


@attrs.define(eq=False)
class Call(Generic[T]):
    """One operation: what to send, and how to read what comes back."""

    request: Mapping[str, Any]
    """`method`, `url` (from the root of the store), and where needed `params`, `json` and `headers`."""
    read: Callable[[Any], T]
    """Turns the JSON value of an answer into a result; a `ValueError` says what does not fit, and where."""
    wait_ns: int = 0
    """For how long the server may hold the answer back, in nanoseconds."""
    lease_ns: int | None = None
    """How long the leases last that the call asks for, in nanoseconds; None if it asks for none."""
    key: str | None = None
    """The name of this call, under which the server records what it did, so that it may be repeated."""

    def result(self, answer: Answer) -> T:
        """What the answer says.

        Raises:
            TaskResponseError: The store refused.
            HTTPError: The status is another one than 200.
            AnswerError: The answer does not fit the contract.
        """
        if answer.status != 200:
            error = HTTPError(
                answer.status, request=answer.request, detail=_detail(answer), retry_after=_retry_after(answer)
            )
            raise self.failed(error)
        try:
            return self.read(_parsed(answer.body))
        except (ValueError, RecursionError) as misfit:
            got = _excerpt(answer.body)
            message = f"{answer.request}: the answer does not fit the contract: {misfit}; it begins with {got!r}"
            raise self.failed(AnswerError(f"{message}. Is it a taskstore server that listens there?")) from misfit

    @property
    def only_reads(self) -> bool:
        """Whether the call leaves the store as it is, whatever becomes of it."""
        return bool(self.request["method"] == "get")

    def failed(self, error: E) -> E:
        """The error itself; it says that nothing was changed if this call only reads."""
        if self.only_reads:
            error.applied = False
        return error


def groups() -> Call[list[str]]:
    """The names of all groups."""
    return Call(groups_request(), _group_names)


def group(name: str, limit: int, owned: bool) -> Call[list[TaskInfo]]:
    """The tasks of a group; `limit` 0 means all of them.

    Raises:
        UsageError: An argument is of the wrong type or out of range.
    """
    owned_or_not = Owned.TRUE if owned else Owned.FALSE
    request = group_request(checked_group(name), limit=_limit(limit), owned=owned_or_not)
    if name in {".", ".."}:
        # HTTP libraries take these for steps in a path, and would call another address.
        request["url"] = request["url"].replace(".", "%2E")
    return Call(request, _tasks)


def task(id: TaskRef) -> Call[TaskInfo | None]:
    """The task with this id, or None.

    Raises:
        UsageError: It is no id.
    """
    return Call(task_request(_id_of(id, "id")), _maybe_task)


def tasks(ids: Iterable[TaskRef]) -> Iterator[Call[list[TaskInfo | None]]]:
    """The tasks with these ids, None where there is none: as few calls as can be, whose lists follow each other.

    Raises:
        UsageError: One of them is no id.
    """
    parts: list[list[str]] = []
    room = 0
    for id in ids:
        text = str(_id_of(id, "id"))
        room -= len(text) + 1
        if room < 0:
            parts.append([])
            room = _IDS_LENGTH - len(text)
        parts[-1].append(text)
    return map(_tasks_call, parts)


def claim(
    client_id: int,
    groups: GroupRef,
    duration: Duration,
    depends: Iterable[TaskRef],
    *,
    wait: Duration = 0,
    key: str | None = None,
) -> Call[TaskInfo | None]:
    """Take a task of one of these groups under a lease of `duration`.

    Raises:
        UsageError: An argument is of the wrong type or out of range.
    """
    asked = _claim(groups, duration, 1, depends, wait)

    def read(raw: object) -> TaskInfo | None:
        claimed = _claimed(_outcome(raw), asked)
        return claimed[0] if claimed else None

    return Call(_claim_request(client_id, asked, key), read, asked.wait or 0, asked.duration, key)


def claim_batch(
    client_id: int,
    groups: GroupRef,
    duration: Duration,
    limit: int,
    depends: Iterable[TaskRef],
    *,
    wait: Duration = 0,
    key: str | None = None,
) -> Call[list[TaskInfo]]:
    """Take up to `limit` tasks of these groups, in one step.

    Raises:
        UsageError: An argument is of the wrong type or out of range.
    """
    asked = _claim(groups, duration, limit, depends, wait)
    request = _claim_request(client_id, asked, key)
    return Call(request, lambda raw: _claimed(_outcome(raw), asked), asked.wait or 0, asked.duration, key)


def update(
    client_id: int,
    adds: Iterable[TaskInfo],
    updates: Iterable[TaskInfo],
    deletes: Iterable[TaskRef],
    depends: Iterable[TaskRef],
    *,
    key: str | None = None,
) -> Call[list[TaskInfo]]:
    """Add, change and delete tasks in one step.

    Raises:
        UsageError: An argument is of the wrong type or out of range.
    """
    asked = _update(adds, updates, deletes, depends)
    body = UpdateRequest(
        clientid=client_id, adds=asked.adds, updates=asked.updates, deletes=asked.deletes, depends=asked.depends
    )
    request = update_request(body=body, idempotency_key=UNSET if key is None else key)
    return Call(request, lambda raw: _sized(_outcome(raw), "$.tasks", _made(asked)), key=key)


def step(
    client_id: int,
    update: tuple[Iterable[TaskInfo], Iterable[TaskInfo], Iterable[TaskRef], Iterable[TaskRef]],
    *,
    groups: GroupRef | None,
    duration: Duration | None,
    limit: int,
    wait: Duration,
    depends: Iterable[TaskRef],
    key: str | None = None,
) -> Call[Step]:
    """An update (adds, updates, deletes, depends), and a claim of the groups, if there are any, in one atomic step.

    Raises:
        UsageError: An argument is of the wrong type or out of range, or says something of a claim without a group.
    """
    changes, claims = _update(*update), None
    if groups is not None:
        if duration is None:
            raise UsageError("a step that claims needs a duration: how long the lease shall last")
        claims = _claim(groups, duration, limit, depends, wait)
    elif duration is not None or limit != 1 or wait != 0 or _ids_of(depends, "claim_depends"):
        raise UsageError("a step without a group claims nothing: duration, limit, wait and claim_depends need a group")
    has_changes = changes.adds or changes.updates or changes.deletes or changes.depends
    body = StepRequest(clientid=client_id, update=changes if has_changes else None, claim=claims)
    request = step_request(body=body, idempotency_key=UNSET if key is None else key)
    wait_ns, lease_ns = (claims.wait or 0, claims.duration) if claims else (0, None)
    return Call(request, lambda raw: _step(raw, _made(changes), claims), wait_ns, lease_ns, key)


def stats(prefix: str, limit: int) -> Call[Stats]:
    """Counts of the groups whose name begins with `prefix`, of the whole store, and of what the server has done.

    Raises:
        UsageError: An argument is of the wrong type or out of range.
    """
    return Call(stats_request(prefix=checked_text(prefix, "prefix"), limit=_limit(limit)), _stats)


# What is asked: arguments, checked before anything is sent.


def _listed(items: Iterable[T], name: str) -> list[T]:
    try:
        iterator = iter(items)
    except TypeError:
        raise UsageError(f"{name} has to be a list, or another iterable, not {reprlib.repr(items)}") from None
    return list(iterator)


def _infos(tasks: Iterable[TaskInfo], name: str) -> list[TaskInfo]:
    listed = _listed(tasks, name)
    for task in listed:
        if not isinstance(task, TaskInfo):
            raise UsageError(f"{name} takes TaskInfo, not {reprlib.repr(task)}")
    return listed


def _id_of(task: TaskRef, name: str) -> int:
    if not isinstance(task, TaskInfo):
        return checked_id(task, name)
    if task.id == 0:
        raise UsageError(f"{name}: {task!r} has no id, for it is not stored; take the task that `update` returned")
    return task.id


def _ids_of(tasks: Iterable[TaskRef], name: str) -> list[int]:
    return [_id_of(task, name) for task in _listed(tasks, name)]


def _tasks_call(ids: list[str]) -> Call[list[TaskInfo | None]]:
    request = tasks_request(",".join(ids))
    # A comma may stand in a path as it is, and then the address is half as long.
    request["url"] = request["url"].replace("%2C", ",")
    return Call(request, lambda raw: _sized(_maybe_tasks(raw), "$", len(ids)))


def _limit(limit: int) -> int:
    if checked_id(limit, "limit") not in _LIMITS:
        raise UsageError(f"limit={limit} has to be from 0, which means all, to {_LIMITS[-1]}")
    return limit


def _claim(groups: GroupRef, duration: Duration, limit: int, depends: Iterable[TaskRef], wait: Duration) -> StepClaim:
    names = [groups] if isinstance(groups, str) else [*dict.fromkeys(_listed(groups, "group"))]
    if not names:
        raise UsageError("a claim needs a group to claim from, and got an empty list")
    for name in names:
        checked_group(name)
    lease_ns, wait_ns = duration_ns(duration), duration_ns(wait, "wait")
    if lease_ns < 0:
        raise UsageError(f"duration is {lease_ns} ns: a lease cannot end before it begins")
    if not 0 <= wait_ns <= _LONGEST_WAIT_NS:
        raise UsageError(f"wait is {wait_ns} ns, and has to be from 0 to an hour ({_LONGEST_WAIT_NS} ns)")
    if checked_id(limit, "limit") not in _BATCHES:
        raise UsageError(f"limit={limit} has to be from {_BATCHES[0]} to {_BATCHES[-1]}")
    return StepClaim(
        duration=lease_ns,
        group=names[0] if len(names) == 1 else UNSET,
        groups=names if len(names) > 1 else UNSET,
        limit=limit if limit > 1 else UNSET,
        wait=wait_ns or UNSET,
        depends=_ids_of(depends, "depends"),
    )


def _claim_request(client_id: int, asked: StepClaim, key: str | None) -> dict[str, Any]:
    # What is not asked for is not sent, so that a server of the original protocol understands every plain claim.
    body = ClaimRequest(
        clientid=client_id,
        group=asked.group,
        groups=asked.groups,
        duration=asked.duration,
        limit=asked.limit,
        wait=asked.wait,
        depends=asked.depends,
    )
    return claim_request(body=body, idempotency_key=UNSET if key is None else key)


def _update(
    adds: Iterable[TaskInfo], updates: Iterable[TaskInfo], deletes: Iterable[TaskRef], depends: Iterable[TaskRef]
) -> StepUpdate:
    return StepUpdate(
        adds=[TaskAdd(group=task.group, data=task.data, duration=task.timespec) for task in _infos(adds, "adds")],
        updates=[
            TaskUpdate(id=_id_of(task, "updates"), data=task.data, duration=task.timespec)
            for task in _infos(updates, "updates")
        ],
        deletes=_ids_of(deletes, "deletes"),
        depends=_ids_of(depends, "depends"),
    )


def _made(update: StepUpdate) -> int:
    """How many new tasks an update makes."""
    return len(update.adds or ()) + len(update.updates or ())


def written(value: object) -> bytes:
    """The JSON text of a request's body, in UTF-8."""
    if _quick is not None:
        text: bytes = _quick.encode(value)
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# What is answered: JSON values, checked as they are read.


def _parsed(body: bytes) -> Any:
    if _quick is not None:
        try:
            return _quick.decode(body)
        except (ValueError, RecursionError):
            pass  # json says it in words that people know, or takes what is not strictly JSON
    return json.loads(body.decode())


class _Misfit(ValueError):
    """What does not fit the contract, and where."""


def _object(read: Callable[[dict[str, Any]], T], raw: object, where: str) -> T:
    if not isinstance(raw, dict):
        raise _Misfit(f"expected an object at {where}, got {reprlib.repr(raw)}")
    try:
        return read(raw)
    except KeyError:
        pass
    # The published Go server says "Tasks" where the contract says "tasks", and Go's clients take either.
    try:
        return read({key.lower(): value for key, value in raw.items()})
    except KeyError as missing:
        raise _Misfit(f"the field {missing} is missing at {where}, in {reprlib.repr(raw)}") from None


def _list(raw: object, where: str) -> list[Any]:
    if raw is None:  # how Go writes an empty list
        return []
    if not isinstance(raw, list):
        raise _Misfit(f"expected a list at {where}, got {reprlib.repr(raw)}")
    return raw


def _sized(items: list[T], where: str, size: int) -> list[T]:
    if len(items) != size:
        raise _Misfit(f"expected {size} elements at {where}, got {len(items)}")
    return items


def _claimed(tasks: list[TaskInfo], asked: StepClaim | None) -> list[TaskInfo]:
    most = asked.limit or 1 if asked else 0
    if len(tasks) > most:
        raise _Misfit(f"expected at most {most} elements at $.tasks, got {len(tasks)}")
    for place, task in enumerate(tasks):
        # A server that does not know the field `groups` may have claimed from somewhere else.
        if asked and task.group != asked.group and task.group not in (asked.groups or ()):
            raise _Misfit(f"expected a task of a group that was asked for at $.tasks[{place}], got {task!r}")
    return tasks


def _info(task: Task, where: str) -> TaskInfo:
    attempts = 0 if isinstance(task.attempts, Unset) else task.attempts
    try:
        info = TaskInfo(task.group, task.data, task.duration, task.id, task.ownerid, attempts)
    except UsageError as misfit:
        raise _Misfit(f"expected a task at {where}: {misfit}") from None
    if info.id < 1 or info.timespec < 1:
        raise _Misfit(f"expected id and duration from 1 on at {where}, got {info.id} and {info.timespec}")
    return info


def _task(raw: object, where: str) -> TaskInfo:
    return _info(_object(Task.from_dict, raw, where), where)


def _maybe_task(raw: object, where: str = "$") -> TaskInfo | None:
    return None if raw is None else _task(raw, where)


def _tasks(raw: object) -> list[TaskInfo]:
    return [_task(item, f"$[{place}]") for place, item in enumerate(_list(raw, "$"))]


def _maybe_tasks(raw: object) -> list[TaskInfo | None]:
    return [_maybe_task(item, f"$[{place}]") for place, item in enumerate(_list(raw, "$"))]


def _group_names(raw: object) -> list[str]:
    return [checked_text(name, f"$[{place}]") for place, name in enumerate(_list(raw, "$"))]


def _outcome(raw: object) -> list[TaskInfo]:
    response = _object(_response, raw, "$")
    if response.error is not None:
        raise _refused(response.error)
    return _infos_of(response.tasks, "$.tasks")


def _step(raw: object, made: int, asked: StepClaim | None) -> Step:
    response = _object(_step_response, raw, "$")
    if response.error is not None:
        raise _refused(response.error)
    claimed = _claimed(_infos_of(response.tasks, "$.tasks"), asked)
    return Step(tuple(claimed), tuple(_sized(_infos_of(response.updated, "$.updated"), "$.updated", made)))


def _infos_of(tasks: list[Task], where: str) -> list[TaskInfo]:
    return [_info(task, f"{where}[{place}]") for place, task in enumerate(tasks)]


# Not by their from_dict, which takes a text for a list, and hands on an error that does not fit as it is.


def _response(fields: dict[str, Any]) -> TaskResponse:
    return TaskResponse(tasks=_tasks_of(fields, "tasks"), error=_error_of(fields))


def _step_response(fields: dict[str, Any]) -> StepResponse:
    return StepResponse(tasks=_tasks_of(fields, "tasks"), updated=_tasks_of(fields, "updated"), error=_error_of(fields))


def _tasks_of(fields: dict[str, Any], name: str) -> list[Task]:
    items = _list(fields[name], f"$.{name}")
    return [_object(Task.from_dict, item, f"$.{name}[{place}]") for place, item in enumerate(items)]


def _error_of(fields: dict[str, Any]) -> Refusal | None:
    error = fields["error"]
    return None if error is None else _object(Refusal.from_dict, error, "$.error")


def _stats(raw: object) -> Stats:
    # Nor by this one, which takes any object for a list of groups.
    fields = _object(lambda fields: (fields["groups"], fields["totals"], fields["counters"]), raw, "$")
    groups, totals, counters = fields
    return Stats(
        groups=tuple(_group_stats(item, f"$.groups[{place}]") for place, item in enumerate(_list(groups, "$.groups"))),
        totals=_totals(_object(RawTotals.from_dict, totals, "$.totals")),
        counters=_counters(_object(RawCounters.from_dict, counters, "$.counters")),
    )


def _group_stats(raw: object, where: str) -> GroupStats:
    group = _object(RawGroupStats.from_dict, raw, where)
    return GroupStats(
        group=checked_text(group.group, f"{where}.group"),
        available=checked_count(group.available, f"{where}.available"),
        owned=checked_count(group.owned, f"{where}.owned"),
        delayed=checked_count(group.delayed, f"{where}.delayed"),
        oldest_age_ns=checked_count(group.oldest_age, f"{where}.oldest_age"),
    )


def _totals(totals: RawTotals) -> Totals:
    return Totals(
        groups=checked_count(totals.groups, "$.totals.groups"),
        available=checked_count(totals.available, "$.totals.available"),
        owned=checked_count(totals.owned, "$.totals.owned"),
        delayed=checked_count(totals.delayed, "$.totals.delayed"),
    )


def _counters(counters: RawCounters) -> Counters:
    return Counters(
        adds=checked_count(counters.adds, "$.counters.adds"),
        claims=checked_count(counters.claims, "$.counters.claims"),
        updates=checked_count(counters.updates, "$.counters.updates"),
        deletes=checked_count(counters.deletes, "$.counters.deletes"),
        conflicts=checked_count(counters.conflicts, "$.counters.conflicts"),
        expired=checked_count(counters.expired, "$.counters.expired"),
    )


def _refused(refusal: Refusal) -> TaskResponseError:
    error = TaskResponseError(
        changes=_culprits(refusal.changes, "$.error.changes"),
        deletes=_culprits(refusal.deletes, "$.error.deletes"),
        depends=_culprits(refusal.depends, "$.error.depends"),
        owned=_culprits(refusal.owned, "$.error.owned"),
        bugs=[_bug(bug) for bug in _list(refusal.bugs, "$.error.bugs")],
    )
    if not error.has_errors():
        raise _Misfit("$.error names no culprit, so that it is open whether anything was changed")
    return error


def _culprits(raw: object, where: str) -> list[int]:
    return [checked_id(id, where) for id in _list(raw, where)]


def _bug(raw: object) -> str:
    # The published Go server writes its errors as {}, so all there is to say is that there was one.
    return raw if isinstance(raw, str) else f"the server does not say which ({reprlib.repr(raw)})"


def _detail(answer: Answer) -> str:
    if answer.status in range(300, 400):
        return "redirects are not followed: give the address that this one leads to"
    try:
        if "json" in answer.headers.get("content-type", ""):
            problem = _object(Problem.from_dict, json.loads(answer.body.decode()), "$")
            return _line(checked_text(problem.detail, "detail"))
    except (ValueError, RecursionError):
        pass  # then as it stands
    known = (what for begins, what in _OF_THE_GO_SERVER if begins.match(answer.body))
    return _excerpt(answer.body) + "".join(f". This looks like the original Go server, which {what}" for what in known)


def _retry_after(answer: Answer) -> timedelta | None:
    said = answer.headers.get("retry-after", "")
    try:
        if said.isdecimal():
            return max(timedelta(0), timedelta(seconds=int(said)))
        # An instant by the server's clock, which need not agree with ours, but says what it shows.
        after = parsedate_to_datetime(said) - parsedate_to_datetime(answer.headers.get("date", ""))
        return max(timedelta(0), after)
    except (ValueError, TypeError, OverflowError):
        return None


def _excerpt(body: bytes) -> str:
    """The beginning of a body; of an HTML page what a reader would see."""
    return _line(html.unescape(_NOT_TEXT.sub(" ", body[:10_000].decode(errors="replace"))))


def _line(text: str) -> str:
    """The text on one line, without what a terminal might obey, and not too long."""
    line = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
