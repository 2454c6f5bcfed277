"""The contract's addresses, statuses, dialects and limits, byte for byte, against a live server.

Requests are built by hand (http.client sends what it is given), so nothing on the client's side can mend or hide them.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from taskstore.server.http import MAX_BODY
from taskstore.server.messages import MAX_DATA, MAX_GROUP, MAX_ITEMS
from taskstore.server.storage import PAGE
from taskstore.testing import LiveServer, live_server

SECOND = 10**9
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveServer]:
    """One server for all tests that work in groups of their own."""
    with live_server() as server:
        yield server


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(server: LiveServer, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def post(server: LiveServer, path: str, content: object, **headers: str) -> Answer:
    return send(server, "POST", path, json.dumps(content).encode(), **headers)


def update(server: LiveServer, **content: object) -> Any:
    answer = post(server, "/update", {"clientid": 1000, **content})
    assert answer.status == 200, answer.body
    return answer.json


def assert_problem(answer: Answer, status: int, *, says: str = "") -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "detail"}
    assert answer.json["status"] == status
    assert says in answer.json["detail"]


ADD = {"clientid": 1000, "adds": [{"group": "dialects", "data": "x"}]}


@pytest.mark.parametrize("content_type", [None, "", JSON, "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_understood_whatever_the_content_type_says_of_it(shared: LiveServer, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    answer = post(shared, "/update", ADD, **headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == JSON
    assert [task["data"] for task in answer.json["tasks"]] == ["x"]


def test_the_form_of_the_original_server_is_understood(shared: LiveServer) -> None:
    form = urlencode({"update": json.dumps({"clientid": 1, "adds": [{"group": "form", "data": "é\x00y+&="}]})})
    answer = send(shared, "POST", "/update", form.encode(), Content_Type=FORM)
    assert answer.json["tasks"][0]["data"] == "é\x00y+&="
    form = urlencode({"claim": json.dumps({"clientid": 1, "group": "form", "duration": SECOND})})
    assert len(send(shared, "POST", "/claim", form.encode(), Content_Type=FORM).json["tasks"]) == 1


@pytest.mark.parametrize("body", [b"", b"claim={}", b"update", b"update=%ff", b"update=\xff", b"&".join([b"a=b"] * 99)])
def test_a_form_without_its_field_is_refused(shared: LiveServer, body: bytes) -> None:
    assert_problem(send(shared, "POST", "/update", body, Content_Type=FORM), 400)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "x"])
def test_other_content_types_are_refused(shared: LiveServer, content_type: str) -> None:
    assert_problem(post(shared, "/update", ADD, Content_Type=content_type), 415, says="application/json")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/update", "POST"), ("PUT", "/claim", "POST"), ("DELETE", "/task/1", "GET"), ("POST", "/groups", "GET")]
    + [(method, "/group/x", "GET") for method in ("HEAD", "OPTIONS", "TRACE", "PATCH")],
)  # fmt: skip
def test_another_method_is_answered_with_the_one_that_is_allowed(
    shared: LiveServer, method: str, path: str, allow: str
) -> None:
    answer = send(shared, method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    "path",
    ["/", "/x", "/update/", "/update/x", "/task", "/task/", "/tasks", "/tasks/", "/group/", "//groups", "/claim/1"]
)  # fmt: skip
def test_other_addresses_are_not_found(shared: LiveServer, path: str) -> None:
    assert_problem(send(shared, "POST", path), 404)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/task/abc", 422),
        ("/task/1.0", 422),
        ("/task/%20", 422),
        ("/task/9223372036854775808", 422),
        ("/task/1/2", 422),
        ("/task/%C2%B2", 422),
        ("/tasks/1,", 422),
        ("/tasks/,", 422),
        ("/tasks/1,x", 422),
        (f"/tasks/{'1,' * 8000}1", 422),
        ("/task/%zz", 400),
        ("/task/%ff", 400),
        ("/group/%", 400),
        ("/group/%ed%a0%80", 400),
        (f"/group/{'x' * (MAX_GROUP + 1)}", 422),
        ("/group/x?limit=-1", 422),
        ("/group/x?limit=1.5", 422),
        ("/group/x?limit=", 422),
        ("/group/x?limit=2147483648", 422),
        ("/group/x?limit=1&limit=2", 422),
        ("/group/x?owned=maybe", 422),
        ("/group/x?owned=", 422),
        ("/group/x?owned=%ff", 400),
    ],
)
def test_what_cannot_be_read_from_an_address_is_refused(shared: LiveServer, path: str, status: int) -> None:
    assert_problem(send(shared, "GET", path), status)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "no body"),
        (b"{", 400, "not JSON"),
        (b'{"clientid":1} x', 400, "not JSON"),
        (b'{"clientid":NaN}', 400, "not JSON"),
        (b'{"clientid":1,"adds":[{"group":"\xff"}]}', 400, "UTF-8"),
        (b'{"clientid":1,"adds":[{"group":"\\ud800"}]}', 400, "surrogate"),
        (b'{"clientid":1.0,"adds":[{"group":"\\ud800"}]}', 400, "surrogate"),
        (b'{"clientid":1,"x":' + b"[" * 100_000, 400, "deep"),
        (b"[]", 422, "object"),
        (b"null", 422, "object"),
        (b"{}", 422, "clientid"),
        (b'{"clientid":null}', 422, "clientid"),
        (b'{"clientid":"1"}', 422, "clientid"),
        (b'{"clientid":true}', 422, "clientid"),
        (b'{"clientid":1.5}', 422, "clientid"),
        (b'{"clientid":1e400}', 422, "clientid"),
        (b'{"clientid":1e999999999}', 422, "clientid"),
        (b'{"clientid":' + b"9" * 5000 + b"}", 422, "clientid"),
        (b'{"clientid":2147483648}', 422, "clientid"),
        (b'{"clientid":1,"adds":{}}', 422, "adds"),
        (b'{"clientid":1,"adds":[null]}', 422, "adds[0]"),
        (b'{"clientid":1,"adds":[{}]}', 422, "group"),
        (b'{"clientid":1,"adds":[{"group":""}]}', 422, "$.adds[0].group"),
        (b'{"clientid":1,"adds":[{"group":"g","data":null}]}', 422, "data"),
        (b'{"clientid":1,"adds":[{"group":"g","duration":9223372036854775808}]}', 422, "duration"),
        (b'{"clientid":1,"adds":[{"group":"g","duration":-3153600000000000001}]}', 422, "duration"),
        (b'{"clientid":1,"adds":[{"group":"%s"}]}' % (b"x" * (MAX_GROUP + 1)), 422, "group"),
        (b'{"clientid":1,"deletes":[1.5]}', 422, "deletes[0]"),
        (b'{"clientid":1,"deletes":[%s]}' % b",".join([b"1"] * (MAX_ITEMS + 1)), 422, "deletes"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_the_place(
    shared: LiveServer, body: bytes, status: int, says: str
) -> None:
    assert_problem(send(shared, "POST", "/update", body), status, says=says)


def test_a_claim_needs_a_group_a_client_and_a_duration(shared: LiveServer) -> None:
    whole = {"clientid": 1, "group": "g", "duration": 0}
    assert post(shared, "/claim", whole).status == 200
    for field in whole:
        assert_problem(post(shared, "/claim", {**whole, field: None}), 422, says=field)
    assert_problem(post(shared, "/claim", {**whole, "duration": -1}), 422, says="duration")


def test_whole_numbers_may_be_written_with_a_fraction_or_an_exponent(shared: LiveServer) -> None:
    body = b'{"clientid":1e3,"adds":[{"group":"whole","duration":-6.0e10}],"deletes":[]}'
    [task] = send(shared, "POST", "/update", body).json["tasks"]
    assert (task["ownerid"], task["duration"]) == (1000, shared.clock() + 60 * SECOND)


def test_unknown_fields_are_ignored_and_null_lists_are_empty(shared: LiveServer) -> None:
    nothing: dict[str, object] = {"tasks": [], "error": None}
    assert update(shared, adds=None, updates=None, deletes=None, depends=None, more={"x": 1}) == nothing
    assert post(shared, "/claim", {"clientid": 1, "group": "no", "duration": 1, "depends": None}).json == nothing


def test_data_and_bodies_have_bounds(shared: LiveServer) -> None:
    largest = "é" * (MAX_DATA // 2)
    assert update(shared, adds=[{"group": "large", "data": largest}])["tasks"][0]["data"] == largest
    over = {"clientid": 1, "adds": [{"group": "large"}, {"group": "large", "data": largest + "x"}]}
    assert_problem(post(shared, "/update", over), 413, says="$.adds[1]")
    assert len(send(shared, "GET", "/group/large").json) == 1
    assert_problem(send(shared, "POST", "/update", b" " * (MAX_BODY + 1)), 413)


def test_a_chunked_body_is_bounded_too(shared: LiveServer) -> None:
    connection = http.client.HTTPConnection(urlsplit(shared.url).netloc, timeout=30)
    connection.putrequest("POST", "/update")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    for _ in range(2 + MAX_BODY // (1 << 20)):
        connection.send(chunk)
    connection.send(b"0\r\n\r\n")
    assert_problem(Answer(connection.getresponse()), 413)
    connection.close()


GROUPS = [
    ".",
    "..",
    "a/b",
    "/",
    "//",
    "%2F",
    "%",
    "?",
    "#",
    "a b",
    "a+b",
    "\n",
    "\r\n",
    "\x00",
    "😀",
    "\u00e9",
    "e\u0301",
    "null",
]


@pytest.mark.parametrize("name", [*GROUPS, "x" * MAX_GROUP, "😀" * MAX_GROUP])
def test_every_name_can_be_a_group(server: LiveServer, name: str) -> None:
    [task] = update(server, adds=[{"group": name, "data": name}])["tasks"]
    address = "/group/" + quote(name, safe="").replace(".", "%2E")
    assert send(server, "GET", address).json == [task]
    assert send(server, "GET", "/groups").json == send(server, "GET", "/group").json == [name]
    [claimed] = post(server, "/claim", {"clientid": 5, "group": name, "duration": 1}).json["tasks"]
    assert (claimed["group"], claimed["data"]) == (name, name)


def test_a_name_that_was_not_escaped_is_understood_as_far_as_it_can_be(shared: LiveServer) -> None:
    [task] = update(shared, adds=[{"group": "not/escaped:at=all"}])["tasks"]
    assert send(shared, "GET", "/group/not/escaped:at=all").json == [task]


@pytest.mark.parametrize("yes", ["true", "1", "yes"])
@pytest.mark.parametrize("no", ["false", "0", "no"])
def test_owned_takes_yes_and_no_in_three_spellings(server: LiveServer, yes: str, no: str) -> None:
    [free, delayed] = update(server, adds=[{"group": "g"}, {"group": "g", "duration": -SECOND}])["tasks"]
    assert send(server, "GET", f"/group/g?owned={yes}").json == [free, delayed]
    assert send(server, "GET", f"/group/g?owned={no}").json == send(server, "GET", "/group/g").json == [free]
    assert send(server, "GET", f"/group/g?limit=1&owned={yes}&unknown=1").json == [free]


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_listing_of_any_length_is_one_json_array(server: LiveServer, size: int) -> None:
    tasks = update(server, adds=[{"group": "g", "data": str(n)} for n in range(size)])["tasks"]
    assert send(server, "GET", "/group/g").json == tasks


def test_ids_beyond_64_bits_in_a_list_are_ids_that_no_task_has(shared: LiveServer) -> None:
    [task] = update(shared, adds=[{"group": "ids"}])["tasks"]
    answer = send(shared, "GET", f"/tasks/{task['id']},9999999999999999999,-5,0,{task['id']}")
    assert answer.json == [task, None, None, None, task]


def test_a_token_is_asked_for_before_anything_else() -> None:
    with live_server(token="s3cret") as server:
        for wrong in ("", "Bearer other", "Basic s3cret"):
            answer = send(server, "GET", "/groups", Authorization=wrong)
            assert_problem(answer, 401, says="Authorization")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert send(server, "GET", "/groups", Authorization="Bearer s3cret").status == 200


@pytest.mark.parametrize(
    "foreign",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://tasks.example"},
        {"Host": "tasks.example", "Origin": "http://evil.example"},
        {"Host": "tasks.example", "Origin": "http://tasks.example:8000"},
        {"Host": "tasks.example", "Origin": "null"},
        {"Host": "", "Origin": "null"},
    ],
)
@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_a_page_of_another_origin_changes_nothing(
    shared: LiveServer, foreign: dict[str, str], content_type: str
) -> None:
    body = urlencode({"update": json.dumps(ADD)}).encode() if content_type == FORM else json.dumps(ADD).encode()
    before = send(shared, "GET", "/group/dialects").json
    assert_problem(send(shared, "POST", "/update", body, Content_Type=content_type, **foreign), 403, says="origin")
    assert send(shared, "GET", "/group/dialects").json == before


@pytest.mark.parametrize(
    "own",
    [
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://tasks.example"},
        {"Sec_Fetch_Site": "none"},
        {"Host": "tasks.example", "Origin": "https://tasks.example"},
    ],
)
def test_a_page_of_the_same_origin_and_what_is_no_page_may(shared: LiveServer, own: dict[str, str]) -> None:
    assert post(shared, "/claim", {"clientid": 1, "group": "own", "duration": 1}, **own).status == 200


def test_content_length_together_with_transfer_encoding_is_refused(shared: LiveServer) -> None:
    """Two ideas of where a request ends are how requests are smuggled past a proxy (RFC 9112, 6.1)."""
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=30) as connection:
        connection.sendall(
            b"POST /claim HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"],
)
def test_what_is_not_http_is_refused(shared: LiveServer, garbage: bytes) -> None:
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=30) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(1000).startswith(b"HTTP/1.1 5")
    assert send(shared, "GET", "/groups").status == 200


def test_health_needs_no_token() -> None:
    with live_server(token="s3cret") as server:
        for path in ("/healthz", "/readyz"):
            assert send(server, "GET", path).json == {"status": "ok"}
            assert send(server, "POST", path).status == 405


@pytest.mark.parametrize("head", [b"", b"GET /groups HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_arrive_in_time_ends_the_connection(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskstore.server.connection.HEAD_SECONDS", 0.05)
    with live_server() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=30) as connection:
            connection.sendall(head)
            with suppress(ConnectionResetError):
                assert connection.recv(1000) == b""


def test_a_body_that_does_not_arrive_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskstore.server.http.BODY_SECONDS", 0.05)
    with live_server() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=30) as connection:
            connection.sendall(b"POST /update HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            answer = connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"did not arrive" in answer + connection.recv(1000)
