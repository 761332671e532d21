"""An object followed through a clip, as a client asks for it: by every route that the sandbox plays."""

import json
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import httpx  # noqa: TID251 - the test reads the sandbox's own account
import numpy as np
import pytest
from calls import text_of
from coco_reader import mask_of_rle
from engine_media import Scenery, make_scenery, write_video
from mcp import Client
from mcp_types import TextResourceContents
from PIL import Image

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.weights_download import U2NETP, has_weights

pytestmark = pytest.mark.anyio
WEIGHTS = Path(os.environ.get("ROTOSCOPE_TEST_WEIGHTS") or Path.home() / ".local/share/rotoscope/weights/u2netp.onnx")
RLE, RLE_1, OBJECTS = "fal-ai/sam-3/video-rle", "fal-ai/sam-3-1/video-rle", "fal-ai/sam-3/video-rle-objects"
FILM, FILM_1, SAM2, REPLICATE = "fal-ai/sam-3/video", "fal-ai/sam-3-1/video", "fal-ai/sam2/video", "lucataco/sam3-video"
WORDS, BOX, LATER_BOX, CLICK, MASK = "words", "box", "a box on a later frame", "clicks on a later frame", "mask"
LATER = 6
ROUTES = [
    *((RLE, prompt) for prompt in (WORDS, BOX, LATER_BOX, CLICK, MASK)),
    (RLE_1, LATER_BOX),
    (OBJECTS, WORDS),
    *((SAM2, prompt) for prompt in (BOX, LATER_BOX, CLICK)),
    *((model, prompt) for model in (FILM, FILM_1) for prompt in (WORDS, BOX)),
    (REPLICATE, WORDS),
]


@pytest.fixture
async def client(server: Any) -> Any:
    async with Client(server) as connected:
        yield connected


@pytest.fixture
def scenery(home: Path) -> Scenery:
    return make_scenery(home / "clip.mp4")


async def call(client: Client, tool: str = "segment_video", **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(120):
        answer = await client.call_tool(tool, arguments)
        while (found := answer.structured_content) is not None and found["status"] in ("queued", "running"):
            answer = await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 30})
    assert not answer.is_error, text_of(answer)
    assert found is not None
    return dict(found)


async def whole(client: Client, found: dict[str, Any]) -> dict[str, Any]:
    """The record that `job://` gives: an answer may list fewer frames."""
    (content,) = (await client.read_resource(f"job://{found['job_id']}")).contents
    assert isinstance(content, TextResourceContents)
    return dict(json.loads(content.text))


async def refusal(client: Client, **arguments: Any) -> str:
    with anyio.fail_after(60):
        answer = await client.call_tool("segment_video", arguments)
    assert answer.is_error
    listed = await client.call_tool("list_jobs", {})
    assert listed.structured_content is not None
    assert listed.structured_content["jobs"] == [], "nothing was to be spent"
    return text_of(answer)


def box_of(scenery: Scenery, frame: int) -> dict[str, int]:
    rows, columns = np.nonzero(scenery.masks[frame])
    return {"left": int(columns.min()), "top": int(rows.min()), "right": int(columns.max()) + 1,
            "bottom": int(rows.max()) + 1}  # fmt: skip


def prompt_of(name: str, scenery: Scenery) -> dict[str, Any]:
    if name == WORDS:
        return {"instruction": "the red disc"}
    if name == BOX:
        return {"box": box_of(scenery, 0)}
    if name == LATER_BOX:
        return {"box": box_of(scenery, LATER), "frame": LATER}
    if name == CLICK:
        middle = box_of(scenery, LATER)
        return {"points": [{"x": (middle["left"] + middle["right"]) / 2, "y": (middle["top"] + middle["bottom"]) / 2},
                           {"x": 4, "y": 4, "keep": False}], "frame": LATER}  # fmt: skip
    Image.fromarray(scenery.masks[0].astype(np.uint8) * 255).save(scenery.path.with_name("object.png"))
    return {"mask": str(scenery.path.with_name("object.png"))}


def mask_frames(film: dict[str, Any]) -> list[np.ndarray]:
    with av.open(film["path"]) as container:
        return [frame.to_ndarray(format="rgb24")[..., 0] >= 128 for frame in container.decode(video=0)]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def masks_of_coco(found: dict[str, Any]) -> dict[int, np.ndarray]:
    """The union of the masks of each frame, by pycocotools' rules."""
    document = json.loads(Path(found["coco"]["path"]).read_bytes())
    height, width = document["images"][0]["height"], document["images"][0]["width"]
    masks = {image["id"]: np.zeros((height, width), np.bool_) for image in document["images"]}
    for one in document["annotations"]:
        masks[one["image_id"]] |= mask_of_rle(one["segmentation"]["counts"], height, width)
    return {number - 1: mask for number, mask in masks.items()}


def check_result(found: dict[str, Any], scenery: Scenery, least: float) -> None:
    """Whether films, pictures, rows and COCO say the same, and follow the object."""
    assert found["status"] == "succeeded", found["error"]
    for film in (found["mask"], found["overlay"]):
        assert (film["width"], film["height"], film["frames"]) == (160, 96, 13)
        assert film["frame_rate"] == pytest.approx(float(scenery.rate))
    masks, written = mask_frames(found["mask"]), masks_of_coco(found)
    assert [row["frame"] for row in found["frames"]] == list(range(13))
    for number, (mask, row) in enumerate(zip(masks, found["frames"], strict=True)):
        assert np.array_equal(mask, written[number]), f"the film differs from COCO in frame {number}"
        assert row["area"] == pytest.approx(mask.mean(), abs=1e-6)
        if row["mask"] is not None:
            with Image.open(row["mask"]["path"]) as picture:
                assert np.array_equal(np.asarray(picture) > 0, mask)
    pictured = [row["frame"] for row in found["frames"] if row["mask"] is not None]
    assert {0, found["request"].get("frame", 0), 12} <= set(pictured)
    assert len(pictured) <= 8
    fits = [overlap(mask, truth) for mask, truth in zip(masks, scenery.masks, strict=True)]
    assert min(fits) >= least, fits
    with Image.open(found["poster"]["path"]) as poster:
        assert poster.size == (160, 96)


@pytest.mark.parametrize(("model", "prompt"), ROUTES)
async def test_a_disc_is_followed_by_every_route(client: Client, scenery: Scenery, model: str, prompt: str) -> None:
    found = await call(client, video=str(scenery.path), model=model, **prompt_of(prompt, scenery))
    assert (found["model"], found["sandbox"]) == (model, True)
    check_result(await whole(client, found), scenery, 0.6)


@pytest.mark.parametrize(("model", "prompt"), [(RLE, LATER_BOX), (FILM, WORDS)])
async def test_with_the_weights_of_the_object_net_it_is_followed_too(
    client: Client, scenery: Scenery, settings: Any, model: str, prompt: str
) -> None:
    if not has_weights(WEIGHTS, U2NETP):
        pytest.skip(f"the weights are not in {WEIGHTS}: run rotoscope sandbox weights")
    settings.sandbox_weights.parent.mkdir(parents=True, exist_ok=True)
    settings.sandbox_weights.write_bytes(WEIGHTS.read_bytes())
    found = await call(client, video=str(scenery.path), model=model, **prompt_of(prompt, scenery))
    check_result(await whole(client, found), scenery, 0.6)


async def test_without_a_model_named_the_first_route_takes_every_prompt(client: Client, scenery: Scenery) -> None:
    for prompt in (WORDS, MASK):
        asked = prompt_of(prompt, scenery)
        found = await call(client, video=str(scenery.path), **asked, dry_run=True)
        assert found["model"] == RLE


async def test_a_dry_run_shows_the_request_and_the_price_of_the_clips_frames(client: Client, scenery: Scenery) -> None:
    asked = {**prompt_of(CLICK, scenery), "instruction": "the disc"}
    found = await call(client, video=str(scenery.path), **asked, dry_run=True)
    assert found["dry_run"] is True
    assert (found["cost"]["estimate_usd"], found["cost"]["at_most_usd"]) == (0.005, 0.005)
    body = found["planned_request"]["body"]
    assert body.pop("video_url").startswith("<artifact://")
    assert body == {
        "prompt": "the disc",
        "point_prompts": [
            {"label": 1, "x": 68, "y": 50, "frame_index": 6},
            {"label": 0, "x": 4, "y": 4, "frame_index": 6},
        ],
        "frame_index": 6,
        "apply_mask": False,
        "boundingbox_zip": False,
    }


async def test_the_sandbox_bills_what_was_estimated(client: Client, scenery: Scenery, sandbox: Sandbox) -> None:
    found = await call(client, video=str(scenery.path), **prompt_of(BOX, scenery))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="https://sandbox.invalid") as raw:
        row = (await raw.get("/sandbox/ledger")).json()["predictions"][0]
    assert row["charged_usd"] == found["cost"]["at_most_usd"] == 0.005


async def test_what_cannot_be_is_refused_before_money_is_spent(client: Client, scenery: Scenery) -> None:
    clip, box = str(scenery.path), box_of(scenery, 0)
    assert "Nothing says what to segment" in await refusal(client, video=clip)
    assert "no frame 13: it has 13 frames" in await refusal(client, video=clip, box=box, frame=13)
    assert "outside the picture" in await refusal(client, video=clip, points=[{"x": 160, "y": 5}])
    assert "beyond the picture" in await refusal(client, video=clip, box={**box, "bottom": 97})
    assert "on the first frame alone" in await refusal(client, video=clip, box=box, frame=3, model=FILM)
    assert "does not take points" in await refusal(client, video=clip, points=[{"x": 9, "y": 9}], model=REPLICATE)
    film = await refusal(client, video=clip, mask=clip)
    assert "mask" in film


async def test_a_mask_of_another_shape_than_the_clip_is_refused(client: Client, scenery: Scenery, home: Path) -> None:
    mask = Image.new("L", (100, 100), 0)
    mask.paste(255, (20, 20, 60, 60))
    mask.save(home / "square.png")
    assert "another shape" in await refusal(client, video=str(scenery.path), mask=str(home / "square.png"))


async def test_a_clip_that_is_too_long_is_cut_into_parts_and_that_is_said_before(client: Client, home: Path) -> None:
    frame = np.zeros((32, 32, 3), np.uint8)
    write_video(home / "long.mp4", [frame] * 601, Fraction(30))
    found = await call(client, video=str(home / "long.mp4"), instruction="the disc", model=RLE, dry_run=True)
    assert any("601 frames" in one and "takes 600 at once" in one and "2 runs" in one for one in found["warnings"])
    assert found["cost"]["estimate_usd"] == pytest.approx(2 * 0.005 * 20)  # 305 frames each, by 16


async def test_the_mask_film_is_a_mask_for_an_edit_and_is_viewed_by_its_link(client: Client, scenery: Scenery) -> None:
    found = await call(client, video=str(scenery.path), **prompt_of(BOX, scenery))
    link = f"job://{found['job_id']}"
    for mask in (link, f"{link}/mask"):
        asked = {"prompt": "an empty meadow", "video": str(scenery.path), "mask": mask}
        planned = await call(client, "edit_video_with_mask", **asked, dry_run=True)
        assert planned["planned_input"]["mask_video_url"].startswith("artifact://")
        assert planned["mask_selects"]["frames"] == 13
    for name in ("", "/mask", "/overlay", "/poster", "/frame/0"):
        answer = await client.call_tool("view_media", {"uri": f"{link}{name}"})
        assert not answer.is_error, text_of(answer)
        assert any(block.type == "image" for block in answer.content)


async def test_its_text_tells_everything_that_matters(client: Client, scenery: Scenery) -> None:
    with anyio.fail_after(120):
        answer = await client.call_tool("segment_video", {"video": str(scenery.path), **prompt_of(BOX, scenery)})
    text, found = text_of(answer), answer.structured_content
    assert found is not None
    for fact in (
        found["mask"]["path"],
        found["overlay"]["uri"],
        found["coco"]["uri"],
        "160x96, 1.04 s",
        "frame 12: box",
    ):
        assert fact in text
    assert len(text) < 8000


async def test_objects_that_a_model_keeps_apart_have_numbers_in_coco(client: Client, home: Path) -> None:
    """Two discs: one model has them apart, and the mask film is of both."""
    rows, columns = np.mgrid[0:96, 0:160]
    frames = []
    for number in range(6):
        both = [(columns - x - number) ** 2 + (rows - 48) ** 2 <= 15**2 for x in (40, 115)]
        ground = np.stack([40 + columns // 8, 90 + rows // 6, 60 + 0 * rows], -1)
        frames.append(np.where((both[0] | both[1])[..., None], (220, 40, 40), ground).astype(np.uint8))
    write_video(home / "two.mp4", frames, Fraction(12))
    found = await call(client, video=str(home / "two.mp4"), instruction="discs", model=OBJECTS)
    document = json.loads(Path(found["coco"]["path"]).read_bytes())
    tracks = {one["track_id"] for one in document["annotations"]}
    assert len(document["images"]) == 6
    assert len(tracks) >= 1
    assert np.array_equal(mask_frames(found["mask"])[2], masks_of_coco(found)[2])


async def test_a_followed_object_is_exported_frame_by_frame(
    client: Client, scenery: Scenery, environment: dict[str, str], home: Path
) -> None:
    found = await call(client, video=str(scenery.path), **prompt_of(BOX, scenery))
    asked = ["export", found["job_id"], "--format", "coco", "--out", str(home / "masks.json")]
    done = await anyio.run_process([sys.executable, "-m", "rotoscope", *asked], env=environment, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((home / "masks.json").read_bytes())
    assert len(document["images"]) == 13
    wanted = mask_frames((await whole(client, found))["mask"])
    by_id = {one["image_id"]: one["segmentation"]["counts"] for one in document["annotations"]}
    assert all(
        np.array_equal(mask_of_rle(by_id[image["id"]], 96, 160), mask)
        for image, mask in zip(document["images"], wanted, strict=True)
    )
