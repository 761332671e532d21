"""Delivery: wait for a job as long as this client bears it, with progress, then answer with what there is."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from rotoscope.contracts.arguments import LONGEST_WAIT
from rotoscope.contracts.results import JobResult
from rotoscope.store.records import Job

__all__ = ["ProgressReporter", "capability_names", "client_name", "with_poll_hint"]

_REPORT_SECONDS = 0.95  # changes are looked for once a second: one that comes a little early is not put off
_FIRST_REPORT_SECONDS = 0.8  # after the request came in: it is on its way for some of the first second
_STARTING = "rotoscope is starting."
_MIN_INCREMENT, _MAX_IDLE_PROGRESS = 0.00005, 0.99
_SHORTEST_PAUSE, _LONGEST_PAUSE = 3.0, 120.0  # seconds
_BACKGROUND_NOTE = (
    "It goes on by itself, also when a call is given up or after a reconnect; only cancel_job stops it. If you cannot "
    "wait, tell the user the job id."
)


def client_name(context: Context[Any, Any]) -> str | None:
    """What the client calls itself; None when it does not say."""
    params = context.request_context.session.client_params
    return params.client_info.name if params is not None else None


def capability_names(context: Context[Any, Any]) -> frozenset[str]:
    """The names of the capabilities that a client declares."""
    said = context.client_capabilities
    return frozenset() if said is None else frozenset(said.model_dump(exclude_none=True))


def with_poll_hint(result: JobResult, seconds: float, wanted: float = 0.0) -> JobResult:
    """A job that still runs, with a next step of how and when to look again: asking endlessly costs people money.

    Args:
        result: any result.
        seconds: how long this client bears a `get_job`.
        wanted: how long it was to wait, which may have been more.
    """
    if not result.job_id or result.status not in ("queued", "running"):
        return result
    most = min(seconds, LONGEST_WAIT)
    wait = f"wait_seconds {most:.0f}" if seconds >= 1 else "no wait_seconds"
    cut = " (more is cut to that: this client may give up)" if wanted > most else ""
    step = f"Call get_job with job_id {result.job_id} and {wait}{cut}{_poll_timing(result, most)}. {_BACKGROUND_NOTE}"
    return result.model_copy(update={"next_step": step})


def _poll_timing(result: JobResult, seconds: float) -> str:
    """When a look is worth a turn: when it can see the end, else after a time that grows with how long it takes."""
    left = (result.expected_seconds or 0.0) - result.elapsed_seconds
    if left > 0:
        pause, words = left - seconds, f"; it should take {left:.0f} s more"
    else:
        pause, words = min(result.elapsed_seconds / 2, _LONGEST_PAUSE) - seconds, ""
    return f", in about {pause:.0f} s{words}" if pause >= _SHORTEST_PAUSE else words


@dataclass(slots=True)
class ProgressReporter:
    """Tells a client how its call gets on: strictly more each time, about once a second, the job's id as soon as it is.

    Attributes:
        activity: what goes on before there is a job, in words; it may change.
    """

    send: Callable[[float, float | None, str | None], Awaitable[None]]
    clock: Callable[[], float] = time.monotonic
    activity: str = _STARTING
    _last_progress: float = field(default=-1.0, init=False)
    _last_report_at: float = field(default=float("-inf"), init=False)
    _has_job: bool = field(default=False, init=False)

    async def report_job(self, job: Job) -> None:
        """Report a change of the job, if it is one and the last report is not too fresh."""
        first, self._has_job = not self._has_job, True
        said = f"job {job.id}: {job.message or job.state}" if first else job.message
        await self._send_progress(job.progress, said, at_once=first)

    async def report_until_job(
        self, started_at: float, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        """Until there is a job to tell of: a first word within a second after the request came, then one a second.

        Args:
            started_at: when it came, in seconds of the clock.
            sleep: waits some seconds.
        """
        while not self._has_job:
            due = max(started_at + _FIRST_REPORT_SECONDS, self._last_report_at + _REPORT_SECONDS)
            await sleep(max(due - self.clock(), 0.0))
            if not self._has_job:
                await self._send_progress(0.0, f"{self.activity} {self.clock() - started_at:.0f} s so far.")

    async def _send_progress(self, share: float, words: str | None, *, at_once: bool = False) -> None:
        now = self.clock()
        if now - self._last_report_at < _REPORT_SECONDS and not at_once:
            return
        # A sign of life also where nothing moves: clients give up on silence, and the protocol wants more each time.
        progress = max(share, min(self._last_progress + _MIN_INCREMENT, _MAX_IDLE_PROGRESS))
        if progress <= self._last_progress:
            return
        self._last_progress, self._last_report_at = progress, now
        await self.send(progress, 1.0, words)
