"""How long a provider keeps a result, and how long a run was watched: time that was seen to pass, never a date.

A wall clock may be set, and another host has another one. So what decides about a run counts seconds of the monotonic
clock, adds them up in the ledger, and takes the time in which nobody watched for no time at all.
"""

from dataclasses import dataclass

import anyio

from rotoscope.jobs.context import JobContext
from rotoscope.providers.runner import PollHistory
from rotoscope.store.records import Job

__all__ = ["Stopwatch", "expiry", "poll_history_of", "retention_seconds"]

_NOTE_EVERY, _NOTE_PART = 15.0, 0.2  # seconds, and of what was watched: so much is forgotten by a kill, at most


@dataclass(slots=True)
class Stopwatch:
    """Counts the seconds for which a run was watched, by this process and those before it."""

    earlier_seconds: float
    started_at: float

    @classmethod
    def from_job(cls, job: Job) -> "Stopwatch":
        """Go on where the ledger says that the last process stopped."""
        return cls(max(job.watch.seconds or 0.0, 0.0), anyio.current_time())

    @property
    def seconds(self) -> float:
        """The seconds that were seen to pass."""
        return self.earlier_seconds + anyio.current_time() - self.started_at

    @property
    def note_interval(self) -> float:
        """Seconds until they are worth a note in the ledger."""
        return max(_NOTE_EVERY, _NOTE_PART * self.seconds)


def retention_seconds(context: JobContext, job: Job) -> float:
    """Seconds for which a job's provider keeps a result after its run."""
    return float(context.provider(job).output_seconds or context.intervals.default_result_life)


def expiry(context: JobContext, job: Job) -> float | None:
    """When a job's provider removes its result, in Unix seconds; None where it does not say how long it keeps it."""
    ready = job.provider_output.ready_at if job.provider_output is not None else None
    seconds = context.provider(job).output_seconds
    return ready + seconds if ready is not None and seconds is not None else None


def poll_history_of(job: Job) -> PollHistory:
    """How the provider has answered until now, as the ledger has it."""
    return PollHistory(was_found=job.watch.was_found, silent_seconds=job.watch.silent_seconds)
