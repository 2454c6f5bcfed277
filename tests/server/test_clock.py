"""The steady clock against a system clock that is set at will."""

from taskstore.server.clock import SteadyClock

SECOND = 10**9
HOUR = 3600 * SECOND
START = 1_800_000_000 * SECOND


class Machine:
    """The two clocks of a machine; only the wall clock can be set."""

    def __init__(self) -> None:
        self.wall = START
        self.elapsed = 77 * SECOND

    def run(self, ns: int) -> None:
        self.wall += ns
        self.elapsed += ns

    def clock(self, not_before: int = 0) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.elapsed, not_before)


def test_it_tells_the_time() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.run(5 * SECOND)
    assert clock() == START + 5 * SECOND


def test_a_step_of_an_hour_either_way_moves_a_minute_by_60_ms_at_most() -> None:
    for step in (HOUR, -HOUR):
        machine = Machine()
        clock = machine.clock()
        before = clock()
        machine.wall += step
        for _ in range(60):
            machine.run(SECOND)
            clock()
        assert abs(clock() - before - 60 * SECOND) <= 60 * SECOND // 1000


def test_it_follows_a_small_step_until_it_is_made_up_and_no_further() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += SECOND // 100
    for _ in range(60):
        machine.run(SECOND)
        clock()
    assert clock() == machine.wall


def test_it_never_goes_back() -> None:
    machine = Machine()
    clock = machine.clock()
    last = clock()
    for step in (-HOUR, HOUR, -5, 5, -HOUR):
        machine.wall += step
        machine.run(1)
        now = clock()
        assert now >= last
        last = now


def test_after_a_restart_it_does_not_start_before_what_the_store_has_seen() -> None:
    machine = Machine()
    assert machine.clock(not_before=START + HOUR)() == START + HOUR
