"""The store's clock: it goes on evenly, whatever happens to the machine's.

A lease of 60 seconds has to last 60 seconds even when an administrator, a time server or a resumed virtual machine
sets the system's clock. So the clock is read off the system once, at the start, and advances with the monotonic clock
from there. Where the two drift apart it follows the system's slowly: by at most one part in a thousand, so that a
minute is never wrong by more than 60 ms.

Servers over one database have one clock, the database's, and each of them is a witness of how it goes. When it was set,
the first one to notice puts it right for all: beside the tasks stands by how much the store's time is ahead of the
database's, and that shrinks as slowly.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Reads a time, in integer nanoseconds since the epoch."""

SLEW: Final = 1_000
"""The clock gains or loses at most one nanosecond in this many to follow the system's."""
STEP_NS: Final = 10**9
"""A clock that goes wrong by less than this was not set: networks and machines are slow at times."""


def elapsed() -> int:
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

    def __init__(self, wall: Clock = time.time_ns, elapsed: Clock = elapsed, not_before: int = 0) -> None:
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


class Reading(NamedTuple):
    """What the clock of a store that several servers use tells, in nanoseconds."""

    now: int
    """The store's time, since the epoch."""
    shift: int
    """How far that is ahead of the database's."""
    seen: int
    """A time in the last seconds, or later, at which some server has written something."""


class Witness:
    """Notices that a clock was set, by one of its own that nobody can set.

    A server whose whole machine stood still for an hour sees the same as one whose database was set ahead by an hour.
    So it believes the others: if one of them has written something in that hour, the hour has passed. Only what all of
    them slept through, or idled through, is taken for a step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, int, Reading] | None = None

    def correction(self, reading: Reading, sent: int, received: int) -> int:
        """By how many nanoseconds the store's time has to be set for it to go on evenly; 0 if it does.

        Args:
            reading: What the clock told.
            sent: The `elapsed` time when it was asked.
            received: The `elapsed` time when the answer was there.
        """
        with self._lock:
            if self._last is None:
                self._last = sent, received, reading
                return max(0, reading.seen - reading.now)
            last_sent, last_received, last = self._last
            shortest, longest = sent - last_received, received - last_sent
            slack = STEP_NS + 2 * longest // SLEW
            passed = reading.now - last.now
            passed_there = passed - (reading.shift - last.shift)
            if shortest - slack <= passed <= longest + slack:
                if received - sent < STEP_NS:  # A reading that took long tells little.
                    self._last = sent, received, reading
                return 0
            is_set_right = shortest - slack <= passed_there <= longest + slack
            is_lived_through = passed > longest and reading.seen > last.now + longest + slack
            if is_set_right or is_lived_through:
                self._last = sent, received, reading
                return 0
            return (longest if passed > longest else shortest) - passed
