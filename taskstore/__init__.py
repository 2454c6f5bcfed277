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
    NotSentError,
    OutcomeUnknownError,
    StoreError,
    TaskResponseError,
    TaskStoreError,
    UsageError,
)
from taskstore.identity import ID
from taskstore.model import Counters, Duration, GroupStats, Instant, Stats, Step, TaskInfo, Totals

__version__ = _version("taskstore")

__all__ = [
    "ID",
    "AnswerError",
    "AsyncHTTPClient",
    "Counters",
    "Duration",
    "GroupStats",
    "HTTPClient",
    "HTTPError",
    "Instant",
    "NotSentError",
    "OutcomeUnknownError",
    "Stats",
    "Step",
    "StoreError",
    "TaskInfo",
    "TaskResponseError",
    "TaskStoreError",
    "Totals",
    "UsageError",
    "__version__",
]
