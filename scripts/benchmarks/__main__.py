"""The command line of scripts/bench."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import client, growth, peers, postgres, report, server, storage, worker

SUBJECTS: Final = {
    module.__name__.rpartition(".")[2]: module for module in (server, client, worker, storage, growth, postgres)
}

EPILOG: Final = """\
subjects:
{subjects}

examples:
  scripts/bench                    everything, some minutes
  scripts/bench server             one subject
  scripts/bench server --runs 1    quick and rough
  scripts/bench worker --peer beanstalkd
"""


def main() -> int:
    """Measure what the command line names; 1 if a figure misses its target."""
    subjects = "\n".join(
        f"  {name:10}{(module.__doc__ or '').partition(chr(10))[0]}" for name, module in SUBJECTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure, side by side with a reference in the same run, and print medians and ratios.",
        epilog=EPILOG.format(subjects=subjects),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", nargs="*", metavar="SUBJECT", help="what to measure (default: everything)")
    parser.add_argument("--runs", type=int, default=3, help="show medians of this many runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    parser.add_argument(
        "--peer",
        action="append",
        choices=peers.PEERS,
        metavar="NAME",
        help=f"compare the worker with this queue; repeatable (default: those installed of {', '.join(peers.PEERS)})",
    )
    options = parser.parse_args()
    for name in set(peers.PEERS) - set(options.peer or peers.PEERS):
        del peers.PEERS[name]
    if unknown := set(options.subject) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    figures = []
    with tempfile.TemporaryDirectory(prefix="taskstore-bench-") as directory:
        for subject in options.subject or SUBJECTS:
            print(f"measuring {subject} ...", file=sys.stderr, flush=True)
            figures += SUBJECTS[subject].measure(options.runs, Path(directory))
    report.show(figures)
    if options.json:
        report.save(figures, options.json, runs=options.runs)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
