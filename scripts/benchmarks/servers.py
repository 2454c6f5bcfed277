"""Servers to be measured, each a process of its own: ours, and one that answers a constant."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskstore.server.run import bound, collect_seldom, front


class Constant:
    """An ASGI application that reads a request and answers what a claim answers, without doing anything."""

    body = (
        b'{"tasks":[{"id":1234567,"group":"bench","data":"' + b"x" * 150 + b'",'
        b'"duration":1795506139448107861,"ownerid":4242}],"error":null}'
    )
    headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


@contextmanager
def store(path: Path | str) -> Iterator[tuple[str, int]]:
    """`taskstore serve`: its URL and process id."""
    with _running([sys.executable, "-m", "taskstore", "serve", "--port", "0", "--store", str(path)]) as server:
        yield server


@contextmanager
def constant() -> Iterator[str]:
    """The constant server, run by the same HTTP front: its URL."""
    with _running([sys.executable, __file__]) as (url, _):
        yield url


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[str, int]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Run the constant server."""
    import uvicorn

    listener = bound("127.0.0.1", 0)
    listener.listen()
    print(f"serving http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    collect_seldom()
    uvicorn.Server(front(Constant())).run(sockets=[listener])


if __name__ == "__main__":
    main()
