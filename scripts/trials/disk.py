"""A disk under SQLite that can be watched, and made to fail: a file system of SQLite's (a VFS), written in Python.

While a disk is entered, every connection that is opened lies on it. It sees the files of the database and of its logs;
the index of the write-ahead log, which is only shared memory, it does not see.
"""

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import apsw

KINDS: Final = ("open", "read", "write", "truncate", "sync", "delete")
_names = count(1)


class Event(NamedTuple):
    """Something that has happened to a file."""

    kind: str
    """One of `KINDS`, or a word of whoever keeps the record."""
    file: str
    """The file's name, without its directory."""
    offset: int = 0
    """Where was written; the length after a truncation."""
    data: bytes = b""
    is_durable: bool = False
    """Of a deletion: whether the directory was synced. Of a file that is opened: whether its first sync does that."""


class Disk(apsw.VFS):
    """A disk without faults that nobody watches; others override `before` or `after`."""

    def __init__(self) -> None:
        self.below = apsw.vfs_names()[0]
        super().__init__(f"trial{next(_names)}", self.below, makedefault=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.unregister()

    def before(self, event: Event) -> bytes:
        """Called before something is done; what is to be written.

        Raises:
            apsw.Error: it is not to be done, and this is what SQLite is told.
        """
        return event.data

    def after(self, event: Event) -> None:
        """Called when it was done."""

    def xOpen(self, name: Any, flags: list[int]) -> "File":  # noqa: N802 - the name is apsw's
        """Open a file."""
        path = Path(name if isinstance(name, str) else name.filename() if name else "")
        # SQLite syncs the directory of a log that it has made together with the log.
        is_log = bool(flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL))
        event = Event("open", path.name, is_durable=is_log and not path.exists())
        self.before(event)
        file = File(self, path.name, name, flags)
        self.after(event)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Delete a file."""
        event = Event("delete", Path(filename).name, is_durable=syncdir)
        self.before(event)
        super().xDelete(filename, syncdir)
        self.after(event)


class File(apsw.VFSFile):
    """An open file on a disk."""

    def __init__(self, disk: Disk, file: str, name: Any, flags: list[int]) -> None:
        super().__init__(disk.below, name, flags)
        self._disk = disk
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Read."""
        self._disk.before(Event("read", self._file, offset))
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write; where only a part of it can be written, write that and fail."""
        event = Event("write", self._file, offset, bytes(data))
        try:
            super().xWrite(self._disk.before(event), offset)
        except PartlyWritten as partly:
            super().xWrite(partly.data, offset)
            raise partly.error from None
        self._disk.after(event)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Cut off what lies behind `newsize`."""
        event = Event("truncate", self._file, newsize)
        self._disk.before(event)
        super().xTruncate(newsize)
        self._disk.after(event)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Make durable what was written."""
        event = Event("sync", self._file)
        self._disk.before(event)
        super().xSync(flags)
        self._disk.after(event)


class PartlyWritten(Exception):
    """Raised by `Disk.before`: only this much is to be written."""

    def __init__(self, data: bytes, error: apsw.Error) -> None:
        super().__init__()
        self.data = data
        self.error = error


class FaultyDisk(Disk):
    """A disk that fails once, or from then on.

    Args:
        kind: What it fails at, one of `KINDS`.
        at: The how many-th of those it fails at, from 1; 0 for never.
        error: How it fails.
        for_good: Whether it goes on failing at everything of that kind.
    """

    def __init__(self, kind: str, at: int, error: type[apsw.Error], *, for_good: bool = False) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self._kind = kind
        self._at = at
        self._error = error
        self._for_good = for_good

    @property
    def has_failed(self) -> bool:
        """Whether there was a fault."""
        return 0 < self._at <= self.seen[self._kind]

    def before(self, event: Event) -> bytes:
        """Fail if it is time; a write that fails gets half way."""
        self.seen[event.kind] += 1
        seen = self.seen[event.kind]
        if event.kind == self._kind and self._at and (seen == self._at or (self._for_good and seen > self._at)):
            error = self._error("planted")
            if event.kind == "write":
                raise PartlyWritten(event.data[: len(event.data) // 2], error)
            raise error
        return event.data
