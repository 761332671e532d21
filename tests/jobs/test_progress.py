"""Progress that a person can believe."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rotoscope.jobs.progress import fraction

FRACTIONS = st.floats(0, 1)
SECONDS = st.floats(0, 1e5)


@given(st.none() | st.floats(-1, 2), SECONDS, st.none() | SECONDS, FRACTIONS)
def test_progress_never_goes_back_and_never_says_that_all_is_done(
    said: float | None, elapsed: float, expected: float | None, before: float
) -> None:
    now = fraction(said, elapsed, expected, before)
    assert min(before, 0.95) <= now + 0.001
    assert 0 <= now <= 0.95


def test_what_the_model_says_counts_more_than_the_clock() -> None:
    assert fraction(0.5, 1000, 10, 0.0) < fraction(None, 1000, 10, 0.0)


def test_without_the_models_word_progress_grows_with_time_and_slows_down() -> None:
    steps = [fraction(None, seconds, 100, 0.0) for seconds in range(0, 400, 50)]
    assert steps == sorted(steps)
    gains = [b - a for a, b in pairwise(steps)]
    assert gains == sorted(gains, reverse=True)


def test_a_bar_that_is_full_at_once_is_not_believed() -> None:
    """Models print a full bar for loading their parts before the run begins."""
    assert fraction(1.0, 2, 120, 0.0) < 0.4
    assert fraction(1.0, 119, 120, 0.0) == 0.95
