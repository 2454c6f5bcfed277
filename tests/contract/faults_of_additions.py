"""Faults in what was added to the original protocol."""

import asyncio
import re
from functools import partial
from typing import Any

import pytest
from faults import changing_request, fault
from faults_of_writes import released, remade, with_
from tampering import Call, Reply, accept, refuse, tamper

from taskstore.server import engine

SECOND = 10**9
KEY = b"idempotency-key"
added = partial(fault, level="full")


def wait_of(call: Call) -> int:
    """For how many nanoseconds a claim may wait; 0 for what does not fit."""
    wait = call.content.get("wait") if call.operation == "claim" else None
    return wait if isinstance(wait, int) else 0


def without_key(call: Call) -> None:
    call.scope["headers"] = [(name, value) for name, value in call.scope["headers"] if name != KEY]


def key_of(call: Call) -> bytes:
    """The key of a request, without quotes; empty if there is none that fits."""
    key = (call.header(KEY) or b"").strip(b'"')
    return key if re.fullmatch(rb"[A-Za-z0-9_-]{16,64}", key) else b""


# Waits


@added("a-claim-can-wait")
def wait_returns_early(patch: pytest.MonkeyPatch) -> None:
    """A claim waits half as long as it may."""

    def before(call: Call) -> None:
        if wait := wait_of(call):
            call.content = {**call.content, "wait": wait // 2}

    tamper(patch, before=before)


@added("a-wait-is-over-when-there-is-a-task")
def wait_ended_by_nothing(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds nothing is tried again when its time is up, and not before."""

    async def before(call: Call) -> Reply | None:
        wait, call.content = wait_of(call), {**call.content, "wait": 0}
        reply = await call.forward()
        if not wait or reply.status != 200 or reply.json["tasks"] or reply.json["error"]:
            return reply
        await asyncio.sleep(wait / SECOND)
        return await call.forward()

    tamper(patch, before=lambda call: before(call) if wait_of(call) else None)


@added("a-wait-is-over-when-there-is-a-task")
def wait_not_ended_by_time(patch: pytest.MonkeyPatch) -> None:
    """A waiting claim is told of commits, and not of delays and leases that run out."""
    patch.setattr(engine.Engine, "_soonest", lambda self, groups: {})


@added("one-task-ends-one-wait")
def all_who_wait_get_the_same_task(patch: pytest.MonkeyPatch) -> None:
    """Claims that wait for the same group are one claim."""
    waiting: dict[str, asyncio.Task[Reply]] = {}

    async def before(call: Call) -> Reply:
        group = str(call.content.get("group"))
        if group not in waiting or waiting[group].done():
            waiting[group] = asyncio.ensure_future(call.forward())
        reply = await waiting[group]
        return Reply(reply.status, reply.headers, reply.body)

    tamper(patch, before=lambda call: before(call) if wait_of(call) else None)


@added("a-claim-that-cannot-succeed-does-not-wait")
def refusals_wait(patch: pytest.MonkeyPatch) -> None:
    """A claim that is refused is answered when its time is up."""

    async def after(call: Call, reply: Reply) -> None:
        if (wait := wait_of(call)) and reply.is_update and reply.json["error"]:
            await asyncio.sleep(wait / SECOND)

    tamper(patch, after=after)


@added("who-hangs-up-while-waiting-gets-nothing")
def waits_for_who_is_gone(patch: pytest.MonkeyPatch) -> None:
    """A claim goes on waiting when its client has hung up."""

    async def never() -> Any:
        await asyncio.Event().wait()

    def before(call: Call) -> None:
        call.receive = never

    tamper(patch, before=before)


# Several tasks, several groups


@added("a-claim-can-take-several")
def limit_of_a_claim_ignored(patch: pytest.MonkeyPatch) -> None:
    """A claim takes one task, whatever its limit."""
    changing_request(patch, "claim", lambda content: isinstance(content.get("limit"), int) and content.pop("limit"))


@added("a-claim-can-take-several")
def one_task_too_many(patch: pytest.MonkeyPatch) -> None:
    """A claim of several takes one more than its limit."""

    def more(content: dict[str, Any]) -> None:
        if isinstance(content.get("limit"), int) and content["limit"] > 1:
            content["limit"] += 1

    changing_request(patch, "claim", more)


@added("a-claim-can-take-several")
def several_or_nothing(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds fewer tasks than its limit takes none."""

    async def after(call: Call, reply: Reply) -> None:
        limit = call.content.get("limit", 1)
        if call.operation == "claim" and reply.is_update and isinstance(limit, int):
            tasks = reply.json["tasks"]
            if 0 < len(tasks) < limit:
                changes = [{"id": task["id"], "data": task["data"]} for task in tasks]
                await call.ask("POST", "/update", {"clientid": call.content["clientid"], "updates": changes})
                reply.json = {"tasks": [], "error": None}

    tamper(patch, after=after)


@added("a-claim-can-name-several-groups")
def first_group_only(patch: pytest.MonkeyPatch) -> None:
    """A claim of several groups looks at the first one."""

    def first(content: dict[str, Any]) -> None:
        if isinstance(content.get("groups"), list) and content["groups"] and "group" not in content:
            content["groups"] = content["groups"][:1]

    changing_request(patch, "claim", first)


@added("a-claim-can-name-several-groups")
def groups_in_the_order_given(patch: pytest.MonkeyPatch) -> None:
    """A claim of several groups empties the first one before it looks at the next."""
    patch.setattr(engine, "_shuffled", lambda request, claim: request)


@added("a-claim-names-one-group-or-several")
def group_and_groups_taken(patch: pytest.MonkeyPatch) -> None:
    """A claim may name both a group and groups; the one group counts."""

    def drop_groups(content: dict[str, Any]) -> None:
        if content.get("group") and isinstance(content.get("groups"), list):
            del content["groups"]

    changing_request(patch, "claim", drop_groups)


# Steps


def in_two_requests(patch: pytest.MonkeyPatch, *, claim_first: bool) -> None:
    """Carry out a step as an update and a claim."""

    async def before(call: Call) -> Reply | None:
        content = call.content
        if call.operation != "step" or not isinstance(client := content.get("clientid"), int):
            return None
        parts = ("claim", "update") if claim_first else ("update", "claim")
        found: dict[str, Any] = {"tasks": [], "updated": [], "error": None}
        for part in parts:
            if content.get(part) and not found["error"]:
                reply = await call.ask("POST", f"/{part}", {"clientid": client, **content[part]})
                if reply.status != 200:
                    return reply
                found["updated" if part == "update" else "tasks"] = reply.json["tasks"]
                found["error"] = reply.json["error"]
        return accept({"tasks": [], "updated": [], "error": found["error"]} if found["error"] else found)

    tamper(patch, before=before)


@added("a-refused-step-does-nothing")
def step_in_two_halves(patch: pytest.MonkeyPatch) -> None:
    """A step is an update and then a claim, each for itself."""
    in_two_requests(patch, claim_first=False)


@added("a-step-updates-and-claims")
def step_claims_first(patch: pytest.MonkeyPatch) -> None:
    """The claim of a step does not see what its update makes."""
    in_two_requests(patch, claim_first=True)


@added("a-refused-step-does-nothing")
def step_names_culprits_of_one_half(patch: pytest.MonkeyPatch) -> None:
    """A step whose update is refused does not look at what its claim depends on."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "step" and reply.is_update and (error := reply.json["error"]) and error["deletes"]:
            reply.json = {**reply.json, "error": {**error, "depends": []}}

    tamper(patch, after=after)


@added("a-step-that-waits-updates-at-once")
def step_waits_as_a_whole(patch: pytest.MonkeyPatch) -> None:
    """While the claim of a step waits its update is not made."""

    async def before(call: Call) -> None:
        claim = call.content.get("claim")
        if call.operation == "step" and isinstance(claim, dict) and isinstance(claim.get("wait"), int):
            await asyncio.sleep(claim["wait"] / SECOND)

    tamper(patch, before=before)


# Idempotency keys


@added("a-key-makes-a-request-once")
def key_replayed_with_a_second_effect(patch: pytest.MonkeyPatch) -> None:
    """A key is looked at, and the request carried out all the same."""
    tamper(patch, before=lambda call: without_key(call) if key_of(call) else None)


@added("a-key-makes-a-request-once")
def replay_not_marked(patch: pytest.MonkeyPatch) -> None:
    """An answer does not say that it is a recorded one."""

    def after(call: Call, reply: Reply) -> None:
        reply.headers = [(name, value) for name, value in reply.headers if name != b"idempotency-replayed"]

    tamper(patch, after=after)


@added("a-key-makes-a-request-once")
def quotes_belong_to_the_key(patch: pytest.MonkeyPatch) -> None:
    """A key in quotes is another one than the same without."""

    def before(call: Call) -> None:
        if (call.header(KEY) or b"").startswith(b'"') and key_of(call):
            key = (KEY, b"quoted-" + key_of(call))
            without_key(call)
            call.scope["headers"].append(key)

    tamper(patch, before=before)


def caching(patch: pytest.MonkeyPatch, *, per_client: bool, same_request: bool, refusals: bool) -> None:
    """Keep answers by key, outside of the store."""
    cache: dict[tuple[Any, ...], Reply] = {}

    async def before(call: Call) -> Reply | None:
        if not (key := key_of(call)):
            return None
        name = (key, call.content.get("clientid") if per_client else 0, call.body if same_request else b"")
        if name in cache:
            known = cache[name]
            return Reply(known.status, [*known.headers, (b"idempotency-replayed", b"true")], known.body)
        if same_request:
            others = [each for each in cache if each[:2] == name[:2]]
            if others:
                return refuse(422)
        without_key(call)
        reply = await call.forward()
        if reply.status == 200 and (refusals or (reply.json["tasks"] and not reply.json["error"])):
            cache[name] = reply
        return reply

    tamper(patch, before=before)


@added("a-key-is-for-one-request")
def key_shared_by_all_clients(patch: pytest.MonkeyPatch) -> None:
    """A key that one client has used is used up for all."""
    caching(patch, per_client=False, same_request=True, refusals=False)


@added("a-key-is-for-one-request")
def request_of_a_key_not_compared(patch: pytest.MonkeyPatch) -> None:
    """A key gives the recorded answer to any request."""
    caching(patch, per_client=True, same_request=False, refusals=False)


@added("a-key-is-not-used-up-by-a-refusal")
def refusals_recorded(patch: pytest.MonkeyPatch) -> None:
    """A claim that found nothing finds nothing with the same key for ever."""
    caching(patch, per_client=True, same_request=True, refusals=True)


@added("a-key-holds-for-requests-at-once")
def key_looked_up_too_early(patch: pytest.MonkeyPatch) -> None:
    """A key is looked up before the request and recorded after it, and nothing holds others up in between."""
    under_way: set[bytes] = set()

    async def before(call: Call) -> Reply | None:
        key = key_of(call)
        if not key or key in under_way:
            without_key(call)
            return None
        under_way.add(key)
        await asyncio.sleep(0.01)
        reply = await call.forward()
        under_way.discard(key)
        return reply

    tamper(patch, before=lambda call: before(call) if key_of(call) else None)


@added("a-key-has-a-form")
def any_key_taken(patch: pytest.MonkeyPatch) -> None:
    """A key that is longer or shorter than it may be is not looked at."""

    def before(call: Call) -> None:
        if call.header(KEY) != b"too short" and not key_of(call):
            without_key(call)

    tamper(patch, before=before)


# Attempts, stats, health


@added("attempts-count-claims")
def attempts_not_counted(patch: pytest.MonkeyPatch) -> None:
    """Attempts stay at 0."""
    released(patch, lambda old, claim, new, now: with_(new, attempts=old.attempts))


@added("attempts-count-claims")
def attempts_reset_by_an_update(patch: pytest.MonkeyPatch) -> None:
    """A changed task begins to count anew."""
    remade(patch, lambda old, update, new, now: with_(new, attempts=0))


def miscounting(patch: pytest.MonkeyPatch, change: Any) -> None:
    def after(call: Call, reply: Reply) -> None:
        if call.operation == "stats" and reply.status == 200:
            content = reply.json
            for row in content["groups"]:
                change(row)
            reply.json = content

    tamper(patch, after=after)


@added("stats-count-tasks")
def delayed_counted_as_owned(patch: pytest.MonkeyPatch) -> None:
    """Whatever is not available counts as owned."""
    miscounting(patch, lambda row: row.update(owned=row["owned"] + row["delayed"], delayed=0))


@added("stats-count-tasks")
def age_in_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """The age of the oldest task is in milliseconds."""
    miscounting(patch, lambda row: row.update(oldest_age=row["oldest_age"] // 10**6))


@added("stats-count-tasks")
def prefix_of_stats_ignored(patch: pytest.MonkeyPatch) -> None:
    """Stats are of all groups, whatever the prefix."""

    def before(call: Call) -> None:
        if call.operation == "stats":
            call.query = {}

    tamper(patch, before=before)


@added("health-is-told")
def readiness_missing(patch: pytest.MonkeyPatch) -> None:
    """There is no address that tells readiness."""
    tamper(patch, before=lambda call: refuse(404) if call.operation == "readyz" else None)
