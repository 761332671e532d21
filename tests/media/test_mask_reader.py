"""The reader of masks, with every way in which masks are written."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from photos import as_jpeg, draw_photo
from PIL import Image, ImageDraw, ImageFilter

from rotoscope.media.image.mask_reader import MaskReading, read_mask
from rotoscope.media.image.pictures import clean_picture, decode_upright

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120

_masks = arrays.arrays(np.bool_, st.tuples(st.integers(2, 40), st.integers(2, 40))).filter(
    lambda mask: bool(mask.any()) and not bool(mask.all())
)
_bright = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)).filter(lambda rgb: max(rgb) >= 64)
_dark = st.integers(0, 10).map(lambda value: (value, value, value))


def _blob(width: int = 200, height: int = 150) -> np.ndarray:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return np.asarray(image) > 0


def _grey(mask: np.ndarray, white: int = 255) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(white))


def _coloured(grey: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    return Image.merge("RGB", [grey.point([value * part // 255 for value in range(256)]) for part in colour])


def _as_admitted(image: Image.Image) -> Image.Image:
    """The picture as it comes through the intake: written again, and decoded."""
    target = io.BytesIO()
    image.save(target, "PNG")
    return decode_upright(clean_picture(target.getvalue(), exact=True).content, exact=True)


def _read(image: Image.Image) -> MaskReading:
    read = read_mask(_as_admitted(image))
    assert read is not None, "it was taken for a photo"
    return read


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def _palette(image: Image.Image, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    flat = np.zeros((256, 3), np.uint8)
    for entry, colour in colours.items():
        flat[entry] = colour
    image.putpalette(flat.tobytes())
    return image


PLAIN: dict[str, Callable[[Any], Image.Image]] = {
    "one bit": lambda mask: _grey(mask).convert("1"),
    "grey": _grey,
    "grey that is not white": lambda mask: _grey(mask, 150),
    "numbers 0 and 1": lambda mask: _grey(mask, 1),
    "colour": lambda mask: _grey(mask).convert("RGB"),
    "opaque": lambda mask: _grey(mask).convert("RGBA"),
    "opaque grey": lambda mask: _grey(mask).convert("LA"),
    "sixteen bits": lambda mask: Image.fromarray(mask.astype(np.uint16) * np.uint16(65535)),
    "sixteen bits, a number": lambda mask: Image.fromarray(mask.astype(np.uint16) * np.uint16(300)),
    "a palette of greys": lambda mask: _grey(mask).convert("P"),
    "a drawing of few colours": lambda mask: _grey(mask).quantize(16),
}


@pytest.mark.parametrize("how", PLAIN)
@given(mask=_masks)
def test_every_mask_is_read_the_same_in_every_plain_form(how: str, mask: np.ndarray) -> None:
    read = _read(PLAIN[how](mask))
    assert read.mask.dtype == np.bool_
    assert np.array_equal(read.mask, mask)
    assert read.remarks == ()


@given(_masks, _bright, _dark, st.permutations(range(8)))
def test_a_palette_of_two_colours_goes_by_them_whatever_their_numbers(
    mask: np.ndarray, bright: tuple[int, int, int], dark: tuple[int, int, int], entries: list[int]
) -> None:
    image = Image.fromarray(np.where(mask, np.uint8(entries[0]), np.uint8(entries[1])))
    assert np.array_equal(_read(_palette(image, {entries[0]: bright, entries[1]: dark})).mask, mask)


@given(_masks, _bright, st.tuples(*[st.integers(0, 255)] * 3), st.permutations(range(8)), st.booleans())
def test_a_transparent_entry_is_ground_whatever_its_number_and_its_colour(
    mask: np.ndarray,
    colour: tuple[int, int, int],
    hidden: tuple[int, int, int],
    entries: list[int],
    several: bool,
) -> None:
    numbers = np.where(mask, np.uint8(entries[0]), np.uint8(entries[1]))
    if several:
        numbers[:, ::2][~mask[:, ::2]] = entries[2]
    image = _palette(Image.fromarray(numbers), {entries[0]: colour, entries[1]: hidden, entries[2]: hidden[::-1]})
    alphas = bytearray(b"\xff" * 8)
    alphas[entries[1]] = alphas[entries[2]] = 0
    image.info["transparency"] = bytes(alphas) if several else entries[1]
    assert np.array_equal(_read(image).mask, mask)


@given(_masks, _bright)
def test_a_flat_colour_cut_out_or_on_black_is_the_mask(mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    on_black = Image.composite(
        Image.new("RGB", mask.shape[::-1], colour), Image.new("RGB", mask.shape[::-1]), _grey(mask)
    )
    cut_out = Image.new("RGBA", mask.shape[::-1], (*colour, 255))
    cut_out.putalpha(_grey(mask))
    for image in (on_black, cut_out):
        assert np.array_equal(_read(image).mask, mask)


def test_one_transparent_pixel_or_border_does_not_invert_a_mask() -> None:
    blob = _blob()
    stray = _grey(blob).convert("RGBA")
    stray.putpixel((0, 0), (0, 0, 0, 0))
    border = _grey(blob).convert("LA")
    frame = np.full(blob.shape, 255, np.uint8)
    frame[:2] = frame[-2:] = 100
    border.putalpha(Image.fromarray(frame))
    soft = _grey(blob).filter(ImageFilter.GaussianBlur(5)).convert("LA")
    soft.putalpha(Image.fromarray(frame))
    for image in (stray, border, soft):
        read = _read(image)
        assert _overlap(read.mask, blob) > 0.97
        assert not read.is_contradictory
        assert any("colours were used" in remark for remark in read.remarks)


def test_a_stray_transparent_pixel_makes_no_mask_of_a_photo() -> None:
    image = draw_photo().convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 0))
    assert read_mask(image) is None


def test_the_colour_that_a_file_calls_transparent_is_ground() -> None:
    blob = _blob()
    grey = _grey(blob)
    grey.info["transparency"] = 0
    colour = _coloured(_grey(blob), (200, 30, 0))
    colour.info["transparency"] = (0, 0, 0)
    deep = Image.fromarray(blob.astype(np.uint16) * np.uint16(500))
    deep.info["transparency"] = 0
    for image in (grey, colour, deep):
        assert np.array_equal(_read(image).mask, blob)


def test_white_that_is_transparent_contradicts_itself() -> None:
    """An eraser leaves such a hole, and a brush on a canvas of transparent white such a stroke: nobody can tell."""
    blob = _blob()
    image = _grey(blob).convert("RGBA")
    image.putalpha(_grey(~blob))
    assert _read(image).is_contradictory


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), None])
def test_a_cut_out_mask_is_the_opaque_part_with_a_remark(colour: tuple[int, int, int] | None) -> None:
    blob = _blob()
    image = (draw_photo() if colour is None else Image.new("RGB", (200, 150), colour)).convert("RGBA")
    image.putalpha(_grey(blob).filter(ImageFilter.GaussianBlur(3)))
    read = _read(image)
    assert _overlap(read.mask, blob) > 0.97
    assert read.rule == "transparency"
    assert any("transparency" in remark and "opaque part" in remark for remark in read.remarks)


def test_an_alpha_channel_of_one_value_is_ignored() -> None:
    blob = _blob()
    for alpha in (0, 90, 255):
        image = _grey(blob).convert("RGBA")
        image.putalpha(alpha)
        assert np.array_equal(_read(image).mask, blob)
        assert not _read(image).is_contradictory


def _objects(draw: st.DrawFn) -> NDArray[np.int64]:
    """Areas of flat numbers on 0, as a label map has them: apart, side by side, over each other, in each other."""
    labels = np.zeros((HEIGHT, WIDTH), np.int64)
    for number in draw(st.lists(st.integers(1, 255), min_size=1, max_size=7)):
        left, top = 8 * draw(st.integers(0, WIDTH // 8 - 1)), 8 * draw(st.integers(0, HEIGHT // 8 - 1))
        width, height = 8 * draw(st.integers(1, 6)), 8 * draw(st.integers(1, 6))
        labels[top : top + height, left : left + width] = number
    return labels


_label_maps = st.composite(_objects)().filter(lambda labels: not bool(labels.all()))


@given(_label_maps)
def test_every_number_of_a_label_map_but_0_is_selected(labels: NDArray[np.int64]) -> None:
    grey = Image.fromarray(labels.astype(np.uint8))
    deep = Image.fromarray((labels * 211).astype(np.uint16))
    small = Image.fromarray(((labels > 0) * (1 + labels % 31)).astype(np.uint8))
    for image in (grey, deep, small):
        assert np.array_equal(_read(image).mask, labels > 0), image.mode


@given(_label_maps, st.integers(0, 2**32 - 1))
def test_every_object_of_a_label_map_in_colours_is_selected(labels: NDArray[np.int64], seed: int) -> None:
    colours = np.random.default_rng(seed).integers(40, 256, (256, 3), dtype=np.uint8)
    colours[0] = 0
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colours.tobytes())
    assert np.array_equal(_read(image).mask, labels > 0)
    assert np.array_equal(_read(image.convert("RGB")).mask, labels > 0)


def test_several_objects_of_a_label_map_have_a_remark() -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:40, 10:40], labels[60:80, 60:90] = 38, 113
    (remark,) = _read(Image.fromarray(labels)).remarks
    assert "2 numbers" in remark


def test_palette_entries_are_ids_and_only_zero_is_background() -> None:
    ids = Image.fromarray(np.array([[0, 1, 2], [3, 4, 0]], dtype=np.uint8))
    image = ids.copy()
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 1, 1, 1, 0, 0, 0])
    assert image.mode == "P"
    assert _read(image).mask.tolist() == [[False, True, True], [True, True, False]]
    assert _read(ids).mask.tolist() == [[False, True, True], [True, True, False]]


def test_black_is_the_ground_of_a_label_map_whose_entry_0_is_a_colour() -> None:
    numbers = np.full((HEIGHT, WIDTH), 3, np.uint8)
    numbers[10:40, 10:40], numbers[60:80, 60:90], numbers[60:80, 20:50] = 0, 1, 2
    image = _palette(Image.fromarray(numbers), {0: (200, 0, 0), 1: (0, 200, 0), 2: (0, 0, 200), 3: (0, 0, 0)})
    assert np.array_equal(_read(image).mask, numbers != 3)


def test_numbers_count_where_all_colours_of_a_palette_are_the_same() -> None:
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[10:40, 10:40], numbers[60:80, 60:90] = 1, 2
    assert np.array_equal(_read(_palette(Image.fromarray(numbers), {})).mask, numbers > 0)


SOFT: dict[str, Callable[[Any], Image.Image]] = {
    "grey": lambda soft: soft,
    "sixteen bits": lambda soft: Image.fromarray(np.asarray(soft).astype(np.uint16) * np.uint16(257)),
    "twelve bits": lambda soft: Image.fromarray(np.asarray(soft).astype(np.uint16) * np.uint16(16)),
    "red": lambda soft: _coloured(soft, (255, 0, 0)),
    "a dim colour": lambda soft: _coloured(soft, (30, 144, 200)),
    "of sixteen shades": lambda soft: soft.quantize(16),
    "red of sixteen shades": lambda soft: _coloured(soft, (255, 0, 0)).quantize(16),
    "a JPEG": lambda soft: as_jpeg(soft, 80),
    "opaque": lambda soft: soft.convert("RGBA"),
}


@pytest.mark.parametrize("how", SOFT)
@pytest.mark.parametrize("reach", [0, 1, 2, 4, 8, 14])
def test_a_mask_with_soft_edges_is_cut_at_half(how: str, reach: int) -> None:
    soft = _grey(_blob(400, 300)).filter(ImageFilter.GaussianBlur(reach))
    wanted = np.asarray(soft) > 127
    assert _overlap(_read(SOFT[how](soft)).mask, wanted) > 0.95
    ground = Image.fromarray(255 - np.asarray(soft))
    assert _overlap(_read(SOFT[how](ground)).mask, ~wanted) > 0.95


@settings(max_examples=30)
@given(_label_maps, st.integers(1, 6), st.booleans())
def test_a_blurred_mask_of_any_shape_is_cut_at_half(labels: NDArray[np.int64], reach: int, boxes: bool) -> None:
    blur = ImageFilter.BoxBlur(reach) if boxes else ImageFilter.GaussianBlur(reach)
    soft = _grey(labels > 0).filter(blur)
    values = np.asarray(soft)
    if values.max() < 250 or values.min() > 5:
        return  # nothing of it is white or black any more
    assert np.array_equal(_read(soft).mask, values > int(values.max()) // 2)


@pytest.mark.parametrize("quality", [100, 95, 85, 75, 50, 30])
@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 200, 60)])
def test_what_compression_adds_to_a_mask_is_not_selected(colour: tuple[int, int, int], quality: int) -> None:
    blob = _blob(320, 240)
    read = read_mask(as_jpeg(_coloured(_grey(blob), colour), quality))
    assert read is not None
    assert _overlap(read.mask, blob) > 0.97


def test_full_and_empty_masks_stay_full_and_empty() -> None:
    for value, area in ((0, 0.0), (255, 1.0), (1, 1.0)):
        for image in (Image.new("L", (9, 7), value), Image.new("RGB", (9, 7), (value,) * 3)):
            assert _read(image).mask.mean() == area


PHOTOS: dict[str, Callable[[Any], Image.Image]] = {
    "colour": lambda photo: photo,
    "grey": lambda photo: photo.convert("L"),
    "opaque": lambda photo: photo.convert("RGBA"),
    "sixteen bits": lambda photo: Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * np.uint16(257)),
    "of 4 colours": lambda photo: photo.quantize(4),
    "of 16 colours": lambda photo: photo.quantize(16),
    "of 256 colours": lambda photo: photo.quantize(256),
    "of 16 greys": lambda photo: photo.convert("L").quantize(16),
    "posterized": lambda photo: photo.convert("L").point([value // 64 * 64 for value in range(256)]),
    "dark": lambda photo: photo.convert("L").point([value // 9 for value in range(256)]),
    "compressed": lambda photo: as_jpeg(photo, 60),
    "smaller": lambda photo: photo.resize((60, 45)),
}


@pytest.mark.parametrize("how", PHOTOS)
def test_a_photo_is_no_mask(how: str) -> None:
    assert read_mask(PHOTOS[how](draw_photo())) is None


def test_a_gradient_and_two_colours_without_black_are_no_masks() -> None:
    assert read_mask(Image.linear_gradient("L")) is None
    halves = Image.new("RGB", (200, 100), "red")
    halves.paste("blue", (0, 0, 100, 100))
    assert read_mask(halves) is None
