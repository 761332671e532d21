"""Prompts that begin the chains people want, and completions of what may stand in them, in both eras."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent

pytestmark = pytest.mark.anyio
GIVEN = {
    "remove_from_video": {"video": "clip.mp4", "what": "the red ball"},
    "storyboard_to_video": {"storyboard": "board.png", "duration": "8", "aspect_ratio": "16:9"},
    "photo_to_coco": {"image": "street.jpg", "focus": "the cars"},
}
STEPS = {
    "remove_from_video": ["segment_video", "view_media", "edit_video_with_mask", "dry_run", "get_job"],
    "storyboard_to_video": ["generate_video", "reference_images", "duration 8", "dry_run", "get_job", "view_media"],
    "photo_to_coco": ["describe_with_masks", "view_media", "segment_image", "coco"],
}


async def values(client: Client, ref: Any, argument: str, typed: str = "") -> list[str]:
    with anyio.fail_after(180):
        return (await client.complete(ref, {"name": argument, "value": typed})).completion.values


def prompt(name: str) -> PromptReference:
    return PromptReference(type="ref/prompt", name=name)


def template(uri: str) -> ResourceTemplateReference:
    return ResourceTemplateReference(type="ref/resource", uri=uri)


@pytest.mark.parametrize("name", GIVEN)
async def test_a_prompt_tells_its_chain_of_tools_in_order_with_what_was_given(client: Client, name: str) -> None:
    (message,) = (await client.get_prompt(name, GIVEN[name])).messages
    assert isinstance(message.content, TextContent)
    text = message.content.text
    for value in GIVEN[name].values():
        assert value in text
    places = [text.index(step) for step in STEPS[name]]
    assert places[0] == min(places)


async def test_every_prompt_argument_is_explained_and_only_the_needed_ones_are_required(client: Client) -> None:
    for one in (await client.list_prompts()).prompts:
        needed = {argument.name for argument in one.arguments or () if argument.required}
        assert needed
        assert needed <= set(GIVEN[one.name])
        assert all(argument.description for argument in one.arguments or ())


@pytest.mark.parametrize(("name", "given"), [("no_such_prompt", {}), ("remove_from_video", {"video": "a.mp4"})])
async def test_a_prompt_that_does_not_exist_or_lacks_an_argument_is_invalid_params(
    client: Client, name: str, given: dict[str, str]
) -> None:
    with pytest.raises(MCPError) as caught:
        await client.get_prompt(name, given)
    assert caught.value.code == -32602


async def test_model_ids_are_completed_for_links_and_for_the_tool_of_a_prompt(client: Client) -> None:
    every = await values(client, template("model://{+model_id}"), "model_id")
    assert {"prunaai/vace-14b", "bytedance/seedance-2.0", "sam-v2-image"} <= set(every)
    assert await values(client, template("model://{+model_id}"), "model_id", "pruna") == ["prunaai/vace-14b"]
    films = await values(client, prompt("storyboard_to_video"), "model", "seed")
    assert films[0] == "bytedance/seedance-2.0", "the one that is used by default"
    assert set(films) < set(every)
    assert "prunaai/vace-14b" in await values(client, prompt("remove_from_video"), "model")
    assert not set(films) & set(await values(client, prompt("remove_from_video"), "model"))


async def test_job_ids_are_completed_newest_first(client: Client, photo: Path) -> None:
    jobs = []
    for n in range(2):
        with anyio.fail_after(180):
            answer = await client.call_tool("segment_image", {"image": str(photo), "box": {**BOX, "left": n}})
        assert answer.structured_content is not None
        jobs.append(answer.structured_content["job_id"])
    assert await values(client, template("job://{job_id}"), "job_id") == jobs[::-1]
    assert await values(client, template("job://{job_id}"), "job_id", jobs[0][:20]) == [jobs[0]]
    assert await values(client, prompt("photo_to_coco"), "image", "job://") == [f"job://{job}" for job in jobs[::-1]]


async def test_choices_are_completed_from_what_the_models_take(client: Client) -> None:
    ref = prompt("storyboard_to_video")
    assert {"480p", "720p"} <= set(await values(client, ref, "resolution"))
    assert await values(client, ref, "aspect_ratio", "16") == ["16:9", "9:16"]
    assert {"4", "15", "-1"} <= set(await values(client, ref, "duration"))


async def test_where_nothing_is_known_nothing_is_offered(client: Client) -> None:
    assert await values(client, template("artifact://{sha256}"), "sha256") == []
    assert await values(client, prompt("remove_from_video"), "what", "the") == []
    assert await values(client, prompt("no_such_prompt"), "model") == []
