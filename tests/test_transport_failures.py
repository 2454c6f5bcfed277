"""Everything that can go wrong between a client and its server, and the error that comes of it."""

import contextlib
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from conftest import Colour
from peer import SECRET, TASK, Connection, always, assert_no_secret, http, no_groups, once, peer

from taskstore import (
    AnswerError,
    HTTPClient,
    HTTPError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    TaskResponseError,
    UsageError,
    exchange,
    transport,
)

SOON = timedelta(milliseconds=400)


@pytest.fixture
def colour(colour: Colour) -> Colour:
    """With clients that repeat nothing: what they would do then is in test_retries.py."""
    colour.options["retry"] = None
    return colour


@pytest.fixture
def httpx_colour(httpx_colour: Colour) -> Colour:
    httpx_colour.options["retry"] = None
    return httpx_colour


def cause(error: BaseException) -> str:
    """The kind of error that led to this one; both senders have the same words for them."""
    return type(error.__cause__).__name__


def half_a_body_then_reset(connection: Connection) -> None:
    connection.send(http(b"[]")[:-1])
    connection.reset()


BROKEN: dict[str, Callable[[Connection], object]] = {
    "closed": lambda connection: None,
    "reset": Connection.reset,
    "half a head": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": lambda connection: connection.send(http(b"[]")[:-1]),
    "half a chunk": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[]"),
    "half a body, then reset": half_a_body_then_reset,
    "not HTTP": lambda connection: connection.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "endless head": lambda connection: connection.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
    "not gzip": lambda connection: connection.send(http(b"no", more="Content-Encoding: gzip\r\n")),
}
"""What a server does after it has read a request."""


class TestNotSent:
    def test_nobody_listens(self, colour: Colour) -> None:
        with socket.socket() as bound:  # and does not listen, so that nobody else can on this port
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            with pytest.raises(NotSentError) as caught:
                colour.client(f"http://ann:{SECRET}@{address}/pre").claim("map", 1)
        assert caught.value.applied is False
        assert str(caught.value).startswith(f"POST http://{address}/pre/claim: ConnectError: ")
        assert "Nothing was sent. Is a server running there (`taskstore serve`)" in str(caught.value)
        assert cause(caught.value) == "ConnectError"
        assert_no_secret(caught.value)

    def test_the_name_is_unknown(self, colour: Colour) -> None:
        with pytest.raises(NotSentError):
            colour.client("http://no-such-host.invalid").groups()

    def test_the_other_side_does_not_speak_tls(self, colour: Colour) -> None:
        refuse = http(b"", "400 Bad Request")
        with peer(lambda connection: connection.send(refuse)) as server, pytest.raises(NotSentError):
            colour.client(f"https://{server.address}").groups()

    def test_the_connection_takes_too_long(self, colour: Colour) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]  # until no more are let in
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            with pytest.raises(NotSentError) as caught:
                colour.client(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=SOON).groups()
            for client in waiting:
                client.close()
        assert cause(caught.value) == "ConnectTimeout"

    @pytest.mark.parametrize(
        "error",
        [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x"), httpx.ProxyError("x")],
        ids=repr,
    )
    def test_each_error_before_sending(self, httpx_colour: Colour, error: Exception) -> None:
        with pytest.raises(NotSentError) as caught:
            failing(httpx_colour, error).claim("map", 1)
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [httpx.UnsupportedProtocol("x"), httpx.InvalidURL("x")], ids=repr)
    def test_what_cannot_be_sent_is_a_wrong_call(self, httpx_colour: Colour, error: Exception) -> None:
        with pytest.raises(UsageError, match="Nothing was sent") as caught:
            failing(httpx_colour, error).claim("map", 1)
        assert caught.value.__cause__ is error

    def test_a_group_that_is_longer_than_any_address(self, colour: Colour) -> None:
        with pytest.raises(UsageError, match="URL too long") as caught:
            colour.client().group("x" * 100_000)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize("options", [{"auth": f"{SECRET}\n"}, {"headers": {"X-Key": f"{SECRET}\r\nX: y"}}])
    def test_a_header_with_a_line_break_is_not_sent_and_not_shown(self, colour: Colour, options: Any) -> None:
        with peer(no_groups) as server:
            with pytest.raises(UsageError, match="a character that HTTP does not allow") as caught:
                colour.client(server.url, **options).groups()
            assert server.requests == []
        assert_no_secret(caught.value)


class TestSent:
    @pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN.keys())
    def test_an_answer_that_breaks_off_leaves_it_open(
        self, colour: Colour, act: Callable[[Connection], object]
    ) -> None:
        with peer(once(act)) as server:
            with pytest.raises(
                OutcomeUnknownError, match=r"may have carried it out or not: look \(task, tasks"
            ) as change:
                colour.client(server.url).claim("map", 1)
            with pytest.raises(OutcomeUnknownError, match="It only reads, so repeat it") as read:
                colour.client(server.url).groups()
        assert str(change.value).startswith(f"POST {server.url}/claim: ")
        assert change.value.applied is None
        assert read.value.applied is False
        assert type(change.value.__cause__).__module__ in {"httpx", "taskstore.fast"}

    @pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", http(b"[]")[:-1]])
    def test_an_answer_that_does_not_come_in_time_leaves_it_open(self, colour: Colour, begin: bytes) -> None:
        def begin_and_stall(connection: Connection) -> None:
            connection.send(begin)
            connection.stall()

        with peer(once(begin_and_stall)) as server, pytest.raises(OutcomeUnknownError, match="ReadTimeout") as caught:
            colour.client(server.url, timeout=SOON).claim("map", 1)
        assert cause(caught.value) == "ReadTimeout"

    def test_a_request_that_is_not_taken_in_time_leaves_it_open(self, colour: Colour) -> None:
        left = threading.Event()

        def read_nothing(connection: Connection) -> None:
            left.wait()

        with peer(read_nothing) as server:
            with pytest.raises(OutcomeUnknownError) as caught:
                colour.client(server.url, timeout=SOON).update(adds=[TaskInfo("map", "x" * 20_000_000)])
            left.set()
        assert cause(caught.value) == "WriteTimeout"

    def test_an_answer_that_only_drips_does_not_hold_the_caller_for_ever(self, colour: Colour) -> None:
        def drip(connection: Connection) -> None:
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.socket.settimeout(0.005)
            with contextlib.suppress(OSError):
                while True:
                    connection.socket.sendall(b"1\r\n \r\n")
                    with contextlib.suppress(TimeoutError):
                        connection.socket.recv(1)

        with peer(drip) as server, pytest.raises(OutcomeUnknownError, match="has begun, but not ended in time"):
            colour.client(server.url, timeout=SOON).groups()

    @pytest.mark.parametrize(
        "error",
        [
            httpx.ReadTimeout("x"),
            httpx.WriteTimeout("x"),
            httpx.ReadError("x"),
            httpx.WriteError("x"),
            httpx.CloseError("x"),
            httpx.RemoteProtocolError("x"),
            httpx.DecodingError("x"),
            httpx.TooManyRedirects("x"),
            RuntimeError("Event loop is closed"),
        ],
        ids=repr,
    )
    def test_each_error_after_sending(self, httpx_colour: Colour, error: Exception) -> None:
        with pytest.raises(OutcomeUnknownError) as caught:
            failing(httpx_colour, error).claim("map", 1)
        assert caught.value.__cause__ is error
        assert caught.value.applied is None

    def test_a_limit_for_one_call_replaces_that_of_the_client(self, colour: Colour) -> None:
        with peer(once(Connection.stall)) as server:
            store = colour.client(server.url, timeout=None)
            calls: list[Callable[[Any], Any]] = [
                lambda store: store.groups(timeout=SOON),
                lambda store: store.group("map", timeout=SOON),
                lambda store: store.task(17, timeout=SOON),
                lambda store: store.tasks(17, timeout=SOON),
                lambda store: store.claim("map", 1, timeout=SOON),
                lambda store: store.update(timeout=SOON),
            ]
            errors = colour.errors(store, calls)
        assert [type(error) for error in errors] == [OutcomeUnknownError] * len(calls)
        assert all("ReadTimeout" in str(error) for error in errors)

    def test_a_connection_that_the_server_has_closed_is_not_used_again(self, colour: Colour) -> None:
        closed = threading.Event()

        def script(connection: Connection) -> None:
            connection.request()
            connection.send(http(b"[]"))
            connection.socket.shutdown(socket.SHUT_RDWR)
            closed.set()

        with peer(script) as server:
            store = colour.client(server.url)
            for _ in range(3):
                closed.clear()
                assert store.groups() == []
                assert closed.wait(10)
            assert len(server.connections) == 3

    def test_a_connection_is_given_up_before_a_server_would(self) -> None:
        assert transport._LIMITS.keepalive_expiry is not None
        assert transport._LIMITS.keepalive_expiry < 5


class TestWhatIsAnswered:
    @pytest.mark.parametrize("status", [201, 204, 301, 302, 303, 307, 308, 400, 404, 500, 502, 503, 520, 599])
    def test_any_other_status_is_an_http_error(self, colour: Colour, status: int) -> None:
        body = b"" if status == 204 else b"<html><body><h1>So it is</h1>"
        answer = http(body, f"{status} Whatever", "text/html", "Location: /elsewhere\r\n")
        with peer(always(answer)) as server:
            store = colour.client(server.url)
            with pytest.raises(HTTPError) as caught:
                store.claim("map", 1)
            assert len(server.requests) == 1
        assert caught.value.status == status
        assert caught.value.request == f"POST {server.url}/claim"
        assert "<" not in str(caught.value)

    def test_a_server_that_asks_for_a_token_says_so(self, colour: Colour) -> None:
        problem = b'{"type":"about:blank","title":"Unauthorized","status":401,"detail":"this store asks for a token"}'
        answer = http(problem, "401 Unauthorized", "application/problem+json", "WWW-Authenticate: Bearer\r\n")
        with peer(always(answer)) as server, pytest.raises(HTTPError) as caught:
            colour.client(server.url, auth=SECRET, headers={"X-Key": SECRET}).groups()
        assert str(caught.value) == f"status 401: GET {server.url}/groups: this store asks for a token"
        assert_no_secret(caught.value)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"<html>Sign in", "begins with 'Sign in'"),
            (b'{"tasks":{}}', "expected a list at"),
            (b"[{}]", "expected an object at"),
            (b'{"tasks":[{"id":17.0}],"error":null}', "the field 'group' is missing"),
            (b'{"tasks":[%b],"error":null}' % TASK.replace(b"17", b"17.5", 1), "not float"),
        ],
    )
    def test_what_does_not_fit_the_contract(self, colour: Colour, body: bytes, message: str) -> None:
        with peer(always(http(body))) as server, pytest.raises(AnswerError, match=message):
            colour.client(server.url).claim("map", 1)

    def test_a_refusal_is_raised(self, colour: Colour) -> None:
        body = b'{"tasks":[],"error":{"changes":[],"deletes":[17],"depends":[9],"owned":[],"bugs":[]}}'
        with peer(always(http(body))) as server, pytest.raises(TaskResponseError) as caught:
            colour.client(server.url).update(deletes=[17], depends=[9])
        assert (caught.value.deletes, caught.value.depends) == ((17,), (9,))

    def test_keys_in_another_letter_case_are_read(self, colour: Colour) -> None:
        with peer(always(http(b'{"Tasks":null,"Error":null}'))) as server:
            assert colour.client(server.url).claim("map", 1) is None

    def test_an_answer_without_end_is_given_up(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        def script(connection: Connection) -> None:
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(OSError):
                while True:
                    connection.socket.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")

        monkeypatch.setattr(exchange, "ANSWER_LIMIT", 1_000_000)
        with peer(script) as server, pytest.raises(AnswerError, match="more than 1,000,000 bytes") as caught:
            colour.client(server.url).claim("map", 1)
        assert caught.value.applied is None

    def test_a_long_answer_is_read(self, colour: Colour) -> None:
        with peer(always(http(b"[" + b",".join([TASK] * 20_000) + b"]"))) as server:
            assert len(colour.client(server.url).group("map")) == 20_000

    def test_the_connection_is_used_again(self, colour: Colour) -> None:
        answers = [http(b"no", "404 Not Found"), http(b"[5]"), http(b"[]")]

        def script(connection: Connection) -> None:
            for answer in answers:
                connection.request()
                connection.send(answer)
            connection.stall()

        with peer(script) as server:
            store = colour.client(server.url)
            with pytest.raises(HTTPError):
                store.groups()
            with pytest.raises(AnswerError):
                store.groups()
            assert store.groups() == []
            assert len(server.connections) == 1


def failing(httpx_colour: Colour, error: Exception) -> HTTPClient:
    """A client whose requests all fail in this way."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return httpx_colour.client(http_client=httpx_colour.httpx(transport=httpx.MockTransport(fail)))
