"""Any program as a handler: what it is given, and what its exit code means."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from taskstore import Done, LeaseLostError, Outcome, Retry, TaskInfo
from taskstore.worker.desk import Work
from taskstore.worker.program import Program, ProgramError
from taskstore.worker.threads import WorkLease

LEASE = 30 * 10**9
TASK = TaskInfo("g", "some data; $(touch x) é\n", 1, id=7, attempts=2)


def held() -> WorkLease:
    return WorkLease(Work(TASK, LEASE, 0), lambda: 0)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time; {code}", *arguments]


def test_data_comes_on_standard_input_or_in_place_of_braces_and_never_through_a_shell() -> None:
    echo = Program(python("sys.stdout.write(sys.stdin.read() + '!')"), add_to="next")
    assert echo(TASK, held()) == Done(adds=[TaskInfo("next", "some data; $(touch x) é"), TaskInfo("next", "!")])
    arguments = Program(python("print(sys.argv[1:], sys.stdin.read())", "a={}", "{}{}"), add_to="next")
    data = TASK.data
    assert arguments(TASK, held()) == Done(adds=[TaskInfo("next", f"{[f'a={data}', data + data]} ")])
    assert not Path("x").exists()


def test_the_task_is_told_in_the_environment() -> None:
    names = "('TASKSTORE_TASK_ID', 'TASKSTORE_TASK_GROUP', 'TASKSTORE_TASK_ATTEMPTS')"
    program = Program(python(f"print(*map(os.environ.get, {names}))"), add_to="next")
    assert program(TASK, held()) == Done(adds=[TaskInfo("next", "7 g 2")])


@pytest.mark.parametrize(
    ("code", "outcome"), [("0", Done()), ("75", Retry()), ("1", "exit code 1: why"), ("255", "exit code 255: why")]
)
def test_the_exit_code_decides(code: str, outcome: Outcome | str, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(python(f"print('well', file=sys.stderr); print('why\\n\\n', file=sys.stderr); sys.exit({code})"))
    if isinstance(outcome, str):
        with pytest.raises(ProgramError) as failed:
            program(TASK, held())
        assert str(failed.value) == outcome
    else:
        assert program(TASK, held()) == outcome
    assert capfd.readouterr().err == "well\nwhy\n\n\n"


def test_a_signal_that_ended_it_is_named() -> None:
    with pytest.raises(ProgramError, match=r"^ended by SIGKILL$"):
        Program(python("os.kill(os.getpid(), 9)"))(TASK, held())


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    large = TaskInfo("g", "x" * 1_000_000, 1, id=7)
    assert Program(python("sys.exit(0)"))(large, held()) == Done()


def test_what_it_writes_without_add_to_goes_through(capfd: pytest.CaptureFixture[str]) -> None:
    assert Program(python("print('here')"))(TASK, held()) == Done()
    assert capfd.readouterr().out == "here\n"


@pytest.mark.parametrize("data", ["\0", "x" * 200_000])
def test_data_that_no_argument_can_carry_is_a_failure(data: str) -> None:
    with pytest.raises((ValueError, OSError)):
        Program(python("", "{}"))(TaskInfo("g", data, 1, id=7), held())


def test_it_is_ended_with_all_it_has_started_when_the_lease_is_lost(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"p = os.fork(); open({str(pid_file)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
    lease = held()
    threading.Timer(0.7, lease.lost.set).start()
    with pytest.raises(LeaseLostError):
        Program(python(code))(TASK, lease)
    for pid in map(int, pid_file.read_text().split()):
        assert not is_alive(pid)


def is_alive(process: int) -> bool:
    limit = time.monotonic() + 5
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{process}/stat").read_text().split()[2] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.01)
    return True


def test_it_does_not_hear_the_signals_of_the_terminal() -> None:
    program = Program(python("time.sleep(0.5); print(os.getpgid(0))"), add_to="next")
    outcome = program(TASK, held())
    assert isinstance(outcome, Done)
    assert outcome.adds[0].data != str(os.getpgid(0))


def test_all_can_be_killed_at_once() -> None:
    program = Program(python("time.sleep(60)"))
    threading.Timer(0.5, program.kill).start()
    with pytest.raises(ProgramError, match=signal.SIGKILL.name):
        program(TASK, held())
