"""A stand-in for the original Go server: what that one was seen to answer, for machines that have no Go.

tests/wire/go_server_answers.jsonl has the exchanges that it is built from, and test_dialect.py holds it to them. It is
strict in the way that the original is: a body that is no form is nothing, whatever the body says, and reads fail.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

TEXT, JSON = "text/plain; charset=utf-8", "application/json"
PLURAL = {"task": "<id>", "tasks": "<id,id,id,...>", "group": "<groupname>"}


class Task(NamedTuple):
    id: int
    group: str
    data: str
    at: int
    owner: int

    def told(self) -> dict[str, Any]:
        """As an answer to an update or a claim has it."""
        return {"id": self.id, "group": self.group, "data": self.data, "duration": self.at, "ownerid": self.owner}


class Store:
    """Tasks in memory. A claim takes the newest one that is available, so that a test knows which."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.last = 0
        self.lock = threading.Lock()

    def update(self, asked: dict[str, Any]) -> dict[str, Any]:
        adds, updates, deletes = ([*(asked.get(name) or ())] for name in ("adds", "updates", "deletes"))
        if not (adds or updates or deletes):  # whatever it depends on
            return {"Tasks": None, "Error": {"Changes": [], "Deletes": [], "Depends": [], "Owned": [], "Bugs": [{}]}}
        client, now = asked["clientid"], time.time_ns()
        owned = [id for id in (*deletes, *(change["id"] for change in updates)) if self._is_anothers(id, client, now)]
        refusal = {
            "Changes": [change["id"] for change in updates if change["id"] not in self.tasks],
            "Deletes": [id for id in deletes if id not in self.tasks],
            "Depends": self._missing(asked),
            "Owned": owned,
            "Bugs": [{} for add in adds if not add.get("group")],
        }
        if any(refusal.values()):
            return {"Tasks": None, "Error": refusal}
        groups = [add["group"] for add in adds] + [self.tasks[change["id"]].group for change in updates]
        for id in (*deletes, *(change["id"] for change in updates)):
            self.tasks.pop(id, None)
        return self._stored(
            Task(0, group, new.get("data") or "", _instant(new.get("duration") or 0, now), client)
            for group, new in zip(groups, (*adds, *updates), strict=True)
        )

    def claim(self, asked: dict[str, Any]) -> dict[str, Any]:
        if missing := self._missing(asked):
            refusal: dict[str, list[int]] = {"Changes": [], "Deletes": [], "Depends": missing, "Owned": [], "Bugs": []}
            return {"Tasks": None, "Error": refusal}
        now = time.time_ns()
        free = [task for task in self.tasks.values() if task.group == asked.get("group") and task.at <= now]
        if not free:
            return {"Tasks": None, "Error": None}
        task = self.tasks.pop(free[-1].id)
        return self._stored([task._replace(at=now + max(0, asked.get("duration") or 0), owner=asked["clientid"])])

    def _missing(self, asked: dict[str, Any]) -> list[int]:
        return [id for id in asked.get("depends") or () if id not in self.tasks]

    def _is_anothers(self, id: int, client: int, now: int) -> bool:
        return id in self.tasks and self.tasks[id].at > now and self.tasks[id].owner != client

    def _stored(self, tasks: Any) -> dict[str, Any]:
        told = []
        for task in tasks:
            self.last += 1
            self.tasks[self.last] = task._replace(id=self.last)
            told.append(self.tasks[self.last].told())
        return {"Tasks": told, "Error": None}


def _instant(duration: int, now: int) -> int:
    return duration if duration > 0 else now - duration


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # The head of an answer goes with its body, and not 40 ms before it.
    server: "Server"  # pyright: ignore[reportIncompatibleVariableOverride] # the only one that makes it

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        room = path.split("/")[1]
        if path == "/groups":
            groups = dict.fromkeys(task.group for task in self.server.store.tasks.values())
            self._answer(200, JSON, json.dumps([*groups]))
        elif path == "/group":
            self._answer(301, "text/html; charset=utf-8", '<a href="/group/">Moved Permanently</a>.\n\n')
        elif room in PLURAL:
            expected = f"/{room}/{PLURAL[room]}"
            self._answer(400, TEXT, f"invalid {room} request, expected {expected}, got {path}\n")
        elif path in {"/update", "/claim"}:
            self._answer(405, None, "")
        else:
            self._answer(404, TEXT, "404 page not found\n")

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        is_form = self.headers.get("Content-Type") == "application/x-www-form-urlencoded"
        fields = parse_qs(body, max_num_fields=1) if is_form else {}
        operation = self.path.removeprefix("/")
        self.server.posts.append((dict(self.headers), body))
        if operation not in {"update", "claim"}:
            self._answer(404, TEXT, "404 page not found\n")
        elif operation not in fields:
            what = {"update": "data", "claim": "parameters"}[operation]
            self._answer(400, TEXT, f"no {what} provided for task {operation}")
        else:
            self._carry_out(operation, fields[operation][0])

    def _carry_out(self, operation: str, text: str) -> None:
        asked = json.loads(text)
        if asked["clientid"] not in range(-(2**31), 2**31):
            field = f"{operation.title()}Request.clientid"
            what = f"json: cannot unmarshal number {asked['clientid']} into Go struct field {field} of type int32"
            self._answer(400, TEXT, f'failed to decode json {operation} {text}: "{what}"')
            return
        with self.server.store.lock:
            done = getattr(self.server.store, operation)(asked)
        self._answer(200, JSON, json.dumps(done))

    def _answer(self, status: int, content_type: str | None, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = Store()
        self.posts: list[tuple[dict[str, str], str]] = []
        """Headers and body of each POST."""
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def go_server() -> Iterator[Server]:
    """A stand-in that listens on a free port."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
