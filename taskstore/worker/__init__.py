"""Workers: claim tasks, keep their leases, call a handler, and settle what it returns, each task once or not at all.

| file         | has                                                                           |
|--------------|-------------------------------------------------------------------------------|
| `outcomes`   | what a handler returns, and what that means for the store                     |
| `desk`       | what is in hand and what to do next: pure, and where all the decisions are    |
| `shift`      | what to send, and what an answer or an error means: what the colours share    |
| `threads`    | carries it out: blocking, in threads                                          |
| `processes`  | several processes of such threads                                             |
| `coroutines` | carries it out: async                                                         |
| `workers`    | `Worker` and `AsyncWorker`, which an application makes and runs               |
"""

from taskstore.worker.coroutines import AsyncWorkLease
from taskstore.worker.desk import Progress
from taskstore.worker.observers import Observer
from taskstore.worker.outcomes import Done, Move, Outcome, Quarantine, Release, Retry
from taskstore.worker.threads import WorkLease
from taskstore.worker.workers import AsyncWorker, Worker

__all__ = [
    "AsyncWorkLease",
    "AsyncWorker",
    "Done",
    "Move",
    "Observer",
    "Outcome",
    "Progress",
    "Quarantine",
    "Release",
    "Retry",
    "WorkLease",
    "Worker",
]
