"""Workers and the store that they work on: how they come to a client, and what they do while it is not there."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from taskstore import AsyncHTTPClient, AsyncWorker, HTTPClient, HTTPError, Progress, TaskInfo, UsageError, Worker
from taskstore.testing import LiveServer, live_server

LEASE = timedelta(seconds=30)


def test_a_worker_makes_a_client_and_closes_it(server: LiveServer) -> None:
    made: list[HTTPClient] = []

    def connect() -> HTTPClient:
        made.append(HTTPClient(server.url))
        return made[-1]

    Worker(connect, "g", lambda task: None).run(until_empty=True)
    with pytest.raises(UsageError, match="closed"):
        made[0].groups()


def test_a_worker_with_a_token() -> None:
    with live_server(token="secret") as server:
        with HTTPClient(server.url) as client, pytest.raises(HTTPError, match="401"):
            Worker(client, "g", lambda task: None).run(until_empty=True)
        with HTTPClient(server.url, auth="secret") as client:
            assert Worker(client, "g", lambda task: None).run(until_empty=True) == Progress()


def threads_of_a_worker(url: str) -> Progress:
    with HTTPClient(url) as client:
        worker = Worker(client, "g", lambda task: None, lease=LEASE)
        threading.Timer(0.2, worker.stop).start()
        return worker.run()


def coroutines_of_a_worker(url: str) -> Progress:
    async def handler(task: TaskInfo) -> None:
        pass

    async def main() -> Progress:
        async with AsyncHTTPClient(url) as client:
            worker = AsyncWorker(client, "g", handler, lease=LEASE)
            asyncio.get_running_loop().call_later(0.2, worker.stop)
            return await worker.run()

    return asyncio.run(main())


@pytest.mark.parametrize("colour", [threads_of_a_worker, coroutines_of_a_worker])
def test_a_worker_that_waits_for_a_store_to_appear_stops_when_it_is_told_to(colour: Callable[[str], Progress]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        assert colour(f"http://127.0.0.1:{nobody.getsockname()[1]}") == Progress()
        assert time.monotonic() - begun < 6  # It would try for ten seconds.
