"""A transactional task store over HTTP, from the side of whoever uses one.

from datetime import timedelta
from taskstore import HTTPClient, TaskInfo

with HTTPClient() as store:
    store.update(adds=[TaskInfo("map", "hello")])
    task = store.claim("map", timedelta(seconds=30))
    if task is not None:
        store.update(adds=[TaskInfo("reduce", task.data.upper())], deletes=[task])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taskstore.client import AsyncHTTPClient, HTTPClient
    from taskstore.errors import (
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
    from taskstore.identity import ID
    from taskstore.lease import AsyncLease, Lease
    from taskstore.model import Counters, Duration, GroupStats, Instant, Stats, Step, TaskInfo, Totals
    from taskstore.worker.coroutines import AsyncWorkLease
    from taskstore.worker.desk import Progress
    from taskstore.worker.observers import Observer
    from taskstore.worker.outcomes import Done, Move, Outcome, Quarantine, Release, Retry
    from taskstore.worker.threads import WorkLease
    from taskstore.worker.workers import AsyncWorker, Worker

    __version__: str

_HOMES: Final = {
    "client": "AsyncHTTPClient HTTPClient",
    "errors": "AnswerError HTTPError LeaseLostError NotSentError OutcomeUnknownError StoreError TaskResponseError "
    "TaskStoreError UsageError",
    "identity": "ID",
    "lease": "AsyncLease Lease",
    "model": "Counters Duration GroupStats Instant Stats Step TaskInfo Totals",
    "worker.coroutines": "AsyncWorkLease",
    "worker.desk": "Progress",
    "worker.observers": "Observer",
    "worker.outcomes": "Done Move Outcome Quarantine Release Retry",
    "worker.threads": "WorkLease",
    "worker.workers": "AsyncWorker Worker",
}
"""Where each of them is. It is imported when it is first asked for: httpx alone takes longer than many a command."""

if not TYPE_CHECKING:  # or else a type checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value = import_module("importlib.metadata").version("taskstore")
        else:
            home = next((home for home, names in _HOMES.items() if name in names.split()), None)
            if home is None:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
            value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__]


__all__ = [
    "ID",
    "AnswerError",
    "AsyncHTTPClient",
    "AsyncLease",
    "AsyncWorkLease",
    "AsyncWorker",
    "Counters",
    "Done",
    "Duration",
    "GroupStats",
    "HTTPClient",
    "HTTPError",
    "Instant",
    "Lease",
    "LeaseLostError",
    "Move",
    "NotSentError",
    "Observer",
    "Outcome",
    "OutcomeUnknownError",
    "Progress",
    "Quarantine",
    "Release",
    "Retry",
    "Stats",
    "Step",
    "StoreError",
    "TaskInfo",
    "TaskResponseError",
    "TaskStoreError",
    "Totals",
    "UsageError",
    "WorkLease",
    "Worker",
    "__version__",
]
