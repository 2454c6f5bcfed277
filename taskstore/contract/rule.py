"""What a rule of the contract is, and how one is written.

    @rule()
    def ids_grow(store: Store) -> None:
        \"\"\"Every new task has a larger id than all before it.\"\"\"
        first, second = store.make(adds=[store.add(), store.add()])
        store.expect(second.id > first.id, f"id {second.id} was given out after {first.id}")

The law of this room: a rule is a function over a store. Its name says what holds, its docstring is the one sentence
that a report shows, and it returns if the server keeps it, or raises `Broken`, or `Absent`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from taskstore.contract.store import Store

Check: TypeAlias = "Callable[[Store], None]"

LEVELS: Final = ("core", "full")
"""`core` is the original protocol in the contract's form; `full` is that and all additions."""


class Broken(Exception):
    """The server breaks the rule. The message says how."""


class Absent(Exception):
    """The server does not offer what the rule is about. The message says what."""


class TooSlow(Exception):
    """An answer came too late to judge by it. With longer leases it may do."""


class Rule(NamedTuple):
    """A rule of the contract, and how to find out whether a server keeps it."""

    name: str
    sentence: str
    check: Check
    level: str
    dialects: tuple[str, ...]
    """The dialects in which it holds; what the contract adds of its own does not hold for the published Go server."""
    feature: str | None
    """The addition that it is about, if any; see features.py."""
    alone: bool
    """Whether no other rule should run meanwhile."""


ENTERED: Final[list[Rule]] = []
"""All rules that have been imported."""


def rule(
    *,
    level: str = "core",
    dialects: Iterable[str] = ("json", "go"),
    feature: str | None = None,
    alone: bool = False,
) -> Callable[[Check], Check]:
    """Enter a function as a rule."""

    def enter(check: Check) -> Check:
        name = check.__name__.replace("_", "-")
        sentence = " ".join((check.__doc__ or "").split("\n\n")[0].split())
        ENTERED.append(Rule(name, sentence, check, level, tuple(dialects), feature, alone))
        return check

    return enter
