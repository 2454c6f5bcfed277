"""How progress is shown: by a bar of rich's, or by calling somebody.

The law of this room: what is shown goes to standard error, so that standard output stays the program's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taskstore.errors import UsageError
from taskstore.worker.desk import Progress


@contextmanager
def shown(progress: bool | Callable[[Progress], object]) -> Iterator[Callable[[Progress], object]]:
    """Something to call with the progress, as often as one likes.

    Args:
        progress: Whether to show a bar; or what to call instead.

    Raises:
        UsageError: rich is not there.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _: None
    else:
        with _bar() as show:
            yield show


@contextmanager
def _bar() -> Iterator[Callable[[Progress], object]]:
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError as error:
        raise UsageError(f"a progress bar needs rich: pip install rich ({error})") from error

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=False) as bar:
        row = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            bar.update(row, description=said(progress))

        yield show


def said(progress: Progress) -> str:
    """Progress in words: what is done, and of the rest what there is."""
    rest = {
        "running": progress.running,
        "retried": progress.retried,
        "released": progress.released,
        "moved": progress.moved,
        "quarantined": progress.quarantined,
        "lost": progress.lost,
    }
    return ", ".join([f"{progress.done:,} done", *(f"{number:,} {name}" for name, number in rest.items() if number)])
