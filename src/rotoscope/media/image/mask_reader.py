"""The one reader of masks, from users and from providers. Pure, on a decoded picture.

Masks are written in many ways. These rules are tried from the top, and the first that fits decides; a picture that none
fits is a photo and no mask:

| what the picture holds | what is selected |
| --- | --- |
| one bit | white |
| transparent parts, and colours that are a mask of their own | what the colours select, if it is opaque |
| the same, but what the colours select is transparent | the colours, and that the two contradict each other |
| transparent parts, and any other colours | the opaque part (from half opaque on), with a remark |
| a palette of greys, or of black and one colour | by the colours, as values below, and not by the entries' numbers |
| a palette of several colours in flat areas (VOC) | every entry but 0; every one that is not black where 0 is not |
| black and one colour, in any shades | by how bright it is, as values below |
| several colours in flat areas on black | every colour but black |
| values of one channel: two levels | the brighter one |
| values in flat areas that meet in any order (a label map) | every number but 0 |
| values, black and white with soft edges | brighter than half of the brightest |

A transparent entry of a palette is background, whatever its number and its colour. A pixel counts as black when it is
darker than a sixth of the brightest value; where all values are below 32 they are numbers. Transparency of less than
two in a thousand pixels does not make a photo a mask.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from rotoscope.media.image.mask_levels import BRIGHT, DARK, GreyValues, has_flat_areas, select_by_levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from rotoscope.media.image.masks import Mask

__all__ = ["MaskReading", "MaskRule", "read_mask"]

MaskRule = Literal["colours", "transparency", "numbers", "brightness"]
_Colours: TypeAlias = "NDArray[np.uint8]"
"""N x 3: red, green and blue."""

_OPAQUE_ALPHA = 128  # of 255: from this alpha on a pixel counts as opaque
_STRAY_TRANSPARENT_SHARE = 0.002  # part of all pixels that may be transparent by accident
_SAME_MASK_SHARE = 0.02  # part of the selected pixels: two masks that differ by less are the same
_SAME_COLOUR_DISTANCE = 40  # of 255: a channel of a flat colour differs by no more after compression
_STRAY_COLOUR_SHARE = 0.05  # part of the bright pixels that may have another colour than the one of the mask
_STRAY_SHADE_FACTOR = 10  # times that part of all pixels that are not dark: dark shades keep their colour less well
_MIN_LIGHTNESS = 24  # of 255: where the colour is darker, its lightness has too few shades
_MAX_COLOURS = 256  # different colours of a label map
_MAX_BLACK = 16  # of 255: a colour of a label map whose channels are all at most this is background


@dataclass(frozen=True, slots=True, eq=False)
class MaskReading:
    """A mask and how it was read.

    Attributes:
        mask: True where selected.
        rule: what decided.
        remarks: sentences for the user.
        is_contradictory: whether colours and transparency select different parts, and neither is certain.
        sure: whether nearly all pixels that are not black are bright, or lie on smooth edges.
    """

    mask: "Mask"
    rule: MaskRule
    remarks: tuple[str, ...] = ()
    is_contradictory: bool = False
    sure: bool = True


def read_mask(image: "Image.Image") -> MaskReading | None:
    """The mask in a picture, by the rules in this module's table; None where it is no mask.

    Args:
        image: decoded and upright; of mode 1, L, LA, P, RGB, RGBA or I;16, with the transparent colour in its info.
    """
    import numpy as np

    if image.mode == "1":
        return MaskReading(np.asarray(image, dtype=np.bool_).copy(), "colours")
    opaque = _opaque_pixels(image)
    seen = _read_by_colours(image)
    if opaque is None:
        return seen
    if seen is not None and seen.sure and _is_informative(seen.mask):
        return _compare_with_transparency(seen, opaque)
    if seen is None and float(np.mean(~opaque)) < _STRAY_TRANSPARENT_SHARE:
        return None
    remark = "The mask was taken from the transparency of its picture: the opaque part is selected."
    return MaskReading(opaque, "transparency", (remark,))


def _is_informative(mask: "Mask") -> bool:
    return bool(mask.any()) and not bool(mask.all())


def _compare_with_transparency(seen: MaskReading, opaque: "Mask") -> MaskReading:
    """The mask by its colours, with a remark where the transparency is another mask."""
    import numpy as np

    selected = int(np.count_nonzero(seen.mask))
    hidden = int(np.count_nonzero(seen.mask & ~opaque))
    if int(np.count_nonzero(seen.mask != opaque)) <= _SAME_MASK_SHARE * selected:
        return seen
    remark = "Its transparency is another mask than its colours; the colours were used."
    return MaskReading(
        seen.mask, seen.rule, (*seen.remarks, remark), is_contradictory=hidden > _SAME_MASK_SHARE * selected
    )


def _opaque_pixels(image: "Image.Image") -> "Mask | None":
    """The opaque pixels; None where all are opaque or all transparent, as in many files with an alpha channel."""
    import numpy as np

    if image.mode == "I;16":
        key = image.info.get("transparency")
        opaque = np.asarray(image) != key if isinstance(key, int) else None
    elif image.has_transparency_data:
        shown = image if "A" in image.getbands() else image.convert("RGBA")
        opaque = np.asarray(shown.getchannel("A")) >= _OPAQUE_ALPHA
    else:
        opaque = None
    return opaque if opaque is not None and _is_informative(opaque) else None


def _read_by_colours(image: "Image.Image") -> MaskReading | None:
    """The mask by colours and numbers alone; transparent entries of a palette are black."""
    import numpy as np

    if image.mode == "P":
        return _read_palette_mask(image)
    if image.mode in {"L", "LA", "I;16"}:
        return _read_by_values(np.asarray(image if image.mode != "LA" else image.getchannel("L")))
    red, green, blue = (np.asarray(image.getchannel(name)) for name in "RGB")
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return _read_by_values(red)
    brightest = np.maximum(np.maximum(red, green), blue)
    coloured = brightest > DARK * int(brightest.max())
    if _is_one_hue(np.stack([channel[coloured] for channel in (red, green, blue)], axis=1), _STRAY_COLOUR_SHARE):
        return _read_by_values(brightest, "colours") or _read_by_values(_lightness(image, brightest), "colours")
    return _read_flat_colours(image, brightest)


def _lightness(image: "Image.Image", brightest: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """The shade of each pixel of a picture in one colour: compression blurs lightness much less than colours."""
    import numpy as np

    light = np.asarray(image.convert("L"))
    top = float(np.median(light[brightest >= BRIGHT * int(brightest.max())]))
    if top < _MIN_LIGHTNESS:
        return brightest
    shades: NDArray[np.uint8] = np.minimum(np.arange(256) * (int(brightest.max()) / top), 255).astype(np.uint8)
    lightness: NDArray[np.uint8] = shades[light]
    return lightness


def _read_by_values(values: GreyValues, named: MaskRule = "brightness") -> MaskReading | None:
    """The mask of one channel."""
    found = select_by_levels(values)
    if found is None:
        return None
    if found.kind == "numbers":
        return MaskReading(found.mask, "numbers", _label_map_remarks(values))
    return MaskReading(found.mask, named, sure=found.sure)


def _label_map_remarks(values: GreyValues) -> tuple[str, ...]:
    """A remark for a label map of several objects, because all of them are selected."""
    import numpy as np

    numbers = int(np.count_nonzero(np.bincount(values.ravel())[1:]))
    if numbers < 2:  # noqa: PLR2004 - one object leaves nothing to choose
        return ()
    return (f"The mask was read as a label map of {numbers} numbers; all but 0 are selected.",)


def _read_flat_colours(image: "Image.Image", brightest: "NDArray[np.uint8]") -> MaskReading | None:
    """A label map in colours: flat areas of several colours, and black where there is no object."""
    import numpy as np

    shown = image.convert("RGB")
    if shown.getcolors(_MAX_COLOURS) is None or int(brightest.min()) > _MAX_BLACK:
        return None
    codes = np.asarray(shown).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    ranks = np.searchsorted(np.unique(codes), codes).astype(np.uint16)
    ranks[brightest <= _MAX_BLACK] = 0
    return MaskReading(ranks > 0, "numbers", _label_map_remarks(ranks)) if has_flat_areas(ranks) else None


def _read_palette_mask(image: "Image.Image") -> MaskReading | None:
    import numpy as np

    entries = np.asarray(image)
    used = np.flatnonzero(np.bincount(entries.ravel(), minlength=256))
    colours, hidden = _palette_colours(image)
    shown, hidden = colours[used], hidden[used]
    if len(used) > 1 and not np.ptp(shown, axis=0).any() and not hidden.any():
        return _read_by_values(entries)  # all entries have the same colour, so their numbers decide
    if _is_one_hue(shown):
        table = np.zeros(256, np.uint8)
        table[used] = shown.max(axis=1)
        return _read_by_values(table[entries], "colours")
    numbers = np.zeros(256, np.uint16)
    numbers[used] = _palette_numbers(used, shown, hidden)
    labels = numbers[entries]
    return MaskReading(labels > 0, "numbers", _label_map_remarks(labels)) if has_flat_areas(labels) else None


def _palette_colours(image: "Image.Image") -> "tuple[_Colours, NDArray[np.bool_]]":
    """The colour of every entry, and whether it is transparent; a transparent one is made black."""
    import numpy as np

    listed = np.array(image.getpalette("RGBA") or [0, 0, 0, 255], np.uint8).reshape(-1, 4)
    whole = np.zeros((256, 4), np.uint8)
    whole[:, 3] = 255
    whole[: len(listed)] = listed
    key = image.info.get("transparency")
    if isinstance(key, int):
        whole[key, 3] = 0
    elif isinstance(key, bytes):
        whole[: len(key), 3] = np.frombuffer(key, np.uint8)
    hidden = whole[:, 3] < _OPAQUE_ALPHA
    whole[hidden] = 0
    return whole[:, :3], hidden


def _palette_numbers(used: "NDArray[np.int64]", colours: _Colours, hidden: "Mask") -> "NDArray[np.uint16]":
    """The object number of each used entry of a palette of several colours; 0 is background."""
    import numpy as np

    dark, first = colours.max(axis=1) <= _MAX_BLACK, used == 0
    if hidden.any():
        ground = hidden | (first & dark)
    elif (first & dark).any() or not dark.any():
        ground = first
    else:
        ground = dark
    return np.where(ground, 0, used + 1).astype(np.uint16)


def _is_one_hue(colours: _Colours, stray: float = 0.0) -> bool:
    """Whether colours are greys, or black and one other colour in any shade.

    Args:
        colours: at least one.
        stray: the part of the bright ones that may have another colour.
    """
    import numpy as np

    values = colours.max(axis=1)
    top = int(values.max())
    if top == 0:
        return True
    bright = values >= BRIGHT * top
    flat = np.median(colours[bright], axis=0)
    off = np.abs(colours - values[:, None] * (flat / max(float(flat.max()), 1.0))).max(axis=1) > _SAME_COLOUR_DISTANCE
    coloured = values > DARK * top
    return float(off[bright].mean()) <= stray and float(off[coloured].mean()) <= _STRAY_SHADE_FACTOR * stray
