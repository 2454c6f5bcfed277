"""A bad network and the death of whoever is on it break no promise: the short form of scripts/network.

A checker counts only after it has caught planted bugs. There are some here for each side of the network: the client,
the messages themselves, the server, and the workers.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from trials.network import Summary, Trial
from trials.proxy import WEIGHTS, Fault, Link, Message, Proxy
from trials.relay import Relay

from taskstore import AsyncHTTPClient, AsyncWorker, HTTPClient, Worker, transport
from taskstore.errors import NotSentError
from taskstore.exchange import Exchange
from taskstore.testing import LiveServer, live_server
from taskstore.wire import Call


def clients(directory: Path, seed: int = 1, *, calls: int = 900, kills: int = 1, **options: Any) -> Summary:
    return asyncio.run(Trial(directory, seed, **options).run(calls, kills, lambda summary: None))


def relayed(directory: Path, *, kills: int, **options: Any) -> list[str]:
    return asyncio.run(Relay(directory, 1, **options).run(kills, lambda summary: None)).violations


def test_what_clients_are_told_through_a_bad_network_is_true(tmp_path: Path) -> None:
    summary = clients(tmp_path)
    assert summary.violations == []
    assert summary.kills == 1
    assert summary.calls >= 900
    assert summary.acknowledged > summary.calls / 2
    assert {fault for fault, weight in WEIGHTS.items() if weight > 1} < set(summary.faults)
    assert summary.faults[Fault.NONE] < 0.85 * summary.faults.total()


def test_what_workers_had_who_died_is_done_once_by_others(tmp_path: Path) -> None:
    assert relayed(tmp_path, kills=2) == []


class LosesFirst(Proxy):
    """A network that loses the first request that is to delete something without a claim, and nothing else."""

    async def _carry(self, request: Message, link: Link) -> bool:
        is_deletion = b'"deletes":[' in request.body and b'"deletes":[]' not in request.body
        if is_deletion and not self.counts[Fault.LOST_BEFORE]:
            self.counts[Fault.LOST_BEFORE] += 1
            return False
        return await super()._carry(request, link)


class DelaysAdds(Proxy):
    """A network that delays what is to be added for longer than a claim waits."""

    async def _carry(self, request: Message, link: Link) -> bool:
        await asyncio.sleep(0.5 if b'"adds":[{' in request.body else 0)
        return await super()._carry(request, link)


@pytest.mark.parametrize("network", [LosesFirst, DelaysAdds])
@pytest.mark.parametrize("colour", ["blocking", "async"])
def test_a_worker_that_ends_leaves_nothing_behind(colour: str, network: type[Proxy]) -> None:
    async def work(server: LiveServer) -> None:
        proxy = network(int(server.url.rpartition(":")[2]), random.Random(1), 0).start()
        url = f"http://127.0.0.1:{proxy.port}"
        client, async_client = HTTPClient(url), AsyncHTTPClient(url)
        lease = timedelta(seconds=0.6)  # A claim then waits for a part of it, and less than what is added is delayed.
        worker = Worker(client, "g", lambda task: None, lease=lease)
        async_worker = AsyncWorker(async_client, "g", lambda task: asyncio.sleep(0), lease=lease)
        running = asyncio.to_thread(worker.run) if colour == "blocking" else async_worker.run()
        ending = asyncio.create_task(running)
        while not server.waiting:  # noqa: ASYNC110 - it is in another thread
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)  # until it has had an answer: one that has had none ends in another way
        while not server.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        (worker if colour == "blocking" else async_worker).stop()
        await ending
        client.close()
        await async_client.aclose()
        await proxy.stop()

    with live_server() as server, HTTPClient(server.url) as client:
        asyncio.run(work(server))
        assert client.groups() == []


# Planted in this process: the client, and the network


def a_new_key_for_each_attempt(patch: pytest.MonkeyPatch) -> None:
    honest = transport._Sender._exchange
    keys = itertools.count(10**20)

    def exchange(self: transport.Sender, call: Call[Any], timeouts: dict[str, float | None]) -> Exchange:
        if call.key:
            headers = call.request["headers"] | {"Idempotency-Key": str(next(keys))}
            request = {**call.request, "headers": headers}
            call = attrs.evolve(call, request=request, key=headers["Idempotency-Key"])
        return honest(self, call, timeouts)

    patch.setattr(transport._Sender, "_exchange", exchange)


def a_lost_answer_is_taken_for_a_lost_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "unanswered", lambda self, error: NotSentError(str(error)))


def duplicates_have_no_key(patch: pytest.MonkeyPatch) -> None:
    def copy(self: Proxy, request: Message) -> Message:
        lines = request.head.split(b"\r\n")
        return Message(b"\r\n".join(each for each in lines if b"idempotency" not in each.lower()), request.body)

    patch.setattr(Proxy, "_copy", copy)


@pytest.mark.parametrize(
    ("plant", "calls"),
    [
        (a_new_key_for_each_attempt, 600),
        (a_lost_answer_is_taken_for_a_lost_request, 3000),  # It shows where a call is not repeated, and so more rarely.
        (duplicates_have_no_key, 600),
    ],
)
def test_a_bug_planted_in_the_client_or_the_network_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert clients(tmp_path, calls=calls, kills=0).violations


# Planted in another process

SERVER = """
from taskstore.cli import main
from taskstore.server import rules, sqlite
{plant}
main()
"""
NO_RECORDS = "rules.record = lambda *_: None"
NO_RECORDS_OF_AN_EARLIER_LIFE = """
import time
started, honest = time.time_ns(), sqlite.SqliteStorage._records
def records(self, keys, now):
    return {name: each for name, each in honest(self, keys, now).items() if each.now > started}
sqlite.SqliteStorage._records = records
"""
LONG_LEASES = """
import msgspec
honest = rules.leased
rules.leased = lambda task, claim, id, now: honest(task, claim, id, now + 4 * 10**9)
"""


@pytest.mark.parametrize(
    ("plant", "kills"),
    [(NO_RECORDS, 0), (NO_RECORDS_OF_AN_EARLIER_LIFE, 4)],
    ids=["keys are forgotten", "keys are forgotten by a server that dies"],
)
def test_a_bug_planted_in_the_server_is_caught(plant: str, kills: int, tmp_path: Path) -> None:
    program = "-c", SERVER.format(plant=plant)
    assert clients(tmp_path, calls=800, kills=kills, server=program).violations


WORKER = """
import functools, sys, time
from taskstore import Done, HTTPClient, TaskInfo, Worker
from trials import relay

def following(task):
    return TaskInfo(relay.GROUPS[relay.GROUPS.index(task.group) + 1], task.data)

def slowly(client, task):
    time.sleep(0.2)
    return Done(adds=[following(task)])

def in_two_steps(client, task):
    client.update(deletes=[task])
    time.sleep(0.05)
    client.update(adds=[following(task)])

with HTTPClient(sys.argv[1], client_id=int(sys.argv[2])) as client:
    Worker(client, relay.GROUPS[:-1], functools.partial({handler}, client), lease=10**9, concurrency=4).run()
"""


def test_a_lease_that_does_not_end_is_caught(tmp_path: Path) -> None:
    programs = {"server": ("-c", SERVER.format(plant=LONG_LEASES)), "worker": ("-c", WORKER.format(handler="slowly"))}
    assert any("stuck" in each for each in relayed(tmp_path, kills=2, slack_s=1.0, faults=0, **programs))


def test_a_worker_that_moves_a_task_in_two_steps_is_caught(tmp_path: Path) -> None:
    program = "-c", WORKER.format(handler="in_two_steps")
    assert any("is lost" in each for each in relayed(tmp_path, kills=2, worker=program, faults=0))
