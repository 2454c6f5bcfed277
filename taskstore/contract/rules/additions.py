"""Rules of what was added to the original protocol; each is absent where a server does not offer it."""

from collections.abc import Callable
from json import dumps
from typing import Any, Final, TypeAlias

from taskstore.contract.connection import Answer, Request, local_now
from taskstore.contract.dialect import Outcome, StepOutcome, Task, outcome_of, step_outcome_of
from taskstore.contract.rule import Broken, TooSlow, rule
from taskstore.contract.store import HOUR, SECOND, Store

Content: TypeAlias = dict[str, Any]
LONG: Final = 16
"""How many times as long as a lease a claim may wait that something else should end before."""


def _claim(store: Store, group: str, **more: Any) -> Content:
    return {"clientid": store.other, "group": group, "duration": HOUR, **more}


def _waiting(store: Store, claim: Content, then: Callable[[], object]) -> Task:
    """The task that a claim gets which waits, while something happens that should end the wait."""
    start, half_s = local_now(), LONG / 2 * store.lease_ns / SECOND
    with store.soon(then) as happened_s:
        outcome = store.post("claim", {**claim, "wait": LONG * store.lease_ns})
        waited_s = local_now() - start
    if (happened_s() or 0) > half_s or (outcome.tasks and half_s < waited_s < 1.9 * half_s):
        raise TooSlow(f"what ends a wait takes more than {half_s:g} s")
    store.expect(waited_s < 1.9 * half_s, f"the claim waited {waited_s:.2f} s, to the end of its time")
    store.expect(len(outcome.tasks) == 1, f"after {waited_s:.2f} s the waiting claim answered {outcome}")
    return outcome.tasks[0]


def _at_once(store: Store, claim: Content) -> Outcome:
    """What a claim comes to that may wait and has no reason to."""
    start, long_s = local_now(), LONG * store.lease_ns / SECOND
    outcome = store.post("claim", {**claim, "wait": LONG * store.lease_ns})
    waited = local_now() - start
    store.expect(waited < long_s, f"the claim waited {waited:.2f} s, and could be answered at once: {outcome}")
    if waited > long_s / 2:
        raise TooSlow(f"a claim takes more than {long_s / 2:g} s")
    return outcome


@rule(level="full", feature="wait")
def a_claim_can_wait(store: Store) -> None:
    """A claim of nothing that may wait is answered when its time is up, and not before."""
    start = local_now()
    outcome = store.post("claim", _claim(store, store.group(), wait=store.lease_ns))
    waited = local_now() - start
    store.expect(outcome == ([], None), f"the claim of nothing answered {outcome}")
    # A tenth too early is no fault: a server's clock may tick coarsely.
    is_late = waited >= 0.9 * store.lease_ns / SECOND
    store.expect(is_late, f"the claim waited {waited:.3f} s of {store.lease_ns / SECOND} s")
    if waited > store.lease_ns / SECOND + 2:
        raise TooSlow(f"a claim that may wait {store.lease_ns / SECOND} s took {waited:.1f} s")


@rule(level="full", feature="wait")
def a_wait_is_over_when_there_is_a_task(store: Store) -> None:
    """A waiting claim gets a task as soon as there is one: by an add, a release, a delay or lease that runs out."""
    there = store.group("there")
    store.make(adds=[store.add(there)])
    _at_once(store, _claim(store, there))
    group = store.group("added")
    _waiting(store, _claim(store, group), lambda: store.make(adds=[store.add(group)]))
    group = store.group("released")
    store.make(adds=[store.add(group)])
    task = store.take(group)
    _waiting(store, _claim(store, group), lambda: store.make(updates=[{"id": task.id}]))
    group = store.group("delayed")
    store.make(adds=[store.add(group, "", -store.lease_ns)])
    _waiting(store, _claim(store, group), lambda: None)
    group = store.group("leased")
    store.make(adds=[store.add(group)])
    store.take(group, store.lease_ns)
    _waiting(store, _claim(store, group), lambda: None)


@rule(level="full", feature="wait")
def one_task_ends_one_wait(store: Store) -> None:
    """Of several claims that wait for the same group one gets the task that comes, and the others go on waiting."""
    group = store.group()
    claim = _claim(store, group, wait=store.lease_ns * 2)
    with store.soon(lambda: store.make(adds=[store.add(group)])):
        outcomes = store.at_once([lambda: store.post("claim", claim)] * 3)
    found = [len(outcome.tasks) for outcome in outcomes]
    store.expect(sum(found) == 1, f"three waiting claims got {found} tasks, and one was added")


@rule(level="full", feature="wait")
def a_claim_that_cannot_succeed_does_not_wait(store: Store) -> None:
    """A claim that depends on what is missing is refused at once, however long it may wait."""
    gone = store.stranger()
    error = _at_once(store, _claim(store, store.group(), depends=[gone])).error
    store.expect(error is not None, f"the claim was not refused, and depends on {gone}, which no task has")


@rule(level="full", feature="wait")
def who_hangs_up_while_waiting_gets_nothing(store: Store) -> None:
    """A client that breaks the connection while its claim waits takes no task afterwards."""
    group = store.group()
    claim = store.dialect.post("claim", _claim(store, group, wait=LONG * store.lease_ns))
    store.hang_up(claim, store.lease_ns / SECOND / 2)
    store.pass_time(store.lease_ns)
    [task] = store.make(adds=[store.add(group)])
    taken = store.claim(group)
    store.expect(taken is not None, f"task {task.id} went to a client that had hung up")


@rule(level="full", feature="limit")
def a_claim_can_take_several(store: Store) -> None:
    """With a limit a claim takes up to so many tasks, each once; without one it takes one."""
    group = store.group()
    store.make(adds=[store.add(group, str(n)) for n in range(7)])
    taken: list[Task] = []
    for limit, wanted in ((3, 3), (None, 1), (1, 1), (10, 2), (10, 0)):
        more = {} if limit is None else {"limit": limit}
        tasks, error = store.post("claim", _claim(store, group, **more))
        store.expect(error is None, f"the claim with limit={limit} was refused with {error}")
        store.expect(len(tasks) == wanted, f"a claim with limit={limit} took {len(tasks)} tasks instead of {wanted}")
        taken += tasks
    found = sorted(task.data for task in taken)
    store.expect(found == [str(n) for n in range(7)], f"of seven tasks these were claimed: {found}")
    store.expect({task.owner for task in taken} == {store.other}, f"not all belong to {store.other}: {taken}")


@rule(level="full", feature="groups")
def a_claim_can_name_several_groups(store: Store) -> None:
    """A claim with several groups takes from any of them that has something, at random, and from no other."""
    one, two, other = store.group("one"), store.group("two"), store.group("other")
    store.make(adds=[store.add(name, name) for name in (one, two, other) for _ in range(16)])
    claim = {"clientid": store.other, "groups": [one, store.group("empty"), two], "duration": HOUR}
    taken = [task.group for _ in range(32) for task in store.post("claim", claim).tasks]
    store.expect(sorted(taken) == sorted([one, two] * 16), f"32 claims from two groups of 16 tasks took {taken}")
    store.expect({one, two} <= set(taken[:31]), "all tasks of one group were claimed before any of the other")
    ordered = taken in ([one] * 16 + [two] * 16, [two] * 16 + [one] * 16, [one, two] * 16, [two, one] * 16)
    store.expect(not ordered, f"claims from two groups took {taken}, which is not at random")


@rule(level="full", feature="groups")
def a_claim_names_one_group_or_several(store: Store) -> None:
    """A claim that names both a group and groups, or neither, or an empty list, is refused as unfit."""
    base = {"clientid": store.one, "duration": HOUR}
    name = store.group()
    store.make(adds=[store.add(name)])
    nonsense: list[Content] = [
        {},
        {"group": name, "groups": [name]},
        {"groups": []},
        {"groups": [""]},
        {"groups": name},
    ]
    for more in nonsense:
        answer = store.send(store.dialect.post("claim", {**base, **more}))
        store.expect(answer.status in (400, 422), f"a claim with {more} was answered with {answer.status}")
    store.take(name)


def _step(store: Store, *, update: Content | None = None, claim: Content | None = None) -> StepOutcome:
    content = {"clientid": store.one, "update": update, "claim": claim}
    return step_outcome_of(store.dialect.content(store.send(store.dialect.post("step", content))))


@rule(level="full", feature="step")
def a_step_updates_and_claims(store: Store) -> None:
    """A step carries out its update and then its claim, which sees what the update has made; either may be missing."""
    group, out = store.group(), store.group("out")
    [old] = store.make(adds=[store.add(store.group("old"))])
    update = {"adds": [store.add(out, "result"), store.add(group, "next")], "deletes": [old.id]}
    updated, tasks, error = _step(store, update=update, claim={"group": group, "duration": HOUR})
    store.expect(error is None, f"the step was refused with {error}")
    store.expect([task.data for task in updated] == ["result", "next"], f"the step's update made {updated}")
    store.expect([task.data for task in tasks] == ["next"], f"the step's claim took {tasks}")
    ids = [*(task.id for task in updated), *(task.id for task in tasks)]
    store.expect(ids == sorted(set(ids)), f"the step's new ids do not grow: {ids}")
    there = store.exist(old.id, ids[0], ids[1], ids[2])
    store.expect(there == [False, True, False, True], f"of {[old.id, *ids]} these exist after the step: {there}")
    updated, tasks, error = _step(store, claim={"group": out, "duration": HOUR})
    store.expect(
        (len(updated), len(tasks), error) == (0, 1, None), f"a step without update: {updated}, {tasks}, {error}"
    )
    updated, tasks, error = _step(store, update={"deletes": [tasks[0].id]})
    store.expect((updated, tasks, error) == ([], [], None), f"a step without claim: {updated}, {tasks}, {error}")
    store.expect(_step(store) == ([], [], None), "a step without update and claim does something")


@rule(level="full", feature="step")
def a_refused_step_does_nothing(store: Store) -> None:
    """Where a step's update or claim is refused neither is done, and the culprits of both are named."""
    group, out = store.group(), store.group("out")
    [task] = store.make(adds=[store.add(group, "claim me")])
    gone, lost = store.stranger(), store.stranger()
    claim: Content = {"group": group, "duration": HOUR}
    adds = [store.add(out)]
    for update, claim_, depends in (
        ({"adds": adds, "deletes": [gone]}, claim, []),
        ({"adds": adds}, {**claim, "depends": [lost]}, [lost]),
        ({"adds": adds, "deletes": [gone]}, {**claim, "depends": [lost]}, [lost]),
    ):
        error = _step(store, update=update, claim=claim_).error
        if error is None:
            raise Broken("the step was carried out, and the contract forbids it")
        deletes = update.get("deletes", [])
        store.expect(error.deletes == deletes, f"deletes is {error.deletes} instead of {deletes}")
        store.expect(error.depends == depends, f"depends is {error.depends} instead of {depends}")
        store.expect(store.exist(task.id) == [True], f"the refused step has claimed task {task.id}")
        store.expect(store.groups() == [group], f"the refused step has added a task: {store.groups()}")


@rule(level="full", feature="step")
def a_step_that_waits_updates_at_once(store: Store) -> None:
    """The update of a step whose claim waits is made at once."""
    group, out = store.group(), store.group("out")
    claim = {"group": group, "duration": HOUR, "wait": 4 * store.lease_ns}
    seen: list[Task | None] = []

    def look() -> None:
        seen.append(store.claim(out, client=store.other))
        store.make(adds=[store.add(group)], client=store.other)

    with store.soon(look):
        _, tasks, _ = _step(store, update={"adds": [store.add(out)]}, claim=claim)
    store.expect(seen != [None], "while the step's claim waited its update was not to be seen")
    store.expect(len(tasks) == 1, f"the step's waiting claim got {tasks}")


def _keyed(store: Store, content: Content, key: str, operation: str = "update") -> Answer:
    request = store.dialect.post(operation, content)
    return store.send(request._replace(headers=(*request.headers, ("Idempotency-Key", key))))


def _new_key(store: Store) -> str:
    return f"{store.random.getrandbits(128):032x}"


@rule(level="full", feature="keys")
def a_key_makes_a_request_once(store: Store) -> None:
    """The same request with the same key gets the same answer, marked as replayed, and has no second effect."""
    group = store.group()
    add = {"clientid": store.one, "adds": [store.add(group, "1"), store.add(group, "2")]}
    claim = {"clientid": store.one, "group": group, "duration": HOUR}
    for operation, content in (("update", add), ("claim", claim)):
        key = _new_key(store)
        first, again, quoted = (_keyed(store, content, spelled, operation) for spelled in (key, key, f'"{key}"'))
        for answer in (again, quoted):
            store.expect(answer.status == 200, f"the repeated {operation} was answered with {answer.status}")
            same = outcome_of(store.dialect.content(answer)) == outcome_of(store.dialect.content(first))
            store.expect(same, f"the repeated {operation} was answered {answer.text}, and at first {first.text}")
            replayed = answer.header("idempotency-replayed")
            store.expect(replayed == "true", f"Idempotency-Replayed is {replayed} for a repeated {operation}")
        replayed = first.header("idempotency-replayed")
        store.expect(replayed != "true", f"Idempotency-Replayed is {replayed} for a first {operation}")
    found = store.listing(group, owned="true")
    store.expect(len(found) == 2, f"after an add of two and a claim, each repeated, the group holds {found}")


@rule(level="full", feature="keys")
def a_key_is_for_one_request(store: Store) -> None:
    """A key that was used is refused with 422 for another request of the same client, and serves every other client."""
    group, key = store.group(), _new_key(store)
    _keyed(store, {"clientid": store.one, "adds": [store.add(group)]}, key)
    answer = _keyed(store, {"clientid": store.one, "adds": [store.add(group, "another")]}, key)
    store.expect(answer.status == 422, f"another request with the same key was answered with {answer.status}")
    answer = _keyed(store, {"clientid": store.one, "group": group, "duration": HOUR}, key, "claim")
    store.expect(answer.status == 422, f"another operation with the same key was answered with {answer.status}")
    found = [task.data for task in store.listing(group)]
    store.expect(found == [""], f"a refused key has left {found} in the group")
    outcome = outcome_of(
        store.dialect.content(_keyed(store, {"clientid": store.other, "adds": [store.add(group)]}, key))
    )
    store.expect([task.owner for task in outcome.tasks] == [store.other], f"another client's key answered {outcome}")


@rule(level="full", feature="keys")
def a_key_is_not_used_up_by_a_refusal(store: Store) -> None:
    """A request that changed nothing is not recorded: repeated with its key it is decided anew."""
    group, key = store.group(), _new_key(store)
    claim = {"clientid": store.one, "group": group, "duration": HOUR}
    store.expect(
        outcome_of(store.dialect.content(_keyed(store, claim, key, "claim"))) == ([], None), "nothing to claim"
    )
    store.make(adds=[store.add(group)])
    tasks, error = outcome_of(store.dialect.content(_keyed(store, claim, key, "claim")))
    store.expect(len(tasks) == 1, f"a claim repeated after it had found nothing answered {tasks} and {error}")


@rule(level="full", feature="keys")
def a_key_holds_for_requests_at_once(store: Store) -> None:
    """The same request with the same key, many times at once, has one effect and one answer."""
    group, key = store.group(), _new_key(store)
    content = {"clientid": store.one, "adds": [store.add(group)]}
    answers = store.at_once([lambda: _keyed(store, content, key)] * 6)
    made = {tuple(outcome_of(store.dialect.content(answer)).tasks) for answer in answers if answer.status == 200}
    store.expect(len(made) == 1, f"the same request with the same key made {len(made)} different tasks")
    found = store.listing(group)
    store.expect(len(found) == 1, f"the same request with the same key, six times at once, made {found}")


@rule(level="full", feature="keys")
def a_key_has_a_form(store: Store) -> None:
    """A key is 16 to 64 letters, digits, - or _; any other is refused, and nothing is done."""
    group = store.group()
    content = {"clientid": store.one, "adds": [store.add(group)]}
    for key in ("x" * 15, "x" * 65, "with a blank 1234567", "ä" * 20, '"' + "x" * 20, ""):
        request = Request(
            "POST",
            "/update",
            dumps(content).encode(),
            (("Content-Type", "application/json"), ("Idempotency-Key", key)),
        )
        answer = store.send(request)
        store.expect(answer.status in (400, 422), f"the key {key!r} was answered with {answer.status}")
    store.expect(store.groups() == [], f"refused keys have left tasks in {store.groups()}")
    for key in ("x" * 16, "A_b-9" * 12):
        answer = _keyed(store, content, key)
        store.expect(answer.status == 200, f"the key {key!r} was answered with {answer.status}")


@rule(level="full", feature="attempts")
def attempts_count_claims(store: Store) -> None:
    """A task says how often it was claimed since it was added, and an update keeps that number."""
    group = store.group()
    [task] = store.make(adds=[{**store.add(group), "attempts": 7}])
    for wanted in range(3):
        store.expect(task.attempts == wanted, f"after {wanted} claims attempts is {task.attempts}")
        [task] = store.make(updates=[{"id": task.id, "attempts": 7}])
        store.expect(task.attempts == wanted, f"an update has made attempts {task.attempts} of {wanted}")
        read = store.task(task.id)
        store.expect(read == task, f"the task reads as {read} instead of {task}")
        task = store.take(group, 0)


@rule(level="full", feature="stats")
def stats_count_tasks(store: Store) -> None:
    """The stats of a group count its available, owned and delayed tasks, and say how old the oldest one is."""
    group = store.group()
    store.make(adds=[store.add(group, "", delay) for delay in (0, 0, 0, -HOUR, -HOUR)])
    store.take(group)
    store.pass_time(store.lease_ns)
    content = store.dialect.content(store.send(Request("GET", f"/stats?prefix={group}&limit=10")))
    rows = [row for row in content["groups"] if row["group"] == group]
    store.expect(len(rows) == 1, f"the group stands {len(rows)} times in the stats of its own name")
    found = {name: rows[0][name] for name in ("available", "owned", "delayed")}
    wanted = {"available": 2, "owned": 1, "delayed": 2}
    store.expect(found == wanted, f"the stats are {found} instead of {wanted}")
    age = rows[0]["oldest_age"]
    store.expect(store.lease_ns <= age < store.lease_ns + 60 * SECOND, f"the oldest task is {age} ns old in the stats")
    all_groups = [row["group"] for row in content["groups"]]
    store.expect(all(name.startswith(group) for name in all_groups), f"groups of other prefixes: {all_groups}")
    totals = content["totals"]
    store.expect(
        all(totals[name] >= wanted[name] for name in wanted), f"the totals are less than one group's: {totals}"
    )


@rule(level="full", feature="health")
def health_is_told(store: Store) -> None:
    """A server that answers says at /healthz that it is alive and at /readyz that it is ready."""
    for path in ("/healthz", "/readyz"):
        content = store.dialect.content(store.send(Request("GET", path)))
        store.expect(content.get("status") == "ok", f"{path} answers {content}")
