"""Jobs that take what other jobs make: they begin when it is there, and nothing is paid for what cannot be used."""

import json
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import StudioOpener, Until
from films import film
from photos import mask_png
from PIL import Image
from scripted_provider import Answer, ScriptedProvider

from rotoscope.contracts.arguments import EditVideoWithMask, GenerateVideo, parse_arguments
from rotoscope.contracts.results import JobRecord, VideoResult
from rotoscope.errors import InvalidInput, UserMistake
from rotoscope.settings import Settings
from rotoscope.store.records import Job
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
FILM_URL = "https://sandbox.invalid/out.mp4"


class Runs:
    """What becomes of each run, by its id: it works until a test says how it ends."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.ends: dict[str, dict[str, Any]] = {}
        provider.respond = self.answer

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        if method == "GET" and path.startswith("/v1/predictions/"):
            run = path.split("/")[3]
            return 200, self.provider.full(self.ends.get(run, {"status": "processing"}), run)
        if path.endswith("/cancel"):
            run = path.split("/")[-2]
            self.ends[run] = {"status": "canceled"}
            return 200, self.provider.full(self.ends[run], run)
        return await self.provider.answer(method, path, body)

    def succeed(self, run: str) -> None:
        self.ends[run] = {"status": "succeeded", "output": FILM_URL}


@pytest.fixture
def runs(provider: ScriptedProvider, tmp_path: Path) -> Runs:
    provider.files["/out.mp4"] = film(tmp_path / "out.mp4", size=(512, 512)).read_bytes()
    return Runs(provider)


@pytest.fixture
def mask(home: Path) -> str:
    (home / "mask.png").write_bytes(mask_png())
    return str(home / "mask.png")


async def begin(studio: Studio, tool: str, arguments: Any) -> Job:
    return (await studio.start(await studio.plan(tool, arguments, "local"))).job


async def begin_film(studio: Studio, **more: Any) -> Job:
    return await begin(studio, "generate_video", GenerateVideo(prompt="a street", seed=7, **more))


async def begin_edit(studio: Studio, video: str, mask: str, **more: Any) -> Job:
    given = {"prompt": "rain", "model": "prunaai/vace-14b@replicate", "video": video, "mask": mask, "seed": 3, **more}
    return await begin(studio, "edit_video_with_mask", parse_arguments(EditVideoWithMask, given))


async def end_of(studio: Studio, job: Job) -> VideoResult:
    with anyio.fail_after(120):
        result = await studio.result(await studio.wait(job, 100))
    assert isinstance(result, VideoResult)
    return result


async def test_an_output_of_a_job_that_goes_on_becomes_an_input_when_it_is_there(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, until: Until
) -> None:
    film = await begin_film(studio)
    edit = await begin_edit(studio, f"job://{film.id}", mask)
    await until(lambda: _has_runs(provider, 1))
    waiting = await studio.result(await studio.job(edit.id, "local"))
    assert isinstance(waiting, VideoResult)
    assert (waiting.status, [step.tool for step in waiting.steps]) == (
        "queued",
        ["generate_video", "edit_video_with_mask"],
    )
    assert waiting.message.startswith("step 1 of 2, generate_video: ")
    assert 0 < waiting.progress < 0.7
    record = await studio.result(await studio.job(edit.id, "local"), JobRecord)
    assert isinstance(record, JobRecord)
    assert [one.argument for one in record.inputs] == ["mask"]  # there is no video yet
    runs.succeed("p1")
    await until(lambda: _has_runs(provider, 2))
    runs.succeed("p2")
    result = await end_of(studio, edit)
    assert result.status == "succeeded", result.error
    assert result.video is not None
    assert [step.status for step in result.steps] == ["succeeded", "succeeded"]
    assert provider.posts == 2
    assert "step://" not in json.dumps(provider.inputs)
    assert provider.inputs[1]["frame_num"] == 17  # by the clip, which nobody knew when the edit was asked for


async def _has_runs(provider: ScriptedProvider, wanted: int) -> bool:
    return provider.posts == wanted


@pytest.mark.parametrize("is_late", [False, True], ids=["while it goes on", "after its end"])
async def test_an_equal_request_joins_a_job_that_was_opened_while_its_input_was_made(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, until: Until, is_late: bool
) -> None:
    film = await begin_film(studio)
    edit = await begin_edit(studio, f"job://{film.id}/video", mask)
    if is_late:
        runs.succeed("p1")
        await until(lambda: _has_runs(provider, 2))
    again = await begin_edit(studio, f"job://{film.id}", mask)
    assert again.id == edit.id
    runs.succeed("p1")
    runs.succeed("p2")
    assert (await end_of(studio, edit)).status == "succeeded"
    assert provider.posts == 2


async def test_a_job_whose_input_was_not_made_fails_unpaid_and_says_why(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str
) -> None:
    film = await begin_film(studio)
    edit = await begin_edit(studio, f"job://{film.id}", mask)
    runs.ends["p1"] = {"status": "failed", "error": "NSFW content detected"}
    result = await end_of(studio, edit)
    assert result.status == "failed"
    assert result.error is not None
    assert film.id in result.error.message
    assert "Nothing was sent or paid for the step after it." in result.error.hint
    assert provider.posts == 1
    assert result.steps[1].cost.charged_usd == 0.0


async def test_a_job_is_cancelled_with_the_one_that_it_waits_for(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, until: Until
) -> None:
    film = await begin_film(studio)
    edit = await begin_edit(studio, f"job://{film.id}", mask)
    await until(lambda: _has_runs(provider, 1))
    await studio.cancel(film.id, "local")
    assert (await end_of(studio, edit)).status == "cancelled"
    assert provider.posts == 1


async def test_a_job_that_a_user_has_begun_goes_on_when_what_waits_for_it_is_cancelled(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, until: Until
) -> None:
    film = await begin_film(studio)
    edit = await begin_edit(studio, f"job://{film.id}", mask)
    await until(lambda: _has_runs(provider, 1))
    assert (await studio.cancel(edit.id, "local")).state == "cancelled"
    runs.succeed("p1")
    assert (await end_of(studio, film)).status == "succeeded"
    assert provider.posts == 1


async def test_an_output_of_another_kind_or_that_nobody_can_expect_is_refused_before_anything_is_begun(
    studio: Studio, runs: Runs, mask: str
) -> None:
    film = await begin_film(studio)
    with pytest.raises(InvalidInput, match="takes no video"):
        await studio.plan("generate_video", GenerateVideo(prompt="x", first_frame=f"job://{film.id}"), "local")
    with pytest.raises(InvalidInput, match="no output 'poster'"):
        await begin_edit(studio, f"job://{film.id}/poster", mask)
    with pytest.raises(UserMistake, match="'step' are not read"):
        await begin_edit(studio, "step://0/video/video", mask)


async def test_a_chain_goes_on_in_another_process(
    settings: Settings, provider: ScriptedProvider, runs: Runs, mask: str, opened: StudioOpener, until: Until
) -> None:
    async with opened(settings, provider) as first:
        film = await begin_film(first)
        edit = await begin_edit(first, f"job://{film.id}", mask)
        await until(lambda: _has_runs(provider, 1))
    runs.succeed("p1")
    runs.succeed("p2")
    async with opened(settings, provider) as second:
        result = await end_of(second, await second.job(edit.id, "local"))
    assert result.status == "succeeded", result.error
    assert provider.posts == 2


BY_WORDS = {"model": "fal-ai/wan/v2.7/edit-video@replicate"}


async def test_a_film_that_turns_out_too_short_for_a_model_is_not_sent(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, tmp_path: Path
) -> None:
    provider.files["/out.mp4"] = film(tmp_path / "short.mp4", size=(512, 512), frames=17, rate=16).read_bytes()
    edit = await begin_edit(studio, f"job://{(await begin_film(studio)).id}", mask, **BY_WORDS)
    runs.succeed("p1")
    result = await end_of(studio, edit)
    assert result.status == "failed"
    assert result.error is not None
    assert "the model takes at least 2 s" in result.error.message
    assert provider.posts == 1


async def test_a_mask_that_is_not_sent_tells_equal_requests_for_a_film_that_is_made_apart(
    studio: Studio, provider: ScriptedProvider, runs: Runs, mask: str, home: Path, tmp_path: Path, until: Until
) -> None:
    provider.files["/out.mp4"] = film(tmp_path / "long.mp4", size=(512, 512), frames=33, rate=16).read_bytes()
    made = await begin_film(studio)
    pixels = np.zeros((512, 512), np.uint8)
    pixels[:, :256] = 255
    Image.fromarray(pixels).save(home / "half.png")
    edit = await begin_edit(studio, f"job://{made.id}", mask, **BY_WORDS)
    assert (await begin_edit(studio, f"job://{made.id}", mask, **BY_WORDS)).id == edit.id
    other = await begin_edit(studio, f"job://{made.id}", str(home / "half.png"), **BY_WORDS)
    assert other.id != edit.id
    runs.succeed("p1")
    await until(lambda: _has_runs(provider, 3))
    assert (await begin_edit(studio, f"job://{made.id}", mask, **BY_WORDS)).id == edit.id
    for run in ("p2", "p3"):
        runs.succeed(run)
    for job, share in ((edit, None), (other, 0.5)):
        result = await end_of(studio, job)
        assert result.status == "succeeded", result.error
        assert result.changes is not None
        assert share is None or result.changes.mask_share == pytest.approx(share, abs=0.01)
        assert any("The mask is not sent" in one for one in result.warnings)
    assert "mask" not in json.dumps(provider.inputs[1:])
