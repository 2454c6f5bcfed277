"""Carries out operations: gathers requests into batches, asks the rules, has the storage write.

The laws of this room: no SQL, no HTTP. One event loop owns an engine. Requests that arrive while a batch is being
made durable wait together and form the next one, so they share one transaction and one fsync; a request that arrives
when nothing is under way does not wait for company.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from taskstore.server.messages import Outcome, Request, Task
from taskstore.server.rules import decide, wanted
from taskstore.server.storage import CommitError, ConflictError, Storage

_T = TypeVar("_T")
_Waiting: TypeAlias = tuple[Request, asyncio.Future[Outcome]]

MAX_BATCH: Final = 256
"""The most requests that share a transaction, so that none waits long for its neighbours' work."""
ATTEMPTS: Final = 5
"""How often a transaction that lost against another one is tried before its requests are refused."""
LISTERS: Final = 4
"""How many listings are read at a time; others wait for one of them to end a page."""


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
        self._waiting: list[_Waiting] = []
        self._batches: set[asyncio.Task[None]] = set()
        self._started: dict[int, float] = {}
        self._writers = ThreadPoolExecutor(storage.parallel, "write")
        self._readers = ThreadPoolExecutor(LISTERS, "read")

    async def apply(self, request: Request) -> Outcome:
        """Carry out an update or a claim. What is answered without an error is durable.

        Raises:
            CommitError: it could not be made durable; `applied` says whether it may be there all the same.
        """
        if self._failed:
            raise self._failed
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, done))
        self._start()
        return await done

    def _start(self) -> None:
        if self._waiting and len(self._batches) < self._storage.parallel:
            # The batch is taken when the task runs, after all that has arrived by then has joined those waiting.
            batch = asyncio.create_task(self._run())
            self._batches.add(batch)
            batch.add_done_callback(self._end)

    def _end(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._start()

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            await self._settle(batch)

    @property
    def waiting_s(self) -> float:
        """For how many seconds the oldest transaction under way has been waiting for its disk or database."""
        return time.monotonic() - min(self._started.values()) if self._started else 0.0

    @property
    def failed(self) -> bool:
        """Whether a commit has failed so that it is unknown what the storage holds."""
        return self._failed is not None

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        self._started[id(batch)] = time.monotonic()
        try:
            outcomes = await self._transact([request for request, _ in batch])
        except CommitError as error:
            if error.applied is None and self._storage.waits != "always" and not self._failed:
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
        finally:
            del self._started[id(batch)]

    async def _transact(self, requests: Sequence[Request]) -> list[Outcome]:
        if self._storage.waits == "always":
            return await asyncio.get_running_loop().run_in_executor(self._writers, self._transact_remotely, requests)
        outcomes, commit = self._decided(requests)
        if commit and self._storage.waits == "commit":
            # Only the commit waits for the disk. In a thread of its own it leaves the loop free to read requests.
            await asyncio.get_running_loop().run_in_executor(self._writers, commit)
        elif commit:
            commit()
        return outcomes

    def _transact_remotely(self, requests: Sequence[Request]) -> list[Outcome]:
        attempt = 1
        while True:
            try:
                outcomes, commit = self._decided(requests)
                if commit:
                    commit()
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                attempt += 1
            else:
                return outcomes

    def _decided(self, requests: Sequence[Request]) -> tuple[list[Outcome], Callable[[], None] | None]:
        """The outcomes, and what is left to be done to make them true."""
        transaction = self._storage.begin(wanted(requests))
        try:
            outcomes, change = decide(requests, transaction.seen)
            if change:
                transaction.write(change)
        except BaseException:
            transaction.rollback()
            raise
        if change:
            return outcomes, transaction.commit
        transaction.rollback()
        return outcomes, None

    async def tasks(self, ids: Sequence[int]) -> list[Task | None]:
        """For each id, in the same order, the task that has it, or None."""
        if self._storage.waits == "always":
            found = await self._read(lambda: self._storage.tasks(ids))
        else:
            found = self._storage.tasks(ids)
        return [found.get(id) for id in ids]

    async def group(self, name: str, *, limit: int, owned: bool) -> AsyncGenerator[list[Task], None]:
        """The tasks of a group at one instant, in pages; see `Storage.group`."""
        pages = self._storage.group(name, limit=limit, owned=owned)
        try:
            while page := await self._read(lambda: next(pages, None)):
                yield page
        finally:
            await self._read(pages.close)

    async def groups(self) -> list[str]:
        """The names of all groups."""
        return await self._read(self._storage.groups)

    async def _read(self, read: Callable[[], _T]) -> _T:
        if self._storage.waits == "never":
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def close(self) -> None:
        """Finish what is under way, then close the storage."""
        while self._batches:
            await asyncio.wait(self._batches)
        self._writers.shutdown()
        self._readers.shutdown()
        self._storage.close()


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, done in batch:
        if not done.cancelled():
            done.set_exception(error)
