"""Faults in what updates and claims do."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from faults import NO_TASK, SECOND, changing_error, changing_request, fault
from tampering import Call, Reply, accept, refuse, tamper

from taskstore.server import rules, sqlite
from taskstore.server.messages import Claim, Refusal, Task, TaskUpdate, Update

# Ids


@fault("ids-are-never-reused")
def id_reused(patch: pytest.MonkeyPatch) -> None:
    """The next id is one more than the largest that exists, as `max(id) + 1` gives it."""
    write = sqlite.SqliteStorage.write

    def forgetful(self: sqlite.SqliteStorage, *args: Any) -> None:
        write(self, *args)
        newest: Any = self._write.execute("SELECT max(id) FROM task").fetchall()[0][0]
        self._last_id = newest or 0

    patch.setattr(sqlite.SqliteStorage, "write", forgetful)


@fault("new-tasks-come-in-the-order-asked")
def ids_in_pairs(patch: pytest.MonkeyPatch) -> None:
    """Ids are unique but do not grow: they come in pairs, the larger one first."""

    def pairs(start: int) -> Iterator[int]:
        while True:
            yield from (start + 1, start)
            start += 2

    patch.setattr(sqlite, "count", pairs)


@fault("a-consumed-id-reads-as-null")
def consumed_id_served(patch: pytest.MonkeyPatch) -> None:
    """A task that was once shown is shown for ever: a cache that nobody empties."""
    cache: dict[str, Any] = {}

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update:
            cache.update((str(task["id"]), task) for task in reply.json["tasks"])
        elif call.operation == "task/" and reply.body == b"null":
            reply.json = cache.get(call.path.rpartition("/")[2])

    tamper(patch, after=after)


@fault("a-consumed-id-reads-as-null")
def consumed_id_served_among_others(patch: pytest.MonkeyPatch) -> None:
    """The same cache, for several tasks only."""
    cache: dict[str, Any] = {}

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update:
            cache.update((str(task["id"]), task) for task in reply.json["tasks"])
        elif call.operation == "tasks/" and reply.status == 200:
            ids = call.path.rpartition("/")[2].split(",")
            reply.json = [task or cache.get(id) for id, task in zip(ids, reply.json, strict=True)]

    tamper(patch, after=after)


@fault("a-consumed-id-cannot-be-used", "who-is-too-late-finds-the-id-gone")
def delete_of_a_missing_id_succeeds(patch: pytest.MonkeyPatch) -> None:
    """What is to be deleted and is not there counts as deleted."""

    async def before(call: Call) -> None:
        if call.operation == "update" and (content := call.content) and content.get("deletes"):
            ids = [id for id in content["deletes"] if isinstance(id, int)]
            found = (await call.ask("GET", f"/tasks/{','.join(map(str, ids))}")).json
            content["deletes"] = [id for id, task in zip(ids, found, strict=True) if task]
            call.content = content

    tamper(patch, before=before)


@fault("an-id-is-consumed-once")
def id_consumed_twice_at_once(patch: pytest.MonkeyPatch) -> None:
    """Who deletes a task that was consumed a moment ago is told that it worked: look first, then act."""
    recent: dict[int, float] = {}

    def after(call: Call, reply: Reply) -> None:
        now = asyncio.get_running_loop().time()
        if not reply.is_update:
            return
        if (error := reply.json["error"]) is None:
            ids = [*(each["id"] for each in call.content.get("updates") or ()), *(call.content.get("deletes") or ())]
            recent.update(dict.fromkeys(ids, now))
        elif error["deletes"] and all(now - recent.get(id, 0) < 0.05 for id in error["deletes"]):
            reply.json = NO_TASK

    async def before(call: Call) -> None:
        await asyncio.sleep(0.001)

    tamper(patch, before=before, after=after)


@fault("ids-that-no-task-has-are-no-error")
def server_error_on_a_huge_integer(patch: pytest.MonkeyPatch) -> None:
    """An integer beyond 2^62 is a 500."""

    def before(call: Call) -> Reply | None:
        numbers = [word for word in call.body.decode("latin-1").replace("]", ",").split(",") if len(word) < 25]
        texts = [*call.path.rpartition("/")[2].split(","), *(word.rpartition(" ")[2].strip("[") for word in numbers)]
        return refuse(500) if any(text.isdigit() and int(text) > 2**62 for text in texts) else None

    tamper(patch, before=before)


@fault("ids-that-no-task-has-are-no-error")
def id_zero_is_an_error(patch: pytest.MonkeyPatch) -> None:
    """An id below 1 is refused as unfit."""

    def before(call: Call) -> Reply | None:
        ids = [*(call.content.get("depends") or ()), *call.path.rpartition("/")[2].split(",")]
        return refuse(422) if {"0", "-1"} & set(map(str, ids)) else None

    tamper(patch, before=before)


# Order of what comes back


def reordered(patch: pytest.MonkeyPatch, order: Callable[[list[Any], int], list[Any]]) -> None:
    def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.is_update:
            content = reply.json
            content["tasks"] = order(content["tasks"], len(call.content.get("adds") or ()))
            reply.json = content

    tamper(patch, after=after)


@fault("new-tasks-come-in-the-order-asked")
def updates_before_adds(patch: pytest.MonkeyPatch) -> None:
    """New tasks come updates first and adds next."""
    reordered(patch, lambda tasks, adds: [*tasks[adds:], *tasks[:adds]])


@fault("new-tasks-come-in-the-order-asked")
def results_reversed(patch: pytest.MonkeyPatch) -> None:
    """New tasks come newest first."""
    reordered(patch, lambda tasks, adds: tasks[::-1])


@fault("new-tasks-come-in-the-order-asked")
def only_adds_answered(patch: pytest.MonkeyPatch) -> None:
    """Only what was added is answered, and not what was changed."""
    reordered(patch, lambda tasks, adds: tasks[:adds])


# Refusals


@fault("a-refused-update-changes-nothing")
def adds_done_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """An update that is refused has added its tasks before."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.is_update and reply.json["error"]:
            content = call.content
            await call.ask("POST", "/update", {"clientid": content["clientid"], "adds": content.get("adds")})

    tamper(patch, after=after)


@fault("a-refused-update-changes-nothing")
def deletes_done_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """An update that is refused deletes what it can."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.is_update and reply.json["error"]:
            for id in call.content.get("deletes") or ():
                await call.ask("POST", "/update", {"clientid": call.content["clientid"], "deletes": [id]})

    tamper(patch, after=after)


@fault("a-refusal-names-every-culprit")
def only_the_first_culprit(patch: pytest.MonkeyPatch) -> None:
    """A refusal names the first id of each kind."""
    changing_error(patch, lambda call, error: {name: each[:1] for name, each in error.items()})


@fault("a-refusal-names-every-culprit")
def only_the_first_kind(patch: pytest.MonkeyPatch) -> None:
    """A refusal names the culprits of one kind only."""

    def first(call: Call, error: dict[str, list[Any]]) -> dict[str, list[Any]]:
        kind = next((name for name in error if error[name]), None)
        return {name: each if name == kind else [] for name, each in error.items()}

    changing_error(patch, first)


@fault("a-refusal-names-every-culprit")
def culprits_sorted(patch: pytest.MonkeyPatch) -> None:
    """A refusal names the culprits in the order of their ids."""
    changing_error(patch, lambda call, error: {name: sorted(each) for name, each in error.items()})


@fault("nobody-touches-a-task-under-lease")
def owned_told_as_missing(patch: pytest.MonkeyPatch) -> None:
    """A task under another's lease is told as missing."""

    def told(call: Call, error: dict[str, list[Any]]) -> dict[str, list[Any]]:
        deletes = [id for id in call.content.get("deletes") or () if id in error["owned"]]
        return {**error, "owned": [], "deletes": [*error["deletes"], *deletes]}

    changing_error(patch, told)


@fault("a-repeated-id-counts-once")
def repeated_ids_told_twice(patch: pytest.MonkeyPatch) -> None:
    """A missing id that stands twice in a list is told twice."""

    def told(call: Call, error: dict[str, list[Any]]) -> dict[str, list[Any]]:
        missing = {
            name: [id for id in call.content.get(name) or () if id in error[name]] for name in ("deletes", "depends")
        }
        return {**error, **missing}

    changing_error(patch, told)


@fault("contradictions-are-bugs")
def contradictions_allowed(patch: pytest.MonkeyPatch) -> None:
    """Of two changes of the same id the last one is carried out."""

    def last(content: dict[str, Any]) -> None:
        if isinstance(content.get("updates"), list):
            deletes = set(content.get("deletes") or ())
            changes = {each.get("id"): each for each in content["updates"] if isinstance(each, dict)}
            content["updates"] = [each for id, each in changes.items() if id not in deletes]

    changing_request(patch, "update", last)


@fault("contradictions-are-bugs")
def bugs_are_objects(patch: pytest.MonkeyPatch) -> None:
    """Bugs are told as the published Go server tells them: as empty objects."""
    changing_error(patch, lambda call, error: {**error, "bugs": [{} for _ in error["bugs"]]})


@fault("an-update-of-nothing-succeeds")
def nothing_to_do_is_a_bug(patch: pytest.MonkeyPatch) -> None:
    """An update without content is refused, as the published Go server does it."""
    error: dict[str, list[Any]] = {"changes": [], "deletes": [], "depends": [], "owned": [], "bugs": ["nothing to do"]}

    def before(call: Call) -> Reply | None:
        parts = ("adds", "updates", "deletes")
        is_empty = call.operation == "update" and call.content and not any(call.content.get(each) for each in parts)
        return accept({"tasks": [], "error": error}) if is_empty else None

    tamper(patch, before=before)


# Dependencies


@fault("a-missing-dependency-refuses-an-update")
def dependency_of_an_update_ignored(patch: pytest.MonkeyPatch) -> None:
    """An update does not look at its dependencies."""
    changing_request(patch, "update", lambda content: content.pop("depends", None))


@fault("a-changed-dependency-refuses-an-update")
def changed_dependency_ignored(patch: pytest.MonkeyPatch) -> None:
    """A dependency holds if its id was ever given out."""
    refusal = rules.refusal

    def lenient(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
        error = refusal(update, tasks, now)
        return msgspec.structs.replace(error, depends=[id for id in error.depends if not 0 < id < 2**40])

    patch.setattr(rules, "refusal", lenient)


@fault("a-dependency-asks-only-for-existence")
def dependency_has_to_be_owned(patch: pytest.MonkeyPatch) -> None:
    """A dependency on a task under another's lease is refused."""
    refusal = rules.refusal

    def strict(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
        error = refusal(update, tasks, now)
        found = [tasks[id] for id in update.depends or () if id in tasks]
        held = [task.id for task in found if not rules.may_change(task, update.client, now)]
        return msgspec.structs.replace(error, owned=[*error.owned, *held])

    patch.setattr(rules, "refusal", strict)


@fault("a-dependency-asks-only-for-existence")
def dependency_consumed(patch: pytest.MonkeyPatch) -> None:
    """What an update depends on it deletes."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.is_update and not reply.json["error"]:
            for id in call.content.get("depends") or ():
                task = (await call.ask("GET", f"/task/{id}")).json
                if task:
                    await call.ask("POST", "/update", {"clientid": task["ownerid"], "deletes": [id]})

    tamper(patch, after=after)


@fault("an-update-may-depend-on-what-it-consumes")
def dependency_checked_too_late(patch: pytest.MonkeyPatch) -> None:
    """Dependencies are looked at after the update has consumed what it consumes."""
    refusal = rules.refusal

    def late(update: Update, tasks: Mapping[int, Task], now: int) -> Refusal:
        consumed = {*(each.id for each in update.updates or ()), *(update.deletes or ())}
        error = refusal(update, tasks, now)
        return msgspec.structs.replace(
            error, depends=[id for id in update.depends or () if id in consumed or id not in tasks]
        )

    patch.setattr(rules, "refusal", late)


@fault("a-missing-dependency-refuses-a-claim")
def dependency_of_a_claim_ignored(patch: pytest.MonkeyPatch) -> None:
    """A claim does not look at its dependencies."""
    changing_request(patch, "claim", lambda content: content.pop("depends", None))


@fault("a-changed-dependency-refuses-a-claim")
def changed_dependency_of_a_claim_ignored(patch: pytest.MonkeyPatch) -> None:
    """A dependency of a claim holds if its id was ever given out."""

    def lenient(content: dict[str, Any]) -> None:
        content["depends"] = [id for id in content.get("depends") or () if id > 2**40]

    changing_request(patch, "claim", lenient)


@fault("a-missing-dependency-refuses-a-claim")
def dependency_ignored_where_nothing_is_to_be_claimed(patch: pytest.MonkeyPatch) -> None:
    """A claim of an empty group is answered before its dependencies are looked at."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "claim" and reply.is_update and reply.json["error"]:
            name = quote(call.content["group"], safe="").replace(".", "%2E")
            if (await call.ask("GET", f"/group/{name}")).json == []:
                reply.json = NO_TASK

    tamper(patch, after=after)


@fault("a-missing-dependency-refuses-a-claim")
def refused_claim_claims(patch: pytest.MonkeyPatch) -> None:
    """A claim that is refused for a dependency has taken a task before."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "claim" and reply.is_update and reply.json["error"]:
            await call.ask("POST", "/claim", {**call.content, "depends": None, "wait": 0})

    tamper(patch, after=after)


# What becomes of a task


def remade(patch: pytest.MonkeyPatch, change: Callable[[Task, TaskUpdate, Task, int], Task]) -> None:
    """Plant a fault in what a change makes of a task: from the old one, the change, the right new one, and now."""
    changed = rules.changed

    def wrong(task: Task, update: TaskUpdate, id: int, client: int, now: int) -> Task:
        return change(task, update, changed(task, update, id, client, now), now)

    patch.setattr(rules, "changed", wrong)


def with_(task: Task, **fields: Any) -> Task:
    return msgspec.structs.replace(task, **fields)


@fault("what-an-update-does-not-name-is-reset")
def data_not_reset(patch: pytest.MonkeyPatch) -> None:
    """A change without data keeps the data."""
    remade(patch, lambda old, update, new, now: with_(new, data=update.data or old.data))


@fault("what-an-update-does-not-name-is-reset", "a-task-can-be-given-back")
def time_not_reset(patch: pytest.MonkeyPatch) -> None:
    """A change without a time keeps the time."""
    remade(patch, lambda old, update, new, now: new if update.timespec else with_(new, available=old.available))


@fault("a-lease-can-be-renewed")
def lease_not_renewed(patch: pytest.MonkeyPatch) -> None:
    """A change never makes a task available later than it was."""
    remade(patch, lambda old, update, new, now: with_(new, available=min(new.available, max(old.available, now))))


@fault("what-a-client-makes-it-owns")
def change_keeps_the_owner(patch: pytest.MonkeyPatch) -> None:
    """A changed task still belongs to its old owner."""
    remade(patch, lambda old, update, new, now: with_(new, owner=old.owner))


@fault("what-a-client-makes-it-owns")
def owner_taken_from_the_request(patch: pytest.MonkeyPatch) -> None:
    """An added task belongs to whom the request names."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.is_update:
            content = reply.json
            for task, add in zip(content["tasks"], call.content.get("adds") or (), strict=False):
                task["ownerid"] = add.get("ownerid", task["ownerid"])
            reply.json = content

    tamper(patch, after=after)


@fault("the-group-stays")
def group_changed_by_an_update(patch: pytest.MonkeyPatch) -> None:
    """A change that names a group moves the task there."""

    def before(call: Call) -> None:
        changes: list[dict[str, Any]] = call.content.get("updates") or []
        if call.operation == "update" and len(changes) == 1 and (group := changes[0].get("group")):
            add = {"group": group, "data": changes[0].get("data", "")}
            deletes = [*(call.content.get("deletes") or ()), changes[0]["id"]]
            call.content = {**call.content, "adds": [add], "updates": None, "deletes": deletes}

    tamper(patch, before=before)


@fault("many-changes-fit-in-one-update")
def small_updates_only(patch: pytest.MonkeyPatch) -> None:
    """An update has at most a hundred parts."""

    def before(call: Call) -> Reply | None:
        sizes = [len(each) for each in call.content.values() if isinstance(each, list)]
        return refuse(413) if max(sizes, default=0) > 100 else None

    tamper(patch, before=before)


# Claims


def released(patch: pytest.MonkeyPatch, change: Callable[[Task, Claim, Task, int], Task]) -> None:
    """Plant a fault in what a claim makes of a task: from the old one, the claim, the right new one, and now."""
    leased = rules.leased

    def wrong(task: Task, claim: Claim, id: int, now: int) -> Task:
        return change(task, claim, leased(task, claim, id, now), now)

    patch.setattr(rules, "leased", wrong)


@fault("a-claim-takes-a-task-over")
def claim_keeps_the_owner(patch: pytest.MonkeyPatch) -> None:
    """A claimed task still belongs to its old owner."""
    released(patch, lambda old, claim, new, now: with_(new, owner=old.owner))


@fault("a-claim-takes-a-task-over")
def claim_loses_the_data(patch: pytest.MonkeyPatch) -> None:
    """A claimed task has no data."""
    released(patch, lambda old, claim, new, now: with_(new, data=""))


@fault("a-claimed-task-is-not-claimed-again")
def lease_ignored(patch: pytest.MonkeyPatch) -> None:
    """A claimed task stays available."""
    released(patch, lambda old, claim, new, now: with_(new, available=now))


@fault("a-lease-lasts-as-long-as-asked")
def lease_of_fixed_length(patch: pytest.MonkeyPatch) -> None:
    """Every lease lasts 30 seconds."""
    released(patch, lambda old, claim, new, now: with_(new, available=now + 30 * SECOND))


@fault("a-lease-lasts-as-long-as-asked")
def lease_in_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """The length of a lease is taken for milliseconds."""
    released(patch, lambda old, claim, new, now: with_(new, available=min(2**63 - 1, now + claim.duration * 10**6)))


@fault("a-lease-runs-out", "after-a-lease-anybody-may-touch-the-task")
def lease_runs_out_late(patch: pytest.MonkeyPatch) -> None:
    """A lease lasts 0.4 s longer than asked: leases are looked after now and then."""
    released(patch, lambda old, claim, new, now: with_(new, available=new.available + 4 * SECOND // 10))


@fault("a-lease-runs-out", "a-lease-lasts-as-long-as-asked")
def lease_runs_out_early(patch: pytest.MonkeyPatch) -> None:
    """A lease ends a second before its time."""
    released(patch, lambda old, claim, new, now: with_(new, available=max(now, new.available - 2 * SECOND)))


@fault("a-lease-of-zero-is-over-at-once")
def lease_of_zero_is_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A lease of zero has no end."""
    released(patch, lambda old, claim, new, now: new if claim.duration else with_(new, available=2**63 - 1))


@fault("claimers-at-once-get-different-tasks")
def task_claimed_twice_at_once(patch: pytest.MonkeyPatch) -> None:
    """Claims of a group that are under way together get the same task."""
    under_way: dict[str, asyncio.Task[Reply]] = {}

    async def claim(call: Call) -> Reply:
        await asyncio.sleep(0.005)
        under_way.pop(call.content["group"])
        return await call.forward()

    async def before(call: Call) -> Reply | None:
        if call.operation != "claim" or not isinstance(call.content.get("group"), str):
            return None
        group = call.content["group"]
        if group not in under_way:
            under_way[group] = asyncio.ensure_future(claim(call))
        reply = await under_way[group]
        return Reply(reply.status, reply.headers, reply.body)

    tamper(patch, before=before)


@fault("claimers-at-once-get-different-tasks")
def claimers_turn_each_other_away(patch: pytest.MonkeyPatch) -> None:
    """While a claim of a group is under way others find nothing, as with a lock that is not waited for."""
    under_way: set[str] = set()

    async def before(call: Call) -> Reply | None:
        if call.operation != "claim" or not isinstance(call.content.get("group"), str):
            return None
        group = call.content["group"]
        if group in under_way:
            return accept(NO_TASK)
        under_way.add(group)
        await asyncio.sleep(0.002)
        reply = await call.forward()
        under_way.discard(group)
        return reply

    tamper(patch, before=before)


class _First(Random):
    def sample(self, population: Any, k: int, **_: Any) -> Any:
        return population[:k]


class _Last(Random):
    def sample(self, population: Any, k: int, **_: Any) -> Any:
        return population[-k:] if k else []


class _Seeded(Random):
    """The same order in every group, and it looks like chance."""

    def sample(self, population: Any, k: int, **_: Any) -> Any:
        return [population[(7 * len(population) + 3) % len(population)]][:k] if population else []


@fault("claims-are-random")
def first_task_claimed(patch: pytest.MonkeyPatch) -> None:
    """A claim always takes the task that has been available for longest."""
    patch.setattr(sqlite, "random", SimpleNamespace(Random=_First))


@fault("claims-are-random")
def last_task_claimed(patch: pytest.MonkeyPatch) -> None:
    """A claim always takes the newest task."""
    patch.setattr(sqlite, "random", SimpleNamespace(Random=_Last))


@fault("claims-are-random")
def claims_in_a_fixed_order(patch: pytest.MonkeyPatch) -> None:
    """Claims go through every group in the same order."""
    patch.setattr(sqlite, "random", SimpleNamespace(Random=_Seeded))


@fault("what-is-delayed-is-not-claimed", "an-instant-to-come-delays-a-task")
def delayed_task_claimed(patch: pytest.MonkeyPatch) -> None:
    """A claim does not look at the time."""
    patch.setattr(sqlite, "_CLAIMABLE", sqlite._CLAIMABLE.replace("available <= ?", "? IS NOT NULL"))


@fault("a-claim-of-nothing-is-empty")
def nothing_to_claim_is_an_error(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds no task is refused."""
    error: dict[str, list[Any]] = {"changes": [], "deletes": [], "depends": [], "owned": [], "bugs": ["no task"]}

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "claim" and reply.is_update and reply.json == NO_TASK:
            reply.json = {"tasks": [], "error": error}

    tamper(patch, after=after)


@fault("a-claim-of-nothing-is-empty")
def nothing_to_claim_is_not_found(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds no task is a 404."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "claim" and reply.is_update and reply.json == NO_TASK:
            reply.__dict__.update(vars(refuse(404)))

    tamper(patch, after=after)


@fault("a-claim-of-nothing-is-empty")
def nothing_claimed_is_null(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds no task answers null for the tasks."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "claim" and reply.is_update and reply.json == NO_TASK:
            reply.json = {"tasks": None, "error": None}

    tamper(patch, after=after)


# Ownership


def allowing(patch: pytest.MonkeyPatch, may_change: Callable[[Task, int, int], bool]) -> None:
    patch.setattr(rules, "may_change", may_change)


@fault("nobody-touches-a-task-under-lease")
def ownership_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Anybody may change and delete anything."""
    allowing(patch, lambda task, client, now: True)


@fault("the-owner-may-touch-a-task-at-any-time")
def owner_locked_out(patch: pytest.MonkeyPatch) -> None:
    """While a lease runs not even the owner may touch the task."""
    allowing(patch, lambda task, client, now: task.available <= now)


@fault("who-is-late-may-still-finish")
def late_owner_refused(patch: pytest.MonkeyPatch) -> None:
    """A lease that has run out takes from its owner what everybody else may do."""
    allowing(patch, lambda task, client, now: (task.owner == client) == (task.available > now))


@fault("anybody-may-touch-what-is-available", "after-a-lease-anybody-may-touch-the-task")
def available_task_protected(patch: pytest.MonkeyPatch) -> None:
    """Only the owner may ever change or delete a task."""
    allowing(patch, lambda task, client, now: task.owner == client)


@fault("nobody-touches-a-task-under-lease")
def delayed_task_unprotected(patch: pytest.MonkeyPatch) -> None:
    """A task that is only delayed, and under no lease, may be touched by anybody."""
    allowing(patch, lambda task, client, now: task.owner == client or task.available <= now or not task.attempts)
