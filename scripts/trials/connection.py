"""Speaks the contract with a server over one connection, by hand: what is sent and read is all there is.

No pool, no retry, no timeout of its own stands between a trial and the server, so a connection that breaks is one
request whose outcome is unknown, and not more.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from taskstore.server.messages import Outcome, Step, StepOutcome, Task
from trials.history import Answer, Listing, Read, Request, Silence

_T = TypeVar("_T")
_outcome = msgspec.json.Decoder(Outcome).decode
_tasks = msgspec.json.Decoder(list[Task | None]).decode
_step_outcome = msgspec.json.Decoder(StepOutcome).decode
_groups = msgspec.json.Decoder(list[str]).decode


class UnexpectedError(Exception):
    """A request that keeps the contract got an answer that does not."""


class Connection:
    """A connection to a server on this machine.

    Every method raises an OSError or an EOFError if the connection breaks.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26))

    async def ask(self, request: Request, key: str | None = None) -> Answer:
        """The answer to a request, which may have an idempotency key; none if its status is 503.

        Raises:
            UnexpectedError: it has another status than that and 200.
        """
        if isinstance(request, Read):
            return await self._get(f"/tasks/{','.join(map(str, request.ids))}", _tasks)
        if isinstance(request, Listing):
            groups = [request.group] if request.group is not None else await self._get("/groups", _groups)
            lists = [await self._get(f"/group/{quote(group)}?owned=1", _tasks) for group in groups]
            return [task for tasks in lists for task in tasks]
        body = msgspec.json.encode(_body(request) if isinstance(request, Step) else request)
        status, said = await self.send("POST", f"/{type(request).__name__.lower()}", body, key)
        if status == 503:
            return Silence.UNKNOWN
        _check(status, said)
        return _step_outcome(said) if isinstance(request, Step) else _outcome(said)

    async def _get(self, path: str, decode: Callable[[bytes], _T]) -> _T:
        status, said = await self.send("GET", path)
        _check(status, said)
        return decode(said)

    async def send(self, method: str, path: str, body: bytes = b"", key: str | None = None) -> tuple[int, bytes]:
        """Send bytes; the status of the answer, and its body."""
        keyed = f"Idempotency-Key: {key}\r\n" if key else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\n{keyed}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
        if b"content-length" in headers:
            return int(lines[0][9:12]), await self._reader.readexactly(int(headers[b"content-length"]))
        return int(lines[0][9:12]), await self._chunks()

    async def _chunks(self) -> bytes:
        chunks: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            chunks.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(chunks)

    def close(self) -> None:
        """Let go of it, at once."""
        self._writer.transport.abort()


def _body(step: Step) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(step)
    for part in body.values():
        if part:
            part.pop("clientid")
    return {"clientid": step.update.client, **body}


def _check(status: int, said: bytes) -> None:
    if status != 200:
        raise UnexpectedError(f"status {status}: {said!r}")


def port_of(said: bytes) -> int | None:
    """The port in the line that a server says when it is ready."""
    words: list[Any] = said.decode().split(":")
    return int(words[-1]) if said.startswith(b"serving http://") else None
