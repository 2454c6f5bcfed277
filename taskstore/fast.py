"""The fast sender: requests over plain sockets, answers by httptools, at a fraction of what httpx takes for a call.

It sends the same calls as httpx does, and has the same limits, phases and errors. What it does not do is what a client
of a store can do without: no proxies, no cookies, no compression, no HTTP/2.

The laws of this room: nothing is sent twice; a connection whose last answer was not read to its end, byte for byte as
HTTP has it, is never used again; and an error is named by the phase in which it happened.
"""

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode

import attrs
import httptools

from taskstore.errors import TaskStoreError
from taskstore.exchange import TOO_SLOW, Exchange
from taskstore.wire import Answer, written

MOST_CONNECTIONS: Final = 100
IDLE_S: Final = 3.0
"""How long a connection may be idle and still be used again, in seconds; servers close them after five or more."""
LONGEST_TARGET: Final = 65_536
HEAD_LIMIT: Final = 100_000
"""The most that is read of the head of an answer, in bytes."""

_FRAME_PER_BYTE: Final = 10
"""How many bytes of frame a byte of an answer may have around it: it may be a chunk of its own."""
_RECEIVED: Final = 65_536
"""How much is read at once, in bytes."""
_SENT: Final = 262_144
"""How much is written at once, in bytes, so that each part has its own time."""
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_KEY: Final = "Idempotency-Key"
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding"})
"""Headers that belong to the framing, in which nobody else has a say."""


class _Reusable(Protocol):
    @property
    def is_stale(self) -> Callable[[], bool]: ...

    def abandon(self) -> None: ...


C = TypeVar("C", bound=_Reusable)


class _Failure(Exception):
    """Why there is no answer."""


class ConnectError(_Failure):
    """No connection could be made."""


class ConnectTimeout(ConnectError):
    """No connection could be made in time."""


class PoolTimeout(_Failure):
    """All connections were in use for too long."""


class WriteError(_Failure):
    """The connection broke while the request was sent."""


class WriteTimeout(_Failure):
    """The request was not taken in time."""


class ReadError(_Failure):
    """The connection broke before the answer was complete."""


class ReadTimeout(_Failure):
    """The answer did not come in time."""


class RemoteProtocolError(_Failure):
    """What came was not HTTP, or broke off."""


class DecodingError(_Failure):
    """The answer is written in a way that was not asked for."""


class LocalProtocolError(_Failure):
    """The request cannot be written as HTTP."""


class InvalidURL(_Failure):
    """There is no such address."""


@attrs.frozen
class Target:
    """Where the store is, and what goes with every request."""

    host: str
    """As in a URL, so an IPv6 address is in brackets."""
    port: int
    path: str
    """What comes before the path of each call; encoded."""
    headers: Mapping[str, str]
    """Their names are in lower case."""
    tls: ssl.SSLContext | None
    _written: dict[tuple[str, ...], bytes] = attrs.field(factory=dict, init=False)

    @property
    def address(self) -> tuple[str, int]:
        """What to connect to."""
        return self.host.strip("[]"), self.port

    def request(self, exchange: Exchange) -> bytes:
        """The request as it goes over the wire.

        Raises:
            LocalProtocolError: A header cannot be written.
            InvalidURL: The address is longer than any server would take.
        """
        asked = exchange.call.request
        target = self.path + asked["url"]
        if params := asked.get("params"):
            target = f"{target}?{urlencode(params, quote_via=quote, safe='')}"
        if len(target) > LONGEST_TARGET:
            raise InvalidURL("URL too long")
        head = b"%b %b HTTP/1.1\r\n%b" % (
            asked["method"].upper().encode(),
            target.encode("ascii"),
            self._lines(asked.get("headers", {}), exchange.call.key),
        )
        if "json" in asked:
            body = written(asked["json"])
        elif "content" in asked:
            body = asked["content"]
        else:
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def _lines(self, asked: Mapping[str, str], key: str | None) -> bytes:
        """The headers, of which only the key differs from one call to the next."""
        names = tuple(asked)
        lines = self._written.get(names)
        if lines is None:
            without = _OURS.union(map(str.lower, names))
            common = ((name, value) for name, value in self._common() if name not in without)
            fixed = ((name, value) for name, value in asked.items() if name != _KEY)
            lines = self._written[names] = _lines([*common, *fixed])
        return lines if key is None else b"%b%b: %b\r\n" % (lines, _KEY.encode(), key.encode())

    def _common(self) -> Iterable[tuple[str, str]]:
        usual = self.port == (443 if self.tls else 80)
        host = self.host if usual else f"{self.host}:{self.port}"
        return ({"host": host, "accept": "*/*", "accept-encoding": "identity"} | dict(self.headers)).items()


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    lines = []
    for name, value in headers:
        try:
            raw_name, raw = name.encode("ascii"), value.encode("ascii")
        except UnicodeEncodeError:
            raise LocalProtocolError from None
        if not raw_name or not _TOKEN.issuperset(raw_name.lower()) or raw != raw.strip() or not _printable(raw):
            raise LocalProtocolError
        lines.append(b"%b: %b\r\n" % (raw_name.title(), raw))
    return b"".join(lines)


def _printable(raw: bytes) -> bool:
    return raw.isalnum() or all(0x20 <= byte < 0x7F or byte == 0x09 for byte in raw)


class _Reader:
    """The answers of a connection, as they come in, part by part; httptools calls its methods."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []

    def begin(self, exchange: Exchange) -> None:
        """Get ready for the next answer; possible only after one that has `may_go_on`."""
        self._exchange = exchange
        self._parts.clear()
        self._frame = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self.in_body = False
        self.done = False
        self.may_go_on = False
        """Whether the connection may be used for another request."""

    def feed(self, data: bytes | memoryview) -> None:
        """Take in what has been received.

        Raises:
            RemoteProtocolError: It is not HTTP, or hardly anything else than frame.
            ReadTimeout: The answer takes too long from its beginning to its end.
            AnswerError: It is too long.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.may_go_on = False
            if not self.done:  # or else it is what came after the answer that is no HTTP
                raise RemoteProtocolError(str(error) or "the answer is not HTTP") from error
        self._frame += len(data)
        for part in self._parts:
            # The head, the trailer and what is around each chunk must be bounded as well.
            self._frame -= _FRAME_PER_BYTE * len(part)
            if not self._exchange.take(part):
                raise ReadTimeout(TOO_SLOW)
        self._parts.clear()
        if self._frame > HEAD_LIMIT:
            raise RemoteProtocolError(f"the head of the answer has more than {HEAD_LIMIT:,} bytes")

    def end(self) -> None:
        """Take in that the server has closed the connection.

        Raises:
            RemoteProtocolError: The answer is not complete.
        """
        self.may_go_on = False
        if not self._status:
            raise RemoteProtocolError("Server disconnected without sending a response.")
        if not self.in_body or not {"content-length", "transfer-encoding"}.isdisjoint(self._headers):
            raise RemoteProtocolError("the server closed the connection before the answer was complete")
        self.done = True

    def answer(self) -> Answer:
        """The answer, once it is done.

        Raises:
            DecodingError: It is compressed.
        """
        if self._headers.get("content-encoding", "identity") != "identity":
            raise DecodingError(
                f"the answer is compressed ({self._headers['content-encoding']}), and nobody asked for it"
            )
        return self._exchange.answer(self._status, self._headers)

    def on_message_begin(self) -> None:
        if self.done:
            self.may_go_on = False  # an answer that nobody has asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_body:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self.in_body:
            self._status = self._parser.get_status_code()
            self.in_body = self._status >= 200

    def on_body(self, body: bytes) -> None:
        if not self.done:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if not self.in_body:  # 100 and the like, which come before the answer
            self._headers.clear()
            self._status = 0
        elif not self.done:
            self.done = True
            self.may_go_on = self._parser.should_keep_alive()


class _Deadline:
    """Until when what is awaited has to be there: the head of the answer, and then all of it."""

    def __init__(self, exchange: Exchange) -> None:
        self._body_s = exchange.body_s
        self._in_body = False
        self._at_s = _after(exchange.timeouts["read"])

    def left_s(self, reader: _Reader) -> float | None:
        """How many seconds are left; None for any number.

        Raises:
            ReadTimeout: None.
        """
        if reader.in_body and not self._in_body:
            self._in_body = True
            self._at_s = _after(self._body_s)
        if self._at_s is None:
            return None
        left_s = self._at_s - time.monotonic()
        if left_s <= 0:
            raise self.passed()
        return left_s

    def passed(self) -> ReadTimeout:
        """What to say when it has passed."""
        return ReadTimeout(TOO_SLOW if self._in_body else "the answer did not begin in time")


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _not_taken() -> WriteTimeout:
    return WriteTimeout("the request was not taken in time")


def _watch(sock: Any) -> Callable[[], bool]:
    """What tells whether an idle connection has something to read: that it is closed, or an answer to nothing."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return lambda: bool(poll.poll(0))


def _failed(exchange: Exchange, failure: _Failure) -> TaskStoreError:
    """What a failure means for the caller."""
    match failure:
        case LocalProtocolError():
            return exchange.not_http()
        case InvalidURL():
            return exchange.not_sendable(failure)
        case PoolTimeout():
            return exchange.no_connection_free(failure)
        case ConnectError():
            return exchange.not_sent(failure)
    return exchange.unanswered(failure)


class _Idle(Generic[C]):
    """Connections that wait for the next request, the one that was used last at the end."""

    def __init__(self) -> None:
        self._connections: deque[tuple[float, C]] = deque()

    def take(self) -> C | None:
        """The connection that was used last, if it can be used again; those that cannot are closed."""
        while True:
            try:
                idle_since_s, connection = self._connections.pop()
            except IndexError:
                return None
            if time.monotonic() - idle_since_s < IDLE_S and not connection.is_stale():
                return connection
            connection.abandon()

    def put(self, connection: C) -> None:
        """Keep a connection for later, and close those that have been idle for too long."""
        now_s = time.monotonic()
        self._connections.append((now_s, connection))
        with suppress(IndexError):  # another thread has been quicker
            while now_s - self._connections[0][0] >= IDLE_S:
                self._connections.popleft()[1].abandon()

    def empty(self) -> list[C]:
        """Close all of them."""
        closed = []
        with suppress(IndexError):
            while True:
                closed.append(self._connections.pop()[1])
                closed[-1].abandon()
        return closed


class _Connection:
    def __init__(self, target: Target, connect_s: float | None) -> None:
        try:
            sock = socket.create_connection(target.address, connect_s)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if target.tls is not None:
                    sock = target.tls.wrap_socket(sock, server_hostname=target.address[0])
            except BaseException:
                sock.close()
                raise
        except TimeoutError as error:
            raise ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:  # a name that no resolver would take is a ValueError
            raise ConnectError(str(error)) from error
        self._socket: socket.socket = sock
        self._timeout_s = connect_s
        self.is_stale = _watch(sock)
        self._buffer = memoryview(bytearray(_RECEIVED))
        self._reader = _Reader()

    def talk(self, request: bytes, exchange: Exchange) -> _Reader:
        """Send a request and read the answer to its end."""
        reader = self._reader
        reader.begin(exchange)
        refused = self._send(request, exchange.timeouts["write"])
        deadline = _Deadline(exchange)
        while not reader.done:
            self._allow(deadline.left_s(reader))
            try:
                size = self._socket.recv_into(self._buffer)
            except TimeoutError as error:
                raise deadline.passed() from error
            except OSError as error:
                raise ReadError(str(error)) from refused or error
            if size:
                reader.feed(self._buffer[:size])
            else:
                reader.end()
        reader.may_go_on = reader.may_go_on and refused is None
        return reader

    def _send(self, request: bytes, write_s: float | None) -> OSError | None:
        """Send the request; or the error, where the server no longer listens, but may have said why."""
        self._allow(write_s)
        try:
            if len(request) <= _SENT:
                self._socket.sendall(request)
            else:
                rest = memoryview(request)
                while rest:
                    rest = rest[self._socket.send(rest[:_SENT]) :]
        except TimeoutError as error:
            raise _not_taken() from error
        except OSError as error:
            return error
        return None

    def _allow(self, timeout_s: float | None) -> None:
        if timeout_s != self._timeout_s:
            self._socket.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def abandon(self) -> None:
        self._socket.close()


class Pool:
    """Connections of one process, for any number of threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: _Idle[_Connection] = _Idle()
        self._room: SimpleQueue[None] = SimpleQueue()  # a semaphore that costs a tenth of threading's
        for _ in range(MOST_CONNECTIONS):
            self._room.put(None)
        self.is_closed = False

    def fetch(self, exchange: Exchange) -> Answer:
        """Send, and wait for the answer; or raise what the exchange makes of a failure."""
        try:
            request = self._target.request(exchange)
            try:
                self._room.get(timeout=exchange.timeouts["pool"])
            except Empty:
                raise PoolTimeout(f"all {MOST_CONNECTIONS} connections were in use") from None
            try:
                return self._talk(request, exchange)
            finally:
                self._room.put(None)
        except _Failure as failure:
            raise _failed(exchange, failure) from (None if isinstance(failure, LocalProtocolError) else failure)

    def _talk(self, request: bytes, exchange: Exchange) -> Answer:
        connection = self._idle.take() or _Connection(self._target, exchange.timeouts["connect"])
        may_go_on = False
        try:
            reader = connection.talk(request, exchange)
            may_go_on = reader.may_go_on
        finally:
            if may_go_on:
                self._idle.put(connection)
            else:
                connection.abandon()
            if self.is_closed:  # meanwhile, by another thread
                self._idle.empty()
        return reader.answer()

    def close(self) -> None:
        """Close the connections; those in use as soon as they are not."""
        self.is_closed = True
        self._idle.empty()


class _AsyncConnection(asyncio.Protocol):
    def __init__(self) -> None:
        self._reader = _Reader()
        self._talks = False
        self._changed: asyncio.Future[None] | None = None
        """Set while somebody waits for something to happen to this connection."""
        self._paused = False
        self._failure: Exception | None = None
        self.lost = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, target: Target, connect_s: float | None) -> "_AsyncConnection":
        """Connect."""
        host, port = target.address
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    cls, host, port, ssl=target.tls, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:
            raise ConnectError(str(error)) from error
        return connection

    async def talk(self, request: bytes, exchange: Exchange) -> _Reader:
        """Async twin of `_Connection.talk`."""
        reader = self._reader
        reader.begin(exchange)
        self._talks = True
        for start in range(0, len(request), _SENT):
            self._transport.write(request[start : start + _SENT] if start or len(request) > _SENT else request)
            while self._paused and self._failure is None and not reader.done:
                await self._happens(exchange.timeouts["write"], _not_taken)
        deadline = _Deadline(exchange)
        while not reader.done:
            if self._failure is not None:
                raise self._failure
            await self._happens(deadline.left_s(reader), deadline.passed)
        self._talks = False
        reader.may_go_on = reader.may_go_on and not self._paused
        return reader

    async def _happens(self, seconds: float | None, too_late: Callable[[], Exception]) -> None:
        """Wait until something has happened."""
        loop = asyncio.get_running_loop()
        changed = self._changed = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _fail, changed, too_late)
        try:
            await changed
        finally:
            self._changed = None
            if timer is not None:
                timer.cancel()

    def _tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _feed(self, take: Callable[[_Reader], None]) -> None:
        if not self._talks or self._reader.done:
            self._transport.abort()  # an answer that nobody has asked for
            return
        try:
            take(self._reader)
        except (_Failure, TaskStoreError) as failure:
            self._failure = self._failure or failure
        if self._reader.done or self._reader.in_body or self._failure is not None:
            self._tell()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._has_something_to_read = _watch(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self._feed(lambda reader: reader.feed(data))

    def eof_received(self) -> None:
        if self._talks and not self._reader.done:
            self._feed(_Reader.end)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        if exc is not None and self._failure is None:
            self._failure = ReadError(str(exc))
            self._failure.__cause__ = exc
        elif self._failure is None:
            self._failure = RemoteProtocolError("Server disconnected without sending a response.")
        self._tell()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._tell()

    def is_stale(self) -> bool:
        return self.lost.done() or self._transport.is_closing() or self._has_something_to_read()

    def abandon(self) -> None:
        self._transport.abort()


def _fail(changed: "asyncio.Future[None]", why: Callable[[], Exception]) -> None:
    if not changed.done():
        changed.set_exception(why())


class AsyncPool:
    """Async twin of `Pool`: connections of one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: _Idle[_AsyncConnection] = _Idle()
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self.is_closed = False

    async def fetch(self, exchange: Exchange) -> Answer:
        """Async twin of `Pool.fetch`."""
        try:
            request = self._target.request(exchange)
            await self._enter(exchange.timeouts["pool"])
            try:
                return await self._talk(request, exchange)
            finally:
                self._room.release()
        except _Failure as failure:
            raise _failed(exchange, failure) from (None if isinstance(failure, LocalProtocolError) else failure)

    async def _enter(self, pool_s: float | None) -> None:
        if not self._room.locked():
            await self._room.acquire()  # which does not wait
            return
        try:
            async with asyncio.timeout(pool_s):
                await self._room.acquire()
        except TimeoutError as error:
            raise PoolTimeout(f"all {MOST_CONNECTIONS} connections were in use") from error

    async def _talk(self, request: bytes, exchange: Exchange) -> Answer:
        connection = self._idle.take() or await _AsyncConnection.open(self._target, exchange.timeouts["connect"])
        may_go_on = False
        try:
            reader = await connection.talk(request, exchange)
            may_go_on = reader.may_go_on
        finally:
            if may_go_on:
                self._idle.put(connection)
            else:
                connection.abandon()
            if self.is_closed:  # meanwhile, by another task
                self._idle.empty()
        return reader.answer()

    async def aclose(self) -> None:
        """Async twin of `Pool.close`."""
        self.is_closed = True
        for connection in self._idle.empty():
            await connection.lost
