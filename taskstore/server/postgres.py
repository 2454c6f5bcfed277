"""Keeps tasks in a PostgreSQL database (14 or newer), for any number of servers; the only SQL besides sqlite.py.

    taskstore serve --store 'postgresql://USER:PASSWORD@HOST/DATABASE?schema=taskstore'

**Nothing is kept here**: servers share the database and know nothing of each other. One that dies in the middle of a
batch loses its connection, and with it its transaction and its locks.

**Isolation.** Transactions run at READ COMMITTED. A row is never changed: it comes, and it goes. So two things could
happen to what a batch has read. *A row could go*: all rows that the batch names, in `depends` too, and all that it
claims are locked until it ends. *A row could come under an id that was named and not found*: either the id is used up,
then it never comes back, or it belongs to a transaction that is under way or still to come, and was guessed. To be
told that an id is missing is all that can follow from that, and nothing is ever written because of it. It has to be
true at one instant, though, so ids that were not found are looked up once more after all locks have been taken, and if
one has come to be, the batch starts again.

A claim passes over tasks that another transaction has locked. If it then finds too little, it starts again and waits
for those: most likely they are being consumed, but until then nobody can say that there is nothing to claim.

**No deadlocks**: a batch waits for its keys first, in one order for all, then for the rows that it names, in the order
of their ids, and after that for nothing. A request that comes twice, under one key, waits for itself to be finished.

**Ids** come from a sequence, after all has been read, so each is larger than every id that the batch has met. The
sequence goes back when a replica that lags behind is promoted, or a backup is restored. So the store remembers where
it lives, and when that has changed it goes on a million ids further.

**Durability** is the database's: `synchronous_commit` is never off here. Set `synchronous_standby_names` to fail over
without losing anything; a commit that reached the primary only, because its wait for the standby was cancelled, is
reported as one of unknown outcome. There is no time limit on a commit, for a limit would cancel that wait.

**Rights.** The role that first opens a store makes the schema; every other one gets along with

    GRANT USAGE ON SCHEMA taskstore TO server;
    GRANT SELECT, UPDATE ON taskstore.store TO server;
    GRANT SELECT, INSERT, UPDATE, DELETE ON taskstore.task, taskstore.record TO server;
    GRANT SELECT, UPDATE ON SEQUENCE taskstore.task_id TO server;

A connection pooler has to be in session mode, since connections have settings of their own.

**Time** is the database's, for all servers. When its clock is set, or a standby whose clock is another's takes over, no
batch is decided by the new time: every batch looks at the clock, and every server knows how late it must be (see
clock.py). What sets the store's time right is kept in the table `store`. A server that starts within moments of such a
step is no witness of it: if it is the first to write something, the step stands.

**What it asks of the database.** Long transactions in it hold up vacuuming, and then every claim has to step over all
that has been consumed since (40 ms after 200,000 tasks, measured; 1 ms after a million without): take backups from a
replica, or keep pg_dump short. Listings of ours hold up nothing.
"""
# ruff: noqa: S608 - what is put into SQL here are constants of this file, and nothing else.

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Literal, LiteralString, TypeVar

import msgspec
import psycopg
import psycopg.sql
from psycopg.pq import TransactionStatus

from taskstore.errors import StoreError
from taskstore.server.clock import SLEW, STEP_NS, Clock, Reading, Witness, elapsed
from taskstore.server.database import Database, Session
from taskstore.server.messages import GroupStats, Record, Task, Totals
from taskstore.server.rules import Change, Seen, Wanted
from taskstore.server.storage import KEEP_NS, PAGE, WINDOW, CommitError, ConflictError

_T = TypeVar("_T")
_log = logging.getLogger("taskstore.server")

ID_JUMP: Final = 1_000_000
"""How many ids are left out when the store has moved, for those given out that the store has forgotten."""
PATIENCE: Final = 10
"""How often a batch that finds too little to claim waits for others that hold what it could."""
_encode_done = msgspec.msgpack.Encoder().encode
_decode_done = msgspec.msgpack.Decoder(tuple[list[int], list[Task], list[Task]]).decode
_INSERT_CHARACTERS: Final = 32 << 20
"""About how much data one statement inserts; PostgreSQL takes at most 1 GiB of bytes."""
_END_OF_TIME: Final = 2**63 - 1
# The cluster, its timeline (which rises when a replica is promoted) and the table (which a restored dump makes anew).
_HOME: Final = """(
    SELECT concat_ws('/', system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), 'task'::regclass::oid)
    FROM pg_control_system()
)"""

_MIGRATIONS: Final[list[LiteralString]] = [
    """
    CREATE TABLE task (
        id bigint PRIMARY KEY,
        -- Texts are bytes: bytea takes the NUL that text refuses, and sorts by code point whatever the collation is.
        name bytea NOT NULL,
        data bytea NOT NULL,
        available bigint NOT NULL,
        owner integer NOT NULL,
        attempts integer NOT NULL
    ) WITH (
        -- Rows live for seconds. The usual threshold, a fifth of the table, lets dead ones pile up where claims look.
        autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0.1,
        autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_scale_factor = 0.01,
        toast.autovacuum_vacuum_cost_delay = 0
    );
    -- Serves claims, listings, the names of groups, and statistics without a look at the rows.
    CREATE INDEX task_available ON task (name, available, id) INCLUDE (attempts);
    CREATE SEQUENCE task_id AS bigint;
    -- What keyed requests did.
    CREATE TABLE record (
        client integer NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL,
        now bigint NOT NULL,
        done bytea NOT NULL,
        PRIMARY KEY (client, key)
    ) WITH (
        autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0
    );
    CREATE INDEX record_now ON record (now);
    CREATE TABLE store (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        schema integer NOT NULL,
        home text NOT NULL
    );
    INSERT INTO store (schema, home) SELECT 0, """
    + _HOME,
    """
    -- How far the store's time is ahead of this machine's, and the latest one at which a server has said so.
    ALTER TABLE store ADD COLUMN shift bigint NOT NULL DEFAULT 0, ADD COLUMN seen bigint NOT NULL DEFAULT 0;
    -- Nanoseconds since the epoch. The seconds are an exact number with six decimals, so nothing is rounded.
    CREATE FUNCTION wall() RETURNS bigint LANGUAGE sql VOLATILE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 $$;
    """,
    """
    -- By key first: keys that begin with the time, as those of our clients do, then stand side by side, on a few pages.
    ALTER TABLE record DROP CONSTRAINT record_pkey, ADD PRIMARY KEY (key, client);
    """,
]
"""How a database comes from one version of the schema to the next."""

# Held until the transaction ends, so that the same request is not under way twice. Whoever holds a key may write its
# record. The order keeps two batches from waiting for each other.
_LOCK_KEYS: Final = """
    SELECT pg_advisory_xact_lock(hash) FROM (
        SELECT DISTINCT hashtextextended(client || '/' || key, 0) AS hash
        FROM unnest(%b::integer[], %b::text[]) AS keyed (client, key) ORDER BY hash
    ) AS hashes
"""
_RECORDS: Final = """
    SELECT client, key, fingerprint, now, done FROM record
    JOIN unnest(%b::integer[], %b::text[]) AS keyed (client, key) USING (client, key)
"""
_NAMED: Final = """
    SELECT id, name, data, available, owner, attempts FROM task WHERE id = ANY (%b::bigint[]) ORDER BY id FOR UPDATE
"""
_COME_TO_BE: Final = "SELECT id FROM task WHERE id = ANY (%b::bigint[]) LIMIT 1"
_NOW: Final = "(SELECT coalesce(%b::bigint, wall() + shift) FROM store WHERE one)"
# Locks what it returns and nothing else, or other servers would find nothing: the choice at random is made among ids,
# and rows are locked one by one until there are enough. Where too many of those among which it chooses are in other
# hands, the search goes on behind them, in order.
_CLAIMABLE: Final = f"""
    SELECT task.* FROM {_NOW} AS clock (now), unnest(%b::bytea[], %b::bigint[]) AS claim (name, n), LATERAL (
        SELECT * FROM (
            SELECT task.* FROM (
                SELECT id FROM (
                    SELECT id FROM task WHERE name = claim.name AND available <= now
                    ORDER BY available, id LIMIT {WINDOW - 1} + n
                ) AS longest ORDER BY random()
            ) AS chosen JOIN task USING (id) FOR UPDATE OF task SKIP LOCKED
        ) AS longest
        UNION ALL
        SELECT * FROM (
            SELECT * FROM task WHERE name = claim.name AND available <= now AND (available, id) > (
                SELECT available, id FROM task WHERE name = claim.name AND available <= now
                ORDER BY available, id OFFSET {WINDOW - 2} + n LIMIT 1
            ) ORDER BY available, id FOR UPDATE SKIP LOCKED
        ) AS others
        LIMIT n
    ) AS task
""".encode()
_HELD: Final = """
    SELECT id FROM task WHERE name = ANY (%b::bytea[]) AND available <= %b::bigint
    EXCEPT SELECT unnest(%b::bigint[]) LIMIT %b::bigint
"""
_CLOCK: Final = f"SELECT {_NOW}, shift, seen FROM store WHERE one"
_FRESH: Final = """
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END,
        ARRAY (SELECT nextval('task_id') FROM generate_series(1, %b::bigint))
    FROM task_id
"""
_SET_CLOCK: Final = "UPDATE store SET shift = shift + %b WHERE shift = %b"
# Waits for nobody: whoever has the row says the same.
_SEEN: Final = f"""
    UPDATE store
    SET seen = %(now)b, shift = shift - sign(shift)::bigint * least(abs(shift), (%(now)b::bigint - seen) / {SLEW})
    WHERE one IN (SELECT one FROM store WHERE shift = %(shift)b AND seen < %(now)b FOR UPDATE SKIP LOCKED)
""".encode()
_DELETE: Final = "DELETE FROM task WHERE id = ANY (%b::bigint[])"
_INSERT: Final = """
    INSERT INTO task (id, name, data, available, owner, attempts)
    SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::bigint[], %b::integer[], %b::integer[])
"""
_INSERT_RECORDS: Final = """
    INSERT INTO record (client, key, fingerprint, now, done)
    SELECT * FROM unnest(%b::integer[], %b::text[], %b::bytea[], %b::bigint[], %b::bytea[])
    ON CONFLICT (client, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, now = excluded.now, done = excluded.done
"""
# More than are written, so that the old ones cannot pile up, and none that another server is about to delete.
_PRUNE: Final = """
    DELETE FROM record WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM record WHERE now <= %b::bigint ORDER BY now LIMIT 4 * %b::bigint FOR UPDATE SKIP LOCKED
    ))
"""
_TASKS: Final = "SELECT id, name, data, available, owner, attempts FROM task WHERE id = ANY (%b::bigint[])"
# Held beyond the transaction: what is left is put aside when that ends. Otherwise a client that reads slowly would keep
# the database from clearing away what has been consumed since, and every claim would have to step over it.
_LISTING: Final = f"""
    DECLARE listing NO SCROLL CURSOR WITH HOLD FOR
    SELECT id, name, data, available, owner, attempts FROM task WHERE name = %b AND available <= {_NOW}
    ORDER BY available, id LIMIT %b::bigint
"""
_PAGE: Final = f"FETCH {PAGE} FROM listing".encode()
# Steps from each name to the next one in the index, so the cost depends on the number of groups, not of tasks.
_GROUPS: Final = """
    WITH RECURSIVE found (name) AS (
        (SELECT name FROM task ORDER BY name LIMIT 1)
        UNION ALL
        SELECT (SELECT name FROM task WHERE name > found.name ORDER BY name LIMIT 1) FROM found WHERE name IS NOT NULL
    )
    SELECT name FROM found WHERE name IS NOT NULL
"""
_SOONEST: Final = f"""
    SELECT name, available - {_NOW} FROM unnest(%b::bytea[]) AS asked (name), LATERAL (
        SELECT available FROM task WHERE name = asked.name ORDER BY available LIMIT 1
    ) AS first
"""
# The last row is what all groups have together. All is counted in one pass over the index.
_STATS: Final = f"""
    WITH clock (now) AS MATERIALIZED {_NOW}, counted AS MATERIALIZED (
        SELECT name,
            count(*) FILTER (WHERE available <= now) AS available,
            count(*) FILTER (WHERE available > now AND attempts > 0) AS owned,
            count(*) FILTER (WHERE available > now AND attempts = 0) AS delayed,
            now - min(available) AS oldest_age
        FROM task, clock GROUP BY name, now
    ), asked AS (
        SELECT * FROM counted WHERE substr(name, 1, length(%b)) = %b ORDER BY name LIMIT %b::bigint
    )
    SELECT * FROM asked
    UNION ALL
    SELECT NULL, coalesce(sum(available), 0)::bigint, coalesce(sum(owned), 0)::bigint,
        coalesce(sum(delayed), 0)::bigint, count(*)
    FROM counted
"""
_RAISE_ID: Final = "SELECT setval('task_id', greatest(last_value, %s::bigint)) FROM task_id"
# Locks of the session, which end with it, whatever it ends of.
_BE_ALONE: Final = "SELECT pg_try_advisory_lock(hashtextextended('taskstore ' || %s, 0))"
_BE_ONE_OF_MANY: Final = "SELECT pg_try_advisory_lock_shared(hashtextextended('taskstore ' || %s, 0))"
_WAIT_TO_MIGRATE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('taskstore schema ' || %s, 0))"
_MOVED: Final = f"SELECT home <> {_HOME} FROM store"
# Of several servers that notice it at once one does it, and the others wait for that.
_MOVE: Final = f"""
    WITH moved AS (UPDATE store SET home = {_HOME} WHERE home <> {_HOME} RETURNING home)
    SELECT setval('task_id', last_value + %s) FROM task_id, moved
"""


class PostgresStorage:
    """A storage in the database that a URL names, in a schema of its own, which is made if it is missing.

    Args:
        url: `postgresql://` or `postgres://`, with whatever parameters libpq takes, and `schema`.
        clock: For tests: what time it is, in nanoseconds since the epoch. Otherwise the database's clock counts.
        alone: Whether to use the store only if no server does, and to keep all servers away.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """

    waits: Literal["always"] = "always"
    # Measured, it hardly matters: what does not run in parallel waits together and shares a transaction. A few, so that
    # one which waits for a lock does not hold up the others.
    parallel: int = 4

    def __init__(self, url: str, *, clock: Clock | None = None, alone: bool = False) -> None:
        self._database = Database(url)
        self._clock = clock
        self._witness = Witness()
        self._alone = False
        self._idle: deque[Session] = deque()
        with self._failing():
            with self._database.connected() as session:
                _prepared(session, self._database)
            first = self._joined(alone=alone)
        self._alone = alone
        self._idle.append(first)

    def begin(self, wanted: Wanted) -> "_Transaction":
        """Start a transaction and read what `wanted` names."""
        held: frozenset[int] = frozenset()
        with self._failing():
            for _ in range(PATIENCE):
                try:
                    session, (transaction, more) = self._on_session(partial(self._begun, wanted, held))
                except psycopg.errors.LockNotAvailable:
                    if not held:
                        raise
                    break  # A server that stands still holds them.
                if not more:
                    return transaction
                self.end(session)
                held |= more
            _, (transaction, _) = self._on_session(partial(self._begun, wanted, frozenset()))
            return transaction

    def _begun(self, wanted: Wanted, held: frozenset[int], session: Session) -> "tuple[_Transaction, frozenset[int]]":
        """A transaction; and, if it found too little to claim, tasks that others hold.

        `held` are such tasks, found before. Now it waits for them, for what it has locked it can claim.
        """
        now, sent = self._clock and self._clock(), elapsed()
        records = named = claimable = None
        with session.pipeline():
            session.execute("BEGIN")
            if wanted.keys:
                keys = _columns(wanted.keys)
                session.execute(_LOCK_KEYS, keys)
                records = session.execute(_RECORDS, keys, binary=True)
            if held:
                session.execute("SET LOCAL lock_timeout = '1s'")
            if wanted.ids or held:
                named = session.execute(_NAMED, [list(wanted.ids | held)], binary=True)
            if wanted.claims:
                names = [name.encode() for name in wanted.claims]
                claimable = session.execute(_CLAIMABLE, [now, names, list(wanted.claims.values())], binary=True)
            clock = session.execute(_CLOCK, [now], binary=True)
            ids = session.execute(_FRESH, [wanted.fresh], binary=True)
        reading = self._checked(session, clock, sent)
        tasks = {row[0]: _task(row) for row in named or () if row[0] in wanted.ids}
        if absent := [id for id in wanted.ids if id not in tasks]:
            _check_absent(session, absent)
        [(last_id, fresh)] = ids
        known = [record for record in map(_record, records or ()) if record.now > reading.now - KEEP_NS]
        found: dict[str, list[Task]] = {name: [] for name in wanted.claims}
        for task in map(_task, claimable or ()):
            if task.available > reading.now:
                raise ConflictError("the clock was set right while tasks were looked for")
            found[task.group].append(task)
        seen = Seen(reading.now, tasks, found, iter(fresh), {(record.client, record.key): record for record in known})
        transaction = _Transaction(self, session, seen, max(last_id, *fresh[-1:], 0), reading)
        return transaction, _held(session, seen, {name: n - len(found[name]) for name, n in wanted.claims.items()})

    def _checked(self, session: Session, clock: psycopg.Cursor[Any], sent: int) -> Reading:
        """What `clock` has told; a `ConflictError` if that was wrong, after it has been set right for all servers."""
        reading = Reading(*clock.fetchall()[0])
        if self._clock is None and (correction := self._witness.correction(reading, sent, elapsed())):
            session.execute("ROLLBACK")
            session.execute(_SET_CLOCK, [correction, reading.shift])
            text = f"the clock of {self._database} was set, by {-correction / 1e9:+.1f} s"
            _log.warning("%s; the store's goes on evenly and follows slowly", text)
            raise ConflictError(text)
        return reading

    def commit(self, session: Session, reading: Reading, change: Change, last_id: int) -> None:
        """Write `change` and make it durable, in one round trip. For the transaction only.

        `last_id` is the largest id that is known to be given out.
        """
        highest = max([*change.gone, *(task.id for task in change.made)], default=0)
        sent = False
        try:
            if session.is_gone():
                raise psycopg.OperationalError("the connection was ended before the commit")
            session.warnings.clear()
            sent = True
            with session.pipeline():
                if change.gone:
                    session.execute(_DELETE, [list(change.gone)])
                _insert(session, change.made)
                _keep(session, change.records, reading.now)
                if self._clock is None and reading.now > reading.seen + STEP_NS:
                    session.execute(_SEEN, {"now": reading.now, "shift": reading.shift})
                if highest > last_id:  # They are from another store, which is being copied.
                    session.execute(_RAISE_ID, [highest])
                end = session.execute("COMMIT")
        except psycopg.Error as error:
            # An error ends the transaction. Whatever else goes wrong ends the connection, perhaps after the commit.
            refused = error.diag.severity_nonlocalized == "ERROR"
            raise self._failure(error, applied=False if refused or not sent else None) from error
        finally:
            self.end(session)
        if end.statusmessage != "COMMIT":
            raise CommitError(f"{self._database}: the transaction was rolled back", applied=False)
        if session.warnings:
            raise CommitError(f"{self._database}: {'; '.join(session.warnings)}", applied=None)

    def tasks(self, ids: Collection[int]) -> Mapping[int, Task]:
        """Those of `ids` that exist, all read at one instant."""
        return {row[0]: _task(row) for row in self._rows(_TASKS, [list(ids)])} if ids else {}

    def group(self, name: str, *, limit: int, owned: bool) -> Generator[list[Task], None, None]:
        """The tasks of a group at one instant, in pages, ordered by available time and id."""
        until = _END_OF_TIME if owned else self._clock and self._clock()
        if not owned:
            self._look_at_the_clock()

        def first_page(session: Session) -> list[Task]:
            with session.pipeline():
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(_LISTING, [name.encode(), until, limit or None])
                rows = session.execute(_PAGE, binary=True)
            return [_task(row) for row in rows]

        with self._failing():
            session, page = self._on_session(first_page)
            try:
                yield page
                while len(page) == PAGE:
                    with session.pipeline():
                        session.execute("COMMIT")
                        rows = session.execute(_PAGE, binary=True)
                    if page := [_task(row) for row in rows]:
                        yield page
            finally:
                self.end(session, "CLOSE ALL")

    def groups(self) -> list[str]:
        """The names of all groups that have a task, sorted by code point."""
        return [name.decode() for (name,) in self._rows(_GROUPS)]

    def soonest(self, groups: Collection[str]) -> Mapping[str, int]:
        """In how many nanoseconds the first task of each group becomes available; zero or less if one is already."""
        rows = self._rows(_SOONEST, [self._clock and self._clock(), [name.encode() for name in groups]])
        return {name.decode(): in_ns for name, in_ns in rows}

    def stats(self, prefix: str, limit: int) -> tuple[list[GroupStats], Totals]:
        """What the groups hold whose name begins with `prefix`, at most `limit` of them or, with 0, all; and totals."""
        start = prefix.encode()
        self._look_at_the_clock()
        *rows, totals = self._rows(_STATS, [self._clock and self._clock(), start, start, limit or None])
        groups = [
            GroupStats(name.decode(), available, owned, delayed, age if available else 0)
            for name, available, owned, delayed, age in rows
        ]
        _, available, owned, delayed, number = totals
        return groups, Totals(number, available, owned, delayed)

    def _look_at_the_clock(self) -> None:
        """Make sure that a read does not meet a clock that was set."""

        def look(session: Session) -> None:
            sent = elapsed()
            with suppress(ConflictError):
                self._checked(session, session.execute(_CLOCK, [None], binary=True), sent)

        with self._failing():
            session, _ = self._on_session(look)
            self.end(session)

    def close(self) -> None:
        """Let go of all connections."""
        while self._idle:
            self._idle.pop().close()

    def _rows(self, query: LiteralString, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What one query finds, at one instant."""
        with self._failing():
            session, rows = self._on_session(lambda session: session.execute(query, parameters, binary=True).fetchall())
            self.end(session)
            return rows

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._failure(error, applied=False) from error

    def _failure(self, error: psycopg.Error, *, applied: bool | None) -> CommitError:
        text = self._database.explained(error)
        if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
            return ConflictError(text)
        return CommitError(text, applied=applied)

    def _on_session(self, work: Callable[[Session], _T]) -> tuple[Session, _T]:
        """What `work` returns, and the session on which it was done, for the caller to `end`."""
        try:
            session, is_new = self._idle.pop(), False
        except IndexError:
            session, is_new = self._joined(), True
        try:
            return session, work(session)
        except BaseException as error:
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                session.close()  # This database was the primary once.
            self.end(session)
            if is_new or not session.closed or not isinstance(error, psycopg.Error):
                raise
        # The database was restarted, or another one has taken over: then the others are dead as well.
        self.close()
        return self._on_session(work)

    def end(self, session: Session, last: LiteralString = "") -> None:
        """End what is under way, without a change, and keep the session for the next time if it still works."""
        with suppress(psycopg.Error):
            if session.info.transaction_status != TransactionStatus.IDLE:
                session.execute("ROLLBACK")
            elif last:
                session.execute(last)
        if session.info.transaction_status == TransactionStatus.IDLE:
            self._idle.append(session)
        else:
            session.close()

    def _joined(self, *, alone: bool = False) -> Session:
        """A new session, from which the store can be used, and which keeps away who wants it alone."""
        session = self._database.connected()
        try:
            if not self._alone:
                [(joined,)] = session.execute(_BE_ALONE if alone else _BE_ONE_OF_MANY, [self._database.schema])
                if not joined:
                    who = "servers use it; stop them" if alone else "it is being copied; try again when that is done"
                    raise CommitError(f"{self._database}: {who}", applied=False)
            [(moved,)] = session.execute(_MOVED)
            if moved:
                _log.warning("%s has moved: its ids go on from %d beyond the last known one", self._database, ID_JUMP)
                session.execute(_MOVE, [ID_JUMP])
        except BaseException:
            session.close()
            raise
        return session


class _Transaction:
    def __init__(self, storage: PostgresStorage, session: Session, seen: Seen, last_id: int, reading: Reading) -> None:
        self._storage = storage
        self._session = session
        self._last_id = last_id
        self._reading = reading
        self._change = Change((), ())
        self.seen = seen

    def write(self, change: Change) -> None:
        self._change = change  # It is sent with the commit, which spares a round trip.

    def commit(self) -> None:
        self._storage.commit(self._session, self._reading, self._change, self._last_id)

    def rollback(self) -> None:
        self._storage.end(self._session)


def _prepared(session: Session, database: Database) -> None:
    """Set the database up as a store, or make sure that it is one that we can use."""
    if _schema(session) < len(_MIGRATIONS):
        with session.transaction():
            # Of several servers that start at once, one does it while the others wait.
            session.execute(_WAIT_TO_MIGRATE, [database.schema])
            _migrate(session, database)
    if (schema := _schema(session)) > len(_MIGRATIONS):
        raise StoreError(
            f"the store in {database} is of a newer taskstore (schema {schema}, this one knows {len(_MIGRATIONS)}): "
            "pip install --upgrade taskstore"
        )


def _migrate(session: Session, database: Database) -> None:
    [(there,)] = session.execute("SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [database.schema])
    if not there:
        session.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(database.schema)))
    schema = _schema(session)
    for version, migration in enumerate(_MIGRATIONS[schema:], schema + 1):
        session.execute(migration, prepare=False)  # It is more than one statement.
        session.execute("UPDATE store SET schema = %s", [version])


def _schema(session: Session) -> int:
    [(there,)] = session.execute("SELECT to_regclass('store') IS NOT NULL")
    if not there:
        return 0
    [(version,)] = session.execute("SELECT schema FROM store")
    return int(version)


def _check_absent(session: Session, ids: Sequence[int]) -> None:
    """Make sure that now, after all locks have been taken, `ids` still do not exist."""
    if session.execute(_COME_TO_BE, [ids]).fetchone():
        raise ConflictError("a task that was asked for came to be meanwhile")


def _held(session: Session, seen: Seen, missing: Mapping[str, int]) -> frozenset[int]:
    """Tasks that are available, but not ours to claim; at most as many as are missing."""
    short = [name for name, number in missing.items() if number > 0]
    if not short:
        return frozenset()
    ours = [task.id for name in short for task in seen.claimable[name]]
    most = sum(missing[name] for name in short)
    rows = session.execute(_HELD, [[name.encode() for name in short], seen.now, ours, most], binary=True)
    return frozenset(id for (id,) in rows)


def _insert(session: Session, tasks: Collection[Task]) -> None:
    for part in _parts(tasks):
        rows = [(t.id, t.group.encode(), t.data.encode(), t.available, t.owner, t.attempts) for t in part]
        session.execute(_INSERT, _columns(rows))


def _parts(tasks: Collection[Task]) -> Iterator[list[Task]]:
    """`tasks`, in as few parts as there may be."""
    part: list[Task] = []
    size = 0
    for task in tasks:
        part.append(task)
        size += len(task.data)
        if size > _INSERT_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _keep(session: Session, records: Collection[Record], now: int) -> None:
    if records:
        rows = [(r.client, r.key, r.fingerprint, r.now, _encode_done((r.ids, r.changed, r.claimed))) for r in records]
        session.execute(_INSERT_RECORDS, _columns(rows))
        session.execute(_PRUNE, [now - KEEP_NS, len(rows)])


def _columns(rows: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _task(row: tuple[Any, ...]) -> Task:
    id, name, data, available, owner, attempts = row
    return Task(id, name.decode(), data.decode(), available, owner, attempts)


def _record(row: tuple[Any, ...]) -> Record:
    client, key, fingerprint, now, done = row
    return Record(client, key, fingerprint, now, *_decode_done(done))
