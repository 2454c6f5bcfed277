"""The blocking worker: handlers in threads of one process.

The laws of this room: the desk is touched under one lock, which nobody holds while waiting for the store; what happens
next is decided in `Shift`, and the threads here carry it out. One settles, one polls, one renews, the others work, and
settle when they have nothing else to do.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from taskstore.client import HTTPClient
from taskstore.errors import LeaseLostError, TaskStoreError
from taskstore.term import Clock, Phase, pause_s
from taskstore.worker.bar import shown
from taskstore.worker.desk import Progress, Work
from taskstore.worker.options import Options, takes_lease
from taskstore.worker.outcomes import Outcome, outcome_of
from taskstore.worker.shift import Renewal, Request, Shift
from taskstore.worker.tracing import Tracing

Handler: TypeAlias = Callable[..., Outcome | None]
"""A function of a task, or of a task and its `WorkLease`, that returns what should happen; None for `Done()`."""

SHOW_S: Final = 0.1
"""How often progress is told."""
LOOK_S: Final = 3600.0
"""How long to wait for mail where nobody wants to know."""
EARLY_S: Final = 0.2
"""How long to wait after a claim that should have waited and did not."""

_log: Final = logging.getLogger("taskstore.worker")


class WorkLease:
    """The lease of a task that a handler works on: the worker renews it, and settles what the handler returns."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self.lost: Final = threading.Event()
        """Set once the task is no longer ours, or the worker will wait no longer; for work that can only be told."""
        self._work = work
        self._clock = clock

    def check(self) -> None:
        """See whether the task is still ours; call it between the parts of long work.

        Raises:
            LeaseLostError: It is not, so stop: what the handler returns will be dropped.
        """
        work = self._work
        if self.lost.is_set() or work.phase is Phase.LOST or self._clock() >= work.deadline_ns:
            raise LeaseLostError(work.task.id, work.why or "its lease ran out, or the worker has stopped")


class Threads:
    """One shift of a worker, in threads of this process.

    Args:
        client: How to reach the store.
        handler: What is done with a task.
        options: What the worker was told.
        until_empty: Whether to end once there is no task any more.
    """

    def __init__(self, client: HTTPClient, handler: Handler, options: Options, *, until_empty: bool = False) -> None:
        self._client = client
        self._handler = handler
        self._takes_lease = takes_lease(handler)
        self._options = options
        self._clock = options.clock
        self._shift = Shift(options, client.client_id, until_empty=until_empty)
        self._tracing = Tracing(client.client_id)
        self._leases: dict[Work, WorkLease] = {}
        self._lock = threading.Lock()
        self._to_work = threading.Condition(self._lock)
        self._to_settle = threading.Condition(self._lock)
        self._to_poll = threading.Condition(self._lock)
        self._to_renew = threading.Condition(self._lock)
        self._over = threading.Event()
        self._has_to_stop = False
        self._has_abandoned = False
        # Its put can interrupt itself, so that a signal handler may call it.
        self._mail: queue.SimpleQueue[str] = queue.SimpleQueue()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        with self._lock:
            return self._shift.progress

    def stop(self) -> None:
        """Begin nothing new; may be called from any thread and from signal handlers."""
        self._has_to_stop = True
        self._mail.put("stop")

    def run(self) -> Progress:
        """Work until stopped, or until all is done.

        Raises:
            TaskStoreError: The store cannot be worked with; the message says why.
        """
        if self._has_to_stop:
            self._drain()
        threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in self._roles()]
        for thread in threads:
            thread.start()
        with shown(self._options.progress) as show:
            try:
                self._supervise(show)
            except BaseException:
                self._end()  # A second signal: nobody waits for anything.
                raise
            show(self.progress)
        if self._shift.error:
            raise self._shift.error
        if not (self._has_abandoned or self._shift.is_cut_short):
            for thread in threads:
                thread.join()
        return self.progress

    def _roles(self) -> Iterator[Callable[[], None]]:
        yield from (self._settle, self._poll, self._renew)
        for _ in range(self._options.concurrency):
            yield self._work

    def _supervise(self, show: Callable[[Progress], object]) -> None:
        give_up_s = math.inf
        while True:
            pause_s = SHOW_S if self._options.progress else LOOK_S
            with contextlib.suppress(queue.Empty):
                if self._mail.get(timeout=max(0.0, min(pause_s, give_up_s - time.monotonic()))) == "over":
                    return
                if give_up_s == math.inf:
                    give_up_s = time.monotonic() + self._options.grace_ns / 1e9
                    self._drain()
            if time.monotonic() >= give_up_s and not self._has_abandoned:
                self._abandon()
                give_up_s = math.inf
            show(self.progress)

    def _drain(self) -> None:
        with self._lock:
            self._shift.drain()
            self._news()

    def _abandon(self) -> None:
        with self._lock:
            self._has_abandoned = True
            self._tell(self._shift.desk.abandon())
            self._news()

    def _end(self, error: BaseException | None = None) -> None:
        with self._lock:
            self._shift.end(error)
            self._news()

    def _tell(self, works: Iterable[Work]) -> None:
        for work in works:
            if lease := self._leases.get(work):
                lease.lost.set()

    def _news(self) -> None:
        """Wake whoever has something to do now. The lock is held."""
        self._see_the_end()
        if self._shift.may_settle:
            self._to_settle.notify()
        elif self._shift.may_poll(self._clock()):
            self._to_poll.notify()

    def _see_the_end(self) -> None:
        if self._shift.is_over and not self._over.is_set():
            self._over.set()
            self._tell(self._leases)
            self._mail.put("over")
            for each in (self._to_work, self._to_settle, self._to_poll, self._to_renew):
                each.notify_all()

    def _guarded(self, role: Callable[[], None]) -> None:
        try:
            role()
        except BaseException as error:  # noqa: BLE001 - run raises it again
            self._end(error)

    # Handlers

    def _work(self) -> None:
        while work := self._take():
            self._handle(work)

    def _take(self) -> Work | None:
        while not self._over.is_set():
            with self._lock:
                found = self._work_or_request()
            if not isinstance(found, Request):
                return found
            self._over.wait(self._send(found))
        return None

    def _work_or_request(self) -> Work | Request | None:
        """What a handler's thread does next, once there is something; None in the end. The lock is held."""
        desk = self._shift.desk
        while not self._over.is_set():
            now_ns = self._clock()
            if work := desk.take(now_ns):
                if self._takes_lease:
                    self._leases[work] = WorkLease(work, self._clock)
                return work
            # With nothing else to do it settles what it has done itself, which spares two switches between threads.
            if not desk.settling and (request := self._shift.settlement(now_ns)):
                return request
            self._wait(self._to_work)
        return None

    def _wait(self, condition: threading.Condition) -> None:
        """Wait for news, unless the shift is over and so nobody will bring any. The lock is held."""
        self._see_the_end()
        if not self._over.is_set():
            condition.wait()

    def _handle(self, work: Work) -> None:
        self._shift.tell_started(work)
        outcome: Outcome | None = None
        failure: BaseException | None = None
        with self._tracing.task(work.task) as traced:
            try:
                outcome = outcome_of(self._called(work))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it must not take the thread with it
                failure = error
            traced.ended(outcome, failure)
        now_ns = self._clock()
        outcome = self._shift.outcome(work, outcome, failure, now_ns)
        with self._lock:
            self._leases.pop(work, None)
            self._shift.desk.finish(work, outcome, now_ns)
            if self._shift.desk.unstarted or self._shift.desk.settling:
                self._news()

    def _called(self, work: Work) -> Any:
        return self._handler(work.task, self._leases[work]) if self._takes_lease else self._handler(work.task)

    # The store

    def _settle(self) -> None:
        while request := self._next(self._to_settle, self._shift.settlement):
            self._over.wait(self._send(request))

    def _poll(self) -> None:
        while request := self._next(self._to_poll, self._shift.poll):
            began_s = time.monotonic()
            pause_s = self._send(request)
            if self._shift.is_looking and self._are_groups_empty():
                self._drain()
            # A server that is about to stop, or that cannot wait, answers at once.
            is_early = self._shift.found_nothing and (time.monotonic() - began_s) * 2e9 < request.wait_ns
            self._over.wait(max(pause_s, EARLY_S if is_early else 0.0))

    def _next(self, condition: threading.Condition, ask: Callable[[int], Request | None]) -> Request | None:
        with self._lock:
            while not self._over.is_set():
                if request := ask(self._clock()):
                    return request
                self._wait(condition)
        return None

    def _send(self, request: Request) -> float:
        """Send a step; returns for how many seconds to wait before the next one."""
        try:
            step = self._client.step(**request.arguments)
        except TaskStoreError as error:
            with self._lock:
                pause_s = self._shift.failed(request, error)
                self._news()
            return pause_s
        with self._lock:
            self._shift.answered(request, step, self._clock())
            if step.claimed:
                self._to_work.notify(len(step.claimed))
            self._news()
        return 0.0

    def _are_groups_empty(self) -> bool:
        try:
            return not any(self._client.group(name, limit=1, owned=True) for name in self._options.groups)
        except TaskStoreError as error:
            _log.warning("cannot see whether the groups are empty: %s", error)
            return False

    def _renew(self) -> None:
        while not self._over.is_set():
            with self._lock:
                now_ns = self._clock()
                lost, renewal, next_ns = self._shift.renewal(now_ns)
                self._tell(lost)
                self._news()
                if not (renewal or self._over.is_set()):
                    self._to_renew.wait(pause_s(next_ns, now_ns, self._clock))
            if renewal:
                self._send_renewal(renewal)

    def _send_renewal(self, renewal: Renewal) -> None:
        try:
            tasks = self._client.update(updates=renewal.updates, timeout=renewal.timeout_ns, retry=renewal.retry_ns)
        except TaskStoreError as error:
            with self._lock:
                self._tell(self._shift.not_renewed(renewal, error, self._clock()))
                self._news()
            return
        with self._lock:
            self._shift.desk.renewed(renewal.works, tasks)
            self._news()
