"""The originals in Go: the published client on our server, and our client on the published server.

The program in go/ is built here, and so is the published server. Their module comes from the module proxy, or from a
checkout of it that TASKSTORE_GO_ORIGINAL names; where it cannot be had, what needs it is skipped, and says so. The
program is also built with the stand-in for the published client, which is held to the recorded requests: so Go itself
reads our answers wherever there is a Go.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from conftest import Colour
from test_dialect import CHANGES, READS, round_of_work

from taskstore import HTTPError
from taskstore.contract.run import Settings, check
from taskstore.testing import LiveServer

HERE = Path(__file__).parent / "go"
RECORDED = Path(__file__).parents[1] / "wire" / "go_client_requests.jsonl"
ORIGINAL = "github.com/shiblon/taskstore@master"
"""Where entrogo.com/taskstore really is. Its last commit is of 2018; Go's checksum database vouches for the content."""
SERVERS = ("taskserver", "server")
"""Where in `service/` the published server is: it was renamed once, so an older checkout has the second name."""
BUILD_S = 300
MISSING = 987654321


class GoFailed(Exception):
    """A command of Go did."""


def go(*arguments: str, cwd: Path) -> str:
    """Run a command of Go. It keeps to its own caches, outside of this tree, and to the Go that is here.

    Raises:
        GoFailed: It failed, and this is what it said.
    """
    variables = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    command = ["go", *arguments]
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise GoFailed(done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program, with the stand-in for the published client."""
    if shutil.which("go") is None:
        pytest.skip("go is not here")
    return shutil.copytree(HERE, tmp_path_factory.mktemp("go") / "program")


@pytest.fixture(scope="module")
def published(program: Path) -> Path:
    """A copy of the program, with the published module in place of the stand-in."""
    place = shutil.copytree(program, program.parent / "published")
    source = ORIGINAL
    if checkout := os.environ.get("TASKSTORE_GO_ORIGINAL"):
        source = str(shutil.copytree(checkout, program.parent / "original", ignore=shutil.ignore_patterns(".git")))
        if not (Path(source) / "go.mod").exists():  # it is older than modules
            go("mod", "init", "entrogo.com/taskstore", cwd=Path(source))
    try:
        go("mod", "edit", f"-replace=entrogo.com/taskstore={source}", cwd=place)
        go("mod", "tidy", cwd=place)
    except GoFailed as error:
        refused = re.search(r"\d{3} [A-Z][a-z]+|no such host|timeout|connection refused", str(error))
        if refused is None:
            raise
        pytest.skip(f"the published Go module cannot be had here ({refused[0]})")
    return place


@pytest.fixture(scope="module", params=["stand-in", "published"])
def client(request: pytest.FixtureRequest) -> Path:
    """The program, built with the one and the other."""
    place: Path = request.getfixturevalue({"stand-in": "program", "published": "published"}[request.param])
    go("build", "-o", "interop", ".", cwd=place)
    return place / "interop"


def told(program: Path, url: str) -> dict[str, dict[str, Any]]:
    """What the program says of each of its calls."""
    done = subprocess.run([program, url], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["call"]: line for line in lines}


NOTHING = {"id": 0, "group": "", "data": "", "duration": 0, "ownerid": 0}
"""How Go reads a null."""


def test_the_go_client_does_its_work_on_our_server(client: Path, server: LiveServer) -> None:
    calls = told(client, server.url)
    values = {call: line["value"] for call, line in calls.items()}
    hello, later = values["add"]
    assert (hello["group"], hello["data"], later["data"]) == ("map", "hello", "später ☃")
    assert hello["ownerid"] == later["ownerid"] in range(256)
    assert later["duration"] - hello["duration"] == 60 * 10**9
    claimed = values["claim"]
    assert claimed == hello | {"id": 3, "duration": hello["duration"] + 30 * 10**9}
    assert values["task"] == claimed
    assert values["tasks"] == [claimed, NOTHING]
    assert values["missing task"] == NOTHING
    assert values["group"] == [claimed, later]
    assert values["group, what is available"] == values["group without tasks"] == values["nothing"] == []
    [renewed] = values["renew"]
    assert renewed == claimed | {"id": 4, "data": "renewed", "duration": hello["duration"] + 10**9}
    [out] = values["finish"]
    assert (out["group"], out["data"]) == ("out", "r")
    assert (values["groups"], values["claim of nothing"]) == ([], None)
    assert values["groups in the end"] == ["map", "out"]


def test_the_go_client_understands_what_our_server_refuses(client: Path, server: LiveServer) -> None:
    calls = told(client, server.url)
    assert {call for call, line in calls.items() if "error" in line} == {
        "claim that depends on nothing",
        "delete too late",
        "finish too late",
        "add without a group",
    }
    refused = {call: line["refused"] for call, line in calls.items() if "refused" in line}
    none: dict[str, list[int]] = {"Changes": [], "Deletes": [], "Depends": [], "Owned": [], "Bugs": []}
    assert refused == {
        "claim that depends on nothing": none | {"Depends": [MISSING]},
        "delete too late": none | {"Deletes": [3]},
        "finish too late": none | {"Deletes": [3]},
    }
    assert "422" in calls["add without a group"]["error"]
    assert "adds[0].group" in calls["add without a group"]["error"]


class Request(NamedTuple):
    line: str
    headers: dict[str, str]
    body: str


@contextlib.contextmanager
def recorder(url: str) -> Iterator[tuple[str, list[Request]]]:
    """A server that hands on each request to the one at `url`, and keeps it."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            requests.append(Request(self.requestline, headers, body.decode()))
            with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
                connection.request(self.command, self.path, body, {})
                answer = connection.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", requests
        finally:
            proxy.shutdown()
            thread.join()


def test_the_go_client_sends_the_requests_that_were_recorded(client: Path, server: LiveServer) -> None:
    """Each byte of them but the client id, which is drawn, and with it the length."""
    with recorder(server.url) as (url, requests):
        told(client, url)
    recorded = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    assert len(requests) > len(recorded)
    for made, seen in zip(requests, recorded, strict=False):
        body = re.sub(r'(?<="clientid":)\d+', "78", made.body)
        headers = made.headers | ({"Content-Length": str(len(body.encode()))} if body else {})
        assert Request(made.line, headers, body) == Request(seen["request"], seen["headers"], seen["body"])


@pytest.fixture(scope="module")
def taskserver(published: Path) -> Path:
    """The published server."""
    module = "entrogo.com/taskstore"
    services = Path(go("list", "-m", "-f", "{{.Dir}}", module, cwd=published).strip()) / "service"
    name = next(name for name in SERVERS if (services / name).is_dir())
    go("build", "-o", "taskserver", f"{module}/service/{name}", cwd=published)
    return published / "taskserver"


@pytest.fixture
def original(taskserver: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a published server with an empty store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "journal").mkdir()
    process = subprocess.Popen(
        [taskserver, f"-jdir={tmp_path / 'journal'}", f"-port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, "the published server has ended"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_our_client_does_its_work_on_the_published_server(colour: Colour, original: str) -> None:
    client = colour.client(original, dialect="go")
    round_of_work(client, colour.client(original, dialect="go", client_id=client.client_id - 1))


def test_our_client_says_what_is_the_matter_with_the_published_server(colour: Colour, original: str) -> None:
    for change in CHANGES.values():
        with pytest.raises(HTTPError, match=re.escape("HTTPClient(url, dialect='go')")):
            change(colour.client(original))
    for read in READS.values():
        with pytest.raises(HTTPError, match="answers neither task nor tasks nor group"):
            read(colour.client(original, dialect="go"))


def test_the_published_server_keeps_what_our_kit_demands_in_its_dialect(original: str) -> None:
    """So the kit accuses no server of being like the original, and knows the original better than its stand-in does."""
    verdicts = check(Settings(original, dialect="go", seed=1)).verdicts
    assert [(verdict.rule, verdict.message) for verdict in verdicts if verdict.status == "fail"] == []
    assert {"claims-are-random", "a-claim-takes-a-task-over", "any-sequence-is-answered-right"} <= {
        verdict.rule for verdict in verdicts if verdict.status == "pass"
    }
