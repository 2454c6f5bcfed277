"""How calls get to a server and answers back: the only file that knows httpx.

The laws of this room: a connection belongs to one process, so a forked child opens its own and leaves the parent's
alone; nothing is sent twice, and no redirect is followed; whatever goes wrong becomes an error that says whether the
request can have arrived; no credential gets into a message, a log or a repr, so the address that everything here sees
is already without; and what is read is bounded, in time and in size.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import version
from types import EllipsisType
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs
import httpx

from taskstore.errors import AnswerError, NotSentError, OutcomeUnknownError, TaskStoreError, UsageError
from taskstore.identity import ID
from taskstore.model import Duration, duration_ns
from taskstore.wire import Answer, Call

T = TypeVar("T")
Pool = TypeVar("Pool", httpx.Client, httpx.AsyncClient)

SyncHTTP: TypeAlias = httpx.Client
AsyncHTTP: TypeAlias = httpx.AsyncClient
Auth: TypeAlias = str | tuple[str, str] | httpx.Auth | Callable[[httpx.Request], httpx.Request]
"""A token, sent as `Authorization: Bearer ...`; or a user and a password; or what else httpx takes as `auth`."""
Timeout: TypeAlias = Duration | EllipsisType | None
"""How long to wait: a `timedelta` or an integer number of nanoseconds; None for ever; `...` for as long as is usual
there. Each step may take that long: to get a connection, to send, to see the answer begin, and to have all of it."""

DEFAULT_URL: Final = "http://127.0.0.1:8048"
USER_AGENT: Final = f"taskstore-python/{version('taskstore')}"
ANSWER_LIMIT: Final = 256 * 2**20
"""The most that is read of an answer, in bytes."""

_TIMEOUT_S: Final = 30.0
_LONGEST_TIMEOUT_S: Final = 2_000_000.0
"""23 days; from 25 on a timeout no longer fits the call of the operating system."""
_SHORTEST_INTEGER_NS: Final = 1_000_000
_NAME_SHOWN: Final = 200
"""How many characters of a call's method and address an error shows."""

# A server closes idle connections: uvicorn, hypercorn and node after 5 s, most others later. A request that crosses
# such a closing is lost, and nobody can tell whether it was carried out. So the client is always the first to close.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=3.0)

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_NOT_SENDABLE: Final = (httpx.InvalidURL, httpx.UnsupportedProtocol)
# The RuntimeErrors are those of an event loop, and httpx's own StreamError.
_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, RuntimeError)

_log: Final = logging.getLogger("taskstore")


@attrs.define(eq=False)
class _Exchange:
    """One call on its way: what was asked, what has come back, and what to say when it goes wrong."""

    call: Call[Any]
    url: str
    timeouts: dict[str, float | None]
    started_s: float = attrs.field(factory=time.monotonic)
    _parts: list[bytes] = attrs.field(factory=list, init=False)
    _size: int = attrs.field(default=0, init=False)
    _deadline_s: float | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """Method and address, without credentials."""
        return f"{self.call.request['method'].upper()} {self.url}"[:_NAME_SHOWN]

    def take(self, part: bytes) -> None:
        """Keep the next part of the answer's body, if there is room and time for it."""
        now = time.monotonic()
        if not self._parts and self.timeouts["read"] is not None:
            self._deadline_s = now + self.timeouts["read"]
        self._parts.append(part)
        self._size += len(part)
        if self._size > ANSWER_LIMIT:
            raise self.call.failed(AnswerError(f"{self.name}: the answer has more than {ANSWER_LIMIT:,} bytes"))
        if self._deadline_s is not None and now > self._deadline_s:
            raise httpx.ReadTimeout("the answer has begun, but not ended in time")

    def answer(self, response: httpx.Response) -> Answer:
        """What has come back."""
        if _log.isEnabledFor(logging.DEBUG):
            took_ms = (time.monotonic() - self.started_s) * 1e3
            _log.debug("%s: status %d, %d bytes, %.1f ms", self.name, response.status_code, self._size, took_ms)
        content_type = response.headers.get("Content-Type", "")
        return Answer(self.name, response.status_code, content_type, b"".join(self._parts))

    def failure(self, error: Exception) -> TaskStoreError:
        """What an error of httpx means for the caller."""
        what = f"{self.name}: {type(error).__name__}: {error}".rstrip(": ")
        _log.debug("%s", what)
        if isinstance(error, _NOT_SENDABLE):
            return UsageError(f"{what}. Nothing was sent")
        if isinstance(error, httpx.PoolTimeout):
            return NotSentError(f"{what}. Nothing was sent, for all connections of this client were in use")
        if isinstance(error, _NOT_SENT):
            hint = "Is a server running there (`taskstore serve`), and is the address right (base_url, TASKSTORE_URL)?"
            return NotSentError(f"{what}. Nothing was sent. {hint}")
        then = "The store may have carried it out or not: look (task, tasks, group) before you repeat it"
        if self.call.only_reads:
            then = "It only reads, so repeat it"
        message = f"{what}. The request was sent, and no complete answer came back. {then}"
        return self.call.failed(OutcomeUnknownError(message))

    def not_http(self) -> UsageError:
        """What it means that the request cannot be written as HTTP. The cause is not told, for it quotes the header."""
        return UsageError(
            f"{self.name}: a header, or the token, holds a character that HTTP does not allow, such as a line break at "
            "its end. Nothing was sent"
        )


class _Sender(Generic[Pool]):
    """What the two colours share: all but the waiting."""

    def __init__(
        self,
        kind: type[Pool],
        base_url: str | None,
        *,
        timeout: Timeout,
        headers: Mapping[str, str] | None,
        auth: Auth | None,
        http_client: Pool | None,
    ) -> None:
        if http_client is not None and not isinstance(http_client, kind):
            raise UsageError(f"http_client has to be an httpx.{kind.__name__}, not {type(http_client).__name__}")
        self._kind: type[Pool] = kind
        self._injected = http_client is not None
        self._closed = False
        if base_url is None:
            base_url = str(http_client.base_url) if http_client else ""
            base_url = base_url or os.environ.get("TASKSTORE_URL") or DEFAULT_URL
        self.base_url, user = _address(base_url)
        """Where the store is, without credentials and without a slash at the end."""
        self._auth = _auth(user if auth is None else auth)
        self._timeouts = _timeouts(http_client, timeout)
        self._headers = _headers(http_client, headers)
        # By process: those that a fork inherits stay here, so that they are neither used nor closed by the child.
        self._pools: dict[int, Pool] = {ID(): http_client or self._new_pool()}

    def _new_pool(self) -> Pool:
        try:
            return self._kind(limits=_LIMITS)
        except Exception as error:
            message = f"the proxies or certificates that the environment names cannot be used: {error}"
            raise UsageError(message) from error

    def _pool(self) -> Pool:
        """The connections of this process.

        Raises:
            UsageError: They are closed, or they were given to us in the process that this one is forked from.
        """
        pool = self._pools.get(ID())
        if pool is None:
            if self._injected:
                raise UsageError(
                    "this client's http_client was made before the fork, and its connections belong to the parent: "
                    "make both clients anew in the child"
                )
            # Of two threads that get here at once, setdefault lets one win; the other's pool has no connection yet.
            pool = self._pools.setdefault(ID(), self._new_pool())
        if self._closed or pool.is_closed:
            raise UsageError("this client is closed; make another one")
        return pool

    def _exchange(self, call: Call[Any], timeout: Timeout) -> _Exchange:
        timeouts = self._timeouts if timeout is ... else httpx.Timeout(_seconds(timeout)).as_dict()
        if call.wait_ns and timeouts["read"] is not None:
            timeouts = {**timeouts, "read": min(timeouts["read"] + call.wait_ns / 1e9, _LONGEST_TIMEOUT_S)}
        return _Exchange(call, self.base_url + call.request["url"], timeouts)

    def _request(self, pool: Pool, exchange: _Exchange) -> httpx.Request:
        asked = exchange.call.request
        return pool.build_request(
            asked["method"],
            exchange.url,
            params=asked.get("params"),
            json=asked.get("json"),
            headers=self._headers | {name.lower(): value for name, value in asked.get("headers", {}).items()},
            extensions={"timeout": exchange.timeouts},
        )


class Sender(_Sender[httpx.Client]):
    """Sends calls and waits for their answers. Any number of threads may use one at the same time."""

    def send(self, call: Call[T], timeout: Timeout) -> T:
        """The result of the call.

        Raises:
            UsageError: The call cannot be sent, or this sender is closed.
            NotSentError: No connection could be made.
            OutcomeUnknownError: It was sent, and no complete answer came back.
            TaskResponseError, HTTPError, AnswerError: See `Call.result`.
        """
        pool, exchange = self._pool(), self._exchange(call, timeout)
        try:
            request = self._request(pool, exchange)
            response = pool.send(request, stream=True, auth=self._auth, follow_redirects=False)
            try:
                for part in response.iter_bytes():
                    exchange.take(part)
            finally:
                response.close()
        except httpx.LocalProtocolError:
            raise exchange.not_http() from None
        except _FAILURES as error:
            raise exchange.failure(error) from error
        return call.result(exchange.answer(response))

    def close(self) -> None:
        """Close the connections, except those that were given to us or belong to another process."""
        self._closed = True
        if not self._injected and ID() in self._pools:
            self._pools[ID()].close()


class AsyncSender(_Sender[httpx.AsyncClient]):
    """Async twin of `Sender`: sends calls and awaits their answers. It belongs to the event loop that first uses it."""

    _home: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def send(self, call: Call[T], timeout: Timeout) -> T:
        """Async twin of `Sender.send`."""
        pool, exchange = self._pool(), self._exchange(call, timeout)
        try:
            request = self._request(pool, exchange)
            response = await pool.send(request, stream=True, auth=self._auth, follow_redirects=False)
            try:
                async for part in response.aiter_bytes():
                    exchange.take(part)
            finally:
                await response.aclose()
        except httpx.LocalProtocolError:
            raise exchange.not_http() from None
        except _FAILURES as error:
            raise exchange.failure(error) from error
        return call.result(exchange.answer(response))

    async def aclose(self) -> None:
        """Async twin of `Sender.close`."""
        self._closed = True
        self._stay_in_loop()
        if not self._injected and ID() in self._pools:
            await self._pools[ID()].aclose()

    def _pool(self) -> httpx.AsyncClient:
        pool = super()._pool()
        self._stay_in_loop()
        return pool

    def _stay_in_loop(self) -> None:
        process, loop = ID(), asyncio.get_running_loop()
        if self._home is None or self._home[0] != process:
            self._home = process, loop
        elif self._home[1] is not loop:
            raise UsageError(
                "this client's connections belong to another event loop: make a client in each loop, or call "
                "asyncio.run once, around everything"
            )


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


def _address(base_url: str) -> tuple[str, tuple[str, str] | None]:
    """The address without a slash at its end and without credentials, and these credentials."""
    if not isinstance(base_url, str):
        raise UsageError(f"base_url has to be a str, not {type(base_url).__name__}")
    shown = re.split("[?#]", base_url.rpartition("@")[2])[0]
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        # The error may quote any part of the address, and so a password.
        why = "" if "@" in base_url else f": {error}"
        raise UsageError(f"base_url {shown!r} is not an address{why}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError(f"base_url {shown!r} has to begin with http:// or https:// and a host, as {DEFAULT_URL} does")
    if url.query or url.fragment or base_url.endswith(("?", "#")):
        raise UsageError(f"base_url {shown!r} must not have a query or a fragment: paths are appended to it")
    user = (url.username, url.password) if url.userinfo else None
    return str(url.copy_with(userinfo=b"")).rstrip("/"), user


def _auth(auth: Auth | None) -> Any:
    match auth:
        case None:
            return httpx.USE_CLIENT_DEFAULT
        case str():
            return _Bearer(auth)
        case tuple((str(), str())) | httpx.Auth():
            return auth
        case _ if callable(auth):
            return auth
    raise UsageError("auth has to be a token, a pair of user and password, an httpx.Auth, or a function of a request")


def _headers(http_client: httpx.Client | httpx.AsyncClient | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    named = http_client is not None and not http_client.headers.get("User-Agent", "").startswith("python-httpx/")
    try:
        return ({} if named else {"user-agent": USER_AGENT}) | dict(httpx.Headers(headers))
    except (UnicodeEncodeError, AttributeError, TypeError, ValueError):
        # Without the cause, which may quote a token.
        raise UsageError("headers have to be a mapping of names to values, both of them ASCII text") from None


def _timeouts(http_client: httpx.Client | httpx.AsyncClient | None, timeout: Timeout) -> dict[str, float | None]:
    if timeout is ...:
        return (http_client.timeout if http_client else httpx.Timeout(_TIMEOUT_S)).as_dict()
    return httpx.Timeout(_seconds(timeout)).as_dict()


def _seconds(timeout: Duration | None) -> float | None:
    if timeout is None:
        return None
    ns = duration_ns(timeout, "timeout")
    if ns <= 0:
        raise UsageError(f"timeout={timeout!r} has to be positive, or None to wait for ever")
    if isinstance(timeout, int) and ns < _SHORTEST_INTEGER_NS:
        raise UsageError(f"timeout={ns}, that is {ns} ns? Integers are nanoseconds; say timedelta(seconds={ns})")
    return min(ns / 1e9, _LONGEST_TIMEOUT_S)
