"""How far a job is, in a number and a sentence that a person can believe. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rotoscope.store.records import ENDED_STATES, Job

__all__ = ["combine_progress", "estimate_progress", "progress_fraction"]

_START_FRACTION = 0.02
_MAX_FRACTION = 0.95
_MAX_WAITING_FRACTION = 0.1  # the most that is shown while a run has not begun to work
_COLD_AFTER, _COLD_TIMES = 3.0, 2.0  # seconds, and lengths of a usual run: a longer wait is for a machine
_BETWEEN_NOTES, _BETWEEN_NOTES_PART = 30.0, 0.4  # seconds, and of what was watched: twice what a watch lets pass


def progress_fraction(model_progress: float | None, elapsed: float, expected: float | None, floor: float) -> float:
    """The share of the work that is done, from 0 to 1.

    Args:
        model_progress: what the model's own logs say of its run, 0 to 1, or None.
        elapsed: seconds since the job was sent.
        expected: seconds that such a run usually takes, or None.
        floor: what was shown last: progress never goes back.

    It never says that all is done: only a finished job is. Without the model's own number it is an estimate that slows
    down when a run takes longer than usual.
    """
    if model_progress is not None:
        believed = min(max(model_progress, 0.0), 1.0, _max_believable(elapsed, expected))
        now = _START_FRACTION + (_MAX_FRACTION - _START_FRACTION) * believed
    elif expected:
        now = _MAX_FRACTION * (1 - math.exp(-1.5 * max(elapsed, 0.0) / expected))
    else:
        now = _START_FRACTION
    return round(min(max(now, floor), _MAX_FRACTION), 3)


def estimate_progress(job: Job, now: float, idle: str | None = None) -> Job:
    """The job as it is at this very moment: time passes also while a provider says nothing.

    Args:
        job: as the ledger has it.
        now: Unix seconds.
        idle: why no process drives it; then that is the message, and its progress stays.
    """
    if job.is_final:
        return job
    if idle is not None:
        return replace(job, message=idle)
    elapsed = _running_seconds(job, now) if job.stage == "watch" else None
    expected = job.plan.expected_seconds
    cold = None if elapsed is None else _cold_start_seconds(job, elapsed, expected or 0.0)
    usually = f", usually {expected:.0f} s" if expected else ""
    message = f"{job.message or 'Waiting to begin.'} {_total_seconds(job, now, elapsed):.0f} s so far{usually}."
    if elapsed is None:
        return replace(job, message=message)
    if cold is not None:
        message = f"{message} A machine is probably being started for the model, which takes about {cold:.0f} s."
        job = replace(job, plan=replace(job.plan, expected_seconds=(expected or 0.0) + cold))
    return replace(job, progress=_estimate_fraction(job, elapsed, expected), message=message)


def combine_progress(job: Job, awaited: Sequence[Job]) -> Job:
    """A job as the whole of a chain: its progress is that of all its steps, by how long each takes, and its message
    tells the step.

    Args:
        job: the last job of the chain, as it is at this moment.
        awaited: the jobs that it takes outputs of, in their order, as they are at this moment.
    """
    if job.is_final or not awaited:
        return job
    chain = (*awaited, job)
    lengths = [one.plan.expected_seconds or 1.0 for one in chain]
    shares = [1.0 if one.state in ENDED_STATES else one.progress for one in chain]
    done = sum(share * length for share, length in zip(shares, lengths, strict=True)) / sum(lengths)
    at = next(n for n, one in enumerate(chain) if one.state not in ENDED_STATES)
    words = chain[at].message if at < len(awaited) or job.stage != "gather" else "What it waited for is there."
    message = f"step {at + 1} of {len(chain)}, {chain[at].tool}: {words}"
    plan = replace(job.plan, expected_seconds=sum(one.plan.expected_seconds or 0.0 for one in chain) or None)
    return replace(job, progress=round(min(done, _MAX_FRACTION), 3), message=message, plan=plan)


def _estimate_fraction(job: Job, elapsed: float, expected: float | None) -> float:
    """Only work is progress: a run that waits in a queue or for a machine has hardly begun."""
    began = job.watch.working_at
    if began is None:
        length = max(job.plan.cold_start_seconds or 0.0, expected or 0.0, 1.0)
        return round(
            max(
                _START_FRACTION + (_MAX_WAITING_FRACTION - _START_FRACTION) * (1 - math.exp(-elapsed / length)),
                job.progress,
            ),
            3,
        )
    return progress_fraction(job.watch.model_progress, elapsed - began, expected, job.progress)


def _cold_start_seconds(job: Job, elapsed: float, expected: float) -> float | None:
    """How long the model's machine takes to start, where the run seems to wait for that; else None."""
    cold = job.plan.cold_start_seconds
    return cold if job.watch.working_at is None and elapsed > max(_COLD_AFTER, _COLD_TIMES * expected) else None


def _running_seconds(job: Job, now: float) -> float | None:
    """Seconds since a run was accepted, as far as they were seen to pass; None where it was not.

    The wall clock counts only since the last note, and no more than lies between two notes: it may have been set.
    """
    watched, noted, accepted = job.watch.seconds, job.watch.noted_at, _accepted_at(job)
    if watched is None or noted is None:
        return None if accepted is None else max(0.0, now - accepted)
    return watched + min(max(now - noted, 0.0), max(_BETWEEN_NOTES, _BETWEEN_NOTES_PART * watched))


def _total_seconds(job: Job, now: float, elapsed: float | None) -> float:
    accepted = _accepted_at(job)
    if elapsed is None or accepted is None:
        return max(0.0, now - job.created_at)
    return max(0.0, accepted - job.created_at) + elapsed


def _max_believable(elapsed: float, expected: float | None) -> float:
    """How much of the model's own progress is believed: a bar that is full at once counts the loading, not the run."""
    return 0.3 + 1.5 * elapsed / expected if expected else 1.0


def _accepted_at(job: Job) -> float | None:
    return job.accepted.at if job.accepted is not None else None
