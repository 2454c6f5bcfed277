"""The shapes of the contract as the server reads and writes them.

A request is checked against the contract's bounds while it is decoded; what exists afterwards is valid. This is the
server's own translation of openapi.yaml. It shares nothing with the client's, for if both sides translated with the
same code, a wrong translation would agree with itself.

The law of this room: names on the wire are the historic ones, names in Python say what is meant.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias, final

import msgspec
from msgspec import UNSET, UnsetType

from taskstore.model import INT32, INT64, LONGEST_NS

MAX_ITEMS: Final = 10_000
"""The most elements that each list of a request may have."""
MAX_GROUP: Final = 512
"""The most characters of a group's name. In UTF-8 that still fits a PostgreSQL index row."""
MAX_GROUPS: Final = 1_000
"""The most groups that a claim may name."""
LONGEST_WAIT_NS: Final = 3_600 * 10**9
"""The longest that an answer is held back: an hour."""
MAX_DATA: Final = 1 << 20
"""The most bytes, in UTF-8, of a task's data."""

_Int64 = Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[-1])]
_ClientId = Annotated[int, msgspec.Meta(ge=INT32[0], le=INT32[-1])]
_TimeSpec = Annotated[int, msgspec.Meta(ge=-LONGEST_NS, le=INT64[-1])]
_LeaseDuration = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_NS)]
_GroupName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_GROUP)]
_Data = Annotated[str, msgspec.Meta(max_length=MAX_DATA)]
_Ids = Annotated[list[_Int64], msgspec.Meta(max_length=MAX_ITEMS)]
_ClaimGroups = Annotated[list[_GroupName], msgspec.Meta(min_length=1, max_length=MAX_GROUPS)]
_ClaimLimit = Annotated[int, msgspec.Meta(ge=1, le=MAX_ITEMS)]
_Wait = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_WAIT_NS)]
_REQUIRED: Final = -1
"""A required field that stands after an optional one: no valid value, so that it is told when nothing was given."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """A task as it stands in the store."""

    id: int
    group: str
    data: str
    available: int = msgspec.field(name="duration")
    """The instant from which the task is available, in nanoseconds since the epoch."""
    owner: int = msgspec.field(name="ownerid")
    """The client id that last added, changed or claimed the task."""
    attempts: int = 0
    """How often the task has been claimed since it was added."""


class TaskAdd(msgspec.Struct, frozen=True, gc=False):
    """A task to be added."""

    group: _GroupName
    data: _Data = ""
    timespec: _TimeSpec = msgspec.field(name="duration", default=0)
    """Positive: the instant of availability; else the negated delay from now. Nanoseconds."""


class TaskUpdate(msgspec.Struct, frozen=True, gc=False):
    """A task to be changed. The group stays, what is not named is reset."""

    id: _Int64
    data: _Data = ""
    timespec: _TimeSpec = msgspec.field(name="duration", default=0)
    """As in `TaskAdd`."""


@final
class Update(msgspec.Struct, frozen=True, gc=False):
    """The body of an update. An absent list and a null one are empty ones."""

    client: _ClientId = msgspec.field(name="clientid")
    adds: Annotated[list[TaskAdd], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    updates: Annotated[list[TaskUpdate], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    deletes: _Ids | None = None
    depends: _Ids | None = None


@final
class Claim(msgspec.Struct, frozen=True, gc=False):
    """The body of a claim: from one group, or from one of several."""

    client: _ClientId = msgspec.field(name="clientid")
    group: _GroupName | UnsetType = UNSET
    duration: _LeaseDuration = _REQUIRED
    """How long the lease lasts, in nanoseconds."""
    depends: _Ids | None = None
    groups: _ClaimGroups | UnsetType = UNSET
    limit: _ClaimLimit = 1
    """At most this many tasks."""
    wait: _Wait = 0
    """For how long the answer may be held back until there is a task, in nanoseconds."""

    def __post_init__(self) -> None:
        _check_claim(self)

    @property
    def names(self) -> Sequence[str]:
        """The groups, in the order in which they are to be tried."""
        return (self.group,) if isinstance(self.group, str) else tuple(self.groups or ())


class StepUpdate(msgspec.Struct, frozen=True, gc=False):
    """The update of a step; as `Update`, in the same order of fields, and the client is the step's."""

    adds: Annotated[list[TaskAdd], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    updates: Annotated[list[TaskUpdate], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    deletes: _Ids | None = None
    depends: _Ids | None = None


class StepClaim(msgspec.Struct, frozen=True, gc=False):
    """The claim of a step; as `Claim`, in the same order of fields, and the client is the step's."""

    group: _GroupName | UnsetType = UNSET
    duration: _LeaseDuration = _REQUIRED
    depends: _Ids | None = None
    groups: _ClaimGroups | UnsetType = UNSET
    limit: _ClaimLimit = 1
    wait: _Wait = 0

    def __post_init__(self) -> None:
        _check_claim(self)


class StepBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a step."""

    client: _ClientId = msgspec.field(name="clientid")
    update: StepUpdate | None = None
    claim: StepClaim | None = None


@final
class Step(msgspec.Struct, frozen=True, gc=False):
    """An update and then a claim, in one."""

    update: Update
    claim: Claim | None = None

    @classmethod
    def of(cls, body: StepBody) -> "Step":
        """The step that a body describes, with its client in both parts."""
        update = Update(body.client) if body.update is None else Update(body.client, *_values(body.update))
        return cls(update, None if body.claim is None else Claim(body.client, *_values(body.claim)))


@final
class Keyed(msgspec.Struct, frozen=True, gc=False):
    """A request that is to be carried out once, however often it comes."""

    request: Update | Claim | Step
    key: str
    """The client's name for this one call."""
    fingerprint: bytes
    """A digest of the request, by which another one under the same key is told."""
    amends: "Record | None" = None
    """For the waiting claim of a step whose update is done: the record of that, to be completed."""

    @property
    def client(self) -> int:
        """Who asks."""
        return self.request.update.client if type(self.request) is Step else self.request.client


def _check_claim(claim: Claim | StepClaim) -> None:
    if (claim.group is UNSET) == (claim.groups is UNSET):
        raise ValueError("exactly one of group and groups has to be given")
    if claim.duration == _REQUIRED:
        raise ValueError("Object missing required field duration")


def _values(struct: msgspec.Struct) -> list[Any]:
    return [getattr(struct, field) for field in struct.__struct_fields__]


Request: TypeAlias = Update | Claim | Step | Keyed


class Record(msgspec.Struct, frozen=True, gc=False):
    """What a keyed request did: as much of it as its answer cannot be made of again without."""

    client: int
    key: str
    fingerprint: bytes
    now: int
    """The instant at which it was carried out, in nanoseconds since the epoch."""
    ids: list[int]
    """The ids of the tasks that its update made."""
    changed: list[Task]
    """The tasks that it changed, as they were before, without their data."""
    claimed: list[Task]
    """The tasks that it claimed."""


class Refusal(msgspec.Struct, frozen=True):
    """Why the present state of the store forbids a request: every culprit, in the order asked."""

    changes: list[int] = []
    deletes: list[int] = []
    depends: list[int] = []
    owned: list[int] = []
    bugs: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.changes or self.deletes or self.depends or self.owned or self.bugs)


@final
class Outcome(msgspec.Struct, frozen=True):
    """The answer to an update or a claim: the new tasks, or why nothing has changed."""

    tasks: list[Task] = []
    error: Refusal | None = None


@final
class StepOutcome(msgspec.Struct, frozen=True):
    """The answer to a step: what it claimed, what its update made, or why nothing has changed."""

    tasks: list[Task] = []
    updated: list[Task] = []
    error: Refusal | None = None


@final
class Replayed(msgspec.Struct, frozen=True):
    """The answer to a keyed request that was carried out before."""

    outcome: Outcome | StepOutcome


@final
class KeyMisused(msgspec.Struct, frozen=True):
    """The answer to a keyed request whose key has been used for another one."""


Answer: TypeAlias = Outcome | StepOutcome | Replayed | KeyMisused


class GroupStats(msgspec.Struct, frozen=True):
    """What one group holds."""

    group: str
    available: int
    owned: int
    delayed: int
    oldest_age: int
    """For how many nanoseconds the oldest available task has been available."""


class Totals(msgspec.Struct, frozen=True):
    """What all groups hold together."""

    groups: int
    available: int
    owned: int
    delayed: int


class Counters(msgspec.Struct):
    """What a server has done since it started."""

    adds: int = 0
    claims: int = 0
    updates: int = 0
    deletes: int = 0
    conflicts: int = 0
    expired: int = 0


class Stats(msgspec.Struct, frozen=True):
    """The answer to `stats`."""

    groups: list[GroupStats]
    totals: Totals
    counters: Counters


class Problem(msgspec.Struct, frozen=True):
    """The body of every answer whose status is not 200 (RFC 9457)."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
