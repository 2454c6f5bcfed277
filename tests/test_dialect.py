"""Our client in the dialect of the original Go server, against the stand-in that is built from what was seen of it.

tests/interop/test_go.py has the same client on the real one.
"""

import json
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import Colour
from go_server import Server, go_server

from taskstore import AnswerError, HTTPClient, HTTPError, TaskInfo, TaskResponseError, UsageError, wire
from taskstore.dialect import LARGEST_FORM, in_go
from taskstore.wire import Answer

WIRE = Path(__file__).parent / "wire" / "go_server_answers.jsonl"
RECORDED = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def original() -> Iterator[Server]:
    with go_server() as server:
        yield server


@pytest.fixture
def client(colour: Colour, original: Server) -> HTTPClient:
    return colour.client(original.url, dialect="go")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - as the base class has it
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def exchanged(url: str, record: dict[str, Any]) -> tuple[int, str | None, Any]:
    """Status, type and content of the answer to a recorded request."""
    method, path = record["request"].split(" ")
    body, headers = record.get("body"), {"Content-Type": "application/json"}
    if "form" in record:
        body, headers = (
            urlencode(dict([record["form"].split("=", 1)])),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
    request = urllib.request.Request(url + path, body.encode() if body else None, headers, method=method)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=10) as answer:
            return told(answer.status, answer.headers["Content-Type"], answer.read().decode())
    except urllib.error.HTTPError as answer:
        with answer:
            return told(answer.code, answer.headers["Content-Type"], answer.read().decode())


def told(status: int, content_type: str | None, text: str) -> tuple[int, str | None, Any]:
    content = json.loads(text) if content_type == "application/json" else text
    for task in (content.get("Tasks") or ()) if isinstance(content, dict) else ():
        task["duration"] = task["duration"] > 0  # an instant, that differs from run to run
    return status, content_type, content


def test_the_stand_in_answers_what_the_original_was_seen_to_answer(original: Server) -> None:
    for record in RECORDED:
        seen = told(record["status"], record["content_type"], record["answer"])
        assert exchanged(original.url, record) == seen, record["request"]


def round_of_work(client: HTTPClient, other: HTTPClient) -> None:
    """All that can be done on an original Go server whose store is empty, by two clients of it."""
    adds = [TaskInfo("map", "später ☃ + & = % <b>"), TaskInfo("map", "later", MINUTE)]
    first, later = client.update(adds=adds)
    assert (first.group, first.data, first.owner_id) == ("map", adds[0].data, client.client_id)
    assert later.timespec - first.timespec == 60 * 10**9
    assert client.groups() == ["map"]
    task = client.claim("map", MINUTE, depends=[later])
    assert task is not None
    assert (task.id, task.data, task.owner_id) == (later.id + 1, first.data, client.client_id)
    assert client.claim("map", MINUTE) is None
    assert client.claim_batch("map", MINUTE, 1) == []
    [renewed] = client.update(updates=[task.replace(available_in=MINUTE)])
    assert (renewed.group, renewed.data) == ("map", first.data)
    with pytest.raises(TaskResponseError) as refused:
        other.update(updates=[renewed], deletes=[98], depends=[97])
    assert (refused.value.owned, refused.value.deletes, refused.value.depends) == ((renewed.id,), (98,), (97,))
    with pytest.raises(TaskResponseError) as refused:
        client.claim("none", MINUTE, depends=[99])
    assert refused.value.depends == (99,)
    with pytest.raises(TaskResponseError, match="the server does not say which") as refused:
        client.update()
    assert refused.value.has_bugs()
    [out] = client.update(deletes=[renewed], adds=[TaskInfo("out", task.data)])
    assert out.data == task.data
    assert sorted(client.groups()) == ["map", "out"]


def test_a_round_of_work(colour: Colour, original: Server) -> None:
    client = colour.client(original.url, dialect="go")
    round_of_work(client, colour.client(original.url, dialect="go", client_id=client.client_id - 1))
    assert not any("Idempotency-Key" in headers for headers, _ in original.posts)


UNKNOWN: dict[str, Callable[[HTTPClient], object]] = {
    "no step": lambda client: client.step(adds=[TaskInfo("g")]),
    "no stats": lambda client: client.stats(),
    "does not wait": lambda client: client.claim("g", MINUTE, wait=MINUTE),
    "one group": lambda client: client.claim(["g", "h"], MINUTE),
    "one task": lambda client: client.claim_batch("g", MINUTE, 2),
    "reads 10,485,760": lambda client: client.update(adds=[TaskInfo("g", "x" * LARGEST_FORM)]),
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_what_it_does_not_know_is_not_sent(client: HTTPClient, original: Server, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        UNKNOWN[why](client)
    assert original.posts == []


READS: dict[str, Callable[[HTTPClient], object]] = {
    "task": lambda client: client.task(1),
    "tasks": lambda client: client.tasks(1, 2),
    "group": lambda client: client.group("g"),
}
CHANGES: dict[str, Callable[[HTTPClient], object]] = {
    "claim": lambda client: client.claim("g", MINUTE),
    "update": lambda client: client.update(adds=[TaskInfo("g")]),
}


@pytest.mark.parametrize("dialect", ["json", "go"])
@pytest.mark.parametrize("read", READS)
def test_a_read_says_that_this_server_never_answers_it(
    colour: Colour, original: Server, dialect: str, read: str
) -> None:
    with pytest.raises(HTTPError, match="original Go server, which answers neither task nor tasks nor group") as error:
        READS[read](colour.client(original.url, dialect=dialect))
    assert (error.value.status, error.value.applied) == (400, False)


@pytest.mark.parametrize("change", CHANGES)
def test_who_needs_the_dialect_and_did_not_ask_is_told_so(colour: Colour, original: Server, change: str) -> None:
    with pytest.raises(HTTPError, match=re.escape("HTTPClient(url, dialect='go')")) as error:
        CHANGES[change](colour.client(original.url))
    assert error.value.applied is False


def test_there_is_no_third_dialect(colour: Colour) -> None:
    with pytest.raises(UsageError, match="has to be 'json' or 'go'"):
        colour.client(dialect="rust")


def answer(content: object) -> Answer:
    return Answer("GET /", 200, {"content-type": "application/json"}, json.dumps(content).encode())


AT = 1795488673716052434
STORED = {"id": 3, "ownerid": 7, "group": "g", "at": AT}


def test_a_task_shown_as_it_is_stored_is_read() -> None:
    """By a Go server whose reads somebody has mended: the time is `at`, and bytes are base64."""
    shown = STORED | {"data": b64encode("☃".encode()).decode()}
    task = TaskInfo("g", "☃", AT, 3, 7)
    assert in_go(wire.task(3)).result(answer(shown)) == task
    [call] = wire.tasks([3, 4])
    assert in_go(call).result(answer([shown, None])) == [task, None]
    assert in_go(wire.group("g", 0, owned=True)).result(answer([STORED | {"data": None}])) == [
        TaskInfo("g", "", AT, 3, 7)
    ]


@pytest.mark.parametrize("data", ["no base64!", "/w==", 17])
def test_data_that_is_no_text_does_not_fit(data: object) -> None:
    with pytest.raises(AnswerError):
        in_go(wire.task(3)).result(answer(STORED | {"data": data}))


def test_what_may_have_been_carried_out_is_not_repeated(colour: Colour, original: Server) -> None:
    """Without a key nobody could tell a repeated request from a second one."""
    client = colour.client(original.url, dialect="go")
    assert colour.sender(client).key(...) is None
