"""What is wrong with a mask, in words that are the same for pictures and films.

How much of a film's frame a mask selects, and what of that people should know before they pay. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput
from rotoscope.media.image.masks import area_of

if TYPE_CHECKING:
    from rotoscope.media.image.masks import Mask

__all__ = [
    "Selection",
    "describe_selection",
    "is_at_all_borders",
    "mask_shape_error",
    "measure_selection",
    "not_a_mask_error",
    "selection_warnings",
    "useless_mask_error",
]


def not_a_mask_error() -> InvalidInput:
    """It is a picture of the world."""
    return InvalidInput(
        "The mask is a photo or a film, not a mask: it is neither black and white nor a map of numbers.",
        hint="Give one that is white where the video is to be edited, and black elsewhere.",
    )


def useless_mask_error(*, full: bool) -> InvalidInput:
    """It selects everything, or nothing."""
    if full:
        return InvalidInput(
            "The mask is full.", hint="Nothing of the video would be left: use generate_video for that."
        )
    return InvalidInput(
        "The mask is empty.",
        hint="Nothing would be edited: give a mask that is white where the video is to be edited.",
    )


def mask_shape_error(size: tuple[int, int], wanted: tuple[int, int]) -> InvalidInput:
    """It cannot cover the video; sizes are width and height in pixels."""
    return InvalidInput(
        f"The mask is {size[0]}x{size[1]}, but the video is {wanted[0]}x{wanted[1]}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )


_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Selection:
    """How much of the frame is selected.

    Attributes:
        least: the smallest part of a frame, 0 to 1.
        most: the largest part of a frame, 0 to 1.
        frames: how many frames of a mask film were looked at, from its start; None for a picture.
        at_all_borders: whether it touches all four borders of a frame.
    """

    least: float
    most: float
    frames: int | None = None
    at_all_borders: bool = False


def measure_selection(masks: "Iterable[Mask]", *, moves: bool) -> Selection:
    """How much of each frame the masks select.

    Args:
        masks: one, or one for each frame; each is let go before the next.
        moves: whether they are the frames of a film.

    Raises:
        InvalidInput: nothing is selected in any frame, or everything in every frame.
    """
    least, most, count, at_borders = 1.0, 0.0, 0, False
    for mask in masks:
        area = area_of(mask)
        least, most, count = min(least, area), max(most, area), count + 1
        at_borders = at_borders or is_at_all_borders(mask)
    if most == 0 or least == 1:
        raise useless_mask_error(full=most > 0)
    return Selection(least, most, count if moves else None, at_borders)


def is_at_all_borders(mask: "Mask") -> bool:
    """Whether a mask touches all four borders of its frame."""
    return all(bool(border.any()) for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def selection_warnings(selection: Selection) -> list[str]:
    """What is unusual in what a mask selects: grounds are selected by mistake far more often than on purpose."""
    signs = []
    if selection.most > _HALF:
        signs.append(f"selects {describe_selection(selection)}")
    if selection.at_all_borders:
        signs.append("touches all four borders of the frame")
    if not signs:
        return []
    return [f"The mask {' and '.join(signs)}. If this is the ground, invert the mask: what it selects is edited."]


def describe_selection(selection: Selection) -> str:
    """How much is selected, in words: `10.3% of the frame`."""
    least, most = f"{selection.least:.1%}", f"{selection.most:.1%}"
    if least == most:
        return f"{most} of the frame"
    return f"{least} to {most} of the frame in its first {selection.frames} frames"
