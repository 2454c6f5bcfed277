"""The command line: arguments in, exit code out.

The laws of this room: what a user does wrong gives one line on standard error and never a traceback; a command imports
what it needs when it is chosen, so that `taskstore --help` is quick; a token comes from the environment and never from
an argument, where every user of the machine could read it.

A new verb is one function that adds its parser and one that runs it, and a line in `VERBS`.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeAlias

from taskstore.errors import HTTPError, TaskStoreError

Command: TypeAlias = Callable[[argparse.Namespace], int]
"""Runs a verb with its parsed arguments, and returns the exit code."""

FAILED: Final = 1
MISUSED: Final = 2
"""What argparse, and so `taskstore`, returns where the arguments make no sense."""
INTERRUPTED: Final = 128 + 2
"""What a shell reports for a command that SIGINT ended."""
NO_READER: Final = 128 + 13
"""What a shell reports for a command that SIGPIPE ended."""
STORE: Final = "taskstore.db"
"""Where tasks are kept if nobody says where."""

DESCRIPTION: Final = """\
A transactional task store over HTTP. Tasks lie in groups; a worker claims one
under a lease and, in one all-or-nothing update, deletes it and adds what comes
next. A worker that dies loses nothing: its lease runs out, and its task is
available again.
"""
EXAMPLES: Final = """\
examples:
  taskstore demo            see a whole job, one worker killed in the middle
  taskstore serve           run a server at http://127.0.0.1:8048
  taskstore add GROUP DATA  give it something to do
  taskstore work GROUP -- PROGRAM {}    do it, with any program
  taskstore check URL       find out whether a server keeps the contract
  taskstore serve --help    what a command takes
"""
SERVE: Final = """\
Run a server in the foreground until Ctrl-C or SIGTERM. Its first line says
where it listens: serving http://HOST:PORT
"""
SERVE_EXAMPLES: Final = """\
environment:
  TASKSTORE_TOKEN  if set, every request has to carry it, as
                   "Authorization: Bearer TOKEN"; a host that other machines
                   can reach needs one

examples:
  taskstore serve                            for this machine only
  taskstore serve --port 0 --store :memory:  a free port, nothing kept
  taskstore serve --store 'postgresql://user@host/database?schema=taskstore'
                                             one of many servers; the password
                                             comes from PGPASSWORD or ~/.pgpass
  TASKSTORE_TOKEN=... taskstore serve --host 0.0.0.0
"""
COPY_EXAMPLES: Final = """\
passwords:
  Leave the password out of the address of a database, where others could read
  it, and put it into PGPASSWORD or ~/.pgpass.

examples:
  taskstore copy taskstore.db postgresql://user@host/database
  taskstore copy 'postgresql://user@host/database?schema=old' new.db
"""
DEMO: Final = """\
Count words by MapReduce, with worker processes that meet nowhere but in a task
store. One of them is killed in the middle, its lease runs out, another one does
its work, and the counts come out exact.
"""
DEMO_EXAMPLES: Final = """\
Of directories, hidden files and directories are left out.

exit code:
  0 if all counts are those of collections.Counter over the same input, else 1

environment:
  TASKSTORE_TOKEN  what the server at --url asks for, if it does

examples:
  taskstore demo                              on a server of its own
  taskstore demo README.md docs/              count something else
  taskstore demo --url http://127.0.0.1:8048  on a server that runs already;
                                              leaves nothing behind there
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (by default the process's arguments) names, and return its exit code."""
    try:
        arguments = _parsed(sys.argv[1:] if argv is None else list(argv))
        if arguments is None:
            return MISUSED
        command: Command = arguments.command
        code = command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("taskstore: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (TaskStoreError, OSError) as error:
        print(f"taskstore: {error}{_advice(error)}", file=sys.stderr)
        return FAILED
    return code


def _advice(error: Exception) -> str:
    """What to do about what a server has said, for whoever calls it from a command line."""
    match error:
        case HTTPError(status=401) if os.environ.get("TASKSTORE_TOKEN"):
            return "; the token in TASKSTORE_TOKEN is not the one of this server"
        case HTTPError(status=401):
            return "; set TASKSTORE_TOKEN to the token of this server"
        case HTTPError(status=404 | 405 | 501):
            return "; is this the address of a taskstore server?"
        case _:
            return ""


def _parsed(argv: list[str]) -> argparse.Namespace | None:
    """The arguments of a command; None where none is named, so that all of them are shown."""
    program: list[str] = []
    if argv[:1] == ["work"] and "--" in argv:
        # What follows is a command of its own, with arguments that may look like ours.
        end = argv.index("--")
        argv, program = argv[:end], argv[end + 1 :]
    parser = _Parser(prog="taskstore", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=_AS_IS)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in VERBS:
        add(verbs)
    if not argv:
        parser.print_help(sys.stderr)
        return None
    if not argv[0].startswith("-") and argv[0] not in verbs.choices:
        parser.error(f"there is no command {argv[0]!r}{_meant(argv[0], verbs.choices)}")
    arguments, unknown = parser.parse_known_args(argv, argparse.Namespace(program=program))
    if unknown:
        # Only the parser of the command itself knows what it takes, and argparse would send the user to the other one.
        verbs.choices.get(argv[0], parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _meant(word: str, words: Iterable[str]) -> str:
    import difflib

    found = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message.removesuffix('.')} (see {self.prog} --help)\n")


_AS_IS: Final = argparse.RawDescriptionHelpFormatter


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that import is no small one."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        from taskstore import __version__

        print(f"taskstore {__version__}")
        parser.exit()


def _add_serve(verbs: Any) -> None:
    parser = verbs.add_parser(
        "serve",
        help="run a server",
        description=SERVE,
        epilog=SERVE_EXAMPLES,
        formatter_class=_AS_IS,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8048, help="the port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--store",
        metavar="STORE",
        default=STORE,
        help="what holds the tasks: a file, made if missing; postgresql://...; or :memory: (default: %(default)s)",
    )
    parser.add_argument("--log", action="store_true", help="write a line for each request to standard error")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_processes,
        default=1,
        help="how many processes answer; more than one needs PostgreSQL (default: %(default)s)",
    )
    parser.set_defaults(command=_serve)


@contextmanager
def _server_extra() -> Iterator[None]:
    """Tells whoever lacks what the server needs how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "taskstore":
            raise  # No extra can mend that.
        raise TaskStoreError(f"this needs the server: pip install 'taskstore[server]' ({error})") from error


def _serve(arguments: argparse.Namespace) -> int:
    with _server_extra():
        from taskstore.server import serve
    token = os.environ.get("TASKSTORE_TOKEN") or None
    if token and not (token.isprintable() and token == token.strip()):
        raise TaskStoreError(
            "TASKSTORE_TOKEN has a line break or a blank at its end, or another character that no header can carry"
        )
    return serve(
        host=arguments.host,
        port=arguments.port,
        store=arguments.store,
        token=token,
        access_log=arguments.log,
        workers=arguments.workers,
    )


def _add_backup(verbs: Any) -> None:
    parser = verbs.add_parser(
        "backup",
        help="copy a store in a file, while it is used or not",
        description="Write a store, as it is at one instant, to a new file. A server may be using it.",
        epilog="For a store in PostgreSQL use pg_dump.\n\nexamples:\n  taskstore backup /backups/monday.db",
        formatter_class=_AS_IS,
    )
    parser.add_argument("file", metavar="FILE", help="the new file")
    parser.add_argument("--store", metavar="FILE", default=STORE, help="the store (default: %(default)s)")
    parser.set_defaults(command=_backup)


def _backup(arguments: argparse.Namespace) -> int:
    with _server_extra():
        from taskstore.server import backup
    if "://" in arguments.store:
        raise TaskStoreError("backup copies a store in a file; for one in PostgreSQL use pg_dump")
    tasks = backup(arguments.store, arguments.file)
    print(f"{arguments.file} holds the {tasks:,} tasks of {arguments.store}, checked and on disk")
    return 0


def _add_restore(verbs: Any) -> None:
    parser = verbs.add_parser(
        "restore",
        help="make a store of a backup",
        description=(
            "Make a new store of a backup. Its new ids begin far beyond the backup's, so that\n"
            "none that was given out after the backup is given out again."
        ),
        epilog="examples:\n  taskstore restore /backups/monday.db --store taskstore.db",
        formatter_class=_AS_IS,
    )
    parser.add_argument("file", metavar="FILE", help="the backup")
    parser.add_argument(
        "--store", metavar="FILE", default=STORE, help="the new file for the store (default: %(default)s)"
    )
    parser.set_defaults(command=_restore)


def _restore(arguments: argparse.Namespace) -> int:
    with _server_extra():
        from taskstore.server import restore
    tasks = restore(arguments.file, arguments.store)
    serve = "taskstore serve" if arguments.store == STORE else f"taskstore serve --store {shlex.quote(arguments.store)}"
    print(f"{arguments.store} holds the {tasks:,} tasks of {arguments.file}; serve it with: {serve}")
    return 0


def _add_copy(verbs: Any) -> None:
    parser = verbs.add_parser(
        "copy",
        help="move a store, from a file to PostgreSQL for one",
        description=(
            "Copy a store that no server is using to another place: all tasks with their ids,\n"
            "times and owners. If it is interrupted, run it again, and it goes on. In the end\n"
            "both are counted."
        ),
        epilog=COPY_EXAMPLES,
        formatter_class=_AS_IS,
    )
    parser.add_argument("source", metavar="FROM", help="the store: a file, or postgresql://...")
    parser.add_argument("target", metavar="TO", help="where the copy is to be, likewise; empty, or an unfinished copy")
    parser.set_defaults(command=_copy)


def _copy(arguments: argparse.Namespace) -> int:
    with _server_extra():
        from taskstore.server.copy import copy

    def tell(copied: int) -> None:
        print(f"\r{copied:,} tasks", end="", file=sys.stderr, flush=True)

    tasks = copy(arguments.source, arguments.target, tell if sys.stderr.isatty() else lambda _: None)
    print(f"all {tasks:,} tasks are in both places now")
    return 0


def _add_demo(verbs: Any) -> None:
    parser = verbs.add_parser(
        "demo",
        help="count words with four workers, one of which is killed, and prove the counts exact",
        description=DEMO,
        epilog=DEMO_EXAMPLES,
        formatter_class=_AS_IS,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", help="what to count (default: the source files of the standard library)"
    )
    parser.add_argument(
        "--workers", metavar="N", type=_workers, default=4, help="how many processes work (default: %(default)s)"
    )
    parser.add_argument(
        "--lease",
        metavar="SECONDS",
        type=_lease_ns,
        default="2",
        dest="lease_ns",
        help="how long a claim holds a task (default: %(default)s)",
    )
    parser.add_argument("--no-kill", action="store_false", dest="kill", help="let all workers live")
    parser.add_argument("--url", help="use the server that runs there (default: start one, in a temporary directory)")
    parser.add_argument(
        "--svg",
        metavar="FILE",
        default="demo-timeline.svg",
        help="where to draw who held what when (default: %(default)s)",
    )
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from taskstore.demo import Settings, run

    if arguments.url is None:
        with _server_extra():
            import taskstore.server  # noqa: F401 - it is the demo's own server that needs it, as a process of its own
    settings = Settings(
        paths=arguments.paths,
        workers=arguments.workers,
        lease_ns=arguments.lease_ns,
        kill=arguments.kill,
        url=arguments.url,
        token=os.environ.get("TASKSTORE_TOKEN") or None,
        svg=arguments.svg,
    )
    with _tidy_end():
        return run(settings)


@contextmanager
def _tidy_end() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, end the command like Ctrl-C, so that it leaves nothing behind."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in (signal.Signals[name] for name in names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _port(text: str) -> int:
    return _whole_number(text, range(2**16))


def _processes(text: str) -> int:
    return _whole_number(text, range(1, 65))


def _workers(text: str) -> int:
    return _whole_number(text, range(2, 65))


def _whole_number(text: str, allowed: range) -> int:
    if not (text.isascii() and text.isdigit() and int(text) in allowed):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)


def _lease_ns(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.2 to 3600")
    return round(seconds * 10**9)


def _add_check(verbs: Any) -> None:
    from taskstore.contract import command

    parser = verbs.add_parser(
        "check",
        help="find out whether any server keeps the contract",
        description=command.DESCRIPTION,
        epilog=command.EXAMPLES,
        formatter_class=_AS_IS,
    )
    command.add_arguments(parser)
    parser.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    from taskstore.contract import command

    with _tidy_end():
        return command.run(arguments)


def _add_everyday(verbs: Any) -> None:
    from taskstore.worker import commands

    for verb in commands.VERBS:
        parser = verbs.add_parser(
            verb.name,
            help=verb.help,
            description=verb.description,
            epilog=verb.epilog,
            formatter_class=_AS_IS,
        )
        verb.add_arguments(parser)
        parser.set_defaults(command=verb.run)


VERBS: Final = (_add_demo, _add_serve, _add_everyday, _add_backup, _add_restore, _add_copy, _add_check)
