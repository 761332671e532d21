"""The real object net, where its weights are: on photographs, and as a whole run of the sandbox.

They are looked for where `make weights` brings them, or where `ROTOSCOPE_TEST_WEIGHTS` says.
"""

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from engine_media import data_uri, overlap
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.vision.description import describe_areas
from rotoscope_sandbox.vision.object_net import ObjectNet, load_object_net
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import PixelBox
from rotoscope_sandbox.vision.segmentation import most_salient_region, segment_box, segment_points
from rotoscope_sandbox.weights_download import U2NETP, has_weights

WEIGHTS = Path(os.environ.get("ROTOSCOPE_TEST_WEIGHTS") or Path.home() / ".local/share/rotoscope/weights/u2netp.onnx")
MEDIA = Path(__file__).parents[3] / "shared" / "media"
PHOTO = files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def net() -> ObjectNet:
    if not has_weights(WEIGHTS, U2NETP):
        reason = f"the weights are not in {WEIGHTS}: run rotoscope sandbox weights"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return load_object_net(WEIGHTS)


def photo_of(name: str) -> NDArray[np.uint8]:
    return decode_picture((MEDIA / name).read_bytes(), "image")


@pytest.fixture
def astronaut() -> NDArray[np.uint8]:
    return decode_picture(PHOTO, "image")


def test_words_give_the_whole_person_of_the_demo_photo(net: ObjectNet, astronaut: NDArray[np.uint8]) -> None:
    """Her face, her suit and the helmet before her; neither the flag nor the shuttle."""
    mask = most_salient_region(astronaut, net).mask
    assert 0.45 < mask.mean() < 0.65
    assert all(mask[y, x] for x, y in ((225, 120), (150, 330), (300, 400), (80, 450)))
    assert not any(mask[y, x] for x, y in ((20, 100), (420, 100), (120, 60), (500, 20)))


def test_one_click_gives_the_whole_person(net: ObjectNet, astronaut: NDArray[np.uint8]) -> None:
    found = segment_points(astronaut, [(200.0, 330.0)], net=net)
    assert found.method == "u2net from points"
    assert overlap(found.mask, most_salient_region(astronaut, net).mask) > 0.9


def test_a_description_of_the_demo_photo_begins_with_the_person(net: ObjectNet, astronaut: NDArray[np.uint8]) -> None:
    first, *others = describe_areas(astronaut, net)
    assert first.phrase.startswith("the area that stands out, a large")
    assert len(others) >= 2


@pytest.mark.parametrize("value", [0, 128, 255])
def test_in_a_plain_picture_nothing_stands_out(net: ObjectNet, value: int) -> None:
    assert not net.find_object(np.full((200, 300, 3), value, np.uint8)).any()


def test_the_same_photo_gives_the_same_mask(net: ObjectNet, astronaut: NDArray[np.uint8]) -> None:
    box = PixelBox(20, 5, 420, 512)
    again = load_object_net(WEIGHTS)
    assert segment_box(astronaut, box, net=net).mask.tobytes() == segment_box(astronaut, box, net=again).mask.tobytes()


@pytest.mark.media
@pytest.mark.skipif(not MEDIA.is_dir(), reason="the real photos under ../shared/media are not here")
def test_a_box_mask_agrees_with_one_made_by_hand(net: ObjectNet) -> None:
    frame = photo_of("boxingcat.jpg")
    with Image.open(MEDIA / "boxingcat_mask.png") as picture:
        truth = np.asarray(picture.convert("L").resize(frame.shape[1::-1], Image.Resampling.NEAREST)) > 127
    assert overlap(segment_box(frame, PixelBox.around(truth), net=net).mask, truth) > 0.9


@pytest.mark.anyio
@pytest.mark.parametrize("there", [True, False])
async def test_a_run_of_the_sandbox_uses_the_weights_or_says_how_to_get_them(
    net: ObjectNet, folder: Path, finish: Callable[..., None], ask: Callable[..., Any], there: bool
) -> None:
    app = build_sandbox(folder, pace=0, weights=WEIGHTS if there else folder / "none.onnx")
    client: httpx.AsyncClient
    async with ask(app, "fal") as client:
        box = {"x_min": 20, "y_min": 5, "x_max": 420, "y_max": 512}
        asked = {"image_url": data_uri(PHOTO, "image/jpeg"), "box_prompts": [box]}
        accepted = (await client.post("/fal-ai/sam2/image", json=asked)).json()
        finish(app, accepted["request_id"])
        made = (await client.get(accepted["response_url"])).json()["sandbox"]
    assert made["method"] == ("u2net from a box" if there else "grabcut from a box")
    assert ("rotoscope sandbox weights" in (made["notice"] or "")) is not there
