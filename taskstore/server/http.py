"""Request to engine to answer, over ASGI.

The laws of this room: it knows the contract's addresses, methods, statuses and limits, and nothing of rules or SQL.
Whatever a client sends gets an answer of the contract; a 500 is a fault of ours and is logged as one.

A raw ASGI application, because there are six addresses: measured, a router costs as much again as the rest of the
HTTP work of a request.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from json import dumps, loads
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from taskstore.errors import StoreError
from taskstore.model import INT64
from taskstore.server.engine import Engine
from taskstore.server.messages import (
    MAX_DATA,
    MAX_GROUP,
    Answer,
    Claim,
    Keyed,
    KeyMisused,
    Problem,
    Replayed,
    Step,
    StepBody,
    Task,
    TaskAdd,
    TaskUpdate,
    Update,
)
from taskstore.server.storage import PAGE

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Answering: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
_Place: TypeAlias = tuple[str, _Answering]
"""A method, and what answers a request with it."""
_Headers: TypeAlias = list[tuple[bytes, bytes]]
_Given: TypeAlias = Mapping[bytes, bytes]
"""The headers of a request."""
_Reading: TypeAlias = Callable[[bytes, _Given], tuple[Update | Claim | Step, bool]]
"""Makes of a body what it asks for, and whether the answer may have to wait."""
_R = TypeVar("_R", Update, Claim, StepBody)

MAX_BODY: Final = 16 << 20
"""The most bytes of a request's body."""
MAX_DRAINED: Final = 4 * MAX_BODY
"""The most bytes of a body that are read at all, so that who sent too much is told so."""
MAX_IDS: Final = 16_000
"""The most characters of the list of ids in a path."""
BODY_SECONDS: Final = 30.0
"""How long a client may take to send a body."""
STALL_SECONDS: Final = 30.0
"""How long a client may take to accept the next page of a listing, which holds up the store's housekeeping."""
STUCK_SECONDS: Final = 10.0
"""A server whose oldest commit has been under way for so long is not ready for new requests."""

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_HALF_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CLOSE: Final = (b"connection", b"close")
_RETRY: Final = (b"retry-after", b"1")
_OPEN: Final = (b"/healthz", b"/readyz")
_WELL: Final = b'{"status":"ok"}'
_NO_ID: Final = 0
_KEY: Final = re.compile(rb'[A-Za-z0-9_-]{16,64}|"[A-Za-z0-9_-]{16,64}"')
_REPLAYED: Final = (b"idempotency-replayed", b"true")
_NOT_REPLAYED: Final = (b"idempotency-replayed", b"false")
_FORM: Final = b"application/x-www-form-urlencoded"
_YES_NO: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_log = logging.getLogger("taskstore.server")
_access_log = logging.getLogger("taskstore.access")
_encode = msgspec.json.Encoder().encode
_decode_update = msgspec.json.Decoder(Update).decode
_decode_step = msgspec.json.Decoder(StepBody).decode
_decode_claim = msgspec.json.Decoder(Claim).decode


class _Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class _HungUp(Exception):
    """The client has gone, so there is nobody to answer."""


class App:
    """The ASGI application.

    Args:
        engine: Carries out the operations. The caller closes it, after the last request.
        token: If given, every request has to carry it as `Authorization: Bearer TOKEN`, except for health.
        access_log: Whether to log each request, as a line of JSON, to the logger `taskstore.access`.
        max_data: The most bytes, in UTF-8, of one task's data.
    """

    def __init__(
        self, engine: Engine, *, token: str | None = None, access_log: bool = False, max_data: int = MAX_DATA
    ) -> None:
        self._engine = engine
        self._authorization = None if token is None else b"Bearer " + token.encode()
        self._access_log = access_log
        self._max_data = max_data
        self._places: dict[bytes, _Place] = {
            b"/claim": ("POST", partial(self._operate, self._claim)),
            b"/update": ("POST", partial(self._operate, self._update)),
            b"/step": ("POST", partial(self._operate, self._step)),
            b"/stats": ("GET", self._stats),
            b"/groups": ("GET", self._groups),
            b"/group": ("GET", self._groups),
            b"/healthz": ("GET", self._healthz),
            b"/readyz": ("GET", self._readyz),
        }
        self._places_below: dict[bytes, _Place] = {
            b"/group": ("GET", self._group),
            b"/task": ("GET", self._task),
            b"/tasks": ("GET", self._tasks),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # A websocket is closed by the server when nobody accepts it.
        if self._access_log:
            send = _logged(scope, send)
        try:
            await self._place(scope)(scope, receive, send)
        except _Refused as refused:
            await _answer_problem(send, refused.status, refused.detail, *refused.headers)
        except _HungUp:
            pass
        except StoreError as error:
            await _answer_problem(send, 503, str(error), _RETRY)
        except Exception:  # noqa: BLE001 - the last line of defence: logged, and answered in the form of the contract.
            _log.exception("a fault of the server, at %s %s", scope["method"], scope["path"])
            await _answer_problem(send, 500, "a fault of the server; its log says more")

    def _place(self, scope: Scope) -> _Answering:
        """What answers at the address of a request, if it may be asked there in this way."""
        # The raw path: in the decoded one a group named a%2Fb cannot be told from an address.
        path: bytes = scope["raw_path"]
        place = self._places.get(path)
        if place is None:
            name, _, rest = path[1:].partition(b"/")
            place = self._places_below.get(b"/" + name) if rest else None
        if self._authorization is not None and path not in _OPEN:
            self._check_token(dict(scope["headers"]))
        if place is None:
            raise _Refused(404, "no such address; see openapi.yaml for those there are")
        method, answering = place
        if scope["method"] != method:
            detail = f"this address takes {method} only, not {scope['method']}"
            raise _Refused(405, detail, (b"allow", method.encode()))
        return answering

    def _check_token(self, headers: _Given) -> None:
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization or b""):
            detail = "this server asks for a token: send the header Authorization: Bearer TOKEN"
            raise _Refused(401, detail, (b"www-authenticate", b"Bearer"))

    async def _operate(self, read: _Reading, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        _check_origin(headers)
        body = await _body(headers, receive)
        request, waits = read(body, headers)
        key = _key(headers)
        answering = self._engine.apply(request if key is None else Keyed(request, key, _fingerprint(scope, body)))
        answer = await (_unless_disconnected(answering, receive) if waits else answering)
        if type(answer) is KeyMisused:
            raise _Refused(422, "this Idempotency-Key was used for another request; every call needs one of its own")
        if type(answer) is Replayed:
            await _answer(send, _encode(answer.outcome), _REPLAYED)
        elif key is None:
            await _answer(send, _encode(answer))
        else:
            await _answer(send, _encode(answer), _NOT_REPLAYED)

    def _claim(self, body: bytes, headers: _Given) -> tuple[Claim, bool]:
        claim = _read_request(body, headers, _decode_claim, "claim")
        return claim, claim.wait > 0

    def _update(self, body: bytes, headers: _Given) -> tuple[Update, bool]:
        update = _read_request(body, headers, _decode_update, "update")
        self._check_data(update)
        return update, False

    def _step(self, body: bytes, headers: _Given) -> tuple[Step, bool]:
        step = Step.of(_read_request(body, headers, _decode_step, "step"))
        self._check_data(step.update)
        return step, step.claim is not None and step.claim.wait > 0

    def _check_data(self, update: Update) -> None:
        lists: dict[str, Sequence[TaskAdd | TaskUpdate] | None] = {"adds": update.adds, "updates": update.updates}
        for name, changes in lists.items():
            for position, change in enumerate(changes or ()):
                # A character has at most four bytes, so short texts need not be encoded to be measured.
                if len(change.data) * 4 > self._max_data and len(change.data.encode()) > self._max_data:
                    raise _Refused(
                        413,
                        f"the data at $.{name}[{position}] is longer than {self._max_data} bytes; "
                        "keep large things elsewhere, and in the task where they are",
                    )

    async def _groups(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer(send, _encode(await self._engine.groups()))

    async def _group(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name, query = _below(scope), _query(scope)
        if len(name) > MAX_GROUP:
            raise _Refused(422, f"the name of a group has at most {MAX_GROUP} characters")
        limit, owned = _limit(query.get("limit", "0")), _owned(query.get("owned", "false"))
        async with aclosing(self._engine.group(name, limit=limit, owned=owned)) as pages:
            await _answer_pages(send, pages)

    async def _task(self, scope: Scope, _receive: Receive, send: Send) -> None:
        (task,) = await self._engine.tasks([_id(_below(scope))])
        await _answer(send, _encode(task))

    async def _tasks(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer(send, _encode(await self._engine.tasks(_ids(_below(scope)))))

    async def _stats(self, scope: Scope, _receive: Receive, send: Send) -> None:
        query = _query(scope)
        prefix = query.get("prefix", "")
        if len(prefix) > MAX_GROUP:
            raise _Refused(422, f"the name of a group, and so its beginning, has at most {MAX_GROUP} characters")
        await _answer(send, _encode(await self._engine.stats(prefix, _limit(query.get("limit", "0")))))

    async def _healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer(send, _WELL)

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        if self._engine.failed:
            raise _Refused(503, "a commit failed, and what the storage holds is unknown; this server stops", _RETRY)
        if self._engine.waiting_s >= STUCK_SECONDS:
            raise _Refused(503, f"a commit has been under way for {self._engine.waiting_s:.0f} s", _RETRY)
        await _answer(send, _WELL)


async def _unless_disconnected(answering: Coroutine[Any, Any, Answer], receive: Receive) -> Answer:
    """The answer; or, if the client hangs up before it is there, no answer and no claim."""
    # Thousands may wait here, so this is one more task for each, and not two.
    hanging_up, waiting, is_hung_up = asyncio.ensure_future(_disconnect(receive)), asyncio.current_task(), False

    def hang_up(_: object) -> None:
        nonlocal is_hung_up
        if waiting is not None and not hanging_up.cancelled() and not is_answered:
            is_hung_up = waiting.cancel()

    is_answered = False
    hanging_up.add_done_callback(hang_up)
    try:
        return await answering
    except asyncio.CancelledError:
        if is_hung_up:
            raise _HungUp from None
        raise
    finally:
        is_answered = True
        hanging_up.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_origin(headers: _Given) -> None:
    """Turn away what a browser sends for a page of another origin, which it does without asking the server first.

    Otherwise nearly any page that a developer looks at could change the store on their own machine. Browsers say so in
    Sec-Fetch-Site, older ones in Origin; programs send neither. A page that has its own name point to this machine
    (DNS rebinding) looks like one of ours: against that only a token helps.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is None and origin is None:
        return
    if site is None:
        _, scheme_ends, host = (origin or b"").partition(b"://")
        is_own = bool(scheme_ends) and host == headers.get(b"host")
    else:
        is_own = site in (b"same-origin", b"none")
    if not is_own:
        raise _Refused(403, "a browser sent this for a page of another origin, and such pages may not change anything")


def _key(headers: _Given) -> str | None:
    given = headers.get(b"idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise _Refused(422, "an Idempotency-Key has 16 to 64 letters, digits, - or _, bare or in double quotes")
    return given.decode().strip('"')


def _fingerprint(scope: Scope, body: bytes) -> bytes:
    return hashlib.blake2b(scope["raw_path"] + b"\n" + body, digest_size=16).digest()


def _logged(scope: Scope, send: Send) -> Send:
    """`send`, except that it writes a line of JSON once the answer is complete."""
    started = time.perf_counter()
    status, size = 0, 0

    async def send_and_log(message: MutableMapping[str, Any]) -> None:
        nonlocal status, size
        status = message.get("status", status)
        size += len(message.get("body", b""))
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            line = {
                "time": datetime.now(UTC).isoformat(),
                "client": "{}:{}".format(*scope["client"]) if scope.get("client") else None,
                "method": scope["method"],
                "path": scope["raw_path"].decode("ascii", "backslashreplace"),
                "status": status,
                "bytes": size,
                "ms": round((time.perf_counter() - started) * 1e3, 3),
            }
            _access_log.info(_encode(line).decode())

    return send_and_log


async def _body(headers: _Given, receive: Receive) -> bytes:
    length = int(headers.get(b"content-length", 0))
    if length > MAX_DRAINED:
        raise _too_large()
    message = await receive()
    if not message.get("more_body") and length <= MAX_BODY:
        body: bytes = message.get("body", b"")
        return body
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _long_body(message, receive)
    except TimeoutError:
        raise _Refused(400, f"the body did not arrive within {BODY_SECONDS:.0f} s", _CLOSE) from None


async def _long_body(message: MutableMapping[str, Any], receive: Receive) -> bytes:
    # A body that is too long is read on for a while and thrown away: a client that is still sending when the
    # connection is closed never sees the answer that tells it why.
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise _Refused(400, "the body ended early", _CLOSE)
        size += len(message.get("body", b""))
        if size <= MAX_BODY:
            chunks.append(message.get("body", b""))
        if size > MAX_DRAINED or (size > MAX_BODY and not message.get("more_body")):
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large() -> _Refused:
    return _Refused(413, f"a body has at most {MAX_BODY} bytes; make several requests of it", _CLOSE)


def _read_request(body: bytes, headers: _Given, decode: Callable[[bytes], _R], operation: str) -> _R:
    kind = headers.get(b"content-type")
    if kind is not None and kind != b"application/json":
        media = kind.split(b";", 1)[0].strip().lower()
        if media == _FORM:
            body = _form_field(body, operation)
        elif media and media != b"application/json":
            raise _Refused(
                415,
                "send application/json, or a form whose one field holds the JSON",
                (b"accept", b"application/json"),
            )
    if not body:
        raise _Refused(400, "there is no body")
    try:
        return _decoded(body, decode)
    except msgspec.ValidationError as error:
        raise _Refused(422, str(error).replace("`", "")) from None
    except UnicodeDecodeError as error:
        raise _Refused(400, f"the body is not UTF-8: {error.reason}") from None
    except msgspec.DecodeError as error:
        raise _Refused(400, f"the body is not JSON, or has half a surrogate pair: {error}") from None
    except RecursionError:
        raise _Refused(400, "the body is nested too deeply") from None


def _decoded(body: bytes, decode: Callable[[bytes], _R]) -> _R:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        # By JSON Schema 1.0 is an integer, which the decoder does not believe: try again with such numbers rewritten.
        try:
            plain = dumps(loads(body, parse_float=_integer_if_whole), allow_nan=False).encode()
        except (RecursionError, ValueError):
            raise error from None
        return decode(plain)


def _integer_if_whole(text: str) -> int | float:
    number = Decimal(text)
    # The bound on the exponent keeps 1e999999999 from becoming a number that fills the memory.
    return int(number) if number.adjusted() < 20 and number == number.to_integral_value() else float(text)


def _form_field(body: bytes, name: str) -> bytes:
    try:
        fields = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=10, errors="strict")
        return dict(fields)[name].encode()
    except (ValueError, KeyError):
        raise _Refused(
            400, f"a form has to have the field {name}; plain JSON needs Content-Type: application/json"
        ) from None


def _below(scope: Scope) -> str:
    """What stands after the first part of the path, decoded."""
    raw: bytes = scope["raw_path"].split(b"/", 2)[2]
    try:
        if _HALF_ESCAPE.search(raw):
            raise ValueError
        return unquote_to_bytes(raw).decode()
    except ValueError:
        raise _Refused(400, "the path is not percent-encoded UTF-8") from None


def _id(text: str) -> int:
    if (id := _whole(text)) is None or id not in INT64:
        raise _Refused(422, f"an id is an integer of 64 bits, not {text[:50]!r}")
    return id


def _ids(text: str) -> list[int]:
    ids = [_whole(part) for part in text.split(",")]
    if len(text) > MAX_IDS or None in ids:
        raise _Refused(
            422,
            f"ids are integers of 64 bits, separated by commas, in at most {MAX_IDS} characters; not {text[:50]!r}",
        )
    return [id if id in INT64 else _NO_ID for id in ids if id is not None]


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _query(scope: Scope) -> dict[str, str]:
    if not scope["query_string"]:
        return {}
    try:
        pairs = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise _Refused(400, "the query is not percent-encoded UTF-8") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise _Refused(422, "each parameter of the query may stand there only once")
    return query


def _limit(text: str) -> int:
    limit = _whole(text)
    if limit is None or not 0 <= limit < 2**31:
        raise _Refused(422, f"limit is an integer from 0 to 2147483647, not {text[:50]!r}")
    return limit


def _owned(text: str) -> bool:
    if text not in _YES_NO:
        raise _Refused(422, f"owned is one of {', '.join(_YES_NO)}, not {text[:50]!r}")
    return _YES_NO[text]


async def _answer(send: Send, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers: _Headers = [_JSON, (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_problem(send: Send, status: int, detail: str, *more: tuple[bytes, bytes]) -> None:
    body = _encode(Problem(HTTPStatus(status).phrase, status, detail))
    headers: _Headers = [_PROBLEM, (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_pages(send: Send, pages: AsyncIterator[list[Task]]) -> None:
    """Send a list that may be too long to be held, page by page; a short one in one piece."""
    page: list[Task] = await anext(pages, [])
    if len(page) < PAGE:
        await _answer(send, _encode(page))
        return
    await send({"type": "http.response.start", "status": 200, "headers": [_JSON]})
    before = b"["
    try:
        while page:
            body = before + _encode(page)[1:-1]
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            page, before = await anext(pages, []), b","
    except (TimeoutError, StoreError) as error:
        # The status is sent, so all that is left to tell the client is to break off: the server then disconnects.
        _log.warning("a listing was broken off: %s", error or "the client does not read it")
        return
    await send({"type": "http.response.body", "body": b"]"})
