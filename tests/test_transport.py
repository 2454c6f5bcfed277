"""Between a client and its server: what is sent, and what comes of everything that can go wrong on the way.

The server here, `Peer`, does on each connection what the test says, byte by byte, and has kept all that it was sent.
"""

import asyncio
import base64
import contextlib
import logging
import re
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from conftest import Colour, in_a_fork

from taskstore import (
    ID,
    AnswerError,
    AsyncHTTPClient,
    HTTPClient,
    HTTPError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    TaskResponseError,
    TaskStoreError,
    UsageError,
    __version__,
    transport,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SOON = timedelta(milliseconds=50)
TASK = b'{"id":17,"group":"map","data":"hello","duration":1795488673716052434,"ownerid":734512}'
SECRET = "s3cr3t"
NAMES = [
    "map",
    ".",
    "..",
    "...",
    "a/b",
    "a/../b",
    "/",
    "%2F",
    "%2E",
    "?",
    "#",
    "+",
    "🦊",
    "é",
    "~",
    "\\",
    " ",
    "\n",
    "\0",
]


class Connection:
    """The server's side of one connection."""

    def __init__(self, peer: "Peer", sock: socket.socket) -> None:
        self.peer, self.socket, self.received = peer, sock, b""

    def request(self) -> bytes:
        """The next request, which is kept; or nothing, if the client has left."""
        while (end := self.received.find(b"\r\n\r\n") + 4) < 4:
            if not self._receive():
                return b""
        length = re.search(rb"content-length: (\d+)", self.received[:end], re.IGNORECASE)
        end += int(length[1]) if length else 0
        while len(self.received) < end:
            if not self._receive():
                return b""
        request, self.received = self.received[:end], self.received[end:]
        self.peer.requests.append((self, request))
        return request

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def stall(self) -> None:
        """Do nothing until the client leaves."""
        while self._receive():
            pass

    def reset(self) -> None:
        """Break the connection, as a crash does, and not by closing it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(65_536)
        except OSError:
            data = b""
        self.received += data
        return data


class Peer:
    """A server on a free port that does on each connection what `script` says."""

    def __init__(self, script: Callable[[Connection], None]) -> None:
        self.script = script
        self.requests: list[tuple[Connection, bytes]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.threads = [threading.Thread(target=self._listen)]
        self.connections: list[Connection] = []
        self.threads[0].start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(Connection(self, self.listener.accept()[0]))
                self.threads.append(threading.Thread(target=self._serve, args=self.connections[-1:]))
                self.threads[-1].start()

    def _serve(self, connection: Connection) -> None:
        with connection.socket:
            self.script(connection)

    def close(self) -> None:
        # A close alone would leave the thread in accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()

    def targets(self) -> list[str]:
        """The paths and queries that were asked for, as they were sent."""
        return [request.split(b" ")[1].decode() for _, request in self.requests]

    def headers(self) -> dict[str, str]:
        """The headers of the last request."""
        lines = self.requests[-1][1].decode().split("\r\n\r\n")[0].split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ") for line in lines)}


@contextmanager
def peer(script: Callable[[Connection], None]) -> Iterator[Peer]:
    peer = Peer(script)
    try:
        yield peer
    finally:
        peer.close()


def http(body: bytes, status: str = "200 OK", content_type: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def always(answer: bytes) -> Callable[[Connection], None]:
    """Give this answer to every request."""

    def script(connection: Connection) -> None:
        while connection.request():
            connection.send(answer)

    return script


def once(act: Callable[[Connection], object]) -> Callable[[Connection], None]:
    """Read a request, do this, and close."""

    def script(connection: Connection) -> None:
        connection.request()
        act(connection)

    return script


def nothing_to_claim(connection: Connection) -> None:
    always(http(b'{"tasks":[],"error":null}'))(connection)


def no_groups(connection: Connection) -> None:
    always(http(b"[]"))(connection)


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


class TestWhatIsSent:
    def test_a_read_is_a_get_without_a_body(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            assert colour.client(server.url).groups() == []
            assert server.requests[0][1].startswith(b"GET /groups HTTP/1.1\r\n")
            assert server.requests[0][1].endswith(b"\r\n\r\n")
            assert "content-length" not in server.headers()

    def test_a_change_is_a_post_of_json_in_utf8(self, colour: Colour) -> None:
        with peer(always(http(b'{"tasks":[%b],"error":null}' % TASK))) as server:
            colour.client(server.url, client_id=5).update(adds=[TaskInfo("🦊", 'später "☃"\n\0')])
            head, body = server.requests[0][1].split(b"\r\n\r\n")
            assert head.startswith(b"POST /update HTTP/1.1\r\n")
            assert server.headers()["content-type"] == "application/json"
            assert body.decode() == (
                '{"clientid":5,"adds":[{"group":"🦊","data":"später \\"☃\\"\\n\\u0000","duration":0}],'
                '"updates":[],"deletes":[],"depends":[]}'
            )

    @pytest.mark.parametrize("name", NAMES)
    def test_a_group_of_any_name_arrives_as_it_is(self, colour: Colour, name: str) -> None:
        with peer(no_groups) as server:
            for prefix in ("", "/some/prefix"):
                colour.client(server.url + prefix).group(name, limit=3, owned=True)
                sent = re.fullmatch(rf"{prefix}/group/([^/?#]+)\?limit=3&owned=true", server.targets()[-1])
                assert sent is not None
                assert unquote(sent[1]) == name
                assert sent[1] not in {".", ".."}

    @pytest.mark.parametrize("end", ["", "/", "/pre", "/pre/", "/pre/fix%20/"])
    def test_a_base_url_may_have_a_prefix_and_a_slash(self, colour: Colour, end: str) -> None:
        with peer(no_groups) as server:
            colour.client(server.url + end).groups()
            assert server.targets() == [end.rstrip("/") + "/groups"]

    def test_many_ids_are_asked_for_in_several_calls(self, colour: Colour) -> None:
        def script(connection: Connection) -> None:
            while request := connection.request():
                ids = request.split(b" ")[1].removeprefix(b"/tasks/").split(b",")
                connection.send(http(b"[" + b",".join(TASK.replace(b"17", id, 1) for id in ids) + b"]"))

        with peer(script) as server:
            store, ids = colour.client(server.url), range(10**15, 10**15 + 1_000)
            assert [task.id if task else None for task in store.tasks(*ids)] == list(ids)
            assert 1 < len(server.targets()) < 5

    def test_no_ids_are_no_call(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            assert colour.client(server.url).tasks() == []
            assert server.requests == []

    def test_a_wrong_id_among_many_is_found_before_anything_is_sent(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            with pytest.raises(UsageError):
                colour.client(server.url).tasks(*range(10_000), 2**63)
            assert server.requests == []

    def test_the_client_names_itself(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            colour.client(server.url).groups()
            assert server.headers()["user-agent"] == f"taskstore-python/{__version__}"
            colour.client(server.url, headers={"USER-AGENT": "word-count/2"}).groups()
            assert server.headers()["user-agent"] == "word-count/2"

    def test_headers_are_sent_with_every_request(self, colour: Colour) -> None:
        with peer(nothing_to_claim) as server:
            store = colour.client(server.url, headers={"X-Team": "blue", "Content-Type": "text/plain"})
            store.claim("map", 1)
            assert server.headers()["x-team"] == "blue"
            assert server.headers()["content-type"] == "application/json"

    @pytest.mark.parametrize(
        ("auth", "sent"),
        [
            (SECRET, f"Bearer {SECRET}"),
            (("ann", SECRET), "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()),
            (httpx.BasicAuth("ann", SECRET), "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()),
        ],
    )
    def test_credentials_are_sent(self, colour: Colour, auth: Any, sent: str) -> None:
        with peer(no_groups) as server:
            colour.client(server.url, auth=auth).groups()
            assert server.headers()["authorization"] == sent

    def test_credentials_may_be_made_by_a_function(self, colour: Colour) -> None:
        def sign(request: httpx.Request) -> httpx.Request:
            request.headers["X-Signature"] = "signed"
            return request

        with peer(no_groups) as server:
            colour.client(server.url, auth=sign).groups()
            assert server.headers()["x-signature"] == "signed"

    def test_credentials_may_stand_in_the_address(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            colour.client(f"http://ann:s%2Fcret@{server.address}").groups()
            assert server.headers()["authorization"] == "Basic " + base64.b64encode(b"ann:s/cret").decode()
            assert server.headers()["host"] == server.address
            colour.client(f"http://ann:s%2Fcret@{server.address}", auth=SECRET).groups()
            assert server.headers()["authorization"] == f"Bearer {SECRET}"


class TestWhereItIsSent:
    def test_the_default_is_the_servers_default(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TASKSTORE_URL", raising=False)
        assert "'http://127.0.0.1:8048'" in repr(colour.client())
        monkeypatch.setenv("TASKSTORE_URL", "")
        assert "'http://127.0.0.1:8048'" in repr(colour.client())

    def test_the_environment_names_another_address(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKSTORE_URL", "https://tasks.example.com/store/")
        assert "'https://tasks.example.com/store'" in repr(colour.client())
        assert "'http://[::1]:80'" not in repr(colour.client("http://[::1]:8000"))
        assert "'http://[::1]:8000'" in repr(colour.client("http://[::1]:8000"))

    def test_an_injected_client_names_another_address(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKSTORE_URL", "http://environment")
        injected = colour.httpx(base_url="http://injected/prefix")
        assert "'http://injected/prefix'" in repr(colour.client(http_client=injected))
        assert "'http://argument'" in repr(colour.client("http://argument", http_client=injected))
        assert "'http://environment'" in repr(colour.client(http_client=colour.httpx()))

    @pytest.mark.parametrize(
        ("base_url", "message"),
        [
            ("127.0.0.1:8048", "has to begin with http:// or https://"),
            ("localhost:8048", "has to begin with http:// or https://"),
            ("ftp://127.0.0.1", "has to begin with http:// or https://"),
            ("", "'' has to begin with http:// or https://"),
            ("http://", "has to begin with http:// or https://"),
            ("http:///groups", "has to begin with http:// or https://"),
            ("http://127.0.0.1:port", "is not an address: Invalid port: 'port'"),
            ("http://127.0.0.1\n", "is not an address"),
            (f"http://127.0.0.1/?token={SECRET}", "must not have a query or a fragment"),
            ("http://127.0.0.1/?", "must not have a query or a fragment"),
            ("http://127.0.0.1/#top", "must not have a query or a fragment"),
            (f"http://ann:{SECRET}/x@127.0.0.1", "is not an address"),
            (f"ftp://ann:{SECRET}@127.0.0.1", "'127.0.0.1' has to begin with"),
            (b"http://127.0.0.1", "has to be a str, not bytes"),
        ],
    )
    def test_what_is_no_address_is_refused(self, colour: Colour, base_url: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            colour.client(base_url)
        assert_no_secret(caught.value)


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
        assert isinstance(caught.value.__cause__, httpx.ConnectError)
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
        assert isinstance(caught.value.__cause__, httpx.ConnectTimeout)

    @pytest.mark.parametrize(
        "error",
        [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x"), httpx.ProxyError("x")],
        ids=repr,
    )
    def test_each_error_before_sending(self, colour: Colour, error: Exception) -> None:
        with pytest.raises(NotSentError) as caught:
            failing(colour, error).claim("map", 1)
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [httpx.UnsupportedProtocol("x"), httpx.InvalidURL("x")], ids=repr)
    def test_what_cannot_be_sent_is_a_wrong_call(self, colour: Colour, error: Exception) -> None:
        with pytest.raises(UsageError, match="Nothing was sent") as caught:
            failing(colour, error).claim("map", 1)
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
        assert isinstance(change.value.__cause__, httpx.HTTPError)

    @pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", http(b"[]")[:-1]])
    def test_an_answer_that_does_not_come_in_time_leaves_it_open(self, colour: Colour, begin: bytes) -> None:
        def begin_and_stall(connection: Connection) -> None:
            connection.send(begin)
            connection.stall()

        with peer(once(begin_and_stall)) as server, pytest.raises(OutcomeUnknownError, match="ReadTimeout") as caught:
            colour.client(server.url, timeout=SOON).claim("map", 1)
        assert isinstance(caught.value.__cause__, httpx.ReadTimeout)

    def test_a_request_that_is_not_taken_in_time_leaves_it_open(self, colour: Colour) -> None:
        left = threading.Event()

        def read_nothing(connection: Connection) -> None:
            left.wait()

        with peer(read_nothing) as server:
            with pytest.raises(OutcomeUnknownError) as caught:
                colour.client(server.url, timeout=SOON).update(adds=[TaskInfo("map", "x" * 20_000_000)])
            left.set()
        assert isinstance(caught.value.__cause__, httpx.WriteTimeout)

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
    def test_each_error_after_sending(self, colour: Colour, error: Exception) -> None:
        with pytest.raises(OutcomeUnknownError) as caught:
            failing(colour, error).claim("map", 1)
        assert caught.value.__cause__ is error
        assert caught.value.applied is None

    def test_a_limit_for_one_call_replaces_that_of_the_client(self, colour: Colour) -> None:
        with peer(once(Connection.stall)) as server:
            store = colour.client(server.url, timeout=None)
            for call in (
                lambda: store.groups(timeout=SOON),
                lambda: store.group("map", timeout=SOON),
                lambda: store.task(17, timeout=SOON),
                lambda: store.tasks(17, timeout=SOON),
                lambda: store.claim("map", 1, timeout=SOON),
                lambda: store.update(timeout=SOON),
            ):
                with pytest.raises(OutcomeUnknownError, match="ReadTimeout"):
                    call()

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

        monkeypatch.setattr(transport, "ANSWER_LIMIT", 1_000_000)
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


class TestTimeouts:
    @pytest.mark.parametrize("timeout", [10, 999_999])
    def test_a_small_integer_is_taken_for_a_mistake(self, colour: Colour, timeout: int) -> None:
        message = (
            rf"timeout={timeout}, that is {timeout} ns\? Integers are nanoseconds; say timedelta\(seconds={timeout}\)"
        )
        with pytest.raises(UsageError, match=message):
            colour.client(timeout=timeout)
        with pytest.raises(UsageError, match=message):
            colour.client().groups(timeout=timeout)

    @pytest.mark.parametrize("timeout", [1.5, True, "30"])
    def test_what_has_no_unit_is_refused(self, colour: Colour, timeout: Any) -> None:
        with pytest.raises(UsageError, match="has no unit"):
            colour.client(timeout=timeout)

    @pytest.mark.parametrize("timeout", [0, -1, timedelta(0), timedelta(seconds=-1)])
    def test_it_has_to_be_positive(self, colour: Colour, timeout: Any) -> None:
        with pytest.raises(UsageError, match="has to be positive, or None"):
            colour.client(timeout=timeout)

    @pytest.mark.parametrize("timeout", [None, timedelta(days=36_500), 10**9, timedelta(milliseconds=900)])
    def test_short_long_and_without_end(self, colour: Colour, timeout: Any) -> None:
        with peer(no_groups) as server:
            store = colour.client(server.url, timeout=timeout)
            assert store.groups() == store.groups(timeout=timeout) == []

    @pytest.mark.parametrize(
        ("options", "injected", "seconds"),
        [
            ({}, None, 30),
            ({"timeout": None}, None, None),
            ({"timeout": 2 * 10**9}, None, 2),
            ({}, 7, 7),
            ({"timeout": timedelta(seconds=2)}, 7, 2),
        ],
    )
    def test_it_is_30_s_or_what_was_said(
        self, colour: Colour, options: dict[str, Any], injected: float | None, seconds: float | None
    ) -> None:
        if injected is not None:
            options = {**options, "http_client": colour.httpx(timeout=injected)}
        store: Any = colour.client(**options)
        sender = (store.client if colour.is_async else store)._sender
        assert sender._timeouts == dict.fromkeys(("connect", "read", "write", "pool"), seconds)


class TestInjectedClients:
    def test_it_sends_and_stays_open(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            injected = colour.httpx(base_url=server.url, headers={"X-Team": "blue"}, auth=("ann", SECRET))
            with colour.client(http_client=injected, headers={"X-Key": "1"}) as store:
                assert store.groups() == []
            assert not injected.is_closed
            headers = server.headers()
            assert (headers["x-team"], headers["x-key"]) == ("blue", "1")
            assert headers["authorization"].startswith("Basic ")
            assert headers["user-agent"] == f"taskstore-python/{__version__}"
            assert "x-key" not in injected.headers

    def test_a_name_that_it_was_given_stays(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            injected = colour.httpx(headers={"User-Agent": "word-count/2"})
            colour.client(server.url, http_client=injected).groups()
            assert server.headers()["user-agent"] == "word-count/2"

    def test_no_redirect_is_followed_even_if_it_would(self, colour: Colour) -> None:
        with peer(always(http(b"", "302 Found", more="Location: /groups\r\n"))) as server:
            with pytest.raises(HTTPError, match="redirects are not followed"):
                colour.client(server.url, http_client=colour.httpx(follow_redirects=True)).groups()
            assert len(server.requests) == 1

    def test_one_of_the_other_colour_is_refused(self) -> None:
        injected: Any = httpx.Client()
        with injected, pytest.raises(UsageError, match=r"has to be an httpx\.AsyncClient, not Client"):
            AsyncHTTPClient(http_client=injected)
        with pytest.raises(UsageError, match=r"has to be an httpx\.Client, not str"):
            HTTPClient(http_client="http://127.0.0.1")  # type: ignore[arg-type]

    def test_a_closed_one_is_refused(self, colour: Colour) -> None:
        injected = colour.httpx()
        colour.wait(injected.aclose) if colour.is_async else injected.close()
        with pytest.raises(UsageError, match="is closed"):
            colour.client(http_client=injected).groups()


class TestClosing:
    def test_a_closed_client_says_so(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            with colour.client(server.url) as store:
                store.groups()
            store.close()
            with pytest.raises(UsageError, match="this client is closed"):
                store.groups()

    def test_its_connections_are_closed(self, colour: Colour) -> None:
        gone = threading.Event()

        def script(connection: Connection) -> None:
            no_groups(connection)
            gone.set()

        with peer(script) as server:
            with colour.client(server.url) as store:
                store.groups()
                assert not gone.is_set()
            assert gone.wait(10)

    def test_it_closes_when_the_block_fails(self, colour: Colour) -> None:
        store = colour.client()
        with pytest.raises(ZeroDivisionError), store:
            raise ZeroDivisionError
        with pytest.raises(UsageError, match="closed"):
            store.groups()


class TestForks:
    def test_a_child_has_connections_of_its_own(self, colour: Colour) -> None:
        with peer(nothing_to_claim) as server:
            store = colour.client(server.url)
            store.claim("map", 1)

            def child() -> tuple[int, object, object]:
                colour.in_child()
                return ID(), store.claim("map", 1), store.claim("map", 1)

            child_id, *claimed = in_a_fork(child)
            assert claimed == [None, None]
            store.claim("map", 1)

            used = [server.connections.index(connection) for connection, _ in server.requests]
            assert used == [0, 1, 1, 0]
            owners = [re.findall(rb'"clientid":(\d+)', request) for _, request in server.requests]
            assert [[int(id) for id in ids] for ids in owners] == [[ID()], [child_id], [child_id], [ID()]]

    def test_a_child_that_closes_leaves_the_connections_of_its_parent_open(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            store = colour.client(server.url)
            store.groups()

            def child() -> str:
                colour.in_child()
                store.close()
                with pytest.raises(UsageError, match="closed"):
                    store.groups()
                return "done"

            assert in_a_fork(child) == "done"
            assert store.groups() == []
            assert len(server.connections) == 1

    def test_a_child_of_a_child_has_connections_of_its_own(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            store = colour.client(server.url)
            store.groups()

            def child() -> list[str]:
                colour.in_child()
                store.groups()
                return in_a_fork(child_of_child)

            def child_of_child() -> list[str]:
                colour.in_child()
                return store.groups()

            assert in_a_fork(child) == []
            assert [server.connections.index(connection) for connection, _ in server.requests] == [0, 1, 2]

    def test_an_injected_client_does_not_go_to_a_child(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            store = colour.client(server.url, http_client=colour.httpx())
            store.groups()

            def child() -> None:
                colour.in_child()
                store.groups()

            with pytest.raises(UsageError, match="make both clients anew in the child"):
                in_a_fork(child)
            assert store.groups() == []
            assert len(server.connections) == 1


class TestManyAtOnce:
    def test_threads_share_a_client(self) -> None:
        def script(connection: Connection) -> None:
            while request := connection.request():
                connection.send(http(TASK.replace(b"17", request.split(b" ")[1].removeprefix(b"/task/"), 1)))

        with peer(script) as server, HTTPClient(server.url) as store, ThreadPoolExecutor(16) as threads:
            found = list(threads.map(store.task, range(1, 301)))
            assert [task.id if task else None for task in found] == list(range(1, 301))
            assert len(server.connections) <= 16

    def test_threads_of_a_child_share_its_connections(self) -> None:
        with peer(no_groups) as server, HTTPClient(server.url) as store:

            def child() -> int:
                with ThreadPoolExecutor(8) as threads:
                    list(threads.map(lambda _: store.groups(), range(40)))
                return len(store._sender._pools)

            assert in_a_fork(child) == 2
            assert len(server.connections) <= 8

    def test_tasks_of_a_loop_share_a_client(self) -> None:
        async def gather(url: str) -> None:
            async with AsyncHTTPClient(url) as store:
                assert await asyncio.gather(*(store.groups() for _ in range(30))) == [[]] * 30

        with peer(no_groups) as server:
            asyncio.run(gather(server.url))

    def test_another_loop_needs_a_client_of_its_own(self) -> None:
        with peer(no_groups) as server:
            store = AsyncHTTPClient(server.url)
            with asyncio.Runner() as first, asyncio.Runner() as second:
                assert first.run(store.groups()) == []
                for call in (store.groups, store.aclose):
                    with pytest.raises(UsageError, match="belong to another event loop"):
                        second.run(call())
                first.run(store.aclose())


class TestSecrets:
    def test_nothing_shows_a_credential(
        self, colour: Colour, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with peer(nothing_to_claim) as server:
            monkeypatch.setenv("TASKSTORE_URL", f"http://ann:{SECRET}@{server.address}")
            given: list[dict[str, Any]] = [
                {},
                {"auth": SECRET},
                {"auth": ("ann", SECRET)},
                {"headers": {"X-Key": SECRET}},
            ]
            for options in given:
                store = colour.client(**options)
                store.claim("map", 1)
                with pytest.raises(AnswerError) as caught:
                    store.groups()
                assert_no_secret(caught.value)
                assert SECRET not in repr(store)
        assert SECRET not in caplog.text
        assert f"POST {server.url}/claim: status 200, 25 bytes" in caplog.text
        assert "taskstore" in {record.name for record in caplog.records}

    def test_no_body_is_logged(self, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "taskstore")
        with peer(always(http(b'{"tasks":[%b],"error":null}' % TASK))) as server:
            colour.client(server.url).update(adds=[TaskInfo("map", SECRET)])
        assert SECRET not in caplog.text
        assert "hello" not in caplog.text

    @pytest.mark.parametrize("auth", [5, (SECRET,), ("ann", SECRET, "x"), (SECRET, 5), ["ann", SECRET]])
    def test_what_is_no_credential_is_refused_and_not_shown(self, colour: Colour, auth: Any) -> None:
        with pytest.raises(UsageError, match="auth has to be a token, a pair") as caught:
            colour.client(auth=auth)
        assert_no_secret(caught.value)

    @pytest.mark.parametrize("headers", [{"X-Key": f"{SECRET}é"}, {"X-Key": 5}, [SECRET], 5])
    def test_what_are_no_headers_is_refused_and_not_shown(self, colour: Colour, headers: Any) -> None:
        with pytest.raises(UsageError, match="headers have to be a mapping") as caught:
            colour.client(headers=headers)
        assert_no_secret(caught.value)


def test_a_proxy_that_makes_no_sense_is_reported(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"gopher://ann:{SECRET}@127.0.0.1")
    with pytest.raises(UsageError, match="proxies or certificates that the environment names") as caught:
        colour.client()
    assert_no_secret(caught.value)


def failing(colour: Colour, error: Exception) -> HTTPClient:
    """A client whose requests all fail in this way."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    return colour.client(http_client=colour.httpx(transport=httpx.MockTransport(fail)))


def assert_no_secret(error: TaskStoreError) -> None:
    """Neither in the error nor in what a traceback shows of its causes."""
    shown = "".join(traceback.format_exception(error))
    # The test's own lines are in the traceback, but name the secret only by its variable.
    assert SECRET not in shown
    assert SECRET not in repr(error)
