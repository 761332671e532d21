"""Progress that a person can believe."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rotoscope.jobs.progress import estimate_progress, progress_fraction
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_json import read_job_data
from rotoscope.store.records import Job

FRACTIONS = st.floats(0, 1)
SECONDS = st.floats(0, 1e5)


@given(st.none() | st.floats(-1, 2), SECONDS, st.none() | SECONDS, FRACTIONS)
def test_progress_never_goes_back_and_never_says_that_all_is_done(
    said: float | None, elapsed: float, expected: float | None, before: float
) -> None:
    now = progress_fraction(said, elapsed, expected, before)
    assert min(before, 0.95) <= now + 0.001
    assert 0 <= now <= 0.95


def test_what_the_model_says_counts_more_than_the_clock() -> None:
    assert progress_fraction(0.5, 1000, 10, 0.0) < progress_fraction(None, 1000, 10, 0.0)


def test_without_the_models_word_progress_grows_with_time_and_slows_down() -> None:
    steps = [progress_fraction(None, seconds, 100, 0.0) for seconds in range(0, 400, 50)]
    assert steps == sorted(steps)
    gains = [b - a for a, b in pairwise(steps)]
    assert gains == sorted(gains, reverse=True)


def test_a_bar_that_is_full_at_once_is_not_believed() -> None:
    """Models print a full bar for loading their parts before the run begins."""
    assert progress_fraction(1.0, 2, 120, 0.0) < 0.4
    assert progress_fraction(1.0, 119, 120, 0.0) == 0.95


def _job(**known: Json) -> Job:
    """A job whose run was accepted at 1000 and is watched since; usually such a run works for a second."""
    noted: dict[str, Json] = {"watched": 0.0, "watched_at": 1000.0, "accepted_at": 1000.0, "expected_seconds": 1.1}
    noted["ticket"] = {"id": "p", "endpoint": "m", "urls": {}}
    data = read_job_data({**noted, **known})
    return Job(
        "a", "segment_image", "m", "replicate", "u", sandbox=False, state="running", stage="watch", args={},
        plan=data.plan, accepted=data.accepted, watch=data.watch, progress=0.02, message="Waiting at Replicate.",
        error=None, cancel_requested=False,
        owner=None, fence=1, created_at=1000.0, updated_at=1000.0, finished_at=None,
    )  # fmt: skip


def test_a_run_that_waits_has_hardly_begun_however_long_it_waits() -> None:
    shown = [estimate_progress(_job(working_at=None), 1000.0 + seconds).progress for seconds in (0, 3, 20, 60, 600)]
    assert shown == sorted(shown)
    assert shown[-1] <= 0.1


def test_a_wait_that_is_longer_than_usual_is_told_as_a_cold_start_where_the_model_is_known_for_one() -> None:
    early, late = (
        estimate_progress(_job(working_at=None, cold_start_seconds=68), 1000.0 + seconds) for seconds in (2, 20)
    )
    assert "start" not in early.message
    assert "A machine is probably being started for the model, which takes about 68 s." in late.message
    assert late.plan.expected_seconds == 69.1
    for known in ({"working_at": None}, {"working_at": 2.0, "cold_start_seconds": 68}):
        assert "machine" not in estimate_progress(_job(**known), 1020.0).message


def test_what_was_waited_before_the_work_began_is_no_progress() -> None:
    after_a_cold_start = estimate_progress(_job(working_at=19.5, expected_seconds=10), 1020.0)
    without_one = estimate_progress(_job(working_at=0.0, expected_seconds=10), 1000.5)
    assert after_a_cold_start.progress == without_one.progress < 0.15
