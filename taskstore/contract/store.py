"""The server as a rule sees it: asks, takes no nonsense for an answer, and remembers what was asked.

The laws of this room: it works in groups of its own, whose names nobody else has, and touches no task that it has not
made; every request is recorded with its answer, so that whatever goes wrong can be shown; it reads no clock but this
machine's monotonic one, and the server's only where an answer shows it.
"""

import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from threading import Lock
from time import sleep
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from taskstore.contract.connection import Answer, Connections, NoAnswer, Request, local_now
from taskstore.contract.dialect import Dialect, Outcome, Refusal, Task, group_path, outcome_of, task_of, tasks_of
from taskstore.contract.rule import Absent, Broken, TooSlow

T = TypeVar("T")

SECOND: Final = 10**9
HOUR: Final = 3600 * SECOND
FAR: Final = 2**62
"""Ids from here on are ids that no task has, nor will have while the kit runs."""


_ID: Final = re.compile(rb'"id"\s*:\s*(\d+)', re.IGNORECASE)


class Exchange(NamedTuple):
    """A request, and what came of it."""

    request: Request
    answer: Answer | None
    """None: there was none."""
    sent: float
    """Local monotonic seconds."""
    received: float
    beside: int = 0
    """Requests that were under way together have the same number, and it is not 0."""
    hung_up: bool = False
    """Whether the kit did not wait for the answer."""


class Pause(NamedTuple):
    """A time that passed between two exchanges, because a rule wanted it to."""

    seconds: float


Step: TypeAlias = Exchange | Pause


class Names:
    """Names that nobody else has: all begin with `prefix`, which is drawn anew for each run."""

    def __init__(self) -> None:
        self.prefix: Final = f"check-{secrets.token_hex(5)}-"
        self._numbers = count(1)

    def next(self) -> str:
        """The common beginning of some groups' names."""
        return f"{self.prefix}{next(self._numbers)}-"


class Ledger:
    """Every task of a group of ours that an answer showed as made, so that it can be removed in the end."""

    def __init__(self, prefix: str) -> None:
        self.prefix: Final = prefix
        self.owners: Final[dict[int, int]] = {}
        """The owner of each id."""

    def note(self, answer: Answer) -> None:
        """Remember what an update or a claim has made, in whatever dialect and however wrong the rest may be."""
        for task in _tasks_in(answer):
            if isinstance(id := task.get("id"), int) and str(task.get("group")).startswith(self.prefix):
                owner = task.get("ownerid")
                self.owners[id] = owner if isinstance(owner, int) and owner in range(-(2**31), 2**31) else 0


def _tasks_in(answer: Answer) -> list[dict[str, Any]]:
    with suppress(ValueError):
        if isinstance(content := answer.json, dict):
            tasks = content.get("tasks") or content.get("Tasks")
            return [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
    return []


def ids_in(answer: Answer | None) -> list[int]:
    """The ids of the tasks in an answer, in the order in which they stand there, whatever the dialect."""
    return [int(id) for id in _ID.findall(answer.body)] if answer else []


class Store:
    """A server, for one run of one rule.

    Args:
        connections: Where to send.
        dialect: How the server wants to be spoken to.
        names: Where names of groups come from.
        ledger: Where what is made is written down.
        features: What the server offers; see features.py.
        seed: All that is left to chance follows from it.
        lease_ns: How long a lease is that a rule waits for.
    """

    def __init__(
        self,
        connections: Connections,
        dialect: Dialect,
        names: Names,
        ledger: Ledger,
        *,
        features: Collection[str] = (),
        seed: int | str = 0,
        lease_ns: int = SECOND // 4,
    ) -> None:
        self.connections: Final = connections
        self.dialect: Final = dialect
        self.ledger: Final = ledger
        self.features: Final = features
        self.random: Final = Random(seed)  # noqa: S311 - it has to be repeatable, not secret
        self.lease_ns: Final = lease_ns
        self.steps: Final[list[Step]] = []
        self.common: Final = names.next()
        clients = self.random.sample(range(1000, 2**31), 3)
        self.one, self.other, self.third = clients
        """Three clients. The first one is who asks unless a rule says otherwise."""
        self._groups = count(1)
        self._strangers = count(FAR + self.random.randrange(2**40))
        self._lock = Lock()
        self._beside = 0

    # What a rule asks

    def update(self, *, client: int | None = None, **lists: Sequence[Any] | None) -> Outcome:
        """What an update comes to; `lists` are the contract's adds, updates, deletes and depends."""
        return self.post("update", {"clientid": self.one if client is None else client, **lists})

    def make(self, *, client: int | None = None, **lists: Sequence[Any]) -> list[Task]:
        """The new tasks of an update that the contract allows."""
        tasks, error = self.update(client=client, **lists)
        self.expect(error is None, f"the update was refused ({_said(error)}), and the contract allows it")
        wanted = len(lists.get("adds", ())) + len(lists.get("updates", ()))
        self.expect(len(tasks) == wanted, f"the update answered {len(tasks)} tasks for {wanted} adds and updates")
        return tasks

    def refused(self, *, client: int | None = None, **lists: Sequence[Any]) -> Refusal:
        """Why an update that the contract forbids was refused."""
        error = self.update(client=client, **lists).error
        if error is None:
            raise Broken("the update was carried out, and the contract forbids it")
        return error

    def claim(
        self, group: str, lease_ns: int = HOUR, *, client: int | None = None, depends: Sequence[int] = ()
    ) -> Task | None:
        """The task that a claim takes, if there is one."""
        tasks, error = self.claimed(group, lease_ns, client=client, depends=depends)
        self.expect(error is None, f"the claim was refused ({_said(error)}), and the contract allows it")
        self.expect(len(tasks) < 2, f"the claim answered {len(tasks)} tasks")
        return tasks[0] if tasks else None

    def take(self, group: str, lease_ns: int = HOUR, *, client: int | None = None) -> Task:
        """The task that a claim takes from a group where there is one."""
        task = self.claim(group, lease_ns, client=client)
        if task is None:
            raise Broken("the claim found no task, and the group has one that is available")
        return task

    def claimed(
        self, group: str, lease_ns: int = HOUR, *, client: int | None = None, depends: Sequence[int] = ()
    ) -> Outcome:
        """What a claim comes to."""
        client = self.one if client is None else client
        return self.post("claim", {"clientid": client, "group": group, "duration": lease_ns, "depends": list(depends)})

    def post(self, operation: str, content: Mapping[str, Any]) -> Outcome:
        """What an update or a claim with this content comes to."""
        return outcome_of(self.dialect.content(self.send(self.dialect.post(operation, content))))

    def task(self, id: int) -> Task | None:
        """The task with an id."""
        content = self._read(f"/task/{id}")
        return None if content is None else task_of(content)

    def tasks(self, *ids: int) -> list[Task | None]:
        """The tasks with these ids."""
        return tasks_of(self._read(f"/tasks/{','.join(map(str, ids))}"), or_null=True)

    def listing(self, group: str, *, limit: int | None = None, owned: str | None = None) -> list[Task]:
        """The tasks of a group."""
        return tasks_of(self._read(group_path(group, limit=limit, owned=owned)))

    def groups(self, path: str = "/groups", *, prefix: str | None = None) -> list[str]:
        """The names of all groups that this rule has made, or of those whose names begin otherwise."""
        prefix = self.common if prefix is None else prefix
        names = self._read(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Broken(f"the groups are {names!r:.200} instead of a list of names")
        return [name for name in names if name.startswith(prefix)]

    def exist(self, *ids: int) -> list[bool]:
        """For each id whether a task has it, found out in a way that works in every dialect."""
        # The published Go server looks at no dependency of an update that does nothing else: there it also deletes what
        # does not exist, and so is refused, and every culprit named.
        deletes = [self.stranger()] if self.dialect.name == "go" else []
        error = self.update(deletes=deletes, depends=ids).error
        gone = set(error.depends) if error else set()
        return [id not in gone for id in ids]

    def now(self) -> int:
        """The server's now, as the instant of a task that is added to be available at once."""
        return self.make(adds=[self.add(self.group("now"))])[0].available

    def _read(self, path: str) -> Any:
        return self.dialect.read(self.send(Request("GET", path)))

    def send(self, request: Request) -> Answer:
        """The answer to any request.

        Raises:
            Broken: there was none.
        """
        sent = local_now()
        answer: Answer | None = None
        try:
            answer = given = self.connections.send(request)
            if request.method == "POST":
                self.ledger.note(given)
        except NoAnswer as error:
            raise Broken(str(error)) from error
        finally:
            with self._lock:
                self.steps.append(Exchange(request, answer, sent, local_now(), self._beside))
        return given

    def hang_up(self, request: Request, after_s: float) -> None:
        """Send a request and break the connection before there is an answer."""
        sent = local_now()
        try:
            self.connections.abandon(request, after_s)
        except NoAnswer as error:
            raise Broken(str(error)) from error
        finally:
            self.steps.append(Exchange(request, None, sent, local_now(), hung_up=True))

    @contextmanager
    def soon(self, call: Callable[[], object]) -> Iterator[Callable[[], float | None]]:
        """Half a lease after the body has begun have `call` happen beside it; what it raises is raised in the end.

        Yields:
            Tells how many seconds after the beginning it had happened; None if it has not yet.
        """
        start, happened = local_now(), list[float]()

        def happen() -> None:
            sleep(self.lease_ns / SECOND / 2)
            call()
            happened.append(local_now() - start)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(happen)
            yield lambda: happened[0] if happened else None
            future.result()

    def at_once(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """The results of calls that are all under way together."""
        self._beside = len(self.steps) + 1
        try:
            with ThreadPoolExecutor(len(calls)) as pool:
                return [future.result() for future in [pool.submit(call) for call in calls]]
        finally:
            self._beside = 0

    # What a rule needs for asking

    def group(self, what: str = "g") -> str:
        """The name of a new group."""
        return f"{self.common}{what}{next(self._groups)}"

    def add(self, group: str | None = None, data: str = "", duration: int = 0) -> dict[str, Any]:
        """An element of adds."""
        return {"group": group or self.group(), "data": data, "duration": duration}

    def stranger(self) -> int:
        """An id that no task has, had or will have."""
        return next(self._strangers)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Go on if the server behaves.

        Raises:
            Broken: it does not; `otherwise` says how.
        """
        if not holds:
            raise Broken(otherwise)

    # Time

    def pass_time(self, ns: int) -> None:
        """Let the server's time pass by `ns`, and a little more, since no two clocks go alike."""
        pause = Pause(ns / SECOND * 1.05 + 0.05)
        self.steps.append(pause)
        sleep(pause.seconds)

    def in_time(self, ns: int, since: int) -> None:
        """Make sure that less than `ns` had passed when the last answer came since the exchange number `since` began.

        Raises:
            TooSlow: that is not certain.
        """
        first, last = self.steps[since], self.steps[-1]
        assert isinstance(first, Exchange)
        assert isinstance(last, Exchange)
        if (last.received - first.sent) * SECOND > 0.9 * ns:
            raise TooSlow(f"two answers take more than {ns / SECOND:g} s")


def offered(answer: Answer) -> Answer:
    """The answer at an address that a server need not have.

    Raises:
        Absent: it has not.
    """
    if answer.status == 404:
        raise Absent("this server has no such address")
    return answer


def _said(error: Refusal | None) -> str:
    return ", ".join(f"{name}: {value}" for name, value in (error._asdict() if error else {}).items() if value)
