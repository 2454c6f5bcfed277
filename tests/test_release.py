"""What was released is known in a clone without history, a break of it fails, and a release cannot be half made."""

import datetime as dt
import re
from pathlib import Path

import pytest
from releases.__main__ import Tree, check, next_break, record, rises

ROOT = Path(__file__).parent.parent
TODAY = dt.date(2030, 1, 2)

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n- All.\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A checkout in which nothing has been released."""
    package = tmp_path / "taskstore"
    package.mkdir()
    (package / "__init__.py").write_text("__all__ = ['f']\ndef f(a: int = 1) -> int: ...\n")
    (package / "testing.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    (tmp_path / "openapi.yaml").write_text(
        "info: {version: 1.0.0}\n"
        "paths: {/a: {get: {operationId: a, responses: {}}}, /b: {get: {operationId: b, responses: {}}}}\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return Tree(tmp_path)


@pytest.fixture
def released(tree: Tree) -> Tree:
    """A checkout right after a release, with a line on what comes next."""
    assert record(tree, TODAY) == []
    edit(tree, "CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n### Added\n- More.\n")
    return tree


def edit(tree: Tree, name: str, old: str, new: str) -> None:
    text = (tree.root / name).read_text()
    assert old in text
    (tree.root / name).write_text(text.replace(old, new, 1))


def break_contract(tree: Tree) -> None:
    edit(tree, "openapi.yaml", ", /b: {get: {operationId: b, responses: {}}}", "")


def add_to_contract(tree: Tree) -> None:
    edit(tree, "openapi.yaml", "paths: {", "paths: {/c: {get: {operationId: c, responses: {}}}, ")


def break_api(tree: Tree) -> None:
    edit(tree, "taskstore/__init__.py", "a: int = 1", "a: int")


def raise_version(tree: Tree, file: str, old: str, new: str) -> None:
    edit(
        tree,
        file,
        f"version: {old}" if file == "openapi.yaml" else f'"{old}"',
        f"version: {new}" if file == "openapi.yaml" else f'"{new}"',
    )


def test_before_the_first_release_there_is_nothing_to_break(tree: Tree) -> None:
    break_contract(tree)
    break_api(tree)
    assert check(tree, "contract") == ([], "nothing released yet")
    assert check(tree, "api") == ([], "nothing released yet")


def test_a_release_is_written_down_and_differs_in_nothing(released: Tree) -> None:
    assert (
        "## [Unreleased]\n\n### Added\n- More.\n\n## [0.1.0] - 2030-01-02\n\n### Added\n- All.\n" in released.changelog
    )
    assert (released.released / "openapi.yaml").read_bytes() == (released.root / "openapi.yaml").read_bytes()
    assert sorted(path.name for path in released.released.iterdir()) == [
        "openapi.yaml",
        "taskstore.pyi",
        "taskstore.testing.pyi",
        "version",
    ]
    assert check(released, "contract") == ([], "ok")
    assert check(released, "api") == ([], "ok")


def test_a_break_of_the_contract_fails_until_its_first_number_rises(released: Tree) -> None:
    break_contract(released)
    wrong, _ = check(released, "contract")
    assert wrong == [
        "breaks clients              GET /b: was removed",
        "This breaks what 1.0.0 promised. Undo it, or raise info.version in openapi.yaml (1.0.0) to 2.0.0.",
    ]
    raise_version(released, "openapi.yaml", "1.0.0", "1.1.0")
    assert check(released, "contract")[0]
    raise_version(released, "openapi.yaml", "1.1.0", "2.0.0")
    assert check(released, "contract") == ([], "ok, 1 breaking, 0 additive since 1.0.0")
    assert check(released, "api") == ([], "ok")


def test_an_addition_to_the_contract_passes(released: Tree) -> None:
    add_to_contract(released)
    assert check(released, "contract") == ([], "ok, 0 breaking, 1 additive since 1.0.0")


def test_a_break_of_the_api_fails_until_the_package_s_version_rises(released: Tree) -> None:
    break_api(released)
    wrong, _ = check(released, "api")
    assert wrong[0].endswith("taskstore.f(a): parameter is now required")
    assert wrong[-1].endswith("raise version in pyproject.toml (0.1.0) to 0.2.0.")
    raise_version(released, "pyproject.toml", "0.1.0", "0.1.1")
    assert check(released, "api")[0]
    raise_version(released, "pyproject.toml", "0.1.1", "0.2.0")
    assert check(released, "api")[0] == []


def test_a_break_that_harms_nobody_is_let_through_with_a_reason_until_the_next_release(released: Tree) -> None:
    break_contract(released)
    released.accepted_file.write_text("GET /b: was removed  # no server ever had it\n")
    assert check(released, "contract")[0] == []
    released.accepted_file.write_text("GET /b: was removed\n")
    with pytest.raises(SystemExit, match="gives no reason"):
        check(released, "contract")
    released.accepted_file.write_text("GET /b: was removed  # no server ever had it\n")
    raise_version(released, "openapi.yaml", "1.0.0", "1.1.0")
    raise_version(released, "pyproject.toml", "0.1.0", "0.1.1")
    assert record(released, TODAY) == []
    assert not released.accepted_file.exists()


def test_a_release_that_only_the_changelog_knows_of_fails(released: Tree) -> None:
    edit(released, "CHANGELOG.md", "## [0.1.0]", "## [0.2.0] - 2030-02-03\n\n## [0.1.0]")
    wrong, _ = check(released, "api")
    assert wrong == ["CHANGELOG.md tells of 0.2.0, and .released/ is of 0.1.0: leave both to scripts/release"]
    assert record(released, TODAY) == wrong


def test_a_baseline_that_was_lost_fails(released: Tree) -> None:
    (released.released / "version").unlink()
    assert check(released, "contract")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: None, "version in pyproject.toml has to be above 0.1.0."),
        (add_to_contract, "info.version in openapi.yaml has to be above 1.0.0."),
        (break_contract, "This breaks what 1.0.0 promised."),
        (break_api, "This breaks what 0.1.0 promised."),
        (lambda tree: edit(tree, "CHANGELOG.md", "\n### Added\n- More.\n", ""), "nothing under [Unreleased]"),
    ],
    ids=["same version", "addition", "contract broken", "API broken", "nothing to tell"],
)
def test_a_release_is_refused_and_nothing_written(released: Tree, change: object, said: str) -> None:
    assert callable(change)
    change(released)
    before = {path: path.read_bytes() for path in released.root.rglob("*") if path.is_file()}
    assert said in " ".join(record(released, TODAY))
    assert {path: path.read_bytes() for path in released.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("old", "new", "may_break"),
    [
        ("1.2.3", "1.2.4", False),
        ("1.2.3", "1.3.0", False),
        ("1.2.3", "2.0.0", True),
        ("1.2.3", "0.9.0", False),
        ("0.1.0", "0.1.1", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
        ("9.0.0", "10.0.0", True),
    ],
)
def test_which_version_may_break(old: str, new: str, *, may_break: bool) -> None:
    assert rises(old, new) is may_break
    assert rises(old, next_break(old))


def test_our_changelog_is_kept_by_the_convention() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    second = re.findall(r"^## (.*)$", text, re.MULTILINE)
    third = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert second[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", each) for each in second[1:])
    assert set(third) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
