"""What came of a run: one verdict for each rule.

The laws of this room: values only; a report knows nothing of how it is shown. `as_json` and `as_junit` are for
machines, page.py is for people.
"""

from collections.abc import Sequence
from json import dumps
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from xml.etree import ElementTree as ET

from taskstore.contract.curl import script, shown
from taskstore.contract.store import Exchange, Step

Status: TypeAlias = Literal["pass", "fail", "absent"]
Part: TypeAlias = Literal["semantics", "schema"]
PARTS: Final[tuple[Part, ...]] = ("semantics", "schema")


class Verdict(NamedTuple):
    """How a server fared by one rule."""

    rule: str
    sentence: str
    part: Part
    status: Status
    message: str = ""
    """Why it is not `pass`."""
    steps: Sequence[Step] = ()
    """For `fail`: the requests that show it."""
    common: str = ""
    """How the names of the groups in the steps begin."""
    requests: int = 0
    """How many requests were judged by it."""
    seconds: float = 0.0

    def joined(self, other: "Verdict") -> "Verdict":
        """The verdict of two runs of the same rule: the first failure counts."""
        worse = other if other.status == "fail" and self.status != "fail" else self
        return worse._replace(requests=self.requests + other.requests, seconds=self.seconds + other.seconds)


class Report(NamedTuple):
    """What came of a run."""

    url: str
    level: str
    dialect: str
    seed: int
    version: str
    """Of the kit."""
    started: str
    seconds: float
    requests: int
    verdicts: Sequence[Verdict]
    left: int
    """How many of the tasks that the kit has made it could not remove."""

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return not self.count("fail")

    def count(self, status: Status) -> int:
        """How many verdicts there are of a kind."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def commands(self, verdict: Verdict) -> str:
        """Commands for a shell that show a failure again."""
        return script(self.url, verdict.common, verdict.steps, verdict.message)


def as_json(report: Report) -> str:
    """The report as JSON."""
    head = {name: value for name, value in report._asdict().items() if name != "verdicts"}
    counts = {status: report.count(status) for status in ("pass", "fail", "absent")}
    verdicts = [_as_json(report, verdict) for verdict in report.verdicts]
    return dumps({**head, "passed": report.passed, "counts": counts, "verdicts": verdicts}, indent=2)


def _as_json(report: Report, verdict: Verdict) -> dict[str, Any]:
    fields = {name: value for name, value in verdict._asdict().items() if name not in ("steps", "common")}
    if verdict.status == "fail":
        fields["curl"] = report.commands(verdict)
        fields["exchanges"] = [_exchange(step) for step in verdict.steps if isinstance(step, Exchange)]
    return fields


def _exchange(exchange: Exchange) -> dict[str, Any]:
    request, answer = exchange.request, exchange.answer
    body = None if request.body is None else request.body.decode("utf-8", "backslashreplace")
    return {
        "request": {"method": request.method, "path": request.path, "headers": dict(request.headers), "body": body},
        "answer": answer and {"status": answer.status, "headers": dict(answer.headers), "body": answer.text},
    }


def as_junit(report: Report) -> str:
    """The report as JUnit XML, as continuous integration reads it."""
    root = ET.Element("testsuites", name="taskstore check")
    for part in PARTS:
        verdicts = [verdict for verdict in report.verdicts if verdict.part == part]
        suite = ET.SubElement(root, "testsuite", name=part, hostname=report.url, timestamp=report.started)
        suite.set("tests", str(len(verdicts)))
        suite.set("failures", str(sum(verdict.status == "fail" for verdict in verdicts)))
        suite.set("skipped", str(sum(verdict.status == "absent" for verdict in verdicts)))
        suite.set("errors", "0")
        suite.set("time", f"{sum(verdict.seconds for verdict in verdicts):.3f}")
        for verdict in verdicts:
            _as_junit(report, verdict, suite)
    ET.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(root, encoding='unicode')}\n"


def _as_junit(report: Report, verdict: Verdict, suite: ET.Element) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"taskstore.{verdict.part}", name=verdict.rule, time=f"{verdict.seconds:.3f}"
    )
    if verdict.status == "absent":
        ET.SubElement(case, "skipped", message=shown(verdict.message))
    elif verdict.status == "fail":
        failure = ET.SubElement(case, "failure", message=shown(verdict.message))
        failure.text = f"{verdict.sentence}\n\n{shown(report.commands(verdict))}"
