"""Any program as a handler: its exit code says what should happen to the task.

The laws of this room: nothing goes through a shell, so data is never taken for a command; a program belongs to its
task: it is ended when the lease is lost, and hears nothing of the signals that the worker gets.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Final

from taskstore.errors import LeaseLostError, TaskStoreError
from taskstore.model import TaskInfo
from taskstore.worker.outcomes import Done, Outcome, Retry
from taskstore.worker.threads import WorkLease

PLACE: Final = "{}"
"""Stands in an argument for the task's data."""
TEMPORARY: Final = 75
"""The exit code for "try again later", which sysexits.h calls EX_TEMPFAIL."""
LOOK_S: Final = 0.2
"""How often it is looked whether the task is still ours."""
GRACE_S: Final = 5.0
"""How long a program may take to end before it is killed."""


class ProgramError(TaskStoreError):
    """The program failed; the message says how, and what it complained about last."""


class Program:
    """A handler that runs a program for each task.

    In its environment the program finds `TASKSTORE_TASK_ID`, `TASKSTORE_TASK_GROUP` and `TASKSTORE_TASK_ATTEMPTS`. It
    gets the data in place of `{}` in its arguments, or else on standard input.

    Args:
        command: The program and its arguments.
        add_to: A group to which a task is added for each line of the program's standard output, in the same update
            that deletes its task; None lets the output through.
    """

    def __init__(self, command: Sequence[str], *, add_to: str | None = None) -> None:
        self._command = list(command)
        self._add_to = add_to
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, task: TaskInfo, lease: WorkLease) -> Outcome:
        """Run the program for a task.

        Raises:
            ProgramError: It failed.
            LeaseLostError: The task is not ours any more; the program was ended.
            OSError: It could not be started.
        """
        takes_argument = any(PLACE in argument for argument in self._command)
        with subprocess.Popen(  # noqa: S603 - to run what the user names is what this is for
            [argument.replace(PLACE, task.data) for argument in self._command],
            stdin=subprocess.DEVNULL if takes_argument else subprocess.PIPE,
            stdout=None if self._add_to is None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_environment(task)},
            start_new_session=True,
        ) as process:
            self._running.add(process)
            try:
                complaints = _Complaints(process.stderr)
                output = _ended(process, None if takes_argument else task.data.encode(), lease)
                return self._outcome(process.returncode, output, complaints.last())
            finally:
                _signal(process, signal.SIGKILL)
                self._running.discard(process)

    def _outcome(self, code: int, output: bytes, complaint: str) -> Outcome:
        if code == TEMPORARY:
            return Retry()
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"ended by {_name(-code)}"
            raise ProgramError(f"{how}: {complaint}" if complaint else how)
        lines = output.decode(errors="replace").splitlines()
        return Done(adds=[TaskInfo(self._add_to, line) for line in lines] if self._add_to else [])

    def kill(self) -> None:
        """End all programs that run, at once."""
        for process in list(self._running):
            _signal(process, signal.SIGKILL)


def _environment(task: TaskInfo) -> dict[str, str]:
    return {
        "TASKSTORE_TASK_ID": str(task.id),
        "TASKSTORE_TASK_GROUP": task.group.replace("\0", "?"),
        "TASKSTORE_TASK_ATTEMPTS": str(task.attempts),
    }


def _ended(process: "subprocess.Popen[bytes]", data: bytes | None, lease: WorkLease) -> bytes:
    """Feed a program, wait until it has ended, and return its output."""
    stderr, process.stderr = process.stderr, None  # Somebody else reads that.
    try:
        while True:
            try:
                output, _ = process.communicate(data, timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                data = None  # It is on its way.
                lease.check()
            else:
                return output or b""
    except LeaseLostError:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        raise
    finally:
        process.stderr = stderr


class _Complaints:
    """Lets through what a program writes to standard error, and keeps the last line."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._last = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stream or ():
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            self._last = line.strip() or self._last

    def last(self) -> str:
        """The last line, once the program has ended."""
        self._reader.join(1.0)  # Unless a child of the program keeps it open.
        return self._last.decode(errors="replace")


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
