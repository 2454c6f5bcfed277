"""The steady clock against a system clock that is set at will, and the witnesses of a clock that is shared."""

from taskstore.server.clock import Reading, SteadyClock, Witness

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


# Several witnesses of one clock


class Shared:
    """The clock that servers share, as one of them reads it over a network; and that server's own."""

    def __init__(self) -> None:
        self.wall = START
        self.shift = 0
        self.seen = START
        self.elapsed = 77 * SECOND
        self.witness = Witness()

    def run(self, ns: int) -> None:
        self.wall += ns
        self.elapsed += ns

    def correction(self, took: int = 0) -> int:
        sent = self.elapsed
        reading = Reading(self.wall + self.shift, self.shift, self.seen)
        self.elapsed += took
        self.wall += took
        return self.witness.correction(reading, sent, self.elapsed)


def test_a_clock_that_goes_on_evenly_is_left_alone() -> None:
    shared = Shared()
    for ns in (0, 1, SECOND, HOUR, 1000 * HOUR):
        shared.run(ns)
        assert shared.correction(took=SECOND // 2) == 0


def test_a_step_is_set_right_to_the_time_that_an_answer_took() -> None:
    for step in (HOUR, -HOUR, 3 * SECOND, -3 * SECOND):
        shared = Shared()
        shared.correction()
        shared.run(5 * SECOND)
        shared.wall += step
        assert abs(shared.correction(took=SECOND // 10) + step) <= SECOND // 10


def test_what_a_slow_network_can_do_is_no_step() -> None:
    shared = Shared()
    shared.correction(took=SECOND // 2)
    for took in (0, SECOND // 2, 60 * SECOND, 0):
        assert shared.correction(took) == 0


def test_an_answer_that_took_a_minute_does_not_hide_a_step_of_an_hour() -> None:
    shared = Shared()
    shared.correction()
    shared.correction(took=60 * SECOND)
    shared.wall += HOUR
    assert abs(shared.correction(took=60 * SECOND) + HOUR) <= 61 * SECOND
    assert abs(shared.correction() + HOUR) <= SECOND


def test_a_step_that_another_server_has_set_right_is_left_alone() -> None:
    shared = Shared()
    shared.correction()
    shared.wall += HOUR
    shared.shift = -HOUR
    assert shared.correction() == 0


def test_a_server_that_began_after_the_step_accepts_what_others_set() -> None:
    shared = Shared()
    shared.wall += HOUR
    assert shared.correction() == 0
    shared.shift = -HOUR
    assert [shared.correction(), shared.correction()] == [0, 0]


def test_who_stood_still_believes_who_did_not() -> None:
    shared = Shared()
    shared.correction()
    shared.wall += HOUR
    shared.seen = shared.wall
    assert [shared.correction(), shared.correction()] == [0, 0]


def test_a_first_look_sees_that_the_clock_is_behind_what_was_seen() -> None:
    shared = Shared()
    shared.wall -= HOUR
    assert shared.correction() == HOUR
