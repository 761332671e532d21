"""Edits inside a mask: only selected pixels change, and a tracked mask follows its object."""

import base64
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from engine_media import (
    LocalTask,
    MaskArray,
    Pixels,
    Scenery,
    local_task,
    overlap,
    psnr,
    read_video,
    save_png,
    write_video,
)
from PIL import Image
from tiny_net import ShownNet

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.film.vace import VERSION, edit_video
from rotoscope_sandbox.models import Stopped, UnusableInput
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import dilate_disc

NAME = "prunaai/vace-14b"
MEDIA = Path(__file__).parents[3] / "shared" / "media"


def mask_picture(mask: MaskArray) -> Pixels:
    return np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)


def edit(folder: Path, scenery: Scenery, **more: object) -> tuple[list[Pixels], LocalTask]:
    """Edit the scenery at its own size; unless another is given, the mask is a picture of the first frame's."""
    mask = save_png(folder / "mask.png", mask_picture(dilate_disc(scenery.masks[0], 2)))
    given = {"prompt": "x", "src_video": scenery.path, "src_mask": mask, "size": "160*96"}
    task = local_task(folder, given | more)
    edit_video(task)
    return read_video(task.result), task


def test_an_edit_replaces_the_object_by_the_background_that_other_frames_show(tmp_path: Path, scenery: Scenery) -> None:
    """The mask is given for the first frame only."""
    frames, task = edit(tmp_path, scenery)
    source = read_video(scenery.path)
    assert len(frames) == len(source)
    for number in (0, 6, 12):
        inside, outside = scenery.masks[number], ~dilate_disc(scenery.masks[number], 8)
        assert psnr(frames[number][outside], source[number][outside]) > 30
        assert (
            psnr(frames[number][inside], scenery.ground[inside])
            > psnr(source[number][inside], scenery.ground[inside]) + 5
        )
    note = task.metrics["sandbox"]
    assert note["method"].startswith("mask followed from the first frame; temporal fill")
    assert note["invented"] < 0.4
    assert "The prompt was not understood" in note["notice"]


def test_a_tracked_mask_moves_with_its_object(scenery: Scenery) -> None:
    frames = read_video(scenery.path)
    tracker = MaskTracker(frames[0], scenery.masks[0])
    last = [tracker.next_mask(frame) for frame in frames[1:]][-1]
    assert overlap(last, scenery.masks[-1]) > 0.8
    assert overlap(last, scenery.masks[0]) < 0.2


def tracked(frames: list[Pixels], mask: MaskArray, net: ObjectNet | None) -> list[MaskArray]:
    tracker = MaskTracker(frames[0], mask, net)
    return [tracker.next_mask(frame) for frame in frames[1:]]


def test_a_net_that_knows_the_object_keeps_its_mask_closer(scenery: Scenery) -> None:
    frames = read_video(scenery.path)
    knowing = ShownNet(lambda shown: np.asarray(shown[..., 0].astype(int) - shown[..., 1] > 20))
    truth = [np.asarray(frame[..., 0].astype(int) - frame[..., 1] > 20) for frame in frames]
    with_net = [overlap(*pair) for pair in zip(tracked(frames, truth[0], knowing), truth[1:], strict=True)]
    without = [overlap(*pair) for pair in zip(tracked(frames, truth[0], None), truth[1:], strict=True)]
    assert len(knowing.shown) == len(frames)
    assert np.mean(with_net) > np.mean(without) + 0.1


def test_a_net_that_does_not_know_the_object_is_asked_once(scenery: Scenery) -> None:
    """It takes half of the object for all of it, or finds something else."""
    frames = read_video(scenery.path)
    for answer in (
        lambda shown: np.zeros(shown.shape[:2], np.bool_),
        lambda shown: np.arange(shown.shape[1])[None].repeat(shown.shape[0], 0) < shown.shape[1] // 2,
    ):
        unknowing = ShownNet(answer)
        with_net = tracked(frames, scenery.masks[0], unknowing)
        assert len(unknowing.shown) == 1
        assert all(map(np.array_equal, with_net, tracked(frames, scenery.masks[0], None)))


def test_a_net_that_loses_the_object_on_the_way_changes_nothing(scenery: Scenery) -> None:
    frames = read_video(scenery.path)

    def see_all_later(shown: Pixels) -> MaskArray:
        if len(wandering.shown) > 1:
            return np.ones(shown.shape[:2], np.bool_)
        return np.asarray(shown[..., 0].astype(int) - shown[..., 1] > 20)

    wandering = ShownNet(see_all_later)
    truth = np.asarray(frames[0][..., 0].astype(int) - frames[0][..., 1] > 20)
    with_net = tracked(frames, truth, wandering)
    assert len(wandering.shown) == len(frames)
    assert all(map(np.array_equal, with_net, tracked(frames, truth, None)))


def test_an_edit_uses_the_net(tmp_path: Path, scenery: Scenery) -> None:
    mask = save_png(tmp_path / "mask.png", mask_picture(scenery.masks[0]))
    given = {"prompt": "x", "src_video": scenery.path, "src_mask": mask, "size": "160*96"}
    task = local_task(tmp_path, given)
    task.net = net = ShownNet(lambda shown: np.asarray(shown[..., 0].astype(int) - shown[..., 1] > 0))
    edit_video(task)
    assert net.shown


def test_a_mask_video_is_used_frame_by_frame(tmp_path: Path, scenery: Scenery) -> None:
    """It may have another size than the clip, and end before it: then its last mask stays."""
    masks = [np.kron(mask_picture(dilate_disc(mask, 3)), np.ones((2, 2, 1), np.uint8)) for mask in scenery.masks[:8]]
    write_video(tmp_path / "masks.mp4", masks, scenery.rate)
    frames, task = edit(tmp_path, scenery, src_mask=tmp_path / "masks.mp4")
    source = read_video(scenery.path)
    assert task.metrics["sandbox"]["method"].startswith("mask video; ")
    assert psnr(frames[4][scenery.masks[4]], source[4][scenery.masks[4]]) < 20
    outside = ~dilate_disc(scenery.masks[4], 5)
    assert psnr(frames[4][outside], source[4][outside]) > 30
    escaped = scenery.masks[12] & ~dilate_disc(scenery.masks[7], 5)
    assert psnr(frames[12][escaped], source[12][escaped]) > 27


def test_a_palette_mask_of_another_size_is_scaled_to_the_clip(tmp_path: Path, scenery: Scenery) -> None:
    picture = Image.fromarray(dilate_disc(scenery.masks[0], 2).astype(np.uint8) * 2).resize(
        (479, 289), Image.Resampling.NEAREST
    )
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 30, 30])
    picture.save(tmp_path / "palette.png")
    frames, _ = edit(tmp_path, scenery, src_mask=tmp_path / "palette.png", frame_num=5)
    source = read_video(scenery.path)[0]
    assert len(frames) == 5
    assert psnr(frames[0][scenery.masks[0]], source[scenery.masks[0]]) < 20


def test_a_reference_picture_is_drawn_inside_the_mask_only(tmp_path: Path, scenery: Scenery) -> None:
    picture = np.full((60, 60, 3), 255, np.uint8)
    picture[8:52, 8:52] = (250, 20, 240)
    frames, task = edit(tmp_path, scenery, src_ref_images=[save_png(tmp_path / "ref.png", picture)])
    assert "reference picture laid in (its plain ground removed)" in task.metrics["sandbox"]["method"]
    for number in (0, 6, 12):
        pink = (frames[number][..., 0] > 170) & (frames[number][..., 1] < 90) & (frames[number][..., 2] > 150)
        assert pink.sum() > 0.3 * scenery.masks[number].sum()
        assert not (pink & ~dilate_disc(scenery.masks[number], 8)).any()


def test_the_same_edit_twice_gives_the_same_bytes(tmp_path: Path, scenery: Scenery) -> None:
    (_, one), (_, again) = (
        edit(tmp_path, scenery, speed_mode="Extra Juiced 🚀 (even more speed)", frame_num=5) for _ in range(2)
    )
    assert one.result.read_bytes() == again.result.read_bytes()
    assert one.result != again.result


def test_an_empty_mask_is_refused(tmp_path: Path, scenery: Scenery) -> None:
    mask = save_png(tmp_path / "mask.png", np.zeros((96, 160, 3), np.uint8))
    with pytest.raises(UnusableInput, match="selects nothing"):
        edit_video(local_task(tmp_path, {"prompt": "x", "src_video": scenery.path, "src_mask": mask}))


def test_a_mask_of_the_whole_frame_gives_a_film_that_is_all_inpainted(tmp_path: Path, scenery: Scenery) -> None:
    frames, task = edit(
        tmp_path, scenery, src_mask=save_png(tmp_path / "all.png", np.full((96, 160, 3), 255, np.uint8)), frame_num=3
    )
    assert len(frames) == 3
    assert task.metrics["sandbox"]["invented"] == 1


def test_a_cancelled_edit_stops_and_keeps_no_output(tmp_path: Path, scenery: Scenery) -> None:
    given = {
        "prompt": "x",
        "src_video": scenery.path,
        "src_mask": save_png(tmp_path / "mask.png", mask_picture(scenery.masks[0])),
    }
    task = local_task(tmp_path, given | {"size": "160*96"}, stop_after=4)
    with pytest.raises(Stopped):
        edit_video(task)
    assert task.kept is None


@pytest.mark.anyio
async def test_the_gateway_returns_the_requested_size_the_clips_rate_and_no_sound(
    app: Sandbox, ask: Callable[..., Any], finish: Callable[..., None], scenery: Scenery
) -> None:
    """Source: the gateway document: the version stands beside the path; videos may be uploads or data URIs."""
    async with ask(app, "replicate") as raw:
        video = await raw.post("/v1/files", files={"content": ("clip.mp4", scenery.path.read_bytes(), "video/mp4")})
        mask = BytesIO()
        Image.fromarray(mask_picture(scenery.masks[0])).save(mask, "PNG")
        given = {
            "prompt": "x",
            "src_video": video.json()["urls"]["get"],
            "src_mask": f"data:image/png;base64,{base64.b64encode(mask.getvalue()).decode()}",
            "frame_num": 5,
            "seed": -1,
            "speed_mode": "Juiced 🔥 (more speed)",
        }
        body = {"version": VERSION, "input": given}
        created = await raw.post(f"/replicate/v1/models/{NAME}/predictions", json=body)
        assert created.status_code == 200
        finish(app, created.json()["id"])
        done = (await raw.get(f"/replicate/v1/predictions/{created.json()['id']}")).json()
        assert (done["status"], done["error"]) == ("succeeded", None)
        content = (await raw.get(done["output"])).content
    with av.open(BytesIO(content), "r") as file:
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
async def test_an_unfit_edit_input_is_refused_by_its_field(
    app: Sandbox, ask: Callable[..., Any], more: dict[str, Any], field_name: str
) -> None:
    given = {"prompt": "x", "src_video": "data:,x", "src_mask": "data:,x"} | more
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/predictions", json={"version": f"{NAME}:{VERSION}", "input": given})
        by_path = await raw.post(f"/v1/models/{NAME}/predictions", json={"input": given})
    assert reply.status_code == 422
    assert [row["field"] for row in reply.json()["invalid_fields"]] == [f"input.{field_name}"]
    assert by_path.status_code == 404, "on Replicate itself community models run by their version only"


@pytest.mark.media
@pytest.mark.skipif(not MEDIA.is_dir(), reason="the shared media are not here")
def test_the_boxing_cat_becomes_a_snake(tmp_path: Path) -> None:
    """Real clip, hand-made mask of its first frame, and a reference whose alpha hides nothing."""
    given = {
        "prompt": "a snake boxes",
        "src_video": MEDIA / "boxingcat.mp4",
        "src_mask": MEDIA / "boxingcat_mask.png",
        "src_ref_images": [MEDIA / "snake.png"],
        "size": "416*240",
        "frame_num": 13,
    }
    task = local_task(tmp_path, given)
    edit_video(task)
    frames = read_video(task.result)
    green = [(frame[..., 1] > frame[..., 0].astype(int) + 25) for frame in frames]
    assert all(one[:, :208].mean() > 0.05 for one in green)
    with av.open(str(MEDIA / "boxingcat.mp4")) as file:
        first = next(file.decode(video=0)).to_ndarray(format="rgb24")
    original = np.asarray(Image.fromarray(first).resize((416, 240), Image.Resampling.BOX))
    assert psnr(frames[0][:, 220:], original[:, 220:]) > 28
