"""The async worker: handlers in tasks of one event loop.

The laws of this room: what happens next is decided in `Shift`, and the coroutines here carry it out: the same roles as
in `threads`, without a lock, since nothing else runs between two awaits. A request that is on its way is not cancelled.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from taskstore.client import AsyncHTTPClient
from taskstore.errors import LeaseLostError, TaskStoreError
from taskstore.term import Clock, Phase, pause_s
from taskstore.worker.bar import shown
from taskstore.worker.desk import Progress, Work
from taskstore.worker.options import Options, takes_lease
from taskstore.worker.outcomes import Outcome, Release, outcome_of
from taskstore.worker.shift import Renewal, Request, Shift
from taskstore.worker.threads import EARLY_S, SHOW_S
from taskstore.worker.tracing import Tracing

AsyncHandler: TypeAlias = Callable[..., Awaitable[Outcome | None]]
"""A coroutine function of a task, or of a task and its `AsyncWorkLease`, that returns what should happen."""

CANCEL_S: Final = 5.0
"""How long handlers that were cancelled may take to clean up."""

_log: Final = logging.getLogger("taskstore.worker")


class AsyncWorkLease:
    """Async twin of `WorkLease`. A handler whose lease is lost is cancelled; this is for those that look ahead."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self.lost: Final = asyncio.Event()
        """Set once the task is no longer ours, or the worker will wait no longer."""
        self._work = work
        self._clock = clock

    def check(self) -> None:
        """As with `WorkLease`: see whether the task is still ours."""
        work = self._work
        if self.lost.is_set() or work.phase is Phase.LOST or self._clock() >= work.deadline_ns:
            raise LeaseLostError(work.task.id, work.why or "its lease ran out, or the worker has stopped")


class Coroutines:
    """Async twin of `Threads`: one shift of a worker, on an event loop."""

    def __init__(
        self, client: AsyncHTTPClient, handler: AsyncHandler, options: Options, *, until_empty: bool = False
    ) -> None:
        self._client = client
        self._handler = handler
        self._takes_lease = takes_lease(handler)
        self._options = options
        self._clock = options.clock
        self._shift = Shift(options, client.client_id, until_empty=until_empty)
        self._tracing = Tracing(client.client_id)
        self._handling: dict[Work, tuple[asyncio.Task[None], AsyncWorkLease]] = {}
        self._to_settle = asyncio.Event()
        self._to_poll = asyncio.Event()
        self._over = asyncio.Event()
        self._has_to_stop = False
        self._was_stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._shift.progress

    def stop(self) -> None:
        """Begin nothing new; may be called from any thread and from signal handlers."""
        self._has_to_stop = True
        self._loop.call_soon_threadsafe(self._was_stopped.set)

    async def run(self) -> Progress:
        """Async twin of `Threads.run`."""
        if self._has_to_stop:
            self._shift.drain()
            self._news()
        roles = [asyncio.create_task(self._guarded(each)) for each in (self._settle, self._poll, self._renew)]
        try:
            with shown(self._options.progress) as show:
                await self._supervise(show)
                show(self.progress)
            if not self._shift.is_cut_short:
                await asyncio.gather(*roles)
        except BaseException:
            self._end()
            raise
        finally:
            # If it was cut short there is no time to wait for the store, and the leases run out.
            for role in roles:
                role.cancel()
            await asyncio.wait(roles, timeout=CANCEL_S)
            await self._cancel_handlers(self._handling)
        if self._shift.error:
            raise self._shift.error
        return self.progress

    async def _supervise(self, show: Callable[[Progress], object]) -> None:
        give_up_s = math.inf
        while not self._over.is_set():
            pause = min(SHOW_S if self._options.progress else math.inf, give_up_s - time.monotonic())
            await _either(self._over, self._was_stopped, max(pause, 0.0) if pause < math.inf else None)
            if self._was_stopped.is_set():
                self._was_stopped.clear()
                give_up_s = min(give_up_s, time.monotonic() + self._options.grace_ns / 1e9)
                self._shift.drain()
                self._news()
            if time.monotonic() >= give_up_s:
                give_up_s = math.inf
                self._tell(self._shift.desk.abandon())
                self._news()
            show(self.progress)

    def _end(self, error: BaseException | None = None) -> None:
        self._shift.end(error)
        self._news()

    def _tell(self, works: Iterable[Work]) -> None:
        """Stop the handlers that work on these."""
        for work in list(works):
            if work in self._handling:
                task, lease = self._handling[work]
                lease.lost.set()
                task.cancel()

    async def _cancel_handlers(self, works: Iterable[Work]) -> None:
        tasks = [self._handling[work][0] for work in works]
        self._tell(works)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)

    def _news(self) -> None:
        """Let whoever has something to do now do it."""
        while not self._over.is_set() and (work := self._shift.desk.take(self._clock())):
            self._start(work)
        self._see_the_end()
        if self._shift.may_settle:
            self._to_settle.set()
        elif self._shift.may_poll(self._clock()):
            self._to_poll.set()

    def _see_the_end(self) -> None:
        if self._shift.is_over:
            self._over.set()
            self._to_settle.set()
            self._to_poll.set()

    async def _guarded(self, role: Callable[[], Awaitable[None]]) -> None:
        try:
            await role()
        except Exception as error:  # noqa: BLE001 - run raises it again
            self._end(error)

    # Handlers

    def _start(self, work: Work) -> None:
        lease = AsyncWorkLease(work, self._clock)
        self._handling[work] = asyncio.create_task(self._handle(work, lease)), lease

    async def _handle(self, work: Work, lease: AsyncWorkLease) -> None:
        self._shift.tell_started(work)
        outcome: Outcome | None = None
        failure: BaseException | None = None
        with self._tracing.task(work.task) as traced:
            try:
                outcome = outcome_of(await self._called(work, lease))
            except asyncio.CancelledError as error:
                # By us, because the lease is lost; or from outside, and then somebody else should have the task.
                failure, outcome = error, Release()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it must not take the worker with it
                failure = error
            traced.ended(outcome, failure)
        now_ns = self._clock()
        outcome = self._shift.outcome(work, outcome, failure, now_ns)
        self._handling.pop(work, None)
        self._shift.desk.finish(work, outcome, now_ns)
        self._news()

    def _called(self, work: Work, lease: AsyncWorkLease) -> Awaitable[Any]:
        return self._handler(work.task, lease) if self._takes_lease else self._handler(work.task)

    # The store

    async def _settle(self) -> None:
        while request := await self._next(self._to_settle, self._shift.settlement):
            await self._pause(await self._send(request))

    async def _poll(self) -> None:
        while request := await self._next(self._to_poll, self._shift.poll):
            began_s = time.monotonic()
            pause = await self._send(request)
            if self._shift.is_looking and await self._are_groups_empty():
                self._shift.drain()
                self._news()
            # A server that is about to stop, or that cannot wait, answers at once.
            is_early = self._shift.found_nothing and (time.monotonic() - began_s) * 2e9 < request.wait_ns
            await self._pause(max(pause, EARLY_S if is_early else 0.0))

    async def _next(self, event: asyncio.Event, ask: Callable[[int], Request | None]) -> Request | None:
        while not self._over.is_set():
            event.clear()
            if request := ask(self._clock()):
                return request
            self._see_the_end()
            await event.wait()
        return None

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()

    async def _send(self, request: Request) -> float:
        """Send a step; returns for how many seconds to wait before the next one."""
        try:
            step = await self._client.step(**request.arguments)
        except TaskStoreError as error:
            pause = self._shift.failed(request, error)
            self._news()
            return pause
        self._shift.answered(request, step, self._clock())
        self._news()
        return 0.0

    async def _are_groups_empty(self) -> bool:
        try:
            for name in self._options.groups:
                if await self._client.group(name, limit=1, owned=True):
                    return False
        except TaskStoreError as error:
            _log.warning("cannot see whether the groups are empty: %s", error)
            return False
        return True

    async def _renew(self) -> None:
        while not self._over.is_set():
            now_ns = self._clock()
            lost, renewal, next_ns = self._shift.renewal(now_ns)
            self._tell(lost)
            self._news()
            if renewal:
                await self._send_renewal(renewal)
            else:
                await self._pause(max(pause_s(next_ns, now_ns, self._clock), 0.001))

    async def _send_renewal(self, renewal: Renewal) -> None:
        try:
            tasks = await self._client.update(
                updates=renewal.updates, timeout=renewal.timeout_ns, retry=renewal.retry_ns
            )
        except TaskStoreError as error:
            self._tell(self._shift.not_renewed(renewal, error, self._clock()))
        else:
            self._shift.desk.renewed(renewal.works, tasks)
        self._news()


async def _either(one: asyncio.Event, other: asyncio.Event, seconds: float | None) -> None:
    """Wait for one of two events, or for some time."""
    waits = [asyncio.ensure_future(each.wait()) for each in (one, other)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
