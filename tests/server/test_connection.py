"""What a connection writes, and in how many pieces: each costs a call of the system, and wakes the client up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.server import ServerState

from taskstore.server.connection import HEAD_SECONDS, Protocol
from taskstore.server.engine import Engine
from taskstore.server.http import App
from taskstore.server.messages import TaskAdd, Update
from taskstore.server.run import front
from taskstore.server.sqlite import MEMORY, SqliteStorage
from taskstore.server.storage import PAGE

Application = Callable[..., Awaitable[None]]

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
WELL = b'{"status":"ok"}'
CLAIM = b'{"clientid":1,"group":"a","duration":1}'


class Wire(asyncio.Transport):
    """A transport that keeps each piece that it is given, and has room for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """What comes after a request that is under way is there already."""

    resume_reading = pause_reading


class Connection:
    """One connection of a client to an application."""

    def __init__(self, application: Application) -> None:
        self.wire = Wire()
        self._state = ServerState()
        self._protocol = Protocol(front(application), self._state, {}, asyncio.get_running_loop())
        self._protocol.connection_made(self.wire)

    async def send(self, piece: bytes) -> list[bytes]:
        """What is written because a client sends this."""
        before = len(self.wire.pieces)
        self._protocol.data_received(piece)
        while self._state.tasks and not self._waits_for_a_body:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0)
        return self.wire.pieces[before:]

    @property
    def _waits_for_a_body(self) -> bool:
        cycle = self._protocol.cycle
        return cycle.more_body and not cycle.waiting_for_100_continue and not cycle.message_event.is_set()


def exchange(*sent: bytes, tasks: int = 0) -> list[list[bytes]]:
    """What a store with so many tasks in the group `a` writes because of each piece that a client sends."""

    async def talk() -> list[list[bytes]]:
        engine = Engine(SqliteStorage(MEMORY))
        await engine.apply(Update(1, [TaskAdd("a")] * tasks))
        connection = Connection(App(engine))
        answers = [await connection.send(piece) for piece in sent]
        await engine.close()
        return answers

    return asyncio.run(talk())


def test_head_and_body_of_an_answer_are_one_piece() -> None:
    [[answer]] = exchange(HEALTH)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + WELL)


def test_so_is_each_answer_to_requests_that_come_together() -> None:
    [answers] = exchange(HEALTH * 3)
    assert [(answer.count(b"HTTP/1.1 200 OK"), answer.count(WELL)) for answer in answers] == [(1, 1)] * 3


def test_a_long_listing_begins_with_its_first_page() -> None:
    [[answer, *more]] = exchange(b"GET /group/a HTTP/1.1\r\nHost: x\r\n\r\n", tasks=PAGE + 1)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [answer.count(b'"id":'), b"".join(more).count(b'"id":')] == [PAGE, 1]
    assert more[-1].endswith(b"0\r\n\r\n")


def test_an_answer_without_a_body_is_not_kept_back() -> None:
    [[answer]] = exchange(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


def test_who_asks_first_whether_to_send_the_body_is_told_at_once() -> None:
    head = b"POST /claim HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CLAIM)
    go_on, [answer] = exchange(head, CLAIM)
    assert go_on == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    assert answer.endswith(b'\r\n\r\n{"tasks":[],"error":null}')


def test_who_speaks_something_else_is_told_so() -> None:
    [[answer]] = exchange(b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_head_that_nothing_follows_is_sent_when_the_connection_ends(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})

    async def talk() -> Wire:
        connection = Connection(broken)
        await connection.send(HEALTH)
        return connection.wire

    wire = asyncio.run(talk())
    [answer] = wire.pieces
    assert answer.endswith(b"content-length: 5\r\n\r\n")
    assert wire.is_closed
    assert "without completing" in capsys.readouterr().err


def test_a_timer_is_set_for_a_head_only_if_it_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[float] = []
    call_later = asyncio.BaseEventLoop.call_later

    def noted(loop: Any, delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(loop, delay, *args, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", noted)
    exchange(HEALTH, HEALTH)
    assert timers.count(HEAD_SECONDS) == 1  # for the connection to begin
    timers.clear()
    exchange(HEALTH, HEALTH[:10], HEALTH[10:20], HEALTH[20:])
    assert timers.count(HEAD_SECONDS) == 2
