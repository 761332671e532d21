"""`/metrics` for Prometheus: requests and calls of this process, and the jobs and the money in the ledger.

No label holds a principal, or anything else that a caller chooses. The package that writes the format comes with
`rotoscope[server]` and is loaded when the server starts.
"""

import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope.contracts.tools import HTTP_TOOLS
from rotoscope.errors import RotoscopeError
from rotoscope.server.http.guard import Refusal
from rotoscope.server.http.health import METRICS_PATH
from rotoscope.studio.serving import Load

__all__ = ["Metrics", "MetricsAccess", "RequestMeter", "metrics_routes"]

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FRESH = {"cache-control": "no-store"}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 15.0, 45.0, 120.0)
_LOAD_SECONDS = 5.0  # for the ledger to answer
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"via")
_NOT_FOR_YOU = Refusal(
    401,
    "Send the token of ROTOSCOPE_METRICS_TOKEN as a bearer token; without one only this machine may ask, while no "
    "ROTOSCOPE_PUBLIC_URL is set.",
    {"www-authenticate": "Bearer"},
)


class Metrics:
    """The numbers of this process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each was first counted is of no use, and doubles the text
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = self._make(Counter, "http_requests_total", "Answered requests.", "route", "method", "code")
        self._request_seconds = self._make(
            Histogram, "http_request_seconds", "From a request to the end of its answer.", "route", buckets=_SECONDS
        )
        self._in_flight = self._make(Gauge, "http_requests_in_flight", "Requests that are being answered.")
        self._calls = self._make(Counter, "tool_calls_total", "Tool calls by what became of them.", "tool", "outcome")
        self._call_seconds = self._make(
            Histogram, "tool_call_seconds", "From a tool call to its answer.", "tool", buckets=_SECONDS
        )
        self._webhooks = self._make(
            Counter, "webhooks_total", "Webhooks of providers by what was made of them.", "provider", "outcome"
        )
        labels = ("provider", "sandbox")
        self._jobs = self._make(Gauge, "jobs_open", "Jobs in the ledger that have not ended.", *labels, "state")
        self._charged = self._make(Gauge, "charged_usd_today", "Charged today (UTC), as far as it is known.", *labels)
        self._held = self._make(Gauge, "held_usd_today", "What runs of today may still be charged, at most.", *labels)
        self._runs = self._make(Gauge, "runs_today", "Runs that count for today (UTC).", *labels)

    def _make(self, kind: Any, name: str, words: str, *labels: str, **options: Any) -> Any:
        return kind(f"rotoscope_{name}", words, labels, registry=self.registry, **options)

    def begin_request(self) -> None:
        """A request came in."""
        self._in_flight.inc()

    def end_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """A request was answered, or its client has gone (code 499)."""
        self._in_flight.dec()
        self._requests.labels(route, method if method in _METHODS else "other", str(code)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_webhook(self, provider: str, outcome: str) -> None:
        """A webhook came; the provider is one of those that are known, or `other`."""
        self._webhooks.labels(provider, outcome).inc()

    async def observe_call(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Count a tool call by its outcome: a middleware of the MCP server."""
        if ctx.method != "tools/call" or ctx.request_id is None:
            return await call_next(ctx)
        asked, begun, outcome = (ctx.params or {}).get("name"), time.monotonic(), "error"
        tool = asked if isinstance(asked, str) and asked in HTTP_TOOLS else "other"
        try:
            result = await call_next(ctx)
            outcome = _outcome_of(result)
        except anyio.get_cancelled_exc_class():
            outcome = "given_up"
            raise
        finally:
            self._calls.labels(tool, outcome).inc()
            self._call_seconds.labels(tool).observe(time.monotonic() - begun)
        return result

    def set_load(self, load: Load) -> None:
        """Take over what the ledger says."""
        for gauge in (self._jobs, self._charged, self._held, self._runs):
            gauge.clear()
        for jobs in load.jobs:
            self._jobs.labels(jobs.provider, _word(jobs.sandbox), jobs.state).set(jobs.count)
        for spend in load.spending:
            labels = (spend.provider, _word(spend.sandbox))
            self._charged.labels(*labels).inc(spend.charged)
            self._held.labels(*labels).inc(spend.held)
            self._runs.labels(*labels).inc(spend.runs)


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


def _outcome_of(result: HandlerResult) -> str:
    """What became of a call: a result, an error, a job or a task that goes on, or a question."""
    if not isinstance(result, Mapping):
        return "result"
    kind, structured = result.get("resultType"), result.get("structuredContent")
    if kind in ("task", "input_required"):
        return str(kind)
    if result.get("isError"):
        return "error"
    status = structured.get("status") if isinstance(structured, Mapping) else None
    return "handle" if status in ("queued", "running") else "result"


@dataclass(frozen=True, slots=True)
class RequestMeter:
    """Counts every request that passes, also those that the guard refuses."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, code = time.monotonic(), _CLIENT_GONE

        async def send_and_note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        self.metrics.begin_request()
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            # Routing has written the route into the scope: one of a few, whatever was asked for.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.end_request(route, scope["method"], code, time.monotonic() - begun)


_CLIENT_GONE = 499


@dataclass(frozen=True, slots=True)
class MetricsAccess:
    """Who may read the numbers.

    Attributes:
        token: the operator's bearer token; None: there is none.
        is_public: whether others reach this server, perhaps through a proxy on this very machine.
    """

    token: str | None
    is_public: bool

    def allows(self, scope: Scope) -> bool:
        """Whether a request may read them."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if self.token is not None and len(given) == 1:
            kind, _, token = given[0].partition(b" ")
            if kind.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token.encode()):
                return True
        is_forwarded = any(name in _FORWARDED for name, _ in scope["headers"])
        return not self.is_public and not is_forwarded and _is_local_peer(scope)


def _is_local_peer(scope: Scope) -> bool:
    try:
        return ipaddress.ip_address(scope["client"][0]).is_loopback
    except (KeyError, TypeError, ValueError):
        return False


def metrics_routes(
    metrics: Metrics, access: MetricsAccess, read_load: Callable[[], Awaitable[Load]]
) -> list[BaseRoute]:
    """The route. A ledger that does not answer leaves its numbers out.

    Args:
        metrics: the numbers.
        access: who may read them.
        read_load: asks the ledger.
    """

    async def answer(request: Request) -> Response:
        if not access.allows(request.scope):
            return _NOT_FOR_YOU.response()
        try:
            with anyio.move_on_after(_LOAD_SECONDS):
                metrics.set_load(await read_load())
        except RotoscopeError:
            metrics.set_load(Load((), ()))
        return Response(
            generate_latest(metrics.registry), media_type=_CONTENT_TYPE, headers={"cache-control": "no-store"}
        )

    return [Route(METRICS_PATH, answer)]
