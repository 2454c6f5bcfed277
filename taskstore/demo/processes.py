"""The demo's processes: a server of its own, and the workers.

The laws of this room: a process that was started here ends here, however the demo ends; what it writes to standard
error is kept, so that a failure can be told in one line; it imports what this process would import.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from taskstore.demo.groups import TOKEN, Order
from taskstore.errors import StoreError

_PATIENCE_S: Final = 5
"""How long a process may take to end before it is killed."""


def _started(arguments: Sequence[str], complaints: Path, token: str | None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != TOKEN}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if token:
        environment[TOKEN] = token
    with complaints.open("wb") as stderr:
        return subprocess.Popen(  # noqa: S603 - this very Python, with arguments made here
            # -P: modules are those of this process, not files of the current directory that have the same names.
            [sys.executable, "-P", "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
            # Ctrl-C is for the coordinator; the others end when it ends them.
            start_new_session=True,
        )


def _ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _last_line(complaints: Path) -> str:
    lines = complaints.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


@contextmanager
def embedded_server(folder: Path) -> Iterator[str]:
    """A server in a process of its own, storing in `folder`; gives its address.

    Raises:
        StoreError: it does not start.
    """
    complaints = folder / "server.log"
    arguments = ["taskstore", "serve", "--port", "0", "--store", str(folder / "taskstore.db")]
    server = _started(arguments, complaints, token=None)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("serving "):
            server.wait(_PATIENCE_S)
            raise StoreError(f"the demo's own server did not start: {_last_line(complaints)}")
        yield line.removeprefix("serving ").strip()
    finally:
        _ended(server)


class Crew:
    """The workers, by their numbers."""

    def __init__(self, orders: Mapping[int, Order], folder: Path, token: str | None) -> None:
        self._complaints: Final = {number: folder / f"worker-{number}.log" for number in orders}
        self._processes: Final[dict[int, subprocess.Popen[str]]] = {}
        for number, order in orders.items():
            arguments = ["taskstore.demo.worker", order.written()]
            self._processes[number] = _started(arguments, self._complaints[number], token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            _ended(process)

    def alive(self) -> set[int]:
        """The workers that still run."""
        return {number for number, process in self._processes.items() if process.poll() is None}

    def kill(self, number: int) -> None:
        """Kill a worker so that it can do nothing more, not even say goodbye, and wait until it is dead."""
        self._processes[number].kill()
        self._processes[number].wait()

    def ending(self, number: int) -> str:
        """Why a worker has ended: by a signal, or for what it wrote to standard error."""
        code = self._processes[number].returncode
        return f"signal {-code}" if code < 0 else _last_line(self._complaints[number])

    def wait(self) -> None:
        """Wait until all workers have ended by themselves, but not long."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
