"""Workers of several processes: killed, paused, stopped; identities of their own; nothing lost and nothing twice."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from taskstore import ID, Done, HTTPClient, NotSentError, Progress, TaskInfo, TaskStoreError, UsageError, Worker
from taskstore.testing import LiveServer, SettableClock, live_server
from taskstore.worker.processes import Processes

PATIENCE_S = 30.0
LEASE = timedelta(seconds=1)


class RunningClock(SettableClock):
    """A clock that nobody has to set."""

    def __call__(self) -> int:
        return time.time_ns()


@pytest.fixture
def running() -> Iterator[LiveServer]:
    with live_server(clock=RunningClock()) as server:
        yield server


@pytest.fixture
def client(running: LiveServer) -> Iterator[HTTPClient]:
    with HTTPClient(running.url) as client:
        yield client


def until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)


def data(client: HTTPClient, group: str) -> list[str]:
    return [task.data for task in client.group(group, owned=True)]


# Handlers, which other processes import


def follow(task: TaskInfo) -> Done:
    return Done(adds=[TaskInfo("next", f"{task.data} {os.getpid()} {ID()} {task.owner_id}")])


def slowly(task: TaskInfo) -> Done:
    time.sleep(0.02)
    return follow(task)


def hang_first(url: str, task: TaskInfo) -> Done:
    """The first time tell one's process and hang until somebody does something about it."""
    if task.attempts == 1:
        with HTTPClient(url) as client:
            client.update(adds=[TaskInfo("hanging", str(os.getpid()))])
        time.sleep(1.5)
    return follow(task)


def fail(task: TaskInfo) -> NoReturn:
    raise ZeroDivisionError


def gone() -> HTTPClient:
    return HTTPClient("http://127.0.0.1:1", retry=None)


def broken() -> HTTPClient:
    sys.exit(3)


def work(running: LiveServer, handler: Any, *, processes: int = 2, **options: Any) -> Worker:
    return Worker(functools.partial(HTTPClient, running.url), "g", handler, processes=processes, **options)


# Identities


def test_processes_threads_and_forks_have_the_identities_they_should(running: LiveServer, client: HTTPClient) -> None:
    client.update(adds=[TaskInfo("g", str(number)) for number in range(200)])
    progress = work(running, slowly, concurrency=2).run(until_empty=True)
    assert progress.done == 200
    seen = [line.split() for line in data(client, "next")]
    assert sorted(int(number) for number, *_ in seen) == list(range(200))
    assert {owner for *_, owner in seen} == {identity for _, _, identity, _ in seen}
    identities = {process: identity for _, process, identity, _ in seen}
    assert len(identities) == len(set(identities.values())) == 2
    assert str(os.getpid()) not in identities
    assert str(ID()) not in identities.values()


# What may happen to a process


def test_what_a_killed_process_held_is_done_once_by_others(running: LiveServer, client: HTTPClient) -> None:
    client.update(adds=[TaskInfo("g", str(number)) for number in range(400)])
    worker = work(running, slowly, processes=3, lease=LEASE, concurrency=2)
    kills = 0

    def kill() -> None:
        nonlocal kills
        for place in (0, 1, 2, 0):
            before = len(data(client, "next"))
            until(lambda before=before: len(data(client, "next")) > before + 40)  # type: ignore[misc] # mypy cannot infer its default
            assert isinstance(worker._shift, Processes)
            worker._shift._children[place].process.kill()
            kills += 1

    killer = threading.Thread(target=kill)
    killer.start()
    progress = worker.run(until_empty=True)
    killer.join()
    assert kills == 4
    numbers = Counter(int(line.split()[0]) for line in data(client, "next"))
    assert numbers == Counter(range(400))
    assert progress.running == 0
    assert client.groups() == ["next"]


def test_a_process_that_is_paused_past_its_lease_commits_nothing(running: LiveServer, client: HTTPClient) -> None:
    client.update(adds=[TaskInfo("g", "work")])
    worker = work(running, functools.partial(hang_first, running.url), lease=LEASE)
    results: list[Progress] = []
    thread = threading.Thread(target=lambda: results.append(worker.run()))
    thread.start()
    until(lambda: data(client, "hanging"))
    process = int(data(client, "hanging")[0])
    os.kill(process, signal.SIGSTOP)
    until(lambda: data(client, "next"))
    [line] = data(client, "next")
    assert int(line.split()[1]) != process
    os.kill(process, signal.SIGCONT)
    time.sleep(2.0)  # Now its handler ends, and what it returns is dropped.
    assert data(client, "next") == [line]
    worker.stop()
    thread.join(PATIENCE_S)
    [progress] = results
    assert (progress.done, progress.lost) == (1, 1)


def test_a_parent_that_is_gone_leaves_no_children_behind(running: LiveServer, client: HTTPClient) -> None:
    with program(running.url, "slowly") as process:
        client.update(adds=[TaskInfo("g")])
        until(lambda: data(client, "next"))
        child = int(data(client, "next")[0].split()[1])
        process.kill()
    until(lambda: not is_alive(child))


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - nothing to gain
            return file.read().split()[2] != "Z"
    except OSError:
        return False


# The end


PROGRAM = """
import functools, sys
sys.path[:0] = {path!r}
import test_processes
from taskstore import HTTPClient, Worker

if __name__ == "__main__":
    connect = functools.partial(HTTPClient, {url!r})
    worker = Worker(connect, "g", test_processes.{handler}, processes={processes}, grace=60 * 10**9)
    stop = worker.stop
    worker.stop = lambda: (stop(), print("stopping", flush=True))
    print("begun", flush=True)
    print(worker.run().done, flush=True)
"""


def program(url: str, handler: str, processes: int = 1) -> "subprocess.Popen[str]":
    code = PROGRAM.format(path=[os.path.dirname(__file__)], url=url, handler=handler, processes=processes)  # noqa: PTH120
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert started.stdout
    assert started.stdout.readline() == "begun\n"
    return started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_signal_lets_running_handlers_finish(
    running: LiveServer, client: HTTPClient, number: int, processes: int
) -> None:
    with program(running.url, "slowly", processes) as process:
        client.update(adds=[TaskInfo("g", str(number)) for number in range(300)])
        until(lambda: len(data(client, "next")) > 5)
        os.killpg(process.pid, number)  # As a terminal or a service manager does it: all of them.
        assert process.stdout
        assert process.stdout.readline() == "stopping\n"
        done = int(process.stdout.read())
    assert process.returncode == 0
    assert done == len(data(client, "next")) > 5
    left = client.group("g")
    assert len(left) == 300 - done
    assert {task.attempts for task in left} == {0}


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_second_signal_is_immediate(
    running: LiveServer, client: HTTPClient, processes: int, number: int, code: int
) -> None:
    with program(running.url, "hang", processes) as process:
        client.update(adds=[TaskInfo("g", "endless")])
        assert process.stdout
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"  # Until then the second signal could be one with the first.
        assert process.poll() is None
        process.send_signal(number)
        process.wait(PATIENCE_S)  # Both the handler and the grace last longer.
    assert process.returncode == code
    assert client.group("g") == []


def hang(task: TaskInfo) -> None:
    print("hanging", flush=True)
    time.sleep(60)


def test_stopping_from_a_thread(running: LiveServer) -> None:
    worker = work(running, follow)
    threading.Timer(0.5, worker.stop).start()
    assert worker.run() == Progress()


# What cannot be


def test_an_error_of_a_child_is_raised_in_the_parent() -> None:
    with pytest.raises(NotSentError):
        Worker(gone, "g", follow, processes=2, lease=LEASE).run()


def test_a_child_that_never_begins_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskStoreError, match="exit code 3 before it had begun"):
        Worker(broken, "g", follow, processes=1).run()


def test_what_other_processes_cannot_import_is_refused(running: LiveServer) -> None:
    with pytest.raises(UsageError, match="imported and pickled"):
        work(running, lambda task: None).run()


def test_failures_are_dealt_with_as_in_threads(running: LiveServer, client: HTTPClient) -> None:
    client.update(adds=[TaskInfo("g")])
    shown: list[Progress] = []
    progress = work(running, fail, max_attempts=1, progress=shown.append).run(until_empty=True)
    assert progress.quarantined == 1
    assert shown[-1] == progress
