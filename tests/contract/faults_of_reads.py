"""Faults in times, in reads, in what requests may look like, and in the shape of answers."""

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote
from zlib import crc32

import pytest
from faults import SECOND, changing_request, changing_tasks, fault
from tampering import Call, Reply, accept, refuse, tamper

from taskstore.server import rules, sqlite

# Times


@fault("times-are-nanoseconds-since-1970")
def times_in_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """Instants in answers are milliseconds."""
    changing_tasks(patch, lambda task: task.update(duration=max(1, task["duration"] // 10**6)))


@fault("a-positive-time-is-an-instant")
def times_as_floats(patch: pytest.MonkeyPatch) -> None:
    """Instants pass through a float on their way."""
    changing_tasks(patch, lambda task: task.update(duration=min(int(float(task["duration"])), 2**63 - 1)))


@fault("a-positive-time-is-an-instant")
def times_in_microseconds(patch: pytest.MonkeyPatch) -> None:
    """Instants are kept to the microsecond."""
    instant = rules.instant
    patch.setattr(rules, "instant", lambda timespec, now: max(1, instant(timespec, now) // 1000 * 1000))


@fault("a-negative-time-counts-from-now")
def relative_time_taken_as_absolute(patch: pytest.MonkeyPatch) -> None:
    """The sign of a time is ignored."""
    patch.setattr(rules, "instant", lambda timespec, now: abs(timespec) or now)


@fault("a-negative-time-counts-from-now")
def relative_time_counts_backwards(patch: pytest.MonkeyPatch) -> None:
    """A negative time lies in the past."""
    patch.setattr(rules, "instant", lambda timespec, now: timespec if timespec > 0 else max(1, now + timespec))


@fault("a-positive-time-is-an-instant")
def absolute_time_taken_as_relative(patch: pytest.MonkeyPatch) -> None:
    """A positive time counts from now, too."""
    patch.setattr(rules, "instant", lambda timespec, now: min(now + abs(timespec), 2**63 - 1))


@fault("a-positive-time-is-an-instant")
def past_instant_becomes_now(patch: pytest.MonkeyPatch) -> None:
    """An instant in the past is kept as now."""
    patch.setattr(rules, "instant", lambda timespec, now: max(timespec, now) if timespec > 0 else now - timespec)


@fault("a-delay-runs-out")
def delay_runs_out_late(patch: pytest.MonkeyPatch) -> None:
    """A delay lasts 0.4 s longer than asked."""
    instant = rules.instant

    def late(timespec: int, now: int) -> int:
        return instant(timespec, now) + (4 * SECOND // 10 if -SECOND < timespec < -SECOND // 10 else 0)

    patch.setattr(rules, "instant", late)


@fault("what-is-added-without-a-time-is-available", tick_ns=SECOND // 4)
def off_by_one_at_the_instant(patch: pytest.MonkeyPatch) -> None:
    """A task is available only after its instant, which shows where the clock is coarse."""
    patch.setattr(rules, "is_available", lambda task, now: task.available < now)
    for statement in ("_CLAIMABLE", "_GROUP"):
        patch.setattr(sqlite, statement, getattr(sqlite, statement).replace("available <= ?", "available < ?"))


# Reads


@fault("what-was-written-can-be-read")
def stale_read(patch: pytest.MonkeyPatch) -> None:
    """A task that is read by its id has no data."""
    changing_tasks(patch, lambda task: task.update(data=""), "task/")


@fault("tasks-come-in-the-order-asked")
def null_left_out(patch: pytest.MonkeyPatch) -> None:
    """Ids that no task has are left out of the tasks."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "tasks/" and reply.status == 200:
            reply.json = [task for task in reply.json if task]

    tamper(patch, after=after)


@fault("tasks-come-in-the-order-asked")
def tasks_sorted_by_id(patch: pytest.MonkeyPatch) -> None:
    """Tasks come in the order of their ids, as the storage has them."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "tasks/" and reply.status == 200:
            reply.json = sorted(reply.json, key=lambda task: task["id"] if task else 0)

    tamper(patch, after=after)


@fault("tasks-come-in-the-order-asked")
def repeated_id_answered_once(patch: pytest.MonkeyPatch) -> None:
    """An id that is asked for twice is answered once."""

    def before(call: Call) -> None:
        if call.operation == "tasks/":
            call.path = "/tasks/" + ",".join(dict.fromkeys(call.path.rpartition("/")[2].split(",")))

    tamper(patch, before=before)


@fault("several-tasks-are-read-at-one-instant")
def tasks_read_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Several tasks are read one after the other."""

    async def before(call: Call) -> Reply | None:
        ids = call.path.rpartition("/")[2].split(",")
        if call.operation != "tasks/" or not all(id.removeprefix("-").isdigit() for id in ids):
            return None
        found = []
        for id in ids:
            found.append((await call.ask("GET", f"/task/{id}")).json)
            await asyncio.sleep(0.001)
        return accept(found)

    tamper(patch, before=before)


def with_query(patch: pytest.MonkeyPatch, change: Callable[[dict[str, str]], object]) -> None:
    def before(call: Call) -> None:
        if call.operation == "group/":
            query = call.query
            change(query)
            call.query = query

    tamper(patch, before=before)


@fault("a-limit-is-kept")
def limit_ignored(patch: pytest.MonkeyPatch) -> None:
    """A listing has all tasks, whatever its limit."""
    with_query(patch, lambda query: query.pop("limit", None))


@fault("a-limit-is-kept")
def limit_of_zero_is_nothing(patch: pytest.MonkeyPatch) -> None:
    """A limit of 0 lists nothing."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "group/" and call.query.get("limit") == "0" and reply.status == 200:
            reply.json = []

    tamper(patch, after=after)


@fault("a-group-lists-what-is-available")
def owned_tasks_listed_unasked(patch: pytest.MonkeyPatch) -> None:
    """A listing has all tasks, available or not."""
    with_query(patch, lambda query: query.update(owned="true"))


@fault("a-group-lists-what-is-available")
def owned_tasks_never_listed(patch: pytest.MonkeyPatch) -> None:
    """A listing has only what is available, even where all is asked for."""
    with_query(patch, lambda query: query.pop("owned", None))


@fault("a-group-lists-what-is-available")
def one_spelling_of_yes(patch: pytest.MonkeyPatch) -> None:
    """Only `true` means yes."""
    with_query(patch, lambda query: query.update(owned="true" if query.get("owned") == "true" else "false"))


@fault("a-group-is-listed-in-order")
def group_listed_by_id(patch: pytest.MonkeyPatch) -> None:
    """A group is listed in the order of ids."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "group/" and reply.status == 200:
            reply.json = sorted(reply.json, key=lambda task: int(task["id"]))

    tamper(patch, after=after)


@fault("a-group-lists-only-its-own-tasks")
def groups_in_any_case(patch: pytest.MonkeyPatch) -> None:
    """Names that differ in case only are the same group."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "group/" and reply.status == 200:
            asked = unquote(call.path[len("/group/") :])
            names = [name for name in (await call.ask("GET", "/groups")).json if name.lower() == asked.lower()]
            found = [(await call.ask("GET", f"/group/{quote(name, safe='')}")).json for name in names if name != asked]
            reply.json = reply.json + [task for tasks in found for task in tasks]

    tamper(patch, after=after)


@fault("a-group-lists-only-its-own-tasks")
def empty_group_not_found(patch: pytest.MonkeyPatch) -> None:
    """A group without tasks is a 404."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "group/" and reply.body == b"[]":
            reply.__dict__.update(vars(refuse(404)))

    tamper(patch, after=after)


@fault("a-group-exists-while-it-has-a-task")
def groups_never_go(patch: pytest.MonkeyPatch) -> None:
    """A group that has had a task is among the groups for ever."""
    seen: set[str] = set()

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update:
            seen.update(task["group"] for task in reply.json["tasks"])
        elif call.operation in ("groups", "group") and reply.status == 200:
            reply.json = sorted(seen | set(reply.json))

    tamper(patch, after=after)


@fault("a-group-exists-while-it-has-a-task")
def groups_of_available_tasks_only(patch: pytest.MonkeyPatch) -> None:
    """A group in which nothing is available is not among the groups."""

    async def after(call: Call, reply: Reply) -> None:
        if call.operation == "groups" and reply.status == 200:
            names = reply.json
            found = [(await call.ask("GET", f"/group/{quote(name, safe='')}?limit=1")).json for name in names]
            reply.json = [name for name, tasks in zip(names, found, strict=True) if tasks]

    tamper(patch, after=after)


@fault("groups-are-sorted-and-have-an-alias")
def groups_unsorted(patch: pytest.MonkeyPatch) -> None:
    """The groups come in the order of a hash."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "groups" and reply.status == 200:
            reply.json = sorted(reply.json, key=lambda name: crc32(name.encode()))

    tamper(patch, after=after)


@fault("groups-are-sorted-and-have-an-alias")
def alias_missing(patch: pytest.MonkeyPatch) -> None:
    """The groups cannot be had at the address that the original client uses."""
    tamper(patch, before=lambda call: refuse(404) if call.operation == "group" else None)


# Data and names


def storing(patch: pytest.MonkeyPatch, field: str, change: Callable[[str], str]) -> None:
    """Tamper with what is to be stored in a field of a task, and with the group that is claimed or listed."""

    def before(call: Call) -> None:
        content = call.content
        for part in [content, *(content.get("adds") or ()), *(content.get("updates") or ())]:
            if isinstance(part, dict) and isinstance(part.get(field), str):
                part[field] = change(part[field])
        if content:
            call.content = content
        if field == "group" and call.operation == "group/":
            call.path = "/group/" + quote(change(unquote(call.path[len("/group/") :])), safe="")

    tamper(patch, before=before)


@fault("data-is-kept-byte-for-byte")
def data_cut_at_nul(patch: pytest.MonkeyPatch) -> None:
    """Data ends at its first NUL."""
    storing(patch, "data", lambda data: data.partition("\0")[0])


@fault("data-is-kept-byte-for-byte")
def data_normalised(patch: pytest.MonkeyPatch) -> None:
    """Data is brought into Unicode's normal form."""
    storing(patch, "data", lambda data: unicodedata.normalize("NFC", data))


@fault("data-is-kept-byte-for-byte")
def data_stripped(patch: pytest.MonkeyPatch) -> None:
    """Blanks around data are removed."""
    storing(patch, "data", str.strip)


@fault("data-is-kept-byte-for-byte")
def data_cut_at_64_kib(patch: pytest.MonkeyPatch) -> None:
    """Data is cut off after 65,535 characters, as some databases do it."""
    storing(patch, "data", lambda data: data[:65535])


@fault("data-reads-back-byte-for-byte")
def data_in_latin_1(patch: pytest.MonkeyPatch) -> None:
    """What is read is UTF-8 that was taken for Latin-1."""
    changing_tasks(patch, lambda task: task.update(data=task["data"].encode().decode("latin-1")), "tasks/", "group/")


@fault("every-name-can-be-a-group", "every-name-can-be-read")
def names_cut_off(patch: pytest.MonkeyPatch) -> None:
    """A group's name has at most 255 characters, and what is more is cut off."""
    storing(patch, "group", lambda name: name[:255])


@fault("every-name-can-be-a-group")
def names_stripped(patch: pytest.MonkeyPatch) -> None:
    """Blanks around a group's name are removed."""
    storing(patch, "group", lambda name: name.strip() or name)


@fault("every-name-can-be-read")
def name_decoded_twice(patch: pytest.MonkeyPatch) -> None:
    """The name in a path is decoded once by the front and once more by the application."""

    def before(call: Call) -> None:
        if call.operation == "group/":
            call.path = "/group/" + quote(unquote(unquote(call.path[len("/group/") :])), safe="")

    tamper(patch, before=before)


@fault("every-name-can-be-read")
def slash_ends_a_name(patch: pytest.MonkeyPatch) -> None:
    """A name is what a router finds between two slashes of the decoded path."""

    def before(call: Call) -> Reply | None:
        return refuse(404) if call.operation == "group/" and "/" in unquote(call.path[len("/group/") :]) else None

    tamper(patch, before=before)


@fault("every-name-can-be-read")
def dots_resolved(patch: pytest.MonkeyPatch) -> None:
    """Dot segments of the decoded path are resolved, as a front does it."""

    def before(call: Call) -> Reply | None:
        parts = unquote(call.path).split("/")
        return refuse(404) if call.operation == "group/" and {".", ".."} & set(parts) else None

    tamper(patch, before=before)


@fault("a-group-in-plain-letters-is-found")
def names_have_to_be_escaped(patch: pytest.MonkeyPatch) -> None:
    """A name that is not wholly percent-encoded is not found."""

    def before(call: Call) -> Reply | None:
        return refuse(404) if call.operation == "group/" and "/" in call.path[len("/group/") :] else None

    tamper(patch, before=before)


# Leniency


@fault("null-and-absent-lists-are-empty")
def null_lists_rejected(patch: pytest.MonkeyPatch) -> None:
    """A list must not be null."""
    tamper(patch, before=lambda call: refuse(422) if None in call.content.values() else None)


@fault("null-and-absent-lists-are-empty")
def absent_lists_rejected(patch: pytest.MonkeyPatch) -> None:
    """A claim has to have its list of dependencies."""

    def before(call: Call) -> Reply | None:
        return refuse(422) if call.operation == "claim" and call.content and "depends" not in call.content else None

    tamper(patch, before=before)


@fault("unknown-fields-are-ignored")
def unknown_fields_rejected(patch: pytest.MonkeyPatch) -> None:
    """A field that the server does not know is refused."""
    known = {"clientid", "adds", "updates", "deletes", "depends", "group", "duration", "groups", "limit", "wait"}
    tamper(patch, before=lambda call: refuse(422) if call.content.keys() - known else None)


@fault("forms-are-understood")
def form_dialect_rejected(patch: pytest.MonkeyPatch) -> None:
    """A form is refused."""

    def before(call: Call) -> Reply | None:
        return refuse(415) if b"urlencoded" in (call.header(b"content-type") or b"") else None

    tamper(patch, before=before)


@fault("json-needs-no-content-type")
def content_type_demanded(patch: pytest.MonkeyPatch) -> None:
    """A body without a Content-Type is refused."""

    def before(call: Call) -> Reply | None:
        return refuse(415) if call.method == "POST" and not call.header(b"content-type") else None

    tamper(patch, before=before)


@fault("json-may-be-written-in-any-way")
def surrogate_pairs_refused(patch: pytest.MonkeyPatch) -> None:
    """Escaped surrogate pairs are taken for half characters."""
    tamper(patch, before=lambda call: refuse(400) if b"\\ud83d\\ude00\\u00e9" in call.body else None)


@fault("every-client-id-is-a-client")
def client_ids_of_one_byte(patch: pytest.MonkeyPatch) -> None:
    """A client id loses all but its lowest byte, as in the published Go client."""
    changing_request(patch, "update", lambda content: content.update(clientid=content.get("clientid", 0) & 0xFF))


@fault("every-client-id-is-a-client")
def negative_clients_refused(patch: pytest.MonkeyPatch) -> None:
    """A client id must not be negative."""

    def before(call: Call) -> Reply | None:
        client = call.content.get("clientid")
        return refuse(422) if isinstance(client, int) and client < 0 else None

    tamper(patch, before=before)


# What makes no sense


@fault("what-makes-no-sense-is-refused")
def texts_taken_for_numbers(patch: pytest.MonkeyPatch) -> None:
    """A number may be written as a text."""

    def before(call: Call) -> None:
        if isinstance(client := call.content.get("clientid"), str) and client.isdigit():
            call.content = {**call.content, "clientid": int(client)}

    tamper(patch, before=before)


@fault("what-makes-no-sense-is-refused")
def elements_left_out(patch: pytest.MonkeyPatch) -> None:
    """Of a list with an element that makes no sense the others are carried out."""

    def sensible(content: dict[str, Any]) -> None:
        if isinstance(content.get("adds"), list):
            content["adds"] = [add for add in content["adds"] if isinstance(add, dict) and add.get("group")]

    changing_request(patch, "update", sensible)


@fault("what-makes-no-sense-is-refused")
def problem_with_status_200(patch: pytest.MonkeyPatch) -> None:
    """What is refused is told with status 200."""

    def after(call: Call, reply: Reply) -> None:
        reply.status = 200

    tamper(patch, after=after)


@fault("what-makes-no-sense-is-refused")
def problem_as_html(patch: pytest.MonkeyPatch) -> None:
    """What is refused is told as a page for people."""

    def after(call: Call, reply: Reply) -> None:
        if reply.status != 200:
            reply.headers = [(b"content-type", b"text/html")]
            reply.body = b"<h1>Bad Request</h1>"

    tamper(patch, after=after)


@fault("what-makes-no-sense-is-refused")
def problem_without_detail(patch: pytest.MonkeyPatch) -> None:
    """A problem does not say what is wrong."""

    def after(call: Call, reply: Reply) -> None:
        if reply.status != 200:
            reply.json = {"type": "about:blank", "title": "Bad", "status": reply.status}

    tamper(patch, after=after)


@fault("what-makes-no-sense-is-refused")
def crash_on_deep_nesting(patch: pytest.MonkeyPatch) -> None:
    """A body that is nested deeply is a 500."""
    tamper(patch, before=lambda call: refuse(500) if b"[[[[" in call.body else None)


@fault("other-media-types-are-refused")
def any_content_type_taken(patch: pytest.MonkeyPatch) -> None:
    """A body is read as JSON whatever its Content-Type says."""

    def before(call: Call) -> None:
        kept = [(name, value) for name, value in call.scope["headers"] if name != b"content-type"]
        if b"urlencoded" not in (call.header(b"content-type") or b""):
            call.scope["headers"] = kept

    tamper(patch, before=before)


@fault("addresses-that-make-no-sense-are-refused")
def nonsense_in_an_address_is_nothing(patch: pytest.MonkeyPatch) -> None:
    """An id that is none reads as null."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "task/" and reply.status == 422:
            reply.__dict__.update(vars(accept(None)))

    tamper(patch, after=after)


@fault("addresses-that-make-no-sense-are-refused")
def any_address_answered(patch: pytest.MonkeyPatch) -> None:
    """An address that the contract does not have is answered as if all were well."""

    def after(call: Call, reply: Reply) -> None:
        if reply.status == 404:
            reply.__dict__.update(vars(accept({"status": "ok"})))

    tamper(patch, after=after)


@fault("other-methods-are-refused")
def any_method_taken(patch: pytest.MonkeyPatch) -> None:
    """A read is answered whatever the method."""

    def before(call: Call) -> None:
        if call.operation not in ("update", "claim"):
            call.scope["method"] = "GET"

    tamper(patch, before=before)


@fault("other-methods-are-refused")
def allow_missing(patch: pytest.MonkeyPatch) -> None:
    """A 405 does not say which method is allowed."""

    def after(call: Call, reply: Reply) -> None:
        reply.headers = [(name, value) for name, value in reply.headers if name != b"allow"]

    tamper(patch, after=after)


# The shape of answers


@fault("what-a-client-makes-it-owns")
def field_missing(patch: pytest.MonkeyPatch) -> None:
    """A task has no owner."""
    changing_tasks(patch, lambda task: task.pop("ownerid"))


@fault("ids-grow")
def id_as_text(patch: pytest.MonkeyPatch) -> None:
    """Ids are texts, so that browsers can read them."""
    changing_tasks(patch, lambda task: task.update(id=str(task["id"])))


@fault("an-update-of-nothing-succeeds")
def error_left_out_when_null(patch: pytest.MonkeyPatch) -> None:
    """A field that is null is left out."""

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update and (content := reply.json)["error"] is None:
            reply.json = {"tasks": content["tasks"]}

    tamper(patch, after=after)


@fault("an-update-of-nothing-succeeds")
def undocumented_status(patch: pytest.MonkeyPatch) -> None:
    """An update that was carried out is a 201."""

    def after(call: Call, reply: Reply) -> None:
        if call.operation == "update" and reply.status == 200:
            reply.status = 201

    tamper(patch, after=after)


@fault("what-was-written-can-be-read")
def undocumented_content_type(patch: pytest.MonkeyPatch) -> None:
    """JSON is sent as text."""

    def after(call: Call, reply: Reply) -> None:
        if call.method == "GET" and reply.status == 200:
            reply.headers = [(b"content-type", b"text/plain")]

    tamper(patch, after=after)


@fault("ids-grow")
def keys_in_capitals(patch: pytest.MonkeyPatch) -> None:
    """The keys of an answer are capitalised, as in the published Go server."""

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update:
            reply.json = {key.capitalize(): value for key, value in reply.json.items()}

    tamper(patch, after=after)


# What happens now and then. Of ten random walks one or two do not come across it.


@fault("any-sequence-is-answered-right", tries=10)
def change_lost_now_and_then(patch: pytest.MonkeyPatch) -> None:
    """Every 13th update that both changes and deletes does not delete."""
    seen: list[Call] = []

    def before(call: Call) -> None:
        content = call.content
        if content.get("updates") and content.get("deletes"):
            seen.append(call)
            if len(seen) % 13 == 0:
                call.content = {**content, "deletes": content["deletes"][:-1]}

    tamper(patch, before=before)


@fault("any-sequence-is-answered-right", tries=10)
def dependency_forgotten_now_and_then(patch: pytest.MonkeyPatch) -> None:
    """Every third claim that depends on something forgets it."""
    seen: list[Call] = []

    def before(call: Call) -> None:
        if call.operation == "claim" and len(call.content.get("depends") or ()) == 1:
            seen.append(call)
            if len(seen) % 3 == 0:
                call.content = {**call.content, "depends": None}

    tamper(patch, before=before)
