"""Films from a prompt and pictures: exact in every measure, the same for the same seed, honest about what they are."""

import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.film.animatic import Plan, make
from rotoscope_sandbox.film.panels import Panel
from rotoscope_sandbox.film.progress import Progress
from rotoscope_sandbox.film.seedance import SIZES, generate
from rotoscope_sandbox.models import Stopped, UnusableInput

MODEL = "bytedance/seedance-2.0"
CREATE = f"/v1/models/{MODEL}/predictions"
TQDM = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)")
SMALL = (160, 96)


@pytest.fixture
def film(job: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """A small film, straight from a plan."""

    def made(name: str = "film.mp4", prompt: str = "A quiet street", **plan: Any) -> Path:
        whole = Plan(prompt, plan.pop("panels", ()), plan.pop("size", SMALL), plan.pop("seconds", 4), **plan)
        make(whole, tmp_path / name, Progress(job({}), whole.frames))
        return tmp_path / name

    return made


def picture(colour: tuple[int, int, int], size: tuple[int, int] = SMALL) -> NDArray[np.uint8]:
    return np.full((size[1], size[0], 3), colour, np.uint8)


@pytest.mark.anyio
async def test_a_film_is_exactly_as_long_as_large_and_as_fast_as_asked(
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
    with av.open(BytesIO(content)) as file:
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
async def test_what_the_model_does_not_take_is_refused_before_anything_is_accepted(
    app: Sandbox, ask: Callable[..., Any], more: dict[str, Any], field_name: str
) -> None:
    async with ask(app, "replicate") as raw:
        reply = await raw.post("/v1/predictions", json={"version": MODEL, "input": {"prompt": "x", **more}})
    assert reply.status_code == 422
    [row] = reply.json()["invalid_fields"]
    # What is missing is told of the input that lacks it.
    lacking = ("input", f"{field_name} is required")
    assert row["field"] == f"input.{field_name}" or (row["field"], row["description"]) == lacking
    assert app.state.accepted == []


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(film: Callable[..., Path], scene: Any) -> None:
    """Several times: an encoder whose rate control rounds by chance is right most of the time."""
    more = {"panels": [Panel(scene.frame, "Image 1")], "size": (320, 192)}
    one, *again, other = (film(f"{n}.mp4", seed=seed, **more).read_bytes() for n, seed in enumerate((7, 7, 7, 7, 8)))
    assert all(content == one for content in again)
    assert one != other


def test_there_is_sound_only_when_it_is_asked_for_and_it_is_quiet(film: Callable[..., Path]) -> None:
    with av.open(str(film(seed=1))) as file:
        heard = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    assert 0.005 < np.abs(heard).max() < 0.5
    with av.open(str(film("mute.mp4", seed=1, sound=False))) as file:
        assert [stream.type for stream in file.streams] == ["video"]
        assert file.duration == 4_000_000


def test_the_prompt_is_written_at_the_foot_of_the_picture(
    film: Callable[..., Path], frames_in: Callable[[Path], list[NDArray[np.uint8]]]
) -> None:
    panels = [Panel(picture((90, 140, 90), (320, 192)), "Image 1")]
    one, other = (
        frames_in(film(f"{n}.mp4", prompt=words, panels=panels, size=(320, 192), seed=1))[40].astype(int)
        for n, words in enumerate(("按 Image 1 的故事版生成视频", "Медленно течёт река"))
    )
    apart = np.abs(one - other).max(axis=(1, 2))
    assert apart[:140].max() < 30
    assert apart[150:].max() > 90
    assert one[150:].max() > 220, "white letters"


def test_a_film_without_pictures_moves_behind_its_title(
    film: Callable[..., Path], frames_in: Callable[[Path], list[NDArray[np.uint8]]]
) -> None:
    frames = frames_in(film(prompt="雪", seed=5))
    apart = np.abs(frames[0].astype(int) - frames[-1])
    assert apart.mean() > 3
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 3
    assert frames[50][30:70].max() > 200


def test_first_and_last_frame_are_the_pictures_that_were_given(
    job: Callable[..., Any],
    saved: Callable[..., Path],
    frames_in: Callable[[Path], list[NDArray[np.uint8]]],
) -> None:
    """An adaptive film takes the shape of its first picture, and a duration of -1 leaves the choice to the model."""
    first, last = picture((200, 60, 60), (90, 160)), picture((60, 60, 200), (90, 160))
    given = {"image": saved("a.png", first), "last_frame_image": saved("b.png", last)}
    more = {"prompt": "x", "resolution": "480p", "aspect_ratio": "adaptive", "duration": -1, "generate_audio": False}
    task = job(given | more)
    generate(task)
    frames = frames_in(task.result)
    assert (len(frames), frames[0].shape) == (120, (864, 496, 3))
    assert np.abs(frames[0][300:500].reshape(-1, 3).mean(axis=0) - (200, 60, 60)).max() < 8
    assert np.abs(frames[-1][300:500].reshape(-1, 3).mean(axis=0) - (60, 60, 200)).max() < 8
    assert task.metrics["video_output_duration_seconds"] == 5


def test_reference_videos_and_sounds_are_seen_and_heard(
    job: Callable[..., Any], scenery: Any, film: Callable[..., Path], frames_in: Callable[..., Any]
) -> None:
    heard = film("heard.mp4", seed=2)
    given = {"reference_videos": [scenery.place], "reference_audios": [heard]}
    task = job(given | {"prompt": "x", "resolution": "480p", "duration": 4, "aspect_ratio": "1:1"})
    generate(task)
    assert task.metrics["model_variant"] == "video_in"
    assert task.metrics["sandbox"]["method"] == "animatic of 3 panels"
    assert frames_in(task.result)[0].shape == (640, 640, 3)
    with av.open(str(task.result)) as file:
        assert file.streams.audio


def test_what_is_no_video_fails_in_words_and_opens_nothing_else(
    job: Callable[..., Any], tmp_path: Path, scenery: Any
) -> None:
    """A playlist could name other files and hosts: only real containers are opened."""
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{scenery.place}\n#EXT-X-ENDLIST\n")
    for content in (playlist.read_bytes(), b"", b"\x00\x00\x00\x20ftypisom"):
        playlist.write_bytes(content)
        with pytest.raises(UnusableInput, match="video is damaged") as caught:
            generate(job({"prompt": "x", "reference_videos": [playlist]}))
        assert caught.value.field_name == "reference_videos"


def test_a_cancel_in_the_middle_stops_the_work_and_leaves_no_output(job: Callable[..., Any]) -> None:
    task = job({"prompt": "x", "resolution": "480p", "duration": 4}, stop_after=6)
    with pytest.raises(Stopped):
        generate(task)
    assert task.kept is None
    assert 0 < int((TQDM.match(task.lines[-1]) or [0, 0, 0])[2]) < 96


def test_every_size_is_even_and_has_the_shape_it_is_named_for() -> None:
    """Source: the provider's table for 480p and 720p; the encoder takes even sides only."""
    for sizes in SIZES.values():
        for name, (width, height) in sizes.items():
            across, down = (int(part) for part in name.split(":"))
            assert width % 2 == height % 2 == 0
            assert width / height == pytest.approx(across / down, rel=0.025)
    assert (SIZES["1080p"]["16:9"], SIZES["4k"]["16:9"]) == ((1920, 1080), (3840, 2160))


def test_a_film_that_the_end_of_its_process_cuts_off_has_not_failed(folder: Path) -> None:
    """The process ends while frames are drawn: whoever asks next lets the film be made again."""
    script = f"""
from pathlib import Path
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.models import find_model
app = build_sandbox(Path({str(folder)!r}), pace=0)
core = app.state.core
core.accept("a" * 26, find_model("replicate", {MODEL!r}), {{"prompt": "x", "resolution": "4k", "duration": 15}})
while not any("%" in line for line in core.store.get("a" * 26).logs):
    core.workers.wait("a" * 26, 0.02)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    left = {place.name for place in (folder / "predictions" / ("a" * 26)).iterdir()}
    assert left == {"order.json"}
