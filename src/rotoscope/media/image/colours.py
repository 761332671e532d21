"""Colour profiles: a picture with a profile is converted to sRGB, which is what pictures without a profile are read as.

The metadata of a picture is removed, and its profile with it; without conversion, its values would then mean other
colours.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageCms

__all__ = ["convert_to_srgb", "is_convertible", "is_noop_profile"]

_STRIP_ROWS = 256  # rows converted at once: they fit into the processor's cache, and no second picture is needed
_MAX_PROFILE_BYTES = 8_000_000  # bytes; the profiles of printing presses have 2 or 3 MB
_FEW_GREYS = 64  # grey levels; a picture with no more is a mask or a label map
_GRID_STEP = 51  # of 255: six values per channel in the grid of colours that a profile is tried on
_VISIBLE_DIFFERENCE = 1  # of 255: a channel that differs by no more counts as equal
_PROFILE_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "P": "RGB ", "CMYK": "CMYK", "L": "GRAY", "LA": "GRAY"}


def is_convertible(mode: str, profile: bytes) -> bool:
    """Whether a profile is for pictures of this mode, by its header."""
    return _PROFILE_SPACES.get(mode, "").encode() == profile[16:20] != b"" and len(profile) <= _MAX_PROFILE_BYTES


def is_noop_profile(mode: str, profile: bytes) -> bool:
    """Whether a profile leaves every picture of a mode unchanged: it is sRGB, or cannot be used.

    Never for grey, where it depends on how many levels the picture has.
    """
    if not is_convertible(mode, profile):
        return True
    return _PROFILE_SPACES[mode] != "GRAY" and _build_transform(_PROFILE_SPACES[mode].strip(), mode, profile) is None


def convert_to_srgb(image: "Image.Image", profile: bytes) -> "Image.Image | None":
    """The picture in sRGB, by its profile; relative colorimetric, with black point compensation.

    Where the mode allows it, the pixels are changed in place. A palette keeps its numbers, and its colours change.
    Grey of few levels is left as it is: it is a mask or a label map, and no photo.

    Args:
        image: of mode L, LA, P, RGB, RGBA or CMYK.
        profile: the ICC profile, from an untrusted file.

    Returns:
        A picture of the same mode, but RGB for CMYK; None where nothing has to be changed: the profile is sRGB or
        nearly so, is broken, or is not for pictures of this mode.
    """
    if not is_convertible(image.mode, profile):
        return None
    transform = _build_transform(_PROFILE_SPACES[image.mode].strip(), image.mode, profile)
    if transform is None:
        return None
    if image.mode in ("L", "LA"):
        return _convert_grey(image, transform)
    if image.mode == "P":
        return _convert_palette(image, transform)
    return _convert_in_strips(image, transform)


def _build_transform(space: str, mode: str, profile: bytes) -> "ImageCms.ImageCmsTransform | None":
    """The conversion to sRGB; None where the profile is broken, or where the difference could not be seen."""
    from PIL import ImageCms

    given, wanted = {"GRAY": "L", "CMYK": "CMYK"}.get(space, "RGBA" if mode == "RGBA" else "RGB"), "RGB"
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            given,
            "RGBA" if given == "RGBA" else wanted,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            # Grey needs 256 values only, and the coarse table that Little CMS makes of it is far off in dark greys.
            ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if given == "L" else 0),
        )
    # Little CMS raises many kinds of errors; a broken profile must not make the picture unusable.
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, SyntaxError):
        return None
    return None if given.startswith("RGB") and _is_srgb(transform, given) else transform


def _is_srgb(transform: "ImageCms.ImageCmsTransform", mode: str) -> bool:
    """Whether all colours of a coarse grid stay as they are."""
    from PIL import Image, ImageChops

    steps = range(0, 256, _GRID_STEP)
    grid = Image.new(mode, (len(steps) ** 3, 1))
    grid.putdata([(r, g, b, 255)[: len(mode)] for r in steps for g in steps for b in steps])
    difference = ImageChops.difference(grid, transform.apply(grid)).convert("RGB")
    return all(high <= _VISIBLE_DIFFERENCE for _, high in difference.getextrema())  # type: ignore[misc]  # three pairs for RGB


def _convert_in_strips(image: "Image.Image", transform: "ImageCms.ImageCmsTransform") -> "Image.Image":
    from PIL import Image

    target = Image.new("RGB", image.size) if image.mode == "CMYK" else image
    for top in range(0, image.height, _STRIP_ROWS):
        box = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        target.paste(transform.apply(image.crop(box)), box)
    return target


def _convert_grey(image: "Image.Image", transform: "ImageCms.ImageCmsTransform") -> "Image.Image | None":
    """Grey by a table of its 256 values."""
    from PIL import Image

    if image.getchannel("L").getcolors(_FEW_GREYS) is not None:
        return None
    ramp = Image.new("L", (256, 1))
    ramp.putdata(range(256))
    table = list(transform.apply(ramp).getchannel("G").tobytes())
    if all(abs(new - old) <= _VISIBLE_DIFFERENCE for old, new in enumerate(table)):
        return None
    return image.point(table if image.mode == "L" else [*table, *range(256)])


def _convert_palette(image: "Image.Image", transform: "ImageCms.ImageCmsTransform") -> "Image.Image | None":
    from PIL import Image

    colours = bytes(image.getpalette("RGB") or ())
    if not colours:
        return None
    row = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    image.putpalette(transform.apply(row).tobytes())
    return image
