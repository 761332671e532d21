"""The official clients under faults: how many predictions one call makes, as the sandbox counts them."""

from collections.abc import Iterator
from typing import Any

import fal_client
import fal_client.client
import httpx  # noqa: TID251 - the official client takes an httpx timeout
import pytest
from fal_client.client import FalClientHTTPError
from replicate.client import Client
from replicate.exceptions import ReplicateError

from rotoscope_sandbox import Sandbox

SAM2 = "fal-ai/sam2/image"


@pytest.fixture
def fal(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fal_client.SyncClient]:
    """fal's client, pointed at the sandbox, without its pauses between attempts."""
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{address}/")
    monkeypatch.setattr("fal_client.client.time.sleep", lambda _: None)
    client = fal_client.SyncClient(key="test:key", default_timeout=60)
    yield client
    client._client.close()


@pytest.fixture
def replicate(address: str) -> Iterator[Client]:
    client = Client(api_token="r8_test", base_url=address, timeout=httpx.Timeout(60))
    yield client
    client._client.close()


def counted(address: str) -> dict[str, Any]:
    counters: dict[str, Any] = httpx.get(f"{address}/sandbox/ledger").json()
    return counters


@pytest.mark.parametrize("fault", ["reset", "close", "truncated-reply"])
def test_fals_client_pays_again_for_every_lost_answer(
    fal: fal_client.SyncClient, app: Sandbox, address: str, given: Any, fault: str
) -> None:
    app.state.faults.add(fault, times=3)
    handle = fal.submit(SAM2, given("fal"))
    counters = counted(address)
    assert (len(counters["accepted"]), counters["posts"]) == (4, {"fal": 4})
    assert handle.request_id == counters["accepted"][-1]


@pytest.mark.parametrize("fault", ["reset", "close", "truncated-reply"])
def test_replicates_client_posts_once_and_loses_the_id(
    replicate: Client, app: Sandbox, address: str, given: Any, fault: str
) -> None:
    app.state.faults.add(fault, times=3)
    with pytest.raises(httpx.TransportError):
        replicate.predictions.create(**given("replicate"))
    counters = counted(address)
    assert (len(counters["accepted"]), counters["posts"]) == (1, {"replicate": 1})


def test_fals_client_raises_that_the_balance_is_exhausted(fal: fal_client.SyncClient, app: Sandbox, given: Any) -> None:
    app.state.faults.add("no-credit")
    with pytest.raises(FalClientHTTPError, match="Exhausted balance"):
        fal.submit(SAM2, given("fal"))
    assert app.state.accepted == []


def test_fals_client_follows_a_run_through_an_outage(fal: fal_client.SyncClient, app: Sandbox, given: Any) -> None:
    app.state.faults.add("status-goes-back", wire="fal", on="ask")
    handle = fal.submit(SAM2, given("fal"))
    assert isinstance(handle.status(), fal_client.Completed)
    assert isinstance(handle.status(), fal_client.InProgress)
    assert handle.get()["image"]["url"]


def test_replicates_client_knows_no_aborted(replicate: Client, app: Sandbox, given: Any) -> None:
    app.state.faults.add("provider-cancels;kind=abort")
    created = replicate.predictions.create(**given("replicate"))
    with pytest.raises(ValueError, match="aborted"):
        replicate.predictions.get(created.id)


def test_replicates_client_raises_the_providers_message(replicate: Client, app: Sandbox, given: Any) -> None:
    app.state.faults.add("no-credit", times=1)
    app.state.faults.add("input-refused", times=1)
    for text in ("Billing required", "Input validation failed"):
        with pytest.raises(ReplicateError, match=text):
            replicate.predictions.create(**given("replicate"))
    assert replicate.predictions.create(**given("replicate")).id == app.state.accepted[0]
