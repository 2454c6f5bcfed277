"""Stands between a generator of requests and a server, so that nothing that is generated can do harm.

It listens on this machine and passes on whatever comes, with other names: groups get a prefix of ours, and an id that
is not ours becomes one that no task has. So a generator may send what it likes, at a server that holds real data. What
was sent is recorded as it went out, and the oracle judges every answer, which no schema can.

The laws of this room: what fits the contract still does when it is passed on, and what does not still does not; apart
from names nothing is changed, neither in a request nor in an answer.
"""

import re
import secrets
import socket
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BufferedIOBase
from itertools import takewhile
from threading import Lock, Thread
from typing import Any, Final, Self

from taskstore.contract.connection import Answer, Connections, NoAnswer, Request, local_now
from taskstore.contract.dialect import Dialect, group_path
from taskstore.contract.naming import OPERATIONS, Renaming, operation_of, renamed
from taskstore.contract.oracle import Oracle
from taskstore.contract.rule import Broken
from taskstore.contract.shrink import Trail
from taskstore.contract.store import FAR, Exchange, Ledger, Names

LONGEST_NAME: Final = 512
REREAD: Final = 10
"""How many of the ids that were consumed last are read after each change."""
LARGE: Final = 10_000
"""What a request of more bytes has made is removed at once, lest every listing after it has that, too."""
FEW: Final = 50
"""Groups with more tasks are not listed after each change."""
WAITS_NS: Final = range(3_600 * 10**9 + 1)
"""How long a claim may wait by the contract."""
LONGEST_WAIT_NS: Final = 2_000_000
"""How long a generated claim may wait, for there are many of them."""
_KEY: Final = re.compile(r'"?[A-Za-z0-9_-]{16,64}"?')
_CASE: Final = "x-schemathesis-testcaseid"
_OURS: Final = {"host", "content-length", "connection", "transfer-encoding", "authorization", _CASE}
"""Headers of a request that are not passed on; the connections write their own."""
_IDLE: Final = {"accept", "accept-encoding", "user-agent"}
"""Headers that every generator sends, and that ask for nothing."""
_HOPS: Final = {"connection", "transfer-encoding", "content-length", "keep-alive"}
"""Headers of an answer that concern only the connection that it came over."""


class Gateway:
    """A server on this machine that passes requests on, under names of ours; a context manager."""

    def __init__(
        self,
        connections: Connections,
        dialect: Dialect,
        names: Names,
        ledger: Ledger,
        *,
        features: Collection[str] = (),
    ) -> None:
        self.common: Final = names.next()
        self.cases: Final[dict[str, Exchange]] = {}
        """What became of each test case, by its number."""
        self.trail: Trail | None = None
        """How the first answer came about that the oracle found wrong."""
        self._connections = connections
        self._dialect = dialect
        self._ledger = ledger
        self._oracle = Oracle(dialect, self.common, features)
        self._renaming: Final = Renaming(self._group, self._id, _wait, _key)
        self._exchanges: list[Exchange] = []
        self._consumed: deque[int] = deque(maxlen=REREAD)
        self._lock = Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url: Final = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._accept, name="gateway", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # Names

    def _group(self, name: Any) -> Any:
        if isinstance(name, int | float) and not isinstance(name, bool):
            return name + FAR  # A server that takes a number for a name had better find no group of that name.
        if not isinstance(name, str) or not name or name.startswith(self.common):
            return name
        return (self.common + name)[:LONGEST_NAME] if len(name) <= LONGEST_NAME else self.common + name

    def _id(self, id: Any) -> Any:
        if isinstance(id, str) and id.isascii() and id.isdigit():
            return str(self._id(int(id)))
        if isinstance(id, bool) or not isinstance(id, int | float) or not 0 < id < FAR or self._oracle.knows(int(id)):
            return id
        return FAR + int(id) if id == int(id) else 2.0**50 + 0.5  # What is no id must not become one.

    # Exchanges

    def pass_on(self, request: Request) -> Answer:
        """The server's answer to a request, under names of ours.

        Raises:
            NoAnswer: there was none.
        """
        with self._lock:
            case = request.header(_CASE)
            headers = tuple((name, value) for name, value in request.headers if name.lower() not in _OURS | _IDLE)
            exchange = self._exchange(renamed(request._replace(headers=headers), self._renaming))
            if case:
                self.cases[case] = exchange
            if exchange.answer is None:
                raise NoAnswer
            if self.trail is None:
                self._judge(exchange)
            return exchange.answer

    def _exchange(self, request: Request) -> Exchange:
        sent, answer = local_now(), None
        with suppress(NoAnswer):
            answer = self._connections.send(request)
        exchange = Exchange(request, answer, sent, local_now())
        self._exchanges.append(exchange)
        if answer and request.method == "POST":
            self._ledger.note(answer)
        return exchange

    def _judge(self, exchange: Exchange) -> None:
        newest = next(reversed(self._oracle.tasks), 0)
        try:
            self._oracle.judge(exchange)
            for request in (*self._clutter(exchange.request, newest), *self._doubts(exchange.request)):
                self._oracle.judge(self._exchange(request))
        except Broken as broken:
            self.trail = Trail(self.common, tuple(self._exchanges), str(broken))

    def _clutter(self, request: Request, newest: int) -> Iterator[Request]:
        """Remove what a large request has made."""
        if request.body and len(request.body) > LARGE:
            made = takewhile(lambda id: id > newest, reversed(self._oracle.tasks))
            if ids := list(made):
                content = {"clientid": self._oracle.tasks[ids[0]].owner, "deletes": ids}
                yield self._dialect.post("update", content)

    def _doubts(self, request: Request) -> Iterator[Request]:
        """What to read after a request, to see that it had its effect and no other."""
        if operation_of(request) not in OPERATIONS:
            return
        ids, groups = list[int](), set[str]()

        def noted_id(id: Any) -> Any:
            if isinstance(id, int | float) and self._oracle.knows(int(id)):
                ids.append(int(id))
            return id

        def noted_group(name: Any) -> Any:
            if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME:
                groups.add(name)
            return name

        renamed(request, Renaming(noted_group, noted_id))
        self._consumed.extend(id for id in ids if self._oracle.exists(id) is False)
        if several := list(dict.fromkeys([*ids, *self._oracle.doubtful, *self._consumed])):
            yield Request("GET", f"/tasks/{','.join(map(str, several[:500]))}")
        sizes = Counter(task.group for task in self._oracle.tasks.values())
        for group in sorted(name for name in groups if sizes[name] <= FEW)[:3]:
            with suppress(UnicodeEncodeError):  # half a surrogate pair: no name
                yield Request("GET", group_path(group, owned="true"))

    # The wire

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError, ValueError, HTTPException, NoAnswer):
            while request := _read(stream):
                connection.sendall(_written(self.pass_on(request), request.method))


def _wait(wait: Any) -> Any:
    """A shorter wait, if it is one."""
    # Not `in`, which for a float, as JSON may write a whole number, tries all of a range.
    is_one = isinstance(wait, int | float) and not isinstance(wait, bool) and WAITS_NS[0] <= wait <= WAITS_NS[-1]
    return min(wait, LONGEST_WAIT_NS) if is_one else wait


def _key(key: str) -> str:
    """A key that was never used before, if it is one: otherwise nearly all that is generated would be a repetition."""
    return secrets.token_hex(16) if _KEY.fullmatch(key) else key


def _read(stream: BufferedIOBase) -> Request | None:
    """The next request of a connection, or None where it ends."""
    start = stream.readline().decode("latin-1").rstrip("\r\n")
    if start.count(" ") < 2:
        return None
    method, _, rest = start.partition(" ")
    headers = tuple(parse_headers(stream).items())
    request = Request(method, rest.rpartition(" ")[0], None, headers)
    length = request.header("content-length")
    return request if length is None else request._replace(body=stream.read(int(length)))


def _written(answer: Answer, method: str) -> bytes:
    """The bytes of an answer."""
    reason = next((status.phrase for status in HTTPStatus if status == answer.status), "")
    headers = [(name, value) for name, value in answer.headers if name.lower() not in _HOPS]
    length = answer.header("content-length") if method == "HEAD" else str(len(answer.body))
    if length is not None:
        headers.append(("Content-Length", length))
    lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + answer.body
