"""Masks: what is selected, and how it is said in COCO."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from rotoscope.errors import InvalidInput
from rotoscope.media.masks import (
    Box,
    LabelledMask,
    area_of,
    box_of,
    coco_document,
    decode_rle,
    encode_rle,
    fit_to,
    looks_like_mask,
    mask_png,
    painted_difference,
    polygons_of,
    read_mask,
    rle_counts,
)

_masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def _blob(width: int = 200, height: int = 150) -> np.ndarray:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return np.asarray(image) > 0


def _photo(width: int = 200, height: int = 150) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 128 + 60 * np.sin(rows / 7) + 50 * np.cos(columns / 11)
    noise = np.random.default_rng(3).normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(waves[..., None] * (1.0, 0.8, 0.6) + noise, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return Image.open(io.BytesIO(target.getvalue()))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def _naive_counts(mask: np.ndarray) -> list[int]:
    counts, last, run = [], False, 0
    for value in (bool(mask[y, x]) for x in range(mask.shape[1]) for y in range(mask.shape[0])):
        if value != last:
            counts.append(run)
            last, run = value, 0
        run += 1
    return [*counts, run]


def _naive_string(counts: list[int]) -> str:
    text = ""
    for place, count in enumerate(counts):
        rest, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


@pytest.mark.parametrize(
    ("mask", "counts", "text"),
    [
        (np.zeros((3, 4), np.bool_), [12], "<"),
        (np.ones((3, 4), np.bool_), [0, 12], "0<"),
        (np.eye(2, dtype=np.bool_), [0, 1, 2, 1], "0120"),
        (np.zeros((25, 40), np.bool_), [1000], "Xo0"),
        (np.array([[0, 1], [1, 1]], np.bool_), [1, 3], "13"),
    ],
)
def test_run_lengths_are_those_of_coco(mask: np.ndarray, counts: list[int], text: str) -> None:
    assert rle_counts(mask) == counts
    assert encode_rle(mask) == text


@pytest.mark.parametrize(
    "mask", [_blob(), ~_blob(), np.random.default_rng(5).random((90, 120)) > 0.5, _blob(1200, 900)]
)
def test_run_lengths_equal_a_naive_reading_of_the_definition(mask: np.ndarray) -> None:
    assert rle_counts(mask) == _naive_counts(mask)
    assert encode_rle(mask) == _naive_string(_naive_counts(mask))
    assert np.array_equal(decode_rle(encode_rle(mask), *mask.shape), mask)


@given(_masks)
def test_run_lengths_give_the_mask_back(mask: np.ndarray) -> None:
    text = encode_rle(mask)
    assert text == _naive_string(_naive_counts(mask))
    assert np.array_equal(decode_rle(text, *mask.shape), mask)


@pytest.mark.parametrize("text", ["", "z", "X", "X" * 9 + "0", "=", "0=", "O<", "é", "<0<", "\x00", "04N2", "<\n"])
def test_a_string_that_describes_no_such_mask_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_rle(text, 3, 4)
    assert caught.value.code == "corrupt"


@given(st.text(max_size=30) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30))
def test_any_string_gives_a_mask_or_a_refusal(text: str) -> None:
    try:
        mask = decode_rle(text, 6, 5)
    except InvalidInput:
        return
    assert mask.shape == (6, 5)


def test_a_mask_is_read_from_every_mode() -> None:
    blob = _blob()
    grey = Image.fromarray(blob.astype(np.uint8) * 255)
    red = Image.composite(Image.new("RGB", grey.size, (200, 0, 0)), Image.new("RGB", grey.size), grey)
    readings = [grey.convert("1"), grey, grey.convert("RGB"), grey.convert("LA"), grey.convert("RGBA"), red]
    readings += [Image.fromarray(blob.astype(np.uint8)), _jpeg(grey.convert("RGB"), 75)]
    for image in readings:
        mask = read_mask(image)
        assert mask.dtype == np.bool_
        assert _overlap(mask, blob) > 0.99, image.mode
        assert looks_like_mask(image), image.mode


def test_full_and_empty_masks_stay_full_and_empty() -> None:
    for value, area in ((0, 0.0), (255, 1.0), (1, 1.0)):
        assert area_of(read_mask(Image.new("L", (9, 7), value))) == area
        assert area_of(read_mask(Image.new("RGB", (9, 7), (value,) * 3))) == area


def test_palette_entries_are_ids_and_only_zero_is_background() -> None:
    ids = Image.fromarray(np.array([[0, 1, 2], [3, 4, 0]], dtype=np.uint8))
    image = ids.copy()
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 1, 1, 1, 0, 0, 0])
    assert image.mode == "P"
    assert read_mask(image).tolist() == [[False, True, True], [True, True, False]]
    assert read_mask(ids).tolist() == [[False, True, True], [True, True, False]]


def test_a_palette_of_black_and_white_goes_by_its_colours() -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    assert read_mask(image).tolist() == [[True, False]]


def test_alpha_is_the_mask_only_where_it_says_something() -> None:
    blob = _blob()
    cut_out = _photo().convert("RGBA")
    cut_out.putalpha(Image.fromarray(blob.astype(np.uint8) * 255))
    assert np.array_equal(read_mask(cut_out), blob)
    assert looks_like_mask(cut_out)
    for alpha in (0, 255):
        grey = Image.fromarray(blob.astype(np.uint8) * 255).convert("RGBA")
        grey.putalpha(alpha)
        assert np.array_equal(read_mask(grey), blob)


def test_a_photo_is_no_mask() -> None:
    assert not looks_like_mask(_photo())
    assert not looks_like_mask(_photo().convert("L"))
    assert not looks_like_mask(_photo().quantize(16))
    assert not looks_like_mask(_photo().convert("RGBA"))
    half_red_half_blue = Image.new("RGB", (20, 10), "red")
    half_red_half_blue.paste("blue", (0, 0, 10, 10))
    assert not looks_like_mask(half_red_half_blue)


@pytest.mark.parametrize("quality", [95, 75, 50])
@pytest.mark.parametrize("colour", [(255, 0, 0), (30, 144, 255), (0, 255, 0)])
def test_a_mask_that_was_painted_on_the_picture_is_found(colour: tuple[int, int, int], quality: int) -> None:
    blob, photo = _blob(), _photo()
    paint = Image.blend(photo, Image.new("RGB", photo.size, colour), 0.5)
    painted = _jpeg(Image.composite(paint, photo, Image.fromarray(blob)), quality)
    found = painted_difference(painted, photo)
    assert found is not None
    assert _overlap(found, blob) > 0.9


def test_a_painted_picture_of_another_scale_is_compared_in_the_size_of_the_original() -> None:
    blob, photo = _blob(800, 600), _photo(800, 600).reduce(4).resize((800, 600))
    painted = Image.composite(Image.new("RGB", photo.size, (255, 0, 0)), photo, Image.fromarray(blob))
    found = painted_difference(painted.resize((400, 300)), photo)
    assert found is not None
    assert found.shape == (600, 800)
    assert _overlap(found, blob) > 0.9


def test_no_mask_is_made_up_when_nothing_or_everything_differs() -> None:
    photo = _photo()
    assert painted_difference(_jpeg(photo, 60), photo) is None
    assert painted_difference(photo.point(lambda value: 255 - value // 3), photo) is None
    assert painted_difference(photo.resize((150, 150)), photo) is None


def test_a_box_ends_before_its_right_and_bottom() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 7:11] = True
    assert box_of(mask) == Box(left=7, top=2, right=11, bottom=5)
    assert area_of(mask) == pytest.approx(12 / 200)
    assert box_of(np.zeros((4, 4), np.bool_)) is None
    assert area_of(np.zeros((0, 4), np.bool_)) == 0.0


@given(_masks)
def test_a_box_is_the_smallest_that_holds_the_mask(mask: np.ndarray) -> None:
    box = box_of(mask)
    if box is None:
        assert not mask.any()
        return
    inside = mask[box.top : box.bottom, box.left : box.right]
    assert inside.sum() == mask.sum()
    assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_mask_that_is_a_pixel_off_is_fitted_and_it_is_said() -> None:
    mask = _blob(853, 480)
    fitted, resized = fit_to(mask, 854, 480)
    assert (fitted.shape, resized) == ((480, 854), True)
    assert _overlap(fitted[:, :853], mask) > 0.99
    same, resized = fit_to(mask, 853, 480)
    assert same is mask
    assert not resized


@given(_masks, st.integers(1, 5))
def test_enlarging_by_a_whole_number_repeats_each_pixel(mask: np.ndarray, times: int) -> None:
    height, width = mask.shape
    fitted, _ = fit_to(mask, width * times, height * times)
    assert np.array_equal(fitted, mask.repeat(times, axis=0).repeat(times, axis=1))


@pytest.mark.parametrize("size", [(256, 256), (480, 854), (640, 480)])
def test_a_mask_of_another_shape_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="854 x 480"):
        fit_to(_blob(*size), 854, 480)


def test_polygons_follow_the_outline() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[4:10, 5:15] = True
    mask[15, 20] = True
    assert polygons_of(mask) == [[5, 4, 5, 9, 14, 9, 14, 4]]
    assert polygons_of(np.zeros((5, 5), np.bool_)) == []


def test_the_coco_document_says_what_coco_asks_for() -> None:
    blob, empty = _blob(), np.zeros((150, 200), np.bool_)
    masks = [LabelledMask("cat", blob, 0.9), LabelledMask("dog", empty), LabelledMask("cat", ~blob)]
    document = json.loads(json.dumps(coco_document("photo.png", 200, 150, masks)))
    assert document["images"] == [{"id": 1, "file_name": "photo.png", "width": 200, "height": 150}]
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, second, third = document["annotations"]
    assert [item["id"] for item in (first, second, third)] == [1, 2, 3]
    assert [item["category_id"] for item in (first, second, third)] == [1, 2, 1]
    assert first["image_id"] == 1
    assert first["iscrowd"] == 0
    assert first["area"] == blob.sum()
    assert first["bbox"] == [50, 37, 101, 76]
    assert first["score"] == 0.9
    assert "score" not in second
    assert second["bbox"] == [0, 0, 0, 0]
    assert second["polygons"] == []
    assert third["segmentation"]["size"] == [150, 200]
    assert np.array_equal(decode_rle(third["segmentation"]["counts"], 150, 200), ~blob)
    assert all(len(polygon) >= 6 for polygon in first["polygons"])


def test_a_mask_is_written_as_black_and_white() -> None:
    image = Image.open(io.BytesIO(mask_png(_blob())))
    assert (image.format, image.mode) == ("PNG", "L")
    assert set(np.unique(np.asarray(image)).tolist()) == {0, 255}
    assert np.array_equal(read_mask(image), _blob())
