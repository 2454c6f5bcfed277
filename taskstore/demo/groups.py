"""What a run keeps in the store: the names of its groups, how its log is written, and the story that the log tells.

The laws of this room: coordinator and workers meet only here, and only through what stands in the store; every instant
is one of the store's clock.
"""

import json
from typing import Final, Literal, TypeAlias

import attrs

from taskstore.model import TaskInfo

IDLE_S: Final = 0.02
"""How long to wait before looking again where there was nothing."""

TOKEN: Final = "TASKSTORE_TOKEN"  # noqa: S105 - the name of a variable, not its value
"""The environment variable that holds what a server asks for; an argument could be read by everybody."""

Kind: TypeAlias = Literal["ready", "map", "reduce", "lost", "kill"]
"""What an entry of the log says: a worker is there; it has finished a map or reduce task; it was too late for one, for
its lease had run out; it was killed."""


@attrs.frozen
class Groups:
    """The names of a run's groups."""

    prefix: str

    @property
    def map(self) -> str:
        """Chunks to be counted."""
        return f"{self.prefix}/map"

    @property
    def reduce(self) -> str:
        """Tokens, one for each shard."""
        return f"{self.prefix}/reduce"

    @property
    def log(self) -> str:
        """Who did what when."""
        return f"{self.prefix}/log"

    @property
    def run(self) -> str:
        """The task that stands as long as the run lasts."""
        return f"{self.prefix}/run"

    @property
    def kill(self) -> str:
        """The task that says which chunk's holder shall be killed."""
        return f"{self.prefix}/kill"

    def shard(self, number: int) -> str:
        """Counts of words, chunk by chunk."""
        return f"{self.prefix}/shard/{number}"

    def result(self, number: int) -> str:
        """Counts of words, summed up."""
        return f"{self.prefix}/result/{number}"


@attrs.frozen
class Entry:
    """What a task in the log says."""

    kind: Kind
    worker: int
    """The number of the worker it is about."""
    id: int = 0
    """The id under which the worker held the task; 0 where it is about no task."""
    data: str = ""
    """What that task said: a chunk or the number of a shard."""
    since_ns: int = 0
    """When it was claimed, by the store's clock."""

    @staticmethod
    def about(kind: Kind, worker: int, task: TaskInfo, lease_ns: int) -> "Entry":
        """An entry about a task that `worker` has claimed with a lease of `lease_ns`."""
        return Entry(kind, worker, task.id, task.data, task.timespec - lease_ns)

    def task(self, groups: Groups) -> TaskInfo:
        """This entry as a task to be added."""
        return TaskInfo(groups.log, json.dumps(attrs.asdict(self)))

    @staticmethod
    def of(task: TaskInfo) -> "Entry":
        """The entry that a task in the log says."""
        return Entry(**json.loads(task.data))


@attrs.frozen
class Held:
    """A task in the hands of a worker."""

    worker: int
    kind: Kind
    """How it ended: `map` and `reduce` were done, `lost` came too late, `kill` ended with the worker."""
    id: int
    data: str
    since_ns: int
    until_ns: int

    @staticmethod
    def of(task: TaskInfo) -> "Held":
        """What a task in the log tells; the log's own time says when it ended."""
        entry = Entry.of(task)
        return Held(entry.worker, entry.kind, entry.id, entry.data, entry.since_ns, task.timespec)


@attrs.frozen
class Story:
    """A run, in the order of its log."""

    workers: int
    lease_ns: int
    held: tuple[Held, ...]

    def count(self, kind: Kind, worker: int | None = None) -> int:
        """How many tasks ended in this way, in the hands of `worker` or of all."""
        return sum(held.kind == kind and worker in (None, held.worker) for held in self.held)

    @property
    def killed(self) -> Held | None:
        """What the killed worker held; None where nobody was killed."""
        return next((held for held in self.held if held.kind == "kill"), None)

    @property
    def heir(self) -> Held | None:
        """The same chunk in the hands of the worker that finished it."""
        killed = self.killed
        return next((held for held in self.held if killed and held.kind == "map" and held.data == killed.data), None)

    @property
    def lease_end_ns(self) -> int:
        """When the killed worker's lease ran out."""
        return self.killed.since_ns + self.lease_ns if self.killed else 0


@attrs.frozen
class Order:
    """What a worker is told when it is started."""

    url: str
    prefix: str
    number: int
    lease_ns: int
    shards: int
    parent: int
    """The process that started it; the worker ends when that is gone."""

    def written(self) -> str:
        """This order as one argument."""
        return json.dumps(attrs.asdict(self))

    @staticmethod
    def of(text: str) -> "Order":
        """The order that was `written`."""
        return Order(**json.loads(text))
