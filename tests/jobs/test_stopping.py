"""A cancel and a deadline are requests: the run is watched until the provider says that it has ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripted_run import Answer, Scene, reply, staged
from simulated import EPOCH

from rotoscope.errors import ReplyLost, Unreachable

DEADLINE = 300  # seconds; of the model's manifest
KEPT = 3600  # seconds for which the provider keeps a result
NOT_CONFIRMED = "A cancel was asked for; Replicate has not confirmed it yet: the run goes on there."


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path) as found:
        yield found


def away(begin: float, end: float) -> Callable[[float], Answer]:
    """The network, between two moments."""
    return lambda now: Unreachable("No route.", hint="") if begin <= now < end else None


@pytest.mark.parametrize(
    "answer",
    [
        reply(404), reply(409), reply(401), reply(403), reply(400), reply(503, b"<html>"), reply(500), reply(429),
        Unreachable("No route."), ReplyLost("Cut off."),
    ],
    ids=["404", "409", "401", "403", "400", "503", "500", "429", "unreachable", "lost"],
)  # fmt: skip
def test_a_cancel_that_is_not_accepted_ends_nothing_and_the_result_is_kept(scene: Scene, answer: Answer) -> None:
    scene.provider.ends, scene.provider.on_cancel = 120.0, lambda _: answer
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(5)
    scene.cancel(process, job_id)
    scene.time.run(20)
    job = scene.job(process, job_id)
    assert (job.state, job.message) == ("running", NOT_CONFIRMED)
    job = scene.run(process, job_id, 300)
    assert (job.state, scene.provider.posts) == ("succeeded", 1)
    assert job.charge.usd != 0 or job.sandbox
    pauses = [
        b - a for a, b in zip(scene.provider.times_of("cancel"), scene.provider.times_of("cancel")[3:], strict=False)
    ]
    assert len(scene.provider.times_of("cancel")) >= 3 or answer in (reply(401), reply(403))
    assert pauses == sorted(pauses) or max(pauses) <= 60


def test_a_cancel_is_sent_again_until_it_is_accepted(scene: Scene) -> None:
    scene.provider.ends = 500.0
    scene.provider.on_cancel = lambda now: reply(404) if now < 60 else None
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(5)
    scene.cancel(process, job_id)
    job = scene.run(process, job_id, 300)
    assert job.state == "cancelled"
    assert "the time that it ran is charged" in job.message
    assert scene.time.now < 140


def test_a_run_that_an_accepted_cancel_does_not_stop_is_watched_to_its_end(scene: Scene) -> None:
    scene.provider.ends, scene.provider.stops = 400.0, False
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(5)
    scene.cancel(process, job_id)
    scene.time.run(60)
    assert scene.job(process, job_id).message == NOT_CONFIRMED
    assert scene.run(process, job_id, 600).state == "succeeded"


def test_a_cancelled_run_that_fails_has_failed(scene: Scene) -> None:
    scene.provider.ends, scene.provider.stops, scene.provider.word = 60.0, False, "failed"
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(5)
    scene.cancel(process, job_id)
    job = scene.run(process, job_id, 600)
    assert job.state == "failed"
    assert job.error_code == "prediction_failed"


def test_the_answer_to_a_cancel_may_show_the_end_where_polls_fail(scene: Scene) -> None:
    scene.provider.ends, scene.provider.on_ask = 400.0, lambda now: reply(503) if now > 5 else None
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(6)
    scene.cancel(process, job_id)
    assert scene.run(process, job_id, 10).state == "cancelled"


def test_a_cancel_survives_its_process(scene: Scene) -> None:
    scene.provider.ends, scene.provider.on_cancel = 500.0, lambda now: reply(503) if now < 100 else None
    first = scene.process()
    job_id = scene.begin(first)
    scene.time.run(5)
    scene.cancel(first, job_id)
    scene.time.run(10)
    first.kill()
    scene.time.run(90)
    second = scene.process()
    assert scene.run(second, job_id, 300).state == "cancelled"


@pytest.mark.parametrize("hours", [0.2, 0.9])
def test_a_network_that_is_away_past_the_deadline_ends_nothing(scene: Scene, hours: float) -> None:
    end = 10 + hours * 3600
    scene.provider.on_ask = scene.provider.on_cancel = away(10, end)
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(end - 20)
    job = scene.job(process, job_id)
    assert job.state == "running"
    assert "stop" not in job.message or "has not confirmed" in job.message
    assert scene.run(process, job_id, 700).state == "succeeded"


def test_a_run_that_cannot_be_polled_until_its_result_is_surely_gone_has_failed_and_can_be_resumed(
    scene: Scene,
) -> None:
    scene.provider.on_ask = scene.provider.on_cancel = away(10, 3 * 3600)
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 2 * 3600)
    assert job.state == "failed"
    assert job.error_code == "timeout"
    assert DEADLINE + KEPT <= scene.time.now <= DEADLINE + KEPT + 400
    assert "stop" not in job.message
    assert "jobs resume" in (job.error.hint if job.error else "")
    scene.time.run(2 * 3600)
    process.call(lambda: process.context.ledger.resume(job_id, "local"))
    assert scene.run(process, job_id, 120).state == "succeeded"
    assert scene.provider.posts == 1


def test_a_run_that_takes_too_long_is_cancelled_and_its_end_is_awaited(scene: Scene) -> None:
    scene.provider.ends = 10_000.0
    scene.provider.on_cancel = lambda now: reply(409) if now < 900 else None
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(800)
    job = scene.job(process, job_id)
    assert job.state == "running"
    assert f"takes longer than {DEADLINE} seconds" in job.message
    assert "not confirmed" in job.message
    job = scene.run(process, job_id, 600)
    assert (job.state, job.error_code) == ("failed", "timeout")
    assert "has stopped" in job.message
    assert job.charge.is_charged is True


def test_a_run_that_outlives_its_deadline_and_succeeds_has_succeeded(scene: Scene) -> None:
    scene.provider.ends, scene.provider.on_cancel = 5000.0, lambda _: reply(500)
    process = scene.process()
    job_id = scene.begin(process)
    assert scene.run(process, job_id, 6000).state == "succeeded"
    assert len(scene.provider.times_of("ask")) < 600


@pytest.mark.parametrize("ahead", [3600.0, 86_400.0, -3600.0])
def test_a_host_with_another_clock_claims_a_healthy_run_and_cancels_nothing(scene: Scene, ahead: float) -> None:
    scene.provider.ends = 300.0
    first = scene.process()
    job_id = scene.begin(first)
    scene.time.run(100)
    first.end()
    scene.time.run(1)
    second = scene.process(wall=lambda: EPOCH + scene.time.now + ahead)
    scene.time.run(60)
    reported = scene.result(second, job_id)
    assert reported.status == "running"
    assert reported.elapsed_seconds >= 0
    assert scene.run(second, job_id, 400).state == "succeeded"
    assert not scene.provider.times_of("cancel")


def test_a_machine_that_was_off_for_a_day_cancels_nothing(scene: Scene) -> None:
    scene.provider.ends = 90_000.0
    first = scene.process()
    job_id = scene.begin(first)
    scene.time.run(100)
    first.kill()
    scene.time.run(86_400)
    second = scene.process()
    scene.time.run(DEADLINE - 200)
    assert not scene.provider.times_of("cancel")
    assert scene.job(second, job_id).state == "running"
    scene.time.run(300)
    assert scene.provider.times_of("cancel"), "longer than the deadline was watched by now"


def test_time_that_was_watched_counts_over_restarts(scene: Scene) -> None:
    scene.provider.ends = 90_000.0
    process = scene.process()
    job_id = scene.begin(process)
    for _ in range(8):
        scene.time.run(100)
        process.end()
        scene.time.run(1)
        process = scene.process()
    assert scene.provider.times_of("cancel")
    assert scene.run(process, job_id, 60).state == "failed"


@pytest.mark.parametrize("status", [404, 410])
def test_a_status_that_is_not_found_for_a_while_in_the_middle_of_a_run_ends_nothing(scene: Scene, status: int) -> None:
    scene.provider.ends = 60.0
    scene.provider.on_ask = scene.provider.on_cancel = lambda now: reply(status) if 10 <= now < 1500 else None
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(1000)
    job = scene.job(process, job_id)
    assert job.state == "running"
    assert job.watch.stale_since
    assert scene.run(process, job_id, 1000).state == "succeeded"


def test_a_run_that_was_never_found_needs_a_review_and_keeps_its_ticket(scene: Scene) -> None:
    scene.provider.on_ask = lambda _: reply(404)
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 600)
    assert (job.state, job.error_code) == ("needs_review", "submit_unknown")
    assert "p1" in (job.error.hint if job.error else "")
    assert job.accepted is not None
    assert job.next_at is not None


def test_not_found_is_believed_when_the_providers_own_time_is_over_also_over_restarts(scene: Scene) -> None:
    scene.provider.on_ask = scene.provider.on_cancel = lambda now: reply(404) if now >= 10 else None
    process = scene.process()
    job_id = scene.begin(process)
    for _ in range(5):
        scene.time.run(500)
        process.end()
        scene.time.run(1)
        process = scene.process()
    job = scene.run(process, job_id, DEADLINE + KEPT)
    assert (job.state, job.error_code) == ("failed", "output_expired")
    assert "jobs resume" in (job.error.hint if job.error else "")
    assert DEADLINE + KEPT - 10 <= scene.time.now <= DEADLINE + KEPT + 2000


def test_progress_stays_believable_when_the_clock_jumps(scene: Scene) -> None:
    scene.provider.ends = 500.0
    jump = [0.0]
    process = scene.process(wall=lambda: EPOCH + scene.time.now + jump[0])
    job_id = scene.begin(process)
    scene.time.run(3)
    before = scene.result(process, job_id).progress
    jump[0] = 7200.0
    reported = scene.result(process, job_id)
    assert before <= reported.progress <= 0.95
    said = int(reported.message.rpartition(" s so far")[0].rpartition(" ")[2])
    assert said < 60, reported.message
    jump[0] = -7200.0
    assert scene.result(process, job_id).elapsed_seconds >= 0


def test_a_key_that_is_refused_gives_the_job_to_a_process_with_a_good_one(scene: Scene) -> None:
    scene.provider.ends, key = 60.0, {"good": True}
    first = scene.process(key=key)
    job_id = scene.begin(first)
    scene.time.run(5)
    second = scene.process()
    scene.time.run(5)
    assert scene.job(second, job_id).owner == "process 1"
    key["good"] = False
    scene.time.run(15)
    job = scene.job(second, job_id)
    assert (job.state, job.owner) == ("running", "process 2")
    assert scene.run(second, job_id, 120).state == "succeeded"
    assert len(scene.provider.times_of("refused")) == 3
    assert (scene.provider.posts, scene.provider.times_of("cancel")) == (1, [])


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_only_process_asks_again_after_a_while_with_a_key_that_was_refused(scene: Scene, cancelled: bool) -> None:
    scene.provider.ends, key = 60.0, {"good": True}
    process = scene.process(key=key)
    job_id = scene.begin(process)
    scene.time.run(5)
    key["good"] = False
    if cancelled:
        scene.cancel(process, job_id)
    scene.time.run(20)
    for _ in range(56):
        scene.time.run(5)
        reported = scene.result(process, job_id)
        assert reported.error is not None, reported.message
        assert (reported.status in ("queued", "running"), reported.error.code) == (True, "auth")
    assert scene.job(process, job_id).owner is None or reported.status == "running"
    assert 12 <= len(scene.provider.times_of("refused")) <= 30
    key["good"] = True
    assert scene.run(process, job_id, 120).state == "succeeded"
