"""Values: a task that exists is valid, and no time loses a nanosecond."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore import GroupStats, TaskInfo, UsageError
from taskstore.model import LONGEST_NS, duration_ns, instant_ns

LATE = 1_795_488_673_716_052_434
# Naive on purpose: Hypothesis adds the time zone.
FIRST, LAST = datetime(1678, 1, 1), datetime(2262, 1, 1)  # noqa: DTZ001
TASK = TaskInfo("map", "hello", timespec=LATE, id=17, owner_id=734_512, attempts=3)


class TestDurations:
    @given(st.timedeltas(timedelta(days=-36_500), timedelta(days=36_500)))
    def test_a_timedelta_keeps_every_microsecond(self, duration: timedelta) -> None:
        assert duration_ns(duration) == duration // timedelta(microseconds=1) * 1000

    def test_an_integer_is_nanoseconds(self) -> None:
        assert duration_ns(30_000_000_001) == 30_000_000_001

    @pytest.mark.parametrize("duration", [LONGEST_NS, -LONGEST_NS])
    def test_a_hundred_years_is_the_most(self, duration: int) -> None:
        assert duration_ns(duration) == duration
        with pytest.raises(UsageError, match="100 years"):
            duration_ns(duration + (1 if duration > 0 else -1))

    @pytest.mark.parametrize("duration", [30.0, True, "30", None])
    def test_what_has_no_unit_is_refused_with_a_hint(self, duration: int) -> None:
        with pytest.raises(UsageError, match=r"lease=.* has no unit.*timedelta\(seconds=30\)"):
            duration_ns(duration, "lease")


class TestInstants:
    @given(st.datetimes(FIRST, LAST, timezones=st.timezones()))
    def test_a_datetime_keeps_every_microsecond(self, instant: datetime) -> None:
        since = instant - datetime(1970, 1, 1, tzinfo=UTC)
        assert instant_ns(instant) == since // timedelta(microseconds=1) * 1000

    def test_today_is_exact_where_a_float_is_not(self) -> None:
        instant = datetime(2026, 11, 24, 7, 31, 13, 716_053, tzinfo=UTC)
        assert instant_ns(instant) == 1_795_505_473_716_053_000
        assert int(instant.timestamp() * 1e9) != instant_ns(instant)

    def test_a_time_zone_counts(self) -> None:
        assert instant_ns(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0

    def test_a_naive_datetime_is_refused_with_a_hint(self) -> None:
        with pytest.raises(UsageError, match=r"no time zone.*datetime.now\(UTC\)"):
            instant_ns(datetime(2026, 1, 1))  # noqa: DTZ001 - this is what is refused

    @pytest.mark.parametrize("instant", [1.5, True, "now", timedelta(0), None])
    def test_what_is_no_instant_is_refused(self, instant: int) -> None:
        with pytest.raises(UsageError, match="is not an instant"):
            instant_ns(instant)

    @pytest.mark.parametrize("instant", [2**63, -(2**63) - 1, datetime(2263, 1, 1, tzinfo=UTC)])
    def test_what_does_not_fit_64_bits_is_refused(self, instant: int) -> None:
        with pytest.raises(UsageError, match="64 bits"):
            instant_ns(instant)


class TestTask:
    def test_only_the_group_is_needed(self) -> None:
        assert TaskInfo("map") == TaskInfo("map", "", 0, 0, 0, 0)

    def test_a_task_does_not_change(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            TASK.data = "other"  # type: ignore[misc] # it is frozen, which is the point

    def test_equal_tasks_are_one_element_of_a_set(self) -> None:
        assert len({TASK, attrs.evolve(TASK), attrs.evolve(TASK, id=18)}) == 2

    def test_a_task_survives_pickle_and_copy(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(TASK, protocol)) == TASK
        assert copy.deepcopy(TASK) == copy.copy(TASK) == TASK

    def test_its_repr_can_be_evaluated(self) -> None:
        assert eval(repr(TASK), {"TaskInfo": TaskInfo}) == TASK

    def test_its_repr_shortens_long_data(self) -> None:
        shown = repr(TaskInfo("map", "x" * 5000))
        assert "(5,000 characters)" in shown
        assert len(shown) < 200

    @pytest.mark.parametrize("group", [".", "..", "a/b", "%2F", "?", "\n", "🦊", "\0", " "])
    def test_any_text_is_a_group_and_data(self, group: str) -> None:
        assert TaskInfo(group, group).group == group

    def test_the_empty_text_is_no_group(self) -> None:
        with pytest.raises(UsageError, match="must not be empty"):
            TaskInfo("")

    @pytest.mark.parametrize("text", [None, 5, b"bytes"])
    def test_what_is_not_text_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="group has to be a str"):
            TaskInfo(text)
        with pytest.raises(UsageError, match="data has to be a str"):
            TaskInfo("map", text)

    def test_half_a_character_is_refused(self) -> None:
        with pytest.raises(UsageError, match="lone surrogate at position 2"):
            TaskInfo("map", "ab\ud800")

    @pytest.mark.parametrize("id", [-(2**63), -1, 0, 1, 2**63 - 1])
    def test_an_id_has_64_bits(self, id: int) -> None:
        assert TaskInfo("map", id=id).id == id

    @pytest.mark.parametrize("id", [2**63, -(2**63) - 1, 1.0, True, "1", None])
    def test_what_is_no_id_is_refused(self, id: int) -> None:
        with pytest.raises(UsageError, match=r"64 bits|has to be an int"):
            TaskInfo("map", id=id)

    @pytest.mark.parametrize("owner_id", [2**31, -(2**31) - 1, 1.0])
    def test_what_is_no_client_id_is_refused(self, owner_id: int) -> None:
        with pytest.raises(UsageError, match="client id"):
            TaskInfo("map", owner_id=owner_id)

    @pytest.mark.parametrize("attempts", [-1, 2**31, 1.0, True, None])
    def test_what_is_no_number_of_attempts_is_refused(self, attempts: int) -> None:
        with pytest.raises(UsageError, match="attempts"):
            TaskInfo("map", attempts=attempts)

    def test_a_timedelta_is_a_delay(self) -> None:
        assert TaskInfo("map", timespec=timedelta(minutes=1)).timespec == -60_000_000_000

    def test_a_delay_that_has_passed_is_none(self) -> None:
        assert TaskInfo("map", timespec=timedelta(minutes=-1)).timespec == 0

    def test_a_datetime_is_an_instant(self) -> None:
        assert TaskInfo("map", timespec=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)).timespec == 10**9

    def test_an_instant_before_1970_is_the_earliest_there_is(self) -> None:
        assert TaskInfo("map", timespec=datetime(1969, 1, 1, tzinfo=UTC)).timespec == 1

    @pytest.mark.parametrize("timespec", [-LONGEST_NS, 2**63 - 1])
    def test_a_timespec_reaches_a_hundred_years_ahead_and_the_last_instant(self, timespec: int) -> None:
        assert TaskInfo("map", timespec=timespec).timespec == timespec

    @pytest.mark.parametrize("timespec", [-LONGEST_NS - 1, 2**63, 1.5, True, None])
    def test_what_is_no_timespec_is_refused(self, timespec: int) -> None:
        with pytest.raises(UsageError, match="timespec"):
            TaskInfo("map", timespec=timespec)

    @given(st.integers(1, 2**63 - 1))
    def test_its_instant_is_rounded_down_to_microseconds(self, timespec: int) -> None:
        instant = TaskInfo("map", timespec=timespec).available_at
        assert instant.utcoffset() == timedelta(0)
        assert 0 <= timespec - instant_ns(instant) < 1000

    def test_a_delay_has_no_instant_yet(self) -> None:
        with pytest.raises(UsageError, match="says only a delay"):
            _ = TaskInfo("map", timespec=timedelta(minutes=1)).available_at


class TestReplace:
    def test_what_is_not_named_stays(self) -> None:
        assert TASK.replace() == TASK
        assert TASK.replace(data="other") == TaskInfo("map", "other", LATE, 17, 734_512, 3)

    def test_a_lease_is_renewed_by_a_delay(self) -> None:
        assert TASK.replace(available_in=timedelta(seconds=30)).timespec == -30_000_000_000

    def test_a_task_is_given_back_by_no_delay(self) -> None:
        assert TASK.replace(available_in=0).timespec == 0

    def test_an_instant_can_be_named(self) -> None:
        assert TASK.replace(available_at=datetime(2026, 1, 1, tzinfo=UTC)).available_at.year == 2026

    def test_two_times_at_once_are_refused(self) -> None:
        with pytest.raises(UsageError, match="not both"):
            TASK.replace(available_in=0, available_at=1)


def test_the_age_of_a_group_is_rounded_down_to_microseconds() -> None:
    assert GroupStats("map", 1, 0, 0, 1_500_000_999).oldest_age == timedelta(seconds=1.5)
