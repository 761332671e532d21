"""What a result says of the run at its provider, and by which addresses its files are shown."""

import io
import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from calls import StudioOpener, perform
from PIL import Image, ImageDraw, ImageOps

from rotoscope.contracts.arguments import GenerateVideo, SegmentImage
from rotoscope.contracts.results import AnyResult, JobResult, SegmentResult
from rotoscope.providers.http.client import Download
from rotoscope.server.present.text import result_answer
from rotoscope.settings import Settings, read_settings

pytestmark = pytest.mark.anyio
HOST = "https://gateway.example"
OUT = f"{HOST}/out.png"
PHOTO = "https://pictures.example/photo.jpg"
_ORIENTATION = 0x0112


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return mask


@pytest.fixture
def live(tmp_path: Path) -> Settings:
    """Settings with a key: a real provider, at a host that the operator names."""
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "live"), "REPLICATE_API_TOKEN": "k", "REPLICATE_BASE_URL": HOST}
    return read_settings(environ)


def text_of(result: JobResult) -> str:
    (block,) = result_answer(result).content
    assert block.type == "text"
    return block.text


@pytest.fixture
def scripted(provider: Any) -> Any:
    output = {"img": OUT, "response": "Sure, [SEG]."}
    metrics = {"predict_time": 1.25, "total_time": 69, "model_variant": "x", "bad": True, "nan": None}
    provider.states = [{"status": "succeeded", "output": output, "metrics": metrics}]
    provider.created = (201, {"status": "starting", "urls": {"web": f"{HOST}/p/p1", "get": "https://api.x/p1"}})
    provider.files = {"/out.png": png(box_mask((512, 512), (10, 20, 110, 70)))}
    return provider


async def test_a_result_names_its_run_what_was_measured_and_its_page(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path
) -> None:
    async with opened(live, scripted) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
        shown = await studio.result(await studio.job(result.job_id, "local"), AnyResult)
    for one in (result, shown):
        assert one.provider_run is not None
        assert (one.provider_run.id, one.provider_run.web_url) == ("p1", f"{HOST}/p/p1")
        assert one.metrics == {"predict_time": 1.25, "total_time": 69}
    assert f"run p1 at replicate, {HOST}/p/p1" in text_of(result)


@pytest.mark.parametrize(
    "page", ["https://evil.example/p1", "http://gateway.example/p1", "javascript:alert(1)", 7, None]
)
async def test_a_page_on_another_host_is_not_shown(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path, page: Any
) -> None:
    scripted.created = (201, {"status": "starting", "urls": {"web": page}})
    async with opened(live, scripted) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
    assert result.provider_run is not None
    assert (result.provider_run.id, result.provider_run.web_url) == ("p1", None)


@pytest.mark.parametrize("state", [{"status": "failed", "error": "odd"}, {"status": "canceled"}])
async def test_a_run_that_did_not_succeed_is_named_too(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path, state: Any
) -> None:
    scripted.states = [state]
    async with opened(live, scripted) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
    assert result.provider_run is not None
    assert result.provider_run.id == "p1"


async def test_names_and_numbers_of_a_provider_are_bounded_and_cleaned(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path
) -> None:
    metrics = {f"metric\u202e {n} " + "x" * 500: n for n in range(500)} | {"huge": 1e300}
    scripted.states = [{**scripted.states[0], "metrics": metrics}]
    async with opened(live, scripted) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
    assert 0 < len(result.metrics) <= 20
    assert all(len(name) <= 60 and "\u202e" not in name for name in result.metrics)


async def test_credits_that_are_left_are_shown(opened: StudioOpener, tmp_path: Path, photo: Path) -> None:
    async def segmind(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        mask = png(box_mask((512, 512), (10, 20, 110, 70)))
        body = mask if scope["path"].startswith("/v1/") else json.dumps({"file_urls": [f"{HOST}/in.png"]}).encode()
        named = {"content-type": "image/png", "x-remaining-credits": "41.5", "x-request-id": "sg-1", "x-cost": "0.002"}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    environ = {"ROTOSCOPE_HOME": str(tmp_path / "s"), "SEGMIND_API_KEY": "k", "SEGMIND_BASE_URL": HOST}
    async with opened(read_settings(environ), segmind) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
    assert result.status == "succeeded", result.error
    assert result.credits_left == 41.5
    assert result.provider_run is not None
    assert result.provider_run.id == "sg-1"
    assert "remaining_credits" not in result.metrics


async def test_a_file_is_shown_once_by_the_address_that_opens_while_the_provider_keeps_it(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path
) -> None:
    now = 1_800_000_000.0
    async with opened(live, scripted, clock=lambda: now) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
        now += 3599
        job = await studio.job(result.job_id, "local")
        last = await studio.result(job)
        now += 3601
        later = await studio.result(job)
    for one in (result, last):
        assert isinstance(one, SegmentResult)
        media = one.masks[0].media
        assert media.url == media.source_url == OUT
        line = next(line for line in text_of(one).splitlines() if line.startswith("mask 0"))
        assert line.endswith(f"{media.path} {media.uri} {OUT} until 09:00Z")
        assert "file://" not in text_of(one)
    assert isinstance(later, SegmentResult)
    media = later.masks[0].media
    assert (media.url, media.source_url) == (Path(media.path).as_uri(), OUT)
    assert "https://" not in re.sub(r"run p1 at .*", "", text_of(later))


async def test_a_mask_that_was_painted_on_the_photo_has_no_address_at_the_provider(
    opened: StudioOpener, live: Settings, scripted: Any, photo: Path
) -> None:
    picture = Image.open(photo).convert("RGB")
    shape = box_mask(picture.size, (10, 20, 110, 70)).point(lambda value: value // 2)
    red = Image.new("RGB", picture.size, (255, 0, 0))
    scripted.files = {"/out.png": png(Image.composite(red, picture, shape))}
    async with opened(live, scripted) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), instruction="the helmet"))
    assert isinstance(result, SegmentResult)
    media = result.masks[0].media
    assert (media.source_url, media.source_expires_at) == (None, None)
    assert media.url == Path(media.path).as_uri()
    assert result.provider_run is not None
    assert [file.url for file in result.provider_run.files] == [OUT]
    assert f"as it was given: {OUT} until " in text_of(result)


def camera_photo(size: tuple[int, int], orientation: int) -> tuple[bytes, Image.Image]:
    """A photo as a camera stores it, turned by its EXIF data, and the same photo upright."""
    stored = Image.effect_noise(size, 90).convert("RGB")
    ImageDraw.Draw(stored).rectangle((0, 0, size[0] // 2, size[1] // 4), fill=(200, 40, 40))
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    out = io.BytesIO()
    stored.save(out, "JPEG", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(out.getvalue())))
    return out.getvalue(), upright


async def seen_by(
    opened: StudioOpener,
    live: Settings,
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    photo: bytes,
    given: Image.Image,
) -> SegmentResult:
    """The result for a photo that was passed on by its address, where the model gives this picture."""

    async def fetch(url: str, into: Path, limit: int) -> Download:
        assert url.partition("#")[0] == PHOTO
        into.write_bytes(photo)
        return Download("0" * 64, len(photo), "image/jpeg")

    scripted.files = {"/out.png": png(given)}
    async with opened(live, scripted) as studio:
        monkeypatch.setattr(studio.context.wire, "fetch", fetch)
        result = await perform(studio, SegmentImage(image=PHOTO, instruction="the box"))
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded", result.error
    return result


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(300, 200), (256, 256)])
async def test_a_mask_in_the_stored_frame_of_a_turned_photo_is_put_upright(
    opened: StudioOpener,
    live: Settings,
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    orientation: int,
) -> None:
    photo, upright = camera_photo(size, orientation)
    stored = box_mask(size, (20, 10, 90, 50))
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    held = io.BytesIO()
    stored.save(held, "PNG", exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(held.getvalue())))
    result = await seen_by(opened, live, scripted, monkeypatch, photo, stored)
    with Image.open(result.masks[0].media.path) as mask:
        assert mask.size == upright.size
        assert mask.convert("L").tobytes() == wanted.convert("L").tobytes()
    assert any("EXIF" in warning for warning in result.warnings)
    assert result.masks[0].media.source_url is None


@pytest.mark.parametrize("orientation", [1, 6, 8])
async def test_a_mask_that_has_the_shape_of_the_upright_photo_stays_as_it_is(
    opened: StudioOpener, live: Settings, scripted: Any, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    photo, upright = camera_photo((300, 200), orientation)
    given = box_mask(upright.size, (20, 10, 90, 50))
    result = await seen_by(opened, live, scripted, monkeypatch, photo, given)
    box = result.masks[0].box
    assert box is not None
    assert (box.left, box.top, box.right, box.bottom) == (20, 10, 90, 50)
    assert not any("EXIF" in warning for warning in result.warnings)


@pytest.mark.parametrize("orientation", [2, 3, 6])
@pytest.mark.parametrize("as_stored", [True, False])
async def test_a_photo_with_a_mask_painted_on_it_shows_by_itself_its_orientation(
    opened: StudioOpener,
    live: Settings,
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    orientation: int,
    as_stored: bool,
) -> None:
    photo, upright = camera_photo((256, 256), orientation)
    seen = Image.open(io.BytesIO(photo)).convert("RGB") if as_stored else upright.convert("RGB")
    seen.getexif().clear()
    green = Image.new("RGB", seen.size, (0, 255, 0))
    painted = Image.composite(green, seen, box_mask(seen.size, (150, 150, 220, 200)).point(lambda value: value // 2))
    bare = Image.new("RGB", painted.size)
    bare.paste(painted)
    result = await seen_by(opened, live, scripted, monkeypatch, photo, bare)
    assert any("EXIF" in warning for warning in result.warnings) is as_stored
    corner = (150, 150) if not as_stored else {2: (36, 150), 3: (36, 56), 6: (56, 150)}[orientation]
    box = result.masks[0].box
    assert box is not None
    assert (box.left, box.top) == pytest.approx(corner, abs=4)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level * 20, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


async def test_a_film_is_shown_by_the_address_that_opens(
    opened: StudioOpener, live: Settings, scripted: Any, clip: Path
) -> None:
    scripted.states = [{"status": "succeeded", "output": f"{HOST}/out.mp4"}]
    scripted.files = {"/out.mp4": clip.read_bytes()}
    async with opened(live, scripted) as studio:
        result = await perform(studio, GenerateVideo(prompt="a"), "generate_video")
    shown = text_of(result)
    assert f"{HOST}/out.mp4 until " in shown
    assert "file://" not in shown


async def test_a_dry_run_shows_the_request_that_is_then_sent(
    opened: StudioOpener, live: Settings, scripted: Any
) -> None:
    """Method, address, headers and body are those of the paying request; only the key is named instead of shown."""
    sent: list[dict[str, Any]] = []

    async def watched(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] == "POST":
            sent.append({"path": scope["path"], "headers": headers, "body": json.loads(body)})

        async def again() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await scripted(scope, again, send)

    asked: dict[str, Any] = {"prompt": "a boat", "seed": 7, "duration": 5, "resolution": "480p"}
    async with opened(live, watched) as studio:
        planned = (await perform(studio, GenerateVideo(**asked, dry_run=True), "generate_video")).planned_request
        assert not sent
        await perform(studio, GenerateVideo(**asked), "generate_video")
    assert planned is not None
    assert (planned.method, planned.url) == ("POST", f"{HOST}{sent[0]['path']}")
    assert planned.body == sent[0]["body"]
    assert planned.headers["Authorization"] == "Bearer $REPLICATE_API_TOKEN"
    for name, value in planned.headers.items():
        if name != "Authorization":
            assert sent[0]["headers"][name.lower()] == value


@pytest.mark.parametrize(
    ("environ", "model", "words"),
    [
        ({"REPLICATE_API_TOKEN": "very-secret-key"}, None, "upload to Replicate"),
        ({"SEGMIND_API_KEY": "very-secret-key"}, None, "upload to Segmind"),
        ({"FAL_KEY": "very-secret-key", "FAL_BASE_URL": "http://127.0.0.1:9"}, "fal-ai/sam2/image", "upload to fal"),
    ],
)
async def test_a_file_that_is_not_uploaded_yet_is_a_placeholder_and_no_key_is_shown(
    opened: StudioOpener, tmp_path: Path, photo: Path, environ: dict[str, str], model: str | None, words: str
) -> None:
    given: dict[str, Any] = {"points": [{"x": 9, "y": 9}]} if "FAL_KEY" in environ else {"instruction": "the helmet"}
    async with opened(read_settings({"ROTOSCOPE_HOME": str(tmp_path / "r"), **environ}), None) as studio:
        result = await perform(studio, SegmentImage(image=str(photo), model=model, dry_run=True, **given))
    assert result.planned_request is not None
    assert words in json.dumps(result.planned_request.body)
    assert "very-secret-key" not in result.model_dump_json()
    assert f"request: POST {result.planned_request.url}" in text_of(result)


async def test_an_address_that_will_carry_a_token_is_shown_with_it(opened: StudioOpener, live: Settings) -> None:
    async with opened(live, None) as studio:
        result = await perform(studio, SegmentImage(image=PHOTO, instruction="a", dry_run=True))
    assert result.planned_request is not None
    assert result.planned_request.body["input"] == {"image": f"{PHOTO}#rs-(the job's own mark)", "instruction": "a"}
    assert result.planned_input == {"image": PHOTO, "instruction": "a"}
