"""A load generator: a process of its own that drives a server as hard as a few lines of Python can.

It speaks HTTP by hand over asyncio, at some 10 microseconds a request, so that the server is what is measured.
Prints one line of JSON, which `run` reads: requests per second, and latencies in milliseconds.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

Talk: TypeAlias = Generator[bytes, bytes, None]
"""Yields requests, and is sent the body of each answer."""

GROUP: Final = "bench"
DATA: Final = "x" * 150
_CLIENT: Final = 4242
_ID: Final = re.compile(rb'"id":(\d+)')
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Result:
    """What came of a load."""

    per_second: float
    p50_ms: float
    p99_ms: float


def run(url: str, talk: str, *, connections: int, seconds: float) -> Result:
    """Drive the server at `url` from a process of its own."""
    command = [sys.executable, __file__, url, talk, str(connections), str(seconds)]
    return Result(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def post(path: str, content: object) -> bytes:
    """The bytes of a request."""
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def cycle() -> Talk:
    """Claim a task, delete it, and so on until there is none."""
    claim = post("/claim", {"clientid": _CLIENT, "group": GROUP, "duration": 60_000_000_000})
    while found := _ID.search((yield claim)):
        yield post("/update", {"clientid": _CLIENT, "deletes": [int(found[1])]})


def claim() -> Talk:
    """Claim a task, or find none."""
    request = post("/claim", {"clientid": _CLIENT, "group": GROUP, "duration": 60_000_000_000})
    while True:
        yield request


def add() -> Talk:
    """Add a hundred tasks in each update."""
    request = post("/update", {"clientid": _CLIENT, "adds": [{"group": GROUP, "data": DATA}] * 100})
    while True:
        yield request


TALKS: Final[dict[str, Callable[[], Talk]]] = {talk.__name__: talk for talk in (cycle, claim, add)}


class Connection(asyncio.Protocol):
    """Sends the next request as soon as it has the answer to the last one."""

    def __init__(self, talk: Talk, until: float, latencies: list[float]) -> None:
        self._talk = talk
        self._until = until
        self._latencies = latencies
        self._buffer = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it.
        self._send(next(self._talk, None))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {self._buffer[:300]!r}")
        self._buffer = b""
        self._latencies.append(time.perf_counter() - self._sent_at)
        try:
            self._send(self._talk.send(body))
        except StopIteration:
            self._transport.close()

    def _send(self, request: bytes | None) -> None:
        self._sent_at = time.perf_counter()
        if request is None or self._sent_at > self._until:
            self._transport.close()
        else:
            self._transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self.closed.set_result(None)


async def drive(url: str, talk: str, connections: int, seconds: float) -> Result:
    """Keep `connections` connections busy for `seconds`."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started = time.perf_counter()
    protocols = []
    for _ in range(connections):
        _, protocol = await loop.create_connection(
            lambda: Connection(TALKS[talk](), started + seconds, latencies), address.hostname or "", address.port or 0
        )
        protocols.append(protocol)
    await asyncio.gather(*[protocol.closed for protocol in protocols])
    elapsed = time.perf_counter() - started
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99))
    return Result(len(latencies) / elapsed, p50, p99)


def main() -> None:
    """Read the command line that `run` writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("talk", choices=TALKS)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        result = runner.run(drive(options.url, options.talk, options.connections, options.seconds))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
