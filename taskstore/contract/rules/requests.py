"""Rules of what a request may look like: data and names byte for byte, leniency, and what is refused."""

from collections.abc import Iterable
from json import dumps
from typing import Any, Final
from urllib.parse import urlencode

from taskstore.contract.connection import Answer, Request
from taskstore.contract.dialect import FORM, JSON, outcome_of
from taskstore.contract.rule import Broken, rule
from taskstore.contract.store import HOUR, SECOND, Store

OURS = ("json",)
PROBLEM: Final = "application/problem+json"
TEXTS: Final = (
    "",
    " leading and trailing ",
    "später ☃",
    "\x00 in front, \x00 within, and at the end \x00",
    "line\nfeed\r\ncarriage\ttab",
    "e\u0301 is not \u00e9",
    "\ufeffbyte order mark",
    "\u2028\u2029\u0085\x7f",
    "😀 beyond the first plane 𝄞",
    "\uffff\U0010ffff",
    "\"quotes\" 'and' \\backslashes\\ \\u0041 %41 &amp; +",
    "'; DROP TABLE task; --",
    "null",
    '{"a": [1, 2.50, "x"]}',
)
NAMES: Final = (
    ".",
    "/..",
    "/./x",
    "/../x",
    "/a/b",
    "//",
    "%2F",
    "%",
    "%zz",
    "?limit=1",
    "#x",
    " ",
    "+",
    "&owned=1",
    "\n",
    "\r\nX: y",
    "\x00",
    "é",
    "e\u0301",
    "😀",
    "\\",
    "null",
    ";a=b",
    "'\"",
)
"""What is appended to a name of ours; each is a name for the contract, and a trap for a router."""


@rule()
def data_is_kept_byte_for_byte(store: Store) -> None:
    """Data is any text, and comes back exactly as it was sent."""
    group = store.group()
    texts = (*TEXTS, "x" * 100_000, "é☃😀" * 10_000)
    made = store.make(adds=[store.add(group, text) for text in texts])
    for task, text in zip(made, texts, strict=True):
        store.expect(task.data == text, f"the data {text[:80]!r} ({len(text)}) became {task.data[:80]!r}")
    again = store.make(updates=[{"id": task.id, "data": task.data} for task in made])
    claimed = {store.take(group).data for _ in again}
    store.expect(claimed == set(texts), f"claimed were other data: {[t[:80] for t in claimed ^ set(texts)]}")


@rule()
def data_reads_back_byte_for_byte(store: Store) -> None:
    """Data reads back exactly as it was sent, by id and in a group."""
    group = store.group()
    made = store.make(adds=[store.add(group, text) for text in TEXTS])
    found = store.tasks(*(task.id for task in made))
    for task, text in zip(found, TEXTS, strict=True):
        data = task and task.data
        store.expect(data == text, f"the data {text!r} reads back as {data!r}")
    listed = {task.data for task in store.listing(group)}
    store.expect(listed == set(TEXTS), f"listed were other data: {listed ^ set(TEXTS)}")


@rule()
def every_name_can_be_a_group(store: Store) -> None:
    """Every text of 1 to 512 characters is a group's name, and no two of them are the same group."""
    stem = store.group()
    names = [stem + end for end in NAMES]
    names += [stem.ljust(512, "x"), stem + "😀" * (512 - len(stem))]
    made = store.make(adds=[store.add(name, name) for name in names])
    for name, task in zip(names, made, strict=True):
        store.expect(task.group == name, f"the group {name!r} became {task.group!r}")
        found = store.take(name)
        data = (found.group, found.data)
        store.expect(data == (name, name), f"a claim of group {name!r} took a task of group and data {data}")


@rule()
def every_name_can_be_read(store: Store) -> None:
    """Every group can be listed by its name, percent-encoded, and is named among the groups."""
    names = [store.common + end for end in NAMES]
    names += [store.common.ljust(512, "x"), store.common + "😀" * (512 - len(store.common))]
    made = store.make(adds=[store.add(name, name) for name in names])
    for name, task in zip(names, made, strict=True):
        found = store.listing(name)
        store.expect(found == [task], f"the group {name!r} lists {found} instead of {[task]}")
    missing = set(names) ^ set(store.groups())
    store.expect(not missing, f"among the groups these are missing or too many: {sorted(missing)}")
    for dots in ("%2E", "%2E%2E"):
        answer = store.send(Request("GET", f"/group/{dots}?limit=1"))
        is_list = answer.status == 200 and isinstance(answer.json, list)
        store.expect(is_list, f"the group {dots} answers {answer.status} {answer.text[:200]}")


@rule()
def null_and_absent_lists_are_empty(store: Store) -> None:
    """A list that is null, absent or empty means the same."""
    [task] = store.make(adds=[store.add()])
    empties: list[list[int] | None] = [None, []]
    for empty in empties:
        lists: dict[str, list[Any] | None] = {"adds": empty, "updates": empty, "deletes": empty, "depends": [task.id]}
        for name in lists:
            outcome = store.post("update", {"clientid": store.one, **lists, name: empty, "adds": [store.add()]})
            store.expect(outcome.error is None, f"the update was refused: {outcome.error}")
        outcome = store.post("claim", {"clientid": 1, "group": store.group(), "duration": 1, "depends": empty})
        store.expect(outcome == ([], None), f"a claim of nothing answered {outcome}")
    store.post("claim", {"clientid": store.one, "group": store.group(), "duration": SECOND})


@rule()
def unknown_fields_are_ignored(store: Store) -> None:
    """Fields that the contract does not know are ignored, wherever they stand."""
    more = {"x-unknown": {"nested": [1, None]}}
    group = store.group()
    content = {"clientid": store.one, "adds": [{**store.add(group), **more}], **more}
    tasks, error = store.post("update", content)
    store.expect(error is None and len(tasks) == 1, f"the update with unknown fields answered {tasks} and {error}")
    store.make(updates=[{"id": tasks[0].id, **more}])
    claimed, error = store.post("claim", {"clientid": store.one, "group": group, "duration": HOUR, **more})
    store.expect(error is None and len(claimed) == 1, f"the claim with unknown fields answered {claimed} and {error}")


@rule()
def every_client_id_is_a_client(store: Store) -> None:
    """Every 32-bit integer is a client of its own, 0 and negative ones included."""
    clients = (0, 1, -1, 255, 256, 2**31 - 1, -(2**31))
    made = [store.make(adds=[store.add(None, "", -HOUR)], client=client)[0] for client in clients]
    for client, task in zip(clients, made, strict=True):
        store.expect(task.owner == client, f"the task that client {client} added belongs to {task.owner}")
        for other in set(clients) - {client}:
            owned = store.refused(deletes=[task.id], client=other).owned
            store.expect(owned == [task.id], f"owned is {owned} instead of [{task.id}]")
        store.make(deletes=[task.id], client=client)


@rule(dialects=OURS)
def json_needs_no_content_type(store: Store) -> None:
    """A body without a Content-Type is JSON, and the type may be spelled in any case and with parameters."""
    types = (None, JSON, "Application/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8")
    for kind in types:
        body = dumps({"clientid": store.one, "adds": [store.add()]}).encode()
        headers = (("Content-Type", kind),) if kind else ()
        answer = store.send(Request("POST", "/update", body, headers))
        tasks, error = outcome_of(store.dialect.content(answer))
        store.expect(error is None and len(tasks) == 1, f"with Content-Type {kind} the update answered {answer.text}")


@rule(dialects=OURS)
def forms_are_understood(store: Store) -> None:
    """An update or a claim may come as a form whose one field holds the JSON, as the original server takes it."""
    group = store.group()
    data = "é\x00 +&=%"
    update = {"clientid": store.one, "adds": [store.add(group, data)]}
    claim = {"clientid": store.one, "group": group, "duration": HOUR}
    for operation, content in (("update", update), ("claim", claim)):
        body = urlencode({operation: dumps(content)}).encode()
        answer = store.send(Request("POST", f"/{operation}", body, (("Content-Type", FORM),)))
        tasks, error = outcome_of(store.dialect.content(answer))
        store.expect(error is None and len(tasks) == 1, f"the {operation} as a form answered {answer.text}")
        store.expect(tasks[0].data == data, f"the data {data!r} became {tasks[0].data!r}")


@rule(dialects=OURS)
def json_may_be_written_in_any_way(store: Store) -> None:
    """Escaped and unescaped characters, surrogate pairs, blanks and whole numbers with a fraction mean the same."""
    group = store.group()
    add = f'{{"group":"{group}", "data":"\\ud83d\\ude00\\u00e9😀é\\/"}}'
    body = f'\n {{ "clientid" : {store.one}.0, "adds" : [ {add} ] }} '
    answer = store.send(Request("POST", "/update", body.encode(), (("Content-Type", JSON),)))
    tasks, _ = outcome_of(store.dialect.content(answer))
    found = [(task.owner, task.data) for task in tasks]
    wanted = [(store.one, "😀é😀é/")]
    store.expect(found == wanted, f"owner and data became {found} instead of {wanted}")


def _malformed(group: str) -> Iterable[tuple[str, bytes]]:
    """Bodies for an update that no server may carry out."""
    add = dumps({"group": group})
    yield "no body", b""
    yield "half a body", b'{"clientid":1,"adds":[' + add.encode()
    yield "no JSON", b"update"
    yield "not UTF-8", b'{"clientid":1,"adds":[{"group":"' + group.encode() + b'\xff"}]}'
    yield "half a surrogate pair", b'{"clientid":1,"adds":[{"group":"' + group.encode() + b'\\ud800"}]}'
    yield "nested too deeply", b'{"clientid":1,"x":' + b"[" * 100_000
    for what, text in (
        ("a list", f"[{add}]"),
        ("no client", f'{{"adds":[{add}]}}'),
        ("a client that is a text", f'{{"clientid":"1","adds":[{add}]}}'),
        ("a client that is true", f'{{"clientid":true,"adds":[{add}]}}'),
        ("a client of 33 bits", f'{{"clientid":{2**31},"adds":[{add}]}}'),
        ("a client with a fraction", f'{{"clientid":1.5,"adds":[{add}]}}'),
        ("a client of 5000 digits", f'{{"clientid":{"9" * 5000},"adds":[{add}]}}'),
        ("adds that are no list", f'{{"clientid":1,"adds":{add}}}'),
        ("an add that is null", f'{{"clientid":1,"adds":[{add},null]}}'),
        ("an add without a group", f'{{"clientid":1,"adds":[{add},{{}}]}}'),
        ("an add with an empty group", f'{{"clientid":1,"adds":[{add},{{"group":""}}]}}'),
        ("a group of 513 characters", f'{{"clientid":1,"adds":[{{"group":"{group.ljust(513, "x")}"}}]}}'),
        ("data that are a number", f'{{"clientid":1,"adds":[{{"group":"{group}","data":1}}]}}'),
        ("a time of 64 bits and one", f'{{"clientid":1,"adds":[{{"group":"{group}","duration":{2**63}}}]}}'),
        ("a delay beyond 100 years", f'{{"clientid":1,"adds":[{{"group":"{group}","duration":{-(2**63)}}}]}}'),
        ("an id that is a text", f'{{"clientid":1,"adds":[{add}],"deletes":["x"]}}'),
        ("an id with a fraction", f'{{"clientid":1,"adds":[{add}],"depends":[1.5]}}'),
        ("an id of 65 bits", f'{{"clientid":1,"adds":[{add}],"depends":[{2**64}]}}'),
        ("a change without an id", f'{{"clientid":1,"adds":[{add}],"updates":[{{"data":"x"}}]}}'),
    ):
        yield what, text.encode()


def _refused(store: Store, request: Request, what: str, *statuses: int) -> Answer:
    """The answer to a request that has to be refused, in the form of the contract."""
    answer = store.send(request)
    store.expect(
        answer.status in statuses,
        f"{what}: the answer's status is {answer.status}, and {' or '.join(map(str, statuses))} fits",
    )
    store.expect(answer.media == PROBLEM, f"{what}: the answer's Content-Type is {answer.header('content-type')}")
    try:
        problem = answer.json
    except ValueError as error:
        raise Broken(f"{what}: {error}") from None
    is_one = isinstance(problem, dict) and {"type", "title", "status", "detail"} <= problem.keys()
    store.expect(is_one, f"{what}: the answer is no problem document: {answer.text[:300]}")
    store.expect(problem["status"] == answer.status, f"{what}: the problem says status {problem['status']}")
    return answer


@rule(dialects=OURS)
def what_makes_no_sense_is_refused(store: Store) -> None:
    """A request that does not fit the contract is refused with a problem that says so, and changes nothing."""
    group = store.group()
    for what, body in _malformed(group):
        _refused(store, Request("POST", "/update", body), what, 400, 413, 422)
    for field, value in (("group", None), ("group", ""), ("clientid", None), ("duration", None), ("duration", -1)):
        content = {"clientid": store.one, "group": group, "duration": HOUR, field: value}
        _refused(store, store.dialect.post("claim", content), f"a claim whose {field} is {value!r}", 400, 422)
    found = store.groups()
    store.expect(found == [], f"refused requests have left tasks in {found}")


@rule(dialects=OURS)
def other_media_types_are_refused(store: Store) -> None:
    """A body of another type than JSON or a form is refused with 415, and a form without its field with 400."""
    group = store.group()
    body = dumps({"clientid": store.one, "adds": [store.add(group)]}).encode()
    for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
        request = Request("POST", "/update", body, (("Content-Type", kind),))
        _refused(store, request, f"a body of type {kind}", 415)
    for form in (b"", urlencode({"claim": body}).encode(), b"update", b"update=%ff"):
        request = Request("POST", "/update", form, (("Content-Type", FORM),))
        _refused(store, request, f"the form {form[:30]!r}", 400, 422)
    found = store.groups()
    store.expect(found == [], f"refused requests have left tasks in {found}")


@rule(dialects=OURS)
def addresses_that_make_no_sense_are_refused(store: Store) -> None:
    """Ids, limits and names that cannot be read are refused, and so are addresses that the contract does not have."""
    group = store.group()
    gone = store.stranger()
    nonsense = ("/task/abc", "/task/1.5", f"/task/{10**20}", f"/tasks/{gone},", f"/tasks/{gone},x", "/tasks/,")
    for path in nonsense:
        _refused(store, Request("GET", path), path, 400, 404, 422)
    for query in ("limit=-1", "limit=x", "limit=2147483648", "limit=1.5", "owned=maybe"):
        _refused(store, Request("GET", f"/group/{group}?{query}"), query, 400, 422)
    for path in (f"/group/{group}%ff", f"/group/{group}%zz", f"/group/{group.ljust(513, 'x')}", "/task/%ff"):
        _refused(store, Request("GET", path), path, 400, 422)
    for path in ("/", "/nothing", f"/{group}", "/update/x", "/task", "/task/", "/tasks", "/tasks/", "/group/"):
        _refused(store, Request("GET", path), path, 404, 405)


@rule(dialects=OURS)
def other_methods_are_refused(store: Store) -> None:
    """An address answers 405 to every method but its own, and says in Allow which that is."""
    gone = store.stranger()
    for path, allowed in (
        ("/update", "POST"),
        ("/claim", "POST"),
        ("/groups", "GET"),
        ("/group", "GET"),
        (f"/task/{gone}", "GET"),
        (f"/tasks/{gone}", "GET"),
        (f"/group/{store.group()}", "GET"),
    ):
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {allowed}:
            answer = _refused(store, Request(method, path, b"{}"), f"{method} {path}", 405)
            allow = answer.header("allow") or ""
            says = allowed in [each.strip() for each in allow.split(",")]
            store.expect(says, f"{method} {path}: Allow is {allow!r}, and the address takes {allowed}")
