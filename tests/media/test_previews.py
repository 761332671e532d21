"""Overlays and contact sheets."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from photos import pixel_at
from PIL import Image

from rotoscope.media.image.previews import MaskOverlay, SheetPanel, contact_sheet, encode_jpeg


def _square(left: int, right: int, size: int = 120) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[left:right, left:right] = True
    return mask


def overlay_masks(picture: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    overlay = MaskOverlay(picture)
    for number, mask in enumerate(masks):
        assert overlay.paint(number, mask)
    return overlay.image()


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_mask_can_be_distinguished_from_any_ground(shade: int) -> None:
    picture = Image.new("RGB", (120, 120), (shade,) * 3)
    painted = np.asarray(overlay_masks(picture, [_square(30, 90)])).astype(int)
    assert np.abs(painted[60, 60] - shade).max() > 40
    edge = painted[60, 24:36].reshape(-1)
    assert edge.max() - edge.min() > 150
    assert (painted[5, 5] == shade).all()


def test_the_fill_is_45_percent_opaque() -> None:
    painted = np.asarray(overlay_masks(Image.new("RGB", (120, 120)), [_square(30, 90)]))
    assert painted[60, 60].tolist() == pytest.approx([0.45 * 86, 0.45 * 180, 0.45 * 233], abs=1.5)


def test_the_first_seven_masks_have_different_colours_and_more_repeat_them() -> None:
    masks = [_square(12 * n + 1, 12 * n + 11) for n in range(9)]
    painted = np.asarray(overlay_masks(Image.new("RGB", (120, 120)), masks))
    centres = [tuple(painted[12 * n + 6, 12 * n + 6].tolist()) for n in range(9)]
    assert len(set(centres[:7])) == 7
    assert centres[7:] == centres[:2]


def test_the_picture_itself_is_not_changed_and_an_empty_mask_changes_nothing() -> None:
    picture = Image.new("RGB", (120, 120), "red")
    same = overlay_masks(picture, [np.zeros((120, 120), dtype=np.bool_)])
    assert same is not picture
    assert np.array_equal(np.asarray(same), np.asarray(picture))
    overlay_masks(picture, [_square(0, 120)])
    assert picture.getpixel((60, 60)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_a_picture_of_any_mode_is_painted_in_colour(mode: str) -> None:
    painted = overlay_masks(Image.new(mode, (120, 120)), [_square(0, 60)])
    assert (painted.mode, painted.size) == ("RGB", (120, 120))


def test_transparent_parts_become_white() -> None:
    data = encode_jpeg(Image.new("RGBA", (16, 16), (255, 0, 0, 0)))
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    assert min(pixel_at(image, (0.5, 0.5))) > 250


def test_lower_quality_is_smaller() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert len(encode_jpeg(noise, quality=40)) < len(encode_jpeg(noise))


@pytest.mark.slow
def test_a_contact_sheet_has_a_place_and_a_text_for_every_panel() -> None:
    wide, tall = Image.new("RGB", (160, 90), "navy"), Image.new("RGBA", (50, 200), (200, 0, 0, 255))
    panels = [
        SheetPanel("One", "a short line", wide),
        SheetPanel("Two", "a line that is long " * 8, tall),
        SheetPanel("Three", "", wide),
    ]
    sheet = contact_sheet(panels, 2)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB"
    assert sheet.width == 2 * 640 + 28 + 2 * 36
    assert (pixels[:20] == 255).all()
    colours = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert {(0, 0, 128), (200, 0, 0), (28, 30, 34)} <= colours
    assert contact_sheet(panels[:1], 3).width == 640 + 2 * 36


def test_a_single_word_that_is_too_long_stays_on_one_line() -> None:
    panel = SheetPanel("x" * 200, "", Image.new("L", (10, 10)))
    assert contact_sheet([panel], 1).height == 640 + 14 + round(26 * 1.35) + 2 * 36


def test_a_sheet_of_nothing_is_blank_paper() -> None:
    assert contact_sheet([], 2).size == (72, 72)
