"""What a provider has given for a run: which files the output names, and how long the provider keeps them."""

from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from rotoscope.jobs.context import JobContext
from rotoscope.models.outputs import ModelOutput, extract_output
from rotoscope.providers.http.egress import is_allowed_host
from rotoscope.providers.http.messages import Json
from rotoscope.store.records import Job

__all__ = ["MAX_OUTPUT_BYTES", "output_expiry", "raw_output", "read_job_output", "retention_seconds"]

MAX_OUTPUT_BYTES = 512 * 1024 * 1024
"""The most bytes of one file that are fetched."""


def raw_output(job: Job) -> Json:
    """The output of a job's run as its provider words it; None while there is none."""
    return job.provider_output.output if job.provider_output is not None else None


def read_job_output(context: JobContext, job: Job, output: Json = None) -> ModelOutput:
    """What an output holds: that of the job, or a newer one of the same run.

    Raises:
        PredictionFailed: there is no result in it.
    """
    known = raw_output(job) if output is None else output
    metrics = job.provider_output.metrics if job.provider_output is not None else {}
    found = extract_output(context.manifest(job), known, metrics, partial(_is_provider_address, context, job))
    # A notice is shown in our own voice, so only the sandbox may give one; of others it is just one field of many.
    return found if job.sandbox else replace(found, notice=None)


def _is_provider_address(context: JobContext, job: Job, url: str) -> bool:
    """Whether an address is the provider's own: on a host for its outputs, or at a base URL that the operator set."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    provider = context.provider(job)
    usual = {urlsplit(base).netloc.lower() for base in provider.bases.values()}
    named = {urlsplit(base).netloc.lower() for base in context.dialects[job.provider].bases.values()} - usual
    return is_allowed_host(host, provider.output_hosts) or parts.netloc.lower() in named


def retention_seconds(context: JobContext, job: Job) -> float:
    """Seconds for which a job's provider keeps a result after its run; a guess where it does not say."""
    return float(context.provider(job).output_seconds or context.intervals.default_result_life)


def output_expiry(context: JobContext, job: Job) -> float | None:
    """When a job's provider removes its result, in Unix seconds; None where it does not say how long it keeps it."""
    ready_at = job.provider_output.ready_at if job.provider_output is not None else None
    seconds = context.provider(job).output_seconds
    return ready_at + seconds if ready_at is not None and seconds is not None else None
