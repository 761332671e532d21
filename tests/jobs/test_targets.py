"""Edits whose target is named: two jobs that are opened, priced, joined and cancelled as one."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import StudioOpener, Until
from engine_media import write_video
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult
from scripted_provider import Answer, ScriptedProvider

from rotoscope.contracts.arguments import EditVideoWithMask, SegmentVideo, parse_arguments
from rotoscope.contracts.results import JobResult, VideoResult
from rotoscope.errors import InvalidInput, OverBudget
from rotoscope.settings import Settings, read_settings
from rotoscope.store.records import Job, Output
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 17, 16
FINDER = """
id = "me/finder"
title = "Finder"
tool = "segment_video"
source = "me"
rank = 1
[[routes]]
provider = "replicate"
form = "official"
endpoint = "me/finder"
[routes.price]
unit = "run"
usd = 0.25
seen = "2026-11"
[inputs.clip]
kind = "video"
required = true
argument = "video"
[inputs.words]
kind = "string"
argument = "instruction"
[inputs.points]
kind = "object"
many = true
argument = "points"
encode = "framed_points"
[inputs.box]
kind = "object"
many = true
argument = "box"
encode = "framed_box"
[outputs]
rle = "$"
[timing]
typical_seconds = 5
deadline_seconds = 60
[example]
clip = "https://example.com/a.mp4"
"""
PRICE = """
["prunaai/vace-14b@replicate"]
unit = "run"
usd = 0.5
seen = "2026-11"
"""
RUNS = " ".join(f"{row * WIDTH + 20} 30" for row in range(10, 50))
FILM_URL = "https://sandbox.invalid/out.mp4"


class Runs:
    """What becomes of each run, by its number from 1 on: it works until a test says how it ends."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.ends: dict[int, dict[str, Any]] = {}
        self.cancelled: list[int] = []
        self.forgotten: set[int] = set()
        provider.respond = self.answer

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        if method == "GET" and path.startswith("/v1/predictions/p"):
            number = int(path.removeprefix("/v1/predictions/p"))
            if number in self.forgotten:
                return 404, {"detail": "gone"}
            return 200, self.provider.full(self.ends.get(number, {"status": "processing"}), f"p{number}")
        if path.endswith("/cancel"):
            number = int(path.split("/")[-2].removeprefix("p"))
            self.cancelled.append(number)
            self.ends[number] = {"status": "canceled"}
            return 200, self.provider.full(self.ends[number], f"p{number}")
        return await self.provider.answer(method, path, body)

    def find(self, number: int) -> None:
        self.ends[number] = {"status": "succeeded", "output": [RUNS] * FRAMES}

    def edit(self, number: int) -> None:
        self.ends[number] = {"status": "succeeded", "output": FILM_URL}


@pytest.fixture
def clip(home: Path) -> str:
    chance = np.random.default_rng(2)
    write_video(home / "clip.mp4", [chance.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)] * FRAMES, Fraction(RATE))
    return str(home / "clip.mp4")


@pytest.fixture
def provider(provider: ScriptedProvider, settings: Settings, clip: str) -> ScriptedProvider:
    (settings.home / "models").mkdir(parents=True, exist_ok=True)
    (settings.home / "models" / "finder.toml").write_text(FINDER, encoding="utf-8")
    (settings.home / "models" / "prices.toml").write_text(PRICE, encoding="utf-8")
    provider.files["/out.mp4"] = Path(clip).read_bytes()
    return provider


@pytest.fixture
def runs(provider: ScriptedProvider) -> Runs:
    return Runs(provider)


def edit_of(clip: str, target: object = "the ball", **more: Any) -> EditVideoWithMask:
    given = {"prompt": "an empty court", "model": "prunaai/vace-14b@replicate", "seed": 3, **more}
    return parse_arguments(EditVideoWithMask, {"video": clip, "target": target, **given})


async def begin(studio: Studio, arguments: EditVideoWithMask) -> Job:
    return (await studio.start(await studio.plan("edit_video_with_mask", arguments, "local"))).job


async def end_of(studio: Studio, job: Job) -> VideoResult:
    with anyio.fail_after(120):
        result = await studio.result(await studio.wait(job, 100))
    assert isinstance(result, VideoResult)
    return result


@pytest.fixture
def sent(provider: ScriptedProvider, until: Until) -> Any:
    """Waits until so many paying requests were sent."""

    async def wait(wanted: int) -> None:
        async def has_sent() -> bool:
            return provider.posts == wanted

        await until(has_sent)

    return wait


async def run_whole(studio: Studio, runs: Runs, sent: Any, arguments: EditVideoWithMask) -> VideoResult:
    """An edit from its call to its end, where it is the first of all requests."""
    job = await begin(studio, arguments)
    await sent(1)
    runs.find(1)
    await sent(2)
    runs.edit(2)
    return await end_of(studio, job)


@pytest.mark.parametrize(
    ("target", "named", "value"),
    [
        ("the ball", "words", "the ball"),
        ({"left": 20, "top": 10, "right": 50, "bottom": 50}, "box", None),
        ('[{"x": 30, "y": 20}]', "points", None),
        ({"x": 30, "y": 20}, "points", None),
    ],
    ids=["words", "a box", "points as text", "one point"],
)
async def test_a_target_is_found_in_every_frame_and_what_was_found_is_edited(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any, target: object, named: str, value: Any
) -> None:
    result = await run_whole(studio, runs, sent, edit_of(clip, target))
    assert result.status == "succeeded", result.error
    first, second = provider.inputs
    assert named in first
    assert value is None or first[named] == value
    assert second["src_mask"] == "https://sandbox.invalid/v1/files/f1"
    assert result.mask_selects is not None
    # What was found has 30 x 40 pixels; its mask is grown by two on each side, for the rim of the object.
    assert result.mask_selects.most == pytest.approx(34 * 44 / (WIDTH * HEIGHT), abs=0.01)
    assert [(step.tool, step.status, step.reused) for step in result.steps] == [
        ("segment_video", "succeeded", False),
        ("edit_video_with_mask", "succeeded", False),
    ]
    assert result.request["target"] is not None
    assert result.changes is not None
    found = await studio.result(await studio.job(result.steps[0].job_id, "local"))
    assert found.status == "succeeded"


async def test_a_dry_run_shows_both_requests_and_their_sum_and_begins_nothing(
    studio: Studio, provider: ScriptedProvider, clip: str
) -> None:
    shown = await studio.perform("edit_video_with_mask", edit_of(clip, dry_run=True), "local", 60)
    assert isinstance(shown, VideoResult)
    assert (shown.cost.estimate_usd, shown.cost.at_most_usd) == (0.75, 0.75)
    assert [step.cost.estimate_usd for step in shown.steps] == [0.25, 0.5]
    bodies = [step.planned_request.body for step in shown.steps if step.planned_request is not None]
    assert [sorted(body["input"]) for body in bodies] == [  # type: ignore[call-overload]  # a JSON object
        ["clip", "words"],
        sorted(["prompt", "seed", "src_mask", "src_video", "frame_num"]),
    ]
    assert "step://" not in shown.model_dump_json()
    assert provider.posts == 0
    assert (await studio.list("local", None, 10)).jobs == []


async def test_caps_hold_for_both_steps_together(
    environment: dict[str, str], provider: ScriptedProvider, opened: StudioOpener, clip: str
) -> None:
    async with opened(read_settings({**environment, "ROTOSCOPE_MAX_USD_PER_CALL": "0.7"}), provider) as studio:
        with pytest.raises(OverBudget, match=r"0\.75"):
            await begin(studio, edit_of(clip))
        assert (await studio.list("local", None, 10)).jobs == []
    async with opened(read_settings({**environment, "ROTOSCOPE_MAX_USD_PER_DAY": "0.7"}), provider) as studio:
        with pytest.raises(OverBudget):
            await begin(studio, edit_of(clip))
        assert (await studio.list("local", None, 10)).jobs == []


async def test_what_was_found_is_used_again_by_another_edit_and_not_paid_again(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    first = await run_whole(studio, runs, sent, edit_of(clip))
    await studio.mark_delivered(first, "local")
    again = await begin(studio, edit_of(clip, prompt="a cat"))
    await sent(3)
    runs.edit(3)
    result = await end_of(studio, again)
    assert result.status == "succeeded", result.error
    assert [step.reused for step in result.steps] == [True, False]
    assert result.steps[0].job_id == first.steps[0].job_id
    assert (first.cost.estimate_usd, result.cost.estimate_usd) == (0.75, 0.5)


async def test_a_dry_run_leaves_out_of_the_sum_what_was_found_before(
    studio: Studio, runs: Runs, clip: str, sent: Any
) -> None:
    first = await run_whole(studio, runs, sent, edit_of(clip))
    shown = await studio.perform("edit_video_with_mask", edit_of(clip, prompt="a cat", dry_run=True), "local", 60)
    assert isinstance(shown, VideoResult)
    assert (shown.cost.estimate_usd, shown.cost.at_most_usd) == (0.5, 0.5)
    assert [(step.reused, step.planned_request is None) for step in shown.steps] == [(True, True), (False, False)]
    assert (shown.steps[0].job_id, shown.steps[0].status) == (first.steps[0].job_id, "succeeded")
    delete_files(studio, await studio.context.ledger.outputs(first.steps[0].job_id, "local"))
    shown = await studio.perform("edit_video_with_mask", edit_of(clip, prompt="a cat", dry_run=True), "local", 60)
    assert isinstance(shown, VideoResult)
    assert shown.cost.estimate_usd == 0.75
    assert not any(step.reused for step in shown.steps)


def delete_files(studio: Studio, outputs: Sequence[Output]) -> None:
    for output in outputs:
        address = studio.context.vault.address(output.artifact.sha256)
        if address is not None and address.path is not None:  # outputs of equal content are one file
            address.path.unlink()


@pytest.mark.parametrize(
    ("above", "question"),
    [("0.6", None), ("0.4", "edit_video_with_mask with prunaai/vace-14b at replicate costs about 0.50 USD")],
    ids=["cheap without it", "expensive without it"],
)
async def test_a_user_is_not_asked_about_the_price_of_what_was_found_before(
    environment: dict[str, str], studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any,
    serve: Callable[..., Any], above: str, question: str | None,
) -> None:  # fmt: skip
    await run_whole(studio, runs, sent, edit_of(clip))
    asked: list[str] = []

    async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept")

    runs.edit(3)
    server = serve(read_settings({**environment, "ROTOSCOPE_ASK_ABOVE_USD": above}), provider)
    with anyio.fail_after(120):
        async with Client(server, elicitation_callback=agree) as client:
            given = edit_of(clip, prompt="a cat").model_dump(mode="json", exclude_unset=True)
            answer = await client.call_tool("edit_video_with_mask", given)
    assert not answer.is_error, answer.content
    assert provider.posts == 3
    assert [text.partition(" (")[0] for text in asked] == ([question] if question else [])


@pytest.mark.parametrize("is_kept_there", [True, False], ids=["the provider has it", "it is gone for good"])
async def test_a_found_object_whose_file_is_gone_is_found_once_more_only_where_nobody_has_it(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any, is_kept_there: bool
) -> None:
    first = await run_whole(studio, runs, sent, edit_of(clip))
    found = await studio.job(first.steps[0].job_id, "local")
    delete_files(studio, await studio.context.ledger.outputs(found.id, "local"))
    if not is_kept_there:
        runs.forgotten.add(1)
        runs.find(3)
    again = await begin(studio, edit_of(clip, prompt="a cat"))
    last = 3 if is_kept_there else 4
    await sent(last)
    runs.edit(last)
    result = await end_of(studio, again)
    assert result.status == "succeeded", result.error
    assert (result.steps[0].job_id == found.id) == is_kept_there


async def test_an_equal_request_joins_the_whole_while_its_first_step_runs(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    job = await begin(studio, edit_of(clip))
    await sent(1)
    assert (await begin(studio, edit_of(clip))).id == job.id
    runs.find(1)
    await sent(2)
    assert (await begin(studio, edit_of(clip))).id == job.id
    runs.edit(2)
    assert (await end_of(studio, job)).status == "succeeded"
    assert provider.posts == 2


async def test_whoever_listens_to_the_whole_hears_of_the_changes_of_its_step(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    job = await begin(studio, edit_of(clip))
    changed: list[str] = []
    unsubscribe = studio.subscribe(changed.append)
    await sent(1)
    runs.ends[1] = {"status": "failed", "error": "out of memory"}
    await end_of(studio, job)
    unsubscribe()
    step = (await studio.context.ledger.awaited_jobs(job))[0].job
    first = changed.index(step.id)
    assert changed[first + 1] == job.id


async def test_cancelling_the_whole_cancels_the_step_at_its_provider(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    job = await begin(studio, edit_of(clip))
    await sent(1)
    await studio.cancel(job.id, "local")
    result = await end_of(studio, job)
    step = await end_of_any(studio, result.steps[0].job_id)
    assert (result.status, step.status) == ("cancelled", "cancelled")
    assert runs.cancelled == [1]
    assert provider.posts == 1


async def end_of_any(studio: Studio, job_id: str) -> JobResult:
    with anyio.fail_after(120):
        return await studio.result(await studio.wait(await studio.job(job_id, "local"), 100))


async def test_a_step_that_somebody_else_wants_goes_on_when_the_whole_is_cancelled(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    job = await begin(studio, edit_of(clip))
    await sent(1)
    alone = SegmentVideo(video=clip, instruction="the ball")
    joined = await studio.start(await studio.plan("segment_video", alone, "local"))
    await studio.cancel(job.id, "local")
    runs.find(1)
    assert (await end_of_any(studio, joined.job.id)).status == "succeeded"
    assert joined.is_joined
    assert provider.posts == 1


async def test_a_target_that_was_not_found_ends_the_whole_unpaid_and_is_looked_for_again(
    studio: Studio, provider: ScriptedProvider, runs: Runs, clip: str, sent: Any
) -> None:
    job = await begin(studio, edit_of(clip))
    await sent(1)
    runs.ends[1] = {"status": "failed", "error": "out of memory"}
    result = await end_of(studio, job)
    assert result.status == "failed"
    assert result.error is not None
    assert "segment_video" in result.error.message
    assert result.steps[1].cost.charged_usd == 0.0
    await studio.mark_delivered(result, "local")
    again = await begin(studio, edit_of(clip, prompt="a cat"))
    assert again.id != job.id
    await sent(2)
    runs.find(2)
    await sent(3)
    runs.edit(3)
    assert (await end_of(studio, again)).status == "succeeded"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Nothing says which part"),
        ({"target": "the ball", "mask": "mask.png"}, "'mask' and 'target' both say"),
        ({"target": {"left": 1}}, "'target' is wrong"),
        ({"target": 5}, "'target' is wrong"),
        ({"target": {"left": 90, "top": 0, "right": 200, "bottom": 10}}, "beyond the picture"),
    ],
    ids=["neither", "both", "half a box", "a number", "outside"],
)
async def test_a_target_that_cannot_be_is_refused_before_anything_is_begun(
    studio: Studio, provider: ScriptedProvider, clip: str, given: dict[str, Any], words: str
) -> None:
    async def ask() -> None:
        arguments = parse_arguments(EditVideoWithMask, {"video": clip, "prompt": "an empty court", **given})
        await begin(studio, arguments)

    with pytest.raises(InvalidInput, match=words):
        await ask()
    assert (await studio.list("local", None, 10)).jobs == []
    assert provider.posts == 0


BY_WORDS = """
id = "{id}"
title = "By words"
tool = "edit_video_with_mask"
source = "me"
rank = {rank}
[[routes]]
provider = "{provider}"
form = "{form}"
endpoint = "me/words"
[inputs.clip]
kind = "video"
required = true
argument = "video"
[inputs.prompt]
kind = "string"
required = true
argument = "prompt"
{more}
[outputs]
video = "$"
[timing]
typical_seconds = 5
deadline_seconds = 60
[example]
clip = "https://example.com/a.mp4"
prompt = "x"
"""


async def test_a_model_without_a_mask_is_chosen_with_a_warning_where_no_other_can_be_used(
    environment: dict[str, str], provider: ScriptedProvider, clip: str, opened: StudioOpener
) -> None:
    """A user's file has taken the place of each model that takes a mask, at a provider without a key."""
    mask = '[inputs.matte]\nkind = "video"\nargument = "mask"\ncovers = "clip"\n'
    models = {
        "prunaai/vace-14b": ("segmind", "v2", mask),
        "fal-ai/wan-22-vace-fun-a14b/inpainting": ("segmind", "v2", mask),
        "fal-ai/void-video-inpainting": ("segmind", "v2", mask),
        "me/words": ("replicate", "official", ""),
    }
    models_folder = read_settings(environment).home / "models"
    for number, (name, (where, form, more)) in enumerate(models.items()):
        text = BY_WORDS.format(id=name, rank=number + 1, provider=where, form=form, more=more)
        (models_folder / f"m{number}.toml").write_text(text, encoding="utf-8")
    asked = {"video": clip, "prompt": "a cat", "target": "the ball", "dry_run": True}
    with_key = read_settings({**environment, "REPLICATE_API_TOKEN": "r8_test", "ROTOSCOPE_SANDBOX": "never"})
    async with opened(with_key, provider) as studio:
        result = await studio.perform("edit_video_with_mask", parse_arguments(EditVideoWithMask, asked), "local", 60)
    assert isinstance(result, VideoResult)
    assert result.model == "me/words"
    assert any("No model that takes a mask can be used" in one for one in result.warnings)
    assert any("What the target finds is not sent" in one for one in result.warnings)
