"""Figures, and how they are shown: a table of medians and ratios, and a JSON file."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        what: What was measured.
        value: The median over the runs, in `unit`.
        unit: Its unit.
        reference: What it is compared with, measured in the same run.
        ratio: value / reference, the median of each run's; None where there is nothing to compare with.
        target: What the ratio (or else the value) should be, as a sentence.
        met: Whether it is.
    """

    what: str
    value: float
    unit: str
    reference: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def median(measure: Callable[[], float], runs: int) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(runs))


def show(figures: Sequence[Figure]) -> None:
    """Print the table, for a terminal of 100 columns or more."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("median", "unit", "ratio"):
        table.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    for name in ("to", "wanted"):
        table.add_column(name)
    for figure in figures:
        mark = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met]
        value = f"{figure.value:,.3g}" if figure.value < 1000 else f"{figure.value:,.0f}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.what, value, figure.unit, ratio, figure.reference, f"{figure.target} {mark}")
    Console(width=max(120, Console().width)).print(table)


def save(figures: Sequence[Figure], path: Path, *, runs: int) -> None:
    """Write the figures as JSON, with what one has to know of the machine."""
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    path.write_text(json.dumps({"machine": machine, "runs": runs, "figures": [asdict(f) for f in figures]}, indent=2))
