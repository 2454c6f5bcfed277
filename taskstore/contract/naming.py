"""What a request names, groups and ids, and the same request with other names.

This is how the kit keeps what is generated inside its own groups, repeats a failure on fresh tasks, and writes it down
as commands that work again.

The law of this room: what fits the contract still fits it with other names, and what does not still does not.
"""

from collections.abc import Callable
from json import dumps, loads
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from taskstore.contract.connection import Request
from taskstore.contract.dialect import FORM

OPERATIONS: Final = ("update", "claim", "step")
"""The operations that have a body, each at the address of its name."""
KEY: Final = "idempotency-key"


def _same(value: Any) -> Any:
    return value


class Renaming(NamedTuple):
    """What becomes of what a request names. Each takes and gives whatever may stand there, fitting or not."""

    group: Callable[[Any], Any] = _same
    id: Callable[[Any], Any] = _same
    wait: Callable[[Any], Any] = _same
    """How long a claim waits."""
    key: Callable[[str], str] = _same
    """What makes a request one that was made before."""


def operation_of(request: Request) -> str:
    """The operation that a request asks for: the first part of its path."""
    return request.path.partition("?")[0].split("/")[1] if request.path.startswith("/") else ""


def renamed(request: Request, renaming: Renaming) -> Request:
    """The same request with other names."""
    headers = tuple((name, renaming.key(value) if name.lower() == KEY else value) for name, value in request.headers)
    request = request._replace(path=_renamed_path(request.path, renaming), headers=headers)
    if (content := content_of(request)) is None:
        return request
    new = _renamed_content(content, renaming)
    return request if new == content else with_content(request, new)  # What keeps its names keeps its spelling.


def content_of(request: Request) -> dict[str, Any] | None:
    """The JSON object that an update or a claim holds, be it plain or in a form; None for any other request."""
    if request.body is None:
        return None
    try:
        content = loads(_form(request)[_field(request)] if _is_form(request) else request.body)
    except (ValueError, KeyError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def with_content(request: Request, content: dict[str, Any]) -> Request:
    """The request with another object in the place where `content_of` found one."""
    body = dumps(content).encode()
    if _is_form(request):
        body = urlencode({**_form(request), _field(request): body.decode()}).encode()
    headers = tuple((name, value) for name, value in request.headers if name.lower() != "content-length")
    return request._replace(body=body, headers=headers)


def _is_form(request: Request) -> bool:
    return (request.header("content-type") or "").lower().startswith(FORM)


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((request.body or b"").decode("latin-1"), keep_blank_values=True))


def _field(request: Request) -> str:
    return operation_of(request)


def _renamed_content(content: dict[str, Any], renaming: Renaming) -> dict[str, Any]:
    renamed = dict(content)
    for field, rename in (("group", renaming.group), ("wait", renaming.wait)):
        if field in content:
            renamed[field] = rename(content[field])
    for field, rename in (("deletes", renaming.id), ("depends", renaming.id), ("groups", renaming.group)):
        if isinstance(content.get(field), list):
            renamed[field] = [rename(each) for each in content[field]]
    for field in ("adds", "updates"):
        if isinstance(content.get(field), list):
            renamed[field] = [_renamed_change(field, each, renaming) for each in content[field]]
    for part in ("update", "claim"):  # of a step
        if isinstance(content.get(part), dict):
            renamed[part] = _renamed_content(content[part], renaming)
    return renamed


def _renamed_change(field: str, change: Any, renaming: Renaming) -> Any:
    if not isinstance(change, dict):
        return change
    renamed = dict(change)
    if "group" in change:
        renamed["group"] = renaming.group(change["group"])
    if field == "updates" and "id" in change:  # The id of an add is ignored.
        renamed["id"] = renaming.id(change["id"])
    return renamed


def _renamed_path(path: str, renaming: Renaming) -> str:
    place, query = path.partition("?")[0], "".join(path.partition("?")[1:])
    _, kind, *rest = [*place.split("/", 2), ""]
    if not rest[0]:
        return path
    if kind == "group":
        return f"/group/{_renamed_name(rest[0], renaming.group)}{query}"
    if kind == "task":
        return f"/task/{_renamed_ids(rest[0], renaming.id)}{query}"
    if kind == "tasks":
        return f"/tasks/{','.join(_renamed_ids(part, renaming.id) for part in rest[0].split(','))}{query}"
    return path


def _renamed_name(raw: str, rename: Callable[[Any], Any]) -> str:
    """What is no name, because it cannot be decoded, is still none with a name in front of it."""
    try:
        name = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return quote(str(rename("x")), safe="") + raw
    new = str(rename(name))
    if new.endswith(name):  # What was spelled in a certain way stays so.
        return quote(new[: len(new) - len(name)], safe="") + raw
    return quote(new, safe="")


def _renamed_ids(text: str, rename: Callable[[Any], Any]) -> str:
    digits = text.removeprefix("-")
    return str(rename(int(text))) if digits.isascii() and digits.isdigit() and len(digits) < 20 else text
