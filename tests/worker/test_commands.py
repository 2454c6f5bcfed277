"""The everyday verbs of the command line: add, list, stats, work, requeue."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from taskstore import HTTPClient, TaskInfo, cli
from taskstore.testing import LiveServer, live_server

PATIENCE_S = 30
VERBS = ["add", "list", "stats", "work", "requeue"]


@pytest.fixture
def client(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPClient]:
    monkeypatch.setenv("TASKSTORE_URL", server.url)
    with HTTPClient() as client:
        yield client


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What a command prints that goes well."""

    def run(*arguments: str, code: int = 0) -> list[str]:
        assert cli.main(arguments) == code
        return capfd.readouterr().out.splitlines()

    return run


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", f"import os, sys; {code}"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_terminal_and_gives_examples(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert f"  taskstore {verb} " in text.partition("examples:\n")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_add(client: HTTPClient, said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    [one, two] = map(int, said("add", "g", "a", "b"))
    assert [task and task.data for task in client.tasks(one, two)] == ["a", "b"]
    said("add", "g")
    said("add", "g", "--", "-dashes")
    assert sorted(task.data for task in client.group("g")) == ["", "-dashes", "a", "b"]
    said("add", "--in", "60", "later", "x")
    assert client.group("later") == []
    lines = io.TextIOWrapper(io.BytesIO("one\r\ntwo é\n\nlast".encode()))
    monkeypatch.setattr(sys, "stdin", lines)
    assert len(said("add", "lines", "-")) == 4
    assert sorted(task.data for task in client.group("lines")) == ["", "last", "one", "two é"]


def test_many_lines_are_added_in_several_updates(
    client: HTTPClient, said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n" * 2500)))
    assert len(said("add", "g", "-")) == 2500
    assert len(client.group("g")) == 2500


def test_list(client: HTTPClient, said: Callable[..., list[str]]) -> None:
    client.update(adds=[TaskInfo("b\x1b[31m", "x"), TaskInfo("g", "line\nbreak\ttab \x1b é")])
    claimed = client.claim("g", timedelta(seconds=30))
    assert claimed
    assert said("list") == ["b\\x1b[31m", "g"]
    assert said("list", "--json") == ['"b\\u001b[31m"', '"g"']
    [line] = said("list", "g")
    assert re.fullmatch(rf"{claimed.id}\t1\t20\S+\+00:00\tline\\nbreak\ttab \\x1b é", line)
    assert said("list", "--available", "g") == []
    [line] = said("list", "--json", "g")
    assert json.loads(line)["data"] == claimed.data
    client.update(adds=[TaskInfo("many")] * 120)
    assert (len(said("list", "many")), len(said("list", "--limit", "0", "many"))) == (100, 120)


def test_stats(client: HTTPClient, said: Callable[..., list[str]]) -> None:
    client.update(adds=[TaskInfo("g"), TaskInfo("g"), TaskInfo("h", timespec=timedelta(hours=1))])
    client.claim("g", timedelta(seconds=30))
    lines = [line.split() for line in said("stats")]
    assert lines[0] == ["AVAILABLE", "OWNED", "DELAYED", "OLDEST", "GROUP"]
    assert lines[1:] == [
        ["1", "1", "0", "0:00:00", "g"],
        ["0", "0", "1", "-", "h"],
        ["1", "1", "1", "in", "all,", "2", "groups"],
    ]
    assert len(said("stats", "h")) == 3
    [line] = said("stats", "--json")
    assert json.loads(line)["totals"] == {"groups": 2, "available": 1, "owned": 1, "delayed": 1}


def test_work_and_requeue(
    client: HTTPClient, said: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    said("add", "g", "1", "2", "bad")
    fails_once = python("data = sys.stdin.read(); print(data * 2); sys.exit(data == 'bad' and 'too bad')")
    assert cli.main(["work", "--until-empty", "--max-attempts", "1", "--add-to", "next", "g", *fails_once]) == 1
    errors = capfd.readouterr().err.splitlines()
    assert re.fullmatch(
        r"taskstore: task \d+ of group 'g' is put aside: ProgramError: exit code 1: too bad", errors[-2]
    )
    assert (errors[-3], errors[-1]) == ("too bad", "taskstore: 2 done, 1 quarantined")
    assert sorted(task.data for task in client.group("next")) == ["11", "22"]
    [aside] = said("list", "g/quarantine")
    assert json.loads(aside.split("\t")[3])["reason"] == "ProgramError: exit code 1: too bad"
    assert said("requeue", "g") == ["1"]
    assert said("requeue", "g") == ["0"]
    assert cli.main(["work", "--until-empty", "--concurrency", "2", "g", *python("")]) == 0
    assert client.groups() == ["next"]
    assert logging.getLogger("taskstore").handlers == []


def test_requeue_takes_as_many_as_it_is_told_and_goes_on_when_others_are_quicker(
    client: HTTPClient, said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.update(adds=[TaskInfo("g/quarantine", str(number)) for number in range(5)])
    assert said("requeue", "--limit", "2", "g") == ["2"]
    original = HTTPClient.update

    def update(self: HTTPClient, *args: object, **options: object) -> list[TaskInfo]:
        monkeypatch.undo()
        [taken, *_] = client.group("g/quarantine")
        client.update(deletes=[taken])
        return original(self, *args, **options)  # type: ignore[arg-type] # handed on as they came

    monkeypatch.setenv("TASKSTORE_URL", os.environ["TASKSTORE_URL"])
    url = os.environ["TASKSTORE_URL"]
    monkeypatch.setattr(HTTPClient, "update", update)
    assert said("requeue", "g", "--url", url) == ["2"]
    assert len(client.group("g")) == 4


def test_who_finds_nothing_is_told_so(client: HTTPClient, capfd: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> tuple[str, str]:
        assert cli.main(arguments) == 0
        shown = capfd.readouterr()
        return shown.out, shown.err

    assert told("list") == ("", "taskstore: there are no tasks; add one with: taskstore add GROUP DATA\n")
    client.update(adds=[TaskInfo("g", timespec=timedelta(hours=1))])
    where = "; for the groups that have some: taskstore list\n"
    assert told("list", "G") == ("", f"taskstore: group 'G' has no tasks{where}")
    assert told("list", "g", "--available") == ("", f"taskstore: group 'g' has no available tasks{where}")
    assert told("requeue", "g") == ("0\n", f"taskstore: group 'g/quarantine' has no tasks{where}")


def test_what_a_server_refuses_comes_with_advice(
    client: HTTPClient, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["list", "--url", os.environ["TASKSTORE_URL"] + "/elsewhere"]) == 1
    assert capfd.readouterr().err.endswith("; is this the address of a taskstore server?\n")
    with live_server(token="secret") as guarded:
        monkeypatch.setenv("TASKSTORE_URL", guarded.url)
        for token, advice in (
            ("", "set TASKSTORE_TOKEN to the token of this server"),
            ("wrong", "the token in TASKSTORE_TOKEN is not the one of this server"),
        ):
            monkeypatch.setenv("TASKSTORE_TOKEN", token)
            assert cli.main(["list"]) == 1
            assert re.fullmatch(f"taskstore: status 401: .*; {advice}\n", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["work", "g"], 2, "say what to run"),
        (["work", "g", "--"], 2, "say what to run"),
        (["work", "--", "true"], 2, "GROUP"),
        (["work", "g", "--concurrency", "0", "--", "true"], 2, "'0' is no whole number from 1 to 10000"),
        (["work", "g", "--lease", "0.1", "--", "true"], 2, "too short"),
        (["work", "g", "--lease", "soon", "--", "true"], 2, "'soon' is no number of seconds"),
        (["work", "g", "g/quarantine", "--", "true"], 1, "its own quarantine"),
        (["work", "g", "--", "no-such-program"], 1, "no program 'no-such-program'"),
        (["add"], 2, "GROUP"),
        (["add", "", "x"], 1, "must not be empty"),
        (["add", "--in", "-1", "g"], 2, "'-1' is no number of seconds"),
        (["list", "--limit", "x"], 2, "'x' is no whole number"),
        (["serve", "--", "true"], 2, "unrecognized arguments"),
        (["add", "--url", "ftp://x", "g"], 1, "http://"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("client")
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ended = cli.main(arguments)
    except SystemExit as end:
        ended = end.code if isinstance(end.code, int) else -1
    errors = capsys.readouterr().err
    assert ended == code
    assert complaint in errors
    assert "Traceback" not in errors


def test_bytes_that_are_no_text_are_refused(
    client: HTTPClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ok\n\xff\n")))
    assert cli.main(["add", "g", "-"]) == 1
    assert "not UTF-8" in capsys.readouterr().err
    assert client.groups() == []


def test_a_signal_lets_programs_finish_and_a_second_one_ends_them(server: LiveServer, client: HTTPClient) -> None:
    for signals, done in ((1, True), (2, False)):
        client.update(adds=[TaskInfo("g", "")])
        command = [sys.executable, "-m", "taskstore", "work", "g", *python("import time; time.sleep(1.5)")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        limit = time.monotonic() + PATIENCE_S
        while not (client.group("g", owned=True) or [TaskInfo("x")])[0].attempts:
            assert time.monotonic() < limit
        time.sleep(0.4)  # Until the program has a session of its own.
        begun = time.monotonic()
        for _ in range(signals):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (client.groups() == []) == done
        if done:
            assert (process.returncode, errors) == (0, "taskstore: 1 done\n")
        else:
            assert (process.returncode, errors) == (130, "taskstore: interrupted\n")
            assert time.monotonic() - begun < 1.1
