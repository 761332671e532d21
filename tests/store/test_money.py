"""Money: what is held before a run, what it counts for after it, and what is refused before anything is spent."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, perform, segment_arguments
from ledger_file import ledger_file
from prices import with_price, without_price
from scripted_provider import OUTPUT_URL, ScriptedProvider
from set_clock import Clock
from soak import IS_SOAK
from store_database import StoreDatabase

from rotoscope.errors import InvalidInput, OverBudget, StorageFailed
from rotoscope.providers.http.messages import Json
from rotoscope.settings import Settings, read_settings
from rotoscope.store.job_data import ErrorRecord, JobPlan, run_cost
from rotoscope.store.job_json import read_job_data
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import (
    ANY_PRICE,
    Caps,
    ResendPolicy,
    Settlement,
    refuse_over_budget,
    settlement,
    usd_to_millionths,
)
from rotoscope.store.records import Job, NewJob, Patch, Submission
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
MIDNIGHT = 1_767_225_600.0  # 2026-01-01 00:00 UTC
SHIPPED = Path(__file__).parents[2] / "manifests" / "models" / "sa2va-4b-image.toml"


@pytest.fixture
def clock() -> Clock:
    return Clock(MIDNIGHT + 3600)


@pytest.fixture
def ledger(database: StoreDatabase, clock: Clock) -> Ledger:
    return Ledger(database.connect(), clock)


def new(usd: float | None, principal: str = "local", *, sandbox: bool = False) -> NewJob:
    return NewJob("segment_image", "m", "replicate", principal, sandbox, {}, JobPlan(estimate_usd=usd), None, usd)


async def sent(ledger: Ledger, job: Job) -> Job:
    """A job whose paying request goes out now."""
    holder = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    claimed = await Leases(ledger._database, ledger._clock, holder, Intervals()).claim(job.id)
    assert claimed is not None
    assert await ledger.commit_intent(claimed, "digest") is not None
    return claimed


async def ended(ledger: Ledger, job: Job, ending: Settlement | None, state: Any = "failed") -> None:
    claimed = await sent(ledger, job)
    await ledger.advance(claimed, Patch(state=state, error=ErrorRecord("x", "y"), settlement=ending))


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


async def test_a_refused_run_leaves_neither_a_job_nor_money_behind(ledger: Ledger, database: StoreDatabase) -> None:
    with pytest.raises(OverBudget):
        await ledger.open(new(2.0), Caps(per_day=1.0))
    for table in ("jobs", "reservations", "job_events"):
        assert database.execute(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_money_is_not_held_for_a_job_that_could_not_be_written(ledger: Ledger, database: StoreDatabase) -> None:
    await ledger.open(new(0.1))
    database.execute("ALTER TABLE jobs RENAME COLUMN message TO another")
    with pytest.raises(StorageFailed):
        await ledger.open(new(0.1))
    assert database.execute("SELECT count(*) FROM reservations") == [(1,)]


async def test_every_principal_has_a_cap_of_its_own_and_rehearsals_count_for_none(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    await ledger.open(new(0.9, sandbox=True), caps)
    await ledger.open(new(0.9), caps)
    await ledger.open(new(0.9, "somebody else"), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(0.9), caps)


async def test_a_run_that_waits_to_be_sent_again_is_held_over_midnight(ledger: Ledger, clock: Clock) -> None:
    caps, policy = Caps(per_day=1.0), ResendPolicy(1.0, per_day=1.0)
    clock.now = MIDNIGHT - 2
    job = await sent(ledger, (await ledger.open(new(0.5), caps)).job)
    intent = await ledger.submission(job.id, job.principal)
    assert intent is not None
    assert await ledger.allow_resend(job, intent, Patch(event="sent again"), 0.5, policy)
    clock.now = MIDNIGHT
    with pytest.raises(OverBudget):
        await ledger.open(new(0.6), caps)


async def test_a_run_that_ends_while_it_waits_to_be_sent_again_counts_still(ledger: Ledger, clock: Clock) -> None:
    caps, policy = Caps(per_day=1.0), ResendPolicy(1.0, per_day=1.0)
    clock.now = MIDNIGHT
    job = await sent(ledger, (await ledger.open(new(0.5), caps)).job)
    intent = await ledger.submission(job.id, job.principal)
    assert intent is not None
    assert await ledger.allow_resend(job, intent, Patch(event="sent again"), 0.5, policy)
    ending = Settlement(usd_to_millionths(0.5), None)
    await ledger.advance(job, Patch(state="failed", error=ErrorRecord("x", "y"), settlement=ending))
    with pytest.raises(OverBudget):
        await ledger.open(new(0.6), caps)
    await ledger.open(new(0.5), caps)


async def test_a_cap_for_all_holds_for_all_principals_together_and_tells_none_of_the_others(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0, per_day_for_all=1.5)
    await ledger.open(new(5.0, sandbox=True), Caps())
    await ledger.open(new(0.9), caps)
    with pytest.raises(OverBudget) as caught:
        await ledger.open(new(0.7, "somebody else"), caps)
    assert "ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL" in caught.value.hint
    assert "0.9" not in f"{caught.value.message} {caught.value.hint}"
    await ledger.open(new(0.6, "somebody else"), caps)


async def test_a_cap_for_all_of_zero_refuses_every_run(ledger: Ledger) -> None:
    with pytest.raises(OverBudget, match="ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL is 0"):
        await ledger.open(new(0.0), Caps(per_day_for_all=0.0))


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
    (spent,) = await ledger.spending_of_all_principals(0)
    assert spent.day == "2026-01-01"
    clock.now = MIDNIGHT + 86_400
    await ledger.open(new(1.0), caps)


@pytest.mark.parametrize(
    ("ending", "reserved"),
    [(Settlement(0, 0.0), 1.0), (Settlement(250_000, 0.25), 0.75), (Settlement(1_000_000, None), 0.0), (None, 0.0)],
    ids=["free", "billed", "not known whether", "in doubt"],
)
async def test_what_a_run_counts_for_is_what_it_was_settled_with(
    ledger: Ledger, ending: Settlement | None, reserved: float
) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ended(ledger, job, ending, "failed" if ending else "needs_review")
    if reserved:
        await ledger.open(new(reserved), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(0.000001), caps)


async def test_a_person_who_says_not_charged_frees_the_money(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ended(ledger, job, None, "needs_review")
    await ledger.resolve_review(job.id, "local", None)
    await ledger.open(new(1.0), caps)


async def test_cancelling_what_was_not_sent_frees_the_money(ledger: Ledger) -> None:
    caps = Caps(per_day=1.0)
    job = (await ledger.open(new(1.0), caps)).job
    await ledger.request_cancel(job.id, "local")
    await ledger.open(new(1.0), caps)


SECOND: dict[str, Json] = {"unit": "run_second", "usd": 0.01}
RUN = {"unit": "run", "usd": 0.002}


@pytest.mark.parametrize(
    ("state", "data", "expected"),
    [
        ("succeeded", {"metrics": {"cost": 0.0031}, "price": RUN, "estimate_usd": 0.002}, Settlement(2000, 0.002)),
        ("succeeded", {"metrics": {"predict_time": 9}, "price": SECOND}, Settlement(None, None)),
        ("succeeded", {"output": "x", "measured": {"run_second": 2.5}, "price": SECOND}, Settlement(25_000, 0.025)),
        ("succeeded", {"output": "x", "measured": {"run_second": 3}, "price": SECOND}, Settlement(30_000, 0.03)),
        ("succeeded", {"output": "x", "measured": {"run_second": 0.00101}, "price": SECOND}, Settlement(11, 0.000011)),
        (
            "succeeded",
            {
                "output": "x",
                "measured": {"output_second": 5, "run_second": 90},
                "price": {"unit": "output_second", "usd": 0.1},
            },
            Settlement(500_000, 0.5),
        ),
        (
            "succeeded",
            {"output": "x", "measured": {"run_second": 9}, "price": RUN, "estimate_usd": 0.2},
            Settlement(200_000, 0.2),
        ),
        ("succeeded", {"output": "x", "measured": {"run_second": 9}, "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
        ("succeeded", {"metrics": {}}, Settlement(None, None)),
        ("failed", {"charged": False, "estimate_usd": 0.2}, Settlement(0, 0.0)),
        ("cancelled", {"charged": False, "estimate_usd": 0.2}, Settlement(0, 0.0)),
        ("cancelled", {"charged": True, "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
        ("cancelled", {"charged": None, "estimate_usd": 0.2}, Settlement(200_000, None)),
        ("cancelled", {"charged": None, "estimate_usd": 0.2, "at_most_usd": 0.9}, Settlement(900_000, None)),
        ("cancelled", {"charged": True, "estimate_usd": 0.2, "price": SECOND}, Settlement(200_000, None)),
        (
            "cancelled",
            {"charged": True, "charge_measured": {"run_second": 4}, "estimate_usd": 0.2, "price": SECOND},
            Settlement(40_000, 0.04),
        ),
        (
            "succeeded",
            {"output": "x", "measured": {"run_second": 4}, "price": {**SECOND, "added_units": 2, "minimum_usd": 0.05}},
            Settlement(60_000, 0.06),
        ),
        (
            "succeeded",
            {"output": "x", "measured": {"run_second": 1}, "price": {**SECOND, "minimum_usd": 0.05}},
            Settlement(50_000, 0.05),
        ),
        (
            "succeeded",
            {
                "output": "x",
                "measured": {"billed_unit": 3.008, "run_second": 4},
                "price": {**SECOND, "billed_unit_usd": 0.1},
            },
            Settlement(300_800, 0.3008),
        ),
        ("failed", {"charged": None, "estimate_usd": None}, Settlement(None, None)),
        ("failed", {"output": "x", "estimate_usd": 0.2}, Settlement(200_000, 0.2)),
    ],
)
def test_what_a_run_has_cost_is_its_price_for_what_was_measured_or_fixed_and_else_its_bound_goes_on_counting(
    state: Any, data: dict[str, Any], expected: Settlement
) -> None:
    assert settlement(state, run_cost(read_job_data(data))) == expected


@pytest.mark.parametrize("absurd", [0, 0.0, 1e-9, -1, float("inf"), float("nan"), 1e300, 10**30, True, "2", None, [3]])
def test_a_measure_of_nothing_or_beyond_reason_says_nothing(absurd: Any) -> None:
    data: dict[str, Json] = {"output": "x", "measured": {"run_second": absurd}, "price": SECOND, "estimate_usd": 0.2}
    assert settlement("succeeded", run_cost(read_job_data(data))) == Settlement(200_000, None)
    bounded = {**data, "at_most_usd": 0.5}
    assert settlement("succeeded", run_cost(read_job_data(bounded))) == Settlement(500_000, None)


def test_a_cap_is_reached_and_not_passed_by_sums_of_floating_point() -> None:
    assert usd_to_millionths(0.1) * 7 == usd_to_millionths(0.7)
    refuse_over_budget(Caps(per_call=0.3, per_day=0.6), 0.1 + 0.2, usd_to_millionths(0.3), "m")
    assert usd_to_millionths(0.0000001) == 1


@pytest.mark.parametrize("beyond", [float("nan"), float("inf"), 1e300, 1e10])
def test_what_is_beyond_every_price_passes_no_cap(beyond: float) -> None:
    with pytest.raises(OverBudget):
        refuse_over_budget(Caps(per_call=1e9), beyond, 0, "m")
    with pytest.raises(OverBudget):
        refuse_over_budget(Caps(per_day=1e9), beyond, 0, "m")


@pytest.mark.parametrize("name", ["PER_CALL", "PER_DAY"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "-inf", "1e308", "much"])
def test_a_cap_that_could_not_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"ROTOSCOPE_MAX_USD_{name}"):
        read_settings({f"ROTOSCOPE_MAX_USD_{name}": value})


async def test_what_a_provider_says_of_its_run_cannot_end_the_process(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    own_price(Path(studio.context.vault.location).parent)
    endless = '{"id": "%s", "status": "succeeded", "output": {"img": "https://sandbox.invalid/out.png"}, '
    endless += '"metrics": {"cost": 1e999, "predict_time": 1e308}}'
    answer = provider.answer

    async def absurd(method: str, path: str, body: bytes) -> Any:
        asked = method == "GET" and path.startswith("/v1/predictions/")
        return (200, (endless % path.split("/")[3]).encode()) if asked else await answer(method, path, body)

    provider.respond = absurd
    result = await perform(studio, segment_arguments(photo, "a"))
    assert result.status == "succeeded"
    again = await perform(studio, segment_arguments(photo, "b"))
    assert again.status == "succeeded"


def own_price(home: Path, usd: float = 0.002) -> None:
    """A manifest of the user's own, with a price."""
    folder = home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "priced.toml").write_text(with_price(SHIPPED.read_text(encoding="utf-8"), "run", usd), encoding="utf-8")


def own_unpriced(home: Path) -> None:
    """A manifest of the user's own whose price nobody has read."""
    folder = home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unpriced.toml").write_text(without_price(SHIPPED.read_text(encoding="utf-8")), encoding="utf-8")


async def test_a_tool_call_over_the_cap_is_refused_before_anything_is_sent(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_CALL": "0.001"})
    own_price(settings.home)
    async with opened(settings, provider) as studio:
        with pytest.raises(OverBudget):
            await perform(studio, segment_arguments(photo, "a"))
        reported = await perform(studio, segment_arguments(photo, "a", dry_run=True))
    assert provider.asked == []
    assert any("ROTOSCOPE_MAX_USD_PER_CALL" in warning for warning in reported.warnings)


async def test_caps_can_be_set_to_none(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path
) -> None:
    none = {"ROTOSCOPE_MAX_USD_PER_CALL": "none", "ROTOSCOPE_MAX_USD_PER_DAY": "none"}
    settings = read_settings(environment | none)
    own_price(settings.home, usd=500.0)
    async with opened(settings, provider) as studio:
        result = await perform(studio, segment_arguments(photo, "a"))
    assert (result.status, result.cost.estimate_usd) == ("succeeded", 500.0)


async def test_models_without_a_price_are_refused_where_the_operator_says_so(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_UNPRICED": "refuse"})
    own_unpriced(settings.home)
    async with opened(settings, provider) as studio:
        with pytest.raises(OverBudget) as caught:
            await perform(studio, segment_arguments(photo, "a"))
    assert caught.value.code == "price_unknown"
    assert "ROTOSCOPE_UNPRICED" in caught.value.hint
    assert provider.posts == 0


@pytest.mark.parametrize("cap", ["ROTOSCOPE_MAX_USD_PER_CALL", "ROTOSCOPE_MAX_USD_PER_DAY"])
@pytest.mark.parametrize("usd", [None, 0.0, 0.0014], ids=["unknown", "free", "priced"])
@pytest.mark.parametrize("unpriced", ["ask", "run"])
async def test_a_cap_of_nothing_refuses_every_run_whatever_is_known_of_its_price(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path, cap: str,
    usd: float | None, unpriced: str,
) -> None:  # fmt: skip
    settings = read_settings(environment | {cap: "0", "ROTOSCOPE_UNPRICED": unpriced})
    if usd is not None:
        own_price(settings.home, usd=usd)
    async with opened(settings, provider) as studio:
        with pytest.raises(OverBudget, match=cap) as caught:
            await perform(studio, segment_arguments(photo, "a"))
        shown = await perform(studio, segment_arguments(photo, "a", dry_run=True))
    assert caught.value.code == "budget"
    assert any(cap in warning for warning in shown.warnings)
    assert provider.asked == []


def test_a_run_of_unknown_price_needs_a_yes_to_just_that_where_one_is_asked_for() -> None:
    for agreed in (0.0, 1.0, 1e9):
        with pytest.raises(OverBudget) as caught:
            refuse_over_budget(Caps(unpriced="ask", consent_usd=agreed), None, 0, "m")
        assert caught.value.code == "consent"
        assert "ROTOSCOPE_UNPRICED" in caught.value.hint
    for caps in (
        Caps(unpriced="ask"),
        Caps(unpriced="ask", consent_usd=ANY_PRICE),
        Caps(unpriced="run", consent_usd=1.0),
    ):
        refuse_over_budget(caps, None, 0, "m")


async def test_the_sandbox_charges_nothing_and_so_needs_no_yes_to_an_unknown_price(ledger: Ledger) -> None:
    caps = Caps(unpriced="ask", consent_usd=1.0)
    await ledger.open(new(None, sandbox=True), caps)
    with pytest.raises(OverBudget):
        await ledger.open(new(None), caps)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("", "ask"), ("ask", "ask"), ("run", "run"), ("allow", "run"), ("refuse", "refuse"), ("$UNSET", "ask")],
)
def test_what_becomes_of_unknown_prices_is_the_operators_word(said: str, meant: str) -> None:
    assert read_settings({"ROTOSCOPE_UNPRICED": said}).unpriced == meant


async def test_a_job_in_doubt_goes_on_counting_against_the_cap(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_DAY": "0.002"})
    own_price(settings.home)
    provider.created = (500, b"oops")
    async with opened(settings, provider) as studio:
        assert (await perform(studio, segment_arguments(photo, "a"))).status == "needs_review"
        with pytest.raises(OverBudget):
            await perform(studio, segment_arguments(photo, "b"))
    assert provider.posts == 1


@pytest.mark.slow
async def test_hundreds_of_calls_at_once_on_a_budget_for_seven_pay_seven_times(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_DAY": "0.014"})
    own_price(settings.home)
    refused: list[int] = []
    calls = 1000 if IS_SOAK else 250

    async def call(studio: Studio, number: int) -> None:
        try:
            await studio.perform("segment_image", segment_arguments(photo, f"object {number}"), "local", 60)
        except OverBudget:
            refused.append(number)

    async with opened(settings, provider) as studio:
        with anyio.fail_after(180):
            async with anyio.create_task_group() as tasks:
                for number in range(calls):
                    tasks.start_soon(call, studio, number)
    assert (provider.posts, len(refused)) == (7, calls - 7)
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        assert ledger.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall() == [("succeeded", 7)]
        assert ledger.execute("SELECT sum(committed) FROM reservations").fetchone() == (14_000,)


def priced(home: Path, model: str, unit: str, usd: float) -> None:
    """A manifest of the user's own, with another price."""
    text = (SHIPPED.parent / model).read_text(encoding="utf-8")
    folder = home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / model).write_text(with_price(text, unit, usd), encoding="utf-8")


def segmind(said: float, picture: bytes) -> Any:
    """Answers a v1 request as Segmind does, with what it calls a cost."""

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        body: Any = json.dumps({"file_urls": ["https://sandbox.invalid/in.png"]}).encode()
        headers = [(b"content-type", b"application/json")]
        if scope["path"] == "/v1/sam-v2-image":
            headers, body = [(b"content-type", b"image/png"), (b"x-cost", str(said).encode())], picture
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


@pytest.mark.parametrize("said", [0.0, 0.0031, 500.0, 1e9])
async def test_a_cost_in_a_unit_that_no_document_tells_is_no_money(
    opened: StudioOpener, settings: Settings, photo: Path, provider: ScriptedProvider, said: float
) -> None:
    async with opened(settings, segmind(said, provider.files["/out.png"])) as studio:
        await perform(studio, segment_arguments(photo, "a", model="sam-v2-image"))
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (spent.runs, spent.held, spent.charged, spent.sandbox) == (1, 0.09, 0.0, True), "what it costs at most"


@pytest.mark.parametrize("said", [0, 500])
async def test_a_metric_with_the_name_of_money_neither_fills_a_cap_nor_frees_it(
    opened: StudioOpener, environment: dict[str, str], provider: ScriptedProvider, photo: Path, said: float
) -> None:
    settings = read_settings(environment | {"ROTOSCOPE_MAX_USD_PER_DAY": "20", "ROTOSCOPE_ASK_ABOVE_USD": "never"})
    priced(settings.home, SHIPPED.name, "run", 4.0)
    provider.states = [{"status": "succeeded", "output": {"img": OUTPUT_URL}, "metrics": {"cost": said}}]
    async with opened(settings, provider) as studio:
        for number in range(5):
            assert (await perform(studio, segment_arguments(photo, f"object {number}"))).status == "succeeded"
        with pytest.raises(OverBudget):
            await perform(studio, segment_arguments(photo, "one more"))
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (provider.posts, spent.charged) == (5, 20.0)


@pytest.mark.parametrize(
    ("measured", "charged", "held"), [(2.5, 0.025, 0.0), (0, 0.0, 3.0), (-3, 0.0, 3.0), ("2.5", 0.0, 3.0)]
)
async def test_the_time_that_replicate_measures_is_what_its_price_is_for_unless_it_says_nothing(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, measured: Any, charged: float,
    held: float,
) -> None:  # fmt: skip
    """Where it says nothing, what the run can cost at most goes on counting: 300 s, after which Replicate stops it."""
    priced(settings.home, SHIPPED.name, "run_second", 0.01)
    metrics = {"predict_time": measured, "inference_time": 77}
    provider.states = [{"status": "succeeded", "output": {"img": OUTPUT_URL}, "metrics": metrics}]
    async with opened(settings, provider) as studio:
        assert (await perform(studio, segment_arguments(photo, "a"))).status == "succeeded"
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (spent.estimate, spent.charged, spent.held) == (0.011, charged, held)


async def test_a_request_that_was_not_accepted_yesterday_is_not_sent_past_the_cap_of_today(
    database: StoreDatabase,
) -> None:
    now = [1_000_000.0]
    base = database.connect()
    ledger = Ledger(base, lambda: now[0])
    driver = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    leases = Leases(base, lambda: now[0], driver, Intervals())
    caps = Caps(per_call=1.0, per_day=2.0)

    async def send(usd: float) -> tuple[Job, Submission]:
        new = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan(), None, usd)
        job = await leases.claim((await ledger.open(new, caps)).job.id)
        assert job is not None
        intent = await ledger.commit_intent(job, "digest")
        assert intent is not None
        return job, intent

    late, intent = await send(0.5)
    now[0] += 86_400.0
    for usd in (0.9, 0.9):
        await send(usd)
    await ledger.withdraw_intent(intent)
    ended = await ledger.job(late.id, "local")
    assert (ended.state, ended.error_code, ended.charge.is_charged) == ("failed", "budget", False)
    assert await leases.claim(late.id) is None
