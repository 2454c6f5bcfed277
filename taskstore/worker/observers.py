"""Hooks: what happens in a worker, told to whoever keeps metrics or shows progress.

The laws of this room: an observer is told and asked nothing; what it raises is logged and disturbs no work.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from taskstore.model import TaskInfo
from taskstore.worker.outcomes import Outcome

_log: Final = logging.getLogger("taskstore.worker")


class Observer:
    """Is told what happens in a worker. Override what you want to know; be quick, for the worker waits.

    A worker of threads calls from all of them. In worker processes there is a copy in each, so it has to be picklable.
    """

    def claimed(self, tasks: Sequence[TaskInfo]) -> None:
        """These tasks were claimed, under these ids."""

    def started(self, task: TaskInfo) -> None:
        """A handler is about to be called."""

    def finished(self, task: TaskInfo, outcome: Outcome, took_ns: int, error: BaseException | None) -> None:
        """A handler has ended after so many nanoseconds, by an exception if there is one. Nothing is settled yet."""

    def settled(self, task: TaskInfo, outcome: Outcome) -> None:
        """The store has taken an outcome. For a `Done` that means once and for all."""

    def lost(self, task: TaskInfo) -> None:
        """The lease was lost, and the handler's work is dropped."""

    def failed(self, error: BaseException) -> None:
        """The store could not be reached, or refused something; the worker goes on."""


class Observers:
    """Several observers, told one after the other; none costs next to nothing."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._all: Final = tuple(observers)

    def __bool__(self) -> bool:
        return bool(self._all)

    def tell(self, what: str, *about: object) -> None:
        """Tell each of them; `what` is the name of a method of `Observer`, and the rest its arguments."""
        for observer in self._all:
            try:
                getattr(observer, what)(*about)
            except Exception:  # noqa: BLE001 - whatever it raises is its own affair
                _log.exception("%r failed", observer)
