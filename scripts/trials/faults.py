"""Makes a disk fail under a store, at one moment after the other, and judges what clients were told.

Whatever fails, and whenever: who was answered got the truth; who was told that nothing has changed, too; the file is
sound; and once nobody can know what is on the disk, nothing is answered any more until the store is opened anew.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from taskstore.errors import StoreError
from taskstore.server.storage import Storage
from taskstore.testing import SettableClock
from trials import scratch
from trials.disk import FaultyDisk
from trials.history import Silence
from trials.judge import violations
from trials.simulation import Serial, Simulation, copy_store, look

CALLS: Final = 40
LOG_PAGES: Final = 12
"""How long the write-ahead log gets before it is folded into the file: so short that even a short load sees it."""


class Fault(NamedTuple):
    """How a disk fails."""

    kind: str
    error: type[apsw.Error]
    for_good: bool


FAULTS: Final = [
    Fault(kind, error, for_good)
    for kind, errors in {
        "open": (apsw.CantOpenError,),
        "read": (apsw.IOError,),
        "write": (apsw.IOError, apsw.FullError),
        "truncate": (apsw.IOError,),
        "sync": (apsw.IOError,),
        "delete": (apsw.IOError,),
    }.items()
    for error in errors
    for for_good in (False, True)
]


def moments(seed: int) -> Counter[str]:
    """How often a load, on a disk without faults, does each of the things that can fail."""
    with scratch() as directory:
        disk, _ = _worked(Path(directory), seed, Fault("", apsw.Error, for_good=False), 0)
    return disk.seen


def problems(seed: int, fault: Fault, at: int) -> Iterator[str]:
    """What goes wrong for those who work on a store whose disk fails at the `at`-th moment of its kind."""
    with scratch() as directory:
        disk, simulation = _worked(Path(directory), seed, fault, at)
        if not disk.has_failed:
            yield "there was no fault"
        left = Path(directory) / "left.db"
        copy_store(simulation.path, left)
        yield from map(str, violations(simulation.history, look(left)))
        yield from _answers_after_the_end(simulation)
        with closing(apsw.Connection(str(left))) as connection:
            if (found := connection.pragma("integrity_check")) != "ok":
                yield f"the file is damaged: {found}"


def _worked(directory: Path, seed: int, fault: Fault, at: int) -> tuple[FaultyDisk, Simulation]:
    """Work on a store until the load is done, or the store cannot be opened."""
    simulation = Simulation(directory, seed, opener=_opened)
    disk = FaultyDisk(fault.kind, at, fault.error, for_good=fault.for_good)
    # A fault while a file is closed reaches nobody; it only comes here because this disk is written in Python.
    with disk, suppress(StoreError, apsw.Error):
        simulation.run(CALLS)
    return disk, simulation


def _opened(path: Path, clock: SettableClock) -> Storage:
    storage = Serial(path, clock)
    storage._writer.set_wal_hook(_fold)  # noqa: SLF001 - the load is too short for what is done by default
    return storage


def _fold(connection: apsw.Connection, name: str, pages: int) -> int:
    """What SQLite does after each commit, by default from 1,000 pages on: whether that works is not the commit's."""
    if pages >= LOG_PAGES:
        with suppress(apsw.Error):
            connection.wal_checkpoint(name)
    return apsw.SQLITE_OK


def _answers_after_the_end(simulation: Simulation) -> Iterator[str]:
    for call in simulation.history if simulation.lost_at else ():
        if call.invoked > (simulation.lost_at or 0) and call.answer is not Silence.UNKNOWN:
            yield f"answered although nobody knew what is on the disk: {call}"
