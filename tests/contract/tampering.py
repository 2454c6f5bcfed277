"""A server of ours with a fault in it: what it is asked or what it answers is tampered with on the way.

The sound server stays as it is inside. So a fault is written in the words of the contract, and does not depend on how
our server is made.
"""

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

import pytest

from taskstore.server import run
from taskstore.server.http import App
from taskstore.server.run import RunningServer, bound, open_storage

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass
class Reply:
    """What a server answers; hooks change it in place."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @json.setter
    def json(self, content: object) -> None:
        self.body = json.dumps(content, ensure_ascii=False).encode()

    @property
    def is_update(self) -> bool:
        return self.status == 200 and self.body.startswith(b'{"tasks"')


@dataclass
class Call:
    """A request on its way to the sound server; hooks change it in place."""

    app: App
    scope: MutableMapping[str, Any]
    body: bytes
    receive: Receive
    """Tells, once the body has been read, that the client is gone."""

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return bytes(self.scope["raw_path"]).decode()

    @path.setter
    def path(self, path: str) -> None:
        self.scope["raw_path"] = path.encode()

    @property
    def operation(self) -> str:
        return self.path.split("/")[1] + ("/" if self.path.count("/") > 1 else "")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.scope["query_string"].decode(), keep_blank_values=True))

    @query.setter
    def query(self, query: dict[str, str]) -> None:
        self.scope["query_string"] = urlencode(query).encode()

    def header(self, wanted: bytes) -> bytes | None:
        return next((value for name, value in self.scope["headers"] if name == wanted), None)

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object of an update or a claim; empty if it is none."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    @content.setter
    def content(self, content: dict[str, Any]) -> None:
        self.body = json.dumps(content).encode()

    async def forward(self) -> Reply:
        """What the sound server answers to it."""
        return await sound(self.app, {**self.scope, "headers": self._headers()}, self.body, self.receive)

    async def ask(self, method: str, path: str, content: object = None) -> Reply:
        """What the sound server answers to something else."""
        scope = {**self.scope, "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        place, _, query = path.partition("?")
        scope.update(raw_path=place.encode(), query_string=query.encode(), headers=[])
        return await sound(self.app, scope, b"" if content is None else json.dumps(content).encode(), self.receive)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        kept = [(name, value) for name, value in self.scope["headers"] if name != b"content-length"]
        return [*kept, (b"content-length", b"%d" % len(self.body))] if self.body else kept


Before: TypeAlias = Callable[[Call], "Reply | Awaitable[Reply | None] | None"]
After: TypeAlias = Callable[[Call, Reply], "Awaitable[None] | None"]


async def sound(app: App, scope: MutableMapping[str, Any], body: bytes, then: Receive) -> Reply:
    """The answer of the sound server."""
    reply = Reply(0, [], b"")
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await then()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status, reply.headers = message["status"], list(message["headers"])
        else:
            reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply


class Tampered:
    """The sound server with hooks before and after it."""

    def __init__(self, app: App, before: Before | None, after: After | None) -> None:
        self.app, self.before, self.after = app, before, after

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(self.app, dict(scope), await _whole(receive), receive)
        found = self.before(call) if self.before else None
        reply = await found if isinstance(found, Awaitable) else found
        if reply is None:
            reply = await call.forward()
        if self.after:
            done = self.after(call, reply)
            if isinstance(done, Awaitable):
                await done
        headers = [(name, value) for name, value in reply.headers if name != b"content-length"]
        headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def tamper(patch: pytest.MonkeyPatch, *, before: Before | None = None, after: After | None = None) -> None:
    """Have every server that is started from now on tamper with what it is asked and what it answers."""
    patch.setattr(run, "App", lambda engine, **options: Tampered(App(engine, **options), before, after))


def refuse(status: int, detail: str = "planted") -> Reply:
    """A problem document."""
    body = {"type": "about:blank", "title": "Planted", "status": status, "detail": detail}
    return Reply(status, [(b"content-type", b"application/problem+json")], json.dumps(body).encode())


def accept(content: object) -> Reply:
    """An answer."""
    return Reply(200, [(b"content-type", b"application/json")], json.dumps(content).encode())


@contextmanager
def serving(*, tick_ns: int = 1) -> Iterator[str]:
    """The address of a server with an empty store, whose clock ticks so coarsely."""

    def clock() -> int:
        return time.time_ns() // tick_ns * tick_ns

    server = RunningServer(open_storage(":memory:", clock=clock), bound("127.0.0.1", 0))
    started = threading.Event()
    server.on_start = started.set
    thread = threading.Thread(target=server.run, name="broken server")
    thread.start()
    try:
        assert started.wait(30)
        yield server.url
    finally:
        server.stop()
        thread.join()
