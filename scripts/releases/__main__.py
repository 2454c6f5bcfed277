"""Compare what is there with what was released last, or record what is there as released.

What was promised lies in .released/, so that a clone without history knows it: openapi.yaml as it was, the public API
as stubs, and the package's version. Only scripts/release writes there, and in CHANGELOG.md in the same step, so neither
can be ahead of the other: a version in CHANGELOG.md that is not the one in .released/ fails the check.

There are two versions, because they are for different people. `info.version` of openapi.yaml is the contract's, for
whoever writes a client or a server in any language; `version` of pyproject.toml is the package's, for whoever imports
taskstore. A breaking difference in the one asks nothing of the other. What breaks needs the first number to rise, or
while that is 0, the second.

A difference that is called breaking and is known to harm nobody can be let through until the next release: write it, as
it is printed, into .released/accepted, and after two blanks and a # the reason.
"""

import argparse
import datetime as dt
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from releases import api, contract
from releases.schemas import Difference

PARTS: Final = ("contract", "api")
HEADING: Final = re.compile(r"^## \[(\d[^\]]*)\]", re.MULTILINE)
UNRELEASED: Final = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## |^\[|\Z)", re.MULTILINE | re.DOTALL)


class Finding(NamedTuple):
    """One difference, and whether anything breaks by it."""

    text: str
    breaking: bool
    whom: str = ""

    def __str__(self) -> str:
        return f"{f'breaks {self.whom}' if self.breaking else 'additive':<26}  {self.text}"


class Tree:
    """A checkout: what it says now, and what it said when it was released last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.released = root / ".released"
        self.accepted_file = self.released / "accepted"

    @property
    def version(self) -> str:
        return str(tomllib.loads((self.root / "pyproject.toml").read_text())["project"]["version"])

    @property
    def released_version(self) -> str | None:
        file = self.released / "version"
        return file.read_text().strip() if file.is_file() else None

    @property
    def changelog(self) -> str:
        return (self.root / "CHANGELOG.md").read_text()

    @property
    def unreleased(self) -> str:
        """What CHANGELOG.md says of what comes next."""
        found = UNRELEASED.search(self.changelog)
        return found[1].strip() if found else ""

    def versions(self, part: str) -> tuple[str, str]:
        """The version of a part at the last release, and now."""
        if part == "api":
            return self.released_version or "", self.version
        before, after = (_contract(directory)["info"]["version"] for directory in (self.released, self.root))
        return str(before), str(after)

    def findings(self, part: str) -> list[Finding]:
        """Each difference of a part since the last release."""
        if part == "contract":
            found = contract.differences(_contract(self.released), _contract(self.root))
            return [Finding(str(each), each.breaking, _whom(each)) for each in found]
        before = {path.stem: path.read_text() for path in sorted(self.released.glob("*.pyi"))}
        after = api.stubs(self.root)
        breaks = [Finding(each, True, "who imports it") for each in api.breaks(before, after)]
        return breaks + [Finding(each, False) for each in api.additions(before, after)]

    def accepted(self) -> dict[str, str]:
        """The differences that were let through, each with the reason.

        Raises:
            SystemExit: one has no reason.
        """
        lines = self.accepted_file.read_text().splitlines() if self.accepted_file.is_file() else []
        pairs = [line.partition("  # ") for line in lines if line.strip()]
        for text, _, reason in pairs:
            if not reason.strip():
                raise SystemExit(f".released/accepted gives no reason for: {text}")
        return {text.strip(): reason for text, _, reason in pairs}

    def stale(self) -> list[str]:
        """Why it cannot be told what was released, if it cannot."""
        told = HEADING.search(self.changelog)
        if (told[1] if told else None) == self.released_version:
            return []
        is_, was = told[1] if told else "no release", self.released_version or "none"
        return [f"CHANGELOG.md tells of {is_}, and .released/ is of {was}: leave both to scripts/release"]


def check(tree: Tree, part: str) -> tuple[list[str], str]:
    """Compare a part with the last release.

    Returns:
        What is wrong, and in a few words how it is.
    """
    wrong = tree.stale()
    if wrong or tree.released_version is None:
        return wrong, "nothing released yet"
    findings, accepted = tree.findings(part), tree.accepted()
    before, after = tree.versions(part)
    breaking = [each for each in findings if each.breaking and each.text not in accepted]
    if breaking and not rises(before, after):
        wrong = [str(each) for each in breaking]
        file = "info.version in openapi.yaml" if part == "contract" else "version in pyproject.toml"
        wrong.append(f"This breaks what {before} promised. Undo it, or raise {file} ({after}) to {next_break(before)}.")
    additive = sum(not each.breaking for each in findings)
    counts = f"{len(breaking)} breaking, {additive} additive since {before}" if findings else f"as in {before}"
    return wrong, f"ok, {counts}" if findings else "ok"


def record(tree: Tree, today: dt.date) -> list[str]:
    """Make what is there the last release, in .released/ and in CHANGELOG.md.

    Returns:
        Why it cannot be one; then nothing was written.
    """
    wrong = [line for part in PARTS for line in check(tree, part)[0]]
    if not tree.unreleased:
        wrong.append("CHANGELOG.md says nothing under [Unreleased].")
    if tree.released_version is not None and not wrong:
        if numbers(tree.version) <= numbers(tree.released_version):
            wrong.append(f"version in pyproject.toml has to be above {tree.released_version}.")
        before, after = tree.versions("contract")
        if numbers(after) < numbers(before) or (before == after and tree.findings("contract")):
            wrong.append(f"The contract has changed, so info.version in openapi.yaml has to be above {before}.")
    if wrong:
        return list(dict.fromkeys(wrong))
    stubs = api.stubs(tree.root)
    heading = f"## [Unreleased]\n\n## [{tree.version}] - {today.isoformat()}\n"
    text = tree.changelog.replace("## [Unreleased]\n", heading, 1)
    shutil.rmtree(tree.released, ignore_errors=True)
    tree.released.mkdir()
    shutil.copy(tree.root / "openapi.yaml", tree.released)
    for name, stub in stubs.items():
        (tree.released / f"{name}.pyi").write_text(stub)
    (tree.released / "version").write_text(f"{tree.version}\n")
    (tree.root / "CHANGELOG.md").write_text(text)
    return []


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers.

    Raises:
        SystemExit: it is not three numbers.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"{version} is not a version of three numbers, such as 1.0.0")
    return tuple(int(each) for each in version.split("."))


def rises(old: str, new: str) -> bool:
    """Whether a version is so much higher that it may break what the old one promised."""
    before, after = numbers(old), numbers(new)
    return after[0] > before[0] or (before[0] == after[0] == 0 and after[1] > before[1])


def next_break(version: str) -> str:
    """The lowest version that may break what this one promised."""
    major, minor, _ = numbers(version)
    return f"{major + 1}.0.0" if major else f"0.{minor + 1}.0"


def _contract(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((directory / "openapi.yaml").read_text())
    return document


def _whom(difference: Difference) -> str:
    named = {"clients": difference.clients, "servers": difference.servers}
    return " and ".join(name for name, breaks in named.items() if breaks)


def _tell(tree: Tree) -> int:
    """Print every difference of every part, and how it is."""
    failed = 0
    for part in PARTS:
        wrong, word = check(tree, part)
        if tree.released_version is not None and not tree.stale():
            for finding in tree.findings(part):
                print(finding)
        print(*wrong[-1:], f"{part}: {'FAILED' if wrong else word}", sep="\n")
        failed |= bool(wrong)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("--check", choices=[*PARTS, "all"])
    parser.add_argument("--tree", type=Path, required=True)
    options = parser.parse_args()
    tree = Tree(options.tree)
    if options.check == "all":
        return _tell(tree)
    if options.check:
        wrong, word = check(tree, options.check)
        print(*(wrong or [word]), sep="\n")
        return bool(wrong)
    wrong = record(tree, dt.datetime.now(dt.UTC).date())
    done = f"{tree.version} is recorded in .released/ and CHANGELOG.md. Now commit both, and tag it v{tree.version}."
    print(*(wrong or [done]), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
