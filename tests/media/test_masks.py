"""Masks: boxes, areas, sizes, and masks that were painted on a photo."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from photos import as_jpeg, draw_photo
from PIL import Image, ImageDraw

from rotoscope.errors import InvalidInput
from rotoscope.media.image.mask_reader import read_mask
from rotoscope.media.image.masks import (
    BoundingBox,
    area_of,
    bounding_box,
    encode_mask_png,
    find_painted_mask,
    fit_mask_to_size,
)

_masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def _blob(width: int = 200, height: int = 150) -> np.ndarray:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return np.asarray(image) > 0


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("quality", [95, 75, 50])
@pytest.mark.parametrize("colour", [(255, 0, 0), (30, 144, 255), (0, 255, 0)])
def test_a_mask_that_was_painted_on_the_picture_is_found(colour: tuple[int, int, int], quality: int) -> None:
    blob, photo = _blob(), draw_photo()
    paint = Image.blend(photo, Image.new("RGB", photo.size, colour), 0.5)
    painted = as_jpeg(Image.composite(paint, photo, Image.fromarray(blob)), quality)
    found = find_painted_mask(painted, photo)
    assert found is not None
    assert _overlap(found, blob) > 0.9


def test_a_painted_picture_of_another_scale_is_compared_in_the_size_of_the_original() -> None:
    blob, photo = _blob(800, 600), draw_photo(800, 600).reduce(4).resize((800, 600))
    painted = Image.composite(Image.new("RGB", photo.size, (255, 0, 0)), photo, Image.fromarray(blob))
    found = find_painted_mask(painted.resize((400, 300)), photo)
    assert found is not None
    assert found.shape == (600, 800)
    assert _overlap(found, blob) > 0.9


def test_no_mask_is_found_when_nothing_or_everything_differs() -> None:
    photo = draw_photo()
    assert find_painted_mask(as_jpeg(photo, 60), photo) is None
    assert find_painted_mask(photo.point(lambda value: 255 - value // 3), photo) is None
    assert find_painted_mask(photo.resize((150, 150)), photo) is None


def test_a_box_ends_before_its_right_and_bottom() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 7:11] = True
    assert bounding_box(mask) == BoundingBox(left=7, top=2, right=11, bottom=5)
    assert area_of(mask) == pytest.approx(12 / 200)
    assert bounding_box(np.zeros((4, 4), np.bool_)) is None
    assert area_of(np.zeros((0, 4), np.bool_)) == 0.0


@given(_masks)
def test_a_box_is_the_smallest_that_holds_the_mask(mask: np.ndarray) -> None:
    box = bounding_box(mask)
    if box is None:
        assert not mask.any()
        return
    inside = mask[box.top : box.bottom, box.left : box.right]
    assert inside.sum() == mask.sum()
    assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_mask_that_is_a_pixel_off_is_resized_and_reported_as_such() -> None:
    mask = _blob(853, 480)
    fitted, resized = fit_mask_to_size(mask, 854, 480)
    assert (fitted.shape, resized) == ((480, 854), True)
    assert _overlap(fitted[:, :853], mask) > 0.99
    same, resized = fit_mask_to_size(mask, 853, 480)
    assert same is mask
    assert not resized


@given(_masks, st.integers(1, 5))
def test_enlarging_by_a_whole_number_repeats_each_pixel(mask: np.ndarray, times: int) -> None:
    height, width = mask.shape
    fitted, _ = fit_mask_to_size(mask, width * times, height * times)
    assert np.array_equal(fitted, mask.repeat(times, axis=0).repeat(times, axis=1))


@pytest.mark.parametrize("size", [(256, 256), (480, 854), (640, 480)])
def test_a_mask_of_another_shape_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="854 x 480"):
        fit_mask_to_size(_blob(*size), 854, 480)


def test_a_mask_is_written_as_black_and_white() -> None:
    image = Image.open(io.BytesIO(encode_mask_png(_blob())))
    assert (image.format, image.mode) == ("PNG", "L")
    assert set(np.unique(np.asarray(image)).tolist()) == {0, 255}
    read = read_mask(image)
    assert read is not None
    assert np.array_equal(read.mask, _blob())


@given(_masks)
def test_a_mask_that_was_written_is_read_back_by_any_reader(mask: np.ndarray) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_mask_png(mask)))), mask * 255)
