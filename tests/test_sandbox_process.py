"""Where rotoscope meets the sandbox: it plays models of the user's own by their tool and the form of their output."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rotoscope.cli.commands import run_command
from rotoscope.composition import load_user_catalog
from rotoscope.sandbox_process import describe_models
from rotoscope.settings import read_settings
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

ROUTES = {
    "replicate": ("replicate", "official", "me/{}"),
    "gateway": ("gateway", "official", "you/{}"),
    "fal": ("fal", "queue", "me/{}/run"),
    "segmind v1": ("segmind", "v1", "my-{}"),
    "segmind v2": ("segmind", "v2", "your-{}"),
}
"""Provider, request form and endpoint."""

INPUTS = {
    "segment_image": """
        prompts = ["text", "points", "box"]
        combines = true
        [inputs.picture]
        kind = "image"
        required = true
        argument = "image"
        [inputs.words]
        kind = "string"
        argument = "instruction"
        [inputs.clicks]
        kind = "object"
        many = true
        argument = "points"
        encode = "labelled_points"
        [inputs.frame]
        kind = "object"
        many = true
        argument = "box"
        encode = "corner_box"
    """,
    "describe_with_masks": """
        prompts = ["text"]
        [inputs.photo]
        kind = "image"
        required = true
        argument = "image"
        [inputs.question]
        kind = "string"
        argument = "prompt"
        send = "What is this?"
    """,
    "generate_video": """
        [inputs.text]
        kind = "string"
        required = true
        argument = "prompt"
        [inputs.length]
        kind = "integer"
        argument = "duration"
        minimum = 1
        maximum = 20
        [inputs.quality]
        kind = "string"
        argument = "resolution"
        choices = ["768p", "360p"]
    """,
    "edit_video_with_mask": """
        [inputs.text]
        kind = "string"
        required = true
        argument = "prompt"
        [inputs.film]
        kind = "video"
        argument = "video"
        [inputs.where]
        kind = "visual"
        argument = "mask"
        covers = "film"
    """,
}
OUTPUTS = {
    "segment_image": ("$", "$[]", "result.masks[].url", "$", "image"),
    "describe_with_masks": ("masks[]", "out.masks[]", "masks[]", "masks[]", "masks[].url"),
    "generate_video": ("$", "$[]", "video", "$", "video.url"),
    "edit_video_with_mask": ("$", "files[]", "video", "$", "video"),
}
"""Where each tool's files are in the output, in the order of the routes."""


def write_manifest(home: Path, tool: str, route: str, rank: int = 1) -> None:
    provider, form, endpoint = ROUTES[route]
    path = OUTPUTS[tool][list(ROUTES).index(route)]
    head, _, inputs = INPUTS[tool].partition("[inputs")
    outputs = f"video = {path!r}" if "video" in tool else f"masks = {path!r}"
    if tool == "describe_with_masks":
        outputs += "\ntext = 'caption'"
    text = f"""
        id = "me/{tool}"
        title = "Mine"
        tool = "{tool}"
        rank = {rank}
        source = "me"
        {head}
        [[routes]]
        provider = "{provider}"
        form = "{form}"
        endpoint = "{endpoint.format(tool)}"
        [inputs{inputs}
        [outputs]
        {outputs}
        [timing]
        typical_seconds = 1
        deadline_seconds = 60
        [example]
    """
    models = home / "models"
    models.mkdir(parents=True, exist_ok=True)
    (models / f"{tool}.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A small picture, a short clip and a mask for it."""
    folder = tmp_path / "media"
    folder.mkdir()
    rows, columns = np.mgrid[0:64, 0:96]
    disc = (rows - 32) ** 2 + (columns - 48) ** 2 < 256
    frame = np.where(disc[..., None], (190, 70, 60), (60, 120, 70)).astype(np.uint8)
    Image.fromarray(frame).save(folder / "picture.png")
    Image.fromarray((disc * 255).astype(np.uint8)).save(folder / "mask.png")
    with av.open(str(folder / "clip.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    return folder


@pytest.fixture
def own_home(tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user without any key."""
    for name in list(os.environ):
        if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_BASE_URL")) or name.startswith("ROTOSCOPE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROTOSCOPE_ROOTS", str(media))
    return tmp_path / "home"


@pytest.fixture
def sandbox_address(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sandbox with the models of the home, in place of one in a process of its own for each call."""
    models = describe_models(load_user_catalog(read_settings({"ROTOSCOPE_HOME": str(own_home)})))
    with serve_in_thread(build_sandbox(tmp_path / "sandbox", pace=0, own_models=models)) as url:
        monkeypatch.setenv("ROTOSCOPE_SANDBOX", url)
        yield


def arguments_of(tool: str, media: Path) -> dict[str, Any]:
    if tool == "generate_video":
        return {"prompt": "a storm", "duration": 1, "resolution": "360p"}
    if tool == "edit_video_with_mask":
        clip, mask = str(media / "clip.mp4"), str(media / "mask.png")
        return {"prompt": "a cat", "video": clip, "mask": mask}
    return {"image": str(media / "picture.png")}


def call(tool: str, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = run_command(["call", tool, "--json", json.dumps(arguments)])
    printed = capsys.readouterr()
    result: dict[str, Any] = json.loads(printed.out)
    assert code == 0, result["error"]
    return result


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("tool", INPUTS)
def test_a_model_of_ones_own_that_is_the_default_of_its_tool_gives_a_result_without_any_key(
    tool: str, route: str, own_home: Path, media: Path, request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_manifest(own_home, tool, route)
    request.getfixturevalue("sandbox_address")
    more = {"points": [{"x": 48, "y": 32, "keep": True}]} if tool == "segment_image" else {}
    result = call(tool, arguments_of(tool, media) | more, capsys)
    assert (result["status"], result["model"], result["sandbox"]) == ("succeeded", f"me/{tool}", True)
    assert not [text for text in result["warnings"] if "another form" in text]
    if "video" in tool:
        assert result["video"]["file_size"] > 0
        return
    assert result["masks"]
    if tool == "describe_with_masks":
        assert len(result["segments"]) == len(result["masks"])


@pytest.mark.parametrize(
    "prompt", [{"instruction": "the disc"}, {"box": {"left": 30, "top": 14, "right": 66, "bottom": 50}}]
)
def test_each_kind_of_prompt_of_a_model_of_ones_own_selects_the_object(
    prompt: dict[str, Any], own_home: Path, media: Path, request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_manifest(own_home, "segment_image", "fal")
    request.getfixturevalue("sandbox_address")
    [mask] = call("segment_image", arguments_of("segment_image", media) | prompt, capsys)["masks"]
    box = mask["box"]
    assert abs((box["left"] + box["right"]) / 2 - 48) < 8
    assert abs((box["top"] + box["bottom"]) / 2 - 32) < 8


def test_the_built_in_sandbox_plays_a_model_of_ones_own_too(
    own_home: Path, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(own_home, "segment_image", "segmind v2")
    point = {"points": [{"x": 48, "y": 32, "keep": True}]}
    result = call("segment_image", arguments_of("segment_image", media) | point, capsys)
    assert (result["model"], len(result["masks"])) == ("me/segment_image", 1)


def test_every_model_of_the_catalog_is_described_for_the_wire_of_its_provider(own_home: Path) -> None:
    write_manifest(own_home, "generate_video", "gateway")
    models = describe_models(load_user_catalog(read_settings({"ROTOSCOPE_HOME": str(own_home)})))
    [own] = [model for model in models if model.name == "you/generate_video"]
    assert (own.wire, own.tool, own.video) == ("replicate", "generate_video", "$[]")
    assert {name: one.role for name, one in own.inputs.items()} == {
        "text": "prompt",
        "length": "duration",
        "quality": "resolution",
    }
    assert {model.wire for model in models} == {"replicate", "fal", "segmind"}


def test_every_endpoint_of_every_route_is_described_with_the_inputs_of_its_route() -> None:
    found = {(one.wire, one.name): one for one in describe_models(load_user_catalog(read_settings({})))}
    references = found["fal", "bytedance/seedance-2.0/reference-to-video"]
    assert references.inputs["duration"].type == "string"
    assert found["replicate", "bytedance/seedance-2.0"].inputs["duration"].type == "integer"
    assert ("fal", "bytedance/seedance-2.0/fast/image-to-video") in found
