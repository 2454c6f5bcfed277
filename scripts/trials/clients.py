"""Clients that work on a store over HTTP, and write down what they ask and what they are told.

A client has a connection, one request under way at a time, and shares its client id with others. Half of what it
changes it asks for under an idempotency key; where that gets no answer, it asks again, however often it takes and
whatever happens to the server meanwhile.
"""

import random
import time
from contextlib import suppress
from typing import Final

from trials.connection import Connection, UnexpectedError
from trials.history import Call, Change, Listing, Request, Silence
from trials.load import Load

IDS: Final = range(1001, 1007)
NUMBER: Final = 12
"""How many clients there are: more than ids, so that some act under the same one at the same time."""
TICK_NS: Final = 10**6
WAIT_NS: Final = 20 * TICK_NS
SIZES: Final = (20, 120)
"""About how many tasks a store holds."""
KEYED: Final = 0.5
"""The part of the changes that have an idempotency key."""
REPEATED: Final = 0.1
"""The part of those that are asked again although they were answered."""
BAD_INPUT: Final = 0.02
"""The part of the requests that do not keep the contract."""
BAD: Final = (
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}],"deletes":["x"]}'),
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"},{"group":""}]}'),
    ("POST", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}]'),
    ("POST", "/update", b'{"clientid":9999999999,"adds":[{"group":"g0","data":"bad"}]}'),
    ("POST", "/claim", b'{"clientid":1001,"group":"g0","duration":-1}'),
    ("POST", "/claim", b'{"clientid":1001,"group":"g0"}'),
    ("PUT", "/update", b'{"clientid":1001,"adds":[{"group":"g0","data":"bad"}]}'),
    ("GET", "/task/x", b""),
    ("GET", "/tasks/1,,2", b""),
)
"""Requests to be turned away. If one left something behind, the judge would see it, for nobody has added `bad`."""


class Clients:
    """Some clients of one store.

    Args:
        rng: Decides what they ask.
    """

    def __init__(self, rng: random.Random) -> None:
        self.history: list[Call] = []
        self.complaints: list[str] = []
        """What was wrong with an answer, where no judge is needed to see it."""
        self.is_over = False
        """Whether they are to end after the request under way."""
        self._rng = rng
        self._load = Load(
            rng, clients=IDS, now=time.time_ns, tick=TICK_NS, groups=6, size=rng.choice(SIZES), wait_ns=WAIT_NS
        )
        self._unanswered: dict[int, tuple[Call, str]] = {}
        self._bad = 0
        self._started_ns = time.monotonic_ns()

    @property
    def operations(self) -> int:
        """How much they have asked."""
        return len(self.history) + self._bad

    @property
    def refused(self) -> int:
        """How much of that was refused, or turned away."""
        return sum(call.error is not None for call in self.history) + self._bad

    @property
    def unknown(self) -> int:
        """How much of that got no answer."""
        return sum(call.answer is Silence.UNKNOWN for call in self.history)

    async def work(self, connection: Connection, number: int) -> None:
        """Do what one of them does, until its connection breaks or all is over."""
        with suppress(OSError, EOFError):
            while not self.is_over or number in self._unanswered:
                try:
                    await self._act(connection, number)
                except UnexpectedError as error:
                    self.complaints.append(str(error))
                    self.is_over = True
                    self._unanswered.clear()
        connection.close()

    async def look(self, connection: Connection, name: str) -> None:
        """Read everything back, while nobody works."""
        await self._ask(connection, self._new_call(name, Listing(None)))

    def settle(self) -> None:
        """No server is left: what was not answered, and will not be asked again, can have no effect from now on."""
        now, asked_again = self._now_us(), {id(call) for call, _ in self._unanswered.values()}
        for call in self.history:
            if call.returned is None and id(call) not in asked_again:
                call.returned = now

    async def _act(self, connection: Connection, number: int) -> None:
        if number in self._unanswered:
            await self._ask_with_key(connection, number)
            return
        if self._rng.random() < BAD_INPUT:
            await self._ask_badly(connection)
            return
        client = IDS[number % len(IDS)]
        call = self._new_call(f"{client}/{number}", self._load.request(client))
        if isinstance(call.request, Change) and self._rng.random() < KEYED:
            self._unanswered[number] = call, f"{len(self.history):016}"
            await self._ask_with_key(connection, number)
        else:
            await self._ask(connection, call)

    async def _ask_with_key(self, connection: Connection, number: int) -> None:
        call, key = self._unanswered[number]
        await self._ask(connection, call, key)
        del self._unanswered[number]
        if self._rng.random() < REPEATED and call.was_applied and (call.made or call.consumed):
            again = await connection.ask(call.request, key)
            if again not in (call.answer, Silence.UNKNOWN):
                self.complaints.append(f"asked again, {call} got {again}")

    async def _ask_badly(self, connection: Connection) -> None:
        request = self._rng.choice(BAD)
        self._bad += 1
        status, body = await connection.send(*request)
        if not 400 <= status < 500:
            self.complaints.append(f"{request} got status {status}: {body!r}")

    def _new_call(self, name: str, request: Request) -> Call:
        self.history.append(Call(name, request, self._now_us()))
        return self.history[-1]

    async def _ask(self, connection: Connection, call: Call, key: str | None = None) -> None:
        call.answer = await connection.ask(call.request, key)
        if call.answer is Silence.UNKNOWN:
            raise EOFError  # The server has said that it does not know, and is about to end.
        call.returned = self._now_us()
        self._load.learn(call)

    def _now_us(self) -> int:
        return (time.monotonic_ns() - self._started_ns) // 1000
