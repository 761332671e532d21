"""What a model gives of a clip, in every form and in bad ones: what becomes of it, and that nothing is paid twice."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from engine_media import write_video
from films import film as write_film
from numpy.typing import NDArray

from rotoscope.contracts.arguments import SegmentVideo, parse_arguments
from rotoscope.contracts.results import SegmentVideoResult
from rotoscope.jobs.restoring import restore_files
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 12, Fraction(12)
Mask = NDArray[np.bool_]
OWN = """
id = "me/runs"
title = "Runs"
tool = "segment_video"
source = "me"
[[routes]]
provider = "replicate"
form = "official"
endpoint = "me/runs"
[inputs.clip]
kind = "video"
required = true
argument = "video"
[inputs.words]
kind = "string"
argument = "instruction"
[inputs.points]
kind = "object"
many = true
argument = "points"
encode = "framed_points"
[outputs]
rle = "$"
mask_film = "film"
[timing]
typical_seconds = 5
deadline_seconds = 60
[example]
clip = "https://example.com/a.mp4"
"""


def mask_at(number: int, size: tuple[int, int] = (WIDTH, HEIGHT), middle: tuple[float, float] = (0.3, 0.5)) -> Mask:
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    x, y = size[0] * middle[0] + number, size[1] * middle[1]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= (size[1] / 5) ** 2)


MASKS = [mask_at(number) for number in range(FRAMES)]


def runs(mask: Mask) -> str:
    flat = np.concatenate(([0], mask.ravel().astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(flat))
    pairs = zip(edges[0::2] + 1, edges[1::2] - edges[0::2], strict=True)
    return " ".join(f"{start} {length}" for start, length in pairs)


def film(path: Path, masks: Sequence[Mask], rate: Fraction = RATE) -> bytes:
    frames = [np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2) for mask in masks]
    write_video(path, frames, rate)
    return path.read_bytes()


@pytest.fixture
def clip(home: Path) -> Path:
    chance = np.random.default_rng(1)
    ground = chance.integers(60, 200, (HEIGHT, WIDTH, 3), np.uint8)
    write_video(home / "clip.mp4", [np.where(mask[..., None], 230, ground).astype(np.uint8) for mask in MASKS], RATE)
    return home / "clip.mp4"


@pytest.fixture
def provider(provider: Any, settings: Settings) -> Any:
    (settings.home / "models").mkdir(parents=True, exist_ok=True)
    (settings.home / "models" / "runs.toml").write_text(OWN, encoding="utf-8")
    return provider


async def segment(studio: Studio, provider: Any, clip: Path, output: Any, **more: Any) -> SegmentVideoResult:
    provider.states = [{"status": "succeeded", "output": output}]
    given = {"video": str(clip), "instruction": "the disc", "model": "me/runs", **more}
    with anyio.fail_after(120):
        result = await studio.perform("segment_video", parse_arguments(SegmentVideo, given), "local", 60)
    assert isinstance(result, SegmentVideoResult)
    return result


def decoded(result: SegmentVideoResult) -> list[Mask]:
    assert result.status == "succeeded", result.error
    assert result.mask is not None
    with av.open(result.mask.path) as container:
        return [frame.to_ndarray(format="rgb24")[..., 0] >= 128 for frame in container.decode(video=0)]


def equal(found: Sequence[Mask], wanted: Sequence[Mask]) -> list[bool]:
    return [np.array_equal(one, other) for one, other in zip(found, wanted, strict=True)]


async def test_run_lengths_become_a_film_with_exactly_those_pixels(studio: Studio, provider: Any, clip: Path) -> None:
    chance = np.random.default_rng(5)
    noise = [mask ^ (chance.random(mask.shape) < 0.02) for mask in MASKS]  # the worst that an encoder can be given
    result = await segment(studio, provider, clip, [runs(mask) for mask in noise])
    assert all(equal(decoded(result), noise))
    assert result.mask is not None
    assert (result.mask.width, result.mask.height, result.mask.frames) == (WIDTH, HEIGHT, FRAMES)
    assert result.mask.frame_rate == pytest.approx(12)
    assert result.mask.duration_seconds == pytest.approx(1)
    with av.open(result.mask.path) as container:
        assert container.streams.video[0].codec_context.profile in ("Constrained Baseline", "Baseline", "Main", "High")
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


async def test_megabytes_of_run_lengths_are_a_file_and_not_a_row_of_the_ledger(
    studio: Studio, provider: Any, clip: Path, settings: Settings
) -> None:
    output: Any = {"rle": [runs(mask) for mask in MASKS], "seed": 3}
    result = await segment(studio, provider, clip, output)
    with closing(sqlite3.connect(settings.home / "ledger.sqlite3")) as ledger:
        kept = "".join(str(row) for row in ledger.execute("SELECT * FROM jobs"))
    assert output["rle"][0] not in kept
    assert all(equal(decoded(result), MASKS))
    assert provider.posts == 1


async def test_a_damaged_frame_is_empty_with_a_warning_and_the_others_stay(
    studio: Studio, provider: Any, clip: Path
) -> None:
    given: list[Any] = [runs(mask) for mask in MASKS]
    given[3], given[7], given[9] = "99999999 5", "1 2 3", None
    result = await segment(studio, provider, clip, given)
    wanted = [mask & (number not in (3, 7, 9)) for number, mask in enumerate(MASKS)]
    assert all(equal(decoded(result), wanted))
    assert [row.frame for row in result.frames if row.box is None] == [3, 7, 9]
    assert any("2 frames were damaged and are empty (frame 3, 7)" in warning for warning in result.warnings)
    assert any("in 9 of 12 frames" in warning for warning in result.warnings)


async def test_masks_of_another_size_are_scaled_with_a_warning(studio: Studio, provider: Any, clip: Path) -> None:
    small = [mask_at(number // 2, (WIDTH // 2, HEIGHT // 2)) for number in range(FRAMES)]
    frames = [{"frame_index": n, "objects": [{"track_id": 0, "rle": runs(one)}]} for n, one in enumerate(small)]
    output = {"frames": frames, "width": WIDTH // 2, "height": HEIGHT // 2, "num_frames": FRAMES}
    result = await segment(studio, provider, clip, output)
    wanted = [one.repeat(2, axis=0).repeat(2, axis=1) for one in small]
    assert all(equal(decoded(result), wanted))
    assert any("48x32 and were resized to the clip's 96x64" in warning for warning in result.warnings)


async def test_masks_for_fewer_frames_are_matched_by_time_with_a_warning(
    studio: Studio, provider: Any, clip: Path
) -> None:
    result = await segment(studio, provider, clip, [runs(mask) for mask in MASKS[::2]])
    assert all(equal(decoded(result), [MASKS[number // 2 * 2] for number in range(FRAMES)]))
    assert any("masks for 6 frames, and the clip has 12" in warning for warning in result.warnings)


async def test_a_film_of_half_the_rate_is_matched_by_time(
    studio: Studio, provider: Any, clip: Path, tmp_path: Path
) -> None:
    provider.files["/mask.mp4"] = film(tmp_path / "half.mp4", MASKS[::2], RATE / 2)
    result = await segment(studio, provider, clip, {"film": "https://sandbox.invalid/mask.mp4"})
    found = decoded(result)
    for number, mask in enumerate(found):
        truth = MASKS[number // 2 * 2]
        assert (mask & truth).sum() / (mask | truth).sum() > 0.97, number
    assert any("matched by time" in warning for warning in result.warnings)


async def test_of_several_objects_the_one_under_the_points_counts_and_coco_has_its_number(
    studio: Studio, provider: Any, clip: Path
) -> None:
    others = [mask_at(-number, middle=(0.8, 0.5)) for number in range(FRAMES)]
    frames = [
        {"frame_index": n, "objects": [{"track_id": 4, "rle": runs(a)}, {"track_id": 9, "rle": runs(b)}]}
        for n, (a, b) in enumerate(zip(MASKS, others, strict=True))
    ]
    both = {"frames": frames, "width": WIDTH, "height": HEIGHT, "num_frames": FRAMES}
    every = await segment(studio, provider, clip, both)
    assert all(equal(decoded(every), [a | b for a, b in zip(MASKS, others, strict=True)]))
    one = await segment(studio, provider, clip, both, points=[{"x": 70, "y": 32}], frame=6)
    assert all(equal(decoded(one), others))
    assert one.coco is not None
    document = json.loads(Path(one.coco.path).read_bytes())
    assert {annotation["track_id"] for annotation in document["annotations"]} == {9}
    assert [image["frame"] for image in document["images"]] == list(range(FRAMES))


async def test_a_film_with_a_mask_painted_on_it_is_no_mask(studio: Studio, provider: Any, clip: Path) -> None:
    provider.files["/mask.mp4"] = clip.read_bytes()
    result = await segment(studio, provider, clip, {"film": "https://sandbox.invalid/mask.mp4"})
    assert result.status == "failed"
    assert result.error is not None
    assert "no mask can be told from the picture" in result.error.message
    assert len(result.files) == 1
    assert provider.posts == 1


@pytest.mark.parametrize("output", [[], [""] * FRAMES, {"rle": []}])
async def test_a_model_that_finds_nothing_says_so(studio: Studio, provider: Any, clip: Path, output: Any) -> None:
    result = await segment(studio, provider, clip, output)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code in ("nothing_found", "provider_protocol")


async def test_a_clip_with_odd_sides_has_a_mask_of_its_pixels(studio: Studio, provider: Any, home: Path) -> None:
    """H.264 in the usual form has even sides: the film has one column more, which repeats the last."""
    masks = [mask_at(number, (95, 63)) for number in range(4)]
    with av.open(str(home / "odd.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 95, 63, "yuv444p"
        for mask in masks:
            picture = np.repeat(mask[..., None].astype(np.uint8) * 150, 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    result = await segment(studio, provider, home / "odd.mp4", [runs(mask) for mask in masks])
    found = [mask[:63, :95] for mask in decoded(result)]
    assert all(equal(found, masks))
    assert any("even sides" in warning for warning in result.warnings)


@pytest.mark.parametrize("turn", [-90, 90])
@pytest.mark.parametrize("form", ["film", "runs"])
async def test_masks_of_a_model_that_sees_a_clip_as_it_is_stored_are_turned_upright(
    studio: Studio, provider: Any, home: Path, form: str, turn: int
) -> None:
    """As a phone does: the pictures lie on their side, and the file says how they are shown."""
    sideways = [np.rot90(mask, k=-turn // 90) for mask in MASKS]

    def draw(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.repeat(sideways[number][..., None].astype(np.uint8) * 200 + 20, 3, axis=2)

    size = (HEIGHT, WIDTH)
    clip = write_film(home / "phone.mp4", size=size, frames=FRAMES, rate=int(RATE), draw=draw, turn=turn)
    objects = [[{"track_id": 0, "rle": runs(mask)}] for mask in sideways]
    frames = [{"frame_index": number, "objects": found} for number, found in enumerate(objects)]
    output: Any = {"frames": frames, "width": HEIGHT, "height": WIDTH, "num_frames": FRAMES}
    if form == "film":
        provider.files["/mask.mp4"] = film(home / "mask.mp4", sideways)
        output = {"film": "https://sandbox.invalid/mask.mp4"}
    middle = mask_at(0).nonzero()
    place = [{"x": int(middle[1].mean()), "y": int(middle[0].mean())}]
    result = await segment(studio, provider, clip, output, points=place)
    assert result.mask is not None
    assert (result.mask.width, result.mask.height) == (WIDTH, HEIGHT)
    assert all(equal(decoded(result), MASKS))
    assert sum("the masks were turned" in warning for warning in result.warnings) == 1
    assert any("points and box on the clip as it is stored" in warning for warning in result.warnings)


async def test_masks_of_a_model_that_turns_a_clip_upright_stay_as_they_are(
    studio: Studio, provider: Any, home: Path
) -> None:
    def draw(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.repeat(np.rot90(MASKS[number])[..., None].astype(np.uint8) * 200 + 20, 3, axis=2)

    clip = write_film(home / "phone.mp4", size=(HEIGHT, WIDTH), frames=FRAMES, rate=int(RATE), draw=draw, turn=-90)
    result = await segment(studio, provider, clip, [runs(mask) for mask in MASKS])
    assert all(equal(decoded(result), MASKS))
    assert not any("turned" in warning for warning in result.warnings)


async def test_a_result_whose_films_have_gone_is_made_again_and_not_paid_for(
    studio: Studio, provider: Any, clip: Path
) -> None:
    provider.files["/mask.mp4"] = film(clip.with_name("mask.mp4"), MASKS)
    first = await segment(studio, provider, clip, {"film": "https://sandbox.invalid/mask.mp4"})
    assert first.mask is not None
    assert first.overlay is not None
    for gone in (first.mask, first.overlay):
        Path(gone.path).unlink()
    with anyio.fail_after(60):
        job = await studio.job(first.job_id, "local")
        await restore_files(studio.context, job)
        again = await studio.result(job)
    assert isinstance(again, SegmentVideoResult)
    assert again.mask == first.mask
    assert all(equal(decoded(again), decoded(first)))
    assert provider.posts == 1
