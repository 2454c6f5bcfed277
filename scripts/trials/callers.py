"""Clients that work on a store through the public client, in both colours and over both senders, and write it down.

What is written down is each call of the application, not each attempt of the client at it: when it was made, when it
returned, and what the application was told. Where it was told that nobody knows, the network may know, for it has seen
the answer that it lost; then that is written, as it is what was done.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from taskstore import (
    AsyncHTTPClient,
    HTTPClient,
    HTTPError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    TaskResponseError,
    TaskStoreError,
)
from taskstore import Step as Stepped
from taskstore.server.messages import (
    Claim,
    Outcome,
    Refusal,
    Step,
    StepBody,
    StepOutcome,
    Task,
    TaskAdd,
    TaskUpdate,
    Update,
)
from taskstore.transport import Transport
from trials.history import Answer, Call, Change, Listing, Read, Request, Silence
from trials.load import FAR, Load
from trials.proxy import Fate

IDS: Final = range(1001, 1007)
TICK_NS: Final = 30 * 10**6
"""Leases are of 0 to 20 of them: some end while a call is still repeated, most do not."""
WAIT_NS: Final = 50 * 10**6
SIZE: Final = 80
"""About how many tasks the store holds."""
TIMEOUT: Final = timedelta(milliseconds=500)
RETRY: Final = timedelta(seconds=20)
"""Longer than it takes to start a server."""
GIVEN_UP: Final = 0.05
"""The part of the calls that are never repeated, and so have no key."""


class Recognizable(Load):
    """A load of which no two claims ask for the same duration, so that a request tells which call it belongs to."""

    _numbers = count(1)

    def _duration(self) -> int:
        return super()._duration() + next(self._numbers)

    def _claim_of(self, client: int, depends: list[int] | None, *, wait_ns: int | None = None) -> Claim:  # noqa: ARG002
        # Here the claims of steps wait at times, too: their messages take longer, so more can happen to them.
        return super()._claim_of(client, depends)


class Book:
    """The record of all calls, and what they are about; any number of threads may use it.

    Args:
        rng: Decides what is asked.
    """

    def __init__(self, rng: random.Random) -> None:
        self.history: list[Call] = []
        self.complaints: list[str] = []
        """What was wrong where no judge is needed to see it."""
        self.outcomes = Counter[str]()
        """How often clients were told what."""
        self._rng = rng
        self._lock = threading.Lock()
        self._load = Recognizable(
            rng, clients=IDS, now=time.time_ns, tick=TICK_NS, groups=6, size=SIZE, wait_ns=WAIT_NS
        )
        self._settled = 0
        self._highest = 0
        self._limit = 0
        self._started_ns = time.monotonic_ns()

    def allow(self, calls: int) -> None:
        """Let so many more calls be made."""
        self._limit = len(self.history) + calls

    @property
    def is_over(self) -> bool:
        """Whether no more calls are to be made for now."""
        return len(self.history) >= self._limit or bool(self.complaints)

    def next(self, name: str, client: int) -> tuple[Call, dict[str, Any]] | None:
        """What a client does next, and the options that it says so with; None if nothing."""
        with self._lock:
            if self.is_over:
                return None
            request = self._load.request(client)
            while self._is_ahead(request):
                request = self._load.request(client)
            options = {"retry": None} if self._rng.random() < GIVEN_UP else {}
            return self._begin(name, request), options

    def begin(self, name: str, request: Request) -> Call:
        """Note that somebody asks something now."""
        with self._lock:
            return self._begin(name, request)

    def end(self, call: Call, answer: Answer) -> None:
        """Note what came of a call; where that is unknown, it may have an effect later."""
        now = self.now_us()
        with self._lock:
            call.answer = answer
            self.outcomes["unknown" if answer is Silence.UNKNOWN else "refused" if call.error else "done"] += 1
            if answer is not Silence.UNKNOWN or not isinstance(call.request, Change):
                call.returned = now
            self._load.learn(call)
            tasks = [*call.made, *(answer if isinstance(call.request, Listing) and isinstance(answer, list) else ())]
            self._highest = max(self._highest, *(task.id for task in tasks if task), 0)

    def settle(self, fates: list[Fate]) -> None:
        """Nothing is under way any more: note what the network knows, and that the rest has no more effect.

        Args:
            fates: Of all requests that the network has delivered since the last time.
        """
        calls = {sign: call for call in self.history[self._settled :] if (sign := signature(call.request))}
        delivered = set[str]()
        for fate in fates:
            request = asked(fate)
            sign = signature(request) if request else None
            if request and sign in calls:
                delivered.add(sign)
                self._settle(calls[sign], request, fate)
        for sign, call in calls.items():
            if call.answer is Silence.UNKNOWN and sign not in delivered:
                call.answer = Silence.NOTHING
        now = self.now_us()
        for call in self.history[self._settled :]:
            call.returned = now if call.returned is None else call.returned
        self.history[self._settled :] = [part for call in self.history[self._settled :] for part in parts(call)]
        self._settled = len(self.history)

    def _settle(self, call: Call, request: Change, fate: Fate) -> None:
        """Hold what a client was told against what was done."""
        effect = told(request, fate.effect.body) if fate.effect else None
        if call.answer is Silence.UNKNOWN:
            if effect or not fate.is_open:
                call.answer = effect or Silence.NOTHING
                call.returned = self.now_us(fate.until_ns) if effect else None
        elif call.answer is Silence.NOTHING or call.error:
            if effect:
                self.complaints.append(f"{call} was not carried out, and then was: {effect}")
        elif call.claim and not call.claimed and (fate.is_open or (effect and effect.tasks)):
            # It found nothing, so there was no record of it when a copy of it came, later or waiting for longer. The
            # lease that the copy may have got is nobody's, and ends like that of a client that has died.
            copy = Call("a late copy", call.claim, self.now_us(fate.since_ns))
            if effect:
                copy.answer, copy.returned = Outcome(effect.tasks), self.now_us(fate.until_ns)
            self.history.append(copy)

    def now_us(self, now_ns: int | None = None) -> int:
        """Now, or another instant of the monotonic clock, as the history has it."""
        return ((time.monotonic_ns() if now_ns is None else now_ns) - self._started_ns) // 1000

    def _begin(self, name: str, request: Request) -> Call:
        self.history.append(Call(name, request, self.now_us()))
        return self.history[-1]

    def _is_ahead(self, request: Request) -> bool:
        """Whether a request names an id that nobody has been told of.

        It would be refused, and a copy of it that is late could be carried out once there is such a task. Whoever
        names only ids that it was told cannot be struck by that.
        """
        call = Call("", request, 0)
        named = [*call.consumed, *call.depends, *(request.ids if isinstance(request, Read) else ())]
        return any(not 0 < id <= self._highest and id != FAR for id in named)


def parts(call: Call) -> list[Call]:
    """A step that may have waited for its claim is two calls, for only its update is carried out at once."""
    step = call.request
    if not isinstance(step, Step) or not step.claim or not step.claim.wait:
        return [call]
    if call.answer is not Silence.UNKNOWN and not call.was_applied:
        return [call]
    depends = [*(step.update.depends or ()), *(step.claim.depends or ())]
    update = Call(call.client, replace(step.update, depends=depends), call.invoked, call.returned)
    claim = Call(call.client, replace(step.claim, depends=None), call.invoked, call.returned)
    if isinstance(call.answer, StepOutcome):
        update.answer, claim.answer = Outcome(call.answer.updated), Outcome(call.answer.tasks)
    return [update, claim]


# How a request is recognized on its way


def signature(request: Request) -> str | None:
    """What only this request has in it; None where it might be any."""
    call = Call("", request, 0)
    return f"lease {call.claim.duration}" if call.claim else next(iter(call.tags), None)


def asked(fate: Fate) -> Change | None:
    """The request that was delivered, if it was for a change."""
    body = fate.request.body
    match fate.request.path:
        case "/claim":
            return msgspec.json.decode(body, type=Claim)
        case "/update":
            return msgspec.json.decode(body, type=Update)
        case "/step":
            return Step.of(msgspec.json.decode(body, type=StepBody))
    return None


def told(request: Change, body: bytes) -> Outcome | StepOutcome:
    """What the server answered."""
    if isinstance(request, Step):
        return msgspec.json.decode(body, type=StepOutcome)
    return msgspec.json.decode(body, type=Outcome)


# How a request is said to the client, and what its results and errors are in the record


def said(request: Request) -> tuple[str, dict[str, Any]]:
    """The method of the client that makes a request, and its arguments."""
    if isinstance(request, Read):
        return "tasks", {"": request.ids}
    if isinstance(request, Listing):
        return "group", {"name": request.group, "owned": True}
    if isinstance(request, Update):
        return "update", _update(request)
    if isinstance(request, Claim):
        arguments = _claim(request) | {"depends": request.depends or ()}
        if request.limit > 1:
            return "claim_batch", arguments | {"limit": request.limit}
        return "claim", arguments
    arguments = _update(request.update)
    if claim := request.claim:
        arguments |= _claim(claim) | {"limit": claim.limit, "claim_depends": claim.depends or ()}
    return "step", arguments


def _claim(claim: Claim) -> dict[str, Any]:
    group = claim.names[0] if len(claim.names) == 1 else claim.names
    return {"group": group, "duration": claim.duration, "wait": claim.wait}


def _update(update: Update) -> dict[str, Any]:
    return {
        "adds": [_added(each) for each in update.adds or ()],
        "updates": [_changed(each) for each in update.updates or ()],
        "deletes": update.deletes or (),
        "depends": update.depends or (),
    }


def _added(add: TaskAdd) -> TaskInfo:
    return TaskInfo(add.group, add.data, add.timespec)


def _changed(change: TaskUpdate) -> TaskInfo:
    return TaskInfo("the group stays", change.data, change.timespec, id=change.id)


def heard(request: Request, result: Any) -> Answer:
    """What the result of the client's method is in the record."""
    if isinstance(result, Stepped):
        return StepOutcome(_tasks(result.claimed), _tasks(result.updated))
    if isinstance(request, Claim) and not isinstance(result, list):
        return Outcome(_tasks([result] if result else []))
    if isinstance(request, Change):
        return Outcome(_tasks(result))
    return [None if each is None else _task(each) for each in result]


def failed(request: Request, error: TaskStoreError) -> Answer:
    """What an error of the client's method is in the record."""
    if isinstance(error, TaskResponseError):
        names = ("changes", "deletes", "depends", "owned", "bugs")
        refusal = Refusal(**{name: list(getattr(error, name)) for name in names})
        return StepOutcome(error=refusal) if isinstance(request, Step) else Outcome(error=refusal)
    return Silence.UNKNOWN if error.applied is None else Silence.NOTHING


def _tasks(infos: Any) -> list[Task]:
    return [_task(info) for info in infos]


def _task(info: TaskInfo) -> Task:
    return Task(info.id, info.group, info.data, info.timespec, info.owner_id, info.attempts)


class Blocking:
    """Makes calls in threads of its own."""

    def __init__(self, book: Book, url: str, transport: Transport) -> None:
        self._book = book
        self._name = f"blocking {transport}"
        self._clients = {
            id: HTTPClient(url, client_id=id, timeout=TIMEOUT, retry=RETRY, transport=transport) for id in IDS
        }

    def work(self, number: int) -> None:
        """Make calls until there is nothing more to do."""
        client = IDS[number % len(IDS)]
        while asked := self._book.next(f"{self._name} {client}/{number}", client):
            call, options = asked
            self._book.end(call, self._answer(call.request, options))

    def _answer(self, request: Request, options: dict[str, Any]) -> Answer:
        name, arguments = said(request)
        positional = arguments.pop("", ())
        method: Callable[..., Any] = getattr(self._clients[client_of(request)], name)
        try:
            return heard(request, method(*positional, **arguments, **options))
        except TaskStoreError as error:
            return judged(self._book, request, error)

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            client.close()


class Async:
    """Makes calls in tasks of this event loop."""

    def __init__(self, book: Book, url: str, transport: Transport) -> None:
        self._book = book
        self._name = f"async {transport}"
        self._clients = {
            id: AsyncHTTPClient(url, client_id=id, timeout=TIMEOUT, retry=RETRY, transport=transport) for id in IDS
        }

    async def work(self, number: int) -> None:
        """Make calls until there is nothing more to do."""
        client = IDS[number % len(IDS)]
        while asked := self._book.next(f"{self._name} {client}/{number}", client):
            call, options = asked
            self._book.end(call, await self._answer(call.request, options))

    async def _answer(self, request: Request, options: dict[str, Any]) -> Answer:
        name, arguments = said(request)
        positional = arguments.pop("", ())
        method: Callable[..., Any] = getattr(self._clients[client_of(request)], name)
        try:
            return heard(request, await method(*positional, **arguments, **options))
        except TaskStoreError as error:
            return judged(self._book, request, error)

    async def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            await client.aclose()


def client_of(request: Request) -> int:
    """Under which client id a request is made; anybody may read."""
    if isinstance(request, Step):
        return request.update.client
    return request.client if isinstance(request, Update | Claim) else IDS[0]


def judged(book: Book, request: Request, error: TaskStoreError) -> Answer:
    """What an error is in the record; and if no network can be the cause of it, that is a complaint."""
    is_usual = isinstance(error, TaskResponseError | NotSentError | OutcomeUnknownError)
    if not is_usual and not (isinstance(error, HTTPError) and error.status == HTTPStatus.BAD_GATEWAY):
        book.complaints.append(f"{request} got {error!r}")
    return failed(request, error)
