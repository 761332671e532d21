"""Thumbnails: few pixels and few bytes of any picture."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rotoscope.media.image.previews import make_thumbnail

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    """The picture that compresses worst."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@settings(max_examples=30)
@given(st.integers(1, 2000), st.integers(1, 1200), st.sampled_from(MODES))
def test_any_picture_fits_and_keeps_its_shape(width: int, height: int, mode: str) -> None:
    image = Image.radial_gradient("L").resize((width, height)).convert("RGB").convert(mode)
    small = make_thumbnail(image)
    assert len(small.content) <= 100_000
    with opened(small.content) as shown:
        assert shown.size == (small.width, small.height)
        assert Image.MIME[shown.format or ""] == small.content_type
        assert max(shown.size) <= 768
        if max(width, height) <= 768:
            assert shown.size == (width, height)
        assert abs(shown.width * height - shown.height * width) <= max(width, height)


def test_the_picture_that_compresses_worst_still_fits() -> None:
    small = make_thumbnail(noise(1600, 1200))
    assert len(small.content) <= 100_000
    assert small.content_type == "image/jpeg"
    assert small.width >= 300


@pytest.mark.parametrize("most", [60_000, 10_000, 1_000])
def test_quality_is_lowered_before_the_number_of_pixels(most: int) -> None:
    assert len(make_thumbnail(noise(800, 600), most=most).content) <= most


def test_a_mask_keeps_its_exact_values() -> None:
    mask = Image.new("L", (640, 480))
    mask.paste(255, (100, 100, 300, 300))
    small = make_thumbnail(mask)
    assert small.content_type == "image/png"
    with opened(small.content) as shown:
        assert (np.asarray(shown) == np.asarray(mask)).all()


def test_transparent_parts_become_white_in_a_photo() -> None:
    image = noise(600, 400).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 300, 400))
    with opened(make_thumbnail(image).content) as shown:
        assert min(shown.convert("RGB").getpixel((100, 200))) > 240  # type: ignore[arg-type]
