"""The store's clock: it goes on evenly, whatever happens to the machine's.

A lease of 60 seconds has to last 60 seconds even when an administrator, a time server or a resumed virtual machine
sets the system's clock. So the clock is read off the system once, at the start, and advances with the monotonic clock
from there. Where the two drift apart it follows the system's slowly: by at most one part in a thousand, so that a
minute is never wrong by more than 60 ms.
"""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Reads a time, in integer nanoseconds since the epoch."""

SLEW: Final = 1_000
"""The clock gains or loses at most one nanosecond in this many to follow the system's."""


def _elapsed() -> int:
    """A monotonic time that also counts while the machine sleeps, where the system has one (Linux)."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


class SteadyClock:
    """Nanoseconds since the epoch that never jump and never go back.

    Args:
        wall: The system's clock, which may be set at any moment.
        elapsed: A clock that nobody can set.
        not_before: An instant that the clock must not start before: the latest one that the store has seen.
    """

    def __init__(self, wall: Clock = time.time_ns, elapsed: Clock = _elapsed, not_before: int = 0) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._read_at = elapsed()
        self._now = max(wall(), not_before)

    def __call__(self) -> int:
        """Now."""
        read_at = self._elapsed()
        passed = max(0, read_at - self._read_at)
        ahead = self._now + passed - self._wall()
        slew = passed // SLEW
        self._now += passed - max(-slew, min(slew, ahead))
        self._read_at = read_at
        return self._now
