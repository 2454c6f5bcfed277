"""The fast sender: HTTP as it may come over a socket, connections, and what only httpx can do.

That it does all that httpx does is shown by the other tests of the client, which run over both.
"""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Colour, coloured
from hypothesis import given
from hypothesis import strategies as st
from peer import SECRET, TASK, Connection, always, assert_no_secret, http, no_groups, once, peer

from taskstore import (
    AnswerError,
    AsyncHTTPClient,
    HTTPClient,
    HTTPError,
    NotSentError,
    OutcomeUnknownError,
    TaskInfo,
    UsageError,
    wire,
)
from taskstore.errors import TaskStoreError
from taskstore.exchange import Exchange

fast = pytest.importorskip("taskstore.fast", reason="needs taskstore[fast]", exc_type=ImportError)

SOON = timedelta(milliseconds=400)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(params=["fast blocking", "fast async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Both colours, over the fast sender alone, and nothing is repeated."""
    with coloured(request.param) as colour:
        colour.options["retry"] = None
        yield colour


def sending(*parts: bytes) -> Callable[[Connection], None]:
    """Answer every request by these parts, one after the other."""

    def script(connection: Connection) -> None:
        while connection.request():
            for part in parts:
                connection.send(part)

    return script


class TestAnswers:
    @pytest.mark.parametrize(
        "parts",
        [
            [HEAD + b"Content-Length: 9\r\n\r\n", b'["a",', b'"b"]'],
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b'5;x=y\r\n["a",\r\n', b'4\r\n"b"]\r\n0\r\nX: y\r\n\r\n'],
            [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n", http(b'["a","b"]')],
            [bytes([byte]) for byte in http(b'["a","b"]')],
        ],
    )
    def test_it_may_come_in_parts(self, colour: Colour, parts: list[bytes]) -> None:
        with peer(sending(*parts)) as server:
            store = colour.client(server.url)
            for _ in range(3):
                assert store.groups() == ["a", "b"]
            assert len(server.connections) == 1

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_it_may_last_until_the_connection_is_closed(self, colour: Colour, version: bytes) -> None:
        answer = b"HTTP/%b 200 OK\r\n\r\n[]" % version
        with peer(once(lambda connection: connection.send(answer))) as server:
            store = colour.client(server.url)
            assert store.groups() == store.groups() == []
            assert len(server.connections) == 2

    @pytest.mark.parametrize(
        "answer",
        [
            http(b"[]", more="Connection: close\r\n"),
            http(b"[]").replace(b"1.1", b"1.0"),
            http(b"[]") + http(b'["not asked for"]'),
            http(b"[]") + b"nonsense",
            http(b"[]") + b"HTTP/1.1 200",
        ],
    )
    def test_a_connection_that_said_more_or_will_close_is_not_used_again(self, colour: Colour, answer: bytes) -> None:
        with peer(sending(answer)) as server:
            store = colour.client(server.url)
            for _ in range(3):
                assert store.groups() == []
            assert len(server.connections) == 3

    def test_nor_one_that_said_more_later(self, colour: Colour) -> None:
        said = threading.Event()

        def script(connection: Connection) -> None:
            connection.request()
            connection.send(http(b"[]"))
            connection.peer.script = no_groups
            asked.wait()
            connection.send(http(b'["not asked for"]'))
            said.set()
            connection.stall()

        asked = threading.Event()
        with peer(script) as server:
            store = colour.client(server.url)
            assert store.groups() == []
            asked.set()
            said.wait()
            assert store.groups() == []
            assert len(server.connections) == 2

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "RemoteProtocolError"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n",
                "RemoteProtocol",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[] ", "RemoteProtocolError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n[]", "RemoteProtocolError"),
            (b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\n[]", "RemoteProtocolError"),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "the head of the answer has more than 100,000 bytes"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nX: " + b"y" * 200_000, "has more than 100,000"),
            (http(b"x", more="Content-Encoding: br\r\n"), "DecodingError: the answer is compressed"),
            (HEAD + b"Transfer-Encoding: gzip\r\n\r\nxx", "RemoteProtocolError"),
        ],
        ids=lambda value: None if isinstance(value, str) else value[:60],
    )
    def test_what_is_no_answer_leaves_it_open(self, colour: Colour, answer: bytes, message: str) -> None:
        with (
            peer(once(lambda connection: connection.send(answer))) as server,
            pytest.raises(OutcomeUnknownError, match=message) as caught,
        ):
            colour.client(server.url).claim("map", 1)
        assert caught.value.applied is None

    def test_a_refusal_is_heard_even_if_the_request_is_not(self, colour: Colour) -> None:
        def refuse(connection: Connection) -> None:
            connection.socket.recv(10)
            connection.send(http(b"too long", "413 Whatever", more="Connection: close\r\n"))
            connection.socket.shutdown(socket.SHUT_WR)
            connection.stall()

        with peer(refuse) as server, pytest.raises(HTTPError, match=r"status 413: .*too long"):
            colour.client(server.url).update(adds=[TaskInfo("map", "x" * 5_000_000)])

    def test_a_head_that_only_drips_does_not_hold_the_caller_for_ever(self, colour: Colour) -> None:
        left = threading.Event()

        def drip(connection: Connection) -> None:
            connection.request()
            while not left.wait(0.01):
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

        with peer(drip) as server:
            with pytest.raises(OutcomeUnknownError, match="the answer did not begin in time"):
                colour.client(server.url, timeout=SOON).groups()
            left.set()

    def test_a_wait_counts_on_top(self, colour: Colour) -> None:
        def late(connection: Connection) -> None:
            threading.Event().wait(2 * SOON.total_seconds())
            connection.send(http(b'{"tasks":[%b],"error":null}' % TASK, more="Connection: close\r\n"))

        with peer(once(late)) as server:
            store = colour.client(server.url, timeout=SOON)
            assert store.claim("map", 1, wait=timedelta(seconds=20))
            with pytest.raises(OutcomeUnknownError, match="ReadTimeout"):
                store.claim("map", 1)


PIECES = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n", b"Content-Length: 2\r\n", b"\r\n", b"[]", b"2\r\n", b"0\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"X: y\r\n", b"\n", b"\0", b" "]
)  # fmt: skip


class TestReading:
    def reader(self) -> Any:
        reader = fast._Reader()
        reader.begin(Exchange(wire.groups(), "http://x/groups", {}, None))
        return reader

    @given(st.lists(st.integers(0, 200)), st.booleans())
    def test_it_does_not_matter_where_an_answer_is_cut(self, cuts: list[int], chunked: bool) -> None:
        answer = http(b'["a","b"]', more="Retry-After: 5\r\n")
        if chunked:
            answer = HEAD + b'Retry-After: 5\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n["a","b"]\r\n0\r\n\r\n'
        reader, places = self.reader(), sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
        for start, end in pairwise(places):
            assert not reader.done
            reader.feed(answer[start:end])
        assert reader.done
        assert reader.may_go_on
        assert (reader.answer().status, reader.answer().body) == (200, b'["a","b"]')
        assert reader.answer().headers["retry-after"] == "5"

    @given(st.lists(st.binary(max_size=20) | PIECES))
    def test_whatever_comes_is_an_answer_or_one_of_our_errors(self, parts: list[bytes]) -> None:
        reader = self.reader()
        try:
            for part in parts:
                reader.feed(part)
            reader.end()
            answer = reader.answer()
        except (fast._Failure, TaskStoreError):
            return
        assert answer.status >= 200


class TestRequests:
    @pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection"])
    def test_the_frame_is_not_for_others_to_draw(self, colour: Colour, name: str) -> None:
        with peer(no_groups) as server:
            colour.client(server.url, headers={name: "5"}).groups()
            assert name.lower() not in server.headers()

    def test_the_host_is_named(self, colour: Colour) -> None:
        with peer(no_groups) as server:
            colour.client(server.url).groups()
            assert server.headers()["host"] == server.address
            assert server.headers()["accept-encoding"] == "identity"
            colour.client(server.url, headers={"Host": "tasks.example.com"}).groups()
            assert server.headers()["host"] == "tasks.example.com"

    def test_the_usual_port_is_not(self) -> None:
        for url, host in (
            ("http://x", "x"),
            ("https://x:443", "x"),
            ("https://x:80", "x:80"),
            ("http://[::1]", "[::1]"),
        ):
            with HTTPClient(url, transport="fast") as store:
                assert dict(store._sender._fast._common())["host"] == host

    @pytest.mark.parametrize(
        "headers", [{"X\n": "y"}, {"": "y"}, {"X Y": "y"}, {"X": "y\0"}, {"X": f"{SECRET}\x7f"}, {"X": f"{SECRET} "}]
    )
    def test_what_is_no_header_is_not_sent_and_not_shown(self, colour: Colour, headers: dict[str, str]) -> None:
        with peer(no_groups) as server:
            with pytest.raises(UsageError, match="a character that HTTP does not allow") as caught:
                colour.client(server.url, headers=headers).groups()
            assert server.requests == []
        assert_no_secret(caught.value)

    def test_parameters_are_encoded(self, colour: Colour) -> None:
        with peer(always(http(b"{}"))) as server:
            with pytest.raises(AnswerError):
                colour.client(server.url).stats("a&b c/é", 5)
            assert server.targets() == ["/stats?prefix=a%26b%20c%2F%C3%A9&limit=5"]

    def test_ipv6(self, colour: Colour) -> None:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")

        def serve() -> None:
            with listener.accept()[0] as accepted:
                accepted.sendall(http(b"[]"))

        with listener:
            thread = threading.Thread(target=serve)
            thread.start()
            assert colour.client(f"http://[::1]:{listener.getsockname()[1]}").groups() == []
            thread.join()


class TestConnections:
    def test_an_idle_one_is_given_up_before_a_server_would(
        self, colour: Colour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert fast.IDLE_S < 5
        with peer(no_groups) as server:
            store = colour.client(server.url)
            store.groups()
            monkeypatch.setattr(fast, "IDLE_S", 0)
            store.groups()
            assert len(server.connections) == 2

    def test_there_are_no_more_than_a_hundred(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fast, "MOST_CONNECTIONS", 2)
        going_on = threading.Event()

        def script(connection: Connection) -> None:
            while connection.request():
                going_on.wait()
                connection.send(http(b"[]"))

        with peer(script) as server, HTTPClient(server.url, transport="fast", retry=None) as store:
            with ThreadPoolExecutor(8) as threads:
                calls = [threads.submit(store.groups) for _ in range(8)]
                while len(server.requests) < 2:
                    threading.Event().wait(0.001)
                with pytest.raises(NotSentError, match=r"PoolTimeout.*all connections of this client were in use"):
                    store.groups(timeout=SOON)
                going_on.set()
                assert [call.result() for call in calls] == [[]] * 8
            assert len(server.connections) == 2

    def test_nor_of_tasks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fast, "MOST_CONNECTIONS", 2)

        async def many(url: str) -> None:
            async with AsyncHTTPClient(url, transport="fast", retry=None) as store:
                calls = [asyncio.create_task(store.groups()) for _ in range(8)]
                await asyncio.sleep(0)
                with pytest.raises(NotSentError, match="PoolTimeout"):
                    await store.groups(timeout=SOON)
                going_on.set()
                assert await asyncio.gather(*calls) == [[]] * 8
                # One that is given up makes room for the next.
                going_on.clear()
                given_up = [asyncio.create_task(store.groups()) for _ in range(4)]
                await asyncio.to_thread(asked.wait)
                for call in given_up:
                    call.cancel()
                await asyncio.gather(*given_up, return_exceptions=True)
                going_on.set()
                assert await asyncio.gather(*(store.groups() for _ in range(4))) == [[]] * 4

        going_on, asked = threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            while connection.request():
                if len(connection.peer.requests) >= 10:
                    asked.set()
                going_on.wait()
                connection.send(http(b"[]"))

        with peer(script) as server:
            asyncio.run(many(server.url))

    def test_a_call_that_runs_on_while_the_client_is_closed_leaves_none(self) -> None:
        asked, closed, left = threading.Event(), threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.request()
            asked.set()
            closed.wait()
            connection.send(http(b"[]"))
            connection.stall()
            left.set()

        with peer(script) as server, ThreadPoolExecutor(1) as thread:
            store = HTTPClient(server.url, transport="fast")
            call = thread.submit(store.groups)
            asked.wait()
            store.close()
            closed.set()
            assert call.result() == []
            assert left.wait(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=taskstore", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


class TestTLS:
    def test_a_server_with_a_certificate_that_is_trusted(
        self, colour: Colour, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        with peer(no_groups, tls) as server:
            store = colour.client(server.url)
            for _ in range(3):
                assert store.groups() == []
            assert len(server.connections) == 1
            store.close()

    def test_one_that_is_not(self, colour: Colour, certificate: tuple[Path, Path]) -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
        with peer(no_groups, tls) as server:
            with pytest.raises(NotSentError, match="CERTIFICATE_VERIFY_FAILED"):
                colour.client(server.url).groups()
            assert server.requests == []


class TestWhatOnlyHttpxCanDo:
    def test_an_injected_client(self, colour: Colour) -> None:
        with pytest.raises(UsageError, match="with an http_client it is httpx that sends"):
            colour.client(http_client=colour.httpx())

    @pytest.mark.parametrize("auth", [httpx.BasicAuth("ann", SECRET), lambda request: request])
    def test_other_kinds_of_auth(self, colour: Colour, auth: Any) -> None:
        with pytest.raises(UsageError, match="takes a token, or a pair of user and password"):
            colour.client(auth=auth)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    def test_proxies(self, colour: Colour, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, f"http://ann:{SECRET}@127.0.0.1:1")
        with pytest.raises(UsageError, match="names a proxy") as caught:
            colour.client("http://tasks.example.com")
        assert_no_secret(caught.value)
        monkeypatch.setenv("NO_PROXY", "example.com")
        colour.client("http://tasks.example.com")

    def test_another_sender_is_not_known(self, colour: Colour) -> None:
        with pytest.raises(UsageError, match="transport='faster' has to be 'httpx' or 'fast'"):
            colour.client(transport="faster")

    def test_it_has_to_be_installed(self, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "taskstore.fast")
        monkeypatch.delattr("taskstore.fast")
        monkeypatch.setitem(sys.modules, "httptools", None)
        with pytest.raises(UsageError, match=r"pip install 'taskstore\[fast\]'"):
            colour.client()
