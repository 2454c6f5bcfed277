"""Several servers over a database that does not stand still: the short forms of scripts/failover."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import postgresql
import psycopg
import pytest
from postgresql import Postgres
from trials.several import database_fails, servers_die

from taskstore.server.messages import Task
from taskstore.server.postgres import ID_JUMP, PostgresStorage
from taskstore.server.rules import Change, Wanted
from taskstore.server.storage import CommitError

PATIENCE_S: Final = 60.0


def add(storage: PostgresStorage, number: int) -> list[int]:
    transaction = storage.begin(Wanted(frozenset(), {}, number))
    tasks = [Task(id, "g", "", 1, 7) for id in transaction.seen.fresh]
    transaction.write(Change((), tasks))
    transaction.commit()
    return [task.id for task in tasks]


def test_servers_that_are_killed_keep_the_promises_together() -> None:
    assert servers_die(rounds=3, operations=400, seed=1) == []


def test_a_primary_that_is_killed_loses_nothing_that_its_synchronous_standby_has() -> None:
    assert database_fails(rounds=2, operations=300, seed=2) == []


@pytest.fixture
def directory() -> Iterator[Path]:
    with postgresql.directory() as directory:
        yield directory


def test_ids_that_a_standby_has_never_heard_of_are_not_given_out_again(directory: Path) -> None:
    programs = postgresql.programs(directory)
    for name in ("a", "b"):
        (directory / name).mkdir()
    primary, standby = (Postgres(directory / name, programs) for name in ("a", "b"))
    primary.make()
    primary.start()
    url = f"postgresql://postgres@/postgres?host={directory}/a,{directory}/b"
    storage = PostgresStorage(url)
    known = add(storage, 5)
    standby.make_standby_of(primary, "standby")  # It is never started, and so hears of nothing from here on.
    forgotten = add(storage, 1_000)
    primary.kill()
    standby.start()
    standby.promote()
    try:
        new = add(storage, 5)
        assert min(new) > max(forgotten)
        assert min(new) <= max(known) + ID_JUMP + 100
        assert [task.id for page in storage.group("g", limit=0, owned=True) for task in page] == known + new
    finally:
        storage.close()
        standby.stop()


def cancel_what_waits(admin: psycopg.Connection, is_done: Callable[[], bool]) -> None:
    """Cancel each statement that waits for the standby, once; the first one need not be the one that is meant."""
    limit = time.monotonic() + PATIENCE_S
    seen: set[tuple[Any, ...]] = set()
    while not is_done():
        assert time.monotonic() < limit, "waited in vain"
        query = "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        for statement in set(admin.execute(query).fetchall()) - seen:
            seen.add(statement)
            admin.execute("SELECT pg_cancel_backend(%s)", statement[:1])
        time.sleep(0.01)


def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_called_durable() -> None:
    with postgresql.running() as postgres, ThreadPoolExecutor() as pool:
        storage = PostgresStorage(postgres.url)
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            admin.execute("SELECT pg_reload_conf()")
            error: BaseException | None = None
            while error is None:  # It takes a moment until the whole server has heard of the setting.
                committing = pool.submit(add, storage, 1)
                cancel_what_waits(admin, committing.done)
                error = committing.exception()
        assert isinstance(error, CommitError)
        assert error.applied is None
        assert "synchronous replication" in str(error)
        storage.close()
