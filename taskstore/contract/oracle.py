"""What an answer may be, given all that was asked and answered before.

A model of a store, in the mind of a client: it knows the tasks that the answers have shown, and judges every answer by
them. Where it cannot know - a server's clock is only seen in answers, and two tasks with the same data look alike when
one of them is claimed - it allows all that may be.

The laws of this room: it is pure but for what it has seen; it never accuses where it is in doubt; what it holds of
the contract is written anew here, and shares nothing with the server.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from taskstore.contract.dialect import Dialect, Refusal, Task, outcome_of, step_outcome_of, task_of, tasks_of
from taskstore.contract.naming import content_of, operation_of
from taskstore.contract.rule import Absent, Broken
from taskstore.contract.store import FAR, SECOND, Exchange

Content: TypeAlias = Mapping[str, Any]

_TOLERANCE_NS: Final = SECOND
"""How far the clocks of several machines of one server may differ."""
_DRIFT: Final = 1000
"""The server's clock and this machine's differ by one nanosecond in this many at most."""


class Oracle:
    """Judges answers about groups whose names begin with `prefix`, which nobody else touches.

    Args:
        dialect: How the server is spoken to.
        prefix: How the names of those groups begin.
        features: What the server offers; see features.py.
    """

    def __init__(self, dialect: Dialect, prefix: str, features: Collection[str] = ()) -> None:
        self._dialect = dialect
        self._prefix = prefix
        self._counts_attempts = "attempts" in features
        self.tasks: Final[dict[int, Task]] = {}
        """Tasks that exist."""
        self.doubtful: Final[dict[int, Task]] = {}
        """Tasks of which some have been claimed, and it is unknown which. A read tells."""
        self.gone: Final[set[int]] = set()
        """Ids that were consumed."""
        self._newest = 0
        self._clock = _Clock()

    def judge(self, exchange: Exchange) -> None:
        """Learn from an exchange.

        Raises:
            Broken: the answer is none that the contract allows.
        """
        request, answer = exchange.request, exchange.answer
        if answer is None or answer.status != 200 or (request.method == "GET") != (request.body is None):
            return  # What is no success changes nothing, and whether it should be one is for others to say.
        if request.method == "GET":
            with suppress(Absent, ValueError):  # An address that is not understood here is not judged here.
                self._judge_read(request.path, self._dialect.read(answer), exchange)
        elif (content := content_of(request)) is not None and answer.header("idempotency-replayed") != "true":
            judges = {"update": self._judge_update, "claim": self._judge_claim, "step": self._judge_step}
            if judge := judges.get(operation_of(request)):
                found = self._dialect.content(answer)
                try:
                    judge(content, found, exchange)
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise Broken("a request that does not fit the contract was carried out") from None

    def knows(self, id: int) -> bool:
        """Whether a task of ours has or had this id."""
        return id in self.tasks or id in self.gone or id in self.doubtful

    def exists(self, id: int) -> bool | None:
        """Whether a task has this id; None where that is unknown."""
        if id in self.tasks:
            return True
        return False if id in self.gone or id < 1 or id >= FAR else None

    # Updates

    def _judge_update(self, content: Content, found: Any, exchange: Exchange) -> None:
        outcome = outcome_of(found)
        self._judge_refusal(content, outcome.error, exchange)
        if outcome.error is None:
            self._judge_made(content, outcome.tasks, exchange)
        elif not any(outcome.error):
            raise Broken("the update was refused without any reason")

    def _judge_refusal(self, content: Content, error: Refusal | None, exchange: Exchange) -> None:
        """Judge what the refusal of an update says, if it is one."""
        client = content["clientid"]
        changes = [change["id"] for change in _list(content, "updates")]
        deletes, depends = _list(content, "deletes"), _list(content, "depends")
        touched = [*changes, *deletes]
        refusal = error or Refusal([], [], [], [], [])
        bug = "contradicts itself" if len(set(changes)) < len(changes) or set(changes) & set(deletes) else ""
        if self._dialect.name == "go":  # There a contradiction is carried out, and doing nothing is a bug and no more.
            bug = "" if touched or _list(content, "adds") else "does nothing"
            depends = [] if bug else depends
        self._judge_missing("changes", changes, refusal.changes)
        self._judge_missing("deletes", deletes, refusal.deletes)
        self._judge_missing("depends", depends, refusal.depends)
        self._judge_owned(touched, int(client), refusal.owned, exchange)
        if bool(bug) != bool(refusal.bugs):
            raise Broken(f"bugs is {refusal.bugs}, and the update {bug or 'makes sense'}")

    def _judge_missing(self, field: str, asked: Iterable[int], told: list[int]) -> None:
        asked = list(dict.fromkeys(asked))
        certain = [id for id in asked if self.exists(id) is False]
        possible = [id for id in asked if self.exists(id) is not True]
        if not set(certain) <= set(told):
            raise Broken(f"{field} is {told}, and the ids {certain} are no task's")
        if not set(told) <= set(possible):
            raise Broken(f"{field} is {told}, and the ids {sorted(set(told) - set(possible))} are not missing there")
        if self._dialect.name == "json" and told != [id for id in asked if id in told]:
            raise Broken(f"{field} is {told}, and the order asked was {asked}")

    def _judge_owned(self, touched: Iterable[int], client: int, told: list[int], exchange: Exchange) -> None:
        held = [task for id in touched if (task := self.tasks.get(id)) and task.owner != client]
        certain = {task.id for task in held if self._clock.is_past(task.available, exchange) is False}
        possible = {task.id for task in held if self._clock.is_past(task.available, exchange) is not True}
        possible |= {id for id in touched if self.exists(id) is None}
        if not certain <= set(told):
            raise Broken(f"owned is {told}, and the tasks {sorted(certain)} are under another client's lease")
        if not set(told) <= possible:
            raise Broken(f"owned is {told}, and not all of these are under another client's lease")

    def _judge_made(self, content: Content, made: Sequence[Task], exchange: Exchange) -> None:
        adds, updates = _list(content, "adds"), _list(content, "updates")
        if len(made) != len(adds) + len(updates):
            raise Broken(f"there are {len(made)} new tasks for {len(adds)} adds and {len(updates)} updates")
        olds = [None for _ in adds] + [self._seen(change["id"]) for change in updates]
        for task, change, old in zip(made, [*adds, *updates], olds, strict=True):
            wanted = Task(
                task.id,
                old.group if old else change.get("group", task.group),
                change.get("data", ""),
                task.available,
                content["clientid"],
                self._attempts(task, old.attempts if old else 0),
            )
            self._judge_new(task, wanted)
            timespec = int(change.get("duration", 0))
            if timespec > 0 and task.available != timespec:
                raise Broken(f"the instant {timespec} became {task.available}")
            if timespec <= 0:
                self._clock.judge(task.available + timespec, exchange)
        for change in updates:
            self._consume(change["id"])
        for id in _list(content, "deletes"):
            self._consume(id)
        self._learn(made)

    def _judge_new(self, task: Task, wanted: Task) -> None:
        if task.id <= self._newest:
            raise Broken(f"the new task's id is {task.id}, and id {self._newest} was given out before")
        self._newest = task.id
        if task != wanted:
            raise Broken(f"the new task {task.id} is wrong: {difference(task, wanted)}")

    # Claims

    def _judge_claim(self, content: Content, found: Any, exchange: Exchange) -> None:
        outcome = outcome_of(found)
        refusal = outcome.error or Refusal([], [], [], [], [])
        self._judge_missing("depends", _list(content, "depends"), refusal.depends)
        if refusal.changes or refusal.deletes or refusal.owned or refusal.bugs:
            raise Broken(f"a claim can only lack what it depends on, and was refused with {refusal}")
        if outcome.error is None:
            self._judge_taken(content, outcome.tasks, exchange)
        elif not refusal.depends:
            raise Broken("the claim was refused without any reason")

    def _judge_taken(self, content: Content, taken: Sequence[Task], exchange: Exchange) -> None:
        groups, limit = content.get("groups") or [content["group"]], content.get("limit", 1)
        if len(taken) > limit:
            raise Broken(f"the claim took {len(taken)} tasks, and its limit is {limit}")
        here = [task for task in self.tasks.values() if task.group in groups]
        available = [task for task in here if self._clock.is_past(task.available, exchange)]
        if len(taken) < min(limit, len(available)):
            raise Broken(f"the claim took {len(taken)} tasks, and these are available: {available[:3]}")
        known = [*self.tasks.values(), *self.doubtful.values()]
        left = [each for each in known if each.group in groups]
        left = [each for each in left if self._clock.is_past(each.available, exchange) is not False]
        for task in taken:
            alike = [each for each in left if (each.group, each.data) == (task.group, task.data)]
            if not alike:
                raise Broken(f"the claim took {task}, and available was {left[:3] or 'nothing'}")
            self._judge_lease(content, task, alike, exchange)
        self._learn(taken)

    def _judge_lease(self, content: Content, task: Task, alike: Sequence[Task], exchange: Exchange) -> None:
        """Judge a claimed task, which has been one of those that are alike."""
        tries = {1 + (each.attempts or 0) for each in alike}
        attempts = task.attempts if task.attempts in tries else min(tries)
        self._judge_new(task, task._replace(owner=content["clientid"], attempts=self._attempts(task, attempts)))
        self._clock.judge(task.available - int(content["duration"]), exchange)
        if len(alike) == 1:
            self._consume(alike[0].id)
            return
        for each in alike:
            self.tasks.pop(each.id, None)
            self.doubtful[each.id] = each

    def _judge_step(self, content: Content, found: Any, exchange: Exchange) -> None:
        """A step is an update and then a claim that sees what it has made; where one is refused neither happens."""
        outcome = step_outcome_of(found)
        client = {"clientid": content["clientid"]}
        update = {**(content.get("update") or {}), **client}
        claim = {**(content.get("claim") or {}), **client}
        # Whether a claim may depend on what its own step's update consumes the contract leaves open.
        consumed = {*(change["id"] for change in _list(update, "updates")), *_list(update, "deletes")}
        depends = [*_list(update, "depends"), *(id for id in _list(claim, "depends") if id not in consumed)]
        if outcome.error is not None:
            told = [id for id in outcome.error.depends if id in depends or id not in consumed]
            self._judge_refusal({**update, "depends": depends}, outcome.error._replace(depends=told), exchange)
            return
        self._judge_refusal({**update, "depends": depends}, None, exchange)
        self._judge_made(update, outcome.updated, exchange)
        if content.get("claim"):
            self._judge_taken(claim, outcome.tasks, exchange)
        elif outcome.tasks:
            raise Broken(f"the step claims nothing, and took {outcome.tasks}")

    # Reads

    def _judge_read(self, path: str, found: Any, exchange: Exchange) -> None:
        place, _, query = path.partition("?")
        _, operation, *rest_ = place.split("/", 2)
        rest = unquote("".join(rest_))
        if operation == "task" and rest:
            self._judge_task(int(rest), None if found is None else task_of(found))
        elif operation == "tasks" and rest:
            tasks, ids = tasks_of(found, or_null=True), [int(id) for id in rest.split(",")]
            if len(tasks) != len(ids):
                raise Broken(f"{len(ids)} ids were asked for, and {len(tasks)} tasks answered")
            for id, task in zip(ids, tasks, strict=True):
                self._judge_task(id, task)
        elif operation == "group" and rest and rest.startswith(self._prefix):
            options = dict(parse_qsl(query, keep_blank_values=True))
            self._judge_group(rest, options, tasks_of(found), exchange)
        elif operation in ("groups", "group") and not rest:
            self._judge_groups(found)

    def _judge_task(self, id: int, task: Task | None) -> None:
        if task is not None and task.id != id:
            raise Broken(f"id {id} was asked for, and the answer is {task}")
        exists = self.exists(id)
        if exists is False and task is not None:
            raise Broken(f"id {id} is no task's{', it was consumed' if id in self.gone else ''}; it reads as {task}")
        if exists and task != self.tasks[id]:
            raise Broken(f"task {id} reads wrong: {difference(task, self.tasks[id])}")
        if id in self.doubtful:
            self._settle(id, task)

    def _settle(self, id: int, task: Task | None) -> None:
        was = self.doubtful.pop(id)
        if task is None:
            self.gone.add(id)
        elif task == was:
            self.tasks[id] = task
        else:
            raise Broken(f"task {id} reads wrong: {difference(task, was)}")

    def _judge_group(self, name: str, options: Mapping[str, str], found: list[Task], exchange: Exchange) -> None:
        limit, is_all = int(options.get("limit", 0)), options.get("owned", "false") in ("true", "1", "yes")
        here = {task.id: task for task in self.tasks.values() if task.group == name}
        for task in found:
            known = here.get(task.id) or self.doubtful.get(task.id)
            if task != known:
                raise Broken(f"the group {name!r} lists task {task.id} wrong: {difference(task, known)}")
            if not is_all and self._clock.is_past(task.available, exchange) is False:
                raise Broken(f"the group {name!r} lists {task}, which is not available")
        if found != sorted(set(found), key=_order):
            raise Broken(f"the group {name!r} is not listed in order: {found}")
        if limit and len(found) > limit:
            raise Broken(f"the group {name!r} lists {len(found)} tasks with limit={limit}")
        certain = [task for task in here.values() if is_all or self._clock.is_past(task.available, exchange)]
        if limit and len(found) == limit:
            certain = [task for task in certain if _order(task) < _order(found[-1])]
        missing = set(certain) - set(found)
        if missing:
            raise Broken(f"the group {name!r} does not list {sorted(missing)[:3]}")

    def _judge_groups(self, found: Any) -> None:
        if not isinstance(found, list):
            raise Broken(f"the groups are {found!r:.200}")
        ours = {name for name in found if isinstance(name, str) and name.startswith(self._prefix)}
        certain = {task.group for task in self.tasks.values()}
        possible = certain | {task.group for task in self.doubtful.values()}
        if not certain <= ours or not ours <= possible:
            raise Broken(f"the groups are {sorted(ours)}, and those with tasks are {sorted(certain)}")

    # What is known

    def _attempts(self, task: Task, attempts: int | None) -> int | None:
        """What a task's attempts should be; whatever they are where they are not counted."""
        return attempts if self._counts_attempts else task.attempts

    def _seen(self, id: int) -> Task | None:
        return self.tasks.get(id) or self.doubtful.get(id)

    def _consume(self, id: int) -> None:
        self.tasks.pop(id, None)
        self.doubtful.pop(id, None)
        self.gone.add(id)

    def _learn(self, made: Iterable[Task]) -> None:
        self.tasks.update((task.id, task) for task in made)


class _Clock:
    """What is known of the server's clock: what it showed, and how much later it is here."""

    def __init__(self) -> None:
        self._shown = 0
        self._seen_at = 0.0

    def bounds(self, exchange: Exchange) -> tuple[int, float]:
        """Between what and what the server's now was when it answered."""
        if not self._shown:
            return 0, float("inf")
        passed = int((exchange.received - self._seen_at) * SECOND)
        return max(self._shown, self._shown + passed - passed // _DRIFT - self._slack(exchange)), (
            self._shown + passed + passed // _DRIFT + _TOLERANCE_NS + self._slack(exchange)
        )

    def _slack(self, exchange: Exchange) -> int:
        return _TOLERANCE_NS + int((exchange.received - exchange.sent) * SECOND)

    def is_past(self, instant: int, exchange: Exchange) -> bool | None:
        """Whether an instant had passed when the server answered; None where that is unknown."""
        early, late = self.bounds(exchange)
        if instant <= early:
            return True
        return None if instant <= late else False

    def judge(self, now: int, exchange: Exchange) -> None:
        """Learn that the server's now was `now` when it answered.

        Raises:
            Broken: that cannot be.
        """
        early, late = self.bounds(exchange)
        if not early - _TOLERANCE_NS <= now <= late:
            away = (now - self._shown) / SECOND
            raise Broken(f"a time counts from {now}, which is {away:g} s from what the server's clock showed before")
        if now > self._shown:
            self._shown, self._seen_at = now, exchange.received


def difference(found: Task | None, wanted: Task | None) -> str:
    """In what two tasks differ, in words."""
    if found is None or wanted is None:
        return f"it is {found}, and should be {wanted}"
    triples = zip(Task._fields, found, wanted, strict=True)
    return ", ".join(
        f"{name} is {one!r:.200} instead of {other!r:.200}" for name, one, other in triples if one != other
    )


def _order(task: Task) -> tuple[int, int]:
    return task.available, task.id


def _list(content: Content, name: str) -> list[Any]:
    return content.get(name) or []
