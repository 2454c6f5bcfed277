"""Requests as commands for a shell that can be pasted, and do the same once more.

The groups get a name that is new with each paste, and an id that an earlier answer gave is taken from that answer as
it comes now; so the commands work as often as one likes, on any server.

The law of this room: everything that goes into a command is quoted; a token is never written down.
"""

import re
from collections.abc import Sequence
from shlex import quote
from typing import Final

from taskstore.contract.connection import Request
from taskstore.contract.naming import Renaming, renamed
from taskstore.contract.store import Exchange, Pause, Step, ids_in

LONGEST: Final = 4000
"""How many characters of a body are given as an argument."""
ANSWER: Final = 400
"""How many characters of an answer are shown."""
_ID: Final = (
    'id() { grep -oiE \'"id" *: *[0-9]+\' <<< "$1" | grep -oE \'[0-9]+\' | sed -n "$2p"; }  # the n-th id in an answer'
)
_UNPRINTABLE: Final = re.compile(r"[^\n -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPEATED: Final = re.compile(r"([^']{1,40}?)\1{99,}")
_MARK: Final = 7_700_000_000_000_000_000
"""Ids from here on stand for those that an answer of the same script will give."""


def script(url: str, common: str, steps: Sequence[Step], message: str) -> str:
    """The commands that do `steps` again.

    Args:
        url: The server's.
        common: How the names of the groups begin that are to be new with each paste.
        steps: What was done.
        message: What is wrong with the last answer.
    """
    lines = [f"U={quote(url)}"]
    if common:
        lines.append("G=pasted-$RANDOM$RANDOM-")
    origins: dict[int, tuple[int, int]] = {}
    body: list[str] = []
    for number, step in enumerate(steps, 1):
        if isinstance(step, Pause):
            body.append(f"sleep {step.seconds:.2f}")
            continue
        command = _command(step.request, common, origins)
        if step.hung_up:
            command += f" --max-time {step.received - step.sent:.2f}"
        is_used = step.request.method == "POST" and _is_used(step, steps[number:])
        if is_used:
            origins.update((id, (number, position)) for position, id in enumerate(ids_in(step.answer), 1))
            command = f'A{number}=$({command}); echo "$A{number}"'
        body.append(f"{command}{' &' if step.beside and not is_used else ''}")
        body.append(f"# {_answered(step)}")
        if step.beside and not _is_beside(steps[number : number + 1]):
            body.append("wait")
    if origins:
        lines.append(_ID)
    return "\n".join([*lines, *body, *(f"# {line}" for line in f"WRONG: {shown(message)}".splitlines())])


def _is_beside(steps: Sequence[Step]) -> bool:
    return any(isinstance(step, Exchange) and step.beside for step in steps)


def shown(text: str) -> str:
    """A text for a terminal or a file, with what cannot be printed written out, on one line if it was on one."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "replace").decode(), text)


def _command(request: Request, common: str, origins: dict[int, tuple[int, int]]) -> str:
    marks: dict[str, str] = {}

    def mark(id: object) -> object:
        if not isinstance(id, int) or id not in origins:
            return id
        number, position = origins[id]
        marks[str(_MARK + len(marks))] = f'"$(id "$A{number}" {position})"'
        return int(list(marks)[-1])

    request = renamed(request, Renaming(id=mark))
    command = f'curl -sS{_options(request)} "$U"{_quoted(request.path)}{_body(request.body)}'
    for id, reference in marks.items():
        command = command.replace(id, f"'{reference}'")
    return command.replace(common, "'\"$G\"'") if common else command


def _options(request: Request) -> str:
    implied = "GET" if request.body is None else "POST"
    options = {implied: "", "HEAD": " --head"}.get(request.method, f" -X {request.method}")
    if "/." in request.path:
        options += " --path-as-is"
    headers = [f" -H {_quoted(f'{name}: {value}' if value else f'{name};')}" for name, value in request.headers]
    if request.body is not None and request.header("content-type") is None:
        headers.append(" -H 'Content-Type:'")  # curl would say that it is a form
    return options + "".join(headers)


def _body(body: bytes | None) -> str:
    if body is None:
        return ""
    if not (body.isascii() and body.decode("ascii").isprintable()):
        octal = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"\\'%" else f"\\{byte:03o}" for byte in body)
        return f" --data-binary @- < <(printf '{octal}')"
    text = _quoted(body.decode("ascii"))
    if len(text) < LONGEST:
        return f" --data-raw {text}"
    # The kernel bounds an argument; what is read from a file may be longer.
    return f" --data-binary @- <<< {_REPEATED.sub(_repetition, text)}"


def _repetition(match: re.Match[str]) -> str:
    return f"'\"$(for _ in {{1..{len(match[0]) // len(match[1])}}}; do printf %s '{match[1]}'; done)\"'"


def _quoted(text: str) -> str:
    """In single quotes, whatever it is, since what is put in later closes them and opens them again."""
    return "'" + shown(text).replace("'", "'\\''") + "'"


def _answered(exchange: Exchange) -> str:
    if exchange.answer is None:
        return "hung up" if exchange.hung_up else "no answer"
    text = shown(exchange.answer.text.replace("\n", " "))
    return f"{exchange.answer.status} {text[:ANSWER]}{' ...' if len(text) > ANSWER else ''}"


def _is_used(step: Exchange, later: Sequence[Step]) -> bool:
    """Whether one of the later requests names an id that the answer gave."""
    made = set(ids_in(step.answer))
    found: list[object] = []

    def note(name: object) -> object:
        found.append(name)
        return name

    for each in later:
        if isinstance(each, Exchange):
            renamed(each.request, Renaming(id=note))
    return any(isinstance(id, int) and id in made for id in found)
