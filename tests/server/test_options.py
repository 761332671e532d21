"""`options`: further inputs of a model by the provider's own names, as a client of either era gives them."""

import json
from pathlib import Path
from typing import Any

import pytest
from calls import BOX, text_of
from mcp import Client

from rotoscope.cli.demo_clip import draw_clip
from rotoscope.settings import Settings

pytestmark = pytest.mark.anyio
MANIFEST = """
id = "me/videos"
title = "Mine"
tool = "generate_video"
source = "a test"
[[routes]]
provider = "fal"
form = "queue"
endpoint = "me/videos"
[inputs.prompt]
kind = "string"
required = true
argument = "prompt"
[inputs.image_url]
kind = "image"
argument = "first_frame"
[inputs.seconds]
kind = "string"
argument = "duration"
default = "5"
choices = ["5", "10"]
[inputs.negative_prompt]
kind = "string"
send = "blur"
max_length = 20
[inputs.guidance]
kind = "number"
minimum = 0
maximum = 10
[inputs.steps]
kind = "integer"
minimum = 1
maximum = 50
[inputs.is_looped]
kind = "boolean"
default = false
[inputs.styles]
kind = "string"
many = true
max_items = 2
[inputs.camera]
kind = "object"
[inputs.sound_url]
kind = "audio"
[inputs.style_url]
kind = "image"
[inputs.look_url]
kind = "image"
argument = "reference_images"
[inputs.seed]
kind = "integer"
argument = "seed"
drawn = true
[outputs]
video = "video"
[timing]
typical_seconds = 60
deadline_seconds = 600
[price]
unit = "output_second"
usd = 0.1
seen = "2026-11"
[example]
prompt = "a cat"
"""


@pytest.fixture(autouse=True)
def own_model(settings: Settings) -> None:
    folder = settings.home / "models"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "mine.toml").write_text(MANIFEST, encoding="utf-8")


async def plan(client: Client, options: object, **more: Any) -> dict[str, Any]:
    asked = {"prompt": "a cat", "model": "me/videos", "options": options, "dry_run": True, **more}
    answer = await client.call_tool("generate_video", asked)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


async def refusal(client: Client, options: object, **more: Any) -> str:
    asked = {"prompt": "a cat", "model": "me/videos", "options": options, "dry_run": True, **more}
    answer = await client.call_tool("generate_video", asked)
    assert answer.is_error
    assert answer.structured_content is None
    return text_of(answer)


OPTIONS = {
    "negative_prompt": " none ",
    "guidance": 7.5,
    "steps": "20",
    "is_looped": True,
    "styles": ["oil", "ink"],
    "camera": {"pan": [1, 2], "zoom": {"from": 1}},
}


@pytest.mark.parametrize("spelled", [OPTIONS, json.dumps(OPTIONS)], ids=["object", "JSON text"])
async def test_options_are_sent_under_their_own_names_and_shown(client: Client, spelled: object) -> None:
    found = await plan(client, spelled, seed=7)
    sent = {**OPTIONS, "negative_prompt": "none", "steps": 20, "prompt": "a cat", "seed": 7}
    assert found["planned_input"] == sent
    assert found["planned_request"]["body"] == sent
    assert found["request"]["options"] == OPTIONS


async def test_without_options_an_input_is_what_the_manifest_sends(client: Client) -> None:
    found = await plan(client, None)
    assert found["planned_input"]["negative_prompt"] == "blur"
    assert "options" not in found["request"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidence": 5}, ["'guidence'", "Did you mean 'guidance'?", "negative_prompt, guidance, steps"]),
        ({"qqq": 5}, ["'qqq'", "Options it takes:", "sound_url"]),
        ({"duration": 5}, ["'duration' is an argument of the tool"]),
        ({"guidance": 11}, ["'options.guidance' is 11; the model takes 0 to 10"]),
        ({"guidance": "much"}, ["'options.guidance' must be a number"]),
        ({"steps": 2.5}, ["'options.steps' must be a whole number"]),
        ({"is_looped": "yes"}, ["'options.is_looped' must be true or false"]),
        ({"negative_prompt": 5}, ["'options.negative_prompt' must be text"]),
        ({"negative_prompt": "x" * 21}, ["'options.negative_prompt' has 21 characters"]),
        ({"styles": ["a", "b", "c"]}, ["'options.styles' has 3 items"]),
        ({"styles": [{"a": 1}]}, ["'options.styles' must be text"]),
        ({"seconds": "7"}, ["'options.seconds' cannot be '7'", "5, 10"]),
        ({"camera": 5}, ["'options.camera' must be a JSON object"]),
        ({"camera": {"a": [[[[[[[[1]]]]]]]]}}, ["'options.camera' has more than"]),
        ({"camera": {"a": "x" * 30_000}}, ["'options.camera' has more than"]),
        ("guidance=5", ["'options'", "not a JSON object"]),
        ([1], ["'options'", "not a JSON object"]),
        ({f"n{number}": 1 for number in range(65)}, ["'options'", "64"]),
    ],
    ids=lambda one: str(one)[:40],
)
async def test_a_wrong_option_is_refused_by_its_name(client: Client, options: object, words: list[str]) -> None:
    said = await refusal(client, options)
    for one in words:
        assert one in said


async def test_an_option_for_an_input_whose_argument_is_given_is_refused(client: Client) -> None:
    said = await refusal(client, {"seconds": "10"}, duration=5)
    assert "The option 'seconds' and the argument 'duration' fill the same input" in said
    assert (await plan(client, {"seconds": "10"}))["planned_input"]["seconds"] == "10"


async def test_a_run_whose_length_an_option_gives_is_priced_by_it(client: Client) -> None:
    assert (await plan(client, {"seconds": "10"}))["cost"]["estimate_usd"] == pytest.approx(1.0)
    assert (await plan(client, None))["cost"]["estimate_usd"] == pytest.approx(0.5)


async def test_a_file_given_as_an_option_is_checked_like_every_other_file(
    client: Client, photo: Path, home: Path
) -> None:
    found = await plan(client, {"style_url": str(photo)})
    assert found["planned_input"]["style_url"].startswith("artifact://")
    assert "path_denied" in await refusal(client, {"style_url": "/etc/hostname"})
    draw_clip(home / "ball.mp4")
    assert "A picture is needed" in await refusal(client, {"style_url": str(home / "ball.mp4")})


async def test_the_seed_may_be_an_option(client: Client) -> None:
    found = await plan(client, {"seed": 5})
    assert found["seed"] == 5
    assert found["planned_input"]["seed"] == 5


async def test_equal_options_are_one_request_and_others_are_another(client: Client, photo: Path) -> None:
    async def job(options: object) -> str:
        asked = {"image": str(photo), "box": BOX, "model": "fal-ai/sam2/image", "options": options}
        answer = await client.call_tool("segment_image", asked)
        assert answer.structured_content is not None
        assert not answer.is_error, answer.structured_content["error"]
        return str(answer.structured_content["job_id"])

    first = await job({"output_format": "webp", "apply_mask": False})
    assert await job('{"apply_mask": false, "output_format": " WebP"}') == first
    assert await job({"apply_mask": False}) != first


async def test_the_pictures_tool_takes_options_of_a_shipped_model(client: Client, photo: Path) -> None:
    asked = {"image": str(photo), "box": BOX, "dry_run": True}
    answer = await client.call_tool(
        "segment_image", {**asked, "model": "fal-ai/sam2/image", "options": {"apply_mask": True}}
    )
    assert answer.structured_content is not None
    assert answer.structured_content["planned_input"]["apply_mask"] is True


async def test_a_list_of_one_file_fills_an_input_that_takes_one_and_more_are_refused(
    client: Client, photo: Path
) -> None:
    found = await plan(client, None, reference_images=[str(photo)])
    assert found["planned_input"]["look_url"].startswith("artifact://")
    said = await refusal(client, None, reference_images=[str(photo), str(photo)])
    assert "'reference_images' has 2 items; the model takes at most 1" in said
