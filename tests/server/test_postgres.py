"""PostgreSQL: what several servers over one database owe each other, and what happens when the database goes away."""

import asyncio
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import psycopg.sql
import pytest

from taskstore.errors import StoreError
from taskstore.server import open_storage, postgres
from taskstore.server.database import Database, Session
from taskstore.server.engine import Engine
from taskstore.server.messages import Outcome, Record, Task, TaskAdd, Update
from taskstore.server.postgres import ID_JUMP, PostgresStorage
from taskstore.server.rules import Change, Wanted
from taskstore.server.storage import KEEP_NS, PAGE, WINDOW, CommitError, ConflictError, Transaction

ME = 1000
PAUSE_S = 0.3
"""Long enough for a thread to get to a lock and to wait there."""

Open = Callable[..., PostgresStorage]


@pytest.fixture
def opened(postgres_url: str) -> Iterator[Open]:
    """Opens the store for one more server."""
    storages: list[PostgresStorage] = []

    def open_one(parameters: str = "") -> PostgresStorage:
        storages.append(PostgresStorage(postgres_url + parameters))
        return storages[-1]

    yield open_one
    for storage in storages:
        storage.close()


@pytest.fixture
def one(opened: Open) -> PostgresStorage:
    return opened()


@pytest.fixture
def two(opened: Open) -> PostgresStorage:
    return opened()


@pytest.fixture
def admin(postgres_url: str) -> Iterator[Session]:
    """A session of an administrator, in the schema of the store."""
    with Database(postgres_url).connected() as session:
        yield session


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def begin(storage: PostgresStorage, *ids: int, fresh: int = 0, **claims: int) -> Transaction:
    return storage.begin(Wanted(frozenset(ids), claims, fresh))


def add(storage: PostgresStorage, number: int, *, gone: tuple[int, ...] = (), group: str = "g") -> list[int]:
    """Make tasks that are available, and consume some."""
    transaction = begin(storage, *gone, fresh=number)
    tasks = [Task(id, group, f"data {id}", transaction.seen.now, ME) for id in transaction.seen.fresh]
    transaction.write(Change(gone, tasks))
    transaction.commit()
    return [task.id for task in tasks]


def consume(transaction: Transaction, *ids: int) -> None:
    transaction.write(Change(ids, ()))
    transaction.commit()


def claimed(transaction: Transaction) -> list[int]:
    return [task.id for tasks in transaction.seen.claimable.values() for task in tasks]


def left(storage: PostgresStorage, group: str = "g") -> list[int]:
    return [task.id for page in storage.group(group, limit=0, owned=True) for task in page]


@contextmanager
def waiting(future: "Future[Any]") -> Iterator[None]:
    """Around what ends the wait of a call in a thread."""
    with pytest.raises(TimeoutError):
        future.result(PAUSE_S)
    yield
    future.exception(10)


# Two servers


def test_servers_that_claim_at_once_never_get_the_same_task(
    one: PostgresStorage, two: PostgresStorage, pool: ThreadPoolExecutor
) -> None:
    ids = add(one, 600)

    def work(storage: PostgresStorage) -> list[int]:
        mine: list[int] = []
        while taken := claimed(transaction := begin(storage, g=7)):
            consume(transaction, *taken)
            mine += taken
        transaction.rollback()
        return mine

    futures = [pool.submit(work, storage) for storage in (one, two) for _ in range(3)]
    shares = [future.result() for future in futures]
    assert Counter(id for share in shares for id in share) == Counter(ids)
    assert sum(map(bool, shares)) > 1
    assert left(one) == []


def test_a_claim_locks_what_it_gets_and_nothing_else(one: PostgresStorage, two: PostgresStorage) -> None:
    ids = add(one, 3 * WINDOW)
    first = begin(one, g=5)
    second = begin(two, g=3 * WINDOW - 5)
    assert sorted(claimed(first) + claimed(second)) == ids
    first.rollback()
    second.rollback()


def test_a_claim_finds_what_lies_behind_those_in_other_hands(one: PostgresStorage, two: PostgresStorage) -> None:
    ids = add(one, 4 * WINDOW)
    first = begin(one, g=3 * WINDOW)
    second = begin(two, g=1)
    assert claimed(second)[0] in set(ids) - set(claimed(first))
    first.rollback()
    second.rollback()


@pytest.mark.parametrize("consumed", [True, False])
def test_nothing_to_claim_is_only_said_when_it_is_certain(
    one: PostgresStorage, two: PostgresStorage, pool: ThreadPoolExecutor, consumed: bool
) -> None:
    [id] = add(one, 1)
    first = begin(one, id)
    second = pool.submit(begin, two, g=1)
    with waiting(second):
        consume(first, id) if consumed else first.rollback()
    assert claimed(second.result()) == ([] if consumed else [id])
    second.result().rollback()


def test_a_claim_does_not_wait_for_ever_for_a_server_that_stands_still(
    one: PostgresStorage, two: PostgresStorage
) -> None:
    [id] = add(one, 1)
    still = begin(one, id)
    claim = begin(two, g=1)
    assert claimed(claim) == []
    claim.rollback()
    still.rollback()


def test_ids_grow_across_servers_and_beyond_those_that_are_consumed(one: PostgresStorage, two: PostgresStorage) -> None:
    ids = [id for _ in range(5) for storage in (one, two) for id in add(storage, 2)]
    assert ids == sorted(set(ids))
    early = begin(one, fresh=1)
    late = add(two, 1)
    assert next(early.seen.fresh) < late[0]
    early.rollback()
    claim = begin(one, fresh=1, g=100)
    assert next(claim.seen.fresh) > max(claimed(claim))
    claim.rollback()


def test_the_clock_is_the_databases_to_the_microsecond(one: PostgresStorage, admin: Session) -> None:
    nows = []
    for _ in range(3):
        transaction = begin(one)
        nows.append(transaction.seen.now)
        transaction.rollback()
        [(microseconds,)] = admin.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        nows.append(microseconds * 1000)
    assert nows == sorted(nows)
    assert nows[-1] - nows[0] < 10 * 10**9
    assert any(now % 10**6 for now in nows)


# Locks on what is named


def lean_on_each_other(one: PostgresStorage, two: PostgresStorage, rounds: int) -> Counter[int]:
    """Two servers delete a task each, if that of the other one is there; how often how many of them did."""

    async def main() -> Counter[int]:
        engines = Engine(one), Engine(two)
        done: Counter[int] = Counter()
        for _ in range(rounds):
            made = await engines[0].apply(Update(ME, [TaskAdd("g"), TaskAdd("g")]))
            assert isinstance(made, Outcome)
            a, b = (task.id for task in made.tasks)
            answers = await asyncio.gather(
                engines[0].apply(Update(ME, deletes=[a], depends=[b])),
                engines[1].apply(Update(ME, deletes=[b], depends=[a])),
            )
            done[sum(isinstance(answer, Outcome) and answer.error is None for answer in answers)] += 1
        for engine in engines:
            await engine.close()
        return done

    return asyncio.run(main())


def test_what_a_batch_depends_on_is_locked(one: PostgresStorage, two: PostgresStorage) -> None:
    assert lean_on_each_other(one, two, 30) == {1: 30}


def test_without_that_lock_both_would_get_their_way(
    one: PostgresStorage, two: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_NAMED", postgres._NAMED.replace("FOR UPDATE", ""))
    assert lean_on_each_other(one, two, 30)[2] > 0


def test_deadlocks_are_resolved_and_tried_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    conflicts: list[str] = []
    done: list[bool] = []

    def conflict(text: str) -> ConflictError:
        conflicts.append(text)
        return ConflictError(text)

    monkeypatch.setattr(postgres, "_NAMED", postgres._NAMED.replace("ORDER BY id", "ORDER BY random()"))
    monkeypatch.setattr(postgres, "ConflictError", conflict)
    storages = [opened("&options=-c%20deadlock_timeout%3D10ms") for _ in range(2)]
    ids = add(storages[0], 3_000)

    async def main() -> None:
        engines = [Engine(storage) for storage in storages]
        while not conflicts:
            request = Update(ME, [TaskAdd("h")], depends=ids)
            answers = await asyncio.gather(*[engine.apply(request) for engine in engines])
            done.extend(isinstance(answer, Outcome) and answer.error is None for answer in answers)
        for engine in engines:
            await engine.close()

    asyncio.run(main())
    assert all(done)
    assert len(left(storages[0], "h")) == len(done)


def test_an_id_that_was_guessed_and_comes_to_be_meanwhile_is_not_called_missing(
    one: PostgresStorage, two: PostgresStorage, pool: ThreadPoolExecutor
) -> None:
    [old] = add(one, 1)
    first = begin(one, old, fresh=1)
    guessed = next(first.seen.fresh)
    second = pool.submit(begin, two, old, guessed)
    with waiting(second):
        first.write(Change([old], [Task(guessed, "g", "", 1, ME)]))
        first.commit()
    # It waited for the one to go, and had looked for the other one before that.
    assert isinstance(second.exception(), ConflictError)
    again = begin(two, old, guessed)
    assert list(again.seen.tasks) == [guessed]
    again.rollback()


# Keyed requests


def keyed(storage: PostgresStorage) -> Transaction:
    return storage.begin(Wanted(frozenset(), {}, 0, frozenset([(ME, "key")])))


def test_a_request_that_is_under_way_twice_waits_for_itself(
    one: PostgresStorage, two: PostgresStorage, pool: ThreadPoolExecutor
) -> None:
    first = keyed(one)
    second = pool.submit(keyed, two)
    record = Record(ME, "key", b"print", first.seen.now, [1], [], [])
    with waiting(second):
        first.write(Change((), [Task(1, "g", "", 1, ME)], [record]))
        first.commit()
    assert second.result().seen.records == {(ME, "key"): record}
    second.result().rollback()


def test_records_that_are_too_old_are_not_found_and_go_bit_by_bit(one: PostgresStorage, admin: Session) -> None:
    first = keyed(one)
    first.rollback()
    admin.execute(
        "INSERT INTO record SELECT %s, 'key' || n, '', %s, '\\x93909090' FROM generate_series(1, 10) AS n",
        [ME, first.seen.now - KEEP_NS],
    )
    admin.execute("UPDATE record SET key = 'key' WHERE key = 'key1'")
    second = keyed(one)
    assert second.seen.records == {}
    second.write(Change((), [Task(1, "g", "", 1, ME)], [Record(ME, "key", b"new", second.seen.now, [], [], [])]))
    second.commit()
    assert admin.execute("SELECT count(*) FROM record").fetchone() == (6,)
    third = keyed(one)
    third.rollback()
    assert list(third.seen.records) == [(ME, "key")]


# Trouble


def end_all_sessions(admin: Session) -> int:
    """Have the database end every session of a server."""
    ended = admin.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'taskstore' AND pid <> pg_backend_pid()"
    ).fetchall()
    return len(ended)


def test_a_session_that_is_ended_before_the_commit_has_changed_nothing(one: PostgresStorage, admin: Session) -> None:
    transaction = begin(one, fresh=1)
    transaction.write(Change((), [Task(next(transaction.seen.fresh), "g", "", 1, ME)]))
    end_all_sessions(admin)
    with pytest.raises(CommitError) as raised:
        transaction.commit()
    assert raised.value.applied is False
    assert left(one) == []
    assert len(add(one, 1)) == 1


def test_a_session_that_is_ended_during_the_commit_may_have_changed_something(
    one: PostgresStorage, admin: Session, pool: ThreadPoolExecutor
) -> None:
    admin.execute("CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); END'")
    admin.execute(
        "CREATE CONSTRAINT TRIGGER nap AFTER INSERT ON task DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION nap()"
    )
    committing = pool.submit(add, one, 1)
    with waiting(committing):
        end_all_sessions(admin)
    error = committing.exception()
    assert isinstance(error, CommitError)
    assert error.applied is None
    admin.execute("DROP TRIGGER nap ON task")
    assert len(add(one, 1)) == 1


def test_sessions_that_were_ended_between_two_calls_are_not_noticed(one: PostgresStorage, admin: Session) -> None:
    transactions = [begin(one) for _ in range(3)]
    for transaction in transactions:
        transaction.rollback()
    assert end_all_sessions(admin) >= 3
    [id] = add(one, 1)
    end_all_sessions(admin)
    assert list(one.tasks([id])) == [id]
    end_all_sessions(admin)
    assert left(one) == [id]
    end_all_sessions(admin)
    assert one.groups() == ["g"]


def test_a_lock_that_is_held_for_too_long_is_reported_and_nothing_is_changed(opened: Open, admin: Session) -> None:
    storage = opened("&options=-c%20lock_timeout%3D100ms")
    ids = add(storage, 2)
    with admin.transaction():
        admin.execute("SELECT FROM task WHERE id = %s FOR UPDATE", [ids[0]])
        with pytest.raises(CommitError, match="has kept a task locked") as raised:
            begin(storage, *ids)
    assert raised.value.applied is False
    begin(storage, *ids).rollback()


def test_a_refused_statement_has_changed_nothing(one: PostgresStorage, admin: Session) -> None:
    [id] = add(one, 1)
    transaction = begin(one)
    transaction.write(Change((), [Task(id, "g", "the same id", 1, ME)]))
    with pytest.raises(CommitError) as raised:
        transaction.commit()
    assert raised.value.applied is False
    assert left(one) == [id]


# The schema, and who may do what in it


def test_servers_that_start_at_once_make_one_schema(postgres_url: str, pool: ThreadPoolExecutor) -> None:
    start = threading.Barrier(8)

    def open_one() -> PostgresStorage:
        start.wait()
        return PostgresStorage(postgres_url)

    storages = [future.result() for future in [pool.submit(open_one) for _ in range(8)]]
    ids = [id for storage in storages for id in add(storage, 1)]
    assert ids == list(range(1, 9))
    for storage in storages:
        storage.close()


def test_an_older_schema_is_brought_up_to_date_by_one_of_several_servers(
    one: PostgresStorage, postgres_url: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(one, 1)
    migrations = [*postgres._MIGRATIONS, "ALTER TABLE task ADD COLUMN priority integer NOT NULL DEFAULT 0"]
    monkeypatch.setattr(postgres, "_MIGRATIONS", migrations)
    storages = [future.result() for future in [pool.submit(PostgresStorage, postgres_url) for _ in range(4)]]
    assert [left(storage) for storage in storages] == [[1]] * 4
    for storage in storages:
        storage.close()


def test_a_newer_schema_is_refused(one: PostgresStorage, admin: Session, postgres_url: str) -> None:
    admin.execute("UPDATE store SET schema = 99")
    with pytest.raises(StoreError, match=r"newer taskstore \(schema 99"):
        PostgresStorage(postgres_url)


@contextmanager
def role(admin: Session, postgres_url: str) -> Iterator[tuple[str, str]]:
    """A role without rights: its name, and the URL of the store for it."""
    name = f"role_{Database(postgres_url).schema}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'".encode())
    separator = "&" if "?" in postgres_url else "?"
    try:
        yield name, f"{postgres_url}{separator}user={name}&password=secret"
    finally:
        end_all_sessions(admin)
        admin.execute(f"DROP OWNED BY {name}".encode())
        admin.execute(f"DROP ROLE {name}".encode())


def grants(schema: str, role: str) -> bytes:
    """The statements that the documentation names."""
    statements = re.findall(r"GRANT .*;", postgres.__doc__ or "")
    assert len(statements) == 4
    return "".join(statements).replace("taskstore", schema).replace("TO server", f"TO {role}").encode()


def test_a_role_with_the_documented_rights_can_do_everything_but_make_the_schema(
    one: PostgresStorage, admin: Session, postgres_url: str
) -> None:
    ids = add(one, 2 * PAGE)
    with role(admin, postgres_url) as (name, url):
        admin.execute(grants(Database(url).schema, name), prepare=False)
        admin.execute("UPDATE store SET home = 'elsewhere'")
        server = PostgresStorage(url)
        assert add(server, 1, gone=(ids[0],))[0] > ID_JUMP
        transaction = server.begin(Wanted(frozenset(), {"g": 1}, 1, frozenset([(ME, "key")])))
        transaction.write(Change(claimed(transaction), (), [Record(ME, "key", b"", transaction.seen.now, [], [], [])]))
        transaction.commit()
        assert len(left(server)) == 2 * PAGE - 1
        assert server.groups() == ["g"]
        assert server.stats("", 0)[1].groups == 1
        assert list(server.soonest(["g"])) == ["g"]
        server.close()


def test_a_role_without_rights_is_told_so(one: PostgresStorage, admin: Session, postgres_url: str) -> None:
    with role(admin, postgres_url) as (_, url), pytest.raises(StoreError, match="too few rights"):
        PostgresStorage(url)


def test_a_schema_may_have_any_name(postgres_url: str, admin: Session) -> None:
    name = f'{admin.execute("SELECT current_setting(%s)", ["search_path"]).fetchone()}; DROP "ü'[-40:]
    url = f"{postgres_url}&schema={quote(name, safe='')}"
    storage = PostgresStorage(url)
    add(storage, 1)
    storage.close()
    assert admin.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [name]).fetchone() == (1,)
    admin.execute(psycopg.sql.SQL("DROP SCHEMA {} CASCADE").format(psycopg.sql.Identifier(name)))


def test_who_wants_the_store_alone_keeps_servers_away_and_the_other_way_round(
    one: PostgresStorage, postgres_url: str
) -> None:
    with pytest.raises(StoreError, match="servers use it"):
        PostgresStorage(postgres_url, alone=True)
    one.close()
    alone = PostgresStorage(postgres_url, alone=True)
    with pytest.raises(StoreError, match="it is being copied"):
        PostgresStorage(postgres_url)
    assert len([add(alone, 1), add(alone, 1)]) == 2
    alone.close()
    PostgresStorage(postgres_url).close()


# Ids after a failover, and after a restored dump


def test_ids_jump_when_the_store_has_moved(one: PostgresStorage, admin: Session, postgres_url: str) -> None:
    [before] = add(one, 1)
    admin.execute("UPDATE store SET home = 'another cluster/00000001/1'")
    servers = [PostgresStorage(postgres_url) for _ in range(2)]
    after = [id for server in servers for id in add(server, 1)]
    assert after == [before + ID_JUMP + 1, before + ID_JUMP + 2]
    for server in servers:
        server.close()


# Addresses, and what is said of them


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@127.0.0.1:1/db",
        "postgresql://user:hunter2@no-such-host.invalid/db",
        "postgresql://user:hunter2@127.0.0.1:notaport/db",
        "postgresql://user:hun/ter2@127.0.0.1/db",
        "postgresql://user:p@hunter2@127.0.0.1/db",
        "postgresql://user:p@ss:hunter2@127.0.0.1/db",
        "postgresql://user:hunter2%zz@127.0.0.1/db",
        "postgresql://user:hunter2@127.0.0.1/db?no_such_parameter=hunter2",
        "postgresql://127.0.0.1:1/db?password=hunter2",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        open_storage(url)
    shown: BaseException | None = raised.value
    while shown:
        assert not re.search("hun|ter2", str(shown) + repr(shown))
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def test_what_cannot_be_reached_is_named(postgres: str) -> None:
    with pytest.raises(StoreError, match=r'nowhere.*"nowhere" does not exist'):
        open_storage(f"{postgres}&dbname=nowhere" if "?" in postgres else f"{postgres}?dbname=nowhere")
    with pytest.raises(StoreError, match=r"127.0.0.1:1 .*refused"):
        open_storage("postgres://127.0.0.1:1/db")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "taskstore.server.postgres", None)
    with pytest.raises(StoreError, match=r"pip install 'taskstore\[postgres\]'"):
        open_storage("postgresql://localhost/db")


# Listings, and the way to the data


def test_a_listing_that_is_read_slowly_does_not_keep_the_dead(one: PostgresStorage, admin: Session) -> None:
    add(one, 3 * PAGE)
    pages = one.group("g", limit=0, owned=True)
    next(pages)
    next(pages)
    [(holding,)] = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
    )
    assert holding == 0
    pages.close()
    assert len(left(one)) == 3 * PAGE


def test_everything_is_found_by_an_index(one: PostgresStorage, admin: Session) -> None:
    admin.execute(
        "INSERT INTO task SELECT n, convert_to('group ' || n % 100, 'UTF8'), 'data', n, 1, 0"
        " FROM generate_series(1, 50000) AS n"
    )
    group, ids = b"group 7", [[7, 107, 30_000, 10**9]]
    queries: dict[Any, list[Any]] = {
        postgres._NAMED: ids,
        postgres._COME_TO_BE: ids,
        postgres._TASKS: ids,
        postgres._DELETE: ids,
        postgres._CLAIMABLE: [None, [group], [3]],
        postgres._HELD: [[group], 1000, [7, 107], 5],
        postgres._LISTING: [group, None, 10],
        postgres._GROUPS: [],
        postgres._SOONEST: [None, [group]],
    }
    for query, parameters in queries.items():
        text = query if isinstance(query, bytes) else query.encode()
        select = text.split(b"HOLD FOR")[-1]
        with admin.transaction(force_rollback=True):
            rows = admin.execute(b"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + select, parameters).fetchall()
        plan = "\n".join(line for (line,) in rows)
        assert "Seq Scan" not in plan, plan
        [hits] = re.findall(r"shared hit=(\d+)", plan)[:1]
        assert int(hits) < 1_000, plan
    assert len(one.groups()) == 100


def test_many_tasks_and_large_ones_are_written_and_read(one: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_INSERT_CHARACTERS", 1_000_000)
    transaction = begin(one, fresh=10_000)
    tasks = [Task(id, "g", "☃" * (10 + 100_000 * (id % 500 == 0)), id, ME) for id in transaction.seen.fresh]
    transaction.write(Change((), tasks))
    transaction.commit()
    assert [task for page in one.group("g", limit=0, owned=True) for task in page] == tasks
    found = begin(one, *[task.id for task in tasks], g=10_000)
    assert found.seen.tasks == {task.id: task for task in tasks}
    assert sorted(claimed(found)) == [task.id for task in tasks]
    consume(found, *claimed(found))
    assert left(one) == []
