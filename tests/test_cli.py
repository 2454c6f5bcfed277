"""The command line: what a user sees who does it right, and one who does it wrong."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from taskstore import HTTPClient, TaskInfo, cli, demo
from taskstore.errors import TaskStoreError
from taskstore.testing import live_server

PATIENCE_S = 30


def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`taskstore` with `arguments`, as a process without a terminal."""
    command = [sys.executable, "-m", "taskstore", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env, check=False)


@pytest.mark.parametrize("verb", [[], ["serve"], ["demo"], ["backup"], ["restore"], ["copy"]], ids=str)
def test_help_fits_a_terminal_and_gives_examples(
    verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main([*verb, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert "examples:\n  taskstore " in text
    assert max(map(len, text.splitlines())) <= 80


def test_version() -> None:
    shown = ran("--version")
    assert (shown.returncode, shown.stdout) == (0, f"taskstore {version('taskstore')}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sreve"], "taskstore: there is no command 'sreve'; did you mean 'serve'? (see taskstore --help)"),
        (["nothing-like-it"], "taskstore: there is no command 'nothing-like-it' (see taskstore --help)"),
        (["--nope"], "COMMAND"),
        (["--nope", "list"], "taskstore: unrecognized arguments: --nope"),
        (["serve", "--prot", "1"], "taskstore serve: unrecognized arguments: --prot 1 (see taskstore serve --help)"),
        (["add"], "GROUP (see taskstore add --help)"),
        (["serve", "--port", "65536"], "'65536' is no whole number from 0 to 65535"),
        (["serve", "--port", "-1"], "--port"),
        (["serve", "--token", "secret"], "unrecognized arguments"),
        (["demo", "--workers", "1"], "'1' is no whole number from 2 to 64"),
        (["demo", "--lease", "soon"], "'soon' is no number of seconds"),
        (["demo", "--lease", "nan"], "'nan' is no number of seconds"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "")
    assert re.fullmatch(r"taskstore.+\n", shown.err)
    assert complaint in shown.err


def test_who_names_no_command_is_shown_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "taskstore serve  " in shown.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serve", "--host", "0.0.0.0", "--port", "0"], "TASKSTORE_TOKEN"),
        (["serve", "--store", "/no/such/directory/x.db", "--port", "0"], "/no/such/directory"),
        (["backup", "/no/such/directory/x.db", "--store", __file__], "/no/such/directory/x.db: its directory"),
        (["backup", "x.db", "--store", "postgresql://h/d"], "pg_dump"),
        (["list", "--url", "http://127.0.0.1:1"], "Is a server running there (`taskstore serve`)"),
        (["list", "--url", "127.0.0.1:8048"], "'127.0.0.1:8048' has to begin with http://"),
        (["demo", "/no/such/file"], "/no/such/file does not exist"),
        (["demo", "--svg", "/no/such/directory/x.svg"], "--svg"),
        (["demo", "--svg", "."], "--svg"),
        (["demo", "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_exit_code_1_and_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKSTORE_TOKEN", raising=False)
    assert cli.main(arguments) == 1
    errors = capsys.readouterr().err
    assert re.fullmatch(r"taskstore: .+\n", errors)
    assert complaint in errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (TaskStoreError("no such luck"), 1, "taskstore: no such luck\n"),
        (
            OSError(28, "No space left on device", "/tmp/x"),
            1,
            "taskstore: [Errno 28] No space left on device: '/tmp/x'\n",
        ),
        (KeyboardInterrupt(), 130, "taskstore: interrupted\n"),
    ],
    ids=repr,
)
def test_no_traceback(
    error: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(settings: demo.Settings) -> int:
        raise error

    monkeypatch.setattr(demo, "run", fail)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == said


def test_the_demo_gets_what_was_asked_for_and_the_signals_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[demo.Settings] = []

    def end(settings: demo.Settings) -> int:
        asked.append(settings)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("SIGTERM did not end it")

    monkeypatch.setattr(demo, "run", end)
    monkeypatch.setenv("TASKSTORE_TOKEN", "secret")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "a", "b", "--workers=3", "--lease=0.5", "--no-kill", "--url=http://x", "--svg=t.svg"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert asked == [
        demo.Settings(
            ["a", "b"], workers=3, lease_ns=5 * 10**8, kill=False, url="http://x", token="secret", svg="t.svg"
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "lacks", "extra"),
    [
        (["serve"], 1, "uvicorn", "server"),
        (["demo"], 1, "uvicorn", "server"),
        (["backup", "x.db"], 1, "apsw", "server"),
        (["restore", "x.db"], 1, "apsw", "server"),
        (["copy", "x.db", "y.db"], 1, "apsw", "server"),
        (["serve", "--store", "postgresql://h/d"], 1, "psycopg", "postgres"),
        (["check", "http://127.0.0.1:1"], 2, "schemathesis", "contract"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else None,
)
def test_a_missing_extra_is_named(arguments: list[str], code: int, lacks: str, extra: str) -> None:
    program = f"import sys; sys.modules[{lacks!r}] = None; from taskstore.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert re.fullmatch(rf"taskstore: .* pip install 'taskstore\[{extra}\]' .*\n", shown.stderr)


def test_the_server_for_tests_says_what_it_needs() -> None:
    program = "import sys; sys.modules['uvicorn'] = None; import taskstore.testing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "taskstore.testing needs the server: pip install 'taskstore[server]'" in done.stderr.splitlines()[-1]


def test_the_client_and_its_commands_need_no_extra() -> None:
    extras = [
        "apsw",
        "filelock",
        "httptools",
        "msgspec",
        "rich",
        "uvicorn",
        "uvloop",
        "psycopg",
        "schemathesis",
        "yaml",
    ]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({extras})); import taskstore; from taskstore.cli import main\n"
        "for name in taskstore.__all__: getattr(taskstore, name)\n"
        "with taskstore.HTTPClient(): sys.exit(main(['list', '--help']))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_an_interruption_is_one_line_while_arguments_are_read_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "VERBS", (interrupted,))
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "taskstore: interrupted\n"


def test_nobody_reading_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "taskstore", "demo", "--no-kill"]
    with os.fdopen(writing, "wb") as output:
        process = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    assert (process.returncode, process.stderr) == (128 + signal.SIGPIPE, b"")


def served(arguments: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taskstore", "serve", "--port", "0", "--store", ":memory:", *arguments]
    env = {**os.environ, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_and_ends_on_a_signal(number: signal.Signals) -> None:
    with served(["--log"], TASKSTORE_TOKEN="secret-of-the-test") as process:
        assert process.stdout
        line = process.stdout.readline()
        assert re.fullmatch(r"serving http://127\.0\.0\.1:\d+\n", line)
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(line.removeprefix("serving ").strip() + "/groups", timeout=PATIENCE_S)
        refused.value.close()
        process.send_signal(number)
        output, log = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "")
    assert '"path":"/groups"' in log


def test_backup_and_restore(tmp_path: Path) -> None:
    store, copy, new = (str(tmp_path / name) for name in ("store.db", "copy.db", "new.db"))
    with live_server(store) as server:
        with HTTPClient(server.url) as client:
            client.update(adds=[TaskInfo("g", "kept")] * 2)
        done = ran("backup", copy, "--store", store)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{copy} holds the 2 tasks of {store}, checked and on disk\n"
    done = ran("backup", copy, "--store", store)
    assert (done.returncode, done.stdout) == (1, "")
    assert "exists already" in done.stderr
    done = ran("restore", copy, "--store", new)
    assert done.returncode == 0
    assert done.stdout.endswith(f"; serve it with: taskstore serve --store {new}\n")
    with live_server(new) as server, HTTPClient(server.url) as client:
        assert [task.data for task in client.group("g")] == ["kept", "kept"]


@pytest.mark.parametrize("token", ["secret\n", " secret", "sec\x7fret"])
def test_a_token_that_no_header_can_carry_is_refused(
    token: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKSTORE_TOKEN", token)
    assert cli.main(["serve", "--port", "0", "--store", ":memory:"]) == 1
    said = capsys.readouterr().err
    assert "TASKSTORE_TOKEN" in said
    assert "ret" not in said


def test_several_processes_need_a_database(tmp_path: Path) -> None:
    done = ran("serve", "--workers", "2", "--store", str(tmp_path / "store.db"))
    assert done.returncode == 1
    assert "postgresql://" in done.stderr
