"""Published prices, through the studio: when a provider is asked, what an estimate makes of it, and what it costs."""

import json
import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import SECONDS, StudioOpener, Until, perform
from fal_platform import FAL, FalPlatform
from set_clock import Clock

from rotoscope.contracts.arguments import SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import Settings, read_settings
from rotoscope.studio import prices
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio

MODEL = "fal-ai/sam2/image"
DAY, NOW = 86_400.0, 1_800_000_000.0
SHIPPED = manifest_folder() / "models" / "sam2-image.toml"
PRICE = '[price]\nunit = "run"\nusd = 0.005\nseen = "2026-11"\n\n'
"""In place of the shipped model's price by computing time."""


@pytest.fixture
def fal(sandbox: Sandbox) -> FalPlatform:
    return FalPlatform(sandbox)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """A real key, and a model with a price for each run."""
    found = read_settings({**environment, **FAL})
    (found.home / "models").mkdir(parents=True)
    text = SHIPPED.read_text(encoding="utf-8").replace(f'id = "{MODEL}"', 'id = "me/priced"')
    priced = re.sub(r"\[price\]\n.*?(?=\[example\])", PRICE, text, flags=re.DOTALL)
    (found.home / "models" / "priced.toml").write_text(priced, encoding="utf-8")
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


async def plan(studio: Studio, photo: Path, model: str = "me/priced", **more: Any) -> JobResult:
    asked = {"image": str(photo), "points": [{"x": 9, "y": 9}], "model": model, "dry_run": True, **more}
    return await perform(studio, SegmentImage.model_validate(asked))


def difference(result: JobResult) -> list[str]:
    return [warning for warning in result.warnings if "publishes" in warning]


async def test_a_dearer_price_scales_the_estimate_and_the_dry_run_says_so(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, clock: Clock
) -> None:
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal, clock=clock) as studio:
        result = await plan(studio, photo)
    assert (result.cost.estimate_usd, result.cost.at_most_usd) == (0.006, 0.006)
    live = "fal publishes 0.006 USD for 1 image today"
    assert result.cost.basis == f"0.005 USD a run; fal, 2026-11; {live}, so 1.2 times that"
    (warning,) = difference(result)
    assert warning.startswith(f"{live}, 1.2 times the manifest's price")


async def test_a_cheaper_price_is_said_and_the_estimate_stays(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    fal.prices = {MODEL: (0.004, "requests", "USD")}
    async with opened(settings, fal) as studio:
        result = await plan(studio, photo)
    assert result.cost.estimate_usd == 0.005
    assert "less than the manifest's price" in difference(result)[0]


async def test_prices_are_asked_for_once_a_day_all_at_once_and_remembered_by_the_next_process(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, clock: Clock
) -> None:
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal, clock=clock) as studio:
        await plan(studio, photo)
        await plan(studio, photo, model=MODEL)
    async with opened(settings, fal, clock=clock) as studio:
        clock.now += DAY - 60
        assert difference(await plan(studio, photo))
        assert len(fal.asked) == 1
        (names,) = fal.asked_for("endpoint_id", "pricing")
        assert {"fal-ai/sa2va/8b/image", MODEL} <= set(names)
        clock.now += 120
        await plan(studio, photo)
    assert len(fal.asked) == 2


async def test_what_was_published_before_today_is_used_with_its_date_while_nobody_answers(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, clock: Clock
) -> None:
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal, clock=clock) as studio:
        await plan(studio, photo)
        clock.now += 3 * DAY
        fal.status = 503
        assert "as of 2027-01-15, 1.2 times" in difference(await plan(studio, photo))[0]
        clock.now += 40 * DAY
        assert difference(await plan(studio, photo)) == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_a_provider_that_does_not_tell_its_prices_fails_no_call_and_is_asked_again_after_an_hour(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, clock: Clock, status: int
) -> None:
    fal.status = status
    async with opened(settings, fal, clock=clock) as studio:
        result = await plan(studio, photo)
        assert (result.cost.estimate_usd, difference(result)) == (0.005, [])
        asked = len(fal.asked)
        assert 1 <= asked <= 6
        await plan(studio, photo)
        assert len(fal.asked) == asked
        clock.now += 3700
        await plan(studio, photo)
        assert len(fal.asked) == 2 * asked


async def test_a_provider_that_is_silent_holds_a_call_for_a_moment_and_the_next_process_not_at_all(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, clock: Clock
) -> None:
    fal.hold = anyio.Event()
    async with opened(settings, fal, clock=clock) as studio:
        with anyio.fail_after(SECONDS):
            assert difference(await plan(studio, photo)) == []
    async with opened(settings, fal, clock=clock) as studio:
        with anyio.fail_after(SECONDS):
            assert difference(await plan(studio, photo)) == []
    assert len(fal.asked) == 1


async def test_an_answer_that_came_too_late_for_one_call_serves_the_next(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    fal.prices, fal.hold = {MODEL: (0.006, "images", "USD")}, anyio.Event()
    async with opened(settings, fal) as studio:
        assert difference(await plan(studio, photo)) == []
        fal.hold.set()
        with anyio.fail_after(SECONDS):
            while not difference(await plan(studio, photo)):  # noqa: ASYNC110 - there is no event of it
                await anyio.sleep(0.01)
    assert len(fal.asked) == 1


async def test_an_endpoint_that_the_provider_does_not_know_hides_no_other(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    fal.prices, fal.unknown = {MODEL: (0.006, "images", "USD")}, {"fal-ai/sa2va/8b/image"}
    async with opened(settings, fal) as studio:
        assert difference(await plan(studio, photo))
    names, *parts = fal.asked_for("endpoint_id", "pricing")
    assert [name for part in parts for name in part if name == MODEL and fal.unknown.isdisjoint(part)] == [MODEL]
    assert len(parts) <= 2 * len(names).bit_length()


async def test_a_price_by_computing_time_keeps_its_estimate_and_says_that_fal_publishes_one_now(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    async with opened(settings, fal) as studio:
        before = await plan(studio, photo, model=MODEL)
        fal.prices = {MODEL: (0.006, "images", "USD")}
        _, refusals = await studio.compare_prices(refresh=True)
        after = await plan(studio, photo, model=MODEL)
    assert refusals == {}
    assert before.cost == after.cost
    assert "the manifest counts the time of computing" in difference(after)[0]


async def test_a_published_nothing_is_no_price(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    fal.prices = {MODEL: (0, "compute seconds", "USD")}
    async with opened(settings, fal) as studio:
        assert difference(await plan(studio, photo)) == []


async def test_the_sandbox_is_asked_only_when_a_person_wants_it(
    opened: StudioOpener, environment: dict[str, str], sandbox: Sandbox, photo: Path
) -> None:
    class Counting(FalPlatform):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].startswith("/v1/models/"):
                self.asked.append((scope["path"], {}))
            await self.app(scope, receive, send)

    counting = Counting(sandbox)
    async with opened(read_settings(environment), counting) as studio:
        await plan(studio, photo, model=MODEL)
        assert counting.asked == []
        await studio.compare_prices(refresh=True)
        assert counting.asked


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"\xff\xfe", b'{"version": 2}', b"null", b"[" * 100_000, b'{"version": 1, "sources": 7}',
    b'{"version": 1, "sources": {"": {"prices": {"a": {"asked_at": "x"}}}}}', b" " * 2_000_000,
], ids=range(10))  # fmt: skip
async def test_a_broken_price_file_is_as_none_and_is_replaced(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, content: bytes
) -> None:
    file = settings.home / "prices.json"
    file.write_bytes(content)
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal) as studio:
        assert difference(await plan(studio, photo))
    assert json.loads(file.read_text(encoding="utf-8"))["version"] == 1
    if os.name != "nt":
        assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.home.iterdir() if path.name.startswith("prices.json")] == ["prices.json"]


async def test_a_price_file_that_cannot_be_written_fails_no_call(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    (settings.home / "prices.json").mkdir()
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal) as studio:
        assert difference(await plan(studio, photo))


async def test_prices_of_another_key_are_not_used(
    opened: StudioOpener, settings: Settings, environment: dict[str, str], fal: FalPlatform, photo: Path
) -> None:
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal) as studio:
        await plan(studio, photo)
    text = (settings.home / "prices.json").read_text(encoding="utf-8")
    assert "none-of-yours" not in text
    (settings.home / "prices.json").write_text(text.replace("account ", "account of another "), encoding="utf-8")
    async with opened(settings, fal) as studio:
        await plan(studio, photo)
    assert len(fal.asked) == 2
    assert "account of another " in (settings.home / "prices.json").read_text(encoding="utf-8")


async def test_every_route_is_compared_with_what_was_published(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, clock: Clock
) -> None:
    fal.prices = {MODEL: (0.006, "images", "USD")}
    async with opened(settings, fal, clock=clock) as studio:
        lines, refusals = await studio.compare_prices(refresh=False)
        assert (fal.asked, refusals) == ([], {})
        assert {line.verdict for line in lines} == {"not known", "no list"}
        lines, refusals = await studio.compare_prices(refresh=True)
    assert refusals == {}
    (mine,) = [line for line in lines if line.model == "me/priced"]
    assert (mine.manifest_price, mine.published_price) == ("0.005 USD for 1 run", "0.006 USD for 1 image")
    assert (mine.verdict, mine.asked_at) == ("dearer", "2027-01-15T08:00:00Z")
    assert mine.ratio == pytest.approx(1.2)
    assert {line.verdict for line in lines if line.provider == "replicate"} == {"no list"}
    assert {line.verdict for line in lines if line.endpoint == "fal-ai/sa2va/8b/image"} == {"not published"}


async def test_the_units_of_the_bill_times_the_published_price_are_the_charge(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path
) -> None:
    fal.prices, fal.billed = {MODEL: (0.004, "units", "USD")}, "2.5"
    async with opened(settings, fal) as studio:
        result = await plan(studio, photo, model=MODEL, dry_run=False)
    assert result.status == "succeeded"
    assert result.cost.charged_usd == 0.01
    assert result.provider_run is not None
    assert result.metrics["billable_units"] == 2.5


@pytest.mark.parametrize("billed", [None, "-1", "1e99", "much"])
async def test_without_plausible_units_a_run_of_a_fixed_price_was_charged_that(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, photo: Path, billed: str | None
) -> None:
    fal.prices, fal.billed = {MODEL: (0.005, "images", "USD")}, billed
    async with opened(settings, fal) as studio:
        result = await plan(studio, photo, dry_run=False)
    assert (result.status, result.cost.charged_usd) == ("succeeded", 0.005)


async def test_prices_are_asked_for_without_any_call_when_a_process_has_been_up_for_a_moment(
    opened: StudioOpener, settings: Settings, fal: FalPlatform, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(prices, "_FIRST_ASK_AFTER", 0.0)

    async def is_kept() -> bool:
        return any(line.asked_at for line in (await studio.compare_prices(refresh=False))[0])

    async with opened(settings, fal) as studio:
        await until(is_kept)
    assert len(fal.asked) == 1


async def test_a_start_asks_nobody(opened: StudioOpener, settings: Settings, fal: FalPlatform) -> None:
    async with opened(settings, fal):
        await anyio.wait_all_tasks_blocked()
    assert fal.asked == []
    assert not (settings.home / "prices.json").exists()
