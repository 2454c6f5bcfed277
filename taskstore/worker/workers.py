"""Workers, in two colours: what an application makes and runs.

The laws of this room: the two classes take the same options and have the same methods, and differ only by `await`; what
an option does is written on the blocking one; a worker decides nothing itself.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeAlias

from taskstore.client import AsyncHTTPClient, HTTPClient
from taskstore.errors import UsageError
from taskstore.model import Duration, GroupRef, TaskRef
from taskstore.term import Clock, monotonic_ns
from taskstore.worker import options as opts
from taskstore.worker.coroutines import AsyncHandler, Coroutines
from taskstore.worker.desk import Progress
from taskstore.worker.observers import Observer
from taskstore.worker.options import ProgressOption, takes_lease
from taskstore.worker.processes import Processes
from taskstore.worker.signals import stopping
from taskstore.worker.threads import Handler, Threads

ClientSource: TypeAlias = HTTPClient | Callable[[], HTTPClient]
"""A client; or something that makes one, in each process of a worker."""


class Worker:
    """Does the tasks of a group: claims them, keeps their leases, calls a handler, and settles what it returns.

        def resize(task: TaskInfo) -> Done:
            return Done(adds=[TaskInfo("publish", shrunk(task.data))])

        with HTTPClient() as client:
            Worker(client, "resize", resize).run()

    A handler is a function of a task, or of a task and its `WorkLease`. It returns what should happen, as a value:
    `Done(...)`, and None is the same as `Done()`; `Retry`, `Release`, `Move` or `Quarantine`. An exception means that
    the task is tried again after a pause that grows, and is put into quarantine after `max_attempts`.

    What a handler returns happens once or not at all, whatever dies when: the task is deleted, and what follows from it
    is added, in one update, which the store refuses if the task has been given to somebody else meanwhile. The handler
    itself can run more than once, so what it does outside the store should bear that; `task.id` is another one each
    time and grows, so that whoever remembers the largest can tell a late run from the latest.

    Args:
        client: How to reach the store; for several processes, something that makes a client, such as
            `functools.partial(HTTPClient, url)`.
        group: The group to claim from, or several.
        handler: What is done with a task. For several processes it has to be importable.
        concurrency: How many handlers run at a time, in threads, in each process.
        processes: How many processes work; 0 for this one. Each has a client and an identity of its own; one that dies
            is replaced, and its tasks come back when their leases run out.
        lease: How long a task is held. It is renewed while the handler runs, so this is how long a task is stuck when
            its worker dies, and not how long a handler may take.
        max_attempts: How often a task is claimed before an exception puts it into quarantine; None for any number.
            Counts every claim, whatever came of it.
        backoff: The bound of the pause after the first failure, which doubles with each attempt, and its largest
            value. The pause is a random part of the bound.
        quarantine: What to append to the group's name to get the group for quarantined tasks.
        batch: The most tasks to have in hand. Only while tasks are quick are more claimed than can be started at once.
        depends: Tasks, or ids, that every claim depends on; once one is gone, the worker stops.
        grace: After a signal, how long running handlers may go on before their tasks are given back.
        observers: Are told what happens, for metrics.
        progress: Something to be called with a `Progress` several times a second; or True for a bar, by rich.
        clock: What time it is, in nanoseconds; for tests.

    Raises:
        UsageError: An option makes no sense.
    """

    def __init__(
        self,
        client: ClientSource,
        group: GroupRef,
        handler: Handler,
        *,
        concurrency: int = 1,
        processes: int = 0,
        lease: Duration = opts.LEASE,
        max_attempts: int | None = opts.MAX_ATTEMPTS,
        backoff: tuple[Duration, Duration] = opts.BACKOFF,
        quarantine: str = opts.QUARANTINE,
        batch: int = opts.BATCH,
        depends: Iterable[TaskRef] = (),
        grace: Duration = opts.GRACE,
        observers: Sequence[Observer] = (),
        progress: ProgressOption = False,
        clock: Clock = monotonic_ns,
    ) -> None:
        takes_lease(handler)
        if processes and isinstance(client, HTTPClient):
            raise UsageError(
                "a client's connections belong to one process: give several processes something that makes a client, "
                "such as functools.partial(HTTPClient, url)"
            )
        self._client = client
        self._handler = handler
        self._processes = processes
        self._options = opts.options(
            group,
            concurrency=concurrency,
            lease=lease,
            max_attempts=max_attempts,
            backoff=backoff,
            quarantine=quarantine,
            batch=batch,
            depends=depends,
            grace=grace,
            observers=observers,
            progress=progress,
            clock=clock,
        )
        self._shift: Threads | Processes | None = None
        self._stopped = threading.Event()

    def run(self, *, until_empty: bool = False, signals: bool = True) -> Progress:
        """Work until `stop` is called, or a signal comes.

        Args:
            until_empty: Whether to end once the groups hold no task any more, not even a claimed or a delayed one:
                then all that was to be done is done.
            signals: Whether SIGTERM and Ctrl-C stop the worker, if this is the main thread: nothing new is begun,
                running handlers may finish, what is not begun is given back, and this returns. A second signal ends
                it at once; then leases run out.

        Returns:
            How many tasks were done, and so on.

        Raises:
            TaskStoreError: The store cannot be reached in the beginning, or does not want this worker.
            KeyboardInterrupt, SystemExit: A second signal has come.
        """
        made = None
        if not self._processes and not isinstance(self._client, HTTPClient):
            made = self._client()
        try:
            self._shift = shift = self._new_shift(made, until_empty)
            if self._stopped.is_set():
                shift.stop()
            with stopping(self.stop) if signals else nullcontext():
                return shift.run()
        finally:
            self._shift = None
            if made:
                made.close()

    def _new_shift(self, made: HTTPClient | None, until_empty: bool) -> "Threads | Processes":
        client = made or self._client
        if isinstance(client, HTTPClient):
            return Threads(client, self._handler, self._options, until_empty=until_empty)
        return Processes(client, self._handler, self._options, self._processes, until_empty=until_empty)

    def stop(self) -> None:
        """Stop as after a signal: begin nothing new and finish what is under way. May be called from anywhere."""
        self._stopped.set()
        if shift := self._shift:
            shift.stop()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        shift = self._shift
        return shift.progress if shift else Progress()


class AsyncWorker:
    """Async twin of `Worker`: handlers are coroutine functions, and run as tasks of one event loop.

    It takes the same options, except that there is one process. A handler whose lease is lost is cancelled.
    """

    def __init__(
        self,
        client: AsyncHTTPClient,
        group: GroupRef,
        handler: AsyncHandler,
        *,
        concurrency: int = 1,
        lease: Duration = opts.LEASE,
        max_attempts: int | None = opts.MAX_ATTEMPTS,
        backoff: tuple[Duration, Duration] = opts.BACKOFF,
        quarantine: str = opts.QUARANTINE,
        batch: int = opts.BATCH,
        depends: Iterable[TaskRef] = (),
        grace: Duration = opts.GRACE,
        observers: Sequence[Observer] = (),
        progress: ProgressOption = False,
        clock: Clock = monotonic_ns,
    ) -> None:
        takes_lease(handler)
        self._client = client
        self._handler = handler
        self._options = opts.options(
            group,
            concurrency=concurrency,
            lease=lease,
            max_attempts=max_attempts,
            backoff=backoff,
            quarantine=quarantine,
            batch=batch,
            depends=depends,
            grace=grace,
            observers=observers,
            progress=progress,
            clock=clock,
        )
        self._shift: Coroutines | None = None
        self._stopped = threading.Event()

    async def run(self, *, until_empty: bool = False, signals: bool = True) -> Progress:
        """Async twin of `Worker.run`."""
        self._shift = shift = Coroutines(self._client, self._handler, self._options, until_empty=until_empty)
        if self._stopped.is_set():
            shift.stop()
        try:
            with stopping(self.stop) if signals else nullcontext():
                return await shift.run()
        finally:
            self._shift = None

    def stop(self) -> None:
        """As with `Worker`: begin nothing new and finish what is under way. May be called from anywhere."""
        self._stopped.set()
        if shift := self._shift:
            with suppress(RuntimeError):  # Its loop has ended just now.
                shift.stop()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        shift = self._shift
        return shift.progress if shift else Progress()
