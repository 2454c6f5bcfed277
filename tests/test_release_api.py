"""Differences planted into the Python API: what breaks whoever imports it is found, and nothing else."""

from pathlib import Path
from textwrap import dedent

import pytest
from releases import api

ROOT = Path(__file__).parent.parent

SOURCES = {
    "__init__.py": """
        from taskstore.client import Client
        from taskstore.errors import Lost, Refused, Trouble
        from taskstore.model import Colour, Duration, Task

        __all__ = ["Client", "Colour", "Duration", "Lost", "Refused", "Task", "Trouble"]
    """,
    "errors.py": """
        class Trouble(Exception):
            pass

        class Refused(Trouble):
            culprits: tuple[int, ...]

            def __init__(self, culprits: tuple[int, ...]) -> None:
                self.culprits = culprits

        class Lost(Refused):
            pass
    """,
    "model.py": """
        from datetime import timedelta
        from enum import Enum
        from typing import TypeAlias

        import attrs

        Duration: TypeAlias = timedelta | int
        Ref: TypeAlias = "Task | int"

        class Colour(Enum):
            RED = 1
            BLUE = 2

        @attrs.frozen
        class Task:
            group: str
            data: str = attrs.field(default="")

            @property
            def id(self) -> int:
                return 1
    """,
    "client.py": """
        from taskstore.model import Duration, Task

        RETRY = 60

        class _Shared:
            def close(self) -> None:
                pass

        class Client(_Shared):
            def __init__(self, url: str | None = None, *, retry: int = RETRY) -> None:
                self.url = url

            def claim(self, group: str | list[str], duration: Duration, *, wait: int = 0) -> Task | None:
                return None

            def groups(self, *names: str) -> list[str]:
                return []

            def _ask(self, what: str) -> None:
                pass
    """,
    "testing.py": """
        import threading

        def live_server(store: str = "x") -> str:
            return ""
    """,
    "server.py": """
        def decide(now: int) -> None:
            pass
    """,
}


def write(root: Path, *changes: tuple[str, str, str]) -> Path:
    package = root / "taskstore"
    package.mkdir(parents=True)
    for name, text in SOURCES.items():
        for file, old, new in changes:
            if file == name:
                assert old in text
                text = text.replace(old, new)  # noqa: PLW2901 - one change after the other
        (package / name).write_text(dedent(text))
    return package


def surface(root: Path, *changes: tuple[str, str, str]) -> dict[str, str]:
    write(root, *changes)
    return api.stubs(root)


BREAKS = {
    "taskstore.Task: public object was removed": ("__init__.py", '"Task", ', ""),
    "taskstore.Client.groups: public object was removed": ("client.py", "def groups", "def names"),
    "taskstore.Client.close: public object was removed": ("client.py", "Client(_Shared)", "Client"),
    "taskstore.Colour.BLUE: public object was removed": ("model.py", "BLUE = 2", "GREEN = 2"),
    "taskstore.Refused.culprits: public object was removed": ("errors.py", "culprits", "ids"),
    "taskstore.Task.id: public object was removed": ("model.py", "def id", "def number"),
    "taskstore.testing.live_server: public object was removed": ("testing.py", "live_server", "server"),
    "taskstore.Client.claim(wait): parameter was removed": ("client.py", "wait: int = 0", "late: int = 0"),
    "taskstore.Client.claim(wait): parameter is now required": ("client.py", "wait: int = 0", "wait: int"),
    "taskstore.Client.claim(limit): parameter was added as required": ("client.py", "wait:", "limit: int, wait:"),
    "taskstore.Client.claim(duration): parameter kind was changed": (
        "client.py",
        "duration: Duration, *, ",
        "*, duration: Duration, ",
    ),
    "taskstore.Client.claim(wait): parameter default was changed (0, now 1)": (
        "client.py",
        "wait: int = 0",
        "wait: int = 1",
    ),
    "taskstore.Client.__init__(retry): parameter default was changed (60, now 30)": (
        "client.py",
        "RETRY = 60",
        "RETRY = 30",
    ),
    "taskstore.Task.__init__(data): parameter is now required": (
        "model.py",
        '= attrs.field(default="")',
        "= attrs.field()",
    ),
    "taskstore.Client.claim(group): no longer takes list[str]": ("client.py", "str | list[str]", "str"),
    "taskstore.Client.claim(): may be bool now": ("client.py", "Task | None:", "Task | bool | None:"),
    "taskstore.Client.claim: is now async": ("client.py", "def claim", "async def claim"),
    "taskstore.Task.group: may be None now": ("model.py", "group: str", "group: str | None"),
    "taskstore.Duration: no longer takes int": ("model.py", "timedelta | int", "timedelta"),
}

ADDITIONS = {
    "taskstore.Client.names: was added": (
        "client.py",
        "def groups",
        "def names(self) -> int: ...\n\n            def groups",
    ),
    "taskstore.Client.claim(limit): was added": ("client.py", "wait: int = 0", "wait: int = 0, limit: int = 1"),
    "taskstore.Colour.GREEN: was added": ("model.py", "BLUE = 2", "BLUE = 2\n            GREEN = 3"),
    "taskstore.testing.clock: was added": ("testing.py", "def live", "def clock() -> int: ...\n\n        def live"),
}

NOTHING = {
    "what is inside": ("client.py", "return None", "return Task('x')"),
    "what is private": ("client.py", "_ask", "_tell"),
    "what the server does": ("server.py", "decide", "judge"),
    "the name of a constant": ("client.py", "RETRY", "ONE_MINUTE"),
    "a docstring": (
        "client.py",
        "def groups(self, *names: str) -> list[str]:",
        "def groups(self, *names: str) -> list[str]:\n                '''Names.'''",
    ),
    "a parameter that takes more": ("client.py", "url: str | None", "url: str | bytes | None"),
    "a result that is less": ("client.py", "Task | None:", "Task:"),
    "a private base": ("client.py", "_Shared", "_Common"),
    "an import": ("testing.py", "import threading", "import asyncio"),
}


@pytest.mark.parametrize(("what", "change"), BREAKS.items(), ids=list(BREAKS))
def test_what_breaks_is_found(tmp_path: Path, what: str, change: tuple[str, str, str]) -> None:
    assert what in api.breaks(surface(tmp_path / "old"), surface(tmp_path / "new", change))


@pytest.mark.parametrize(("what", "change"), ADDITIONS.items(), ids=list(ADDITIONS))
def test_what_was_added_breaks_nothing(tmp_path: Path, what: str, change: tuple[str, str, str]) -> None:
    old, new = surface(tmp_path / "old"), surface(tmp_path / "new", change)
    assert (api.breaks(old, new), api.additions(old, new)) == ([], [what])


@pytest.mark.parametrize("change", NOTHING.values(), ids=list(NOTHING))
def test_what_nobody_sees_is_no_difference(tmp_path: Path, change: tuple[str, str, str]) -> None:
    old, new = surface(tmp_path / "old"), surface(tmp_path / "new", change)
    assert (api.breaks(old, new), api.additions(old, new)) == ([], [])


def test_a_base_class_that_was_exchanged_is_found(tmp_path: Path) -> None:
    old, new = surface(tmp_path / "old"), surface(tmp_path / "new", ("errors.py", "Lost(Refused)", "Lost(Trouble)"))
    assert "taskstore.Lost: is no longer a Refused" in api.breaks(old, new)


def test_a_class_may_move_to_another_room(tmp_path: Path) -> None:
    moved = ("__init__.py", "from taskstore.client import Client", "from taskstore.home import Client")
    old = surface(tmp_path / "old")
    new = write(tmp_path / "new", moved)
    (new / "client.py").rename(new / "home.py")
    assert api.breaks(old, api.stubs(tmp_path / "new")) == []


def test_a_private_alias_is_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "taskstore").mkdir()
    init = "from taskstore.model import f\n__all__ = ['f']\n"
    (tmp_path / "taskstore" / "__init__.py").write_text(init)
    (tmp_path / "taskstore" / "testing.py").touch()
    model = tmp_path / "taskstore" / "model.py"
    model.write_text("from typing import TypeAlias\nRef: TypeAlias = int | str\ndef f(a: Ref | None) -> None: ...\n")
    old = api.stubs(tmp_path)
    model.write_text("from typing import TypeAlias\nRef: TypeAlias = int\ndef f(a: Ref | None) -> None: ...\n")
    assert api.breaks(old, api.stubs(tmp_path)) == ["taskstore.f(a): no longer takes str"]


def test_our_own_stubs_are_python_and_differ_in_nothing() -> None:
    stubs = api.stubs(ROOT)
    for name, text in stubs.items():
        compile(text, name, "exec")
    assert "    def claim(self, group:" in stubs["taskstore"]
    assert (api.breaks(stubs, stubs), api.additions(stubs, stubs)) == ([], [])
