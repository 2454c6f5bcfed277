"""A store, its clients, its clock and its machine in one thread: one seed, one history.

The store is the real one, on a file; only its commits do not wait in a thread of their own, so that nothing but the
seed decides what happens in which order. Time goes in steps of some nanoseconds, and leases last no longer, so that
`available == now` is an everyday thing. The machine crashes where it hurts: before, between and behind the steps of a
transaction. What it leaves is what a killed process leaves; for a power cut see `powercut`.
"""

import asyncio
import random
import shutil
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from taskstore.errors import StoreError
from taskstore.server.engine import Engine
from taskstore.server.messages import Keyed, KeyMisused, Replayed, Task, Update
from taskstore.server.rules import Change as Written
from taskstore.server.rules import Seen, Wanted
from taskstore.server.sqlite import SqliteStorage
from taskstore.server.storage import CommitError, Storage, Transaction
from taskstore.testing import SettableClock
from trials.history import Answer, Call, Change, Listing, Promise, Read, Request, Silence, Violation
from trials.load import FAR, Load

START: Final = 1_800_000_000 * 10**9
CLIENTS: Final = 6
SIZES: Final = (4, 24)
"""About how many tasks a store holds: so few that claims find nothing and ids run out, or enough for all kinds."""
KEYED: Final = 0.5
"""The part of the changes that have a key; a client that gets no answer to one asks again after the restart."""
REPEATED: Final = 0.1
"""The part of those that are asked again although they were answered."""
MOMENTS: Final = ("idle", "begun", "written", "committed")
"""When a machine can crash: with no transaction open, or behind one of the steps of one."""

Opener: TypeAlias = Callable[[Path, SettableClock], Storage]


class Serial(SqliteStorage):
    """A store on a file, whose commits are made in the thread that asks for them."""

    def __init__(self, path: Path, clock: SettableClock) -> None:
        super().__init__(str(path), clock=clock)
        self.waits: Literal["never"] = "never"  # type: ignore[misc] # it is final, but this is a test


class Simulation:
    """Clients that work on a store which crashes now and then.

    Args:
        directory: Where the files are; empty.
        seed: Decides everything.
        opener: Opens the store on a file.
    """

    def __init__(self, directory: Path, seed: int, *, opener: Opener = Serial) -> None:
        self.history: list[Call] = []
        self.complaints: list[Violation] = []
        """What was wrong with the answer to a request that was repeated."""
        self.lost_at: int | None = None
        """When a client was told, for the first time, that it is unknown whether its request was carried out."""
        self.clock = SettableClock(START)
        self._rng = random.Random(seed)  # noqa: S311 - it keeps no secret
        size = self._rng.choice(SIZES)
        self._load = Load(self._rng, clients=range(1, CLIENTS + 1), now=self.clock, tick=1, groups=2, size=size)
        self._directory = directory
        self._opener = opener
        self._unanswered: dict[str, tuple[Call, str]] = {}
        self._instant = 0
        self._files = 0

    def run(self, calls: int, *, crashes: int = 0) -> None:
        """Have so many calls made, with crashes spread among them."""
        ends = sorted(self._rng.sample(range(1, calls), crashes))
        random.seed(self._rng.random())  # The engine shuffles the groups of a claim.
        for end in (*ends, calls):
            asyncio.run(self._epoch(end, crashes=end < calls))
        self._unanswered.clear()
        self._settle()

    def _settle(self) -> None:
        """What was not answered, and will not be repeated, can have no effect from now on."""
        repeated = [call for call, _ in self._unanswered.values()]
        for call in self.history:
            if call.returned is None and call not in repeated:
                call.returned = self._next_instant()

    async def _epoch(self, end: int, *, crashes: bool) -> None:
        machine = Machine(self.path, self._opened)
        engine = Engine(cast(Storage, machine))
        await self._ask(engine, self._new_call("the start", Listing(None)))
        async with asyncio.TaskGroup() as group:
            for client in range(1, CLIENTS + 1):
                group.create_task(self._work(engine, machine, client, end, crashes))
        self._settle()
        if machine.is_dead:
            self._files += 1
            machine.recover(self.path)
        await engine.close()

    async def _work(self, engine: Engine, machine: "Machine", client: int, end: int, crashes: bool) -> None:
        if lost := self._unanswered.pop(f"c{client}", None):
            await self._ask(engine, *lost)
        while not machine.is_dead and (crashes or len(self.history) < end):
            if crashes and len(self.history) >= end:
                machine.crash(self._rng.choice(MOMENTS))
            for _ in range(self._rng.randrange(3)):
                await asyncio.sleep(0)
            self.clock.advance(self._rng.choice((0, 0, 1, 1, 2)))
            call = self._new_call(f"c{client}", self._load.request(client))
            key = f"k{len(self.history)}" if isinstance(call.request, Change) and self._rng.random() < KEYED else None
            await self._ask(engine, call, key)
            if key and call.was_applied and (call.made or call.consumed) and self._rng.random() < REPEATED:
                await self._repeat(engine, call, key)

    def _new_call(self, client: str, request: Request) -> Call:
        self.history.append(Call(client, request, self._next_instant()))
        return self.history[-1]

    async def _ask(self, engine: Engine, call: Call, key: str | None = None) -> None:
        """Have a call carried out. If it gets no answer and has a key, its client asks again after the restart."""
        with suppress(StoreError):
            call.answer = await asked(engine, keyed(call.request, key) if key else call.request)
        instant = self._next_instant()
        if call.answer is not Silence.UNKNOWN:
            call.returned = instant
            self._load.learn(call)
        elif call.is_unknown:
            self.lost_at = self.lost_at or instant
            if key:
                self._unanswered[call.client] = call, key

    async def _repeat(self, engine: Engine, call: Call, key: str) -> None:
        """Ask once more what was answered, or something else under the same key."""
        same = keyed(call.request, key)
        other = Keyed(Update(same.client, deletes=[FAR]), key, b"other")
        is_same = self._rng.random() < 0.7
        with suppress(StoreError):
            again = await engine.apply(same if is_same else other)
            fits = isinstance(again, Replayed) and again.outcome == call.answer if is_same else again == KeyMisused()
            if not fits:
                number = self.history.index(call)
                self.complaints.append(Violation(Promise.KEY, f"asked again, it got {again}", {number: call}))

    def _opened(self, path: Path) -> Storage:
        storage = self._opener(path, self.clock)
        storage._random = self._rng  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way to its chance
        return storage

    @property
    def path(self) -> Path:
        """The file that the store is in; after a crash it is another one."""
        return self._directory / f"{self._files}.db"

    def _next_instant(self) -> int:
        self._instant += 1
        return self._instant


def look(path: Path) -> list[Task]:
    """All tasks of the store on a file."""

    async def listing() -> list[Task]:
        engine = Engine(SqliteStorage(str(path)))
        try:
            return await everything(engine)
        finally:
            await engine.close()

    return asyncio.run(listing())


async def asked(engine: Engine, request: Request | Keyed) -> Answer:
    """The answer of an engine to a request.

    Raises:
        StoreError: it is unknown whether it was carried out.
    """
    if isinstance(request, Read):
        return await engine.tasks(request.ids)
    if isinstance(request, Listing):
        return await everything(engine) if request.group is None else await listed(engine, request.group)
    try:
        answer = await engine.apply(request)
    except CommitError as error:
        if error.applied is None:
            raise
        return Silence.NOTHING
    if isinstance(answer, KeyMisused):
        return Silence.NOTHING
    return answer.outcome if isinstance(answer, Replayed) else answer


def keyed(request: Request, key: str) -> Keyed:
    """A request under a key."""
    assert isinstance(request, Change)
    return Keyed(request, key, msgspec.json.encode(request))


async def listed(engine: Engine, group: str) -> list[Task]:
    """All tasks of a group."""
    async with aclosing(engine.group(group, limit=0, owned=True)) as pages:
        return [task async for page in pages for task in page]


async def everything(engine: Engine) -> list[Task]:
    """All tasks of all groups, while nobody changes any."""
    return [task for group in await engine.groups() for task in await listed(engine, group)]


def copy_store(path: Path, to: Path) -> None:
    """Copy the file of a store together with its logs, whoever has them open."""
    for end in ("", "-wal", "-journal"):
        with suppress(FileNotFoundError):
            shutil.copy(f"{path}{end}", f"{to}{end}")


class Machine:
    """A storage that dies at a moment that was chosen before, and takes the last answers with it."""

    parallel: int = 1

    def __init__(self, path: Path, opener: Callable[[Path], Storage]) -> None:
        self.is_dead = False
        self._path = path
        self._storage = opener(path)
        self._moment = ""

    @property
    def waits(self) -> Literal["never", "commit", "always"]:
        return self._storage.waits

    def crash(self, moment: str) -> None:
        """Crash when `moment` comes."""
        self._moment = moment
        self.pass_by("idle")

    def pass_by(self, moment: str) -> None:
        """Crash if this is the moment.

        Raises:
            CommitError: nobody knows what has happened, for there is nobody any more.
        """
        if moment == self._moment and not self.is_dead:
            self.is_dead = True
            copy_store(self._path, Path(f"{self._path}.left"))
        if self.is_dead and moment != "idle":
            raise CommitError("crashed", applied=None)

    def recover(self, path: Path) -> None:
        """Put what the crash left to another place."""
        copy_store(Path(f"{self._path}.left"), path)

    def begin(self, wanted: Wanted) -> "_Transaction":
        self.pass_by("begun")
        return _Transaction(self, self._storage.begin(wanted))

    def __getattr__(self, verb: str) -> Any:
        """Whatever reads."""
        self.pass_by("read")
        return getattr(self._storage, verb)

    def close(self) -> None:
        self._storage.close()


class _Transaction:
    def __init__(self, machine: Machine, transaction: Transaction) -> None:
        self._machine = machine
        self._transaction = transaction

    @property
    def seen(self) -> Seen:
        return self._transaction.seen

    def write(self, change: Written) -> None:
        self._transaction.write(change)
        self._pass_by("written")

    def commit(self) -> None:
        self._transaction.commit()
        self._pass_by("committed")

    def rollback(self) -> None:
        self._transaction.rollback()

    def _pass_by(self, moment: str) -> None:
        try:
            self._machine.pass_by(moment)
        except CommitError:
            self._transaction.rollback()
            raise
