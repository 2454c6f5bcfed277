"""Rules of times: the server's clock, nanoseconds, relative and absolute."""

from taskstore.contract.rule import rule
from taskstore.contract.store import HOUR, SECOND, Store

_YEAR = 365 * 24 * HOUR
_MINUTE = 60 * SECOND


@rule()
def times_are_nanoseconds_since_1970(store: Store) -> None:
    """An instant in an answer is in nanoseconds since 1970, and passes as fast as time does."""
    before = store.now()
    # Nobody's clock is trusted here, but one that is decades wrong counts something else than nanoseconds.
    store.expect(
        50 * _YEAR < before < 150 * _YEAR, f"the server's now is {before}, in the year {1970 + before // _YEAR}"
    )
    start = len(store.steps)
    store.pass_time(store.lease_ns)
    after = store.now()
    store.in_time(10 * SECOND, since=start + 1)
    passed, least = after - before, store.lease_ns
    store.expect(least <= passed < least + _MINUTE, f"{passed} ns passed by the server's clock in about {least} ns")


@rule()
def what_is_added_without_a_time_is_available(store: Store) -> None:
    """A task that is added with no time, or with 0, is available at once, to anybody."""
    for add in ({}, {"duration": 0}):
        group = store.group()
        [task] = store.make(adds=[{"group": group, "data": "x", **add}])
        store.expect(store.exist(task.id) == [True], f"task {task.id} was added and does not exist")
        store.take(group, client=store.other)


@rule()
def a_negative_time_counts_from_now(store: Store) -> None:
    """A negative time in an add or a change is a delay, counted from the server's now."""
    group = store.group()
    [task] = store.make(adds=[store.add(group)])
    for delay in (_MINUTE, HOUR, 100 * _YEAR, 1):
        before = store.now()
        [added] = store.make(adds=[store.add(group, "", -delay)])
        [task] = store.make(updates=[{"id": task.id, "duration": -delay}])
        # A second's tolerance, for servers of several machines whose clocks differ.
        early, late = before + delay - SECOND, store.now() + delay + SECOND
        for found in (added, task):
            is_near = early <= found.available <= late
            store.expect(is_near, f"{-delay} ns became an instant that is {found.available - before} ns from now")


@rule()
def a_positive_time_is_an_instant(store: Store) -> None:
    """A positive time in an add or a change is that very instant, to the nanosecond."""
    group = store.group()
    now = store.now()
    [task] = store.make(adds=[store.add(group)])
    for instant in (now + HOUR + 123_456_789, now // SECOND * SECOND + HOUR + 1, 2**63 - 1, 1):
        [added] = store.make(adds=[store.add(group, "", instant)])
        [task] = store.make(updates=[{"id": task.id, "duration": instant}])
        for found in (added, task):
            store.expect(found.available == instant, f"the instant {instant} became {found.available}")


@rule()
def an_instant_to_come_delays_a_task(store: Store) -> None:
    """A task with an instant in the future is not available yet, and one with an instant in the past is."""
    group = store.group()
    now = store.now()
    [_, past] = store.make(adds=[store.add(group, "to come", now + HOUR), store.add(group, "past", now - HOUR)])
    task = store.take(group, client=store.other)
    store.expect(task.data == "past", f"the claim took {task}, which is not available, and not {past}")
    early = store.claim(group, client=store.other)
    store.expect(early is None, f"the claim took {early}, which is not available")


@rule()
def a_delay_runs_out(store: Store) -> None:
    """A delayed task can be claimed when its delay has run out, and not before."""
    group, delay_ns = store.group(), store.lease_ns
    start = len(store.steps)
    store.make(adds=[store.add(group, "", -delay_ns)])
    early = store.claim(group, client=store.other)
    store.in_time(delay_ns, since=start)
    store.expect(early is None, f"the claim took {early} before its delay had run out")
    store.pass_time(delay_ns)
    store.take(group, client=store.other)
