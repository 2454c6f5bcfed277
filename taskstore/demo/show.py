"""What the demo shows in the terminal: progress while it runs, and at the end the words and what happened.

The laws of this room: whoever sees it has never heard of the demo; without a terminal, or without rich, everything is
said in plain lines; what is shown is computed here and measured elsewhere.
"""

import shutil
import sys
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from taskstore.demo.groups import Story
from taskstore.model import TaskInfo

if TYPE_CHECKING:
    from rich.progress import TaskID

Part: TypeAlias = str | tuple[str, str]
"""A piece of text, alone or with a style as rich writes it."""

WIDEST: Final = 100
"""How many columns are used at most: longer lines are hard to read."""
TOP: Final = 12
"""How many words the chart shows."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def screen() -> "Screen":
    """Bars where there is a terminal and rich, plain lines elsewhere."""
    if sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf"):
        with suppress(ImportError):
            return RichScreen()
    return Screen()


def width() -> int:
    """How many columns there are to use."""
    return min(shutil.get_terminal_size().columns, WIDEST)


class Screen:
    """Where the demo shows what it has to show, here in plain lines; as a context manager, while progress is shown."""

    def __init__(self) -> None:
        self._quarters: Final[dict[str, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was said, and take away what moved."""

    def say(self, *parts: Part) -> None:
        """Write `parts`, one after the other, and end the line."""
        text = "".join(part if isinstance(part, str) else part[0] for part in parts)
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)

    def progress(self, story: Story, chunks: int, shards: int) -> None:
        """Show how far the run is."""
        self._quarter("map tasks", story.count("map"), chunks)
        self._quarter("reduce tasks", story.count("reduce"), shards)

    def _quarter(self, name: str, done: int, total: int) -> None:
        quarter = 4 * done // total
        if quarter > self._quarters.get(name, 0):
            self._quarters[name] = quarter
            self.say(f"{name}: {done:,} of {total:,}")


class RichScreen(Screen):
    """A terminal, with bars that move.

    Raises:
        ImportError: rich is not there.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        super().__init__()
        self._console: Final = Console(highlight=False, emoji=False)
        self._bars: Final = Progress(
            TextColumn("{task.description:16}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
        )
        self._rows: Final[dict[str, TaskID]] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, *parts: Part) -> None:
        """Write `parts` above the bars, with their styles."""
        from rich.text import Text

        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def progress(self, story: Story, chunks: int, shards: int) -> None:
        """Show how far the run is, and each worker's part in it."""
        self._bar("map tasks", story.count("map"), chunks)
        for worker in range(1, story.workers + 1):
            killed = story.killed is not None and story.killed.worker == worker
            self._bar(f"  worker {worker}", story.count("map", worker), chunks, "[red], killed" if killed else "")
        self._bar("reduce tasks", story.count("reduce"), shards)

    def _bar(self, name: str, done: int, total: int, remark: str = "") -> None:
        if name not in self._rows:
            self._rows[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._rows[name], completed=done, description=name + remark)


def shortened(chunk: str) -> str:
    """A chunk with the last two parts of its path, which usually suffice to know it again, and in printable form."""
    path, offset, length = chunk.rsplit(":", 2)
    text = ":".join(("/".join(Path(path).parts[-2:]), offset, length))
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def killing(worker: int, held: TaskInfo, lease_ns: int) -> list[Part]:
    """What is said at the moment of the kill."""
    return [
        (f"Worker {worker} killed", "bold red"),
        f" while it held map task {held.id}, {shortened(held.data)}\n",
        f"Until its lease runs out, {_seconds(lease_ns)} after the claim, nobody else can have that task",
    ]


def top_words(counts: Counter[str], columns: int, encoding: str = "utf-8") -> list[Part]:
    """The most frequent words as a bar chart that fits into `columns`."""
    top = counts.most_common(TOP)
    if not top:
        return ["There are no words in it."]
    label = min(max(_columns(word) for word, _ in top), columns // 3)
    number = len(f"{top[0][1]:,}")
    room = max(columns - label - number - 6, 1)
    parts: list[Part] = [("\nThe most frequent words\n", "bold")]
    for word, count in top:
        bar = _bar(count / top[0][1] * room, encoding)
        parts += [f"  {_fitted(word, label)}  ", (f"{bar:{room}}", "cyan"), f"  {count:>{number},}\n"]
    return parts


def _bar(length: float, encoding: str) -> str:
    full, eighths = divmod(max(round(length * 8), 1), 8)
    bar = "█" * full + _EIGHTHS[eighths].strip()
    try:
        bar.encode(encoding)
    except UnicodeEncodeError:
        return "#" * max(round(length), 1)
    return bar


def _columns(text: str) -> int:
    """How many columns a terminal needs for `text`: ideographs take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _fitted(word: str, columns: int) -> str:
    while _columns(word) > columns:
        word = word.removesuffix("…")[:-1] + "…"
    return word + " " * (columns - _columns(word))


def told(story: Story, columns: int) -> list[Part]:
    """What happened to the killed worker's task, and to results that came too late."""
    sentences = []
    killed, heir = story.killed, story.heir
    if killed and heir:
        rest_ns = story.lease_end_ns - killed.until_ns
        sentences += [
            f"Worker {killed.worker} was killed while it held map task {killed.id}, {shortened(killed.data)}.",
            f"Its lease ran out {_seconds(rest_ns)} later;" if rest_ns >= 0 else "Its lease had run out just before;",
            f"{_seconds(heir.since_ns - story.lease_end_ns)} after that worker {heir.worker} claimed the same chunk,",
            f"now as task {heir.id}, and finished it.",
        ]
    else:
        sentences.append("No worker was killed.")
    if late := story.count("lost"):
        sentences.append(f"The store refused {_number(late, 'result')} whose lease had run out before.")
    return [textwrap.fill(" ".join(sentences), columns) + "\n"]


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:.1f} s" if ns >= 10**9 else f"{ns / 1e6:.{0 if ns >= 10**7 else 1}f} ms"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def plan(files: Sequence[str], chunks: Sequence[str], workers: int, shards: int) -> str:
    """What is going to be done."""
    size = sum(int(chunk.rpartition(":")[2]) for chunk in chunks)
    text = f"{_number(len(files), 'file')}, {f'{size / 1e6:,.1f} MB' if size >= 10**5 else _number(size, 'byte')}"
    return f"Text: {text}; {_number(len(chunks), 'map task')}, {_number(shards, 'reduce task')}, {workers} workers"


def verdict(counts: Counter[str], wrong: Sequence[str]) -> list[Part]:
    """The last line, and if need be which words are wrong."""
    if not wrong:
        what = f"{counts.total():,} words, {len(counts):,} different"
        return [("exact", "bold green"), f": {what}, counted as by collections.Counter"]
    lines = [f": {len(wrong):,} counts differ from those of collections.Counter", *wrong[:10]]
    if len(wrong) > 10:
        lines.append(f"and {len(wrong) - 10:,} more")
    return [("NOT exact", "bold red"), "\n  ".join(lines), "\nDid a file change meanwhile? If not, this is a bug."]
