"""Delivery: wait for a job as long as this client bears it, with progress, then answer with what there is."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver import Context

from rotoscope.contracts.arguments import LONGEST_WAIT
from rotoscope.contracts.results import JobResult
from rotoscope.jobs.job import Job

__all__ = ["Teller", "client_name", "looked_again"]

_EVERY_SECONDS, _SILENT_SECONDS = 1.0, 5.0
_CREEP, _NEARLY = 0.0002, 0.99


def client_name(context: Context[Any, Any]) -> str | None:
    """What the client calls itself; None when it does not say."""
    params = context.request_context.session.client_params
    return params.client_info.name if params is not None else None


def looked_again(result: JobResult, seconds: float) -> JobResult:
    """A job that still runs, with a next step of how and when to look again: asking endlessly costs people money.

    Args:
        result: any result.
        seconds: how long this client bears a call.
    """
    if result.dry_run or result.status not in ("queued", "running"):
        return result
    wait = f"wait_seconds {min(seconds, LONGEST_WAIT):.0f}" if seconds >= 1 else "no wait_seconds"
    left = (result.expected_seconds or 0.0) - result.elapsed_seconds
    when = f"; it should take {left:.0f} s more" if left > seconds else ""
    return result.model_copy(update={"next_step": f"Call get_job with job_id {result.job_id} and {wait}{when}."})


@dataclass(slots=True)
class Teller:
    """Tells a client of a job's progress: strictly more each time, about once a second, the job's id first."""

    report: Callable[[float, float | None, str | None], Awaitable[None]]
    clock: Callable[[], float] = time.monotonic
    _told: float = field(default=-1.0, init=False)
    _told_at: float = field(default=float("-inf"), init=False)

    async def tell(self, job: Job) -> None:
        """Report a change, if it is one and the last report is not too fresh."""
        now, progress = self.clock(), job.progress
        if now - self._told_at >= _SILENT_SECONDS:
            # A sign of life: clients give up on silence, and the protocol wants more each time.
            progress = max(progress, min(self._told + _CREEP, _NEARLY))
        if progress <= self._told or now - self._told_at < _EVERY_SECONDS:
            return
        first = self._told < 0
        self._told, self._told_at = progress, now
        await self.report(progress, 1.0, f"job {job.id}: {job.message or job.state}" if first else job.message)
