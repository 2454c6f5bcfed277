"""A server as a process: what it prints, how it starts, and how it ends."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from taskstore.errors import StoreError
from taskstore.server import run, serve
from taskstore.server.engine import Engine
from taskstore.server.http import STUCK_SECONDS
from taskstore.server.run import RunningServer, bound, open_storage
from taskstore.server.sqlite import SqliteStorage


@contextmanager
def served(store: Path | str, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its address."""
    command = [sys.executable, "-m", "taskstore", "serve", "--port", "0", "--store", str(store), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout
    try:
        match = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert match, process.communicate(timeout=30)
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


def add(url: str, group: str) -> None:
    httpx.post(f"{url}/update", json={"clientid": 1000, "adds": [{"group": group}]}).raise_for_status()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_and_nothing_is_lost(tmp_path: Path, number: signal.Signals) -> None:
    store = tmp_path / "store.db"
    with served(store) as (process, url):
        add(url, "kept")
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
    with served(store) as (_, url):
        assert httpx.get(f"{url}/groups").json() == ["kept"]


@pytest.mark.parametrize("how", ["stop", "signal"])
def test_it_ends_as_soon_as_it_is_told_to(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a client that is connected and asks for nothing, and however rarely the server looks at the time."""
    monkeypatch.setattr(run, "TICK_SECONDS", 60)
    running = RunningServer(open_storage(":memory:"), bound("127.0.0.1", 0))
    address = httpx.URL(running.url)
    told: list[float] = []

    def tell() -> None:
        with socket.create_connection((address.host, address.port or 0), timeout=30) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(10_000).startswith(b"HTTP/1.1 200")
            told.append(time.monotonic())
            running.stop() if how == "stop" else os.kill(os.getpid(), signal.SIGTERM)
            assert idle.recv(10_000) == b""

    client = threading.Thread(target=tell)
    running.on_start = client.start
    assert running.run(signals=how == "signal") == 0
    assert time.monotonic() - told[0] < 20
    client.join()
    running.stop()  # Once more is no error.


def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with served(store) as (process, url):
        add(url, "kept")
        process.kill()
        process.wait(timeout=30)
    with served(store) as (_, url):
        assert httpx.get(f"{url}/groups").json() == ["kept"]


def test_a_request_that_is_under_way_when_the_signal_comes_is_answered(tmp_path: Path) -> None:
    body = json.dumps({"clientid": 1000, "adds": [{"group": "late"}]}).encode()
    with served(tmp_path / "store.db") as (process, url):
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 0), timeout=30) as connection:
            connection.sendall(b"POST /update HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            connection.sendall(body[:5])
            httpx.get(f"{url}/groups")  # A whole round trip, so the server has the beginning of the other request.
            process.send_signal(signal.SIGTERM)
            connection.sendall(body[5:])
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        assert process.wait(timeout=30) == 0


def test_the_access_log_is_a_line_of_json_for_each_request(tmp_path: Path) -> None:
    with served(tmp_path / "store.db", "--log") as (process, url):
        httpx.get(f"{url}/group/a%2Fb", params={"limit": 5})
        httpx.get(f"{url}/nowhere")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/group/a%2Fb", 200),
        ("GET", "/nowhere", 404),
    ]
    assert all(line["ms"] >= 0 and line["client"].startswith("127.0.0.1:") and line["time"] for line in lines)


def test_a_token_in_the_environment_is_asked_for(tmp_path: Path) -> None:
    with served(tmp_path / "store.db", TASKSTORE_TOKEN="s3cret") as (_, url):
        assert httpx.get(f"{url}/groups").status_code == 401
        assert httpx.get(f"{url}/groups", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_an_address_that_others_can_reach_needs_a_token() -> None:
    with pytest.raises(StoreError, match="TASKSTORE_TOKEN"):
        serve(host="0.0.0.0", port=0, store=":memory:")


def test_a_port_in_use_is_named() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(StoreError, match=f"port {taken.getsockname()[1]}.*another server"):
            bound("127.0.0.1", taken.getsockname()[1])


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(StoreError, match=r"no\.such\.host\.invalid"):
        bound("no.such.host.invalid", 0)


class Stuck(SqliteStorage):
    """A storage whose commits wait until they are released."""

    release: threading.Event

    def commit(self) -> None:
        assert self.release.wait(30)
        super().commit()


def test_a_server_whose_commit_hangs_is_alive_but_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Stuck(str(tmp_path / "store.db"))
    storage.release = threading.Event()
    running = RunningServer(storage, bound("127.0.0.1", 0))
    started = threading.Event()
    running.on_start = started.set
    server = threading.Thread(target=running.run)
    server.start()
    assert started.wait(30)
    client = threading.Thread(target=add, args=(running.url, "slow"))
    try:
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        client.start()
        monkeypatch.setattr(Engine, "waiting_s", STUCK_SECONDS)
        answer = httpx.get(f"{running.url}/readyz")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert "under way for 10 s" in answer.json()["detail"]
        assert httpx.get(f"{running.url}/healthz").status_code == 200
    finally:
        storage.release.set()
        client.join()
        running.stop()
        server.join()


def test_processes_over_one_database_live_and_die_together(postgres_url: str) -> None:
    with served(postgres_url, "--workers", "3") as (process, url):
        add(url, "g")
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) == 3
        os.kill(children[0], signal.SIGKILL)
        assert process.wait(timeout=30) == 1
    with served(postgres_url, "--workers", "2") as (process, url):
        assert httpx.get(f"{url}/groups").json() == ["g"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_the_usual_limit_of_open_files_is_none_of_connections(tmp_path: Path) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/dev/fd").iterdir())) + 40  # Enough to start another process, which inherits the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, files[1]))
    try:
        with served(tmp_path / "store.db") as (_, url), ExitStack() as connections:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            host, _, port = url.removeprefix("http://").partition(":")
            for _ in range(few):
                connections.enter_context(socket.create_connection((host, int(port)), timeout=10))
            last = connections.enter_context(socket.create_connection((host, int(port)), timeout=10))
            last.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert last.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
