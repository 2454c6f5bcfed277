"""Random sequences of requests, judged by the oracle: for what no rule was written for.

The law of this room: the same seed makes the same requests, as far as the server answers alike.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from taskstore.contract.oracle import Oracle
from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, Exchange, Store

STEPS: Final = 400
"""How many requests a walk makes."""
SECONDS: Final = 10.0
"""How long it takes at most, for servers that are far away."""


@rule()
def any_sequence_is_answered_right(store: Store) -> None:
    """Whatever is asked, in any order and by several clients, is answered as all rules together demand."""
    walk(store, STEPS)


def walk(store: Store, steps: int, seconds: float = SECONDS) -> None:
    """Make so many random requests, or as many as there is time for.

    Raises:
        Broken: an answer was none that the contract allows.
    """
    walker = _Walker(store)
    deadline = monotonic() + seconds
    for _ in range(steps):
        walker.step()
        if monotonic() > deadline:
            break


class _Walker:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.random = store.random
        self.oracle = Oracle(store.dialect, store.common, store.features)
        self.groups = [store.group() for _ in range(3)]
        self.clients = [store.one, store.other, store.third]
        self.data = 0
        self.judged = 0
        self.reads: list[Callable[[], object]] = [self.read_tasks, self.read_group, self.read_task, self.read_groups]
        if store.dialect.name == "go":
            self.reads = [self.depend]  # The published Go server answers no reads.

    def step(self) -> None:
        does: Callable[[], object] = self.random.choices([self.update, self.claim, *self.reads], self._weights())[0]
        does()
        for step in self.store.steps[self.judged :]:
            if isinstance(step, Exchange):
                self.oracle.judge(step)
        self.judged = len(self.store.steps)

    def _weights(self) -> list[int]:
        return [8, 4, *([4, 2, 1, 1] if len(self.reads) > 1 else [4])]

    def update(self) -> None:
        random = self.random
        few = (0, 0, 1, 1, 2, 3)
        adds = [self.add() for _ in range(random.choice(few))]
        updates = [{"id": self.id(), **self.change()} for _ in range(random.choice(few))]
        lists: dict[str, list[Any]] = {"adds": adds, "updates": updates}
        lists["deletes"] = [self.id() for _ in range(random.choice((0, 0, 0, 1, 2)))]
        lists["depends"] = [self.id() for _ in range(random.choice((0, 0, 0, 1, 2)))]
        given = {name: each for name, each in lists.items() if each or random.random() < 0.2}
        self.store.update(client=random.choice(self.clients), **given)

    def add(self) -> dict[str, Any]:
        return {"group": self.random.choice(self.groups), **self.change()}

    def change(self) -> dict[str, Any]:
        """Data that no other task has, so that it shows which one was claimed, and a time that is no close call."""
        self.data += 1
        change: dict[str, Any] = {"data": str(self.data)}
        if (duration := self.random.choice((None, 0, 0, 1, -HOUR, 2**63 - 1))) is not None:
            change["duration"] = duration
        return change

    def id(self) -> int:
        """Mostly the id of a task, sometimes one that was consumed or never was."""
        kinds = [sorted(self.oracle.tasks), sorted(self.oracle.gone)[-20:], [self.store.stranger()]]
        ids = self.random.choices(kinds, [16, 2, 1])[0]
        return self.random.choice(ids or kinds[2])

    def claim(self) -> None:
        depends = [self.id()] if self.random.random() < 0.3 else []
        lease_ns = self.random.choice((0, HOUR, HOUR))
        client = self.random.choice(self.clients)
        self.store.claimed(self.random.choice(self.groups), lease_ns, client=client, depends=depends)

    def read_task(self) -> None:
        self.store.task(self.id())

    def read_tasks(self) -> None:
        self.store.tasks(*(self.id() for _ in range(self.random.randrange(1, 5))))

    def read_group(self) -> None:
        limit, owned = self.random.choice((None, 0, 1, 3)), self.random.choice((None, "true", "false"))
        self.store.listing(self.random.choice(self.groups), limit=limit, owned=owned)

    def read_groups(self) -> None:
        self.store.groups()

    def depend(self) -> None:
        self.store.exist(self.id(), self.id())
