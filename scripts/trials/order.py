"""Whether calls can have happened one after the other, in an order that respects all that is known of it.

What is known comes in two kinds: a call that returned before another one was invoked came first, and whatever `add`
is told. An order exists exactly where these arrows form no circle, which takes time linear in their number to tell.
"""

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SEARCHES = 200
"""From how many calls a short circle is searched, once it is known that there is one."""


class Step(NamedTuple):
    """One arrow of a circle."""

    before: int
    after: int
    why: str
    """Why `before` came before `after`, about the task `id`; empty if it had returned when `after` was invoked."""
    id: int


class Order:
    """Calls, numbered from 0, and what is known of their order.

    Args:
        spans: For each call when it was invoked and when it returned; None if it may take effect at any later time.
    """

    def __init__(self, spans: Sequence[tuple[int, int | None]]) -> None:
        self._spans = spans
        self._before = array("q")
        self._after = array("q")
        self._ids = array("q")
        self._why: list[str] = []
        self._nodes = len(spans)

    def add(self, before: int, after: int, why: str, id: int = 0) -> None:
        """Say that a call came before another one, and because of which task; before itself it never came."""
        if before != after:
            self._before.append(before)
            self._after.append(after)
            self._ids.append(id)
            self._why.append(why)

    def circle(self) -> list[Step]:
        """A short circle of arrows, where there is any."""
        self._add_instants()
        starts, ends = self._arrows()
        left = set(_without_firsts(starts, ends, self._nodes))
        circles = [_way_back(node, starts, ends, left) for node in _without_lasts(starts, ends, left)[:SEARCHES]]
        return self._told(min(filter(None, circles), key=len, default=[]))

    def _add_instants(self) -> None:
        """Add a node for each instant, behind what has returned by then and before what is invoked after it.

        So the arrows of real time are as many as there are calls, and not as there are pairs of them.
        """
        events = [(invoked, 0, call) for call, (invoked, _) in enumerate(self._spans)]
        events += [(returned, 1, call) for call, (_, returned) in enumerate(self._spans) if returned is not None]
        instant, is_open = len(self._spans) - 1, False
        for _, kind, call in sorted(events):  # at one instant first what is invoked: it overlaps what returns
            if kind == 0:
                is_open = False
                if instant >= len(self._spans):
                    self.add(instant, call, "")
                continue
            if not is_open:
                instant, is_open = instant + 1, True
                if instant > len(self._spans):
                    self.add(instant - 1, instant, "")
            self.add(call, instant, "")
        self._nodes = max(instant + 1, len(self._spans))

    def _arrows(self) -> tuple[Sequence[int], Sequence[int]]:
        """All arrows, sorted by where they start: those of node n end at `ends[starts[n]:starts[n + 1]]`."""
        starts = array("q", bytes(8 * (self._nodes + 1)))
        for node in self._before:
            starts[node + 1] += 1
        for node in range(self._nodes):
            starts[node + 1] += starts[node]
        ends, free = array("q", bytes(8 * len(self._after))), starts[:]
        for before, after in zip(self._before, self._after, strict=True):
            ends[free[before]] = after
            free[before] += 1
        return starts, ends

    def _told(self, nodes: list[int]) -> list[Step]:
        """The circle through `nodes`, with the reasons in place of the instants."""
        calls = [node for node in nodes if node < len(self._spans)]
        circle = zip(calls, calls[1:] + calls[:1], strict=True)
        pairs: dict[tuple[int, int], tuple[str, int]] = dict.fromkeys(circle, ("", 0))
        for before, after, why, id in zip(self._before, self._after, self._why, self._ids, strict=True):
            if why and (before, after) in pairs:
                pairs[before, after] = why, id
        return [Step(*pair, *reason) for pair, reason in pairs.items()]


def _without_firsts(starts: Sequence[int], ends: Sequence[int], nodes: int) -> list[int]:
    """Take away, again and again, what nothing comes before; circles stay, and what comes after them."""
    waiting = array("q", bytes(8 * nodes))
    for node in ends:
        waiting[node] += 1
    ready = [node for node in range(nodes) if not waiting[node]]
    for node in ready:  # it grows while it is read
        for after in ends[starts[node] : starts[node + 1]]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    return [node for node in range(nodes) if waiting[node]]


def _without_lasts(starts: Sequence[int], ends: Sequence[int], left: set[int]) -> list[int]:
    """Take away from `left`, again and again, what nothing comes after; so circles stay, and what lies between them."""
    comes_before: dict[int, list[int]] = {node: [] for node in left}
    waiting = dict.fromkeys(left, 0)
    for node in left:
        for after in ends[starts[node] : starts[node + 1]]:
            comes_before[after].append(node)
            waiting[node] += 1
    ready = [node for node in left if not waiting[node]]
    for node in ready:
        for before in comes_before[node]:
            waiting[before] -= 1
            if not waiting[before]:
                ready.append(before)
    return sorted(node for node in left if waiting[node])


def _way_back(node: int, starts: Sequence[int], ends: Sequence[int], within: set[int]) -> list[int]:
    """The shortest way from `node` back to itself, through nodes of `within`."""
    came_from: dict[int, int] = {}
    queue = deque([node])
    while queue:
        at = queue.popleft()
        for after in ends[starts[at] : starts[at + 1]]:
            if after == node:
                return [node, *reversed(list(_back(at, node, came_from)))]
            if after in within and after not in came_from:
                came_from[after] = at
                queue.append(after)
    return []


def _back(at: int, to: int, came_from: dict[int, int]) -> Iterator[int]:
    while at != to:
        yield at
        at = came_from[at]
