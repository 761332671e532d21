"""What providers do by default that nobody wants: a plain request meets it, and ours does not."""

import base64
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from engine_media import Pixels, Scene, Scenery, make_scene, make_scenery, overlap, psnr, read_video, write_video
from PIL import Image

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.estimate import MediaLength
from rotoscope.models.plan import plan_call
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.vision.pixels import dilate_disc

pytestmark = pytest.mark.anyio
CATALOG = load_catalog(manifest_folder())
SAM3, WAN, VOID = "fal-ai/sam-3/image", "fal-ai/wan-22-vace-fun-a14b/inpainting", "fal-ai/void-video-inpainting"
SEEDANCE = "bytedance/seedance-2.0"


def our_input(model: str, provider: str = "fal", **arguments: Any) -> dict[str, Any]:
    """What rotoscope sends for a tool's arguments; files are data URIs, which stand for films where they say so."""
    manifest = CATALOG.models[model]
    route = next(route for route in manifest.routes if route.provider == provider)
    films = {one: MediaLength(1.0, 13) for one in arguments.values() if str(one).startswith("data:video")}
    return dict(plan_call(manifest.at(route), route, arguments, lambda: 7, films).call.input)


class Wire:
    """Runs requests on a sandbox whose waiting is not pretended."""

    def __init__(self, app: Sandbox, client: httpx.AsyncClient) -> None:
        self._app, self._client = app, client

    async def run(self, endpoint: str, given: dict[str, Any]) -> httpx.Response:
        """fal's answer: the result, or why the request is refused."""
        accepted = await self._client.post(f"/{endpoint}", json=given)
        if accepted.status_code != 200:
            return accepted
        finish(self._app, accepted.json()["request_id"])
        return await self._client.get(accepted.json()["response_url"])

    async def mask(self, image: dict[str, Any]) -> Any:
        """A picture of a result as an array."""
        return np.asarray(Image.open(io.BytesIO(await self.fetch(image["url"]))))

    async def fetch(self, url: str) -> bytes:
        return (await self._client.get(url)).content

    async def film(self, reply: httpx.Response, folder: Path) -> list[Pixels]:
        place = folder / "result.mp4"
        place.write_bytes(await self.fetch(reply.json()["video"]["url"]))
        return read_video(place)


@pytest.fixture
def app(tmp_path: Path) -> Sandbox:
    """A sandbox that pretends to need no time, at a moment that does not pass."""
    return build_sandbox(tmp_path / "sandbox", pace=0, clock=lambda: 1_800_000_000.0)


def open_client(app: Sandbox, headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://sandbox.invalid", headers=headers)


def finish(app: Sandbox, id_: str) -> None:
    """Block until the sandbox has computed a prediction."""
    app.state.core.workers.wait(id_, 30)


@pytest.fixture
async def fal(app: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(app, {"authorization": "Key test:key"}) as client:
        yield client


@pytest.fixture
def wire(app: Sandbox, fal: httpx.AsyncClient) -> Wire:
    return Wire(app, fal)


@pytest.fixture
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="session")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Scenery:
    return make_scenery(tmp_path_factory.mktemp("scenery") / "scenery.mp4")


def click(scene: Scene) -> list[dict[str, Any]]:
    left, top, right, bottom = scene.box
    return [{"x": (left + right) // 2, "y": (top + bottom) // 2, "keep": True}]


async def test_sam_3_without_a_prompt_looks_for_a_wheel_also_beside_a_click(wire: Wire, scene: Scene) -> None:
    ours = our_input(SAM3, image=scene.uri, points=click(scene))
    assert ours["prompt"] == ""
    plain = {name: value for name, value in ours.items() if name != "prompt"}
    replies = [(await wire.run(SAM3, given)).json() for given in (ours, plain)]
    assert (len(replies[0]["masks"]), len(replies[1]["masks"]) > 1) == (1, True)
    assert "the word 'wheel'" in replies[1]["sandbox"]["notice"]
    assert overlap(await wire.mask(replies[0]["masks"][0]) > 127, scene.mask) > 0.9


async def test_sam_3_paints_its_masks_unless_it_is_asked_not_to(wire: Wire, scene: Scene) -> None:
    ours = (await wire.run(SAM3, our_input(SAM3, image=scene.uri, instruction="the disc"))).json()
    plain = (await wire.run(SAM3, {"image_url": scene.uri, "prompt": "the disc"})).json()
    assert (await wire.mask(ours["masks"][0])).ndim == 2
    assert (await wire.mask(plain["masks"][0])).shape == (240, 320, 3)


async def test_sam_3_gives_one_mask_of_all_objects_and_no_scores_unless_each_is_asked_for(
    wire: Wire, scene: Scene
) -> None:
    two = np.concatenate([scene.frame, scene.frame], axis=1)
    picture = io.BytesIO()
    Image.fromarray(two).save(picture, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    ours = (await wire.run(SAM3, our_input(SAM3, image=uri, instruction="the discs"))).json()
    plain = (await wire.run(SAM3, {"image_url": uri, "prompt": "the discs", "apply_mask": False})).json()
    assert (len(ours["masks"]), len(plain["masks"])) == (2, 1)
    assert (len(ours["scores"]), "scores" in plain, "boxes" in plain) == (2, False, False)
    for mask, (x, y, width, height) in zip(ours["masks"], ours["boxes"], strict=True):
        columns = np.flatnonzero((await wire.mask(mask) > 127).any(axis=0))
        assert width == pytest.approx(len(columns) / 640, abs=0.01)
        assert x == pytest.approx((columns[0] + columns[-1]) / 2 / 640, abs=0.01)
        assert 0 < y < 1
        assert 0 < height < 1
    assert [one["index"] for one in ours["metadata"]] == [0, 1]


async def test_words_clicks_and_a_box_go_together_in_one_request(wire: Wire, scene: Scene) -> None:
    left, top, right, bottom = scene.box
    box = {"left": left - 4, "top": top - 4, "right": right + 4, "bottom": bottom + 4}
    given = our_input(SAM3, image=scene.uri, instruction="the disc", points=click(scene), box=box)
    assert (len(given["point_prompts"]), len(given["box_prompts"]), given["prompt"]) == (1, 1, "the disc")
    reply = (await wire.run(SAM3, given)).json()
    [mask] = reply["masks"]
    assert overlap(await wire.mask(mask) > 127, scene.mask) > 0.9


@pytest.mark.parametrize("label", [2, "keep"])
async def test_a_label_is_0_or_1(fal: httpx.AsyncClient, scene: Scene, label: object) -> None:
    point = {"x": 190, "y": 110, "label": label}
    reply = await fal.post(f"/{SAM3}", json={"image_url": scene.uri, "point_prompts": [point]})
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "literal_error")


async def test_sam_3_on_replicate_gives_a_zip_and_looks_for_a_person(app: Sandbox, scene: Scene) -> None:
    model = CATALOG.models["mattsays/sam3-image"]
    ours = our_input(model.id, "replicate", image=scene.uri, instruction="the disc")
    found = []
    async with open_client(app, {"authorization": "Bearer r8_test"}) as raw:
        for given in (ours, {"image": scene.uri}, {"image": scene.uri, "return_zip": False}):
            version = f"{model.id}:{model.routes[0].version}"
            begun = (await raw.post("/v1/predictions", json={"version": version, "input": given})).json()
            finish(app, begun["id"])
            done = (await raw.get(begun["urls"]["get"])).json()
            found.append((done, (await raw.get(done["output"])).content))
    (mine, mask), (plain, archive), (_, painted) = found
    assert overlap(np.asarray(Image.open(io.BytesIO(mask))) > 127, scene.mask) > 0.9
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == ["mask_0.png"]
    assert "the word 'person'" in plain["metrics"]["sandbox"]["notice"]
    assert "person" not in mine["metrics"]["sandbox"]["notice"]
    assert np.asarray(Image.open(io.BytesIO(painted))).ndim == 3


async def test_sam_3_at_segmind_gives_one_mask(app: Sandbox, scene: Scene) -> None:
    given = our_input("sam3-image", "segmind", image=scene.uri, instruction="the disc")
    async with open_client(app, {"x-api-key": "SG_test"}) as raw:
        reply = await raw.post("/v1/sam3-image", json=given)
    assert reply.headers["content-type"] == "image/png"
    assert overlap(np.asarray(Image.open(io.BytesIO(reply.content))) > 127, scene.mask) > 0.9


@pytest.mark.parametrize("tier", ["", "/fast", "/mini"])
async def test_a_duration_at_fal_is_text_and_a_number_is_refused(fal: httpx.AsyncClient, tier: str) -> None:
    ours = our_input(SEEDANCE + tier, prompt="a storm", duration=5, resolution="480p")
    assert ours["duration"] == "5"
    endpoint = f"/{SEEDANCE}{tier}/text-to-video"
    assert (await fal.post(endpoint, json=ours)).status_code == 200
    reply = await fal.post(endpoint, json=ours | {"duration": 5})
    [row] = reply.json()["detail"]
    assert (reply.status_code, row["loc"], row["type"]) == (422, ["body", "duration"], "string_type")


@pytest.mark.slow
async def test_seedance_at_fal_chooses_the_length_and_ignores_a_seed(wire: Wire, tmp_path: Path) -> None:
    """Ours has the tool's five seconds, and sends no seed."""
    ours = our_input(SEEDANCE, prompt="a storm", resolution="480p", seed=7)
    assert (ours["duration"], "seed" in ours) == ("5", False)
    replies = [
        await wire.run(f"{SEEDANCE}/text-to-video", given)
        for given in (ours, {"prompt": "a storm", "resolution": "480p", "seed": 7})
    ]
    lengths = [len(await wire.film(reply, tmp_path)) for reply in replies]
    assert lengths == [5 * 24, 8 * 24]
    assert all(reply.json()["seed"] != 7 for reply in replies)


@pytest.mark.parametrize(
    ("media", "name"),
    [
        ({}, "text-to-video"),
        ({"first_frame": "data:a"}, "image-to-video"),
        ({"reference_images": ["data:a"]}, "reference-to-video"),
        ({"reference_videos": ["data:a"]}, "reference-to-video"),
        ({"reference_videos": ["data:a"], "reference_audios": ["data:b"]}, "reference-to-video"),
    ],
)
@pytest.mark.parametrize("tier", ["", "/fast", "/mini"])
async def test_what_is_given_chooses_the_endpoint(
    fal: httpx.AsyncClient, media: dict[str, Any], name: str, tier: str
) -> None:
    manifest = CATALOG.models[SEEDANCE + tier]
    route = next(route for route in manifest.routes if route.provider == "fal")
    call = plan_call(manifest.at(route), route, {"prompt": "a", **media}, lambda: 7).call
    assert call.endpoint == f"{SEEDANCE}{tier}/{name}"
    reply = await fal.post(f"/{call.endpoint}", json=call.input)
    assert reply.status_code == 200, reply.json()


def test_references_are_named_in_the_prompt_as_the_models_at_fal_read_them() -> None:
    ours = our_input(SEEDANCE, prompt="The man of Image 1 as in Video 2, Image1, @Image3, Image 10, imagery")
    assert ours["prompt"] == "The man of @Image1 as in @Video2, @Image1, @Image3, Image 10, imagery"


@pytest.fixture
def films(tmp_path: Path, scenery: Scenery) -> dict[str, str]:
    """Data URIs: a clip with its mask as a film, white on the object, and the same mask the other way round."""
    masks = [np.repeat(dilate_disc(mask, 2).astype(np.uint8)[..., None] * 255, 3, axis=2) for mask in scenery.masks]
    write_video(tmp_path / "white.mp4", masks, scenery.rate)
    write_video(tmp_path / "black.mp4", [255 - mask for mask in masks], scenery.rate)
    files = {"clip": scenery.path, "white": tmp_path / "white.mp4", "black": tmp_path / "black.mp4"}
    return {
        name: "data:video/mp4;base64," + base64.b64encode(file.read_bytes()).decode() for name, file in files.items()
    }


@pytest.mark.slow
async def test_wan_cuts_a_clip_and_changes_its_speed_unless_both_are_asked_for(
    wire: Wire, tmp_path: Path, scenery: Scenery, films: dict[str, str]
) -> None:
    long = [frame for frame in read_video(scenery.path) for _ in range(2)]
    write_video(tmp_path / "long.mp4", long, scenery.rate)
    clip = "data:video/mp4;base64," + base64.b64encode((tmp_path / "long.mp4").read_bytes()).decode()
    ours = our_input(WAN, prompt="a", video=clip, mask=films["white"], frame_num=26)
    assert ours["match_input_frames_per_second"] is True
    plain = {name: ours[name] for name in ("prompt", "video_url", "mask_video_url")} | {"num_frames": 17}
    lengths = []
    for given in (ours, plain):
        reply = await wire.run(WAN, given)
        lengths.append(len(await wire.film(reply, tmp_path)))
        assert {"video", "prompt", "seed"} <= set(reply.json())
    assert lengths == [26, 17]
    assert (await wire.run(WAN, plain | {"mask_video_url": None})).status_code == 422


async def test_a_mask_goes_into_the_input_for_its_kind(films: dict[str, str]) -> None:
    with_film = our_input(WAN, prompt="a", video=films["clip"], mask=films["white"])
    with_picture = our_input(WAN, prompt="a", video=films["clip"], mask="artifact://" + "a" * 64)
    by_address = our_input(WAN, prompt="a", video=films["clip"], mask="https://example.com/mask.MP4?x=1")
    assert ["mask_video_url" in one for one in (with_film, with_picture, by_address)] == [True, False, True]
    assert ["mask_image_url" in one for one in (with_film, with_picture, by_address)] == [False, True, False]


async def test_void_removes_what_is_black_in_its_mask(
    wire: Wire, tmp_path: Path, scenery: Scenery, films: dict[str, str]
) -> None:
    """Everybody else's mask, white on the object, removes the background."""
    kept: dict[str, float] = {}
    source, inside = read_video(scenery.path), scenery.masks[6]
    for polarity in ("black", "white"):
        given = {"prompt": "a lawn", "video_url": films["clip"], "quad_mask_video_url": films[polarity]}
        frames = await wire.film(await wire.run(VOID, given), tmp_path)
        kept[polarity] = psnr(frames[6][inside], source[6][inside])
    assert kept["black"] < 20 < kept["white"]


async def test_void_needs_a_mask_or_words_for_one(wire: Wire, films: dict[str, str]) -> None:
    given = {"prompt": "a lawn", "video_url": films["clip"]}
    assert (await wire.run(VOID, given)).status_code == 422
    reply = await wire.run(VOID, given | {"mask_prompt": "the disc"})
    assert reply.status_code == 200, reply.json()
    assert reply.headers["x-fal-billable-units"] == "2"
