"""Picture files: incomplete ones, with profiles, with more parts than any picture has, and large ones."""

import functools
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.image.pictures import PictureLimits, clean_picture, decode_upright, read_picture_size

PHOTO = Path(__file__).parents[2] / "src" / "rotoscope" / "assets" / "astronaut.jpg"
_LAID = Image.Exif()
_LAID[0x0112] = 6
_COLOURS = ((200, 120, 90), (40, 180, 60), (60, 90, 200), (250, 250, 250), (128, 128, 128))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


@functools.cache
def _photo(width: int = 200, height: int = 168) -> Image.Image:
    with Image.open(PHOTO) as image:
        return image.convert("RGB").resize((width, height))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _profile(primaries: tuple[tuple[float, float], ...], gamma: float = 2.2) -> bytes:
    """A profile of a screen with these primaries (x, y of red, green and blue) and the white of D65."""
    white = np.array([0.9504, 1.0, 1.0888])
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.array([[1.04788, 0.02292, -0.05022], [0.02959, 0.99048, -0.01707], [-0.00925, 0.01508, 0.75168]])
    red, green, blue = (adapt @ columns).T
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return _icc(b"RGB ", {
        b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue), b"wtpt": _xyz(np.array([0.9642, 1, 0.8249])),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    })  # fmt: skip


def _grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return _icc(b"GRAY", {b"kTRC": curve, b"wtpt": _xyz(np.array([0.9642, 1, 0.8249]))})


def _xyz(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2x\0" + bytes(79), **tags}
    table, bodies, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += name + struct.pack(">II", place, len(body))
        place, bodies = place + len(padded), bodies + padded
    header = struct.pack(">I4s4s4s4s4s12s4s", place, b"", b"\2\x40\0\0", b"mntr", space, b"XYZ ", bytes(12), b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


_P3 = _profile(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
_ADOBE = _profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)))
_WIDE = _profile(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), gamma=1.8)


def _flags(mode: str = "RGB") -> Image.Image:
    """Stripes of the colours, each 32 pixels wide."""
    image = Image.new("RGB", (32 * len(_COLOURS), 64))
    for number, colour in enumerate(_COLOURS):
        image.paste(colour, (32 * number, 0, 32 * number + 32, 64))
    return image.convert(mode)


def _in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture with the numbers that its colours have in a profile."""
    srgb = ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(
        image,
        srgb,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert found is not None
    found.info.clear()
    return found


def _seen(content: bytes) -> list[tuple[int, ...]]:
    image = decode_upright(content).convert("RGB")
    scale = image.width // len(_COLOURS)
    return [image.getpixel((scale * number + scale // 2, image.height // 2)) for number in range(len(_COLOURS))]  # type: ignore[misc]


def _far(seen: list[tuple[int, ...]], expected: tuple[tuple[int, ...], ...] = _COLOURS) -> int:
    return max(abs(a - b) for one, other in zip(seen, expected, strict=True) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("profile", [_P3, _ADOBE, _WIDE], ids=["P3", "Adobe", "wide"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colours_with_a_profile_become_the_same_colours_in_srgb(kind: str, profile: bytes) -> None:
    options = {"subsampling": 0} if kind == "JPEG" else {}
    data = _encoded(_in_profile(_flags(), profile), kind, quality=100, icc_profile=profile, **options)
    cleaned = clean_picture(data)
    assert _far(_seen(data)) > 12
    assert _far(_seen(cleaned.content)) <= 6
    assert b"ICC_PROFILE" not in cleaned.content
    assert _far(_seen(clean_picture(cleaned.content).content)) <= 6


def test_a_palette_keeps_its_numbers_and_a_transparent_picture_its_transparency() -> None:
    palette = _in_profile(_flags(), _ADOBE).quantize(16)
    cleaned = clean_picture(_encoded(palette, "PNG", icc_profile=_ADOBE, transparency=2))
    again = decode_upright(cleaned.content)
    assert _far(_seen(cleaned.content)) <= 6
    assert again.mode == "P"
    assert again.info == {"transparency": 2}
    assert np.array_equal(np.asarray(again), np.asarray(palette))
    clear = _in_profile(_flags(), _ADOBE)
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    cleaned = clean_picture(_encoded(clear, "PNG", icc_profile=_ADOBE))
    assert _far(_seen(cleaned.content)) <= 6
    assert np.array_equal(
        np.asarray(decode_upright(cleaned.content).getchannel("A")), np.asarray(clear.getchannel("A"))
    )


def test_a_grey_photo_is_turned_to_srgb_and_the_numbers_of_objects_are_not() -> None:
    profile = _grey_profile(1.0)
    photo = clean_picture(_encoded(_photo().convert("L"), "PNG", icc_profile=profile))
    linear = np.asarray(_photo().convert("L")).astype(float) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(decode_upright(photo.content)) - expected).max() <= 3
    ids = Image.fromarray(np.repeat(np.arange(9, dtype=np.uint8), 90).reshape(27, 30))
    for mode in ("L", "LA"):
        kept = clean_picture(_encoded(ids.convert(mode), "PNG", icc_profile=profile))
        assert np.array_equal(np.asarray(decode_upright(kept.content)), np.asarray(ids.convert(mode)))


def test_a_picture_in_srgb_is_left_as_it_is_whatever_its_profile_is_called() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = _encoded(_photo(), "PNG", icc_profile=srgb)
    assert clean_picture(data).content == clean_picture(_encoded(_photo(), "PNG")).content


_BAD = {
    "empty": b"", "short": b"\0" * 20, "noise": bytes(range(256)) * 9, "cut": _ADOBE[:300],
    "no tags": _icc(b"RGB ", {}),
    "for grey": _grey_profile(2.2), "for a press": _icc(b"CMYK", {}), "places beyond": _ADOBE[:128] + b"\xff" * 200,
    "large": _icc(b"RGB ", {b"junk": bytes(3_000_000)}), "a name": b"RGB " * 40,
}  # fmt: skip


@pytest.mark.parametrize("bad", _BAD)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_or_foreign_profile_fails_no_picture(kind: str, bad: str) -> None:
    data = _encoded(_photo(), kind, quality=95, icc_profile=_BAD[bad])
    plain = decode_upright(_encoded(_photo(), kind, quality=95))
    change = np.abs(
        np.asarray(decode_upright(clean_picture(data).content).convert("RGB")).astype(int) - np.asarray(plain)
    )
    assert change.mean() < 3


@pytest.mark.parametrize("body", [b"", b"x", b"x\0", b"x\0\0garbage", b"x\0\1" + zlib.compress(_ADOBE)[:-40]])
def test_a_png_whose_profile_cannot_be_unpacked_is_accepted(body: bytes) -> None:
    data = _encoded(_photo(), "PNG")
    for chunk in (_chunk(b"iCCP", body), _chunk(b"iCCP", body)[:-4] + b"bad!"):
        cleaned = clean_picture(data[:33] + chunk + data[33:])
        assert np.array_equal(np.asarray(decode_upright(cleaned.content)), np.asarray(_photo()))
        assert read_picture_size(data[:33] + chunk + data[33:]) == _photo().size


def test_a_cmyk_picture_is_accepted_with_and_without_a_usable_profile() -> None:
    for options in ({}, {"icc_profile": _icc(b"CMYK", {})}, {"icc_profile": _ADOBE}):
        cleaned = clean_picture(_encoded(_flags("CMYK"), "JPEG", quality=95, **options))
        assert cleaned.content_type == "image/jpeg"
        assert _far(_seen(cleaned.content)) <= 6


_JPEGS: dict[str, dict[str, Any]] = {
    "plain": {}, "every colour": {"subsampling": 0}, "progressive": {"progressive": True}, "best": {"quality": 98},
    "restarts": {"restart_marker_rows": 1}, "own codes": {"optimize": True},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", _JPEGS)
@pytest.mark.parametrize("rest", [b"", b"\xff"])
def test_a_jpeg_without_its_end_marker_is_read_when_every_pixel_is_there(mode: str, options: str, rest: bytes) -> None:
    data = _encoded(_photo().convert(mode), "JPEG", **_JPEGS[options])
    assert data.endswith(b"\xff\xd9")
    cut = data[:-2] + rest
    assert np.array_equal(np.asarray(decode_upright(cut)), np.asarray(decode_upright(data)))
    assert clean_picture(cut).content == clean_picture(data).content


@pytest.mark.parametrize("options", _JPEGS)
@pytest.mark.parametrize("missing", [4, 5, 20, 0.1, 0.5, 0.8])
def test_a_jpeg_that_lacks_pixels_is_refused(options: str, missing: float) -> None:
    data = _encoded(_photo(), "JPEG", **_JPEGS[options])
    cut = data[: -missing if isinstance(missing, int) else int(len(data) * (1 - missing))]
    for read in (decode_upright, clean_picture):
        with pytest.raises(InvalidInput) as refusal:
            read(cut)
        assert refusal.value.code == "corrupt"


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    data = _encoded(_photo(), "JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        table = data.rfind(b"\xff\xc4", 0, start)  # the codes of a scan stand before it
        with pytest.raises(InvalidInput):
            decode_upright(data[:table])


def test_what_cameras_put_into_a_jpeg_and_after_it_is_left_out() -> None:
    inner = _encoded(_photo(40, 30), "JPEG", progressive=True)
    data = _encoded(_photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" + inner)
    for more in (inner, b"SEFT" * 100, bytes(5000)):
        assert clean_picture(data + more).content == clean_picture(_encoded(_photo(), "JPEG")).content


def _scans(count: int) -> bytes:
    data = _encoded(Image.new("RGB", (4000, 4000), (9, 99, 200)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + b"\xff\xd9"


def _comments(count: int) -> bytes:
    data = _encoded(_photo(), "JPEG")
    return data[:2] + b"\xff\xfe\0\3x" * count + data[2:]


def _chunks(count: int) -> bytes:
    data = _encoded(_photo(), "PNG")
    return data[:33] + _chunk(b"prVt", b"") * count + data[33:]


def _comment_blocks(count: int) -> bytes:
    data = _encoded(_photo().quantize(9), "GIF")
    place = data.index(b",")
    return data[:place] + b"!\xfe" + b"\1x" * count + b"\0" + data[place:]


def _moves(count: int) -> bytes:
    data = _encoded(Image.new("P", (1, 1)), "GIF")
    place = data.index(b",")
    return data[:place] + data[place:-1] * count + b";"


def _frames(count: int) -> bytes:
    one = _encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(one)) + bytes(16) + one
    body = b"WEBPVP8X\x0a\0\0\0\2" + bytes(9) + b"ANIM\6\0\0\0" + bytes(6) + frame * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("make", "few", "many", "what"),
    [
        (_scans, 40, 100, "64 scans"),
        (_comments, 5000, 20_000, "10000 segments"),
        (_chunks, 50_000, 200_000, "100000 chunks"),
        (_comment_blocks, 100_000, 2_000_000, "1000000 blocks"),
        (_frames, 5000, 30_000, "20000 chunks"),
    ],
)
def test_a_file_of_more_parts_than_a_picture_has_is_refused_before_it_is_decoded(
    make: "functools.partial[bytes]", few: int, many: int, what: str
) -> None:
    assert clean_picture(make(few)).width
    for read in (read_picture_size, decode_upright, clean_picture):
        with pytest.raises(TooLarge, match=what) as refusal:
            read(make(many))
        assert refusal.value.hint


def test_a_gif_may_have_any_number_of_pictures() -> None:
    assert clean_picture(_moves(200_000)).notes


_HEAVY = {
    "a colour PNG": (_encoded(Image.new("RGBA", (8000, 8000)), "PNG"), 59),
    "a turned JPEG": (_encoded(Image.new("RGB", (6400, 6000)), "JPEG", exif=_LAID), 29),
    "a press JPEG": (_encoded(Image.new("CMYK", (6400, 6000)), "JPEG"), 29),
    "a progressive JPEG": (_encoded(Image.new("RGB", (6400, 6000)), "JPEG", progressive=True, subsampling=0), 23),
    "a WEBP": (_encoded(Image.new("RGB", (5200, 4800)), "WEBP", lossless=True), 24),
}  # fmt: skip


@pytest.mark.parametrize("name", _HEAVY)
def test_a_picture_that_takes_more_memory_than_one_may_is_refused_by_its_header(name: str) -> None:
    data, _ = _HEAVY[name]
    for read in (read_picture_size, decode_upright, clean_picture):
        with pytest.raises(TooLarge, match=r"MB of memory with its file, and at most \d+ MB"):
            read(data)


def test_a_webp_is_checked_before_its_decoder_allocates_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {
        "lossless": _encoded(Image.new("RGB", (40, 30)), "WEBP", lossless=True),
        "lossy": _encoded(Image.new("RGB", (40, 30)), "WEBP"),
        "extended": _encoded(Image.new("RGB", (40, 30)), "WEBP", icc_profile=_P3),
    }

    def refuse(*_: object) -> None:
        pytest.fail("the decoder was made")

    for data in pictures.values():
        assert read_picture_size(data) == (40, 30)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile._open", refuse)
    for data in pictures.values():
        with pytest.raises(TooLarge, match="40 x 30 pixels"):
            read_picture_size(data, PictureLimits(webp_memory=16))


_GROWTH = """
import re, sys
from pathlib import Path
from PIL import ImageCms
from rotoscope.media.image.pictures import clean_picture
def peak():  # of this process, not of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
clean_picture(Path(sys.argv[1]).read_bytes())
before = peak()
clean_picture(Path(sys.argv[2]).read_bytes())
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("kind", "mode", "size", "options"),
    [
        ("JPEG", "RGB", (7680, 7680), {}),
        ("JPEG", "RGB", (5376, 5376), {"exif": _LAID, "icc_profile": _P3}),
        ("JPEG", "CMYK", (5376, 5376), {}),
        ("JPEG", "RGB", (4800, 4800), {"progressive": True, "subsampling": 0}),
        ("PNG", "RGBA", (7680, 7680), {"icc_profile": _P3}),
        ("PNG", "RGBA", (7680, 7680), {}),
        ("WEBP", "RGB", (4600, 4600), {"lossless": True}),
        ("GIF", "P", (8000, 8000), {}),
    ],
)
def test_an_accepted_picture_takes_no_more_memory_than_the_limit(
    tmp_path: Path, kind: str, mode: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    (tmp_path / "small").write_bytes(_encoded(_photo(), kind, icc_profile=_P3))
    (tmp_path / "large").write_bytes(_encoded(Image.new(mode, size), kind, **options))
    command = [sys.executable, "-c", _GROWTH, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) * 1024 < 1e6 * PictureLimits().memory
