"""The stage of a prediction is a function of what happened and of the time."""

from dataclasses import replace

import pytest

from rotoscope_sandbox.predictions import AcceptedRequest, Failure, Outcome, Prediction, RunStatus

CREATED = 1000.0
DONE = Outcome(CREATED + 0.1, output={"img": "x"})


def predicted(
    begun: float | None = CREATED,
    outcome: Outcome | None = DONE,
    canceled: float | None = None,
    deadline: float | None = None,
    start_by: float | None = None,
) -> Prediction:
    order = AcceptedRequest("a", "fal", "m", "", {}, CREATED, 0, 0.3, 0.5, deadline, start_by)
    return Prediction(order, begun, (), outcome, canceled)


@pytest.mark.parametrize(
    ("after", "stage"),
    [
        (0.0, RunStatus.QUEUED),
        (0.29, RunStatus.QUEUED),
        (0.31, RunStatus.RUNNING),
        (0.79, RunStatus.RUNNING),
        (0.81, RunStatus.SUCCEEDED),
    ],
)
def test_pretended_waiting_hides_a_result_that_is_there_already(after: float, stage: RunStatus) -> None:
    assert predicted().status(CREATED + after) is stage


def test_a_computation_that_takes_longer_than_pretended_is_still_running() -> None:
    assert predicted(outcome=None).status(CREATED + 60) is RunStatus.RUNNING


def test_what_no_worker_has_begun_is_queued_however_long_ago_it_was_asked_for() -> None:
    assert predicted(begun=None, outcome=None).status(CREATED + 60) is RunStatus.QUEUED


def test_an_outcome_with_a_failure_is_a_failed_prediction() -> None:
    failed = Outcome(CREATED + 0.1, failure=Failure("no"))
    assert predicted(outcome=failed).status(CREATED + 1) is RunStatus.FAILED


def test_a_cancel_outlives_the_result_that_was_computed_meanwhile() -> None:
    late = predicted(canceled=CREATED + 0.4)
    assert late.status(CREATED + 1) is RunStatus.CANCELED
    assert late.end_time(CREATED + 1) == CREATED + 0.4


def test_a_deadline_before_the_start_aborts_and_one_during_the_run_cancels() -> None:
    assert predicted(deadline=CREATED + 0.2).status(CREATED + 5) is RunStatus.ABORTED
    assert predicted(deadline=CREATED + 0.4).status(CREATED + 5) is RunStatus.CANCELED


def test_a_deadline_after_the_end_changes_nothing() -> None:
    kept = predicted(deadline=CREATED + 2)
    assert kept.status(CREATED + 5) is RunStatus.SUCCEEDED
    assert kept.end_time(CREATED + 5) == pytest.approx(CREATED + 0.8)


def test_a_start_deadline_only_concerns_what_has_not_started() -> None:
    expired = predicted(begun=None, outcome=None, start_by=CREATED + 2)
    assert expired.status(CREATED + 3) is RunStatus.EXPIRED
    assert expired.end_time(CREATED + 3) == CREATED + 2
    assert predicted(start_by=CREATED + 2).status(CREATED + 3) is RunStatus.SUCCEEDED


def test_a_provider_can_abort_before_the_start_or_cancel_after_the_run() -> None:
    """Source: Replicate's prediction lifecycle; only what ran is billed."""
    base = AcceptedRequest("a", "replicate", "m", "v", {}, 100.0, 1, 5.0, 20.0)
    ran = Outcome(101.0, output="made")
    aborted = Prediction(replace(base, ends="aborted"), begun=100.0, outcome=ran)
    assert [aborted.status(now) for now in (104.0, 105.0)] == [RunStatus.QUEUED, RunStatus.ABORTED]
    assert (aborted.started, aborted.end_time(130.0)) == (None, 105.0)
    canceled = Prediction(replace(base, ends="canceled"), begun=100.0, outcome=ran)
    assert [canceled.status(now) for now in (104.0, 124.0, 125.0)] == [
        RunStatus.QUEUED,
        RunStatus.RUNNING,
        RunStatus.CANCELED,
    ]
    assert (canceled.started, canceled.end_time(130.0)) == (105.0, 125.0)
