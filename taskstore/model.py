"""Frozen values: what a task is and how times are written.

The laws of this room: nothing here does I/O or reads a clock; a value that exists is valid; a time is an integer
number of nanoseconds and never passes through a float, since today's instants need 61 bits and a float holds 53.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import attrs

from taskstore.errors import UsageError

INT32: Final = range(-(2**31), 2**31)
INT64: Final = range(-(2**63), 2**63)
_INT32_FIRST: Final = INT32[0]
_INT32_LAST: Final = INT32[-1]
_INT64_FIRST: Final = INT64[0]
_INT64_LAST: Final = INT64[-1]
LONGEST_NS: Final = 100 * 365 * 24 * 3600 * 10**9
"""The longest lease or delay there is: 100 years. Bounded so that now plus a duration always fits an int64."""

Duration: TypeAlias = timedelta | int
"""A length of time: a `timedelta`, or an integer number of nanoseconds."""

Instant: TypeAlias = datetime | int
"""A point in time: an aware `datetime`, or an integer number of nanoseconds since 1970-01-01T00:00:00Z."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = 60
"""How many characters of a task's data its repr shows."""


def duration_ns(duration: Duration, name: str = "duration") -> int:
    """`duration` as integer nanoseconds, exactly.

    Raises:
        UsageError: `duration` is neither a `timedelta` nor an `int`, or is longer than 100 years. `name` is what the
            message calls it.
    """
    if isinstance(duration, timedelta):
        ns = (duration.days * 86_400 + duration.seconds) * 10**9 + duration.microseconds * 1_000
    elif not isinstance(duration, bool) and isinstance(duration, int):
        ns = duration
    else:
        raise UsageError(
            f"{name}={duration!r} has no unit: give a timedelta, such as timedelta(seconds=30), "
            "or an integer number of nanoseconds"
        )
    if abs(ns) > LONGEST_NS:
        raise UsageError(f"{name} is {ns} ns, and 100 years ({LONGEST_NS} ns) is the most")
    return ns


def instant_ns(instant: Instant, name: str = "instant") -> int:
    """`instant` as integer nanoseconds since 1970-01-01T00:00:00Z, exactly.

    Raises:
        UsageError: `instant` is naive (has no time zone), or is neither a `datetime` nor an `int`, or does not fit 64
            bits. `name` is what the message calls it.
    """
    if isinstance(instant, datetime):
        if instant.utcoffset() is None:
            raise UsageError(
                f"{name}={instant!r} has no time zone: say which one, as in datetime.now(UTC) "
                "or instant.replace(tzinfo=...)"
            )
        since = instant - _EPOCH
        ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    elif not isinstance(instant, bool) and isinstance(instant, int):
        ns = instant
    else:
        raise UsageError(
            f"{name}={instant!r} is not an instant: give an aware datetime, "
            "or an integer number of nanoseconds since 1970-01-01T00:00:00Z"
        )
    if ns not in INT64:
        raise UsageError(f"{name} is {ns} ns, which does not fit 64 bits (the last instant is in the year 2262)")
    return ns


def delay_timespec(available_in: Duration) -> int:
    """The timespec that says "available in this time from the server's now"; zero for a time that has passed."""
    return -max(0, duration_ns(available_in, "available_in"))


def instant_timespec(available_at: Instant) -> int:
    """The timespec that says "available at this instant"; instants up to 1970 become the earliest one there is."""
    return max(1, instant_ns(available_at, "available_at"))


def checked_text(text: str, name: str) -> str:
    """`text` itself, if it is a `str` that can be written as UTF-8.

    Raises:
        UsageError: it is something else, or holds a lone surrogate, which is half a character and cannot be sent.
    """
    if not isinstance(text, str):
        raise UsageError(f"{name} has to be a str, not {type(text).__name__}: {text!r:.100}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{name} holds a lone surrogate at position {error.start}, which no UTF-8 can carry; "
                "for bytes use an encoding such as base64"
            ) from None
    return text


def checked_group(name: str) -> str:
    """`name` itself, if it can be the name of a group: any text but the empty one.

    Raises:
        UsageError: it is empty, not a `str`, or holds a lone surrogate.
    """
    if name == "":
        raise UsageError("the name of a group must not be empty")
    return checked_text(name, "group")


def checked_id(id: int, name: str = "id") -> int:
    """`id` itself, if it is an `int` of 64 bits.

    Raises:
        UsageError: it is something else.
    """
    if type(id) is int and _INT64_FIRST <= id <= _INT64_LAST:  # the usual case, and there may be thousands
        return id
    if isinstance(id, bool) or not isinstance(id, int):
        raise UsageError(f"{name} has to be an int, not {type(id).__name__}: {id!r:.100}")
    if id not in INT64:
        raise UsageError(f"{name}={id} does not fit 64 bits")
    return id


def checked_client_id(client_id: int) -> int:
    """`client_id` itself, if it is an `int` of 32 bits.

    Raises:
        UsageError: it is something else.
    """
    if type(client_id) is int and _INT32_FIRST <= client_id <= _INT32_LAST:
        return client_id
    if checked_id(client_id, "client id") not in INT32:
        raise UsageError(f"the client id {client_id} does not fit 32 bits")
    return client_id


def checked_count(number: int, name: str) -> int:
    """`number` itself, if it is an `int` from 0 on.

    Raises:
        UsageError: it is something else.
    """
    if checked_id(number, name) < 0:
        raise UsageError(f"{name}={number} has to be 0 or more")
    return number


def _attempts(attempts: int) -> int:
    if type(attempts) is int and 0 <= attempts <= _INT32_LAST:
        return attempts
    if checked_count(attempts, "attempts") not in INT32:
        raise UsageError(f"attempts={attempts} does not fit 32 bits")
    return attempts


def _data(data: str) -> str:
    return checked_text(data, "data")


def _timespec(timespec: int | timedelta | datetime) -> int:
    if type(timespec) is int and 0 <= timespec <= _INT64_LAST:
        return timespec
    if isinstance(timespec, timedelta):
        return delay_timespec(timespec)
    if isinstance(timespec, datetime):
        return instant_timespec(timespec)
    ns = instant_ns(timespec, "timespec")
    return -duration_ns(-ns, "timespec") if ns < 0 else ns


@attrs.frozen(repr=False)
class TaskInfo:
    """A task: what is to be done, from when on, and who holds it.

    A `TaskInfo` never changes, just as a task in the store never changes in place. To change a task, hand
    `task.replace(...)` to `update`; the store then answers with a new one under a new id.

    Raises:
        UsageError: an argument is of the wrong type or out of range; the message says which and why.
    """

    group: str = attrs.field(converter=checked_group)
    """The group that the task belongs to; any text but the empty one. An update cannot change it."""

    data: str = attrs.field(default="", converter=_data)
    """What the task says; any text. The store never looks inside."""

    timespec: int = attrs.field(default=0, converter=_timespec)
    """From when the task is available, in nanoseconds.

    Positive: the instant, since 1970-01-01T00:00:00Z; every task that comes from a store has that. Zero or negative:
    counted from the server's now, so that -60_000_000_000 is in a minute. A `timedelta` (a delay) or an aware
    `datetime` is taken too and turned into this.
    """

    id: int = attrs.field(default=0, converter=checked_id)
    """The id under which the store holds the task; 0 for one that is not stored yet."""

    owner_id: int = attrs.field(default=0, converter=checked_client_id)
    """The client id that last added, changed or claimed the task."""

    attempts: int = attrs.field(default=0, converter=_attempts)
    """How often the task has been claimed since it was added; updates keep it. 0 from a server that does not say."""

    @property
    def available_at(self) -> datetime:
        """The instant from which the task is available, in UTC, rounded down to microseconds.

        Raises:
            UsageError: the task is not stored yet and says only a delay, which the server's clock will count from.
        """
        if self.timespec <= 0:
            raise UsageError(
                f"this task says only a delay, {-self.timespec} ns from the server's now; "
                "the task that `update` returns has an instant"
            )
        return _EPOCH + timedelta(microseconds=self.timespec // 1_000)

    def replace(
        self,
        *,
        data: str | None = None,
        available_in: Duration | None = None,
        available_at: Instant | None = None,
    ) -> "TaskInfo":
        """This task with changes, to be handed to `update`. What is not named stays as it is, the lease included.

        Args:
            data: The new data.
            available_in: Available in this time from the server's now. For a task under a lease that renews the
                lease (`timedelta(seconds=30)`) or gives the task back (`timedelta(0)`).
            available_at: Available at this instant; the relative form is safer, for it needs no clock here.

        Raises:
            UsageError: both times are given, or a value is of the wrong type.
        """
        timespec = self.timespec
        if available_in is not None and available_at is not None:
            raise UsageError("give available_in or available_at, not both")
        if available_in is not None:
            timespec = delay_timespec(available_in)
        elif available_at is not None:
            timespec = instant_timespec(available_at)
        return attrs.evolve(self, data=self.data if data is None else data, timespec=timespec)

    def __repr__(self) -> str:
        data = repr(self.data)
        if len(self.data) > _SHOWN:
            data = f"{self.data[:_SHOWN]!r}... ({len(self.data):,} characters)"
        return (
            f"TaskInfo(group={self.group!r}, data={data}, timespec={self.timespec}, "
            f"id={self.id}, owner_id={self.owner_id}, attempts={self.attempts})"
        )


TaskRef: TypeAlias = TaskInfo | int
"""A task that the store holds, or its id."""

GroupRef: TypeAlias = str | Sequence[str]
"""The name of a group, or the names of several."""


@attrs.frozen
class Step:
    """What has come of a `step`."""

    claimed: tuple[TaskInfo, ...] = ()
    """The tasks that were claimed, under new ids."""

    updated: tuple[TaskInfo, ...] = ()
    """The new tasks of the update: one for each of `adds`, then one for each of `updates`."""


@attrs.frozen
class GroupStats:
    """How many tasks a group has."""

    group: str
    """The group's name."""

    available: int
    """Tasks that can be claimed now."""

    owned: int
    """Tasks that cannot, and that have been claimed before; most of them are under a lease."""

    delayed: int
    """Tasks that cannot, and that have never been claimed."""

    oldest_age_ns: int
    """For how many nanoseconds the oldest available task has been available; 0 where none is."""

    @property
    def oldest_age(self) -> timedelta:
        """For how long the oldest available task has been available, rounded down to microseconds."""
        return timedelta(microseconds=self.oldest_age_ns // 1_000)


@attrs.frozen
class Totals:
    """How many groups and tasks a store has."""

    groups: int
    """Groups that have a task."""

    available: int
    """Tasks that can be claimed now."""

    owned: int
    """Tasks that cannot, and that have been claimed before."""

    delayed: int
    """Tasks that cannot, and that have never been claimed."""


@attrs.frozen
class Counters:
    """What a server has done since it started."""

    adds: int
    """Tasks added."""

    claims: int
    """Tasks claimed."""

    updates: int
    """Tasks changed."""

    deletes: int
    """Tasks deleted."""

    conflicts: int
    """Requests refused."""

    expired: int
    """Tasks claimed once more, after their lease ran out or they were given back."""


@attrs.frozen
class Stats:
    """What a store holds, and what the server that was asked has done."""

    groups: tuple[GroupStats, ...]
    """The groups that were asked for, sorted by name."""

    totals: Totals
    """What all groups hold together, whatever was asked for; may be some seconds old."""

    counters: Counters
    """What this server has done since it started."""
