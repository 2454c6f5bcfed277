"""Who is woken, when, and for what."""

import asyncio
from collections.abc import Callable, Collection, Mapping

from taskstore.server.messages import Task
from taskstore.server.parking import FEW, Parking
from taskstore.server.run import _loop_factory

NOW = 1_000_000_000_000


class Place:
    """A parking, whom it has woken, and what the storage would tell it."""

    def __init__(self, **soonest: int) -> None:
        self.woken: list[str] = []
        self.bell = asyncio.Event()
        self.soonest = soonest
        self.parking: Parking[str] = Parking(self._wake, self._soonest)

    def _wake(self, name: str) -> None:
        self.woken.append(name)
        self.bell.set()

    def _soonest(self, groups: Collection[str]) -> Mapping[str, int]:
        return {group: self.soonest[group] for group in groups if group in self.soonest}


def task(group: str, available: int = NOW) -> Task:
    return Task(1, group, "", available, 7)


def on_a_loop(test: Callable[[], None]) -> Callable[[], None]:
    async def body() -> None:
        test()

    def run() -> None:
        asyncio.run(body())

    run.__name__ = test.__name__
    return run


@on_a_loop
def test_each_new_task_wakes_the_one_that_has_waited_longest() -> None:
    place = Place()
    for name in ("a", "b", "c"):
        place.parking.park(name, ["g"])
    place.parking.tell([task("other"), task("g"), task("g")], NOW)
    assert place.woken == ["a", "b"]
    assert "c" in place.parking
    assert "a" not in place.parking


@on_a_loop
def test_who_waits_for_several_groups_is_woken_by_any_of_them_and_once() -> None:
    place = Place()
    place.parking.park("a", ["g", "h"])
    place.parking.tell([task("h"), task("g")], NOW)
    assert place.woken == ["a"]
    assert place.parking.groups == []


@on_a_loop
def test_who_has_left_is_not_woken() -> None:
    place = Place()
    place.parking.park("a", ["g"])
    place.parking.park("b", ["g"])
    place.parking.leave("a")
    place.parking.leave("a")
    place.parking.tell([task("g")], NOW)
    assert place.woken == ["b"]


@on_a_loop
def test_a_task_that_is_not_available_yet_wakes_nobody_now() -> None:
    place = Place()
    place.parking.park("a", ["g"])
    place.parking.tell([task("g", NOW + 10**15)], NOW)
    assert place.woken == []


def test_a_few_are_woken_when_the_time_of_a_task_has_come() -> None:
    async def body() -> None:
        place = Place(g=1_000)
        for number in range(FEW + 1):
            place.parking.park(str(number), ["g"])
        await place.bell.wait()
        assert len(place.woken) == FEW

    asyncio.run(asyncio.wait_for(body(), 30))


def test_an_earlier_task_moves_the_timer() -> None:
    async def body() -> None:
        place = Place(g=10**15)
        place.parking.park("a", ["g"])
        place.parking.tell([task("g", NOW + 1_000)], NOW)
        await place.bell.wait()

    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_timer_is_moved_though_it_is_due_at_once() -> None:
    """To uvloop less than half a millisecond is no time at all, and it makes no timer of that."""

    async def body() -> None:
        place = Place(g=2_000)
        place.parking.park("a", ["g"])
        place.parking.tell([task("g", NOW + 1_000)], NOW)
        await asyncio.wait_for(place.bell.wait(), 30)
        assert place.woken == ["a"]

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(body())


def test_a_thousand_that_wait_need_one_timer_for_each_group() -> None:
    async def body() -> None:
        place = Place(g=10**15, h=10**15)
        for number in range(1_000):
            place.parking.park(str(number), ["g", "h"])
        assert len(place.parking._timers) == 2
        for name in place.parking.everyone:
            place.parking.leave(name)
        assert len(place.parking._timers) == 0

    asyncio.run(body())
