"""What fal tells about money: its prices, what runs were charged, and how many units of its bill a run took.

Facts: `GET /v1/models/pricing` and `GET /v1/models/billing-events` of fal's platform API; both take 1 to 50 ids and the
key. The unit of a price is free text. Billing events need a key with more rights than a run does. The header
`x-fal-billable-units` comes with a result and counts in the unit of the price; no page of fal's tells of it, clients
read it.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from rotoscope.contracts.times import timestamp
from rotoscope.providers.billing import ChargePage, PricePage, PublishedPrice, RunCharge
from rotoscope.providers.dialects.error_map import invalid_input_error, poll_error
from rotoscope.providers.dialects.provider_text import clean_line, header_number
from rotoscope.providers.http.messages import HttpCall, Json, Reply, safe_id
from rotoscope.providers.recent import find_rows, object_rows

__all__ = ["billable_units", "build_charge_call", "build_price_call", "read_charge_page", "read_price_page"]

_MOST_IDS = 50
_MOST_ROWS = 1000  # of a page
_MAX_TEXT = 100  # characters of an endpoint's unit or currency
_MAX_NUMBER_TEXT = 32  # characters of a header with a number
_MAX_AMOUNT = 1e9  # of units, or of money
_MAX_CURSOR = 500  # characters
_NANO = 1_000_000_000
_UNKNOWN_ENDPOINT = frozenset({400, 404, 422})


def billable_units(reply: Reply) -> Mapping[str, Json]:
    """How many units of fal's bill a run took, as a metric; empty where no header says so in a plausible number."""
    text = reply.headers.get("x-fal-billable-units", "")
    units = header_number(text) if len(text) <= _MAX_NUMBER_TEXT else None
    return {} if units is None or not 0 <= units < _MAX_AMOUNT else {"billable_units": units}


def build_price_call(platform: str, endpoints: Sequence[str], cursor: str | None = None) -> HttpCall:
    """Build the request for the prices of some endpoints."""
    asked = [("endpoint_id", name) for name in endpoints[:_MOST_IDS]]
    return _platform_call(platform, "pricing", asked, cursor)


def read_price_page(reply: Reply, platform: str, endpoints: Sequence[str]) -> PricePage:
    """Read a page of prices (see `PriceLister.read_prices`)."""
    rows = find_rows(reply.fields(), "prices")
    if reply.status in _UNKNOWN_ENDPOINT:
        raise invalid_input_error(reply, "The provider publishes no price of this.", "Check the endpoint's name.")
    if not reply.is_success or rows is None:
        raise poll_error(reply)
    found = (_read_price(row) for row in rows[:_MOST_ROWS] if isinstance(row, dict))
    cursor = _next_cursor(reply)
    return PricePage(
        tuple(one for one in found if one is not None),
        build_price_call(platform, endpoints, cursor) if cursor else None,
    )


def _read_price(row: Mapping[str, Json]) -> PublishedPrice | None:
    name, unit, currency = (row.get(key) for key in ("endpoint_id", "unit", "currency"))
    amount = _amount_from(row.get("unit_price"), _MAX_AMOUNT)
    if amount is None or not (isinstance(name, str) and isinstance(unit, str) and isinstance(currency, str)):
        return None
    return PublishedPrice(name, amount, clean_line(unit, _MAX_TEXT), clean_line(currency, _MAX_TEXT))


def build_charge_call(platform: str, run_ids: Sequence[str], since: float, cursor: str | None = None) -> HttpCall:
    """Build the request for the billing events of some runs; without a start fal looks one day back only."""
    asked = [("request_id", name) for name in run_ids[:_MOST_IDS]]
    asked += [("start", timestamp(since, "milliseconds")), ("limit", str(_MOST_ROWS))]
    return _platform_call(platform, "billing-events", asked, cursor)


def read_charge_page(reply: Reply, platform: str, run_ids: Sequence[str], since: float) -> ChargePage:
    """Read a page of billing events (see `ChargeLister.read_charges`). Only an amount whose unit is named is money."""
    fields = reply.fields()
    if not reply.is_success or find_rows(fields, "billing_events", "items") is None:
        raise poll_error(reply)
    charges = []
    for row in object_rows(fields, "billing_events", "items")[:_MOST_ROWS]:
        name, nano = safe_id(row.get("request_id")), row.get("cost_estimate_nano_usd")
        if name is not None and name in run_ids and (amount := _amount_from(nano, _MAX_AMOUNT * _NANO)) is not None:
            charges.append(RunCharge(name, amount / _NANO))
    cursor = _next_cursor(reply)
    return ChargePage(tuple(charges), build_charge_call(platform, run_ids, since, cursor) if cursor else None)


def _platform_call(platform: str, what: str, asked: Sequence[tuple[str, str]], cursor: str | None) -> HttpCall:
    query = urlencode([*asked, *([("cursor", cursor)] if cursor else [])])
    return HttpCall("GET", f"{platform.rstrip('/')}/v1/models/{what}?{query}")


def _next_cursor(reply: Reply) -> str | None:
    """The cursor of the next page; None after the last, and for one that cannot go into a query."""
    cursor = reply.fields().get("next_cursor")
    if not isinstance(cursor, str) or not 0 < len(cursor) <= _MAX_CURSOR or reply.fields().get("has_more") is False:
        return None
    return cursor if cursor.isprintable() else None


def _amount_from(value: Json, most: float) -> float | None:
    """A number that can be an amount; None for any other value, also one that is negative or beyond all reason."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < most else None
