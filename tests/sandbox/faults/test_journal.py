"""Action the sandbox counts, for whoever watches from another process."""

from pathlib import Path
from typing import Any

import pytest

from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = pytest.mark.anyio


async def test_the_ledger_counts_posts_predictions_and_cancels(wire_client: Any, slow_app: Sandbox, clock: Any) -> None:
    slow_app.state.faults.add("server-error", wire="fal", times=1)
    slow_app.state.faults.add("throttled", wire="fal", times=1)
    async with wire_client("fal", slow_app) as one:
        assert (await one.submit()).status_code == 500
        assert (await one.submit()).status_code == 429
        clock.now += 1
    async with wire_client("gateway", slow_app) as one:
        accepted = await one.submit_accepted()
        await one.cancel(accepted)
        ledger = (await one.client.get("/sandbox/ledger")).json()
    assert ledger["accepted"] == slow_app.state.accepted
    assert (ledger["paid"], ledger["posts"], ledger["cancels"]) == (2, {"fal": 2, "gateway": 1}, 1)
    assert ledger["predictions"][0] == {
        "id": accepted["id"],
        "wire": "replicate",
        "model": "bytedance/sa2va-4b-image",
        "created": clock.now,
        "stage": "canceled",
        "charged_usd": 0.0,
    }
    assert len(ledger["predictions"]) == 2


async def test_a_sandbox_that_shares_the_folder_sees_the_predictions_but_has_its_own_counts(
    wire_client: Any, app: Sandbox, folder: Path, clock: Any
) -> None:
    async with wire_client("replicate") as one:
        await one.submit_accepted()
    async with wire_client("replicate", build_sandbox(folder, pace=0, clock=clock)) as other:
        ledger = (await other.client.get("/sandbox/ledger")).json()
    assert (ledger["accepted"], ledger["paid"], ledger["posts"]) == ([], 0, {})
    assert [row["id"] for row in ledger["predictions"]] == app.state.accepted
