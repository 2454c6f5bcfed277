"""Between a client and its server: what is sent and where to, connections, timeouts, forks, threads and secrets."""

import asyncio
import base64
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from conftest import Colour, in_a_fork
from peer import SECRET, TASK, Connection, always, assert_no_secret, http, no_groups, nothing_to_claim, peer

from taskstore import (
    ID,
    AnswerError,
    AsyncHTTPClient,
    HTTPClient,
    HTTPError,
    TaskInfo,
    UsageError,
    __version__,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

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
        ],
    )
    def test_credentials_are_sent(self, colour: Colour, auth: Any, sent: str) -> None:
        with peer(no_groups) as server:
            colour.client(server.url, auth=auth).groups()
            assert server.headers()["authorization"] == sent

    def test_credentials_may_be_what_httpx_has(self, httpx_colour: Colour) -> None:
        with peer(no_groups) as server:
            httpx_colour.client(server.url, auth=httpx.BasicAuth("ann", SECRET)).groups()
            assert server.headers()["authorization"].startswith("Basic ")

    def test_credentials_may_be_made_by_a_function(self, httpx_colour: Colour) -> None:
        def sign(request: httpx.Request) -> httpx.Request:
            request.headers["X-Signature"] = "signed"
            return request

        with peer(no_groups) as server:
            httpx_colour.client(server.url, auth=sign).groups()
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

    def test_an_injected_client_names_another_address(
        self, httpx_colour: Colour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TASKSTORE_URL", "http://environment")
        injected = httpx_colour.httpx(base_url="http://injected/prefix")
        assert "'http://injected/prefix'" in repr(httpx_colour.client(http_client=injected))
        assert "'http://argument'" in repr(httpx_colour.client("http://argument", http_client=injected))
        assert "'http://environment'" in repr(httpx_colour.client(http_client=httpx_colour.httpx()))

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
        ("options", "seconds"), [({}, 30), ({"timeout": None}, None), ({"timeout": timedelta(seconds=2)}, 2)]
    )
    def test_it_is_30_s_or_what_was_said(self, colour: Colour, options: dict[str, Any], seconds: float | None) -> None:
        sender = colour.sender(colour.client(**options))
        assert sender._timeouts == dict.fromkeys(("connect", "read", "write", "pool"), seconds)

    @pytest.mark.parametrize(("options", "seconds"), [({}, 7), ({"timeout": 2 * 10**9}, 2)])
    def test_an_injected_client_has_its_own(
        self, httpx_colour: Colour, options: dict[str, Any], seconds: float
    ) -> None:
        sender = httpx_colour.sender(httpx_colour.client(http_client=httpx_colour.httpx(timeout=7), **options))
        assert sender._timeouts == dict.fromkeys(("connect", "read", "write", "pool"), seconds)


class TestInjectedClients:
    def test_it_sends_and_stays_open(self, httpx_colour: Colour) -> None:
        with peer(no_groups) as server:
            injected = httpx_colour.httpx(base_url=server.url, headers={"X-Team": "blue"}, auth=("ann", SECRET))
            with httpx_colour.client(http_client=injected, headers={"X-Key": "1"}) as store:
                assert store.groups() == []
            assert not injected.is_closed
            headers = server.headers()
            assert (headers["x-team"], headers["x-key"]) == ("blue", "1")
            assert headers["authorization"].startswith("Basic ")
            assert headers["user-agent"] == f"taskstore-python/{__version__}"
            assert "x-key" not in injected.headers

    def test_a_name_that_it_was_given_stays(self, httpx_colour: Colour) -> None:
        with peer(no_groups) as server:
            injected = httpx_colour.httpx(headers={"User-Agent": "word-count/2"})
            httpx_colour.client(server.url, http_client=injected).groups()
            assert server.headers()["user-agent"] == "word-count/2"

    def test_no_redirect_is_followed_even_if_it_would(self, httpx_colour: Colour) -> None:
        with peer(always(http(b"", "302 Found", more="Location: /groups\r\n"))) as server:
            with pytest.raises(HTTPError, match="redirects are not followed"):
                httpx_colour.client(server.url, http_client=httpx_colour.httpx(follow_redirects=True)).groups()
            assert len(server.requests) == 1

    def test_one_of_the_other_colour_is_refused(self) -> None:
        injected: Any = httpx.Client()
        with injected, pytest.raises(UsageError, match=r"has to be an httpx\.AsyncClient, not Client"):
            AsyncHTTPClient(http_client=injected)
        with pytest.raises(UsageError, match=r"has to be an httpx\.Client, not str"):
            HTTPClient(http_client="http://127.0.0.1")  # type: ignore[arg-type] # wrong, which is the point

    def test_a_closed_one_is_refused(self, httpx_colour: Colour) -> None:
        injected = httpx_colour.httpx()
        httpx_colour.wait(injected.aclose) if httpx_colour.is_async else injected.close()
        with pytest.raises(UsageError, match="is closed"):
            httpx_colour.client(http_client=injected).groups()


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

    def test_an_injected_client_does_not_go_to_a_child(self, httpx_colour: Colour) -> None:
        with peer(no_groups) as server:
            store = httpx_colour.client(server.url, http_client=httpx_colour.httpx())
            store.groups()

            def child() -> None:
                httpx_colour.in_child()
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


def test_a_proxy_that_makes_no_sense_is_reported(httpx_colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"gopher://ann:{SECRET}@127.0.0.1")
    with pytest.raises(UsageError, match="proxies or certificates that the environment names") as caught:
        httpx_colour.client()
    assert_no_secret(caught.value)
