"""The tools as a client of either era meets them, in memory, on the sandbox."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import BOX, text_of
from coco_reader import mask_of_rle
from early_progress import leave_out_early
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from PIL import Image
from vaults import stored_path

from rotoscope.media.vault import FolderVault
from rotoscope.models.access import SANDBOX_URL
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = pytest.mark.anyio
SEEDANCE = "bytedance/seedance-2.0@replicate"  # the other route takes no seed


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(180):
        answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


async def test_a_box_gives_a_mask_of_the_photos_size(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    assert found["status"] == "succeeded"
    (mask,) = found["masks"]
    with Image.open(mask["media"]["path"]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (512, 512))
        assert set(picture.get_flattened_data()) == {0, 255}
        bright = picture.histogram()[255] / (512 * 512)
    assert mask["area"] == pytest.approx(bright, abs=1e-5)
    assert 0.2 < mask["area"] < 0.8
    assert mask["box"]["left"] >= BOX["left"] - 5
    assert mask["box"]["right"] <= BOX["right"] + 5


async def test_every_file_of_a_result_is_given_by_path_url_and_link(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    for media in (found["masks"][0]["media"], found["overlay"], found["coco"]):
        path = Path(media["path"])
        assert path.is_absolute()
        assert media["url"] == path.as_uri()
        assert media["file_size"] == path.stat().st_size
        read = (await client.read_resource(media["uri"])).contents[0]
        assert read.mime_type == media["content_type"]
        assert media["source_url"] is None  # nothing can be opened at the built-in sandbox


async def test_the_coco_file_holds_the_mask_as_rle_and_polygons(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    document = json.loads(Path(found["coco"]["path"]).read_text(encoding="utf-8"))
    (annotation,) = document["annotations"]
    height, width = annotation["segmentation"]["size"]
    mask = mask_of_rle(annotation["segmentation"]["counts"], height, width)
    with Image.open(found["masks"][0]["media"]["path"]) as picture:
        assert (mask == (np.asarray(picture) > 0)).all()
    assert annotation["polygons"]


async def test_the_coco_file_names_the_picture_as_it_was_given(client: Client, photo: Path, home: Path) -> None:
    named = home / "my photo.jpg"
    named.write_bytes(photo.read_bytes())
    inline = f"data:image/jpeg;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    made = (await call(client, "segment_image", image=str(named), box=BOX))["overlay"]
    for given, name in ((str(named), "my photo.jpg"), (inline, "picture.jpg"), (made["uri"], Path(made["path"]).name)):
        found = await call(client, "segment_image", image=given, box=BOX)
        document = json.loads(Path(found["coco"]["path"]).read_text(encoding="utf-8"))
        assert document["images"][0]["file_name"] == name


async def test_points_give_a_mask_that_holds_them(client: Client, photo: Path) -> None:
    points = [{"x": 220, "y": 100}, {"x": 480, "y": 40, "keep": False}]
    found = await call(client, "segment_image", image=str(photo), points=points)
    with Image.open(found["masks"][0]["media"]["path"]) as picture:
        assert picture.getpixel((220, 100)) == 255
        assert picture.getpixel((480, 40)) == 0


async def test_words_on_the_sandbox_give_a_mask_and_say_that_no_word_was_understood(
    client: Client, photo: Path
) -> None:
    found = await call(client, "segment_image", image=str(photo), instruction="the astronaut")
    assert found["sandbox"] is True
    assert found["model"] == "fal-ai/sam-3/image"
    assert found["masks"][0]["label"] == "the astronaut"
    assert found["masks"][0]["score"] < 0.5
    reported = " ".join(found["warnings"]).lower()
    assert "sandbox" in reported
    assert "word" in reported
    assert "box" in reported


async def test_a_description_pairs_its_phrases_with_masks(client: Client, photo: Path) -> None:
    found = await call(client, "describe_with_masks", image=str(photo))
    assert len(found["segments"]) == len(found["masks"]) >= 3
    for segment in found["segments"]:
        assert found["text"][segment["start"] : segment["end"]] == segment["phrase"]
        assert found["masks"][segment["mask"]]["label"] == segment["phrase"]
    assert "[SEG]" not in found["text"]
    assert "<" not in found["text"]


async def test_text_alone_tells_everything_that_matters(client: Client, photo: Path) -> None:
    """Half of the clients drop the structured content, the other half the text."""
    with anyio.fail_after(180):
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
    text, found = text_of(answer), answer.structured_content
    assert found is not None
    for fact in (found["job_id"], found["masks"][0]["media"]["path"], found["overlay"]["uri"], "sandbox", "next:"):
        assert fact in text
    assert len(text) < 8000


async def test_an_overlay_is_left_out_on_request(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX, overlay=False)
    assert found["overlay"] is None
    assert found["masks"]


@pytest.mark.parametrize("form", ["path", "data", "artifact", "vault path", "job", "job output"])
async def test_a_picture_may_be_given_in_any_form(client: Client, photo: Path, form: str) -> None:
    first = await call(client, "segment_image", image=str(photo), box=BOX)
    image = {
        "path": photo.name,
        "data": f"data:image/jpeg;base64,{base64.b64encode(photo.read_bytes()).decode()}",
        "artifact": first["overlay"]["uri"],
        "vault path": first["overlay"]["path"],
        "job": f"job://{first['job_id']}",
        "job output": f"job://{first['job_id']}/overlay",
    }[form]
    found = await call(client, "segment_image", image=image, box=BOX)
    assert found["status"] == "succeeded"
    assert len(json.dumps(found["request"])) < 1000


async def test_a_dry_run_shows_the_exact_input_and_makes_no_job(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX, dry_run=True)
    assert (found["dry_run"], found["job_id"], found["cost"]["charged_usd"]) == (True, "", 0.0)
    assert found["planned_input"]["box_prompts"] == [{"x_min": 20, "y_min": 5, "x_max": 420, "y_max": 512}]
    assert (await call(client, "list_jobs"))["jobs"] == []


async def test_a_finished_job_is_found_again_by_get_job_list_jobs_and_its_link(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    again = await call(client, "get_job", job_id=found["job_id"])
    assert again["masks"] == found["masks"]
    assert await call(client, "get_job", job_id=f"job://{found['job_id']}") == again
    assert [job["job_id"] for job in (await call(client, "list_jobs"))["jobs"]] == [found["job_id"]]
    read = (await client.read_resource(f"job://{found['job_id']}")).contents[0]
    assert json.loads(read.text)["masks"] == found["masks"]  # type: ignore[union-attr]


async def test_cancelling_a_finished_job_changes_nothing(client: Client, photo: Path) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    assert (await call(client, "cancel_job", job_id=found["job_id"]))["status"] == "succeeded"


async def test_the_facts_of_a_model_are_a_resource(client: Client) -> None:
    read = (await client.read_resource("model://fal-ai/sa2va/8b/image")).contents[0]
    facts = json.loads(read.text)  # type: ignore[union-attr]
    assert facts["tool"] == "describe_with_masks"
    assert "prompt" in facts["inputs"]
    read = (await client.read_resource("model://sam-v2-image")).contents[0]
    others = json.loads(read.text)["alternatives"]  # type: ignore[union-attr]
    assert {"model": "fal-ai/sam-3/image", "price": "0.0050 USD", "needs": ""} in others
    assert "sam-v2-image" not in [one["model"] for one in others]


async def test_a_dry_run_names_the_other_models_that_take_the_same_request(client: Client, photo: Path) -> None:
    asked = {"image": str(photo), "instruction": "the face", "model": "bytedance/sa2va-4b-image", "dry_run": True}
    found = await call(client, "segment_image", **asked)
    assert found["message"].startswith("Dry run: nothing was sent and nothing was spent.")
    assert "Other models that take this" in found["message"]
    assert "sam-v2-image (" in found["message"]
    assert "fal-ai/sam2/image" not in found["message"], "it takes no words"


@pytest.mark.parametrize("uri", ["job://" + "f" * 32, "artifact://" + "0" * 64, "model://no/such", "artifact://../x"])
async def test_a_link_that_leads_nowhere_is_a_protocol_error_and_not_a_crash(client: Client, uri: str) -> None:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.code == -32602


@pytest.mark.parametrize("rest", ["/overlay", "/masks/0", "/nonsense/../x"])
async def test_only_the_job_itself_is_read_and_not_what_is_below_it(client: Client, photo: Path, rest: str) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    with pytest.raises(MCPError, match="view_media") as caught:
        await client.read_resource(f"job://{found['job_id']}{rest}")
    assert caught.value.code == -32602


async def test_a_file_that_is_too_large_for_a_message_is_there_and_reported_with_its_path(
    client: Client, settings: Settings
) -> None:
    kept = FolderVault(settings.home / "vault").put_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8 * 1024 * 1024), "image/png")
    with pytest.raises(MCPError, match="too_large") as caught:
        await client.read_resource(kept.uri)
    assert caught.value.code == -32603
    assert str(stored_path(FolderVault(settings.home / "vault"), kept.uri)) in str(caught.value)


async def test_progress_is_reported_while_a_job_runs_and_begins_with_its_id(client: Client, photo: Path) -> None:
    reported: list[tuple[float, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.append((progress / (total or 1), message or ""))

    with anyio.fail_after(180):
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX}, progress_callback=note)
    assert answer.structured_content is not None
    assert reported
    assert answer.structured_content["job_id"] in leave_out_early(message for _, message in reported)[0]
    fractions = [fraction for fraction, _ in reported]
    assert fractions == sorted(set(fractions))
    assert max(fractions) < 1


async def test_a_client_without_patience_gets_a_job_that_goes_on(
    settings: Settings, sandbox: Sandbox, serve: Callable[..., MCPServer[LazyStudio]], photo: Path
) -> None:
    """Nothing is cancelled by an answer, nor by a client that stops waiting."""
    async with Client(serve(replace(settings, inline_seconds=0.0), sandbox)) as client:
        begun = await call(client, "segment_image", image=str(photo), box=BOX)
        assert begun["status"] in ("queued", "running")
        assert begun["job_id"] in begun["next_step"]
        with anyio.fail_after(180):
            while (found := await call(client, "get_job", job_id=begun["job_id"]))["status"] != "succeeded":
                await anyio.lowlevel.checkpoint()
        assert found["masks"]
        assert len(sandbox.state.accepted) == 1


async def test_the_server_says_what_it_is(server: MCPServer[LazyStudio]) -> None:
    async with Client(server) as client:
        assert client.server_info is not None
        assert client.server_info.name == "rotoscope"
        assert client.instructions is not None
        assert len(client.instructions) < 2000


async def test_what_is_null_is_left_out(client: Client, photo: Path) -> None:
    """Clients that must fill in every argument send null for the ones that they do not mean."""
    given = {"image": str(photo), "box": BOX, "points": None, "overlay": None, "model": None, "dry_run": None}
    answer = await call(client, "segment_image", **given)
    assert answer["overlay"] is not None
    found = await call(client, "get_job", job_id=answer["job_id"], wait_seconds=None)
    assert found["status"] == "succeeded"


async def test_a_results_file_may_be_given_by_its_url(client: Client, photo: Path) -> None:
    """Results lie in a hidden folder, of which nothing else is read."""
    first = await call(client, "segment_image", image=str(photo), box=BOX)
    overlay = first["overlay"]["url"]
    assert overlay.startswith("file://")
    assert (await call(client, "describe_with_masks", image=overlay))["status"] == "succeeded"
    seen = await client.call_tool("view_media", {"uri": overlay})
    assert [block.type for block in seen.content] == ["text", "image"]


async def test_a_server_that_is_served_again_works_on_with_the_same_jobs(
    server: MCPServer[LazyStudio], photo: Path
) -> None:
    jobs = []
    for left in (20, 30):
        async with Client(server) as client:
            jobs.append((await call(client, "segment_image", image=str(photo), box={**BOX, "left": left}))["job_id"])
            listed = (await call(client, "list_jobs"))["jobs"]
    assert [job["job_id"] for job in listed] == jobs[::-1]


async def test_the_answer_to_a_request_to_cancel_says_what_became_of_it(client: Client, photo: Path) -> None:
    job = (await call(client, "segment_image", image=str(photo), box=BOX))["job_id"]
    assert "It had ended before: nothing was cancelled." in (await call(client, "cancel_job", job_id=job))["warnings"]


async def test_a_running_job_that_is_asked_to_stop_says_so(
    settings: Settings, tmp_path: Path, serve: Callable[..., MCPServer[LazyStudio]], photo: Path
) -> None:
    slow = build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
    async with Client(serve(replace(settings, inline_seconds=0.0), slow)) as client:
        job = (await call(client, "generate_video", prompt="a storm", duration=4))["job_id"]
        found = await call(client, "cancel_job", job_id=job)
        with anyio.fail_after(180):
            while found["status"] != "cancelled":
                assert any("asked to stop" in one or "cancel was asked" in one for one in found["warnings"])
                found = await call(client, "cancel_job", job_id=job)


@pytest.mark.parametrize(
    "places",
    [{"box": {"left": 0.1, "top": 0.1, "right": 0.9, "bottom": 0.9}}, {"points": [{"x": 0.5, "y": 0.25}]}],
)
async def test_places_as_fractions_are_refused_before_anything_is_spent(
    client: Client, photo: Path, places: dict[str, Any]
) -> None:
    answer = await client.call_tool("segment_image", {"image": str(photo), **places})
    assert answer.is_error
    assert "fractions" in text_of(answer)
    assert "multiply by its width" in text_of(answer)


async def test_a_description_of_several_areas_stands_for_none_of_them(client: Client, photo: Path) -> None:
    found = await call(client, "describe_with_masks", image=str(photo))
    assert len(found["masks"]) > 1
    for name in ("", "/", "/masks", "/masks/", "/mask"):
        answer = await client.call_tool("segment_image", {"image": f"job://{found['job_id']}{name}", "box": BOX})
        assert answer.is_error
        assert f"job://{found['job_id']}/masks/0" in text_of(answer)
    one = await client.call_tool("segment_image", {"image": f"job://{found['job_id']}/masks/0", "box": BOX})
    assert not one.is_error


async def test_an_output_that_a_job_does_not_have_is_answered_with_those_that_it_has(
    client: Client, photo: Path
) -> None:
    found = await call(client, "segment_image", image=str(photo), box=BOX)
    answer = await client.call_tool("view_media", {"uri": f"job://{found['job_id']}/filmstrip"})
    assert answer.is_error
    for role in ("masks/0", "overlay", "coco"):
        assert role in text_of(answer)
    assert "poster" not in text_of(answer)


async def test_the_longest_prompt_of_a_description_is_taken(client: Client, photo: Path) -> None:
    asked = {"image": str(photo), "prompt": "x" * 2000, "dry_run": True}
    assert not (await client.call_tool("describe_with_masks", asked)).is_error


async def test_a_seed_is_reported_in_words_and_a_dry_run_says_how_to_keep_it(client: Client) -> None:
    planned = await client.call_tool("generate_video", {"prompt": "a storm", "dry_run": True})
    assert planned.structured_content is not None
    seed = planned.structured_content["seed"]
    assert f"seed {seed}" in text_of(planned)
    assert f"give seed: {seed} to run this very request" in text_of(planned)
    given = await client.call_tool("generate_video", {"prompt": "a storm", "seed": seed, "dry_run": True})
    assert "give seed" not in text_of(given)


async def test_a_limit_is_reported_as_the_number_that_it_is(client: Client) -> None:
    answer = await client.call_tool("generate_video", {"prompt": "a storm", "seed": 2**31, "model": SEEDANCE})
    assert "2147483647" in text_of(answer)
