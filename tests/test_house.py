"""The rules of the house that a machine can check, and that no linter checks for us; and what is in the wheel.

Who may import what stands in pyproject.toml, under importlinter.
"""

import ast
import importlib
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import taskstore

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "taskstore").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
LONGEST = 700
"""Lines in a file; longer ones are hard to read, and usually lack a noun."""
SAYS_NOTHING = {"base", "common", "core", "helpers", "misc", "tools", "util", "utils"}
"""Names of files that do not tell which line belongs in them."""
SPEAKS_SQL = [ROOT / "taskstore" / "server" / name for name in ("sqlite.py", "postgres.py")]
SQL = re.compile(
    r"\b(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA|BEGIN|COMMIT)\b", re.DOTALL
)


def test_no_file_is_too_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in PACKAGE + TESTS + SCRIPTS}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_the_name_of_a_file_says_what_belongs_in_it() -> None:
    assert [path for path in PACKAGE + TESTS + SCRIPTS if path.stem in SAYS_NOTHING] == []


def has_sql(path: Path) -> bool:
    texts = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return any(isinstance(text, str) and SQL.search(text) for text in texts)


def test_sql_is_only_in_the_storages() -> None:
    assert [path for path in PACKAGE if path not in SPEAKS_SQL and has_sql(path)] == []
    assert has_sql(SPEAKS_SQL[0])


# The public names, which are imported when they are first asked for


def test_a_type_checker_finds_each_name_where_it_is() -> None:
    seen = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse((ROOT / "taskstore" / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("taskstore")
        for alias in node.names
    }
    homes = {(f"taskstore.{home}", name) for home, names in taskstore._HOMES.items() for name in names.split()}
    assert seen == homes
    assert sorted([name for _, name in homes] + ["__version__"]) == sorted(taskstore.__all__)
    for module, name in homes:
        assert getattr(taskstore, name) is getattr(importlib.import_module(module), name)


def test_there_are_no_others() -> None:
    with pytest.raises(AttributeError, match="module 'taskstore' has no attribute 'HttpClient'"):
        _ = taskstore.HttpClient  # type: ignore[attr-defined] # there is none, which is the point
    assert set(dir(taskstore)) == set(taskstore.__all__)


@pytest.mark.parametrize("command", ["import taskstore", "from taskstore.cli import main; main(['--help'])"])
def test_who_needs_little_waits_for_little(command: str) -> None:
    code = f"import contextlib, sys\nwith contextlib.suppress(SystemExit): {command}\nassert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


# The wheel, and what a user of it gets


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], cwd=ROOT, check=True)
    return next(directory.glob("*.whl"))


def test_the_wheel_has_both_packages_and_the_contract_and_nothing_else(wheel: Path) -> None:
    packages = {"taskstore": ROOT / "taskstore", "taskstore_api": ROOT / "generated" / "taskstore_api"}
    expected = {"taskstore/openapi.yaml"} | {
        f"{name}/{path.relative_to(package)}"
        for name, package in packages.items()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"taskstore/py.typed", "taskstore_api/py.typed"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == expected
        assert archive.read("taskstore/openapi.yaml") == (ROOT / "openapi.yaml").read_bytes()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment in which this checkout was installed as `pip install .` does it.

    What it depends on is borrowed from the environment of the tests, which is quicker than to install it once more.
    """
    directory = tmp_path_factory.mktemp("user") / ".venv"
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    borrowed = directory / "lib" / version / "site-packages" / "borrowed.pth"
    borrowed.write_text(sysconfig.get_path("purelib"))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--no-build-isolation", ROOT], check=True)
    return python


def test_what_pip_installs_works(installed: Path, tmp_path: Path) -> None:
    code = "import taskstore, taskstore_api; print(taskstore.__file__, taskstore_api.__file__)"
    said = subprocess.run([installed, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [Path(each).is_relative_to(installed.parent.parent) for each in said.split()] == [True, True]
    subprocess.run([installed.with_name("taskstore"), "--help"], cwd=tmp_path, capture_output=True, check=True)


USER = """
from typing import assert_type
from taskstore import HTTPClient, TaskInfo
from taskstore_api.models import ClaimRequest

assert_type(HTTPClient().claim("map", 1), TaskInfo | None)
assert_type(ClaimRequest(clientid=1, group="map", duration=1).clientid, int)
HTTPClient().claim("map", 1.5)
"""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_a_type_checker_sees_the_types_of_both(
    installed: Path, tmp_path: Path, checker: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = str(installed) if way == "wheel" else sys.executable
    (tmp_path / "user.py").write_text(USER)
    options = {"mypy": ["--strict", "--python-executable", python], "pyright": ["--pythonpath", python]}[checker]
    monkeypatch.setenv("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    done = subprocess.run(
        [sys.executable, "-m", checker, *options, "user.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line or " - error" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert "float" in errors[0]
