"""How calls get to a server and answers back: the only file that knows httpx.

The laws of this room: a connection belongs to one process, so a forked child opens its own and leaves the parent's
alone; nothing is sent twice that is not known to be safe (`retries`), and no redirect is followed; whatever goes wrong
becomes an error that says whether the request can have arrived; no credential gets into a message, a log or a repr, so
the address that everything here sees is already without; and what is read is bounded, in time and in size.
"""

import asyncio
import base64
import logging
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from importlib.metadata import version
from types import EllipsisType
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeAlias, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from taskstore import retries, wire
from taskstore.dialect import Dialect, in_go
from taskstore.errors import TaskStoreError, UsageError
from taskstore.exchange import TOO_SLOW, Exchange
from taskstore.identity import ID
from taskstore.model import Duration, duration_ns
from taskstore.wire import Answer, Call

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)

SyncHTTP: TypeAlias = httpx.Client
AsyncHTTP: TypeAlias = httpx.AsyncClient
Auth: TypeAlias = str | tuple[str, str] | httpx.Auth | Callable[[httpx.Request], httpx.Request]
"""A token, sent as `Authorization: Bearer ...`; or a user and a password; or what else httpx takes as `auth`."""
Timeout: TypeAlias = Duration | EllipsisType | None
"""How long to wait: a `timedelta` or an integer number of nanoseconds; None for ever; `...` for as long as is usual
there. Each step may take that long: to get a connection, to send, to see the answer begin, and to have all of it."""
Retry: TypeAlias = Duration | EllipsisType | None
"""For how long to repeat a call that has failed: a `timedelta` or an integer number of nanoseconds; 0 or None for not
at all; `...` for as long as is usual there."""

Transport: TypeAlias = Literal["httpx", "fast"]
"""What sends: httpx, or a sender of our own that is several times faster and can do less (`taskstore[fast]`)."""

RETRY: Final = timedelta(seconds=60)
"""For how long a call that has failed is repeated, if nothing else was said."""
DEFAULT_URL: Final = "http://127.0.0.1:8048"
USER_AGENT: Final = f"taskstore-python/{version('taskstore')}"

_TIMEOUT_S: Final = 30.0
_LONGEST_TIMEOUT_S: Final = 2_000_000.0
"""23 days; from 25 on a timeout no longer fits the call of the operating system."""
_SHORTEST_INTEGER_NS: Final = 1_000_000
_LONG_PAUSE_S: Final = 1.0
"""From here on a pause is worth a warning: the server has been away for a while, and somebody may wonder."""

# A server closes idle connections: uvicorn, hypercorn and node after 5 s, most others later. A request that crosses
# such a closing is lost, and nobody can tell whether it was carried out. So the client is always the first to close.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=3.0)

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_NOT_SENDABLE: Final = (httpx.InvalidURL, httpx.UnsupportedProtocol)
# The RuntimeErrors are those of an event loop, and httpx's own StreamError.
_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, RuntimeError)

_log: Final = logging.getLogger("taskstore")


class _Closable(Protocol):
    @property
    def is_closed(self) -> bool: ...


class _Pool(_Closable, Protocol):
    """The connections of one process to a server.

    `fetch` sends and waits for the answer, or raises what the exchange makes of an error.
    """

    def fetch(self, exchange: Exchange) -> Answer: ...

    def close(self) -> None: ...


class _AsyncPool(_Closable, Protocol):
    """Async twin of `_Pool`."""

    async def fetch(self, exchange: Exchange) -> Answer: ...

    async def aclose(self) -> None: ...


P = TypeVar("P", bound=_Closable)


class _OfHttpx(Generic[H]):
    """What the connections of httpx have in common in both colours."""

    def __init__(self, http: H, headers: Mapping[str, str], auth: Any, *, injected: bool) -> None:
        self._http: H = http
        self._headers = headers
        self._auth = auth
        self._injected = injected
        if not injected:  # then they are merged with httpx's own once, and not for each request
            http.headers.update(headers)
            self._headers = {}
        self._addresses: dict[str, httpx.URL] = {}

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    def _request(self, exchange: Exchange) -> httpx.Request:
        asked = exchange.call.request
        headers = {name.lower(): value for name, value in asked.get("headers", {}).items()}
        content = wire.written(asked["json"]) if "json" in asked else asked.get("content")
        return self._http.build_request(
            asked["method"],
            exchange.url if content is None else self._address(exchange.url),
            params=asked.get("params"),
            content=content,
            headers={**self._headers, **headers} if self._headers else headers,
            extensions={"timeout": exchange.timeouts},
        )

    def _address(self, url: str) -> httpx.URL:
        """The address of a change, of which there are few, so that each is taken apart only once."""
        if url not in self._addresses:
            self._addresses[url] = httpx.URL(url)
        return self._addresses[url]


class _HttpxPool(_OfHttpx[httpx.Client]):
    def fetch(self, exchange: Exchange) -> Answer:
        try:
            request = self._request(exchange)
            response = self._http.send(request, stream=True, auth=self._auth, follow_redirects=False)
            try:
                for part in response.iter_bytes():
                    _take(exchange, part)
            finally:
                response.close()
        except httpx.LocalProtocolError:
            raise exchange.not_http() from None
        except _FAILURES as error:
            raise _failure(exchange, error) from error
        return exchange.answer(response.status_code, response.headers)

    def close(self) -> None:
        if not self._injected:
            self._http.close()


class _AsyncHttpxPool(_OfHttpx[httpx.AsyncClient]):
    async def fetch(self, exchange: Exchange) -> Answer:
        try:
            request = self._request(exchange)
            response = await self._http.send(request, stream=True, auth=self._auth, follow_redirects=False)
            try:
                async for part in response.aiter_bytes():
                    _take(exchange, part)
            finally:
                await response.aclose()
        except httpx.LocalProtocolError:
            raise exchange.not_http() from None
        except _FAILURES as error:
            raise _failure(exchange, error) from error
        return exchange.answer(response.status_code, response.headers)

    async def aclose(self) -> None:
        if not self._injected:
            await self._http.aclose()


def new_key() -> str:
    """A name for one call, which nobody else gives.

    It begins with the time, as a UUIDv7 does (RFC 9562): a server that keeps its records in the order of their keys
    finds those of late side by side, and need not write another page for each.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def _take(exchange: Exchange, part: bytes) -> None:
    if not exchange.take(part):
        raise httpx.ReadTimeout(TOO_SLOW)


def _failure(exchange: Exchange, error: Exception) -> TaskStoreError:
    """What an error of httpx means for the caller."""
    if isinstance(error, _NOT_SENDABLE):
        return exchange.not_sendable(error)
    if isinstance(error, httpx.PoolTimeout):
        return exchange.no_connection_free(error)
    if isinstance(error, _NOT_SENT):
        return exchange.not_sent(error)
    return exchange.unanswered(error)


class _Sender(Generic[P]):
    """What the two colours share: all but the waiting."""

    _kind: ClassVar[type[httpx.Client | httpx.AsyncClient]]
    _now_s = staticmethod(time.monotonic)
    _backoff_s = staticmethod(retries.full_jitter_s)

    def __init__(
        self,
        base_url: str | None,
        *,
        timeout: Timeout,
        retry: Duration | None,
        headers: Mapping[str, str] | None,
        auth: Auth | None,
        http_client: httpx.Client | httpx.AsyncClient | None,
        transport: Transport,
        dialect: Dialect,
    ) -> None:
        if transport not in {"httpx", "fast"}:
            raise UsageError(f"transport={transport!r} has to be 'httpx' or 'fast'")
        if dialect not in {"json", "go"}:
            raise UsageError(f"dialect={dialect!r} has to be 'json' or 'go'")
        if http_client is not None and not isinstance(http_client, self._kind):
            raise UsageError(f"http_client has to be an httpx.{self._kind.__name__}, not {type(http_client).__name__}")
        self._closed = False
        self._dialect = dialect
        if base_url is None:
            base_url = str(http_client.base_url) if http_client else ""
            base_url = base_url or os.environ.get("TASKSTORE_URL") or DEFAULT_URL
        self.base_url, user = _address(base_url)
        """Where the store is, without credentials and without a slash at the end."""
        self._auth = _auth(user if auth is None else auth)
        self._timeouts = _timeouts(http_client, timeout)
        self._retry_s = _retry_s(retry)
        self._headers = _headers(http_client, headers)
        self._knowledge = retries.Knowledge()
        self._injected = http_client is not None
        self._fast: Any = self._fast_target(auth, user) if transport == "fast" else None
        # By process: those that a fork inherits stay here, so that they are neither used nor closed by the child.
        self._pools: dict[int, P] = {ID(): self._new_pool() if http_client is None else self._wrapped(http_client)}

    def _new_pool(self) -> P:
        """Connections of our own."""
        raise NotImplementedError

    def _wrapped(self, http_client: Any) -> P:
        """Connections that were given to us."""
        raise NotImplementedError

    def _fast_target(self, auth: Auth | None, user: tuple[str, str] | None) -> Any:
        """The address and the headers for the fast sender, which has to be told more than httpx."""
        if self._injected:
            raise UsageError("with an http_client it is httpx that sends: leave out transport='fast'")
        try:
            from taskstore import fast
        except ImportError as error:
            raise UsageError(f"transport='fast' needs more: pip install 'taskstore[fast]' ({error})") from error
        url = httpx.URL(self.base_url)
        if not {url.scheme, "all"}.isdisjoint(getproxies()) and not proxy_bypass(url.host):
            raise UsageError("the environment names a proxy, and transport='fast' knows none: use httpx, or NO_PROXY")
        host = url.raw_host.decode("ascii")
        return fast.Target(
            host=f"[{host}]" if ":" in host else host,
            port=url.port or (443 if url.scheme == "https" else 80),
            path=url.raw_path.decode("ascii").rstrip("/"),
            headers=self._headers | _authorization(user if auth is None else auth),
            tls=httpx.create_ssl_context() if url.scheme == "https" else None,
        )

    def key(self, retry: Retry) -> str | None:
        """A new name for one call, under which it may be repeated; None if it is never to be, or cannot be told so."""
        return new_key() if self._budget_s(retry) and self._dialect == "json" else None

    def _spoken(self, call: Call[T]) -> Call[T]:
        return call if self._dialect == "json" else in_go(call)

    def _limits(self, timeout: Timeout) -> dict[str, float | None]:
        return self._timeouts if timeout is ... else httpx.Timeout(_seconds(timeout, "timeout")).as_dict()

    def _budget_s(self, retry: Retry) -> float:
        return self._retry_s if retry is ... else _retry_s(retry)

    def _plan(self, call: Call[T], first: retries.Tried, budget_s: float) -> retries.Plan[T]:
        given = retries.Circumstances(budget_s, self._knowledge, self._backoff_s, self._probe)
        return retries.planned(call, first, given)

    def _probe(self) -> Call[Any]:
        return wire.update(ID(), (), (), (), (), key=new_key())

    def _exchange(self, call: Call[Any], timeouts: dict[str, float | None]) -> Exchange:
        body_s = read_s = timeouts["read"]
        if call.wait_ns and read_s is not None:
            timeouts = {**timeouts, "read": min(read_s + call.wait_ns / 1e9, _LONGEST_TIMEOUT_S)}
        return Exchange(call, self.base_url + call.request["url"], timeouts, body_s, self._now_s())

    def _pool(self) -> P:
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


class Sender(_Sender[_Pool]):
    """Sends calls and waits for their answers. Any number of threads may use one at the same time."""

    _kind = httpx.Client
    _sleep = staticmethod(time.sleep)

    def send(self, call: Call[T], timeout: Timeout, retry: Retry) -> T:
        """The result of the call, which is repeated where that is safe and may help.

        Raises:
            UsageError: The call cannot be sent, or this sender is closed.
            NotSentError: No connection could be made.
            OutcomeUnknownError: It was sent, and no complete answer came back.
            TaskResponseError, HTTPError, AnswerError: See `Call.result`.
        """
        call = self._spoken(call)
        timeouts, budget_s = self._limits(timeout), self._budget_s(retry)
        tried = self._tried(self._exchange(call, timeouts))
        try:
            return retries.result(call, tried, self._knowledge)
        except TaskStoreError:
            plan = self._plan(call, tried, budget_s)
        outcome: retries.Tried | None = None
        while True:
            try:
                wish = plan.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(wish, retries.Send):
                outcome = self._tried(self._exchange(wish.call, timeouts))
            else:
                _tell(wish)
                self._sleep(wish.seconds)
                outcome = None

    def _tried(self, exchange: Exchange) -> retries.Tried:
        try:
            outcome: Answer | TaskStoreError = self._pool().fetch(exchange)
        except TaskStoreError as error:
            outcome = error
        return retries.Tried(outcome, exchange.began_s, self._now_s())

    def close(self) -> None:
        """Close the connections, except those that were given to us or belong to another process."""
        self._closed = True
        if ID() in self._pools:
            self._pools[ID()].close()

    def _new_pool(self) -> _Pool:
        if self._fast is not None:
            from taskstore import fast

            return fast.Pool(self._fast)
        return _HttpxPool(_own(httpx.Client, self.base_url), self._headers, self._auth, injected=False)

    def _wrapped(self, http_client: httpx.Client) -> _Pool:
        return _HttpxPool(http_client, self._headers, self._auth, injected=True)


class AsyncSender(_Sender[_AsyncPool]):
    """Async twin of `Sender`: sends calls and awaits their answers. It belongs to the event loop that first uses it."""

    _kind = httpx.AsyncClient
    _home: tuple[int, asyncio.AbstractEventLoop] | None = None
    _sleep = staticmethod(asyncio.sleep)

    async def send(self, call: Call[T], timeout: Timeout, retry: Retry) -> T:
        """Async twin of `Sender.send`."""
        call = self._spoken(call)
        timeouts, budget_s = self._limits(timeout), self._budget_s(retry)
        tried = await self._tried(self._exchange(call, timeouts))
        try:
            return retries.result(call, tried, self._knowledge)
        except TaskStoreError:
            plan = self._plan(call, tried, budget_s)
        outcome: retries.Tried | None = None
        while True:
            try:
                wish = plan.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(wish, retries.Send):
                outcome = await self._tried(self._exchange(wish.call, timeouts))
            else:
                _tell(wish)
                await self._sleep(wish.seconds)
                outcome = None

    async def _tried(self, exchange: Exchange) -> retries.Tried:
        try:
            outcome: Answer | TaskStoreError = await self._pool().fetch(exchange)
        except TaskStoreError as error:
            outcome = error
        return retries.Tried(outcome, exchange.began_s, self._now_s())

    async def aclose(self) -> None:
        """Async twin of `Sender.close`."""
        self._closed = True
        self._stay_in_loop()
        if ID() in self._pools:
            await self._pools[ID()].aclose()

    def _new_pool(self) -> _AsyncPool:
        if self._fast is not None:
            from taskstore import fast

            return fast.AsyncPool(self._fast)
        return _AsyncHttpxPool(_own(httpx.AsyncClient, self.base_url), self._headers, self._auth, injected=False)

    def _wrapped(self, http_client: httpx.AsyncClient) -> _AsyncPool:
        return _AsyncHttpxPool(http_client, self._headers, self._auth, injected=True)

    def _pool(self) -> _AsyncPool:
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


def _tell(pause: retries.Pause) -> None:
    level = logging.WARNING if pause.seconds >= _LONG_PAUSE_S else logging.INFO
    _log.log(level, "once more in %.2f s, for: %s", pause.seconds, pause.why)


def _own(kind: type[H], base_url: str) -> H:
    # Reading the certificates takes twenty times as long as all the rest. This context has none, and so trusts nobody.
    plain = httpx.URL(base_url).scheme == "http"
    try:
        return kind(limits=_LIMITS, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True)
    except Exception as error:
        message = f"the proxies or certificates that the environment names cannot be used: {error}"
        raise UsageError(message) from error


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
        raise UsageError(f"the address {shown!r} is not an address{why}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError(f"the address {shown!r} has to begin with http:// or https:// and a host, like {DEFAULT_URL}")
    if url.query or url.fragment or base_url.endswith(("?", "#")):
        raise UsageError(f"the address {shown!r} must not have a query or a fragment: paths are appended to it")
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


def _authorization(auth: Auth | None) -> dict[str, str]:
    match auth:
        case None:
            return {}
        case str():
            return {"authorization": f"Bearer {auth}"}
        case tuple((str(user), str(password))):
            return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    raise UsageError(
        "transport='fast' takes a token, or a pair of user and password; for other kinds of auth use httpx"
    )


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
    return httpx.Timeout(_seconds(timeout, "timeout")).as_dict()


def _seconds(timeout: Duration | None, name: str) -> float | None:
    if timeout is None:
        return None
    ns = duration_ns(timeout, name)
    if ns <= 0:
        raise UsageError(f"{name}={timeout!r} has to be positive, or None to wait for ever")
    if isinstance(timeout, int) and ns < _SHORTEST_INTEGER_NS:
        raise UsageError(f"{name}={ns}, that is {ns} ns? Integers are nanoseconds; say timedelta(seconds={ns})")
    return min(ns / 1e9, _LONGEST_TIMEOUT_S)


def _retry_s(retry: Retry) -> float:
    if retry is ...:
        raise UsageError("retry has to be a duration, or None to repeat nothing")
    if not retry:
        return 0.0
    return _seconds(retry, "retry") or 0.0
