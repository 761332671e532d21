"""What ended runs were charged, read back from a provider's billing events into the account and into their jobs."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls import StudioOpener, perform
from fal_platform import FAL, FalPlatform
from scripted_provider import ScriptedProvider

from rotoscope.contracts.arguments import SegmentImage
from rotoscope.jobs.charges import ChargesRead
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.plan import plan_call
from rotoscope.settings import Settings, read_settings
from rotoscope.store.money import RunCost, UnitPrice, settlement
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio

MODEL = "fal-ai/sam2/image"
Rows = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def fal(sandbox: Sandbox) -> FalPlatform:
    return FalPlatform(sandbox)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return read_settings({**environment, **FAL})


@pytest.fixture
def rows(settings: Settings) -> Rows:
    def execute(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
            return ledger.execute(query).fetchall()

    return execute


async def run(studio: Studio, photo: Path, x: int = 9) -> str:
    asked = {"image": str(photo), "points": [{"x": x, "y": 9}], "model": MODEL}
    result = await perform(studio, SegmentImage.model_validate(asked))
    assert result.status == "succeeded"
    return result.job_id


def event(run_id: str, usd: float = 0.0042) -> dict[str, Any]:
    return {"request_id": run_id, "endpoint_id": MODEL, "cost_estimate_nano_usd": round(usd * 1e9)}


UNKNOWN = "UPDATE reservations SET charged = NULL, committed = reserved"
"""As it is where fal has measured nothing: the sandbox measures each run."""


async def test_a_charge_that_billing_events_tell_is_written_once_into_account_and_job(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows
) -> None:
    async with opened(settings, fal) as studio:
        job_id = await run(studio, photo)
        rows(UNKNOWN)
        ((run_id,),) = rows("SELECT prediction_id FROM runs")
        fal.events = [event(run_id, 0.004), event(run_id, 0.0002), event("another", 9.0)]
        assert await studio.read_charges() == [ChargesRead("fal", 1, 1)]
        assert fal.asked_for("request_id", "billing-events") == [[run_id]]
        assert rows("SELECT committed, charged FROM reservations") == [(4200, 4200)]
        assert (await studio.result(await studio.job(job_id, "local"))).cost.charged_usd == 0.0042
        fal.events = [event(run_id, 7.0)]
        assert await studio.read_charges() == [ChargesRead("fal", 0, 0)]
        assert rows("SELECT charged FROM reservations") == [(4200,)]
        assert rows("SELECT count(*) FROM job_events WHERE type = 'charged'") == [(1,)]
    assert len(fal.asked_for("request_id", "billing-events")) == 1


@pytest.mark.parametrize("events", [[], [0.0], [-1.0], ["?"]], ids=["none", "nothing", "negative", "no event"])
async def test_what_is_not_listed_or_is_nothing_leaves_the_charge_unknown(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows, events: list[Any]
) -> None:
    async with opened(settings, fal) as studio:
        await run(studio, photo)
        rows(UNKNOWN)
        ((run_id,),) = rows("SELECT prediction_id FROM runs")
        fal.events = [event(run_id, one) if isinstance(one, float) else one for one in events]
        assert await studio.read_charges() == [ChargesRead("fal", 1, 0)]
    assert rows("SELECT charged, committed = reserved FROM reservations") == [(None, 1)]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_may_not_read_them_is_asked_once(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows, status: int
) -> None:
    async with opened(settings, fal) as studio:
        await run(studio, photo)
        # More than one request would ask about.
        kept = "tool, model, provider, sandbox, at, reserved, settled_at, sent_at"
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)"
        rows(UNKNOWN)
        rows(f"INSERT INTO runs SELECT 'fal', 'r' || i, 'j' || i, 5 FROM ({numbers} SELECT i FROM n)")
        rows(
            f"INSERT INTO reservations (job_id, principal, {kept}) SELECT 'j' || i, 'local', {kept} "
            f"FROM reservations, ({numbers} SELECT i FROM n)"
        )
        fal.status = status
        (read,) = await studio.read_charges()
        assert (read.unknown, read.found, read.is_refused) == (61, 0, True)
        assert len(fal.asked_for("request_id", "billing-events")) == 1
        fal.status, fal.events = 200, [event(f"r{n}") for n in range(1, 61)]
        (read,) = await studio.read_charges()
    assert (read.unknown, read.found) == (61, 60), "also of jobs that were removed since"


@pytest.mark.parametrize("state", ["running", "queued", "needs_review"])
async def test_a_job_that_has_not_ended_is_not_asked_about(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows, state: str
) -> None:
    async with opened(settings, fal) as studio:
        await run(studio, photo)
    rows(UNKNOWN)
    # Another process drives it meanwhile.
    rows(f"UPDATE jobs SET state = '{state}', owner = 'somebody:1', lease_until = 9e9, needs_key = 'another'")
    async with opened(settings, fal) as studio:
        assert await studio.read_charges() == [ChargesRead("fal", 0, 0)]
    assert fal.asked_for("request_id", "billing-events") == []


async def test_a_job_whose_request_was_sent_twice_keeps_its_bound(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows
) -> None:
    """There may be another run, of which the events of this one say nothing."""
    async with opened(settings, fal) as studio:
        await run(studio, photo)
        rows(UNKNOWN)
        rows("UPDATE jobs SET data = json_set(data, '$.sent_again', json('true'))")
        ((run_id,),) = rows("SELECT prediction_id FROM runs")
        fal.events = [event(run_id)]
        assert await studio.read_charges() == [ChargesRead("fal", 1, 0)]
    assert rows("SELECT charged FROM reservations") == [(None,)]


async def test_only_the_last_ninety_days_are_asked_about(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, rows: Rows
) -> None:
    async with opened(settings, fal) as studio:
        await run(studio, photo)
        rows(UNKNOWN)
        rows("UPDATE reservations SET sent_at = sent_at - 91 * 86400")
        assert await studio.read_charges() == [ChargesRead("fal", 0, 0)]


REPLICATE = {"REPLICATE_API_TOKEN": "r8_none-of-yours", "REPLICATE_BASE_URL": "https://sandbox.invalid"}
H100_SECOND = 0.001525


@pytest.mark.parametrize("status", ["failed", "canceled"])
@pytest.mark.parametrize(("metrics", "usd"), [({"predict_time": 4.0}, 4 * H100_SECOND), ({}, None)])
async def test_a_run_of_a_community_model_that_ends_without_a_result_costs_the_time_that_replicate_measured(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path, status: str,
    metrics: dict[str, float], usd: float | None,
) -> None:  # fmt: skip
    provider.states = [{"status": "processing"}, {"status": status, "error": "It failed.", "metrics": metrics}]
    async with opened(read_settings({**environment, **REPLICATE}), provider) as studio:
        result = await perform(
            studio, SegmentImage(image=str(photo), instruction="a", model="bytedance/sa2va-4b-image")
        )
    assert result.status == ("failed" if status == "failed" else "cancelled")
    assert result.cost.charged_usd == usd


@pytest.mark.parametrize(
    ("rule", "charged", "held"), [("free", 0.0, 0.0), ("charged", 0.25, 0.0), ("unknown", None, 0.25)]
)
async def test_what_a_failed_run_costs_is_what_the_rule_of_its_price_says(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path, rule: str,
    charged: float | None, held: float,
) -> None:  # fmt: skip
    """Replicate says that the run has failed, and not whether that is charged."""
    settings = read_settings({**environment, **REPLICATE})
    (settings.home / "models").mkdir(parents=True, exist_ok=True)
    price = f'unit = "run"\nusd = 0.25\nseen = "2026-11"\non_failure = "{rule}"\n'
    text = f'["bytedance/sa2va-4b-image@replicate"]\n{price}'
    (settings.home / "models" / "prices.toml").write_text(text, encoding="utf-8")
    provider.states = [{"status": "processing"}, {"status": "failed", "error": "It failed."}]
    async with opened(settings, provider) as studio:
        result = await perform(
            studio, SegmentImage(image=str(photo), instruction="a", model="bytedance/sa2va-4b-image")
        )
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (result.status, result.cost.charged_usd) == ("failed", charged)
    assert spent.held == held


@pytest.mark.parametrize(("given", "a_second"), [
    ({}, 0.18),
    ({"resolution": "480p"}, 0.08),
    ({"resolution": "1080p"}, 0.45),
    ({"resolution": "1080p", "reference_videos": ["https://example.com/a.mp4"]}, 0.55),
])  # fmt: skip
def test_the_charge_of_a_film_is_its_measured_seconds_at_the_tier_that_was_planned(
    given: dict[str, Any], a_second: float
) -> None:
    catalog = load_catalog(manifest_folder())
    manifest = catalog.find("bytedance/seedance-2.0")
    (route,) = [one for one in manifest.routes if one.provider == "replicate"]
    estimate = plan_call(manifest.at(route), route, {"prompt": "a storm", "duration": 5, **given}, lambda: 7).estimate
    assert estimate.unit == "output_second"
    assert estimate.unit_usd == pytest.approx(a_second)
    price = UnitPrice(estimate.unit, a_second, estimate.added_units, estimate.minimum_usd)
    measured = {"output_second": 5.04, "run_second": 90.0}
    ended = settlement("succeeded", RunCost(price, has_output=True, measured=measured))
    assert ended.charged_usd == pytest.approx(5.04 * a_second, abs=1e-6)
