"""The verbs of the command line for whoever uses a store: add, list, stats, work, requeue.

The laws of this room are those of `taskstore.cli`; results go to standard output, in lines that other programs can
read, and everything else goes to standard error.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from taskstore.errors import TaskResponseError, TaskStoreError
from taskstore.model import GroupStats, TaskInfo
from taskstore.worker.options import MAX_ATTEMPTS, MOST_IN_HAND, QUARANTINE
from taskstore.worker.outcomes import requeue

if TYPE_CHECKING:
    from taskstore.client import HTTPClient

PAGE: Final = 1000
"""How many tasks are added or brought back in one update."""
RETRY: Final = timedelta(seconds=2)
"""How long a command tries to reach a store before it says that it cannot: a server may be restarted meanwhile, and
whoever has mistyped its address wants to know."""
ENVIRONMENT: Final = """\
environment:
  TASKSTORE_URL    where the store is, unless --url says so
  TASKSTORE_TOKEN  what the store asks for, if it does
"""


@attrs.frozen
class Verb:
    """A command: how it is called, and what runs it."""

    name: str
    help: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@contextmanager
def _client(arguments: argparse.Namespace) -> "Iterator[HTTPClient]":
    """A client for one command, which tells of its failure in one line, and not of each attempt that led to it."""
    from taskstore.client import HTTPClient

    silence = logging.NullHandler()
    logging.getLogger("taskstore").addHandler(silence)
    try:
        with HTTPClient(arguments.url, auth=os.environ.get("TASKSTORE_TOKEN") or None, retry=RETRY) as client:
            yield client
    finally:
        logging.getLogger("taskstore").removeHandler(silence)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="where the store is (default: $TASKSTORE_URL, or http://127.0.0.1:8048)")


# add

ADD: Final = """\
Add tasks to a group, one for each DATA, and print their ids. With - in place
of DATA, each line of standard input becomes a task.
"""
ADD_EXAMPLES: Final = f"""\
{ENVIRONMENT}
examples:
  taskstore add resize cat.jpg dog.jpg    two tasks
  taskstore add tick                      one task without data
  find . -name '*.jpg' | taskstore add resize -
  taskstore add --in 3600 resize cat.jpg  available in an hour
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group to add to")
    parser.add_argument("data", metavar="DATA", nargs="*", default=[], help="what the tasks say; - reads lines")
    parser.add_argument("--in", metavar="SECONDS", type=_seconds, default=timedelta(0), dest="delay",
                        help="when they become available (default: now)")  # fmt: skip
    _add_url(parser)


def _add(arguments: argparse.Namespace) -> int:
    data: Iterable[str] = arguments.data or [""]
    if arguments.data == ["-"]:
        data = _lines()
    with _client(arguments) as client:
        for page in _pages(data):
            tasks = client.update(adds=[TaskInfo(arguments.group, each, arguments.delay) for each in page])
            print("\n".join(str(task.id) for task in tasks), flush=True)
    return 0


def _lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        try:
            yield line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise TaskStoreError(f"standard input has a line that is not UTF-8: {line[:60]!r}") from None


def _pages(items: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(items)
    while page := list(islice(iterator, PAGE)):
        yield page


# list

LIST: Final = """\
List the names of all groups; or the tasks of one group: id, attempts, the
instant from which it is available, and data.
"""
LIST_EXAMPLES: Final = f"""\
{ENVIRONMENT}
examples:
  taskstore list                 the groups
  taskstore list resize          its tasks, claimed and delayed ones included
  taskstore list --json resize   all there is to know, an object a line
"""


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", nargs="?", help="whose tasks to list")
    parser.add_argument("--limit", metavar="N", type=_natural, default=100, help="at most so many tasks; 0 lists all "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--available", action="store_true", help="only what could be claimed now")
    parser.add_argument("--json", action="store_true", help="write JSON")
    _add_url(parser)


def _list(arguments: argparse.Namespace) -> int:
    write: Callable[[object], None] = _write_json if arguments.json else _write
    with _client(arguments) as client:
        if arguments.group is None:
            names = client.groups()
            for name in names:
                write(name)
            if not names:
                _note("there are no tasks; add one with: taskstore add GROUP DATA")
            return 0
        tasks = client.group(arguments.group, arguments.limit, owned=not arguments.available)
        for task in tasks:
            write(attrs.asdict(task) if arguments.json else _row(task))
        if not tasks:
            _note_none(arguments.group, "available " if arguments.available else "")
    return 0


def _note(text: str) -> None:
    """Tell a person what a program need not know."""
    print(f"taskstore: {text}", file=sys.stderr)


def _note_none(group: str, kind: str = "") -> None:
    _note(f"group {group!r} has no {kind}tasks; for the groups that have some: taskstore list")


def _row(task: TaskInfo) -> str:
    available = task.available_at.isoformat(timespec="milliseconds")
    return f"{task.id}\t{task.attempts}\t{available}\t{task.data}"


def _write_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _write(text: object) -> None:
    """Write a line without anything that a terminal would obey."""
    kept = (
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in str(text)
    )
    encoding = sys.stdout.encoding or "utf-8"
    print("".join(kept).encode(encoding, "backslashreplace").decode(encoding))


# stats

STATS: Final = """\
Show how many tasks there are, group by group and in all: available, owned
(claimed before, and not available now), delayed; and for how long the oldest
available one has been so.
"""
STATS_EXAMPLES: Final = f"""\
{ENVIRONMENT}
examples:
  taskstore stats              all groups
  taskstore stats resize       those whose name begins so
  taskstore stats --json       with what the server has done since it started
"""


def _stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only groups whose name begins so")
    parser.add_argument("--limit", metavar="N", type=_natural, default=0, help="at most so many groups (default: all)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    _add_url(parser)


def _stats(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        stats = client.stats(arguments.prefix, arguments.limit)
    if arguments.json:
        _write_json(attrs.asdict(stats))
        return 0
    totals = stats.totals
    rows = [_figures(group) for group in stats.groups]
    rows.append((totals.available, totals.owned, totals.delayed, "", f"in all, {totals.groups:,} groups"))
    for available, owned, delayed, age, name in [("AVAILABLE", "OWNED", "DELAYED", "OLDEST", "GROUP"), *rows]:
        _write(f"{available:>10}{owned:>10}{delayed:>10}{age:>10}  {name}")
    return 0


def _figures(group: GroupStats) -> tuple[object, ...]:
    seconds = group.oldest_age_ns // 10**9
    age = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}" if group.available else "-"
    return group.available, group.owned, group.delayed, age, group.group


# work

WORK: Final = """\
Work on the tasks of one or more groups with any program. For each task it is
started once: with the task's data in place of {} in its arguments, or else on
standard input; no shell is involved. Its lease is renewed while it runs.

exit code of the program:
  0      done: the task is deleted, and with --add-to a task is added for each
         line of output, in the same step
  75     try again later, as often as it takes
  other  try again; after --max-attempts put into the group GROUP/quarantine
"""
WORK_EXAMPLES: Final = f"""\
SIGTERM or Ctrl-C lets running programs finish; a second one ends them. The
program finds TASKSTORE_TASK_ID, TASKSTORE_TASK_GROUP and
TASKSTORE_TASK_ATTEMPTS in its environment.

{ENVIRONMENT}
examples:
  taskstore work resize -- convert {{}} -resize 50% out/{{}}
  taskstore work --concurrency 4 --until-empty fetch -- curl -fsSO {{}}
  taskstore work --add-to lines files -- cat {{}}
  taskstore work mails -- sh -c 'sendmail -t'      data on standard input
"""


def _work_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("groups", metavar="GROUP", nargs="+", help="the groups to work on")
    add("--add-to", metavar="GROUP", help="add a task there for each line of output")
    add("--concurrency", metavar="N", type=_positive, default=1, help="how many run at a time (default: %(default)s)")
    add("--lease", metavar="SECONDS", type=_lease, default="30", help="how long a task is stuck if this worker dies "
        "(default: %(default)s)")  # fmt: skip
    add("--max-attempts", metavar="N", type=_positive, default=MAX_ATTEMPTS, help="after how many failures a task is "
        "put into quarantine (default: %(default)s)")  # fmt: skip
    add("--until-empty", action="store_true", help="end when the groups hold no task any more; exit code 1 if any was "
        "put into quarantine")  # fmt: skip
    add("--progress", action="store_true", help="show a bar")
    _add_url(parser)
    parser.set_defaults(usage_error=parser.error)
    parser.usage = "taskstore work [OPTION ...] GROUP [GROUP ...] -- PROGRAM [ARGUMENT ...]"


def _work(arguments: argparse.Namespace) -> int:
    from taskstore.worker.bar import said
    from taskstore.worker.program import Program
    from taskstore.worker.workers import Worker

    if not arguments.program:
        arguments.usage_error("say what to run: taskstore work GROUP -- PROGRAM")
    if shutil.which(arguments.program[0]) is None:
        raise TaskStoreError(f"there is no program {arguments.program[0]!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("taskstore: %(message)s"))
    logging.getLogger("taskstore").addHandler(handler)
    program = Program(arguments.program, add_to=arguments.add_to)
    try:
        with _client(arguments) as client:
            worker = Worker(
                client,
                arguments.groups,
                program,
                concurrency=arguments.concurrency,
                lease=arguments.lease,
                max_attempts=arguments.max_attempts,
                progress=arguments.progress,
            )
            progress = worker.run(until_empty=arguments.until_empty)
    finally:
        program.kill()
        logging.getLogger("taskstore").removeHandler(handler)
    print(f"taskstore: {said(progress)}", file=sys.stderr)
    return int(arguments.until_empty and progress.quarantined > 0)


class _OneLine(logging.Formatter):
    """A user wants to know what has happened, and not where in our program."""

    def formatException(self, ei: object) -> str:  # noqa: ARG002, N802 - logging names it
        return ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()


# requeue

REQUEUE: Final = """\
Bring the tasks of a group back from its quarantine, as new tasks with all their
attempts before them, and print how many there were. To see them before, with
the reasons: taskstore list GROUP/quarantine
"""
REQUEUE_EXAMPLES: Final = f"""\
{ENVIRONMENT}
examples:
  taskstore list resize/quarantine
  taskstore requeue resize
  taskstore requeue --limit 1 resize
"""


def _requeue_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group, without /quarantine")
    parser.add_argument("--limit", metavar="N", type=_natural, default=0, help="at most so many (default: all)")
    _add_url(parser)


def _requeue(arguments: argparse.Namespace) -> int:
    quarantine = arguments.group + QUARANTINE
    left = arguments.limit or sys.maxsize
    done = 0
    with _client(arguments) as client:
        while left > done and (tasks := client.group(quarantine, limit=min(PAGE, left - done))):
            change = requeue(tasks, arguments.group)
            try:
                client.update(adds=change.adds, deletes=change.deletes)
            except TaskResponseError:
                continue  # Somebody else was quicker with some of them.
            done += len(tasks)
    if not done:
        _note_none(quarantine)
    print(done)
    return 0


# What arguments look like


def _positive(text: str) -> int:
    return _within(text, range(1, MOST_IN_HAND + 1))


def _natural(text: str) -> int:
    return _within(text, range(2**31))


def _within(text: str, allowed: range) -> int:
    if not (text.isascii() and text.isdigit() and int(text) in allowed):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)


def _seconds(text: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 1,000,000,000")
    return timedelta(seconds=seconds)


def _lease(text: str) -> timedelta:
    lease = _seconds(text)
    if lease < timedelta(seconds=0.2):
        raise argparse.ArgumentTypeError(f"{text!r} seconds is too short a lease; 0.2 is the least")
    return lease


VERBS: Final = (
    Verb("add", "add tasks to a group", ADD, ADD_EXAMPLES, _add_arguments, _add),
    Verb("list", "list groups, or the tasks of one", LIST, LIST_EXAMPLES, _list_arguments, _list),
    Verb("stats", "show how many tasks there are", STATS, STATS_EXAMPLES, _stats_arguments, _stats),
    Verb("work", "work on tasks with any program", WORK, WORK_EXAMPLES, _work_arguments, _work),
    Verb("requeue", "bring tasks back from quarantine", REQUEUE, REQUEUE_EXAMPLES, _requeue_arguments, _requeue),
)
