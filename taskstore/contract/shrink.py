"""The shortest sequence of requests that shows what a server did wrong.

Requests are repeated, fewer and smaller, on fresh tasks in fresh groups, and the oracle tells whether the server still
answers one of them wrong. Where the oracle cannot tell, nothing is repeated, and what does not concern the last
request is left out.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from taskstore.contract.connection import Connections, NoAnswer, local_now
from taskstore.contract.dialect import Dialect
from taskstore.contract.naming import Renaming, content_of, renamed, with_content
from taskstore.contract.oracle import Oracle
from taskstore.contract.rule import Broken
from taskstore.contract.store import Exchange, Ledger, Names, Pause, Step, ids_in

SECONDS: Final = 5.0
"""How long to look for a shorter sequence."""
ATTEMPTS: Final = 10
"""How often to look whether a failure can be repeated at all."""


class Trail(NamedTuple):
    """A sequence of requests that ends with one that was answered wrong."""

    common: str
    """How the names of its groups begin."""
    steps: tuple[Step, ...]
    complaint: str


class _NoMoreTime(Exception):
    """The time to look for something shorter is up."""


class Shrinker:
    """Shortens trails on a server."""

    def __init__(
        self,
        connections: Connections,
        dialect: Dialect,
        names: Names,
        ledger: Ledger,
        *,
        features: Collection[str] = (),
    ) -> None:
        self._features = features
        self._connections = connections
        self._dialect = dialect
        self._names = names
        self._ledger = ledger
        self._best = Trail("", (), "")

    def shortest(self, trail: Trail, *, seconds: float = SECONDS) -> Trail:
        """The shortest trail that was found in so many seconds; at best each request in it is needed."""
        deadline = monotonic() + seconds
        best = next(filter(None, self._repetitions(trail)), None)
        if best is None:
            return trail._replace(steps=relevant(trail.steps))
        self._best = best
        with suppress(_NoMoreTime):
            before = None
            while before is not best:
                # What one of them leaves out may be all that the other one could not do without.
                before = best
                best = self._with_smaller(self._with_fewer(best, deadline), deadline)
        return self._best

    def _repetitions(self, trail: Trail) -> Iterator[Trail | None]:
        """Several attempts, since a claim takes any task, and next time perhaps another one."""
        for _ in range(ATTEMPTS):
            yield self._repeated(trail, relevant(trail.steps))
            yield self._repeated(trail, trail.steps)

    def _with_fewer(self, best: Trail, deadline: float) -> Trail:
        """Leave requests out, many at a time at first and one at a time in the end, but never the last one."""
        size = len(best.steps) // 2
        while size > 0:
            start = 0
            while start < len(best.steps) - 1:
                end = min(start + size, len(best.steps) - 1)
                if shorter := self._attempt(best, (*best.steps[:start], *best.steps[end:]), deadline):
                    best = shorter
                else:
                    start = end
            size //= 2
        return best

    def _with_smaller(self, best: Trail, deadline: float) -> Trail:
        """Leave elements of requests out, one at a time."""
        position = 0
        while position < len(best.steps):
            for smaller in _with_less(best.steps[position]):
                steps = (*best.steps[:position], smaller, *best.steps[position + 1 :])
                if shorter := self._attempt(best, steps, deadline):
                    best = shorter
                    break
            else:
                position += 1
        return best

    def _attempt(self, trail: Trail, steps: Sequence[Step], deadline: float) -> Trail | None:
        if monotonic() > deadline:
            raise _NoMoreTime
        if shorter := self._repeated(trail, steps):
            self._best = shorter
        return shorter

    def _repeated(self, trail: Trail, steps: Sequence[Step]) -> Trail | None:
        """The trail that the same requests give on fresh tasks, if one of them is answered wrong again."""
        common = self._names.next()
        posts = [step for step in trail.steps if isinstance(step, Exchange) and step.request.method == "POST"]
        known = {id for step in posts for id in ids_in(step.answer)}
        new_ids: dict[int, int] = {}

        def renamed_id(id: object) -> object:
            if isinstance(id, int) and id in known:
                return new_ids[id]
            return id

        def renamed_group(name: object) -> object:
            return name.replace(trail.common, common) if isinstance(name, str) else name

        # As hexadecimal digits the new key is one, whatever the old one looked like.
        renaming = Renaming(renamed_group, renamed_id, key=lambda key: sha256(f"{common}{key}".encode()).hexdigest())
        oracle = Oracle(self._dialect, common, self._features)
        done: list[Step] = []
        for step in steps:
            if isinstance(step, Pause):
                sleep(step.seconds)
                done.append(step)
                continue
            if step.beside or step.hung_up:
                return None
            try:
                exchange = self._exchange(step, renaming)
                done.append(exchange)
                oracle.judge(exchange)
            except Broken as broken:
                return Trail(common, tuple(done), str(broken))
            except (KeyError, NoAnswer):
                return None
            if step.request.method == "POST":
                new_ids.update(zip(ids_in(step.answer), ids_in(exchange.answer), strict=False))
        return None

    def _exchange(self, step: Exchange, renaming: Renaming) -> Exchange:
        request = renamed(step.request, renaming)
        sent = local_now()
        answer = self._connections.send(request)
        self._ledger.note(answer)
        return Exchange(request, answer, sent, local_now())


def _with_less(exchange: Step) -> Iterator[Exchange]:
    """The exchange with one element less in one of its request's lists, and without the task that came of it."""
    if isinstance(exchange, Pause):
        return
    content = content_of(exchange.request) or {}
    for field in ("adds", "updates", "deletes", "depends"):
        elements: Any = content.get(field)
        if elements == [] or (field in content and elements is None):
            smaller = {name: value for name, value in content.items() if name != field}
            yield exchange._replace(request=with_content(exchange.request, smaller))
        elements = elements if isinstance(elements, list) else []
        for position in range(len(elements)):
            rest = [*elements[:position], *elements[position + 1 :]]
            made = {"adds": position, "updates": len(content.get("adds") or ()) + position}.get(field)
            yield exchange._replace(
                request=with_content(exchange.request, {**content, field: rest}),
                answer=exchange.answer and exchange.answer._replace(body=_without_id(exchange.answer.body, made)),
            )


_ID: Final = re.compile(rb'"id"\s*:\s*\d+', re.IGNORECASE)


def _without_id(body: bytes, position: int | None) -> bytes:
    """The answer without its n-th id, which is all of it that is looked at when it is repeated."""
    if position is None:
        return body
    ids = _ID.findall(body)
    return b" ".join(ids[:position] + ids[position + 1 :])


def relevant(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Those steps that have a group or an id in common with the last one, or with one of those that have."""
    if not steps:
        return ()
    kept = [steps[-1]]
    names = _named(steps[-1])
    for step in reversed(steps[:-1]):
        if isinstance(step, Pause) or names & _named(step):
            kept.append(step)
            names |= _named(step)
    kept.reverse()
    return tuple(kept)


def _named(step: Step) -> set[object]:
    """The groups and ids that an exchange names; all groups, if it asks for them."""
    if isinstance(step, Pause):
        return set()
    names: set[object] = set(ids_in(step.answer))

    def noted(name: object) -> object:
        names.add(name if isinstance(name, str | int) else repr(name))
        return name

    renamed(step.request, Renaming(noted, noted))
    return names
