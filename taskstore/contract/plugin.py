"""For pytest: `pytest --taskstore-url URL` runs each rule against a server, as a test.

Beside whatever other tests there are, or alone with `pytest --taskstore-url URL -k taskstore::`. The part that
openapi.yaml says is one test more, `taskstore::schema`.

The law of this room: unless the option is given it costs nothing, for every pytest of its environment imports it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore.contract.report import Verdict
    from taskstore.contract.run import Kit

_KIT = pytest.StashKey["Kit"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("taskstore", "conformance of a taskstore server")
    group.addoption("--taskstore-url", metavar="URL", help="run the rules of the contract against this server")
    group.addoption("--taskstore-level", choices=("core", "full"), default="core", help="core or full")
    group.addoption("--taskstore-dialect", choices=("json", "go"), default="json", help="json or go")
    group.addoption("--taskstore-seed", type=int, metavar="N", help="repeat a run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each rule."""
    url = config.getoption("--taskstore-url")
    if not url:
        return
    from taskstore.contract.run import Kit, Settings
    from taskstore.errors import TaskStoreError

    settings = Settings(
        url,
        token=os.environ.get("TASKSTORE_TOKEN") or None,
        level=str(config.getoption("--taskstore-level")),
        dialect=str(config.getoption("--taskstore-dialect")),
        seed=config.getoption("--taskstore-seed"),
    )
    try:
        kit = Kit(settings)
    except TaskStoreError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_KIT] = kit
    items.extend(_Item.made(session, rule.name, partial(kit.check, rule)) for rule in kit.rules())
    items.append(_Item.made(session, "schema", partial(_schema, kit)))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what will be done to the server."""
    if not (url := config.getoption("--taskstore-url")):
        return None
    return f"taskstore: checks {url} in groups of its own, and removes what it has made"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was made."""
    if kit := config.stash.get(_KIT, None):
        kit.clean()
        kit.connections.close()


def _schema(kit: Kit) -> list[Verdict]:
    from taskstore.contract.show import Silent

    return kit.schema(Silent())


class _Item(pytest.Item):
    """A rule as a test."""

    judge: Callable[[], Verdict | list[Verdict]]
    failures: list[str]

    @classmethod
    def made(cls, session: pytest.Session, name: str, judge: Callable[[], Any]) -> _Item:
        """A test of this name, at no file."""
        item: _Item = cls.from_parent(session, name=f"taskstore::{name}", nodeid=f"taskstore::{name}")
        item.judge = judge
        return item

    def runtest(self) -> None:
        """Run the rule."""
        found = self.judge()
        verdicts = found if isinstance(found, list) else [found]
        kit = self.config.stash[_KIT]
        failures = [kit.told(verdict) for verdict in verdicts if verdict.status == "fail"]
        if failures:
            raise _BrokenRule("\n\n".join(failures))
        if all(verdict.status == "absent" for verdict in verdicts):
            pytest.skip(verdicts[0].message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is wrong and how to see it again, rather than where in the kit it was noticed."""
        if isinstance(excinfo.value, _BrokenRule):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """What a report calls the test."""
        return "taskstore", None, self.name


class _BrokenRule(Exception):
    """The server breaks a rule."""
