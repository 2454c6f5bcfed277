"""The dialect of the original Go server: how a call is put to it, and what is plain in its answers.

That server (`service/taskserver` of `entrogo.com/taskstore`) wants a form whose one field holds the JSON; and where it
shows a task as it stores it, the time is called `at` and the data is base64. Its capital keys are taken by `wire`.

The laws of this room: it does no I/O; a call goes in and the same call comes out in other words, so that nobody else
has to know which dialect is spoken; and what that server would silently leave out is refused before anything is sent.
"""

import json
from base64 import b64decode
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote_plus

import attrs

from taskstore.errors import UsageError
from taskstore.wire import Call

T = TypeVar("T")

Dialect: TypeAlias = Literal["json", "go"]
"""How a server is spoken to: as the contract says, or as the original Go server wants it."""

LARGEST_FORM: Final = 10 * 2**20
"""The most that Go reads of a form, in bytes; of a longer one it sees nothing at all."""

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_UNKNOWN: Final = {"/step": "no step, so make an update and then a claim", "/stats": "no stats"}
_IGNORED: Final = {
    "groups": "claims from one group at a time",
    "limit": "claims one task at a time",
    "wait": "does not wait until there is something to claim",
}


def in_go(call: Call[T]) -> Call[T]:
    """The call, as the original Go server takes it.

    Raises:
        UsageError: It asks for something that this server does not know.
    """
    path = call.request["url"]
    if path in _UNKNOWN:
        raise UsageError(f"the original Go server (dialect='go') has {_UNKNOWN[path]}")
    request = {name: value for name, value in call.request.items() if name != "json"}
    if "json" in call.request:
        request |= {"headers": _FORM, "content": _form(path.removeprefix("/"), call.request["json"])}
    return attrs.evolve(call, request=request, read=lambda raw: call.read(_plain(raw)))


def _form(field: str, content: dict[str, Any]) -> bytes:
    for name, what in _IGNORED.items():
        if name in content:
            raise UsageError(f"the original Go server (dialect='go') {what}")
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    form = f"{field}={quote_plus(text)}".encode()
    if len(form) > LARGEST_FORM:
        raise UsageError(f"this makes a form of {len(form):,} bytes, and the original Go server reads {LARGEST_FORM:,}")
    return form


def _plain(raw: Any) -> Any:
    """The JSON of an answer, in which a task that is shown as it is stored is told as the contract has it."""
    match raw:
        case list():
            return [_plain(item) for item in raw]
        case {"at": at, "data": str() | None as data, **more}:
            return {**more, "duration": at, "data": b64decode(data or "", validate=True).decode()}
    return raw
