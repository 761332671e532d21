"""What runs use of an account's credits, where the provider says how many are left: a measure, and never money."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from calls import StudioOpener, perform

from rotoscope.contracts.arguments import SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.settings import Settings, read_settings
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio

SEGMIND = {"SEGMIND_API_KEY": "SG_none-of-yours", "SEGMIND_BASE_URL": "https://sandbox.invalid"}
Rows = Callable[[str], list[tuple[Any, ...]]]


class Balance:
    """An ASGI app that says in its own way how many credits are left."""

    def __init__(self, app: Sandbox) -> None:
        self.app, self.left = app, "10"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def replace_header(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0].lower() != b"x-remaining-credits"]
                message = {**message, "headers": [*kept, (b"x-remaining-credits", self.left.encode())]}
            await send(message)

        await self.app(scope, receive, replace_header)


@pytest.fixture
def segmind(sandbox: Sandbox) -> Balance:
    return Balance(sandbox)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return read_settings({**environment, **SEGMIND})


@pytest.fixture
def rows(settings: Settings) -> Rows:
    def execute(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
            return ledger.execute(query).fetchall()

    return execute


async def run(studio: Studio, photo: Path, x: int) -> JobResult:
    asked = {"image": str(photo), "points": [{"x": x, "y": 9}], "model": "sam-v2-image"}
    result = await perform(studio, SegmentImage.model_validate(asked))
    assert result.status == "succeeded"
    return result


async def test_the_difference_of_two_balances_is_what_the_run_between_them_used(
    opened: StudioOpener, settings: Settings, segmind: Balance, photo: Path
) -> None:
    async with opened(settings, segmind) as studio:
        first = await run(studio, photo, 1)
        segmind.left = "9.9982"
        second = await run(studio, photo, 2)
        third = await run(studio, photo, 3)
    assert "credits_used" not in first.metrics
    assert (second.metrics["credits_used"], second.credits_left) == (0.0018, 9.9982)
    assert "credits_used" not in third.metrics, "nothing was taken, so nothing is known"


async def test_credits_are_no_money(
    opened: StudioOpener, settings: Settings, segmind: Balance, photo: Path, rows: Rows
) -> None:
    async with opened(settings, segmind) as studio:
        await run(studio, photo, 1)
        segmind.left = "2"
        result = await run(studio, photo, 2)
    assert result.metrics["credits_used"] == 8.0
    assert result.cost.charged_usd is None
    assert rows("SELECT DISTINCT charged FROM reservations") == [(None,)]


@pytest.mark.parametrize("left", ["11", "much", "-1", "nan", "1e400"])
async def test_a_balance_that_has_grown_or_is_no_number_says_nothing(
    opened: StudioOpener, settings: Settings, segmind: Balance, photo: Path, left: str
) -> None:
    async with opened(settings, segmind) as studio:
        await run(studio, photo, 1)
        segmind.left = left
        assert "credits_used" not in (await run(studio, photo, 2)).metrics


@pytest.mark.parametrize(("sent", "settled"), [(-1, "NULL"), (-1, "at + 99999")], ids=["at work", "ended since"])
async def test_what_another_run_of_the_ledger_may_have_used_is_not_counted(
    opened: StudioOpener, settings: Settings, segmind: Balance, photo: Path, rows: Rows, sent: int, settled: str
) -> None:
    async with opened(settings, segmind) as studio:
        await run(studio, photo, 1)
        kept = "principal, tool, model, provider, sandbox, at, reserved"
        rows(
            f"INSERT INTO reservations (job_id, {kept}, sent_at, settled_at) "
            f"SELECT 'another', {kept}, sent_at + {sent}, {settled} FROM reservations"
        )
        segmind.left = "9"
        assert "credits_used" not in (await run(studio, photo, 2)).metrics
        rows("UPDATE reservations SET settled_at = sent_at WHERE job_id = 'another'")
        segmind.left = "8.5"
        assert (await run(studio, photo, 3)).metrics["credits_used"] == 0.5


async def test_the_balance_of_another_account_is_another(
    opened: StudioOpener, environment: dict[str, str], settings: Settings, segmind: Balance, photo: Path
) -> None:
    async with opened(settings, segmind) as studio:
        await run(studio, photo, 1)
    segmind.left = "5"
    other = read_settings({**environment, **SEGMIND, "SEGMIND_API_KEY": "SG_another"})
    async with opened(other, segmind) as studio:
        assert "credits_used" not in (await run(studio, photo, 2)).metrics
        segmind.left = "4"
        assert (await run(studio, photo, 3)).metrics["credits_used"] == 1.0


async def test_a_balance_that_cannot_be_read_is_as_none(
    opened: StudioOpener, settings: Settings, segmind: Balance, photo: Path, rows: Rows
) -> None:
    async with opened(settings, segmind) as studio:
        await run(studio, photo, 1)
        for n, broken in enumerate(("", "{", "[]", '{"job": 7}', '{"job": "j", "left": "x", "at": 1}')):
            rows(f"UPDATE properties SET value = '{broken}' WHERE name LIKE 'credits of segmind %'")
            segmind.left = str(9 - n)
            assert "credits_used" not in (await run(studio, photo, 10 + n)).metrics
        segmind.left = "1"
        assert (await run(studio, photo, 99)).metrics["credits_used"] == 4.0
