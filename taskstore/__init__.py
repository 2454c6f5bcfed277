"""A transactional task store over HTTP, from the side of whoever uses one.

from datetime import timedelta
from taskstore import HTTPClient, TaskInfo

with HTTPClient() as store:
    store.update(adds=[TaskInfo("map", "hello")])
    task = store.claim("map", timedelta(seconds=30))
    if task is not None:
        store.update(adds=[TaskInfo("reduce", task.data.upper())], deletes=[task])
"""

from importlib.metadata import version as _version

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
from taskstore.worker import (
    AsyncWorker,
    AsyncWorkLease,
    Done,
    Move,
    Observer,
    Outcome,
    Progress,
    Quarantine,
    Release,
    Retry,
    Worker,
    WorkLease,
)

__version__ = _version("taskstore")

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
