"""Video jobs: what is checked before money is spent, what a provider gets, and what the user gets back."""

import wave
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from calls import StudioOpener
from PIL import Image, ImageDraw
from vaults import stored_path

from rotoscope.contracts.arguments import EditVideoWithMask, GenerateVideo, SegmentImage, parse_arguments
from rotoscope.contracts.results import JobResult, VideoResult
from rotoscope.errors import OverBudget, RotoscopeError
from rotoscope.settings import Settings, read_settings
from rotoscope.store.records import Job, OpenResult
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
WIDTH, HEIGHT, FRAMES, RATE = 160, 96, 33, 16


def clip(
    path: Path,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    frames: int = FRAMES,
    level: int | None = None,
    black_until: int | None = None,
) -> Path:
    """A moving gradient, or frames of one grey level, or a moving white bar that comes after some black frames."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        across = np.arange(size[0]) * 255 // size[0]
        for number in range(frames):
            row = np.full(size[0], level) if level is not None else np.roll(across, 3 * number)
            if black_until is not None:
                row = np.roll((across > 200) * 255, 3 * number) if number >= black_until else across * 0
            picture = np.repeat(np.repeat(row[None, :, None], size[1], 0), 3, 2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def mask(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), box: tuple[int, ...] = (20, 20, 60, 60)) -> Path:
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    image.save(path)
    return path


@pytest.fixture
def video(home: Path) -> Path:
    return clip(home / "clip.mp4")


@pytest.fixture
def provider(provider: Any, tmp_path: Path) -> Any:
    """The scripted provider, with a video as its output."""
    provider.files["/out.mp4"] = clip(tmp_path / "out.mp4").read_bytes()
    provider.states = [{"status": "succeeded", "output": "https://sandbox.invalid/out.mp4"}]
    return provider


def edit(video: Path | str, given_mask: Path | str, **more: Any) -> EditVideoWithMask:
    more = {"prompt": "an empty room", "model": "prunaai/vace-14b@replicate", **more}
    return parse_arguments(EditVideoWithMask, {"video": str(video), "mask": str(given_mask), **more})


def write_price(settings: Settings, route: str, unit: str, usd: float) -> None:
    """The operator's own price of a route."""
    (settings.home / "models").mkdir(parents=True, exist_ok=True)
    text = f'["{route}"]\nunit = "{unit}"\nusd = {usd}\nseen = "2026-11"\n'
    (settings.home / "models" / "prices.toml").write_text(text, encoding="utf-8")


async def done(studio: Studio, arguments: GenerateVideo | EditVideoWithMask) -> VideoResult:
    tool = "generate_video" if isinstance(arguments, GenerateVideo) else "edit_video_with_mask"
    with anyio.fail_after(180):
        result = await studio.perform(tool, arguments, "local", 60)
    assert isinstance(result, VideoResult)
    return result


async def refused(studio: Studio, arguments: GenerateVideo | EditVideoWithMask) -> RotoscopeError:
    with pytest.raises(RotoscopeError) as caught:
        await done(studio, arguments)
    assert caught.value.hint
    assert (await studio.list("local", None, 10)).jobs == []
    return caught.value


async def begun(studio: Studio, arguments: EditVideoWithMask) -> Job:
    opening = await studio.start(await studio.plan("edit_video_with_mask", arguments, "local"))
    assert isinstance(opening, OpenResult)
    return opening.job


async def test_a_generated_video_comes_with_its_facts_a_poster_and_a_filmstrip(studio: Studio, provider: Any) -> None:
    words = "按 Image 1 的故事版生成视频"
    result = await done(studio, GenerateVideo(prompt=words, duration=5, resolution="480p", seed=99))
    assert result.status == "succeeded", result.error
    assert provider.inputs == [{"prompt": words, "duration": 5, "resolution": "480p", "seed": 99}]
    assert provider.asked[0] == "POST /v1/models/bytedance/seedance-2.0/predictions"
    found = result.video
    assert found is not None
    assert (found.width, found.height, found.frames, found.frame_rate) == (WIDTH, HEIGHT, FRAMES, RATE)
    assert found.duration_seconds == pytest.approx(FRAMES / RATE)
    assert (found.codec, found.has_audio, found.content_type) == ("h264", False, "video/mp4")
    assert Path(found.path).read_bytes() == provider.files["/out.mp4"]
    assert found.source_url is None  # nothing can be opened at the built-in sandbox
    assert found.url == Path(found.path).as_uri()
    for picture in (result.poster, result.filmstrip):
        assert picture is not None
        with Image.open(picture.path) as image:
            assert image.size == (picture.width, picture.height)


async def test_a_seed_is_drawn_and_shown_also_when_the_user_asks_for_any(studio: Studio, provider: Any) -> None:
    for given in (GenerateVideo(prompt="a"), GenerateVideo(prompt="a", seed=-1)):
        result = await done(studio, given)
        assert result.seed is not None
        assert result.seed >= 0
        assert provider.inputs[-1]["seed"] == result.seed


async def test_every_medium_of_a_request_is_uploaded_and_in_its_place(
    studio: Studio, provider: Any, photo: Path, video: Path
) -> None:
    asked = {"prompt": "a", "reference_images": [str(photo), str(photo)], "reference_videos": str(video)}
    asked["model"] = "bytedance/seedance-2.0@replicate"  # with a video the other route is the cheaper one
    result = await done(studio, parse_arguments(GenerateVideo, asked))
    assert result.status == "succeeded", result.error
    uploaded = "https://sandbox.invalid/v1/files/f1"
    assert provider.inputs[0]["reference_images"] == [uploaded, uploaded]
    assert provider.inputs[0]["reference_videos"] == [uploaded]
    assert provider.asked.count("POST /v1/files") == 2


async def test_a_masked_edit_sends_what_the_model_takes_and_warns_of_what_was_chosen(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    result = await done(studio, edit(video, mask(home / "m.png"), speed_mode="fastest", seed=7))
    assert result.status == "succeeded", result.error
    sent = provider.inputs[0]
    assert sent["speed_mode"] == "Extra Juiced 🚀 (even more speed)"
    assert (sent["frame_num"], sent["seed"]) == (FRAMES, 7)
    assert any("frame_num was set to 33" in warning for warning in result.warnings)


async def test_a_mask_from_segment_image_is_given_as_its_job(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    provider.files["/out.png"] = mask(home / "seg.png").read_bytes()
    provider.states = [{"status": "succeeded", "output": {"img": "https://sandbox.invalid/out.png", "response": "x"}}]
    still = Image.new("RGB", (WIDTH, HEIGHT), (90, 80, 70))
    still.save(home / "still.png")
    segmented = await studio.perform(
        "segment_image",
        SegmentImage(image=str(home / "still.png"), instruction="it", model="bytedance/sa2va-4b-image"),
        "local",
        20,
    )
    assert isinstance(segmented, JobResult)
    for link in (f"job://{segmented.job_id}", segmented.masks[0].media.uri, segmented.masks[0].media.path):  # type: ignore[attr-defined]
        result = await studio.perform("edit_video_with_mask", edit(video, link, dry_run=True), "local", 60)
        assert isinstance(result, VideoResult)
        assert result.planned_input is not None
        assert str(result.planned_input["src_mask"]).startswith("artifact://")


async def kept_mask(studio: Studio, arguments: EditVideoWithMask) -> tuple[Image.Image, VideoResult]:
    result = await done(studio, arguments)
    assert result.planned_input is not None
    return Image.open(stored_path(studio.context.vault, str(result.planned_input["src_mask"]))), result


async def test_a_mask_that_is_off_by_a_pixel_is_resized_with_a_warning(studio: Studio, video: Path, home: Path) -> None:
    given = mask(home / "m.png", (WIDTH - 1, HEIGHT))
    image, result = await kept_mask(studio, edit(video, given, dry_run=True))
    assert image.size == (WIDTH, HEIGHT)
    assert {value for _, value in image.getcolors() or []} == {0, 255}
    assert any("resized from 159x96" in warning for warning in result.warnings)


async def test_a_palette_mask_with_small_ids_counts_as_a_mask(studio: Studio, video: Path, home: Path) -> None:
    """Data sets number their objects 1, 2, 3: too dark for any threshold."""
    ids = Image.new("P", (WIDTH, HEIGHT), 0)
    ids.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    ImageDraw.Draw(ids).rectangle((10, 10, 29, 29), fill=1)
    ImageDraw.Draw(ids).rectangle((50, 50, 69, 69), fill=2)
    ids.save(home / "ids.png")
    image, _ = await kept_mask(studio, edit(video, home / "ids.png", dry_run=True))
    assert image.histogram()[255] == 800


async def test_a_mask_video_is_taken_as_it_is(studio: Studio, video: Path, home: Path) -> None:
    black_and_white = clip(home / "mask.mp4", black_until=0)
    result = await done(studio, edit(video, black_and_white, dry_run=True))
    assert result.planned_input is not None


NO_SENSE = {
    "another shape": "another shape",
    "empty": "empty",
    "full": "full",
    "a photo": "photo",
    "empty video": "empty",
    "full video": "full",
    "wide video": "another shape",
    "tiny video": "another shape",
    "a film": "film",
    "white only after what is edited": "empty",
}


@pytest.mark.parametrize("kind", NO_SENSE)
async def test_a_mask_that_makes_no_sense_is_refused_before_anything_is_sent(
    studio: Studio, provider: Any, video: Path, photo: Path, home: Path, kind: str
) -> None:
    given = {
        "another shape": lambda: mask(home / "m.png", (HEIGHT, WIDTH)),
        "empty": lambda: mask(home / "m.png", box=(-9, -9, -5, -5)),
        "full": lambda: mask(home / "m.png", box=(0, 0, WIDTH, HEIGHT)),
        "a photo": lambda: photo,
        "empty video": lambda: clip(home / "m.mp4", level=0),
        "full video": lambda: clip(home / "m.mp4", level=255),
        "wide video": lambda: clip(home / "m.mp4", (320, 96), black_until=0),
        "tiny video": lambda: clip(home / "m.mp4", (16, 16), black_until=0),
        "a film": lambda: clip(home / "m.mp4"),
        "white only after what is edited": lambda: clip(home / "m.mp4", frames=90, black_until=85),
    }[kind]()
    error = await refused(studio, edit(video, given))
    assert NO_SENSE[kind] in error.message
    assert provider.asked == []


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        ({"frame_num": 80}, "multiple of 4 plus 1"),
        ({"size": "100*100"}, "size"),
        ({"speed_mode": "warp"}, "speed_mode"),
        ({"sample_steps": 0}, "sample_steps"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"reference_images": ["a.png"] * 4}, "at most 3"),
    ],
)
async def test_a_value_that_the_model_does_not_take_is_refused(
    studio: Studio, provider: Any, video: Path, home: Path, more: dict[str, Any], reported: str
) -> None:
    assert reported in (await refused(studio, edit(video, mask(home / "m.png"), **more))).message
    assert provider.asked == []


async def test_clips_that_last_too_long_together_are_refused(studio: Studio, provider: Any, home: Path) -> None:
    long = str(clip(home / "long.mp4", (32, 32), frames=8 * RATE))
    asked = parse_arguments(GenerateVideo, {"prompt": "a", "reference_videos": [long, long]})
    assert "16.0 s together" in (await refused(studio, asked)).message
    assert provider.asked == []


@pytest.mark.parametrize("argument", ["reference_videos", "reference_audios"])
async def test_a_picture_in_place_of_a_clip_is_refused(studio: Studio, photo: Path, argument: str) -> None:
    asked = {"prompt": "a", "reference_images": [str(photo)], argument: [str(photo)]}
    error = await refused(studio, parse_arguments(GenerateVideo, asked))
    assert error.code in ("not_media", "unsupported")


async def test_a_playlist_under_a_videos_name_is_refused(studio: Studio, video: Path, home: Path) -> None:
    (home / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttps://example.com/a.ts\n", encoding="utf-8")
    assert (await refused(studio, edit(home / "list.mp4", mask(home / "m.png")))).code in ("not_media", "unsupported")


async def test_a_file_larger_than_the_provider_takes_is_refused(
    settings: Settings, provider: Any, opened: StudioOpener, video: Path, home: Path
) -> None:
    shipped = (Path(__file__).parents[2] / "manifests" / "providers.toml").read_text(encoding="utf-8")
    (settings.home / "models").mkdir(parents=True)
    own = shipped.replace("upload_bytes = 100_000_000", "upload_bytes = 100")
    (settings.home / "models" / "providers.toml").write_text(own, encoding="utf-8")
    async with opened(settings, provider) as studio:
        error = await refused(studio, edit(video, mask(home / "m.png")))
    assert error.code == "too_large"
    assert "Replicate" in error.message
    assert provider.asked == []


@pytest.fixture
def large(home: Path) -> str:
    """A picture that is too large to travel inside a request."""
    noise = np.random.default_rng(1).integers(0, 255, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(home / "large.png")
    return str(home / "large.png")


async def test_a_gateway_takes_no_uploads_and_large_files_are_refused(
    studio: Studio, provider: Any, video: Path, home: Path, large: str
) -> None:
    asked = edit(video, mask(home / "m.png"), model="prunaai/vace-14b@gateway", reference_images=[large])
    error = await refused(studio, asked)
    assert error.code == "too_large"
    assert "https URL" in error.hint
    assert provider.asked == []


async def test_the_cheapest_route_that_takes_the_files_is_chosen(
    opened: StudioOpener, settings: Settings, provider: Any, video: Path, home: Path, large: str
) -> None:
    write_price(settings, "prunaai/vace-14b@gateway", "run", 0.01)
    given, model = mask(home / "m.png"), "prunaai/vace-14b"
    async with opened(settings, provider) as studio:
        small = await done(studio, edit(video, given, model=model, dry_run=True))
        grown = await done(studio, edit(video, given, model=model, dry_run=True, reference_images=[large]))
    assert (small.provider, grown.provider) == ("gateway", "replicate")


async def test_a_video_that_cannot_be_opened_is_kept_and_listed(studio: Studio, provider: Any) -> None:
    provider.files["/out.mp4"] = provider.files["/out.mp4"][:3000]
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.status == "failed"
    assert len(result.files) == 1


async def test_what_is_expected_is_learned_from_runs_of_the_same_size(studio: Studio, provider: Any) -> None:
    first = await done(studio, GenerateVideo(prompt="a", duration=5))
    assert first.expected_seconds == 6.0
    again = await done(studio, GenerateVideo(prompt="b", duration=5))
    assert again.expected_seconds is not None
    assert again.expected_seconds < 2
    other = await done(studio, GenerateVideo(prompt="b", duration=6))
    assert other.expected_seconds == 6.0


async def test_a_mask_is_checked_also_when_the_video_is_only_an_address(
    home: Path, tmp_path: Path, opened: StudioOpener, photo: Path
) -> None:
    """A gateway takes no uploads: there the video is always an address."""
    ids = Image.new("P", (WIDTH, HEIGHT), 0)
    ids.putpalette([0, 0, 0, 128, 0, 0])
    ImageDraw.Draw(ids).rectangle((10, 10, 29, 29), fill=1)
    ids.save(home / "ids.png")
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "r8_none_of_yours"}
    film = Path("https://films.example/a.mp4")
    async with opened(read_settings(environ), None) as studio:
        for wrong in (photo, mask(home / "empty.png", box=(-9, -9, -5, -5))):
            asked = edit(video=film, given_mask=wrong).model_copy(update={"video": "https://films.example/a.mp4"})
            await refused(studio, asked)
        asked = edit(film, home / "ids.png", dry_run=True).model_copy(update={"video": "https://films.example/a.mp4"})
        image, result = await kept_mask(studio, asked)
    assert image.histogram()[255] == 400
    assert any("not checked: video" in warning for warning in result.warnings)


@pytest.mark.parametrize("output", [["https://sandbox.invalid/out.mp4"], "https://sandbox.invalid/out.mp4"])
async def test_a_result_that_is_wrapped_in_a_list_is_a_result(studio: Studio, provider: Any, output: Any) -> None:
    provider.states = [{"status": "succeeded", "output": output}]
    assert (await done(studio, GenerateVideo(prompt="a"))).status == "succeeded"


async def test_an_output_that_is_not_understood_fails_with_the_addresses_in_it(studio: Studio, provider: Any) -> None:
    provider.states = [{"status": "succeeded", "output": {"clip": {"link": "https://elsewhere.example/out.mp4"}}}]
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.error is not None
    assert "https://elsewhere.example/out.mp4" in result.error.hint


@pytest.mark.parametrize(
    "output",
    [
        {"video": "https://sandbox.invalid/out.mp4"},
        [["https://sandbox.invalid/out.mp4"]],
        {"clip": {"link": "https://sandbox.invalid/out.mp4"}},
        ["https://sandbox.invalid/out.mp4", "https://sandbox.invalid/second.mp4"],
    ],
)
async def test_a_result_in_another_wrapping_is_a_result_with_a_warning(
    studio: Studio, provider: Any, output: Any
) -> None:
    provider.states = [{"status": "succeeded", "output": output}]
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.status == "succeeded"
    assert result.video is not None
    assert any("another form" in warning or "second.mp4" in warning for warning in result.warnings)


@pytest.mark.parametrize("address", ["http://sandbox.example/out.mp4", "https://nowhere.example/out.mp4"])
async def test_a_result_at_an_address_that_is_not_connected_to_fails_with_that_address(
    studio: Studio, provider: Any, address: str
) -> None:
    provider.states = [{"status": "succeeded", "output": address}]
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.error is not None
    assert address in result.error.hint


async def test_a_disk_that_fills_up_during_a_download_is_waited_out(
    studio: Studio, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening: Any = anyio.open_file
    failures = [1, 2, 3, 4]

    async def open_file(file: Any, mode: str = "r", *more: Any) -> Any:
        if mode == "wb" and failures:
            failures.pop()
            raise OSError(28, "No space left on device")
        return await opening(file, mode, *more)

    monkeypatch.setattr("rotoscope.providers.http.client.anyio.open_file", open_file)
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.status == "succeeded", result.error
    assert provider.posts == 1


async def test_a_picture_in_place_of_a_video_is_the_models_fault_and_is_kept(
    studio: Studio, provider: Any, photo: Path
) -> None:
    provider.files["/out.mp4"] = photo.read_bytes()
    result = await done(studio, GenerateVideo(prompt="a"))
    assert result.error is not None
    assert "charged" in result.error.hint
    assert len(result.files) == 1


@pytest.mark.parametrize("name", ["masks/abc", "masks/-1", "masks/²", "masks/7", "nonsense", "../x"])
async def test_an_output_that_a_job_does_not_have_is_not_replaced_by_another(
    studio: Studio, provider: Any, home: Path, video: Path, name: str
) -> None:
    provider.files["/out.png"] = mask(home / "seg.png").read_bytes()
    provider.states = [{"status": "succeeded", "output": {"img": "https://sandbox.invalid/out.png", "response": "x"}}]
    Image.new("RGB", (WIDTH, HEIGHT), (90, 80, 70)).save(home / "still.png")
    made = await studio.perform(
        "segment_image",
        SegmentImage(image=str(home / "still.png"), instruction="it", model="bytedance/sa2va-4b-image"),
        "local",
        20,
    )
    assert isinstance(made, JobResult)
    with pytest.raises(RotoscopeError) as caught:
        await studio.perform("edit_video_with_mask", edit(video, f"job://{made.job_id}/{name}"), "local", 60)
    assert caught.value.code == "unknown_resource"


async def test_sounds_that_are_padded_by_their_codec_may_fill_the_limit(
    studio: Studio, home: Path, photo: Path
) -> None:
    sounds = []
    for number in range(3):
        with wave.open(str(home / f"{number}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(b"\x00\x01" * (8000 * 5 + 200))
        sounds.append(str(home / f"{number}.wav"))
    asked = {"prompt": "a", "reference_images": [str(photo)], "reference_audios": sounds, "dry_run": True}
    assert (await done(studio, parse_arguments(GenerateVideo, asked))).planned_input is not None


async def test_a_cancel_takes_effect_while_files_are_uploaded(
    studio: Studio, provider: Any, video: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploading = anyio.Event()

    async def forever(*_: Any) -> str:
        uploading.set()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr("rotoscope.jobs.stages.prepare._upload_or_embed", forever)
    job = await begun(studio, edit(video, mask(home / "m.png")))
    with anyio.fail_after(180):
        await uploading.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 60)
    assert job.state == "cancelled"
    assert provider.posts == 0


async def test_a_run_that_its_provider_cannot_stop_goes_on_and_its_result_is_kept(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    answer, finished = provider.answer, list(provider.states)
    provider.states = [{"status": "processing"}]

    async def below_its_path(method: str, path: str, body: bytes) -> Any:
        return await answer(method, path.removeprefix("/replicate"), body)

    provider.respond = below_its_path
    asked = edit(video, mask(home / "m.png"), model="prunaai/vace-14b@gateway")
    job = await begun(studio, asked)
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        job = await studio.cancel(job.id, "local")
        while job.uncancellable_at is None:
            job = await studio.job(job.id, "local")
        assert "cannot stop a run" in (await studio.result(job)).warnings[-1]
        provider.states = finished
        job = await studio.wait(job, 60)
    assert job.state == "succeeded"
    assert not [one for one in provider.asked if one.endswith("/cancel")]


@pytest.mark.parametrize(("usd", "asked", "estimate"), [(9.0, {}, 18.5625), (9.0, {"frame_num": 5}, 2.8125)])
async def test_an_edit_that_is_priced_by_the_second_is_held_against_the_caps(
    opened: StudioOpener, settings: Settings, provider: Any, video: Path, home: Path, usd: float, asked: dict[str, Any],
    estimate: float,
) -> None:  # fmt: skip
    """It has no duration: its seconds are its frames at the model's own rate, 33 of them or as many as asked for."""
    write_price(settings, "prunaai/vace-14b@replicate", "output_second", usd)
    async with opened(settings, provider) as studio:
        shown = await done(studio, edit(video, mask(home / "mask.png"), **asked, dry_run=True))
        assert shown.cost.estimate_usd == estimate
        if estimate > 5:
            with pytest.raises(OverBudget):
                await done(studio, edit(video, mask(home / "mask.png"), **asked))
        else:
            assert (await done(studio, edit(video, mask(home / "mask.png"), **asked))).status == "succeeded"
    assert provider.posts == (0 if estimate > 5 else 1)


async def test_an_edit_is_the_same_by_links_and_with_what_follows_the_video_named(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    provider.hold = anyio.Event()
    given = mask(home / "mask.png")
    shown = (await done(studio, edit(video, given, dry_run=True))).planned_input
    assert shown is not None
    links = {"video": str(shown["src_video"]), "mask": str(shown["src_mask"])}
    assert all(link.startswith("artifact://") for link in links.values())
    defaults: dict[str, Any] = {"sample_steps": 50, "sample_solver": "unipc", "speed_mode": "consistent"}
    asked = [
        edit(video, given),
        edit(links["video"], given),
        edit(links["video"], links["mask"], size=shown.get("size", "832*480"), frame_num=shown["frame_num"]),
        edit(video, given, **defaults, reference_images=[], prompt=" an empty room"),
        edit(video, given, size="832x480"),
    ]
    openings = [await studio.start(await studio.plan("edit_video_with_mask", one, "local")) for one in asked]
    jobs = {opening.job.id for opening in openings if isinstance(opening, OpenResult)}
    assert (len(jobs), len(openings)) == (1, 5)
    provider.hold.set()


def drawn(path: Path, mode: str = "L", **saved: Any) -> Image.Image:
    """A square on ground, 1600 of 15360 pixels, in one of the modes; to be changed and saved."""
    image = Image.new("L", (WIDTH, HEIGHT), 0)
    ImageDraw.Draw(image).rectangle((20, 20, 59, 59), fill=255)
    return image.convert(mode)


SQUARE = round(1600 / (WIDTH * HEIGHT), 6)


async def shares(studio: Studio, video: Path, given: Path) -> tuple[float, list[str]]:
    """What an edit says that its mask selects, once the picture that would be sent was found to be the same."""
    image, result = await kept_mask(studio, edit(video, given, dry_run=True))
    assert result.mask_selects is not None
    assert result.mask_selects.frames is None
    assert image.histogram()[255] / (WIDTH * HEIGHT) == pytest.approx(result.mask_selects.most, abs=1e-6)
    return result.mask_selects.most, result.warnings


async def test_a_mask_is_read_by_its_colours_through_the_whole_way(studio: Studio, video: Path, home: Path) -> None:
    numbered = np.where(np.asarray(drawn(home)) > 0, 0, 1).astype(np.uint8)
    red = Image.fromarray(numbered)
    red.putpalette([255, 0, 0, 0, 0, 0])
    deep = Image.fromarray((1 - numbered).astype(np.uint16) * np.uint16(256))
    hidden = red.copy()
    hidden.putpalette([255, 0, 0, 255, 255, 255])
    hidden.info["transparency"] = 1
    for name, image in (("red", red), ("deep", deep), ("hidden", hidden)):
        image.save(home / f"{name}.png")
        most, warnings = await shares(studio, video, home / f"{name}.png")
        assert most == SQUARE, name
        assert not any("ground" in warning for warning in warnings), name


async def test_a_mask_that_selects_the_background_is_warned_of(studio: Studio, video: Path, home: Path) -> None:
    Image.eval(drawn(home), lambda value: 255 - value).save(home / "m.png")
    most, warnings = await shares(studio, video, home / "m.png")
    assert most == pytest.approx(1 - SQUARE, abs=1e-5)
    (reported,) = [warning for warning in warnings if "ground" in warning]
    assert "89.6%" in reported
    assert "four borders" in reported
    assert "invert" in reported


async def test_a_mask_taken_from_transparency_is_reported_with_its_side_and_share(
    studio: Studio, video: Path, home: Path
) -> None:
    cut_out = Image.effect_noise((WIDTH, HEIGHT), 90).convert("RGBA")
    cut_out.putalpha(drawn(home))
    cut_out.save(home / "m.png")
    most, warnings = await shares(studio, video, home / "m.png")
    assert most == SQUARE
    assert any("opaque part is selected" in warning and "10.4% of the frame" in warning for warning in warnings)


async def test_a_mask_whose_white_is_transparent_is_refused_by_name(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    erased = drawn(home, "RGBA")
    erased.putalpha(Image.eval(drawn(home), lambda value: 255 - value))
    erased.save(home / "m.png")
    error = await refused(studio, edit(video, home / "m.png"))
    assert "colours and its transparency" in error.message
    assert provider.asked == []


async def test_a_mask_film_reports_the_least_and_the_most_of_the_frames_that_are_used(
    studio: Studio, video: Path, home: Path
) -> None:
    longer = clip(home / "mask.mp4", frames=FRAMES + 20, black_until=5)
    result = await done(studio, edit(video, longer, dry_run=True))
    assert result.mask_selects is not None
    assert result.mask_selects.least < 0.01
    assert 0.1 < result.mask_selects.most < 0.6
    assert result.mask_selects.frames == FRAMES


async def test_a_finished_edit_reports_how_much_its_mask_selects(
    studio: Studio, provider: Any, video: Path, home: Path
) -> None:
    drawn(home).save(home / "m.png")
    result = await done(studio, edit(video, home / "m.png"))
    assert result.status == "succeeded", result.error
    assert result.mask_selects is not None
    assert result.mask_selects.most == SQUARE


async def test_what_a_mask_selects_is_unknown_where_it_was_not_read(
    home: Path, tmp_path: Path, opened: StudioOpener
) -> None:
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "r8_none_of_yours"}
    async with opened(read_settings(environ), None) as studio:
        asked = edit("https://films.example/a.mp4", "https://films.example/m.mp4", dry_run=True)
        result = await done(studio, asked)
    assert result.mask_selects is None
    assert any("not known" in warning and "mask selects" in warning for warning in result.warnings)
