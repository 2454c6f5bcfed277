"""Shows a run in the terminal: what it does meanwhile, and a table in the end.

The laws of this room: where there is no terminal everything is said in plain lines, and without rich too; standard
output is the report, and what moves is on standard error.
"""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from taskstore.contract.curl import shown
from taskstore.contract.report import PARTS, Report, Verdict

if TYPE_CHECKING:
    from rich.progress import TaskID

WORDS: Final = {"pass": "pass", "fail": "FAIL", "absent": "absent"}
STYLES: Final = {"pass": "green", "fail": "bold red", "absent": "yellow"}


class Silent:
    """Shows nothing; what others override."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was said, and take away what moved."""

    def begin(self, url: str, prefix: str, seed: int) -> None:
        """The run begins; what it will do to the server."""

    def phase(self, name: str, total: int | None) -> None:
        """A part of the run begins, with so many verdicts to come."""

    def verdict(self, verdict: Verdict) -> None:
        """A verdict is known."""

    def generating(self, phase: str, requests: int) -> None:
        """So many requests were generated."""

    def report(self, report: Report) -> None:
        """The run is over."""


class Plain(Silent):
    """Plain lines."""

    def begin(self, url: str, prefix: str, seed: int) -> None:
        """The run begins; what it will do to the server."""
        print(
            f"checking {url} (repeat with --seed {seed})\n"
            f"It works only in groups of its own, whose names begin with {prefix!r}, claims nowhere else, touches no\n"
            "task that it has not made, and removes in the end what it has made.",
            flush=True,
        )

    def phase(self, name: str, total: int | None) -> None:
        """A part of the run begins, with so many verdicts to come."""
        print(f"{name}{f' ({total})' if total else ''} ...", flush=True)

    def verdict(self, verdict: Verdict) -> None:
        """A verdict is known."""
        if verdict.status == "fail":
            print(f"  FAIL {verdict.rule}: {shown(verdict.message)}", flush=True)

    def report(self, report: Report) -> None:
        """The run is over."""
        width = max(len(verdict.rule) for verdict in report.verdicts)
        for part in PARTS:
            print(f"\n{part}")
            for verdict in (each for each in report.verdicts if each.part == part):
                why = f" ({shown(verdict.message)})" if verdict.status == "absent" else ""
                print(f"  {WORDS[verdict.status]:<6} {verdict.rule:<{width}}  {verdict.sentence}{why}")
        for number, verdict in enumerate((each for each in report.verdicts if each.status == "fail"), 1):
            print(f"\n{number}. {verdict.rule}: {verdict.sentence}\n{shown(verdict.message)}\n")
            print(report.commands(verdict))
        print(f"\n{summary(report)}", flush=True)


class Rich(Silent):
    """A terminal, with a bar that moves.

    Raises:
        ImportError: rich is not there.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console: Final = Console()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress: Final = Progress(*columns, MofNCompleteColumn(), console=self._console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was said, and take away what moved."""
        self._progress.stop()

    def begin(self, url: str, prefix: str, seed: int) -> None:
        """The run begins; what it will do to the server."""
        from rich.panel import Panel
        from rich.text import Text

        text = Text.assemble(
            "It works only in groups of its own, whose names begin with ",
            (prefix, "bold"),
            ", claims nowhere else, touches no task that it has not made, and removes in the end what it has made.\n",
            (f"repeat with --seed {seed}", "dim"),
        )
        self._console.print(Panel(text, title=f"checking {url}", title_align="left", border_style="blue"))

    def phase(self, name: str, total: int | None) -> None:
        """A part of the run begins, with so many verdicts to come."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total)

    def verdict(self, verdict: Verdict) -> None:
        """A verdict is known."""
        if self._task is not None:
            self._progress.advance(self._task)
        if verdict.status == "fail":
            from rich.text import Text

            said = Text.assemble(("FAIL ", STYLES["fail"]), (verdict.rule, "bold"), f": {shown(verdict.message)}")
            self._progress.console.print(said)

    def generating(self, phase: str, requests: int) -> None:
        """So many requests were generated."""
        if self._task is not None:
            self._progress.update(self._task, description=f"generated requests: {phase}, {requests:,}", completed=0)

    def report(self, report: Report) -> None:
        """The run is over."""
        from rich.table import Table
        from rich.text import Text

        for part in PARTS:
            verdicts = [verdict for verdict in report.verdicts if verdict.part == part]
            if verdicts:
                table = Table("", "rule", "what holds", title=part, title_justify="left", title_style="bold", box=None)
                for verdict in verdicts:
                    why = f" ({shown(verdict.message)})" if verdict.status == "absent" else ""
                    word = Text(WORDS[verdict.status], STYLES[verdict.status])
                    table.add_row(word, Text(verdict.rule), Text(verdict.sentence + why, "dim"))
                self._console.print(table, "")
        for verdict in (each for each in report.verdicts if each.status == "fail"):
            self._failure(report, verdict)
        self._console.print(Text(summary(report), STYLES["pass" if report.passed else "fail"]))

    def _failure(self, report: Report, verdict: Verdict) -> None:
        from rich.rule import Rule
        from rich.text import Text

        self._console.print(Rule(Text(verdict.rule, STYLES["fail"]), align="left"))
        self._console.print(Text(f"{verdict.sentence}\n", "dim"), Text(shown(verdict.message) + "\n", "bold"))
        # Unwrapped, so that it can be copied.
        self._console.print(Text(report.commands(verdict)), soft_wrap=True)
        self._console.print()


def screen() -> Silent:
    """A bar where there is a terminal and rich, plain lines elsewhere."""
    if sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf"):
        with suppress(ImportError):
            return Rich()
    return Plain()


def summary(report: Report) -> str:
    """The outcome in one line."""
    counts = f"{report.count('pass')} passed, {report.count('fail')} failed, {report.count('absent')} absent"
    left = f"; {report.left} tasks could not be removed" if report.left else ""
    word = "keeps the contract" if report.passed else "BREAKS the contract"
    return (
        f"{report.url} {word} at level {report.level}: {counts}; "
        f"{report.requests:,} requests in {report.seconds:.1f} s, seed {report.seed}{left}"
    )
