"""What is particular to the storage in a file: its locks, its errors, its size, its backups."""

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from taskstore.errors import StoreError
from taskstore.server import open_storage
from taskstore.server.messages import Record, Task
from taskstore.server.rules import Change, Wanted
from taskstore.server.sqlite import (
    _APPLICATION_ID,
    _MIGRATIONS,
    RESTORE_JUMP,
    SqliteStorage,
    _encode_done,
    backup,
    restore,
)
from taskstore.server.storage import KEEP_NS, CommitError
from taskstore.testing import SettableClock

NOW = 1_800_000_000 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(str(path), clock=SettableClock(NOW))
    yield storage
    storage.close()


def write(storage: SqliteStorage, *data: str, gone: tuple[int, ...] = ()) -> list[Task]:
    transaction = storage.begin(Wanted(frozenset(gone), {}, len(data)))
    tasks = [Task(next(transaction.seen.fresh), "g", text, NOW, 7) for text in data]
    transaction.write(Change(gone, tasks))
    transaction.commit()
    return tasks


def held(storage: SqliteStorage) -> list[Task]:
    return [task for page in storage.group("g", limit=0, owned=True) for task in page]


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    first = open_storage(path)
    with pytest.raises(StoreError, match="another server has"):
        open_storage(path)
    first.close()
    open_storage(path).close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a database, but long enough to be read as one" * 100, "is not a store"),
        (b"SQLite format 3\x00" + b"\xff" * 5000, "is not a store|is damaged"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_kept(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        open_storage(str(tmp_path / "nowhere" / "store.db"))


def test_a_store_of_a_newer_schema_is_refused(path: Path, storage: SqliteStorage) -> None:
    storage.close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 999)
    connection.close()
    with pytest.raises(StoreError, match=r"newer taskstore \(schema 999"):
        SqliteStorage(str(path))


def test_an_sqlite_file_of_another_program_is_refused_and_kept(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    with pytest.raises(StoreError, match="another program"):
        SqliteStorage(str(path))
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    connection.close()


def test_a_file_that_may_not_be_written_is_named(path: Path, storage: SqliteStorage) -> None:
    storage._writer.pragma("query_only", True)  # SQLite then says the same as of a read-only file.
    with pytest.raises(CommitError, match=r"store\.db cannot be written; check its permissions") as caught:
        write(storage, "never")
    assert caught.value.applied is False
    assert held(storage) == []


def test_a_full_disk_fails_what_is_asked_and_loses_nothing(path: Path, storage: SqliteStorage) -> None:
    [kept] = write(storage, "kept")
    storage._writer.pragma("max_page_count", 1)  # SQLite then says the same as when the disk is full.
    with pytest.raises(CommitError, match="is full") as caught:
        write(storage, "x" * 100_000)
    assert caught.value.applied is False
    assert held(storage) == [kept]
    storage._writer.pragma("max_page_count", 2**31)
    assert [task.data for task in write(storage, "after")] == ["after"]


def test_a_lock_held_by_another_process_is_a_refusal_that_changes_nothing(path: Path, storage: SqliteStorage) -> None:
    storage._writer.set_busy_timeout(1)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CommitError, match="another process has locked") as caught:
        write(storage, "never")
    assert caught.value.applied is False
    other.execute("ROLLBACK")
    other.close()
    assert [task.data for task in write(storage, "after")] == ["after"]


def test_a_file_that_was_large_and_is_empty_shrinks(path: Path, storage: SqliteStorage) -> None:
    tasks = write(storage, *["x" * 40_000] * 1_000)
    storage.close()
    large = path.stat().st_size
    assert large > 40_000_000
    storage = SqliteStorage(str(path), clock=SettableClock(NOW))
    write(storage, gone=tuple(task.id for task in tasks))
    storage.close()
    assert path.stat().st_size < large / 3


def test_a_backup_is_what_the_store_was_at_one_instant_while_it_is_used(path: Path, storage: SqliteStorage) -> None:
    tasks = write(storage, "a", "b")
    copy = path.with_name("backup.db")
    assert backup(str(path), str(copy)) == 2
    write(storage, "later", gone=(tasks[0].id,))
    restored = path.with_name("restored.db")
    assert restore(str(copy), str(restored)) == 2
    again = SqliteStorage(str(restored), clock=SettableClock(NOW))
    assert held(again) == tasks
    again.close()


def test_a_restored_store_gives_out_no_id_that_was_given_out_after_the_backup(
    path: Path, storage: SqliteStorage
) -> None:
    write(storage, "a")
    backup(str(path), str(path.with_name("backup.db")))
    later = write(storage, "b", "c")
    restored = path.with_name("restored.db")
    restore(str(path.with_name("backup.db")), str(restored))
    again = SqliteStorage(str(restored), clock=SettableClock(NOW))
    [new] = write(again, "d")
    again.close()
    assert new.id > max(task.id for task in later)
    assert new.id > RESTORE_JUMP


def test_a_backup_overwrites_nothing_and_leaves_nothing_half_done(path: Path, storage: SqliteStorage) -> None:
    there = path.with_name("there.db")
    there.write_bytes(b"precious")
    with pytest.raises(StoreError, match="exists already"):
        backup(str(path), str(there))
    assert there.read_bytes() == b"precious"
    with pytest.raises(StoreError, match="there is no"):
        backup(str(path.with_name("missing.db")), str(path.with_name("new.db")))
    with pytest.raises(StoreError, match="is not a store"):
        restore(str(there), str(path.with_name("new.db")))
    assert sorted(each.name for each in path.parent.glob("*new*")) == []


def test_a_damaged_backup_is_not_restored(path: Path, storage: SqliteStorage) -> None:
    write(storage, *["x" * 3_000] * 100)
    copy = path.with_name("backup.db")
    backup(str(path), str(copy))
    content = bytearray(copy.read_bytes())
    content[100_000:110_000] = b"\xa5" * 10_000
    copy.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        restore(str(copy), str(path.with_name("new.db")))
    assert not path.with_name("new.db").exists()


@pytest.mark.parametrize("schema", range(1, len(_MIGRATIONS)))
def test_a_file_of_an_older_schema_is_migrated(path: Path, schema: int) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("application_id", _APPLICATION_ID)
    for migration in _MIGRATIONS[:schema]:
        connection.execute(migration)
    connection.pragma("user_version", schema)
    connection.execute("INSERT INTO task (id, name, data, available, owner) VALUES (5, 'g', 'old', 1, 7)")
    connection.execute("UPDATE store SET last_id = 5")
    if schema > 1:
        connection.execute("INSERT INTO record VALUES (7, 'key', x'00', ?, ?)", (NOW, _encode_done(([5], [], []))))
    connection.close()
    storage = SqliteStorage(str(path), clock=SettableClock(NOW))
    assert held(storage) == [Task(5, "g", "old", 1, 7, attempts=0)]
    assert [task.id for task in write(storage, "new")] == [6]
    transaction = storage.begin(Wanted(frozenset(), {}, 0, frozenset({(7, "key")})))
    assert [record.ids for record in transaction.seen.records.values()] == ([[5]] if schema > 1 else [])
    transaction.rollback()
    storage.close()


def test_records_that_are_too_old_go_bit_by_bit(storage: SqliteStorage) -> None:
    """With each commit four times as many as are written, and never one whose time is not up."""

    def keep(*keys: str) -> int:
        transaction = storage.begin(Wanted(frozenset(), {}, 0))
        transaction.write(Change((), (), [Record(7, key, b"", NOW, [], [], []) for key in keys]))
        transaction.commit()
        return len(storage._writer.execute("SELECT key FROM record").fetchall())

    for n in range(10):
        storage._writer.execute("INSERT INTO record VALUES (7, ?, x'', ?, x'')", (f"old{n}", NOW - KEEP_NS))
    assert keep("a") == 10 - 4 + 1
    assert keep("b", "c") == 3
    assert keep("d") == 4


def test_a_lock_is_let_go_by_whichever_thread_closes(path: Path) -> None:
    storage = SqliteStorage(str(path))
    closing = threading.Thread(target=storage.close)
    closing.start()
    closing.join()
    SqliteStorage(str(path)).close()
