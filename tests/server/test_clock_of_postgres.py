"""The clock of a PostgreSQL database is set, and no lease and no delay is the worse for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from taskstore.server import clock, postgres
from taskstore.server.clock import SLEW, STEP_NS
from taskstore.server.database import Database, Session
from taskstore.server.engine import Engine
from taskstore.server.messages import Claim, Outcome, Task, TaskAdd, Update
from taskstore.server.postgres import PostgresStorage
from taskstore.server.rules import Change, Wanted
from taskstore.server.storage import ConflictError

SECOND = 10**9
HOUR = 3600 * SECOND
ME, YOU = 1000, 2000
WAYS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "back"])
NOTHING = Wanted(frozenset(), {}, 0)


@pytest.fixture
def one(postgres_url: str) -> Iterator[PostgresStorage]:
    with closing(PostgresStorage(postgres_url)) as storage:
        yield storage


@pytest.fixture
def two(postgres_url: str) -> Iterator[PostgresStorage]:
    with closing(PostgresStorage(postgres_url)) as storage:
        yield storage


@pytest.fixture
def admin(postgres_url: str, one: PostgresStorage) -> Iterator[Session]:
    with Database(postgres_url).connected() as session:
        yield session


@pytest.fixture
def set_clock(admin: Session) -> Callable[[int], None]:
    """Sets the database's clock, by so many nanoseconds from the machine's."""

    def set_clock(by: int) -> None:
        admin.execute(
            f"""
            CREATE OR REPLACE FUNCTION wall() RETURNS bigint LANGUAGE sql VOLATILE
            AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 + {by} $$
        """.encode()
        )

    return set_clock


def now(storage: PostgresStorage) -> int:
    """The store's time, as the next batch on a server is decided by."""
    for _ in range(2):
        try:
            transaction = storage.begin(NOTHING)
        except ConflictError:
            continue  # The engine does the same.
        transaction.rollback()
        return transaction.seen.now
    raise AssertionError("the clock is not right even at the second look")


def write(storage: PostgresStorage) -> int:
    """Write something, and nothing of consequence; the instant of it."""
    transaction = storage.begin(NOTHING)
    transaction.write(Change([1], ()))
    transaction.commit()
    return transaction.seen.now


def stored(admin: Session) -> tuple[int, int]:
    [(shift, seen)] = admin.execute("SELECT shift, seen FROM store")
    return shift, seen


@WAYS
def test_the_stores_time_goes_on_evenly_on_every_server(
    one: PostgresStorage, two: PostgresStorage, set_clock: Callable[[int], None], admin: Session, step: int
) -> None:
    before = now(one), now(two)
    set_clock(step)
    assert 0 < now(one) - before[0] < 5 * SECOND
    once = stored(admin)
    assert abs(once[0] + step) < 5 * SECOND
    assert 0 < now(two) - before[1] < 5 * SECOND
    assert stored(admin) == once, "the second server has nothing left to set right"


@WAYS
def test_a_batch_that_meets_the_step_is_not_decided(
    one: PostgresStorage, set_clock: Callable[[int], None], step: int
) -> None:
    now(one)
    set_clock(step)
    with pytest.raises(
        ConflictError, match=rf"the clock of .* was set, by \{'+' if step > 0 else '-'}(3600|3599)\.\d s"
    ):
        one.begin(NOTHING)


def claims_after_a_step(one: PostgresStorage, two: PostgresStorage, step: Callable[[], None]) -> list[int]:
    """How many tasks each of two others gets of one that is leased, and of one that is delayed, after a step."""

    async def main() -> list[int]:
        engines = Engine(one), Engine(two)
        await engines[0].apply(Update(ME, [TaskAdd("leased"), TaskAdd("delayed", timespec=-60 * SECOND)]))
        await engines[0].apply(Claim(ME, "leased", 60 * SECOND))
        await engines[1].apply(Claim(YOU, "nothing", 0))
        step()
        answers = [
            await engine.apply(Claim(YOU, group, 60 * SECOND)) for engine in engines for group in ("leased", "delayed")
        ]
        return [len(answer.tasks) for answer in answers if isinstance(answer, Outcome)]

    return asyncio.run(main())


@WAYS
def test_a_lease_and_a_delay_last_as_long_as_they_should(
    one: PostgresStorage, two: PostgresStorage, set_clock: Callable[[int], None], step: int
) -> None:
    assert claims_after_a_step(one, two, lambda: set_clock(step)) == [0, 0, 0, 0]


def test_without_witnesses_a_step_would_end_them(
    one: PostgresStorage, two: PostgresStorage, set_clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock.Witness, "correction", lambda *_: 0)
    assert claims_after_a_step(one, two, lambda: set_clock(HOUR)) == [1, 1, 0, 0]


@WAYS
def test_a_listing_and_statistics_do_not_meet_the_step(
    one: PostgresStorage, set_clock: Callable[[int], None], step: int
) -> None:
    transaction = one.begin(Wanted(frozenset(), {}, 1))
    later = transaction.seen.now + 60 * SECOND
    transaction.write(Change((), [Task(next(transaction.seen.fresh), "delayed", "", later, ME)]))
    transaction.commit()
    set_clock(step)
    assert list(one.group("delayed", limit=0, owned=False)) == [[]]
    set_clock(2 * step)
    assert one.stats("", 0)[1].delayed == 1


def test_a_server_that_starts_after_the_clock_went_back_goes_on_from_what_was_seen(
    postgres_url: str, one: PostgresStorage, set_clock: Callable[[int], None]
) -> None:
    last = write(one)
    one.close()
    set_clock(-HOUR)
    with closing(PostgresStorage(postgres_url)) as storage:
        assert now(storage) >= last


def test_a_server_that_stood_still_believes_one_that_did_not(
    one: PostgresStorage, set_clock: Callable[[int], None], admin: Session
) -> None:
    before = now(one)
    set_clock(HOUR)  # By its own clock no hour has passed,
    admin.execute("UPDATE store SET seen = wall()")  # but another server has written something at the end of it.
    assert now(one) - before >= HOUR
    assert stored(admin)[0] == 0


def test_what_was_seen_is_told_about_once_a_second(one: PostgresStorage, admin: Session) -> None:
    first = write(one)
    assert stored(admin) == (0, first)
    write(one)
    assert stored(admin) == (0, first)
    admin.execute("UPDATE store SET seen = seen - %s", [STEP_NS])
    second = write(one)
    assert stored(admin) == (0, second)


@WAYS
def test_the_stores_time_comes_back_to_the_databases_slowly(
    one: PostgresStorage, set_clock: Callable[[int], None], admin: Session, step: int
) -> None:
    write(one)
    set_clock(step)
    now(one)
    shift, _ = stored(admin)
    admin.execute("UPDATE store SET seen = seen - %s", [10 * SECOND])
    write(one)
    back = abs(shift) - abs(stored(admin)[0])
    assert 10 * SECOND // SLEW <= back < 15 * SECOND // SLEW


def test_two_servers_that_notice_it_at_once_set_it_once(
    one: PostgresStorage, two: PostgresStorage, set_clock: Callable[[int], None], admin: Session
) -> None:
    now(one)
    now(two)
    set_clock(HOUR)
    for storage in (one, two):
        reading = clock.Reading(*admin.execute("SELECT wall(), 0::bigint, 0::bigint").fetchall()[0])
        correction = storage._witness.correction(reading, clock.elapsed(), clock.elapsed())
        admin.execute(postgres._SET_CLOCK, [correction, reading.shift])
    assert abs(stored(admin)[0] + HOUR) < 5 * SECOND


def test_a_store_of_the_first_version_is_brought_up_to_date(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.connected() as session:
        session.execute(f"CREATE SCHEMA {database.schema}".encode())
        session.execute(postgres._MIGRATIONS[0], prepare=False)
        session.execute("UPDATE store SET schema = 1")
        session.execute("INSERT INTO task VALUES (7, 'g', 'data', 5, 1, 0)")
        done = postgres._encode_done(([7], [], []))
        session.execute("INSERT INTO record VALUES (1, 'key', 'print', 9000000000000000000, %s)", [done])
    with closing(PostgresStorage(postgres_url)) as storage:
        assert write(storage)
        assert [task.data for task in storage.tasks([7]).values()] == ["data"]
        transaction = storage.begin(Wanted(frozenset(), {}, 0, frozenset({(1, "key")})))
        assert [record.ids for record in transaction.seen.records.values()] == [[7]]
        transaction.rollback()
