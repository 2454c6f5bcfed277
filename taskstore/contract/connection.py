"""Sends a request exactly as it is and reads the answer, over a socket of its own.

The laws of this room: nothing is normalised, mended, followed or repeated; what a server says is handed on as it came.
A client library would hide what a conformance kit has to see.
"""

import http.client
import select
import socket
import ssl
import time
from contextlib import suppress
from json import JSONDecodeError, loads
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S: Final = 30.0
"""How long a server may take to answer a request that it does not have to hold."""
LARGEST: Final = 64 << 20
"""The most bytes of an answer that are read: no answer to the kit's requests has a reason to be longer."""


class NoAnswer(Exception):
    """The server could not be reached, or broke the connection, or did not speak HTTP. The message says which."""


class Request(NamedTuple):
    """A request as it goes over the wire."""

    method: str
    path: str
    """With the query, encoded, and without the path that the server's URL has already."""
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in lower case."""
        return _first(self.headers, name)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in lower case."""
        return _first(self.headers, name)

    @property
    def media(self) -> str:
        """The media type, without parameters, in lower case."""
        return (self.header("content-type") or "").split(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body, for a person."""
        return self.body.decode("utf-8", "backslashreplace")

    @property
    def json(self) -> Any:
        """The body's JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            return loads(self.body)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"the answer is not JSON: {self.text[:200]!r} ({error})") from None


class Target:
    """A server and how to reach it.

    Args:
        url: Its address, with or without a path and a trailing slash.
        token: What it asks for, if it does.

    Raises:
        ValueError: `url` is no address of an HTTP server.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no address of a server; give one like http://127.0.0.1:8048")
        self.secure: Final = parts.scheme == "https"
        self.host: Final = parts.hostname
        self.port: Final = parts.port or (443 if self.secure else 80)
        self.authority: Final = parts.netloc.rpartition("@")[2]
        self.prefix: Final = parts.path.rstrip("/")
        self.url: Final = f"{parts.scheme}://{self.authority}{self.prefix}"
        self.token: Final = token

    def opened(self) -> socket.socket:
        """A new connection."""
        plain = socket.create_connection((self.host, self.port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self.host) if self.secure else plain

    def written(self, request: Request) -> bytes:
        """The bytes of a request to this server."""
        headers = [("Host", self.authority)] if request.header("host") is None else []
        if self.token is not None and request.header("authorization") is None:
            headers.append(("Authorization", f"Bearer {self.token}"))
        headers += request.headers
        if request.body is not None and request.header("content-length") is None:
            headers.append(("Content-Length", str(len(request.body))))
        lines = [f"{request.method} {self.prefix}{request.path} HTTP/1.1", *(f"{name}: {v}" for name, v in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (request.body or b"")


class Connections:
    """Connections to a server, kept open between requests; any number of threads may send at a time."""

    def __init__(self, target: Target) -> None:
        self.target: Final = target
        self.requests = 0
        """How many were sent."""
        self._idle: list[socket.socket] = []
        self._lock = Lock()

    def send(self, request: Request, *, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send `request` once, and wait for the answer.

        Raises:
            NoAnswer: there was none.
        """
        connection = self._reusable() or self._new()
        self.requests += 1
        is_kept = False
        try:
            connection.settimeout(timeout_s)
            connection.sendall(self.target.written(request))
            answer, is_kept = _read(connection, request.method)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"no answer: {error or type(error).__name__}") from None
        finally:
            if not is_kept:
                connection.close()
        if is_kept:
            with self._lock:
                self._idle.append(connection)
        return answer

    def abandon(self, request: Request, after_s: float) -> None:
        """Send `request` over a connection of its own, and close that after so many seconds without reading.

        Raises:
            NoAnswer: it could not be sent.
        """
        with self._new() as connection:
            self.requests += 1
            try:
                connection.sendall(self.target.written(request))
            except OSError as error:
                raise NoAnswer(f"cannot send: {error}") from None
            time.sleep(after_s)

    def _reusable(self) -> socket.socket | None:
        """An idle connection that the server has not closed; a closed one can be read from."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not select.select([connection], [], [], 0)[0]:
                return connection
            connection.close()

    def _new(self) -> socket.socket:
        try:
            return self.target.opened()
        except OSError as error:
            raise NoAnswer(f"cannot connect: {error.strerror or error}") from None

    def close(self) -> None:
        """Close all that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(OSError):
                connection.close()


def _read(connection: socket.socket, method: str) -> tuple[Answer, bool]:
    """The answer, and whether the connection may be used again."""
    with http.client.HTTPResponse(connection, method=method) as response:
        response.begin()
        body = response.read(LARGEST)
        if response.length:
            raise http.client.IncompleteRead(body, response.length)
        is_whole = response.isclosed()
        return Answer(response.status, tuple(response.headers.items()), body), is_whole and not response.will_close


def local_now() -> float:
    """This machine's monotonic time, in seconds; the kit has no other clock, and never the server's."""
    return time.monotonic()


def _first(headers: tuple[tuple[str, str], ...], wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted), None)
