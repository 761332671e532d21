"""What an answer adds to a job's result: what became of the very wish that was answered."""

from rotoscope.contracts.results import JobResult
from rotoscope.jobs.job import Job, Opening

__all__ = ["cancelled", "joined"]


def joined(result: JobResult, begun: Opening) -> JobResult:
    """The answer to a request that had a job already."""
    words = "An equal request had opened this job before; nothing was sent or paid again."
    if begun.told_before:
        words = (
            "An equal request was answered with this result before, perhaps too late to be heard, so it is told once "
            "more: nothing was sent or paid. The next equal request after this answer is a new run; one that is "
            "changed, such as by another seed, is one at once."
        )
    return _noted(result, words)


def cancelled(result: JobResult, before: Job) -> JobResult:
    """The answer to a wish to cancel says what became of the wish."""
    if before.state == "needs_review":
        return _noted(result, "It waits for a person's review: nothing was cancelled.")
    if before.final:
        return _noted(result, "It had ended before: nothing was cancelled.")
    if result.status in ("queued", "running", "needs_review"):
        return _noted(result, "A cancel was asked for, and is not confirmed yet; get_job says what becomes of it.")
    return result if result.status == "cancelled" else _noted(result, "It ended before it could be cancelled.")


def _noted(result: JobResult, words: str) -> JobResult:
    return result.model_copy(update={"warnings": [*result.warnings, words]})
