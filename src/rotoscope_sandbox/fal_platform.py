"""fal's platform API: the price list, and what each request was billed.

Its errors have a form of their own: `{"error": {"type": ..., "message": ...}}`.
"""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.billing import listed_price
from rotoscope_sandbox.core import (
    Core,
    Endpoint,
    ErrorResponse,
    integer_parameter,
    make_routes,
    time_parameter,
    utc_time,
)
from rotoscope_sandbox.predictions import JsonObject, Prediction

__all__ = ["platform_routes"]

_WIRE = "fal"
_MOST_IDS = 50
_MOST_EVENTS = 10_000
_DAY = 24 * 3600.0
_NANO = 1_000_000_000


def platform_routes(core: Core) -> list[Route]:
    """Every route; in front of everything with placeholders in its path."""
    rows: list[tuple[str, str, str, Endpoint]] = [
        ("fal:other", "GET", "/v1/models/pricing", _list_prices),
        ("fal:other", "GET", "/v1/models/billing-events", _list_billing_events),
    ]
    return make_routes(core, rows, _check_key)


def _platform_error(status: int, kind: str, message: str) -> ErrorResponse:
    return ErrorResponse(status, {"error": {"type": kind, "message": message}})


def _check_key(request: Request) -> None:
    """Any key will do, but there must be one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "key" or not key.strip():
        raise _platform_error(401, "authorization_error", "Authentication is required.")


def _ids(request: Request, name: str, *, least: int) -> list[str]:
    """The values of a parameter that is given several times, or once with commas."""
    found = [one.strip() for value in request.query_params.getlist(name) for one in value.split(",")]
    named = [one for one in found if one]
    if not least <= len(named) <= _MOST_IDS:
        raise _platform_error(422, "validation_error", f"Give {least} to {_MOST_IDS} values of {name}.")
    return named


async def _list_prices(core: Core, request: Request) -> Response:
    endpoints = _ids(request, "endpoint_id", least=1)
    for one in endpoints:
        if core.model(_WIRE, one) is None:
            raise _platform_error(404, "not_found", f"There is no endpoint {one[:100]}.")
    prices = [(one, *listed_price(one)) for one in endpoints]
    rows = [{"endpoint_id": one, "unit_price": usd, "unit": unit, "currency": "USD"} for one, usd, unit in prices]
    return JSONResponse({"prices": rows, "next_cursor": None, "has_more": False})


async def _list_billing_events(core: Core, request: Request) -> Response:
    """What was billed, the latest first; without a time, in the last 24 hours."""
    wanted, endpoints = _ids(request, "request_id", least=0), _ids(request, "endpoint_id", least=0)
    start, end = time_parameter(request, "start"), time_parameter(request, "end")
    since = core.clock() - _DAY if start is None else start
    limit = min(integer_parameter(request, "limit", 1000), _MOST_EVENTS)
    skip = integer_parameter(request, "cursor", 0)
    known: Iterable[Prediction | None] = map(core.store.get, wanted) if wanted else core.recent(_WIRE)
    ended = [(one, one.end_time(core.clock())) for one in known if one is not None and one.request.wire == _WIRE]
    fitting = [
        (one, at)
        for one, at in ended
        if at is not None
        and at >= since
        and (end is None or at < end)
        and (not endpoints or one.request.model in endpoints)
    ]
    rows = [row for one, at in fitting if (row := _event(core, one, at)) is not None]
    return JSONResponse(
        {
            "billing_events": rows[skip : skip + limit],
            "next_cursor": str(skip + limit) if skip + limit < len(rows) else None,
            "has_more": skip + limit < len(rows),
        }
    )


def _event(core: Core, known: Prediction, at: float) -> JsonObject | None:
    """The event of a request; None where nothing was billed."""
    bill = core.bill(known)
    if bill.units == 0:
        return None
    return {
        "request_id": known.request.id,
        "endpoint_id": known.request.model,
        "timestamp": utc_time(at),
        "output_units": bill.units,
        "unit_price": bill.unit_usd,
        "percent_discount": 0,
        "cost_subtotal": bill.usd,
        "cost_discount": 0,
        "cost_total": bill.usd,
        "cost_estimate_nano_usd": round(bill.usd * _NANO),
    }
