"""Cuts the power of a machine at any moment, and looks at what is left of the store.

Everything that is written to the files of a store and synced is recorded, together with the moments at which a commit
returned. Then the files are rebuilt as they may stand after a power cut at any moment: what was synced is there; what
was not is there, or not, or torn at a sector of 512 bytes, each write for itself. Each time the store has to open, to
be sound, and to be as it was after the last commit that had returned, or after the one that was under way.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from unittest.mock import patch

import apsw

from taskstore.errors import StoreError
from taskstore.server import sqlite
from taskstore.server.messages import Task
from taskstore.server.rules import Wanted
from taskstore.server.sqlite import SqliteStorage
from taskstore.server.storage import Storage
from taskstore.testing import SettableClock
from trials import scratch
from trials.disk import Disk, Event
from trials.simulation import START, Serial, Simulation

SECTOR: Final = 512
STORE: Final = "0.db"
"""The name of the file that a simulation begins with."""
SESSIONS: Final = (15, 30, 60)
"""How many calls there were when a store was closed."""
LOG_PAGES: Final = 12
"""How long the write-ahead log gets before it is folded into the file: so short that even a short load sees it."""
YOUTH: Final = 40
"""How many events it takes to make a store."""
PER_RECORDING: Final = 1_000
"""How many states a recording is good for."""
SHOWN: Final = 10
"""How many recordings with violations are told."""
COMMITTED: Final = "committed"
"""The event that says that a commit has returned."""
SYNCED: Final = "directory synced"
"""The event that says that the directory was synced, by the store and not by SQLite."""


Files: TypeAlias = dict[str, bytes]
State: TypeAlias = dict[int, Task]


class Recording(NamedTuple):
    """What happened to the files of a store, which were there at first, and how it stood after each commit."""

    files: Files
    events: list[Event]
    states: list[State]


class RecordingDisk(Disk):
    """A disk that remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def after(self, event: Event) -> None:
        """Remember it."""
        if event.kind != "read":
            self.events.append(event)

    def noting_directories(self) -> AbstractContextManager[object]:
        """While it lasts, note when the store syncs its directory."""
        return patch.object(sqlite, "_sync_directory", lambda _: self.events.append(Event(SYNCED, "")))


class Noted(Serial):
    """A store that notes on its disk when a commit has returned, and how it stood then."""

    def __init__(self, path: Path, clock: SettableClock, disk: RecordingDisk, states: list[State]) -> None:
        super().__init__(path, clock)
        self._writer.wal_autocheckpoint(LOG_PAGES)
        self._disk = disk
        self._states = states

    def commit(self) -> None:
        """Make durable what was written, and note it."""
        super().commit()
        self._disk.events.append(Event(COMMITTED, ""))
        self._states.append(standing(self))


Opener: TypeAlias = Callable[[Path, SettableClock, RecordingDisk, list[State]], Noted]


def standing(storage: Storage) -> State:
    """All tasks of a store."""
    pages = (page for group in storage.groups() for page in storage.group(group, limit=0, owned=True))
    return {task.id: task for page in pages for task in page}


def recorded(seed: int, *, opener: Opener = Noted, files: Files | None = None) -> Recording:
    """What a load does to the files of a store, which is closed and opened again now and then.

    Args:
        seed: Decides what is asked.
        opener: Opens the store.
        files: What an earlier power cut has left; none for a new store.
    """
    states: list[State] = [state_in(files)] if files else [{}]
    with scratch() as directory, RecordingDisk() as disk, disk.noting_directories():
        _write(files or {}, Path(directory))
        simulation = Simulation(Path(directory), seed, opener=lambda path, clock: opener(path, clock, disk, states))
        for calls in SESSIONS:
            simulation.run(calls)
    return Recording(files or {}, disk.events, states)


def state_in(files: Files) -> State:
    """How the store stands that is in some files."""
    with scratch() as directory:
        _write(files, Path(directory))
        with closing(SqliteStorage(str(Path(directory) / STORE))) as storage:
            return standing(storage)


def _write(files: Files, directory: Path) -> None:
    for name, data in files.items():
        (directory / name).write_bytes(data)


class Remains:
    """What a power cut may leave of some files, as of the last event that it was told of."""

    def __init__(self, files: Files) -> None:
        # What each name may stand for; in the end what it does stand for.
        self._names: dict[str, list[_Content | None]] = {name: [_Content(data)] for name, data in files.items()}

    def see(self, event: Event) -> None:
        """Go on by one event."""
        if event.kind == COMMITTED:
            return
        if event.kind == SYNCED:
            self._sync_directory()
            return
        versions = self._names.setdefault(event.file, [None])
        if event.kind == "open" and versions[-1] is None:
            versions.append(_Content(syncs_directory=event.is_durable))
        elif event.kind == "delete":
            versions.append(None)
            if event.is_durable:
                self._sync_directory()
        elif (content := versions[-1]) is not None and event.kind == "sync":
            content.sync()
            if content.syncs_directory:
                self._sync_directory()
        elif content is not None and event.kind in ("write", "truncate"):
            content.pending.append(event)

    def _sync_directory(self) -> None:
        for name, versions in self._names.items():
            self._names[name] = versions[-1:]
            if content := versions[-1]:
                content.syncs_directory = False

    def left(self, rng: random.Random) -> Files:
        """The files as they may be found."""
        found = {}
        for name, versions in self._names.items():
            content = versions[-1] if rng.random() < 0.5 else rng.choice(versions)
            if content is not None:
                found[name] = content.left(rng)
        return found


class _Content:
    """What is in a file: what was synced, and what came after it."""

    def __init__(self, synced: bytes = b"", *, syncs_directory: bool = False) -> None:
        self.syncs_directory = syncs_directory
        self.pending: list[Event] = []
        self._synced = bytearray(synced)

    def sync(self) -> None:
        for event in self.pending:
            _apply(event, self._synced)
        self.pending.clear()

    def left(self, rng: random.Random) -> bytes:
        data = bytearray(self._synced)
        whole = rng.randint(0, len(self.pending)) if rng.random() < 0.7 else 0
        kept = rng.choice((0.0, 0.0, 0.1, 0.5, 0.9))
        is_torn = rng.random() < 0.5
        for position, event in enumerate(self.pending):
            if position < whole or (not is_torn and rng.random() < kept):
                _apply(event, data)
            elif is_torn or position == whole:
                for piece in _sectors(event):
                    if rng.random() < max(kept, 0.5):
                        _apply(piece, data)
            elif rng.random() < 0.1 and event.kind == "write":
                # The file has grown, and what was written there is missing.
                data.extend(bytes(max(0, event.offset + len(event.data) - len(data))))
        return bytes(data)


def _apply(event: Event, data: bytearray) -> None:
    if event.kind == "truncate":
        del data[event.offset :]
        return
    data.extend(bytes(max(0, event.offset - len(data))))
    data[event.offset : event.offset + len(event.data)] = event.data


def _sectors(event: Event) -> Iterator[Event]:
    """The parts of a write that get to the disk each as a whole."""
    start, end = event.offset, event.offset + len(event.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield event._replace(offset=start, data=event.data[start - event.offset : stop - event.offset])
        start = stop
    if event.kind == "truncate":
        yield event


class Cut(NamedTuple):
    """A moment at which the power was cut, and what may be left."""

    moment: int
    commits: int
    """How many commits had returned."""
    files: Files


def cuts(recording: Recording, number: int, rng: random.Random) -> Iterator[Cut]:
    """So many power cuts, spread over a recording."""
    remains, position, commits = Remains(recording.files), 0, 0
    for moment in sorted(rng.choices(range(len(recording.events) + 1), k=number)):
        for event in recording.events[position:moment]:
            remains.see(event)
            commits += event.kind == COMMITTED
        position = moment
        yield Cut(moment, commits, remains.left(rng))


def problems(seed: int, states: int, *, opener: Opener = Noted) -> Iterator[str]:
    """What goes wrong in so many states, half of them after a second power cut on what a first one had left."""
    rng = random.Random(seed)  # noqa: S311 - it keeps no secret
    recording = recorded(seed, opener=opener)
    yield from _problems(recording, cuts(recording, states - states // 2, rng))
    # While a store is made, there are more kinds of files than ever after.
    youth = recording._replace(events=recording.events[:YOUTH]) if rng.random() < 0.5 else recording
    [first] = cuts(youth, 1, rng)
    if not problem(recording, first):
        recording = recorded(seed, opener=opener, files=first.files)
        yield from _problems(recording, cuts(recording, states // 2, rng))


def _problems(recording: Recording, cuts: Iterator[Cut]) -> Iterator[str]:
    for cut in cuts:
        if found := problem(recording, cut):
            yield f"power cut at event {cut.moment}, when {cut.commits} commits had returned: {found}"


def problem(recording: Recording, cut: Cut) -> str | None:
    """What is wrong with the store that a power cut has left, if anything is."""
    with scratch() as directory:
        _write(cut.files, Path(directory))
        path = Path(directory) / STORE
        try:
            found, next_id = _read(path)
        except StoreError as error:
            return f"it cannot be read: {error}"
        with closing(apsw.Connection(str(path))) as connection:
            soundness = connection.pragma("integrity_check")
    before, after = recording.states[: cut.commits], recording.states[cut.commits : cut.commits + 2]
    if soundness != "ok":
        return f"it is damaged: {soundness}"
    if found not in after:
        return "it lost what was committed" if found in before else "it is as it never was"
    given = max((id for state in [*before, after[0]] for id in state), default=0)
    return None if next_id > given else f"it gives out {next_id} again"


def _read(path: Path) -> tuple[State, int]:
    """All tasks of the store on a file, and the next id that it would give out."""
    with closing(SqliteStorage(str(path), clock=lambda: START)) as storage:
        found = standing(storage)
        transaction = storage.begin(Wanted(frozenset(), {}, 1))
        next_id = next(transaction.seen.fresh)
        transaction.rollback()
    return found, next_id


def main() -> int:
    """What scripts/powercut does, in the environment that it has made ready."""
    parser = argparse.ArgumentParser()
    for name in ("states", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    found, done, shown = 0, 0, 0
    seeds = range(options.seed, options.seed + -(-options.states // PER_RECORDING))
    with ProcessPoolExecutor() as pool:
        for seed, told in zip(seeds, pool.map(_told, seeds), strict=True):
            if told and shown < SHOWN:
                print(f"seed {seed}: {told[0]}", flush=True)
                shown += 1
            found, done = found + len(told), done + PER_RECORDING
            if done % (100 * PER_RECORDING) == 0:
                print(f"{done:,} states, {found} violations", flush=True)
    print(f"{done:,} states, {found} violations")
    return int(found > 0)


def _told(seed: int) -> list[str]:
    return list(problems(seed, PER_RECORDING))


if __name__ == "__main__":
    sys.exit(main())
