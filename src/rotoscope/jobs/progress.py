"""How far a job is, in a number and a sentence that a person can believe. Pure."""

import math
from dataclasses import replace

from rotoscope.jobs.job import Job

__all__ = ["fraction", "live"]

_START = 0.02
_MOST = 0.95


def fraction(said: float | None, elapsed: float, expected: float | None, before: float) -> float:
    """The share of the work that is done, from 0 to 1.

    Args:
        said: what the model's own logs say of its run, 0 to 1, or None.
        elapsed: seconds since the job was sent.
        expected: seconds that such a run usually takes, or None.
        before: what was told last: progress never goes back.

    It never says that all is done: only a finished job is. Without the model's word it is an estimate that slows
    down when a run takes longer than usual.
    """
    if said is not None:
        believed = min(max(said, 0.0), 1.0, _trust(elapsed, expected))
        now = _START + (_MOST - _START) * believed
    elif expected:
        now = _MOST * (1 - math.exp(-1.5 * max(elapsed, 0.0) / expected))
    else:
        now = _START
    return round(min(max(now, before), _MOST), 3)


def live(job: Job, now: float, idle: str | None = None) -> Job:
    """The job as it is at this very moment: time passes also while a provider says nothing.

    Args:
        job: as the ledger has it.
        now: Unix seconds.
        idle: why nobody drives it; then it is told instead of a progress that nobody makes.
    """
    accepted, expected, said = (_number(job.data.get(name)) for name in ("accepted_at", "expected_seconds", "said"))
    if job.final:
        return job
    if idle is not None:
        return replace(job, message=idle)
    usually = f", usually {expected:.0f} s" if expected else ""
    message = f"{job.message or 'Waiting to begin.'} {max(0.0, now - job.created_at):.0f} s so far{usually}."
    if job.stage != "watch" or accepted is None:
        return replace(job, message=message)
    return replace(job, progress=fraction(said, max(0.0, now - accepted), expected, job.progress), message=message)


def _trust(elapsed: float, expected: float | None) -> float:
    """How much of the model's word is believed: a bar that is full at once counts the loading, not the run."""
    return 0.3 + 1.5 * elapsed / expected if expected else 1.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
