"""What our server has beyond the original protocol, over HTTP: waits, batches, steps, keys, attempts, stats."""

import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskstore.testing import LiveServer, live_server

SECOND = 10**9
HOUR = 3600 * SECOND
KEY = "0123456789abcdef"


def post(server: LiveServer, path: str, content: dict[str, Any], key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return httpx.post(server.url + path, json={"clientid": 1000, **content}, headers=headers, timeout=30)


def add(server: LiveServer, group: str, *data: str, delay: int = 0) -> list[dict[str, Any]]:
    adds = [{"group": group, "data": each, "duration": -delay} for each in data]
    tasks: list[dict[str, Any]] = post(server, "/update", {"adds": adds}).json()["tasks"]
    return tasks


def claim(server: LiveServer, group: str, **more: Any) -> list[str]:
    answer = post(server, "/claim", {"group": group, "duration": HOUR, **more}).json()
    assert answer["error"] is None
    return [task["data"] for task in answer["tasks"]]


class Waiting:
    """Claims that wait, each in a thread, and that are certain to have reached the server."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.pool = ThreadPoolExecutor(20)

    def claim(self, group: str, **more: Any) -> "Future[list[str]]":
        before = self.parked()
        future = self.pool.submit(claim, self.server, group, wait=HOUR, **more)
        while self.parked() == before and not future.done():
            httpx.get(f"{self.server.url}/healthz")
        return future

    def parked(self) -> int:
        return self.server.waiting


def test_a_claim_that_waits_is_answered_by_an_add(server: LiveServer) -> None:
    waiting = Waiting(server).claim("g")
    assert not waiting.done()
    add(server, "g", "x")
    assert waiting.result(30) == ["x"]


def test_a_claim_that_waits_is_answered_when_a_task_is_given_back(server: LiveServer) -> None:
    add(server, "g", "x")
    [task] = post(server, "/claim", {"group": "g", "duration": HOUR}).json()["tasks"]
    waiting = Waiting(server).claim("g")
    post(server, "/update", {"updates": [{"id": task["id"], "data": "back"}]})
    assert waiting.result(30) == ["back"]


def test_a_claim_that_waits_is_answered_when_a_lease_runs_out_or_a_delay_is_over(server: LiveServer) -> None:
    add(server, "g", "leased")
    claim(server, "g")
    add(server, "h", "delayed", delay=HOUR)
    waiting = Waiting(server)
    futures = [waiting.claim("g"), waiting.claim("h")]
    server.clock.advance(HOUR)
    assert [future.result(30) for future in futures] == [["leased"], ["delayed"]]


def test_a_lease_that_runs_out_by_itself_wakes_who_waits(server: LiveServer, tmp_path: Path) -> None:
    add(server, "g", "x")
    post(server, "/claim", {"group": "g", "duration": SECOND // 10})
    waiting = Waiting(server).claim("g")
    server.clock.advance(SECOND // 10)
    assert waiting.result(30) == ["x"]


def test_a_claim_that_waits_in_vain_is_answered_with_nothing(server: LiveServer) -> None:
    assert claim(server, "g", wait=SECOND // 100) == []


def test_one_task_is_given_to_one_of_many_that_wait_and_the_others_wait_on(server: LiveServer) -> None:
    waiting = Waiting(server)
    futures = [waiting.claim("g") for _ in range(10)]
    add(server, "g", "z")
    while not any(future.done() for future in futures):
        httpx.get(f"{server.url}/healthz")
    assert sum(future.done() for future in futures) == 1
    add(server, "g", *"abcdefghi")
    assert sorted(future.result(30)[0] for future in futures) == [*"abcdefghi", "z"]


def test_many_tasks_that_become_available_together_are_all_given_out(server: LiveServer) -> None:
    add(server, "g", *map(str, range(20)), delay=HOUR)
    waiting = Waiting(server)
    futures = [waiting.claim("g") for _ in range(20)]
    server.clock.advance(HOUR)
    assert sorted(int(future.result(30)[0]) for future in futures) == list(range(20))


def test_who_waits_for_several_groups_gets_from_any(server: LiveServer) -> None:
    waiting = Waiting(server).pool.submit(
        lambda: post(server, "/claim", {"groups": ["g", "h"], "duration": HOUR, "wait": HOUR}).json()["tasks"]
    )
    while not server.waiting:
        httpx.get(f"{server.url}/healthz")
    add(server, "h", "x")
    assert [task["data"] for task in waiting.result(30)] == ["x"]


def test_who_hangs_up_takes_no_task(server: LiveServer) -> None:
    address = httpx.URL(server.url)
    body = json.dumps({"clientid": 5, "group": "g", "duration": HOUR, "wait": HOUR}).encode()
    with socket.create_connection((address.host, address.port or 0), timeout=30) as connection:
        connection.sendall(b"POST /claim HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        while not server.waiting:
            httpx.get(f"{server.url}/healthz")
    while server.waiting:
        httpx.get(f"{server.url}/healthz")
    add(server, "g", "x")
    assert claim(server, "g") == ["x"]


def test_a_server_that_stops_lets_nobody_wait() -> None:
    with live_server() as server:
        waiting = Waiting(server).claim("g")
    assert waiting.result(30) == []


def test_a_step_updates_and_claims_in_one(server: LiveServer) -> None:
    add(server, "g", "one", "two")
    [task] = post(server, "/claim", {"group": "g", "duration": HOUR}).json()["tasks"]
    answer = post(
        server,
        "/step",
        {
            "update": {"deletes": [task["id"]], "adds": [{"group": "out", "data": task["data"]}]},
            "claim": {"group": "g", "duration": HOUR},
        },
    ).json()
    assert answer["error"] is None
    assert sorted([task["data"], answer["tasks"][0]["data"]]) == ["one", "two"]
    assert [each["data"] for each in answer["updated"]] == [task["data"]]
    assert answer["tasks"][0]["attempts"] == 1


def test_the_update_of_a_step_that_waits_is_made_at_once(server: LiveServer) -> None:
    step = {"update": {"adds": [{"group": "out"}]}, "claim": {"group": "g", "duration": HOUR, "wait": HOUR}}
    waiting = Waiting(server).pool.submit(lambda: post(server, "/step", step, KEY))
    while not server.waiting:
        httpx.get(f"{server.url}/healthz")
    assert claim(server, "out") == [""]
    add(server, "g", "x")
    answer = waiting.result(30).json()
    assert [task["data"] for task in answer["tasks"]] == ["x"]
    assert [task["group"] for task in answer["updated"]] == ["out"]
    again = post(server, "/step", step, KEY)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == answer


def test_an_empty_step_does_nothing(server: LiveServer) -> None:
    assert post(server, "/step", {}).json() == {"tasks": [], "updated": [], "error": None}
    assert post(server, "/step", {"update": None, "claim": None}).json() == {"tasks": [], "updated": [], "error": None}


@pytest.mark.parametrize(
    "content",
    [
        {"claim": {"duration": 1}},
        {"claim": {"group": "g", "groups": ["g"], "duration": 1}},
        {"claim": {"group": "g"}},
        {"claim": {"groups": [], "duration": 1}},
        {"claim": {"group": "g", "duration": 1, "limit": 0}},
        {"claim": {"group": "g", "duration": 1, "wait": -1}},
        {"claim": {"group": "g", "duration": 1, "wait": HOUR + 1}},
        {"update": {"adds": [{"group": ""}]}},
        {"update": []},
    ],
)  # fmt: skip
def test_a_step_that_does_not_fit_is_refused(server: LiveServer, content: dict[str, Any]) -> None:
    assert post(server, "/step", content).status_code == 422


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_repeated_key_repeats_the_answer_and_not_the_effect_even_after_a_restart(kind: str, tmp_path: Path) -> None:
    store = str(tmp_path / "store.db") if kind == "file" else ":memory:"
    content = {"adds": [{"group": "g", "data": "once"}]}
    with live_server(store) as server:
        clock = server.clock
        first = post(server, "/update", content, KEY)
        assert first.headers["idempotency-replayed"] == "false"
        again = post(server, "/update", content, f'"{KEY}"')
        assert (again.headers["idempotency-replayed"], again.json()) == ("true", first.json())
        assert post(server, "/update", {"adds": [{"group": "g", "data": "other"}]}, KEY).status_code == 422
        assert post(server, "/claim", {"group": "g", "duration": 1}, KEY).status_code == 422
        other = post(server, "/update", {**content, "clientid": 2000}, KEY)
        assert other.headers["idempotency-replayed"] == "false"
    if kind == "file":
        with live_server(store, clock=clock) as server:
            assert post(server, "/update", content, KEY).json() == first.json()
            assert len(httpx.get(f"{server.url}/group/g").json()) == 2


def test_a_key_is_forgotten_after_a_quarter_of_an_hour(server: LiveServer) -> None:
    content = {"adds": [{"group": "g"}]}
    post(server, "/update", content, KEY)
    server.clock.advance(15 * 60 * SECOND - 1)
    assert post(server, "/update", content, KEY).headers["idempotency-replayed"] == "true"
    server.clock.advance(1)
    assert post(server, "/update", content, KEY).headers["idempotency-replayed"] == "false"


def test_many_at_once_with_the_same_key_have_one_effect(server: LiveServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(server, "/update", {"adds": [{"group": "g"}]}, KEY).json(), range(40)))
    assert all(answer == answers[0] for answer in answers)
    assert len(httpx.get(f"{server.url}/group/g").json()) == 1


@pytest.mark.parametrize("key", ["short", "x" * 65, "0123456789abcde!", '"0123456789abcdef', ""])
def test_a_key_that_is_none_is_refused(server: LiveServer, key: str) -> None:
    assert post(server, "/update", {"adds": [{"group": "g"}]}, key).status_code == 422
    assert httpx.get(f"{server.url}/groups").json() == []


def test_stats_count_group_by_group(server: LiveServer) -> None:
    add(server, "a/1", "x", "y")
    add(server, "a/2", "z", delay=HOUR)
    add(server, "b", "w")
    server.clock.advance(5)
    claim(server, "a/1")
    stats = httpx.get(f"{server.url}/stats", params={"prefix": "a/"}).json()
    assert stats["groups"] == [
        {"group": "a/1", "available": 1, "owned": 1, "delayed": 0, "oldest_age": 5},
        {"group": "a/2", "available": 0, "owned": 0, "delayed": 1, "oldest_age": 0},
    ]
    assert stats["totals"] == {"groups": 3, "available": 2, "owned": 1, "delayed": 1}
    assert stats["counters"] == {"adds": 4, "claims": 1, "updates": 0, "deletes": 0, "conflicts": 0, "expired": 0}
    assert [each["group"] for each in httpx.get(f"{server.url}/stats", params={"limit": 1}).json()["groups"]] == ["a/1"]
    everything = httpx.get(f"{server.url}/stats").json()["groups"]
    assert [each["group"] for each in everything] == ["a/1", "a/2", "b"]
    assert httpx.get(f"{server.url}/stats", params={"prefix": "b"}).json()["groups"][0]["group"] == "b"


def test_counters_count_what_was_done(server: LiveServer) -> None:
    [task] = add(server, "g", "x")
    [task] = post(server, "/update", {"updates": [{"id": task["id"]}]}).json()["tasks"]
    claim(server, "g")
    server.clock.advance(HOUR)
    [task] = post(server, "/claim", {"group": "g", "duration": HOUR}).json()["tasks"]
    post(server, "/update", {"deletes": [99999]})
    post(server, "/step", {"update": {"deletes": [task["id"], task["id"]]}})
    counters = httpx.get(f"{server.url}/stats").json()["counters"]
    assert counters == {"adds": 1, "claims": 2, "updates": 1, "deletes": 1, "conflicts": 1, "expired": 1}


def test_thousands_can_wait_without_a_thread_each(server: LiveServer) -> None:
    address = httpx.URL(server.url)
    body = json.dumps({"clientid": 5, "group": "g", "duration": HOUR, "wait": HOUR}).encode()
    threads = threading.active_count()
    connections = [socket.create_connection((address.host, address.port or 0), timeout=30) for _ in range(400)]
    try:
        for connection in connections:
            connection.sendall(b"POST /claim HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        while server.waiting < len(connections):
            httpx.get(f"{server.url}/healthz")
        assert threading.active_count() <= threads + 1
    finally:
        for connection in connections:
            connection.close()
