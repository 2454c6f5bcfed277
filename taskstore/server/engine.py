"""Carries out operations: gathers requests into batches, asks the rules, has the storage write.

The laws of this room: no SQL, no HTTP. One event loop owns an engine. Requests that arrive while a batch is being
made durable wait together and form the next one, so they share one transaction and one fsync; a request that arrives
when nothing is under way does not wait for company.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from taskstore.server.messages import Outcome, Request, Task
from taskstore.server.rules import decide, wanted
from taskstore.server.storage import CommitError, Storage

_T = TypeVar("_T")

MAX_BATCH: Final = 256
"""The most requests that share a transaction, so that none waits long for its neighbours' work."""


class Engine:
    """The operations of the store, over any storage.

    Args:
        storage: Where the tasks are; closed together with the engine.
        on_failure: Called once when the storage can no longer be trusted, because it is unknown what it holds after
            a failed commit. Whoever runs the server should stop it then; until that happens every call is refused.
    """

    def __init__(self, storage: Storage, *, on_failure: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._on_failure = on_failure
        self._failed: CommitError | None = None
        self._waiting: list[tuple[Request, asyncio.Future[Outcome]]] = []
        self._running: asyncio.Task[None] | None = None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._listers = ThreadPoolExecutor(2, "list")

    async def apply(self, request: Request) -> Outcome:
        """Carry out an update or a claim. What is answered without an error is durable.

        Raises:
            CommitError: it could not be made durable; `applied` says whether it may be there all the same.
        """
        if self._failed:
            raise self._failed
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._settle(batch)
        finally:
            self._running = None

    async def _settle(self, batch: Sequence[tuple[Request, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._transact([request for request, _ in batch])
        except CommitError as error:
            if error.applied is None and not self._failed:
                self._failed = error
                self._on_failure()
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to the caller below.
            # A fault of ours in one request must not fail its neighbours.
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for one in batch:
                    await self._settle([one])
        else:
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if not done.cancelled():
                    done.set_result(outcome)

    async def _transact(self, requests: Sequence[Request]) -> list[Outcome]:
        transaction = self._storage.begin(wanted(requests))
        try:
            outcomes, change = decide(requests, transaction.seen)
            transaction.write(change)
        except BaseException:
            transaction.rollback()
            raise
        if not change:
            transaction.rollback()
        elif self._storage.waits == "never":
            transaction.commit()
        else:
            # Only the commit waits for the disk. In a thread of its own it leaves the loop free to read requests.
            await asyncio.get_running_loop().run_in_executor(self._committer, transaction.commit)
        return outcomes

    async def tasks(self, ids: Sequence[int]) -> list[Task | None]:
        """For each id, in the same order, the task that has it, or None."""
        found = self._storage.tasks(ids)
        return [found.get(id) for id in ids]

    async def group(self, name: str, *, limit: int, owned: bool) -> AsyncGenerator[list[Task], None]:
        """The tasks of a group at one instant, in pages; see `Storage.group`."""
        pages = self._storage.group(name, limit=limit, owned=owned)
        try:
            while page := await self._list(lambda: next(pages, None)):
                yield page
        finally:
            await self._list(pages.close)

    async def groups(self) -> list[str]:
        """The names of all groups."""
        return await self._list(self._storage.groups)

    async def _list(self, read: Callable[[], _T]) -> _T:
        if self._storage.waits == "never":
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._listers, read)

    async def close(self) -> None:
        """Finish what is under way, then close the storage."""
        if self._running:
            await self._running
        self._committer.shutdown()
        self._listers.shutdown()
        self._storage.close()


def _fail(batch: Sequence[tuple[Request, asyncio.Future[Outcome]]], error: Exception) -> None:
    for _, done in batch:
        if not done.cancelled():
            done.set_exception(error)
