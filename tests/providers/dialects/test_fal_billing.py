"""What fal tells about money: its prices, its billing events, and the units of its bill beside a result."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rotoscope.errors import InvalidInput, ProviderError, Refused
from rotoscope.providers.billing import ChargeLister, PriceLister, PublishedPrice, RunCharge
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.dialects.fal import Fal
from rotoscope.providers.http.messages import Reply
from rotoscope.providers.states import Canceled, Failed, Prediction, Ready, Succeeded, Ticket
from rotoscope.store.money import BILLED_UNITS

FAL = Fal({"api": "https://queue.fal.run", "platform": "https://api.fal.ai"})
TICKET = Ticket("r1", "fal-ai/sam2/image")
ROW = {"endpoint_id": "fal-ai/sam2/image", "unit_price": 0.005, "unit": "requests", "currency": "USD"}
EVENT = {"request_id": "r1", "endpoint_id": "fal-ai/sam2/image", "cost_estimate_nano_usd": 5_000_000}


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


def test_fal_alone_of_the_shipped_providers_lists_prices_and_charges() -> None:
    bases = {"api": "https://provider.example"}
    for protocol in (PriceLister, ChargeLister):
        assert [name for name, dialect in DIALECTS.items() if isinstance(dialect(bases), protocol)] == ["fal"]
    assert Fal(bases).list_prices(["a"]) is None
    assert Fal(bases).list_charges(["a"], 0.0) is None


def test_prices_are_asked_for_by_endpoints_fifty_at_most() -> None:
    call = FAL.list_prices([f"fal-ai/m{n}" for n in range(60)])
    assert call is not None
    parts = urlsplit(call.url)
    assert (call.method, call.with_key, parts.netloc, parts.path) == ("GET", True, "api.fal.ai", "/v1/models/pricing")
    assert parse_qs(parts.query)["endpoint_id"] == [f"fal-ai/m{n}" for n in range(50)]


def test_a_page_of_prices_is_read_and_the_next_one_asked_for() -> None:
    page = FAL.read_prices(reply({"prices": [ROW], "next_cursor": "c 2", "has_more": True}), ["fal-ai/sam2/image"])
    assert page.prices == (PublishedPrice("fal-ai/sam2/image", 0.005, "requests", "USD"),)
    assert page.next_page is not None
    asked = parse_qs(urlsplit(page.next_page.url).query)
    assert asked == {"endpoint_id": ["fal-ai/sam2/image"], "cursor": ["c 2"]}


LAST = [
    {},
    {"next_cursor": None},
    {"next_cursor": "c", "has_more": False},
    {"next_cursor": 7},
    {"next_cursor": "c" * 999},
]


@pytest.mark.parametrize("more", LAST)
def test_a_page_without_a_usable_cursor_is_the_last(more: dict[str, Any]) -> None:
    assert FAL.read_prices(reply({"prices": [ROW], **more}), ["a"]).next_page is None


@pytest.mark.parametrize("wrong", [
    {"unit_price": -1}, {"unit_price": "0.005"}, {"unit_price": True}, {"unit_price": 1e300}, {"unit_price": 10**400},
    {"unit_price": None}, {"unit": None}, {"currency": 7}, {"endpoint_id": None},
])  # fmt: skip
def test_a_row_that_is_no_price_is_left_out_and_the_others_count(wrong: dict[str, Any]) -> None:
    page = FAL.read_prices(reply({"prices": [{**ROW, **wrong}, "?", ROW]}), ["a"])
    assert [one.amount for one in page.prices] == [0.005]


def test_texts_of_a_price_are_bounded_and_hold_no_control_characters() -> None:
    (price,) = FAL.read_prices(reply({"prices": [{**ROW, "unit": "\x1b[31m" + "x" * 10_000}]}), ["a"]).prices
    assert len(price.unit) <= 101
    assert "\x1b" not in price.unit


REFUSALS = [(404, InvalidInput), (422, InvalidInput), (401, Refused), (403, Refused), (429, ProviderError)]


@pytest.mark.parametrize(("status", "error"), [*REFUSALS, (500, ProviderError), (200, ProviderError)])
def test_a_reply_without_prices_says_whether_the_endpoints_are_the_reason(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        FAL.read_prices(reply({"error": {"type": "not_found"}}, status), ["a"])


def test_charges_are_asked_for_by_runs_from_a_moment_on() -> None:
    call = FAL.list_charges(["r1", "r2"], 1_800_000_000.0)
    assert call is not None
    assert urlsplit(call.url).path == "/v1/models/billing-events"
    asked = parse_qs(urlsplit(call.url).query)
    assert (asked["request_id"], asked["start"]) == (["r1", "r2"], ["2027-01-15T08:00:00.000Z"])


@pytest.mark.parametrize("name", ["billing_events", "items"])
def test_billing_events_are_read_in_the_amount_whose_unit_is_named(name: str) -> None:
    rows = [EVENT, {**EVENT, "request_id": "another"}, {**EVENT, "cost_estimate_nano_usd": None, "cost_total": 9}, "?"]
    rows += [{**EVENT, "cost_estimate_nano_usd": one} for one in (-1, "5", True, 10**400)]
    page = FAL.read_charges(reply({name: rows}), ["r1"], 0.0)
    assert page.charges == (RunCharge("r1", 0.005),)
    assert page.next_page is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_read_billing_events_is_refused(status: int) -> None:
    with pytest.raises(Refused):
        FAL.read_charges(reply({"error": {"type": "authorization_error"}}, status), ["r1"], 0.0)


def read_result(status: int, body: Any, about: Ready, **headers: str) -> Prediction:
    return FAL.read(reply(body, status, **headers), about)


def test_the_units_of_the_bill_that_come_with_a_result_are_what_a_price_counts() -> None:
    end = read_result(200, {"image": 1}, Ready(TICKET, metrics={"inference_time": 2}), x_fal_billable_units="3.008")
    assert isinstance(end, Succeeded)
    assert end.metrics == {"inference_time": 2, "billable_units": 3.008}
    assert FAL.price_metrics[BILLED_UNITS] == "billable_units"


@pytest.mark.parametrize("text", ["", "none", "-1", "nan", "inf", "1e300", "1" * 400, "1" * 33, "1, 2"])
def test_a_header_that_holds_no_plausible_number_says_nothing(text: str) -> None:
    end = read_result(200, {"image": 1}, Ready(TICKET), x_fal_billable_units=text)
    assert isinstance(end, Succeeded)
    assert "billable_units" not in end.metrics


@pytest.mark.parametrize("known", [None, Failed(TICKET, "prediction_failed", "It failed.", charged=False)])
@pytest.mark.parametrize(("units", "charged"), [("1", True), ("0", False), ("", False)])
def test_a_failure_with_units_of_the_bill_was_charged(known: Failed | None, units: str, charged: bool) -> None:
    body = {"detail": [{"loc": ["body"], "msg": "no", "type": "value_error"}]}
    end = read_result(422, body, Ready(TICKET, failure=known), x_fal_billable_units=units)
    assert isinstance(end, Failed)
    assert end.charged is charged
    assert end.metrics.get("billable_units") == (1 if charged else None)


@pytest.mark.parametrize(("units", "charged"), [("0.5", True), ("0", False)])
def test_a_stopped_run_with_units_of_the_bill_was_charged(units: str, charged: bool) -> None:
    body = {"detail": "stopped", "error_type": "client_cancelled"}
    end = read_result(499, body, Ready(TICKET), x_fal_billable_units=units)
    assert isinstance(end, Canceled)
    assert end.charged is charged
