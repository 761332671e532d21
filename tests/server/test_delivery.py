"""What a client hears while it waits."""

from dataclasses import replace

import pytest

from rotoscope.contracts.results import JobResult
from rotoscope.jobs.job import Job
from rotoscope.server.delivery import Teller, looked_again

pytestmark = pytest.mark.anyio
JOB = Job(
    "j1", "generate_video", "m", "p", "local", False, "running", "watch", {}, {}, 0.1, "Running.", None, False, None, 1,
    0.0, 0.0, None,
)  # fmt: skip


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []
        self.now = 0.0
        self.teller = Teller(self.report, lambda: self.now)

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append((progress, message or ""))

    async def hear(self, progress: float, after: float) -> None:
        self.now += after
        await self.teller.tell(replace(JOB, progress=progress))


async def test_the_first_message_has_the_jobs_id() -> None:
    listener = Listener()
    await listener.hear(0.1, 0)
    assert listener.told == [(0.1, "job j1: Running.")]


async def test_messages_come_at_most_once_a_second_and_never_go_back() -> None:
    listener = Listener()
    for progress, after in ((0.1, 0), (0.2, 0.4), (0.3, 0.7), (0.25, 2), (0.4, 1)):
        await listener.hear(progress, after)
    assert [progress for progress, _ in listener.told] == [0.1, 0.3, 0.4]


async def test_a_silent_model_does_not_make_a_silent_server() -> None:
    """Clients give up on silence, and each message must say more than the one before."""
    listener = Listener()
    for _ in range(600):
        await listener.hear(0.5, 1)
    told = [progress for progress, _ in listener.told]
    assert len(told) >= 100
    assert told == sorted(set(told))
    assert max(told) < 0.6


@pytest.mark.parametrize(
    ("budget", "said"), [(0.0, "no wait_seconds"), (3.5, "wait_seconds 4"), (120.0, "wait_seconds 45")]
)
def test_a_job_that_goes_on_says_how_to_wait_for_it_and_for_how_long(budget: float, said: str) -> None:
    """What is said can be done as it is: get_job takes 45 seconds at most."""
    result = JobResult(
        job_id="j1", status="running", tool="generate_video", model="m", provider="p", sandbox=False, progress=0.1,
        message="Running.", elapsed_seconds=20.0, expected_seconds=177.0, request={}, next_step="",
    )  # fmt: skip
    step = looked_again(result, budget).next_step
    assert said in step
    assert "j1" in step
    assert "157 s more" in step
    done = result.model_copy(update={"status": "succeeded", "next_step": "Open it."})
    assert looked_again(done, budget) == done


async def test_nothing_is_ever_said_to_be_done() -> None:
    listener = Listener()
    for _ in range(5000):
        await listener.hear(0.95, 10)
    assert max(progress for progress, _ in listener.told) < 1
