"""Edits inside a mask: what is selected changes, what is not does not, and the mask goes where its object goes."""

import base64
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.film.camera_motion import dilate_disc
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.film.vace import VERSION, edit
from rotoscope_sandbox.models import Stopped, UnusableInput

MODEL = "prunaai/vace-14b"
MEDIA = Path(__file__).parents[3] / "shared" / "media"
FramesIn = Callable[[Path], list[NDArray[np.uint8]]]
Psnr = Callable[[NDArray[Any], NDArray[Any]], float]


def shown(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)


@pytest.fixture
def edited(
    job: Callable[..., Any], scenery: Any, saved: Callable[..., Path], frames_in: FramesIn
) -> Callable[..., tuple[list[NDArray[np.uint8]], Any]]:
    """Edits the scenery at its own size; without a mask, the first frame's is followed."""

    def run(**more: Any) -> tuple[list[NDArray[np.uint8]], Any]:
        mask = saved("mask.png", shown(dilate_disc(scenery.masks[0], 2)))
        task = job({"prompt": "x", "src_video": scenery.place, "src_mask": mask, "size": "160*96"} | more)
        edit(task)
        return frames_in(task.result), task

    return run


def test_the_object_is_replaced_by_what_other_frames_show_behind_it(
    edited: Callable[..., Any], scenery: Any, frames_in: FramesIn, psnr: Psnr
) -> None:
    """The mask is drawn on the first frame only and has to find its way."""
    frames, task = edited()
    source = frames_in(scenery.place)
    assert len(frames) == len(source)
    for number in (0, 6, 12):
        inside, outside = scenery.masks[number], ~dilate_disc(scenery.masks[number], 8)
        assert psnr(frames[number][outside], source[number][outside]) > 30
        assert (
            psnr(frames[number][inside], scenery.ground[inside])
            > psnr(source[number][inside], scenery.ground[inside]) + 5
        )
    words = task.metrics["sandbox"]
    assert words["method"].startswith("mask followed from the first frame; temporal fill")
    assert words["inpaint_patches"] < 0.4
    assert "The prompt was not understood" in words["notice"]


def test_a_followed_mask_moves_with_its_object(
    scenery: Any, frames_in: FramesIn, likeness: Callable[..., float]
) -> None:
    frames = frames_in(scenery.place)
    follower = MaskTracker(frames[0], scenery.masks[0])
    last = [follower.next_mask(frame) for frame in frames[1:]][-1]
    assert likeness(last, scenery.masks[-1]) > 0.8
    assert likeness(last, scenery.masks[0]) < 0.2


def test_a_mask_video_is_taken_frame_by_frame(
    edited: Callable[..., Any],
    scenery: Any,
    tmp_path: Path,
    write_film: Callable[..., None],
    frames_in: FramesIn,
    psnr: Psnr,
) -> None:
    """It may have another size than the clip, and end before it: then its last mask stays."""
    masks = [np.kron(shown(dilate_disc(mask, 3)), np.ones((2, 2, 1), np.uint8)) for mask in scenery.masks[:8]]
    write_film(tmp_path / "masks.mp4", masks, scenery.rate)
    frames, task = edited(src_mask=tmp_path / "masks.mp4")
    source = frames_in(scenery.place)
    assert task.metrics["sandbox"]["method"].startswith("mask video; ")
    assert psnr(frames[4][scenery.masks[4]], source[4][scenery.masks[4]]) < 20
    outside = ~dilate_disc(scenery.masks[4], 5)
    assert psnr(frames[4][outside], source[4][outside]) > 30
    escaped = scenery.masks[12] & ~dilate_disc(scenery.masks[7], 5)
    assert psnr(frames[12][escaped], source[12][escaped]) > 27


def test_a_palette_mask_of_another_size_counts_as_well(
    edited: Callable[..., Any], scenery: Any, tmp_path: Path, frames_in: FramesIn, psnr: Psnr
) -> None:
    picture = Image.fromarray(dilate_disc(scenery.masks[0], 2).astype(np.uint8) * 2).resize(
        (479, 289), Image.Resampling.NEAREST
    )
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 30, 30])
    picture.save(tmp_path / "palette.png")
    frames, _ = edited(src_mask=tmp_path / "palette.png", frame_num=5)
    source = frames_in(scenery.place)[0]
    assert len(frames) == 5
    assert psnr(frames[0][scenery.masks[0]], source[scenery.masks[0]]) < 20


def test_a_reference_picture_is_laid_into_the_mask_and_clipped_by_it(
    edited: Callable[..., Any], scenery: Any, saved: Callable[..., Path]
) -> None:
    picture = np.full((60, 60, 3), 255, np.uint8)
    picture[8:52, 8:52] = (250, 20, 240)
    frames, task = edited(src_ref_images=[saved("ref.png", picture)])
    assert "reference picture laid in (its plain ground removed)" in task.metrics["sandbox"]["method"]
    for number in (0, 6, 12):
        pink = (frames[number][..., 0] > 170) & (frames[number][..., 1] < 90) & (frames[number][..., 2] > 150)
        assert pink.sum() > 0.3 * scenery.masks[number].sum()
        assert not (pink & ~dilate_disc(scenery.masks[number], 8)).any()


def test_the_same_input_gives_the_same_bytes_whatever_the_speed_is_called(edited: Callable[..., Any]) -> None:
    (_, one), (_, again) = (edited(speed_mode="Extra Juiced 🚀 (even more speed)", frame_num=5) for _ in range(2))
    assert one.result.read_bytes() == again.result.read_bytes()
    assert one.result != again.result


def test_a_mask_that_selects_nothing_is_refused_in_words(
    job: Callable[..., Any], scenery: Any, saved: Callable[..., Path]
) -> None:
    mask = saved("mask.png", np.zeros((96, 160, 3), np.uint8))
    with pytest.raises(UnusableInput, match="selects nothing"):
        edit(job({"prompt": "x", "src_video": scenery.place, "src_mask": mask}))


def test_a_mask_of_everything_still_gives_a_film(edited: Callable[..., Any], saved: Callable[..., Path]) -> None:
    frames, task = edited(src_mask=saved("all.png", np.full((96, 160, 3), 255, np.uint8)), frame_num=3)
    assert len(frames) == 3
    assert task.metrics["sandbox"]["inpaint_patches"] == 1


def test_a_cancel_in_the_middle_stops_an_edit(
    job: Callable[..., Any], scenery: Any, saved: Callable[..., Path]
) -> None:
    given = {"prompt": "x", "src_video": scenery.place, "src_mask": saved("mask.png", shown(scenery.masks[0]))}
    task = job(given | {"size": "160*96"}, stop_after=4)
    with pytest.raises(Stopped):
        edit(task)
    assert task.kept is None


@pytest.mark.anyio
async def test_on_the_gateway_the_result_has_the_asked_size_the_clips_rate_and_no_sound(
    app: Sandbox, ask: Callable[..., Any], finish: Callable[..., None], scenery: Any
) -> None:
    """Source: the gateway document: the version stands beside the path; videos may be uploads or data URIs."""
    async with ask(app, "replicate") as raw:
        video = await raw.post("/v1/files", files={"content": ("clip.mp4", scenery.place.read_bytes(), "video/mp4")})
        mask = BytesIO()
        Image.fromarray(shown(scenery.masks[0])).save(mask, "PNG")
        given = {
            "prompt": "x",
            "src_video": video.json()["urls"]["get"],
            "src_mask": f"data:image/png;base64,{base64.b64encode(mask.getvalue()).decode()}",
            "frame_num": 5,
            "seed": -1,
            "speed_mode": "Juiced 🔥 (more speed)",
        }
        body = {"version": VERSION, "input": given}
        created = await raw.post(f"/replicate/v1/models/{MODEL}/predictions", json=body)
        assert created.status_code == 200
        finish(app, created.json()["id"])
        done = (await raw.get(f"/replicate/v1/predictions/{created.json()['id']}")).json()
        assert (done["status"], done["error"]) == ("succeeded", None)
        content = (await raw.get(done["output"])).content
    with av.open(BytesIO(content)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (832, 480, 5)
        assert stream.average_rate == Fraction(25, 2)
        assert [one.type for one in file.streams] == ["video"]
    assert "100%|██████████| 5/5" in done["logs"]
    assert done["metrics"]["sandbox"]["confidence"] > 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("more", "field_name"),
    [
        ({"src_mask": None}, "src_mask"),
        ({"src_video": None}, "src_video"),
        ({"size": "832x480"}, "size"),
        ({"frame_num": 82}, "frame_num"),
        ({"speed_mode": "Extra Juiced 🔥 (even more speed)"}, "speed_mode"),
        ({"sample_solver": "euler"}, "sample_solver"),
        ({"src_ref_images": "one"}, "src_ref_images"),
    ],
)
async def test_what_an_edit_does_not_take_is_refused(
    app: Sandbox, ask: Callable[..., Any], more: dict[str, Any], field_name: str
) -> None:
    given = {"prompt": "x", "src_video": "data:,x", "src_mask": "data:,x"} | more
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/predictions", json={"version": f"{MODEL}:{VERSION}", "input": given})
        by_path = await raw.post(f"/v1/models/{MODEL}/predictions", json={"input": given})
    assert reply.status_code == 422
    assert [row["field"] for row in reply.json()["invalid_fields"]] == [f"input.{field_name}"]
    assert by_path.status_code == 404, "on Replicate itself community models run by their version only"


@pytest.mark.media
@pytest.mark.skipif(not MEDIA.is_dir(), reason="the shared media are not here")
def test_the_boxing_cat_becomes_a_snake(job: Callable[..., Any], frames_in: FramesIn, psnr: Psnr) -> None:
    """Real clip, hand-made mask of its first frame, and a reference whose alpha hides nothing."""
    given = {
        "prompt": "a snake boxes",
        "src_video": MEDIA / "boxingcat.mp4",
        "src_mask": MEDIA / "boxingcat_mask.png",
        "src_ref_images": [MEDIA / "snake.png"],
        "size": "416*240",
        "frame_num": 13,
    }
    task = job(given)
    edit(task)
    frames = frames_in(task.result)
    green = [(frame[..., 1] > frame[..., 0].astype(int) + 25) for frame in frames]
    assert all(one[:, :208].mean() > 0.05 for one in green)
    with av.open(str(MEDIA / "boxingcat.mp4")) as file:
        first = next(file.decode(video=0)).to_ndarray(format="rgb24")
    original = np.asarray(Image.fromarray(first).resize((416, 240), Image.Resampling.BOX))
    assert psnr(frames[0][:, 220:], original[:, 220:]) > 28
