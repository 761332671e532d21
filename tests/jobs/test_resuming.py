"""Through the studio: missing files are restored on request, and what a fault has stopped is resumed at a start."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener
from ledger_file import ledger_file
from scripted_provider import ScriptedProvider

from rotoscope.contracts.arguments import GetJob, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.jobs import lifecycle as machine
from rotoscope.settings import Settings
from rotoscope.store.records import Job, OpenResult
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio


async def asked(studio: Studio, photo: Path) -> JobResult:
    with anyio.fail_after(180):
        result = await studio.perform(
            "segment_image",
            SegmentImage(image=str(photo), instruction="a", model="bytedance/sa2va-4b-image"),
            "local",
            60,
        )
    assert isinstance(result, JobResult)
    return result


async def got(studio: Studio, job_id: str, budget: float = 10.0) -> JobResult:
    with anyio.fail_after(180):
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


async def test_a_request_for_a_result_whose_files_have_gone_restores_them(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await got(studio, first.job_id)
    assert again.model_dump(exclude={"message"})["masks"] == first.model_dump()["masks"]
    assert Path(again.model_dump()["masks"][0]["media"]["path"]).is_file()
    assert not [warning for warning in again.warnings if "no longer" in warning]
    assert provider.posts == 1


async def test_an_equal_request_that_joins_restores_the_files_too(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await asked(studio, photo)
    assert again.job_id == first.job_id
    assert again.model_dump()["masks"] == first.model_dump()["masks"]
    assert provider.posts == 1


async def test_a_request_without_time_is_answered_with_the_names_of_the_missing_files(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    first = await asked(studio, photo)
    emptied(settings)
    again = await got(studio, first.job_id, budget=0.0)
    assert again.status == "succeeded"
    (warning,) = [one for one in again.warnings if "no longer in the results folder" in one]
    for name in ("mask/0", "overlay", "coco", "https://sandbox.invalid/out.png"):
        assert name in warning


@pytest.mark.parametrize("state", ["needs_review", "failed"])
async def test_a_job_that_a_fault_has_stopped_is_resumed_when_a_process_starts(
    opened: StudioOpener,
    settings: Settings,
    provider: ScriptedProvider,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    """An older version called it failed."""
    fetch = machine._STAGE_FUNCTIONS["fetch"]

    async def stumble(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setitem(machine._STAGE_FUNCTIONS, "fetch", stumble)
    async with opened(settings, provider) as studio:
        first = await asked(studio, photo)
    assert first.error is not None
    assert (first.status, first.error.code) == ("needs_review", "internal")
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE jobs SET state = ?, finished_at = finished_at - 60", (state,))
    monkeypatch.setitem(machine._STAGE_FUNCTIONS, "fetch", fetch)
    async with opened(settings, provider) as studio:
        with anyio.fail_after(180):
            while (job := await studio.job(first.job_id, "local")).state != "succeeded":
                job = await studio.wait(job, 1.0)
                await anyio.sleep(0.01)
    assert provider.posts == 1


async def test_a_cancel_that_is_not_confirmed_is_answered_in_time_and_says_so(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    answer = provider.answer
    provider.states = [{"status": "processing"}]

    async def deaf(method: str, path: str, body: bytes) -> Any:
        return (404, {}) if path.endswith("/cancel") else await answer(method, path, body)

    provider.respond = deaf
    opening = await studio.start(
        await studio.plan(
            "segment_image", SegmentImage(image=str(photo), instruction="a", model="bytedance/sa2va-4b-image"), "local"
        )
    )
    assert isinstance(opening, OpenResult)
    job: Job = opening.job
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        reported = await studio.perform("cancel_job", _cancel(job.id), "local", 0.5)
    assert isinstance(reported, JobResult)
    assert reported.status == "running"
    assert "A cancel was asked for; Replicate has not confirmed it yet" in reported.message
    assert "not confirmed" in reported.warnings[-1]


def _cancel(job_id: str) -> Any:
    from rotoscope.contracts.arguments import CancelJob

    return CancelJob(job_id=job_id)
