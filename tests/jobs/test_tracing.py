"""Traces: one a job, whichever processes drive it; and a collector that gets them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from calls import SECONDS, segment_arguments, start_job
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rotoscope.jobs.tracing import OpenTelemetryTracer, make_tracer_provider
from rotoscope.store.records import Job
from rotoscope.studio.studio import Studio


class Process:
    """What one process traces."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider: TracerProvider = make_tracer_provider(SimpleSpanProcessor(self.exporter), "1")
        self.tracer = OpenTelemetryTracer(self.provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


@pytest.fixture
async def job(studio: Studio, photo: Path) -> Job:
    return await start_job(studio, segment_arguments(photo))


@pytest.mark.anyio
async def test_two_processes_that_drive_a_job_write_one_trace(job: Job) -> None:
    first, second = Process(), Process()
    with first.tracer.trace_stage(job), first.provider.get_tracer("below").start_as_current_span("POST"):
        pass
    with second.tracer.trace_stage(replace(job, stage="watch")):
        pass
    second.tracer.trace_end(replace(job, state="succeeded", stage="done", finished_at=job.created_at + 9.0))
    sent, prepare = first.spans
    watch, whole = second.spans
    contexts = [span.context for span in (sent, prepare, watch, whole)]
    assert all(one is not None and f"{one.trace_id:032x}" == job.id for one in contexts)
    assert (prepare.name, watch.name, whole.name) == (job.stage, "watch", "segment_image")
    assert whole.parent is None
    assert whole.context is not None
    assert {span.parent.span_id for span in (prepare, watch) if span.parent} == {whole.context.span_id}
    assert whole.start_time is not None
    assert whole.end_time == whole.start_time + 9_000_000_000


@pytest.mark.anyio
async def test_a_job_that_fails_has_a_span_that_failed(job: Job) -> None:
    here = Process()
    here.tracer.trace_end(replace(job, state="failed", finished_at=job.created_at + 1.0))
    (whole,) = here.spans
    assert not whole.status.is_ok


class Collector(ThreadingHTTPServer):
    """Takes traces over HTTP, as a collector of OpenTelemetry does."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.received.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(SECONDS)


@pytest.mark.slow
def test_a_collector_that_the_environment_names_gets_every_stage(
    collector: Collector, photo: Path, home: Path, tmp_path: Path
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"),
        "ROTOSCOPE_SANDBOX_WEIGHTS": str(tmp_path / "none.onnx"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    asked = json.dumps({"image": photo.name, "instruction": "the helmet"})
    done = subprocess.run(
        [sys.executable, "-m", "rotoscope", "call", "segment_image", "--json", asked],
        env=environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages = [ExportTraceServiceRequest.FromString(one) for one in collector.received]
    spans = [
        span
        for message in messages
        for of in message.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]
    assert {"prepare", "submit", "watch", "fetch", "finish", "segment_image"} <= {span.name for span in spans}
    assert len({span.trace_id for span in spans}) == 1
    assert b"helmet" not in b"".join(collector.received)
