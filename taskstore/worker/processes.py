"""A worker of several processes, each with threads, a client and an identity of its own.

The laws of this room: processes are spawned, never forked, so that they inherit neither connections nor locks nor an
identity; the parent never touches the store; a child stops when it is told to, and also when its parent is gone; a
child that was killed is replaced, and what it held comes back when its leases run out.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, TypeAlias

import attrs

from taskstore.client import HTTPClient
from taskstore.errors import TaskStoreError, UsageError
from taskstore.worker.bar import shown
from taskstore.worker.desk import Progress
from taskstore.worker.options import Options
from taskstore.worker.signals import end_at_once
from taskstore.worker.threads import Handler, Threads

Connect: TypeAlias = Callable[[], HTTPClient]

SHOW_S: Final = 0.2
"""How often a child tells how far it is."""
REPLACED_AFTER_S: Final = 1.0
"""Between two starts in the same place passes so much time, so that no child dies over and over in a hurry."""
ENDING_S: Final = 5.0
"""How long a child may take to end after the grace of its handlers, before it is killed."""
STOP: Final = "stop"


@attrs.frozen
class Order:
    """What a child is told when it starts."""

    connect: Connect
    handler: Handler
    options: Options
    until_empty: bool


@attrs.frozen
class Report:
    """What a child tells."""

    progress: Progress
    has_ended: bool = False
    error: BaseException | None = None


@attrs.define(eq=False)
class Child:
    """A process that works, as its parent sees it."""

    process: SpawnProcess
    pipe: Connection
    started_s: float
    last: Report | None = None
    """What it told last; None if it has not begun to work."""

    @property
    def progress(self) -> Progress:
        """How far it was when it was last heard of."""
        return self.last.progress if self.last else Progress()

    @property
    def has_ended(self) -> bool:
        """Whether it has done all it had to."""
        return self.last is not None and self.last.has_ended

    def listen(self) -> None:
        """Take in what it has told."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                self.last = self.pipe.recv()

    def tell(self, what: str) -> None:
        """Tell it something, if it still listens."""
        with contextlib.suppress(OSError):
            self.pipe.send(what)


class Processes:
    """One shift of a worker, in several processes.

    Args:
        connect: Makes a client, in each process.
        handler: What is done with a task.
        options: What the worker was told.
        number: How many processes.
        until_empty: Whether to end once there is no task any more.
    """

    def __init__(
        self, connect: Connect, handler: Handler, options: Options, number: int, *, until_empty: bool = False
    ) -> None:
        self._order = Order(connect, handler, attrs.evolve(options, progress=False), until_empty)
        self._options = options
        self._number = number
        self._context = multiprocessing.get_context("spawn")
        self._children: list[Child] = []
        self._gone = Progress()
        self._error: BaseException | None = None
        self._give_up_s = math.inf
        self._has_to_stop = False
        self._bell, self._button = os.pipe()

    @property
    def progress(self) -> Progress:
        """How far they are together, a moment ago."""
        return sum((child.progress for child in self._children), self._gone)

    def stop(self) -> None:
        """Begin nothing new; may be called from any thread and from signal handlers."""
        self._has_to_stop = True
        with contextlib.suppress(OSError):
            os.write(self._button, b"!")

    def run(self) -> Progress:
        """Work until stopped, or until all is done.

        Raises:
            TaskStoreError: The store cannot be worked with; the message says why.
            UsageError: The handler, or what makes the client, cannot be brought into another process.
        """
        try:
            with shown(self._options.progress) as show:
                for _ in range(self._number):
                    self._children.append(self._start())
                while not all(child.has_ended for child in self._children):
                    self._look()
                    show(self.progress)
            for child in self._children:
                child.process.join(ENDING_S)
        finally:
            for child in self._children:
                child.process.kill()
                child.process.join()
                child.pipe.close()
            os.close(self._bell)
            os.close(self._button)
        if self._error:
            raise self._error
        return self.progress

    def _start(self) -> Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(self._order, theirs), name="taskstore worker")
        try:
            process.start()
        except (AttributeError, TypeError, ValueError, ImportError) as error:  # how pickle complains
            raise UsageError(
                "a worker of several processes needs a handler, a way to make a client, and observers that can be "
                f"imported and pickled: {error}"
            ) from error
        finally:
            theirs.close()
        return Child(process, ours, time.monotonic())

    def _look(self) -> None:
        """Wait for news, and see to what they ask for."""
        alive = [child for child in self._children if not child.has_ended]
        wait([self._bell, *(child.pipe for child in alive), *(child.process.sentinel for child in alive)], 1.0)
        for child in alive:
            has_died = not child.process.is_alive()  # Before it is heard, so that its last words are not missed.
            child.listen()
            if child.last and child.last.error:
                self._error = self._error or child.last.error
                self._has_to_stop = True
            if has_died and not child.has_ended:
                self._replace(child)
        if self._has_to_stop and self._give_up_s == math.inf:
            self._give_up_s = time.monotonic() + self._options.grace_ns / 1e9 + ENDING_S
            for child in self._children:
                child.tell(STOP)
        if time.monotonic() > self._give_up_s:
            for child in self._children:
                child.process.kill()

    def _replace(self, child: Child) -> None:
        code = child.process.exitcode or 0
        if child.last is None and code > 0 and not self._has_to_stop:
            self._error = TaskStoreError(
                f"a worker process ended with exit code {code} before it had begun; it has said why. If it could not "
                "find the handler: a program that starts processes needs `if __name__ == '__main__':` around its start"
            )
            self._has_to_stop = True
        self._gone += attrs.evolve(child.progress, running=0, unstarted=0)
        if self._has_to_stop:
            child.last = Report(Progress(), has_ended=True)
            return
        child.pipe.close()
        time.sleep(max(0.0, child.started_s + REPLACED_AFTER_S - time.monotonic()))
        self._children[self._children.index(child)] = self._start()


def work(order: Order, pipe: Connection) -> None:
    """What a child does."""
    last = Report(Progress())

    def tell(report: Report) -> None:
        nonlocal last
        if report != last or report.progress == Progress():
            last = report
            with contextlib.suppress(OSError):
                pipe.send(report)

    options = attrs.evolve(order.options, progress=lambda progress: tell(Report(progress)))
    with order.connect() as client:
        shift = Threads(client, order.handler, options, until_empty=order.until_empty)
        threading.Thread(target=_obey, args=(pipe, shift), daemon=True).start()
        with _child_signals(shift):
            try:
                tell(Report(shift.run(), has_ended=True))
            except TaskStoreError as error:
                tell(Report(shift.progress, has_ended=True, error=error))


def _obey(pipe: Connection, shift: Threads) -> None:
    """Stop when told to, and when there is nobody any more who could."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    shift.stop()


@contextlib.contextmanager
def _child_signals(shift: Threads) -> Iterator[None]:
    """Leave Ctrl-C to the parent, who hears it as well, and stop on SIGTERM."""
    seen = False

    def handle(number: int, _frame: Any) -> None:
        nonlocal seen
        if seen:
            end_at_once(number)
        seen = True
        shift.stop()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handle)
    yield
