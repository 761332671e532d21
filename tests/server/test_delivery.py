"""The progress notifications of a client that waits."""

from dataclasses import replace

import pytest

from rotoscope.contracts.results import JobResult
from rotoscope.server.present.text import with_poll_hint
from rotoscope.server.tool_calls import ProgressReporter
from rotoscope.store.records import Job

pytestmark = pytest.mark.anyio
JOB = Job(
    "j1", "generate_video", "m", "p", "local", False, "running", "watch", {}, 0.1, "Running.", None, False, None, 1,
    0.0, 0.0, None,
)  # fmt: skip


class Listener:
    def __init__(self) -> None:
        self.reported: list[tuple[float, str]] = []
        self.now = 0.0
        self.teller = ProgressReporter(self.report, lambda: self.now)

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        self.reported.append((progress, message or ""))

    async def note(self, progress: float, after: float) -> None:
        self.now += after
        await self.teller.report_job(replace(JOB, progress=progress))


async def test_the_first_message_has_the_jobs_id() -> None:
    listener = Listener()
    await listener.note(0.1, 0)
    assert listener.reported == [(0.1, "job j1: Running.")]


async def test_messages_come_at_most_once_a_second_and_never_go_back() -> None:
    listener = Listener()
    for progress, after in ((0.1, 0), (0.2, 0.4), (0.3, 0.7), (0.25, 2), (0.4, 1)):
        await listener.note(progress, after)
    reported = [progress for progress, _ in listener.reported]
    assert reported == [0.1, 0.3, pytest.approx(0.3, abs=0.001), 0.4]
    assert reported == sorted(set(reported))


async def test_a_silent_model_does_not_make_a_silent_server() -> None:
    """Clients give up on silence, and each message must say more than the one before."""
    listener = Listener()
    for _ in range(600):
        await listener.note(0.5, 1)
    reported = [progress for progress, _ in listener.reported]
    assert len(reported) == 600, "about once a second, also where nothing moves"
    assert reported == sorted(set(reported))
    assert max(reported) < 0.6


@pytest.mark.parametrize(
    ("budget", "said"), [(0.0, "no wait_seconds"), (3.5, "wait_seconds 4"), (120.0, "wait_seconds 45")]
)
def test_a_job_that_goes_on_says_how_to_wait_for_it_and_for_how_long(budget: float, said: str) -> None:
    """What is said can be done as it is: get_job takes 45 seconds at most."""
    result = JobResult(
        job_id="j1", status="running", tool="generate_video", model="m", provider="p", sandbox=False, progress=0.1,
        message="Running.", elapsed_seconds=20.0, expected_seconds=177.0, request={}, next_step="",
    )  # fmt: skip
    step = with_poll_hint(result, budget).next_step
    assert said in step
    assert "j1" in step
    assert "157 s more" in step
    done = result.model_copy(update={"status": "succeeded", "next_step": "Open it."})
    assert with_poll_hint(done, budget) == done


def running(elapsed: float, expected: float | None) -> JobResult:
    return JobResult(
        job_id="j1", status="running", tool="generate_video", model="m", provider="p", sandbox=False, progress=0.1,
        message="Running.", elapsed_seconds=elapsed, expected_seconds=expected, request={}, next_step="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("elapsed", "expected", "words"),
    [
        (4.0, 177.0, ", in about 169 s; it should take 173 s more."),
        (170.0, 177.0, ", in about 3 s; it should take 7 s more."),
        (175.0, 177.0, "; it should take 2 s more."),
        (200.0, 177.0, ", in about 96 s."),
        (9_000.0, 177.0, ", in about 116 s."),
        (40.0, None, ", in about 16 s."),
        (8.0, None, "wait_seconds 4."),
    ],
)
def test_a_look_is_advised_when_it_can_see_the_end_and_later_and_later_when_that_is_unknown(
    elapsed: float, expected: float | None, words: str
) -> None:
    """An agent has ten turns; a film takes three minutes."""
    step = with_poll_hint(running(elapsed, expected), 4.0).next_step
    assert words in step
    assert "reconnect" in step


async def test_nothing_is_ever_said_to_be_done() -> None:
    listener = Listener()
    for _ in range(5000):
        await listener.note(0.95, 10)
    assert max(progress for progress, _ in listener.reported) < 1
