"""The pauses between polls: few polls, and the end is seen soon."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.providers.polling import (
    MAX_PAUSE,
    MIN_PAUSE,
    poll_pause,
    poll_pause_after_webhook,
    poll_pause_before_webhook,
    stretch_factor,
)

SECONDS = st.floats(0, 1e5)


def asked_until(
    end: float, expected: float | None, pause: Callable[[float, float | None], float] = poll_pause
) -> tuple[int, float]:
    """How many polls a run of that length takes, and how late its end is seen."""
    now, count = 0.0, 0
    while True:
        now += pause(now, expected)
        count += 1
        if now >= end:
            return count, now - end


@given(SECONDS, st.none() | SECONDS)
def test_a_poll_pause_stays_within_its_limits(elapsed: float, expected: float | None) -> None:
    assert MIN_PAUSE <= poll_pause(elapsed, expected) <= MAX_PAUSE


@given(st.floats(150, 205))
def test_a_run_of_3_minutes_takes_at_most_100_polls_and_its_end_is_seen_within_a_second(
    end: float,
) -> None:
    count, late = asked_until(end, 177.0)
    assert count <= 100
    assert late <= 1.0


@given(st.floats(27, 33))
def test_a_run_of_30_s_takes_at_most_60_polls_and_its_end_is_seen_within_half_a_second(
    end: float,
) -> None:
    count, late = asked_until(end, 30.0)
    assert count <= 60
    assert late <= 0.5


@given(st.floats(159.3, 194.7))
def test_a_run_of_177_s_as_expected_takes_at_most_83_polls(end: float) -> None:
    count, _ = asked_until(end, 177.0)
    assert count <= 83


@given(st.floats(0.2, 33))
def test_the_end_of_a_run_of_unknown_length_is_seen_within_a_second_and_at_most_60_polls(
    end: float,
) -> None:
    count, late = asked_until(end, None)
    assert count <= 60
    assert late <= 1.0


@given(st.none() | st.floats(1, 600), st.floats(33, 3000))
def test_a_run_that_is_overdue_is_polled_at_least_every_thirtieth_of_its_length(
    expected: float | None, end: float
) -> None:
    _, late = asked_until(end, expected)
    assert late <= max(1.0, end / 30, (expected or 0) / 12)


@given(st.floats(0.05, 0.15))
def test_a_run_that_ends_at_once_is_polled_within_50_ms(end: float) -> None:
    _, late = asked_until(end, 1.1)
    assert late <= 0.05


@given(st.lists(st.floats(MIN_PAUSE, MAX_PAUSE), max_size=2000), st.floats(1, 50))
def test_all_pauses_are_stretched_by_one_factor_and_keep_the_rate(pauses: list[float], a_second: float) -> None:
    factor = stretch_factor(pauses, a_second)
    assert factor >= 1
    assert sum(1 / (factor * one) for one in pauses) <= a_second * 1.0001 or factor == 1
    assert factor == 1 or sum(1 / one for one in pauses) > a_second


@given(st.floats(0.5, 2.0))
def test_the_end_of_a_run_of_about_a_second_is_seen_within_a_tenth(end: float) -> None:
    _, late = asked_until(end, 1.1)
    assert late <= 0.15


@pytest.mark.parametrize("expected", [1.0, 5.0, 30.0, 177.0, 600.0])
def test_polls_are_most_frequent_where_the_end_is_likely(expected: float) -> None:
    around = poll_pause(expected, expected)
    assert around <= poll_pause(0.5 * expected, expected)
    assert around <= poll_pause(3 * expected, expected)


@pytest.mark.parametrize("expected", [None, 1.0, 60.0])
def test_a_run_that_hangs_is_polled_ever_more_rarely(expected: float | None) -> None:
    count, _ = asked_until(1800, expected)
    assert count < 300
    assert poll_pause(1700, expected) > 5


def test_no_early_pause_goes_beyond_the_time_when_the_end_becomes_likely() -> None:
    assert 130 + poll_pause(130, 177.0) <= 0.8 * 177 + 1


@given(st.none() | st.floats(0.5, 600), st.floats(0.2, 3000))
def test_without_the_webhook_that_was_to_come_the_lag_is_at_most_twice_the_usual_pause_or_3_percent(
    expected: float | None, end: float
) -> None:
    _, late = asked_until(end, expected, poll_pause_before_webhook)
    widest = max(poll_pause(end * share / 100, expected) for share in range(101))
    assert late <= min(MAX_PAUSE, max(2 * widest, 0.03 * end)) + 1e-9


@pytest.mark.parametrize(("length", "most"), [(3.0, 25), (30.0, 25), (177.0, 30), (600.0, 60)])
def test_while_a_webhook_is_on_its_way_a_run_is_polled_less_than_half_as_often(length: float, most: int) -> None:
    count, _ = asked_until(length, length, poll_pause_before_webhook)
    assert count <= most
    assert count <= 0.6 * asked_until(length, length)[0]


@given(st.floats(0, 1e5))
def test_a_webhook_is_followed_by_polls_that_grow_rarer(since: float) -> None:
    assert max(0.25, since / 2) == poll_pause_after_webhook(since)
