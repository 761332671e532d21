"""`/healthz`: the process lives. `/readyz`: it can take calls; else why not, in words. Both say it to anybody."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rotoscope.errors import RotoscopeError
from rotoscope.server.http.drain import Drain

__all__ = ["HEALTH_PATH", "METRICS_PATH", "READY_PATH", "Health", "health_routes", "missing_metrics_route"]

HEALTH_PATH, READY_PATH, METRICS_PATH = "/healthz", "/readyz", "/metrics"
_CHECK_SECONDS = 5.0
_FRESH = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Health:
    """What the routes need.

    Attributes:
        drain: says when the process is ending.
        check: asks the ledger and the vault; raises where one does not answer.
    """

    drain: Drain
    check: Callable[[], Awaitable[None]]


def health_routes(health: Health) -> list[BaseRoute]:
    """Both routes; neither says anything that a stranger may not know."""

    async def answer_alive(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_FRESH)

    async def answer_ready(_: Request) -> Response:
        reason = await _find_obstacle(health)
        words = "ready\n" if reason is None else f"{reason}\n"
        return PlainTextResponse(words, 200 if reason is None else 503, _FRESH)

    return [Route(HEALTH_PATH, answer_alive), Route(READY_PATH, answer_ready)]


async def _find_obstacle(health: Health) -> str | None:
    """Why no call can be taken; None where calls can be. Places and addresses stand in the log, not here."""
    if health.drain.is_draining:
        return "The server is ending."
    try:
        with anyio.fail_after(_CHECK_SECONDS):
            await health.check()
    except TimeoutError:
        return f"The ledger or the vault does not answer within {_CHECK_SECONDS:g} s."
    except RotoscopeError as error:
        return f"The ledger or the vault cannot be used ({error.code}); the log says why."
    return None


def missing_metrics_route() -> BaseRoute:
    """What stands for the metrics where the package that writes them is not installed."""

    async def answer(_: Request) -> Response:
        return PlainTextResponse("Install rotoscope[server] to have metrics.\n", 501, _FRESH)

    return Route(METRICS_PATH, answer)
