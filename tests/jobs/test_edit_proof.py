"""What an edit proves of itself: what changed inside and outside of the mask; and the original laid back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from calls import StudioOpener
from edited_films import FRAMES, RATE, SIZE, changed, drawn, mask_film, original, shifted, spot
from films import film as write_film
from films import pictures, sound
from mcp_types import TextContent
from PIL import Image

from rotoscope.contracts.arguments import EditVideoWithMask, parse_arguments
from rotoscope.contracts.results import EditChanges, VideoResult
from rotoscope.errors import InvalidInput, OutputLost, RotoscopeError, TooLarge
from rotoscope.media.decoders import DecoderPool
from rotoscope.providers.http.client import Download
from rotoscope.server.present.text import result_answer
from rotoscope.settings import Settings, read_settings
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
REAL = Path("/work/shared/media")
VIDEO_URL, MASK_URL = "https://films.example/a.mp4", "https://films.example/m.mp4"


@pytest.fixture
def video(home: Path) -> Path:
    return drawn(home / "video.mp4")


@pytest.fixture
def mask(home: Path) -> Path:
    return mask_film(home / "mask.mp4")


def asked(video: Path, mask: Path, **more: Any) -> EditVideoWithMask:
    given = {"prompt": "a yellow box", "model": "prunaai/vace-14b@replicate", "seed": 7, **more}
    return parse_arguments(EditVideoWithMask, {"video": str(video), "mask": str(mask), **given})


async def edited(studio: Studio, provider: Any, film: Path | bytes, arguments: EditVideoWithMask) -> VideoResult:
    """The result of an edit for which the model gives a film."""
    provider.files["/out.mp4"] = film if isinstance(film, bytes) else film.read_bytes()
    provider.states = [{"status": "succeeded", "output": "https://sandbox.invalid/out.mp4"}]
    with anyio.fail_after(240):
        result = await studio.perform("edit_video_with_mask", arguments, "local", 120)
    assert isinstance(result, VideoResult)
    assert result.status == "succeeded", result.error
    assert result.video is not None
    return result


def proof(result: VideoResult) -> EditChanges:
    assert result.changes is not None, result.warnings
    return result.changes


async def test_an_identical_film_has_changed_nothing(studio: Studio, provider: Any, video: Path, mask: Path) -> None:
    found = proof(await edited(studio, provider, video, asked(video, mask)))
    assert (found.changed_inside, found.changed_outside, found.psnr_outside_db) == (0, 0, None)
    assert (found.frames_compared, found.frames_dropped, found.frames_added) == (FRAMES, 0, 0)
    share = np.mean([spot(number, *SIZE).mean() for number in range(FRAMES)])
    assert found.mask_share == pytest.approx(share, rel=0.03)
    assert (found.sound, found.outside_restored, found.note) == ("none", False, "")


async def test_a_film_changed_only_inside_of_the_mask_has_no_change_outside(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    film = drawn(home / "out.mp4", changed)
    result = await edited(studio, provider, film, asked(video, mask))
    found = proof(result)
    assert found.changed_outside == 0
    assert found.changed_inside is not None
    assert found.changed_inside > 0.95
    assert Path(result.video.path).read_bytes() == film.read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("crf", ["18", "23", "28"])
async def test_the_noise_of_an_encoder_counts_as_no_change(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path, crf: str
) -> None:
    found = proof(
        await edited(studio, provider, drawn(home / "out.mp4", changed, options={"crf": crf}), asked(video, mask))
    )
    assert found.changed_outside is not None
    assert found.changed_outside < 0.01
    assert found.psnr_outside_db is not None
    assert 30 < found.psnr_outside_db < 60


async def test_a_model_that_changes_everything_cannot_hide_it(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    found = proof(await edited(studio, provider, drawn(home / "out.mp4", shifted), asked(video, mask)))
    assert found.changed_outside is not None
    assert found.changed_outside > 0.95
    assert found.psnr_outside_db is not None
    assert found.psnr_outside_db < 24


async def test_a_shorter_and_a_longer_film_are_counted(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    shorter = proof(await edited(studio, provider, drawn(home / "s.mp4", changed, frames=29), asked(video, mask)))
    assert (shorter.frames_compared, shorter.frames_dropped, shorter.frames_added) == (29, 4, 0)
    assert shorter.changed_outside == 0
    film = drawn(home / "l.mp4", changed, frames=37)
    longer = proof(await edited(studio, provider, film, asked(video, mask, seed=8)))
    assert (longer.frames_compared, longer.frames_dropped, longer.frames_added) == (33, 0, 4)
    assert longer.changed_outside == 0


async def test_a_film_of_another_rate_is_compared_frame_by_frame_where_that_fits(
    studio: Studio, provider: Any, home: Path, mask: Path
) -> None:
    """The model wrote each frame of a clip of 24 a second into a film of 16."""
    clip = drawn(home / "clip.mp4", rate=24)
    masks = mask_film(home / "m24.mp4", rate=24)
    found = proof(await edited(studio, provider, drawn(home / "out.mp4", changed), asked(clip, masks)))
    assert found.changed_outside == 0
    assert (found.frames_compared, found.frames_dropped, found.frames_added) == (FRAMES, 0, 0)
    assert "in their order" in found.note


async def test_a_film_of_half_the_rate_is_compared_at_its_times(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    def every_second(number: int, width: int, height: int) -> np.ndarray:
        return changed(2 * number, width, height)

    film = drawn(home / "out.mp4", every_second, frames=17, rate=RATE // 2)
    found = proof(await edited(studio, provider, film, asked(video, mask, frame_num=17)))
    assert found.changed_outside == 0
    assert (found.frames_compared, found.frames_dropped, found.frames_added) == (17, 16, 0)
    assert "by their times" in found.note


@pytest.mark.parametrize("size", [(320, 192), (80, 48)])
async def test_a_film_of_another_size_is_scaled_and_that_is_said(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path, size: tuple[int, int]
) -> None:
    found = proof(await edited(studio, provider, drawn(home / "out.mp4", changed, size=size), asked(video, mask)))
    assert found.changed_outside is not None
    assert found.changed_outside < 0.01
    assert found.changed_inside is not None
    assert found.changed_inside > 0.8
    assert f"{size[0]}x{size[1]}" in found.note


async def test_a_film_that_shows_the_middle_of_the_picture_is_compared_with_that(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    def middle(number: int, width: int, height: int) -> np.ndarray:
        return changed(number, *SIZE)[:, 20:140]

    found = proof(await edited(studio, provider, drawn(home / "out.mp4", middle, size=(120, 96)), asked(video, mask)))
    assert found.changed_outside == 0
    assert "middle 120x96" in found.note


async def test_with_a_mask_picture_only_the_first_frame_is_judged(
    studio: Studio, provider: Any, home: Path, video: Path
) -> None:
    Image.fromarray(255 * spot(0, *SIZE).astype(np.uint8)).save(home / "mask.png")
    found = proof(await edited(studio, provider, drawn(home / "out.mp4", changed), asked(video, home / "mask.png")))
    assert found.frames_compared == 1
    assert found.changed_outside == 0
    assert "picture" in found.note


async def test_the_clips_sound_is_put_back_where_the_model_gives_none(
    studio: Studio, provider: Any, home: Path, mask: Path
) -> None:
    loud, film = drawn(home / "loud.mp4", tone=True), drawn(home / "out.mp4", changed, frames=17)
    result = await edited(studio, provider, film, asked(loud, mask, frame_num=17))
    assert proof(result).sound == "carried_over"
    assert result.video is not None
    assert (result.video.has_audio, result.video.frames) == (True, 17)
    assert result.video.source_url is None
    made = Path(result.video.path)
    assert sound(made).size / 48_000 == pytest.approx(17 / RATE, abs=0.06)
    assert [frame.tobytes() for frame in pictures(made)] == [frame.tobytes() for frame in pictures(film)]
    job = await studio.job(result.job_id, "local")
    outputs = await studio.context.ledger.outputs(job.id, "local")
    raw = next(output for output in outputs if output.role == "raw")
    with studio.context.vault.open(raw.artifact.sha256) as path:
        assert path is not None
        assert path.read_bytes() == film.read_bytes()


async def test_sound_that_the_model_keeps_and_sound_that_it_changes_differ(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    loud = drawn(home / "loud.mp4", tone=True)
    kept = await edited(studio, provider, drawn(home / "out.mp4", changed, tone=True), asked(loud, mask))
    assert proof(kept).sound == "kept"
    other = await edited(studio, provider, drawn(home / "out.mp4", changed, tone=True), asked(video, mask))
    assert proof(other).sound == "changed"


async def test_a_film_of_another_speed_gets_the_clips_own_times_and_its_sound(
    studio: Studio, provider: Any, home: Path
) -> None:
    """The model wrote each frame of a clip of 24 a second into a film of 16."""
    loud, masks = drawn(home / "loud.mp4", tone=True, rate=24), mask_film(home / "m24.mp4", rate=24)
    result = await edited(studio, provider, drawn(home / "out.mp4", changed), asked(loud, masks))
    assert proof(result).sound == "carried_over"
    assert result.video is not None
    assert (result.video.frame_rate, result.video.frames, result.video.has_audio) == (24, FRAMES, True)
    assert result.video.duration_seconds == pytest.approx(FRAMES / 24, abs=0.05)
    assert_shows(Path(result.video.path), list(range(FRAMES)))


async def test_the_models_own_sound_is_dropped_where_the_frames_get_other_times(
    studio: Studio, provider: Any, home: Path
) -> None:
    clip, masks = drawn(home / "clip.mp4", rate=24), mask_film(home / "m24.mp4", rate=24)
    result = await edited(studio, provider, drawn(home / "out.mp4", changed, tone=True), asked(clip, masks))
    assert result.video is not None
    assert (result.video.frame_rate, result.video.has_audio) == (24, False)
    assert proof(result).sound == "none"
    assert any("sound" in warning and "left out" in warning for warning in result.warnings)


@pytest.mark.parametrize("size", [(320, 192), (80, 48), (164, 96)])
async def test_a_film_of_another_size_is_brought_back_to_the_clips(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path, size: tuple[int, int]
) -> None:
    film = drawn(home / "out.mp4", changed, size=size)
    result = await edited(studio, provider, film, asked(video, mask))
    assert result.video is not None
    assert (result.video.width, result.video.height, result.video.frames) == (*SIZE, FRAMES)
    assert_shows(Path(result.video.path), list(range(FRAMES)))
    assert any(f"brought back to the clip's {SIZE[0]}x{SIZE[1]}" in warning for warning in result.warnings)
    outputs = await studio.context.ledger.outputs(result.job_id, "local")
    raw = next(output for output in outputs if output.role == "raw")
    with studio.context.vault.open(raw.artifact.sha256) as path:
        assert path is not None
        assert path.read_bytes() == film.read_bytes()


async def test_a_film_with_half_of_the_frames_has_each_of_them_twice_in_the_result(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    def every_second(number: int, width: int, height: int) -> np.ndarray:
        return changed(2 * number, width, height)

    film = drawn(home / "out.mp4", every_second, frames=17, rate=RATE // 2)
    result = await edited(studio, provider, film, asked(video, mask, frame_num=17))
    assert result.video is not None
    assert (result.video.frame_rate, result.video.frames) == (RATE, FRAMES)
    assert_shows(Path(result.video.path), [number // 2 * 2 for number in range(FRAMES)])


async def test_a_longer_film_is_cut_to_the_clip(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    film = drawn(home / "out.mp4", changed, frames=37)
    result = await edited(studio, provider, film, asked(video, mask))
    assert result.video is not None
    assert result.video.frames == FRAMES


async def test_around_the_middle_that_a_model_shows_the_result_has_the_original(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    def middle(number: int, width: int, height: int) -> np.ndarray:
        return changed(number, *SIZE)[:, 20:140]

    result = await edited(studio, provider, drawn(home / "out.mp4", middle, size=(120, 96)), asked(video, mask))
    assert result.video is not None
    assert (result.video.width, result.video.height) == SIZE
    assert_shows(Path(result.video.path), list(range(FRAMES)))


def assert_shows(path: Path, numbers: list[int]) -> None:
    """The frames of a film are those numbers of the changed original: the yellow box is where it is in that frame."""
    for frame, number in zip(pictures(path), numbers, strict=True):
        wanted = changed(number, *SIZE).astype(int)
        assert np.abs(frame.astype(int) - wanted).mean() < 9, number


async def test_keep_outside_lays_the_original_back(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    film = drawn(home / "out.mp4", shifted, size=(80, 48))
    result = await edited(studio, provider, film, asked(video, mask, keep_outside=True))
    found = proof(result)
    assert found.outside_restored
    assert found.changed_outside == 0
    assert found.psnr_outside_db is not None
    assert found.psnr_outside_db >= 40
    assert found.changed_inside is not None
    assert found.changed_inside > 0.95
    assert any("laid back" in warning and "%" in warning for warning in result.warnings)
    assert any("brought back to the clip's 160x96" in warning for warning in result.warnings)
    assert result.video is not None
    assert (result.video.width, result.video.height, result.video.frames) == (*SIZE, FRAMES)
    assert result.video.frame_rate == RATE
    # Inside nothing of the model's is lost: its colour is there in every frame.
    for number, frame in enumerate(pictures(Path(result.video.path))):
        inside = np.median(frame[spot(number, *SIZE)], axis=0)
        assert inside == pytest.approx((255, 255, 45), abs=12)


async def test_keep_outside_takes_the_clips_sound_along(studio: Studio, provider: Any, home: Path, mask: Path) -> None:
    loud = drawn(home / "loud.mp4", tone=True)
    result = await edited(studio, provider, drawn(home / "out.mp4", shifted), asked(loud, mask, keep_outside=True))
    assert proof(result).outside_restored
    assert proof(result).sound == "carried_over"
    assert result.video is not None
    assert result.video.has_audio


async def test_keep_outside_is_part_of_the_request(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    film = drawn(home / "out.mp4", changed)
    plain = await edited(studio, provider, film, asked(video, mask))
    kept = await edited(studio, provider, film, asked(video, mask, keep_outside=True))
    assert plain.job_id != kept.job_id
    assert "keep_outside" not in provider.inputs[-1]


async def test_keep_outside_with_a_mask_picture_is_refused_before_money_is_spent(
    studio: Studio, provider: Any, home: Path, video: Path
) -> None:
    Image.fromarray(255 * spot(0, *SIZE).astype(np.uint8)).save(home / "mask.png")
    with pytest.raises(InvalidInput, match="keep_outside needs a mask film") as caught:
        await studio.perform("edit_video_with_mask", asked(video, home / "mask.png", keep_outside=True), "local", 60)
    assert "film" in caught.value.hint
    assert provider.asked == []


async def test_keep_outside_of_a_film_that_is_too_large_is_refused_before_money_is_spent(
    studio: Studio, provider: Any, video: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.studio.validation.LARGEST_LAYING_BACK", SIZE[0] * SIZE[1] * FRAMES - 1)
    with pytest.raises(TooLarge, match="too large for keep_outside"):
        await studio.perform("edit_video_with_mask", asked(video, mask, keep_outside=True), "local", 60)
    assert provider.asked == []


async def test_films_that_are_laid_together_are_not_passed_on_unread(
    home: Path, tmp_path: Path, opened: StudioOpener
) -> None:
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "r8_none_of_yours"}
    links = {"video": VIDEO_URL, "mask": MASK_URL}
    given = {"prompt": "a", "model": "prunaai/vace-14b@replicate", "dry_run": True, **links}
    async with opened(read_settings(environ), None) as studio:
        unread = parse_arguments(EditVideoWithMask, given)
        assert isinstance(await studio.perform("edit_video_with_mask", unread, "local", 60), VideoResult)
        read = parse_arguments(EditVideoWithMask, {**given, "keep_outside": True})
        with pytest.raises(RotoscopeError):
            await studio.perform("edit_video_with_mask", read, "local", 60)


async def edited_by_address(
    opened: StudioOpener, provider: Any, tmp_path: Path, patch: pytest.MonkeyPatch, film: Path, held: dict[str, Path]
) -> tuple[VideoResult, list[str]]:
    """An edit of films that are passed on by their addresses: its result, and what was fetched, which is `held`."""
    settings = read_settings(
        {
            "ROTOSCOPE_HOME": str(tmp_path / "r"),
            "REPLICATE_API_TOKEN": "r8_none_of_yours",
            "REPLICATE_BASE_URL": "https://sandbox.invalid",
        }
    )
    fetched: list[str] = []

    async def fetch(url: str, into: Path, limit: int) -> Download:
        fetched.append(url.partition("#")[0])
        if fetched[-1] not in held:
            raise OutputLost("It cannot be fetched.")
        into.write_bytes(held[fetched[-1]].read_bytes())
        return Download("0" * 64, into.stat().st_size, "video/mp4")

    async with opened(settings, provider) as studio:
        patch.setattr(studio.context.wire, "fetch", fetch)
        arguments = asked(Path("a.mp4"), Path("m.mp4")).model_copy(update={"video": VIDEO_URL, "mask": MASK_URL})
        result = await edited(studio, provider, film, arguments)
    assert [str(provider.inputs[0][name]).partition("#")[0] for name in ("src_video", "src_mask")] == [
        VIDEO_URL,
        MASK_URL,
    ]
    return result, fetched


async def test_films_that_were_passed_on_unread_are_fetched_for_the_proof(
    opened: StudioOpener, provider: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path,
    mask: Path,
) -> None:  # fmt: skip
    film, held = drawn(home / "out.mp4", changed), {VIDEO_URL: video, MASK_URL: mask}
    result, fetched = await edited_by_address(opened, provider, tmp_path, monkeypatch, film, held)
    found = proof(result)
    assert found.changed_outside == 0
    assert found.changed_inside is not None
    assert found.changed_inside > 0.95
    assert fetched == [VIDEO_URL, MASK_URL]  # by the way that checks the address, after the run


@pytest.mark.parametrize(("kept", "gone"), [(MASK_URL, "original"), (VIDEO_URL, "mask")])
async def test_where_a_film_that_was_passed_on_unread_cannot_be_fetched_the_result_says_so(
    opened: StudioOpener, provider: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path,
    mask: Path, kept: str, gone: str,
) -> None:  # fmt: skip
    film, every = drawn(home / "out.mp4", changed), {VIDEO_URL: video, MASK_URL: mask}
    result, _ = await edited_by_address(opened, provider, tmp_path, monkeypatch, film, {kept: every[kept]})
    assert result.changes is None
    assert f"What the edit changed could not be measured: the {gone} cannot be read any more." in result.warnings


@pytest.mark.parametrize("address", [VIDEO_URL, MASK_URL])
async def test_a_file_that_is_no_film_at_the_address_of_a_film_costs_the_proof_alone(
    opened: StudioOpener, provider: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path,
    mask: Path, address: str,
) -> None:  # fmt: skip
    (home / "page.html").write_text("<p>Sign in to see this film.</p>" * 50)
    held = {VIDEO_URL: video, MASK_URL: mask, address: home / "page.html"}
    result, _ = await edited_by_address(opened, provider, tmp_path, monkeypatch, drawn(home / "out.mp4", changed), held)
    assert result.changes is None
    assert any(warning.startswith("What the edit changed could not be measured") for warning in result.warnings)


async def test_a_film_that_is_broken_in_its_middle_is_kept_and_its_proof_says_what_could_be_read(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    content = bytearray(drawn(home / "out.mp4", changed).read_bytes())
    start = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[start : start + len(content) // 4] = bytes(len(content) // 4)
    result = await edited(studio, provider, bytes(content), asked(video, mask, keep_outside=True))
    assert result.changes is not None or any("could not" in warning for warning in result.warnings)


@pytest.fixture
async def pooled(settings: Settings, provider: Any, opened: StudioOpener) -> AsyncIterator[Studio]:
    """A studio that decodes in worker processes with their limits."""
    pool = DecoderPool({})
    async with opened(settings, provider, decoders=pool) as studio:
        yield studio
    await pool.aclose()


async def test_a_huge_film_of_the_model_is_kept_though_it_cannot_be_compared(
    pooled: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    """18 megapixels in 4:4:4: more than a worker may hold of three films."""
    huge = drawn(home / "huge.mp4", size=(6000, 2900), frames=2, options={"preset": "ultrafast", "crf": "40"})
    result = await edited(pooled, provider, huge, asked(video, mask, keep_outside=True))
    assert result.video is not None
    assert result.changes is not None or any("could not" in warning for warning in result.warnings)


async def test_an_original_that_has_gone_costs_the_proof_and_not_the_film(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    arguments = asked(video, mask, keep_outside=True)
    planned = await studio.perform("edit_video_with_mask", arguments.model_copy(update={"dry_run": True}), "local", 60)
    assert isinstance(planned, VideoResult)
    assert planned.planned_input is not None
    link = str(planned.planned_input["src_video"])
    film = drawn(home / "out.mp4", changed)
    answer = provider.answer

    async def remove_original(method: str, path: str, body: bytes) -> Any:
        if path == "/out.mp4":
            studio.context.vault.delete(link.removeprefix("artifact://"), float("inf"))
        return await answer(method, path, body)

    provider.respond = remove_original
    result = await edited(studio, provider, film, arguments)
    assert result.changes is None
    assert any("could not be measured" in warning for warning in result.warnings)


async def test_a_clip_that_is_stored_on_its_side_is_compared_as_it_is_shown(
    studio: Studio, provider: Any, home: Path, mask: Path
) -> None:
    def on_its_side(number: int, width: int, height: int) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(original(number, *SIZE)))

    clip = write_film(
        home / "turned.mp4", size=SIZE[::-1], frames=FRAMES, rate=RATE, draw=on_its_side, turn=-90, options={"qp": "0"}
    )
    result = await edited(studio, provider, drawn(home / "out.mp4", changed), asked(clip, mask, keep_outside=True))
    found = proof(result)
    assert found.changed_outside is not None
    assert found.changed_outside < 0.01
    assert found.psnr_outside_db is not None
    assert found.psnr_outside_db >= 40
    assert result.video is not None
    assert (result.video.width, result.video.height) == SIZE
    assert "middle" not in found.note


async def test_a_film_that_is_laid_back_again_has_the_same_bytes(
    provider: Any, home: Path, tmp_path: Path, opened: StudioOpener, video: Path, mask: Path
) -> None:
    """So a stage that is repeated after a kill gives the same result."""
    given, found = drawn(home / "out.mp4", shifted), set()
    for number in range(2):
        settings = read_settings({"ROTOSCOPE_HOME": str(tmp_path / f"r{number}"), "ROTOSCOPE_SANDBOX": "always"})
        async with opened(settings, provider) as studio:
            result = await edited(studio, provider, given, asked(video, mask, keep_outside=True))
        assert proof(result).outside_restored
        assert result.video is not None
        found.add(result.video.sha256)
    assert len(found) == 1


async def test_the_text_for_assistants_tells_the_proof_in_a_line(
    studio: Studio, provider: Any, home: Path, video: Path, mask: Path
) -> None:
    result = await edited(studio, provider, drawn(home / "out.mp4", changed, frames=29), asked(video, mask))
    (text,) = [one.text for one in result_answer(result).content if isinstance(one, TextContent)]
    (line,) = [one for one in text.splitlines() if one.startswith("proof: ")]
    assert line.startswith("proof: outside the mask 0.0% of the pixels changed (identical); inside ")
    assert line.endswith("29 frames, 4 dropped, no sound.")


@pytest.mark.skipif(not REAL.exists(), reason="the shared clips are not on this machine")
@pytest.mark.parametrize("name", ["boxingcat.mp4", "coffee.mp4"])
async def test_a_real_clip_is_laid_back_to_forty_decibels(pooled: Studio, provider: Any, home: Path, name: str) -> None:
    frames = pictures(REAL / name)[:33]
    size = frames[0].shape[1], frames[0].shape[0]

    def given(number: int, width: int, height: int) -> np.ndarray:
        pixels = frames[number].copy()
        pixels[spot(number, *size)] = (250, 240, 20)
        return np.asarray(Image.fromarray(pixels).resize((width, height)))

    rate = {"boxingcat.mp4": 16, "coffee.mp4": 30}[name]
    clip = home / name
    clip.write_bytes((REAL / name).read_bytes())
    film = drawn(home / "out.mp4", given, size=(832, 480), frames=33, rate=rate, options={"crf": "26"})
    masks = mask_film(home / "mask.mp4", size=size, rate=rate)
    result = await edited(pooled, provider, film, asked(clip, masks, frame_num=33, keep_outside=True))
    found = proof(result)
    assert found.psnr_outside_db is not None
    assert found.psnr_outside_db >= 40
    assert found.changed_outside is not None
    assert found.changed_outside < 0.001
    assert found.changed_inside is not None
    assert found.changed_inside > 0.9
