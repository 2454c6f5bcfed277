"""What a worker is told when it is made, checked once and for both colours.

The laws of this room: values only; what is wrong is said here, before anything is sent.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import attrs

from taskstore.errors import UsageError
from taskstore.model import Duration, GroupRef, TaskRef, checked_group, duration_ns
from taskstore.term import Clock, checked_lease_ns, monotonic_ns
from taskstore.worker.desk import Progress
from taskstore.worker.observers import Observer
from taskstore.worker.outcomes import Policy

LEASE: Final = timedelta(seconds=30)
GRACE: Final = timedelta(seconds=25)
"""Less than the 30 seconds after which Kubernetes kills what it has asked to stop."""
BACKOFF: Final = (timedelta(seconds=1), timedelta(minutes=10))
MAX_ATTEMPTS: Final = 10
BATCH: Final = 1_000
QUARANTINE: Final = "/quarantine"
MOST_IN_HAND: Final = 10_000

ProgressOption: TypeAlias = bool | Callable[[Progress], object]


@attrs.frozen(kw_only=True)
class Options:
    """The options of a worker; see there."""

    groups: tuple[str, ...]
    concurrency: int
    lease_ns: int
    batch: int
    grace_ns: int
    depends: tuple[TaskRef, ...]
    policy: Policy
    observers: tuple[Observer, ...]
    progress: ProgressOption
    clock: Clock


def options(
    group: GroupRef,
    *,
    concurrency: int = 1,
    lease: Duration = LEASE,
    max_attempts: int | None = MAX_ATTEMPTS,
    backoff: tuple[Duration, Duration] = BACKOFF,
    quarantine: str = QUARANTINE,
    batch: int = BATCH,
    depends: Iterable[TaskRef] = (),
    grace: Duration = GRACE,
    observers: Sequence[Observer] = (),
    progress: ProgressOption = False,
    clock: Clock = monotonic_ns,
) -> Options:
    """The options, checked.

    Raises:
        UsageError: One of them makes no sense.
    """
    groups = tuple(dict.fromkeys([group] if isinstance(group, str) else group))
    if not groups:
        raise UsageError("a worker needs a group to claim from, and got an empty list")
    for name in groups:
        checked_group(name)
    if not quarantine or set(groups) & {name + quarantine for name in groups}:
        raise UsageError("a worker must not claim from its own quarantine: name other groups, or another suffix")
    first_ns, most_ns = (duration_ns(each, "backoff") for each in backoff)
    if not 0 < first_ns <= most_ns:
        raise UsageError(f"backoff={backoff!r} has to be two durations: the first pause, and the longest")
    policy = Policy(
        max_attempts=None if max_attempts is None else _count(max_attempts, "max_attempts"),
        backoff_ns=first_ns,
        backoff_most_ns=most_ns,
        suffix=quarantine,
        random=_chance,
        when=_present,
    )
    return Options(
        groups=groups,
        concurrency=_count(concurrency, "concurrency"),
        lease_ns=checked_lease_ns(lease),
        batch=_count(batch, "batch"),
        grace_ns=max(0, duration_ns(grace, "grace")),
        depends=tuple(depends),
        policy=policy,
        observers=tuple(observers),
        progress=progress,
        clock=clock,
    )


def takes_lease(handler: Callable[..., Any]) -> bool:
    """Whether a handler wants the lease as its second argument.

    Raises:
        UsageError: It is not a function of a task, or of a task and a lease.
    """
    if not callable(handler):
        raise UsageError(f"a handler is a function of a task, not {handler!r:.100}")
    try:
        signature = inspect.signature(handler)
    except ValueError:  # Some that are written in C do not tell.
        return False
    for arguments in ((None, None), (None,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        kinds = [each.kind for each in signature.parameters.values()]
        return len(arguments) == 2 and inspect.Parameter.VAR_POSITIONAL not in kinds
    raise UsageError(f"a handler takes a task, or a task and its lease; {handler!r:.100} takes {signature}")


def _count(number: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_IN_HAND:
        raise UsageError(f"{name}={number!r} has to be a whole number from 1 to {MOST_IN_HAND:,}")
    return number


def _present() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _chance() -> float:
    # A function of this module, so that another process draws numbers of its own.
    return random.random()  # noqa: S311 - not for secrets
