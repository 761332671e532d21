"""The intake: equal content becomes one file, however it is given and however often."""

import base64
import io
import os
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from decoding import InThread
from PIL import Image
from vaults import stored_path

from rotoscope.errors import InvalidInput, UserMistake
from rotoscope.media.intake import AdmittedMedia, FilePreparer, Intake
from rotoscope.media.job_files import JobFile
from rotoscope.media.paths import Roots
from rotoscope.media.vault import FolderVault, Vault
from rotoscope.models.manifest import MediaKind
from rotoscope.providers.http.egress import check_url

pytestmark = pytest.mark.anyio
PHOTO = Path(__file__).parents[2] / "src" / "rotoscope" / "assets" / "astronaut.jpg"
Make = Callable[[Path], Path]


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    folders = (tmp_path / "home", tmp_path / "rotoscope")
    folders[0].mkdir()
    return intake_of(FolderVault(tmp_path / "rotoscope" / "vault"), Roots(folders, folders[0]), tmp_path)


def intake_of(vault: Vault, roots: Roots, tmp_path: Path) -> Intake:
    async def fetch(url: str, target: Path, limit: int) -> None:
        shutil.copyfile(tmp_path / "home" / url.rpartition("/")[2], target)

    async def job_output(link: str, _: str) -> JobFile:
        return JobFile("j", "mask", f"artifact://{link.rpartition('/')[2]}", "image")

    async def can_read(_: str, __: str) -> bool:
        return True

    return Intake(FilePreparer(vault, InThread()), roots, fetch, lambda url: check_url(url).url, job_output, can_read)


def jpeg(folder: Path) -> Path:
    """As a camera writes it: turned, with metadata, and something behind its end."""
    out, exif = folder / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    with Image.open(PHOTO) as image:
        image.resize((160, 120)).save(out, quality=80, exif=exif)
    out.write_bytes(out.read_bytes() + b"behind the end")
    return out


def picture(suffix: str, mode: str = "RGB") -> Make:
    def made(folder: Path) -> Path:
        with Image.open(PHOTO) as image:
            image.resize((90, 70)).convert(mode).save(folder / f"a{suffix}")
        return folder / f"a{suffix}"

    return made


def film(suffix: str, codec: str, sound: str | None = None) -> Make:
    def made(folder: Path) -> Path:
        with av.open(str(folder / f"a{suffix}"), "w") as container:
            pictures = container.add_stream(codec, rate=24)
            assert isinstance(pictures, av.VideoStream)
            pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
            track = container.add_stream(sound, rate=48_000) if sound else None
            for number in range(13):
                grey = np.full((64, 96, 3), 15 * number, np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(pictures.encode())
            if isinstance(track, av.AudioStream):
                hum = (np.sin(np.arange(24_000) / 20) * 9000).astype(np.int16)[None, :]
                frame = av.AudioFrame.from_ndarray(hum, format="s16", layout="mono")
                frame.sample_rate = 48_000
                container.mux(track.encode(frame))
                container.mux(track.encode())
        return folder / f"a{suffix}"

    return made


def wav(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes((np.sin(np.arange(16_000) / 9) * 9000).astype("<i2").tobytes())
    return folder / "a.wav"


def sound(suffix: str, codec: str) -> Make:
    def made(folder: Path) -> Path:
        with av.open(str(wav(folder))) as source, av.open(str(folder / f"a{suffix}"), "w") as target:
            track = target.add_stream(codec, rate=44_100)
            assert isinstance(track, av.AudioStream)
            for frame in source.decode(audio=0):
                target.mux(track.encode(frame))
            target.mux(track.encode())
        return folder / f"a{suffix}"

    return made


GIVEN: list[tuple[MediaKind, Make]] = [
    ("image", jpeg),
    ("still", jpeg),
    ("visual", jpeg),
    ("image", picture(".png")),
    ("image", picture(".webp")),
    ("image", picture(".gif", "P")),
    ("image", picture("1.png", "1")),
    ("image", picture("P.png", "P")),
    ("still", film(".mp4", "libx264")),
    ("video", film(".mp4", "libx264", "aac")),
    ("video", film(".mov", "libx264", "aac")),
    ("video", film(".webm", "libvpx")),
    ("visual", film(".mov", "libx264")),
    ("audio", wav),
    ("audio", sound(".m4a", "aac")),
    ("audio", sound(".mp3", "libmp3lame")),
]
NAMES = [f"{kind} {number}" for number, (kind, _) in enumerate(GIVEN)]


def ways(file: Path, vault: Vault, shown: str) -> dict[str, str]:
    """Every way to give a file, and to give what was made of it and shown in a result."""
    content, sha256 = file.read_bytes(), shown.removeprefix("artifact://")
    kept = stored_path(vault, sha256)
    copy = file.with_name(f"copy{kept.suffix}")
    copy.write_bytes(kept.read_bytes())
    return {
        "path": str(file),
        "relative": file.name,
        "blanks": f"  {file}\n",
        "round about": str(file.parent / "no" / ".." / file.name),
        "file URL": file.as_uri(),
        "data URI": f"data:application/x-anything;base64,{base64.b64encode(content).decode()}",
        "address": f"https://example.com/{file.name}",
        "artifact": shown,
        "job": f"job://j/masks/{sha256}",
        "path in the vault": str(kept),
        "copy out of the vault": str(copy),
        "data URI of what is kept": f"data:;base64,{base64.b64encode(kept.read_bytes()).decode()}",
    }


@pytest.mark.parametrize(("kind", "make"), GIVEN, ids=NAMES)
async def test_every_way_to_give_a_medium_gives_one_file_with_the_same_facts(
    intake: Intake, tmp_path: Path, kind: MediaKind, make: Make
) -> None:
    first = await intake.admit(kind, str(make(tmp_path / "home")), "image", "local", pass_urls=False)
    file = next(one for one in (tmp_path / "home").glob("a*") if not one.name.endswith(".wav") or make is wav)
    for way, text in ways(file, intake.vault, first.value).items():
        again = await intake.admit(kind, text, "image", "local", pass_urls=False)
        assert facts(again) == facts(first), way


def facts(found: AdmittedMedia) -> dict[str, Any]:
    """All but whether it was cut out of a video, or named by its job: that is of the way."""
    of_the_way = {"is_first_frame", "job_file"}
    return {name: getattr(found, name) for name in AdmittedMedia.__slots__ if name not in of_the_way}


async def test_a_jpeg_is_not_encoded_again_each_time_that_it_is_passed_on(intake: Intake, tmp_path: Path) -> None:
    """A chain of tools hands its picture on by link: at each step it would lose something."""
    link = str(jpeg(tmp_path / "home"))
    links = [link := (await intake.admit("image", link, "image", "local", pass_urls=False)).value for _ in range(4)]
    assert len(set(links)) == 1


async def test_a_file_from_a_provider_is_cleaned_once(intake: Intake, tmp_path: Path) -> None:
    raw = intake.vault.put_bytes(jpeg(tmp_path / "home").read_bytes(), "image/jpeg")
    cleaned = await intake.admit("image", raw.uri, "image", "local", pass_urls=False)
    kept = stored_path(intake.vault, cleaned.value)
    assert cleaned.value != raw.uri
    assert b"behind the end" not in kept.read_bytes()
    assert (await intake.admit("image", cleaned.value, "image", "local", pass_urls=False)).value == cleaned.value


@pytest.mark.parametrize("make", [film(".mp4", "libx264"), film(".mov", "libx264", "aac")], ids=["mp4", "mov"])
async def test_the_first_frame_of_a_video_is_the_same_by_the_link_of_the_video(
    intake: Intake, tmp_path: Path, make: Make
) -> None:
    file = str(make(tmp_path / "home"))
    link = (await intake.admit("video", file, "video", "local", pass_urls=False)).value
    frames = [await intake.admit("still", way, "image", "local", pass_urls=False) for way in (file, link)]
    assert frames[0] == frames[1]


async def test_a_stored_file_is_recognized_however_the_home_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden, outside of the roots, behind a link: what a result names can be given again."""
    user = tmp_path / "user"
    (user / "work").mkdir(parents=True)
    (user / ".local").symlink_to(tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.chdir(user / "work")
    given = picture(".png")(user / "work")
    for home in (user / ".local" / "rotoscope", tmp_path / "disk" / "rotoscope", user / "work" / ".." / ".local" / "r"):
        intake = intake_of(FolderVault(home / "vault"), Roots((user / "work",), user / "work"), tmp_path)
        shown = await intake.admit("image", str(given), "image", "local", pass_urls=False)
        kept = stored_path(intake.vault, shown.value)
        rest = kept.relative_to(home)
        name = home.name
        for path in (str(kept), f"~/.local/{name}/{rest}", f"../.local/{name}/{rest}", str(kept.resolve()),
                     kept.resolve().as_uri(), f"../../disk/{name}/{rest}"):  # fmt: skip
            assert (await intake.admit("image", path, "image", "local", pass_urls=False)).value == shown.value, path


@pytest.mark.parametrize("way", ["path", "data", "address", "artifact"])
async def test_a_medium_of_another_kind_is_refused_by_its_first_bytes_and_leaves_no_file(
    intake: Intake, tmp_path: Path, way: str
) -> None:
    content = b"P5\n320 240\n255\n" + bytes(76800)
    (tmp_path / "home" / "m.pgm").write_bytes(content)
    text = {
        "path": "m.pgm",
        "data": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "address": "https://example.com/m.pgm",
        "artifact": intake.vault.put_bytes(content, "application/octet-stream").uri,
    }[way]
    kinds: tuple[MediaKind, ...] = ("image", "still", "visual", "video", "audio")
    for kind in kinds:
        with pytest.raises(InvalidInput, match="PGM") as refusal:
            await intake.admit(kind, text, "mask", "local", pass_urls=False)
        assert refusal.value.code == "unsupported"
    assert not list((Path(intake.vault.location) / "scratch").iterdir())


async def test_a_file_that_is_too_large_is_refused_before_it_is_copied(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copyfileobj(*_: object) -> None:
        pytest.fail("it was copied before its first bytes and its size were judged")

    monkeypatch.setattr(shutil, "copyfileobj", copyfileobj)
    heads = {"film.mp4": b"\0\0\0\x20ftypisom\0\0\2\0", "text.png": b"hello", "p.png": b"\x89PNG\r\n\x1a\n"}
    for name, head in heads.items():
        with (tmp_path / "home" / name).open("wb") as file:
            file.write(head)
            file.truncate(400_000_000)
        with pytest.raises(UserMistake):
            await intake.admit("image", name, "image", "local", pass_urls=False)


async def test_an_animated_picture_has_a_note(intake: Intake, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "home" / "a.gif", save_all=True, append_images=frames[1:])
    for kind in ("image", "visual"):
        admitted = await intake.admit(kind, "a.gif", "mask", "local", pass_urls=False)
        assert admitted.notes
        assert "only its first picture is used" in admitted.notes[0]


async def test_another_picture_is_another_file(intake: Intake, tmp_path: Path) -> None:
    file = jpeg(tmp_path / "home")
    first = await intake.admit("image", str(file), "image", "local", pass_urls=False)
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        image.rotate(180).save(file)
    assert (await intake.admit("image", str(file), "image", "local", pass_urls=False)).value != first.value


async def test_a_prepared_video_is_not_accepted_as_a_sound(intake: Intake, tmp_path: Path) -> None:
    given = str(film(".mp4", "libx264", "aac")(tmp_path / "home"))
    shown = await intake.admit("video", given, "v", "local", pass_urls=False)
    with pytest.raises(Exception, match="sound"):
        await intake.admit("audio", shown.value, "reference_audios", "local", pass_urls=False)
    with pytest.raises(Exception, match="video"):
        await intake.admit("image", shown.value, "image", "local", pass_urls=False)


async def test_a_file_that_is_used_again_is_renewed_and_a_removed_one_leaves_no_note(
    intake: Intake, tmp_path: Path
) -> None:
    shown = await intake.admit("image", str(jpeg(tmp_path / "home")), "image", "local", pass_urls=False)
    path = stored_path(intake.vault, shown.value)
    begun = path.stat().st_mtime
    os.utime(path, (begun - 1000, begun - 1000))
    await intake.admit("image", shown.value, "image", "local", pass_urls=False)
    assert path.stat().st_mtime >= begun
    assert intake.vault.delete(path.stem, before=begun + 10**6)
    assert [one for one in (Path(intake.vault.location) / "made").rglob("*") if one.is_file()] == []


@pytest.mark.parametrize(
    "text",
    [
        "HTTPS://Example.com/a.png",
        "https://example.com:443/a.png",
        "https://EXAMPLE.COM/a.png#top",
        " https://example.com/a.png\n",
    ],
)
async def test_a_url_that_the_provider_reads_itself_is_passed_on_normalized(intake: Intake, text: str) -> None:
    assert await intake.admit("image", text, "image", "local", pass_urls=True) == AdmittedMedia(
        "https://example.com/a.png"
    )
