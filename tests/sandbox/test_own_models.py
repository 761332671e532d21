"""Models that the sandbox does not know by name: played by their tool, with inputs and outputs of their own form."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_media import data_uri, make_scenery

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.own_models import OwnInput, OwnModel

pytestmark = pytest.mark.anyio
Ask = Callable[..., Any]
PICTURE = OwnInput("image", "string", is_required=True)


async def run(app: Sandbox, ask: Ask, model: OwnModel, given: dict[str, Any]) -> dict[str, Any]:
    """What Replicate's wire answers once the prediction has ended."""
    async with ask(app, "replicate") as raw:
        begun = (await raw.post(f"/v1/models/{model.name}/predictions", json={"input": given})).json()
        done: dict[str, Any] = (await raw.get(f"/v1/predictions/{begun['id']}")).json()
    return done


@pytest.mark.parametrize(
    ("role", "make"),
    [
        ("points", lambda x, y: f"[{x},{y}]"),
        ("points", lambda x, y: f"[[{x},{y}]]"),
        ("points", lambda x, y: {"x": x, "y": y, "keep": True}),
        ("points", lambda x, y: [{"x": x, "y": y, "label": 1}]),
        ("points", lambda x, y: json.dumps([{"x": x, "y": y}])),
        ("box", lambda x, y: [x - 70, y - 70, x + 70, y + 70]),
        ("box", lambda x, y: [{"x_min": x - 70, "y_min": y - 70, "x_max": x + 70, "y_max": y + 70}]),
        ("box", lambda x, y: {"left": x - 70, "top": y - 70, "right": x + 70, "bottom": y + 70}),
    ],
)
async def test_points_and_boxes_are_read_in_every_usual_form(
    folder: Path, scene: Any, ask: Ask, likeness: Any, opened_mask: Any, role: str, make: Callable[[int, int], Any]
) -> None:
    left, top, right, bottom = scene.box
    model = OwnModel("replicate", "me/own", "segment_image", {"p": PICTURE, "where": OwnInput(role)}, masks="mask")
    app = build_sandbox(folder, pace=0, own_models=[model])
    given = {"p": scene.uri, "where": make((left + right) // 2, (top + bottom) // 2)}
    done = await run(app, ask, model, given)
    assert done["error"] is None
    async with ask(app) as raw:
        mask = opened_mask((await raw.get(done["output"]["mask"])).content)
    assert likeness(mask, scene.mask) > 0.8
    assert done["output"]["sandbox"]["method"]


async def test_points_to_leave_out_have_an_input_of_their_own(folder: Path, scene: Any, ask: Ask) -> None:
    inputs = {"p": PICTURE, "keep": OwnInput("points", "string"), "drop": OwnInput("removed_points", "string")}
    model = OwnModel("replicate", "me/own", "segment_image", inputs, masks="$")
    app = build_sandbox(folder, pace=0, own_models=[model])
    refused = await run(app, ask, model, {"p": scene.uri, "drop": "[5,5]"})
    assert "At least one point has to select something" in refused["error"]
    done = await run(app, ask, model, {"p": scene.uri, "keep": "[190,110]", "drop": "[5,5]"})
    assert done["output"].endswith(".png")


async def test_an_input_that_the_engine_cannot_use_is_named_as_the_model_names_it(
    folder: Path, ask: Ask, finish: Callable[[Sandbox, str], None]
) -> None:
    model = OwnModel("fal", "me/own/run", "describe_with_masks", {"my_photo": PICTURE}, masks="masks[]", text="said")
    app = build_sandbox(folder, pace=0, own_models=[model])
    async with ask(app, "fal") as raw:
        accepted = (await raw.post("/me/own/run", json={"my_photo": "data:;base64,aGk="})).json()
        finish(app, accepted["request_id"])
        reply = await raw.get(accepted["response_url"])
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", "my_photo"])


async def test_a_missing_file_is_named_in_the_error(folder: Path, ask: Ask) -> None:
    inputs = {"film": OwnInput("video", "string"), "where": OwnInput("mask", "string")}
    model = OwnModel("replicate", "me/own", "edit_video_with_mask", inputs, video="$")
    done = await run(build_sandbox(folder, pace=0, own_models=[model]), ask, model, {})
    assert (done["status"], done["error"]) == (
        "failed",
        "The sandbox plays this model by its tool and needs its video.",
    )


async def test_a_tool_that_no_engine_plays_is_refused_before_anything_is_accepted(folder: Path, ask: Ask) -> None:
    model = OwnModel("replicate", "me/own", "write_song", {}, text="$")
    app = build_sandbox(folder, pace=0, own_models=[model])
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/models/me/own/predictions", json={"input": {}})
    assert (reply.status_code, app.state.accepted) == (422, [])
    assert "plays no model for write_song, only segment_image, " in reply.json()["detail"]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({"length": "2s", "quality": "1080P", "ratio": "3:2"}, 2), ({"length": 1, "ratio": "any"}, 1)],
)
async def test_lengths_and_sizes_are_brought_to_what_the_engine_can_do(
    folder: Path, ask: Ask, finish: Callable[[Sandbox, str], None], given: dict[str, Any], seconds: int
) -> None:
    roles = {"text": "prompt", "length": "duration", "quality": "resolution", "ratio": "aspect_ratio"}
    inputs = {name: OwnInput(role) for name, role in roles.items()}
    model = OwnModel("replicate", "me/own", "generate_video", inputs, video="files[].url")
    app = build_sandbox(folder, pace=0, own_models=[model])
    async with ask(app, "replicate") as raw:
        more = {"text": "a storm"} | ({"quality": "480"} | given)
        begun = (await raw.post("/v1/models/me/own/predictions", json={"input": more})).json()
        finish(app, begun["id"])
        done = (await raw.get(f"/v1/predictions/{begun['id']}")).json()
    assert done["error"] is None
    assert done["metrics"]["video_output_duration_seconds"] == seconds
    [film] = done["output"]["files"]
    assert film["url"].endswith(".mp4")


async def test_the_catalog_of_replicate_shows_it(folder: Path, ask: Ask) -> None:
    model = OwnModel("replicate", "me/own", "describe_with_masks", {"p": PICTURE}, masks="masks[]")
    async with ask(build_sandbox(folder, pace=0, own_models=[model]), "replicate") as raw:
        shown = (await raw.get("/v1/models/me/own")).json()
    assert shown["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["required"] == ["p"]


@pytest.mark.parametrize("sent", ["mask_film", "mask_picture"])
async def test_of_two_inputs_of_one_role_the_one_that_was_sent_counts(folder: Path, ask: Ask, sent: str) -> None:
    roles = {"clip": "video", "mask_film": "mask", "mask_picture": "mask"}
    model = OwnModel(
        "replicate",
        "me/own",
        "edit_video_with_mask",
        {name: OwnInput(role, "string") for name, role in roles.items()},
        video="$",
    )
    done = await run(
        build_sandbox(folder, pace=0, own_models=[model]), ask, model, {"clip": "data:,a", sent: "data:,b"}
    )
    assert "needs its" not in done["error"]


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (OwnModel("replicate", "me/own", "segment_video", {}, video="film"), "film"),
        (OwnModel("replicate", "me/own", "segment_video", {}, runs="found.rle"), "found"),
        (OwnModel("replicate", "me/own", "segment_video", {}, runs="$"), "rle"),
    ],
)
async def test_an_object_is_followed_with_a_film_or_with_run_lengths(
    folder: Path, ask: Ask, tmp_path: Path, model: OwnModel, place: str
) -> None:
    inputs = {"clip": OwnInput("video", "string", is_required=True), "at": OwnInput("points"), "n": OwnInput("frame")}
    model = replace(model, inputs=inputs)
    app = build_sandbox(folder, pace=0, own_models=[model])
    scenery = make_scenery(tmp_path / "clip.mp4")
    given = {"clip": data_uri(scenery.path.read_bytes(), "video/mp4"), "at": [{"x": 60, "y": 48}], "n": 4}
    done = await run(app, ask, model, given)
    assert done["error"] is None
    found = done["output"][place]
    if place == "film":
        assert found.endswith(".mp4")
    else:
        assert len(found["rle"] if place == "found" else found) == 13
