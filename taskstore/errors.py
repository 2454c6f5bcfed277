"""Everything that is raised on purpose, in the order of what the caller does next.

| raised | was anything changed? | next |
|---|---|---|
| `UsageError` | no | mend the call |
| `NotSentError` | no, nothing was sent | repeat it, once the server is there |
| `TaskResponseError` | no, the store refused | drop the work: somebody else has it |
| `LeaseLostError` | no | stop the work: somebody else has it, or will |
| `HTTPError` of 300 to 499 | no | mend the request, the address or the credentials |
| any other `HTTPError` | unknown | read before repeating |
| `OutcomeUnknownError` | unknown | read before repeating |
| `AnswerError` | unknown | see what answers there: it does not keep the contract |
| `StoreError` | - | for whoever runs a server: the store cannot be used |

Where it says unknown, a call that only reads has of course changed nothing: then `applied` is False. A client repeats
calls by itself before it raises any of these; where one of its attempts may have been carried out, `applied` is None
whatever the last one came to.

The laws of this room: an error holds data, not only prose; it survives pickling and copying; it never shows a
credential.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

_E = TypeVar("_E", bound="TaskStoreError")


def _restored(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class TaskStoreError(Exception):
    """The base of all our errors."""

    applied: bool | None = False
    """False: the call certainly changed nothing. None: unknown, the store has to be read to find out."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is rebuilt as cls(*args), which fails for every __init__ of another shape.
        return _restored, (type(self), self.args, self.__dict__)


class UsageError(TaskStoreError, ValueError):
    """The call made no sense, and nothing was sent. The message says what to change."""


class NotSentError(TaskStoreError):
    """No connection could be made, so nothing was sent and nothing changed. Safe to repeat."""


class TaskResponseError(TaskStoreError):
    """The store understood the request and refused it; nothing changed.

    All culprits are named, not only the first. For a worker that was about to finish a task this is no accident but
    the promise at work: the task, or one it depends on, is in other hands now, so drop the result.
    """

    def __init__(
        self,
        *,
        changes: Sequence[int] = (),
        deletes: Sequence[int] = (),
        depends: Sequence[int] = (),
        owned: Sequence[int] = (),
        bugs: Sequence[str] = (),
    ) -> None:
        self.changes: Final = tuple(changes)
        """Ids that were to be changed and do not exist."""
        self.deletes: Final = tuple(deletes)
        """Ids that were to be deleted and do not exist."""
        self.depends: Final = tuple(depends)
        """Ids that were depended on and do not exist."""
        self.owned: Final = tuple(owned)
        """Ids that were to be changed or deleted and are under the lease of another client."""
        self.bugs: Final = tuple(bugs)
        """How the request contradicted itself, in words."""
        super().__init__(self._message())

    def has_dependency_errors(self) -> bool:
        """Whether a task was missing or in other hands; the usual case, which needs no repair."""
        return bool(self.changes or self.deletes or self.depends or self.owned)

    def has_bugs(self) -> bool:
        """Whether the request contradicted itself, which only a change of the program can mend."""
        return bool(self.bugs)

    def has_errors(self) -> bool:
        """Whether there is any culprit at all; always true for an error that was raised."""
        return self.has_dependency_errors() or self.has_bugs()

    def _message(self) -> str:
        gone = "somebody has changed or deleted it since"
        reasons = [
            f"{what} {', '.join(map(str, ids))} ({why})"
            for what, ids, why in (
                ("cannot change missing task", self.changes, gone),
                ("cannot delete missing task", self.deletes, gone),
                ("depends on missing task", self.depends, gone),
                ("not the owner of task", self.owned, "another client's lease on it still runs"),
            )
            if ids
        ]
        reasons += [f"contradictory request: {bug}" for bug in self.bugs]
        return "nothing was changed: " + ("; ".join(reasons) or "the store gave no reason")


class LeaseLostError(TaskStoreError):
    """The task that was worked on is no longer ours, so nothing was committed and nothing can be.

    Its lease ran out before it was renewed, because this process or the network hung; or the store has refused it.
    Somebody else has the task, or will have it: stop, and leave alone what is outside the store.
    """

    def __init__(self, task_id: int, why: str) -> None:
        self.task_id: Final = task_id
        """The id that the task had when it was last ours."""
        self.why: Final = why
        """What has happened, in words."""
        super().__init__(f"task {task_id} is no longer ours: {why}")


class HTTPError(TaskStoreError):
    """The server answered with another status than 200.

    From 300 to 499 nothing was changed. From 500 on (a gateway gave up, the server's disk is full) it is unknown, and
    so it is below 300, where the contract knows no other status than 200.
    """

    def __init__(
        self, status: int, *, request: str = "", detail: str = "", retry_after: timedelta | None = None
    ) -> None:
        self.status: Final = status
        """The HTTP status."""
        self.request: Final = request
        """Method and address, without credentials."""
        self.detail: Final = detail
        """What the server said about it, shortened."""
        self.retry_after: Final = retry_after
        """For how long the server asks to be left alone; None if it does not say."""
        self.applied = False if status in range(300, 500) else None
        super().__init__(": ".join(filter(None, (f"status {status}", request, detail))))


class OutcomeUnknownError(TaskStoreError):
    """The request was sent, but no complete answer came back: a timeout, or a broken connection.

    The store may or may not have carried it out. Look (with `task`, `tasks` or `group`) before you repeat it.
    """

    applied: bool | None = None


class AnswerError(TaskStoreError):
    """The server answered with status 200 and something that does not fit the contract.

    Usually something else than a taskstore server listens at this address. Whether anything changed is unknown.
    """

    applied: bool | None = None


class StoreError(TaskStoreError):
    """For whoever runs a server: the store cannot be opened or used. The message says why and what to do."""
