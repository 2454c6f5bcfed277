"""Work under a lease: a claimed task that stays ours for as long as the work takes, or says at once that it is not.

The laws of this room: what may be done when is decided by `Term`; the two shells around it do what it says and differ
by the waiting. A renewal that is on its way is never cancelled, and a commit comes after it and takes the id that it
brought.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Final, Protocol, Self

from taskstore.errors import LeaseLostError, TaskStoreError, UsageError
from taskstore.model import Duration, GroupRef, TaskInfo, TaskRef
from taskstore.term import (
    RENEW_AT,
    Clock,
    Phase,
    Term,
    checked_lease_ns,
    monotonic_ns,
    pause_s,
    refused,
    settle_renewal,
    try_ns,
    waits,
)

_log: Final = logging.getLogger("taskstore.lease")


class Store(Protocol):
    """What a lease needs of an `HTTPClient`."""

    def claim(
        self,
        group: GroupRef,
        duration: Duration,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration,
        timeout: Duration,
        retry: Duration,
    ) -> TaskInfo | None:
        """See the client."""
        ...

    def update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        timeout: Duration,
        retry: Duration,
    ) -> list[TaskInfo]:
        """See the client."""
        ...


class AsyncStore(Protocol):
    """What a lease needs of an `AsyncHTTPClient`."""

    async def claim(
        self,
        group: GroupRef,
        duration: Duration,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration,
        timeout: Duration,
        retry: Duration,
    ) -> TaskInfo | None:
        """See the client."""
        ...

    async def update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        timeout: Duration,
        retry: Duration,
    ) -> list[TaskInfo]:
        """See the client."""
        ...


class Lease:
    """A task that is ours, renewed by a thread of its own while a `with` block works on it; see `HTTPClient.lease`."""

    def __init__(self, store: Store, term: Term, clock: Clock = monotonic_ns) -> None:
        self.lost: Final = threading.Event()
        """Set once the task is no longer ours; for work that can only be told, not stopped."""
        self._store = store
        self._term = term
        self._clock = clock
        self._changed = threading.Condition()
        self._keeper = threading.Thread(target=self._keep, name=f"lease of task {term.task.id}", daemon=True)

    @property
    def task(self) -> TaskInfo:
        """The task as it stands now; each renewal gives it a new id."""
        with self._changed:
            return self._term.task

    def check(self) -> None:
        """See whether the task is still ours; call it between the parts of long work.

        Raises:
            LeaseLostError: It is not, so stop: whatever else is done would be dropped.
        """
        with self._changed:
            self._check()

    def _check(self) -> None:
        try:
            self._term.check(self._clock())
        except LeaseLostError:
            self.lost.set()
            raise

    def commit(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
    ) -> list[TaskInfo]:
        """Delete the task, and make all these changes, in one update: then the work is done, once and for all.

        A renewal that is on its way is awaited first.

        Returns:
            The new tasks, as `update` does.

        Raises:
            LeaseLostError: The task is no longer ours. Nothing has changed.
            TaskResponseError: Another task is missing or in other hands. Nothing has changed, and the task is still
                ours.
            UsageError: It was committed before.
        """
        self._end()
        try:
            made = self._update(adds, updates, [self._term.task, *deletes], depends)
        except TaskStoreError as error:
            self._not_committed(error)
            raise
        except BaseException:
            self._ended()  # Interrupted on its way, so nobody knows; the lease runs out.
            raise
        self._ended()
        return made

    def _end(self) -> None:
        with self._changed:
            self._check()
            while not self._term.end(now := self._clock()):
                self._changed.wait(pause_s(self._term.deadline_ns, now, self._clock))

    def _ended(self) -> None:
        with self._changed:
            self._term.ended()
            self._changed.notify_all()

    def _not_committed(self, error: TaskStoreError) -> None:
        with self._changed:
            refused(self._term, error)
            self._changed.notify_all()
            if self._term.phase is Phase.LOST:
                self.lost.set()
                raise self._term.error() from error

    def _update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
    ) -> list[TaskInfo]:
        return self._store.update(
            adds,
            updates,
            deletes,
            depends,
            timeout=try_ns(self._term.lease_ns),
            retry=self._term.retry_ns(self._clock()),
        )

    def _keep(self) -> None:
        with self._changed:
            while self._term.phase not in (Phase.ENDED, Phase.LOST):
                now = self._clock()
                if self._term.expire(now):
                    break
                if change := self._term.renew(now):
                    self._renew(change)
                else:
                    ending = self._term.phase is Phase.ENDING
                    next_ns = min(self._term.due_ns, self._term.deadline_ns)
                    self._changed.wait(None if ending else pause_s(next_ns, now, self._clock))
            if self._term.phase is Phase.LOST:
                self.lost.set()
                self._changed.notify_all()

    def _renew(self, change: TaskInfo) -> None:
        """Send a renewal, with the lock put down meanwhile."""
        self._changed.release()
        error: TaskStoreError | None = None
        task = change
        try:
            [task] = self._update(updates=[change])
        except TaskStoreError as failure:
            error = failure
        finally:
            self._changed.acquire()
        settle_renewal(self._term, task, error, self._clock())
        self._changed.notify_all()

    def release(self) -> None:
        """Give the task back, so that anybody can claim it now. Leaving the `with` block does so by itself."""
        self._end()
        try:
            self._update(updates=[self._term.task.replace(available_in=0)])
        except TaskStoreError as error:
            # Then the lease runs out, or somebody else has it already.
            _log.debug("task %d was not released: %s", self._term.task.id, error)
        finally:
            self._ended()

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(LeaseLostError, UsageError):
            self.release()
        self._keeper.join()


class AsyncLease:
    """Async twin of `Lease`: renewed by a task of the event loop, and the work is cancelled when the lease is lost."""

    def __init__(self, store: AsyncStore, term: Term, clock: Clock = monotonic_ns) -> None:
        self.lost: Final = asyncio.Event()
        """Set once the task is no longer ours."""
        self._store = store
        self._term = term
        self._clock = clock
        self._changed = asyncio.Event()
        self._work: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled = False

    @property
    def task(self) -> TaskInfo:
        """As with `Lease`: the task as it stands now."""
        return self._term.task

    def check(self) -> None:
        """As with `Lease`: see whether the task is still ours."""
        self._term.check(self._clock())

    async def commit(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
    ) -> list[TaskInfo]:
        """Async twin of `Lease.commit`."""
        await self._end()
        try:
            made = await self._update(adds, updates, [self._term.task, *deletes], depends)
        except TaskStoreError as error:
            refused(self._term, error)
            self._changed.set()
            if self._term.phase is Phase.LOST:
                self.lost.set()
                raise self._term.error() from error
            raise
        except BaseException:
            self._ended()  # Cancelled on its way, so nobody knows; the lease runs out.
            raise
        self._ended()
        return made

    async def _end(self) -> None:
        while not self._term.end(now := self._clock()):
            await self._sleep(self._term.deadline_ns, now)

    def _ended(self) -> None:
        self._term.ended()
        self._changed.set()

    async def _sleep(self, until_ns: int | None, now_ns: int) -> None:
        """Wait until something changes, or until an instant."""
        self._changed.clear()
        with suppress(TimeoutError):
            seconds = None if until_ns is None else pause_s(until_ns, now_ns, self._clock)
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
    ) -> list[TaskInfo]:
        return await self._store.update(
            adds,
            updates,
            deletes,
            depends,
            timeout=try_ns(self._term.lease_ns),
            retry=self._term.retry_ns(self._clock()),
        )

    async def _keep(self) -> None:
        while self._term.phase not in (Phase.ENDED, Phase.LOST):
            now = self._clock()
            if self._term.expire(now):
                break
            if change := self._term.renew(now):
                await self._renew(change)
            elif self._term.phase is Phase.ENDING:
                await self._sleep(None, now)
            else:
                await self._sleep(min(self._term.due_ns, self._term.deadline_ns), now)
        if self._term.phase is Phase.LOST and not self.lost.is_set():
            self.lost.set()
            self._changed.set()
            if self._work:
                self._cancelled = self._work.cancel()

    async def _renew(self, change: TaskInfo) -> None:
        error: TaskStoreError | None = None
        task = change
        try:
            [task] = await self._update(updates=[change])
        except TaskStoreError as failure:
            error = failure
        settle_renewal(self._term, task, error, self._clock())
        self._changed.set()

    async def release(self) -> None:
        """Async twin of `Lease.release`."""
        await self._end()
        try:
            await self._update(updates=[self._term.task.replace(available_in=0)])
        except TaskStoreError as error:
            _log.debug("task %d was not released: %s", self._term.task.id, error)
        finally:
            self._ended()

    async def __aenter__(self) -> Self:
        self._work = asyncio.current_task()
        self._cancelling = self._work.cancelling() if self._work else 0
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work, self._work = self._work, None
        if not (self._cancelled and work):
            with suppress(LeaseLostError, UsageError):
                await self.release()
            await asyncio.shield(self._keeper)
            return
        if kind is None:
            with suppress(asyncio.CancelledError):  # It came too late for the work, and must not hit what follows.
                await asyncio.sleep(0)
        # As asyncio.timeout does it: the cancellation was ours, so whoever is outside sees the reason instead.
        if work.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._term.error() from error


@contextmanager
def lease(
    store: Store,
    group: GroupRef,
    duration: Duration,
    depends: Iterable[TaskRef] = (),
    *,
    wait: Duration = 0,
    clock: Clock = monotonic_ns,
) -> Iterator[Lease | None]:
    """What `HTTPClient.lease` does; tests set the clock."""
    lease_ns, depends = checked_lease_ns(duration), list(depends)
    for wait_ns in waits(lease_ns, wait):
        sent_ns = clock()
        task = store.claim(group, lease_ns, depends, wait=wait_ns, timeout=try_ns(lease_ns), retry=lease_ns // RENEW_AT)
        if task is not None:
            with Lease(store, Term(task, lease_ns, sent_ns), clock) as lease:
                yield lease
            return
    yield None


@asynccontextmanager
async def async_lease(
    store: AsyncStore,
    group: GroupRef,
    duration: Duration,
    depends: Iterable[TaskRef] = (),
    *,
    wait: Duration = 0,
    clock: Clock = monotonic_ns,
) -> AsyncIterator[AsyncLease | None]:
    """Async twin of `lease`."""
    lease_ns, depends = checked_lease_ns(duration), list(depends)
    for wait_ns in waits(lease_ns, wait):
        sent_ns = clock()
        task = await store.claim(
            group, lease_ns, depends, wait=wait_ns, timeout=try_ns(lease_ns), retry=lease_ns // RENEW_AT
        )
        if task is not None:
            async with AsyncLease(store, Term(task, lease_ns, sent_ns), clock) as lease:
                yield lease
            return
    yield None
