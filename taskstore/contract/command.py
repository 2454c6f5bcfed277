"""`taskstore check`: arguments in, a report out, an exit code back.

The law of this room: 0 is a server that keeps the contract, 1 one that does not, and 2 that it could not be checked.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from os import environ
from pathlib import Path
from re import fullmatch
from typing import Final

from taskstore.errors import TaskStoreError, UsageError

NOT_CHECKED: Final = 2
DESCRIPTION: Final = """\
Find out whether the server at URL, in whatever language it is written, keeps
the contract: by named rules for what no schema can say, and by generated
requests for what openapi.yaml says. It is safe on a server that holds real
data: it works in groups of its own and removes what it has made.
"""
EXAMPLES: Final = """\
exit code:
  0 if the server keeps the contract, 1 if it does not, 2 if it could not be
  checked

environment:
  TASKSTORE_TOKEN  what the server asks for, if it does

examples:
  taskstore check http://127.0.0.1:8048
  taskstore check http://127.0.0.1:8048 --level full --html report.html
  taskstore check http://127.0.0.1:8048 --thorough 10m
  taskstore check http://127.0.0.1:8048 --rule ids-grow --rule a-lease-runs-out
"""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `taskstore check` takes."""
    parser.add_argument("url", metavar="URL", help="where the server is")
    parser.add_argument(
        "--level",
        choices=("core", "full"),
        default="core",
        help="the original protocol, or all additions too (default: core)",
    )
    parser.add_argument(
        "--dialect", choices=("json", "go"), default="json", help="go: a server that wants form fields (default: json)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeat a run (default: draw one, and say which)")
    parser.add_argument(
        "--thorough",
        metavar="DURATION",
        type=duration_s,
        default=0.0,
        dest="thorough_s",
        help="go on with new seeds for so long, as in 90s, 10m or 2h (default: once)",
    )
    parser.add_argument("--rule", metavar="NAME", action="append", dest="rules", help="only this rule; repeatable")
    parser.add_argument("--rules", action="store_true", dest="only_rules", help="only the rules, no generated requests")
    for kind, what in (("junit", "JUnit XML"), ("json", "JSON"), ("html", "one page, readable offline")):
        parser.add_argument(f"--{kind}", metavar="FILE", type=Path, help=f"write the report as {what}")


def duration_s(text: str) -> float:
    """The seconds of a duration such as `90s`, `10m`, `2h` or `45`."""
    found = fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is no duration; give one like 90s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def run(arguments: Namespace) -> int:
    """Check a server as the arguments say, and return the exit code."""
    try:
        return _run(arguments)
    except TaskStoreError as error:
        print(f"taskstore: {error}", file=sys.stderr)
        return NOT_CHECKED


def _run(arguments: Namespace) -> int:
    try:
        from taskstore.contract.page import as_html
        from taskstore.contract.report import PARTS, as_json, as_junit
        from taskstore.contract.run import Settings, check
        from taskstore.contract.schema import missing
        from taskstore.contract.show import screen
    except ModuleNotFoundError as error:
        raise UsageError(f"this needs the kit: pip install 'taskstore[contract]' ({error})") from error
    only_rules = arguments.only_rules or arguments.rules or arguments.dialect != "json"
    if not only_rules and (lacks := missing()):
        raise UsageError(f"this needs the kit: pip install 'taskstore[contract]' ({lacks} is missing)")
    writers = ((arguments.junit, as_junit), (arguments.json, as_json), (arguments.html, as_html))
    for file, _ in writers:
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"cannot write {file}: there is no such directory")
        if file is not None and file.is_dir():
            raise UsageError(f"cannot write {file}: it is a directory; name a file in it")
    settings = Settings(
        url=arguments.url,
        token=environ.get("TASKSTORE_TOKEN") or None,
        level=arguments.level,
        dialect=arguments.dialect,
        seed=arguments.seed,
        thorough_s=arguments.thorough_s,
        parts=PARTS[:1] if arguments.only_rules else PARTS,
        rules=arguments.rules,
    )
    with screen() as show:
        report = check(settings, show)
    show.report(report)
    for file, write in writers:
        if file is not None:
            file.write_text(write(report), encoding="utf-8")
    return 0 if report.passed else 1
