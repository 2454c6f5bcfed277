"""Reaches a PostgreSQL database: what a store's URL says, what a session is like, what an error means.

The law of this room: no text that it makes shows a password.
"""

import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from taskstore.errors import StoreError

SCHEMA: Final = "taskstore"
"""The schema that a store lives in if the URL names none."""
OLDEST: Final = 14
"""The oldest release of PostgreSQL: the first in which seconds are exact numbers."""

_CONNECTION: Final = {
    "application_name": "taskstore",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    # Of several hosts, the one that takes changes.
    "target_session_attrs": "read-write",
    # A database whose machine is gone sends nothing, not even an error.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""What a connection is like, where the URL does not say otherwise."""

# For a session. Every statement here is made for an index, and a plan is kept for as long as the connection: one that
# was made while the table was small, or its statistics old, must not be a scan of the table.
_SETTINGS: Final = """
    SELECT set_config('search_path', quote_ident(%s), false),
        set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('statement_timeout', '0', false),
        set_config('lock_timeout', coalesce(nullif(current_setting('lock_timeout'), '0'), '10s'), false),
        -- A server that was stopped in the middle of a batch must not keep its locks.
        set_config('idle_in_transaction_session_timeout', '30s', false),
        set_config('plan_cache_mode', 'force_generic_plan', false),
        set_config('enable_seqscan', 'off', false),
        set_config('enable_bitmapscan', 'off', false),
        set_config('enable_hashjoin', 'off', false),
        set_config('enable_mergejoin', 'off', false),
        set_config('jit', 'off', false)
"""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that remembers what the database warned of."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.warnings: list[str] = []
        self.add_notice_handler(self._notice)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warnings.append(notice.message_primary or "")

    def is_gone(self) -> bool:
        """Whether the database has ended the connection, so that nothing more can be sent to it."""
        try:
            for _ in range(2):  # The first reads its last words, the second meets the end.
                self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return False


class Database:
    """Where a store is, as its URL says. As text it is without the password."""

    def __init__(self, url: str) -> None:
        address, _, query = url.partition("?")
        parameters = query.split("&") if query else []
        ours = [each.removeprefix("schema=") for each in parameters if each.startswith("schema=")]
        self.schema: Final = unquote(ours[-1]) if ours else SCHEMA
        theirs = "&".join(each for each in parameters if not each.startswith("schema="))
        self._options: dict[str, Any] = _CONNECTION | _options(f"{address}?{theirs}" if theirs else address)

    def __str__(self) -> str:
        host, port, name = (self._options.get(key) for key in ("host", "port", "dbname"))
        where = f" at {host}" + (f":{port}" if port else "") if host else ""
        return f"the database {name}{where}" if name else f"the database{where}"

    def connected(self) -> Session:
        """A new connection, set up."""
        session = Session.connect(autocommit=True, prepare_threshold=0, **self._options)
        try:
            if (release := session.info.server_version // 10_000) < OLDEST:
                raise StoreError(f"{self} is PostgreSQL {release}; a store needs {OLDEST} or newer")
            session.execute(_SETTINGS, [self.schema])
        except BaseException:
            session.close()
            raise
        return session

    def explained(self, error: psycopg.Error) -> str:
        """What went wrong, and what to do."""
        what = _EXPLANATIONS.get(error.sqlstate or "", "cannot use {place}").format(place=self)
        return f"{what} ({'; '.join(line.strip() for line in str(error).splitlines())})"


_TOO_FEW_RIGHTS: Final = "the role has too few rights in {place}; taskstore.server.postgres says which it needs"
_EXPLANATIONS: Final = {
    "25006": "{place} takes no changes; is it a standby?",
    "3F000": _TOO_FEW_RIGHTS,  # A schema that the role may not use is none for it.
    "42501": _TOO_FEW_RIGHTS,
    "53100": "the disk of {place} is full; make room, nothing is lost",
    "53300": "{place} has no connection to spare; raise max_connections, or run fewer servers",
    "55P03": "another session has kept a task locked in {place} for too long; find it in pg_stat_activity",
}


def _options(url: str) -> dict[str, Any]:
    """The parameters that a URL gives.

    A password that was not encoded ends up in other places. So nothing of a URL like that is shown.
    """
    options: dict[str, Any] = {"host": "@"}
    with suppress(psycopg.ProgrammingError):
        options = conninfo_to_dict(url)
    host, port, name = (str(options.get(key, "")) for key in ("host", "port", "dbname"))
    if "@" in host + name or not re.fullmatch(r"[\d,]*", port):
        raise StoreError(
            "cannot read the URL of the database; it has the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
            "special characters percent-encoded, and may have the parameters of libpq, and schema"
        )
    return options
