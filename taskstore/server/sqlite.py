"""Keeps tasks in one SQLite file, on one machine; the only SQL besides postgres.py.

**Durable**: write-ahead log with `synchronous=FULL`, so a commit returns after the fsync. SQLite before 3.51.3 can
corrupt a file in WAL mode when a checkpoint meets a commit; apsw brings its own SQLite, and an old one is refused.

**One writer**: a lock beside the file keeps a second server away. In this process one connection writes; others read,
each a snapshot of its own, without ever holding up the writer.
"""

import os
import random
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Literal

import apsw
import msgspec
from filelock import FileLock, Timeout
from msgspec.structs import astuple

from taskstore.errors import StoreError
from taskstore.server.clock import Clock, SteadyClock
from taskstore.server.messages import GroupStats, Record, Task, Totals
from taskstore.server.rules import Change, Seen, Wanted
from taskstore.server.storage import KEEP_NS, PAGE, WINDOW, CommitError

MEMORY: Final = ":memory:"
"""The name of a store that lives in memory, for tests, and is gone when it is closed."""

RESTORE_JUMP: Final = 1 << 32
"""How far beyond a backup's last id a restored store goes on: at 20,000 ids a second, two and a half days of them."""

_OLDEST_SQLITE: Final = (3, 51, 3)
_APPLICATION_ID: Final = 0x7461736B  # "task", so that `file` and we can tell a store from any other SQLite file.
_BUSY_MS: Final = 2_000
_SPARE_PAGES: Final = 2_048
"""Free pages, of 4 KiB, that a file may always keep: a queue that breathes should not pay for it."""
_SHRINK_PAGES: Final = 16
"""How many free pages a commit gives back: some 20 microseconds of work beside the sync."""
_ALL_PAGES: Final = 2**31 - 1
_LOG_BYTES: Final = 64 << 20
"""What the write-ahead log is cut to after it has grown, under a listing that took its time."""
_CACHE_KIB: Final = 32_768

_MIGRATIONS: Final = [
    """
    CREATE TABLE task (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        data TEXT NOT NULL,
        available INTEGER NOT NULL,
        owner INTEGER NOT NULL
    ) STRICT;
    -- Serves claims and listings. The id, which SQLite appends to every index, makes the order of both total.
    CREATE INDEX task_available ON task (name, available);
    -- One row, written with every commit: ids and time never go back, not even when the newest tasks are deleted.
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        last_id INTEGER NOT NULL,
        now INTEGER NOT NULL
    ) STRICT;
    INSERT INTO store VALUES (1, 0, 0);
""",
    """
    ALTER TABLE task ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    -- Tells claimed tasks from delayed ones without a look at the tasks themselves.
    CREATE INDEX task_claimed ON task (name, available) WHERE attempts > 0;
    -- What keyed requests did. In the order of its row ids it is, but for seconds, in the order of time.
    CREATE TABLE record (
        client INTEGER NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        now INTEGER NOT NULL,
        done BLOB NOT NULL,
        UNIQUE (client, key)
    ) STRICT;
""",
    """
    -- One index for everything, for each costs as much as the table at every change. The attempts tell claimed tasks
    -- from delayed ones; they stand behind the id, or tasks of one instant would have to be sorted at every claim.
    DROP INDEX task_available;
    DROP INDEX task_claimed;
    CREATE INDEX task_available ON task (name, available, id, attempts);
""",
    """
    -- By key first: keys that begin with the time, as those of our clients do, then stand side by side. By client first
    -- each of them had a page of its own to be written, so that a batch of 32 took more than twice as long.
    CREATE TABLE record_by_key (
        client INTEGER NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        now INTEGER NOT NULL,
        done BLOB NOT NULL,
        UNIQUE (key, client)
    ) STRICT;
    INSERT INTO record_by_key SELECT client, key, fingerprint, now, done FROM record ORDER BY rowid;
    DROP TABLE record;
    ALTER TABLE record_by_key RENAME TO record;
""",
]
"""How a file comes from one version of the schema to the next: the first makes an empty file a store."""
_SCHEMA: Final = len(_MIGRATIONS)
# One statement for all of them: of one after the other each would cost twice as much.
_TASKS: Final = """
    SELECT task.id, name, data, available, owner, attempts FROM json_each(?) AS wanted CROSS JOIN task
    ON task.id = wanted.value
"""
_CLAIMABLE: Final = "SELECT id FROM task WHERE name = ? AND available <= ? ORDER BY available, id LIMIT ?"
_GROUP: Final = """
    SELECT id, name, data, available, owner, attempts FROM task
    WHERE name = ? AND available <= ? ORDER BY available, id LIMIT ?
"""
# Steps from each name to the next one in the index, so the cost depends on the number of groups, not of tasks.
_GROUPS: Final = """
    WITH RECURSIVE found (name) AS (
        SELECT min(name) FROM task
        UNION ALL
        SELECT (SELECT min(name) FROM task WHERE name > found.name) FROM found WHERE found.name IS NOT NULL
    )
    SELECT name FROM found WHERE name IS NOT NULL
"""
_NEXT_GROUP: Final = "SELECT min(name) FROM task WHERE name > ?"
_SOONEST: Final = "SELECT min(available) FROM task WHERE name = ?"
_GROUP_STATS: Final = """
    SELECT count(*) FILTER (WHERE available <= :now), count(*) FILTER (WHERE available > :now AND attempts > 0),
        count(*), min(available)
    FROM task WHERE name = :name
"""
_TOTALS: Final = """
    SELECT count(*) FILTER (WHERE available <= :now), count(*) FILTER (WHERE available > :now AND attempts > 0),
        count(*)
    FROM task
"""
_INSERT: Final = "INSERT INTO task (id, name, data, available, owner, attempts) VALUES (?, ?, ?, ?, ?, ?)"
_RECORD: Final = "SELECT client, key, fingerprint, now, done FROM record WHERE client = ? AND key = ? AND now > ?"
_INSERT_RECORD: Final = """
    INSERT INTO record (client, key, fingerprint, now, done) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, now = excluded.now, done = excluded.done
"""
# More than are written, so that the old ones cannot pile up.
_PRUNE: Final = """
    DELETE FROM record WHERE rowid IN (SELECT rowid FROM record ORDER BY rowid LIMIT ?) AND now <= ?
"""
_DELETE: Final = "DELETE FROM task WHERE id = ?"
_encode_ids = msgspec.json.Encoder().encode
_encode_done = msgspec.msgpack.Encoder().encode
_decode_done = msgspec.msgpack.Decoder(tuple[list[int], list[Task], list[Task]]).decode
_END_OF_TIME: Final = 2**63 - 1


class SqliteStorage:
    """A storage in the file `path`, made if it is missing, or in memory.

    Args:
        path: The file, or `:memory:`.
        clock: For tests: what time it is, in nanoseconds since the epoch.

    Raises:
        StoreError: the file cannot be used; the message says why and what to do.
    """

    parallel: int = 1

    def __init__(self, path: str, *, clock: Clock | None = None) -> None:
        if 1_000_000 * _OLDEST_SQLITE[0] + 1_000 * _OLDEST_SQLITE[1] + _OLDEST_SQLITE[2] > apsw.SQLITE_VERSION_NUMBER:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} can corrupt files: pip install --upgrade apsw")
        self.path = path
        self.waits: Final[Literal["never", "commit"]] = "never" if path == MEMORY else "commit"
        self._lock = None if path == MEMORY else _locked(path)
        self._idle: list[apsw.Connection] = []
        self._random = random.Random()  # noqa: S311 - it spreads claimers, it keeps no secret.
        try:
            self._writer = _opened(path)
            self._write = self._writer.cursor()
            _prepared(self._writer, path)
            state: Any = self._write.execute("SELECT last_id, now FROM store").fetchall()[0]
            self._reader = self._writer if path == MEMORY else _opened(path, readonly=True)
        except BaseException as error:
            self._unlock()
            if isinstance(error, apsw.Error):
                raise StoreError(_explained(error, path)) from error
            raise
        self._last_id: int = state[0]
        self.clock: Clock = clock or SteadyClock(not_before=state[1])

    def begin(self, wanted: Wanted) -> "_Transaction":
        """Start a transaction and read what `wanted` names."""
        try:
            self._write.execute("BEGIN IMMEDIATE")
            try:
                return _Transaction(self, self._seen(wanted))
            except BaseException:
                self.rollback()
                raise
        except apsw.Error as error:
            raise CommitError(_explained(error, self.path), applied=False) from error

    def _seen(self, wanted: Wanted) -> Seen:
        now = self.clock()
        claimable = {group: self._claimable(group, now, n) for group, n in wanted.claims.items()}
        records = self._records(wanted.keys, now) if wanted.keys else {}
        return Seen(now, self._tasks(self._write, wanted.ids), claimable, count(self._last_id + 1), records)

    def _records(self, keys: Collection[tuple[int, str]], now: int) -> dict[tuple[int, str], Record]:
        rows: Any = self._write.executemany(_RECORD, [(client, key, now - KEEP_NS) for client, key in keys])
        found = {}
        for client, key, fingerprint, at, done in rows:
            ids, changed, claimed = _decode_done(done)
            found[client, key] = Record(client, key, fingerprint, at, ids, changed, claimed)
        return found

    def _claimable(self, group: str, now: int, claims: int) -> list[Task]:
        first = [id for (id,) in self._write.execute(_CLAIMABLE, (group, now, WINDOW + claims - 1))]
        chosen = self._random.sample(first, min(claims, len(first)))
        return list(self._tasks(self._write, chosen).values())

    @staticmethod
    def _tasks(cursor: apsw.Cursor, ids: Collection[int]) -> dict[int, Task]:
        if not ids:
            return {}
        rows: Any = cursor.execute(_TASKS, (_encode_ids(ids).decode(),))
        return {row[0]: Task(*row) for row in rows}

    def write(self, now: int, change: Change) -> None:
        """Write `change`. For the transaction only."""
        last_id = max([self._last_id, *change.gone, *(task.id for task in change.made)])
        try:
            if change.gone:
                self._write.executemany(_DELETE, [(id,) for id in change.gone])
            if change.made:
                self._write.executemany(_INSERT, list(map(astuple, change.made)))
            if change.records:
                self._write.executemany(_INSERT_RECORD, map(_row, change.records))
                self._write.execute(_PRUNE, (4 * len(change.records), now - KEEP_NS))
            self._write.execute("UPDATE store SET last_id = ?, now = ?", (last_id, now))
            self._shrink(_SHRINK_PAGES)
        except apsw.Error as error:
            self.rollback()
            raise CommitError(_explained(error, self.path), applied=False) from error
        self._last_id = last_id

    def commit(self) -> None:
        """Make durable what was written. For the transaction only."""
        try:
            self._write.execute("COMMIT")
        except apsw.Error as error:
            raise self._uncommitted(error) from error

    def _uncommitted(self, error: apsw.Error) -> CommitError:
        self.rollback()
        # A full disk is found out before anything is synced; after a failed sync nobody knows what is on disk.
        applied = False if isinstance(error, apsw.FullError | apsw.ReadOnlyError | apsw.BusyError) else None
        return CommitError(_explained(error, self.path), applied=applied)

    def _shrink(self, pages: int) -> None:
        """Give some of the free pages back to the file system, if most of the file is free."""
        rows: Any = self._write.execute("PRAGMA freelist_count").fetchall()  # at every commit, so not by pragma()
        [(free,)] = rows
        if free > _SPARE_PAGES and 2 * free > self._writer.pragma("page_count"):
            self._writer.pragma("incremental_vacuum", min(pages, free - _SPARE_PAGES))

    def rollback(self) -> None:
        """Undo what the transaction did. For the transaction only."""
        with suppress(apsw.Error):
            if self._writer.in_transaction:
                self._write.execute("ROLLBACK")

    def tasks(self, ids: Collection[int]) -> Mapping[int, Task]:
        """Those of `ids` that exist, all read at one instant."""
        found: Mapping[int, Task] = {}
        with _told(self.path), nullcontext() if len(ids) < 2 else self._reader:
            found = self._tasks(self._reader.cursor(), ids)
        return found

    def group(self, name: str, *, limit: int, owned: bool) -> Generator[list[Task], None, None]:
        """The tasks of a group at one instant, in pages, ordered by available time and id."""
        until = _END_OF_TIME if owned else self.clock()
        with self._snapshot() as connection:
            rows: Iterator[Any] = connection.execute(_GROUP, (name, until, limit or -1))
            if connection is self._writer:
                rows = iter(list(rows))  # There are no snapshots within one connection.
            while page := [Task(*row) for row in islice(rows, PAGE)]:
                yield page

    def groups(self) -> list[str]:
        """The names of all groups that have a task, sorted by code point."""
        with self._snapshot() as connection:
            rows: Any = connection.execute(_GROUPS).fetchall()
        return [name for (name,) in rows]

    def soonest(self, groups: Collection[str]) -> Mapping[str, int]:
        """In how many nanoseconds the first task of each group becomes available; zero or less if one is already."""
        now = self.clock()
        with _told(self.path):
            rows: Any = self._reader.cursor().executemany(_SOONEST, [(name,) for name in groups])
            first = dict(zip(groups, [instant for (instant,) in rows], strict=True))
        return {name: instant - now for name, instant in first.items() if instant is not None}

    def stats(self, prefix: str, limit: int) -> tuple[list[GroupStats], Totals]:
        """What the groups hold whose name begins with `prefix`, at most `limit` of them or, with 0, all; and totals."""
        now = self.clock()
        with self._snapshot() as connection:
            names = islice(self._names(connection, prefix), limit or None)
            groups = [self._group_stats(connection, name, now) for name in names]
            number = len(connection.execute(_GROUPS).fetchall())
            rows: Any = connection.execute(_TOTALS, {"now": now}).fetchall()
        [(available, owned, every)] = rows
        return groups, Totals(number, available, owned, every - available - owned)

    @staticmethod
    def _names(connection: apsw.Connection, prefix: str) -> Iterator[str]:
        if prefix and connection.execute("SELECT 1 FROM task WHERE name = ? LIMIT 1", (prefix,)).fetchall():
            yield prefix
        name = prefix
        while True:
            following: Any = connection.execute(_NEXT_GROUP, (name,)).fetchall()[0][0]
            if following is None or not following.startswith(prefix):
                return
            name = following
            yield name

    @staticmethod
    def _group_stats(connection: apsw.Connection, name: str, now: int) -> GroupStats:
        row: Any = connection.execute(_GROUP_STATS, {"name": name, "now": now}).fetchall()[0]
        available, owned, every, oldest = row
        return GroupStats(name, available, owned, every - available - owned, now - oldest if available else 0)

    def close(self) -> None:
        """Fold the log into the file, close it and let other processes have it."""
        for connection in self._idle:
            connection.close()
        with suppress(apsw.Error):
            self._shrink(_ALL_PAGES)
        if self._reader is not self._writer:
            self._reader.close()
        self._writer.close()
        self._unlock()

    @contextmanager
    def _snapshot(self) -> Iterator[apsw.Connection]:
        """A connection that reads everything at one instant, beside the writer."""
        with _told(self.path):
            if self.path == MEMORY:
                yield self._writer
                return
            connection = self._idle.pop() if self._idle else _opened(self.path, readonly=True)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
                self._idle.append(connection)

    def _unlock(self) -> None:
        if self._lock:
            self._lock.release()


def _row(record: Record) -> tuple[int, str, bytes, int, bytes]:
    """What is kept of a record, in the order of the columns."""
    done = _encode_done((record.ids, record.changed, record.claimed))
    return record.client, record.key, record.fingerprint, record.now, done


class _Transaction:
    def __init__(self, storage: SqliteStorage, seen: Seen) -> None:
        self._storage = storage
        self.seen = seen

    def write(self, change: Change) -> None:
        self._storage.write(self.seen.now, change)

    def commit(self) -> None:
        self._storage.commit()

    def rollback(self) -> None:
        self._storage.rollback()


def backup(store: str, to: str) -> int:
    """Write the store in file `store`, as it is at one instant, to the new file `to`; a server may be using it.

    Returns:
        How many tasks the backup holds.

    Raises:
        StoreError: it could not be done, and `to` does not exist.
    """
    return _copied(store, to, jump=0)


def restore(backup: str, store: str) -> int:
    """Make the new file `store` from a backup.

    The ids that were given out after the backup was made are not known to it. New ones start far beyond, so that none
    is given out twice: whoever still holds an id from those days finds it gone, as it should be.

    Returns:
        How many tasks the store holds.

    Raises:
        StoreError: it could not be done, and `store` does not exist.
    """
    return _copied(backup, store, jump=RESTORE_JUMP)


def _copied(source: str, to: str, *, jump: int) -> int:
    if Path(to).exists():
        raise StoreError(f"{to} exists already; choose another name, or move it away first")
    if not Path(source).exists():
        raise StoreError(f"there is no {source}")
    if not Path(to).parent.is_dir():
        raise StoreError(f"cannot make {to}: its directory does not exist; make it first")
    partial = Path(f"{to}.partial")
    try:
        partial.unlink(missing_ok=True)
        with closing(_opened(source, readonly=True)) as connection:
            _checked_schema(connection, source)
            connection.execute("VACUUM INTO ?", (str(partial),))
        with closing(_opened(str(partial))) as connection:
            connection.pragma("synchronous", "full")
            if connection.pragma("integrity_check") != "ok":
                raise StoreError(f"{source} is damaged; use another backup")
            connection.execute("UPDATE store SET last_id = last_id + ?", (jump,))
            tasks: Any = connection.execute("SELECT count(*) FROM task").fetchall()[0][0]
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(to)
        _sync_directory(Path(to).parent)
    except (apsw.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        why = _explained(error, source) if isinstance(error, apsw.Error) else str(error)
        raise StoreError(f"cannot copy {source} to {to}: {why}") from error
    return int(tasks)


def _sync_directory(directory: Path) -> None:
    """See to it that files that were made, renamed or deleted stay so, where a directory can be synced."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return  # It may not be read, or this is Windows.
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: str) -> FileLock:
    if not Path(path).parent.is_dir():
        raise StoreError(f"cannot use {path}: its directory does not exist; make it first")
    lock = FileLock(f"{path}-lock", thread_local=False)  # The thread that closes may be another one.
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(f"another server has {path} open; stop it, or give this one a file of its own") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror or error}") from error
    return lock


def _opened(path: str, *, readonly: bool = False) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags)
    connection.set_busy_timeout(_BUSY_MS)
    # A plan never depends on the values asked for, so no statement has to be prepared again because of them.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB // (8 if readonly else 1)}")
    return connection


def _prepared(connection: apsw.Connection, path: str) -> None:
    """Set the file up as a store, or make sure that it is one that we can read."""
    if _is_empty(connection):
        connection.pragma("auto_vacuum", "incremental")  # It has to be said before there is anything in the file.
        connection.pragma("application_id", _APPLICATION_ID)
    schema = _checked_schema(connection, path)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    for version, migration in enumerate(_MIGRATIONS[schema:], schema + 1):
        with connection:
            connection.execute(migration)
            connection.pragma("user_version", version)
    connection.pragma("journal_size_limit", _LOG_BYTES)
    if path != MEMORY:
        # A power cut while a store is made leaves a rollback journal. Opening it again deletes that, without seeing to
        # it that it stays deleted (sqlite.org/pragma.html, synchronous=EXTRA). Come back after the next power cut, it
        # would roll back what was committed meanwhile.
        _sync_directory(Path(path).parent)


def _is_empty(connection: apsw.Connection) -> bool:
    return connection.pragma("application_id") == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchall()


def _checked_schema(connection: apsw.Connection, path: str) -> int:
    if connection.pragma("application_id") != _APPLICATION_ID:
        raise StoreError(f"{path} is no store, but an SQLite file of another program; choose another name")
    schema: Any = connection.pragma("user_version")
    if schema > _SCHEMA:
        raise StoreError(
            f"{path} was written by a newer taskstore (schema {schema}, this one knows {_SCHEMA}): "
            "pip install --upgrade taskstore"
        )
    return int(schema)


_EXPLANATIONS: Final[list[tuple[type[apsw.Error], str]]] = [
    (apsw.FullError, "the disk of {path} is full; make room, nothing is lost"),
    (apsw.ReadOnlyError, "{path} cannot be written; check its permissions and its file system"),
    (apsw.CantOpenError, "cannot open {path}; does its directory exist, and may it be written?"),
    (apsw.NotADBError, "{path} is not a store; choose another name, or restore a backup"),
    (apsw.CorruptError, "{path} is damaged; restore a backup"),
    (apsw.BusyError, "another process has locked {path}; end it, or try again"),
    (apsw.IOError, "the disk of {path} is failing"),
]


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turns an error of SQLite into one of ours."""
    try:
        yield
    except apsw.Error as error:
        raise StoreError(_explained(error, path)) from error


def _explained(error: apsw.Error, path: str) -> str:
    what = next((text for kind, text in _EXPLANATIONS if isinstance(error, kind)), "cannot use {path}")
    return f"{what.format(path=path)} ({error})"
