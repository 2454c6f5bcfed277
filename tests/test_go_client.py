"""Each request that the published Go client was seen to make gets an answer that it can read.

tests/wire/go_client_requests.jsonl has them byte for byte. They are sent in order over a plain socket, to a server
whose first ids are 1, 2, 3, as those that the requests name.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from taskstore.testing import live_server

WIRE = Path(__file__).parent / "wire" / "go_client_requests.jsonl"
RECORDED = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]
INT32, INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
MINUTE = 60 * 10**9


class Answer(NamedTuple):
    request: str
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def answers() -> Iterator[list[Answer]]:
    """What a new server answers to each request, one after the other."""
    with live_server() as server:
        address = urlsplit(server.url)
        yield [_answer(record, address.hostname or "", address.port or 0) for record in RECORDED]


def _answer(record: dict[str, Any], host: str, port: int) -> Answer:
    headers = "".join(f"{name}: {value}\r\n" for name, value in record["headers"].items())
    message = f"{record['request']}\r\nHost: {host}:{port}\r\n{headers}\r\n{record['body']}"
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(message.encode())
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return Answer(record["request"], response.status, response.read())


# What Go's encoding/json does with an answer: keys in any letter case, unknown keys dropped, null is the zero value.


def decoded_task(value: Any) -> dict[str, Any]:
    fields = {"id": INT64, "group": str, "data": str, "duration": INT64, "ownerid": INT32}
    return _decoded(value, fields)


def decoded_response(value: Any) -> dict[str, Any]:
    response = _decoded(value, {"tasks": list, "error": dict})
    response["tasks"] = [decoded_task(task) for task in response.get("tasks") or ()]
    if response.get("error"):
        response["error"] = _decoded(
            response["error"], dict.fromkeys(("changes", "deletes", "depends", "owned", "bugs"), list)
        )
        ids = [id for name in ("changes", "deletes", "depends", "owned") for id in response["error"].get(name) or ()]
        assert all(id in INT64 for id in ids)
        assert not response["error"].get("bugs"), "Go cannot decode an error into an interface"
    return response


def _decoded(value: Any, fields: dict[str, Any]) -> dict[str, Any]:
    if value is None:
        return {}
    assert isinstance(value, dict)
    known = {name.lower(): each for name, each in value.items() if name.lower() in fields}
    for name, each in known.items():
        wanted = fields[name]
        fits = type(each) is int and each in wanted if isinstance(wanted, range) else isinstance(each, wanted)
        assert each is None or fits, f"{name} is {each!r}"
    return known


def read(answer: Answer) -> Any:
    """What the Go client reads from an answer of status 200."""
    method, path, _ = answer.request.split(" ")
    content = answer.json
    if method == "POST":
        return decoded_response(content)
    if path == "/group":
        assert all(isinstance(name, str) for name in content)
        return content
    if path.startswith("/task/"):
        return decoded_task(content)
    assert isinstance(content, list)
    return [decoded_task(task) for task in content]


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_the_go_client_can_read_the_answer(answers: list[Answer], number: int) -> None:
    answer = answers[number]
    if answer.status == 200:
        read(answer)
    else:
        assert answer.status in range(400, 500), answer


def test_the_answers_are_the_right_ones(answers: list[Answer]) -> None:
    """All but the last, which adds a task without a group."""
    groups, add, claim, refused, task, tasks, missing, all_, some, none, renew, delete, late, nothing = (
        read(answer) for answer in answers[:-1]
    )
    assert groups == []
    assert [(each["id"], each["group"], each["data"], each["ownerid"]) for each in add["tasks"]] == [
        (1, "map", "hello", 78),
        (2, "map", "später ☃", 78),
    ]
    assert add["tasks"][1]["duration"] - add["tasks"][0]["duration"] == MINUTE
    [claimed] = claim["tasks"]
    assert (claimed["id"], claimed["data"]) == (3, "hello")
    assert refused["error"]["depends"] == [987654321]
    assert (task, tasks, missing) == (claimed, [claimed, {}], {})
    assert [each["id"] for each in all_] == [3, 2]
    assert (some, none) == ([], [])
    [renewed] = renew["tasks"]
    assert (renewed["id"], renewed["group"], renewed["data"]) == (4, "map", "renewed")
    assert delete["error"]["deletes"] == late["error"]["deletes"] == [3]
    assert nothing == {"tasks": [], "error": None}
    assert answers[-1].status == 422
