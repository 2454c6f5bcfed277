"""What a failure is told by: the shortest sequence of requests, as commands that show it again, in every form."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import faults_of_reads
import faults_of_writes
import pytest
from faults import FAULTS
from go_server import go_server
from tampering import serving

from taskstore.cli import main
from taskstore.contract.command import duration_s
from taskstore.contract.connection import Answer, Request
from taskstore.contract.curl import script, shown
from taskstore.contract.page import as_html
from taskstore.contract.report import Report, Verdict, as_json, as_junit
from taskstore.contract.run import Kit, NoServerError, Settings, check
from taskstore.contract.store import Exchange, Pause, Step
from taskstore.errors import UsageError
from taskstore.testing import live_server

ROOMS = (faults_of_writes, faults_of_reads)


@pytest.fixture
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with the fault that the test names."""
    fault = FAULTS[request.param]
    fault.plant(monkeypatch)
    with serving(tick_ns=fault.tick_ns) as url:
        yield url


SHORTEST = [
    ("ownership-unchecked", "any-sequence-is-answered-right", 3),
    ("group-changed-by-an-update", "the-group-stays", 3),
    ("adds-done-all-the-same", "a-refused-update-changes-nothing", 3),
    ("dependency-of-a-claim-ignored", "a-missing-dependency-refuses-a-claim", 1),
    ("dependency-forgotten-now-and-then", "any-sequence-is-answered-right", 3),
    ("limit-ignored", "any-sequence-is-answered-right", 3),
    ("lease-ignored", "a-claimed-task-is-not-claimed-again", 3),
    ("undocumented-status", "ids-grow", 1),
]


@pytest.mark.parametrize(("broken", "rule", "most"), SHORTEST, indirect=["broken"])
def test_a_failure_is_shown_by_few_requests(broken: str, rule: str, most: int, request: pytest.FixtureRequest) -> None:
    tries = FAULTS[request.node.callspec.params["broken"]].tries
    reports = [check(Settings(broken, seed=1 + n, rules=[rule], parts=["semantics"])) for n in range(tries)]
    failed = [report for report in reports if report.verdicts[0].status == "fail"]
    # What goes wrong now and then only is met by three walks in four, and not each of them can be made as short.
    assert 4 * len(failed) >= tries
    shortest = min(failed, key=lambda report: len(report.verdicts[0].steps))
    [verdict] = shortest.verdicts
    assert 1 <= len(verdict.steps) <= most, shortest.commands(verdict)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
@pytest.mark.parametrize("broken", ["ownership-unchecked", "data-not-reset", "consumed-id-served"], indirect=True)
def test_pasted_commands_show_the_failure_again(broken: str) -> None:
    rules = ["any-sequence-is-answered-right", "what-an-update-does-not-name-is-reset", "a-consumed-id-reads-as-null"]
    report = check(Settings(broken, seed=1, rules=rules, parts=["semantics"]))
    verdict = next(verdict for verdict in report.verdicts if verdict.status == "fail")
    for _ in range(2):  # as often as one likes
        done = subprocess.run(
            ["bash", "-e", "-c", report.commands(verdict)], capture_output=True, text=True, check=True, timeout=30
        )
        last = verdict.steps[-1]
        assert isinstance(last, Exchange)
        assert last.answer is not None
        assert done.stderr == ""
        answers = [json.loads(line) for line in done.stdout.replace("}{", "}\n{").replace("]{", "]\n{").splitlines()]
        assert shape(answers[-1]) == shape(last.answer.json)


def shape(value: object) -> object:
    """A value without its numbers and the names of its groups, which differ each time."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items() if name != "group"}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return 0 if isinstance(value, int) else value


def exchange(request: Request, body: bytes = b"{}", *, beside: int = 0) -> Exchange:
    return Exchange(request, Answer(200, (("Content-Type", "application/json"),), body), 1.0, 2.0, beside)


def test_commands_take_ids_from_the_answers_before_them() -> None:
    add = Request("POST", "/update", b'{"clientid": 1, "adds": [{"group": "p-1-g"}]}')
    steps: list[Step] = [
        exchange(add, b'{"tasks":[{"id":41}]}'),
        Pause(0.25),
        exchange(Request("POST", "/update", b'{"clientid": 1, "deletes": [41, 7]}')),
        exchange(Request("GET", "/tasks/7,41")),
        exchange(Request("GET", "/group/p-1-g")),
    ]
    lines = script("http://host:1", "p-1-", steps, "all\nwrong").splitlines()
    assert lines[0] == "U=http://host:1"
    assert "A1=$(curl" in lines[3]
    assert '"group": "\'"$G"\'g"' in lines[3]
    assert "sleep 0.25" in lines
    assert """"deletes": ['"$(id "$A1" 1)"', 7]""" in lines[6]
    assert """"$U"'/tasks/7,'"$(id "$A1" 1)"''""" in lines[8]
    assert lines[-2:] == ["# WRONG: all", "# wrong"]


def test_commands_quote_whatever_it_is() -> None:
    body = json.dumps({"clientid": 1, "adds": [{"group": 'it\'s $HOME `x` \\ "q"'}]}).encode()
    said = script("http://h", "", [exchange(Request("POST", "/update", body))], "")
    command = said.splitlines()[1].replace("curl", "printf '%s\\n'")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert body.decode() in done.stdout.splitlines()
    assert "\x1b" not in shown("\x1b[31m")


def test_requests_at_once_are_commands_at_once() -> None:
    steps = [exchange(Request("GET", "/groups"), beside=3), exchange(Request("GET", "/groups"), beside=3)]
    lines = script("http://h", "", steps, "").splitlines()
    assert [line.endswith(" &") for line in lines if line.startswith("curl")] == [True, True]
    assert "wait" in lines


# Forms of the report


def report_of(*verdicts: Verdict) -> Report:
    return Report("http://h", "core", "json", 7, "1.0", "2026-01-01T00:00:00+00:00", 1.5, 12, verdicts, 0)


FAILED = Verdict(
    "ids-grow",
    "Ids grow & grow.",
    "semantics",
    "fail",
    "id <b>1</b> \x00",
    [exchange(Request("POST", "/update", b'{"data": "</pre><script>alert(1)</script>"}'), b'["<img src=x>"]')],
)
PASSED = Verdict("other", "Others.", "schema", "pass", requests=3)
ABSENT = Verdict("absent", "Absent.", "semantics", "absent", "not <here>")


def test_the_page_is_one_file_and_nothing_in_it_is_taken_for_markup() -> None:
    page = as_html(report_of(FAILED, PASSED, ABSENT))
    assert page.startswith("<!doctype html>")
    assert not [
        word
        for word in ("http-equiv", "<link", "src=", "@import", "url(")
        if word in page.replace("&lt;img src=x&gt;", "")
    ]
    assert page.count("<script>") == 1
    assert "id &lt;b&gt;1&lt;/b&gt; \\x00" in page
    assert "not &lt;here&gt;" in page
    assert "--seed 7" in page


def test_junit_has_a_case_for_each_rule() -> None:
    root = ET.fromstring(as_junit(report_of(FAILED, PASSED, ABSENT)))
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("skipped")) for suite in root] == [
        ("semantics", "2", "1", "1"),
        ("schema", "1", "0", "0"),
    ]
    failure = root.find(".//failure")
    assert failure is not None
    assert "curl" in (failure.text or "")


def test_json_says_it_all() -> None:
    content = json.loads(as_json(report_of(FAILED, PASSED)))
    assert content["passed"] is False
    assert content["counts"] == {"pass": 1, "fail": 1, "absent": 0}
    assert content["verdicts"][0]["exchanges"][0]["request"]["path"] == "/update"
    assert "curl" in content["verdicts"][0]["curl"]


# The command


def test_the_command_writes_its_reports_and_says_that_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html")}
    options = [f"--{kind}={file}" for kind, file in files.items()]
    with serving() as url:
        assert main(["check", url, "--rules", "--seed=5", *options]) == 0
    said = capsys.readouterr().out
    assert "works only in groups of its own" in said
    assert "keeps the contract at level core" in said
    assert json.loads(files["json"].read_text())["seed"] == 5
    assert ET.parse(files["junit"]).getroot().tag == "testsuites"
    assert "keeps the contract" in files["html"].read_text()


@pytest.mark.parametrize("broken", ["limit-ignored"], indirect=True)
def test_the_command_says_what_is_wrong(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", broken, "--rule=a-limit-is-kept", "--rule=ids-grow"]) == 1
    said = capsys.readouterr().out
    assert "FAIL   a-limit-is-kept" in said
    assert "pass   ids-grow" in said
    assert "curl -sS" in said
    assert "BREAKS the contract" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["http://127.0.0.1:9"], "no server answers"),
        (["127.0.0.1"], "no address of a server"),
        (["ftp://127.0.0.1"], "no address of a server"),
        (["http://127.0.0.1:9", "--rule=nosuch"], "no rule nosuch"),
        (["http://127.0.0.1:9", "--rule=id-grow"], "did you mean ids-grow?"),
        (["http://127.0.0.1:9", "--rule=a-claim-can-wait"], "add --level full"),
        (["http://127.0.0.1:9", "--html=/nosuch/report.html"], "no such directory"),
        (["http://127.0.0.1:9", "--html=/"], "cannot write /: it is a directory"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_duration_has_a_unit() -> None:
    assert [duration_s(text) for text in ("45", "90s", "10m", "2h", "1.5m")] == [45, 90, 600, 7200, 90]


def test_a_token_is_sent_and_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with live_server(token="s3cret") as server:
        assert main(["check", server.url, "--rule=ids-grow"]) == 2
        assert "asks for a token (status 401): set TASKSTORE_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("TASKSTORE_TOKEN", "s4cret")
        assert main(["check", server.url, "--rule=ids-grow"]) == 2
        assert "wants another token (status 401): set TASKSTORE_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("TASKSTORE_TOKEN", "s3cret")
        assert main(["check", server.url, "--rule=ids-grow"]) == 0
        assert "s3cret" not in capsys.readouterr().out


def test_a_run_is_repeated_as_long_as_it_is_told() -> None:
    with serving() as url:
        report = check(Settings(url, seed=1, rules=["ids-grow"], parts=["semantics"], thorough_s=0.3))
        once = check(Settings(url, seed=1, rules=["ids-grow"], parts=["semantics"]))
    assert report.seconds >= 0.3
    assert report.verdicts[0].requests > once.verdicts[0].requests


# The other dialect


def test_the_original_server_is_checked_in_its_dialect() -> None:
    with go_server() as server:
        with pytest.raises(NoServerError, match="--dialect go"):
            Kit(Settings(server.url))
        report = check(Settings(server.url, dialect="go", seed=1))
    statuses = {verdict.rule: verdict.status for verdict in report.verdicts}
    assert statuses["ids-grow"] == "pass"
    assert (
        statuses["forms-are-understood"] == statuses["openapi"] == statuses["what-was-written-can-be-read"] == "absent"
    )
    assert statuses["a-lease-runs-out"] == "pass"
    # The stand-in's claims are not random, so that tests know what they get; the original's are: see interop/test_go.py
    assert {rule for rule, status in statuses.items() if status == "fail"} == {"claims-are-random"}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError):
        Kit(Settings("http://127.0.0.1:9", level="half"))


# The plugin

PYTEST = [sys.executable, "-m", "pytest", "-p", "taskstore.contract.plugin", "-p", "no:cacheprovider", "-rf"]


def pytest_run(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [*PYTEST, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_with_pytest_each_rule_is_a_test(tmp_path: Path) -> None:
    with serving() as url:
        done = pytest_run(tmp_path, f"--taskstore-url={url}", "-k", "ids or claim", "--taskstore-level=full")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "removes what it has made" in done.stdout


@pytest.mark.parametrize("broken", ["limit-ignored"], indirect=True)
def test_with_pytest_a_broken_rule_is_a_failure_with_its_commands(broken: str, tmp_path: Path) -> None:
    done = pytest_run(tmp_path, f"--taskstore-url={broken}", "-k", "limit or grow")
    assert done.returncode == 1
    assert "FAILED taskstore::a-limit-is-kept" in done.stdout
    assert "curl -sS" in done.stdout
    assert "Traceback" not in done.stdout


def test_with_pytest_a_server_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "--taskstore-url=http://127.0.0.1:9")
    assert done.returncode == 4
    assert "no server answers" in done.stderr


def test_without_the_option_the_plugin_imports_nothing(tmp_path: Path) -> None:
    code = "import sys, taskstore.contract.plugin; print([name for name in sys.modules if 'contract.' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['taskstore.contract.plugin']"
