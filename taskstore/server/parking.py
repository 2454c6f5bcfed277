"""Where claims wait until there is something to claim.

The laws of this room: a claim that waits holds no thread and no transaction, only a place here; claims leave in the
order in which they came, when there is news for one of their groups; one that has left takes nothing.

News is a task that has become available: by a commit, which tells so itself, or because its time has come, for which
one timer a group is set. Nobody knows how many become available together, so a few claims are woken then, and each that
finds a task wakes the next one. A claim that is woken and finds nothing comes back and sets the timer anew.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Generic, TypeVar

from taskstore.server.messages import Task

P = TypeVar("P")
"""What waits."""

FEW: Final = 8
"""How many are woken when it is unknown for how many there is something."""
LONGEST_TIMER_NS: Final = 3_600 * 10**9
"""The longest that a timer is set for; event loops do not like much longer ones."""


class Parking(Generic[P]):
    """What waits, by group.

    Args:
        wake: Called for what should be tried again; by then it no longer waits here.
        soonest: Tells for some groups in how many nanoseconds their first task becomes available, zero or less if one
            is already; groups without tasks are left out.
    """

    def __init__(self, wake: Callable[[P], None], soonest: Callable[[Collection[str]], Mapping[str, int]]) -> None:
        self._wake = wake
        self._soonest = soonest
        self._parked: dict[str, dict[P, None]] = {}
        self._groups: dict[P, Collection[str]] = {}
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}

    def __contains__(self, waiting: P) -> bool:
        return waiting in self._groups

    @property
    def groups(self) -> list[str]:
        """The groups for which something waits."""
        return list(self._parked)

    @property
    def everyone(self) -> list[P]:
        """All that waits."""
        return list(self._groups)

    def park(self, waiting: P, groups: Collection[str]) -> None:
        """Let something wait for news of some groups."""
        self._groups[waiting] = groups
        for group in groups:
            self._parked.setdefault(group, {})[waiting] = None
        self.set_timers(self._soonest([group for group in groups if group not in self._timers]))

    def leave(self, waiting: P) -> None:
        """Let something wait no longer."""
        for group in self._groups.pop(waiting, ()):
            self._parked[group].pop(waiting)
            if not self._parked[group]:
                del self._parked[group]
                if timer := self._timers.pop(group, None):
                    timer[1].cancel()

    def tell(self, made: Iterable[Task], now: int) -> None:
        """Wake those for whom new tasks are news: one for each task that is available at the instant `now`."""
        if not self._parked:
            return
        for task in made:
            if task.group in self._parked:
                if task.available <= now:
                    self.wake(task.group, 1)
                else:
                    self.set_timers({task.group: task.available - now})

    def wake(self, group: str, number: int = FEW) -> None:
        """Let the first that wait for `group` be tried again."""
        waiting = self._parked.get(group)
        for _ in range(min(number, len(waiting or ()))):
            first = next(iter(waiting or ()))
            self.leave(first)
            self._wake(first)

    def set_timers(self, in_ns: Mapping[str, int]) -> None:
        """Wake some that wait for these groups after a time, in nanoseconds, unless that happens before anyway."""
        loop = asyncio.get_running_loop()
        for group, ns in in_ns.items():
            at = loop.time() + min(max(0, ns), LONGEST_TIMER_NS) / 1e9
            timer = self._timers.get(group)
            if timer is None or at < timer[0]:
                if timer:
                    timer[1].cancel()
                # What is due at once is no TimerHandle in uvloop, and could not tell when it is due.
                self._timers[group] = at, loop.call_at(at, self._ring, group)

    def _ring(self, group: str) -> None:
        del self._timers[group]
        self.wake(group)
