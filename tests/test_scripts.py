"""The scripts' environments are made once, mended when they are not whole, and never made twice at once.

What pip would install is left out here: each test takes an environment in a directory of its own.
"""

import importlib.metadata
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import environment
import pytest
from environment import Need

SCRIPTS = Path(environment.__file__).parent
VERBS = [path for path in sorted(SCRIPTS.iterdir()) if path.is_file() and not path.suffix]


class Tree:
    """A checkout with one need, whose installations are only counted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.installed: list[Need] = []
        self.failure: BaseException | None = None
        self.may_install = threading.Event()
        self.may_install.set()
        (root / "pyproject.toml").write_text("")
        (root / "constraints.txt").write_text("")
        self.small = Need(".venv", "constraints.txt", part_of="large")
        self.large = Need(".venv", "constraints.txt", ("more",))
        monkeypatch.setattr(environment, "ROOT", root)
        monkeypatch.setattr(environment, "NEEDS", {"small": self.small, "large": self.large})
        monkeypatch.setattr(environment, "_install", self._install)

    def _install(self, need: Need) -> None:
        self.may_install.wait()
        self.installed.append(need)
        if self.failure:
            raise self.failure

    def leave(self) -> Path:
        """Leave something in the environment that only a new one will not have."""
        (left := self.root / ".venv" / "left").touch()
        return left


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_an_environment_is_made_once(tree: Tree) -> None:
    variables = environment.ready("small")
    assert variables["VIRTUAL_ENV"] == str(tree.root / ".venv")
    assert variables["PATH"].startswith(str(tree.root / ".venv" / "bin"))
    environment.ready("small")
    assert tree.installed == [tree.small]


def test_what_has_more_is_enough(tree: Tree) -> None:
    environment.ready("large")
    environment.ready("small")
    assert tree.installed == [tree.large]


def test_what_has_less_is_added_to(tree: Tree) -> None:
    environment.ready("small")
    left = tree.leave()
    environment.ready("large")
    assert tree.installed == [tree.small, tree.large]
    assert left.exists()


def test_new_pins_are_installed_into_what_is_there(tree: Tree) -> None:
    environment.ready("small")
    left = tree.leave()
    (tree.root / "constraints.txt").write_text("rich==15.0.0")
    environment.ready("small")
    assert len(tree.installed) == 2
    assert left.exists()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit("pip failed")])
def test_a_half_made_environment_is_made_anew(tree: Tree, failure: BaseException) -> None:
    tree.failure = failure
    with pytest.raises(type(failure)):
        environment.ready("small")
    left, tree.failure = tree.leave(), None
    environment.ready("small")
    assert len(tree.installed) == 2
    assert not left.exists()


def test_an_environment_without_a_python_is_made_anew(tree: Tree) -> None:
    environment.ready("small")
    left = tree.leave()
    (tree.root / ".venv" / "bin" / "python").unlink()
    environment.ready("small")
    assert not left.exists()


def test_an_environment_that_was_moved_is_made_anew(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.ready("small")
    tree.leave()
    moved = tree.root.rename(tree.root.with_name("moved"))
    monkeypatch.setattr(environment, "ROOT", moved)
    environment.ready("small")
    assert not (moved / ".venv" / "left").exists()


def test_an_environment_made_by_hand_keeps_what_is_in_it(tree: Tree) -> None:
    venv.create(tree.root / ".venv", symlinks=True)
    left = tree.leave()
    environment.ready("small")
    assert tree.installed == [tree.small]
    assert left.exists()


def test_two_runs_at_once_install_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()

    @contextmanager
    def told(what: str) -> Iterator[None]:
        if what.startswith("waiting"):
            waits.set()
        yield

    monkeypatch.setattr(environment, "_told", told)
    tree.may_install.clear()
    runs = [threading.Thread(target=environment.ready, args=("small",)) for _ in range(2)]
    for run in runs:
        run.start()
    assert waits.wait(timeout=30)
    tree.may_install.set()
    for run in runs:
        run.join()
    assert tree.installed == [tree.small]


def test_variables_of_another_environment_do_not_leak_in(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/somewhere/else")
    assert "/somewhere/else" not in environment.variables(tree.small).values()


# Which pip


def test_pip_is_the_one_of_this_python(tree: Tree) -> None:
    assert environment._pip(tree.small) == [sys.executable, "-m", "pip", "--python", tree.small.python]


@pytest.mark.parametrize("version", [None, "22.0.2"])
def test_without_a_pip_that_is_new_enough_it_is_a_wheel(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    wheel = tree.root / "ensurepip" / "_bundled" / "pip-26.3-py3-none-any.whl"
    monkeypatch.setattr(importlib.metadata, "version", installed)
    monkeypatch.setattr(environment, "WHEELS", (tree.root / "nowhere", wheel.parent))
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        environment._pip(tree.small)
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert environment._pip(tree.small) == [tree.small.python, wheel / "pip"]


# From outside


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_script_tells_what_it_does_from_anywhere(verb: Path, tmp_path: Path) -> None:
    said = subprocess.run([verb, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"usage: {verb.name}")


def test_an_older_python_is_told_which_one_is_needed() -> None:
    code = "import sys; sys.version_info = (3, 10); sys.argv = ['scripts/demo']; import environment"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [
        "taskstore needs Python 3.11 or newer, and this is 3.10.",
        "Name a newer one, as in: python3.12 scripts/demo",
    ]
