"""Colour profiles: a picture that brings its own is turned to sRGB, which is what everybody reads one without as.

The metadata of a picture goes, and its profile with it: left as they are, its numbers would then mean other colours.
"""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageCms

__all__ = ["convert_to_srgb", "is_convertible", "is_noop_profile"]

_STRIP_ROWS = (
    256  # rows: what is worked on stays in the processor's cache, and the rest of the picture is no second copy
)
_MAX_PROFILE_BYTES = 8_000_000  # the profiles of presses have 2 or 3 MB
_FEW_GREYS = 64
_GRID_STEP = 51
_VISIBLE_DIFFERENCE = 1  # the largest difference of a channel that is none
_PROFILE_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "P": "RGB ", "CMYK": "CMYK", "L": "GRAY", "LA": "GRAY"}


def is_convertible(mode: str, profile: bytes) -> bool:
    """Whether the header of a profile says that it is for pictures of this mode."""
    return _PROFILE_SPACES.get(mode, "").encode() == profile[16:20] != b"" and len(profile) <= _MAX_PROFILE_BYTES


def is_noop_profile(mode: str, profile: bytes) -> bool:
    """Whether pictures of a mode would stay as they are, whatever their pixels: the profile is sRGB, or of no use.

    Of grey that cannot be said: what it is depends on how many levels there are.
    """
    if not is_convertible(mode, profile):
        return True
    return _PROFILE_SPACES[mode] != "GRAY" and _build_transform(_PROFILE_SPACES[mode].strip(), mode, profile) is None


def convert_to_srgb(image: "Image.Image", profile: bytes) -> "Image.Image | None":
    """The picture in sRGB, by its profile; relative colorimetric, with the black points brought together.

    Where the mode allows it, the pixels are changed in place. A palette keeps its numbers, and its colours change.
    Grey of few levels is no photo but a mask or the numbers of objects, and is left alone.

    Args:
        image: of mode L, LA, P, RGB, RGBA or CMYK.
        profile: the ICC profile, from an untrusted file.

    Returns:
        A picture of the same mode, but RGB for CMYK; None where nothing is to be changed: the profile is sRGB or
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
    """What turns colours to sRGB; None where that is not possible, or would be seen by nobody."""
    from PIL import ImageCms

    given, wanted = {"GRAY": "L", "CMYK": "CMYK"}.get(space, "RGBA" if mode == "RGBA" else "RGB"), "RGB"
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            given,
            "RGBA" if given == "RGBA" else wanted,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            # Grey needs 256 colours only, and is far off in the dark by the coarse table that little CMS makes of it.
            ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if given == "L" else 0),
        )
    # What little CMS does not like it says in many ways; a broken profile must not cost the picture.
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
