"""Traces of jobs: one trace a job, whichever processes drive it.

The trace's id is the job's id, which has as many bits. So every process adds its spans to the same trace without a word
between them, and whoever knows a job's id finds its trace. The span of the whole job is written by the process that
ends it; the stages name it as their parent before it is there, which tracing systems take.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from rotoscope.store.records import Job

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

__all__ = ["JobTracer", "NoTracer", "OpenTelemetryTracer", "make_tracer_provider"]

_NANOSECONDS = 1_000_000_000
_SPAN_ID_DIGITS = 16

# The ids that the next span gets, a trace's and a span's own; none: they are drawn.
_FIXED_IDS: ContextVar[tuple[int, int] | None] = ContextVar("fixed_ids", default=None)


class JobTracer(Protocol):
    """Takes what a trace of a job shows."""

    def trace_stage(self, job: Job) -> AbstractContextManager[None]:
        """A span around one run of the stage that a job is in."""
        ...

    def trace_end(self, job: Job) -> None:
        """The span of the whole job, which has ended."""
        ...


class NoTracer:
    """Takes nothing: no traces are configured."""

    def trace_stage(self, job: Job) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's signature
        """Nothing."""
        return nullcontext()

    def trace_end(self, job: Job) -> None:
        """Nothing."""


class OpenTelemetryTracer:
    """Gives the spans to OpenTelemetry. Prompts, addresses and principals are in none of them.

    Args:
        provider: where spans go; `make_tracer_provider` makes it.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("rotoscope")

    @contextmanager
    def trace_stage(self, job: Job) -> Iterator[None]:
        """A child of the job's own span; what the stage sends is a child of it."""
        parent = _context_of_job(job.id)
        with self._tracer.start_as_current_span(job.stage, context=parent, attributes=_attributes_of(job)):
            yield

    def trace_end(self, job: Job) -> None:
        """A span from the job's opening to its end."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode

        token = _FIXED_IDS.set(_ids_of_job(job.id))
        try:
            span = self._tracer.start_span(
                job.tool, Context(), attributes=_attributes_of(job), start_time=_nanoseconds(job.created_at)
            )
        finally:
            _FIXED_IDS.reset(token)
        if job.state == "failed":
            span.set_status(Status(StatusCode.ERROR, job.error.code if job.error is not None else None))
        span.end(_nanoseconds(job.finished_at or job.updated_at))


def make_tracer_provider(processor: "SpanProcessor", version: str) -> "TracerProvider":
    """Where spans go: to a processor, which exports them.

    Args:
        processor: such as `BatchSpanProcessor(OTLPSpanExporter())`.
        version: of rotoscope.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class JobIds(RandomIdGenerator):
        """Draws ids, unless those of a job are set."""

        def generate_trace_id(self) -> int:
            fixed = _FIXED_IDS.get()
            return super().generate_trace_id() if fixed is None else fixed[0]

        def generate_span_id(self) -> int:
            fixed = _FIXED_IDS.get()
            return super().generate_span_id() if fixed is None else fixed[1]

    resource = Resource.create({"service.name": "rotoscope", "service.version": version})
    provider = TracerProvider(resource=resource, id_generator=JobIds())
    provider.add_span_processor(processor)
    return provider


def _ids_of_job(job_id: str) -> tuple[int, int]:
    """The ids of a job's trace and of its own span: its 32 hex digits, and the first half of them; zero is no id."""
    return int(job_id, 16) or 1, int(job_id[:_SPAN_ID_DIGITS], 16) or 1


def _context_of_job(job_id: str) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace_id, span_id = _ids_of_job(job_id)
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _attributes_of(job: Job) -> Mapping[str, str | bool]:
    return {
        "rotoscope.job.id": job.id,
        "rotoscope.job.state": job.state,
        "rotoscope.tool": job.tool,
        "rotoscope.provider": job.provider,
        "rotoscope.sandbox": job.sandbox,
        "gen_ai.request.model": job.model,
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)
