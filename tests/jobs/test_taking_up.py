"""Through the studio: what has gone is put back when somebody asks, and what a fault has stopped goes on at a start."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from ledger_file import ledger_file

from rotoscope.contracts.arguments import GetJob, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.jobs import lifecycle as machine
from rotoscope.settings import Settings
from rotoscope.store.records import Job, OpenResult
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
Open = Any  # of conftest, as is Replicate
Replicate = Any


async def asked(studio: Studio, photo: Path) -> JobResult:
    with anyio.fail_after(20):
        result = await studio.perform("segment_image", SegmentImage(image=str(photo), instruction="a"), "local", 20)
    assert isinstance(result, JobResult)
    return result


async def got(studio: Studio, job_id: str, budget: float = 10.0) -> JobResult:
    with anyio.fail_after(20):
        result = await studio.perform("get_job", GetJob(job_id=job_id), "local", budget)
    assert isinstance(result, JobResult)
    return result


def emptied(settings: Settings) -> None:
    """The files of every result are gone; what was given stays."""
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        results = {sha256 for (sha256,) in ledger.execute("SELECT sha256 FROM outputs")}
    for file in (settings.home / "vault").glob("??/*.*"):
        if file.name.partition(".")[0] in results:
            file.unlink()


async def test_who_asks_for_a_result_whose_files_have_gone_gets_them_back(
    studio: Studio, settings: Settings, provider: Replicate, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await got(studio, first.job_id)
    assert again.model_dump(exclude={"message"})["masks"] == first.model_dump()["masks"]
    assert Path(again.model_dump()["masks"][0]["media"]["path"]).is_file()
    assert not [warning for warning in again.warnings if "no longer" in warning]
    assert provider.posts == 1


async def test_an_equal_request_that_joins_gets_the_files_back_too(
    studio: Studio, settings: Settings, provider: Replicate, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await asked(studio, photo)
    assert again.job_id == first.job_id
    assert again.model_dump()["masks"] == first.model_dump()["masks"]
    assert provider.posts == 1


async def test_a_question_with_no_time_is_answered_with_the_names_of_what_is_missing(
    studio: Studio, settings: Settings, provider: Replicate, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await got(studio, first.job_id, budget=0.0)
    assert again.status == "succeeded"
    (warning,) = [one for one in again.warnings if "no longer in the results folder" in one]
    for name in ("mask/0", "overlay", "coco", "https://sandbox.invalid/out.png"):
        assert name in warning


@pytest.mark.parametrize("state", ["needs_review", "failed"])
async def test_what_a_fault_has_stopped_goes_on_when_a_process_begins(
    opened: Open, settings: Settings, provider: Replicate, photo: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """An older version called it failed."""
    fetch = machine._STAGE_FUNCTIONS["fetch"]

    async def stumble(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setitem(machine._STAGE_FUNCTIONS, "fetch", stumble)  # type: ignore[arg-type]
    async with opened(settings, provider) as studio:
        first = await asked(studio, photo)
    assert first.error is not None
    assert (first.status, first.error.code) == ("needs_review", "internal")
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE jobs SET state = ?, finished_at = finished_at - 60", (state,))
    monkeypatch.setitem(machine._STAGE_FUNCTIONS, "fetch", fetch)  # type: ignore[arg-type]
    async with opened(settings, provider) as studio:
        with anyio.fail_after(20):
            while (job := await studio.job(first.job_id, "local")).state != "succeeded":
                job = await studio.wait(job, 1.0)
                await anyio.sleep(0.01)
    assert provider.posts == 1


async def test_a_cancel_that_is_not_confirmed_is_answered_in_time_and_honestly(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    answer = provider.answer
    provider.states = [{"status": "processing"}]

    async def deaf(method: str, path: str, body: bytes) -> Any:
        return (404, {}) if path.endswith("/cancel") else await answer(method, path, body)

    provider.answer = deaf
    opening = await studio.start(
        await studio.plan("segment_image", SegmentImage(image=str(photo), instruction="a"), "local")
    )
    assert isinstance(opening, OpenResult)
    job: Job = opening.job
    with anyio.fail_after(10):
        await provider.on_ask.wait()
        told = await studio.perform("cancel_job", _cancel(job.id), "local", 0.5)
    assert isinstance(told, JobResult)
    assert told.status == "running"
    assert "A cancel was asked for; Replicate has not confirmed it yet" in told.message
    assert "not confirmed" in told.warnings[-1]


def _cancel(job_id: str) -> Any:
    from rotoscope.contracts.arguments import CancelJob

    return CancelJob(job_id=job_id)
