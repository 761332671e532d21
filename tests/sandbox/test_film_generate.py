"""Films from a prompt and pictures: length, size, rate and sound are exact, and the same seed gives the same bytes."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from engine_media import Pixels, Scene, Scenery, local_task, read_video, save_png
from films import pitch, sound

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.film.animatic import AnimaticPlan, StoryboardPanel, write_animatic
from rotoscope_sandbox.film.seedance import SIZES, generate_video
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import Stopped, UnusableInput

NAME = "bytedance/seedance-2.0"
CREATE = f"/v1/models/{NAME}/predictions"
TQDM = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)")
SMALL = (160, 96)


def make_film(path: Path, plan: AnimaticPlan) -> Path:
    write_animatic(plan, path, TqdmProgress(local_task(path.parent, {}), plan.frames))
    return path


def small_plan(**changes: Any) -> AnimaticPlan:
    """4 s of 160x96."""
    return replace(AnimaticPlan("A quiet street", (), SMALL, 4, seed=1), **changes)


def plain_picture(colour: tuple[int, int, int], size: tuple[int, int] = SMALL) -> Pixels:
    return np.full((size[1], size[0], 3), colour, np.uint8)


@pytest.mark.anyio
async def test_a_film_has_exactly_the_requested_length_size_and_frame_rate(
    app: Sandbox, ask: Callable[..., Any], finish: Callable[..., None]
) -> None:
    """Source: seed document of seedance-2.0: 24 frames a second, its logs, its metrics, one URL as output."""
    given = {"prompt": "按 Image 1 的故事版生成视频", "resolution": "480p", "duration": 4, "seed": 99}
    async with ask(app, "replicate") as raw:
        created = (await raw.post(CREATE, json={"input": given})).json()
        assert created["version"] == "hidden"
        finish(app, created["id"])
        done = (await raw.get(f"/v1/predictions/{created['id']}")).json()
        assert (done["status"], done["error"]) == ("succeeded", None)
        content = (await raw.get(done["output"])).content
    assert done["output"].startswith("https://")
    with av.open(BytesIO(content), "r") as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.width, video.height, video.average_rate, video.frames) == (864, 496, Fraction(24), 96)
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.duration is not None
        assert video.duration * (video.time_base or 0) == 4
        assert audio.codec_context.name == "aac"
        assert file.duration == pytest.approx(4_000_000, abs=25_000)
        assert sum(1 for _ in file.decode(video)) == 96
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first, so that it plays while it loads"
    metrics = done["metrics"]
    assert metrics["token_output_count"] == 864 * 496 * 97 // 1024
    assert (metrics["video_output_duration_seconds"], metrics["resolution_target"]) == (4, "480p")
    assert metrics["model_variant"] == "non_video_in"
    assert metrics["predict_time"] >= 0
    assert "not understood, only shown" in metrics["sandbox"]["notice"]
    lines = done["logs"].split("\n")
    assert lines[0] == "Using seed: 99"
    assert re.fullmatch(r"Generating video\.\.\. \(request ID: cgt-[0-9a-f-]+\)", lines[1])
    assert re.fullmatch(r"Generated video in \d+\.\dsec", lines[-3])
    assert lines[-2] == f"Downloading {len(content)} bytes"
    steps = [int(found[2]) for line in lines if (found := TQDM.match(line))]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 96)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("more", "field_name"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"duration": 3}, "duration"),
        ({"duration": 16}, "duration"),
        ({"duration": "5"}, "duration"),
        ({"resolution": "640p"}, "resolution"),
        ({"aspect_ratio": "2:1"}, "aspect_ratio"),
        ({"last_frame_image": "data:,x"}, "last_frame_image"),
        ({"image": "data:,x", "reference_images": ["data:,y"]}, "reference_images"),
        ({"reference_images": ["data:,y"] * 10}, "reference_images"),
        ({"reference_images": [7]}, "reference_images"),
        ({"reference_videos": ["data:,y"] * 4}, "reference_videos"),
        ({"reference_audios": ["data:,y"]}, "reference_audios"),
        ({"generate_audio": "yes"}, "generate_audio"),
        ({"seed": 1.5}, "seed"),
    ],
)
async def test_an_unfit_input_is_refused_before_a_prediction_is_accepted(
    app: Sandbox, ask: Callable[..., Any], more: dict[str, Any], field_name: str
) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/predictions", json={"version": NAME, "input": {"prompt": "x", **more}})
    assert reply.status_code == 422
    [row] = reply.json()["invalid_fields"]
    # A missing field is reported for the input that lacks it.
    lacking = ("input", f"{field_name} is required")
    assert row["field"] == f"input.{field_name}" or (row["field"], row["description"]) == lacking
    assert app.state.accepted == []


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, scene: Scene) -> None:
    """Several times: an encoder whose rate control rounds by chance is right most of the time."""
    plan = small_plan(panels=[StoryboardPanel(scene.frame, "Image 1")], size=(320, 192))
    first, *again, other = (
        make_film(tmp_path / f"{number}.mp4", replace(plan, seed=seed)).read_bytes()
        for number, seed in enumerate((7, 7, 7, 7, 8))
    )
    assert all(content == first for content in again)
    assert first != other


def test_an_animatic_has_a_quiet_tone_only_when_sound_is_requested(tmp_path: Path) -> None:
    with av.open(str(make_film(tmp_path / "sound.mp4", small_plan()))) as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    assert 0.005 < np.abs(samples).max() < 0.5
    assert pitch(samples[0]) == pytest.approx(220, abs=1)
    with av.open(str(make_film(tmp_path / "mute.mp4", small_plan(sound=False)))) as file:
        assert [stream.type for stream in file.streams] == ["video"]
        assert file.duration == 4_000_000


def test_a_reference_sound_takes_the_place_of_the_tone_while_it_lasts(tmp_path: Path) -> None:
    whistle = 0.2 * np.sin(2 * np.pi * 1000 * np.arange(2 * 48_000) / 48_000)
    plan = small_plan(reference_sound=np.stack([whistle, whistle]).astype(np.float32))
    samples = sound(make_film(tmp_path / "film.mp4", plan))
    assert pitch(samples[10_000:90_000]) == pytest.approx(1000, abs=2)
    assert pitch(samples[100_000:180_000]) == pytest.approx(220, abs=2)


def test_the_prompt_is_written_at_the_foot_of_the_picture(tmp_path: Path) -> None:
    plan = small_plan(panels=[StoryboardPanel(plain_picture((90, 140, 90), (320, 192)), "Image 1")], size=(320, 192))
    one, other = (
        read_video(make_film(tmp_path / f"{number}.mp4", replace(plan, prompt=prompt)))[40].astype(int)
        for number, prompt in enumerate(("按 Image 1 的故事版生成视频", "Медленно течёт река"))
    )
    difference = np.abs(one - other).max(axis=(1, 2))
    assert difference[:140].max() < 30
    assert difference[150:].max() > 90
    assert one[150:].max() > 220, "white letters"


def test_a_film_without_pictures_shows_the_prompt_in_its_middle(tmp_path: Path) -> None:
    frames = read_video(make_film(tmp_path / "film.mp4", small_plan(prompt="雪")))
    assert frames[50][30:70].max() > 200


def test_panels_are_shown_whole_one_after_the_other_for_the_same_time(tmp_path: Path) -> None:
    red, blue = plain_picture((200, 40, 40), (96, 96)), plain_picture((40, 40, 200))
    frames = read_video(
        make_film(tmp_path / "film.mp4", small_plan(panels=[StoryboardPanel(red, "1"), StoryboardPanel(blue, "2")]))
    )
    assert [frame[40, 80].argmax() for frame in frames] == [0] * 48 + [2] * 48
    assert frames[10][40, 5].max() < 20, "a square picture has bars at its sides"


def test_a_bar_at_the_foot_grows_with_time(tmp_path: Path) -> None:
    frames = read_video(make_film(tmp_path / "film.mp4", small_plan(prompt="")))
    assert all(frames[-1][-1, 5:155].max(axis=-1) > 180)
    assert frames[0][-1, 20:].max() < 120


def test_first_and_last_frame_are_the_pictures_that_were_given(tmp_path: Path) -> None:
    """An adaptive film takes the shape of its first picture, and a duration of -1 leaves the choice to the model."""
    first, last = plain_picture((200, 60, 60), (90, 160)), plain_picture((60, 60, 200), (90, 160))
    given = {"image": save_png(tmp_path / "a.png", first), "last_frame_image": save_png(tmp_path / "b.png", last)}
    more = {"prompt": "x", "resolution": "480p", "aspect_ratio": "adaptive", "duration": -1, "generate_audio": False}
    task = local_task(tmp_path, given | more)
    generate_video(task)
    frames = read_video(task.result)
    assert (len(frames), frames[0].shape) == (120, (864, 496, 3))
    assert np.abs(frames[0][300:500].reshape(-1, 3).mean(axis=0) - (200, 60, 60)).max() < 8
    assert np.abs(frames[-1][300:500].reshape(-1, 3).mean(axis=0) - (60, 60, 200)).max() < 8
    assert task.metrics["video_output_duration_seconds"] == 5


def test_reference_videos_become_panels_and_a_reference_sound_is_accepted(tmp_path: Path, scenery: Scenery) -> None:
    reference = make_film(tmp_path / "reference.mp4", small_plan())
    given = {"reference_videos": [scenery.path], "reference_audios": [reference]}
    task = local_task(tmp_path, given | {"prompt": "x", "resolution": "480p", "duration": 4, "aspect_ratio": "1:1"})
    generate_video(task)
    assert task.metrics["model_variant"] == "video_in"
    assert task.metrics["sandbox"]["method"] == "animatic of 3 panels"
    assert read_video(task.result)[0].shape == (640, 640, 3)
    with av.open(str(task.result)) as file:
        assert file.streams.audio


def test_a_file_that_is_no_video_is_refused_and_no_playlist_is_followed(tmp_path: Path, scenery: Scenery) -> None:
    """A playlist could name other files and hosts: only real containers are opened."""
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{scenery.path}\n#EXT-X-ENDLIST\n")
    for content in (playlist.read_bytes(), b"", b"\x00\x00\x00\x20ftypisom"):
        playlist.write_bytes(content)
        with pytest.raises(UnusableInput, match="video is damaged") as caught:
            generate_video(local_task(tmp_path, {"prompt": "x", "reference_videos": [playlist]}))
        assert caught.value.field_name == "reference_videos"


def test_a_cancelled_film_stops_and_keeps_no_output(tmp_path: Path) -> None:
    task = local_task(tmp_path, {"prompt": "x", "resolution": "480p", "duration": 4}, stop_after=6)
    with pytest.raises(Stopped):
        generate_video(task)
    assert task.kept is None
    assert 0 < int((TQDM.match(task.lines[-1]) or [0, 0, 0])[2]) < 96


def test_every_size_is_even_and_has_its_aspect_ratio() -> None:
    """Source: the provider's table for 480p and 720p; the encoder takes even sides only."""
    for sizes in SIZES.values():
        for name, (width, height) in sizes.items():
            across, down = (int(part) for part in name.split(":"))
            assert width % 2 == height % 2 == 0
            assert width / height == pytest.approx(across / down, rel=0.025)
    assert (SIZES["1080p"]["16:9"], SIZES["4k"]["16:9"]) == ((1920, 1080), (3840, 2160))


def test_a_film_that_is_cut_off_by_the_end_of_its_process_has_not_failed(folder: Path) -> None:
    """The process ends while frames are drawn: the next request about it makes the film again."""
    script = f"""
from pathlib import Path
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.models import find_model
app = build_sandbox(Path({str(folder)!r}), pace=0)
core = app.state.core
core.accept("a" * 26, find_model("replicate", {NAME!r}), {{"prompt": "x", "resolution": "4k", "duration": 15}})
while not any("%" in line for line in core.store.get("a" * 26).logs):
    core.workers.wait("a" * 26, 0.02)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    left = {place.name for place in (folder / "predictions" / ("a" * 26)).iterdir()}
    assert left == {"order.json"}
