"""Edits by words on the sandbox: equal requests give equal films, and what is not taken is refused as documented."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_media import LocalTask, local_task, psnr, read_video, write_video
from films import film, sound

from rotoscope_sandbox.models import UnusableInput, find_model

WAN = ("fal", "fal-ai/wan/v2.7/edit-video")
KLING = ("fal", "fal-ai/kling-video/o3/pro/video-to-video/edit")
SEEDANCE = ("fal", "bytedance/seedance-2.0/reference-to-video")


def clip(path: Path, size: tuple[int, int] = (160, 96), rate: int = 12, seconds: float = 2.0) -> str:
    """A red box on grey."""
    picture = np.full((size[1], size[0], 3), 120, np.uint8)
    picture[size[1] // 3 : size[1] * 2 // 3, size[0] // 3 : size[0] * 2 // 3] = (200, 40, 40)
    write_video(path, [picture] * round(rate * seconds), Fraction(rate))
    return str(path)


def run(folder: Path, model: tuple[str, str], given: dict[str, Any]) -> tuple[Any, LocalTask]:
    folder.mkdir(exist_ok=True)
    found = find_model(*model)
    assert found is not None
    assert not found.problems(given)
    task = local_task(folder, given)
    return found.compute(task), task


def test_what_stands_out_gets_the_colour_that_is_named_and_the_rest_stays_near(tmp_path: Path) -> None:
    given = {"prompt": "make the box blue", "video_url": clip(tmp_path / "c.mp4"), "resolution": "720p"}
    output, task = run(tmp_path / "a", WAN, given)
    frames = read_video(task.result)
    assert frames[0].shape == (720, 1200, 3)
    assert len(frames) == 24
    middle = frames[12][300:420, 500:700].reshape(-1, 3).mean(axis=0)
    assert middle[2] > middle[0] + 40
    source = np.full((200, 1200, 3), 120, np.uint8)
    assert 20 < psnr(frames[12][:200], source) < 40
    assert isinstance(output["seed"], int)
    _, again = run(tmp_path / "b", WAN, given)
    assert again.result.read_bytes() == task.result.read_bytes()


def test_the_sound_stays_only_where_that_is_asked_for(tmp_path: Path) -> None:
    loud = str(film(tmp_path / "loud.mp4", frames=33, rate=16, tone=True))
    given = {"prompt": "x", "video_url": loud, "resolution": "720p"}
    _, kept = run(tmp_path / "a", WAN, given | {"audio_setting": "origin"})
    _, other = run(tmp_path / "b", WAN, given)
    own, new = sound(kept.result), sound(other.result)
    assert len(own)
    assert len(new)
    assert not np.allclose(own[:8000], new[:8000], atol=0.01)


@pytest.mark.parametrize(
    ("model", "shape", "kind"),
    [
        (WAN, ((160, 96), 4, 12.0), "video_duration_too_long"),
        (WAN, ((160, 96), 12, 1.0), "video_duration_too_short"),
        (KLING, ((160, 96), 24, 3.0), "image_too_small"),
        (KLING, ((720, 720), 12, 3.0), "value_error"),
        (SEEDANCE, ((160, 96), 12, 1.0), "video_duration_too_short"),
    ],
    ids=["long", "short", "small", "slow", "short for Seedance"],
)
def test_a_clip_that_is_not_taken_is_refused_with_the_provider_s_own_name_of_it(
    tmp_path: Path, model: tuple[str, str], shape: Any, kind: str
) -> None:
    video = clip(tmp_path / "c.mp4", *shape)
    given: dict[str, Any] = {"prompt": "Edit @Video1: x"}
    given |= {"video_urls": [video], "duration": "4"} if model is SEEDANCE else {"video_url": video}
    with pytest.raises(UnusableInput) as caught:
        run(tmp_path / "a", model, given)
    assert caught.value.kind == kind


def test_what_the_schema_excludes_is_refused_before_a_run(tmp_path: Path) -> None:
    wan, kling = find_model(*WAN), find_model(*KLING)
    assert wan is not None
    assert kling is not None
    least = {"prompt": "x", "video_url": "https://example.com/a.mp4"}
    assert [one.kind for one in wan.problems(least | {"duration": "5"})] == ["integer_type"]
    assert [one.kind for one in wan.problems(least | {"duration": 1})] == ["literal_error"]
    assert [one.kind for one in wan.problems(least | {"resolution": "480p"})] == ["literal_error"]
    assert [one.kind for one in kling.problems(least | {"image_urls": ["a"] * 5})] == ["too_long"]
    assert [one.kind for one in kling.problems(least | {"prompt": "x" * 2501})] == ["too_long"]
