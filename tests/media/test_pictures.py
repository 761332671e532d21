"""Decoding pictures: limits first, upright, and nothing but pixels."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from rotoscope.errors import InvalidInput, TooLarge, UserMistake
from rotoscope.media.image.pictures import PictureLimits, clean_picture, decode_upright, read_picture_size

_SECRET = b"AWS_SECRET_MARKER_0123456789"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _bare_png(width: int, height: int, depth: int = 8, colour: int = 2, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _photo(width: int = 40, height: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 8, columns * 6, rows + columns], axis=2).astype(np.uint8))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = _SECRET.decode()
    return exif


def _empty_gif() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b"," + bytes(9) + b"\2\0;"


def _webp_of(width: int, height: int) -> bytes:
    data = bytearray(_encoded(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack("<I", data[at : at + 4])
    data[at : at + 4] = struct.pack("<I", bits >> 28 << 28 | height - 1 << 14 | width - 1)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_accepted_format_is_decoded(kind: str) -> None:
    data = _encoded(_photo(), kind)
    assert read_picture_size(data) == (40, 30)
    assert decode_upright(data).size == (40, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_is_made_upright_as_pillow_does(kind: str, orientation: int) -> None:
    data = _encoded(_photo(), kind, exif=_exif(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    upright = decode_upright(data)
    assert read_picture_size(data) == upright.size == expected.size
    assert np.array_equal(np.asarray(upright), np.asarray(expected.convert(upright.mode)))


def test_orientation_is_applied_once() -> None:
    cleaned = clean_picture(_encoded(_photo(), "JPEG", exif=_exif(6)))
    assert (cleaned.width, cleaned.height) == (30, 40)
    assert decode_upright(cleaned.content).size == (30, 40)
    assert not Image.open(io.BytesIO(cleaned.content)).getexif()


def test_an_orientation_that_stands_after_the_pixels_is_found_before_they_are_shown() -> None:
    data = _encoded(_photo(), "PNG")
    exif = _exif(8).tobytes().removeprefix(b"Exif\0\0")
    late = data.replace(_chunk(b"IEND", b""), _chunk(b"eXIf", exif) + _chunk(b"IEND", b""))
    assert read_picture_size(late) == decode_upright(late).size == (30, 40)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_a_photo_with_broken_exif_is_taken_as_stored(kind: str, exif: bytes) -> None:
    data = _encoded(_photo(), kind, exif=exif)
    assert read_picture_size(data) == decode_upright(data).size == (40, 30)


@pytest.mark.parametrize("value", [0, 9, 300])
def test_an_orientation_that_does_not_exist_is_ignored(value: int) -> None:
    assert read_picture_size(_encoded(_photo(), "JPEG", exif=_exif(value))) == (40, 30)


def test_a_cleaned_png_has_nothing_but_pixels() -> None:
    notes = PngInfo()
    notes.add_text("Comment", _SECRET.decode())
    notes.add_itxt("XML:com.adobe.xmp", _SECRET.decode())
    data = _encoded(_photo(), "PNG", pnginfo=notes, exif=_exif(1), icc_profile=_SECRET, dpi=(72, 72)) + _SECRET * 3
    assert data.count(_SECRET) >= 5
    cleaned = clean_picture(data)
    assert cleaned.content_type == "image/png"
    assert _SECRET not in cleaned.content
    assert {name for name in (b"tEXt", b"iTXt", b"eXIf", b"iCCP", b"pHYs") if name in cleaned.content} == set()
    assert np.array_equal(np.asarray(decode_upright(cleaned.content)), np.asarray(_photo()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_a_cleaned_picture_of_another_format_has_nothing_but_pixels(kind: str) -> None:
    options = {} if kind == "GIF" else {"exif": _exif(1), "icc_profile": _SECRET, "xmp": _SECRET}
    data = _encoded(_photo(), kind, comment=_SECRET, **options) + _SECRET
    assert data.count(_SECRET) >= 2
    cleaned = clean_picture(data)
    assert _SECRET not in cleaned.content
    assert cleaned.content_type == ("image/png" if kind == "GIF" else "image/jpeg")
    assert (cleaned.width, cleaned.height) == (40, 30)


def _grain(width: int, height: int) -> Image.Image:
    """Something like a photo: soft shapes, edges and grain."""
    chance = np.random.default_rng(5)
    soft = Image.fromarray(chance.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(soft) + chance.normal(0, 3, (height, width, 1))
    pixels[height // 4 : height // 2, width // 4 : width // 2] = (200, 30, 40)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _difference(one: Image.Image, other: Image.Image) -> float:
    first, second = (np.asarray(image.convert("RGB")).astype(int) for image in (one, other))
    return float(np.abs(first - second).mean())


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 75, 90, 98])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_a_jpeg_neither_grows_nor_loses(quality: int, sampling: int, orientation: int) -> None:
    options = {"quality": quality, "subsampling": sampling, "optimize": True, "exif": _exif(orientation)}
    data = _encoded(_grain(320, 256), "JPEG", **options)
    cleaned = clean_picture(data)
    assert cleaned.content_type == "image/jpeg"
    # Half the colours along one side cannot be written for the other side, so a picture laid on its side gets all.
    assert len(cleaned.content) < (1.5 if sampling == 1 and orientation in (6, 8) else 1.05) * len(data)
    assert _difference(decode_upright(cleaned.content), decode_upright(data)) < 1.3


def test_a_progressive_jpeg_or_one_whose_blocks_move_does_not_grow_or_lose_much() -> None:
    progressive = _encoded(_grain(320, 256), "JPEG", quality=85, progressive=True)
    odd = _encoded(_grain(317, 251), "JPEG", quality=85, exif=_exif(6))
    for data in (progressive, odd):
        cleaned = clean_picture(data)
        assert len(cleaned.content) < 1.6 * len(data)
        assert _difference(decode_upright(cleaned.content), decode_upright(data)) < 1.6


@pytest.mark.parametrize("size", [(320, 256), (1, 1), (7, 200), (33, 17)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_keeps_its_size_and_every_value(mode: str, size: tuple[int, int]) -> None:
    image = _grain(*size).quantize(200) if mode == "P" else _grain(*size).convert(mode)
    data = _encoded(image, "PNG", optimize=True)
    cleaned = clean_picture(data)
    assert cleaned.content_type == "image/png"
    assert len(cleaned.content) <= len(data)
    assert np.array_equal(np.asarray(decode_upright(cleaned.content)), np.asarray(image))


def test_data_hidden_among_the_pixels_of_a_png_is_removed() -> None:
    image = _grain(16, 16)
    rows = b"".join(b"\0" + bytes(row) for row in np.asarray(image))
    behind = _bare_png(16, 16, pixels=rows + _SECRET)
    end = _chunk(b"IEND", b"")
    beside = _bare_png(16, 16, pixels=rows).replace(end, _chunk(b"IDAT", _SECRET) + end)
    palette = _encoded(_photo().quantize(7), "PNG")
    unused = palette.replace(end, _chunk(b"prVt", _SECRET) + end + _SECRET)
    for data in (behind, beside, unused):
        content = clean_picture(data).content
        assert _SECRET not in content
        assert np.array_equal(np.asarray(decode_upright(content)), np.asarray(decode_upright(data)))
        (body,) = re.findall(rb"(?s)IDAT(.*)....IEND", content)
        assert _SECRET not in zlib.decompressobj().decompress(body)


def test_a_png_with_a_filter_that_does_not_exist_or_a_wrong_checksum_is_refused() -> None:
    rows = bytes(16 * 49)
    wrong = _bare_png(16, 16, pixels=b"\7" + rows[1:])
    pressed = bytearray(zlib.compress(rows))
    pressed[-1] ^= 1
    for data in (wrong, _bare_png(16, 16, pixels=rows[:-1])):
        with pytest.raises(InvalidInput):
            clean_picture(data)


def test_a_webp_with_loss_becomes_a_jpeg_and_no_large_png() -> None:
    photo = _grain(640, 480)
    data = _encoded(photo, "WEBP", quality=90)
    cleaned = clean_picture(data)
    assert cleaned.content_type == "image/jpeg"
    assert len(cleaned.content) < len(_encoded(photo, "JPEG", quality=95, subsampling=0))
    assert _difference(decode_upright(cleaned.content), decode_upright(data)) < 2.5


def test_a_webp_that_is_transparent_exact_or_flat_keeps_what_it_has() -> None:
    clear = _grain(64, 48)
    clear.putalpha(Image.linear_gradient("L").resize((64, 48)))
    soft = clean_picture(_encoded(clear, "WEBP", quality=90))
    assert soft.content_type == "image/webp"
    assert np.array_equal(np.asarray(decode_upright(soft.content).getchannel("A")), np.asarray(clear.getchannel("A")))
    exact = clean_picture(_encoded(clear, "WEBP", lossless=True, exact=True))
    assert exact.content_type == "image/png"
    assert np.array_equal(np.asarray(decode_upright(exact.content)), np.asarray(clear))
    opaque = clean_picture(_encoded(_grain(64, 48).convert("RGBA"), "WEBP", quality=90))
    assert opaque.content_type == "image/jpeg"
    flat = clean_picture(_encoded(Image.new("RGB", (64, 48), (255, 255, 255)), "WEBP", quality=90))
    assert flat.content_type == "image/png"


def test_a_grey_jpeg_stays_grey_and_a_cmyk_one_becomes_rgb() -> None:
    assert decode_upright(clean_picture(_encoded(_photo().convert("L"), "JPEG")).content).mode == "L"
    assert decode_upright(clean_picture(_encoded(_photo().convert("CMYK"), "JPEG")).content).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_keeps_its_mode_and_its_values(mode: str) -> None:
    image = _photo().convert(mode) if mode != "P" else _photo().quantize(7)
    again = decode_upright(clean_picture(_encoded(image, "PNG")).content)
    assert again.mode == mode
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_the_transparent_colour_of_a_palette_is_kept() -> None:
    data = _encoded(_photo().quantize(7), "PNG", transparency=3)
    assert decode_upright(clean_picture(data).content).info == {"transparency": 3}


def test_sixteen_bit_grey_is_scaled_but_small_ids_are_kept() -> None:
    grey = _encoded(Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16)), "PNG")
    assert np.asarray(decode_upright(grey)).tolist() == [[0, 1, 255]]
    ids = _encoded(Image.fromarray(np.array([[0, 1, 4]], dtype=np.uint16)), "PNG")
    assert np.asarray(decode_upright(ids)).tolist() == [[0, 1, 4]]


def test_of_an_animation_only_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = _encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert decode_upright(data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "sides"),
    [
        (_bare_png(20000, 10000), "20000 x 10000"),
        (_bare_png(32000, 32000, depth=1, colour=0, pixels=bytes(32000 * 4001)), "32000 x 32000"),
        (_bare_png(9000, 9000), "9000 x 9000"),
        (_bare_png(10001, 100), "10001 x 100"),
        (_encoded(_photo(), "JPEG").replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 60000, 60000)), "60000 x"),
        (b"GIF89a" + struct.pack("<HHBBB", 65000, 65000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2", "65000 x 65000"),
        (_webp_of(9000, 9000), "9000 x 9000"),
    ],
)
def test_a_bomb_is_refused_by_its_header(data: bytes, sides: str) -> None:
    for read in (read_picture_size, decode_upright, clean_picture):
        with pytest.raises(TooLarge) as refusal:
            read(data)
        assert refusal.value.code == "too_large"
        assert sides in refusal.value.message
        assert refusal.value.hint


def test_a_webp_bomb_is_refused_before_its_canvas_is_made() -> None:
    with pytest.raises(TooLarge, match="at most 64 are read"):
        decode_upright(_webp_of(16383, 16383))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animated_picture_the_first_frame_is_used_with_a_note(kind: str) -> None:
    frames = [Image.new("L", (300, 200), 3 * n) for n in range(60)]
    data = _encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    cleaned = clean_picture(data, PictureLimits(megapixels=1))
    assert cleaned.notes == (
        f"The picture moves (it is a {kind} of several pictures); only its first picture is used.",
    )
    assert decode_upright(cleaned.content).convert("L").getextrema() == (0, 0)
    assert clean_picture(cleaned.content).notes == clean_picture(_encoded(frames[0], kind)).notes == ()


def test_a_compressed_text_bomb_is_not_decoded() -> None:
    bomb = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))
    data = _encoded(_photo(), "PNG")
    with pytest.raises(InvalidInput) as refusal:
        decode_upright(data[:33] + bomb + data[33:])
    assert refusal.value.code == "corrupt"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused(kind: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = _encoded(noise, kind)
    with pytest.raises(InvalidInput) as refusal:
        decode_upright(data[: int(len(data) * part)])
    assert refusal.value.code == "corrupt"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_media"),
        (b"just some text", "not_media"),
        (b"%PDF-1.7 picture.png", "not_media"),
        (b"\x7fELF", "not_media"),
        (b"#EXTM3U\nhttp://127.0.0.1/", "not_media"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (_encoded(_photo(), "TIFF"), "unsupported"),
        (_encoded(_photo(), "BMP"), "unsupported"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "unsupported"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 200, "corrupt"),
        (_bare_png(0, 10), "corrupt"),
        (_empty_gif(), "corrupt"),
    ],
)
def test_a_file_that_is_no_accepted_picture_is_refused_with_its_code(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        clean_picture(data)
    assert refusal.value.code == code
    assert refusal.value.hint
    assert len(refusal.value.message) < 120


_SAMPLES = [
    _encoded(_photo(), kind, **extra)
    for kind, extra in [("PNG", {"exif": _exif(6)}), ("JPEG", {"exif": _exif(6)}), ("WEBP", {}), ("GIF", {})]
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_SAMPLES), st.lists(st.tuples(st.integers(8, 2000), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_broken_bytes_give_a_picture_or_an_error_of_the_error_tree(
    sample: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(sample)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        cleaned = clean_picture(bytes(data))
    except UserMistake as mistake:
        assert mistake.code in {"corrupt", "not_media", "unsupported", "too_large"}  # noqa: PT017 - either outcome is right
    else:
        assert (cleaned.width, cleaned.height) == read_picture_size(cleaned.content)
