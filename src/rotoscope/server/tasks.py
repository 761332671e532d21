"""A task is a job, or the question before it: what the tasks extension asks, answered from the ledger by the studio.

Nothing is kept here. So a task is found again after a restart and from any process that works on the same ledger.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult

from rotoscope.contracts.results import JobList, JobResult, Status
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import UnknownJob
from rotoscope.protocol.tasks import Task, TaskStatus, current_offer
from rotoscope.server.notifications import ChangeSource
from rotoscope.server.present.text import result_answer
from rotoscope.server.task_questions import TaskQuestions, question_task
from rotoscope.store.question_records import PriceQuestion
from rotoscope.store.records import Job

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["JobTasks", "offer_task", "task_of"]

_POLL_LEAST, _POLL_MOST, _POLLS_PER_RUN = 2000, 5000, 20
_POLL_NEAR_END = 1000
_NEAR_END_SHARE, _NEAR_END_SECONDS, _OVERDUE_SHARE = 0.1, 5.0, 1.5  # shares of the usual time, but for the second
_POLL_REVIEW = 30_000
_MAX_JOINED = 1024
# needs_review is working: a person must look at the provider and then use the command line. `input_required` asks
# the client for something that it cannot give; `completed` would be taken back when the person has decided.
_TASK_STATUS: Mapping[Status, TaskStatus] = {
    "queued": "working",
    "running": "working",
    "succeeded": "completed",
    "failed": "completed",
    "needs_review": "working",
    "cancelled": "cancelled",
}


def offer_task(tool: str, result: JobResult | JobList) -> None:
    """Turn the call being served into a task, if its client takes tasks and the job that it opened goes on.

    `get_job` and `cancel_job` never become one: they promise the job as it is.
    """
    offer = current_offer()
    if offer is None or not TOOLS[tool].can_cost_money or not isinstance(result, JobResult):
        return
    if result.job_id and result.status in ("queued", "running"):
        offer.task_id = result.job_id


class JobTasks:
    """The jobs of a studio as the tasks of the extension.

    Args:
        studio: the studio, opened at the first use.
        changes: a source of the ids of jobs that changed.
        retention_seconds: how long a task stays readable after it was opened; None: without limit.
        questions: the calls that wait until somebody has agreed to their price.
    """

    def __init__(
        self,
        studio: "Callable[[], Awaitable[Studio]]",
        changes: ChangeSource,
        retention_seconds: float | None,
        questions: TaskQuestions,
    ) -> None:
        self._studio = studio
        self._changes = changes
        self._retention = retention_seconds
        self._questions = questions
        self._joined: dict[str, str] = {}  # tasks by the job that their yes has joined, which has another id

    async def get(self, principal: str, task_id: str) -> Task | None:
        """The job of that id, or the question that waits for one, as a task."""
        studio = await self._studio()
        found = await self._find(studio, principal, task_id)
        if isinstance(found, PriceQuestion):
            return question_task(studio, found, studio.questions.clock(), self._retention)
        if found is None:
            return None
        result = await studio.result(found)
        return replace(task_of(found, result, result_answer(result), self._retention), id=task_id)

    async def mark_delivered(self, principal: str, task_id: str) -> None:
        """Mark the result of a job as delivered; an identical request then starts a new job."""
        studio = await self._studio()
        job = await self._find(studio, principal, task_id)
        if isinstance(job, Job) and not job.is_delivered:
            await studio.deliver_result(job)

    async def cancel(self, principal: str, task_id: str) -> None:
        """Cancel the job, at the provider too; a question ends unanswered."""
        studio = await self._studio()
        found = await self._find(studio, principal, task_id)
        if isinstance(found, PriceQuestion) and not await self._questions.cancel(studio, found):
            found = await self._find(studio, principal, task_id)  # a yes has started its job meanwhile
        if isinstance(found, Job):
            with suppress(UnknownJob):
                await studio.cancel(found.id, principal)

    async def update(self, principal: str, task_id: str, responses: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the answer to a question about a price. Nothing else is asked: a job never wants input."""
        studio = await self._studio()
        found = await self._find(studio, principal, task_id)
        if isinstance(found, PriceQuestion):
            await self._questions.answer(studio, found, responses)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a listener with the id of every task that changes, until what is returned is called."""

        def handle_job_change(job_id: str) -> None:
            listener(job_id)
            if job_id in self._joined:
                listener(self._joined[job_id])

        endings = (self._changes.subscribe(handle_job_change), self._questions.watch(listener))

        def remove_listener() -> None:
            for end in endings:
                end()

        return remove_listener

    async def _find(self, studio: "Studio", principal: str, task_id: str) -> Job | PriceQuestion | None:
        job = await _find_job(studio, principal, task_id)
        if job is not None:
            return job
        question = await self._questions.find(studio, principal, task_id)
        if question is None or question.job_id is None:
            return question
        self._note_joined(question.job_id, task_id)
        return await _find_job(studio, principal, question.job_id)

    def _note_joined(self, job_id: str, task_id: str) -> None:
        if job_id != task_id:
            self._joined[job_id] = task_id
            while len(self._joined) > _MAX_JOINED:
                self._joined.pop(next(iter(self._joined)))


async def _find_job(studio: "Studio", principal: str, task_id: str) -> Job | None:
    try:
        job = await studio.job(task_id, principal)
    except UnknownJob:
        return None
    return job if job.id == task_id else None  # the studio also takes links, but one task has one id


def task_of(job: Job, result: JobResult, answer: CallToolResult, retention_seconds: float | None) -> Task:
    """A job as a task.

    Args:
        job: the job.
        result: what its tool gives for it now.
        answer: the same as MCP content.
        retention_seconds: how long it is kept after it was opened; None: without limit.
    """
    status = _TASK_STATUS[job.state]
    return Task(
        id=job.id,
        status=status,
        message=_status_message(result),
        created_at=job.created_at,
        updated_at=job.updated_at,
        ttl_ms=None if retention_seconds is None else round(retention_seconds * 1000),
        poll_ms=_POLL_REVIEW if job.state == "needs_review" else _poll_ms(result),
        result=answer if status == "completed" else None,
    )


def _status_message(result: JobResult) -> str:
    if result.status == "needs_review":
        problem = f" {result.error.message}" if result.error is not None else ""
        return f"Waits for a person's review.{problem} {result.next_step}"
    if result.error is not None:
        return f"{result.error.code}: {result.error.message}"
    if result.status == "running":
        return f"{result.progress * 100:.0f} %: {result.message}"
    return result.message or result.status


def _poll_ms(result: JobResult) -> int:
    """The pause between two polls: about twenty polls over the usual time, 2 s to 5 s apart; near the end 1 s apart.

    A result is seen up to one pause late. A run that takes much longer than usual may take any time.
    """
    expected, elapsed = result.expected_seconds or 0.0, result.elapsed_seconds
    usual = round(min(max(expected / _POLLS_PER_RUN * 1000, _POLL_LEAST), _POLL_MOST))
    near = expected - min(max(_NEAR_END_SHARE * expected, _NEAR_END_SECONDS), expected / 2)
    return _POLL_NEAR_END if expected and near <= elapsed < _OVERDUE_SHARE * expected else usual
