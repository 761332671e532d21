"""Exports of jobs: which have masks, what is gathered of them, and what is said of those that have none."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import StudioOpener, open_job, perform, segment_arguments, start_job
from export_readers import Mask, by_cvat, by_pycocotools, overlap
from films import film, number_of
from ledger_file import ledger_file
from PIL import Image
from scripted_provider import ScriptedProvider

from rotoscope.contracts.arguments import DescribeWithMasks, EditVideoWithMask, parse_arguments
from rotoscope.contracts.results import DescribeResult
from rotoscope.errors import InvalidInput, OutputLost, RotoscopeError, UnknownJob
from rotoscope.media.exports.making import make_export
from rotoscope.media.exports.sources import ExportOrder, FilmSource, MaskSource, PictureSource
from rotoscope.settings import Settings
from rotoscope.studio.exports import ExportRequest, open_export
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
_SIZE, _FRAMES = (160, 96), 33


def _png(mask: Mask) -> bytes:
    target = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, "PNG")
    return target.getvalue()


def _boxed(height: int, width: int, *boxes: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _moving(number: int, width: int, height: int) -> np.ndarray:
    """A white box that moves by a pixel a frame."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[20:60, 30 + number : 80 + number] = 255
    return pixels


async def _exported(studio: Studio, job_id: str, form: str, **more: Any) -> dict[str, bytes]:
    with anyio.fail_after(180):
        async with open_export(studio, job_id, ExportRequest(form, **more), "local") as (_, made):
            return {file.name: file.path.read_bytes() for file in made.files}


async def _refused(studio: Studio, job_id: str, form: str = "coco", **more: Any) -> RotoscopeError:
    with pytest.raises(RotoscopeError) as caught:
        await _exported(studio, job_id, form, **more)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def provider(provider: ScriptedProvider) -> ScriptedProvider:
    """The scripted provider, with a mask that has a hole."""
    mask = _boxed(512, 512, (10, 20, 200, 300))
    mask[100:200, 50:100] = False
    provider.files["/out.png"] = _png(mask)
    return provider


async def test_the_mask_of_a_result_is_exported_with_the_name_of_its_picture(studio: Studio, photo: Path) -> None:
    job = await perform(studio, segment_arguments(photo, "the helmet"))
    for name in (job.job_id, f"job://{job.job_id}"):
        files = await _exported(studio, name, "coco")
        assert list(files) == ["annotations.json"]
    ((label, mask),) = by_pycocotools(files)
    assert label == "the helmet"
    assert int(mask.sum()) == 190 * 280 - 100 * 50
    (picture,) = json.loads(files["annotations.json"])["images"]
    assert (picture["file_name"], picture["width"], picture["height"]) == ("astronaut.jpg", 512, 512)


async def test_pictures_are_written_where_they_are_wanted(studio: Studio, photo: Path) -> None:
    job = await perform(studio, segment_arguments(photo))
    files = await _exported(studio, job.job_id, "cvat", with_pictures=True)
    with Image.open(io.BytesIO(files["images/astronaut.jpg"])) as picture:
        assert picture.size == (512, 512)
    assert b'name="astronaut.jpg"' in files["annotations.xml"]


async def test_a_photo_that_stands_on_its_side_is_exported_upright(studio: Studio, home: Path, provider: Any) -> None:
    lying = Image.new("RGB", (300, 200), (200, 40, 40))
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(home / "side.jpg", exif=exif)
    provider.files["/out.png"] = _png(_boxed(300, 200, (5, 10, 100, 250)))
    job = await perform(studio, segment_arguments(home / "side.jpg"))
    files = await _exported(studio, job.job_id, "coco", with_pictures=True)
    (picture,) = json.loads(files["annotations.json"])["images"]
    assert (picture["width"], picture["height"]) == (200, 300)
    with Image.open(io.BytesIO(files["images/side.jpg"])) as shown:
        assert shown.size == (200, 300)
        assert shown.getexif().get(0x0112, 1) == 1


async def test_phrases_of_a_description_are_the_labels_of_its_masks(
    opened: StudioOpener, settings: Settings, sandbox: Sandbox, photo: Path
) -> None:
    with Image.open(photo) as large:
        large.resize((160, 160)).save(photo)
    async with opened(settings, sandbox) as studio:
        job = await perform(studio, DescribeWithMasks(image=str(photo)), tool="describe_with_masks")
        assert isinstance(job, DescribeResult)
        found = by_pycocotools(await _exported(studio, job.job_id, "coco-polygons"))
    assert len(job.masks) > 2
    assert [label for label, _ in found] == [segment.phrase for segment in job.segments]
    for one, (_, mask) in zip(job.masks, found, strict=True):
        with Image.open(one.media.path) as picture:
            assert np.array_equal(np.asarray(picture) > 127, mask)


async def test_masks_that_are_gone_are_fetched_again(
    studio: Studio, settings: Settings, photo: Path, provider: ScriptedProvider
) -> None:
    job = await perform(studio, segment_arguments(photo))
    before = await _exported(studio, job.job_id, "coco")
    _remove_results(settings)
    assert await _exported(studio, job.job_id, "coco") == before
    _remove_results(settings)
    provider.files.clear()
    provider.states = [404]
    error = await _refused(studio, job.job_id)
    assert isinstance(error, OutputLost)
    assert f"rotoscope jobs show {job.job_id}" in error.hint
    assert provider.posts == 1


def _remove_results(settings: Settings) -> None:
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        results = {sha256 for (sha256,) in ledger.execute("SELECT sha256 FROM outputs")}
    for file in (settings.home / "vault").glob("??/*.*"):
        if file.name.partition(".")[0] in results:
            file.unlink()


async def test_jobs_without_masks_are_refused_with_the_next_step(
    studio: Studio, photo: Path, provider: ScriptedProvider
) -> None:
    assert isinstance(await _refused(studio, "0" * 32), UnknownJob)
    provider.states = [{"status": "failed", "error": "no"}]
    failed = await perform(studio, segment_arguments(photo, "one"))
    assert "failed" in (await _refused(studio, failed.job_id)).message
    provider.states = [{"status": "processing"}]
    running = await start_job(studio, segment_arguments(photo, "two"))
    error = await _refused(studio, running.id)
    assert "not done yet" in error.message
    assert f"rotoscope jobs show {running.id}" in error.hint
    await studio.cancel(running.id, "local")
    with anyio.fail_after(180):
        await studio.wait(running, 60)
    assert "cancelled" in (await _refused(studio, running.id)).message


async def test_a_job_of_another_principal_is_as_unknown_as_none(studio: Studio, photo: Path) -> None:
    job = (await open_job(studio, segment_arguments(photo), principal="other")).job
    assert isinstance(await _refused(studio, job.id), UnknownJob)


@pytest.mark.parametrize(
    ("more", "words"),
    [({"every": 0}, "--every"), ({"simplify": -1.0}, "--simplify"), ({"simplify": float("nan")}, "--simplify"),
     ({"simplify": 1.0, "form": "png"}, "no outlines"), ({"form": "bmp"}, "no export format")],
)  # fmt: skip
async def test_options_out_of_range_are_refused(studio: Studio, more: dict[str, Any], words: str) -> None:
    assert words in (await _refused(studio, "0" * 32, **more)).message


async def _edit_job(studio: Studio, video: Path, mask: Path, model: str = "prunaai/vace-14b") -> str:
    arguments = parse_arguments(
        EditVideoWithMask,
        {"prompt": "a red ball", "video": str(video), "mask": str(mask), "model": f"{model}@replicate"},
    )
    return (await start_job(studio, arguments, tool="edit_video_with_mask")).id


async def test_every_frame_of_an_edits_mask_film_is_exported_with_its_picture(studio: Studio, home: Path) -> None:
    video = film(home / "a clip.mp4", size=_SIZE, frames=_FRAMES, rate=16)
    mask = film(home / "m.mp4", size=_SIZE, frames=_FRAMES, rate=16, draw=_moving)
    job_id = await _edit_job(studio, video, mask)
    files = await _exported(studio, job_id, "cvat", with_pictures=True, every=8)
    names = [f"a clip-{number:06}.jpg" for number in (0, 8, 16, 24, 32)]
    assert [name for name in files if name.startswith("images/")] == [f"images/{name}" for name in names]
    for place, number in enumerate((0, 8, 16, 24, 32)):
        ((label, found),) = by_cvat(files, place)
        assert label == "mask"
        assert overlap(found, _moving(number, *_SIZE)[:, :, 0] > 0) > 0.97
        with Image.open(io.BytesIO(files[f"images/{names[place]}"])) as shown:
            assert number_of(np.asarray(shown)) == number


async def test_an_edits_mask_picture_is_that_of_the_first_frame(studio: Studio, home: Path) -> None:
    video = film(home / "clip.mp4", size=_SIZE, frames=_FRAMES, rate=16)
    wanted = _boxed(_SIZE[1], _SIZE[0], (20, 30, 90, 70))
    (home / "m.png").write_bytes(_png(wanted))
    files = await _exported(studio, await _edit_job(studio, video, home / "m.png"), "cutout")
    (content,) = files.values()
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture)
    assert np.array_equal(pixels[:, :, 3] > 0, wanted)
    assert pixels[40, 40, 0] > 180  # the red of the film's left half


async def test_a_mask_that_was_not_sent_to_its_model_is_exported_all_the_same(studio: Studio, home: Path) -> None:
    video = film(home / "clip.mp4", size=_SIZE, frames=_FRAMES, rate=16)
    mask = film(home / "m.mp4", size=_SIZE, frames=_FRAMES, rate=16, draw=_moving)
    job_id = await _edit_job(studio, video, mask, "fal-ai/wan/v2.7/edit-video")
    files = await _exported(studio, job_id, "cvat", with_pictures=True, every=16)
    ((_, found),) = by_cvat(files, 0)
    assert overlap(found, _moving(0, *_SIZE)[:, :, 0] > 0) > 0.97


# The rest is of the worker's function itself.


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch" / "x"


def _source(tmp_path: Path, *masks: Mask, picture: Path | None = None) -> PictureSource:
    files = []
    for number, mask in enumerate(masks):
        path = tmp_path / f"{number}.png"
        path.write_bytes(_png(mask))
        files.append(MaskSource(path, f"object {number}"))
    return PictureSource("photo.png", picture, tuple(files))


def _made(order: ExportOrder, stem: Path) -> Iterator[tuple[str, bytes]]:
    for file in make_export(order, stem).files:
        assert file.path.parent == stem.parent
        assert file.path.name.startswith(stem.name)
        yield file.name, file.path.read_bytes()


def test_empty_masks_and_those_of_another_size_are_named(tmp_path: Path, stem: Path) -> None:
    source = _source(tmp_path, _boxed(40, 50, (1, 1, 9, 9)), _boxed(40, 50), _boxed(20, 50, (1, 1, 9, 9)))
    made = make_export(ExportOrder("coco", source), stem)
    assert made.notes == (
        "The mask of object 1 (masks/1) selects nothing.",
        "The mask of object 2 (masks/2) is of another size than the picture, and was left out.",
    )
    document = json.loads(made.files[0].path.read_bytes())
    assert [one["name"] for one in document["categories"]] == ["object 0"]


@pytest.mark.parametrize("form", ["yolo-seg", "cutout"])
def test_a_format_that_needs_the_picture_is_refused_without_it(tmp_path: Path, stem: Path, form: str) -> None:
    with pytest.raises(InvalidInput, match="picture itself cannot be read") as caught:
        make_export(ExportOrder(form, _source(tmp_path, _boxed(9, 9, (1, 1, 5, 5)))), stem)
    assert "coco" in caught.value.hint


def test_empty_masks_alone_cannot_be_cut_out(tmp_path: Path, stem: Path) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    source = _source(tmp_path, _boxed(40, 50), picture=tmp_path / "photo.png")
    with pytest.raises(InvalidInput, match="nothing to export") as caught:
        make_export(ExportOrder("cutout", source), stem)
    assert "png" in caught.value.hint


def test_a_mask_whose_black_is_selected_is_exported_the_right_way_round(tmp_path: Path, stem: Path) -> None:
    wanted = _boxed(40, 60, (5, 5, 30, 30))
    (tmp_path / "m.png").write_bytes(_png(~wanted))
    source = FilmSource("clip.mp4", None, tmp_path / "m.png", mask_is_film=False, label="ball", inverted=True)
    files = dict(_made(ExportOrder("coco", source), stem))
    ((label, found),) = by_pycocotools(files)
    assert label == "ball"
    assert np.array_equal(found, wanted)


def test_a_film_with_more_frames_than_an_export_has_masks_is_refused_with_the_way_out(
    tmp_path: Path, stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.media.exports.frames.MAX_MASKS", 5)
    mask = film(tmp_path / "m.mp4", size=_SIZE, frames=12, draw=_moving)
    source = FilmSource("clip.mp4", None, mask, mask_is_film=True, label="ball")
    with pytest.raises(InvalidInput, match="at most 5 masks") as caught:
        make_export(ExportOrder("png", source), stem)
    assert "--every" in caught.value.hint
    assert len(json.loads(dict(_made(ExportOrder("coco", source, every=3), stem))["annotations.json"])["images"]) == 4


def test_an_export_with_too_many_bytes_is_refused(tmp_path: Path, stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotoscope.media.exports.making._MAX_BYTES", 100)
    with pytest.raises(InvalidInput, match="too large"):
        make_export(ExportOrder("png", _source(tmp_path, _boxed(40, 50, (1, 1, 9, 9)))), stem)
