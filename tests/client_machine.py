"""A machine of clients: four of them at a live server, and the model of the store that says what they may tell.

The clients share the tasks of the store, each in a colour and over a sender of its own. Hypothesis decides who calls
what, and what time it is.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, Final

import attrs
import msgspec
import pytest
from crowd import PATIENCE_S, Crowd, Style, answer_to, tasks
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from model_of_store import (
    NOW,
    ModelMachine,
    Request,
    Tasks,
    after,
    after_all,
    free_for,
    listed,
    made_by,
    new_tasks,
    parts,
    refused,
    updated_by,
    wishes,
)

from taskstore import GroupStats, HTTPClient, LeaseLostError, Stats, TaskInfo, Totals
from taskstore.lease import async_lease, lease
from taskstore.model import Counters
from taskstore.server.messages import Answer, Claim, Outcome, Step, StepOutcome, Task, TaskAdd, TaskUpdate, Update
from taskstore.testing import SettableClock

LEASE: Final = timedelta(seconds=30)
LEASE_NS: Final = 30 * 10**9
WAIT_NS: Final = 60 * 10**9
"""For how long a claim waits that the machine is going to end, of the system's time."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    for _ in range(PATIENCE_S * 5_000):
        if condition():
            return
        threading.Event().wait(0.0002)
    raise AssertionError("it did not happen")


# What is asked

NAMES: Final = ["a", "a/b"]
SPANS: Final = [0, 0, 1, 2, 5, 1_000, 7_000]
clients = st.sampled_from([1, 2, 3, 4])
groups = st.sampled_from(NAMES)
spans = st.sampled_from(SPANS)
styles = st.builds(Style, st.booleans())
# An instant is drawn relative to the present, as if that were NOW.
timespecs = st.one_of(
    spans.map(lambda ns: -ns), st.sampled_from([-1_000, -2, -1, 0, 1, 2, 1_000]).map(lambda ns: NOW + ns)
)


def wished(*kinds: type[Request]) -> st.SearchStrategy[dict[str, Any]]:
    return wishes(*kinds, clients=clients, names=NAMES, spans=spans, timespecs=timespecs, most=4)


@attrs.frozen
class Held:
    """A lease, between the beginning and the end of its block."""

    client: int
    lease: Any
    leave: Callable[[], object]


class ClientMachine(ModelMachine):
    """A server and its clients, and the model that says what these may tell."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd.server.clock)
        self.crowd = crowd
        self.ids.append(crowd.clear())
        self.counters = Counter(attrs.asdict(crowd.ask(3, "stats").counters))
        self.lease_clock = SettableClock(NOW)
        self.held: Held | None = None

    def teardown(self) -> None:
        self.leave()

    def timespec(self, drawn: int) -> int:
        """The timespec that is meant: one that is an instant was drawn as if the present were NOW."""
        return drawn if drawn <= 0 else drawn - NOW + self.clock()

    def id(self, pick: int) -> int:
        """Every second time it is a task that there is; or else there would hardly be a request that succeeds."""
        there = sorted(self.tasks)
        return there[-1 - pick // 2 % len(there)] if there and pick >= 0 and pick % 2 == 0 else super().id(pick)

    def started(self, request: Request, style: Style) -> "Future[Any]":
        client, method, options = style.call(request)
        return self.crowd.start(getattr(self.crowd.clients[client], method), **options)

    def ask(self, request: Request, style: Style) -> Answer:
        client, method, options = style.call(request)
        return answer_to(request, lambda: self.crowd.ask(client, method, **options))

    def settle(self, *asked: tuple[Request, Answer], now: int | None = None) -> None:
        """Hold the model against requests that were under way at the same time, and their answers."""
        now = self.clock() if now is None else now
        self.note(answer for _, answer in asked)
        for request, answer in asked:
            self.count(request, answer)
        if len(asked) == 1:
            self.tasks = after(self.tasks, now, *asked[0])
        else:
            self.tasks = after_all(self.tasks, now, asked)
        assert not self.crowd.complaints.heard, self.crowd.complaints.heard[0]

    def count(self, request: Request, answer: Answer) -> None:
        """Count what the server has to count."""
        assert isinstance(answer, Outcome | StepOutcome)
        update, claim = parts(request)
        if answer.error:
            self.counters["conflicts"] += 1
            return
        if update:
            self.counters["adds"] += len(update.adds or ())
            self.counters["updates"] += len(update.updates or ())
            self.counters["deletes"] += len(set(update.deletes or ()))
        if claim:
            self.counters["claims"] += len(answer.tasks)
            self.counters["expired"] += sum(task.attempts > 1 for task in answer.tasks)

    def one(self, request: Request, style: Style) -> None:
        self.settle((request, self.ask(request, style)))

    # Changes and claims

    @initialize(wish=wished(Update), style=styles)
    def there_is_something(self, wish: Mapping[str, Any], style: Style) -> None:
        self.one(Update(wish["client"], self.update(wish).adds), style)

    @rule(wish=wished(Update), style=styles)
    def somebody_updates(self, wish: Mapping[str, Any], style: Style) -> None:
        self.one(self.update(wish), style)

    @rule(wish=wished(Claim), wait=st.sampled_from([0, 1, 1_000]), style=styles)
    def somebody_claims(self, wish: Mapping[str, Any], wait: int, style: Style) -> None:
        self.one(with_wait(self.claim(wish), wait), style)

    @rule(wish=wished(Step), wait=st.sampled_from([0, 1, 1_000]), style=styles)
    def somebody_takes_a_step(self, wish: Mapping[str, Any], wait: int, style: Style) -> None:
        self.one(with_wait(self.request(wish), wait), style)

    @rule(wish=wished(Step), lacks=st.sampled_from(["update", "claim"]), style=styles)
    def a_step_may_lack_either(self, wish: Mapping[str, Any], lacks: str, style: Style) -> None:
        client = wish["client"]
        self.one(Step(Update(client), self.claim(wish)) if lacks == "update" else Step(self.update(wish)), style)

    @rule(several=st.lists(wished(Update, Claim, Step), min_size=2, max_size=3), style=styles)
    def several_ask_at_once(self, several: Sequence[Mapping[str, Any]], style: Style) -> None:
        requests = [self.request(wish) for wish in several]
        results = [partial(self.started(request, style).result, PATIENCE_S) for request in requests]
        self.settle(*[(request, answer_to(request, each)) for request, each in zip(requests, results, strict=True)])

    @rule(client=clients, group=groups)
    def what_an_add_does_not_name_has_a_default(self, client: int, group: str) -> None:
        self.one_without_data(Update(client, [TaskAdd(group)]), adds=[TaskInfo(group)])

    @rule(client=clients, group=groups, pick=st.integers(-1, 7))
    def what_a_change_does_not_name_is_reset(self, client: int, group: str, pick: int) -> None:
        id = self.id(pick)
        self.one_without_data(Update(client, updates=[TaskUpdate(id)]), updates=[TaskInfo(group, id=id)])

    def one_without_data(self, request: Update, **named: Sequence[TaskInfo]) -> None:
        answer = self.updated(request, **named)
        # Without data of its own the model would not know the task again.
        changes = [TaskUpdate(task.id, self.new_data()) for task in new_tasks(answer)]
        self.one(Update(request.client, updates=changes), Style(rich=False))

    def updated(self, request: Update, **named: Sequence[TaskInfo]) -> Answer:
        """Ask for an update in other words than those of a style."""
        answer = answer_to(request, partial(self.crowd.ask, request.client, "update", **named))
        self.settle((request, answer))
        return answer

    @rule(client=clients, pick=st.integers(0, 7))
    def a_task_gets_other_data(self, client: int, pick: int) -> None:
        """The rest of it stays as it is, its time included."""
        for old in filter(None, self.read(client, [self.id(pick)])):
            new = old.replace(data=self.new_data())
            change = TaskUpdate(old.id, new.data, old.timespec)
            self.updated(Update(client, updates=[change]), updates=[new])

    @rule(client=clients, pick=st.integers(0, 7), ns=spans, absolute=st.booleans())
    def a_task_gets_another_time(self, client: int, pick: int, ns: int, absolute: bool) -> None:
        for old in filter(None, self.read(client, [self.id(pick)])):
            at = self.clock() + ns
            new = old.replace(available_at=at) if absolute else old.replace(available_in=timedelta(microseconds=ns))
            change = TaskUpdate(old.id, old.data, at if absolute else -1_000 * ns)
            self.updated(Update(client, updates=[change]), updates=[new])

    # Waits, which end by what somebody else does, and never by themselves

    @rule(
        wish=wished(Claim, Step),
        other=clients,
        news=st.sampled_from(["an add", "a release", "the clock"]),
        style=styles,
    )
    def a_claim_waits(self, wish: Mapping[str, Any], other: int, news: str, style: Style) -> None:
        self.all_is_taken(other, wish["names"])
        request = with_wait(self.request(wish), WAIT_NS)
        update, claim = parts(request)
        if claim is None or self.is_answered_at_once(update, claim):
            self.one(request, style)
            return
        now = self.clock()
        late = [task for task in self.left_by(update).values() if task.group in claim.names]
        waiting = self.started(request, style)
        until(lambda: waiting.done() or self.crowd.server.waiting == 1)
        assert not waiting.done(), f"it does not wait: {request}"
        meanwhile = self.news(news, late, TaskAdd(claim.names[-1], self.new_data()), other)
        told = [(each, self.ask(each, style)) for each in meanwhile]
        answer = answer_to(request, partial(waiting.result, PATIENCE_S))
        assert isinstance(answer, Outcome | StepOutcome)
        if update and isinstance(answer, StepOutcome):
            # Its update was made at once, and only then it mattered what its claim depends on.
            self.settle((Step(update), StepOutcome([], answer.updated)), now=now)
            claim = msgspec.structs.replace(claim, depends=None)
        for each in told:
            self.settle(each)
        self.settle((claim, Outcome(answer.tasks, answer.error)))

    def all_is_taken(self, client: int, names: Sequence[str]) -> None:
        """There is nothing left in these groups, or there would be no need to wait."""
        self.clock.advance(2 * max(SPANS))
        self.one(Claim(client, duration=LEASE_NS, groups=list(names), limit=10_000), Style(rich=False))

    def is_answered_at_once(self, update: Update | None, claim: Claim) -> bool:
        if refused(self.tasks, self.clock(), update, claim):
            return True
        return bool(free_for(claim, self.left_by(update), self.clock()))

    def left_by(self, update: Update | None) -> Tasks:
        """The tasks after an update that is not refused and not made yet, so that its new tasks have no ids."""
        if update is None:
            return self.tasks
        made = [
            msgspec.structs.replace(task, id=-1 - place)
            for place, task in enumerate(made_by(update, self.tasks, self.clock()))
        ]
        return updated_by(update, self.tasks, self.clock(), made)

    def news(self, kind: str, late: Sequence[Task], add: TaskAdd, other: int) -> list[Update]:
        """Something happens that ends a wait: what somebody asks for, or else that the clock has come to a task."""
        if kind == "the clock" and late:
            soonest = min(task.available for task in late)
            self.clock.set(soonest - 1)
            self.clock.set(soonest)
            return []
        known = [task for task in late if task.id > 0]
        if kind == "a release" and known:
            return [Update(known[0].owner, updates=[TaskUpdate(known[0].id, add.data)])]
        return [Update(other, adds=[add])]

    # Leases

    @rule(wish=wished(Claim))
    def a_lease_begins(self, wish: Mapping[str, Any]) -> None:
        if not self.held:
            self.begin(self.claim({**wish, "duration": LEASE_NS, "limit": 1}))

    def begin(self, claim: Claim) -> None:
        client = self.crowd.clients[claim.client]
        manager: Any = lease if isinstance(client, HTTPClient) else async_lease
        block = manager(client, claim.names, LEASE, claim.depends or (), clock=self.lease_clock)
        enter, leave = (block.__enter__, block.__exit__) if manager is lease else (block.__aenter__, block.__aexit__)
        begun: list[Any] = []

        def entered() -> TaskInfo | None:
            begun.append(self.crowd.call(enter))
            task: TaskInfo | None = begun[0].task if begun[0] else None
            return task

        answer = answer_to(claim, entered)
        if begun:
            self.held = Held(claim.client, begun[0], partial(self.crowd.call, leave, None, None, None))
            if not begun[0]:
                self.leave()
        self.settle((claim, answer))

    def holding(self, client: int) -> Held:
        """The lease that somebody has, which is this client's if nobody had one."""
        if not self.held:
            self.take_a_lease(client)
        if not self.held:
            raise AssertionError("there is a task, and no lease")
        return self.held

    def take_a_lease(self, client: int) -> None:
        self.one(Update(client, [TaskAdd(NAMES[0], self.new_data())]), Style(rich=True))
        self.begin(Claim(client, duration=LEASE_NS, groups=NAMES[:1]))

    @rule(client=clients)
    def a_lease_is_renewed(self, client: int) -> None:
        """After a third of it, which passes on the clock of the client alone."""
        held = self.holding(client)
        task = held.lease.task
        renewal = Update(held.client, updates=[TaskUpdate(task.id, task.data, -LEASE_NS)])
        self.lease_clock.advance(LEASE_NS // 3)
        until(lambda: held.lease.lost.is_set() or held.lease.task.id != task.id)
        if not held.lease.lost.is_set():
            self.settle((renewal, Outcome(tasks([held.lease.task]))))
            return
        self.is_refused_in_silence(renewal)
        with pytest.raises(LeaseLostError):
            held.lease.check()
        self.leave()

    @rule(client=clients, wish=wished(Update), style=styles)
    def a_lease_is_committed(self, client: int, wish: Mapping[str, Any], style: Style) -> None:
        held = self.holding(client)
        self.commit(held, self.update({**wish, "client": held.client}), style)

    def commit(self, held: Held, more: Update, style: Style) -> None:
        """The task is deleted together with what else there is to do; or nothing is done, and it may be tried again."""
        task = held.lease.task
        commit = msgspec.structs.replace(more, deletes=[task.id, *(more.deletes or ())])
        lost: list[LeaseLostError] = []

        def committed() -> Any:
            try:
                return self.crowd.call(held.lease.commit, **style.changes(more))
            except LeaseLostError as error:
                lost.append(error)
                raise (error.__cause__ or error) from None

        answer = answer_to(commit, committed)
        self.settle((commit, answer))
        assert isinstance(answer, Outcome)
        is_culprit = answer.error is not None and task.id in {*answer.error.deletes, *answer.error.owned}
        assert bool(lost) == is_culprit, f"{lost} in spite of {answer.error}"
        if lost or not answer.error:
            self.leave()

    @rule(client=clients)
    def a_lease_is_left(self, client: int) -> None:
        """Without a commit, and so the task is given back, if it still can be."""
        held = self.holding(client)
        task = held.lease.task
        release = Update(held.client, updates=[TaskUpdate(task.id, task.data)])
        self.leave()
        if refused(self.tasks, self.clock(), release, None):
            self.is_refused_in_silence(release)
            return
        group = self.crowd.ask(client, "group", task.group)
        self.settle((release, Outcome(tasks(each for each in group if each.data == task.data))))

    @rule(
        client=clients,
        other=clients,
        offset=st.sampled_from([-1, 0, 1]),
        then=st.sampled_from(["commit", "renew", "leave"]),
    )
    def a_lease_may_be_over(self, client: int, other: int, offset: int, then: str) -> None:
        """It is a nanosecond before its end, or not, somebody wants the task, and its holder does not know that."""
        held = self.holding(client)
        task = held.lease.task
        self.clock.set(max(self.clock(), task.timespec + offset))
        self.one(Update(other, updates=[TaskUpdate(task.id, task.data)]), Style(rich=True))
        if then == "commit":
            self.commit(held, Update(held.client), Style(rich=True))
        elif then == "renew":
            self.a_lease_is_renewed(client)
        else:
            self.a_lease_is_left(client)

    def leave(self) -> None:
        if self.held:
            self.held.leave()
        self.held = None

    def is_refused_in_silence(self, request: Update) -> None:
        """The model wants it refused, and nobody is told so."""
        assert refused(self.tasks, self.clock(), request, None), f"refused for no reason: {request}"
        self.counters["conflicts"] += 1

    # Time

    @rule(ns=spans)
    def time_passes(self, ns: int) -> None:
        self.clock.advance(ns)

    @rule()
    def it_is_a_whole_microsecond(self) -> None:
        """Only then there are instants that a `datetime` can say."""
        self.clock.advance(-self.clock() % 1_000)

    @rule(pick=st.integers(0, 20), offset=st.sampled_from([-1, 0, 1]))
    def it_is_just_about_the_end_of_a_lease(self, pick: int, offset: int) -> None:
        self.it_is_just_about((task.available for task in self.tasks.values() if task.attempts), pick, offset)

    # Reads

    def read(self, client: int, refs: Sequence[int | TaskInfo]) -> list[TaskInfo | None]:
        """Tasks as a client tells them, which is as the model has them."""
        infos: list[TaskInfo | None]
        infos = [self.crowd.ask(client, "task", refs[0])] if len(refs) == 1 else self.crowd.ask(client, "tasks", *refs)
        ids = [ref if isinstance(ref, int) else ref.id for ref in refs]
        assert [info and tasks([info])[0] for info in infos] == [self.tasks.get(id) for id in ids]
        return infos

    @rule(client=clients, picks=st.lists(st.integers(-1, 20), max_size=4), style=styles)
    def tasks_are_read(self, client: int, picks: Sequence[int], style: Style) -> None:
        self.read(client, list(style.refs(self.id(pick) for pick in picks)))

    @rule(client=clients)
    def all_that_there_ever_was_is_read(self, client: int) -> None:
        self.read(client, self.ids)

    @rule(client=clients, group=groups, limit=st.sampled_from([0, 0, 1, 3]))
    def a_group_is_listed(self, client: int, group: str, limit: int) -> None:
        for owned in (False, True):
            expected = listed(self.tasks, group, until=2**63 if owned else self.clock())
            found = tasks(self.crowd.ask(client, "group", group, limit, owned))
            assert found == (expected[:limit] if limit else expected)

    @rule(client=clients)
    def groups_are_listed(self, client: int) -> None:
        assert self.crowd.ask(client, "groups") == sorted({task.group for task in self.tasks.values()})

    @rule(client=clients, prefix=st.sampled_from(["", "a", "a/", "b"]), limit=st.sampled_from([0, 0, 1]))
    def all_is_counted(self, client: int, prefix: str, limit: int) -> None:
        names = sorted({task.group for task in self.tasks.values()})
        every = [self.counted(name) for name in names]
        groups = [each for each in every if each.group.startswith(prefix)]
        totals = Totals(
            len(every), *(sum(getattr(each, part) for each in every) for part in ("available", "owned", "delayed"))
        )
        expected = Stats(tuple(groups[:limit] if limit else groups), totals, Counters(**self.counters))
        assert self.crowd.ask(client, "stats", prefix, limit) == expected

    def counted(self, group: str) -> GroupStats:
        now = self.clock()
        there = listed(self.tasks, group, until=2**63)
        late = [task for task in there if task.available > now]
        owned = sum(task.attempts > 0 for task in late)
        oldest = now - there[0].available if len(late) < len(there) else 0
        return GroupStats(group, len(there) - len(late), owned, len(late) - owned, oldest)


def with_wait(request: Request, ns: int) -> Request:
    """The same request, except that its claim may wait."""
    update, claim = parts(request)
    if claim is None:
        return request
    claim = msgspec.structs.replace(claim, wait=ns)
    return Step(update, claim) if update else claim
