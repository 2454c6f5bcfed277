"""The shapes of the contract as the server reads and writes them.

A request is checked against the contract's bounds while it is decoded; what exists afterwards is valid. This is the
server's own translation of openapi.yaml. It shares nothing with the client's, for if both sides translated with the
same code, a wrong translation would agree with itself.

The law of this room: names on the wire are the historic ones, names in Python say what is meant.
"""

from typing import Annotated, Final, TypeAlias

import msgspec

from taskstore.model import INT32, INT64, LONGEST_NS

MAX_ITEMS: Final = 10_000
"""The most elements that each list of a request may have."""
MAX_GROUP: Final = 512
"""The most characters of a group's name. In UTF-8 that still fits a PostgreSQL index row."""
MAX_DATA: Final = 1 << 20
"""The most bytes, in UTF-8, of a task's data."""

_Int64 = Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[-1])]
_ClientId = Annotated[int, msgspec.Meta(ge=INT32[0], le=INT32[-1])]
_TimeSpec = Annotated[int, msgspec.Meta(ge=-LONGEST_NS, le=INT64[-1])]
_LeaseDuration = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_NS)]
_GroupName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_GROUP)]
_Data = Annotated[str, msgspec.Meta(max_length=MAX_DATA)]
_Ids = Annotated[list[_Int64], msgspec.Meta(max_length=MAX_ITEMS)]


class Task(msgspec.Struct, frozen=True, gc=False):
    """A task as it stands in the store."""

    id: int
    group: str
    data: str
    available: int = msgspec.field(name="duration")
    """The instant from which the task is available, in nanoseconds since the epoch."""
    owner: int = msgspec.field(name="ownerid")
    """The client id that last added, changed or claimed the task."""


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


class Update(msgspec.Struct, frozen=True, gc=False):
    """The body of an update. An absent list and a null one are empty ones."""

    client: _ClientId = msgspec.field(name="clientid")
    adds: Annotated[list[TaskAdd], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    updates: Annotated[list[TaskUpdate], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    deletes: _Ids | None = None
    depends: _Ids | None = None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The body of a claim."""

    client: _ClientId = msgspec.field(name="clientid")
    group: _GroupName
    duration: _LeaseDuration
    """How long the lease lasts, in nanoseconds."""
    depends: _Ids | None = None


Request: TypeAlias = Update | Claim


class Refusal(msgspec.Struct, frozen=True):
    """Why the present state of the store forbids a request: every culprit, in the order asked."""

    changes: list[int] = []
    deletes: list[int] = []
    depends: list[int] = []
    owned: list[int] = []
    bugs: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.changes or self.deletes or self.depends or self.owned or self.bugs)


class Outcome(msgspec.Struct, frozen=True):
    """The answer to an update or a claim: the new tasks, or why nothing has changed."""

    tasks: list[Task] = []
    error: Refusal | None = None


class Problem(msgspec.Struct, frozen=True):
    """The body of every answer whose status is not 200 (RFC 9457)."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
