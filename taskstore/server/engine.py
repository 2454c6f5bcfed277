"""Carries out operations: gathers requests into batches, asks the rules, has the storage write.

The laws of this room: no SQL, no HTTP. One event loop owns an engine. Requests that arrive while a batch is being
made durable wait together and form the next one, so they share one transaction and one fsync. No request waits for
company that may never come: a batch takes along what has arrived by then, and no more.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Final, TypeVar

import msgspec

from taskstore.server.messages import (
    Answer,
    Claim,
    Counters,
    GroupStats,
    Keyed,
    Outcome,
    Request,
    Stats,
    Step,
    StepOutcome,
    Task,
    TaskAdd,
    Totals,
    Update,
)
from taskstore.server.parking import Parking
from taskstore.server.rules import Change, decide, wanted
from taskstore.server.storage import CommitError, ConflictError, Storage

_T = TypeVar("_T")

MAX_BATCH: Final = 256
"""The most requests that share a transaction, so that none waits long for its neighbours' work."""
PASSES: Final = 2
"""How often the event loop goes round before a batch is taken, where there are several requests or were the last time:
it reads what has arrived, and hands it in. Without that, those who are answered together come back in two parts, each
with a sync of its own. With it 2 to 16 connections get some 40 % more done. Who is alone does not go round at all."""
ATTEMPTS: Final = 5
"""How often a transaction that lost against another one is tried before its requests are refused."""
QUICK_S: Final = 0.001
"""Where commits take less than this, of late, they are waited for on the spot.

A switch to a thread and back costs about as much as a quick disk takes, and a lone client gets a third more done
without; where there are many it makes no difference. The price is that nothing is answered while such a disk hangs. On
a disk that is not so quick the loop goes on reading requests, and can tell for how long a commit has been waiting.
"""
LISTERS: Final = 4
"""How many listings are read at a time; others wait for one of them to end a page."""
LOOK_S: Final = 0.2
"""How often, while claims wait, a storage that others write to is looked at for what they have made available."""
STATS_S: Final = 2.0
"""For how long what `stats` has counted is good enough, since to count takes longer than anything else here."""


class _Call(msgspec.Struct, eq=False):
    """A request on its way to an answer."""

    request: Request
    done: "asyncio.Future[Answer]"
    wait_s: float = 0.0
    """For how long it may wait for a task."""
    updated: list[Task] | None = None
    """For a step whose update is done and whose claim waits: the new tasks of the update."""
    woken: bool = False
    """Whether it has waited, and was told that there is something."""


class Engine:
    """The operations of the store, over any storage.

    Args:
        storage: Where the tasks are; closed together with the engine.
        on_failure: Called once when the storage can no longer be trusted, because it is unknown what it holds after
            a failed commit. Whoever runs the server should stop it then; until that happens every call is refused.
    """

    def __init__(self, storage: Storage, *, on_failure: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._remote = storage.waits == "always"
        self._on_failure = on_failure
        self._failed: CommitError | None = None
        self._waiting: list[_Call] = []
        self._last_waiting = 0  # How many requests there were when the last batch was taken.
        self._batches: set[asyncio.Task[None]] = set()
        self._started: dict[int, float] = {}
        self._parking: Parking[_Call] = Parking(self._wake, self._soonest)
        self._draining = False
        self._commit_s = 1.0  # How long a commit takes, of late: so long, until it is known.
        self._looker: asyncio.Task[None] | None = None
        self._counters = Counters()
        self._stats: dict[tuple[str, int], tuple[float, tuple[list[GroupStats], Totals]]] = {}
        self._writers = ThreadPoolExecutor(storage.parallel, "write")
        self._readers = ThreadPoolExecutor(LISTERS, "read")

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # To ask for it takes a call of the system each time.

    async def apply(self, request: Request) -> Answer:
        """Carry out a request. What is answered without an error is durable.

        A claim that may wait does so here; cancelling the call takes it out of the queue, and it claims nothing.

        Raises:
            CommitError: it could not be made durable; `applied` says whether it may be there all the same.
        """
        self._check()
        claim = _claim_of(request)
        done: asyncio.Future[Answer] = self._loop.create_future()
        call = _Call(request, done) if claim is None else _Call(_shuffled(request, claim), done, claim.wait / 1e9)
        self._waiting.append(call)
        self._start()
        return await done

    def _check(self) -> None:
        if self._failed:
            raise self._failed

    def _start(self) -> None:
        if len(self._batches) < self._storage.parallel and self._waiting:
            # The batch is taken when the task runs, after all that has arrived by then has joined those waiting.
            batch = asyncio.create_task(self._run())
            self._batches.add(batch)
            batch.add_done_callback(self._end)

    def _end(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._start()

    async def _run(self) -> None:
        while self._waiting:
            for _ in range(PASSES if max(len(self._waiting), self._last_waiting) > 1 else 0):
                await asyncio.sleep(0)
            if not self._waiting:
                return  # Another batch, where there may be several at a time, has taken them along.
            self._last_waiting = len(self._waiting)
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            batch = self._called_in(batch) + batch  # So those that have waited are answered first.
            for call in batch:
                if call.woken and call.done.done():
                    self._wake_next(call)  # Nobody waits for it now, so its news is for somebody else.
            if present := [call for call in batch if not call.done.done()]:
                await self._settle(present)

    def _called_in(self, batch: Sequence[_Call]) -> list[_Call]:
        """Claims that wait for what `batch` is about to add: in the same transaction they have it a commit earlier.

        Not more than a batch of them, for the others learn of what is left as soon as it is committed.
        """
        if not self._parking.groups:
            return []
        before = len(self._waiting)
        added = Counter(add.group for call in batch for add in _adds(call.request) if add.timespec == 0)
        for group, number in added.items():
            self._parking.wake(group, min(number, MAX_BATCH - (len(self._waiting) - before)))
        self._waiting, called_in = self._waiting[:before], self._waiting[before:]
        return called_in

    @property
    def waiting_s(self) -> float:
        """For how many seconds the oldest transaction under way has been waiting for its disk or database."""
        return time.monotonic() - min(self._started.values()) if self._started else 0.0

    @property
    def parked(self) -> int:
        """How many claims wait for something to claim."""
        return len(self._parking.everyone)

    @property
    def failed(self) -> bool:
        """Whether a commit has failed so that it is unknown what the storage holds."""
        return self._failed is not None

    async def _settle(self, batch: Sequence[_Call]) -> None:
        self._started[id(batch)] = time.monotonic()
        try:
            requests, waited = [call.request for call in batch], [n for n, call in enumerate(batch) if call.woken]
            answers, change, now = await self._transact(requests, waited)
        except CommitError as error:
            if error.applied is None and not self._remote and not self._failed:
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
            for call, answer in zip(batch, answers, strict=True):
                self._answer(call, answer, change)
            self._parking.tell(change.made, now)
        finally:
            del self._started[id(batch)]

    def _answer(self, call: _Call, answer: Answer, change: Change) -> None:
        if type(answer) is Outcome or type(answer) is StepOutcome:
            self._count(call.request, answer)
            if call.wait_s and not answer.tasks and not answer.error and not self._draining:
                self._park(call, answer, change)
                return
            if call.woken and answer.tasks:
                self._wake_next(call)
            if call.updated is not None:
                answer = StepOutcome(answer.tasks, call.updated, answer.error)
        if not call.done.cancelled():
            call.done.set_result(answer)

    def _park(self, call: _Call, answer: Outcome | StepOutcome, change: Change) -> None:
        if call.done.cancelled():
            return
        claim = _claim_of(call.request)
        if claim is None:
            raise AssertionError("only a claim waits")
        if type(answer) is StepOutcome:
            call.updated = answer.updated
            call.request = _rest(call.request, claim, change)
        if not call.woken:
            timer = self._loop.call_later(call.wait_s, self._time_up, call)
            call.done.add_done_callback(lambda _: timer.cancel())
            call.done.add_done_callback(lambda _: self._parking.leave(call))
        self._parking.park(call, claim.names)
        if self._remote and self._looker is None:
            self._looker = asyncio.create_task(self._look())

    def _time_up(self, call: _Call) -> None:
        if call in self._parking and not call.done.done():  # A client that hung up leaves a moment later.
            call.done.set_result(Outcome() if call.updated is None else StepOutcome([], call.updated))
        call.wait_s = 0.0

    def _wake(self, call: _Call) -> None:
        call.woken = True
        self._waiting.append(call)
        self._start()

    def _wake_next(self, call: _Call) -> None:
        claim = _claim_of(call.request)
        for group in claim.names if claim else ():
            self._parking.wake(group, 1)

    def _soonest(self, groups: Collection[str]) -> Mapping[str, int]:
        return {} if self._remote else self._storage.soonest(groups)

    async def _look(self) -> None:
        while groups := self._parking.groups:
            await asyncio.sleep(LOOK_S)
            try:
                soonest = await self._read(partial(self._storage.soonest, groups))
            except CommitError:
                continue  # The claims themselves will tell their clients, when their time is up.
            self._parking.set_timers({group: ns for group, ns in soonest.items() if group in self._parking.groups})
        self._looker = None

    def look_again(self) -> None:
        """Let waiting claims be tried again, because the clock was set; for tests."""
        for group in self._parking.groups:
            self._parking.wake(group)

    def drain(self) -> None:
        """Answer the claims that wait, with nothing, and let no other one wait."""
        self._draining = True
        for call in self._parking.everyone:
            self._time_up(call)

    async def _transact(self, requests: Sequence[Request], waited: Sequence[int]) -> tuple[list[Answer], Change, int]:
        if self._remote:
            loop = self._loop
            return await loop.run_in_executor(self._writers, self._transact_remotely, requests, waited)
        answers, change, now, commit = self._decided(requests, waited)
        if commit and self._storage.waits == "commit" and self._commit_s > QUICK_S:
            await self._loop.run_in_executor(self._writers, self._commit, commit)
        elif commit:
            self._commit(commit)
        return answers, change, now

    def _commit(self, commit: Callable[[], None]) -> None:
        begun = time.monotonic()
        commit()
        self._commit_s += (time.monotonic() - begun - self._commit_s) / 8

    def _transact_remotely(
        self, requests: Sequence[Request], waited: Sequence[int]
    ) -> tuple[list[Answer], Change, int]:
        attempt = 1
        while True:
            try:
                answers, change, now, commit = self._decided(requests, waited)
                if commit:
                    commit()
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                attempt += 1
            else:
                return answers, change, now

    def _decided(
        self, requests: Sequence[Request], waited: Sequence[int]
    ) -> tuple[list[Answer], Change, int, Callable[[], None] | None]:
        """The answers, the change, its instant, and what is left to be done to make it durable."""
        transaction = self._storage.begin(wanted(requests))
        try:
            answers, change = decide(requests, transaction.seen, waited)
            if change:
                transaction.write(change)
        except BaseException:
            transaction.rollback()
            raise
        if change:
            return answers, change, transaction.seen.now, transaction.commit
        transaction.rollback()
        return answers, change, transaction.seen.now, None

    async def tasks(self, ids: Sequence[int]) -> list[Task | None]:
        """For each id, in the same order, the task that has it, or None."""
        self._check()
        if self._remote:
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
            await self._in_a_thread(pages.close)

    async def groups(self) -> list[str]:
        """The names of all groups."""
        return await self._read(self._storage.groups)

    async def stats(self, prefix: str, limit: int) -> Stats:
        """How many tasks there are, and what was done; the former may be `STATS_S` seconds old."""
        now = time.monotonic()
        self._stats = {key: known for key, known in self._stats.items() if now - known[0] < STATS_S}
        if (prefix, limit) not in self._stats or self._storage.waits == "never":
            counted = await self._read(lambda: self._storage.stats(prefix, limit))
            self._stats[prefix, limit] = now, counted
        groups, totals = self._stats[prefix, limit][1]
        return Stats(groups, totals, self._counters)

    def _count(self, request: Request, answer: Outcome | StepOutcome) -> None:
        counters = self._counters
        if answer.error:
            counters.conflicts += 1
            return
        plain = request.request if type(request) is Keyed else request
        if type(plain) is not Claim:
            update = plain.update if type(plain) is Step else plain
            if update.adds:
                counters.adds += len(update.adds)
            if update.updates:
                counters.updates += len(update.updates)
            if update.deletes:
                counters.deletes += len(set(update.deletes))
        if type(plain) is not Update:
            counters.claims += len(answer.tasks)
            for task in answer.tasks:
                if task.attempts > 1:
                    counters.expired += 1

    async def _read(self, read: Callable[[], _T]) -> _T:
        self._check()
        return await self._in_a_thread(read)

    async def _in_a_thread(self, read: Callable[[], _T]) -> _T:
        if self._storage.waits == "never":
            return read()
        return await self._loop.run_in_executor(self._readers, read)

    async def close(self) -> None:
        """Finish what is under way, then close the storage."""
        self.drain()
        while self._batches:
            await asyncio.wait(self._batches)
        if self._looker:
            self._looker.cancel()
        self._writers.shutdown()
        self._readers.shutdown()
        self._storage.close()


def _claim_of(request: Request) -> Claim | None:
    plain = request.request if type(request) is Keyed else request
    if type(plain) is Step:
        return plain.claim
    return plain if type(plain) is Claim else None


def _adds(request: Request) -> Sequence[TaskAdd]:
    plain = request.request if type(request) is Keyed else request
    update = plain.update if type(plain) is Step else plain
    return (update.adds or ()) if type(update) is Update else ()


def _shuffled(request: Request, claim: Claim) -> Request:
    """The same request, except that it tries its groups in a random order."""
    if len(claim.names) < 2:
        return request
    names = list(dict.fromkeys(claim.names))
    random.shuffle(names)
    shuffled = msgspec.structs.replace(claim, groups=names)
    if type(request) is Keyed:
        return msgspec.structs.replace(request, request=_with_claim(request.request, shuffled))
    return _with_claim(request, shuffled)


def _with_claim(request: Update | Claim | Step, claim: Claim) -> Claim | Step:
    return Step(request.update, claim) if type(request) is Step else claim


def _rest(request: Request, claim: Claim, change: Change) -> Request:
    """What is left of a step whose update is done: its claim, which completes the record of the update."""
    claim = msgspec.structs.replace(claim, depends=None)
    if type(request) is not Keyed:
        return claim
    name = request.client, request.key
    record = next((each for each in change.records if (each.client, each.key) == name), None)
    return Keyed(claim, request.key, request.fingerprint, record)


def _fail(batch: Sequence[_Call], error: Exception) -> None:
    for call in batch:
        if not call.done.cancelled():
            call.done.set_exception(error)
