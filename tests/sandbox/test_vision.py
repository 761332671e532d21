"""Masks and descriptions of made pictures, whose truth is known, and of a few real photos."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_media import Pixels, Scene, overlap
from PIL import Image, ImageOps

from rotoscope_sandbox.models import UnusableInput
from rotoscope_sandbox.vision.description import describe_areas, sa2va_text
from rotoscope_sandbox.vision.pictures import decode_picture, encode_picture
from rotoscope_sandbox.vision.pixels import PixelBox
from rotoscope_sandbox.vision.segmentation import (
    Segmentation,
    most_salient_region,
    segment_box,
    segment_boxes,
    segment_points,
)

MEDIA = Path(__file__).parents[3] / "shared" / "media"

media = [
    pytest.mark.media,
    pytest.mark.skipif(not MEDIA.is_dir(), reason="the real photos under ../shared/media are not here"),
]


def plain(height: int, width: int, value: int = 200) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def test_a_loose_box_selects_the_object_in_it(scene: Scene) -> None:
    left, top, right, bottom = scene.box
    found = segment_box(scene.frame, PixelBox(left - 8, top - 8, right + 8, bottom + 8))
    assert overlap(found.mask, scene.mask) > 0.95
    assert found.notice is None


def test_nothing_outside_a_box_is_selected(scene: Scene) -> None:
    left, top, right, bottom = scene.box
    found = segment_box(scene.frame, PixelBox(left, top, (left + right) // 2, bottom))
    assert not found.mask[:, (left + right) // 2 + 3 :].any()


def test_a_box_on_a_plain_picture_has_low_confidence_and_a_notice() -> None:
    found = segment_box(plain(100, 150), PixelBox(30, 20, 90, 80))
    assert found.confidence <= 0.3
    assert found.notice is not None
    assert found.mask[50, 60]


def test_a_point_on_the_object_selects_all_of_it(scene: Scene) -> None:
    found = segment_points(scene.frame, [(190.0, 110.0)])
    assert overlap(found.mask, scene.mask) > 0.95


def test_a_point_on_the_ground_does_not_select_the_object(scene: Scene) -> None:
    assert overlap(segment_points(scene.frame, [(20.0, 200.0)]).mask, scene.mask) < 0.05


def test_a_negative_point_leaves_a_second_object_out() -> None:
    """Two similar discs that touch: a point selects both, unless a negative point excludes one."""
    rows, columns = np.mgrid[0:200, 0:300]
    discs = [(rows - 100) ** 2 + (columns - x) ** 2 <= 50**2 for x in (105, 195)]
    grain = np.random.default_rng(3).normal(0, 8, (200, 300, 1))
    colours = np.where(discs[0][..., None], (200, 80, 60), np.where(discs[1][..., None], (180, 70, 70), (70, 120, 90)))
    frame = (colours + grain).clip(0, 255).astype(np.uint8)
    found = segment_points(frame, [(80.0, 100.0)], [(220.0, 100.0)])
    assert found.mask[100, 80]
    assert not found.mask[100, 220]
    assert (found.mask & discs[1]).sum() < 0.1 * discs[1].sum()


def test_points_on_two_objects_select_both(scene: Scene) -> None:
    frame = scene.frame.copy()
    frame[180:220, 20:80] = (240, 230, 90)
    found = segment_points(frame, [(190.0, 110.0), (50.0, 200.0)])
    assert found.mask[110, 190]
    assert found.mask[200, 50]
    assert not found.mask[20, 20]


def test_two_boxes_give_one_mask_of_both(scene: Scene) -> None:
    frame, mask = scene.frame.copy(), scene.mask.copy()
    frame[180:220, 20:80] = (240, 230, 90)
    mask[180:220, 20:80] = True
    left, top, right, bottom = scene.box
    boxes = [PixelBox(left - 5, top - 5, right + 5, bottom + 5), PixelBox(14, 174, 86, 226)]
    assert overlap(segment_boxes(frame, boxes, [], []).mask, mask) > 0.9


def test_the_most_salient_region_is_the_object_with_low_confidence(scene: Scene) -> None:
    found = most_salient_region(scene.frame)
    assert overlap(found.mask, scene.mask) > 0.9
    assert found.confidence <= 0.25


@pytest.mark.parametrize(
    "segment",
    [
        lambda f: segment_points(f, [(150.0, 100.0)]),
        most_salient_region,
        lambda f: segment_box(f, PixelBox(9, 9, 200, 150)),
    ],
)
def test_the_same_picture_gives_the_same_mask(scene: Scene, segment: Callable[[Pixels], Segmentation]) -> None:
    assert np.array_equal(segment(scene.frame).mask, segment(scene.frame).mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (400, 3), (3, 400)])
def test_tiny_and_thin_pictures_get_a_mask_and_a_description(size: tuple[int, int]) -> None:
    frame = plain(*size)
    whole = PixelBox(0, 0, size[1], size[0])
    for found in (segment_box(frame, whole), segment_points(frame, [(0.0, 0.0)]), most_salient_region(frame)):
        assert found.mask.shape == size
        assert found.mask.any()
    assert describe_areas(frame)[0].mask.shape == size


def test_a_description_names_areas_by_colour_size_and_place_and_is_deterministic() -> None:
    frame = plain(240, 320)
    frame[:, :160] = (30, 60, 200)
    frame[120:, 160:] = (200, 40, 40)
    areas = describe_areas(frame)
    assert [area.phrase for area in areas] == [
        "a large blue area on the left (50% of the image)",
        "a large light gray area in the top right (25% of the image)",
        "a large red area in the bottom right (25% of the image)",
    ]
    assert sa2va_text(areas) == sa2va_text(describe_areas(frame))
    assert re.fullmatch(
        r"(<p>  .+?  </p>   \[SEG\]  (, |and  ))*<p>  .+?  </p>   \[SEG\] \.<\|im_end\|>", sa2va_text(areas)
    )


def test_a_plain_picture_is_described_as_one_area() -> None:
    assert [area.phrase for area in describe_areas(plain(90, 120))] == [
        "a large light gray area in the center (100% of the image)"
    ]


def test_a_photo_is_turned_upright_by_its_exif() -> None:
    photo = Image.fromarray(plain(20, 40))
    exif = photo.getexif()
    exif[0x0112] = 6
    content = io.BytesIO()
    photo.save(content, "JPEG", exif=exif)
    assert decode_picture(content.getvalue(), "image").shape == (40, 20, 3)


def test_a_picture_beyond_the_pixel_budget_is_refused_before_it_is_decoded() -> None:
    content = io.BytesIO()
    Image.new("1", (20_000, 10)).save(content, "PNG")
    with pytest.raises(UnusableInput, match="16384 pixels a side") as caught:
        decode_picture(content.getvalue(), "image")
    assert caught.value.kind == "image_too_large"


def test_a_truncated_picture_is_refused(scene: Scene) -> None:
    with pytest.raises(UnusableInput, match="damaged"):
        decode_picture(encode_picture(scene.frame, "png")[:2000], "image")


def read_photo(name: str) -> Pixels:
    with Image.open(MEDIA / name) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


class TestRealPhotos:
    pytestmark = media

    def test_a_click_on_the_trucks_rear_window_selects_the_window(self) -> None:
        found = segment_points(read_photo("truck.jpg"), [(500.0, 375.0)])
        rows, columns = np.nonzero(found.mask)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx((230, 316, 626, 454), abs=20)
        assert 0.015 < found.mask.mean() < 0.027

    def test_the_boxing_cats_box_gives_nearly_the_hand_made_mask(self) -> None:
        with Image.open(MEDIA / "boxingcat_mask.png") as picture:
            truth = np.asarray(picture.convert("L")) > 127
        found = segment_box(read_photo("boxingcat.jpg"), PixelBox.around(truth))
        assert overlap(found.mask, truth) >= 0.6

    def test_the_truck_is_described_by_its_areas(self) -> None:
        areas = describe_areas(read_photo("truck.jpg"))
        assert 3 <= len(areas) <= 6
        assert areas[0].phrase == "a large light gray area in the bottom center (31% of the image)"
        assert all(area.mask.shape == (1200, 1800) for area in areas)

    def test_a_box_around_two_bags_takes_both_and_not_the_dark_floor(self) -> None:
        found = segment_box(read_photo("groceries.jpg"), PixelBox(370, 160, 500, 345))
        assert found.mask[270, 410]
        assert found.mask[270, 470]
        assert 0.6 < found.mask[160:345, 370:500].mean() < 0.97
