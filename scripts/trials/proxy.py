"""A bad network between clients and a server: a proxy that loses, delays, cuts and doubles what it carries.

It knows as much of HTTP as it needs to tell where a request and an answer end. What it does to a message is drawn from
its rates; a message that it has taken is under way even when its sender has gone, as on a real network.

The law of this room: it never makes up an answer of the store, and of a request that it delivers more than once it
passes on the answer to the last delivery. The store keeps no record of what changed nothing, so the first delivery may
have been refused, and the next one not; whoever passed on the refusal would lie.
"""

import asyncio
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

FAULTS: Final = 0.2
"""To which part of the messages something happens, where nothing else is said."""
LONG_S: Final = 0.9
"""How long a message is under way at most, in seconds."""
SHORT_S: Final = 0.02
SLOW: Final = 0.1
"""The part of the delayed messages that is delayed for long, so that its sender has given it up."""
SHUT_S: Final = 0.05
"""For how long no connection can be made, after one was refused."""
HELD_S: Final = 10.0
"""How long a connection is held on which no answer will come, if the client does not give it up before."""
MOST: Final = 1 << 26
"""The most bytes in the head of a message."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_KEY: Final = re.compile(rb"\r\nidempotency-key: *([^\r ]+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class Fault(StrEnum):
    """What happens to a message."""

    NONE = "carried well"
    LOST_BEFORE = "lost before the server"
    LOST_AFTER = "answer lost"
    SILENCED = "answer never sent"
    DELAYED = "delayed"
    CUT = "answer cut"
    DOUBLED = "delivered twice"
    REFUSED = "connection refused"


WEIGHTS: Final = {
    Fault.LOST_BEFORE: 4,
    Fault.LOST_AFTER: 4,
    Fault.SILENCED: 0.5,
    Fault.DELAYED: 4,
    Fault.CUT: 3,
    Fault.DOUBLED: 4,
    Fault.REFUSED: 0.5,
}
"""How the faults share the rate between them."""


def told(faults: Counter[Fault]) -> str:
    """What has happened to messages, in words."""
    number, struck = faults.total(), faults.total() - faults[Fault.NONE]
    each = ", ".join(f"{faults[fault]:,} {fault}" for fault in Fault if fault is not Fault.NONE and faults[fault])
    return f"{number:,} messages, {struck / max(1, number):.1%} struck: {each}"


class Message(NamedTuple):
    """A request, or an answer, as it goes over the wire."""

    head: bytes
    body: bytes

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """The next one of a connection.

        Raises:
            EOFError, OSError: The connection ended before it did.
        """
        head = await reader.readuntil(b"\r\n\r\n")
        if length := _LENGTH.search(head):
            return cls(head, await reader.readexactly(int(length[1])))
        return cls(head, await _chunks(reader) if _CHUNKED.search(head) else b"")

    @property
    def wire(self) -> bytes:
        """All of it."""
        return self.head + self.body

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        found = _KEY.search(self.head)
        return found[1].decode() if found else None

    @property
    def path(self) -> str:
        """Of a request, where it goes."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def has_tasks(self) -> bool:
        """Whether this is an answer by which the store hands out tasks."""
        return b'"tasks":[{' in self.body

    @property
    def is_done(self) -> bool:
        """Whether this is an answer by which the store has not refused."""
        return self.head.startswith(b"HTTP/1.1 200") and b'"error":null' in self.body

    @property
    def is_refusal(self) -> bool:
        """Whether this is an answer by which the store refuses."""
        return b'"error":{' in self.body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while True:
        parts.append(await reader.readuntil(b"\r\n"))
        size = int(parts[-1], 16)
        parts.append(await reader.readexactly(size + 2))
        if not size:
            return b"".join(parts)


BAD_GATEWAY: Final = Message(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", b"")
"""What a proxy says when there is no server behind it."""


class Link(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Send something; False if the other end has gone."""
        if self.writer.is_closing() or self.reader.at_eof():
            return False
        self.writer.write(data)
        with suppress(OSError):
            await self.writer.drain()
            return True
        return False

    def reset(self) -> None:
        """End it the hard way, so that the other end gets an error even if it only sends."""
        with suppress(OSError):
            end: socket.socket = self.writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """End it, and wait until it has."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def ended(self) -> None:
        """Wait until the other end has gone, but not for ever."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(HELD_S):
                await self.reader.read(1)


@dataclass
class Fate:
    """What became of a request, in all its deliveries; one without a key is known by its body."""

    request: Message
    since_ns: int
    """When it was first delivered, by the monotonic clock."""
    effect: Message | None = None
    """The answer in which the server says what it has done, whoever was told; None if it says that it did nothing."""
    until_ns: int = 0
    """When that answer came."""
    is_open: bool = False
    """Whether there is a delivery of which nobody knows what it did, for the server has died."""

    def note(self, answer: Message) -> None:
        """Take note of the answer to a delivery."""
        # A claim that found nothing has done nothing; and a later copy of a step may have found what another did not.
        has_effect = answer.is_done and (answer.has_tasks or self.request.path != "/claim")
        if has_effect and (self.effect is None or not self.effect.has_tasks):
            self.effect, self.until_ns = answer, time.monotonic_ns()


class Proxy:
    """Stands between clients and one server.

    Args:
        port: Where the server is.
        rng: Decides what happens to which message.
        rate: To which part of the messages something happens.
    """

    def __init__(self, port: int, rng: random.Random, rate: float) -> None:
        self.port = 0
        """Where clients find it."""
        self.counts: Counter[Fault] = Counter()
        self._server_port = port
        self._rng = rng
        self._rate = rate
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._fates: dict[str | bytes, Fate] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._listener: socket.socket | None = None
        self._handlers: dict[Fault, Callable[[Message, Link], Awaitable[bool]]] = {
            Fault.NONE: self._carry,
            Fault.LOST_BEFORE: self._lose_request,
            Fault.LOST_AFTER: self._lose_answer,
            Fault.SILENCED: self._silence,
            Fault.DELAYED: self._delay,
            Fault.CUT: self._cut,
            Fault.DOUBLED: self._double,
            Fault.REFUSED: self._refuse,
        }

    def start(self) -> Self:
        """Listen; at the same port each time."""
        # Not a server of asyncio, which loses the connections that it is just accepting when it is closed.
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    def _shut(self) -> bool:
        """Stop to listen; False if that has been done already."""
        listener, self._listener = self._listener, None
        if listener is None:
            return False
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            if self._listener:
                connection, _ = self._listener.accept()
                self._begin(self._serve(connection))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drained(self) -> None:
        """Wait until nothing is under way any more."""
        while self._under_way:  # noqa: ASYNC110 - there are many who count it down
            await asyncio.sleep(0.005)

    def fates(self) -> list[Fate]:
        """What became of the requests that were delivered since it was last asked, once it is drained."""
        found = list(self._fates.values())
        self._fates.clear()
        return found

    async def stop(self) -> None:
        """Let go of everything."""
        await self.drained()
        self._shut()
        for link in self._links:
            link.reset()
        await asyncio.gather(*self._tasks)
        for link in self._idle:
            await link.close()

    async def _serve(self, connection: socket.socket) -> None:
        """Carry what comes over one connection of a client."""
        connection.setblocking(False)
        link = Link(*await asyncio.open_connection(sock=connection, limit=MOST))
        self._links.add(link)
        with suppress(OSError, EOFError):
            while True:
                request = await Message.read(link.reader)
                fault = self._fault(request)
                self.counts[fault] += 1
                with self._travelling():
                    if not await self._handlers[fault](request, link):
                        break
        self._links.discard(link)
        if self._rng.random() < 0.5:
            link.reset()
        await link.close()

    def _fault(self, request: Message) -> Fault:
        if self._rng.random() >= self._rate:
            return Fault.NONE
        [fault] = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        # Who sends a change without a key has chosen not to be protected, so it is left alone.
        is_protected = request.key is not None or request.head.startswith(b"GET ")
        return Fault.DELAYED if fault is Fault.DOUBLED and not is_protected else fault

    @contextmanager
    def _travelling(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    # What happens to a message; each says whether its connection is still good

    async def _carry(self, request: Message, link: Link) -> bool:
        if b'"wait":' not in request.body:
            return await self._pass_on(await self._deliver(request), link)
        # Who hangs up while the answer is held back is not waiting any more, and the server has to learn of it.
        delivering, hanging_up = asyncio.create_task(self._deliver(request)), asyncio.create_task(link.ended())
        await asyncio.wait((delivering, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        if hanging_up.done():
            delivering.cancel()
        hanging_up.cancel()
        answer, _ = await asyncio.gather(delivering, hanging_up, return_exceptions=True)
        return isinstance(answer, Message) and await self._pass_on(answer, link)

    async def _lose_request(self, _request: Message, _link: Link) -> bool:
        return False

    async def _lose_answer(self, request: Message, _link: Link) -> bool:
        await self._deliver(request)
        return False

    async def _silence(self, request: Message, link: Link) -> bool:
        await self._deliver(request)
        await link.ended()
        return False

    async def _delay(self, request: Message, link: Link) -> bool:
        before, after = self._rng.choice([(1, 0), (0, 1)])
        delay_s = self._rng.random() * (LONG_S if self._rng.random() < SLOW else SHORT_S)
        await asyncio.sleep(before * delay_s)
        answer = await self._deliver(request)
        await asyncio.sleep(after * delay_s)
        return await self._pass_on(answer, link)

    async def _cut(self, request: Message, link: Link) -> bool:
        if answer := await self._deliver(request):
            await link.send(answer.head + answer.body[: self._rng.randrange(len(answer.body) or 1)])
        return False

    async def _double(self, request: Message, link: Link) -> bool:
        copy = self._copy(request)
        match self._rng.randrange(3):
            case 0:  # one after the other
                await self._deliver(request)
            case 1:  # two at once, and then once more, as the answers of those two have no order
                await asyncio.gather(self._deliver(request), self._deliver(copy))
            case _:
                return await self._double_late(request, copy, link)
        return await self._pass_on(await self._deliver(copy), link)

    async def _double_late(self, request: Message, copy: Message, link: Link) -> bool:
        answer = await self._deliver(request)
        if answer and not answer.is_refusal:
            # What was refused may be carried out later, which no store would promise to prevent without a record.
            self._begin(self._deliver_late(copy))
        return await self._pass_on(answer, link)

    async def _deliver_late(self, request: Message) -> None:
        with self._travelling():
            await asyncio.sleep(self._rng.random() * LONG_S / 3)
            await self._deliver(request)

    async def _refuse(self, _request: Message, link: Link) -> bool:
        link.reset()
        if self._shut():
            await asyncio.sleep(self._rng.random() * SHUT_S)
            self.start()
        return False

    def _copy(self, request: Message) -> Message:
        """The same message once more."""
        return request

    # The way to the server and back

    async def _deliver(self, request: Message) -> Message | None:
        """The server's answer to a request; None if there is none."""
        try:
            link = await self._connected()
        except OSError:
            return BAD_GATEWAY if self._rng.random() < 0.5 else None
        fate = self._fates.setdefault(request.key or request.body, Fate(request, time.monotonic_ns()))
        try:
            link.writer.write(request.wire)
            answer = await Message.read(link.reader)
        except (OSError, EOFError, asyncio.CancelledError) as error:
            link.reset()
            fate.is_open = True
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        self._idle.append(link)
        fate.note(answer)
        return answer

    async def _connected(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if not link.reader.at_eof():
                return link
            await link.close()
        return Link(*await asyncio.open_connection("127.0.0.1", self._server_port, limit=MOST))

    async def _pass_on(self, answer: Message | None, link: Link) -> bool:
        return answer is not None and await link.send(answer.wire)
