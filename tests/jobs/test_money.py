"""Money: what is held before a run, what it counts for after it, and what is refused before anything is spent."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rotoscope.contracts.arguments import SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.errors import OverBudget, StorageFailed
from rotoscope.jobs.budget import Caps, Settlement, in_millionths, refuse_over_budget, settlement
from rotoscope.jobs.database import Database
from rotoscope.jobs.job import Job, NewJob, Patch
from rotoscope.jobs.leases import Holder, Leases
from rotoscope.jobs.ledger import Ledger
from rotoscope.jobs.tempo import Tempo
from rotoscope.settings import Settings, read_settings
from rotoscope.studio import Studio

pytestmark = pytest.mark.anyio
Open = Callable[..., AbstractAsyncContextManager[Studio]]
Replicate = Any  # the scripted provider of conftest
MIDNIGHT = 1_767_225_600.0  # 2026-01-01 00:00 UTC
SHIPPED = Path(__file__).parents[2] / "manifests" / "models" / "sa2va-4b-image.toml"


class Clock:
    def __init__(self) -> None:
        self.now = MIDNIGHT + 3600

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite3"


@pytest.fixture
def ledger(file: Path, clock: Clock) -> Ledger:
    return Ledger(Database(f"sqlite:///{file}"), clock)


def new(usd: float | None, principal: str = "local", *, sandbox: bool = False) -> NewJob:
    return NewJob("segment_image", "m", "replicate", principal, sandbox, {}, {"estimate_usd": usd}, None, usd)


async def sent(ledger: Ledger, job: Job) -> Job:
    """A job whose paying request goes out now."""
    holder = Holder("me", frozenset({"replicate"}), frozenset({"m"}))
    claimed = await Leases(ledger._database, ledger._clock, holder, Tempo()).claim(job.id)
    assert claimed is not None
    assert await ledger.intend(claimed, "digest") is not None
    return claimed


async def ended(ledger: Ledger, job: Job, ending: Settlement | None, state: Any = "failed") -> None:
    claimed = await sent(ledger, job)
    await ledger.advance(claimed, Patch(state=state, error={"code": "x", "message": "y"}, settlement=ending))


async def test_a_run_that_is_dearer_than_the_cap_for_one_call_is_refused_in_words(ledger: Ledger) -> None:
    with pytest.raises(OverBudget) as caught:
        await ledger.open(new(0.5), Caps(per_call=0.25, per_day=100))
    assert caught.value.code == "budget"
    assert "0.5 USD" in caught.value.message
    assert "0.25 USD" in caught.value.message
    assert "ROTOSCOPE_MAX_USD_PER_CALL" in caught.value.hint


async def test_a_run_that_would_pass_the_days_cap_is_refused_with_what_is_held(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    await ledger.open(new(0.7), caps)
    with pytest.raises(OverBudget) as caught:
        await ledger.open(new(0.4), caps)
    for words in ("0.4 USD", "0.7 USD", "1 USD a day"):
        assert words in caught.value.message
    assert "ROTOSCOPE_MAX_USD_PER_DAY" in caught.value.hint
    await ledger.open(new(0.3), caps)


async def test_a_refused_run_leaves_neither_a_job_nor_money_behind(ledger: Ledger, file: Path) -> None:
    with pytest.raises(OverBudget):
        await ledger.open(new(2.0), Caps(per_day=1.0))
    with sqlite3.connect(file) as other:
        for table in ("jobs", "reservations", "job_events"):
            assert other.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_money_is_not_held_for_a_job_that_could_not_be_written(ledger: Ledger, file: Path) -> None:
    await ledger.open(new(0.1))
    with sqlite3.connect(file) as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StorageFailed):
        await ledger.open(new(0.1))
    with sqlite3.connect(file) as other:
        assert other.execute("SELECT count(*) FROM reservations").fetchone() == (1,)


async def test_every_principal_has_a_cap_of_its_own_and_rehearsals_count_for_none(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    await ledger.open(new(0.9, sandbox=True), caps)
    await ledger.open(new(0.9), caps)
    await ledger.open(new(0.9, "somebody else"), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(0.9), caps)


async def test_the_day_turns_at_midnight_in_utc(ledger: Ledger, clock: Clock) -> None:
    caps = Caps(per_day=1.0)
    clock.now = MIDNIGHT - 1
    await sent(ledger, (await ledger.open(new(1.0), caps)).job)
    with pytest.raises(OverBudget):
        await ledger.open(new(1.0), caps)
    clock.now = MIDNIGHT
    await ledger.open(new(1.0), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(1.0), caps)


async def test_money_counts_on_the_day_it_is_sent_and_is_held_until_then(ledger: Ledger, clock: Clock) -> None:
    caps = Caps(per_day=1.0)
    clock.now = MIDNIGHT - 1
    late = (await ledger.open(new(1.0), caps)).job
    clock.now = MIDNIGHT
    with pytest.raises(OverBudget):
        await ledger.open(new(1.0), caps)
    await sent(ledger, late)
    with pytest.raises(OverBudget):
        await ledger.open(new(1.0), caps)
    (spent,) = await ledger.spending(0)
    assert spent.day == "2026-01-01"
    clock.now = MIDNIGHT + 86_400
    await ledger.open(new(1.0), caps)


@pytest.mark.parametrize(
    ("ending", "room"),
    [(Settlement(0, 0.0), 1.0), (Settlement(250_000, 0.25), 0.75), (Settlement(1_000_000, None), 0.0), (None, 0.0)],
    ids=["free", "billed", "not known whether", "in doubt"],
)
async def test_what_a_run_counts_for_is_what_it_was_settled_with(
    ledger: Ledger, ending: Settlement | None, room: float
) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ended(ledger, job, ending, "failed" if ending else "needs_review")
    if room:
        await ledger.open(new(room), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(0.000001), caps)


async def test_a_person_who_says_not_charged_frees_the_money(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ended(ledger, job, None, "needs_review")
    await ledger.resolve(job.id, "local", None)
    await ledger.open(new(1.0), caps)


async def test_cancelling_what_was_not_sent_frees_the_money(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ledger.request_cancel(job.id, "local")
    await ledger.open(new(1.0), caps)


SECOND = {"unit": "run_second", "usd": 0.01}


@pytest.mark.parametrize(
    ("state", "data", "expected"),
    [
        ("succeeded", {"metrics": {"cost": 0.0031}, "estimate_usd": 0.002}, Settlement(3100, 0.0031)),
        ("succeeded", {"metrics": {"predict_time": 2.5}, "price": SECOND}, Settlement(25_000, 0.025)),
        ("succeeded", {"metrics": {"inference_time": 3}, "price": SECOND}, Settlement(30_000, 0.03)),
        (
            "succeeded",
            {"metrics": {"video_output_duration_seconds": 5}, "price": {"unit": "output_second", "usd": 0.1}},
            Settlement(500_000, 0.5),
        ),
        ("succeeded", {"metrics": {"predict_time": 9}, "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
        ("succeeded", {"metrics": {}}, Settlement(None, None)),
        ("failed", {"charged": False, "estimate_usd": 0.2}, Settlement(0, 0.0)),
        ("cancelled", {"charged": False, "estimate_usd": 0.2}, Settlement(0, 0.0)),
        ("cancelled", {"charged": True, "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
        ("cancelled", {"charged": None, "estimate_usd": 0.2}, Settlement(200_000, None)),
        ("failed", {"charged": None, "estimate_usd": None}, Settlement(None, None)),
        ("failed", {"output": "x", "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
    ],
)
def test_what_a_run_has_cost_is_what_the_provider_says_else_its_price_else_unknown(
    state: Any, data: dict[str, Any], expected: Settlement
) -> None:
    assert settlement(state, data) == expected


@pytest.mark.parametrize("absurd", [-1, float("inf"), float("nan"), 1e300, 10**30, True, "2"])
@pytest.mark.parametrize("name", ["cost", "predict_time"])
def test_a_number_that_can_be_no_amount_says_nothing(absurd: Any, name: str) -> None:
    data = {"metrics": {name: absurd}, "price": SECOND, "estimate_usd": 0.2}
    assert settlement("succeeded", data) == Settlement(200_000, 0.2)


def test_a_cap_is_reached_and_not_passed_by_sums_of_floating_point() -> None:
    assert in_millionths(0.1) * 7 == in_millionths(0.7)
    refuse_over_budget(Caps(per_call=0.3, per_day=0.6), 0.1 + 0.2, in_millionths(0.3), "m")
    assert in_millionths(0.0000001) == 1


async def test_what_a_provider_says_of_its_run_cannot_end_the_process(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    own_price(studio.rooms.vault.folder.parent)
    endless = '{"id": "%s", "status": "succeeded", "output": {"img": "https://sandbox.invalid/out.png"}, '
    endless += '"metrics": {"cost": 1e999, "predict_time": 1e308}}'
    answer = provider.answer

    async def absurd(method: str, path: str, body: bytes) -> Any:
        asked = method == "GET" and path.startswith("/v1/predictions/")
        return (200, (endless % path.split("/")[3]).encode()) if asked else await answer(method, path, body)

    provider.answer = absurd
    result = await performed(studio, words(photo, "a"))
    assert result.status == "succeeded"
    again = await performed(studio, words(photo, "b"))
    assert again.status == "succeeded"


def own_price(home: Path, usd: float = 0.002) -> None:
    """A manifest of the user's own, with a price."""
    folder = home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    priced = SHIPPED.read_text(encoding="utf-8") + f'\n[price]\nunit = "run"\nusd = {usd}\nseen = "2026-11"\n'
    (folder / "priced.toml").write_text(priced, encoding="utf-8")


def words(photo: Path, instruction: str, **more: Any) -> SegmentImage:
    return SegmentImage(image=str(photo), instruction=instruction, **more)


async def performed(studio: Studio, arguments: SegmentImage) -> JobResult:
    with anyio.fail_after(20):
        result = await studio.perform("segment_image", arguments, "local", 20)
    assert isinstance(result, JobResult)
    return result


async def test_a_tool_call_over_the_cap_is_refused_before_anything_is_sent(
    opened: Open, environment: dict[str, str], provider: Replicate, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_CALL": "0.001"})
    own_price(settings.home)
    async with opened(settings, provider) as studio:
        with pytest.raises(OverBudget):
            await performed(studio, words(photo, "a"))
        told = await performed(studio, words(photo, "a", dry_run=True))
    assert provider.asked == []
    assert any("ROTOSCOPE_MAX_USD_PER_CALL" in warning for warning in told.warnings)


async def test_caps_can_be_set_to_none(
    opened: Open, environment: dict[str, str], provider: Replicate, photo: Path
) -> None:
    none = {"ROTOSCOPE_MAX_USD_PER_CALL": "none", "ROTOSCOPE_MAX_USD_PER_DAY": "none"}
    settings = read_settings(environment | none)
    own_price(settings.home, usd=500.0)
    async with opened(settings, provider) as studio:
        result = await performed(studio, words(photo, "a"))
    assert (result.status, result.cost.estimate_usd) == ("succeeded", 500.0)


async def test_models_without_a_price_are_refused_where_the_operator_says_so(
    opened: Open, environment: dict[str, str], provider: Replicate, photo: Path
) -> None:
    async with opened(read_settings(environment | {"ROTOSCOPE_UNPRICED": "refuse"}), provider) as studio:
        with pytest.raises(OverBudget) as caught:
            await performed(studio, words(photo, "a"))
    assert caught.value.code == "price_unknown"
    assert "ROTOSCOPE_UNPRICED" in caught.value.hint
    assert provider.posts == 0


async def test_a_job_in_doubt_goes_on_counting_against_the_cap(
    opened: Open, environment: dict[str, str], provider: Replicate, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_DAY": "0.002"})
    own_price(settings.home)
    provider.created = (500, b"oops")
    async with opened(settings, provider) as studio:
        assert (await performed(studio, words(photo, "a"))).status == "needs_review"
        with pytest.raises(OverBudget):
            await performed(studio, words(photo, "b"))
    assert provider.posts == 1


async def test_a_thousand_calls_at_once_on_a_budget_for_seven_pay_seven_times(
    opened: Open, environment: dict[str, str], provider: Replicate, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_DAY": "0.014"})
    own_price(settings.home)
    refused: list[int] = []

    async def call(studio: Studio, number: int) -> None:
        try:
            await studio.perform("segment_image", words(photo, f"object {number}"), "local", 60)
        except OverBudget:
            refused.append(number)

    async with opened(settings, provider) as studio:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(call, studio, number)
    assert (provider.posts, len(refused)) == (7, 993)
    with sqlite3.connect(settings.home / "ledger.sqlite3") as ledger:
        assert ledger.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall() == [("succeeded", 7)]
        assert ledger.execute("SELECT sum(committed) FROM reservations").fetchone() == (14_000,)


async def test_what_a_run_cost_by_its_providers_own_word_is_told_and_kept(
    opened: Open, settings: Settings, photo: Path, provider: Replicate
) -> None:
    """Segmind bills each v1 reply in a header."""

    async def segmind(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        body: Any = json.dumps({"file_urls": ["https://sandbox.invalid/in.png"]}).encode()
        headers = [(b"content-type", b"application/json")]
        if scope["path"] == "/v1/sam-v2-image":
            headers, body = [(b"content-type", b"image/png"), (b"x-cost", b"0.0031")], provider.files["/out.png"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with opened(settings, segmind) as studio:
        await performed(studio, words(photo, "a", model="sam-v2-image"))
        (spent,) = await studio.rooms.ledger.spending(0)
    assert (spent.runs, spent.held, spent.charged, spent.sandbox) == (1, 0.0, 0.0031, True)
